/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The least-privilege policy: one table of what the program asks of AWS, from which `iam-policy` writes a document for the
 * settings in force. What IAM can narrow for each action: AWS's service authorization reference, 2026.
 */

#include <stddef.h>

#include "agent/decide/policy.h"
#include "common/json.h"

/** What a permission is for; bits (1 << IamNeed) choose what goes into a policy. */
typedef enum IamNeed {
        IAM_OBSERVE, /* what it decides by, publishes, and says of itself to its peers */
        IAM_DRAIN,   /* whatever is done at last, it begins with this */
        IAM_DETACH,  /* the actions of the same names */
        IAM_UNHEALTHY,
        IAM_STANDBY,
        IAM_DEREGISTER, /* the orphan's end */
        IAM_STOP,
        IAM_TERMINATE,
        IAM_STACK,  /* metadata of the stack, where the instance's tags or identity do not lead there */
        IAM_DOCTOR, /* what only the doctor asks */
} IamNeed;
#define IAM_NEED_N (IAM_DOCTOR + 1)

/** To what IAM can limit it. */
typedef enum IamScope {
        IAM_ANY,                 /* to nothing: the action takes no resource, or all that there are */
        IAM_NAMESPACE,           /* no resource, but condition key cloudwatch:namespace */
        IAM_CLUSTER,             /* the cluster's ARN */
        IAM_CONTAINER_INSTANCES, /* container instances' ARNs, and condition key ecs:cluster */
        IAM_GROUP,               /* the Auto Scaling group's ARN */
        IAM_OWN_INSTANCE, /* EC2 instances' ARNs, and a condition that only the caller's own instance meets */
        IAM_CLOUDFORMATION, /* the stack's ARN */
} IamScope;

typedef struct IamRow {
        const char *action; /* as IAM spells it: "ecs:DescribeClusters" */
        const char *sid;    /* of the statement; the rows of one follow each other, alike in what follows */
        IamNeed need;
        IamScope scope;
} IamRow;

extern const IamRow iam_table[];
extern const size_t iam_table_n;

/** Where the policy shall hold. "" is "any", as "*" is; texts are IAM patterns, except in .name_space. */
typedef struct IamPlace {
        char partition[32]; /* "": found out from the region, else "aws" */
        char region[64];
        char account[16];
        char cluster[256 *
                     4]; /* short name; four bytes a letter that iam_escape() quotes, as the next two */
        char group[256 * 4];
        char stack[256 * 4];
        const char *name_space;
} IamPlace;

/** iam_escape() - a name as a pattern that fits it alone: '*', '?' and '$' are quoted. Return: 0; -E2BIG. */
int iam_escape(const char *name, char *buffer, size_t n_buffer);
/** iam_take_arn() - partition, region and account, as far as @place does not have them yet. Return: 0; -EBADMSG. */
int iam_take_arn(IamPlace *place, const char *arn);
/** iam_partition() - of a region's name: "aws", "aws-cn", ... */
const char *iam_partition(const char *region);
/** iam_needs() - of these settings: bits (1 << IamNeed), IAM_STACK and IAM_DOCTOR not among them */
unsigned iam_needs(const Policy *policy);
/** iam_policy_write() - the document. @needs: bits (1 << IamNeed) */
void iam_policy_write(const IamPlace *place, unsigned needs, JsonWriter *writer);
