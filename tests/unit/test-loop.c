/* SPDX-License-Identifier: Apache-2.0 */

/* Timers fire when they are due, once, and may be moved, stopped and freed at any point. */

#include "common/loop.h"
#include "tests/unit/test.h"

typedef struct Seen {
        unsigned n;
        Mono at;
        unsigned arm_again; /* how often the handler arms its timer anew */
        bool free_self;
} Seen;

static void on_timer(Timer *timer, Now now, void *userdata) {
        Seen *seen = userdata;

        seen->n++;
        seen->at = now.mono;
        if (seen->arm_again > 0) {
                seen->arm_again--;
                EXPECT_EQ(timer_arm(timer, now.mono), 0);
        }
        if (seen->free_self)
                timer_free(timer);
}

static sd_event *event_open(void) {
        sd_event *event = NULL;

        EXPECT_EQ(sd_event_new(&event), 0);
        return event;
}

/* Runs the loop until nothing is due within @span. */
static void event_settle(sd_event *event, Span span) {
        while (sd_event_run(event, (uint64_t) span) > 0)
                ;
}

static void test_clocks_are_set_and_never_run_backwards(void) {
        sd_event *event = event_open();
        Now first = clock_read(), loop = loop_now(event), last = clock_read();

        EXPECT(mono_is_set(first.mono));
        EXPECT(first.wall.usec > SPAN_DAY(365) * 40);
        EXPECT(!mono_before(loop.mono, first.mono));
        EXPECT(!mono_before(last.mono, loop.mono));
        sd_event_unref(event);
}

static void test_timer_fires_once_and_not_before_it_is_due(void) {
        sd_event *event = event_open();
        Seen seen = {};
        Timer *timer = NULL;
        Mono due = mono_add(clock_read().mono, SPAN_MSEC(5));

        EXPECT_EQ(timer_new(&timer, event, "test", 1, on_timer, &seen), 0);
        EXPECT_EQ(timer_arm(timer, due), 0);
        event_settle(event, SPAN_MSEC(30));
        EXPECT_EQ(seen.n, 1);
        EXPECT(!mono_before(seen.at, due));
        timer_free(timer);
        sd_event_unref(event);
}

static void test_timer_is_not_armed_when_made(void) {
        sd_event *event = event_open();
        Seen seen = {};
        Timer *timer = NULL;

        EXPECT_EQ(timer_new(&timer, event, "test", 1, on_timer, &seen), 0);
        event_settle(event, SPAN_MSEC(2));
        EXPECT_EQ(seen.n, 0);
        timer_free(timer);
        sd_event_unref(event);
}

static void test_timer_in_the_past_fires_at_once(void) {
        static const int64_t times[] = { -1, 0, 1, INT64_MIN };
        sd_event *event = event_open();
        Timer *timer = NULL;

        for (size_t i = 0; i < ELEMENTSOF(times); i++) {
                Seen seen = {};

                EXPECT_EQ(timer_new(&timer, event, "test", 0, on_timer, &seen), 0);
                EXPECT_EQ(timer_arm(timer, (Mono){ times[i] }), 0);
                event_settle(event, SPAN_MSEC(1));
                EXPECT_EQ(seen.n, 1);
                timer = timer_free(timer);
        }
        sd_event_unref(event);
}

static void test_timer_does_not_fire_when_disarmed_or_infinite(void) {
        sd_event *event = event_open();
        Seen seen = {};
        Timer *timer = NULL;

        EXPECT_EQ(timer_new(&timer, event, "test", 1, on_timer, &seen), 0);
        EXPECT_EQ(timer_arm(timer, clock_read().mono), 0);
        timer_disarm(timer);
        event_settle(event, SPAN_MSEC(2));
        EXPECT_EQ(timer_arm(timer, clock_read().mono), 0);
        EXPECT_EQ(timer_arm(timer, MONO_INFINITE), 0);
        event_settle(event, SPAN_MSEC(2));
        EXPECT_EQ(seen.n, 0);
        timer_free(timer);
        sd_event_unref(event);
}

static void test_timer_moved_fires_at_the_new_time_only(void) {
        sd_event *event = event_open();
        Seen seen = {};
        Timer *timer = NULL;
        Mono now = clock_read().mono, due = mono_add(now, SPAN_MSEC(10));

        EXPECT_EQ(timer_new(&timer, event, "test", 1, on_timer, &seen), 0);
        EXPECT_EQ(timer_arm(timer, now), 0);
        EXPECT_EQ(timer_arm(timer, due), 0);
        event_settle(event, SPAN_MSEC(40));
        EXPECT_EQ(seen.n, 1);
        EXPECT(!mono_before(seen.at, due));
        timer_free(timer);
        sd_event_unref(event);
}

static void test_timer_may_be_armed_again_in_its_handler(void) {
        sd_event *event = event_open();
        Seen seen = { .arm_again = 3 };
        Timer *timer = NULL;

        EXPECT_EQ(timer_new(&timer, event, "test", 1, on_timer, &seen), 0);
        EXPECT_EQ(timer_arm(timer, clock_read().mono), 0);
        event_settle(event, SPAN_MSEC(2));
        EXPECT_EQ(seen.n, 4);
        timer_free(timer);
        sd_event_unref(event);
}

static void test_timer_may_be_freed_in_its_handler(void) {
        sd_event *event = event_open();
        Seen seen = { .free_self = true };
        Timer *timer = NULL;

        EXPECT_EQ(timer_new(&timer, event, "test", 1, on_timer, &seen), 0);
        EXPECT_EQ(timer_arm(timer, clock_read().mono), 0);
        event_settle(event, SPAN_MSEC(2));
        EXPECT_EQ(seen.n, 1);
        sd_event_unref(event);
}

static void test_freeing_no_timer_is_fine(void) {
        EXPECT(!timer_free(NULL));
}

static void test_random_numbers_differ(void) {
        EXPECT(loop_random() != loop_random());
}

TEST_MAIN(TEST(test_clocks_are_set_and_never_run_backwards),
        TEST(test_timer_fires_once_and_not_before_it_is_due), TEST(test_timer_is_not_armed_when_made),
        TEST(test_timer_in_the_past_fires_at_once), TEST(test_timer_does_not_fire_when_disarmed_or_infinite),
        TEST(test_timer_moved_fires_at_the_new_time_only),
        TEST(test_timer_may_be_armed_again_in_its_handler), TEST(test_timer_may_be_freed_in_its_handler),
        TEST(test_freeing_no_timer_is_fine), TEST(test_random_numbers_differ))
