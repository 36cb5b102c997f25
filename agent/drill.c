/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `drill`: what a lost connection would lead to on this host, now. The settings, the pause, the journal and
 * the rights are those of the daemon; the look at peers and group is a real one, with the real role. The rest is played
 * in virtual time by the same decisions. Of what calls AWS only the looker is made, which can only read.
 */

#include <string.h>
#include <sys/resource.h>

#include "agent/act/journal.h"
#include "agent/act/looker.h"
#include "agent/commands.h"
#include "agent/config.h"
#include "agent/doctor.h"
#include "agent/edges.h"
#include "agent/pause.h"
#include "agent/play.h"
#include "agent/settings.h"
#include "agent/status.h"
#include "common/file.h"
#include "common/parse.h"

#ifndef ECS_HEALTH_AGENT_VERSION
#define ECS_HEALTH_AGENT_VERSION "unversioned"
#endif

#define JOURNAL_FILE   "/var/lib/ecs-health-agent/journal"
#define LOOK_TIME      SPAN_SEC(12)
#define DRILL_JSON_MAX ((size_t) 4 * 1024 * 1024)
/* Longer than this a hold is shown no further, and no incident takes longer than that. */
#define HOLD_SHOWN SPAN_MIN(10)
#define DRILL_MAX  SPAN_HOUR(6)
/* The agent's log tells of a failed attempt this often; well within wedged_after. */
#define RETRY_EVERY SPAN_MIN(1)

typedef struct Drill {
        sd_event *event;
        Helper *helper;
        Http *http;
        Imds *imds;
        AwsCredentials *credentials;
        Aws *aws;
        Looker *looker;
        Timer *deadline;

        Settings settings;
        Pause pause;
        Target target;
        Rights rights;
        Restored restored;
        bool daemon; /* it runs and was asked */

        Look look; /* as it is now */
        bool answered;
        char failed[512]; /* the call that failed, in AWS's words */
        Now now;

        Core before; /* the host, well */
        Play play;
        bool begun;
        Mono lost, held;
        unsigned asked[EFFECT_TYPE_N];
} Drill;

static Drill *drill_free(Drill *drill) {
        if (!drill)
                return NULL;
        if (drill->begun)
                play_done(&drill->play);
        (void) looker_free(drill->looker);
        (void) aws_free(drill->aws);
        (void) aws_credentials_free(drill->credentials);
        (void) imds_free(drill->imds);
        (void) http_free(drill->http);
        (void) helper_free(drill->helper);
        (void) timer_free(drill->deadline);
        sd_event_unref(drill->event);
        free(drill);
        return NULL;
}
DEFINE_CLEANUP(Drill, drill_free)

/* --- how things stand here --------------------------------------------------------------------------------------- */

static void copy_text(const cJSON *object, const char *name, char *to, size_t n) {
        const char *text = NULL;

        if (json_get_string(object, name, &text) >= 0 && *text)
                (void) snprintf(to, n, "%s", text);
}

static void take_rights(Drill *drill, const cJSON *status) {
        const cJSON *rights, *item;
        const char *name, *granted;

        if (json_get_array(status, "rights", &rights) < 0)
                return;
        cJSON_ArrayForEach(item, rights) {
                if (json_get_string(item, "name", &name) < 0 ||
                        json_get_string(item, "granted", &granted) < 0)
                        continue;
                for (Right right = 0; right < RIGHT_N; right++)
                        if (strcmp(right_to_string(right), name) == 0)
                                drill->rights.granted[right] = strcmp(granted, "yes") == 0 ? GRANTED_YES
                                                               : strcmp(granted, "no") == 0
                                                                       ? GRANTED_NO
                                                                       : GRANTED_UNKNOWN;
        }
}

static void ask_daemon(Drill *drill) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        _cleanup_(json_freep) cJSON *status = NULL;
        const cJSON *identity;
        Target *target = &drill->target;
        size_t n = 0;

        if (file_root(STATUS_SOCKET, &path) < 0 || status_fetch(path, &text, &n) < 0 ||
                json_parse(text, n, NULL, &status) < 0)
                return;
        drill->daemon = true;
        take_rights(drill, status);
        if (json_get_object(status, "identity", &identity) < 0)
                return;
        copy_text(identity, "instance_id", target->instance_id, sizeof(target->instance_id));
        copy_text(identity, "cluster", target->cluster, sizeof(target->cluster));
        copy_text(identity, "group", target->group, sizeof(target->group));
        copy_text(identity, "zone", target->zone, sizeof(target->zone));
        copy_text(identity, "container_instance", target->arn, sizeof(target->arn));
}

static void read_journal(Drill *drill) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        JournalEntry entry;
        size_t n = 0;

        if (file_root(JOURNAL_FILE, &path) < 0 || file_read(path, JOURNAL_TEXT_MAX, &text, &n) < 0 ||
                journal_parse(text, n, &entry) < 0)
                return;
        if (drill->target.instance_id[0] == '\0')
                drill->target = entry.target;
        if (strcmp(entry.target.instance_id, drill->target.instance_id) != 0)
                return;
        /* Cooldown and the pause between repairs go by what was; the drill begins with a host that is well. */
        drill->restored.record = entry.record;
        drill->restored.record.stage = STAGE_WATCHING;
        drill->restored.record.drained = drill->restored.record.marked = false;
}

static int gather(Drill *drill) {
        _cleanup_(stack_cache_done) StackCache cache = {};
        _cleanup_(freep) char *config = NULL, *pause = NULL;
        static OptionProblems problems; /* too large for comfort on a stack */
        int r;

        r = file_root(SETTINGS_FILE, &config);
        if (r >= 0)
                r = file_root(PAUSE_FILE, &pause);
        if (r >= 0)
                r = config_read(config, &drill->settings, NULL, &problems, &cache);
        if (r == -EBADMSG)
                return command_error(
                        "%s\nThe settings are refused; see: " PROGRAM " check-config", problems.text[0]);
        if (r < 0)
                return command_error("drill: %s", strerror(-r));
        drill->now = clock_read();
        (void) pause_read(pause, drill->now.wall, &drill->pause);
        ask_daemon(drill);
        read_journal(drill);
        if (drill->target.instance_id[0] != '\0' && drill->target.cluster[0] != '\0')
                return EXIT_FINE;
        return command_error(
                drill->daemon
                        ? "the daemon does not know yet which instance and cluster this is. See "
                          "why: " PROGRAM " doctor"
                        : "the daemon does not run, and has left no word of which instance and cluster "
                          "this is. Start it: systemctl start " PROGRAM "; or run this as root, with sudo");
}

/* --- the look ---------------------------------------------------------------------------------------------------- */

/* "arn:PARTITION:ecs:REGION:..."; else the zone without its letter. */
static void find_region(const Target *target, char *region, size_t n, const char **ret_domain) {
        const char *from = target->arn, *set = service_variable("AWS_REGION", NULL);

        *ret_domain = strncmp(target->arn, "arn:aws-cn:", 11) == 0 ? "amazonaws.com.cn" : NULL;
        for (unsigned i = 0; from && i < 3; i++) {
                from = strchr(from, ':');
                from += from != NULL;
        }
        if (set)
                (void) snprintf(region, n, "%s", set);
        else if (from)
                (void) snprintf(region, n, "%.*s", (int) strcspn(from, ":"), from);
        else
                (void) snprintf(region, n, "%.*s", (int) (strlen(target->zone) - (*target->zone != '\0')),
                        target->zone);
}

static int make_way(Drill *drill) {
        HttpOptions options;
        SettingsEcs ecs;
        int r;

        settings_ecs_config(&ecs);
        (void) config_http(&ecs, &options);
        r = http_new(&drill->http, drill->event, drill->helper, &options);
        explicit_bzero(&ecs, sizeof(ecs));
        return r;
}

static int make_looker(Drill *drill) {
        char region[64];
        const char *domain;
        int r;

        r = sd_event_new(&drill->event);
        if (r >= 0)
                r = helper_new(&drill->helper, drill->event);
        if (r >= 0)
                r = make_way(drill);
        if (r >= 0)
                r = imds_new(&drill->imds, drill->event, drill->http);
        if (r >= 0)
                r = aws_credentials_new(&drill->credentials, drill->event, drill->imds);
        if (r >= 0)
                r = aws_new(&drill->aws, drill->event, drill->http, drill->credentials);
        find_region(&drill->target, region, sizeof(region), &domain);
        if (r >= 0)
                r = aws_set_region(drill->aws, region, domain);
        if (r >= 0)
                r = looker_new(&drill->looker, drill->event, drill->aws, drill->imds);
        return r;
}

static void on_looked(const Look *look, const AwsAnswer *answer, void *userdata) {
        Drill *drill = userdata;

        drill->look = *look;
        drill->answered = true;
        if (answer)
                (void) snprintf(drill->failed, sizeof(drill->failed), "%s%s%s",
                        aws_outcome_to_string(answer->outcome), *answer->code ? ", " : "", answer->code);
        (void) sd_event_exit(drill->event, 0);
}

static void begin_look(void *userdata) {
        Drill *drill = userdata;

        const LookOrder order = { .target = &drill->target, .policy = &drill->settings.policy };

        if (looker_start(drill->looker, &order, on_looked, drill) < 0)
                (void) sd_event_exit(drill->event, 0);
}

static void on_drill_time(Timer *timer, Now now, void *userdata) {
        Drill *drill = userdata;

        (void) timer;
        (void) now;
        (void) sd_event_exit(drill->event, 0);
}

static int take_look(Drill *drill) {
        AwsKeys keys;
        int r;

        r = make_looker(drill);
        if (r >= 0)
                r = timer_new(&drill->deadline, drill->event, "drill", SPAN_MSEC(50), on_drill_time, drill);
        if (r >= 0)
                r = timer_arm(drill->deadline, mono_add(loop_now(drill->event).mono, LOOK_TIME));
        if (r < 0)
                return r;
        /* The keys come first: a look without them would fail for that alone. */
        if (aws_credentials_get(drill->credentials, &keys) >= 0)
                begin_look(drill);
        else
                aws_credentials_wait(drill->credentials, begin_look, drill);
        explicit_bzero(&keys, sizeof(keys));
        r = sd_event_loop(drill->event);
        if (r >= 0 && !drill->answered) {
                drill->look = (Look){ .outcome = OUTCOME_UNAVAILABLE, .failed = LOOK_METADATA };
                (void) snprintf(drill->failed, sizeof(drill->failed), "no answer within %d s",
                        (int) (LOOK_TIME / SPAN_SEC(1)));
        }
        return r < 0 ? r : 0;
}

/* --- the play ---------------------------------------------------------------------------------------------------- */

static void count_ourselves(Population *population) {
        population->sick++;
        if (population->members < population->sick)
                population->members = population->sick;
}

/* The look as it is now, but for ourselves: lost. */
static Look look_without_us(const Drill *drill, Now now) {
        Look look = drill->look;

        if (wall_is_set(look.server_time))
                look.server_time = wall_add(look.server_time, mono_since(now.mono, drill->now.mono));
        if (drill->asked[EFFECT_DRAIN] > drill->asked[EFFECT_UNDRAIN] && look.own.status == CONTROL_ACTIVE)
                look.own.status = CONTROL_DRAINING;
        if (look.outcome != OUTCOME_OK || look.own.outcome != OUTCOME_OK || !look.own.connected)
                return look;
        look.own.connected = false;
        count_ourselves(&look.cluster);
        count_ourselves(&look.group);
        count_ourselves(&look.zone);
        if (look.n_sick < LOOK_SICK_MAX) {
                memmove(&look.sick[1], &look.sick[0], look.n_sick * sizeof(look.sick[0]));
                look.sick[0] = look.self;
                look.n_sick++;
                look.n_sick_ours++;
        }
        return look;
}

static bool drill_answer(const Effect *effect, Now now, Event *ret, Span *ret_delay, void *userdata) {
        Drill *drill = userdata;

        drill->asked[effect->type]++;
        *ret_delay = SPAN_MSEC(200);
        ret->outcome = OUTCOME_OK;
        switch (effect->type) {
        case EFFECT_CONFIRM:
                ret->type = EVENT_CONFIRMED;
                ret->confirmed = (Confirmation){ .status = CONTROL_ACTIVE };
                return true;
        case EFFECT_LOOK:
                ret->type = EVENT_LOOKED;
                ret->look = look_without_us(drill, now);
                return true;
        case EFFECT_VERIFY:
                ret->type = EVENT_VERIFIED;
                ret->verified = (Verification){ .lifecycle = drill->settings.policy.action == ACTION_STANDBY
                                                                     ? LIFECYCLE_STANDBY
                                                                     : LIFECYCLE_DETACHED };
                return true;
        case EFFECT_END: ret->type = EVENT_ENDED; return true;
        case EFFECT_SWEEP: ret->type = EVENT_SWEPT; return true;
        case EFFECT_REPAIR: ret->type = EVENT_REPAIRED; return true;
        case EFFECT_DRAIN: ret->type = EVENT_DRAINED; return true;
        case EFFECT_UNDRAIN: ret->type = EVENT_UNDRAINED; return true;
        case EFFECT_DETACH: ret->type = EVENT_DETACHED; return true;
        case EFFECT_PROBE:
        case EFFECT_FORGET: break;
        }
        return false;
}

/* What a witness says of a host that is well but for the connection. Return: whether it says anything. */
static bool imagine(const Drill *drill, Witness witness, bool lost, Mono now, Sample *ret) {
        const UnitSample active = {
                .exists = true, .state = UNIT_ACTIVE, .intent = INTENT_NONE, .exit_status = -1
        };

        *ret = (Sample){ .witness = witness, .sight = SIGHT_CLEAR };
        switch (witness) {
        case WITNESS_INTROSPECTION:
                ret->introspection = (IntrospectionSample){ ANSWER_GOOD, ANSWER_GOOD, true, -1, -1 };
                return true;
        case WITNESS_LOG:
                ret->log = (LogSample){ .line = LOG_LINE_NONE, .at = now, .written = now };
                return false; /* it speaks when there is news */
        case WITNESS_SOCKETS:
                ret->sockets = (SocketsSample){ .listener = true,
                        .n_control = !lost,
                        .link_known = true,
                        .link_present = !lost,
                        .data_age = -1,
                        .ack_age = -1 };
                return true;
        case WITNESS_UNITS: ret->units = (UnitsSample){ active, active }; return true;
        case WITNESS_DOCKER:
                ret->docker = (DockerSample){ ANSWER_GOOD, ANSWER_GOOD, SPAN_MSEC(1) };
                return true;
        case WITNESS_PATH: ret->path = (PathSample){ PATH_WORKS, SPAN_MSEC(10) }; return lost;
        case WITNESS_DISKS: ret->disks = (DisksSample){ .n = 1 }; return true;
        case WITNESS_MEMORY: ret->memory = (MemorySample){ .available = 5000, .used = 5000 }; return true;
        case WITNESS_METADATA:
                ret->metadata.lifecycle =
                        drill->look.outcome == OUTCOME_OK ? drill->look.lifecycle : LIFECYCLE_IN_SERVICE;
                return true;
        }
        return false;
}

static Event log_event_of(LogLine line, Mono now) {
        Event event = { .type = EVENT_SAMPLE };

        event.sample = (Sample){ .witness = WITNESS_LOG, .sight = SIGHT_CLEAR };
        event.sample.log = (LogSample){ .line = line, .at = now, .written = now };
        return event;
}

static void warm_up(Drill *drill) {
        Now now = drill->now;
        Event events[WITNESS_N + 6] = { { .type = EVENT_RESTORED }, { .type = EVENT_RIGHTS },
                { .type = EVENT_GROUP }, { .type = EVENT_PAUSED } };
        size_t n = 4;
        Plan plan;

        drill->restored.registered_before = drill->restored.answered_this_boot = true;
        drill->restored.same_boot = true;
        events[0].restored = drill->restored;
        events[1].rights = drill->rights;
        events[2].lifecycle = drill->look.outcome == OUTCOME_OK ? drill->look.lifecycle : LIFECYCLE_UNKNOWN;
        if (drill->pause.paused)
                events[3].paused_until =
                        wall_is_set(drill->pause.until)
                                ? mono_add(now.mono, wall_since(drill->pause.until, now.wall))
                                : MONO_INFINITE;
        events[n++] = log_event_of(LOG_LINE_CONNECTED, now.mono);
        for (unsigned i = 0; i < WITNESS_N; i++) {
                Event event = { .type = EVENT_SAMPLE };

                if (imagine(drill, (Witness) i, false, now.mono, &event.sample))
                        events[n++] = event;
        }
        core_init(&drill->before, &drill->settings.policy, (uint64_t) now.wall.usec, now);
        for (unsigned round = 0; round < 3; round++)
                for (size_t i = round == 0 ? 0 : 4; i < n; i++)
                        core_step(&drill->before, &events[i], now, &plan);
}

static bool would_act(const Drill *drill) {
        return drill->play.core.stage == STAGE_REMOVED || drill->play.core.stage == STAGE_ENDING;
}

static bool is_over(Drill *drill) {
        const Core *core = &drill->play.core;
        Mono now = drill->play.now.mono;

        if (core->stage == STAGE_HELD && !mono_is_set(drill->held))
                drill->held = now;
        return would_act(drill) || mono_since(now, drill->lost) > DRILL_MAX ||
               (core->stage == STAGE_HELD && mono_since(now, drill->held) > HOLD_SHOWN);
}

static void play_lost(Drill *drill) {
        Play *play = &drill->play;
        Span every = span_min(drill->settings.sample, SPAN_SEC(10));
        Mono retry;
        Event event;

        warm_up(drill);
        play_begin(play, &drill->before, drill->now, drill_answer, drill);
        drill->begun = true;
        drill->lost = retry = mono_add(drill->now.mono, SPAN_SEC(1));
        event = log_event_of(LOG_LINE_LOST, drill->lost);
        play_event(play, &event, drill->lost);
        for (Mono at = drill->lost; !is_over(drill); at = mono_add(at, every)) {
                for (unsigned i = 0; i < WITNESS_N; i++) {
                        event = (Event){ .type = EVENT_SAMPLE };
                        if (imagine(drill, (Witness) i, true, at, &event.sample))
                                play_event(play, &event, at);
                }
                if (!mono_before(at, mono_add(retry, RETRY_EVERY))) {
                        retry = at;
                        event = log_event_of(LOG_LINE_FAILED, at);
                        play_event(play, &event, at);
                }
        }
}

/* --- the report -------------------------------------------------------------------------------------------------- */

/** What an effect would change, by its IAM name. */
typedef struct CallRow {
        EffectType effect;
        const char *action, *what;
        Action action_is; /* DETACH: the setting by which it is this call */
} CallRow;

static const CallRow changes[] = {
        { EFFECT_REPAIR, "D-Bus RestartUnit", "the agent's service on this host" },
        { EFFECT_DRAIN, "ecs:PutAttributes", "ecs-health-agent.incident, on this container instance" },
        { EFFECT_DRAIN, "ecs:UpdateContainerInstancesState", "this container instance to DRAINING" },
        { EFFECT_DETACH, "autoscaling:DetachInstances", "this instance, desired capacity unchanged",
                ACTION_DETACH },
        { EFFECT_DETACH, "autoscaling:SetInstanceHealth", "this instance to Unhealthy", ACTION_UNHEALTHY },
        { EFFECT_DETACH, "autoscaling:EnterStandby", "this instance, desired capacity unchanged",
                ACTION_STANDBY },
        { EFFECT_UNDRAIN, "ecs:UpdateContainerInstancesState", "this container instance back to ACTIVE" },
};

static bool is_changed(const Drill *drill, const CallRow *row) {
        return drill->asked[row->effect] > 0 &&
               (row->effect != EFFECT_DETACH || row->action_is == drill->settings.policy.action);
}

static void ending_text(const Drill *drill, char *buffer, size_t n) {
        static const char *const outcomes[ACTION_N] = {
                [ACTION_OBSERVE] = "out of its group",
                [ACTION_DETACH] = "out of its group",
                [ACTION_UNHEALTHY] = "declared unhealthy, for its group to replace,",
                [ACTION_STANDBY] = "on standby",
        };
        const Core *core = &drill->play.core;
        char span[FORMAT_SPAN_MAX];
        Span took = mono_since(drill->play.now.mono, drill->lost) / SPAN_SEC(1) * SPAN_SEC(1);

        if (would_act(drill))
                (void) snprintf(buffer, n, "This instance would be %s %s after the connection was lost.",
                        outcomes[core->policy.action], format_span(span, took));
        else if (core->stage == STAGE_HELD)
                (void) snprintf(buffer, n, "This instance would stay: brakes hold.");
        else
                (void) snprintf(buffer, n, "This instance would stay: stage %s, %s",
                        stage_to_string(core->stage), cause_to_sentence(core->verdict.cause));
}

static const char *const assumptions[] = {
        "the connection stays lost, and every attempt of the agent to connect fails;",
        "our own way to the control plane works, so that it is this host's fault;",
        "a restart of the agent does not help, and every call that would change something succeeds;",
        "peers and group stay as they are now.",
};

static void drill_print(const Drill *drill) {
        unsigned width = command_width();
        const Core *core = &drill->play.core;
        bool any = false;
        char text[512];

        printf("A drill: the connection of %s is lost now. Nothing is changed: AWS was only asked how "
               "things stand.\n\n",
                drill->target.instance_id);
        if (!drill->daemon)
                printf("The daemon does not run, so its rights are not known and were taken for "
                       "granted.\n\n");
        if (*drill->failed)
                printf("The look at peers and group failed: %s.\n\n", drill->failed);
        printf("Assumed:\n");
        for (size_t i = 0; i < ELEMENTSOF(assumptions); i++)
                printf("  - %s\n", assumptions[i]);
        printf("\nWhat would happen, and when:\n");
        story_print(&drill->play.story, width, stdout);
        ending_text(drill, text, sizeof(text));
        printf("\n%s\n", text);
        if (would_act(drill))
                printf("Then: %s\n", edges_orphan(core, drill->play.now, text, sizeof(text)));
        for (unsigned i = 0; i < BRAKE_N; i++)
                if ((core->brakes & 1u << i) != 0)
                        printf("  brake %-12s %s\n", brake_table[i].name, brake_table[i].doc);
        printf("\nWhat would be changed:\n");
        for (size_t i = 0; i < ELEMENTSOF(changes); i++)
                if (is_changed(drill, &changes[i])) {
                        printf("  %-34s %s\n", changes[i].action, changes[i].what);
                        any = true;
                }
        if (!any)
                printf("  nothing\n");
}

static int drill_json(const Drill *drill) {
        const Core *core = &drill->play.core;
        char text[512];
        JsonWriter w;
        int r;

        ending_text(drill, text, sizeof(text));
        json_writer_init(&w, DRILL_JSON_MAX);
        json_begin_object(&w, NULL);
        json_bool(&w, "would_act", would_act(drill));
        json_string(&w, "ending", text);
        json_string(&w, "afterwards",
                would_act(drill) ? edges_orphan(core, drill->play.now, text, sizeof(text)) : NULL);
        json_string(&w, "stage", stage_to_string(core->stage));
        json_string(&w, "instance", drill->target.instance_id);
        json_string(&w, "group", drill->target.group);
        json_string(&w, "cluster", drill->target.cluster);
        json_bool(&w, "daemon", drill->daemon);
        json_bool(&w, "looked", drill->look.outcome == OUTCOME_OK);
        json_string(&w, "look_failed", *drill->failed ? drill->failed : NULL);
        json_i64(&w, "seconds", mono_since(drill->play.now.mono, drill->lost) / SPAN_SEC(1));
        json_begin_array(&w, "brakes");
        for (unsigned i = 0; i < BRAKE_N; i++) {
                if ((core->brakes & 1u << i) == 0)
                        continue;
                json_begin_object(&w, NULL);
                json_string(&w, "name", brake_table[i].name);
                json_string(&w, "doc", brake_table[i].doc);
                json_end_object(&w);
        }
        json_end_array(&w);
        json_begin_array(&w, "changes");
        for (size_t i = 0; i < ELEMENTSOF(changes); i++)
                if (is_changed(drill, &changes[i]))
                        json_string(&w, NULL, changes[i].action);
        json_end_array(&w);
        json_begin_array(&w, "assumed");
        for (size_t i = 0; i < ELEMENTSOF(assumptions); i++)
                json_string(&w, NULL, assumptions[i]);
        json_end_array(&w);
        story_write(&drill->play.story, &w);
        json_end_object(&w);
        r = w.error;
        if (r >= 0)
                printf("%s\n", w.text);
        json_writer_done(&w);
        return r;
}

/* --- the command ------------------------------------------------------------------------------------------------- */

static int drill_help(void) {
        command_print_usage("drill", stdout);
        fputs("Plays a lost connection on this host, now, through the real decisions: with the settings in "
              "force, "
              "the pause, the\n"
              "journal, the rights that the daemon has found, and a real look at the peers and the Auto "
              "Scaling "
              "group with the\n"
              "role of this instance. Grace and waits pass in virtual time. It prints the timeline, the "
              "brakes "
              "that would hold,\n"
              "and the calls that would change something. None of them is sent.\n\n"
              "Options:\n"
              "  --json  as one JSON document, for programs\n\n"
              "Examples:\n"
              "  sudo " PROGRAM " drill\n"
              "  sudo " PROGRAM " drill --json | jq -r '.brakes[].name'\n\n"
              "Exit status: 0 the instance would be taken out, 1 it would stay, or the drill could not be "
              "played.\n",
                stdout);
        return EXIT_FINE;
}

static int drill_run(bool json) {
        _cleanup_(drill_freep) Drill *drill = calloc(1, sizeof(*drill));
        int r;

        if (!drill)
                return command_error("%s", strerror(ENOMEM));
        /* A core dump would hold the role's credentials. */
        (void) setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        service_environment();
        r = gather(drill);
        if (r != EXIT_FINE)
                return r;
        r = take_look(drill);
        if (r < 0)
                return command_error("cannot look at peers and group: %s", strerror(-r));
        play_lost(drill);
        if (json)
                r = drill_json(drill);
        else
                drill_print(drill);
        if (r < 0)
                return command_error("drill: %s", strerror(-r));
        return would_act(drill) ? EXIT_FINE : EXIT_PROBLEM;
}

int command_drill(int argc, char **argv) {
        return command_take_json(argc, argv, drill_help, drill_run);
}
