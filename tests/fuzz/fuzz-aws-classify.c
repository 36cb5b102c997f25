/* SPDX-License-Identifier: Apache-2.0 */

/*
 * aws_classify(): an answer from the wire. The first line holds service, status and our clock's second;
 * three header fields follow, a line each; the rest is the body: "2 400 1795393824\nDate\nquery
 * error\nrequest id\nbody".
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/aws-call.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The next line of @text, cut to fit; "" at the end. */
static char *take_line(char *text, char *to, size_t n_to) {
        const size_t n = strcspn(text, "\n"), kept = n < n_to ? n : n_to - 1;

        memcpy(to, text, kept);
        to[kept] = '\0';
        return text + n + (text[n] == '\n');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        _cleanup_(freep) char *text = malloc(n + 1);
        HttpAnswer http = { .sent = true };
        unsigned service = 0, status = 0;
        AwsAnswer answer;
        bool expired = false, skewed = false;
        long long local = 0;
        char head[64];
        char *rest;

        if (!text)
                return 0;
        if (n > 0)
                memcpy(text, data, n);
        text[n] = '\0';
        rest = take_line(text, head, sizeof(head));
        (void) sscanf(head, "%3u %3u %12lld", &service, &status, &local);
        rest = take_line(rest, http.date, sizeof(http.date));
        rest = take_line(rest, http.query_error, sizeof(http.query_error));
        rest = take_line(rest, http.request_id, sizeof(http.request_id));
        http.status = status;
        http.body = rest;
        http.n_body = (size_t) (text + n - rest);

        memset(&answer, 0xff, sizeof(answer));
        aws_classify((AwsService) (service % AWS_SERVICE_N), &http, (Wall){ local * 1000 * 1000 }, &answer,
                &expired, &skewed);
        if ((unsigned) answer.outcome >= AWS_OUTCOME_N || !aws_outcome_to_string(answer.outcome))
                abort();
        if ((answer.outcome == AWS_OK) != (status >= 200 && status < 300))
                abort();
        /* An extra try is for keys and clocks only, and for one of them at a time. */
        if ((expired || skewed) && answer.outcome != AWS_BAD_KEYS)
                abort();
        if ((expired && skewed) || (skewed && !wall_is_set(answer.server_time)))
                abort();
        if (answer.json || answer.xml)
                abort();
        for (const char *c = answer.code; *c; c++)
                if (*c <= ' ' || *c > '~' || c - answer.code >= (long) sizeof(answer.code))
                        abort();
        for (const char *c = answer.message; *c; c++)
                if (*c < ' ' || *c > '~' || c - answer.message >= (long) sizeof(answer.message))
                        abort();
        return 0;
}
