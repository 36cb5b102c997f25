/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Data reach CloudWatch once, through outages, refusals and restarts. A CloudWatch of our own stands in for
 * common/aws-call.c: it checks each request against the service's limits, answers from the event loop, and
 * counts how often it has accepted each datum.
 */

#include "agent/act/publisher.h"

#include <sys/stat.h>

#include "common/file.h"
#include "common/json.h"
#include "common/loop.h"
#include "tests/unit/test.h"

#define SECONDS_MAX 20000 /* data are told apart by their second, counted from base */
#define CULPRIT     66    /* a sum that CloudWatch refuses */

static struct {
        AwsOutcome outcome; /* of every call, unless ... */
        bool culprits;      /* data with the sum CULPRIT make it refuse the request */
        bool hold;          /* do not answer, until .held is switched on */
        sd_event_source *held;
        int fail; /* what aws_call() itself returns */
        unsigned n_calls, n_open;
        size_t n_data, n_largest; /* of the last request, of the largest */
        int64_t first;            /* second of the last request's first datum */
        char *body;               /* of the last request */
        uint8_t accepted[SECONDS_MAX];
        size_t n_accepted;
        bool out_of_order;
        int64_t last;
        Span offset;
        char paths[8][DISK_PATH_MAX]; /* of the last request's first data; "": none */
} cloudwatch;

static Wall base;

struct AwsCall {
        sd_event_source *source;
        AwsDone done;
        void *userdata;
        cJSON *request;
};

static sd_event *event;

static const cJSON *data_of(const cJSON *request) {
        const cJSON *data = NULL;

        EXPECT_EQ(json_get_array(request, "MetricData", &data), 0);
        return data;
}

static int64_t second_of(const cJSON *datum) {
        int64_t at = 0;

        EXPECT_EQ(json_get_i64(datum, "Timestamp", &at), 0);
        return at - base.usec / SPAN_SEC(1);
}

static void check_text(const char *text) {
        EXPECT(*text && *text != ':' && strlen(text) <= 1024);
        for (; *text; text++)
                EXPECT(*text >= ' ' && *text <= '~');
}

static void check_datum(const cJSON *datum, size_t i) {
        const char *text = "";
        const cJSON *list = NULL, *item = NULL, *values = NULL;
        int64_t count = 0;
        unsigned n = 0;

        EXPECT_EQ(json_get_string(datum, "MetricName", &text), 0);
        EXPECT_EQ(json_get_string(datum, "Unit", &text), 0);
        EXPECT_EQ(json_get_object(datum, "StatisticValues", &values), 0);
        EXPECT_EQ(json_get_i64(values, "SampleCount", &count), 0);
        EXPECT(count > 0 && json_member(values, "Minimum") && json_member(values, "Maximum"));
        EXPECT_EQ(json_get_array(datum, "Dimensions", &list), 0);
        if (i < ELEMENTSOF(cloudwatch.paths))
                cloudwatch.paths[i][0] = '\0';
        cJSON_ArrayForEach(item, list) {
                const char *name = "";

                EXPECT_EQ(json_get_string(item, "Name", &name), 0);
                EXPECT_EQ(json_get_string(item, "Value", &text), 0);
                check_text(text);
                if (strcmp(name, "path") == 0 && i < ELEMENTSOF(cloudwatch.paths))
                        strcpy(cloudwatch.paths[i], text);
                n++;
        }
        EXPECT(n == 2 || n == 3);
}

static bool has_culprit(const cJSON *request) {
        const cJSON *datum = NULL;

        cJSON_ArrayForEach(datum, data_of(request)) {
                const cJSON *values = NULL;
                int64_t sum = 0;

                EXPECT_EQ(json_get_object(datum, "StatisticValues", &values), 0);
                (void) json_get_i64(values, "Sum", &sum);
                if (sum == CULPRIT)
                        return true;
        }
        return false;
}

static void accept_all(const cJSON *request) {
        const cJSON *datum = NULL;

        cJSON_ArrayForEach(datum, data_of(request)) {
                int64_t second = second_of(datum);

                if (second >= 0 && second < SECONDS_MAX)
                        cloudwatch.accepted[second]++;
                cloudwatch.out_of_order |= second < cloudwatch.last;
                cloudwatch.last = second;
                cloudwatch.n_accepted++;
        }
}

static int on_answer_due(sd_event_source *source, void *userdata) {
        AwsCall *call = userdata;
        AwsAnswer answer = { .outcome = cloudwatch.outcome, .sent = true, .status = 200 };

        (void) source;
        if (cloudwatch.culprits)
                answer.outcome = has_culprit(call->request) ? AWS_REFUSED : AWS_OK;
        if (answer.outcome == AWS_OK || answer.outcome == AWS_GARBLED)
                accept_all(call->request);
        else
                strcpy(answer.code, "SomeCode");
        strcpy(answer.message, "some words");
        call->done(&answer, call->userdata);
        return 0;
}

int aws_call(Aws *aws, const AwsRequest *request, AwsDone done, void *userdata, AwsCall **ret) {
        const cJSON *datum = NULL;
        AwsCall *call;
        size_t i = 0;

        EXPECT(!aws);
        if (cloudwatch.fail < 0)
                return cloudwatch.fail;
        EXPECT_EQ(cloudwatch.n_open, 0); /* one at a time */
        EXPECT_EQ(request->service, AWS_CLOUDWATCH);
        EXPECT_STR(request->action, "PutMetricData");
        EXPECT(request->n_body <= PUBLISHER_BODY_MAX);

        call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        call->done = done;
        call->userdata = userdata;
        EXPECT_EQ(json_parse(request->body, request->n_body, NULL, &call->request), 0);
        cJSON_ArrayForEach(datum, data_of(call->request)) {
                check_datum(datum, i);
                if (i++ == 0)
                        cloudwatch.first = second_of(datum);
        }
        EXPECT(i > 0 && i <= PUBLISHER_BATCH_MAX);
        cloudwatch.n_data = i;
        cloudwatch.n_largest = i > cloudwatch.n_largest ? i : cloudwatch.n_largest;
        free(cloudwatch.body);
        cloudwatch.body = strndup(request->body, request->n_body);
        cloudwatch.n_calls++;
        cloudwatch.n_open++;
        EXPECT_EQ(sd_event_add_defer(event, &call->source, on_answer_due, call), 0);
        cloudwatch.held = call->source;
        if (cloudwatch.hold)
                EXPECT_EQ(sd_event_source_set_enabled(call->source, SD_EVENT_OFF), 0);
        *ret = call;
        return 0;
}

AwsCall *aws_call_free(AwsCall *call) {
        if (!call)
                return NULL;
        sd_event_source_disable_unref(call->source);
        cJSON_Delete(call->request);
        free(call);
        cloudwatch.n_open--;
        return NULL;
}

Wall aws_wall(const Aws *aws, Wall local) {
        EXPECT(!aws);
        return wall_add(local, cloudwatch.offset);
}

const char *aws_outcome_to_string(AwsOutcome outcome) {
        (void) outcome;
        return "outcome";
}

/* The world of a test */

static const Target target = { .cluster = "prod", .group = "workers", .instance_id = "i-0123456789abcdef0" };

typedef struct World {
        Metrics *metrics;
        Publisher *publisher;
        char root[64], spool[96];
        unsigned n_done;
        bool free_in_done;
} World;

static void on_done(const AwsAnswer *answer, size_t n_data, void *userdata) {
        World *world = userdata;

        EXPECT(n_data > 0 && !answer->json);
        EXPECT_STR(answer->message, "some words");
        world->n_done++;
        if (world->free_in_done)
                world->publisher = publisher_free(world->publisher);
}

static void publisher_open(World *world, Span retry, bool spool) {
        const PublisherOptions options = {
                .name_space = "ECS/InstanceHealth",
                .spool = spool ? world->spool : NULL,
                .retry = retry,
        };

        EXPECT_EQ(
                publisher_new(&world->publisher, event, NULL, world->metrics, &options, on_done, world), 0);
}

static void world_open(World *world, Span retry, bool spool) {
        free(cloudwatch.body);
        memset(&cloudwatch, 0, sizeof(cloudwatch));
        *world = (World){};
        strcpy(world->root, "/tmp/test-publisher-XXXXXX");
        EXPECT(mkdtemp(world->root));
        (void) snprintf(world->spool, sizeof(world->spool), "%s/lib/spool", world->root);
        EXPECT_EQ(sd_event_new(&event), 0);
        EXPECT_EQ(metrics_new(&world->metrics), 0);
        base = (Wall){ (clock_read().wall.usec / SPAN_SEC(1) - 2 * SECONDS_MAX) * SPAN_SEC(1) };
        publisher_open(world, retry, spool);
}

static void world_close(World *world) {
        char command[96];

        world->publisher = publisher_free(world->publisher);
        metrics_free(world->metrics);
        EXPECT_EQ(cloudwatch.n_open, 0);
        (void) snprintf(command, sizeof(command), "rm -rf %s", world->root);
        EXPECT_EQ(system(command), 0);
        event = sd_event_unref(event);
        free(cloudwatch.body);
        cloudwatch.body = NULL;
}

static Datum datum_at(int64_t second) {
        return (Datum){ .metric = METRIC_TASKS_RUNNING,
                .brake = -1,
                .mount = -1,
                .count = 1,
                .min = 1,
                .max = 1,
                .sum = 1,
                .at = wall_add(base, SPAN_SEC(second)) };
}

/* Data of seconds @from to @from + @n - 1. */
static void add(World *world, int64_t from, size_t n) {
        for (size_t i = 0; i < n; i++) {
                Datum datum = datum_at(from + (int64_t) i);

                publisher_add(world->publisher, &datum, 1);
        }
}

static void add_culprit(World *world, int64_t second) {
        Datum datum = datum_at(second);

        datum.sum = datum.min = datum.max = CULPRIT;
        publisher_add(world->publisher, &datum, 1);
}

/* Runs the loop until nothing is due for @patience. */
static void settle(Span patience) {
        while (sd_event_run(event, (uint64_t) patience) > 0)
                ;
}

static PublisherState state_of(const World *world) {
        PublisherState state = {};

        publisher_state(world->publisher, &state);
        return state;
}

/* Runs the loop until nothing waits any more. */
static void drain(World *world) {
        Mono deadline = mono_add(clock_read().mono, SPAN_SEC(30));

        while (state_of(world).waiting > 0 && mono_before(clock_read().mono, deadline))
                (void) sd_event_run(event, (uint64_t) SPAN_SEC(1));
        EXPECT_EQ(state_of(world).waiting, 0);
}

/* How many of the seconds @from to @from + @n - 1 were accepted exactly @times. */
static size_t accepted(int64_t from, size_t n, unsigned times) {
        size_t found = 0;

        for (size_t i = 0; i < n; i++)
                found += cloudwatch.accepted[from + (int64_t) i] == times;
        return found;
}

/* What is sent */

static void test_publisher_request_is_what_cloudwatch_expects(void) {
        World world;
        Datum data[] = { datum_at(0), datum_at(0), datum_at(0) };
        char expected[2048];
        int64_t at;

        world_open(&world, 0, false);
        base = (Wall){ SPAN_SEC(clock_read().wall.usec / SPAN_SEC(1)) };
        at = base.usec / SPAN_SEC(1);
        data[0].at = data[1].at = data[2].at = wall_add(base, SPAN_MSEC(999));
        EXPECT_EQ(metrics_mount(world.metrics, METRIC_DISK_USED, "/data", 1), 0);
        data[1] = (Datum){ .metric = METRIC_DISK_USED,
                .brake = -1,
                .mount = 0,
                .count = 6,
                .min = 0.5,
                .max = 2.5,
                .sum = 9.25,
                .at = data[0].at };
        data[2] = (Datum){ .metric = METRIC_REMEDIATION_HELD,
                .brake = BRAKE_SHARE,
                .mount = -1,
                .instance = true,
                .count = 1,
                .min = 1,
                .max = 1,
                .sum = 1,
                .at = data[0].at };
        publisher_add(world.publisher, data, 3);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        settle(0);
        (void) snprintf(expected, sizeof(expected),
                "{\"Namespace\":\"ECS/InstanceHealth\",\"MetricData\":["
                "{\"MetricName\":\"tasks_running\",\"Dimensions\":["
                "{\"Name\":\"ClusterName\",\"Value\":\"prod\"},"
                "{\"Name\":\"AutoScalingGroupName\",\"Value\":\"workers\"}],\"Timestamp\":%" PRId64 ","
                "\"StatisticValues\":{\"SampleCount\":1,\"Sum\":1,\"Minimum\":1,\"Maximum\":1},\"Unit\":"
                "\"Count\"},"
                "{\"MetricName\":\"disk_used_percent\",\"Dimensions\":["
                "{\"Name\":\"ClusterName\",\"Value\":\"prod\"},"
                "{\"Name\":\"AutoScalingGroupName\",\"Value\":\"workers\"},"
                "{\"Name\":\"path\",\"Value\":\"/data\"}],\"Timestamp\":%" PRId64 ","
                "\"StatisticValues\":{\"SampleCount\":6,\"Sum\":9.25,\"Minimum\":0.5,\"Maximum\":2.5},"
                "\"Unit\":\"Percent\"},"
                "{\"MetricName\":\"remediation_held\",\"Dimensions\":["
                "{\"Name\":\"ClusterName\",\"Value\":\"prod\"},"
                "{\"Name\":\"InstanceId\",\"Value\":\"i-0123456789abcdef0\"},"
                "{\"Name\":\"Brake\",\"Value\":\"share\"}],\"Timestamp\":%" PRId64 ","
                "\"StatisticValues\":{\"SampleCount\":1,\"Sum\":1,\"Minimum\":1,\"Maximum\":1},\"Unit\":"
                "\"Count\"}"
                "]}",
                at, at, at);
        EXPECT_STR(cloudwatch.body, expected);
        EXPECT_EQ(world.n_done, 1);
        EXPECT_EQ(state_of(&world).sent, 3);
        EXPECT(wall_is_set(state_of(&world).last_success));
        world_close(&world);
}

static void test_publisher_sends_nothing_before_it_knows_itself(void) {
        static const Target strangers[] = {
                {},
                { .cluster = "prod", .group = "workers" },
                { .instance_id = "i-0123456789abcdef0" },
        };
        World world;

        world_open(&world, 0, false);
        add(&world, 0, 1);
        for (size_t i = 0; i < ELEMENTSOF(strangers); i++) {
                EXPECT_EQ(publisher_target(world.publisher, &strangers[i]), 0);
                add(&world, 1 + (int64_t) i, 1);
                settle(0);
                EXPECT_EQ(cloudwatch.n_calls, 0);
        }
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        drain(&world);
        EXPECT_EQ(accepted(0, 4, 1), 4);
        world_close(&world);
}

static void test_publisher_dimension_values_are_made_acceptable(void) {
        static const struct {
                const char *cluster, *group, *path;
                const char *group_is, *path_is;
        } cases[] = {
                { "prod", "", "/data", "\"Value\":\"none\"", "/data" },
                { "prod", ":odd\n\"name\"", "/d\xc3\xa4ta", "\"Value\":\"?odd?\\\"name\\\"\"", "/d??ta" },
                { "prod", "a\\b", "/with blank\t\x7f\xff", "\"Value\":\"a\\\\b\"", "/with blank???" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                World world;
                Target odd = target;
                Datum datum;

                world_open(&world, 0, false);
                datum = datum_at(0);
                strcpy(odd.group, cases[i].group);
                EXPECT_EQ(publisher_target(world.publisher, &odd), 0);
                EXPECT_EQ(metrics_mount(world.metrics, METRIC_DISK_USED, cases[i].path, 1), 0);
                datum.metric = METRIC_DISK_USED;
                datum.mount = 0;
                publisher_add(world.publisher, &datum, 1);
                settle(0);
                EXPECT(strstr(cloudwatch.body, cases[i].group_is));
                EXPECT_STR(cloudwatch.paths[0], cases[i].path_is);
                world_close(&world);
        }
}

static void test_publisher_batches_keep_within_the_limits(void) {
        Datum data[1200];
        World world;
        Target wide = target;

        world_open(&world, 0, false);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        for (size_t i = 0; i < ELEMENTSOF(data); i++)
                data[i] = datum_at((int64_t) i);
        publisher_add(world.publisher, data, ELEMENTSOF(data));
        drain(&world);
        EXPECT_EQ(accepted(0, 1200, 1), 1200);
        EXPECT_EQ(cloudwatch.n_calls, 3);
        EXPECT_EQ(cloudwatch.n_largest, PUBLISHER_BATCH_MAX);
        EXPECT(!cloudwatch.out_of_order);

        /* texts as long as they can be, all of it to be escaped */
        memset(wide.cluster, '"', sizeof(wide.cluster) - 1);
        memset(wide.group, '\\', sizeof(wide.group) - 1);
        EXPECT_EQ(publisher_target(world.publisher, &wide), 0);
        cloudwatch.n_largest = 0;
        for (size_t i = 0; i < ELEMENTSOF(data); i++)
                data[i] = datum_at(1200 + (int64_t) i);
        publisher_add(world.publisher, data, ELEMENTSOF(data));
        drain(&world);
        EXPECT_EQ(accepted(0, 2400, 1), 2400);
        EXPECT(cloudwatch.n_largest > 100 && cloudwatch.n_largest < PUBLISHER_BATCH_MAX);
        world_close(&world);
}

static void test_publisher_drops_what_cloudwatch_would_not_take(void) {
        static const struct {
                Span age;
                size_t dropped;
        } cases[] = {
                { 0, 0 },
                { SPAN_DAY(13), 0 },
                { SPAN_DAY(14), 1 },
                { SPAN_DAY(400), 1 },
                { -SPAN_HOUR(1), 0 },
                { -SPAN_HOUR(2), 1 },
                { -SPAN_DAY(1), 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                for (unsigned skewed = 0; skewed < 2; skewed++) {
                        World world;
                        Datum datum = datum_at(0);

                        world_open(&world, 0, false);
                        cloudwatch.offset =
                                skewed ? SPAN_DAY(30) : 0; /* it is the service's clock that counts */
                        datum.at = wall_add(clock_read().wall, cloudwatch.offset - cases[i].age);
                        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
                        publisher_add(world.publisher, &datum, 1);
                        settle(0);
                        EXPECT_EQ(cloudwatch.n_accepted, 1 - cases[i].dropped);
                        EXPECT_EQ(publisher_take_dropped(world.publisher), cases[i].dropped);
                        EXPECT_EQ(publisher_take_dropped(world.publisher), 0);
                        EXPECT_EQ(state_of(&world).dropped, cases[i].dropped);
                        world_close(&world);
                }
}

/* Outages */

static void test_publisher_sends_late_what_an_outage_held_up(void) {
        static const AwsOutcome outages[] = { AWS_THROTTLED, AWS_UNAVAILABLE, AWS_CONTENTION, AWS_NO_KEYS };

        for (size_t i = 0; i < ELEMENTSOF(outages); i++) {
                World world;

                world_open(&world, SPAN_MSEC(1), false);
                EXPECT_EQ(publisher_target(world.publisher, &target), 0);
                cloudwatch.outcome = outages[i];
                add(&world, 0, 700);
                while (cloudwatch.n_calls < 4)
                        EXPECT(sd_event_run(event, (uint64_t) SPAN_SEC(5)) >= 0);
                EXPECT_EQ(cloudwatch.n_accepted, 0);
                EXPECT(state_of(&world).failures >= 3);
                EXPECT_STR(state_of(&world).problem, "SomeCode: some words");
                cloudwatch.outcome = AWS_OK;
                drain(&world);
                EXPECT_EQ(accepted(0, 700, 1), 700);
                EXPECT(!cloudwatch.out_of_order);
                EXPECT_EQ(state_of(&world).failures, 0);
                EXPECT_STR(state_of(&world).problem, "");
                EXPECT_EQ(state_of(&world).dropped, 0);
                world_close(&world);
        }
}

static void test_publisher_waits_after_a_failure(void) {
        static const AwsOutcome failures[] = { AWS_THROTTLED, AWS_UNAVAILABLE, AWS_DENIED, AWS_BAD_KEYS,
                AWS_NO_KEYS };

        for (size_t i = 0; i < ELEMENTSOF(failures); i++) {
                World world;

                world_open(&world, 0, false); /* 30 s: nothing more comes within this test */
                EXPECT_EQ(publisher_target(world.publisher, &target), 0);
                cloudwatch.outcome = failures[i];
                add(&world, 0, 1);
                settle(0);
                add(&world, 1, 100);
                settle(0);
                EXPECT_EQ(cloudwatch.n_calls, 1);
                EXPECT_EQ(state_of(&world).waiting, 101);
                EXPECT_EQ(state_of(&world).dropped, 0);
                world_close(&world);
        }
}

static void test_publisher_missing_right_is_tried_again(void) {
        World world;

        world_open(&world, SPAN_MSEC(1), false);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        cloudwatch.outcome = AWS_DENIED;
        add(&world, 0, 10);
        while (cloudwatch.n_calls < 3)
                EXPECT(sd_event_run(event, (uint64_t) SPAN_SEC(5)) >= 0);
        cloudwatch.outcome = AWS_OK;
        drain(&world);
        EXPECT_EQ(accepted(0, 10, 1), 10);
        world_close(&world);
}

static void test_publisher_call_that_cannot_be_made_is_made_later(void) {
        World world;

        world_open(&world, SPAN_MSEC(1), false);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        cloudwatch.fail = -ENOMEM;
        add(&world, 0, 3);
        EXPECT_EQ(state_of(&world).failures, 1);
        EXPECT(state_of(&world).problem[0]);
        cloudwatch.fail = 0;
        drain(&world);
        EXPECT_EQ(accepted(0, 3, 1), 3);
        world_close(&world);
}

static void test_publisher_garbled_answer_counts_as_accepted(void) {
        World world;

        world_open(&world, SPAN_MSEC(1), false);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        cloudwatch.outcome = AWS_GARBLED;
        add(&world, 0, 3);
        drain(&world);
        EXPECT_EQ(accepted(0, 3, 1), 3);
        world_close(&world);
}

static void test_publisher_without_a_spool_drops_the_oldest_and_counts(void) {
        World world;
        const size_t n = 3 * PUBLISHER_KEPT_MAX;

        world_open(&world, 0, false);
        add(&world, 0, n);
        EXPECT(state_of(&world).waiting <= PUBLISHER_KEPT_MAX);
        EXPECT_EQ(state_of(&world).waiting + state_of(&world).dropped, n);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        drain(&world);
        EXPECT_EQ(accepted((int64_t) state_of(&world).dropped, n - state_of(&world).dropped, 1),
                n - state_of(&world).dropped);
        EXPECT_EQ(cloudwatch.n_accepted, n - state_of(&world).dropped);
        world_close(&world);
}

static void test_publisher_spools_a_long_outage_and_sends_all_in_order(void) {
        World world;
        const size_t n = 12000;

        world_open(&world, SPAN_MSEC(1), true);
        add(&world, 0, n);
        EXPECT_EQ(state_of(&world).waiting, n);
        EXPECT_EQ(access(world.spool, F_OK), 0);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        drain(&world);
        EXPECT_EQ(accepted(0, n, 1), n);
        EXPECT(!cloudwatch.out_of_order);
        EXPECT_EQ(state_of(&world).dropped, 0);
        EXPECT_EQ(access(world.spool, F_OK), -1);
        world_close(&world);
}

static void test_publisher_spool_with_failures_in_between_repeats_nothing(void) {
        World world;
        const size_t n = 9000;

        world_open(&world, SPAN_MSEC(1), true);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        for (size_t i = 0; i < n; i += 100) {
                static const AwsOutcome weather[] = { AWS_OK, AWS_UNAVAILABLE, AWS_OK, AWS_THROTTLED,
                        AWS_UNAVAILABLE };

                cloudwatch.outcome = weather[i / 1000 % ELEMENTSOF(weather)];
                add(&world, (int64_t) i, 100);
                (void) sd_event_run(event, (uint64_t) SPAN_MSEC(1));
        }
        cloudwatch.outcome = AWS_OK;
        drain(&world);
        EXPECT_EQ(accepted(0, n, 1), n);
        world_close(&world);
}

static void test_publisher_overflow_never_touches_what_is_under_way(void) {
        const size_t n = 3 * PUBLISHER_KEPT_MAX;

        for (unsigned spool = 0; spool < 2; spool++) {
                World world;

                world_open(&world, SPAN_MSEC(1), spool);
                cloudwatch.hold = true;
                add(&world, 0, 500);
                EXPECT_EQ(publisher_target(world.publisher, &target), 0);
                EXPECT_EQ(cloudwatch.n_data, 500);
                add(&world, 500, n);
                EXPECT_EQ(state_of(&world).waiting + state_of(&world).dropped, 500 + n);
                EXPECT(!spool || state_of(&world).dropped == 0);
                cloudwatch.hold = false;
                EXPECT_EQ(sd_event_source_set_enabled(cloudwatch.held, SD_EVENT_ONESHOT), 0);
                drain(&world);
                EXPECT_EQ(accepted(0, 500, 1), 500);
                EXPECT_EQ(accepted(500, n, 1), n - state_of(&world).dropped);
                EXPECT_EQ(accepted(500, n, 0), state_of(&world).dropped);
                world_close(&world);
        }
}

static void test_publisher_spool_that_cannot_be_written_counts_what_is_lost(void) {
        World world;
        char path[96];
        const size_t n = 2 * PUBLISHER_KEPT_MAX;

        world_open(&world, SPAN_MSEC(1), true);
        (void) snprintf(path, sizeof(path), "%s/lib", world.root);
        EXPECT_EQ(file_write_atomic(path, "no directory", 12, 0600, false), 0);
        add(&world, 0, n);
        EXPECT(state_of(&world).dropped > 0);
        EXPECT_EQ(state_of(&world).waiting + state_of(&world).dropped, n);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        drain(&world);
        EXPECT_EQ(accepted(0, n, 1), n - state_of(&world).dropped);
        world_close(&world);
}

/* Refusals */

static void test_publisher_finds_the_culprits_and_loses_nothing_else(void) {
        static const int64_t culprits[][4] = { { 0 }, { 499 }, { 250 }, { 0, 499 }, { 7, 8, 9 }, { 600 },
                { 1, 200, 499, 999 } };
        const size_t n = 1000;

        for (size_t i = 0; i < ELEMENTSOF(culprits); i++) {
                World world;
                size_t n_culprits = 0;

                world_open(&world, SPAN_MSEC(1), false);
                cloudwatch.culprits = true;
                for (int64_t second = 0; second < (int64_t) n; second++) {
                        bool bad = second == culprits[i][0];

                        for (size_t k = 1; k < 4; k++)
                                bad |= culprits[i][k] > 0 && second == culprits[i][k];
                        n_culprits += bad;
                        if (bad)
                                add_culprit(&world, second);
                        else
                                add(&world, second, 1);
                }
                EXPECT_EQ(publisher_target(world.publisher, &target), 0);
                drain(&world);
                EXPECT_EQ(state_of(&world).dropped, n_culprits);
                EXPECT_EQ(accepted(0, n, 1), n - n_culprits);
                EXPECT_EQ(accepted(0, n, 0), n_culprits);
                EXPECT(!cloudwatch.out_of_order);
                EXPECT(cloudwatch.n_calls <= 3 + 20 * n_culprits);
                world_close(&world);
        }
}

static void test_publisher_slows_down_when_everything_is_refused(void) {
        World world;

        world_open(&world, 0, false);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        cloudwatch.outcome = AWS_REFUSED;
        add(&world, 0, 2000);
        settle(0);
        EXPECT(cloudwatch.n_calls <= 14);
        EXPECT(state_of(&world).waiting > 1980);

        cloudwatch.outcome = AWS_OK;
        EXPECT_EQ(publisher_namespace(world.publisher, "ECS/InstanceHealth"),
                0); /* no other: nothing happens */
        settle(0);
        EXPECT_EQ(cloudwatch.n_accepted, 0);
        EXPECT_EQ(publisher_namespace(world.publisher, "Mine"), 0);
        drain(&world);
        EXPECT(strstr(cloudwatch.body, "\"Namespace\":\"Mine\""));
        EXPECT_EQ(cloudwatch.n_accepted + state_of(&world).dropped, 2000);
        EXPECT(state_of(&world).dropped < 20);
        world_close(&world);
}

/* Restarts */

static void test_publisher_hands_what_is_left_to_its_successor(void) {
        World world;
        Datum datum;

        world_open(&world, SPAN_MSEC(1), true); /* sets what times count from */
        datum = datum_at(3);
        EXPECT_EQ(metrics_mount(world.metrics, METRIC_DISK_USED, "/some mount", 1), 0);
        add(&world, 0, 3);
        datum.metric = METRIC_DISK_USED;
        datum.mount = 0;
        publisher_add(world.publisher, &datum, 1);
        world.publisher = publisher_free(world.publisher);
        world.metrics = metrics_free(world.metrics); /* the next one has never seen that mount */
        EXPECT_EQ(metrics_new(&world.metrics), 0);

        publisher_open(&world, SPAN_MSEC(1), true);
        EXPECT_EQ(state_of(&world).waiting, 4);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        add(&world, 4, 2);
        EXPECT_STR(cloudwatch.paths[2], "");
        EXPECT_STR(cloudwatch.paths[3], "/some mount");
        drain(&world);
        EXPECT_EQ(accepted(0, 6, 1), 6);
        EXPECT_EQ(
                cloudwatch.n_calls, 2); /* what was spooled with the first of the new data, then the last */
        EXPECT_STR(cloudwatch.paths[0], "");
        world_close(&world);
}

static void test_publisher_sends_the_spool_first(void) {
        World world;

        world_open(&world, SPAN_MSEC(1), true);
        add(&world, 0, 100);
        world.publisher = publisher_free(world.publisher);
        publisher_open(&world, SPAN_MSEC(1), true);
        add(&world, 100, 100);
        EXPECT_EQ(publisher_target(world.publisher, &target), 0);
        drain(&world);
        EXPECT_EQ(accepted(0, 200, 1), 200);
        EXPECT_EQ(cloudwatch.n_calls, 1);
        EXPECT(!cloudwatch.out_of_order);
        world_close(&world);
}

static void test_publisher_stopped_under_way_repeats_nothing_unless_the_last_failed(void) {
        for (unsigned failed = 0; failed < 2; failed++) {
                World world;

                world_open(&world, SPAN_MSEC(1), true);
                EXPECT_EQ(publisher_target(world.publisher, &target), 0);
                if (failed) {
                        cloudwatch.outcome = AWS_UNAVAILABLE;
                        add(&world, 0, 10);
                        while (cloudwatch.n_calls < 1 || cloudwatch.n_open > 0)
                                EXPECT(sd_event_run(event, (uint64_t) SPAN_SEC(5)) >= 0);
                        cloudwatch.hold = true;
                        while (cloudwatch.n_open == 0)
                                EXPECT(sd_event_run(event, (uint64_t) SPAN_SEC(5)) >= 0);
                } else {
                        Datum data[10];

                        for (size_t i = 0; i < ELEMENTSOF(data); i++)
                                data[i] = datum_at((int64_t) i);
                        cloudwatch.hold = true;
                        publisher_add(world.publisher, data, ELEMENTSOF(data));
                }
                EXPECT_EQ(cloudwatch.n_data, 10);
                add(&world, 10, 5);
                world.publisher = publisher_free(world.publisher);
                EXPECT_EQ(cloudwatch.n_open, 0);
                publisher_open(&world, SPAN_MSEC(1), true);
                EXPECT_EQ(state_of(&world).waiting, failed ? 15 : 5);
                world_close(&world);
        }
}

static void test_publisher_may_be_freed_in_its_callback(void) {
        static const AwsOutcome outcomes[] = { AWS_OK, AWS_UNAVAILABLE, AWS_REFUSED, AWS_DENIED };

        for (size_t i = 0; i < ELEMENTSOF(outcomes); i++) {
                World world;

                world_open(&world, SPAN_MSEC(1), true);
                world.free_in_done = true;
                cloudwatch.outcome = outcomes[i];
                EXPECT_EQ(publisher_target(world.publisher, &target), 0);
                add(&world, 0, 3);
                settle(0);
                EXPECT(!world.publisher);
                EXPECT_EQ(world.n_done, 1);
                world_close(&world);
        }
}

static void test_publisher_free_takes_null(void) {
        EXPECT(!publisher_free(NULL));
}

TEST_MAIN(TEST(test_publisher_request_is_what_cloudwatch_expects),
        TEST(test_publisher_sends_nothing_before_it_knows_itself),
        TEST(test_publisher_dimension_values_are_made_acceptable),
        TEST(test_publisher_batches_keep_within_the_limits),
        TEST(test_publisher_drops_what_cloudwatch_would_not_take),
        TEST(test_publisher_sends_late_what_an_outage_held_up), TEST(test_publisher_waits_after_a_failure),
        TEST(test_publisher_missing_right_is_tried_again),
        TEST(test_publisher_call_that_cannot_be_made_is_made_later),
        TEST(test_publisher_garbled_answer_counts_as_accepted),
        TEST(test_publisher_without_a_spool_drops_the_oldest_and_counts),
        TEST(test_publisher_spools_a_long_outage_and_sends_all_in_order),
        TEST(test_publisher_spool_with_failures_in_between_repeats_nothing),
        TEST(test_publisher_overflow_never_touches_what_is_under_way),
        TEST(test_publisher_spool_that_cannot_be_written_counts_what_is_lost),
        TEST(test_publisher_finds_the_culprits_and_loses_nothing_else),
        TEST(test_publisher_slows_down_when_everything_is_refused),
        TEST(test_publisher_hands_what_is_left_to_its_successor), TEST(test_publisher_sends_the_spool_first),
        TEST(test_publisher_stopped_under_way_repeats_nothing_unless_the_last_failed),
        TEST(test_publisher_may_be_freed_in_its_callback), TEST(test_publisher_free_takes_null))
