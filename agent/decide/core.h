/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The one door to decide/: core_step(core, event, now, &plan). No I/O, clock, allocation, logging or globals behind it.
 * Equal events give equal plans, so the live daemon, the scenario tests and a replayed trace are the same code.
 */

#include "agent/decide/brakes.h"
#include "agent/decide/checks.h"
#include "agent/decide/look.h"
#include "agent/decide/patrol.h"
#include "agent/decide/policy.h"
#include "agent/decide/sample.h"
#include "agent/decide/verdict.h"

/** Where the remedy stands. The numbers are published as remediation_stage and never change their meaning. */
typedef enum Stage {
        STAGE_WATCHING = 0,
        STAGE_GRACE = 1,      /* down; grace runs, ECS is asked */
        STAGE_LOOKING = 2,    /* a look is under way */
        STAGE_HELD = 3,       /* a brake holds; will look again */
        STAGE_REPAIRING = 4,  /* ecs.service has been restarted; waiting */
        STAGE_TURN = 5,       /* a look was clear; waiting for the next */
        STAGE_DRAINING = 6,   /* container instance goes to DRAINING */
        STAGE_RECHECKING = 7, /* drained; brakes are asked again */
        STAGE_DETACHING = 8,  /* DetachInstances is on its way */
        STAGE_VERIFYING = 9,  /* its outcome is being read */
        STAGE_UNDOING = 10,   /* our drain is being undone */
        STAGE_REMOVED = 11,   /* out of the group */
        STAGE_ENDING = 12,    /* the orphan is deregistered, and stopped or terminated */
} Stage;
#define STAGE_N (STAGE_ENDING + 1)

/**
 * What must outlive the process: written to the journal before each step, handed back by EVENT_RESTORED at the start.
 */
typedef struct Record {
        uint64_t incident; /* number of this or the last incident; 0: none ever */
        uint32_t stage;    /* Stage */
        uint32_t cause;    /* Cause */
        Wall opened;       /* when the incident was opened: end of grace */
        Wall changed;      /* when the stage was entered */
        Wall closed;       /* end of the last incident that acted; WALL_NEVER: none */
        Wall repaired;     /* last restart of ecs.service; WALL_NEVER: never */
        Wall detach_sent;  /* last DetachInstances; WALL_NEVER: never */
        bool drained;      /* a drain of ours may exist at ECS */
        bool marked;       /* our incident attribute may exist at ECS */
        bool acted;        /* this incident has drained, or tried to: its end starts the cooldown */
        bool looped;       /* this incident began on a young replacement: brake loop holds until released */
        bool released;     /* somebody has resumed this host since */
        bool ended;        /* what had to be done to the orphan has been done */
        uint32_t action;   /* Action that was taken */

        /* patrol's work at a peer, while a claim of ours may stand there */
        uint32_t peer_stage; /* PatrolStage */
        uint32_t peer_action;
        Wall peer_changed; /* when that stage was entered */
        Wall peer_sent;    /* WALL_NEVER: it has not been removed yet */
        PeerName peer;
} Record;

typedef enum EventType {
        EVENT_TICK, /* nothing but time: the plan's wake, or a keep-alive of a minute at most */
        EVENT_SAMPLE,
        EVENT_CONFIRMED, /* answer to EFFECT_CONFIRM */
        EVENT_LOOKED,    /* answer to EFFECT_LOOK */
        EVENT_REPAIRED,  /* answer to EFFECT_REPAIR */
        EVENT_DRAINED,   /* answer to EFFECT_DRAIN */
        EVENT_UNDRAINED, /* answer to EFFECT_UNDRAIN */
        EVENT_DETACHED,  /* answer to EFFECT_DETACH */
        EVENT_VERIFIED,  /* answer to EFFECT_VERIFY */
        EVENT_ENDED,     /* answer to EFFECT_END */
        EVENT_SWEPT,     /* answer to EFFECT_SWEEP */
        EVENT_SIZES,     /* how many there are of us */
        EVENT_RIGHTS,    /* what is known of our rights has changed */
        EVENT_POLICY,    /* new settings */
        EVENT_PAUSED,    /* paused, or no longer */
        EVENT_RESUMED,   /* somebody has resumed this host, whether it was paused or not */
        EVENT_GROUP,     /* Auto Scaling has said what we are to it */
        EVENT_RESTORED,  /* once, first: what the journal held */
} EventType;
#define EVENT_TYPE_N (EVENT_RESTORED + 1)

/** Answer to EFFECT_VERIFY: the group's word on this instance. */
typedef struct Verification {
        Outcome outcome;
        Lifecycle lifecycle; /* LIFECYCLE_NO_GROUP: Auto Scaling does not know it as a member */
        bool activity;       /* an activity tells of its removal since Record.detach_sent */
        bool unhealthy;      /* the group has been told, and will replace it */
} Verification;

/** How many there are, which sets the pace of whatever all hosts do, and which of them we are. */
typedef struct Sizes {
        uint32_t cluster, group; /* registered with the cluster; desired by the group; 0: not known */
        uint64_t self;           /* turn_id() of ourselves; 0: not known */
} Sizes;

/** What the host knows about itself at the start. */
typedef struct Restored {
        Record record;
        bool answered_this_boot; /* introspection has answered in this boot */
        bool registered_before;  /* a container instance ARN of this very instance is known from before */
        bool same_boot;          /* the record was written in this boot */
        bool no_journal;         /* there is none of this instance: it is new, or its memory is lost */
} Restored;

typedef struct Event {
        EventType type;
        uint32_t ticket; /* of answers: the effect's; an answer with another ticket is ignored */
        union {
                Sample sample;
                Confirmation confirmed;
                Look look;
                Outcome outcome; /* REPAIRED, DRAINED, UNDRAINED, DETACHED, ENDED */
                Verification verified;
                Sweep swept;
                Sizes sizes;
                Rights rights;
                Policy policy;
                Mono paused_until;   /* MONO_NEVER: not paused; MONO_INFINITE: until resumed */
                Lifecycle lifecycle; /* GROUP */
                Restored restored;
        };
} Event;

typedef enum EffectType {
        EFFECT_CONFIRM, /* DescribeContainerInstances of our own */
        EFFECT_LOOK,
        EFFECT_PROBE,   /* find out about write rights with ids that cannot exist */
        EFFECT_REPAIR,  /* restart ecs.service */
        EFFECT_DRAIN,   /* attribute incident=removing, then status DRAINING */
        EFFECT_UNDRAIN, /* status ACTIVE if it is ours and draining, then the attribute away */
        EFFECT_DETACH, /* DetachInstances, desired capacity unchanged, or what .action says; sent at most once */
        EFFECT_VERIFY, /* DescribeAutoScalingInstances, activities, metadata service */
        EFFECT_END,    /* if still in no group and not switched off: deregister, then stop or terminate */
        EFFECT_SWEEP,  /* list the disconnected of our group, with their attributes */
        EFFECT_FORGET, /* drop what is under way: its answer is no longer wanted */
} EffectType;
#define EFFECT_TYPE_N (EFFECT_FORGET + 1)

typedef struct Effect {
        EffectType type;
        uint32_t ticket;
        bool whole;      /* LOOK: read on although share holds, for the slow lane */
        bool peer;       /* LOOK, DRAIN, UNDRAIN, DETACH, VERIFY: of Core.patrol.peer and not of ourselves */
        unsigned action; /* DETACH: Action */
} Effect;

#define PLAN_EFFECTS_MAX 4

typedef struct Plan {
        Mono wake; /* call again by then, with EVENT_TICK at the latest */
        unsigned n_effects;
        Effect effects[PLAN_EFFECTS_MAX];
        bool record_changed;  /* write Core.record to the journal before carrying out the effects */
        bool watch_path;      /* the path witness shall ask once a minute */
        bool verdict_changed; /* edges, for the log */
        bool stage_changed;
        bool brakes_changed;
} Plan;

/** Everything the core knows. Plain data, copyable; read it freely, change it by core_step() only. */
typedef struct Core {
        Policy policy;
        Checks checks;
        Rights rights;
        Verdict verdict;
        Stage stage;
        Record record;

        uint64_t random;   /* state of the generator */
        uint32_t ticket;   /* last one given */
        uint32_t awaiting; /* ticket of the effect whose answer is awaited; 0: none */
        Mono answer_due;   /* an answer later than this counts as none */

        Mono stepped;       /* last step, to notice a freeze */
        Span wall_offset;   /* wall minus mono at the last step, to notice a clock jump */
        Mono ill_from;      /* ill, by enough witnesses, without a break since; MONO_NEVER: not ill */
        Mono lone_from;     /* down by a single witness since */
        Mono cause_from;    /* the verdict's cause stands since */
        bool retry_bar_set; /* the agent's announced retry was looked at when grace ended */
        Mono retry_bar;     /* ... and grace does not end before this */
        bool grace_served;  /* grace was over before our own restart, in the middle of an incident */
        Mono restored_at;   /* ... at which the witnesses began anew */
        bool tidying; /* no journal: whether a drain of ours was left at ECS must be read, and undone */
        Mono tidy_at;
        unsigned tidy_tries;
        Span patience;       /* VERIFYING: how long "still in" is not believed */
        bool drain_doubtful; /* ... and between journal and drain: whether it was sent must be read */

        unsigned confirmations;
        Mono confirm_at;      /* ECS is not asked again before this */
        Mono first_confirmed; /* first agentConnected=false of this grace */
        Span crowd_jitter;    /* ECS was throttled, so we are many: the first look waits so much longer */
        Mono blind_from, blind_at; /* AWS could not be reached, first and last; MONO_NEVER: it can */
        unsigned unanswered;       /* questions to ECS in a row that got no answer */
        Span confirm_jitter; /* how much earlier than planned ECS is first asked: hosts must not ask in step */

        Look look;            /* last one that was answered whole */
        Mono looked_at;       /* when it was answered; MONO_NEVER: none */
        Mono earlier_look_at; /* the clear look before it, in this incident */
        unsigned holds;       /* in a row, for the back-off */
        bool share_held;      /* at the last look, or since it moved */
        bool share_moved;
        Mono settle_from; /* the first look at which share held no longer */
        Mono share_ended; /* when share last stopped holding or moving, or a slow one came back */
        Mono share_from;  /* share has held or moved at each look since; MONO_NEVER: it does not */
        bool slow_lane;   /* as last asked, share and settle let one removal through, and still hold */
        Turn turn;        /* as last asked */
        Recall recall;
        bool service_known;
        Span service_offset; /* the services' clock minus Mono, as of the last look */
        Mono begun_at;       /* the look that began the removal under way */
        bool slot_taken;     /* the drain was begun in a slot of ours, .slot */
        int64_t slot;
        unsigned clear_looks;
        uint32_t last_sick; /* of the cluster, at the last look, a patrol's included */
        bool last_sick_known;
        Mono sick_at; /* ... which was answered then */

        Mono stage_from;
        Mono due; /* what the stage waits for: next look, end of repair.wait, next read; MONO_INFINITE */
        unsigned tries;      /* of this stage */
        bool repair_done;    /* in this incident */
        Mono repaired_until; /* end of repair.wait */

        Mono paused_until;
        Mono boot_grace_until;
        Mono cooldown_until;
        bool seen_outside;  /* REMOVED: the metadata service has shown us out of the group */
        Mono end_at;        /* REMOVED: the orphan's end is not tried again before */
        bool outside_asked; /* out of the group, not by us: ECS has said whether it was by a peer */
        Mono woke_at;       /* after a freeze of our own; MONO_NEVER: none */
        BrakeSet brakes;    /* that hold now, as last asked */
        Mono brake_until[BRAKE_N];
        uint64_t removals; /* by us, since the start: remediation_performed */

        Sizes sizes;
        Patrol patrol;
} Core;

/** core_init() - @seed feeds the jitter; equal seeds and events give equal plans */
void core_init(Core *core, const Policy *policy, uint64_t seed, Now now);

/** core_step() - take one event in at @now (never earlier than before) and say what to do */
void core_step(Core *core, const Event *event, Now now, Plan *plan);

/** core_incident_open() - whether an incident is open (anything but WATCHING, GRACE and REMOVED) */
bool core_incident_open(const Core *core);
/** core_grace_end() - when grace will be over if nothing changes; MONO_NEVER: it does not run */
Mono core_grace_end(const Core *core);
/** core_end_due() - REMOVED: when the orphan's end is due; MONO_INFINITE: not, as things are */
Mono core_end_due(const Core *core, Now now);

const char *stage_to_string(Stage stage);
const char *effect_to_string(EffectType type);
