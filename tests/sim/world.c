/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/sim/world.h"

#include <assert.h>
#include <string.h>

#include "tests/sim/policy.h"

static uint64_t steps;

uint64_t world_steps(void) {
        return steps;
}

uint64_t world_draw(World *world) {
        world->random ^= world->random << 13;
        world->random ^= world->random >> 7;
        world->random ^= world->random << 17;
        return world->random;
}

static bool connected(const World *world) {
        if (world->ecs_says_down)
                return false;
        return world->ecs_lags || (world->linked && !world->black_hole && world->process == PROCESS_RUNS);
}

static Confirmation own(const World *world, Outcome outcome) {
        return (Confirmation){
                .outcome = outcome,
                .connected = connected(world),
                .status = world->status,
                .marked = world->marked,
                .patrolled = world->patrolled,
                .patrolled_at = world->patrolled_at,
                .updating = world->updating,
                .server_time = world->now.wall,
        };
}

/* --- effects ----------------------------------------------------------------------------------------------------- */

static void answer(World *world, const Effect *effect, Event *event) {
        event->ticket = effect->ticket;
        assert(world->n_pending < WORLD_PENDING_MAX);
        world->pending[world->n_pending++] = (Pending){
                .event = *event,
                .effect = effect->type,
                .at = mono_add(world->now.mono, world->answer_after),
        };
}

static void forget(World *world) {
        unsigned kept = 0;

        for (unsigned i = 0; i < world->n_pending; i++)
                if (world->pending[i].effect != EFFECT_LOOK && world->pending[i].effect != EFFECT_CONFIRM &&
                        world->pending[i].effect != EFFECT_REPAIR)
                        world->pending[kept++] = world->pending[i];
        world->n_pending = kept;
}

/* Ourselves among the sick of our group. */
static void name_ourselves(Look *look) {
        if (look->n_sick >= LOOK_SICK_MAX)
                return;
        memmove(&look->sick[1], &look->sick[0], look->n_sick * sizeof(look->sick[0]));
        look->sick[0] = look->self;
        look->n_sick++;
        look->n_sick_ours++;
}

/* --- the peer, as patrol meets it -------------------------------------------------------------------------------- */

static Wall server_time(const World *world) {
        return wall_add(world->now.wall, -world->clock_error);
}

static Confirmation peers_own(const World *world) {
        const Peer *peer = &world->peer;

        return (Confirmation){
                .outcome = OUTCOME_OK,
                .connected = !peer->down,
                .status = peer->drained || peer->foreign_drain ? CONTROL_DRAINING : CONTROL_ACTIVE,
                .held = peer->paused || wall_is_set(peer->held_at),
                .held_at = peer->paused ? WALL_NEVER : peer->held_at,
                .updating = peer->updating,
                .action = peer->observes ? ACTION_OBSERVE : ACTION_DETACH,
                .marked = peer->marked,
                .marked_at = peer->marked_at,
                .patrolled = peer->claimed,
                .patrolled_at = peer->claimed_at,
                .patrolled_by = peer->claimed_by,
                .server_time = server_time(world),
        };
}

static void do_sweep(World *world, Event *event) {
        const Confirmation is = peers_own(world);

        world->peer.sweeps++;
        event->type = EVENT_SWEPT;
        event->swept = (Sweep){ .outcome = world->sweep_outcome, .server_time = server_time(world) };
        if (world->sweep_outcome != OUTCOME_OK || !world->peer.down)
                return;
        event->swept.n_down = 1;
        if (!patrol_may_act(&is, server_time(world)))
                return;
        event->swept.n = 1;
        event->swept.peers[0] = (PeerName){ "arn:aws:ecs:eu-west-1:1:container-instance/c/7", "i-7" };
}

static void do_peer_look(World *world, Event *event) {
        Peer *peer = &world->peer;

        if (peer->looks++ == 0)
                peer->first_look = world->now.mono;
        event->type = EVENT_LOOKED;
        event->look = world->look;
        event->look.of_peer = true;
        event->look.outcome = world->look_outcome;
        event->look.self = WORLD_PEER;
        event->look.own = peers_own(world);
        event->look.unhealthy = peer->unhealthy;
        event->look.another_group = peer->of_another_group;
        event->look.lifecycle = peer->in_group ? LIFECYCLE_IN_SERVICE : LIFECYCLE_NO_GROUP;
        if (peer->down && peer->in_group) {
                event->look.cluster.sick++;
                event->look.group.sick++;
                event->look.zone.sick++;
                event->look.sick[event->look.n_sick++] = WORLD_PEER;
                event->look.n_sick_ours++;
        }
        event->look.server_time = wall_add(server_time(world), world->answer_after); /* when it ended */
        peer->look = event->look;
        peer->looked_at = mono_add(world->now.mono, world->answer_after);
}

static bool happened(const World *world, Outcome outcome) {
        return outcome == OUTCOME_OK || (outcome == OUTCOME_LOST && world->detach_lost_but_done);
}

static void do_peer(World *world, const Effect *effect, Event *event) {
        Peer *peer = &world->peer;

        switch (effect->type) {
        case EFFECT_LOOK: do_peer_look(world, event); break;
        case EFFECT_DRAIN:
                peer->drains++;
                *event = (Event){ .type = EVENT_DRAINED, .outcome = world->drain_outcome };
                peer->claimed = true;
                peer->claimed_by = WORLD_SELF;
                peer->claimed_at = server_time(world);
                peer->drained |= happened(world, event->outcome);
                break;
        case EFFECT_UNDRAIN:
                peer->undrains++;
                *event = (Event){ .type = EVENT_UNDRAINED, .outcome = world->undrain_outcome };
                if (event->outcome != OUTCOME_OK || !peer->claimed || peer->claimed_by != WORLD_SELF)
                        break;
                peer->claimed = peer->drained = false;
                break;
        case EFFECT_DETACH:
                peer->detaches++;
                peer->action = effect->action;
                *event = (Event){ .type = EVENT_DETACHED,
                        .outcome = peer->in_group ? world->detach_outcome : OUTCOME_REFUSED };
                if (!happened(world, event->outcome))
                        break;
                peer->removed += peer->in_group;
                peer->in_group = false;
                peer->detached_at = world->now.mono;
                peer->detached_wall = server_time(world);
                break;
        case EFFECT_VERIFY:
                *event = (Event){ .type = EVENT_VERIFIED,
                        .verified = { .outcome = world->verify_outcome,
                                .lifecycle = peer->in_group ? LIFECYCLE_IN_SERVICE : LIFECYCLE_NO_GROUP } };
                break;
        case EFFECT_CONFIRM:
        case EFFECT_PROBE:
        case EFFECT_REPAIR:
        case EFFECT_END:
        case EFFECT_SWEEP:
        case EFFECT_FORGET: assert(!"no effect on a peer");
        }
}

/* --- effects on ourselves ---------------------------------------------------------------------------------------- */

static void do_look(World *world, Event *event) {
        event->type = EVENT_LOOKED;
        event->look = world->look;
        event->look.outcome = world->look_outcome;
        event->look.failed = world->look_outcome == OUTCOME_OK ? LOOK_WHOLE : LOOK_ECS;
        event->look.own = own(world, OUTCOME_OK);
        event->look.lifecycle = world->in_group ? world->lifecycle : LIFECYCLE_NO_GROUP;
        if (!event->look.own.connected) {
                event->look.cluster.sick++;
                event->look.group.sick++;
                event->look.zone.sick++;
                if (world->in_group && world->lifecycle == LIFECYCLE_IN_SERVICE)
                        name_ourselves(&event->look);
        }
        event->look.server_time = wall_add(server_time(world), world->answer_after); /* when it ended */
}

static void do_drain(World *world, Event *event) {
        event->type = EVENT_DRAINED;
        event->outcome = world->drain_outcome;
        world->marked = true;
        if (world->drain_outcome == OUTCOME_OK || world->drain_outcome == OUTCOME_LOST) {
                world->status = CONTROL_DRAINING;
                world->drains_done++;
        }
        if (!mono_is_set(world->first_drain))
                world->first_drain = world->now.mono;
}

static void do_undrain(World *world, Event *event) {
        bool young = world->patrolled && wall_since(server_time(world), world->patrolled_at) < SPAN_MIN(10);

        event->type = EVENT_UNDRAINED;
        event->outcome = world->undrain_outcome;
        if (world->undrain_outcome == OUTCOME_OK && young && !world->marked)
                event->outcome = OUTCOME_CONTENTION;
        if (event->outcome != OUTCOME_OK)
                return;
        if (world->status == CONTROL_DRAINING && (world->marked || world->patrolled))
                world->status = CONTROL_ACTIVE;
        world->marked = world->patrolled = false;
        world->undrains_done++;
}

static void do_detach(World *world, Event *event) {
        event->type = EVENT_DETACHED;
        event->outcome = world->in_group ? world->detach_outcome : OUTCOME_REFUSED;
        if (!mono_is_set(world->first_detach)) {
                world->first_detach = world->now.mono;
                world->drain_before_detach = world->status == CONTROL_DRAINING && world->marked;
        }
        if (event->outcome == OUTCOME_OK ||
                (event->outcome == OUTCOME_LOST && world->detach_lost_but_done)) {
                world->detaches_done += world->in_group;
                world->in_group = false;
                world->lifecycle = LIFECYCLE_DETACHED;
        }
}

static void carry_out(World *world, const Effect *effect) {
        Event event = { 0 };

        if (world->on_effect)
                world->on_effect(world, effect);
        if (world->swallow)
                return;
        if (effect->peer) {
                do_peer(world, effect, &event);
                answer(world, effect, &event);
                return;
        }
        switch (effect->type) {
        case EFFECT_CONFIRM:
                world->confirms++;
                event.type = EVENT_CONFIRMED;
                event.confirmed = own(world, world->confirm_outcome);
                break;
        case EFFECT_LOOK:
                world->looks++;
                forget(world);
                do_look(world, &event);
                break;
        case EFFECT_PROBE: world->probes++; return;
        case EFFECT_REPAIR:
                world->repairs++;
                event.type = EVENT_REPAIRED;
                event.outcome = world->reports_repair_ok ? OUTCOME_OK : OUTCOME_DENIED;
                if (world->reports_repair_ok && world->repair_helps) {
                        world->process = PROCESS_RUNS;
                        world->unit = UNIT_ACTIVE;
                        world_log(world, LOG_LINE_STARTED, 0);
                        world_connect(world);
                }
                break;
        case EFFECT_DRAIN:
                world->drains++;
                do_drain(world, &event);
                break;
        case EFFECT_UNDRAIN:
                world->undrains++;
                do_undrain(world, &event);
                break;
        case EFFECT_DETACH:
                world->detaches++;
                world->action = effect->action;
                do_detach(world, &event);
                break;
        case EFFECT_VERIFY:
                world->verifies++;
                event.type = EVENT_VERIFIED;
                event.verified.outcome = world->verify_outcome;
                event.verified.lifecycle = world->in_group ? LIFECYCLE_IN_SERVICE : LIFECYCLE_NO_GROUP;
                break;
        case EFFECT_END:
                world->ends++;
                event.type = EVENT_ENDED;
                event.outcome = world->in_group ? OUTCOME_REFUSED : world->end_outcome;
                world->ends_done += event.outcome == OUTCOME_OK;
                break;
        case EFFECT_SWEEP: do_sweep(world, &event); break;
        case EFFECT_FORGET: forget(world); return;
        }
        answer(world, effect, &event);
}

void world_event(World *world, const Event *event) {
        Plan plan;

        core_step(&world->core, event, world->now, &plan);
        steps++;
        world->plan = plan;
        if (plan.record_changed)
                world->journal = world->core.record;
        if (world->core.stage == STAGE_HELD)
                world->held |= world->core.brakes;
        for (unsigned i = 0; i < plan.n_effects; i++)
                carry_out(world, &plan.effects[i]);
}

/* --- the host's witnesses ---------------------------------------------------------------------------------------- */

static void tell(World *world, Sample sample, bool blind) {
        if (blind)
                sample.sight = SIGHT_ABSENT;
        world_event(world, &(Event){ .type = EVENT_SAMPLE, .sample = sample });
}

void world_log(World *world, LogLine line, Span delay) {
        Sample sample = {
                .witness = WITNESS_LOG,
                .sight = SIGHT_CLEAR,
                .log = { .line = line,
                        .at = world->now.mono,
                        .delay = delay,
                        .level_raised = world->level_raised,
                        .written = world->now.mono },
        };

        tell(world, sample, world->no_log);
}

static void tell_agent(World *world) {
        bool runs = world->process == PROCESS_RUNS, gone = world->process == PROCESS_GONE;
        Answer answers = runs ? ANSWER_GOOD : gone ? ANSWER_REFUSED : ANSWER_HUNG;
        bool link = world->linked && !gone;

        tell(world,
                (Sample){ .witness = WITNESS_INTROSPECTION,
                        .sight = SIGHT_CLEAR,
                        .introspection = { .metadata = answers,
                                .tasks = answers,
                                .registered = runs,
                                .tasks_running = runs ? 3 : -1,
                                .tasks_stuck = runs ? 0 : -1 } },
                world->no_introspection);
        tell(world,
                (Sample){ .witness = WITNESS_SOCKETS,
                        .sight = SIGHT_CLEAR,
                        .sockets = { .listener = !gone,
                                .backlog = world->process == PROCESS_HUNG,
                                .unread = world->process == PROCESS_HUNG,
                                .n_control = gone   ? 0
                                             : link ? 4
                                                    : 2,
                                .link_known = !gone,
                                .link_present = link,
                                .data_age = world->black_hole ? SPAN_MIN(2) : SPAN_SEC(10),
                                .ack_age = world->black_hole ? SPAN_MIN(2) : SPAN_SEC(5),
                                .unacknowledged = world->black_hole } },
                world->no_sockets);
        tell(world,
                (Sample){ .witness = WITNESS_UNITS,
                        .sight = SIGHT_CLEAR,
                        .units = { .ecs = { .exists = true,
                                           .state = world->unit,
                                           .intent = world->intent,
                                           .exit_status = world->exit_status },
                                .docker = { .exists = true,
                                        .state = UNIT_ACTIVE,
                                        .intent = world->docker_intent,
                                        .exit_status = -1 } } },
                world->no_bus);
        tell(world,
                (Sample){ .witness = WITNESS_LOG,
                        .sight = SIGHT_CLEAR,
                        .log = { .level_raised = world->level_raised } },
                world->no_log);
}

static void tell_host(World *world) {
        tell(world,
                (Sample){ .witness = WITNESS_DOCKER,
                        .sight = SIGHT_CLEAR,
                        .docker = { .ping = world->docker_hung ? ANSWER_HUNG : ANSWER_GOOD,
                                .list = world->docker_hung ? ANSWER_HUNG : ANSWER_GOOD } },
                false);
        tell(world,
                (Sample){ .witness = WITNESS_DISKS,
                        .sight = SIGHT_CLEAR,
                        .disks = { .n = 1,
                                .used_worst = 4000,
                                .inodes_used_worst = 1000,
                                .root_read_only = world->read_only } },
                false);
        tell(world,
                (Sample){ .witness = WITNESS_METADATA,
                        .sight = SIGHT_CLEAR,
                        .metadata = { .lifecycle = world->lifecycle,
                                .spot_notice = world->spot,
                                .no_role = world->no_role } },
                false);
        if (world->plan.watch_path)
                tell(world,
                        (Sample){ .witness = WITNESS_PATH,
                                .sight = SIGHT_CLEAR,
                                .path = { .answer = world->path_fails ? PATH_NO_TCP : PATH_WORKS } },
                        false);
}

/* A disconnected agent that runs retries: 250 ms, times 1.5, up to 2 min. */
static void retry(World *world) {
        if (world->process != PROCESS_RUNS || world->linked || world->silent ||
                !mono_is_set(world->next_retry))
                return;
        if (mono_before(world->now.mono, world->next_retry))
                return;
        world_log(world, LOG_LINE_TRYING, 0);
        world_log(world, LOG_LINE_FAILED, 0);
        world->backoff = span_min(world->backoff * 3 / 2, SPAN_MIN(2));
        world_log(world, LOG_LINE_WAITING, world->backoff);
        world->next_retry = mono_add(world->now.mono, world->backoff);
}

/* --- what happens to the host ------------------------------------------------------------------------------------ */

void world_connect(World *world) {
        world->linked = true;
        world->black_hole = false;
        world->next_retry = MONO_NEVER;
        world_log(world, LOG_LINE_TRYING, 0);
        world_log(world, LOG_LINE_CONNECTED, 0);
}

void world_cut(World *world) {
        world->linked = false;
        world->down_since = world->now.mono;
        world->backoff = SPAN_MSEC(250);
        world->next_retry = mono_add(world->now.mono, world->backoff);
        if (world->process == PROCESS_RUNS)
                world_log(world, LOG_LINE_LOST, 0);
        tell_agent(world);
}

void world_reconnect(World *world) {
        world->linked = false;
        world_log(world, LOG_LINE_CLOSED, 0);
        tell_agent(world);
        world->now.mono = mono_add(world->now.mono, SPAN_SEC(1));
        world->now.wall = wall_add(world->now.wall, SPAN_SEC(1));
        world_connect(world);
        tell_agent(world);
}

void world_kill(World *world) {
        world->process = PROCESS_GONE;
        world->linked = false;
        world->down_since = world->now.mono;
}

/* --- time -------------------------------------------------------------------------------------------------------- */

static void deliver(World *world) {
        for (unsigned i = 0; i < world->n_pending;) {
                Pending pending = world->pending[i];

                if (mono_before(world->now.mono, pending.at)) {
                        i++;
                        continue;
                }
                world->pending[i] = world->pending[--world->n_pending];
                world_event(world, &pending.event);
                i = 0;
        }
}

void world_run(World *world, Span span) {
        Mono end = mono_add(world->now.mono, span);

        while (mono_before(world->now.mono, end)) {
                Mono next = mono_min(end, world->next_sample);
                Span passed;

                next = mono_min(next, world->plan.wake);
                for (unsigned i = 0; i < world->n_pending; i++)
                        next = mono_min(next, world->pending[i].at);
                next = mono_max(next, mono_add(world->now.mono, SPAN_MSEC(1)));
                passed = mono_since(next, world->now.mono);
                world->now.mono = next;
                world->now.wall = wall_add(world->now.wall, passed);

                deliver(world);
                if (!mono_before(world->now.mono, world->next_sample)) {
                        world->next_sample = mono_add(world->now.mono, world->sample_every);
                        retry(world);
                        tell_agent(world);
                        tell_host(world);
                }
                if (!mono_before(world->now.mono, world->plan.wake))
                        world_event(world, &(Event){ .type = EVENT_TICK });
        }
}

void world_sleep(World *world, Span span) {
        world->now.mono = mono_add(world->now.mono, span);
        world->now.wall = wall_add(world->now.wall, span);
        world->next_sample = world->now.mono;
}

void world_crash(World *world, bool reboot) {
        Event event = {
                .type = EVENT_RESTORED,
                .restored = { .record = world->journal,
                        .same_boot = !reboot,
                        .answered_this_boot = !reboot,
                        .registered_before = true },
        };

        if (world->journal_lost)
                event.restored = (Restored){ .no_journal = true };
        world->journal_lost = false;

        if (reboot)
                world->now.mono = (Mono){ SPAN_SEC(20) };
        /* Answers on their way to the old process are lost with it; what they answer to has happened all the same. */
        world->n_pending = 0;
        core_init(&world->core, &world->policy, world_draw(world), world->now);
        world->plan = (Plan){ .wake = world->now.mono };
        world->next_sample = mono_add(world->now.mono, SPAN_SEC(1));
        world_event(world, &event);
        world_event(world, &(Event){ .type = EVENT_GROUP,
                                   .lifecycle = world->in_group ? world->lifecycle : LIFECYCLE_NO_GROUP });
        /* The log is read back: its last word on the connection. */
        if (!world->no_log && !reboot)
                tell(world,
                        (Sample){ .witness = WITNESS_LOG,
                                .sight = SIGHT_CLEAR,
                                .log = { .line = world->linked ? LOG_LINE_CONNECTED : LOG_LINE_LOST,
                                        .back = true,
                                        .at = world->now.mono } },
                        false);
}

void world_init(World *world) {
        *world = (World) {
                .policy = policy_standard(),
                .now = { .mono = { SPAN_HOUR(1) }, .wall = WORLD_START_WALL },
                .random = 88172645463325252u,
                .sample_every = SPAN_SEC(10),
                .process = PROCESS_RUNS,
                .unit = UNIT_ACTIVE,
                .intent = INTENT_NONE,
                .docker_intent = INTENT_NONE,
                .exit_status = -1,
                .status = CONTROL_ACTIVE,
                .in_group = true,
                .lifecycle = LIFECYCLE_IN_SERVICE,
                .reports_repair_ok = true,
                .look = {
                        .cluster = { 20, 0 },
                        .group = { 10, 0 },
                        .zone = { 7, 0 },
                        .connected_peers = 19,
                        .group_size = 10,
                        .self = WORLD_SELF,
                },
                .peer = { .in_group = true },
                .answer_after = SPAN_MSEC(200),
        };
        world->next_sample = world->now.mono;
        core_init(&world->core, &world->policy, 42, world->now);
        world->plan.wake = world->now.mono;
        world_event(world, &(Event){ .type = EVENT_RESTORED });
        world_run(world, SPAN_SEC(30));
        world_connect(world);
        world_run(world, SPAN_SEC(30));
}
