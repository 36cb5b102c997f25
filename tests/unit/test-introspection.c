/* SPDX-License-Identifier: Apache-2.0 */

/* What the introspection server's answers say, and what is said of it when it gives none. */

#include "agent/observe/introspection.h"
#include "common/loop.h"
#include "tests/unit/fake-resolver.h"
#include "tests/unit/fake-server.h"
#include "tests/unit/test.h"

#define ARN "arn:aws:ecs:us-west-2:123456789012:container-instance/example/0123456789abcdef0123456789abcdef"
#define METADATA(cluster, arn)                                                                              \
        "{\"Cluster\":\"" cluster "\",\"ContainerInstanceArn\":" arn                                        \
        ",\"Version\":\"Amazon ECS Agent - v1.105.1 (*a8b3e7d3)\"}"
#define REGISTERED METADATA("example", "\"" ARN "\"")
#define COMMANDS   "{\"AvailableCommands\":[\"/v1/metadata\",\"/v1/tasks\",\"/license\"]}"

/* --- What a body says --- */

static void test_metadata_names_cluster_arn_and_version(void) {
        static const struct {
                const char *body;
                const char *cluster, *arn, *version;
                bool registered;
        } cases[] = {
                { REGISTERED, "example", ARN, "1.105.1", true },
                { METADATA("arn:aws:ecs:us-west-2:123456789012:cluster/long-name", "\"" ARN "\""),
                        "long-name", ARN, "1.105.1", true },
                { METADATA("example", "null"), "example", "", "1.105.1", false },
                { METADATA("example", "\"\""), "example", "", "1.105.1", false },
                { "{\"Cluster\":\"\",\"ContainerInstanceArn\":null,\"Version\":\"\"}", "", "", "", false },
                { "{\"Cluster\":\"a\\u0026b\",\"ContainerInstanceArn\":\"x\",\"New\":[{}]}", "a&b", "x", "",
                        true },
                { "{\"Cluster\":\"c\",\"ContainerInstanceArn\":\"x\",\"Version\":\"2.0 (abc)\"}", "c", "x",
                        "2.0 (abc)", true },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char cluster[INTROSPECTION_TEXT_MAX], arn[INTROSPECTION_TEXT_MAX],
                        version[INTROSPECTION_TEXT_MAX];
                bool registered = !cases[i].registered;

                EXPECT_EQ(introspection_read_metadata(
                                  cases[i].body, strlen(cases[i].body), cluster, arn, version, &registered),
                        0);
                EXPECT_STR(cluster, cases[i].cluster);
                EXPECT_STR(arn, cases[i].arn);
                EXPECT_STR(version, cases[i].version);
                EXPECT_EQ(registered, cases[i].registered);
        }
}

static void test_metadata_refuses_what_is_something_else(void) {
        static const char *const cases[] = {
                COMMANDS,
                "",
                "{}",
                "[]",
                "null",
                "hello",
                "{\"Cluster\":\"example\"}",
                "{\"ContainerInstanceArn\":\"x\"}",
                "{\"cluster\":\"example\",\"containerinstancearn\":\"x\"}",
                "{\"Cluster\":1,\"ContainerInstanceArn\":\"x\"}",
                "{\"Cluster\":\"c\",\"ContainerInstanceArn\":{}}",
                "{\"Cluster\":\"c\",\"ContainerInstanceArn\":\"x\",\"Version\":1}",
                REGISTERED "x",
        };
        char cluster[INTROSPECTION_TEXT_MAX] = "", arn[INTROSPECTION_TEXT_MAX] = "",
             version[INTROSPECTION_TEXT_MAX] = "";
        bool registered = false;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                EXPECT_EQ(introspection_read_metadata(
                                  cases[i], strlen(cases[i]), cluster, arn, version, &registered),
                        -EBADMSG);
        EXPECT(!registered);
}

static void test_metadata_refuses_what_is_too_long(void) {
        static const char *const shapes[] = {
                "{\"Cluster\":\"%s\",\"ContainerInstanceArn\":\"x\",\"Version\":\"\"}",
                "{\"Cluster\":\"c\",\"ContainerInstanceArn\":\"%s\",\"Version\":\"\"}",
                "{\"Cluster\":\"c\",\"ContainerInstanceArn\":\"x\",\"Version\":\"%s\"}",
        };

        for (size_t i = 0; i < ELEMENTSOF(shapes); i++)
                for (size_t n = INTROSPECTION_TEXT_MAX - 1; n <= INTROSPECTION_TEXT_MAX; n++) {
                        char cluster[INTROSPECTION_TEXT_MAX], arn[INTROSPECTION_TEXT_MAX],
                                version[INTROSPECTION_TEXT_MAX];
                        char text[INTROSPECTION_TEXT_MAX + 1] = "", body[512];
                        bool registered = false;
                        char *split;

                        memset(text, 'a', n);
                        split = strstr(shapes[i], "%s");
                        (void) snprintf(body, sizeof(body), "%.*s%s%s", (int) (split - shapes[i]), shapes[i],
                                text, split + 2);
                        EXPECT_EQ(introspection_read_metadata(
                                          body, strlen(body), cluster, arn, version, &registered),
                                n < INTROSPECTION_TEXT_MAX ? 0 : -EBADMSG);
                }
}

#define TASK(arn, rest)                                                                                     \
        "{\"Arn\":\"" arn "\"," rest ",\"Family\":\"web\",\"Version\":\"1\",\"Containers\":[]}"

static void test_tasks_are_counted(void) {
        static const struct {
                const char *body;
                int32_t running, differing;
        } cases[] = {
                { "{\"Tasks\":[]}", 0, 0 },
                { "{\"Tasks\":[" TASK("a", "\"DesiredStatus\":\"RUNNING\",\"KnownStatus\":\"RUNNING\"") "]}",
                        1, 0 },
                { "{\"Tasks\":[" TASK("a", "\"KnownStatus\":\"RUNNING\"") "," TASK(
                          "b", "\"KnownStatus\":\"STOPPED\"") "]}",
                        1, 0 },
                { "{\"Tasks\":[" TASK(
                          "a", "\"DesiredStatus\":\"RUNNING\",\"KnownStatus\":\"PENDING\"") "," TASK("b",
                          "\"DesiredStatus\":\"STOPPED\",\"KnownStatus\":\"RUNNING\"") "]}",
                        1, 2 },
                { "{\"Tasks\":[" TASK("a", "\"DesiredStatus\":\"STOPPED\",\"KnownStatus\":\"STOPPED\"") "]}",
                        0, 0 },
                { "{\"Tasks\":[1,null,{},{\"Arn\":\"a\"},{\"Arn\":1,\"KnownStatus\":\"RUNNING\"}]}", 0, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                DifferingTasks differing = {};
                int32_t running = -1, stuck = -1;

                EXPECT_EQ(introspection_read_tasks(cases[i].body, strlen(cases[i].body), &differing,
                                  (Mono){ 1 }, &running, &stuck),
                        0);
                EXPECT_EQ(running, cases[i].running);
                EXPECT_EQ(stuck, 0);
                EXPECT_EQ(differing.n, cases[i].differing);
        }
}

static void test_tasks_refuses_what_is_something_else(void) {
        static const char *const cases[] = { COMMANDS, "", "{}", "[]", "{\"Tasks\":null}", "{\"Tasks\":{}}",
                "{\"Tasks\":[}", TASK("a", "\"KnownStatus\":\"RUNNING\"") };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                DifferingTasks differing = { .n = 1, .tasks = { { .hash = 7 } } };
                int32_t running = -1, stuck = -1;

                EXPECT_EQ(introspection_read_tasks(
                                  cases[i], strlen(cases[i]), &differing, (Mono){ 1 }, &running, &stuck),
                        -EBADMSG);
                EXPECT_EQ(running, -1);
                EXPECT_EQ(differing.n, 1);
        }
}

static int32_t stuck_at(DifferingTasks *differing, const char *body, Span at) {
        int32_t running = -1, stuck = -1;

        EXPECT_EQ(
                introspection_read_tasks(body, strlen(body), differing, (Mono){ at }, &running, &stuck), 0);
        return stuck;
}

static void test_a_task_is_stuck_after_differing_without_a_break(void) {
        static const char a[] =
                "{\"Tasks\":[" TASK("a", "\"DesiredStatus\":\"RUNNING\",\"KnownStatus\":\"PENDING\"") "]}";
        static const char both[] = "{\"Tasks\":[" TASK(
                "b", "\"DesiredStatus\":\"STOPPED\",\"KnownStatus\":\"RUNNING\"") "," TASK("a",
                "\"DesiredStatus\":\"RUNNING\",\"KnownStatus\":\"PENDING\"") "]}";
        static const char none[] =
                "{\"Tasks\":[" TASK("a", "\"DesiredStatus\":\"RUNNING\",\"KnownStatus\":\"RUNNING\"") "]}";
        DifferingTasks differing = {};

        EXPECT_EQ(stuck_at(&differing, a, SPAN_MIN(1)), 0);
        EXPECT_EQ(stuck_at(&differing, both, SPAN_MIN(2)), 0);
        EXPECT_EQ(stuck_at(&differing, both, SPAN_MIN(4) - 1), 0);
        EXPECT_EQ(stuck_at(&differing, both, SPAN_MIN(4)), 1);
        EXPECT_EQ(stuck_at(&differing, both, SPAN_MIN(5)), 2);
        EXPECT_EQ(stuck_at(&differing, a, SPAN_MIN(6)), 1);
        EXPECT_EQ(stuck_at(&differing, none, SPAN_MIN(7)), 0);
        EXPECT_EQ(differing.n, 0);
        EXPECT_EQ(stuck_at(&differing, a, SPAN_MIN(8)), 0);
        EXPECT_EQ(stuck_at(&differing, a, SPAN_MIN(10)), 0);
}

static char *many_tasks(unsigned n) {
        char *body = malloc((size_t) n * 400 + 64), *p = body;

        p += sprintf(p, "{\"Tasks\":[");
        for (unsigned i = 0; i < n; i++)
                p += sprintf(p,
                        "%s{\"Arn\":\"arn:%u\",\"DesiredStatus\":\"RUNNING\",\"KnownStatus\":\"%s\",\"Pad\":"
                        "\"%0*d\"}",
                        i ? "," : "", i, i % 2 ? "RUNNING" : "PENDING", 250, 0);
        (void) sprintf(p, "]}");
        return body;
}

static void test_no_more_tasks_are_watched_than_fit(void) {
        _cleanup_(freep) char *body = many_tasks(1000);
        DifferingTasks differing = {};

        EXPECT_EQ(stuck_at(&differing, body, SPAN_MIN(1)), 0);
        EXPECT_EQ(differing.n, INTROSPECTION_DIFFERING_MAX);
        EXPECT_EQ(stuck_at(&differing, body, SPAN_MIN(4)), INTROSPECTION_DIFFERING_MAX);
}

/* --- Asking --- */

typedef struct Fixture {
        sd_event *event;
        Helper *helper;
        Http *http;
        FakeServer *server;
        Introspection *introspection;
        unsigned n;
        Sample sample;
        bool free_in_handler;
} Fixture;

static void on_sample(const Sample *sample, void *userdata) {
        Fixture *f = userdata;

        f->n++;
        f->sample = *sample;
        EXPECT_EQ(sample->witness, WITNESS_INTROSPECTION);
        if (f->free_in_handler)
                f->introspection = introspection_free(f->introspection);
}

/* What the server says to either question; NULL: nothing, for ever. */
typedef struct Script {
        unsigned status;
        const char *metadata, *tasks;
        bool chunked, reset;
} Script;

static void answer_in_chunks(FakeConnection *c, const char *body) {
        char head[32];

        fake_send(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (size_t left = strlen(body); left > 0;) {
                size_t n = left < 4000 ? left : 4000;

                (void) snprintf(head, sizeof(head), "%zx\r\n", n);
                fake_send(c, head);
                fake_send_n(c, body, n);
                fake_send(c, "\r\n");
                body += n;
                left -= n;
        }
        fake_send(c, "0\r\n\r\n");
}

static bool serve(FakeConnection *c, const char *request) {
        const Script *script = c->server->userdata;
        const char *body;

        body = strncmp(request, "GET /v1/metadata ", 17) == 0 ? script->metadata
               : strncmp(request, "GET /v1/tasks ", 14) == 0  ? script->tasks
                                                              : COMMANDS;
        if (script->reset)
                return fake_reset(c);
        if (!body)
                return fake_hang(c);
        if (script->chunked)
                answer_in_chunks(c, body);
        else
                fake_answer(c, script->status ? script->status : 200, "", body);
        return true;
}

static Fixture fixture_open(const Script *script) {
        Fixture f = {};

        resolver_open();
        EXPECT_EQ(sd_event_new(&f.event), 0);
        EXPECT_EQ(helper_new(&f.helper, f.event), 0);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper, &(HttpOptions){ .user_agent = "test/1" }), 0);
        if (script)
                f.server = fake_start(serve, (void *) script, NULL, NULL);
        return f;
}

static void fixture_start(Fixture *f, const char *url) {
        EXPECT_EQ(
                introspection_new(&f->introspection, f->event, f->http, url, SPAN_HOUR(1), on_sample, f), 0);
        EXPECT_EQ(f->n, 0);
}

static void fixture_close(Fixture *f) {
        f->introspection = introspection_free(f->introspection);
        f->http = http_free(f->http);
        f->helper = helper_free(f->helper);
        if (f->server)
                fake_stop(f->server);
        f->event = sd_event_unref(f->event);
}

static void run_until(Fixture *f, unsigned n) {
        Mono end = mono_add(clock_read().mono, SPAN_SEC(20));

        while (f->n < n && mono_before(clock_read().mono, end))
                (void) sd_event_run(f->event, SPAN_MSEC(100));
        EXPECT_EQ(f->n, n);
}

static void test_ask_tells_of_a_registered_agent(void) {
        static const Script script = { .metadata = REGISTERED,
                .tasks = "{\"Tasks\":[" TASK(
                        "a", "\"DesiredStatus\":\"RUNNING\",\"KnownStatus\":\"RUNNING\"") "]}" };
        Fixture f = fixture_open(&script);

        fixture_start(&f, f.server->url);
        EXPECT_STR(introspection_cluster(f.introspection), "");
        run_until(&f, 1);
        EXPECT_EQ(f.sample.sight, SIGHT_CLEAR);
        EXPECT_EQ(f.sample.introspection.metadata, ANSWER_GOOD);
        EXPECT_EQ(f.sample.introspection.tasks, ANSWER_GOOD);
        EXPECT(f.sample.introspection.registered);
        EXPECT_EQ(f.sample.introspection.tasks_running, 1);
        EXPECT_EQ(f.sample.introspection.tasks_stuck, 0);
        EXPECT_STR(introspection_cluster(f.introspection), "example");
        EXPECT_STR(introspection_arn(f.introspection), ARN);
        EXPECT_STR(introspection_version(f.introspection), "1.105.1");

        introspection_soon(f.introspection);
        run_until(&f, 2);
        EXPECT_EQ(f.server->requests, 4);
        fixture_close(&f);
}

static void test_ask_takes_large_answers_in_chunks(void) {
        _cleanup_(freep) char *body = many_tasks(2000);
        const Script script = { .metadata = REGISTERED, .tasks = body, .chunked = true };
        Fixture f = fixture_open(&script);

        fixture_start(&f, f.server->url);
        run_until(&f, 1);
        EXPECT_EQ(f.sample.introspection.tasks, ANSWER_GOOD);
        EXPECT_EQ(f.sample.introspection.tasks_running, 1000);
        fixture_close(&f);
}

static void test_ask_knows_wrong_answers(void) {
        static const Script scripts[] = {
                { .metadata = COMMANDS, .tasks = COMMANDS },
                { .metadata = REGISTERED, .tasks = "{\"Tasks\":[]}", .status = 500 },
                { .metadata = "", .tasks = "{\"Tasks\":null}" },
                { .reset = true },
        };

        for (size_t i = 0; i < ELEMENTSOF(scripts); i++) {
                Fixture f = fixture_open(&scripts[i]);

                fixture_start(&f, f.server->url);
                run_until(&f, 1);
                EXPECT_EQ(f.sample.sight, SIGHT_CLEAR);
                EXPECT_EQ(f.sample.introspection.metadata, ANSWER_WRONG);
                EXPECT_EQ(f.sample.introspection.tasks, ANSWER_WRONG);
                EXPECT(!f.sample.introspection.registered);
                EXPECT_EQ(f.sample.introspection.tasks_running, -1);
                EXPECT_EQ(f.sample.introspection.tasks_stuck, -1);
                EXPECT_STR(introspection_cluster(f.introspection), "");
                fixture_close(&f);
        }
}

static void test_ask_knows_a_closed_port(void) {
        Fixture f = fixture_open(NULL);
        char url[64];
        unsigned port = 0;
        int fd = fake_closed_port(&port);

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
        fixture_start(&f, url);
        run_until(&f, 1);
        EXPECT_EQ(f.sample.sight, SIGHT_CLEAR);
        EXPECT_EQ(f.sample.introspection.metadata, ANSWER_REFUSED);
        EXPECT_EQ(f.sample.introspection.tasks, ANSWER_NONE);
        fixture_close(&f);
        (void) close(fd);
}

static void test_ask_knows_a_deadlocked_engine(void) {
        static const Script script = { .metadata = REGISTERED };
        Fixture f = fixture_open(&script);

        fixture_start(&f, f.server->url);
        run_until(&f, 1);
        EXPECT_EQ(f.sample.introspection.metadata, ANSWER_GOOD);
        EXPECT_EQ(f.sample.introspection.tasks, ANSWER_HUNG);
        EXPECT(f.sample.introspection.registered);
        EXPECT_EQ(f.sample.introspection.tasks_running, -1);
        fixture_close(&f);
}

static void test_ask_says_when_it_could_not(void) {
        Fixture f = fixture_open(NULL);

        fixture_start(&f, "no url");
        run_until(&f, 1);
        EXPECT_EQ(f.sample.sight, SIGHT_FAILED);
        fixture_close(&f);
}

static void test_ask_may_be_freed_at_any_time(void) {
        static const Script script = { .metadata = REGISTERED, .tasks = "{\"Tasks\":[]}" };
        Fixture f = fixture_open(&script);

        f.free_in_handler = true;
        fixture_start(&f, f.server->url);
        run_until(&f, 1);
        EXPECT(!f.introspection);

        f.n = 0;
        fixture_start(&f, f.server->url);
        while (f.server->requests < 3)
                (void) sd_event_run(f.event, SPAN_MSEC(10));
        f.introspection = introspection_free(f.introspection);
        while (sd_event_run(f.event, 0) > 0)
                ;
        EXPECT_EQ(f.n, 0);
        fixture_close(&f);
}

TEST_MAIN(TEST(test_metadata_names_cluster_arn_and_version),
        TEST(test_metadata_refuses_what_is_something_else), TEST(test_metadata_refuses_what_is_too_long),
        TEST(test_tasks_are_counted), TEST(test_tasks_refuses_what_is_something_else),
        TEST(test_a_task_is_stuck_after_differing_without_a_break),
        TEST(test_no_more_tasks_are_watched_than_fit), TEST(test_ask_tells_of_a_registered_agent),
        TEST(test_ask_takes_large_answers_in_chunks), TEST(test_ask_knows_wrong_answers),
        TEST(test_ask_knows_a_closed_port), TEST(test_ask_knows_a_deadlocked_engine),
        TEST(test_ask_says_when_it_could_not), TEST(test_ask_may_be_freed_at_any_time))
