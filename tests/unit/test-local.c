/* SPDX-License-Identifier: Apache-2.0 */

/* What is taken from the daemon's status document, and that a document of another shape does no harm. */

#include "agent/local.h"

#include "common/json.h"
#include "tests/unit/test.h"

static void take(Local *local, const char *text) {
        _cleanup_(json_freep) cJSON *json = NULL;

        EXPECT_EQ(json_parse(text, strlen(text), NULL, &json), 0);
        local_take_status(local, json);
}

static void test_status_tells_who_we_are_and_what_is_mounted(void) {
        static Local local;

        take(&local,
                "{\"identity\":{\"cluster\":\"prod\",\"group\":\"nodes\",\"container_instance\":\"arn:x\"},"
                "\"host\":{\"disks\":[{\"path\":\"/\",\"used_percent\":12.5,\"inodes_used_percent\":1},"
                "{\"path\":\"/boot/efi\",\"used_percent\":3,\"inodes_used_percent\":null},"
                "{\"path\":\"/hung\",\"used_percent\":null,\"inodes_used_percent\":null}]}}");
        EXPECT_STR(local.cluster, "prod");
        EXPECT_STR(local.group, "nodes");
        EXPECT_STR(local.arn, "arn:x");
        EXPECT_EQ(local.n_mounts, 3);
        EXPECT(local.measured);
        EXPECT_STR(local.mounts[1].path, "/boot/efi");
        EXPECT(local.mounts[0].used != SHARE_NONE && local.mounts[0].inodes_used != SHARE_NONE);
        EXPECT(local.mounts[1].used != SHARE_NONE && local.mounts[1].inodes_used == SHARE_NONE);
        EXPECT(local.mounts[2].used == SHARE_NONE && local.mounts[2].inodes_used == SHARE_NONE);
}

static void test_status_of_another_shape_leaves_all_as_it_is(void) {
        static const char *const cases[] = {
                "null",
                "[]",
                "{}",
                "{\"identity\":null,\"host\":null}",
                "{\"identity\":[],\"host\":{\"disks\":{}}}",
                "{\"identity\":{\"cluster\":7,\"group\":\"\"},\"host\":{\"disks\":[]}}",
                "{\"host\":{\"disks\":[null,7,{},{\"path\":\"\"},{\"path\":1}]}}",
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                static Local local;

                local = (Local){ .cluster = "of the settings" };
                take(&local, cases[i]);
                EXPECT_STR(local.cluster, "of the settings");
                EXPECT_STR(local.group, "");
                EXPECT_EQ(local.n_mounts, 0);
                EXPECT(!local.measured);
        }
}

static void test_status_that_is_too_much_is_cut(void) {
        static Local local;
        JsonWriter writer;
        char path[400];

        json_writer_init(&writer, 1 << 20);
        json_begin_object(&writer, NULL);
        json_begin_object(&writer, "identity");
        memset(path, 'a', sizeof(path));
        path[sizeof(path) - 1] = '\0';
        json_string(&writer, "cluster", path);
        json_end_object(&writer);
        json_begin_object(&writer, "host");
        json_begin_array(&writer, "disks");
        for (unsigned i = 0; i < 2 * DISK_MOUNTS_MAX; i++) {
                json_begin_object(&writer, NULL);
                (void) snprintf(path, sizeof(path), "/%u", i);
                json_string(&writer, "path", path);
                json_end_object(&writer);
        }
        json_end_array(&writer);
        json_end_object(&writer);
        json_end_object(&writer);
        take(&local, writer.text);
        json_writer_done(&writer);
        EXPECT_STR(local.cluster, "");
        EXPECT_EQ(local.n_mounts, DISK_MOUNTS_MAX);
        EXPECT_STR(local.mounts[DISK_MOUNTS_MAX - 1].path, "/31");
}

TEST_MAIN(TEST(test_status_tells_who_we_are_and_what_is_mounted),
        TEST(test_status_of_another_shape_leaves_all_as_it_is), TEST(test_status_that_is_too_much_is_cut))
