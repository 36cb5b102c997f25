/* SPDX-License-Identifier: Apache-2.0 */

/* What the core makes of its looks: what it remembers of them, which brakes hold, and when to look again. */

#include <stddef.h>

#include "agent/decide/core-parts.h"

/* Two looks are compared only if they are not further apart than this. */
#define SHARE_MEMORY SPAN_MIN(30)
#define PATH_FRESH   SPAN_MIN(3)
/* The slow lane: after so long a share hold, one removal in as long a time for the whole cluster. The look counts the
 * removals of this time for it. */
#define LANE_AFTER SPAN_HOUR(1)
/* While slow ones still come back, settling goes on, up to so many times its length in all. */
#define SETTLE_TIMES 3

/* --- taking looks in --------------------------------------------------------------------------------------------- */

static void note_share(Core *core, Mono now) {
        if (!mono_is_set(core->share_from))
                core->share_from = now;
        core->share_held = true;
        core->share_ended = now;
        core->settle_from = MONO_NEVER;
        core->clear_looks = 0;
}

static void note_no_share(Core *core, Mono now) {
        Span settle = core->policy.settle;

        core->share_from = MONO_NEVER;
        core->clear_looks++;
        if (!core->share_held)
                return;
        /* Looks may lie an hour apart while share holds: when it ended is not known before this one. */
        if (!mono_is_set(core->settle_from))
                core->settle_from = core->share_ended = now;
        /* One that was sick in two looks and is back was slow, not dead; others like it may follow. */
        if (core->recall.returned.usec == now.usec &&
                mono_since(now, core->settle_from) < settle * (SETTLE_TIMES - 1))
                core->share_ended = mono_max(core->share_ended, now);
        if (core->clear_looks >= 2 && mono_since(now, core->share_ended) >= settle)
                core->share_held = false;
}

void outlook_note_blind(Core *core, Mono now) {
        if (!mono_is_set(core->blind_from))
                core->blind_from = now;
        core->blind_at = now;
}

/* What could not be seen for long may have been an outage of many, and those that are still down its slow ones: nobody has
 * seen when it ended, so settling takes as long as it ever may. One lost answer is no blindness. */
static void note_sight(Core *core, Mono now) {
        bool long_blind = mono_is_set(core->blind_from) &&
                          mono_since(core->blind_at, core->blind_from) >= core->policy.settle / 2;

        core->blind_from = core->blind_at = MONO_NEVER;
        if (!long_blind)
                return;
        core->share_held = true;
        core->settle_from = now;
        core->share_ended = mono_add(now, core->policy.settle * SETTLE_TIMES);
}

void outlook_take(Core *core, const Look *look, Mono now) {
        uint32_t sick = look->cluster.sick, was = core->last_sick;
        uint32_t change = sick > was ? sick - was : was - sick;
        uint32_t still = look->cluster.members / 100 > 2 ? look->cluster.members / 100 : 2;
        bool recent = core->last_sick_known && mono_since(now, core->sick_at) < SHARE_MEMORY;

        core->share_moved = recent && change > still;
        core->service_known = wall_is_set(look->server_time);
        core->service_offset = clock_sub_saturating(look->server_time.usec, now.usec);
        if (look->cluster.members > 0)
                core->sizes.cluster = look->cluster.members;
        if (look->group_size > 0 && !look->group_weighted)
                core->sizes.group = look->group_size;
        recall_take(&core->recall, look, core->policy.window, now);
        if (core->share_moved || brake_share_holds(look, core->policy.max_sick))
                note_share(core, now);
        else
                note_no_share(core, now);
        note_sight(core, now);
        core->last_sick = sick;
        core->last_sick_known = true;
        core->sick_at = now;
        if (look->of_peer)
                return;
        checks_confirm(&core->checks, &look->own, &core->policy, now);
        if (look->lifecycle != LIFECYCLE_UNKNOWN)
                core->checks.lifecycle_asg = look->lifecycle;
        core->look = *look;
        core->looked_at = now;
}

/* --- brakes ------------------------------------------------------------------------------------------------------ */

static PathAnswer fresh_path(const Core *core, Mono now) {
        const Sample *sample = &core->checks.samples[WITNESS_PATH];

        if (sample->sight != SIGHT_CLEAR || mono_since(now, core->checks.sampled[WITNESS_PATH]) > PATH_FRESH)
                return PATH_NONE;
        return sample->path.answer;
}

Wall outlook_service_now(const Core *core, Mono now) {
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

bool outlook_lane_due(const Core *core, Mono now) {
        return lane_in_sight(core, now) && mono_since(now, core->share_from) >= LANE_AFTER;
}

/* Share holds for good where some are dead for good. Once in a while one may go, if it is certainly its own fault. */
static bool lane_open(const Core *core, const Look *look, const Remembered *remembered, Mono now) {
        return look && look->outcome == OUTCOME_OK && outlook_lane_due(core, now) && !core->share_moved &&
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

        if ((core->slow_lane && !look->of_peer) || n + removed > budget)
                return n;
        return look->n_sick_ours < n ? look->n_sick_ours : n;
}

static Turn judge_turn(const Core *core, const Look *look, const Remembered *remembered, Mono now) {
        Turn turn = turn_judge(look->sick, candidates(core, look, remembered), look->self,
                outlook_service_now(core, now), core->policy.turn);
        bool mine = !core->slot_taken || turn.slot == core->slot;

        /* What was begun in time may be ended while the slot lasts: the mark has told the others. */
        if (core->stage == STAGE_RECHECKING && turn.state == TURN_LATE && mine)
                turn.state = TURN_OURS;
        return turn;
}

static bool retry_waited_for(const Core *core) {
        return core->retry_bar_set && !core->verdict.dead;
}

/* What the brakes judge by, whoever is to go; grace counts as served. */
static BrakeInput shared_input(const Core *core, const Look *look, Now now) {
        return (BrakeInput){
                .now = now,
                .policy = &core->policy,
                .verdict = &core->verdict,
                .look = look,
                .rights = &core->rights,
                .grace_over = true,
                .confirmations = 2,
                .paused_until = core->paused_until,
                .boot_grace_until = core->boot_grace_until,
                .settle_until =
                        core->share_held ? mono_add(core->share_ended, core->policy.settle) : MONO_NEVER,
                .clear_looks = core->clear_looks,
                .share_moved = core->share_moved,
                .settling = core->share_held,
                .remembered = look ? recall_removals(&core->recall, look, core->policy.window, now.mono)
                                   : (Remembered){},
                .service_now = outlook_service_now(core, now.mono),
        };
}

static void add_grace(const Core *core, Now now, BrakeInput *input) {
        input->grace_end = core_grace_end(core);
        input->grace_over = mono_is_set(input->grace_end) && !mono_before(now.mono, input->grace_end);
        input->confirmations = core->confirmations;
        if (mono_is_set(core->first_confirmed))
                input->confirm_until = mono_add(core->first_confirmed, core->policy.confirm_before);
}

BrakeSet outlook_ask(Core *core, const Look *look, Now now) {
        BrakeInput input = shared_input(core, look, now);

        if (!core->grace_served)
                add_grace(core, now, &input);
        input.cooldown_until = core->cooldown_until;
        input.path = fresh_path(core, now.mono);
        input.looped = core->record.looped;
        input.released = core->record.released;
        core->slow_lane = lane_open(core, look, &input.remembered, now.mono);
        core->turn = look ? judge_turn(core, look, &input.remembered, now.mono) : (Turn){};
        input.turn = core->turn;
        core->brakes = brakes_ask(&input, core->brake_until);
        return core->brakes;
}

BrakeSet outlook_ask_for_peer(const Core *core, const Look *look, Now now) {
        BrakeInput input = shared_input(core, look, now); /* patrol.after has taken the place of grace */

        input.path = PATH_WORKS; /* our own agent is connected */
        return brakes_ask(&input, NULL);
}

BrakeSet outlook_in_the_way(const Core *core, BrakeSet brakes) {
        return core->slow_lane ? brakes & ~((1u << BRAKE_SHARE) | (1u << BRAKE_SETTLE)) : brakes;
}

/* --- when to look again ------------------------------------------------------------------------------------------ */

/* Waits are counted in turns, so that a test's short turn shortens them all; at the standard 2 min they are the
 * design's: throttled 30 s, share 1 min or 0.8 s a sick one, others 1 min, doubled up to 10 min (share: 1 h). Whoever is
 * throttled twice is not alone: 0.3 s for each member, so that all of them together stay below half of the quota; and
 * 0.03 s already the first time. */
static Span hold_span(Core *core, bool throttled) {
        Span turn = core->policy.turn, base = throttled ? turn / 4 : turn / 2, ceiling = turn * 5;
        unsigned shift = core->holds < 12 ? core->holds : 12;
        /* Beyond a page nobody has counted them: it may be everybody. */
        Span sick = core->look.more_than_a_page ? core->sizes.cluster : core->last_sick;
        Span wait;

        if ((core->brakes & (1u << BRAKE_SHARE)) != 0)
                ceiling = turn * 30;
        wait = span_min(base << shift, ceiling);
        if ((core->brakes & (1u << BRAKE_SHARE)) != 0)
                wait = span_min(span_max(wait, turn / 150 * sick), ceiling);
        if (throttled)
                wait = span_max(wait,
                        span_min(turn / (core->holds > 0 ? 400 : 4000) * core->sizes.cluster, turn * 30));
        return core_draw_span(core, wait / 2, wait + wait / 2);
}

/* Not later than what is known to end the hold. */
Mono outlook_due_after_hold(Core *core, Mono now) {
        Mono due = mono_add(now, hold_span(core, core->look.outcome == OUTCOME_THROTTLED));
        Mono frees = core->brake_until[BRAKE_BUDGET];

        if ((core->brakes & (1u << BRAKE_BUDGET)) != 0 && mono_is_set(frees))
                due = mono_min(due, mono_add(frees, core_draw_span(core, 0, core->policy.turn / 8)));
        if ((core->brakes & (1u << BRAKE_SHARE)) != 0 && lane_in_sight(core, now) &&
                !outlook_lane_due(core, now))
                due = mono_min(due,
                        mono_add(core->share_from, LANE_AFTER + core_draw_span(core, 0, core->policy.turn)));
        return due;
}

/* When to look so that it is @offset into the next slot of ours, with an earlier look that is neither too old by then nor
 * too fresh to tell a change. */
static Mono due_in_slot(Core *core, const Look *look, uint32_t n, Span offset, Mono now) {
        Span turn = core->policy.turn, apart = core_draw_span(core, turn / 2, turn * 5 / 6), wait;
        Wall service = outlook_service_now(core, now), slot;

        if (!wall_is_set(service))
                return mono_add(now, apart);
        slot = turn_next(look->sick, n, look->self, wall_add(service, turn / 2 - offset), turn);
        if (!wall_is_set(slot))
                return mono_add(now, turn * 5);
        wait = wall_since(slot, service) + offset +
               turn / 60; /* so much behind the services' clock ours may be */
        if (wait <= turn * 5 / 4)
                return mono_add(now, wait);
        /* A little earlier than needed, since a look takes its time. */
        return mono_add(now, span_min(wait - span_max(apart, turn * 7 / 12), turn * 5));
}

Mono outlook_due_for_turn(Core *core, Mono now) {
        const Look *look = &core->look;
        Span turn = core->policy.turn;
        Remembered remembered = recall_removals(&core->recall, look, core->policy.window, now);
        Mono due;

        if (core->turn.state == TURN_LONE)
                due = mono_add(now, core_draw_span(core, turn / 2, turn * 5 / 6));
        else
                due = due_in_slot(core, look, candidates(core, look, &remembered), 0, now);
        /* The first look may have been made a little before grace was over. */
        if (retry_waited_for(core))
                due = mono_max(due, core->retry_bar);
        due = mono_max(due, core->repaired_until);
        if (!core->grace_served && mono_is_set(core->first_confirmed))
                due = mono_max(due, mono_add(core->first_confirmed, core->policy.confirm_before));
        return due;
}

/* Several may have found the same peer: at different moments of the quarter one of them sees the other's claim. */
Mono outlook_due_for_peer(Core *core, const Look *look, Mono now) {
        Span turn = core->policy.turn, offset = turn / 2 + core_draw_span(core, 0, turn / 5);
        Remembered remembered = recall_removals(&core->recall, look, core->policy.window, now);

        return due_in_slot(core, look, candidates(core, look, &remembered), offset, now);
}

int64_t outlook_slot(const Core *core, Mono now) {
        Wall service = outlook_service_now(core, now);

        return wall_is_set(service) && service.usec >= 0 ? turn_slot(service, core->policy.turn) : -1;
}

int64_t outlook_peer_slot(const Core *core, const Look *look, Mono now) {
        Remembered remembered = recall_removals(&core->recall, look, core->policy.window, now);
        uint32_t n = candidates(core, look, &remembered);
        Span turn = core->policy.turn, into;
        int64_t slot = outlook_slot(core, now);

        if (slot < 0 || turn_owner(look->sick, n, look->self, slot) != look->self)
                return -1;
        into = outlook_service_now(core, now).usec - slot * turn;
        return into >= turn / 2 && into < turn * 3 / 4 ? slot : -1;
}

/* The host's own clock stands in where no look has told the services'. */
static Wall about_now(const Core *core, Now now) {
        Wall service = outlook_service_now(core, now.mono);

        return wall_is_set(service) ? service : now.wall;
}

bool outlook_may_undo(const Core *core, Now now) {
        int64_t into = about_now(core, now).usec % core->policy.turn;

        return into >= 0 && into < core->policy.turn / 4;
}

Mono outlook_undo_at(Core *core, Mono from, Now now) {
        Span turn = core->policy.turn;
        int64_t at = wall_add(about_now(core, now), mono_since(mono_max(from, now.mono), now.mono)).usec;
        int64_t into = at % turn;

        if (into >= 0 && into < turn / 5)
                return mono_max(from, now.mono);
        return mono_add(mono_max(from, now.mono), turn - into + core_draw_span(core, turn / 60, turn / 6));
}
