/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Typed time. Mono is CLOCK_BOOTTIME: it never jumps and counts sleep, so what was seen before a hibernation is
 * stale after it. Wall is CLOCK_REALTIME and is only for what leaves the process or must outlive it: signatures,
 * metric timestamps, the journal. Both are one-field structs, so that mixing them does not compile.
 *
 * Everything here is pure, so that the decision core may use it; who reads the clock is common/loop.
 */

#include <stdbool.h>
#include <stdint.h>

/** A length of time in microseconds; may be negative. */
typedef int64_t Span;

#define SPAN_INFINITE INT64_MAX
#define SPAN_MSEC(n)  ((Span) (n) *1000)
#define SPAN_SEC(n)   ((Span) (n) *1000 * 1000)
#define SPAN_MIN(n)   (SPAN_SEC(n) * 60)
#define SPAN_HOUR(n)  (SPAN_MIN(n) * 60)
#define SPAN_DAY(n)   (SPAN_HOUR(n) * 24)

/** A point on CLOCK_BOOTTIME in microseconds. 0 stands for "never": no program runs in a boot's first microsecond. */
typedef struct Mono {
        int64_t usec;
} Mono;

/** A point on CLOCK_REALTIME in microseconds since 1970 UTC. 0 stands for "never". */
typedef struct Wall {
        int64_t usec;
} Wall;

/** The one reading of both clocks that a wake-up makes and hands down. */
typedef struct Now {
        Mono mono;
        Wall wall;
} Now;

#define MONO_NEVER    ((Mono){ 0 })
#define MONO_INFINITE ((Mono){ INT64_MAX })
#define WALL_NEVER    ((Wall){ 0 })

static inline int64_t clock_add_saturating(int64_t a, int64_t b) {
        int64_t sum = 0;

        if (__builtin_add_overflow(a, b, &sum))
                return b > 0 ? INT64_MAX : INT64_MIN;
        return sum;
}

static inline int64_t clock_sub_saturating(int64_t a, int64_t b) {
        int64_t difference = 0;

        if (__builtin_sub_overflow(a, b, &difference))
                return b < 0 ? INT64_MAX : INT64_MIN;
        return difference;
}

static inline bool mono_is_set(Mono t) {
        return t.usec != 0;
}

static inline bool wall_is_set(Wall t) {
        return t.usec != 0;
}

/** mono_add() - @t moved by @span; an infinite span leads to MONO_INFINITE */
static inline Mono mono_add(Mono t, Span span) {
        return (Mono){ clock_add_saturating(t.usec, span) };
}

/** mono_since() - how long @earlier lies before @later; negative if it lies after it */
static inline Span mono_since(Mono later, Mono earlier) {
        return clock_sub_saturating(later.usec, earlier.usec);
}

static inline bool mono_before(Mono a, Mono b) {
        return a.usec < b.usec;
}

static inline Mono mono_min(Mono a, Mono b) {
        return mono_before(a, b) ? a : b;
}

static inline Mono mono_max(Mono a, Mono b) {
        return mono_before(a, b) ? b : a;
}

static inline Wall wall_add(Wall t, Span span) {
        return (Wall){ clock_add_saturating(t.usec, span) };
}

static inline Span wall_since(Wall later, Wall earlier) {
        return clock_sub_saturating(later.usec, earlier.usec);
}

static inline bool wall_before(Wall a, Wall b) {
        return a.usec < b.usec;
}

static inline Span span_min(Span a, Span b) {
        return a < b ? a : b;
}

static inline Span span_max(Span a, Span b) {
        return a > b ? a : b;
}
