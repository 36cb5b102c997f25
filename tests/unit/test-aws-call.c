/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Calls of AWS's APIs against a scripted service: what answers mean, when they are tried again, and when
 * never.
 */

#include <stdarg.h>

#include "common/aws-call.h"
#include "common/aws-sigv4.h"
#include "common/json.h"
#include "common/loop.h"
#include "common/parse.h"
#include "tests/unit/fake-clock.h"
#include "tests/unit/fake-server.h"
#include "tests/unit/test.h"

#define XML_ERROR(code)                                                                                     \
        "<ErrorResponse><Error><Type>Sender</Type><Code>" code "</Code><Message>words</Message></Error>"    \
        "<RequestId>id-1</RequestId></ErrorResponse>"
#define XML_OK                                                                                              \
        "<DetachInstancesResponse xmlns=\"http://x/\"><DetachInstancesResult><Activities/>"                 \
        "</DetachInstancesResult></DetachInstancesResponse>"
#define JSON_ERROR(code) "{\"__type\":\"prefix#" code "\",\"message\":\"words\"}"

/* What the service does, one after the other; the last one is repeated. */
typedef struct Reply {
        unsigned status; /* 0: hang up, 1: say nothing */
        const char *body;
        const char *fields; /* NULL: Date and request id */
} Reply;

static Reply replies[8];
static atomic_uint n_calls, n_roles;
static int64_t service_shift;  /* seconds that the service's clock is ahead of the real one */
static char requests[8][8192]; /* as they came */

static bool serve_role(FakeConnection *c, const char *request) {
        char until[FORMAT_TIME_MAX], document[512];
        Wall now = { (int64_t) time(NULL) * 1000 * 1000 };

        if (strncmp(request, "PUT ", 4) == 0)
                fake_answer(c, 200, "", "token");
        else if (strstr(request, "security-credentials/ "))
                fake_answer(c, 200, "", "my-role");
        else {
                n_roles++;
                (void) snprintf(document, sizeof(document),
                        "{\"Code\":\"Success\",\"AccessKeyId\":\"AKID%u\",\"SecretAccessKey\":\"s\","
                        "\"Token\":\"t\","
                        "\"Expiration\":\"%s\"}",
                        (unsigned) n_roles,
                        format_rfc3339(until, wall_add(now, SPAN_HOUR(6) + SPAN_SEC(n_roles))));
                fake_answer(c, 200, "", document);
        }
        return true;
}

static bool serve(FakeConnection *c, const char *request) {
        unsigned n = n_calls < ELEMENTSOF(replies) - 1 ? n_calls : ELEMENTSOF(replies) - 1;
        char fields[256];
        time_t now = time(NULL) + service_shift;
        struct tm tm;

        if (strstr(request, " /latest/"))
                return serve_role(c, request);
        (void) snprintf(requests[n], sizeof(requests[n]), "%s", request);
        n_calls++;
        if (replies[n].status == 0)
                return false;
        if (replies[n].status == 1)
                return fake_hang(c);
        (void) strftime(fields, sizeof(fields), "Date: %a, %d %b %Y %T GMT\r\nx-amzn-RequestId: id-1\r\n",
                gmtime_r(&now, &tm));
        fake_answer(c, replies[n].status, replies[n].fields ? replies[n].fields : fields, replies[n].body);
        return true;
}

typedef struct Fixture {
        sd_event *event;
        Helper *helper;
        Http *http;
        Imds *imds;
        AwsCredentials *credentials;
        Aws *aws;
        FakeServer *server;
} Fixture;

static void script(const Reply *list, size_t n) {
        n_calls = 0;
        (void) memset(requests, 0, sizeof(requests));
        for (size_t i = 0; i < ELEMENTSOF(replies); i++)
                replies[i] = list[i < n ? i : n - 1];
}
#define SCRIPT(...)                                                                                         \
        script((const Reply[]){ __VA_ARGS__ }, sizeof((const Reply[]){ __VA_ARGS__ }) / sizeof(Reply))

static Fixture fixture_open(bool with_role) {
        Fixture f = {};

        n_roles = 0;
        service_shift = 0;
        fake_wall_shift = 0;
        SCRIPT({ 200, "{}" });
        f.server = fake_start(serve, NULL, NULL, NULL);
        (void) unsetenv("AWS_SESSION_TOKEN");
        if (with_role) {
                (void) unsetenv("AWS_ACCESS_KEY_ID");
                (void) unsetenv("AWS_SECRET_ACCESS_KEY");
        } else {
                EXPECT_EQ(setenv("AWS_ACCESS_KEY_ID", "AKIDENV", 1), 0);
                EXPECT_EQ(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        }
        EXPECT_EQ(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f.server->url, 1), 0);
        EXPECT_EQ(setenv("AWS_ENDPOINT_URL", f.server->url, 1), 0);
        EXPECT_EQ(sd_event_new(&f.event), 0);
        EXPECT_EQ(helper_new(&f.helper, f.event), 0);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper, &(HttpOptions){ .user_agent = "test/1" }), 0);
        EXPECT_EQ(imds_new(&f.imds, f.event, f.http), 0);
        EXPECT_EQ(aws_credentials_new(&f.credentials, f.event, f.imds), 0);
        EXPECT_EQ(aws_new(&f.aws, f.event, f.http, f.credentials), 0);
        EXPECT_EQ(aws_set_region(f.aws, "eu-west-1", NULL), 0);
        return f;
}

static void fixture_close(Fixture *f) {
        f->aws = aws_free(f->aws);
        f->credentials = aws_credentials_free(f->credentials);
        f->imds = imds_free(f->imds);
        f->http = http_free(f->http);
        f->helper = helper_free(f->helper);
        fake_stop(f->server);
        f->event = sd_event_unref(f->event);
}

typedef struct Seen {
        unsigned n;
        AwsAnswer answer;
        char value[64]; /* member or element called "Value" */
        AwsCall *call;
        AwsCall **other; /* freed in the callback */
} Seen;

static void on_answer(const AwsAnswer *answer, void *userdata) {
        Seen *seen = userdata;
        const char *text = "";

        seen->n++;
        seen->answer = *answer;
        if (answer->json)
                (void) json_get_string(answer->json, "Value", &text);
        if (answer->xml && xml_text(answer->xml, "Value"))
                text = xml_text(answer->xml, "Value");
        (void) snprintf(seen->value, sizeof(seen->value), "%s", text);
        EXPECT(answer->outcome == AWS_OK || (!answer->json && !answer->xml));
        seen->call = aws_call_free(seen->call);
        if (seen->other)
                *seen->other = aws_call_free(*seen->other);
}

/* Back-off passes faster than it seems: a second every few turns of the loop. */
static void run_until(Fixture *f, const unsigned *done, unsigned n) {
        for (unsigned i = 0; i < 20000 && *done < n; i++) {
                (void) sd_event_run(f->event, SPAN_MSEC(1));
                if (i % 10 == 9)
                        fake_clock_forward(1);
        }
        EXPECT_EQ(*done, n);
}

static Seen call(Fixture *f, const AwsRequest *request) {
        Seen seen = {};

        EXPECT_EQ(aws_call(f->aws, request, on_answer, &seen, &seen.call), 0);
        EXPECT_EQ(seen.n, 0);
        run_until(f, &seen.n, 1);
        return seen;
}

static const AwsRequest ecs = { .service = AWS_ECS,
        .action = "DescribeContainerInstances",
        .body = "{\"cluster\":\"c\"}",
        .n_body = 15 };
static const AwsRequest detach = { .service = AWS_AUTO_SCALING, .action = "DetachInstances" };
static const AwsRequest detach_once = {
        .service = AWS_AUTO_SCALING, .action = "DetachInstances", .once = true
};

static void header_of(const char *request, const char *name, char value[static 512]) {
        char key[128];
        const char *at;

        (void) snprintf(key, sizeof(key), "\r\n%s: ", name);
        at = strcasestr(request, key);
        value[0] = 0;
        if (at)
                (void) snprintf(value, 512, "%.*s", (int) strcspn(at + strlen(key), "\r"), at + strlen(key));
}

/* Whether @request carries the signature that its own date calls for. */
static bool signature_fits(Fixture *f, const char *request, const char *const *names, const char *service) {
        char value[512], texts[8][640], text[FORMAT_TIME_MAX], rfc3339[32];
        const char *headers[9] = {};
        SigV4Signature signature;
        Wall t = WALL_NEVER;

        (void) f;
        for (size_t i = 0; names[i]; i++) {
                header_of(request, names[i], value);
                (void) snprintf(texts[i], sizeof(texts[i]), "%s: %s", names[i], value);
                headers[i] = texts[i];
        }
        header_of(request, "X-Amz-Date", value);
        (void) snprintf(rfc3339, sizeof(rfc3339), "%.4s-%.2s-%.2sT%.2s:%.2s:%.2sZ", value, value + 4,
                value + 6, value + 9, value + 11, value + 13);
        EXPECT_EQ(parse_rfc3339(rfc3339, strlen(rfc3339), &t), 0);
        EXPECT_STR(format_sigv4_time(text, t), value);
        EXPECT_EQ(sigv4_sign(&(SigV4Request){ .method = "POST",
                                     .path = "/",
                                     .query = "",
                                     .headers = headers,
                                     .body = strstr(request, "\r\n\r\n") + 4,
                                     .n_body = strlen(strstr(request, "\r\n\r\n") + 4),
                                     .region = "eu-west-1",
                                     .service = service,
                                     .access_key_id = "AKIDENV",
                                     .secret_access_key = "secret",
                                     .time = t,
                                     .normalize_path = true },
                          &signature),
                0);
        header_of(request, "Authorization", value);
        return strcmp(value, signature.authorization) == 0;
}

static void test_a_json_call_is_signed_and_read(void) {
        static const char *const signed_names[] = { "Host", "Content-Type", "X-Amz-Target", NULL };
        Fixture f = fixture_open(false);
        char value[512] = "";
        Seen seen;

        SCRIPT({ 200, "{\"Value\":\"42\"}" });
        seen = call(&f, &ecs);
        EXPECT_EQ(seen.answer.outcome, AWS_OK);
        EXPECT_EQ(seen.answer.tries, 1);
        EXPECT_EQ(seen.answer.status, 200);
        EXPECT(seen.answer.sent);
        EXPECT(wall_is_set(seen.answer.server_time));
        EXPECT_STR(seen.answer.request_id, "id-1");
        EXPECT_STR(seen.value, "42");

        EXPECT(strncmp(requests[0], "POST / HTTP/1.1\r\n", 17) == 0);
        EXPECT_STR(strstr(requests[0], "\r\n\r\n") + 4, "{\"cluster\":\"c\"}");
        header_of(requests[0], "Content-Type", value);
        EXPECT_STR(value, "application/x-amz-json-1.1");
        header_of(requests[0], "X-Amz-Target", value);
        EXPECT_STR(value, "AmazonEC2ContainerServiceV20141113.DescribeContainerInstances");
        header_of(requests[0], "amz-sdk-request", value);
        EXPECT_STR(value, "attempt=1; max=3");
        header_of(requests[0], "amz-sdk-invocation-id", value);
        EXPECT_EQ(strlen(value), 36);
        EXPECT(value[14] == '4');
        EXPECT(strchr("89ab", value[19]) != NULL);
        header_of(requests[0], "User-Agent", value);
        EXPECT_STR(value, "test/1");
        header_of(requests[0], "Host", value);
        EXPECT(strncmp(value, "127.0.0.1:", 10) == 0);
        EXPECT(signature_fits(&f, requests[0], signed_names, "ecs"));
        /* And the check can fail. */
        strstr(requests[0], "\r\n\r\n")[4] = ' ';
        EXPECT(!signature_fits(&f, requests[0], signed_names, "ecs"));
        fixture_close(&f);
}

static void test_a_cloudwatch_call_asks_for_query_codes(void) {
        static const char *const signed_names[] = { "Host", "Content-Type", "X-Amz-Target",
                "x-amzn-query-mode", NULL };
        AwsRequest request = { .service = AWS_CLOUDWATCH, .action = "PutMetricData" };
        Fixture f = fixture_open(false);
        char value[512];

        SCRIPT({ 200, "" });
        EXPECT_EQ(call(&f, &request).answer.outcome, AWS_OK);
        header_of(requests[0], "x-amzn-query-mode", value);
        EXPECT_STR(value, "true");
        header_of(requests[0], "Content-Type", value);
        EXPECT_STR(value, "application/x-amz-json-1.0");
        EXPECT_STR(strstr(requests[0], "\r\n\r\n") + 4, "{}");
        EXPECT(signature_fits(&f, requests[0], signed_names, "monitoring"));
        fixture_close(&f);
}

static void test_a_query_call_is_composed_and_read(void) {
        static const char *const signed_names[] = { "Host", "Content-Type", NULL };
        AwsRequest request = detach;
        Fixture f = fixture_open(false);
        JsonWriter body;
        char value[512];
        Seen seen;

        json_writer_init(&body, 4096);
        aws_query_append(&body, "InstanceIds.member.1", "i-1");
        aws_query_append(&body, "AutoScalingGroupName", "a b/c&\xc3\xa9~");
        EXPECT_EQ(body.error, 0);
        request.body = body.text;
        request.n_body = body.n;
        SCRIPT({ 200,
                "<DetachInstancesResponse><Value>43</Value><ResponseMetadata><RequestId>id-2</RequestId>"
                "</ResponseMetadata></DetachInstancesResponse>",
                "" });
        seen = call(&f, &request);
        json_writer_done(&body);
        EXPECT_EQ(seen.answer.outcome, AWS_OK);
        EXPECT_STR(seen.value, "43");
        EXPECT_STR(seen.answer.request_id, "id-2");
        EXPECT_STR(strstr(requests[0], "\r\n\r\n") + 4,
                "Action=DetachInstances&Version=2011-01-01&InstanceIds.member.1=i-1"
                "&AutoScalingGroupName=a%20b%2Fc%26%C3%A9~");
        header_of(requests[0], "Content-Type", value);
        EXPECT_STR(value, "application/x-www-form-urlencoded; charset=utf-8");
        EXPECT(signature_fits(&f, requests[0], signed_names, "autoscaling"));

        request.body = "A=b";
        request.n_body = 3;
        SCRIPT({ 200, XML_OK });
        EXPECT_EQ(call(&f, &request).answer.outcome, AWS_OK);
        EXPECT_STR(strstr(requests[0], "\r\n\r\n") + 4, "Action=DetachInstances&Version=2011-01-01&A=b");
        fixture_close(&f);
}

static void test_a_session_token_is_sent(void) {
        Fixture f = fixture_open(true);
        char value[512];

        EXPECT_EQ(call(&f, &ecs).answer.outcome, AWS_OK);
        header_of(requests[0], "X-Amz-Security-Token", value);
        EXPECT_STR(value, "t");
        header_of(requests[0], "Authorization", value);
        EXPECT(strstr(value, "x-amz-security-token") != NULL);
        EXPECT(strstr(value, "Credential=AKID1/") != NULL);
        fixture_close(&f);
}

static void test_a_success_that_is_none_is_garbled(void) {
        static const char *const bodies[][2] = {
                { "json", "" }, /* nothing is as good as an empty object */
                { "json", "{\"a\":" },
                { "json", "[]" },
                { "json", "<html></html>" },
                { "json", "{\"a\":1,\"a\":2}" },
                { "xml", "" },
                { "xml", "{}" },
                { "xml", "<html><body>Welcome</body></html>" },
                { "xml", "<DetachInstancesResponse><a></DetachInstancesResponse>" },
                { "xml", "<EnterStandbyResponse/>" },
                { "xml", "<!DOCTYPE a [<!ENTITY b \"c\">]><DetachInstancesResponse/>" },
        };

        for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
                Fixture f = fixture_open(false);
                Seen seen;

                SCRIPT({ 200, bodies[i][1] });
                seen = call(&f, bodies[i][0][0] == 'j' ? &ecs : &detach);
                EXPECT_EQ(seen.answer.outcome, i == 0 ? AWS_OK : AWS_GARBLED);
                EXPECT_EQ(seen.answer.tries, 1);
                fixture_close(&f);
        }
}

static void test_calls_are_tried_again_when_that_may_help(void) {
        static const struct {
                Reply first, then;
                AwsOutcome outcome;
                unsigned tries;
                const char *code;
        } cases[] = {
                { { 200, XML_OK }, { 200, XML_OK }, AWS_OK, 1, "" },
                { { 400, XML_ERROR("Throttling") }, { 200, XML_OK }, AWS_OK, 2, "" },
                { { 400, XML_ERROR("Throttling") }, { 400, XML_ERROR("Throttling") }, AWS_THROTTLED, 3,
                        "Throttling" },
                { { 503, XML_ERROR("RequestLimitExceeded") }, { 200, XML_OK }, AWS_OK, 2, "" },
                { { 429, "" }, { 200, XML_OK }, AWS_OK, 2, "" },
                { { 500, "" }, { 200, XML_OK }, AWS_OK, 2, "" },
                { { 503, "<html>" }, { 503, "<html>" }, AWS_UNAVAILABLE, 3, "" },
                { { 500, XML_ERROR("ResourceContention") }, { 200, XML_OK }, AWS_CONTENTION, 1,
                        "ResourceContention" },
                { { 400, XML_ERROR("ScalingActivityInProgress") }, { 200, XML_OK }, AWS_CONTENTION, 1,
                        "ScalingActivityInProgress" },
                { { 403, XML_ERROR("AccessDenied") }, { 200, XML_OK }, AWS_DENIED, 1, "AccessDenied" },
                { { 400, XML_ERROR("ValidationError") }, { 200, XML_OK }, AWS_REFUSED, 1,
                        "ValidationError" },
                { { 403, XML_ERROR("InvalidClientTokenId") }, { 200, XML_OK }, AWS_BAD_KEYS, 1,
                        "InvalidClientTokenId" },
                { { 403, XML_ERROR("SignatureDoesNotMatch") }, { 200, XML_OK }, AWS_BAD_KEYS, 1,
                        "SignatureDoesNotMatch" },
                { { 302, "" }, { 200, XML_OK }, AWS_OK, 2, "" },
                { { 403, "<html>proxy</html>" }, { 200, XML_OK }, AWS_DENIED, 1, "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open(false);
                Seen seen;

                SCRIPT(cases[i].first, cases[i].then);
                seen = call(&f, &detach);
                if (seen.answer.outcome != cases[i].outcome || seen.answer.tries != cases[i].tries)
                        printf("# case %zu: %s\n", i, seen.answer.message);
                EXPECT_EQ(seen.answer.outcome, cases[i].outcome);
                EXPECT_EQ(seen.answer.tries, cases[i].tries);
                EXPECT_EQ(n_calls, cases[i].tries);
                EXPECT_STR(seen.answer.code, cases[i].code);
                EXPECT(seen.answer.sent);
                EXPECT(seen.answer.outcome == AWS_OK || seen.answer.message[0] != 0);
                fixture_close(&f);
        }
}

static void test_what_yields_is_not_tried_again_when_it_is_throttled(void) {
        static const AwsRequest yielding = {
                .service = AWS_AUTO_SCALING, .action = "DetachInstances", .yield = true
        };
        static const struct {
                Reply first;
                AwsOutcome outcome;
                unsigned tries;
        } cases[] = {
                { { 400, XML_ERROR("Throttling") }, AWS_THROTTLED, 1 },
                { { 503, XML_ERROR("RequestLimitExceeded") }, AWS_THROTTLED, 1 },
                { { 429, "" }, AWS_THROTTLED, 1 },
                { { 500, "" }, AWS_OK, 2 },
                { { 200, XML_OK }, AWS_OK, 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open(false);
                Seen seen;

                SCRIPT(cases[i].first, { 200, XML_OK });
                seen = call(&f, &yielding);
                EXPECT_EQ(seen.answer.outcome, cases[i].outcome);
                EXPECT_EQ(seen.answer.tries, cases[i].tries);
                EXPECT_EQ(n_calls, cases[i].tries);
                fixture_close(&f);
        }
}

static void test_what_may_happen_once_only_is_tried_again_after_a_definite_no_only(void) {
        static const struct {
                Reply first;
                AwsOutcome outcome;
                unsigned tries;
        } cases[] = {
                { { 400, XML_ERROR("Throttling") }, AWS_OK, 2 },
                { { 503, XML_ERROR("RequestLimitExceeded") }, AWS_THROTTLED, 1 },
                { { 429, "" }, AWS_THROTTLED, 1 },
                { { 500, "" }, AWS_UNAVAILABLE, 1 },
                { { 0, "" }, AWS_UNAVAILABLE, 1 },
                { { 1, "" }, AWS_UNAVAILABLE, 1 },
                { { 400, XML_ERROR("ValidationError") }, AWS_REFUSED, 1 },
                { { 403, XML_ERROR("ExpiredToken") }, AWS_OK, 2 },
                { { 400, XML_ERROR("RequestTimeTooSkewed") }, AWS_OK, 2 },
                { { 200, "<html>" }, AWS_GARBLED, 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open(false);
                AwsRequest request = detach_once;
                Seen seen;

                request.timeout = SPAN_MSEC(200);
                SCRIPT(cases[i].first, { 200, XML_OK });
                seen = call(&f, &request);
                if (seen.answer.outcome != cases[i].outcome || seen.answer.tries != cases[i].tries)
                        printf("# case %zu: %s\n", i, seen.answer.message);
                EXPECT_EQ(seen.answer.outcome, cases[i].outcome);
                EXPECT_EQ(seen.answer.tries, cases[i].tries);
                EXPECT_EQ(n_calls, cases[i].tries);
                EXPECT(seen.answer.sent);
                fixture_close(&f);
        }
}

static void test_what_was_never_sent_may_be_tried_again(void) {
        Fixture f = fixture_open(false);
        unsigned port;
        int fd = fake_closed_port(&port);
        char url[64];
        Seen seen;

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
        EXPECT_EQ(setenv("AWS_ENDPOINT_URL", url, 1), 0);
        seen = call(&f, &detach_once);
        EXPECT_EQ(seen.answer.outcome, AWS_UNAVAILABLE);
        EXPECT_EQ(seen.answer.tries, 3);
        EXPECT(!seen.answer.sent);
        (void) close(fd);
        fixture_close(&f);
}

static void test_a_hung_service_is_unavailable(void) {
        Fixture f = fixture_open(false);
        AwsRequest request = ecs;
        Seen seen;

        request.timeout = SPAN_MSEC(100);
        SCRIPT({ 1, "" });
        seen = call(&f, &request);
        EXPECT_EQ(seen.answer.outcome, AWS_UNAVAILABLE);
        EXPECT_EQ(seen.answer.tries, 3);
        EXPECT(seen.answer.sent);
        EXPECT_EQ(seen.answer.status, 0);
        fixture_close(&f);
}

static void test_too_long_an_answer_is_not_asked_for_again(void) {
        Fixture f = fixture_open(false);
        AwsRequest request = ecs;
        Seen seen;

        request.max_answer = 10;
        SCRIPT({ 200, "{\"Value\":\"0123456789\"}" });
        seen = call(&f, &request);
        EXPECT_EQ(seen.answer.outcome, AWS_UNAVAILABLE);
        EXPECT_EQ(seen.answer.tries, 1);
        EXPECT(seen.answer.sent);
        fixture_close(&f);
}

static void test_retries_keep_the_invocation_and_are_numbered(void) {
        Fixture f = fixture_open(false);
        char a[512], b[512];

        SCRIPT({ 500, "" }, { 200, "{}" });
        EXPECT_EQ(call(&f, &ecs).answer.outcome, AWS_OK);
        header_of(requests[0], "amz-sdk-invocation-id", a);
        header_of(requests[1], "amz-sdk-invocation-id", b);
        EXPECT_STR(a, b);
        header_of(requests[1], "amz-sdk-request", b);
        EXPECT_STR(b, "attempt=2; max=3");
        fixture_close(&f);
}

static void test_retries_end_when_the_budget_is_spent(void) {
        Fixture f = fixture_open(false);
        unsigned retries = 0;

        SCRIPT({ 500, "" });
        for (unsigned i = 0; i < 60; i++)
                retries += call(&f, &ecs).answer.tries - 1;
        EXPECT_EQ(retries, 100); /* 500 tokens, 5 each */
        EXPECT_EQ(call(&f, &ecs).answer.tries, 1);
        SCRIPT({ 200, "{}" });
        for (unsigned i = 0; i < 5; i++)
                EXPECT_EQ(call(&f, &ecs).answer.outcome, AWS_OK);
        SCRIPT({ 500, "" });
        EXPECT_EQ(call(&f, &ecs).answer.tries, 2);
        fixture_close(&f);
}

static void test_expired_keys_are_renewed_and_tried_once_more(void) {
        Fixture f = fixture_open(true);
        char value[512];
        Seen seen;

        EXPECT_EQ(call(&f, &ecs).answer.outcome, AWS_OK);
        fake_clock_forward(120); /* not twice in a minute */
        SCRIPT({ 400, JSON_ERROR("ExpiredTokenException") }, { 200, "{}" });
        seen = call(&f, &ecs);
        EXPECT_EQ(seen.answer.outcome, AWS_OK);
        EXPECT_EQ(seen.answer.tries, 2);
        header_of(requests[1], "Authorization", value);
        EXPECT(strstr(value, "Credential=AKID2/") != NULL);

        SCRIPT({ 400, JSON_ERROR("ExpiredTokenException") });
        seen = call(&f, &ecs);
        EXPECT_EQ(seen.answer.outcome, AWS_BAD_KEYS);
        EXPECT_EQ(seen.answer.tries, 2);
        EXPECT_STR(seen.answer.code, "ExpiredTokenException");
        fixture_close(&f);
}

static void test_a_wrong_clock_is_corrected_and_tried_once_more(void) {
        static const char *const codes[] = { JSON_ERROR("InvalidSignatureException"),
                JSON_ERROR("SignatureDoesNotMatch"), JSON_ERROR("AuthFailure"),
                JSON_ERROR("RequestTimeTooSkewed"), JSON_ERROR("RequestExpired") };
        static const int64_t shifts[] = { 3600, -3600, 300, -300, 31536000 };

        for (size_t i = 0; i < ELEMENTSOF(codes); i++) {
                Fixture f = fixture_open(false);
                char value[512], now[FORMAT_TIME_MAX];
                Seen seen;

                service_shift = shifts[i];
                SCRIPT({ 403, codes[i] }, { 200, "{}" });
                seen = call(&f, &ecs);
                EXPECT_EQ(seen.answer.outcome, AWS_OK);
                EXPECT_EQ(seen.answer.tries, 2);
                EXPECT(llabs(aws_clock_offset(f.aws) - SPAN_SEC(shifts[i]) + SPAN_SEC(fake_wall_shift)) <
                        SPAN_SEC(30));
                (void) format_sigv4_time(now, aws_wall(f.aws, clock_read().wall));
                header_of(requests[1], "X-Amz-Date", value);
                EXPECT(strncmp(value, now, 9) == 0 || strcmp(value + 9, "235900Z") > 0);
                /* From then on it is right at once. */
                SCRIPT({ 200, "{}" });
                EXPECT_EQ(call(&f, &ecs).answer.tries, 1);

                /* A service that goes on complaining is believed in the end. */
                SCRIPT({ 403, codes[i] });
                seen = call(&f, &ecs);
                EXPECT_EQ(seen.answer.outcome, AWS_BAD_KEYS);
                EXPECT_EQ(seen.answer.tries, 2);
                fixture_close(&f);
        }
}

static void test_the_clock_is_learnt_from_aws_only(void) {
        Fixture f = fixture_open(false);

        EXPECT_EQ(aws_clock_offset(f.aws), 0);
        SCRIPT({ 200, "{}", "Date: Mon, 23 Nov 2020 00:30:24 GMT\r\n" });
        EXPECT_EQ(call(&f, &ecs).answer.outcome, AWS_OK);
        EXPECT_EQ(aws_clock_offset(f.aws), 0);
        SCRIPT({ 200, "{}", "Date: nonsense\r\nx-amzn-RequestId: a\r\n" });
        EXPECT_EQ(call(&f, &ecs).answer.outcome, AWS_OK);
        EXPECT_EQ(aws_clock_offset(f.aws), 0);
        SCRIPT({ 400, JSON_ERROR("ClientException"),
                "Date: Mon, 23 Nov 2020 00:30:24 GMT\r\nx-amzn-RequestId: a\r\n" });
        EXPECT_EQ(call(&f, &ecs).answer.outcome, AWS_REFUSED);
        EXPECT(aws_clock_offset(f.aws) < -SPAN_DAY(365));
        EXPECT(wall_since(aws_wall(f.aws, (Wall){ SPAN_DAY(20000) }), (Wall){ SPAN_DAY(20000) }) ==
                aws_clock_offset(f.aws));
        fixture_close(&f);
}

static void test_without_region_or_keys_nothing_is_sent(void) {
        Fixture f = fixture_open(false);
        Seen seen;

        f.aws = aws_free(f.aws);
        EXPECT_EQ(aws_new(&f.aws, f.event, f.http, f.credentials), 0);
        seen = call(&f, &ecs);
        EXPECT_EQ(seen.answer.outcome, AWS_NO_KEYS);
        EXPECT(!seen.answer.sent);
        EXPECT_EQ(seen.answer.tries, 0);
        EXPECT_EQ(aws_set_region(f.aws, "", NULL), -EINVAL);
        EXPECT_EQ(aws_set_region(f.aws, NULL, NULL), -EINVAL);

        (void) unsetenv("AWS_ENDPOINT_URL");
        EXPECT_EQ(aws_set_region(f.aws, "../evil", NULL), 0);
        seen = call(&f, &ecs);
        EXPECT_EQ(seen.answer.outcome, AWS_UNAVAILABLE);
        EXPECT(!seen.answer.sent);
        EXPECT_EQ(f.server->accepts, 0);
        fixture_close(&f);

        f = fixture_open(true);
        EXPECT_EQ(setenv("AWS_EC2_METADATA_DISABLED", "true", 1), 0);
        f.aws = aws_free(f.aws);
        f.credentials = aws_credentials_free(f.credentials);
        f.imds = imds_free(f.imds);
        EXPECT_EQ(imds_new(&f.imds, f.event, f.http), 0);
        EXPECT_EQ(aws_credentials_new(&f.credentials, f.event, f.imds), 0);
        EXPECT_EQ(aws_new(&f.aws, f.event, f.http, f.credentials), 0);
        EXPECT_EQ(aws_set_region(f.aws, "eu-west-1", NULL), 0);
        for (unsigned i = 0; i < 2; i++) {
                seen = call(&f, &ecs);
                EXPECT_EQ(seen.answer.outcome, AWS_NO_KEYS);
                EXPECT(!seen.answer.sent);
        }
        EXPECT_EQ(n_calls, 0);
        EXPECT_EQ(unsetenv("AWS_EC2_METADATA_DISABLED"), 0);
        fixture_close(&f);
}

static void test_many_calls_wait_for_the_same_keys(void) {
        Fixture f = fixture_open(true);
        Seen seen[20] = {};

        for (size_t i = 0; i < ELEMENTSOF(seen); i++)
                EXPECT_EQ(aws_call(f.aws, &ecs, on_answer, &seen[i], &seen[i].call), 0);
        for (size_t i = 0; i < ELEMENTSOF(seen); i++) {
                run_until(&f, &seen[i].n, 1);
                EXPECT_EQ(seen[i].answer.outcome, AWS_OK);
        }
        EXPECT_EQ(n_roles, 1);
        fixture_close(&f);
}

static void test_a_freed_call_is_never_answered(void) {
        Fixture f = fixture_open(true);
        Seen a = {}, b = {}, c = {};

        EXPECT_EQ(aws_call(f.aws, &ecs, on_answer, &a, &a.call), 0);
        EXPECT_EQ(aws_call(f.aws, &ecs, on_answer, &b, &b.call), 0);
        EXPECT_EQ(aws_call(f.aws, &ecs, on_answer, &c, &c.call), 0);
        a.call = aws_call_free(a.call);
        b.other = &c.call;
        c.other = &b.call;
        while (b.n + c.n == 0)
                (void) sd_event_run(f.event, SPAN_MSEC(1));
        for (unsigned i = 0; i < 20; i++)
                (void) sd_event_run(f.event, SPAN_MSEC(1));
        EXPECT_EQ(a.n, 0);
        EXPECT_EQ(b.n + c.n, 1);

        EXPECT_EQ(aws_call(f.aws, &ecs, on_answer, &a, &a.call), 0);
        f.aws = aws_free(f.aws);
        for (unsigned i = 0; i < 20; i++)
                (void) sd_event_run(f.event, SPAN_MSEC(1));
        EXPECT_EQ(a.n, 0);
        (void) aws_call_free(a.call);
        EXPECT(!aws_call_free(NULL));
        EXPECT(!aws_free(NULL));
        fixture_close(&f);
}

/* The pure part. */

#define NOW  SPAN_DAY(20780) /* 2026-11-23 */
#define DATE "Mon, 23 Nov 2026 00:00:00 GMT"
#define EC2_ERROR(code)                                                                                     \
        "<Response><Errors><Error><Code>" code "</Code><Message>words</Message></Error></Errors>"           \
        "<RequestID>id-1</RequestID></Response>"

static void test_answers_are_classified(void) {
        /* clang-format off */
        static const struct { /* NOLINT(clang-analyzer-optin.performance.Padding): a table for readers */
                AwsService service;
                unsigned status;
                const char *body;
                const char *query_error;
                Span late;              /* our clock minus the service's */
                AwsOutcome outcome;
                const char *code;
                bool expired, skewed;
        } cases[] = {
                { AWS_ECS, 200, "{}",                                       "", 0, AWS_OK, "", false, false },
                { AWS_ECS, 204, "",                                         "", 0, AWS_OK, "", false, false },
                /* shapes */
                { AWS_ECS, 400, JSON_ERROR("ThrottlingException"),          "", 0, AWS_THROTTLED, "ThrottlingException", false, false },
                { AWS_ECS, 400, "{\"__type\":\"ThrottlingException\"}",     "", 0, AWS_THROTTLED, "ThrottlingException", false, false },
                { AWS_ECS, 400, "{\"__type\":\"a#Throttling:http://b/#c\"}", "", 0, AWS_THROTTLED, "Throttling", false, false },
                { AWS_ECS, 400, "{\"code\":\"Throttling\"}",                "", 0, AWS_THROTTLED, "Throttling", false, false },
                { AWS_ECS, 400, "{\"__type\":\"a b\"}",                     "", 0, AWS_REFUSED, "", false, false },
                { AWS_ECS, 400, "{\"__type\":7}",                           "", 0, AWS_REFUSED, "", false, false },
                { AWS_ECS, 400, "{\"__type\":\"#\"}",                       "", 0, AWS_REFUSED, "", false, false },
                { AWS_ECS, 403, XML_ERROR("AccessDenied"),                  "", 0, AWS_DENIED, "AccessDenied", false, false },
                { AWS_CLOUDWATCH, 400, JSON_ERROR("InvalidParameterValueException"), "InvalidParameterValue;Sender", 0,
                        AWS_REFUSED, "InvalidParameterValue", false, false },
                { AWS_CLOUDWATCH, 400, "garbage",                           "Throttling;Sender", 0, AWS_THROTTLED, "Throttling", false, false },
                { AWS_AUTO_SCALING, 400, XML_ERROR("Throttling"),           "", 0, AWS_THROTTLED, "Throttling", false, false },
                { AWS_AUTO_SCALING, 400, XML_ERROR("NeverHeardOf"),         "", 0, AWS_REFUSED, "NeverHeardOf", false, false },
                { AWS_AUTO_SCALING, 500, XML_ERROR("NeverHeardOf"),         "", 0, AWS_UNAVAILABLE, "NeverHeardOf", false, false },
                { AWS_AUTO_SCALING, 500, XML_ERROR("ResourceContention"),   "", 0, AWS_CONTENTION, "ResourceContention", false, false },
                { AWS_EC2, 503, EC2_ERROR("RequestLimitExceeded"),          "", 0, AWS_THROTTLED, "RequestLimitExceeded", false, false },
                { AWS_EC2, 403, EC2_ERROR("UnauthorizedOperation"),         "", 0, AWS_DENIED, "UnauthorizedOperation", false, false },
                { AWS_EC2, 412, EC2_ERROR("DryRunOperation"),               "", 0, AWS_REFUSED, "DryRunOperation", false, false },
                { AWS_EC2, 400, EC2_ERROR("UnsupportedOperation"),          "", 0, AWS_REFUSED, "UnsupportedOperation", false, false },
                { AWS_EC2, 400, EC2_ERROR("InvalidInstanceID.NotFound"),    "", 0, AWS_REFUSED, "InvalidInstanceID.NotFound", false, false },
                { AWS_ECS, 400, JSON_ERROR("ServerException"),              "", 0, AWS_UNAVAILABLE, "ServerException", false, false },
                /* no shape at all */
                { AWS_ECS, 400, "<html>Bad Request</html>",                 "", 0, AWS_REFUSED, "", false, false },
                { AWS_ECS, 401, "",                                         "", 0, AWS_BAD_KEYS, "", false, false },
                { AWS_ECS, 403, "{\"__type\":",                             "", 0, AWS_DENIED, "", false, false },
                { AWS_ECS, 407, "<html>",                                   "", 0, AWS_UNAVAILABLE, "", false, false },
                { AWS_ECS, 408, "",                                         "", 0, AWS_UNAVAILABLE, "", false, false },
                { AWS_ECS, 429, "",                                         "", 0, AWS_THROTTLED, "", false, false },
                { AWS_ECS, 502, "<html>",                                   "", 0, AWS_UNAVAILABLE, "", false, false },
                { AWS_ECS, 301, "",                                         "", 0, AWS_UNAVAILABLE, "", false, false },
                { AWS_ECS, 999, "",                                         "", 0, AWS_UNAVAILABLE, "", false, false },
                /* keys and clocks */
                { AWS_ECS, 400, JSON_ERROR("ExpiredTokenException"),        "", 0, AWS_BAD_KEYS, "ExpiredTokenException", true, false },
                { AWS_EC2, 400, EC2_ERROR("RequestExpired"),                "", SPAN_MIN(3), AWS_BAD_KEYS, "RequestExpired", true, false },
                { AWS_EC2, 400, EC2_ERROR("RequestExpired"),                "", SPAN_MIN(-5), AWS_BAD_KEYS, "RequestExpired", false, true },
                { AWS_ECS, 403, JSON_ERROR("InvalidSignatureException"),    "", SPAN_MIN(4), AWS_BAD_KEYS, "InvalidSignatureException", false, false },
                { AWS_ECS, 403, JSON_ERROR("InvalidSignatureException"),    "", SPAN_MIN(4) + 1, AWS_BAD_KEYS, "InvalidSignatureException", false, true },
                { AWS_ECS, 403, JSON_ERROR("InvalidSignatureException"),    "", SPAN_MIN(-4) - 1, AWS_BAD_KEYS, "InvalidSignatureException", false, true },
                { AWS_EC2, 401, EC2_ERROR("AuthFailure"),                   "", 0, AWS_BAD_KEYS, "AuthFailure", false, false },
                { AWS_ECS, 403, JSON_ERROR("SignatureDoesNotMatch"),        "", SPAN_DAY(1), AWS_BAD_KEYS, "SignatureDoesNotMatch", false, true },
                { AWS_ECS, 403, JSON_ERROR("RequestTimeTooSkewed"),         "", 0, AWS_BAD_KEYS, "RequestTimeTooSkewed", false, true },
                { AWS_ECS, 400, JSON_ERROR("UnrecognizedClientException"),  "", SPAN_DAY(1), AWS_BAD_KEYS, "UnrecognizedClientException", false, false },
        };
        /* clang-format on */

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                HttpAnswer http = { .sent = true,
                        .status = cases[i].status,
                        .body = cases[i].body,
                        .n_body = strlen(cases[i].body),
                        .date = DATE };
                AwsAnswer answer;
                bool expired = true, skewed = true;

                (void) snprintf(http.query_error, sizeof(http.query_error), "%s", cases[i].query_error);
                aws_classify(
                        cases[i].service, &http, (Wall){ NOW + cases[i].late }, &answer, &expired, &skewed);
                if (answer.outcome != cases[i].outcome || strcmp(answer.code, cases[i].code) != 0)
                        printf("# case %zu: %s\n", i, cases[i].body);
                EXPECT_EQ(answer.outcome, cases[i].outcome);
                EXPECT_STR(answer.code, cases[i].code);
                EXPECT_EQ(expired, cases[i].expired);
                EXPECT_EQ(skewed, cases[i].skewed);
                EXPECT_EQ(answer.server_time.usec, NOW);
                EXPECT_EQ(answer.status, cases[i].status);
                EXPECT(answer.sent);
                EXPECT(!answer.json && !answer.xml);
                EXPECT(answer.outcome == AWS_OK || answer.message[0] != 0);
        }
}

static void test_transport_errors_are_unavailable(void) {
        static const int errors[] = { -ETIMEDOUT, -ECONNREFUSED, -ENXIO, -EPROTO, -E2BIG, -EKEYREJECTED,
                -EIO };

        for (size_t i = 0; i < ELEMENTSOF(errors) * 2; i++) {
                HttpAnswer http = {
                        .error = errors[i / 2], .sent = i % 2, .body = "", .detail = "no\nroute"
                };
                AwsAnswer answer;
                bool expired = true, skewed = true;

                aws_classify(AWS_ECS, &http, (Wall){ NOW }, &answer, &expired, &skewed);
                EXPECT_EQ(answer.outcome, AWS_UNAVAILABLE);
                EXPECT_EQ(answer.sent, i % 2);
                EXPECT_STR(answer.message, "no route");
                EXPECT(!expired && !skewed);
        }
}

static void test_a_clock_cannot_be_corrected_without_a_date(void) {
        static const char *const dates[] = { "", "yesterday", "Mon, 23 Nov 2026 00:00:00" };

        for (size_t i = 0; i < ELEMENTSOF(dates); i++) {
                HttpAnswer http = { .status = 403,
                        .body = JSON_ERROR("RequestTimeTooSkewed"),
                        .n_body = strlen(JSON_ERROR("RequestTimeTooSkewed")) };
                AwsAnswer answer;
                bool expired = true, skewed = true;

                (void) snprintf(http.date, sizeof(http.date), "%s", dates[i]);
                aws_classify(AWS_ECS, &http, (Wall){ NOW }, &answer, &expired, &skewed);
                EXPECT_EQ(answer.outcome, AWS_BAD_KEYS);
                EXPECT(!skewed && !expired);
                EXPECT(!wall_is_set(answer.server_time));
        }
}

static void test_ids_and_words_are_fit_for_a_log(void) {
        HttpAnswer http = { .status = 400,
                .body = "{\"__type\":\"A\",\"Message\":\"a\\nb\\u0007\xc3\xa9\"}" };
        AwsAnswer answer;
        bool expired, skewed;

        http.n_body = strlen(http.body);
        aws_classify(AWS_ECS, &http, (Wall){ NOW }, &answer, &expired, &skewed);
        EXPECT_STR(answer.message, "a b???");
        EXPECT_STR(answer.request_id, "");

        http.body = XML_ERROR("A");
        http.n_body = strlen(http.body);
        aws_classify(AWS_EC2, &http, (Wall){ NOW }, &answer, &expired, &skewed);
        EXPECT_STR(answer.request_id, "id-1");
        (void) snprintf(http.request_id, sizeof(http.request_id), "%s", "of-the-header");
        aws_classify(AWS_EC2, &http, (Wall){ NOW }, &answer, &expired, &skewed);
        EXPECT_STR(answer.request_id, "of-the-header");
        for (unsigned i = 0; i < AWS_OUTCOME_N; i++)
                EXPECT(aws_outcome_to_string((AwsOutcome) i)[0] != 0);
}

TEST_MAIN(TEST(test_a_json_call_is_signed_and_read), TEST(test_a_cloudwatch_call_asks_for_query_codes),
        TEST(test_a_query_call_is_composed_and_read), TEST(test_a_session_token_is_sent),
        TEST(test_a_success_that_is_none_is_garbled), TEST(test_calls_are_tried_again_when_that_may_help),
        TEST(test_what_yields_is_not_tried_again_when_it_is_throttled),
        TEST(test_what_may_happen_once_only_is_tried_again_after_a_definite_no_only),
        TEST(test_what_was_never_sent_may_be_tried_again), TEST(test_a_hung_service_is_unavailable),
        TEST(test_too_long_an_answer_is_not_asked_for_again),
        TEST(test_retries_keep_the_invocation_and_are_numbered),
        TEST(test_retries_end_when_the_budget_is_spent),
        TEST(test_expired_keys_are_renewed_and_tried_once_more),
        TEST(test_a_wrong_clock_is_corrected_and_tried_once_more),
        TEST(test_the_clock_is_learnt_from_aws_only), TEST(test_without_region_or_keys_nothing_is_sent),
        TEST(test_many_calls_wait_for_the_same_keys), TEST(test_a_freed_call_is_never_answered),
        TEST(test_answers_are_classified), TEST(test_transport_errors_are_unavailable),
        TEST(test_a_clock_cannot_be_corrected_without_a_date), TEST(test_ids_and_words_are_fit_for_a_log))
