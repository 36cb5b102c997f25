/* SPDX-License-Identifier: Apache-2.0 */

/* Patrol, the afterlife of an orphan, and waking up outside: stories in virtual time. */

#include "tests/sim/world.h"
#include "tests/unit/test.h"

#define GROUP 3

static World world;

/* A healthy host in a group of three that is its own cluster; one of its peers may freeze. */
static void begin(void) {
        world_init(&world);
        world.look.cluster = world.look.group = (Population){ GROUP, 0 };
        world.look.zone = (Population){ 1, 0 };
        world.look.group_size = GROUP;
        world.look.connected_peers = GROUP - 1;
        world_event(&world, &(Event){ .type = EVENT_GROUP, .lifecycle = LIFECYCLE_IN_SERVICE });
        world_event(&world, &(Event){ .type = EVENT_SIZES, .sizes = { GROUP, GROUP, WORLD_SELF } });
}

static const Peer *peer(void) {
        return &world.peer;
}

static void freeze_peer(void) {
        world.peer.down = true;
        world.down_since = world.now.mono;
}

static bool run_until_removed(Span most) {
        for (Span left = most; left > 0 && peer()->in_group; left -= SPAN_SEC(10))
                world_run(&world, SPAN_SEC(10));
        return !peer()->in_group;
}

/* --- patrol ------------------------------------------------------------------------------------------------------ */

static void test_a_quiet_group_is_asked_about_once_per_round(void) {
        begin();
        world_run(&world, SPAN_HOUR(10));
        /* Three share it: each asks every 15 min, give or take a tenth. */
        EXPECT(peer()->sweeps >= 36 && peer()->sweeps <= 46);
        EXPECT_EQ(peer()->looks, 0);
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
}

static void test_a_large_cluster_sets_a_slower_pace(void) {
        begin();
        world_event(&world, &(Event){ .type = EVENT_SIZES, .sizes = { 10000, 5, WORLD_SELF } });
        world_run(&world, SPAN_HOUR(50));
        EXPECT(peer()->sweeps >= 32 && peer()->sweeps <= 41); /* 83 min */
}

static void test_a_frozen_peer_is_drained_and_removed(void) {
        Span into;

        begin();
        freeze_peer();
        EXPECT(run_until_removed(SPAN_HOUR(2)));
        EXPECT_EQ(peer()->drains, 1);
        EXPECT_EQ(peer()->detaches, 1);
        EXPECT_EQ(peer()->undrains, 0);
        EXPECT_EQ(peer()->action, ACTION_DETACH);
        EXPECT(mono_since(peer()->detached_at, peer()->first_look) >= SPAN_MIN(20));
        EXPECT(mono_since(peer()->detached_at, world.down_since) <= SPAN_MIN(45));
        into = peer()->detached_wall.usec % SPAN_MIN(2);
        EXPECT(into >= SPAN_SEC(60) && into <= SPAN_SEC(92));
        world_run(&world, SPAN_MIN(5));
        EXPECT_EQ(world.core.patrol.stage, PATROL_RESTING);
        EXPECT_EQ(world.core.patrol.removals, 1);
        EXPECT_EQ(world.core.record.peer_stage, PATROL_RESTING);
        EXPECT_STR(world.core.record.peer.arn, "");
        EXPECT_EQ(world.core.removals, 0);
        EXPECT(peer()->claimed && peer()->drained); /* the claim is the ledger, and tasks go on moving */
}

typedef struct Unwilling {
        const char *what;
        Peer peer;
        bool seen; /* a look is made before it shows */
} Unwilling;

static void test_who_must_not_be_acted_for_is_not(void) {
        static const Unwilling cases[] = {
                { "paused", { .paused = true }, false },
                { "observing, or without our agent", { .observes = true }, false },
                { "drained by an operator", { .foreign_drain = true }, false },
                { "of another group", { .of_another_group = true }, true },
                { "about to be replaced by the group itself", { .unhealthy = true }, true },
                { "out of its group already", { .left = true }, true },
                { "being updated", { .updating = true }, false },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                begin();
                world.peer = cases[i].peer;
                world.peer.in_group = !world.peer.left;
                freeze_peer();
                world_run(&world, SPAN_HOUR(6));
                printf("# %s: %u sweeps, %u looks\n", cases[i].what, peer()->sweeps, peer()->looks);
                EXPECT_EQ(peer()->drains, 0);
                EXPECT_EQ(peer()->looks > 0, cases[i].seen);
        }
}

static void test_a_young_claim_is_left_to_its_owner(void) {
        begin();
        freeze_peer();
        world.peer.claimed = world.peer.drained = true;
        world.peer.claimed_by = 99;
        world.peer.claimed_at = world.now.wall;
        world_run(&world, SPAN_MIN(9));
        EXPECT_EQ(peer()->looks, 0);
        /* Its owner is gone: it is taken over. */
        EXPECT(run_until_removed(SPAN_HOUR(2)));
        EXPECT_EQ(peer()->claimed_by, WORLD_SELF);
}

static void another_claims(void) {
        world.peer.claimed = true;
        world.peer.claimed_by = 99;
        world.peer.claimed_at = world.now.wall;
}

/* It is down, but its own daemon lives and waits for a brake. Only when that falls silent is it frozen. */
static void test_one_whose_daemon_lives_is_its_own_affair(void) {
        begin();
        freeze_peer();
        for (Span left = SPAN_HOUR(6); left > 0; left -= SPAN_MIN(30)) {
                world.peer.held_at = world.now.wall;
                world_run(&world, SPAN_MIN(30));
        }
        EXPECT_EQ(peer()->looks, 0);
        EXPECT(peer()->in_group);
        EXPECT(run_until_removed(SPAN_HOUR(2)));
        EXPECT(wall_since(peer()->detached_wall, peer()->held_at) > SPAN_HOUR(1));
}

/* By the time of the second look somebody else may have begun. */
static void test_a_claim_that_comes_while_waiting_is_respected(void) {
        begin();
        freeze_peer();
        for (Span left = SPAN_HOUR(1); left > 0 && peer()->looks == 0; left -= SPAN_SEC(10))
                world_run(&world, SPAN_SEC(10));
        world_run(&world, SPAN_MIN(19));
        another_claims();
        world_run(&world, SPAN_MIN(8));
        EXPECT(peer()->looks >= 2);
        EXPECT_EQ(peer()->drains, 0);
        EXPECT_EQ(world.core.patrol.stage, PATROL_RESTING);
}

/* Without knowing who we are, our claim could not be told from another's. */
static void test_nobody_patrols_without_a_name(void) {
        begin();
        world_event(&world, &(Event){ .type = EVENT_SIZES, .sizes = { GROUP, GROUP, 0 } });
        world_run(&world, SPAN_HOUR(3));
        EXPECT_EQ(peer()->sweeps, 0);
}

static void test_brakes_hold_patrol_as_well(void) {
        static const struct {
                const char *what;
                Look look;
        } cases[] = {
                { "share",
                        { .cluster = { 10, 5 }, .group = { 10, 5 }, .zone = { 4, 1 }, .group_size = 10 } },
                { "off", { .tag_group = SWITCH_OFF } },
                { "budget", { .removed_window = 1 } },
                { "budget of the cluster", { .removed_cluster = 1 } },
                { "loop", { .removed_day = 2 } },
                { "a young replacement", { .young = true } },
                { "replacement", { .replacement = REPLACEMENT_PENDING } },
                { "group", { .group_state = GROUP_SUSPENDED } },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                Look plain;

                begin();
                plain = world.look;
                world.look = cases[i].look;
                if (world.look.group_size == 0) {
                        world.look.cluster = plain.cluster;
                        world.look.group = plain.group;
                        world.look.zone = plain.zone;
                        world.look.group_size = plain.group_size;
                }
                world.look.self = WORLD_SELF;
                world.look.connected_peers = 9;
                freeze_peer();
                world_run(&world, SPAN_HOUR(6));
                printf("# %s: %u looks\n", cases[i].what, peer()->looks);
                EXPECT(peer()->looks > 0);
                EXPECT_EQ(peer()->drains, 0);
                EXPECT(world.core.patrol.brakes != 0);
        }
}

static void test_only_the_connected_patrol(void) {
        begin();
        freeze_peer();
        world_run(&world, SPAN_MIN(3));
        world_cut(&world);
        world.peer.sweeps = 0;
        world_run(&world, SPAN_MIN(7));
        EXPECT_EQ(peer()->sweeps, 0);
        world_connect(&world);
        EXPECT(run_until_removed(SPAN_HOUR(2)));
}

static void test_the_paused_and_the_observing_do_not_patrol(void) {
        begin();
        world_event(&world, &(Event){ .type = EVENT_PAUSED, .paused_until = MONO_INFINITE });
        world_run(&world, SPAN_HOUR(3));
        EXPECT_EQ(peer()->sweeps, 0);
        world_event(&world, &(Event){ .type = EVENT_PAUSED, .paused_until = MONO_NEVER });
        world.policy.action = ACTION_OBSERVE;
        world_event(&world, &(Event){ .type = EVENT_POLICY, .policy = world.policy });
        world_run(&world, SPAN_HOUR(3));
        EXPECT_EQ(peer()->sweeps, 0);
        world.policy.action = ACTION_DETACH;
        world.policy.patrol = false;
        world_event(&world, &(Event){ .type = EVENT_POLICY, .policy = world.policy });
        world_run(&world, SPAN_HOUR(3));
        EXPECT_EQ(peer()->sweeps, 0);
        world.policy.patrol = true;
        world_event(&world, &(Event){ .type = EVENT_POLICY, .policy = world.policy });
        world_run(&world, SPAN_HOUR(1));
        EXPECT(peer()->sweeps > 0);
}

static void test_one_that_was_pending_when_it_started_patrols(void) {
        begin();
        world_event(&world, &(Event){ .type = EVENT_GROUP, .lifecycle = LIFECYCLE_PENDING });
        world_run(&world, SPAN_HOUR(2));
        EXPECT(peer()->sweeps > 0);
        world.lifecycle = LIFECYCLE_STANDBY;
        world_run(&world, SPAN_MIN(5));
        world.peer.sweeps = 0;
        world_run(&world, SPAN_HOUR(2));
        EXPECT_EQ(peer()->sweeps, 0);
}

static void test_a_group_of_one_has_no_patrol(void) {
        begin();
        world_event(&world, &(Event){ .type = EVENT_SIZES, .sizes = { 20, 1, WORLD_SELF } });
        world_run(&world, SPAN_HOUR(5));
        EXPECT_EQ(peer()->sweeps, 0);
}

/* What happens right after the drain of the peer. */
static void (*then)(void);

static void on_effect(World *w, const Effect *effect) {
        (void) w;
        if (effect->peer && effect->type == EFFECT_LOOK && peer()->drains == 1 && peer()->detaches == 0 &&
                then) {
                void (*now)(void) = then;

                then = NULL;
                now();
        }
}

static void peer_reconnects(void) {
        world.peer.down = false;
}

static void a_brake_holds(void) {
        world.look.removed_window = 1;
}

/* An operator takes our drain away before the last look. */
static void drain_is_gone(void) {
        world.peer.drained = false;
}

static void test_between_drain_and_removal(void) {
        static const struct {
                const char *what;
                void (*then)(void);
                unsigned undrains;
                bool drained;
        } cases[] = {
                { "the peer reconnects", peer_reconnects, 1, false },
                { "a brake holds", a_brake_holds, 1, false },
                { "another has claimed it after us", another_claims, 0, true },
                { "an operator has made it ACTIVE", drain_is_gone, 1, false },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                begin();
                freeze_peer();
                world.on_effect = on_effect;
                then = cases[i].then;
                for (Span left = SPAN_HOUR(2); left > 0 && (then || peer()->drains == 0);
                        left -= SPAN_SEC(1))
                        world_run(&world, SPAN_SEC(1));
                world_run(&world, SPAN_MIN(7));
                printf("# %s: %u undone\n", cases[i].what, peer()->undrains);
                EXPECT(peer()->in_group);
                EXPECT_EQ(peer()->undrains, cases[i].undrains);
                EXPECT_EQ(peer()->drained, cases[i].drained);
                EXPECT_EQ(world.core.record.peer_stage, PATROL_RESTING);
        }
}

static Span slow_calls;

static void slow_down_at_drain(World *w, const Effect *effect) {
        if (effect->peer && effect->type == EFFECT_DRAIN)
                w->answer_after = slow_calls;
}

/* Beyond its slot, or long after the look that it stands on, a removal is not finished. */
static void test_a_slow_removal_is_undone(void) {
        static const Span slow[] = { SPAN_SEC(29), SPAN_SEC(45) };

        for (size_t i = 0; i < sizeof(slow) / sizeof(slow[0]); i++) {
                begin();
                if (i == 1) {
                        world.policy.turn = SPAN_MIN(10);
                        world.policy.patrol_after = SPAN_MIN(20);
                        world_event(&world, &(Event){ .type = EVENT_POLICY, .policy = world.policy });
                }
                freeze_peer();
                world.on_effect = slow_down_at_drain;
                slow_calls = slow[i] * (i == 1 ? 4 : 1);
                for (Span left = SPAN_HOUR(3); left > 0 && peer()->undrains == 0; left -= SPAN_SEC(1))
                        world_run(&world, SPAN_SEC(1));
                printf("# %d s a call: slot %lld to %lld, %d s since the look\n",
                        (int) (world.answer_after / SPAN_SEC(1)), (long long) world.core.patrol.slot,
                        (long long) turn_slot(world.now.wall, world.policy.turn),
                        (int) (mono_since(world.now.mono, world.core.patrol.begun_at) / SPAN_SEC(1)));
                EXPECT_EQ(peer()->drains, 1);
                EXPECT_EQ(peer()->detaches, 0);
                EXPECT_EQ(peer()->undrains, 1);
        }
}

static Span undone_at;

static void note_undoing(World *w, const Effect *effect) {
        if (effect->type == EFFECT_UNDRAIN)
                undone_at = w->now.wall.usec % w->core.policy.turn;
        else
                on_effect(w, effect);
}

/* In the third quarter another may claim the peer: what is read and undone in the first is surely ours. */
static void test_what_is_undone_is_undone_in_the_first_quarter(void) {
        for (unsigned i = 0; i < 20; i++) {
                begin();
                world_run(&world, SPAN_SEC(37) * i);
                freeze_peer();
                world.on_effect = note_undoing;
                then = a_brake_holds;
                undone_at = -1;
                for (Span left = SPAN_HOUR(2); left > 0 && peer()->undrains == 0; left -= SPAN_SEC(1))
                        world_run(&world, SPAN_SEC(1));
                EXPECT(undone_at >= 0 && undone_at < SPAN_SEC(30));
        }
}

/* We are on the way out and turn back; meanwhile a peer has removed us. */
static void test_one_that_undoes_and_is_out_stops_undoing(void) {
        begin();
        world.undrain_outcome = OUTCOME_UNAVAILABLE;
        world.detach_outcome = OUTCOME_THROTTLED;
        world_cut(&world);
        for (Span left = SPAN_HOUR(1); left > 0 && world.core.stage != STAGE_UNDOING; left -= SPAN_SEC(1))
                world_run(&world, SPAN_SEC(1));
        EXPECT_EQ(world.core.stage, STAGE_UNDOING);
        world.in_group = false;
        world.lifecycle = LIFECYCLE_DETACHED;
        world_run(&world, SPAN_MIN(1));
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
        world.undrain_outcome = OUTCOME_OK;
        world_run(&world, SPAN_MIN(50));
        EXPECT_EQ(world.status, CONTROL_DRAINING);
        EXPECT_EQ(world.undrains_done, 0);
}

static void test_a_lost_answer_is_read_and_never_repeated(void) {
        for (unsigned done = 0; done < 2; done++) {
                begin();
                freeze_peer();
                world.detach_outcome = OUTCOME_LOST;
                world.detach_lost_but_done = done == 1;
                for (Span left = SPAN_HOUR(2); left > 0 && peer()->detaches == 0; left -= SPAN_SEC(1))
                        world_run(&world, SPAN_SEC(1));
                world_run(&world, SPAN_MIN(9));
                EXPECT_EQ(peer()->detaches, 1);
                EXPECT_EQ(peer()->undrains, 0);
                world_run(&world, SPAN_MIN(10));
                EXPECT_EQ(peer()->in_group, done == 0);
                EXPECT_EQ(peer()->undrains, done == 0);
                EXPECT_EQ(peer()->claimed, done == 1);
        }
}

/* The second look may fall into the very quarter in which one may act: it is not enough, for the first is 20 min old. */
static void test_the_look_before_must_be_fresh(void) {
        for (unsigned i = 0; i < 24; i++) {
                Mono before = MONO_NEVER;

                begin();
                world_run(&world, SPAN_SEC(31) * i);
                freeze_peer();
                for (Span left = SPAN_HOUR(2); left > 0 && peer()->drains == 0; left -= SPAN_SEC(1)) {
                        if (peer()->looks > 0 && mono_since(world.now.mono, peer()->looked_at) > SPAN_SEC(5))
                                before = peer()->looked_at;
                        world_run(&world, SPAN_SEC(1));
                }
                EXPECT_EQ(peer()->drains, 1);
                EXPECT(peer()->looks >= 3);
                EXPECT(mono_since(world.now.mono, before) <= SPAN_MIN(3) + SPAN_SEC(2));
        }
}

static unsigned steps_to_crash;

static void swallow_after(World *w, const Effect *effect) {
        if (effect->peer &&
                (effect->type == EFFECT_DRAIN || effect->type == EFFECT_DETACH ||
                        effect->type == EFFECT_UNDRAIN || peer()->claimed) &&
                steps_to_crash > 0 && --steps_to_crash == 0)
                w->swallow = true;
}

/* At each step of a removal the finder dies, before or after what it planned has happened. */
static void test_a_finder_that_dies_leaves_nothing_behind(void) {
        for (unsigned at = 1; at <= 4; at++)
                for (unsigned reboot = 0; reboot < 2; reboot++) {
                        begin();
                        freeze_peer();
                        world.on_effect = swallow_after;
                        steps_to_crash = at;
                        for (Span left = SPAN_HOUR(2); left > 0 && !world.swallow; left -= SPAN_SEC(1))
                                world_run(&world, SPAN_SEC(1));
                        EXPECT(world.swallow);
                        world.swallow = false;
                        world_crash(&world, reboot == 1);
                        world_event(&world,
                                &(Event){ .type = EVENT_SIZES, .sizes = { GROUP, GROUP, WORLD_SELF } });
                        world_connect(&world);
                        world_run(&world, SPAN_MIN(15));
                        printf("# died at step %u: %s, %u undone, %u sent\n", at,
                                peer()->in_group ? "in" : "out", peer()->undrains, peer()->detaches);
                        EXPECT(peer()->in_group ? !peer()->claimed && !peer()->drained : peer()->claimed);
                        EXPECT(peer()->detaches <= 1);
                        EXPECT_EQ(world.core.record.peer_stage, PATROL_RESTING);
                }
}

static void test_refused_calls_slow_patrol_down(void) {
        unsigned before;

        begin();
        world_run(&world, SPAN_HOUR(10));
        before = peer()->sweeps;
        world.sweep_outcome = OUTCOME_THROTTLED;
        world_run(&world, SPAN_HOUR(20));
        EXPECT((peer()->sweeps - before) * 4 < before * 2);
        world.sweep_outcome = OUTCOME_OK;
        world_run(&world, SPAN_HOUR(4));
        before = peer()->sweeps;
        world_run(&world, SPAN_HOUR(10));
        EXPECT(peer()->sweeps - before >= 36);
}

/* --- the afterlife ----------------------------------------------------------------------------------------------- */

static void be_removed(void) {
        world_cut(&world);
        for (Span left = SPAN_HOUR(2); left > 0 && world.core.stage != STAGE_REMOVED; left -= SPAN_SEC(10))
                world_run(&world, SPAN_SEC(10));
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
}

static void test_an_orphan_ends_after_its_time(void) {
        begin();
        be_removed();
        world_run(&world, SPAN_MIN(58));
        EXPECT_EQ(world.ends, 0);
        world_run(&world, SPAN_MIN(4));
        EXPECT_EQ(world.ends_done, 1);
        EXPECT(world.core.record.ended);
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
        world_run(&world, SPAN_HOUR(10));
        EXPECT_EQ(world.ends, 1);
}

static void test_what_keeps_an_orphan(void) {
        for (unsigned i = 0; i < 4; i++) {
                begin();
                if (i == 0) {
                        world.policy.orphan = ORPHAN_KEEP;
                        world.policy.orphan_deregister = false;
                }
                if (i == 1)
                        world.policy.action = ACTION_STANDBY;
                world_event(&world, &(Event){ .type = EVENT_POLICY, .policy = world.policy });
                be_removed();
                if (i == 2)
                        world_event(&world, &(Event){ .type = EVENT_PAUSED, .paused_until = MONO_INFINITE });
                if (i == 3) {
                        world.policy.action = ACTION_OBSERVE;
                        world_event(&world, &(Event){ .type = EVENT_POLICY, .policy = world.policy });
                }
                world_run(&world, SPAN_HOUR(5));
                EXPECT_EQ(world.ends, 0);
        }
}

static void test_an_end_that_fails_is_tried_again(void) {
        begin();
        be_removed();
        world.end_outcome = OUTCOME_DENIED;
        world_run(&world, SPAN_HOUR(4));
        EXPECT(world.ends >= 3 && world.ends <= 12);
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
        world.end_outcome = OUTCOME_OK;
        world_run(&world, SPAN_HOUR(2));
        EXPECT_EQ(world.ends_done, 1);
}

/* However often its removal had to be read: the tries of its end are counted from none. */
static void test_an_end_is_tried_again_after_a_long_reading_too(void) {
        begin();
        world.verify_outcome = OUTCOME_UNAVAILABLE;
        world.lifecycle = LIFECYCLE_IN_SERVICE;
        world.detach_outcome = OUTCOME_LOST;
        world_cut(&world);
        world_run(&world, SPAN_HOUR(3));
        EXPECT_EQ(world.core.stage, STAGE_VERIFYING);
        world.in_group = false;
        world.lifecycle = LIFECYCLE_DETACHED;
        world.verify_outcome = OUTCOME_OK;
        world_run(&world, SPAN_MIN(5));
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
        world.end_outcome = OUTCOME_DENIED;
        world_run(&world, SPAN_HOUR(5));
        EXPECT(world.ends >= 3 && world.ends <= 14);
}

static void test_one_that_the_group_terminates_is_deregistered_at_once(void) {
        begin();
        world.policy.action = ACTION_UNHEALTHY;
        world_event(&world, &(Event){ .type = EVENT_POLICY, .policy = world.policy });
        be_removed();
        EXPECT_EQ(world.action, ACTION_UNHEALTHY);
        world_run(&world, SPAN_MIN(1));
        EXPECT_EQ(world.ends, 1);
}

static void test_an_orphan_that_is_attached_again_is_a_member_again(void) {
        begin();
        be_removed();
        EXPECT_EQ(world.status, CONTROL_DRAINING);
        world_run(&world, SPAN_MIN(30));
        world.in_group = true;
        world.lifecycle = LIFECYCLE_IN_SERVICE;
        world_connect(&world);
        world_run(&world, SPAN_MIN(2));
        EXPECT_EQ(world.status, CONTROL_ACTIVE);
        EXPECT(!world.marked);
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
        world_run(&world, SPAN_HOUR(3));
        EXPECT_EQ(world.ends, 0);
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
}

static void test_a_reboot_does_not_end_it_twice(void) {
        begin();
        be_removed();
        world_run(&world, SPAN_MIN(50));
        world.swallow = true; /* it is stopped in the midst of it */
        for (Span left = SPAN_MIN(20); left > 0 && world.core.stage != STAGE_ENDING; left -= SPAN_SEC(10))
                world_run(&world, SPAN_SEC(10));
        EXPECT_EQ(world.core.stage, STAGE_ENDING);
        world.swallow = false;
        world_crash(&world, true);
        world_run(&world, SPAN_HOUR(5));
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
        EXPECT_EQ(world.ends, 0);
}

static void test_a_restart_takes_the_end_up(void) {
        begin();
        be_removed();
        world_run(&world, SPAN_MIN(50));
        world.swallow = true;
        world_run(&world, SPAN_MIN(15));
        world.swallow = false;
        world_crash(&world, false);
        world_run(&world, SPAN_MIN(5));
        EXPECT_EQ(world.ends_done, 1);
}

/* --- waking up --------------------------------------------------------------------------------------------------- */

static void test_one_that_wakes_outside_goes_on_as_an_orphan(void) {
        begin();
        world_sleep(&world, SPAN_MIN(40));
        world.in_group = false;
        world.lifecycle = LIFECYCLE_DETACHED;
        world.status = CONTROL_DRAINING;
        world.patrolled = true;
        world.patrolled_at = wall_add(world.now.wall, -SPAN_MIN(10));
        world_run(&world, SPAN_MIN(2));
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
        EXPECT_EQ(world.undrains, 0);
        world_run(&world, SPAN_MIN(45));
        EXPECT_EQ(world.ends, 0);
        world_run(&world, SPAN_MIN(10));
        EXPECT_EQ(world.ends_done, 1);
}

static void test_one_that_an_operator_has_detached_is_left_alone(void) {
        begin();
        world_sleep(&world, SPAN_MIN(40));
        world.in_group = false;
        world.lifecycle = LIFECYCLE_DETACHED;
        world_run(&world, SPAN_HOUR(5));
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
        EXPECT_EQ(world.ends, 0);
        EXPECT(world.confirms <= 2);
}

static void test_one_that_wakes_inside_undoes_an_old_claim(void) {
        begin();
        world_sleep(&world, SPAN_MIN(40));
        world.status = CONTROL_DRAINING;
        world.patrolled = true;
        world.patrolled_at = wall_add(world.now.wall, -SPAN_MIN(5));
        world_run(&world, SPAN_MIN(4));
        EXPECT_EQ(world.status, CONTROL_DRAINING); /* whoever has claimed it may be at work */
        world_run(&world, SPAN_MIN(30));
        EXPECT_EQ(world.status, CONTROL_ACTIVE);
        EXPECT(!world.patrolled);
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
}

TEST_MAIN(TEST(test_a_quiet_group_is_asked_about_once_per_round),
        TEST(test_a_large_cluster_sets_a_slower_pace), TEST(test_a_frozen_peer_is_drained_and_removed),
        TEST(test_who_must_not_be_acted_for_is_not), TEST(test_a_young_claim_is_left_to_its_owner),
        TEST(test_a_claim_that_comes_while_waiting_is_respected), TEST(test_nobody_patrols_without_a_name),
        TEST(test_one_whose_daemon_lives_is_its_own_affair), TEST(test_brakes_hold_patrol_as_well),
        TEST(test_only_the_connected_patrol), TEST(test_the_paused_and_the_observing_do_not_patrol),
        TEST(test_a_group_of_one_has_no_patrol), TEST(test_one_that_was_pending_when_it_started_patrols),
        TEST(test_between_drain_and_removal), TEST(test_a_slow_removal_is_undone),
        TEST(test_the_look_before_must_be_fresh), TEST(test_what_is_undone_is_undone_in_the_first_quarter),
        TEST(test_one_that_undoes_and_is_out_stops_undoing),
        TEST(test_a_lost_answer_is_read_and_never_repeated),
        TEST(test_a_finder_that_dies_leaves_nothing_behind), TEST(test_refused_calls_slow_patrol_down),
        TEST(test_an_orphan_ends_after_its_time), TEST(test_what_keeps_an_orphan),
        TEST(test_an_end_that_fails_is_tried_again),
        TEST(test_an_end_is_tried_again_after_a_long_reading_too),
        TEST(test_one_that_the_group_terminates_is_deregistered_at_once),
        TEST(test_an_orphan_that_is_attached_again_is_a_member_again),
        TEST(test_a_reboot_does_not_end_it_twice), TEST(test_a_restart_takes_the_end_up),
        TEST(test_one_that_wakes_outside_goes_on_as_an_orphan),
        TEST(test_one_that_an_operator_has_detached_is_left_alone),
        TEST(test_one_that_wakes_inside_undoes_an_old_claim))
