/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What befalls a fleet, as a table, with what must come of it. */

#include "tests/fleet/world.h"

/** Bounds of the figures; -1: none. Those of a run hold for each run. */
typedef struct Limits {
        int removals_min, removals_max; /* of a run */
        unsigned innocents;   /* of a million that an outage cuts off; without an outage always 0 */
        Span median, longest; /* time to removal, over all runs */
        int late_peak;        /* percent of the ECS read quota, in any minute after an outage's first ten */
} Limits;

typedef struct Scenario {
        const char *name, *doc;
        void (*configure)(Config *config, bool full);
        void (*begin)(World *world);
        Span span, span_full;
        unsigned runs, runs_full;
        Liveness liveness;
        Limits limits;
} Scenario;

extern const Scenario scenarios[];
extern const unsigned n_scenarios;
/** scenarios_missing - what the core cannot do yet, for the usage text */
extern const char *const scenarios_missing;
