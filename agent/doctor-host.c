/* SPDX-License-Identifier: Apache-2.0 */

/* The doctor's checks of this host. Witnesses are tried with the daemon's own modules: their first sample decides. */

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>

#include "agent/doctor.h"
#include "agent/observe/docker.h"
#include "agent/observe/introspection.h"
#include "agent/observe/sockets.h"
#include "agent/observe/units.h"
#include "agent/stack.h"
#include "agent/status.h"
#include "common/file.h"

#define HOST_EVERY    SPAN_MIN(10) /* only the first look counts */
#define HOST_LOCK_MIN (UINT64_C(64) << 20)
#define HOST_FILE_MAX ((size_t) 16 * 1024)
#define HOST_POLKIT   "org.freedesktop.PolicyKit1"

struct DoctorHost {
        Introspection *introspection;
        Sockets *sockets;
        Docker *docker;
        Units *units;
        sd_bus *bus;
        sd_bus_slot *ping;
        sd_event_source *polkit;
};

/* A witness that is switched off is not missed. Return: whether it was skipped. */
static bool skip_off(Doctor *doctor, CheckId id, const char *witness) {
        if (settings_witness_on(&doctor->settings, witness))
                return false;
        check_skip(doctor, id, "switched off by the setting \"witnesses\"");
        return true;
}

/* The daemon and what it says */

void host_daemon(Doctor *doctor, CheckId id) {
        const cJSON *headline = NULL;
        const char *what = "", *version = "";

        if (doctor->daemon_error == 0) {
                (void) json_get_string(doctor->status, "version", &version);
                if (json_get_object(doctor->status, "headline", &headline) >= 0)
                        (void) json_get_string(headline, "what", &what);
                check_ok(doctor, id, "version %s runs as process %d: %s", version, (int) doctor->daemon.pid,
                        what);
                return;
        }
        switch (-doctor->daemon_error) {
        case ENOENT:
        case ENOTDIR:
        case ECONNREFUSED:
                check_problem(doctor, id, "does not run: nothing answers at %s", STATUS_SOCKET);
                check_fix(doctor, id,
                        "systemctl enable --now ecs-health-agent; if it does not stay: journalctl -u "
                        "ecs-health-agent -n 50");
                break;
        case EACCES:
        case EPERM:
                check_skip(doctor, id, "not allowed to ask at %s; run doctor as root", STATUS_SOCKET);
                break;
        case ETIMEDOUT:
                check_problem(doctor, id, "does not answer within 3 s at %s", STATUS_SOCKET);
                check_fix(doctor, id,
                        "systemctl restart ecs-health-agent, after: journalctl -u "
                        "ecs-health-agent -n 50");
                break;
        default:
                check_problem(doctor, id, "what it answers at %s is of no use: %s", STATUS_SOCKET,
                        strerror(-doctor->daemon_error));
                check_fix(doctor, id, "systemctl restart ecs-health-agent");
        }
}

/* A text of the stack that was refused, as the daemon words it; NULL if there is none. */
static const char *refused_metadata(const Doctor *doctor) {
        const cJSON *settings = NULL, *problems = NULL, *one;

        if (json_get_object(doctor->status, "settings", &settings) < 0 ||
                json_get_array(settings, "problems", &problems) < 0)
                return NULL;
        cJSON_ArrayForEach(one, problems) {
                if (cJSON_IsString(one) &&
                        strncmp(one->valuestring, STACK_SOURCE, strlen(STACK_SOURCE)) == 0)
                        return one->valuestring;
        }
        return NULL;
}

void host_cloudformation(Doctor *doctor, CheckId id) {
        const char *state = "", *problem = "", *stack_name = "", *resource = "";
        const char *refused = refused_metadata(doctor);
        const cJSON *stack = NULL;

        if (json_get_object(doctor->status, "cloudformation", &stack) < 0) {
                check_skip(doctor, id, "the running daemon does not speak of it");
                return;
        }
        (void) json_get_string(stack, "state", &state);
        (void) json_get_string(stack, "problem", &problem);
        (void) json_get_string(stack, "stack", &stack_name);
        (void) json_get_string(stack, "resource", &resource);
        if (refused) {
                check_problem(doctor, id, "refused: %s", refused);
                check_fix(doctor, id,
                        "mend the object \"" STACK_KEY "\" in the resource's Metadata and update the stack; "
                        "try it before: ecs-health-agent check-config FILE");
        } else if (*problem) {
                check_problem(doctor, id, "%s: %s", state, problem);
                check_fix(doctor, id,
                        "allow the role cloudformation:DescribeStackResource on the stack, or name stack "
                        "and "
                        "resource by \"cloudformation.stack\" and \"cloudformation.resource\", or set "
                        "\"cloudformation.enabled\": false, in " SETTINGS_FILE);
        } else {
                check_ok(doctor, id, "%s%s%s%s%s", state, *stack_name ? ": stack " : "", stack_name,
                        *resource ? ", resource " : "", resource);
        }
}

/* The ECS agent */

static void host_on_introspection(const Sample *sample, void *userdata) {
        Doctor *doctor = userdata;
        const IntrospectionSample *seen = &sample->introspection;
        const char *url = doctor->settings.endpoint;
        const CheckId id = CHECK_INTROSPECTION;
        Answer bad = seen->metadata != ANSWER_GOOD ? seen->metadata : seen->tasks;

        if (!check_is_running(doctor, id))
                return;
        if (sample->sight != SIGHT_CLEAR) {
                check_problem(doctor, id, "%s cannot be asked: %s", url, sight_to_string(sample->sight));
                check_fix(doctor, id,
                        "see what keeps this user from 127.0.0.1: iptables -S OUTPUT, nft list "
                        "ruleset; or mend \"ecs_agent.endpoint\" in " SETTINGS_FILE);
        } else if (bad == ANSWER_REFUSED) {
                check_problem(doctor, id,
                        "nobody listens at %s: the ECS agent does not run, or has never registered", url);
                check_fix(doctor, id,
                        "systemctl start ecs; if it does not stay: journalctl -u ecs -n 50; tail "
                        "/var/log/ecs/ecs-init.log");
        } else if (bad == ANSWER_HUNG) {
                check_problem(doctor, id, "%s%s does not answer within 5 s: the ECS agent hangs", url,
                        seen->metadata == ANSWER_GOOD ? "/v1/tasks" : "/v1/metadata");
                check_fix(doctor, id, "systemctl restart ecs");
        } else if (bad != ANSWER_GOOD) {
                check_problem(doctor, id, "what answers at %s is not the ECS agent", url);
                check_fix(doctor, id,
                        "see who listens: ss -ltnp; mend \"ecs_agent.endpoint\" "
                        "in " SETTINGS_FILE);
        } else if (!seen->registered) {
                check_problem(doctor, id, "the ECS agent at %s is not registered with any cluster", url);
                check_fix(doctor, id,
                        "see why: grep -i regist /var/log/ecs/ecs-agent.log; ECS_CLUSTER in "
                        "/etc/ecs/ecs.config must name a cluster that exists");
        } else {
                (void) snprintf(doctor->cluster, sizeof(doctor->cluster), "%s",
                        introspection_cluster(doctor->host->introspection));
                (void) snprintf(doctor->arn, sizeof(doctor->arn), "%s",
                        introspection_arn(doctor->host->introspection));
                check_ok(doctor, id, "ECS agent %s, cluster %s, %" PRIi32 " tasks running",
                        introspection_version(doctor->host->introspection), doctor->cluster,
                        seen->tasks_running);
        }
}

void host_introspection(Doctor *doctor, CheckId id) {
        int r;

        if (skip_off(doctor, id, "introspection"))
                return;
        r = introspection_new(&doctor->host->introspection, doctor->event, doctor->http,
                doctor->settings.endpoint, HOST_EVERY, host_on_introspection, doctor);
        if (r < 0)
                check_failed(doctor, id, r);
}

static void log_unreadable(Doctor *doctor, CheckId id, const char *path, int error) {
        if (error == ENOENT || error == ENOTDIR) {
                check_problem(doctor, id, "%s is not there", path);
                check_fix(doctor, id,
                        "start the ECS agent (systemctl start ecs), or name its log by \"ecs_agent.log\" "
                        "in " SETTINGS_FILE);
        } else if (error == EACCES || error == EPERM) {
                check_problem(doctor, id, "%s may not be read by the service", path);
                check_fix(doctor, id, "chmod o+rx /var/log/ecs; chmod o+r %s", doctor->settings.log);
        } else {
                check_problem(doctor, id, "%s cannot be read: %s", path, strerror(error));
                check_fix(
                        doctor, id, "see what is wrong with its file system: dmesg | tail; df -h /var/log");
        }
}

void host_agent_log(Doctor *doctor, CheckId id) {
        _cleanup_(freep) char *path = NULL;
        _cleanup_(closep) int fd = -1;
        const char *fix = NULL, *hidden = ecs_log_hidden(&doctor->ecs, &fix);
        struct stat st = {};

        if (skip_off(doctor, id, "log"))
                return;
        if (hidden) {
                check_problem(doctor, id, "%s", hidden);
                check_fix(doctor, id, "%s in /etc/ecs/ecs.config, then: systemctl restart ecs", fix);
                return;
        }
        if (file_root(doctor->settings.log, &path) < 0) {
                check_failed(doctor, id, -ENOMEM);
                return;
        }
        fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                log_unreadable(doctor, id, path, errno);
        } else if (!S_ISREG(st.st_mode)) {
                check_problem(doctor, id, "%s is no regular file", path);
                check_fix(doctor, id, "name the ECS agent's log by \"ecs_agent.log\" in " SETTINGS_FILE);
        } else {
                check_ok(doctor, id, "%s can be read, %" PRIi64 " bytes", path, (int64_t) st.st_size);
        }
}

static void host_on_sockets(const Sample *sample, void *userdata) {
        Doctor *doctor = userdata;
        const CheckId id = CHECK_SOCKETS;

        if (!check_is_running(doctor, id))
                return;
        if (sample->sight != SIGHT_CLEAR) {
                check_problem(doctor, id, "the kernel does not tell of sockets: %s",
                        sight_to_string(sample->sight));
                check_fix(doctor, id,
                        "modprobe -a inet_diag tcp_diag; the unit's RestrictAddressFamilies= must "
                        "have AF_NETLINK: systemctl cat ecs-health-agent");
        } else if (!sample->sockets.listener) {
                check_problem(doctor, id, "the ECS agent answers, but its listening socket is not seen");
                check_fix(doctor, id,
                        "run the service in the host's network namespace: no PrivateNetwork= in "
                        "systemctl cat ecs-health-agent");
        } else {
                check_ok(doctor, id, "the ECS agent has %" PRIu32 " connections to the control plane's port",
                        sample->sockets.n_control);
        }
}

static uint16_t endpoint_port(const char *endpoint) {
        const char *colon = strrchr(endpoint, ':');
        unsigned long port = colon ? strtoul(colon + 1, NULL, 10) : 0;

        return port > 0 && port <= UINT16_MAX ? (uint16_t) port : 80;
}

void host_sockets(Doctor *doctor, CheckId id) {
        int r;

        if (skip_off(doctor, id, "sockets"))
                return;
        r = sockets_new(&doctor->host->sockets, doctor->event, endpoint_port(doctor->settings.endpoint),
                HOST_EVERY, host_on_sockets, doctor);
        if (r < 0)
                check_failed(doctor, id, r);
}

/* Docker */

static void docker_out_of_sight(Doctor *doctor, CheckId id, Sight sight) {
        const char *path = doctor->settings.docker_socket, *unit = doctor->settings.docker_unit;

        if (sight == SIGHT_DENIED) {
                check_problem(doctor, id, "%s may not be used by the service", path);
                check_fix(doctor, id,
                        "usermod -aG docker " DOCTOR_SERVICE_USER " && systemctl restart ecs-health-agent");
        } else if (sight == SIGHT_ABSENT) {
                check_problem(doctor, id, "%s is not there", path);
                check_fix(doctor, id,
                        "systemctl start %s, or name the socket by \"docker.socket\" "
                        "in " SETTINGS_FILE,
                        unit);
        } else {
                check_problem(doctor, id, "%s cannot be used", path);
                check_fix(doctor, id, "mend \"docker.socket\" in " SETTINGS_FILE);
        }
}

static void host_on_docker(const Sample *sample, void *userdata) {
        Doctor *doctor = userdata;
        const DockerSample *seen = &sample->docker;
        const char *path = doctor->settings.docker_socket, *unit = doctor->settings.docker_unit;
        const CheckId id = CHECK_DOCKER;
        Answer bad = seen->ping != ANSWER_GOOD ? seen->ping : seen->list;

        if (!check_is_running(doctor, id))
                return;
        if (sample->sight != SIGHT_CLEAR) {
                docker_out_of_sight(doctor, id, sample->sight);
        } else if (bad == ANSWER_GOOD) {
                check_ok(
                        doctor, id, "answers at %s in %" PRIi64 " ms", path, seen->ping_time / SPAN_MSEC(1));
        } else if (bad == ANSWER_REFUSED) {
                check_problem(doctor, id, "nobody listens at %s", path);
                check_fix(doctor, id, "systemctl restart %s", unit);
        } else {
                check_problem(doctor, id,
                        bad == ANSWER_HUNG ? "%s does not %s within 5 s: the daemon hangs"
                                           : "%s does not %s: what answers is not what Docker says",
                        path, seen->ping != ANSWER_GOOD ? "answer a ping" : "list containers");
                check_fix(doctor, id,
                        "journalctl -u %s -n 50; systemctl restart %s (stops the containers unless "
                        "live-restore is on)",
                        unit, unit);
        }
}

void host_docker(Doctor *doctor, CheckId id) {
        _cleanup_(freep) char *path = NULL;
        int r;

        if (skip_off(doctor, id, "docker"))
                return;
        r = file_root(doctor->settings.docker_socket, &path);
        if (r >= 0)
                r = docker_new(&doctor->host->docker, doctor->event, doctor->http, path, HOST_EVERY,
                        host_on_docker, doctor);
        if (r < 0)
                check_failed(doctor, id, r);
}

/* systemd and polkit */

static void host_on_units(const Sample *sample, void *userdata) {
        Doctor *doctor = userdata;
        const UnitsSample *seen = &sample->units;
        const char *ecs = doctor->settings.unit, *docker = doctor->settings.docker_unit;
        const CheckId id = CHECK_UNITS;

        if (!check_is_running(doctor, id))
                return;
        if (sample->sight != SIGHT_CLEAR) {
                check_problem(doctor, id, "systemd cannot be asked over D-Bus: %s",
                        sight_to_string(sample->sight));
                check_fix(doctor, id,
                        "systemctl start dbus.socket; it listens at "
                        "/run/dbus/system_bus_socket, which the service must be able to use");
        } else if (!seen->ecs.exists || !seen->docker.exists) {
                check_problem(doctor, id, "systemd knows no unit \"%s\"", seen->ecs.exists ? docker : ecs);
                check_fix(doctor, id,
                        "name it by \"%s\" in " SETTINGS_FILE "; which there are: systemctl "
                        "list-units --type=service",
                        seen->ecs.exists ? "docker.unit" : "ecs_agent.unit");
        } else {
                check_ok(doctor, id, "%s %s, %s %s", ecs, unit_state_to_string(seen->ecs.state), docker,
                        unit_state_to_string(seen->docker.state));
        }
}

void host_units(Doctor *doctor, CheckId id) {
        const char *root = getenv("ECS_HEALTH_AGENT_ROOT");
        int r;

        if (skip_off(doctor, id, "units"))
                return;
        r = units_new(&doctor->host->units, doctor->event, doctor->settings.unit,
                doctor->settings.docker_unit, root && *root ? root : NULL, host_on_units, doctor);
        if (r < 0)
                check_failed(doctor, id, r);
}

static void polkit_absent(Doctor *doctor, CheckId id, const char *words) {
        check_problem(doctor, id, "polkit does not answer: %s", words);
        check_fix(doctor, id,
                "dnf install polkit && systemctl start polkit; without it %s is never restarted, "
                "or set \"repair\": {\"enabled\": false} in " SETTINGS_FILE,
                doctor->settings.unit);
}

static int on_polkit_answer(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Doctor *doctor = userdata;
        const CheckId id = CHECK_POLKIT;
        PolkitAnswer answer = {};
        ssize_t n = recv(fd, &answer, sizeof(answer), MSG_DONTWAIT);

        (void) events;
        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        if (!check_is_running(doctor, id))
                return 0;
        answer.problem[sizeof(answer.problem) - 1] = '\0';
        if (n != sizeof(answer)) {
                check_failed(doctor, id, -EIO);
        } else if (!answer.asked) {
                polkit_absent(doctor, id, answer.problem);
        } else if (!answer.authorized) {
                check_problem(doctor, id, "does not allow the service to restart %s", doctor->settings.unit);
                check_fix(doctor, id,
                        "put the rule back: dnf reinstall ecs-health-agent; for a unit other than "
                        "ecs.service copy " DOCTOR_POLKIT_RULE
                        " to /etc/polkit-1/rules.d/ and change the unit in it");
        } else {
                check_ok(doctor, id, "allows the service to restart %s", doctor->settings.unit);
        }
        return 0;
}

static int on_polkit_ping(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Doctor *doctor = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(reply);

        (void) ret_error;
        if (!check_is_running(doctor, CHECK_POLKIT))
                return 0;
        if (error)
                polkit_absent(doctor, CHECK_POLKIT, error->message ? error->message : error->name);
        else
                check_ok(doctor, CHECK_POLKIT,
                        "answers; whether it allows the service to restart %s is told "
                        "to root only: sudo ecs-health-agent doctor",
                        doctor->settings.unit);
        return 0;
}

static int polkit_ask(Doctor *doctor) {
        PolkitQuestion question = {
                .pid = doctor->daemon.pid > 0 && doctor->daemon.uid == doctor->service ? doctor->daemon.pid
                                                                                       : getpid(),
        };

        (void) snprintf(question.unit, sizeof(question.unit), "%s", doctor->settings.unit);
        if (send(doctor->polkit, &question, sizeof(question), MSG_NOSIGNAL) != sizeof(question))
                return -EIO;
        return sd_event_add_io(
                doctor->event, &doctor->host->polkit, doctor->polkit, EPOLLIN, on_polkit_answer, doctor);
}

static int polkit_ping(Doctor *doctor) {
        DoctorHost *host = doctor->host;
        int r;

        r = sd_bus_open_system(&host->bus);
        if (r >= 0)
                r = sd_bus_attach_event(host->bus, doctor->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_call_method_async(host->bus, &host->ping, HOST_POLKIT, "/",
                        "org.freedesktop.DBus.Peer", "Ping", on_polkit_ping, doctor, "");
        return r;
}

void host_polkit(Doctor *doctor, CheckId id) {
        int r;

        if (!doctor->settings.policy.repair || doctor->settings.policy.action == ACTION_OBSERVE) {
                check_skip(doctor, id, "not needed: nothing is repaired with these settings");
                return;
        }
        if (doctor->service == 0 && doctor->daemon.pid == 0) {
                check_skip_for(doctor, id, CHECK_DAEMON); /* nor is there its user */
                return;
        }
        if (doctor->service == 0) {
                check_ok(doctor, id, "not needed: the service runs as root");
                return;
        }
        r = doctor->polkit >= 0 ? polkit_ask(doctor) : polkit_ping(doctor);
        if (r < 0)
                polkit_absent(doctor, id, strerror(-r));
}

/* The kernel */

void host_psi(Doctor *doctor, CheckId id) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        int r;

        r = file_root("/proc/pressure/memory", &path);
        if (r >= 0)
                r = file_read(path, HOST_FILE_MAX, &text, NULL);
        if (r >= 0) {
                check_ok(doctor, id, "%.*s", (int) strcspn(text, "\n"), text);
                return;
        }
        check_problem(doctor, id, "memory pressure is not told at %s: %s", path, strerror(-r));
        if (r == -EACCES || r == -EPERM)
                check_fix(doctor, id,
                        "the unit must see /proc whole: no ProcSubset=pid in systemctl cat "
                        "ecs-health-agent");
        else
                check_fix(doctor, id,
                        "add psi=1 to the kernel's command line: grubby --update-kernel=ALL "
                        "--args=psi=1, then reboot");
}

void host_memory_lock(Doctor *doctor, CheckId id) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        uint64_t limit = 0;
        char name[64];
        int r;

        (void) snprintf(name, sizeof(name), "/proc/%d/limits", (int) doctor->daemon.pid);
        r = file_root(name, &path);
        if (r >= 0)
                r = file_read(path, HOST_FILE_MAX, &text, NULL);
        if (r >= 0)
                r = limits_memory_lock(text, &limit);
        if (r < 0) {
                check_skip(doctor, id, "%s cannot be read: %s", name, strerror(-r));
        } else if (limit == UINT64_MAX) {
                check_ok(doctor, id, "the daemon may lock as much as it wants");
        } else if (limit >= HOST_LOCK_MIN) {
                check_ok(doctor, id, "the daemon may lock %" PRIu64 " MiB", limit >> 20);
        } else {
                check_problem(doctor, id,
                        "the daemon may lock %" PRIu64 " KiB; it needs %" PRIu64
                        " MiB to stay in memory when there is none left",
                        limit >> 10, HOST_LOCK_MIN >> 20);
                check_fix(doctor, id,
                        "systemctl edit ecs-health-agent: [Service] LimitMEMLOCK=infinity; then: "
                        "systemctl restart ecs-health-agent");
        }
}

/* Life */

int doctor_host_new(DoctorHost **ret) {
        *ret = calloc(1, sizeof(**ret));
        return *ret ? 0 : -ENOMEM;
}

DoctorHost *doctor_host_free(DoctorHost *host) {
        if (!host)
                return NULL;
        (void) introspection_free(host->introspection);
        (void) sockets_free(host->sockets);
        (void) docker_free(host->docker);
        (void) units_free(host->units);
        sd_event_source_disable_unref(host->polkit);
        sd_bus_slot_unref(host->ping);
        sd_bus_flush_close_unref(host->bus);
        free(host);
        return NULL;
}
