/* SPDX-License-Identifier: Apache-2.0 */

/* A bucket of tokens that bounds how much retrying a whole process does. */

#include "common/bucket.h"

void bucket_init(Bucket *bucket, unsigned capacity) {
        *bucket = (Bucket){ .tokens = capacity, .capacity = capacity };
}

bool bucket_take(Bucket *bucket, unsigned cost) {
        if (cost > bucket->tokens)
                return false;
        bucket->tokens -= cost;
        return true;
}

void bucket_give(Bucket *bucket, unsigned tokens) {
        const unsigned room = bucket->capacity - bucket->tokens;

        bucket->tokens += tokens < room ? tokens : room;
}
