/* SPDX-License-Identifier: Apache-2.0 */

/* Clocks and the re-armable timer on sd-event. */

#include <assert.h>
#include <sys/random.h>
#include <time.h>

#include "common/loop.h"

struct Timer {
        sd_event_source *source;
        TimerHandler handler;
        void *userdata;
};

static int64_t clock_usec(clockid_t id) {
        struct timespec ts = {};

        /* Both clocks exist on every kernel that we run on, so this cannot fail. */
        (void) clock_gettime(id, &ts);
        return (int64_t) ts.tv_sec * 1000 * 1000 + ts.tv_nsec / 1000;
}

Now clock_read(void) {
        return (Now){ .mono = { clock_usec(CLOCK_BOOTTIME) }, .wall = { clock_usec(CLOCK_REALTIME) } };
}

Now loop_now(sd_event *event) {
        uint64_t mono = 0, wall = 0;

        if (sd_event_now(event, CLOCK_BOOTTIME, &mono) < 0 || sd_event_now(event, CLOCK_REALTIME, &wall) < 0)
                return clock_read();
        return (Now){ .mono = { (int64_t) mono }, .wall = { (int64_t) wall } };
}

static int timer_dispatch(sd_event_source *source, uint64_t usec, void *userdata) {
        Timer *timer = userdata;

        (void) usec;
        /* One-shot: sd-event has switched the source off already. The handler may free the timer. */
        timer->handler(timer, loop_now(sd_event_source_get_event(source)), timer->userdata);
        return 0;
}

int timer_new(Timer **ret, sd_event *event, const char *description, Span accuracy, TimerHandler handler,
        void *userdata) {
        _cleanup_(timer_freep) Timer *timer = NULL;
        int r;

        assert(handler);

        timer = calloc(1, sizeof(*timer));
        if (!timer)
                return -ENOMEM;
        timer->handler = handler;
        timer->userdata = userdata;

        /* An accuracy of 0 would mean sd-event's default, a quarter of a second. */
        r = sd_event_add_time(event, &timer->source, CLOCK_BOOTTIME, UINT64_MAX,
                (uint64_t) span_max(accuracy, 1), timer_dispatch, timer);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(timer->source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_source_set_description(timer->source, description);
        if (r < 0)
                return r;

        *ret = steal_ptr(timer);
        return 0;
}

Timer *timer_free(Timer *timer) {
        if (!timer)
                return NULL;
        sd_event_source_disable_unref(timer->source);
        free(timer);
        return NULL;
}

int timer_arm(Timer *timer, Mono at) {
        int r;

        if (at.usec == MONO_INFINITE.usec) {
                timer_disarm(timer);
                return 0;
        }
        /* 0 is a time like any other to sd-event; a negative one would look like one far off. */
        r = sd_event_source_set_time(timer->source, (uint64_t) (at.usec < 0 ? 0 : at.usec));
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(timer->source, SD_EVENT_ONESHOT);
}

void timer_disarm(Timer *timer) {
        (void) sd_event_source_set_enabled(timer->source, SD_EVENT_OFF);
}

uint64_t loop_random(void) {
        uint64_t number = 0;

        /* Early in the boot the kernel may not be ready yet; the clock will do for jitter. */
        if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != (ssize_t) sizeof(number))
                number = (uint64_t) clock_usec(CLOCK_BOOTTIME) * UINT64_C(0x9e3779b97f4a7c15) ^
                         (uint64_t) getpid();
        return number;
}
