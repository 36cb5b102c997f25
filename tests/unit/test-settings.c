/* SPDX-License-Identifier: Apache-2.0 */

/* Defaults are those that were promised, floors hold, and what does not fit together is refused. */

#include "agent/settings.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "tests/unit/test.h"

static char root[64], path[128];

static void scene_open(void) {
        (void) snprintf(root, sizeof(root), "/tmp/test-settings.XXXXXX");
        EXPECT(mkdtemp(root));
        EXPECT_EQ(setenv("ECS_HEALTH_AGENT_ROOT", root, 1), 0);
        EXPECT_EQ(unsetenv("ECS_HEALTH_AGENT_UNSAFE"), 0);
        (void) snprintf(path, sizeof(path), "%s/config.json", root);
}

static void remove_below(const char *const *names) {
        for (; *names; names++) {
                char name[192];

                (void) snprintf(name, sizeof(name), "%s/%s", root, *names);
                (void) remove(name);
        }
        (void) rmdir(root);
}

static void scene_close(void) {
        remove_below((const char *const[]){ "config.json", "etc/ecs/ecs.config", "etc/ecs", "etc",
                "var/lib/ecs/ecs.config", "var/lib/ecs", "var/lib", "var", NULL });
        EXPECT_EQ(unsetenv("ECS_HEALTH_AGENT_ROOT"), 0);
        EXPECT_EQ(unsetenv("ECS_HEALTH_AGENT_UNSAFE"), 0);
}

static void put(const char *text) {
        EXPECT_EQ(file_write_atomic(path, text, strlen(text), 0644, false), 0);
}

static void put_ecs_config(const char *directory, const char *text) {
        _cleanup_(freep) char *folder = NULL;
        char name[192];

        EXPECT_EQ(file_root(directory, &folder), 0);
        EXPECT_EQ(file_mkdir(folder, 0755), 0);
        (void) snprintf(name, sizeof(name), "%s/ecs.config", folder);
        EXPECT_EQ(file_write_atomic(name, text, strlen(text), 0600, false), 0);
}

static int read_text(const char *text, Settings *settings, OptionProblems *problems) {
        put(text);
        return settings_read(path, settings, NULL, problems);
}

/* Row by row: padding need not be equal. */
static bool same(const Settings *a, const Settings *b) {
        for (size_t i = 0; i < settings_table_n; i++) {
                char left[4096], right[4096];

                EXPECT_EQ(option_format(&settings_table[i], a, left, sizeof(left)), 0);
                EXPECT_EQ(option_format(&settings_table[i], b, right, sizeof(right)), 0);
                if (strcmp(left, right) != 0)
                        return false;
        }
        return a->policy.also_act_on == b->policy.also_act_on && a->policy.external == b->policy.external;
}

static void test_defaults_are_those_of_the_manual(void) {
        static Settings s;

        EXPECT_EQ(settings_default(&s), 0);
        EXPECT_EQ(s.policy.action, ACTION_DETACH);
        EXPECT_EQ(s.policy.grace, SPAN_MIN(8));
        EXPECT_EQ(s.policy.grace_dead, SPAN_MIN(5));
        EXPECT(s.policy.drain);
        EXPECT_EQ(s.policy.cooldown, SPAN_HOUR(1));
        EXPECT(!s.policy.act_if_never_registered);
        EXPECT_EQ(s.also_act_on.n, 0);
        EXPECT_EQ(s.policy.also_act_on, 0);
        EXPECT(s.policy.repair);
        EXPECT_EQ(s.policy.repair_wait, SPAN_MIN(3));
        EXPECT_EQ(s.policy.confirm_before, SPAN_MIN(3));
        EXPECT_EQ(s.policy.orphan, ORPHAN_STOP);
        EXPECT_EQ(s.policy.orphan_after, SPAN_HOUR(1));
        EXPECT(s.policy.orphan_deregister);
        EXPECT(s.policy.patrol);
        EXPECT_EQ(s.policy.patrol_every, SPAN_MIN(5));
        EXPECT_EQ(s.policy.patrol_after, SPAN_MIN(20));
        EXPECT_STR(s.endpoint, "http://127.0.0.1:51678");
        EXPECT_STR(s.log, "/var/log/ecs/ecs-agent.log");
        EXPECT_STR(s.unit, "ecs.service");
        EXPECT_STR(s.cluster, "");
        EXPECT_EQ(s.policy.wedged_after, SPAN_MIN(6));
        EXPECT_EQ(s.policy.silent_after, SPAN_MIN(40));
        EXPECT_STR(s.docker_socket, "/run/docker.sock");
        EXPECT_STR(s.docker_unit, "docker.service");
        EXPECT_EQ(s.mounts.n, 1);
        EXPECT_STR(s.mounts.items[0], "auto");
        EXPECT_STR(s.ignore_fstypes.items[0], "overlay");
        EXPECT_STR(s.ignore_fstypes.items[1], "tmpfs");
        EXPECT_STR(s.witnesses.items[0], "all");
        EXPECT_STR(s.name_space, "ECS/InstanceHealth");
        EXPECT_EQ(s.period, SPAN_SEC(60));
        EXPECT_EQ(s.sample, SPAN_SEC(10));
        EXPECT_EQ(s.per_instance, PER_INSTANCE_WHEN_ILL);
        EXPECT_EQ(s.max_series, 40);
        EXPECT_EQ(s.policy.max_sick, 2000);
        EXPECT_EQ(s.policy.max_actions.count, -1);
        EXPECT_EQ(s.policy.max_actions.share, -1);
        EXPECT_EQ(s.policy.max_per_day.count, -1);
        EXPECT_EQ(s.policy.max_per_day.share, -1);
        EXPECT_EQ(s.policy.window, SPAN_MIN(30));
        EXPECT_EQ(s.policy.turn, SPAN_MIN(2));
        EXPECT_EQ(s.policy.settle, SPAN_MIN(10));
        EXPECT_EQ(s.policy.boot_grace, SPAN_MIN(10));
        EXPECT(!s.policy.external);
}

static void test_missing_file_is_an_empty_one(void) {
        static Settings read, standard;
        static OptionProblems problems;
        const char *origins[64] = {};

        scene_open();
        EXPECT_EQ(settings_default(&standard), 0);
        EXPECT_EQ(settings_read(path, &read, origins, &problems), 0);
        EXPECT_EQ(problems.n, 0);
        EXPECT(same(&read, &standard));
        EXPECT(settings_table_n <= ELEMENTSOF(origins));
        for (size_t i = 0; i < settings_table_n; i++)
                EXPECT_STR(origins[i], "default");
        scene_close();
}

static void test_value_of_the_file_wins_and_names_its_origin(void) {
        static Settings s;
        static OptionProblems problems;
        const char *origins[64] = {};

        scene_open();
        put("{\"grace\":\"5m\",\"brakes\":{\"max_actions\":\"10%\"},\"also_act_on\":[\"memory\",\"docker\"]"
            "}");
        EXPECT_EQ(settings_read(path, &s, origins, &problems), 0);
        EXPECT_EQ(s.policy.grace, SPAN_MIN(5));
        EXPECT_EQ(s.policy.max_actions.share, 1000);
        EXPECT_EQ(s.policy.also_act_on, ALSO_MEMORY | ALSO_DOCKER);
        for (size_t i = 0; i < settings_table_n; i++) {
                const char *name = settings_table[i].name;
                bool given = strcmp(name, "grace") == 0 || strcmp(name, "brakes.max_actions") == 0 ||
                             strcmp(name, "also_act_on") == 0;

                EXPECT_STR(origins[i], given ? path : "default");
        }
        scene_close();
}

typedef struct Case {
        const char *text;
        bool accepted, accepted_unsafe;
        const char *names; /* part of the problem */
} Case;

static void cases_run(const Case *cases, size_t n) {
        static Settings s;
        static OptionProblems problems;

        scene_open();
        for (size_t i = 0; i < 2 * n; i++) {
                const Case *c = &cases[i / 2];
                bool unsafe = i % 2, accepted = unsafe ? c->accepted_unsafe : c->accepted;
                int r;

                if (unsafe)
                        EXPECT_EQ(setenv("ECS_HEALTH_AGENT_UNSAFE", "1", 1), 0);
                else
                        EXPECT_EQ(unsetenv("ECS_HEALTH_AGENT_UNSAFE"), 0);
                r = read_text(c->text, &s, &problems);
                if (r != (accepted ? 0 : -EBADMSG))
                        printf("# %s (%s): %d %s\n", c->text, unsafe ? "unsafe" : "safe", r,
                                problems.text[0]);
                EXPECT_EQ(r, accepted ? 0 : -EBADMSG);
                EXPECT_EQ(problems.n > 0, !accepted);
                if (!accepted && r < 0 && !strstr(problems.text[0], c->names)) {
                        printf("# %s\n", problems.text[0]);
                        EXPECT(strstr(problems.text[0], c->names));
                }
                if (!accepted && r < 0)
                        EXPECT(strncmp(problems.text[0], path, strlen(path)) == 0);
        }
        scene_close();
}

static void test_floors_hold_unless_they_are_lifted(void) {
        static const Case cases[] = {
                { "{\"grace\":\"4m\"}", true, true, "" },
                { "{\"grace\":\"179s\"}", false, true, "grace" },
                { "{\"grace\":180}", true, true, "" },
                { "{\"confirm\":{\"before\":\"3m\"}}", true, true, "" },
                { "{\"confirm\":{\"before\":\"179s\"}}", false, true, "confirm.before" },
                { "{\"orphan\":{\"after\":\"5m\"}}", true, true, "" },
                { "{\"orphan\":{\"after\":\"299s\"}}", false, true, "orphan.after" },
                { "{\"orphan\":{\"after\":\"31d\"}}", false, false, "orphan.after" },
                { "{\"patrol\":{\"every\":\"1m\"}}", true, true, "" },
                { "{\"patrol\":{\"every\":\"59s\"}}", false, true, "patrol.every" },
                { "{\"grace\":\"4m\",\"patrol\":{\"after\":\"10m\"}}", true, true, "" },
                { "{\"grace\":\"4m\",\"patrol\":{\"after\":\"599s\"}}", false, true, "patrol.after" },
                { "{\"grace\":\"10ms\",\"confirm\":{\"before\":\"10ms\"}}", false, false, "grace" },
                { "{\"grace\":\"2d\"}", false, false, "grace" },
                { "{\"grace_dead\":\"3m\"}", true, true, "" },
                { "{\"grace_dead\":\"2m\"}", false, true, "grace_dead" },
                { "{\"brakes\":{\"max_sick\":\"50%\"}}", true, true, "" },
                { "{\"brakes\":{\"max_sick\":\"51%\"}}", false, true, "brakes.max_sick" },
                { "{\"brakes\":{\"max_actions\":\"20%\"}}", true, true, "" },
                { "{\"brakes\":{\"max_actions\":\"21%\"}}", false, true, "brakes.max_actions" },
                { "{\"brakes\":{\"max_actions\":10}}", true, true, "" },
                { "{\"brakes\":{\"max_actions\":11}}", false, true, "brakes.max_actions" },
                { "{\"brakes\":{\"max_actions\":null}}", true, true, "" },
                { "{\"brakes\":{\"max_per_day\":\"100%\"}}", true, true, "" },
                { "{\"brakes\":{\"max_per_day\":\"101%\"}}", false, false, "brakes.max_per_day" },
                { "{\"brakes\":{\"max_per_day\":0}}", true, true, "" },
                { "{\"brakes\":{\"max_per_day\":-1}}", false, false, "brakes.max_per_day" },
                { "{\"brakes\":{\"max_per_day\":null}}", true, true, "" },
                { "{\"brakes\":{\"window\":\"10m\"}}", true, true, "" },
                { "{\"brakes\":{\"window\":\"599s\"}}", false, true, "brakes.window" },
                { "{\"brakes\":{\"turn\":\"1m\"}}", true, true, "" },
                { "{\"brakes\":{\"turn\":\"59s\"}}", false, true, "brakes.turn" },
                { "{\"brakes\":{\"boot_grace\":\"3m\"}}", true, true, "" },
                { "{\"brakes\":{\"boot_grace\":0}}", false, true, "brakes.boot_grace" },
                { "{\"metrics\":{\"period\":\"10s\"}}", true, true, "" },
                { "{\"metrics\":{\"period\":\"1s\"}}", false, true, "metrics.period" },
                { "{\"metrics\":{\"sample\":\"100ms\"}}", false, true, "metrics.sample" },
                { "{\"ecs_agent\":{\"silent_after\":\"35m\"}}", false, true, "ecs_agent.silent_after" },
                { "{\"ecs_agent\":{\"wedged_after\":\"1m\"}}", false, true, "ecs_agent.wedged_after" },
        };

        cases_run(cases, ELEMENTSOF(cases));
}

static void test_what_does_not_fit_together_is_refused(void) {
        static const Case cases[] = {
                { "{\"grace\":\"5m\",\"confirm\":{\"before\":\"299s\"}}", true, true, "" },
                { "{\"grace\":\"5m\",\"confirm\":{\"before\":\"5m\"}}", false, false,
                        "confirm.before: 5m is not less" },
                { "{\"metrics\":{\"period\":\"10s\",\"sample\":\"10s\"}}", true, true, "" },
                { "{\"metrics\":{\"period\":\"30s\",\"sample\":\"31s\"}}", false, false,
                        "metrics.sample: 31s is more" },
                { "{\"patrol\":{\"after\":\"11m\"}}", true, true, "" },
                { "{\"patrol\":{\"after\":\"659s\"}}", false, true,
                        "patrol.after: 10m 59s is less than grace" },
                { "{\"repair\":{\"enabled\":false},\"patrol\":{\"after\":\"659s\"}}", true, true, "" },
                { "{\"grace\":\"1h\",\"patrol\":{\"enabled\":false,\"after\":\"20m\"}}", true, true, "" },
                { "{\"disk\":{\"mounts\":[\"/\",\"/data\"]}}", true, true, "" },
                { "{\"disk\":{\"mounts\":\"/data\"}}", true, true, "" },
                { "{\"disk\":{\"mounts\":[\"auto\",\"/data\"]}}", false, false, "disk.mounts" },
                { "{\"disk\":{\"mounts\":[\"data\"]}}", false, false,
                        "disk.mounts: \"data\" is no absolute path" },
                { "{\"witnesses\":[\"log\",\"introspection\"]}", true, true, "" },
                { "{\"witnesses\":[\"all\",\"log\"]}", false, false, "witnesses" },
                { "{\"witnesses\":[]}", false, false, "witnesses: none is left" },
                { "{\"witnesses\":[\"logs\"]}", false, false, "did you mean \"log\"" },
        };

        cases_run(cases, ELEMENTSOF(cases));
}

static void test_defaults_give_way_and_given_values_do_not(void) {
        static Settings s;
        static OptionProblems problems;

        scene_open();
        EXPECT_EQ(read_text("{\"grace\":\"3m\"}", &s, &problems), 0);
        EXPECT_EQ(s.policy.confirm_before, SPAN_SEC(90));
        EXPECT_EQ(read_text("{\"grace\":\"181s\"}", &s, &problems), 0);
        EXPECT_EQ(s.policy.confirm_before, SPAN_MIN(3));
        EXPECT_EQ(read_text("{\"grace\":\"3m\",\"confirm\":{\"before\":\"3m\"}}", &s, &problems), -EBADMSG);

        EXPECT_EQ(read_text("{\"grace\":\"17m\"}", &s, &problems), 0);
        EXPECT_EQ(s.policy.patrol_after, SPAN_MIN(20));
        EXPECT_EQ(read_text("{\"grace\":\"18m\"}", &s, &problems), 0);
        EXPECT_EQ(s.policy.patrol_after, SPAN_MIN(30));
        EXPECT_EQ(read_text("{\"grace\":\"18m\",\"patrol\":{\"after\":\"20m\"}}", &s, &problems), -EBADMSG);

        EXPECT_EQ(setenv("ECS_HEALTH_AGENT_UNSAFE", "1", 1), 0);
        EXPECT_EQ(read_text("{\"metrics\":{\"period\":\"2s\"}}", &s, &problems), 0);
        EXPECT_EQ(s.sample, SPAN_SEC(2));
        EXPECT_EQ(read_text("{\"metrics\":{\"period\":\"2s\",\"sample\":\"3s\"}}", &s, &problems), -EBADMSG);
        scene_close();
}

static void test_endpoint_must_be_on_a_loopback_address(void) {
        static const Case cases[] = {
                { "{\"ecs_agent\":{\"endpoint\":\"http://127.0.0.1:51678\"}}", true, true, "" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://127.1.2.3:1\"}}", true, true, "" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://[::1]:51678\"}}", true, true, "" },
                { "{\"ecs_agent\":{\"endpoint\":\"https://127.0.0.1:51678\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://10.0.0.1:51678\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://localhost:51678\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://127.0.0.1.evil.example:80\"}}", false, false,
                        "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://127.0.0.1@evil.example:80\"}}", false, false,
                        "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://127.0.0.1\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://127.0.0.1:0\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://127.0.0.1:65536\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://127.0.0.1:51678/v1\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://[::2]:51678\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://[127.0.0.1]:51678\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://[::1\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"http://\"}}", false, false, "endpoint" },
                { "{\"ecs_agent\":{\"endpoint\":\"127.0.0.1:51678\"}}", false, false, "endpoint" },
        };

        cases_run(cases, ELEMENTSOF(cases));
}

static void test_names_must_be_possible_ones(void) {
        static const Case cases[] = {
                { "{\"metrics\":{\"namespace\":\"My.Team/ECS-1\"}}", true, true, "" },
                { "{\"metrics\":{\"namespace\":\"AWS/ECS\"}}", false, false, "metrics.namespace" },
                { "{\"metrics\":{\"namespace\":\":x\"}}", false, false, "metrics.namespace" },
                { "{\"metrics\":{\"namespace\":\"\"}}", false, false, "metrics.namespace" },
                { "{\"metrics\":{\"namespace\":\"\\u00fc\"}}", false, false, "metrics.namespace" },
                { "{\"ecs_agent\":{\"unit\":\"ecs-agent@1.service\"}}", true, true, "" },
                { "{\"ecs_agent\":{\"unit\":\"ecs\"}}", false, false, "ecs_agent.unit" },
                { "{\"ecs_agent\":{\"unit\":\".service\"}}", false, false, "ecs_agent.unit" },
                { "{\"docker\":{\"unit\":\"a/b.service\"}}", false, false, "docker.unit" },
                { "{\"docker\":{\"socket\":\"docker.sock\"}}", false, false, "docker.socket" },
                { "{\"ecs_agent\":{\"log\":\"ecs.log\"}}", false, false, "ecs_agent.log" },
                { "{\"ecs_agent\":{\"cluster\":null}}", true, true, "" },
                { "{\"ecs_agent\":{\"cluster\":\"web\"}}", true, true, "" },
        };

        cases_run(cases, ELEMENTSOF(cases));
}

static void test_actions_are_told_by_their_names(void) {
        static const struct {
                const char *text;
                unsigned action, orphan;
        } rows[] = {
                { "{\"action\":\"observe\"}", ACTION_OBSERVE, ORPHAN_STOP },
                { "{\"action\":\"detach\",\"orphan\":{\"action\":\"keep\"}}", ACTION_DETACH, ORPHAN_KEEP },
                { "{\"action\":\"unhealthy\",\"orphan\":{\"action\":\"stop\"}}", ACTION_UNHEALTHY,
                        ORPHAN_STOP },
                { "{\"action\":\"standby\",\"orphan\":{\"action\":\"terminate\"}}", ACTION_STANDBY,
                        ORPHAN_TERMINATE },
        };
        static const Case wrong[] = {
                { "{\"action\":\"detatch\"}", false, false, "did you mean \"detach\"" },
                { "{\"action\":\"terminate\"}", false, false, "action: \"terminate\"" },
                { "{\"orphan\":{\"action\":\"stopp\"}}", false, false, "did you mean \"stop\"" },
                { "{\"orphan\":{\"deregister\":\"force\"}}", false, false, "orphan.deregister" },
        };
        static Settings s;
        static OptionProblems problems;

        scene_open();
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                EXPECT_EQ(read_text(rows[i].text, &s, &problems), 0);
                EXPECT_EQ(s.policy.action, rows[i].action);
                EXPECT_EQ(s.policy.orphan, rows[i].orphan);
                EXPECT(strstr(rows[i].text, action_to_string((Action) s.policy.action)));
        }
        scene_close();
        cases_run(wrong, ELEMENTSOF(wrong));
}

static void test_what_comes_later_is_refused_and_said_to_come(void) {
        static const Case cases[] = {
                { "{\"logs\":{\"group\":\"a\"}}", false, false, "does not have it yet" },
                { "{\"notify\":{\"sns_topic\":\"a\"}}", false, false, "does not have it yet" },
                { "{\"notice\":{\"sns_topic\":\"a\"}}", false, false, "notice: unknown" },
        };

        cases_run(cases, ELEMENTSOF(cases));
}

static void test_all_problems_are_told_at_once(void) {
        static Settings s;
        static OptionProblems problems;

        scene_open();
        EXPECT_EQ(
                read_text(
                        "{\"disk\":{\"mounts\":[\"a\",\"b\"]},\"docker\":{\"unit\":\"x\",\"socket\":\"y\"}}",
                        &s, &problems),
                -EBADMSG);
        EXPECT_EQ(problems.n, 4);
        scene_close();
}

static void test_refused_file_leaves_the_settings_alone(void) {
        static Settings s, before;
        static OptionProblems problems;
        const char *origins[64] = { "before" };

        scene_open();
        EXPECT_EQ(settings_default(&s), 0);
        s.policy.grace = SPAN_MIN(7);
        before = s;
        put("{\"grace\":\"5m\",\"metrics\":{\"sample\":\"1h\"}}");
        EXPECT_EQ(settings_read(path, &s, origins, &problems), -EBADMSG);
        EXPECT(same(&s, &before));
        EXPECT_STR(origins[0], "before");
        scene_close();
}

static void test_file_that_cannot_be_read_or_is_too_large_is_a_problem(void) {
        static Settings s;
        static OptionProblems problems;
        _cleanup_(freep) char *large = calloc(1, SETTINGS_FILE_MAX + 2);

        scene_open();
        EXPECT_EQ(settings_read(root, &s, NULL, &problems), -EBADMSG); /* a directory */
        EXPECT_EQ(problems.n, 1);
        memset(large, ' ', SETTINGS_FILE_MAX + 1);
        put(large);
        EXPECT_EQ(settings_read(path, &s, NULL, &problems), -EBADMSG);
        EXPECT(strstr(problems.text[0], "too large"));
        put("{}");
        EXPECT_EQ(chmod(path, 0), 0);
        if (access(path, R_OK) < 0) { /* root can read it all the same */
                EXPECT_EQ(settings_read(path, &s, NULL, &problems), -EBADMSG);
                EXPECT(strstr(problems.text[0], "permission denied"));
        }
        scene_close();
}

/* As the daemon has them: what the stack says, then the file. */
static OptionProblems composing;

static int compose(const char *stack, const char *file, Settings *settings, const char **origins) {
        const SettingsText texts[] = {
                { .source = "the stack", .text = stack, .n = stack ? strlen(stack) : 0, .from_stack = true },
                { .source = "the file", .text = file, .n = file ? strlen(file) : 0 },
        };

        return settings_compose(texts, ELEMENTSOF(texts), settings, origins, &composing);
}

static void test_compose_lets_the_later_source_win(void) {
        static Settings s;
        const char *origins[SETTINGS_ROWS_MAX];

        scene_open();
        EXPECT_EQ(compose("{\"grace\":\"10m\",\"drain\":\"false\"}", "{\"grace\":\"20m\"}", &s, origins), 0);
        EXPECT_EQ(s.policy.grace, SPAN_MIN(20));
        EXPECT(!s.policy.drain);
        EXPECT_STR(settings_origin(origins, "grace"), "the file");
        EXPECT_STR(settings_origin(origins, "drain"), "the stack");
        EXPECT_STR(settings_origin(origins, "cooldown"), "default");

        EXPECT_EQ(compose("{\"grace\":\"10m\"}", NULL, &s, origins), 0);
        EXPECT_EQ(s.policy.grace, SPAN_MIN(10));
        EXPECT_EQ(compose(NULL, NULL, &s, origins), 0);
        EXPECT_EQ(s.policy.grace, SPAN_MIN(8));
        scene_close();
}

static void test_compose_names_the_source_that_is_wrong(void) {
        static const struct {
                const char *stack, *file, *problem;
        } cases[] = {
                { "{\"grace\":\"1s\"}", "{}", "the stack: grace: " },
                { "{}", "{\"grace\":\"1s\"}", "the file: grace: " },
                /* fine each, but not together: the row that gives offence is the stack's */
                { "{\"confirm\":{\"before\":\"7m\"}}", "{\"grace\":\"6m\"}", "the stack: confirm.before: " },
                { "{\"graec\":1}", "{\"grace\":\"1s\"}", "the stack: graec: unknown key" },
        };
        static Settings s;

        scene_open();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                s.policy.grace = 77;
                EXPECT_EQ(compose(cases[i].stack, cases[i].file, &s, NULL), -EBADMSG);
                EXPECT_EQ(composing.n, 1);
                if (strncmp(composing.text[0], cases[i].problem, strlen(cases[i].problem)) != 0)
                        EXPECT_STR(composing.text[0], cases[i].problem);
                EXPECT_EQ(s.policy.grace, 77);
        }
        scene_close();
}

static void test_metadata_cannot_say_where_they_are(void) {
        static const char *const cases[] = { "{\"cloudformation\":{\"stack\":\"other\"}}",
                "{\"cloudformation\":{\"resource\":\"Other\"}}",
                "{\"cloudformation\":{\"enabled\":false}}" };
        static Settings s;

        scene_open();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                /* a file after it must not wipe the complaint away */
                EXPECT_EQ(compose(cases[i], "{\"grace\":\"9m\"}", &s, NULL), -EBADMSG);
                EXPECT(strstr(composing.text[0], "cannot stand in the metadata"));
                EXPECT_EQ(compose(NULL, cases[i], &s, NULL), 0);
        }
        EXPECT_EQ(compose("{\"cloudformation\":{\"refresh\":\"1h\"}}", NULL, &s, NULL), 0);
        EXPECT_EQ(s.stack_refresh, SPAN_HOUR(1));
        scene_close();
}

static void test_external_is_taken_from_the_agents_own_settings(void) {
        static const struct {
                const char *text;
                bool external;
        } cases[] = { { "ECS_EXTERNAL=true", true },
                { "ECS_CLUSTER=web\n  ECS_EXTERNAL = \"1\" \r\n", true }, { "ECS_EXTERNAL=T\n", true },
                { "ECS_EXTERNAL=false\n", false }, { "ECS_EXTERNAL=\n", false },
                { "#ECS_EXTERNAL=true\n", false }, { "ECS_EXTERNAL\n", false },
                { "ECS_EXTERNALS=true\n", false }, { "ECS_EXTERNAL=true\nECS_EXTERNAL=false\n", false },
                { "=\n\"=\"\n", false }, { "", false } };
        static Settings s;
        static OptionProblems problems;

        scene_open();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                put_ecs_config("/etc/ecs", cases[i].text);
                EXPECT_EQ(settings_read(path, &s, NULL, &problems), 0);
                EXPECT_EQ(s.policy.external, cases[i].external);
        }
        scene_close();
}

static void test_proxy_is_the_https_one_else_the_http_one(void) {
        SettingsEcs ecs;

        scene_open();
        settings_ecs_config(&ecs);
        EXPECT_STR(ecs.https_proxy, "");

        put_ecs_config("/etc/ecs", "HTTP_PROXY=proxy:3128\nNO_PROXY=169.254.169.254,/var/run/docker.sock\n");
        settings_ecs_config(&ecs);
        EXPECT_STR(ecs.https_proxy, "proxy:3128");
        EXPECT_STR(ecs.no_proxy, "169.254.169.254,/var/run/docker.sock");

        put_ecs_config("/etc/ecs", "HTTPS_PROXY='http://u:p@secure:1'\nHTTP_PROXY=proxy:3128\n");
        settings_ecs_config(&ecs);
        EXPECT_STR(ecs.https_proxy, "http://u:p@secure:1");

        put_ecs_config("/etc/ecs", "ECS_CLUSTER=web\n");
        put_ecs_config("/var/lib/ecs", "http_proxy=instance:1\nECS_EXTERNAL=yes\n");
        settings_ecs_config(&ecs);
        EXPECT_STR(ecs.https_proxy, "instance:1");
        EXPECT(ecs.external);
        scene_close();
}

static void test_cluster_is_the_agents_own_by_its_short_name(void) {
        static const struct {
                const char *text, *cluster;
        } cases[] = { { "ECS_CLUSTER=web\n", "web" }, { " ECS_CLUSTER = 'web-1_b' \r\n", "web-1_b" },
                { "ECS_CLUSTER=arn:aws:ecs:us-east-1:123456789012:cluster/web", "web" },
                { "ECS_CLUSTER=one\nECS_CLUSTER=two\n", "two" }, { "ECS_CLUSTER=one\nECS_CLUSTER=\n", "" },
                { "ECS_CLUSTER=\n", "" }, { "#ECS_CLUSTER=web\n", "" }, { "ecs_cluster=web\n", "" },
                { "ECS_CLUSTERS=web\n", "" }, { "ECS_CLUSTER\n", "" }, { "", "" } };
        char text[1024];
        SettingsEcs ecs;

        scene_open();
        settings_ecs_config(&ecs);
        EXPECT_STR(ecs.cluster, "");
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                put_ecs_config("/etc/ecs", cases[i].text);
                settings_ecs_config(&ecs);
                EXPECT_STR(ecs.cluster, cases[i].cluster);
        }
        (void) snprintf(text, sizeof(text), "ECS_CLUSTER=%0300d\n", 0);
        put_ecs_config("/etc/ecs", text);
        settings_ecs_config(&ecs);
        EXPECT_STR(ecs.cluster, "");

        put_ecs_config("/var/lib/ecs", "ECS_CLUSTER=image\n");
        put_ecs_config("/etc/ecs", "ECS_LOGLEVEL=info\n");
        settings_ecs_config(&ecs);
        EXPECT_STR(ecs.cluster, "image");
        put_ecs_config("/etc/ecs", "ECS_CLUSTER=host\n");
        settings_ecs_config(&ecs);
        EXPECT_STR(ecs.cluster, "host");
        scene_close();
}

static void test_overlong_proxy_is_left_out(void) {
        char text[4096];
        SettingsEcs ecs;

        scene_open();
        (void) snprintf(text, sizeof(text), "HTTPS_PROXY=%01000d\nNO_PROXY=%01500d\n", 0, 0);
        put_ecs_config("/etc/ecs", text);
        settings_ecs_config(&ecs);
        EXPECT_STR(ecs.https_proxy, "");
        EXPECT_STR(ecs.no_proxy, "");
        scene_close();
}

static void test_witnesses_are_on_by_name_or_all_together(void) {
        static Settings s;
        static OptionProblems problems;

        scene_open();
        EXPECT_EQ(settings_default(&s), 0);
        EXPECT(settings_witness_on(&s, "log"));
        EXPECT(settings_witness_on(&s, "metadata"));
        EXPECT_EQ(read_text("{\"witnesses\":[\"log\",\"units\"]}", &s, &problems), 0);
        EXPECT(settings_witness_on(&s, "log"));
        EXPECT(!settings_witness_on(&s, "sockets"));
        scene_close();
}

static void test_sample_file_is_accepted_and_changes_nothing(void) {
        static Settings s, standard;
        static OptionProblems problems;
        FILE *f;

        scene_open();
        f = fopen(path, "we");
        EXPECT(f);
        options_print_sample(settings_table, settings_table_n, f);
        EXPECT_EQ(fclose(f), 0);
        EXPECT_EQ(settings_default(&standard), 0);
        EXPECT_EQ(settings_read(path, &s, NULL, &problems), 0);
        EXPECT(same(&s, &standard));
        scene_close();
}

static void test_every_row_explains_itself(void) {
        for (size_t i = 0; i < settings_table_n; i++) {
                const char *help = settings_table[i].help;

                EXPECT(help && *help && help[strlen(help) - 1] == '.');
        }
}

static void test_effective_settings_are_printed_as_table_and_as_json(void) {
        _cleanup_(freep) char *table = NULL, *json = NULL;
        _cleanup_(json_freep) cJSON *tree = NULL;
        static Settings s;
        static OptionProblems problems;
        const char *origins[64] = {}, *text = NULL;
        const cJSON *grace = NULL;
        size_t n = 0;
        FILE *f;

        scene_open();
        put("{\"grace\":\"5m\"}");
        EXPECT_EQ(settings_read(path, &s, origins, &problems), 0);

        f = open_memstream(&table, &n);
        settings_print_effective(&s, origins, f, false);
        EXPECT_EQ(fclose(f), 0);
        EXPECT(strstr(table, "\ngrace                     \"5m\" "));
        EXPECT(strstr(table, path));
        EXPECT(strstr(table, "brakes.boot_grace"));

        f = open_memstream(&json, &n);
        settings_print_effective(&s, origins, f, true);
        EXPECT_EQ(fclose(f), 0);
        EXPECT_EQ(json_parse(json, n, NULL, &tree), 0);
        EXPECT_EQ(json_get_object(tree, "grace", &grace), 0);
        EXPECT_EQ(json_get_string(grace, "value", &text), 0);
        EXPECT_STR(text, "5m");
        EXPECT_EQ(json_get_string(grace, "source", &text), 0);
        EXPECT_STR(text, path);
        scene_close();
}

TEST_MAIN(TEST(test_defaults_are_those_of_the_manual), TEST(test_missing_file_is_an_empty_one),
        TEST(test_value_of_the_file_wins_and_names_its_origin),
        TEST(test_floors_hold_unless_they_are_lifted), TEST(test_what_does_not_fit_together_is_refused),
        TEST(test_defaults_give_way_and_given_values_do_not),
        TEST(test_endpoint_must_be_on_a_loopback_address), TEST(test_names_must_be_possible_ones),
        TEST(test_actions_are_told_by_their_names), TEST(test_what_comes_later_is_refused_and_said_to_come),
        TEST(test_all_problems_are_told_at_once), TEST(test_refused_file_leaves_the_settings_alone),
        TEST(test_file_that_cannot_be_read_or_is_too_large_is_a_problem),
        TEST(test_compose_lets_the_later_source_win), TEST(test_compose_names_the_source_that_is_wrong),
        TEST(test_metadata_cannot_say_where_they_are),
        TEST(test_external_is_taken_from_the_agents_own_settings),
        TEST(test_proxy_is_the_https_one_else_the_http_one),
        TEST(test_cluster_is_the_agents_own_by_its_short_name), TEST(test_overlong_proxy_is_left_out),
        TEST(test_witnesses_are_on_by_name_or_all_together),
        TEST(test_sample_file_is_accepted_and_changes_nothing), TEST(test_every_row_explains_itself),
        TEST(test_effective_settings_are_printed_as_table_and_as_json))
