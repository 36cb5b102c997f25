/* SPDX-License-Identifier: Apache-2.0 */

/* Both bodies of the introspection server. */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "agent/observe/introspection.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static DifferingTasks differing; /* too large for the stack of a small program */
        char cluster[INTROSPECTION_TEXT_MAX], arn[INTROSPECTION_TEXT_MAX], version[INTROSPECTION_TEXT_MAX];
        const char *body = (const char *) data;
        int32_t running = 0, stuck = 0;
        bool registered = false;

        if (introspection_read_metadata(body, n, cluster, arn, version, &registered) == 0 &&
                (registered != (arn[0] != '\0') || strchr(cluster, '/') ||
                        !memchr(version, '\0', sizeof(version))))
                abort();

        memset(&differing, 0, sizeof(differing));
        for (int64_t minute = 1; minute <= 4; minute += 3)
                if (introspection_read_tasks(
                            body, n, &differing, (Mono){ SPAN_MIN(minute) }, &running, &stuck) == 0 &&
                        (running < 0 || stuck < 0 || differing.n > INTROSPECTION_DIFFERING_MAX ||
                                (uint32_t) stuck != (minute == 4 ? differing.n : 0)))
                        abort();
        return 0;
}
