/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What earlier looks have seen. A peer that was sick and InService and is no longer InService has been removed, whether
 * its activity or its mark shows already or not. Kept in the process alone: after a restart an incident begins with grace
 * anew, and by then activities and marks show what happened before it. The drain that a restart interrupts is the
 * exception; its own mark has stood since before the restart, so others count it as removed meanwhile.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/decide/look.h"
#include "common/clock.h"

#define RECALL_PEERS_MAX 128

typedef struct RecallPeer {
        uint64_t id;  /* turn_id() */
        Mono since;   /* first seen so in a row of looks; MONO_NEVER: it has been missed since */
        Mono sick;    /* last seen sick and InService; MONO_NEVER: the place is free */
        Mono removed; /* first seen to be no longer InService; MONO_NEVER: it is not */
        bool ours;    /* of our own group */
} RecallPeer;

typedef struct Recall {
        RecallPeer peers[RECALL_PEERS_MAX];
        Mono returned; /* when one that had been sick for two looks was last found to be so no longer */
} Recall;

/** Removals that the look's own ledger does not tell of. */
typedef struct Remembered {
        uint32_t group, cluster; /* not told of by the ledger of the group, and of the cluster */
        Mono frees;              /* when the first of them leaves the window; MONO_NEVER: there is none */
} Remembered;

/** recall_take() - take a look in, and forget what is older than @window */
void recall_take(Recall *recall, const Look *look, Span window, Mono now);
/** recall_removals() - those that @look does not count */
Remembered recall_removals(const Recall *recall, const Look *look, Span window, Mono now);
