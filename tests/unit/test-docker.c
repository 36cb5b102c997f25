/* SPDX-License-Identifier: Apache-2.0 */

/* dockerd that answers, half answers, hangs, refuses, and is not there. */

#include <sys/stat.h>

#include "agent/observe/docker.h"
#include "common/loop.h"
#include "tests/unit/fake-resolver.h"
#include "tests/unit/fake-server.h"
#include "tests/unit/test.h"

typedef struct Fixture {
        sd_event *event;
        Helper *helper;
        Http *http;
        FakeServer *server;
        Docker *docker;
        char directory[64];
        char socket[96];
        unsigned n;
        Sample sample;
        bool free_in_handler;
} Fixture;

static void on_sample(const Sample *sample, void *userdata) {
        Fixture *f = userdata;

        f->n++;
        f->sample = *sample;
        EXPECT_EQ(sample->witness, WITNESS_DOCKER);
        if (f->free_in_handler)
                f->docker = docker_free(f->docker);
}

/* NULL: no answer, ever. */
typedef struct Script {
        const char *ping, *list;
        unsigned ping_status, list_status;
} Script;

static bool serve(FakeConnection *c, const char *request) {
        const Script *script = c->server->userdata;
        bool list = strncmp(request, "GET /containers/json?limit=1 ", 29) == 0;
        const char *body = list ? script->list : script->ping;
        unsigned status = list ? script->list_status : script->ping_status;

        if (!list && strncmp(request, "GET /_ping ", 11) != 0)
                status = 404;
        if (!body)
                return fake_hang(c);
        fake_answer(c, status ? status : 200, "", body);
        return true;
}

static Fixture fixture_open(const Script *script) {
        Fixture f = { .directory = "/tmp/test-docker-XXXXXX" };

        resolver_open();
        EXPECT(mkdtemp(f.directory));
        (void) snprintf(f.socket, sizeof(f.socket), "%s/docker.sock", f.directory);
        EXPECT_EQ(sd_event_new(&f.event), 0);
        EXPECT_EQ(helper_new(&f.helper, f.event), 0);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper, &(HttpOptions){ .user_agent = "test/1" }), 0);
        if (script)
                f.server = fake_start(serve, (void *) script, f.socket, NULL);
        return f;
}

static void run_until(Fixture *f, unsigned n) {
        Mono end = mono_add(clock_read().mono, SPAN_SEC(20));

        while (f->n < n && mono_before(clock_read().mono, end))
                (void) sd_event_run(f->event, SPAN_MSEC(100));
        EXPECT_EQ(f->n, n);
}

static void fixture_start(Fixture *f, Span every) {
        EXPECT_EQ(docker_new(&f->docker, f->event, f->http, f->socket, every, on_sample, f), 0);
        EXPECT_EQ(f->n, 0);
}

static void fixture_close(Fixture *f) {
        f->docker = docker_free(f->docker);
        f->http = http_free(f->http);
        f->helper = helper_free(f->helper);
        if (f->server)
                fake_stop(f->server);
        f->event = sd_event_unref(f->event);
        (void) unlink(f->socket);
        EXPECT_EQ(rmdir(f->directory), 0);
}

static void test_a_round_tells_of_both_answers(void) {
        static const struct {
                Script script;
                Answer ping, list;
        } cases[] = {
                { { "OK", "[]\n", 0, 0 }, ANSWER_GOOD, ANSWER_GOOD },
                { { "OK", "[{\"Id\":\"0\"}]", 0, 0 }, ANSWER_GOOD, ANSWER_GOOD },
                { { "OK", "{\"message\":\"no\"}", 0, 500 }, ANSWER_GOOD, ANSWER_WRONG },
                { { "OK", "<html>", 0, 0 }, ANSWER_GOOD, ANSWER_WRONG },
                { { "OK", "", 0, 0 }, ANSWER_GOOD, ANSWER_WRONG },
                { { "no", "[]", 503, 0 }, ANSWER_WRONG, ANSWER_GOOD },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open(&cases[i].script);

                fixture_start(&f, SPAN_HOUR(1));
                run_until(&f, 1);
                EXPECT_EQ(f.sample.sight, SIGHT_CLEAR);
                EXPECT_EQ(f.sample.docker.ping, cases[i].ping);
                EXPECT_EQ(f.sample.docker.list, cases[i].list);
                EXPECT(f.sample.docker.ping_time >= 0 && f.sample.docker.ping_time < SPAN_SEC(5));
                fixture_close(&f);
        }
}

static void test_rounds_follow_each_other(void) {
        static const Script script = { "OK", "[]", 0, 0 };
        Fixture f = fixture_open(&script);

        fixture_start(&f, SPAN_MSEC(20));
        run_until(&f, 3);
        /* On the connections of the first. */
        EXPECT(f.server->accepts <= 2);
        fixture_close(&f);
}

/* Both cases take the whole deadline, so they wait together. */
static void test_a_question_that_hangs_does_not_hide_the_other(void) {
        static const Script no_list = { "OK", NULL, 0, 0 }, no_ping = { NULL, "[]", 0, 0 };
        Fixture a = fixture_open(&no_list), b = fixture_open(&no_ping);
        Mono end = mono_add(clock_read().mono, SPAN_SEC(20));

        fixture_start(&a, SPAN_HOUR(1));
        fixture_start(&b, SPAN_HOUR(1));
        while ((a.n == 0 || b.n == 0) && mono_before(clock_read().mono, end)) {
                (void) sd_event_run(a.event, SPAN_MSEC(20));
                (void) sd_event_run(b.event, SPAN_MSEC(20));
        }
        EXPECT_EQ(a.sample.docker.ping, ANSWER_GOOD);
        EXPECT_EQ(a.sample.docker.list, ANSWER_HUNG);
        EXPECT(a.sample.docker.ping_time < SPAN_SEC(5));
        EXPECT_EQ(b.sample.docker.ping, ANSWER_HUNG);
        EXPECT_EQ(b.sample.docker.list, ANSWER_GOOD);
        EXPECT_EQ(b.sample.docker.ping_time, SPAN_SEC(5));
        fixture_close(&a);
        fixture_close(&b);
}

static void test_a_missing_socket_is_absent(void) {
        Fixture f = fixture_open(NULL);

        fixture_start(&f, SPAN_HOUR(1));
        run_until(&f, 1);
        EXPECT_EQ(f.sample.sight, SIGHT_ABSENT);
        EXPECT_EQ(f.sample.docker.ping_time, -1);
        fixture_close(&f);
}

static void test_a_socket_without_a_server_refuses(void) {
        static const Script script = { "OK", "[]", 0, 0 };
        Fixture f = fixture_open(&script);

        fake_stop(f.server);
        f.server = NULL;
        fixture_start(&f, SPAN_HOUR(1));
        run_until(&f, 1);
        EXPECT_EQ(f.sample.sight, SIGHT_CLEAR);
        EXPECT_EQ(f.sample.docker.ping, ANSWER_REFUSED);
        EXPECT_EQ(f.sample.docker.list, ANSWER_REFUSED);
        EXPECT_EQ(f.sample.docker.ping_time, -1);
        fixture_close(&f);
}

static void test_a_forbidden_socket_is_denied(void) {
        static const Script script = { "OK", "[]", 0, 0 };
        Fixture f;

        if (geteuid() == 0) {
                printf("# root may talk to every socket\n");
                return;
        }
        f = fixture_open(&script);
        EXPECT_EQ(chmod(f.socket, 0), 0);
        fixture_start(&f, SPAN_HOUR(1));
        run_until(&f, 1);
        EXPECT_EQ(f.sample.sight, SIGHT_DENIED);
        fixture_close(&f);
}

static void test_it_may_be_freed_at_any_time(void) {
        static const Script script = { "OK", "[]", 0, 0 };
        Fixture f = fixture_open(&script);

        f.free_in_handler = true;
        fixture_start(&f, SPAN_HOUR(1));
        run_until(&f, 1);
        EXPECT(!f.docker);
        f.n = 0;
        fixture_start(&f, SPAN_HOUR(1));
        while (f.server->requests < 3)
                (void) sd_event_run(f.event, SPAN_MSEC(10));
        f.docker = docker_free(f.docker);
        while (sd_event_run(f.event, 0) > 0)
                ;
        EXPECT_EQ(f.n, 0);
        fixture_close(&f);
}

TEST_MAIN(TEST(test_a_round_tells_of_both_answers), TEST(test_rounds_follow_each_other),
        TEST(test_a_question_that_hangs_does_not_hide_the_other), TEST(test_a_missing_socket_is_absent),
        TEST(test_a_socket_without_a_server_refuses), TEST(test_a_forbidden_socket_is_denied),
        TEST(test_it_may_be_freed_at_any_time))
