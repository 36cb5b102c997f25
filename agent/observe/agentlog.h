/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Follows the ECS agent's log: starts in the middle (reading back far enough to know the present state), survives
 * rename, copytruncate and deletion, costs nothing while the log is quiet and little while it floods: at most 4 MiB are
 * read a second, and when more has come than that, what lies between is skipped but for the newest 4 MiB.
 */

#include <systemd/sd-event.h>

#include "agent/decide/sample.h"
#include "common/cleanup.h"

typedef struct AgentLog AgentLog;

/** What one line says. */
typedef struct AgentLogLine {
        LogLine line;
        Wall time;      /* its own time stamp; WALL_NEVER: none or unreadable */
        Span delay;     /* reconnectDelay; 0: none */
        bool info;      /* its level is info, debug or trace */
        char host[256]; /* of an ACS URL: host name of the control plane; "" if it names none */
        uint16_t port;
        bool plain; /* http:// instead of https:// */
} AgentLogLine;

/**
 * agentlog_classify() - the pure part: what one line (without its newline) says
 *
 * Judges the msg text only, in logfmt (any field order, values with spaces, Go-quoted) and JSON. Lines about the
 * telemetry connection (TCS) and everything unknown are LOG_LINE_NONE. ACS and TCS URLs are told apart by seqNum=.
 * Source: ecs-agent/acs/session/session.go, wsclient/client.go (1.83 to 1.106); recordings.
 */
void agentlog_classify(const char *line, size_t n, AgentLogLine *ret);

/**
 * agentlog_new() - follow @path (file_root() already applied, copied)
 *
 * Hands over one sample per line that is not LOG_LINE_NONE (read-back ones first, oldest first, .back set), and one with
 * LOG_LINE_NONE whenever the file's condition changes and every 10 s.
 */
int agentlog_new(AgentLog **ret, sd_event *event, const char *path, SampleHandler handler, void *userdata);
AgentLog *agentlog_free(AgentLog *log);
DEFINE_CLEANUP(AgentLog, agentlog_free)

/** agentlog_control_host() - host of the newest ACS URL; "" before one was seen. @port and @plain may be NULL. Lent. */
const char *agentlog_control_host(const AgentLog *log, uint16_t *port, bool *plain);
