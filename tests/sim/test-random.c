/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Random lives of hosts against the core: what happens is drawn, what must hold is checked at every effect. A failing
 * seed is printed; `sim-random SEED` plays it alone.
 */

#include <inttypes.h>

#include "tests/sim/world.h"
#include "tests/unit/test.h"

/* Enough for a million steps and more, in seconds. */
static unsigned n_lives = 500;
static uint64_t only_seed;
static unsigned removed_lives, patrolled_lives;

/** What has been seen in this life, to judge the next effect by. */
typedef struct Life {
        World world;
        uint64_t seed;
        Mono truly_down_since; /* by the truth; MONO_NEVER: up */
        Mono truly_up_since;
        bool detach_open; /* sent, and neither proven done nor proven not done */
        bool broken;
} Life;

static Life *life;

static void broken(const char *what) {
        if (!life->broken)
                printf("# seed %" PRIu64 ", %lld s: %s (stage %s, cause %s)\n", life->seed,
                        (long long) (life->world.now.mono.usec / SPAN_SEC(1)), what,
                        stage_to_string(life->world.core.stage),
                        cause_to_string(life->world.core.verdict.cause));
        life->broken = true;
        test_failures++;
}

/* @may_hold: what may hold all the same. */
static void check_acting(const World *world, const char *what, BrakeSet may_hold) {
        const Core *core = &world->core;
        BrakeSet lane = (1u << BRAKE_SHARE) | (1u << BRAKE_SETTLE), turn = 1u << BRAKE_TURN;
        BrakeSet let_through = core->slow_lane ? lane | (may_hold & ~turn) : may_hold;
        Span down = mono_is_set(life->truly_down_since) ? mono_since(world->now.mono, life->truly_down_since)
                                                        : 0;

        if (core->policy.action == ACTION_OBSERVE || mono_before(world->now.mono, core->paused_until))
                broken(what);
        if (core->verdict.fault != FAULT_HOST)
                broken("acted without a fault of this host");
        if (core->look.outcome != OUTCOME_OK || mono_since(world->now.mono, core->looked_at) > SPAN_SEC(1))
                broken("acted without a fresh look");
        if (core->look.own.connected)
                broken("acted although ECS called the agent connected");
        if ((core->brakes & ~let_through) != 0)
                broken("acted while a brake held");
        if (core->slow_lane && (mono_since(world->now.mono, core->share_from) < SPAN_HOUR(1) ||
                                       core->look.removed_hour > 0 || world->path_fails))
                broken("went by the slow lane, which was not open");
        if ((let_through & turn) == 0 && core->turn.state != TURN_LONE && core->turn.state != TURN_OURS)
                broken("acted when it was not its turn");
        if (turn_slot(core->look.server_time, core->policy.turn) != core->turn.slot &&
                core->turn.state == TURN_OURS)
                broken("took another's slot for its own");
        if (core->look.lifecycle != LIFECYCLE_IN_SERVICE)
                broken("acted although not InService");
        /* The innocent: never down by the truth for less than the shorter grace. */
        if (down < core->policy.grace_dead)
                broken("acted on a host that was not down for long enough");
}

/* What patrol must not do, by the last look at the peer and by the truth. */
static void check_patrol(const World *world, const Effect *effect) {
        const Peer *peer = &world->peer;
        const Look *look = &peer->look;
        const Core *core = &world->core;

        if (effect->type == EFFECT_UNDRAIN && core->record.peer_stage != PATROL_UNDOING)
                broken("undid at a peer what the journal does not tell of");
        if (effect->type != EFFECT_DRAIN && effect->type != EFFECT_DETACH)
                return;
        if (core->policy.action == ACTION_OBSERVE || mono_before(world->now.mono, core->paused_until))
                broken("acted on a peer while observing or paused");
        if (!core->verdict.up || core->stage != STAGE_WATCHING)
                broken("acted on a peer while not well ourselves");
        if (look->outcome != OUTCOME_OK || mono_since(world->now.mono, peer->looked_at) > SPAN_SEC(1))
                broken("acted on a peer without a fresh look");
        if (look->own.connected || look->own.held || look->own.action == ACTION_OBSERVE)
                broken("acted on a peer that is connected, paused or observes");
        if (look->lifecycle != LIFECYCLE_IN_SERVICE || look->unhealthy || look->another_group)
                broken("acted on a peer that is not ours to act on");
        if (look->own.status == CONTROL_DRAINING && !look->own.patrolled && !look->own.marked)
                broken("acted on a peer that an operator drains");
        if (brake_share_holds(look, core->policy.max_sick) || look->tag_group == SWITCH_OFF ||
                look->removed_window > 0 || look->removed_cluster > 0 || look->young)
                broken("acted on a peer while a brake held");
        if (mono_since(world->now.mono, peer->first_look) < core->policy.patrol_after)
                broken("acted on a peer that was not found down for long enough");
        if (effect->type == EFFECT_DRAIN)
                return;
        if (!look->own.patrolled || look->own.patrolled_by != WORLD_SELF)
                broken("removed a peer that another has claimed");
        if (peer->removed > 0)
                broken("removed a peer twice");
        patrolled_lives++;
}

static void check_effect(World *world, const Effect *effect) {
        if (effect->peer) {
                check_patrol(world, effect);
                return;
        }
        switch (effect->type) {
        case EFFECT_REPAIR:
                /* A repair waits for nobody's turn, and not for the two confirmations to lie far enough apart. */
                check_acting(world, "repaired while observing or paused",
                        1u << BRAKE_TURN | (world->core.confirmations >= 2 ? 1u << BRAKE_CONFIRM : 0));
                break;
        case EFFECT_DRAIN: check_acting(world, "drained while observing or paused", 0); break;
        case EFFECT_DETACH:
                check_acting(world, "detached while observing or paused", 0);
                if (world->status != CONTROL_DRAINING || !world->marked)
                        broken("detached without a drain of ours");
                if (life->detach_open)
                        broken("detached again while the outcome of the last was not known");
                if (!world->in_group)
                        broken("detached twice");
                life->detach_open = true;
                break;
        case EFFECT_UNDRAIN:
                if (!world->core.record.drained && !world->core.record.marked && !world->core.tidying)
                        broken("undid a drain that is not ours");
                if (!world->in_group)
                        broken("undid the drain of a host that is out of its group");
                life->detach_open = false; /* it has read that we are still in */
                break;
        case EFFECT_CONFIRM:
        case EFFECT_LOOK:
        case EFFECT_PROBE:
        case EFFECT_VERIFY:
        case EFFECT_END:
        case EFFECT_SWEEP:
        case EFFECT_FORGET: break;
        }
}

static Outcome draw_outcome(World *world, unsigned good_in_100) {
        static const Outcome bad[] = { OUTCOME_THROTTLED, OUTCOME_UNAVAILABLE, OUTCOME_DENIED, OUTCOME_KEYS,
                OUTCOME_REFUSED, OUTCOME_CONTENTION, OUTCOME_LOST, OUTCOME_BLIND };

        if (world_draw(world) % 100 < good_in_100)
                return OUTCOME_OK;
        return bad[world_draw(world) % (sizeof(bad) / sizeof(bad[0]))];
}

/* One or two others are sick at times, and may be out at the next look. */
static void draw_peers(World *world) {
        uint32_t n = world_draw(world) % 4 == 0 ? 1 + (uint32_t) (world_draw(world) % 2) : 0;

        world->look.n_sick = world->look.n_sick_ours = n;
        world->look.n_outside = 0;
        for (uint32_t i = 0; i < n; i++)
                world->look.sick[i] = 100 + world_draw(world) % 4;
        if (world_draw(world) % 20 == 0)
                world->look.outside[world->look.n_outside++] = 100 + world_draw(world) % 4;
}

static void draw_answers(World *world) {
        world->confirm_outcome = draw_outcome(world, 80);
        world->look_outcome = draw_outcome(world, 80);
        world->drain_outcome = draw_outcome(world, 80);
        world->undrain_outcome = draw_outcome(world, 70);
        world->detach_outcome = draw_outcome(world, 70);
        world->verify_outcome = draw_outcome(world, 70);
        world->detach_lost_but_done = world_draw(world) % 2 == 0;
        world->ecs_lags = world_draw(world) % 10 == 0;
        world->answer_after = SPAN_MSEC(1 + (Span) (world_draw(world) % 20000));
        world->look.cluster.sick = world_draw(world) % 8 == 0 ? 6 : 0;
        world->look.removed_window = world_draw(world) % 10 == 0;
        world->look.removed_cluster = world_draw(world) % 10 == 0;
        world->look.removed_hour = world_draw(world) % 5 == 0;
        world->look.removed_day = world_draw(world) % 10 == 0 ? 2 : 0;
        world->look.replacement = world_draw(world) % 10 == 0
                                          ? (Replacement) (world_draw(world) % REPLACEMENT_N)
                                          : REPLACEMENT_NONE;
        world->look.young = world_draw(world) % 50 == 0;
        world->sweep_outcome = draw_outcome(world, 80);
        draw_peers(world);
        world->look.tag_group = world_draw(world) % 20 == 0 ? SWITCH_OFF : SWITCH_ON;
        world->look.connected_peers = world_draw(world) % 10 == 0 ? 1 : 19;
        world->path_fails = world_draw(world) % 5 == 0;
}

static void draw_witnesses(World *world) {
        world->no_log = world_draw(world) % 6 == 0;
        world->no_sockets = world_draw(world) % 6 == 0;
        world->no_introspection = world_draw(world) % 12 == 0;
        world->no_bus = world_draw(world) % 6 == 0;
}

/* Out of one an agent comes by a new connection only, of which its log tells. */
static void draw_black_hole(World *world) {
        bool was = world->black_hole;

        world->black_hole = world->linked && world_draw(world) % 2 == 0;
        if (was && !world->black_hole && world->process == PROCESS_RUNS)
                world_connect(world);
}

/* It freezes, wakes, is paused, worked on, claimed by another or by itself, or goes with an attachment back in. */
static void draw_peer(World *world) {
        Peer *peer = &world->peer;

        switch (world_draw(world) % 10) {
        case 0: peer->down = false; break;
        case 1: peer->paused = world_draw(world) % 3 == 0; break;
        case 2: peer->observes = world_draw(world) % 4 == 0; break;
        case 3: peer->foreign_drain = world_draw(world) % 3 == 0; break;
        case 4:
                peer->claimed = true;
                peer->claimed_by = 99;
                peer->claimed_at = world->now.wall;
                break;
        case 5:
                peer->marked = world_draw(world) % 2 == 0;
                peer->marked_at = world->now.wall;
                break;
        case 6: peer->unhealthy = world_draw(world) % 3 == 0; break;
        default: peer->down = true; break;
        }
}

static void draw_event(World *world) {
        Span jump;

        switch (world_draw(world) % 24) {
        case 0:
        case 1:
        case 2:
                if (world->process == PROCESS_RUNS && !world->linked)
                        world_connect(world);
                break;
        case 3:
        case 4:
        case 5:
        case 6:
                if (world->process == PROCESS_RUNS && world->linked)
                        world_cut(world);
                break;
        case 7: world_kill(world); break;
        case 8:
                if (world->process == PROCESS_RUNS)
                        world->process = PROCESS_HUNG;
                break;
        case 9:
                world->process = PROCESS_RUNS;
                world->unit = UNIT_ACTIVE;
                world->intent = INTENT_NONE;
                world_log(world, LOG_LINE_STARTED, 0);
                world_connect(world);
                break;
        case 10:
                world->unit = world_draw(world) % 2 == 0 ? UNIT_FAILED : UNIT_INACTIVE;
                world->intent = (Intent) (world_draw(world) % INTENT_N);
                world_kill(world);
                break;
        case 11: world_sleep(world, SPAN_SEC((Span) (world_draw(world) % 7200))); break;
        case 12:
                jump = SPAN_SEC((Span) (world_draw(world) % 7200) - 3600);
                world->now.wall = wall_add(world->now.wall, jump);
                world->clock_error += jump;
                break;
        case 13:
        case 14:
                /* Without a journal it cannot know of a detach that is on its way: that is what two copies are for. */
                world->journal_lost = !life->detach_open && world->core.patrol.stage < PATROL_DRAINING &&
                                      world_draw(world) % 4 == 0;
                world_crash(world, false);
                world_event(world, &(Event){ .type = EVENT_SIZES, .sizes = { 10, 3, WORLD_SELF } });
                break;
        case 15:
                world_event(
                        world, &(Event){ .type = EVENT_PAUSED,
                                       .paused_until = world_draw(world) % 2 == 0
                                                               ? MONO_NEVER
                                                               : mono_add(world->now.mono, SPAN_MIN(20)) });
                break;
        case 16:
                world->policy.action = world_draw(world) % 4 == 0 ? ACTION_OBSERVE : ACTION_DETACH;
                world_event(world, &(Event){ .type = EVENT_POLICY, .policy = world->policy });
                break;
        case 17: world->silent = world_draw(world) % 2 == 0; break;
        case 18: draw_black_hole(world); break;
        case 19: draw_witnesses(world); break;
        case 20:
        case 21:
        case 22: draw_peer(world); break;
        default: draw_answers(world); break;
        }
}

static void note_truth(World *world) {
        bool up = world->linked && !world->black_hole && world->process == PROCESS_RUNS;

        if (verdict_ill(&world->core.verdict) && world->core.verdict.cause == CAUSE_NONE)
                broken("ill of nothing");
        if (!up)
                life->truly_up_since = MONO_NEVER;
        else if (!mono_is_set(life->truly_up_since))
                life->truly_up_since = world->now.mono;
        /* Witnesses look every 10 s: an agent that comes and dies between two looks has not been seen. */
        if (up && mono_since(world->now.mono, life->truly_up_since) >= SPAN_SEC(10))
                life->truly_down_since = MONO_NEVER;
        else if (!up && !mono_is_set(life->truly_down_since))
                life->truly_down_since = world->now.mono;
        if (!world->in_group)
                life->detach_open = false;
}

/* Everything is well again and every call answers: nothing of ours may be left behind. */
static void heal(World *world) {
        world->process = PROCESS_RUNS;
        world->unit = UNIT_ACTIVE;
        world->intent = INTENT_NONE;
        world->black_hole = world->silent = false;
        world->no_log = world->no_sockets = world->no_introspection = world->no_bus = false;
        world->confirm_outcome = world->look_outcome = world->drain_outcome = OUTCOME_OK;
        world->undrain_outcome = world->detach_outcome = world->verify_outcome = OUTCOME_OK;
        world->sweep_outcome = OUTCOME_OK;
        world->ecs_lags = false;
        world->answer_after = SPAN_MSEC(200);
        world_log(world, LOG_LINE_STARTED, 0);
        world_connect(world);
        world->peer.down = false;
        note_truth(world);
        world_run(world, SPAN_HOUR(2));
        if (world->in_group && (world->status == CONTROL_DRAINING || world->marked))
                broken("a drain or a mark of ours was left behind");
        if (world->peer.in_group && world->peer.claimed && world->peer.claimed_by == WORLD_SELF)
                broken("a claim of ours was left behind at a peer");
        if (world->in_group && world->core.stage != STAGE_WATCHING)
                broken("a healthy host is not just watched");
        if (!world->in_group && world->core.stage != STAGE_REMOVED && world->core.stage != STAGE_ENDING)
                broken("a removed host does not know it");
}

static void live(uint64_t seed) {
        static Life one;
        World *world = &one.world;

        one = (Life){ .seed = seed };
        life = &one;
        world_init(world);
        world->random = seed * 0x9e3779b97f4a7c15u + 1;
        world->on_effect = check_effect;
        /* Peaceful times are short here: patrol must find what it is for. */
        world->policy.patrol_every = SPAN_MIN(1);
        world->policy.patrol_after = SPAN_MIN(5);
        world_event(world, &(Event){ .type = EVENT_POLICY, .policy = world->policy });
        world_event(world, &(Event){ .type = EVENT_GROUP, .lifecycle = LIFECYCLE_IN_SERVICE });
        world_event(world, &(Event){ .type = EVENT_SIZES, .sizes = { 10, 3, WORLD_SELF } });
        for (unsigned i = 0; i < 120 && !one.broken && world->in_group; i++) {
                draw_event(world);
                note_truth(world);
                for (Span left = SPAN_SEC((Span) (world_draw(world) % 1200)); left > 0 && !one.broken;
                        left -= SPAN_SEC(5)) {
                        world_run(world, SPAN_SEC(5));
                        note_truth(world);
                }
        }
        if (!one.broken)
                heal(world);
        removed_lives += !world->in_group;
}

static void test_random_lives_break_no_promise(void) {
        uint64_t first = only_seed != 0 ? only_seed : 1, last = only_seed != 0 ? only_seed : n_lives;

        for (uint64_t seed = first; seed <= last; seed++)
                live(seed);
        printf("# %u of %" PRIu64 " hosts were removed, %u peers by patrol, %" PRIu64 " core steps\n",
                removed_lives, last - first + 1, patrolled_lives, world_steps());
        EXPECT(only_seed != 0 || world_steps() >= 1000000);
        EXPECT(only_seed != 0 || patrolled_lives > 0);
        /* A core that never acts would break no promise either. */
        EXPECT(only_seed != 0 || removed_lives > n_lives / 20);
        EXPECT(only_seed != 0 || removed_lives < n_lives);
}

int main(int argc, char **argv) {
        static const Test tests[] = { TEST(test_random_lives_break_no_promise) };

        if (getenv("TEST_FULL"))
                n_lives = 6000;
        if (argc > 2 && strcmp(argv[1], "--lives") == 0)
                n_lives = (unsigned) strtoul(argv[2], NULL, 10);
        else if (argc > 1)
                only_seed = strtoull(argv[1], NULL, 10);
        return test_main(1, argv, tests, 1);
}
