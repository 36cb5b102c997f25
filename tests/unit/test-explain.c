/* SPDX-License-Identifier: Apache-2.0 */

/* Each thing is told once, when it changes, and the ending says what became of it. */

#include "agent/explain.h"

#include "agent/story.h"
#include "common/file.h"
#include "tests/unit/test.h"

static Now at(int seconds) {
        return (Now){ { SPAN_HOUR(1) + SPAN_SEC(seconds) }, { SPAN_DAY(20000) + SPAN_SEC(seconds) } };
}

static bool tells(const Story *story, const char *text) {
        for (size_t i = 0; i < story->n; i++)
                if (strstr(story->rows[i].text, text))
                        return true;
        return false;
}

static unsigned times(const Story *story, const char *text) {
        unsigned n = 0;

        for (size_t i = 0; i < story->n; i++)
                n += strstr(story->rows[i].text, text) != NULL;
        return n;
}

/* One step to @stage with @brakes, while @cause stands. */
static void go(Story *story, int seconds, Stage stage, Cause cause, BrakeSet brakes) {
        TraceAfter after = {
                .stage = stage,
                .cause = cause,
                .fault = cause == CAUSE_NONE            ? FAULT_NONE
                         : cause == CAUSE_NOT_KNOWN     ? FAULT_UNKNOWN
                         : cause == CAUSE_OPERATOR_STOP ? FAULT_INTENDED
                                                        : FAULT_HOST,
                .witnesses = 1u << WITNESS_LOG | 1u << WITNESS_SOCKETS,
                .brakes = brakes,
                .incident = 4,
                .ill_from = cause == CAUSE_NONE ? MONO_NEVER : at(0).mono,
                .grace_end = at(480).mono,
                .due = at(seconds + 60).mono,
        };
        Plan plan = {
                .stage_changed = story->now.stage != stage,
                .verdict_changed = !story->known || story->now.cause != cause,
                .brakes_changed = story->now.brakes != brakes,
        };

        story_step(story, at(seconds), &(Event){ .type = EVENT_TICK }, &plan, &after);
}

static void test_endings(void) {
        static const struct {
                Stage last;
                Cause cause;
                bool ended;
                const char *text;
        } cases[] = {
                { STAGE_WATCHING, CAUSE_NONE, true, "the agent has connected again." },
                { STAGE_WATCHING, CAUSE_NOT_KNOWN, true, "the witnesses no longer agreed" },
                { STAGE_WATCHING, CAUSE_OPERATOR_STOP, true,
                        "given up: The ECS agent or docker was stopped" },
                { STAGE_REMOVED, CAUSE_LINK_LOST, true, "the instance was taken out of its group." },
                { STAGE_HELD, CAUSE_LINK_LOST, false, "not over as far as the trace tells, stage held." },
                { STAGE_DETACHING, CAUSE_LINK_LOST, false, "stage detaching." },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Story story = {};
                char text[512];

                go(&story, 0, STAGE_GRACE, CAUSE_LINK_LOST, 0);
                go(&story, 480, STAGE_LOOKING, CAUSE_LINK_LOST, 0);
                go(&story, 490, cases[i].last, cases[i].cause, 0);
                EXPECT_EQ(story_ended(&story), cases[i].ended);
                if (!strstr(story_ending(&story, text, sizeof(text)), cases[i].text)) {
                        test_failures++;
                        printf("# case %zu: \"%s\"\n", i, text);
                }
                EXPECT_EQ(story.incident, 4);
                EXPECT_EQ(story.cause, CAUSE_LINK_LOST);
                EXPECT_EQ(wall_since(story.opened, story.ill_from), SPAN_SEC(480));
                story_done(&story);
        }
}

/* One step with an effect of its own, and the answer to it. */
static void act(Story *story, int seconds, const Effect *effect, const Event *answer) {
        Plan plan = { .n_effects = 1, .effects = { *effect } };
        Event event = *answer;

        event.ticket = effect->ticket;
        story_step(story, at(seconds), &(Event){ .type = EVENT_TICK }, &plan, NULL);
        story_step(story, at(seconds + 1), &event, &(Plan){}, NULL);
}

static void test_each_action_has_its_own_words(void) {
        static const struct {
                Action action;
                const char *doing, *noun, *ending;
        } cases[] = {
                { ACTION_DETACH, "Detaching this instance", "a detach",
                        "the instance was taken out of its group. It was ended afterwards" },
                { ACTION_UNHEALTHY, "Telling the group", "unhealthy",
                        "the group was told that the instance is unhealthy, and replaces it. It was "
                        "deregistered" },
                { ACTION_STANDBY, "Putting this instance on standby", "standby",
                        "the instance was put on standby." },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const Effect detach = { .type = EFFECT_DETACH, .ticket = 7, .action = cases[i].action },
                             end = { .type = EFFECT_END, .ticket = 8 };
                Story story = {};
                char text[512];

                go(&story, 0, STAGE_GRACE, CAUSE_LINK_LOST, 0);
                go(&story, 480, STAGE_LOOKING, CAUSE_LINK_LOST, 0);
                act(&story, 490, &detach, &(Event){ .type = EVENT_DETACHED, .outcome = OUTCOME_OK });
                go(&story, 495, STAGE_REMOVED, CAUSE_LINK_LOST, 0);
                EXPECT(tells(&story, cases[i].doing));
                EXPECT(tells(&story, "Removal: done."));
                EXPECT(strstr(story_removal(&story), cases[i].noun));
                go(&story, 4000, STAGE_ENDING, CAUSE_LINK_LOST, 0);
                EXPECT(story_ended(&story));
                act(&story, 4000, &end, &(Event){ .type = EVENT_ENDED, .outcome = OUTCOME_DENIED });
                EXPECT(!story.ended);
                act(&story, 4010, &end, &(Event){ .type = EVENT_ENDED, .outcome = OUTCOME_OK });
                go(&story, 4012, STAGE_REMOVED, CAUSE_LINK_LOST, 0);
                EXPECT(story.ended);
                EXPECT(strstr(story_ending(&story, text, sizeof(text)), cases[i].ending));
                EXPECT_EQ(times(&story, "out of service in its Auto Scaling group"), 1);
                EXPECT_EQ(wall_since(story.closed, story.opened), SPAN_SEC(495 - 480));
                story_done(&story);
        }
}

/* What patrol does at a peer is not what was done to this host. */
static void test_a_peer_is_not_taken_for_ourselves(void) {
        static const struct {
                EffectType type;
                Event answer;
                const char *doing, *done;
        } cases[] = {
                { EFFECT_LOOK, { .type = EVENT_LOOKED, .look = { .of_peer = true } },
                        "Patrol: looking at a disconnected peer", "Patrol's look at a peer: ECS" },
                { EFFECT_DRAIN, { .type = EVENT_DRAINED, .outcome = OUTCOME_OK },
                        "Patrol: setting the container instance of the peer", "Drain of the peer: done." },
                { EFFECT_DETACH, { .type = EVENT_DETACHED, .outcome = OUTCOME_LOST },
                        "Patrol: taking the peer out", "Removal of the peer: sent, but" },
                { EFFECT_VERIFY, { .type = EVENT_VERIFIED, .verified = { .lifecycle = LIFECYCLE_DETACHED } },
                        "Patrol: reading", "Auto Scaling says: the peer is Detached." },
                { EFFECT_UNDRAIN, { .type = EVENT_UNDRAINED, .outcome = OUTCOME_OK },
                        "Patrol: taking back our drain of the peer",
                        "Undoing of our drain of the peer: done." },
        };
        Story story = {};

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const Effect effect = { .type = cases[i].type, .ticket = (uint32_t) i + 1, .peer = true };

                act(&story, (int) i * 10, &effect, &cases[i].answer);
                EXPECT(tells(&story, cases[i].doing));
                EXPECT(tells(&story, cases[i].done));
        }
        EXPECT(!story.drained && !story.detached && !story.undone);
        EXPECT_EQ(story.looks, 0);
        act(&story, 100, &(Effect){ .type = EFFECT_SWEEP, .ticket = 90 },
                &(Event){ .type = EVENT_SWEPT, .swept = { .n_down = 3, .n = 2 } });
        EXPECT(tells(&story, "Patrol: 3 of the group are disconnected, 2 may be acted for."));
        act(&story, 110, &(Effect){ .type = EFFECT_DRAIN, .ticket = 91 },
                &(Event){ .type = EVENT_DRAINED, .outcome = OUTCOME_OK });
        EXPECT(story.drained);
        story_done(&story);
}

static void test_one_removed_by_a_peer_is_told_so(void) {
        Story story = {};
        char text[512];

        go(&story, 0, STAGE_WATCHING, CAUSE_NONE, 0);
        go(&story, 60, STAGE_REMOVED, CAUSE_LINK_LOST, 0);
        EXPECT(strstr(story_ending(&story, text, sizeof(text)), "a peer that patrols took the instance"));
        story_done(&story);
}

static void test_grace_alone_is_no_incident(void) {
        Story story = {};
        char text[512];

        go(&story, 0, STAGE_GRACE, CAUSE_LINK_LOST, 0);
        go(&story, 60, STAGE_WATCHING, CAUSE_NONE, 0);
        EXPECT_STR(story_ending(&story, text, sizeof(text)), "no incident was opened.");
        EXPECT(!story_ended(&story));
        story_done(&story);
}

static void test_a_brake_is_told_with_its_reason_once(void) {
        const BrakeSet share = 1u << BRAKE_SHARE, settle = 1u << BRAKE_SETTLE;
        Story story = {};

        go(&story, 0, STAGE_GRACE, CAUSE_LINK_LOST, 1u << BRAKE_GRACE);
        EXPECT(!tells(&story, "Held by"));
        go(&story, 480, STAGE_LOOKING, CAUSE_LINK_LOST, 0);
        go(&story, 481, STAGE_HELD, CAUSE_LINK_LOST, share);
        go(&story, 540, STAGE_LOOKING, CAUSE_LINK_LOST, share);
        go(&story, 541, STAGE_HELD, CAUSE_LINK_LOST, share | settle);
        go(&story, 600, STAGE_LOOKING, CAUSE_LINK_LOST, share | settle);
        go(&story, 601, STAGE_HELD, CAUSE_LINK_LOST, settle);
        EXPECT_EQ(times(&story, "Held by the brake share: Too many others are disconnected too"), 1);
        EXPECT_EQ(times(&story, "Held by the brake settle: An outage of many"), 1);
        EXPECT_EQ(times(&story, "No longer held by: share."), 1);
        EXPECT(story.held);
        story_done(&story);
}

static void test_a_witness_is_told_when_it_says_something_else(void) {
        Event event = { .type = EVENT_SAMPLE };
        Plan plan = {};
        Story story = {};

        event.sample.witness = WITNESS_SOCKETS;
        event.sample.sight = SIGHT_CLEAR;
        event.sample.sockets = (SocketsSample){ .listener = true, .n_control = 1, .data_age = 5 };
        story_step(&story, at(0), &event, &plan, NULL);
        event.sample.sockets.data_age = SPAN_SEC(9);
        story_step(&story, at(10), &event, &plan, NULL);
        EXPECT_EQ(story.n, 1);
        event.sample.sockets.n_control = 0;
        story_step(&story, at(20), &event, &plan, NULL);
        EXPECT_EQ(times(&story, "Witness agent sockets: no connection to the control plane."), 1);
        event.sample.sight = SIGHT_DENIED;
        story_step(&story, at(30), &event, &plan, NULL);
        EXPECT_EQ(times(&story, "Witness agent sockets: cannot tell (denied)."), 1);
        EXPECT_EQ(story.n, 3);
        story_done(&story);
}

static void test_every_line_of_the_log_and_every_answer_is_told(void) {
        Story story = {};
        Plan plan = {};

        for (unsigned line = LOG_LINE_STARTED; line < LOG_LINE_N; line++) {
                Event event = { .type = EVENT_SAMPLE };
                bool again =
                        line == LOG_LINE_FAILED || line == LOG_LINE_WAITING; /* told by TRYING before them */
                size_t before = story.n;

                event.sample.witness = WITNESS_LOG;
                event.sample.sight = SIGHT_CLEAR;
                event.sample.log.line = (LogLine) line;
                story_step(&story, at(0), &event, &plan, NULL);
                EXPECT_EQ(story.n, before + !again);
        }
        for (unsigned outcome = 0; outcome < OUTCOME_N; outcome++)
                for (EventType type = EVENT_CONFIRMED; type <= EVENT_VERIFIED; type++) {
                        Event event = { .type = type };
                        size_t before = story.n;

                        if (type == EVENT_CONFIRMED)
                                event.confirmed.outcome = (Outcome) outcome;
                        else if (type == EVENT_LOOKED)
                                event.look.outcome = (Outcome) outcome;
                        else if (type == EVENT_VERIFIED)
                                event.verified.outcome = (Outcome) outcome;
                        else
                                event.outcome = (Outcome) outcome;
                        story_step(&story, at(0), &event, &plan, NULL);
                        EXPECT_EQ(story.n, before + 1);
                        EXPECT(!strchr(story.rows[story.n - 1].text, '?'));
                }
        story_done(&story);
}

static void test_a_reader_goes_on_after_a_bad_line(void) {
        static const char text[] = "{\"trace\":1,\"incident\":4}\n"
                                   "\n"
                                   "{\"t\":5,\n"
                                   "{\"t\":5,\"w\":5,\"event\":{},\"plan\":{}}\n"
                                   "{\"cut\":true}";
        char path[] = "/tmp/test-explain-XXXXXX";
        TraceReader reader;
        static TraceLine line;
        int fd = mkstemp(path);

        EXPECT(fd >= 0 && write(fd, text, sizeof(text) - 1) == sizeof(text) - 1);
        EXPECT_EQ(trace_reader_open(&reader, path), 0);
        EXPECT_EQ(trace_reader_next(&reader, &line), 1);
        EXPECT_EQ(line.header.incident, 4);
        EXPECT_EQ(trace_reader_next(&reader, &line), -EBADMSG);
        EXPECT_EQ(reader.line, 3);
        EXPECT_EQ(trace_reader_next(&reader, &line), 1);
        EXPECT_EQ(line.type, TRACE_STEP);
        EXPECT_EQ(trace_reader_next(&reader, &line), 1);
        EXPECT_EQ(line.type, TRACE_CUT);
        EXPECT_EQ(trace_reader_next(&reader, &line), 0);
        trace_reader_done(&reader);
        EXPECT_EQ(trace_reader_open(&reader, "/nonexistent"), -ENOENT);
        EXPECT_EQ(unlink(path), 0);
        (void) close(fd);
}

TEST_MAIN(TEST(test_each_action_has_its_own_words), TEST(test_a_peer_is_not_taken_for_ourselves),
        TEST(test_one_removed_by_a_peer_is_told_so), TEST(test_endings),
        TEST(test_grace_alone_is_no_incident), TEST(test_a_brake_is_told_with_its_reason_once),
        TEST(test_a_witness_is_told_when_it_says_something_else),
        TEST(test_every_line_of_the_log_and_every_answer_is_told),
        TEST(test_a_reader_goes_on_after_a_bad_line))
