/* SPDX-License-Identifier: Apache-2.0 */

/* What is learned about our rights, and that finding out changes nothing. */

#include "agent/act/rights.h"

#include "tests/unit/fake-aws.h"

#define NOTHING "00000000000000000000000000000000"

static const Target target = {
        .cluster = "prod",
        .arn = "arn:aws:ecs:us-east-1:123456789012:container-instance/prod/0123456789abcdef0123456789abcdef",
        .instance_id = "i-0123456789abcdef0",
        .group = "web",
};

static const Policy detaching = { .action = ACTION_DETACH };

static Prober *prober;
static Rights rights_are;
static unsigned n_changes;
static bool free_in_callback;

static void on_changed(const Rights *rights, void *userdata) {
        EXPECT(userdata == &n_changes);
        rights_are = *rights;
        n_changes++;
        if (free_in_callback)
                prober = prober_free(prober);
}

static void begin(const FakeAnswer *script) {
        rights_are = (Rights){};
        n_changes = 0;
        free_in_callback = false;
        fake_begin(script);
        EXPECT_EQ(prober_new(&prober, NULL, on_changed, &n_changes), 0);
}

static void finish(void) {
        fake_run(&(bool){ false });
        prober = prober_free(prober);
        fake_end();
}

static void test_note_learns_from_how_a_call_ended(void) {
        static const struct {
                AwsOutcome outcome;
                Granted granted;
        } cases[] = {
                { AWS_OK, GRANTED_YES },
                { AWS_REFUSED, GRANTED_YES },
                { AWS_CONTENTION, GRANTED_YES },
                { AWS_GARBLED, GRANTED_YES },
                { AWS_DENIED, GRANTED_NO },
                { AWS_THROTTLED, GRANTED_UNKNOWN },
                { AWS_UNAVAILABLE, GRANTED_UNKNOWN },
                { AWS_BAD_KEYS, GRANTED_UNKNOWN },
                { AWS_NO_KEYS, GRANTED_UNKNOWN },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                begin(NULL);
                prober_note(prober, "DescribeClusters", cases[i].outcome);
                EXPECT_EQ(prober_rights(prober)->granted[RIGHT_ECS_DESCRIBE_CLUSTERS], cases[i].granted);
                EXPECT_EQ(n_changes, cases[i].granted != GRANTED_UNKNOWN);
                finish();
        }
}

static void test_note_knows_every_right(void) {
        static const char *const names[RIGHT_N] = {
                [RIGHT_ECS_DESCRIBE_CONTAINER_INSTANCES] = "DescribeContainerInstances",
                [RIGHT_ECS_LIST_CONTAINER_INSTANCES] = "ListContainerInstances",
                [RIGHT_ECS_DESCRIBE_CLUSTERS] = "DescribeClusters",
                [RIGHT_ASG_DESCRIBE_INSTANCES] = "DescribeAutoScalingInstances",
                [RIGHT_ASG_DESCRIBE_GROUPS] = "DescribeAutoScalingGroups",
                [RIGHT_ASG_DESCRIBE_ACTIVITIES] = "DescribeScalingActivities",
                [RIGHT_ASG_DESCRIBE_REFRESHES] = "DescribeInstanceRefreshes",
                [RIGHT_ECS_UPDATE_STATE] = "UpdateContainerInstancesState",
                [RIGHT_ECS_PUT_ATTRIBUTES] = "PutAttributes",
                [RIGHT_ECS_DELETE_ATTRIBUTES] = "DeleteAttributes",
                [RIGHT_ASG_DETACH] = "DetachInstances",
                [RIGHT_ASG_SET_HEALTH] = "SetInstanceHealth",
                [RIGHT_ASG_ENTER_STANDBY] = "EnterStandby",
                [RIGHT_ECS_DEREGISTER] = "DeregisterContainerInstance",
                [RIGHT_EC2_STOP] = "StopInstances",
                [RIGHT_EC2_TERMINATE] = "TerminateInstances",
                [RIGHT_CLOUDWATCH_PUT] = "PutMetricData",
        };

        begin(NULL);
        for (unsigned i = 0; i < RIGHT_N; i++) {
                prober_note(prober, names[i], AWS_DENIED);
                EXPECT_EQ(prober_rights(prober)->granted[i], GRANTED_NO);
        }
        EXPECT_EQ(n_changes, RIGHT_N);
        prober_note(prober, "DeleteEverything", AWS_DENIED);
        EXPECT_EQ(n_changes, RIGHT_N);
        finish();
}

static void test_note_tells_news_only(void) {
        begin(NULL);
        prober_note(prober, "PutMetricData", AWS_DENIED);
        prober_note(prober, "PutMetricData", AWS_DENIED);
        EXPECT_EQ(n_changes, 1);
        prober_note(prober, "PutMetricData", AWS_UNAVAILABLE); /* takes nothing back */
        EXPECT_EQ(n_changes, 1);
        EXPECT_EQ(rights_are.granted[RIGHT_CLOUDWATCH_PUT], GRANTED_NO);
        prober_note(prober, "PutMetricData", AWS_OK);
        EXPECT_EQ(n_changes, 2);
        EXPECT_EQ(rights_are.granted[RIGHT_CLOUDWATCH_PUT], GRANTED_YES);
        finish();
}

static void test_probe_asks_about_what_cannot_exist(void) {
        static const char arn[] = "arn:aws:ecs:us-east-1:123456789012:container-instance/prod/" NOTHING;

        begin((const FakeAnswer[]){
                { "UpdateContainerInstancesState", "{\"containerInstances\":[],\"failures\":[{\"arn\":\"x\","
                                                   "\"reason\":\"MISSING\"}]}" },
                { "PutAttributes", .outcome = AWS_REFUSED }, { "DeleteAttributes", .outcome = AWS_REFUSED },
                { "DetachInstances", .outcome = AWS_REFUSED }, {} });
        EXPECT_EQ(prober_start(prober, &target, &detaching), 0);
        EXPECT_EQ(prober_start(prober, &target, &detaching), 0); /* one is under way */
        EXPECT_EQ(n_changes, 0);
        fake_run(&(bool){ false });
        EXPECT_EQ(fake_n_asked, 4);
        EXPECT_EQ(rights_are.granted[RIGHT_ECS_UPDATE_STATE], GRANTED_YES);
        EXPECT_EQ(rights_are.granted[RIGHT_ECS_PUT_ATTRIBUTES], GRANTED_YES);
        EXPECT_EQ(rights_are.granted[RIGHT_ECS_DELETE_ATTRIBUTES], GRANTED_YES);
        EXPECT_EQ(rights_are.granted[RIGHT_ASG_DETACH], GRANTED_YES);

        EXPECT(strstr(fake_asked[0].body, arn) && strstr(fake_asked[0].body, "\"status\":\"ACTIVE\""));
        EXPECT(strstr(fake_asked[1].body, arn));
        EXPECT_STR(fake_asked[2].action, "DeleteAttributes");
        EXPECT(strstr(fake_asked[2].body, arn) && !strstr(fake_asked[2].body, "value"));
        EXPECT_STR(fake_asked[3].body, "InstanceIds.member.1=i-00000000000000000&AutoScalingGroupName=web"
                                       "&ShouldDecrementDesiredCapacity=false");
        for (unsigned i = 0; i < fake_n_asked; i++) {
                EXPECT(!strstr(fake_asked[i].body, "0123456789abcdef0123456789abcdef"));
                EXPECT(!strstr(fake_asked[i].body, "i-0123456789abcdef0"));
        }
        finish();
}

static void test_probe_asks_only_for_what_the_settings_use(void) {
        static const struct {
                Policy policy;
                const char *asked[4]; /* beside the attributes */
        } cases[] = {
                { { .action = ACTION_OBSERVE, .orphan_deregister = true, .orphan = ORPHAN_STOP }, { NULL } },
                { { .action = ACTION_DETACH, .external = true, .orphan = ORPHAN_STOP }, { NULL } },
                { { .action = ACTION_DETACH }, { "UpdateContainerInstancesState", "DetachInstances" } },
                { { .action = ACTION_DETACH, .orphan_deregister = true, .orphan = ORPHAN_STOP },
                        { "UpdateContainerInstancesState", "DetachInstances", "DeregisterContainerInstance",
                                "StopInstances" } },
                { { .action = ACTION_DETACH, .orphan = ORPHAN_TERMINATE },
                        { "UpdateContainerInstancesState", "DetachInstances", "TerminateInstances" } },
                { { .action = ACTION_UNHEALTHY, .orphan_deregister = true, .orphan = ORPHAN_STOP },
                        { "UpdateContainerInstancesState", "SetInstanceHealth",
                                "DeregisterContainerInstance" } },
                { { .action = ACTION_STANDBY, .orphan_deregister = true, .orphan = ORPHAN_STOP },
                        { "UpdateContainerInstancesState", "EnterStandby" } },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                FakeAnswer script[7] = { { "PutAttributes", .outcome = AWS_REFUSED },
                        { "DeleteAttributes", .outcome = AWS_REFUSED } };

                for (unsigned k = 0; k < 4 && cases[i].asked[k]; k++)
                        script[2 + k] = (FakeAnswer){ cases[i].asked[k], .outcome = AWS_REFUSED };
                begin(script);
                EXPECT_EQ(prober_start(prober, &target, &cases[i].policy), 0);
                finish();
        }
}

static void test_probe_of_an_old_arn_names_the_cluster(void) {
        Target old = target;

        (void) snprintf(old.arn, sizeof(old.arn), "%s",
                "arn:aws:ecs:us-east-1:123456789012:container-instance/"
                "01234567-89ab-cdef-0123-456789abcdef");
        begin((const FakeAnswer[]){ { "UpdateContainerInstancesState", .outcome = AWS_DENIED },
                { "PutAttributes", .outcome = AWS_DENIED }, { "DeleteAttributes", .outcome = AWS_DENIED },
                { "DetachInstances", .outcome = AWS_DENIED }, {} });
        EXPECT_EQ(prober_start(prober, &old, &detaching), 0);
        fake_run(&(bool){ false });
        EXPECT(strstr(fake_asked[0].body, ":123456789012:container-instance/prod/" NOTHING "\""));
        EXPECT_EQ(rights_are.granted[RIGHT_ECS_UPDATE_STATE], GRANTED_NO);
        EXPECT_EQ(rights_are.granted[RIGHT_ECS_PUT_ATTRIBUTES], GRANTED_NO);
        EXPECT_EQ(rights_are.granted[RIGHT_ECS_DELETE_ATTRIBUTES], GRANTED_NO);
        EXPECT_EQ(rights_are.granted[RIGHT_ASG_DETACH], GRANTED_NO);
        EXPECT_EQ(n_changes, 4);
        finish();
}

static void test_probe_that_is_not_answered_leaves_it_open(void) {
        begin((const FakeAnswer[]){ { "UpdateContainerInstancesState", .outcome = AWS_THROTTLED },
                { "PutAttributes", .outcome = AWS_UNAVAILABLE },
                { "DeleteAttributes", .outcome = AWS_BAD_KEYS },
                { "DetachInstances", .outcome = AWS_NO_KEYS }, {} });
        EXPECT_EQ(prober_start(prober, &target, &detaching), 0);
        fake_run(&(bool){ false });
        EXPECT_EQ(fake_n_asked, 4);
        EXPECT_EQ(n_changes, 0);
        finish();
}

static void test_probe_leaves_out_what_it_cannot_name(void) {
        Target unknown = { .instance_id = "i-0123456789abcdef0", .group = "web" };

        begin((const FakeAnswer[]){ { "DetachInstances", .outcome = AWS_REFUSED }, {} });
        EXPECT_EQ(prober_start(prober, &unknown, &detaching), 0);
        fake_run(&(bool){ false });
        EXPECT_EQ(fake_n_asked, 1);
        unknown.group[0] = '\0';
        EXPECT_EQ(prober_start(prober, &unknown, &detaching), 0); /* the first is over */
        fake_run(&(bool){ false });
        EXPECT_EQ(fake_n_asked, 1);
        finish();
}

static void test_probe_can_be_cancelled_and_freed_in_its_callback(void) {
        begin((const FakeAnswer[]){ { "UpdateContainerInstancesState", .outcome = AWS_DENIED }, {} });
        EXPECT_EQ(prober_start(prober, &target, &detaching), 0);
        prober = prober_free(prober);
        finish();

        begin((const FakeAnswer[]){ { "UpdateContainerInstancesState", .outcome = AWS_DENIED },
                { "PutAttributes", .outcome = AWS_DENIED }, {} });
        free_in_callback = true;
        EXPECT_EQ(prober_start(prober, &target, &detaching), 0);
        fake_run(&(bool){ false });
        EXPECT_EQ(n_changes, 1);
        EXPECT(!prober);
        finish();
}

static void test_probe_goes_on_after_one_that_could_not_be_sent(void) {
        begin(NULL);
        fake_refuse = -ENOMEM;
        EXPECT_EQ(prober_start(prober, &target, &detaching), -ENOMEM);
        finish();

        begin((const FakeAnswer[]){ { "UpdateContainerInstancesState", .outcome = AWS_DENIED }, {} });
        fake_refuse = -ENOMEM;
        fake_refuse_after = 1;
        EXPECT_EQ(prober_start(prober, &target, &detaching), 0);
        fake_run(&(bool){ false });
        EXPECT_EQ(rights_are.granted[RIGHT_ECS_UPDATE_STATE], GRANTED_NO);
        fake_refuse = 0;
        finish();
}

static void on_right(const AwsAnswer *answer, void *userdata) {
        *(AwsOutcome *) userdata = answer->outcome;
}

static void test_every_right_can_be_tried_without_a_change(void) {
        static const struct {
                const char *action;
                AwsService service;
                const char *about; /* what the question must have */
        } calls[RIGHT_N] = {
                [RIGHT_ECS_DESCRIBE_CONTAINER_INSTANCES] = { "DescribeContainerInstances", AWS_ECS,
                        "/prod/0123456789abcdef0123456789abcdef\"]" },
                [RIGHT_ECS_LIST_CONTAINER_INSTANCES] = { "ListContainerInstances", AWS_ECS,
                        "\"maxResults\":1" },
                [RIGHT_ECS_DESCRIBE_CLUSTERS] = { "DescribeClusters", AWS_ECS, "[\"prod\"]" },
                [RIGHT_ASG_DESCRIBE_INSTANCES] = { "DescribeAutoScalingInstances", AWS_AUTO_SCALING,
                        "InstanceIds.member.1=i-0123456789abcdef0" },
                [RIGHT_ASG_DESCRIBE_GROUPS] = { "DescribeAutoScalingGroups", AWS_AUTO_SCALING,
                        "AutoScalingGroupNames.member.1=web&IncludeInstances=false" },
                [RIGHT_ASG_DESCRIBE_ACTIVITIES] = { "DescribeScalingActivities", AWS_AUTO_SCALING,
                        "MaxRecords=1" },
                [RIGHT_ASG_DESCRIBE_REFRESHES] = { "DescribeInstanceRefreshes", AWS_AUTO_SCALING,
                        "MaxRecords=1" },
                [RIGHT_ECS_UPDATE_STATE] = { "UpdateContainerInstancesState", AWS_ECS, NOTHING },
                [RIGHT_ECS_PUT_ATTRIBUTES] = { "PutAttributes", AWS_ECS, NOTHING },
                [RIGHT_ECS_DELETE_ATTRIBUTES] = { "DeleteAttributes", AWS_ECS, NOTHING },
                [RIGHT_ASG_DETACH] = { "DetachInstances", AWS_AUTO_SCALING,
                        "InstanceIds.member.1=i-00000000000000000&" },
                [RIGHT_ASG_SET_HEALTH] = { "SetInstanceHealth", AWS_AUTO_SCALING,
                        "InstanceId=i-00000000000000000&HealthStatus=Healthy" },
                [RIGHT_ASG_ENTER_STANDBY] = { "EnterStandby", AWS_AUTO_SCALING,
                        "InstanceIds.member.1=i-00000000000000000&" },
                [RIGHT_ECS_DEREGISTER] = { "DeregisterContainerInstance", AWS_ECS, NOTHING },
                [RIGHT_EC2_STOP] = { "StopInstances", AWS_EC2,
                        "DryRun=true&InstanceId.1=i-0123456789abcdef0" },
                [RIGHT_EC2_TERMINATE] = { "TerminateInstances", AWS_EC2,
                        "DryRun=true&InstanceId.1=i-0123456789abcdef0" },
                [RIGHT_CLOUDWATCH_PUT] = { "PutMetricData", AWS_CLOUDWATCH,
                        "{\"Namespace\":\"Mine\",\"MetricData\":[]}" },
        };

        for (Right right = 0; right < RIGHT_N; right++) {
                const FakeAnswer script[] = { { calls[right].action, .outcome = AWS_DENIED }, {} };
                const RightQuestion question = {
                        .right = right, .target = &target, .name_space = "Mine", .once = true
                };
                AwsOutcome outcome = AWS_OK;
                AwsCall *call = NULL;

                fake_begin(script);
                EXPECT_EQ(right_call(NULL, &question, on_right, &outcome, &call), 0);
                fake_run(&(bool){ false });
                EXPECT_EQ(outcome, AWS_DENIED);
                EXPECT_STR(fake_asked[0].action, calls[right].action);
                EXPECT_EQ(fake_asked[0].service, calls[right].service);
                EXPECT_EQ(right_service(right), calls[right].service);
                EXPECT(fake_asked[0].once);
                EXPECT(strstr(fake_asked[0].body, calls[right].about));
                (void) aws_call_free(call);
                fake_end();
        }
}

static void test_a_right_is_not_tried_on_what_is_not_known(void) {
        const Target unknown = { .instance_id = "i-0123456789abcdef0" }, nobody = {};
        AwsOutcome outcome = AWS_OK;
        AwsCall *call = NULL;

        fake_begin(NULL);
        for (Right right = 0; right < RIGHT_N; right++) {
                const RightQuestion question = { .right = right,
                        .target = right == RIGHT_ASG_DESCRIBE_INSTANCES || right_service(right) == AWS_EC2
                                          ? &nobody
                                          : &unknown };

                EXPECT_EQ(right_call(NULL, &question, on_right, &outcome, &call), -ENOENT);
        }
        EXPECT_EQ(fake_n_asked, 0);
        fake_end();
}

TEST_MAIN(TEST(test_every_right_can_be_tried_without_a_change),
        TEST(test_a_right_is_not_tried_on_what_is_not_known), TEST(test_note_learns_from_how_a_call_ended),
        TEST(test_note_knows_every_right), TEST(test_note_tells_news_only),
        TEST(test_probe_asks_about_what_cannot_exist), TEST(test_probe_of_an_old_arn_names_the_cluster),
        TEST(test_probe_asks_only_for_what_the_settings_use),
        TEST(test_probe_that_is_not_answered_leaves_it_open),
        TEST(test_probe_leaves_out_what_it_cannot_name),
        TEST(test_probe_can_be_cancelled_and_freed_in_its_callback),
        TEST(test_probe_goes_on_after_one_that_could_not_be_sent))
