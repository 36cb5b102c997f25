/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One step: notice a break in our own observation, take the event in, form the verdict, find the signal, follow the
 * table, ask the brakes, and say when to be woken.
 */

#include "agent/decide/core.h"

#include <stddef.h>

#include "agent/decide/remedy.h"

/* Observation counts as unbroken while steps are no further apart than this; the live daemon steps every 10 s and a
 * simulation once a minute. */
#define BREAK_MAX SPAN_SEC(90)
/* More than a slewed or stepped clock drifts between two steps: it was set. */
#define CLOCK_JUMP_MAX SPAN_SEC(10)
/* An effect has deadlines and retries of its own; an answer that is later than all of them is none. */
#define ANSWER_MAX SPAN_MIN(5)
/* The agent's announced retry gets this long to succeed. */
#define RETRY_GRACE  SPAN_SEC(90)
#define REPAIR_PAUSE SPAN_HOUR(1)
/* Two looks are compared only if they are not further apart than this. */
#define SHARE_MEMORY SPAN_MIN(30)
#define PATH_FRESH   SPAN_MIN(3)
/* One witness alone says "down" for this long: ask ECS for a second opinion. Normal reconnects are over by then. */
#define LONE_DELAY SPAN_SEC(60)
/* After our own restart the witnesses get this long to speak again before an open incident counts as over. */
#define GATHER_MIN SPAN_SEC(10)
/* An instance whose metadata says InService this long after its removal has been attached again. */
#define ATTACHED_AGAIN SPAN_MIN(10)
/* The slow lane: after so long a share hold, one removal in as long a time for the whole cluster. The look counts the
 * removals of this time for it. */
#define LANE_AFTER SPAN_HOUR(1)

/* --- small things ------------------------------------------------------------------------------------------------ */

/* splitmix64: the generator of the jitter; part of the state, so that equal events give equal plans. */
static uint64_t draw(Core *core) {
        uint64_t z = core->random += 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

/* @from <= result <= @to */
static Span draw_span(Core *core, Span from, Span to) {
        return from >= to ? from : from + (Span) (draw(core) % (uint64_t) (to - from + 1));
}

static Span break_max(const Core *core) {
        Span shortest = span_min(core->policy.grace, core->policy.grace_dead);

        return span_max(SPAN_SEC(1), span_min(BREAK_MAX, shortest / 2));
}

static Span grace_needed(const Core *core) {
        return core->verdict.dead ? core->policy.grace_dead : core->policy.grace;
}

/* A point on the wall clock that was noted earlier, as a deadline on the other; never further off than @span. */
static Mono deadline_after(Wall noted, Span span, Now now) {
        Span left;

        if (!wall_is_set(noted))
                return MONO_NEVER;
        left = span_min(wall_since(wall_add(noted, span), now.wall), span);
        return left > 0 ? mono_add(now.mono, left) : MONO_NEVER;
}

Mono core_grace_end(const Core *core) {
        Mono end;

        if (!mono_is_set(core->ill_from))
                return MONO_NEVER;
        end = mono_add(core->ill_from, grace_needed(core));
        return core->retry_bar_set && !core->verdict.dead ? mono_max(end, core->retry_bar) : end;
}

static bool grace_over(const Core *core, Mono now) {
        Mono end = core_grace_end(core);

        return core->grace_served || (mono_is_set(end) && !mono_before(now, end));
}

bool core_incident_open(const Core *core) {
        return core->stage != STAGE_WATCHING && core->stage != STAGE_GRACE && core->stage != STAGE_REMOVED;
}

static void forget_illness(Core *core) {
        core->ill_from = MONO_NEVER;
        core->retry_bar_set = false;
        core->confirmations = 0;
        core->first_confirmed = MONO_NEVER;
}

void core_init(Core *core, const Policy *policy, uint64_t seed, Now now) {
        *core = (Core){
                .policy = *policy,
                .random = seed,
                .stepped = now.mono,
                .wall_offset = clock_sub_saturating(now.wall.usec, now.mono.usec),
                .cause_from = now.mono,
                .stage_from = now.mono,
                .due = MONO_INFINITE,
                .boot_grace_until = (Mono){ policy->boot_grace },
                .verdict = { .cause = CAUSE_NOT_KNOWN, .fault = FAULT_UNKNOWN },
        };
}

/* --- taking events in -------------------------------------------------------------------------------------------- */

/* Only observed time counts: after a suspend, a freeze of our own or a clock that was set, grace begins anew. */
static void notice_break(Core *core, Now now) {
        Span offset = clock_sub_saturating(now.wall.usec, now.mono.usec);
        Span jump = clock_sub_saturating(offset, core->wall_offset);
        bool broken = mono_since(now.mono, core->stepped) > break_max(core);

        if (broken || jump > CLOCK_JUMP_MAX || jump < -CLOCK_JUMP_MAX) {
                core->lone_from = MONO_NEVER;
                core->earlier_look_at = MONO_NEVER;
                core->grace_served = false;
                forget_illness(core);
        }
        core->stepped = now.mono;
        core->wall_offset = offset;
}

static void take_look(Core *core, const Look *look, Mono now) {
        uint32_t sick = look->cluster.sick, was = core->last_sick;
        uint32_t change = sick > was ? sick - was : was - sick;
        uint32_t still = look->cluster.members / 100 > 2 ? look->cluster.members / 100 : 2;
        bool recent = core->last_sick_known && mono_since(now, core->looked_at) < SHARE_MEMORY;

        checks_confirm(&core->checks, &look->own, &core->policy, now);
        if (look->lifecycle != LIFECYCLE_UNKNOWN)
                core->checks.lifecycle_asg = look->lifecycle;
        core->share_moved = recent && change > still;
        core->service_known = wall_is_set(look->server_time);
        core->service_offset = clock_sub_saturating(look->server_time.usec, now.usec);
        recall_take(&core->recall, look, core->policy.window, now);
        if (core->share_moved || brake_share_holds(look, core->policy.max_sick)) {
                if (!mono_is_set(core->share_from))
                        core->share_from = now;
                core->share_held = true;
                core->share_ended = now;
                core->clear_looks = 0;
        } else {
                core->share_from = MONO_NEVER;
                /* Looks may lie an hour apart while share holds: when it ended is not known before this one. */
                if (core->share_held && core->clear_looks == 0)
                        core->share_ended = now;
                core->clear_looks++;
                if (core->clear_looks >= 2 && mono_since(now, core->share_ended) >= core->policy.settle)
                        core->share_held = false;
        }
        core->last_sick = sick;
        core->last_sick_known = true;
        core->look = *look;
        core->looked_at = now;
}

static void restore(Core *core, const Restored *restored, Now now) {
        const Record *record = &restored->record;

        core->record = *record;
        core->checks.answered_this_boot |= restored->answered_this_boot;
        core->checks.registered_before |= restored->registered_before;
        core->stage_from = core->restored_at = now.mono;
        /* As far as we know; and the next restart may come before we know more. */
        core->record.marked |= restored->no_journal;
        core->tidying = core->record.marked && !core->record.drained;
        core->tidy_at = mono_add(now.mono, draw_span(core, 0, core->policy.turn / 4));
        switch ((Stage) record->stage) {
        case STAGE_DETACHING:
        case STAGE_VERIFYING:
                core->stage = STAGE_VERIFYING;
                core->patience = core->policy.turn;
                core->grace_served = restored->same_boot;
                core->due = now.mono;
                return;
        case STAGE_REMOVED: core->stage = STAGE_REMOVED; return;
        case STAGE_DRAINING:
        case STAGE_RECHECKING:
                if (restored->same_boot) {
                        /* Half-way through: the drain stands, the evidence must be gathered anew, and then a look decides. */
                        core->stage = STAGE_RECHECKING;
                        core->grace_served = true;
                        core->drain_doubtful = record->stage == STAGE_DRAINING;
                        core->due = MONO_INFINITE;
                        return;
                }
                break;
        case STAGE_WATCHING:
        case STAGE_GRACE:
        case STAGE_LOOKING:
        case STAGE_HELD:
        case STAGE_REPAIRING:
        case STAGE_TURN:
        case STAGE_UNDOING: break;
        }
        core->stage = record->drained ? STAGE_UNDOING : STAGE_WATCHING;
        core->grace_served = core->stage == STAGE_UNDOING && restored->same_boot;
        core->due = core->stage == STAGE_UNDOING ? now.mono : MONO_INFINITE;
}

static bool is_answer(EventType type) {
        return type >= EVENT_CONFIRMED && type <= EVENT_VERIFIED;
}

/* Return: whether the event is an answer that is awaited. */
static bool take_event(Core *core, const Event *event, Now now) {
        if (is_answer(event->type)) {
                if (event->ticket == 0 || event->ticket != core->awaiting)
                        return false;
                core->awaiting = 0;
        }
        switch (event->type) {
        case EVENT_SAMPLE: checks_take(&core->checks, &event->sample, &core->policy, now.mono); break;
        case EVENT_CONFIRMED:
                checks_confirm(&core->checks, &event->confirmed, &core->policy, now.mono);
                return true;
        case EVENT_LOOKED:
                if (event->look.outcome == OUTCOME_OK)
                        take_look(core, &event->look, now.mono);
                else
                        core->look = event->look;
                return true;
        case EVENT_RIGHTS: core->rights = event->rights; break;
        case EVENT_POLICY:
                core->policy = event->policy;
                core->boot_grace_until = (Mono){ event->policy.boot_grace };
                if (core->stage == STAGE_HELD)
                        core->due = now.mono;
                break;
        case EVENT_PAUSED:
                /* Ended before its time, by somebody; not by the clock, which knows nothing of our replacements. */
                if (!mono_is_set(event->paused_until) && mono_before(now.mono, core->paused_until))
                        core->record.released = core_incident_open(core);
                core->paused_until = event->paused_until;
                if (core->stage == STAGE_HELD)
                        core->due = now.mono;
                break;
        case EVENT_GROUP: core->checks.lifecycle_asg = event->lifecycle; break;
        case EVENT_RESTORED: restore(core, &event->restored, now); break;
        case EVENT_REPAIRED:
        case EVENT_DRAINED:
        case EVENT_UNDRAINED:
        case EVENT_DETACHED:
        case EVENT_VERIFIED: return true;
        case EVENT_TICK: break;
        }
        return false;
}

/* --- illness and grace ------------------------------------------------------------------------------------------- */

/* When grace would end, the retry that the agent has announced by then still gets its chance; later ones do not. */
static void note_retry_bar(Core *core, Mono now) {
        if (core->retry_bar_set || !mono_is_set(core->ill_from) ||
                mono_before(now, mono_add(core->ill_from, grace_needed(core))))
                return;
        core->retry_bar_set = true;
        core->retry_bar =
                mono_is_set(core->checks.log.retry_at) && core->checks.log.state == LOG_STATE_BACKOFF
                        ? mono_add(core->checks.log.retry_at, span_min(RETRY_GRACE, core->policy.grace / 2))
                        : MONO_NEVER;
}

static void follow_illness(Core *core, Mono now) {
        const Verdict *verdict = &core->verdict;
        bool lone = verdict->fault == FAULT_HOST && !verdict->enough;
        bool well = verdict->up || verdict->fault == FAULT_INTENDED;

        if (verdict_ill(verdict)) {
                if (!mono_is_set(core->ill_from)) {
                        core->ill_from = now;
                        core->confirm_jitter = draw_span(core, 0, core->policy.confirm_before / 3);
                }
                core->lone_from = MONO_NEVER;
        } else {
                /* A restarted agent is neither well nor ill until it has tried: repair.wait is for that. */
                if (well || core->stage != STAGE_REPAIRING)
                        forget_illness(core);
                if (!lone)
                        core->lone_from = MONO_NEVER;
                else if (!mono_is_set(core->lone_from))
                        core->lone_from = now;
        }
        if (well)
                core->grace_served = false;
        if (verdict->up)
                core->record.looped = core->record.released = false;
        /* What ECS said of an outage does not count against what has been seen since. */
        if (verdict->up && !core->checks.control.connected)
                core->checks.control_at = MONO_NEVER;
        note_retry_bar(core, now);
}

/* --- brakes ------------------------------------------------------------------------------------------------------ */

static PathAnswer fresh_path(const Core *core, Mono now) {
        const Sample *sample = &core->checks.samples[WITNESS_PATH];

        if (sample->sight != SIGHT_CLEAR || mono_since(now, core->checks.sampled[WITNESS_PATH]) > PATH_FRESH)
                return PATH_NONE;
        return sample->path.answer;
}

static Wall service_now(const Core *core, Mono now) {
        return core->service_known ? (Wall){ clock_add_saturating(now.usec, core->service_offset) }
                                   : WALL_NEVER;
}

static bool half_connected(const Population *population) {
        return population->sick <= population->members / 2;
}

/* Whether the slow lane is worth a look that goes on to the group although share holds. */
static bool lane_in_sight(const Core *core, Mono now) {
        return mono_is_set(core->share_from) && !core->look.more_than_a_page &&
               half_connected(&core->look.cluster) && fresh_path(core, now) == PATH_WORKS;
}

static bool lane_due(const Core *core, Mono now) {
        return lane_in_sight(core, now) && mono_since(now, core->share_from) >= LANE_AFTER;
}

/* Share holds for good where some are dead for good. Once in a while one may go, if it is certainly its own fault. */
static bool lane_open(const Core *core, const Look *look, const Remembered *remembered, Mono now) {
        return look && look->outcome == OUTCOME_OK && lane_due(core, now) && !core->share_moved &&
               !look->share_decided && half_connected(&look->group) && half_connected(&look->zone) &&
               look->removed_hour + remembered->cluster == 0;
}

/*
 * Who takes turns: the group's sick. The whole cluster's where these are more than its budget has left: else the lone
 * sick of many groups, none of which needs a turn in its own, could overrun it at once. The slow lane is the cluster's.
 */
static uint32_t candidates(const Core *core, const Look *look, const Remembered *remembered) {
        uint32_t budget = brake_budget(&core->policy, look->cluster.members, false);
        uint32_t removed = look->removed_cluster + remembered->cluster;
        uint32_t n = look->n_sick < LOOK_SICK_MAX ? look->n_sick : LOOK_SICK_MAX;

        if (core->slow_lane || n + removed > budget)
                return n;
        return look->n_sick_ours < n ? look->n_sick_ours : n;
}

static Turn judge_turn(const Core *core, const Look *look, const Remembered *remembered, Mono now) {
        Turn turn = turn_judge(look->sick, candidates(core, look, remembered), look->self,
                service_now(core, now), core->policy.turn);
        bool mine = !core->slot_taken || turn.slot == core->slot;

        /* What was begun in time may be ended while the slot lasts: the mark has told the others. */
        if (core->stage == STAGE_RECHECKING && turn.state == TURN_LATE && mine)
                turn.state = TURN_OURS;
        return turn;
}

static BrakeSet ask_brakes(Core *core, const Look *look, Now now) {
        Remembered remembered =
                look ? recall_removals(&core->recall, look, core->policy.window, now.mono) : (Remembered){};
        BrakeInput input = {
                .now = now,
                .policy = &core->policy,
                .verdict = &core->verdict,
                .look = look,
                .rights = &core->rights,
                .grace_over = grace_over(core, now.mono),
                .confirmations = core->grace_served ? 2 : core->confirmations,
                .paused_until = core->paused_until,
                .boot_grace_until = core->boot_grace_until,
                .cooldown_until = core->cooldown_until,
                .settle_until =
                        core->share_held ? mono_add(core->share_ended, core->policy.settle) : MONO_NEVER,
                .clear_looks = core->clear_looks,
                .share_moved = core->share_moved,
                .path = fresh_path(core, now.mono),
                .settling = core->share_held,
                .remembered = remembered,
                .looped = core->record.looped,
                .released = core->record.released,
                .service_now = service_now(core, now.mono),
        };

        core->slow_lane = lane_open(core, look, &remembered, now.mono);
        core->turn = look ? judge_turn(core, look, &remembered, now.mono) : (Turn){};
        input.turn = core->turn;
        core->brakes = brakes_ask(&input, core->brake_until);
        return core->brakes;
}

/* A missing right to act leaves the local repair; a missing right to read leaves nothing. */
static bool only_writes_denied(const Core *core, BrakeSet brakes) {
        static const Right reads[] = { RIGHT_ECS_DESCRIBE_CONTAINER_INSTANCES,
                RIGHT_ECS_LIST_CONTAINER_INSTANCES, RIGHT_ECS_DESCRIBE_CLUSTERS,
                RIGHT_ASG_DESCRIBE_INSTANCES, RIGHT_ASG_DESCRIBE_GROUPS, RIGHT_ASG_DESCRIBE_ACTIVITIES,
                RIGHT_ASG_DESCRIBE_REFRESHES };

        if (brakes != (1u << BRAKE_RIGHTS))
                return false;
        for (unsigned i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
                if (core->rights.granted[reads[i]] == GRANTED_NO)
                        return false;
        return true;
}

static bool may_repair(const Core *core, Now now) {
        return core->policy.repair && core->verdict.repairable && !core->repair_done &&
               core->checks.samples[WITNESS_UNITS].sight == SIGHT_CLEAR &&
               !mono_is_set(deadline_after(core->record.repaired, REPAIR_PAUSE, now));
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

/* agentConnected=true cancels; but where the cause is another than the connection, ECS has only been asked for a sign. */
static bool contradicted(const Core *core, const Confirmation *own) {
        return own->outcome == OUTCOME_OK && own->connected && core->verdict.down;
}

static void count_confirmation(Core *core, Mono now) {
        core->confirmations++;
        core->unanswered = 0;
        if (!mono_is_set(core->first_confirmed))
                core->first_confirmed = now;
}

static Signal signal_of_confirmation(Core *core, const Confirmation *own, Mono now) {
        static const Span base = SPAN_SEC(30);
        unsigned shift = core->unanswered < 4 ? core->unanswered : 4;

        if (own->outcome != OUTCOME_OK) {
                core->confirm_at = mono_add(
                        now, draw_span(core, 1, 2) * span_min(base, core->policy.turn / 4) / 2 << shift);
                core->unanswered++;
                return SIGNAL_NONE;
        }
        if (own->connected && (core->verdict.down || core->stage == STAGE_WATCHING)) {
                core->confirm_at = mono_add(now, core->policy.grace);
                return SIGNAL_CONNECTED;
        }
        if (core->stage == STAGE_GRACE)
                count_confirmation(core, now);
        return SIGNAL_NONE;
}

/* Of what holds, that which the slow lane lets through is not in the way. */
static BrakeSet in_the_way(const Core *core, BrakeSet brakes) {
        return core->slow_lane ? brakes & ~((1u << BRAKE_SHARE) | (1u << BRAKE_SETTLE)) : brakes;
}

/* A look at which nothing holds, or nothing but the turn. */
static Signal signal_of_clear_look(Core *core, BrakeSet brakes, Mono now) {
        bool earlier = mono_is_set(core->earlier_look_at) &&
                       mono_since(now, core->earlier_look_at) <= core->policy.turn * 3 / 2;
        bool first = !mono_is_set(core->earlier_look_at);

        core->earlier_look_at = now;
        if (brakes != 0)
                return first ? SIGNAL_FIRST : SIGNAL_QUEUED;
        return earlier ? SIGNAL_CLEAR : SIGNAL_FIRST;
}

static Signal signal_of_look(Core *core, const Look *look, Now now) {
        bool whole = look->outcome == OUTCOME_OK;
        BrakeSet brakes, turn = 1u << BRAKE_TURN;

        if (whole && contradicted(core, &look->own))
                return SIGNAL_CONNECTED;
        /* The look's own word on us is the second confirmation. */
        if (whole && look->own.outcome == OUTCOME_OK && core->stage == STAGE_LOOKING)
                count_confirmation(core, now.mono);
        if (whole && !look->share_decided && look->young)
                core->record.looped = true;
        brakes = in_the_way(core, ask_brakes(core, look, now));
        if (core->stage == STAGE_RECHECKING) {
                if (brakes != 0)
                        return SIGNAL_BRAKED;
                return core->drain_doubtful && core->policy.drain && look->own.status == CONTROL_ACTIVE
                               ? SIGNAL_UNDRAINED
                               : SIGNAL_CLEAR;
        }
        /* A repair removes nobody and waits for no turn; but of the many that share holds, one at a time. */
        if (may_repair(core, now)) {
                BrakeSet left = core->slow_lane ? brakes : brakes & ~turn;

                if (left == 0 || only_writes_denied(core, left))
                        return SIGNAL_REPAIR;
        }
        if ((brakes & ~turn) != 0)
                return SIGNAL_BRAKED;
        return signal_of_clear_look(core, brakes, now.mono);
}

static Signal signal_of_change(Outcome outcome) {
        return outcome == OUTCOME_OK ? SIGNAL_DONE : outcome == OUTCOME_LOST ? SIGNAL_LOST : SIGNAL_FAILED;
}

static Signal signal_of_detach(Core *core, Outcome outcome) {
        /* Reads lag: "still in" is believed only when a detach would have shown by now; longer, if it was accepted, and at
         * once, if it was refused. */
        core->patience = outcome == OUTCOME_OK        ? core->policy.turn * 5
                         : outcome == OUTCOME_REFUSED ? 0
                                                      : core->policy.turn;
        /* ValidationError is what an instance gets that is detached already, and every other refusal: read to tell. */
        if (outcome == OUTCOME_REFUSED)
                core->tries = 1;
        return outcome == OUTCOME_REFUSED || outcome == OUTCOME_BLIND ? SIGNAL_LOST
                                                                      : signal_of_change(outcome);
}

static bool is_out(Lifecycle lifecycle) {
        return lifecycle == LIFECYCLE_DETACHING || lifecycle == LIFECYCLE_DETACHED ||
               lifecycle == LIFECYCLE_TERMINATING;
}

static Signal signal_of_verification(const Core *core, const Verification *verification, Now now) {
        /* The metadata service's word is free and of its own; its "in no group" proves nothing. */
        if (is_out(core->checks.lifecycle))
                return SIGNAL_OUT;
        if (verification->outcome != OUTCOME_OK)
                return SIGNAL_NONE;
        if (is_out(verification->lifecycle) || verification->lifecycle == LIFECYCLE_NO_GROUP ||
                verification->activity)
                return SIGNAL_OUT;
        return core->tries >= 2 && mono_since(now.mono, core->stage_from) >= core->patience ? SIGNAL_STILL_IN
                                                                                            : SIGNAL_NONE;
}

static Signal signal_of_answer(Core *core, const Event *event, Now now) {
        switch (event->type) {
        case EVENT_CONFIRMED: return signal_of_confirmation(core, &event->confirmed, now.mono);
        case EVENT_LOOKED: return signal_of_look(core, &event->look, now);
        case EVENT_REPAIRED: return event->outcome == OUTCOME_OK ? SIGNAL_NONE : SIGNAL_FAILED;
        case EVENT_DRAINED:
        case EVENT_UNDRAINED: return signal_of_change(event->outcome);
        case EVENT_DETACHED: return signal_of_detach(core, event->outcome);
        case EVENT_VERIFIED: return signal_of_verification(core, &event->verified, now);
        case EVENT_TICK:
        case EVENT_SAMPLE:
        case EVENT_RIGHTS:
        case EVENT_POLICY:
        case EVENT_PAUSED:
        case EVENT_GROUP:
        case EVENT_RESTORED: break;
        }
        return SIGNAL_NONE;
}

static bool ripe(const Core *core, Mono now) {
        if (!grace_over(core, now))
                return false;
        return core->grace_served || (core->confirmations > 0 && mono_since(now, core->first_confirmed) >=
                                                                         core->policy.confirm_before);
}

/* Paused, just booted or cooling down: no need to ask AWS anything to know that nothing will be done. */
static bool held_without_look(Core *core, Now now) {
        static const BrakeSet local =
                (1u << BRAKE_PAUSED) | (1u << BRAKE_BOOT_GRACE) | (1u << BRAKE_COOLDOWN);
        BrakeSet brakes = ask_brakes(core, NULL, now) & local;

        if (brakes != 0)
                core->brakes = brakes;
        return brakes != 0;
}

/* Our own restart has interrupted an incident: neither ill nor well until the witnesses have spoken again. */
static bool gathering(const Core *core, bool ill, Mono now) {
        return core->grace_served && !ill && !core->verdict.up && core->verdict.fault != FAULT_INTENDED &&
               mono_since(now, core->restored_at) < span_max(GATHER_MIN, break_max(core));
}

static Signal signal_of_removed(const Core *core, Now now) {
        bool in = core->checks.lifecycle == LIFECYCLE_IN_SERVICE;
        bool long_ago = wall_since(now.wall, core->record.closed) > ATTACHED_AGAIN;

        return in && (core->seen_outside || long_ago) ? SIGNAL_IN_AGAIN : SIGNAL_NONE;
}

/* What time and the verdict alone say, in this stage. */
static Signal signal_of_state(Core *core, Now now) {
        bool ill = verdict_ill(&core->verdict) && mono_is_set(core->ill_from);
        bool due = !mono_before(now.mono, core->due);

        if (core->awaiting != 0 && !mono_before(now.mono, core->answer_due)) {
                core->awaiting = 0;
                return SIGNAL_LOST;
        }
        switch (core->stage) {
        case STAGE_WATCHING: return ill ? SIGNAL_ILL : SIGNAL_NONE;
        case STAGE_GRACE:
                if (!ill)
                        return SIGNAL_WELL;
                if (core->awaiting != 0 || !ripe(core, now.mono))
                        return SIGNAL_NONE;
                return held_without_look(core, now) ? SIGNAL_BRAKED : SIGNAL_RIPE;
        case STAGE_REPAIRING:
                if (!mono_is_set(core->ill_from))
                        return SIGNAL_WELL;
                if (due && !ill)
                        return SIGNAL_WELL;
                return due ? SIGNAL_DUE : SIGNAL_NONE;
        case STAGE_LOOKING:
        case STAGE_TURN:
                if (!ill)
                        return SIGNAL_WELL;
                return due && core->awaiting == 0 ? SIGNAL_DUE : SIGNAL_NONE;
        case STAGE_HELD:
                if (gathering(core, ill, now.mono))
                        return SIGNAL_NONE;
                if (!ill)
                        return SIGNAL_WELL;
                if (!due)
                        return SIGNAL_NONE;
                return held_without_look(core, now) ? SIGNAL_BRAKED : SIGNAL_DUE;
        case STAGE_RECHECKING:
                if (gathering(core, ill, now.mono))
                        return SIGNAL_NONE;
                if (!ill)
                        return SIGNAL_WELL;
                return core->awaiting == 0 ? SIGNAL_DUE : SIGNAL_NONE;
        case STAGE_VERIFYING:
        case STAGE_UNDOING: return due && core->awaiting == 0 ? SIGNAL_DUE : SIGNAL_NONE;
        case STAGE_REMOVED: return signal_of_removed(core, now);
        case STAGE_DRAINING:
        case STAGE_DETACHING: break;
        }
        return SIGNAL_NONE;
}

/* --- moving ------------------------------------------------------------------------------------------------------ */

static void add_effect(Core *core, Plan *plan, EffectType type, Mono now) {
        if (plan->n_effects >= PLAN_EFFECTS_MAX)
                return;
        plan->effects[plan->n_effects++] = (Effect){
                .type = type, .ticket = ++core->ticket, .whole = type == EFFECT_LOOK && lane_due(core, now)
        };
        if (type == EFFECT_FORGET)
                core->awaiting = 0;
        if (type == EFFECT_FORGET || type == EFFECT_PROBE)
                return;
        core->awaiting = core->ticket;
        core->answer_due = mono_add(now, ANSWER_MAX);
}

/* Waits are counted in turns, so that a test's short turn shortens them all; at the standard 2 min they are the
 * design's: throttled 30 s, share 1 min or 0.8 s a sick one, others 1 min, doubled up to 10 min (share: 1 h). */
static Span hold_span(Core *core, bool throttled) {
        Span turn = core->policy.turn, base = throttled ? turn / 4 : turn / 2, ceiling = turn * 5;
        unsigned shift = core->holds < 12 ? core->holds : 12;
        /* Beyond a page nobody has counted them: it may be everybody. */
        Span sick = core->look.more_than_a_page ? core->look.cluster.members : core->last_sick;
        Span wait;

        if ((core->brakes & (1u << BRAKE_SHARE)) != 0)
                ceiling = turn * 30;
        wait = span_min(base << shift, ceiling);
        if ((core->brakes & (1u << BRAKE_SHARE)) != 0)
                wait = span_min(span_max(wait, turn / 150 * sick), ceiling);
        return draw_span(core, wait / 2, wait + wait / 2);
}

/* When to look again while a brake holds: not later than what is known to end the hold. */
static Mono due_after_hold(Core *core, Mono now) {
        Mono due = mono_add(now, hold_span(core, core->look.outcome == OUTCOME_THROTTLED));
        Mono frees = core->brake_until[BRAKE_BUDGET];

        if ((core->brakes & (1u << BRAKE_BUDGET)) != 0 && mono_is_set(frees))
                due = mono_min(due, mono_add(frees, draw_span(core, 0, core->policy.turn / 8)));
        if ((core->brakes & (1u << BRAKE_SHARE)) != 0 && lane_in_sight(core, now) && !lane_due(core, now))
                due = mono_min(
                        due, mono_add(core->share_from, LANE_AFTER + draw_span(core, 0, core->policy.turn)));
        return due;
}

/* When to look next while nothing but the turn is waited for: in our slot, with an earlier look that is neither too old
 * by then nor too fresh to tell a change. */
static Mono due_for_turn(Core *core, Mono now) {
        const Look *look = &core->look;
        Remembered remembered = recall_removals(&core->recall, look, core->policy.window, now);
        Span turn = core->policy.turn, apart = draw_span(core, turn / 2, turn * 5 / 6), wait;
        Wall service = service_now(core, now), slot;

        if (core->turn.state == TURN_LONE || !wall_is_set(service))
                return mono_add(now, apart);
        slot = turn_next(look->sick, candidates(core, look, &remembered), look->self,
                wall_add(service, turn / 2), turn);
        if (!wall_is_set(slot))
                return mono_add(now, turn * 5);
        wait = wall_since(slot, service) + turn / 60; /* so much behind the services' clock ours may be */
        if (wait <= turn * 5 / 4)
                return mono_add(now, wait);
        /* A little earlier than needed, since a look takes its time. */
        return mono_add(now, span_min(wait - span_max(apart, turn * 7 / 12), turn * 5));
}

static void close_incident(Core *core, Now now) {
        if (core->record.acted)
                core->record.closed = now.wall;
        core->record.acted = false;
        core->holds = 0;
        core->repair_done = false;
        core->earlier_look_at = MONO_NEVER;
        core->share_from = MONO_NEVER;
        core->brakes = 0;
}

static void open_incident(Core *core, Now now) {
        core->record.incident++;
        core->record.cause = core->verdict.cause;
        core->record.opened = now.wall;
        core->record.acted = false;
        core->repair_done = false;
        core->holds = 0;
        core->earlier_look_at = MONO_NEVER;
}

/* What entering a stage, or staying in it for another try, sets up. */
static void enter(Core *core, Stage next, Now now) {
        Span turn = core->policy.turn;

        core->due = MONO_INFINITE;
        switch (next) {
        case STAGE_WATCHING:
                forget_illness(core);
                close_incident(core, now);
                break;
        case STAGE_LOOKING:
                if (core->stage == STAGE_GRACE)
                        open_incident(core, now);
                break;
        case STAGE_HELD:
                if (core->stage == STAGE_GRACE)
                        open_incident(core, now);
                if (core->stage == STAGE_UNDOING)
                        core->record.drained = core->record.marked = false;
                core->due = due_after_hold(core, now.mono);
                core->holds++;
                break;
        case STAGE_REPAIRING:
                core->record.repaired = now.wall;
                core->repair_done = true;
                core->due = mono_add(now.mono, core->policy.repair_wait);
                break;
        case STAGE_TURN: core->due = due_for_turn(core, now.mono); break;
        case STAGE_DRAINING:
                core->record.drained = core->record.marked = core->record.acted = true;
                core->checks.our_drain = true;
                core->drain_doubtful = core->tidying = false;
                core->slot_taken = core->turn.state == TURN_OURS;
                core->slot = core->turn.slot;
                break;
        case STAGE_DETACHING:
                core->record.detach_sent = now.wall;
                core->tries = 0;
                break;
        case STAGE_VERIFYING:
                core->tries++;
                core->due = mono_add(
                        now.mono, span_min(turn / 4 << (core->tries < 4 ? core->tries - 1 : 3), turn));
                break;
        case STAGE_UNDOING:
                core->tries = core->stage == STAGE_UNDOING ? core->tries + 1 : 0;
                core->due = mono_add(
                        now.mono, span_min(turn / 4 << (core->tries < 6 ? core->tries : 6), turn * 5));
                break;
        case STAGE_REMOVED:
                core->record.drained = core->record.marked = false;
                core->record.closed = now.wall;
                core->removals++;
                core->seen_outside = false;
                core->brakes = 0;
                break;
        case STAGE_GRACE:
        case STAGE_RECHECKING: break;
        }
}

static void move(Core *core, Signal signal, Now now, Plan *plan) {
        Transition transition = remedy_transition(core->stage, signal);
        Stage was = core->stage;

        if (!transition.listed)
                return;
        enter(core, transition.next, now);
        core->stage = transition.next;
        if (was != core->stage) {
                core->stage_from = now.mono;
                plan->stage_changed = true;
        }
        if (was != core->stage || core->stage == STAGE_UNDOING) {
                core->record.stage = core->stage;
                core->record.changed = now.wall;
                /* Grace is not worth a write: after a restart it begins anew. */
                plan->record_changed |= !(was == STAGE_WATCHING && core->stage == STAGE_GRACE) &&
                                        !(was == STAGE_GRACE && core->stage == STAGE_WATCHING);
        }
        /* What was asked before has lost its meaning, whatever it answers. */
        if (was != core->stage)
                core->awaiting = 0;
        if (transition.effect != EFFECT_NONE)
                add_effect(core, plan, transition.effect, now.mono);
        /* A right may be granted meanwhile; nobody tells, so find out. */
        if (core->stage == STAGE_HELD && (core->brakes & (1u << BRAKE_RIGHTS)) != 0)
                add_effect(core, plan, EFFECT_PROBE, now.mono);
}

/* Questions to ECS that no transition asks: the first confirmation, and the second opinion on a lone witness. */
static void ask_control_plane(Core *core, Now now, Plan *plan) {
        Mono at = MONO_INFINITE;

        if (core->stage == STAGE_GRACE && core->confirmations == 0 && mono_is_set(core->ill_from))
                at = mono_max(core->ill_from, mono_add(mono_add(core->ill_from, grace_needed(core)),
                                                      -core->policy.confirm_before - core->confirm_jitter));
        else if (core->stage == STAGE_WATCHING && mono_is_set(core->lone_from))
                at = mono_add(core->lone_from, span_min(LONE_DELAY, core->policy.grace / 4));
        if (at.usec == MONO_INFINITE.usec)
                return;
        if (core->stage == STAGE_GRACE && core->unanswered == 0)
                core->confirm_at = MONO_NEVER; /* a cancelled second opinion does not delay a confirmation */
        at = mono_max(at, core->confirm_at);
        if (core->awaiting == 0 && !mono_before(now.mono, at))
                add_effect(core, plan, EFFECT_CONFIRM, now.mono);
        else
                plan->wake = mono_min(plan->wake, at);
}

static void finish_tidying(Core *core, Outcome outcome, Plan *plan) {
        if (outcome != OUTCOME_OK)
                return;
        core->tidying = core->record.marked = false;
        plan->record_changed = true;
}

/* Without a journal nobody remembers whether a drain of ours was left at ECS: read it there, and undo it, when there is
 * time. An instance that never registered has nothing there, and one that is out of its group keeps its drain. */
static void tidy_up(Core *core, Now now, Plan *plan) {
        if (!core->tidying || core->stage != STAGE_WATCHING || core->awaiting != 0 ||
                !mono_is_set(core->checks.registered_at) || core->checks.lifecycle != LIFECYCLE_IN_SERVICE ||
                (core->checks.lifecycle_asg != LIFECYCLE_IN_SERVICE &&
                        core->checks.lifecycle_asg != LIFECYCLE_PENDING))
                return;
        if (!mono_before(now.mono, core->tidy_at)) {
                Span wait = span_min(core->policy.turn / 2 << core->tidy_tries, core->policy.turn * 5);

                core->tidy_at = mono_add(now.mono, draw_span(core, wait / 2, wait + wait / 2));
                core->tidy_tries += core->tidy_tries < 4;
                add_effect(core, plan, EFFECT_UNDRAIN, now.mono);
        }
        plan->wake = mono_min(plan->wake, core->tidy_at);
}

static void plan_wake(Core *core, Now now, Plan *plan) {
        Mono grace_end = core_grace_end(core);

        plan->wake = mono_min(plan->wake, mono_add(now.mono, span_min(SPAN_SEC(30), break_max(core) / 2)));
        plan->wake = mono_min(plan->wake, core->due);
        if (core->awaiting != 0)
                plan->wake = mono_min(plan->wake, core->answer_due);
        if (core->stage == STAGE_GRACE && mono_is_set(grace_end)) {
                if (mono_before(now.mono, grace_end))
                        plan->wake = mono_min(plan->wake, grace_end);
                else if (mono_is_set(core->first_confirmed))
                        plan->wake = mono_min(
                                plan->wake, mono_add(core->first_confirmed, core->policy.confirm_before));
        }
        plan->wake = mono_max(plan->wake, mono_add(now.mono, SPAN_MSEC(1)));
}

void core_step(Core *core, const Event *event, Now now, Plan *plan) {
        Cause cause = core->verdict.cause;
        BrakeSet brakes = core->brakes;
        bool answered;

        *plan = (Plan){ .wake = MONO_INFINITE };
        notice_break(core, now);
        answered = take_event(core, event, now);
        core->checks.our_drain = core->record.drained;
        core->cooldown_until = deadline_after(core->record.closed, core->policy.cooldown, now);
        if (core->stage == STAGE_REMOVED && core->checks.lifecycle != LIFECYCLE_IN_SERVICE &&
                core->checks.lifecycle != LIFECYCLE_UNKNOWN)
                core->seen_outside = true;

        checks_age(&core->checks, now.mono);
        verdict_decide(&core->checks, &core->policy, core->boot_grace_until, now.mono, &core->verdict);
        if (core->verdict.cause != cause) {
                core->cause_from = now.mono;
                plan->verdict_changed = true;
        }
        follow_illness(core, now.mono);

        if (answered && event->type == EVENT_UNDRAINED && core->stage == STAGE_WATCHING)
                finish_tidying(core, event->outcome, plan);
        else if (answered)
                move(core, signal_of_answer(core, event, now), now, plan);
        for (unsigned i = 0; i < 3 && plan->n_effects == 0; i++) {
                Signal signal = signal_of_state(core, now);

                if (signal == SIGNAL_NONE)
                        break;
                move(core, signal, now, plan);
        }
        ask_control_plane(core, now, plan);
        tidy_up(core, now, plan);

        if (core->stage == STAGE_GRACE) /* for people; what needs a look is not asked yet */
                core->brakes = ask_brakes(core, NULL, now) & ~(1u << BRAKE_BLIND);
        plan->brakes_changed = core->brakes != brakes;
        plan->watch_path =
                core->verdict.down && core->verdict.fault == FAULT_HOST && core->stage != STAGE_REMOVED;
        plan_wake(core, now, plan);
}
