/* SPDX-License-Identifier: Apache-2.0 */

/* The doctor's readers: what they take from texts of others, and what they do not. */

#include "agent/doctor.h"

#include <string.h>

#include "common/parse.h"
#include "tests/unit/test.h"

static void test_an_environment_file_is_read_as_systemd_does(void) {
        static const char *const expected[][2] = {
                { "A", "1" },
                { "B", "two words" },
                { "C", "single" },
                { "D", "" },
                { "E", "x=y # not a comment" },
                { "F", "blanks around" },
                { "_g9", "\"open" },
                { "Z", "no newline at the end" },
        };
        char text[] =
                "# comment\n; comment\n\nA=1\nB=\"two words\"\n C='single'\nD=\nE=x=y # not a comment\r\n"
                "F =  blanks around \t\nnothing\n9=no key\nA B=no key\n=no key\n#H=1\n_g9=\"open\n"
                "Z=no newline at the end";
        const char *key = NULL, *value = NULL;
        char *rest = text;

        for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
                EXPECT(parse_env(&rest, &key, &value));
                EXPECT_STR(key, expected[i][0]);
                EXPECT_STR(value, expected[i][1]);
        }
        EXPECT(!parse_env(&rest, &key, &value));
        EXPECT(!parse_env(&rest, &key, &value));
}

static void test_later_ecs_config_wins_and_is_wiped(void) {
        char first[] = "ECS_LOG_DRIVER=awslogs\nHTTP_PROXY=a:1\nECS_AWSVPC_BLOCK_IMDS=true\n";
        char second[] = "http_proxy=b:2\nNO_PROXY=x\nECS_LOGLEVEL=\"warn\"\nECS_ENGINE_AUTH_DATA=hunter2\n";
        char third[] =
                "HTTPS_PROXY=c:3\nHTTP_PROXY=d:4\nECS_AWSVPC_BLOCK_IMDS=F\nECS_LOGLEVEL_ON_INSTANCE=info\n";
        EcsFacts facts = {};

        ecs_facts_read(first, &facts);
        EXPECT_STR(facts.log_driver, "awslogs");
        EXPECT_STR(facts.proxy, "a:1");
        EXPECT(facts.block_imds);
        ecs_facts_read(second, &facts);
        EXPECT_STR(facts.proxy, "b:2");
        EXPECT_STR(facts.no_proxy, "x");
        EXPECT_STR(facts.log_level, "warn");
        ecs_facts_read(third, &facts);
        EXPECT_STR(facts.proxy, "c:3");
        EXPECT_STR(facts.log_level_on_instance, "info");
        EXPECT(!facts.block_imds);
        for (size_t i = 0; i < sizeof(second); i++)
                EXPECT_EQ(second[i], '\0');
}

static void test_a_value_that_does_not_fit_is_left_out(void) {
        char text[1024] = "ECS_LOG_DRIVER=";
        EcsFacts facts = { .log_driver = "before" };

        memset(text + strlen(text), 'x', 900);
        ecs_facts_read(text, &facts);
        EXPECT_STR(facts.log_driver, "before");
}

static void test_the_agents_log_is_hidden_by_its_settings(void) {
        static const struct {
                EcsFacts facts;
                const char *fix; /* NULL: it is not */
        } cases[] = {
                { {}, NULL },
                { { .log_level = "info" }, NULL },
                { { .log_level = "DEBUG" }, NULL },
                { { .log_level = "loud" }, NULL }, /* not known: as if not set */
                { { .log_level = "warn" }, "ECS_LOGLEVEL=info" },
                { { .log_level = "ERROR" }, "ECS_LOGLEVEL=info" },
                { { .log_level = "crit" }, "ECS_LOGLEVEL=info" },
                { { .log_level = "none" }, "ECS_LOGLEVEL=info" },
                { { .log_level = "error", .log_level_on_instance = "info" }, NULL },
                { { .log_level_on_instance = "error" }, "ECS_LOGLEVEL_ON_INSTANCE=info" },
                { { .log_level = "info", .log_level_on_instance = "none" },
                        "ECS_LOGLEVEL_ON_INSTANCE=info" },
                { { .log_driver = "awslogs" }, "ECS_LOGLEVEL_ON_INSTANCE=info" },
                { { .log_driver = "awslogs", .log_level = "info" }, "ECS_LOGLEVEL_ON_INSTANCE=info" },
                { { .log_driver = "awslogs", .log_level_on_instance = "info" }, NULL },
                { { .log_driver = "awslogs", .log_level_on_instance = "warn" },
                        "ECS_LOGLEVEL_ON_INSTANCE=info" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const char *fix = NULL, *hidden = ecs_log_hidden(&cases[i].facts, &fix);

                EXPECT_EQ(hidden != NULL, cases[i].fix != NULL);
                if (cases[i].fix)
                        EXPECT_STR(fix, cases[i].fix);
        }
}

static void test_no_proxy_covers_the_metadata_service_or_not(void) {
        static const struct {
                const char *list;
                bool covers;
        } cases[] = {
                { "169.254.169.254", true },
                { "localhost, 169.254.169.254,/var/run/docker.sock", true },
                { "localhost 169.254.169.254", true },
                { "169.254.169.254:80", true },
                { "169.254.0.0/16", true },
                { "169.254.169.254/32", true },
                { "0.0.0.0/0", true },
                { "*", true },
                { "", false },
                { ",, ,", false },
                { "localhost", false },
                { "169.254.170.2", false },
                { "169.254.169.253/32", false },
                { "169.254.169.254:443", false },
                { "169.254.168.0/24", false },
                { "169.254.0.0/33", false },
                { "169.254.0.0/", false },
                { "169.254.0.0/-1", false },
                { "169.254.", false },
                { ".169.254.169.254", false },
                { "169.254.169.2541", false },
                { "fd00:ec2::254", false },
                { "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                EXPECT_EQ(proxy_exempts_metadata(cases[i].list), cases[i].covers);
}

static void test_a_proxy_is_shown_without_its_password(void) {
        static const char *const cases[][2] = {
                { "http://ann:hunter2@proxy:3128", "http://proxy:3128" },
                { "http://ann:p@ss@proxy:3128/", "http://proxy:3128/" },
                { "ann:hunter2@proxy:3128", "proxy:3128" },
                { "https://proxy", "https://proxy" },
                { "proxy:3128", "proxy:3128" },
                { "http://pro\033xy", "http://pro?xy" },
                { "", "" },
        };
        char shown[64];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                EXPECT_STR(proxy_public(cases[i][0], shown, sizeof(shown)), cases[i][1]);
}

static void test_the_limit_of_locked_memory(void) {
        static const struct {
                const char *text;
                int r;
                uint64_t limit;
        } cases[] = {
                { "Limit                     Soft Limit           Hard Limit           Units     \n"
                  "Max cpu time              unlimited            unlimited            seconds   \n"
                  "Max locked memory         8388608              16777216             bytes     \n",
                        0, 8388608 },
                { "Max locked memory         unlimited            unlimited            bytes     \n", 0,
                        UINT64_MAX },
                { "Max locked memory         0 0 bytes", 0, 0 },
                { "", -EBADMSG, 7 },
                { "Max cpu time              unlimited            unlimited            seconds   \n",
                        -EBADMSG, 7 },
                { "No Max locked memory      1 1 bytes\n", -EBADMSG, 7 },
                { "Max locked memory\n", -EBADMSG, 7 },
                { "Max locked memory         lots                 lots                 bytes     \n",
                        -EBADMSG, 7 },
                { "Max locked memory         -1 -1 bytes\n", -EBADMSG, 7 },
                { "Max locked memory         99999999999999999999 1 bytes\n", -EBADMSG, 7 },
                { "Max locked memory         999999999999999999999999999999999999999999 1 bytes\n", -EBADMSG,
                        7 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint64_t limit = 7;

                EXPECT_EQ(limits_memory_lock(cases[i].text, &limit), cases[i].r);
                EXPECT_EQ(limit, cases[i].limit);
        }
}

static void test_the_groups_of_a_process(void) {
        gid_t groups[3] = {};
        size_t n = 7;

        EXPECT_EQ(process_groups("Name:\tx\nGid:\t1\t1\t1\t1\nGroups:\t10 992 4294967295 \nNgid:\t0\n",
                          groups, 3, &n),
                0);
        EXPECT_EQ(n, 3);
        EXPECT(groups[0] == 10 && groups[1] == 992 && groups[2] == 4294967295u);
        EXPECT_EQ(process_groups("Groups:\t \nNgid:\t0\n", groups, 3, &n), 0);
        EXPECT_EQ(n, 0);
        EXPECT_EQ(process_groups("Groups:", groups, 3, &n), 0);

        n = 7;
        EXPECT_EQ(process_groups("Groups:\t1 2 3 4 \n", groups, 3, &n), -E2BIG);
        EXPECT_EQ(process_groups("Groups:\t1 x \n", groups, 3, &n), -EBADMSG);
        EXPECT_EQ(process_groups("Groups:\t4294967296 \n", groups, 3, &n), -EBADMSG);
        EXPECT_EQ(process_groups("Groups:\t11111111111111111111 \n", groups, 3, &n), -EBADMSG);
        EXPECT_EQ(process_groups("Name:\tGroups: 1\n", groups, 3, &n), -EBADMSG);
        EXPECT_EQ(process_groups("", groups, 3, &n), -EBADMSG);
        EXPECT_EQ(n, 7);
}

static void test_the_start_of_a_process(void) {
        uint64_t start = 7;

        EXPECT_EQ(process_start(
                          "12 (a) b 3) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8734 1 2\n", &start),
                0);
        EXPECT_EQ(start, 8734);
        start = 7;
        EXPECT_EQ(process_start("12 (x) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 \n", &start),
                -EBADMSG);
        EXPECT_EQ(process_start("12 (x) S 1 12 12", &start), -EBADMSG);
        EXPECT_EQ(process_start("12 (x) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 soon 1\n", &start),
                -EBADMSG);
        EXPECT_EQ(process_start("", &start), -EBADMSG);
        EXPECT_EQ(start, 7);
}

static void test_texts_are_made_printable(void) {
        char text[] = "a\tb\nc\033[2Jd\x7f\xc2\x9b\xff~";

        text_printable(text);
        EXPECT_STR(text, "a b c?[2Jd????~");
}

#define CLUSTER                                                                                             \
        { "ClusterName", "c" }
#define GROUP                                                                                               \
        { "AutoScalingGroupName", "g" }
#define HOST                                                                                                \
        { "InstanceId", "i" }
#define PATH                                                                                                \
        { "path", "/" }
#define BRAKE                                                                                               \
        { "Brake", "share" }

static void test_an_alarm_is_judged_by_its_names(void) {
        static const struct {
                const char *metric;
                AlarmDimension dimensions[5];
                size_t n;
                unsigned per_instance;
                AlarmVerdict verdict;
        } cases[] = {
                { "heartbeat", { CLUSTER, GROUP }, 2, PER_INSTANCE_NEVER, ALARM_FINE },
                { "heartbeat", { GROUP, CLUSTER }, 2, PER_INSTANCE_NEVER, ALARM_FINE },
                { "disk_used_percent", { CLUSTER, GROUP, PATH }, 3, PER_INSTANCE_NEVER, ALARM_FINE },
                { "disk_inodes_used_percent", { CLUSTER, PATH, GROUP }, 3, PER_INSTANCE_NEVER, ALARM_FINE },
                { "remediation_held", { CLUSTER, GROUP }, 2, PER_INSTANCE_NEVER, ALARM_FINE },
                { "remediation_held", { CLUSTER, GROUP, BRAKE }, 3, PER_INSTANCE_NEVER, ALARM_SOMETIMES },
                { "heartbeat", { CLUSTER, HOST }, 2, PER_INSTANCE_ALWAYS, ALARM_FINE },
                { "heartbeat", { CLUSTER, HOST }, 2, PER_INSTANCE_WHEN_ILL, ALARM_SOMETIMES },
                { "heartbeat", { CLUSTER, HOST }, 2, PER_INSTANCE_NEVER, ALARM_NO_INSTANCE },
                { "disk_used_percent", { CLUSTER, HOST, PATH }, 3, PER_INSTANCE_ALWAYS, ALARM_FINE },

                { "heartbeat", {}, 0, PER_INSTANCE_ALWAYS, ALARM_NO_SET },
                { "heartbeat", { CLUSTER }, 1, PER_INSTANCE_ALWAYS, ALARM_NO_SET },
                { "heartbeat", { GROUP }, 1, PER_INSTANCE_ALWAYS, ALARM_NO_SET },
                { "heartbeat", { HOST, GROUP }, 2, PER_INSTANCE_ALWAYS, ALARM_NO_SET },
                { "heartbeat", { CLUSTER, HOST, GROUP }, 3, PER_INSTANCE_ALWAYS, ALARM_NO_SET },
                { "heartbeat", { CLUSTER, GROUP, PATH }, 3, PER_INSTANCE_ALWAYS, ALARM_NO_SET },
                { "heartbeat", { CLUSTER, GROUP, BRAKE }, 3, PER_INSTANCE_ALWAYS, ALARM_NO_SET },
                { "disk_used_percent", { CLUSTER, GROUP, { "device", "sda" } }, 3, PER_INSTANCE_ALWAYS,
                        ALARM_NO_SET },
                { "disk_used_percent", { CLUSTER, GROUP, PATH, { "device", "sda" } }, 4, PER_INSTANCE_ALWAYS,
                        ALARM_NO_SET },
                { "heartbeat", { { "clustername", "c" }, GROUP }, 2, PER_INSTANCE_ALWAYS, ALARM_NO_SET },
                { "Heartbeat", { CLUSTER, GROUP }, 2, PER_INSTANCE_ALWAYS, ALARM_NO_METRIC },
                { "", { CLUSTER, GROUP }, 2, PER_INSTANCE_ALWAYS, ALARM_NO_METRIC },
        };
        const char *nearest = "untouched";

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                EXPECT_EQ(alarm_judge(cases[i].metric, cases[i].dimensions, cases[i].n,
                                  cases[i].per_instance, &nearest),
                        cases[i].verdict);
        EXPECT_EQ(alarm_judge("heartbeet", NULL, 0, PER_INSTANCE_NEVER, &nearest), ALARM_NO_METRIC);
        EXPECT_STR(nearest, "heartbeat");
        EXPECT_EQ(alarm_judge("CPUUtilization", NULL, 0, PER_INSTANCE_NEVER, &nearest), ALARM_NO_METRIC);
        EXPECT(!nearest);
}

TEST_MAIN(TEST(test_an_environment_file_is_read_as_systemd_does),
        TEST(test_later_ecs_config_wins_and_is_wiped), TEST(test_a_value_that_does_not_fit_is_left_out),
        TEST(test_the_agents_log_is_hidden_by_its_settings),
        TEST(test_no_proxy_covers_the_metadata_service_or_not),
        TEST(test_a_proxy_is_shown_without_its_password), TEST(test_the_limit_of_locked_memory),
        TEST(test_the_groups_of_a_process), TEST(test_the_start_of_a_process),
        TEST(test_texts_are_made_printable), TEST(test_an_alarm_is_judged_by_its_names))
