/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The end of an orphan, each step asked for from the answer to the one before.
 *
 *   Auto Scaling       membership                          in a group ends it
 *   ECS                cluster with its tags               switched off ends it
 *   metadata service   what it was bought as               only where it may have to be stopped
 *   ECS                ourselves                           known and ours: deregister
 *   EC2                stop or terminate
 */

#include "agent/act/ending.h"

#include <string.h>

#include "agent/act/autoscaling.h"
#include "agent/act/ecs.h"
#include "agent/decide/brakes.h"
#include "common/json.h"

#define ENDING_BODY_MAX 4096

struct Ending {
        Aws *aws;
        Imds *imds;
        Target target;
        Action action;
        bool deregister;
        OrphanAction orphan;
        EndingDone done;
        void *userdata;

        AutoScalingCall *membership;
        EcsCall *confirming;
        ImdsCall *lifecycle;
        AwsCall *step;
        const char *step_action;
        sd_event_source *nothing; /* answers what needs no call */
};

static void ending_over(Ending *ending, Outcome outcome, const char *action, const AwsAnswer *answer) {
        ending->done(outcome, action, answer, ending->userdata);
}

/* -- EC2 ------------------------------------------------------------------------------------------------ */

/** The next call; if it cannot be sent, nothing of it has happened. */
static void ending_send(Ending *ending, AwsService service, const char *action, JsonWriter *body,
        AwsDone answered, const AwsAnswer *before) {
        AwsCall *step = NULL;
        int r = body->error;

        if (r >= 0)
                r = aws_call(ending->aws,
                        &(AwsRequest){ .service = service,
                                .action = action,
                                .body = body->text,
                                .n_body = body->n },
                        answered, ending, &step);
        if (r < 0) {
                ending_over(ending, OUTCOME_UNAVAILABLE, action, before);
                return;
        }
        (void) aws_call_free(ending->step);
        ending->step = step;
        ending->step_action = action;
}

/* What AWS refuses now it may allow later: a protection against termination, a state in between. */
static Outcome change_outcome(const AwsAnswer *answer) {
        Outcome outcome = ecs_outcome(answer, true);

        return outcome == OUTCOME_REFUSED ? OUTCOME_CONTENTION : outcome;
}

static void ending_changed(const AwsAnswer *answer, void *userdata) {
        Ending *ending = userdata;

        ending_over(ending, change_outcome(answer), ending->step_action, answer);
}

static void ask_instance(Ending *ending, const char *action, AwsDone answered, const AwsAnswer *before) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, ENDING_BODY_MAX);
        aws_query_append(&body, "InstanceId.1", ending->target.instance_id);
        ending_send(ending, AWS_EC2, action, &body, answered, before);
}

static void stop_answered(const AwsAnswer *answer, void *userdata) {
        if (answer->outcome == AWS_REFUSED && strcmp(answer->code, "UnsupportedOperation") == 0)
                ask_instance(userdata, "TerminateInstances", ending_changed, answer);
        else
                ending_changed(answer, userdata);
}

/** Nothing is left to do at ECS. @action: what has told so */
static void end_instance(Ending *ending, const char *action, const AwsAnswer *answer) {
        switch (ending->orphan) {
        case ORPHAN_KEEP: ending_over(ending, OUTCOME_OK, action, answer); break;
        case ORPHAN_STOP: ask_instance(ending, "StopInstances", stop_answered, answer); break;
        case ORPHAN_TERMINATE: ask_instance(ending, "TerminateInstances", ending_changed, answer); break;
        }
}

/* -- ECS ------------------------------------------------------------------------------------------------ */

static void deregistered(const AwsAnswer *answer, void *userdata) {
        if (answer->outcome == AWS_OK)
                end_instance(userdata, "DeregisterContainerInstance", answer);
        else
                ending_changed(answer, userdata);
}

static void ask_deregister(Ending *ending, const char *arn, const AwsAnswer *before) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, ENDING_BODY_MAX);
        json_begin_object(&body, NULL);
        json_string(&body, "cluster", ending->target.cluster);
        json_string(&body, "containerInstance", arn);
        json_bool(&body, "force", true);
        json_end_object(&body);
        ending_send(ending, AWS_ECS, "DeregisterContainerInstance", &body, deregistered, before);
}

static void confirmed(const Confirmation *is, const AwsAnswer *answer, void *userdata) {
        Ending *ending = userdata;
        EcsSteps steps = ecs_call_steps(ending->confirming);
        const char *read = ecs_last_step(&steps, "DescribeContainerInstances");

        if (is->outcome != OUTCOME_OK) {
                ending_over(ending, is->outcome, read, answer);
                return;
        }
        switch (is->status) {
        case CONTROL_DEREGISTERING:
        case CONTROL_INACTIVE:
        case CONTROL_MISSING: end_instance(ending, read, answer); break;
        case CONTROL_UNKNOWN:
        case CONTROL_ACTIVE:
        case CONTROL_DRAINING:
        case CONTROL_REGISTERING: ask_deregister(ending, ecs_call_arn(ending->confirming), answer); break;
        }
}

/** @answer: to the call before, @action */
static void ask_ourselves(Ending *ending, const char *action, const AwsAnswer *answer) {
        if (!ending->deregister)
                end_instance(ending, action, answer);
        else if (ecs_confirm(ending->aws, &ending->target, confirmed, ending, &ending->confirming) < 0)
                ending_over(ending, OUTCOME_UNAVAILABLE, "DescribeContainerInstances", answer);
}

/* -- the metadata service ------------------------------------------------------------------------------- */

/* A request for Spot may be of a kind that takes a stop for a pause, and starts the instance again. */
static void lifecycle_answered(const ImdsAnswer *answer, void *userdata) {
        static const AwsAnswer none = { .outcome = AWS_UNAVAILABLE,
                .message = "the metadata service did not say what the instance was bought as" };
        Ending *ending = userdata;

        if (answer->error < 0 && answer->error != -ENOENT) {
                ending_over(ending, OUTCOME_UNAVAILABLE, "instance-life-cycle", &none);
                return;
        }
        if (answer->error == 0 && strncmp(answer->text, "spot", strlen("spot")) == 0)
                ending->orphan = ORPHAN_TERMINATE;
        ask_ourselves(ending, "instance-life-cycle", NULL);
}

static void ask_lifecycle(Ending *ending, const AwsAnswer *before) {
        if (ending->orphan != ORPHAN_STOP)
                ask_ourselves(ending, "DescribeClusters", before);
        else if (imds_get(ending->imds, "/latest/meta-data/instance-life-cycle", lifecycle_answered, ending,
                         &ending->lifecycle) < 0)
                ending_over(ending, OUTCOME_UNAVAILABLE, "instance-life-cycle", before);
}

/* -- whether it may end --------------------------------------------------------------------------------- */

static void cluster_answered(const AwsAnswer *answer, void *userdata) {
        Ending *ending = userdata;
        const cJSON *clusters = NULL;
        Outcome outcome = ecs_outcome(answer, false);
        Switch tag = SWITCH_ON;

        if (outcome == OUTCOME_OK &&
                (json_get_array(answer->json, "clusters", &clusters) < 0 ||
                        ecs_read_cluster_tag(cJSON_GetArrayItem(clusters, 0), &tag) < 0))
                outcome = OUTCOME_BLIND;
        if (outcome == OUTCOME_OK && brake_switch_is_off(tag))
                outcome = OUTCOME_CONTENTION;
        if (outcome == OUTCOME_OK)
                ask_lifecycle(ending, answer);
        else
                ending_over(ending, outcome, "DescribeClusters", answer);
}

static void ask_cluster(Ending *ending, const AwsAnswer *before) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, ENDING_BODY_MAX);
        ecs_write_cluster(&body, ending->target.cluster, true);
        ending_send(ending, AWS_ECS, "DescribeClusters", &body, cluster_answered, before);
}

/** Whether we are out for good, by what the group says. OUTCOME_CONTENTION: it is about to have us out, which may take. */
static Outcome judge_membership(const Ending *ending, const Membership *is) {
        switch (is->lifecycle) {
        case LIFECYCLE_NO_GROUP:
        case LIFECYCLE_DETACHED: return OUTCOME_OK;
        case LIFECYCLE_TERMINATING:
                return ending->action == ACTION_UNHEALTHY ? OUTCOME_OK : OUTCOME_CONTENTION;
        case LIFECYCLE_DETACHING: return OUTCOME_CONTENTION;
        case LIFECYCLE_IN_SERVICE:
                return ending->action == ACTION_UNHEALTHY && is->unhealthy ? OUTCOME_CONTENTION
                                                                           : OUTCOME_REFUSED;
        case LIFECYCLE_UNKNOWN:
        case LIFECYCLE_PENDING:
        case LIFECYCLE_STANDBY:
        case LIFECYCLE_WARM:
        case LIFECYCLE_OTHER: return OUTCOME_REFUSED;
        }
        return OUTCOME_REFUSED;
}

static void membership_answered(
        Outcome outcome, const Membership *is, const AwsAnswer *answer, void *userdata) {
        Ending *ending = userdata;

        if (outcome == OUTCOME_OK)
                outcome = judge_membership(ending, is);
        if (outcome == OUTCOME_OK)
                ask_cluster(ending, answer);
        else
                ending_over(ending, outcome, "DescribeAutoScalingInstances", answer);
}

/* -- the ending ----------------------------------------------------------------------------------------- */

static int on_nothing_wanted(sd_event_source *source, void *userdata) {
        (void) source;
        ending_over(userdata, OUTCOME_OK, "", NULL);
        return 0;
}

/** What @order wants: deregistering, and what becomes of the instance. */
static void ending_plan(Ending *ending, const EndingOrder *order) {
        bool detached = order->action == ACTION_DETACH;

        ending->action = order->action;
        ending->deregister =
                order->policy->orphan_deregister && (detached || order->action == ACTION_UNHEALTHY);
        ending->orphan = detached ? (OrphanAction) order->policy->orphan : ORPHAN_KEEP;
}

int ending_start(
        Aws *aws, Imds *imds, const EndingOrder *order, EndingDone done, void *userdata, Ending **ret) {
        _cleanup_(ending_freep) Ending *ending = NULL;
        int r;

        if (!*order->target->cluster || !ecs_is_instance_id(order->target->instance_id))
                return -EINVAL;
        ending = calloc(1, sizeof(*ending));
        if (!ending)
                return -ENOMEM;
        ending->aws = aws;
        ending->imds = imds;
        ending->target = *order->target;
        ending->done = done;
        ending->userdata = userdata;
        ending_plan(ending, order);
        r = !ending->deregister && ending->orphan == ORPHAN_KEEP
                    ? sd_event_add_defer(aws_event(aws), &ending->nothing, on_nothing_wanted, ending)
                    : autoscaling_find(
                              aws, &ending->target, membership_answered, ending, &ending->membership);
        if (r < 0)
                return r;

        *ret = steal_ptr(ending);
        return 0;
}

Ending *ending_free(Ending *ending) {
        if (!ending)
                return NULL;
        (void) autoscaling_call_free(ending->membership);
        (void) ecs_call_free(ending->confirming);
        (void) imds_call_free(ending->lifecycle);
        (void) aws_call_free(ending->step);
        sd_event_source_disable_unref(ending->nothing);
        free(ending);
        return NULL;
}
