/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A region in virtual time: clusters, groups, zones and hosts, each host with the core that ships, against a control plane
 * with quotas and stale answers. world.c drives the hosts, cloud.c is AWS, truth.c judges what was done by what is true.
 *
 * An event happens only when a witness changes, when a core asks to be woken, or when a call is answered. A host at rest
 * (connected, WATCHING, everybody says "up") is stepped for its patrol only, unless Config.keep_alive asks for more: its
 * core has nothing to remember but that time has passed, and is told so when something happens.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "agent/decide/core.h"

#define WORLD_START_WALL INT64_C(1780000020000000) /* a day in 2026 */
#define ZONES_MAX        6
#define GROUP_ZONES_MAX  6
#define COUNTED_MAX      512 /* removals that a look tells apart */
#define LOOK_PAGE        100 /* of ListContainerInstances, as act/looker.c asks for it */

/** The account's quotas that are watched. */
typedef enum Quota {
        QUOTA_ECS_READ,
        QUOTA_ECS_MODIFY,
        QUOTA_AUTO_SCALING, /* unpublished; the figure is an assumption, and a modest one */
} Quota;
#define QUOTA_N (QUOTA_AUTO_SCALING + 1)

typedef struct QuotaRow {
        const char *name;
        unsigned burst, per_second;
        bool assumed;
} QuotaRow;

extern const QuotaRow quota_table[QUOTA_N];

/** What is wrong with a host itself. It stays until somebody repairs or removes the host. */
typedef enum Ailment {
        AILMENT_NONE,
        AILMENT_LINK,   /* its agent retries for ever */
        AILMENT_DEAD,   /* its agent's process is gone */
        AILMENT_WEDGED, /* its agent lives and has stopped trying */
        AILMENT_FROZEN, /* neither its agent nor ours gets any time */
} Ailment;
#define AILMENT_N      (AILMENT_FROZEN + 1)
#define AILMENTS_AWAKE 3 /* the first ones: those that our agent sees */

/** Chances are in hundredths of a percent. */
typedef struct Config {
        const char *name; /* of the scenario */
        uint64_t seed;
        unsigned clusters, groups_per_cluster, group_size, zones;
        const unsigned *sizes; /* if set: of group g of all, sizes[g], instead of group_size */
        Policy policy;
        bool slow_ledger;             /* activities are shown up to 300 s late instead of 60 s */
        unsigned replacement_fails;   /* a new instance never connects */
        unsigned replacement_sickens; /* ... or connects, and its agent dies within 10 min: a bad image */
        unsigned repair_helps;        /* a restart of ecs.service mends a dead or wedged agent */
        unsigned calls_fail; /* a read gets no answer; the answer to a change is lost, half of them done */
        bool keep_alive;     /* hosts at rest are stepped once a minute all the same */
        FILE *minutes;       /* one line a minute: how the region is; NULL: not wanted */
        bool tell;           /* print each removal */
        bool wakes;          /* the frozen wake again, 10 min to 2 h later */
        Span launch_from, launch_to; /* from a removal to the replacement's connection */
} Config;

typedef struct World World;
typedef struct Group Group;

/** A claim at ECS: an attribute, and what others see of it until it has got around. */
typedef struct Claim {
        int64_t at, was_at; /* -1: there is none */
        uint64_t by, was_by;
        int64_t seen_from;
} Claim;

/** What a look has read so far. */
typedef struct Draft {
        Look look;
        uint32_t peers
                [LOOK_PAGE]; /* the page of the disconnected and claimed, without the subject, by number */
        int64_t claimed_at[LOOK_PAGE]; /* -1: not claimed */
        unsigned n_peers, registered;
        uint32_t n_down; /* disconnected ones among them */
        bool own_down;
        uint32_t counted[COUNTED_MAX], n_counted;
} Draft;

/** The calls that an effect consists of, one after another, each with its own tries. */
typedef struct Chain {
        bool busy;
        EffectType type;
        uint32_t ticket;
        bool whole, peer;
        Action action;
        uint32_t subject; /* number of the host that it is about */
        uint32_t serial;  /* a call that was forgotten finds another one here */
        unsigned step, tries;
        Outcome outcome; /* unless a call fails */
        Draft *draft;    /* of a look */
        Sweep *sweep;
} Chain;

typedef struct Host {
        World *world;
        uint32_t number;
        char name[24]; /* EC2's */
        uint64_t id;   /* turn_id() of it */
        Group *group;
        unsigned zone;
        uint64_t random;

        /* the truth about it */
        Ailment ailment;
        int64_t ailing_from;
        unsigned cuts;     /* outages that cut it off now */
        int64_t down_from; /* not connected since */
        int64_t back_at;   /* an outage's end for it */
        unsigned partings; /* ... of the API as well */
        bool started;      /* its agent has registered */
        bool no_agent;     /* ours is not there */
        bool paused;
        int64_t woke_at; /* frozen until then; -1: never */
        Span skew;       /* of its wall clock */
        int64_t boot;

        /* AWS's truth, and from when on others see it */
        bool in_group, registered;
        int64_t launched_at; /* -1: there from the beginning */
        int64_t in_service_at, left_at, left_seen_at, connects_at;
        int64_t down_seen_from, down_seen_to; /* ECS shows it as disconnected in between */
        bool drained, foreign_drain;
        bool standby;
        int64_t unhealthy_from; /* told so; NEVER: it is healthy */
        Claim mark, patrol;     /* its own claim, and a patrolling peer's */
        int64_t hold_at; /* its daemon has said then that it is at work itself; -1: it does not say so */
        bool listed;     /* in its cluster's list of those that may be disconnected or claimed */

        /* its agent, and ours */
        Core core;
        Record journal;
        Policy policy;
        Plan plan;
        int64_t next_witness, next_line, next_path, queued_at;
        unsigned fresh_witnesses; /* how many more come every 10 s, before they come once a minute */
        Span backoff;
        int64_t connected_line;
        int64_t tell_at; /* when it says so; NEVER */
        bool told;
        Chain asking, changing, patrolling;
        Look *peer_look; /* patrol's last; NULL: none */
        int64_t peer_looked_at;

        /* for the figures */
        int64_t detached_at;   /* 0: not */
        uint64_t drained_by;   /* id of who has drained it last */
        int64_t share_seen_at; /* its last look at which share held; -1: none */
        bool repaired, mended; /* by a restart of its agent; by an operator */
} Host;

typedef struct Activity {
        uint32_t host;
        int64_t at, seen_at;
} Activity;

struct Group {
        unsigned number, cluster, n_zones;
        uint32_t size;
        uint32_t *members; /* host numbers, in the group by the truth or until lately */
        uint32_t n_members, members_room;
        Activity *activities;
        uint32_t n_activities, activities_room;
        uint32_t last_launched; /* host number of the newest instance */
        uint32_t state;         /* GROUP_* */
        Switch tag;
        bool bad_image;
        uint32_t first_removed; /* removals of the sliding window begin here in .activities */
        unsigned budget;
};

typedef struct Cluster {
        uint32_t *down; /* hosts that ECS shows as disconnected now or soon */
        uint32_t n_down, down_room;
        uint32_t registered, size;
        Switch tag;
        int64_t zone_down_until[ZONES_MAX]; /* nobody connects there before */
        int64_t *removed;                   /* times */
        uint32_t n_removed, removed_room, first_removed;
        unsigned budget;
} Cluster;

typedef enum Happening {
        HAPPENING_HOST,     /* a witness, a line of the log, a wake */
        HAPPENING_ASK,      /* the next call of .asking */
        HAPPENING_CHANGE,   /* the next call of .changing */
        HAPPENING_PATROL,   /* the next call of .patrolling */
        HAPPENING_AIL,      /* falls sick; .argument: Ailment */
        HAPPENING_CUT,      /* an outage reaches the host; .argument: of the API as well */
        HAPPENING_JOIN,     /* the API is back */
        HAPPENING_RECOVER,  /* ... and the agent, which may take longer */
        HAPPENING_LAUNCH,   /* the group launches a replacement; .host: the removed one */
        HAPPENING_CONNECT,  /* a new instance's agent connects for the first time */
        HAPPENING_TELL,     /* it tells its peers whether it is at work itself */
        HAPPENING_WAKE,     /* a frozen one gets time again */
        HAPPENING_EXIT,     /* the group lets go of one that it was told is unhealthy */
        HAPPENING_GONE,     /* ... and it is terminated; or somebody has cleared up after a frozen orphan */
        HAPPENING_ATTACH,   /* an operator attaches an orphan again, its ailment mended */
        HAPPENING_RESTART,  /* our daemon restarts; .argument: and loses its journal */
        HAPPENING_JUMP,     /* the wall clock is set; .argument: seconds, signed */
        HAPPENING_PAUSE,    /* .argument: paused or not */
        HAPPENING_SCENARIO, /* .argument is the scenario's */
} Happening;

typedef struct Item {
        int64_t at;
        uint64_t order;
        uint32_t host;
        uint32_t argument;
        Happening what;
} Item;

/** What must happen to those that fall sick. */
typedef enum Liveness {
        LIVENESS_NONE,
        LIVENESS_LONE, /* L1: out within grace + repair + 2 min */
        LIVENESS_FEW,  /* L2 */
} Liveness;

/** Numbers of one world, or of many added up. */
typedef struct Figures {
        uint64_t runs, hosts, steps;
        uint64_t struck; /* hosts that an outage cut off */
        uint64_t ailing; /* hosts that fell sick of themselves */
        uint64_t removals, innocents, repaired, undone, drains, late; /* .late: L1 or L2 missed */
        uint64_t by_patrol, sweeps,
                ended; /* of .removals; rounds made; orphans that have cleared up themselves */
        uint64_t runs_with_innocents,
                runs_odd;                    /* .._odd: with more or fewer removals than there should be */
        uint64_t left_sick;                  /* ailing, still in the group at the end */
        unsigned worst_group, worst_cluster; /* removals within a window */
        uint64_t s1_group, s1_cluster, s2, s3, s4; /* broken so often */
        uint64_t replacements, replaced_badly;
        Span *times; /* from falling sick to DetachInstances */
        uint32_t n_times, times_room;
        uint64_t asked[QUOTA_N], throttled[QUOTA_N];
        uint32_t peak[QUOTA_N],
                peak_late[QUOTA_N]; /* calls in the worst minute; .._late: after the outage's tenth */
        int64_t minutes;
        uint64_t confirms, looks, looks_failed;
        char first_break[160]; /* what, when and where, of the first broken invariant */
        uint64_t break_seed;
} Figures;

struct World {
        Config config;
        int64_t now;
        uint64_t random, order;
        Item *heap;
        uint32_t n_heap, heap_room;
        Host **hosts;
        uint32_t n_hosts, hosts_room;
        Group *groups;
        unsigned n_groups;
        Cluster *clusters;
        int64_t tokens[QUOTA_N]; /* millionths */
        int64_t tokens_at[QUOTA_N];
        unsigned throttle_all; /* reads of ECS are refused while set */
        unsigned minute_calls[QUOTA_N];
        int64_t minute;
        int64_t checked_at;  /* when what is left behind was last looked for */
        int64_t outage_from; /* -1: none */
        Figures figures;
        void (*on_removed)(World *world, Host *host);
        void (*on_claim)(World *world, Host *finder, Host *peer);
        void (*on_scenario)(World *world, uint32_t argument);
};

World *world_new(const Config *config);
World *world_free(World *world);
/** world_run() - until @end */
void world_run(World *world, int64_t end);

uint64_t world_draw(uint64_t *random);
/** world_between() - from @from to @to, both included */
Span world_between(uint64_t *random, Span from, Span to);
/** world_chance() - true in @hundredths of a percent of all cases */
bool world_chance(uint64_t *random, unsigned hundredths);
/** world_exponential() - with mean @mean */
Span world_exponential(uint64_t *random, Span mean);
/** world_recovery() - how long after the end of an outage an agent is back: mostly minutes, with a slow tail */
Span world_recovery(uint64_t *random);

void world_at(World *world, int64_t at, Happening what, uint32_t host, uint32_t argument);
Host *world_host(World *world, uint32_t number);
/** world_add_host() - a new one, which has just booted if @new, else has been there for hours and is connected */
Host *world_add_host(World *world, Group *group, unsigned zone, bool new);
/** world_outage() - cut @host off from @from to @until; it comes back on its own in its own time */
void world_outage(World *world, Host *host, int64_t from, int64_t until, bool api_too);

/** world_orphan() - @host has been removed long ago, and nobody has deregistered it */
void world_orphan(Host *host);
/** host_without_agent() - it has none of ours */
void host_without_agent(Host *host);
/** host_set_action() - its settings say so from now on */
void host_set_action(Host *host, Action action);
/** host_stop() - it is gone for good */
void host_stop(Host *host);
Lifecycle host_lifecycle(const Host *host);
void host_join(Host *host);
void host_leave(Host *host);

bool host_connected(const Host *host);
Now host_now(const Host *host);
void host_event(Host *host, const Event *event);
/** host_changed() - something that the witnesses see has changed */
void host_changed(Host *host);
/** host_mended() - its agent runs again */
void host_mended(Host *host);
void host_line(Host *host, LogLine line, Span delay, bool back);

/** world_grow() - make room for more in a list that is never shortened */
void *world_grow(void *list, uint32_t *room, size_t size);

/* cloud.c */
void cloud_do(Host *host, const Effect *effect);
void cloud_forget(Host *host);
void cloud_next(Host *host, Chain *chain, uint32_t serial);
void cloud_note_link(Host *host, bool was_connected);
/** cloud_freeze() - what the host had under way ends where it is */
void cloud_freeze(Host *host);
/** cloud_describe() - the calls that every daemon makes at its start */
void cloud_describe(Host *host);
/** cloud_tell() - attribute hold: "held" since @at; -1: taken away. Return: false if the service does not take it. */
bool cloud_tell(Host *host, int64_t at);
void cloud_exit(Host *host);
void cloud_attach(Host *host);
void cloud_launch(World *world, uint32_t removed);
void cloud_minute(World *world);
bool cloud_shows_down(const Host *host);

/* truth.c */
/** truth_effect() - judge what the core of @host is about to do to @subject, itself or a peer */
void truth_effect(Host *host, const Host *subject, const Effect *effect);
void truth_removed(Host *host, Host *subject);
void truth_drain(Host *host, Host *subject);
void truth_undrain(Host *host, Host *subject);
/** truth_ended() - an orphan deregisters itself, and is stopped */
void truth_ended(Host *host);
void truth_looked(Host *host, const Look *look);
/** truth_claims() - now and then: whether something of ours was left behind */
void truth_claims(World *world);
void truth_end(World *world, Liveness liveness);
void truth_break(World *world, uint64_t *counter, const Host *host, const char *what);
void figures_add(Figures *sum, const Figures *part);
void figures_time(Figures *figures, Span span);
/** truth_minute() - one line of Config.minutes */
void truth_minute(World *world);
/** figures_share() - the @percent-th percentile of the times to removal; -1: there are none. Sorts them. */
Span figures_share(Figures *figures, unsigned percent);
