/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the running daemon knows, for people and for programs. The daemon serves it as one JSON document to whoever
 * connects to a Unix socket in its run directory; nothing is written while nobody asks. The command renders it.
 *
 * status.c writes the document and lists its names, status-render.c shows it to people, status-server.c has both ends
 * of the socket.
 */

#include <stdio.h>
#include <systemd/sd-event.h>

#include "agent/act/metrics.h"
#include "agent/act/publisher.h"
#include "agent/act/target.h"
#include "agent/decide/core.h"
#include "agent/pause.h"
#include "agent/settings.h"
#include "agent/stack.h"
#include "common/aws-credentials.h"
#include "common/json.h"

#define STATUS_SOCKET   "/run/ecs-health-agent/status.sock"
#define STATUS_TEXT_MAX ((size_t) 256 * 1024)

/** Everything that status tells. Pointers are lent for the length of the call. */
typedef struct StatusView {
        Now now;
        Wall started;
        const char *version;       /* of this program */
        const char *agent_version; /* of the ECS agent, "" unknown */
        const Core *core;
        const Target *target;
        const char *control_host; /* "" unknown */
        const DiskMount *mounts;
        uint32_t n_mounts;
        const Pause *pause;
        const Settings *settings;
        const OptionProblems *problems; /* n > 0: the settings in the file were refused */
        const char *settings_path;
        const StackView *stack;
        const PublisherState *published;
        AwsCredentialsState credentials;
        const char *credentials_detail;
        const char *keys_refused; /* code with which AWS refuses them, "" if it does not */
        Span clock_offset;        /* service's clock minus ours */
        int journal_error;        /* of the last write: 0, -ENOSPC, ... */
        const char *last_call;    /* last call of the act path and its answer, in words; "" none */
        unsigned helpers_stuck;
} StatusView;

/** status_write() - the JSON document */
void status_write(const StatusView *view, JsonWriter *writer);

/** status_render() - the same document for people, @width columns; colour if @colour. Return: 0; -EBADMSG. */
int status_render(const cJSON *status, unsigned width, bool colour, FILE *f);

typedef struct StatusServer StatusServer;
/** @writer: to be filled with the document */
typedef void (*StatusAsked)(JsonWriter *writer, void *userdata);

/** status_server_new() - listen on @path (file_root() applied); at most 8 clients at a time, 2 s each */
int status_server_new(
        StatusServer **ret, sd_event *event, const char *path, StatusAsked asked, void *userdata);
StatusServer *status_server_free(StatusServer *server);
DEFINE_CLEANUP(StatusServer, status_server_free)

/** status_fetch() - the command's side: connect and read, 3 s at most
 *
 * Return: 0; -ENOENT, -ENOTDIR, -ECONNREFUSED: no daemon; -ETIMEDOUT: it does not answer; -EBADMSG: it had nothing to
 * say; -E2BIG; what the system calls say.
 */
int status_fetch(const char *path, char **ret, size_t *ret_n);
