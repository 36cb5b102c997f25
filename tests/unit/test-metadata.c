/* SPDX-License-Identifier: Apache-2.0 */

/* What the metadata service says of our life, who it says we are, and that nonsense is neither. */

#include "agent/observe/metadata.h"
#include "common/loop.h"
#include "tests/unit/fake-resolver.h"
#include "tests/unit/fake-server.h"
#include "tests/unit/test.h"

/** What the service has; NULL: 404. Changed only while nothing is under way. */
typedef struct Items {
        const char *lifecycle, *spot;
        const char *instance_id, *region, *zone, *domain, *instance_type;
        unsigned status; /* of everything but the token; 0: as fits */
} Items;

static const Items whole = {
        .lifecycle = "InService",
        .instance_id = "i-0123456789abcdef0",
        .region = "eu-west-1",
        .zone = "eu-west-1a",
        .domain = "amazonaws.com",
        .instance_type = "t4g.small",
};

typedef struct Fixture {
        sd_event *event;
        Helper *helper;
        Http *http;
        Imds *imds;
        FakeServer *server;
        Metadata *metadata;
        Items items;
        unsigned n, n_ready;
        Sample sample;
        bool free_in_handler;
} Fixture;

static bool serve(FakeConnection *c, const char *request) {
        const Items *items = c->server->userdata;
        const struct {
                const char *path, *text;
        } rows[] = {
                { "autoscaling/target-lifecycle-state", items->lifecycle },
                { "spot/instance-action", items->spot },
                { "instance-id", items->instance_id },
                { "placement/region", items->region },
                { "placement/availability-zone", items->zone },
                { "services/domain", items->domain },
                { "instance-type", items->instance_type },
        };

        if (strncmp(request, "PUT /latest/api/token ", 22) == 0) {
                fake_answer(c, 200, "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", "token");
                return true;
        }
        if (items->status) {
                fake_answer(c, items->status, "", "<html>");
                return true;
        }
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char line[128];

                (void) snprintf(line, sizeof(line), "GET /latest/meta-data/%s ", rows[i].path);
                if (strncmp(request, line, strlen(line)) == 0 && rows[i].text) {
                        fake_answer(c, 200, "", rows[i].text);
                        return true;
                }
        }
        fake_answer(c, 404, "", "<html>404 - Not Found</html>");
        return true;
}

static void on_sample(const Sample *sample, void *userdata) {
        Fixture *f = userdata;

        f->n++;
        f->sample = *sample;
        EXPECT_EQ(sample->witness, WITNESS_METADATA);
        if (f->free_in_handler)
                f->metadata = metadata_free(f->metadata);
}

static void on_ready(void *userdata) {
        Fixture *f = userdata;

        f->n_ready++;
        EXPECT(metadata_identity(f->metadata)->whole);
        if (f->free_in_handler)
                f->metadata = metadata_free(f->metadata);
}

static void fixture_open(Fixture *f, const Items *items, Span every) {
        memset(f, 0, sizeof(*f));
        f->items = *items;
        resolver_open();
        f->server = fake_start(serve, &f->items, NULL, NULL);
        (void) unsetenv("AWS_EC2_METADATA_DISABLED");
        (void) setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f->server->url, 1);
        EXPECT_EQ(sd_event_new(&f->event), 0);
        EXPECT_EQ(helper_new(&f->helper, f->event), 0);
        EXPECT_EQ(http_new(&f->http, f->event, f->helper, &(HttpOptions){ .user_agent = "test/1" }), 0);
        EXPECT_EQ(imds_new(&f->imds, f->event, f->http), 0);
        EXPECT_EQ(metadata_new(&f->metadata, f->event, f->imds, every, on_sample, f), 0);
        EXPECT_EQ(f->n, 0);
}

static void fixture_close(Fixture *f) {
        f->metadata = metadata_free(f->metadata);
        f->imds = imds_free(f->imds);
        f->http = http_free(f->http);
        f->helper = helper_free(f->helper);
        fake_stop(f->server);
        f->event = sd_event_unref(f->event);
}

#define RUN_UNTIL(f, condition)                                                                             \
        do {                                                                                                \
                Mono _end = mono_add(clock_read().mono, SPAN_SEC(30));                                      \
                while (!(condition) && mono_before(clock_read().mono, _end))                                \
                        EXPECT(sd_event_run((f)->event, SPAN_MSEC(100)) >= 0);                              \
                EXPECT(condition);                                                                          \
        } while (0)

static void test_a_round_tells_lifecycle_and_spot_notice(void) {
        static const struct {
                const char *lifecycle, *spot;
                Lifecycle is;
                bool notice;
        } cases[] = {
                { "InService", NULL, LIFECYCLE_IN_SERVICE, false },
                { "InService\n", "{\"action\":\"terminate\",\"time\":\"2026-06-30T10:11:12Z\"}",
                        LIFECYCLE_IN_SERVICE, true },
                { NULL, NULL, LIFECYCLE_NO_GROUP, false },
                { NULL, "", LIFECYCLE_NO_GROUP, true },
                { "Detached", NULL, LIFECYCLE_DETACHED, false },
                { "Terminated", NULL, LIFECYCLE_TERMINATING, false },
                { "Standby", NULL, LIFECYCLE_STANDBY, false },
                { "Warmed:Stopped", NULL, LIFECYCLE_WARM, false },
                { "SomethingNew", NULL, LIFECYCLE_OTHER, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Items items = whole;
                Fixture f;

                items.lifecycle = cases[i].lifecycle;
                items.spot = cases[i].spot;
                fixture_open(&f, &items, SPAN_HOUR(1));
                RUN_UNTIL(&f, f.n == 1);
                EXPECT_EQ(f.sample.sight, SIGHT_CLEAR);
                EXPECT_EQ(f.sample.metadata.lifecycle, cases[i].is);
                EXPECT_EQ(f.sample.metadata.spot_notice, cases[i].notice);
                fixture_close(&f);
        }
}

static void test_a_lifecycle_that_is_no_word_is_a_failed_look(void) {
        static const char *const cases[] = { "", "<html>", "In Service", "InService\nInService",
                "InServiceInServiceInServiceInServiceInServiceInServiceInServiceInService" };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Items items = whole;
                Fixture f;

                items.lifecycle = cases[i];
                fixture_open(&f, &items, SPAN_HOUR(1));
                RUN_UNTIL(&f, f.n == 1);
                EXPECT_EQ(f.sample.sight, SIGHT_FAILED);
                fixture_close(&f);
        }
}

static void test_a_refusal_is_not_a_failure(void) {
        static const struct {
                unsigned status;
                Sight sight;
        } cases[] = { { 403, SIGHT_DENIED }, { 500, SIGHT_FAILED }, { 503, SIGHT_FAILED },
                { 404, SIGHT_CLEAR } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Items items = whole;
                Fixture f;

                items.status = cases[i].status;
                fixture_open(&f, &items, SPAN_HOUR(1));
                RUN_UNTIL(&f, f.n == 1);
                EXPECT_EQ(f.sample.sight, cases[i].sight);
                EXPECT(!metadata_identity(f.metadata)->whole);
                fixture_close(&f);
        }
}

static void test_soon_asks_again(void) {
        Fixture f;

        fixture_open(&f, &whole, SPAN_HOUR(1));
        RUN_UNTIL(&f, f.n == 1 && metadata_identity(f.metadata)->whole);
        f.items.lifecycle = "Detached";
        metadata_soon(f.metadata);
        RUN_UNTIL(&f, f.n == 2);
        EXPECT_EQ(f.sample.metadata.lifecycle, LIFECYCLE_DETACHED);
        fixture_close(&f);
}

static void test_the_identity_is_told_once_it_is_whole(void) {
        const Identity *identity;
        Fixture f;

        fixture_open(&f, &whole, SPAN_HOUR(1));
        identity = metadata_identity(f.metadata);
        EXPECT(!identity->whole);
        EXPECT_STR(identity->instance_id, "");
        metadata_on_identity(f.metadata, on_ready, &f);
        RUN_UNTIL(&f, f.n_ready == 1 && f.n == 1);
        EXPECT_STR(identity->instance_id, "i-0123456789abcdef0");
        EXPECT_STR(identity->region, "eu-west-1");
        EXPECT_STR(identity->zone, "eu-west-1a");
        EXPECT_STR(identity->domain, "amazonaws.com");
        EXPECT_STR(identity->instance_type, "t4g.small");

        /* Whoever comes later hears it too, but not from within the call. */
        metadata_on_identity(f.metadata, on_ready, &f);
        EXPECT_EQ(f.n_ready, 1);
        RUN_UNTIL(&f, f.n_ready == 2);
        while (sd_event_run(f.event, 0) > 0)
                ;
        EXPECT_EQ(f.n_ready, 2);
        fixture_close(&f);
}

static void test_the_identity_can_do_without_zone_domain_and_type(void) {
        Items items = whole;
        Fixture f;

        items.zone = items.domain = items.instance_type = NULL;
        fixture_open(&f, &items, SPAN_HOUR(1));
        metadata_on_identity(f.metadata, on_ready, &f);
        RUN_UNTIL(&f, f.n_ready == 1);
        EXPECT_STR(metadata_identity(f.metadata)->zone, "");
        EXPECT_STR(metadata_identity(f.metadata)->domain, "");
        fixture_close(&f);
}

/* Takes the first wait, up to 7.5 s; all cases wait together. */
static void test_missing_parts_are_asked_for_again(void) {
        static const char *const nonsense[] = { NULL, "", "<html>", "two words", "a/b" };
        Fixture fixtures[ELEMENTSOF(nonsense)];
        Mono end;
        unsigned n = 0;

        for (size_t i = 0; i < ELEMENTSOF(nonsense); i++) {
                Items items = whole;
                Fixture *f = &fixtures[i];

                items.region = nonsense[i];
                fixture_open(f, &items, SPAN_HOUR(1));
                metadata_on_identity(f->metadata, on_ready, f);
                RUN_UNTIL(f,
                        f->n == 1 && f->server->requests >= 9 && metadata_identity(f->metadata)->domain[0]);
                EXPECT(!metadata_identity(f->metadata)->whole);
                EXPECT_STR(metadata_identity(f->metadata)->region, "");
                EXPECT_EQ(f->n_ready, 0);
                f->items = whole;
        }
        end = mono_add(clock_read().mono, SPAN_SEC(30));
        while (n < ELEMENTSOF(nonsense) && mono_before(clock_read().mono, end)) {
                n = 0;
                for (size_t i = 0; i < ELEMENTSOF(nonsense); i++) {
                        (void) sd_event_run(fixtures[i].event, SPAN_MSEC(20));
                        n += fixtures[i].n_ready;
                }
        }
        EXPECT_EQ(n, ELEMENTSOF(nonsense));
        for (size_t i = 0; i < ELEMENTSOF(nonsense); i++) {
                EXPECT_STR(metadata_identity(fixtures[i].metadata)->region, "eu-west-1");
                fixture_close(&fixtures[i]);
        }
}

static void test_it_may_be_freed_in_either_handler(void) {
        Fixture f;

        fixture_open(&f, &whole, SPAN_HOUR(1));
        f.free_in_handler = true;
        RUN_UNTIL(&f, !f.metadata);
        EXPECT_EQ(f.n, 1);
        fixture_close(&f);

        fixture_open(&f, &whole, SPAN_HOUR(1));
        RUN_UNTIL(&f, f.n == 1 && metadata_identity(f.metadata)->whole);
        f.free_in_handler = true;
        metadata_on_identity(f.metadata, on_ready, &f);
        RUN_UNTIL(&f, !f.metadata);
        EXPECT_EQ(f.n_ready, 1);
        fixture_close(&f);
}

TEST_MAIN(TEST(test_a_round_tells_lifecycle_and_spot_notice),
        TEST(test_a_lifecycle_that_is_no_word_is_a_failed_look), TEST(test_a_refusal_is_not_a_failure),
        TEST(test_soon_asks_again), TEST(test_the_identity_is_told_once_it_is_whole),
        TEST(test_the_identity_can_do_without_zone_domain_and_type),
        TEST(test_missing_parts_are_asked_for_again), TEST(test_it_may_be_freed_in_either_handler))
