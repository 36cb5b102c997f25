/* SPDX-License-Identifier: Apache-2.0 */

/* A pause is kept as it was given, ends when it is over, and a file that makes no sense pauses. */

#include "agent/pause.h"

#include <errno.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "tests/unit/test.h"

#define NOON ((Wall){ INT64_C(1795521600) * 1000 * 1000 })

static char directory[64], path[128];

static void scene_open(void) {
        (void) snprintf(directory, sizeof(directory), "/tmp/test-pause.XXXXXX");
        EXPECT(mkdtemp(directory));
        (void) snprintf(path, sizeof(path), "%s/state/pause.json", directory);
}

static void scene_close(void) {
        char state[96];

        (void) snprintf(state, sizeof(state), "%s/state", directory);
        (void) unlink(path);
        (void) rmdir(state);
        (void) rmdir(directory);
}

static void file_put(const char *text) {
        char state[96];

        (void) snprintf(state, sizeof(state), "%s/state", directory);
        EXPECT_EQ(file_mkdir(state, 0755), 0);
        EXPECT_EQ(file_write_atomic(path, text, strlen(text), 0644, false), 0);
}

static void test_without_a_file_nothing_is_paused(void) {
        Pause pause = { .paused = true };

        scene_open();
        EXPECT_EQ(pause_read(path, NOON, &pause), 0);
        EXPECT(!pause.paused);
        EXPECT_EQ(pause_clear(path), 0);
        scene_close();
}

static void test_pause_is_read_back_as_it_was_written(void) {
        const Pause pause = { true, NOON, wall_add(NOON, SPAN_HOUR(2)), "kernel \"update\", ü", "ann" };
        Pause read = {};
        struct stat st = {};

        scene_open();
        EXPECT_EQ(pause_write(path, &pause), 0);
        EXPECT_EQ(pause_read(path, NOON, &read), 0);
        EXPECT(read.paused);
        EXPECT_EQ(read.since.usec, pause.since.usec);
        EXPECT_EQ(read.until.usec, pause.until.usec);
        EXPECT_STR(read.reason, pause.reason);
        EXPECT_STR(read.by, "ann");
        EXPECT_EQ(stat(path, &st), 0);
        EXPECT_EQ(st.st_mode & 0777, 0644); /* the service runs as another user */
        scene_close();
}

static void test_pause_without_an_end_lasts_until_resumed(void) {
        const Pause pause = { .paused = true, .since = NOON };
        Pause read = {};

        scene_open();
        EXPECT_EQ(pause_write(path, &pause), 0);
        EXPECT_EQ(pause_read(path, wall_add(NOON, SPAN_DAY(400)), &read), 0);
        EXPECT(read.paused);
        EXPECT(!wall_is_set(read.until));
        EXPECT_EQ(pause_clear(path), 0);
        EXPECT_EQ(pause_read(path, NOON, &read), 0);
        EXPECT(!read.paused);
        scene_close();
}

static void test_pause_is_over_at_its_end_and_not_before(void) {
        const Pause pause = { .paused = true, .since = NOON, .until = wall_add(NOON, SPAN_MIN(5)) };
        Pause read = {};

        scene_open();
        EXPECT_EQ(pause_write(path, &pause), 0);
        EXPECT_EQ(pause_read(path, wall_add(pause.until, -1), &read), 0);
        EXPECT(read.paused);
        EXPECT_EQ(pause_read(path, pause.until, &read), 0);
        EXPECT(!read.paused);
        scene_close();
}

static void test_file_that_makes_no_sense_pauses(void) {
        static const char *const texts[] = { "", "yes", "[]", "null", "{\"until\":\"tomorrow\"}",
                "{\"until\":5}", "{\"since\":\"2026-11-23T12:00:00Z\",\"until\":\"2026-11-23T13:00:00Z\"",
                "{\"until\":\"\"}" };

        scene_open();
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                Pause read = {};

                file_put(texts[i]);
                EXPECT_EQ(pause_read(path, NOON, &read), -EBADMSG);
                EXPECT(read.paused);
                EXPECT(!wall_is_set(read.until));
        }
        scene_close();
}

static void test_file_that_is_too_large_or_a_directory_pauses(void) {
        char large[8192];
        Pause read = {};

        scene_open();
        memset(large, ' ', sizeof(large));
        large[sizeof(large) - 1] = '\0';
        file_put(large);
        EXPECT_EQ(pause_read(path, NOON, &read), -EBADMSG);
        EXPECT(read.paused);

        read = (Pause){};
        EXPECT_EQ(pause_read(directory, NOON, &read), -EBADMSG);
        EXPECT(read.paused);
        scene_close();
}

static void test_empty_object_pauses_until_resumed(void) {
        Pause read = {};

        scene_open();
        file_put("{}\n");
        EXPECT_EQ(pause_read(path, NOON, &read), 0);
        EXPECT(read.paused);
        EXPECT_STR(read.reason, "");
        scene_close();
}

static void test_long_reason_is_cut_between_characters_and_kept_on_one_line(void) {
        Pause pause = { .paused = true, .since = NOON };
        Pause read = {};
        char text[1024];

        scene_open();
        memset(pause.reason, 'a', sizeof(pause.reason) - 1);
        pause.reason[3] = '\n';
        EXPECT_EQ(pause_write(path, &pause), 0);
        EXPECT_EQ(pause_read(path, NOON, &read), 0);
        EXPECT_EQ(strlen(read.reason), sizeof(pause.reason) - 1);
        EXPECT_EQ(read.reason[3], ' ');

        (void) snprintf(
                text, sizeof(text), "{\"reason\":\"%0198d\303\274\"}", 0); /* 198 bytes, then one of two */
        file_put(text);
        EXPECT_EQ(pause_read(path, NOON, &read), 0);
        EXPECT_EQ(strlen(read.reason), 198);
        scene_close();
}

static void test_pause_cannot_be_written_where_that_is_not_possible(void) {
        const Pause pause = { .paused = true, .since = NOON };

        EXPECT(pause_write("/proc/nowhere/pause.json", &pause) < 0);
        EXPECT(pause_write("/dev/null/pause.json", &pause) < 0);
}

/* Return: what was told of the pause file since the last call. */
static uint32_t told(int fd) {
        char buffer[4096] __attribute__((aligned(8)));
        ssize_t n = read(fd, buffer, sizeof(buffer));
        uint32_t mask = 0;

        for (ssize_t at = 0; n > 0 && at < n;) {
                const struct inotify_event *event = (const struct inotify_event *) (buffer + at);

                if (event->len > 0 && strcmp(event->name, "pause.json") == 0)
                        mask |= event->mask;
                at += (ssize_t) sizeof(*event) + event->len;
        }
        return mask;
}

static void test_resuming_is_noticed_whether_there_was_a_pause_or_not(void) {
        const Pause pause = { .paused = true, .since = NOON };
        char state[96];
        int fd;

        scene_open();
        EXPECT_EQ(pause_write(path, &pause), 0);
        (void) snprintf(state, sizeof(state), "%s/state", directory);
        fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        EXPECT(inotify_add_watch(fd, state, IN_MOVED_TO | IN_DELETE) >= 0);
        EXPECT_EQ(told(fd), 0);

        for (unsigned i = 0; i < 3; i++) {
                EXPECT_EQ(pause_clear(path), 0);
                EXPECT(told(fd) & IN_DELETE);
                EXPECT(access(path, F_OK) < 0 && errno == ENOENT);
        }
        EXPECT_EQ(told(fd), 0);
        (void) close(fd);
        scene_close();
}

static void test_resuming_fails_where_it_could_not_be_noticed(void) {
        EXPECT(pause_clear("/proc/nowhere/pause.json") < 0);
        EXPECT(pause_clear("/dev/null/pause.json") < 0);
}

TEST_MAIN(TEST(test_resuming_is_noticed_whether_there_was_a_pause_or_not),
        TEST(test_resuming_fails_where_it_could_not_be_noticed), TEST(test_without_a_file_nothing_is_paused),
        TEST(test_pause_is_read_back_as_it_was_written), TEST(test_pause_without_an_end_lasts_until_resumed),
        TEST(test_pause_is_over_at_its_end_and_not_before), TEST(test_file_that_makes_no_sense_pauses),
        TEST(test_file_that_is_too_large_or_a_directory_pauses),
        TEST(test_empty_object_pauses_until_resumed),
        TEST(test_long_reason_is_cut_between_characters_and_kept_on_one_line),
        TEST(test_pause_cannot_be_written_where_that_is_not_possible))
