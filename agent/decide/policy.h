/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The settings that the core decides by. Types are those of common/options.h, so that the option table fills them. */

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"

typedef enum Action {
        ACTION_OBSERVE,   /* everything but acting and repairing */
        ACTION_DETACH,    /* out of the group; it lives on as an orphan */
        ACTION_UNHEALTHY, /* the group is told to terminate and replace it */
        ACTION_STANDBY,   /* stays in the group, out of service, until an operator decides */
} Action;
#define ACTION_N (ACTION_STANDBY + 1)

/** What becomes of an instance that was detached. */
typedef enum OrphanAction {
        ORPHAN_KEEP,
        ORPHAN_STOP, /* one that cannot be stopped (Spot, instance store) is terminated */
        ORPHAN_TERMINATE,
} OrphanAction;
#define ORPHAN_ACTION_N (ORPHAN_TERMINATE + 1)

/* Causes that count like a lost connection: bits of Policy.also_act_on. */
#define ALSO_DOCKER         (1u << 0)
#define ALSO_DISK_READ_ONLY (1u << 1)
#define ALSO_DISK_FULL      (1u << 2)
#define ALSO_MEMORY         (1u << 3)

/** A count or a share of something; -1: not given. */
typedef struct Amount {
        int64_t count;
        int64_t share; /* hundredths of a percent */
} Amount;

typedef struct Policy {
        unsigned action; /* Action */
        Span grace;      /* disconnected this long without a break before anything is done */
        Span grace_dead; /* the same when the agent's process is dead, hung, or has exited */
        bool drain;
        Span cooldown; /* between two incidents of this host */
        bool act_if_never_registered;
        uint32_t also_act_on; /* ALSO_* */

        bool repair;
        Span repair_wait;
        Span confirm_before; /* the first question to ECS comes this long before the end of grace */

        Span wedged_after; /* DOWN with no line of a retry for this long */
        Span silent_after; /* no sign of a connection in the log for this long */

        int64_t max_sick; /* hundredths of a percent */
        Amount max_actions;
        Amount max_per_day; /* -1, -1: the larger of 2 and 10 % of the group */
        Span window;
        Span turn; /* length of a slot; two looks lie half to five sixths of a turn apart; one counts for 1.5 turns */
        Span settle;
        Span boot_grace;

        unsigned orphan; /* OrphanAction */
        Span orphan_after;
        bool orphan_deregister; /* with force: its tasks are replaced elsewhere */

        bool patrol;
        Span patrol_every; /* the group as a whole asks so often */
        Span patrol_after; /* a peer must have been found disconnected this long */

        bool external; /* ECS_EXTERNAL in the agent's settings: not an EC2 instance, never acted on */
} Policy;

const char *action_to_string(Action action);
const char *orphan_action_to_string(OrphanAction action);
