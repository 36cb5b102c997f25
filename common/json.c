/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Strict JSON: a scan of our own decides whether a text is JSON and says where it is not; only then cJSON
 * builds the tree. What the scan lets through cJSON must take, so that a failure there can only be lack of
 * memory.
 */

#include "common/json.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

/* cJSON copies a number into a buffer of 64 bytes and takes what is beyond for the next token. */
#define NUMBER_MAX  63
#define INTEGER_MAX (INT64_C(1) << 53) /* beyond, double skips whole numbers */

typedef struct Scan {
        const char *text;
        size_t n, at;
        unsigned depth;
        size_t keys;   /* member names seen so far, in the order of the text */
        size_t wanted; /* look where the name of this number is; SIZE_MAX: none */
        size_t wanted_at;
        JsonError *error;
} Scan;

/*
 * Length of the UTF-8 sequence at @p, or 0: RFC 3629, so neither overlong nor a surrogate nor above
 * U+10FFFF.
 */
static size_t utf8_sequence(const char *text, size_t n) {
        const unsigned char *p = (const unsigned char *) text;
        unsigned char low = 0x80, high = 0xbf;
        size_t length;

        if (p[0] < 0x80)
                return 1;
        if (p[0] >= 0xc2 && p[0] <= 0xdf)
                length = 2;
        else if (p[0] >= 0xe0 && p[0] <= 0xef)
                length = 3;
        else if (p[0] >= 0xf0 && p[0] <= 0xf4)
                length = 4;
        else
                return 0;
        if (length > n)
                return 0;
        if (p[0] == 0xe0)
                low = 0xa0;
        else if (p[0] == 0xed)
                high = 0x9f;
        else if (p[0] == 0xf0)
                low = 0x90;
        else if (p[0] == 0xf4)
                high = 0x8f;
        if (p[1] < low || p[1] > high)
                return 0;
        for (size_t i = 2; i < length; i++)
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        return length;
}

static void error_place(JsonError *error, const char *text, size_t at) {
        error->line = error->column = 1;
        for (size_t i = 0; i < at; i++)
                if (text[i] == '\n')
                        error->line++, error->column = 1;
                else
                        error->column++;
}

__attribute__((format(printf, 2, 3))) static int scan_fail(Scan *scan, const char *format, ...) {
        va_list args;

        if (scan->error) {
                error_place(scan->error, scan->text, scan->at);
                va_start(args, format);
                (void) vsnprintf(scan->error->problem, sizeof(scan->error->problem), format, args);
                va_end(args);
        }
        return -EBADMSG;
}

/* The byte at hand; -1 at the end, so that it equals no character */
static int scan_peek(const Scan *scan) {
        return scan->at < scan->n ? (unsigned char) scan->text[scan->at] : -1;
}

static bool scan_starts(const Scan *scan, const char *word) {
        const size_t n = strlen(word);

        return scan->n - scan->at >= n && memcmp(scan->text + scan->at, word, n) == 0;
}

static void scan_blanks(Scan *scan) {
        static const char blanks[] = { ' ', '\t', '\r', '\n' };

        while (scan->at < scan->n && memchr(blanks, scan->text[scan->at], sizeof(blanks)))
                scan->at++;
}

static bool scan_digits(Scan *scan) {
        const size_t start = scan->at;

        while (scan_peek(scan) >= '0' && scan_peek(scan) <= '9')
                scan->at++;
        return scan->at > start;
}

/* Four hexadecimal digits after "\u" at hand; -1 if they are not. Moves past the whole escape. */
static int scan_hex(Scan *scan) {
        int value = 0;

        if (scan->n - scan->at < 6)
                return -1;
        for (size_t i = 2; i < 6; i++) {
                const char c = scan->text[scan->at + i];

                value <<= 4;
                if (c >= '0' && c <= '9')
                        value |= c - '0';
                else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
                        value |= (c | 0x20) - 'a' + 10;
                else
                        return -1;
        }
        scan->at += 6;
        return value;
}

static int scan_escape(Scan *scan) {
        static const char letters[] = { '"', '\\', '/', 'b', 'f', 'n', 'r', 't' };
        const size_t start = scan->at;
        int unit, low = -1;

        if (scan->at + 1 < scan->n && memchr(letters, scan->text[scan->at + 1], sizeof(letters))) {
                scan->at += 2;
                return 0;
        }
        if (!scan_starts(scan, "\\u"))
                return scan_fail(scan, "there is no such escape; a backslash itself is written \\\\");
        unit = scan_hex(scan);
        if (unit < 0)
                return scan_fail(scan, "\\u needs four hexadecimal digits");
        if (unit >= 0xd800 && unit <= 0xdbff && scan_starts(scan, "\\u"))
                low = scan_hex(scan);
        if (unit == 0) {
                scan->at = start;
                return scan_fail(scan, "\\u0000 is not allowed in a text");
        }
        if ((unit >= 0xd800 && unit <= 0xdbff && (low < 0xdc00 || low > 0xdfff)) ||
                (unit >= 0xdc00 && unit <= 0xdfff)) {
                scan->at = start;
                return scan_fail(scan, "half of a surrogate pair");
        }
        return 0;
}

static int scan_string(Scan *scan) {
        const size_t start = scan->at;
        int r;

        for (scan->at++;;) {
                const int c = scan_peek(scan);
                size_t n;

                if (c == '"') {
                        scan->at++;
                        return 0;
                }
                if (c == '\\') {
                        r = scan_escape(scan);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (c < 0) {
                        scan->at = start;
                        return scan_fail(scan, "the closing '\"' of this text is missing");
                }
                if (c == '\n' || c == '\r')
                        return scan_fail(scan, "the line ends inside a text; '\"' is missing, or write \\n");
                if (c < 0x20)
                        return scan_fail(scan, "control character 0x%02x in a text", (unsigned) c);
                n = utf8_sequence(scan->text + scan->at, scan->n - scan->at);
                if (n == 0)
                        return scan_fail(scan, "byte 0x%02x is not valid UTF-8", (unsigned) c);
                scan->at += n;
        }
}

static int scan_number_range(Scan *scan, size_t start) {
        const size_t n = scan->at - start;
        char copy[NUMBER_MAX + 1] = {};

        scan->at = start;
        if (n > NUMBER_MAX)
                return scan_fail(scan, "a number of more than %d characters", NUMBER_MAX);
        memcpy(copy, scan->text + start, n);
        if (!isfinite(strtod(copy, NULL)))
                return scan_fail(scan, "%s is too large a number", copy);
        scan->at += n;
        return 0;
}

static int scan_number(Scan *scan) {
        const size_t start = scan->at;

        if (scan_peek(scan) == '-')
                scan->at++;
        if (scan_peek(scan) == '0') {
                scan->at++;
                if (scan_digits(scan)) {
                        scan->at = start;
                        return scan_fail(scan, "a number must not begin with 0");
                }
        } else if (!scan_digits(scan))
                return scan_fail(scan, "a digit is missing after '-'");
        if (scan_peek(scan) == '.') {
                scan->at++;
                if (!scan_digits(scan))
                        return scan_fail(scan, "a digit is missing after '.'");
        }
        if (scan_peek(scan) == 'e' || scan_peek(scan) == 'E') {
                scan->at++;
                if (scan_peek(scan) == '+' || scan_peek(scan) == '-')
                        scan->at++;
                if (!scan_digits(scan))
                        return scan_fail(scan, "a digit is missing in the exponent");
        }
        return scan_number_range(scan, start);
}

/* What people write instead of JSON */
static int scan_fail_token(Scan *scan, const char *expected) {
        const int c = scan_peek(scan);

        if (c < 0)
                return scan_fail(scan, "the text ends here; expected %s", expected);
        if (c == '/' || c == '#')
                return scan_fail(scan, "JSON has no comments; expected %s", expected);
        if (c == '\'')
                return scan_fail(scan, "single quotes; names and texts stand in double quotes");
        if (scan_starts(scan, "\xef\xbb\xbf"))
                return scan_fail(scan, "a byte order mark; save the text as UTF-8 without one");
        if (c > 0x20 && c < 0x7f)
                return scan_fail(scan, "expected %s, not '%c'", expected, c);
        return scan_fail(scan, "expected %s, not byte 0x%02x", expected, (unsigned) c);
}

static int scan_value(Scan *scan);

static int scan_name(Scan *scan) {
        int r;

        if (scan->keys++ == scan->wanted)
                scan->wanted_at = scan->at;
        if (scan_peek(scan) != '"')
                return scan_fail_token(scan, "a name in double quotes");
        r = scan_string(scan);
        if (r < 0)
                return r;
        scan_blanks(scan);
        if (scan_peek(scan) != ':')
                return scan_fail_token(scan, "':' after the name");
        scan->at++;
        return 0;
}

/* An object or a list, whose opening bracket is at hand */
static int scan_members(Scan *scan, bool object) {
        const int close = object ? '}' : ']';
        int r;

        if (scan->depth == JSON_DEPTH_MAX)
                return scan_fail(scan, "nested more than %d deep", JSON_DEPTH_MAX);
        scan->depth++;
        scan->at++;
        scan_blanks(scan);
        for (bool first = true; !first || scan_peek(scan) != close; first = false) {
                const size_t comma = scan->at - 1;

                scan_blanks(scan);
                if (!first && scan_peek(scan) == close) {
                        scan->at = comma;
                        return scan_fail(scan, "there must be no ',' before '%c'", close);
                }
                r = object ? scan_name(scan) : 0;
                if (r >= 0)
                        r = scan_value(scan);
                if (r < 0)
                        return r;
                scan_blanks(scan);
                if (scan_peek(scan) == close)
                        break;
                if (scan_peek(scan) != ',')
                        return scan_fail_token(scan, object ? "',' or '}'" : "',' or ']'");
                scan->at++;
        }
        scan->at++;
        scan->depth--;
        return 0;
}

static int scan_word(Scan *scan) {
        static const char *const words[] = { "true", "false", "null" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (scan_starts(scan, words[i])) {
                        scan->at += strlen(words[i]);
                        return 0;
                }
        return scan_fail_token(scan, "a value");
}

static int scan_value(Scan *scan) {
        int c;

        scan_blanks(scan);
        c = scan_peek(scan);
        if (c == '{' || c == '[')
                return scan_members(scan, c == '{');
        if (c == '"')
                return scan_string(scan);
        if (c == '-' || (c >= '0' && c <= '9'))
                return scan_number(scan);
        return scan_word(scan);
}

static int scan_document(Scan *scan) {
        int r;

        scan_blanks(scan);
        if (scan->at == scan->n)
                return scan_fail(scan, "the text is empty; the least there can be is {}");
        r = scan_value(scan);
        if (r < 0)
                return r;
        scan_blanks(scan);
        if (scan->at < scan->n)
                return scan_fail_token(scan, "nothing more after the value");
        return 0;
}

typedef struct Name {
        const char *text;
        size_t number; /* as Scan.keys counts */
} Name;

static int name_compare(const void *a, const void *b) {
        const Name *x = a, *y = b;
        const int r = strcmp(x->text, y->text);

        return r != 0 ? r : (x->number > y->number) - (x->number < y->number);
}

/* Look through @node and what is below it. The first name that repeats an earlier one goes to @found. */
static int find_duplicate(const cJSON *node, size_t *keys, Name *found) {
        _cleanup_(freep) Name *heap = NULL;
        Name few[16], *names = few;
        const cJSON *child;
        size_t n = 0, i = 0;
        int r;

        if (!node->child)
                return 0;
        for (child = node->child; child; child = child->next)
                n++;
        if (cJSON_IsObject(node) && n > ELEMENTSOF(few)) {
                names = heap = calloc(n, sizeof(*heap));
                if (!heap)
                        return -ENOMEM;
        }
        for (child = node->child; child; child = child->next) {
                if (cJSON_IsObject(node))
                        names[i++] = (Name){ child->string, (*keys)++ };
                r = find_duplicate(child, keys, found);
                if (r < 0)
                        return r;
        }
        if (i > 1)
                qsort(names, i, sizeof(*names), name_compare);
        for (size_t k = 1; k < i; k++)
                if (strcmp(names[k - 1].text, names[k].text) == 0 &&
                        (!found->text || names[k].number < found->number))
                        *found = names[k];
        return 0;
}

static int refuse_duplicates(const cJSON *json, Scan *scan) {
        Name found = {};
        size_t keys = 0;
        int shown, r;

        r = find_duplicate(json, &keys, &found);
        if (r < 0)
                return r;
        if (!found.text)
                return 0;

        /* The tree knows no places: read once more up to that name. */
        scan->at = scan->keys = 0;
        scan->wanted = found.number;
        (void) scan_document(scan);
        scan->at = scan->wanted_at;
        shown = (int) strnlen(found.text, 100);
        while (shown > 0 && (found.text[shown] & 0xc0) == 0x80)
                shown--;
        return scan_fail(scan, "key \"%.*s\" appears twice", shown, found.text);
}

int json_parse(const char *text, size_t n, JsonError *error, cJSON **ret) {
        _cleanup_(json_freep) cJSON *json = NULL;
        Scan scan = { .text = text, .n = n, .wanted = SIZE_MAX, .error = error };
        int r;

        r = scan_document(&scan);
        if (r < 0)
                return r;
        json = cJSON_ParseWithLength(text, n);
        if (!json)
                return -ENOMEM;
        r = refuse_duplicates(json, &scan);
        if (r < 0)
                return r;

        *ret = steal_ptr(json);
        return 0;
}

const cJSON *json_member(const cJSON *object, const char *name) {
        const cJSON *member;

        if (!cJSON_IsObject(object))
                return NULL;
        for (member = object->child; member; member = member->next)
                if (member->string && strcmp(member->string, name) == 0)
                        return cJSON_IsNull(member) ? NULL : member;
        return NULL;
}

int json_get_string(const cJSON *object, const char *name, const char **ret) {
        const cJSON *member = json_member(object, name);

        if (!member)
                return -ENOENT;
        if (!cJSON_IsString(member))
                return -EBADMSG;
        *ret = member->valuestring;
        return 0;
}

int json_get_bool(const cJSON *object, const char *name, bool *ret) {
        const cJSON *member = json_member(object, name);

        if (!member)
                return -ENOENT;
        if (!cJSON_IsBool(member))
                return -EBADMSG;
        *ret = cJSON_IsTrue(member);
        return 0;
}

int json_get_i64(const cJSON *object, const char *name, int64_t *ret) {
        const cJSON *member = json_member(object, name);
        double value;

        if (!member)
                return -ENOENT;
        if (!cJSON_IsNumber(member))
                return -EBADMSG;
        value = member->valuedouble;
        if (!(value >= -(double) INTEGER_MAX && value <= (double) INTEGER_MAX))
                return -ERANGE;
        if (value < (double) (int64_t) value || value > (double) (int64_t) value)
                return -EBADMSG;
        *ret = (int64_t) value;
        return 0;
}

int json_get_array(const cJSON *object, const char *name, const cJSON **ret) {
        const cJSON *member = json_member(object, name);

        if (!member)
                return -ENOENT;
        if (!cJSON_IsArray(member))
                return -EBADMSG;
        *ret = member;
        return 0;
}

int json_get_object(const cJSON *object, const char *name, const cJSON **ret) {
        const cJSON *member = json_member(object, name);

        if (!member)
                return -ENOENT;
        if (!cJSON_IsObject(member))
                return -EBADMSG;
        *ret = member;
        return 0;
}

void json_writer_init(JsonWriter *writer, size_t max) {
        *writer = (JsonWriter){ .max = max };
}

void json_writer_done(JsonWriter *writer) {
        free(writer->text);
        *writer = (JsonWriter){};
}

/* Room for @n more bytes and the NUL */
static int writer_reserve(JsonWriter *writer, size_t n) {
        size_t wanted;
        char *grown;

        if (n > writer->max - writer->n)
                return -E2BIG;
        if (writer->n + n < writer->allocated)
                return 0;
        wanted = writer->allocated > 0 ? writer->allocated : 256;
        while (wanted <= writer->n + n)
                wanted = wanted > SIZE_MAX / 2 ? writer->n + n + 1 : wanted * 2;
        grown = realloc(writer->text, wanted);
        if (!grown)
                return -ENOMEM;
        writer->text = grown;
        writer->allocated = wanted;
        return 0;
}

void json_raw(JsonWriter *writer, const char *text, size_t n) {
        if (writer->error < 0)
                return;
        writer->error = writer_reserve(writer, n);
        if (writer->error < 0)
                return;
        if (n > 0)
                memcpy(writer->text + writer->n, text, n);
        writer->n += n;
        writer->text[writer->n] = '\0';
}

static void write_text(JsonWriter *writer, const char *text) {
        json_raw(writer, text, strlen(text));
}

/* One character of @text in quotes; how many bytes of it that was */
static size_t write_character(JsonWriter *writer, const char *text, size_t left) {
        static const char controls[] = "\b\f\n\r\t", letters[] = "bfnrt";
        const char *control = strchr(controls, *text);
        const size_t n = utf8_sequence(text, left);
        char escape[8];

        if (n == 0) {
                write_text(writer, "\xef\xbf\xbd");
                return 1;
        }
        if (*text == '"' || *text == '\\')
                snprintf(escape, sizeof(escape), "\\%c", *text);
        else if (control)
                snprintf(escape, sizeof(escape), "\\%c", letters[control - controls]);
        else if (*text > 0 && *text < 0x20)
                snprintf(escape, sizeof(escape), "\\u%04x", (unsigned) *text);
        else {
                json_raw(writer, text, n);
                return n;
        }
        write_text(writer, escape);
        return n;
}

/* ASCII that stands for itself in a JSON text */
static bool is_plain(char c) {
        return (unsigned char) c >= 0x20 && (unsigned char) c < 0x80 && c != '"' && c != '\\';
}

static void write_quoted(JsonWriter *writer, const char *text) {
        const size_t n = strlen(text);

        json_raw(writer, "\"", 1);
        for (size_t i = 0; i < n && writer->error >= 0;) {
                size_t plain = i;

                while (plain < n && is_plain(text[plain]))
                        plain++;
                json_raw(writer, text + i, plain - i);
                i = plain;
                if (i < n)
                        i += write_character(writer, text + i, n - i);
        }
        json_raw(writer, "\"", 1);
}

/* What stands before a value: the comma, and the name of a member */
static void write_prefix(JsonWriter *writer, const char *name) {
        if (writer->comma)
                json_raw(writer, ",", 1);
        writer->comma = true;
        if (!name)
                return;
        write_quoted(writer, name);
        json_raw(writer, ":", 1);
}

void json_begin_object(JsonWriter *writer, const char *name) {
        write_prefix(writer, name);
        json_raw(writer, "{", 1);
        writer->comma = false;
}

void json_end_object(JsonWriter *writer) {
        json_raw(writer, "}", 1);
        writer->comma = true;
}

void json_begin_array(JsonWriter *writer, const char *name) {
        write_prefix(writer, name);
        json_raw(writer, "[", 1);
        writer->comma = false;
}

void json_end_array(JsonWriter *writer) {
        json_raw(writer, "]", 1);
        writer->comma = true;
}

void json_string(JsonWriter *writer, const char *name, const char *text) {
        write_prefix(writer, name);
        if (text)
                write_quoted(writer, text);
        else
                write_text(writer, "null");
}

void json_i64(JsonWriter *writer, const char *name, int64_t value) {
        char text[32];

        write_prefix(writer, name);
        snprintf(text, sizeof(text), "%" PRId64, value);
        write_text(writer, text);
}

void json_bool(JsonWriter *writer, const char *name, bool value) {
        write_prefix(writer, name);
        write_text(writer, value ? "true" : "false");
}

void json_null(JsonWriter *writer, const char *name) {
        write_prefix(writer, name);
        write_text(writer, "null");
}

void json_double(JsonWriter *writer, const char *name, double value) {
        /*
         * 15 digits always survive the way through a double, 17 always suffice; subnormal ones have fewer.
         */
        const int least = value > -DBL_MIN && value < DBL_MIN ? 1 : 15;
        char text[40];

        write_prefix(writer, name);
        if (!isfinite(value)) {
                write_text(writer, "null");
                return;
        }
        for (int digits = least; digits <= 17; digits++) {
                double back;

                snprintf(text, sizeof(text), "%.*g", digits, value);
                back = strtod(text, NULL);
                if (!(back < value || back > value))
                        break;
        }
        write_text(writer, text);
}
