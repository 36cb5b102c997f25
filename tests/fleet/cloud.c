/* SPDX-License-Identifier: Apache-2.0 */

/*
 * AWS: quotas, calls one after another with tries of their own, answers that lag behind the truth, and groups that replace
 * what they lose. A look reads what act/looker.c reads, in its order and with its shortcuts.
 */

#include <assert.h>
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
/* A mark without a group may be of ours, if it is so young that the activity may still be missing. As in act/looker.c. */
#define MARK_YOUNG SPAN_MIN(5)
#define BATCH_MAX  50 /* of DescribeAutoScalingInstances */
#define YOUNG      SPAN_HOUR(1)
#define NEVER      INT64_MAX

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

static bool shows_mark(const Host *host) {
        return host->marked_at >= 0 && host->marked_seen_at <= host->world->now;
}

static Confirmation shown_own(const Host *host) {
        return (Confirmation){
                .outcome = OUTCOME_OK,
                .connected = !cloud_shows_down(host),
                .status = !host->registered ? CONTROL_MISSING
                          : host->drained   ? CONTROL_DRAINING
                                            : CONTROL_ACTIVE,
                .marked = host->marked_at >= 0,
                .server_time = { WORLD_START_WALL + host->world->now },
        };
}

void cloud_note_link(Host *host, bool was_connected) {
        World *world = host->world;
        bool rare = world_chance(&host->random, 300);
        Cluster *cluster = cluster_of(host);

        if (host_connected(host) == was_connected)
                return;
        if (was_connected) {
                host->down_seen_from =
                        world->now + (rare ? world_between(&host->random, DOWN_LAG, DOWN_LAG_RARE)
                                           : world_between(&host->random, 0, DOWN_LAG));
                host->down_seen_to = NEVER;
                if (host->listed)
                        return;
                if (cluster->n_down == cluster->down_room)
                        cluster->down = world_grow(cluster->down, &cluster->down_room, sizeof(uint32_t));
                cluster->down[cluster->n_down++] = host->number;
                host->listed = true;
        } else {
                host->down_seen_to = world->now + world_between(&host->random, 0, UP_LAG);
        }
}

void cloud_clean(Host *host) {
        if (!host->registered)
                return;
        host->registered = false;
        cluster_of(host)->registered--;
}

/* --- a look, part by part ---------------------------------------------------------------------------------------- */

/* ListContainerInstances, agentConnected==false, one page; drops from the list those that are long back. */
static void read_page(const Host *host, Draft *draft) {
        World *world = host->world;
        Cluster *cluster = cluster_of(host);

        for (uint32_t i = 0; i < cluster->n_down && !draft->look.more_than_a_page;) {
                Host *peer = world_host(world, cluster->down[i]);

                if (!peer->registered || peer->down_seen_to <= world->now) {
                        peer->listed = false;
                        cluster->down[i] = cluster->down[--cluster->n_down];
                        continue;
                }
                i++;
                if (!cloud_shows_down(peer))
                        continue;
                if (peer == host)
                        draft->own_down = true;
                else if (draft->n_peers + draft->own_down < LOOK_PAGE)
                        draft->peers[draft->n_peers++] = peer->number;
                else
                        draft->look.more_than_a_page = true;
        }
}

static void read_instances(const Host *host, Draft *draft) {
        Look *look = &draft->look;
        uint32_t others = draft->n_peers + 1; /* ourselves, whether connected or not */

        look->own = shown_own(host);
        draft->own_down = !look->own.connected;
        for (unsigned i = 0; i < draft->n_peers; i++) {
                const Host *peer = world_host(host->world, draft->peers[i]);

                draft->marked_at[i] = shows_mark(peer) ? peer->marked_at : -1;
        }
        if (look->more_than_a_page) {
                look->share_decided = true;
                look->cluster.sick = LOOK_PAGE;
                look->cluster.members = draft->registered > LOOK_PAGE ? draft->registered : LOOK_PAGE;
                others = LOOK_PAGE;
        }
        look->connected_peers = draft->registered > others ? draft->registered - others : 0;
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

static void read_members(const Host *host, Draft *draft) {
        Look *look = &draft->look;
        uint32_t strays = 0;

        look->lifecycle = !shows_member(host)      ? LIFECYCLE_NO_GROUP
                          : shows_in_service(host) ? LIFECYCLE_IN_SERVICE
                                                   : LIFECYCLE_PENDING;
        if (draft->own_down && look->lifecycle == LIFECYCLE_IN_SERVICE)
                add_sick(look, host, host);
        for (unsigned i = 0; i < draft->n_peers; i++) {
                const Host *peer = world_host(host->world, draft->peers[i]);

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
        look->share_decided = brake_population_holds(&look->cluster, host->policy.max_sick);
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

/* The replacement of the last removal that the activities show. */
static Replacement shown_replacement(const Host *host, int64_t removed_at) {
        const Group *group = host->group;
        const Host *last;

        if (removed_at < 0)
                return REPLACEMENT_NONE;
        if (group->last_launched == UINT32_MAX)
                return REPLACEMENT_PENDING;
        last = world_host(host->world, group->last_launched);
        if (last->launched_at < removed_at || !shows_member(last))
                return REPLACEMENT_PENDING;
        return last->registered && !cloud_shows_down(last) ? REPLACEMENT_CONNECTED : REPLACEMENT_PENDING;
}

static void read_activities(const Host *host, Draft *draft) {
        const Group *group = host->group;
        Look *look = &draft->look;
        int64_t now = host->world->now, last = -1;

        for (uint32_t i = group->n_activities; i > 0; i--) {
                const Activity *activity = &group->activities[i - 1];

                if (now - activity->at >= SPAN_DAY(1))
                        break;
                if (activity->seen_at > now)
                        continue;
                if (activity->at > last)
                        last = activity->at;
                add_removed(host, draft, world_host(host->world, activity->host), activity->at, true);
                if (host->launched_at >= activity->at && host->launched_at - activity->at < YOUNG &&
                        now - host->launched_at < YOUNG)
                        look->young = true;
        }
        for (unsigned ours = 2; ours-- > 0;) {
                for (unsigned i = 0; i < draft->n_peers; i++) {
                        const Host *peer = world_host(host->world, draft->peers[i]);
                        bool in = shows_member(peer), known = in && peer->group == host->group;

                        if (draft->marked_at[i] < 0)
                                continue;
                        if (known || (!in && now - draft->marked_at[i] < MARK_YOUNG)) {
                                if (ours)
                                        add_removed(host, draft, peer, draft->marked_at[i], true);
                        } else if (!ours) {
                                add_removed(host, draft, peer, draft->marked_at[i], false);
                        }
                }
        }
        look->replacement = shown_replacement(host, last);
}

/* Return: whether the look goes on after this part. */
static bool read_part(Host *host, Chain *chain) {
        Draft *draft = chain->draft;

        switch (chain->step) {
        case 0:
                draft->registered = cluster_of(host)->registered;
                draft->look.tag_cluster = cluster_of(host)->tag;
                return true;
        case 1: read_page(host, draft); return true;
        case 2: read_instances(host, draft); return !draft->look.more_than_a_page;
        case 3:
                if (draft->n_peers >= BATCH_MAX)
                        (void) admitted(host->world, QUOTA_AUTO_SCALING);
                read_members(host, draft);
                if (draft->look.lifecycle != LIFECYCLE_IN_SERVICE)
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

static void detach(Host *host) {
        World *world = host->world;
        Group *group = host->group;
        bool slow = world->config.slow_ledger;

        if (group->n_activities == group->activities_room)
                group->activities = world_grow(group->activities, &group->activities_room, sizeof(Activity));
        group->activities[group->n_activities++] = (Activity){
                .host = host->number,
                .at = world->now,
                .seen_at = world->now + world_between(&host->random, 0, slow ? LEDGER_SLOW : LEDGER_LAG),
        };
        host->in_group = false;
        host->left_at = world->now;
        host->left_seen_at = world->now + world_between(&host->random, 0, MEMBER_LAG);
        truth_removed(host);
        for (uint32_t i = 0; i < group->n_members; i++)
                if (group->members[i] == host->number)
                        group->members[i] = group->members[--group->n_members];
        world_at(world, world->now + world_between(&host->random, SPAN_SEC(10), SPAN_SEC(40)),
                HAPPENING_LAUNCH, host->number, 0);
        if (!world->config.orphans_stay)
                world_at(world, world->now + SPAN_HOUR(1) + SPAN_MIN(5), HAPPENING_CLEAN, host->number, 0);
        if (world->on_removed)
                world->on_removed(world, host);
}

static bool mark(Host *host) {
        host->marked_at = host->world->now;
        host->marked_seen_at = host->world->now + world_between(&host->random, 0, MARK_LAG);
        return host->policy.drain;
}

/* Return: whether another call follows. */
static bool change_part(Host *host, Chain *chain) {
        switch (chain->type) {
        case EFFECT_DRAIN:
                if (chain->step == 0)
                        return mark(host);
                truth_drain(host);
                host->drained = true;
                return false;
        case EFFECT_UNDRAIN:
                if (chain->step == 0)
                        return host->registered && host->marked_at >= 0;
                if (chain->step == 1) {
                        if (host->drained)
                                truth_undrain(host);
                        host->drained = false;
                        return true;
                }
                host->marked_at = -1;
                return false;
        case EFFECT_DETACH:
                if (host->in_group)
                        detach(host);
                return false;
        case EFFECT_CONFIRM:
        case EFFECT_LOOK:
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

void cloud_forget(Chain *chain) {
        free(chain->draft);
        chain->draft = NULL;
        chain->busy = false;
        chain->serial++;
}

static void finish(Host *host, Chain *chain, Outcome outcome) {
        Event event = { .ticket = chain->ticket };
        Wall server_time = { WORLD_START_WALL + host->world->now };
        bool mended = false;

        switch (chain->type) {
        case EFFECT_CONFIRM:
                event.type = EVENT_CONFIRMED;
                event.confirmed =
                        outcome == OUTCOME_OK ? shown_own(host) : (Confirmation){ .outcome = outcome };
                break;
        case EFFECT_LOOK:
                event.type = EVENT_LOOKED;
                event.look = chain->draft->look;
                event.look.outcome = outcome;
                event.look.failed = outcome == OUTCOME_OK ? LOOK_WHOLE
                                    : chain->step < 3     ? LOOK_ECS
                                                          : LOOK_AUTO_SCALING;
                event.look.server_time = server_time;
                host->world->figures.looks_failed += outcome != OUTCOME_OK;
                truth_looked(host, &event.look);
                break;
        case EFFECT_REPAIR:
                event.type = EVENT_REPAIRED;
                mended = repair(host);
                break;
        case EFFECT_DRAIN: event.type = EVENT_DRAINED; break;
        case EFFECT_UNDRAIN: event.type = EVENT_UNDRAINED; break;
        case EFFECT_DETACH: event.type = EVENT_DETACHED; break;
        case EFFECT_VERIFY:
                event.type = EVENT_VERIFIED;
                event.verified.outcome = outcome;
                event.verified.lifecycle = shows_member(host) ? LIFECYCLE_IN_SERVICE : LIFECYCLE_NO_GROUP;
                break;
        case EFFECT_PROBE:
        case EFFECT_FORGET: break;
        }
        if (event.type == EVENT_REPAIRED || event.type == EVENT_DRAINED || event.type == EVENT_UNDRAINED ||
                event.type == EVENT_DETACHED)
                event.outcome = outcome;
        cloud_forget(chain);
        host_event(host, &event);
        if (mended)
                host_mended(host);
}

static bool changes(EffectType type) {
        return type == EFFECT_DRAIN || type == EFFECT_UNDRAIN || type == EFFECT_DETACH;
}

static Quota quota_of(const Chain *chain) {
        switch (chain->type) {
        case EFFECT_LOOK: return look_calls[chain->step];
        case EFFECT_DETACH:
        case EFFECT_VERIFY: return QUOTA_AUTO_SCALING;
        case EFFECT_DRAIN: return QUOTA_ECS_MODIFY;
        case EFFECT_UNDRAIN: return chain->step == 0 ? QUOTA_ECS_READ : QUOTA_ECS_MODIFY;
        case EFFECT_CONFIRM:
        case EFFECT_PROBE:
        case EFFECT_REPAIR:
        case EFFECT_FORGET: break;
        }
        return QUOTA_ECS_READ;
}

static void call_next(Host *host, Chain *chain, Span delay) {
        world_at(host->world, host->world->now + delay,
                chain == &host->asking ? HAPPENING_ASK : HAPPENING_CHANGE, host->number, chain->serial);
}

static Span latency(Host *host) {
        return world_between(&host->random, SPAN_MSEC(20), SPAN_MSEC(150));
}

void cloud_next(Host *host, Chain *chain, uint32_t serial) {
        World *world = host->world;
        bool lost = world_chance(&host->random, world->config.calls_fail), on = false;

        if (!chain->busy || chain->serial != serial)
                return;
        if (chain->type == EFFECT_REPAIR) {
                finish(host, chain, OUTCOME_OK);
                return;
        }
        if (host->partings > 0) {
                finish(host, chain, OUTCOME_UNAVAILABLE);
                return;
        }
        if (!admitted(world, quota_of(chain))) {
                if (++chain->tries >= TRIES_MAX)
                        finish(host, chain, OUTCOME_THROTTLED);
                else
                        call_next(host, chain,
                                world_between(&host->random, 0, SPAN_SEC(1) << (chain->tries - 1)));
                return;
        }
        chain->tries = 0;
        /* Of a change whose answer is lost, half have happened. */
        if (lost && (!changes(chain->type) || world_chance(&host->random, 5000))) {
                finish(host, chain, changes(chain->type) ? OUTCOME_LOST : OUTCOME_UNAVAILABLE);
                return;
        }
        if (chain->type == EFFECT_LOOK)
                on = read_part(host, chain);
        else
                on = change_part(host, chain);
        if (lost || !on) {
                finish(host, chain, lost ? OUTCOME_LOST : OUTCOME_OK);
                return;
        }
        chain->step++;
        call_next(host, chain, latency(host));
}

/* What is known of our rights is renewed by calls that change nothing; nobody waits for them. */
static void probe(Host *host) {
        for (unsigned i = 0; i < 3; i++)
                (void) admitted(host->world, QUOTA_ECS_MODIFY);
        (void) admitted(host->world, QUOTA_AUTO_SCALING);
}

void cloud_do(Host *host, const Effect *effect) {
        Chain *chain =
                changes(effect->type) || effect->type == EFFECT_VERIFY ? &host->changing : &host->asking;

        if (effect->type == EFFECT_FORGET) {
                cloud_forget(&host->asking);
                return;
        }
        if (effect->type == EFFECT_PROBE) {
                probe(host);
                return;
        }
        truth_effect(host, effect);
        cloud_forget(chain);
        chain->busy = true;
        chain->type = effect->type;
        chain->ticket = effect->ticket;
        chain->whole = effect->whole;
        chain->step = chain->tries = 0;
        if (effect->type == EFFECT_LOOK) {
                chain->draft = calloc(1, sizeof(*chain->draft));
                assert(chain->draft);
                chain->draft->look.self = host->id;
                chain->draft->look.own.outcome = OUTCOME_BLIND;
                host->world->figures.looks++;
        }
        host->world->figures.confirms += effect->type == EFFECT_CONFIRM;
        /* A lost network shows when the calls time out. */
        call_next(host, chain, host->partings > 0 ? SPAN_SEC(15) : latency(host));
}
