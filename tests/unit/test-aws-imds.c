/* SPDX-License-Identifier: Apache-2.0 */

/* The metadata client against a service that wants tokens, forgets them, throttles, refuses and lies. */

#include "common/aws-imds.h"
#include "common/loop.h"
#include "tests/unit/fake-server.h"
#include "tests/unit/test.h"

#define TOKEN "AQAEAJ2Hq4c="

typedef struct Seen {
        unsigned n;
        int error;
        char text[256];
        ImdsCall *call;
} Seen;

static void on_answer(const ImdsAnswer *answer, void *userdata) {
        Seen *seen = userdata;

        seen->call = imds_call_free(seen->call);
        seen->n++;
        seen->error = answer->error;
        EXPECT_EQ(answer->text[answer->n], 0);
        (void) snprintf(seen->text, sizeof(seen->text), "%s", answer->text);
}

typedef struct Fixture {
        sd_event *event;
        Helper *helper;
        Http *http;
        Imds *imds;
        FakeServer *server;
} Fixture;

/* What the service does next; counts are used up. */
static atomic_uint tokens, token_failures, item_failures, token_status, item_status, forget;

static bool serve(FakeConnection *c, const char *request) {
        if (strncmp(request, "PUT /latest/api/token ", 22) == 0) {
                if (!strstr(request, "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n")) {
                        fake_answer(c, 400, "", "no ttl");
                        return true;
                }
                tokens++;
                if (token_failures > 0) {
                        token_failures--;
                        fake_answer(c, token_status, "", "no token");
                } else
                        fake_answer(c, 200, "Content-Type: text/plain\r\n", TOKEN);
                return true;
        }
        if (!strstr(request, "X-aws-ec2-metadata-token: " TOKEN "\r\n") || forget > 0) {
                forget -= forget > 0;
                fake_answer(c, 401, "", "no token");
        } else if (item_failures > 0) {
                item_failures--;
                if (item_status == 0)
                        return false;
                fake_answer(c, item_status, "Location: /latest/meta-data/instance-id\r\n", "trouble");
        } else if (strncmp(request, "GET /latest/meta-data/instance-id ", 34) == 0)
                fake_answer(c, 200, "", "i-0123456789abcdef0");
        else
                fake_answer(c, 404, "", "no such item");
        return true;
}

static bool serve_bad_token(FakeConnection *c, const char *request) {
        const char *body = c->server->userdata;

        (void) request;
        fake_answer(c, 200, "", body);
        return true;
}

static Fixture fixture_open(FakeHandler handler, void *userdata) {
        Fixture f = {};

        tokens = token_failures = item_failures = token_status = item_status = forget = 0;
        EXPECT_EQ(sd_event_new(&f.event), 0);
        EXPECT_EQ(helper_new(&f.helper, f.event), 0);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper, &(HttpOptions){ .https_proxy = "127.0.0.1:1" }), 0);
        f.server = fake_start(handler, userdata, NULL, NULL);
        EXPECT_EQ(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f.server->url, 1), 0);
        EXPECT_EQ(unsetenv("AWS_EC2_METADATA_DISABLED"), 0);
        EXPECT_EQ(imds_new(&f.imds, f.event, f.http), 0);
        return f;
}

static void fixture_close(Fixture *f) {
        f->imds = imds_free(f->imds);
        f->http = http_free(f->http);
        f->helper = helper_free(f->helper);
        fake_stop(f->server);
        f->event = sd_event_unref(f->event);
}

static void run_until(Fixture *f, const unsigned *done, unsigned n) {
        Mono end = mono_add(clock_read().mono, SPAN_SEC(20));

        while (*done < n && mono_before(clock_read().mono, end))
                (void) sd_event_run(f->event, SPAN_MSEC(100));
        EXPECT_EQ(*done, n);
}

static Seen get(Fixture *f, const char *path) {
        Seen seen = {};

        EXPECT_EQ(imds_get(f->imds, path, on_answer, &seen, &seen.call), 0);
        EXPECT_EQ(seen.n, 0);
        run_until(f, &seen.n, 1);
        return seen;
}

static void test_an_item_is_got_with_one_token_for_all(void) {
        Fixture f = fixture_open(serve, NULL);

        for (unsigned i = 0; i < 3; i++) {
                Seen seen = get(&f, "/latest/meta-data/instance-id");

                EXPECT_EQ(seen.error, 0);
                EXPECT_STR(seen.text, "i-0123456789abcdef0");
        }
        EXPECT_EQ(tokens, 1);
        EXPECT_EQ(f.server->accepts, 1);
        fixture_close(&f);
}

static void test_a_missing_item_is_asked_for_once(void) {
        Fixture f = fixture_open(serve, NULL);
        Seen seen = get(&f, "/latest/meta-data/spot/instance-action");

        EXPECT_EQ(seen.error, -ENOENT);
        EXPECT_STR(seen.text, "");
        EXPECT_EQ(f.server->requests, 2);
        fixture_close(&f);
}

static void test_a_refused_token_is_renewed_once(void) {
        Fixture f = fixture_open(serve, NULL);

        EXPECT_EQ(get(&f, "/latest/meta-data/instance-id").error, 0);
        forget = 1;
        EXPECT_EQ(get(&f, "/latest/meta-data/instance-id").error, 0);
        EXPECT_EQ(tokens, 2);
        forget = 2;
        EXPECT_EQ(get(&f, "/latest/meta-data/instance-id").error, -EACCES);
        EXPECT_EQ(tokens, 3);
        fixture_close(&f);
}

static void test_passing_trouble_is_tried_three_times(void) {
        static const struct {
                unsigned status, failures;
                int error;
                unsigned requests; /* the first of them for a token */
        } cases[] = {
                { 503, 2, 0, 4 },
                { 503, 3, -EAGAIN, 4 },
                { 429, 1, 0, 3 },
                { 500, 2, 0, 4 },
                { 0, 2, 0, 0 }, /* cut off; curl by itself tries again on a new connection */
                { 403, 1, -EACCES, 2 },
                { 404, 1, -ENOENT, 2 },
                { 400, 1, -EPROTO, 2 },
                { 302, 1, -EPROTO, 2 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open(serve, NULL);

                item_status = cases[i].status;
                item_failures = cases[i].failures;
                EXPECT_EQ(get(&f, "/latest/meta-data/instance-id").error, cases[i].error);
                if (cases[i].requests > 0)
                        EXPECT_EQ(f.server->requests, cases[i].requests);
                fixture_close(&f);
        }
}

static void test_trouble_with_the_token_ends_the_call(void) {
        static const struct {
                unsigned status, failures;
                int error;
        } cases[] = {
                { 503, 2, 0 },
                { 503, 3, -EAGAIN },
                { 403, 1, -EACCES },
                { 400, 1, -EPROTO },
                { 404, 1, -EPROTO },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open(serve, NULL);

                token_status = cases[i].status;
                token_failures = cases[i].failures;
                EXPECT_EQ(get(&f, "/latest/meta-data/instance-id").error, cases[i].error);
                fixture_close(&f);
        }
}

static void test_a_token_that_is_none_is_refused(void) {
        static char bodies[][600] = { "", "a b", "a\r\nX-Evil: 1", "<html>no tokens here</html>", "\x80",
                "x" };

        (void) memset(bodies[ELEMENTSOF(bodies) - 1], 'x', 599);
        for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
                Fixture f = fixture_open(serve_bad_token, bodies[i]);

                EXPECT_EQ(get(&f, "/latest/meta-data/instance-id").error, -EPROTO);
                EXPECT_EQ(f.server->requests, 1);
                fixture_close(&f);
        }
}

static void test_nobody_there_is_an_error_in_the_end(void) {
        Fixture f = fixture_open(serve, NULL);
        unsigned port;
        int fd = fake_closed_port(&port);
        char url[64];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/", port);
        EXPECT_EQ(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1), 0);
        f.imds = imds_free(f.imds);
        EXPECT_EQ(imds_new(&f.imds, f.event, f.http), 0);
        EXPECT_EQ(get(&f, "/latest/meta-data/instance-id").error, -ECONNREFUSED);
        (void) close(fd);
        fixture_close(&f);
}

static void test_switched_off_or_misnamed_it_is_not_asked(void) {
        Fixture f = fixture_open(serve, NULL);

        EXPECT_EQ(setenv("AWS_EC2_METADATA_DISABLED", "TRUE", 1), 0);
        f.imds = imds_free(f.imds);
        EXPECT_EQ(imds_new(&f.imds, f.event, f.http), 0);
        EXPECT_EQ(get(&f, "/latest/meta-data/instance-id").error, -EACCES);
        EXPECT_EQ(unsetenv("AWS_EC2_METADATA_DISABLED"), 0);

        EXPECT_EQ(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "gopher://nowhere", 1), 0);
        f.imds = imds_free(f.imds);
        EXPECT_EQ(imds_new(&f.imds, f.event, f.http), 0);
        EXPECT_EQ(get(&f, "/latest/meta-data/instance-id").error, -EINVAL);
        EXPECT_EQ(f.server->accepts, 0);
        fixture_close(&f);
}

static void test_errors_say_where_to_look(void) {
        EXPECT(strstr(imds_error_to_string(-EACCES), "AWS_EC2_METADATA_DISABLED") != NULL);
        EXPECT(strstr(imds_error_to_string(-EINVAL), "AWS_EC2_METADATA_SERVICE_ENDPOINT") != NULL);
        EXPECT_STR(imds_error_to_string(-ETIMEDOUT), strerror(ETIMEDOUT));
}

static void test_a_freed_call_is_never_answered(void) {
        Fixture f = fixture_open(serve, NULL);
        Seen first = {}, last = {};

        EXPECT_EQ(imds_get(f.imds, "/latest/meta-data/instance-id", on_answer, &first, &first.call), 0);
        EXPECT_EQ(imds_get(f.imds, "/latest/meta-data/instance-id", on_answer, &last, &last.call), 0);
        first.call = imds_call_free(first.call);
        run_until(&f, &last.n, 1);
        EXPECT_EQ(imds_get(f.imds, "/latest/meta-data/instance-id", on_answer, &last, &last.call), 0);
        f.imds = imds_free(f.imds);
        last.call = imds_call_free(last.call);
        EXPECT_EQ(first.n, 0);
        EXPECT(!imds_call_free(NULL));
        EXPECT(!imds_free(NULL));
        fixture_close(&f);
}

TEST_MAIN(TEST(test_an_item_is_got_with_one_token_for_all), TEST(test_a_missing_item_is_asked_for_once),
        TEST(test_a_refused_token_is_renewed_once), TEST(test_passing_trouble_is_tried_three_times),
        TEST(test_trouble_with_the_token_ends_the_call), TEST(test_a_token_that_is_none_is_refused),
        TEST(test_nobody_there_is_an_error_in_the_end), TEST(test_switched_off_or_misnamed_it_is_not_asked),
        TEST(test_errors_say_where_to_look), TEST(test_a_freed_call_is_never_answered))
