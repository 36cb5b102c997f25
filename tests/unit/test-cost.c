/* SPDX-License-Identifier: Apache-2.0 */

/* Prices as worked out by hand, and series as the publisher's own accumulation counts them. */

#include "agent/cost.h"

#include "agent/act/reporter.h"
#include "tests/unit/test.h"

#define MONTH UINT64_C(730) /* hours */

static void test_cost_is_what_a_hand_works_out(void) {
        static const struct {
                CostInput input;
                uint64_t calls, metrics_micro, calls_micro;
        } cases[] = {
                /* 43,800 minutes; $0.01 for 1,000 calls */
                { { 1, 1, 0, 0, 0, SPAN_MIN(1) }, 43800, 0, 438000 },
                { { 1, 1, 0, 0, 0, SPAN_MIN(5) }, 8760, 0, 87600 },
                { { 1, 1, 0, 0, 0, SPAN_SEC(10) }, 262800, 0, 2628000 },
                /* 2,628,000 s in sevens: the last one has begun */
                { { 1, 1, 0, 0, 0, SPAN_SEC(7) }, 375429, 0, 3754290 },
                /* a group's series are shared: 22 x $0.30 in each group, however many instances */
                { { 1, 1, 22, 0, 0, SPAN_MIN(1) }, 43800, 6600000, 438000 },
                { { 100, 1, 22, 0, 0, SPAN_MIN(1) }, 4380000, 6600000, 43800000 },
                { { 100, 4, 22, 0, 0, SPAN_MIN(1) }, 4380000, 26400000, 43800000 },
                /* one of 10,000 instances with 10 series each: 10,000 x $0.30 + 90,000 x $0.10 */
                { { 10000, 1, 0, 10, 10000 * MONTH, SPAN_MIN(1) }, 438000000, UINT64_C(12000000000),
                        UINT64_C(4380000000) },
                /* an hour of one series: $0.30 / 730, to the nearest millionth */
                { { 1, 1, 0, 1, 1, SPAN_MIN(1) }, 43800, 411, 438000 },
                { { 1, 1, 0, 22, 1, SPAN_MIN(1) }, 43800, 9041, 438000 },
                { { 1, 1, 22, 22, 5, SPAN_MIN(1) }, 43800, 6645205, 438000 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Cost cost = cost_estimate(&cases[i].input);

                EXPECT_EQ(cost.calls, cases[i].calls);
                EXPECT_EQ(cost.metrics_micro, cases[i].metrics_micro);
                EXPECT_EQ(cost.calls_micro, cases[i].calls_micro);
        }
}

static void test_each_tier_ends_where_the_next_begins(void) {
        static const struct {
                uint64_t metrics, micro;
        } cases[] = {
                { 1, 300000 },
                { 9999, UINT64_C(2999700000) },
                { 10000, UINT64_C(3000000000) },
                { 10001, UINT64_C(3000100000) },
                { 250000, UINT64_C(27000000000) },
                { 250001, UINT64_C(27000050000) },
                { 1000000, UINT64_C(64500000000) },
                { 1000001, UINT64_C(64500020000) },
                { 2000000, UINT64_C(84500000000) },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                CostInput input = {
                        .instances = 1, .groups = cases[i].metrics, .group_series = 1, .period = SPAN_MIN(1)
                };

                EXPECT_EQ(cost_estimate(&input).metrics_micro, cases[i].micro);
                /* the same hours from instances */
                input = (CostInput){ .instances = 1,
                        .groups = 1,
                        .instance_series = 1,
                        .instance_hours = cases[i].metrics * MONTH,
                        .period = SPAN_MIN(1) };
                EXPECT_EQ(cost_estimate(&input).metrics_micro, cases[i].micro);
        }
}

static void test_the_largest_fleet_overflows_nothing(void) {
        const CostInput input = {
                .instances = COST_INSTANCES_MAX,
                .groups = COST_INSTANCES_MAX,
                .group_series = COST_SERIES_MAX,
                .instance_series = COST_SERIES_MAX,
                .instance_hours = COST_INSTANCES_MAX * MONTH,
                .period = SPAN_SEC(1),
        };
        Cost cost = cost_estimate(&input);

        EXPECT_EQ(cost.calls, UINT64_C(2628000000000));
        EXPECT_EQ(cost.calls_micro, UINT64_C(26280000000000));
        EXPECT_EQ(cost.metric_hours, UINT64_C(4000000000) * MONTH);
        /* $64,500 for the first million, $0.02 each for the rest */
        EXPECT_EQ(cost.metrics_micro, UINT64_C(64500000000) + UINT64_C(3999000000) * 20000);
}

/* -- series ----------------------------------------------------------------------------------------------------- */

typedef struct Mounts {
        DiskMount at[METRICS_MOUNTS_MAX];
        uint32_t n;
} Mounts;

static void mounts_add(Mounts *mounts, Share used, Share inodes) {
        DiskMount *mount = &mounts->at[mounts->n];

        *mount = (DiskMount){ .used = used, .inodes_used = inodes };
        (void) snprintf(mount->path, sizeof(mount->path), "/m%" PRIu32, mounts->n++);
}

/* What metrics_close_period() makes of one sample of everything. */
static uint32_t published(const Mounts *mounts, unsigned max_series, unsigned *ret_left_out) {
        static Datum data[METRICS_DATA_MAX];
        Metrics *metrics = NULL;
        size_t n;

        EXPECT_EQ(metrics_new(&metrics), 0);
        for (Metric metric = 0; metric < METRIC_N; metric++)
                if (!metric_table[metric].counter)
                        metrics_gauge(metrics, metric, 1);
        for (uint32_t i = 0; i < mounts->n; i++) {
                if (mounts->at[i].used != SHARE_NONE)
                        (void) metrics_mount(metrics, METRIC_DISK_USED, mounts->at[i].path, 1);
                if (mounts->at[i].inodes_used != SHARE_NONE)
                        (void) metrics_mount(metrics, METRIC_DISK_INODES_USED, mounts->at[i].path, 1);
        }
        n = metrics_close_period(
                metrics, (Wall){ 1 }, false, true, max_series, data, METRICS_DATA_MAX, ret_left_out);
        metrics_free(metrics);
        return (uint32_t) n;
}

static Series series_of(const Mounts *mounts, bool measured, unsigned max_series) {
        Series series;

        series_count(&(SeriesInput){ .mounts = mounts->at,
                             .n_mounts = mounts->n,
                             .measured = measured,
                             .max_series = max_series },
                &series);
        return series;
}

static void test_series_are_those_that_are_published(void) {
        for (uint32_t n_mounts = 0; n_mounts <= METRICS_MOUNTS_MAX; n_mounts++) {
                Mounts mounts = {};

                /* every third has no inodes, every fifth hangs */
                for (uint32_t i = 0; i < n_mounts; i++)
                        mounts_add(&mounts, i % 5 == 4 ? SHARE_NONE : 1000,
                                i % 5 == 4 || i % 3 == 2 ? SHARE_NONE : 100);
                for (unsigned max = 1; max < 100; max++) {
                        Series series = series_of(&mounts, true, max);
                        unsigned left_out = 0;

                        EXPECT_EQ(series.total, published(&mounts, max, &left_out));
                        EXPECT_EQ(series.left_out, left_out);
                }
        }
}

static void test_a_mount_that_is_not_measured_counts_wholly(void) {
        Mounts mounts = {};
        Series series;

        mounts_add(&mounts, SHARE_NONE, SHARE_NONE);
        series = series_of(&mounts, false, 40);
        EXPECT_EQ(series.total, METRIC_N + 2);
        EXPECT(series.kept[0]);
        series = series_of(&mounts, true, 40);
        EXPECT_EQ(series.total, METRIC_N);
        EXPECT(!series.kept[0]);
}

static void test_what_is_switched_off_is_not_counted(void) {
        SeriesInput input = { .max_series = 40,
                .off = { [METRIC_DISK_USED] = true, [METRIC_MEM_USED] = true } };
        Mounts mounts = {};
        Series series;

        mounts_add(&mounts, 1, 1);
        input.mounts = mounts.at;
        input.n_mounts = mounts.n;
        series_count(&input, &series);
        EXPECT_EQ(series.n[METRIC_MEM_USED], 0);
        EXPECT_EQ(series.n[METRIC_HEARTBEAT], 1);
        EXPECT_EQ(series.by_path[METRIC_DISK_USED], 0);
        EXPECT_EQ(series.by_path[METRIC_DISK_INODES_USED], 1);
        EXPECT_EQ(series.total, METRIC_N - 2 + 1);
}

static void test_brakes_are_those_that_are_published(void) {
        Core core = { .stage = STAGE_HELD, .brakes = (1u << BRAKE_N) - 1 };

        EXPECT_EQ(series_of(&(Mounts){}, true, 40).by_brake, __builtin_popcount(reporter_brakes(&core)));
}

TEST_MAIN(TEST(test_cost_is_what_a_hand_works_out), TEST(test_each_tier_ends_where_the_next_begins),
        TEST(test_the_largest_fleet_overflows_nothing), TEST(test_series_are_those_that_are_published),
        TEST(test_a_mount_that_is_not_measured_counts_wholly),
        TEST(test_what_is_switched_off_is_not_counted), TEST(test_brakes_are_those_that_are_published))
