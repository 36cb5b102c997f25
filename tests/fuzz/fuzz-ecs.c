/* SPDX-License-Identifier: Apache-2.0 */

/* One element of containerInstances, from the bytes on: ecs_read_confirmation() and ecs_read_mark(); and the answer that
 * tells our ARN: ecs_read_found(). */

#include <stdint.h>
#include <stdlib.h>

#include "agent/act/ecs.h"
#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        _cleanup_(json_freep) cJSON *json = NULL;
        Confirmation confirmation = { .outcome = OUTCOME_LOST };
        Target target = {};
        Wall since = WALL_NEVER;
        bool marked;
        int r;

        if (json_parse((const char *) data, n, NULL, &json) < 0)
                return 0;
        marked = ecs_read_mark(json, &since);
        r = ecs_read_confirmation(json, &confirmation);
        /* Set on success only, and the two agree. */
        if (r < 0 && confirmation.outcome != OUTCOME_LOST)
                abort();
        if (r >= 0 && (confirmation.outcome != OUTCOME_OK || confirmation.marked != marked ||
                              (unsigned) confirmation.status >= CONTROL_STATUS_N))
                abort();
        if (ecs_read_found(json, &target) < 0 && *target.arn)
                abort();
        return 0;
}
