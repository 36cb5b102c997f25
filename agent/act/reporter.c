/* SPDX-License-Identifier: Apache-2.0 */

/* From the core's knowledge to data points. Which values there are is the metrics table's; this file says where from. */

#include "agent/act/reporter.h"

#include "common/loop.h"

#define INTENT_FORGOTTEN SPAN_HOUR(1)

struct Reporter {
        sd_event *event;
        ReporterOptions options;
        Metrics *metrics;
        Publisher *publisher;
        Timer *sampling;
        Timer *closing;
        Wall period_from;
        Mono period_end; /* when this period ends; the next one counts from there, so that being late does not add up */

        uint32_t reconnects; /* as last counted */
        uint64_t removals;
        int64_t oom_kills; /* -1: not known yet */
        bool ill_in_period, removed_in_period;
        unsigned left_out; /* series for which there was no room in the last period */
        Datum data[METRICS_DATA_MAX];
};

static double percent(Share share) {
        return (double) share / 100.0;
}

static void gauge_share(Metrics *metrics, Metric metric, Share share) {
        if (share != SHARE_NONE)
                metrics_gauge(metrics, metric, percent(share));
}

static bool clear(const Core *core, Witness witness) {
        return core->checks.samples[witness].sight == SIGHT_CLEAR;
}

static void sample_agent(Reporter *reporter, Mono now) {
        const Core *core = reporter->options.core;
        const Verdict *verdict = &core->verdict;
        Metrics *metrics = reporter->metrics;
        Mono from = mono_is_set(core->ill_from)    ? core->ill_from
                    : mono_is_set(core->lone_from) ? core->lone_from
                                                   : core->cause_from;

        /* Not knowing publishes nothing: a missing sample is no zero. */
        if (verdict->up || verdict->down) {
                metrics_gauge(metrics, METRIC_AGENT_CONNECTED, verdict->up && !verdict->down ? 1 : 0);
                metrics_gauge(metrics, METRIC_AGENT_DISCONNECTED_SECONDS,
                        verdict->down ? (double) mono_since(now, from) / (double) SPAN_SEC(1) : 0);
        }
        metrics_count(metrics, METRIC_AGENT_RECONNECTS, core->checks.log.reconnects - reporter->reconnects);
        reporter->reconnects = core->checks.log.reconnects;
        if (clear(core, WITNESS_INTROSPECTION)) {
                const IntrospectionSample *s = &core->checks.samples[WITNESS_INTROSPECTION].introspection;

                if (s->tasks_running >= 0)
                        metrics_gauge(metrics, METRIC_TASKS_RUNNING, s->tasks_running);
                if (s->tasks_stuck >= 0)
                        metrics_gauge(metrics, METRIC_TASKS_STUCK, s->tasks_stuck);
        }
        if (clear(core, WITNESS_DOCKER) && core->checks.samples[WITNESS_DOCKER].docker.ping_time >= 0)
                metrics_gauge(metrics, METRIC_RUNTIME_PING_TIME,
                        (double) core->checks.samples[WITNESS_DOCKER].docker.ping_time /
                                (double) SPAN_MSEC(1));
}

static void sample_memory(Reporter *reporter) {
        const Core *core = reporter->options.core;
        const MemorySample *s = &core->checks.samples[WITNESS_MEMORY].memory;

        if (!clear(core, WITNESS_MEMORY))
                return;
        gauge_share(reporter->metrics, METRIC_MEM_USED, s->used);
        gauge_share(reporter->metrics, METRIC_MEM_AVAILABLE, s->available);
        gauge_share(reporter->metrics, METRIC_SWAP_USED, s->swap_used);
        gauge_share(reporter->metrics, METRIC_MEM_PRESSURE_SOME, s->some);
        gauge_share(reporter->metrics, METRIC_MEM_PRESSURE_FULL, s->full);
        if (s->oom_kills >= 0) {
                if (reporter->oom_kills >= 0 && s->oom_kills > reporter->oom_kills)
                        metrics_count(reporter->metrics, METRIC_OOM_KILLS,
                                (double) (s->oom_kills - reporter->oom_kills));
                reporter->oom_kills = s->oom_kills;
        }
}

static void sample_disks(Reporter *reporter) {
        const Core *core = reporter->options.core;
        const DisksSample *s = &core->checks.samples[WITNESS_DISKS].disks;
        const DiskMount *mounts = NULL;
        uint32_t n;

        if (!clear(core, WITNESS_DISKS))
                return;
        gauge_share(reporter->metrics, METRIC_DISK_USED, s->used_worst);
        gauge_share(reporter->metrics, METRIC_DISK_INODES_USED, s->inodes_used_worst);
        n = reporter->options.mounts(&mounts, reporter->options.userdata);
        for (uint32_t i = 0; i < n; i++) {
                if (mounts[i].used != SHARE_NONE)
                        (void) metrics_mount(reporter->metrics, METRIC_DISK_USED, mounts[i].path,
                                percent(mounts[i].used));
                if (mounts[i].inodes_used != SHARE_NONE)
                        (void) metrics_mount(reporter->metrics, METRIC_DISK_INODES_USED, mounts[i].path,
                                percent(mounts[i].inodes_used));
        }
}

BrakeSet reporter_brakes(const Core *core) {
        if (core->stage != STAGE_HELD && core->stage != STAGE_GRACE)
                return 0;
        /* Grace and the questions to ECS are the path itself, not an obstacle in it. */
        return core->brakes & ~((1u << BRAKE_GRACE) | (1u << BRAKE_CONFIRM));
}

int reporter_held(const Core *core, Mono now) {
        if (!core->verdict.down || core->stage == STAGE_REMOVED)
                return 0;
        if (core->verdict.fault == FAULT_INTENDED)
                return mono_since(now, core->cause_from) > INTENT_FORGOTTEN;
        return __builtin_popcount(reporter_brakes(core));
}

static void sample_remedy(Reporter *reporter, Mono now) {
        const Core *core = reporter->options.core;
        bool down = core->verdict.down && core->stage != STAGE_REMOVED;
        BrakeSet brakes = reporter_brakes(core);

        metrics_gauge(reporter->metrics, METRIC_REMEDIATION_STAGE, core->stage);
        for (unsigned i = 0; i < BRAKE_N; i++)
                if ((brakes & (1u << i)) != 0)
                        metrics_brake(reporter->metrics, i);
        metrics_gauge(reporter->metrics, METRIC_REMEDIATION_HELD, reporter_held(core, now));
        metrics_gauge(reporter->metrics, METRIC_CONFIG_ERROR,
                reporter->options.config_error(reporter->options.userdata) ? 1 : 0);
        reporter->ill_in_period |= down || core_incident_open(core);
}

static void on_sampling(Timer *timer, Now now, void *userdata) {
        Reporter *reporter = userdata;

        (void) timer_arm(timer, mono_add(now.mono, reporter->options.sample));
        sample_agent(reporter, now.mono);
        sample_memory(reporter);
        sample_disks(reporter);
        sample_remedy(reporter, now.mono);
}

Mono reporter_period_end(Mono before, Span period, Mono now) {
        Mono end = mono_add(before, period);

        return mono_before(end, now) ? mono_add(now, period) : end;
}

static void on_closing(Timer *timer, Now now, void *userdata) {
        Reporter *reporter = userdata;
        const Core *core = reporter->options.core;
        bool instance = reporter->options.per_instance == 2 ||
                        (reporter->options.per_instance == 1 &&
                                (reporter->ill_in_period || core->stage == STAGE_REMOVED));
        size_t n;

        reporter->period_end = reporter_period_end(reporter->period_end, reporter->options.period, now.mono);
        (void) timer_arm(timer, reporter->period_end);
        metrics_count(reporter->metrics, METRIC_SAMPLES_DROPPED,
                (double) publisher_take_dropped(reporter->publisher));
        /* An instance that is out of its group no longer speaks for it; its last word there is that it was removed. */
        n = metrics_close_period(reporter->metrics, reporter->period_from, instance,
                core->stage != STAGE_REMOVED || reporter->removed_in_period, reporter->options.max_series,
                reporter->data, METRICS_DATA_MAX, &reporter->left_out);
        publisher_add(reporter->publisher, reporter->data, n);
        reporter->period_from = now.wall;
        reporter->ill_in_period = reporter->removed_in_period = false;
}

int reporter_new(Reporter **ret, sd_event *event, const ReporterOptions *options) {
        _cleanup_(reporter_freep) Reporter *reporter = NULL;
        PublisherOptions publisher = {
                .name_space = options->name_space,
                .spool = options->spool,
                .retry = options->period / 2,
        };
        Now now = loop_now(event);
        int r;

        reporter = calloc(1, sizeof(*reporter));
        if (!reporter)
                return -ENOMEM;
        reporter->event = sd_event_ref(event);
        reporter->options = *options;
        reporter->options.name_space = reporter->options.spool = NULL; /* the publisher has its own copies */
        reporter->oom_kills = -1;
        reporter->period_from = now.wall;
        r = metrics_new(&reporter->metrics);
        if (r < 0)
                return r;
        r = publisher_new(&reporter->publisher, event, options->aws, reporter->metrics, &publisher,
                options->done, options->userdata);
        if (r < 0)
                return r;
        r = timer_new(
                &reporter->sampling, event, "reporter-sample", options->sample / 10, on_sampling, reporter);
        if (r < 0)
                return r;
        r = timer_new(&reporter->closing, event, "reporter-period", SPAN_MSEC(250), on_closing, reporter);
        if (r < 0)
                return r;
        r = timer_arm(reporter->sampling, mono_add(now.mono, options->sample));
        if (r < 0)
                return r;
        /* The first period is of random length: hosts booted together do not publish in step. */
        reporter->period_end = mono_add(now.mono, 1 + (Span) (loop_random() % (uint64_t) options->period));
        r = timer_arm(reporter->closing, reporter->period_end);
        if (r < 0)
                return r;

        *ret = steal_ptr(reporter);
        return 0;
}

Reporter *reporter_free(Reporter *reporter) {
        if (!reporter)
                return NULL;
        timer_free(reporter->sampling);
        timer_free(reporter->closing);
        publisher_free(reporter->publisher);
        metrics_free(reporter->metrics);
        sd_event_unref(reporter->event);
        free(reporter);
        return NULL;
}

int reporter_target(Reporter *reporter, const Target *target) {
        return publisher_target(reporter->publisher, target);
}

void reporter_stepped(Reporter *reporter) {
        const Core *core = reporter->options.core;

        if (core->removals > reporter->removals) {
                metrics_count(reporter->metrics, METRIC_REMEDIATION_PERFORMED,
                        (double) (core->removals - reporter->removals));
                reporter->removed_in_period = true;
        }
        reporter->removals = core->removals;
        reporter->ill_in_period |= core_incident_open(core);
}

void reporter_state(const Reporter *reporter, PublisherState *ret) {
        publisher_state(reporter->publisher, ret);
        ret->left_out = reporter->left_out;
}
