/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/unit/test.h"

unsigned test_failures;

int test_main(int argc, char **argv, const Test *tests, size_t n) {
        unsigned failed = 0;

        setvbuf(stdout, NULL, _IOLBF, 0);
        printf("1..%zu\n", n);
        for (size_t i = 0; i < n; i++) {
                if (argc > 1 && !strstr(tests[i].name, argv[1])) {
                        printf("ok %zu - %s # SKIP not asked for\n", i + 1, tests[i].name);
                        continue;
                }
                test_failures = 0;
                tests[i].run();
                failed += test_failures > 0;
                printf("%s %zu - %s\n", test_failures > 0 ? "not ok" : "ok", i + 1, tests[i].name);
        }
        return failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
