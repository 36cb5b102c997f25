/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/act/reporter.h"
#include "tests/unit/test.h"

#define NOW ((Mono){ SPAN_HOUR(10) })

static Core held_core(void) {
        return (Core){
                .stage = STAGE_HELD,
                .verdict = { .cause = CAUSE_LINK_LOST, .fault = FAULT_HOST, .down = true },
                .cause_from = { SPAN_HOUR(1) },
                .brakes = (1u << BRAKE_SHARE) | (1u << BRAKE_OFF) | (1u << BRAKE_CONFIRM),
        };
}

static void test_reporter_counts_the_brakes_that_hold(void) {
        Core core = held_core();

        EXPECT_EQ(reporter_brakes(&core),
                (1u << BRAKE_SHARE) | (1u << BRAKE_OFF)); /* waiting for ECS holds nothing up */
        EXPECT_EQ(reporter_held(&core, NOW), 2);
        core.stage = STAGE_GRACE;
        EXPECT_EQ(reporter_held(&core, NOW), 2);
}

static void test_reporter_counts_no_brake_of_a_host_that_acts_is_well_or_has_gone(void) {
        Core core = held_core();

        core.stage = STAGE_DRAINING;
        EXPECT_EQ(reporter_held(&core, NOW), 0);
        core.stage = STAGE_REMOVED;
        EXPECT_EQ(reporter_held(&core, NOW), 0);
        core = held_core();
        core.verdict.down = false;
        EXPECT_EQ(reporter_held(&core, NOW), 0);
}

static void test_reporter_publishes_an_intent_that_has_grown_old(void) {
        Core core = held_core();

        core.stage = STAGE_WATCHING;
        core.verdict = (Verdict){ .cause = CAUSE_OPERATOR_STOP, .fault = FAULT_INTENDED, .down = true };
        core.cause_from = mono_add(NOW, -SPAN_MIN(59));
        EXPECT_EQ(reporter_held(&core, NOW), 0);
        core.cause_from = mono_add(NOW, -SPAN_MIN(61));
        EXPECT_EQ(reporter_held(&core, NOW), 1);
        core.verdict.down = false; /* in standby, say, and connected */
        EXPECT_EQ(reporter_held(&core, NOW), 0);
}

static void test_reporter_is_not_late_twice(void) {
        Mono end = NOW;

        for (unsigned i = 0; i < 1000; i++)
                end = reporter_period_end(end, SPAN_MIN(1), mono_add(end, SPAN_MSEC(250)));
        EXPECT_EQ(mono_since(end, NOW), SPAN_MIN(1000));
        /* a suspend is not made up for, minute by minute */
        end = reporter_period_end(NOW, SPAN_MIN(1), mono_add(NOW, SPAN_HOUR(8)));
        EXPECT_EQ(mono_since(end, NOW), SPAN_HOUR(8) + SPAN_MIN(1));
        /* nor is less than a period: that one is still of use */
        end = reporter_period_end(NOW, SPAN_MIN(1), mono_add(NOW, SPAN_SEC(59)));
        EXPECT_EQ(mono_since(end, NOW), SPAN_MIN(1));
}

TEST_MAIN(TEST(test_reporter_is_not_late_twice), TEST(test_reporter_counts_the_brakes_that_hold),
        TEST(test_reporter_counts_no_brake_of_a_host_that_acts_is_well_or_has_gone),
        TEST(test_reporter_publishes_an_intent_that_has_grown_old))
