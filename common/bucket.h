/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The retry quota of the AWS SDKs' "standard" mode: a bucket of 500 tokens; a retry takes 5, after a time-out 10; a
 * success gives back what its retry took, or 1. An empty bucket means: do not retry.
 * Source: botocore retries/quota.py, aws-sdk-go-v2 aws/ratelimit.
 */

#include <stdbool.h>

typedef struct Bucket {
        unsigned tokens;
        unsigned capacity;
} Bucket;

#define BUCKET_CAPACITY     500
#define BUCKET_COST_RETRY   5
#define BUCKET_COST_TIMEOUT 10

void bucket_init(Bucket *bucket, unsigned capacity);
/** bucket_take() - take @cost tokens if they are there. Return: whether they were. */
bool bucket_take(Bucket *bucket, unsigned cost);
void bucket_give(Bucket *bucket, unsigned tokens);
