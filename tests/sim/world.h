/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A host, its ECS agent and its AWS, in virtual time: turns truths into samples and answers for the core that ships, and
 * carries the core's effects out on the truths. Hours pass in milliseconds.
 */

#include <stdbool.h>
#include <stdio.h>

#include "agent/decide/core.h"

#define WORLD_PENDING_MAX 16
#define WORLD_START_WALL  ((Wall){ INT64_C(1780000000) * 1000000 }) /* a day in 2026 */

typedef enum Process {
        PROCESS_RUNS,
        PROCESS_HUNG, /* stopped: accepts, never answers */
        PROCESS_GONE,
} Process;

typedef struct Pending {
        Event event;
        EffectType effect;
        Mono at;
} Pending;

#define WORLD_SELF 1 /* turn_id() of the host, and of its peer */
#define WORLD_PEER 7

/** A peer that patrol may find. By the truth; what ECS shows of it is the same. */
typedef struct Peer {
        bool down, paused, observes, in_group, drained, foreign_drain, unhealthy, of_another_group, updating;
        Wall held_at; /* its own daemon waits for a brake, and has said so then; WALL_NEVER: not */
        bool left;    /* somebody has taken it out of its group */
        bool claimed;
        uint64_t claimed_by;
        Wall claimed_at;
        bool marked; /* by itself */
        Wall marked_at;
        unsigned sweeps, looks, drains, undrains, detaches, removed;
        unsigned action; /* that was taken */
        Mono first_look, looked_at, detached_at;
        Look look; /* the last one that was answered */
        Wall detached_wall;
} Peer;

typedef struct World {
        Core core;
        Policy policy;
        Now now;
        uint64_t random;
        Span sample_every;
        Mono next_sample;
        Plan plan;

        /* the host's truth */
        Process process;
        bool linked;     /* the control connection stands */
        bool black_hole; /* it stands, but nothing comes through */
        bool silent;     /* wedged: down, and no retry is logged */
        Mono next_retry; /* next line of the agent's back-off */
        Span backoff;
        UnitState unit;
        Intent intent, docker_intent;
        int exit_status;
        bool no_bus, no_log, no_sockets, no_introspection; /* that witness cannot look */
        bool path_fails;
        bool docker_hung, read_only;
        bool spot, no_role;
        bool reports_repair_ok; /* a restart is accepted */
        bool repair_helps;
        bool level_raised;
        bool frozen; /* our own process gets no time */

        /* AWS's truth */
        bool ecs_lags;      /* ECS goes on saying connected */
        bool ecs_says_down; /* ECS says disconnected whatever is true */
        ControlStatus status;
        bool marked;
        bool patrolled; /* a peer's claim on us */
        Wall patrolled_at;
        bool updating;
        bool in_group;
        Lifecycle lifecycle;
        Look look;        /* template: what a look answers beside our own state */
        Span clock_error; /* the host's wall clock minus the services' */
        Outcome confirm_outcome, look_outcome, drain_outcome, undrain_outcome, detach_outcome,
                verify_outcome, end_outcome, sweep_outcome;
        Peer peer;
        bool detach_lost_but_done;
        Span answer_after;

        Pending pending[WORLD_PENDING_MAX];
        unsigned n_pending;

        /* what happened */
        Record journal; /* what survives a crash of ours */
        unsigned confirms, looks, repairs, drains, undrains, detaches, verifies, probes;
        unsigned drains_done, undrains_done, detaches_done, ends, ends_done;
        unsigned action; /* that was taken */
        Mono first_drain, first_detach, down_since;
        bool drain_before_detach;
        BrakeSet held; /* every brake that has held since world_mark() */
        void (*on_effect)(struct World *world, const Effect *effect);
        bool journal_lost; /* at the next crash */
        bool swallow; /* effects are planned and journalled, and then the process dies: nothing is carried out */
} World;

/** world_init() - a healthy host in a group of 10, cluster of 20, standard settings, an hour after boot, connected */
void world_init(World *world);
/** world_run() - let @span pass */
void world_run(World *world, Span span);
/** world_event() - hand one event in right now */
void world_event(World *world, const Event *event);
/** world_log() - the agent writes a line */
void world_log(World *world, LogLine line, Span delay);
/** world_connect(), world_cut() - the control connection comes and goes, with the lines that the agent writes then */
void world_connect(World *world);
void world_cut(World *world);
/** world_reconnect() - normal life: closed for a valid reason and connected again within a second */
void world_reconnect(World *world);
/** world_kill() - the agent's process is gone; the unit stays active, as ecs-init loops */
void world_kill(World *world);
/** world_sleep() - nobody runs, time passes */
void world_sleep(World *world, Span span);
/** world_crash() - our own process dies and starts anew from the journal; with @reboot the whole host */
void world_crash(World *world, bool reboot);
uint64_t world_draw(World *world);
/** world_steps() - how often the core was stepped, by all worlds together */
uint64_t world_steps(void);
