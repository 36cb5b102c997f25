/* SPDX-License-Identifier: Apache-2.0 */

/* Which settings are in force when file and stack are good, bad, late, or both at once. The stack's reader is ours here. */

#include "agent/config.h"

#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "tests/unit/test.h"

/* --- the stack's reader, instead of agent/stack.c ---------------------------------------------------------------- */

static struct {
        StackView view;
        StackOptions options;
        unsigned kept, asked_now;
        StackSettings settings;
} stack;

static const char *cached; /* what the cache holds; NULL: there is none */

int stack_new(Stack **ret, sd_event *event, const StackOptions *options) {
        (void) event;
        stack.options = *options;
        *ret = NULL;
        return 0;
}

Stack *stack_free(Stack *unused) {
        (void) unused;
        return NULL;
}

int stack_identity(Stack *unused, const char *instance_id, const char *region, const char *domain) {
        (void) unused;
        (void) instance_id;
        (void) region;
        (void) domain;
        return 0;
}

int stack_settings(Stack *unused, const StackSettings *settings) {
        (void) unused;
        stack.settings = *settings;
        return 0;
}

void stack_size(Stack *unused, uint64_t members) {
        (void) unused;
        (void) members;
}

void stack_read_now(Stack *unused) {
        (void) unused;
        stack.asked_now++;
}

int stack_keep(Stack *unused) {
        (void) unused;
        stack.kept++;
        return 0;
}

int stack_cache_read(const char *cache, StackCache *ret) {
        EXPECT(strstr(cache, STACK_CACHE_FILE));
        if (!cached)
                return -ENOENT;
        *ret = (StackCache){ .text = strdup(cached), .n_text = strlen(cached), .read = WALL_NEVER };
        return 0;
}

void stack_cache_done(StackCache *cache) {
        free(cache->text);
        *cache = (StackCache){};
}

void stack_view(const Stack *unused, StackView *ret) {
        (void) unused;
        *ret = stack.view;
}

/* --- the scene --------------------------------------------------------------------------------------------------- */

static char root[64], path[128];
static sd_event *event;
static Config *config;
static unsigned n_changed;

static int on_changed(void *userdata) {
        (void) userdata;
        n_changed++;
        return 0;
}

static void view_set(StackState state, const char *text, const char *problem) {
        stack.view = (StackView){ .state = state,
                .stack = "",
                .resource = "",
                .text = text,
                .n_text = text ? strlen(text) : 0,
                .next = MONO_INFINITE,
                .problem = problem };
}

/* The reader has news. */
static void say(StackState state, const char *text, const char *problem) {
        view_set(state, text, problem);
        stack.options.news(NULL, stack.options.userdata);
}

static void put(const char *text) {
        EXPECT_EQ(file_write_atomic(path, text, strlen(text), 0644, false), 0);
}

static void scene_open(const char *file, StackState state, const char *text) {
        const ConfigOptions options = { .path = path, .cache = "/nonexistent", .changed = on_changed };

        (void) snprintf(root, sizeof(root), "/tmp/test-config.XXXXXX");
        EXPECT(mkdtemp(root));
        EXPECT_EQ(setenv("ECS_HEALTH_AGENT_ROOT", root, 1), 0);
        EXPECT_EQ(setenv("NOTIFY_SOCKET", "/nonexistent", 1), 0); /* a service, wherever the test runs */
        (void) snprintf(path, sizeof(path), "%s/config.json", root);
        if (file)
                put(file);
        memset(&stack, 0, sizeof(stack));
        view_set(state, text, "");
        n_changed = 0;
        EXPECT_EQ(sd_event_new(&event), 0);
        EXPECT_EQ(config_new(&config, event, &options), 0);
}

static void scene_close(void) {
        config = config_free(config);
        event = sd_event_unref(event);
        (void) unlink(path);
        (void) rmdir(root);
        EXPECT_EQ(unsetenv("ECS_HEALTH_AGENT_ROOT"), 0);
        EXPECT_EQ(unsetenv("NOTIFY_SOCKET"), 0);
}

static Action action(void) {
        return (Action) config_settings(config)->policy.action;
}

static Span grace(void) {
        return config_settings(config)->policy.grace;
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

static void test_without_stack_and_file_the_defaults_act(void) {
        scene_open(NULL, STACK_NONE, NULL);
        EXPECT_EQ(action(), ACTION_DETACH);
        EXPECT_EQ(config_problems(config)->n, 0);
        EXPECT(!config_settling(config));
        scene_close();
}

static void test_not_knowing_the_stack_only_observes(void) {
        scene_open("{\"grace\":\"9m\"}", STACK_WAITING, NULL);
        EXPECT_EQ(action(), ACTION_OBSERVE);
        EXPECT_EQ(grace(), SPAN_MIN(9));
        EXPECT(config_settling(config));
        EXPECT_EQ(config_problems(config)->n, 0);

        /* it cannot be reached: still unknown, and now that is a problem */
        view_set(STACK_WAITING, NULL, "no answer");
        EXPECT(!config_settling(config));
        EXPECT_EQ(config_problems(config)->n, 0);
        EXPECT(config_has_error(config));
        EXPECT_EQ(action(), ACTION_OBSERVE);

        say(STACK_READ, "{\"grace\":\"10m\",\"cooldown\":\"2h\"}", "");
        EXPECT_EQ(action(), ACTION_DETACH);
        EXPECT_EQ(grace(), SPAN_MIN(9));
        EXPECT_EQ(config_settings(config)->policy.cooldown, SPAN_HOUR(2));
        EXPECT_EQ(config_problems(config)->n, 0);
        EXPECT_EQ(n_changed, 1);
        EXPECT_EQ(stack.kept, 1);
        scene_close();
}

static void test_an_operators_word_in_the_file_waits_for_nobody(void) {
        scene_open("{\"action\":\"detach\"}", STACK_WAITING, NULL);
        EXPECT_EQ(action(), ACTION_DETACH);
        /* nothing in force changes when there turns out to be no stack, but what waited for it is told */
        say(STACK_NONE, NULL, "");
        EXPECT_EQ(action(), ACTION_DETACH);
        EXPECT_EQ(n_changed, 1);
        say(STACK_NONE, NULL, "");
        EXPECT_EQ(n_changed, 1);
        scene_close();
}

static void test_nobody_may_read_the_stack(void) {
        scene_open(NULL, STACK_WAITING, NULL);
        say(STACK_DENIED, NULL, "no right");
        EXPECT_EQ(action(), ACTION_DETACH); /* as without any other right that publishes or informs */
        EXPECT(!config_has_error(config));
        EXPECT_EQ(stack.kept, 1); /* and the next start need not ask again before it acts */
        scene_close();

        /* who names a stack wants it to be read */
        scene_open("{\"cloudformation\":{\"stack\":\"web\",\"resource\":\"Group\"}}", STACK_WAITING, NULL);
        EXPECT_STR(stack.options.settings.stack, "web");
        say(STACK_DENIED, NULL, "no right");
        EXPECT(config_has_error(config));
        scene_close();
}

static void test_bad_metadata_change_nothing(void) {
        scene_open(NULL, STACK_READ, "{\"grace\":\"10m\"}");
        EXPECT_EQ(grace(), SPAN_MIN(10));
        EXPECT_EQ(stack.kept, 1);

        say(STACK_READ, "{\"grace\":\"1s\",\"action\":\"observe\"}", "");
        EXPECT_EQ(grace(), SPAN_MIN(10));
        EXPECT_EQ(action(), ACTION_DETACH);
        EXPECT_EQ(config_problems(config)->n, 1);
        EXPECT(strstr(config_problems(config)->text[0], "CloudFormation metadata: grace: "));
        EXPECT_EQ(n_changed, 0);
        EXPECT_EQ(stack.kept, 1);

        say(STACK_READ, "{\"grace\":\"11m\"}", "");
        EXPECT_EQ(grace(), SPAN_MIN(11));
        EXPECT_EQ(config_problems(config)->n, 0);
        EXPECT_EQ(stack.kept, 2);
        scene_close();
}

static void test_bad_metadata_with_nothing_good_before_observe(void) {
        scene_open(NULL, STACK_READ, "{\"gracee\":\"10m\"}");
        EXPECT_EQ(action(), ACTION_OBSERVE);
        EXPECT_EQ(config_problems(config)->n, 1);
        EXPECT_EQ(stack.kept, 0);
        say(STACK_READ, "{}", "");
        EXPECT_EQ(action(), ACTION_DETACH);
        EXPECT_EQ(config_problems(config)->n, 0);
        scene_close();
}

static void test_a_cached_text_is_in_force_and_not_written_again(void) {
        scene_open(NULL, STACK_WAITING, NULL);
        view_set(STACK_READ, "{\"grace\":\"10m\"}", "");
        stack.view.from_cache = true;
        stack.options.news(NULL, stack.options.userdata);
        EXPECT_EQ(grace(), SPAN_MIN(10));
        EXPECT_EQ(stack.kept, 0);

        /* It was another instance's: unknown again. */
        say(STACK_WAITING, NULL, "");
        EXPECT_EQ(grace(), SPAN_MIN(8));
        EXPECT_EQ(action(), ACTION_OBSERVE);
        scene_close();
}

static void test_a_bad_file_at_the_start_observes_until_it_is_good(void) {
        scene_open("{\"grace\":", STACK_READ, "{\"grace\":\"10m\",\"action\":\"detach\"}");
        EXPECT_EQ(action(), ACTION_OBSERVE);
        EXPECT_EQ(config_problems(config)->n, 1);
        say(STACK_READ, "{\"grace\":\"12m\"}", "");
        EXPECT_EQ(grace(), SPAN_MIN(12));
        EXPECT_EQ(action(), ACTION_OBSERVE);

        put("{\"cooldown\":\"3h\"}");
        config_reload(config);
        EXPECT_EQ(stack.asked_now, 1);
        EXPECT_EQ(action(), ACTION_DETACH);
        EXPECT_EQ(grace(), SPAN_MIN(12));
        EXPECT_EQ(config_settings(config)->policy.cooldown, SPAN_HOUR(3));
        EXPECT_EQ(config_problems(config)->n, 0);
        scene_close();
}

static void test_a_bad_file_does_not_stop_the_stack(void) {
        scene_open("{\"cooldown\":\"3h\"}", STACK_READ, "{\"grace\":\"10m\"}");
        put("{\"cooldown\":\"3 hours\"}");
        config_reload(config);
        EXPECT_EQ(config_problems(config)->n, 1);
        EXPECT_EQ(config_settings(config)->policy.cooldown, SPAN_HOUR(3));

        /* the switch in the stack still works, over the last good file */
        say(STACK_READ, "{\"grace\":\"10m\",\"action\":\"observe\"}", "");
        EXPECT_EQ(action(), ACTION_OBSERVE);
        EXPECT_EQ(config_settings(config)->policy.cooldown, SPAN_HOUR(3));
        EXPECT_EQ(config_problems(config)->n, 1);
        scene_close();
}

static void test_a_text_must_stand_by_itself_and_beside_the_other(void) {
        /* a first question 9 min before the end of grace: only while the stack makes grace 10 min */
        scene_open(NULL, STACK_READ, "{\"grace\":\"10m\"}");
        put("{\"confirm\":{\"before\":\"9m\"}}");
        config_reload(config);
        EXPECT_EQ(config_problems(config)->n, 1);
        EXPECT_EQ(config_settings(config)->policy.confirm_before, SPAN_MIN(3));

        /* fine by itself, and not beside a stack that makes grace 4 min */
        put("{\"confirm\":{\"before\":\"5m\"}}");
        config_reload(config);
        EXPECT_EQ(config_problems(config)->n, 0);
        say(STACK_READ, "{\"grace\":\"4m\"}", "");
        EXPECT_EQ(config_problems(config)->n, 1);
        EXPECT_EQ(grace(), SPAN_MIN(10));

        /* so nothing falls when one goes away */
        say(STACK_NONE, NULL, "");
        EXPECT_EQ(config_problems(config)->n, 0);
        EXPECT_EQ(config_settings(config)->policy.confirm_before, SPAN_MIN(5));
        EXPECT_EQ(action(), ACTION_DETACH);
        scene_close();
}

static void test_a_file_that_goes_away_is_no_problem(void) {
        scene_open("{\"grace\":\"20m\"}", STACK_READ, "{\"grace\":\"10m\"}");
        EXPECT_EQ(grace(), SPAN_MIN(20));
        EXPECT_EQ(unlink(path), 0);
        config_reload(config);
        EXPECT_EQ(grace(), SPAN_MIN(10));
        EXPECT_EQ(config_problems(config)->n, 0);
        EXPECT_EQ(n_changed, 1);
        scene_close();
}

static void test_the_stack_is_told_what_the_settings_say_of_it(void) {
        scene_open(NULL, STACK_READ, "{\"cloudformation\":{\"refresh\":\"1h\"}}");
        put("{\"cloudformation\":{\"enabled\":false}}");
        config_reload(config);
        EXPECT(!stack.settings.enabled);
        EXPECT_EQ(stack.settings.refresh, SPAN_HOUR(1));
        say(STACK_OFF, NULL, "");
        EXPECT_EQ(stack.settings.refresh, SPAN_MIN(15));
        EXPECT_EQ(action(), ACTION_DETACH);
        scene_close();
}

static void test_commands_read_what_was_kept(void) {
        static OptionProblems problems;
        const char *origins[SETTINGS_ROWS_MAX];
        StackCache cache;
        static Settings s;

        scene_open("{\"cooldown\":\"3h\"}", STACK_NONE, NULL);
        EXPECT_EQ(config_read(path, &s, origins, &problems, &cache), 0);
        EXPECT_EQ(s.policy.grace, SPAN_MIN(8));
        stack_cache_done(&cache);

        cached = "{\"grace\":\"10m\",\"cooldown\":\"1h\"}";
        EXPECT_EQ(config_read(path, &s, origins, &problems, &cache), 0);
        EXPECT_EQ(s.policy.grace, SPAN_MIN(10));
        EXPECT_EQ(s.policy.cooldown, SPAN_HOUR(3));
        EXPECT_STR(settings_origin(origins, "grace"), STACK_SOURCE);
        EXPECT_STR(settings_origin(origins, "cooldown"), path);
        stack_cache_done(&cache);

        put("{\"cloudformation\":{\"enabled\":false}}");
        EXPECT_EQ(config_read(path, &s, origins, &problems, &cache), 0);
        EXPECT_EQ(s.policy.grace, SPAN_MIN(8));
        stack_cache_done(&cache);

        put("{\"cooldown\":}");
        EXPECT_EQ(config_read(path, &s, origins, &problems, &cache), -EBADMSG);
        EXPECT_EQ(problems.n, 1);
        cached = NULL;
        scene_close();
}

TEST_MAIN(TEST(test_commands_read_what_was_kept), TEST(test_without_stack_and_file_the_defaults_act),
        TEST(test_not_knowing_the_stack_only_observes),
        TEST(test_an_operators_word_in_the_file_waits_for_nobody), TEST(test_nobody_may_read_the_stack),
        TEST(test_bad_metadata_change_nothing), TEST(test_bad_metadata_with_nothing_good_before_observe),
        TEST(test_a_cached_text_is_in_force_and_not_written_again),
        TEST(test_a_bad_file_at_the_start_observes_until_it_is_good),
        TEST(test_a_bad_file_does_not_stop_the_stack),
        TEST(test_a_text_must_stand_by_itself_and_beside_the_other),
        TEST(test_a_file_that_goes_away_is_no_problem),
        TEST(test_the_stack_is_told_what_the_settings_say_of_it))
