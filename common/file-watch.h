/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tells when a file of ours has been written, replaced or taken away, whoever did it and however. */

#include <systemd/sd-event.h>

#include "common/cleanup.h"

typedef struct FileWatch FileWatch;

/**
 * file_watch_new() - watch the directory of @path for changes to it
 *
 * A directory that is not there, may not be read, or for which the kernel has no watch left is no error: SIGHUP remains.
 * Return: 0; -ENOMEM; what sd_event_add_inotify() says.
 */
int file_watch_new(
        FileWatch **ret, sd_event *event, const char *path, void (*changed)(void *userdata), void *userdata);
FileWatch *file_watch_free(FileWatch *watch);
DEFINE_CLEANUP(FileWatch, file_watch_free)
