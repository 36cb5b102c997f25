/* SPDX-License-Identifier: Apache-2.0 */

/* Memory is read as the kernel writes it, nonsense is refused, and what is missing is "not known". */

#include <fcntl.h>
#include <sys/stat.h>

#include "agent/observe/memory.h"
#include "common/loop.h"
#include "tests/unit/test.h"

static const char meminfo[] = "MemTotal:        1000000 kB\n"
                              "MemFree:          100000 kB\n"
                              "MemAvailable:     400000 kB\n"
                              "Buffers:           50000 kB\n"
                              "Cached:           200000 kB\n"
                              "SwapCached:       777777 kB\n"
                              "SwapTotal:        200000 kB\n"
                              "SwapFree:         150000 kB\n"
                              "SReclaimable:      50000 kB\n";
static const char pressure[] = "some avg10=1.00 avg60=12.34 avg300=0.10 total=9\n"
                               "full avg10=0.00 avg60=0.07 avg300=0.00 total=3\n";
static const char vmstat[] = "nr_free_pages 6098778\noom_kill_disable 9\noom_kill 17\nzswpin 0\n";

static void test_meminfo_gives_shares_as_the_cloudwatch_agent_does(void) {
        MemorySample sample = {};

        EXPECT_EQ(memory_parse_meminfo(meminfo, strlen(meminfo), &sample), 0);
        EXPECT_EQ(sample.used, 6000);
        EXPECT_EQ(sample.available, 4000);
        EXPECT_EQ(sample.swap_used, 2500);
}

static void test_meminfo_without_swap_has_no_swap_used(void) {
        static const char text[] = "MemTotal: 1000 kB\nMemFree: 1000 kB\nMemAvailable: 1000 kB\nSwapTotal: "
                                   "0 kB\nSwapFree: 0 kB";
        MemorySample sample = { .swap_used = 1 };

        EXPECT_EQ(memory_parse_meminfo(text, strlen(text), &sample), 0);
        EXPECT_EQ(sample.used, 0);
        EXPECT_EQ(sample.available, 10000);
        EXPECT_EQ(sample.swap_used, 0);
}

static void test_meminfo_refuses_what_the_kernel_does_not_write(void) {
        static const char *const cases[] = {
                "",
                "nonsense",
                "MemTotal: 1000 kB\nMemFree: 1 kB\n",
                "MemTotal: 1000 kB\nMemAvailable: 1 kB\n",
                "MemFree: 1 kB\nMemAvailable: 1 kB\n",
                "MemTotal: 0 kB\nMemFree: 0 kB\nMemAvailable: 0 kB\n",
                "MemTotal: 10 kB\nMemFree: 1 kB\nMemAvailable: 11 kB\n",
                "MemTotal: 10 kB\nMemFree: 11 kB\nMemAvailable: 1 kB\n",
                "MemTotal: -10 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\n",
                "MemTotal: 10 kB\nMemFree:\n1 kB\nMemAvailable: 1 kB\n",
                "MemTotal: 99999999999999999999999 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\n",
                "MemTotal: 10 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\nSwapTotal: 1 kB\nSwapFree: 2 kB\n",
                "MemTotal: 10 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\nCached: 18446744073709551615 kB\n",
        };
        MemorySample sample = { .used = 7 };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                EXPECT_EQ(memory_parse_meminfo(cases[i], strlen(cases[i]), &sample), -EBADMSG);
        EXPECT_EQ(sample.used, 7);
}

static void test_pressure_gives_the_minutes_average(void) {
        MemorySample sample = {};

        EXPECT_EQ(memory_parse_pressure(pressure, strlen(pressure), &sample), 0);
        EXPECT_EQ(sample.some, 1234);
        EXPECT_EQ(sample.full, 7);
        EXPECT_EQ(memory_parse_pressure("some avg10=0.00 avg60=100.00", 28, &sample), 0);
        EXPECT_EQ(sample.some, 10000);
        EXPECT_EQ(sample.full, SHARE_NONE);
}

static void test_pressure_refuses_other_formats(void) {
        static const char *const cases[] = {
                "",
                "some",
                "some \n",
                "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
                "some avg10=0.00 avg300=0.00 total=0\n",
                "some avg10=0.00 avg60=\n",
                "some avg10=0.00 avg60= 1.00\n",
                "some avg10=0.00 avg60=1\n",
                "some avg10=0.00 avg60=1.2\n",
                "some avg10=0.00 avg60=1. 2\n",
                "some avg10=0.00 avg60=1.234\n",
                "some avg10=0.00 avg60=1.2x\n",
                "some avg10=0.00 avg60=100.01\n",
                "some avg10=0.00 avg60=999999999999999999999.00\n",
                "some avg10=0.00 avg60=-1.00\n",
        };
        MemorySample sample = { .some = 7 };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                EXPECT_EQ(memory_parse_pressure(cases[i], strlen(cases[i]), &sample), -EBADMSG);
        EXPECT_EQ(sample.some, 7);
}

static void test_vmstat_gives_oom_kills(void) {
        MemorySample sample = {};

        EXPECT_EQ(memory_parse_vmstat(vmstat, strlen(vmstat), &sample), 0);
        EXPECT_EQ(sample.oom_kills, 17);
}

static void test_vmstat_refuses_a_missing_or_broken_count(void) {
        static const char *const cases[] = { "", "oom_kill", "oom_kill ", "oom_kill x\n", "oom_kills 5\n",
                "x oom_kill 5\n", "oom_kill 18446744073709551615\n", "oom_kill 99999999999999999999\n" };
        MemorySample sample = { .oom_kills = 7 };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                EXPECT_EQ(memory_parse_vmstat(cases[i], strlen(cases[i]), &sample), -EBADMSG);
        EXPECT_EQ(sample.oom_kills, 7);
}

/* A root with the three files, and what was handed over. */

typedef struct Fixture {
        sd_event *event;
        char root[64];
        unsigned n;
        Sample last;
        Memory *memory;
} Fixture;

static void fixture_write(const Fixture *f, const char *path, const char *text) {
        char whole[128];
        _cleanup_(fclosep) FILE *file = NULL;

        (void) snprintf(whole, sizeof(whole), "%s%s", f->root, path);
        file = fopen(whole, "w");
        if (!file || fputs(text, file) < 0)
                abort();
}

static void fixture_on_sample(const Sample *sample, void *userdata) {
        Fixture *f = userdata;

        f->n++;
        f->last = *sample;
}

static void fixture_init(Fixture *f, bool files) {
        char path[128];

        *f = (Fixture){ .root = "/tmp/test-memory-XXXXXX" };
        if (sd_event_new(&f->event) < 0 || !mkdtemp(f->root))
                abort();
        for (const char *const *i = (const char *const[]){ "/proc", "/proc/pressure", NULL }; *i; i++) {
                (void) snprintf(path, sizeof(path), "%s%s", f->root, *i);
                (void) mkdir(path, 0755);
        }
        if (files) {
                fixture_write(f, "/proc/meminfo", meminfo);
                fixture_write(f, "/proc/vmstat", vmstat);
                fixture_write(f, "/proc/pressure/memory", pressure);
        }
}

static void fixture_done(Fixture *f) {
        static const char *const paths[] = { "/proc/meminfo", "/proc/vmstat", "/proc/pressure/memory",
                "/proc/pressure", "/proc", "" };
        char path[128];

        memory_free(f->memory);
        sd_event_unref(f->event);
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                (void) snprintf(path, sizeof(path), "%s%s", f->root, paths[i]);
                (void) remove(path);
        }
}

static void fixture_until(Fixture *f, unsigned n) {
        for (unsigned i = 0; f->n < n && i < 1000; i++)
                if (sd_event_run(f->event, 5 * 1000 * 1000) <= 0)
                        break;
        EXPECT(f->n >= n);
}

static void test_memory_hands_over_what_the_files_say(void) {
        Fixture f;
        bool trigger = true;

        fixture_init(&f, true);
        EXPECT_EQ(memory_new(&f.memory, f.event, f.root, SPAN_MSEC(5), fixture_on_sample, &f), 0);
        EXPECT_EQ(f.n, 0);
        fixture_until(&f, 1);
        EXPECT_EQ(f.last.witness, WITNESS_MEMORY);
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        EXPECT_EQ(f.last.memory.used, 6000);
        EXPECT_EQ(f.last.memory.some, 1234);
        EXPECT_EQ(f.last.memory.oom_kills, 17);
        EXPECT(!f.last.memory.trigger);
        EXPECT(memory_psi(f.memory, &trigger));
        EXPECT(!trigger);
        fixture_done(&f);
}

static void test_memory_follows_changes_without_opening_anew(void) {
        Fixture f;

        fixture_init(&f, true);
        EXPECT_EQ(memory_new(&f.memory, f.event, f.root, SPAN_MSEC(5), fixture_on_sample, &f), 0);
        fixture_until(&f, 1);
        fixture_write(&f, "/proc/vmstat", "oom_kill 18\n");
        fixture_write(&f, "/proc/meminfo", "MemTotal: 10 kB\nMemFree: 1 kB\nMemAvailable: 2 kB\n");
        fixture_until(&f, f.n + 1);
        EXPECT_EQ(f.last.memory.oom_kills, 18);
        EXPECT_EQ(f.last.memory.available, 2000);
        fixture_done(&f);
}

static void test_memory_leaves_a_pressure_file_that_is_not_the_kernels_alone(void) {
        Fixture f;
        char path[128], text[256] = {};
        _cleanup_(fclosep) FILE *file = NULL;

        fixture_init(&f, true);
        EXPECT_EQ(memory_new(&f.memory, f.event, f.root, SPAN_MSEC(5), fixture_on_sample, &f), 0);
        fixture_until(&f, 1);
        (void) snprintf(path, sizeof(path), "%s/proc/pressure/memory", f.root);
        file = fopen(path, "r");
        EXPECT(file && fread(text, 1, sizeof(text) - 1, file) > 0);
        EXPECT_STR(text, pressure);
        fixture_done(&f);
}

static void test_memory_without_files_is_absent_until_they_come(void) {
        Fixture f;
        bool trigger = true;

        fixture_init(&f, false);
        EXPECT_EQ(memory_new(&f.memory, f.event, f.root, SPAN_MSEC(5), fixture_on_sample, &f), 0);
        fixture_until(&f, 1);
        EXPECT_EQ(f.last.sight, SIGHT_ABSENT);
        EXPECT(!memory_psi(f.memory, &trigger));
        fixture_write(&f, "/proc/meminfo", meminfo);
        fixture_until(&f, f.n + 1);
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        EXPECT_EQ(f.last.memory.used, 6000);
        EXPECT_EQ(f.last.memory.some, SHARE_NONE);
        EXPECT_EQ(f.last.memory.oom_kills, -1);
        fixture_done(&f);
}

static void test_memory_says_failed_when_meminfo_is_nonsense(void) {
        Fixture f;

        fixture_init(&f, true);
        fixture_write(&f, "/proc/meminfo", "MemTotal: lots\n");
        EXPECT_EQ(memory_new(&f.memory, f.event, f.root, SPAN_MSEC(5), fixture_on_sample, &f), 0);
        fixture_until(&f, 1);
        EXPECT_EQ(f.last.sight, SIGHT_FAILED);
        fixture_done(&f);
}

static void test_memory_reads_this_kernel(void) {
        Fixture f;
        bool trigger = false;

        fixture_init(&f, false);
        EXPECT_EQ(memory_new(&f.memory, f.event, "", SPAN_SEC(10), fixture_on_sample, &f), 0);
        fixture_until(&f, 1);
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        EXPECT(f.last.memory.used > 0 && f.last.memory.used < 10000);
        if (memory_psi(f.memory, &trigger))
                EXPECT(f.last.memory.some >= 0);
        printf("# pressure trigger: %s\n", trigger ? "armed" : "not possible here");
        fixture_done(&f);
}

TEST_MAIN(TEST(test_meminfo_gives_shares_as_the_cloudwatch_agent_does),
        TEST(test_meminfo_without_swap_has_no_swap_used),
        TEST(test_meminfo_refuses_what_the_kernel_does_not_write),
        TEST(test_pressure_gives_the_minutes_average), TEST(test_pressure_refuses_other_formats),
        TEST(test_vmstat_gives_oom_kills), TEST(test_vmstat_refuses_a_missing_or_broken_count),
        TEST(test_memory_hands_over_what_the_files_say),
        TEST(test_memory_follows_changes_without_opening_anew),
        TEST(test_memory_leaves_a_pressure_file_that_is_not_the_kernels_alone),
        TEST(test_memory_without_files_is_absent_until_they_come),
        TEST(test_memory_says_failed_when_meminfo_is_nonsense), TEST(test_memory_reads_this_kernel))
