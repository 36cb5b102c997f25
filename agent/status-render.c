/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The status document for people: what is going on and what comes next first, then what it rests on. Whatever is
 * missing from the document (an older or newer daemon wrote it) is left out. Texts in it come from files, logs and other
 * programs, so nothing in them may reach the terminal as a control sequence.
 */

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "agent/status.h"
#include "common/parse.h"

#define SECONDS_MAX    (INT64_C(100) * 366 * 24 * 3600)
#define WIDTH_MIN      40
#define LINE_MAX_BYTES 1024

typedef struct Out {
        FILE *f;
        unsigned width;
        bool colour;
} Out;

typedef enum Colour {
        COLOUR_NONE,
        COLOUR_GOOD,
        COLOUR_WARN,
        COLOUR_BAD,
        COLOUR_BOLD,
        COLOUR_DIM,
} Colour;

static const char *const colours[] = {
        [COLOUR_NONE] = "",
        [COLOUR_GOOD] = "\033[32m",
        [COLOUR_WARN] = "\033[33m",
        [COLOUR_BAD] = "\033[1;31m",
        [COLOUR_BOLD] = "\033[1m",
        [COLOUR_DIM] = "\033[2m",
};

/* Reading the document */

static const char *text_of(const cJSON *object, const char *name) {
        const char *text = "";

        (void) json_get_string(object, name, &text);
        return text;
}

static bool flag_of(const cJSON *object, const char *name) {
        bool flag = false;

        (void) json_get_bool(object, name, &flag);
        return flag;
}

/* -1: not known */
static int64_t number_of(const cJSON *object, const char *name) {
        int64_t number = -1;

        (void) json_get_i64(object, name, &number);
        return number;
}

static const cJSON *list_of(const cJSON *object, const char *name) {
        const cJSON *list = NULL;

        (void) json_get_array(object, name, &list);
        return list;
}

/* Lines: put together whole, then printed clean and folded */

typedef struct Line {
        char at[LINE_MAX_BYTES];
        size_t n;
} Line;

static void add(Line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(Line *line, const char *format, ...) {
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vsnprintf(line->at + line->n, sizeof(line->at) - line->n, format, arguments);
        va_end(arguments);
        if (n > 0)
                line->n += (size_t) n < sizeof(line->at) - line->n ? (size_t) n
                                                                   : sizeof(line->at) - line->n - 1;
}

static void add_seconds(Line *line, int64_t seconds) {
        char buffer[FORMAT_SPAN_MAX];

        if (seconds < 0)
                seconds = 0;
        if (seconds > SECONDS_MAX)
                seconds = SECONDS_MAX;
        add(line, "%s", format_span(buffer, SPAN_SEC(seconds)));
}

/* "3s ago", or nothing */
static void add_ago(Line *line, int64_t seconds) {
        if (seconds < 0)
                return;
        add_seconds(line, seconds);
        add(line, " ago");
}

static void add_percent(Line *line, const cJSON *object, const char *name) {
        const cJSON *item = json_member(object, name);

        if (cJSON_IsNumber(item))
                add(line, "%.1f %%", item->valuedouble);
        else
                add(line, "?");
}

/* Bytes of the character at @text, and whether a terminal might take it for a command: C0, DEL, C1, broken UTF-8. */
static size_t character(const char *text, bool *ret_printable) {
        unsigned char c = (unsigned char) *text;
        size_t n = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf8 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;

        *ret_printable = c >= 0x20 && c != 0x7f && (c < 0x80 || n > 1) && c < 0xf8;
        for (size_t i = 1; i < n; i++)
                if (((unsigned char) text[i] & 0xc0) != 0x80) {
                        *ret_printable = false;
                        return 1;
                }
        if (c == 0xc2 && (unsigned char) text[1] < 0xa0)
                *ret_printable = false;
        return n;
}

/* Prints up to @columns characters of @text. Return: the rest of it. */
static const char *out_characters(const Out *out, const char *text, size_t columns) {
        while (*text && columns-- > 0) {
                bool printable;
                size_t n = character(text, &printable);

                if (printable)
                        (void) fwrite(text, 1, n, out->f);
                else
                        (void) fputc('?', out->f);
                text += n;
        }
        return text;
}

static size_t columns_of(const char *text, size_t bytes) {
        size_t columns = 0;

        for (size_t i = 0; i < bytes && text[i];) {
                bool printable;

                i += character(text + i, &printable);
                columns++;
        }
        return columns;
}

static void out_colour(const Out *out, Colour colour) {
        if (out->colour && colour != COLOUR_NONE)
                fputs(colours[colour], out->f);
}

static void out_plain(const Out *out, Colour colour) {
        if (out->colour && colour != COLOUR_NONE)
                fputs("\033[0m", out->f);
}

/* @text in a column of its own of @columns, coloured. */
static void out_cell(const Out *out, Colour colour, const char *text, size_t columns) {
        size_t n = columns_of(text, strlen(text));

        out_colour(out, colour);
        (void) out_characters(out, text, columns);
        out_plain(out, colour);
        for (; n < columns; n++)
                (void) fputc(' ', out->f);
}

/* @text from column @indent, where the cursor is, to the right margin @width; further lines indented likewise. */
static void out_fold(const Out *out, size_t indent, size_t width, const char *text) {
        size_t column = indent;

        while (*text) {
                size_t bytes = strcspn(text, " "), columns = columns_of(text, bytes);

                if (column > indent && column + 1 + columns > width) {
                        fprintf(out->f, "\n%*s", (int) indent, "");
                        column = indent;
                } else if (column > indent) {
                        (void) fputc(' ', out->f);
                        column++;
                }
                (void) out_characters(out, text, columns);
                column += columns;
                text += bytes;
                text += strspn(text, " ");
        }
        (void) fputc('\n', out->f);
}

#define LABEL 16 /* width of the column of labels */

/* "Label           text" */
static void out_row(const Out *out, const char *label, const Line *line) {
        out_cell(out, COLOUR_BOLD, label, LABEL - 1);
        (void) fputc(' ', out->f);
        out_fold(out, LABEL, out->width, line->at);
}

static void out_title(const Out *out, const char *title) {
        (void) fputc('\n', out->f);
        out_cell(out, COLOUR_BOLD, title, strlen(title));
        (void) fputc('\n', out->f);
}

/* Parts */

static Colour state_colour(const char *state) {
        static const char *const good[] = { "healthy", "intended" }, *const bad[] = { "ill", "held",
                "removed" };

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                if (strcmp(state, good[i]) == 0)
                        return COLOUR_GOOD;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                if (strcmp(state, bad[i]) == 0)
                        return COLOUR_BAD;
        return COLOUR_WARN;
}

static void render_headline(const Out *out, const cJSON *status) {
        const cJSON *headline = json_member(status, "headline");
        const char *state = text_of(headline, "state"), *advice = text_of(headline, "do");
        char badge[32];
        size_t n = 0;

        for (; state[n] && n < sizeof(badge) - 1; n++)
                badge[n] = (char) toupper((unsigned char) state[n]);
        badge[n] = '\0';

        out_cell(out, state_colour(state), badge, 9);
        (void) fputc(' ', out->f);
        out_fold(out, 10, out->width, text_of(headline, "what"));
        out_cell(out, COLOUR_DIM, "next", 10);
        out_fold(out, 10, out->width, text_of(headline, "next"));
        if (*advice) {
                out_cell(out, COLOUR_DIM, "you can", 10);
                out_fold(out, 10, out->width, advice);
        }
}

static void render_identity(const Out *out, const cJSON *status) {
        const cJSON *identity = json_member(status, "identity");
        Line line = {};

        add(&line, "%s",
                *text_of(identity, "instance_id") ? text_of(identity, "instance_id")
                                                  : "instance not known yet");
        if (*text_of(identity, "cluster"))
                add(&line, ", cluster %s", text_of(identity, "cluster"));
        if (*text_of(identity, "group"))
                add(&line, ", group %s", text_of(identity, "group"));
        if (*text_of(identity, "zone"))
                add(&line, ", %s", text_of(identity, "zone"));
        if (*text_of(identity, "agent_version"))
                add(&line, ", ECS agent %s", text_of(identity, "agent_version"));
        out_row(out, "Instance", &line);

        line = (Line){};
        add(&line, "ecs-health-agent %s, up ", text_of(status, "version"));
        add_seconds(&line, number_of(status, "started_seconds_ago"));
        out_row(out, "Watched by", &line);
}

static void render_pause(const Out *out, const cJSON *status) {
        const cJSON *pause = json_member(status, "pause");
        Line line = {};

        if (!flag_of(pause, "paused"))
                return;
        if (*text_of(pause, "until")) {
                add(&line, "until %s (another ", text_of(pause, "until"));
                add_seconds(&line, number_of(pause, "until_seconds"));
                add(&line, ")");
        } else {
                add(&line, "until resumed");
        }
        if (*text_of(pause, "by"))
                add(&line, ", by %s", text_of(pause, "by"));
        if (*text_of(pause, "reason"))
                add(&line, ": %s", text_of(pause, "reason"));
        out_row(out, "Paused", &line);
}

static void render_problems(const Out *out, const cJSON *status) {
        const cJSON *problems = list_of(status, "problems"), *item;

        if (cJSON_GetArraySize(problems) == 0)
                return;
        out_title(out, "Needs attention");
        cJSON_ArrayForEach(item, problems) {
                out_cell(out, COLOUR_WARN, "  !", 3);
                (void) fputc(' ', out->f);
                out_fold(out, 4, out->width, cJSON_IsString(item) ? item->valuestring : "");
        }
}

static void render_witness(const Out *out, const cJSON *witness) {
        const char *reading = text_of(witness, "reading");
        bool up = strcmp(reading, "up") == 0, down = strcmp(reading, "down") == 0;
        size_t age = out->width > 90 ? 10 : 0; /* a column of its own where there is room */
        Line line = {}, ago = {};

        fputs("  ", out->f);
        out_cell(out, up ? COLOUR_GOOD : down ? COLOUR_BAD : COLOUR_DIM, up ? "ok" : down ? "BAD" : "-", 5);
        out_cell(out, COLOUR_NONE, text_of(witness, "name"), 18);
        (void) fputc(' ', out->f);
        add_ago(&ago, number_of(witness, "age_seconds"));
        if (age > 0)
                out_cell(out, COLOUR_DIM, ago.at, age);
        add(&line, "%s", text_of(witness, "says"));
        if (age == 0 && ago.n > 0)
                add(&line, " (%s)", ago.at);
        out_fold(out, 26 + age, out->width, line.at);
}

static void render_witnesses(const Out *out, const cJSON *status) {
        const cJSON *control = json_member(status, "control_plane"), *item;
        Line says = {};

        out_title(out, "Witnesses");
        cJSON_ArrayForEach(item, list_of(status, "witnesses")) render_witness(out, item);
        if (!flag_of(control, "asked")) {
                add(&says, "ECS: not asked yet; it is asked only to confirm");
        } else {
                add(&says, "ECS called it %s (%s) ",
                        flag_of(control, "connected") ? "connected" : "disconnected",
                        text_of(control, "status"));
                add_ago(&says, number_of(control, "age_seconds"));
        }
        if (*text_of(control, "host"))
                add(&says, "; the agent talks to %s", text_of(control, "host"));
        fputs("  ", out->f);
        if (flag_of(control, "asked"))
                out_cell(out, flag_of(control, "connected") ? COLOUR_GOOD : COLOUR_BAD,
                        flag_of(control, "connected") ? "ok" : "BAD", 5);
        else
                out_cell(out, COLOUR_DIM, "-", 5);
        out_cell(out, COLOUR_NONE, "control plane", 19);
        if (out->width > 90)
                fprintf(out->f, "%10s", "");
        out_fold(out, out->width > 90 ? 36 : 26, out->width, says.at);
}

static void render_brakes(const Out *out, const cJSON *status) {
        const cJSON *brakes = list_of(status, "brakes"), *item;

        if (cJSON_GetArraySize(brakes) == 0)
                return;
        out_title(out, "Brakes that hold");
        cJSON_ArrayForEach(item, brakes) {
                Line line = {};

                fputs("  ", out->f);
                out_cell(out, COLOUR_WARN, text_of(item, "name"), 12);
                add(&line, "%s", text_of(item, "doc"));
                if (number_of(item, "until_seconds") >= 0) {
                        add(&line, " Another ");
                        add_seconds(&line, number_of(item, "until_seconds"));
                        add(&line, ".");
                }
                if (*text_of(item, "advice"))
                        add(&line, " %s", text_of(item, "advice"));
                out_fold(out, 14, out->width, line.at);
        }
}

static void add_population(Line *line, const cJSON *look, const char *name) {
        const cJSON *population = json_member(look, name);

        add(line, "%" PRId64 " of %" PRId64 " in the %s", number_of(population, "sick"),
                number_of(population, "members"), name);
}

static void add_group_state(Line *line, const cJSON *look) {
        const cJSON *states = list_of(look, "group_state"), *item;

        cJSON_ArrayForEach(item, states) if (cJSON_IsString(item))
                add(line, "; group %s", item->valuestring);
}

static void render_look(const Out *out, const cJSON *status) {
        const cJSON *look = json_member(status, "look");
        Line line = {};

        if (!cJSON_IsObject(look))
                return;
        add_ago(&line, number_of(look, "age_seconds"));
        if (strcmp(text_of(look, "outcome"), "ok") != 0) {
                add(&line, ": failed at %s: %s", text_of(look, "failed"), text_of(look, "outcome"));
        } else {
                add(&line, ": disconnected ");
                add_population(&line, look, "cluster");
                if (!flag_of(look, "share_decided")) {
                        add(&line, ", ");
                        add_population(&line, look, "group");
                        add(&line, ", ");
                        add_population(&line, look, "zone");
                        add(&line, "; removed lately %" PRId64 " of %" PRId64 " allowed",
                                number_of(look, "removed_window"), number_of(look, "budget"));
                        add(&line,
                                ", in the cluster %" PRId64 " of %" PRId64 ", in 24 h %" PRId64
                                " of %" PRId64,
                                number_of(look, "removed_cluster"), number_of(look, "budget_cluster"),
                                number_of(look, "removed_day"), number_of(look, "budget_day"));
                        add_group_state(&line, look);
                }
        }
        out_row(out, "Last look", &line);
}

static void render_stage(const Out *out, const cJSON *status) {
        const cJSON *stage = json_member(status, "stage");
        Line line = {};

        add(&line, "%s (%" PRId64 ")", text_of(stage, "name"), number_of(stage, "number"));
        if (number_of(stage, "for_seconds") >= 0) {
                add(&line, ", for ");
                add_seconds(&line, number_of(stage, "for_seconds"));
        }
        if (number_of(stage, "due_in_seconds") >= 0) {
                add(&line, ", next step in ");
                add_seconds(&line, number_of(stage, "due_in_seconds"));
        }
        out_row(out, "Stage", &line);
}

static void add_event(Line *line, const cJSON *record, const char *name, const char *words) {
        char ago[64];

        if (!*text_of(record, name))
                return;
        (void) snprintf(ago, sizeof(ago), "%s_seconds_ago", name);
        add(line, ", %s %s (", words, text_of(record, name));
        add_ago(line, number_of(record, ago));
        add(line, ")");
}

static void render_record(const Out *out, const cJSON *status) {
        const cJSON *record = json_member(status, "record");
        Line line = {};

        if (number_of(record, "incident") <= 0) {
                add(&line, "none so far");
        } else {
                add(&line, "number %" PRId64 ": %s", number_of(record, "incident"),
                        text_of(record, "cause"));
                add_event(&line, record, "opened", "opened");
                add_event(&line, record, "repaired", "last repair");
                add_event(&line, record, "detach_sent", "last removal");
                add_event(&line, record, "closed", "closed");
                if (flag_of(record, "drained"))
                        add(&line, ", a drain of ours stands");
        }
        out_row(out, "Last incident", &line);
        if (*text_of(json_member(status, "self"), "last_call")) {
                line = (Line){};
                add(&line, "%s", text_of(json_member(status, "self"), "last_call"));
                out_row(out, "Last call", &line);
        }
}

static void render_orphan(const Out *out, const cJSON *status) {
        const cJSON *orphan = json_member(status, "orphan");
        Line line = {};

        if (!*text_of(orphan, "says"))
                return;
        add(&line, "%s", text_of(orphan, "says"));
        out_row(out, "Afterwards", &line);
}

static void render_patrol(const Out *out, const cJSON *status) {
        const cJSON *patrol = json_member(status, "patrol"), *sizes = json_member(status, "sizes");
        Line line = {};

        if (!*text_of(patrol, "says"))
                return;
        add(&line, "%s", text_of(patrol, "says"));
        if (number_of(patrol, "sweeps") > 0)
                add(&line, "; searches so far: %" PRId64, number_of(patrol, "sweeps"));
        if (number_of(patrol, "removals") > 0)
                add(&line, ", peers removed: %" PRId64, number_of(patrol, "removals"));
        if (number_of(sizes, "group") > 0)
                add(&line, "; the group has %" PRId64, number_of(sizes, "group"));
        if (number_of(sizes, "cluster") > 0)
                add(&line, "%s%" PRId64,
                        number_of(sizes, "group") > 0 ? ", the cluster " : "; the cluster has ",
                        number_of(sizes, "cluster"));
        if (flag_of(patrol, "claimed")) {
                add(&line, "; a peer has claimed this host");
                if (number_of(patrol, "claimed_at_seconds_ago") >= 0) {
                        add(&line, " ");
                        add_ago(&line, number_of(patrol, "claimed_at_seconds_ago"));
                }
        }
        out_row(out, "Patrol", &line);
}

static void render_disks(const Out *out, const cJSON *host) {
        const cJSON *item;
        bool first = true;

        cJSON_ArrayForEach(item, list_of(host, "disks")) {
                Line used = {}, inodes = {};
                bool hung = flag_of(item, "hung"), read_only = flag_of(item, "read_only");

                add_percent(&used, item, "used_percent");
                add_percent(&inodes, item, "inodes_used_percent");
                out_cell(out, COLOUR_BOLD, first ? "Disks" : "", LABEL);
                first = false;
                out_cell(out, COLOUR_NONE, text_of(item, "path"), 28);
                fprintf(out->f, " %8s used, %8s of inodes", used.at, inodes.at);
                if (hung || read_only) {
                        fputs("  ", out->f);
                        out_cell(out, COLOUR_BAD, hung ? "HUNG" : "READ-ONLY", hung ? 4 : 9);
                }
                (void) fputc('\n', out->f);
        }
}

static void render_host(const Out *out, const cJSON *status) {
        const cJSON *host = json_member(status, "host"), *memory = json_member(host, "memory");
        Line line = {};

        if (cJSON_IsObject(memory)) {
                add_percent(&line, memory, "used_percent");
                add(&line, " used, swap ");
                add_percent(&line, memory, "swap_used_percent");
                add(&line, ", pressure ");
                add_percent(&line, memory, "pressure_some_percent");
                add(&line, " some, ");
                add_percent(&line, memory, "pressure_full_percent");
                add(&line, " full");
                if (number_of(memory, "oom_kills") >= 0)
                        add(&line, ", %" PRId64 " OOM kills since boot", number_of(memory, "oom_kills"));
                out_row(out, "Memory", &line);
        }
        render_disks(out, host);
}

static void render_metrics(const Out *out, const cJSON *status) {
        const cJSON *metrics = json_member(status, "metrics");
        Line line = {};

        add(&line, "%s: %" PRId64 " sent, last ", text_of(metrics, "namespace"), number_of(metrics, "sent"));
        if (number_of(metrics, "last_success_seconds_ago") >= 0)
                add_ago(&line, number_of(metrics, "last_success_seconds_ago"));
        else
                add(&line, "never");
        if (number_of(metrics, "waiting") > 0)
                add(&line, ", %" PRId64 " waiting", number_of(metrics, "waiting"));
        if (number_of(metrics, "dropped") > 0)
                add(&line, ", %" PRId64 " dropped", number_of(metrics, "dropped"));
        if (*text_of(metrics, "problem"))
                add(&line, "; %s", text_of(metrics, "problem"));
        out_row(out, "Metrics", &line);
}

static void render_rights(const Out *out, const cJSON *status) {
        const cJSON *credentials = json_member(status, "credentials"), *item;
        unsigned yes = 0, unknown = 0;
        Line line = {}, denied = {};

        cJSON_ArrayForEach(item, list_of(status, "rights")) {
                const char *granted = text_of(item, "granted");

                yes += strcmp(granted, "yes") == 0;
                unknown += strcmp(granted, "unknown") == 0;
                if (strcmp(granted, "no") == 0)
                        add(&denied, "%s%s", denied.n > 0 ? ", " : "", text_of(item, "name"));
        }
        add(&line, "%u granted, %u not tried yet", yes, unknown);
        if (denied.n > 0)
                add(&line, "; denied: %s", denied.at);
        if (*text_of(credentials, "detail"))
                add(&line, "; credentials %s: %s", text_of(credentials, "state"),
                        text_of(credentials, "detail"));
        out_row(out, "Rights", &line);
}

static void render_settings(const Out *out, const cJSON *status) {
        const cJSON *settings = json_member(status, "settings"), *item;
        Line line = {};

        add(&line, "action %s; %s %s", text_of(settings, "action"),
                flag_of(settings, "ok") ? "no problem in" : "refused:", text_of(settings, "path"));
        out_row(out, "Settings", &line);
        cJSON_ArrayForEach(item, list_of(settings, "problems")) {
                fprintf(out->f, "%*s", LABEL, "");
                out_fold(out, LABEL, out->width, cJSON_IsString(item) ? item->valuestring : "");
        }
}

static void render_stack(const Out *out, const cJSON *status) {
        const cJSON *stack = json_member(status, "cloudformation");
        const char *state = text_of(stack, "state"), *name = text_of(stack, "stack");
        Line line = {};

        if (strcmp(state, "off") == 0 || strcmp(state, "none") == 0)
                return;
        add(&line, "%s", strcmp(state, "read") == 0 ? "read" : state);
        if (flag_of(stack, "from_cache"))
                add(&line, " by an earlier process");
        if (*text_of(stack, "read"))
                add(&line, " at %s", text_of(stack, "read"));
        if (*name)
                add(&line, " from %s, %s", name, text_of(stack, "resource"));
        if (flag_of(stack, "by_role"))
                add(&line, ", as the role may");
        if (*text_of(stack, "problem"))
                add(&line, "; %s", text_of(stack, "problem"));
        out_row(out, "Metadata", &line);
}

int status_render(const cJSON *status, unsigned width, bool colour, FILE *f) {
        const Out out = { f, width < WIDTH_MIN ? WIDTH_MIN : width, colour };

        if (!cJSON_IsObject(json_member(status, "headline")))
                return -EBADMSG;

        render_headline(&out, status);
        render_problems(&out, status);
        (void) fputc('\n', f);
        render_pause(&out, status);
        render_identity(&out, status);
        render_stage(&out, status);
        render_record(&out, status);
        render_orphan(&out, status);
        render_patrol(&out, status);
        render_look(&out, status);
        render_brakes(&out, status);
        render_witnesses(&out, status);
        (void) fputc('\n', f);
        render_host(&out, status);
        render_metrics(&out, status);
        render_rights(&out, status);
        render_settings(&out, status);
        render_stack(&out, status);
        return 0;
}
