/* SPDX-License-Identifier: Apache-2.0 */

/* Patrol's round, against a scripted ECS. */

#include "agent/act/sweep.h"

#include "agent/decide/turn.h"
#include "common/parse.h"
#include "tests/unit/fake-aws.h"

#define ARN_PREFIX "arn:aws:ecs:us-east-1:123456789012:container-instance/prod/"
#define TEXT_MAX   65536

/* 2026-06-30T10:11:12Z */
#define TIME ((Wall){ SPAN_SEC(1782814272) })

static const Target own = { .cluster = "prod", .arn = ARN_PREFIX "f", .instance_id = "i-f", .group = "web" };

static bool ended;
static Sweep sweep_is;
static char action_is[64];
static SweepCall *running;

static void on_swept(const Sweep *sweep, const char *action, const AwsAnswer *answer, void *userdata) {
        EXPECT(answer);
        EXPECT(userdata == &ended);
        EXPECT(!ended);
        ended = true;
        sweep_is = *sweep;
        (void) snprintf(action_is, sizeof(action_is), "%s", action);
        running = sweep_call_free(running); /* a callback may free its own call */
}

static void sweep(const FakeAnswer *script) {
        ended = false;
        sweep_is = (Sweep){ .outcome = OUTCOME_LOST };
        fake_begin(script);
        fake_server_time = TIME;
        EXPECT_EQ(sweep_start(NULL, &own, on_swept, &ended, &running), 0);
        EXPECT(!ended); /* never from within the function */
        fake_run(&ended);
        EXPECT(ended);
        fake_end();
}

/* -- what is found -------------------------------------------------------------------------------------- */

static char list[TEXT_MAX], page[TEXT_MAX];
static unsigned n_page;

#define text_append(text, ...) ((void) snprintf((text) + strlen(text), TEXT_MAX - strlen(text), __VA_ARGS__))

/** @more: further members of the instance, each with a comma before it */
static void page_add(const char *id, bool connected, const char *attributes, const char *more) {
        text_append(list, "%s\"" ARN_PREFIX "%s\"", n_page > 0 ? "," : "", id + strcspn(id, "-") + 1);
        text_append(page,
                "%s{\"containerInstanceArn\":\"" ARN_PREFIX "%s\",\"ec2InstanceId\":\"%s\",\"status\":"
                "\"ACTIVE\",\"agentConnected\":%s,\"attributes\":[%s]%s}",
                n_page > 0 ? "," : "", id + strcspn(id, "-") + 1, id, connected ? "true" : "false",
                attributes, more);
        n_page++;
}

static void page_begin(void) {
        (void) strcpy(list, "{\"containerInstanceArns\":[");
        (void) strcpy(page, "{\"containerInstances\":[");
        n_page = 0;
}

static void sweep_page(void) {
        text_append(list, "]}");
        text_append(page, "],\"failures\":[]}");
        sweep((const FakeAnswer[]){
                { "ListContainerInstances", list }, { "DescribeContainerInstances", page }, {} });
}

static bool has_found(const char *id) {
        for (unsigned i = 0; i < sweep_is.n; i++)
                if (strcmp(sweep_is.peers[i].instance_id, id) == 0)
                        return strcmp(sweep_is.peers[i].arn + strlen(ARN_PREFIX), id + 2) == 0;
        return false;
}

#define WILLING "{\"name\":\"ecs-health-agent\",\"value\":\"detach\"}"

static void test_while_nobody_is_disconnected_a_sweep_is_one_read(void) {
        char filter[256];

        sweep((const FakeAnswer[]){ { "ListContainerInstances", "{\"containerInstanceArns\":[]}" }, {} });
        EXPECT_EQ(sweep_is.outcome, OUTCOME_OK);
        EXPECT_EQ(sweep_is.n + sweep_is.n_down, 0);
        EXPECT_EQ(sweep_is.server_time.usec, TIME.usec);
        (void) snprintf(filter, sizeof(filter),
                "{\"cluster\":\"prod\",\"filter\":\"agentConnected == false and "
                "attribute:ecs-health-agent.group == %016" PRIx64 "\",\"maxResults\":100}",
                turn_id("web"));
        EXPECT_STR(fake_asked[0].body, filter);
        EXPECT(fake_asked[0].yield);
}

static void test_a_sweep_finds_those_that_may_be_acted_for(void) {
        page_begin();
        page_add("i-1", false, WILLING, "");
        page_add("i-2", false, "", "");       /* has no agent of ours */
        page_add("i-3", true, WILLING, "");   /* has come back since */
        page_add("i-f", false, WILLING, "");  /* ourselves */
        page_add("mi-5", false, WILLING, ""); /* no EC2 instance */
        page_add("i-6", false, WILLING, ",\"x\":7");
        page_add("i-7", false, WILLING ",{\"name\":\"ecs-health-agent.hold\",\"value\":\"paused\"}", "");
        page_add("i-8", false,
                WILLING
                ",{\"name\":\"ecs-health-agent.incident\",\"value\":\"removing 2026-06-30T10:10:00Z\"}",
                "");
        sweep_page();
        EXPECT_EQ(sweep_is.outcome, OUTCOME_OK);
        EXPECT_EQ(sweep_is.n_down, 7);
        EXPECT_EQ(sweep_is.n, 2);
        EXPECT(has_found("i-1") && has_found("i-6"));
        EXPECT_STR(action_is, "DescribeContainerInstances");
        EXPECT(fake_asked[1].yield);
        EXPECT(strstr(fake_asked[1].body, "\"" ARN_PREFIX "1\",\"" ARN_PREFIX "2\""));
}

static void test_of_a_full_page_not_all_finders_see_the_same(void) {
        static const unsigned all = 100;
        char id[32], first[64] = "";
        bool another = false;

        /* One of a hundred is the first; that it is the same in 40 rounds does not happen. */
        for (unsigned round = 0; round < 40; round++) {
                page_begin();
                for (unsigned i = 0; i < all; i++) {
                        (void) snprintf(id, sizeof(id), "i-%x", 0x100 + i);
                        page_add(id, false, WILLING, "");
                }
                sweep_page();
                EXPECT_EQ(sweep_is.n_down, all);
                EXPECT_EQ(sweep_is.n, SWEEP_PEERS_MAX);
                another |= *first && strcmp(first, sweep_is.peers[0].instance_id) != 0;
                (void) snprintf(first, sizeof(first), "%s", sweep_is.peers[0].instance_id);
        }
        EXPECT(another);
}

/* -- failures ------------------------------------------------------------------------------------------- */

static void test_a_sweep_tells_why_it_was_not_answered(void) {
        static const struct {
                AwsOutcome aws;
                Outcome is;
        } ends[] = {
                { AWS_THROTTLED, OUTCOME_THROTTLED },
                { AWS_DENIED, OUTCOME_DENIED },
                { AWS_UNAVAILABLE, OUTCOME_UNAVAILABLE },
                { AWS_REFUSED, OUTCOME_REFUSED },
                { AWS_GARBLED, OUTCOME_BLIND },
        };
        static const FakeAnswer listed = { "ListContainerInstances", "{\"containerInstanceArns\":[\"a\"]}" };

        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                sweep((const FakeAnswer[]){ { "ListContainerInstances", .outcome = ends[i].aws }, {} });
                EXPECT_EQ(sweep_is.outcome, ends[i].is);
                EXPECT_STR(action_is, "ListContainerInstances");
                sweep((const FakeAnswer[]){
                        listed, { "DescribeContainerInstances", .outcome = ends[i].aws }, {} });
                EXPECT_EQ(sweep_is.outcome, ends[i].is);
                EXPECT_STR(action_is, "DescribeContainerInstances");
                EXPECT_EQ(sweep_is.n + sweep_is.n_down, 0);
        }
}

static void test_a_sweep_is_blind_to_answers_without_sense(void) {
        static const char *const lists[] = { "{}", "{\"containerInstanceArns\":7}",
                "{\"containerInstanceArns\":[7]}", "{\"containerInstanceArns\":[\"\"]}" };
        static const char *const pages[] = { "{}", "{\"containerInstances\":{}}",
                "{\"containerInstances\":[7]}",
                "{\"containerInstances\":[{\"agentConnected\":false,\"attributes\":[" WILLING
                "],\"status\":7}]}" };

        for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
                sweep((const FakeAnswer[]){ { "ListContainerInstances", lists[i] }, {} });
                EXPECT_EQ(sweep_is.outcome, OUTCOME_BLIND);
        }
        for (size_t i = 0; i < ELEMENTSOF(pages); i++) {
                sweep((const FakeAnswer[]){
                        { "ListContainerInstances", "{\"containerInstanceArns\":[\"a\"]}" },
                        { "DescribeContainerInstances", pages[i] }, {} });
                EXPECT_EQ(sweep_is.outcome, OUTCOME_BLIND);
                EXPECT_EQ(sweep_is.n, 0);
        }
        /* More than was asked for is no answer to it. */
        (void) strcpy(list, "{\"containerInstanceArns\":[\"a\"");
        for (unsigned i = 0; i < 100; i++)
                text_append(list, ",\"a\"");
        text_append(list, "]}");
        sweep((const FakeAnswer[]){ { "ListContainerInstances", list }, {} });
        EXPECT_EQ(sweep_is.outcome, OUTCOME_BLIND);
}

static void test_a_peer_whose_name_does_not_fit_is_not_found(void) {
        char arn[300];

        memset(arn, 'a', sizeof(arn) - 1);
        arn[sizeof(arn) - 1] = '\0';
        (void) snprintf(page, sizeof(page),
                "{\"containerInstances\":[{\"agentConnected\":false,\"status\":\"ACTIVE\",\"ec2InstanceId\":"
                "\"i-1\",\"containerInstanceArn\":\"%s\",\"attributes\":[" WILLING "]}]}",
                arn);
        sweep((const FakeAnswer[]){ { "ListContainerInstances", "{\"containerInstanceArns\":[\"a\"]}" },
                { "DescribeContainerInstances", page }, {} });
        EXPECT_EQ(sweep_is.outcome, OUTCOME_OK);
        EXPECT_EQ(sweep_is.n_down, 1);
        EXPECT_EQ(sweep_is.n, 0);
}

static void test_a_sweep_that_cannot_be_sent_finds_nobody(void) {
        Target nowhere = own;

        fake_begin(NULL);
        nowhere.group[0] = '\0';
        EXPECT_EQ(sweep_start(NULL, &nowhere, on_swept, &ended, &running), -EINVAL);
        nowhere = own;
        nowhere.cluster[0] = '\0';
        EXPECT_EQ(sweep_start(NULL, &nowhere, on_swept, &ended, &running), -EINVAL);
        fake_refuse = -ENOMEM;
        EXPECT_EQ(sweep_start(NULL, &own, on_swept, &ended, &running), -ENOMEM);
        EXPECT(!running);
        fake_end();

        ended = false;
        fake_begin((const FakeAnswer[]){
                { "ListContainerInstances", "{\"containerInstanceArns\":[\"a\"]}" }, {} });
        fake_refuse = -ENOMEM;
        fake_refuse_after = 1;
        EXPECT_EQ(sweep_start(NULL, &own, on_swept, &ended, &running), 0);
        fake_run(&ended);
        EXPECT_EQ(sweep_is.outcome, OUTCOME_UNAVAILABLE);
        fake_end();
}

static void test_a_sweep_that_is_freed_says_nothing(void) {
        ended = false;
        fake_begin((const FakeAnswer[]){
                { "ListContainerInstances", "{\"containerInstanceArns\":[\"a\"]}" }, {} });
        EXPECT_EQ(sweep_start(NULL, &own, on_swept, &ended, &running), 0);
        running = sweep_call_free(running);
        fake_run(&ended);
        EXPECT(!ended);
        fake_end();
}

TEST_MAIN(TEST(test_while_nobody_is_disconnected_a_sweep_is_one_read),
        TEST(test_a_sweep_finds_those_that_may_be_acted_for),
        TEST(test_of_a_full_page_not_all_finders_see_the_same),
        TEST(test_a_sweep_tells_why_it_was_not_answered),
        TEST(test_a_sweep_is_blind_to_answers_without_sense),
        TEST(test_a_peer_whose_name_does_not_fit_is_not_found),
        TEST(test_a_sweep_that_cannot_be_sent_finds_nobody), TEST(test_a_sweep_that_is_freed_says_nothing))
