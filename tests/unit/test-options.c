/* SPDX-License-Identifier: Apache-2.0 */

/* Settings by a table: what is read, what is refused, and in which words. */

#include "common/options.h"

#include <errno.h>

#include "tests/unit/test.h"

typedef struct Settings {
        unsigned action;
        Span grace;
        bool drain;
        int64_t max_series;
        int64_t max_sick;
        OptionAmount max_actions;
        OptionText endpoint;
        OptionText cluster;
        OptionList mounts;
        OptionList witnesses;
        Span deep;
} Settings;

static const char *const actions[] = { "observe", "detach", "standby", NULL };
static const char *const witnesses[] = { "all", "introspection", "agent-log", "docker", NULL };

/* clang-format off */
#define FIELD(name) offsetof(Settings, name)
static const Option table[] = {
        { "action", OPTION_CHOICE, FIELD(action), "\"detach\"", .choices = actions,
          .help = "What to do with a host that has lost its agent." },
        { "grace", OPTION_SPAN, FIELD(grace), "\"8m\"", SPAN_MIN(1), SPAN_HOUR(4), SPAN_MIN(3), 0,
          .help = "How long the agent must be gone." },
        { "drain", OPTION_BOOL, FIELD(drain), "true", .help = "Move tasks away first." },
        { "brakes.max_sick", OPTION_SHARE, FIELD(max_sick), "\"20%\"", 100, 10000, 0, 5000,
          .help = "Hold when more than this share is sick." },
        { "brakes.max_actions", OPTION_AMOUNT, FIELD(max_actions), "null", 100, 2000, .nullable = true,
          .help = "Removals per window; decided by the group's size when null." },
        { "ecs_agent.endpoint", OPTION_TEXT, FIELD(endpoint), "\"http://127.0.0.1:51678\"",
          .help = "Where the agent answers." },
        { "metrics.max_series", OPTION_NUMBER, FIELD(max_series), "40", 1, 1000,
          .help = "Refuse to publish more series than this | that." },
        { "ecs_agent.cluster", OPTION_TEXT, FIELD(cluster), "null", .nullable = true,
          .help = "Name of the cluster." },
        { "disk.mounts", OPTION_LIST, FIELD(mounts), "\"auto\"", .help = "Which mounts to watch." },
        { "witnesses", OPTION_LIST, FIELD(witnesses), "\"all\"", .choices = witnesses,
          .help = "Whom to ask." },
        { "metrics.very.deep", OPTION_SPAN, FIELD(deep), "1.5", 0, SPAN_DAY(7), .help = "For this test." },
};
#undef FIELD
/* clang-format on */
#define N (sizeof(table) / sizeof(table[0]))

static OptionProblems problems; /* large */

static int read_into(Settings *settings, const char *text, bool unsafe) {
        return options_read(table, N, "SOURCE", text, strlen(text), unsafe, settings, NULL, &problems);
}

static bool same_bytes(const void *a, const void *b, size_t n) {
        return memcmp(a, b, n) == 0;
}

/* One problem, in these words, and nothing changed */
static void expect_refused(const char *text, const char *problem) {
        Settings before, after;

        memset(&before, 0x55, sizeof(before));
        memset(&after, 0x55, sizeof(after));
        EXPECT_EQ(read_into(&after, text, false), -EBADMSG);
        EXPECT_EQ(problems.n, 1);
        EXPECT_STR(problems.text[0], problem);
        EXPECT(same_bytes(&before, &after, sizeof(before)));
}

static void expect_read(Settings *settings, const char *text, bool unsafe) {
        EXPECT_EQ(options_default(table, N, settings), 0);
        if (read_into(settings, text, unsafe) < 0) {
                printf("# %s: %s\n", text, problems.text[0]);
                test_failures++;
        }
        EXPECT_EQ(problems.n, 0);
}

static void test_defaults_come_from_the_table(void) {
        Settings s = {};

        EXPECT_EQ(options_default(table, N, &s), 0);
        EXPECT_STR(actions[s.action], "detach");
        EXPECT_EQ(s.grace, SPAN_MIN(8));
        EXPECT(s.drain);
        EXPECT_EQ(s.max_series, 40);
        EXPECT_EQ(s.max_sick, 2000);
        EXPECT_EQ(s.max_actions.count, -1);
        EXPECT_EQ(s.max_actions.share, -1);
        EXPECT_STR(s.endpoint, "http://127.0.0.1:51678");
        EXPECT_STR(s.cluster, "");
        EXPECT_EQ(s.mounts.n, 1);
        EXPECT_STR(s.mounts.items[0], "auto");
        EXPECT_STR(s.witnesses.items[0], "all");
        EXPECT_EQ(s.deep, SPAN_MSEC(1500));
}

static void test_values_of_all_types_are_read(void) {
        Settings s = {};

        expect_read(&s,
                "{\"action\":\"standby\",\"grace\":300,\"drain\":false,\"brakes\":{\"max_sick\":\"12.5%\","
                "\"max_actions\":3},"
                "\"ecs_agent\":{\"endpoint\":\"http://"
                "x\",\"cluster\":\"prod\"},\"metrics\":{\"max_series\":50,"
                "\"very\":{\"deep\":\"1h30m\"}},\"disk\":{\"mounts\":[\"/\",\"/"
                "data\"]},\"witnesses\":[\"docker\"]}",
                false);
        EXPECT_STR(actions[s.action], "standby");
        EXPECT_EQ(s.grace, SPAN_MIN(5));
        EXPECT(!s.drain);
        EXPECT_EQ(s.max_sick, 1250);
        EXPECT_EQ(s.max_actions.count, 3);
        EXPECT_EQ(s.max_actions.share, -1);
        EXPECT_STR(s.endpoint, "http://x");
        EXPECT_STR(s.cluster, "prod");
        EXPECT_EQ(s.max_series, 50);
        EXPECT_EQ(s.deep, SPAN_MIN(90));
        EXPECT_EQ(s.mounts.n, 2);
        EXPECT_STR(s.mounts.items[1], "/data");
        EXPECT_STR(s.witnesses.items[0], "docker");
}

static void test_cloudformations_strings_are_numbers_and_booleans(void) {
        Settings s = {};

        expect_read(&s,
                "{\"grace\":\"240\",\"drain\":\"false\",\"metrics\":{\"max_series\":\"7\"},"
                "\"brakes\":{\"max_actions\":\"5\"},\"witnesses\":\"agent-log\"}",
                false);
        EXPECT_EQ(s.grace, SPAN_MIN(4));
        EXPECT(!s.drain);
        EXPECT_EQ(s.max_series, 7);
        EXPECT_EQ(s.max_actions.count, 5);
        EXPECT_EQ(s.witnesses.n, 1);
        EXPECT_STR(s.witnesses.items[0], "agent-log");
}

static void test_a_later_text_overlays_an_earlier_one(void) {
        const char *origins[N] = {};
        Settings s = {};

        EXPECT_EQ(options_default(table, N, &s), 0);
        EXPECT_EQ(options_read(table, N, "first", "{\"grace\":\"5m\",\"drain\":false}", 28, false, &s,
                          origins, &problems),
                0);
        EXPECT_EQ(options_read(table, N, "second", "{\"grace\":\"6m\"}", 14, false, &s, origins, &problems),
                0);
        EXPECT_EQ(s.grace, SPAN_MIN(6));
        EXPECT(!s.drain);
        EXPECT_STR(origins[1], "second");
        EXPECT_STR(origins[2], "first");
        EXPECT(!origins[0]);
        EXPECT_EQ(
                options_read(table, N, "bad", "{\"drain\":true,\"x\":1}", 20, false, &s, origins, &problems),
                -EBADMSG);
        EXPECT_STR(origins[2], "first");
        EXPECT(!s.drain);
}

static void test_null_and_empty_mean_decide_yourself(void) {
        Settings s = {};

        expect_read(&s, "{\"brakes\":{\"max_actions\":null},\"ecs_agent\":{\"cluster\":null}}", false);
        EXPECT_EQ(s.max_actions.count, -1);
        EXPECT_STR(s.cluster, "");
        expect_read(&s, "{\"brakes\":{\"max_actions\":\"10%\"},\"disk\":{\"mounts\":[]}}", false);
        EXPECT_EQ(s.max_actions.share, 1000);
        EXPECT_EQ(s.max_actions.count, -1);
        EXPECT_EQ(s.mounts.n, 0);
        expect_read(&s, "{}", false);
        EXPECT_EQ(s.grace, SPAN_MIN(8));
}

static void test_bad_values_are_refused_in_helpful_words(void) {
        static const char *const cases[][2] = {
                { "{\"brakes\":{\"max_sick\":\"60%\"}}", "SOURCE: brakes.max_sick: \"60%\" is above the "
                                                         "allowed 50%; expected a share from 1% to 50%" },
                { "{\"brakes\":{\"max_sick\":\"0.5%\"}}", "SOURCE: brakes.max_sick: \"0.5%\" is below the "
                                                          "allowed 1%; expected a share from 1% to 50%" },
                { "{\"brakes\":{\"max_sick\":20}}", "SOURCE: brakes.max_sick: 20 is not a share such as "
                                                    "\"20%\"; expected a share from 1% to 50%" },
                { "{\"brakes\":{\"max_sick\":\"200%\"}}", "SOURCE: brakes.max_sick: \"200%\" is more than "
                                                          "100%; expected a share from 1% to 50%" },
                { "{\"grace\":\"2m\"}",
                        "SOURCE: grace: \"2m\" is below the allowed 3m; expected a duration from 3m to 4h" },
                { "{\"grace\":90000}",
                        "SOURCE: grace: 90000 is above the allowed 4h; expected a duration from 3m to 4h" },
                { "{\"grace\":\"5 minutes\"}", "SOURCE: grace: \"5 minutes\" is not a duration such as "
                                               "\"90s\", \"5m\", \"2h\" or a number of "
                                               "seconds; expected a duration from 3m to 4h" },
                { "{\"grace\":-5}", "SOURCE: grace: -5 is not a duration such as \"90s\", \"5m\", \"2h\" or "
                                    "a number of seconds; "
                                    "expected a duration from 3m to 4h" },
                { "{\"grace\":1e300}",
                        "SOURCE: grace: 1e+300 is out of all range; expected a duration from 3m to 4h" },
                { "{\"grace\":null}",
                        "SOURCE: grace: null is not allowed; expected a duration from 3m to 4h" },
                { "{\"drain\":\"maybe\"}",
                        "SOURCE: drain: \"maybe\" is neither true nor false; expected true or false" },
                { "{\"drain\":1}", "SOURCE: drain: 1 is neither true nor false; expected true or false" },
                { "{\"action\":\"detatch\"}", "SOURCE: action: \"detatch\" is unknown; did you mean "
                                              "\"detach\"? expected \"observe\", "
                                              "\"detach\", \"standby\"" },
                { "{\"action\":\"reboot-it\"}", "SOURCE: action: \"reboot-it\" is unknown; expected "
                                                "\"observe\", \"detach\", \"standby\"" },
                { "{\"action\":[]}", "SOURCE: action: a list is not a text; expected \"observe\", "
                                     "\"detach\", \"standby\"" },
                { "{\"metrics\":{\"max_series\":1.5}}", "SOURCE: metrics.max_series: 1.5 is not a whole "
                                                        "number; expected a whole number from 1 to 1000" },
                { "{\"metrics\":{\"max_series\":\"1001\"}}",
                        "SOURCE: metrics.max_series: \"1001\" is above the allowed 1000; expected a whole "
                        "number from "
                        "1 to 1000" },
                { "{\"metrics\":{\"max_series\":1e99}}", "SOURCE: metrics.max_series: 1e+99 is out of all "
                                                         "range; expected a whole number from 1 to 1000" },
                { "{\"brakes\":{\"max_actions\":-1}}", "SOURCE: brakes.max_actions: -1 is not from 0 to "
                                                       "1000000; expected a whole number or a share "
                                                       "from 1% to 20%, or null" },
                { "{\"brakes\":{\"max_actions\":\"30%\"}}", "SOURCE: brakes.max_actions: \"30%\" is above "
                                                            "the allowed 20%; expected a whole number or a "
                                                            "share from 1% to 20%, or null" },
                { "{\"brakes\":{\"max_actions\":\"few\"}}",
                        "SOURCE: brakes.max_actions: \"few\" is neither a whole number nor a share such as "
                        "\"10%\"; "
                        "expected a whole number or a share from 1% to 20%, or null" },
                { "{\"ecs_agent\":{\"endpoint\":\"\"}}",
                        "SOURCE: ecs_agent.endpoint: \"\" is empty; expected a text" },
                { "{\"ecs_agent\":{\"endpoint\":\"a\\nb\"}}",
                        "SOURCE: ecs_agent.endpoint: \"a?b\" holds a control character; expected a text" },
                { "{\"ecs_agent\":{\"cluster\":{}}}",
                        "SOURCE: ecs_agent.cluster: an object is not a text; expected a text, or null" },
                { "{\"witnesses\":[\"docker\",\"dockre\"]}",
                        "SOURCE: witnesses: \"dockre\" is unknown; did you mean \"docker\"? expected a list "
                        "of texts "
                        "among \"all\", \"introspection\", \"agent-log\", \"docker\"" },
                { "{\"disk\":{\"mounts\":[\"/\",7]}}",
                        "SOURCE: disk.mounts: 7 is not a text; expected a list of texts" },
                { "{\"disk\":{\"mounts\":[\"\"]}}", "SOURCE: disk.mounts: \"\" is empty or holds a control "
                                                    "character; expected a list of texts" },
                { "{\"disk\":{\"mounts\":true}}",
                        "SOURCE: disk.mounts: true is not a list; expected a list of texts" },
                { "{\"brakes\":\"20%\"}", "SOURCE: brakes: \"20%\" is not an object; expected {...} with "
                                          "the settings below it" },
                { "[]", "SOURCE: a list is not an object; expected {...} with settings" },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                expect_refused(cases[i][0], cases[i][1]);
}

static void test_unknown_keys_name_the_nearest_one(void) {
        static const char *const cases[][2] = {
                { "{\"brakes\":{\"max_sik\":1}}",
                        "SOURCE: brakes.max_sik: unknown key; did you mean \"max_sick\"?" },
                { "{\"Grace\":1}", "SOURCE: Grace: unknown key; did you mean \"grace\"?" },
                { "{\"brake\":{}}", "SOURCE: brake: unknown key; did you mean \"brakes\"?" },
                { "{\"max_sick\":\"1%\"}",
                        "SOURCE: max_sick: unknown key; did you mean \"brakes.max_sick\"?" },
                { "{\"brakes.max_sick\":\"1%\"}", "SOURCE: brakes.max_sick: unknown key; write it as nested "
                                                  "objects, {\"brakes\": {...}}" },
                { "{\"brakes\":{\"colour\":\"red\"}}", "SOURCE: brakes.colour: unknown key; expected one of "
                                                       "\"max_sick\", \"max_actions\"" },
                { "{\"metrics\":{\"x\\u0007y\":1}}",
                        "SOURCE: metrics.x?y: unknown key; expected one of \"max_series\", \"very\"" },
                { "{\"\":1}", "SOURCE: : unknown key; expected one of \"action\", \"grace\", \"drain\", "
                              "\"brakes\", "
                              "\"ecs_agent\", \"metrics\", \"disk\", \"witnesses\"" },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                expect_refused(cases[i][0], cases[i][1]);
}

static void test_syntax_errors_have_line_and_column(void) {
        expect_refused(
                "{\n  \"grace\": \"5m\",\n}", "SOURCE: line 2, column 16: there must be no ',' before '}'");
        expect_refused("{\"grace\":\"5m\",\"grace\":\"6m\"}",
                "SOURCE: line 1, column 15: key \"grace\" appears twice");
        expect_refused("{} x", "SOURCE: line 1, column 4: expected nothing more after the value, not 'x'");
        expect_refused("", "SOURCE: line 1, column 1: the text is empty; the least there can be is {}");
        expect_refused("{\"grace\":\"\xff\"}", "SOURCE: line 1, column 11: byte 0xff is not valid UTF-8");
}

static void test_all_problems_are_reported(void) {
        Settings s = {};

        EXPECT_EQ(read_into(&s,
                          "{\"grace\":\"1s\",\"drain\":3,\"x\":{\"y\":1},\"brakes\":{\"z\":1,\"max_sick\":"
                          "\"1%\"}}",
                          false),
                -EBADMSG);
        EXPECT_EQ(problems.n, 4);
        EXPECT(strstr(problems.text[0], "grace:"));
        EXPECT(strstr(problems.text[1], "drain:"));
        EXPECT(strstr(problems.text[2], "x: unknown key"));
        EXPECT(strstr(problems.text[3], "brakes.z: unknown key"));
}

static void test_more_problems_than_are_kept_are_counted(void) {
        char text[4096] = "{", *at = text + 1;
        Settings s = {};

        for (unsigned i = 0; i < 100; i++)
                at += sprintf(at, "%s\"unknown%u\":1", i > 0 ? "," : "", i);
        (void) stpcpy(at, "}");
        EXPECT_EQ(read_into(&s, text, false), -EBADMSG);
        EXPECT_EQ(problems.n, 100);
        EXPECT(strstr(problems.text[OPTION_PROBLEMS_MAX - 1], "unknown15"));
        EXPECT_EQ(read_into(&s, "{}", false), 0);
        EXPECT_EQ(problems.n, 0);
}

static void test_unsafe_lifts_floors_but_not_bounds(void) {
        Settings s = {};

        expect_read(&s, "{\"grace\":\"1m\",\"brakes\":{\"max_sick\":\"100%\"}}", true);
        EXPECT_EQ(s.grace, SPAN_MIN(1));
        EXPECT_EQ(s.max_sick, 10000);
        EXPECT_EQ(read_into(&s, "{\"grace\":\"59s\"}", true), -EBADMSG);
        EXPECT_STR(problems.text[0],
                "SOURCE: grace: \"59s\" is below the allowed 1m; expected a duration from 1m to 4h");
}

static void test_limits_of_texts_and_lists_are_exact(void) {
        char text[4096], word[OPTION_TEXT_MAX + 1] = "", *at;
        Settings s = {};

        memset(word, 'x', OPTION_TEXT_MAX - 1);
        snprintf(text, sizeof(text), "{\"ecs_agent\":{\"cluster\":\"%s\"}}", word);
        expect_read(&s, text, false);
        EXPECT_STR(s.cluster, word);
        word[OPTION_TEXT_MAX - 1] = 'x';
        snprintf(text, sizeof(text), "{\"ecs_agent\":{\"cluster\":\"%s\"}}", word);
        EXPECT_EQ(read_into(&s, text, false), -EBADMSG);
        EXPECT(strstr(problems.text[0], "... is longer than 255 bytes") ||
                strstr(problems.text[0], "...\" is longer than 255 bytes"));

        for (unsigned n = OPTION_LIST_MAX; n <= OPTION_LIST_MAX + 1; n++) {
                at = stpcpy(text, "{\"disk\":{\"mounts\":[");
                for (unsigned i = 0; i < n; i++)
                        at = stpcpy(at, i > 0 ? ",\"a\"" : "\"a\"");
                (void) stpcpy(at, "]}}");
                EXPECT_EQ(read_into(&s, text, false), n > OPTION_LIST_MAX ? -EBADMSG : 0);
        }
        EXPECT_EQ(s.mounts.n, OPTION_LIST_MAX);

        for (unsigned n = 63; n <= 64; n++) {
                snprintf(text, sizeof(text), "{\"disk\":{\"mounts\":\"%.*s\"}}", (int) n, word);
                EXPECT_EQ(read_into(&s, text, false), n > 63 ? -EBADMSG : 0);
        }
}

static void test_long_foreign_texts_are_shortened(void) {
        char text[8192], word[4001] = "";
        Settings s = {};

        memset(word, 'k', sizeof(word) - 1);
        snprintf(text, sizeof(text), "{\"%s\":1,\"drain\":\"%s\"}", word, word);
        EXPECT_EQ(read_into(&s, text, false), -EBADMSG);
        EXPECT_EQ(problems.n, 2);
        EXPECT(strstr(problems.text[0], "kkk...: unknown key; expected one of \"action\""));
        EXPECT(strstr(problems.text[1], "kkk...\" is neither true nor false"));
}

static void expect_format(const Settings *s, const char *name, const char *expected) {
        char text[512] = "";

        for (size_t i = 0; i < N; i++)
                if (strcmp(table[i].name, name) == 0) {
                        EXPECT_EQ(option_format(&table[i], s, text, sizeof(text)), 0);
                        EXPECT_STR(text, expected);
                        EXPECT_EQ(option_format(&table[i], s, text, strlen(expected) + 1), 0);
                        EXPECT_EQ(option_format(&table[i], s, text, strlen(expected)), -E2BIG);
                        EXPECT_EQ(option_format(&table[i], s, text, 0), -E2BIG);
                }
}

static void test_values_are_formatted_as_they_are_read(void) {
        Settings s = {};

        EXPECT_EQ(options_default(table, N, &s), 0);
        expect_format(&s, "action", "\"detach\"");
        expect_format(&s, "grace", "\"8m\"");
        expect_format(&s, "drain", "true");
        expect_format(&s, "metrics.max_series", "40");
        expect_format(&s, "brakes.max_sick", "\"20%\"");
        expect_format(&s, "brakes.max_actions", "null");
        expect_format(&s, "ecs_agent.endpoint", "\"http://127.0.0.1:51678\"");
        expect_format(&s, "ecs_agent.cluster", "null");
        expect_format(&s, "disk.mounts", "[\"auto\"]");
        expect_format(&s, "metrics.very.deep", "\"1500ms\"");
        s.grace = SPAN_MIN(90), s.max_sick = 1205, s.max_actions = (OptionAmount){ 7, -1 }, s.deep = 0;
        expect_format(&s, "grace", "\"90m\"");
        expect_format(&s, "brakes.max_sick", "\"12.05%\"");
        expect_format(&s, "brakes.max_actions", "7");
        expect_format(&s, "metrics.very.deep", "\"0s\"");
        s.max_actions = (OptionAmount){ -1, 1250 };
        expect_format(&s, "brakes.max_actions", "\"12.5%\"");
}

/* What @print writes, in a buffer to be freed */
static char *printed(void (*print)(FILE *f)) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);

        print(f);
        fclose(f);
        return text;
}

static void print_sample(FILE *f) {
        options_print_sample(table, N, f);
}

static void print_help(FILE *f) {
        options_print_help(table, N, f, 50);
}

static void print_markdown(FILE *f) {
        options_print_markdown(table, N, f);
}

static void test_sample_is_a_valid_file_of_the_defaults(void) {
        _cleanup_(freep) char *text = printed(print_sample);
        const char *origins[N] = {};
        Settings s = {}, defaults = {};

        EXPECT_EQ(options_default(table, N, &defaults), 0);
        EXPECT_EQ(options_read(table, N, "sample", text, strlen(text), false, &s, origins, &problems), 0);
        EXPECT(same_bytes(&s, &defaults, sizeof(s)));
        for (size_t i = 0; i < N; i++)
                EXPECT_STR(origins[i], "sample");
        EXPECT(strstr(
                text, "  \"brakes\": {\n    \"max_sick\": \"20%\",\n    \"max_actions\": null\n  },\n"));
}

static void test_help_is_folded(void) {
        _cleanup_(freep) char *text = printed(print_help);

        EXPECT(strstr(text, "  grace: a duration from 3m to 4h; default \"8m\"\n      How long the agent "
                            "must be gone.\n"));
        EXPECT(strstr(text, "  brakes.max_actions: a whole number or a share\n      from 1% to 20%, or "
                            "null; default null\n"));
        for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
                EXPECT(strcspn(line, "\n") <= 50);
}

static void test_markdown_has_a_line_per_option(void) {
        _cleanup_(freep) char *text = printed(print_markdown);
        unsigned lines = 0;

        for (const char *at = text; *at; at++)
                lines += *at == '\n';
        EXPECT_EQ(lines, N + 2);
        EXPECT(strstr(text,
                "\n| `grace` | `\"8m\"` | a duration from 3m to 4h | How long the agent must be gone. |\n"));
        EXPECT(strstr(text, "this \\| that."));
}

TEST_MAIN(TEST(test_defaults_come_from_the_table), TEST(test_values_of_all_types_are_read),
        TEST(test_cloudformations_strings_are_numbers_and_booleans),
        TEST(test_a_later_text_overlays_an_earlier_one), TEST(test_null_and_empty_mean_decide_yourself),
        TEST(test_bad_values_are_refused_in_helpful_words), TEST(test_unknown_keys_name_the_nearest_one),
        TEST(test_syntax_errors_have_line_and_column), TEST(test_all_problems_are_reported),
        TEST(test_more_problems_than_are_kept_are_counted), TEST(test_unsafe_lifts_floors_but_not_bounds),
        TEST(test_limits_of_texts_and_lists_are_exact), TEST(test_long_foreign_texts_are_shortened),
        TEST(test_values_are_formatted_as_they_are_read), TEST(test_sample_is_a_valid_file_of_the_defaults),
        TEST(test_help_is_folded), TEST(test_markdown_has_a_line_per_option))
