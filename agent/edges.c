/* SPDX-License-Identifier: Apache-2.0 */

/* What the journal tells an operator: edges, each with the fields that a query may want. */

#include "agent/edges.h"

#include <string.h>

#include "agent/messages.h"
#include "common/log.h"
#include "common/parse.h"

const char *edges_brakes(BrakeSet set, char *buffer, size_t n_buffer) {
        size_t n = 0;

        buffer[0] = '\0';
        for (unsigned i = 0; i < BRAKE_N && n < n_buffer; i++)
                if ((set & (1u << i)) != 0)
                        n += (size_t) snprintf(
                                buffer + n, n_buffer - n, "%s%s", n > 0 ? ", " : "", brake_table[i].name);
        return buffer;
}

static void log_verdict(const Core *core) {
        const Verdict *verdict = &core->verdict;
        /* A reconnect of a second, several times an hour, is normal life; what comes of a longer one, the stages tell. */
        bool telling =
                verdict->fault == FAULT_INTENDED || verdict->fault == FAULT_OURS || core_incident_open(core);

        log_event(telling ? LOG_NOTICE : LOG_INFO, MESSAGE_VERDICT,
                (const LogField[]){
                        { "HEALTH_CAUSE", .text = cause_to_string(verdict->cause) },
                        { "HEALTH_FAULT", .text = fault_to_string(verdict->fault) },
                        { "HEALTH_WITNESSES", .number = verdict->witnesses },
                        {},
                },
                "%s (cause %s, fault %s)", cause_to_sentence(verdict->cause),
                cause_to_string(verdict->cause), fault_to_string(verdict->fault));
}

/* What a stage means to somebody who reads the journal at night. */
static const char *const stage_sentences[STAGE_N] = {
        [STAGE_WATCHING] = "Watching.",
        [STAGE_GRACE] = "Grace begins: nothing is done unless it stays so.",
        [STAGE_LOOKING] = "Grace is over, or nearly: looking at ECS and the group before anything is done.",
        [STAGE_HELD] = "Held: a brake stops the removal of this instance.",
        [STAGE_REPAIRING] = "Local repair first: restarting the ECS agent's service.",
        [STAGE_TURN] = "Nothing but the turn is waited for; another look follows before anything is done.",
        [STAGE_DRAINING] = "Setting the container instance to DRAINING.",
        [STAGE_RECHECKING] = "Drained; asking the brakes once more.",
        [STAGE_DETACHING] = "Taking this instance out of service in its Auto Scaling group.",
        [STAGE_VERIFYING] = "Reading what has become of the removal.",
        [STAGE_UNDOING] = "Undoing our own drain.",
        [STAGE_REMOVED] =
                "This instance is out of service in its Auto Scaling group, which launches a replacement.",
        [STAGE_ENDING] =
                "This instance is being ended, as the settings say: deregistered, stopped, or terminated.",
};

const char *edges_stage(Stage stage) {
        return stage_sentences[stage];
}

/* An end that fails is tried again and again: its stages are told once, its outcome by log_orphan(). */
static bool is_told(const Edges *edges, const Core *core) {
        return (core->stage == STAGE_ENDING && edges->end_failed) ||
               (core->stage == STAGE_REMOVED && edges->stage == STAGE_ENDING);
}

static void log_stage(const Core *core) {
        log_event(core->stage >= STAGE_HELD    ? LOG_WARNING
                  : core->stage == STAGE_GRACE ? LOG_INFO
                                               : LOG_NOTICE,
                core->stage == STAGE_REMOVED ? MESSAGE_REMOVED : MESSAGE_STAGE,
                (const LogField[]){
                        { "HEALTH_STAGE", .text = stage_to_string(core->stage) },
                        { "HEALTH_CAUSE", .text = cause_to_string(core->verdict.cause) },
                        { "HEALTH_INCIDENT", .number = (int64_t) core->record.incident },
                        {},
                },
                "%s (stage %s, incident %llu)", stage_sentences[core->stage], stage_to_string(core->stage),
                (unsigned long long) core->record.incident);
}

static void log_held(const Core *core, Now now) {
        char names[256], wait[FORMAT_SPAN_MAX];

        log_event(LOG_WARNING, MESSAGE_HELD,
                (const LogField[]){
                        { "HEALTH_BRAKES", .text = edges_brakes(core->brakes, names, sizeof(names)) },
                        { "HEALTH_INCIDENT", .number = (int64_t) core->record.incident },
                        {},
                },
                "Not removing this instance, because of: %s. Next look in %s.", names,
                format_span(wait, span_max(0, mono_since(core->due, now.mono))));
}

static void log_sights(Edges *edges, const Core *core) {
        for (unsigned i = 0; i < WITNESS_N; i++) {
                Sight sight = core->checks.samples[i].sight;

                if (sight == edges->sights[i])
                        continue;
                log_event(sight == SIGHT_CLEAR || sight == SIGHT_OFF ? LOG_INFO : LOG_WARNING,
                        MESSAGE_WITNESS,
                        (const LogField[]){
                                { "HEALTH_WITNESS", .text = witness_to_string(i) },
                                { "HEALTH_SIGHT", .text = sight_to_string(sight) },
                                {},
                        },
                        "Witness %s: %s.", witness_to_string(i), sight_to_string(sight));
                edges->sights[i] = sight;
        }
}

/* --- the orphan's end -------------------------------------------------------------------------------------------- */

Right edges_orphan_lacks(const Core *core) {
        const Policy *policy = &core->policy;
        bool detached = core->record.action == ACTION_DETACH;
        Right end = policy->orphan == ORPHAN_STOP ? RIGHT_EC2_STOP : RIGHT_EC2_TERMINATE;

        if (core->record.action == ACTION_STANDBY)
                return RIGHT_N;
        if (policy->orphan_deregister && core->rights.granted[RIGHT_ECS_DEREGISTER] == GRANTED_NO)
                return RIGHT_ECS_DEREGISTER;
        if (detached && policy->orphan != ORPHAN_KEEP && core->rights.granted[end] == GRANTED_NO)
                return end;
        return RIGHT_N;
}

/* What the settings want of it: "deregistered and stopped"; "" nothing. */
static const char *end_words(const Core *core) {
        static const char *const words[ORPHAN_ACTION_N][2] = {
                [ORPHAN_KEEP] = { "", "deregistered" },
                [ORPHAN_STOP] = { "stopped", "deregistered and stopped" },
                [ORPHAN_TERMINATE] = { "terminated", "deregistered and terminated" },
        };
        OrphanAction action =
                core->record.action == ACTION_DETACH ? (OrphanAction) core->policy.orphan : ORPHAN_KEEP;

        return words[action][core->policy.orphan_deregister];
}

/* How long until its end; while the metadata service still shows it in its group, the core does not know. */
static Span end_wait(const Core *core, Now now) {
        Mono due = core_end_due(core, now);
        Span left = due.usec == MONO_INFINITE.usec
                            ? wall_since(wall_add(core->record.closed, core->policy.orphan_after), now.wall)
                            : mono_since(due, now.mono);

        return span_max(0, left) / SPAN_SEC(1) * SPAN_SEC(1);
}

/* When it is ended, or why not. */
static void say_delay(const Core *core, Now now, char *buffer, size_t n_buffer) {
        const char *words = end_words(core);
        Right lacks = edges_orphan_lacks(core);
        char wait[FORMAT_SPAN_MAX], missing[128] = "";
        Span left = end_wait(core, now);

        if (lacks != RIGHT_N)
                (void) snprintf(missing, sizeof(missing), " The role is denied %s.", right_to_string(lacks));
        if (core->policy.action == ACTION_OBSERVE)
                (void) snprintf(
                        buffer, n_buffer, "It would be %s, but the settings say action: observe.", words);
        else if (core->paused_until.usec == MONO_INFINITE.usec)
                (void) snprintf(buffer, n_buffer,
                        "It would be %s, but this host is paused until it is resumed.", words);
        else if (mono_before(now.mono, core->paused_until))
                (void) snprintf(buffer, n_buffer, "It is %s when the pause is over, in %s at the soonest.%s",
                        words, format_span(wait, left), missing);
        else if (mono_is_set(core->end_at))
                (void) snprintf(buffer, n_buffer,
                        "It should have been %s; that has not worked, and is tried again in %s.%s", words,
                        format_span(wait, left), missing);
        else if (core->record.action != ACTION_DETACH || left == 0)
                (void) snprintf(buffer, n_buffer, "It is %s next.%s", words, missing);
        else
                (void) snprintf(buffer, n_buffer, "It is %s in %s (orphan.after).%s", words,
                        format_span(wait, left), missing);
}

static void say_ended(const Core *core, char *buffer, size_t n_buffer) {
        const char *then = "";

        if (core->record.action == ACTION_DETACH)
                then = core->policy.orphan == ORPHAN_KEEP
                               ? " It runs on, and is billed until somebody terminates it."
                               : " If it runs on, somebody has started it, and it is left alone.";
        (void) snprintf(buffer, n_buffer, "It was %s.%s", end_words(core), then);
}

const char *edges_orphan(const Core *core, Now now, char *buffer, size_t n_buffer) {
        const char *words = end_words(core), *theirs = "";
        size_t n;

        buffer[0] = '\0';
        if (core->record.action == ACTION_STANDBY) {
                (void) snprintf(buffer, n_buffer, "It stays on standby until an operator decides.");
                return buffer;
        }
        if (core->record.action == ACTION_UNHEALTHY)
                theirs = "Its group terminates it. ";
        n = (size_t) snprintf(buffer, n_buffer, "%s", theirs);
        if (n >= n_buffer)
                return buffer;
        if (core->stage == STAGE_ENDING)
                (void) snprintf(buffer + n, n_buffer - n, "It is being %s.", words);
        else if (core->record.ended)
                say_ended(core, buffer + n, n_buffer - n);
        else if (*words)
                say_delay(core, now, buffer + n, n_buffer - n);
        else if (core->record.action == ACTION_DETACH)
                (void) snprintf(buffer + n, n_buffer - n,
                        "It is kept as it is (orphan.action: keep), and billed until somebody terminates "
                        "it.");
        return buffer;
}

static void log_orphan(Edges *edges, const Core *core, Now now) {
        char text[512];

        if (core->record.ended) {
                log_event(LOG_NOTICE, MESSAGE_ORPHAN,
                        (const LogField[]){
                                { "HEALTH_ORPHAN", .text = "ended" },
                                { "HEALTH_INCIDENT", .number = (int64_t) core->record.incident },
                                {},
                        },
                        "This instance, removed from its group before, is %s: done.", end_words(core));
                edges->end_failed = false;
                return;
        }
        if (edges->end_failed)
                return;
        edges->end_failed = true;
        log_event(LOG_WARNING, MESSAGE_ORPHAN,
                (const LogField[]){
                        { "HEALTH_ORPHAN", .text = "failed" },
                        { "HEALTH_INCIDENT", .number = (int64_t) core->record.incident },
                        {},
                },
                "This instance is out of its group, but could not be ended. %s",
                edges_orphan(core, now, text, sizeof(text)));
}

/* --- patrol ------------------------------------------------------------------------------------------------------ */

typedef struct PatrolWords {
        const char *what; /* HEALTH_PATROL; NULL: nothing to tell */
        int level;
        const char *text;
} PatrolWords;

static PatrolWords patrol_let_go(const Edges *edges, const Core *core) {
        static const PatrolWords passed = { "passed", LOG_INFO, "is disconnected, and is left alone" };
        static const PatrolWords released = { "let_go", LOG_NOTICE, "is no longer followed" };
        static const PatrolWords removed = { "removed", LOG_WARNING,
                "has been taken out of the group on its behalf" };
        static const PatrolWords undone = { "undone", LOG_WARNING,
                "was not removed after all, and our drain of it is undone" };
        static const PatrolWords left = { "left", LOG_NOTICE,
                "is left to another host, which has taken it over" };

        if (core->patrol.removals > edges->patrol_removals)
                return removed;
        switch (edges->patrol) {
        case PATROL_FINDING: return passed;
        case PATROL_WAITING:
        case PATROL_LOOKING: return released;
        case PATROL_UNDOING: return undone;
        case PATROL_DRAINING:
        case PATROL_RECHECKING:
        case PATROL_DETACHING:
        case PATROL_VERIFYING: return left;
        case PATROL_RESTING:
        case PATROL_SWEEPING: break;
        }
        return (PatrolWords){};
}

static PatrolWords patrol_words(const Edges *edges, const Core *core) {
        static const PatrolWords found = { "found", LOG_INFO,
                "is disconnected; if it stays so, and does not help itself, it is removed on its behalf" };
        static const PatrolWords draining = { "draining", LOG_WARNING,
                "does not help itself: setting its container instance to DRAINING" };
        static const PatrolWords removing = { "removing", LOG_WARNING,
                "is drained: taking it out of the group" };
        static const PatrolWords undoing = { "undoing", LOG_WARNING,
                "is not to be removed any more: undoing our drain of it" };

        switch (core->patrol.stage) {
        case PATROL_RESTING: return patrol_let_go(edges, core);
        case PATROL_WAITING: return edges->patrol == PATROL_FINDING ? found : (PatrolWords){};
        case PATROL_DRAINING: return draining;
        case PATROL_DETACHING: return removing;
        case PATROL_UNDOING: return undoing;
        case PATROL_SWEEPING:
        case PATROL_FINDING:
        case PATROL_LOOKING:
        case PATROL_RECHECKING:
        case PATROL_VERIFYING: break;
        }
        return (PatrolWords){};
}

static void log_patrol(const Edges *edges, const Core *core) {
        const Patrol *patrol = &core->patrol;
        PatrolWords words = patrol_words(edges, core);
        BrakeSet brakes = patrol->stage == PATROL_RESTING ? patrol->brakes : 0;
        char names[256];

        if (!words.what)
                return;
        log_event(words.level, MESSAGE_PATROL,
                (const LogField[]){
                        { "HEALTH_PATROL", .text = words.what },
                        { "HEALTH_PEER", .text = patrol->peer.instance_id },
                        { "HEALTH_BRAKES", .text = edges_brakes(brakes, names, sizeof(names)) },
                        {},
                },
                "Patrol: %s %s%s%s.", patrol->peer.instance_id, words.text,
                brakes != 0 ? ", because of: " : "", names);
}

/* --- a step ------------------------------------------------------------------------------------------------------ */

void edges_plan(Edges *edges, const Core *core, const Plan *plan, Now now) {
        log_sights(edges, core);
        if (plan->verdict_changed)
                log_verdict(core);
        if (plan->stage_changed && !is_told(edges, core))
                log_stage(core);
        if (core->stage == STAGE_REMOVED && edges->stage == STAGE_ENDING)
                log_orphan(edges, core, now);
        if (core->stage != STAGE_REMOVED && core->stage != STAGE_ENDING)
                edges->end_failed = false;
        edges->stage = core->stage;
        if (core->patrol.stage != edges->patrol)
                log_patrol(edges, core);
        edges->patrol = core->patrol.stage;
        edges->patrol_removals = core->patrol.removals;
        if (core->stage == STAGE_HELD && core->brakes != edges->held)
                log_held(core, now);
        edges->held = core->stage == STAGE_HELD ? core->brakes : 0;
}

void edges_call(const char *action, const AwsAnswer *answer) {
        bool ok = answer->outcome == AWS_OK;

        log_event(ok ? LOG_INFO : LOG_WARNING, MESSAGE_CALL,
                (const LogField[]){
                        { "HEALTH_ACTION", .text = action },
                        { "HEALTH_OUTCOME", .text = aws_outcome_to_string(answer->outcome) },
                        { "HEALTH_ERROR_CODE", .text = answer->code },
                        { "HEALTH_REQUEST_ID", .text = answer->request_id },
                        {},
                },
                "%s: %s%s%s%s%s%s%s", action, aws_outcome_to_string(answer->outcome),
                answer->code[0] != '\0' ? ", " : "", answer->code, answer->message[0] != '\0' ? ": " : "",
                answer->message, answer->request_id[0] != '\0' ? ", request " : "", answer->request_id);
}
