/* SPDX-License-Identifier: Apache-2.0 */

/* What is traced comes back the same; files appear for incidents only, and stay within their bounds. */

#include "agent/trace.h"

#include <dirent.h>
#include <sys/stat.h>

#include "agent/settings.h"
#include "common/file.h"
#include "common/log.h"
#include "tests/unit/test.h"

/* --- random things, the same in each run ------------------------------------------------------------------------- */

static uint64_t state = 1;
static bool extreme; /* numbers at the end of their range too */

static uint64_t draw(void) {
        uint64_t z = state += 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

static bool flip(void) {
        return draw() % 2;
}

#define PICK(Type, n) ((Type) (draw() % (n)))

static uint32_t small(void) {
        return extreme && draw() % 8 == 0 ? UINT32_MAX : (uint32_t) (draw() % 200);
}

static int32_t number(void) {
        return extreme && draw() % 8 == 0 ? flip() ? INT32_MAX : INT32_MIN : (int32_t) (draw() % 10001) - 1;
}

static int64_t span(void) {
        static const int64_t ends[] = { INT64_MAX, INT64_MIN, INT64_C(1) << 53, (INT64_C(1) << 53) + 1,
                -(INT64_C(1) << 53), -(INT64_C(1) << 53) - 1, -1, 0 };

        if (extreme && draw() % 4 == 0)
                return ends[draw() % ELEMENTSOF(ends)];
        return (int64_t) (draw() % (uint64_t) SPAN_HOUR(1));
}

static Mono mono(void) {
        return (Mono){ span() };
}

static Wall wall(void) {
        return (Wall){ span() };
}

static UnitSample unit(void) {
        UnitSample one;

        memset(&one, 0, sizeof(one));
        one.exists = flip();
        one.state = PICK(UnitState, UNIT_STATE_N);
        one.intent = PICK(Intent, INTENT_N);
        one.job_running = flip();
        one.exit_status = number();
        one.restarts = small();
        return one;
}

static void fill_sample(Sample *sample) {
        sample->witness = PICK(Witness, WITNESS_N);
        sample->sight = PICK(Sight, SIGHT_N);
        switch (sample->witness) {
        case WITNESS_INTROSPECTION:
                sample->introspection.metadata = PICK(Answer, ANSWER_N);
                sample->introspection.tasks = PICK(Answer, ANSWER_N);
                sample->introspection.registered = flip();
                sample->introspection.tasks_running = number();
                sample->introspection.tasks_stuck = number();
                break;
        case WITNESS_LOG:
                sample->log.line = PICK(LogLine, LOG_LINE_N);
                sample->log.at = mono();
                sample->log.delay = span();
                sample->log.back = flip();
                sample->log.level_raised = flip();
                sample->log.written = mono();
                break;
        case WITNESS_SOCKETS:
                sample->sockets.listener = flip();
                sample->sockets.backlog = small();
                sample->sockets.unread = small();
                sample->sockets.n_control = small();
                sample->sockets.link_known = flip();
                sample->sockets.link_present = flip();
                sample->sockets.data_age = span();
                sample->sockets.ack_age = span();
                sample->sockets.unacknowledged = flip();
                break;
        case WITNESS_UNITS:
                sample->units.ecs = unit();
                sample->units.docker = unit();
                break;
        case WITNESS_DOCKER:
                sample->docker.ping = PICK(Answer, ANSWER_N);
                sample->docker.list = PICK(Answer, ANSWER_N);
                sample->docker.ping_time = span();
                break;
        case WITNESS_PATH:
                sample->path.answer = PICK(PathAnswer, PATH_ANSWER_N);
                sample->path.took = span();
                break;
        case WITNESS_DISKS:
                sample->disks.n = small();
                sample->disks.used_worst = number();
                sample->disks.inodes_used_worst = number();
                sample->disks.n_read_only = small();
                sample->disks.n_hung = small();
                sample->disks.root_read_only = flip();
                sample->disks.root_full = flip();
                break;
        case WITNESS_MEMORY:
                sample->memory.used = number();
                sample->memory.available = number();
                sample->memory.swap_used = number();
                sample->memory.some = number();
                sample->memory.full = number();
                sample->memory.oom_kills = span();
                sample->memory.trigger = flip();
                break;
        case WITNESS_METADATA:
                sample->metadata.lifecycle = PICK(Lifecycle, LIFECYCLE_N);
                sample->metadata.spot_notice = flip();
                sample->metadata.no_role = flip();
                break;
        }
}

static void fill_peer(PeerName *peer) {
        if (flip())
                (void) snprintf(peer->arn, sizeof(peer->arn), "arn:aws:\"\\%u", small());
        if (flip())
                (void) snprintf(peer->instance_id, sizeof(peer->instance_id), "i-%u", small());
}

static void fill_confirmation(Confirmation *own) {
        own->outcome = PICK(Outcome, OUTCOME_N);
        own->connected = flip();
        own->status = PICK(ControlStatus, CONTROL_STATUS_N);
        own->updating = flip();
        own->marked = flip();
        own->patrolled = flip();
        own->held = flip();
        own->action = PICK(unsigned, ACTION_N);
        own->marked_at = wall();
        own->patrolled_at = wall();
        own->patrolled_by = draw();
        own->server_time = wall();
}

static void fill_look(Look *look) {
        look->of_peer = flip();
        look->unhealthy = flip();
        look->another_group = flip();
        look->outcome = PICK(Outcome, OUTCOME_N);
        look->failed = PICK(LookPart, LOOK_PART_N);
        if (flip())
                (void) snprintf(look->action, sizeof(look->action), "Describe\"\\\n%u", small());
        look->lifecycle = PICK(Lifecycle, LIFECYCLE_N);
        look->spot_notice = flip();
        fill_confirmation(&look->own);
        look->cluster = (Population){ small(), small() };
        look->group = (Population){ small(), small() };
        look->zone = (Population){ small(), small() };
        look->more_than_a_page = flip();
        look->share_decided = flip();
        look->connected_peers = small();
        look->self = extreme ? draw() : draw() % 1000;
        look->n_sick = PICK(uint32_t, LOOK_SICK_MAX + 1);
        look->n_sick_ours = PICK(uint32_t, look->n_sick + 1);
        for (unsigned i = 0; i < look->n_sick; i++)
                look->sick[i] = draw();
        look->n_outside = PICK(uint32_t, LOOK_SICK_MAX + 1);
        for (unsigned i = 0; i < look->n_outside; i++)
                look->outside[i] = draw();
        look->tag_cluster = PICK(Switch, SWITCH_RESUME + 1);
        look->tag_group = PICK(Switch, SWITCH_RESUME + 1);
        look->group_state = small();
        look->group_size = small();
        look->group_weighted = flip();
        look->removed_window = small();
        look->removed_day = small();
        look->removed_cluster = small();
        look->removed_hour = small();
        look->n_removed = PICK(uint32_t, LOOK_REMOVED_MAX + 1);
        look->n_removed_ours = PICK(uint32_t, look->n_removed + 1);
        for (unsigned i = 0; i < look->n_removed; i++)
                look->removed[i] = draw();
        look->window_frees = wall();
        look->replacement = PICK(Replacement, REPLACEMENT_N);
        look->young = flip();
        look->ledger_full = flip();
        look->server_time = wall();
}

static void fill_record(Record *record) {
        record->incident = extreme ? draw() : draw() % 100;
        record->stage = PICK(uint32_t, STAGE_N);
        record->cause = PICK(uint32_t, CAUSE_N);
        record->opened = wall();
        record->changed = wall();
        record->closed = wall();
        record->repaired = wall();
        record->detach_sent = wall();
        record->drained = flip();
        record->marked = flip();
        record->acted = flip();
        record->looped = flip();
        record->released = flip();
        record->ended = flip();
        record->action = PICK(uint32_t, ACTION_N);
        record->peer_stage = PICK(uint32_t, PATROL_STAGE_N);
        record->peer_action = PICK(uint32_t, ACTION_N);
        record->peer_changed = wall();
        record->peer_sent = wall();
        fill_peer(&record->peer);
}

static void fill_sweep(Sweep *sweep) {
        sweep->outcome = PICK(Outcome, OUTCOME_N);
        sweep->n_down = small();
        sweep->n = PICK(uint32_t, SWEEP_PEERS_MAX + 1);
        for (unsigned i = 0; i < sweep->n; i++)
                fill_peer(&sweep->peers[i]);
        sweep->server_time = wall();
}

static void fill_policy(Policy *policy) {
        policy->action = PICK(unsigned, ACTION_N);
        policy->grace = span();
        policy->grace_dead = span();
        policy->drain = flip();
        policy->cooldown = span();
        policy->act_if_never_registered = flip();
        policy->also_act_on = small();
        policy->repair = flip();
        policy->repair_wait = span();
        policy->confirm_before = span();
        policy->wedged_after = span();
        policy->silent_after = span();
        policy->max_sick = span();
        policy->max_actions = (Amount){ span(), span() };
        policy->max_per_day = (Amount){ span(), span() };
        policy->window = span();
        policy->turn = span();
        policy->settle = span();
        policy->boot_grace = span();
        policy->orphan = PICK(unsigned, ORPHAN_ACTION_N);
        policy->orphan_after = span();
        policy->orphan_deregister = flip();
        policy->patrol = flip();
        policy->patrol_every = span();
        policy->patrol_after = span();
        policy->external = flip();
}

static void fill_event(Event *event, EventType type) {
        memset(event, 0, sizeof(*event));
        event->type = type;
        event->ticket = small();
        switch (type) {
        case EVENT_RESUMED:
        case EVENT_TICK: break;
        case EVENT_SAMPLE: fill_sample(&event->sample); break;
        case EVENT_CONFIRMED: fill_confirmation(&event->confirmed); break;
        case EVENT_LOOKED: fill_look(&event->look); break;
        case EVENT_REPAIRED:
        case EVENT_DRAINED:
        case EVENT_UNDRAINED:
        case EVENT_ENDED:
        case EVENT_DETACHED: event->outcome = PICK(Outcome, OUTCOME_N); break;
        case EVENT_VERIFIED:
                event->verified.outcome = PICK(Outcome, OUTCOME_N);
                event->verified.lifecycle = PICK(Lifecycle, LIFECYCLE_N);
                event->verified.activity = flip();
                event->verified.unhealthy = flip();
                break;
        case EVENT_SWEPT: fill_sweep(&event->swept); break;
        case EVENT_SIZES:
                event->sizes.cluster = small();
                event->sizes.group = small();
                event->sizes.self = draw();
                break;
        case EVENT_RIGHTS:
                for (unsigned i = 0; i < RIGHT_N; i++)
                        event->rights.granted[i] = PICK(uint8_t, GRANTED_NO + 1);
                break;
        case EVENT_POLICY: fill_policy(&event->policy); break;
        case EVENT_PAUSED: event->paused_until = mono(); break;
        case EVENT_GROUP: event->lifecycle = PICK(Lifecycle, LIFECYCLE_N); break;
        case EVENT_RESTORED:
                fill_record(&event->restored.record);
                event->restored.answered_this_boot = flip();
                event->restored.registered_before = flip();
                event->restored.same_boot = flip();
                event->restored.no_journal = flip();
                break;
        }
}

static void fill_plan(Plan *plan) {
        memset(plan, 0, sizeof(*plan));
        plan->wake = flip() ? MONO_INFINITE : (Mono){ (int64_t) (draw() >> 12) };
        plan->n_effects = PICK(unsigned, PLAN_EFFECTS_MAX + 1);
        for (unsigned i = 0; i < plan->n_effects; i++) {
                plan->effects[i].type = PICK(EffectType, EFFECT_TYPE_N);
                plan->effects[i].ticket = small();
                plan->effects[i].whole = flip();
                plan->effects[i].peer = flip();
                plan->effects[i].action = PICK(unsigned, ACTION_N);
        }
        plan->record_changed = flip();
        plan->watch_path = flip();
        plan->verdict_changed = flip();
        plan->stage_changed = flip();
        plan->brakes_changed = flip();
}

/* --- text -------------------------------------------------------------------------------------------------------- */

static void test_every_event_and_plan_comes_back_the_same(void) {
        extreme = true;
        for (unsigned i = 0; i < 30000; i++) {
                Now now = { { (int64_t) (draw() >> 14) + 1 }, { (int64_t) (draw() >> 14) } };
                EventType type = (EventType) (i % EVENT_TYPE_N);
                static TraceLine line;
                JsonWriter w;
                Event event;
                Plan plan;

                fill_event(&event, type);
                fill_plan(&plan);
                json_writer_init(&w, TRACE_LINE_MAX);
                trace_write_step(&w, &event, now, &plan, NULL);
                EXPECT_EQ(w.error, 0);
                EXPECT_EQ(trace_parse(w.text, w.n, &line), 0);
                EXPECT_EQ(line.type, TRACE_STEP);
                if (memcmp(&line.event, &event, sizeof(event)) != 0 ||
                        memcmp(&line.plan, &plan, sizeof(plan)) != 0 ||
                        line.now.mono.usec != now.mono.usec || line.now.wall.usec != now.wall.usec) {
                        test_failures++;
                        printf("# not the same: %s", w.text);
                }
                json_writer_done(&w);
                if (test_failures > 3)
                        break;
        }
        extreme = false;
}

static char *core_text(const Core *core) {
        JsonWriter w;
        char *text;

        json_writer_init(&w, TRACE_LINE_MAX);
        trace_write_core(&w, core);
        EXPECT_EQ(w.error, 0);
        text = strdup(w.text);
        json_writer_done(&w);
        return text;
}

/* A copy that goes through the text decides like the original ever after. */
static void test_a_core_out_of_its_text_decides_as_before(void) {
        static TraceLine line;
        Now now = { { SPAN_HOUR(1) }, { SPAN_DAY(20000) } };
        Settings settings;
        Core core, copy;

        EXPECT_EQ(settings_default(&settings), 0);
        core_init(&core, &settings.policy, UINT64_MAX - 5, now);
        copy = core;
        for (unsigned i = 0; i < 4000 && test_failures == 0; i++) {
                Plan plan, plan_of_copy;
                char *text, *text_of_copy;
                Event event;

                fill_event(&event, (EventType) (draw() % EVENT_TYPE_N));
                if (event.type == EVENT_POLICY)
                        event.policy = settings.policy;
                if (event.type >= EVENT_CONFIRMED && event.type <= EVENT_SWEPT)
                        event.ticket =
                                flip() || core.patrol.awaiting == 0 ? core.awaiting : core.patrol.awaiting;
                now.mono.usec += (int64_t) (draw() % (uint64_t) SPAN_SEC(20));
                now.wall.usec += SPAN_SEC(10);
                core_step(&core, &event, now, &plan);
                core_step(&copy, &event, now, &plan_of_copy);
                text = core_text(&core);
                text_of_copy = core_text(&copy);
                EXPECT_STR(text_of_copy, text);
                EXPECT_EQ(plan_of_copy.wake.usec, plan.wake.usec);
                EXPECT_EQ(plan_of_copy.n_effects, plan.n_effects);
                EXPECT_EQ(trace_parse(text, strlen(text), &line), 0);
                EXPECT_EQ(line.type, TRACE_CORE);
                copy = line.core;
                free(text);
                free(text_of_copy);
        }
}

#if __has_builtin(__builtin_clear_padding)
/* Whether the byte is one of a text, and not its first: that alone shows. */
static bool is_within_text(size_t at) {
#define TEXT_OF(member)                                                                                     \
        { offsetof(Core, member), sizeof(((Core *) NULL)->member) }
        static const struct {
                size_t from, n;
        } texts[] = {
                TEXT_OF(look.action),
                TEXT_OF(record.peer.arn),
                TEXT_OF(record.peer.instance_id),
                TEXT_OF(patrol.peer.arn),
                TEXT_OF(patrol.peer.instance_id),
        };
#undef TEXT_OF

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                if (at > texts[i].from && at < texts[i].from + texts[i].n)
                        return true;
        return false;
}

/* Each byte of @n at @offset that @mask does not call padding must show in the core's text. */
static void try_bytes(const char *name, size_t offset, const unsigned char *mask, size_t n) {
        static Core core;
        char *zero, *one;

        memset(&core, 0, sizeof(core));
        zero = core_text(&core);
        for (size_t i = 0; i < n && test_failures < 5; i++) {
                size_t at = offset + i;

                if (mask[i] == 0 || is_within_text(at))
                        continue;
                ((unsigned char *) &core)[at] = 1;
                one = core_text(&core);
                ((unsigned char *) &core)[at] = 0;
                if (strcmp(one, zero) == 0) {
                        test_failures++;
                        printf("# byte %zu of %s is in no row of agent/trace-text.c\n", i, name);
                }
                free(one);
        }
        free(zero);
}
#endif

/* A new member may hide in what was padding, where its struct's size does not tell: so each byte is tried. */
static void test_every_byte_of_what_the_core_holds_is_in_its_text(void) {
#if __has_builtin(__builtin_clear_padding)
#define TRY(Type, member)                                                                                   \
        do {                                                                                                \
                static Type mask;                                                                           \
                memset(&mask, 0xff, sizeof(mask));                                                          \
                __builtin_clear_padding(&mask);                                                             \
                try_bytes(#member, offsetof(Core, member), (const unsigned char *) &mask, sizeof(mask));    \
        } while (0)
        TRY(Policy, policy);
        TRY(LogMachine, checks.log);
        TRY(Check, checks.memory);
        TRY(Confirmation, checks.control);
        TRY(Rights, rights);
        TRY(Verdict, verdict);
        TRY(Record, record);
        TRY(Look, look);
        TRY(Turn, turn);
        TRY(Recall, recall);
        TRY(Sizes, sizes);
        TRY(Patrol, patrol);
#undef TRY
#endif
}

static void test_what_is_no_trace_is_refused(void) {
        static const struct {
                const char *text;
                int expected;
        } cases[] = {
                { "{\"t\":1,\"w\":1,\"event\":{\"type\":\"tick\"},\"plan\":{}}", 0 },
                { "{\"t\":1,\"w\":1,\"event\":{},\"plan\":{},\"later\":1}",
                        0 }, /* a later version's member */
                { "", -EBADMSG },
                { "{}", -EBADMSG },
                { "[]", -EBADMSG },
                { "{\"t\":1,\"w\":1", -EBADMSG },
                { "{\"t\":0,\"w\":1,\"event\":{},\"plan\":{}}", -EBADMSG },
                { "{\"t\":1,\"w\":-1,\"event\":{},\"plan\":{}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{\"type\":\"nonsense\"},\"plan\":{}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{\"type\":99},\"plan\":{}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{\"type\":-1},\"plan\":{}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{\"type\":\"sample\",\"sample\":{\"witness\":9}},\"plan\":{}}",
                        -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{\"ticket\":4294967296},\"plan\":{}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{\"ticket\":\"x\"},\"plan\":{}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{},\"plan\":{\"n_effects\":5}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{},\"plan\":{\"effects\":[{},{},{},{},{}]}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{},\"plan\":{\"effects\":[{\"type\":99}]}}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"event\":{},\"plan\":{\"watch_path\":1}}", -EBADMSG },
                { "{\"core\":{\"stage\":\"held\",\"brakes\":[\"share\",\"one of a later version\"]}}", 0 },
                { "{\"core\":{\"stage\":12345}}", -EBADMSG },
                { "{\"core\":{\"rights\":{\"granted\":[256]}}}", -EBADMSG },
                { "{\"core\":{\"look\":{\"n_sick\":100,\"n_removed\":128}}}", 0 },
                { "{\"core\":{\"look\":{\"n_sick\":101}}}", -EBADMSG },
                { "{\"core\":{\"look\":{\"n_removed\":129}}}", -EBADMSG },
                { "{\"core\":7}", -EBADMSG },
                { "{\"trace\":1,\"version\":\"1\",\"incident\":3}", 0 },
                { "{\"trace\":2}", -EPROTONOSUPPORT },
                { "{\"trace\":\"1\"}", -EBADMSG },
                { "{\"trace\":1,\"version\":\"0123456789012345678901234567890123456789\"}", -EBADMSG },
                { "{\"t\":1,\"w\":1,\"call\":{\"action\":\"X\",\"answer\":\"ok\"}}", 0 },
                { "{\"t\":1,\"w\":1,\"call\":{\"action\":7}}", -EBADMSG },
                { "{\"cut\":true}", 0 },
        };
        static TraceLine line;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                int r = trace_parse(cases[i].text, strlen(cases[i].text), &line);

                if (r != cases[i].expected) {
                        test_failures++;
                        printf("# %s: %d, expected %d\n", cases[i].text, r, cases[i].expected);
                }
        }
}

/* --- files ------------------------------------------------------------------------------------------------------- */

/** A trace below a directory of its own, and a core that is moved by hand. */
typedef struct World {
        char root[32], directory[64];
        Trace *trace;
        Core core;
        Now now;
} World;

static void world_open(World *world) {
        Settings settings;

        memset(world, 0, sizeof(*world));
        strcpy(world->root, "/tmp/test-trace-XXXXXX");
        EXPECT(mkdtemp(world->root));
        (void) snprintf(world->directory, sizeof(world->directory), "%s/incidents", world->root);
        EXPECT_EQ(trace_new(&world->trace, world->directory), 0);
        EXPECT_EQ(settings_default(&settings), 0);
        world->now = (Now){ { SPAN_HOUR(1) }, { SPAN_DAY(20000) } };
        core_init(&world->core, &settings.policy, 1, world->now);
}

static void world_close(World *world) {
        char command[128];

        trace_free(world->trace);
        (void) snprintf(command, sizeof(command), "chmod -R u+w %s; rm -rf %s", world->root, world->root);
        EXPECT_EQ(system(command), 0);
}

/* One step that leads to @stage; a quiet one where that is no news. */
static void step(World *world, Stage stage) {
        static const Target target = { .instance_id = "i-0", .group = "workers" };
        Event event = { .type = EVENT_SAMPLE };
        Plan plan = { .wake = MONO_INFINITE, .stage_changed = stage != world->core.stage };

        event.sample = (Sample){ .witness = WITNESS_DOCKER, .sight = SIGHT_CLEAR };
        world->now.mono.usec += SPAN_SEC(10);
        world->now.wall.usec += SPAN_SEC(10);
        trace_before(world->trace, &world->core);
        if (stage >= STAGE_LOOKING && world->core.stage == STAGE_GRACE)
                world->core.record.incident++;
        world->core.stage = stage;
        trace_after(world->trace, &event, world->now, &plan, &world->core, &target);
}

static off_t size_of(const World *world, unsigned number) {
        char path[160];
        struct stat info;

        (void) snprintf(path, sizeof(path), "%s/%u.trace", world->directory, number);
        return stat(path, &info) < 0 ? -1 : info.st_size;
}

/* Steps in the file that can be replayed, and all lines in it. */
static unsigned steps_in(const World *world, unsigned number, unsigned *ret_broken) {
        char path[160], *text = NULL, *at, *end;
        static TraceLine line;
        unsigned steps = 0;
        size_t n = 0;

        *ret_broken = 0;
        (void) snprintf(path, sizeof(path), "%s/%u.trace", world->directory, number);
        EXPECT_EQ(file_read(path, 4 * TRACE_FILE_MAX, &text, &n), 0);
        for (at = text; at && *at; at = end + 1) {
                end = strchr(at, '\n');
                if (!end)
                        break;
                if (trace_parse(at, (size_t) (end - at), &line) < 0)
                        (*ret_broken)++;
                else
                        steps += line.type == TRACE_STEP;
        }
        free(text);
        return steps;
}

static void test_nothing_is_written_while_the_host_is_well(void) {
        struct stat info;
        World world;

        world_open(&world);
        for (unsigned i = 0; i < 100; i++)
                step(&world, STAGE_WATCHING);
        for (unsigned i = 0; i < 100; i++)
                step(&world, STAGE_GRACE);
        step(&world, STAGE_WATCHING);
        EXPECT(stat(world.directory, &info) < 0);
        world_close(&world);
}

static void test_an_incident_has_a_file_from_the_start_of_grace_to_its_end(void) {
        unsigned broken;
        off_t size;
        World world;

        world_open(&world);
        step(&world, STAGE_WATCHING);
        for (unsigned i = 0; i < 5; i++)
                step(&world, STAGE_GRACE);
        EXPECT_EQ(size_of(&world, 1), -1);
        step(&world, STAGE_LOOKING);
        EXPECT_EQ(steps_in(&world, 1, &broken), 6);
        step(&world, STAGE_HELD);
        step(&world, STAGE_HELD); /* quiet: waits for the next that is not */
        EXPECT_EQ(steps_in(&world, 1, &broken), 7);
        step(&world, STAGE_WATCHING);
        EXPECT_EQ(steps_in(&world, 1, &broken), 9);
        EXPECT_EQ(broken, 0);
        size = size_of(&world, 1);
        step(&world, STAGE_WATCHING);
        step(&world, STAGE_GRACE);
        EXPECT_EQ(size_of(&world, 1), size);
        step(&world, STAGE_LOOKING);
        EXPECT(size_of(&world, 2) > 0);
        world_close(&world);
}

static void test_a_restart_appends_after_a_broken_line(void) {
        char path[160], *text = NULL;
        unsigned broken;
        World world;
        FILE *f;

        world_open(&world);
        step(&world, STAGE_GRACE);
        step(&world, STAGE_LOOKING);
        step(&world, STAGE_DRAINING);
        trace_free(world.trace);
        (void) snprintf(path, sizeof(path), "%s/1.trace", world.directory);
        f = fopen(path, "a");
        EXPECT(f && fputs("{\"t\":123,\"w", f) >= 0 && fclose(f) == 0);
        EXPECT_EQ(trace_new(&world.trace, world.directory), 0);
        step(&world, STAGE_RECHECKING);
        EXPECT_EQ(steps_in(&world, 1, &broken), 4);
        EXPECT_EQ(broken, 1);
        EXPECT_EQ(file_read(path, TRACE_FILE_MAX, &text, NULL), 0);
        EXPECT(text && strstr(text, "{\"t\":123,\"w\n{\"trace\":1,"));
        free(text);
        world_close(&world);
}

static void test_a_long_incident_stays_within_its_file(void) {
        off_t most = 0;
        unsigned broken;
        World world;

        world_open(&world);
        step(&world, STAGE_GRACE);
        for (unsigned i = 0; i < 3000; i++) {
                step(&world, i % 2 ? STAGE_HELD : STAGE_LOOKING);
                if (size_of(&world, 1) > most)
                        most = size_of(&world, 1);
        }
        EXPECT(most <= (off_t) TRACE_FILE_MAX);
        EXPECT(most > (off_t) TRACE_FILE_MAX / 2);
        EXPECT(steps_in(&world, 1, &broken) > 10);
        EXPECT_EQ(broken, 0);
        world_close(&world);
}

static void test_quiet_hours_take_no_room(void) {
        off_t before;
        World world;

        world_open(&world);
        step(&world, STAGE_GRACE);
        step(&world, STAGE_LOOKING);
        step(&world, STAGE_HELD);
        before = size_of(&world, 1);
        for (unsigned i = 0; i < 5000; i++)
                step(&world, STAGE_HELD);
        EXPECT_EQ(size_of(&world, 1), before);
        step(&world, STAGE_WATCHING);
        EXPECT(size_of(&world, 1) < before + 20000);
        world_close(&world);
}

static void test_the_oldest_incidents_go(void) {
        unsigned n = 0;
        World world;

        world_open(&world);
        for (unsigned i = 0; i < 30; i++) {
                step(&world, STAGE_GRACE);
                step(&world, STAGE_LOOKING);
                step(&world, STAGE_WATCHING);
        }
        for (unsigned i = 1; i <= 30; i++)
                n += size_of(&world, i) >= 0;
        EXPECT_EQ(n, TRACE_INCIDENTS_MAX);
        EXPECT_EQ(size_of(&world, 10), -1);
        EXPECT(size_of(&world, 11) > 0);
        world_close(&world);
}

static void test_all_together_stay_within_a_megabyte(void) {
        off_t total = 0;
        World world;

        world_open(&world);
        for (unsigned i = 0; i < 12; i++) {
                step(&world, STAGE_GRACE);
                for (unsigned k = 0; k < 900; k++)
                        step(&world, k % 2 ? STAGE_HELD : STAGE_LOOKING);
                step(&world, STAGE_WATCHING);
        }
        for (unsigned i = 1; i <= 12; i++)
                total += size_of(&world, i) > 0 ? size_of(&world, i) : 0;
        EXPECT(total <= (off_t) TRACE_TOTAL_MAX);
        EXPECT(size_of(&world, 12) > 0);
        EXPECT_EQ(size_of(&world, 1), -1);
        world_close(&world);
}

/* A file where the directory should be stands for every disk that takes nothing: root can write to the rest. */
static void test_a_disk_that_takes_nothing_loses_one_trace_only(void) {
        World world;

        world_open(&world);
        EXPECT_EQ(file_write_atomic(world.directory, "", 0, 0600, false), 0);
        step(&world, STAGE_GRACE);
        step(&world, STAGE_LOOKING);
        EXPECT_EQ(unlink(world.directory), 0);
        step(&world, STAGE_HELD); /* given up, although it would work again */
        step(&world, STAGE_LOOKING);
        EXPECT_EQ(size_of(&world, 1), -1);
        step(&world, STAGE_WATCHING);
        step(&world, STAGE_WATCHING);
        step(&world, STAGE_GRACE);
        step(&world, STAGE_LOOKING);
        EXPECT(size_of(&world, 2) > 0);
        world_close(&world);
}

static void test_a_link_in_place_of_a_trace_is_not_followed(void) {
        char link[160], elsewhere[160];
        struct stat info;
        World world;

        world_open(&world);
        EXPECT_EQ(mkdir(world.directory, 0700), 0);
        (void) snprintf(link, sizeof(link), "%s/1.trace", world.directory);
        (void) snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", world.root);
        EXPECT_EQ(symlink(elsewhere, link), 0);
        step(&world, STAGE_GRACE);
        step(&world, STAGE_LOOKING);
        EXPECT(stat(elsewhere, &info) < 0);
        world_close(&world);
}

static void test_calls_are_kept_during_an_incident_only(void) {
        static const TraceCall call = { .action = "DetachInstances", .answer = "ok", .request_id = "r-1" };
        char path[160], *text = NULL;
        World world;

        world_open(&world);
        trace_call(world.trace, &call, world.now);
        step(&world, STAGE_WATCHING);
        step(&world, STAGE_GRACE);
        step(&world, STAGE_LOOKING);
        (void) snprintf(path, sizeof(path), "%s/1.trace", world.directory);
        EXPECT_EQ(file_read(path, TRACE_FILE_MAX, &text, NULL), 0);
        EXPECT(text && !strstr(text, "\"call\""));
        free(text);
        text = NULL;
        trace_call(world.trace, &call, world.now);
        EXPECT_EQ(file_read(path, TRACE_FILE_MAX, &text, NULL), 0);
        EXPECT(text && strstr(text, "\"call\":{\"action\":\"DetachInstances\",\"answer\":\"ok\",\"request_"
                                    "id\":\"r-1\"}"));
        free(text);
        world_close(&world);
}

TEST_MAIN(TEST(test_every_event_and_plan_comes_back_the_same),
        TEST(test_a_core_out_of_its_text_decides_as_before),
        TEST(test_every_byte_of_what_the_core_holds_is_in_its_text), TEST(test_what_is_no_trace_is_refused),
        TEST(test_nothing_is_written_while_the_host_is_well),
        TEST(test_an_incident_has_a_file_from_the_start_of_grace_to_its_end),
        TEST(test_a_restart_appends_after_a_broken_line), TEST(test_a_long_incident_stays_within_its_file),
        TEST(test_quiet_hours_take_no_room), TEST(test_the_oldest_incidents_go),
        TEST(test_all_together_stay_within_a_megabyte),
        TEST(test_a_disk_that_takes_nothing_loses_one_trace_only),
        TEST(test_a_link_in_place_of_a_trace_is_not_followed),
        TEST(test_calls_are_kept_during_an_incident_only))
