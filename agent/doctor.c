/* SPDX-License-Identifier: Apache-2.0 */

/* The table of checks, the run, and the report. */

#include "agent/doctor.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>

#include "agent/commands.h"
#include "agent/config.h"
#include "agent/status.h"
#include "common/file.h"
#include "common/json.h"

#ifndef ECS_HEALTH_AGENT_VERSION
#define ECS_HEALTH_AGENT_VERSION "unversioned"
#endif

#define DOCTOR_TIME     SPAN_SEC(12) /* and 3 s at most before it for the daemon's status */
#define DOCTOR_FILE_MAX ((size_t) 64 * 1024)
#define DOCTOR_JSON_MAX ((size_t) 1024 * 1024)
#define DOCTOR_NAME     18 /* of rights, which are longer, only whether they are granted is of interest */
#define DOCTOR_MARK     5

#define CHECK_BIT(id) (UINT64_C(1) << (id))

typedef struct CheckRow {
        const char *name;
        void (*start)(Doctor *doctor, CheckId id);
        uint64_t needs; /* checks that must be ok; what is not, is named as the reason of a skip */
        uint64_t after; /* checks that must have ended */
} CheckRow;

static void settings_start(Doctor *doctor, CheckId id);

static_assert(CHECK_N <= 64, "a set of checks is a word of 64 bits");

/* clang-format off */
static const CheckRow check_rows[CHECK_N] = {
        [CHECK_SETTINGS]       = { "settings", settings_start },
        [CHECK_DAEMON]         = { "daemon", host_daemon },
        [CHECK_METADATA]       = { "metadata-service", cloud_metadata },
        [CHECK_REGION]         = { "region", cloud_region, CHECK_BIT(CHECK_METADATA) },
        [CHECK_ROLE]           = { "role", cloud_role, CHECK_BIT(CHECK_METADATA) },
        [CHECK_PROXY]          = { "proxy", cloud_proxy },
        [CHECK_ENDPOINTS]      = { "endpoints", cloud_endpoints, CHECK_BIT(CHECK_REGION), CHECK_BIT(CHECK_PROXY) },
        [CHECK_CLOCK]          = { "clock", cloud_clock, CHECK_BIT(CHECK_REGION), CHECK_BIT(CHECK_ENDPOINTS) },
        [CHECK_RIGHTS]         = { "right:", cloud_right,
                                   CHECK_BIT(CHECK_METADATA) | CHECK_BIT(CHECK_REGION) | CHECK_BIT(CHECK_ROLE),
                                   CHECK_BIT(CHECK_SETTINGS) | CHECK_BIT(CHECK_DAEMON) | CHECK_BIT(CHECK_ENDPOINTS) |
                                   CHECK_BIT(CHECK_INTROSPECTION) },
        [CHECK_INTROSPECTION]  = { "introspection", host_introspection, CHECK_BIT(CHECK_SETTINGS) },
        [CHECK_AGENT_LOG]      = { "agent-log", host_agent_log, CHECK_BIT(CHECK_SETTINGS) },
        [CHECK_SOCKETS]        = { "sockets", host_sockets, CHECK_BIT(CHECK_SETTINGS) | CHECK_BIT(CHECK_INTROSPECTION) },
        [CHECK_DOCKER]         = { "docker", host_docker, CHECK_BIT(CHECK_SETTINGS) },
        [CHECK_UNITS]          = { "units", host_units, CHECK_BIT(CHECK_SETTINGS) },
        [CHECK_POLKIT]         = { "polkit", host_polkit, CHECK_BIT(CHECK_SETTINGS) | CHECK_BIT(CHECK_UNITS) },
        [CHECK_PSI]            = { "psi", host_psi },
        [CHECK_MEMORY_LOCK]    = { "memory-lock", host_memory_lock, CHECK_BIT(CHECK_DAEMON) },
        [CHECK_CLOUDFORMATION] = { "cloudformation", host_cloudformation, CHECK_BIT(CHECK_DAEMON) },
        [CHECK_ALARMS]         = { "alarms", alarms_start,
                                   CHECK_BIT(CHECK_SETTINGS) | CHECK_BIT(CHECK_REGION) | CHECK_BIT(CHECK_ROLE),
                                   CHECK_BIT(CHECK_ENDPOINTS) },
        [CHECK_ROLE_EXPOSURE]  = { "role-exposure", cloud_role_exposure, CHECK_BIT(CHECK_METADATA) },
};
/* clang-format on */

static bool is_right(CheckId id) {
        return id >= CHECK_RIGHTS && id < CHECK_RIGHTS + RIGHT_N;
}

static CheckRow row_of(CheckId id) {
        CheckRow row = check_rows[is_right(id) ? CHECK_RIGHTS : id];

        /* The group comes from this one. */
        if (is_right(id) && id != CHECK_RIGHTS + RIGHT_ASG_DESCRIBE_INSTANCES)
                row.after |= CHECK_BIT(CHECK_RIGHTS + RIGHT_ASG_DESCRIBE_INSTANCES);
        /* What the environment says needs not be asked for. */
        if (id == CHECK_REGION && getenv("AWS_REGION")) {
                row.after |= row.needs;
                row.needs = 0;
        }
        if (id == CHECK_ROLE && getenv("AWS_ACCESS_KEY_ID"))
                row.needs = 0;
        return row;
}

static const char *name_of(CheckId id, char buffer[static 64]) {
        if (!is_right(id))
                return check_rows[id].name;
        (void) snprintf(buffer, 64, "right:%s", right_to_string((Right) (id - CHECK_RIGHTS)));
        return buffer;
}

/* The end of a check */

static bool has_ended(const CheckResult *result) {
        return result->state > CHECK_RUNNING;
}

bool check_is_running(const Doctor *doctor, CheckId id) {
        return doctor->results[id].state == CHECK_RUNNING;
}

static void check_end(Doctor *doctor, CheckId id, CheckState state, const char *format, va_list arguments)
        __attribute__((format(printf, 4, 0)));

static void check_end(Doctor *doctor, CheckId id, CheckState state, const char *format, va_list arguments) {
        CheckResult *result = &doctor->results[id];

        *result = (CheckResult){ .state = state, .because = CHECK_N };
        (void) vsnprintf(result->found, sizeof(result->found), format, arguments);
        text_printable(result->found);
        (void) sd_event_source_set_enabled(doctor->advance, SD_EVENT_ONESHOT);
}

void check_ok(Doctor *doctor, CheckId id, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        check_end(doctor, id, CHECK_OK, format, arguments);
        va_end(arguments);
}

void check_problem(Doctor *doctor, CheckId id, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        check_end(doctor, id, CHECK_PROBLEM, format, arguments);
        va_end(arguments);
}

void check_skip(Doctor *doctor, CheckId id, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        check_end(doctor, id, CHECK_SKIPPED, format, arguments);
        va_end(arguments);
}

void check_fix(Doctor *doctor, CheckId id, const char *format, ...) {
        CheckResult *result = &doctor->results[id];
        va_list arguments;

        va_start(arguments, format);
        (void) vsnprintf(result->fix, sizeof(result->fix), format, arguments);
        va_end(arguments);
        text_printable(result->fix);
}

void check_skip_for(Doctor *doctor, CheckId id, CheckId because) {
        const CheckResult *reason = &doctor->results[because];
        char name[64];

        /* The root of it, where there is a chain. */
        if (reason->state == CHECK_SKIPPED && reason->because != CHECK_N)
                because = reason->because;
        check_skip(doctor, id, "needs %s", name_of(because, name));
        doctor->results[id].because = because;
}

void check_failed(Doctor *doctor, CheckId id, int error) {
        check_problem(doctor, id, "the check itself failed: %s", strerror(-error));
        check_fix(doctor, id, "try again; it is no finding about this host unless it stays");
}

/* The settings: as the daemon has them, as far as its files tell */

static int settings_of_files(Doctor *doctor, const char *path, OptionProblems *problems) {
        _cleanup_(stack_cache_done) StackCache cache = {};

        return config_read(path, &doctor->settings, NULL, problems, &cache);
}

static void settings_start(Doctor *doctor, CheckId id) {
        static OptionProblems problems; /* too large for comfort on a stack */
        _cleanup_(freep) char *path = NULL;
        int r;

        r = file_root(SETTINGS_FILE, &path);
        if (r >= 0)
                r = settings_of_files(doctor, path, &problems);
        if (r == -EBADMSG) {
                (void) settings_default(&doctor->settings);
                check_problem(doctor, id, "refused: %s", problems.text[0]);
                check_fix(doctor, id, "mend it; all that is wrong with it: ecs-health-agent check-config");
        } else if (r < 0) {
                check_failed(doctor, id, r);
        } else {
                check_ok(doctor, id, "%s%s, action: %s", path,
                        access(path, F_OK) < 0 ? " is not there: defaults" : "",
                        action_to_string(doctor->settings.policy.action));
        }
}

/* The run */

/* Whether @id can start, and if it never will, why: @ret_because. */
static bool is_ready(const Doctor *doctor, CheckId id, CheckId *ret_because) {
        const CheckRow row = row_of(id);
        bool ready = true;

        *ret_because = CHECK_N;
        for (CheckId other = 0; other < CHECK_N; other++) {
                const CheckResult *result = &doctor->results[other];

                if ((row.needs & CHECK_BIT(other)) && has_ended(result) && result->state != CHECK_OK) {
                        *ret_because = other;
                        return false;
                }
                if (((row.needs | row.after) & CHECK_BIT(other)) && !has_ended(result))
                        ready = false;
        }
        return ready;
}

/* Return: whether any check has changed its state. */
static bool start_some(Doctor *doctor) {
        bool changed = false;

        for (CheckId id = 0; id < CHECK_N; id++) {
                CheckId because;

                if (doctor->results[id].state != CHECK_PENDING)
                        continue;
                if (is_ready(doctor, id, &because)) {
                        doctor->results[id].state = CHECK_RUNNING;
                        row_of(id).start(doctor, id);
                        changed = true;
                } else if (because != CHECK_N) {
                        check_skip_for(doctor, id, because);
                        changed = true;
                }
        }
        return changed;
}

static void show_progress(const Doctor *doctor) {
        unsigned done = 0;
        CheckId waiting = CHECK_N;
        char name[64];

        for (CheckId id = 0; id < CHECK_N; id++) {
                done += has_ended(&doctor->results[id]);
                if (check_is_running(doctor, id))
                        waiting = id;
        }
        if (doctor->progress)
                fprintf(stderr, "\r\033[K%u of %u checks%s%s", done, (unsigned) CHECK_N,
                        waiting < CHECK_N ? ", waiting for " : "",
                        waiting < CHECK_N ? name_of(waiting, name) : "");
}

static int on_advance(sd_event_source *source, void *userdata) {
        Doctor *doctor = userdata;

        (void) source;
        while (start_some(doctor))
                ;
        show_progress(doctor);
        for (CheckId id = 0; id < CHECK_N; id++)
                if (!has_ended(&doctor->results[id]))
                        return 0;
        return sd_event_exit(doctor->event, 0);
}

static void doctor_on_deadline(Timer *timer, Now now, void *userdata) {
        Doctor *doctor = userdata;

        (void) timer;
        (void) now;
        for (CheckId id = 0; id < CHECK_N; id++) {
                if (!check_is_running(doctor, id))
                        continue;
                check_problem(doctor, id, "no answer within %d s", (int) (DOCTOR_TIME / SPAN_SEC(1)));
                check_fix(doctor, id,
                        "try again; if it stays, see what is slow: ecs-health-agent status, dmesg | "
                        "tail");
        }
}

/* The parts, as the daemon has them */

static int doctor_make_http(Doctor *doctor) {
        HttpOptions options;
        SettingsEcs ecs;
        int r;

        settings_ecs_config(&ecs);
        (void) config_http(&ecs, &options);
        r = http_new(&doctor->http, doctor->event, doctor->helper, &options);
        if (r == -EINVAL && options.https_proxy) {
                doctor->proxy_refused = true;
                options.https_proxy = NULL;
                r = http_new(&doctor->http, doctor->event, doctor->helper, &options);
        }
        explicit_bzero(&ecs, sizeof(ecs));
        return r;
}

static int doctor_make_parts(Doctor *doctor) {
        int r;

        r = helper_new(&doctor->helper, doctor->event);
        if (r < 0)
                return r;
        r = doctor_make_http(doctor);
        if (r < 0)
                return r;
        r = imds_new(&doctor->imds, doctor->event, doctor->http);
        if (r < 0)
                return r;
        r = aws_credentials_new(&doctor->credentials, doctor->event, doctor->imds);
        if (r < 0)
                return r;
        r = aws_new(&doctor->aws, doctor->event, doctor->http, doctor->credentials);
        if (r < 0)
                return r;
        r = doctor_host_new(&doctor->host);
        if (r < 0)
                return r;
        return doctor_cloud_new(&doctor->cloud);
}

static void doctor_ask_daemon(Doctor *doctor) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        size_t n = 0;
        int r;

        r = file_root(STATUS_SOCKET, &path);
        if (r >= 0)
                r = service_peer(path, &doctor->daemon);
        if (r >= 0)
                r = status_fetch(path, &text, &n);
        if (r >= 0)
                r = json_parse(text, n, NULL, &doctor->status);
        doctor->daemon_error = r;
}

static void read_ecs_facts(EcsFacts *facts) {
        /* ecs-init merges them in this order. */
        static const char *const files[] = { "/var/lib/ecs/ecs.config", "/etc/ecs/ecs.config" };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_(freep) char *path = NULL, *text = NULL;

                if (file_root(files[i], &path) >= 0 && file_read(path, DOCTOR_FILE_MAX, &text, NULL) >= 0)
                        ecs_facts_read(text, facts);
        }
}

static Doctor *doctor_free(Doctor *doctor) {
        if (!doctor)
                return NULL;
        (void) doctor_host_free(doctor->host);
        (void) doctor_cloud_free(doctor->cloud);
        (void) aws_free(doctor->aws);
        (void) aws_credentials_free(doctor->credentials);
        (void) imds_free(doctor->imds);
        (void) http_free(doctor->http);
        (void) helper_free(doctor->helper);
        (void) timer_free(doctor->deadline);
        sd_event_source_disable_unref(doctor->advance);
        sd_event_unref(doctor->event);
        closep(&doctor->polkit);
        (void) json_free(doctor->status);
        explicit_bzero(&doctor->ecs, sizeof(doctor->ecs));
        free(doctor);
        return NULL;
}
DEFINE_CLEANUP(Doctor, doctor_free)

static int doctor_run(Doctor *doctor) {
        int r;

        r = sd_event_new(&doctor->event);
        if (r >= 0)
                r = sd_event_add_defer(doctor->event, &doctor->advance, on_advance, doctor);
        if (r >= 0)
                r = timer_new(&doctor->deadline, doctor->event, "doctor", SPAN_MSEC(50), doctor_on_deadline,
                        doctor);
        if (r >= 0)
                r = timer_arm(doctor->deadline, mono_add(loop_now(doctor->event).mono, DOCTOR_TIME));
        if (r >= 0)
                r = doctor_make_parts(doctor);
        if (r >= 0)
                r = sd_event_loop(doctor->event);
        if (doctor->progress)
                fputs("\r\033[K", stderr);
        return r;
}

/* The report */

typedef struct Tally {
        unsigned ok, problem, skipped;
} Tally;

static Tally tally(const Doctor *doctor) {
        Tally sum = {};

        for (CheckId id = 0; id < CHECK_N; id++)
                switch (doctor->results[id].state) {
                case CHECK_OK: sum.ok++; break;
                case CHECK_PROBLEM: sum.problem++; break;
                case CHECK_PENDING:
                case CHECK_RUNNING:
                case CHECK_SKIPPED: sum.skipped++; break;
                }
        return sum;
}

/* @text from @column, where the cursor is, folded at blanks; further lines from @indent. */
static void print_folded(const char *text, size_t column, size_t indent, size_t width) {
        bool first = true;

        while (*text) {
                size_t n = strcspn(text, " ");

                if (!first && column + 1 + n > width) {
                        printf("\n%*s", (int) indent, "");
                        column = indent;
                        first = true;
                }
                column += (size_t) printf("%s%.*s", first ? "" : " ", (int) n, text);
                first = false;
                text += n;
                text += strspn(text, " ");
        }
        (void) putchar('\n');
}

static void print_check(const Doctor *doctor, CheckId id, bool colour, unsigned width) {
        static const char *const marks[] = { "-", "-", "ok", "BAD", "-" };
        static const char *const colours[] = { "\033[2m", "\033[2m", "\033[32m", "\033[1;31m", "\033[2m" };
        const CheckResult *result = &doctor->results[id];
        const size_t indent = DOCTOR_MARK + DOCTOR_NAME + 1;
        char name[64], text[CHECK_TEXT_MAX + 16];
        size_t n;

        printf("%s%-*s%s", colour ? colours[result->state] : "", DOCTOR_MARK, marks[result->state],
                colour ? "\033[0m" : "");
        n = (size_t) printf("%-*s ", DOCTOR_NAME, name_of(id, name));
        (void) snprintf(text, sizeof(text), "%s%s", result->state == CHECK_SKIPPED ? "skipped: " : "",
                result->found);
        print_folded(text, DOCTOR_MARK + n, indent, width);
        if (!*result->fix)
                return;
        n = (size_t) printf("%*sfix: ", (int) indent, "");
        print_folded(result->fix, n, n, width);
}

static void doctor_print_text(const Doctor *doctor) {
        const Tally sum = tally(doctor);
        const bool colour = command_colour();
        const unsigned width = command_width() < 80 ? 80 : command_width();

        for (CheckId id = 0; id < CHECK_N; id++)
                print_check(doctor, id, colour, width);
        printf("\n%u checks: %u ok, %u problem%s, %u skipped.\n", (unsigned) CHECK_N, sum.ok, sum.problem,
                sum.problem == 1 ? "" : "s", sum.skipped);
        if (doctor->polkit < 0)
                printf("This tells what you may do; run as root it tells what the service may do.\n");
}

static int doctor_print_json(const Doctor *doctor) {
        static const char *const states[] = { "skipped", "skipped", "ok", "problem", "skipped" };
        JsonWriter writer;
        int r;

        json_writer_init(&writer, DOCTOR_JSON_MAX);
        json_begin_object(&writer, NULL);
        json_bool(&writer, "ok", tally(doctor).problem == 0);
        json_begin_array(&writer, "checks");
        for (CheckId id = 0; id < CHECK_N; id++) {
                const CheckResult *result = &doctor->results[id];
                char name[64];

                json_begin_object(&writer, NULL);
                json_string(&writer, "name", name_of(id, name));
                json_string(&writer, "state", states[result->state]);
                json_string(&writer, "found", result->found);
                json_string(&writer, "fix", *result->fix ? result->fix : NULL);
                json_end_object(&writer);
        }
        json_end_array(&writer);
        json_end_object(&writer);
        r = writer.error;
        if (r >= 0)
                printf("%s\n", writer.text);
        json_writer_done(&writer);
        return r;
}

/* The command */

static int doctor_help(void) {
        command_print_usage("doctor", stdout);
        fputs("Tries everything that a bad day would need, harmlessly, and says for each finding how to "
              "mend it: "
              "settings,\n"
              "daemon, metadata service, role, every right by its IAM name, the way to AWS, the ECS agent "
              "and its "
              "log,\n"
              "Docker, systemd and polkit, memory, the account's alarms on our metrics, and whether "
              "containers can "
              "take\n"
              "the instance role. It changes nothing: reads are about this host, writes name what cannot "
              "exist.\n\n"
              "As root it tries what the service may do: it takes the ids and groups of the running daemon, "
              "else "
              "those of\n"
              "the user " DOCTOR_SERVICE_USER ", and what " DOCTOR_ENVIRONMENT_FILE " sets. What the unit's "
              "sandbox forbids\n"
              "beyond that, only the daemon finds: " PROGRAM " status.\n\n"
              "A check that rests on a failed one is skipped, so that one fault is one finding. Takes 15 s "
              "at "
              "most.\n\n"
              "Options:\n"
              "  --json   {\"ok\", \"checks\": [{\"name\", \"state\": \"ok|problem|skipped\", \"found\", "
              "\"fix\"}]}\n\n"
              "Examples:\n"
              "  sudo " PROGRAM " doctor\n"
              "  sudo " PROGRAM " doctor --json | jq -r '.checks[] | select(.fix) | .name, .fix'\n\n"
              "Exit status: 0 nothing found, 1 a problem was found.\n",
                stdout);
        return EXIT_FINE;
}

static int doctor_examine(bool json) {
        _cleanup_(doctor_freep) Doctor *doctor = calloc(1, sizeof(*doctor));
        int r;

        if (!doctor)
                return command_error("%s", strerror(ENOMEM));
        doctor->polkit = -1;
        doctor->progress = !json && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
        /* A core dump would hold the role's credentials. */
        (void) setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        (void) signal(SIGPIPE, SIG_IGN);
        service_environment();
        doctor_ask_daemon(doctor);
        read_ecs_facts(&doctor->ecs);
        r = service_become(doctor);
        if (r < 0)
                return command_error("cannot take the place of the service: %s", strerror(-r));
        r = doctor_run(doctor);
        if (r < 0)
                return command_error("doctor: %s", strerror(-r));
        if (json)
                r = doctor_print_json(doctor);
        else
                doctor_print_text(doctor);
        if (r < 0)
                return command_error("doctor: %s", strerror(-r));
        return tally(doctor).problem > 0 ? EXIT_PROBLEM : EXIT_FINE;
}

int command_doctor(int argc, char **argv) {
        return command_take_json(argc, argv, doctor_help, doctor_examine);
}
