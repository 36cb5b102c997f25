/* SPDX-License-Identifier: Apache-2.0 */

/* The table of metrics, and the gathering of samples into statistic sets. */

#include "agent/act/metrics.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "agent/decide/core.h"

#define METRIC_COUNT_MAX   1e9   /* of events in a period; far above anything real */
#define METRIC_SECONDS_MAX 1e9   /* 31 years */
#define METRIC_PING_MS_MAX 3.6e6 /* an hour; deadlines are seconds */

/* clang-format off */
const MetricRow metric_table[METRIC_N] = {
        [METRIC_HEARTBEAT] = { "heartbeat", "Count", true, 0, METRIC_COUNT_MAX,
                "One per period while the daemon runs; alarm when it is missing." },
        [METRIC_AGENT_CONNECTED] = { "ecs_agent_connected", "None", false, 0, 1,
                "1 while the ECS agent is connected to its control plane, else 0." },
        [METRIC_AGENT_DISCONNECTED_SECONDS] = { "ecs_agent_disconnected_seconds", "Seconds", false, 0,
                METRIC_SECONDS_MAX,
                "How long the ECS agent has been disconnected; 0 while it is connected." },
        [METRIC_AGENT_RECONNECTS] = { "ecs_agent_reconnects", "Count", true, 0, METRIC_COUNT_MAX,
                "Connections that the ECS agent has made anew; a few an hour are normal." },
        [METRIC_RUNTIME_PING_TIME] = { "container_runtime_ping_time", "Milliseconds", false, 0,
                METRIC_PING_MS_MAX,
                "How long the container runtime took to answer a ping; the deadline when it hangs." },
        [METRIC_MEM_USED] = { "mem_used_percent", "Percent", false, 0, 100,
                "Memory in use." },
        [METRIC_MEM_AVAILABLE] = { "mem_available_percent", "Percent", false, 0, 100,
                "Memory that programs could have without swapping." },
        [METRIC_SWAP_USED] = { "swap_used_percent", "Percent", false, 0, 100,
                "Swap in use; 0 without swap." },
        [METRIC_MEM_PRESSURE_SOME] = { "mem_pressure_some_percent", "Percent", false, 0, 100,
                "Share of the last minute in which some task waited for memory." },
        [METRIC_MEM_PRESSURE_FULL] = { "mem_pressure_full_percent", "Percent", false, 0, 100,
                "Share of the last minute in which all tasks waited for memory." },
        [METRIC_OOM_KILLS] = { "oom_kills", "Count", true, 0, METRIC_COUNT_MAX,
                "Processes that the kernel has killed for want of memory." },
        [METRIC_DISK_USED] = { "disk_used_percent", "Percent", false, 0, 100,
                "Space in use on the fullest mount, and on each mount by its path." },
        [METRIC_DISK_INODES_USED] = { "disk_inodes_used_percent", "Percent", false, 0, 100,
                "Inodes in use on the mount that has the fewest left, and on each mount by its path." },
        [METRIC_TASKS_RUNNING] = { "tasks_running", "Count", false, 0, METRIC_COUNT_MAX,
                "Tasks that the ECS agent knows to be running." },
        [METRIC_TASKS_STUCK] = { "tasks_stuck", "Count", false, 0, METRIC_COUNT_MAX,
                "Tasks whose state has not been the desired one for three minutes." },
        [METRIC_REMEDIATION_STAGE] = { "remediation_stage", "None", false, 0, STAGE_N - 1,
                "Where the remedy stands: 0 watching, 3 held, 11 removed, 12 ending; the manual lists them all." },
        [METRIC_REMEDIATION_HELD] = { "remediation_held", "Count", false, 0, BRAKE_N,
                "How many brakes keep a disconnected host from being removed; each brake by its name." },
        [METRIC_REMEDIATION_PERFORMED] = { "remediation_performed", "Count", true, 0, METRIC_COUNT_MAX,
                "Hosts that this daemon has taken out of their group." },
        [METRIC_SAMPLES_DROPPED] = { "samples_dropped", "Count", true, 0, METRIC_COUNT_MAX,
                "Metric data that could neither be sent nor kept." },
        [METRIC_CONFIG_ERROR] = { "config_error", "Count", false, 0, 1,
                "1 while the settings are refused and older ones are in use." },
};
/* clang-format on */

/** A statistic set in the making. */
typedef struct MetricSet {
        uint32_t count;
        double min, max, sum;
} MetricSet;

typedef struct MetricMount {
        char path[DISK_PATH_MAX]; /* "": the slot has never been used */
        MetricSet used, inodes;
        bool closed; /* it is in the period closed last, so a Datum may still name the slot */
} MetricMount;

struct Metrics {
        MetricSet sets[METRIC_N];
        MetricSet brakes[BRAKE_N];
        MetricMount mounts[METRICS_MOUNTS_MAX];
};

int metrics_new(Metrics **ret) {
        Metrics *metrics = calloc(1, sizeof(*metrics));

        if (!metrics)
                return -ENOMEM;
        *ret = metrics;
        return 0;
}

Metrics *metrics_free(Metrics *metrics) {
        free(metrics);
        return NULL;
}

static double value_clamp(double value, double min, double max) {
        return value < min ? min : value > max ? max : value;
}

static void metric_set_add(MetricSet *set, const MetricRow *row, double value) {
        if (!isfinite(value) || set->count == UINT32_MAX)
                return;
        value = value_clamp(value, row->min, row->max);
        set->min = set->count == 0 || value < set->min ? value : set->min;
        set->max = set->count == 0 || value > set->max ? value : set->max;
        set->sum += value;
        set->count++;
}

void metrics_gauge(Metrics *metrics, Metric metric, double value) {
        assert(!metric_table[metric].counter);

        metric_set_add(&metrics->sets[metric], &metric_table[metric], value);
}

void metrics_count(Metrics *metrics, Metric metric, double n) {
        assert(metric_table[metric].counter);

        if (isfinite(n) && n > 0)
                metrics->sets[metric].sum += n;
}

/* A slot whose path has not been seen for a whole period is free for another one. */
static MetricMount *metric_mount_find(Metrics *metrics, const char *path) {
        MetricMount *vacant = NULL;

        for (size_t i = 0; i < METRICS_MOUNTS_MAX; i++) {
                MetricMount *mount = &metrics->mounts[i];

                if (strcmp(mount->path, path) == 0)
                        return mount;
                if (!vacant && mount->used.count == 0 && mount->inodes.count == 0 && !mount->closed)
                        vacant = mount;
        }
        if (vacant)
                memcpy(vacant->path, path, strlen(path) + 1);
        return vacant;
}

int metrics_mount(Metrics *metrics, Metric metric, const char *path, double value) {
        MetricMount *mount;

        assert(metric == METRIC_DISK_USED || metric == METRIC_DISK_INODES_USED);

        if (path[0] != '/')
                return -EINVAL;
        if (strlen(path) >= DISK_PATH_MAX)
                return -ENAMETOOLONG;
        if (!isfinite(value))
                return 0;
        mount = metric_mount_find(metrics, path);
        if (!mount)
                return -ENOSPC;
        metric_set_add(
                metric == METRIC_DISK_USED ? &mount->used : &mount->inodes, &metric_table[metric], value);
        return 0;
}

void metrics_brake(Metrics *metrics, Brake brake) {
        metric_set_add(&metrics->brakes[brake], &metric_table[METRIC_REMEDIATION_HELD], 1);
}

const char *metrics_path(const Metrics *metrics, int mount) {
        assert(mount >= 0 && mount < METRICS_MOUNTS_MAX);

        return metrics->mounts[mount].path;
}

/** Where the data of a period go. */
typedef struct PeriodOutput {
        Datum *data;
        size_t n, max;
        Wall at;
        bool instance;
} PeriodOutput;

static void period_put(PeriodOutput *output, Metric metric, int brake, int mount, const MetricSet *set) {
        if (set->count == 0 || output->n == output->max)
                return;
        output->data[output->n++] = (Datum){
                .metric = metric,
                .brake = (int8_t) brake,
                .mount = (int8_t) mount,
                .instance = output->instance,
                .count = set->count,
                .min = set->min,
                .max = set->max,
                .sum = set->sum,
                .at = output->at,
        };
}

/* A counter's whole period is one sample, so that Sum adds up over hosts and Maximum finds the worst one. */
static void counters_settle(Metrics *metrics) {
        metrics->sets[METRIC_HEARTBEAT].sum = 1;
        for (size_t i = 0; i < METRIC_N; i++) {
                const MetricRow *row = &metric_table[i];
                MetricSet *set = &metrics->sets[i];

                if (row->counter) {
                        set->sum = value_clamp(set->sum, row->min, row->max);
                        set->min = set->max = set->sum;
                        set->count = 1;
                }
        }
}

/*
 * Mounts for which there is no room lose their sets. All rows of the table count, seen or not, and brakes
 * never do: otherwise a brake that holds for a while would make the series of a mount come and go.
 */
static unsigned mounts_limit(Metrics *metrics, unsigned max_series) {
        unsigned room = max_series > METRIC_N ? max_series - METRIC_N : 0, left_out = 0;

        for (size_t i = 0; i < METRICS_MOUNTS_MAX; i++) {
                MetricMount *mount = &metrics->mounts[i];
                unsigned n = (mount->used.count > 0) + (mount->inodes.count > 0);

                mount->closed = n > 0;
                if (n <= room) {
                        room -= n;
                        continue;
                }
                left_out += n;
                mount->used.count = mount->inodes.count = 0;
        }
        return left_out;
}

static void period_put_all(PeriodOutput *output, const Metrics *metrics) {
        for (size_t i = 0; i < METRIC_N; i++)
                period_put(output, (Metric) i, -1, -1, &metrics->sets[i]);
        for (size_t i = 0; i < BRAKE_N; i++)
                period_put(output, METRIC_REMEDIATION_HELD, (int) i, -1, &metrics->brakes[i]);
        for (size_t i = 0; i < METRICS_MOUNTS_MAX; i++) {
                period_put(output, METRIC_DISK_USED, -1, (int) i, &metrics->mounts[i].used);
                period_put(output, METRIC_DISK_INODES_USED, -1, (int) i, &metrics->mounts[i].inodes);
        }
}

static void metrics_reset(Metrics *metrics) {
        memset(metrics->sets, 0, sizeof(metrics->sets));
        memset(metrics->brakes, 0, sizeof(metrics->brakes));
        for (size_t i = 0; i < METRICS_MOUNTS_MAX; i++)
                metrics->mounts[i].used = metrics->mounts[i].inodes = (MetricSet){};
}

size_t metrics_close_period(Metrics *metrics, Wall at, bool instance, bool group, unsigned max_series,
        Datum *data, size_t n_data, unsigned *ret_left_out) {
        PeriodOutput output = { .data = data, .max = n_data, .at = at };
        unsigned left_out;

        counters_settle(metrics);
        left_out = mounts_limit(metrics, max_series);
        if (group)
                period_put_all(&output, metrics);
        output.instance = true;
        if (instance)
                period_put_all(&output, metrics);
        metrics_reset(metrics);

        if (ret_left_out)
                *ret_left_out = left_out;
        return output.n;
}
