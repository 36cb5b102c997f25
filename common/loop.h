/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the event loop adds to sd-event: both clocks read once per wake-up, and a timer that is armed, moved and
 * stopped without being made anew.
 */

#include <systemd/sd-event.h>

#include "common/cleanup.h"
#include "common/clock.h"

/** loop_now() - both clocks as of this wake-up of @event; before the first wake-up, as of now. Never fails. */
Now loop_now(sd_event *event);

/** clock_read() - both clocks right now, for programs without a loop and for time stamps within one wake-up */
Now clock_read(void);

typedef struct Timer Timer;
typedef void (*TimerHandler)(Timer *timer, Now now, void *userdata);

/**
 * timer_new() - a one-shot timer on CLOCK_BOOTTIME, not yet armed
 * @ret:         set on success only
 * @event:       loop to run on; referenced
 * @description: for debugging, copied
 * @accuracy:    how late it may fire, so that the kernel can join wake-ups
 * @handler:     called when it is due; the timer is disarmed by then and may be armed again or freed in there
 *
 * Return: 0; -ENOMEM or what sd-event answers.
 */
int timer_new(Timer **ret, sd_event *event, const char *description, Span accuracy, TimerHandler handler,
        void *userdata);
Timer *timer_free(Timer *timer);
DEFINE_CLEANUP(Timer, timer_free)

/** timer_arm() - fire at @at, or at once if that has passed; replaces what was armed */
int timer_arm(Timer *timer, Mono at);
void timer_disarm(Timer *timer);

/** loop_random() - a random number; not for secrets */
uint64_t loop_random(void);
