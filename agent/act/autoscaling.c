/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Calls of the Auto Scaling API about ourselves or a peer. What an activity was is told by its description and its cause, which
 * are sentences for people: there is no field for it. Sentences as the service has written them since 2014.
 */

#include "agent/act/autoscaling.h"

#include <string.h>

#include "agent/act/ecs.h"
#include "common/json.h"
#include "common/parse.h"

#define SCALING_CALL_BODY_MAX 4096
#define SCALING_REASON_MAX    256

/* The core's clock and the service's may differ by what signatures tolerate. */
#define SCALING_CLOCK_SLACK SPAN_MIN(5)

struct AutoScalingCall {
        Aws *aws;
        Target target;
        AutoScalingFound found;
        AutoScalingRemoved removed;
        AutoScalingVerified verified;
        void *userdata;
        AwsCall *step;  /* the one that is under way */
        Wall since;     /* autoscaling_verify(), by the service's clock */
        bool unhealthy; /* ... and what the first read has said */
};

/* -- the pure part -------------------------------------------------------------------------------------- */

static bool is_id_hex(char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool is_id_word(char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

/** The first instance id in @text, e.g. of "Detaching EC2 instance: i-0123456789abcdef0". */
static void find_instance_id(const char *text, char ret[static 64]) {
        for (const char *p = text; (p = strstr(p, "i-")); p += 2) {
                size_t n = 2;

                while (is_id_hex(p[n]))
                        n++;
                if ((p > text && is_id_word(p[-1])) || is_id_word(p[n]) || n <= 2 || n >= 64)
                        continue;
                memcpy(ret, p, n);
                ret[n] = '\0';
                return;
        }
        ret[0] = '\0';
}

/**
 * Why an instance was terminated: what follows "out of service in response to", up to the end of that sentence. The
 * sentences before it may quote names that users gave their alarms, such as "health check".
 */
static void find_reason(const char *cause, char ret[static SCALING_REASON_MAX]) {
        static const char phrase[] = "out of service in response to";
        const char *start = strcasestr(cause, phrase), *end = NULL;
        size_t n;

        start = start ? start + strlen(phrase) : cause;
        end = strstr(start, ". ");
        n = end ? (size_t) (end - start) : strlen(start);
        if (n >= SCALING_REASON_MAX)
                n = SCALING_REASON_MAX - 1;
        memcpy(ret, start, n);
        ret[n] = '\0';
}

static bool says_any(const char *text, const char *const *words) {
        for (; *words; words++)
                if (strcasestr(text, *words))
                        return true;
        return false;
}

static Removal removal_of(const char *description, const char *reason) {
        static const char *const spot[] = { "spot", "rebalance recommendation", NULL };
        static const char *const health[] = { "health", "status check", NULL };

        if (strncasecmp(description, "Detaching", strlen("Detaching")) == 0)
                return REMOVAL_DETACHED;
        /* Not "out of Standby", which is the way back. */
        if (strcasestr(description, "to Standby"))
                return REMOVAL_STANDBY;
        if (strncasecmp(description, "Terminating", strlen("Terminating")) == 0 && !says_any(reason, spot) &&
                says_any(reason, health))
                return REMOVAL_UNHEALTHY;
        return REMOVAL_NONE;
}

static bool is_scaling_in(const char *description, const char *reason) {
        static const char *const words[] = { "desired and actual capacity", "shrinking", "balanc", NULL };

        return strncasecmp(description, "Terminating", strlen("Terminating")) == 0 &&
               says_any(reason, words) && !strcasestr(reason, "rebalance recommendation");
}

/* One that goes into a warm pool replaces nobody. */
static bool is_launch(const char *description) {
        return strncasecmp(description, "Launching", strlen("Launching")) == 0 &&
               !strcasestr(description, "into warm pool");
}

static bool is_leaving(const char *description) {
        return strncasecmp(description, "Terminating", strlen("Terminating")) == 0 ||
               strncasecmp(description, "Detaching", strlen("Detaching")) == 0 ||
               strcasestr(description, "to Standby");
}

int autoscaling_read_activity(const XmlNode *member, Activity *ret) {
        const char *description = xml_text(member, "Description"), *cause = xml_text(member, "Cause");
        const char *time = xml_text(member, "StartTime"), *status = xml_text(member, "StatusCode");
        char reason[SCALING_REASON_MAX];
        Activity activity = {};
        bool cancelled;

        if (!description || !time || parse_rfc3339(time, strlen(time), &activity.start) < 0)
                return -EBADMSG;

        cancelled = status && strcmp(status, "Cancelled") == 0;
        activity.failed = cancelled || (status && strcmp(status, "Failed") == 0);
        activity.over = activity.failed || (status && strcmp(status, "Successful") == 0);
        find_reason(cause ? cause : "", reason);

        activity.removal = activity.failed ? REMOVAL_NONE : removal_of(description, reason);
        activity.replaced = activity.removal != REMOVAL_NONE &&
                            !strcasestr(cause ? cause : "", "shrinking the capacity");
        activity.scaling_in = !activity.over && is_scaling_in(description, reason);
        activity.launch = !cancelled && is_launch(description);
        activity.leaves = !activity.failed && is_leaving(description);
        find_instance_id(description, activity.instance_id);

        *ret = activity;
        return 0;
}

/* HEALTHY in one answer and Healthy in another. */
bool autoscaling_is_unhealthy(const XmlNode *member) {
        const char *health = xml_text(member, "HealthStatus");

        return health && strcasecmp(health, "HEALTHY") != 0;
}

int autoscaling_read_size(const XmlNode *group, uint32_t *ret, bool *ret_weighted) {
        const char *capacity = xml_text(group, "DesiredCapacity");
        const char *type = xml_text(group, "DesiredCapacityType");
        const XmlNode *overrides = xml_find(group, "MixedInstancesPolicy/LaunchTemplate/Overrides");
        uint64_t size = 0, weight = 0, heaviest = 1;
        bool weighted = false;

        if (!capacity || parse_u64(capacity, &size) < 0 || size > UINT32_MAX)
                return -EBADMSG;
        xml_for_each(member, overrides, "member") {
                const char *text = xml_text(member, "WeightedCapacity");

                if (!text || !*text || strcmp(text, "1") == 0)
                        continue;
                weighted = true;
                if (parse_u64(text, &weight) < 0)
                        return -EBADMSG;
                if (weight > heaviest)
                        heaviest = weight;
        }
        /* Of vCPU or memory nothing follows for the number of instances. */
        if (type && *type && strcmp(type, "units") != 0) {
                weighted = true;
                size = 0;
        }
        *ret = (uint32_t) (size / heaviest);
        *ret_weighted = weighted;
        return 0;
}

/**
 * The answer to DescribeAutoScalingInstances about one. An empty list means that it is in no group; an answer
 * without a list means nothing, for a removal is concluded from the former.
 */
static Outcome read_membership(const AwsAnswer *answer, const char *instance_id, Membership *ret) {
        const XmlNode *list = NULL;
        Outcome outcome = ecs_outcome(answer, false);

        *ret = (Membership){};
        if (outcome != OUTCOME_OK)
                return outcome;
        list = xml_find(answer->xml, "DescribeAutoScalingInstancesResult/AutoScalingInstances");
        if (!list)
                return OUTCOME_BLIND;

        xml_for_each(member, list, "member") {
                const char *id = xml_text(member, "InstanceId"),
                           *name = xml_text(member, "AutoScalingGroupName");
                const char *state = xml_text(member, "LifecycleState");

                if (!id || !name || !state || !*name || strlen(name) >= sizeof(ret->group))
                        return OUTCOME_BLIND;
                if (strcmp(id, instance_id) != 0)
                        continue;
                memcpy(ret->group, name, strlen(name) + 1);
                ret->lifecycle = lifecycle_from_string(state);
                ret->unhealthy = autoscaling_is_unhealthy(member);
                return OUTCOME_OK;
        }
        ret->lifecycle = LIFECYCLE_NO_GROUP;
        return OUTCOME_OK;
}

/** Whether one of the activities tells of the instance's removal since @since. */
static Outcome read_removal(const AwsAnswer *answer, const char *instance_id, Wall since, bool *ret) {
        const XmlNode *list = NULL;
        Outcome outcome = ecs_outcome(answer, false);

        if (outcome != OUTCOME_OK)
                return outcome;
        list = xml_find(answer->xml, "DescribeScalingActivitiesResult/Activities");
        if (!list)
                return OUTCOME_BLIND;

        xml_for_each(member, list, "member") {
                Activity activity;

                if (autoscaling_read_activity(member, &activity) < 0)
                        return OUTCOME_BLIND;
                if (activity.removal != REMOVAL_NONE && strcmp(activity.instance_id, instance_id) == 0 &&
                        !wall_before(activity.start, since))
                        *ret = true;
        }
        return OUTCOME_OK;
}

/* -- requests ------------------------------------------------------------------------------------------- */

/** Sends @body as the next step. The answer of the step before is gone afterwards. */
static int send_query(
        AutoScalingCall *call, const char *action, bool once, JsonWriter *body, AwsDone answered) {
        AwsCall *step = NULL;
        int r;

        if (body->error < 0)
                return body->error;
        r = aws_call(call->aws,
                &(AwsRequest){ .service = AWS_AUTO_SCALING,
                        .action = action,
                        .body = body->text,
                        .n_body = body->n,
                        .once = once },
                answered, call, &step);
        if (r < 0)
                return r;

        (void) aws_call_free(call->step);
        call->step = step;
        return 0;
}

static int send_instances(AutoScalingCall *call, AwsDone answered) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, SCALING_CALL_BODY_MAX);
        aws_query_append(&body, "InstanceIds.member.1", call->target.instance_id);
        return send_query(call, "DescribeAutoScalingInstances", false, &body, answered);
}

static int send_removal(AutoScalingCall *call, Action action, AwsDone answered) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        const char *name = autoscaling_removal(action);

        if (!name)
                return -EINVAL;
        json_writer_init(&body, SCALING_CALL_BODY_MAX);
        if (action == ACTION_UNHEALTHY) {
                aws_query_append(&body, "InstanceId", call->target.instance_id);
                aws_query_append(&body, "HealthStatus", "Unhealthy");
                aws_query_append(&body, "ShouldRespectGracePeriod", "false");
        } else {
                aws_query_append(&body, "InstanceIds.member.1", call->target.instance_id);
                aws_query_append(&body, "AutoScalingGroupName", call->target.group);
                aws_query_append(&body, "ShouldDecrementDesiredCapacity", "false");
        }
        return send_query(call, name, true, &body, answered);
}

static int send_activities(AutoScalingCall *call, AwsDone answered) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        char time[FORMAT_TIME_MAX];

        json_writer_init(&body, SCALING_CALL_BODY_MAX);
        aws_query_append(&body, "AutoScalingGroupName", call->target.group);
        aws_query_append(&body, "Filters.member.1.Name", "StartTimeLowerBound");
        aws_query_append(&body, "Filters.member.1.Values.member.1", format_rfc3339(time, call->since));
        aws_query_append(&body, "MaxRecords", "100");
        return send_query(call, "DescribeScalingActivities", false, &body, answered);
}

/* -- the three calls ------------------------------------------------------------------------------------ */

static int autoscaling_call_new(AutoScalingCall **ret, Aws *aws, const Target *target, void *userdata) {
        AutoScalingCall *call = calloc(1, sizeof(*call));

        if (!call)
                return -ENOMEM;
        call->aws = aws;
        call->target = *target;
        call->userdata = userdata;
        *ret = call;
        return 0;
}

AutoScalingCall *autoscaling_call_free(AutoScalingCall *call) {
        if (!call)
                return NULL;
        (void) aws_call_free(call->step);
        free(call);
        return NULL;
}

static void find_answered(const AwsAnswer *answer, void *userdata) {
        AutoScalingCall *call = userdata;
        Membership is;
        Outcome outcome;

        outcome = read_membership(answer, call->target.instance_id, &is);
        call->found(outcome, &is, answer, call->userdata);
}

int autoscaling_find(
        Aws *aws, const Target *target, AutoScalingFound done, void *userdata, AutoScalingCall **ret) {
        _cleanup_(autoscaling_call_freep) AutoScalingCall *call = NULL;
        int r;

        r = autoscaling_call_new(&call, aws, target, userdata);
        if (r < 0)
                return r;
        call->found = done;
        r = send_instances(call, find_answered);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}

const char *autoscaling_removal(Action action) {
        switch (action) {
        case ACTION_OBSERVE: return NULL;
        case ACTION_DETACH: return "DetachInstances";
        case ACTION_UNHEALTHY: return "SetInstanceHealth";
        case ACTION_STANDBY: return "EnterStandby";
        }
        return NULL;
}

static void removal_answered(const AwsAnswer *answer, void *userdata) {
        AutoScalingCall *call = userdata;

        call->removed(ecs_outcome(answer, true), answer, call->userdata);
}

int autoscaling_remove(Aws *aws, const Target *target, Action action, AutoScalingRemoved done,
        void *userdata, AutoScalingCall **ret) {
        _cleanup_(autoscaling_call_freep) AutoScalingCall *call = NULL;
        int r;

        r = autoscaling_call_new(&call, aws, target, userdata);
        if (r < 0)
                return r;
        call->removed = done;
        r = send_removal(call, action, removal_answered);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}

static void verify_activities(const AwsAnswer *answer, void *userdata) {
        AutoScalingCall *call = userdata;
        Verification verification = { .lifecycle = LIFECYCLE_IN_SERVICE, .unhealthy = call->unhealthy };

        verification.outcome =
                read_removal(answer, call->target.instance_id, call->since, &verification.activity);
        call->verified(&verification, answer, call->userdata);
}

/** The second read could not be sent for want of memory or the like. */
static void verify_unsent(AutoScalingCall *call, int error) {
        Verification verification = { .outcome = OUTCOME_UNAVAILABLE };
        AwsAnswer answer = { .outcome = AWS_UNAVAILABLE };

        (void) snprintf(
                answer.message, sizeof(answer.message), "Could not be sent: %s", strerrordesc_np(-error));
        call->verified(&verification, &answer, call->userdata);
}

static void verify_membership(const AwsAnswer *answer, void *userdata) {
        AutoScalingCall *call = userdata;
        Verification verification = {};
        Membership is;
        int r;

        verification.outcome = read_membership(answer, call->target.instance_id, &is);
        verification.lifecycle = is.lifecycle;
        verification.unhealthy = is.unhealthy;
        if (verification.outcome != OUTCOME_OK || verification.lifecycle != LIFECYCLE_IN_SERVICE) {
                call->verified(&verification, answer, call->userdata);
                return;
        }
        /* The group's list may lag behind its activities. */
        memcpy(call->target.group, is.group, sizeof(is.group));
        call->unhealthy = is.unhealthy;
        r = send_activities(call, verify_activities);
        if (r < 0)
                verify_unsent(call, r);
}

int autoscaling_verify(Aws *aws, const Target *target, Wall since, AutoScalingVerified done, void *userdata,
        AutoScalingCall **ret) {
        _cleanup_(autoscaling_call_freep) AutoScalingCall *call = NULL;
        int r;

        r = autoscaling_call_new(&call, aws, target, userdata);
        if (r < 0)
                return r;
        call->verified = done;
        call->since = wall_add(aws_wall(aws, since), -SCALING_CLOCK_SLACK);
        r = send_instances(call, verify_membership);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}
