/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Asks dockerd over its Unix socket: GET /_ping and a cheap list, each with a deadline of 5 s. */

#include "agent/decide/sample.h"
#include "common/http.h"

typedef struct Docker Docker;

/** docker_new() - @socket: path with file_root() applied, copied; asks at once and then every @every */
int docker_new(Docker **ret, sd_event *event, Http *http, const char *socket, Span every,
        SampleHandler handler, void *userdata);
Docker *docker_free(Docker *docker);
DEFINE_CLEANUP(Docker, docker_free)
