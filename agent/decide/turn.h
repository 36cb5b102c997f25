/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Turns. Time is cut into slots of one length by the services' clock, the same for every host. In slot k only the sick
 * peer with the least hash(instance, k) may act, and only in the slot's first quarter: whatever it does is visible
 * to the owner of the next slot before that one acts. No messages, no leader; a crash or a restart changes nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"

/** Whether it is our turn. */
typedef enum TurnState {
        TURN_LONE,    /* nobody else is sick: no turn is needed */
        TURN_OURS,    /* our slot, in its first quarter */
        TURN_LATE,    /* our slot, but its first quarter is over */
        TURN_OTHERS,  /* another's slot */
        TURN_UNKNOWN, /* the services' clock is not known */
} TurnState;
#define TURN_STATE_N (TURN_UNKNOWN + 1)

typedef struct Turn {
        TurnState state;
        int64_t slot; /* the present one */
        Wall next; /* beginning of our next slot after the present one; WALL_NEVER: not soon, or none is needed */
} Turn;

/** turn_id() - an EC2 instance id as a number; the same on every host */
uint64_t turn_id(const char *instance_id);
/** turn_slot() - number of the slot of length @turn at @at */
int64_t turn_slot(Wall at, Span turn);
/** turn_owner() - whose slot @slot is: of @self and the @n others; @peers may hold @self */
uint64_t turn_owner(const uint64_t *peers, size_t n, uint64_t self, int64_t slot);
/** turn_next() - beginning of our first slot that does not begin before @from; WALL_NEVER: not soon */
Wall turn_next(const uint64_t *peers, size_t n, uint64_t self, Wall from, Span turn);
/** turn_judge() - where @self stands at @at, by the services' clock */
Turn turn_judge(const uint64_t *peers, size_t n, uint64_t self, Wall at, Span turn);

const char *turn_state_to_string(TurnState state);
