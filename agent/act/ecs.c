/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Calls of the ECS API about ourselves or a peer. Each is a short chain of AWS calls; every change in it is idempotent, so the AWS
 * layer may repeat it, and so may the core after a crash.
 */

#include "agent/act/ecs.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "agent/decide/patrol.h"
#include "agent/decide/policy.h"
#include "agent/decide/turn.h"
#include "common/parse.h"

#define ECS_CALL_BODY_MAX 8192
#define ECS_MARK          "removing"
#define ECS_NONE          "none"
#define ECS_HELD          "held"
#define ECS_ID_MAX        17 /* turn_id() in 16 hex digits, and NUL */
#define ECS_WORDS_MAX     3  /* attributes that are put or deleted together */

/* Tags, resources and attributes of one instance are some 10 KB; an answer of the default maximum is no use to us. */
#define ECS_CALL_ANSWER_MAX ((size_t) 256 * 1024)

struct EcsCall {
        Aws *aws;
        Target target;
        EcsConfirmed confirmed;
        EcsDone done;
        void *userdata;
        AwsCall *step;           /* the one that is under way */
        AwsDone answered;        /* what goes on from its answer */
        EcsSteps steps;          /* it comes last */
        bool drain;              /* ecs_drain(): the status too */
        bool yield;              /* as in AwsRequest */
        uint64_t by;             /* ecs_undrain(): as there */
        bool once;               /* as in AwsRequest */
        const char *clearing[2]; /* attributes that are being taken away */
        unsigned n_clearing;
        sd_event_source *nothing; /* answers what needs no call */
};

/* -- the pure part -------------------------------------------------------------------------------------- */

Outcome ecs_outcome(const AwsAnswer *answer, bool change) {
        switch (answer->outcome) {
        case AWS_OK: return OUTCOME_OK;
        case AWS_THROTTLED: return OUTCOME_THROTTLED;
        case AWS_UNAVAILABLE: return change && answer->sent ? OUTCOME_LOST : OUTCOME_UNAVAILABLE;
        case AWS_CONTENTION: return OUTCOME_CONTENTION;
        case AWS_DENIED: return OUTCOME_DENIED;
        case AWS_BAD_KEYS:
        case AWS_NO_KEYS: return OUTCOME_KEYS;
        case AWS_REFUSED: return OUTCOME_REFUSED;
        /* 2xx, so it has happened; unless it was a proxy's page. */
        case AWS_GARBLED: return change ? OUTCOME_LOST : OUTCOME_BLIND;
        }
        return OUTCOME_BLIND;
}

static ControlStatus control_status_from_string(const char *text) {
        static const struct {
                const char *text;
                ControlStatus status;
        } names[] = {
                { "ACTIVE", CONTROL_ACTIVE },
                { "DRAINING", CONTROL_DRAINING },
                { "REGISTERING", CONTROL_REGISTERING },
                { "DEREGISTERING", CONTROL_DEREGISTERING },
                { "INACTIVE", CONTROL_INACTIVE },
                { "REGISTRATION_FAILED", CONTROL_INACTIVE },
        };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(text, names[i].text) == 0)
                        return names[i].status;
        return CONTROL_UNKNOWN;
}

static bool ecs_is_updating(const char *status) {
        static const char *const names[] = { "PENDING", "STAGING", "STAGED", "UPDATING" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(status, names[i]) == 0)
                        return true;
        return false;
}

/** The hex digits of turn_id(). Return: 0 if that is not what @text is. */
static uint64_t read_id(const char *text) {
        uint64_t id = 0;

        if (strlen(text) != ECS_ID_MAX - 1 || strspn(text, "0123456789abcdef") != ECS_ID_MAX - 1)
                return 0;
        return sscanf(text, "%" SCNx64, &id) == 1 ? id : 0;
}

/**
 * "removing TIME" or "removing TIME ID". A time that cannot be read is WALL_NEVER, an id 0.
 * Return: whether it says "removing" at all.
 */
static bool read_claim(const char *value, Wall *at, uint64_t *by) {
        size_t n;

        *at = WALL_NEVER;
        *by = 0;
        if (strncmp(value, ECS_MARK, strlen(ECS_MARK)) != 0)
                return false;
        value += strlen(ECS_MARK);
        /* One character sets the time apart, whichever it is. */
        value += *value != '\0';
        n = strcspn(value, " ");
        if (parse_rfc3339(value, n, at) < 0)
                *at = WALL_NEVER;
        if (value[n])
                *by = read_id(value + n + 1);
        return true;
}

/* Any reason holds for good; "held TIME" is said by a daemon that lives, and says it again and again. */
static bool read_hold(const char *value, Wall *at) {
        size_t n = strlen(ECS_HELD);

        *at = WALL_NEVER;
        if (strncmp(value, ECS_HELD, n) == 0 && value[n] &&
                parse_rfc3339(value + n + 1, strlen(value + n + 1), at) < 0)
                *at = WALL_NEVER;
        return *value && strcmp(value, ECS_NONE) != 0;
}

/* What we have no name for is not ours to act by. */
static Action action_from_string(const char *text) {
        for (Action action = 0; action < ACTION_N; action++)
                if (strcmp(text, action_to_string(action)) == 0)
                        return action;
        return ACTION_OBSERVE;
}

static void read_attributes(const cJSON *instance, Confirmation *confirmation) {
        const cJSON *attributes = NULL, *attribute = NULL;
        const char *name = NULL, *value = NULL;
        uint64_t nobody = 0;

        if (json_get_array(instance, "attributes", &attributes) < 0)
                return;
        cJSON_ArrayForEach(attribute, attributes) {
                if (json_get_string(attribute, "name", &name) < 0 ||
                        json_get_string(attribute, "value", &value) < 0)
                        continue;
                if (strcmp(name, ECS_ATTRIBUTE_ACTION) == 0)
                        confirmation->action = action_from_string(value);
                else if (strcmp(name, ECS_ATTRIBUTE_HOLD) == 0)
                        confirmation->held = read_hold(value, &confirmation->held_at);
                else if (strcmp(name, ECS_ATTRIBUTE_INCIDENT) == 0)
                        confirmation->marked = read_claim(value, &confirmation->marked_at, &nobody);
                else if (strcmp(name, ECS_ATTRIBUTE_PATROL) == 0)
                        confirmation->patrolled =
                                read_claim(value, &confirmation->patrolled_at, &confirmation->patrolled_by);
        }
}

uint64_t ecs_read_group(const cJSON *instance) {
        const cJSON *attributes = NULL, *attribute = NULL;
        const char *name = NULL, *value = NULL;

        if (json_get_array(instance, "attributes", &attributes) < 0)
                return 0;
        cJSON_ArrayForEach(attribute, attributes) {
                if (json_get_string(attribute, "name", &name) >= 0 &&
                        strcmp(name, ECS_ATTRIBUTE_GROUP) == 0 &&
                        json_get_string(attribute, "value", &value) >= 0)
                        return read_id(value);
        }
        return 0;
}

Switch ecs_switch_from_string(const char *text) {
        if (strcmp(text, "on") == 0)
                return SWITCH_ON;
        if (strcmp(text, "resume") == 0)
                return SWITCH_RESUME;
        return strcmp(text, "off") == 0 ? SWITCH_OFF : SWITCH_NOT_UNDERSTOOD;
}

int ecs_read_cluster_tag(const cJSON *cluster, Switch *ret) {
        const cJSON *tags = NULL, *tag = NULL;
        const char *key = NULL, *value = NULL;
        Switch is = SWITCH_ON;
        int r;

        if (!cJSON_IsObject(cluster))
                return -EBADMSG;
        r = json_get_array(cluster, "tags", &tags);
        if (r < 0 && r != -ENOENT)
                return -EBADMSG;
        cJSON_ArrayForEach(tag, tags) {
                if (json_get_string(tag, "key", &key) < 0 || strcmp(key, "ecs-health-agent") != 0)
                        continue;
                r = json_get_string(tag, "value", &value);
                is = ecs_switch_from_string(r < 0 ? "" : value);
        }
        *ret = is;
        return 0;
}

int ecs_read_registered(const cJSON *cluster, uint32_t *ret) {
        int64_t registered = 0;

        if (json_get_i64(cluster, "registeredContainerInstancesCount", &registered) < 0 || registered < 0 ||
                registered > UINT32_MAX)
                return -EBADMSG;
        *ret = (uint32_t) registered;
        return 0;
}

void ecs_write_cluster(JsonWriter *body, const char *cluster, bool with_tags) {
        json_begin_object(body, NULL);
        json_begin_array(body, "clusters");
        json_string(body, NULL, cluster);
        json_end_array(body);
        if (with_tags) {
                json_begin_array(body, "include");
                json_string(body, NULL, "TAGS");
                json_end_array(body);
        }
        json_end_object(body);
}

bool ecs_is_instance_id(const char *text) {
        size_t n = strspn(text, "i-0123456789abcdef");

        return strncmp(text, "i-", 2) == 0 && text[2] && !text[n] &&
               n < sizeof(((Target *) NULL)->instance_id);
}

void ecs_write_filter(JsonWriter *body, const char *instance_id) {
        char filter[128];

        if (!ecs_is_instance_id(instance_id)) {
                body->error = -EINVAL;
                return;
        }
        (void) snprintf(filter, sizeof(filter), "ec2InstanceId=='%s'", instance_id);
        json_string(body, "filter", filter);
}

int ecs_read_found(const cJSON *json, Target *target) {
        const cJSON *arns = NULL, *arn = NULL;
        const char *token = NULL;

        if (json_get_array(json, "containerInstanceArns", &arns) < 0 || cJSON_GetArraySize(arns) > 1 ||
                (json_get_string(json, "nextToken", &token) >= 0 && *token))
                return -EBADMSG;
        arn = cJSON_GetArrayItem(arns, 0);
        if (!arn)
                return 0;
        if (!cJSON_IsString(arn) || !*arn->valuestring || strlen(arn->valuestring) >= sizeof(target->arn))
                return -EBADMSG;
        (void) snprintf(target->arn, sizeof(target->arn), "%s", arn->valuestring);
        return 0;
}

int ecs_read_confirmation(const cJSON *instance, Confirmation *ret) {
        Confirmation confirmation = { .outcome = OUTCOME_OK };
        const char *text = NULL;
        int r;

        if (json_get_bool(instance, "agentConnected", &confirmation.connected) < 0)
                return -EBADMSG;
        r = json_get_string(instance, "status", &text);
        if (r < 0 && r != -ENOENT)
                return -EBADMSG;
        if (r >= 0)
                confirmation.status = control_status_from_string(text);
        r = json_get_string(instance, "agentUpdateStatus", &text);
        if (r < 0 && r != -ENOENT)
                return -EBADMSG;
        if (r >= 0)
                confirmation.updating = ecs_is_updating(text);
        read_attributes(instance, &confirmation);

        *ret = confirmation;
        return 0;
}

/** Without an instance in the answer: whether ECS says that it knows none, or says nothing that we understand. */
static Outcome read_failures(const cJSON *json, Confirmation *confirmation) {
        const cJSON *failures = NULL;
        const char *reason = NULL;

        if (json_get_array(json, "failures", &failures) < 0 ||
                json_get_string(cJSON_GetArrayItem(failures, 0), "reason", &reason) < 0 ||
                strcmp(reason, "MISSING") != 0)
                return OUTCOME_BLIND;
        confirmation->status = CONTROL_MISSING;
        return OUTCOME_OK;
}

bool ecs_is_another(const cJSON *instance, const Target *target) {
        const char *id = NULL;

        return json_get_string(instance, "ec2InstanceId", &id) >= 0 && strcmp(id, target->instance_id) != 0;
}

/** The answer to a DescribeContainerInstances of one. */
static void read_described(const AwsAnswer *answer, const Target *target, Confirmation *ret) {
        Confirmation confirmation = { .outcome = ecs_outcome(answer, false) };
        const cJSON *instances = NULL;

        if (confirmation.outcome == OUTCOME_OK) {
                if (json_get_array(answer->json, "containerInstances", &instances) < 0 ||
                        cJSON_GetArraySize(instances) == 0)
                        confirmation.outcome = read_failures(answer->json, &confirmation);
                else if (ecs_read_confirmation(cJSON_GetArrayItem(instances, 0), &confirmation) < 0 ||
                         ecs_is_another(cJSON_GetArrayItem(instances, 0), target))
                        confirmation.outcome = OUTCOME_BLIND;
        }
        confirmation.server_time = answer->server_time;
        *ret = confirmation;
}

/** UpdateContainerInstancesState answers 200 and lists what it has not done. */
static Outcome read_updated(const AwsAnswer *answer) {
        const cJSON *failures = NULL;
        Outcome outcome = ecs_outcome(answer, true);

        if (outcome == OUTCOME_OK && json_get_array(answer->json, "failures", &failures) >= 0 &&
                cJSON_GetArraySize(failures) > 0)
                return OUTCOME_REFUSED;
        return outcome;
}

/* -- requests ------------------------------------------------------------------------------------------- */

static void body_begin(JsonWriter *body, const Target *target) {
        json_writer_init(body, ECS_CALL_BODY_MAX);
        json_begin_object(body, NULL);
        json_string(body, "cluster", target->cluster);
}

static void body_instance(JsonWriter *body, const Target *target) {
        json_begin_array(body, "containerInstances");
        json_string(body, NULL, target->arn);
        json_end_array(body);
}

/** @value NULL: the attribute's name only, to delete it */
static void body_attribute(JsonWriter *body, const Target *target, const char *name, const char *value) {
        json_begin_object(body, NULL);
        json_string(body, "name", name);
        if (value)
                json_string(body, "value", value);
        json_string(body, "targetType", "container-instance");
        json_string(body, "targetId", target->arn);
        json_end_object(body);
}

static void step_answered(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;

        call->steps.at[call->steps.n - 1].outcome = answer->outcome;
        call->answered(answer, call);
}

/** Ends @body and sends it as the next step. The answer of the step before is gone afterwards. */
static int ecs_send(EcsCall *call, const char *action, JsonWriter *body, AwsDone answered) {
        AwsCall *step = NULL;
        int r;

        json_end_object(body);
        if (body->error < 0)
                return body->error;
        assert(call->steps.n < ECS_STEPS_MAX);
        r = aws_call(call->aws,
                &(AwsRequest){ .service = AWS_ECS,
                        .action = action,
                        .body = body->text,
                        .n_body = body->n,
                        .yield = call->yield,
                        .once = call->once,
                        .max_answer = ECS_CALL_ANSWER_MAX },
                step_answered, call, &step);
        if (r < 0)
                return r;

        (void) aws_call_free(call->step);
        call->step = step;
        call->answered = answered;
        call->steps.at[call->steps.n++] = (EcsStep){ .action = action, .outcome = AWS_UNAVAILABLE };
        return 0;
}

static int send_find(EcsCall *call, AwsDone answered) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        body_begin(&body, &call->target);
        ecs_write_filter(&body, call->target.instance_id);
        return ecs_send(call, "ListContainerInstances", &body, answered);
}

static int send_describe(EcsCall *call, AwsDone answered) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        body_begin(&body, &call->target);
        body_instance(&body, &call->target);
        return ecs_send(call, "DescribeContainerInstances", &body, answered);
}

static int send_status(EcsCall *call, const char *status, AwsDone answered) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        body_begin(&body, &call->target);
        body_instance(&body, &call->target);
        json_string(&body, "status", status);
        return ecs_send(call, "UpdateContainerInstancesState", &body, answered);
}

typedef struct Word {
        const char *name, *value;
} Word;

static int send_put(EcsCall *call, const Word *words, unsigned n, AwsDone answered) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        body_begin(&body, &call->target);
        json_begin_array(&body, "attributes");
        for (unsigned i = 0; i < n; i++)
                body_attribute(&body, &call->target, words[i].name, words[i].value);
        json_end_array(&body);
        return ecs_send(call, "PutAttributes", &body, answered);
}

/** A later step could not be sent for want of memory or the like: nothing of it has happened. */
static void ecs_unsent(EcsCall *call, int error) {
        AwsAnswer answer = { .outcome = AWS_UNAVAILABLE };

        (void) snprintf(
                answer.message, sizeof(answer.message), "Could not be sent: %s", strerrordesc_np(-error));
        if (call->confirmed)
                call->confirmed(&(Confirmation){ .outcome = OUTCOME_UNAVAILABLE }, &answer, call->userdata);
        else
                call->done(OUTCOME_UNAVAILABLE, &answer, call->userdata);
}

static void attribute_emptied(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;
        Outcome outcome = ecs_outcome(answer, true);

        /* Neither is granted any more: it stays, and asking for ever would not change that. */
        call->done(outcome == OUTCOME_DENIED ? OUTCOME_OK : outcome, answer, call->userdata);
}

static void attribute_deleted(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;
        Word words[ELEMENTSOF(call->clearing)];
        int r;

        if (answer->outcome != AWS_DENIED) {
                call->done(ecs_outcome(answer, true), answer, call->userdata);
                return;
        }
        for (unsigned i = 0; i < call->n_clearing; i++)
                words[i] = (Word){ call->clearing[i], ECS_NONE };
        r = send_put(call, words, call->n_clearing, attribute_emptied);
        if (r < 0)
                ecs_unsent(call, r);
}

/** The last step of a chain: takes away the attributes of call->clearing, or at least their values. */
static int send_delete(EcsCall *call) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        body_begin(&body, &call->target);
        json_begin_array(&body, "attributes");
        for (unsigned i = 0; i < call->n_clearing; i++)
                body_attribute(&body, &call->target, call->clearing[i], NULL);
        json_end_array(&body);
        return ecs_send(call, "DeleteAttributes", &body, attribute_deleted);
}

static void clear(EcsCall *call, const char *name) {
        assert(call->n_clearing < ELEMENTSOF(call->clearing));
        call->clearing[call->n_clearing++] = name;
}

/* -- the four calls ------------------------------------------------------------------------------------- */

static int ecs_call_new(EcsCall **ret, Aws *aws, const Target *target, void *userdata) {
        EcsCall *call = calloc(1, sizeof(*call));

        if (!call)
                return -ENOMEM;
        call->aws = aws;
        call->target = *target;
        call->userdata = userdata;
        *ret = call;
        return 0;
}

EcsCall *ecs_call_free(EcsCall *call) {
        if (!call)
                return NULL;
        (void) aws_call_free(call->step);
        sd_event_source_disable_unref(call->nothing);
        free(call);
        return NULL;
}

const char *ecs_call_arn(const EcsCall *call) {
        return call->target.arn;
}

const char *ecs_last_step(const EcsSteps *steps, const char *otherwise) {
        return steps->n > 0 ? steps->at[steps->n - 1].action : otherwise;
}

EcsSteps ecs_call_steps(const EcsCall *call) {
        return call->steps;
}

static int on_nothing(sd_event_source *source, void *userdata) {
        static const AwsAnswer answer = { .outcome = AWS_OK,
                .message = "ECS knows no container instance of ours" };
        EcsCall *call = userdata;

        (void) source;
        call->done(OUTCOME_OK, &answer, call->userdata);
        return 0;
}

/** Nothing of us is at ECS that could be changed: done, but from the loop like everything else. */
static int ecs_do_nothing(EcsCall *call) {
        return sd_event_add_defer(aws_event(call->aws), &call->nothing, on_nothing, call);
}

static void confirm_answered(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;
        Confirmation confirmation;

        read_described(answer, &call->target, &confirmation);
        call->confirmed(&confirmation, answer, call->userdata);
}

static void confirm_found(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;
        Confirmation confirmation = { .outcome = ecs_outcome(answer, false),
                .status = CONTROL_MISSING,
                .server_time = answer->server_time };
        int r;

        if (confirmation.outcome == OUTCOME_OK && ecs_read_found(answer->json, &call->target) < 0)
                confirmation.outcome = OUTCOME_BLIND;
        if (!*call->target.arn) {
                call->confirmed(&confirmation, answer, call->userdata);
                return;
        }
        r = send_describe(call, confirm_answered);
        if (r < 0)
                ecs_unsent(call, r);
}

int ecs_confirm(Aws *aws, const Target *target, EcsConfirmed done, void *userdata, EcsCall **ret) {
        _cleanup_(ecs_call_freep) EcsCall *call = NULL;
        int r;

        if (!*target->cluster)
                return -EINVAL;
        r = ecs_call_new(&call, aws, target, userdata);
        if (r < 0)
                return r;
        call->confirmed = done;
        call->yield = true;
        r = *target->arn ? send_describe(call, confirm_answered) : send_find(call, confirm_found);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}

/** The last step of a chain that changes something. */
static void change_answered(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;

        call->done(ecs_outcome(answer, true), answer, call->userdata);
}

static void describe_put(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;
        Outcome outcome = ecs_outcome(answer, true);
        int r;

        if (outcome != OUTCOME_OK) {
                call->done(outcome, answer, call->userdata);
                return;
        }
        clear(call, ECS_ATTRIBUTE_HOLD);
        r = send_delete(call);
        if (r < 0)
                ecs_unsent(call, r);
}

int ecs_describe(
        Aws *aws, const Target *target, const EcsWords *words, EcsDone done, void *userdata, EcsCall **ret) {
        _cleanup_(ecs_call_freep) EcsCall *call = NULL;
        Word list[ECS_WORDS_MAX] = { { ECS_ATTRIBUTE_ACTION, words->action } };
        char group[ECS_ID_MAX];
        unsigned n = 1;
        int r;

        r = ecs_call_new(&call, aws, target, userdata);
        if (r < 0)
                return r;
        call->done = done;
        if (*words->group) {
                (void) snprintf(group, sizeof(group), "%016" PRIx64, turn_id(words->group));
                list[n++] = (Word){ ECS_ATTRIBUTE_GROUP, group };
        }
        if (*words->hold)
                list[n++] = (Word){ ECS_ATTRIBUTE_HOLD, words->hold };
        r = send_put(call, list, n, *words->hold ? change_answered : describe_put);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}

static void drain_updated(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;

        call->done(read_updated(answer), answer, call->userdata);
}

static void drain_marked(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;
        Outcome outcome = ecs_outcome(answer, true);
        int r;

        /* Only the mark may be there: the drain itself has not been asked for. */
        if (outcome == OUTCOME_LOST)
                outcome = OUTCOME_UNAVAILABLE;
        if (outcome != OUTCOME_OK || !call->drain) {
                call->done(outcome, answer, call->userdata);
                return;
        }
        r = send_status(call, "DRAINING", drain_updated);
        if (r < 0)
                ecs_unsent(call, r);
}

/** A mark of our own, or our claim on a peer. */
static int send_claim(EcsCall *call, const EcsDrain *how) {
        char time[FORMAT_TIME_MAX], value[sizeof(ECS_MARK) + FORMAT_TIME_MAX + ECS_ID_MAX];
        Word word = { how->by == 0 ? ECS_ATTRIBUTE_INCIDENT : ECS_ATTRIBUTE_PATROL, value };

        (void) format_rfc3339(time, how->now);
        if (how->by == 0)
                (void) snprintf(value, sizeof(value), ECS_MARK " %s", time);
        else
                (void) snprintf(value, sizeof(value), ECS_MARK " %s %016" PRIx64, time, how->by);
        return send_put(call, &word, 1, drain_marked);
}

int ecs_drain(
        Aws *aws, const Target *target, const EcsDrain *how, EcsDone done, void *userdata, EcsCall **ret) {
        _cleanup_(ecs_call_freep) EcsCall *call = NULL;
        int r;

        if (how->by != 0 && !*target->arn)
                return -EINVAL;
        r = ecs_call_new(&call, aws, target, userdata);
        if (r < 0)
                return r;
        call->done = done;
        call->drain = how->drain;
        r = *target->arn ? send_claim(call, how) : ecs_do_nothing(call);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}

static void undrain_updated(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;
        Outcome outcome = read_updated(answer);
        int r;

        /* The mark goes last: while it stands, whoever comes after a crash knows that the drain is ours to undo. */
        if (outcome != OUTCOME_OK) {
                call->done(outcome, answer, call->userdata);
                return;
        }
        r = send_delete(call);
        if (r < 0)
                ecs_unsent(call, r);
}

/* One from the future, or that names no time, is none that a patrol of now could have made. */
static bool is_claim_young(const Confirmation *is) {
        Span age = wall_since(is->server_time, is->patrolled_at);

        if (!wall_is_set(is->server_time))
                return true;
        return wall_is_set(is->patrolled_at) && age < PATROL_CLAIM_YOUNG && age > -PATROL_CLAIM_YOUNG;
}

/** What of the marks is ours to take away, into call->clearing. Return: whether a drain is ours as well. */
static bool find_ours(EcsCall *call, const Confirmation *is) {
        if (call->by == 0) {
                if (is->marked)
                        clear(call, ECS_ATTRIBUTE_INCIDENT);
                if (is->patrolled)
                        clear(call, ECS_ATTRIBUTE_PATROL);
                return true;
        }
        if (is->patrolled && is->patrolled_by == call->by)
                clear(call, ECS_ATTRIBUTE_PATROL);
        return !is->marked;
}

static void undrain_read(const AwsAnswer *answer, void *userdata) {
        EcsCall *call = userdata;
        Confirmation is;
        bool drain_ours;
        int r = 0;

        read_described(answer, &call->target, &is);
        drain_ours = find_ours(call, &is);
        if (is.outcome != OUTCOME_OK || call->n_clearing == 0) {
                call->done(is.outcome, answer, call->userdata);
                return;
        }
        if (call->by == 0 && is.patrolled && is_claim_young(&is)) {
                call->done(OUTCOME_CONTENTION, answer, call->userdata);
                return;
        }
        switch (is.status) {
        case CONTROL_DRAINING:
                r = drain_ours ? send_status(call, "ACTIVE", undrain_updated) : send_delete(call);
                break;
        case CONTROL_ACTIVE:
        case CONTROL_REGISTERING: r = send_delete(call); break;
        case CONTROL_UNKNOWN: call->done(OUTCOME_BLIND, answer, call->userdata); return;
        case CONTROL_DEREGISTERING:
        case CONTROL_INACTIVE:
        case CONTROL_MISSING: /* nothing is left that could be undone */
                call->done(OUTCOME_OK, answer, call->userdata);
                return;
        }
        if (r < 0)
                ecs_unsent(call, r);
}

int ecs_undrain(Aws *aws, const Target *target, uint64_t by, EcsDone done, void *userdata, EcsCall **ret) {
        _cleanup_(ecs_call_freep) EcsCall *call = NULL;
        int r;

        if (by != 0 && !*target->arn)
                return -EINVAL;
        r = ecs_call_new(&call, aws, target, userdata);
        if (r < 0)
                return r;
        call->done = done;
        call->by = by;
        /* Between reading whose claim it is and writing, nobody else must get a turn: the whole takes 30 s at most. */
        call->once = true;
        r = *target->arn ? send_describe(call, undrain_read) : ecs_do_nothing(call);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}
