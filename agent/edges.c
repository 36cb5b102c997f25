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
        [STAGE_LOOKING] =
                "Grace is over: looking at ECS and the Auto Scaling group before anything is done.",
        [STAGE_HELD] = "Held: a brake stops the removal of this instance.",
        [STAGE_REPAIRING] = "Local repair first: restarting the ECS agent's service.",
        [STAGE_TURN] = "Nothing but the turn is waited for; another look follows before anything is done.",
        [STAGE_DRAINING] = "Setting the container instance to DRAINING.",
        [STAGE_RECHECKING] = "Drained; asking the brakes once more.",
        [STAGE_DETACHING] = "Detaching this instance from its Auto Scaling group.",
        [STAGE_VERIFYING] = "Reading what has become of the detach.",
        [STAGE_UNDOING] = "Undoing our own drain.",
        [STAGE_REMOVED] =
                "This instance is out of its Auto Scaling group; a replacement is the group's affair now.",
};

const char *edges_stage(Stage stage) {
        return stage_sentences[stage];
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

void edges_plan(Edges *edges, const Core *core, const Plan *plan, Now now) {
        log_sights(edges, core);
        if (plan->verdict_changed)
                log_verdict(core);
        if (plan->stage_changed)
                log_stage(core);
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
