/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What our role may do. AWS asks IAM before it looks at what a call names, so a call about an instance that cannot exist
 * is answered AccessDenied without the right, and anything else that is final with it.
 */

#include "agent/act/rights.h"

#include <string.h>

#include "agent/act/ecs.h"
#include "common/json.h"

#define PROBE_BODY_MAX           4096
#define PROBE_CONTAINER_INSTANCE "00000000000000000000000000000000"
#define IMPOSSIBLE_ARN_MAX       640
#define PROBE_INSTANCE           "i-00000000000000000"

struct Prober {
        Aws *aws;
        RightsChanged changed;
        void *userdata;
        Rights rights;
        Target target;
        Policy policy;
        unsigned next; /* index of the probe after the one under way */
        AwsCall *call; /* the one under way, or the last one */
        bool busy;
};

/* -- harmless calls ------------------------------------------------------------------------------------- */

/**
 * An ARN of our own cluster and account that names nothing; rights are often given for these only.
 * Return: 0; -ENOENT: our own is not known; -E2BIG.
 */
static int impossible_arn(const Target *target, char buffer[static IMPOSSIBLE_ARN_MAX]) {
        const char *kind = strstr(target->arn, ":container-instance/");
        int n;

        if (!kind || !*target->cluster)
                return -ENOENT;
        n = snprintf(buffer, IMPOSSIBLE_ARN_MAX, "%.*s:container-instance/%s/" PROBE_CONTAINER_INSTANCE,
                (int) (kind - target->arn), target->arn, target->cluster);
        return n < 0 || n >= IMPOSSIBLE_ARN_MAX ? -E2BIG : 0;
}

/** Begins a body about the cluster, which is to go on with that ARN. Return: as impossible_arn(). */
static int begin_impossible(const Target *target, JsonWriter *body, char arn[static IMPOSSIBLE_ARN_MAX]) {
        int r = impossible_arn(target, arn);

        if (r < 0)
                return r;
        json_begin_object(body, NULL);
        json_string(body, "cluster", target->cluster);
        return 0;
}

static int state_body(const RightQuestion *question, JsonWriter *body) {
        char arn[IMPOSSIBLE_ARN_MAX];
        int r;

        r = begin_impossible(question->target, body, arn);
        if (r < 0)
                return r;
        json_begin_array(body, "containerInstances");
        json_string(body, NULL, arn);
        json_end_array(body);
        json_string(body, "status", "ACTIVE");
        json_end_object(body);
        return body->error;
}

/** @value NULL: to delete it */
static int attribute_body(const RightQuestion *question, const char *value, JsonWriter *body) {
        char arn[IMPOSSIBLE_ARN_MAX];
        int r;

        r = begin_impossible(question->target, body, arn);
        if (r < 0)
                return r;
        json_begin_array(body, "attributes");
        json_begin_object(body, NULL);
        json_string(body, "name", ECS_ATTRIBUTE_ACTION);
        if (value)
                json_string(body, "value", value);
        json_string(body, "targetType", "container-instance");
        json_string(body, "targetId", arn);
        json_end_object(body);
        json_end_array(body);
        json_end_object(body);
        return body->error;
}

static int put_body(const RightQuestion *question, JsonWriter *body) {
        return attribute_body(question, "observe", body);
}

static int delete_body(const RightQuestion *question, JsonWriter *body) {
        return attribute_body(question, NULL, body);
}

static int deregister_body(const RightQuestion *question, JsonWriter *body) {
        char arn[IMPOSSIBLE_ARN_MAX];
        int r;

        r = begin_impossible(question->target, body, arn);
        if (r < 0)
                return r;
        json_string(body, "containerInstance", arn);
        json_bool(body, "force", true);
        json_end_object(body);
        return body->error;
}

/* EC2's own way to ask. It comes before IAM that an instance must exist, so it is about ourselves. */
static int dry_body(const RightQuestion *question, JsonWriter *body) {
        if (!*question->target->instance_id)
                return -ENOENT;
        aws_query_append(body, "DryRun", "true");
        aws_query_append(body, "InstanceId.1", question->target->instance_id);
        return body->error;
}

/* Healthy, should there be one of that name after all. */
static int health_body(const RightQuestion *question, JsonWriter *body) {
        if (!*question->target->group)
                return -ENOENT;
        aws_query_append(body, "InstanceId", PROBE_INSTANCE);
        aws_query_append(body, "HealthStatus", "Healthy");
        return body->error;
}

/* EnterStandby takes the same. */
static int detach_body(const RightQuestion *question, JsonWriter *body) {
        if (!*question->target->group)
                return -ENOENT;
        aws_query_append(body, "InstanceIds.member.1", PROBE_INSTANCE);
        aws_query_append(body, "AutoScalingGroupName", question->target->group);
        aws_query_append(body, "ShouldDecrementDesiredCapacity", "false");
        return body->error;
}

/* Reads are about ourselves: what a policy allows beyond that is not our concern. */

static int describe_body(const RightQuestion *question, JsonWriter *body) {
        const Target *target = question->target;

        if (!*target->cluster)
                return -ENOENT;
        json_begin_object(body, NULL);
        json_string(body, "cluster", target->cluster);
        json_begin_array(body, "containerInstances");
        json_string(body, NULL, *target->arn ? target->arn : PROBE_CONTAINER_INSTANCE);
        json_end_array(body);
        json_end_object(body);
        return body->error;
}

static int list_body(const RightQuestion *question, JsonWriter *body) {
        if (!*question->target->cluster)
                return -ENOENT;
        json_begin_object(body, NULL);
        json_string(body, "cluster", question->target->cluster);
        json_i64(body, "maxResults", 1);
        json_end_object(body);
        return body->error;
}

static int clusters_body(const RightQuestion *question, JsonWriter *body) {
        if (!*question->target->cluster)
                return -ENOENT;
        json_begin_object(body, NULL);
        json_begin_array(body, "clusters");
        json_string(body, NULL, question->target->cluster);
        json_end_array(body);
        json_end_object(body);
        return body->error;
}

static int members_body(const RightQuestion *question, JsonWriter *body) {
        if (!*question->target->instance_id)
                return -ENOENT;
        aws_query_append(body, "InstanceIds.member.1", question->target->instance_id);
        return body->error;
}

static int groups_body(const RightQuestion *question, JsonWriter *body) {
        if (!*question->target->group)
                return -ENOENT;
        aws_query_append(body, "AutoScalingGroupNames.member.1", question->target->group);
        aws_query_append(body, "IncludeInstances", "false");
        return body->error;
}

static int one_of_group_body(const RightQuestion *question, JsonWriter *body) {
        if (!*question->target->group)
                return -ENOENT;
        aws_query_append(body, "AutoScalingGroupName", question->target->group);
        aws_query_append(body, "MaxRecords", "1");
        return body->error;
}

/* No data: refused as a bad request by whoever may publish, and nothing is published. */
static int metrics_body(const RightQuestion *question, JsonWriter *body) {
        if (!question->name_space)
                return -ENOENT;
        json_begin_object(body, NULL);
        json_string(body, "Namespace", question->name_space);
        json_begin_array(body, "MetricData");
        json_end_array(body);
        json_end_object(body);
        return body->error;
}

/* clang-format off */
static const struct {
        AwsService service;
        const char *action;
        int (*body)(const RightQuestion *question, JsonWriter *body); /* -ENOENT: cannot be asked yet */
} right_calls[RIGHT_N] = {
        [RIGHT_ECS_DESCRIBE_CONTAINER_INSTANCES] = { AWS_ECS, "DescribeContainerInstances", describe_body },
        [RIGHT_ECS_LIST_CONTAINER_INSTANCES] = { AWS_ECS, "ListContainerInstances", list_body },
        [RIGHT_ECS_DESCRIBE_CLUSTERS] = { AWS_ECS, "DescribeClusters", clusters_body },
        [RIGHT_ASG_DESCRIBE_INSTANCES] = { AWS_AUTO_SCALING, "DescribeAutoScalingInstances", members_body },
        [RIGHT_ASG_DESCRIBE_GROUPS] = { AWS_AUTO_SCALING, "DescribeAutoScalingGroups", groups_body },
        [RIGHT_ASG_DESCRIBE_ACTIVITIES] = { AWS_AUTO_SCALING, "DescribeScalingActivities", one_of_group_body },
        [RIGHT_ASG_DESCRIBE_REFRESHES] = { AWS_AUTO_SCALING, "DescribeInstanceRefreshes", one_of_group_body },
        [RIGHT_ECS_UPDATE_STATE] = { AWS_ECS, "UpdateContainerInstancesState", state_body },
        [RIGHT_ECS_PUT_ATTRIBUTES] = { AWS_ECS, "PutAttributes", put_body },
        [RIGHT_ECS_DELETE_ATTRIBUTES] = { AWS_ECS, "DeleteAttributes", delete_body },
        [RIGHT_ASG_DETACH] = { AWS_AUTO_SCALING, "DetachInstances", detach_body },
        [RIGHT_ASG_SET_HEALTH] = { AWS_AUTO_SCALING, "SetInstanceHealth", health_body },
        [RIGHT_ASG_ENTER_STANDBY] = { AWS_AUTO_SCALING, "EnterStandby", detach_body },
        [RIGHT_ECS_DEREGISTER] = { AWS_ECS, "DeregisterContainerInstance", deregister_body },
        [RIGHT_EC2_STOP] = { AWS_EC2, "StopInstances", dry_body },
        [RIGHT_EC2_TERMINATE] = { AWS_EC2, "TerminateInstances", dry_body },
        [RIGHT_CLOUDWATCH_PUT] = { AWS_CLOUDWATCH, "PutMetricData", metrics_body },
};
/* clang-format on */

AwsService right_service(Right right) {
        return right_calls[right].service;
}

bool right_used(Right right, const Policy *policy) {
        bool acts = policy->action != ACTION_OBSERVE && !policy->external;
        bool detaches = acts && policy->action == ACTION_DETACH;
        bool terminates = acts && policy->action == ACTION_UNHEALTHY;

        switch (right) {
        case RIGHT_ECS_UPDATE_STATE: return acts;
        case RIGHT_ASG_DETACH: return detaches;
        case RIGHT_ASG_SET_HEALTH: return terminates;
        case RIGHT_ASG_ENTER_STANDBY: return acts && policy->action == ACTION_STANDBY;
        case RIGHT_ECS_DEREGISTER: return (detaches || terminates) && policy->orphan_deregister;
        case RIGHT_EC2_STOP: return detaches && policy->orphan == ORPHAN_STOP;
        case RIGHT_EC2_TERMINATE: return detaches && policy->orphan == ORPHAN_TERMINATE;
        case RIGHT_ECS_DESCRIBE_CONTAINER_INSTANCES:
        case RIGHT_ECS_LIST_CONTAINER_INSTANCES:
        case RIGHT_ECS_DESCRIBE_CLUSTERS:
        case RIGHT_ASG_DESCRIBE_INSTANCES:
        case RIGHT_ASG_DESCRIBE_GROUPS:
        case RIGHT_ASG_DESCRIBE_ACTIVITIES:
        case RIGHT_ASG_DESCRIBE_REFRESHES:
        case RIGHT_ECS_PUT_ATTRIBUTES:
        case RIGHT_ECS_DELETE_ATTRIBUTES:
        case RIGHT_CLOUDWATCH_PUT: return true;
        }
        return true;
}

int right_call(Aws *aws, const RightQuestion *question, AwsDone done, void *userdata, AwsCall **ret) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        int r;

        json_writer_init(&body, PROBE_BODY_MAX);
        r = right_calls[question->right].body(question, &body);
        if (r < 0)
                return r;
        return aws_call(aws,
                &(AwsRequest){ .service = right_calls[question->right].service,
                        .action = right_calls[question->right].action,
                        .body = body.text,
                        .n_body = body.n,
                        .timeout = question->timeout,
                        .once = question->once },
                done, userdata, ret);
}

/* -- learning ------------------------------------------------------------------------------------------- */

Granted right_granted(AwsOutcome outcome) {
        switch (outcome) {
        case AWS_OK:
        case AWS_GARBLED:
        case AWS_REFUSED:
        case AWS_CONTENTION: return GRANTED_YES;
        case AWS_DENIED: return GRANTED_NO;
        case AWS_THROTTLED:
        case AWS_UNAVAILABLE:
        case AWS_BAD_KEYS:
        case AWS_NO_KEYS: return GRANTED_UNKNOWN;
        }
        return GRANTED_UNKNOWN;
}

/** Return: whether something new is known. What says nothing takes nothing back. */
static bool rights_learn(Prober *prober, const char *action, AwsOutcome outcome) {
        Granted granted = right_granted(outcome);

        for (Right right = 0; right < RIGHT_N; right++) {
                if (strcmp(right_calls[right].action, action) != 0)
                        continue;
                if (granted == GRANTED_UNKNOWN || prober->rights.granted[right] == granted)
                        return false;
                prober->rights.granted[right] = (uint8_t) granted;
                return true;
        }
        return false;
}

void prober_note(Prober *prober, const char *action, AwsOutcome outcome) {
        if (rights_learn(prober, action, outcome))
                prober->changed(&prober->rights, prober->userdata);
}

const Rights *prober_rights(const Prober *prober) {
        return &prober->rights;
}

/* -- probing -------------------------------------------------------------------------------------------- */

/* The daemon's reads tell of their rights by being used; these would be tried only when it is too late. */
static const Right probes[] = { RIGHT_ECS_UPDATE_STATE, RIGHT_ECS_PUT_ATTRIBUTES,
        RIGHT_ECS_DELETE_ATTRIBUTES, RIGHT_ASG_DETACH, RIGHT_ASG_SET_HEALTH, RIGHT_ASG_ENTER_STANDBY,
        RIGHT_ECS_DEREGISTER, RIGHT_EC2_STOP, RIGHT_EC2_TERMINATE };

static void probe_answered(const AwsAnswer *answer, void *userdata);

static int probe_send(Prober *prober, Right right) {
        const RightQuestion question = { .right = right, .target = &prober->target };
        AwsCall *call = NULL;
        int r;

        r = right_call(prober->aws, &question, probe_answered, prober, &call);
        if (r < 0)
                return r;

        (void) aws_call_free(prober->call);
        prober->call = call;
        return 0;
}

/** Sends the next probe that can be sent. Return: 0; what the last one that failed said, -ENOENT apart. */
static int probe_next(Prober *prober) {
        int r, error = 0;

        while (prober->next < ELEMENTSOF(probes)) {
                Right right = probes[prober->next++];

                if (!right_used(right, &prober->policy))
                        continue;
                r = probe_send(prober, right);
                if (r >= 0)
                        return 0;
                if (r != -ENOENT)
                        error = r;
        }
        prober->busy = false;
        return error;
}

static void probe_answered(const AwsAnswer *answer, void *userdata) {
        Prober *prober = userdata;
        bool news;

        /* The last word goes to the callback, which may free us; the next probe frees the answer. */
        news = rights_learn(prober, right_calls[probes[prober->next - 1]].action, answer->outcome);
        (void) probe_next(prober); /* what cannot be sent stays unknown */
        if (news)
                prober->changed(&prober->rights, prober->userdata);
}

int prober_start(Prober *prober, const Target *target, const Policy *policy) {
        prober->target = *target; /* also for those that are still to come: the group may be news */
        prober->policy = *policy;
        if (prober->busy)
                return 0;
        prober->next = 0;
        prober->busy = true;
        return probe_next(prober);
}

int prober_new(Prober **ret, Aws *aws, RightsChanged changed, void *userdata) {
        Prober *prober = calloc(1, sizeof(*prober));

        if (!prober)
                return -ENOMEM;
        prober->aws = aws;
        prober->changed = changed;
        prober->userdata = userdata;

        *ret = prober;
        return 0;
}

Prober *prober_free(Prober *prober) {
        if (!prober)
                return NULL;
        (void) aws_call_free(prober->call);
        free(prober);
        return NULL;
}
