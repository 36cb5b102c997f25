/* SPDX-License-Identifier: Apache-2.0 */

/* Effects in, events out: that each answer finds its way back, and what is done for a peer stays apart. */

#include "agent/act/actor.h"

#include "agent/decide/turn.h"
#include "tests/unit/fake-aws.h"
#include "tests/unit/fake-clock.h"

#define ARN_PREFIX "arn:aws:ecs:us-east-1:123456789012:container-instance/prod/"

/* 2026-06-30T10:11:12Z */
#define TIME ((Wall){ SPAN_SEC(1782814272) })

static const Target own = { .cluster = "prod", .arn = ARN_PREFIX "f", .instance_id = "i-f", .group = "web" };
static const Target peer = {
        .cluster = "prod", .arn = ARN_PREFIX "1", .instance_id = "i-1", .group = "web"
};
static const Policy policy = { .action = ACTION_DETACH, .drain = true, .orphan = ORPHAN_KEEP };

static Actor *actor;
static Event events[8];
static unsigned n_events;
static bool all;
static unsigned n_expected;

static void on_answered(const Event *event, void *userdata) {
        EXPECT(userdata == events);
        if (event->type == EVENT_RIGHTS)
                return;
        EXPECT(n_events < ELEMENTSOF(events));
        events[n_events++ % ELEMENTSOF(events)] = *event;
        all = n_events >= n_expected;
}

static char called_is[64];

static void on_called(const char *action, const AwsAnswer *answer, void *userdata) {
        EXPECT(answer);
        EXPECT(userdata == events);
        (void) snprintf(called_is, sizeof(called_is), "%s", action);
}

static void on_registered(const char *arn, void *userdata) {
        (void) userdata;
        EXPECT_STR(arn, own.arn); /* never a peer's */
}

static void begin(const FakeAnswer *script, unsigned expected) {
        n_events = 0;
        all = false;
        n_expected = expected;
        called_is[0] = '\0';
        fake_begin(script);
        EXPECT_EQ(actor_new(&actor, fake_event,
                          &(ActorOptions){ .answered = on_answered,
                                  .called = on_called,
                                  .registered = on_registered,
                                  .userdata = events }),
                0);
}

static void finish(void) {
        fake_run(&all);
        EXPECT_EQ(n_events, n_expected);
        actor = actor_free(actor);
        fake_end();
}

static void perform(Effect effect) {
        static const Record record = {
                .action = ACTION_DETACH, .detach_sent = TIME, .peer_sent = { SPAN_SEC(1782817872) }
        };

        EXPECT_EQ(actor_do(actor, &effect,
                          &(ActorContext){ .target = &own,
                                  .peer = effect.type == EFFECT_DRAIN && effect.action ? NULL : &peer,
                                  .policy = &policy,
                                  .record = &record,
                                  .now = TIME }),
                0);
}

static const Event *event_of(uint32_t ticket) {
        static const Event none = { .type = EVENT_TICK };

        for (unsigned i = 0; i < n_events; i++)
                if (events[i].ticket == ticket)
                        return &events[i];
        return &none;
}

#define CLUSTER "{\"clusters\":[{\"registeredContainerInstancesCount\":40}]}"
#define DRAINED "{\"containerInstances\":[{\"status\":\"DRAINING\"}],\"failures\":[]}"
#define MEMBER                                                                                              \
        "<R><DescribeAutoScalingInstancesResult><AutoScalingInstances><member><InstanceId>i-1</InstanceId>" \
        "<AutoScalingGroupName>web</AutoScalingGroupName><LifecycleState>InService</LifecycleState></"      \
        "member>"                                                                                           \
        "</AutoScalingInstances></DescribeAutoScalingInstancesResult></R>"

/* -- peers ---------------------------------------------------------------------------------------------- */

static void test_a_peer_is_drained_in_our_name(void) {
        char by[32];

        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, { "UpdateContainerInstancesState", DRAINED },
                      {} },
                1);
        perform((Effect){ .type = EFFECT_DRAIN, .ticket = 7, .peer = true });
        finish();
        EXPECT_EQ(event_of(7)->type, EVENT_DRAINED);
        EXPECT_EQ(event_of(7)->outcome, OUTCOME_OK);
        (void) snprintf(by, sizeof(by), " %016" PRIx64 "\"", turn_id("i-f"));
        EXPECT(strstr(fake_asked[0].body, "ecs-health-agent.patrol") && strstr(fake_asked[0].body, by));
        EXPECT(strstr(fake_asked[0].body, ARN_PREFIX "1\""));

        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, { "UpdateContainerInstancesState", DRAINED },
                      {} },
                1);
        perform((Effect){ .type = EFFECT_DRAIN, .ticket = 8 });
        finish();
        EXPECT(strstr(fake_asked[0].body, "ecs-health-agent.incident"));
        EXPECT(strstr(fake_asked[0].body, ARN_PREFIX "f\""));
}

static void test_a_peer_is_removed_by_the_action_that_is_asked_for(void) {
        begin((const FakeAnswer[]){ { "EnterStandby", "<EnterStandbyResponse/>" }, {} }, 1);
        perform((Effect){ .type = EFFECT_DETACH, .ticket = 7, .peer = true, .action = ACTION_STANDBY });
        finish();
        EXPECT_EQ(event_of(7)->type, EVENT_DETACHED);
        EXPECT_STR(called_is, "EnterStandby");
        EXPECT(strstr(fake_asked[0].body, "InstanceIds.member.1=i-1&"));
}

static void test_a_peer_is_verified_since_its_own_removal(void) {
        static const char none[] = "<R><DescribeScalingActivitiesResult><Activities/>"
                                   "</DescribeScalingActivitiesResult></R>";

        begin((const FakeAnswer[]){ { "DescribeAutoScalingInstances", MEMBER },
                      { "DescribeScalingActivities", none }, {} },
                1);
        perform((Effect){ .type = EFFECT_VERIFY, .ticket = 7, .peer = true });
        finish();
        EXPECT_EQ(event_of(7)->type, EVENT_VERIFIED);
        EXPECT_EQ(event_of(7)->verified.lifecycle, LIFECYCLE_IN_SERVICE);
        EXPECT(strstr(fake_asked[1].body, "=2026-06-30T11:06:12Z")); /* an hour later than ours */
}

static void test_a_peer_is_looked_at_by_our_eyes(void) {
        begin((const FakeAnswer[]){ { "ListContainerInstances", .outcome = AWS_THROTTLED }, {} }, 1);
        perform((Effect){ .type = EFFECT_LOOK, .ticket = 7, .peer = true });
        finish();
        EXPECT_EQ(event_of(7)->type, EVENT_LOOKED);
        EXPECT(event_of(7)->look.of_peer);
        EXPECT_EQ(event_of(7)->look.outcome, OUTCOME_THROTTLED);

        /* What it tells of the peer is not taken for news of ourselves. */
        begin((const FakeAnswer[]){ { "ListContainerInstances", "{\"containerInstanceArns\":[]}" },
                      { "DescribeContainerInstances",
                              "{\"containerInstances\":[{\"containerInstanceArn\":\"" ARN_PREFIX
                              "1\",\"ec2InstanceId\":\"i-1\",\"agentConnected\":false}]}" },
                      { "DescribeClusters", CLUSTER },
                      { "DescribeAutoScalingInstances", .outcome = AWS_THROTTLED }, {} },
                1);
        perform((Effect){ .type = EFFECT_LOOK, .ticket = 7, .peer = true });
        finish();
        EXPECT_EQ(event_of(7)->look.own.outcome, OUTCOME_OK);
        EXPECT_EQ(event_of(7)->look.outcome, OUTCOME_THROTTLED);
}

static void test_what_is_done_for_a_peer_does_not_cancel_what_is_done_for_us(void) {
        static const char active[] =
                "{\"containerInstances\":[{\"status\":\"ACTIVE\",\"agentConnected\":true,"
                "\"ec2InstanceId\":\"i-f\"}]}";

        begin((const FakeAnswer[]){ { "PutAttributes", "{}" }, { "UpdateContainerInstancesState", DRAINED },
                      { "DescribeContainerInstances", active }, {} },
                2);
        perform((Effect){ .type = EFFECT_DRAIN, .ticket = 7, .peer = true });
        perform((Effect){ .type = EFFECT_UNDRAIN, .ticket = 8 });
        finish();
        EXPECT_EQ(event_of(7)->type, EVENT_DRAINED);
        EXPECT_EQ(event_of(8)->type, EVENT_UNDRAINED);

        /* Nor is a look at a peer dropped with what we forget of ourselves; but it is with the peer. */
        begin((const FakeAnswer[]){ { "ListContainerInstances", .outcome = AWS_DENIED }, {} }, 1);
        perform((Effect){ .type = EFFECT_LOOK, .ticket = 7, .peer = true });
        perform((Effect){ .type = EFFECT_FORGET });
        finish();
        begin((const FakeAnswer[]){ { "ListContainerInstances", .outcome = AWS_DENIED }, {} }, 0);
        perform((Effect){ .type = EFFECT_LOOK, .ticket = 7, .peer = true });
        perform((Effect){ .type = EFFECT_FORGET, .peer = true });
        fake_run(&(bool){ false });
        finish();
}

static void test_a_sweep_and_an_ending_are_answered(void) {
        begin((const FakeAnswer[]){ { "ListContainerInstances", "{\"containerInstanceArns\":[]}" }, {} }, 2);
        perform((Effect){ .type = EFFECT_SWEEP, .ticket = 7 });
        perform((Effect){ .type = EFFECT_END, .ticket = 8 }); /* nothing is wanted */
        finish();
        EXPECT_EQ(event_of(7)->type, EVENT_SWEPT);
        EXPECT_EQ(event_of(7)->swept.outcome, OUTCOME_OK);
        EXPECT_STR(called_is, ""); /* a round that works is nothing to speak of */
        EXPECT_EQ(event_of(8)->type, EVENT_ENDED);
        EXPECT_EQ(event_of(8)->outcome, OUTCOME_OK);
}

/* -- what cannot be started ----------------------------------------------------------------------------- */

static void test_each_effect_that_cannot_be_started_is_answered(void) {
        static const struct {
                EffectType effect;
                EventType event;
        } cases[] = {
                { EFFECT_CONFIRM, EVENT_CONFIRMED },
                { EFFECT_LOOK, EVENT_LOOKED },
                { EFFECT_DRAIN, EVENT_DRAINED },
                { EFFECT_UNDRAIN, EVENT_UNDRAINED },
                { EFFECT_DETACH, EVENT_DETACHED },
                { EFFECT_VERIFY, EVENT_VERIFIED },
                { EFFECT_REPAIR, EVENT_REPAIRED },
                { EFFECT_END, EVENT_ENDED },
                { EFFECT_SWEEP, EVENT_SWEPT },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i += 3) {
                begin(NULL, 3);
                for (size_t k = i; k < i + 3; k++)
                        EXPECT_EQ(actor_refuse(actor,
                                          &(Effect){ .type = cases[k].effect, .ticket = 10 + (uint32_t) k }),
                                0);
                EXPECT_EQ(n_events, 0); /* never from within the function */
                fake_run(&all);
                for (size_t k = i; k < i + 3; k++) {
                        const Event *event = event_of(10 + (uint32_t) k);

                        EXPECT_EQ(event->type, cases[k].event);
                        EXPECT_EQ(event->type == EVENT_LOOKED ? event->look.outcome : event->outcome,
                                OUTCOME_UNAVAILABLE); /* the others begin with it */
                }
                finish();
        }
}

static void test_for_a_peer_that_is_not_named_nothing_is_done(void) {
        begin(NULL, 1);
        perform((Effect){ .type = EFFECT_DRAIN, .ticket = 7, .peer = true, .action = ACTION_DETACH });
        finish();
        EXPECT_EQ(event_of(7)->type, EVENT_DRAINED);
        EXPECT_EQ(event_of(7)->outcome, OUTCOME_UNAVAILABLE);
        EXPECT_EQ(fake_n_asked, 0);
}

/* -- how many there are --------------------------------------------------------------------------------- */

static Sizes sizes_are;
static unsigned n_counted;

static void on_counted(const Sizes *sizes, void *userdata) {
        EXPECT(userdata == events);
        sizes_are = *sizes;
        n_counted++;
}

static void count(const Target *who, const FakeAnswer *script) {
        n_counted = 0;
        sizes_are = (Sizes){};
        begin(script, 0);
        EXPECT_EQ(actor_count(actor, who, on_counted), 0);
        fake_run(&(bool){ false });
        finish();
}

#define GROUP(more)                                                                                         \
        "<R><DescribeAutoScalingGroupsResult><AutoScalingGroups><member><DesiredCapacity>5</"               \
        "DesiredCapacity>" more "</member></AutoScalingGroups></DescribeAutoScalingGroupsResult></R>"

static void test_cluster_and_group_are_counted(void) {
        Target alone = own;

        count(&own, (const FakeAnswer[]){ { "DescribeClusters", CLUSTER },
                            { "DescribeAutoScalingGroups", GROUP("") }, {} });
        EXPECT_EQ(n_counted, 1);
        EXPECT_EQ(sizes_are.cluster, 40);
        EXPECT_EQ(sizes_are.group, 5);
        EXPECT(sizes_are.self == turn_id("i-f"));
        EXPECT_STR(fake_asked[0].body, "{\"clusters\":[\"prod\"]}");
        EXPECT_STR(fake_asked[1].body, "AutoScalingGroupNames.member.1=web&IncludeInstances=false");

        count(&own, (const FakeAnswer[]){ { "DescribeClusters", CLUSTER },
                            { "DescribeAutoScalingGroups",
                                    GROUP("<MixedInstancesPolicy><LaunchTemplate><Overrides><member>"
                                          "<WeightedCapacity>2</WeightedCapacity></member></Overrides>"
                                          "</LaunchTemplate></MixedInstancesPolicy>") },
                            {} });
        EXPECT_EQ(sizes_are.cluster, 40);
        EXPECT_EQ(sizes_are.group, 0);

        alone.group[0] = '\0';
        count(&alone, (const FakeAnswer[]){ { "DescribeClusters", CLUSTER }, {} });
        EXPECT_EQ(sizes_are.cluster, 40);
}

static void test_what_could_be_counted_is_told(void) {
        count(&own, (const FakeAnswer[]){ { "DescribeClusters", CLUSTER },
                            { "DescribeAutoScalingGroups", .outcome = AWS_DENIED }, {} });
        EXPECT_EQ(n_counted, 1);
        EXPECT_EQ(sizes_are.cluster, 40);
        EXPECT_EQ(sizes_are.group, 0);
        count(&own, (const FakeAnswer[]){ { "DescribeClusters", .outcome = AWS_THROTTLED }, {} });
        EXPECT_EQ(n_counted, 0);
        count(&own, (const FakeAnswer[]){ { "DescribeClusters", "{\"clusters\":[]}" }, {} });
        EXPECT_EQ(n_counted, 0);
}

static void test_counting_goes_on_until_all_is_answered(void) {
        n_counted = 0;
        begin((const FakeAnswer[]){ { "DescribeClusters", .outcome = AWS_THROTTLED },
                      { "DescribeClusters", CLUSTER },
                      { "DescribeAutoScalingGroups", .outcome = AWS_UNAVAILABLE },
                      { "DescribeClusters", CLUSTER }, { "DescribeAutoScalingGroups", GROUP("") }, {} },
                0);
        EXPECT_EQ(actor_count(actor, &own, on_counted), 0);
        /* The waits between the rounds pass faster than it seems. */
        for (unsigned i = 0; i < 5000 && n_counted < 2; i++) {
                (void) sd_event_run(fake_event, SPAN_MSEC(1));
                if (i % 10 == 9)
                        fake_clock_forward(10);
        }
        EXPECT_EQ(fake_n_asked, 5);
        EXPECT_EQ(n_counted, 2);
        EXPECT_EQ(sizes_are.group, 5);
        finish();
}

TEST_MAIN(TEST(test_a_peer_is_drained_in_our_name),
        TEST(test_a_peer_is_removed_by_the_action_that_is_asked_for),
        TEST(test_a_peer_is_verified_since_its_own_removal), TEST(test_a_peer_is_looked_at_by_our_eyes),
        TEST(test_what_is_done_for_a_peer_does_not_cancel_what_is_done_for_us),
        TEST(test_a_sweep_and_an_ending_are_answered),
        TEST(test_each_effect_that_cannot_be_started_is_answered),
        TEST(test_for_a_peer_that_is_not_named_nothing_is_done), TEST(test_cluster_and_group_are_counted),
        TEST(test_what_could_be_counted_is_told), TEST(test_counting_goes_on_until_all_is_answered))
