/* SPDX-License-Identifier: Apache-2.0 */

/* Where our own way to the control plane breaks, and that any HTTP answer at its end is one. */

#include "agent/observe/path.h"
#include "common/loop.h"
#include "tests/unit/fake-resolver.h"
#include "tests/unit/fake-server.h"
#include "tests/unit/test.h"

typedef struct Fixture {
        sd_event *event;
        Helper *helper;
        Http *http;
        FakeServer *server;
        Path *path;
        char directory[64];
        char pem[96];
        unsigned n;
        Sample sample;
        bool free_in_handler;
} Fixture;

static void on_sample(const Sample *sample, void *userdata) {
        Fixture *f = userdata;

        f->n++;
        f->sample = *sample;
        EXPECT_EQ(sample->witness, WITNESS_PATH);
        if (f->free_in_handler)
                f->path = path_free(f->path);
}

static bool serve(FakeConnection *c, const char *request) {
        static const char padding[1000];
        const char *answer = c->server->userdata;

        if (strncmp(request, "GET / HTTP/1.1\r\n", 16) != 0 || strcasestr(request, "\r\nauthorization:"))
                return false;
        fake_send(c, answer);
        if (strstr(answer, "Length: 100000"))
                for (unsigned i = 0; i < 100; i++)
                        fake_send_n(c, padding, sizeof(padding));
        return true;
}

#define FORBIDDEN "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"

/* @trusted: its certificate is the one that the client believes in */
static Fixture fixture_open(const char *answer, bool tls, bool trusted) {
        Fixture f = { .directory = "/tmp/test-path-XXXXXX" };

        resolver_open();
        resolver->broken = resolver->silent = false;
        EXPECT(mkdtemp(f.directory));
        (void) snprintf(f.pem, sizeof(f.pem), "%s/ca.pem", f.directory);
        EXPECT_EQ(sd_event_new(&f.event), 0);
        EXPECT_EQ(helper_new(&f.helper, f.event), 0);
        if (answer)
                f.server = fake_start(serve, (void *) answer, NULL, tls ? f.pem : NULL);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper,
                          &(HttpOptions){ .user_agent = "test/1", .ca_bundle = trusted ? f.pem : NULL }),
                0);
        EXPECT_EQ(path_new(&f.path, f.event, f.http, on_sample, &f), 0);
        return f;
}

static void fixture_close(Fixture *f) {
        f->path = path_free(f->path);
        f->http = http_free(f->http);
        f->helper = helper_free(f->helper);
        if (f->server)
                fake_stop(f->server);
        f->event = sd_event_unref(f->event);
        (void) unlink(f->pem);
        EXPECT_EQ(rmdir(f->directory), 0);
}

static void run_until(Fixture *f, unsigned n) {
        Mono end = mono_add(clock_read().mono, SPAN_SEC(20));

        while (f->n < n && mono_before(clock_read().mono, end))
                (void) sd_event_run(f->event, SPAN_MSEC(100));
        EXPECT(f->n >= n);
}

/* The fixture has moved since its path was made. */
static int watch(Fixture *f, const char *host, unsigned port, bool plain, Span every) {
        f->path = path_free(f->path);
        EXPECT_EQ(path_new(&f->path, f->event, f->http, on_sample, f), 0);
        return path_watch(f->path, host, (uint16_t) port, plain, every);
}

static void test_any_answer_is_a_way(void) {
        static const char *const answers[] = {
                FORBIDDEN,
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 400 Bad\r\nContent-Length: 100000\r\n\r\n",
        };

        for (size_t i = 0; i < ELEMENTSOF(answers); i++)
                for (unsigned tls = 0; tls < 2; tls++) {
                        Fixture f = fixture_open(answers[i], tls, tls);

                        EXPECT_EQ(watch(&f, "good.test", f.server->port, !tls, SPAN_HOUR(1)), 0);
                        EXPECT_EQ(f.n, 0);
                        run_until(&f, 1);
                        EXPECT_EQ(f.sample.sight, SIGHT_CLEAR);
                        EXPECT_EQ(f.sample.path.answer, PATH_WORKS);
                        EXPECT(f.sample.path.took > 0);
                        fixture_close(&f);
                }
}

static void test_a_name_that_is_not_known_is_told(void) {
        Fixture f = fixture_open(NULL, false, false);

        EXPECT_EQ(watch(&f, "gone.test", 443, false, SPAN_HOUR(1)), 0);
        run_until(&f, 1);
        EXPECT_EQ(f.sample.path.answer, PATH_NO_NAME);
        fixture_close(&f);
}

static void test_a_closed_port_is_no_tcp(void) {
        Fixture f = fixture_open(NULL, false, false);
        unsigned port = 0;
        int fd = fake_closed_port(&port);

        EXPECT_EQ(watch(&f, "good.test", port, false, SPAN_HOUR(1)), 0);
        run_until(&f, 1);
        EXPECT_EQ(f.sample.path.answer, PATH_NO_TCP);
        EXPECT_EQ(watch(&f, "::1", port, true, SPAN_HOUR(1)), 0);
        run_until(&f, 2);
        EXPECT_EQ(f.sample.path.answer, PATH_NO_TCP);
        fixture_close(&f);
        (void) close(fd);
}

static void test_a_stranger_in_its_place_is_no_way(void) {
        Fixture f = fixture_open(FORBIDDEN, true, false);

        /* A certificate that nobody vouches for. */
        EXPECT_EQ(watch(&f, "good.test", f.server->port, false, SPAN_HOUR(1)), 0);
        run_until(&f, 1);
        EXPECT_EQ(f.sample.path.answer, PATH_NO_TLS);
        fixture_close(&f);

        /* One of another name. */
        f = fixture_open(FORBIDDEN, true, true);
        EXPECT_EQ(watch(&f, "other.test", f.server->port, false, SPAN_HOUR(1)), 0);
        run_until(&f, 1);
        EXPECT_EQ(f.sample.path.answer, PATH_NO_TLS);
        fixture_close(&f);

        /* Something else than HTTP. */
        f = fixture_open("SSH-2.0-x\r\n", true, true);
        EXPECT_EQ(watch(&f, "good.test", f.server->port, false, SPAN_HOUR(1)), 0);
        run_until(&f, 1);
        EXPECT_EQ(f.sample.path.answer, PATH_NO_TLS);
        fixture_close(&f);
}

static void test_each_question_takes_a_new_connection(void) {
        Fixture f = fixture_open(FORBIDDEN, false, false);

        EXPECT_EQ(watch(&f, "good.test", f.server->port, true, SPAN_MSEC(20)), 0);
        run_until(&f, 3);
        EXPECT(f.server->accepts >= 3);
        fixture_close(&f);
}

static void test_watching_the_same_again_changes_nothing(void) {
        Fixture f = fixture_open(FORBIDDEN, false, false);

        EXPECT_EQ(watch(&f, "good.test", f.server->port, true, SPAN_HOUR(1)), 0);
        run_until(&f, 1);
        EXPECT_EQ(path_watch(f.path, "good.test", (uint16_t) f.server->port, true, SPAN_HOUR(1)), 0);
        while (sd_event_run(f.event, 0) > 0)
                ;
        EXPECT_EQ(f.n, 1);
        /* A new one is asked at once. */
        EXPECT_EQ(path_watch(f.path, "other.test", (uint16_t) f.server->port, true, SPAN_HOUR(1)), 0);
        run_until(&f, 2);
        EXPECT_EQ(f.sample.path.answer, PATH_WORKS);
        /* And after a rest the same one, too. */
        path_rest(f.path);
        EXPECT_EQ(path_watch(f.path, "other.test", (uint16_t) f.server->port, true, SPAN_HOUR(1)), 0);
        run_until(&f, 3);
        fixture_close(&f);
}

static void test_nothing_is_asked_at_rest(void) {
        Fixture f = fixture_open(FORBIDDEN, false, false);

        EXPECT_EQ(watch(&f, "good.test", f.server->port, true, SPAN_MSEC(20)), 0);
        while (f.server->requests < 1)
                (void) sd_event_run(f.event, SPAN_MSEC(5));
        path_rest(f.path);
        f.n = 0;
        while (sd_event_run(f.event, 0) > 0)
                ;
        EXPECT_EQ(f.n, 0);
        fixture_close(&f);
}

static void test_hosts_that_do_not_fit_into_a_url_are_refused(void) {
        static const char *const hosts[] = { "", "a b", "a/b", "user@host", "a?b", "a#b", "a%00b", "a\nb",
                "[::1]" };
        Fixture f = fixture_open(NULL, false, false);
        char host[300];

        for (size_t i = 0; i < ELEMENTSOF(hosts); i++)
                EXPECT_EQ(watch(&f, hosts[i], 443, false, SPAN_MIN(1)), -EINVAL);
        EXPECT_EQ(watch(&f, "good.test", 0, false, SPAN_MIN(1)), -EINVAL);
        EXPECT_EQ(watch(&f, "good.test", 443, false, 0), -EINVAL);
        memset(host, 'a', sizeof(host));
        host[256] = '\0';
        EXPECT_EQ(watch(&f, host, 443, false, SPAN_MIN(1)), -EINVAL);
        fixture_close(&f);
}

static void test_it_may_be_freed_by_its_handler(void) {
        Fixture f = fixture_open(FORBIDDEN, false, false);

        f.free_in_handler = true;
        EXPECT_EQ(watch(&f, "good.test", f.server->port, true, SPAN_HOUR(1)), 0);
        run_until(&f, 1);
        EXPECT(!f.path);
        fixture_close(&f);
}

TEST_MAIN(TEST(test_any_answer_is_a_way), TEST(test_a_name_that_is_not_known_is_told),
        TEST(test_a_closed_port_is_no_tcp), TEST(test_a_stranger_in_its_place_is_no_way),
        TEST(test_each_question_takes_a_new_connection), TEST(test_watching_the_same_again_changes_nothing),
        TEST(test_nothing_is_asked_at_rest), TEST(test_hosts_that_do_not_fit_into_a_url_are_refused),
        TEST(test_it_may_be_freed_by_its_handler))
