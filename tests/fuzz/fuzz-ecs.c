/* SPDX-License-Identifier: Apache-2.0 */

/* One element of containerInstances, from the bytes on: ecs_read_confirmation(); and the answer that
 * tells our ARN: ecs_read_found(). */

#include <stdint.h>
#include <stdlib.h>

#include "agent/act/ecs.h"
#include "agent/decide/policy.h"
#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        _cleanup_(json_freep) cJSON *json = NULL;
        Confirmation confirmation = { .outcome = OUTCOME_LOST };
        Target target = {};
        int r;

        if (json_parse((const char *) data, n, NULL, &json) < 0)
                return 0;
        r = ecs_read_confirmation(json, &confirmation);
        /* Set on success only, to what there is; what is not claimed has neither time nor finder. */
        if (r < 0 && confirmation.outcome != OUTCOME_LOST)
                abort();
        if (r >= 0 && (confirmation.outcome != OUTCOME_OK || confirmation.action >= ACTION_N ||
                              (unsigned) confirmation.status >= CONTROL_STATUS_N))
                abort();
        if (r >= 0 && !confirmation.patrolled && confirmation.patrolled_by != 0)
                abort();
        if (ecs_read_found(json, &target) < 0 && *target.arn)
                abort();
        return 0;
}
