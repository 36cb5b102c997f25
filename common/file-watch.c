/* SPDX-License-Identifier: Apache-2.0 */

/* inotify on the directory, because editors and cfn-init replace files rather than write into them. */

#include "common/file-watch.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

struct FileWatch {
        sd_event_source *source;
        char *path;
        void (*changed)(void *userdata);
        void *userdata;
};

static bool names(const struct inotify_event *event, const char *path) {
        const char *slash = strrchr(path, '/');

        return event->len == 0 || strcmp(event->name, slash ? slash + 1 : path) == 0;
}

/* Whoever has only just made a file is going to write and close it; a link is whole when it is there. */
static bool unfinished(const struct inotify_event *event, const char *path) {
        struct stat st;

        return (event->mask & IN_CREATE) != 0 && lstat(path, &st) >= 0 && S_ISREG(st.st_mode) &&
               st.st_nlink == 1;
}

static int on_event(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        FileWatch *watch = userdata;

        (void) source;
        if (names(event, watch->path) && !unfinished(event, watch->path))
                watch->changed(watch->userdata);
        return 0;
}

static int add_source(FileWatch *watch, sd_event *event) {
        _cleanup_(freep) char *directory = strdup(watch->path);
        char *slash = directory ? strrchr(directory, '/') : NULL;
        int r;

        if (!slash)
                return -ENOMEM;
        *slash = '\0';
        r = sd_event_add_inotify(event, &watch->source, directory,
                IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_CREATE, on_event, watch);
        return r == -ENOENT || r == -EACCES || r == -ENOSPC ? 0 : r;
}

int file_watch_new(FileWatch **ret, sd_event *event, const char *path, void (*changed)(void *userdata),
        void *userdata) {
        _cleanup_(file_watch_freep) FileWatch *watch = calloc(1, sizeof(*watch));
        int r;

        if (!watch)
                return -ENOMEM;
        watch->changed = changed;
        watch->userdata = userdata;
        watch->path = strdup(path);
        if (!watch->path)
                return -ENOMEM;
        r = add_source(watch, event);
        if (r < 0)
                return r;

        *ret = steal_ptr(watch);
        return 0;
}

FileWatch *file_watch_free(FileWatch *watch) {
        if (!watch)
                return NULL;
        sd_event_source_disable_unref(watch->source);
        free(watch->path);
        free(watch);
        return NULL;
}
