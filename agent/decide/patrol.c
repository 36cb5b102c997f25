/* SPDX-License-Identifier: Apache-2.0 */

/* Patrol: the core's second, smaller path. It ends in the same calls as the first, at a peer. */

#include "agent/decide/patrol.h"

#include <stddef.h>

#include "agent/decide/core-parts.h"

/* A daemon that waits for a brake says so every half hour; one that has not for so long is frozen by now. */
#define HELD_YOUNG SPAN_HOUR(1)
/* At least so much time for each member of the cluster, so that 10,000 ask twice a second. */
#define PACE_CLUSTER  SPAN_MSEC(500)
#define THROTTLED_MAX 3

/* --- whom it is about -------------------------------------------------------------------------------------------- */

static bool is_young(bool claimed, Wall at, Wall now) {
        return claimed &&
               (!wall_is_set(at) || !wall_is_set(now) || wall_since(now, at) < PATROL_CLAIM_YOUNG);
}

static bool is_held(const Confirmation *is, Wall now) {
        return is->held &&
               (!wall_is_set(is->held_at) || !wall_is_set(now) || wall_since(now, is->held_at) < HELD_YOUNG);
}

/* What the peer says of itself, leaving aside what we have done to it. */
static bool is_willing(const Confirmation *is, Wall now) {
        return is->outcome == OUTCOME_OK && !is->connected && is->action != ACTION_OBSERVE &&
               !is_held(is, now) && !is->updating && !is_young(is->marked, is->marked_at, now);
}

bool patrol_may_act(const Confirmation *is, Wall now) {
        /* A drain without a claim is an operator's. */
        bool status = is->status == CONTROL_ACTIVE ||
                      (is->status == CONTROL_DRAINING && (is->marked || is->patrolled));

        return status && is_willing(is, now) && !is_young(is->patrolled, is->patrolled_at, now);
}

static bool is_member(const Look *look) {
        return look->outcome == OUTCOME_OK && look->lifecycle == LIFECYCLE_IN_SERVICE && !look->unhealthy &&
               !look->another_group;
}

/* --- moving ------------------------------------------------------------------------------------------------------ */

/* Whether something of ours may stand at a peer. */
static bool has_claim(const Patrol *patrol) {
        return patrol->stage >= PATROL_DRAINING;
}

static bool may_patrol(const Core *core, Mono now) {
        const Policy *policy = &core->policy;

        return policy->patrol && policy->action != ACTION_OBSERVE && core->stage == STAGE_WATCHING &&
               core->verdict.up && checks_lifecycle(&core->checks) == LIFECYCLE_IN_SERVICE &&
               !mono_before(now, core->boot_grace_until) && !mono_before(now, core->paused_until) &&
               core->sizes.group >= 2 && core->sizes.self != 0;
}

static Span pace(const Core *core) {
        Span group = core->policy.patrol_every * core->sizes.group,
             cluster = PACE_CLUSTER * core->sizes.cluster;

        return span_max(group, cluster) << core->patrol.throttled;
}

static void enter(Core *core, PatrolStage stage, Now now, Plan *plan) {
        Patrol *patrol = &core->patrol;
        bool claimed = has_claim(patrol);

        if (patrol->stage != stage) {
                patrol->stage_from = now.mono;
                patrol->tries = 0;
        }
        patrol->stage = stage;
        patrol->due = MONO_INFINITE;
        patrol->awaiting = 0;
        if (!claimed && !has_claim(patrol))
                return;
        /* Before each step: whoever takes over after us must find what we have left at the peer. */
        core->record.peer_stage = has_claim(patrol) ? stage : PATROL_RESTING;
        core->record.peer_action = patrol->action;
        core->record.peer_changed = now.wall;
        core->record.peer = has_claim(patrol) ? patrol->peer : (PeerName){ .arn = "" };
        if (stage == PATROL_DETACHING)
                core->record.peer_sent = now.wall;
        else if (!has_claim(patrol) || stage == PATROL_DRAINING)
                core->record.peer_sent = WALL_NEVER;
        plan->record_changed = true;
}

static void ask(Core *core, EffectType type, Now now, Plan *plan) {
        const Effect effect = { .type = type,
                .peer = type != EFFECT_SWEEP,
                .action = type == EFFECT_DETACH ? core->patrol.action : ACTION_OBSERVE };

        core->patrol.awaiting = core_effect(core, plan, &effect);
        core->patrol.answer_due = mono_add(now.mono, ANSWER_MAX);
}

static void rest(Core *core, Now now, Plan *plan) {
        Span mean = pace(core);

        enter(core, PATROL_RESTING, now, plan);
        core->patrol.due = mono_add(now.mono, core_draw_span(core, mean - mean / 10, mean + mean / 10));
}

static void let_go(Core *core, BrakeSet brakes, Now now, Plan *plan) {
        core->patrol.brakes = brakes;
        rest(core, now, plan);
}

/* Another may claim the peer over our claim, but in the third quarter of a slot only. What is left to undo is read and
 * undone in the first. */
static void undo(Core *core, Now now, Plan *plan) {
        Span turn = core->policy.turn;
        unsigned tries = core->patrol.stage == PATROL_UNDOING ? core->patrol.tries : 0;
        bool may = outlook_may_undo(core, now);

        enter(core, PATROL_UNDOING, now, plan);
        if (!may) {
                core->patrol.tries = tries;
                core->patrol.due = outlook_undo_at(core, now.mono, now);
                return;
        }
        core->patrol.tries = tries < 6 ? tries + 1 : tries;
        core->patrol.due =
                outlook_undo_at(core, mono_add(now.mono, span_min(turn / 4 << tries, turn * 5)), now);
        ask(core, EFFECT_UNDRAIN, now, plan);
}

static void verify(Core *core, Now now, Plan *plan) {
        Span turn = core->policy.turn;
        unsigned tries = core->patrol.stage == PATROL_VERIFYING ? core->patrol.tries : 0;

        enter(core, PATROL_VERIFYING, now, plan);
        core->patrol.tries = tries < 3 ? tries + 1 : tries;
        core->patrol.due = mono_add(now.mono, span_min(turn / 4 << tries, turn));
        ask(core, EFFECT_VERIFY, now, plan);
}

/* --- answers ----------------------------------------------------------------------------------------------------- */

static void on_swept(Core *core, const Sweep *sweep, Now now, Plan *plan) {
        Patrol *patrol = &core->patrol;

        patrol->sweeps++;
        if (sweep->outcome == OUTCOME_THROTTLED)
                patrol->throttled += patrol->throttled < THROTTLED_MAX;
        else if (sweep->outcome == OUTCOME_OK)
                patrol->throttled = 0;
        if (sweep->outcome != OUTCOME_OK || sweep->n == 0 || sweep->n > SWEEP_PEERS_MAX) {
                rest(core, now, plan);
                return;
        }
        patrol->peer = sweep->peers[core_draw_span(core, 0, (Span) sweep->n - 1)];
        patrol->brakes = 0;
        patrol->looked_at = MONO_NEVER;
        enter(core, PATROL_FINDING, now, plan);
        ask(core, EFFECT_LOOK, now, plan);
}

/* A look that shows the peer down, willing, and nothing in the way. */
static void on_clear_look(Core *core, const Look *look, Now now, Plan *plan) {
        Patrol *patrol = &core->patrol;
        bool first = patrol->stage == PATROL_FINDING;
        bool earlier = mono_is_set(patrol->looked_at) &&
                       mono_since(now.mono, patrol->looked_at) <= core->policy.turn * 3 / 2;
        int64_t slot = outlook_peer_slot(core, look, now.mono);

        patrol->action = look->own.action;
        patrol->looked_at = now.mono;
        if (first)
                patrol->found_at = now.mono;
        if (!first && earlier && slot >= 0) {
                patrol->slot = slot;
                patrol->begun_at = now.mono;
                enter(core, PATROL_DRAINING, now, plan);
                ask(core, EFFECT_DRAIN, now, plan);
                return;
        }
        enter(core, PATROL_WAITING, now, plan);
        patrol->due = first ? mono_add(now.mono, core->policy.patrol_after)
                            : outlook_due_for_peer(core, look, now.mono);
}

static void on_look(Core *core, const Look *look, Now now, Plan *plan) {
        BrakeSet brakes;

        if (look->outcome != OUTCOME_OK) {
                core->patrol.throttled +=
                        look->outcome == OUTCOME_THROTTLED && core->patrol.throttled < THROTTLED_MAX;
                let_go(core, 1u << BRAKE_BLIND, now, plan);
                return;
        }
        outlook_take(core, look, now.mono);
        brakes = outlook_ask_for_peer(core, look, now);
        if (brakes != 0 || !may_patrol(core, now.mono) || !is_member(look) ||
                !patrol_may_act(&look->own, outlook_service_now(core, now.mono)))
                let_go(core, brakes, now, plan);
        else
                on_clear_look(core, look, now, plan);
}

/* Drained: the last look before it is removed. */
static void on_recheck(Core *core, const Look *look, Now now, Plan *plan) {
        Patrol *patrol = &core->patrol;
        Wall service;
        bool mine, clear;

        if (look->outcome == OUTCOME_OK)
                outlook_take(core, look, now.mono);
        service = outlook_service_now(core, now.mono);
        mine = look->own.patrolled && look->own.patrolled_by == core->sizes.self;
        clear = may_patrol(core, now.mono) && is_member(look) && is_willing(&look->own, service) && mine &&
                (look->own.status == CONTROL_DRAINING || !core->policy.drain) &&
                outlook_ask_for_peer(core, look, now) == 0 && outlook_slot(core, now.mono) == patrol->slot &&
                mono_since(now.mono, patrol->begun_at) <= core_hurry(core);
        if (clear) {
                enter(core, PATROL_DETACHING, now, plan);
                ask(core, EFFECT_DETACH, now, plan);
        } else if (look->outcome == OUTCOME_OK && look->own.outcome == OUTCOME_OK && look->own.patrolled &&
                   !mine) {
                /* Another has claimed it after us: the drain and what follows are its own now. */
                let_go(core, 0, now, plan);
        } else {
                verify(core, now, plan);
        }
}

static void on_detached(Core *core, Outcome outcome, Now now, Plan *plan) {
        /* Refused is what one gets that is out already, too: read to tell. */
        bool perhaps = outcome == OUTCOME_OK || outcome == OUTCOME_LOST || outcome == OUTCOME_REFUSED ||
                       outcome == OUTCOME_BLIND;

        if (!perhaps)
                core->record.peer_sent = WALL_NEVER;
        verify(core, now, plan);
}

/* How long "still in" is not believed: ours may be on its way; or another's, who has claimed the peer after us. */
static Span patience(const Core *core) {
        return wall_is_set(core->record.peer_sent) ? core->policy.turn * 5 : core->policy.turn * 5 / 4;
}

static void on_verified(Core *core, const Verification *is, Now now, Plan *plan) {
        Patrol *patrol = &core->patrol;

        if (is->outcome != OUTCOME_OK)
                return;
        if (core_shows_out(is, patrol->action)) {
                patrol->removals++;
                let_go(core, 0, now, plan);
        } else if (mono_since(now.mono, patrol->stage_from) >= patience(core)) {
                undo(core, now, plan);
        }
}

static void take_answer(Core *core, const Event *event, Now now, Plan *plan) {
        switch (core->patrol.stage) {
        case PATROL_SWEEPING: on_swept(core, &event->swept, now, plan); break;
        case PATROL_FINDING:
        case PATROL_LOOKING: on_look(core, &event->look, now, plan); break;
        case PATROL_DRAINING:
                if (event->outcome != OUTCOME_OK) {
                        verify(core, now, plan);
                        break;
                }
                enter(core, PATROL_RECHECKING, now, plan);
                ask(core, EFFECT_LOOK, now, plan);
                break;
        case PATROL_RECHECKING: on_recheck(core, &event->look, now, plan); break;
        case PATROL_DETACHING: on_detached(core, event->outcome, now, plan); break;
        case PATROL_VERIFYING: on_verified(core, &event->verified, now, plan); break;
        case PATROL_UNDOING:
                if (event->outcome == OUTCOME_OK)
                        let_go(core, core->patrol.brakes, now, plan);
                break;
        case PATROL_RESTING:
        case PATROL_WAITING: break;
        }
}

void patrol_answer(Core *core, const Event *event, Now now, Plan *plan) {
        static const EventType awaited[PATROL_STAGE_N] = {
                [PATROL_SWEEPING] = EVENT_SWEPT,
                [PATROL_FINDING] = EVENT_LOOKED,
                [PATROL_LOOKING] = EVENT_LOOKED,
                [PATROL_DRAINING] = EVENT_DRAINED,
                [PATROL_RECHECKING] = EVENT_LOOKED,
                [PATROL_DETACHING] = EVENT_DETACHED,
                [PATROL_VERIFYING] = EVENT_VERIFIED,
                [PATROL_UNDOING] = EVENT_UNDRAINED,
        };
        Patrol *patrol = &core->patrol;

        if (event->ticket == 0 || event->ticket != patrol->awaiting || event->type != awaited[patrol->stage])
                return;
        patrol->awaiting = 0;
        take_answer(core, event, now, plan);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

static void on_overdue(Core *core, Now now, Plan *plan) {
        switch (core->patrol.stage) {
        case PATROL_SWEEPING:
        case PATROL_FINDING:
        case PATROL_LOOKING: let_go(core, 1u << BRAKE_BLIND, now, plan); break;
        case PATROL_DRAINING:
        case PATROL_RECHECKING:
        case PATROL_DETACHING: verify(core, now, plan); break;
        case PATROL_RESTING:
        case PATROL_WAITING:
        case PATROL_VERIFYING:
        case PATROL_UNDOING: core->patrol.awaiting = 0; break;
        }
}

static void on_due(Core *core, Now now, Plan *plan) {
        switch (core->patrol.stage) {
        case PATROL_RESTING:
                enter(core, PATROL_SWEEPING, now, plan);
                ask(core, EFFECT_SWEEP, now, plan);
                break;
        case PATROL_WAITING:
                enter(core, PATROL_LOOKING, now, plan);
                ask(core, EFFECT_LOOK, now, plan);
                break;
        case PATROL_VERIFYING: verify(core, now, plan); break;
        case PATROL_UNDOING: undo(core, now, plan); break;
        case PATROL_SWEEPING:
        case PATROL_FINDING:
        case PATROL_LOOKING:
        case PATROL_DRAINING:
        case PATROL_RECHECKING:
        case PATROL_DETACHING: break;
        }
}

/* Nothing of ours stands at a peer, and patrol must not go on: the task is dropped. */
static void stand_down(Core *core, Now now, Plan *plan) {
        Patrol *patrol = &core->patrol;

        if (patrol->stage == PATROL_RESTING && !mono_is_set(patrol->due))
                return;
        if (patrol->stage != PATROL_RESTING)
                let_go(core, 0, now, plan);
        patrol->due = MONO_NEVER;
}

void patrol_step(Core *core, bool broken, Now now, Plan *plan) {
        Patrol *patrol = &core->patrol;
        bool may = may_patrol(core, now.mono);

        if (patrol->awaiting != 0 && !mono_before(now.mono, patrol->answer_due))
                on_overdue(core, now, plan);
        if (!has_claim(patrol) && (!may || broken)) {
                stand_down(core, now, plan);
                if (!may)
                        return;
        }
        if (patrol->stage == PATROL_RECHECKING && (!may || broken))
                verify(core, now, plan);
        if (patrol->stage == PATROL_RESTING && !mono_is_set(patrol->due))
                patrol->due = mono_add(now.mono, core_draw_span(core, 0, pace(core)));
        /* Our own affairs come first: one look at a time, and none while an answer is awaited. */
        if (patrol->awaiting == 0 && !mono_before(now.mono, patrol->due) && core->awaiting == 0 &&
                plan->n_effects < PLAN_EFFECTS_MAX)
                on_due(core, now, plan);
        if (patrol->awaiting != 0)
                plan->wake = mono_min(plan->wake, patrol->answer_due);
        else
                plan->wake = mono_min(plan->wake, mono_max(patrol->due, mono_add(now.mono, SPAN_SEC(1))));
}

void patrol_restore(Core *core, Now now) {
        Patrol *patrol = &core->patrol;
        const Record *record = &core->record;

        if (record->peer_stage < PATROL_DRAINING || record->peer.arn[0] == '\0')
                return;
        patrol->peer = record->peer;
        patrol->action = record->peer_action;
        patrol->stage = record->peer_stage == PATROL_UNDOING ? PATROL_UNDOING : PATROL_VERIFYING;
        patrol->stage_from = patrol->due = now.mono;
}
