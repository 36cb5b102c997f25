/* SPDX-License-Identifier: Apache-2.0 */

/* Whose slot it is. */

#include "agent/decide/turn.h"

#include "tests/unit/test.h"

#define TURN SPAN_MIN(2)

static const uint64_t peers[] = { 11, 22, 33, 44 };

static Wall slot_start(int64_t slot) {
        return (Wall){ slot * TURN };
}

static void test_ids_differ_and_stay(void) {
        EXPECT(turn_id("i-0123456789abcdef0") == turn_id("i-0123456789abcdef0"));
        EXPECT(turn_id("i-0123456789abcdef0") != turn_id("i-0123456789abcdef1"));
        EXPECT(turn_id("i-1") != turn_id("i-10"));
        /* Hosts of different releases must agree. */
        EXPECT(turn_id("") == UINT64_C(0xcbf29ce484222325));
        EXPECT(turn_id("a") == UINT64_C(0xaf63dc4c8601ec8c));
}

static void test_slots_are_absolute(void) {
        EXPECT_EQ(turn_slot((Wall){ 0 }, TURN), 0);
        EXPECT_EQ(turn_slot((Wall){ TURN - 1 }, TURN), 0);
        EXPECT_EQ(turn_slot((Wall){ TURN }, TURN), 1);
}

static void test_everybody_names_the_same_owner(void) {
        unsigned owned[4] = {};

        for (int64_t slot = 1000; slot < 1400; slot++) {
                uint64_t owner = turn_owner(peers, 4, 11, slot);

                for (unsigned i = 0; i < 4; i++) {
                        EXPECT(turn_owner(peers, 4, peers[i], slot) == owner);
                        owned[i] += peers[i] == owner;
                }
                /* Whether one names oneself among the peers or beside them. */
                EXPECT(turn_owner(&peers[1], 3, 11, slot) == owner);
                /* Who leaves changes nothing for the owner. */
                if (owner != 44)
                        EXPECT(turn_owner(peers, 3, 11, slot) == owner);
        }
        for (unsigned i = 0; i < 4; i++)
                EXPECT(owned[i] > 60 && owned[i] < 140);
}

static void test_a_lone_one_needs_no_slot(void) {
        EXPECT_EQ(turn_judge(NULL, 0, 11, slot_start(1000), TURN).state, TURN_LONE);
        EXPECT_EQ(turn_judge(peers, 1, 11, slot_start(1000), TURN).state, TURN_LONE);
        EXPECT_EQ(turn_judge(peers, 1, 11, WALL_NEVER, TURN).state, TURN_LONE);
        EXPECT(turn_judge(peers, 2, 11, slot_start(1000), TURN).state != TURN_LONE);
        EXPECT(turn_judge(&peers[1], 1, 11, slot_start(1000), TURN).state != TURN_LONE);
}

static void test_only_the_first_quarter_of_ones_own_slot_is_ones_turn(void) {
        Wall ours = turn_next(peers, 4, 11, slot_start(1000), TURN);
        int64_t slot = turn_slot(ours, TURN);
        static const struct {
                Span after;
                TurnState state;
        } cases[] = {
                { 0, TURN_OURS },
                { SPAN_SEC(30) - 1, TURN_OURS },
                { SPAN_SEC(30), TURN_LATE },
                { TURN - 1, TURN_LATE },
        };

        EXPECT(turn_owner(peers, 4, 11, slot) == 11);
        for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                Turn is = turn_judge(peers, 4, 11, wall_add(ours, cases[i].after), TURN);

                EXPECT_EQ(is.state, cases[i].state);
                EXPECT_EQ(is.slot, slot);
                EXPECT(!wall_before(is.next, slot_start(slot + 1)));
        }
        for (unsigned i = 1; i < 4; i++)
                EXPECT_EQ(turn_judge(peers, 4, peers[i], ours, TURN).state, TURN_OTHERS);
}

static void test_the_next_turn_is_not_before_it_is_asked_for(void) {
        Wall at = slot_start(1000), next = turn_next(peers, 4, 33, at, TURN);

        EXPECT(!wall_before(next, at));
        EXPECT(wall_before(next, turn_next(peers, 4, 33, wall_add(next, 1), TURN)));
        EXPECT_EQ(turn_next(peers, 4, 33, next, TURN).usec, next.usec);
}

static void test_without_the_services_clock_there_is_no_turn(void) {
        EXPECT_EQ(turn_judge(peers, 4, 11, WALL_NEVER, TURN).state, TURN_UNKNOWN);
        EXPECT_EQ(turn_judge(peers, 4, 11, (Wall){ -5 }, TURN).state, TURN_UNKNOWN);
}

TEST_MAIN(TEST(test_ids_differ_and_stay), TEST(test_slots_are_absolute),
        TEST(test_everybody_names_the_same_owner), TEST(test_a_lone_one_needs_no_slot),
        TEST(test_only_the_first_quarter_of_ones_own_slot_is_ones_turn),
        TEST(test_the_next_turn_is_not_before_it_is_asked_for),
        TEST(test_without_the_services_clock_there_is_no_turn))
