/* SPDX-License-Identifier: Apache-2.0 */

/* Exponential delays with jitter, so that hosts which failed together do not come back together. */

#include "common/backoff.h"

Span backoff_next(const Backoff *backoff, unsigned attempt, uint64_t seed) {
        Span delay = span_min(span_max(backoff->base, 0), span_max(backoff->ceiling, 0));

        for (; attempt > 0 && delay > 0 && delay < backoff->ceiling; attempt--)
                delay = span_min(clock_add_saturating(delay, delay), backoff->ceiling);

        return clock_add_saturating(delay / 2, (Span) (seed % ((uint64_t) delay + 1)));
}
