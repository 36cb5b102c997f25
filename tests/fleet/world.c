/* SPDX-License-Identifier: Apache-2.0 */

/* Time, chance and hosts: what happens to a host becomes samples for its core, and the core's effects become calls. */

#include "tests/fleet/world.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/policy.h"

#define NEVER INT64_MAX
/* A disconnected agent's log: from here on its waits are long enough to be worth an event. Sum and length of the first ten
 * waits of 250 ms x 1.5. */
#define FIRST_WAIT_AT SPAN_SEC(28)
#define FIRST_WAIT    SPAN_MSEC(12800)
#define WAIT_MAX      SPAN_MIN(2)
/* Normal life: the connection is closed for a valid reason and comes back at once. */
#define RECONNECT_EVERY SPAN_MIN(32)
/* As in agent.c. */
#define TELL_AFTER SPAN_MIN(5)
#define TELL_AGAIN SPAN_MIN(30)

/* --- chance ------------------------------------------------------------------------------------------------------ */

uint64_t world_draw(uint64_t *random) {
        uint64_t z = *random += 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

Span world_between(uint64_t *random, Span from, Span to) {
        return from >= to ? from : from + (Span) (world_draw(random) % (uint64_t) (to - from + 1));
}

bool world_chance(uint64_t *random, unsigned hundredths) {
        return hundredths > 0 && world_draw(random) % 10000 < hundredths;
}

Span world_exponential(uint64_t *random, Span mean) {
        double share = ((double) (world_draw(random) >> 11) + 1) / 9007199254740993.0; /* 0 < share < 1 */

        return (Span) (-log(share) * (double) mean);
}

Span world_recovery(uint64_t *random) {
        unsigned draw = (unsigned) (world_draw(random) % 100);

        if (draw < 90)
                return world_between(random, 0, SPAN_MIN(3));
        return world_exponential(random, draw < 99 ? SPAN_MIN(5) : SPAN_MIN(20));
}

/* --- the queue --------------------------------------------------------------------------------------------------- */

void *world_grow(void *list, uint32_t *room, size_t size) {
        *room = *room > 0 ? *room * 2 : 16;
        list = realloc(list, *room * size);
        assert(list);
        return list;
}

static bool sooner(const Item *a, const Item *b) {
        return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void world_at(World *world, int64_t at, Happening what, uint32_t host, uint32_t argument) {
        Item item = { .at = at > world->now ? at : world->now,
                .order = world->order++,
                .host = host,
                .argument = argument,
                .what = what };
        uint32_t i = world->n_heap;

        if (i == world->heap_room)
                world->heap = world_grow(world->heap, &world->heap_room, sizeof(Item));
        world->n_heap++;
        for (; i > 0 && sooner(&item, &world->heap[(i - 1) / 2]); i = (i - 1) / 2)
                world->heap[i] = world->heap[(i - 1) / 2];
        world->heap[i] = item;
}

static Item pop(World *world) {
        Item first = world->heap[0], last = world->heap[--world->n_heap];
        uint32_t i = 0, child;

        for (; (child = 2 * i + 1) < world->n_heap; i = child) {
                if (child + 1 < world->n_heap && sooner(&world->heap[child + 1], &world->heap[child]))
                        child++;
                if (!sooner(&world->heap[child], &last))
                        break;
                world->heap[i] = world->heap[child];
        }
        world->heap[i] = last;
        return first;
}

/* --- a host's core ----------------------------------------------------------------------------------------------- */

bool host_connected(const Host *host) {
        return host->started && host->ailment == AILMENT_NONE && host->cuts == 0;
}

Now host_now(const Host *host) {
        int64_t now = host->world->now;

        return (Now){ .mono = { now - host->boot }, .wall = { WORLD_START_WALL + now + host->skew } };
}

/* Whether its daemon is there and runs. */
static bool runs(const Host *host) {
        return !host->no_agent && host->ailment != AILMENT_FROZEN;
}

/* Nothing that a witness sees changes, and the core waits for nothing but its patrol: its wakes would be keep-alives. */
static bool at_rest(const Host *host) {
        const Core *core = &host->core;

        if (!host->registered || !host->started || !runs(host))
                return true;
        if (host->asking.busy || host->changing.busy || host->patrolling.busy || host->fresh_witnesses > 0 ||
                core->tidying)
                return false;
        if (core->stage == STAGE_REMOVED)
                return core_end_due(core, host_now(host)).usec == MONO_INFINITE.usec &&
                       host_lifecycle(host) == core->checks.lifecycle &&
                       core->checks.lifecycle != LIFECYCLE_IN_SERVICE;
        return host_connected(host) && core->stage == STAGE_WATCHING && core->verdict.up &&
               !mono_is_set(core->lone_from) && core->patrol.stage == PATROL_RESTING &&
               host_lifecycle(host) == core->checks.lifecycle && !host->world->config.keep_alive;
}

/* When a core at rest does something by itself: its patrol, which begins after boot grace. */
static int64_t patrol_at(const Host *host) {
        const Core *core = &host->core;
        Mono at = mono_is_set(core->patrol.due) ? core->patrol.due : core->boot_grace_until;

        if (!host->registered || !host->started || !runs(host) || core->stage != STAGE_WATCHING ||
                core->policy.action == ACTION_OBSERVE || !core->policy.patrol || host->paused)
                return NEVER;
        if (!mono_is_set(core->patrol.due) && !mono_before(host_now(host).mono, at))
                return NEVER;
        return clock_add_saturating(at.usec, host->boot);
}

static void queue_host(Host *host) {
        int64_t at = host->next_witness < host->next_line ? host->next_witness : host->next_line;
        int64_t wake = clock_add_saturating(host->plan.wake.usec, host->boot);

        if (at_rest(host)) {
                at = patrol_at(host);
                if (at == NEVER) {
                        host->queued_at = NEVER;
                        return;
                }
        } else if (wake < at) {
                at = wake;
        }
        if (at <= host->world->now)
                at = host->world->now + 1000;
        if (at == host->queued_at)
                return;
        host->queued_at = at;
        world_at(host->world, at, HAPPENING_HOST, host->number, 0);
}

static void tell_at(Host *host, Span wait) {
        host->tell_at = host->world->now + wait;
        world_at(host->world, host->tell_at, HAPPENING_TELL, host->number, 0);
}

/* A daemon whose incident goes on says so, that patrol may leave it alone. As in agent.c. */
static void follow_incident(Host *host) {
        bool open = core_incident_open(&host->core);
        Span many = (Span) host->core.sizes.cluster;

        if (open == host->told) {
                if (!open)
                        host->tell_at = NEVER;
                return;
        }
        if (host->tell_at != NEVER && host->tell_at > host->world->now)
                return;
        tell_at(host, open ? TELL_AFTER + world_between(&host->random, 0,
                                                  span_max(SPAN_MIN(3), many * SPAN_MSEC(50)))
                           : world_between(&host->random, 0, span_max(SPAN_SEC(10), many * SPAN_MSEC(100))));
}

static void on_tell(Host *host, int64_t at) {
        bool open = core_incident_open(&host->core);

        if (at != host->tell_at || !runs(host) || !host->registered)
                return;
        host->tell_at = NEVER;
        if (!cloud_tell(host, open ? host->world->now : -1)) {
                tell_at(host, world_between(&host->random, SPAN_SEC(15), SPAN_SEC(45)));
                return;
        }
        host->told = open;
        if (open)
                tell_at(host, TELL_AGAIN + world_between(&host->random, 0, TELL_AGAIN / 4));
}

static void step(Host *host, const Event *event) {
        if (!runs(host))
                return;
        core_step(&host->core, event, host_now(host), &host->plan);
        host->world->figures.steps++;
        if (host->plan.record_changed)
                host->journal = host->core.record;
        follow_incident(host);
        for (unsigned i = 0; i < host->plan.n_effects; i++) {
                Effect effect = host->plan.effects[i];

                cloud_do(host, &effect);
        }
}

void host_event(Host *host, const Event *event) {
        step(host, event);
        queue_host(host);
}

/* --- a host's witnesses ------------------------------------------------------------------------------------------ */

static void tell(Host *host, Sample sample) {
        sample.sight = SIGHT_CLEAR;
        step(host, &(Event){ .type = EVENT_SAMPLE, .sample = sample });
}

static Sample line_sample(Host *host, LogLine line, Span delay, bool back) {
        Mono now = host_now(host).mono;
        Mono at = back ? (Mono){ host->connected_line - host->boot } : now;

        return (Sample){ .witness = WITNESS_LOG,
                .log = { .line = line, .at = at, .delay = delay, .back = back, .written = now } };
}

void host_line(Host *host, LogLine line, Span delay, bool back) {
        if (line == LOG_LINE_CONNECTED && !back)
                host->connected_line = host->world->now;
        tell(host, line_sample(host, line, delay, back));
}

Lifecycle host_lifecycle(const Host *host) {
        if (host->standby)
                return LIFECYCLE_STANDBY;
        if (!host->in_group)
                return host->unhealthy_from == NEVER ? LIFECYCLE_DETACHED : LIFECYCLE_TERMINATING;
        return host->world->now >= host->in_service_at ? LIFECYCLE_IN_SERVICE : LIFECYCLE_PENDING;
}

#define SAMPLES 4

/* What the witnesses but the log and the path see now. */
static void see(const Host *host, Sample samples[SAMPLES]) {
        bool gone = !host->started || host->ailment == AILMENT_DEAD;
        bool link = host_connected(host);
        Answer answer = gone ? ANSWER_REFUSED : ANSWER_GOOD;
        UnitSample unit = { .exists = true, .state = UNIT_ACTIVE, .intent = INTENT_NONE, .exit_status = -1 };

        samples[0] =
                (Sample){ .witness = WITNESS_METADATA, .metadata = { .lifecycle = host_lifecycle(host) } };
        samples[1] = (Sample){ .witness = WITNESS_INTROSPECTION,
                .introspection = { .metadata = answer,
                        .tasks = answer,
                        .registered = !gone,
                        .tasks_running = gone ? -1 : 3,
                        .tasks_stuck = gone ? -1 : 0 } };
        samples[2] = (Sample){ .witness = WITNESS_SOCKETS,
                .sockets = { .listener = !gone,
                        .n_control = gone   ? 0
                                     : link ? 4
                                            : 2,
                        .link_known = !gone,
                        .link_present = link,
                        .data_age = SPAN_SEC(10),
                        .ack_age = SPAN_SEC(5) } };
        samples[3] = (Sample){ .witness = WITNESS_UNITS, .units = { .ecs = unit, .docker = unit } };
}

static void tell_all(Host *host) {
        Sample samples[SAMPLES];

        see(host, samples);
        for (unsigned i = 0; i < SAMPLES; i++)
                tell(host, samples[i]);
        /* The way to the control plane is as broken as an outage makes it; a sick agent's host has a fine one. */
        if (host->plan.watch_path)
                tell(host, (Sample){ .witness = WITNESS_PATH,
                                   .path = { .answer = host->cuts > 0 ? PATH_NO_TCP : PATH_WORKS } });
}

static void on_witness(Host *host) {
        int64_t now = host->world->now;

        if (host->fresh_witnesses > 0)
                host->fresh_witnesses--;
        host->next_witness = now + (host->fresh_witnesses > 0 ? SPAN_SEC(10) : SPAN_MIN(1));
        tell_all(host);
}

/* When its agent has last come back from a normal reconnect, each host in its own phase. */
static int64_t last_reconnect(const Host *host) {
        int64_t phase = (int64_t) (host->id % (uint64_t) RECONNECT_EVERY);
        int64_t at = host->world->now - (host->world->now + RECONNECT_EVERY - phase) % RECONNECT_EVERY;

        return at > host->connects_at ? at : host->connects_at;
}

static void on_line(Host *host) {
        Span wait = host->backoff + world_between(&host->random, 0, host->backoff / 5);

        if (host_connected(host)) {
                host->next_line = host->world->now + RECONNECT_EVERY;
                host_line(host, LOG_LINE_CLOSED, 0, false);
                host_line(host, LOG_LINE_CONNECTED, 0, false);
                return;
        }
        if (host->ailment == AILMENT_DEAD || host->ailment == AILMENT_WEDGED) {
                host->next_line = NEVER;
                return;
        }
        host_line(host, LOG_LINE_FAILED, 0, false);
        host_line(host, LOG_LINE_WAITING, wait, false);
        host->next_line = host->world->now + wait;
        host->backoff = span_min(host->backoff * 3 / 2, WAIT_MAX);
}

void host_changed(Host *host) {
        host->fresh_witnesses = 4;
        /* Witnesses look every 10 s, each host in its own phase. */
        host->next_witness = host->world->now + world_between(&host->random, 0, SPAN_SEC(10));
        queue_host(host);
}

/* At rest nobody stepped it. A daemon would have been all the while: its core gets what it would know, as one step. */
static void catch_up(Host *host) {
        Core *core = &host->core;
        Mono now = host_now(host).mono;
        Sample samples[SAMPLES + 1];

        if (!host->registered || !host->started || !runs(host) || !at_rest(host) || !host_connected(host))
                return;
        host->connected_line = last_reconnect(host);
        see(host, samples);
        samples[SAMPLES] = line_sample(host, LOG_LINE_CONNECTED, 0, true);
        for (unsigned i = 0; i <= SAMPLES; i++) {
                samples[i].sight = SIGHT_CLEAR;
                checks_take(&core->checks, &samples[i], &core->policy, now);
        }
        core->stepped = now;
        host->next_witness = host->world->now + world_between(&host->random, SPAN_SEC(1), SPAN_MIN(1));
        host->next_line = host->connected_line + RECONNECT_EVERY;
}

/* --- what happens to a host -------------------------------------------------------------------------------------- */

/* Return: whether there still is such a host with a running agent of ours. */
static bool lives(const Host *host) {
        return host->registered && host->started;
}

static void link_lost(Host *host) {
        host->down_from = host->world->now;
        host->backoff = FIRST_WAIT;
        host->next_line = host->world->now + FIRST_WAIT_AT;
        if (host->ailment != AILMENT_DEAD)
                host_line(host, LOG_LINE_LOST, 0, false);
        host_changed(host);
}

static void link_back(Host *host) {
        host->connects_at = host->world->now;
        host->next_line = last_reconnect(host) + RECONNECT_EVERY;
        host_line(host, LOG_LINE_CONNECTED, 0, false);
        host_changed(host);
}

static void change_link(Host *host, bool was) {
        bool is = host_connected(host);

        cloud_note_link(host, was);
        if (was && !is)
                link_lost(host);
        else if (!was && is)
                link_back(host);
        else
                host_changed(host);
}

void host_mended(Host *host) {
        host_line(host, LOG_LINE_STARTED, 0, false);
        change_link(host, false);
}

static void ail(Host *host, Ailment ailment) {
        bool was = host_connected(host);

        if (!lives(host) || !host->in_group || host->ailment != AILMENT_NONE)
                return;
        catch_up(host);
        if (ailment == AILMENT_FROZEN)
                cloud_freeze(host);
        host->ailment = ailment;
        host->ailing_from = host->world->now;
        host->world->figures.ailing++;
        change_link(host, was);
        if (ailment == AILMENT_FROZEN && host->world->config.wakes)
                world_at(host->world,
                        host->world->now + world_between(&host->random, SPAN_MIN(10), SPAN_HOUR(2)),
                        HAPPENING_WAKE, host->number, 0);
}

static void wake(Host *host) {
        if (host->ailment != AILMENT_FROZEN || !lives(host))
                return;
        host->ailment = AILMENT_NONE;
        host->woke_at = host->world->now;
        if (host->tell_at != NEVER)
                tell_at(host, 0);
        change_link(host, false);
}

static void attach(Host *host) {
        bool was = host_connected(host);

        if (!lives(host) || host->in_group)
                return;
        catch_up(host);
        cloud_attach(host);
        host->ailment = AILMENT_NONE;
        host->mended = true;
        change_link(host, was);
}

static void cut(Host *host, bool api_too) {
        bool was = host_connected(host);

        if (!lives(host))
                return;
        catch_up(host);
        host->cuts++;
        host->partings += api_too;
        change_link(host, was);
}

static void recover(Host *host) {
        if (!lives(host) || host->cuts == 0)
                return;
        host->cuts--;
        change_link(host, false);
}

/* What its daemon asks for at its start, and says of itself at ECS. */
static void introduce(Host *host) {
        const World *world = host->world;

        cloud_describe(host);
        host->hold_at = -1;
        host->tell_at = NEVER;
        host->told = false;
        step(host, &(Event){ .type = EVENT_GROUP, .lifecycle = host_lifecycle(host) });
        step(host, &(Event){ .type = EVENT_SIZES,
                           .sizes = { .cluster = world->clusters[host->group->cluster].registered,
                                   .group = host->group->size,
                                   .self = host->id } });
        queue_host(host);
}

static void connect_first(Host *host) {
        World *world = host->world;
        int64_t down_until = world->clusters[host->group->cluster].zone_down_until[host->zone];

        if (!host->in_group)
                return;
        if (down_until > world->now) {
                world_at(world, down_until + world_recovery(&host->random), HAPPENING_CONNECT, host->number,
                        0);
                return;
        }
        host->started = host->registered = true;
        world->clusters[host->group->cluster].registered++;
        host_line(host, LOG_LINE_STARTED, 0, false);
        change_link(host, false);
        introduce(host);
}

static void start_core(Host *host, const Restored *restored) {
        cloud_forget(host);
        core_init(&host->core, &host->policy, world_draw(&host->random), host_now(host));
        host->plan = (Plan){ .wake = host_now(host).mono };
        step(host, &(Event){ .type = EVENT_RESTORED, .restored = *restored });
        step(host, &(Event){ .type = EVENT_GROUP, .lifecycle = host_lifecycle(host) });
        if (host->paused)
                step(host, &(Event){ .type = EVENT_PAUSED, .paused_until = MONO_INFINITE });
}

static void restart(Host *host, bool journal_lost) {
        Restored restored = { .record = host->journal,
                .answered_this_boot = true,
                .registered_before = true,
                .same_boot = true };

        if (!lives(host) || !runs(host))
                return;
        if (journal_lost)
                restored = (Restored){ .no_journal = true };
        start_core(host, &restored);
        introduce(host);
        /* The log is read back: its last word on the connection. */
        if (host_connected(host) || host->ailment == AILMENT_DEAD)
                host_line(host, LOG_LINE_CONNECTED, 0, true);
        else
                host_line(host, LOG_LINE_LOST, 0, true);
        host_changed(host);
}

static void pause_host(Host *host, bool paused) {
        if (!runs(host))
                return;
        catch_up(host);
        host->paused = paused;
        host_event(
                host, &(Event){ .type = EVENT_PAUSED, .paused_until = paused ? MONO_INFINITE : MONO_NEVER });
}

static void on_host(Host *host, int64_t at) {
        if (at != host->queued_at)
                return;
        host->queued_at = NEVER;
        if (!host->registered || !runs(host))
                return;
        catch_up(host);
        if (host->next_line <= at)
                on_line(host);
        if (host->next_witness <= at)
                on_witness(host);
        if (clock_add_saturating(host->plan.wake.usec, host->boot) <= at)
                step(host, &(Event){ .type = EVENT_TICK });
        queue_host(host);
}

static void happen(World *world, const Item *item) {
        Host *host = world->hosts[item->host];

        switch (item->what) {
        case HAPPENING_HOST: on_host(host, item->at); break;
        case HAPPENING_ASK: cloud_next(host, &host->asking, item->argument); break;
        case HAPPENING_CHANGE: cloud_next(host, &host->changing, item->argument); break;
        case HAPPENING_PATROL: cloud_next(host, &host->patrolling, item->argument); break;
        case HAPPENING_AIL: ail(host, (Ailment) item->argument); break;
        case HAPPENING_CUT: cut(host, item->argument != 0); break;
        case HAPPENING_RECOVER: recover(host); break;
        case HAPPENING_JOIN: host->partings -= host->partings > 0; break;
        case HAPPENING_LAUNCH: cloud_launch(world, item->host); break;
        case HAPPENING_CONNECT: connect_first(host); break;
        case HAPPENING_TELL: on_tell(host, item->at); break;
        case HAPPENING_WAKE: wake(host); break;
        case HAPPENING_EXIT: cloud_exit(host); break;
        case HAPPENING_GONE:
                if (!host->in_group && (host->unhealthy_from != NEVER || host->ailment == AILMENT_FROZEN))
                        host_stop(host);
                break;
        case HAPPENING_ATTACH: attach(host); break;
        case HAPPENING_RESTART: restart(host, item->argument != 0); break;
        case HAPPENING_JUMP: host->skew += SPAN_SEC((int32_t) item->argument); break;
        case HAPPENING_PAUSE: pause_host(host, item->argument != 0); break;
        case HAPPENING_SCENARIO: world->on_scenario(world, item->argument); break;
        }
}

/* --- the world --------------------------------------------------------------------------------------------------- */

Host *world_host(World *world, uint32_t number) {
        return world->hosts[number];
}

void host_join(Host *host) {
        Group *group = host->group;

        if (group->n_members == group->members_room)
                group->members = world_grow(group->members, &group->members_room, sizeof(*group->members));
        group->members[group->n_members++] = host->number;
        host->in_group = true;
}

void host_leave(Host *host) {
        Group *group = host->group;

        host->in_group = false;
        for (uint32_t i = 0; i < group->n_members; i++)
                if (group->members[i] == host->number)
                        group->members[i] = group->members[--group->n_members];
}

void host_stop(Host *host) {
        if (!host->registered)
                return;
        cloud_forget(host);
        host->registered = host->started = false;
        host->world->clusters[host->group->cluster].registered--;
}

void host_without_agent(Host *host) {
        cloud_forget(host);
        host->no_agent = true;
}

void host_set_action(Host *host, Action action) {
        catch_up(host);
        host->policy.action = action;
        host_event(host, &(Event){ .type = EVENT_POLICY, .policy = host->policy });
}

Host *world_add_host(World *world, Group *group, unsigned zone, bool new) {
        Host *host = calloc(1, sizeof(*host));
        uint64_t age;

        assert(host);
        if (world->n_hosts == world->hosts_room)
                world->hosts = world_grow(world->hosts, &world->hosts_room, sizeof(Host *));
        host->world = world;
        host->number = world->n_hosts;
        world->hosts[world->n_hosts++] = host;
        host->group = group;
        host->zone = zone;
        host->random = world_draw(&world->random);
        (void) snprintf(host->name, sizeof(host->name), "i-%017llx",
                (unsigned long long) world_draw(&host->random) >> 4);
        host->id = turn_id(host->name);
        host->policy = world->config.policy;
        host->launched_at = host->share_seen_at = host->woke_at = -1;
        host->left_at = host->left_seen_at = host->down_seen_from = host->unhealthy_from = NEVER;
        host->mark = host->patrol = (Claim){ .at = -1, .was_at = -1 };
        host->next_witness = host->next_line = host->queued_at = host->tell_at = NEVER;
        host->hold_at = -1;
        age = world_draw(&host->random) % (uint64_t) SPAN_DAY(20);
        host->boot = new ? world->now - SPAN_SEC(1) : world->now - SPAN_HOUR(2) - (int64_t) age;
        host->in_service_at = new ? world->now + SPAN_SEC(30) : host->boot;
        host->started = host->registered = !new;
        host_join(host);
        start_core(host, &(Restored){ .no_journal = new, .same_boot = false });
        if (!new) {
                world->clusters[group->cluster].registered++;
                world->clusters[group->cluster].size++;
                host->connects_at = 0;
                host->connected_line = last_reconnect(host);
                host_line(host, LOG_LINE_CONNECTED, 0, true);
                tell_all(host);
                host->next_witness = world->now + world_between(&host->random, 0, SPAN_MIN(1));
                host->next_line = last_reconnect(host) + RECONNECT_EVERY;
                queue_host(host);
        }
        return host;
}

void world_outage(World *world, Host *host, int64_t from, int64_t until, bool api_too) {
        world->figures.struck++;
        world_at(world, from, HAPPENING_CUT, host->number, api_too);
        if (api_too)
                world_at(world, until, HAPPENING_JOIN, host->number, 0);
        host->back_at = until + world_recovery(&host->random);
        world_at(world, host->back_at, HAPPENING_RECOVER, host->number, 0);
}

void world_orphan(Host *host) {
        bool was = host_connected(host);

        host_leave(host);
        host->ailment = AILMENT_FROZEN;
        host->left_at = host->left_seen_at = 0;
        cloud_note_link(host, was);
}

/* They have all been there for long: what they asked at their start is long past. */
static void forget_calls(World *world) {
        memset(world->minute_calls, 0, sizeof(world->minute_calls));
        memset(world->figures.asked, 0, sizeof(world->figures.asked));
        memset(world->figures.throttled, 0, sizeof(world->figures.throttled));
        for (unsigned q = 0; q < QUOTA_N; q++)
                world->tokens[q] = (int64_t) quota_table[q].burst * 1000000;
}

World *world_new(const Config *config) {
        World *world = calloc(1, sizeof(*world));
        unsigned n = config->clusters * config->groups_per_cluster;

        assert(world);
        world->config = *config;
        world->random = config->seed;
        world->outage_from = -1;
        world->now = SPAN_SEC(1);
        world->groups = calloc(n, sizeof(Group));
        world->clusters = calloc(config->clusters, sizeof(Cluster));
        assert(world->groups && world->clusters);
        world->n_groups = n;
        for (unsigned g = 0; g < n; g++) {
                Group *group = &world->groups[g];

                group->number = g;
                group->cluster = g / config->groups_per_cluster;
                group->size = config->sizes ? config->sizes[g] : config->group_size;
                group->n_zones = config->zones;
                group->budget = brake_budget(&config->policy, group->size, false);
                group->last_launched = UINT32_MAX;
                for (uint32_t i = 0; i < group->size; i++)
                        (void) world_add_host(world, group, (g + i) % config->zones, false);
        }
        for (unsigned c = 0; c < config->clusters; c++)
                world->clusters[c].budget = brake_budget(&config->policy, world->clusters[c].size, false);
        for (uint32_t i = 0; i < world->n_hosts; i++)
                introduce(world->hosts[i]);
        forget_calls(world);
        world->figures.runs = 1;
        world->figures.hosts = world->n_hosts;
        return world;
}

World *world_free(World *world) {
        if (!world)
                return NULL;
        for (uint32_t i = 0; i < world->n_hosts; i++) {
                cloud_forget(world->hosts[i]);
                free(world->hosts[i]->peer_look);
                free(world->hosts[i]);
        }
        for (unsigned g = 0; g < world->n_groups; g++) {
                free(world->groups[g].members);
                free(world->groups[g].activities);
        }
        for (unsigned c = 0; c < world->config.clusters; c++) {
                free(world->clusters[c].down);
                free(world->clusters[c].removed);
        }
        free(world->hosts);
        free(world->groups);
        free(world->clusters);
        free(world->heap);
        free(world->figures.times);
        free(world);
        return NULL;
}

void world_run(World *world, int64_t end) {
        while (world->n_heap > 0 && world->heap[0].at <= end) {
                Item item = pop(world);

                world->now = item.at;
                cloud_minute(world);
                truth_claims(world);
                happen(world, &item);
        }
        world->now = end;
        cloud_minute(world);
}
