/* SPDX-License-Identifier: Apache-2.0 */

/* What is appended comes back once, oldest first, across restarts; what cannot be read is counted. */

#include "agent/act/spool.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/file.h"
#include "tests/unit/test.h"

#define INSTANCE "i-0123456789abcdef0"
#define HEADER   "ecs-health-agent-spool 1 0000000056 " INSTANCE "\n"
#define GOOD     "1787572800 disk_used_percent g - 6 1 2.5 9 /data\n"

typedef struct World {
        char root[64], path[96], old[128];
        Spool *spool;
} World;

/** What has been handed over: sums, which stand for the data, and the last item. */
typedef struct Seen {
        size_t n;
        int64_t first, last; /* seconds */
        bool out_of_order;
        SpoolItem item;
        char path[DISK_PATH_MAX];
} Seen;

static void world_reopen(World *world) {
        world->spool = spool_free(world->spool);
        EXPECT_EQ(spool_new(&world->spool, world->path), 0);
        spool_own(world->spool, INSTANCE);
}

static void world_open(World *world) {
        *world = (World){};
        strcpy(world->root, "/tmp/test-spool-XXXXXX");
        EXPECT(mkdtemp(world->root));
        (void) snprintf(world->path, sizeof(world->path), "%s/lib/spool", world->root);
        (void) snprintf(world->old, sizeof(world->old), "%s.old", world->path);
        EXPECT_EQ(spool_new(&world->spool, world->path), 0);
        spool_own(world->spool, INSTANCE);
}

static void world_close(World *world) {
        char command[96];

        spool_free(world->spool);
        (void) snprintf(command, sizeof(command), "rm -rf %s", world->root);
        EXPECT_EQ(system(command), 0);
}

static void on_item(const SpoolItem *item, void *userdata) {
        Seen *seen = userdata;
        int64_t at = item->datum.at.usec / SPAN_SEC(1);

        if (seen->n++ == 0)
                seen->first = at;
        else if (at != seen->last + 1)
                seen->out_of_order = true;
        seen->last = at;
        seen->item = *item;
        seen->item.path = NULL;
        strcpy(seen->path, item->path ? item->path : "");
}

static SpoolItem item_at(int64_t seconds) {
        return (SpoolItem){
                .datum = { .metric = METRIC_DISK_USED,
                        .brake = -1,
                        .mount = 3,
                        .count = 6,
                        .min = 10,
                        .max = 30.5,
                        .sum = 120.25,
                        .at = { SPAN_SEC(seconds) } },
                .path = "/var/lib/with blanks",
        };
}

/* Items of seconds @from to @from + @n - 1. Return: how many were stored. */
static size_t append(World *world, int64_t from, size_t n, int expected) {
        _cleanup_(freep) SpoolItem *items = calloc(n, sizeof(*items));
        size_t stored = SIZE_MAX;

        for (size_t i = 0; i < n; i++)
                items[i] = item_at(from + (int64_t) i);
        EXPECT_EQ(spool_append(world->spool, items, n, &stored), expected);
        return stored;
}

static size_t take_all(World *world, size_t batch, Seen *seen) {
        size_t rounds = 0;

        for (; spool_waiting(world->spool) > 0 && rounds < 100000; rounds++)
                EXPECT_EQ(spool_take(world->spool, batch, on_item, seen), 0);
        return rounds;
}

static void write_file(const char *path, const char *text, size_t n) {
        char directory[96];

        (void) snprintf(directory, sizeof(directory), "%s", path);
        *strrchr(directory, '/') = '\0';
        EXPECT_EQ(file_mkdir(directory, 0700), 0);
        EXPECT_EQ(file_write_atomic(path, text, n, 0600, false), 0);
}

/* Lines */

static void test_spool_line_reads_back_as_it_was(void) {
        static const SpoolItem items[] = {
                { .datum = { .metric = METRIC_HEARTBEAT,
                          .brake = -1,
                          .count = 1,
                          .min = 1,
                          .max = 1,
                          .sum = 1,
                          .at = { SPAN_SEC(1) } } },
                { .datum = { .metric = METRIC_REMEDIATION_HELD,
                          .brake = BRAKE_N - 1,
                          .instance = true,
                          .count = 7,
                          .min = 1,
                          .max = 1,
                          .sum = 7,
                          .at = { SPAN_SEC(99999999999) } } },
                { .datum = { .metric = METRIC_DISK_USED,
                          .brake = -1,
                          .count = UINT32_MAX,
                          .min = 0.1,
                          .max = 0.1,
                          .sum = 0.1 * UINT32_MAX,
                          .at = { SPAN_SEC(1787572800) } },
                        .path = "/" },
                { .datum = { .metric = METRIC_MEM_USED,
                          .brake = -1,
                          .count = 3,
                          .min = 1e-300,
                          .max = 100.0 / 3,
                          .sum = 40,
                          .at = { SPAN_SEC(1787572800) } } },
                { .datum = { .metric = METRIC_DISK_USED,
                          .brake = -1,
                          .count = 1,
                          .sum = 0,
                          .at = { SPAN_SEC(1787572800) } },
                        .path = "/ a  b -" },
        };

        for (size_t i = 0; i < ELEMENTSOF(items); i++) {
                char line[SPOOL_LINE_MAX], path[DISK_PATH_MAX];
                const Datum *is = &items[i].datum;
                SpoolItem back = {};
                size_t n = 0;

                EXPECT_EQ(spool_format(&items[i], line, &n), 0);
                EXPECT(n > 0 && line[n - 1] == '\n');
                EXPECT_EQ(spool_parse(line, n - 1, path, &back), 0);
                EXPECT_EQ(back.datum.metric, is->metric);
                EXPECT_EQ(back.datum.brake, is->brake);
                EXPECT_EQ(back.datum.mount, -1);
                EXPECT_EQ(back.datum.instance, is->instance);
                EXPECT_EQ(back.datum.count, is->count);
                EXPECT_EQ(back.datum.at.usec, is->at.usec);
                EXPECT(memcmp(&back.datum.min, &is->min, 3 * sizeof(double)) == 0);
                EXPECT_STR(back.path, items[i].path);
        }
}

static void test_spool_parse_refuses_what_it_did_not_write(void) {
        static const struct {
                const char *line;
                int r;
        } cases[] = {
                { "1787572800 disk_used_percent g - 6 1 2.5 9 /data", 0 },
                { "1787572800 disk_used_percent i - 6 1 2.5 9 -", 0 },
                { "1787572800 remediation_held i share 6 1 1 6 -", 0 },
                { "", -EBADMSG },
                { " ", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 2.5 9", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 2.5 9 ", -EBADMSG },
                { "1787572800  disk_used_percent g - 6 1 2.5 9 /data", -EBADMSG },
                { "0 disk_used_percent g - 6 1 2.5 9 /data", -EBADMSG },
                { "-1 disk_used_percent g - 6 1 2.5 9 /data", -EBADMSG },
                { "100000000001 disk_used_percent g - 6 1 2.5 9 /data", -EBADMSG },
                { "99999999999999999999999 disk_used_percent g - 6 1 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used g - 6 1 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent x - 6 1 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g shar 6 1 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 0 1 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 4294967296 1 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 nan 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 inf 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 1e999 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 0x1 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1- 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 . 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 -1 2.5 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 101 9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 3 2.5 16 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 2.5 5.9 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 2.5 15.1 /data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 2.5 9 data", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 2.5 9 /d\xc3\xa4ta", -EBADMSG },
                { "1787572800 disk_used_percent g - 6 1 2.5 9 /da\tta", -EBADMSG },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char path[DISK_PATH_MAX];
                SpoolItem item = { .datum.count = 77 };
                int r = spool_parse(cases[i].line, strlen(cases[i].line), path, &item);

                if (r != cases[i].r)
                        printf("# case %zu: %s\n", i, cases[i].line);
                EXPECT_EQ(r, cases[i].r);
                EXPECT_EQ(item.datum.count, r < 0 ? 77 : 6);
        }
}

static void test_spool_parse_refuses_long_lines_paths_and_nul(void) {
        char line[2 * SPOOL_LINE_MAX] = "1787572800 disk_used_percent g - 6 1 2.5 9 /", path[DISK_PATH_MAX];
        const size_t head = strlen(line) - 1;
        SpoolItem item = {};

        memset(line + head + 1, 'x', sizeof(line) - head - 1);
        EXPECT_EQ(spool_parse(line, head + DISK_PATH_MAX - 1, path, &item), 0);
        EXPECT_EQ(spool_parse(line, head + DISK_PATH_MAX, path, &item), -EBADMSG);
        EXPECT_EQ(spool_parse(line, sizeof(line), path, &item), -EBADMSG);
        line[head + 3] = '\0';
        EXPECT_EQ(spool_parse(line, head + 5, path, &item), -EBADMSG);
}

/* Files */

static void test_spool_gives_back_once_oldest_first(void) {
        World world;
        Seen seen = {};

        world_open(&world);
        EXPECT_EQ(append(&world, 1000, 700, 0), 700);
        EXPECT_EQ(append(&world, 1700, 300, 0), 300);
        EXPECT_EQ(spool_waiting(world.spool), 1000);
        EXPECT_EQ(spool_take(world.spool, 400, on_item, &seen), 0);
        EXPECT_EQ(seen.n, 400);
        EXPECT_EQ(append(&world, 2000, 10, 0), 10);
        (void) take_all(&world, 400, &seen);
        EXPECT_EQ(seen.n, 1010);
        EXPECT_EQ(seen.first, 1000);
        EXPECT_EQ(seen.last, 2009);
        EXPECT(!seen.out_of_order);
        EXPECT_STR(seen.path, "/var/lib/with blanks");
        EXPECT_EQ(spool_take_lost(world.spool), 0);
        EXPECT_EQ(access(world.path, F_OK), -1); /* an empty spool is no file */
        world_close(&world);
}

static void test_spool_survives_restarts_without_repeating(void) {
        World world;
        Seen seen = {};

        world_open(&world);
        EXPECT_EQ(append(&world, 1, 50, 0), 50);
        for (unsigned i = 0; i < 50; i++) {
                world_reopen(&world);
                EXPECT_EQ(spool_waiting(world.spool), 50 - i);
                EXPECT_EQ(spool_take(world.spool, 1, on_item, &seen), 0);
        }
        world_reopen(&world);
        EXPECT_EQ(spool_waiting(world.spool), 0);
        EXPECT_EQ(seen.n, 50);
        EXPECT(!seen.out_of_order);
        world_close(&world);
}

static void test_spool_overwrites_a_line_cut_short(void) {
        static const char torn[] = HEADER GOOD "1787572860 disk_used_percent g - 6 1 2.5 9 /da";
        World world;
        Seen seen = {};

        world_open(&world);
        write_file(world.path, torn, strlen(torn));
        world_reopen(&world);
        EXPECT_EQ(spool_waiting(world.spool), 1);
        EXPECT_EQ(append(&world, 1787572801, 1, 0), 1);
        world_reopen(&world);
        (void) take_all(&world, 10, &seen);
        EXPECT_EQ(seen.n, 2);
        EXPECT(!seen.out_of_order);
        EXPECT_EQ(spool_take_lost(world.spool), 0);
        world_close(&world);
}

static void test_spool_skips_and_counts_unreadable_lines(void) {
        static const char text[] = HEADER "nonsense\n" GOOD "\n" GOOD "\0\0\0\0\n" GOOD;
        World world;
        Seen seen = {};

        world_open(&world);
        write_file(world.path, text, sizeof(text) - 1);
        world_reopen(&world);
        EXPECT_EQ(spool_waiting(world.spool), 6);
        (void) take_all(&world, 2, &seen);
        EXPECT_EQ(seen.n, 3);
        EXPECT_EQ(spool_take_lost(world.spool), 3);
        EXPECT_EQ(spool_take_lost(world.spool), 0);
        world_close(&world);
}

static void test_spool_gets_past_a_line_of_any_length(void) {
        const size_t n_long = 300000, n_header = strlen(HEADER);
        _cleanup_(freep) char *text = malloc(n_header + n_long + 1 + strlen(GOOD) + 1);
        World world;
        Seen seen = {};

        memcpy(text, HEADER, n_header);
        memset(text + n_header, 'x', n_long);
        strcpy(text + n_header + n_long, "\n" GOOD);
        world_open(&world);
        write_file(world.path, text, strlen(text));
        world_reopen(&world);
        (void) take_all(&world, 10, &seen);
        EXPECT_EQ(seen.n, 1);
        EXPECT(spool_take_lost(world.spool) >= 1);
        world_close(&world);
}

static void test_spool_of_foreign_make_is_removed_and_counted(void) {
        static const char *const texts[] = {
                "",
                "nonsense\n",
                "ecs-health-agent-spool 2 0000000056 " INSTANCE "\n" GOOD,
                "ecs-health-agent-spool 1 0000000000 " INSTANCE "\n" GOOD,
                "ecs-health-agent-spool 1 0000000057 " INSTANCE "\n" GOOD, /* not at a line's beginning */
                "ecs-health-agent-spool 1 9999999999 " INSTANCE "\n" GOOD,
                "ecs-health-agent-spool 1 00000000x6 " INSTANCE "\n" GOOD,
                "ecs-health-agent-spool 1 0000000056 " INSTANCE,
                "ecs-health-agent-spool 1 0000000037 \n" GOOD,
                "ecs-health-agent-spool 1 0000000101 "
                "0123456789012345678901234567890123456789012345678901234567890123\n" GOOD,
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                World world;
                Seen seen = {};

                world_open(&world);
                write_file(world.path, texts[i], strlen(texts[i]));
                world_reopen(&world);
                EXPECT_EQ(spool_waiting(world.spool), 0);
                EXPECT_EQ(spool_take_lost(world.spool), 1);
                EXPECT_EQ(access(world.path, F_OK), -1);
                EXPECT_EQ(append(&world, 1, 1, 0), 1);
                (void) take_all(&world, 10, &seen);
                EXPECT_EQ(seen.n, 1);
                world_close(&world);
        }
}

static void test_spool_of_another_instance_is_dropped(void) {
        World world;
        Seen seen = {};

        world_open(&world);
        EXPECT_EQ(append(&world, 1, 5, 0), 5);
        spool_own(world.spool, "i-0fedcba9876543210");
        EXPECT_EQ(spool_waiting(world.spool), 0);
        EXPECT_EQ(spool_take_lost(world.spool), 5);
        EXPECT_EQ(append(&world, 9, 1, 0), 1);
        spool_own(world.spool, "i-0fedcba9876543210");
        spool_own(world.spool, ""); /* not known: nothing changes */
        spool_own(world.spool, "two words");
        (void) take_all(&world, 10, &seen);
        EXPECT_EQ(seen.n, 1);
        world_close(&world);
}

static void test_spool_written_before_the_instance_is_known_is_ours(void) {
        World world;
        Seen seen = {};

        world_open(&world);
        world.spool = spool_free(world.spool);
        EXPECT_EQ(spool_new(&world.spool, world.path), 0);
        EXPECT_EQ(append(&world, 1, 5, 0), 5);
        world_reopen(&world);
        (void) take_all(&world, 10, &seen);
        EXPECT_EQ(seen.n, 5);
        world_close(&world);
}

static size_t size_of(const char *path) {
        struct stat st = {};

        return stat(path, &st) < 0 ? 0 : (size_t) st.st_size;
}

static void test_spool_is_bounded_and_drops_the_oldest(void) {
        const size_t n = 200000; /* some 14 MB */
        World world;
        Seen seen = {};

        world_open(&world);
        for (size_t i = 0; i < n; i += 1000)
                EXPECT_EQ(append(&world, 1 + (int64_t) i, 1000, 0), 1000);
        EXPECT(size_of(world.path) + size_of(world.old) <= SPOOL_BYTES_MAX);
        EXPECT(size_of(world.path) + size_of(world.old) > SPOOL_BYTES_MAX / 3);
        world_reopen(&world);
        (void) take_all(&world, 500, &seen);
        EXPECT(!seen.out_of_order);
        EXPECT_EQ(seen.last, n);
        EXPECT(seen.n > n / 4 && seen.n < n);
        world_close(&world);
}

static void test_spool_counts_what_it_drops(void) {
        World world;
        Seen seen = {};
        size_t n = 0;

        world_open(&world);
        for (; n < 200000; n += 1000)
                EXPECT_EQ(append(&world, 1 + (int64_t) n, 1000, 0), 1000);
        (void) take_all(&world, 500, &seen);
        EXPECT_EQ(seen.n + spool_take_lost(world.spool), n);
        world_close(&world);
}

/* RLIMIT_FSIZE stands in for a disk that becomes full in the middle of a line. */
static void test_spool_on_a_full_disk_stores_whole_lines_only(void) {
        struct rlimit was = {}, little = {};
        World world;
        Seen seen = {};
        size_t stored;

        world_open(&world);
        EXPECT_EQ(append(&world, 1, 10, 0), 10);
        (void) signal(SIGXFSZ, SIG_IGN);
        EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &was), 0);
        little = (struct rlimit){ 100000, was.rlim_max };
        (void) fflush(stdout);
        EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &little), 0);
        stored = append(&world, 11, 10000, -EFBIG);
        EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &was), 0);
        EXPECT(stored > 0 && stored < 10000);
        world_reopen(&world);
        EXPECT_EQ(spool_waiting(world.spool), 10 + stored);
        (void) take_all(&world, 500, &seen);
        EXPECT_EQ(seen.n, 10 + stored);
        EXPECT(!seen.out_of_order);
        EXPECT_EQ(spool_take_lost(world.spool), 0);
        world_close(&world);
}

static void test_spool_that_cannot_be_written_says_why(void) {
        World world;

        world_open(&world);
        (void) snprintf(world.old, sizeof(world.old), "%s/lib", world.root);
        write_file(world.old, "no directory", 12);
        EXPECT_EQ(append(&world, 1, 3, -ENOTDIR), 0);
        EXPECT_EQ(spool_waiting(world.spool), 0);
        world_close(&world);
}

static void test_spool_that_cannot_be_marked_hands_nothing_over(void) {
        World world;
        Seen seen = {};

        world_open(&world);
        EXPECT_EQ(append(&world, 1, 3, 0), 3);
        if (geteuid() != 0) { /* root may write any file */
                EXPECT_EQ(chmod(world.path, 0400), 0);
                EXPECT_EQ(spool_take(world.spool, 2, on_item, &seen), -EACCES);
                EXPECT_EQ(seen.n, 0);
                EXPECT_EQ(spool_waiting(world.spool), 3);
                EXPECT_EQ(chmod(world.path, 0600), 0);
        }
        EXPECT_EQ(spool_take(world.spool, 2, on_item, &seen), 0);
        EXPECT_EQ(seen.n, 2);
        world_close(&world);
}

static void test_spool_removed_behind_our_back_is_lost_and_counted(void) {
        World world;
        Seen seen = {};

        world_open(&world);
        EXPECT_EQ(append(&world, 1, 3, 0), 3);
        EXPECT_EQ(unlink(world.path), 0);
        EXPECT_EQ(spool_take(world.spool, 2, on_item, &seen), 0);
        EXPECT_EQ(seen.n, 0);
        EXPECT_EQ(spool_waiting(world.spool), 0);
        EXPECT_EQ(spool_take_lost(world.spool), 3);
        EXPECT_EQ(append(&world, 1, 3, 0), 3);
        EXPECT_EQ(truncate(world.path, (off_t) strlen(HEADER)), 0);
        EXPECT_EQ(spool_take(world.spool, 2, on_item, &seen), 0);
        EXPECT_EQ(spool_waiting(world.spool), 0);
        EXPECT_EQ(spool_take_lost(world.spool), 3);
        world_close(&world);
}

static void test_spool_follows_no_link_and_reads_no_device(void) {
        World world;
        char target[96];

        world_open(&world);
        (void) snprintf(target, sizeof(target), "%s/precious", world.root);
        write_file(target, HEADER GOOD, strlen(HEADER GOOD));
        (void) snprintf(world.old, sizeof(world.old), "%s/lib", world.root);
        EXPECT_EQ(file_mkdir(world.old, 0700), 0);
        EXPECT_EQ(symlink(target, world.path), 0);
        world_reopen(&world);
        EXPECT_EQ(spool_waiting(world.spool), 0);
        EXPECT_EQ(append(&world, 1, 3, -ELOOP), 0);
        EXPECT_EQ(size_of(target), strlen(HEADER GOOD));
        EXPECT_EQ(unlink(world.path), 0);
        EXPECT_EQ(mkfifo(world.path, 0600), 0);
        world_reopen(&world);
        EXPECT_EQ(spool_waiting(world.spool), 0);
        world_close(&world);
}

static void test_spool_free_takes_null(void) {
        EXPECT(!spool_free(NULL));
}

TEST_MAIN(TEST(test_spool_line_reads_back_as_it_was), TEST(test_spool_parse_refuses_what_it_did_not_write),
        TEST(test_spool_parse_refuses_long_lines_paths_and_nul),
        TEST(test_spool_gives_back_once_oldest_first), TEST(test_spool_survives_restarts_without_repeating),
        TEST(test_spool_overwrites_a_line_cut_short), TEST(test_spool_skips_and_counts_unreadable_lines),
        TEST(test_spool_gets_past_a_line_of_any_length),
        TEST(test_spool_of_foreign_make_is_removed_and_counted),
        TEST(test_spool_of_another_instance_is_dropped),
        TEST(test_spool_written_before_the_instance_is_known_is_ours),
        TEST(test_spool_is_bounded_and_drops_the_oldest), TEST(test_spool_counts_what_it_drops),
        TEST(test_spool_on_a_full_disk_stores_whole_lines_only),
        TEST(test_spool_that_cannot_be_written_says_why),
        TEST(test_spool_that_cannot_be_marked_hands_nothing_over),
        TEST(test_spool_removed_behind_our_back_is_lost_and_counted),
        TEST(test_spool_follows_no_link_and_reads_no_device), TEST(test_spool_free_takes_null))
