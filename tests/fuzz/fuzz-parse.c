/* SPDX-License-Identifier: Apache-2.0 */

/* Small texts. What is read can be printed, and what is printed exactly can be read again. */

#include <assert.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_numbers(const char *text) {
        uint64_t u = 0;
        uint32_t share = 0;
        int64_t i = 0;
        bool b;

        if (parse_u64(text, &u) >= 0 && u <= INT64_MAX)
                assert(parse_i64(text, &i) == 0 && (uint64_t) i == u);
        (void) parse_i64(text, &i);
        (void) parse_bool(text, &b);
        if (parse_share(text, &share) >= 0)
                assert(share <= 10000);
}

static void check_span(const char *text, const char *raw, size_t n) {
        char buffer[FORMAT_SPAN_MAX];
        Span span = 0;

        if (parse_span(text, &span) >= 0) {
                assert(span >= 0 && span < SPAN_INFINITE);
                assert(strlen(format_span(buffer, span)) < sizeof(buffer));
        }
        if (parse_go_duration(raw, n, &span) >= 0) {
                assert(span < SPAN_INFINITE);
                (void) format_span(buffer, span);
        }
}

static void check_time(const char *text, const char *raw, size_t n) {
        char buffer[FORMAT_TIME_MAX];
        Wall t = {}, back = {};

        if (parse_rfc3339(raw, n, &t) >= 0) {
                (void) format_sigv4_time(buffer, t);
                (void) format_rfc3339(buffer, t);
                /* An offset may lead out of the four-digit years. */
                if (parse_rfc3339(buffer, strlen(buffer), &back) >= 0)
                        assert(wall_since(t, back) >= 0 && wall_since(t, back) < SPAN_SEC(1));
        }
        if (parse_http_date(text, &t) >= 0) {
                (void) format_rfc3339(buffer, t);
                assert(parse_rfc3339(buffer, strlen(buffer), &back) == 0 && back.usec == t.usec);
        }
        memcpy(&t.usec, raw, n < sizeof(t.usec) ? n : sizeof(t.usec));
        assert(strlen(format_rfc3339(buffer, t)) < sizeof(buffer));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        _cleanup_(freep) char *text = strndup((const char *) data, n);

        check_numbers(text);
        check_span(text, (const char *) data, n);
        check_time(text, (const char *) data, n);
        assert(edit_distance(text, "brakes.max_sick") <= 64);
        return 0;
}
