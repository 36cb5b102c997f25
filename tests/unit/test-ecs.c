/* SPDX-License-Identifier: Apache-2.0 */

/* Calls of the ECS API about ourselves and about peers, against a scripted AWS. */

#include "agent/act/ecs.h"

#include "agent/decide/policy.h"
#include "agent/decide/turn.h"
#include "common/parse.h"
#include "tests/unit/fake-aws.h"

static const Target target = {
        .cluster = "prod",
        .arn = "arn:aws:ecs:us-east-1:123456789012:container-instance/prod/0123456789abcdef0123456789abcdef",
        .instance_id = "i-0123456789abcdef0",
};

#define ARN "arn:aws:ecs:us-east-1:123456789012:container-instance/prod/0123456789abcdef0123456789abcdef"
#define INSTANCE(more)                                                                                      \
        "{\"containerInstances\":[{\"containerInstanceArn\":\"" ARN "\"," more "}],\"failures\":[]}"
#define MARKED                                                                                              \
        "\"attributes\":[{\"name\":\"ecs.os-type\",\"value\":\"linux\"},{\"name\":\"ecs-health-agent."      \
        "incident\","                                                                                       \
        "\"value\":\"removing 2026-06-30T10:11:12Z\"}]"
#define MISSING "{\"containerInstances\":[],\"failures\":[{\"arn\":\"" ARN "\",\"reason\":\"MISSING\"}]}"

/* 2026-06-30T10:11:12Z */
#define TIME ((Wall){ SPAN_SEC(1782814272) })

static const EcsDrain full = { .drain = true, .now = TIME }, mark_only = { .now = TIME };

/* A claim of patrol, and who has made it. */
#define FINDER     UINT64_C(0x00c0ffee00c0ffee)
#define CLAIM(at)  "{\"name\":\"ecs-health-agent.patrol\",\"value\":\"removing " at " 00c0ffee00c0ffee\"}"
#define MARK(at)   "{\"name\":\"ecs-health-agent.incident\",\"value\":\"removing " at "\"}"
#define WITH(list) "\"attributes\":[" list "]"

static const Target unregistered = { .cluster = "prod", .instance_id = "i-0123456789abcdef0" };

static bool ended;
static char arn_is[256];
static EcsSteps steps_are;
static Outcome outcome_is;
static Confirmation confirmation_is;
static EcsCall *running;

static void on_done(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        EXPECT(answer);
        EXPECT(userdata == &ended);
        EXPECT(!ended);
        ended = true;
        outcome_is = outcome;
        (void) snprintf(arn_is, sizeof(arn_is), "%s", ecs_call_arn(running));
        steps_are = ecs_call_steps(running);
        running = ecs_call_free(running); /* a callback may free its own call */
}

static void on_confirmed(const Confirmation *confirmation, const AwsAnswer *answer, void *userdata) {
        confirmation_is = *confirmation;
        on_done(confirmation->outcome, answer, userdata);
}

static void begin(const FakeAnswer *script) {
        ended = false;
        outcome_is = OUTCOME_BLIND;
        confirmation_is = (Confirmation){};
        fake_begin(script);
}

static void finish(int r) {
        EXPECT_EQ(r, 0);
        EXPECT(!ended); /* never from within the function */
        fake_run(&ended);
        EXPECT(ended);
        fake_end();
}

/* -- outcomes ------------------------------------------------------------------------------------------- */

static void test_outcome_of_reads_and_changes(void) {
        static const struct {
                AwsOutcome aws;
                bool sent;
                Outcome read, change;
        } cases[] = {
                { AWS_OK, true, OUTCOME_OK, OUTCOME_OK },
                { AWS_THROTTLED, true, OUTCOME_THROTTLED, OUTCOME_THROTTLED },
                { AWS_UNAVAILABLE, true, OUTCOME_UNAVAILABLE, OUTCOME_LOST },
                { AWS_UNAVAILABLE, false, OUTCOME_UNAVAILABLE, OUTCOME_UNAVAILABLE },
                { AWS_CONTENTION, true, OUTCOME_CONTENTION, OUTCOME_CONTENTION },
                { AWS_DENIED, true, OUTCOME_DENIED, OUTCOME_DENIED },
                { AWS_BAD_KEYS, true, OUTCOME_KEYS, OUTCOME_KEYS },
                { AWS_NO_KEYS, false, OUTCOME_KEYS, OUTCOME_KEYS },
                { AWS_REFUSED, true, OUTCOME_REFUSED, OUTCOME_REFUSED },
                { AWS_GARBLED, true, OUTCOME_BLIND, OUTCOME_LOST },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                AwsAnswer answer = { .outcome = cases[i].aws, .sent = cases[i].sent };

                EXPECT_EQ(ecs_outcome(&answer, false), cases[i].read);
                EXPECT_EQ(ecs_outcome(&answer, true), cases[i].change);
        }
}

/* -- confirming ----------------------------------------------------------------------------------------- */

static void confirm(const FakeAnswer *script) {
        begin(script);
        fake_server_time = TIME;
        finish(ecs_confirm(NULL, &target, on_confirmed, &ended, &running));
}

static void test_confirm_reads_what_ecs_says(void) {
        static const struct {
                const char *text;
                Confirmation is;
        } cases[] = {
                { INSTANCE("\"agentConnected\":true,\"status\":\"ACTIVE\""),
                        { .connected = true, .status = CONTROL_ACTIVE } },
                { INSTANCE("\"agentConnected\":false,\"status\":\"DRAINING\"," MARKED),
                        { .status = CONTROL_DRAINING, .marked = true } },
                { INSTANCE("\"agentConnected\":false,\"status\":\"ACTIVE\",\"agentUpdateStatus\":"
                           "\"STAGING\""),
                        { .status = CONTROL_ACTIVE, .updating = true } },
                { INSTANCE("\"agentConnected\":false,\"status\":\"ACTIVE\",\"agentUpdateStatus\":"
                           "\"UPDATED\""),
                        { .status = CONTROL_ACTIVE } },
                { INSTANCE("\"agentConnected\":false,\"status\":\"INACTIVE\""),
                        { .status = CONTROL_INACTIVE } },
                { INSTANCE("\"agentConnected\":false,\"status\":\"REGISTRATION_FAILED\""),
                        { .status = CONTROL_INACTIVE } },
                { INSTANCE("\"agentConnected\":false,\"status\":\"FROZEN\""),
                        { .status = CONTROL_UNKNOWN } },
                { INSTANCE("\"agentConnected\":false,\"status\":\"ACTIVE\",\"attributes\":[{\"name\":"
                           "\"ecs-health-agent.incident\",\"value\":\"none\"}]"),
                        { .status = CONTROL_ACTIVE } },
                { MISSING, { .status = CONTROL_MISSING } },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                confirm((const FakeAnswer[]){ { "DescribeContainerInstances", cases[i].text }, {} });
                EXPECT_EQ(confirmation_is.outcome, OUTCOME_OK);
                EXPECT_EQ(confirmation_is.connected, cases[i].is.connected);
                EXPECT_EQ(confirmation_is.status, cases[i].is.status);
                EXPECT_EQ(confirmation_is.marked, cases[i].is.marked);
                EXPECT_EQ(confirmation_is.updating, cases[i].is.updating);
                EXPECT_EQ(confirmation_is.server_time.usec, TIME.usec);
        }
        EXPECT_STR(fake_body("DescribeContainerInstances", 0),
                "{\"cluster\":\"prod\",\"containerInstances\":[\"" ARN "\"]}");
}

static void test_confirm_is_blind_when_it_cannot_make_sense_of_the_answer(void) {
        static const char *const texts[] = {
                "{}",
                "[]",
                "{\"containerInstances\":[]}",
                "{\"containerInstances\":{}}",
                "{\"containerInstances\":[7],\"failures\":[]}",
                "{\"containerInstances\":[],\"failures\":[{\"arn\":\"x\",\"reason\":\"WHATEVER\"}]}",
                "{\"containerInstances\":[],\"failures\":[\"MISSING\"]}",
                INSTANCE("\"status\":\"ACTIVE\""),
                INSTANCE("\"agentConnected\":\"false\",\"status\":\"ACTIVE\""),
                INSTANCE("\"agentConnected\":null,\"status\":\"ACTIVE\""),
                INSTANCE("\"agentConnected\":false,\"status\":3"),
                INSTANCE("\"agentConnected\":false,\"status\":\"ACTIVE\",\"agentUpdateStatus\":[]"),
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                confirm((const FakeAnswer[]){ { "DescribeContainerInstances", texts[i] }, {} });
                EXPECT_EQ(confirmation_is.outcome, OUTCOME_BLIND);
        }
}

static void test_confirm_tells_why_it_was_not_answered(void) {
        confirm((const FakeAnswer[]){ { "DescribeContainerInstances", .outcome = AWS_THROTTLED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_THROTTLED);
        confirm((const FakeAnswer[]){ { "DescribeContainerInstances", .outcome = AWS_UNAVAILABLE }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
        confirm((const FakeAnswer[]){ { "DescribeContainerInstances", .outcome = AWS_REFUSED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_REFUSED);
        confirm((const FakeAnswer[]){ { "DescribeContainerInstances", .outcome = AWS_GARBLED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_BLIND);
}

static void test_confirm_says_nothing_after_it_was_freed(void) {
        begin((const FakeAnswer[]){ { "DescribeContainerInstances", MISSING }, {} });
        EXPECT_EQ(ecs_confirm(NULL, &target, on_confirmed, &ended, &running), 0);
        running = ecs_call_free(running);
        fake_run(&ended);
        EXPECT(!ended);
        fake_end();
        EXPECT(!ecs_call_free(NULL));
}

static void test_confirm_hands_back_what_sending_said(void) {
        begin(NULL);
        fake_refuse = -ENOMEM;
        EXPECT_EQ(ecs_confirm(NULL, &target, on_confirmed, &ended, &running), -ENOMEM);
        EXPECT(!running);
        fake_end();
}

/* -- confirming what never registered -------------------------------------------------------------------- */

#define FOUND(arns) "{\"containerInstanceArns\":[" arns "]}"

static void confirm_unregistered(const FakeAnswer *script) {
        begin(script);
        fake_server_time = TIME;
        finish(ecs_confirm(NULL, &unregistered, on_confirmed, &ended, &running));
}

static void test_confirm_without_an_arn_asks_by_the_instance(void) {
        confirm_unregistered((const FakeAnswer[]){ { "ListContainerInstances", FOUND("") }, {} });
        EXPECT_EQ(confirmation_is.outcome, OUTCOME_OK);
        EXPECT(!confirmation_is.connected);
        EXPECT_EQ(confirmation_is.status, CONTROL_MISSING);
        EXPECT_EQ(confirmation_is.server_time.usec, TIME.usec);
        EXPECT_STR(arn_is, "");
        EXPECT_EQ(fake_n_asked, 1);
        EXPECT_STR(fake_body("ListContainerInstances", 0),
                "{\"cluster\":\"prod\",\"filter\":\"ec2InstanceId=='i-0123456789abcdef0'\"}");
        EXPECT_EQ(steps_are.n, 1);
        EXPECT_STR(steps_are.at[0].action, "ListContainerInstances");
}

static void test_confirm_describes_what_it_finds_and_hands_it_back(void) {
        confirm_unregistered((const FakeAnswer[]){ { "ListContainerInstances", FOUND("\"" ARN "\"") },
                { "DescribeContainerInstances", INSTANCE("\"agentConnected\":true,\"status\":\"ACTIVE\"") },
                {} });
        EXPECT_EQ(confirmation_is.outcome, OUTCOME_OK);
        EXPECT(confirmation_is.connected);
        EXPECT_EQ(confirmation_is.status, CONTROL_ACTIVE);
        EXPECT_STR(arn_is, ARN);
        EXPECT_STR(fake_body("DescribeContainerInstances", 0),
                "{\"cluster\":\"prod\",\"containerInstances\":[\"" ARN "\"]}");
        EXPECT_EQ(steps_are.n, 2);
        EXPECT_STR(steps_are.at[1].action, "DescribeContainerInstances");
        EXPECT_EQ(steps_are.at[1].outcome, AWS_OK);
}

static void test_confirm_that_finds_no_single_instance_is_blind(void) {
        static const char *const texts[] = {
                "{}",
                "[]",
                FOUND("7"),
                FOUND("\"\""),
                FOUND("\"" ARN "\",\"" ARN "\""), /* registered twice: which of them is us? */
                "{\"containerInstanceArns\":[],\"nextToken\":\"more\"}",
                "{\"containerInstanceArns\":{}}",
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                confirm_unregistered((const FakeAnswer[]){ { "ListContainerInstances", texts[i] }, {} });
                EXPECT_EQ(confirmation_is.outcome, OUTCOME_BLIND);
                EXPECT_STR(arn_is, "");
        }
}

static void test_an_arn_that_is_too_long_is_not_found(void) {
        static char text[512];

        (void) snprintf(text, sizeof(text), FOUND("\"%0256d\""), 0);
        confirm_unregistered((const FakeAnswer[]){ { "ListContainerInstances", text }, {} });
        EXPECT_EQ(confirmation_is.outcome, OUTCOME_BLIND);
}

static void test_confirm_without_an_arn_tells_why_it_was_not_answered(void) {
        confirm_unregistered(
                (const FakeAnswer[]){ { "ListContainerInstances", .outcome = AWS_DENIED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_DENIED);
        EXPECT_EQ(steps_are.at[0].outcome, AWS_DENIED);
        confirm_unregistered(
                (const FakeAnswer[]){ { "ListContainerInstances", .outcome = AWS_GARBLED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_BLIND);
        confirm_unregistered((const FakeAnswer[]){ { "ListContainerInstances", FOUND("\"" ARN "\"") },
                { "DescribeContainerInstances", .outcome = AWS_THROTTLED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_THROTTLED);
        EXPECT(!confirmation_is.connected);

        begin((const FakeAnswer[]){ { "ListContainerInstances", FOUND("\"" ARN "\"") }, {} });
        fake_refuse = -ENOMEM;
        fake_refuse_after = 1;
        finish(ecs_confirm(NULL, &unregistered, on_confirmed, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
}

static void test_confirm_asks_nothing_without_a_cluster_or_with_a_strange_id(void) {
        static const char *const ids[] = { "", "i-", "i-0'", "i-0 or agentConnected==true", "mi-0",
                "I-0123" };
        Target strange = unregistered;

        begin(NULL);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                (void) snprintf(strange.instance_id, sizeof(strange.instance_id), "%s", ids[i]);
                EXPECT_EQ(ecs_confirm(NULL, &strange, on_confirmed, &ended, &running), -EINVAL);
        }
        strange = unregistered;
        strange.cluster[0] = '\0';
        EXPECT_EQ(ecs_confirm(NULL, &strange, on_confirmed, &ended, &running), -EINVAL);
        EXPECT(!running);
        EXPECT_EQ(fake_n_asked, 0);
        fake_end();
}

/* -- what an instance says of itself -------------------------------------------------------------------- */

static int read_said(const char *attributes, Confirmation *ret) {
        cJSON *json = NULL;
        char text[1024];
        int r;

        (void) snprintf(text, sizeof(text), "{\"agentConnected\":false,\"attributes\":[%s]}", attributes);
        EXPECT_EQ(json_parse(text, strlen(text), NULL, &json), 0);
        r = ecs_read_confirmation(json, ret);
        cJSON_Delete(json);
        return r;
}

static void test_mark_is_read_with_its_time(void) {
        static const struct {
                const char *value;
                bool marked;
                Wall since;
        } cases[] = {
                { "removing 2026-06-30T10:11:12Z", true, TIME },
                { "removing,2026-06-30T10:11:12Z", true, TIME },
                { "removing", true, WALL_NEVER },
                { "removing some day", true, WALL_NEVER },
                { "2026-06-30T10:11:12Z", false, WALL_NEVER },
                { "none", false, WALL_NEVER },
                { "", false, WALL_NEVER },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Confirmation is;
                char text[256];

                (void) snprintf(text, sizeof(text),
                        "{\"name\":\"ecs-health-agent.incident\",\"value\":\"%s\"}", cases[i].value);
                EXPECT_EQ(read_said(text, &is), 0);
                EXPECT_EQ(is.marked, cases[i].marked);
                EXPECT_EQ(is.marked_at.usec, cases[i].since.usec);
                EXPECT(!is.patrolled && is.patrolled_by == 0);
        }
}

static void test_claim_is_read_with_its_finder(void) {
        static const struct {
                const char *value;
                bool patrolled;
                Wall since;
                uint64_t by;
        } cases[] = {
                { "removing 2026-06-30T10:11:12Z 00c0ffee00c0ffee", true, TIME, FINDER },
                { "removing 2026-06-30T10:11:12Z ffffffffffffffff", true, TIME, UINT64_MAX },
                { "removing 2026-06-30T10:11:12Z", true, TIME, 0 },
                { "removing 2026-06-30T10:11:12Z 00C0FFEE00C0FFEE", true, TIME, 0 },
                { "removing 2026-06-30T10:11:12Z c0ffee", true, TIME, 0 },
                { "removing 2026-06-30T10:11:12Z 00c0ffee00c0ffee0", true, TIME, 0 },
                { "removing 2026-06-30T10:11:12Z 0x00c0ffee00c0ff", true, TIME, 0 },
                { "removing tomorrow 00c0ffee00c0ffee", true, WALL_NEVER, FINDER },
                { "removing", true, WALL_NEVER, 0 },
                { "none", false, WALL_NEVER, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Confirmation is;
                char text[256];

                (void) snprintf(text, sizeof(text),
                        "{\"name\":\"ecs-health-agent.patrol\",\"value\":\"%s\"}", cases[i].value);
                EXPECT_EQ(read_said(text, &is), 0);
                EXPECT_EQ(is.patrolled, cases[i].patrolled);
                EXPECT_EQ(is.patrolled_at.usec, cases[i].since.usec);
                EXPECT(is.patrolled_by == cases[i].by);
                EXPECT(!is.marked);
        }
}

static void test_only_a_known_action_is_to_be_acted_by(void) {
        static const struct {
                const char *attributes;
                Action action;
                bool held;
        } cases[] = {
                { "", ACTION_OBSERVE, false },
                { "{\"name\":\"ecs-health-agent\",\"value\":\"detach\"}", ACTION_DETACH, false },
                { "{\"name\":\"ecs-health-agent\",\"value\":\"unhealthy\"}", ACTION_UNHEALTHY, false },
                { "{\"name\":\"ecs-health-agent\",\"value\":\"standby\"}", ACTION_STANDBY, false },
                { "{\"name\":\"ecs-health-agent\",\"value\":\"observe\"}", ACTION_OBSERVE, false },
                { "{\"name\":\"ecs-health-agent\",\"value\":\"Detach\"}", ACTION_OBSERVE, false },
                { "{\"name\":\"ecs-health-agent\",\"value\":\"none\"}", ACTION_OBSERVE, false },
                { "{\"name\":\"ecs-health-agent\"}", ACTION_OBSERVE, false },
                { "{\"name\":\"ecs-health-agent\",\"value\":7}", ACTION_OBSERVE, false },
                { "{\"name\":\"ecs-health-agent\",\"value\":\"detach\"},"
                  "{\"name\":\"ecs-health-agent.hold\",\"value\":\"paused\"}",
                        ACTION_DETACH, true },
                { "{\"name\":\"ecs-health-agent.hold\",\"value\":\"whatever\"}", ACTION_OBSERVE, true },
                { "{\"name\":\"ecs-health-agent.hold\",\"value\":\"none\"}", ACTION_OBSERVE, false },
                { "{\"name\":\"ecs-health-agent.hold\"}", ACTION_OBSERVE, false },
                { "7,null,{}", ACTION_OBSERVE, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Confirmation is;

                EXPECT_EQ(read_said(cases[i].attributes, &is), 0);
                EXPECT_EQ(is.action, cases[i].action);
                EXPECT_EQ(is.held, cases[i].held);
        }
}

/* -- own attributes ------------------------------------------------------------------------------------- */

static void test_describe_sets_action_and_hold_in_one_call(void) {
        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, {} });
        finish(ecs_describe(
                NULL, &target, &(EcsWords){ "detach", "paused", "" }, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_STR(fake_body("PutAttributes", 0),
                "{\"cluster\":\"prod\",\"attributes\":["
                "{\"name\":\"ecs-health-agent\",\"value\":\"detach\",\"targetType\":\"container-instance\","
                "\"targetId\":\"" ARN "\"},"
                "{\"name\":\"ecs-health-agent.hold\",\"value\":\"paused\",\"targetType\":\"container-"
                "instance\","
                "\"targetId\":\"" ARN "\"}]}");
}

static void test_describe_names_the_group_by_its_number(void) {
        char number[32];

        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, {} });
        finish(ecs_describe(
                NULL, &target, &(EcsWords){ "detach", "paused", "web, *" }, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        (void) snprintf(number, sizeof(number), "\"%016" PRIx64 "\"", turn_id("web, *"));
        EXPECT(strstr(fake_body("PutAttributes", 0), "\"name\":\"ecs-health-agent.group\",\"value\":"));
        EXPECT(strstr(fake_body("PutAttributes", 0), number));
        EXPECT(strstr(fake_body("PutAttributes", 0), "\"name\":\"ecs-health-agent.hold\""));

        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, {} });
        finish(ecs_describe(
                NULL, &target, &(EcsWords){ "detach", "paused", "" }, on_done, &ended, &running));
        EXPECT(!strstr(fake_body("PutAttributes", 0), "group"));
}

static void test_describe_takes_a_hold_away(void) {
        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, { "DeleteAttributes", "{}" }, {} });
        finish(ecs_describe(NULL, &target, &(EcsWords){ "detach", "", "" }, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT(!strstr(fake_body("PutAttributes", 0), "hold"));
        EXPECT_STR(fake_body("DeleteAttributes", 0),
                "{\"cluster\":\"prod\",\"attributes\":[{\"name\":\"ecs-health-agent.hold\","
                "\"targetType\":\"container-instance\",\"targetId\":\"" ARN "\"}]}");
}

static void test_describe_empties_a_hold_that_it_may_not_delete(void) {
        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, { "DeleteAttributes", .outcome = AWS_DENIED },
                { "PutAttributes", "{}" }, {} });
        finish(ecs_describe(NULL, &target, &(EcsWords){ "detach", "", "" }, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_STR(fake_body("PutAttributes", 1),
                "{\"cluster\":\"prod\",\"attributes\":[{\"name\":\"ecs-health-agent.hold\",\"value\":"
                "\"none\","
                "\"targetType\":\"container-instance\",\"targetId\":\"" ARN "\"}]}");
        EXPECT_EQ(steps_are.n, 3);
        EXPECT_STR(steps_are.at[1].action, "DeleteAttributes");
        EXPECT_EQ(steps_are.at[1].outcome, AWS_DENIED);
        EXPECT_EQ(steps_are.at[2].outcome, AWS_OK);
}

static void test_describe_stops_at_what_is_refused(void) {
        begin((const FakeAnswer[]){ { "PutAttributes", .outcome = AWS_DENIED }, {} });
        finish(ecs_describe(NULL, &target, &(EcsWords){ "detach", "", "" }, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_DENIED);

        begin((const FakeAnswer[]){
                { "PutAttributes", "{}" }, { "DeleteAttributes", .outcome = AWS_THROTTLED }, {} });
        finish(ecs_describe(NULL, &target, &(EcsWords){ "detach", "", "" }, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_THROTTLED);
}

/* -- draining ------------------------------------------------------------------------------------------- */

static void test_drain_marks_and_then_drains_once(void) {
        begin((const FakeAnswer[]){ { "PutAttributes", "{}" },
                { "UpdateContainerInstancesState", INSTANCE("\"status\":\"DRAINING\"") }, {} });
        finish(ecs_drain(NULL, &target, &full, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_STR(fake_asked[0].action, "PutAttributes");
        EXPECT(strstr(fake_asked[0].body, "\"value\":\"removing 2026-06-30T10:11:12Z\""));
        EXPECT_EQ(fake_count("UpdateContainerInstancesState"), 1);
        EXPECT_STR(fake_body("UpdateContainerInstancesState", 0),
                "{\"cluster\":\"prod\",\"containerInstances\":[\"" ARN "\"],\"status\":\"DRAINING\"}");
}

static void test_drain_of_a_peer_leaves_our_claim_and_not_its_mark(void) {
        const EcsDrain how = { .drain = true, .now = TIME, .by = FINDER };

        begin((const FakeAnswer[]){ { "PutAttributes", "{}" },
                { "UpdateContainerInstancesState", INSTANCE("\"status\":\"DRAINING\"") }, {} });
        finish(ecs_drain(NULL, &target, &how, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT(strstr(fake_asked[0].body, "\"name\":\"ecs-health-agent.patrol\",\"value\":"
                                          "\"removing 2026-06-30T10:11:12Z 00c0ffee00c0ffee\""));
        EXPECT(!strstr(fake_asked[0].body, "incident"));
        EXPECT(strstr(fake_asked[1].body, "\"status\":\"DRAINING\""));
}

static void test_a_peer_without_an_arn_is_not_touched(void) {
        const EcsDrain how = { .drain = true, .now = TIME, .by = FINDER };

        begin(NULL);
        EXPECT_EQ(ecs_drain(NULL, &unregistered, &how, on_done, &ended, &running), -EINVAL);
        EXPECT_EQ(ecs_undrain(NULL, &unregistered, FINDER, on_done, &ended, &running), -EINVAL);
        EXPECT(!running);
        EXPECT_EQ(fake_n_asked, 0);
        fake_end();
}

static void test_mark_holds_only_what_ecs_takes(void) {
        static const char taken[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.@/\\: ";
        const char *value = NULL, *end = NULL;

        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, {} });
        finish(ecs_drain(NULL, &target, &mark_only, on_done, &ended, &running));
        value = strstr(fake_asked[0].body, "\"value\":\"");
        EXPECT(value);
        value = value ? value + strlen("\"value\":\"") : "";
        end = strchr(value, '"');
        EXPECT(end && end > value && strspn(value, taken) == (size_t) (end - value));
}

static void test_drain_only_marks_when_told_so(void) {
        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, {} });
        finish(ecs_drain(NULL, &target, &mark_only, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_OK);
}

static void test_drain_does_not_drain_what_it_could_not_mark(void) {
        static const struct {
                AwsOutcome aws;
                Outcome is;
        } cases[] = {
                { AWS_DENIED, OUTCOME_DENIED },
                { AWS_UNAVAILABLE, OUTCOME_UNAVAILABLE }, /* the mark may stand, the drain does not */
                { AWS_REFUSED, OUTCOME_REFUSED },
                { AWS_THROTTLED, OUTCOME_THROTTLED },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                begin((const FakeAnswer[]){ { "PutAttributes", .outcome = cases[i].aws }, {} });
                finish(ecs_drain(NULL, &target, &full, on_done, &ended, &running));
                EXPECT_EQ(outcome_is, cases[i].is);
        }
}

static void test_drain_whose_answer_is_lost_may_have_happened(void) {
        begin((const FakeAnswer[]){ { "PutAttributes", "{}" },
                { "UpdateContainerInstancesState", .outcome = AWS_UNAVAILABLE }, {} });
        finish(ecs_drain(NULL, &target, &full, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_LOST);

        begin((const FakeAnswer[]){ { "PutAttributes", "{}" },
                { "UpdateContainerInstancesState", .outcome = AWS_UNAVAILABLE, .unsent = true }, {} });
        finish(ecs_drain(NULL, &target, &full, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
}

static void test_drain_that_ecs_lists_as_a_failure_is_refused(void) {
        begin((const FakeAnswer[]){
                { "PutAttributes", "{}" }, { "UpdateContainerInstancesState", MISSING }, {} });
        finish(ecs_drain(NULL, &target, &full, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_REFUSED);
}

static void test_drain_that_cannot_be_sent_has_not_happened(void) {
        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, {} });
        fake_refuse = -ENOMEM;
        fake_refuse_after = 1;
        finish(ecs_drain(NULL, &target, &full, on_done, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
}

static void test_what_never_registered_has_nothing_to_drain(void) {
        for (int i = 0; i < 4; i++) {
                begin(NULL);
                finish(i < 2 ? ecs_drain(NULL, &unregistered, i == 0 ? &full : &mark_only, on_done, &ended,
                                       &running)
                             : ecs_undrain(NULL, &unregistered, 0, on_done, &ended, &running));
                EXPECT_EQ(outcome_is, OUTCOME_OK);
                EXPECT_EQ(fake_n_asked, 0);
                EXPECT_EQ(steps_are.n, 0);
        }
}

static void test_what_has_nothing_to_drain_says_nothing_after_it_was_freed(void) {
        begin(NULL);
        EXPECT_EQ(ecs_undrain(NULL, &unregistered, 0, on_done, &ended, &running), 0);
        running = ecs_call_free(running);
        fake_run(&ended);
        EXPECT(!ended);
        fake_end();
}

/* -- undoing it ----------------------------------------------------------------------------------------- */

static void undrain(const FakeAnswer *script) {
        begin(script);
        finish(ecs_undrain(NULL, &target, 0, on_done, &ended, &running));
}

static void test_undrain_undoes_our_own_drain_and_then_the_mark(void) {
        undrain((const FakeAnswer[]){
                { "DescribeContainerInstances",
                        INSTANCE("\"agentConnected\":true,\"status\":\"DRAINING\"," MARKED) },
                { "UpdateContainerInstancesState", INSTANCE("\"status\":\"ACTIVE\"") },
                { "DeleteAttributes", "{}" }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_STR(fake_asked[1].action, "UpdateContainerInstancesState");
        EXPECT(strstr(fake_asked[1].body, "\"status\":\"ACTIVE\""));
        EXPECT_STR(fake_asked[2].action, "DeleteAttributes");
        EXPECT(strstr(fake_asked[2].body, "\"name\":\"ecs-health-agent.incident\""));
        EXPECT(!strstr(fake_asked[2].body, "value"));
}

static void test_undrain_leaves_a_foreign_drain_alone(void) {
        undrain((const FakeAnswer[]){ { "DescribeContainerInstances",
                                              INSTANCE("\"agentConnected\":true,\"status\":\"DRAINING\"") },
                {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_EQ(fake_n_asked, 1);
}

static void test_undrain_takes_a_mark_without_a_drain_away(void) {
        undrain((const FakeAnswer[]){
                { "DescribeContainerInstances",
                        INSTANCE("\"agentConnected\":false,\"status\":\"ACTIVE\"," MARKED) },
                { "DeleteAttributes", "{}" }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
}

static void test_undrain_has_nothing_to_do_where_nothing_is_left(void) {
        static const char *const texts[] = {
                MISSING,
                INSTANCE("\"agentConnected\":false,\"status\":\"INACTIVE\"," MARKED),
                INSTANCE("\"agentConnected\":false,\"status\":\"DEREGISTERING\"," MARKED),
                INSTANCE("\"agentConnected\":true,\"status\":\"ACTIVE\""),
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                undrain((const FakeAnswer[]){ { "DescribeContainerInstances", texts[i] }, {} });
                EXPECT_EQ(outcome_is, OUTCOME_OK);
                EXPECT_EQ(fake_n_asked, 1);
        }
}

static void test_undrain_changes_nothing_that_it_cannot_read(void) {
        undrain((const FakeAnswer[]){ { "DescribeContainerInstances", .outcome = AWS_UNAVAILABLE }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
        undrain((const FakeAnswer[]){ { "DescribeContainerInstances", "{}" }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_BLIND);
        undrain((const FakeAnswer[]){
                { "DescribeContainerInstances",
                        INSTANCE("\"agentConnected\":false,\"status\":\"FROZEN\"," MARKED) },
                {} });
        EXPECT_EQ(outcome_is, OUTCOME_BLIND);
        EXPECT_EQ(fake_n_asked, 1);
}

static void test_undrain_keeps_the_mark_while_the_drain_stands(void) {
        static const FakeAnswer refused = { "UpdateContainerInstancesState", MISSING };
        static const FakeAnswer lost = { "UpdateContainerInstancesState", .outcome = AWS_UNAVAILABLE };
        static const FakeAnswer drained = { "DescribeContainerInstances",
                INSTANCE("\"agentConnected\":false,\"status\":\"DRAINING\"," MARKED) };

        undrain((const FakeAnswer[]){ drained, refused, {} });
        EXPECT_EQ(outcome_is, OUTCOME_REFUSED);
        undrain((const FakeAnswer[]){ drained, lost, {} });
        EXPECT_EQ(outcome_is, OUTCOME_LOST);
        EXPECT_EQ(fake_count("DeleteAttributes"), 0);
}

static void test_undrain_is_not_done_before_the_mark_is_gone(void) {
        undrain((const FakeAnswer[]){
                { "DescribeContainerInstances",
                        INSTANCE("\"agentConnected\":false,\"status\":\"ACTIVE\"," MARKED) },
                { "DeleteAttributes", .outcome = AWS_THROTTLED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_THROTTLED);
}

static void test_undrain_empties_a_mark_that_it_may_not_delete(void) {
        Confirmation is;

        undrain((const FakeAnswer[]){
                { "DescribeContainerInstances",
                        INSTANCE("\"agentConnected\":true,\"status\":\"DRAINING\"," MARKED) },
                { "UpdateContainerInstancesState", INSTANCE("\"status\":\"ACTIVE\"") },
                { "DeleteAttributes", .outcome = AWS_DENIED }, { "PutAttributes", "{}" }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_EQ(steps_are.n, 4);
        EXPECT_EQ(steps_are.at[2].outcome, AWS_DENIED);
        /* What it writes is no mark any more. */
        EXPECT(strstr(
                fake_body("PutAttributes", 0), "\"name\":\"ecs-health-agent.incident\",\"value\":\"none\""));
        EXPECT_EQ(read_said("{\"name\":\"ecs-health-agent.incident\",\"value\":\"none\"}", &is), 0);
        EXPECT(!is.marked);
}

static void test_undrain_is_done_when_nobody_may_touch_the_mark(void) {
        static const FakeAnswer active = { "DescribeContainerInstances",
                INSTANCE("\"agentConnected\":false,\"status\":\"ACTIVE\"," MARKED) };
        static const FakeAnswer denied = { "DeleteAttributes", .outcome = AWS_DENIED };

        undrain((const FakeAnswer[]){ active, denied, { "PutAttributes", .outcome = AWS_DENIED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_EQ(steps_are.at[2].outcome, AWS_DENIED);
        undrain((const FakeAnswer[]){ active, denied, { "PutAttributes", .outcome = AWS_THROTTLED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_THROTTLED);
        undrain((const FakeAnswer[]){ active, denied, { "PutAttributes", .outcome = AWS_UNAVAILABLE }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_LOST);
}

static void test_undrain_is_not_done_while_the_drain_may_not_be_undone(void) {
        undrain((const FakeAnswer[]){
                { "DescribeContainerInstances",
                        INSTANCE("\"agentConnected\":true,\"status\":\"DRAINING\"," MARKED) },
                { "UpdateContainerInstancesState", .outcome = AWS_DENIED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_DENIED);
}

/* -- claims of patrol ----------------------------------------------------------------------------------- */

/** Undo, at TIME by the services' clock, what stands on an instance: @by as in ecs_undrain(). */
static void undrain_at_time(const FakeAnswer *script, uint64_t by) {
        begin(script);
        fake_server_time = TIME;
        finish(ecs_undrain(NULL, &target, by, on_done, &ended, &running));
}

static const FakeAnswer undrained = { "UpdateContainerInstancesState", INSTANCE("\"status\":\"ACTIVE\"") };
static const FakeAnswer deleted = { "DeleteAttributes", "{}" };

#define STANDS(status, list)                                                                                \
        {                                                                                                   \
                "DescribeContainerInstances",                                                               \
                        INSTANCE("\"agentConnected\":true,\"status\":\"" status "\"," WITH(list))           \
        }

static void test_an_old_claim_on_us_is_undone_like_our_own(void) {
        undrain_at_time((const FakeAnswer[]){ STANDS("DRAINING", CLAIM("2026-06-30T10:01:12Z")), undrained,
                                deleted, {} },
                0);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT(strstr(fake_body("DeleteAttributes", 0), "ecs-health-agent.patrol"));
        EXPECT(!strstr(fake_body("DeleteAttributes", 0), "ecs-health-agent.incident"));

        /* What names no time, or one that has not come, was not made by a patrol that is at work. */
        undrain_at_time((const FakeAnswer[]){ STANDS("ACTIVE", CLAIM("then")), deleted, {} }, 0);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        undrain_at_time(
                (const FakeAnswer[]){ STANDS("ACTIVE", CLAIM("2026-06-30T10:22:12Z")), deleted, {} }, 0);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
}

static void test_a_young_claim_on_us_is_left_to_its_finder(void) {
        static const char *const marks[] = { CLAIM("2026-06-30T10:01:13Z"), CLAIM("2026-06-30T10:11:42Z"),
                MARK("2026-06-30T10:00:00Z") "," CLAIM("2026-06-30T10:10:12Z") };
        char text[1024];

        for (size_t i = 0; i < ELEMENTSOF(marks); i++) {
                (void) snprintf(text, sizeof(text),
                        "{\"containerInstances\":[{\"agentConnected\":true,\"status\":\"DRAINING\","
                        "\"attributes\":[%s]}]}",
                        marks[i]);
                undrain_at_time((const FakeAnswer[]){ { "DescribeContainerInstances", text }, {} }, 0);
                EXPECT_EQ(outcome_is, OUTCOME_CONTENTION);
                EXPECT_EQ(fake_n_asked, 1);
        }
        /* Without a clock every claim may be young. */
        undrain((const FakeAnswer[]){ STANDS("DRAINING", CLAIM("2026-06-30T09:00:00Z")), {} });
        EXPECT_EQ(outcome_is, OUTCOME_CONTENTION);
}

static void test_both_marks_on_us_go_in_one_call(void) {
        static const FakeAnswer both =
                STANDS("DRAINING", MARK("2026-06-30T10:10:00Z") "," CLAIM("2026-06-30T09:00:00Z"));
        static const FakeAnswer denied = { "DeleteAttributes", .outcome = AWS_DENIED };

        undrain_at_time((const FakeAnswer[]){ both, undrained, deleted, {} }, 0);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT(strstr(fake_body("DeleteAttributes", 0), "ecs-health-agent.incident"));
        EXPECT(strstr(fake_body("DeleteAttributes", 0), "ecs-health-agent.patrol"));

        undrain_at_time((const FakeAnswer[]){ both, undrained, denied, { "PutAttributes", "{}" }, {} }, 0);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT(strstr(fake_body("PutAttributes", 0), "\"ecs-health-agent.incident\",\"value\":\"none\""));
        EXPECT(strstr(fake_body("PutAttributes", 0), "\"ecs-health-agent.patrol\",\"value\":\"none\""));
}

static void test_our_claim_on_a_peer_is_undone_however_young(void) {
        undrain_at_time((const FakeAnswer[]){ STANDS("DRAINING", CLAIM("2026-06-30T10:11:00Z")), undrained,
                                deleted, {} },
                FINDER);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT(strstr(fake_body("DeleteAttributes", 0), "ecs-health-agent.patrol"));
}

static void test_the_drain_of_a_peer_that_removes_itself_is_its_own(void) {
        undrain_at_time((const FakeAnswer[]){ STANDS("DRAINING", MARK("2026-06-30T10:11:00Z") "," CLAIM(
                                                                         "2026-06-30T10:11:00Z")),
                                deleted, {} },
                FINDER);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT(strstr(fake_body("DeleteAttributes", 0), "ecs-health-agent.patrol"));
        EXPECT(!strstr(fake_body("DeleteAttributes", 0), "ecs-health-agent.incident"));
}

static void test_nothing_of_a_peer_is_undone_that_is_not_ours(void) {
        static const FakeAnswer stand[] = {
                STANDS("DRAINING", CLAIM("2026-06-30T10:11:00Z")),
                STANDS("DRAINING", CLAIM("2026-06-30T08:00:00Z")), /* old, but another's */
                STANDS("DRAINING", MARK("2026-06-30T10:11:00Z")),
                STANDS("DRAINING", ""),
        };

        for (size_t i = 0; i < ELEMENTSOF(stand); i++) {
                undrain_at_time((const FakeAnswer[]){ stand[i], {} }, FINDER + 1);
                EXPECT_EQ(outcome_is, OUTCOME_OK);
                EXPECT_EQ(fake_n_asked, 1);
        }
}

static void test_only_what_is_asked_at_a_pace_of_its_own_yields(void) {
        confirm((const FakeAnswer[]){
                { "DescribeContainerInstances", INSTANCE("\"agentConnected\":true") }, {} });
        EXPECT(fake_asked[0].yield);
        undrain((const FakeAnswer[]){ STANDS("ACTIVE", ""), {} });
        EXPECT(!fake_asked[0].yield);
}

/* -- the cluster ---------------------------------------------------------------------------------------- */

static void test_a_cluster_tells_its_size_and_its_switch(void) {
        static const struct {
                const char *text;
                int r;
                uint32_t registered;
                Switch tag;
        } cases[] = {
                { "{\"registeredContainerInstancesCount\":7}", 0, 7, SWITCH_ON },
                { "{\"registeredContainerInstancesCount\":0,\"tags\":[]}", 0, 0, SWITCH_ON },
                { "{\"registeredContainerInstancesCount\":7,\"tags\":[{\"key\":\"team\",\"value\":\"off\"}]"
                  "}",
                        0, 7, SWITCH_ON },
                { "{\"registeredContainerInstancesCount\":7,\"tags\":[{\"key\":\"ecs-health-agent\","
                  "\"value\":\"off\"}]}",
                        0, 7, SWITCH_OFF },
                { "{\"registeredContainerInstancesCount\":7,\"tags\":[{\"key\":\"ecs-health-agent\"}]}", 0,
                        7, SWITCH_NOT_UNDERSTOOD },
                { "{\"registeredContainerInstancesCount\":-1,\"tags\":7}", -EBADMSG, 0, SWITCH_ON },
                { "{\"registeredContainerInstancesCount\":4294967296,\"tags\":{}}", -EBADMSG, 0, SWITCH_ON },
                { "7", -EBADMSG, 0, SWITCH_ON },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                cJSON *json = NULL;
                uint32_t registered = 0;
                Switch tag = SWITCH_ON;

                EXPECT_EQ(json_parse(cases[i].text, strlen(cases[i].text), NULL, &json), 0);
                EXPECT_EQ(ecs_read_registered(json, &registered), cases[i].r);
                EXPECT_EQ(registered, cases[i].registered);
                EXPECT_EQ(ecs_read_cluster_tag(json, &tag), cases[i].r);
                EXPECT_EQ(tag, cases[i].tag);
                cJSON_Delete(json);
        }
}

TEST_MAIN(TEST(test_outcome_of_reads_and_changes), TEST(test_confirm_reads_what_ecs_says),
        TEST(test_confirm_is_blind_when_it_cannot_make_sense_of_the_answer),
        TEST(test_confirm_tells_why_it_was_not_answered), TEST(test_confirm_says_nothing_after_it_was_freed),
        TEST(test_confirm_hands_back_what_sending_said),
        TEST(test_confirm_without_an_arn_asks_by_the_instance),
        TEST(test_confirm_describes_what_it_finds_and_hands_it_back),
        TEST(test_confirm_that_finds_no_single_instance_is_blind),
        TEST(test_an_arn_that_is_too_long_is_not_found),
        TEST(test_confirm_without_an_arn_tells_why_it_was_not_answered),
        TEST(test_confirm_asks_nothing_without_a_cluster_or_with_a_strange_id),
        TEST(test_mark_is_read_with_its_time), TEST(test_claim_is_read_with_its_finder),
        TEST(test_only_a_known_action_is_to_be_acted_by), TEST(test_describe_names_the_group_by_its_number),
        TEST(test_drain_of_a_peer_leaves_our_claim_and_not_its_mark),
        TEST(test_a_peer_without_an_arn_is_not_touched),
        TEST(test_an_old_claim_on_us_is_undone_like_our_own),
        TEST(test_a_young_claim_on_us_is_left_to_its_finder), TEST(test_both_marks_on_us_go_in_one_call),
        TEST(test_our_claim_on_a_peer_is_undone_however_young),
        TEST(test_the_drain_of_a_peer_that_removes_itself_is_its_own),
        TEST(test_nothing_of_a_peer_is_undone_that_is_not_ours),
        TEST(test_only_what_is_asked_at_a_pace_of_its_own_yields),
        TEST(test_a_cluster_tells_its_size_and_its_switch),
        TEST(test_describe_sets_action_and_hold_in_one_call), TEST(test_describe_takes_a_hold_away),
        TEST(test_describe_empties_a_hold_that_it_may_not_delete),
        TEST(test_describe_stops_at_what_is_refused), TEST(test_drain_marks_and_then_drains_once),
        TEST(test_mark_holds_only_what_ecs_takes), TEST(test_drain_only_marks_when_told_so),
        TEST(test_drain_does_not_drain_what_it_could_not_mark),
        TEST(test_drain_whose_answer_is_lost_may_have_happened),
        TEST(test_drain_that_ecs_lists_as_a_failure_is_refused),
        TEST(test_drain_that_cannot_be_sent_has_not_happened),
        TEST(test_what_never_registered_has_nothing_to_drain),
        TEST(test_what_has_nothing_to_drain_says_nothing_after_it_was_freed),
        TEST(test_undrain_undoes_our_own_drain_and_then_the_mark),
        TEST(test_undrain_leaves_a_foreign_drain_alone),
        TEST(test_undrain_takes_a_mark_without_a_drain_away),
        TEST(test_undrain_has_nothing_to_do_where_nothing_is_left),
        TEST(test_undrain_changes_nothing_that_it_cannot_read),
        TEST(test_undrain_keeps_the_mark_while_the_drain_stands),
        TEST(test_undrain_is_not_done_before_the_mark_is_gone),
        TEST(test_undrain_empties_a_mark_that_it_may_not_delete),
        TEST(test_undrain_is_done_when_nobody_may_touch_the_mark),
        TEST(test_undrain_is_not_done_while_the_drain_may_not_be_undone))
