/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Edges for the log: one record when something changes, none while it stays. */

#include "agent/decide/core.h"
#include "common/aws-call.h"

/** What was logged last, so that only changes are. */
typedef struct Edges {
        Sight sights[WITNESS_N];
        BrakeSet held;
        Stage stage;
        PatrolStage patrol;
        uint64_t patrol_removals;
        bool end_failed; /* an attempt to end this orphan has, and that was said */
} Edges;

/** edges_plan() - what a step has changed: verdict, stage, brakes, sight, patrol */
void edges_plan(Edges *edges, const Core *core, const Plan *plan, Now now);
/** edges_call() - a call of the act path and its answer */
void edges_call(const char *action, const AwsAnswer *answer);
/** edges_brakes() - names of the brakes in @set, joined by ", " */
const char *edges_brakes(BrakeSet set, char *buffer, size_t n_buffer);
/** edges_stage() - what a stage means, as a sentence for people */
const char *edges_stage(Stage stage);
/** edges_orphan() - what becomes of an instance that was removed, or why nothing does, as sentences. Return: @buffer. */
const char *edges_orphan(const Core *core, Now now, char *buffer, size_t n_buffer);
/** edges_orphan_lacks() - the right for want of which it cannot be ended; RIGHT_N: none is known to be missing */
Right edges_orphan_lacks(const Core *core);
