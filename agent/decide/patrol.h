/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Patrol: an instance can freeze so hard that its own agent is frozen too, so the healthy ones of its group look after
 * it. At times drawn for the group as a whole one of them lists the group's disconnected. A peer that says of itself
 * that it may be acted for, and stays disconnected for patrol.after, is drained and removed on its behalf: in the second half
 * of its own slot, under the brakes that it would ask itself, by looks made as if by it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/decide/look.h"
#include "common/clock.h"

typedef enum PatrolStage {
        PATROL_RESTING,
        PATROL_SWEEPING,   /* listing */
        PATROL_FINDING,    /* the first look at a peer */
        PATROL_WAITING,    /* for patrol.after, then for its slot */
        PATROL_LOOKING,    /* a later look */
        PATROL_DRAINING,   /* its container instance goes to DRAINING, with our claim */
        PATROL_RECHECKING, /* drained; the brakes are asked again */
        PATROL_DETACHING,  /* the removal is on its way */
        PATROL_VERIFYING,  /* its outcome is being read */
        PATROL_UNDOING,    /* our drain is being undone */
} PatrolStage;
#define PATROL_STAGE_N (PATROL_UNDOING + 1)

/** Patrol's part of the core. */
typedef struct Patrol {
        PatrolStage stage;
        Mono due;          /* what the stage waits for; MONO_INFINITE: nothing */
        uint32_t awaiting; /* ticket of the effect whose answer is awaited; 0: none */
        Mono answer_due;
        unsigned throttled; /* sweeps in a row that were refused: the pace halves with each */
        PeerName peer;
        unsigned action; /* Action that it says it would take */
        Mono found_at;   /* at the first look */
        Mono looked_at;  /* the last look at it that was clear; MONO_NEVER: none */
        Mono begun_at;   /* the look that began its removal */
        int64_t slot;    /* of its removal */
        unsigned tries;
        Mono stage_from;
        uint32_t brakes;   /* BrakeSet that held when a peer was last let go; 0: another reason */
        uint64_t sweeps;   /* since the start */
        uint64_t removals; /* of peers, since the start */
} Patrol;

/* For so long a claim is its owner's; then whoever made it is gone, or frozen like the peer. */
#define PATROL_CLAIM_YOUNG SPAN_MIN(10)

/**
 * patrol_may_act() - whether an instance may be acted for, by what ECS and its attributes say
 * @now: by the services' clock; WALL_NEVER: not known, and then a claim counts as new
 */
bool patrol_may_act(const Confirmation *is, Wall now);

const char *patrol_stage_to_string(PatrolStage stage);
