/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Settings files. A refused one changes nothing and says why; of an accepted one each value can be printed
 * and, put into a file of its own, is read as the same again.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

typedef struct Settings {
        bool flag;
        int64_t number, share;
        Span span;
        OptionAmount amount;
        OptionText text, name;
        unsigned choice;
        OptionList list, words;
} Settings;

static const char *const choices[] = { "observe", "detach", "all", NULL };

#define FIELD(name) offsetof(Settings, name)
static const Option table[] = {
        { "flag", OPTION_BOOL, FIELD(flag), "true", .help = "" },
        { "a.number", OPTION_NUMBER, FIELD(number), "40", -5, 1000, .help = "" },
        { "a.share", OPTION_SHARE, FIELD(share), "\"20%\"", 0, 10000, 0, 5000, .help = "" },
        { "a.b.span", OPTION_SPAN, FIELD(span), "\"8m\"", 0, SPAN_DAY(1), .help = "" },
        { "a.amount", OPTION_AMOUNT, FIELD(amount), "null", 0, 10000, .nullable = true, .help = "" },
        { "text", OPTION_TEXT, FIELD(text), "\"x\"", .help = "" },
        { "name", OPTION_TEXT, FIELD(name), "null", .nullable = true, .help = "" },
        { "choice", OPTION_CHOICE, FIELD(choice), "\"detach\"", .choices = choices, .help = "" },
        { "list", OPTION_LIST, FIELD(list), "[]", .help = "" },
        { "words", OPTION_LIST, FIELD(words), "\"all\"", .choices = choices, .help = "" },
};
#undef FIELD
#define N (sizeof(table) / sizeof(table[0]))

/* {"a":{"number":40}} out of "a.number" and "40" */
static void check_row(const Option *option, const Settings *settings) {
        static OptionProblems problems;
        static char value[64 * 1024], again[64 * 1024], file[65 * 1024];
        Settings copy = {};
        const char *name = option->name;
        unsigned open = 1;
        char *at = file;

        assert(option_format(option, settings, value, sizeof(value)) == 0);
        *at++ = '{';
        for (const char *dot = strchr(name, '.'); dot; dot = strchr(name, '.'), open++) {
                at += sprintf(at, "\"%.*s\":{", (int) (dot - name), name);
                name = dot + 1;
        }
        at += sprintf(at, "\"%s\":%s", name, value);
        while (open-- > 0)
                *at++ = '}';
        assert(options_read(table, N, "again", file, (size_t) (at - file), false, &copy, NULL, &problems) ==
                0);
        assert(option_format(option, &copy, again, sizeof(again)) == 0);
        assert(strcmp(value, again) == 0);
}

static bool same_bytes(const void *a, const void *b, size_t n) {
        return memcmp(a, b, n) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static OptionProblems problems;
        static Settings settings, before;
        int r;

        assert(options_default(table, N, &settings) == 0);
        memcpy(&before, &settings, sizeof(before));
        r = options_read(table, N, "fuzz", (const char *) data, n, false, &settings, NULL, &problems);
        assert(r == 0 || r == -EBADMSG);
        assert((r < 0) == (problems.n > 0));
        if (r < 0) {
                assert(same_bytes(&before, &settings, sizeof(before)));
                assert(strncmp(problems.text[0], "fuzz: ", 6) == 0);
                return 0;
        }
        for (size_t i = 0; i < N; i++)
                check_row(&table[i], &settings);
        return 0;
}
