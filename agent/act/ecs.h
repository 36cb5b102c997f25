/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Calls of the ECS API about ourselves, or about a peer that patrol acts for: confirm, describe, drain, undo. */

#include "agent/act/target.h"
#include "agent/decide/look.h"
#include "common/aws-call.h"
#include "common/json.h"

/*
 * Names of the attributes that each agent sets on its own container instance: the shared ledger. Where DeleteAttributes is
 * denied, what is to go is overwritten with "none", which stands for absent.
 */
#define ECS_ATTRIBUTE_ACTION "ecs-health-agent" /* its action: "detach", "observe" */
#define ECS_ATTRIBUTE_HOLD                                                                                  \
        "ecs-health-agent.hold" /* why patrol leaves it alone: "paused", or "held TIME"; absent: it does not */
/* "removing 2026-06-30T10:11:12Z"; absent: none. A space, because ECS refuses a value with a comma in it. */
#define ECS_ATTRIBUTE_INCIDENT "ecs-health-agent.incident"
/* "removing 2026-06-30T10:11:12Z 0123456789abcdef": a patrolling peer's claim, with turn_id() of its EC2 id */
#define ECS_ATTRIBUTE_PATROL "ecs-health-agent.patrol"
/* turn_id() of the Auto Scaling group's name, 16 hex digits: a name may hold what a filter cannot */
#define ECS_ATTRIBUTE_GROUP "ecs-health-agent.group"

/** What an instance says of itself. */
typedef struct EcsWords {
        const char *action;
        const char *hold;  /* "": nothing; what was said before is taken away */
        const char *group; /* name of the Auto Scaling group; "": not known, nothing is said */
} EcsWords;

/** An AWS call that has been answered on the way. */
typedef struct EcsStep {
        const char *action; /* literal */
        AwsOutcome outcome;
} EcsStep;

#define ECS_STEPS_MAX 4

typedef struct EcsSteps {
        unsigned n;
        EcsStep at[ECS_STEPS_MAX];
} EcsSteps;

typedef struct EcsCall EcsCall;
/** @confirmation and @answer are lent; @answer is the AWS answer behind it, for log lines; never NULL */
typedef void (*EcsConfirmed)(const Confirmation *confirmation, const AwsAnswer *answer, void *userdata);
typedef void (*EcsDone)(Outcome outcome, const AwsAnswer *answer, void *userdata);

/**
 * ecs_confirm() - DescribeContainerInstances of ourselves. An unknown ARN is OUTCOME_OK with CONTROL_MISSING.
 * Not tried again when throttled: whoever confirms asks again by a pace of its own.
 *
 * With an empty ARN, which is what an instance has that never registered, ListContainerInstances by its EC2 id comes
 * first. Nothing found is OUTCOME_OK with CONTROL_MISSING; what is found is described, and handed back by ecs_call_arn().
 *
 * Return: 0; -EINVAL while the cluster is not known, or without ARN and with an instance id that is none; -ENOMEM.
 */
int ecs_confirm(Aws *aws, const Target *target, EcsConfirmed done, void *userdata, EcsCall **ret);

/** ecs_describe() - set our own attributes to @words, copied. OUTCOME_OK when all is so. @target: with ARN */
int ecs_describe(
        Aws *aws, const Target *target, const EcsWords *words, EcsDone done, void *userdata, EcsCall **ret);

/** How an instance is drained. */
typedef struct EcsDrain {
        bool drain;  /* the status too, and not the mark alone */
        Wall now;    /* by the services' clock, aws_wall(): other hosts compare it with their own */
        uint64_t by; /* 0: @target is ourselves; else it is a peer, and this is turn_id() of us */
} EcsDrain;

/**
 * ecs_drain() - PutAttributes incident=removing, or of a peer patrol=removing; then UpdateContainerInstancesState DRAINING
 *
 * OUTCOME_OK: both have happened. Another outcome: the drain has not happened, or (OUTCOME_LOST) may have. The mark may
 * stand in every case. With an empty ARN of ours there is nothing to mark or drain: OUTCOME_OK, and nothing is asked.
 *
 * Return: 0; -EINVAL for a peer without ARN; -ENOMEM.
 */
int ecs_drain(
        Aws *aws, const Target *target, const EcsDrain *how, EcsDone done, void *userdata, EcsCall **ret);

/**
 * ecs_undrain() - read the state; if it is DRAINING and carries our mark, UpdateContainerInstancesState ACTIVE; then
 * take the mark away. A DRAINING without our mark is somebody else's and is left alone.
 * @by: as in EcsDrain
 *
 * Of ourselves: the mark of our own, and a patrol's claim that is older than PATROL_CLAIM_YOUNG, for its finder is gone. A
 * younger claim is OUTCOME_CONTENTION and nothing is changed: its finder may be at work.
 * Of a peer: nothing unless the claim is ours; and with a mark of its own the drain is the peer's, so only the claim goes.
 *
 * OUTCOME_OK: no drain and no mark of ours is left; also with an empty ARN, and then nothing is asked. Of a mark that may
 * not be deleted the value is overwritten, which is as good. If that is denied too, the drain is undone all the same and
 * the mark stays: asking for ever would not help, and nothing is done any more without PutAttributes (brake rights).
 * What such a mark does until it is taken away or overwritten by the next: peers count this instance as removed at its
 * time, which lasts a day; and a DRAINING of somebody else's is taken for ours.
 */
int ecs_undrain(Aws *aws, const Target *target, uint64_t by, EcsDone done, void *userdata, EcsCall **ret);

/** ecs_call_arn() - of ourselves: as given, or as ecs_confirm() has found it, "" if it has not. Lent with @call. */
const char *ecs_call_arn(const EcsCall *call);
/** ecs_call_steps() - what has been asked and answered so far, in order */
EcsSteps ecs_call_steps(const EcsCall *call);
/** ecs_last_step() - the action of the last of them; @otherwise if there is none. A literal. */
const char *ecs_last_step(const EcsSteps *steps, const char *otherwise);

EcsCall *ecs_call_free(EcsCall *call); /* cancels */
DEFINE_CLEANUP(EcsCall, ecs_call_free)

/** ecs_outcome() - AWS's outcome in the core's words. @change: the call changes something, so no answer means LOST. */
Outcome ecs_outcome(const AwsAnswer *answer, bool change);
/** ecs_is_instance_id() - whether @text is an EC2 instance's id: no other may stand in a filter */
bool ecs_is_instance_id(const char *text);
/** ecs_write_filter() - of a ListContainerInstances for one EC2 id; an id that is none is -EINVAL in @body */
void ecs_write_filter(JsonWriter *body, const char *instance_id);
/** ecs_read_group() - turn_id() of the group that an element of containerInstances says it is in; 0: it does not say */
uint64_t ecs_read_group(const cJSON *instance);
/**
 * ecs_read_found() - the answer to that
 * @target: the ARN goes in here, if there is one
 *
 * Return: 0; -EBADMSG if it is not understood. That are two as well: which of them is us is not known.
 */
int ecs_read_found(const cJSON *json, Target *target);
/** ecs_write_cluster() - the whole body of a DescribeClusters of @cluster */
void ecs_write_cluster(JsonWriter *body, const char *cluster, bool with_tags);
/** ecs_switch_from_string() - the value of the tag ecs-health-agent, on cluster or group */
Switch ecs_switch_from_string(const char *text);
/** ecs_read_cluster_tag() - what an element of clusters is tagged with. Return: 0; -EBADMSG. */
int ecs_read_cluster_tag(const cJSON *cluster, Switch *ret);
/** ecs_read_registered() - how many instances an element of clusters has registered. Return: 0; -EBADMSG. */
int ecs_read_registered(const cJSON *cluster, uint32_t *ret);
/** ecs_read_confirmation() - the pure part: one element of containerInstances, attributes included. Return: 0; -EBADMSG. */
int ecs_read_confirmation(const cJSON *instance, Confirmation *ret);
/** ecs_is_another() - whether it belongs to another EC2 instance: whoever told us its ARN was not our agent */
bool ecs_is_another(const cJSON *instance, const Target *target);
