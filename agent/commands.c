/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The table of commands and those that are not the daemon itself. They talk to people, so they print instead of
 * logging, and say with each error what to do about it.
 */

#include "agent/commands.h"

#include "agent/agent.h"
#include "agent/config.h"

#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent/pause.h"
#include "agent/settings.h"
#include "agent/status.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/loop.h"
#include "common/parse.h"

#ifndef ECS_HEALTH_AGENT_VERSION
#define ECS_HEALTH_AGENT_VERSION "unversioned"
#endif

#define WIDTH_DEFAULT 100
#define HELP_COLUMN   33
#define PAUSE_MAX     SPAN_DAY(365)

static const Command commands[] = {
        { "run", "", "the daemon, in the foreground", command_run },
        { "status", "[--watch] [--json]", "what the running daemon sees, decides and waits for",
                command_status },
        { "check-config", "[FILE] [--json]", "validate the settings and show where each comes from",
                command_check_config },
        { "pause", "[--for 2h] [--reason TEXT]", "keep it from acting on this host, for maintenance",
                command_pause },
        { "resume", "", "end a pause, and release the brake \"loop\"", command_resume },
        { "doctor", "[--json]", "try everything that a bad day would need, harmlessly", command_doctor },
        { "explain", "[ID] [--json]", "what happened in an incident, and why", command_explain },
        { "replay", "FILE [--config FILE] [--json]", "run an incident's trace through the decisions again",
                command_replay },
        { "drill", "[--json]", "play a lost connection on this host, now, without changing anything",
                command_drill },
        { "metrics", "[--instances N] [--groups N] [--ill-hours N] [--json]",
                "the series it publishes with these settings, and what they cost", command_metrics },
        { "iam-policy", "[--act | --observe] [--cluster NAME] [--group NAME] [OPTION...]",
                "the least-privilege policy for these settings", command_iam_policy },
};

static const EnvironmentRow environment[] = {
        { "AWS_REGION", "region, instead of what the metadata service says" },
        { "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN",
                "credentials, instead of the instance role's" },
        { "AWS_EC2_METADATA_SERVICE_ENDPOINT", "where the metadata service is" },
        { "AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_{CLOUDWATCH,AUTO_SCALING,ECS,EC2,CLOUDFORMATION}",
                "where services are" },
        { "AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT", "\"true\": which endpoints are used" },
        { "AWS_CA_BUNDLE", "certificates to trust, as a PEM file" },
        { "HTTPS_PROXY, NO_PROXY", "proxy; without them, that of /etc/ecs/ecs.config" },
        { "ECS_HEALTH_AGENT_ROOT", "directory below which all files are looked for, for tests" },
        { "ECS_HEALTH_AGENT_UNSAFE", "\"1\": lifts the floors of the settings, for tests" },
        { "ECS_HEALTH_AGENT_DEBUG", "anything: log more" },
        { "NO_COLOR", "anything: no colours" },
};

const Command *command_table(size_t *ret_n) {
        *ret_n = ELEMENTSOF(commands);
        return commands;
}

const EnvironmentRow *command_environment(size_t *ret_n) {
        *ret_n = ELEMENTSOF(environment);
        return environment;
}

/* Usage */

static const Command *command_find(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (strcmp(commands[i].name, name) == 0)
                        return &commands[i];
        return NULL;
}

static const Command *command_nearest(const char *name) {
        const Command *nearest = NULL;
        unsigned best = 4; /* farther than that is no typo */

        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                unsigned distance = edit_distance(commands[i].name, name);

                if (distance < best && distance < strlen(commands[i].name)) {
                        best = distance;
                        nearest = &commands[i];
                }
        }
        return nearest;
}

int command_usage_error(const char *command, const char *format, ...) {
        va_list arguments;

        fprintf(stderr, PROGRAM "%s%s: ", command ? " " : "", command ? command : "");
        va_start(arguments, format);
        (void) vfprintf(stderr, format, arguments);
        va_end(arguments);
        fprintf(stderr, "\nTry: " PROGRAM "%s%s --help\n", command ? " " : "", command ? command : "");
        return EXIT_USAGE;
}

int command_error(const char *format, ...) {
        va_list arguments;

        fprintf(stderr, PROGRAM ": ");
        va_start(arguments, format);
        (void) vfprintf(stderr, format, arguments);
        va_end(arguments);
        (void) fputc('\n', stderr);
        return EXIT_PROBLEM;
}

void command_print_usage(const char *name, FILE *f) {
        const Command *command = command_find(name);

        fprintf(f, "Usage: " PROGRAM " %s%s%s\n\n", command->name, *command->arguments ? " " : "",
                command->arguments);
}

/* What is too long for its column has a line of its own. */
static void print_help_row(const char *name, const char *meaning, FILE *f) {
        bool fits = strlen(name) <= HELP_COLUMN;

        fprintf(f, "  %-*s%s  %*s%s\n", HELP_COLUMN, name, fits ? "" : "\n  ", fits ? 0 : HELP_COLUMN, "",
                meaning);
}

static void print_help(FILE *f) {
        fputs("Watches the Amazon ECS agent of this instance, its disks and its memory; publishes "
              "CloudWatch metrics; and\n"
              "takes the instance out of its Auto Scaling group when the agent has lost its connection for "
              "good.\n\n"
              "Usage: " PROGRAM " COMMAND [OPTION...]\n\nCommands:\n",
                f);
        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                char line[96];

                (void) snprintf(line, sizeof(line), "%s %s", commands[i].name, commands[i].arguments);
                print_help_row(line, commands[i].summary, f);
        }
        fputs("  --help, --version\n\nEach command has --help.\n\nEnvironment:\n", f);
        for (size_t i = 0; i < ELEMENTSOF(environment); i++)
                print_help_row(environment[i].names, environment[i].meaning, f);
        fputs("\nExit status: 0 fine, 1 a problem was found, 2 wrong usage or refused settings.\n", f);
}

/* What getopt_long() does not like, in our words. */
int command_option_error(const char *command, char **argv, int c) {
        const char *name = argv[optind - 1];
        char letter[3] = { '-', (char) optopt, '\0' };

        if (c != ':' && optopt != 0 && strncmp(name, "--", 2) != 0)
                name = letter;
        if (c == ':')
                return command_usage_error(command, "option \"%s\" needs a value", name);
        return command_usage_error(command, "unknown option \"%s\"", name);
}

int command_option_next(int argc, char **argv, const struct option *options) {
        opterr = 0;
        return getopt_long(argc, argv, ":h", options, NULL);
}

int command_take_json(int argc, char **argv, int (*help)(void), int (*run)(bool json)) {
        static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                { "help", no_argument, NULL, 'h' }, {} };
        const char *name = argv[0];
        bool json = false;
        int c;

        while ((c = command_option_next(argc, argv, options)) >= 0)
                switch (c) {
                case 'j': json = true; break;
                case 'h': return help();
                default: return command_option_error(name, argv, c);
                }
        if (optind < argc)
                return command_usage_error(name, "unexpected argument \"%s\"", argv[optind]);
        return run(json);
}

/* Color and width of what standard output is */

bool command_colour(void) {
        const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

        return isatty(STDOUT_FILENO) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

unsigned command_width(void) {
        struct winsize size = {};
        const char *columns = getenv("COLUMNS");
        uint64_t n = 0;

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) >= 0 && size.ws_col > 0)
                return size.ws_col;
        if (columns && parse_u64(columns, &n) >= 0 && n > 0 && n < 1000)
                return (unsigned) n;
        return WIDTH_DEFAULT;
}

/* status */

static int help_status(void) {
        command_print_usage("status", stdout);
        fputs("Tells what the running daemon sees now: what is going on and what comes next, then every "
              "witness with its\n"
              "age, the brakes that hold, the last incident, disks, memory, and what was published.\n\n"
              "Options:\n"
              "  --watch  show it again every second, until ^C\n"
              "  --json   as one JSON document, for programs; with --watch one a second\n\n"
              "Examples:\n"
              "  " PROGRAM " status\n"
              "  " PROGRAM " status --json | jq -r .headline.what\n\n"
              "Exit status: 0 healthy, or as somebody intended; 1 down, held, some other problem, or no "
              "daemon runs.\n",
                stdout);
        return EXIT_FINE;
}

typedef struct StatusShow {
        const char *path;
        bool json, watch, colour;
} StatusShow;

static int status_unreachable(const StatusShow *show, int r) {
        bool absent = r == -ENOENT || r == -ENOTDIR || r == -ECONNREFUSED;
        JsonWriter writer;
        char text[512];

        if (absent)
                (void) snprintf(text, sizeof(text),
                        "The daemon does not run: nothing answers at %.200s. See why: systemctl "
                        "status " PROGRAM "; journalctl -u " PROGRAM
                        " -n 50. Start it: systemctl start " PROGRAM,
                        show->path);
        else if (r == -ETIMEDOUT)
                (void) snprintf(text, sizeof(text),
                        "The daemon does not answer within 3 s at %.200s. See: systemctl status " PROGRAM,
                        show->path);
        else if (r == -EACCES || r == -EPERM)
                (void) snprintf(text, sizeof(text),
                        "Not allowed to ask at %.200s. Run it as root: sudo " PROGRAM " status", show->path);
        else
                (void) snprintf(text, sizeof(text),
                        "The daemon's answer at %.200s is of no use: %s. See: journalctl -u " PROGRAM
                        " -n 50",
                        show->path, strerror(-r));
        if (!show->json) {
                fprintf(show->watch ? stdout : stderr, "%s\n", text);
                return EXIT_PROBLEM;
        }
        json_writer_init(&writer, 4096);
        json_begin_object(&writer, NULL);
        json_bool(&writer, "running", !absent);
        json_bool(&writer, "ok", false);
        json_string(&writer, "problem", text);
        json_end_object(&writer);
        printf("%s\n", writer.error < 0 ? "{}" : writer.text);
        json_writer_done(&writer);
        return EXIT_PROBLEM;
}

static int status_show(const StatusShow *show) {
        _cleanup_(freep) char *text = NULL;
        _cleanup_(json_freep) cJSON *status = NULL;
        bool ok = false;
        size_t n = 0;
        int r;

        r = status_fetch(show->path, &text, &n);
        if (r >= 0)
                r = json_parse(text, n, NULL, &status);
        if (show->watch && !show->json && isatty(STDOUT_FILENO))
                fputs("\033[H\033[2J", stdout);
        if (r >= 0 && show->json)
                (void) fwrite(text, 1, n, stdout);
        else if (r >= 0)
                r = status_render(status, command_width(), show->colour, stdout);
        if (r < 0)
                return status_unreachable(show, r);
        (void) json_get_bool(status, "ok", &ok);
        return ok ? EXIT_FINE : EXIT_PROBLEM;
}

/* The signals that end it are waited for instead of caught, so that there is nothing to interrupt. */
static int status_watch(const StatusShow *show) {
        const struct timespec second = { .tv_sec = 1 };
        sigset_t ends;
        int code;

        (void) sigemptyset(&ends);
        (void) sigaddset(&ends, SIGINT);
        (void) sigaddset(&ends, SIGTERM);
        (void) sigprocmask(SIG_BLOCK, &ends, NULL);
        for (;;) {
                code = status_show(show);
                if (!show->json)
                        (void) fputc('\n', stdout);
                if (fflush(stdout) != 0 || sigtimedwait(&ends, NULL, &second) >= 0)
                        return code;
        }
}

int command_status(int argc, char **argv) {
        static const struct option options[] = { { "watch", no_argument, NULL, 'w' },
                { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, {} };
        _cleanup_(freep) char *path = NULL;
        StatusShow show = { .colour = command_colour() };
        int c, r;

        while ((c = command_option_next(argc, argv, options)) >= 0)
                switch (c) {
                case 'w': show.watch = true; break;
                case 'j': show.json = true; break;
                case 'h': return help_status();
                default: return command_option_error("status", argv, c);
                }
        if (optind < argc)
                return command_usage_error("status", "unexpected argument \"%s\"", argv[optind]);

        r = file_root(STATUS_SOCKET, &path);
        if (r < 0)
                return command_error("%s: %s", STATUS_SOCKET, strerror(-r));
        show.path = path;
        return show.watch ? status_watch(&show) : status_show(&show);
}

/* check-config */

static int help_check_config(void) {
        command_print_usage("check-config", stdout);
        fputs("Validates FILE, or " SETTINGS_FILE ", as the daemon would, and prints the settings in\n"
              "effect and where each comes from: defaults, the stack's CloudFormation metadata as the "
              "daemon\n"
              "last read them (not with FILE), the file. No file is fine: every key has a default.\n\n"
              "Options:\n"
              "  --json      as one JSON document, for programs\n"
              "  --sample    print a file with every key and its default instead\n"
              "  --markdown  print the table of all keys instead, as the README has it\n\n"
              "Examples:\n"
              "  " PROGRAM " check-config\n"
              "  " PROGRAM " check-config new.json && sudo cp new.json " SETTINGS_FILE "\n\n"
              "Exit status: 0 fine, 2 the file was refused.\n\n"
              "A duration is \"90s\", \"5m\", \"2h\" or a number of seconds, a share is \"10%\". Keys with "
              "a dot are nested:\n"
              "{ \"brakes\": { \"window\": \"1h\" } }\n\n",
                stdout);
        options_print_help(settings_table, settings_table_n, stdout, command_width());
        return EXIT_FINE;
}

static void print_json(const char *text) {
        JsonWriter writer;

        json_writer_init(&writer, (size_t) 8 * 4096); /* a path, each byte escaped */
        json_string(&writer, NULL, text);
        printf("%s", writer.error < 0 ? "null" : writer.text);
        json_writer_done(&writer);
}

static int check_refused(const char *path, const OptionProblems *problems, bool json) {
        unsigned kept = problems->n < OPTION_PROBLEMS_MAX ? problems->n : OPTION_PROBLEMS_MAX;

        if (json) {
                printf("{\"ok\":false,\"path\":");
                print_json(path);
                printf(",\"problems\":[");
        }
        for (unsigned i = 0; i < kept; i++)
                if (json) {
                        printf("%s", i > 0 ? "," : "");
                        print_json(problems->text[i]);
                } else {
                        fprintf(stderr, "%s\n", problems->text[i]);
                }
        if (json) {
                printf("]}\n");
                return EXIT_USAGE;
        }
        if (problems->n > kept)
                fprintf(stderr, "... and %u more\n", problems->n - kept);
        fprintf(stderr,
                "\n%u problem%s. With this file the service goes on with its last good settings, else with "
                "the defaults\n"
                "and \"action\": \"observe\", which acts on nothing.\n",
                problems->n, problems->n == 1 ? "" : "s");
        return EXIT_USAGE;
}

static int check_fine(
        const char *path, bool there, const Settings *settings, const char *const *origins, bool json) {
        if (json) {
                printf("{\"ok\":true,\"path\":");
                print_json(path);
                printf(",\"there\":%s,\"unsafe\":%s,\"external\":%s,\"settings\":", there ? "true" : "false",
                        settings_unsafe() ? "true" : "false", settings->policy.external ? "true" : "false");
                settings_print_effective(settings, origins, stdout, true);
                printf("}\n");
                return EXIT_FINE;
        }
        printf(there ? "%s is fine.\n" : "%s is not there, which is fine: the defaults apply.\n", path);
        if (settings_unsafe())
                printf("The floors are lifted, for ECS_HEALTH_AGENT_UNSAFE=1 is in the environment.\n");
        if (settings->policy.external)
                printf("The ECS agent's settings say ECS_EXTERNAL: this host is never acted on.\n");
        (void) fputc('\n', stdout);
        settings_print_effective(settings, origins, stdout, false);
        return EXIT_FINE;
}

static int check_config(const char *file, bool json) {
        _cleanup_(freep) char *path = NULL;
        _cleanup_(stack_cache_done) StackCache cache = {};
        const char *origins[SETTINGS_ROWS_MAX];
        static OptionProblems problems; /* too large for comfort on a stack */
        static Settings settings;
        bool there;
        int r;

        path = file ? strdup(file) : NULL;
        r = file ? path ? 0 : -ENOMEM : file_root(SETTINGS_FILE, &path);
        if (r < 0)
                return command_error("%s", strerror(-r));
        there = access(path, F_OK) >= 0 || errno != ENOENT;
        if (file && !there)
                return command_error("%s: no such file", file), EXIT_USAGE;
        r = file ? settings_read(path, &settings, origins, &problems)
                 : config_read(path, &settings, origins, &problems, &cache);
        if (r == -EBADMSG)
                return check_refused(path, &problems, json);
        if (r < 0)
                return command_error("%s: %s", path, strerror(-r));
        return check_fine(path, there, &settings, origins, json);
}

int command_check_config(int argc, char **argv) {
        static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                { "sample", no_argument, NULL, 's' }, { "markdown", no_argument, NULL, 'm' },
                { "help", no_argument, NULL, 'h' }, {} };
        bool json = false, sample = false, markdown = false;
        int c;

        while ((c = command_option_next(argc, argv, options)) >= 0)
                switch (c) {
                case 'j': json = true; break;
                case 's': sample = true; break;
                case 'm': markdown = true; break;
                case 'h': return help_check_config();
                default: return command_option_error("check-config", argv, c);
                }
        if (argc - optind > (sample || markdown ? 0 : 1))
                return command_usage_error("check-config", "unexpected argument \"%s\"", argv[argc - 1]);
        if (json + sample + markdown > 1)
                return command_usage_error(
                        "check-config", "--json, --sample and --markdown exclude each other");

        if (sample)
                options_print_sample(settings_table, settings_table_n, stdout);
        else if (markdown)
                options_print_markdown(settings_table, settings_table_n, stdout);
        else
                return check_config(argv[optind], json);
        return EXIT_FINE;
}

/* pause, resume */

static int help_run(void) {
        printf("Usage: " PROGRAM " run\n\n"
               "Runs the daemon in the foreground until SIGTERM or SIGINT. Under systemd (Type=notify) it "
               "tells when it is\n"
               "ready and what it is doing; on a terminal it writes its log to it.\n\n"
               "It watches the ECS agent of this host, publishes metrics, and drains and detaches this "
               "instance from its\n"
               "Auto Scaling group when the agent's connection is lost for good by this host's own "
               "fault.\n\n"
               "SIGHUP reads the settings anew; a changed settings file is noticed without it. Refused "
               "settings stop a start\n"
               "on a terminal (exit 2); a service goes on with the last good ones, else by the defaults and "
               "only observing.\n\n"
               "To see what it would do without letting it act: \"action\": \"observe\" in " SETTINGS_FILE
               ".\n");
        return EXIT_FINE;
}

static int help_pause(void) {
        command_print_usage("pause", stdout);
        fputs("Keeps the daemon from repairing, draining and removing this host, for maintenance, and from "
              "ending it when it\n"
              "was removed already. It goes on watching and publishing, shows the pause everywhere, and "
              "tells its peers, which\n"
              "then leave it alone, too. A pause survives restarts and reboots; it may be set whether or "
              "not "
              "the daemon runs.\n"
              "A new pause replaces the one before it.\n\n"
              "Options:\n"
              "  --for TIME     how long: \"30m\", \"2h\", \"1d\"; without it until " PROGRAM " resume\n"
              "  --reason TEXT  why, for those who wonder\n\n"
              "Examples:\n"
              "  sudo " PROGRAM " pause --for 2h --reason \"kernel debugging, ann\"\n"
              "  sudo " PROGRAM " resume\n\n"
              "To stop a whole group or cluster, tag it instead: " PROGRAM " = off\n",
                stdout);
        return EXIT_FINE;
}

static int help_resume(void) {
        command_print_usage("resume", stdout);
        fputs("Ends a pause. What has gone wrong meanwhile still takes its whole course: grace, "
              "confirmation, brakes.\n\n"
              "Paused or not, it also releases the brake \"loop\" on this host, which holds because "
              "replacing "
              "instances was\n"
              "not helping, and waits for somebody who has found out why. For all hosts of a group or "
              "cluster, tag it\n"
              "instead: " PROGRAM " = resume\n\n"
              "Example:\n"
              "  sudo " PROGRAM " resume\n",
                stdout);
        return EXIT_FINE;
}

static int pause_failed(const char *doing, const char *path, int r) {
        const char *fix = "";

        if (r == -EACCES || r == -EPERM)
                fix = ". Run it as root, with sudo";
        else if (r == -EROFS || r == -ENOSPC || r == -EIO)
                fix = ". To keep it from acting all the same: sudo systemctl stop " PROGRAM;
        return command_error("cannot %s %s: %s%s", doing, path, strerror(-r), fix);
}

/* Who it was that paused: the person behind sudo rather than root. */
static void user_name(char *buffer, size_t n_buffer) {
        const char *sudo = getenv("SUDO_USER");
        const struct passwd *entry = sudo && *sudo ? NULL : getpwuid(getuid());

        if (sudo && *sudo)
                (void) snprintf(buffer, n_buffer, "%s", sudo);
        else if (entry)
                (void) snprintf(buffer, n_buffer, "%s", entry->pw_name);
        else
                (void) snprintf(buffer, n_buffer, "uid %u", (unsigned) getuid());
}

static bool daemon_is_absent(void) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        size_t n = 0;
        int r;

        if (file_root(STATUS_SOCKET, &path) < 0)
                return false;
        r = status_fetch(path, &text, &n);
        return r == -ENOENT || r == -ENOTDIR || r == -ECONNREFUSED;
}

static int pause_now(Span length, const char *reason) {
        _cleanup_(freep) char *path = NULL;
        const Wall now = clock_read().wall;
        Pause pause = { .paused = true, .since = now }, before = {};
        char span[FORMAT_SPAN_MAX], until[FORMAT_TIME_MAX];
        int r;

        if (length > 0)
                pause.until = wall_add(now, length);
        (void) snprintf(pause.reason, sizeof(pause.reason), "%s", reason);
        user_name(pause.by, sizeof(pause.by));

        r = file_root(PAUSE_FILE, &path);
        if (r < 0)
                return command_error("%s", strerror(-r));
        (void) pause_read(path, now, &before);
        r = pause_write(path, &pause);
        if (r < 0)
                return pause_failed("write", path, r);

        if (length > 0)
                printf("Paused until %s (%s): ", format_rfc3339(until, pause.until),
                        format_span(span, length));
        else
                printf("Paused until resumed: ");
        printf("nothing is repaired, drained or removed on this host.\n"
               "It goes on watching and publishing. End it with: " PROGRAM " resume\n");
        if (before.paused)
                printf("This replaces the pause %s%s.\n", *before.by ? "by " : "before it", before.by);
        if (daemon_is_absent())
                printf("The daemon does not run now; it finds this when it starts.\n");
        return EXIT_FINE;
}

int command_pause(int argc, char **argv) {
        static const struct option options[] = { { "for", required_argument, NULL, 'f' },
                { "reason", required_argument, NULL, 'r' }, { "help", no_argument, NULL, 'h' }, {} };
        const char *reason = "";
        Span length = 0;
        int c;

        while ((c = command_option_next(argc, argv, options)) >= 0)
                switch (c) {
                case 'f':
                        if (parse_span(optarg, &length) < 0 || length < SPAN_SEC(1) || length > PAUSE_MAX)
                                return command_usage_error("pause",
                                        "--for \"%s\" is no possible length; expected 1s to 365d, such as "
                                        "2h",
                                        optarg);
                        break;
                case 'r': reason = optarg; break;
                case 'h': return help_pause();
                default: return command_option_error("pause", argv, c);
                }
        if (optind < argc)
                return command_usage_error("pause",
                        "unexpected argument \"%s\"; a length is given by --for, a reason in quotes",
                        argv[optind]);
        return pause_now(length, reason);
}

static void say_resumed(const Pause *before, Wall now) {
        char span[FORMAT_SPAN_MAX];

        if (!before->paused) {
                if (daemon_is_absent())
                        printf("Nothing to resume: this host was not paused, and the daemon does not "
                               "run.\n");
                else
                        printf("This host was not paused. Released: the brake \"loop\", which holds when "
                               "replacing does not help. All other brakes stay.\n");
                return;
        }
        printf("Resumed");
        if (wall_is_set(before->since))
                printf(" after %s", format_span(span, span_max(wall_since(now, before->since), 0) /
                                                              SPAN_SEC(1) * SPAN_SEC(1)));
        printf(": the daemon acts on this host again if it must. The brake \"loop\" is released as well.\n");
}

int command_resume(int argc, char **argv) {
        static const struct option options[] = { { "help", no_argument, NULL, 'h' }, {} };
        _cleanup_(freep) char *path = NULL;
        const Wall now = clock_read().wall;
        Pause before = {};
        int c, r;

        while ((c = command_option_next(argc, argv, options)) >= 0)
                switch (c) {
                case 'h': return help_resume();
                default: return command_option_error("resume", argv, c);
                }
        if (optind < argc)
                return command_usage_error("resume", "unexpected argument \"%s\"", argv[optind]);

        r = file_root(PAUSE_FILE, &path);
        if (r < 0)
                return command_error("%s", strerror(-r));
        (void) pause_read(path, now, &before);
        r = pause_clear(path);
        if (r < 0)
                return pause_failed("remove", path, r);
        say_resumed(&before, now);
        return EXIT_FINE;
}

/* The door */

static int dispatch(int argc, char **argv) {
        const Command *command, *nearest;

        if (argc < 2) {
                print_help(stderr);
                return EXIT_USAGE;
        }
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
                print_help(stdout);
                return EXIT_FINE;
        }
        if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
                printf(PROGRAM " %s\n", ECS_HEALTH_AGENT_VERSION);
                return EXIT_FINE;
        }
        command = command_find(argv[1]);
        if (command)
                return command->run(argc - 1, argv + 1);
        if (argv[1][0] == '-')
                return command_usage_error(NULL, "unknown option \"%s\"", argv[1]);
        nearest = command_nearest(argv[1]);
        if (nearest)
                return command_usage_error(
                        NULL, "unknown command \"%s\"; did you mean \"%s\"?", argv[1], nearest->name);
        return command_usage_error(NULL, "unknown command \"%s\"", argv[1]);
}

int command_run(int argc, char **argv) {
        static const struct option options[] = { { "help", no_argument, NULL, 'h' }, {} };
        int c;

        while ((c = command_option_next(argc, argv, options)) >= 0)
                switch (c) {
                case 'h': return help_run();
                default: return command_option_error("run", argv, c);
                }
        if (optind < argc)
                return command_usage_error("run", "unexpected argument \"%s\"", argv[optind]);
        return agent_run();
}

int command_main(int argc, char **argv) {
        int code;

        optind = 0; /* glibc: start anew */
        code = dispatch(argc, argv);
        /* A report that did not get out whole (a full disk) is none. */
        if ((fflush(stdout) != 0 || ferror(stdout)) && code == EXIT_FINE)
                return command_error("cannot write to standard output: %s", strerror(errno));
        return code;
}
