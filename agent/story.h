/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An incident in plain sentences: the steps of a trace, of a replay or of a drill go in, one after the other, and come
 * out as rows of a timeline. Shared by the commands `explain`, `replay` and `drill`.
 */

#include <stdio.h>

#include "agent/trace.h"

#define STORY_ROWS_MAX 5000
#define STORY_TEXT_MAX 640

typedef struct StoryRow {
        Wall at;
        const char *kind; /* "host", "verdict", "stage", "brake", "do", "answer", "call", "note" */
        char text[STORY_TEXT_MAX];
} StoryRow;

typedef struct Story {
        StoryRow *rows;
        size_t n, allocated;
        bool full; /* there were more rows than are kept */

        /* What it amounts to. */
        TraceHeader header; /* the first */
        uint64_t incident;
        Wall first, last;    /* of all rows' steps */
        Wall ill_from;       /* down without a break since; WALL_NEVER: not known */
        Wall opened, closed; /* WALL_NEVER: it was not */
        Cause cause;         /* when it was opened */
        TraceAfter now;      /* where it stands */
        bool known;          /* .now is */
        bool connected;      /* ECS called the agent connected, and that was the last word */
        bool repaired, drained, undone, detached, held;
        bool by_peer;    /* it was removed without a step of its own */
        bool ended;      /* what had to be done to the orphan was done */
        unsigned action; /* Action that was taken, if .detached */
        uint32_t peer;   /* ticket of the last effect that was patrol's, at a peer */
        unsigned looks;
        char evidence[WITNESS_N][160]; /* what each witness said when the incident was opened; "" nothing */
        char says[WITNESS_N][160];     /* ... says now */
        bool cut;                      /* parts of the trace are missing */
        BrakeSet brakes;               /* that were told last */
        Span turn;                     /* of the settings; 0: not known */
} Story;

void story_done(Story *story);

/** story_line() - take in one line of a trace */
void story_line(Story *story, const TraceLine *line);
/** story_step() - take in one step; @after: NULL: nothing of interest has changed */
void story_step(Story *story, Now now, const Event *event, const Plan *plan, const TraceAfter *after);
/** story_core() - take in the core from which steps go on */
void story_core(Story *story, const Core *core);
/** story_note() - a row of our own */
void story_note(Story *story, Wall at, const char *kind, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/** story_removal() - what was done to the instance at last, as a noun: "a detach"; "" nothing */
const char *story_removal(const Story *story);
/** story_ending() - how it ended, as a sentence that follows "Ended: " */
const char *story_ending(const Story *story, char *buffer, size_t n);
/** story_ended() - whether it is over as far as the trace tells */
bool story_ended(const Story *story);

/** story_print() - the timeline for people, @width columns */
void story_print(const Story *story, unsigned width, FILE *f);
/** story_write() - the timeline as an array of JSON objects: at, kind, text */
void story_write(const Story *story, JsonWriter *writer);
/** story_fold() - @text from @column on, folded at blanks; further lines begin at @indent; ends the line */
void story_fold(const char *text, size_t column, size_t indent, size_t width, FILE *f);
