/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Against a private bus with a small systemd of our own on it, which runs in a child and says what it is
 * told to; and against journal files that are made for the purpose.
 */

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-id128.h>

#include "agent/observe/units.h"
#include "common/loop.h"
#include "tests/unit/test.h"

#define JOURNAL_REMOTE "/lib/systemd/systemd-journal-remote"
#define SYSTEMD        "org.freedesktop.systemd1"
#define SYSTEMD_PATH   "/org/freedesktop/systemd1"

/* What the child is told. */

typedef enum Order {
        ORDER_STATE,     /* text: ActiveState; said by PropertiesChanged */
        ORDER_EXIT,      /* ExecMainCode 1 and number as ExecMainStatus; said */
        ORDER_FILE,      /* text: UnitFileState; only UnitFilesChanged is said */
        ORDER_LOAD,      /* text: LoadState; nothing is said */
        ORDER_JOB,       /* number, of type text ("": cannot be read) */
        ORDER_QUIET_JOB, /* the same, without a word */
        ORDER_DONE,      /* that job is gone */
        ORDER_LEAVE,     /* give the name up */
        ORDER_ENTER,
        ORDER_FORGE, /* somebody else sends JobNew straight to text */
        ORDER_HIDE,  /* units cannot be asked */
} Order;

typedef struct Command {
        Order order;
        unsigned unit; /* 0: ecs.service, 1: docker.service */
        uint32_t number;
        char text[64];
} Command;

typedef struct FakeUnit {
        const char *name, *path;
        char *active, *load, *file;
        uint32_t job;
        char job_path[64];
        char *job_type;
        sd_bus_slot *job_slot;
        int32_t code, status;
        uint32_t restarts;
} FakeUnit;

typedef struct Fake {
        int fd;
        sd_bus *bus, *other;
        FakeUnit units[2];
        bool hidden;
} Fake;

static int fake_get_job(sd_bus *bus, const char *path, const char *interface, const char *property,
        sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        FakeUnit *unit = userdata;

        (void) bus;
        (void) path;
        (void) interface;
        (void) property;
        (void) error;
        return sd_bus_message_append(reply, "(uo)", unit->job, unit->job != 0 ? unit->job_path : "/");
}

static const sd_bus_vtable fake_unit_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Id", "s", NULL, offsetof(FakeUnit, name), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY(
                "ActiveState", "s", NULL, offsetof(FakeUnit, active), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("LoadState", "s", NULL, offsetof(FakeUnit, load), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("UnitFileState", "s", NULL, offsetof(FakeUnit, file), 0),
        SD_BUS_PROPERTY("Job", "(uo)", fake_get_job, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable fake_service_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY(
                "ExecMainCode", "i", NULL, offsetof(FakeUnit, code), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("ExecMainStatus", "i", NULL, offsetof(FakeUnit, status),
                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY(
                "NRestarts", "u", NULL, offsetof(FakeUnit, restarts), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable fake_job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("JobType", "s", NULL, offsetof(FakeUnit, job_type), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

static int fake_subscribe(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        (void) userdata;
        (void) error;
        return sd_bus_reply_method_return(message, NULL);
}

static const sd_bus_vtable fake_manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Subscribe", NULL, NULL, fake_subscribe, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

/* In front of the objects. */
static int fake_filter(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Fake *fake = userdata;

        if (!fake->hidden ||
                !sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", "GetAll"))
                return 0;
        return sd_bus_error_set(error, "org.freedesktop.DBus.Error.AccessDenied", "hidden");
}

static void fake_text(char **where, const char *text) {
        free(*where);
        *where = strdup(text);
}

static int fake_job(Fake *fake, FakeUnit *unit, const Command *command) {
        unit->job = command->number;
        (void) snprintf(
                unit->job_path, sizeof(unit->job_path), SYSTEMD_PATH "/job/%u", (unsigned) unit->job);
        fake_text(&unit->job_type, command->text);
        unit->job_slot = sd_bus_slot_unref(unit->job_slot);
        if (command->text[0] != '\0' && sd_bus_add_object_vtable(fake->bus, &unit->job_slot, unit->job_path,
                                                SYSTEMD ".Job", fake_job_vtable, unit) < 0)
                return -EIO;
        if (command->order == ORDER_QUIET_JOB)
                return 0;
        return sd_bus_emit_signal(fake->bus, SYSTEMD_PATH, SYSTEMD ".Manager", "JobNew", "uos", unit->job,
                unit->job_path, unit->name);
}

static int fake_obey(Fake *fake, const Command *command) {
        FakeUnit *unit = &fake->units[command->unit];
        sd_bus_message *message = NULL;
        int r;

        switch (command->order) {
        case ORDER_STATE:
                fake_text(&unit->active, command->text);
                return sd_bus_emit_properties_changed(
                        fake->bus, unit->path, SYSTEMD ".Unit", "ActiveState", "Job", NULL);
        case ORDER_EXIT:
                unit->code = 1;
                unit->status = (int32_t) command->number;
                unit->restarts++;
                return sd_bus_emit_properties_changed(fake->bus, unit->path, SYSTEMD ".Service",
                        "ExecMainCode", "ExecMainStatus", "NRestarts", NULL);
        case ORDER_FILE:
                fake_text(&unit->file, command->text);
                return sd_bus_emit_signal(
                        fake->bus, SYSTEMD_PATH, SYSTEMD ".Manager", "UnitFilesChanged", NULL);
        case ORDER_LOAD: fake_text(&unit->load, command->text); return 0;
        case ORDER_JOB:
        case ORDER_QUIET_JOB: return fake_job(fake, unit, command);
        case ORDER_DONE:
                unit->job_slot = sd_bus_slot_unref(unit->job_slot);
                (void) snprintf(unit->job_path, sizeof(unit->job_path), SYSTEMD_PATH "/job/%u",
                        (unsigned) command->number);
                unit->job = 0;
                return sd_bus_emit_signal(fake->bus, SYSTEMD_PATH, SYSTEMD ".Manager", "JobRemoved", "uoss",
                        command->number, unit->job_path, unit->name, "done");
        case ORDER_LEAVE: return sd_bus_release_name(fake->bus, SYSTEMD);
        case ORDER_ENTER: return sd_bus_request_name(fake->bus, SYSTEMD, 0);
        case ORDER_FORGE:
                r = sd_bus_message_new_signal(
                        fake->other, &message, SYSTEMD_PATH, SYSTEMD ".Manager", "JobNew");
                if (r >= 0)
                        r = sd_bus_message_append(message, "uos", 99, SYSTEMD_PATH "/job/99", unit->name);
                if (r >= 0)
                        r = sd_bus_send_to(fake->other, message, command->text, NULL);
                sd_bus_message_unref(message);
                return r < 0 ? r : sd_bus_flush(fake->other);
        case ORDER_HIDE: fake->hidden = !fake->hidden; return 0;
        }
        return -EINVAL;
}

static int fake_on_command(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Fake *fake = userdata;
        Command command;
        char ok;

        (void) events;
        if (recv(fd, &command, sizeof(command), 0) != (ssize_t) sizeof(command))
                return sd_event_exit(sd_event_source_get_event(source), 0);
        ok = fake_obey(fake, &command) >= 0 && sd_bus_flush(fake->bus) >= 0;
        (void) send(fd, &ok, 1, 0);
        return 0;
}

static int fake_connect(const char *address, sd_bus **ret) {
        int r;

        r = sd_bus_new(ret);
        if (r >= 0)
                r = sd_bus_set_address(*ret, address);
        if (r >= 0)
                r = sd_bus_set_bus_client(*ret, true);
        return r >= 0 ? sd_bus_start(*ret) : r;
}

static int fake_run(const char *address, int fd) {
        Fake fake = {
                .fd = fd,
                .units = {
                        { .name = "ecs.service", .path = SYSTEMD_PATH "/unit/ecs_2eservice" },
                        { .name = "docker.service", .path = SYSTEMD_PATH "/unit/docker_2eservice" },
                },
        };
        sd_event *event = NULL;
        char ok = 1;
        int r;

        r = sd_event_new(&event);
        if (r >= 0)
                r = fake_connect(address, &fake.bus);
        if (r >= 0)
                r = fake_connect(address, &fake.other);
        for (size_t i = 0; i < 2 && r >= 0; i++) {
                FakeUnit *unit = &fake.units[i];

                fake_text(&unit->active, "active");
                fake_text(&unit->load, "loaded");
                fake_text(&unit->file, "enabled");
                r = sd_bus_add_object_vtable(
                        fake.bus, NULL, unit->path, SYSTEMD ".Unit", fake_unit_vtable, unit);
                if (r >= 0)
                        r = sd_bus_add_object_vtable(
                                fake.bus, NULL, unit->path, SYSTEMD ".Service", fake_service_vtable, unit);
        }
        if (r >= 0)
                r = sd_bus_add_object_vtable(
                        fake.bus, NULL, SYSTEMD_PATH, SYSTEMD ".Manager", fake_manager_vtable, NULL);
        if (r >= 0)
                r = sd_bus_add_filter(fake.bus, NULL, fake_filter, &fake);
        if (r >= 0)
                r = sd_bus_request_name(fake.bus, SYSTEMD, 0);
        if (r >= 0)
                r = sd_bus_attach_event(fake.bus, event, 0);
        if (r >= 0)
                r = sd_bus_attach_event(fake.other, event, 0);
        if (r >= 0)
                r = sd_event_add_io(event, NULL, fd, EPOLLIN, fake_on_command, &fake);
        if (r < 0)
                return EXIT_FAILURE;
        (void) send(fd, &ok, 1, 0);
        return sd_event_loop(event) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A directory with a bus in it. */

typedef struct Fixture {
        char directory[64];
        char address[160];
        pid_t bus, fake;
        int fake_fd;
        sd_event *event;
        Units *units;
        unsigned n;
        Sample last;
} Fixture;

static void fixture_path(const Fixture *f, const char *name, char ret[static 128]) {
        (void) snprintf(ret, 128, "%s/%s", f->directory, name);
}

/* Starts the daemon and waits for the line with which it says that it is ready. */
static bool fixture_start_bus(Fixture *f) {
        char path[128], config[160], print[32], line[256];
        _cleanup_(fclosep) FILE *file = NULL;
        int pipes[2];
        ssize_t n;

        fixture_path(f, "bus.conf", path);
        (void) snprintf(config, sizeof(config), "--config-file=%s", path);
        file = fopen(path, "w");
        if (!file || pipe(pipes) < 0)
                return false;
        (void) fprintf(file,
                "<busconfig><listen>%s</listen><auth>EXTERNAL</auth><policy context=\"default\">"
                "<allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow "
                "own=\"*\"/>"
                "</policy></busconfig>\n",
                f->address);
        (void) fflush(file);
        f->bus = fork();
        if (f->bus == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(pipes[0]);
                (void) snprintf(print, sizeof(print), "--print-address=%d", pipes[1]);
                (void) freopen("/dev/null", "w", stderr); /* it complains that it may not raise its limits */
                execlp("dbus-daemon", "dbus-daemon", config, "--nofork", "--nopidfile", print,
                        (char *) NULL);
                _exit(127);
        }
        (void) close(pipes[1]);
        n = read(pipes[0], line, sizeof(line));
        (void) close(pipes[0]);
        return n > 0;
}

static bool fixture_start_fake(Fixture *f) {
        int pair[2];
        char ok = 0;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return false;
        f->fake = fork();
        if (f->fake == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(pair[0]);
                _exit(fake_run(f->address, pair[1]));
        }
        (void) close(pair[1]);
        f->fake_fd = pair[0];
        return recv(f->fake_fd, &ok, 1, 0) == 1;
}

static void fixture_stop(pid_t *pid) {
        if (*pid <= 0)
                return;
        (void) kill(*pid, SIGKILL);
        (void) waitpid(*pid, NULL, 0);
        *pid = 0;
}

static void fixture_done(Fixture *f) {
        static const char *const names[] = { "bus", "bus.conf", "j/x.journal", "j", "" };
        char path[128];

        units_free(f->units);
        sd_event_unref(f->event);
        closep(&f->fake_fd);
        fixture_stop(&f->fake);
        fixture_stop(&f->bus);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                fixture_path(f, names[i], path);
                (void) remove(path);
        }
}

static void fixture_on_sample(const Sample *sample, void *userdata) {
        Fixture *f = userdata;

        f->n++;
        f->last = *sample;
}

static void fixture_init_bare(Fixture *f) {
        char path[128];

        *f = (Fixture){ .directory = "/tmp/test-units-XXXXXX", .fake_fd = -1 };
        if (!mkdtemp(f->directory) || sd_event_new(&f->event) < 0)
                abort();
        fixture_path(f, "j", path);
        (void) mkdir(path, 0755);
        fixture_path(f, "bus", path);
        (void) snprintf(f->address, sizeof(f->address), "unix:path=%s", path);
        (void) setenv("DBUS_SYSTEM_BUS_ADDRESS", f->address, 1);
}

/* Return: false if there is no dbus-daemon. */
static bool fixture_init(Fixture *f) {
        fixture_init_bare(f);
        if (fixture_start_bus(f) && fixture_start_fake(f))
                return true;
        printf("# skipped: no dbus-daemon\n");
        fixture_done(f);
        return false;
}

static void fixture_order(Fixture *f, Order order, unsigned unit, uint32_t number, const char *text) {
        Command command = { .order = order, .unit = unit, .number = number };
        char ok = 0;

        (void) snprintf(command.text, sizeof(command.text), "%s", text);
        EXPECT(send(f->fake_fd, &command, sizeof(command), 0) == (ssize_t) sizeof(command));
        EXPECT(recv(f->fake_fd, &ok, 1, 0) == 1 && ok);
}

static void fixture_watch(Fixture *f) {
        char journal[128];

        fixture_path(f, "j", journal);
        EXPECT_EQ(units_new(&f->units, f->event, "ecs.service", "docker.service", journal, fixture_on_sample,
                          f),
                0);
}

/* Runs the loop until @condition holds, for at most 10 s. */
#define UNTIL(f, condition)                                                                                 \
        do {                                                                                                \
                Mono _until = mono_add(clock_read().mono, SPAN_SEC(10));                                    \
                while (!(condition) && mono_before(clock_read().mono, _until))                              \
                        if (sd_event_run((f)->event, 100 * 1000) < 0)                                       \
                                break;                                                                      \
                EXPECT(condition);                                                                          \
        } while (0)

/*
 * Runs it until all that has been sent before has arrived: our own call makes the way to the bus and back
 * after it.
 */
static int on_pong(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        bool *back = userdata;

        (void) message;
        (void) error;
        *back = true;
        return 0;
}

static void fixture_settle(Fixture *f) {
        /* Once for the signals, once for the answers to what they made us ask. */
        for (unsigned i = 0; i < 2; i++) {
                sd_bus_slot *slot = NULL;
                bool back = false;

                EXPECT(sd_bus_call_method_async(units_bus(f->units), &slot, SYSTEMD, SYSTEMD_PATH,
                               "org.freedesktop.DBus.Peer", "Ping", on_pong, &back, NULL) >= 0);
                UNTIL(f, back);
                sd_bus_slot_unref(slot);
        }
}

#define ECS    (f.last.units.ecs)
#define DOCKER (f.last.units.docker)

static void test_units_reports_both_units(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_order(&f, ORDER_LOAD, 1, 0, "not-found");
        fixture_order(&f, ORDER_STATE, 1, 0, "inactive");
        fixture_watch(&f);
        EXPECT_EQ(f.n, 0);
        UNTIL(&f, f.n == 1);
        EXPECT_EQ(f.last.witness, WITNESS_UNITS);
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        EXPECT(ECS.exists);
        EXPECT_EQ(ECS.state, UNIT_ACTIVE);
        EXPECT_EQ(ECS.intent, INTENT_NONE);
        EXPECT_EQ(ECS.exit_status, -1);
        EXPECT(!ECS.job_running);
        EXPECT(!DOCKER.exists);
        EXPECT_EQ(DOCKER.state, UNIT_INACTIVE);
        EXPECT_EQ(DOCKER.intent, INTENT_UNKNOWN);
        EXPECT(units_bus(f.units));
        fixture_done(&f);
}

static void test_unit_that_fails_by_itself_was_not_meant_to(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        fixture_order(&f, ORDER_EXIT, 0, 5, "");
        fixture_order(&f, ORDER_STATE, 0, 0, "failed");
        UNTIL(&f, ECS.state == UNIT_FAILED);
        EXPECT_EQ(ECS.intent, INTENT_NONE);
        EXPECT_EQ(ECS.exit_status, 5);
        EXPECT_EQ(ECS.restarts, 1);
        fixture_done(&f);
}

static void test_unit_with_a_stop_job_was_stopped(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        fixture_order(&f, ORDER_JOB, 0, 7, "stop");
        UNTIL(&f, ECS.job_running && ECS.intent == INTENT_STOPPED);
        fixture_order(&f, ORDER_STATE, 0, 0, "deactivating");
        fixture_order(&f, ORDER_STATE, 0, 0, "inactive");
        fixture_order(&f, ORDER_DONE, 0, 7, "");
        UNTIL(&f, ECS.state == UNIT_INACTIVE && !ECS.job_running);
        EXPECT_EQ(ECS.intent, INTENT_STOPPED);
        EXPECT_EQ(DOCKER.intent, INTENT_NONE);

        /* And when it is started again, and then dies, that was not meant. */
        fixture_order(&f, ORDER_JOB, 0, 8, "start");
        fixture_order(&f, ORDER_STATE, 0, 0, "active");
        fixture_settle(&f);
        fixture_order(&f, ORDER_DONE, 0, 8, "");
        fixture_order(&f, ORDER_STATE, 0, 0, "failed");
        UNTIL(&f, ECS.state == UNIT_FAILED);
        EXPECT_EQ(ECS.intent, INTENT_NONE);
        fixture_done(&f);
}

static void test_unit_that_is_restarted_was_not_stopped(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        fixture_order(&f, ORDER_JOB, 0, 7, "restart");
        fixture_order(&f, ORDER_STATE, 0, 0, "inactive");
        fixture_settle(&f);
        EXPECT_EQ(ECS.state, UNIT_INACTIVE);
        EXPECT_EQ(ECS.intent, INTENT_NONE);
        EXPECT(ECS.job_running);
        fixture_done(&f);
}

static void test_stop_that_is_called_off_leaves_nothing_behind(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        fixture_order(&f, ORDER_JOB, 0, 7, "stop");
        UNTIL(&f, ECS.intent == INTENT_STOPPED);
        fixture_order(&f, ORDER_DONE, 0, 7, "");
        fixture_order(&f, ORDER_STATE, 0, 0, "active");
        UNTIL(&f, ECS.intent == INTENT_NONE);
        fixture_done(&f);
}

static void test_job_that_was_gone_too_soon_is_not_known(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        fixture_order(&f, ORDER_JOB, 0, 7, "");
        fixture_order(&f, ORDER_STATE, 0, 0, "inactive");
        fixture_order(&f, ORDER_DONE, 0, 7, "");
        fixture_settle(&f);
        EXPECT_EQ(ECS.state, UNIT_INACTIVE);
        EXPECT_EQ(ECS.intent, INTENT_UNKNOWN);

        /* But not if it was ours. */
        fixture_order(&f, ORDER_STATE, 0, 0, "active");
        units_own_job(f.units);
        fixture_order(&f, ORDER_JOB, 0, 8, "");
        fixture_order(&f, ORDER_STATE, 0, 0, "inactive");
        fixture_order(&f, ORDER_DONE, 0, 8, "");
        fixture_settle(&f);
        EXPECT_EQ(ECS.intent, INTENT_NONE);

        /* And a stop that came after ours is one. */
        fixture_order(&f, ORDER_JOB, 0, 9, "");
        fixture_order(&f, ORDER_DONE, 0, 9, "");
        fixture_settle(&f);
        EXPECT_EQ(ECS.intent, INTENT_UNKNOWN);
        fixture_done(&f);
}

static void test_job_that_runs_already_is_read(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_order(&f, ORDER_QUIET_JOB, 0, 7, "stop");
        fixture_order(&f, ORDER_STATE, 0, 0, "deactivating");
        fixture_watch(&f);
        UNTIL(&f, f.n >= 1 && ECS.intent == INTENT_STOPPED);
        EXPECT(ECS.job_running);
        EXPECT_EQ(ECS.state, UNIT_DEACTIVATING);
        fixture_done(&f);
}

static void test_unit_that_is_disabled_or_masked_is_meant_to_be_down(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        EXPECT_EQ(ECS.intent, INTENT_NONE);
        fixture_order(&f, ORDER_FILE, 0, 0, "disabled");
        UNTIL(&f, ECS.intent == INTENT_DISABLED);
        fixture_order(&f, ORDER_FILE, 0, 0, "static");
        UNTIL(&f, ECS.intent == INTENT_NONE);
        fixture_order(&f, ORDER_FILE, 0, 0, "masked-runtime");
        UNTIL(&f, ECS.intent == INTENT_DISABLED);
        EXPECT_EQ(DOCKER.intent, INTENT_NONE);
        fixture_done(&f);
}

static void test_signals_of_others_are_not_believed(void) {
        const char *name = NULL;
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        EXPECT(sd_bus_get_unique_name(units_bus(f.units), &name) >= 0);
        fixture_order(&f, ORDER_FORGE, 0, 0, name);
        fixture_settle(&f);
        EXPECT_EQ(f.n, 1);
        EXPECT(!ECS.job_running);
        fixture_done(&f);
}

static void test_systemd_may_leave_the_bus_and_come_back(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        fixture_order(&f, ORDER_LEAVE, 0, 0, "");
        UNTIL(&f, f.last.sight == SIGHT_ABSENT);
        fixture_order(&f, ORDER_STATE, 0, 0, "failed");
        fixture_order(&f, ORDER_ENTER, 0, 0, "");
        UNTIL(&f, f.last.sight == SIGHT_CLEAR);
        EXPECT_EQ(ECS.state, UNIT_FAILED);
        EXPECT_EQ(ECS.intent, INTENT_UNKNOWN); /* it went down behind our back */
        fixture_done(&f);
}

static void test_units_says_when_it_is_not_allowed_to_look(void) {
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_order(&f, ORDER_HIDE, 0, 0, "");
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        EXPECT_EQ(f.last.sight, SIGHT_DENIED);
        fixture_done(&f);
}

static void test_bus_may_go_away_and_come_back(void) {
        char path[128];
        Fixture f;

        if (!fixture_init(&f))
                return;
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        closep(&f.fake_fd);
        f.fake_fd = -1;
        fixture_stop(&f.fake);
        fixture_stop(&f.bus);
        UNTIL(&f, f.last.sight == SIGHT_ABSENT && !units_bus(f.units));
        fixture_path(&f, "bus", path);
        (void) unlink(path);
        EXPECT(fixture_start_bus(&f) && fixture_start_fake(&f));
        UNTIL(&f, f.last.sight == SIGHT_CLEAR);
        EXPECT(units_bus(f.units));
        EXPECT_EQ(ECS.state, UNIT_ACTIVE);
        fixture_done(&f);
}

static void test_bus_that_is_not_there_is_absent(void) {
        Fixture f;

        fixture_init_bare(&f);
        fixture_watch(&f);
        UNTIL(&f, f.n == 1);
        EXPECT_EQ(f.last.sight, SIGHT_ABSENT);
        EXPECT(!units_bus(f.units));
        fixture_done(&f);
}

static void test_units_refuses_names_that_are_none(void) {
        Units *units = NULL;
        sd_event *event = NULL;

        EXPECT(sd_event_new(&event) >= 0);
        EXPECT_EQ(units_new(&units, event, "", "docker.service", NULL, fixture_on_sample, NULL), -EINVAL);
        EXPECT_EQ(units_new(&units, event, "ecs.service", "a',member='x", NULL, fixture_on_sample, NULL),
                -EINVAL);
        EXPECT(!units);
        sd_event_unref(event);
        EXPECT(!units_free(NULL));
}

/* The journal. */

typedef struct Entry {
        const char *unit, *job;
        unsigned pid;
        bool other_boot;
        unsigned id; /* JOB_ID */
} Entry;

/* Return: false if the tool that makes journal files is not there. */
static bool fixture_journal(Fixture *f, const Entry *entries, size_t n) {
        char output[160], boot[SD_ID128_STRING_MAX];
        sd_id128_t id = SD_ID128_NULL;
        int pipes[2], status = 0;
        FILE *file;
        pid_t pid;

        if (access(JOURNAL_REMOTE, X_OK) < 0) {
                printf("# skipped: no systemd-journal-remote\n");
                return false;
        }
        if (pipe(pipes) < 0)
                return false;
        (void) snprintf(output, sizeof(output), "--output=%s/j/x.journal", f->directory);
        pid = fork();
        if (pid == 0) {
                (void) dup2(pipes[0], STDIN_FILENO);
                (void) close(pipes[0]);
                (void) close(pipes[1]);
                (void) freopen("/dev/null", "w", stderr);
                execl(JOURNAL_REMOTE, JOURNAL_REMOTE, output, "-", (char *) NULL);
                _exit(127);
        }
        (void) close(pipes[0]);
        file = fdopen(pipes[1], "w");
        for (size_t i = 0; i < n; i++) {
                (void) sd_id128_get_boot(&id);
                if (entries[i].other_boot)
                        id.bytes[0] ^= 0xff;
                (void) fprintf(file,
                        "__REALTIME_TIMESTAMP=%zu\n__MONOTONIC_TIMESTAMP=%zu\n_BOOT_ID=%s\n_PID=%u\nUNIT=%"
                        "s\n"
                        "MESSAGE=entry %zu\n",
                        1700000000000000 + i * 1000000, 1000000 + i * 1000000, sd_id128_to_string(id, boot),
                        entries[i].pid, entries[i].unit, i);
                if (entries[i].job)
                        (void) fprintf(file, "JOB_TYPE=%s\nJOB_ID=%u\n", entries[i].job, entries[i].id);
                (void) fputc('\n', file);
        }
        (void) fclose(file);
        (void) waitpid(pid, &status, 0);
        EXPECT_EQ(status, 0);
        return true;
}

static void test_journal_tells_what_was_before_us(void) {
        static const struct {
                const char *what;
                Entry entries[4];
                Intent intent;
        } cases[] = {
                { "no entry", { {} }, INTENT_UNKNOWN },
                { "stopped", { { "ecs.service", "start", 1, false }, { "ecs.service", "stop", 1, false } },
                        INTENT_STOPPED },
                { "stopped and started",
                        { { "ecs.service", "stop", 1, false }, { "ecs.service", "start", 1, false } },
                        INTENT_NONE },
                { "an end without a job",
                        { { "ecs.service", "stop", 1, false }, { "ecs.service", "start", 1, false },
                                { "ecs.service", NULL, 1, false } },
                        INTENT_NONE },
                { "an end after a stop",
                        { { "ecs.service", "stop", 1, false }, { "ecs.service", NULL, 1, false } },
                        INTENT_STOPPED },
                { "restarted",
                        { { "ecs.service", "stop", 1, false }, { "ecs.service", "restart", 1, false } },
                        INTENT_NONE },
                { "reloaded", { { "ecs.service", "stop", 1, false }, { "ecs.service", "reload", 1, false } },
                        INTENT_STOPPED },
                { "of another boot", { { "ecs.service", "stop", 1, true } }, INTENT_UNKNOWN },
                { "of another unit", { { "docker.service", "stop", 1, false } }, INTENT_UNKNOWN },
                { "of another process", { { "ecs.service", "stop", 4711, false } }, INTENT_UNKNOWN },
                { "forged after it",
                        { { "ecs.service", "start", 1, false }, { "ecs.service", "stop", 4711, false } },
                        INTENT_NONE },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                size_t n = 0;
                Fixture f;

                while (n < ELEMENTSOF(cases[i].entries) && cases[i].entries[n].unit)
                        n++;
                if (!fixture_init(&f))
                        return;
                if (!fixture_journal(&f, cases[i].entries, n)) {
                        fixture_done(&f);
                        return;
                }
                fixture_order(&f, ORDER_STATE, 0, 0, "inactive");
                fixture_watch(&f);
                UNTIL(&f, f.n == 1);
                if (ECS.intent != cases[i].intent)
                        printf("# %s:\n", cases[i].what);
                EXPECT_EQ(ECS.state, UNIT_INACTIVE);
                EXPECT_EQ(ECS.intent, cases[i].intent);
                fixture_done(&f);
        }
}

static void test_journal_tells_of_a_job_that_was_gone_too_soon(void) {
        static const Entry entries[] = {
                { "ecs.service", "stop", 1, false, 7 },
                { "ecs.service", "stop", 1, false, 8 }, /* of a restart, which has one number all the way */
                { "ecs.service", "restart", 1, false, 8 },
                { "ecs.service", "start", 1, false, 9 },
        };
        static const struct {
                uint32_t job;
                Intent intent;
        } cases[] = { { 7, INTENT_STOPPED }, { 8, INTENT_NONE }, { 9, INTENT_NONE },
                { 10, INTENT_UNKNOWN } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f;

                if (!fixture_init(&f))
                        return;
                if (!fixture_journal(&f, entries, ELEMENTSOF(entries))) {
                        fixture_done(&f);
                        return;
                }
                fixture_watch(&f);
                UNTIL(&f, f.n == 1);
                EXPECT_EQ(ECS.intent, INTENT_NONE);
                fixture_order(&f, ORDER_JOB, 0, cases[i].job, "");
                fixture_order(&f, ORDER_STATE, 0, 0, "inactive");
                fixture_settle(&f);
                EXPECT_EQ(ECS.state, UNIT_INACTIVE);
                EXPECT_EQ(ECS.intent, cases[i].intent);
                fixture_done(&f);
        }
}

TEST_MAIN(TEST(test_units_reports_both_units), TEST(test_unit_that_fails_by_itself_was_not_meant_to),
        TEST(test_unit_with_a_stop_job_was_stopped), TEST(test_unit_that_is_restarted_was_not_stopped),
        TEST(test_stop_that_is_called_off_leaves_nothing_behind),
        TEST(test_job_that_was_gone_too_soon_is_not_known), TEST(test_job_that_runs_already_is_read),
        TEST(test_unit_that_is_disabled_or_masked_is_meant_to_be_down),
        TEST(test_signals_of_others_are_not_believed), TEST(test_systemd_may_leave_the_bus_and_come_back),
        TEST(test_units_says_when_it_is_not_allowed_to_look), TEST(test_bus_may_go_away_and_come_back),
        TEST(test_bus_that_is_not_there_is_absent), TEST(test_units_refuses_names_that_are_none),
        TEST(test_journal_tells_what_was_before_us),
        TEST(test_journal_tells_of_a_job_that_was_gone_too_soon))
