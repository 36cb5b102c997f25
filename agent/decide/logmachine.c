/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The machine over the lines of the ECS agent's log. Which pairs of state and line lead where is a table; what silence
 * amounts to depends on the time and is asked separately.
 */

#include "agent/decide/checks.h"

#define STAY LOG_STATE_N

/* clang-format off */
static const uint8_t next_state[LOG_STATE_N][LOG_LINE_N] = {
        /*                        none  started             connected     closed           lost             trying           failed           waiting            deregistered        stopping           terminal           updating */
        [LOG_STATE_BLIND]    = { STAY, LOG_STATE_STARTING, LOG_STATE_UP, LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_BACKOFF, LOG_STATE_INACTIVE, LOG_STATE_STOPPED, LOG_STATE_STOPPED, STAY },
        [LOG_STATE_STARTING] = { STAY, LOG_STATE_STARTING, LOG_STATE_UP, LOG_STATE_DOWN,  LOG_STATE_DOWN,  STAY,            LOG_STATE_DOWN,  LOG_STATE_BACKOFF, LOG_STATE_INACTIVE, LOG_STATE_STOPPED, LOG_STATE_STOPPED, STAY },
        [LOG_STATE_UP]       = { STAY, LOG_STATE_STARTING, LOG_STATE_UP, LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_BACKOFF, LOG_STATE_INACTIVE, LOG_STATE_STOPPED, LOG_STATE_STOPPED, STAY },
        [LOG_STATE_DOWN]     = { STAY, LOG_STATE_STARTING, LOG_STATE_UP, LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_BACKOFF, LOG_STATE_INACTIVE, LOG_STATE_STOPPED, LOG_STATE_STOPPED, STAY },
        [LOG_STATE_BACKOFF]  = { STAY, LOG_STATE_STARTING, LOG_STATE_UP, LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_DOWN,  LOG_STATE_BACKOFF, LOG_STATE_INACTIVE, LOG_STATE_STOPPED, LOG_STATE_STOPPED, STAY },
        /* A deregistered agent goes on retrying once an hour: only a connection or a new start ends it. */
        [LOG_STATE_INACTIVE] = { STAY, LOG_STATE_STARTING, LOG_STATE_UP, STAY,            STAY,            STAY,            STAY,            STAY,              LOG_STATE_INACTIVE, LOG_STATE_STOPPED, LOG_STATE_STOPPED, STAY },
        [LOG_STATE_WEDGED]   = { STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY }, /* never stored */
        /* A stopping agent still logs a wait or two after the signal (recording 13). */
        [LOG_STATE_STOPPED]  = { STAY, LOG_STATE_STARTING, LOG_STATE_UP, STAY,            STAY,            STAY,            STAY,            STAY,              STAY,               STAY,              LOG_STATE_STOPPED, STAY },
        [LOG_STATE_UPDATING] = { STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY, STAY }, /* never stored */
};
/* clang-format on */

static bool is_down(LogState state) {
        return state == LOG_STATE_DOWN || state == LOG_STATE_BACKOFF;
}

void log_machine_take(LogMachine *machine, const LogSample *sample, Mono now) {
        Mono at = mono_is_set(sample->at) ? mono_min(sample->at, now) : now;
        LogState next = next_state[machine->state][sample->line];

        /* Read back from before this boot: whoever wrote it has gone with that boot. */
        if (sample->at.usec < 0)
                return;
        if (next == STAY && !(machine->state == LOG_STATE_STARTING && sample->line == LOG_LINE_TRYING))
                return;
        if (next == STAY)
                next = machine->state;

        /* Down stays down since its beginning, whatever it tries meanwhile. */
        if (next != machine->state && !(is_down(next) && is_down(machine->state)))
                machine->since = at;
        if (!mono_is_set(machine->since))
                machine->since = at;
        machine->state = next;
        machine->retry_line = at;
        machine->retry_at = sample->line == LOG_LINE_WAITING ? mono_add(at, sample->delay) : MONO_NEVER;
        machine->terminal = sample->line == LOG_LINE_TERMINAL;
        if (sample->line == LOG_LINE_CONNECTED) {
                machine->connected_line = at;
                machine->reconnects += !sample->back;
        }
}

LogState log_machine_state(const LogMachine *machine, const Policy *policy, bool alive, Mono now) {
        bool distrusted =
                mono_is_set(machine->distrusted_until) && mono_before(now, machine->distrusted_until);
        Mono tried = mono_max(machine->retry_line, machine->retry_at);

        switch (machine->state) {
        case LOG_STATE_DOWN:
        case LOG_STATE_BACKOFF:
                if (!alive || mono_since(now, tried) <= policy->wedged_after)
                        return machine->state;
                return distrusted ? LOG_STATE_BLIND : LOG_STATE_WEDGED;
        case LOG_STATE_UP:
                if (mono_since(now, machine->connected_line) <= policy->silent_after)
                        return LOG_STATE_UP;
                /* Silence: of a living agent a wedge, of a dead one nothing. */
                return alive && !distrusted ? LOG_STATE_WEDGED : LOG_STATE_BLIND;
        case LOG_STATE_BLIND:
        case LOG_STATE_STARTING:
        case LOG_STATE_INACTIVE:
        case LOG_STATE_WEDGED:
        case LOG_STATE_STOPPED:
        case LOG_STATE_UPDATING: return machine->state;
        }
        return LOG_STATE_BLIND;
}
