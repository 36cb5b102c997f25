/* SPDX-License-Identifier: Apache-2.0 */

/* Delays double up to a ceiling and are spread around it. */

#include "common/backoff.h"

#include "tests/unit/test.h"

static const Backoff minutes = { .base = SPAN_MIN(1), .ceiling = SPAN_MIN(10) };

static void expect_between(unsigned attempt, Span middle) {
        Span least = SPAN_INFINITE, most = 0;

        for (uint64_t seed = 0; seed < 1000; seed++) {
                /* spread over all 64 bits, as random numbers are */
                const Span delay = backoff_next(&minutes, attempt, seed * UINT64_C(0x9e3779b97f4a7c15));

                least = span_min(least, delay);
                most = span_max(most, delay);
        }
        EXPECT(least >= middle / 2 && least < middle / 2 + middle / 50);
        EXPECT(most <= middle + middle / 2 && most > middle + middle / 2 - middle / 50);
}

static void test_delay_doubles_from_half_to_one_and_a_half(void) {
        expect_between(0, SPAN_MIN(1));
        expect_between(1, SPAN_MIN(2));
        expect_between(2, SPAN_MIN(4));
        expect_between(3, SPAN_MIN(8));
}

static void test_delay_stops_at_the_ceiling(void) {
        expect_between(4, SPAN_MIN(10));
        expect_between(1000, SPAN_MIN(10));
        expect_between(UINT32_MAX, SPAN_MIN(10));
}

static void test_same_seed_gives_same_delay(void) {
        EXPECT_EQ(backoff_next(&minutes, 2, 12345), backoff_next(&minutes, 2, 12345));
        EXPECT(backoff_next(&minutes, 2, 12345) != backoff_next(&minutes, 2, 54321));
}

static void test_nothing_overflows(void) {
        const Backoff endless = { .base = SPAN_SEC(1), .ceiling = SPAN_INFINITE };
        const Backoff none = { .base = 0, .ceiling = SPAN_MIN(1) };
        const Backoff wrong = { .base = -5, .ceiling = -7 };

        EXPECT(backoff_next(&endless, UINT32_MAX, UINT64_MAX) >= SPAN_INFINITE / 2);
        EXPECT_EQ(backoff_next(&none, UINT32_MAX, UINT64_MAX), 0);
        EXPECT_EQ(backoff_next(&wrong, 3, 1), 0);
}

TEST_MAIN(TEST(test_delay_doubles_from_half_to_one_and_a_half), TEST(test_delay_stops_at_the_ceiling),
        TEST(test_same_seed_gives_same_delay), TEST(test_nothing_overflows))
