/* SPDX-License-Identifier: Apache-2.0 */

/*
 * AWS: quotas, calls one after another with tries of their own, answers that lag behind the truth, and groups that replace
 * what they lose. A look reads what act/looker.c reads, in its order and with its shortcuts.
 */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fleet/world.h"

#define TRIES_MAX 3
/* How late others see it: that an agent has lost its connection, usually and rarely; an activity, usually and in the slow
 * variant; a membership or an attribute; that an agent is back. */
#define DOWN_LAG      SPAN_SEC(120)
#define DOWN_LAG_RARE SPAN_SEC(300)
#define LEDGER_LAG    SPAN_SEC(60)
#define LEDGER_SLOW   SPAN_SEC(300)
#define MEMBER_LAG    SPAN_SEC(5)
#define MARK_LAG      SPAN_SEC(2)
#define UP_LAG        SPAN_SEC(2)
/* Of a claim so young the activity may still be missing. As in act/looker.c. */
#define CLAIM_FRESH SPAN_MIN(5)
/* A patrol's claim this old is nobody's. As in act/ecs.c. */
#define CLAIM_OLD SPAN_MIN(10)
/* An instance that the group was told is unhealthy goes within these. */
#define EXIT_FROM SPAN_SEC(10)
#define EXIT_TO   SPAN_SEC(60)
#define BATCH_MAX 50 /* of DescribeAutoScalingInstances */
#define YOUNG     SPAN_HOUR(1)
#define NEVER     INT64_MAX

const QuotaRow quota_table[QUOTA_N] = {
        [QUOTA_ECS_READ] = { "ecs-read", 100, 20, false },
        [QUOTA_ECS_MODIFY] = { "ecs-modify", 100, 40, false },
        [QUOTA_AUTO_SCALING] = { "auto-scaling", 50, 10, true },
};

static const Quota look_calls[] = { QUOTA_ECS_READ, QUOTA_ECS_READ, QUOTA_ECS_READ, QUOTA_AUTO_SCALING,
        QUOTA_AUTO_SCALING, QUOTA_AUTO_SCALING, QUOTA_AUTO_SCALING };

static Cluster *cluster_of(const Host *host) {
        return &host->world->clusters[host->group->cluster];
}

/* --- quotas ------------------------------------------------------------------------------------------------------ */

void cloud_minute(World *world) {
        int64_t minute = world->now / SPAN_MIN(1);
        Figures *figures = &world->figures;
        bool late = world->outage_from >= 0 && world->now - world->outage_from > SPAN_MIN(11);

        if (minute == world->minute)
                return;
        if (world->config.minutes)
                truth_minute(world);
        for (unsigned q = 0; q < QUOTA_N; q++) {
                if (world->minute_calls[q] > figures->peak[q])
                        figures->peak[q] = world->minute_calls[q];
                if (late && world->minute_calls[q] > figures->peak_late[q])
                        figures->peak_late[q] = world->minute_calls[q];
                world->minute_calls[q] = 0;
        }
        figures->minutes += minute - world->minute;
        world->minute = minute;
}

/* One request. Return: whether the service lets it through. */
static bool admitted(World *world, Quota quota) {
        const QuotaRow *row = &quota_table[quota];
        int64_t passed = world->now - world->tokens_at[quota], full = (int64_t) row->burst * 1000000;
        int64_t gained = passed > SPAN_HOUR(1) ? full : passed * row->per_second;

        world->tokens[quota] = span_min(world->tokens[quota] + gained, full);
        world->tokens_at[quota] = world->now;
        world->minute_calls[quota]++;
        world->figures.asked[quota]++;
        if (world->tokens[quota] < 1000000 || (world->throttle_all && quota == QUOTA_ECS_READ)) {
                world->figures.throttled[quota]++;
                return false;
        }
        world->tokens[quota] -= 1000000;
        return true;
}

/* --- what others see --------------------------------------------------------------------------------------------- */

bool cloud_shows_down(const Host *host) {
        return host->registered && host->down_seen_from <= host->world->now &&
               host->world->now < host->down_seen_to;
}

static bool shows_member(const Host *host) {
        return host->left_seen_at > host->world->now;
}

static bool shows_in_service(const Host *host) {
        return shows_member(host) && host->in_service_at <= host->world->now;
}

static int64_t shown_claim(const Claim *claim, uint64_t viewer, int64_t now, uint64_t *by) {
        bool news = claim->by == viewer || now >= claim->seen_from;

        if (by)
                *by = news ? claim->by : claim->was_by;
        return news ? claim->at : claim->was_at;
}

static Wall wall_of(int64_t at) {
        return at < 0 ? WALL_NEVER : (Wall){ WORLD_START_WALL + at };
}

/* DescribeContainerInstances of one, as @viewer reads it. */
static Confirmation shown(const Host *viewer, const Host *host) {
        int64_t now = host->world->now, mark = shown_claim(&host->mark, viewer->id, now, NULL), patrol;
        Confirmation is = {
                .outcome = OUTCOME_OK,
                .connected = !cloud_shows_down(host),
                .status = !host->registered ? CONTROL_MISSING
                          : host->drained   ? CONTROL_DRAINING
                                            : CONTROL_ACTIVE,
                .server_time = wall_of(now),
        };

        if (!host->registered)
                return is;
        patrol = shown_claim(&host->patrol, viewer->id, now, &is.patrolled_by);
        is.marked = mark >= 0;
        is.marked_at = wall_of(mark);
        is.patrolled = patrol >= 0;
        is.patrolled_at = wall_of(patrol);
        is.patrolled_by = is.patrolled ? is.patrolled_by : 0;
        is.held = host->paused || host->hold_at >= 0;
        is.held_at = host->paused ? WALL_NEVER : wall_of(host->hold_at);
        is.action = host->no_agent ? ACTION_OBSERVE : host->policy.action;
        return is;
}

static void list(Host *host) {
        Cluster *cluster = cluster_of(host);

        if (host->listed)
                return;
        if (cluster->n_down == cluster->down_room)
                cluster->down = world_grow(cluster->down, &cluster->down_room, sizeof(uint32_t));
        cluster->down[cluster->n_down++] = host->number;
        host->listed = true;
}

/* @at: -1 to take it away */
static void set_claim(Host *host, Claim *claim, int64_t at, const Host *by) {
        int64_t now = host->world->now;
        bool known = now >= claim->seen_from;

        *claim = (Claim){ .at = at,
                .by = by->id,
                .was_at = known ? claim->at : claim->was_at,
                .was_by = known ? claim->by : claim->was_by,
                .seen_from = now + world_between(&host->random, 0, MARK_LAG) };
        list(host);
}

/* Whether it can no longer be on anybody's page. */
static bool is_off_the_list(const Host *host) {
        int64_t now = host->world->now;

        if (!host->registered)
                return true;
        return host->down_seen_to <= now && host->mark.at < 0 && host->patrol.at < 0 &&
               host->mark.seen_from <= now && host->patrol.seen_from <= now;
}

/* The next host of the list that may be on a page. Return: NULL after the last. */
static Host *next_listed(World *world, Cluster *cluster, uint32_t *i) {
        while (*i < cluster->n_down) {
                Host *host = world_host(world, cluster->down[*i]);

                if (!is_off_the_list(host)) {
                        (*i)++;
                        return host;
                }
                host->listed = false;
                cluster->down[*i] = cluster->down[--cluster->n_down];
        }
        return NULL;
}

void cloud_note_link(Host *host, bool was_connected) {
        World *world = host->world;
        bool rare = world_chance(&host->random, 300);

        if (host_connected(host) == was_connected)
                return;
        if (was_connected) {
                host->down_seen_from =
                        world->now + (rare ? world_between(&host->random, DOWN_LAG, DOWN_LAG_RARE)
                                           : world_between(&host->random, 0, DOWN_LAG));
                host->down_seen_to = NEVER;
                list(host);
        } else {
                host->down_seen_to = world->now + world_between(&host->random, 0, UP_LAG);
        }
}

bool cloud_tell(Host *host, int64_t at) {
        if (host->partings > 0 || !admitted(host->world, QUOTA_ECS_MODIFY) ||
                (at < 0 && !admitted(host->world, QUOTA_ECS_MODIFY)))
                return false;
        host->hold_at = at;
        return true;
}

void cloud_describe(Host *host) {
        (void) admitted(host->world, QUOTA_ECS_READ);
        (void) admitted(host->world, QUOTA_ECS_MODIFY);
        (void) admitted(host->world, QUOTA_AUTO_SCALING);
        (void) admitted(host->world, QUOTA_AUTO_SCALING);
}

/* --- a look, part by part ---------------------------------------------------------------------------------------- */

/* ListContainerInstances, disconnected or claimed, one page. */
static void read_page(const Host *viewer, const Host *host, Draft *draft) {
        World *world = host->world;
        Cluster *cluster = cluster_of(host);
        unsigned n = 0;

        for (uint32_t i = 0; !draft->look.more_than_a_page;) {
                Host *peer = next_listed(world, cluster, &i);

                if (!peer)
                        return;
                if (!cloud_shows_down(peer) && shown_claim(&peer->mark, viewer->id, world->now, NULL) < 0 &&
                        shown_claim(&peer->patrol, viewer->id, world->now, NULL) < 0)
                        continue;
                if (n++ == LOOK_PAGE) {
                        draft->look.more_than_a_page = draft->look.share_decided = true;
                        draft->look.cluster.sick = LOOK_PAGE;
                } else if (peer != host && draft->n_peers < LOOK_PAGE - 1)
                        draft->peers[draft->n_peers++] = peer->number;
        }
}

static void read_instances(const Host *viewer, const Host *host, Draft *draft) {
        draft->look.own = shown(viewer, host);
        for (unsigned i = 0; i < draft->n_peers; i++) {
                Confirmation is = shown(viewer, world_host(host->world, draft->peers[i]));
                Wall at = wall_before(is.marked_at, is.patrolled_at) ? is.patrolled_at : is.marked_at;

                draft->claimed_at[i] = wall_is_set(at) ? at.usec - WORLD_START_WALL : -1;
                draft->n_down += !is.connected;
        }
}

static void read_cluster(const Host *host, Draft *draft) {
        uint32_t others = draft->n_down + 1; /* the subject, whether connected or not */

        draft->registered = cluster_of(host)->registered;
        draft->look.tag_cluster = cluster_of(host)->tag;
        draft->look.connected_peers = draft->registered > others ? draft->registered - others : 0;
}

static void add_sick(Look *look, const Host *host, const Host *peer) {
        look->cluster.sick++;
        look->zone.sick += peer->zone == host->zone;
        if (look->n_sick == LOOK_SICK_MAX)
                return;
        if (peer->group == host->group) {
                look->group.sick++;
                look->sick[look->n_sick++] = look->sick[look->n_sick_ours];
                look->sick[look->n_sick_ours++] = peer->id;
        } else {
                look->sick[look->n_sick++] = peer->id;
        }
}

static void read_members(const Host *viewer, const Host *host, Draft *draft) {
        Look *look = &draft->look;
        uint32_t strays = 0;

        look->lifecycle = !shows_member(host)      ? (host->standby ? LIFECYCLE_STANDBY : LIFECYCLE_NO_GROUP)
                          : shows_in_service(host) ? LIFECYCLE_IN_SERVICE
                                                   : LIFECYCLE_PENDING;
        look->unhealthy = host->unhealthy_from <= host->world->now;
        look->another_group = look->of_peer && host->group != viewer->group;
        if (!look->own.connected && look->lifecycle == LIFECYCLE_IN_SERVICE)
                add_sick(look, host, host);
        for (unsigned i = 0; i < draft->n_peers; i++) {
                const Host *peer = world_host(host->world, draft->peers[i]);

                if (!cloud_shows_down(peer))
                        continue;
                if (shows_in_service(peer)) {
                        add_sick(look, host, peer);
                        continue;
                }
                strays++;
                if (look->n_outside < LOOK_SICK_MAX)
                        look->outside[look->n_outside++] = peer->id;
        }
        look->cluster.members = draft->registered > strays ? draft->registered - strays : 0;
        if (look->cluster.members < look->cluster.sick)
                look->cluster.members = look->cluster.sick;
        look->share_decided = brake_population_holds(&look->cluster, viewer->policy.max_sick);
}

static void read_group(const Host *host, Draft *draft) {
        const Group *group = host->group;
        Look *look = &draft->look;
        uint32_t n = group->n_zones;

        look->tag_group = group->tag;
        look->group_state |= group->state;
        look->group_size = group->size;
        look->group.members = group->size > look->group.sick ? group->size : look->group.sick;
        look->zone.members = look->cluster.members / n + (look->cluster.members % n > 0);
        if (look->zone.members < look->zone.sick)
                look->zone.members = look->zone.sick;
}

/* One instance that was removed: counted once in each sum that its age allows. */
static void add_removed(const Host *host, Draft *draft, const Host *removed, int64_t at, bool ours) {
        Look *look = &draft->look;
        int64_t age = host->world->now - at;

        for (unsigned i = 0; i < draft->n_counted; i++)
                if (draft->counted[i] == removed->number)
                        return;
        if (removed == host || age >= SPAN_DAY(1))
                return;
        if (draft->n_counted == COUNTED_MAX) {
                look->ledger_full = true;
                return;
        }
        draft->counted[draft->n_counted++] = removed->number;
        look->removed_day += ours;
        look->removed_hour += age < SPAN_HOUR(1);
        if (age >= host->policy.window)
                return;
        look->removed_window += ours;
        look->removed_cluster++;
        if (look->n_removed == LOOK_REMOVED_MAX) {
                look->ledger_full = true;
                return;
        }
        look->removed[look->n_removed++] = removed->id;
        look->n_removed_ours += ours;
        if (!wall_is_set(look->window_frees) ||
                look->window_frees.usec > WORLD_START_WALL + at + host->policy.window)
                look->window_frees = (Wall){ WORLD_START_WALL + at + host->policy.window };
}

/* The replacement of the last removal that activities and claims show. */
static Replacement shown_replacement(const Host *host, int64_t removed_at) {
        const Group *group = host->group;
        int64_t now = host->world->now;
        const Host *last =
                group->last_launched == UINT32_MAX ? NULL : world_host(host->world, group->last_launched);

        if (removed_at < 0)
                return REPLACEMENT_NONE;
        if (!last || last->launched_at < removed_at || !shows_member(last))
                return now - removed_at < YOUNG ? REPLACEMENT_PENDING : REPLACEMENT_NONE;
        if (last->registered && cloud_shows_down(last))
                return now - last->launched_at < YOUNG ? REPLACEMENT_PENDING : REPLACEMENT_CONNECTED;
        return last->registered ? REPLACEMENT_CONNECTED : REPLACEMENT_PENDING;
}

/* Return: when the newest was removed; -1: there is none */
static int64_t add_activities(const Host *host, Draft *draft) {
        const Group *group = host->group;
        int64_t now = host->world->now, last = -1;

        for (uint32_t i = group->n_activities; i > 0; i--) {
                const Activity *activity = &group->activities[i - 1];

                if (now - activity->at >= SPAN_DAY(1))
                        break;
                if (activity->seen_at > now)
                        continue;
                if (activity->at > last && activity->host != host->number)
                        last = activity->at;
                add_removed(host, draft, world_host(host->world, activity->host), activity->at, true);
                if (host->launched_at >= activity->at && host->launched_at - activity->at < YOUNG &&
                        now - host->launched_at < YOUNG)
                        draft->look.young = true;
        }
        return last;
}

static void read_activities(const Host *host, Draft *draft) {
        int64_t now = host->world->now, last = add_activities(host, draft);

        for (unsigned pass = 0; pass < 2; pass++)
                for (unsigned i = 0; i < draft->n_peers; i++) {
                        const Host *peer = world_host(host->world, draft->peers[i]);
                        int64_t at = draft->claimed_at[i];
                        bool ours = peer->group == host->group, fresh = now - at < CLAIM_FRESH;

                        if (at < 0 || ours == (pass > 0))
                                continue;
                        add_removed(host, draft, peer, at, ours);
                        if (ours && fresh && at > last)
                                last = at;
                }
        draft->look.replacement = shown_replacement(host, last);
}

/* Return: whether the look goes on after this part. */
static bool read_part(const Host *viewer, const Host *host, Chain *chain) {
        Draft *draft = chain->draft;

        switch (chain->step) {
        case 0: read_page(viewer, host, draft); return !draft->look.more_than_a_page;
        case 1: read_instances(viewer, host, draft); return true;
        case 2: read_cluster(host, draft); return true;
        case 3:
                if (draft->n_peers >= BATCH_MAX)
                        (void) admitted(host->world, QUOTA_AUTO_SCALING);
                read_members(viewer, host, draft);
                if (draft->look.lifecycle != LIFECYCLE_IN_SERVICE || draft->look.another_group)
                        return false;
                if (chain->whole)
                        draft->look.share_decided = false;
                return !draft->look.share_decided;
        case 4: read_group(host, draft); return true;
        case 5: return true;
        case 6: read_activities(host, draft); return false;
        }
        return false;
}

/* Patrol's round. Return: whether there is anybody to ask about. */
static bool sweep_part(const Host *host, Chain *chain) {
        World *world = host->world;
        Sweep *sweep = chain->sweep;
        Host *down[LOOK_PAGE], *peer;
        uint32_t n = 0, first;

        for (uint32_t i = 0; n < LOOK_PAGE && (peer = next_listed(world, cluster_of(host), &i)) != NULL;)
                if (peer->group == host->group && !peer->no_agent && cloud_shows_down(peer))
                        down[n++] = peer;
        sweep->n_down = n;
        sweep->server_time = wall_of(world->now);
        if (chain->step == 0 || n == 0)
                return n > 0;
        first = (uint32_t) (world_draw(&world->random) % n);
        for (uint32_t i = 0; i < n && sweep->n < SWEEP_PEERS_MAX; i++) {
                Confirmation is;

                peer = down[(first + i) % n];
                is = shown(host, peer);
                if (peer == host || !patrol_may_act(&is, sweep->server_time))
                        continue;
                (void) snprintf(sweep->peers[sweep->n].arn, sizeof(sweep->peers[0].arn), "%u", peer->number);
                (void) snprintf(sweep->peers[sweep->n].instance_id, sizeof(sweep->peers[0].instance_id),
                        "%s", peer->name);
                sweep->n++;
        }
        return false;
}

/* --- changes ----------------------------------------------------------------------------------------------------- */

void cloud_launch(World *world, uint32_t removed) {
        Host *gone = world_host(world, removed);
        Group *group = gone->group;
        Host *host = world_add_host(world, group, gone->zone, true);
        Span rest = world->config.launch_to - SPAN_MIN(1);

        host->launched_at = world->now;
        group->last_launched = host->number;
        world->figures.replacements++;
        if (world_chance(&host->random, world->config.replacement_fails)) {
                world->figures.replaced_badly++;
                return;
        }
        rest = world_between(&host->random, world->config.launch_from, rest);
        world_at(world, world->now + rest, HAPPENING_CONNECT, host->number, 0);
        if (!group->bad_image && !world_chance(&host->random, world->config.replacement_sickens))
                return;
        world->figures.replaced_badly++;
        world_at(world, world->now + rest + world_between(&host->random, SPAN_SEC(30), SPAN_MIN(10)),
                HAPPENING_AIL, host->number, AILMENT_DEAD);
}

static void add_activity(Host *host, Span later) {
        World *world = host->world;
        Group *group = host->group;
        Span lag = world->config.slow_ledger ? LEDGER_SLOW : LEDGER_LAG;

        if (group->n_activities == group->activities_room)
                group->activities = world_grow(group->activities, &group->activities_room, sizeof(Activity));
        group->activities[group->n_activities++] = (Activity){
                .host = host->number,
                .at = world->now,
                .seen_at = world->now + later + world_between(&host->random, 0, lag),
        };
}

static void leave(Host *host) {
        World *world = host->world;

        host_leave(host);
        host->left_at = world->now;
        host->left_seen_at = world->now + world_between(&host->random, 0, MEMBER_LAG);
        world_at(world, world->now + world_between(&host->random, SPAN_SEC(10), SPAN_SEC(40)),
                HAPPENING_LAUNCH, host->number, 0);
        /* A frozen orphan can do nothing for itself: an operator does, in time. */
        if (host->ailment == AILMENT_FROZEN)
                world_at(world, world->now + SPAN_DAY(1), HAPPENING_GONE, host->number, 0);
}

void cloud_exit(Host *host) {
        if (!host->in_group)
                return;
        leave(host);
        world_at(host->world, host->world->now + world_between(&host->random, SPAN_SEC(30), SPAN_SEC(90)),
                HAPPENING_GONE, host->number, 0);
}

void cloud_attach(Host *host) {
        int64_t now = host->world->now;

        if (host->in_group || !host->registered)
                return;
        host_join(host);
        host->group->size++;
        host->standby = false;
        host->left_at = host->left_seen_at = NEVER;
        host->in_service_at = now + SPAN_SEC(10);
        host->detached_at = 0;
}

/* What the group is told to do. */
static Outcome take_out(Host *host, Host *subject, Action action) {
        World *world = host->world;
        Span later = action == ACTION_UNHEALTHY ? world_between(&subject->random, EXIT_FROM, EXIT_TO) : 0;

        if (!subject->in_group || action == ACTION_OBSERVE)
                return OUTCOME_REFUSED;
        if (subject->unhealthy_from != NEVER) /* said again: nothing new */
                return OUTCOME_OK;
        add_activity(subject, later);
        truth_removed(host, subject);
        if (action == ACTION_UNHEALTHY) {
                subject->unhealthy_from = world->now + world_between(&subject->random, 0, MEMBER_LAG);
                world_at(world, world->now + later, HAPPENING_EXIT, subject->number, 0);
        } else {
                subject->standby = action == ACTION_STANDBY;
                leave(subject);
        }
        if (world->on_removed)
                world->on_removed(world, subject);
        return OUTCOME_OK;
}

/* First the claim, then the status. Return: whether another call follows. */
static bool drain_part(Host *host, Host *subject, Chain *chain) {
        if (!subject->registered) {
                chain->outcome = OUTCOME_REFUSED;
                return false;
        }
        if (chain->step == 0) {
                set_claim(subject, chain->peer ? &subject->patrol : &subject->mark, host->world->now, host);
                /* Who takes an old claim over owns the drain that stands with it. */
                subject->drained_by = host->id;
                if (chain->peer && host->world->on_claim)
                        host->world->on_claim(host->world, host, subject);
                return host->policy.drain;
        }
        truth_drain(host, subject);
        subject->drained = true;
        subject->drained_by = host->id;
        return false;
}

/* What of the claims is ours is read first; then the status, and the claims last. Return: whether another call follows. */
static bool undrain_part(Host *host, Host *subject, Chain *chain) {
        Confirmation is = shown(host, subject);
        bool peers = is.patrolled && is.patrolled_by == host->id;
        int64_t age = is.server_time.usec - is.patrolled_at.usec;

        if (chain->step == 0) {
                if (!chain->peer && is.patrolled && age < CLAIM_OLD) {
                        chain->outcome = OUTCOME_CONTENTION;
                        return false;
                }
                return chain->peer ? peers : is.marked || is.patrolled;
        }
        if (chain->step == 1 && subject->drained && (!chain->peer || !is.marked)) {
                truth_undrain(host, subject);
                subject->drained = false;
                return true;
        }
        if (!chain->peer)
                set_claim(subject, &subject->mark, -1, host);
        set_claim(subject, &subject->patrol, -1, host);
        return false;
}

/* Return: whether another call follows. */
static bool end_part(Host *host, Chain *chain) {
        switch (chain->step) {
        case 0:
                if (host->unhealthy_from != NEVER && host->in_group)
                        chain->outcome = OUTCOME_CONTENTION;
                else if (shows_member(host))
                        chain->outcome = OUTCOME_REFUSED;
                return chain->outcome == OUTCOME_OK;
        case 1:
                if (cluster_of(host)->tag != SWITCH_ON)
                        chain->outcome = OUTCOME_CONTENTION;
                return chain->outcome == OUTCOME_OK;
        case 2: return true;
        }
        truth_ended(host);
        host_stop(host);
        return false;
}

/* Return: whether another call follows. */
static bool next_part(Host *host, Chain *chain) {
        Host *subject = world_host(host->world, chain->subject);

        switch (chain->type) {
        case EFFECT_LOOK: return read_part(host, subject, chain);
        case EFFECT_SWEEP: return sweep_part(host, chain);
        case EFFECT_DRAIN: return drain_part(host, subject, chain);
        case EFFECT_UNDRAIN: return undrain_part(host, subject, chain);
        case EFFECT_DETACH: chain->outcome = take_out(host, subject, chain->action); return false;
        case EFFECT_END: return end_part(host, chain);
        case EFFECT_CONFIRM:
        case EFFECT_PROBE:
        case EFFECT_REPAIR:
        case EFFECT_VERIFY:
        case EFFECT_FORGET: break;
        }
        return false;
}

static bool repair(Host *host) {
        bool helps = world_chance(&host->random, host->world->config.repair_helps);

        if (!helps || (host->ailment != AILMENT_DEAD && host->ailment != AILMENT_WEDGED))
                return false;
        host->ailment = AILMENT_NONE;
        host->repaired = true;
        host->world->figures.repaired++;
        return host_connected(host);
}

/* --- chains ------------------------------------------------------------------------------------------------------ */

static void forget(Chain *chain) {
        free(chain->draft);
        free(chain->sweep);
        chain->draft = NULL;
        chain->sweep = NULL;
        chain->busy = false;
        chain->serial++;
}

void cloud_forget(Host *host) {
        forget(&host->asking);
        forget(&host->changing);
        forget(&host->patrolling);
}

static bool changes(EffectType type) {
        return type == EFFECT_DRAIN || type == EFFECT_UNDRAIN || type == EFFECT_DETACH || type == EFFECT_END;
}

void cloud_freeze(Host *host) {
        Chain *chains[] = { &host->changing, &host->patrolling };

        /* Of the calls that are on their way, half arrive. */
        for (unsigned i = 0; i < sizeof(chains) / sizeof(chains[0]); i++)
                if (chains[i]->busy && changes(chains[i]->type) && world_chance(&host->random, 5000))
                        (void) next_part(host, chains[i]);
        cloud_forget(host);
}

static Verification verification(const Host *subject, Outcome outcome) {
        const Group *group = subject->group;
        int64_t now = subject->world->now;
        Verification is = { .outcome = outcome,
                .lifecycle = shows_member(subject) ? LIFECYCLE_IN_SERVICE
                             : subject->standby    ? LIFECYCLE_STANDBY
                                                   : LIFECYCLE_NO_GROUP,
                .unhealthy = subject->unhealthy_from <= now };

        /* Back to its present membership, if it was attached again. */
        for (uint32_t i = group->n_activities; i > 0 && subject->detached_at != 0; i--)
                if (group->activities[i - 1].host == subject->number &&
                        group->activities[i - 1].at >= subject->detached_at)
                        is.activity |= group->activities[i - 1].seen_at <= now;
        return is;
}

static void fill_look(Host *host, Chain *chain, Outcome outcome, Look *look) {
        *look = chain->draft->look;
        look->outcome = outcome;
        look->failed = outcome == OUTCOME_OK ? LOOK_WHOLE : chain->step < 3 ? LOOK_ECS : LOOK_AUTO_SCALING;
        look->server_time = wall_of(host->world->now);
        host->world->figures.looks_failed += outcome != OUTCOME_OK;
        truth_looked(host, look);
        if (!chain->peer)
                return;
        if (!host->peer_look)
                host->peer_look = malloc(sizeof(*look));
        assert(host->peer_look);
        *host->peer_look = *look;
        host->peer_looked_at = host->world->now;
}

/* Return: whether its agent runs again. */
static bool fill_event(Host *host, Chain *chain, Outcome outcome, Event *event) {
        switch (chain->type) {
        case EFFECT_CONFIRM:
                event->type = EVENT_CONFIRMED;
                event->confirmed =
                        outcome == OUTCOME_OK ? shown(host, host) : (Confirmation){ .outcome = outcome };
                break;
        case EFFECT_LOOK:
                event->type = EVENT_LOOKED;
                fill_look(host, chain, outcome, &event->look);
                break;
        case EFFECT_SWEEP:
                event->type = EVENT_SWEPT;
                event->swept = *chain->sweep;
                event->swept.outcome = outcome;
                break;
        case EFFECT_VERIFY:
                event->type = EVENT_VERIFIED;
                event->verified = verification(world_host(host->world, chain->subject), outcome);
                break;
        case EFFECT_REPAIR:
        case EFFECT_DRAIN:
        case EFFECT_UNDRAIN:
        case EFFECT_DETACH:
        case EFFECT_END:
                event->type = chain->type == EFFECT_REPAIR    ? EVENT_REPAIRED
                              : chain->type == EFFECT_DRAIN   ? EVENT_DRAINED
                              : chain->type == EFFECT_UNDRAIN ? EVENT_UNDRAINED
                              : chain->type == EFFECT_DETACH  ? EVENT_DETACHED
                                                              : EVENT_ENDED;
                event->outcome = outcome;
                return chain->type == EFFECT_REPAIR && repair(host);
        case EFFECT_PROBE:
        case EFFECT_FORGET: break;
        }
        return false;
}

static void finish(Host *host, Chain *chain, Outcome outcome) {
        Event event = { .ticket = chain->ticket };
        bool mended = fill_event(host, chain, outcome, &event);

        forget(chain);
        host_event(host, &event);
        if (mended)
                host_mended(host);
}

/* --- calls ------------------------------------------------------------------------------------------------------- */

static Quota quota_of(const Chain *chain) {
        static const Quota end_calls[] = { QUOTA_AUTO_SCALING, QUOTA_ECS_READ, QUOTA_ECS_READ,
                QUOTA_ECS_MODIFY };

        switch (chain->type) {
        case EFFECT_LOOK: return look_calls[chain->step];
        case EFFECT_DETACH:
        case EFFECT_VERIFY: return QUOTA_AUTO_SCALING;
        case EFFECT_DRAIN: return QUOTA_ECS_MODIFY;
        case EFFECT_UNDRAIN: return chain->step == 0 ? QUOTA_ECS_READ : QUOTA_ECS_MODIFY;
        case EFFECT_END: return end_calls[chain->step];
        case EFFECT_CONFIRM:
        case EFFECT_SWEEP:
        case EFFECT_PROBE:
        case EFFECT_REPAIR:
        case EFFECT_FORGET: break;
        }
        return QUOTA_ECS_READ;
}

/* Reads that all hosts make at once are not tried again within the call: the core's own waits spread them. */
static unsigned tries_max(const Chain *chain) {
        bool yields =
                chain->type == EFFECT_LOOK || chain->type == EFFECT_CONFIRM || chain->type == EFFECT_SWEEP;

        return yields ? 1 : TRIES_MAX;
}

static void call_next(Host *host, Chain *chain, Span delay) {
        Happening what = chain == &host->asking     ? HAPPENING_ASK
                         : chain == &host->changing ? HAPPENING_CHANGE
                                                    : HAPPENING_PATROL;

        world_at(host->world, host->world->now + delay, what, host->number, chain->serial);
}

static Span latency(Host *host) {
        return world_between(&host->random, SPAN_MSEC(20), SPAN_MSEC(150));
}

/* One call, of which the service has taken notice. */
static void call_now(Host *host, Chain *chain) {
        bool lost = world_chance(&host->random, host->world->config.calls_fail), on;

        /* Of a change whose answer is lost, half have happened. */
        if (lost && (!changes(chain->type) || world_chance(&host->random, 5000))) {
                finish(host, chain, changes(chain->type) ? OUTCOME_LOST : OUTCOME_UNAVAILABLE);
                return;
        }
        on = next_part(host, chain);
        if (lost || !on) {
                finish(host, chain, lost ? OUTCOME_LOST : chain->outcome);
                return;
        }
        chain->step++;
        call_next(host, chain, latency(host));
}

void cloud_next(Host *host, Chain *chain, uint32_t serial) {
        World *world = host->world;

        if (!chain->busy || chain->serial != serial)
                return;
        if (chain->type == EFFECT_REPAIR) {
                finish(host, chain, OUTCOME_OK);
        } else if (host->partings > 0) {
                finish(host, chain, OUTCOME_UNAVAILABLE);
        } else if (!admitted(world, quota_of(chain))) {
                if (++chain->tries >= tries_max(chain))
                        finish(host, chain, OUTCOME_THROTTLED);
                else
                        call_next(host, chain, world_between(&host->random, 0, SPAN_SEC(chain->tries)));
        } else {
                chain->tries = 0;
                call_now(host, chain);
        }
}

/* What is known of our rights is renewed by calls that change nothing; nobody waits for them. */
static void probe(Host *host) {
        for (unsigned i = 0; i < 3; i++)
                (void) admitted(host->world, QUOTA_ECS_MODIFY);
        (void) admitted(host->world, QUOTA_AUTO_SCALING);
}

/* The peer that patrol is at: its ARN is its number. */
static Host *patrolled(const Host *host) {
        const PeerName *name = &host->core.patrol.peer;
        Host *peer = world_host(host->world, (uint32_t) strtoul(name->arn, NULL, 10));

        assert(turn_id(name->instance_id) == peer->id);
        return peer;
}

static void begin_reading(Host *host, Chain *chain) {
        if (chain->type == EFFECT_SWEEP) {
                chain->sweep = calloc(1, sizeof(*chain->sweep));
                assert(chain->sweep);
                host->world->figures.sweeps++;
        } else if (chain->type == EFFECT_LOOK) {
                chain->draft = calloc(1, sizeof(*chain->draft));
                assert(chain->draft);
                chain->draft->look.self = world_host(host->world, chain->subject)->id;
                chain->draft->look.of_peer = chain->peer;
                chain->draft->look.own.outcome = OUTCOME_BLIND;
                host->world->figures.looks++;
        }
        host->world->figures.confirms += chain->type == EFFECT_CONFIRM;
}

void cloud_do(Host *host, const Effect *effect) {
        bool peer = effect->peer || effect->type == EFFECT_SWEEP;
        Host *subject = effect->peer ? patrolled(host) : host;
        Chain *chain = peer                                                     ? &host->patrolling
                       : changes(effect->type) || effect->type == EFFECT_VERIFY ? &host->changing
                                                                                : &host->asking;

        if (effect->type == EFFECT_FORGET) {
                forget(&host->asking);
                return;
        }
        if (effect->type == EFFECT_PROBE) {
                probe(host);
                return;
        }
        truth_effect(host, subject, effect);
        forget(chain);
        chain->busy = true;
        chain->type = effect->type;
        chain->ticket = effect->ticket;
        chain->whole = effect->whole;
        chain->peer = effect->peer;
        chain->action = (Action) effect->action;
        chain->subject = subject->number;
        chain->outcome = OUTCOME_OK;
        chain->step = chain->tries = 0;
        begin_reading(host, chain);
        /* A lost network shows when the calls time out. */
        call_next(host, chain, host->partings > 0 ? SPAN_SEC(15) : latency(host));
}
