/* SPDX-License-Identifier: Apache-2.0 */

/* Single lines of the agent's log. */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "agent/observe/agentlog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        AgentLogLine line;

        memset(&line, 0xff, sizeof(line));
        agentlog_classify((const char *) data, n, &line);
        if (line.line >= LOG_LINE_N || line.delay < 0 || !memchr(line.host, '\0', sizeof(line.host)))
                abort();
        if ((line.host[0] != '\0') != (line.port != 0) || strpbrk(line.host, "/@ \"%"))
                abort();
        return 0;
}
