/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `replay`: a recorded trace through the same decisions again. With the recorded settings every plan must be
 * the recorded one. With other settings it shows what would have been: the witnesses say what they said then, and AWS
 * answers what it answered nearest to that time.
 */

#include <inttypes.h>
#include <string.h>

#include "agent/commands.h"
#include "agent/explain.h"
#include "agent/play.h"
#include "agent/settings.h"
#include "common/parse.h"

#ifndef ECS_HEALTH_AGENT_VERSION
#define ECS_HEALTH_AGENT_VERSION "unversioned"
#endif

#define REPLAY_JSON_MAX   ((size_t) 8 * 1024 * 1024)
#define DIFFERENCES_SHOWN 20
#define ANSWERS_MAX       2000
/* Where the trace leaves steps out, the witnesses repeat themselves as often as the daemon asks them. */
#define BRIDGE_EVERY SPAN_SEC(10)
/* An answer that was given further away than this says little about what it would have been. */
#define ANSWER_NEAR SPAN_MIN(5)

typedef struct Difference {
        unsigned line;
        Wall at;
        char *recorded, *now; /* plans as JSON */
} Difference;

typedef struct RecordedAnswer {
        Mono at;
        Event event;
} RecordedAnswer;

static bool is_out(Stage stage) {
        return stage == STAGE_REMOVED || stage == STAGE_ENDING;
}

typedef struct Replay {
        TraceReader reader;
        TraceLine *line;
        Core core;
        bool ready; /* the core is that of the trace */
        Story story;
        unsigned steps, skipped, broken, n_differences;
        Difference differences[DIFFERENCES_SHOWN];

        /* With other settings. */
        Play play;
        const Policy *policy;
        bool begun;
        RecordedAnswer *answers;
        size_t n_answers;
        unsigned assumed, far; /* answers that nobody gave; that were given at another time */
        bool bridged;
        Mono acted_at;  /* when the recording first repaired or drained; MONO_INFINITE: never */
        bool diverged;  /* the recording has done what we have not: its witnesses no longer fit */
        bool prolonged; /* the recording was over before the story was */
} Replay;

static Replay *replay_free(Replay *replay) {
        if (!replay)
                return NULL;
        trace_reader_done(&replay->reader);
        story_done(&replay->story);
        play_done(&replay->play);
        for (unsigned i = 0; i < DIFFERENCES_SHOWN; i++) {
                free(replay->differences[i].recorded);
                free(replay->differences[i].now);
        }
        free(replay->answers);
        free(replay->line);
        free(replay);
        return NULL;
}
DEFINE_CLEANUP(Replay, replay_free)

/* --- as it was --------------------------------------------------------------------------------------------------- */

static char *plan_text(const Plan *plan, Now now) {
        JsonWriter w;
        char *text;

        json_writer_init(&w, TRACE_LINE_MAX);
        trace_plan_write(&w, plan, now);
        text = w.error < 0 ? NULL : strdup(w.text);
        json_writer_done(&w);
        return text;
}

static void compare(Replay *replay, const Plan *plan, Now now) {
        char *recorded = plan_text(&replay->line->plan, now), *is = plan_text(plan, now);
        Difference *difference;

        if (!recorded || !is || strcmp(recorded, is) == 0 || replay->n_differences >= DIFFERENCES_SHOWN) {
                replay->n_differences += recorded && is && strcmp(recorded, is) != 0;
                free(recorded);
                free(is);
                return;
        }
        difference = &replay->differences[replay->n_differences++];
        *difference = (Difference){ replay->reader.line, now.wall, recorded, is };
}

static void replay_step(Replay *replay) {
        const TraceLine *line = replay->line;
        TraceAfter after;
        Plan plan;

        /* Time never runs backwards for the core; a file in which it does is not ours. */
        if (!replay->ready || mono_before(line->now.mono, replay->core.stepped)) {
                replay->skipped++;
                return;
        }
        core_step(&replay->core, &line->event, line->now, &plan);
        replay->steps++;
        compare(replay, &plan, line->now);
        after = trace_where(&replay->core);
        story_step(&replay->story, line->now, &line->event, &plan, &after);
}

static void replay_line(Replay *replay) {
        switch (replay->line->type) {
        case TRACE_HEADER:
        case TRACE_CUT: replay->ready = false; break;
        case TRACE_CORE:
                replay->core = replay->line->core;
                replay->ready = true;
                break;
        case TRACE_STEP: replay_step(replay); return;
        case TRACE_CALL: break;
        }
        story_line(&replay->story, replay->line);
}

/* --- as it would have been --------------------------------------------------------------------------------------- */

static EventType answer_type(EffectType effect) {
        switch (effect) {
        case EFFECT_CONFIRM: return EVENT_CONFIRMED;
        case EFFECT_LOOK: return EVENT_LOOKED;
        case EFFECT_REPAIR: return EVENT_REPAIRED;
        case EFFECT_DRAIN: return EVENT_DRAINED;
        case EFFECT_UNDRAIN: return EVENT_UNDRAINED;
        case EFFECT_DETACH: return EVENT_DETACHED;
        case EFFECT_VERIFY: return EVENT_VERIFIED;
        case EFFECT_END: return EVENT_ENDED;
        case EFFECT_SWEEP: /* what-if leaves patrol out */
        case EFFECT_PROBE:
        case EFFECT_FORGET: break;
        }
        return EVENT_TICK;
}

/* A look holds ECS's word on us as well. */
static bool answers_to(const Event *event, EventType type) {
        return event->type == type || (type == EVENT_CONFIRMED && event->type == EVENT_LOOKED &&
                                              event->look.own.outcome == OUTCOME_OK);
}

static const RecordedAnswer *nearest_answer(const Replay *replay, EventType type, Mono at) {
        const RecordedAnswer *best = NULL;
        Span least = SPAN_INFINITE;

        for (size_t i = 0; i < replay->n_answers; i++) {
                Span away = mono_since(replay->answers[i].at, at);

                away = away < 0 ? -away : away;
                /* What it was told after it had drained is about a drained host. */
                if ((type == EVENT_CONFIRMED || type == EVENT_LOOKED) &&
                        mono_before(replay->acted_at, replay->answers[i].at))
                        continue;
                if (answers_to(&replay->answers[i].event, type) && away < least) {
                        best = &replay->answers[i];
                        least = away;
                }
        }
        return best;
}

/* Nobody has answered this in the recording: what we would do is assumed to succeed, what we would ask is not known. */
static void assume(EffectType effect, Action action, Event *ret) {
        if (effect == EFFECT_CONFIRM)
                ret->confirmed.outcome = OUTCOME_UNAVAILABLE;
        else if (effect == EFFECT_LOOK)
                ret->look = (Look){ .outcome = OUTCOME_UNAVAILABLE, .failed = LOOK_ECS };
        else if (effect == EFFECT_VERIFY)
                ret->verified = (Verification){ .lifecycle = action == ACTION_STANDBY ? LIFECYCLE_STANDBY
                                                                                      : LIFECYCLE_DETACHED };
        else
                ret->outcome = OUTCOME_OK;
}

static bool replay_answer(const Effect *effect, Now now, Event *ret, Span *ret_delay, void *userdata) {
        Replay *replay = userdata;
        EventType type = answer_type(effect->type);
        const RecordedAnswer *answer;
        char span[FORMAT_SPAN_MAX];
        uint32_t ticket = ret->ticket;
        Span away;

        *ret_delay = SPAN_MSEC(200);
        if (type == EVENT_TICK)
                return false;
        answer = nearest_answer(replay, type, now.mono);
        if (!answer) {
                ret->type = type;
                assume(effect->type, (Action) replay->policy->action, ret);
                replay->assumed++;
                story_note(&replay->play.story, now.wall, "note", "The recording has no answer to this; %s.",
                        type == EVENT_CONFIRMED || type == EVENT_LOOKED ? "none is assumed to come"
                                                                        : "it is assumed to succeed");
                return true;
        }
        away = mono_since(answer->at, now.mono);
        *ret = answer->event;
        if (answer->event.type != type) {
                Confirmation own = answer->event.look.own;

                *ret = (Event){ .type = type, .confirmed = own };
        }
        ret->ticket = ticket;
        /* What it says of the time is as of then. */
        if (type == EVENT_LOOKED && wall_is_set(ret->look.server_time))
                ret->look.server_time = wall_add(ret->look.server_time, -away);
        away = away < 0 ? -away : away;
        if (away > ANSWER_NEAR) {
                replay->far++;
                story_note(&replay->play.story, now.wall, "note",
                        "The recorded answer nearest to this is %s away; it may have been another by then.",
                        format_span(span, away / SPAN_SEC(1) * SPAN_SEC(1)));
        }
        return true;
}

static bool is_answer_event(EventType type) {
        return type == EVENT_CONFIRMED || type == EVENT_LOOKED || type == EVENT_REPAIRED ||
               type == EVENT_DRAINED || type == EVENT_UNDRAINED || type == EVENT_DETACHED ||
               type == EVENT_VERIFIED || type == EVENT_ENDED || type == EVENT_SWEPT;
}

/* Which of them are about ourselves: patrol's are left out. */
static bool is_own_answer(const Event *event, uint32_t peer) {
        return is_answer_event(event->type) && event->type != EVENT_SWEPT &&
               (event->ticket == 0 || event->ticket != peer) &&
               !(event->type == EVENT_LOOKED && event->look.of_peer);
}

static uint32_t ticket_at_peer(const Plan *plan, uint32_t before) {
        for (unsigned i = 0; i < plan->n_effects; i++)
                if (plan->effects[i].peer)
                        return plan->effects[i].ticket;
        return before;
}

static bool acts(const Plan *plan) {
        for (unsigned i = 0; i < plan->n_effects; i++)
                if (!plan->effects[i].peer &&
                        (plan->effects[i].type == EFFECT_REPAIR || plan->effects[i].type == EFFECT_DRAIN))
                        return true;
        return false;
}

static int collect_answers(Replay *replay) {
        TraceReader ahead = replay->reader;
        uint32_t peer = 0;
        int r;

        replay->acted_at = MONO_INFINITE;
        replay->answers = calloc(ANSWERS_MAX, sizeof(*replay->answers));
        if (!replay->answers)
                return -ENOMEM;
        while (replay->n_answers < ANSWERS_MAX && (r = trace_reader_next(&ahead, replay->line)) != 0) {
                if (r == -ENOMEM)
                        return r;
                if (r < 0 || replay->line->type != TRACE_STEP)
                        continue;
                if (acts(&replay->line->plan))
                        replay->acted_at = mono_min(replay->acted_at, replay->line->now.mono);
                if (is_own_answer(&replay->line->event, peer))
                        replay->answers[replay->n_answers++] =
                                (RecordedAnswer){ replay->line->now.mono, replay->line->event };
                peer = ticket_at_peer(&replay->line->plan, peer);
        }
        return 0;
}

/* Up to @end each witness says what it said last, over and over; a line of the log is news once. */
static void repeat(Play *play, Mono end) {
        while (mono_before(mono_add(play->now.mono, BRIDGE_EVERY), end) && !is_out(play->core.stage)) {
                Mono at = mono_add(play->now.mono, BRIDGE_EVERY);

                for (unsigned i = 0; i < WITNESS_N; i++) {
                        Event event = { .type = EVENT_SAMPLE, .sample = play->core.checks.samples[i] };

                        if (i == WITNESS_LOG)
                                event.sample.log.line = LOG_LINE_NONE;
                        if (event.sample.sight != SIGHT_NONE)
                                play_event(play, &event, at);
                }
        }
        play_advance(play, end);
}

static void begin(Replay *replay) {
        Core core = replay->line->core;
        Now now = { core.stepped, { clock_add_saturating(core.stepped.usec, core.wall_offset) } };

        core.policy = *replay->policy;
        core.boot_grace_until = (Mono){ replay->policy->boot_grace };
        core.policy.patrol = false;
        core.awaiting = 0;
        play_begin(&replay->play, &core, now, replay_answer, replay);
        replay->begun = true;
}

static void replay_otherwise(Replay *replay) {
        const TraceLine *line = replay->line;
        Play *play = &replay->play;

        if (line->type == TRACE_CORE && !replay->begun)
                begin(replay);
        else if (line->type == TRACE_CORE && !replay->diverged &&
                 mono_before(play->now.mono, line->core.stepped)) {
                replay->bridged = true;
                repeat(play, line->core.stepped);
        }
        if (line->type != TRACE_STEP || !replay->begun || replay->diverged)
                return;
        /* Its own settings would undo ours; its answers belong to its own questions. */
        if (line->event.type != EVENT_POLICY && line->event.type != EVENT_RESTORED &&
                line->event.type != EVENT_TICK && !is_answer_event(line->event.type))
                play_event(play, &line->event, line->now.mono);
        replay->steps++;
        if (acts(&line->plan) && !play->story.repaired && !play->story.drained) {
                replay->diverged = true;
                story_note(&play->story, play->now.wall, "note",
                        "Here the daemon acted then. What the witnesses said afterwards does not fit any "
                        "more: "
                        "from here on they are taken to repeat themselves.");
        }
}

/* The recording is over, the host still ill: as if nothing changed, for as long as the settings need to end it. */
static void prolong(Replay *replay) {
        Play *play = &replay->play;
        const Policy *policy = replay->policy;
        Span enough = clock_add_saturating(policy->grace, policy->repair_wait);

        if (!replay->begun || play->core.stage == STAGE_WATCHING || is_out(play->core.stage))
                return;
        replay->prolonged = true;
        enough = span_min(clock_add_saturating(enough, policy->turn * 5), SPAN_HOUR(6));
        repeat(play, mono_add(play->now.mono, enough));
}

/* --- the report -------------------------------------------------------------------------------------------------- */

static void print_differences(const Replay *replay) {
        char time[FORMAT_TIME_MAX];

        for (unsigned i = 0; i < replay->n_differences && i < DIFFERENCES_SHOWN; i++)
                printf("  line %u, %s\n    recorded  %s\n    now       %s\n", replay->differences[i].line,
                        format_rfc3339(time, replay->differences[i].at), replay->differences[i].recorded,
                        replay->differences[i].now);
}

static void print_same(const Replay *replay, const char *file) {
        const char *version = replay->story.header.version;
        unsigned width = command_width();

        printf("%s: incident %" PRIu64 ", recorded by version %s.\n", file, replay->story.header.incident,
                *version ? version : "unknown");
        if (*version && strcmp(version, ECS_HEALTH_AGENT_VERSION) != 0)
                printf("This is version " ECS_HEALTH_AGENT_VERSION ", which may decide otherwise.\n");
        printf("\nWhat happened:\n");
        story_print(&replay->story, width, stdout);
        (void) fputc('\n', stdout);
        if (replay->skipped + replay->broken > 0)
                printf("%u lines could not be replayed: they are damaged, or what goes before them is "
                       "missing.\n",
                        replay->skipped + replay->broken);
        if (replay->n_differences == 0) {
                printf("%u steps were replayed, and each plan is the recorded one.\n", replay->steps);
                return;
        }
        printf("%u of %u steps lead to another plan now:\n", replay->n_differences, replay->steps);
        print_differences(replay);
}

static void print_otherwise(const Replay *replay, const char *file, const char *config) {
        const Story *story = &replay->play.story;
        char was[512], is[512];

        printf("%s: incident %" PRIu64 ", as it might have gone with the settings of %s.\n\n", file,
                replay->story.header.incident, config);
        story_print(story, command_width(), stdout);
        printf("\nAs it was:          %s\nWith these settings: %s\n",
                story_ending(&replay->story, was, sizeof(was)), story_ending(story, is, sizeof(is)));
        if (replay->assumed > 0)
                printf("%u answer%s had to be assumed: nobody asked this then.\n", replay->assumed,
                        replay->assumed == 1 ? "" : "s");
        if (replay->far > 0)
                printf("%u answer%s come%s from another time of the incident.\n", replay->far,
                        replay->far == 1 ? "" : "s", replay->far == 1 ? "s" : "");
        if (replay->bridged || replay->diverged)
                printf("Where the trace leaves time out, or no longer fits, the witnesses were taken to "
                       "repeat "
                       "themselves.\n");
        if (replay->prolonged)
                printf("The recording was over first: from there on nothing was taken to change.\n");
}

static int print_json(const Replay *replay) {
        const Story *story = replay->policy ? &replay->play.story : &replay->story;
        char text[512], time[FORMAT_TIME_MAX];
        JsonWriter w;
        int r;

        json_writer_init(&w, REPLAY_JSON_MAX);
        json_begin_object(&w, NULL);
        json_bool(&w, "same", !replay->policy && replay->n_differences == 0);
        json_i64(&w, "incident", (int64_t) replay->story.header.incident);
        json_string(&w, "recorded_by", replay->story.header.version);
        json_i64(&w, "steps", replay->steps);
        json_i64(&w, "unusable_lines", replay->skipped + replay->broken);
        json_i64(&w, "different", replay->n_differences);
        json_begin_array(&w, "differences");
        for (unsigned i = 0; i < replay->n_differences && i < DIFFERENCES_SHOWN; i++) {
                json_begin_object(&w, NULL);
                json_i64(&w, "line", replay->differences[i].line);
                json_string(&w, "at", format_rfc3339(time, replay->differences[i].at));
                json_string(&w, "recorded", replay->differences[i].recorded);
                json_string(&w, "now", replay->differences[i].now);
                json_end_object(&w);
        }
        json_end_array(&w);
        json_i64(&w, "assumed_answers", replay->assumed);
        json_i64(&w, "answers_of_another_time", replay->far);
        json_string(&w, "stage", story->known ? stage_to_string(story->now.stage) : NULL);
        json_string(&w, "ending", story_ending(story, text, sizeof(text)));
        story_write(story, &w);
        json_end_object(&w);
        r = w.error;
        if (r >= 0)
                printf("%s\n", w.text);
        json_writer_done(&w);
        return r;
}

/* --- the command ------------------------------------------------------------------------------------------------- */

static int read_settings(const char *path, Settings *settings) {
        static OptionProblems problems; /* too large for comfort on a stack */
        int r;

        if (access(path, F_OK) < 0)
                return command_error("%s: %s", path, strerror(errno)), EXIT_USAGE;
        r = settings_read(path, settings, NULL, &problems);
        if (r >= 0)
                return EXIT_FINE;
        if (r != -EBADMSG)
                return command_error("%s: %s", path, strerror(-r));
        for (unsigned i = 0; i < problems.n && i < OPTION_PROBLEMS_MAX; i++)
                fprintf(stderr, "%s\n", problems.text[i]);
        return EXIT_USAGE;
}

static int run(Replay *replay) {
        int r = 0;

        if (replay->policy)
                r = collect_answers(replay);
        while (r >= 0 && (r = trace_reader_next(&replay->reader, replay->line)) != 0) {
                if (r == -ENOMEM || r == -EPROTONOSUPPORT)
                        return r;
                replay->broken += r < 0;
                if (r > 0 && replay->policy) {
                        story_line(&replay->story, replay->line);
                        replay_otherwise(replay);
                } else if (r > 0) {
                        replay_line(replay);
                }
                r = 0;
        }
        if (replay->policy && r >= 0)
                prolong(replay);
        return r < 0 ? r : replay->steps > 0 ? 0 : -ENODATA;
}

static int replay_file(const char *file, const char *config, bool json) {
        _cleanup_(replay_freep) Replay *replay = calloc(1, sizeof(*replay));
        static Settings settings;
        int r;

        if (replay)
                replay->line = malloc(sizeof(*replay->line));
        if (!replay || !replay->line)
                return command_error("%s", strerror(ENOMEM));
        if (config) {
                r = read_settings(config, &settings);
                if (r != EXIT_FINE)
                        return r;
                replay->policy = &settings.policy;
        }
        r = trace_reader_open(&replay->reader, file);
        if (r < 0)
                return command_error("cannot read %s: %s%s", file, strerror(-r),
                        r == -EACCES ? ". Run it as root, with sudo" : "");
        r = run(replay);
        if (r == -EPROTONOSUPPORT)
                return command_error("%s has another format than version " ECS_HEALTH_AGENT_VERSION
                                     " reads; use the version that has made it",
                        file);
        if (r == -ENODATA)
                return command_error("%s is no trace: nothing in it can be replayed. The daemon leaves them "
                                     "in " TRACE_DIRECTORY,
                        file);
        if (r < 0)
                return command_error("%s: %s", file, strerror(-r));
        if (json)
                r = print_json(replay);
        else if (replay->policy)
                print_otherwise(replay, file, config);
        else
                print_same(replay, file);
        if (r < 0)
                return command_error("replay: %s", strerror(-r));
        return replay->n_differences > 0 ? EXIT_PROBLEM : EXIT_FINE;
}

static int help_replay(void) {
        command_print_usage("replay", stdout);
        fputs("Runs the trace of an incident through the decisions again, here, without a daemon and "
              "without "
              "AWS, prints the\n"
              "timeline, and compares: with the same version each plan must be the recorded one. Each "
              "difference is shown with\n"
              "its line and both plans.\n\n"
              "With --config it shows what might have happened with other settings. The witnesses say what "
              "they said then; what\n"
              "AWS is asked is answered by what it answered nearest to that time, and where the recording "
              "has "
              "no answer, that\n"
              "is said.\n\n"
              "Options:\n"
              "  --config FILE  the settings to decide by, as in /etc/ecs-health-agent/config.json\n"
              "  --json         as one JSON document, for programs\n\n"
              "Examples:\n"
              "  sudo " PROGRAM " replay " TRACE_DIRECTORY "/3" TRACE_SUFFIX "\n"
              "  sudo " PROGRAM " replay " TRACE_DIRECTORY "/3" TRACE_SUFFIX " --config new.json\n\n"
              "Exit status: 0 the same, or replayed with other settings; 1 different, or not a trace; 2 "
              "wrong "
              "usage or refused\n"
              "settings.\n",
                stdout);
        return EXIT_FINE;
}

int command_replay(int argc, char **argv) {
        static const struct option options[] = { { "config", required_argument, NULL, 'c' },
                { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, {} };
        const char *config = NULL;
        bool json = false;
        int c;

        while ((c = command_option_next(argc, argv, options)) >= 0)
                switch (c) {
                case 'c': config = optarg; break;
                case 'j': json = true; break;
                case 'h': return help_replay();
                default: return command_option_error("replay", argv, c);
                }
        if (optind == argc)
                return command_usage_error("replay",
                        "which trace? Expected a file, such as " TRACE_DIRECTORY "/3" TRACE_SUFFIX);
        if (argc - optind > 1)
                return command_usage_error("replay", "unexpected argument \"%s\"", argv[optind + 1]);
        return replay_file(argv[optind], config, json);
}
