/* SPDX-License-Identifier: Apache-2.0 */

/* Typed time: it saturates and never wraps. */

#include "common/clock.h"
#include "tests/unit/test.h"

static void test_units_are_microseconds(void) {
        EXPECT_EQ(SPAN_MSEC(1), 1000);
        EXPECT_EQ(SPAN_SEC(1), 1000000);
        EXPECT_EQ(SPAN_MIN(1), SPAN_SEC(60));
        EXPECT_EQ(SPAN_HOUR(1), SPAN_MIN(60));
        EXPECT_EQ(SPAN_DAY(1), SPAN_HOUR(24));
}

static void test_never_is_not_set(void) {
        EXPECT(!mono_is_set(MONO_NEVER));
        EXPECT(!wall_is_set(WALL_NEVER));
        EXPECT(mono_is_set((Mono){ 1 }));
        EXPECT(wall_is_set((Wall){ -1 }));
}

static void test_addition_saturates(void) {
        EXPECT_EQ(clock_add_saturating(1, 2), 3);
        EXPECT_EQ(clock_add_saturating(INT64_MAX, 1), INT64_MAX);
        EXPECT_EQ(clock_add_saturating(INT64_MIN, -1), INT64_MIN);
        EXPECT_EQ(clock_add_saturating(INT64_MAX, INT64_MIN), -1);
        EXPECT_EQ(mono_add((Mono){ 5 }, SPAN_INFINITE).usec, MONO_INFINITE.usec);
        EXPECT_EQ(wall_add((Wall){ 5 }, -7).usec, -2);
}

static void test_subtraction_saturates(void) {
        EXPECT_EQ(clock_sub_saturating(1, 2), -1);
        EXPECT_EQ(clock_sub_saturating(INT64_MIN, 1), INT64_MIN);
        EXPECT_EQ(clock_sub_saturating(INT64_MAX, -1), INT64_MAX);
        EXPECT_EQ(clock_sub_saturating(0, INT64_MIN), INT64_MAX);
        EXPECT_EQ(mono_since((Mono){ 7 }, (Mono){ 10 }), -3);
        EXPECT_EQ(wall_since((Wall){ 10 }, (Wall){ 7 }), 3);
}

static void test_order_is_strict(void) {
        EXPECT(mono_before((Mono){ 1 }, (Mono){ 2 }));
        EXPECT(!mono_before((Mono){ 2 }, (Mono){ 2 }));
        EXPECT(wall_before((Wall){ -1 }, (Wall){ 0 }));
        EXPECT(!wall_before((Wall){ 0 }, (Wall){ 0 }));
        EXPECT_EQ(mono_min((Mono){ 1 }, (Mono){ 2 }).usec, 1);
        EXPECT_EQ(mono_max((Mono){ 1 }, (Mono){ 2 }).usec, 2);
        EXPECT_EQ(span_min(-1, 1), -1);
        EXPECT_EQ(span_max(-1, 1), 1);
}

TEST_MAIN(TEST(test_units_are_microseconds), TEST(test_never_is_not_set), TEST(test_addition_saturates),
        TEST(test_subtraction_saturates), TEST(test_order_is_strict))
