/* SPDX-License-Identifier: Apache-2.0 */

/* One <member> of DescribeScalingActivities, from the bytes on: autoscaling_read_activity(). */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/act/autoscaling.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        Activity activity;

        if (xml_parse((const char *) data, n, &xml) < 0)
                return 0;
        memset(&activity, 'x', sizeof(activity));
        if (autoscaling_read_activity(xml_root(xml), &activity) < 0)
                return 0;
        /* An id is "" or looks like one, and what terminates to shrink is no removal by health. */
        if (!memchr(activity.instance_id, '\0', sizeof(activity.instance_id)) ||
                (*activity.instance_id && strncmp(activity.instance_id, "i-", 2) != 0))
                abort();
        if ((unsigned) activity.removal > REMOVAL_UNHEALTHY ||
                (activity.scaling_in && activity.removal == REMOVAL_DETACHED))
                abort();
        /* What has failed removes nobody, and nobody comes and goes at once. */
        if ((activity.failed && activity.removal != REMOVAL_NONE) || (activity.launch && activity.leaves))
                abort();
        return 0;
}
