/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading settings by a table. A text is read in two passes: the first converts every value into a scratch
 * and notes what is wrong, the second, which runs only if nothing was, converts them into the settings.
 */

#include "common/options.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "common/parse.h"

#define PATH_SIZE     160 /* longer than any name in a table; longer names in a file are unknown ones */
#define REASON_SIZE   200
#define EXPECTED_SIZE 1024    /* a list may have many words to choose from */
#define COUNT_MAX     1000000 /* of an amount; no group is larger */

typedef union Value {
        bool boolean;
        int64_t number; /* spans and shares as well */
        OptionAmount amount;
        OptionText text;
        unsigned choice;
        OptionList list;
} Value;

static size_t value_size(OptionType type) {
        switch (type) {
        case OPTION_BOOL: return sizeof(bool);
        case OPTION_NUMBER:
        case OPTION_SPAN:
        case OPTION_SHARE: return sizeof(int64_t);
        case OPTION_AMOUNT: return sizeof(OptionAmount);
        case OPTION_TEXT: return sizeof(OptionText);
        case OPTION_CHOICE: return sizeof(unsigned);
        case OPTION_LIST: return sizeof(OptionList);
        }
        assert(false);
        return 0;
}

/* A text in a buffer that is appended to and cut where it ends */
typedef struct Line {
        char *at;
        size_t n, size;
} Line;

__attribute__((format(printf, 2, 3))) static void line_add(Line *line, const char *format, ...) {
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(line->at + line->n, line->size - line->n, format, args);
        va_end(args);
        if (n > 0)
                line->n += (size_t) n < line->size - line->n ? (size_t) n : line->size - line->n - 1;
}

/* @text for a message: at most @max bytes, whole characters, on one line */
static void line_add_foreign(Line *line, const char *text, size_t max) {
        const size_t length = strlen(text);
        size_t n = length < max ? length : max;

        while (n < length && n > 0 && ((unsigned char) text[n] & 0xc0) == 0x80)
                n--;
        for (size_t i = 0; i < n; i++)
                line_add(line, "%c", (unsigned char) text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i]);
        if (n < length)
                line_add(line, "...");
}

/* The largest unit that divides it: what is printed can be read back. */
static void line_add_span(Line *line, Span span) {
        static const struct {
                const char *name;
                Span usec;
        } units[] = { { "d", SPAN_DAY(1) }, { "h", SPAN_HOUR(1) }, { "m", SPAN_MIN(1) },
                { "s", SPAN_SEC(1) }, { "ms", SPAN_MSEC(1) }, { "us", 1 } };
        size_t i = 0;

        if (span == 0) {
                line_add(line, "0s");
                return;
        }
        while (span % units[i].usec != 0)
                i++;
        line_add(line, "%" PRId64 "%s", span / units[i].usec, units[i].name);
}

static void line_add_share(Line *line, int64_t share) {
        const int64_t fraction = share % 100;

        if (fraction == 0)
                line_add(line, "%" PRId64 "%%", share / 100);
        else if (fraction % 10 == 0)
                line_add(line, "%" PRId64 ".%" PRId64 "%%", share / 100, fraction / 10);
        else
                line_add(line, "%" PRId64 ".%02" PRId64 "%%", share / 100, fraction);
}

/* A number as the type of @option spells it */
static void line_add_number(Line *line, const Option *option, int64_t number) {
        if (option->type == OPTION_SPAN)
                line_add_span(line, number);
        else if (option->type == OPTION_SHARE || option->type == OPTION_AMOUNT)
                line_add_share(line, number);
        else
                line_add(line, "%" PRId64, number);
}

static void line_add_choices(Line *line, const char *const *choices) {
        for (const char *const *choice = choices; *choice; choice++)
                line_add(line, "%s\"%s\"", choice == choices ? "" : ", ", *choice);
}

static bool has_bounds(const Option *option) {
        return option->min != 0 || option->max != 0;
}

static void option_bounds(const Option *option, bool unsafe, int64_t *ret_min, int64_t *ret_max) {
        const bool floors = !unsafe && (option->floor_min != 0 || option->floor_max != 0);

        *ret_min = has_bounds(option) ? option->min : 0;
        *ret_max = has_bounds(option) ? option->max : INT64_MAX;
        if (floors && option->floor_min > *ret_min)
                *ret_min = option->floor_min;
        if (floors && option->floor_max > 0 && option->floor_max < *ret_max)
                *ret_max = option->floor_max;
}

static void line_add_range(Line *line, const Option *option, bool unsafe) {
        int64_t min, max;

        option_bounds(option, unsafe, &min, &max);
        if (max == INT64_MAX)
                return;
        line_add(line, " from ");
        line_add_number(line, option, min);
        line_add(line, " to ");
        line_add_number(line, option, max);
}

/* "a share from 1% to 50%" */
static void line_add_expected(Line *line, const Option *option, bool unsafe) {
        switch (option->type) {
        case OPTION_BOOL: line_add(line, "true or false"); break;
        case OPTION_NUMBER:
                line_add(line, "a whole number");
                line_add_range(line, option, unsafe);
                break;
        case OPTION_SPAN:
                line_add(line, "a duration");
                line_add_range(line, option, unsafe);
                break;
        case OPTION_SHARE:
                line_add(line, "a share");
                line_add_range(line, option, unsafe);
                break;
        case OPTION_AMOUNT:
                line_add(line, "a whole number or a share");
                line_add_range(line, option, unsafe);
                break;
        case OPTION_TEXT: line_add(line, "a text"); break;
        case OPTION_CHOICE: line_add_choices(line, option->choices); break;
        case OPTION_LIST:
                line_add(line, "a list of texts");
                if (option->choices) {
                        line_add(line, " among ");
                        line_add_choices(line, option->choices);
                }
                break;
        }
        if (option->nullable)
                line_add(line, ", or null");
}

/* The value as it stands in the file, shortened */
static void line_add_value(Line *line, const cJSON *json) {
        if (cJSON_IsString(json)) {
                line_add(line, "\"");
                line_add_foreign(line, json->valuestring, 60);
                line_add(line, "\"");
        } else if (cJSON_IsNumber(json))
                line_add(line, "%.15g", json->valuedouble);
        else if (cJSON_IsBool(json))
                line_add(line, cJSON_IsTrue(json) ? "true" : "false");
        else if (cJSON_IsNull(json))
                line_add(line, "null");
        else
                line_add(line, cJSON_IsArray(json) ? "a list" : "an object");
}

/* Why a value was refused: "VALUE REASON". For callers to return. */
__attribute__((format(printf, 3, 4))) static int refuse(
        Line *reason, const cJSON *json, const char *format, ...) {
        char text[REASON_SIZE];
        va_list args;

        va_start(args, format);
        (void) vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        line_add_value(reason, json);
        line_add(reason, " %s", text);
        return -EBADMSG;
}

static int check_bounds(const Option *option, bool unsafe, const cJSON *json, int64_t number, Line *reason) {
        char text[64] = "";
        Line bound = { text, 0, sizeof(text) };
        int64_t min, max;

        option_bounds(option, unsafe, &min, &max);
        if (number >= min && number <= max)
                return 0;
        line_add_number(&bound, option, number < min ? min : max);
        return refuse(reason, json, "is %s the allowed %s", number < min ? "below" : "above", text);
}

/* A number that is whole and that double holds exactly */
static int read_whole(const cJSON *json, int64_t *ret) {
        const double value = json->valuedouble;

        if (!(value >= -9007199254740992.0 && value <= 9007199254740992.0))
                return -ERANGE;
        if (value < (double) (int64_t) value || value > (double) (int64_t) value)
                return -EINVAL;
        *ret = (int64_t) value;
        return 0;
}

static int read_bool(const cJSON *json, Value *ret, Line *reason) {
        if (cJSON_IsBool(json)) {
                ret->boolean = cJSON_IsTrue(json);
                return 0;
        }
        if (cJSON_IsString(json) && parse_bool(json->valuestring, &ret->boolean) >= 0)
                return 0;
        return refuse(reason, json, "is neither true nor false");
}

static int read_number(const Option *option, bool unsafe, const cJSON *json, Value *ret, Line *reason) {
        int r = -EINVAL;

        if (cJSON_IsNumber(json))
                r = read_whole(json, &ret->number);
        else if (cJSON_IsString(json))
                r = parse_i64(json->valuestring, &ret->number);
        if (r == -ERANGE)
                return refuse(reason, json, "is out of all range");
        if (r < 0)
                return refuse(reason, json, "is not a whole number");
        return check_bounds(option, unsafe, json, ret->number, reason);
}

static int read_span(const Option *option, bool unsafe, const cJSON *json, Value *ret, Line *reason) {
        int r = -EINVAL;

        if (cJSON_IsString(json))
                r = parse_span(json->valuestring, &ret->number);
        else if (cJSON_IsNumber(json) && json->valuedouble > 9e12)
                r = -ERANGE;
        else if (cJSON_IsNumber(json) && json->valuedouble >= 0) {
                ret->number = (int64_t) (json->valuedouble * 1e6 + 0.5);
                r = 0;
        }
        if (r == -ERANGE)
                return refuse(reason, json, "is out of all range");
        if (r < 0)
                return refuse(reason, json,
                        "is not a duration such as \"90s\", \"5m\", \"2h\" or a number of seconds");
        return check_bounds(option, unsafe, json, ret->number, reason);
}

static int read_share(const Option *option, bool unsafe, const cJSON *json, int64_t *ret, Line *reason) {
        uint32_t share = 0;
        int r = -EINVAL;

        if (cJSON_IsString(json))
                r = parse_share(json->valuestring, &share);
        if (r == -ERANGE)
                return refuse(reason, json, "is more than 100%%");
        if (r < 0)
                return refuse(reason, json, "is not a share such as \"20%%\"");
        *ret = share;
        return check_bounds(option, unsafe, json, share, reason);
}

static int read_amount(const Option *option, bool unsafe, const cJSON *json, Value *ret, Line *reason) {
        int r = -EINVAL;

        ret->amount = (OptionAmount){ -1, -1 };
        if (cJSON_IsNull(json))
                return 0;
        if (cJSON_IsString(json) && strchr(json->valuestring, '%'))
                return read_share(option, unsafe, json, &ret->amount.share, reason);
        if (cJSON_IsNumber(json))
                r = read_whole(json, &ret->amount.count);
        else if (cJSON_IsString(json))
                r = parse_i64(json->valuestring, &ret->amount.count);
        if (r == -EINVAL)
                return refuse(reason, json, "is neither a whole number nor a share such as \"10%%\"");
        if (r < 0 || ret->amount.count < 0 || ret->amount.count > COUNT_MAX)
                return refuse(reason, json, "is not from 0 to %d", COUNT_MAX);
        return 0;
}

static bool has_control(const char *text) {
        for (; *text; text++)
                if ((unsigned char) *text < 0x20 || *text == 0x7f)
                        return true;
        return false;
}

static int read_text(const Option *option, const cJSON *json, Value *ret, Line *reason) {
        const char *text = cJSON_IsNull(json) ? "" : json->valuestring;

        if (!cJSON_IsNull(json) && !cJSON_IsString(json))
                return refuse(reason, json, "is not a text");
        if (!*text && !option->nullable)
                return refuse(reason, json, "is empty");
        if (strlen(text) >= OPTION_TEXT_MAX)
                return refuse(reason, json, "is longer than %d bytes", OPTION_TEXT_MAX - 1);
        if (has_control(text))
                return refuse(reason, json, "holds a control character");
        memset(ret->text, 0, sizeof(ret->text));
        memcpy(ret->text, text, strlen(text));
        return 0;
}

/* How far two names may be apart for the one to be meant by the other */
static unsigned distance_limit(const char *name) {
        const unsigned n = (unsigned) strnlen(name, 65);

        return n > 64 ? 0 : 1 + n / 3; /* edit_distance() looks at 64 bytes */
}

static const char *nearest_choice(const char *const *choices, const char *name) {
        unsigned best = distance_limit(name) + 1;
        const char *nearest = NULL;

        for (; *choices; choices++)
                if (edit_distance(*choices, name) < best) {
                        best = edit_distance(*choices, name);
                        nearest = *choices;
                }
        return nearest;
}

/* Index of the text @json among the choices, or its refusal */
static int read_choice(const Option *option, const cJSON *json, unsigned *ret, Line *reason) {
        const char *nearest;

        if (!cJSON_IsString(json))
                return refuse(reason, json, "is not a text");
        for (unsigned i = 0; option->choices[i]; i++)
                if (strcmp(option->choices[i], json->valuestring) == 0) {
                        *ret = i;
                        return 0;
                }
        nearest = nearest_choice(option->choices, json->valuestring);
        if (nearest)
                return refuse(reason, json, "is unknown; did you mean \"%s\"?", nearest);
        return refuse(reason, json, "is unknown");
}

static int read_item(const Option *option, const cJSON *json, OptionList *list, Line *reason) {
        unsigned choice;
        int r;

        if (!cJSON_IsString(json))
                return refuse(reason, json, "is not a text");
        if (option->choices) {
                r = read_choice(option, json, &choice, reason);
                if (r < 0)
                        return r;
        }
        if (!*json->valuestring || has_control(json->valuestring))
                return refuse(reason, json, "is empty or holds a control character");
        if (strlen(json->valuestring) >= sizeof(list->items[0]))
                return refuse(reason, json, "is longer than %zu bytes", sizeof(list->items[0]) - 1);
        if (list->n == OPTION_LIST_MAX)
                return refuse(reason, json, "is one too many: %d are allowed", OPTION_LIST_MAX);
        memcpy(list->items[list->n++], json->valuestring, strlen(json->valuestring) + 1);
        return 0;
}

static int read_list(const Option *option, const cJSON *json, Value *ret, Line *reason) {
        const cJSON *item;
        int r;

        memset(&ret->list, 0, sizeof(ret->list));
        if (cJSON_IsNull(json))
                return 0;
        if (cJSON_IsString(json))
                return read_item(option, json, &ret->list, reason);
        if (!cJSON_IsArray(json))
                return refuse(reason, json, "is not a list");
        cJSON_ArrayForEach(item, json) {
                r = read_item(option, item, &ret->list, reason);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int value_read(const Option *option, bool unsafe, const cJSON *json, Value *ret, Line *reason) {
        if (cJSON_IsNull(json) && !option->nullable)
                return refuse(reason, json, "is not allowed");
        switch (option->type) {
        case OPTION_BOOL: return read_bool(json, ret, reason);
        case OPTION_NUMBER: return read_number(option, unsafe, json, ret, reason);
        case OPTION_SPAN: return read_span(option, unsafe, json, ret, reason);
        case OPTION_SHARE: return read_share(option, unsafe, json, &ret->number, reason);
        case OPTION_AMOUNT: return read_amount(option, unsafe, json, ret, reason);
        case OPTION_TEXT: return read_text(option, json, ret, reason);
        case OPTION_CHOICE: return read_choice(option, json, &ret->choice, reason);
        case OPTION_LIST: return read_list(option, json, ret, reason);
        }
        assert(false);
        return -EBADMSG;
}

static void value_store(const Option *option, const Value *value, void *settings) {
        memcpy((char *) settings + option->offset, value, value_size(option->type));
}

static void value_load(const Option *option, const void *settings, Value *ret) {
        memcpy(ret, (const char *) settings + option->offset, value_size(option->type));
}

int options_default(const Option *table, size_t n, void *settings) {
        for (size_t i = 0; i < n; i++) {
                _cleanup_(json_freep) cJSON *json = NULL;
                char text[REASON_SIZE] = "";
                Line reason = { text, 0, sizeof(text) };
                Value value = {};
                int r;

                r = json_parse(table[i].standard, strlen(table[i].standard), NULL, &json);
                if (r == -ENOMEM)
                        return r;
                assert(r >= 0);
                r = value_read(&table[i], false, json, &value, &reason);
                assert(r >= 0);
                value_store(&table[i], &value, settings);
        }
        return 0;
}

typedef struct Reader {
        const Option *table;
        size_t n;
        const char *source;
        bool unsafe;
        const cJSON **values; /* per row what the text gives it; lent by the tree */
        OptionProblems *problems;
} Reader;

/*
 * Begin one more problem, "SOURCE: PATH: "; it is cut if it grows too long, and lost if there are too many.
 */
static Line problem_begin(Reader *reader, const char *path) {
        static char surplus[1];
        OptionProblems *problems = reader->problems;
        Line line = { surplus, 0, sizeof(surplus) };

        if (problems->n < OPTION_PROBLEMS_MAX)
                line = (Line){ problems->text[problems->n], 0, sizeof(problems->text[0]) };
        problems->n++;
        line_add_foreign(&line, reader->source, 100);
        line_add(&line, ": ");
        if (path) {
                line_add_foreign(&line, path, 80);
                line_add(&line, ": ");
        }
        return line;
}

static const Option *row_find(const Reader *reader, const char *path) {
        for (size_t i = 0; i < reader->n; i++)
                if (strcmp(reader->table[i].name, path) == 0)
                        return &reader->table[i];
        return NULL;
}

/*
 * What @name says below @prefix, where "" is the top and "brakes" an object: "max_sick"; NULL if it is not
 * below it
 */
static const char *below(const char *name, const char *prefix) {
        const size_t n = strlen(prefix);

        if (n == 0)
                return name;
        return strncmp(name, prefix, n) == 0 && name[n] == '.' ? name + n + 1 : NULL;
}

static bool is_group(const Reader *reader, const char *path) {
        for (size_t i = 0; i < reader->n; i++)
                if (below(reader->table[i].name, path))
                        return true;
        return false;
}

/*
 * The key that row @i has in the object @prefix: its name up to the next '.'. False if it has none, or one
 * seen before.
 */
static bool sibling(const Option *table, size_t i, const char *prefix, char ret[static PATH_SIZE]) {
        const char *rest = below(table[i].name, prefix);
        size_t n;

        if (!rest)
                return false;
        n = strcspn(rest, ".");
        for (size_t k = 0; k < i; k++) {
                const char *other = below(table[k].name, prefix);

                if (other && strcspn(other, ".") == n && memcmp(other, rest, n) == 0)
                        return false;
        }
        assert(n < PATH_SIZE);
        memcpy(ret, rest, n);
        ret[n] = '\0';
        return true;
}

/* The nearest key of the same object, else the same key of another one, as its whole path */
static bool suggest(const Reader *reader, const char *prefix, const char *name, char ret[static PATH_SIZE]) {
        unsigned best = distance_limit(name) + 1;
        const unsigned none = best;
        char key[PATH_SIZE];

        for (size_t i = 0; i < reader->n; i++)
                if (sibling(reader->table, i, prefix, key) && edit_distance(key, name) < best) {
                        best = edit_distance(key, name);
                        memcpy(ret, key, sizeof(key));
                }
        if (best < none)
                return true;
        for (size_t i = 0; i < reader->n; i++) {
                const char *dot = strrchr(reader->table[i].name, '.');

                if (dot && strcmp(dot + 1, name) == 0) {
                        snprintf(ret, PATH_SIZE, "%s", reader->table[i].name);
                        return true;
                }
        }
        return false;
}

static void refuse_key(Reader *reader, const char *prefix, const char *name, const char *path) {
        Line line = problem_begin(reader, path);
        char key[PATH_SIZE];
        bool first = true;

        if (line.size <= 1)
                return; /* not kept: a file of a million unknown keys must not cost a search each */
        line_add(&line, "unknown key");
        if (strchr(name, '.') && row_find(reader, path)) {
                line_add(&line, "; write it as nested objects, {\"%.*s\": {...}}", (int) strcspn(name, "."),
                        name);
                return;
        }
        if (suggest(reader, prefix, name, key)) {
                line_add(&line, "; did you mean \"%s\"?", key);
                return;
        }
        for (size_t i = 0; i < reader->n; i++)
                if (sibling(reader->table, i, prefix, key)) {
                        line_add(&line, "%s\"%s\"", first ? "; expected one of " : ", ", key);
                        first = false;
                }
}

static void read_row(Reader *reader, const Option *option, const cJSON *json) {
        char text[REASON_SIZE] = "", wanted[EXPECTED_SIZE] = "";
        Line reason = { text, 0, sizeof(text) }, expected = { wanted, 0, sizeof(wanted) }, line;
        Value value;

        if (value_read(option, reader->unsafe, json, &value, &reason) >= 0) {
                reader->values[option - reader->table] = json;
                return;
        }
        line = problem_begin(reader, option->name);
        line_add_expected(&expected, option, reader->unsafe);
        line_add(&line, "%s%s expected %s", text, reason.n > 0 && text[reason.n - 1] == '?' ? "" : ";",
                wanted);
}

/* Not deeper than the table is: an object that it does not know is not entered. */
static void read_object(Reader *reader, const cJSON *object, const char *prefix) {
        const cJSON *member;

        cJSON_ArrayForEach(member, object) {
                char path[PATH_SIZE];
                const int n =
                        snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "." : "", member->string);
                const bool possible = n > 0 && (size_t) n < sizeof(path) && !strchr(member->string, '.');
                const Option *option = possible ? row_find(reader, path) : NULL;

                if (option)
                        read_row(reader, option, member);
                else if (!possible || !is_group(reader, path))
                        refuse_key(reader, prefix, member->string, path);
                else if (cJSON_IsObject(member))
                        read_object(reader, member, path);
                else {
                        Line line = problem_begin(reader, path);

                        line_add_value(&line, member);
                        line_add(&line, " is not an object; expected {...} with the settings below it");
                }
        }
}

static void apply(const Reader *reader, void *settings, const char **origins) {
        for (size_t i = 0; i < reader->n; i++) {
                char text[REASON_SIZE] = "";
                Line reason = { text, 0, sizeof(text) };
                Value value = {};
                int r;

                if (!reader->values[i])
                        continue;
                r = value_read(&reader->table[i], reader->unsafe, reader->values[i], &value, &reason);
                assert(r >= 0); /* it was accepted a moment ago */
                value_store(&reader->table[i], &value, settings);
                if (origins)
                        origins[i] = reader->source;
        }
}

int options_read(const Option *table, size_t n, const char *source, const char *text, size_t n_text,
        bool unsafe, void *settings, const char **origins, OptionProblems *problems) {
        _cleanup_(json_freep) cJSON *json = NULL;
        _cleanup_(freep) const cJSON **values = NULL;
        Reader reader = { table, n, source, unsafe, NULL, problems };
        JsonError error = {};
        int r;

        problems->n = 0;
        reader.values = values = calloc(n + 1, sizeof(const cJSON *));
        if (!values)
                return -ENOMEM;
        r = json_parse(text, n_text, &error, &json);
        if (r == -EBADMSG) {
                Line line = problem_begin(&reader, NULL);

                line_add(&line, "line %u, column %u: ", error.line, error.column);
                line_add_foreign(&line, error.problem, sizeof(error.problem));
        }
        if (r < 0)
                return r;
        if (cJSON_IsObject(json))
                read_object(&reader, json, "");
        else {
                Line line = problem_begin(&reader, NULL);

                line_add_value(&line, json);
                line_add(&line, " is not an object; expected {...} with settings");
        }
        if (problems->n > 0)
                return -EBADMSG;

        apply(&reader, settings, origins);
        return 0;
}

static void write_amount(JsonWriter *writer, const OptionAmount *amount) {
        char text[32] = "";
        Line line = { text, 0, sizeof(text) };

        if (amount->share >= 0) {
                line_add_share(&line, amount->share);
                json_string(writer, NULL, text);
        } else if (amount->count >= 0)
                json_i64(writer, NULL, amount->count);
        else
                json_null(writer, NULL);
}

static void write_value(JsonWriter *writer, const Option *option, const Value *value) {
        char text[32] = "";
        Line line = { text, 0, sizeof(text) };

        switch (option->type) {
        case OPTION_BOOL: json_bool(writer, NULL, value->boolean); break;
        case OPTION_NUMBER: json_i64(writer, NULL, value->number); break;
        case OPTION_SPAN:
        case OPTION_SHARE:
                line_add_number(&line, option, value->number);
                json_string(writer, NULL, text);
                break;
        case OPTION_AMOUNT: write_amount(writer, &value->amount); break;
        case OPTION_TEXT:
                json_string(writer, NULL, option->nullable && !*value->text ? NULL : value->text);
                break;
        case OPTION_CHOICE: json_string(writer, NULL, option->choices[value->choice]); break;
        case OPTION_LIST:
                json_begin_array(writer, NULL);
                for (unsigned i = 0; i < value->list.n; i++)
                        json_string(writer, NULL, value->list.items[i]);
                json_end_array(writer);
                break;
        }
}

int option_format(const Option *option, const void *settings, char *buffer, size_t n_buffer) {
        JsonWriter writer;
        Value value;
        int r;

        if (n_buffer == 0)
                return -E2BIG;
        value_load(option, settings, &value);
        json_writer_init(&writer, n_buffer - 1);
        write_value(&writer, option, &value);
        r = writer.error;
        if (r >= 0)
                memcpy(buffer, writer.text, writer.n + 1);
        json_writer_done(&writer);
        return r;
}

/*
 * Words of @text, the first line from column @first, the others from @rest, none beyond @width if a word can
 * help it
 */
static void print_folded(FILE *f, const char *text, unsigned first, unsigned rest, unsigned width) {
        size_t column = first;
        bool begun = false;

        fprintf(f, "%*s", (int) first, "");
        while (*text) {
                const size_t n = strcspn(text, " ");

                if (begun && column + 1 + n > width) {
                        fprintf(f, "\n%*s", (int) rest, "");
                        column = rest;
                } else if (begun) {
                        fputc(' ', f);
                        column++;
                }
                fprintf(f, "%.*s", (int) n, text);
                column += n;
                begun = true;
                text += n;
                text += strspn(text, " ");
        }
        fputc('\n', f);
}

void options_print_help(const Option *table, size_t n, FILE *f, unsigned width) {
        for (size_t i = 0; i < n; i++) {
                char text[EXPECTED_SIZE + 256] = "";
                Line line = { text, 0, sizeof(text) };

                line_add(&line, "%s: ", table[i].name);
                line_add_expected(&line, &table[i], false);
                line_add(&line, "; default %s", table[i].standard);
                print_folded(f, text, 2, 6, width);
                print_folded(f, table[i].help, 6, 6, width);
        }
}

/*
 * The members of the object @prefix, and within them their own; keys in the order in which the table first
 * has them
 */
static void print_members(const Option *table, size_t n, FILE *f, const char *prefix, unsigned indent) {
        char key[PATH_SIZE], path[2 * PATH_SIZE];
        bool first = true;

        for (size_t i = 0; i < n; i++) {
                if (!sibling(table, i, prefix, key))
                        continue;
                fprintf(f, "%s%*s\"%s\": ", first ? "\n" : ",\n", (int) indent, "", key);
                first = false;
                if (strchr(below(table[i].name, prefix), '.')) {
                        snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "." : "", key);
                        fputc('{', f);
                        print_members(table, n, f, path, indent + 2);
                        fprintf(f, "\n%*s}", (int) indent, "");
                } else
                        fputs(table[i].standard, f);
        }
}

void options_print_sample(const Option *table, size_t n, FILE *f) {
        fputc('{', f);
        print_members(table, n, f, "", 2);
        fputs("\n}\n", f);
}

/* A cell of a table: '|' would end it. */
static void print_cell(FILE *f, const char *text) {
        for (; *text; text++)
                fprintf(f, *text == '|' ? "\\%c" : "%c", *text);
}

void options_print_markdown(const Option *table, size_t n, FILE *f) {
        fputs("| key | default | allowed | meaning |\n| --- | --- | --- | --- |\n", f);
        for (size_t i = 0; i < n; i++) {
                char text[EXPECTED_SIZE] = "";
                Line line = { text, 0, sizeof(text) };

                line_add_expected(&line, &table[i], false);
                fprintf(f, "| `%s` | `", table[i].name);
                print_cell(f, table[i].standard);
                fputs("` | ", f);
                print_cell(f, text);
                fputs(" | ", f);
                print_cell(f, table[i].help);
                fputs(" |\n", f);
        }
}

void option_list_array(const OptionList *list, const char *array[static OPTION_LIST_MAX + 1]) {
        for (unsigned i = 0; i < list->n; i++)
                array[i] = list->items[i];
        array[list->n] = NULL;
}
