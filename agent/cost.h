/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is published and what CloudWatch asks for it a month. Pure, and in integers: millionths of a dollar. An estimate:
 * prices are those of one region at one time, and what AWS gives away or discounts is not deducted.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/act/metrics.h"
#include "common/clock.h"

#define COST_MONTH_HOURS 730 /* a twelfth of a year of 365 days, as AWS's calculator has it */
#define COST_REGION      "us-east-1"
#define COST_AS_OF       "August 2026"
#define COST_CALL_MICRO  10 /* $0.01 for 1,000 calls of PutMetricData */

/** The first .metrics at this price, then the next row's. */
typedef struct CostTier {
        uint64_t metrics; /* UINT64_MAX: all that are left */
        uint64_t micro;   /* of a metric-month: one series with data in each hour of a month */
} CostTier;

#define COST_TIER_N 4
extern const CostTier cost_tiers[COST_TIER_N];

/* Far above any fleet; below it nothing here overflows. */
#define COST_INSTANCES_MAX UINT64_C(1000000)
#define COST_SERIES_MAX    UINT64_C(2000)

typedef struct CostInput {
        uint64_t instances, groups;
        uint64_t group_series;    /* of each group, all month */
        uint64_t instance_series; /* of each instance, in .instance_hours */
        uint64_t instance_hours;  /* in which they are published, of all instances together */
        Span period;
} CostInput;

typedef struct Cost {
        uint64_t metric_hours; /* hours in which a series has data, of all series together */
        uint64_t calls;        /* of PutMetricData */
        uint64_t metrics_micro, calls_micro;
} Cost;

/** cost_estimate() - a month. Counts within the maxima above, hours within instances x COST_MONTH_HOURS, period not 0. */
Cost cost_estimate(const CostInput *input);

/** What is published; not asked: which values there are at a given moment. */
typedef struct SeriesInput {
        bool off[METRIC_N]; /* the witness that would tell is switched off */
        const DiskMount *mounts;
        uint32_t n_mounts;
        bool measured; /* what is SHARE_NONE in .mounts publishes nothing; else nothing is known of it, and all counts */
        unsigned max_series;
} SeriesInput;

/** Series of a group, or of one instance, as metrics_close_period() counts and limits them. */
typedef struct Series {
        uint32_t n[METRIC_N]; /* 0 or 1: without a further dimension */
        uint32_t by_path[METRIC_N];
        uint32_t by_brake; /* of remediation_held, each only while that brake holds; not in .total */
        uint32_t total;
        uint32_t left_out;             /* by .max_series */
        bool kept[METRICS_MOUNTS_MAX]; /* per mount: it is published */
} Series;

void series_count(const SeriesInput *input, Series *ret);
