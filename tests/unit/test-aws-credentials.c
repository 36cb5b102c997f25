/* SPDX-License-Identifier: Apache-2.0 */

/* Keys of the environment and of a role: got, renewed in time, kept when they cannot be renewed. */

#include <stdarg.h>
#include <sys/wait.h>

#include "common/aws-credentials.h"
#include "common/loop.h"
#include "common/parse.h"
#include "tests/unit/fake-clock.h"
#include "tests/unit/fake-server.h"
#include "tests/unit/test.h"

/* What the metadata service hands out. Set by the test while nothing is under way. */
static char role[256], document[16384];
static unsigned role_status, document_status;
static atomic_uint fetches;

static bool serve(FakeConnection *c, const char *request) {
        if (strncmp(request, "PUT ", 4) == 0)
                fake_answer(c, 200, "", "token");
        else if (strncmp(request, "GET /latest/meta-data/iam/security-credentials/ ", 48) == 0) {
                fetches++;
                fake_answer(c, role_status, "", role);
        } else if (strncmp(request, "GET /latest/meta-data/iam/security-credentials/my-role ", 55) == 0)
                fake_answer(c, document_status, "", document);
        else
                fake_answer(c, 404, "", "no such item");
        return true;
}

static void hand_out(const char *key, Span life) {
        char until[FORMAT_TIME_MAX];

        (void) snprintf(document, sizeof(document),
                "{ \"Code\": \"Success\", \"LastUpdated\": \"2026-11-23T00:00:00Z\", \"Type\": "
                "\"AWS-HMAC\", "
                "\"AccessKeyId\": \"%s\", \"SecretAccessKey\": \"s/e+c\", \"Token\": \"tok==\", "
                "\"Expiration\": \"%s\" }",
                key, format_rfc3339(until, wall_add(clock_read().wall, life)));
}

typedef struct Fixture {
        sd_event *event;
        Helper *helper;
        Http *http;
        Imds *imds;
        AwsCredentials *credentials;
        FakeServer *server;
        unsigned ready;
} Fixture;

static void fixture_open_credentials(Fixture *f) {
        EXPECT_EQ(aws_credentials_new(&f->credentials, f->event, f->imds), 0);
}

static Fixture fixture_open(void) {
        Fixture f = {};

        (void) snprintf(role, sizeof(role), "%s", "my-role");
        role_status = document_status = 200;
        fetches = 0;
        hand_out("AKIDONE", SPAN_HOUR(6));
        (void) unsetenv("AWS_ACCESS_KEY_ID");
        (void) unsetenv("AWS_SECRET_ACCESS_KEY");
        (void) unsetenv("AWS_SESSION_TOKEN");
        f.server = fake_start(serve, NULL, NULL, NULL);
        EXPECT_EQ(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f.server->url, 1), 0);
        EXPECT_EQ(sd_event_new(&f.event), 0);
        EXPECT_EQ(helper_new(&f.helper, f.event), 0);
        EXPECT_EQ(http_new(&f.http, f.event, f.helper, &(HttpOptions){}), 0);
        EXPECT_EQ(imds_new(&f.imds, f.event, f.http), 0);
        fixture_open_credentials(&f);
        return f;
}

static void fixture_close(Fixture *f) {
        f->credentials = aws_credentials_free(f->credentials);
        f->imds = imds_free(f->imds);
        f->http = http_free(f->http);
        f->helper = helper_free(f->helper);
        fake_stop(f->server);
        f->event = sd_event_unref(f->event);
}

static void on_ready(void *userdata) {
        unsigned *n = userdata;

        (*n)++;
}

/*
 * Runs the loop until @done has become @n. Time passes faster than it seems when retries must be waited for.
 */
static void run_until(Fixture *f, const unsigned *done, unsigned n) {
        for (unsigned i = 0; i < 20000 && *done < n; i++) {
                (void) sd_event_run(f->event, SPAN_MSEC(1));
                if (i % 20 == 19)
                        fake_clock_forward(1);
        }
        EXPECT_EQ(*done, n);
}

/* Waits for the fetch under way. */
static void settle(Fixture *f) {
        unsigned n = 0;

        aws_credentials_wait(f->credentials, on_ready, &n);
        run_until(f, &n, 1);
}

static void expect_key(Fixture *f, const char *key, AwsCredentialsState state) {
        AwsKeys keys = {};

        EXPECT_EQ(aws_credentials_get(f->credentials, &keys), key ? 0 : -EAGAIN);
        EXPECT_STR(keys.access_key_id, key);
        if (aws_credentials_state(f->credentials) != state)
                printf("# %s\n", aws_credentials_detail(f->credentials));
        EXPECT_EQ(aws_credentials_state(f->credentials), state);
        EXPECT(aws_credentials_detail(f->credentials)[0] != 0);
}

/* Lets @seconds pass, and the loop see it. */
static void pass(Fixture *f, int64_t seconds) {
        unsigned before = fetches;

        fake_clock_forward(seconds);
        for (unsigned i = 0; i < 20 || (fetches > before && i < 60); i++)
                (void) sd_event_run(f->event, SPAN_MSEC(1));
        settle(f);
}

static void test_keys_of_the_environment_come_first(void) {
        Fixture f = fixture_open();
        AwsKeys keys = {};

        f.credentials = aws_credentials_free(f.credentials);
        EXPECT_EQ(setenv("AWS_ACCESS_KEY_ID", "AKIDENV", 1), 0);
        EXPECT_EQ(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        fixture_open_credentials(&f);
        expect_key(&f, "AKIDENV", AWS_CREDENTIALS_GOOD);
        EXPECT_EQ(aws_credentials_get(f.credentials, &keys), 0);
        EXPECT_STR(keys.secret_access_key, "secret");
        EXPECT(!keys.session_token);
        aws_credentials_refresh(f.credentials);
        settle(&f);
        EXPECT_EQ(f.server->accepts, 0);

        f.credentials = aws_credentials_free(f.credentials);
        EXPECT_EQ(setenv("AWS_SESSION_TOKEN", "token", 1), 0);
        fixture_open_credentials(&f);
        EXPECT_EQ(aws_credentials_get(f.credentials, &keys), 0);
        EXPECT_STR(keys.session_token, "token");

        f.credentials = aws_credentials_free(f.credentials);
        EXPECT_EQ(setenv("AWS_SESSION_TOKEN", "to\nken", 1), 0);
        fixture_open_credentials(&f);
        expect_key(&f, NULL, AWS_CREDENTIALS_FAILED);
        fixture_close(&f);
}

static void test_half_a_key_in_the_environment_is_none(void) {
        Fixture f = fixture_open();

        f.credentials = aws_credentials_free(f.credentials);
        EXPECT_EQ(setenv("AWS_ACCESS_KEY_ID", "AKIDENV", 1), 0);
        EXPECT_EQ(setenv("AWS_SECRET_ACCESS_KEY", "", 1), 0);
        fixture_open_credentials(&f);
        expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
        settle(&f);
        expect_key(&f, "AKIDONE", AWS_CREDENTIALS_GOOD);
        fixture_close(&f);
}

static void test_keys_of_the_role_are_got_when_first_wanted(void) {
        Fixture f = fixture_open();
        AwsKeys keys = {};

        expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
        settle(&f);
        expect_key(&f, "AKIDONE", AWS_CREDENTIALS_GOOD);
        EXPECT_EQ(aws_credentials_get(f.credentials, &keys), 0);
        EXPECT_STR(keys.secret_access_key, "s/e+c");
        EXPECT_STR(keys.session_token, "tok==");
        EXPECT(strstr(aws_credentials_detail(f.credentials), "my-role") != NULL);
        EXPECT(!strstr(aws_credentials_detail(f.credentials), "AKID"));
        EXPECT_EQ(fetches, 1);
        fixture_close(&f);
}

static void test_documents_without_keys_say_why(void) {
        static const struct {
                const char *role;
                unsigned role_status;
                const char *document;
                unsigned document_status;
                AwsCredentialsState state;
                const char *detail;
        } cases[] = {
                { "", 404, "", 200, AWS_CREDENTIALS_NO_ROLE, "no role" },
                { "", 200, "", 200, AWS_CREDENTIALS_NO_ROLE, "no role" },
                { "\n", 200, "", 200, AWS_CREDENTIALS_NO_ROLE, "no role" },
                { "my-role", 403, "", 200, AWS_CREDENTIALS_FAILED, "denied" },
                { "my-role", 503, "", 200, AWS_CREDENTIALS_FAILED, "metadata service" },
                { "../../user-data", 200, "", 200, AWS_CREDENTIALS_FAILED, "name" },
                { "my role", 200, "", 200, AWS_CREDENTIALS_FAILED, "name" },
                { "<html>", 200, "", 200, AWS_CREDENTIALS_FAILED, "name" },
                { "my-role", 200, "", 404, AWS_CREDENTIALS_NO_ROLE, "no role" },
                { "my-role", 200, "<html>", 200, AWS_CREDENTIALS_FAILED, "not JSON" },
                { "my-role", 200, "[]", 200, AWS_CREDENTIALS_NO_ROLE, "no keys" },
                { "my-role", 200, "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"no\"}", 200,
                        AWS_CREDENTIALS_NO_ROLE, "AssumeRoleUnauthorizedAccess" },
                { "my-role", 200, "{\"Code\":\"x\\ny\"}", 200, AWS_CREDENTIALS_NO_ROLE, "no keys" },
                { "my-role", 200, "{\"Code\":\"Success\",\"AccessKeyId\":\"A\"}", 200,
                        AWS_CREDENTIALS_FAILED, "sense" },
                { "my-role", 200, "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":7}", 200,
                        AWS_CREDENTIALS_FAILED, "sense" },
                { "my-role", 200, "{\"Code\":\"Success\",\"AccessKeyId\":\"A b\",\"SecretAccessKey\":\"s\"}",
                        200, AWS_CREDENTIALS_FAILED, "sense" },
                { "my-role", 200,
                        "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Token\":"
                        "\"\\u0001\"}",
                        200, AWS_CREDENTIALS_FAILED, "sense" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open();

                (void) snprintf(role, sizeof(role), "%s", cases[i].role);
                (void) snprintf(document, sizeof(document), "%s", cases[i].document);
                role_status = cases[i].role_status;
                document_status = cases[i].document_status;
                expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
                settle(&f);
                expect_key(&f, NULL, cases[i].state);
                if (!strstr(aws_credentials_detail(f.credentials), cases[i].detail))
                        printf("# case %zu: %s\n", i, aws_credentials_detail(f.credentials));
                EXPECT(strstr(aws_credentials_detail(f.credentials), cases[i].detail) != NULL);

                /* It is asked again, and what was wrong may be right by then. */
                (void) snprintf(role, sizeof(role), "%s", "my-role");
                role_status = document_status = 200;
                hand_out("AKIDTWO", SPAN_HOUR(6));
                pass(&f, 3600);
                expect_key(&f, "AKIDTWO", AWS_CREDENTIALS_GOOD);
                fixture_close(&f);
        }
}

static void test_too_long_keys_are_refused(void) {
        Fixture f = fixture_open();
        size_t n;

        (void) strcpy(document,
                "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Token\":\"");
        n = strlen(document);
        (void) memset(document + n, 'x', 8193);
        (void) memcpy(document + n + 8193, "\"}", 3);
        expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
        settle(&f);
        expect_key(&f, NULL, AWS_CREDENTIALS_FAILED);
        (void) memcpy(document + n + 8192, "\"}", 3);
        pass(&f, 3600);
        expect_key(&f, "A", AWS_CREDENTIALS_GOOD);
        fixture_close(&f);
}

static void test_keys_are_renewed_before_they_expire(void) {
        Fixture f = fixture_open();

        hand_out("AKIDONE", SPAN_MIN(45));
        expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
        settle(&f);
        expect_key(&f, "AKIDONE", AWS_CREDENTIALS_GOOD);
        hand_out("AKIDTWO", SPAN_HOUR(6));
        pass(&f, 1740);
        expect_key(&f, "AKIDONE", AWS_CREDENTIALS_GOOD);
        pass(&f, 420);
        expect_key(&f, "AKIDTWO", AWS_CREDENTIALS_GOOD);

        /* And at least once an hour. */
        hand_out("AKIDTHREE", SPAN_HOUR(12));
        pass(&f, 3602);
        expect_key(&f, "AKIDTHREE", AWS_CREDENTIALS_GOOD);
        EXPECT_EQ(fetches, 3);
        fixture_close(&f);
}

static void test_keys_stay_in_use_when_they_cannot_be_renewed(void) {
        static const struct {
                unsigned role_status, document_status;
                const char *document;
        } cases[] = {
                { 503, 200, NULL },
                { 404, 200, NULL },
                { 200, 500, NULL },
                { 200, 200, "nonsense" },
                { 200, 200, "{\"Code\":\"Failed\"}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open();

                expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
                settle(&f);
                role_status = cases[i].role_status;
                document_status = cases[i].document_status;
                if (cases[i].document)
                        (void) snprintf(document, sizeof(document), "%s", cases[i].document);
                pass(&f, 86400);
                expect_key(&f, "AKIDONE", AWS_CREDENTIALS_STALE);

                /* Asked for again within a quarter of an hour. */
                role_status = document_status = 200;
                hand_out("AKIDTWO", SPAN_HOUR(6));
                pass(&f, 901);
                expect_key(&f, "AKIDTWO", AWS_CREDENTIALS_GOOD);
                fixture_close(&f);
        }
}

static void test_expired_keys_are_used_all_the_same(void) {
        Fixture f = fixture_open();

        hand_out("AKIDOLD", SPAN_HOUR(-1));
        expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
        settle(&f);
        expect_key(&f, "AKIDOLD", AWS_CREDENTIALS_STALE);

        /* Older ones than those in hand are no gain. */
        hand_out("AKIDOLDER", SPAN_HOUR(-5));
        pass(&f, 901);
        expect_key(&f, "AKIDOLD", AWS_CREDENTIALS_STALE);
        EXPECT_EQ(fetches, 2);
        fixture_close(&f);
}

static void test_an_unknown_expiry_is_no_obstacle(void) {
        Fixture f = fixture_open();

        (void) snprintf(document, sizeof(document), "%s",
                "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\","
                "\"Expiration\":\"soon\"}");
        expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
        settle(&f);
        expect_key(&f, "A", AWS_CREDENTIALS_GOOD);
        pass(&f, 901);
        EXPECT_EQ(fetches, 2);
        fixture_close(&f);
}

static void test_a_refresh_happens_once_a_minute_at_most(void) {
        Fixture f = fixture_open();

        expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
        settle(&f);
        hand_out("AKIDTWO", SPAN_HOUR(7));
        aws_credentials_refresh(f.credentials);
        settle(&f);
        expect_key(&f, "AKIDONE", AWS_CREDENTIALS_GOOD);
        pass(&f, 61);
        expect_key(&f, "AKIDTWO", AWS_CREDENTIALS_GOOD);

        hand_out("AKIDTHREE", SPAN_HOUR(8));
        pass(&f, 61);
        expect_key(&f, "AKIDTWO", AWS_CREDENTIALS_GOOD);
        aws_credentials_refresh(f.credentials);
        aws_credentials_refresh(f.credentials);
        settle(&f);
        expect_key(&f, "AKIDTHREE", AWS_CREDENTIALS_GOOD);
        EXPECT_EQ(fetches, 3);
        fixture_close(&f);
}

static void test_everyone_who_waits_is_told_once(void) {
        Fixture f = fixture_open();
        unsigned a = 0, b = 0, gone = 0;

        expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
        aws_credentials_wait(f.credentials, on_ready, &a);
        aws_credentials_wait(f.credentials, on_ready, &gone);
        aws_credentials_wait(f.credentials, on_ready, &b);
        aws_credentials_unwait(f.credentials, &gone);
        EXPECT_EQ(a + b, 0);
        run_until(&f, &a, 1);
        run_until(&f, &b, 1);
        pass(&f, 10800);
        EXPECT_EQ(a + b, 2);
        EXPECT_EQ(gone, 0);
        fixture_close(&f);
}

static void test_children_do_not_inherit_keys(void) {
        Fixture f = fixture_open();
        AwsKeys keys = {};
        int status = -1;
        pid_t pid;

        expect_key(&f, NULL, AWS_CREDENTIALS_UNKNOWN);
        settle(&f);
        EXPECT_EQ(aws_credentials_get(f.credentials, &keys), 0);
        pid = fork();
        if (pid == 0)
                _exit(keys.secret_access_key[0] == 0 ? 0 : 1);
        EXPECT_EQ(waitpid(pid, &status, 0), pid);
        EXPECT_EQ(status, 0);
        EXPECT(!aws_credentials_free(NULL));
        fixture_close(&f);
}

TEST_MAIN(TEST(test_keys_of_the_environment_come_first), TEST(test_half_a_key_in_the_environment_is_none),
        TEST(test_keys_of_the_role_are_got_when_first_wanted), TEST(test_documents_without_keys_say_why),
        TEST(test_too_long_keys_are_refused), TEST(test_keys_are_renewed_before_they_expire),
        TEST(test_keys_stay_in_use_when_they_cannot_be_renewed),
        TEST(test_expired_keys_are_used_all_the_same), TEST(test_an_unknown_expiry_is_no_obstacle),
        TEST(test_a_refresh_happens_once_a_minute_at_most), TEST(test_everyone_who_waits_is_told_once),
        TEST(test_children_do_not_inherit_keys))
