/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The settings file, what was kept of the stack's metadata, the daemon's status socket and, without a daemon, the mount
 * table. What cannot be had is left open: one plans on a desk as well as on a host.
 */

#include "agent/local.h"

#include <string.h>

#include "agent/commands.h"
#include "agent/config.h"
#include "agent/observe/disks.h"
#include "agent/status.h"
#include "common/cleanup.h"
#include "common/file.h"

/* A text that does not fit is none of ours. */
static void take_text(char *buffer, size_t n_buffer, const cJSON *json, const char *name) {
        const char *text = NULL;

        if (json_get_string(json, name, &text) >= 0 && *text && strlen(text) < n_buffer)
                (void) snprintf(buffer, n_buffer, "%s", text);
}

/* Only whether there is a value counts here. */
static Share take_share(const cJSON *json, const char *name) {
        return cJSON_IsNumber(json_member(json, name)) ? 0 : SHARE_NONE;
}

static void take_mounts(Local *local, const cJSON *host) {
        const cJSON *disks = NULL, *disk;

        if (json_get_array(host, "disks", &disks) < 0)
                return;
        cJSON_ArrayForEach(disk, disks) {
                DiskMount mount = {
                        .used = take_share(disk, "used_percent"),
                        .inodes_used = take_share(disk, "inodes_used_percent"),
                };

                take_text(mount.path, sizeof(mount.path), disk, "path");
                if (*mount.path && local->n_mounts < DISK_MOUNTS_MAX)
                        local->mounts[local->n_mounts++] = mount;
        }
        local->measured = local->n_mounts > 0;
}

void local_take_status(Local *local, const cJSON *status) {
        const cJSON *identity = json_member(status, "identity");

        take_text(local->cluster, sizeof(local->cluster), identity, "cluster");
        take_text(local->group, sizeof(local->group), identity, "group");
        take_text(local->arn, sizeof(local->arn), identity, "container_instance");
        take_mounts(local, json_member(status, "host"));
}

/* Whatever is wrong with it: then there is no daemon to be asked. */
static void ask_daemon(Local *local) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        _cleanup_(json_freep) cJSON *status = NULL;
        size_t n = 0;

        if (file_root(STATUS_SOCKET, &path) < 0 || status_fetch(path, &text, &n) < 0)
                return;
        if (json_parse(text, n, NULL, &status) >= 0)
                local_take_status(local, status);
}

static void choose_mounts(Local *local) {
        const OptionList *named = &local->settings.mounts;
        const char *mounts[OPTION_LIST_MAX + 1], *ignored[OPTION_LIST_MAX + 1];
        const char *root = getenv("ECS_HEALTH_AGENT_ROOT");
        DisksOptions options = { .root = root ? root : "", .mounts = mounts, .ignore_fstypes = ignored };
        int n;

        option_list_array(named, mounts);
        option_list_array(&local->settings.ignore_fstypes, ignored);
        if (named->n == 0 || strcmp(mounts[0], "auto") == 0)
                options.mounts = NULL;
        n = disks_choose(&options, local->mounts);
        local->n_mounts = n > 0 ? (uint32_t) n : 0;
}

static int refused(const OptionProblems *problems) {
        for (unsigned i = 0; i < problems->n && i < OPTION_PROBLEMS_MAX; i++)
                fprintf(stderr, "%s\n", problems->text[i]);
        fprintf(stderr,
                "No plan can be made with settings that are refused. See: " PROGRAM " check-config\n");
        return EXIT_USAGE;
}

/* A stack is set or remembered by its name or its ARN, arn:...:stack/NAME/ID. */
static void take_stack(Local *local, const char *stack) {
        const char *name = strstr(stack, ":stack/");

        name = name ? name + strlen(":stack/") : stack;
        if (strcspn(name, "/") < sizeof(local->stack))
                (void) snprintf(local->stack, sizeof(local->stack), "%.*s", (int) strcspn(name, "/"), name);
}

static int read_settings(const char *path, Local *local, OptionProblems *problems) {
        _cleanup_(stack_cache_done) StackCache cache = {};
        int r;

        r = config_read(path, &local->settings, NULL, problems, &cache);
        if (r < 0)
                return r;
        if (cache.stack)
                take_stack(local, cache.stack);
        if (*local->settings.stack)
                take_stack(local, local->settings.stack);
        return 0;
}

int local_read(Local *ret) {
        _cleanup_(freep) char *path = NULL;
        static OptionProblems problems; /* too large for comfort on a stack */
        SettingsEcs ecs;
        int r;

        *ret = (Local){};
        r = file_root(SETTINGS_FILE, &path);
        if (r < 0)
                return command_error("%s: %s", SETTINGS_FILE, strerror(-r));
        r = read_settings(path, ret, &problems);
        if (r == -EBADMSG)
                return refused(&problems);
        if (r < 0)
                return command_error("%s: %s", path, strerror(-r));

        settings_ecs_config(&ecs);
        (void) snprintf(ret->cluster, sizeof(ret->cluster), "%s",
                *ret->settings.cluster ? ret->settings.cluster : ecs.cluster);
        explicit_bzero(&ecs, sizeof(ecs)); /* a proxy's password may be in it */
        ask_daemon(ret);
        if (ret->n_mounts == 0)
                choose_mounts(ret);
        return EXIT_FINE;
}
