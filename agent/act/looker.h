/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Makes a Look: metadata service, ECS, Auto Scaling, in this order, and stops as soon as it decides. At most 3 reads of
 * ECS and 5 of Auto Scaling. One more of ECS where our ARN is not known, one where ECS refuses to filter by attributes, and
 * one where the group has lately launched an instance for a removed one and this process has not yet seen it connected.
 * Patrol's look at a peer is the one that the peer would make itself, without the metadata service.
 * Source of order and limits: the design, "Looks, ledger, turn".
 */

#include "agent/act/target.h"
#include "agent/decide/brakes.h"
#include "common/aws-call.h"
#include "common/aws-imds.h"

typedef struct Looker Looker;

/** @look is lent; @answer: of the call that failed, or NULL */
typedef void (*LookDone)(const Look *look, const AwsAnswer *answer, void *userdata);

/** looker_new() - @aws and @imds are borrowed */
int looker_new(Looker **ret, sd_event *event, Aws *aws, Imds *imds);
Looker *looker_free(Looker *looker); /* cancels */
DEFINE_CLEANUP(Looker, looker_free)

/** What to look at, and by whose eyes. Lent. */
typedef struct LookOrder {
        const Target *target; /* the one that may be acted on: ourselves, or a peer of ours */
        const Policy *policy;
        bool whole; /* read the group although share holds by the cluster's numbers, for the slow lane */
        const Target *own; /* ourselves, where @target is a peer; NULL: it is ourselves */
} LookOrder;

/**
 * looker_start() - begin one; everything of @order is copied
 *
 * A read that is throttled ends the look at once: whoever looks does so again by a pace of its own.
 * Return: 0; -EBUSY while one is under way; -EINVAL if cluster or instance id, or a peer's ARN, are not known; -ENOMEM.
 */
int looker_start(Looker *looker, const LookOrder *order, LookDone done, void *userdata);
/** looker_arn() - of the target: as given, or as the last look has found it, "" if it has not. Lent until the next look. */
const char *looker_arn(const Looker *looker);
/** looker_stop() - cancel what is under way */
void looker_stop(Looker *looker);
