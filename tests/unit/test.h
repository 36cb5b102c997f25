/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The smallest harness that does: a table of named functions, run in order, reported as TAP. A failed expectation
 * is printed with its place and its values, the test goes on, and the run ends non-zero.
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Test {
        const char *name;
        void (*run)(void);
} Test;

extern unsigned test_failures; /* of the test that runs now */

#define TEST(function)                                                                                      \
        { #function, function }

#define EXPECT(condition)                                                                                   \
        do {                                                                                                \
                if (!(condition)) {                                                                         \
                        test_failures++;                                                                    \
                        printf("# %s:%d: expected: %s\n", __FILE__, __LINE__, #condition);                  \
                }                                                                                           \
        } while (0)

/* Both sides as signed 64-bit numbers. */
#define EXPECT_EQ(is, expected)                                                                             \
        do {                                                                                                \
                int64_t _is = (int64_t) (is), _expected = (int64_t) (expected);                             \
                if (_is != _expected) {                                                                     \
                        test_failures++;                                                                    \
                        printf("# %s:%d: %s is %" PRId64 ", expected %" PRId64 "\n", __FILE__, __LINE__,    \
                                #is, _is, _expected);                                                       \
                }                                                                                           \
        } while (0)

#define EXPECT_STR(is, expected)                                                                            \
        do {                                                                                                \
                const char *_is = (is), *_expected = (expected);                                            \
                if (!_is || !_expected ? _is != _expected : strcmp(_is, _expected) != 0) {                  \
                        test_failures++;                                                                    \
                        printf("# %s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #is,         \
                                _is ? _is : "(null)", _expected ? _expected : "(null)");                    \
                }                                                                                           \
        } while (0)

/** test_main() - run @n @tests; with an argument, only those whose name contains it. Return: the exit status. */
int test_main(int argc, char **argv, const Test *tests, size_t n);

#define TEST_MAIN(...)                                                                                      \
        int main(int argc, char **argv) {                                                                   \
                static const Test tests[] = { __VA_ARGS__ };                                                \
                return test_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));                      \
        }
