/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Our own way to the control-plane host: name, TCP, TLS, any HTTP answer. Asked on a new connection, without sending
 * anything of ours, and only while somebody wants to know.
 */

#include "agent/decide/sample.h"
#include "common/http.h"

typedef struct Path Path;

int path_new(Path **ret, sd_event *event, Http *http, SampleHandler handler, void *userdata);
Path *path_free(Path *path);
DEFINE_CLEANUP(Path, path_free)

/** path_watch() - ask now and every @every from now on; again with the same host and @every: no change */
int path_watch(Path *path, const char *host, uint16_t port, bool plain, Span every);
/** path_rest() - stop asking, and forget */
void path_rest(Path *path);
