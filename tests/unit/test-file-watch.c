/* SPDX-License-Identifier: Apache-2.0 */

/* Every way in which people and programs change a file is noticed once it is whole; changes to its neighbours are not. */

#include "common/file-watch.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/file.h"
#include "tests/unit/test.h"

static char directory[64], path[128], other[128];
static sd_event *event;
static FileWatch *watch;
static unsigned n_changed;

static void on_changed(void *userdata) {
        (void) userdata;
        n_changed++;
}

static void scene_open(void) {
        (void) snprintf(directory, sizeof(directory), "/tmp/test-watch.XXXXXX");
        EXPECT(mkdtemp(directory));
        (void) snprintf(path, sizeof(path), "%s/config.json", directory);
        (void) snprintf(other, sizeof(other), "%s/other", directory);
        n_changed = 0;
        EXPECT_EQ(sd_event_new(&event), 0);
        EXPECT_EQ(file_watch_new(&watch, event, path, on_changed, NULL), 0);
}

static void scene_close(void) {
        watch = file_watch_free(watch);
        event = sd_event_unref(event);
        (void) unlink(path);
        (void) unlink(other);
        (void) rmdir(directory);
}

/* All that the kernel has to tell by now. */
static unsigned changes(void) {
        unsigned n;

        while (sd_event_run(event, 0) > 0)
                ;
        n = n_changed;
        n_changed = 0;
        return n;
}

static void test_a_file_that_is_written_is_noticed_when_it_is_closed(void) {
        int fd;

        scene_open();
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        EXPECT(fd >= 0);
        EXPECT_EQ(write(fd, "{", 1), 1);
        EXPECT_EQ(changes(), 0);
        EXPECT_EQ(write(fd, "}", 1), 1);
        EXPECT_EQ(close(fd), 0);
        EXPECT_EQ(changes(), 1);
        scene_close();
}

static void test_replacing_linking_and_removing_are_noticed(void) {
        scene_open();
        EXPECT_EQ(file_write_atomic(path, "{}", 2, 0644, false), 0);
        EXPECT_EQ(changes(), 1);
        EXPECT_EQ(unlink(path), 0);
        EXPECT_EQ(changes(), 1);
        EXPECT_EQ(symlink("/dev/null", path), 0);
        EXPECT_EQ(changes(), 1);
        EXPECT_EQ(rename(path, other), 0);
        EXPECT_EQ(changes(), 1);
        scene_close();
}

static void test_neighbours_are_not_noticed(void) {
        scene_open();
        EXPECT_EQ(file_write_atomic(other, "{}", 2, 0644, false), 0);
        EXPECT_EQ(unlink(other), 0);
        EXPECT_EQ(changes(), 0);
        scene_close();
}

static void test_no_directory_is_no_error(void) {
        FileWatch *none = NULL;

        scene_open();
        EXPECT_EQ(file_watch_new(&none, event, "/nonexistent/config.json", on_changed, NULL), 0);
        file_watch_free(none);
        file_watch_free(NULL);
        scene_close();
}

TEST_MAIN(TEST(test_a_file_that_is_written_is_noticed_when_it_is_closed),
        TEST(test_replacing_linking_and_removing_are_noticed), TEST(test_neighbours_are_not_noticed),
        TEST(test_no_directory_is_no_error))
