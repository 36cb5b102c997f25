/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What our role may do. Reads tell it by being used; write rights are probed with ids that cannot exist: AccessDenied
 * means no, ValidationError or MISSING means yes. Nothing is changed by a probe.
 */

#include "agent/act/target.h"
#include "agent/decide/look.h"
#include "common/aws-call.h"

typedef struct Prober Prober;

typedef void (*RightsChanged)(const Rights *rights, void *userdata);

/** prober_new() - @aws is borrowed; @changed is called from the loop whenever something new is known */
int prober_new(Prober **ret, Aws *aws, RightsChanged changed, void *userdata);
Prober *prober_free(Prober *prober);
DEFINE_CLEANUP(Prober, prober_free)

/** prober_start() - probe UpdateContainerInstancesState, Put- and DeleteAttributes, DetachInstances; no-op while under way */
int prober_start(Prober *prober, const Target *target);
/** prober_note() - a call of @action has ended: learn from it. Unknown actions are ignored. */
void prober_note(Prober *prober, const char *action, AwsOutcome outcome);
const Rights *prober_rights(const Prober *prober);
