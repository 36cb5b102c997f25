/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The verdict, by numbered rules; the first that matches wins, and their order is part of the behaviour:
 *
 *   1  what this instance is meant to be: external, leaving, standby, warm pool, spot interruption, in no group
 *   2  nobody says "down": well, starting, never registered, or not known
 *   3  down as somebody meant it: deregistered, stopped by an operator, being updated, drained by somebody else
 *   4  down for want of an instance role
 *   5  down and its process is gone, hung, or has exited: dead
 *   6  some say "up", some say "down": not known
 *   7  down and no longer trying: wedged
 *   8  down and retrying: link lost
 *   9  causes that also_act_on names
 */

#include "agent/decide/verdict.h"

/* An agent update stops and starts the agent; longer than this it is no update any more. */
#define UPDATE_MAX SPAN_MIN(15)
/* ECS's answer counts as a witness for longer than a held incident waits between two looks (at most 90 min). */
#define CONTROL_DOWN_MAX SPAN_MIN(100)
/* One witness says "down" for longer than the agent's slowest timers (120 s without activity, then it closes), the other
 * still says "up": the latter has lost sight of it. */
#define CONTRADICTION_MAX SPAN_SEC(150)

#define BIT(witness) (1u << (witness))

/** The witnesses' words on the agent's process and on its connection. */
typedef struct Evidence {
        bool refused, hung; /* introspection */
        bool no_listener, stuck;
        bool alive; /* some process of it answers or listens */
        LogState log;
        uint32_t say_down, say_up;
} Evidence;

static Span lasting(const Check *check, Reading reading, Mono now) {
        return check->believed == reading ? mono_since(now, check->since) : -1;
}

static void hear_process(const Checks *checks, Evidence *e) {
        Answer answer = checks->samples[WITNESS_INTROSPECTION].introspection.metadata;
        bool down = checks->introspection.believed == READING_DOWN;

        e->refused = down && answer != ANSWER_HUNG;
        e->hung = down && answer == ANSWER_HUNG;
        e->no_listener = checks->listener.believed == READING_DOWN;
        e->stuck = checks->stuck.believed == READING_DOWN;
        e->alive = checks->introspection.believed == READING_UP ||
                   (checks->listener.believed == READING_UP && !down);
        if (down)
                e->say_down |= BIT(WITNESS_INTROSPECTION);
        if (e->no_listener || (e->hung && e->stuck))
                e->say_down |= BIT(WITNESS_SOCKETS);
        if (checks->unit.believed == READING_DOWN)
                e->say_down |= BIT(WITNESS_UNITS);
}

static void hear_link(const Checks *checks, const Policy *policy, Mono now, Evidence *e) {
        bool process_down = e->refused || e->hung || e->no_listener;
        Reading link = checks->link.believed;
        bool log_down;

        e->log = log_machine_state(&checks->log, policy, e->alive || e->hung, now);
        if (checks->samples[WITNESS_LOG].sight != SIGHT_CLEAR ||
                checks->samples[WITNESS_LOG].log.level_raised)
                e->log = LOG_STATE_BLIND;
        log_down = e->log == LOG_STATE_DOWN || e->log == LOG_STATE_BACKOFF || e->log == LOG_STATE_WEDGED ||
                   e->log == LOG_STATE_STOPPED || e->log == LOG_STATE_INACTIVE;

        /* A dead or frozen process writes no last word: its log and its sockets go on looking well. */
        if (e->log == LOG_STATE_UP && !process_down &&
                !(lasting(&checks->link, READING_DOWN, now) > CONTRADICTION_MAX &&
                        mono_since(now, checks->log.connected_line) > CONTRADICTION_MAX))
                e->say_up |= BIT(WITNESS_LOG);
        if (log_down)
                e->say_down |= BIT(WITNESS_LOG);
        if (link == READING_DOWN)
                e->say_down |= BIT(WITNESS_SOCKETS);
        if (link == READING_UP && !process_down &&
                !(log_down && checks->log.state != LOG_STATE_UP &&
                        mono_since(now, checks->log.since) > CONTRADICTION_MAX &&
                        lasting(&checks->link, READING_UP, now) > CONTRADICTION_MAX))
                e->say_up |= BIT(WITNESS_SOCKETS);
}

static void hear_control(const Checks *checks, const Policy *policy, Mono now, Evidence *e) {
        Span age = mono_since(now, checks->control_at);

        if (!mono_is_set(checks->control_at) || checks->control.status == CONTROL_MISSING)
                return;
        if (!checks->control.connected && age < CONTROL_DOWN_MAX)
                e->say_down |= BIT(WITNESS_N);
        if (checks->control.connected && !checks->control_early && age < policy->confirm_before / 3)
                e->say_up |= BIT(WITNESS_N);
}

static bool meant_to_be(const Checks *checks, const Policy *policy, Cause *ret) {
        if (policy->external)
                return *ret = CAUSE_EXTERNAL, true;
        switch (checks_lifecycle(checks)) {
        case LIFECYCLE_UNKNOWN:
        case LIFECYCLE_PENDING:
        case LIFECYCLE_IN_SERVICE: break;
        case LIFECYCLE_NO_GROUP: return *ret = CAUSE_NO_GROUP, true;
        case LIFECYCLE_STANDBY: return *ret = CAUSE_STANDBY, true;
        case LIFECYCLE_WARM: return *ret = CAUSE_WARM_POOL, true;
        case LIFECYCLE_DETACHING:
        case LIFECYCLE_DETACHED:
        case LIFECYCLE_TERMINATING:
        case LIFECYCLE_OTHER: return *ret = CAUSE_LEAVING, true;
        }
        if (checks->spot_notice)
                return *ret = CAUSE_SPOT, true;
        return false;
}

static bool stopped_by_somebody(const Checks *checks) {
        const UnitsSample *units = &checks->samples[WITNESS_UNITS].units;
        bool seen = checks->samples[WITNESS_UNITS].sight == SIGHT_CLEAR;

        return seen &&
               (units->ecs.intent == INTENT_STOPPED || units->ecs.intent == INTENT_DISABLED ||
                       units->docker.intent == INTENT_STOPPED || units->docker.intent == INTENT_DISABLED);
}

static bool meant_to_be_down(const Checks *checks, const Evidence *e, Mono now, Cause *ret) {
        ControlStatus status = mono_is_set(checks->control_at) ? checks->control.status : CONTROL_UNKNOWN;

        if (e->log == LOG_STATE_INACTIVE || status == CONTROL_MISSING || status == CONTROL_INACTIVE ||
                status == CONTROL_DEREGISTERING)
                return *ret = CAUSE_DEREGISTERED, true;
        if (stopped_by_somebody(checks))
                return *ret = CAUSE_OPERATOR_STOP, true;
        if (mono_is_set(checks->updating_from) && mono_since(now, checks->updating_from) < UPDATE_MAX)
                return *ret = CAUSE_UPDATE, true;
        if (status == CONTROL_DRAINING && !checks->control.marked && !checks->our_drain)
                return *ret = CAUSE_FOREIGN_DRAIN, true;
        return false;
}

/* Whether it is known that nobody meant the unit to be down. */
static bool unmeant(const Checks *checks, const Evidence *e) {
        const Sample *units = &checks->samples[WITNESS_UNITS];

        if (units->sight != SIGHT_CLEAR || !units->units.ecs.exists)
                /* Nobody can say who stopped it; an orderly stop may have been somebody's. */
                return e->log != LOG_STATE_STOPPED || checks->log.terminal;
        if (checks->unit.believed != READING_DOWN || units->units.ecs.state == UNIT_FAILED)
                return true;
        return units->units.ecs.intent == INTENT_NONE;
}

static bool process_is_down(const Checks *checks, const Evidence *e, Cause *ret) {
        const UnitSample *ecs = &checks->samples[WITNESS_UNITS].units.ecs;
        bool gone = e->refused || (e->no_listener && !e->alive);

        if (!gone && !e->hung)
                return false;
        if (!unmeant(checks, e))
                return *ret = CAUSE_NOT_KNOWN, true;
        if (gone && checks->unit.believed == READING_DOWN)
                return *ret = ecs->state == UNIT_FAILED ? CAUSE_AGENT_FAILED : CAUSE_AGENT_EXITED, true;
        if (gone && checks->log.terminal && e->log == LOG_STATE_STOPPED)
                return *ret = CAUSE_AGENT_FAILED, true;
        if (gone && !checks->answered_this_boot)
                return *ret = CAUSE_AGENT_ABSENT, true;
        return *ret = gone ? CAUSE_AGENT_DEAD : CAUSE_AGENT_HUNG, true;
}

static bool also(const Checks *checks, const Policy *policy, Cause *ret) {
        const struct {
                uint32_t bit;
                const Check *check;
                Cause cause;
        } rows[] = {
                { ALSO_DOCKER, &checks->docker, CAUSE_DOCKER },
                { ALSO_DISK_READ_ONLY, &checks->disk_writable, CAUSE_DISK_READ_ONLY },
                { ALSO_DISK_FULL, &checks->disk_space, CAUSE_DISK_FULL },
                { ALSO_MEMORY, &checks->memory, CAUSE_MEMORY },
        };

        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                if ((policy->also_act_on & rows[i].bit) != 0 && rows[i].check->believed == READING_DOWN)
                        return *ret = rows[i].cause, true;
        return false;
}

static void settle_on(Verdict *verdict, Cause cause, Fault fault) {
        verdict->cause = cause;
        verdict->fault = fault;
}

/* Rule 2: nobody complains, or only about an agent that has never been there. */
static bool not_down(const Checks *checks, const Policy *policy, Mono boot_grace_until, Mono now,
        const Evidence *e, Verdict *ret) {
        bool starting = mono_before(now, boot_grace_until);
        bool absent = e->refused || e->no_listener ||
                      checks->samples[WITNESS_INTROSPECTION].introspection.metadata == ANSWER_REFUSED;

        if (!checks->answered_this_boot && absent) {
                if (starting)
                        return settle_on(ret, CAUSE_STARTING, FAULT_NONE), true;
                if (!checks->registered_before) {
                        ret->down = ret->dead = true;
                        ret->enough = true;
                        return settle_on(ret, CAUSE_NEVER_REGISTERED,
                                       policy->act_if_never_registered ? FAULT_HOST : FAULT_UNKNOWN),
                               true;
                }
                /* Refused once, and not believed yet: nobody says "down". */
                return e->say_down == 0 && (settle_on(ret, CAUSE_NOT_KNOWN, FAULT_UNKNOWN), true);
        }
        if (e->say_down != 0)
                return false;
        if (also(checks, policy, &ret->cause))
                return false;
        if (e->say_up != 0)
                return settle_on(ret, CAUSE_NONE, FAULT_NONE), true;
        if (e->log == LOG_STATE_STARTING)
                return settle_on(ret, CAUSE_STARTING, FAULT_NONE), true;
        return settle_on(ret, CAUSE_NOT_KNOWN, FAULT_UNKNOWN), true;
}

void verdict_decide(
        const Checks *checks, const Policy *policy, Mono boot_grace_until, Mono now, Verdict *ret) {
        Evidence e = { 0 };
        Cause cause = CAUSE_NONE;

        *ret = (Verdict){ 0 };
        hear_process(checks, &e);
        hear_link(checks, policy, now, &e);
        hear_control(checks, policy, now, &e);
        ret->witnesses = e.say_down;
        ret->up = e.say_up != 0;

        if (meant_to_be(checks, policy, &cause)) { /* 1 */
                ret->down = e.say_down != 0 && e.say_up == 0;
                return settle_on(ret, cause, FAULT_INTENDED);
        }
        if (not_down(checks, policy, boot_grace_until, now, &e, ret)) /* 2 */
                return;
        if (e.say_down != 0 && meant_to_be_down(checks, &e, now, &cause)) { /* 3 */
                ret->down = true;
                return settle_on(ret, cause, FAULT_INTENDED);
        }
        if (e.say_down != 0 && e.say_up == 0 && checks->samples[WITNESS_METADATA].sight == SIGHT_CLEAR &&
                checks->samples[WITNESS_METADATA].metadata.no_role) { /* 4 */
                ret->down = true;
                return settle_on(ret, CAUSE_NO_ROLE, FAULT_OURS);
        }
        ret->enough = __builtin_popcount(e.say_down) >= 2;
        if (process_is_down(checks, &e, &cause)) { /* 5 */
                ret->down = true;
                ret->dead = ret->repairable = cause != CAUSE_NOT_KNOWN;
                return settle_on(ret, cause, cause == CAUSE_NOT_KNOWN ? FAULT_UNKNOWN : FAULT_HOST);
        }
        if (e.say_down != 0 && e.say_up != 0) /* 6 */
                return settle_on(ret, CAUSE_NOT_KNOWN, FAULT_UNKNOWN);
        if (e.say_down != 0) { /* 7, 8 */
                ret->down = true;
                ret->repairable = e.log == LOG_STATE_WEDGED;
                return settle_on(
                        ret, e.log == LOG_STATE_WEDGED ? CAUSE_AGENT_WEDGED : CAUSE_LINK_LOST, FAULT_HOST);
        }
        ret->enough = true;
        (void) also(checks, policy, &cause); /* 9: not_down() has seen that one of them is */
        settle_on(ret, cause, FAULT_HOST);
}

bool verdict_ill(const Verdict *verdict) {
        return verdict->fault == FAULT_HOST && verdict->enough;
}
