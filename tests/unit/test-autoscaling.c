/* SPDX-License-Identifier: Apache-2.0 */

/* Calls of the Auto Scaling API about ourselves, against a scripted AWS. */

#include "agent/act/autoscaling.h"

#include "tests/unit/fake-aws.h"

static const Target target = { .cluster = "prod", .instance_id = "i-0123456789abcdef0", .group = "web" };

#define NAMESPACE " xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\""
#define INSTANCES(members)                                                                                  \
        "<DescribeAutoScalingInstancesResponse" NAMESPACE "><DescribeAutoScalingInstancesResult>"           \
        "<AutoScalingInstances>" members "</AutoScalingInstances></DescribeAutoScalingInstancesResult>"     \
        "</DescribeAutoScalingInstancesResponse>"
#define MEMBER(id, group, state)                                                                            \
        "<member><InstanceId>" id "</InstanceId><AutoScalingGroupName>" group                               \
        "</AutoScalingGroupName><LifecycleState>" state "</LifecycleState></member>"
#define OWN(state) INSTANCES(MEMBER("i-0123456789abcdef0", "web", state))
#define ACTIVITIES(members)                                                                                 \
        "<DescribeScalingActivitiesResponse" NAMESPACE "><DescribeScalingActivitiesResult>"                 \
        "<Activities>" members                                                                              \
        "</Activities></DescribeScalingActivitiesResult></DescribeScalingActivitiesResponse>"
#define ACTIVITY(description, cause, start, status)                                                         \
        "<member><ActivityId>1</ActivityId><Description>" description "</Description><Cause>" cause         \
        "</Cause><StartTime>" start "</StartTime><StatusCode>" status "</StatusCode></member>"
#define DETACHED(id, start)                                                                                 \
        ACTIVITY("Detaching EC2 instance: " id,                                                             \
                "At " start " instance " id " was detached in response to a user request.", start,          \
                "InProgress")

/* 2026-06-30T10:11:12Z */
#define TIME ((Wall){ SPAN_SEC(1782814272) })

static bool ended;
static Outcome outcome_is;
static char group_is[256];
static Lifecycle lifecycle_is;
static bool unhealthy_is;
static Verification verification_is;
static AutoScalingCall *running;

static void on_removed(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        EXPECT(answer);
        EXPECT(userdata == &ended);
        EXPECT(!ended);
        ended = true;
        outcome_is = outcome;
        running = autoscaling_call_free(running); /* a callback may free its own call */
}

static void on_found(Outcome outcome, const Membership *is, const AwsAnswer *answer, void *userdata) {
        (void) snprintf(group_is, sizeof(group_is), "%s", is->group);
        lifecycle_is = is->lifecycle;
        unhealthy_is = is->unhealthy;
        on_removed(outcome, answer, userdata);
}

static void on_verified(const Verification *verification, const AwsAnswer *answer, void *userdata) {
        verification_is = *verification;
        on_removed(verification->outcome, answer, userdata);
}

static void begin(const FakeAnswer *script) {
        ended = false;
        fake_begin(script);
}

static void finish(int r) {
        EXPECT_EQ(r, 0);
        EXPECT(!ended); /* never from within the function */
        fake_run(&ended);
        EXPECT(ended);
        fake_end();
}

/* -- which group ---------------------------------------------------------------------------------------- */

static void find(const FakeAnswer *script) {
        begin(script);
        finish(autoscaling_find(NULL, &target, on_found, &ended, &running));
}

static void test_find_tells_group_and_state(void) {
        static const struct {
                const char *text, *group;
                Lifecycle lifecycle;
        } cases[] = {
                { OWN("InService"), "web", LIFECYCLE_IN_SERVICE },
                { OWN("Terminating:Wait"), "web", LIFECYCLE_TERMINATING },
                { OWN("ReplacingRootVolume"), "web", LIFECYCLE_OTHER },
                { INSTANCES(MEMBER("i-1", "db", "Standby") MEMBER("i-0123456789abcdef0", "web", "Standby")),
                        "web", LIFECYCLE_STANDBY },
                { INSTANCES(MEMBER("i-1", "db", "InService")), "", LIFECYCLE_NO_GROUP },
                { INSTANCES(""), "", LIFECYCLE_NO_GROUP },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                find((const FakeAnswer[]){ { "DescribeAutoScalingInstances", cases[i].text }, {} });
                EXPECT_EQ(outcome_is, OUTCOME_OK);
                EXPECT_STR(group_is, cases[i].group);
                EXPECT_EQ(lifecycle_is, cases[i].lifecycle);
        }
        EXPECT_STR(fake_asked[0].body, "InstanceIds.member.1=i-0123456789abcdef0");
}

static void test_find_never_takes_a_strange_answer_for_no_group(void) {
        static const char *const texts[] = {
                "<html/>",
                "<DescribeAutoScalingInstancesResponse/>",
                "<DescribeAutoScalingInstancesResponse><DescribeAutoScalingInstancesResult/>"
                "</DescribeAutoScalingInstancesResponse>",
                INSTANCES("<member><InstanceId>i-0123456789abcdef0</InstanceId></member>"),
                INSTANCES("<member/>"),
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                find((const FakeAnswer[]){ { "DescribeAutoScalingInstances", texts[i] }, {} });
                EXPECT_EQ(outcome_is, OUTCOME_BLIND);
                EXPECT_EQ(lifecycle_is, LIFECYCLE_UNKNOWN);
        }
        find((const FakeAnswer[]){ { "DescribeAutoScalingInstances", .outcome = AWS_DENIED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_DENIED);
        EXPECT_EQ(lifecycle_is, LIFECYCLE_UNKNOWN);
}

/* -- detaching ------------------------------------------------------------------------------------------ */

static void test_a_removal_is_sent_once_and_keeps_the_desired_capacity(void) {
        static const struct {
                Action action;
                const char *call, *text, *body;
        } cases[] = {
                { ACTION_DETACH, "DetachInstances", "<DetachInstancesResponse/>",
                        "InstanceIds.member.1=i-0123456789abcdef0&AutoScalingGroupName=web"
                        "&ShouldDecrementDesiredCapacity=false" },
                { ACTION_UNHEALTHY, "SetInstanceHealth", "<SetInstanceHealthResponse/>",
                        "InstanceId=i-0123456789abcdef0&HealthStatus=Unhealthy&ShouldRespectGracePeriod="
                        "false" },
                { ACTION_STANDBY, "EnterStandby", "<EnterStandbyResponse/>",
                        "InstanceIds.member.1=i-0123456789abcdef0&AutoScalingGroupName=web"
                        "&ShouldDecrementDesiredCapacity=false" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                EXPECT_STR(autoscaling_removal(cases[i].action), cases[i].call);
                begin((const FakeAnswer[]){ { cases[i].call, cases[i].text }, {} });
                finish(autoscaling_remove(NULL, &target, cases[i].action, on_removed, &ended, &running));
                EXPECT_EQ(outcome_is, OUTCOME_OK);
                EXPECT_EQ(fake_n_asked, 1);
                EXPECT(fake_asked[0].once);
                EXPECT_EQ(fake_asked[0].service, AWS_AUTO_SCALING);
                EXPECT_STR(fake_asked[0].body, cases[i].body);
        }
}

static void test_to_observe_removes_nothing(void) {
        begin(NULL);
        EXPECT(!autoscaling_removal(ACTION_OBSERVE));
        EXPECT_EQ(autoscaling_remove(NULL, &target, ACTION_OBSERVE, on_removed, &ended, &running), -EINVAL);
        EXPECT(!running);
        EXPECT_EQ(fake_n_asked, 0);
        fake_end();
}

static void test_detach_tells_refused_from_lost(void) {
        static const struct {
                AwsOutcome aws;
                bool unsent;
                Outcome is;
        } cases[] = {
                { AWS_REFUSED, false, OUTCOME_REFUSED },
                { AWS_UNAVAILABLE, false, OUTCOME_LOST },
                { AWS_UNAVAILABLE, true, OUTCOME_UNAVAILABLE },
                { AWS_CONTENTION, false, OUTCOME_CONTENTION },
                { AWS_THROTTLED, false, OUTCOME_THROTTLED },
                { AWS_GARBLED, false, OUTCOME_LOST },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                begin((const FakeAnswer[]){
                        { "DetachInstances", .outcome = cases[i].aws, .unsent = cases[i].unsent }, {} });
                finish(autoscaling_remove(NULL, &target, ACTION_DETACH, on_removed, &ended, &running));
                EXPECT_EQ(outcome_is, cases[i].is);
                EXPECT_EQ(fake_n_asked, 1);
        }
}

static void test_detach_that_is_freed_says_nothing(void) {
        begin((const FakeAnswer[]){ { "DetachInstances", "<DetachInstancesResponse/>" }, {} });
        EXPECT_EQ(autoscaling_remove(NULL, &target, ACTION_DETACH, on_removed, &ended, &running), 0);
        running = autoscaling_call_free(running);
        fake_run(&ended);
        EXPECT(!ended);
        fake_end();

        begin(NULL);
        fake_refuse = -ENOMEM;
        EXPECT_EQ(autoscaling_remove(NULL, &target, ACTION_DETACH, on_removed, &ended, &running), -ENOMEM);
        EXPECT(!running);
        fake_end();
}

/* -- verifying ------------------------------------------------------------------------------------------ */

static void verify(const FakeAnswer *script) {
        begin(script);
        fake_offset = SPAN_SEC(60);
        finish(autoscaling_verify(
                NULL, &target, wall_add(TIME, -SPAN_SEC(60)), on_verified, &ended, &running));
}

static void test_verify_needs_no_activities_once_we_are_not_in_service(void) {
        static const struct {
                const char *text;
                Lifecycle lifecycle;
        } cases[] = {
                { INSTANCES(""), LIFECYCLE_NO_GROUP },
                { OWN("Detaching"), LIFECYCLE_DETACHING },
                { OWN("Terminating"), LIFECYCLE_TERMINATING },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                verify((const FakeAnswer[]){ { "DescribeAutoScalingInstances", cases[i].text }, {} });
                EXPECT_EQ(outcome_is, OUTCOME_OK);
                EXPECT_EQ(verification_is.lifecycle, cases[i].lifecycle);
                EXPECT(!verification_is.activity);
        }
}

static void test_verify_tells_whether_the_group_calls_us_unhealthy(void) {
        static const struct {
                const char *health;
                bool unhealthy;
        } cases[] = {
                { "", false },
                { "<HealthStatus>HEALTHY</HealthStatus>", false },
                { "<HealthStatus>Healthy</HealthStatus>", false },
                { "<HealthStatus>UNHEALTHY</HealthStatus>", true },
                { "<HealthStatus>Unhealthy</HealthStatus>", true },
        };
        char text[1024];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                (void) snprintf(text, sizeof(text),
                        INSTANCES(
                                "<member><InstanceId>i-0123456789abcdef0</InstanceId><AutoScalingGroupName>"
                                "web</AutoScalingGroupName><LifecycleState>InService</LifecycleState>%s"
                                "</member>"),
                        cases[i].health);
                verify((const FakeAnswer[]){ { "DescribeAutoScalingInstances", text },
                        { "DescribeScalingActivities", ACTIVITIES("") }, {} });
                EXPECT_EQ(verification_is.outcome, OUTCOME_OK);
                EXPECT_EQ(verification_is.unhealthy, cases[i].unhealthy);
                find((const FakeAnswer[]){ { "DescribeAutoScalingInstances", text }, {} });
                EXPECT_EQ(unhealthy_is, cases[i].unhealthy);
        }
}

static void test_verify_finds_our_removal_among_the_activities(void) {
        static const struct {
                const char *text;
                bool activity;
        } cases[] = {
                { ACTIVITIES(DETACHED("i-0123456789abcdef0", "2026-06-30T10:11:13.250Z")), true },
                { ACTIVITIES(DETACHED("i-0123456789abcdef1", "2026-06-30T10:11:13Z")
                                  DETACHED("i-0123456789abcdef0", "2026-06-30T10:11:13Z")),
                        true },
                { ACTIVITIES(DETACHED("i-0123456789abcdef0", "2026-06-30T09:11:13Z")), false },
                { ACTIVITIES(DETACHED("i-0123456789abcdef1", "2026-06-30T10:11:13Z")), false },
                { ACTIVITIES(ACTIVITY("Detaching EC2 instance: i-0123456789abcdef0", "",
                          "2026-06-30T10:11:13Z", "Failed")),
                        false },
                { ACTIVITIES(ACTIVITY("Terminating EC2 instance: i-0123456789abcdef0", "",
                          "2026-06-30T10:11:13Z", "InProgress")),
                        false },
                { ACTIVITIES(ACTIVITY("Terminating EC2 instance: i-0123456789abcdef0",
                          "an instance was taken out of service in response to a user health-check.",
                          "2026-06-30T10:11:13Z", "InProgress")),
                        true },
                { ACTIVITIES(ACTIVITY("Moving EC2 instance to Standby: i-0123456789abcdef0", "",
                          "2026-06-30T10:11:13Z", "InProgress")),
                        true },
                { ACTIVITIES(ACTIVITY("Moving EC2 instance out of Standby: i-0123456789abcdef0", "",
                          "2026-06-30T10:11:13Z", "InProgress")),
                        false },
                { ACTIVITIES(""), false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                verify((const FakeAnswer[]){ { "DescribeAutoScalingInstances", OWN("InService") },
                        { "DescribeScalingActivities", cases[i].text }, {} });
                EXPECT_EQ(outcome_is, OUTCOME_OK);
                EXPECT_EQ(verification_is.lifecycle, LIFECYCLE_IN_SERVICE);
                EXPECT_EQ(verification_is.activity, cases[i].activity);
        }
        EXPECT_STR(fake_asked[1].body,
                "AutoScalingGroupName=web&Filters.member.1.Name=StartTimeLowerBound"
                "&Filters.member.1.Values.member.1=2026-06-30T10:06:12Z&MaxRecords=100");
}

static void test_verify_tells_what_it_could_not_read(void) {
        verify((const FakeAnswer[]){ { "DescribeAutoScalingInstances", .outcome = AWS_UNAVAILABLE }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
        verify((const FakeAnswer[]){ { "DescribeAutoScalingInstances", OWN("InService") },
                { "DescribeScalingActivities", .outcome = AWS_THROTTLED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_THROTTLED);
        verify((const FakeAnswer[]){ { "DescribeAutoScalingInstances", OWN("InService") },
                { "DescribeScalingActivities", ACTIVITIES("<member/>") }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_BLIND);

        begin((const FakeAnswer[]){ { "DescribeAutoScalingInstances", OWN("InService") }, {} });
        fake_refuse = -ENOMEM;
        fake_refuse_after = 1;
        finish(autoscaling_verify(NULL, &target, TIME, on_verified, &ended, &running));
        EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
}

/* -- sizes ---------------------------------------------------------------------------------------------- */

#define OVERRIDES(members)                                                                                  \
        "<MixedInstancesPolicy><LaunchTemplate><Overrides>" members                                         \
        "</Overrides></LaunchTemplate></MixedInstancesPolicy>"
#define WEIGHT(n) "<member><WeightedCapacity>" n "</WeightedCapacity></member>"

static void test_size_is_never_more_than_there_surely_are(void) {
        static const struct {
                const char *text;
                int r;
                uint32_t size;
                bool weighted;
        } cases[] = {
                { "<G><DesiredCapacity>20</DesiredCapacity></G>", 0, 20, false },
                { "<G><DesiredCapacity>0</DesiredCapacity></G>", 0, 0, false },
                { "<G><DesiredCapacity>20</DesiredCapacity>" OVERRIDES(WEIGHT("1")) "</G>", 0, 20, false },
                { "<G><DesiredCapacity>20</DesiredCapacity>" OVERRIDES(WEIGHT("2") WEIGHT("8")) "</G>", 0, 2,
                        true },
                { "<G><DesiredCapacity>20</DesiredCapacity><DesiredCapacityType>units</DesiredCapacityType>"
                  "</G>",
                        0, 20, false },
                { "<G><DesiredCapacity>20</DesiredCapacity><DesiredCapacityType>vcpu</DesiredCapacityType>"
                  "</G>",
                        0, 0, true },
                { "<G/>", -EBADMSG, 0, false },
                { "<G><DesiredCapacity>-1</DesiredCapacity></G>", -EBADMSG, 0, false },
                { "<G><DesiredCapacity>99999999999</DesiredCapacity></G>", -EBADMSG, 0, false },
                { "<G><DesiredCapacity>9</DesiredCapacity>" OVERRIDES(WEIGHT("heavy")) "</G>", -EBADMSG, 0,
                        false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(xml_freep) Xml *xml = NULL;
                uint32_t size = 0;
                bool weighted = false;

                EXPECT_EQ(xml_parse(cases[i].text, strlen(cases[i].text), &xml), 0);
                EXPECT_EQ(autoscaling_read_size(xml_root(xml), &size, &weighted), cases[i].r);
                EXPECT_EQ(size, cases[i].size);
                EXPECT_EQ(weighted, cases[i].weighted);
        }
}

/* -- activities ----------------------------------------------------------------------------------------- */

static int read_activity(const char *text, Activity *ret) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        int r;

        r = xml_parse(text, strlen(text), &xml);
        EXPECT_EQ(r, 0);
        return r < 0 ? r : autoscaling_read_activity(xml_root(xml), ret);
}

#define SERVED "At 2026-06-30T10:11:12Z an instance was taken out of service in response to "

static void test_activity_tells_what_was_done_to_whom(void) {
        static const struct {
                const char *description, *cause, *status;
                Removal removal;
                bool scaling_in;
                const char *id;
        } cases[] = {
                { "Detaching EC2 instance: i-0123456789abcdef0",
                        "At 2026-06-30T10:11:12Z instance i-0123456789abcdef0 was detached in response to a "
                        "user request.",
                        "Successful", REMOVAL_DETACHED, false, "i-0123456789abcdef0" },
                { "Detaching EC2 instance: i-93633f9b",
                        "At 2026-06-30T10:11:12Z instance i-93633f9b was detached in response to a user "
                        "request, "
                        "shrinking the capacity from 2 to 1.",
                        "InProgress", REMOVAL_DETACHED, false, "i-93633f9b" },
                { "Detaching EC2 instance: i-93633f9b", "", "Failed", REMOVAL_NONE, false, "i-93633f9b" },
                { "Moving EC2 instance to Standby: i-93633f9b", "", "Successful", REMOVAL_STANDBY, false,
                        "i-93633f9b" },
                { "Moving EC2 instance out of Standby: i-93633f9b", "", "Successful", REMOVAL_NONE, false,
                        "i-93633f9b" },
                { "Terminating EC2 instance: i-93633f9b", SERVED "an ELB system health check failure.",
                        "InProgress", REMOVAL_UNHEALTHY, false, "i-93633f9b" },
                { "Terminating EC2 instance: i-93633f9b", SERVED "a user health-check.", "Successful",
                        REMOVAL_UNHEALTHY, false, "i-93633f9b" },
                { "Terminating EC2 instance: i-93633f9b", SERVED "an EC2 instance status checks failure.",
                        "Successful", REMOVAL_UNHEALTHY, false, "i-93633f9b" },
                { "Terminating EC2 instance: i-93633f9b", SERVED "an EC2 Spot Instance interruption notice.",
                        "InProgress", REMOVAL_NONE, false, "i-93633f9b" },
                { "Terminating EC2 instance: i-93633f9b", SERVED "an EC2 instance rebalance recommendation.",
                        "InProgress", REMOVAL_NONE, false, "i-93633f9b" },
                { "Terminating EC2 instance: i-93633f9b", SERVED "a user request.", "InProgress",
                        REMOVAL_NONE, false, "i-93633f9b" },
                { "Terminating EC2 instance: i-93633f9b",
                        "At 2026-06-30T10:11:10Z a monitor alarm web-health-check in state ALARM triggered "
                        "policy down "
                        "changing the desired capacity from 3 to 2. " SERVED
                        "a difference between desired and actual "
                        "capacity, shrinking the capacity from 3 to 2. At 2026-06-30T10:11:12Z instance "
                        "i-93633f9b was "
                        "selected for termination.",
                        "InProgress", REMOVAL_NONE, true, "i-93633f9b" },
                { "Terminating EC2 instance: i-93633f9b",
                        SERVED "a difference between desired and actual capacity, shrinking the capacity "
                               "from 3 to 2.",
                        "Successful", REMOVAL_NONE, false, "i-93633f9b" },
                { "Terminating EC2 instance: i-93633f9b",
                        SERVED "a difference between desired and actual capacity, shrinking the capacity "
                               "from 3 to 2.",
                        "WaitingForELBConnectionDraining", REMOVAL_NONE, true, "i-93633f9b" },
                { "Launching a new EC2 instance: i-93633f9b",
                        "At 2026-06-30T10:11:12Z an instance was launched in response to an unhealthy "
                        "instance needing "
                        "to be replaced.",
                        "InProgress", REMOVAL_NONE, false, "i-93633f9b" },
                { "Launching a new EC2 instance.  Status Reason: no capacity", "", "Failed", REMOVAL_NONE,
                        false, "" },
                { "Detaching EC2 instance: ami-12345678", "", "Successful", REMOVAL_DETACHED, false, "" },
                { "Detaching EC2 instance: i-", "", "Successful", REMOVAL_DETACHED, false, "" },
                { "Detaching EC2 instance: "
                  "i-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0",
                        "", "Successful", REMOVAL_DETACHED, false, "" },
                { "", "", "", REMOVAL_NONE, false, "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char text[2048];
                Activity is = { .instance_id = "?" };

                (void) snprintf(text, sizeof(text), ACTIVITY("%s", "%s", "2026-06-30T10:11:12.000Z", "%s"),
                        cases[i].description, cases[i].cause, cases[i].status);
                EXPECT_EQ(read_activity(text, &is), 0);
                EXPECT_EQ(is.removal, cases[i].removal);
                EXPECT_EQ(is.scaling_in, cases[i].scaling_in);
                EXPECT_STR(is.instance_id, cases[i].id);
                EXPECT_EQ(is.start.usec, TIME.usec);
        }
}

static void test_activity_tells_who_comes_and_who_goes(void) {
        static const struct {
                const char *description, *cause, *status;
                bool launch, leaves, replaced, over, failed;
        } cases[] = {
                { "Launching a new EC2 instance: i-1", "", "PreInService", .launch = true },
                { "Launching a new EC2 instance: i-1", "", "Successful", .launch = true, .over = true },
                { "Launching a new EC2 instance.  Status Reason: no capacity", "", "Failed", .launch = true,
                        .over = true, .failed = true },
                { "Launching a new EC2 instance: i-1", "", "Cancelled", .over = true, .failed = true },
                { "Launching a new EC2 instance into warm pool: i-1", "", "Successful", .over = true },
                { "Launching a new EC2 instance from warm pool: i-1", "", "Successful", .launch = true,
                        .over = true },
                { "Detaching EC2 instance: i-1", "was detached in response to a user request.", "InProgress",
                        .leaves = true, .replaced = true },
                { "Detaching EC2 instance: i-1",
                        "was detached in response to a user request, shrinking the capacity from 2 to 1.",
                        "Successful", .leaves = true, .over = true },
                { "Detaching EC2 instance: i-1", "", "Failed", .over = true, .failed = true },
                { "Moving EC2 instance to Standby: i-1", "", "InProgress", .leaves = true,
                        .replaced = true },
                { "Moving EC2 instance out of Standby: i-1", "", "InProgress" },
                { "Terminating EC2 instance: i-1", SERVED "a user request.", "InProgress", .leaves = true },
                { "Terminating EC2 instance: i-1", SERVED "an EC2 health check.", "Successful",
                        .leaves = true, .replaced = true, .over = true },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char text[2048];
                Activity is = {};

                (void) snprintf(text, sizeof(text), ACTIVITY("%s", "%s", "2026-06-30T10:11:12.000Z", "%s"),
                        cases[i].description, cases[i].cause, cases[i].status);
                EXPECT_EQ(read_activity(text, &is), 0);
                EXPECT_EQ(is.launch, cases[i].launch);
                EXPECT_EQ(is.leaves, cases[i].leaves);
                EXPECT_EQ(is.replaced, cases[i].replaced);
                EXPECT_EQ(is.over, cases[i].over);
                EXPECT_EQ(is.failed, cases[i].failed);
        }
}

static void test_activity_without_description_or_time_is_refused(void) {
        static const char *const texts[] = {
                "<member/>",
                "<member><Description>Detaching EC2 instance: i-1</Description></member>",
                "<member><StartTime>2026-06-30T10:11:12Z</StartTime></member>",
                "<member><Description>x</Description><StartTime>yesterday</StartTime></member>",
                "<member><Description>x</Description><StartTime/></member>",
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                Activity is;

                EXPECT_EQ(read_activity(texts[i], &is), -EBADMSG);
        }
        EXPECT_EQ(autoscaling_read_activity(NULL, NULL), -EBADMSG);
}

TEST_MAIN(TEST(test_find_tells_group_and_state), TEST(test_find_never_takes_a_strange_answer_for_no_group),
        TEST(test_a_removal_is_sent_once_and_keeps_the_desired_capacity),
        TEST(test_to_observe_removes_nothing), TEST(test_size_is_never_more_than_there_surely_are),
        TEST(test_detach_tells_refused_from_lost), TEST(test_detach_that_is_freed_says_nothing),
        TEST(test_verify_needs_no_activities_once_we_are_not_in_service),
        TEST(test_verify_tells_whether_the_group_calls_us_unhealthy),
        TEST(test_verify_finds_our_removal_among_the_activities),
        TEST(test_verify_tells_what_it_could_not_read), TEST(test_activity_tells_what_was_done_to_whom),
        TEST(test_activity_tells_who_comes_and_who_goes),
        TEST(test_activity_without_description_or_time_is_refused))
