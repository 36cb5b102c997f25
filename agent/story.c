/* SPDX-License-Identifier: Apache-2.0 */

/* Steps into sentences. Each thing is told once, when it changes. */

#include "agent/story.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "agent/edges.h"
#include "common/parse.h"

void story_done(Story *story) {
        free(story->rows);
        *story = (Story){};
}

void story_note(Story *story, Wall at, const char *kind, const char *format, ...) {
        StoryRow *row;
        va_list arguments;

        if (story->n == story->allocated) {
                size_t more = story->allocated ? story->allocated * 2 : 64;
                StoryRow *rows =
                        more > STORY_ROWS_MAX ? NULL : realloc(story->rows, more * sizeof(*story->rows));

                if (!rows) {
                        story->full = true;
                        return;
                }
                story->rows = rows;
                story->allocated = more;
        }
        row = &story->rows[story->n++];
        row->at = at;
        row->kind = kind;
        va_start(arguments, format);
        (void) vsnprintf(row->text, sizeof(row->text), format, arguments);
        va_end(arguments);
}

/* --- what a witness says ----------------------------------------------------------------------------------------- */

static void tell_log(const LogSample *log, char *buffer, size_t n) {
        static const char *const lines[LOG_LINE_N] = {
                [LOG_LINE_STARTED] = "the agent has started",
                [LOG_LINE_CONNECTED] = "the agent has connected",
                [LOG_LINE_CLOSED] = "the connection was closed as usual",
                [LOG_LINE_LOST] = "the connection was lost",
                /* One sentence: these three follow each other for as long as it is down. */
                [LOG_LINE_TRYING] = "the agent keeps trying to connect",
                [LOG_LINE_FAILED] = "the agent keeps trying to connect",
                [LOG_LINE_WAITING] = "the agent keeps trying to connect",
                [LOG_LINE_DEREGISTERED] = "the container instance is deregistered",
                [LOG_LINE_STOPPING] = "the agent is being stopped",
                [LOG_LINE_TERMINAL] = "the agent gives up for good",
                [LOG_LINE_UPDATING] = "the agent is being updated",
        };

        if (lines[log->line])
                (void) snprintf(buffer, n, "%s", lines[log->line]);
}

static void tell_sockets(const SocketsSample *sockets, char *buffer, size_t n) {
        const char *link = sockets->link_known      ? sockets->link_present
                                                              ? "the connection to the control plane is there"
                                                              : "no connection to the control plane"
                           : sockets->n_control > 0 ? "connections to the control plane are there"
                                                    : "no connection to the control plane";

        (void) snprintf(buffer, n, "%s%s%s", link,
                sockets->unacknowledged ? ", but it does not acknowledge" : "",
                sockets->listener ? "" : ", and nobody listens for introspection");
}

static void tell_units(const UnitsSample *units, char *buffer, size_t n) {
        const UnitSample *ecs = &units->ecs;
        char status[32] = "", intent[64] = "";

        if (ecs->state != UNIT_ACTIVE && ecs->exit_status >= 0)
                (void) snprintf(status, sizeof(status), ", exit status %d", ecs->exit_status);
        if (ecs->state != UNIT_ACTIVE && ecs->intent > INTENT_NONE)
                (void) snprintf(intent, sizeof(intent), ", %s", intent_to_string(ecs->intent));
        if (ecs->exists)
                (void) snprintf(buffer, n, "the agent's unit is %s%s%s; docker is %s",
                        unit_state_to_string(ecs->state), status, intent,
                        unit_state_to_string(units->docker.state));
        else
                (void) snprintf(buffer, n, "there is no unit of the agent's name");
}

/* What changes all the time is left out: a sentence is told again when it changes. */
static void say_clear(const Sample *sample, char *buffer, size_t n) {
        switch (sample->witness) {
        case WITNESS_INTROSPECTION:
                (void) snprintf(buffer, n, "metadata: %s, tasks: %s%s",
                        answer_to_string(sample->introspection.metadata),
                        answer_to_string(sample->introspection.tasks),
                        sample->introspection.metadata == ANSWER_GOOD && !sample->introspection.registered
                                ? ", not registered"
                                : "");
                break;
        case WITNESS_LOG: tell_log(&sample->log, buffer, n); break;
        case WITNESS_SOCKETS: tell_sockets(&sample->sockets, buffer, n); break;
        case WITNESS_UNITS: tell_units(&sample->units, buffer, n); break;
        case WITNESS_DOCKER:
                (void) snprintf(buffer, n, "ping: %s, list: %s", answer_to_string(sample->docker.ping),
                        answer_to_string(sample->docker.list));
                break;
        case WITNESS_PATH:
                (void) snprintf(buffer, n, "our own way to the control plane: %s",
                        path_answer_to_string(sample->path.answer));
                break;
        case WITNESS_DISKS:
                (void) snprintf(buffer, n, "%u mounts, %u read-only, %u hung%s%s", sample->disks.n,
                        sample->disks.n_read_only, sample->disks.n_hung,
                        sample->disks.root_read_only ? ", root has become read-only" : "",
                        sample->disks.root_full ? ", root is full" : "");
                break;
        case WITNESS_MEMORY:
                if (sample->memory.full >= 0)
                        (void) snprintf(buffer, n, "%s",
                                sample->memory.full >= 1000 ? "most work waits for memory"
                                                            : "no pressure worth telling");
                break;
        case WITNESS_METADATA:
                (void) snprintf(buffer, n, "the instance is %s in its group%s%s",
                        lifecycle_to_string(sample->metadata.lifecycle),
                        sample->metadata.spot_notice ? ", about to be interrupted" : "",
                        sample->metadata.no_role ? ", without a usable role" : "");
                break;
        }
}

static void note_sample(Story *story, const Sample *sample, Wall at, bool tell) {
        char text[sizeof(story->says[0])] = "";

        if (sample->sight == SIGHT_CLEAR)
                say_clear(sample, text, sizeof(text));
        else if (sample->sight != SIGHT_NONE)
                (void) snprintf(text, sizeof(text), "cannot tell (%s)", sight_to_string(sample->sight));
        if (text[0] == '\0' || strcmp(text, story->says[sample->witness]) == 0)
                return;
        memcpy(story->says[sample->witness], text, sizeof(text));
        if (tell)
                story_note(story, at, "host", "Witness %s: %s.", witness_to_string(sample->witness), text);
}

/* --- answers ----------------------------------------------------------------------------------------------------- */

static void note_confirmation(Story *story, const Confirmation *own, Wall at) {
        story->connected = own->outcome == OUTCOME_OK && own->connected;
        if (own->outcome != OUTCOME_OK)
                story_note(story, at, "answer", "ECS gave no usable answer: %s.",
                        outcome_to_string(own->outcome));
        else
                story_note(story, at, "answer", "ECS says: the agent is %s, the container instance is %s.",
                        own->connected ? "connected" : "disconnected",
                        control_status_to_string(own->status));
}

static void note_look(Story *story, const Look *look, Wall at) {
        char group[192] = "";

        story->looks++;
        story->connected =
                look->outcome == OUTCOME_OK && look->own.outcome == OUTCOME_OK && look->own.connected;
        if (look->outcome != OUTCOME_OK) {
                story_note(story, at, "answer", "The look failed at %s%s%s: %s. Without it nothing is done.",
                        look_part_to_string(look->failed), *look->action ? ", " : "", look->action,
                        outcome_to_string(look->outcome));
                return;
        }
        if (look->own.outcome != OUTCOME_OK) {
                story_note(story, at, "answer", "The metadata service says that this instance is %s.",
                        lifecycle_to_string(look->lifecycle));
                return;
        }
        if (look->share_decided)
                (void) snprintf(group, sizeof(group), "So many that the group was not read any further.");
        else
                (void) snprintf(group, sizeof(group),
                        "The group wants %u instances and has lost %s%u lately; this one is %s.",
                        look->group_size, look->ledger_full ? "at least " : "", look->removed_window,
                        lifecycle_to_string(look->lifecycle));
        story_note(story, at, "answer",
                "Disconnected, this one included: %s%u of %u in the cluster, %u of %u in the group, %u of "
                "%u in "
                "the zone; %u peers are connected. ECS calls this agent %s, its instance %s. %s",
                look->more_than_a_page ? "more than a page, " : "", look->cluster.sick,
                look->cluster.members, look->group.sick, look->group.members, look->zone.sick,
                look->zone.members, look->connected_peers,
                look->own.connected ? "connected" : "disconnected",
                control_status_to_string(look->own.status), group);
}

/* Patrol's, at a peer: of interest only as far as it fell into an incident of our own. */
static void note_peer_look(Story *story, const Look *look, Wall at) {
        if (look->outcome != OUTCOME_OK)
                story_note(story, at, "answer", "Patrol's look at a peer failed at %s: %s.",
                        look_part_to_string(look->failed), outcome_to_string(look->outcome));
        else
                story_note(story, at, "answer",
                        "Patrol's look at a peer: ECS calls its agent %s, its instance %s.",
                        look->own.connected ? "connected" : "disconnected",
                        control_status_to_string(look->own.status));
}

static void note_outcome(Story *story, const char *what, Outcome outcome, Wall at) {
        const char *word = outcome == OUTCOME_OK     ? "done"
                           : outcome == OUTCOME_LOST ? "sent, but its answer was lost: it may have happened"
                                                     : outcome_to_string(outcome);

        story_note(story, at, "answer", "%s: %s.", what, word);
}

static void note_restored(Story *story, const Restored *restored, Wall at) {
        if (restored->no_journal)
                story_note(story, at, "note", "The daemon has started, and found no journal.");
        else
                story_note(story, at, "note", "The daemon has started again%s and taken up incident %llu.",
                        restored->same_boot ? "" : " after a reboot",
                        (unsigned long long) restored->record.incident);
}

static void note_verified(Story *story, const Verification *verified, Wall at) {
        if (verified->outcome != OUTCOME_OK)
                note_outcome(story, "Reading what became of it", verified->outcome, at);
        else
                story_note(story, at, "answer", "Auto Scaling says: this instance is %s%s%s.",
                        lifecycle_to_string(verified->lifecycle), verified->unhealthy ? ", unhealthy" : "",
                        verified->activity ? ", and an activity tells of its removal" : "");
}

static void note_sweep(Story *story, const Sweep *sweep, Wall at) {
        if (sweep->outcome != OUTCOME_OK)
                note_outcome(story, "Patrol's list of disconnected peers", sweep->outcome, at);
        else if (sweep->n_down > 0)
                story_note(story, at, "answer",
                        "Patrol: %u of the group are disconnected, %u%s may be acted for.", sweep->n_down,
                        sweep->n, sweep->n == SWEEP_PEERS_MAX ? " or more" : "");
}

/* An answer to what patrol did at a peer. Return: whether it was one. */
static bool note_peer_event(Story *story, const Event *event, Wall at) {
        static const char *const names[EVENT_TYPE_N] = {
                [EVENT_DRAINED] = "Drain of the peer",
                [EVENT_UNDRAINED] = "Undoing of our drain of the peer",
                [EVENT_DETACHED] = "Removal of the peer",
        };

        if (event->type == EVENT_LOOKED && event->look.of_peer) {
                note_peer_look(story, &event->look, at);
                return true;
        }
        if (event->ticket == 0 || event->ticket != story->peer)
                return false;
        if (names[event->type])
                note_outcome(story, names[event->type], event->outcome, at);
        else if (event->type == EVENT_VERIFIED && event->verified.outcome == OUTCOME_OK)
                story_note(story, at, "answer", "Auto Scaling says: the peer is %s.",
                        lifecycle_to_string(event->verified.lifecycle));
        return true;
}

static void note_event(Story *story, const Event *event, Now now) {
        Wall at = now.wall;

        if (note_peer_event(story, event, at))
                return;
        switch (event->type) {
        case EVENT_SIZES:
        case EVENT_TICK: break;
        case EVENT_SAMPLE: note_sample(story, &event->sample, at, true); break;
        case EVENT_CONFIRMED: note_confirmation(story, &event->confirmed, at); break;
        case EVENT_LOOKED: note_look(story, &event->look, at); break;
        case EVENT_REPAIRED:
                note_outcome(story, "Restart of the agent's service", event->outcome, at);
                break;
        case EVENT_DRAINED: note_outcome(story, "Drain", event->outcome, at); break;
        case EVENT_UNDRAINED:
                note_outcome(story, "Undoing of our drain", event->outcome, at);
                story->undone |= event->outcome == OUTCOME_OK;
                break;
        case EVENT_DETACHED: note_outcome(story, "Removal", event->outcome, at); break;
        case EVENT_VERIFIED: note_verified(story, &event->verified, at); break;
        case EVENT_ENDED:
                note_outcome(story, "End of the instance that was removed", event->outcome, at);
                story->ended |= event->outcome == OUTCOME_OK;
                break;
        case EVENT_SWEPT: note_sweep(story, &event->swept, at); break;
        case EVENT_RIGHTS: break;
        case EVENT_POLICY: story_note(story, at, "note", "The settings were read again."); break;
        case EVENT_PAUSED:
                story_note(story, at, "note",
                        mono_is_set(event->paused_until) ? "Somebody has paused this host."
                                                         : "This host is not paused.");
                break;
        case EVENT_RESUMED:
                story_note(story, at, "note",
                        "Somebody has resumed this host: the brake loop is released, if it held.");
                break;
        case EVENT_GROUP:
                story_note(story, at, "note", "Auto Scaling says: this instance is %s.",
                        lifecycle_to_string(event->lifecycle));
                break;
        case EVENT_RESTORED: note_restored(story, &event->restored, at); break;
        }
}

/* --- what follows ------------------------------------------------------------------------------------------------ */

static void names_of_witnesses(uint32_t set, char *buffer, size_t n) {
        size_t at = 0;

        buffer[0] = '\0';
        for (unsigned i = 0; i <= WITNESS_N && at < n; i++)
                if ((set & 1u << i) != 0)
                        at += (size_t) snprintf(buffer + at, n - at, "%s%s", at > 0 ? ", " : "",
                                i == WITNESS_N ? "ECS" : witness_to_string(i));
}

static void note_verdict(Story *story, const TraceAfter *after, Wall at) {
        char names[256];

        names_of_witnesses(after->witnesses, names, sizeof(names));
        story_note(story, at, "verdict", "Verdict: %s%s%s%s", cause_to_sentence(after->cause),
                *names ? " By: " : "", names, *names ? "." : "");
}

/* Of these what is done says it already. */
static bool speaks_for_itself(const Story *story, Stage stage) {
        return stage == STAGE_DRAINING || stage == STAGE_DETACHING || stage == STAGE_VERIFYING ||
               stage == STAGE_UNDOING || stage == STAGE_REPAIRING || stage == STAGE_ENDING ||
               (stage == STAGE_LOOKING && story->looks > 0);
}

static void note_stage(Story *story, const TraceAfter *after, Now now) {
        char wait[FORMAT_SPAN_MAX], until[192] = "";
        Span left = mono_since(after->grace_end, now.mono);

        if (after->stage == STAGE_GRACE && mono_is_set(after->grace_end) && left > 0)
                (void) snprintf(until, sizeof(until), " It lasts %s.", format_span(wait, left));
        story_note(story, now.wall, "stage", "%s%s", edges_stage(after->stage), until);
}

static void note_brakes(Story *story, const TraceAfter *after, Now now) {
        BrakeSet gone = story->brakes & ~after->brakes;
        char names[256], wait[FORMAT_SPAN_MAX];

        for (unsigned i = 0; i < BRAKE_N; i++)
                if ((after->brakes & ~story->brakes & 1u << i) != 0)
                        story_note(story, now.wall, "brake", "Held by the brake %s: %s", brake_table[i].name,
                                brake_table[i].doc);
        if (gone != 0)
                story_note(story, now.wall, "brake", "No longer held by: %s.",
                        edges_brakes(gone, names, sizeof(names)));
        if (after->brakes != 0 && after->due.usec != MONO_INFINITE.usec &&
                mono_since(after->due, now.mono) >= SPAN_SEC(1))
                story_note(story, now.wall, "note", "The next look is in %s.",
                        format_span(wait, mono_since(after->due, now.mono) / SPAN_SEC(1) * SPAN_SEC(1)));
        story->brakes = after->brakes;
}

static const char *own_effect(const Effect *effect) {
        static const char *const removals[ACTION_N] = {
                [ACTION_OBSERVE] = "Detaching this instance from its group; the desired capacity stays.",
                [ACTION_DETACH] = "Detaching this instance from its group; the desired capacity stays.",
                [ACTION_UNHEALTHY] =
                        "Telling the group that this instance is unhealthy: it terminates and replaces it.",
                [ACTION_STANDBY] = "Putting this instance on standby; the desired capacity stays.",
        };
        static const char *const sentences[EFFECT_TYPE_N] = {
                [EFFECT_CONFIRM] = "Asking ECS whether it calls the agent connected.",
                [EFFECT_LOOK] = "Looking at ECS, the peers and the Auto Scaling group.",
                [EFFECT_PROBE] = "Finding out which rights the role has, with ids that cannot exist.",
                [EFFECT_REPAIR] = "Restarting the agent's service.",
                [EFFECT_DRAIN] = "Setting the container instance to DRAINING, marked as ours.",
                [EFFECT_UNDRAIN] = "Setting the container instance back to ACTIVE if its drain is ours.",
                [EFFECT_VERIFY] = "Reading what became of the removal.",
                [EFFECT_END] =
                        "Ending this instance, as the settings say: deregistering, stopping, terminating.",
                [EFFECT_SWEEP] = "Patrol: listing the disconnected peers of the group.",
        };

        return effect->type == EFFECT_DETACH ? removals[effect->action] : sentences[effect->type];
}

static const char *peer_effect(const Effect *effect) {
        static const char *const sentences[EFFECT_TYPE_N] = {
                [EFFECT_LOOK] = "Patrol: looking at a disconnected peer, as it would itself.",
                [EFFECT_DRAIN] =
                        "Patrol: setting the container instance of the peer to DRAINING, on its behalf.",
                [EFFECT_UNDRAIN] = "Patrol: taking back our drain of the peer.",
                [EFFECT_DETACH] = "Patrol: taking the peer out of the group, on its behalf.",
                [EFFECT_VERIFY] = "Patrol: reading what became of the removal of the peer.",
        };

        return sentences[effect->type];
}

static void note_effects(Story *story, const Plan *plan, Wall at) {
        for (unsigned i = 0; i < plan->n_effects; i++) {
                const Effect *effect = &plan->effects[i];
                const char *sentence = effect->peer ? peer_effect(effect) : own_effect(effect);

                if (effect->type == EFFECT_FORGET)
                        continue;
                if (sentence)
                        story_note(story, at, "do", "%s", sentence);
                else
                        story_note(story, at, "do", "Doing: %s.", effect_to_string(effect->type));
                if (effect->peer) {
                        story->peer = effect->ticket;
                        continue;
                }
                story->repaired |= effect->type == EFFECT_REPAIR;
                story->drained |= effect->type == EFFECT_DRAIN;
                if (effect->type != EFFECT_DETACH)
                        continue;
                story->detached = true;
                story->action = effect->action;
        }
}

static bool is_open(Stage stage) {
        return stage != STAGE_WATCHING && stage != STAGE_GRACE;
}

static bool is_out(Stage stage) {
        return stage == STAGE_REMOVED || stage == STAGE_ENDING;
}

/* When it began, was opened, and was over. */
static void note_course(Story *story, const TraceAfter *after, Now now) {
        bool was_open = story->known && is_open(story->now.stage);

        story->by_peer |= story->known && story->now.stage == STAGE_WATCHING && is_out(after->stage);

        if (mono_is_set(after->ill_from) && !wall_is_set(story->opened))
                story->ill_from = wall_add(now.wall, -mono_since(now.mono, after->ill_from));
        if (is_open(after->stage) && !was_open && !wall_is_set(story->opened)) {
                story->opened = now.wall;
                story->incident = after->incident;
                story->cause = after->cause;
                memcpy(story->evidence, story->says, sizeof(story->evidence));
        }
        if (is_open(after->stage) && !is_out(after->stage))
                story->closed = WALL_NEVER;
        else if (was_open && !wall_is_set(story->closed))
                story->closed = now.wall;
        story->held |= after->stage == STAGE_HELD;
}

void story_step(Story *story, Now now, const Event *event, const Plan *plan, const TraceAfter *after) {
        if (!wall_is_set(story->first))
                story->first = now.wall;
        story->last = now.wall;
        note_event(story, event, now);
        if (after) {
                bool changed = !story->known || story->now.cause != after->cause;
                bool moved = !story->known || story->now.stage != after->stage;
                bool ended =
                        story->known && story->now.stage == STAGE_ENDING && after->stage == STAGE_REMOVED;

                if ((plan->verdict_changed && changed) || (moved && after->stage == STAGE_GRACE))
                        note_verdict(story, after, now.wall);
                if (plan->stage_changed && moved && !ended && !speaks_for_itself(story, after->stage))
                        note_stage(story, after, now);
                if (after->stage == STAGE_HELD && (plan->brakes_changed || plan->stage_changed))
                        note_brakes(story, after, now);
                else if (is_open(after->stage) && after->stage != STAGE_LOOKING &&
                         after->stage != STAGE_HELD)
                        story->brakes = 0;
                note_course(story, after, now);
                story->now = *after;
                story->known = true;
        }
        note_effects(story, plan, now.wall);
}

void story_core(Story *story, const Core *core) {
        Wall stepped = { clock_add_saturating(core->stepped.usec, core->wall_offset) };

        for (unsigned i = 0; i < WITNESS_N; i++)
                note_sample(story, &core->checks.samples[i], stepped, false);
        story->turn = core->policy.turn;
        if (mono_is_set(core->ill_from) && !wall_is_set(story->opened))
                story->ill_from = wall_add(stepped, -mono_since(core->stepped, core->ill_from));
        if (!story->known || is_open(core->stage)) {
                story->now = trace_where(core);
                story->known = true;
        }
        if (is_open(core->stage) && !wall_is_set(story->opened)) {
                story->opened = core->record.opened;
                story->incident = core->record.incident;
                story->cause = (Cause) core->record.cause;
                memcpy(story->evidence, story->says, sizeof(story->evidence));
        }
}

void story_line(Story *story, const TraceLine *line) {
        const TraceCall *call = &line->call;

        switch (line->type) {
        case TRACE_HEADER:
                if (story->header.incident == 0)
                        story->header = line->header;
                break;
        case TRACE_CORE: story_core(story, &line->core); break;
        case TRACE_STEP:
                story_step(
                        story, line->now, &line->event, &line->plan, line->has_after ? &line->after : NULL);
                break;
        case TRACE_CALL:
                story_note(story, line->now.wall, "call", "Call %s: %s%s%s%s", call->action, call->answer,
                        *call->request_id ? " (request " : "", call->request_id,
                        *call->request_id ? ")" : "");
                break;
        case TRACE_CUT:
                story->cut = true;
                story_note(story, story->last, "note", "The trace was full here; what followed is lost.");
                break;
        }
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

bool story_ended(const Story *story) {
        return wall_is_set(story->closed) || (story->known && is_out(story->now.stage));
}

const char *story_removal(const Story *story) {
        static const char *const names[ACTION_N] = {
                [ACTION_OBSERVE] = "a detach",
                [ACTION_DETACH] = "a detach",
                [ACTION_UNHEALTHY] = "a word to the group that it is unhealthy",
                [ACTION_STANDBY] = "standby",
        };

        return story->detached ? names[story->action] : "";
}

static const char *removed_text(const Story *story) {
        if (story->by_peer)
                return "a peer that patrols took the instance out of its group, on its behalf.";
        switch ((Action) story->action) {
        case ACTION_UNHEALTHY: return "the group was told that the instance is unhealthy, and replaces it.";
        case ACTION_STANDBY: return "the instance was put on standby.";
        case ACTION_OBSERVE:
        case ACTION_DETACH: break;
        }
        return "the instance was taken out of its group.";
}

const char *story_ending(const Story *story, char *buffer, size_t n) {
        const char *undone = story->drained && !story->detached ? " The drain was undone." : "";

        if (!wall_is_set(story->opened))
                (void) snprintf(buffer, n, "no incident was opened.");
        else if (!story_ended(story))
                (void) snprintf(buffer, n, "not over as far as the trace tells, stage %s.",
                        stage_to_string(story->now.stage));
        else if (is_out(story->now.stage))
                (void) snprintf(buffer, n, "%s%s", removed_text(story),
                        !story->ended ? ""
                        : story->action == ACTION_UNHEALTHY
                                ? " It was deregistered, too."
                                : " It was ended afterwards, as the settings say.");
        else if (story->now.cause == CAUSE_NONE)
                (void) snprintf(buffer, n, "the agent has connected again.%s", undone);
        else if (story->connected)
                (void) snprintf(buffer, n, "ECS called the agent connected.%s", undone);
        else if (story->now.fault == FAULT_UNKNOWN || story->now.fault == FAULT_NONE)
                (void) snprintf(
                        buffer, n, "the witnesses no longer agreed that the connection was lost.%s", undone);
        else
                (void) snprintf(buffer, n, "given up: %s%s", cause_to_sentence(story->now.cause), undone);
        return buffer;
}

/* --- the timeline ------------------------------------------------------------------------------------------------ */

void story_fold(const char *text, size_t column, size_t indent, size_t width, FILE *f) {
        bool first = true;

        while (*text) {
                size_t n = strcspn(text, " ");

                if (!first && column + 1 + n > width) {
                        fprintf(f, "\n%*s", (int) indent, "");
                        column = indent;
                        first = true;
                }
                fprintf(f, "%s%.*s", first ? "" : " ", (int) n, text);
                column += n + !first;
                first = false;
                text += n;
                text += strspn(text, " ");
        }
        (void) fputc('\n', f);
}

void story_print(const Story *story, unsigned width, FILE *f) {
        const size_t indent = 12;
        char time[FORMAT_TIME_MAX], day[FORMAT_TIME_MAX] = "";

        for (size_t i = 0; i < story->n; i++) {
                const StoryRow *row = &story->rows[i];

                format_rfc3339(time, row->at);
                if (strncmp(time, day, 10) != 0)
                        fprintf(f, "%.10s (UTC)\n", time);
                if (strcmp(time, day) != 0)
                        fprintf(f, "  %.8s  ", time + 11);
                else
                        fprintf(f, "%*s", (int) indent, "");
                memcpy(day, time, sizeof(day));
                story_fold(row->text, indent, indent, width, f);
        }
        if (story->full)
                fprintf(f, "  ... and more than %d rows that are not shown\n", STORY_ROWS_MAX);
}

void story_write(const Story *story, JsonWriter *writer) {
        char time[FORMAT_TIME_MAX];

        json_begin_array(writer, "timeline");
        for (size_t i = 0; i < story->n; i++) {
                json_begin_object(writer, NULL);
                json_string(writer, "at", format_rfc3339(time, story->rows[i].at));
                json_string(writer, "kind", story->rows[i].kind);
                json_string(writer, "text", story->rows[i].text);
                json_end_object(writer);
        }
        json_end_array(writer);
}
