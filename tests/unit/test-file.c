/* SPDX-License-Identifier: Apache-2.0 */

/* Whole files: bounded reads, atomic writes, and the test root. */

#include "common/file.h"

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "tests/unit/test.h"

static char directory[] = "/tmp/test-file-XXXXXX";

static const char *in_directory(const char *name) {
        static char path[4][256];
        static unsigned turn;
        char *at = path[turn++ % 4];

        snprintf(at, sizeof(path[0]), "%s/%s", directory, name);
        return at;
}

static void make_directory(void) {
        EXPECT(mkdtemp(directory));
}

static void remove_directory(void) {
        EXPECT_EQ(chdir("/"), 0);
        EXPECT_EQ(rmdir(directory), 0);
}

static void test_root_is_put_before_paths(void) {
        static const struct {
                const char *root, *path, *expected;
        } cases[] = {
                { NULL, "/etc//x", "/etc//x" },
                { "", "a", "a" },
                { "/root", "/a//b", "/root/a/b" },
                { "/root", "a", "/root/a" },
                { "/root//", "/a/", "/root/a" },
                { "/root", "/", "/root" },
                { "/", "/a", "/a" },
                { "/", "/", "/" },
                { "rel", "/a", "rel/a" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(freep) char *path = NULL;

                if (cases[i].root)
                        setenv("ECS_HEALTH_AGENT_ROOT", cases[i].root, 1);
                else
                        unsetenv("ECS_HEALTH_AGENT_ROOT");
                EXPECT_EQ(file_root(cases[i].path, &path), 0);
                EXPECT_STR(path, cases[i].expected);
        }
}

static void test_root_refuses_a_path_without_end(void) {
        char path[PATH_MAX + 1] = "", *ret = NULL;

        memset(path, 'a', PATH_MAX);
        setenv("ECS_HEALTH_AGENT_ROOT", "/root", 1);
        EXPECT_EQ(file_root(path, &ret), -ENAMETOOLONG);
        EXPECT(!ret);
        unsetenv("ECS_HEALTH_AGENT_ROOT");
}

static void expect_read(const char *path, size_t max, const char *expected, size_t n_expected) {
        _cleanup_(freep) char *text = NULL;
        size_t n = 0;

        EXPECT_EQ(file_read(path, max, &text, &n), 0);
        EXPECT_EQ(n, n_expected);
        EXPECT(text && memcmp(text, expected, n_expected) == 0 && text[n] == '\0');
}

static void test_read_returns_what_was_written(void) {
        const char *path = in_directory("file");
        static char large[100000];
        struct stat st = {};

        EXPECT_EQ(file_write_atomic(path, "a\0b", 3, 0640, false), 0);
        expect_read(path, 3, "a\0b", 3);
        EXPECT_EQ(stat(path, &st), 0);
        EXPECT_EQ(st.st_mode & 07777, 0640);

        memset(large, 'x', sizeof(large));
        EXPECT_EQ(file_write_atomic(path, large, sizeof(large), 0600, true), 0);
        expect_read(path, sizeof(large), large, sizeof(large));
        expect_read(path, SIZE_MAX, large, sizeof(large));

        EXPECT_EQ(file_write_atomic(path, "", 0, 0600, false), 0);
        expect_read(path, 0, "", 0);
        EXPECT_EQ(access(in_directory("file.new"), F_OK), -1);
        EXPECT_EQ(unlink(path), 0);
}

static void test_read_refuses_more_than_its_maximum(void) {
        const char *path = in_directory("file");
        char *text = NULL;

        EXPECT_EQ(file_write_atomic(path, "abcd", 4, 0600, false), 0);
        EXPECT_EQ(file_read(path, 3, &text, NULL), -E2BIG);
        EXPECT_EQ(file_read("/proc/self/maps", 100, &text, NULL), -E2BIG);
        EXPECT(!text);
        EXPECT_EQ(unlink(path), 0);
}

static void test_read_takes_files_of_unknown_size(void) {
        _cleanup_(freep) char *text = NULL;
        size_t n = 0;

        EXPECT_EQ(file_read("/proc/self/maps", 1 << 20, &text, &n), 0);
        EXPECT(n > 0);
        EXPECT_EQ(strlen(text), n);
}

static void test_read_refuses_what_is_no_file(void) {
        const char *fifo = in_directory("fifo");
        char *text = NULL;
        int r;

        EXPECT_EQ(file_read(directory, 100, &text, NULL), -EISDIR);
        EXPECT_EQ(file_read(in_directory("none"), 100, &text, NULL), -ENOENT);
        EXPECT(!text);

        /* Nobody writes to it: this must come back. */
        EXPECT_EQ(mkfifo(fifo, 0600), 0);
        r = file_read(fifo, 100, &text, NULL);
        EXPECT_EQ(r, 0);
        EXPECT_STR(text, "");
        free(text);
        EXPECT_EQ(unlink(fifo), 0);
}

static void test_failed_write_leaves_the_old_file(void) {
        const char *path = in_directory("file"), *neighbour = in_directory("file.new");

        EXPECT_EQ(file_write_atomic(path, "old", 3, 0600, false), 0);
        EXPECT_EQ(mkdir(neighbour, 0700), 0); /* in the way, and not removable by unlink() */
        EXPECT_EQ(file_write_atomic(path, "new", 3, 0600, false), -EISDIR);
        expect_read(path, 100, "old", 3);
        EXPECT_EQ(rmdir(neighbour), 0);
        EXPECT_EQ(unlink(path), 0);
        EXPECT_EQ(file_write_atomic(in_directory("none/file"), "x", 1, 0600, false), -ENOENT);
}

static void test_write_replaces_what_a_crash_left(void) {
        const char *path = in_directory("file"), *neighbour = in_directory("file.new"),
                   *target = in_directory("target");

        EXPECT_EQ(file_write_atomic(target, "keep", 4, 0600, false), 0);
        EXPECT_EQ(symlink(target, neighbour), 0);
        EXPECT_EQ(file_write_atomic(path, "new", 3, 0600, false), 0);
        expect_read(target, 100, "keep", 4);
        expect_read(path, 100, "new", 3);
        EXPECT_EQ(unlink(path), 0);
        EXPECT_EQ(unlink(target), 0);
}

static void test_write_without_a_slash_goes_to_the_working_directory(void) {
        EXPECT_EQ(chdir(directory), 0);
        EXPECT_EQ(file_write_atomic("plain", "x", 1, 0600, true), 0);
        expect_read(in_directory("plain"), 10, "x", 1);
        EXPECT_EQ(unlink("plain"), 0);
}

static void test_mkdir_makes_all_that_is_missing(void) {
        const char *path = in_directory("a//b/c/");

        EXPECT_EQ(file_mkdir(path, 0700), 0);
        EXPECT_EQ(file_mkdir(path, 0700), 0);
        EXPECT_EQ(rmdir(in_directory("a/b/c")), 0);
        EXPECT_EQ(rmdir(in_directory("a/b")), 0);
        EXPECT_EQ(rmdir(in_directory("a")), 0);
}

static void test_mkdir_refuses_a_file_in_the_way(void) {
        EXPECT_EQ(file_write_atomic(in_directory("a"), "x", 1, 0600, false), 0);
        EXPECT_EQ(file_mkdir(in_directory("a"), 0700), -ENOTDIR);
        EXPECT_EQ(file_mkdir(in_directory("a/b"), 0700), -ENOTDIR);
        EXPECT_EQ(file_mkdir("", 0700), -ENOENT);
        EXPECT_EQ(unlink(in_directory("a")), 0);
}

TEST_MAIN(TEST(make_directory), TEST(test_root_is_put_before_paths),
        TEST(test_root_refuses_a_path_without_end), TEST(test_read_returns_what_was_written),
        TEST(test_read_refuses_more_than_its_maximum), TEST(test_read_takes_files_of_unknown_size),
        TEST(test_read_refuses_what_is_no_file), TEST(test_failed_write_leaves_the_old_file),
        TEST(test_write_replaces_what_a_crash_left),
        TEST(test_write_without_a_slash_goes_to_the_working_directory),
        TEST(test_mkdir_makes_all_that_is_missing), TEST(test_mkdir_refuses_a_file_in_the_way),
        TEST(remove_directory))
