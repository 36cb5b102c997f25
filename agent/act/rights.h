/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What our role may do. Reads tell it by being used; write rights are probed with ids that cannot exist: AccessDenied
 * means no, ValidationError or MISSING means yes. Those of EC2 are tried dry on ourselves. Nothing is changed by a probe.
 */

#include "agent/act/target.h"
#include "agent/decide/look.h"
#include "agent/decide/policy.h"
#include "common/aws-call.h"

/** What a right is tried with. */
typedef struct RightQuestion {
        Right right;
        const Target *target;   /* ourselves; what is "" is not known */
        const char *name_space; /* of the metrics; NULL: not known */
        Span timeout;           /* as in AwsRequest */
        bool once;              /* as in AwsRequest */
} RightQuestion;

/**
 * right_call() - use a right without changing anything: read about ourselves, write to what cannot exist, publish nothing
 *
 * The rules of aws_call(). Return: 0; -ENOENT if it cannot be asked with so little of the target; as aws_call().
 */
int right_call(Aws *aws, const RightQuestion *question, AwsDone done, void *userdata, AwsCall **ret);
/** right_granted() - what the end of a call says about the right to make it */
Granted right_granted(AwsOutcome outcome);
AwsService right_service(Right right);
/** right_used() - whether these settings ever make the call: no other right is missed */
bool right_used(Right right, const Policy *policy);

typedef struct Prober Prober;

typedef void (*RightsChanged)(const Rights *rights, void *userdata);

/** prober_new() - @aws is borrowed; @changed is called from the loop whenever something new is known */
int prober_new(Prober **ret, Aws *aws, RightsChanged changed, void *userdata);
Prober *prober_free(Prober *prober);
DEFINE_CLEANUP(Prober, prober_free)

/** prober_start() - probe the rights to change something that these settings use; no-op while under way */
int prober_start(Prober *prober, const Target *target, const Policy *policy);
/** prober_note() - a call of @action has ended: learn from it. Unknown actions are ignored. */
void prober_note(Prober *prober, const char *action, AwsOutcome outcome);
const Rights *prober_rights(const Prober *prober);
