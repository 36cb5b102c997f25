/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What befalls a fleet, as a table, with what must come of it. */

#include "tests/fleet/world.h"

/** What must become of those that were removed. */
typedef enum Ended {
        ENDED_EITHER,
        ENDED_ALL,  /* each has deregistered itself */
        ENDED_NONE, /* none has */
} Ended;

/** Bounds of the figures; 0: none. Those of a run hold for each run. */
typedef struct Limits {
        bool counted;                       /* the next two mean something */
        int32_t removals_min, removals_max; /* of a run */
        unsigned innocents;   /* of a million that an outage cuts off; without an outage always 0 */
        Span median, longest; /* time to removal, over all runs */
        const char *than;     /* the median is at most .later above that of this scenario */
        Span later;
        unsigned late_peak; /* percent of the ECS read quota, in any minute after an outage's first ten */
        unsigned reads;     /* of ECS, in hundredths a second, on average */
        Ended ended;
} Limits;

typedef struct Scenario {
        const char *name, *doc;
        const char *row; /* its name in the manual's table; NULL: not there */
        void (*configure)(Config *config, bool full);
        void (*begin)(World *world);
        Span span, span_full;
        unsigned runs, runs_full;
        Liveness liveness;
        Limits limits;
} Scenario;

extern const Scenario scenarios[];
extern const unsigned n_scenarios;
