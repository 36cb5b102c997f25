/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Brakes: a table of { name, holds(), doc }. All are asked, and all that hold are reported; one is enough to stop. One
 * that cannot be evaluated is "blind", and holds.
 */

#include "agent/decide/look.h"
#include "agent/decide/policy.h"
#include "agent/decide/recall.h"
#include "agent/decide/turn.h"
#include "agent/decide/verdict.h"

typedef enum Brake {
        BRAKE_GRACE,
        BRAKE_CONFIRM,
        BRAKE_RIGHTS,
        BRAKE_OBSERVE,
        BRAKE_PAUSED,
        BRAKE_BOOT_GRACE,
        BRAKE_COOLDOWN,
        BRAKE_OFF,
        BRAKE_GROUP,
        BRAKE_SHARE,
        BRAKE_SETTLE,
        BRAKE_PATH,
        BRAKE_BUDGET,
        BRAKE_LOOP,
        BRAKE_REPLACEMENT,
        BRAKE_TURN,
        BRAKE_BLIND,
} Brake;
#define BRAKE_N (BRAKE_BLIND + 1)

typedef uint32_t BrakeSet; /* bits (1 << Brake) */

/** Everything that the brakes judge by. Lent for the length of the call. */
typedef struct BrakeInput {
        Now now;
        const Policy *policy;
        const Verdict *verdict;
        const Look *look; /* NULL: none has been made, or none that is fresh: those that need it are blind */
        const Rights *rights;
        bool grace_over;
        Mono grace_end;         /* MONO_NEVER: not known */
        unsigned confirmations; /* agentConnected=false, in a row, since grace began */
        Mono confirm_until;     /* before this they are too close to each other; MONO_NEVER: they are not */
        Mono paused_until;      /* MONO_NEVER: not paused */
        Mono boot_grace_until;
        Mono cooldown_until;   /* MONO_NEVER: none */
        Mono settle_until;     /* share held or moved lately; MONO_NEVER: not */
        unsigned clear_looks;  /* looks in a row at which share did not hold */
        bool share_moved;      /* the cluster's sick count still moves between looks */
        PathAnswer path;       /* as of the last 3 min */
        bool settling;         /* share has held or moved in this incident: settle applies */
        Turn turn;             /* whose turn it is, as of the look */
        Remembered remembered; /* removals that only our memory of earlier looks tells of */
        bool looped;           /* this incident began on a young replacement */
        bool released;         /* somebody has resumed this host since: loop does not hold */
        Wall service_now;      /* the services' clock; WALL_NEVER: not known */
} BrakeInput;

typedef struct BrakeRow {
        const char *name; /* as in metrics, attributes and status: "share" */
        bool (*holds)(const BrakeInput *input, Mono *until); /* @until: set if the end is known */
        const char *doc;                                     /* one sentence for people */
} BrakeRow;

extern const BrakeRow brake_table[BRAKE_N];

/** brakes_ask() - ask all. @until: array of BRAKE_N, MONO_NEVER where the end is not known; may be NULL. */
BrakeSet brakes_ask(const BrakeInput *input, Mono *until);

/** brake_switch_is_off() - whether a tag's value stops us; one that is not understood does */
bool brake_switch_is_off(Switch tag);
/** brake_share_holds() - the numbers of one look alone; for act/ as well, which stops a look that share decides */
bool brake_share_holds(const Look *look, int64_t max_sick);
/** brake_population_holds() - one population: more than two and more than @max_sick, or all of at least two */
bool brake_population_holds(const Population *population, int64_t max_sick);
/** brake_budget() - how many removals a group, or a cluster, of @size may have within the window */
uint32_t brake_budget(const Policy *policy, uint32_t size, bool weighted);
/** brake_day_budget() - how many removals a group of @size may have in 24 h */
uint32_t brake_day_budget(const Policy *policy, uint32_t size, bool weighted);
