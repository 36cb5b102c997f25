/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The wiring: samples and answers go into the core, its plans are journalled and carried out, its edges logged, its
 * numbers published. This file alone knows all three layers.
 */

#include "agent/agent.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "agent/act/actor.h"
#include "agent/act/journal.h"
#include "agent/act/reporter.h"
#include "agent/config.h"
#include "agent/decide/core.h"
#include "agent/decide/turn.h"
#include "agent/edges.h"
#include "agent/messages.h"
#include "agent/observe/observer.h"
#include "agent/pause.h"
#include "agent/status.h"
#include "agent/trace.h"
#include "common/file-watch.h"
#include "common/file.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/parse.h"

#define RUN_DIRECTORY   "/run/ecs-health-agent"
#define STATE_DIRECTORY "/var/lib/ecs-health-agent"
#define SPOOL_FILE      STATE_DIRECTORY "/spool"
#define BOOT_ID_FILE    "/proc/sys/kernel/random/boot_id"

/* What no incident waits for is asked at a random moment of the first so many seconds, and never by all hosts at once. */
#define INTRODUCTION_SPREAD SPAN_SEC(30)
#define WITNESS_PERIOD_MAX  SPAN_SEC(10)
/* A peer that is down and whose own daemon lives is not patrol's affair. So one whose incident goes on, for a brake holds,
 * says that it is at work, and says so anew while that lasts. What it takes back may wait: many are held together. */
#define TELL_AFTER SPAN_MIN(5)
#define TELL_AGAIN SPAN_MIN(30)
/* How many we are is read so often; looks tell it as well. */
#define COUNT_AGAIN SPAN_DAY(1)

typedef struct Agent {
        sd_event *event;
        Helper *helper;
        Http *http;
        Imds *imds;
        AwsCredentials *credentials;
        Aws *aws;
        Config *config;
        Observer *observer;
        Actor *actor;
        Reporter *reporter;
        Journal *journal;
        Trace *trace;
        int lock; /* held as long as we live */
        StatusServer *status;
        Timer *waking;
        Timer *introducing;
        Timer *counting;
        Timer *telling;
        Timer *pausing; /* a pause ends by itself */
        FileWatch *pause_watch;

        char *pause_path, *log_path, *docker_path, *spool_path, *status_path, *root;
        Settings settings; /* in force, as we have taken them over from .config */
        Pause pause;
        SettingsEcs ecs;

        Core core;
        Edges edges;
        Target target;
        JournalEntry entry;
        int journal_disk_error;
        bool restored;              /* the journal has been given to the core, or there is none of ours */
        bool introduced, described; /* our group is asked for; our attributes are set */
        char described_as[512], counted_as[520];
        char boot_id[64];
        char last_call[768];
        bool metrics_failing, metrics_refused;
        bool told, tell_armed; /* our peers know that an incident of ours is open; that is to change */
        Wall told_at;
        unsigned left_out; /* series, as last said */
        Wall started;
} Agent;

static void agent_step(Agent *agent, const Event *event);
static void follow_incident(Agent *agent, Now now);

/* 0 <= result <= @most */
static Span jitter(Span most) {
        return (Span) (loop_random() % (uint64_t) (most + 1));
}

/* --- journal ----------------------------------------------------------------------------------------------------- */

static bool journal_save(Agent *agent) {
        int disk = 0, r;

        agent->entry.record = agent->core.record;
        agent->entry.target = agent->target;
        agent->entry.answered_this_boot = agent->core.checks.answered_this_boot;
        (void) snprintf(agent->entry.boot_id, sizeof(agent->entry.boot_id), "%s", agent->boot_id);
        r = journal_write(agent->journal, &agent->entry, &disk);
        if (r < 0 || (disk < 0 && disk != agent->journal_disk_error))
                log_event(LOG_WARNING, MESSAGE_JOURNAL_FAILED, NULL,
                        "The journal could not be written to %s: %s.", r < 0 ? "memory or disk" : "disk",
                        strerror(r < 0 ? -r : -disk));
        agent->journal_disk_error = r < 0 ? r : disk;
        return r >= 0;
}

/* What is known from before our start goes into the core, once it is sure to be about this very instance. */
static void journal_restore(Agent *agent, const char *instance_id) {
        JournalEntry entry = { 0 };
        Event event = { .type = EVENT_RESTORED };
        int r;

        if (agent->restored)
                return;
        r = journal_read(agent->journal, instance_id, &entry);
        if (r == 0 && !instance_id && strcmp(entry.boot_id, agent->boot_id) != 0)
                return; /* from an earlier boot: whose disk this is must be known first */
        if (r != 0 && !instance_id)
                return;
        agent->restored = true;
        if (r == JOURNAL_E_CORRUPT)
                log_warning("The journal is damaged and was ignored: %s.", STATE_DIRECTORY);
        if (r != 0) {
                event.restored.no_journal = true;
                agent_step(agent, &event);
                return;
        }

        event.restored.record = entry.record;
        event.restored.same_boot = strcmp(entry.boot_id, agent->boot_id) == 0;
        event.restored.answered_this_boot = event.restored.same_boot && entry.answered_this_boot;
        event.restored.registered_before = entry.target.arn[0] != '\0';
        agent->entry.sequence = entry.sequence;
        /* Or a record that is written before the metadata service has answered would be nobody's after a reboot. */
        if (agent->target.instance_id[0] == '\0')
                (void) snprintf(agent->target.instance_id, sizeof(agent->target.instance_id), "%s",
                        entry.target.instance_id);
        if (agent->target.arn[0] == '\0')
                (void) snprintf(agent->target.arn, sizeof(agent->target.arn), "%s", entry.target.arn);
        /* Without an ARN the cluster was only assumed. */
        if (agent->target.cluster[0] == '\0' && entry.target.arn[0] != '\0')
                (void) snprintf(
                        agent->target.cluster, sizeof(agent->target.cluster), "%s", entry.target.cluster);
        if (agent->target.group[0] == '\0')
                (void) snprintf(agent->target.group, sizeof(agent->target.group), "%s", entry.target.group);
        if (entry.record.drained || entry.record.stage == STAGE_VERIFYING ||
                entry.record.stage == STAGE_DETACHING)
                log_event(LOG_WARNING, MESSAGE_RESTORED, NULL, "Taking up incident %llu at stage %s.",
                        (unsigned long long) entry.record.incident,
                        stage_to_string((Stage) entry.record.stage));
        agent_step(agent, &event);
}

/* --- carrying out ------------------------------------------------------------------------------------------------ */

static bool changes_something(EffectType type) {
        return type == EFFECT_DRAIN || type == EFFECT_DETACH || type == EFFECT_REPAIR || type == EFFECT_END;
}

/* The peer that patrol is about: of our own cluster and group. */
static Target peer_target(const Agent *agent) {
        const PeerName *peer = &agent->core.patrol.peer;
        Target target = agent->target;

        target.zone[0] = '\0';
        memcpy(target.arn, peer->arn, sizeof(target.arn));
        memcpy(target.instance_id, peer->instance_id, sizeof(target.instance_id));
        return target;
}

static void carry_out(Agent *agent, const Plan *plan, bool journalled, Now now) {
        const Target peer = peer_target(agent);
        ActorContext context = {
                .target = &agent->target,
                .peer = &peer,
                .policy = &agent->core.policy,
                .record = &agent->core.record,
                .bus = observer_bus(agent->observer),
                .unit = agent->settings.unit,
                .now = aws_wall(agent->aws, now.wall),
        };

        for (unsigned i = 0; i < plan->n_effects; i++) {
                const Effect *effect = &plan->effects[i];

                if (effect->type == EFFECT_REPAIR)
                        observer_own_job(agent->observer);
                if (!effect->peer && (effect->type == EFFECT_LOOK || effect->type == EFFECT_VERIFY))
                        observer_look_again(agent->observer);
                /* A step that cannot be remembered could be taken twice. */
                if (changes_something(effect->type) && !journalled)
                        (void) actor_refuse(agent->actor, effect);
                else
                        (void) actor_do(agent->actor, effect, &context);
        }
}

static void tell_systemd(Agent *agent) {
        char names[256];

        (void) sd_notifyf(false, "STATUS=%s Stage: %s%s%s.", cause_to_sentence(agent->core.verdict.cause),
                stage_to_string(agent->core.stage), agent->core.stage == STAGE_HELD ? ", held by " : "",
                agent->core.stage == STAGE_HELD ? edges_brakes(agent->core.brakes, names, sizeof(names))
                                                : "");
}

static bool copy_if_new(char *to, size_t n, const char *from) {
        if (from[0] == '\0' || strcmp(to, from) == 0)
                return false;
        (void) snprintf(to, n, "%s", from);
        return true;
}

/* An agent that never registered has never told its cluster: it is the one where it would have registered. Effects need
 * it; metrics get it after a while only, since the agent may merely be late and say another name. */
static void assume_cluster(Agent *agent) {
        const char *cluster = agent->settings.cluster;
        SettingsEcs ecs;

        /* Before the journal has spoken, "never" is only "not yet". */
        if (!agent->restored || agent->core.verdict.cause != CAUSE_NEVER_REGISTERED ||
                agent->target.arn[0] != '\0')
                return;
        settings_ecs_config(&ecs); /* anew: user data may have written it after our start */
        if (cluster[0] == '\0')
                cluster = ecs.cluster[0] != '\0' ? ecs.cluster : "default";
        if (copy_if_new(agent->target.cluster, sizeof(agent->target.cluster), cluster) && agent->introduced)
                (void) reporter_target(agent->reporter, &agent->target);
        explicit_bzero(&ecs, sizeof(ecs));
}

static void agent_step(Agent *agent, const Event *event) {
        bool answered = agent->core.checks.answered_this_boot, journalled;
        Now now = loop_now(agent->event);
        Plan plan;

        trace_before(agent->trace, &agent->core);
        core_step(&agent->core, event, now, &plan);
        edges_plan(&agent->edges, &agent->core, &plan, now);
        if (plan.n_effects > 0 ||
                (agent->target.cluster[0] == '\0' &&
                        mono_since(now.mono, agent->core.cause_from) >= agent->settings.policy.grace_dead))
                assume_cluster(agent);
        journalled = !plan.record_changed || journal_save(agent);
        if (plan.n_effects > 0)
                carry_out(agent, &plan, journalled, now);
        if (answered != agent->core.checks.answered_this_boot && !plan.record_changed && agent->restored)
                (void) journal_save(agent);
        reporter_stepped(agent->reporter);
        observer_watch_path(agent->observer, plan.watch_path);
        if (plan.verdict_changed || plan.stage_changed || plan.brakes_changed)
                tell_systemd(agent);
        (void) timer_arm(agent->waking, plan.wake);
        follow_incident(agent, now);
        trace_after(agent->trace, event, now, &plan, &agent->core, &agent->target);
}

static void on_waking(Timer *timer, Now now, void *userdata) {
        (void) timer;
        (void) now;
        agent_step(userdata, &(Event){ .type = EVENT_TICK });
}

static void on_answered(const Event *event, void *userdata) {
        agent_step(userdata, event);
}

static void on_called(const char *action, const AwsAnswer *answer, void *userdata) {
        Agent *agent = userdata;
        TraceCall call = {};

        edges_call(action, answer);
        (void) snprintf(agent->last_call, sizeof(agent->last_call), "%s: %s%s%s%s%s", action,
                aws_outcome_to_string(answer->outcome), answer->code[0] != '\0' ? ", " : "", answer->code,
                answer->message[0] != '\0' ? ": " : "", answer->message);
        (void) snprintf(call.action, sizeof(call.action), "%s", action);
        (void) snprintf(
                call.answer, sizeof(call.answer), "%s", agent->last_call + strlen(action) + strlen(": "));
        (void) snprintf(call.request_id, sizeof(call.request_id), "%s", answer->request_id);
        trace_call(agent->trace, &call, loop_now(agent->event));
}

/* --- who we are -------------------------------------------------------------------------------------------------- */

static void probe_rights(Agent *agent) {
        (void) actor_do(agent->actor, &(Effect){ .type = EFFECT_PROBE },
                &(ActorContext){ .target = &agent->target, .policy = &agent->core.policy });
}

/* Attributes at ECS are the fleet's shared ledger: what we would do, and why not. */
static void describe(Agent *agent) {
        const char *action = action_to_string(agent->settings.policy.action);
        char hold[64] = "", time[FORMAT_TIME_MAX];
        char as[sizeof(agent->described_as)];

        /* What we do is told once, not first by the defaults and then by what the stack says. */
        if (agent->target.arn[0] == '\0' || !agent->introduced || config_settling(agent->config))
                return;
        if (agent->pause.paused)
                (void) snprintf(hold, sizeof(hold), "paused");
        else if (agent->told)
                (void) snprintf(hold, sizeof(hold), "held %s", format_rfc3339(time, agent->told_at));
        (void) snprintf(as, sizeof(as), "%s/%s/%s", action, hold, agent->target.group);
        if (strcmp(as, agent->described_as) == 0)
                return;
        memcpy(agent->described_as, as, sizeof(as));
        (void) actor_describe(agent->actor, &agent->target, action, hold);
        if (!agent->described)
                probe_rights(agent);
        agent->described = true;
}

/* Whether our peers are to know that we are at work ourselves, and whether what they know must change. */
static void follow_incident(Agent *agent, Now now) {
        bool open = core_incident_open(&agent->core);
        Span many = (Span) agent->core.sizes.cluster, wait;

        if (open == agent->told) {
                if (agent->tell_armed && !open)
                        timer_disarm(agent->telling);
                agent->tell_armed = open && agent->tell_armed;
                return;
        }
        if (agent->tell_armed)
                return;
        wait = open ? TELL_AFTER + jitter(span_max(SPAN_MIN(3), many * SPAN_MSEC(50)))
                    : jitter(span_max(SPAN_SEC(10), many * SPAN_MSEC(100)));
        agent->tell_armed = true;
        (void) timer_arm(agent->telling, mono_add(now.mono, wait));
}

static void on_telling(Timer *timer, Now now, void *userdata) {
        Agent *agent = userdata;

        (void) timer;
        agent->told = core_incident_open(&agent->core);
        agent->told_at = aws_wall(agent->aws, now.wall);
        agent->tell_armed = agent->told;
        if (agent->told)
                (void) timer_arm(agent->telling, mono_add(now.mono, TELL_AGAIN + jitter(TELL_AGAIN / 4)));
        describe(agent);
}

static void on_counted(const Sizes *sizes, void *userdata) {
        Agent *agent = userdata;
        Event event = { .type = EVENT_SIZES, .sizes = *sizes };

        event.sizes.self = turn_id(agent->target.instance_id);
        config_members(agent->config, sizes->cluster);
        agent_step(agent, &event);
}

/* How many there are of us sets the pace of patrol, and of what else every host asks now and then. */
static void count_members(Agent *agent) {
        Span again = COUNT_AGAIN + jitter(COUNT_AGAIN / 4);
        char as[sizeof(agent->counted_as)];

        if (!agent->introduced || agent->target.cluster[0] == '\0')
                return;
        (void) snprintf(as, sizeof(as), "%s/%s", agent->target.cluster, agent->target.group);
        if (strcmp(as, agent->counted_as) == 0)
                return;
        memcpy(agent->counted_as, as, sizeof(as));
        (void) actor_count(agent->actor, &agent->target, on_counted);
        (void) timer_arm(agent->counting, mono_add(loop_now(agent->event).mono, again));
}

static void on_counting(Timer *timer, Now now, void *userdata) {
        Agent *agent = userdata;

        (void) timer;
        (void) now;
        agent->counted_as[0] = '\0';
        count_members(agent);
}

static void on_group(const char *group, Lifecycle lifecycle, void *userdata) {
        Agent *agent = userdata;
        bool news = copy_if_new(agent->target.group, sizeof(agent->target.group), group);

        agent_step(agent, &(Event){ .type = EVENT_GROUP, .lifecycle = lifecycle });
        if (news && agent->restored)
                (void) journal_save(agent);
        if (group[0] == '\0')
                agent->target.group[0] = '\0';
        (void) reporter_target(agent->reporter, &agent->target);
        /* Described before the group was known, the right to detach has not been asked for. */
        if (news && agent->described)
                probe_rights(agent);
        describe(agent);
        count_members(agent);
}

static void on_introducing(Timer *timer, Now now, void *userdata) {
        Agent *agent = userdata;

        (void) timer;
        (void) now;
        agent->introduced = true;
        (void) actor_find_group(agent->actor, &agent->target, on_group);
}

/* Once the metadata service has said who we are: at a random moment soon, ask which group we are in. */
static void introduce(Agent *agent) {
        Span spread = span_min(INTRODUCTION_SPREAD, agent->settings.period / 2);

        (void) timer_arm(agent->introducing, mono_add(loop_now(agent->event).mono, jitter(spread)));
}

static void on_identity(void *userdata) {
        Agent *agent = userdata;
        const Identity *identity = observer_identity(agent->observer);
        const char *region = getenv("AWS_REGION");
        int r;

        if (!region || region[0] == '\0')
                region = identity->region;

        (void) copy_if_new(
                agent->target.instance_id, sizeof(agent->target.instance_id), identity->instance_id);
        (void) copy_if_new(agent->target.zone, sizeof(agent->target.zone), identity->zone);
        r = aws_set_region(agent->aws, region, identity->domain);
        if (r >= 0)
                r = config_identity(agent->config, identity->instance_id, region, identity->domain);
        if (r < 0)
                log_error("The region \"%s\" is none: no AWS call is possible. Set AWS_REGION, or mend the "
                          "metadata service.",
                        region);
        journal_restore(agent, agent->target.instance_id);
        /* What is set needs no introspection, which may be switched off, or not there. */
        (void) copy_if_new(agent->target.cluster, sizeof(agent->target.cluster), agent->settings.cluster);
        introduce(agent);
}

static void learn_from_introspection(Agent *agent) {
        bool changed = false;
        const char *cluster = agent->settings.cluster[0] != '\0' ? agent->settings.cluster
                                                                 : observer_cluster(agent->observer);

        changed |= copy_if_new(agent->target.cluster, sizeof(agent->target.cluster), cluster);
        if (copy_if_new(agent->target.arn, sizeof(agent->target.arn), observer_arn(agent->observer))) {
                changed = true;
                agent->described_as[0] = '\0';
        }
        if (!changed)
                return;
        if (agent->restored)
                (void) journal_save(agent);
        if (agent->introduced)
                (void) reporter_target(agent->reporter, &agent->target);
        count_members(agent);
        describe(agent);
}

/* ECS knows this instance, although its agent has never told us so: from here on as if it had. */
static void on_registered(const char *arn, void *userdata) {
        Agent *agent = userdata;

        if (agent->target.arn[0] != '\0')
                return;
        (void) copy_if_new(agent->target.arn, sizeof(agent->target.arn), arn);
        if (agent->restored)
                (void) journal_save(agent);
        describe(agent);
}

static void on_sample(const Sample *sample, void *userdata) {
        Agent *agent = userdata;
        Event event = { .type = EVENT_SAMPLE, .sample = *sample };

        if (sample->witness == WITNESS_INTROSPECTION && sample->sight == SIGHT_CLEAR &&
                sample->introspection.registered)
                learn_from_introspection(agent);
        if (sample->witness == WITNESS_METADATA)
                event.sample.metadata.no_role =
                        aws_credentials_state(agent->credentials) == AWS_CREDENTIALS_NO_ROLE;
        agent_step(agent, &event);
}

/* --- publishing -------------------------------------------------------------------------------------------------- */

static void say_left_out(Agent *agent) {
        PublisherState state;

        reporter_state(agent->reporter, &state);
        if (state.left_out > 0 && state.left_out != agent->left_out)
                log_warning(
                        "metrics.max_series allows %" PRIi64
                        " series: %u of mounts are not published. Raise it, or name fewer in disk.mounts.",
                        agent->settings.max_series, state.left_out);
        agent->left_out = state.left_out;
}

static void on_published(const AwsAnswer *answer, size_t n_data, void *userdata) {
        Agent *agent = userdata;
        bool ok = answer->outcome == AWS_OK;

        (void) n_data;
        actor_note(agent->actor, "PutMetricData", answer->outcome);
        say_left_out(agent);
        /* Reading the CA bundle, a look or a backlog leaves some 100 kB of holes that nobody fills again. */
        (void) malloc_trim(0);
        if (answer->outcome == AWS_REFUSED) {
                /* The publisher seeks the culprit in smaller batches and drops it: no outage, and said once. */
                if (!agent->metrics_refused)
                        log_event(LOG_WARNING, MESSAGE_METRICS_FAILING,
                                (const LogField[]){ { "HEALTH_ERROR_CODE", .text = answer->code }, {} },
                                "CloudWatch refuses some of our metrics (%s %s); they are dropped, and "
                                "counted in "
                                "samples_dropped.",
                                answer->code, answer->message);
                agent->metrics_refused = true;
                return;
        }
        if (ok == !agent->metrics_failing)
                return;
        agent->metrics_failing = !ok;
        log_event(ok ? LOG_NOTICE : LOG_WARNING, ok ? MESSAGE_METRICS_RECOVERED : MESSAGE_METRICS_FAILING,
                (const LogField[]){ { "HEALTH_ERROR_CODE", .text = answer->code }, {} },
                ok ? "CloudWatch takes our metrics again%s%s%s%s."
                   : "CloudWatch does not take our metrics (%s%s%s %s); they are kept and sent later.",
                ok ? "" : aws_outcome_to_string(answer->outcome), ok || answer->code[0] == '\0' ? "" : ", ",
                ok ? "" : answer->code, ok ? "" : answer->message);
}

static uint32_t lend_mounts(const DiskMount **ret, void *userdata) {
        Agent *agent = userdata;

        return observer_mounts(agent->observer, ret);
}

static bool has_config_error(void *userdata) {
        Agent *agent = userdata;

        return config_has_error(agent->config);
}

static void on_status(JsonWriter *writer, void *userdata) {
        Agent *agent = userdata;
        PublisherState published;
        StackView stack;
        StatusView view = {
                .now = loop_now(agent->event),
                .started = agent->started,
                .version = ECS_HEALTH_AGENT_VERSION,
                .agent_version = observer_agent_version(agent->observer),
                .core = &agent->core,
                .target = &agent->target,
                .control_host = observer_control_host(agent->observer),
                .pause = &agent->pause,
                .settings = &agent->settings,
                .problems = config_problems(agent->config),
                .settings_path = config_path(agent->config),
                .stack = &stack,
                .published = &published,
                .credentials = aws_credentials_state(agent->credentials),
                .credentials_detail = aws_credentials_detail(agent->credentials),
                .keys_refused = aws_refused_keys(agent->aws),
                .clock_offset = aws_clock_offset(agent->aws),
                .journal_error = agent->journal_disk_error,
                .last_call = agent->last_call,
                .helpers_stuck = helper_n_stuck(agent->helper),
        };

        reporter_state(agent->reporter, &published);
        config_stack(agent->config, &stack);
        view.n_mounts = observer_mounts(agent->observer, &view.mounts);
        status_write(&view, writer);
}

/* --- what depends on the settings -------------------------------------------------------------------------------- */

static uint32_t witnesses_on(const Settings *settings) {
        static const char *const names[WITNESS_N] = {
                [WITNESS_INTROSPECTION] = "introspection",
                [WITNESS_LOG] = "log",
                [WITNESS_SOCKETS] = "sockets",
                [WITNESS_UNITS] = "units",
                [WITNESS_DOCKER] = "docker",
                [WITNESS_PATH] = "path",
                [WITNESS_DISKS] = "disks",
                [WITNESS_MEMORY] = "memory",
                [WITNESS_METADATA] = "metadata",
        };
        uint32_t set = 0;

        for (unsigned i = 0; i < WITNESS_N; i++)
                if (settings_witness_on(settings, names[i]))
                        set |= 1u << i;
        return set;
}

static int replace_path(char **path, const char *with) {
        char *rooted = NULL;
        int r = file_root(with, &rooted);

        if (r < 0)
                return r;
        free(*path);
        *path = rooted;
        return 0;
}

static int make_observer(Agent *agent) {
        const Settings *settings = &agent->settings;
        const char *mounts[OPTION_LIST_MAX + 1], *ignored[OPTION_LIST_MAX + 1];
        ObserverOptions options = {
                .root = agent->root,
                .endpoint = settings->endpoint,
                .ecs_unit = settings->unit,
                .docker_unit = settings->docker_unit,
                .mounts = mounts,
                .ignore_fstypes = ignored,
                /* However seldom metrics are sampled: the verdict needs its witnesses fresh. */
                .every = span_min(settings->sample, WITNESS_PERIOD_MAX),
                .witnesses = witnesses_on(settings),
        };
        int r;

        r = replace_path(&agent->log_path, settings->log);
        if (r < 0)
                return r;
        r = replace_path(&agent->docker_path, settings->docker_socket);
        if (r < 0)
                return r;
        options.log = agent->log_path;
        options.docker_socket = agent->docker_path;
        option_list_array(&settings->mounts, mounts);
        option_list_array(&settings->ignore_fstypes, ignored);
        if (settings->mounts.n == 0 || strcmp(mounts[0], "auto") == 0)
                options.mounts = NULL;

        agent->observer = observer_free(agent->observer);
        r = observer_new(&agent->observer, agent->event, agent->helper, agent->http, agent->imds, &options,
                on_sample, agent);
        if (r < 0)
                return r;
        observer_on_identity(agent->observer, on_identity, agent);
        return 0;
}

static int make_reporter(Agent *agent) {
        const Settings *settings = &agent->settings;
        ReporterOptions options = {
                .aws = agent->aws,
                .core = &agent->core,
                .name_space = settings->name_space,
                .spool = agent->spool_path,
                .sample = settings->sample,
                .period = settings->period,
                .per_instance = settings->per_instance,
                .max_series = (unsigned) settings->max_series,
                .done = on_published,
                .mounts = lend_mounts,
                .config_error = has_config_error,
                .userdata = agent,
        };
        int r;

        agent->reporter = reporter_free(agent->reporter);
        r = reporter_new(&agent->reporter, agent->event, &options);
        if (r < 0)
                return r;
        return agent->introduced ? reporter_target(agent->reporter, &agent->target) : 0;
}

/* Return: whether the witnesses must be made anew for @new to count. */
static bool watches_otherwise(const Settings *old, const Settings *new) {
        return strcmp(old->endpoint, new->endpoint) != 0 || strcmp(old->log, new->log) != 0 ||
               strcmp(old->unit, new->unit) != 0 || strcmp(old->docker_socket, new->docker_socket) != 0 ||
               strcmp(old->docker_unit, new->docker_unit) != 0 || old->sample != new->sample ||
               memcmp(&old->mounts, &new->mounts, sizeof(old->mounts)) != 0 ||
               memcmp(&old->ignore_fstypes, &new->ignore_fstypes, sizeof(old->ignore_fstypes)) != 0 ||
               memcmp(&old->witnesses, &new->witnesses, sizeof(old->witnesses)) != 0;
}

static bool publishes_otherwise(const Settings *old, const Settings *new) {
        return strcmp(old->name_space, new->name_space) != 0 || old->sample != new->sample ||
               old->period != new->period || old->per_instance != new->per_instance ||
               old->max_series != new->max_series;
}

static int on_settings(void *userdata) {
        Agent *agent = userdata;
        const Settings *new = config_settings(agent->config);
        bool watch = watches_otherwise(&agent->settings, new),
             publish = publishes_otherwise(&agent->settings, new),
             changed = !settings_equal(&agent->settings, new),
             needs_otherwise =
                     agent->described && (agent->settings.policy.action != new->policy.action ||
                                                 agent->settings.policy.orphan != new->policy.orphan);
        int r = 0;

        agent->settings = *new;
        if (publish)
                r = make_reporter(agent);
        if (r >= 0 && watch)
                r = make_observer(agent);
        if (r < 0)
                return r;
        agent_step(agent, &(Event){ .type = EVENT_POLICY, .policy = new->policy });
        describe(agent);
        if (needs_otherwise)
                probe_rights(agent);
        if (changed)
                log_event(LOG_NOTICE, MESSAGE_SETTINGS_APPLIED, NULL,
                        "New settings are in force, action: %s.", action_to_string(new->policy.action));
        return 0;
}

/* --- the pause switch -------------------------------------------------------------------------------------------- */

static void pause_reload(void *userdata) {
        Agent *agent = userdata;
        Now now = loop_now(agent->event);
        Event event = { .type = EVENT_PAUSED };
        bool was = agent->pause.paused;

        (void) pause_read(agent->pause_path, now.wall, &agent->pause);
        timer_disarm(agent->pausing);
        if (agent->pause.paused) {
                event.paused_until = MONO_INFINITE;
                if (wall_is_set(agent->pause.until)) {
                        event.paused_until = mono_add(now.mono, wall_since(agent->pause.until, now.wall));
                        (void) timer_arm(agent->pausing, mono_add(event.paused_until, SPAN_SEC(1)));
                }
        }
        if (was != agent->pause.paused)
                log_event(LOG_NOTICE, MESSAGE_PAUSED,
                        (const LogField[]){ { "HEALTH_REASON", .text = agent->pause.reason }, {} },
                        agent->pause.paused ? "Paused by %s: %s" : "Resumed.%s%s", agent->pause.by,
                        agent->pause.reason[0] != '\0' ? agent->pause.reason : "no reason given");
        agent_step(agent, &event);
        describe(agent);
}

/* The file has changed, which no clock does: if there is none now, somebody has resumed this host. */
static void on_pause_file(void *userdata) {
        Agent *agent = userdata;

        pause_reload(agent);
        if (!agent->pause.paused)
                agent_step(agent, &(Event){ .type = EVENT_RESUMED });
}

static void on_pausing(Timer *timer, Now now, void *userdata) {
        (void) timer;
        (void) now;
        pause_reload(userdata);
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Agent *agent = userdata;
        uint64_t now = 0;

        (void) source;
        (void) info;
        /* systemd compares it with its own CLOCK_MONOTONIC; ours counts suspends as well. */
        (void) sd_event_now(agent->event, CLOCK_MONOTONIC, &now);
        (void) sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now);
        config_reload(agent->config);
        pause_reload(agent);
        (void) sd_notify(false, "READY=1");
        return 0;
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Agent *agent = userdata;

        (void) source;
        (void) info;
        (void) sd_notify(false, "STOPPING=1");
        return sd_event_exit(agent->event, 0);
}

static int add_signals(Agent *agent) {
        sigset_t set;
        int r;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGHUP);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return -errno;
        r = sd_event_add_signal(agent->event, NULL, SIGTERM, on_stop, agent);
        if (r < 0)
                return r;
        r = sd_event_add_signal(agent->event, NULL, SIGINT, on_stop, agent);
        if (r < 0)
                return r;
        return sd_event_add_signal(agent->event, NULL, SIGHUP, on_reload, agent);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

#define SHOWN_URL_MAX 256

/* For logs: before an @ there may be a password. */
static const char *hide_login(const char *url, char text[static SHOWN_URL_MAX]) {
        const char *at = strrchr(url, '@');
        size_t n = strspn(url, "abcdefghijklmnopqrstuvwxyz0123456789+-.");

        n = strncmp(url + n, "://", 3) == 0 ? n + 3 : 0;
        (void) snprintf(
                text, SHOWN_URL_MAX, "%.*s%s%s", (int) n, url, at ? "***@" : "", at ? at + 1 : url + n);
        return text;
}

/*
 * What is wrong here is complained of at once, and then lived with: the host is watched all the same, and a bundle may
 * come late. The ECS agent takes proxies that we do not.
 */
static int make_http(Agent *agent) {
        char shown[SHOWN_URL_MAX];
        HttpOptions options;
        const char *why;
        bool theirs;
        int r;

        theirs = config_http(&agent->ecs, &options);
        r = http_new(&agent->http, agent->event, agent->helper, &options);
        if (r == -EINVAL && options.https_proxy) {
                log_error("%s is \"%s\", which is not http://HOST:PORT or https://HOST:PORT, with "
                          "USER:PASSWORD@ before HOST if need be: AWS is asked without a proxy.",
                        theirs ? "The proxy of the ECS agent's ecs.config" : "HTTPS_PROXY",
                        hide_login(options.https_proxy, shown));
                options.https_proxy = NULL;
                r = http_new(&agent->http, agent->event, agent->helper, &options);
        }
        if (r >= 0 && options.ca_bundle && *options.ca_bundle && http_trust(agent->http, &why) < 0)
                log_error("AWS_CA_BUNDLE is \"%s\": %s. No AWS call can work until that is a file of "
                          "certificates in PEM form.",
                        options.ca_bundle, why);
        return r;
}

/* Two daemons on one host would each drain and detach, and write over each other's journal. */
static int take_lock(Agent *agent, const char *run) {
        _cleanup_(freep) char *path = NULL;

        if (asprintf(&path, "%s/lock", run) < 0)
                return -ENOMEM;
        agent->lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (agent->lock < 0) {
                /* The journal decides whether one can work without a run directory. */
                log_debug("%s: %s; a second daemon would not be noticed.", path, strerror(errno));
                return 0;
        }
        if (flock(agent->lock, LOCK_EX | LOCK_NB) >= 0)
                return 0;
        if (errno != EWOULDBLOCK)
                return -errno;
        log_error("Another ecs-health-agent runs on this host and holds %s. Stop it first: systemctl stop "
                  "ecs-health-agent.",
                path);
        return -EBUSY;
}

static int make_paths(Agent *agent) {
        static const char none[] = "";
        const char *root = getenv("ECS_HEALTH_AGENT_ROOT");
        _cleanup_(freep) char *run = NULL, *state = NULL, *boot_id_path = NULL, *boot_id = NULL;
        _cleanup_(freep) char *traces = NULL;
        int r;

        agent->root = strdup(root ? root : none);
        if (!agent->root)
                return -ENOMEM;
        if (replace_path(&agent->pause_path, PAUSE_FILE) < 0 ||
                replace_path(&agent->spool_path, SPOOL_FILE) < 0 ||
                replace_path(&agent->status_path, STATUS_SOCKET) < 0 || file_root(RUN_DIRECTORY, &run) < 0 ||
                file_root(STATE_DIRECTORY, &state) < 0 || file_root(BOOT_ID_FILE, &boot_id_path) < 0 ||
                file_root(TRACE_DIRECTORY, &traces) < 0 || trace_new(&agent->trace, traces) < 0)
                return -ENOMEM;
        if (file_read(boot_id_path, sizeof(agent->boot_id), &boot_id, NULL) >= 0)
                (void) snprintf(agent->boot_id, sizeof(agent->boot_id), "%.*s", (int) strcspn(boot_id, "\n"),
                        boot_id);
        r = journal_new(&agent->journal, run, state);
        if (r >= 0)
                return take_lock(agent, run);
        log_error("Neither %s nor %s can be used for the journal: %s.", run, state, strerror(-r));
        return r;
}

static int make_config(Agent *agent) {
        _cleanup_(freep) char *path = NULL, *cache = NULL;
        ConfigOptions options = {
                .http = agent->http,
                .aws = agent->aws,
                .imds = agent->imds,
                .changed = on_settings,
                .userdata = agent,
        };
        int r;

        if (file_root(SETTINGS_FILE, &path) < 0 || file_root(STACK_CACHE_FILE, &cache) < 0)
                return -ENOMEM;
        options.path = path;
        options.cache = cache;
        r = config_new(&agent->config, agent->event, &options);
        if (r < 0)
                return r;
        agent->settings = *config_settings(agent->config);
        core_init(&agent->core, &agent->settings.policy, loop_random(), loop_now(agent->event));
        return 0;
}

static int make_parts(Agent *agent) {
        ActorOptions actor = {
                .answered = on_answered,
                .called = on_called,
                .registered = on_registered,
                .userdata = agent,
        };
        int r;

        /* Before anything else: a small process forks cheaply, and the helper inherits no connection. */
        r = helper_new(&agent->helper, agent->event);
        if (r < 0)
                return r;
        r = make_http(agent);
        if (r < 0)
                return r;
        r = imds_new(&agent->imds, agent->event, agent->http);
        if (r < 0)
                return r;
        r = aws_credentials_new(&agent->credentials, agent->event, agent->imds);
        if (r < 0)
                return r;
        r = aws_new(&agent->aws, agent->event, agent->http, agent->credentials);
        if (r < 0)
                return r;
        r = make_config(agent);
        if (r < 0)
                return r;
        actor.aws = agent->aws;
        actor.imds = agent->imds;
        r = actor_new(&agent->actor, agent->event, &actor);
        if (r < 0)
                return r;
        r = timer_new(&agent->waking, agent->event, "agent-wake", SPAN_MSEC(50), on_waking, agent);
        if (r < 0)
                return r;
        r = timer_new(
                &agent->introducing, agent->event, "agent-introduce", SPAN_SEC(1), on_introducing, agent);
        if (r < 0)
                return r;
        r = timer_new(&agent->telling, agent->event, "agent-tell", SPAN_SEC(1), on_telling, agent);
        if (r < 0)
                return r;
        r = timer_new(&agent->counting, agent->event, "agent-count", SPAN_MIN(1), on_counting, agent);
        if (r < 0)
                return r;
        r = timer_new(&agent->pausing, agent->event, "agent-pause", SPAN_SEC(1), on_pausing, agent);
        if (r < 0)
                return r;
        r = make_reporter(agent);
        if (r < 0)
                return r;
        return make_observer(agent);
}

static int make_doors(Agent *agent) {
        int r = status_server_new(&agent->status, agent->event, agent->status_path, on_status, agent);

        if (r < 0) /* a convenience for people; the job does not depend on it */
                log_warning("Status cannot be served at %s: %s.", agent->status_path, strerror(-r));
        return file_watch_new(&agent->pause_watch, agent->event, agent->pause_path, on_pause_file, agent);
}

static Agent *agent_free(Agent *agent) {
        if (!agent)
                return NULL;
        file_watch_free(agent->pause_watch);
        status_server_free(agent->status);
        timer_free(agent->waking);
        timer_free(agent->introducing);
        timer_free(agent->counting);
        timer_free(agent->telling);
        timer_free(agent->pausing);
        observer_free(agent->observer);
        reporter_free(agent->reporter);
        actor_free(agent->actor);
        config_free(agent->config);
        aws_free(agent->aws);
        aws_credentials_free(agent->credentials);
        imds_free(agent->imds);
        http_free(agent->http);
        helper_free(agent->helper);
        journal_free(agent->journal);
        trace_free(agent->trace);
        closep(&agent->lock);
        sd_event_unref(agent->event);
        free(agent->pause_path);
        free(agent->log_path);
        free(agent->docker_path);
        free(agent->spool_path);
        free(agent->status_path);
        free(agent->root);
        free(agent);
        return NULL;
}
DEFINE_CLEANUP(Agent, agent_free)

static int agent_new(Agent **ret) {
        _cleanup_(agent_freep) Agent *agent = calloc(1, sizeof(*agent));
        int r;

        if (!agent)
                return -ENOMEM;
        agent->lock = -1;
        r = sd_event_default(&agent->event);
        if (r < 0)
                return r;
        (void) sd_event_set_watchdog(agent->event, true);
        agent->started = loop_now(agent->event).wall;
        r = add_signals(agent);
        if (r < 0)
                return r;
        r = make_paths(agent);
        if (r < 0)
                return r;
        settings_ecs_config(&agent->ecs);
        r = make_parts(agent);
        if (r < 0)
                return r;
        r = make_doors(agent);
        if (r < 0)
                return r;

        *ret = steal_ptr(agent);
        return 0;
}

int agent_run(void) {
        _cleanup_(agent_freep) Agent *agent = NULL;
        int r;

        /* A core dump would hold the role's credentials, and may be copied anywhere. */
        (void) setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        log_open(getenv("ECS_HEALTH_AGENT_DEBUG") ? LOG_DEBUG : LOG_INFO);
        r = agent_new(&agent);
        if (r == -EBADMSG)
                return 2;
        if (r < 0) {
                log_error("The start failed: %s.", strerror(-r));
                return 1;
        }
        log_event(LOG_NOTICE, MESSAGE_STARTED, NULL, "ecs-health-agent %s watches %s, action: %s.",
                ECS_HEALTH_AGENT_VERSION, agent->settings.endpoint,
                action_to_string(agent->settings.policy.action));
        journal_restore(agent, NULL);
        pause_reload(agent);
        (void) sd_notify(false, "READY=1");

        r = sd_event_loop(agent->event);
        if (r < 0) {
                log_error("The event loop ended: %s.", strerror(-r));
                return 1;
        }
        return 0;
}
