/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The decision core in virtual time: it is given events, and what it asks for is answered by whoever plays the world.
 * `replay` with other settings and `drill` run on it; nothing is ever carried out.
 */

#include "agent/story.h"

#define PLAY_PENDING_MAX 8

/**
 * PlayAnswer - what comes of an effect
 * @ret: the answer, its ticket set already; @ret_delay: how long it takes
 *
 * Return: whether there will be an answer.
 */
typedef bool (*PlayAnswer)(const Effect *effect, Now now, Event *ret, Span *ret_delay, void *userdata);

typedef struct Play {
        Core core;
        Story story;
        Now now;
        Mono wake;
        struct {
                bool set;
                Mono at;
                Event event;
        } pending[PLAY_PENDING_MAX];
        PlayAnswer answer;
        void *userdata;
        unsigned steps;
} Play;

/** play_begin() - with @core as it is, at @now */
void play_begin(Play *play, const Core *core, Now now, PlayAnswer answer, void *userdata);
void play_done(Play *play);
/** play_advance() - let time pass up to @until: wakes and answers that are due by then */
void play_advance(Play *play, Mono until);
/** play_event() - first advance to @at, then give @event to the core; a time that has passed is now */
void play_event(Play *play, const Event *event, Mono at);
