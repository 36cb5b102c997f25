/* SPDX-License-Identifier: Apache-2.0 */

/* What earlier looks have seen of the sick. */

#include "agent/decide/recall.h"

#include "tests/unit/test.h"

#define WINDOW SPAN_MIN(30)
#define T0     ((Mono){ SPAN_HOUR(5) })

static Mono at(Span after) {
        return mono_add(T0, after);
}

static void test_one_seen_sick_that_is_out_was_removed(void) {
        static const Look sick = { .self = 1, .n_sick = 3, .n_sick_ours = 2, .sick = { 1, 2, 3 } };
        static const Look out = { .self = 1,
                .n_sick = 1,
                .n_sick_ours = 1,
                .sick = { 1 },
                .n_outside = 3,
                .outside = { 2, 3, 4 } };
        Recall recall = {};
        Remembered is;

        recall_take(&recall, &sick, WINDOW, at(0));
        is = recall_removals(&recall, &sick, WINDOW, at(0));
        EXPECT_EQ(is.group + is.cluster, 0);
        recall_take(&recall, &out, WINDOW, at(SPAN_MIN(2)));
        is = recall_removals(&recall, &out, WINDOW, at(SPAN_MIN(2)));
        EXPECT_EQ(is.group, 1);   /* 2 */
        EXPECT_EQ(is.cluster, 2); /* and 3, of another group; 4 was never seen sick */
        EXPECT_EQ(is.frees.usec, at(SPAN_MIN(32)).usec);

        is = recall_removals(&recall, &out, WINDOW, at(SPAN_MIN(32)));
        EXPECT_EQ(is.group + is.cluster, 0);
        EXPECT(!mono_is_set(is.frees));
}

static void test_each_instance_counts_once(void) {
        static const Look sick = { .self = 1, .n_sick = 2, .n_sick_ours = 2, .sick = { 1, 2 } };
        Look out = { .self = 1, .n_outside = 1, .outside = { 2 } };
        Recall recall = {};
        Remembered is;

        recall_take(&recall, &sick, WINDOW, at(0));
        recall_take(&recall, &out, WINDOW, at(1));
        recall_take(&recall, &out, WINDOW, at(2));
        EXPECT_EQ(recall_removals(&recall, &out, WINDOW, at(2)).group, 1);
        /* The cluster's ledger has it, the group's does not yet. */
        out.n_removed = 1;
        out.removed[0] = 2;
        is = recall_removals(&recall, &out, WINDOW, at(2));
        EXPECT_EQ(is.group, 1);
        EXPECT_EQ(is.cluster, 0);
        out.n_removed_ours = 1;
        is = recall_removals(&recall, &out, WINDOW, at(2));
        EXPECT_EQ(is.group + is.cluster, 0);
}

static void test_one_that_is_merely_well_again_was_not_removed(void) {
        static const Look sick = { .self = 1, .n_sick = 1, .n_sick_ours = 1, .sick = { 2 } },
                          well = { .self = 1 };
        Recall recall = {};

        recall_take(&recall, &sick, WINDOW, at(0));
        recall_take(&recall, &well, WINDOW, at(1));
        EXPECT_EQ(recall_removals(&recall, &well, WINDOW, at(1)).cluster, 0);
}

static void test_what_is_older_than_the_window_is_forgotten(void) {
        static const Look sick = { .self = 1, .n_sick = 1, .n_sick_ours = 1, .sick = { 2 } };
        static const Look out = { .self = 1, .n_outside = 1, .outside = { 2 } };
        Recall recall = {};

        recall_take(&recall, &sick, WINDOW, at(0));
        recall_take(&recall, &out, WINDOW, at(WINDOW));
        EXPECT_EQ(recall_removals(&recall, &out, WINDOW, at(WINDOW)).group, 0);
}

static void test_a_full_memory_forgets_the_well_before_the_removed(void) {
        Look look = { .self = 1 };
        Recall recall = {};

        look.n_sick = look.n_sick_ours = 10;
        for (uint32_t i = 0; i < 10; i++)
                look.sick[i] = look.outside[i] = 10 + i;
        recall_take(&recall, &look, WINDOW, at(0));
        look.n_sick = look.n_sick_ours = 0;
        look.n_outside = 10;
        recall_take(&recall, &look, WINDOW, at(1));
        look.n_outside = 0;
        look.n_sick = look.n_sick_ours = LOOK_SICK_MAX;
        for (uint64_t round = 1; round < 5; round++) {
                for (uint32_t i = 0; i < LOOK_SICK_MAX; i++)
                        look.sick[i] = 1000 * round + i;
                recall_take(&recall, &look, WINDOW, at((Span) round + 1));
        }
        EXPECT_EQ(recall_removals(&recall, &look, WINDOW, at(6)).group, 10);
}

TEST_MAIN(TEST(test_one_seen_sick_that_is_out_was_removed), TEST(test_each_instance_counts_once),
        TEST(test_one_that_is_merely_well_again_was_not_removed),
        TEST(test_what_is_older_than_the_window_is_forgotten),
        TEST(test_a_full_memory_forgets_the_well_before_the_removed))
