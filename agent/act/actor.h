/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Carries the core's effects out, one by one, and gives each answer back as an Event with the effect's ticket. It decides
 * nothing. One effect of each kind is under way at a time; a new one cancels the old. What is done for a peer does
 * not cancel what is done for ourselves, but for looks.
 */

#include <systemd/sd-bus.h>

#include "agent/act/rights.h"
#include "agent/act/target.h"
#include "agent/decide/core.h"
#include "common/aws-call.h"
#include "common/aws-imds.h"

typedef struct Actor Actor;

/** ActorAnswered - an effect has been answered; @event is lent */
typedef void (*ActorAnswered)(const Event *event, void *userdata);
/** ActorCalled - an AWS call of the act path has ended, for log and status: what was asked and what came of it; lent */
typedef void (*ActorCalled)(const char *action, const AwsAnswer *answer, void *userdata);

/** ActorRegistered - ECS knows us, although we did not know our @arn; lent. Before the answer that has told it. */
typedef void (*ActorRegistered)(const char *arn, void *userdata);

typedef struct ActorOptions {
        Aws *aws; /* borrowed, as the next one */
        Imds *imds;
        ActorAnswered answered;
        ActorCalled called;
        ActorRegistered registered;
        void *userdata;
} ActorOptions;

int actor_new(Actor **ret, sd_event *event, const ActorOptions *options);
Actor *actor_free(Actor *actor); /* cancels everything */
DEFINE_CLEANUP(Actor, actor_free)

/** What an effect is carried out with. Lent for the length of the call. */
typedef struct ActorContext {
        const Target *target;
        const Target *peer; /* of effects with .peer: cluster, ARN, instance id and group; else NULL */
        const Policy *policy;
        const Record *record;
        sd_bus *bus;      /* NULL: none */
        const char *unit; /* to restart */
        Wall now;         /* corrected by the services' clock */
} ActorContext;

/** actor_do() - start @effect. What cannot even be started is answered from the loop like any other failure. */
int actor_do(Actor *actor, const Effect *effect, const ActorContext *context);
/** actor_refuse() - answer @effect, from the loop, as one that has certainly not happened */
int actor_refuse(Actor *actor, const Effect *effect);

/** actor_describe() - set our own attributes at ECS to these and to @target's group; tried again until it has worked */
int actor_describe(Actor *actor, const Target *target, const char *action, const char *hold);

/**
 * actor_find_group() - ask once which group we are in; @found: from the loop, "" for none; tried again until answered
 *
 * While the right is denied, @found is told what @target says, and asking goes on.
 */
int actor_find_group(Actor *actor, const Target *target,
        void (*found)(const char *group, Lifecycle lifecycle, void *userdata));

/**
 * actor_count() - ask how many there are in our cluster and group; @counted: from the loop, with what is known so far,
 * whenever that has grown; tried again until all is answered
 *
 * A group whose capacity counts something else than instances is 0, as is one that @target does not name.
 */
int actor_count(Actor *actor, const Target *target, void (*counted)(const Sizes *sizes, void *userdata));

const Rights *actor_rights(const Actor *actor);
/** actor_note() - another part has made a call: learn about our rights from it */
void actor_note(Actor *actor, const char *action, AwsOutcome outcome);
