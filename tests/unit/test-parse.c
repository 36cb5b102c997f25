/* SPDX-License-Identifier: Apache-2.0 */

/* Small texts: each reader takes what it documents and refuses all else. */

#include "common/parse.h"

#include <errno.h>

#include "common/cleanup.h"
#include "tests/unit/test.h"

/* A case that is refused has a negative @value for the reader's return. */
typedef struct Case {
        const char *text;
        int r;
        int64_t value;
} Case;

#define UNTOUCHED 424242

static void expect_case(const Case *c, int r, int64_t value) {
        if (r == c->r && value == (r < 0 ? UNTOUCHED : c->value))
                return;
        printf("# \"%s\": returned %d with %" PRId64 ", expected %d with %" PRId64 "\n", c->text, r, value,
                c->r, c->value);
        test_failures++;
}

static void test_u64_is_digits_only(void) {
        static const Case cases[] = {
                { "0", 0, 0 },
                { "0042", 0, 42 },
                { "9223372036854775807", 0, INT64_MAX },
                { "18446744073709551615", 0, -1 },
                { "18446744073709551616", -ERANGE, 0 },
                { "99999999999999999999999999", -ERANGE, 0 },
                { "99999999999999999999999999x", -EINVAL, 0 },
                { "", -EINVAL, 0 },
                { "-1", -EINVAL, 0 },
                { "+1", -EINVAL, 0 },
                { " 1", -EINVAL, 0 },
                { "1 ", -EINVAL, 0 },
                { "0x1", -EINVAL, 0 },
                { "1.0", -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint64_t value = UNTOUCHED;
                int r = parse_u64(cases[i].text, &value);

                expect_case(&cases[i], r, (int64_t) value);
        }
}

static void test_i64_takes_a_minus(void) {
        static const Case cases[] = {
                { "-9223372036854775808", 0, INT64_MIN },
                { "9223372036854775807", 0, INT64_MAX },
                { "-0", 0, 0 },
                { "-9223372036854775809", -ERANGE, 0 },
                { "9223372036854775808", -ERANGE, 0 },
                { "--1", -EINVAL, 0 },
                { "-", -EINVAL, 0 },
                { "- 1", -EINVAL, 0 },
                { "", -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                int64_t value = UNTOUCHED;
                int r = parse_i64(cases[i].text, &value);

                expect_case(&cases[i], r, value);
        }
}

static void test_span_reads_units_in_order(void) {
        static const Case cases[] = {
                { "90s", 0, SPAN_SEC(90) },
                { "5m", 0, SPAN_MIN(5) },
                { "5min", 0, SPAN_MIN(5) },
                { "2h", 0, SPAN_HOUR(2) },
                { "1d", 0, SPAN_DAY(1) },
                { "1w", 0, SPAN_DAY(7) },
                { "250ms", 0, SPAN_MSEC(250) },
                { "7us", 0, 7 },
                { "1h30m", 0, SPAN_MIN(90) },
                { "1w2d3h4m5s6ms7us", 0,
                        SPAN_DAY(9) + SPAN_HOUR(3) + SPAN_MIN(4) + SPAN_SEC(5) + SPAN_MSEC(6) + 7 },
                { "1.5s", 0, SPAN_MSEC(1500) },
                { "1h1.5s", 0, SPAN_HOUR(1) + SPAN_MSEC(1500) },
                { "0.5h", 0, SPAN_MIN(30) },
                { "30", 0, SPAN_SEC(30) },
                { "1.5", 0, SPAN_MSEC(1500) },
                { "0", 0, 0 },
                { "9223372036854775806us", 0, INT64_MAX - 1 },
                { "9223372036854775807us", -ERANGE, 0 }, /* SPAN_INFINITE */
                { "9223372036854775807d", -ERANGE, 0 },
                { "99999999999999999999s", -ERANGE, 0 },
                { "15250284w15250284d1000000000000h", -ERANGE, 0 },
                { "", -EINVAL, 0 },
                { "s", -EINVAL, 0 },
                { "5x", -EINVAL, 0 },
                { "5M", -EINVAL, 0 },
                { "5 m", -EINVAL, 0 },
                { "5m ", -EINVAL, 0 },
                { " 5m", -EINVAL, 0 },
                { "-5m", -EINVAL, 0 },
                { "1m1h", -EINVAL, 0 },
                { "1m1m", -EINVAL, 0 },
                { "1m1min", -EINVAL, 0 },
                { "1.5h30m", -EINVAL, 0 },
                { "1h30", -EINVAL, 0 },
                { "1.s", -EINVAL, 0 },
                { ".5s", -EINVAL, 0 },
                { "1..5s", -EINVAL, 0 },
                { "1e3s", -EINVAL, 0 },
                { "infinite", -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Span value = UNTOUCHED;
                int r = parse_span(cases[i].text, &value);

                expect_case(&cases[i], r, value);
        }
}

static void test_go_duration_reads_what_go_prints(void) {
        static const Case cases[] = {
                { "1h0m0s", 0, SPAN_HOUR(1) },
                { "1m13.4s", 0, SPAN_MSEC(73400) },
                { "274.615086ms", 0, 274615 },
                { "250\xc2\xb5s", 0, 250 },
                { "250\xce\xbcs", 0, 250 },
                { "1.5us", 0, 1 },
                { "12ns", 0, 0 },
                { "1999ns", 0, 1 },
                { "0s", 0, 0 },
                { "-1m0s", 0, -SPAN_MIN(1) },
                { "2562047h47m16.854775807s", 0, SPAN_HOUR(2562047) + SPAN_MIN(47) + SPAN_SEC(16) + 854775 },
                { "5", -EINVAL, 0 },
                { "5d", -EINVAL, 0 },
                { "5min", -EINVAL, 0 },
                { "-", -EINVAL, 0 },
                { "", -EINVAL, 0 },
                { "1s1h", -EINVAL, 0 },
                { "1\xc2s", -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Span value = UNTOUCHED;
                int r = parse_go_duration(cases[i].text, strlen(cases[i].text), &value);

                expect_case(&cases[i], r, value);
        }
}

static void test_go_duration_stops_at_its_length(void) {
        Span value = UNTOUCHED;

        EXPECT_EQ(parse_go_duration("5sXXX", 2, &value), 0);
        EXPECT_EQ(value, SPAN_SEC(5));
}

static void test_share_is_a_percentage(void) {
        static const Case cases[] = {
                { "10%", 0, 1000 },
                { "12.5%", 0, 1250 },
                { "0.01%", 0, 1 },
                { "0%", 0, 0 },
                { "100%", 0, 10000 },
                { "100.00%", 0, 10000 },
                { "100.01%", -ERANGE, 0 },
                { "101%", -ERANGE, 0 },
                { "99999999999999999999999%", -ERANGE, 0 },
                { "10", -EINVAL, 0 },
                { "10 %", -EINVAL, 0 },
                { "10%%", -EINVAL, 0 },
                { "-1%", -EINVAL, 0 },
                { "%", -EINVAL, 0 },
                { "", -EINVAL, 0 },
                { "1.%", -EINVAL, 0 },
                { "0.001%", -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint32_t value = UNTOUCHED;
                int r = parse_share(cases[i].text, &value);

                expect_case(&cases[i], r, value);
        }
}

static void test_bool_knows_eight_words(void) {
        static const Case cases[] = {
                { "true", 0, 1 },
                { "False", 0, 0 },
                { "YES", 0, 1 },
                { "no", 0, 0 },
                { "on", 0, 1 },
                { "off", 0, 0 },
                { "1", 0, 1 },
                { "0", 0, 0 },
                { "", -EINVAL, 0 },
                { "2", -EINVAL, 0 },
                { "true ", -EINVAL, 0 },
                { "t", -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                bool value = false;
                int r = parse_bool(cases[i].text, &value);

                expect_case(&cases[i], r, r < 0 ? UNTOUCHED : value);
        }
}

static void test_rfc3339_reads_fractions_and_offsets(void) {
        static const Case cases[] = {
                { "1970-01-01T00:00:00Z", 0, 0 },
                { "2026-06-30T10:11:12Z", 0, INT64_C(1782814272) * 1000000 },
                { "2026-06-30T10:11:12.5Z", 0, INT64_C(1782814272) * 1000000 + 500000 },
                { "2026-06-30T10:11:12.123456789Z", 0, INT64_C(1782814272) * 1000000 + 123456 },
                { "2026-06-30T12:11:12+02:00", 0, INT64_C(1782814272) * 1000000 },
                { "2026-06-30T04:41:12-05:30", 0, INT64_C(1782814272) * 1000000 },
                { "2026-06-30t10:11:12z", 0, INT64_C(1782814272) * 1000000 },
                { "2024-02-29T00:00:00Z", 0, INT64_C(1709164800) * 1000000 },
                { "2000-02-29T00:00:00Z", 0, INT64_C(951782400) * 1000000 },
                { "2016-12-31T23:59:60Z", 0, INT64_C(1483228800) * 1000000 },
                { "1969-12-31T23:59:59Z", 0, -1000000 },
                { "0000-01-01T00:00:00Z", 0, INT64_C(-62167219200) * 1000000 },
                { "9999-12-31T23:59:59Z", 0, INT64_C(253402300799) * 1000000 },
                { "2026-02-29T00:00:00Z", -EINVAL, 0 },
                { "1900-02-29T00:00:00Z", -EINVAL, 0 },
                { "2026-13-01T00:00:00Z", -EINVAL, 0 },
                { "2026-00-01T00:00:00Z", -EINVAL, 0 },
                { "2026-04-31T00:00:00Z", -EINVAL, 0 },
                { "2026-01-00T00:00:00Z", -EINVAL, 0 },
                { "2026-01-01T24:00:00Z", -EINVAL, 0 },
                { "2026-01-01T00:60:00Z", -EINVAL, 0 },
                { "2026-01-01T00:00:61Z", -EINVAL, 0 },
                { "2026-01-01T00:00:00", -EINVAL, 0 },
                { "2026-01-01 00:00:00Z", -EINVAL, 0 },
                { "2026-01-01T00:00:00.Z", -EINVAL, 0 },
                { "2026-01-01T00:00:00ZZ", -EINVAL, 0 },
                { "2026-01-01T00:00:00+0200", -EINVAL, 0 },
                { "2026-01-01T00:00:00+24:00", -EINVAL, 0 },
                { "2026-01-01T00:00:00+02:60", -EINVAL, 0 },
                { "2026-1-01T00:00:00Z", -EINVAL, 0 },
                { "-026-01-01T00:00:00Z", -EINVAL, 0 },
                { "", -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Wall value = { UNTOUCHED };
                int r = parse_rfc3339(cases[i].text, strlen(cases[i].text), &value);

                expect_case(&cases[i], r, value.usec);
        }
}

static void test_http_date_is_the_fixed_form(void) {
        static const Case cases[] = {
                { "Mon, 23 Nov 2026 00:30:24 GMT", 0, INT64_C(1795393824) * 1000000 },
                { "Thu, 01 Jan 1970 00:00:00 GMT", 0, 0 },
                { "Mon, 23 Nov 2026 00:30:24 UTC", -EINVAL, 0 },
                { "Mon, 23 nov 2026 00:30:24 GMT", -EINVAL, 0 },
                { "Mxn, 23 Nov 2026 00:30:24 GMT", -EINVAL, 0 },
                { "Mon, 31 Nov 2026 00:30:24 GMT", -EINVAL, 0 },
                { "Mon, 23 Nov 2026 25:30:24 GMT", -EINVAL, 0 },
                { "Monday, 23-Nov-26 00:30:24 GMT", -EINVAL, 0 },
                { "Mon Nov 23 00:30:24 2026", -EINVAL, 0 },
                { "Mon, 23 Nov 2026 00:30:24 GMT ", -EINVAL, 0 },
                { "", -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Wall value = { UNTOUCHED };
                int r = parse_http_date(cases[i].text, &value);

                expect_case(&cases[i], r, value.usec);
        }
}

static void test_span_is_printed_as_people_say_it(void) {
        static const struct {
                Span span;
                const char *text;
        } cases[] = {
                { 0, "0s" },
                { 7, "7us" },
                { SPAN_MSEC(350), "350ms" },
                { SPAN_MSEC(2500), "2.5s" },
                { SPAN_MSEC(2049), "2s" },
                { SPAN_SEC(59), "59s" },
                { SPAN_MIN(8), "8m" },
                { SPAN_SEC(61), "1m 1s" },
                { SPAN_MIN(65), "1h 5m" },
                { SPAN_HOUR(1) + SPAN_SEC(30), "1h" },
                { SPAN_HOUR(24), "1d" },
                { SPAN_HOUR(49), "2d 1h" },
                { -SPAN_MIN(8), "-8m" },
                { INT64_MIN, "-106751991d 4h" },
                { INT64_MAX - 1, "106751991d 4h" },
                { SPAN_INFINITE, "infinite" },
        };
        char text[FORMAT_SPAN_MAX];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                EXPECT_STR(format_span(text, cases[i].span), cases[i].text);
}

static void test_times_are_printed_in_utc(void) {
        static const struct {
                int64_t usec;
                const char *rfc3339, *sigv4;
        } cases[] = {
                { 0, "1970-01-01T00:00:00Z", "19700101T000000Z" },
                { -1, "1969-12-31T23:59:59Z", "19691231T235959Z" },
                { INT64_C(1782814272) * 1000000 + 999999, "2026-06-30T10:11:12Z", "20260630T101112Z" },
                { INT64_C(951782400) * 1000000, "2000-02-29T00:00:00Z", "20000229T000000Z" },
                { INT64_C(4107542399) * 1000000, "2100-02-28T23:59:59Z", "21000228T235959Z" },
                { INT64_MAX, "294247-01-10T04:00:54Z", "2942470110T040054Z" },
                { INT64_MIN, "-290308-12-21T19:59:05Z", "-2903081221T195905Z" },
        };
        char text[FORMAT_TIME_MAX];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                EXPECT_STR(format_rfc3339(text, (Wall){ cases[i].usec }), cases[i].rfc3339);
                EXPECT_STR(format_sigv4_time(text, (Wall){ cases[i].usec }), cases[i].sigv4);
        }
}

static void test_every_day_of_eight_centuries_survives_the_round_trip(void) {
        const int64_t day = SPAN_DAY(1);

        for (int64_t usec = -146097 * day; usec < 146097 * day; usec += day) {
                char text[FORMAT_TIME_MAX];
                Wall back = { UNTOUCHED };

                (void) format_rfc3339(text, (Wall){ usec });
                if (parse_rfc3339(text, strlen(text), &back) < 0 || back.usec != usec) {
                        printf("# %s\n", text);
                        test_failures++;
                        return;
                }
        }
}

static void test_edit_distance_counts_single_changes(void) {
        char long_a[100] = "", long_b[100] = "";

        EXPECT_EQ(edit_distance("", ""), 0);
        EXPECT_EQ(edit_distance("", "abc"), 3);
        EXPECT_EQ(edit_distance("abc", ""), 3);
        EXPECT_EQ(edit_distance("max_sik", "max_sick"), 1);
        EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
        EXPECT_EQ(edit_distance("grace", "grace"), 0);
        memset(long_a, 'a', 99);
        memset(long_b, 'a', 80);
        EXPECT_EQ(edit_distance(long_a, long_b), 0); /* both are cut to 64 */
        memset(long_b, 'b', 80);
        EXPECT_EQ(edit_distance(long_a, long_b), 64);
}

TEST_MAIN(TEST(test_u64_is_digits_only), TEST(test_i64_takes_a_minus), TEST(test_span_reads_units_in_order),
        TEST(test_go_duration_reads_what_go_prints), TEST(test_go_duration_stops_at_its_length),
        TEST(test_share_is_a_percentage), TEST(test_bool_knows_eight_words),
        TEST(test_rfc3339_reads_fractions_and_offsets), TEST(test_http_date_is_the_fixed_form),
        TEST(test_span_is_printed_as_people_say_it), TEST(test_times_are_printed_in_utc),
        TEST(test_every_day_of_eight_centuries_survives_the_round_trip),
        TEST(test_edit_distance_counts_single_changes))
