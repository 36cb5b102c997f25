/* SPDX-License-Identifier: Apache-2.0 */

/* One <member> of DescribeScalingActivities, from the bytes on: autoscaling_read_activity(). */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/act/autoscaling.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        Removal removal = REMOVAL_NONE;
        char id[64];
        Wall start = WALL_NEVER;
        bool scaling_in = false;

        if (xml_parse((const char *) data, n, &xml) < 0)
                return 0;
        memset(id, 'x', sizeof(id));
        if (autoscaling_read_activity(xml_root(xml), &removal, id, &start, &scaling_in) < 0)
                return 0;
        /* An id is "" or looks like one, and what terminates to shrink is no removal by health. */
        if (!memchr(id, '\0', sizeof(id)) || (*id && strncmp(id, "i-", 2) != 0))
                abort();
        if ((unsigned) removal > REMOVAL_UNHEALTHY || (scaling_in && removal == REMOVAL_DETACHED))
                abort();
        return 0;
}
