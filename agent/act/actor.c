/* SPDX-License-Identifier: Apache-2.0 */

/* Effects in, events out. */

#include "agent/act/actor.h"

#include <string.h>

#include "agent/act/autoscaling.h"
#include "agent/act/ecs.h"
#include "agent/act/ending.h"
#include "agent/act/looker.h"
#include "agent/act/repair.h"
#include "agent/act/sweep.h"
#include "agent/decide/turn.h"
#include "common/backoff.h"
#include "common/loop.h"

#define COUNT_BODY_MAX 4096

/* Reads and marks that no incident waits for: patient, since 10,000 hosts may start at once. */
static const Backoff patience = { .base = SPAN_SEC(15), .ceiling = SPAN_MIN(10) };

/* What may be under way for ourselves and for a peer at the same time. */
typedef struct Lane {
        Actor *actor;
        EcsCall *changing;        /* drain or undrain */
        AutoScalingCall *scaling; /* removal or verify */
        const char *removal;      /* the call of the former */
        uint32_t tickets[EFFECT_TYPE_N];
} Lane;

struct Actor {
        sd_event *event;
        Aws *aws;
        Imds *imds;
        ActorAnswered answered;
        ActorCalled called;
        ActorRegistered registered;
        void *userdata;

        Lane own, peer;
        Looker *looker;
        Lane *looking; /* whose look it is, or was the last */
        Prober *prober;
        EcsCall *confirming;
        Repair *repairing;
        SweepCall *sweeping;
        Ending *ending;

        Timer *refusing; /* answers what could not be started */
        Effect refused[PLAN_EFFECTS_MAX];
        unsigned n_refused;

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
        Timer *count_again;
        unsigned count_tries;
        Target count_target;
        Sizes sizes, told; /* as read this time, and as last handed over */
        void (*counted)(const Sizes *sizes, void *userdata);
};

static void report(Actor *actor, const char *action, const AwsAnswer *answer) {
        if (answer)
                actor->called(action, answer, actor->userdata);
}

static void give_back(Lane *lane, EffectType effect, Event *event) {
        event->ticket = lane->tickets[effect];
        lane->actor->answered(event, lane->actor->userdata);
}

/* Learning may step the core, which may free the call: @steps is a copy. */
static void note_steps(Actor *actor, EcsSteps steps) {
        for (unsigned i = 0; i < steps.n; i++)
                prober_note(actor->prober, steps.at[i].action, steps.at[i].outcome);
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

        report(actor, ecs_last_step(&steps, "DescribeContainerInstances"), answer);
        tell_arn(actor, confirmation, ecs_call_arn(actor->confirming));
        actor->confirming = ecs_call_free(actor->confirming);
        note_steps(actor, steps);
        give_back(&actor->own, EFFECT_CONFIRM, &event);
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
        if (!look->of_peer)
                tell_arn(actor, &event.look.own, looker_arn(actor->looker));
        give_back(actor->looking, EFFECT_LOOK, &event);
}

static void on_repaired(Outcome outcome, const char *detail, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_REPAIRED, .outcome = outcome };
        AwsAnswer answer = { .outcome = outcome == OUTCOME_OK ? AWS_OK : AWS_REFUSED };

        (void) snprintf(answer.message, sizeof(answer.message), "%s", detail);
        report(actor, "RestartUnit", &answer);
        actor->repairing = repair_free(actor->repairing);
        give_back(&actor->own, EFFECT_REPAIR, &event);
}

static void changed(Lane *lane, EffectType effect, Event *event, const AwsAnswer *answer) {
        Actor *actor = lane->actor;
        EcsSteps steps = ecs_call_steps(lane->changing);

        report(actor, effect_to_string(effect), answer);
        lane->changing = ecs_call_free(lane->changing);
        give_back(lane, effect, event);
        note_steps(actor, steps);
}

static void on_drained(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        changed(userdata, EFFECT_DRAIN, &(Event){ .type = EVENT_DRAINED, .outcome = outcome }, answer);
}

static void on_undrained(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        changed(userdata, EFFECT_UNDRAIN, &(Event){ .type = EVENT_UNDRAINED, .outcome = outcome }, answer);
}

static void on_removed(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        Lane *lane = userdata;
        Event event = { .type = EVENT_DETACHED, .outcome = outcome };

        prober_note(lane->actor->prober, lane->removal, answer->outcome);
        report(lane->actor, lane->removal, answer);
        lane->scaling = autoscaling_call_free(lane->scaling);
        give_back(lane, EFFECT_DETACH, &event);
}

static void on_verified(const Verification *verification, const AwsAnswer *answer, void *userdata) {
        Lane *lane = userdata;
        Event event = { .type = EVENT_VERIFIED, .verified = *verification };

        report(lane->actor, "DescribeAutoScalingInstances", answer);
        lane->scaling = autoscaling_call_free(lane->scaling);
        give_back(lane, EFFECT_VERIFY, &event);
}

static void on_swept(const Sweep *sweep, const char *action, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_SWEPT, .swept = *sweep };

        prober_note(actor->prober, action, answer->outcome);
        /* A round that works is nothing to speak of, and there are many. */
        if (sweep->outcome != OUTCOME_OK)
                report(actor, action, answer);
        actor->sweeping = sweep_call_free(actor->sweeping);
        give_back(&actor->peer, EFFECT_SWEEP, &event);
}

static void on_ended(Outcome outcome, const char *action, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        Event event = { .type = EVENT_ENDED, .outcome = outcome };

        if (answer) {
                prober_note(actor->prober, action, answer->outcome);
                report(actor, action, answer);
        }
        actor->ending = ending_free(actor->ending);
        give_back(&actor->own, EFFECT_END, &event);
}

static void on_rights(const Rights *rights, void *userdata) {
        Actor *actor = userdata;

        actor->answered(&(Event){ .type = EVENT_RIGHTS, .rights = *rights }, actor->userdata);
}

/* --- effects ----------------------------------------------------------------------------------------------------- */

/** The answer that stands for "could not even be started": nothing has happened. */
static Event refusal(const Effect *effect) {
        Event event = { .ticket = effect->ticket };

        switch (effect->type) {
        case EFFECT_CONFIRM:
                event.type = EVENT_CONFIRMED;
                event.confirmed.outcome = OUTCOME_UNAVAILABLE;
                return event;
        case EFFECT_LOOK:
                event.type = EVENT_LOOKED;
                event.look = (Look){
                        .of_peer = effect->peer, .outcome = OUTCOME_UNAVAILABLE, .failed = LOOK_ECS
                };
                return event;
        case EFFECT_VERIFY:
                event.type = EVENT_VERIFIED;
                event.verified.outcome = OUTCOME_UNAVAILABLE;
                return event;
        case EFFECT_SWEEP:
                event.type = EVENT_SWEPT;
                event.swept.outcome = OUTCOME_UNAVAILABLE;
                return event;
        case EFFECT_REPAIR: event.type = EVENT_REPAIRED; break;
        case EFFECT_DRAIN: event.type = EVENT_DRAINED; break;
        case EFFECT_UNDRAIN: event.type = EVENT_UNDRAINED; break;
        case EFFECT_DETACH: event.type = EVENT_DETACHED; break;
        case EFFECT_END: event.type = EVENT_ENDED; break;
        case EFFECT_PROBE:
        case EFFECT_FORGET: break;
        }
        event.outcome = OUTCOME_UNAVAILABLE;
        return event;
}

static void refused_drop(Actor *actor, unsigned i) {
        memmove(&actor->refused[i], &actor->refused[i + 1],
                (--actor->n_refused - i) * sizeof(actor->refused[0]));
}

static void on_refusing(Timer *timer, Now now, void *userdata) {
        Actor *actor = userdata;
        Event event;

        (void) now;
        if (actor->n_refused == 0)
                return;
        event = refusal(&actor->refused[0]);
        refused_drop(actor, 0);
        if (actor->n_refused > 0)
                (void) timer_arm(timer, MONO_NEVER);
        actor->answered(&event, actor->userdata);
}

int actor_refuse(Actor *actor, const Effect *effect) {
        if (effect->type == EFFECT_PROBE || effect->type == EFFECT_FORGET)
                return 0;
        if (actor->n_refused == ELEMENTSOF(actor->refused))
                return -ENOBUFS;
        actor->refused[actor->n_refused++] = *effect;
        return timer_arm(actor->refusing, MONO_NEVER);
}

static Lane *lane_of(Actor *actor, const Effect *effect) {
        return effect->peer || effect->type == EFFECT_SWEEP ? &actor->peer : &actor->own;
}

static void stop_look_of(Actor *actor, const Lane *lane) {
        if (actor->looking == lane)
                looker_stop(actor->looker);
}

/** What is under way for ourselves, or for a peer, and can be dropped without harm. */
static void forget(Actor *actor, const Lane *lane) {
        stop_look_of(actor, lane);
        if (lane == &actor->peer)
                actor->sweeping = sweep_call_free(actor->sweeping);
        else {
                actor->confirming = ecs_call_free(actor->confirming);
                actor->repairing = repair_free(actor->repairing);
        }
        for (unsigned i = actor->n_refused; i > 0; i--)
                if (lane_of(actor, &actor->refused[i - 1]) == lane)
                        refused_drop(actor, i - 1);
}

static int start_look(Actor *actor, const Effect *effect, const ActorContext *context) {
        const LookOrder order = { .target = effect->peer ? context->peer : context->target,
                .policy = context->policy,
                .whole = effect->whole,
                .own = effect->peer ? context->target : NULL };

        looker_stop(actor->looker);
        actor->looking = lane_of(actor, effect);
        return looker_start(actor->looker, &order, on_looked, actor);
}

/** Drain, undrain, removal and verify, of ourselves or of a peer. */
static int start_change(Actor *actor, const Effect *effect, const ActorContext *context) {
        const Target *target = effect->peer ? context->peer : context->target;
        uint64_t by = effect->peer ? turn_id(context->target->instance_id) : 0;
        const EcsDrain how = { .drain = context->policy->drain, .now = context->now, .by = by };
        Lane *lane = lane_of(actor, effect);

        switch (effect->type) {
        case EFFECT_DRAIN:
                lane->changing = ecs_call_free(lane->changing);
                return ecs_drain(actor->aws, target, &how, on_drained, lane, &lane->changing);
        case EFFECT_UNDRAIN:
                stop_look_of(actor, lane);
                lane->changing = ecs_call_free(lane->changing);
                return ecs_undrain(actor->aws, target, by, on_undrained, lane, &lane->changing);
        case EFFECT_DETACH:
                lane->scaling = autoscaling_call_free(lane->scaling);
                lane->removal = autoscaling_removal((Action) effect->action);
                return autoscaling_remove(
                        actor->aws, target, (Action) effect->action, on_removed, lane, &lane->scaling);
        case EFFECT_VERIFY:
                lane->scaling = autoscaling_call_free(lane->scaling);
                return autoscaling_verify(actor->aws, target,
                        effect->peer ? context->record->peer_sent : context->record->detach_sent,
                        on_verified, lane, &lane->scaling);
        case EFFECT_CONFIRM:
        case EFFECT_LOOK:
        case EFFECT_PROBE:
        case EFFECT_REPAIR:
        case EFFECT_END:
        case EFFECT_SWEEP:
        case EFFECT_FORGET: break;
        }
        return -EINVAL;
}

static int start(Actor *actor, const Effect *effect, const ActorContext *context) {
        const Target *target = context->target;

        if (effect->peer && effect->type != EFFECT_FORGET && !context->peer)
                return -EINVAL;
        switch (effect->type) {
        case EFFECT_CONFIRM:
                actor->confirming = ecs_call_free(actor->confirming);
                return ecs_confirm(actor->aws, target, on_confirmed, actor, &actor->confirming);
        case EFFECT_LOOK: return start_look(actor, effect, context);
        case EFFECT_PROBE: return prober_start(actor->prober, target, context->policy);
        case EFFECT_REPAIR:
                actor->repairing = repair_free(actor->repairing);
                return repair_start(
                        &actor->repairing, actor->event, context->bus, context->unit, on_repaired, actor);
        case EFFECT_DRAIN:
        case EFFECT_UNDRAIN:
        case EFFECT_DETACH:
        case EFFECT_VERIFY: return start_change(actor, effect, context);
        case EFFECT_END:
                actor->ending = ending_free(actor->ending);
                return ending_start(actor->aws, actor->imds,
                        &(EndingOrder){ .target = target,
                                .policy = context->policy,
                                .action = (Action) context->record->action },
                        on_ended, actor, &actor->ending);
        case EFFECT_SWEEP:
                actor->sweeping = sweep_call_free(actor->sweeping);
                return sweep_start(actor->aws, target, on_swept, actor, &actor->sweeping);
        case EFFECT_FORGET: forget(actor, lane_of(actor, effect)); return 0;
        }
        return 0;
}

int actor_do(Actor *actor, const Effect *effect, const ActorContext *context) {
        int r;

        lane_of(actor, effect)->tickets[effect->type] = effect->ticket;
        r = start(actor, effect, context);
        return r < 0 ? actor_refuse(actor, effect) : 0;
}

/* --- what no incident waits for ---------------------------------------------------------------------------------- */

static void try_describe(Actor *actor);
static void try_find(Actor *actor);
static void try_count(Actor *actor);

static void arm_again(Timer *timer, sd_event *event, unsigned tries) {
        (void) timer_arm(
                timer, mono_add(loop_now(event).mono, backoff_next(&patience, tries, loop_random())));
}

static void on_described(Outcome outcome, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        EcsSteps steps = ecs_call_steps(actor->describing);

        if (outcome != OUTCOME_OK) {
                report(actor, ecs_last_step(&steps, "PutAttributes"), answer);
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
        const EcsWords words = { .action = actor->describe_action,
                .hold = actor->describe_hold,
                .group = actor->describe_target.group };

        actor->describing = ecs_call_free(actor->describing);
        if (ecs_describe(actor->aws, &actor->describe_target, &words, on_described, actor,
                    &actor->describing) < 0)
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

static void on_found(Outcome outcome, const Membership *is, const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;

        prober_note(actor->prober, "DescribeAutoScalingInstances", answer->outcome);
        if (outcome != OUTCOME_OK) {
                report(actor, "DescribeAutoScalingInstances", answer);
                arm_again(actor->find_again, actor->event, actor->find_tries++);
                /* Without the right there is no answer to wait for: metrics go on with what was known before. */
                if (outcome == OUTCOME_DENIED)
                        actor->found(actor->find_target.group, LIFECYCLE_UNKNOWN, actor->userdata);
        } else {
                actor->found(is->group, is->lifecycle, actor->userdata);
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

/** Hands over what is new, and asks again for what is missing. */
static void count_over(Actor *actor, bool whole) {
        bool news = actor->sizes.cluster != actor->told.cluster || actor->sizes.group != actor->told.group;

        if (!whole)
                arm_again(actor->count_again, actor->event, actor->count_tries++);
        actor->told = actor->sizes;
        if (news)
                actor->counted(&actor->told, actor->userdata);
}

static void on_group_counted(const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        const XmlNode *group = NULL;
        uint32_t size = 0;
        bool weighted = false, read;

        prober_note(actor->prober, "DescribeAutoScalingGroups", answer->outcome);
        group = answer->outcome == AWS_OK
                        ? xml_find(answer->xml, "DescribeAutoScalingGroupsResult/AutoScalingGroups/member")
                        : NULL;
        read = group && autoscaling_read_size(group, &size, &weighted) >= 0;
        /* Capacity that counts something else says too little of how many there are. */
        if (read)
                actor->sizes.group = weighted ? 0 : size;
        count_over(actor, read);
}

static int count_group(Actor *actor) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        AwsCall *call = NULL;
        int r;

        json_writer_init(&body, COUNT_BODY_MAX);
        aws_query_append(&body, "AutoScalingGroupNames.member.1", actor->count_target.group);
        aws_query_append(&body, "IncludeInstances", "false");
        r = body.error;
        if (r >= 0)
                r = aws_call(actor->aws,
                        &(AwsRequest){ .service = AWS_AUTO_SCALING,
                                .action = "DescribeAutoScalingGroups",
                                .body = body.text,
                                .n_body = body.n,
                                .yield = true },
                        on_group_counted, actor, &call);
        if (r < 0)
                return r;
        (void) aws_call_free(actor->counting);
        actor->counting = call;
        return 0;
}

static void on_cluster_counted(const AwsAnswer *answer, void *userdata) {
        Actor *actor = userdata;
        const cJSON *clusters = NULL;
        bool read;

        prober_note(actor->prober, "DescribeClusters", answer->outcome);
        read = answer->outcome == AWS_OK && json_get_array(answer->json, "clusters", &clusters) >= 0 &&
               ecs_read_registered(cJSON_GetArrayItem(clusters, 0), &actor->sizes.cluster) >= 0;
        if (read && actor->count_target.group[0] == '\0')
                count_over(actor, true);
        else if (!read || count_group(actor) < 0)
                count_over(actor, false);
}

static void on_count_again(Timer *timer, Now now, void *userdata) {
        (void) timer;
        (void) now;
        try_count(userdata);
}

static int count_cluster(Actor *actor) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, COUNT_BODY_MAX);
        ecs_write_cluster(&body, actor->count_target.cluster, false);
        if (body.error < 0)
                return body.error;
        actor->counting = aws_call_free(actor->counting);
        return aws_call(actor->aws,
                &(AwsRequest){ .service = AWS_ECS,
                        .action = "DescribeClusters",
                        .body = body.text,
                        .n_body = body.n,
                        .yield = true },
                on_cluster_counted, actor, &actor->counting);
}

static void try_count(Actor *actor) {
        if (count_cluster(actor) < 0)
                arm_again(actor->count_again, actor->event, actor->count_tries++);
}

int actor_count(Actor *actor, const Target *target, void (*counted)(const Sizes *sizes, void *userdata)) {
        bool same_group = strcmp(actor->count_target.group, target->group) == 0;

        actor->count_target = *target;
        actor->counted = counted;
        actor->count_tries = 0;
        actor->sizes = actor->told; /* what stays unanswered is taken for what it was */
        actor->sizes.self = turn_id(target->instance_id);
        if (!same_group)
                actor->sizes.group = 0;
        timer_disarm(actor->count_again);
        try_count(actor);
        return 0;
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
        actor->imds = options->imds;
        actor->own.actor = actor->peer.actor = actor;
        actor->looking = &actor->own;
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
        r = timer_new(&actor->count_again, event, "actor-count", SPAN_SEC(1), on_count_again, actor);
        if (r < 0)
                return r;

        *ret = steal_ptr(actor);
        return 0;
}

static void lane_done(Lane *lane) {
        (void) ecs_call_free(lane->changing);
        (void) autoscaling_call_free(lane->scaling);
}

Actor *actor_free(Actor *actor) {
        if (!actor)
                return NULL;
        lane_done(&actor->own);
        lane_done(&actor->peer);
        ecs_call_free(actor->confirming);
        repair_free(actor->repairing);
        sweep_call_free(actor->sweeping);
        ending_free(actor->ending);
        ecs_call_free(actor->describing);
        autoscaling_call_free(actor->finding);
        aws_call_free(actor->counting);
        timer_free(actor->refusing);
        timer_free(actor->describe_again);
        timer_free(actor->find_again);
        timer_free(actor->count_again);
        prober_free(actor->prober);
        looker_free(actor->looker);
        sd_event_unref(actor->event);
        free(actor);
        return NULL;
}
