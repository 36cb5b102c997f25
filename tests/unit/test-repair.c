/* SPDX-License-Identifier: Apache-2.0 */

/* A restart is asked for once, by a systemd played over a socket pair; each end has its outcome. */

#include "agent/act/repair.h"

#include <sys/socket.h>
#include <time.h>

#include "common/clock.h"
#include "tests/unit/test.h"

/** Both ends of a bus, and what systemd shall say. */
typedef struct World {
        sd_event *event;
        sd_bus *client, *server;
        const char *error; /* name; NULL: take the job */
        bool mute;
        unsigned n_calls;
        char unit[64], mode[64];
} World;

typedef struct Seen {
        unsigned n;
        Outcome outcome;
        char detail[128];
        Repair **free;
} Seen;

static int on_restart(sd_bus_message *call, void *userdata, sd_bus_error *ret_error) {
        World *world = userdata;
        const char *unit = NULL, *mode = NULL;

        EXPECT(sd_bus_message_read(call, "ss", &unit, &mode) > 0);
        (void) snprintf(world->unit, sizeof(world->unit), "%s", unit);
        (void) snprintf(world->mode, sizeof(world->mode), "%s", mode);
        world->n_calls++;
        if (world->mute)
                return 1;
        if (world->error)
                return sd_bus_error_set(ret_error, world->error, "because");
        return sd_bus_reply_method_return(call, "o", "/org/freedesktop/systemd1/job/7");
}

static const sd_bus_vtable manager[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("RestartUnit", "ss", "o", on_restart, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static void world_open(World *world) {
        sd_id128_t id = SD_ID128_MAKE(00, 01, 02, 03, 04, 05, 06, 07, 08, 09, 0a, 0b, 0c, 0d, 0e, 0f);
        int fds[2] = { -1, -1 };

        EXPECT_EQ(sd_event_new(&world->event), 0);
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        EXPECT_EQ(sd_bus_new(&world->server), 0);
        EXPECT_EQ(sd_bus_set_fd(world->server, fds[0], fds[0]), 0);
        EXPECT_EQ(sd_bus_set_server(world->server, 1, id), 0);
        EXPECT_EQ(sd_bus_set_anonymous(world->server, 1), 0);
        EXPECT_EQ(sd_bus_start(world->server), 0);
        EXPECT(sd_bus_attach_event(world->server, world->event, 0) >= 0);
        EXPECT(sd_bus_add_object_vtable(world->server, NULL, "/org/freedesktop/systemd1",
                       "org.freedesktop.systemd1.Manager", manager, world) >= 0);
        EXPECT_EQ(sd_bus_new(&world->client), 0);
        EXPECT_EQ(sd_bus_set_fd(world->client, fds[1], fds[1]), 0);
        EXPECT_EQ(sd_bus_set_anonymous(world->client, 1), 0);
        EXPECT_EQ(sd_bus_start(world->client), 0);
        EXPECT(sd_bus_attach_event(world->client, world->event, 0) >= 0);
}

static void world_close(World *world) {
        sd_bus_close_unref(world->client);
        sd_bus_close_unref(world->server);
        sd_event_unref(world->event);
}

static void on_done(Outcome outcome, const char *detail, void *userdata) {
        Seen *seen = userdata;

        seen->n++;
        seen->outcome = outcome;
        (void) snprintf(seen->detail, sizeof(seen->detail), "%s", detail);
        if (seen->free)
                *seen->free = repair_free(*seen->free);
}

/* Runs the loop until the callback was called, or nothing happens for @patience. */
static void run(World *world, const Seen *seen, Span patience) {
        while (seen->n == 0 && sd_event_run(world->event, (uint64_t) patience) > 0)
                ;
}

/* Lets both ends finish their greetings. */
static void run_idle(World *world) {
        while (sd_event_run(world->event, (uint64_t) SPAN_MSEC(20)) > 0)
                ;
}

static void test_repair_restarts_the_unit_once(void) {
        World world = {};
        Seen seen = {};
        Repair *repair = NULL;

        world_open(&world);
        EXPECT_EQ(repair_start(&repair, world.event, world.client, "ecs.service", on_done, &seen), 0);
        EXPECT_EQ(seen.n, 0); /* never from within */
        run(&world, &seen, SPAN_SEC(5));
        EXPECT_EQ(seen.n, 1);
        EXPECT_EQ(seen.outcome, OUTCOME_OK);
        EXPECT_STR(seen.detail, "/org/freedesktop/systemd1/job/7");
        EXPECT_EQ(world.n_calls, 1);
        EXPECT_STR(world.unit, "ecs.service");
        EXPECT_STR(world.mode, "replace");
        repair_free(repair);
        world_close(&world);
}

static void test_repair_each_error_has_its_outcome(void) {
        static const struct {
                const char *error;
                Outcome outcome;
        } cases[] = {
                { SD_BUS_ERROR_ACCESS_DENIED, OUTCOME_DENIED },
                { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, OUTCOME_DENIED },
                { SD_BUS_ERROR_SERVICE_UNKNOWN, OUTCOME_UNAVAILABLE },
                { SD_BUS_ERROR_NO_REPLY, OUTCOME_LOST },
                { SD_BUS_ERROR_TIMEOUT, OUTCOME_LOST },
                { "org.freedesktop.systemd1.NoSuchUnit", OUTCOME_REFUSED },
                { "org.freedesktop.systemd1.UnitMasked", OUTCOME_REFUSED },
                { "org.example.Never.Heard.Of", OUTCOME_REFUSED },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                World world = { .error = cases[i].error };
                Seen seen = {};
                Repair *repair = NULL;

                world_open(&world);
                EXPECT_EQ(
                        repair_start(&repair, world.event, world.client, "ecs.service", on_done, &seen), 0);
                run(&world, &seen, SPAN_SEC(5));
                EXPECT_EQ(seen.n, 1);
                EXPECT_EQ(seen.outcome, cases[i].outcome);
                EXPECT_STR(seen.detail, "because");
                repair_free(repair);
                world_close(&world);
        }
}

static void test_repair_without_a_bus_is_answered_from_the_loop(void) {
        World world = {};
        Seen seen = {};
        Repair *repair = NULL;

        world_open(&world);
        EXPECT_EQ(repair_start(&repair, world.event, NULL, "ecs.service", on_done, &seen), 0);
        EXPECT_EQ(seen.n, 0);
        run(&world, &seen, SPAN_SEC(5));
        EXPECT_EQ(seen.n, 1);
        EXPECT_EQ(seen.outcome, OUTCOME_UNAVAILABLE);
        EXPECT(seen.detail[0]);
        repair_free(repair);
        world_close(&world);
}

static void test_repair_on_a_closed_bus_is_unavailable(void) {
        World world = {};
        Seen seen = {};
        Repair *repair = NULL;

        world_open(&world);
        run_idle(&world);
        sd_bus_close(world.client);
        EXPECT_EQ(repair_start(&repair, world.event, world.client, "ecs.service", on_done, &seen), 0);
        run(&world, &seen, SPAN_SEC(5));
        EXPECT_EQ(seen.n, 1);
        EXPECT_EQ(seen.outcome, OUTCOME_UNAVAILABLE);
        repair_free(repair);
        world_close(&world);
}

static void test_repair_is_lost_when_the_bus_goes_away(void) {
        World world = { .mute = true };
        Seen seen = {};
        Repair *repair = NULL;

        world_open(&world);
        EXPECT_EQ(repair_start(&repair, world.event, world.client, "ecs.service", on_done, &seen), 0);
        while (world.n_calls == 0 && sd_event_run(world.event, (uint64_t) SPAN_SEC(5)) > 0)
                ;
        EXPECT_EQ(world.n_calls, 1);
        sd_bus_close(world.server);
        run(&world, &seen, SPAN_SEC(5));
        EXPECT_EQ(seen.n, 1);
        EXPECT_EQ(seen.outcome, OUTCOME_LOST);
        repair_free(repair);
        world_close(&world);
}

static void test_repair_waits_ten_seconds_at_most(void) {
        World world = { .mute = true };
        Seen seen = {};
        Repair *repair = NULL;
        struct timespec now = {};
        uint64_t deadline = 0, left;

        world_open(&world);
        run_idle(&world);
        EXPECT_EQ(repair_start(&repair, world.event, world.client, "ecs.service", on_done, &seen), 0);
        run_idle(&world);
        EXPECT_EQ(seen.n, 0);
        EXPECT(sd_bus_get_timeout(world.client, &deadline) >= 0);
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        left = deadline - ((uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000);
        EXPECT(left > (uint64_t) SPAN_SEC(1) && left <= (uint64_t) SPAN_SEC(10));
        repair_free(repair);
        world_close(&world);
}

static void test_repair_freed_is_never_answered(void) {
        World world = {};
        Seen seen = {};
        Repair *repair = NULL;

        world_open(&world);
        EXPECT_EQ(repair_start(&repair, world.event, world.client, "ecs.service", on_done, &seen), 0);
        repair = repair_free(repair);
        run_idle(&world);
        EXPECT_EQ(repair_start(&repair, world.event, NULL, "ecs.service", on_done, &seen), 0);
        repair = repair_free(repair);
        run_idle(&world);
        EXPECT_EQ(seen.n, 0);
        EXPECT(!repair_free(NULL));
        world_close(&world);
}

static void test_repair_may_be_freed_in_its_callback(void) {
        World world = {};
        Repair *repair = NULL;
        Seen seen = { .free = &repair };

        world_open(&world);
        EXPECT_EQ(repair_start(&repair, world.event, world.client, "ecs.service", on_done, &seen), 0);
        run(&world, &seen, SPAN_SEC(5));
        EXPECT_EQ(seen.n, 1);
        EXPECT(!repair);
        seen.n = 0;
        EXPECT_EQ(repair_start(&repair, world.event, NULL, "ecs.service", on_done, &seen), 0);
        run(&world, &seen, SPAN_SEC(5));
        EXPECT_EQ(seen.n, 1);
        EXPECT(!repair);
        world_close(&world);
}

TEST_MAIN(TEST(test_repair_restarts_the_unit_once), TEST(test_repair_each_error_has_its_outcome),
        TEST(test_repair_without_a_bus_is_answered_from_the_loop),
        TEST(test_repair_on_a_closed_bus_is_unavailable), TEST(test_repair_is_lost_when_the_bus_goes_away),
        TEST(test_repair_waits_ten_seconds_at_most), TEST(test_repair_freed_is_never_answered),
        TEST(test_repair_may_be_freed_in_its_callback))
