/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Patrol's round: which of our group's instances are disconnected, and for which of them somebody else may act. */

#include "agent/act/target.h"
#include "agent/decide/look.h"
#include "common/aws-call.h"

typedef struct SweepCall SweepCall;

/** @sweep and @answer are lent; @action: the call that @answer is of; never NULL */
typedef void (*SweepDone)(const Sweep *sweep, const char *action, const AwsAnswer *answer, void *userdata);

/**
 * sweep_start() - one read of ECS while nobody of @own's group is disconnected, else two
 * @own: ourselves, with cluster and group
 *
 * Peers are told apart by their group attribute alone, so a look at one must follow. They are listed from a random one on:
 * of many that sweep at once not all find the same. Not tried again when throttled.
 *
 * Return: 0; -EINVAL while cluster or group are not known; -ENOMEM.
 */
int sweep_start(Aws *aws, const Target *own, SweepDone done, void *userdata, SweepCall **ret);
SweepCall *sweep_call_free(SweepCall *call); /* cancels */
DEFINE_CLEANUP(SweepCall, sweep_call_free)
