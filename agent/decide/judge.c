/* SPDX-License-Identifier: Apache-2.0 */

/* The judge: thresholds that turn a sample into readings. A new signal is a function and a row here. */

#include "agent/decide/checks.h"

/* Nothing has renewed a belief for this long: several missed rounds of the slowest witness (10 s, with deadlines 20 s). */
#define STALE_AFTER SPAN_SEC(90)
/* A black-holed path: the agent's TCP keep-alives go out every 15 s (Go's default), so an acknowledgement is never this
 * old on a living one; before the agent's own timer of 60 to 120 s. Source: facts of the ECS agent, wsclient. */
#define ACK_AGE_MAX SPAN_SEC(45)
/* The control plane sends a heartbeat every 55 s and the agent closes after 60 to 120 s without one. */
#define DATA_AGE_MAX SPAN_SEC(180)
/* PSI full, avg60: nothing at all ran for more than this share of the last minute. */
#define MEMORY_FULL_MAX ((Share) 4000)

static void judge_introspection(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        const IntrospectionSample *s = &sample->introspection;
        Reading process = READING_NONE, tasks = READING_NONE;

        (void) policy;
        if (sample->sight == SIGHT_CLEAR) {
                if (s->metadata == ANSWER_GOOD)
                        process = READING_UP;
                else if (s->metadata == ANSWER_REFUSED || s->metadata == ANSWER_HUNG)
                        process = READING_DOWN;
                if (s->metadata == ANSWER_GOOD && s->tasks == ANSWER_GOOD)
                        tasks = READING_UP;
                else if (s->metadata == ANSWER_GOOD && s->tasks == ANSWER_HUNG)
                        tasks = READING_DOWN;
        }
        if (process == READING_UP)
                checks->answered_this_boot = true;
        if (process == READING_UP && s->registered) {
                checks->registered_before = true;
                if (!mono_is_set(checks->registered_at))
                        checks->registered_at = now;
        }
        check_take(&checks->introspection, process, 2, 1, now);
        check_take(&checks->tasks, tasks, 3, 1, now);
}

static Reading read_link(const SocketsSample *s, const Policy *policy) {
        /* Short graces are for tests; their black hole must show within them. */
        Span ack_max = span_min(ACK_AGE_MAX, policy->grace / 4);

        if (!s->listener)
                return READING_NONE; /* no agent to have a link: the listener says it */
        if (!s->link_known) {
                /* Keep-alive connections of the API look like a link; only their absence, or long silence, says something. */
                return s->n_control == 0 || s->data_age > DATA_AGE_MAX ? READING_DOWN : READING_NONE;
        }
        if (!s->link_present)
                return READING_DOWN;
        if (s->unacknowledged && s->ack_age > ack_max)
                return READING_DOWN;
        return s->data_age > DATA_AGE_MAX ? READING_DOWN : READING_UP;
}

static void judge_sockets(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        const SocketsSample *s = &sample->sockets;
        Reading link = READING_NONE, listener = READING_NONE, stuck = READING_NONE;

        if (sample->sight == SIGHT_CLEAR) {
                link = read_link(s, policy);
                if (s->listener)
                        listener = READING_UP;
                else if (checks->answered_this_boot || checks->registered_before)
                        listener = READING_DOWN;
                if (s->listener)
                        stuck = s->backlog > 0 || s->unread > 0 ? READING_DOWN : READING_UP;
        }
        check_take(&checks->link, link, 1, 1, now);
        check_take(&checks->listener, listener, 1, 1, now);
        check_take(&checks->stuck, stuck, 3, 1, now);
}

static void judge_units(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        Reading reading = READING_NONE;

        (void) policy;
        if (sample->sight == SIGHT_CLEAR && sample->units.ecs.exists) {
                UnitState state = sample->units.ecs.state;

                if (state == UNIT_FAILED || state == UNIT_INACTIVE)
                        reading = READING_DOWN;
                else if (state == UNIT_ACTIVE)
                        reading = READING_UP;
        }
        check_take(&checks->unit, reading, 1, 1, now);
}

static void judge_docker(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        const DockerSample *s = &sample->docker;
        Reading reading = READING_NONE;

        (void) policy;
        if (sample->sight == SIGHT_CLEAR) {
                if (s->ping == ANSWER_REFUSED || s->ping == ANSWER_HUNG || s->list == ANSWER_HUNG)
                        reading = READING_DOWN;
                else if (s->ping == ANSWER_GOOD && s->list == ANSWER_GOOD)
                        reading = READING_UP;
        }
        check_take(&checks->docker, reading, 3, 1, now);
}

static void judge_disks(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        bool clear = sample->sight == SIGHT_CLEAR && sample->disks.n > 0;

        (void) policy;
        check_take(&checks->disk_writable,
                !clear                         ? READING_NONE
                : sample->disks.root_read_only ? READING_DOWN
                                               : READING_UP,
                2, 1, now);
        check_take(&checks->disk_space,
                !clear                    ? READING_NONE
                : sample->disks.root_full ? READING_DOWN
                                          : READING_UP,
                6, 1, now);
}

static void judge_memory(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        bool clear = sample->sight == SIGHT_CLEAR && sample->memory.full != SHARE_NONE;

        (void) policy;
        check_take(&checks->memory,
                !clear                                  ? READING_NONE
                : sample->memory.full > MEMORY_FULL_MAX ? READING_DOWN
                                                        : READING_UP,
                6, 1, now);
}

static void judge_log(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        (void) policy;
        if (sample->sight != SIGHT_CLEAR)
                return;
        if (sample->log.line == LOG_LINE_UPDATING)
                checks->updating_from = sample->log.at;
        log_machine_take(&checks->log, &sample->log, now);
}

static void judge_metadata(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        (void) policy;
        (void) now;
        if (sample->sight != SIGHT_CLEAR)
                return;
        checks->lifecycle = sample->metadata.lifecycle;
        checks->spot_notice = sample->metadata.spot_notice;
}

static void judge_nothing(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        (void) checks;
        (void) sample;
        (void) policy;
        (void) now;
}

static void (*const judges[WITNESS_N])(Checks *, const Sample *, const Policy *, Mono) = {
        [WITNESS_INTROSPECTION] = judge_introspection,
        [WITNESS_LOG] = judge_log,
        [WITNESS_SOCKETS] = judge_sockets,
        [WITNESS_UNITS] = judge_units,
        [WITNESS_DOCKER] = judge_docker,
        [WITNESS_PATH] = judge_nothing, /* the brake reads the sample itself */
        [WITNESS_DISKS] = judge_disks,
        [WITNESS_MEMORY] = judge_memory,
        [WITNESS_METADATA] = judge_metadata,
};

void checks_take(Checks *checks, const Sample *sample, const Policy *policy, Mono now) {
        judges[sample->witness](checks, sample, policy, now);
        checks->samples[sample->witness] = *sample;
        checks->sampled[sample->witness] = now;
}

void checks_confirm(Checks *checks, const Confirmation *confirmation, const Policy *policy, Mono now) {
        if (confirmation->outcome != OUTCOME_OK)
                return;
        /* Noted at its beginning, so that one which never ends is no excuse for ever; the next one counts anew. */
        if (confirmation->updating && !checks->control.updating)
                checks->updating_from = now;
        checks->control = *confirmation;
        checks->control_at = now;
        if (confirmation->status != CONTROL_MISSING)
                checks->registered_before = true;
        /* The log was silent, so we called it wedged, and ECS says that it is connected: the log is not to be trusted. */
        if (confirmation->connected &&
                log_machine_state(&checks->log, policy, true, now) == LOG_STATE_WEDGED)
                checks->log.distrusted_until = mono_add(now, SPAN_HOUR(6));
}

Lifecycle checks_lifecycle(const Checks *checks) {
        bool none = checks->lifecycle == LIFECYCLE_UNKNOWN || checks->lifecycle == LIFECYCLE_NO_GROUP;

        return none ? checks->lifecycle_asg : checks->lifecycle;
}

void checks_age(Checks *checks, Mono now) {
        Check *all[] = { &checks->introspection, &checks->tasks, &checks->link, &checks->listener,
                &checks->stuck, &checks->unit, &checks->docker, &checks->disk_writable, &checks->disk_space,
                &checks->memory };

        for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
                check_age(all[i], STALE_AFTER, now);
}
