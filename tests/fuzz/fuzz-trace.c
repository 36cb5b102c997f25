/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The reader of trace files. Each line is read alone; what is read must come back the same after being written, and is
 * put into a story, which must stand whatever a line says.
 */

#include <string.h>

#include "agent/story.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_step(const TraceLine *line) {
        static TraceLine back;
        JsonWriter w;

        json_writer_init(&w, TRACE_LINE_MAX);
        trace_write_step(&w, &line->event, line->now, &line->plan, line->has_after ? &line->after : NULL);
        if (w.error < 0 || trace_parse(w.text, w.n, &back) != 0 || back.type != TRACE_STEP ||
                back.event.type != line->event.type || back.plan.n_effects != line->plan.n_effects ||
                back.now.mono.usec != line->now.mono.usec)
                abort();
        json_writer_done(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static TraceLine line;
        const char *text = (const char *) data;
        Story story = {};
        char ending[512];

        while (n > 0) {
                const char *end = memchr(text, '\n', n);
                size_t length = end ? (size_t) (end - text) : n;

                if (trace_parse(text, length, &line) == 0) {
                        if (line.type == TRACE_STEP)
                                check_step(&line);
                        story_line(&story, &line);
                }
                n -= end ? length + 1 : length;
                text += end ? length + 1 : length;
        }
        if (!*story_ending(&story, ending, sizeof(ending)))
                abort();
        story_done(&story);
        return 0;
}
