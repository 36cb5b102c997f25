/* SPDX-License-Identifier: Apache-2.0 */

/* Patrol's round: ListContainerInstances by attribute, and a DescribeContainerInstances of what that has found. */

#include "agent/act/sweep.h"

#include <inttypes.h>
#include <string.h>

#include "agent/act/ecs.h"
#include "agent/decide/patrol.h"
#include "agent/decide/turn.h"
#include "common/json.h"
#include "common/loop.h"

#define SWEEP_PAGE_MAX 100 /* of either call */

/* A page of 100 with their attributes and resources: some 10 KB each. */
#define SWEEP_ANSWER_MAX ((size_t) 4 * 1024 * 1024)
#define SWEEP_BODY_MAX   ((size_t) 64 * 1024)

struct SweepCall {
        Aws *aws;
        Target own;
        SweepDone done;
        void *userdata;
        AwsCall *step;
        const char *action; /* of .step */
};

static void sweep_end(SweepCall *call, const Sweep *sweep, const AwsAnswer *answer) {
        call->done(sweep, call->action, answer, call->userdata);
}

static int sweep_send(SweepCall *call, const char *action, JsonWriter *body, AwsDone answered) {
        AwsCall *step = NULL;
        int r;

        json_end_object(body);
        if (body->error < 0)
                return body->error;
        r = aws_call(call->aws,
                &(AwsRequest){ .service = AWS_ECS,
                        .action = action,
                        .body = body->text,
                        .n_body = body->n,
                        .yield = true,
                        .max_answer = SWEEP_ANSWER_MAX },
                answered, call, &step);
        if (r < 0)
                return r;
        (void) aws_call_free(call->step);
        call->step = step;
        call->action = action;
        return 0;
}

static void body_begin(JsonWriter *body, const Target *own) {
        json_writer_init(body, SWEEP_BODY_MAX);
        json_begin_object(body, NULL);
        json_string(body, "cluster", own->cluster);
}

/** Return: whether it can be named and acted for. */
static bool read_peer(
        const Target *own, const cJSON *instance, const Confirmation *is, Wall now, PeerName *ret) {
        const char *arn = NULL, *id = NULL;

        if (json_get_string(instance, "containerInstanceArn", &arn) < 0 ||
                json_get_string(instance, "ec2InstanceId", &id) < 0 || !ecs_is_instance_id(id) || !*arn ||
                strlen(arn) >= sizeof(ret->arn) || strlen(id) >= sizeof(ret->instance_id) ||
                strcmp(id, own->instance_id) == 0 || !patrol_may_act(is, now))
                return false;
        *ret = (PeerName){};
        memcpy(ret->arn, arn, strlen(arn));
        memcpy(ret->instance_id, id, strlen(id));
        return true;
}

static int read_page(const Target *own, const cJSON *instances, Sweep *sweep) {
        int n = cJSON_GetArraySize(instances), first = n > 0 ? (int) (loop_random() % (uint64_t) n) : 0;
        Confirmation is;
        PeerName peer;

        for (int i = 0; i < n; i++) {
                const cJSON *instance = cJSON_GetArrayItem(instances, (first + i) % n);

                if (ecs_read_confirmation(instance, &is) < 0)
                        return -EBADMSG;
                if (is.connected)
                        continue; /* since it was listed */
                sweep->n_down++;
                if (sweep->n < SWEEP_PEERS_MAX && read_peer(own, instance, &is, sweep->server_time, &peer))
                        sweep->peers[sweep->n++] = peer;
        }
        return 0;
}

static void described(const AwsAnswer *answer, void *userdata) {
        SweepCall *call = userdata;
        Sweep sweep = { .outcome = ecs_outcome(answer, false), .server_time = answer->server_time };
        const cJSON *instances = NULL;

        if (sweep.outcome == OUTCOME_OK &&
                (json_get_array(answer->json, "containerInstances", &instances) < 0 ||
                        cJSON_GetArraySize(instances) > SWEEP_PAGE_MAX ||
                        read_page(&call->own, instances, &sweep) < 0))
                sweep = (Sweep){ .outcome = OUTCOME_BLIND };
        sweep_end(call, &sweep, answer);
}

static int send_describe(SweepCall *call, const cJSON *arns) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        const cJSON *arn = NULL;

        body_begin(&body, &call->own);
        json_begin_array(&body, "containerInstances");
        cJSON_ArrayForEach(arn, arns) {
                if (!cJSON_IsString(arn) || !*arn->valuestring)
                        return -EBADMSG;
                json_string(&body, NULL, arn->valuestring);
        }
        json_end_array(&body);
        return sweep_send(call, "DescribeContainerInstances", &body, described);
}

static void listed(const AwsAnswer *answer, void *userdata) {
        SweepCall *call = userdata;
        Sweep sweep = { .outcome = ecs_outcome(answer, false), .server_time = answer->server_time };
        const cJSON *arns = NULL;
        int r = 0;

        if (sweep.outcome == OUTCOME_OK &&
                (json_get_array(answer->json, "containerInstanceArns", &arns) < 0 ||
                        cJSON_GetArraySize(arns) > SWEEP_PAGE_MAX))
                sweep.outcome = OUTCOME_BLIND;
        if (sweep.outcome == OUTCOME_OK && cJSON_GetArraySize(arns) > 0) {
                r = send_describe(call, arns);
                if (r == 0)
                        return;
                sweep.outcome = r == -EBADMSG ? OUTCOME_BLIND : OUTCOME_UNAVAILABLE;
        }
        sweep_end(call, &sweep, answer);
}

static int send_list(SweepCall *call) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        char filter[128];

        (void) snprintf(filter, sizeof(filter),
                "agentConnected == false and attribute:" ECS_ATTRIBUTE_GROUP " == %016" PRIx64,
                turn_id(call->own.group));
        body_begin(&body, &call->own);
        json_string(&body, "filter", filter);
        json_i64(&body, "maxResults", SWEEP_PAGE_MAX);
        return sweep_send(call, "ListContainerInstances", &body, listed);
}

int sweep_start(Aws *aws, const Target *own, SweepDone done, void *userdata, SweepCall **ret) {
        _cleanup_(sweep_call_freep) SweepCall *call = NULL;
        int r;

        if (!*own->cluster || !*own->group)
                return -EINVAL;
        call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        call->aws = aws;
        call->own = *own;
        call->done = done;
        call->userdata = userdata;
        r = send_list(call);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}

SweepCall *sweep_call_free(SweepCall *call) {
        if (!call)
                return NULL;
        (void) aws_call_free(call->step);
        free(call);
        return NULL;
}
