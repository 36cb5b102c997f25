/* SPDX-License-Identifier: Apache-2.0 */

/* The document says what is going on and what comes next, people can read it, and the socket serves whoever asks. */

#include "agent/status.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/file.h"
#include "common/loop.h"
#include "tests/unit/test.h"

/* A host at a made-up time, healthy until a test says otherwise. */
typedef struct Scene {
        Settings settings;
        OptionProblems problems;
        StackView stack;
        Core core;
        Target target;
        Pause pause;
        PublisherState published;
        DiskMount mounts[DISK_MOUNTS_MAX];
        StatusView view;
} Scene;

static Scene *scene_new(void) {
        const Now now = { .mono = { SPAN_HOUR(10) }, .wall = { INT64_C(1795521600) * 1000 * 1000 } };
        Scene *s = calloc(1, sizeof(*s));

        EXPECT(s);
        EXPECT_EQ(settings_default(&s->settings), 0);
        core_init(&s->core, &s->settings.policy, 1, now);
        s->core.verdict = (Verdict){ .cause = CAUSE_NONE, .fault = FAULT_NONE, .enough = true };
        s->core.brakes = 0;
        s->core.stage_from = s->core.cause_from = mono_add(now.mono, -SPAN_MIN(20));
        for (Witness w = 0; w < WITNESS_N; w++) {
                s->core.checks.samples[w] = (Sample){ .witness = w, .sight = SIGHT_CLEAR };
                s->core.checks.sampled[w] = mono_add(now.mono, -SPAN_SEC(3));
        }
        s->core.checks.samples[WITNESS_INTROSPECTION].introspection =
                (IntrospectionSample){ ANSWER_GOOD, ANSWER_GOOD, true, 12, 0 };
        s->core.checks.introspection.believed = READING_UP;
        s->target = (Target){ "web", "arn:aws:ecs:eu-west-1:1:container-instance/web/1", "i-0abc",
                "eu-west-1a", "web-asg" };
        s->published = (PublisherState){ .sent = 1000, .last_success = wall_add(now.wall, -SPAN_SEC(20)) };
        s->mounts[0] = (DiskMount){ .path = "/", .used = 4210, .inodes_used = 310 };
        s->stack = (StackView){ .state = STACK_READ,
                .stack = "web-stack",
                .resource = "Group",
                .read = now.wall,
                .next = mono_add(now.mono, SPAN_MIN(15)),
                .problem = "" };
        s->view = (StatusView){
                .now = now,
                .started = wall_add(now.wall, -SPAN_HOUR(3)),
                .version = "1.2.3",
                .agent_version = "1.105.1",
                .core = &s->core,
                .target = &s->target,
                .control_host = "ecs-a-1.eu-west-1.amazonaws.com",
                .mounts = s->mounts,
                .n_mounts = 1,
                .pause = &s->pause,
                .settings = &s->settings,
                .problems = &s->problems,
                .settings_path = "/etc/ecs-health-agent/config.json",
                .stack = &s->stack,
                .published = &s->published,
                .credentials = AWS_CREDENTIALS_GOOD,
                .credentials_detail = "role web-role",
                .keys_refused = "",
                .last_call = "",
        };
        return s;
}

static void scene_fall_ill(Scene *s, Stage stage, Cause cause) {
        s->core.stage = stage;
        s->core.verdict = (Verdict){ .cause = cause,
                .fault = FAULT_HOST,
                .down = true,
                .enough = true,
                .repairable = cause == CAUSE_AGENT_WEDGED };
        s->core.ill_from = mono_add(s->view.now.mono, -SPAN_MIN(4));
        s->core.due = mono_add(s->view.now.mono, SPAN_SEC(40));
}

static cJSON *scene_document(const Scene *s) {
        JsonWriter writer;
        cJSON *json = NULL;

        json_writer_init(&writer, STATUS_TEXT_MAX);
        status_write(&s->view, &writer);
        EXPECT_EQ(writer.error, 0);
        EXPECT_EQ(json_parse(writer.text, writer.n, NULL, &json), 0);
        json_writer_done(&writer);
        return json;
}

static char *document_rendered(const cJSON *json, unsigned width, bool colour) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);

        EXPECT(f);
        EXPECT_EQ(status_render(json, width, colour, f), 0);
        EXPECT_EQ(fclose(f), 0);
        return text;
}

static char *scene_rendered(const Scene *s) {
        _cleanup_(json_freep) cJSON *json = scene_document(s);

        return document_rendered(json, 400, false);
}

static bool scene_is_ok(const Scene *s) {
        _cleanup_(json_freep) cJSON *json = scene_document(s);
        bool ok = false;

        EXPECT_EQ(json_get_bool(json, "ok", &ok), 0);
        return ok;
}

static void expect_says(const Scene *s, const char *words) {
        _cleanup_(freep) char *text = scene_rendered(s);

        if (!strstr(text, words))
                printf("%s\n", text);
        EXPECT(strstr(text, words));
}

static void expect_silent_about(const Scene *s, const char *words) {
        _cleanup_(freep) char *text = scene_rendered(s);

        EXPECT(!strstr(text, words));
}

static void test_healthy_host_is_fine_and_says_so_first(void) {
        _cleanup_(freep) Scene *s = scene_new();
        _cleanup_(freep) char *text = scene_rendered(s);

        EXPECT(scene_is_ok(s));
        EXPECT(strncmp(text, "HEALTHY   The ECS agent is connected.\n", 38) == 0);
        EXPECT(strstr(text, "i-0abc, cluster web, group web-asg, eu-west-1a, ECS agent 1.105.1"));
        EXPECT(strstr(text, "3s ago"));
        EXPECT(strstr(text, "12 tasks run"));
        EXPECT(!strstr(text, "Needs attention"));
}

static void test_document_has_the_names_that_were_promised(void) {
        static const char *const names[] = { "running", "ok", "time", "time_seconds_ago", "started",
                "version", "headline", "problems", "verdict", "stage", "grace", "witnesses", "control_plane",
                "brakes", "look", "sizes", "record", "orphan", "patrol", "host", "metrics", "rights",
                "settings", "cloudformation", "pause", "identity", "credentials", "self" };
        _cleanup_(freep) Scene *s = scene_new();
        _cleanup_(json_freep) cJSON *json = scene_document(s);

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (!cJSON_HasObjectItem(json, names[i])) {
                        printf("# %s\n", names[i]);
                        EXPECT(false);
                }
        EXPECT_EQ(cJSON_GetArraySize(cJSON_GetObjectItem(json, "witnesses")), WITNESS_N);
        EXPECT_EQ(cJSON_GetArraySize(cJSON_GetObjectItem(json, "rights")), RIGHT_N);
}

static void test_grace_says_when_it_ends_and_what_follows(void) {
        _cleanup_(freep) Scene *s = scene_new();

        scene_fall_ill(s, STAGE_GRACE, CAUSE_AGENT_WEDGED);
        EXPECT(!scene_is_ok(s));
        expect_says(s, "Disconnected for 4m.");
        expect_says(s, "Grace ends in 4m (at 12:04:00Z)");
        expect_says(s, "a restart of the agent, the drain, then the detach");
        expect_says(s, "To keep it from acting: ecs-health-agent pause.");

        s->core.brakes = 1u << BRAKE_PAUSED | 1u << BRAKE_GRACE;
        s->pause.paused = true;
        expect_says(s, "this would be stopped by: paused.");
        expect_silent_about(s, "To keep it from acting");
}

static void test_grace_of_an_observer_promises_no_action(void) {
        _cleanup_(freep) Scene *s = scene_new();

        scene_fall_ill(s, STAGE_GRACE, CAUSE_LINK_LOST);
        s->core.policy.action = ACTION_OBSERVE;
        expect_says(s, "nothing more, for the settings say action: observe");
        expect_silent_about(s, "then the detach");
        expect_silent_about(s, "To keep it from acting");
}

static void test_held_names_its_brakes_and_what_to_do(void) {
        _cleanup_(freep) Scene *s = scene_new();

        scene_fall_ill(s, STAGE_HELD, CAUSE_LINK_LOST);
        s->core.brakes = 1u << BRAKE_SHARE | 1u << BRAKE_COOLDOWN;
        s->core.brake_until[BRAKE_COOLDOWN] = mono_add(s->view.now.mono, SPAN_MIN(5));
        EXPECT(!scene_is_ok(s));
        expect_says(s, "HELD");
        expect_says(s, "these brakes hold: cooldown, share.");
        expect_says(s, "Looks again in 40s (at 12:00:40Z).");
        expect_says(s, "Look at what they share first");
        expect_says(s, brake_table[BRAKE_SHARE].doc);
        expect_says(s, "Another 5m.");
}

static void test_one_witness_alone_is_told_to_lead_to_nothing(void) {
        _cleanup_(freep) Scene *s = scene_new();

        scene_fall_ill(s, STAGE_WATCHING, CAUSE_LINK_LOST);
        s->core.verdict.enough = false;
        expect_says(s, "nothing is done on the word of one");
        EXPECT(!scene_is_ok(s));
}

static void test_intended_is_fine_and_unknown_is_not(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->core.verdict = (Verdict){ .cause = CAUSE_OPERATOR_STOP, .fault = FAULT_INTENDED, .down = true };
        expect_says(s, "INTENDED");
        EXPECT(scene_is_ok(s));
        s->core.verdict = (Verdict){ .cause = CAUSE_NOT_KNOWN, .fault = FAULT_UNKNOWN };
        expect_says(s, "Not knowing never leads to an action.");
        EXPECT(!scene_is_ok(s));
}

static void test_starting_host_is_fine_and_tells_of_boot_grace(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->core.verdict = (Verdict){ .cause = CAUSE_STARTING, .fault = FAULT_UNKNOWN };
        s->core.boot_grace_until = mono_add(s->view.now.mono, SPAN_MIN(7));
        expect_says(s, "boot grace ends in 7m");
        EXPECT(scene_is_ok(s));
}

static void test_removed_host_names_its_group(void) {
        _cleanup_(freep) Scene *s = scene_new();

        scene_fall_ill(s, STAGE_REMOVED, CAUSE_LINK_LOST);
        expect_says(s, "taken out of Auto Scaling group web-asg");
        expect_silent_about(s, "by a peer that patrols");
        EXPECT(!scene_is_ok(s));
        s->core.checks.control.patrolled = true;
        expect_says(s, "taken out of Auto Scaling group web-asg, by a peer that patrols.");
        s->core.record.action = ACTION_STANDBY;
        expect_says(s, "put on standby in Auto Scaling group web-asg");
}

typedef struct OrphanRow {
        Action taken;
        OrphanAction then;
        bool deregister, ended;
        const char *says;
} OrphanRow;

static void scene_remove(Scene *s, const OrphanRow *row) {
        scene_fall_ill(s, STAGE_REMOVED, CAUSE_LINK_LOST);
        s->core.checks.lifecycle = row->taken == ACTION_STANDBY ? LIFECYCLE_STANDBY : LIFECYCLE_DETACHED;
        s->core.record.action = row->taken;
        s->core.record.ended = row->ended;
        s->core.record.closed = wall_add(s->view.now.wall, -SPAN_MIN(18));
        s->core.policy.orphan = row->then;
        s->core.policy.orphan_deregister = row->deregister;
}

static void test_what_becomes_of_an_orphan_is_told(void) {
        static const OrphanRow rows[] = {
                { ACTION_DETACH, ORPHAN_STOP, true, false,
                        "It is deregistered and stopped in 42m (orphan.after)." },
                { ACTION_DETACH, ORPHAN_STOP, false, false, "It is stopped in 42m (orphan.after)." },
                { ACTION_DETACH, ORPHAN_TERMINATE, true, false, "It is deregistered and terminated in 42m" },
                { ACTION_DETACH, ORPHAN_KEEP, true, false, "It is deregistered in 42m" },
                { ACTION_DETACH, ORPHAN_KEEP, false, false, "It is kept as it is (orphan.action: keep)" },
                { ACTION_DETACH, ORPHAN_STOP, true, true, "It was deregistered and stopped. If it runs on" },
                { ACTION_DETACH, ORPHAN_KEEP, true, true, "It was deregistered. It runs on, and is billed" },
                { ACTION_UNHEALTHY, ORPHAN_STOP, true, false,
                        "Its group terminates it. It is deregistered next." },
                { ACTION_UNHEALTHY, ORPHAN_STOP, false, false, "Its group terminates it." },
                { ACTION_STANDBY, ORPHAN_STOP, true, false,
                        "It stays on standby until an operator decides." },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) Scene *s = scene_new();

                expect_silent_about(s, "Afterwards");
                scene_remove(s, &rows[i]);
                expect_says(s, rows[i].says);
                expect_says(s, "Afterwards");
        }
}

static void test_why_an_orphan_is_not_ended_is_told(void) {
        static const OrphanRow detached = { ACTION_DETACH, ORPHAN_STOP, true, false, "" };
        _cleanup_(freep) Scene *s = scene_new();

        scene_remove(s, &detached);
        expect_says(s, "To keep it for a longer look: ecs-health-agent pause.");
        s->core.rights.granted[RIGHT_EC2_TERMINATE] = GRANTED_NO; /* is not what stops it */
        expect_silent_about(s, "The role is denied");
        s->core.rights.granted[RIGHT_EC2_STOP] = GRANTED_NO;
        expect_says(s, "in 42m (orphan.after). The role is denied ec2:StopInstances.");
        s->core.record.closed = wall_add(s->view.now.wall, -SPAN_HOUR(2));
        expect_says(s, "It is deregistered and stopped next. The role is denied ec2:StopInstances.");
        s->core.end_at = mono_add(s->view.now.mono, SPAN_MIN(9));
        expect_says(
                s, "that has not worked, and is tried again in 9m. The role is denied ec2:StopInstances.");
        s->core.paused_until = mono_add(s->view.now.mono, SPAN_MIN(90));
        expect_says(s, "when the pause is over, in 1h 30m at the soonest.");
        s->core.paused_until = MONO_INFINITE;
        expect_says(s, "but this host is paused until it is resumed.");
        expect_silent_about(s, "To keep it for a longer look");
        s->core.policy.action = ACTION_OBSERVE;
        expect_says(s, "but the settings say action: observe.");
}

static void test_patrol_says_what_it_does_or_why_not(void) {
        _cleanup_(freep) Scene *s = scene_new();
        Patrol *patrol = &s->core.patrol;
        const Mono now = s->view.now.mono;

        expect_says(s, "not yet: how many hosts the group has is not known");
        s->core.sizes = (Sizes){ .cluster = 400, .group = 1 };
        expect_says(s, "none: the group has no other member");
        s->core.sizes.group = 20;
        expect_says(s, "rests while this host is not well");
        expect_says(s, "the group has 20, the cluster 400");
        patrol->due = mono_add(now, SPAN_MIN(70));
        patrol->sweeps = 5;
        expect_says(s, "next search for frozen peers in 1h 10m; searches so far: 5");
        (void) strcpy(patrol->peer.instance_id, "i-0peer");
        patrol->brakes = 1u << BRAKE_SHARE | 1u << BRAKE_BUDGET;
        expect_says(s, "followed i-0peer last, and let it go because of: share, budget");
        patrol->brakes = 0;
        expect_silent_about(s, "let it go");

        patrol->stage = PATROL_WAITING;
        patrol->found_at = mono_add(now, -SPAN_MIN(3));
        patrol->due = mono_add(now, SPAN_MIN(17));
        expect_says(s, "follows i-0peer, found disconnected 3m ago; looks again in 17m");
        patrol->stage = PATROL_DRAINING;
        patrol->removals = 2;
        expect_says(s, "drains, on its behalf, i-0peer");
        expect_says(s, "peers removed: 2");
        EXPECT(scene_is_ok(s)); /* the trouble is the peer's */

        patrol->stage = PATROL_RESTING;
        expect_silent_about(s, "a peer has claimed this host");
        s->core.checks.control = (Confirmation){ .patrolled = true,
                .patrolled_at = wall_add(s->view.now.wall, -SPAN_MIN(2)) };
        expect_says(s, "a peer has claimed this host 2m ago");
        s->core.policy.patrol = false;
        expect_says(s, "switched off in the settings");
}

static void test_every_stage_of_patrol_can_be_told(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->core.sizes = (Sizes){ .cluster = 400, .group = 20 };
        for (PatrolStage stage = 0; stage < PATROL_STAGE_N; stage++) {
                _cleanup_(json_freep) cJSON *json = NULL;
                const cJSON *patrol = NULL;
                const char *says = "", *name = "";

                s->core.patrol.stage = stage;
                json = scene_document(s);
                EXPECT_EQ(json_get_object(json, "patrol", &patrol), 0);
                EXPECT_EQ(json_get_string(patrol, "says", &says), 0);
                EXPECT_EQ(json_get_string(patrol, "stage", &name), 0);
                EXPECT(*says);
                EXPECT_STR(name, patrol_stage_to_string(stage));
        }
}

static void test_the_action_is_told_by_its_name_beforehand(void) {
        static const struct {
                Action action;
                const char *course, *turn, *now;
        } rows[] = {
                { ACTION_DETACH, "the drain, then the detach from the Auto Scaling group, which launches",
                        "drains and detaches the instance.", "Detaches the instance" },
                { ACTION_UNHEALTHY, "then its termination by the Auto Scaling group, which launches",
                        "drains and has the group terminate the instance.",
                        "that the instance is unhealthy" },
                { ACTION_STANDBY, "then standby in the Auto Scaling group, which launches",
                        "drains and puts the instance on standby.", "Puts the instance on standby" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) Scene *s = scene_new();

                s->core.policy.action = rows[i].action;
                scene_fall_ill(s, STAGE_GRACE, CAUSE_LINK_LOST);
                expect_says(s, rows[i].course);
                scene_fall_ill(s, STAGE_TURN, CAUSE_LINK_LOST);
                expect_says(s, rows[i].turn);
                scene_fall_ill(s, STAGE_DETACHING, CAUSE_LINK_LOST);
                expect_says(s, rows[i].now);
        }
}

static void test_pause_is_shown_with_its_end_and_author(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->pause =
                (Pause){ true, s->view.now.wall, wall_add(s->view.now.wall, SPAN_HOUR(2)), "kernel", "ann" };
        expect_says(s, "until 2026-11-24T14:00:00Z (another 2h), by ann: kernel");
        expect_says(s, "nothing would be done either: the host is paused");
        EXPECT(scene_is_ok(s)); /* somebody meant it */
        s->pause.until = WALL_NEVER;
        expect_says(s, "until resumed, by ann");
}

static void test_refused_settings_need_attention(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->problems.n = 1;
        (void) strcpy(s->problems.text[0], "config.json: grace: bad");
        EXPECT(!scene_is_ok(s));
        expect_says(s, "Needs attention");
        expect_says(s, "ecs-health-agent check-config");
        expect_says(s, "config.json: grace: bad");
}

static void test_denied_right_needs_attention_unless_it_is_not_used(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->core.rights.granted[RIGHT_ASG_DETACH] = GRANTED_NO;
        EXPECT(!scene_is_ok(s));
        expect_says(s, "The instance role is denied: autoscaling:DetachInstances.");
        s->core.policy.action = ACTION_OBSERVE;
        EXPECT(scene_is_ok(s));

        s->core.policy.action = ACTION_STANDBY;
        s->core.rights.granted[RIGHT_ECS_DEREGISTER] = s->core.rights.granted[RIGHT_EC2_STOP] = GRANTED_NO;
        EXPECT(scene_is_ok(s));
        s->core.rights.granted[RIGHT_ASG_ENTER_STANDBY] = GRANTED_NO;
        expect_says(s, "denied: autoscaling:EnterStandby.");
        EXPECT(!scene_is_ok(s));
}

static void test_trouble_of_our_own_needs_attention(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->published.failures = 2;
        EXPECT(scene_is_ok(s));
        s->published.failures = 3;
        (void) strcpy(s->published.problem, "AccessDenied");
        expect_says(s, "Metrics have not reached CloudWatch in 3 tries: AccessDenied");
        EXPECT(!scene_is_ok(s));
        s->published.failures = 0;

        s->view.credentials = AWS_CREDENTIALS_NO_ROLE;
        EXPECT(!scene_is_ok(s));
        s->view.credentials = AWS_CREDENTIALS_UNKNOWN;
        EXPECT(scene_is_ok(s));

        s->view.keys_refused = "SignatureDoesNotMatch";
        expect_says(s, "AWS refuses our keys (SignatureDoesNotMatch; role web-role)");
        EXPECT(!scene_is_ok(s));
        s->view.keys_refused = "";

        s->view.journal_error = -ENOSPC;
        expect_says(s, "No space left on device");
        EXPECT(!scene_is_ok(s));
        s->view.journal_error = 0;

        s->view.clock_offset = -SPAN_MIN(6);
        expect_says(s, "clock is 6m fast");
        s->view.clock_offset = SPAN_SEC(5);
        EXPECT(scene_is_ok(s));

        s->view.helpers_stuck = 1;
        EXPECT(!scene_is_ok(s));
}

static void test_trouble_of_the_host_needs_attention(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->core.checks.disk_space.believed = READING_DOWN;
        expect_says(s, "file system is full");
        EXPECT(!scene_is_ok(s));
        s->core.checks.disk_space.believed = READING_UP;
        EXPECT(scene_is_ok(s));
        s->mounts[0].hung = true;
        s->mounts[0].used = SHARE_NONE;
        expect_says(s, "The file system at / hangs.");
        expect_says(s, "HUNG");
}

static void test_what_a_witness_cannot_see_is_told_with_the_reason(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->core.checks.samples[WITNESS_LOG].sight = SIGHT_ABSENT;
        s->core.checks.samples[WITNESS_DOCKER].sight = SIGHT_DENIED;
        s->core.checks.samples[WITNESS_MEMORY].sight = SIGHT_OFF;
        expect_says(s, "cannot tell: /var/log/ecs/ecs-agent.log is not there");
        expect_says(s, "cannot tell: not allowed to look at /run/docker.sock");
        expect_says(s, "switched off in the settings");
}

static void test_log_tells_for_how_long_and_when_the_next_try_is(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->core.checks.log = (LogMachine){ .state = LOG_STATE_BACKOFF,
                .since = mono_add(s->view.now.mono, -SPAN_MIN(4)),
                .retry_line = s->view.now.mono,
                .retry_at = mono_add(s->view.now.mono, SPAN_SEC(30)) };
        expect_says(s, "for 4m, next try in 30s");
}

static void test_last_look_and_control_plane_are_told_with_their_age(void) {
        _cleanup_(freep) Scene *s = scene_new();

        expect_says(s, "not asked yet");
        expect_silent_about(s, "Last look");
        s->core.checks.control = (Confirmation){ .outcome = OUTCOME_OK, .status = CONTROL_ACTIVE };
        s->core.checks.control_at = mono_add(s->view.now.mono, -SPAN_MIN(2));
        s->core.looked_at = mono_add(s->view.now.mono, -SPAN_SEC(70));
        s->core.look = (Look){ .outcome = OUTCOME_OK,
                .cluster = { 100, 7 },
                .group = { 20, 1 },
                .zone = { 6, 1 },
                .group_state = GROUP_REFRESHING };
        expect_says(s, "ECS called it disconnected (ACTIVE) 2m ago");
        expect_says(s, "1m 10s ago: disconnected 7 of 100 in the cluster, 1 of 20 in the group, 1 of 6 in "
                       "the zone");
        expect_says(s, "group refreshing");
}

static void test_every_stage_and_cause_can_be_told(void) {
        _cleanup_(freep) Scene *s = scene_new();

        s->core.brakes = (1u << BRAKE_N) - 1;
        for (Stage stage = 0; stage < STAGE_N; stage++)
                for (Cause cause = 0; cause < CAUSE_N; cause++)
                        for (Fault fault = 0; fault < FAULT_N; fault++) {
                                _cleanup_(json_freep) cJSON *json = NULL;
                                const cJSON *headline = NULL;
                                const char *next = "";

                                scene_fall_ill(s, stage, cause);
                                s->core.verdict.fault = fault;
                                s->core.due = fault % 2 ? MONO_INFINITE : s->core.due;
                                json = scene_document(s);
                                EXPECT_EQ(json_get_object(json, "headline", &headline), 0);
                                EXPECT_EQ(json_get_string(headline, "next", &next), 0);
                                EXPECT(*next);
                        }
}

/* Whatever a sample may hold, out of range included, gives a whole document. */
static void test_every_sight_and_answer_can_be_told(void) {
        _cleanup_(freep) Scene *s = scene_new();

        for (int fill = 0; fill < 12; fill++)
                for (Sight sight = 0; sight < SIGHT_N; sight++) {
                        _cleanup_(freep) char *text = NULL;

                        for (Witness w = 0; w < WITNESS_N; w++)
                                s->core.checks.samples[w].sight = sight;
                        s->core.checks.samples[WITNESS_INTROSPECTION].introspection.metadata =
                                fill % ANSWER_N;
                        s->core.checks.samples[WITNESS_INTROSPECTION].introspection.tasks = fill % ANSWER_N;
                        s->core.checks.samples[WITNESS_UNITS].units.ecs = (UnitSample){ fill % 2,
                                fill % UNIT_STATE_N, fill % INTENT_N, false, fill - 1, 0 };
                        s->core.checks.samples[WITNESS_DOCKER].docker =
                                (DockerSample){ fill % ANSWER_N, fill % ANSWER_N, fill - 1 };
                        s->core.checks.samples[WITNESS_PATH].path.answer = fill % PATH_ANSWER_N;
                        s->core.checks.samples[WITNESS_SOCKETS].sockets = (SocketsSample){ fill % 2, fill, 0,
                                2, fill % 3, fill % 4, fill - 1, 0, fill % 2 };
                        s->core.checks.samples[WITNESS_MEMORY].memory.some = fill - 1;
                        s->core.checks.samples[WITNESS_DISKS].disks.used_worst = fill - 1;
                        s->core.checks.log.state = fill % LOG_STATE_N;
                        s->core.checks.samples[WITNESS_METADATA].metadata.lifecycle = fill % LIFECYCLE_N;
                        text = scene_rendered(s);
                        EXPECT(strstr(text, "Witnesses"));
                }
}

static void test_largest_document_fits(void) {
        _cleanup_(freep) Scene *s = scene_new();
        _cleanup_(json_freep) cJSON *json = NULL;

        s->problems.n = 1000;
        for (size_t i = 0; i < OPTION_PROBLEMS_MAX; i++)
                memset(s->problems.text[i], '\1',
                        sizeof(s->problems.text[i]) - 1); /* six bytes each in JSON */
        for (size_t i = 0; i < DISK_MOUNTS_MAX; i++) {
                memset(s->mounts[i].path, '\1', sizeof(s->mounts[i].path) - 1);
                s->mounts[i].hung = true;
        }
        s->view.n_mounts = DISK_MOUNTS_MAX;
        memset(s->target.group, '"', sizeof(s->target.group) - 1);
        memset(s->published.problem, '\377', sizeof(s->published.problem) - 1);
        memset(s->core.patrol.peer.instance_id, '\1', sizeof(s->core.patrol.peer.instance_id) - 1);
        s->core.patrol.brakes = (1u << BRAKE_N) - 1;
        scene_fall_ill(s, STAGE_REMOVED, CAUSE_LINK_LOST);
        s->core.brakes = (1u << BRAKE_N) - 1;
        json = scene_document(s); /* expects success */
        EXPECT(json);
}

static void test_nothing_foreign_reaches_the_terminal_as_a_command(void) {
        _cleanup_(freep) Scene *s = scene_new();
        _cleanup_(freep) char *text = NULL;

        s->view.agent_version = "1\033[2J\a\n\302\2332J\177";
        s->pause = (Pause){ .paused = true };
        (void) strcpy(s->pause.reason, "\033]0;owned\a \377\376 \303\274");
        (void) strcpy(s->mounts[0].path, "/\033[31m");
        text = scene_rendered(s);
        EXPECT(!strchr(text, '\033'));
        EXPECT(!strchr(text, '\a'));
        EXPECT(!strchr(text, '\177'));
        EXPECT(!strstr(text, "\302\233"));
        EXPECT(strstr(text, "\303\274")); /* a letter stays one */
}

static void test_colours_only_where_they_are_wanted(void) {
        _cleanup_(freep) Scene *s = scene_new();
        _cleanup_(json_freep) cJSON *json = scene_document(s);
        _cleanup_(freep) char *plain = document_rendered(json, 100, false);
        _cleanup_(freep) char *coloured = document_rendered(json, 100, true);

        EXPECT(!strchr(plain, '\033'));
        EXPECT(strstr(coloured, "\033[32mHEALTHY"));
}

static void test_lines_keep_to_the_width(void) {
        _cleanup_(freep) Scene *s = scene_new();
        _cleanup_(json_freep) cJSON *json = NULL;

        scene_fall_ill(s, STAGE_HELD, CAUSE_LINK_LOST);
        s->core.brakes = (1u << BRAKE_N) - 1;
        json = scene_document(s);
        for (unsigned width = 80; width <= 160; width += 40) {
                _cleanup_(freep) char *text = document_rendered(json, width, false);
                char *rest = text;

                for (char *line; (line = strsep(&rest, "\n"));)
                        if (strlen(line) > width) {
                                printf("# %u: %s\n", width, line);
                                EXPECT(false);
                        }
        }
}

static void test_documents_of_other_versions_are_shown_as_far_as_they_go(void) {
        static const struct {
                const char *text;
                int r;
        } cases[] = { { "{\"headline\":{}}", 0 },
                { "{\"headline\":{\"state\":\"new state\",\"what\":5}}", 0 },
                { "{\"headline\":{},\"witnesses\":[5,null,{},{\"name\":[]}],\"brakes\":{\"a\":1},\"host\":[]"
                  ","
                  "\"problems\":[1],\"look\":{\"cluster\":7},\"pause\":{\"paused\":true},\"settings\":5,"
                  "\"record\":{\"incident\":3,\"opened\":\"x\"},\"rights\":[[]],\"stage\":{\"for_seconds\":"
                  "1e15}}",
                        0 },
                { "{\"headline\":[]}", -EBADMSG }, { "{}", -EBADMSG }, { "[]", -EBADMSG },
                { "5", -EBADMSG } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(json_freep) cJSON *json = NULL;
                _cleanup_(freep) char *text = NULL;
                size_t n = 0;
                FILE *f = open_memstream(&text, &n);

                EXPECT_EQ(json_parse(cases[i].text, strlen(cases[i].text), NULL, &json), 0);
                EXPECT_EQ(status_render(json, 0, true, f), cases[i].r);
                EXPECT_EQ(fclose(f), 0);
        }
}

/* The socket */

typedef struct Server {
        char directory[64];
        char path[512];
        sd_event *event;
        StatusServer *server;
        size_t size; /* of the document */
        unsigned asked;
} Server;

static void on_asked(JsonWriter *writer, void *userdata) {
        Server *s = userdata;
        char text[1024];

        s->asked++;
        memset(text, 'x', sizeof(text));
        json_raw(writer, "\"", 1);
        for (size_t left = s->size; left > 0; left -= left < sizeof(text) ? left : sizeof(text))
                json_raw(writer, text, left < sizeof(text) ? left : sizeof(text));
        json_raw(writer, "\"", 1);
}

static void server_open(Server *s, const char *name) {
        *s = (Server){ .size = 100 };
        (void) snprintf(s->directory, sizeof(s->directory), "/tmp/test-status.XXXXXX");
        EXPECT(mkdtemp(s->directory));
        (void) snprintf(s->path, sizeof(s->path), "%s/%s", s->directory, name);
        EXPECT_EQ(sd_event_new(&s->event), 0);
}

static void server_close(Server *s) {
        status_server_free(s->server);
        sd_event_unref(s->event);
        (void) unlink(s->path);
        (void) rmdir(s->directory);
}

/* Fetches in a process of its own while the loop runs here. Return: bytes, or a negative errno. */
static int fetch(Server *s) {
        int ends[2] = { -1, -1 }, result = -ECHILD;
        pid_t child;

        EXPECT_EQ(pipe(ends), 0);
        child = fork();
        if (child == 0) {
                char *text = NULL;
                size_t n = 0;
                int r = status_fetch(s->path, &text, &n);

                r = r < 0 ? r : (int) n;
                _exit(write(ends[1], &r, sizeof(r)) == sizeof(r) ? 0 : 1);
        }
        while (waitpid(child, NULL, WNOHANG) == 0)
                EXPECT(sd_event_run(s->event, (uint64_t) SPAN_MSEC(5)) >= 0);
        EXPECT_EQ(read(ends[0], &result, sizeof(result)), sizeof(result));
        (void) close(ends[0]);
        (void) close(ends[1]);
        return result;
}

static void test_server_hands_out_the_document(void) {
        struct stat st = {};
        Server s;

        server_open(&s, "status.sock");
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), 0);
        EXPECT_EQ(stat(s.path, &st), 0);
        EXPECT(S_ISSOCK(st.st_mode));
        EXPECT_EQ(st.st_mode & 0777, 0666);
        EXPECT_EQ(s.asked, 0); /* nothing is written while nobody asks */
        EXPECT_EQ(fetch(&s), 103);
        EXPECT_EQ(fetch(&s), 103);
        EXPECT_EQ(s.asked, 2);
        s.server = status_server_free(s.server);
        EXPECT_EQ(access(s.path, F_OK), -1);
        EXPECT_EQ(fetch(&s), -ENOENT);
        server_close(&s);
}

static void test_document_larger_than_the_sockets_buffer_arrives_whole(void) {
        Server s;

        server_open(&s, "status.sock");
        s.size = STATUS_TEXT_MAX - 3;
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), 0);
        EXPECT_EQ(fetch(&s), STATUS_TEXT_MAX);
        s.size++; /* cut documents are not handed out */
        EXPECT_EQ(fetch(&s), -EBADMSG);
        server_close(&s);
}

static void test_path_may_be_longer_than_a_sockets_address(void) {
        char name[256];
        Server s;

        memset(name, 'd', sizeof(name));
        name[200] = '\0';
        server_open(&s, name);
        EXPECT_EQ(mkdir(s.path, 0700), 0);
        (void) strcat(s.path, "/status.sock");
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), 0);
        EXPECT_EQ(fetch(&s), 103);
        s.server = status_server_free(s.server);
        *strrchr(s.path, '/') = '\0';
        EXPECT_EQ(rmdir(s.path), 0);
        server_close(&s);
}

static void test_socket_left_behind_is_replaced_and_other_files_are_not(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        Server s;
        int fd;

        server_open(&s, "status.sock");
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", s.path);
        EXPECT_EQ(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        (void) close(fd);
        EXPECT_EQ(fetch(&s), -ECONNREFUSED);
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), 0);
        EXPECT_EQ(fetch(&s), 103);
        s.server = status_server_free(s.server);

        EXPECT_EQ(file_write_atomic(s.path, "keep", 4, 0600, false), 0);
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), -EEXIST);
        EXPECT_EQ(access(s.path, F_OK), 0);
        server_close(&s);
}

static void test_socket_of_a_successor_is_left_alone(void) {
        Server s;
        StatusServer *successor = NULL;

        server_open(&s, "status.sock");
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), 0);
        EXPECT_EQ(status_server_new(&successor, s.event, s.path, on_asked, &s), 0);
        s.server = status_server_free(s.server);
        EXPECT_EQ(fetch(&s), 103);
        status_server_free(successor);
        server_close(&s);
}

static int connect_to(const Server *s) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", s->path);
        EXPECT_EQ(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

static void test_clients_that_do_not_read_are_dropped_for_those_who_wait(void) {
        int idle[8];
        Server s;

        server_open(&s, "status.sock");
        s.size = STATUS_TEXT_MAX - 3; /* more than a socket takes at once */
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), 0);
        for (size_t i = 0; i < ELEMENTSOF(idle); i++)
                idle[i] = connect_to(&s);
        while (s.asked < ELEMENTSOF(idle))
                EXPECT(sd_event_run(s.event, (uint64_t) SPAN_SEC(1)) >= 0);
        EXPECT_EQ(
                fetch(&s), STATUS_TEXT_MAX); /* the ninth is served when the idle ones have had their 2 s */
        for (size_t i = 0; i < ELEMENTSOF(idle); i++)
                (void) close(idle[i]);
        server_close(&s);
}

static void test_client_that_leaves_early_makes_room(void) {
        int left[20];
        Server s;

        server_open(&s, "status.sock");
        s.size = STATUS_TEXT_MAX - 3;
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), 0);
        for (size_t i = 0; i < ELEMENTSOF(left); i++) {
                left[i] = connect_to(&s);
                while (s.asked <= i)
                        EXPECT(sd_event_run(s.event, (uint64_t) SPAN_SEC(1)) >= 0);
                (void) close(left[i]);
        }
        EXPECT_EQ(fetch(&s), STATUS_TEXT_MAX);
        server_close(&s);
}

static void test_server_may_be_freed_while_it_serves(void) {
        Server s;
        int fd;

        server_open(&s, "status.sock");
        s.size = STATUS_TEXT_MAX - 3;
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), 0);
        fd = connect_to(&s);
        while (s.asked == 0)
                EXPECT(sd_event_run(s.event, (uint64_t) SPAN_SEC(1)) >= 0);
        (void) close(fd);
        server_close(&s);
        EXPECT(!status_server_free(NULL));
}

static void test_daemon_that_does_not_answer_is_given_up(void) {
        Server s;
        Now before;
        char *text = NULL;
        size_t n = 0;

        server_open(&s, "status.sock");
        EXPECT_EQ(status_server_new(&s.server, s.event, s.path, on_asked, &s), 0);
        before = clock_read();
        EXPECT_EQ(status_fetch(s.path, &text, &n), -ETIMEDOUT); /* nobody runs the loop */
        EXPECT(mono_since(clock_read().mono, before.mono) >= SPAN_SEC(3));
        server_close(&s);
}

TEST_MAIN(TEST(test_healthy_host_is_fine_and_says_so_first),
        TEST(test_document_has_the_names_that_were_promised),
        TEST(test_grace_says_when_it_ends_and_what_follows),
        TEST(test_grace_of_an_observer_promises_no_action), TEST(test_held_names_its_brakes_and_what_to_do),
        TEST(test_one_witness_alone_is_told_to_lead_to_nothing),
        TEST(test_intended_is_fine_and_unknown_is_not),
        TEST(test_starting_host_is_fine_and_tells_of_boot_grace), TEST(test_removed_host_names_its_group),
        TEST(test_what_becomes_of_an_orphan_is_told), TEST(test_why_an_orphan_is_not_ended_is_told),
        TEST(test_patrol_says_what_it_does_or_why_not), TEST(test_every_stage_of_patrol_can_be_told),
        TEST(test_the_action_is_told_by_its_name_beforehand),

        TEST(test_pause_is_shown_with_its_end_and_author), TEST(test_refused_settings_need_attention),
        TEST(test_denied_right_needs_attention_unless_it_is_not_used),
        TEST(test_trouble_of_our_own_needs_attention), TEST(test_trouble_of_the_host_needs_attention),
        TEST(test_what_a_witness_cannot_see_is_told_with_the_reason),
        TEST(test_log_tells_for_how_long_and_when_the_next_try_is),
        TEST(test_last_look_and_control_plane_are_told_with_their_age),
        TEST(test_every_stage_and_cause_can_be_told), TEST(test_every_sight_and_answer_can_be_told),
        TEST(test_largest_document_fits), TEST(test_nothing_foreign_reaches_the_terminal_as_a_command),
        TEST(test_colours_only_where_they_are_wanted), TEST(test_lines_keep_to_the_width),
        TEST(test_documents_of_other_versions_are_shown_as_far_as_they_go),
        TEST(test_server_hands_out_the_document),
        TEST(test_document_larger_than_the_sockets_buffer_arrives_whole),
        TEST(test_path_may_be_longer_than_a_sockets_address),
        TEST(test_socket_left_behind_is_replaced_and_other_files_are_not),
        TEST(test_socket_of_a_successor_is_left_alone),
        TEST(test_clients_that_do_not_read_are_dropped_for_those_who_wait),
        TEST(test_client_that_leaves_early_makes_room), TEST(test_server_may_be_freed_while_it_serves),
        TEST(test_daemon_that_does_not_answer_is_given_up))
