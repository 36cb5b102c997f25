/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The trace of an incident: what core_step() was given and what it planned, for `explain` and `replay`.
 *
 * Nothing is kept while the host is well. From the start of grace on every step is kept in memory; when an incident
 * opens, that goes to incidents/NUMBER.trace, and further steps follow while the incident lasts. Where nothing of
 * interest happens for long, the steps between are left out, and a copy of the core stands for them. A file that
 * cannot be written is given up for that incident; deciding and acting never wait for it.
 *
 * Format: a line of JSON for each thing. Members that are 0, false or "" are left out; a number beyond 2^53 is a text.
 *
 *   {"trace":1,"version":..,"incident":..,"instance":..,..}   first; once more after each restart of the daemon
 *   {"core":{..}}                                             the whole core, before the next step: settings and seed too
 *   {"t":..,"w":..,"event":{..},"plan":{..},"after":{..}}     one step: both clocks, what came in, what was planned, and,
 *                                                             where something has changed, where it stands then
 *   {"t":..,"w":..,"call":{..}}                               one call to AWS and its answer
 *   {"cut":true}                                              the file was full: what stood here is lost
 */

#include "agent/act/target.h"
#include "agent/decide/core.h"
#include "common/cleanup.h"
#include "common/json.h"

#define TRACE_DIRECTORY     "/var/lib/ecs-health-agent/incidents"
#define TRACE_SUFFIX        ".trace"
#define TRACE_VERSION       1
#define TRACE_INCIDENTS_MAX 20
#define TRACE_TOTAL_MAX     ((size_t) 1024 * 1024) /* of all files */
#define TRACE_FILE_MAX      ((size_t) 160 * 1024)
#define TRACE_LINE_MAX      ((size_t) 64 * 1024)

/** Where the core stands after a step. */
typedef struct TraceAfter {
        Stage stage;
        Cause cause;
        Fault fault;
        uint32_t witnesses; /* as Verdict.witnesses */
        BrakeSet brakes;
        uint64_t incident;
        Mono ill_from, grace_end, due; /* MONO_NEVER, MONO_INFINITE: not known */
} TraceAfter;

typedef struct TraceHeader {
        char version[32]; /* of the program */
        uint64_t incident;
        Target target;
} TraceHeader;

typedef struct TraceCall {
        char action[96];
        char answer[512]; /* outcome, code and message in words */
        char request_id[128];
} TraceCall;

typedef enum TraceLineType {
        TRACE_HEADER,
        TRACE_CORE,
        TRACE_STEP,
        TRACE_CALL,
        TRACE_CUT,
} TraceLineType;

typedef struct TraceLine {
        TraceLineType type;
        Now now; /* STEP, CALL */
        TraceHeader header;
        Core core;
        Event event;
        Plan plan;
        TraceAfter after;
        bool has_after;
        TraceCall call;
} TraceLine;

typedef struct Trace Trace;

/** trace_new() - @directory: file_root() applied; copied; made when it is needed */
int trace_new(Trace **ret, const char *directory);
Trace *trace_free(Trace *trace);
DEFINE_CLEANUP(Trace, trace_free)

/** trace_before() - note the core before a step */
void trace_before(Trace *trace, const Core *core);
/** trace_after() - note the step; after the plan has been carried out, so that acting does not wait for it */
void trace_after(
        Trace *trace, const Event *event, Now now, const Plan *plan, const Core *core, const Target *target);
/** trace_call() - note a call to AWS, while an incident is open */
void trace_call(Trace *trace, const TraceCall *call, Now now);

/** trace_where() - what of the core a step's line tells */
TraceAfter trace_where(const Core *core);

/*
 * The pure parts: one line each way. @writer is appended to, with a line break; its first error sticks.
 * trace_parse(): 0; -EBADMSG; -EPROTONOSUPPORT: a header of another format; -ENOMEM. @ret is set on success only. A
 * member that is not known is a later version's, and ignored.
 */
void trace_write_header(JsonWriter *writer, const TraceHeader *header);
void trace_write_core(JsonWriter *writer, const Core *core);
void trace_write_step(
        JsonWriter *writer, const Event *event, Now now, const Plan *plan, const TraceAfter *after);
void trace_write_call(JsonWriter *writer, const TraceCall *call, Now now);
int trace_parse(const char *text, size_t n, TraceLine *ret);

/** trace_plan_write() - a plan alone, as JSON, to compare and to show; @now: its wake is told from there */
void trace_plan_write(JsonWriter *writer, const Plan *plan, Now now);
