/* SPDX-License-Identifier: Apache-2.0 */

/*
 * README's tables of options and metrics are those of the program. With --print the program writes them, to be put
 * between README's markers.
 */

#include "agent/act/metrics.h"
#include "agent/settings.h"
#include "common/file.h"
#include "tests/unit/test.h"

static void print_metrics(FILE *f) {
        fputs("| metric | unit | what |\n| --- | --- | --- |\n", f);
        for (unsigned i = 0; i < METRIC_N; i++)
                fprintf(f, "| `%s` | %s | %s |\n", metric_table[i].name, metric_table[i].unit,
                        metric_table[i].doc);
}

static void print_options(FILE *f) {
        options_print_markdown(settings_table, settings_table_n, f);
}

static void expect_region(const char *name, void (*print)(FILE *f)) {
        _cleanup_(freep) char *readme = NULL, *expected = NULL;
        const char *path = getenv("TEST_README");
        char begin[64], end[64], *from, *to;
        size_t n = 0;
        FILE *f;

        EXPECT_EQ(file_read(path ? path : "README.md", 1 << 20, &readme, NULL), 0);
        f = open_memstream(&expected, &n);
        EXPECT(f != NULL);
        if (!readme || !f)
                return;
        print(f);
        fclose(f);
        (void) snprintf(begin, sizeof(begin), "<!-- %s -->\n", name);
        (void) snprintf(end, sizeof(end), "<!-- /%s -->", name);
        from = strstr(readme, begin);
        to = from ? strstr(from, end) : NULL;
        EXPECT(to != NULL);
        if (!to)
                return;
        from += strlen(begin);
        EXPECT((size_t) (to - from) == n && memcmp(from, expected, n) == 0);
}

static void test_readme_has_the_options_as_they_are(void) {
        expect_region("options", print_options);
}

static void test_readme_has_the_metrics_as_they_are(void) {
        expect_region("metrics", print_metrics);
}

int main(int argc, char **argv) {
        static const Test tests[] = { TEST(test_readme_has_the_options_as_they_are),
                TEST(test_readme_has_the_metrics_as_they_are) };

        if (argc > 2 && strcmp(argv[1], "--print") == 0) {
                (strcmp(argv[2], "options") == 0 ? print_options : print_metrics)(stdout);
                return 0;
        }
        return test_main(argc, argv, tests, ELEMENTSOF(tests));
}
