/* SPDX-License-Identifier: Apache-2.0 */

/* The HTTP client against a server that answers well, badly, slowly and not at all. */

#include <curl/curl.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/http.h"
#include "common/loop.h"
#include "tests/unit/fake-clock.h"
#include "tests/unit/fake-resolver.h"
#include "tests/unit/fake-server.h"
#include "tests/unit/test.h"

#define GOOD "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

typedef struct Seen {
        unsigned n;
        HttpAnswer answer;
        char body[4096];
        HttpCall *call;   /* freed in the callback */
        HttpCall **other; /* likewise */
} Seen;

static void on_answer(const HttpAnswer *answer, void *userdata) {
        Seen *seen = userdata;

        seen->call = http_call_free(seen->call);
        if (seen->other)
                *seen->other = http_call_free(*seen->other);
        seen->n++;
        seen->answer = *answer;
        EXPECT_EQ(answer->body[answer->n_body], 0);
        (void) snprintf(seen->body, sizeof(seen->body), "%s", answer->body);
}

typedef struct Fixture {
        sd_event *event;
        Helper *helper;
        Http *http;
        FakeServer *server;
        char directory[32];
        char pem[64];
} Fixture;

static Fixture fixture_open_with(FakeHandler handler, bool tls, const HttpOptions *options) {
        Fixture f = { .directory = "/tmp/test-http-XXXXXX" };
        HttpOptions o = options ? *options : (HttpOptions){ .user_agent = "test/1" };

        resolver_open();
        resolver->broken = resolver->silent = false;
        resolver->asked = 0;
        EXPECT(mkdtemp(f.directory) != NULL);
        (void) snprintf(f.pem, sizeof(f.pem), "%s/ca.pem", f.directory);
        EXPECT_EQ(sd_event_new(&f.event), 0);
        EXPECT_EQ(helper_new(&f.helper, f.event), 0);
        if (handler)
                f.server = fake_start(handler, NULL, NULL, tls ? f.pem : NULL);
        if (tls && !o.ca_bundle)
                o.ca_bundle = f.pem;
        EXPECT_EQ(http_new(&f.http, f.event, f.helper, &o), 0);
        return f;
}

static Fixture fixture_open(FakeHandler handler) {
        return fixture_open_with(handler, false, NULL);
}

static void fixture_close(Fixture *f) {
        f->http = http_free(f->http);
        f->helper = helper_free(f->helper);
        if (f->server)
                fake_stop(f->server);
        (void) unlink(f->pem);
        EXPECT_EQ(rmdir(f->directory), 0);
        f->event = sd_event_unref(f->event);
        /* libcurl has never resolved a name by itself. */
        EXPECT_EQ(resolver->trespass, 0);
}

static void run_until(Fixture *f, const unsigned *done, unsigned n) {
        Mono end = mono_add(clock_read().mono, SPAN_SEC(20));

        while (*done < n && mono_before(clock_read().mono, end))
                (void) sd_event_run(f->event, SPAN_MSEC(100));
        EXPECT_EQ(*done, n);
}

static HttpRequest request_to(const char *url) {
        return (HttpRequest){ .method = "GET", .url = url, .timeout = SPAN_SEC(10), .max_body = 4000 };
}

/* Runs @request to its end. */
static Seen fetch(Fixture *f, const HttpRequest *request) {
        Seen seen = {};

        EXPECT_EQ(http_call(f->http, request, on_answer, &seen, &seen.call), 0);
        EXPECT_EQ(seen.n, 0);
        run_until(f, &seen.n, 1);
        return seen;
}

static Seen fetch_url(Fixture *f, const char *url) {
        HttpRequest request = request_to(url);

        return fetch(f, &request);
}

/* One server for all kinds of answers: the path picks the script. */

static const struct {
        const char *path;
        const char *answer;
        bool keep;
        int error;
        unsigned status;
        const char *body;
} scripts[] = {
        { "/length", GOOD, true, 0, 200, "hello" },
        { "/chunked",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
                true, 0, 200, "hello" },
        { "/until-close", "HTTP/1.0 200 OK\r\n\r\nhello", false, 0, 200, "hello" },
        { "/empty", "HTTP/1.1 204 No Content\r\n\r\n", true, 0, 204, "" },
        { "/interim", "HTTP/1.1 103 Early\r\nDate: no\r\n\r\n" GOOD, true, 0, 200, "hello" },
        { "/500", "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno", true, 0, 500, "no" },
        { "/redirect", "HTTP/1.1 302 Found\r\nLocation: /length\r\nContent-Length: 0\r\n\r\n", true, 0, 302,
                "" },
        { "/cut-length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", false, -EPROTO, 0, "hello" },
        { "/cut-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhel", false, -EPROTO, 0,
                "hel" },
        { "/bad-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhel", false, -EPROTO, 0,
                "" },
        { "/no-http", "220 mail.example ESMTP\r\n", false, -EPROTO, 0, "" },
        { "/nothing", "", false, -ECONNRESET, 0, "" },
        { "/switch", "HTTP/1.1 101 Switching\r\n\r\n", false, -EPROTO, 0, "" },
};

static bool serve_scripts(FakeConnection *c, const char *request) {
        for (size_t i = 0; i < ELEMENTSOF(scripts); i++) {
                size_t n = strlen(scripts[i].path);

                if (strncmp(request + 4, scripts[i].path, n) == 0 && request[4 + n] == ' ') {
                        fake_send(c, scripts[i].answer);
                        return scripts[i].keep;
                }
        }
        fake_answer(c, 404, "", "no such script");
        return true;
}

static void test_answers_of_all_shapes_come_whole_or_as_an_error(void) {
        Fixture f = fixture_open(serve_scripts);

        for (size_t i = 0; i < ELEMENTSOF(scripts); i++) {
                char url[128];
                Seen seen;

                (void) snprintf(url, sizeof(url), "%s%s", f.server->url, scripts[i].path);
                seen = fetch_url(&f, url);
                if (seen.answer.error != scripts[i].error || seen.answer.status != scripts[i].status)
                        printf("# script %s: %s\n", scripts[i].path, seen.answer.detail);
                EXPECT_EQ(seen.answer.error, scripts[i].error);
                EXPECT_EQ(seen.answer.status, scripts[i].status);
                EXPECT(seen.answer.sent);
                if (scripts[i].error == 0)
                        EXPECT_STR(seen.body, scripts[i].body);
                else
                        EXPECT(seen.answer.detail[0] != 0);
        }
        fixture_close(&f);
}

static bool serve_good(FakeConnection *c, const char *request) {
        (void) request;
        fake_send(c, GOOD);
        return true;
}

static bool serve_hang(FakeConnection *c, const char *request) {
        (void) request;
        return fake_hang(c);
}

static bool serve_reset(FakeConnection *c, const char *request) {
        (void) request;
        return fake_reset(c);
}

static void test_connections_are_kept_alive_and_counted(void) {
        Fixture f = fixture_open(serve_good);
        HttpStatistics statistics;

        for (unsigned i = 0; i < 5; i++)
                EXPECT_EQ(fetch_url(&f, f.server->url).answer.error, 0);
        EXPECT_EQ(f.server->accepts, 1);
        EXPECT_EQ(f.server->requests, 5);
        http_statistics(f.http, &statistics);
        EXPECT_EQ(statistics.requests, 5);
        EXPECT_EQ(statistics.connections, 1);
        EXPECT(statistics.bytes_sent > 250);
        EXPECT_EQ(statistics.bytes_received, 5 * strlen(GOOD));
        fixture_close(&f);
}

static void test_a_fresh_request_uses_a_connection_of_its_own(void) {
        Fixture f = fixture_open(serve_good);
        HttpRequest fresh = request_to(f.server->url);

        fresh.fresh = true;
        (void) fetch_url(&f, f.server->url);
        (void) fetch(&f, &fresh);
        (void) fetch(&f, &fresh);
        (void) fetch_url(&f, f.server->url);
        EXPECT_EQ(f.server->accepts, 3);
        fixture_close(&f);
}

static void test_a_fresh_request_is_never_sent_twice(void) {
        Fixture f = fixture_open(serve_reset);
        HttpRequest fresh = request_to(f.server->url);
        Seen seen;

        fresh.fresh = true;
        seen = fetch(&f, &fresh);
        EXPECT_EQ(seen.answer.error, -ECONNRESET);
        EXPECT(seen.answer.sent);
        EXPECT_EQ(f.server->requests, 1);
        fixture_close(&f);
}

static void test_a_request_goes_out_as_it_was_written(void) {
        static const char *const headers[] = { "X-One: 1", "Content-Type: application/x-amz-json-1.1",
                NULL };
        char body[2001];
        Fixture f = fixture_open(serve_good);
        HttpRequest request = request_to(f.server->url);

        (void) memset(body, 'x', sizeof(body));
        request.method = "POST";
        request.headers = headers;
        request.body = body;
        request.n_body = 2000; /* beyond 1 MB curl alone would ask for a "100 Continue" first */
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT(strncmp(f.server->last, "POST / HTTP/1.1\r\n", 17) == 0);
        EXPECT(strstr(f.server->last, "\r\nX-One: 1\r\n") != NULL);
        EXPECT(strstr(f.server->last, "\r\nUser-Agent: test/1\r\n") != NULL);
        EXPECT(strstr(f.server->last, "\r\nContent-Length: 2000\r\n") != NULL);
        EXPECT(strstr(f.server->last, "json-1.1\r\n") != NULL);
        EXPECT(strstr(f.server->last, "urlencoded") == NULL);
        EXPECT(strstr(f.server->last, "Expect") == NULL);
        EXPECT_EQ(strlen(strstr(f.server->last, "\r\n\r\n") + 4), 2000);

        request = request_to(f.server->url);
        request.method = "PUT";
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT(strncmp(f.server->last, "PUT / ", 6) == 0);
        EXPECT(strstr(f.server->last, "\r\nContent-Length: 0\r\n") != NULL);
        EXPECT(strstr(f.server->last, "Content-Type") == NULL);
        fixture_close(&f);
}

static void test_a_head_request_waits_for_no_body(void) {
        Fixture f = fixture_open(serve_good);
        HttpRequest request = request_to(f.server->url);
        Seen seen;

        request.method = "HEAD";
        seen = fetch(&f, &request);
        EXPECT_EQ(seen.answer.error, 0);
        EXPECT_EQ(seen.answer.status, 200);
        EXPECT_EQ(seen.answer.n_body, 0);
        fixture_close(&f);
}

static void test_bad_urls_and_headers_are_refused(void) {
        static const char *const urls[] = { "", "nonsense", "ftp://127.0.0.1/", "file:///etc/passwd",
                "http://", "http://user:secret@127.0.0.1/", "http://127.0.0.1:99999/", "http://a b/",
                "http://a\r\nb/" };
        static const char *const headers[][2] = { { "A: b\r\nC: d" }, { "A: b\nc" }, { "A: \x01" },
                { "A: \x7f" } };
        Fixture f = fixture_open(NULL);
        HttpCall *call = NULL;
        Seen seen = {};

        for (size_t i = 0; i < ELEMENTSOF(urls); i++) {
                HttpRequest request = request_to(urls[i]);

                EXPECT_EQ(http_call(f.http, &request, on_answer, &seen, &call), -EINVAL);
        }
        for (size_t i = 0; i < ELEMENTSOF(headers); i++) {
                HttpRequest request = request_to("http://127.0.0.1/");

                request.headers = headers[i];
                EXPECT_EQ(http_call(f.http, &request, on_answer, &seen, &call), -EINVAL);
        }
        EXPECT(!call);
        fixture_close(&f);
}

static bool serve_fields(FakeConnection *c, const char *request) {
        char field[1000] = "X-Amzn-RequestId: ";

        (void) request;
        (void) memset(field + strlen(field), 'r', 900);
        (void) memcpy(field + 900, "\r\n", 3);
        fake_send(c,
                "HTTP/1.1 400 Bad\r\ndate:   Mon, 23 Nov 2026 00:30:24 GMT  \r\nContent-Type: text/\x80\r\n"
                "x-amzn-query-error: Throttling;Sender\r\n");
        fake_send(c, field);
        fake_send(c, "Content-Length: 0\r\n\r\n");
        return true;
}

static void test_the_wanted_header_fields_are_kept(void) {
        Fixture f = fixture_open(serve_fields);
        Seen seen = fetch_url(&f, f.server->url);

        EXPECT_EQ(seen.answer.status, 400);
        EXPECT_STR(seen.answer.date, "Mon, 23 Nov 2026 00:30:24 GMT");
        EXPECT_STR(seen.answer.content_type, "text/?");
        EXPECT_STR(seen.answer.query_error, "Throttling;Sender");
        EXPECT_EQ(strlen(seen.answer.request_id), HTTP_HEADER_MAX - 1);
        fixture_close(&f);
}

static bool serve_big(FakeConnection *c, const char *request) {
        char line[1024];

        if (strstr(request, "/fields")) {
                fake_send(c, "HTTP/1.1 200 OK\r\n");
                (void) snprintf(line, sizeof(line), "X-A: %0900d\r\n", 1);
                for (unsigned i = 0; i < 1000; i++)
                        fake_send(c, line);
                return false;
        }
        fake_send(c, "HTTP/1.1 200 OK\r\n\r\n");
        (void) memset(line, 'x', sizeof(line));
        for (unsigned i = 0; i < (strstr(request, "/endless") ? 100000 : 4); i++)
                fake_send_n(c, line, sizeof(line));
        return false;
}

static void test_an_answer_over_the_limit_ends_the_call(void) {
        Fixture f = fixture_open(serve_big);
        char url[128];
        HttpRequest request = request_to(url);

        (void) snprintf(url, sizeof(url), "%s/4096", f.server->url);
        request.max_body = 4096;
        EXPECT_EQ(fetch(&f, &request).answer.n_body, 4096);
        request.max_body = 4095;
        EXPECT_EQ(fetch(&f, &request).answer.error, -E2BIG);
        (void) snprintf(url, sizeof(url), "%s/endless", f.server->url);
        EXPECT_EQ(fetch(&f, &request).answer.error, -E2BIG);
        (void) snprintf(url, sizeof(url), "%s/fields", f.server->url);
        EXPECT_EQ(fetch(&f, &request).answer.error, -E2BIG);
        fixture_close(&f);
}

static bool serve_drip(FakeConnection *c, const char *request) {
        struct pollfd closed = { .fd = c->fd, .events = POLLIN };

        (void) request;
        fake_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while (poll(&closed, 1, 5) == 0)
                fake_send(c, "x");
        return false;
}

static void test_a_slow_or_hung_server_is_a_timeout(void) {
        static const FakeHandler handlers[] = { serve_drip, serve_hang };

        for (size_t i = 0; i < ELEMENTSOF(handlers); i++) {
                Fixture f = fixture_open(handlers[i]);
                HttpRequest request = request_to(f.server->url);
                Seen seen;

                request.timeout = SPAN_MSEC(100);
                seen = fetch(&f, &request);
                EXPECT_EQ(seen.answer.error, -ETIMEDOUT);
                EXPECT(seen.answer.sent);
                EXPECT(seen.answer.took >= SPAN_MSEC(95));
                EXPECT(seen.answer.took < SPAN_SEC(5));
                fixture_close(&f);
        }
}

static void test_a_refused_connection_has_sent_nothing(void) {
        Fixture f = fixture_open(NULL);
        unsigned port;
        int fd = fake_closed_port(&port);
        char url[64];
        Seen seen;

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/", port);
        seen = fetch_url(&f, url);
        EXPECT_EQ(seen.answer.error, -ECONNREFUSED);
        EXPECT(!seen.answer.sent);
        EXPECT_EQ(seen.answer.status, 0);
        (void) close(fd);
        fixture_close(&f);
}

/* Names. */

static char *url_of(char buffer[static 128], const Fixture *f, const char *scheme, const char *host) {
        (void) snprintf(buffer, 128, "%s://%s:%u/", scheme, host, f->server->port);
        return buffer;
}

static void test_names_are_looked_up_by_the_helper(void) {
        static const struct {
                const char *host;
                int error;
                unsigned asked;
        } cases[] = {
                { "127.0.0.1", 0, 0 },
                { "localhost", 0, 0 },
                { "x.localhost", 0, 0 },
                { "2130706433", 0, 0 }, /* curl makes 127.0.0.1 of it */
                { "[::1]", -ECONNREFUSED, 0 },
                { "good.test", 0, 1 },
                { "two.test", 0, 1 }, /* nobody listens at the first address */
                { "six.test", -ECONNREFUSED, 1 },
                { "gone.test", -ENXIO, 1 },
                { "failing.test", -EHOSTUNREACH, 1 },
        };
        Fixture f = fixture_open(serve_good);
        char url[128];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Seen seen;

                resolver->asked = 0;
                seen = fetch_url(&f, url_of(url, &f, "http", cases[i].host));
                if (seen.answer.error != cases[i].error)
                        printf("# %s: %s\n", cases[i].host, seen.answer.detail);
                EXPECT_EQ(seen.answer.error, cases[i].error);
                EXPECT_EQ(seen.answer.sent, cases[i].error == 0);
                EXPECT_EQ(resolver->asked, cases[i].asked);
        }
        fixture_close(&f);
}

static void test_a_known_name_is_not_asked_for_again(void) {
        Fixture f = fixture_open(serve_good);
        HttpRequest request;
        char url[128];

        request = request_to(url_of(url, &f, "http", "good.test"));
        request.fresh = true;
        for (unsigned i = 0; i < 3; i++)
                EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT_EQ(resolver->asked, 1);
        EXPECT_EQ(f.server->accepts, 3);
        fixture_close(&f);
}

/* The loop reads the clock when it wakes up. */
static void clock_forward(Fixture *f, int64_t seconds) {
        fake_clock_forward(seconds);
        (void) sd_event_run(f->event, 0);
}

static void test_a_name_in_use_is_asked_for_once_a_minute(void) {
        Fixture f = fixture_open(serve_good);
        char url[128];

        (void) url_of(url, &f, "http", "good.test");
        EXPECT_EQ(fetch_url(&f, url).answer.error, 0);
        clock_forward(&f, 59);
        EXPECT_EQ(fetch_url(&f, url).answer.error, 0);
        EXPECT_EQ(resolver->asked, 1);
        clock_forward(&f, 2);
        EXPECT_EQ(fetch_url(&f, url).answer.error, 0);
        EXPECT_EQ(resolver->asked, 2);
        fixture_close(&f);
}

static void test_old_addresses_are_used_when_the_resolver_fails(void) {
        Fixture f = fixture_open(serve_good);
        unsigned port;
        int fd = fake_closed_port(&port);
        char good[128], refused[128];
        HttpRequest request = request_to(url_of(good, &f, "http", "good.test"));

        request.fresh = true;
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        resolver->broken = true;

        /* A failure to connect has it asked anew ... */
        (void) snprintf(refused, sizeof(refused), "http://good.test:%u/", port);
        EXPECT_EQ(fetch_url(&f, refused).answer.error, -ECONNREFUSED);
        EXPECT_EQ(resolver->asked, 1);
        /* ... and although there is no answer, the old address still does. */
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT_EQ(resolver->asked, 2);
        /* Not so for a name that never was resolved. */
        EXPECT_EQ(fetch_url(&f, url_of(good, &f, "http", "other.test")).answer.error, -EHOSTUNREACH);

        /* The same with a resolver that hangs. */
        resolver->silent = true;
        request.url = url_of(good, &f, "http", "good.test");
        request.timeout = SPAN_MSEC(400);
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        request.url = url_of(good, &f, "http", "other.test");
        EXPECT_EQ(fetch(&f, &request).answer.error, -EHOSTUNREACH);
        (void) close(fd);
        fixture_close(&f);
}

static void test_a_hung_resolver_does_not_hold_up_other_calls(void) {
        Fixture f = fixture_open(serve_good);
        Seen hung = {}, good;
        HttpRequest request = request_to("http://silent.test/");

        request.timeout = SPAN_MSEC(600);
        EXPECT_EQ(http_call(f.http, &request, on_answer, &hung, &hung.call), 0);
        good = fetch_url(&f, f.server->url);
        EXPECT_EQ(good.answer.error, 0);
        EXPECT_EQ(hung.n, 0);
        run_until(&f, &hung.n, 1);
        EXPECT_EQ(hung.answer.error, -EHOSTUNREACH);
        EXPECT(hung.answer.took < SPAN_MSEC(600) + SPAN_SEC(5));
        fixture_close(&f);
}

static void test_many_names_push_out_the_oldest_only(void) {
        Fixture f = fixture_open(serve_good);
        char url[128], host[64];

        for (unsigned i = 0; i < 40; i++) {
                (void) snprintf(host, sizeof(host), "%u.good.test", i);
                EXPECT_EQ(fetch_url(&f, url_of(url, &f, "http", host)).answer.error, -EHOSTUNREACH);
        }
        EXPECT_EQ(fetch_url(&f, url_of(url, &f, "http", "good.test")).answer.error, 0);
        resolver->asked = 0;
        EXPECT_EQ(fetch_url(&f, url_of(url, &f, "http", "GOOD.test")).answer.error, 0);
        EXPECT_EQ(resolver->asked, 0);
        fixture_close(&f);
}

/* TLS. */

static void test_a_certificate_must_be_trusted_and_fit_the_name(void) {
        Fixture f = fixture_open_with(serve_good, true, NULL);
        HttpRequest request;
        char url[128];
        Seen seen;

        EXPECT_EQ(fetch_url(&f, f.server->url).answer.error, 0);
        EXPECT_EQ(fetch_url(&f, url_of(url, &f, "https", "good.test")).answer.error, 0);
        seen = fetch_url(&f, url_of(url, &f, "https", "127.0.0.1"));
        EXPECT_EQ(seen.answer.error, -EKEYREJECTED);
        EXPECT(!seen.answer.sent);
        EXPECT_EQ(fetch_url(&f, url_of(url, &f, "https", "two.test")).answer.error, -EKEYREJECTED);

        request = request_to(url);
        request.any_certificate = true;
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        /* And that connection is not lent to one who cares. */
        EXPECT_EQ(fetch_url(&f, url).answer.error, -EKEYREJECTED);
        fixture_close(&f);
}

static void test_the_bundle_is_read_once(void) {
        Fixture f = fixture_open_with(serve_good, true, NULL);
        HttpRequest request = request_to(f.server->url);

        request.fresh = true;
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT_EQ(unlink(f.pem), 0);
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT_EQ(f.server->accepts, 2);
        fixture_close(&f);
}

static void test_without_a_good_bundle_nobody_is_trusted(void) {
        static const char *const bundles[] = { "/nonexistent", "/dev/null", "/etc/passwd", NULL };

        for (size_t i = 0; i < ELEMENTSOF(bundles); i++) {
                HttpOptions options = { .ca_bundle = bundles[i] ? bundles[i] : "" };
                Fixture f = fixture_open_with(serve_good, true, &options);
                Seen seen = fetch_url(&f, f.server->url);

                EXPECT_EQ(seen.answer.error, -EKEYREJECTED);
                EXPECT(!seen.answer.sent);
                fixture_close(&f);
        }
}

static void test_a_bundle_that_is_none_is_named(void) {
        static const struct {
                const char *text; /* NULL: no such file */
                int r;
                const char *why;
        } cases[] = {
                { NULL, -ENOENT, "No such file or directory" },
                { "", -EBADMSG, "it holds no certificates in PEM form" },
                { "no PEM\n", -EBADMSG, "it holds no certificates in PEM form" },
                { "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", -EBADMSG,
                        "it holds no certificates in PEM form" },
        };
        Fixture f = fixture_open_with(serve_good, true, NULL);
        char path[64], words[256];
        const char *why = NULL;
        Http *http = NULL;

        (void) snprintf(path, sizeof(path), "%s/other.pem", f.directory);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                FILE *file = cases[i].text ? fopen(path, "we") : NULL;
                Seen seen;

                if (file) {
                        EXPECT(fputs(cases[i].text, file) >= 0);
                        EXPECT_EQ(fclose(file), 0);
                }
                f.http = http_free(f.http);
                EXPECT_EQ(http_new(&f.http, f.event, f.helper, &(HttpOptions){ .ca_bundle = path }), 0);
                EXPECT_EQ(http_trust(f.http, &why), cases[i].r);
                EXPECT_STR(why, cases[i].why);
                seen = fetch_url(&f, f.server->url);
                EXPECT_EQ(seen.answer.error, -EKEYREJECTED);
                (void) snprintf(words, sizeof(words), "no certificate can be checked: CA bundle %s: %s",
                        path, cases[i].why);
                EXPECT_STR(seen.answer.detail, words);
        }
        EXPECT_EQ(f.server->accepts, 0);
        /* It is looked at again: a file may come late. */
        EXPECT_EQ(rename(f.pem, path), 0);
        EXPECT_EQ(fetch_url(&f, f.server->url).answer.error, 0);
        EXPECT_EQ(http_trust(f.http, &why), 0);

        /* Neither reading a pipe for ever, nor a directory. */
        EXPECT_EQ(unlink(path), 0);
        EXPECT_EQ(mkfifo(path, 0600), 0);
        EXPECT_EQ(http_new(&http, f.event, f.helper, &(HttpOptions){ .ca_bundle = path }), 0);
        EXPECT_EQ(http_trust(http, &why), -EBADMSG);
        http = http_free(http);
        EXPECT_EQ(http_new(&http, f.event, f.helper, &(HttpOptions){ .ca_bundle = "/" }), 0);
        EXPECT_EQ(http_trust(http, &why), -EBADMSG);
        http = http_free(http);
        EXPECT_EQ(unlink(path), 0);
        fixture_close(&f);
}

static void test_a_plain_server_is_no_tls_server(void) {
        Fixture f = fixture_open(serve_good);
        char url[128];
        HttpRequest request = request_to(url_of(url, &f, "https", "127.0.0.1"));
        Seen seen;

        request.timeout = SPAN_MSEC(300); /* it waits for the rest of the request */
        seen = fetch(&f, &request);
        EXPECT(seen.answer.error < 0);
        EXPECT(!seen.answer.sent);
        fixture_close(&f);
}

/* Unix sockets. */

/* libcurl's own, but for time-outs that come in the last moments of a call, while these are to be lost. */
static Mono lost_from = { INT64_MAX };

CURLMcode curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int events, int *running) {
        CURLMcode (*real)(CURLM *, curl_socket_t, int, int *) = NULL;

        if (fd == CURL_SOCKET_TIMEOUT && !mono_before(clock_read().mono, lost_from))
                return CURLM_OK;
        *(void **) &real = dlsym(RTLD_NEXT, "curl_multi_socket_action");
        return real(multi, fd, events, running);
}

static void test_a_time_out_that_libcurl_forgets_is_kept(void) {
        Fixture f = fixture_open(serve_good);
        char url[128];
        HttpRequest request = request_to(url_of(url, &f, "https", "127.0.0.1"));
        Seen seen;

        request.timeout = SPAN_MSEC(300);
        lost_from = mono_add(clock_read().mono, SPAN_MSEC(200));
        seen = fetch(&f, &request);
        lost_from = (Mono){ INT64_MAX };
        EXPECT_EQ(seen.answer.error, -ETIMEDOUT);
        EXPECT(seen.answer.took >= SPAN_MSEC(300));
        EXPECT(seen.answer.took < SPAN_SEC(10));
        fixture_close(&f);
}

static void test_unix_sockets_of_any_length_are_reached(void) {
        Fixture f = fixture_open(NULL);
        char path[4096], cwd[4096];
        HttpRequest request = request_to("http://docker/_ping");
        size_t n;

        (void) snprintf(path, sizeof(path), "%s/s", f.directory);
        f.server = fake_start(serve_good, NULL, path, NULL);
        request.unix_socket = path;
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT_EQ(f.server->accepts, 1);
        EXPECT(strstr(f.server->last, "\r\nHost: docker\r\n") != NULL);
        EXPECT_EQ(unlink(path), 0);
        fake_stop(f.server);

        EXPECT(getcwd(cwd, sizeof(cwd)) != NULL);
        (void) snprintf(path, sizeof(path), "%s/%0150d", f.directory, 1);
        EXPECT_EQ(mkdir(path, 0700), 0);
        EXPECT_EQ(chdir(path), 0);
        f.server = fake_start(serve_good, NULL, "s", NULL);
        EXPECT_EQ(chdir(cwd), 0);
        n = strlen(path);
        (void) memcpy(path + n, "/s", 3);
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT_EQ(fetch(&f, &request).answer.error, 0);
        EXPECT_EQ(f.server->requests, 2);
        EXPECT_EQ(unlink(path), 0);
        path[n] = 0;
        EXPECT_EQ(rmdir(path), 0);
        fixture_close(&f);
}

static void test_unix_sockets_that_are_not_there_say_so(void) {
        Fixture f = fixture_open(NULL);
        HttpRequest request = request_to("http://docker/_ping");
        HttpCall *call = NULL;
        Seen seen = {};
        char path[4096];
        int fd;

        (void) snprintf(path, sizeof(path), "%s/s", f.directory);
        request.unix_socket = path;
        seen = fetch(&f, &request);
        EXPECT_EQ(seen.answer.error, -ENOENT);
        EXPECT(!seen.answer.sent);

        fd = open(path, O_CREAT | O_CLOEXEC | O_WRONLY, 0600);
        EXPECT(fd >= 0);
        (void) close(fd);
        EXPECT_EQ(fetch(&f, &request).answer.error, -ECONNREFUSED);
        EXPECT_EQ(unlink(path), 0);

        (void) snprintf(path, sizeof(path), "%s/%0150d/s", f.directory, 1);
        EXPECT_EQ(http_call(f.http, &request, on_answer, &seen, &call), -ENOENT);
        (void) snprintf(path, sizeof(path), "%s/%0150d", f.directory, 1);
        EXPECT_EQ(http_call(f.http, &request, on_answer, &seen, &call), -ENAMETOOLONG);
        fixture_close(&f);
}

/* Proxies. */

static bool serve_proxy(FakeConnection *c, const char *request) {
        if (strncmp(request, "CONNECT good", 12) == 0)
                fake_answer(c, 403, "Date: no\r\n", "");
        else if (strncmp(request, "CONNECT", 7) == 0)
                fake_answer(c, 502, "", "cannot");
        else
                fake_send(c, GOOD);
        return false;
}

/* What comes of a request to @url with a proxy, and whether the proxy has seen it. */
static bool proxy_is_asked(
        const char *no_proxy, const char *proxy_host, const char *url, bool opt_out, int error) {
        Fixture f = fixture_open(serve_proxy);
        HttpRequest request = request_to(url);
        char proxy[128];
        Seen seen;
        bool asked;

        (void) snprintf(proxy, sizeof(proxy), "%s:%u", proxy_host, f.server->port);
        f.http = http_free(f.http);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper,
                          &(HttpOptions){ .https_proxy = proxy, .no_proxy = no_proxy }),
                0);
        request.no_proxy = opt_out;
        seen = fetch(&f, &request);
        if (seen.answer.error != error)
                printf("# %s: %s\n", url, seen.answer.detail);
        EXPECT_EQ(seen.answer.error, error);
        EXPECT(!seen.answer.sent);
        asked = f.server->requests > 0;
        if (asked) {
                EXPECT(strncmp(f.server->last, "CONNECT ", 8) == 0);
                EXPECT_EQ(resolver->asked, strstr(proxy_host, ".test") ? 1 : 0);
        }
        fixture_close(&f);
        return asked;
}

static void test_a_proxy_is_asked_for_https_elsewhere_only(void) {
        static const struct {
                const char *no_proxy, *proxy, *url;
                bool opt_out, asked;
                int error;
        } cases[] = {
                /* The target's name is the proxy's to resolve; the proxy's own is resolved ahead. */
                { NULL, "http://127.0.0.1", "https://gone.test/", false, true, -EHOSTUNREACH },
                { NULL, "http://localhost", "https://gone.test/", false, true, -EHOSTUNREACH },
                { NULL, "http://good.test", "https://gone.test/", false, true, -EHOSTUNREACH },
                { NULL, "good.test", "https://good.test/", false, true, -EHOSTUNREACH },
                { NULL, "http://user:pa%20ss@good.test", "https://gone.test/", false, true, -EHOSTUNREACH },
                { NULL, "http://gone.test", "https://good.test/", false, false, -ENXIO },
                { NULL, "http://127.0.0.1", "http://gone.test/", false, false, -ENXIO },
                { NULL, "http://127.0.0.1", "https://gone.test/", true, false, -ENXIO },
                { NULL, "http://127.0.0.1", "https://127.0.0.1:1/", false, false, -ECONNREFUSED },
                { NULL, "http://127.0.0.1", "https://localhost:1/", false, false, -ECONNREFUSED },
                { NULL, "http://127.0.0.1", "https://[::1]:1/", false, false, -ECONNREFUSED },
                { "other.example, gone.test", "http://127.0.0.1", "https://gone.test/", false, false,
                        -ENXIO },
                { ".test", "http://127.0.0.1", "https://gone.test/", false, false, -ENXIO },
                { "test", "http://127.0.0.1", "https://gone.TEST./", false, false, -EHOSTUNREACH },
                { "*.test", "http://127.0.0.1", "https://gone.test/", false, false, -ENXIO },
                { "*", "http://127.0.0.1", "https://gone.test/", false, false, -ENXIO },
                { "gone.test.", "http://127.0.0.1", "https://gone.test/", false, false, -ENXIO },
                { "gone.test:443", "http://127.0.0.1", "https://gone.test/", false, false, -ENXIO },
                { ".test:443", "http://127.0.0.1", "https://gone.test/", false, false, -ENXIO },
                { "gone.test:", "http://127.0.0.1", "https://gone.test/", false, true, -EHOSTUNREACH },
                { "est", "http://127.0.0.1", "https://gone.test/", false, true, -EHOSTUNREACH },
                { "127.0.0.1,gone.test.other", "http://127.0.0.1", "https://gone.test/", false, true,
                        -EHOSTUNREACH },
                { "gone.test:80", "http://127.0.0.1", "https://gone.test/", false, true, -EHOSTUNREACH },
                { "one.test", "http://127.0.0.1", "https://gone.test/", false, true, -EHOSTUNREACH },
                { "one.test,,.", "http://127.0.0.1", "https://gone.test/", false, true, -EHOSTUNREACH },
                { "10.0.0.0/8", "http://127.0.0.1", "https://11.0.0.1/", false, true, -EHOSTUNREACH },
                { "x,1", "http://127.0.0.1", "https://10.0.0.1/", false, true, -EHOSTUNREACH },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                bool asked = proxy_is_asked(
                        cases[i].no_proxy, cases[i].proxy, cases[i].url, cases[i].opt_out, cases[i].error);

                if (asked != cases[i].asked)
                        printf("# case %zu\n", i);
                EXPECT_EQ(asked, cases[i].asked);
        }
}

static void test_no_proxy_takes_addresses_and_networks(void) {
        static const struct {
                const char *list, *host;
                bool asked;
        } cases[] = {
                /* The kernel refuses to connect there at once. */
                { "255.255.255.0/24", "255.255.255.255", false },
                { "255.255.255.255", "255.255.255.255", false },
                { "255.255.255.255:443", "255.255.255.255", false },
                { "255.255.255.255:80", "255.255.255.255", true },
                { "255.255.255.0/24:443", "255.255.255.255", false },
                { "255.252.0.0/14", "255.255.255.255", false },
                { "0.0.0.0/0", "255.255.255.255", false },
                { "0.0.0.0/", "255.255.255.255", true },
                { "0.0.0.0/x", "255.255.255.255", true },
                { "0.0.0.0/-1", "255.255.255.255", true },
                { "255.255.255.255/33", "255.255.255.255", true },
                { "255.255.255.255/4294967296", "255.255.255.255", true },
                { "/0", "255.255.255.255", true },
                { "::/0", "255.255.255.255", true },
                { "255.255", "255.255.255.255", true },
                { "[ff00::1]", "[ff00::1]", false },
                { "ff00::1", "[ff00::1]", false },
                { "[ff00::1]:443", "[ff00::1]", false },
                { "[ff00::1]:80", "[ff00::1]", true },
                { "ff00::/8", "[ff00::1]", false },
                { "fe00::/8", "[ff00::1]", true },
                { "[]:443,[,]", "[ff00::1]", true },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open(serve_proxy);
                char proxy[128], url[128];
                HttpRequest request = request_to(url);

                f.http = http_free(f.http);
                (void) snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", f.server->port);
                (void) snprintf(url, sizeof(url), "https://%s/", cases[i].host);
                EXPECT_EQ(http_new(&f.http, f.event, f.helper,
                                  &(HttpOptions){ .https_proxy = proxy, .no_proxy = cases[i].list }),
                        0);
                request.timeout = cases[i].asked ? SPAN_SEC(10) : SPAN_MSEC(50);
                EXPECT(!fetch(&f, &request).answer.sent);
                if ((f.server->accepts > 0) != cases[i].asked)
                        printf("# %s for %s\n", cases[i].list, cases[i].host);
                EXPECT_EQ(f.server->accepts > 0, cases[i].asked);
                fixture_close(&f);
        }
}

/* A proxy's answer to CONNECT; NULL: none. It lies here, for a handler knows only the connection. */
static const char *proxy_script;

static bool serve_proxy_script(FakeConnection *c, const char *request) {
        (void) request;
        if (!proxy_script)
                return fake_hang(c);
        fake_send(c, proxy_script);
        return false;
}

static void test_what_a_proxy_does_wrong_is_told_without_its_password(void) {
        static const struct {
                const char *login, *answer;
                int error;
                const char *words;
        } cases[] = {
                { "", "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n\r\nno",
                        -EHOSTUNREACH, "answered 407: it wants a user and a password" },
                { "me:s3cr%40t@", "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\n\r\n",
                        -EHOSTUNREACH, "answered 407: it does not take this user and password" },
                { "me:s3cr%40t@",
                        "HTTP/1.1 407 Who\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n",
                        -EHOSTUNREACH, "answered 407: it does not take" },
                { "me:s3cr%40t@", "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", -EHOSTUNREACH,
                        "answered 403 to CONNECT gone.test:443" },
                { "me:s3cr%40t@",
                        "HTTP/1.1 302 Go\r\nLocation: http://login.test/\r\nContent-Length: 0\r\n\r\n",
                        -EHOSTUNREACH, "answered 302 to CONNECT" },
                { "me:s3cr%40t@", "HTTP/1.1 503 Oops\r\n\r\n<html>", -EHOSTUNREACH,
                        "answered 503 to CONNECT" },
                { "me:s3cr%40t@", "<html>\r\n\r\n", 0, ": " },
                { "me:s3cr%40t@", "\x16\x03\x01", 0, ": " },
                { "me:s3cr%40t@", "", 0, ": " },
                { "me:s3cr%40t@", NULL, -ETIMEDOUT, ": " },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open(serve_proxy_script);
                HttpRequest request = request_to("https://gone.test/");
                char proxy[128], words[128];
                Seen seen;

                proxy_script = cases[i].answer;
                f.http = http_free(f.http);
                (void) snprintf(
                        proxy, sizeof(proxy), "http://%s127.0.0.1:%u", cases[i].login, f.server->port);
                EXPECT_EQ(http_new(&f.http, f.event, f.helper, &(HttpOptions){ .https_proxy = proxy }), 0);
                if (!cases[i].answer)
                        request.timeout = SPAN_MSEC(100);
                seen = fetch(&f, &request);
                (void) snprintf(words, sizeof(words), "proxy 127.0.0.1:%u%s%s", f.server->port,
                        cases[i].words[0] == ':' ? "" : " ", cases[i].words);
                if (strncmp(seen.answer.detail, words, strlen(words)) != 0)
                        printf("# case %zu: %s\n", i, seen.answer.detail);
                EXPECT(strncmp(seen.answer.detail, words, strlen(words)) == 0);
                EXPECT(!strstr(seen.answer.detail, "s3cr"));
                EXPECT(seen.answer.error < 0 && !seen.answer.sent);
                if (cases[i].error != 0)
                        EXPECT_EQ(seen.answer.error, cases[i].error);
                fixture_close(&f);
        }
}

static void test_a_proxy_is_not_blamed_for_what_is_behind_it(void) {
        Fixture f = fixture_open(serve_proxy_script);
        char proxy[128];
        Seen seen;

        /* The tunnel stands, and then there is no TLS. */
        proxy_script = "HTTP/1.1 200 OK\r\n\r\nnonsense nonsense";
        f.http = http_free(f.http);
        (void) snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", f.server->port);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper, &(HttpOptions){ .https_proxy = proxy }), 0);
        seen = fetch_url(&f, "https://gone.test/");
        EXPECT_EQ(seen.answer.error, -EKEYREJECTED);
        EXPECT(!strstr(seen.answer.detail, "proxy"));
        fixture_close(&f);
}

static void test_a_proxy_may_speak_tls_itself(void) {
        for (unsigned trusted = 0; trusted < 2; trusted++) {
                Fixture f = fixture_open_with(serve_proxy, true, NULL);
                HttpOptions options = { .ca_bundle = trusted ? f.pem : NULL };
                char proxy[128];
                Seen seen;

                f.http = http_free(f.http);
                (void) snprintf(proxy, sizeof(proxy), "https://me:word@localhost:%u", f.server->port);
                options.https_proxy = proxy;
                EXPECT_EQ(http_new(&f.http, f.event, f.helper, &options), 0);
                seen = fetch_url(&f, "https://gone.test/");
                EXPECT_EQ(seen.answer.error, trusted ? -EHOSTUNREACH : -EKEYREJECTED);
                EXPECT_EQ(f.server->requests, trusted);
                if (trusted)
                        EXPECT(strstr(f.server->last, "Proxy-Authorization: Basic bWU6d29yZA==\r\n") !=
                                NULL);
                else
                        EXPECT(strstr(seen.answer.detail, "proxy localhost:") != NULL);
                fixture_close(&f);
        }
}

static void test_proxy_credentials_are_sent_to_the_proxy(void) {
        Fixture f = fixture_open(serve_proxy);
        char proxy[128];

        f.http = http_free(f.http);
        (void) snprintf(proxy, sizeof(proxy), "http://Aladdin:open%%20sesame@127.0.0.1:%u", f.server->port);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper, &(HttpOptions){ .https_proxy = proxy }), 0);
        (void) fetch_url(&f, "https://gone.test/");
        EXPECT(strstr(f.server->last, "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n") !=
                NULL);
        /* Without a proxy nobody is told. */
        f.http = http_free(f.http);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper,
                          &(HttpOptions){ .https_proxy = proxy, .no_proxy = "*" }),
                0);
        f.server->last[0] = 0;
        (void) fetch_url(&f, url_of(proxy, &f, "http", "good.test"));
        EXPECT(strncmp(f.server->last, "GET / ", 6) == 0 && !strstr(f.server->last, "Authorization"));
        fixture_close(&f);
}

static void test_the_environment_names_no_proxy(void) {
        Fixture f = fixture_open(serve_good);
        char url[128];

        EXPECT_EQ(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
        EXPECT_EQ(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
        EXPECT_EQ(fetch_url(&f, url_of(url, &f, "http", "good.test")).answer.error, 0);
        EXPECT_EQ(unsetenv("http_proxy"), 0);
        EXPECT_EQ(unsetenv("ALL_PROXY"), 0);
        fixture_close(&f);
}

static void test_a_bad_proxy_is_refused(void) {
        static const char *const proxies[] = { "socks5://127.0.0.1:1", "http://", "ftp://a:1", "a b",
                ":::", "http://u:s3cr@", "user:s3cr:3128" };
        Fixture f = fixture_open(NULL);
        Http *http = NULL;

        for (size_t i = 0; i < ELEMENTSOF(proxies); i++)
                EXPECT_EQ(http_new(&http, f.event, f.helper, &(HttpOptions){ .https_proxy = proxies[i] }),
                        -EINVAL);
        EXPECT(!http);
        fixture_close(&f);
}

/* Lifetimes. */

static void test_calls_beyond_the_limit_are_busy(void) {
        Fixture f = fixture_open(serve_hang);
        Seen seen[HTTP_CALLS_MAX + 1] = {};
        HttpRequest request = request_to(f.server->url);

        for (unsigned i = 0; i < HTTP_CALLS_MAX; i++)
                EXPECT_EQ(http_call(f.http, &request, on_answer, &seen[i], &seen[i].call), 0);
        EXPECT_EQ(http_call(f.http, &request, on_answer, &seen[HTTP_CALLS_MAX], &seen[HTTP_CALLS_MAX].call),
                -EBUSY);
        seen[0].call = http_call_free(seen[0].call);
        request.timeout = SPAN_MSEC(50);
        EXPECT_EQ(http_call(f.http, &request, on_answer, &seen[0], &seen[0].call), 0);
        run_until(&f, &seen[0].n, 1);
        for (unsigned i = 1; i < HTTP_CALLS_MAX; i++) {
                EXPECT_EQ(seen[i].n, 0);
                seen[i].call = http_call_free(seen[i].call);
        }
        fixture_close(&f);
}

static void test_a_freed_call_is_never_answered(void) {
        Fixture f = fixture_open(serve_good);
        Seen first = {}, named = {}, last = {};
        HttpRequest request = request_to(f.server->url), lookup = request_to("http://good.test/");

        EXPECT_EQ(http_call(f.http, &request, on_answer, &first, &first.call), 0);
        EXPECT_EQ(http_call(f.http, &lookup, on_answer, &named, &named.call), 0);
        EXPECT_EQ(http_call(f.http, &request, on_answer, &last, &last.call), 0);
        first.call = http_call_free(first.call);
        named.call = http_call_free(named.call);
        run_until(&f, &last.n, 1);
        EXPECT_EQ(first.n + named.n, 0);
        (void) http_call_free(NULL);
        fixture_close(&f);
}

static void test_a_callback_may_free_other_calls(void) {
        Fixture f = fixture_open(serve_good);
        Seen a = {}, b = {};
        HttpRequest request = request_to(f.server->url);

        a.other = &b.call;
        b.other = &a.call;
        EXPECT_EQ(http_call(f.http, &request, on_answer, &a, &a.call), 0);
        EXPECT_EQ(http_call(f.http, &request, on_answer, &b, &b.call), 0);
        while (a.n + b.n == 0)
                (void) sd_event_run(f.event, SPAN_MSEC(100));
        while (sd_event_run(f.event, SPAN_MSEC(5)) > 0)
                ;
        EXPECT_EQ(a.n + b.n, 1);
        fixture_close(&f);
}

static void free_client(const HttpAnswer *answer, void *userdata) {
        Fixture *f = userdata;

        EXPECT_EQ(answer->error, 0);
        f->http = http_free(f->http);
        EXPECT_EQ(answer->n_body, 5);
}

static void test_a_callback_may_free_the_client(void) {
        Fixture f = fixture_open(serve_good);
        HttpCall *call = NULL, *other = NULL;
        HttpRequest request = request_to(f.server->url);
        Seen seen = {};

        EXPECT_EQ(http_call(f.http, &request, free_client, &f, &call), 0);
        request.url = "http://silent.test/";
        EXPECT_EQ(http_call(f.http, &request, on_answer, &seen, &other), 0);
        while (f.http)
                (void) sd_event_run(f.event, SPAN_MSEC(100));
        while (sd_event_run(f.event, SPAN_MSEC(5)) > 0)
                ;
        EXPECT_EQ(seen.n, 0);
        (void) http_call_free(call);
        (void) http_call_free(other);
        EXPECT(!http_free(NULL));
        fixture_close(&f);
}

TEST_MAIN(TEST(test_answers_of_all_shapes_come_whole_or_as_an_error),
        TEST(test_connections_are_kept_alive_and_counted),
        TEST(test_a_fresh_request_uses_a_connection_of_its_own),
        TEST(test_a_fresh_request_is_never_sent_twice), TEST(test_a_request_goes_out_as_it_was_written),
        TEST(test_a_head_request_waits_for_no_body), TEST(test_bad_urls_and_headers_are_refused),
        TEST(test_the_wanted_header_fields_are_kept), TEST(test_an_answer_over_the_limit_ends_the_call),
        TEST(test_a_slow_or_hung_server_is_a_timeout), TEST(test_a_refused_connection_has_sent_nothing),
        TEST(test_names_are_looked_up_by_the_helper), TEST(test_a_known_name_is_not_asked_for_again),
        TEST(test_a_name_in_use_is_asked_for_once_a_minute),
        TEST(test_old_addresses_are_used_when_the_resolver_fails),
        TEST(test_a_hung_resolver_does_not_hold_up_other_calls),
        TEST(test_many_names_push_out_the_oldest_only),
        TEST(test_a_certificate_must_be_trusted_and_fit_the_name), TEST(test_the_bundle_is_read_once),
        TEST(test_without_a_good_bundle_nobody_is_trusted), TEST(test_a_bundle_that_is_none_is_named),
        TEST(test_a_plain_server_is_no_tls_server), TEST(test_a_time_out_that_libcurl_forgets_is_kept),
        TEST(test_unix_sockets_of_any_length_are_reached), TEST(test_unix_sockets_that_are_not_there_say_so),
        TEST(test_a_proxy_is_asked_for_https_elsewhere_only),
        TEST(test_no_proxy_takes_addresses_and_networks),
        TEST(test_what_a_proxy_does_wrong_is_told_without_its_password),
        TEST(test_a_proxy_is_not_blamed_for_what_is_behind_it), TEST(test_a_proxy_may_speak_tls_itself),
        TEST(test_proxy_credentials_are_sent_to_the_proxy), TEST(test_the_environment_names_no_proxy),
        TEST(test_a_bad_proxy_is_refused), TEST(test_calls_beyond_the_limit_are_busy),
        TEST(test_a_freed_call_is_never_answered), TEST(test_a_callback_may_free_other_calls),
        TEST(test_a_callback_may_free_the_client))
