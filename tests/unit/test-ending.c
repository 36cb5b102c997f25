/* SPDX-License-Identifier: Apache-2.0 */

/* The end of an orphan, against a scripted AWS: what is done, in which order, and when nothing is. */

#include "agent/act/ending.h"

#include "tests/unit/fake-aws.h"

#define ARN "arn:aws:ecs:us-east-1:123456789012:container-instance/prod/0123456789abcdef"
#define ID  "i-0123456789abcdef0"

static const Target target = { .cluster = "prod", .arn = ARN, .instance_id = ID, .group = "web" };

#define MEMBERSHIP(members)                                                                                 \
        {                                                                                                   \
                "DescribeAutoScalingInstances",                                                             \
                        "<R><DescribeAutoScalingInstancesResult><AutoScalingInstances>" members             \
                        "</AutoScalingInstances></DescribeAutoScalingInstancesResult></R>"                  \
        }
#define IN_STATE(state, health)                                                                             \
        MEMBERSHIP(                                                                                         \
                "<member><InstanceId>" ID "</InstanceId><AutoScalingGroupName>web</AutoScalingGroupName>"   \
                "<LifecycleState>" state "</LifecycleState><HealthStatus>" health                           \
                "</HealthStatus></member>")
#define CLUSTER(tags)                                                                                       \
        {                                                                                                   \
                "DescribeClusters",                                                                         \
                        "{\"clusters\":[{\"registeredContainerInstancesCount\":3,\"tags\":[" tags "]}]}"    \
        }
#define TAG(value) "{\"key\":\"ecs-health-agent\",\"value\":\"" value "\"}"
#define LIFECYCLE  "/latest/meta-data/instance-life-cycle"
#define INSTANCE(status)                                                                                    \
        {                                                                                                   \
                "DescribeContainerInstances", "{\"containerInstances\":[{\"containerInstanceArn\":\"" ARN   \
                                              "\",\"ec2InstanceId\":\"" ID "\",\"status\":\"" status        \
                                              "\",\"agentConnected\":false}]}"                              \
        }

static const FakeAnswer out = MEMBERSHIP(""), cluster = CLUSTER("");
static const FakeAnswer on_demand = { LIFECYCLE, "on-demand" }, spot = { LIFECYCLE, "spot" };
static const FakeAnswer drained = INSTANCE("DRAINING");
static const FakeAnswer missing = { "DescribeContainerInstances",
        "{\"containerInstances\":[],\"failures\":[{\"arn\":\"" ARN "\",\"reason\":\"MISSING\"}]}" };
static const FakeAnswer deregistered = { "DeregisterContainerInstance", "{}" };
static const FakeAnswer stopped = { "StopInstances", "<StopInstancesResponse/>" };
static const FakeAnswer terminated = { "TerminateInstances", "<TerminateInstancesResponse/>" };

static const Policy usual = { .orphan = ORPHAN_STOP, .orphan_deregister = true };

static bool ended, with_answer;
static Outcome outcome_is;
static char action_is[64];
static Ending *running;

static void on_ended(Outcome outcome, const char *action, const AwsAnswer *answer, void *userdata) {
        EXPECT(userdata == &ended);
        EXPECT(!ended);
        ended = true;
        outcome_is = outcome;
        with_answer = answer != NULL;
        (void) snprintf(action_is, sizeof(action_is), "%s", action);
        running = ending_free(running); /* a callback may free its own object */
}

static void end_of(const Target *who, const Policy *policy, Action action, const FakeAnswer *script) {
        const EndingOrder order = { .target = who, .policy = policy, .action = action };

        ended = false;
        outcome_is = OUTCOME_LOST;
        fake_begin(script);
        EXPECT_EQ(ending_start(NULL, NULL, &order, on_ended, &ended, &running), 0);
        EXPECT(!ended); /* never from within the function */
        fake_run(&ended);
        EXPECT(ended);
        fake_end();
}

static void end(const Policy *policy, Action action, const FakeAnswer *script) {
        end_of(&target, policy, action, script);
}

static bool nothing_was_done(void) {
        return fake_count("DeregisterContainerInstance") + fake_count("StopInstances") +
                       fake_count("TerminateInstances") ==
               0;
}

/* -- what is done --------------------------------------------------------------------------------------- */

static void test_a_detached_instance_is_deregistered_and_then_stopped(void) {
        end(&usual, ACTION_DETACH,
                (const FakeAnswer[]){ out, cluster, on_demand, drained, deregistered, stopped, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_STR(action_is, "StopInstances");
        EXPECT_STR(fake_asked[0].action, "DescribeAutoScalingInstances");
        EXPECT_STR(fake_asked[1].action, "DescribeClusters");
        EXPECT_STR(fake_asked[3].action, "DeregisterContainerInstance");
        EXPECT_STR(fake_asked[3].body,
                "{\"cluster\":\"prod\",\"containerInstance\":\"" ARN "\",\"force\":true}");
        EXPECT_STR(fake_asked[4].action, "StopInstances");
        EXPECT_EQ(fake_asked[4].service, AWS_EC2);
        EXPECT_STR(fake_asked[4].body, "InstanceId.1=" ID);
}

static void test_the_policy_says_what_becomes_of_it(void) {
        static const Policy terminate = { .orphan = ORPHAN_TERMINATE, .orphan_deregister = true },
                            keep = { .orphan = ORPHAN_KEEP, .orphan_deregister = true },
                            only_stop = { .orphan = ORPHAN_STOP };

        end(&terminate, ACTION_DETACH,
                (const FakeAnswer[]){ out, cluster, drained, deregistered, terminated, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_STR(fake_body("TerminateInstances", 0), "InstanceId.1=" ID);
        end(&keep, ACTION_DETACH, (const FakeAnswer[]){ out, cluster, drained, deregistered, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        end(&only_stop, ACTION_DETACH, (const FakeAnswer[]){ out, cluster, on_demand, stopped, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
}

static void test_an_unhealthy_one_is_only_deregistered_since_the_group_terminates_it(void) {
        static const FakeAnswer going = IN_STATE("Terminating:Wait", "UNHEALTHY");

        end(&usual, ACTION_UNHEALTHY, (const FakeAnswer[]){ going, cluster, drained, deregistered, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        end(&usual, ACTION_UNHEALTHY, (const FakeAnswer[]){ out, cluster, drained, deregistered, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
}

static void test_where_nothing_is_wanted_nothing_is_asked(void) {
        static const Policy keep = { .orphan = ORPHAN_KEEP };

        end(&usual, ACTION_STANDBY, NULL);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT(!with_answer);
        end(&usual, ACTION_OBSERVE, NULL);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        end(&keep, ACTION_DETACH, NULL);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        end(&keep, ACTION_UNHEALTHY, NULL);
        EXPECT_EQ(outcome_is, OUTCOME_OK);
}

static void test_what_cannot_be_stopped_is_terminated(void) {
        static const FakeAnswer cannot = { "StopInstances", .outcome = AWS_REFUSED,
                .code = "UnsupportedOperation" };

        end(&usual, ACTION_DETACH,
                (const FakeAnswer[]){ out, cluster, spot, drained, deregistered, terminated, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_EQ(fake_count("StopInstances"), 0);
        EXPECT(strstr(fake_body("DescribeClusters", 0), "TAGS"));
        end(&usual, ACTION_DETACH,
                (const FakeAnswer[]){
                        out, cluster, on_demand, drained, deregistered, cannot, terminated, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT_STR(action_is, "TerminateInstances");
        /* An item that is not there is no Spot instance's. */
        end(&usual, ACTION_DETACH,
                (const FakeAnswer[]){ out, cluster, { LIFECYCLE, "", .error = -ENOENT }, drained,
                        deregistered, stopped, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
}

static void test_what_has_happened_before_is_not_done_again(void) {
        static const FakeAnswer gone[] = { INSTANCE("INACTIVE"), INSTANCE("DEREGISTERING") };

        end(&usual, ACTION_DETACH, (const FakeAnswer[]){ out, cluster, on_demand, missing, stopped, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        for (size_t i = 0; i < ELEMENTSOF(gone); i++) {
                end(&usual, ACTION_DETACH,
                        (const FakeAnswer[]){ out, cluster, on_demand, gone[i], stopped, {} });
                EXPECT_EQ(outcome_is, OUTCOME_OK);
        }
}

static void test_one_whose_arn_is_not_known_is_found_by_its_id(void) {
        Target unknown = target;

        unknown.arn[0] = '\0';
        end_of(&unknown, &usual, ACTION_DETACH,
                (const FakeAnswer[]){ out, cluster, on_demand,
                        { "ListContainerInstances", "{\"containerInstanceArns\":[\"" ARN "\"]}" }, drained,
                        deregistered, stopped, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        EXPECT(strstr(fake_body("DeregisterContainerInstance", 0), ARN));
        end_of(&unknown, &usual, ACTION_DETACH,
                (const FakeAnswer[]){ out, cluster, on_demand,
                        { "ListContainerInstances", "{\"containerInstanceArns\":[]}" }, stopped, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
}

/* -- what is not ---------------------------------------------------------------------------------------- */

static void test_in_a_group_nothing_is_done(void) {
        static const struct {
                FakeAnswer membership;
                Action action;
                Outcome is;
        } cases[] = {
                { IN_STATE("InService", "HEALTHY"), ACTION_DETACH, OUTCOME_REFUSED },
                { IN_STATE("InService", "HEALTHY"), ACTION_UNHEALTHY, OUTCOME_REFUSED },
                { IN_STATE("Pending", "HEALTHY"), ACTION_DETACH, OUTCOME_REFUSED },
                { IN_STATE("Standby", "HEALTHY"), ACTION_DETACH, OUTCOME_REFUSED },
                { IN_STATE("ReplacingRootVolume", "HEALTHY"), ACTION_DETACH, OUTCOME_REFUSED },
                { IN_STATE("InService", "UNHEALTHY"), ACTION_DETACH, OUTCOME_REFUSED },
                /* on its way out, which may take */
                { IN_STATE("InService", "UNHEALTHY"), ACTION_UNHEALTHY, OUTCOME_CONTENTION },
                { IN_STATE("Detaching", "HEALTHY"), ACTION_DETACH, OUTCOME_CONTENTION },
                { IN_STATE("Terminating", "HEALTHY"), ACTION_DETACH, OUTCOME_CONTENTION },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                end(&usual, cases[i].action, (const FakeAnswer[]){ cases[i].membership, {} });
                EXPECT_EQ(outcome_is, cases[i].is);
                EXPECT_STR(action_is, "DescribeAutoScalingInstances");
                EXPECT(nothing_was_done());
        }
}

static void test_switched_off_nothing_is_done(void) {
        static const FakeAnswer off = CLUSTER(TAG("off")), strange = CLUSTER(TAG("of")),
                                on = CLUSTER(TAG("on")), resumed = CLUSTER(TAG("resume"));

        end(&usual, ACTION_DETACH, (const FakeAnswer[]){ out, off, {} });
        EXPECT_EQ(outcome_is, OUTCOME_CONTENTION);
        end(&usual, ACTION_DETACH, (const FakeAnswer[]){ out, strange, {} });
        EXPECT_EQ(outcome_is, OUTCOME_CONTENTION);
        EXPECT(nothing_was_done());
        end(&usual, ACTION_DETACH, (const FakeAnswer[]){ out, on, on_demand, missing, stopped, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
        end(&usual, ACTION_DETACH, (const FakeAnswer[]){ out, resumed, on_demand, missing, stopped, {} });
        EXPECT_EQ(outcome_is, OUTCOME_OK);
}

static void test_what_cannot_be_read_stops_it(void) {
        static const FakeAnswer dead = { LIFECYCLE, "", .error = -ETIMEDOUT };
        static const FakeAnswer another = { "DescribeContainerInstances",
                "{\"containerInstances\":[{\"ec2InstanceId\":\"i-1\",\"agentConnected\":false}]}" };

        end(&usual, ACTION_DETACH,
                (const FakeAnswer[]){ { "DescribeAutoScalingInstances", .outcome = AWS_UNAVAILABLE }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
        EXPECT(nothing_was_done());
        end(&usual, ACTION_DETACH, (const FakeAnswer[]){ { "DescribeAutoScalingInstances", "<R/>" }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_BLIND);
        EXPECT(nothing_was_done());
        end(&usual, ACTION_DETACH,
                (const FakeAnswer[]){ out, { "DescribeClusters", .outcome = AWS_DENIED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_DENIED);
        EXPECT_STR(action_is, "DescribeClusters");
        EXPECT(nothing_was_done());
        end(&usual, ACTION_DETACH,
                (const FakeAnswer[]){ out, { "DescribeClusters", "{\"clusters\":[]}" }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_BLIND);
        EXPECT(nothing_was_done());
        end(&usual, ACTION_DETACH, (const FakeAnswer[]){ out, cluster, dead, {} });
        EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
        EXPECT_STR(action_is, "instance-life-cycle");
        EXPECT(nothing_was_done());
        end(&usual, ACTION_DETACH,
                (const FakeAnswer[]){ out, cluster, on_demand,
                        { "DescribeContainerInstances", .outcome = AWS_THROTTLED }, {} });
        EXPECT_EQ(outcome_is, OUTCOME_THROTTLED);
        EXPECT(nothing_was_done());
        end(&usual, ACTION_DETACH, (const FakeAnswer[]){ out, cluster, on_demand, another, {} });
        EXPECT_EQ(outcome_is, OUTCOME_BLIND);
        EXPECT(nothing_was_done());
}

static void test_a_step_that_fails_is_named_and_ends_it(void) {
        static const struct {
                AwsOutcome aws;
                bool unsent;
                Outcome is;
        } ends[] = {
                { AWS_DENIED, false, OUTCOME_DENIED },
                { AWS_THROTTLED, false, OUTCOME_THROTTLED },
                { AWS_UNAVAILABLE, false, OUTCOME_LOST },
                { AWS_UNAVAILABLE, true, OUTCOME_UNAVAILABLE },
                { AWS_REFUSED, false, OUTCOME_CONTENTION },
        };
        static const Policy terminate = { .orphan = ORPHAN_TERMINATE };

        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                FakeAnswer fails = { .outcome = ends[i].aws, .unsent = ends[i].unsent };

                fails.action = "DeregisterContainerInstance";
                end(&usual, ACTION_DETACH,
                        (const FakeAnswer[]){ out, cluster, on_demand, drained, fails, {} });
                EXPECT_EQ(outcome_is, ends[i].is);
                EXPECT_STR(action_is, "DeregisterContainerInstance");
                fails.action = "StopInstances";
                end(&usual, ACTION_DETACH,
                        (const FakeAnswer[]){ out, cluster, on_demand, missing, fails, {} });
                EXPECT_EQ(outcome_is, ends[i].is);
                EXPECT_STR(action_is, "StopInstances");
                fails.action = "TerminateInstances";
                end(&terminate, ACTION_DETACH, (const FakeAnswer[]){ out, cluster, fails, {} });
                EXPECT_EQ(outcome_is, ends[i].is);
                EXPECT_STR(action_is, "TerminateInstances");
        }
}

static void test_a_step_that_cannot_be_sent_has_not_happened(void) {
        const FakeAnswer script[] = { out, cluster, on_demand, drained, deregistered, stopped, {} };
        static const EndingOrder order = { .target = &target, .policy = &usual, .action = ACTION_DETACH };

        for (unsigned n = 1; n < 5; n++) {
                ended = false;
                fake_begin(script);
                fake_refuse = -ENOMEM;
                fake_refuse_after = n;
                EXPECT_EQ(ending_start(NULL, NULL, &order, on_ended, &ended, &running), 0);
                fake_run(&ended);
                EXPECT(ended);
                EXPECT_EQ(outcome_is, OUTCOME_UNAVAILABLE);
                EXPECT_EQ(fake_n_asked, n);
                fake_used = UINT32_MAX;
                fake_end();
        }
}

static void test_an_ending_needs_to_know_who_we_are_and_can_be_cancelled(void) {
        Target nobody = target, nowhere = target;
        EndingOrder order = { .target = &nobody, .policy = &usual, .action = ACTION_DETACH };

        nobody.instance_id[0] = nowhere.cluster[0] = '\0';
        ended = false;
        fake_begin((const FakeAnswer[]){ out, {} });
        EXPECT_EQ(ending_start(NULL, NULL, &order, on_ended, &ended, &running), -EINVAL);
        order.target = &nowhere;
        EXPECT_EQ(ending_start(NULL, NULL, &order, on_ended, &ended, &running), -EINVAL);
        EXPECT(!running);
        order.target = &target;
        EXPECT_EQ(ending_start(NULL, NULL, &order, on_ended, &ended, &running), 0);
        running = ending_free(running);
        order.action = ACTION_STANDBY;
        EXPECT_EQ(ending_start(NULL, NULL, &order, on_ended, &ended, &running), 0);
        running = ending_free(running);
        fake_run(&ended);
        EXPECT(!ended);
        fake_end();
}

TEST_MAIN(TEST(test_a_detached_instance_is_deregistered_and_then_stopped),
        TEST(test_the_policy_says_what_becomes_of_it),
        TEST(test_an_unhealthy_one_is_only_deregistered_since_the_group_terminates_it),
        TEST(test_where_nothing_is_wanted_nothing_is_asked), TEST(test_what_cannot_be_stopped_is_terminated),
        TEST(test_what_has_happened_before_is_not_done_again),
        TEST(test_one_whose_arn_is_not_known_is_found_by_its_id), TEST(test_in_a_group_nothing_is_done),
        TEST(test_switched_off_nothing_is_done), TEST(test_what_cannot_be_read_stops_it),
        TEST(test_a_step_that_fails_is_named_and_ends_it),
        TEST(test_a_step_that_cannot_be_sent_has_not_happened),
        TEST(test_an_ending_needs_to_know_who_we_are_and_can_be_cancelled))
