/* SPDX-License-Identifier: Apache-2.0 */

/* Judges what the cores do by what is true, and keeps the figures. It shares no code with the brakes that it judges. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fleet/world.h"

/* A look and the call that follows from it lie no further apart than a call with all its tries. */
#define LOOK_FRESH SPAN_SEC(15)
/* Something of ours that stands at ECS for so long, and that nobody is about to undo, is left behind: at a host that
 * could have undone it; at one that cannot, a patrol needs its rounds, and its turn after others, to take it over. */
#define LEFT_BEHIND SPAN_MIN(15)
#define TAKEN_OVER  SPAN_HOUR(4)
#define CHECK_EVERY SPAN_MIN(5)
/* One that has just woken up is still shown as disconnected, and calls are under way. */
#define JUST_AWAKE SPAN_SEC(15)
/* A daemon hears of its agent's lost connection at once; a look and a call may have been under way. */
#define CUT_OFF SPAN_SEC(30)

void truth_break(World *world, uint64_t *counter, const Host *host, const char *what) {
        Figures *figures = &world->figures;

        (*counter)++;
        if (figures->first_break[0] != '\0')
                return;
        figures->break_seed = world->config.seed;
        (void) snprintf(figures->first_break, sizeof(figures->first_break),
                "%s: host %u of group %u at %" PRId64 " s, stage %s", what, host->number,
                host->group->number, world->now / SPAN_SEC(1), stage_to_string(host->core.stage));
}

/* --- S2 and S3: by what was visible ------------------------------------------------------------------------------ */

static bool too_many(Population population, int64_t max_sick) {
        if (population.sick >= 2 && population.sick == population.members)
                return true;
        return population.sick > 2 &&
               (int64_t) population.sick * 10000 > (int64_t) population.members * max_sick;
}

static bool share_seen(const Look *look, int64_t max_sick) {
        return look->more_than_a_page || too_many(look->cluster, max_sick) ||
               too_many(look->group, max_sick) || too_many(look->zone, max_sick);
}

void truth_looked(Host *host, const Look *look) {
        if (look->outcome == OUTCOME_OK && share_seen(look, host->policy.max_sick))
                host->share_seen_at = host->world->now;
}

static unsigned removed_since(const Cluster *cluster, int64_t since) {
        unsigned n = 0;

        for (uint32_t i = cluster->n_removed; i > 0 && cluster->removed[i - 1] > since; i--)
                n++;
        return n;
}

static void check_share(Host *host, const Look *look, bool slow_lane) {
        World *world = host->world;
        Figures *figures = &world->figures;
        bool settling = host->share_seen_at >= 0 && world->now - host->share_seen_at < host->policy.settle;

        if (!settling && !share_seen(look, host->policy.max_sick))
                return;
        if (!slow_lane)
                truth_break(world, &figures->s2, host,
                        settling ? "acted before it settled" : "acted on a share");
        else if (removed_since(&world->clusters[host->group->cluster], world->now - SPAN_HOUR(1)) > 0)
                truth_break(world, &figures->s2, host, "two by the slow lane in an hour");
}

/* By what the look showed, whoever made it. */
static void check_look(Host *host, const Look *look, Span age) {
        World *world = host->world;
        Figures *figures = &world->figures;

        if (!look || look->outcome != OUTCOME_OK || look->own.outcome != OUTCOME_OK || age > LOOK_FRESH) {
                truth_break(world, &figures->s3, host, "acted without a fresh look");
                return;
        }
        if (look->own.connected)
                truth_break(world, &figures->s4, host, "acted although ECS called it connected");
        if (look->group_state != 0 || look->tag_cluster == SWITCH_OFF || look->tag_group == SWITCH_OFF)
                truth_break(world, &figures->s2, host, "acted on a group that is busy or off");
}

/* By the truth about a peer that patrol is about to act on. */
static void check_peer(Host *host, const Host *peer) {
        World *world = host->world;
        uint64_t *counter = &world->figures.s2;

        if (peer->no_agent)
                truth_break(world, counter, host, "patrol acted on a host without an agent of ours");
        if (peer->paused || peer->policy.action == ACTION_OBSERVE)
                truth_break(world, counter, host, "patrol acted on a paused or observing host");
        if (peer->group != host->group)
                truth_break(world, counter, host, "patrol acted on another group");
        if (!host_connected(host) && world->now - host->down_from > CUT_OFF)
                truth_break(world, counter, host, "patrolled while cut off");
}

void truth_effect(Host *host, const Host *subject, const Effect *effect) {
        World *world = host->world;
        const Core *core = &host->core;
        const Look *look = effect->peer ? host->peer_look : &core->look;
        Span age = effect->peer ? world->now - host->peer_looked_at
                                : host_now(host).mono.usec - core->looked_at.usec;

        if (effect->type != EFFECT_DRAIN && effect->type != EFFECT_DETACH && effect->type != EFFECT_REPAIR)
                return;
        if (host->paused || host->policy.action == ACTION_OBSERVE)
                truth_break(world, &world->figures.s2, host, "acted while paused or observing");
        check_look(host, look, age);
        if (look)
                check_share(host, look, core->slow_lane && !effect->peer);
        if (effect->peer)
                check_peer(host, subject);
}

/* --- S1 and S4: by what has happened ------------------------------------------------------------------------------ */

static void count_group(Host *host) {
        World *world = host->world;
        Group *group = host->group;
        unsigned n;

        while (world->now - group->activities[group->first_removed].at >= world->config.policy.window)
                group->first_removed++;
        n = group->n_activities - group->first_removed;
        if (n > world->figures.worst_group)
                world->figures.worst_group = n;
        if (n > group->budget)
                truth_break(world, &world->figures.s1_group, host, "more removals than the group's budget");
}

static void count_cluster(Host *host) {
        World *world = host->world;
        Cluster *cluster = &world->clusters[host->group->cluster];
        unsigned n;

        if (cluster->n_removed == cluster->removed_room)
                cluster->removed = world_grow(cluster->removed, &cluster->removed_room, sizeof(int64_t));
        cluster->removed[cluster->n_removed++] = world->now;
        while (world->now - cluster->removed[cluster->first_removed] >= world->config.policy.window)
                cluster->first_removed++;
        n = cluster->n_removed - cluster->first_removed;
        if (n > world->figures.worst_cluster)
                world->figures.worst_cluster = n;
        if (n > cluster->budget)
                truth_break(
                        world, &world->figures.s1_cluster, host, "more removals than the cluster's budget");
}

static void tell_removal(const Host *host, const Host *subject) {
        static const char *const names[AILMENT_N] = { "innocent", "link", "dead", "wedged", "frozen" };
        const World *world = host->world;
        const Look *look = subject == host || !host->peer_look ? &host->core.look : host->peer_look;

        printf("# seed %" PRIu64 ", %" PRId64
               " s: host %u of group %u, zone %u is out: %s, down for %" PRId64 " s",
                world->config.seed, world->now / SPAN_SEC(1), subject->number, subject->group->number,
                subject->zone, names[subject->ailment], (world->now - subject->down_from) / SPAN_SEC(1));
        if (subject != host)
                printf(", by host %u", host->number);
        if (subject->ailment == AILMENT_NONE)
                printf(", would be back in %" PRId64 " s", (subject->back_at - world->now) / SPAN_SEC(1));
        printf("; it saw %u of %u sick in the cluster, %u of %u in its group, %u of %u in its zone%s\n",
                look->cluster.sick, look->cluster.members, look->group.sick, look->group.members,
                look->zone.sick, look->zone.members, host->core.slow_lane ? " (slow lane)" : "");
}

/* As the minute begins that has calls in it: the line tells of the one before. */
void truth_minute(World *world) {
        unsigned connected = 0, cut_off = 0, ailing = 0;

        for (uint32_t i = 0; i < world->n_hosts; i++) {
                const Host *host = world->hosts[i];

                if (!host->in_group || !host->started)
                        continue;
                connected += host_connected(host);
                ailing += host->ailment != AILMENT_NONE;
                cut_off += host->ailment == AILMENT_NONE && host->cuts > 0;
        }
        fprintf(world->config.minutes, "%s,%" PRId64 ",%u,%u,%u,%" PRIu64, world->config.name, world->minute,
                connected, cut_off, ailing, world->figures.removals);
        for (unsigned q = 0; q < QUOTA_N; q++)
                fprintf(world->config.minutes, ",%.2f", (double) world->minute_calls[q] / 60);
        fputc('\n', world->config.minutes);
}

static bool is_innocent(const Host *host) {
        bool just_awake = host->woke_at >= 0 && host->world->now - host->woke_at < JUST_AWAKE;

        return host->ailment == AILMENT_NONE && !just_awake;
}

void truth_removed(Host *host, Host *subject) {
        World *world = host->world;
        Figures *figures = &world->figures;

        figures->removals++;
        figures->by_patrol += host != subject;
        if (subject->detached_at != 0)
                truth_break(world, &figures->s4, subject, "removed twice");
        subject->detached_at = world->now;
        if (world->config.tell)
                tell_removal(host, subject);
        count_group(subject);
        count_cluster(subject);
        if (is_innocent(subject))
                figures->innocents++;
        else
                figures_time(figures, world->now - subject->ailing_from);
}

void truth_drain(Host *host, Host *subject) {
        World *world = host->world;

        world->figures.drains++;
        if (subject->foreign_drain)
                truth_break(world, &world->figures.s4, host, "drained what somebody else drains");
}

void truth_undrain(Host *host, Host *subject) {
        World *world = host->world;
        uint64_t *counter = &world->figures.s4;

        world->figures.undone++;
        if (subject->foreign_drain)
                truth_break(world, counter, host, "undid somebody else's drain");
        /* What has just been attached again is a member, whatever was drained before. */
        if (!subject->in_group)
                truth_break(world, counter, host, "undid the drain of a removed host");
        if (host != subject && subject->drained_by != host->id)
                truth_break(world, counter, host, "undid another's drain of a peer");
}

void truth_ended(Host *host) {
        World *world = host->world;

        world->figures.ended++;
        if (host->in_group || host->standby)
                truth_break(world, &world->figures.s4, host, "ended what is no orphan");
        if (host->paused || host->policy.action == ACTION_OBSERVE)
                truth_break(world, &world->figures.s2, host, "ended while paused or observing");
}

/* Whether a daemon that runs is at it: the host's own, or a patrolling peer's. */
static bool is_attended(const World *world, const Host *host) {
        const Group *group = host->group;

        if (core_incident_open(&host->core) && host->ailment != AILMENT_FROZEN)
                return true;
        for (uint32_t i = 0; i < group->n_members; i++) {
                const Host *peer = world->hosts[group->members[i]];

                if (peer->core.patrol.stage >= PATROL_DRAINING && peer->ailment != AILMENT_FROZEN &&
                        strtoul(peer->core.patrol.peer.arn, NULL, 10) == host->number)
                        return true;
        }
        return false;
}

static void check_left_behind(Host *host) {
        World *world = host->world;
        int64_t at = host->patrol.at > host->mark.at ? host->patrol.at : host->mark.at, since;
        bool connected = host_connected(host);

        if (!host->in_group || !host->registered || (at < 0 && (!host->drained || host->foreign_drain)) ||
                is_attended(world, host))
                return;
        since = world->now - (at > 0 ? at : 0);
        if (connected && world->now - host->connects_at < since)
                since = world->now - host->connects_at;
        if (connected ? since > LEFT_BEHIND : host->ailment == AILMENT_FROZEN && since > TAKEN_OVER)
                truth_break(world, &world->figures.s4, host, "left a drain or a claim behind");
}

void truth_claims(World *world) {
        if (world->now - world->checked_at < CHECK_EVERY)
                return;
        world->checked_at = world->now;
        for (unsigned c = 0; c < world->config.clusters; c++)
                for (uint32_t i = 0; i < world->clusters[c].n_down; i++)
                        check_left_behind(world->hosts[world->clusters[c].down[i]]);
}

/* --- L1 and L2 ---------------------------------------------------------------------------------------------------- */

/* Grace, the wait after a repair, and two minutes. */
static Span lone_bound(const Host *host) {
        const Policy *policy = &host->policy;

        return (host->ailment == AILMENT_DEAD ? policy->grace_dead : policy->grace) + policy->repair_wait +
               SPAN_MIN(2);
}

static Span few_bound(const Host *host, unsigned n) {
        const Policy *policy = &host->policy;

        return policy->grace + policy->repair_wait +
               n * (policy->turn + policy->window / host->group->budget) + 2 * policy->turn * n;
}

static void check_late(World *world, Liveness liveness) {
        int64_t last = 0;
        unsigned n = 0;

        for (uint32_t i = 0; i < world->n_hosts; i++)
                if (world->hosts[i]->ailment != AILMENT_NONE) {
                        n++;
                        if (world->hosts[i]->ailing_from > last)
                                last = world->hosts[i]->ailing_from;
                }
        for (uint32_t i = 0; i < world->n_hosts; i++) {
                const Host *host = world->hosts[i];
                int64_t bound = liveness == LIVENESS_LONE ? host->ailing_from + lone_bound(host)
                                                          : last + few_bound(host, n);

                if (host->ailment == AILMENT_NONE || host->world->now <= bound)
                        continue;
                if (host->in_group || host->detached_at > bound)
                        truth_break(world, &world->figures.late, host,
                                host->in_group ? "still in" : "out too late");
        }
}

void truth_end(World *world, Liveness liveness) {
        for (uint32_t i = 0; i < world->n_hosts; i++) {
                check_left_behind(world->hosts[i]);
                world->figures.left_sick +=
                        world->hosts[i]->in_group && world->hosts[i]->ailment != AILMENT_NONE;
        }
        if (liveness != LIVENESS_NONE)
                check_late(world, liveness);
}

/* --- figures ------------------------------------------------------------------------------------------------------ */

void figures_time(Figures *figures, Span span) {
        if (figures->n_times == figures->times_room)
                figures->times = world_grow(figures->times, &figures->times_room, sizeof(Span));
        figures->times[figures->n_times++] = span;
}

static int span_order(const void *a, const void *b) {
        Span x = *(const Span *) a, y = *(const Span *) b;

        return (x > y) - (x < y);
}

Span figures_share(Figures *figures, unsigned percent) {
        uint32_t rank;

        if (figures->n_times == 0)
                return -1;
        qsort(figures->times, figures->n_times, sizeof(Span), span_order);
        rank = (uint32_t) (((uint64_t) figures->n_times * percent + 99) / 100);
        return figures->times[rank > 0 ? rank - 1 : 0];
}

static void sum_up(Figures *sum, const Figures *part) {
        sum->runs += part->runs;
        sum->hosts += part->hosts;
        sum->steps += part->steps;
        sum->struck += part->struck;
        sum->ailing += part->ailing;
        sum->removals += part->removals;
        sum->by_patrol += part->by_patrol;
        sum->sweeps += part->sweeps;
        sum->ended += part->ended;
        sum->innocents += part->innocents;
        sum->runs_with_innocents += part->innocents > 0;
        sum->repaired += part->repaired;
        sum->undone += part->undone;
        sum->drains += part->drains;
        sum->late += part->late;
        sum->runs_odd += part->runs_odd;
        sum->left_sick += part->left_sick;
        sum->s1_group += part->s1_group;
        sum->s1_cluster += part->s1_cluster;
        sum->s2 += part->s2;
        sum->s3 += part->s3;
        sum->s4 += part->s4;
        sum->replacements += part->replacements;
        sum->replaced_badly += part->replaced_badly;
        sum->minutes += part->minutes;
        sum->confirms += part->confirms;
        sum->looks += part->looks;
        sum->looks_failed += part->looks_failed;
}

static uint32_t greater(uint32_t a, uint32_t b) {
        return a > b ? a : b;
}

void figures_add(Figures *sum, const Figures *part) {
        sum_up(sum, part);
        sum->worst_group = greater(sum->worst_group, part->worst_group);
        sum->worst_cluster = greater(sum->worst_cluster, part->worst_cluster);
        for (unsigned q = 0; q < QUOTA_N; q++) {
                sum->asked[q] += part->asked[q];
                sum->throttled[q] += part->throttled[q];
                sum->peak[q] = greater(sum->peak[q], part->peak[q]);
                sum->peak_late[q] = greater(sum->peak_late[q], part->peak_late[q]);
        }
        for (uint32_t i = 0; i < part->n_times; i++)
                figures_time(sum, part->times[i]);
        if (sum->first_break[0] == '\0' && part->first_break[0] != '\0') {
                memcpy(sum->first_break, part->first_break, sizeof(sum->first_break));
                sum->break_seed = part->break_seed;
        }
}
