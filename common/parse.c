/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Readers and writers of small texts. Calendar dates are computed here: gmtime_r() and timegm() would read
 * the time zone's file, and a disk that hangs must not hang a log line.
 */

#include "common/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"

#define DAY_SEC      86400
#define USEC_PER_SEC 1000000

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

int parse_u64(const char *text, uint64_t *ret) {
        uint64_t value = 0;
        bool over = false;

        if (!*text)
                return -EINVAL;
        for (; *text; text++) {
                if (!is_digit(*text))
                        return -EINVAL;
                over |= __builtin_mul_overflow(value, 10U, &value);
                over |= __builtin_add_overflow(value, (uint64_t) (*text - '0'), &value);
        }
        if (over)
                return -ERANGE;

        *ret = value;
        return 0;
}

int parse_i64(const char *text, int64_t *ret) {
        const bool minus = *text == '-';
        uint64_t value = 0;
        int r;

        r = parse_u64(text + minus, &value);
        if (r < 0)
                return r;
        if (value > (uint64_t) INT64_MAX + minus)
                return -ERANGE;

        *ret = minus ? (int64_t) -value : (int64_t) value;
        return 0;
}

typedef struct Unit {
        const char *name;
        uint64_t usec; /* 0: a nanosecond */
} Unit;

/* Larger ones first; those that mean the same stand together. */
static const Unit span_units[] = {
        { "w", SPAN_DAY(7) },
        { "d", SPAN_DAY(1) },
        { "h", SPAN_HOUR(1) },
        { "min", SPAN_MIN(1) },
        { "m", SPAN_MIN(1) },
        { "s", SPAN_SEC(1) },
        { "ms", SPAN_MSEC(1) },
        { "us", 1 },
        {},
};

static const Unit go_units[] = {
        { "h", SPAN_HOUR(1) },
        { "m", SPAN_MIN(1) },
        { "s", SPAN_SEC(1) },
        { "ms", SPAN_MSEC(1) },
        { "\xc2\xb5s", 1 }, /* U+00B5, as Go prints it */
        { "\xce\xbcs", 1 }, /* U+03BC, which Go reads as well */
        { "us", 1 },
        { "ns", 0 },
        {},
};

static const Unit *unit_find(const Unit *units, const char *name, size_t n) {
        for (const Unit *unit = units; unit->name; unit++)
                if (strlen(unit->name) == n && memcmp(unit->name, name, n) == 0)
                        return unit;
        return NULL;
}

/* Digits at *at as a number; how many there were. */
static size_t take_digits(const char **at, const char *end, uint64_t *ret, bool *over) {
        const char *start = *at;

        *ret = 0;
        for (; *at < end && is_digit(**at); (*at)++) {
                *over |= __builtin_mul_overflow(*ret, 10U, ret);
                *over |= __builtin_add_overflow(*ret, (uint64_t) (**at - '0'), ret);
        }
        return (size_t) (*at - start);
}

/* Digits after a point, in millionths; finer ones are dropped. */
static size_t take_millionths(const char **at, const char *end, uint64_t *ret) {
        const char *start = *at;
        uint64_t weight = 100000;

        *ret = 0;
        for (; *at < end && is_digit(**at); (*at)++, weight /= 10)
                *ret += (uint64_t) (**at - '0') * weight;
        return (size_t) (*at - start);
}

/* One number with its unit. Without a unit it is seconds, where @bare allows that. */
static int take_part(const char **at, const char *end, const Unit *units, bool bare, const Unit **ret_unit,
        uint64_t *ret_usec, bool *ret_fraction, bool *over) {
        uint64_t whole = 0, millionths = 0, usec = 0;
        const char *name;
        const Unit *unit;

        if (take_digits(at, end, &whole, over) == 0)
                return -EINVAL;
        *ret_fraction = *at < end && **at == '.';
        if (*ret_fraction) {
                (*at)++;
                if (take_millionths(at, end, &millionths) == 0)
                        return -EINVAL;
        }
        name = *at;
        while (*at < end && !is_digit(**at) && **at != '.')
                (*at)++;
        unit = bare && name == end ? unit_find(units, "s", 1)
                                   : unit_find(units, name, (size_t) (*at - name));
        if (!unit)
                return -EINVAL;

        /* A week has 6e11 microseconds, so that a million times it still fits. */
        *over |= __builtin_mul_overflow(whole, unit->usec, &usec);
        *over |= __builtin_add_overflow(usec, millionths * unit->usec / 1000000, &usec);
        if (unit->usec == 0)
                usec = whole / 1000;
        *over |= usec > INT64_MAX;
        *ret_usec = usec;
        *ret_unit = unit;
        return 0;
}

static int parse_parts(const char *text, size_t n, const Unit *units, bool bare, Span *ret) {
        const char *end = text + n;
        const Unit *last = NULL;
        bool fraction = false, over = false;
        int64_t sum = 0;
        int r;

        if (n == 0)
                return -EINVAL;
        while (text < end) {
                const Unit *unit = NULL;
                uint64_t usec = 0;

                if (fraction)
                        return -EINVAL;
                r = take_part(&text, end, units, bare && !last, &unit, &usec, &fraction, &over);
                if (r < 0)
                        return r;
                if (last && unit->usec >= last->usec)
                        return -EINVAL;
                last = unit;
                sum = clock_add_saturating(sum, (int64_t) usec);
        }
        if (over || sum == SPAN_INFINITE)
                return -ERANGE;

        *ret = sum;
        return 0;
}

int parse_span(const char *text, Span *ret) {
        return parse_parts(text, strlen(text), span_units, true, ret);
}

int parse_go_duration(const char *text, size_t n, Span *ret) {
        const bool minus = n > 0 && *text == '-';
        Span span = 0;
        int r;

        r = parse_parts(text + minus, n - minus, go_units, false, &span);
        if (r < 0)
                return r;

        *ret = minus ? -span : span;
        return 0;
}

int parse_share(const char *text, uint32_t *ret) {
        const char *end = text + strlen(text);
        uint64_t whole = 0, millionths = 0;
        bool over = false;

        if (take_digits(&text, end, &whole, &over) == 0)
                return -EINVAL;
        if (*text == '.') {
                size_t n;

                text++;
                n = take_millionths(&text, end, &millionths);
                if (n == 0 || n > 2)
                        return -EINVAL;
        }
        if (strcmp(text, "%") != 0)
                return -EINVAL;
        if (over || whole > 100 || (whole == 100 && millionths > 0))
                return -ERANGE;

        *ret = (uint32_t) (whole * 100 + millionths / 10000);
        return 0;
}

int parse_bool(const char *text, bool *ret) {
        static const struct {
                const char *word;
                bool value;
        } words[] = {
                { "true", true },
                { "false", false },
                { "yes", true },
                { "no", false },
                { "on", true },
                { "off", false },
                { "1", true },
                { "0", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strcasecmp(text, words[i].word) == 0) {
                        *ret = words[i].value;
                        return 0;
                }
        return -EINVAL;
}

/*
 * Days from 1970-01-01. Years start in March, so that the leap day comes last; an era is 400 years or 146097
 * days.
 */
static int64_t days_from_date(int64_t year, unsigned month, unsigned day) {
        int64_t era, year_of_era, day_of_year;

        year -= month <= 2;
        era = (year >= 0 ? year : year - 399) / 400;
        year_of_era = year - era * 400;
        day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
        return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void date_from_days(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day) {
        int64_t era, day_of_era, year_of_era, day_of_year, month;

        days += 719468;
        era = (days >= 0 ? days : days - 146096) / 146097;
        day_of_era = days - era * 146097;
        year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
        day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        month = (5 * day_of_year + 2) / 153;
        *ret_day = (unsigned) (day_of_year - (153 * month + 2) / 5 + 1);
        *ret_month = (unsigned) (month < 10 ? month + 3 : month - 9);
        *ret_year = year_of_era + era * 400 + (*ret_month <= 2);
}

static unsigned days_of_month(unsigned year, unsigned month) {
        static const unsigned char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

        if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
                return 29;
        return days[month - 1];
}

typedef struct Fields {
        unsigned year, month, day, hour, minute, second;
} Fields;

/* The 60th second of a leap second counts as the first of the next minute. */
static int wall_from_fields(const Fields *f, int64_t *ret_sec) {
        if (f->month < 1 || f->month > 12 || f->day < 1 || f->day > days_of_month(f->year, f->month))
                return -EINVAL;
        if (f->hour > 23 || f->minute > 59 || f->second > 60)
                return -EINVAL;
        *ret_sec = days_from_date(f->year, f->month, f->day) * DAY_SEC + f->hour * INT64_C(3600) +
                   f->minute * INT64_C(60) + f->second;
        return 0;
}

/*
 * Match @text against @pattern, in which a lower-case letter stands for a digit of the field that it names
 * and all else for itself. Upper and lower case of letters in @text are told apart.
 */
static bool fields_match(const char *text, const char *pattern, Fields *f) {
        for (; *pattern; text++, pattern++) {
                unsigned *field = NULL;

                switch (*pattern) {
                case 'y': field = &f->year; break;
                case 'o': field = &f->month; break;
                case 'd': field = &f->day; break;
                case 'h': field = &f->hour; break;
                case 'm': field = &f->minute; break;
                case 's': field = &f->second; break;
                default:
                        if (*pattern != *text)
                                return false;
                        continue;
                }
                if (!is_digit(*text))
                        return false;
                *field = *field * 10 + (unsigned) (*text - '0');
        }
        return true;
}

/* "Z" or "+01:30", the whole rest of the text */
static int take_offset(const char *text, size_t n, int64_t *ret_sec) {
        Fields f = {};

        if (n == 1 && (*text == 'Z' || *text == 'z')) {
                *ret_sec = 0;
                return 0;
        }
        if (n != 6 || (*text != '+' && *text != '-') || !fields_match(text + 1, "hh:mm", &f))
                return -EINVAL;
        if (f.hour > 23 || f.minute > 59)
                return -EINVAL;
        *ret_sec = (*text == '-' ? -1 : 1) * (int64_t) (f.hour * 3600 + f.minute * 60);
        return 0;
}

int parse_rfc3339(const char *text, size_t n, Wall *ret) {
        const char *at = text + 19, *end = text + n;
        int64_t sec = 0, offset = 0;
        uint64_t millionths = 0;
        Fields f = {};

        if (n < 20 || !fields_match(text, "yyyy-oo-dd", &f) || !fields_match(text + 11, "hh:mm:ss", &f))
                return -EINVAL;
        if (text[10] != 'T' && text[10] != 't')
                return -EINVAL;
        if (*at == '.') {
                at++;
                if (take_millionths(&at, end, &millionths) == 0)
                        return -EINVAL;
        }
        if (take_offset(at, (size_t) (end - at), &offset) < 0 || wall_from_fields(&f, &sec) < 0)
                return -EINVAL;

        *ret = (Wall){ (sec - offset) * USEC_PER_SEC + (int64_t) millionths };
        return 0;
}

/* Index of the three letters at @text in @names, or -1 */
static int name_index(const char *text, const char *names) {
        for (const char *name = names; *name; name += 3)
                if (memcmp(text, name, 3) == 0)
                        return (int) (name - names) / 3;
        return -1;
}

int parse_http_date(const char *text, Wall *ret) {
        Fields f = {};
        int64_t sec = 0;
        int month;

        if (strlen(text) != strlen("Mon, 23 Nov 2026 00:30:24 GMT"))
                return -EINVAL;
        if (name_index(text, "MonTueWedThuFriSatSun") < 0)
                return -EINVAL;
        month = name_index(text + 8, "JanFebMarAprMayJunJulAugSepOctNovDec");
        if (month < 0 || !fields_match(text + 3, ", dd ", &f) ||
                !fields_match(text + 11, " yyyy hh:mm:ss GMT", &f))
                return -EINVAL;
        f.month = (unsigned) month + 1;
        if (wall_from_fields(&f, &sec) < 0)
                return -EINVAL;

        *ret = (Wall){ sec * USEC_PER_SEC };
        return 0;
}

/* "5h", or "5h 20m" if there is something left of the smaller unit */
static void format_pair(
        char *buffer, const char *sign, uint64_t large, char large_name, uint64_t small, char small_name) {
        if (small > 0)
                snprintf(buffer, FORMAT_SPAN_MAX, "%s%" PRIu64 "%c %" PRIu64 "%c", sign, large, large_name,
                        small, small_name);
        else
                snprintf(buffer, FORMAT_SPAN_MAX, "%s%" PRIu64 "%c", sign, large, large_name);
}

char *format_span(char buffer[static FORMAT_SPAN_MAX], Span span) {
        const char *sign = span < 0 ? "-" : "";
        const uint64_t usec = span < 0 ? -(uint64_t) span : (uint64_t) span, sec = usec / USEC_PER_SEC;
        const uint64_t tenths = usec / 100000 % 10;

        if (span == SPAN_INFINITE)
                snprintf(buffer, FORMAT_SPAN_MAX, "infinite");
        else if (usec == 0)
                snprintf(buffer, FORMAT_SPAN_MAX, "0s");
        else if (usec < 1000)
                snprintf(buffer, FORMAT_SPAN_MAX, "%s%" PRIu64 "us", sign, usec);
        else if (sec == 0)
                snprintf(buffer, FORMAT_SPAN_MAX, "%s%" PRIu64 "ms", sign, usec / 1000);
        else if (sec < 60 && tenths > 0)
                snprintf(buffer, FORMAT_SPAN_MAX, "%s%" PRIu64 ".%" PRIu64 "s", sign, sec, tenths);
        else if (sec < 60)
                snprintf(buffer, FORMAT_SPAN_MAX, "%s%" PRIu64 "s", sign, sec);
        else if (sec < 3600)
                format_pair(buffer, sign, sec / 60, 'm', sec % 60, 's');
        else if (sec < DAY_SEC)
                format_pair(buffer, sign, sec / 3600, 'h', sec / 60 % 60, 'm');
        else
                format_pair(buffer, sign, sec / DAY_SEC, 'd', sec / 3600 % 24, 'h');
        return buffer;
}

typedef struct Calendar {
        int64_t year;
        unsigned month, day, hour, minute, second;
} Calendar;

static Calendar calendar_from_wall(Wall t) {
        Calendar c = {};
        int64_t sec, days, rest;

        sec = t.usec / USEC_PER_SEC - (t.usec % USEC_PER_SEC < 0);
        days = sec / DAY_SEC - (sec % DAY_SEC < 0);
        rest = sec - days * DAY_SEC;
        date_from_days(days, &c.year, &c.month, &c.day);
        c.hour = (unsigned) (rest / 3600);
        c.minute = (unsigned) (rest / 60 % 60);
        c.second = (unsigned) (rest % 60);
        return c;
}

char *format_rfc3339(char buffer[static FORMAT_TIME_MAX], Wall t) {
        const Calendar c = calendar_from_wall(t);
        int r;

        r = snprintf(buffer, FORMAT_TIME_MAX, "%04" PRId64 "-%02u-%02uT%02u:%02u:%02uZ", c.year, c.month,
                c.day, c.hour, c.minute, c.second);
        (void) r; /* 292277 years fit */
        return buffer;
}

char *format_sigv4_time(char buffer[static FORMAT_TIME_MAX], Wall t) {
        const Calendar c = calendar_from_wall(t);
        int r;

        r = snprintf(buffer, FORMAT_TIME_MAX, "%04" PRId64 "%02u%02uT%02u%02u%02uZ", c.year, c.month, c.day,
                c.hour, c.minute, c.second);
        (void) r;
        return buffer;
}

unsigned edit_distance(const char *a, const char *b) {
        const size_t n_a = strnlen(a, 64), n_b = strnlen(b, 64);
        unsigned row[65];

        for (size_t j = 0; j <= n_b; j++)
                row[j] = (unsigned) j;
        for (size_t i = 1; i <= n_a; i++) {
                unsigned diagonal = row[0];

                row[0] = (unsigned) i;
                for (size_t j = 1; j <= n_b; j++) {
                        unsigned best = diagonal + (a[i - 1] != b[j - 1]);

                        diagonal = row[j];
                        if (row[j] + 1 < best)
                                best = row[j] + 1;
                        if (row[j - 1] + 1 < best)
                                best = row[j - 1] + 1;
                        row[j] = best;
                }
        }
        return row[n_b];
}

static char *env_trim(char *text) {
        size_t n;

        text += strspn(text, " \t");
        n = strlen(text);
        while (n > 0 && strchr(" \t\r", text[n - 1]))
                text[--n] = '\0';
        if (n >= 2 && (*text == '"' || *text == '\'') && text[n - 1] == *text) {
                text[n - 1] = '\0';
                text++;
        }
        return text;
}

static bool env_is_key(const char *text) {
        return (*text < '0' || *text > '9') && *text &&
               !text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")];
}

bool parse_env(char **rest, const char **ret_key, const char **ret_value) {
        for (char *line; (line = strsep(rest, "\n"));) {
                char *value = strchr(line, '='), *key;

                line += strspn(line, " \t");
                if (*line == '#' || *line == ';' || !value)
                        continue;
                *value++ = '\0';
                key = env_trim(line);
                if (!env_is_key(key))
                        continue;
                *ret_key = key;
                *ret_value = env_trim(value);
                return true;
        }
        return false;
}

bool parse_flag(const char *text) {
        bool yes = false;

        return strcasecmp(text, "t") == 0 || (parse_bool(text, &yes) >= 0 && yes);
}
