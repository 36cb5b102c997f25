/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Between the files of the core, and for nobody else: core.c takes the steps, outlook.c judges looks, patrol.c patrols. */

#include "agent/decide/core.h"

/* An effect has deadlines and retries of its own; an answer that is later than all of them is none. */
#define ANSWER_MAX SPAN_MIN(5)
/* From the look that begins a removal to its sending; half a turn, if that is longer. */
#define HURRY SPAN_SEC(60)

/** core_draw_span() - from the core's own generator: @from <= result <= @to */
Span core_draw_span(Core *core, Span from, Span to);
/** core_effect() - add one to @plan with a ticket of its own. Return: the ticket; 0: there is no room. */
uint32_t core_effect(Core *core, Plan *plan, const Effect *effect);
/** core_hurry() - the longest time from the look that begins a removal to its sending */
Span core_hurry(const Core *core);
/** core_shows_out() - whether Auto Scaling's word means that @action has been taken on the instance */
bool core_shows_out(const Verification *is, Action action);

/* --- outlook.c ---- */

/** outlook_take() - take in what a look has read, of ourselves or by patrol */
void outlook_take(Core *core, const Look *look, Mono now);
/** outlook_note_blind() - AWS could not be reached */
void outlook_note_blind(Core *core, Mono now);
/** outlook_ask() - ask the brakes, for ourselves; @look NULL: none is at hand. They are kept in the core. */
BrakeSet outlook_ask(Core *core, const Look *look, Now now);
/** outlook_ask_for_peer() - the same on behalf of the peer that @look is about; nothing is kept. Its turn is not asked. */
BrakeSet outlook_ask_for_peer(const Core *core, const Look *look, Now now);
/** outlook_in_the_way() - of @brakes, those that the slow lane does not let through */
BrakeSet outlook_in_the_way(const Core *core, BrakeSet brakes);
/** outlook_lane_due() - whether the slow lane is worth a whole look */
bool outlook_lane_due(const Core *core, Mono now);
/** outlook_due_after_hold() - when to look again while a brake holds */
Mono outlook_due_after_hold(Core *core, Mono now);
/** outlook_due_for_turn() - when to look next while nothing but the turn, or the end of grace, is waited for */
Mono outlook_due_for_turn(Core *core, Mono now);
/** outlook_due_for_peer() - the same for patrol, which acts in the third quarter of the peer's slot */
Mono outlook_due_for_peer(Core *core, const Look *look, Mono now);
/** outlook_peer_slot() - the peer's own slot, if now is its third quarter; -1: it is not */
int64_t outlook_peer_slot(const Core *core, const Look *look, Mono now);
/**
 * outlook_may_undo() - whether now is the first quarter of a slot
 *
 * Patrol claims in the third quarter only. So what is read there, and undone at once, is not claimed in between.
 */
bool outlook_may_undo(const Core *core, Now now);
/** outlook_undo_at() - the first moment at or after @from at which to undo */
Mono outlook_undo_at(Core *core, Mono from, Now now);
/** outlook_slot() - number of the present slot; -1: the services' clock is not known */
int64_t outlook_slot(const Core *core, Mono now);
Wall outlook_service_now(const Core *core, Mono now);

/* --- patrol.c ---- */

/** patrol_answer() - take the event in, if it is the answer to an effect of patrol's */
void patrol_answer(Core *core, const Event *event, Now now, Plan *plan);
/** patrol_step() - what time and our own state ask for; @broken: we were frozen, or the clock was set */
void patrol_step(Core *core, bool broken, Now now, Plan *plan);
/** patrol_restore() - take up what the journal tells of a peer */
void patrol_restore(Core *core, Now now);
