/* SPDX-License-Identifier: Apache-2.0 */

/* Looks at a small world of hosts and groups, against a scripted AWS. */

#include "agent/act/looker.h"

#include "agent/decide/turn.h"
#include "common/loop.h"
#include "common/parse.h"
#include "tests/unit/fake-aws.h"

#define ARN_PREFIX "arn:aws:ecs:us-east-1:123456789012:container-instance/"
#define TEXT_MAX   200000

static const Target target = {
        .cluster = "prod", .arn = ARN_PREFIX "prod/0", .instance_id = "i-0", .zone = "us-east-1a"
};
static const Policy policy = { .max_sick = 2000, .window = SPAN_MIN(30) };
static const LookOrder order = { .target = &target, .policy = &policy };

/* -- the world: host 0 is ourselves --------------------------------------------------------------------- */

typedef struct Host {
        bool unlisted; /* not on the page of disconnected ones */
        bool connected;
        const char *status; /* NULL: ACTIVE */
        const char *ec2;    /* NULL: i-N */
        const char *group;  /* NULL: web; "": none */
        const char *state;  /* NULL: InService */
        char zone;          /* 'a' if not given */
        int marked;         /* 1: without a time; else minutes ago, plus one */
        int patrolled;      /* the same of a patrol's claim */
        const char *health; /* NULL: HEALTHY */
        const char *told;   /* the group that its attribute names; NULL: it has none */
} Host;

typedef struct World {
        unsigned registered, n;
        Host hosts[110];
        const char *found;     /* NULL: our ARN is known; else what ECS lists for our EC2 id */
        const char *token;     /* of the list */
        const char *lifecycle; /* metadata service; NULL: InService; "": 404 */
        bool spot;
        bool of_peer;             /* the metadata service is not asked */
        const char *cluster_tags; /* NULL: "" */
        const char *group_more;   /* further elements of the group */
        unsigned desired;         /* 0: 20 */
        const char *zones;        /* members of AvailabilityZones; NULL: a and b */
        const char *refreshes;
        const char *activities[4], *tokens[4];
        const char *replaced; /* what ECS lists for the replacement; NULL: it is not asked */
} World;

static char texts[12][TEXT_MAX];
static unsigned n_texts;
static FakeAnswer script[16];
static unsigned n_script;

#define text_append(text, ...) ((void) snprintf((text) + strlen(text), TEXT_MAX - strlen(text), __VA_ARGS__))

static char *text_new(void) {
        char *text = texts[n_texts++ % ELEMENTSOF(texts)];

        text[0] = '\0';
        return text;
}

static FakeAnswer *script_add(const char *action, const char *text) {
        script[n_script] = (FakeAnswer){ .action = action, .text = text };
        return &script[n_script++];
}

static const char *host_ec2(const World *world, unsigned i) {
        static char id[64];

        if (world->hosts[i].ec2)
                return world->hosts[i].ec2;
        (void) snprintf(id, sizeof(id), "i-%x", i);
        return id;
}

static const char *time_ago(Span ago) {
        static char text[FORMAT_TIME_MAX];

        return format_rfc3339(text, wall_add(clock_read().wall, -ago));
}

/** Whether ECS knows anything of host @i. */
static bool is_registered(const World *world, unsigned i) {
        return i > 0 || !world->found || *world->found;
}

static void script_page(const World *world) {
        char *text = NULL;
        unsigned n = 0;

        if (world->found) {
                text = text_new();
                text_append(text, "{\"containerInstanceArns\":[%s]}", world->found);
                script_add("ListContainerInstances", text);
        }
        text = text_new();
        text_append(text, "{\"containerInstanceArns\":[");
        for (unsigned i = 0; i < world->n; i++)
                if (!world->hosts[i].unlisted && is_registered(world, i))
                        text_append(text, "%s\"" ARN_PREFIX "prod/%x\"", n++ > 0 ? "," : "", i);
        text_append(text, "]%s%s%s}", world->token ? ",\"nextToken\":\"" : "",
                world->token ? world->token : "", world->token ? "\"" : "");
        script_add("ListContainerInstances", text);
        if (n == 0 && !is_registered(world, 0))
                return; /* nobody to ask about */
        if (world->token)
                return; /* share is decided */

        text = text_new();
        text_append(text, "{\"containerInstances\":[");
        for (unsigned i = !is_registered(world, 0); i < world->n && i < 100; i++) {
                const Host *host = &world->hosts[i];

                text_append(text,
                        "%s{\"containerInstanceArn\":\"" ARN_PREFIX "prod/%x\",\"ec2InstanceId\":\"%s\","
                        "\"status\":\"%s\",\"agentConnected\":%s,\"attributes\":[",
                        i > !is_registered(world, 0) ? "," : "", i, host_ec2(world, i),
                        host->status ? host->status : "ACTIVE", host->connected ? "true" : "false");
                if (host->marked > 0)
                        text_append(text,
                                "{\"name\":\"ecs-health-agent.incident\",\"value\":\"removing%s%s\"}",
                                host->marked > 1 ? " " : "",
                                host->marked > 1 ? time_ago(SPAN_MIN(host->marked - 1)) : "");
                if (host->patrolled > 0)
                        text_append(text,
                                "%s{\"name\":\"ecs-health-agent.patrol\",\"value\":\"removing %s "
                                "00c0ffee00c0ffee\"}",
                                host->marked > 0 ? "," : "", time_ago(SPAN_MIN(host->patrolled - 1)));
                if (host->told)
                        text_append(text,
                                "%s{\"name\":\"ecs-health-agent.group\",\"value\":\"%016" PRIx64 "\"}",
                                host->marked > 0 || host->patrolled > 0 ? "," : "", turn_id(host->told));
                text_append(text, "]}");
        }
        text_append(text, "],\"failures\":[]}");
        script_add("DescribeContainerInstances", text);
}

static void script_ecs(const World *world) {
        char *text = NULL;

        script_page(world);
        if (world->token)
                return;
        text = text_new();
        text_append(text,
                "{\"clusters\":[{\"clusterName\":\"prod\",\"registeredContainerInstancesCount\":%u,"
                "\"tags\":[%s]}],\"failures\":[]}",
                world->registered, world->cluster_tags ? world->cluster_tags : "");
        script_add("DescribeClusters", text);
}

static void script_members(const World *world, unsigned from, unsigned to) {
        char *text = text_new();

        text_append(text, "<R><DescribeAutoScalingInstancesResult><AutoScalingInstances>");
        for (unsigned i = from; i < to && i < world->n; i++) {
                const Host *host = &world->hosts[i];

                if (host->group && !*host->group)
                        continue;
                text_append(text,
                        "<member><InstanceId>%s</InstanceId><AutoScalingGroupName>%s</AutoScalingGroupName>"
                        "<AvailabilityZone>us-east-1%c</AvailabilityZone><LifecycleState>%s</LifecycleState>"
                        "<HealthStatus>%s</HealthStatus></member>",
                        host_ec2(world, i), host->group ? host->group : "web", host->zone ? host->zone : 'a',
                        host->state ? host->state : "InService", host->health ? host->health : "HEALTHY");
        }
        text_append(text, "</AutoScalingInstances></DescribeAutoScalingInstancesResult></R>");
        script_add("DescribeAutoScalingInstances", text);
}

static void script_group(const World *world) {
        char *text = text_new();

        text_append(text,
                "<R><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>"
                "<AutoScalingGroupName>web</AutoScalingGroupName><DesiredCapacity>%u</DesiredCapacity>"
                "<AvailabilityZones>%s</AvailabilityZones>%s</member></AutoScalingGroups>"
                "</DescribeAutoScalingGroupsResult></R>",
                world->desired ? world->desired : 20,
                world->zones ? world->zones : "<member>us-east-1a</member><member>us-east-1b</member>",
                world->group_more ? world->group_more : "");
        script_add("DescribeAutoScalingGroups", text);
}

static void script_ledger(const World *world, unsigned pages) {
        char *text = text_new();

        text_append(text,
                "<R><DescribeInstanceRefreshesResult><InstanceRefreshes>%s</InstanceRefreshes>"
                "</DescribeInstanceRefreshesResult></R>",
                world->refreshes ? world->refreshes : "");
        script_add("DescribeInstanceRefreshes", text);
        for (unsigned i = 0; i < pages; i++) {
                text = text_new();
                text_append(text,
                        "<R><DescribeScalingActivitiesResult><Activities>%s</Activities>"
                        "<NextToken>%s</NextToken></DescribeScalingActivitiesResult></R>",
                        world->activities[i] ? world->activities[i] : "",
                        world->tokens[i] ? world->tokens[i] : "");
                script_add("DescribeScalingActivities", text);
        }
}

static void script_metadata(const World *world) {
        const char *state = world->lifecycle ? world->lifecycle : "InService";
        FakeAnswer *answer;

        answer = script_add("/latest/meta-data/autoscaling/target-lifecycle-state", state);
        answer->error = *state ? 0 : -ENOENT;
        answer = script_add("/latest/meta-data/spot/instance-action", "{\"action\":\"terminate\"}");
        answer->error = world->spot ? 0 : -ENOENT;
}

/** How far a look at this world is expected to get. */
typedef enum Reach {
        REACH_METADATA,
        REACH_PAGE,
        REACH_MEMBERS,
        REACH_WHOLE,
} Reach;

static void script_world(const World *world, Reach reach) {
        unsigned pages = 1;

        n_script = n_texts = 0;
        if (!world->of_peer)
                script_metadata(world);
        if (reach == REACH_METADATA) {
                n_script--; /* the spot notice is not asked for */
                goto end;
        }
        script_ecs(world);
        if (reach == REACH_PAGE)
                goto end;
        script_members(world, 0, 50);
        if (world->n > 50)
                script_members(world, 50, 100);
        if (reach == REACH_MEMBERS)
                goto end;
        script_group(world);
        while (pages < 2 && world->tokens[pages - 1])
                pages++;
        script_ledger(world, pages);
        if (world->replaced) {
                char *text = text_new();

                text_append(text, "{\"containerInstanceArns\":[%s]}", world->replaced);
                script_add("ListContainerInstances", text);
        }
end:
        script[n_script] = (FakeAnswer){};
}

/* -- looking -------------------------------------------------------------------------------------------- */

static Looker *looker;
static bool ended, with_answer;
static Look look_is;
static char arn_is[256];

static void on_look(const Look *look, const AwsAnswer *answer, void *userdata) {
        EXPECT(userdata == &ended);
        EXPECT(!ended);
        ended = true;
        with_answer = answer != NULL;
        look_is = *look;
        (void) snprintf(arn_is, sizeof(arn_is), "%s", looker_arn(looker));
        looker = looker_free(looker); /* a callback may free its own object */
}

static void look_as(const LookOrder *order_is) {
        ended = false;
        look_is = (Look){ .outcome = OUTCOME_LOST };
        fake_begin(script);
        EXPECT_EQ(looker_new(&looker, fake_event, NULL, NULL), 0);
        EXPECT_EQ(looker_start(looker, order_is, on_look, &ended), 0);
        EXPECT_EQ(looker_start(looker, order_is, on_look, &ended), -EBUSY);
        EXPECT(!ended); /* never from within the function */
        fake_run(&ended);
        EXPECT(ended);
        looker = looker_free(looker);
        fake_end();
}

static void look_with(const Target *own) {
        look_as(&(LookOrder){ .target = own, .policy = &policy });
}

static void look_at(const World *world, Reach reach) {
        script_world(world, reach);
        look_with(&target);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT(!with_answer);
}

static unsigned calls_of(AwsService service) {
        unsigned n = 0;

        for (unsigned i = 0; i < fake_n_asked; i++)
                n += fake_asked[i].service == service;
        return n;
}

/* -- a whole look --------------------------------------------------------------------------------------- */

static void test_look_at_a_lone_sick_host_is_clear(void) {
        World world = { .registered = 40, .n = 1 };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.failed, LOOK_WHOLE);
        EXPECT_EQ(look_is.lifecycle, LIFECYCLE_IN_SERVICE);
        EXPECT(!look_is.spot_notice);
        EXPECT_EQ(look_is.own.outcome, OUTCOME_OK);
        EXPECT(!look_is.own.connected);
        EXPECT_EQ(look_is.own.status, CONTROL_ACTIVE);
        EXPECT_EQ(look_is.cluster.members, 40);
        EXPECT_EQ(look_is.cluster.sick, 1);
        EXPECT_EQ(look_is.group.members, 20);
        EXPECT_EQ(look_is.group.sick, 1);
        EXPECT_EQ(look_is.zone.members, 20);
        EXPECT_EQ(look_is.zone.sick, 1);
        EXPECT_EQ(look_is.connected_peers, 39);
        EXPECT_EQ(look_is.group_size, 20);
        EXPECT(!look_is.share_decided && !look_is.more_than_a_page && !look_is.group_weighted &&
                !look_is.ledger_full);
        EXPECT_EQ(look_is.tag_cluster, SWITCH_ON);
        EXPECT_EQ(look_is.tag_group, SWITCH_ON);
        EXPECT_EQ(look_is.group_state, 0);
        EXPECT_EQ(look_is.removed_window + look_is.removed_day, 0);
        EXPECT_EQ(calls_of(AWS_ECS), 3);
        EXPECT_EQ(calls_of(AWS_AUTO_SCALING), 4);
}

static void test_look_asks_for_what_it_needs_and_no_more(void) {
        World world = { .registered = 40, .n = 2 };

        look_at(&world, REACH_WHOLE);
        EXPECT_STR(fake_body("DescribeClusters", 0), "{\"clusters\":[\"prod\"],\"include\":[\"TAGS\"]}");
        EXPECT_STR(fake_body("ListContainerInstances", 0),
                "{\"cluster\":\"prod\",\"filter\":\"agentConnected == false or "
                "attribute:ecs-health-agent.incident exists or attribute:ecs-health-agent.patrol exists\","
                "\"maxResults\":100}");
        EXPECT_STR(fake_body("DescribeContainerInstances", 0),
                "{\"cluster\":\"prod\",\"containerInstances\":[\"" ARN_PREFIX "prod/0\",\"" ARN_PREFIX
                "prod/1\"]}");
        EXPECT_STR(fake_body("DescribeAutoScalingInstances", 0),
                "InstanceIds.member.1=i-0&InstanceIds.member.2=i-1");
        EXPECT_STR(fake_body("DescribeAutoScalingGroups", 0),
                "AutoScalingGroupNames.member.1=web&IncludeInstances=false");
        for (unsigned i = 0; i < fake_n_asked; i++)
                EXPECT(fake_asked[i].yield);
        EXPECT_STR(fake_body("DescribeInstanceRefreshes", 0), "AutoScalingGroupName=web&MaxRecords=10");
        EXPECT(strstr(fake_body("DescribeScalingActivities", 0),
                "AutoScalingGroupName=web&Filters.member.1.Name=StartTimeLowerBound&Filters.member.1.Values."
                "member.1="));
}

static void test_look_knows_an_arn_of_either_format(void) {
        World world = { .registered = 40, .n = 2 };
        Target old = target;

        (void) snprintf(old.arn, sizeof(old.arn), ARN_PREFIX "0");
        script_world(&world, REACH_WHOLE);
        look_with(&old);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT_EQ(look_is.cluster.sick, 2);
        EXPECT_EQ(look_is.own.outcome, OUTCOME_OK);
}

static void test_look_tells_that_we_are_connected(void) {
        World world = { .registered = 40, .n = 1, .hosts = { { .connected = true, .unlisted = true } } };

        look_at(&world, REACH_WHOLE);
        EXPECT(look_is.own.connected);
        EXPECT_EQ(look_is.cluster.sick, 0);
        EXPECT_EQ(look_is.connected_peers, 39);
}

/* -- ends that come early ------------------------------------------------------------------------------- */

static void test_look_ends_at_a_lifecycle_state_that_forbids_to_act(void) {
        static const struct {
                const char *text;
                Lifecycle lifecycle;
        } cases[] = {
                { "Detached", LIFECYCLE_DETACHED },
                { "Standby\n", LIFECYCLE_STANDBY },
                { "Terminated", LIFECYCLE_TERMINATING },
                { "Warmed:Stopped", LIFECYCLE_WARM },
                { "Hibernating", LIFECYCLE_OTHER },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                World world = { .registered = 40, .n = 1, .lifecycle = cases[i].text };

                look_at(&world, REACH_METADATA);
                EXPECT_EQ(look_is.lifecycle, cases[i].lifecycle);
                EXPECT(look_is.own.outcome != OUTCOME_OK); /* not asked */
                EXPECT_EQ(fake_n_asked, 0);
        }
}

static void test_look_takes_auto_scalings_word_where_the_metadata_service_has_none(void) {
        World world = { .registered = 40, .n = 1, .lifecycle = "" };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.lifecycle, LIFECYCLE_IN_SERVICE);

        world.hosts[0].group = "";
        look_at(&world, REACH_MEMBERS);
        EXPECT_EQ(look_is.lifecycle, LIFECYCLE_NO_GROUP);

        world.hosts[0].group = NULL;
        world.hosts[0].state = "Standby";
        look_at(&world, REACH_MEMBERS);
        EXPECT_EQ(look_is.lifecycle, LIFECYCLE_STANDBY);
}

static void test_look_sees_a_spot_notice(void) {
        World world = { .registered = 40, .n = 1, .spot = true };

        look_at(&world, REACH_WHOLE);
        EXPECT(look_is.spot_notice);
}

static void test_look_asks_no_auto_scaling_when_there_is_more_than_a_page(void) {
        World world = { .registered = 1000, .n = 100, .token = "more" };

        look_at(&world, REACH_PAGE);
        EXPECT(look_is.more_than_a_page && look_is.share_decided);
        EXPECT(brake_share_holds(&look_is, policy.max_sick));
        EXPECT_EQ(look_is.cluster.sick, 100);
        EXPECT_EQ(look_is.cluster.members, 0);     /* not asked */
        EXPECT(look_is.own.outcome != OUTCOME_OK); /* nor that */
        EXPECT_EQ(calls_of(AWS_ECS), 1);
        EXPECT_EQ(calls_of(AWS_AUTO_SCALING), 0);
}

static void test_look_reads_no_group_while_the_clusters_share_holds(void) {
        World world = { .registered = 20, .n = 5 };

        look_at(&world, REACH_MEMBERS);
        EXPECT(look_is.share_decided);
        EXPECT_EQ(look_is.cluster.members, 20);
        EXPECT_EQ(look_is.cluster.sick, 5);
        EXPECT_EQ(look_is.group.sick + look_is.zone.sick, 0); /* not counted against anything */

        world.registered = 25; /* 20 % are not more than 20 % */
        look_at(&world, REACH_WHOLE);
        EXPECT(!look_is.share_decided);
}

/* -- who counts ----------------------------------------------------------------------------------------- */

static void test_orphans_and_ghosts_count_neither_way(void) {
        World world = { .registered = 20,
                .n = 8,
                .hosts = {
                        [1] = { .group = "" }, /* an orphan, or terminated long ago */
                        [2] = { .group = "", .status = "DRAINING" },
                        [3] = { .state = "Terminating:Wait" },
                        [4] = { .state = "Standby", .group = "db" },
                        [5] = { .ec2 = "mi-0123456789abcdef0", .group = "" }, /* external */
                        [6] = { .ec2 = "i-1", .group = "" },                  /* registered a second time */
                } };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.cluster.sick, 2); /* ourselves and the last */
        EXPECT_EQ(look_is.cluster.members, 14);
        EXPECT_EQ(look_is.connected_peers, 12);
        EXPECT(!strstr(fake_body("DescribeAutoScalingInstances", 0), "mi-"));

        for (unsigned i = 1; i < 8; i++)
                world.hosts[i] = (Host){};
        look_at(&world, REACH_MEMBERS); /* the same number, of the living */
        EXPECT(look_is.share_decided);
}

static void test_only_what_ecs_counts_counts(void) {
        World world = { .registered = 20,
                .n = 5,
                .hosts = {
                        [1] = { .status = "DEREGISTERING" },
                        [2] = { .status = "REGISTERING" },
                        [3] = { .connected = true }, /* has come back since the list was made */
                        [4] = { .status = "DRAINING" },
                } };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.cluster.sick, 2);
        EXPECT_EQ(look_is.cluster.members, 20);
        EXPECT_EQ(look_is.connected_peers, 18);
}

static void test_group_and_zone_count_their_own(void) {
        World world = { .registered = 100,
                .n = 6,
                .hosts = {
                        [1] = { .zone = 'b' },
                        [2] = { .group = "db" },
                        [3] = { .group = "db", .zone = 'c' },
                        [4] = { .zone = 'a' },
                        [5] = { .group = "" },
                } };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.cluster.members, 99);
        EXPECT_EQ(look_is.cluster.sick, 5);
        EXPECT_EQ(look_is.group.sick, 3);
        EXPECT_EQ(look_is.group.members, 20);
        EXPECT_EQ(look_is.zone.sick, 3);
        EXPECT_EQ(look_is.zone.members, 33); /* a and b of the group, c of a sick one */
}

static void test_populations_are_never_smaller_than_their_sick(void) {
        World world = {
                .registered = 1,
                .n = 2,
                .desired = 1,
                .zones = "<member>us-east-1a</member><member>us-east-1b</member><member>us-east-1c</member>"
        };

        look_at(&world, REACH_MEMBERS);
        EXPECT_EQ(look_is.cluster.members, 2);

        world.registered = 10;
        world.n = 2;
        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.group.members, 2);
        EXPECT_EQ(look_is.zone.members, 4);
        EXPECT(brake_share_holds(&look_is, policy.max_sick)); /* all two of the group */
}

static void test_a_full_page_takes_two_batches(void) {
        World world = { .registered = 1000, .n = 100 };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.cluster.sick, 100);
        EXPECT_EQ(look_is.group.sick, 100);
        EXPECT_EQ(calls_of(AWS_AUTO_SCALING), 5);
        EXPECT(strstr(fake_body("DescribeAutoScalingInstances", 0), "InstanceIds.member.50=i-31"));
        EXPECT(strstr(fake_body("DescribeAutoScalingInstances", 1), "InstanceIds.member.1=i-32&"));
        EXPECT(!strstr(fake_body("DescribeAutoScalingInstances", 1), "member.51="));
}

static void test_a_full_page_without_ourselves_counts_whole(void) {
        World world = { .registered = 1000, .n = 101, .hosts = { { .unlisted = true } } };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.cluster.sick, 101); /* the last one was not asked about */
        EXPECT_EQ(look_is.cluster.members, 1000);
        EXPECT_EQ(look_is.connected_peers, 899);
        EXPECT(!strstr(fake_body("DescribeContainerInstances", 0), "prod/64\""));
}

static void test_a_host_that_ecs_does_not_know(void) {
        World world = { .registered = 40, .n = 1 };

        script_world(&world, REACH_WHOLE);
        script[3].text = "{\"containerInstances\":[],\"failures\":[{\"arn\":\"" ARN_PREFIX
                         "prod/0\",\"reason\":\"MISSING\"}]}";
        look_with(&target);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT_EQ(look_is.own.outcome, OUTCOME_OK);
        EXPECT_EQ(look_is.own.status, CONTROL_MISSING);
        EXPECT_EQ(look_is.cluster.sick, 0);
}

/** A look of a host that does not know its ARN. */
static void look_unregistered(const World *world, Reach reach) {
        Target unknown = target;

        unknown.arn[0] = '\0';
        script_world(world, reach);
        look_with(&unknown);
}

static void test_a_host_that_never_registered_is_sick_beside_those_that_ecs_counts(void) {
        World world = { .registered = 40, .n = 1, .found = "" };

        look_unregistered(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT_EQ(look_is.own.outcome, OUTCOME_OK);
        EXPECT_EQ(look_is.own.status, CONTROL_MISSING);
        EXPECT(!look_is.own.connected);
        EXPECT_EQ(look_is.cluster.sick, 1);
        EXPECT_EQ(look_is.cluster.members, 41);
        EXPECT_EQ(look_is.group.sick, 1);
        EXPECT_EQ(look_is.group.members, 20);
        EXPECT_EQ(look_is.connected_peers, 40);
        EXPECT_STR(arn_is, "");
        EXPECT_EQ(fake_count("DescribeContainerInstances"), 0);
        EXPECT_EQ(calls_of(AWS_ECS), 3);
        EXPECT_STR(fake_body("ListContainerInstances", 0),
                "{\"cluster\":\"prod\",\"filter\":\"ec2InstanceId=='i-0'\"}");
        EXPECT_STR(fake_body("ListContainerInstances", 1),
                "{\"cluster\":\"prod\",\"filter\":\"agentConnected == false or "
                "attribute:ecs-health-agent.incident exists or attribute:ecs-health-agent.patrol exists\","
                "\"maxResults\":100}");
}

static void test_a_host_that_never_registered_is_stopped_by_sick_peers(void) {
        World world = { .registered = 10, .n = 3, .found = "" };

        look_unregistered(&world, REACH_MEMBERS); /* two peers and ourselves, of eleven */
        EXPECT(look_is.share_decided);
        EXPECT_EQ(look_is.cluster.sick, 3);
        EXPECT_EQ(look_is.cluster.members, 11);
        EXPECT_EQ(calls_of(AWS_ECS), 4);
}

static void test_a_look_finds_us_where_our_arn_is_not_known(void) {
        static const char found[] = "\"" ARN_PREFIX "prod/0\"";
        World sick = { .registered = 40, .n = 1, .found = found };
        World well = { .registered = 40,
                .n = 1,
                .found = found,
                .hosts = { { .connected = true, .unlisted = true } } };

        look_unregistered(&sick, REACH_WHOLE);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT_EQ(look_is.own.status, CONTROL_ACTIVE);
        EXPECT(!look_is.own.connected);
        EXPECT_EQ(look_is.cluster.sick, 1);
        EXPECT_EQ(look_is.cluster.members, 40);
        EXPECT_STR(arn_is, ARN_PREFIX "prod/0");

        look_unregistered(&well, REACH_WHOLE);
        EXPECT(look_is.own.connected);
        EXPECT_EQ(look_is.connected_peers, 39);
        EXPECT_STR(arn_is, ARN_PREFIX "prod/0");
}

static void test_a_look_that_finds_no_single_instance_is_blind(void) {
        static const char *const found[] = { "7", "\"\"", "\"a\",\"b\"" };

        for (size_t i = 0; i < ELEMENTSOF(found); i++) {
                World world = { .registered = 40, .n = 1, .found = found[i] };

                script_world(&world, REACH_PAGE);
                script[3] = (FakeAnswer){}; /* without what comes after */
                look_with(&(Target){ .cluster = "prod", .instance_id = "i-0" });
                EXPECT_EQ(look_is.outcome, OUTCOME_BLIND);
                EXPECT_STR(look_is.action, "ListContainerInstances");
                EXPECT(look_is.own.outcome != OUTCOME_OK);
        }
}

static void test_a_group_that_its_cluster_does_not_hold_never_registered_as_a_whole(void) {
        /* It wants 20; the cluster holds 12; we are one of the other 8. */
        World world = { .registered = 12, .n = 1, .found = "" };

        look_unregistered(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT_EQ(look_is.group.sick, 8);
        EXPECT_EQ(look_is.group.members, 20);
        EXPECT(brake_share_holds(&look_is, policy.max_sick));

        world.desired = 13;
        look_unregistered(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.group.sick, 1);
        EXPECT(!brake_share_holds(&look_is, policy.max_sick));
}

/* -- the group ------------------------------------------------------------------------------------------ */

#define SUSPENDED(members) "<SuspendedProcesses>" members "</SuspendedProcesses>"
#define PROCESS(name)      "<member><ProcessName>" name "</ProcessName></member>"
#define REFRESH(status)    "<member><Status>" status "</Status></member>"

static void test_group_state_is_read(void) {
        static const struct {
                const char *more, *refreshes;
                uint32_t state;
        } cases[] = {
                { SUSPENDED(PROCESS("Launch")), NULL, GROUP_SUSPENDED },
                { SUSPENDED(PROCESS("AZRebalance") PROCESS("ReplaceUnhealthy")), NULL, GROUP_SUSPENDED },
                { SUSPENDED(PROCESS("AZRebalance")), NULL, 0 },
                { "<Status>Delete in progress</Status>", NULL, GROUP_DELETING },
                { "<Status/>", NULL, 0 },
                { "<Operator><Managed>true</Managed><Principal>x</Principal></Operator>", NULL,
                        GROUP_OPERATED },
                { "<Operator><Principal>x</Principal></Operator>", NULL, GROUP_OPERATED },
                { "<Operator><Managed>false</Managed></Operator>", NULL, 0 },
                { NULL, REFRESH("Baking"), GROUP_REFRESHING },
                { NULL, REFRESH("Successful") REFRESH("InProgress"), GROUP_REFRESHING },
                { NULL, REFRESH("Successful") REFRESH("RollbackFailed"), 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                World world = { .registered = 40,
                        .n = 1,
                        .group_more = cases[i].more,
                        .refreshes = cases[i].refreshes };

                look_at(&world, REACH_WHOLE);
                EXPECT_EQ(look_is.group_state, cases[i].state);
        }
}

static void test_tags_switch_off(void) {
        static const struct {
                const char *cluster, *group;
                Switch tag_cluster, tag_group;
        } cases[] = {
                { "{\"key\":\"ecs-health-agent\",\"value\":\"off\"}", NULL, SWITCH_OFF, SWITCH_ON },
                { "{\"key\":\"ecs-health-agent\",\"value\":\"on\"}", "off", SWITCH_ON, SWITCH_OFF },
                { "{\"key\":\"ecs-health-agent\"}", "Off", SWITCH_NOT_UNDERSTOOD, SWITCH_NOT_UNDERSTOOD },
                { "{\"key\":\"Name\",\"value\":\"off\"}", "", SWITCH_ON, SWITCH_NOT_UNDERSTOOD },
                { "{\"key\":\"ecs-health-agent\",\"value\":\"resume\"}", "resume", SWITCH_RESUME,
                        SWITCH_RESUME },
                { NULL, "Resume", SWITCH_ON, SWITCH_NOT_UNDERSTOOD },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char tags[256] = "";
                World world = {
                        .registered = 40, .n = 1, .cluster_tags = cases[i].cluster, .group_more = tags
                };

                if (cases[i].group)
                        (void) snprintf(tags, sizeof(tags),
                                "<Tags><member><Key>Name</Key><Value>off</Value></member>"
                                "<member><Key>ecs-health-agent</Key><Value>%s</Value></member></Tags>",
                                cases[i].group);
                look_at(&world, REACH_WHOLE);
                EXPECT_EQ(look_is.tag_cluster, cases[i].tag_cluster);
                EXPECT_EQ(look_is.tag_group, cases[i].tag_group);
        }
}

#define OVERRIDES(members)                                                                                  \
        "<MixedInstancesPolicy><LaunchTemplate><Overrides>" members                                         \
        "</Overrides></LaunchTemplate></MixedInstancesPolicy>"
#define OVERRIDE(weight)                                                                                    \
        "<member><InstanceType>m5.large</InstanceType><WeightedCapacity>" weight                            \
        "</WeightedCapacity></member>"

static void test_a_weighted_group_is_taken_for_its_smallest_size(void) {
        static const struct {
                const char *more;
                bool weighted;
                uint32_t size, members;
        } cases[] = {
                { OVERRIDES(OVERRIDE("1") OVERRIDE("1")), false, 20, 20 },
                { OVERRIDES("<member><InstanceType>m5.large</InstanceType></member>"), false, 20, 20 },
                { OVERRIDES(OVERRIDE("2") OVERRIDE("8")), true, 2, 2 },
                { "<DesiredCapacityType>units</DesiredCapacityType>", false, 20, 20 },
                { "<DesiredCapacityType/>", false, 20, 20 },
                { "<DesiredCapacityType>vcpu</DesiredCapacityType>", true, 0, 1 },
                { "<DesiredCapacityType>memory-mib</DesiredCapacityType>", true, 0, 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                World world = { .registered = 40, .n = 1, .group_more = cases[i].more };

                look_at(&world, REACH_WHOLE);
                EXPECT_EQ(look_is.group_weighted, cases[i].weighted);
                EXPECT_EQ(look_is.group_size, cases[i].size);
                EXPECT_EQ(look_is.group.members, cases[i].members);
        }
}

/* -- the ledger ----------------------------------------------------------------------------------------- */

static void activity(char *text, const char *description, const char *cause, Span ago, const char *status) {
        text_append(text,
                "<member><Description>%s</Description><Cause>%s</Cause><StartTime>%s</StartTime>"
                "<StatusCode>%s</StatusCode></member>",
                description, cause, time_ago(ago), status);
}

static char activities[2][TEXT_MAX];

static void test_removals_are_counted_once_each(void) {
        World world = { .registered = 100, .n = 1, .activities = { activities[0] }, .replaced = "" };
        char *text = activities[0];

        text[0] = '\0';
        activity(text, "Detaching EC2 instance: i-a1", "", SPAN_MIN(5), "Successful");
        activity(text, "Detaching EC2 instance: i-a1", "", SPAN_MIN(50), "Successful");
        activity(text, "Moving EC2 instance to Standby: i-a2", "", SPAN_MIN(29), "InProgress");
        activity(text, "Terminating EC2 instance: i-a3",
                "out of service in response to an EC2 health check.", SPAN_MIN(31), "Successful");
        activity(text, "Terminating EC2 instance: i-a4", "out of service in response to a user request.",
                SPAN_MIN(1), "Successful");
        activity(text, "Detaching EC2 instance: i-0", "", SPAN_MIN(2), "Failed");
        activity(text, "Detaching EC2 instance: i-0", "", SPAN_MIN(3), "Successful"); /* ourselves */
        activity(text, "Launching a new EC2 instance: i-a5", "", SPAN_MIN(4), "Successful");
        activity(text, "Detaching EC2 instance: i-a6", "", SPAN_HOUR(25), "Successful");
        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.removed_window, 2);
        EXPECT_EQ(look_is.removed_day, 3);
        EXPECT_EQ(look_is.group_state, 0);
        EXPECT(!look_is.ledger_full);
}

static void test_marks_of_peers_are_removals(void) {
        World world = { .registered = 200, .n = 10, .hosts = {
                [0] = { .marked = 3 },                    /* ourselves */
                [1] = { .marked = 11 },                   /* ten minutes ago */
                [2] = { .marked = 42 },
                [3] = { .marked = 1 },                    /* no telling when */
                [4] = { .marked = 11, .group = "db" },
                [5] = { .marked = 11, .group = "" },      /* long enough gone for the activities to show it */
                [6] = { .marked = 3, .group = "" },       /* these may lag */
                [7] = { .marked = 11 },                   /* among the activities too */
                [8] = { .marked = 3, .state = "Detaching" },
                [9] = { .connected = false },
        }, .activities = { activities[0] } };

        activities[0][0] = '\0';
        activity(activities[0], "Detaching EC2 instance: i-7", "", SPAN_MIN(9), "Successful");
        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.removed_window, 5); /* 1, 3, 6, 7, 8 */
        EXPECT_EQ(look_is.removed_day, 6);
        EXPECT_EQ(look_is.removed_cluster, 7); /* and 4, 5 */
        EXPECT_EQ(look_is.removed_hour, 8);    /* and 2 */
        EXPECT_EQ(look_is.n_removed_ours, 5);
        EXPECT_EQ(look_is.n_removed, 7);
        for (unsigned i = 0; i < 5; i++)
                EXPECT(look_is.removed[i] != turn_id("i-4") && look_is.removed[i] != turn_id("i-5"));
        EXPECT_EQ(look_is.replacement, REPLACEMENT_PENDING); /* 6 and 8 have only just gone */
}

static void test_a_claim_counts_whoever_made_it_and_the_newer_one(void) {
        World world = { .registered = 200,
                .n = 5,
                .hosts = {
                        [0] = { .patrolled = 3 }, /* ourselves */
                        [1] = { .patrolled = 11 },
                        [2] = { .marked = 42, .patrolled = 11 },
                        [3] = { .marked = 11, .patrolled = 42 },
                        [4] = { .marked = 42, .patrolled = 52 },
                } };

        look_at(&world, REACH_WHOLE);
        EXPECT(look_is.own.patrolled && look_is.own.patrolled_by == UINT64_C(0x00c0ffee00c0ffee));
        EXPECT_EQ(look_is.removed_window, 3); /* 1, 2, 3 */
        EXPECT_EQ(look_is.removed_hour, 4);
}

static void test_a_claimed_host_that_has_reconnected_counts_as_removed_and_not_as_sick(void) {
        World world = { .registered = 100, .n = 5, .hosts = {
                [1] = { .connected = true, .marked = 6 },
                [2] = { .connected = true, .patrolled = 6, .group = "" },
                [3] = { .connected = true, .marked = 6, .group = "db", .ec2 = "i-3" },
                [4] = { .connected = true, .marked = 6, .ec2 = "mi-4" }, /* no EC2 instance */
        }, .replaced = NULL };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.cluster.sick, 1);
        EXPECT_EQ(look_is.cluster.members, 100);
        EXPECT_EQ(look_is.group.sick, 1);
        EXPECT_EQ(look_is.connected_peers, 99);
        EXPECT_EQ(look_is.n_sick, 1);
        EXPECT_EQ(look_is.n_outside, 0);
        EXPECT_EQ(look_is.removed_window, 1);
        EXPECT_EQ(look_is.removed_cluster, 3);

        world = (World){ .registered = 100, .n = 2, .hosts = { [1] = { .connected = true } } };
        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.removed_cluster, 0); /* listed while it was down, and not claimed */
        EXPECT_EQ(look_is.cluster.sick, 1);
}

/* Out of its group, nothing at Auto Scaling tells whose it was: it does itself. */
static void test_a_claimed_host_tells_which_group_it_was_of(void) {
        World world = { .registered = 100,
                .n = 4,
                .hosts = {
                        [1] = { .group = "", .marked = 2, .told = "db" },
                        [2] = { .group = "", .marked = 11, .told = "web" },
                        [3] = { .group = "", .marked = 11 },
                } };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.removed_window, 1);
        EXPECT_EQ(look_is.removed_cluster, 3);
        EXPECT_EQ(look_is.replacement, REPLACEMENT_NONE);

        world.hosts[1].told = NULL; /* so new, and not known: it may be ours */
        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.removed_window, 2);
        EXPECT_EQ(look_is.replacement, REPLACEMENT_PENDING);
}

static void test_a_filter_that_ecs_refuses_is_replaced_by_the_plain_one(void) {
        World world = { .registered = 40, .n = 2 };

        script_world(&world, REACH_WHOLE);
        memmove(&script[3], &script[2], (n_script - 2 + 1) * sizeof(script[0]));
        script[2] = (FakeAnswer){ "ListContainerInstances", .outcome = AWS_REFUSED };
        look_with(&target);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT_EQ(look_is.cluster.sick, 2);
        EXPECT_STR(fake_body("ListContainerInstances", 1),
                "{\"cluster\":\"prod\",\"filter\":\"agentConnected==false\",\"maxResults\":100}");

        /* But only once, and for no other reason. */
        script_world(&world, REACH_WHOLE);
        script[2] = (FakeAnswer){ "ListContainerInstances", .outcome = AWS_REFUSED };
        script[3] = (FakeAnswer){ "ListContainerInstances", .outcome = AWS_REFUSED };
        script[4] = (FakeAnswer){};
        look_with(&target);
        EXPECT_EQ(look_is.outcome, OUTCOME_REFUSED);
        script_world(&world, REACH_WHOLE);
        script[2] = (FakeAnswer){ "ListContainerInstances", .outcome = AWS_THROTTLED };
        script[3] = (FakeAnswer){};
        look_with(&target);
        EXPECT_EQ(look_is.outcome, OUTCOME_THROTTLED);
}

static void test_a_look_tells_that_the_group_calls_us_unhealthy(void) {
        World world = { .registered = 40, .n = 2, .hosts = { [0] = { .health = "UNHEALTHY" } } };

        look_at(&world, REACH_WHOLE);
        EXPECT(look_is.unhealthy);
        world.hosts[0].health = "Healthy";
        world.hosts[1].health = "UNHEALTHY"; /* not our concern */
        look_at(&world, REACH_WHOLE);
        EXPECT(!look_is.unhealthy);
}

/* -- by the eyes of a peer ------------------------------------------------------------------------------ */

static const Target finder = {
        .cluster = "prod", .arn = ARN_PREFIX "prod/f", .instance_id = "i-f", .group = "web"
};
static const LookOrder peers_order = { .target = &target, .policy = &policy, .own = &finder };

static void look_at_peer(const World *world, Reach reach) {
        script_world(world, reach);
        look_as(&peers_order);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT(look_is.of_peer);
}

static void test_a_peers_look_is_its_own_without_the_metadata_service(void) {
        World world = { .registered = 40,
                .n = 3,
                .of_peer = true,
                .hosts = {
                        [0] = { .patrolled = 2, .marked = 20 },
                        [2] = { .marked = 11 },
                } };

        look_at_peer(&world, REACH_WHOLE);
        EXPECT(!look_is.another_group);
        EXPECT(look_is.self == turn_id("i-0"));
        EXPECT_EQ(look_is.lifecycle, LIFECYCLE_IN_SERVICE);
        EXPECT_EQ(look_is.cluster.sick, 3);
        EXPECT_EQ(look_is.group.sick, 3);
        EXPECT_EQ(look_is.n_sick_ours, 3);
        EXPECT(look_is.own.marked && look_is.own.patrolled);
        EXPECT_EQ(look_is.removed_window, 1); /* and not the peer itself */
        EXPECT_EQ(look_is.connected_peers, 37);

        world.of_peer = false;
        look_at(&world, REACH_WHOLE);
        EXPECT(!look_is.of_peer);
}

static void test_a_peer_of_another_group_is_not_judged(void) {
        World world = { .registered = 40, .n = 2, .of_peer = true, .hosts = { [0] = { .group = "db" } } };
        Target nowhere = finder;

        look_at_peer(&world, REACH_MEMBERS);
        EXPECT(look_is.another_group);

        world.hosts[0].group = "web";
        nowhere.group[0] = '\0';
        script_world(&world, REACH_MEMBERS);
        look_as(&(LookOrder){ .target = &target, .policy = &policy, .own = &nowhere });
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT(look_is.another_group); /* as far as we know */
}

static void test_a_peer_in_no_group_ends_the_look(void) {
        World world = { .registered = 40, .n = 2, .of_peer = true, .hosts = { [0] = { .group = "" } } };

        look_at_peer(&world, REACH_MEMBERS);
        EXPECT_EQ(look_is.lifecycle, LIFECYCLE_NO_GROUP);
        EXPECT(!look_is.another_group);
}

static void test_a_look_at_a_peer_needs_its_arn_and_memory(void) {
        Target unregistered = target;
        const LookOrder wrong = { .target = &unregistered, .policy = &policy, .own = &finder };

        unregistered.arn[0] = '\0';
        fake_begin(NULL);
        EXPECT_EQ(looker_new(&looker, fake_event, NULL, NULL), 0);
        EXPECT_EQ(looker_start(looker, &wrong, on_look, &ended), -EINVAL);
        fake_refuse = -ENOMEM;
        EXPECT_EQ(looker_start(looker, &peers_order, on_look, &ended), -ENOMEM);
        looker = looker_free(looker);
        fake_end();
}

static void test_the_sick_are_told_apart_by_name(void) {
        World world = { .registered = 200,
                .n = 7,
                .hosts = {
                        [1] = { .group = "db" },
                        [2] = { .zone = 'b' },
                        [3] = { .group = "" },
                        [4] = { .state = "Standby" },
                        [5] = { .group = "db", .state = "Detaching" },
                        [6] = { .connected = true },
                } };

        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.self, turn_id("i-0"));
        EXPECT_EQ(look_is.n_sick, 3);
        EXPECT_EQ(look_is.n_sick_ours, 2);
        EXPECT(look_is.sick[0] == turn_id("i-0") && look_is.sick[1] == turn_id("i-2") &&
                look_is.sick[2] == turn_id("i-1"));
        EXPECT_EQ(look_is.n_outside, 3);
        EXPECT(look_is.outside[0] == turn_id("i-4"));
}

static void test_the_window_is_known_to_free(void) {
        World world = { .registered = 100, .n = 1, .activities = { activities[0] }, .replaced = "" };
        Span left;

        activities[0][0] = '\0';
        activity(activities[0], "Launching a new EC2 instance: i-b1", "", SPAN_MIN(1), "Successful");
        activity(activities[0], "Detaching EC2 instance: i-a1", "", SPAN_MIN(5), "Successful");
        activity(activities[0], "Detaching EC2 instance: i-a2", "", SPAN_MIN(20), "Successful");
        activity(activities[0], "Detaching EC2 instance: i-a3", "", SPAN_MIN(40), "Successful");
        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.removed_window, 2);
        left = wall_since(look_is.window_frees, clock_read().wall);
        EXPECT(left > SPAN_MIN(9) && left < SPAN_MIN(11));

        world = (World){ .registered = 100, .n = 1 };
        look_at(&world, REACH_WHOLE);
        EXPECT(!wall_is_set(look_is.window_frees));
}

static void test_a_replacement_counts_once_it_is_connected(void) {
        static const char gone[] = "Detaching EC2 instance: i-a1",
                          new[] = "Launching a new EC2 instance: i-b1";
        static const struct {
                const char *name;
                struct {
                        const char *description, *status;
                        int ago;
                } list[4];
                const char *sick;     /* a second instance on the page */
                const char *replaced; /* ECS's list; NULL: not asked */
                Replacement is;
        } cases[] = {
                { "nothing was removed", { { new, "Successful", 5 } }, NULL, NULL, REPLACEMENT_NONE },
                { "no launch yet", { { gone, "Successful", 5 } }, NULL, NULL, REPLACEMENT_PENDING },
                { "none is to come", { { gone, "Successful", 70 } }, NULL, NULL, REPLACEMENT_NONE },
                { "a launch before it is none for it",
                        { { gone, "Successful", 5 }, { new, "Successful", 6 } }, NULL, NULL,
                        REPLACEMENT_PENDING },
                { "being launched", { { new, "PreInService", 3 }, { gone, "Successful", 5 } }, NULL, NULL,
                        REPLACEMENT_PENDING },
                { "not registered", { { new, "Successful", 3 }, { gone, "Successful", 5 } }, NULL, "",
                        REPLACEMENT_PENDING },
                { "registered", { { new, "Successful", 3 }, { gone, "Successful", 5 } }, NULL,
                        "\"" ARN_PREFIX "prod/b1\"", REPLACEMENT_CONNECTED },
                { "registered and disconnected", { { new, "Successful", 3 }, { gone, "Successful", 5 } },
                        "i-b1", NULL, REPLACEMENT_PENDING },
                { "ill long after", { { new, "Successful", 90 }, { gone, "Successful", 92 } }, "i-b1", NULL,
                        REPLACEMENT_CONNECTED },
                { "gone again",
                        { { "Terminating EC2 instance: i-b1", "InProgress", 1 }, { new, "Successful", 3 },
                                { gone, "Successful", 5 } },
                        NULL, NULL, REPLACEMENT_NONE },
                { "the newest launch failed",
                        { { "Launching a new EC2 instance.  Status Reason: x", "Failed", 2 },
                                { new, "Successful", 3 }, { gone, "Successful", 5 } },
                        NULL, NULL, REPLACEMENT_FAILED },
                { "an older one failed",
                        { { new, "Successful", 3 },
                                { "Launching a new EC2 instance.  Status Reason: x", "Failed", 4 },
                                { gone, "Successful", 5 } },
                        NULL, "\"" ARN_PREFIX "prod/b1\"", REPLACEMENT_CONNECTED },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                World world = { .registered = 100,
                        .n = cases[i].sick ? 2 : 1,
                        .activities = { activities[0] },
                        .replaced = cases[i].replaced };

                activities[0][0] = '\0';
                for (size_t k = 0; k < 4 && cases[i].list[k].description; k++)
                        activity(activities[0], cases[i].list[k].description, "",
                                SPAN_MIN(cases[i].list[k].ago), cases[i].list[k].status);
                world.hosts[1].ec2 = cases[i].sick;
                look_at(&world, REACH_WHOLE);
                EXPECT_EQ(look_is.replacement, cases[i].is);
                if (look_is.replacement != cases[i].is)
                        printf("# %s\n", cases[i].name);
                EXPECT_EQ(calls_of(AWS_ECS), cases[i].replaced ? 4 : 3);
        }
}

static void test_a_replacement_that_cannot_be_asked_about_is_blindness(void) {
        World world = { .registered = 100, .n = 1, .activities = { activities[0] }, .replaced = "1" };

        activities[0][0] = '\0';
        activity(activities[0], "Launching a new EC2 instance: i-b1", "", SPAN_MIN(3), "Successful");
        activity(activities[0], "Detaching EC2 instance: i-a1", "", SPAN_MIN(5), "Successful");
        script_world(&world, REACH_WHOLE);
        look_with(&target);
        EXPECT_EQ(look_is.outcome, OUTCOME_BLIND);
}

static void test_a_young_replacement_knows_itself(void) {
        static const struct {
                int launched, removed; /* minutes ago */
                bool young;
        } cases[] = {
                { 30, 40, true }, { 59, 100, true }, { 61, 100, false }, /* no longer young */
                { 30, 100, false }, /* that long after, it is no replacement */
                { 30, 20, false },  /* it was there before */
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                World world = { .registered = 100, .n = 1, .activities = { activities[0] } };

                activities[0][0] = '\0';
                activity(activities[0], "Launching a new EC2 instance: i-0", "", SPAN_MIN(cases[i].launched),
                        "Successful");
                activity(activities[0], "Detaching EC2 instance: i-a1", "", SPAN_MIN(cases[i].removed),
                        "Successful");
                look_at(&world, REACH_WHOLE);
                EXPECT_EQ(look_is.young, cases[i].young);
        }
}

static void test_a_whole_look_reads_on_although_share_holds(void) {
        World world = { .registered = 10, .n = 3, .desired = 10 };

        script_world(&world, REACH_WHOLE);
        ended = false;
        fake_begin(script);
        EXPECT_EQ(looker_new(&looker, fake_event, NULL, NULL), 0);
        EXPECT_EQ(looker_start(looker, &(LookOrder){ &target, &policy, true, NULL }, on_look, &ended), 0);
        fake_run(&ended);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT(!look_is.share_decided);
        EXPECT_EQ(look_is.group.sick, 3);
        EXPECT_EQ(look_is.group_size, 10);
        fake_end();
}

static void test_a_scale_in_under_way_is_seen(void) {
        static const char shrinking[] =
                "out of service in response to a difference between desired and actual capacity";
        World world = { .registered = 100, .n = 1, .activities = { activities[0] } };

        activities[0][0] = '\0';
        activity(activities[0], "Terminating EC2 instance: i-a1", shrinking, SPAN_MIN(5), "InProgress");
        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.group_state, GROUP_MOVING);
        EXPECT_EQ(look_is.removed_day, 0);

        activities[0][0] = '\0';
        activity(activities[0], "Terminating EC2 instance: i-a1", shrinking, SPAN_MIN(5), "Successful");
        look_at(&world, REACH_WHOLE);
        EXPECT_EQ(look_is.group_state, 0);
}

static void test_more_activities_than_are_read_count_as_full(void) {
        World world = { .registered = 100,
                .n = 1,
                .activities = { activities[0], activities[1] },
                .tokens = { "first+/=", NULL } };

        activities[0][0] = activities[1][0] = '\0';
        activity(activities[0], "Detaching EC2 instance: i-a1", "", SPAN_MIN(5), "Successful");
        activity(activities[1], "Detaching EC2 instance: i-a2", "", SPAN_MIN(6), "Successful");
        look_at(&world, REACH_WHOLE);
        EXPECT(!look_is.ledger_full);
        EXPECT_EQ(look_is.removed_window, 2);
        EXPECT_EQ(calls_of(AWS_AUTO_SCALING), 5);
        EXPECT(strstr(fake_body("DescribeScalingActivities", 1), "&NextToken=first+/="));
        /* The same question, or the token does not fit. */
        EXPECT(strncmp(fake_body("DescribeScalingActivities", 1), fake_body("DescribeScalingActivities", 0),
                       strlen(fake_body("DescribeScalingActivities", 0))) == 0);

        world.tokens[1] = "second";
        look_at(&world, REACH_WHOLE);
        EXPECT(look_is.ledger_full);
        EXPECT_EQ(calls_of(AWS_AUTO_SCALING), 5);
}

static void test_activities_older_than_a_day_are_not_paged_through(void) {
        World world = { .registered = 100, .n = 1, .activities = { activities[0] } };

        activities[0][0] = '\0';
        activity(activities[0], "Detaching EC2 instance: i-a1", "", SPAN_HOUR(30), "Successful");
        script_world(&world, REACH_WHOLE);
        world.tokens[0] = "more"; /* the answer has a token, but there is no row for a second page */
        n_script -= 2;
        script_ledger(&world, 1);
        script[n_script] = (FakeAnswer){};
        look_with(&target);
        EXPECT_EQ(look_is.outcome, OUTCOME_OK);
        EXPECT(!look_is.ledger_full);
        EXPECT_EQ(look_is.removed_day, 0);
}

static void test_two_batches_leave_room_for_two_pages(void) {
        World world = { .registered = 1000, .n = 60, .tokens = { "first", "second" } };

        look_at(&world, REACH_WHOLE);
        EXPECT(look_is.ledger_full);
        EXPECT_EQ(calls_of(AWS_AUTO_SCALING), 6);
}

/* -- failures ------------------------------------------------------------------------------------------- */

static void test_a_read_that_fails_ends_the_look(void) {
        static const struct {
                const char *action;
                LookPart part;
        } rows[] = {
                { "ListContainerInstances", LOOK_ECS },
                { "DescribeContainerInstances", LOOK_ECS },
                { "DescribeClusters", LOOK_ECS },
                { "DescribeAutoScalingInstances", LOOK_AUTO_SCALING },
                { "DescribeAutoScalingGroups", LOOK_AUTO_SCALING },
                { "DescribeInstanceRefreshes", LOOK_AUTO_SCALING },
                { "DescribeScalingActivities", LOOK_AUTO_SCALING },
        };
        static const struct {
                AwsOutcome aws;
                Outcome is;
        } ends[] = {
                { AWS_DENIED, OUTCOME_DENIED },
                { AWS_THROTTLED, OUTCOME_THROTTLED },
                { AWS_UNAVAILABLE, OUTCOME_UNAVAILABLE },
                { AWS_GARBLED, OUTCOME_BLIND },
                { AWS_REFUSED, OUTCOME_REFUSED },
        };
        World world = { .registered = 40, .n = 1 };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t k = 0; k < ELEMENTSOF(ends); k++) {
                        script_world(&world, REACH_WHOLE);
                        script[2 + i].outcome = ends[k].aws;
                        script[2 + i + 1] = (FakeAnswer){};
                        if (i == 0 && ends[k].aws == AWS_REFUSED) { /* the plain filter is refused as well */
                                script[2 + i + 1] = script[2 + i];
                                script[2 + i + 2] = (FakeAnswer){};
                        }
                        look_with(&target);
                        EXPECT_EQ(look_is.outcome, ends[k].is);
                        EXPECT_EQ(look_is.failed, rows[i].part);
                        EXPECT_STR(look_is.action, rows[i].action);
                        EXPECT(with_answer);
                        EXPECT_EQ(look_is.lifecycle, LIFECYCLE_IN_SERVICE); /* what was learned is kept */
                }
}

static void test_an_answer_without_sense_is_blindness(void) {
        static const struct {
                unsigned row;
                const char *text;
        } cases[] = {
                { 4, "{}" },
                { 4, "{\"clusters\":[],\"failures\":[{\"reason\":\"MISSING\"}]}" },
                { 4, "{\"clusters\":[{\"registeredContainerInstancesCount\":\"40\"}]}" },
                { 4, "{\"clusters\":[{\"registeredContainerInstancesCount\":-1}]}" },
                { 4, "{\"clusters\":[{\"registeredContainerInstancesCount\":40,\"tags\":{}}]}" },
                { 2, "{}" },
                { 2, "{\"containerInstanceArns\":[1]}" },
                { 2, "{\"containerInstanceArns\":[\"\"]}" },
                { 3, "{}" },
                { 3, "{\"containerInstances\":[]}" },
                { 3, "{\"containerInstances\":[{}]}" },
                { 3, "{\"containerInstances\":[{\"containerInstanceArn\":\"" ARN_PREFIX "prod/0\"}]}" },
                { 3, "{\"containerInstances\":[],\"failures\":[{\"arn\":\"x\",\"reason\":\"BUSY\"}]}" },
                { 5, "<html/>" },
                { 5, "<R><DescribeAutoScalingInstancesResult/></R>" },
                { 5, "<R><DescribeAutoScalingInstancesResult><AutoScalingInstances/><NextToken>more</"
                     "NextToken>"
                     "</DescribeAutoScalingInstancesResult></R>" },
                { 5, "<R><DescribeAutoScalingInstancesResult><AutoScalingInstances><member/></"
                     "AutoScalingInstances>"
                     "</DescribeAutoScalingInstancesResult></R>" },
                { 5, "<R><DescribeAutoScalingInstancesResult><AutoScalingInstances><member><InstanceId>i-0</"
                     "InstanceId>"
                     "</member></AutoScalingInstances></DescribeAutoScalingInstancesResult></R>" },
                { 6, "<R><DescribeAutoScalingGroupsResult><AutoScalingGroups/></"
                     "DescribeAutoScalingGroupsResult></R>" },
                { 6, "<R><DescribeAutoScalingGroupsResult><AutoScalingGroups><member><AutoScalingGroupName>"
                     "db"
                     "</AutoScalingGroupName><DesiredCapacity>2</DesiredCapacity></member></"
                     "AutoScalingGroups>"
                     "</DescribeAutoScalingGroupsResult></R>" },
                { 6, "<R><DescribeAutoScalingGroupsResult><AutoScalingGroups><member><AutoScalingGroupName>"
                     "web"
                     "</AutoScalingGroupName><DesiredCapacity>many</DesiredCapacity></member></"
                     "AutoScalingGroups>"
                     "</DescribeAutoScalingGroupsResult></R>" },
                { 7, "<R/>" },
                { 7, "<R><DescribeInstanceRefreshesResult><InstanceRefreshes><member/></InstanceRefreshes>"
                     "</DescribeInstanceRefreshesResult></R>" },
                { 8, "<R/>" },
                { 8, "<R><DescribeScalingActivitiesResult><Activities><member/></Activities>"
                     "</DescribeScalingActivitiesResult></R>" },
        };
        World world = { .registered = 40, .n = 1 };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                script_world(&world, REACH_WHOLE);
                script[cases[i].row].text = cases[i].text;
                script[cases[i].row + 1] = (FakeAnswer){};
                look_with(&target);
                EXPECT_EQ(look_is.outcome, OUTCOME_BLIND);
                EXPECT_STR(look_is.action, script[cases[i].row].action);
        }
}

static void test_a_silent_metadata_service_ends_the_look(void) {
        World world = { .registered = 40, .n = 1 };

        script_world(&world, REACH_METADATA);
        script[0].error = -ETIMEDOUT;
        look_with(&target);
        EXPECT_EQ(look_is.outcome, OUTCOME_UNAVAILABLE);
        EXPECT_EQ(look_is.failed, LOOK_METADATA);
        EXPECT_STR(look_is.action, "autoscaling/target-lifecycle-state");
        EXPECT(!with_answer);

        script_world(&world, REACH_WHOLE);
        script[1].error = -EAGAIN;
        script[2] = (FakeAnswer){};
        look_with(&target);
        EXPECT_EQ(look_is.outcome, OUTCOME_UNAVAILABLE);
        EXPECT_STR(look_is.action, "spot/instance-action");
}

static void test_a_read_that_cannot_be_sent_ends_the_look(void) {
        World world = { .registered = 40, .n = 1 };

        for (unsigned i = 0; i < 7; i++) {
                script_world(&world, REACH_WHOLE);
                script[2 + i] = (FakeAnswer){};
                ended = false;
                fake_begin(script);
                fake_refuse = -ENOMEM;
                fake_refuse_after = i;
                EXPECT_EQ(looker_new(&looker, fake_event, NULL, NULL), 0);
                EXPECT_EQ(looker_start(looker, &order, on_look, &ended), 0);
                fake_run(&ended);
                EXPECT(ended);
                EXPECT_EQ(look_is.outcome, OUTCOME_UNAVAILABLE);
                EXPECT(!with_answer);
                looker = looker_free(looker);
                fake_end();
        }
}

static void test_a_look_can_be_stopped_at_any_point_and_started_again(void) {
        World world = { .registered = 40, .n = 1 };

        for (unsigned steps = 0; steps < 9; steps++) {
                script_world(&world, REACH_WHOLE);
                ended = false;
                fake_begin(script);
                EXPECT_EQ(looker_new(&looker, fake_event, NULL, NULL), 0);
                EXPECT_EQ(looker_start(looker, &order, on_look, &ended), 0);
                for (unsigned i = 0; i < steps; i++)
                        EXPECT(sd_event_run(fake_event, 0) > 0);
                looker_stop(looker);
                fake_run(&ended);
                EXPECT(!ended);

                fake_used = 0;
                EXPECT_EQ(looker_start(looker, &order, on_look, &ended), 0);
                fake_run(&ended);
                EXPECT(ended);
                EXPECT_EQ(look_is.outcome, OUTCOME_OK);
                EXPECT_EQ(look_is.cluster.sick, 1);
                looker = looker_free(looker);
                fake_end();
        }
}

static unsigned n_again;

static void on_look_again(const Look *look, const AwsAnswer *answer, void *userdata) {
        (void) answer;
        EXPECT_EQ(look->outcome, OUTCOME_OK);
        EXPECT_EQ(look->removed_window, 1);
        fake_used = 0;
        if (++n_again < 3)
                EXPECT_EQ(looker_start(looker, &order, on_look_again, userdata), 0);
        else
                *(bool *) userdata = true;
}

static void test_a_look_may_start_the_next_from_its_callback(void) {
        World world = { .registered = 40, .n = 1, .activities = { activities[0] } };
        bool over = false;

        activities[0][0] = '\0';
        /* Without an id each is another one: what a look remembers of the one before would show. */
        activity(activities[0], "Detaching EC2 instance", "", SPAN_MIN(5), "Successful");
        script_world(&world, REACH_WHOLE);
        n_again = 0;
        fake_begin(script);
        EXPECT_EQ(looker_new(&looker, fake_event, NULL, NULL), 0);
        EXPECT_EQ(looker_start(looker, &order, on_look_again, &over), 0);
        fake_run(&over);
        EXPECT_EQ(n_again, 3);
        looker = looker_free(looker);
        fake_used = UINT32_MAX;
        fake_end();
}

static void test_a_look_needs_to_know_who_we_are(void) {
        Target nobody = { .cluster = "prod" }, nowhere = { .instance_id = "i-0" };

        fake_begin(NULL);
        EXPECT_EQ(looker_new(&looker, fake_event, NULL, NULL), 0);
        EXPECT_EQ(looker_start(looker, &(LookOrder){ &nobody, &policy, false, NULL }, on_look, &ended),
                -EINVAL);
        EXPECT_EQ(looker_start(looker, &(LookOrder){ &nowhere, &policy, false, NULL }, on_look, &ended),
                -EINVAL);
        looker = looker_free(looker);
        fake_end();
}

TEST_MAIN(TEST(test_look_at_a_lone_sick_host_is_clear), TEST(test_look_asks_for_what_it_needs_and_no_more),
        TEST(test_look_knows_an_arn_of_either_format), TEST(test_look_tells_that_we_are_connected),
        TEST(test_look_ends_at_a_lifecycle_state_that_forbids_to_act),
        TEST(test_look_takes_auto_scalings_word_where_the_metadata_service_has_none),
        TEST(test_look_sees_a_spot_notice),
        TEST(test_look_asks_no_auto_scaling_when_there_is_more_than_a_page),
        TEST(test_look_reads_no_group_while_the_clusters_share_holds),
        TEST(test_orphans_and_ghosts_count_neither_way), TEST(test_only_what_ecs_counts_counts),
        TEST(test_group_and_zone_count_their_own), TEST(test_populations_are_never_smaller_than_their_sick),
        TEST(test_a_full_page_takes_two_batches), TEST(test_a_full_page_without_ourselves_counts_whole),
        TEST(test_a_host_that_ecs_does_not_know),
        TEST(test_a_host_that_never_registered_is_sick_beside_those_that_ecs_counts),
        TEST(test_a_host_that_never_registered_is_stopped_by_sick_peers),
        TEST(test_a_look_finds_us_where_our_arn_is_not_known),
        TEST(test_a_look_that_finds_no_single_instance_is_blind),
        TEST(test_a_group_that_its_cluster_does_not_hold_never_registered_as_a_whole),
        TEST(test_group_state_is_read), TEST(test_tags_switch_off),
        TEST(test_a_weighted_group_is_taken_for_its_smallest_size),
        TEST(test_removals_are_counted_once_each), TEST(test_marks_of_peers_are_removals),
        TEST(test_a_claim_counts_whoever_made_it_and_the_newer_one),
        TEST(test_a_claimed_host_that_has_reconnected_counts_as_removed_and_not_as_sick),
        TEST(test_a_claimed_host_tells_which_group_it_was_of),
        TEST(test_a_filter_that_ecs_refuses_is_replaced_by_the_plain_one),
        TEST(test_a_look_tells_that_the_group_calls_us_unhealthy),
        TEST(test_a_peers_look_is_its_own_without_the_metadata_service),
        TEST(test_a_peer_of_another_group_is_not_judged), TEST(test_a_peer_in_no_group_ends_the_look),
        TEST(test_a_look_at_a_peer_needs_its_arn_and_memory), TEST(test_the_sick_are_told_apart_by_name),
        TEST(test_the_window_is_known_to_free), TEST(test_a_replacement_counts_once_it_is_connected),
        TEST(test_a_replacement_that_cannot_be_asked_about_is_blindness),
        TEST(test_a_young_replacement_knows_itself), TEST(test_a_whole_look_reads_on_although_share_holds),
        TEST(test_a_scale_in_under_way_is_seen), TEST(test_more_activities_than_are_read_count_as_full),
        TEST(test_activities_older_than_a_day_are_not_paged_through),
        TEST(test_two_batches_leave_room_for_two_pages), TEST(test_a_read_that_fails_ends_the_look),
        TEST(test_an_answer_without_sense_is_blindness), TEST(test_a_silent_metadata_service_ends_the_look),
        TEST(test_a_read_that_cannot_be_sent_ends_the_look),
        TEST(test_a_look_can_be_stopped_at_any_point_and_started_again),
        TEST(test_a_look_may_start_the_next_from_its_callback), TEST(test_a_look_needs_to_know_who_we_are))
