/* SPDX-License-Identifier: Apache-2.0 */

/*
 * In the service's place: what root may do proves nothing about a daemon that is not root. So the doctor gives up the
 * ids of root for good before it tries anything. Only polkit is asked by a process that stays root, because it answers
 * questions about others' rights to restart a unit to root alone; that process does nothing else.
 */

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>

#include "agent/doctor.h"
#include "common/file.h"
#include "common/parse.h"

#define SERVICE_FILE_MAX    ((size_t) 64 * 1024)
#define SERVICE_PROCESS_MAX ((size_t) 16 * 1024)
#define SERVICE_GROUPS      256
#define SERVICE_POLKIT_TIME SPAN_SEC(5)

void service_environment(void) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        const char *key, *value;
        char *rest;

        /* Not everybody may read it: it may hold keys. */
        if (file_root(DOCTOR_ENVIRONMENT_FILE, &path) < 0 ||
                file_read(path, SERVICE_FILE_MAX, &text, NULL) < 0)
                return;
        rest = text;
        while (parse_env(&rest, &key, &value))
                (void) setenv(key, value, 0);
}

const char *service_variable(const char *upper, const char *lower) {
        const char *value = getenv(upper);

        if (!value || !*value)
                value = lower ? getenv(lower) : NULL;
        return value && *value ? value : NULL;
}

int service_peer(const char *path, struct ucred *ret) {
        _cleanup_(closep) int fd = -1, directory = -1;
        _cleanup_(freep) char *above = strdup(path);
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char *slash = above ? strrchr(above, '/') : NULL;
        socklen_t n = sizeof(*ret);

        if (!slash)
                return -ENOMEM;
        *slash = '\0';
        /* By way of its directory, for an address holds 107 bytes. */
        directory = open(above, O_PATH | O_DIRECTORY | O_CLOEXEC);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (directory < 0 || fd < 0)
                return -errno;
        if ((size_t) snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", directory,
                    slash + 1) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        if (connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &n) < 0)
                return -errno;
        return 0;
}

/* polkit, from the process that stays root */

static int service_start_of(pid_t pid, uint64_t *ret) {
        _cleanup_(freep) char *text = NULL;
        char path[64];
        int r;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        r = file_read(path, SERVICE_PROCESS_MAX, &text, NULL);
        return r < 0 ? r : process_start(text, ret);
}

static int question_message(sd_bus *bus, const PolkitQuestion *question, sd_bus_message **ret) {
        uint64_t start = 0;
        int r;

        r = service_start_of(question->pid, &start);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(bus, ret, "org.freedesktop.PolicyKit1",
                "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
                "CheckAuthorization");
        if (r < 0)
                return r;
        /* As systemd itself asks when somebody wants a unit restarted. */
        return sd_bus_message_append(*ret, "(sa{sv})sa{ss}us", "unix-process", 2, "pid", "u",
                (uint32_t) question->pid, "start-time", "t", start, "org.freedesktop.systemd1.manage-units",
                2, "unit", question->unit, "verb", "restart", (uint32_t) 0, "");
}

static void ask_polkit(const PolkitQuestion *question, PolkitAnswer *answer) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *message = NULL, *reply = NULL;
        int r, authorized = 0, challenge = 0;
        sd_bus *bus = NULL;

        r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = question_message(bus, question, &message);
        if (r >= 0)
                r = sd_bus_call(bus, message, (uint64_t) SERVICE_POLKIT_TIME, &error, &reply);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_STRUCT, "bba{ss}");
        if (r >= 0)
                r = sd_bus_message_read(reply, "bb", &authorized, &challenge);
        answer->asked = r >= 0;
        answer->authorized = r >= 0 && authorized;
        if (r < 0)
                (void) snprintf(answer->problem, sizeof(answer->problem), "%s",
                        error.message ? error.message : strerror(-r));
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
        sd_bus_message_unref(reply);
        sd_bus_flush_close_unref(bus);
}

static void serve_polkit(int fd) {
        PolkitQuestion question;
        PolkitAnswer answer = {};

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (recv(fd, &question, sizeof(question), 0) != sizeof(question))
                return; /* nobody wants to know */
        question.unit[sizeof(question.unit) - 1] = '\0';
        ask_polkit(&question, &answer);
        (void) send(fd, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static int service_leave_behind(int *ret) {
        int fds[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        pid = fork();
        if (pid == 0) {
                (void) close(fds[0]);
                serve_polkit(fds[1]);
                _exit(0);
        }
        (void) close(fds[1]);
        if (pid < 0) {
                (void) close(fds[0]);
                return -EAGAIN;
        }
        *ret = fds[0];
        return 0;
}

/* Becoming the service */

static int service_take_groups(pid_t pid) {
        _cleanup_(freep) char *text = NULL;
        char path[64];
        gid_t groups[SERVICE_GROUPS];
        size_t n = 0;
        int r;

        (void) snprintf(path, sizeof(path), "/proc/%d/status", (int) pid);
        r = file_read(path, SERVICE_PROCESS_MAX, &text, NULL);
        if (r < 0)
                return r;
        r = process_groups(text, groups, ELEMENTSOF(groups), &n);
        if (r < 0)
                return r;
        return setgroups(n, groups) < 0 ? -errno : 0;
}

int service_become(Doctor *doctor) {
        const struct passwd *entry;
        uid_t uid = doctor->daemon.uid;
        gid_t gid = doctor->daemon.gid;
        bool runs = doctor->daemon.pid > 0;
        int r;

        doctor->service = geteuid();
        if (geteuid() != 0)
                return 0;
        entry = getpwnam(DOCTOR_SERVICE_USER);
        if (!runs && entry) {
                uid = entry->pw_uid;
                gid = entry->pw_gid;
        }
        r = service_leave_behind(&doctor->polkit);
        if (r < 0)
                return r;
        if ((!runs && !entry) || uid == 0)
                return 0;

        /* The running daemon's own, for somebody may have been made a member of a group since it was started. */
        r = runs ? service_take_groups(doctor->daemon.pid) : -ESRCH;
        if (r < 0 && entry && entry->pw_uid == uid)
                r = initgroups(DOCTOR_SERVICE_USER, gid) < 0 ? -errno : 0;
        if (r < 0)
                return r;
        if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
                return -errno;
        doctor->service = uid;
        return 0;
}
