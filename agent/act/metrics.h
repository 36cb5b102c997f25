/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The metrics: one table of what is published, and the accumulation of samples into one statistic set per
 * series and period. No I/O here; act/publisher sends what comes out.
 */

#include <stdbool.h>
#include <stddef.h>

#include "agent/decide/brakes.h"
#include "agent/decide/sample.h"
#include "common/cleanup.h"
#include "common/clock.h"

typedef enum Metric {
        METRIC_HEARTBEAT,
        METRIC_AGENT_CONNECTED,
        METRIC_AGENT_DISCONNECTED_SECONDS,
        METRIC_AGENT_RECONNECTS,
        METRIC_RUNTIME_PING_TIME,
        METRIC_MEM_USED,
        METRIC_MEM_AVAILABLE,
        METRIC_SWAP_USED,
        METRIC_MEM_PRESSURE_SOME,
        METRIC_MEM_PRESSURE_FULL,
        METRIC_OOM_KILLS,
        METRIC_DISK_USED, /* worst mount; with .path: that mount */
        METRIC_DISK_INODES_USED,
        METRIC_TASKS_RUNNING,
        METRIC_TASKS_STUCK,
        METRIC_REMEDIATION_STAGE,
        METRIC_REMEDIATION_HELD, /* without Brake: number of brakes that hold while down; with .brake: 1 for that brake */
        METRIC_REMEDIATION_PERFORMED,
        METRIC_SAMPLES_DROPPED,
        METRIC_CONFIG_ERROR,
} Metric;
#define METRIC_N (METRIC_CONFIG_ERROR + 1)

typedef struct MetricRow {
        const char *name; /* "ecs_agent_connected" */
        const char *unit; /* CloudWatch's spelling: "Percent" */
        bool counter;     /* events: each period publishes their sum, 0 included; else a gauge */
        double min, max;  /* values beyond are clamped: nothing out of range reaches the wire */
        const char *doc;  /* one sentence */
} MetricRow;

extern const MetricRow metric_table[METRIC_N];

/** One statistic set, ready to send. */
typedef struct Datum {
        Metric metric;
        int8_t brake;  /* Brake, or -1 */
        int8_t mount;  /* for metrics_path(), or -1 */
        bool instance; /* {ClusterName, InstanceId} instead of {ClusterName, AutoScalingGroupName} */
        uint32_t count;
        double min, max, sum;
        Wall at; /* start of the period */
} Datum;

#define METRICS_MOUNTS_MAX DISK_MOUNTS_MAX

typedef struct Metrics Metrics;

int metrics_new(Metrics **ret);
Metrics *metrics_free(Metrics *metrics);
DEFINE_CLEANUP(Metrics, metrics_free)

/** metrics_gauge() - one sample of a gauge; NaN and infinities are dropped */
void metrics_gauge(Metrics *metrics, Metric metric, double value);
/** metrics_count() - @n events of a counter */
void metrics_count(Metrics *metrics, Metric metric, double n);
/**
 * metrics_mount() - one sample of a disk metric of one mount
 *
 * A mount that has had no sample for a whole period gives its place to a new one.
 * Return: 0; -ENOSPC if there are too many mounts; -ENAMETOOLONG; -EINVAL for a path that does not begin
 * with '/'.
 */
int metrics_mount(Metrics *metrics, Metric metric, const char *path, double value);
/** metrics_brake() - this brake holds now */
void metrics_brake(Metrics *metrics, Brake brake);
/** metrics_path() - path of a mount index of a Datum; lent, the same until the next period is closed */
const char *metrics_path(const Metrics *metrics, int mount);

/**
 * metrics_close_period() - what has gathered, as data, and start anew
 * @at:        start of the period that ends
 * @instance:  also as {ClusterName, InstanceId}
 * @group:     as {ClusterName, AutoScalingGroupName}
 * @max_series: more series than this are refused: further mounts are left out, those seen later first. The
 *              METRIC_N rows of the table always count and are never left out; brakes do not count
 * @data:      room for @n_data
 * @ret_left_out: series left out; may be NULL
 *
 * A gauge without a sample gives nothing; a counter always gives a datum; the heartbeat is counted here.
 * Return: number of data.
 */
size_t metrics_close_period(Metrics *metrics, Wall at, bool instance, bool group, unsigned max_series,
        Datum *data, size_t n_data, unsigned *ret_left_out);
#define METRICS_DATA_MAX ((size_t) 2 * (METRIC_N + 2 * METRICS_MOUNTS_MAX + BRAKE_N))
