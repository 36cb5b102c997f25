/* SPDX-License-Identifier: Apache-2.0 */

/* Samples become one statistic set per series and period, within the ranges and the limit of series. */

#include "agent/act/metrics.h"

#include <math.h>

#include "tests/unit/test.h"

static const Wall start = { SPAN_SEC(1787572800) };

typedef struct Closed {
        Datum data[METRICS_DATA_MAX];
        size_t n;
        unsigned left_out;
} Closed;

static Metrics *metrics_open(void) {
        Metrics *metrics = NULL;

        EXPECT_EQ(metrics_new(&metrics), 0);
        return metrics;
}

static void close_period(Metrics *metrics, bool instance, bool group, unsigned max_series, Closed *ret) {
        ret->left_out = 0;
        ret->n = metrics_close_period(
                metrics, start, instance, group, max_series, ret->data, METRICS_DATA_MAX, &ret->left_out);
}

static const Datum *find(const Closed *closed, Metric metric, int brake, int mount, bool instance) {
        const Datum *found = NULL;

        for (size_t i = 0; i < closed->n; i++) {
                const Datum *datum = &closed->data[i];

                if (datum->metric != metric || datum->brake != brake || datum->mount != mount ||
                        datum->instance != instance)
                        continue;
                EXPECT(!found); /* no series twice in a period */
                found = datum;
        }
        return found;
}

static bool same(double a, double b) {
        return fabs(a - b) < 1e-9;
}

static void test_metrics_table_is_whole(void) {
        for (size_t i = 0; i < METRIC_N; i++) {
                const MetricRow *row = &metric_table[i];

                EXPECT(row->name && row->doc && row->min < row->max);
                EXPECT(isfinite(row->min) && isfinite(row->max));
                EXPECT(row->unit && strstr("Count None Seconds Milliseconds Percent", row->unit));
                for (size_t j = 0; j < i; j++)
                        EXPECT(strcmp(row->name, metric_table[j].name) != 0);
        }
}

static void test_metrics_gauge_gathers_min_max_sum_and_count(void) {
        Metrics *metrics = metrics_open();
        Closed closed;
        const Datum *datum;

        metrics_gauge(metrics, METRIC_MEM_USED, 30);
        metrics_gauge(metrics, METRIC_MEM_USED, 10.5);
        metrics_gauge(metrics, METRIC_MEM_USED, 20);
        close_period(metrics, false, true, 40, &closed);
        datum = find(&closed, METRIC_MEM_USED, -1, -1, false);
        EXPECT(datum && datum->count == 3 && same(datum->min, 10.5) && same(datum->max, 30) &&
                same(datum->sum, 60.5));
        EXPECT(datum && datum->at.usec == start.usec);
        metrics_free(metrics);
}

static void test_metrics_gauge_without_a_sample_gives_nothing(void) {
        Metrics *metrics = metrics_open();
        Closed closed;

        close_period(metrics, true, true, 40, &closed);
        EXPECT(!find(&closed, METRIC_MEM_USED, -1, -1, false));
        EXPECT(!find(&closed, METRIC_MEM_USED, -1, -1, true));
        metrics_free(metrics);
}

static void test_metrics_counter_always_gives_its_sum(void) {
        Metrics *metrics = metrics_open();
        Closed closed;
        const Datum *datum;

        metrics_count(metrics, METRIC_OOM_KILLS, 2);
        metrics_count(metrics, METRIC_OOM_KILLS, 3);
        close_period(metrics, false, true, 40, &closed);
        datum = find(&closed, METRIC_OOM_KILLS, -1, -1, false);
        EXPECT(datum && datum->count == 1 && same(datum->sum, 5) && same(datum->min, 5) &&
                same(datum->max, 5));
        datum = find(&closed, METRIC_SAMPLES_DROPPED, -1, -1, false);
        EXPECT(datum && datum->count == 1 && same(datum->sum, 0));
        close_period(metrics, false, true, 40, &closed);
        datum = find(&closed, METRIC_OOM_KILLS, -1, -1, false);
        EXPECT(datum && same(datum->sum, 0));
        metrics_free(metrics);
}

static void test_metrics_heartbeat_is_one_a_period(void) {
        Metrics *metrics = metrics_open();
        Closed closed;

        for (unsigned i = 0; i < 2; i++) {
                const Datum *datum;

                close_period(metrics, false, true, 40, &closed);
                datum = find(&closed, METRIC_HEARTBEAT, -1, -1, false);
                EXPECT(datum && datum->count == 1 && same(datum->sum, 1));
        }
        metrics_free(metrics);
}

static void test_metrics_nothing_out_of_range_comes_out(void) {
        static const double values[] = { NAN, INFINITY, -INFINITY, -1, 1e300, -1e300, 101, 1e-310, 0 };
        Metrics *metrics = metrics_open();
        Closed closed;

        for (size_t i = 0; i < METRIC_N; i++)
                for (size_t j = 0; j < ELEMENTSOF(values); j++) {
                        if (metric_table[i].counter)
                                metrics_count(metrics, (Metric) i, values[j]);
                        else
                                metrics_gauge(metrics, (Metric) i, values[j]);
                }
        for (size_t j = 0; j < ELEMENTSOF(values); j++)
                EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, "/", values[j]), 0);
        close_period(metrics, true, true, 40, &closed);
        EXPECT_EQ(closed.n, 2 * (METRIC_N + 1));
        for (size_t i = 0; i < closed.n; i++) {
                const Datum *datum = &closed.data[i];
                const MetricRow *row = &metric_table[datum->metric];

                EXPECT(datum->min >= row->min && datum->max <= row->max && datum->min <= datum->max);
                EXPECT(isfinite(datum->sum) && datum->count >= 1);
        }
        metrics_free(metrics);
}

static void test_metrics_nan_alone_is_no_sample(void) {
        Metrics *metrics = metrics_open();
        Closed closed;

        metrics_gauge(metrics, METRIC_SWAP_USED, NAN);
        EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, "/", NAN), 0);
        close_period(metrics, false, true, 40, &closed);
        EXPECT(!find(&closed, METRIC_SWAP_USED, -1, -1, false));
        EXPECT(!find(&closed, METRIC_DISK_USED, -1, 0, false));
        metrics_free(metrics);
}

static void test_metrics_group_and_instance_are_chosen_apart(void) {
        static const struct {
                bool instance, group;
        } cases[] = { { false, false }, { false, true }, { true, false }, { true, true } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Metrics *metrics = metrics_open();
                Closed closed;

                close_period(metrics, cases[i].instance, cases[i].group, 40, &closed);
                EXPECT_EQ(!!find(&closed, METRIC_HEARTBEAT, -1, -1, false), cases[i].group);
                EXPECT_EQ(!!find(&closed, METRIC_HEARTBEAT, -1, -1, true), cases[i].instance);
                metrics_free(metrics);
        }
}

static void test_metrics_brake_is_there_only_while_it_holds(void) {
        Metrics *metrics = metrics_open();
        Closed closed;
        const Datum *datum;

        metrics_brake(metrics, BRAKE_SHARE);
        metrics_brake(metrics, BRAKE_SHARE);
        close_period(metrics, false, true, 40, &closed);
        datum = find(&closed, METRIC_REMEDIATION_HELD, BRAKE_SHARE, -1, false);
        EXPECT(datum && same(datum->max, 1) && datum->count == 2);
        EXPECT(!find(&closed, METRIC_REMEDIATION_HELD, BRAKE_OFF, -1, false));
        close_period(metrics, false, true, 40, &closed);
        EXPECT(!find(&closed, METRIC_REMEDIATION_HELD, BRAKE_SHARE, -1, false));
        metrics_free(metrics);
}

static void fill_everything(Metrics *metrics, unsigned n_mounts) {
        for (size_t i = 0; i < METRIC_N; i++)
                if (!metric_table[i].counter)
                        metrics_gauge(metrics, (Metric) i, 1);
        for (size_t i = 0; i < BRAKE_N; i++)
                metrics_brake(metrics, (Brake) i);
        for (unsigned i = 0; i < n_mounts; i++) {
                char path[32];

                (void) snprintf(path, sizeof(path), "/data%u", i);
                EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, path, i), 0);
                EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_INODES_USED, path, i), 0);
        }
}

static void test_metrics_max_series_leaves_out_mounts_only(void) {
        static const struct {
                unsigned max_series, mounts, left_out;
        } cases[] = {
                { METRIC_N + 64, 32, 0 },
                { METRIC_N + 4, 2, 0 },
                { METRIC_N + 4, 3, 2 },
                { METRIC_N + 3, 2, 2 }, /* a mount is published whole or not at all */
                { METRIC_N, 1, 2 },
                { 0, 1, 2 },
                { 0, 0, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Metrics *metrics = metrics_open();
                Closed closed;

                fill_everything(metrics, cases[i].mounts);
                close_period(metrics, true, true, cases[i].max_series, &closed);
                EXPECT_EQ(closed.left_out, cases[i].left_out);
                EXPECT_EQ(closed.n, 2 * (METRIC_N + BRAKE_N + 2 * cases[i].mounts - cases[i].left_out));
                for (size_t metric = 0; metric < METRIC_N; metric++)
                        EXPECT(find(&closed, (Metric) metric, -1, -1, false));
                metrics_free(metrics);
        }
}

static void test_metrics_first_mounts_keep_their_series(void) {
        Metrics *metrics = metrics_open();
        Closed closed;

        fill_everything(metrics, 3);
        close_period(metrics, false, true, METRIC_N + 2, &closed);
        EXPECT(find(&closed, METRIC_DISK_USED, -1, 0, false));
        EXPECT(!find(&closed, METRIC_DISK_USED, -1, 2, false));
        EXPECT_STR(metrics_path(metrics, 0), "/data0");
        metrics_free(metrics);
}

static void test_metrics_little_room_costs_the_last_data(void) {
        Metrics *metrics = metrics_open();
        Datum data[2] = {};

        fill_everything(metrics, 1);
        EXPECT_EQ(metrics_close_period(metrics, start, true, true, 40, data, 2, NULL), 2);
        EXPECT_EQ(data[0].metric, METRIC_HEARTBEAT);
        metrics_free(metrics);
}

static void test_metrics_mount_refuses_what_is_no_path(void) {
        Metrics *metrics = metrics_open();
        char longest[DISK_PATH_MAX + 1] = "/";

        memset(longest + 1, 'x', DISK_PATH_MAX - 2);
        EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, longest, 1), 0);
        longest[DISK_PATH_MAX - 1] = 'x';
        EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, longest, 1), -ENAMETOOLONG);
        EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, "", 1), -EINVAL);
        EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, "data", 1), -EINVAL);
        metrics_free(metrics);
}

static void test_metrics_too_many_mounts_are_refused_until_one_has_gone(void) {
        Metrics *metrics = metrics_open();
        Closed closed;

        fill_everything(metrics, METRICS_MOUNTS_MAX);
        EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, "/new", 1), -ENOSPC);
        EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, "/data0", 1), 0);
        close_period(metrics, false, true, 100, &closed);
        /* the data of that period still name their slots */
        EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, "/new", 1), -ENOSPC);
        close_period(metrics, false, true, 100, &closed);
        EXPECT_EQ(metrics_mount(metrics, METRIC_DISK_USED, "/new", 1), 0);
        close_period(metrics, false, true, 100, &closed);
        EXPECT(find(&closed, METRIC_DISK_USED, -1, 0, false));
        EXPECT_STR(metrics_path(metrics, 0), "/new");
        metrics_free(metrics);
}

static void test_metrics_free_takes_null(void) {
        EXPECT(!metrics_free(NULL));
}

TEST_MAIN(TEST(test_metrics_table_is_whole), TEST(test_metrics_gauge_gathers_min_max_sum_and_count),
        TEST(test_metrics_gauge_without_a_sample_gives_nothing),
        TEST(test_metrics_counter_always_gives_its_sum), TEST(test_metrics_heartbeat_is_one_a_period),
        TEST(test_metrics_nothing_out_of_range_comes_out), TEST(test_metrics_nan_alone_is_no_sample),
        TEST(test_metrics_group_and_instance_are_chosen_apart),
        TEST(test_metrics_brake_is_there_only_while_it_holds),
        TEST(test_metrics_max_series_leaves_out_mounts_only),
        TEST(test_metrics_first_mounts_keep_their_series),
        TEST(test_metrics_little_room_costs_the_last_data), TEST(test_metrics_mount_refuses_what_is_no_path),
        TEST(test_metrics_too_many_mounts_are_refused_until_one_has_gone),
        TEST(test_metrics_free_takes_null))
