/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The end of an instance that is out of its group. Deregistered with force, ECS replaces the tasks that DRAINING could not
 * move; stopped or terminated, it costs nothing. Before either it is read anew that we are out and that nobody
 * has switched us off; what cannot be read ends it, with nothing done.
 */

#include "agent/act/target.h"
#include "agent/decide/look.h"
#include "agent/decide/policy.h"
#include "common/aws-call.h"
#include "common/aws-imds.h"

typedef struct Ending Ending;

/** @action: the last call that was made, and @answer what it was answered; lent; "" and NULL if nothing had to be asked */
typedef void (*EndingDone)(Outcome outcome, const char *action, const AwsAnswer *answer, void *userdata);

/** What is to end, and how. Copied. */
typedef struct EndingOrder {
        const Target *target;
        const Policy *policy;
        Action action; /* by which it was removed */
} EndingOrder;

/**
 * ending_start() - after a detach: deregister, if the policy says so, then stop, terminate or neither; after `unhealthy`
 * deregister only, since the group terminates it; after `standby` nothing
 *
 * An instance that cannot be stopped (Spot, instance store) is terminated. Every step may have been taken before.
 *
 * OUTCOME_OK: everything that is wanted has happened. OUTCOME_REFUSED: we are in a group, and nothing was done.
 * OUTCOME_CONTENTION: nothing was done, for the cluster's tag has switched us off, or the group is still about to have us
 * out; or AWS has refused a step for the time being. OUTCOME_DENIED: the right to @action is missing, and what comes after it was not done.
 *
 * Return: 0; -EINVAL while cluster or instance id are not known; -ENOMEM.
 */
int ending_start(
        Aws *aws, Imds *imds, const EndingOrder *order, EndingDone done, void *userdata, Ending **ret);
Ending *ending_free(Ending *ending); /* cancels */
DEFINE_CLEANUP(Ending, ending_free)
