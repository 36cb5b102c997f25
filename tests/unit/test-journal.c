/* SPDX-License-Identifier: Apache-2.0 */

/* What was written is read back, whatever became of one copy; what is not whole is never believed. */

#include "agent/act/journal.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/file.h"
#include "tests/unit/test.h"

#define INSTANCE "i-0123456789abcdef0"
#define SKIPPED  77

/** A directory of our own, and a journal below it. */
typedef struct World {
        char root[64], run[96], state[96], run_file[128], state_file[128];
        Journal *journal;
} World;

static void world_reopen(World *world) {
        world->journal = journal_free(world->journal);
        EXPECT_EQ(journal_new(&world->journal, world->run, world->state), 0);
}

static void world_open(World *world) {
        *world = (World){};
        strcpy(world->root, "/tmp/test-journal-XXXXXX");
        EXPECT(mkdtemp(world->root));
        (void) snprintf(world->run, sizeof(world->run), "%s/run/agent", world->root);
        (void) snprintf(world->state, sizeof(world->state), "%s/lib/agent", world->root);
        (void) snprintf(world->run_file, sizeof(world->run_file), "%s/journal", world->run);
        (void) snprintf(world->state_file, sizeof(world->state_file), "%s/journal", world->state);
        world_reopen(world);
}

static void world_close(World *world) {
        char command[96];

        journal_free(world->journal);
        (void) snprintf(command, sizeof(command), "rm -rf %s", world->root);
        EXPECT_EQ(system(command), 0);
}

static JournalEntry example(void) {
        return (JournalEntry) {
                .record = {
                        .incident = 3, .stage = STAGE_DETACHING, .cause = CAUSE_LINK_LOST,
                        .opened = { SPAN_SEC(1787572800) }, .changed = { SPAN_SEC(1787572900) + 7 },
                        .closed = WALL_NEVER, .repaired = { 1 }, .detach_sent = { INT64_MAX },
                        .drained = true, .marked = true, .acted = true,
                },
                .target = {
                        .cluster = "prod", .arn = "arn:aws:ecs:eu-west-1:1:container-instance/prod/0a",
                        .instance_id = INSTANCE, .zone = "eu-west-1a", .group = "workers",
                },
                .boot_id = "6b8cf7a9-4b1f-4d56-a2f8-6a8b24ad5c4b",
                .answered_this_boot = true,
        };
}

static bool same(const JournalEntry *a, const JournalEntry *b) {
        char text_a[JOURNAL_TEXT_MAX], text_b[JOURNAL_TEXT_MAX];
        size_t n_a = 0, n_b = 0;

        EXPECT_EQ(journal_format(a, text_a, sizeof(text_a), &n_a), 0);
        EXPECT_EQ(journal_format(b, text_b, sizeof(text_b), &n_b), 0);
        return n_a == n_b && memcmp(text_a, text_b, n_a) == 0;
}

static void write_file(const char *path, const char *text) {
        EXPECT_EQ(file_write_atomic(path, text, strlen(text), 0600, false), 0);
}

/* The line of a hash over what stands before it, appended. */
static void seal(char *text, size_t size) {
        unsigned char digest[32];
        unsigned n = 0;
        size_t at = strlen(text);

        EXPECT_EQ(EVP_Digest(text, at, digest, &n, EVP_sha256(), NULL), 1);
        at += (size_t) snprintf(text + at, size - at, "sha256 ");
        for (unsigned i = 0; i < n; i++)
                at += (size_t) snprintf(text + at, size - at, "%02x", digest[i]);
        (void) snprintf(text + at, size - at, "\n");
}

/* Text */

static void test_journal_text_reads_back_as_it_was(void) {
        JournalEntry entry = example(), back = {};
        char text[JOURNAL_TEXT_MAX];
        size_t n = 0;

        entry.sequence = 41;
        strcpy(entry.target.group, "odd %0A \n\r\t\x7f gr\xc3\xbcn \xff");
        EXPECT_EQ(journal_format(&entry, text, sizeof(text), &n), 0);
        EXPECT_EQ(journal_parse(text, n, &back), 0);
        EXPECT_STR(back.target.group, entry.target.group);
        EXPECT_EQ(back.sequence, 41);
        EXPECT_EQ(back.record.stage, STAGE_DETACHING);
        EXPECT_EQ(back.record.detach_sent.usec, INT64_MAX);
        EXPECT(back.record.drained && back.record.marked && back.record.acted && back.answered_this_boot);
        EXPECT(same(&entry, &back));
}

static void test_journal_longest_texts_fit(void) {
        JournalEntry entry = example(), back = {};
        char text[JOURNAL_TEXT_MAX];
        size_t n = 0;

        memset(entry.target.cluster, '\n', sizeof(entry.target.cluster) - 1);
        memset(entry.target.arn, '\n', sizeof(entry.target.arn) - 1);
        memset(entry.target.group, '\n', sizeof(entry.target.group) - 1);
        memset(entry.target.zone, '\n', sizeof(entry.target.zone) - 1);
        memset(entry.target.instance_id, '\n', sizeof(entry.target.instance_id) - 1);
        memset(entry.boot_id, '\n', sizeof(entry.boot_id) - 1);
        entry.sequence = entry.record.incident = UINT64_MAX - 1;
        EXPECT_EQ(journal_format(&entry, text, sizeof(text), &n), 0);
        EXPECT_EQ(journal_parse(text, n, &back), 0);
        EXPECT(same(&entry, &back));
        for (size_t size = 0; size < n; size += 97)
                EXPECT_EQ(journal_format(&entry, text, size, &n), -E2BIG);
}

static void test_journal_format_refuses_what_could_not_be_read_back(void) {
        JournalEntry stage = example(), cause = example(), time = example();
        char text[JOURNAL_TEXT_MAX];
        size_t n = 0;

        stage.record.stage = STAGE_N;
        EXPECT_EQ(journal_format(&stage, text, sizeof(text), &n), -EINVAL);
        cause.record.cause = CAUSE_N;
        EXPECT_EQ(journal_format(&cause, text, sizeof(text), &n), -EINVAL);
        time.record.opened.usec = -1;
        EXPECT_EQ(journal_format(&time, text, sizeof(text), &n), -EINVAL);
}

static void test_journal_parse_refuses_any_change(void) {
        JournalEntry entry = example(), back = {};
        char text[JOURNAL_TEXT_MAX];
        size_t n = 0;

        EXPECT_EQ(journal_format(&entry, text, sizeof(text), &n), 0);
        for (size_t i = 0; i < n; i++) {
                text[i] ^= 1;
                EXPECT(journal_parse(text, n, &back) < 0);
                text[i] ^= 1;
                EXPECT(journal_parse(text, i, &back) < 0);
        }
        EXPECT_EQ(journal_parse(text, n, &back), 0);
}

static void test_journal_parse_of_sealed_lines(void) {
        static const struct {
                const char *lines;
                int r;
        } cases[] = {
                { "ecs-health-agent-journal 1\n", 0 },
                { "ecs-health-agent-journal 1\nsequence 9\nlater-key any thing\n", 0 },
                { "ecs-health-agent-journal 1\ngroup \nstage 12\npeer_stage 9\naction 3\n", 0 },
                { "ecs-health-agent-journal 1\ngroup\n", -EBADMSG },
                { "ecs-health-agent-journal 1\nsequence 9\nsequence 9\n", -EBADMSG },
                { "ecs-health-agent-journal 1\nstage 13\n", -EBADMSG },
                { "ecs-health-agent-journal 1\npeer_stage 10\n", -EBADMSG },
                { "ecs-health-agent-journal 1\naction 4\n", -EBADMSG },
                { "ecs-health-agent-journal 1\nstage -1\n", -EBADMSG },
                { "ecs-health-agent-journal 1\nstage \n", -EBADMSG },
                { "ecs-health-agent-journal 1\nstage 1 \n", -EBADMSG },
                { "ecs-health-agent-journal 1\ncause 4294967296\n", -EBADMSG },
                { "ecs-health-agent-journal 1\nopened 9223372036854775808\n", -EBADMSG },
                { "ecs-health-agent-journal 1\nsequence 18446744073709551615\n", -EBADMSG },
                { "ecs-health-agent-journal 1\ndrained 2\n", -EBADMSG },
                { "ecs-health-agent-journal 1\ngroup %\n", -EBADMSG },
                { "ecs-health-agent-journal 1\ngroup %4\n", -EBADMSG },
                { "ecs-health-agent-journal 1\ngroup %00\n", -EBADMSG },
                { "ecs-health-agent-journal 1\ngroup %0a\n", -EBADMSG },
                { "ecs-health-agent-journal 1\n\n", -EBADMSG },
                { "ecs-health-agent-journal 2\nsequence 9\n", -EBADMSG },
                { "sequence 9\necs-health-agent-journal 1\n", -EBADMSG },
                { "\n", -EBADMSG },
                { "ecs-health-agent-journal 1\nzone "
                  "0123456789012345678901234567890123456789012345678901234567890123\n",
                        -EBADMSG },
                { "ecs-health-agent-journal 1\nzone "
                  "012345678901234567890123456789012345678901234567890123456789012\n",
                        0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char text[JOURNAL_TEXT_MAX];
                JournalEntry entry = { .sequence = 77 };

                strcpy(text, cases[i].lines);
                seal(text, sizeof(text));
                EXPECT_EQ(journal_parse(text, strlen(text), &entry), cases[i].r);
                if (cases[i].r < 0)
                        EXPECT_EQ(entry.sequence, 77); /* untouched */
                else
                        EXPECT(entry.sequence == 9 || entry.sequence == 0);
        }
}

static void test_journal_parse_refuses_nul_and_excess(void) {
        char text[JOURNAL_TEXT_MAX + 1] = "ecs-health-agent-journal 1\ngroup a\n";
        JournalEntry entry = {};
        size_t n;

        seal(text, sizeof(text));
        n = strlen(text);
        EXPECT_EQ(journal_parse(text, n, &entry), 0);
        EXPECT_EQ(journal_parse(text, 0, &entry), -EBADMSG);
        EXPECT_EQ(journal_parse(text, n - 1, &entry), -EBADMSG);
        text[n] = '\n';
        EXPECT_EQ(journal_parse(text, n + 1, &entry), -EBADMSG);
        memset(text, '\n', sizeof(text));
        EXPECT_EQ(journal_parse(text, sizeof(text), &entry), -EBADMSG);
}

/* Files */

static void test_journal_written_is_read_after_a_restart(void) {
        JournalEntry entry = example(), back = {};
        World world;
        int disk = -1;

        world_open(&world);
        EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), -ENOENT);
        EXPECT_EQ(journal_write(world.journal, &entry, &disk), 0);
        EXPECT_EQ(disk, 0);
        EXPECT_EQ(entry.sequence, 1);
        world_reopen(&world);
        EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), 0);
        EXPECT(same(&entry, &back));
        EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
        EXPECT_EQ(entry.sequence, 2); /* counting goes on */
        world_close(&world);
}

static void test_journal_survives_the_loss_of_either_copy(void) {
        for (unsigned i = 0; i < 4; i++) {
                JournalEntry entry = example(), back = {};
                World world;
                const char *lost;

                world_open(&world);
                lost = i & 1 ? world.run_file : world.state_file;
                EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
                if (i & 2)
                        write_file(lost, "ecs-health-agent-journal 1\nsequence 9\nsha256 00\n");
                else
                        EXPECT_EQ(unlink(lost), 0);
                world_reopen(&world);
                EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), 0);
                EXPECT(same(&entry, &back));
                world_close(&world);
        }
}

static void test_journal_newer_copy_counts(void) {
        for (unsigned i = 0; i < 2; i++) {
                JournalEntry old = example(), new = example(), back = {};
                _cleanup_(freep) char *text = NULL;
                World world;
                const char *stale;
                size_t n = 0;

                world_open(&world);
                stale = i ? world.run_file : world.state_file;
                EXPECT_EQ(journal_write(world.journal, &old, NULL), 0);
                EXPECT_EQ(file_read(stale, JOURNAL_TEXT_MAX, &text, &n), 0);
                new.record.stage = STAGE_VERIFYING;
                EXPECT_EQ(journal_write(world.journal, &new, NULL), 0);
                EXPECT_EQ(file_write_atomic(stale, text, n, 0600, false), 0);
                world_reopen(&world);
                EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), 0);
                EXPECT_EQ(back.record.stage, STAGE_VERIFYING);
                EXPECT_EQ(journal_write(world.journal, &new, NULL), 0);
                EXPECT_EQ(new.sequence, 3);
                world_close(&world);
        }
}

static void test_journal_killed_halfway_leaves_the_old_one(void) {
        JournalEntry entry = example(), back = {};
        char path[160];
        World world;

        world_open(&world);
        EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
        (void) snprintf(path, sizeof(path), "%s.new", world.run_file);
        write_file(path, "ecs-health-agent-journal 1\nsequence 2\nsta");
        (void) snprintf(path, sizeof(path), "%s.new", world.state_file);
        write_file(path, "");
        world_reopen(&world);
        EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), 0);
        EXPECT(same(&entry, &back));
        EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
        EXPECT_EQ(access(path, F_OK), -1);
        EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), 0);
        EXPECT_EQ(back.sequence, 2);
        world_close(&world);
}

static void test_journal_killed_between_the_copies_gives_the_new_one(void) {
        JournalEntry entry = example(), back = {};
        World world;

        world_open(&world);
        EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
        entry.record.stage = STAGE_REMOVED;
        /* a directory in the way of the disk's copy: as if the write had not come so far */
        EXPECT_EQ(unlink(world.state_file), 0);
        EXPECT_EQ(mkdir(world.state_file, 0700), 0);
        EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
        world_reopen(&world);
        EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), 0);
        EXPECT_EQ(back.record.stage, STAGE_REMOVED);
        world_close(&world);
}

static void test_journal_nothing_whole_is_corrupt(void) {
        JournalEntry back = { .sequence = 77 };
        World world;

        world_open(&world);
        write_file(world.run_file, "");
        EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), JOURNAL_E_CORRUPT);
        write_file(world.state_file, "nonsense\n");
        EXPECT_EQ(journal_read(world.journal, NULL, &back), JOURNAL_E_CORRUPT);
        EXPECT_EQ(back.sequence, 77);
        world_close(&world);
}

static void test_journal_of_another_instance_is_ignored(void) {
        JournalEntry entry = example(), back = {};
        World world;

        world_open(&world);
        for (unsigned i = 0; i < 5; i++)
                EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
        world_reopen(&world);
        EXPECT_EQ(journal_read(world.journal, "i-0fedcba9876543210", &back), -ENOENT);
        EXPECT_EQ(journal_read(world.journal, NULL, &back), 0);

        /* Ours in /run wins over the other's on a disk that cannot be written, whatever their numbers. */
        strcpy(entry.target.instance_id, "i-0fedcba9876543210");
        EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
        EXPECT_EQ(entry.sequence, 6);
        entry = example();
        EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
        EXPECT_EQ(journal_read(world.journal, "i-0fedcba9876543210", &back), -ENOENT);
        world_close(&world);
}

static void test_journal_disk_that_fails_is_no_error_while_run_has_it(void) {
        JournalEntry entry = example(), back = {};
        World world;
        int disk = 0;

        world_open(&world);
        EXPECT_EQ(rmdir(world.state), 0);
        write_file(world.state, "no directory");
        EXPECT_EQ(journal_write(world.journal, &entry, &disk), 0);
        EXPECT_EQ(disk, -ENOTDIR);
        EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), 0);

        EXPECT_EQ(unlink(world.state), 0); /* it comes back, and the directory is made anew */
        EXPECT_EQ(journal_write(world.journal, &entry, &disk), 0);
        EXPECT_EQ(disk, 0);
        EXPECT_EQ(access(world.state_file, F_OK), 0);
        world_close(&world);
}

static void test_journal_disk_alone_is_enough(void) {
        JournalEntry entry = example(), back = {};
        World world;
        int disk = -1;

        world_open(&world);
        EXPECT_EQ(rmdir(world.run), 0);
        write_file(world.run, "no directory");
        EXPECT_EQ(journal_write(world.journal, &entry, &disk), 0);
        EXPECT_EQ(disk, 0);
        EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), 0);
        EXPECT(same(&entry, &back));
        world_close(&world);
}

/* RLIMIT_FSIZE stands in for a device that takes no byte more: the write fails after the file was made. */
static void test_journal_that_nobody_takes_is_an_error_and_keeps_the_old(void) {
        JournalEntry entry = example(), next = example(), back = {};
        struct rlimit was = {}, none = {};
        World world;
        int disk = 0;

        world_open(&world);
        EXPECT_EQ(journal_write(world.journal, &entry, NULL), 0);
        next.record.stage = STAGE_REMOVED;
        (void) signal(SIGXFSZ, SIG_IGN);
        EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &was), 0);
        none = (struct rlimit){ 0, was.rlim_max };
        (void) fflush(stdout);
        EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &none), 0);
        int r = journal_write(world.journal, &next, &disk);
        EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &was), 0);
        EXPECT_EQ(r, -EFBIG);
        EXPECT_EQ(disk, -EFBIG);
        EXPECT_EQ(journal_read(world.journal, INSTANCE, &back), 0);
        EXPECT(same(&entry, &back));
        world_close(&world);
}

static bool write_proc(const char *path, const char *text) {
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CLOEXEC);

        return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text);
}

/* May mount; an ordinary user becomes the only one of a user namespace for that. */
static bool mounts_of_our_own(void) {
        uid_t uid = geteuid();
        gid_t gid = getegid();
        char map[64];

        if (uid == 0)
                return unshare(CLONE_NEWNS) == 0;
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || !write_proc("/proc/self/setgroups", "deny"))
                return false;
        (void) snprintf(map, sizeof(map), "%u %u 1", uid, uid);
        if (!write_proc("/proc/self/uid_map", map))
                return false;
        (void) snprintf(map, sizeof(map), "%u %u 1", gid, gid);
        return write_proc("/proc/self/gid_map", map);
}

/* A disk of our own in a mount namespace of our own; where that is not allowed, nothing is shown. */
static int on_tiny_disk(World *world) {
        JournalEntry entry = example(), back = {};
        char filler[128];
        int disk = 0, fd;

        if (!mounts_of_our_own() || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                mount("tiny", world->state, "tmpfs", 0, "size=16k") < 0)
                return SKIPPED;
        test_failures = 0;
        EXPECT_EQ(journal_write(world->journal, &entry, &disk), 0);
        EXPECT_EQ(disk, 0);

        (void) snprintf(filler, sizeof(filler), "%s/filler", world->state);
        fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        while (write(fd, filler, sizeof(filler)) > 0)
                ;
        (void) close(fd);
        entry.record.stage = STAGE_VERIFYING;
        EXPECT_EQ(journal_write(world->journal, &entry, &disk), 0);
        EXPECT_EQ(disk, -ENOSPC);
        EXPECT_EQ(journal_read(world->journal, INSTANCE, &back), 0);
        EXPECT_EQ(back.record.stage, STAGE_VERIFYING);

        EXPECT_EQ(mount("tiny", world->state, NULL, MS_REMOUNT | MS_RDONLY, "size=16k"), 0);
        entry.record.stage = STAGE_REMOVED;
        EXPECT_EQ(journal_write(world->journal, &entry, &disk), 0);
        EXPECT_EQ(disk, -EROFS);
        EXPECT_EQ(journal_read(world->journal, INSTANCE, &back), 0);
        EXPECT_EQ(back.record.stage, STAGE_REMOVED);

        /* /run goes with a reboot: what the disk took last is still whole */
        EXPECT_EQ(unlink(world->run_file), 0);
        EXPECT_EQ(journal_read(world->journal, INSTANCE, &back), 0);
        EXPECT_EQ(back.record.stage, STAGE_DETACHING);
        return test_failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void test_journal_on_a_full_and_on_a_read_only_disk(void) {
        World world;
        int status = -1;
        pid_t pid;

        world_open(&world);
        (void) fflush(stdout);
        pid = fork();
        if (pid == 0)
                _exit(on_tiny_disk(&world));
        EXPECT_EQ(waitpid(pid, &status, 0), pid);
        EXPECT(WIFEXITED(status));
        if (WEXITSTATUS(status) == SKIPPED)
                printf("# no mount namespace here: not shown\n");
        else
                EXPECT_EQ(WEXITSTATUS(status), EXIT_SUCCESS);
        world_close(&world);
}

static void test_journal_free_takes_null(void) {
        EXPECT(!journal_free(NULL));
}

TEST_MAIN(TEST(test_journal_text_reads_back_as_it_was), TEST(test_journal_longest_texts_fit),
        TEST(test_journal_format_refuses_what_could_not_be_read_back),
        TEST(test_journal_parse_refuses_any_change), TEST(test_journal_parse_of_sealed_lines),
        TEST(test_journal_parse_refuses_nul_and_excess), TEST(test_journal_written_is_read_after_a_restart),
        TEST(test_journal_survives_the_loss_of_either_copy), TEST(test_journal_newer_copy_counts),
        TEST(test_journal_killed_halfway_leaves_the_old_one),
        TEST(test_journal_killed_between_the_copies_gives_the_new_one),
        TEST(test_journal_nothing_whole_is_corrupt), TEST(test_journal_of_another_instance_is_ignored),
        TEST(test_journal_disk_that_fails_is_no_error_while_run_has_it),
        TEST(test_journal_disk_alone_is_enough),
        TEST(test_journal_that_nobody_takes_is_an_error_and_keeps_the_old),
        TEST(test_journal_on_a_full_and_on_a_read_only_disk), TEST(test_journal_free_takes_null))
