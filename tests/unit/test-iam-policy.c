/* SPDX-License-Identifier: Apache-2.0 */

/* The table of permissions has what the program asks of AWS and nothing else, and the document limits what can be limited. */

#include "agent/iam-policy.h"

#include <ctype.h>

#include "agent/act/rights.h"
#include "tests/unit/test.h"

#define NEED(need) (1u << IAM_##need)

static const IamPlace prod = {
        .partition = "aws",
        .region = "eu-west-1",
        .account = "123456789012",
        .cluster = "prod",
        .group = "prod nodes",
        .stack = "prod-stack",
        .name_space = "My \"own\"/Space",
};

static char *policy(const IamPlace *place, unsigned needs) {
        static char text[16384];
        JsonWriter writer;

        json_writer_init(&writer, sizeof(text) - 1);
        iam_policy_write(place, needs, &writer);
        EXPECT_EQ(writer.error, 0);
        (void) snprintf(text, sizeof(text), "%s", writer.error < 0 ? "" : writer.text);
        json_writer_done(&writer);
        return text;
}

static unsigned n_rows_of(const char *action) {
        unsigned n = 0;

        for (size_t i = 0; i < iam_table_n; i++)
                n += strcmp(iam_table[i].action, action) == 0;
        return n;
}

static bool is_right(const char *action) {
        for (Right right = 0; right < RIGHT_N; right++)
                if (strcmp(right_to_string(right), action) == 0)
                        return true;
        return false;
}

static void test_each_right_has_one_row(void) {
        for (Right right = 0; right < RIGHT_N; right++)
                EXPECT_EQ(n_rows_of(right_to_string(right)), 1);
}

static void test_beyond_rights_there_are_only_stack_and_doctor(void) {
        static const struct {
                const char *action;
                IamNeed need;
        } others[] = {
                { "ec2:DescribeTags", IAM_STACK },
                { "cloudformation:DescribeStackResource", IAM_STACK },
                { "cloudwatch:DescribeAlarms", IAM_DOCTOR },
                { "cloudwatch:ListMetrics", IAM_DOCTOR },
        };
        size_t n = 0;

        for (size_t i = 0; i < iam_table_n; i++) {
                bool core = iam_table[i].need != IAM_STACK && iam_table[i].need != IAM_DOCTOR;

                EXPECT_EQ(core, is_right(iam_table[i].action));
                for (size_t k = 0; k < ELEMENTSOF(others); k++)
                        if (strcmp(iam_table[i].action, others[k].action) == 0) {
                                EXPECT_EQ(iam_table[i].need, others[k].need);
                                n++;
                        }
        }
        EXPECT_EQ(n, ELEMENTSOF(others));
        EXPECT_EQ(iam_table_n, RIGHT_N + ELEMENTSOF(others));
}

#define BIT(right) (UINT32_C(1) << RIGHT_##right)

/* Of the rights that change something that others depend on: those that are in the policy. */
static void test_settings_need_their_own_calls_and_no_others(void) {
        static const uint32_t change = BIT(ECS_UPDATE_STATE) | BIT(ASG_DETACH) | BIT(ASG_SET_HEALTH) |
                                       BIT(ASG_ENTER_STANDBY) | BIT(ECS_DEREGISTER) | BIT(EC2_STOP) |
                                       BIT(EC2_TERMINATE);
        static const uint32_t drain = BIT(ECS_UPDATE_STATE);
        static const struct {
                Action action;
                OrphanAction orphan;
                bool deregister;
                uint32_t rights;
        } rows[] = {
                { ACTION_OBSERVE, ORPHAN_STOP, true, 0 },
                { ACTION_DETACH, ORPHAN_KEEP, false, drain | BIT(ASG_DETACH) },
                { ACTION_DETACH, ORPHAN_KEEP, true, drain | BIT(ASG_DETACH) | BIT(ECS_DEREGISTER) },
                /* One that cannot be stopped is terminated. */
                { ACTION_DETACH, ORPHAN_STOP, true,
                        drain | BIT(ASG_DETACH) | BIT(ECS_DEREGISTER) | BIT(EC2_STOP) | BIT(EC2_TERMINATE) },
                { ACTION_DETACH, ORPHAN_TERMINATE, false, drain | BIT(ASG_DETACH) | BIT(EC2_TERMINATE) },
                { ACTION_UNHEALTHY, ORPHAN_STOP, true, drain | BIT(ASG_SET_HEALTH) | BIT(ECS_DEREGISTER) },
                { ACTION_UNHEALTHY, ORPHAN_TERMINATE, false, drain | BIT(ASG_SET_HEALTH) },
                { ACTION_STANDBY, ORPHAN_STOP, true, drain | BIT(ASG_ENTER_STANDBY) },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const Policy settings = { .action = rows[i].action,
                        .orphan = rows[i].orphan,
                        .orphan_deregister = rows[i].deregister };
                const char *text = policy(&prod, iam_needs(&settings));

                for (Right right = 0; right < RIGHT_N; right++) {
                        bool there = strstr(text, right_to_string(right));

                        EXPECT_EQ(there, (change >> right & 1) == 0 || (rows[i].rights >> right & 1) != 0);
                        /* What the daemon may miss is in it; terminating what cannot be stopped it never misses. */
                        EXPECT(there || !right_used(right, &settings));
                }
        }
}

static void test_what_changes_something_is_limited(void) {
        for (size_t i = 0; i < iam_table_n; i++) {
                const char *verb = strchr(iam_table[i].action, ':') + 1;
                bool reads = strncmp(verb, "Describe", 8) == 0 || strncmp(verb, "List", 4) == 0;

                EXPECT(reads || iam_table[i].scope != IAM_ANY);
        }
}

static void test_rows_of_a_statement_agree(void) {
        for (size_t i = 0; i < iam_table_n; i++) {
                const IamRow *row = &iam_table[i];

                for (const char *c = row->sid; *c; c++)
                        EXPECT(isalnum((unsigned char) *c)); /* IAM takes nothing else */
                for (size_t k = 0; k < i; k++)
                        if (strcmp(iam_table[k].sid, row->sid) == 0) {
                                EXPECT_STR(iam_table[i - 1].sid, row->sid);
                                EXPECT_EQ(iam_table[k].need, row->need);
                                EXPECT_EQ(iam_table[k].scope, row->scope);
                        }
        }
}

static void test_policy_is_limited_to_what_is_known(void) {
        EXPECT_STR(policy(&prod, NEED(OBSERVE) | NEED(DRAIN) | NEED(DETACH)),
                "{\"Version\":\"2012-10-17\",\"Statement\":["
                "{\"Sid\":\"PublishMetrics\",\"Effect\":\"Allow\",\"Action\":\"cloudwatch:PutMetricData\","
                "\"Resource\":\"*\",\"Condition\":{\"StringEquals\":{\"cloudwatch:namespace\":"
                "\"My \\\"own\\\"/Space\"}}},"
                "{\"Sid\":\"SeeGroups\",\"Effect\":\"Allow\",\"Action\":["
                "\"autoscaling:DescribeAutoScalingInstances\",\"autoscaling:DescribeAutoScalingGroups\","
                "\"autoscaling:DescribeScalingActivities\",\"autoscaling:DescribeInstanceRefreshes\"],"
                "\"Resource\":\"*\"},"
                "{\"Sid\":\"SeeCluster\",\"Effect\":\"Allow\",\"Action\":["
                "\"ecs:DescribeClusters\",\"ecs:ListContainerInstances\"],"
                "\"Resource\":\"arn:aws:ecs:eu-west-1:123456789012:cluster/prod\"},"
                "{\"Sid\":\"SeeAndMarkInstances\",\"Effect\":\"Allow\",\"Action\":["
                "\"ecs:DescribeContainerInstances\",\"ecs:PutAttributes\",\"ecs:DeleteAttributes\"],"
                "\"Resource\":\"arn:aws:ecs:eu-west-1:123456789012:container-instance/*\","
                "\"Condition\":{\"ArnLike\":{\"ecs:cluster\":"
                "\"arn:aws:ecs:eu-west-1:123456789012:cluster/prod\"}}},"
                "{\"Sid\":\"DrainInstances\",\"Effect\":\"Allow\",\"Action\":\"ecs:"
                "UpdateContainerInstancesState\","
                "\"Resource\":\"arn:aws:ecs:eu-west-1:123456789012:container-instance/*\","
                "\"Condition\":{\"ArnLike\":{\"ecs:cluster\":"
                "\"arn:aws:ecs:eu-west-1:123456789012:cluster/prod\"}}},"
                "{\"Sid\":\"DetachInstances\",\"Effect\":\"Allow\",\"Action\":\"autoscaling:"
                "DetachInstances\","
                "\"Resource\":\"arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:*:"
                "autoScalingGroupName/prod nodes\"}]}");
}

static void test_an_instance_may_end_nobody_but_itself(void) {
        EXPECT_STR(policy(&prod, NEED(DEREGISTER) | NEED(STOP) | NEED(TERMINATE)),
                "{\"Version\":\"2012-10-17\",\"Statement\":["
                "{\"Sid\":\"OrphanLeavesCluster\",\"Effect\":\"Allow\","
                "\"Action\":\"ecs:DeregisterContainerInstance\","
                "\"Resource\":\"arn:aws:ecs:eu-west-1:123456789012:cluster/prod\"},"
                "{\"Sid\":\"OrphanStopsItself\",\"Effect\":\"Allow\",\"Action\":\"ec2:StopInstances\","
                "\"Resource\":\"arn:aws:ec2:eu-west-1:123456789012:instance/*\","
                "\"Condition\":{\"StringLike\":{\"aws:userid\":\"*:${ec2:InstanceID}\"}}},"
                "{\"Sid\":\"OrphanTerminatesItself\",\"Effect\":\"Allow\",\"Action\":\"ec2:"
                "TerminateInstances\","
                "\"Resource\":\"arn:aws:ec2:eu-west-1:123456789012:instance/*\","
                "\"Condition\":{\"StringLike\":{\"aws:userid\":\"*:${ec2:InstanceID}\"}}}]}");
}

static void test_policy_leaves_open_what_is_not_known(void) {
        static const IamPlace nowhere = { .name_space = "N" };
        const char *text = policy(&nowhere, NEED(OBSERVE) | NEED(DRAIN) | NEED(DETACH) | NEED(STACK));

        EXPECT(strstr(text, "\"Resource\":\"arn:aws:ecs:*:*:cluster/*\""));
        EXPECT(strstr(text, "\"Resource\":\"arn:aws:ecs:*:*:container-instance/*\"}"));
        EXPECT(strstr(text, "\"arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/*\""));
        EXPECT(strstr(text, "\"arn:aws:cloudformation:*:*:stack/*\""));
        EXPECT(!strstr(text, "ecs:cluster"));
        EXPECT(!strstr(text, "ec2:InstanceID"));
        EXPECT(strstr(policy(&prod, NEED(STACK)),
                "\"arn:aws:cloudformation:eu-west-1:123456789012:stack/prod-stack/*\""));
}

static void test_policy_has_what_is_needed_only(void) {
        for (unsigned needs = 0; needs < 1u << IAM_NEED_N; needs++) {
                const char *text = policy(&prod, needs);
                char quoted[80];

                for (size_t i = 0; i < iam_table_n; i++) {
                        (void) snprintf(quoted, sizeof(quoted), "\"%s\"", iam_table[i].action);
                        EXPECT_EQ(strstr(text, quoted) != NULL, (needs >> iam_table[i].need & 1) != 0);
                }
                EXPECT(strlen(text) <
                        6144); /* IAM's limit for a managed policy, the narrowest of those that apply */
        }
}

static void test_names_are_quoted_as_patterns(void) {
        static const struct {
                const char *name, *pattern;
        } cases[] = {
                { "", "" },
                { "prod nodes", "prod nodes" },
                { "a*b?c", "a${*}b${?}c" },
                { "${aws:username}", "${$}{aws:username}" },
        };
        char buffer[64];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                EXPECT_EQ(iam_escape(cases[i].name, buffer, sizeof(buffer)), 0);
                EXPECT_STR(buffer, cases[i].pattern);
        }
        EXPECT_EQ(iam_escape("abc", buffer, 4), 0);
        EXPECT_EQ(iam_escape("abcd", buffer, 4), -E2BIG);
        EXPECT_EQ(iam_escape("*", buffer, 5), 0);
        EXPECT_EQ(iam_escape("*", buffer, 4), -E2BIG);
}

static void test_place_is_taken_from_an_arn(void) {
        static const char *const refused[] = {
                "",
                "arn",
                "arn:aws:ecs:eu-west-1:123456789012",
                "arn:aws:ecs:eu-west-1:123456789012:",
                "arn:aws:ecs::123456789012:cluster/a",
                "arn:aws:ecs:eu-west-1::cluster/a",
                "arn:aws:ecs:eu-west-1:12345678901:cluster/a",
                "arn:aws:ecs:eu-west-1:12345678901x:cluster/a",
                "arn:azure:ecs:eu-west-1:123456789012:cluster/a",
                "arn:aws:ecs:eu west:123456789012:cluster/a",
                "urn:aws:ecs:eu-west-1:123456789012:cluster/a",
        };
        IamPlace place = {};

        for (size_t i = 0; i < ELEMENTSOF(refused); i++)
                EXPECT_EQ(iam_take_arn(&place, refused[i]), -EBADMSG);
        EXPECT_STR(place.partition, "");
        EXPECT_STR(place.region, "");
        EXPECT_STR(place.account, "");

        EXPECT_EQ(iam_take_arn(&place,
                          "arn:aws-us-gov:ecs:us-gov-west-1:123456789012:container-instance/prod/0a"),
                0);
        EXPECT_STR(place.partition, "aws-us-gov");
        EXPECT_STR(place.region, "us-gov-west-1");
        EXPECT_STR(place.account, "123456789012");

        place = (IamPlace){ .region = "eu-west-3" }; /* what is given stays */
        EXPECT_EQ(iam_take_arn(&place, "arn:aws:ecs:eu-west-1:123456789012:cluster/a"), 0);
        EXPECT_STR(place.region, "eu-west-3");
        EXPECT_STR(place.account, "123456789012");
}

static void test_partition_follows_from_the_region(void) {
        static const struct {
                const char *region, *partition;
        } cases[] = {
                { "", "aws" },
                { "us-east-1", "aws" },
                { "eu-west-1", "aws" },
                { "cn-north-1", "aws-cn" },
                { "us-gov-east-1", "aws-us-gov" },
                { "eusc-de-east-1", "aws-eusc" },
                { "us-iso-east-1", "aws-iso" },
                { "us-isob-east-1", "aws-iso-b" },
                { "eu-isoe-west-1", "aws-iso-e" },
                { "us-isof-south-1", "aws-iso-f" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                IamPlace place = { .name_space = "N" };
                char start[64];

                EXPECT_STR(iam_partition(cases[i].region), cases[i].partition);
                (void) snprintf(place.region, sizeof(place.region), "%s", cases[i].region);
                (void) snprintf(start, sizeof(start), "\"arn:%s:ecs:", cases[i].partition);
                EXPECT(strstr(policy(&place, NEED(OBSERVE)), start));
        }
}

TEST_MAIN(TEST(test_each_right_has_one_row), TEST(test_beyond_rights_there_are_only_stack_and_doctor),
        TEST(test_settings_need_their_own_calls_and_no_others),
        TEST(test_an_instance_may_end_nobody_but_itself), TEST(test_what_changes_something_is_limited),
        TEST(test_rows_of_a_statement_agree), TEST(test_policy_is_limited_to_what_is_known),
        TEST(test_policy_leaves_open_what_is_not_known), TEST(test_policy_has_what_is_needed_only),
        TEST(test_names_are_quoted_as_patterns), TEST(test_place_is_taken_from_an_arn),
        TEST(test_partition_follows_from_the_region))
