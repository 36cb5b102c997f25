/* SPDX-License-Identifier: Apache-2.0 */

/* A check believes a change only after a run of equal readings, and forgets what nobody has renewed. */

#include "agent/decide/checks.h"

void check_take(Check *check, Reading reading, unsigned rise, unsigned fall, Mono now) {
        unsigned needed = reading == READING_DOWN ? rise : reading == READING_UP ? fall : 1;

        check->run = reading == check->latest && mono_is_set(check->renewed) ? check->run + 1 : 1;
        check->latest = reading;
        check->renewed = now;
        if (check->run < needed || check->believed == reading)
                return;
        check->believed = reading;
        check->since = now;
}

void check_age(Check *check, Span stale_after, Mono now) {
        if (check->believed == READING_NONE || mono_since(now, check->renewed) <= stale_after)
                return;
        *check = (Check){
                .believed = READING_NONE, .latest = READING_NONE, .since = now, .renewed = check->renewed
        };
}
