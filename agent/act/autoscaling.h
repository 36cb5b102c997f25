/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Calls of the Auto Scaling API about ourselves: which group, detach, verify. */

#include "agent/act/target.h"
#include "agent/decide/core.h"
#include "common/aws-call.h"

typedef struct AutoScalingCall AutoScalingCall;

/** @group: "" if in none. Lent. */
typedef void (*AutoScalingFound)(
        Outcome outcome, const char *group, Lifecycle lifecycle, const AwsAnswer *answer, void *userdata);
typedef void (*AutoScalingDetached)(Outcome outcome, const AwsAnswer *answer, void *userdata);
typedef void (*AutoScalingVerified)(
        const Verification *verification, const AwsAnswer *answer, void *userdata);

/** autoscaling_find() - DescribeAutoScalingInstances of @target->instance_id */
int autoscaling_find(
        Aws *aws, const Target *target, AutoScalingFound done, void *userdata, AutoScalingCall **ret);

/**
 * autoscaling_detach() - DetachInstances of ourselves from @target->group, ShouldDecrementDesiredCapacity=false
 *
 * Sent at most once. OUTCOME_LOST when the answer did not come; OUTCOME_REFUSED for ValidationError, which is also what
 * an instance gets that is detached already: read the state to tell.
 */
int autoscaling_detach(
        Aws *aws, const Target *target, AutoScalingDetached done, void *userdata, AutoScalingCall **ret);

/**
 * autoscaling_verify() - read what has become of us: DescribeAutoScalingInstances, and if that still says InService,
 * the activities since @since for one that tells of our detachment
 * @since: by our own clock, as the core's record has it; corrected in here
 */
int autoscaling_verify(Aws *aws, const Target *target, Wall since, AutoScalingVerified done, void *userdata,
        AutoScalingCall **ret);

AutoScalingCall *autoscaling_call_free(AutoScalingCall *call); /* cancels */
DEFINE_CLEANUP(AutoScalingCall, autoscaling_call_free)

/** What an activity did to an instance. */
typedef enum Removal {
        REMOVAL_NONE, /* a launch, a scale-in, a spot interruption, ... */
        REMOVAL_DETACHED,
        REMOVAL_STANDBY,
        REMOVAL_UNHEALTHY, /* replaced in response to a health check */
} Removal;

/** One activity of a group. */
typedef struct Activity {
        char instance_id[64]; /* "" if the description names none */
        Wall start;
        Removal removal; /* REMOVAL_NONE also if it has failed */
        bool replaced;   /* a removal that leaves the desired capacity as it is: a launch follows */
        bool scaling_in; /* it terminates an instance to shrink or to rebalance the group and is not over */
        bool launch;     /* of an instance that is to be in service; not if it was cancelled */
        bool leaves;     /* the instance goes, or has gone, out of service, whatever for */
        bool over;       /* successful, failed or cancelled */
        bool failed;
} Activity;

/** autoscaling_read_activity() - the pure part: one <member> of DescribeScalingActivities. Return: 0; -EBADMSG. */
int autoscaling_read_activity(const XmlNode *member, Activity *ret);
