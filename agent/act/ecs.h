/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Calls of the ECS API about ourselves: confirm, mark, drain, undo. */

#include "agent/act/target.h"
#include "agent/decide/look.h"
#include "common/aws-call.h"

/* Names of the attributes that each agent sets on its own container instance: the shared ledger. */
#define ECS_ATTRIBUTE_ACTION "ecs-health-agent"            /* its action: "detach", "observe" */
#define ECS_ATTRIBUTE_HOLD "ecs-health-agent.hold"         /* why it would not be acted for: "paused"; absent: nothing */
/* "removing 2026-06-30T10:11:12Z"; absent: none. A space, because ECS refuses a value with a comma in it. */
#define ECS_ATTRIBUTE_INCIDENT "ecs-health-agent.incident"

typedef struct EcsCall EcsCall;
/** @confirmation and @answer are lent; @answer is the AWS answer behind it, for log lines; never NULL */
typedef void (*EcsConfirmed)(const Confirmation *confirmation, const AwsAnswer *answer, void *userdata);
typedef void (*EcsDone)(Outcome outcome, const AwsAnswer *answer, void *userdata);

/** ecs_confirm() - DescribeContainerInstances of ourselves. An unknown ARN is OUTCOME_OK with CONTROL_MISSING. */
int ecs_confirm(Aws *aws, const Target *target, EcsConfirmed done, void *userdata, EcsCall **ret);

/** ecs_describe() - set our own attributes: @action, and @hold ("": remove it). OUTCOME_OK when all is so. */
int ecs_describe(Aws *aws, const Target *target, const char *action, const char *hold, EcsDone done, void *userdata,
        EcsCall **ret);

/**
 * ecs_drain() - PutAttributes incident=removing @now; then, if @drain, UpdateContainerInstancesState DRAINING
 * @now: by the services' clock, aws_wall(): other hosts compare it with their own
 *
 * OUTCOME_OK: both have happened. Another outcome: the drain has not happened, or (OUTCOME_LOST) may have. The mark may
 * stand in every case.
 */
int ecs_drain(Aws *aws, const Target *target, bool drain, Wall now, EcsDone done, void *userdata, EcsCall **ret);

/**
 * ecs_undrain() - read our state; if it is DRAINING and carries our mark, UpdateContainerInstancesState ACTIVE; then
 * take the mark away. A DRAINING without our mark is somebody else's and is left alone.
 *
 * OUTCOME_OK: no drain and no mark of ours is left.
 */
int ecs_undrain(Aws *aws, const Target *target, EcsDone done, void *userdata, EcsCall **ret);

EcsCall *ecs_call_free(EcsCall *call); /* cancels */
DEFINE_CLEANUP(EcsCall, ecs_call_free)

/** ecs_outcome() - AWS's outcome in the core's words. @change: the call changes something, so no answer means LOST. */
Outcome ecs_outcome(const AwsAnswer *answer, bool change);
/** ecs_read_confirmation() - the pure part: one element of containerInstances. Return: 0; -EBADMSG. */
int ecs_read_confirmation(const cJSON *instance, Confirmation *ret);
/**
 * ecs_read_mark() - whether an element of containerInstances says that it is being, or has been, removed
 * @ret: since when, by the services' clock; WALL_NEVER if that cannot be read; set only if it is marked
 */
bool ecs_read_mark(const cJSON *instance, Wall *ret);
