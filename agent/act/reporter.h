/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is published: reads the core once per sample, gathers a period, and gives it to the publisher at a phase of this
 * host's own.
 */

#include "agent/act/metrics.h"
#include "agent/act/publisher.h"
#include "agent/decide/core.h"

typedef struct Reporter Reporter;

typedef struct ReporterOptions {
        Aws *aws;               /* borrowed */
        const Core *core;       /* borrowed, read at each sample */
        const char *name_space; /* copied, as the next one */
        const char *spool;
        Span sample, period;
        unsigned per_instance; /* 0 never, 1 when ill, 2 always */
        unsigned max_series;
        PublisherDone done;
        /* Lends the mounts of the last round. Return: how many. */
        uint32_t (*mounts)(const DiskMount **ret, void *userdata);
        bool (*config_error)(void *userdata);
        void *userdata;
} ReporterOptions;

int reporter_new(Reporter **ret, sd_event *event, const ReporterOptions *options);
Reporter *reporter_free(Reporter *reporter); /* what has not been sent goes to the spool */
DEFINE_CLEANUP(Reporter, reporter_free)

int reporter_target(Reporter *reporter, const Target *target);
/** reporter_stepped() - what a step of the core means for the counters, at once: holds and removals are never missed */
void reporter_stepped(Reporter *reporter);
void reporter_state(const Reporter *reporter, PublisherState *ret);

/* The pure parts, for tests. */
/**
 * reporter_period_end() - when the period ends that follows the one which should have ended at @before
 *
 * A timer is always a little late. Were that to add up, a minute would go by without a heartbeat every few hours. Only
 * after more than a whole period, as in a suspend, it begins anew from @now.
 */
Mono reporter_period_end(Mono before, Span period, Mono now);
/** reporter_brakes() - the brakes that keep a disconnected host from being removed */
BrakeSet reporter_brakes(const Core *core);
/** reporter_held() - remediation_held: how many; 1 for a host that somebody meant to be down and left so for an hour */
int reporter_held(const Core *core, Mono now);
