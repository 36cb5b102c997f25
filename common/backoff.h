/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How long to wait before the next try. Pure: the timer and the randomness belong to the caller. */

#include "common/clock.h"

typedef struct Backoff {
        Span base;    /* before the first retry */
        Span ceiling; /* never longer than this, jitter excluded */
} Backoff;

/**
 * backoff_next() - base * 2^attempt up to the ceiling, times a factor between 0.5 and 1.5 drawn from @seed
 * @attempt: 0 for the first retry
 */
Span backoff_next(const Backoff *backoff, unsigned attempt, uint64_t seed);
