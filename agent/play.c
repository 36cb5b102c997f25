/* SPDX-License-Identifier: Apache-2.0 */

/* The core in virtual time. */

#include "agent/play.h"

#include <string.h>

/* More steps than any sensible recording or drill takes: a core that spins must not spin for ever. */
#define STEPS_MAX 2000000

void play_begin(Play *play, const Core *core, Now now, PlayAnswer answer, void *userdata) {
        *play = (Play){ .now = now, .wake = now.mono, .answer = answer, .userdata = userdata };
        play->core = *core;
        story_core(&play->story, core);
}

void play_done(Play *play) {
        story_done(&play->story);
}

static void await(Play *play, const Effect *effect) {
        Event event = {};
        Span delay = 0;

        event.ticket = effect->ticket;
        if (effect->type == EFFECT_FORGET)
                memset(play->pending, 0, sizeof(play->pending));
        if (!play->answer(effect, play->now, &event, &delay, play->userdata))
                return;
        for (unsigned i = 0; i < PLAY_PENDING_MAX; i++) {
                if (play->pending[i].set)
                        continue;
                play->pending[i].set = true;
                play->pending[i].at = mono_add(play->now.mono, delay);
                play->pending[i].event = event;
                return;
        }
}

static void play_step(Play *play, const Event *event, Mono at) {
        Span passed = span_max(0, mono_since(at, play->now.mono));
        TraceAfter after;
        Plan plan;

        play->now = (Now){ mono_add(play->now.mono, passed), wall_add(play->now.wall, passed) };
        if (play->steps++ > STEPS_MAX)
                return;
        core_step(&play->core, event, play->now, &plan);
        after = trace_where(&play->core);
        story_step(&play->story, play->now, event, &plan, &after);
        play->wake = plan.wake;
        for (unsigned i = 0; i < plan.n_effects; i++)
                await(play, &plan.effects[i]);
}

void play_advance(Play *play, Mono until) {
        static const Event tick = { .type = EVENT_TICK };

        while (play->steps <= STEPS_MAX) {
                Mono next = play->wake;
                Event event;
                int due = -1;

                for (int i = 0; i < PLAY_PENDING_MAX; i++)
                        if (play->pending[i].set && !mono_before(next, play->pending[i].at)) {
                                next = play->pending[i].at;
                                due = i;
                        }
                if (mono_before(until, next))
                        return;
                if (due < 0) {
                        play_step(play, &tick, next);
                        continue;
                }
                play->pending[due].set = false;
                event = play->pending[due].event;
                play_step(play, &event, next);
        }
}

void play_event(Play *play, const Event *event, Mono at) {
        play_advance(play, at);
        play_step(play, event, at);
}
