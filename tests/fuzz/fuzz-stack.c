/* SPDX-License-Identifier: Apache-2.0 */

/* What CloudFormation answers to the instance's identity, and the metadata in it: answer_value() and stack_parse(). */

#include <stdint.h>
#include <stdlib.h>

#include "agent/stack.c" /* its readers are nobody else's */ // NOLINT(bugprone-suspicious-include)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What has been accepted is JSON, which the settings' reader is going to take apart. */
static void check(int r, const char *text, size_t n, bool object) {
        _cleanup_(json_freep) cJSON *json = NULL;

        if (r < 0) {
                if (text)
                        abort();
                return;
        }
        if (!text || strlen(text) != n || n > STACK_TEXT_MAX || json_parse(text, n, NULL, &json) < 0 ||
                cJSON_IsObject(json) != object)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        _cleanup_(freep) char *parsed = NULL, *answered = NULL;
        const HttpAnswer answer = { .body = (const char *) data, .n_body = n };
        char why[128] = "", code[64] = "", words[64] = "", line[128];
        size_t n_parsed = 0, n_answered = 0;
        bool object = false;
        int r;

        r = stack_parse((const char *) data, n, &parsed, &n_parsed, why);
        check(r, parsed, n_parsed, true);
        r = answer_value((const char *) data, n, &answered, &n_answered, &object, why);
        check(r, answered, n_answered, object);
        answer_refusal(&answer, code, sizeof(code), words, sizeof(words));
        words_copy(line, sizeof(line), words);
        for (const char *p = line; *p; p++)
                if (*p < ' ' || *p > '~')
                        abort();
        return 0;
}
