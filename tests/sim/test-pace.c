/* SPDX-License-Identifier: Apache-2.0 */

/* How long is waited, and how often AWS is asked meanwhile: after outages, while throttled, while ECS is late. */

#include "tests/sim/world.h"
#include "tests/unit/test.h"

static World world;

/* --- settling ---------------------------------------------------------------------------------------------------- */

static void show_sick(uint32_t n, uint64_t first) {
        world.look.n_sick = world.look.n_sick_ours = n;
        for (uint32_t i = 0; i < n; i++)
                world.look.sick[i] = first + i;
        world.look.cluster.sick = n;
}

/* Half of the cluster is out, ourselves among it, until the outage ends; @n are slow. */
static void live_through_an_outage(uint32_t n) {
        world_init(&world);
        world.look.group = (Population){ 20, 0 };
        world.look.group_size = 20;
        world_cut(&world);
        world.look.cluster.sick = 9;
        world_run(&world, SPAN_MIN(25));
        EXPECT(world.held & (1u << BRAKE_SHARE));
        EXPECT_EQ(world.drains, 0);
        show_sick(n, 100);
}

/* One that is held looks at once when its settings come anew: here every minute. */
static void look_for(Span span) {
        for (Span left = span; left > 0 && world.drains == 0; left -= SPAN_MIN(1)) {
                world_event(&world, &(Event){ .type = EVENT_POLICY, .policy = world.policy });
                world_run(&world, SPAN_MIN(1));
        }
}

static Span minutes_to_drain(void) {
        Span took = 0;

        for (; took < 180 && world.drains == 0; took++)
                look_for(SPAN_MIN(1));
        printf("# drained after %d min\n", (int) took);
        return took;
}

static void test_settling_goes_on_while_slow_ones_come_back(void) {
        Span took;

        live_through_an_outage(3);
        look_for(SPAN_MIN(8));
        show_sick(2, 100);
        took = minutes_to_drain();
        EXPECT(took >= 10 && took <= 16);
}

static void test_it_ends_for_all_that(void) {
        Span took = 0;

        live_through_an_outage(2);
        for (; took < 180 && world.drains == 0; took++) {
                /* For ever one is back, and another is gone. */
                show_sick(2, 100 + (uint64_t) (took / 7));
                look_for(SPAN_MIN(1));
        }
        printf("# drained after %d min\n", (int) took);
        EXPECT(took >= 25 && took <= 36);
}

static void test_without_slow_ones_it_is_as_long_as_set(void) {
        Span took;

        live_through_an_outage(0);
        took = minutes_to_drain();
        EXPECT(took >= 10 && took <= 14);
}

/* --- throttling -------------------------------------------------------------------------------------------------- */

static unsigned looks_within_two_hours(uint32_t members, bool looks, bool confirms) {
        world_init(&world);
        world_event(&world, &(Event){ .type = EVENT_SIZES, .sizes = { members, 10, WORLD_SELF } });
        if (looks)
                world.look_outcome = OUTCOME_THROTTLED;
        if (confirms)
                world.confirm_outcome = OUTCOME_THROTTLED;
        world_cut(&world);
        world_run(&world, SPAN_HOUR(2));
        EXPECT_EQ(world.drains, 0);
        return looks ? world.looks : world.confirms;
}

static void test_the_throttled_of_a_large_cluster_ask_less(void) {
        unsigned few = looks_within_two_hours(20, true, false),
                 many = looks_within_two_hours(10000, true, false);

        printf("# looks: %u of 20 hosts, %u of 10,000\n", few, many);
        EXPECT(few >= 8 && few <= 20);
        EXPECT(many >= 2 && many <= 6);
        few = looks_within_two_hours(20, false, true);
        many = looks_within_two_hours(10000, false, true);
        printf("# confirmations: %u of 20 hosts, %u of 10,000\n", few, many);
        EXPECT(few >= 12 && few <= 30);
        EXPECT(many >= 2 && many <= 8);
}

/* An answer may be a minute on its way: meanwhile there is nothing to wake up for. */
static void test_a_slow_answer_is_waited_for_at_rest(void) {
        uint64_t before;

        world_init(&world);
        world_cut(&world);
        world_run(&world, SPAN_MIN(4));
        world.answer_after = SPAN_MIN(2);
        before = world_steps();
        world_run(&world, SPAN_MIN(3));
        EXPECT(world.confirms >= 1);
        printf("# %d steps in 3 min\n", (int) (world_steps() - before));
        EXPECT(world_steps() - before < 250); /* samples, and the lines of the agent's log */
}

/* --- a late ECS -------------------------------------------------------------------------------------------------- */

/* From losing the connection to the drain. ECS calls the agent connected for @late. */
static Span time_to_drain(Span late, bool process_dies) {
        world_init(&world);
        if (process_dies)
                world_kill(&world);
        else
                world_cut(&world);
        world.ecs_lags = true;
        world_run(&world, late);
        world.ecs_lags = false;
        for (Span left = SPAN_HOUR(1); left > 0 && world.drains == 0; left -= SPAN_SEC(1))
                world_run(&world, SPAN_SEC(1));
        return world.drains == 0 ? SPAN_HOUR(1) : mono_since(world.first_drain, world.down_since);
}

static void test_a_late_ecs_does_not_make_grace_begin_anew(void) {
        for (Span late = 0; late <= SPAN_MIN(7); late += SPAN_SEC(30)) {
                Span took = time_to_drain(late, false);

                printf("# ECS late by %d s: drained after %d s\n", (int) (late / SPAN_SEC(1)),
                        (int) (took / SPAN_SEC(1)));
                EXPECT(took <= SPAN_MIN(8 + 3 + 2));
        }
        for (Span late = 0; late <= SPAN_MIN(5); late += SPAN_SEC(30)) {
                Span took = time_to_drain(late, true);

                printf("# ECS late by %d s, agent dead: drained after %d s\n", (int) (late / SPAN_SEC(1)),
                        (int) (took / SPAN_SEC(1)));
                EXPECT(took <= SPAN_MIN(5 + 3 + 2));
        }
}

static void test_one_that_ecs_calls_connected_at_the_end_of_grace_is_not_touched(void) {
        EXPECT(time_to_drain(SPAN_MIN(58), false) >= SPAN_HOUR(1));
}

/* The agent's announced retry may end minutes after grace: the first look is made meanwhile. */
static void test_the_announced_retry_costs_no_second_wait(void) {
        Span longest = 0;

        for (unsigned i = 0; i < 40; i++) {
                world_init(&world);
                world_run(&world, SPAN_SEC(7) * i);
                world_cut(&world);
                for (Span left = SPAN_HOUR(1); left > 0 && world.drains == 0; left -= SPAN_SEC(1))
                        world_run(&world, SPAN_SEC(1));
                longest = span_max(longest, mono_since(world.first_drain, world.down_since));
        }
        printf("# at most %d s\n", (int) (longest / SPAN_SEC(1)));
        EXPECT(longest <= SPAN_MIN(8 + 3 + 2));
}

TEST_MAIN(TEST(test_settling_goes_on_while_slow_ones_come_back), TEST(test_it_ends_for_all_that),
        TEST(test_without_slow_ones_it_is_as_long_as_set),
        TEST(test_the_throttled_of_a_large_cluster_ask_less), TEST(test_a_slow_answer_is_waited_for_at_rest),
        TEST(test_a_late_ecs_does_not_make_grace_begin_anew),
        TEST(test_one_that_ecs_calls_connected_at_the_end_of_grace_is_not_touched),
        TEST(test_the_announced_retry_costs_no_second_wait))
