/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One step: notice a break in our own observation, take the event in, form the verdict, find the signal, follow the
 * table, ask the brakes, and say when to be woken.
 */

#include <stddef.h>

#include "agent/decide/core-parts.h"
#include "agent/decide/remedy.h"

/* Observation counts as unbroken while steps are no further apart than this; the live daemon steps every 10 s and a
 * simulation once a minute. */
#define BREAK_MAX SPAN_SEC(90)
/* More than a slewed or stepped clock drifts between two steps: it was set. */
#define CLOCK_JUMP_MAX SPAN_SEC(10)
/* The agent's announced retry gets this long to succeed. */
#define RETRY_GRACE  SPAN_SEC(90)
#define REPAIR_PAUSE SPAN_HOUR(1)
/* One witness alone says "down" for this long: ask ECS for a second opinion. Normal reconnects are over by then. */
#define LONE_DELAY SPAN_SEC(60)
/* After our own restart the witnesses get this long to speak again before an open incident counts as over. */
#define GATHER_MIN SPAN_SEC(10)
/* An instance whose metadata says InService this long after its removal has been attached again. */
#define ATTACHED_AGAIN SPAN_MIN(10)
/* So long after the look that began a removal nobody else takes its mark for a left-over. */
#define UNDO_FREELY SPAN_MIN(8)
/* A drain or a claim at ECS is believed to be nobody's any more after an outage that was longer than this. */
#define TIDY_AFTER SPAN_MIN(10)
/* Before grace ends that goes on for an announced retry or a late confirmation, and before repair.wait ends, there is time
 * for the first of the two looks. */
#define LOOK_AHEAD(turn) ((turn) *3 / 4)

/* --- small things ------------------------------------------------------------------------------------------------ */

/* splitmix64: the generator of the jitter; part of the state, so that equal events give equal plans. */
static uint64_t draw(Core *core) {
        uint64_t z = core->random += 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

Span core_draw_span(Core *core, Span from, Span to) {
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

bool core_incident_open(const Core *core) {
        return core->stage != STAGE_WATCHING && core->stage != STAGE_GRACE && core->stage != STAGE_REMOVED;
}

static void forget_illness(Core *core) {
        core->ill_from = MONO_NEVER;
        core->retry_bar_set = false;
        core->confirmations = 0;
        core->first_confirmed = MONO_NEVER;
        core->crowd_jitter = 0;
        core->blind_from = core->blind_at = MONO_NEVER;
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

/* A peer may have begun to remove us while nothing of us moved, and be gone itself: see whether it has left a claim. The
 * metadata service must have spoken since, and not all hosts ask at once after an outage of many. */
static void tidy_soon(Core *core, Mono now) {
        Span turn = core->policy.turn, spread = turn / 240 * core->sizes.cluster;

        core->woke_at = now;
        core->outside_asked = false;
        if (core->tidying || core->record.drained)
                return;
        core->tidying = true;
        core->tidy_tries = 0;
        core->tidy_at = mono_add(now, turn + core_draw_span(core, 0, span_max(spread, turn)));
}

/* Only observed time counts: after a suspend, a freeze of our own or a clock that was set, grace begins anew. */
static bool notice_break(Core *core, Now now) {
        Span offset = clock_sub_saturating(now.wall.usec, now.mono.usec);
        Span jump = clock_sub_saturating(offset, core->wall_offset);
        bool frozen = mono_since(now.mono, core->stepped) > break_max(core);
        bool broken = frozen || jump > CLOCK_JUMP_MAX || jump < -CLOCK_JUMP_MAX;

        if (broken) {
                core->lone_from = MONO_NEVER;
                core->earlier_look_at = MONO_NEVER;
                core->grace_served = false;
                forget_illness(core);
        }
        if (frozen)
                tidy_soon(core, now.mono);
        core->stepped = now.mono;
        core->wall_offset = offset;
        return broken;
}

static Mono undo_restored_at(Core *core, Now now) {
        Span age = wall_since(now.wall, core->record.changed);

        return age >= 0 && age < UNDO_FREELY ? now.mono : outlook_undo_at(core, now.mono, now);
}

static void restore(Core *core, const Restored *restored, Now now) {
        const Record *record = &restored->record;

        core->record = *record;
        /* Journals of before there were other actions do not name the one that was taken. */
        if (core->record.action == ACTION_OBSERVE)
                core->record.action = ACTION_DETACH;
        core->checks.answered_this_boot |= restored->answered_this_boot;
        core->checks.registered_before |= restored->registered_before;
        core->stage_from = core->restored_at = now.mono;
        /* As far as we know; and the next restart may come before we know more. */
        core->record.marked |= restored->no_journal;
        core->tidying = core->record.marked && !core->record.drained;
        core->tidy_at = mono_add(now.mono, core_draw_span(core, 0, core->policy.turn / 4));
        switch ((Stage) record->stage) {
        case STAGE_DETACHING:
        case STAGE_VERIFYING:
                core->stage = STAGE_VERIFYING;
                core->patience = core->policy.turn;
                core->grace_served = restored->same_boot;
                core->due = now.mono;
                return;
        case STAGE_REMOVED: core->stage = STAGE_REMOVED; return;
        case STAGE_ENDING:
                /* After a reboot somebody has started it again, and wants to look at it. */
                core->stage = STAGE_REMOVED;
                core->record.ended = !restored->same_boot;
                return;
        case STAGE_DRAINING:
        case STAGE_RECHECKING:
                if (restored->same_boot) {
                        /* Half-way through: the drain stands, the evidence must be gathered anew, and then a look decides. */
                        core->stage = STAGE_RECHECKING;
                        core->grace_served = true;
                        core->drain_doubtful = record->stage == STAGE_DRAINING;
                        core->begun_at =
                                mono_add(now.mono, -span_max(wall_since(now.wall, record->changed), 0));
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
        core->due = core->stage == STAGE_UNDOING ? undo_restored_at(core, now) : MONO_INFINITE;
}

/* ECS may notice minutes late that an agent is gone: until grace is over its "connected" proves nothing. But against a
 * silence it does. */
static bool is_early(const Core *core, Mono now) {
        return core->stage == STAGE_GRACE && mono_is_set(core->ill_from) &&
               core->verdict.cause != CAUSE_AGENT_WEDGED &&
               mono_before(now, mono_add(core->ill_from, grace_needed(core)));
}

static bool is_answer(EventType type) {
        return type >= EVENT_CONFIRMED && type <= EVENT_SWEPT;
}

static void miss_look(Core *core, const Look *look, Mono now) {
        core->look = *look;
        if (look->outcome == OUTCOME_UNAVAILABLE)
                outlook_note_blind(core, now);
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
                core->checks.control_early = is_early(core, now.mono);
                return true;
        case EVENT_LOOKED:
                if (event->look.outcome == OUTCOME_OK)
                        outlook_take(core, &event->look, now.mono);
                else
                        miss_look(core, &event->look, now.mono);
                core->checks.control_early = false;
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
        case EVENT_RESUMED:
                core->record.released = core_incident_open(core);
                if (core->stage == STAGE_HELD)
                        core->due = now.mono;
                break;
        case EVENT_SIZES: core->sizes = event->sizes; break;
        case EVENT_GROUP: core->checks.lifecycle_asg = event->lifecycle; break;
        case EVENT_RESTORED:
                restore(core, &event->restored, now);
                patrol_restore(core, now);
                break;
        case EVENT_REPAIRED:
        case EVENT_DRAINED:
        case EVENT_UNDRAINED:
        case EVENT_DETACHED:
        case EVENT_VERIFIED:
        case EVENT_ENDED: return true;
        case EVENT_SWEPT:
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
                        core->confirm_jitter = core_draw_span(core, 0, core->policy.confirm_before / 3);
                }
                core->lone_from = MONO_NEVER;
        } else {
                if (verdict->up && mono_is_set(core->ill_from) &&
                        mono_since(now, core->ill_from) > TIDY_AFTER)
                        tidy_soon(core, now);
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

/* --- what brakes and rights leave --------------------------------------------------------------------------------- */

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

/* Out of the group, and it was not our own doing: an operator's, or a peer's that patrols. */
static bool outside(const Core *core) {
        return core->checks.lifecycle == LIFECYCLE_DETACHED || core->checks.lifecycle == LIFECYCLE_STANDBY;
}

static void count_confirmation(Core *core, Mono now) {
        core->confirmations++;
        core->unanswered = 0;
        if (!mono_is_set(core->first_confirmed))
                core->first_confirmed = now;
}

/* Throttled twice, we are not alone: 0.2 s for each member, so that all of them together stay below half of the quota. Each
 * that is answered looks a little later, and the looks must not come all at once either: 0.1 s for each. */
static Span make_room(Core *core, Span wait) {
        Span turn = core->policy.turn, crowd = span_min(turn / 1200 * core->sizes.cluster, turn * 5 / 2);

        if (core->crowd_jitter == 0)
                core->crowd_jitter = core_draw_span(core, 0, crowd);
        if (core->unanswered == 0)
                return wait;
        return span_max(wait, span_min(turn / 600 * core->sizes.cluster, turn * 20));
}

static Signal signal_of_confirmation(Core *core, const Confirmation *own, Mono now) {
        static const Span base = SPAN_SEC(30);
        unsigned shift = core->unanswered < 4 ? core->unanswered : 4;

        if (own->outcome != OUTCOME_OK) {
                Span wait = span_min(base, core->policy.turn / 4) << shift;

                if (own->outcome == OUTCOME_THROTTLED)
                        wait = make_room(core, wait);
                if (own->outcome == OUTCOME_UNAVAILABLE)
                        outlook_note_blind(core, now);
                core->confirm_at = mono_add(now, core_draw_span(core, wait / 2, wait + wait / 2));
                core->unanswered++;
                return SIGNAL_NONE;
        }
        if (core->stage == STAGE_WATCHING && outside(core)) {
                core->outside_asked = true;
                return own->patrolled || own->marked ? SIGNAL_OUT : SIGNAL_NONE;
        }
        if (own->connected && (core->verdict.down || core->stage == STAGE_WATCHING)) {
                Mono end = mono_add(core->ill_from, grace_needed(core));

                core->unanswered = 0;
                core->confirmations = 0;
                core->first_confirmed = MONO_NEVER;
                /* No reason to begin anew. */
                if (is_early(core, now)) {
                        core->confirm_at = mono_min(end, mono_add(now, core->policy.turn / 2));
                        return SIGNAL_NONE;
                }
                core->confirm_at = mono_add(now, core->policy.grace);
                return SIGNAL_CONNECTED;
        }
        if (core->stage == STAGE_GRACE)
                count_confirmation(core, now);
        return SIGNAL_NONE;
}

/* A look at which nothing holds, or nothing but the turn. */
static Signal signal_of_clear_look(Core *core, BrakeSet brakes, Mono now) {
        bool earlier = mono_is_set(core->earlier_look_at) &&
                       mono_since(now, core->earlier_look_at) <= core->policy.turn * 3 / 2;
        bool first = !mono_is_set(core->earlier_look_at);

        core->earlier_look_at = core->begun_at = now;
        if (brakes != 0)
                return first ? SIGNAL_FIRST : SIGNAL_QUEUED;
        return earlier ? SIGNAL_CLEAR : SIGNAL_FIRST;
}

/* What a first look, made a little early, need not wait for. */
static BrakeSet soon_over(const Core *core, Mono now) {
        Mono soon = mono_add(now, core->policy.turn);
        BrakeSet set = 0;

        for (Brake brake = BRAKE_GRACE; brake <= BRAKE_CONFIRM; brake++)
                if (mono_is_set(core->brake_until[brake]) && !mono_before(soon, core->brake_until[brake]))
                        set |= 1u << brake;
        return set;
}

static Signal signal_of_look(Core *core, const Look *look, Now now) {
        bool whole = look->outcome == OUTCOME_OK;
        BrakeSet brakes, turn = 1u << BRAKE_TURN, waits;

        if (whole && contradicted(core, &look->own))
                return SIGNAL_CONNECTED;
        /* The look's own word on us is the second confirmation. */
        if (whole && look->own.outcome == OUTCOME_OK && core->stage == STAGE_LOOKING)
                count_confirmation(core, now.mono);
        if (whole && !look->share_decided && look->young)
                core->record.looped = true;
        brakes = outlook_in_the_way(core, outlook_ask(core, look, now));
        if (core->stage == STAGE_RECHECKING) {
                if (brakes != 0)
                        return SIGNAL_BRAKED;
                if (mono_since(now.mono, core->begun_at) > core_hurry(core))
                        return SIGNAL_LOST;
                return core->drain_doubtful && core->policy.drain && look->own.status == CONTROL_ACTIVE
                               ? SIGNAL_UNDRAINED
                               : SIGNAL_CLEAR;
        }
        /* A repair removes nobody and waits for no turn; but of the many that share holds, one at a time. */
        if (may_repair(core, now)) {
                BrakeSet left = core->slow_lane ? brakes : brakes & ~turn;

                if (core->confirmations >= 2 && mono_since(now.mono, core->cause_from) >= grace_needed(core))
                        left &= ~(1u << BRAKE_CONFIRM); /* no more than too close to each other */
                if (left == 0 || only_writes_denied(core, left))
                        return SIGNAL_REPAIR;
        }
        waits = turn | soon_over(core, now.mono);
        if ((brakes & ~waits) != 0)
                return SIGNAL_BRAKED;
        /* Not before the repair has had its time. */
        if (mono_before(now.mono, core->repaired_until))
                brakes |= turn;
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

static bool is_out(Lifecycle lifecycle, Action action) {
        return lifecycle == LIFECYCLE_DETACHING || lifecycle == LIFECYCLE_DETACHED ||
               lifecycle == LIFECYCLE_TERMINATING ||
               (action == ACTION_STANDBY && lifecycle == LIFECYCLE_STANDBY);
}

bool core_shows_out(const Verification *is, Action action) {
        return is_out(is->lifecycle, action) || is->lifecycle == LIFECYCLE_NO_GROUP || is->activity ||
               is->unhealthy;
}

static Signal signal_of_verification(const Core *core, const Verification *verification, Now now) {
        /* The metadata service's word is free and of its own; its "in no group" proves nothing. */
        if (is_out(core->checks.lifecycle, core->record.action))
                return SIGNAL_OUT;
        if (verification->outcome != OUTCOME_OK)
                return SIGNAL_NONE;
        if (core_shows_out(verification, core->record.action))
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
        case EVENT_ENDED:
                core->record.ended = event->outcome == OUTCOME_OK;
                return core->record.ended ? SIGNAL_DONE : SIGNAL_FAILED;
        case EVENT_DETACHED: return signal_of_detach(core, event->outcome);
        case EVENT_VERIFIED: return signal_of_verification(core, &event->verified, now);
        case EVENT_TICK:
        case EVENT_SAMPLE:
        case EVENT_RIGHTS:
        case EVENT_POLICY:
        case EVENT_PAUSED:
        case EVENT_RESUMED:
        case EVENT_SIZES:
        case EVENT_SWEPT:
        case EVENT_GROUP:
        case EVENT_RESTORED: break;
        }
        return SIGNAL_NONE;
}

/* The first look is at the end of grace. Where grace goes on for a retry or a late confirmation, it is in that time. */
static Mono ripe_at(const Core *core) {
        Mono grace = mono_add(core->ill_from, grace_needed(core));
        Span ahead = LOOK_AHEAD(core->policy.turn);
        Mono at = mono_max(grace, mono_add(core_grace_end(core), -ahead));

        at = mono_max(at, mono_add(mono_add(core->first_confirmed, core->policy.confirm_before), -ahead));
        return mono_add(at, core->crowd_jitter);
}

static bool ripe(const Core *core, Mono now) {
        if (core->grace_served)
                return true;
        return mono_is_set(core->ill_from) && core->confirmations > 0 && !mono_before(now, ripe_at(core));
}

/* Paused, just booted or cooling down: no need to ask AWS anything to know that nothing will be done. */
static bool held_without_look(Core *core, Now now) {
        static const BrakeSet local =
                (1u << BRAKE_PAUSED) | (1u << BRAKE_BOOT_GRACE) | (1u << BRAKE_COOLDOWN);
        BrakeSet brakes = outlook_ask(core, NULL, now) & local;

        if (brakes != 0)
                core->brakes = brakes;
        return brakes != 0;
}

/* Our own restart has interrupted an incident: neither ill nor well until the witnesses have spoken again. */
static bool gathering(const Core *core, bool ill, Mono now) {
        return core->grace_served && !ill && !core->verdict.up && core->verdict.fault != FAULT_INTENDED &&
               mono_since(now, core->restored_at) < span_max(GATHER_MIN, break_max(core));
}

Mono core_end_due(const Core *core, Now now) {
        const Policy *policy = &core->policy;
        bool detached = core->record.action == ACTION_DETACH;
        bool unhealthy = core->record.action == ACTION_UNHEALTHY;
        bool wanted = policy->orphan_deregister || (detached && policy->orphan != ORPHAN_KEEP);
        Mono due = now.mono;

        if (core->stage != STAGE_REMOVED || core->record.ended || !wanted || (!detached && !unhealthy))
                return MONO_INFINITE;
        /* One that the group terminates has no afterlife to wait for. */
        if (detached)
                due = mono_max(due, deadline_after(core->record.closed, policy->orphan_after, now));
        due = mono_max(due, core->end_at);
        if (policy->action == ACTION_OBSERVE || core->checks.lifecycle == LIFECYCLE_IN_SERVICE)
                return MONO_INFINITE;
        return mono_max(due, core->paused_until);
}

static Signal signal_of_removed(Core *core, Now now) {
        bool in = core->checks.lifecycle == LIFECYCLE_IN_SERVICE;
        bool long_ago = wall_since(now.wall, core->record.closed) > ATTACHED_AGAIN;

        if (in && (core->seen_outside || long_ago)) {
                if (outlook_may_undo(core, now))
                        return SIGNAL_IN_AGAIN;
                core->due = outlook_undo_at(core, now.mono, now);
                return SIGNAL_NONE;
        }
        core->due = MONO_INFINITE;
        return !mono_before(now.mono, core_end_due(core, now)) ? SIGNAL_DUE : SIGNAL_NONE;
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
                if (!ill)
                        return mono_before(now.mono, core->repaired_until) ? SIGNAL_NONE : SIGNAL_WELL;
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
        case STAGE_UNDOING:
                /* Meanwhile a peer has removed us, and the drain is its own. */
                if (is_out(core->checks.lifecycle, ACTION_DETACH) && core->awaiting == 0)
                        return SIGNAL_OUT;
                return due && core->awaiting == 0 ? SIGNAL_DUE : SIGNAL_NONE;
        case STAGE_VERIFYING: return due && core->awaiting == 0 ? SIGNAL_DUE : SIGNAL_NONE;
        case STAGE_REMOVED: return signal_of_removed(core, now);
        case STAGE_ENDING:
        case STAGE_DRAINING:
        case STAGE_DETACHING: break;
        }
        return SIGNAL_NONE;
}

/* --- moving ------------------------------------------------------------------------------------------------------ */

uint32_t core_effect(Core *core, Plan *plan, const Effect *effect) {
        if (plan->n_effects >= PLAN_EFFECTS_MAX)
                return 0;
        plan->effects[plan->n_effects] = *effect;
        plan->effects[plan->n_effects++].ticket = ++core->ticket;
        return core->ticket;
}

static void add_effect(Core *core, Plan *plan, EffectType type, Mono now) {
        uint32_t ticket = core_effect(core, plan,
                &(Effect){ .type = type,
                        .whole = type == EFFECT_LOOK && outlook_lane_due(core, now),
                        .action = type == EFFECT_DETACH ? core->record.action : 0 });

        if (ticket == 0)
                return;
        if (type == EFFECT_FORGET)
                core->awaiting = 0;
        if (type == EFFECT_FORGET || type == EFFECT_PROBE)
                return;
        core->awaiting = ticket;
        core->answer_due = mono_add(now, ANSWER_MAX);
}

Span core_hurry(const Core *core) {
        return span_max(HURRY, core->policy.turn / 2);
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
        core->record.acted = core->record.ended = false;
        core->repair_done = false;
        core->holds = 0;
        core->earlier_look_at = MONO_NEVER;
}

/* Removed by us, or, as we learn on waking, by a peer. */
static void enter_removed(Core *core, Now now) {
        Wall since = core->checks.control.patrolled_at;

        core->record.drained = core->record.marked = false;
        core->end_at = MONO_NEVER;
        core->brakes = 0;
        core->tidying = false;
        core->tries = 0;
        core->record.closed = now.wall;
        core->seen_outside = false;
        if (core->stage == STAGE_VERIFYING) {
                core->removals++;
                return;
        }
        if (core->stage == STAGE_WATCHING)
                open_incident(core, now);
        if (wall_is_set(since) && wall_before(since, now.wall))
                core->record.closed = since;
        core->record.action = core->checks.lifecycle == LIFECYCLE_STANDBY ? ACTION_STANDBY : ACTION_DETACH;
        core->seen_outside = true;
}

/* From its end, which has been reached, or is tried again later. */
static void return_to_removed(Core *core, Now now) {
        Span wait = span_min(core->policy.turn * 5 << core->tries, core->policy.turn * 30);

        core->end_at = mono_add(now.mono, core_draw_span(core, wait / 2, wait + wait / 2));
        core->tries += core->tries < 4;
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
                core->due = outlook_due_after_hold(core, now.mono);
                core->holds++;
                break;
        case STAGE_REPAIRING:
                core->record.repaired = now.wall;
                core->repair_done = true;
                core->repaired_until = mono_add(now.mono, core->policy.repair_wait);
                core->due = mono_max(mono_add(core->repaired_until, -LOOK_AHEAD(turn)), now.mono);
                break;
        case STAGE_TURN: core->due = outlook_due_for_turn(core, now.mono); break;
        case STAGE_DRAINING:
                core->record.drained = core->record.marked = core->record.acted = true;
                core->checks.our_drain = true;
                core->drain_doubtful = core->tidying = false;
                core->slot_taken = core->turn.state == TURN_OURS;
                core->slot = core->turn.slot;
                break;
        case STAGE_DETACHING:
                core->record.detach_sent = now.wall;
                core->record.action = core->policy.action;
                core->tries = 0;
                break;
        case STAGE_VERIFYING:
                core->tries++;
                core->due = mono_add(
                        now.mono, span_min(turn / 4 << (core->tries < 4 ? core->tries - 1 : 3), turn));
                break;
        case STAGE_UNDOING:
                core->tries = core->stage == STAGE_UNDOING ? core->tries + 1 : 0;
                /* Attached again: what was no longer of interest is so once more. */
                if (core->stage == STAGE_REMOVED || core->stage == STAGE_ENDING)
                        core->record.drained = core->record.marked = core->checks.our_drain = true;
                core->due = mono_add(
                        now.mono, span_min(turn / 4 << (core->tries < 6 ? core->tries : 6), turn * 5));
                /* A mark of ours that is old may be taken for nobody's. */
                if (!mono_is_set(core->begun_at) || mono_since(now.mono, core->begun_at) > UNDO_FREELY)
                        core->due = outlook_undo_at(core, core->due, now);
                break;
        case STAGE_REMOVED:
                if (core->stage == STAGE_ENDING)
                        return_to_removed(core, now);
                else
                        enter_removed(core, now);
                break;
        case STAGE_GRACE:
                if (core->unanswered == 0)
                        core->confirm_at =
                                MONO_NEVER; /* a cancelled second opinion does not delay a confirmation */
                break;
        case STAGE_RECHECKING:
        case STAGE_ENDING: break;
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
        else if (core->stage == STAGE_WATCHING && outside(core) && !core->outside_asked &&
                 mono_is_set(core->checks.registered_at))
                at = now.mono;
        else if (core->stage == STAGE_WATCHING && mono_is_set(core->lone_from))
                at = mono_add(core->lone_from, span_min(LONE_DELAY, core->policy.grace / 4));
        if (at.usec == MONO_INFINITE.usec)
                return;
        at = mono_max(at, core->confirm_at);
        if (core->awaiting != 0)
                return;
        if (!mono_before(now.mono, at))
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
        bool due;

        if (!core->tidying || core->stage != STAGE_WATCHING || core->awaiting != 0 ||
                !mono_is_set(core->checks.registered_at) || core->checks.lifecycle != LIFECYCLE_IN_SERVICE ||
                (core->checks.lifecycle_asg != LIFECYCLE_IN_SERVICE &&
                        core->checks.lifecycle_asg != LIFECYCLE_PENDING))
                return;
        if (mono_is_set(core->woke_at) && mono_before(core->checks.sampled[WITNESS_METADATA], core->woke_at))
                return;
        due = !mono_before(now.mono, core->tidy_at);
        if (due && !outlook_may_undo(core, now)) {
                core->tidy_at = outlook_undo_at(core, core->tidy_at, now);
        } else if (due) {
                Span wait = span_min(core->policy.turn / 2 << core->tidy_tries, core->policy.turn * 5);

                core->tidy_at = mono_add(now.mono, core_draw_span(core, wait / 2, wait + wait / 2));
                core->tidy_at = outlook_undo_at(core, core->tidy_at, now);
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
                Mono at = ripe_at(core);

                if (core->confirmations > 0 && mono_before(now.mono, at))
                        plan->wake = mono_min(plan->wake, at);
                if (mono_before(now.mono, grace_end))
                        plan->wake = mono_min(plan->wake, grace_end);
        }
        if (core->stage == STAGE_REMOVED)
                plan->wake = mono_min(plan->wake, core_end_due(core, now));
        plan->wake = mono_max(plan->wake, mono_add(now.mono, SPAN_MSEC(1)));
}

void core_step(Core *core, const Event *event, Now now, Plan *plan) {
        Cause cause = core->verdict.cause;
        BrakeSet brakes = core->brakes;
        bool answered, broken;

        *plan = (Plan){ .wake = MONO_INFINITE };
        broken = notice_break(core, now);
        answered = take_event(core, event, now);
        if (core->checks.lifecycle == LIFECYCLE_IN_SERVICE)
                core->outside_asked = false;
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
        patrol_answer(core, event, now, plan);
        patrol_step(core, broken, now, plan);

        if (core->stage == STAGE_GRACE) /* for people; what needs a look is not asked yet */
                core->brakes = outlook_ask(core, NULL, now) & ~(1u << BRAKE_BLIND);
        plan->brakes_changed = core->brakes != brakes;
        plan->watch_path =
                core->verdict.down && core->verdict.fault == FAULT_HOST && core->stage != STAGE_REMOVED;
        plan_wake(core, now, plan);
}
