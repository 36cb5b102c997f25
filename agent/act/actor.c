/* SPDX-License-Identifier: Apache-2.0 */

/* Effects in, events out. */

#include "agent/act/actor.h"

#include <string.h>

#include "agent/act/autoscaling.h"
#include "agent/act/ecs.h"
#include "agent/act/looker.h"
#include "agent/act/repair.h"
#include "common/backoff.h"
#include "common/loop.h"

/* Reads and marks that no incident waits for: patient, since 10,000 hosts may start at once. */
static const Backoff patience = { .base = SPAN_SEC(15), .ceiling = SPAN_MIN(10) };

struct Actor {
        sd_event *event;
        Aws *aws;
        ActorAnswered answered;
        ActorCalled called;
        ActorRegistered registered;
        void *userdata;

        Looker *looker;
        Prober *prober;
        EcsCall *confirming;
        EcsCall *changing;        /* drain or undrain */
        AutoScalingCall *scaling; /* detach or verify */
        Repair *repairing;
        uint32_t tickets[EFFECT_TYPE_N];

        Timer *refusing; /* answers what could not be started */
        Event refused;

        EcsCall *describing;
        Timer *describe_again;
        unsigned describe_tries;
        Target describe_target;
        char describe_action[32], describe_hold[64];

        AutoScalingCall *finding;
        Timer *find_again;
        unsigned find_tries;
        Target find_target;
        void (*found)(const char *group, Lifecycle lifecycle, void *userdata);

        AwsCall *counting;
        void (*counted)(uint64_t members, void *userdata);
};

static void report(Actor *actor, const char *action, const AwsAnswer *answer) {
        if (answer)
                actor->called(action, answer, actor->userdata);
}

static void give_back(Actor *actor, EffectType effect, Event *event) {
        event->ticket = actor->tickets[effect];
        actor->answered(event, actor->userdata);
}

/* Learning may step the core, which may free the call: @steps is a copy. */
static void note_steps(Actor *actor, EcsSteps steps) {
        for (unsigned i = 0; i < steps.n; i++)
                prober_note(actor->prober, steps.at[i].action, steps.at[i].outcome);
}

static const char *last_step(const EcsSteps *steps, const char *otherwise) {
        return steps->n > 0 ? steps->at[steps->n - 1].action : otherwise;
}

static void tell_arn(Actor *actor, const Confirmation *own, const char *arn) {
        if (own->outcome == OUTCOME_OK && own->status != CONTROL_MISSING && arn[0] != '\0')
                actor->registered(arn, actor->userdata);
}

/* --- answers ----------------------------------------------------------------------------------------------------- */

static void on_confirmed(const Confirmation *confirmation, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_CONFIRMED, .confirmed = *confirmation };
        EcsSteps steps = ecs_call_steps(actor->confirming);

        report(actor, last_step(&steps, "DescribeContainerInstances"), answer);
        tell_arn(actor, confirmation, ecs_call_arn(actor->confirming));
        actor->confirming = ecs_call_free(actor->confirming);
        note_steps(actor, steps);
        give_back(actor, EFFECT_CONFIRM, &event);
}

/* A look that got to its end has used every right to read. */
static void note_whole_look(Actor *actor) {
        static const char *const actions[] = { "DescribeClusters", "ListContainerInstances",
                "DescribeContainerInstances", "DescribeAutoScalingInstances", "DescribeAutoScalingGroups",
                "DescribeInstanceRefreshes", "DescribeScalingActivities" };

        for (unsigned i = 0; i < ELEMENTSOF(actions); i++)
                prober_note(actor->prober, actions[i], AWS_OK);
}

static void on_looked(const Look *look, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_LOOKED, .look = *look };

        if (answer && look->action[0] != '\0') {
                prober_note(actor->prober, look->action, answer->outcome);
                report(actor, look->action, answer);
        } else if (look->outcome == OUTCOME_OK && look->own.outcome == OUTCOME_OK && !look->share_decided) {
                note_whole_look(actor);
        }
        tell_arn(actor, &event.look.own, looker_arn(actor->looker));
        give_back(actor, EFFECT_LOOK, &event);
}

static void on_repaired(Outcome outcome, const char *detail, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_REPAIRED, .outcome = outcome };
        AwsAnswer answer = { .outcome = outcome == OUTCOME_OK ? AWS_OK : AWS_REFUSED };

        (void) snprintf(answer.message, sizeof(answer.message), "%s", detail);
        report(actor, "RestartUnit", &answer);
        actor->repairing = repair_free(actor->repairing);
        give_back(actor, EFFECT_REPAIR, &event);
}

static void on_drained(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_DRAINED, .outcome = outcome };
        EcsSteps steps = ecs_call_steps(actor->changing);

        report(actor, "drain", answer);
        actor->changing = ecs_call_free(actor->changing);
        give_back(actor, EFFECT_DRAIN, &event);
        note_steps(actor, steps);
}

static void on_undrained(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_UNDRAINED, .outcome = outcome };
        EcsSteps steps = ecs_call_steps(actor->changing);

        report(actor, "undrain", answer);
        actor->changing = ecs_call_free(actor->changing);
        give_back(actor, EFFECT_UNDRAIN, &event);
        note_steps(actor, steps);
}

static void on_detached(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_DETACHED, .outcome = outcome };

        prober_note(actor->prober, "DetachInstances", answer->outcome);
        report(actor, "DetachInstances", answer);
        actor->scaling = autoscaling_call_free(actor->scaling);
        give_back(actor, EFFECT_DETACH, &event);
}

static void on_verified(const Verification *verification, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_VERIFIED, .verified = *verification };

        report(actor, "DescribeAutoScalingInstances", answer);
        actor->scaling = autoscaling_call_free(actor->scaling);
        give_back(actor, EFFECT_VERIFY, &event);
}

static void on_rights(const Rights *rights, void *userdata) {
        Actor *actor = userdata;

        actor->answered(&(Event){ .type = EVENT_RIGHTS, .rights = *rights }, actor->userdata);
}

/* --- effects ----------------------------------------------------------------------------------------------------- */

static void on_refusing(Timer *timer, Now now, void *userdata) {
        Actor *actor = userdata;
        Event event = actor->refused;

        (void) timer;
        (void) now;
        actor->answered(&event, actor->userdata);
}

static void forget(Actor *actor) {
        looker_stop(actor->looker);
        actor->confirming = ecs_call_free(actor->confirming);
        actor->repairing = repair_free(actor->repairing);
        timer_disarm(actor->refusing);
}

/* The answer that stands for "could not even be started": nothing has happened. */
int actor_refuse(Actor *actor, const Effect *effect) {
        Event *event = &actor->refused;

        *event = (Event){ .ticket = effect->ticket };
        switch (effect->type) {
        case EFFECT_CONFIRM:
                event->type = EVENT_CONFIRMED;
                event->confirmed.outcome = OUTCOME_UNAVAILABLE;
                break;
        case EFFECT_LOOK:
                event->type = EVENT_LOOKED;
                event->look = (Look){ .outcome = OUTCOME_UNAVAILABLE, .failed = LOOK_ECS };
                break;
        case EFFECT_REPAIR:
                event->type = EVENT_REPAIRED;
                event->outcome = OUTCOME_UNAVAILABLE;
                break;
        case EFFECT_DRAIN:
                event->type = EVENT_DRAINED;
                event->outcome = OUTCOME_UNAVAILABLE;
                break;
        case EFFECT_UNDRAIN:
                event->type = EVENT_UNDRAINED;
                event->outcome = OUTCOME_UNAVAILABLE;
                break;
        case EFFECT_DETACH:
                event->type = EVENT_DETACHED;
                event->outcome = OUTCOME_UNAVAILABLE;
                break;
        case EFFECT_VERIFY:
                event->type = EVENT_VERIFIED;
                event->verified.outcome = OUTCOME_UNAVAILABLE;
                break;
        case EFFECT_PROBE:
        case EFFECT_FORGET: return 0;
        }
        return timer_arm(actor->refusing, MONO_NEVER);
}

static int start(Actor *actor, const Effect *effect, const ActorContext *context) {
        const Target *target = context->target;

        switch (effect->type) {
        case EFFECT_CONFIRM:
                actor->confirming = ecs_call_free(actor->confirming);
                return ecs_confirm(actor->aws, target, on_confirmed, actor, &actor->confirming);
        case EFFECT_LOOK:
                looker_stop(actor->looker);
                return looker_start(actor->looker, target, context->policy, effect->whole, on_looked, actor);
        case EFFECT_PROBE: return prober_start(actor->prober, target);
        case EFFECT_REPAIR:
                actor->repairing = repair_free(actor->repairing);
                return repair_start(
                        &actor->repairing, actor->event, context->bus, context->unit, on_repaired, actor);
        case EFFECT_DRAIN:
                actor->changing = ecs_call_free(actor->changing);
                return ecs_drain(actor->aws, target, context->policy->drain, context->now, on_drained, actor,
                        &actor->changing);
        case EFFECT_UNDRAIN:
                looker_stop(actor->looker);
                actor->changing = ecs_call_free(actor->changing);
                return ecs_undrain(actor->aws, target, on_undrained, actor, &actor->changing);
        case EFFECT_DETACH:
                actor->scaling = autoscaling_call_free(actor->scaling);
                return autoscaling_detach(actor->aws, target, on_detached, actor, &actor->scaling);
        case EFFECT_VERIFY:
                actor->scaling = autoscaling_call_free(actor->scaling);
                return autoscaling_verify(actor->aws, target, context->record->detach_sent, on_verified,
                        actor, &actor->scaling);
        case EFFECT_FORGET: forget(actor); return 0;
        }
        return 0;
}

int actor_do(Actor *actor, const Effect *effect, const ActorContext *context) {
        int r;

        actor->tickets[effect->type] = effect->ticket;
        r = start(actor, effect, context);
        return r < 0 ? actor_refuse(actor, effect) : 0;
}

/* --- what no incident waits for ---------------------------------------------------------------------------------- */

static void try_describe(Actor *actor);
static void try_find(Actor *actor);

static void arm_again(Timer *timer, sd_event *event, unsigned tries) {
        (void) timer_arm(
                timer, mono_add(loop_now(event).mono, backoff_next(&patience, tries, loop_random())));
}

static void on_described(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        EcsSteps steps = ecs_call_steps(actor->describing);

        if (outcome != OUTCOME_OK) {
                report(actor, last_step(&steps, "PutAttributes"), answer);
                arm_again(actor->describe_again, actor->event, actor->describe_tries++);
        }
        actor->describing = ecs_call_free(actor->describing);
        note_steps(actor, steps);
}

static void on_describe_again(Timer *timer, Now now, void *userdata) {
        (void) timer;
        (void) now;
        try_describe(userdata);
}

static void try_describe(Actor *actor) {
        actor->describing = ecs_call_free(actor->describing);
        if (ecs_describe(actor->aws, &actor->describe_target, actor->describe_action, actor->describe_hold,
                    on_described, actor, &actor->describing) < 0)
                arm_again(actor->describe_again, actor->event, actor->describe_tries++);
}

int actor_describe(Actor *actor, const Target *target, const char *action, const char *hold) {
        actor->describe_target = *target;
        (void) snprintf(actor->describe_action, sizeof(actor->describe_action), "%s", action);
        (void) snprintf(actor->describe_hold, sizeof(actor->describe_hold), "%s", hold);
        actor->describe_tries = 0;
        timer_disarm(actor->describe_again);
        try_describe(actor);
        return 0;
}

static void on_found(
        Outcome outcome, const char *group, Lifecycle lifecycle, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;

        prober_note(actor->prober, "DescribeAutoScalingInstances", answer->outcome);
        if (outcome != OUTCOME_OK) {
                report(actor, "DescribeAutoScalingInstances", answer);
                arm_again(actor->find_again, actor->event, actor->find_tries++);
                /* Without the right there is no answer to wait for: metrics go on with what was known before. */
                if (outcome == OUTCOME_DENIED)
                        actor->found(actor->find_target.group, LIFECYCLE_UNKNOWN, actor->userdata);
        } else {
                actor->found(group, lifecycle, actor->userdata);
        }
        actor->finding = autoscaling_call_free(actor->finding);
}

static void on_find_again(Timer *timer, Now now, void *userdata) {
        (void) timer;
        (void) now;
        try_find(userdata);
}

static void try_find(Actor *actor) {
        actor->finding = autoscaling_call_free(actor->finding);
        if (autoscaling_find(actor->aws, &actor->find_target, on_found, actor, &actor->finding) < 0)
                arm_again(actor->find_again, actor->event, actor->find_tries++);
}

int actor_find_group(Actor *actor, const Target *target,
        void (*found)(const char *group, Lifecycle lifecycle, void *userdata)) {
        actor->find_target = *target;
        actor->found = found;
        actor->find_tries = 0;
        try_find(actor);
        return 0;
}

static void on_counted(const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        const cJSON *clusters = NULL;
        int64_t members = 0;

        prober_note(actor->prober, "DescribeClusters", answer->outcome);
        if (answer->outcome == AWS_OK && json_get_array(answer->json, "clusters", &clusters) >= 0 &&
                json_get_i64(cJSON_GetArrayItem(clusters, 0), "registeredContainerInstancesCount",
                        &members) >= 0 &&
                members >= 0)
                actor->counted((uint64_t) members, actor->userdata);
}

int actor_count_members(
        Actor *actor, const Target *target, void (*counted)(uint64_t members, void *userdata)) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        AwsRequest request = { .service = AWS_ECS, .action = "DescribeClusters" };

        json_writer_init(&body, sizeof(target->cluster) * 8);
        json_begin_object(&body, NULL);
        json_begin_array(&body, "clusters");
        json_string(&body, NULL, target->cluster);
        json_end_array(&body);
        json_end_object(&body);
        if (body.error < 0)
                return body.error;
        request.body = body.text;
        request.n_body = body.n;

        actor->counted = counted;
        actor->counting = aws_call_free(actor->counting);
        return aws_call(actor->aws, &request, on_counted, actor, &actor->counting);
}

const Rights *actor_rights(const Actor *actor) {
        return prober_rights(actor->prober);
}

void actor_note(Actor *actor, const char *action, AwsOutcome outcome) {
        prober_note(actor->prober, action, outcome);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

int actor_new(Actor **ret, sd_event *event, const ActorOptions *options) {
        _cleanup_(actor_freep) Actor *actor = NULL;
        int r;

        actor = calloc(1, sizeof(*actor));
        if (!actor)
                return -ENOMEM;
        actor->event = sd_event_ref(event);
        actor->aws = options->aws;
        actor->answered = options->answered;
        actor->called = options->called;
        actor->registered = options->registered;
        actor->userdata = options->userdata;

        r = looker_new(&actor->looker, event, options->aws, options->imds);
        if (r < 0)
                return r;
        r = prober_new(&actor->prober, options->aws, on_rights, actor);
        if (r < 0)
                return r;
        r = timer_new(&actor->refusing, event, "actor-refusing", SPAN_MSEC(10), on_refusing, actor);
        if (r < 0)
                return r;
        r = timer_new(
                &actor->describe_again, event, "actor-describe", SPAN_SEC(1), on_describe_again, actor);
        if (r < 0)
                return r;
        r = timer_new(&actor->find_again, event, "actor-find", SPAN_SEC(1), on_find_again, actor);
        if (r < 0)
                return r;

        *ret = steal_ptr(actor);
        return 0;
}

Actor *actor_free(Actor *actor) {
        if (!actor)
                return NULL;
        forget(actor);
        ecs_call_free(actor->changing);
        autoscaling_call_free(actor->scaling);
        ecs_call_free(actor->describing);
        autoscaling_call_free(actor->finding);
        aws_call_free(actor->counting);
        timer_free(actor->refusing);
        timer_free(actor->describe_again);
        timer_free(actor->find_again);
        prober_free(actor->prober);
        looker_free(actor->looker);
        sd_event_unref(actor->event);
        free(actor);
        return NULL;
}
