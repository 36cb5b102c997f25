/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The status document. Its names are stable; later versions add to them. Times are RFC 3339 texts, and beside each
 * NAME stands NAME_seconds_ago; every other length of time is named ..._seconds, in whole seconds. What is not known
 * is null. Shares are in percent.
 *
 *   running         true; the command says false in the same place when no daemon answers
 *   ok              healthy, or as somebody intended, and no problem: exit status 0 of the command
 *   time, started, version
 *   headline        state: healthy intended starting unknown ill grace held acting removed
 *                   what: what is going on; next: what will happen and when; do: what a person can do ("" nothing)
 *   problems[]      sentences: what else needs attention
 *   verdict         cause, fault, sentence, down, enough, for_seconds, down_for_seconds, witnesses[]
 *   stage           name, number, for_seconds, due_in_seconds, looks_held, repair_done
 *   grace           ends_in_seconds, dead
 *   witnesses[]     name, sight, reading, says, age_seconds
 *   control_plane   asked, connected, status, age_seconds, next_in_seconds, confirmations, host
 *   brakes[]        name, until_seconds, doc, advice: those that hold
 *   look            null before the first; outcome, failed, age_seconds, cluster, group and zone { members, sick },
 *                   connected_peers, more_than_a_page, share_decided, tags { cluster, group }, group_state[],
 *                   group_size, removed_window, removed_cluster, removed_day, budget, budget_cluster, budget_day,
 *                   remembered, replacement, young, turn, slow_lane, lifecycle
 *   sizes           cluster, group: how many there are of us; null: not known yet
 *   record          incident, stage, cause, action, opened, changed, closed, repaired, detach_sent, drained, marked, removals
 *   orphan          null unless this instance was removed; action (keep stop terminate), deregister, ended, due_in_seconds,
 *                   denied: a right that it lacks for that, says
 *   patrol          enabled, stage, says, sweeps, removals: of peers, next_in_seconds, peer: that it follows or last
 *                   followed, peer_action, found_seconds, held_by[]: brakes for which it was let go, claimed: whether
 *                   a peer that patrols has laid hands on this host, claimed_at
 *   host            memory { used_percent, available_percent, swap_used_percent, pressure_some_percent,
 *                   pressure_full_percent, oom_kills }, disks[] { path, used_percent, inodes_used_percent, read_only,
 *                   hung }, tasks_running, tasks_stuck, runtime_ping_milliseconds
 *   metrics         namespace, sent, waiting, dropped, failures, last_success, problem
 *   rights[]        name, granted: yes no unknown
 *   settings        ok, path, action, n_problems, problems[]
 *   cloudformation  state: off waiting none denied read; stack, resource, by_role, from_cache, read, next_seconds, problem
 *   pause           paused, since, until, until_seconds, reason, by
 *   identity        instance_id, cluster, group, zone, container_instance, agent_version
 *   credentials     state, detail
 *   self            clock_offset_seconds, journal_error, last_call, helpers_stuck
 */

#include "agent/status.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "agent/act/rights.h"
#include "agent/config.h"
#include "agent/edges.h"
#include "common/cleanup.h"
#include "common/parse.h"

#define CLOCK_OFFSET_MAX SPAN_MIN(4) /* AWS refuses signatures that are off by 5 min */
#define FAILURES_MAX     3           /* publications that failed in a row, before that is a problem */

/* A sentence that is put together; cut where it ends. */
typedef struct Text {
        char at[640];
        size_t n;
} Text;

static void text_add(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void text_add(Text *text, const char *format, ...) {
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vsnprintf(text->at + text->n, sizeof(text->at) - text->n, format, arguments);
        va_end(arguments);
        if (n > 0)
                text->n += (size_t) n < sizeof(text->at) - text->n ? (size_t) n
                                                                   : sizeof(text->at) - text->n - 1;
}

/* Whole seconds are enough for people, and stand still in --watch. */
static void text_add_span(Text *text, Span span) {
        char buffer[FORMAT_SPAN_MAX];

        text_add(text, "%s", format_span(buffer, span_max(span, 0) / SPAN_SEC(1) * SPAN_SEC(1)));
}

/* "3m 50s (at 14:05:10Z)" */
static void text_add_until(Text *text, const StatusView *view, Mono at) {
        char buffer[FORMAT_TIME_MAX];
        Span span = span_max(mono_since(at, view->now.mono), 0);

        text_add_span(text, span);
        text_add(text, " (at %s)",
                format_rfc3339(buffer, wall_add(view->now.wall, span)) + strlen("2026-06-30T"));
}

static bool mono_is_known(Mono t) {
        return mono_is_set(t) && t.usec != MONO_INFINITE.usec;
}

static Span span_ago(const StatusView *view, Mono t) {
        return mono_since(view->now.mono, t);
}

/* Members of the document */

static void put_ago(JsonWriter *w, const char *name, const StatusView *view, Mono since) {
        if (mono_is_known(since))
                json_i64(w, name, span_max(span_ago(view, since), 0) / SPAN_SEC(1));
        else
                json_null(w, name);
}

static void put_until(JsonWriter *w, const char *name, const StatusView *view, Mono until) {
        if (mono_is_known(until))
                json_i64(w, name, span_max(mono_since(until, view->now.mono), 0) / SPAN_SEC(1));
        else
                json_null(w, name);
}

static void put_time(JsonWriter *w, const char *name, const StatusView *view, Wall t) {
        char text[FORMAT_TIME_MAX], ago[64];

        (void) snprintf(ago, sizeof(ago), "%s_seconds_ago", name);
        if (!wall_is_set(t)) {
                json_null(w, name);
                json_null(w, ago);
                return;
        }
        json_string(w, name, format_rfc3339(text, t));
        json_i64(w, ago, wall_since(view->now.wall, t) / SPAN_SEC(1));
}

static void put_share(JsonWriter *w, const char *name, Share share) {
        if (share == SHARE_NONE)
                json_null(w, name);
        else
                json_double(w, name, share / 100.0);
}

static void put_count(JsonWriter *w, const char *name, int64_t count) {
        if (count < 0)
                json_null(w, name);
        else
                json_i64(w, name, count);
}

/* What each witness says, in words */

static void text_add_percent(Text *text, Share share) {
        if (share == SHARE_NONE)
                text_add(text, "?");
        else
                text_add(text, "%d.%d %%", (int) share / 100, (int) share / 10 % 10);
}

static void say_introspection(Text *text, const StatusView *view) {
        const IntrospectionSample *s = &view->core->checks.samples[WITNESS_INTROSPECTION].introspection;

        switch (s->metadata) {
        case ANSWER_NONE: text_add(text, "not asked yet"); return;
        case ANSWER_REFUSED: text_add(text, "refuses connections: the agent's process is not there"); return;
        case ANSWER_HUNG: text_add(text, "does not answer: the agent hangs"); return;
        case ANSWER_WRONG: text_add(text, "something answers that is not the ECS agent"); return;
        case ANSWER_GOOD: break;
        }
        text_add(text, "answers, %sregistered", s->registered ? "" : "not ");
        if (s->tasks == ANSWER_HUNG)
                text_add(text, ", but its task list hangs");
        if (s->tasks == ANSWER_WRONG)
                text_add(text, ", but its task list cannot be understood");
        if (s->tasks_running >= 0)
                text_add(text, ", %" PRId32 " tasks run", s->tasks_running);
        if (s->tasks_stuck > 0)
                text_add(text, ", %" PRId32 " are stuck", s->tasks_stuck);
}

static LogState log_state(const StatusView *view) {
        const Checks *checks = &view->core->checks;
        bool alive = checks->introspection.believed == READING_UP || checks->listener.believed == READING_UP;

        return log_machine_state(&checks->log, &view->core->policy, alive, view->now.mono);
}

static void say_log_blind(Text *text, const StatusView *view) {
        const Checks *checks = &view->core->checks;

        if (mono_is_set(checks->log.distrusted_until) &&
                mono_before(view->now.mono, checks->log.distrusted_until))
                text_add(text, "silent while ECS called the agent connected: not trusted for now");
        else if (checks->samples[WITNESS_LOG].log.level_raised)
                text_add(text, "its level hides the lines that matter; ECS_LOGLEVEL=info shows them");
        else if (mono_is_set(checks->log.connected_line))
                text_add(text, "silent for too long to tell");
        else
                text_add(text, "has said nothing of a connection yet");
}

static void say_log(Text *text, const StatusView *view) {
        const LogMachine *machine = &view->core->checks.log;
        LogState state = log_state(view);

        if (state == LOG_STATE_BLIND) {
                say_log_blind(text, view);
                return;
        }
        text_add(text, "%s", log_state_to_string(state));
        if (mono_is_set(machine->since)) {
                text_add(text, ", for ");
                text_add_span(text, span_ago(view, machine->since));
        }
        if (state == LOG_STATE_BACKOFF && mono_is_known(machine->retry_at)) {
                text_add(text, ", next try in ");
                text_add_span(text, mono_since(machine->retry_at, view->now.mono));
        }
}

static void say_sockets(Text *text, const StatusView *view) {
        const SocketsSample *s = &view->core->checks.samples[WITNESS_SOCKETS].sockets;

        if (!s->listener) {
                text_add(text, "nobody listens on the introspection port");
                return;
        }
        if (!s->link_known)
                text_add(text,
                        "%" PRIu32
                        " connections to the control plane, which of them counts is not known yet",
                        s->n_control);
        else
                text_add(text, "the control connection is %s", s->link_present ? "there" : "gone");
        if (s->data_age >= 0 && (s->link_present || s->n_control > 0)) {
                text_add(text, ", data came ");
                text_add_span(text, s->data_age);
                text_add(text, " ago");
        }
        if (s->unacknowledged)
                text_add(text, ", something waits to be acknowledged");
        if (s->backlog > 0 || s->unread > 0)
                text_add(text, ", the agent does not accept");
}

static void say_unit(Text *text, const char *name, const UnitSample *unit) {
        if (!unit->exists) {
                text_add(text, "%s does not exist", name);
                return;
        }
        text_add(text, "%s %s", name, unit_state_to_string(unit->state));
        if ((unit->state == UNIT_FAILED || unit->state == UNIT_INACTIVE) && unit->exit_status >= 0)
                text_add(text, " (exit status %" PRId32 ")", unit->exit_status);
        if (unit->intent == INTENT_STOPPED || unit->intent == INTENT_DISABLED)
                text_add(text, ", %s", intent_to_string(unit->intent));
}

static void say_units(Text *text, const StatusView *view) {
        const UnitsSample *s = &view->core->checks.samples[WITNESS_UNITS].units;

        say_unit(text, view->settings->unit, &s->ecs);
        text_add(text, "; ");
        say_unit(text, view->settings->docker_unit, &s->docker);
}

static void say_docker(Text *text, const StatusView *view) {
        const DockerSample *s = &view->core->checks.samples[WITNESS_DOCKER].docker;

        text_add(text, "ping %s", answer_to_string(s->ping));
        if (s->ping == ANSWER_GOOD && s->ping_time >= 0)
                text_add(text, " in %" PRId64 " ms", s->ping_time / SPAN_MSEC(1));
        if (s->list != ANSWER_GOOD && s->list != ANSWER_NONE)
                text_add(text, ", list of containers %s", answer_to_string(s->list));
}

static void say_path(Text *text, const StatusView *view) {
        const PathSample *s = &view->core->checks.samples[WITNESS_PATH].path;

        if (s->answer == PATH_NONE) {
                text_add(text, "not asked: only while the agent is disconnected");
                return;
        }
        text_add(text, "our own way to %s: %s",
                *view->control_host ? view->control_host : "the control plane",
                path_answer_to_string(s->answer));
}

static void say_disks(Text *text, const StatusView *view) {
        const DisksSample *s = &view->core->checks.samples[WITNESS_DISKS].disks;

        text_add(text, "%" PRIu32 " mounts, the fullest ", s->n);
        text_add_percent(text, s->used_worst);
        if (s->inodes_used_worst != SHARE_NONE) {
                text_add(text, ", inodes ");
                text_add_percent(text, s->inodes_used_worst);
        }
        if (s->n_read_only > 0)
                text_add(text, ", %" PRIu32 " read-only", s->n_read_only);
        if (s->n_hung > 0)
                text_add(text, ", %" PRIu32 " hung", s->n_hung);
}

static void say_memory(Text *text, const StatusView *view) {
        const MemorySample *s = &view->core->checks.samples[WITNESS_MEMORY].memory;

        text_add_percent(text, s->used);
        text_add(text, " used, ");
        if (s->some == SHARE_NONE) {
                text_add(text, "the kernel does not tell the pressure");
        } else {
                text_add(text, "pressure ");
                text_add_percent(text, s->some);
                text_add(text, " some, ");
                text_add_percent(text, s->full);
                text_add(text, " full");
        }
}

static void say_metadata(Text *text, const StatusView *view) {
        const MetadataSample *s = &view->core->checks.samples[WITNESS_METADATA].metadata;

        text_add(text, "%s", lifecycle_to_string(s->lifecycle));
        if (s->spot_notice)
                text_add(text, ", spot interruption announced");
        if (s->no_role)
                text_add(text, ", no usable role");
}

static void (*const say[WITNESS_N])(Text *text, const StatusView *view) = {
        [WITNESS_INTROSPECTION] = say_introspection,
        [WITNESS_LOG] = say_log,
        [WITNESS_SOCKETS] = say_sockets,
        [WITNESS_UNITS] = say_units,
        [WITNESS_DOCKER] = say_docker,
        [WITNESS_PATH] = say_path,
        [WITNESS_DISKS] = say_disks,
        [WITNESS_MEMORY] = say_memory,
        [WITNESS_METADATA] = say_metadata,
};

/* What a witness would look at, for when it cannot. */
static const char *witness_object(const StatusView *view, Witness witness) {
        switch (witness) {
        case WITNESS_INTROSPECTION: return view->settings->endpoint;
        case WITNESS_LOG: return view->settings->log;
        case WITNESS_SOCKETS: return "the kernel's socket diagnostics";
        case WITNESS_UNITS: return "systemd's D-Bus";
        case WITNESS_DOCKER: return view->settings->docker_socket;
        case WITNESS_PATH: return "the network";
        case WITNESS_DISKS: return "the mount table";
        case WITNESS_MEMORY: return "/proc";
        case WITNESS_METADATA: return "the metadata service";
        }
        return "?";
}

static void say_blindness(Text *text, const StatusView *view, Witness witness, Sight sight) {
        const char *object = witness_object(view, witness);

        switch (sight) {
        case SIGHT_NONE:
                text_add(text, witness == WITNESS_PATH ? "not asked: only while the agent is disconnected"
                                                       : "has not looked yet");
                return;
        case SIGHT_ABSENT: text_add(text, "cannot tell: %s is not there", object); return;
        case SIGHT_DENIED: text_add(text, "cannot tell: not allowed to look at %s", object); return;
        case SIGHT_FAILED: text_add(text, "cannot tell: looking at %s failed", object); return;
        case SIGHT_OFF: text_add(text, "switched off in the settings"); return;
        case SIGHT_CLEAR: return;
        }
}

static Reading worse(Reading a, Reading b) {
        return a == READING_DOWN || b == READING_DOWN ? READING_DOWN : a == READING_UP ? a : b;
}

static Reading log_reading(LogState state) {
        switch (state) {
        case LOG_STATE_UP: return READING_UP;
        case LOG_STATE_DOWN:
        case LOG_STATE_BACKOFF:
        case LOG_STATE_INACTIVE:
        case LOG_STATE_WEDGED:
        case LOG_STATE_STOPPED: return READING_DOWN;
        case LOG_STATE_BLIND:
        case LOG_STATE_STARTING:
        case LOG_STATE_UPDATING: return READING_NONE;
        }
        return READING_NONE;
}

static Reading witness_reading(const StatusView *view, Witness witness) {
        const Checks *checks = &view->core->checks;
        const Sample *sample = &checks->samples[witness];

        if (sample->sight != SIGHT_CLEAR)
                return READING_NONE;
        switch (witness) {
        case WITNESS_INTROSPECTION: return worse(checks->introspection.believed, checks->tasks.believed);
        case WITNESS_LOG: return log_reading(log_state(view));
        case WITNESS_SOCKETS:
                return worse(checks->link.believed,
                        checks->listener.believed == READING_DOWN ? READING_DOWN : READING_NONE);
        case WITNESS_UNITS: return checks->unit.believed;
        case WITNESS_DOCKER: return checks->docker.believed;
        case WITNESS_PATH:
                return sample->path.answer == PATH_NONE    ? READING_NONE
                       : sample->path.answer == PATH_WORKS ? READING_UP
                                                           : READING_DOWN;
        case WITNESS_DISKS: return worse(checks->disk_writable.believed, checks->disk_space.believed);
        case WITNESS_MEMORY: return checks->memory.believed;
        case WITNESS_METADATA:
                return sample->metadata.lifecycle == LIFECYCLE_IN_SERVICE ? READING_UP : READING_NONE;
        }
        return READING_NONE;
}

static void put_witnesses(JsonWriter *w, const StatusView *view) {
        json_begin_array(w, "witnesses");
        for (Witness witness = 0; witness < WITNESS_N; witness++) {
                const Sample *sample = &view->core->checks.samples[witness];
                Text text = {};

                if (sample->sight == SIGHT_CLEAR)
                        say[witness](&text, view);
                else
                        say_blindness(&text, view, witness, sample->sight);
                json_begin_object(w, NULL);
                json_string(w, "name", witness_to_string(witness));
                json_string(w, "sight", sight_to_string(sample->sight));
                json_string(w, "reading", reading_to_string(witness_reading(view, witness)));
                json_string(w, "says", text.at);
                put_ago(w, "age_seconds", view, view->core->checks.sampled[witness]);
                json_end_object(w);
        }
        json_end_array(w);
}

/* The headline */

typedef enum Headline {
        HEADLINE_HEALTHY,
        HEADLINE_INTENDED,
        HEADLINE_STARTING,
        HEADLINE_UNKNOWN,
        HEADLINE_ILL, /* something is wrong, and it leads to no action */
        HEADLINE_GRACE,
        HEADLINE_HELD,
        HEADLINE_ACTING,
        HEADLINE_REMOVED,
} Headline;
#define HEADLINE_N (HEADLINE_REMOVED + 1)

static const char *const headline_names[HEADLINE_N] = {
        [HEADLINE_HEALTHY] = "healthy",
        [HEADLINE_INTENDED] = "intended",
        [HEADLINE_STARTING] = "starting",
        [HEADLINE_UNKNOWN] = "unknown",
        [HEADLINE_ILL] = "ill",
        [HEADLINE_GRACE] = "grace",
        [HEADLINE_HELD] = "held",
        [HEADLINE_ACTING] = "acting",
        [HEADLINE_REMOVED] = "removed",
};

static Headline headline_while_watching(const Verdict *verdict) {
        if (verdict->cause == CAUSE_STARTING)
                return HEADLINE_STARTING;
        switch (verdict->fault) {
        case FAULT_NONE: return HEADLINE_HEALTHY;
        case FAULT_INTENDED: return HEADLINE_INTENDED;
        case FAULT_UNKNOWN: return HEADLINE_UNKNOWN;
        case FAULT_HOST:
        case FAULT_MANY:
        case FAULT_OURS: return HEADLINE_ILL;
        }
        return HEADLINE_UNKNOWN;
}

static Headline headline(const StatusView *view) {
        switch (view->core->stage) {
        case STAGE_WATCHING: return headline_while_watching(&view->core->verdict);
        case STAGE_GRACE: return HEADLINE_GRACE;
        case STAGE_HELD: return HEADLINE_HELD;
        case STAGE_LOOKING:
        case STAGE_REPAIRING:
        case STAGE_TURN:
        case STAGE_DRAINING:
        case STAGE_RECHECKING:
        case STAGE_DETACHING:
        case STAGE_VERIFYING:
        case STAGE_UNDOING: return HEADLINE_ACTING;
        case STAGE_REMOVED:
        case STAGE_ENDING: return HEADLINE_REMOVED;
        }
        return HEADLINE_UNKNOWN;
}

/* What a person can do about a cause; NULL: nothing, or it is the settings' business. */
static const char *const cause_advice[CAUSE_N] = {
        [CAUSE_NOT_KNOWN] = "See below which witnesses cannot tell, and why.",
        [CAUSE_LINK_LOST] =
                "Check name resolution, routes, security group, proxy and the VPC endpoints of ECS.",
        [CAUSE_AGENT_DEAD] = "See why: journalctl -u ecs.service. Start it: systemctl restart ecs.service.",
        [CAUSE_AGENT_HUNG] = "Restart it: systemctl restart ecs.service.",
        [CAUSE_AGENT_WEDGED] = "Restart it: systemctl restart ecs.service.",
        [CAUSE_AGENT_FAILED] =
                "See why it cannot register: the end of the ECS agent's log, and the instance role.",
        [CAUSE_AGENT_EXITED] = "Start it: systemctl start ecs.service.",
        [CAUSE_AGENT_ABSENT] = "See why: journalctl -u ecs.service -b.",
        [CAUSE_NEVER_REGISTERED] =
                "Check ECS_CLUSTER in /etc/ecs/ecs.config, the instance role and the way to ECS.",
        [CAUSE_DOCKER] = "See why: journalctl -u docker.service.",
        [CAUSE_DISK_READ_ONLY] = "See why: dmesg. The volume may be failing.",
        [CAUSE_DISK_FULL] = "Make room: docker system df, /var/log.",
        [CAUSE_MEMORY] = "See below and in the container limits what uses the memory.",
        [CAUSE_OPERATOR_STOP] = "When done: systemctl enable --now docker.service ecs.service.",
        [CAUSE_DEREGISTERED] =
                "To have it back in the cluster, restart the ECS agent; else terminate the instance.",
        [CAUSE_FOREIGN_DRAIN] = "When done, set the container instance to ACTIVE.",
        [CAUSE_NO_ROLE] = "Attach an instance profile with a usable role.",
};

/* The same about a brake. */
static const char *const brake_advice[BRAKE_N] = {
        [BRAKE_RIGHTS] = "Give the instance role the rights that are listed as denied.",
        [BRAKE_OBSERVE] =
                "To let it act, set another \"action\"; else drain and detach the instance by hand.",
        [BRAKE_PAUSED] = "End the pause: ecs-health-agent resume.",
        [BRAKE_COOLDOWN] = "A second incident so soon is worth a look at the host by hand.",
        [BRAKE_OFF] = "To let it act, take the tag ecs-health-agent off the group and the cluster.",
        [BRAKE_GROUP] = "Wait for what is under way in the group, or resume its suspended processes.",
        [BRAKE_SHARE] =
                "Look at what they share first: network, VPC endpoints, role, the state of ECS itself.",
        [BRAKE_PATH] = "Check the way to the control plane: name resolution, routes, security group, proxy.",
        [BRAKE_BUDGET] = "If more and more need replacing, look for what they have in common.",
        [BRAKE_LOOP] = "Find out why replacing does not help; then: ecs-health-agent resume, or such a tag.",
        [BRAKE_REPLACEMENT] = "See in the group's activity history what has become of the last launch.",
        [BRAKE_BLIND] = "See below what could not be read: a call that failed, or a right that is denied.",
};

/* Which one a person hears of first. */
static const Brake brake_order[] = { BRAKE_PAUSED, BRAKE_OBSERVE, BRAKE_OFF, BRAKE_RIGHTS, BRAKE_SHARE,
        BRAKE_GROUP, BRAKE_PATH, BRAKE_LOOP, BRAKE_REPLACEMENT, BRAKE_BUDGET, BRAKE_BLIND, BRAKE_COOLDOWN };

/* Grace and confirm are no obstacles but the course of things: they are told of by the stage. */
static BrakeSet brakes_beyond_course(const Core *core) {
        return core->brakes & ~(1u << BRAKE_GRACE | 1u << BRAKE_CONFIRM);
}

static void text_add_brakes(Text *text, BrakeSet set) {
        bool first = true;

        for (unsigned i = 0; i < BRAKE_N; i++)
                if (set & 1u << i) {
                        text_add(text, "%s%s", first ? "" : ", ", brake_table[i].name);
                        first = false;
                }
}

/* What the actions are called where they are still to come. */
static const struct {
        const char *course, /* follows "then ": a noun, the group at its end */
                *verb,      /* follows "then ", "if none holds, " */
                *now,       /* the action is under way */
                *done;      /* in the past; followed by the group's name */
} action_words[ACTION_N] = {
        [ACTION_OBSERVE] = { "nothing for the Auto Scaling group", "goes on watching", "Only observes.",
                "This instance was taken out of Auto Scaling group" },
        [ACTION_DETACH] = { "the detach from the Auto Scaling group", "detaches the instance",
                "Detaches the instance from its Auto Scaling group now.",
                "This instance was taken out of Auto Scaling group" },
        [ACTION_UNHEALTHY] = { "its termination by the Auto Scaling group",
                "has the group terminate the instance",
                "Tells the Auto Scaling group now that the instance is unhealthy.",
                "This instance was declared unhealthy to Auto Scaling group" },
        [ACTION_STANDBY] = { "standby in the Auto Scaling group", "puts the instance on standby",
                "Puts the instance on standby in its Auto Scaling group now.",
                "This instance was put on standby in Auto Scaling group" },
};

/* What comes when nothing holds. */
static void text_add_course(Text *text, const Core *core) {
        const Policy *policy = &core->policy;

        if (policy->action == ACTION_OBSERVE) {
                text_add(text, "nothing more, for the settings say action: observe");
                return;
        }
        text_add(text, "a look at the group");
        if (policy->repair && core->verdict.repairable && !core->repair_done)
                text_add(text, ", a restart of the agent");
        text_add(text, "%s, then %s, which launches a replacement", policy->drain ? ", the drain" : "",
                action_words[policy->action].course);
}

static void next_in_grace(Text *text, const StatusView *view) {
        const Core *core = view->core;
        Mono end = core_grace_end(core);
        /* Nothing has been looked at yet, so what needs a look is not known. */
        BrakeSet held = brakes_beyond_course(core) & ~(1u << BRAKE_BLIND);

        if (mono_is_known(end) && mono_before(view->now.mono, end)) {
                text_add(text, "Grace ends in ");
                text_add_until(text, view, end);
                text_add(text, "; if it is still so by then and ECS agrees: ");
        } else if (mono_is_known(end)) {
                text_add(text, "Grace is over; waits for ECS to confirm (%u of 2 so far). Then: ",
                        core->confirmations);
        } else {
                text_add(text, "Grace does not run yet. After it: ");
        }
        text_add_course(text, core);
        text_add(text, ".");
        if (held) {
                text_add(text, " As of now this would be stopped by: ");
                text_add_brakes(text, held);
                text_add(text, ".");
        }
}

static void next_when_held(Text *text, const StatusView *view) {
        text_add(text, "Nothing is done, not even a repair, for these brakes hold: ");
        text_add_brakes(text, view->core->brakes);
        text_add(text, ".");
        if (mono_is_known(view->core->due)) {
                text_add(text, " Looks again in ");
                text_add_until(text, view, view->core->due);
                text_add(text, ".");
        }
}

static void next_when_acting(Text *text, const StatusView *view) {
        const Core *core = view->core;

        switch (core->stage) {
        case STAGE_LOOKING:
                text_add(text, "Looks at group and peers now; if no brake holds, it goes on.");
                break;
        case STAGE_REPAIRING:
                text_add(text, "Has restarted %s and waits for it to connect", view->settings->unit);
                if (mono_is_known(core->due)) {
                        text_add(text, ", for another ");
                        text_add_until(text, view, core->due);
                }
                text_add(text, ".");
                break;
        case STAGE_TURN:
                text_add(text, core->brakes & 1u << BRAKE_TURN
                                       ? "It is the turn of another disconnected instance. Looks again"
                                       : "No brake holds. Looks once more");
                if (mono_is_known(core->due)) {
                        text_add(text, " in ");
                        text_add_until(text, view, core->due);
                }
                text_add(text, ", then %s%s.", core->policy.drain ? "drains and " : "",
                        action_words[core->policy.action].verb);
                break;
        case STAGE_DRAINING:
                text_add(text, "Drains the container instance now; then asks the brakes again.");
                break;
        case STAGE_RECHECKING:
                text_add(text, "Drained. Asks the brakes again; if none holds, %s, else undoes the drain.",
                        action_words[core->policy.action].verb);
                break;
        case STAGE_DETACHING: text_add(text, "%s", action_words[core->policy.action].now); break;
        case STAGE_VERIFYING: text_add(text, "The removal was sent. Reads whether it has happened."); break;
        case STAGE_UNDOING: text_add(text, "Takes its own drain back."); break;
        case STAGE_WATCHING:
        case STAGE_GRACE:
        case STAGE_HELD:
        case STAGE_REMOVED:
        case STAGE_ENDING: break;
        }
}

static void say_next(Text *text, const StatusView *view, Headline state) {
        const Core *core = view->core;
        char orphan[512];

        switch (state) {
        case HEADLINE_HEALTHY:
                text_add(text, "Nothing is to be done.");
                if (view->pause->paused)
                        text_add(
                                text, " If that changed, nothing would be done either: the host is paused.");
                else if (core->policy.action == ACTION_OBSERVE)
                        text_add(text, " If that changed, it would only be reported: action is observe.");
                return;
        case HEADLINE_INTENDED:
                text_add(text, "Somebody meant it to be so, therefore nothing is done.");
                return;
        case HEADLINE_STARTING:
                text_add(text, "Waits for it");
                if (mono_is_known(core->boot_grace_until) &&
                        mono_before(view->now.mono, core->boot_grace_until)) {
                        text_add(text, "; boot grace ends in ");
                        text_add_until(text, view, core->boot_grace_until);
                }
                text_add(text, ".");
                return;
        case HEADLINE_UNKNOWN: text_add(text, "Not knowing never leads to an action."); return;
        case HEADLINE_ILL:
                if (core->verdict.fault == FAULT_HOST && !core->verdict.enough)
                        text_add(text, "Only one witness says so yet: nothing is done on the word of one.");
                else
                        text_add(text, "This leads to no action here; it is only reported.");
                return;
        case HEADLINE_GRACE: next_in_grace(text, view); return;
        case HEADLINE_HELD: next_when_held(text, view); return;
        case HEADLINE_ACTING: next_when_acting(text, view); return;
        case HEADLINE_REMOVED:
                text_add(text, "The group launches a replacement. %s",
                        edges_orphan(core, view->now, orphan, sizeof(orphan)));
                return;
        }
}

static Mono down_from(const Core *core) {
        if (!core->verdict.down)
                return MONO_NEVER;
        return mono_is_set(core->ill_from) ? core->ill_from : core->cause_from;
}

static void say_what(Text *text, const StatusView *view, Headline state) {
        const Core *core = view->core;

        if (state == HEADLINE_REMOVED)
                text_add(text, "%s %s%s. ",
                        action_words[core->record.action < ACTION_N ? core->record.action : ACTION_DETACH]
                                .done,
                        *view->target->group ? view->target->group : "?",
                        core->checks.control.patrolled ? ", by a peer that patrols" : "");
        text_add(text, "%s", cause_to_sentence(core->verdict.cause));
        if (mono_is_known(down_from(core))) {
                text_add(text, " Disconnected for ");
                text_add_span(text, span_ago(view, down_from(core)));
                text_add(text, ".");
        }
}

static void say_do(Text *text, const StatusView *view, Headline state) {
        const Core *core = view->core;

        if (state == HEADLINE_HELD) {
                for (size_t i = 0; i < ELEMENTSOF(brake_order); i++)
                        if (core->brakes & 1u << brake_order[i]) {
                                text_add(text, "%s", brake_advice[brake_order[i]]);
                                return;
                        }
                return;
        }
        if (state == HEADLINE_REMOVED && core_end_due(core, view->now).usec != MONO_INFINITE.usec)
                text_add(text, "To keep it for a longer look: ecs-health-agent pause.");
        if (cause_advice[core->verdict.cause] && state != HEADLINE_REMOVED && state != HEADLINE_HEALTHY)
                text_add(text, "%s", cause_advice[core->verdict.cause]);
        if ((state == HEADLINE_GRACE || state == HEADLINE_ACTING) && !view->pause->paused &&
                core->policy.action != ACTION_OBSERVE)
                text_add(text, "%sTo keep it from acting: ecs-health-agent pause.", text->n > 0 ? " " : "");
}

/* Problems beside the verdict */

static void problem(JsonWriter *w, unsigned *n, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static void problem(JsonWriter *w, unsigned *n, const char *format, ...) {
        char text[640];
        va_list arguments;

        va_start(arguments, format);
        (void) vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        json_string(w, NULL, text);
        ++*n;
}

static void problems_of_host(JsonWriter *w, const StatusView *view, unsigned *n) {
        const Checks *checks = &view->core->checks;

        if (checks->docker.believed == READING_DOWN)
                problem(w, n, "%s %s", cause_to_sentence(CAUSE_DOCKER), cause_advice[CAUSE_DOCKER]);
        if (checks->disk_writable.believed == READING_DOWN)
                problem(w, n, "%s %s", cause_to_sentence(CAUSE_DISK_READ_ONLY),
                        cause_advice[CAUSE_DISK_READ_ONLY]);
        if (checks->disk_space.believed == READING_DOWN)
                problem(w, n, "%s %s", cause_to_sentence(CAUSE_DISK_FULL), cause_advice[CAUSE_DISK_FULL]);
        if (checks->memory.believed == READING_DOWN)
                problem(w, n, "%s %s", cause_to_sentence(CAUSE_MEMORY), cause_advice[CAUSE_MEMORY]);
        for (uint32_t i = 0; i < view->n_mounts; i++)
                if (view->mounts[i].hung)
                        problem(w, n, "The file system at %s hangs.", view->mounts[i].path);
}

static void problems_of_ours(JsonWriter *w, const StatusView *view, unsigned *n) {
        const PublisherState *published = view->published;
        Text missing = {}, offset = {};

        if (view->problems->n > 0)
                problem(w, n,
                        "Settings were refused, and earlier ones or the defaults with action: observe are "
                        "in "
                        "force: %s. See: ecs-health-agent check-config.",
                        view->problems->text[0]);
        if (config_misses_stack(view->stack, view->settings))
                problem(w, n, "What the CloudFormation stack says is not known%s: %s",
                        view->stack->state == STACK_WAITING ? ", so action is observe" : "",
                        view->stack->problem);
        for (Right right = 0; right < RIGHT_N; right++)
                if (view->core->rights.granted[right] == GRANTED_NO &&
                        right_used(right, &view->core->policy))
                        text_add(&missing, "%s%s", missing.n > 0 ? ", " : "", right_to_string(right));
        if (missing.n > 0)
                problem(w, n, "The instance role is denied: %s. Add it to the role's policy.", missing.at);
        if (published->failures >= FAILURES_MAX)
                problem(w, n, "Metrics have not reached CloudWatch in %u tries: %s", published->failures,
                        published->problem);
        if (published->left_out > 0)
                problem(w, n,
                        "%u series of mounts are not published: metrics.max_series allows %" PRId64
                        ". Raise it, or name fewer in disk.mounts.",
                        published->left_out, view->settings->max_series);
        if (view->credentials != AWS_CREDENTIALS_UNKNOWN && view->credentials != AWS_CREDENTIALS_GOOD)
                problem(w, n, "Credentials: %s", view->credentials_detail);
        if (view->keys_refused[0] != '\0')
                problem(w, n,
                        "AWS refuses our keys (%s; %s): no metric is published and nothing is done while it "
                        "does. Check what the metadata service or the unit's environment hands out.",
                        view->keys_refused, view->credentials_detail);
        if (view->journal_error < 0)
                problem(w, n, "The incident journal cannot be kept on disk: %s. It is kept in /run.",
                        strerror(-view->journal_error));
        if (view->clock_offset > CLOCK_OFFSET_MAX || view->clock_offset < -CLOCK_OFFSET_MAX) {
                text_add_span(&offset, view->clock_offset < 0 ? -view->clock_offset : view->clock_offset);
                problem(w, n, "This host's clock is %s %s. Check: chronyc tracking.", offset.at,
                        view->clock_offset < 0 ? "fast" : "slow");
        }
        if (view->helpers_stuck > 0)
                problem(w, n,
                        "%u helper processes hang in the kernel; a file system or a name server does not "
                        "answer.",
                        view->helpers_stuck);
}

static unsigned put_problems(JsonWriter *w, const StatusView *view) {
        unsigned n = 0;

        json_begin_array(w, "problems");
        problems_of_host(w, view, &n);
        problems_of_ours(w, view, &n);
        json_end_array(w);
        return n;
}

static void put_headline(JsonWriter *w, const StatusView *view, Headline state) {
        Text what = {}, next = {}, act = {};

        say_what(&what, view, state);
        say_next(&next, view, state);
        say_do(&act, view, state);
        json_begin_object(w, "headline");
        json_string(w, "state", headline_names[state]);
        json_string(w, "what", what.at);
        json_string(w, "next", next.at);
        json_string(w, "do", act.at);
        json_end_object(w);
}

/* The rest */

static void put_verdict(JsonWriter *w, const StatusView *view) {
        const Core *core = view->core;
        const Verdict *verdict = &core->verdict;

        json_begin_object(w, "verdict");
        json_string(w, "cause", cause_to_string(verdict->cause));
        json_string(w, "fault", fault_to_string(verdict->fault));
        json_string(w, "sentence", cause_to_sentence(verdict->cause));
        json_bool(w, "down", verdict->down);
        json_bool(w, "enough", verdict->enough);
        put_ago(w, "for_seconds", view, core->cause_from);
        put_ago(w, "down_for_seconds", view, down_from(core));
        json_begin_array(w, "witnesses");
        for (Witness witness = 0; witness < WITNESS_N; witness++)
                if (verdict->witnesses & 1u << witness)
                        json_string(w, NULL, witness_to_string(witness));
        if (verdict->witnesses & 1u << WITNESS_N)
                json_string(w, NULL, "control plane");
        json_end_array(w);
        json_end_object(w);
}

static void put_stage(JsonWriter *w, const StatusView *view) {
        const Core *core = view->core;

        json_begin_object(w, "stage");
        json_string(w, "name", stage_to_string(core->stage));
        json_i64(w, "number", core->stage);
        put_ago(w, "for_seconds", view, core->stage_from);
        put_until(w, "due_in_seconds", view, core->due);
        json_i64(w, "looks_held", core->holds);
        json_bool(w, "repair_done", core->repair_done);
        json_end_object(w);

        json_begin_object(w, "grace");
        put_until(w, "ends_in_seconds", view, core_grace_end(core));
        json_bool(w, "dead", core->verdict.dead);
        json_end_object(w);
}

static void put_control_plane(JsonWriter *w, const StatusView *view) {
        const Core *core = view->core;
        bool asked = mono_is_known(core->checks.control_at);

        json_begin_object(w, "control_plane");
        json_bool(w, "asked", asked);
        if (asked) {
                json_bool(w, "connected", core->checks.control.connected);
                json_string(w, "status", control_status_to_string(core->checks.control.status));
        } else {
                json_null(w, "connected");
                json_null(w, "status");
        }
        put_ago(w, "age_seconds", view, core->checks.control_at);
        put_until(w, "next_in_seconds", view, core->confirm_at);
        json_i64(w, "confirmations", core->confirmations);
        json_string(w, "host", *view->control_host ? view->control_host : NULL);
        json_end_object(w);
}

static void put_brakes(JsonWriter *w, const StatusView *view) {
        json_begin_array(w, "brakes");
        for (unsigned i = 0; i < BRAKE_N; i++) {
                if (!(view->core->brakes & 1u << i))
                        continue;
                json_begin_object(w, NULL);
                json_string(w, "name", brake_table[i].name);
                put_until(w, "until_seconds", view, view->core->brake_until[i]);
                json_string(w, "doc", brake_table[i].doc);
                json_string(w, "advice", brake_advice[i] ? brake_advice[i] : "");
                json_end_object(w);
        }
        json_end_array(w);
}

static void put_population(JsonWriter *w, const char *name, const Population *population) {
        json_begin_object(w, name);
        json_i64(w, "members", population->members);
        json_i64(w, "sick", population->sick);
        json_end_object(w);
}

static const char *switch_to_string(Switch value) {
        switch (value) {
        case SWITCH_ON: return "on";
        case SWITCH_OFF: return "off";
        case SWITCH_NOT_UNDERSTOOD: return "not understood";
        case SWITCH_RESUME: return "resume";
        }
        return "?";
}

static void put_group_state(JsonWriter *w, uint32_t state) {
        static const char *const names[] = { "suspended", "refreshing", "moving", "operated", "deleting" };

        json_begin_array(w, "group_state");
        for (unsigned i = 0; i < ELEMENTSOF(names); i++)
                if (state & 1u << i)
                        json_string(w, NULL, names[i]);
        json_end_array(w);
}

/* What is counted against what, and whose turn it is. */
static void put_ledger(JsonWriter *w, const StatusView *view) {
        const Core *core = view->core;
        const Look *look = &core->look;
        Remembered remembered = recall_removals(&core->recall, look, core->policy.window, view->now.mono);

        json_i64(w, "removed_window", look->removed_window);
        json_i64(w, "removed_cluster", look->removed_cluster);
        json_i64(w, "removed_day", look->removed_day);
        json_i64(w, "remembered", remembered.group);
        json_i64(w, "budget", brake_budget(&core->policy, look->group_size, look->group_weighted));
        json_i64(w, "budget_cluster", brake_budget(&core->policy, look->cluster.members, false));
        json_i64(w, "budget_day", brake_day_budget(&core->policy, look->group_size, look->group_weighted));
        json_string(w, "replacement", replacement_to_string(look->replacement));
        json_bool(w, "young", look->young);
        json_string(w, "turn", turn_state_to_string(core->turn.state));
        json_bool(w, "slow_lane", core->slow_lane);
}

static void put_look(JsonWriter *w, const StatusView *view) {
        const Core *core = view->core;
        const Look *look = &core->look;

        if (!mono_is_known(core->looked_at)) {
                json_null(w, "look");
                return;
        }
        json_begin_object(w, "look");
        json_string(w, "outcome", outcome_to_string(look->outcome));
        json_string(w, "failed", look->failed == LOOK_WHOLE ? NULL : look_part_to_string(look->failed));
        put_ago(w, "age_seconds", view, core->looked_at);
        put_population(w, "cluster", &look->cluster);
        put_population(w, "group", &look->group);
        put_population(w, "zone", &look->zone);
        json_i64(w, "connected_peers", look->connected_peers);
        json_bool(w, "more_than_a_page", look->more_than_a_page);
        json_bool(w, "share_decided", look->share_decided);
        json_begin_object(w, "tags");
        json_string(w, "cluster", switch_to_string(look->tag_cluster));
        json_string(w, "group", switch_to_string(look->tag_group));
        json_end_object(w);
        put_group_state(w, look->group_state);
        json_i64(w, "group_size", look->group_size);
        put_ledger(w, view);
        json_string(w, "lifecycle", lifecycle_to_string(look->lifecycle));
        json_end_object(w);
}

static void put_size(JsonWriter *w, const char *name, uint32_t n) {
        if (n == 0)
                json_null(w, name);
        else
                json_i64(w, name, n);
}

static void put_sizes(JsonWriter *w, const StatusView *view) {
        json_begin_object(w, "sizes");
        put_size(w, "cluster", view->core->sizes.cluster);
        put_size(w, "group", view->core->sizes.group);
        json_end_object(w);
}

static void put_orphan(JsonWriter *w, const StatusView *view) {
        const Core *core = view->core;
        Right lacks = edges_orphan_lacks(core);
        char says[512];

        if (core->stage != STAGE_REMOVED && core->stage != STAGE_ENDING) {
                json_null(w, "orphan");
                return;
        }
        json_begin_object(w, "orphan");
        json_string(w, "action", orphan_action_to_string((OrphanAction) core->policy.orphan));
        json_bool(w, "deregister", core->policy.orphan_deregister);
        json_bool(w, "ended", core->record.ended);
        put_until(w, "due_in_seconds", view, core_end_due(core, view->now));
        json_string(w, "denied", lacks == RIGHT_N ? NULL : right_to_string(lacks));
        json_string(w, "says", edges_orphan(core, view->now, says, sizeof(says)));
        json_end_object(w);
}

/* Why there is none, where there is none at all. */
static const char *no_patrol(const Core *core) {
        if (!core->policy.patrol)
                return "switched off in the settings";
        if (core->policy.action == ACTION_OBSERVE)
                return "none, for action is observe";
        if (core->sizes.group == 1)
                return "none: the group has no other member";
        if (core->sizes.group == 0)
                return "not yet: how many hosts the group has is not known";
        return NULL;
}

static void say_resting(Text *text, const StatusView *view) {
        const Patrol *patrol = &view->core->patrol;

        if (!mono_is_known(patrol->due)) {
                text_add(text, "rests while this host is not well, not in service, paused or just booted");
        } else {
                text_add(text, "next search for frozen peers in ");
                text_add_span(text, mono_since(patrol->due, view->now.mono));
        }
        if (!*patrol->peer.instance_id)
                return;
        text_add(text, "; followed %s last", patrol->peer.instance_id);
        if (patrol->brakes != 0) {
                text_add(text, ", and let it go because of: ");
                text_add_brakes(text, patrol->brakes);
        }
}

static void say_patrol(Text *text, const StatusView *view) {
        static const char *const words[PATROL_STAGE_N] = {
                [PATROL_RESTING] = "",
                [PATROL_SWEEPING] = "lists the disconnected peers of the group",
                [PATROL_FINDING] = "looks for the first time at",
                [PATROL_WAITING] = "follows",
                [PATROL_LOOKING] = "looks again at",
                [PATROL_DRAINING] = "drains, on its behalf,",
                [PATROL_RECHECKING] = "has drained, and asks the brakes once more about,",
                [PATROL_DETACHING] = "takes out of the group, on its behalf,",
                [PATROL_VERIFYING] = "reads what has become of the removal of",
                [PATROL_UNDOING] = "takes back its drain of",
        };
        const Patrol *patrol = &view->core->patrol;
        const char *none = no_patrol(view->core);

        if (none && patrol->stage == PATROL_RESTING) {
                text_add(text, "%s", none);
                return;
        }
        if (patrol->stage == PATROL_RESTING) {
                say_resting(text, view);
                return;
        }
        text_add(text, "%s", words[patrol->stage]);
        if (patrol->stage == PATROL_SWEEPING)
                return;
        text_add(text, " %s", *patrol->peer.instance_id ? patrol->peer.instance_id : patrol->peer.arn);
        if (patrol->stage != PATROL_WAITING)
                return;
        text_add(text, ", found disconnected ");
        text_add_span(text, span_ago(view, patrol->found_at));
        text_add(text, " ago; looks again in ");
        text_add_span(text, mono_since(patrol->due, view->now.mono));
}

static void put_patrol(JsonWriter *w, const StatusView *view) {
        const Patrol *patrol = &view->core->patrol;
        const Confirmation *control = &view->core->checks.control;
        bool resting = patrol->stage == PATROL_RESTING,
             following = !resting && patrol->stage != PATROL_SWEEPING && patrol->stage != PATROL_FINDING;
        Text says = {};

        say_patrol(&says, view);
        json_begin_object(w, "patrol");
        json_bool(w, "enabled", view->core->policy.patrol);
        json_string(w, "stage", patrol_stage_to_string(patrol->stage));
        json_string(w, "says", says.at);
        json_i64(w, "sweeps", (int64_t) patrol->sweeps);
        json_i64(w, "removals", (int64_t) patrol->removals);
        put_until(w, "next_in_seconds", view, patrol->due);
        json_string(w, "peer", *patrol->peer.instance_id ? patrol->peer.instance_id : NULL);
        json_string(w, "peer_action", following ? action_to_string((Action) patrol->action) : NULL);
        put_ago(w, "found_seconds", view, following ? patrol->found_at : MONO_NEVER);
        json_begin_array(w, "held_by");
        for (unsigned i = 0; i < BRAKE_N; i++)
                if (resting && patrol->brakes & 1u << i)
                        json_string(w, NULL, brake_table[i].name);
        json_end_array(w);
        json_bool(w, "claimed", control->patrolled);
        put_time(w, "claimed_at", view, control->patrolled ? control->patrolled_at : WALL_NEVER);
        json_end_object(w);
}

static void put_record(JsonWriter *w, const StatusView *view) {
        const Record *record = &view->core->record;

        json_begin_object(w, "record");
        json_i64(w, "incident", (int64_t) record->incident);
        json_string(w, "stage", stage_to_string((Stage) record->stage));
        json_string(w, "cause", cause_to_string((Cause) record->cause));
        json_string(w, "action", action_to_string((Action) record->action));
        put_time(w, "opened", view, record->opened);
        put_time(w, "changed", view, record->changed);
        put_time(w, "closed", view, record->closed);
        put_time(w, "repaired", view, record->repaired);
        put_time(w, "detach_sent", view, record->detach_sent);
        json_bool(w, "drained", record->drained);
        json_bool(w, "marked", record->marked);
        json_i64(w, "removals", (int64_t) view->core->removals);
        json_end_object(w);
}

static void put_memory(JsonWriter *w, const Sample *sample) {
        const MemorySample *s = &sample->memory;

        if (sample->sight != SIGHT_CLEAR) {
                json_null(w, "memory");
                return;
        }
        json_begin_object(w, "memory");
        put_share(w, "used_percent", s->used);
        put_share(w, "available_percent", s->available);
        put_share(w, "swap_used_percent", s->swap_used);
        put_share(w, "pressure_some_percent", s->some);
        put_share(w, "pressure_full_percent", s->full);
        put_count(w, "oom_kills", s->oom_kills);
        json_end_object(w);
}

static void put_host(JsonWriter *w, const StatusView *view) {
        const Sample *samples = view->core->checks.samples;
        bool tasks = samples[WITNESS_INTROSPECTION].sight == SIGHT_CLEAR;
        Span ping = samples[WITNESS_DOCKER].docker.ping_time;

        json_begin_object(w, "host");
        put_memory(w, &samples[WITNESS_MEMORY]);
        json_begin_array(w, "disks");
        for (uint32_t i = 0; i < view->n_mounts; i++) {
                const DiskMount *mount = &view->mounts[i];

                json_begin_object(w, NULL);
                json_string(w, "path", mount->path);
                put_share(w, "used_percent", mount->used);
                put_share(w, "inodes_used_percent", mount->inodes_used);
                json_bool(w, "read_only", mount->read_only);
                json_bool(w, "hung", mount->hung);
                json_end_object(w);
        }
        json_end_array(w);
        put_count(
                w, "tasks_running", tasks ? samples[WITNESS_INTROSPECTION].introspection.tasks_running : -1);
        put_count(w, "tasks_stuck", tasks ? samples[WITNESS_INTROSPECTION].introspection.tasks_stuck : -1);
        put_count(w, "runtime_ping_milliseconds",
                samples[WITNESS_DOCKER].sight == SIGHT_CLEAR && ping >= 0 ? ping / SPAN_MSEC(1) : -1);
        json_end_object(w);
}

static void put_metrics(JsonWriter *w, const StatusView *view) {
        const PublisherState *published = view->published;

        json_begin_object(w, "metrics");
        json_string(w, "namespace", view->settings->name_space);
        json_i64(w, "sent", (int64_t) published->sent);
        json_i64(w, "waiting", (int64_t) published->waiting);
        json_i64(w, "dropped", (int64_t) published->dropped);
        json_i64(w, "failures", published->failures);
        put_time(w, "last_success", view, published->last_success);
        json_string(w, "problem", published->problem);
        json_end_object(w);
}

static void put_rights(JsonWriter *w, const StatusView *view) {
        json_begin_array(w, "rights");
        for (Right right = 0; right < RIGHT_N; right++) {
                uint8_t granted = view->core->rights.granted[right];

                json_begin_object(w, NULL);
                json_string(w, "name", right_to_string(right));
                json_string(w, "granted",
                        granted == GRANTED_YES  ? "yes"
                        : granted == GRANTED_NO ? "no"
                                                : "unknown");
                json_end_object(w);
        }
        json_end_array(w);
}

static void put_settings(JsonWriter *w, const StatusView *view) {
        const OptionProblems *problems = view->problems;

        json_begin_object(w, "settings");
        json_bool(w, "ok", problems->n == 0);
        json_string(w, "path", view->settings_path);
        json_string(w, "action", action_to_string((Action) view->core->policy.action));
        json_i64(w, "n_problems", problems->n);
        json_begin_array(w, "problems");
        for (unsigned i = 0; i < problems->n && i < OPTION_PROBLEMS_MAX; i++)
                json_string(w, NULL, problems->text[i]);
        json_end_array(w);
        json_end_object(w);
}

static void put_stack(JsonWriter *w, const StatusView *view) {
        const StackView *stack = view->stack;

        json_begin_object(w, "cloudformation");
        json_string(w, "state", stack_state_to_string(stack->state));
        json_string(w, "stack", stack->stack);
        json_string(w, "resource", stack->resource);
        json_bool(w, "by_role", stack->by_role);
        json_bool(w, "from_cache", stack->from_cache);
        put_time(w, "read", view, stack->read);
        if (stack->next.usec == MONO_INFINITE.usec)
                json_null(w, "next_seconds");
        else
                json_i64(w, "next_seconds",
                        span_max(mono_since(stack->next, view->now.mono), 0) / SPAN_SEC(1));
        json_string(w, "problem", stack->problem);
        json_end_object(w);
}

static void put_pause(JsonWriter *w, const StatusView *view) {
        const Pause *pause = view->pause;

        json_begin_object(w, "pause");
        json_bool(w, "paused", pause->paused);
        put_time(w, "since", view, pause->since);
        put_time(w, "until", view, pause->until);
        if (wall_is_set(pause->until))
                json_i64(w, "until_seconds",
                        span_max(wall_since(pause->until, view->now.wall), 0) / SPAN_SEC(1));
        else
                json_null(w, "until_seconds");
        json_string(w, "reason", pause->reason);
        json_string(w, "by", pause->by);
        json_end_object(w);
}

static const char *credentials_to_string(AwsCredentialsState state) {
        switch (state) {
        case AWS_CREDENTIALS_UNKNOWN: return "unknown";
        case AWS_CREDENTIALS_GOOD: return "good";
        case AWS_CREDENTIALS_STALE: return "stale";
        case AWS_CREDENTIALS_NO_ROLE: return "no_role";
        case AWS_CREDENTIALS_FAILED: return "failed";
        }
        return "?";
}

static void put_identity(JsonWriter *w, const StatusView *view) {
        const Target *target = view->target;

        json_begin_object(w, "identity");
        json_string(w, "instance_id", target->instance_id);
        json_string(w, "cluster", target->cluster);
        json_string(w, "group", target->group);
        json_string(w, "zone", target->zone);
        json_string(w, "container_instance", target->arn);
        json_string(w, "agent_version", view->agent_version);
        json_end_object(w);

        json_begin_object(w, "credentials");
        json_string(w, "state",
                view->keys_refused[0] != '\0' ? "refused" : credentials_to_string(view->credentials));
        json_string(w, "detail", view->credentials_detail);
        json_end_object(w);

        json_begin_object(w, "self");
        json_double(w, "clock_offset_seconds", (double) view->clock_offset / (double) SPAN_SEC(1));
        json_string(w, "journal_error", view->journal_error < 0 ? strerror(-view->journal_error) : NULL);
        json_string(w, "last_call", view->last_call);
        json_i64(w, "helpers_stuck", view->helpers_stuck);
        json_end_object(w);
}

void status_write(const StatusView *view, JsonWriter *w) {
        Headline state = headline(view);
        unsigned n_problems;

        json_begin_object(w, NULL);
        json_bool(w, "running", true);
        put_time(w, "time", view, view->now.wall);
        put_time(w, "started", view, view->started);
        json_string(w, "version", view->version);
        put_headline(w, view, state);
        n_problems = put_problems(w, view);
        json_bool(w, "ok", state <= HEADLINE_STARTING && n_problems == 0);
        put_verdict(w, view);
        put_stage(w, view);
        put_witnesses(w, view);
        put_control_plane(w, view);
        put_brakes(w, view);
        put_look(w, view);
        put_sizes(w, view);
        put_record(w, view);
        put_orphan(w, view);
        put_patrol(w, view);
        put_host(w, view);
        put_metrics(w, view);
        put_rights(w, view);
        put_settings(w, view);
        put_stack(w, view);
        put_pause(w, view);
        put_identity(w, view);
        json_end_object(w);
}
