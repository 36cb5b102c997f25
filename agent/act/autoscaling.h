/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Calls of the Auto Scaling API about ourselves, or a peer that patrol acts for: which group, remove, verify. */

#include "agent/act/target.h"
#include "agent/decide/core.h" /* Verification */
#include "common/aws-call.h"

typedef struct AutoScalingCall AutoScalingCall;

/** What the group says of an instance. */
typedef struct Membership {
        char group[256]; /* "" if in none */
        Lifecycle lifecycle;
        bool unhealthy; /* the group is about to replace it */
} Membership;

/** @is is lent, and means nothing unless @outcome is OUTCOME_OK */
typedef void (*AutoScalingFound)(
        Outcome outcome, const Membership *is, const AwsAnswer *answer, void *userdata);
typedef void (*AutoScalingRemoved)(Outcome outcome, const AwsAnswer *answer, void *userdata);
typedef void (*AutoScalingVerified)(
        const Verification *verification, const AwsAnswer *answer, void *userdata);

/** autoscaling_find() - DescribeAutoScalingInstances of @target->instance_id */
int autoscaling_find(
        Aws *aws, const Target *target, AutoScalingFound done, void *userdata, AutoScalingCall **ret);

/** autoscaling_removal() - the call that @action is: "DetachInstances"; NULL for ACTION_OBSERVE, which is none */
const char *autoscaling_removal(Action action);

/**
 * autoscaling_remove() - take @target out of @target->group by @action, desired capacity unchanged
 *
 * ACTION_DETACH: DetachInstances; ACTION_UNHEALTHY: SetInstanceHealth, without regard to the group's grace period;
 * ACTION_STANDBY: EnterStandby. Sent at most once. OUTCOME_LOST when the answer did not come; OUTCOME_REFUSED for
 * ValidationError, which is also what an instance gets that is out already: read the state to tell.
 *
 * Return: 0; -EINVAL for ACTION_OBSERVE; -ENOMEM.
 */
int autoscaling_remove(Aws *aws, const Target *target, Action action, AutoScalingRemoved done,
        void *userdata, AutoScalingCall **ret);

/**
 * autoscaling_verify() - read what has become of @target: DescribeAutoScalingInstances, and if that still says
 * InService, the activities since @since for one that tells of its removal, in whichever way
 * @since: by our own clock, as the core's record has it; corrected in here
 */
int autoscaling_verify(Aws *aws, const Target *target, Wall since, AutoScalingVerified done, void *userdata,
        AutoScalingCall **ret);

/**
 * autoscaling_read_size() - how many instances a group is meant to have: a <member> of DescribeAutoScalingGroups
 * @ret:          where its capacity counts something else, no more than there surely are
 * @ret_weighted: it does: its instances have weights, or it counts vCPU or memory
 *
 * Return: 0; -EBADMSG.
 */
int autoscaling_read_size(const XmlNode *group, uint32_t *ret, bool *ret_weighted);

/** autoscaling_is_unhealthy() - a <member> of DescribeAutoScalingInstances: the group is about to replace it */
bool autoscaling_is_unhealthy(const XmlNode *member);

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
