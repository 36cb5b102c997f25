/* SPDX-License-Identifier: Apache-2.0 */

/* The retry quota: an empty bucket stops retries, and it never holds more than it can. */

#include "common/bucket.h"

#include <limits.h>

#include "tests/unit/test.h"

static void test_full_bucket_allows_a_hundred_retries(void) {
        unsigned n = 0;
        Bucket bucket;

        bucket_init(&bucket, BUCKET_CAPACITY);
        while (bucket_take(&bucket, BUCKET_COST_RETRY))
                n++;
        EXPECT_EQ(n, 100);
        EXPECT_EQ(bucket.tokens, 0);
}

static void test_refused_take_takes_nothing(void) {
        Bucket bucket;

        bucket_init(&bucket, 7);
        EXPECT(!bucket_take(&bucket, BUCKET_COST_TIMEOUT));
        EXPECT_EQ(bucket.tokens, 7);
        EXPECT(bucket_take(&bucket, BUCKET_COST_RETRY));
        EXPECT_EQ(bucket.tokens, 2);
}

static void test_success_fills_up_to_the_brim_only(void) {
        Bucket bucket;

        bucket_init(&bucket, 10);
        bucket_give(&bucket, 1);
        EXPECT_EQ(bucket.tokens, 10);
        EXPECT(bucket_take(&bucket, 5));
        bucket_give(&bucket, 1);
        EXPECT_EQ(bucket.tokens, 6);
        bucket_give(&bucket, UINT_MAX);
        EXPECT_EQ(bucket.tokens, 10);
}

TEST_MAIN(TEST(test_full_bucket_allows_a_hundred_retries), TEST(test_refused_take_takes_nothing),
        TEST(test_success_fills_up_to_the_brim_only))
