/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * All witnesses together: makes those that are switched on, lets one prompt another (a line of the log sends the sockets
 * to look), and hands every sample to one handler.
 */

#include <systemd/sd-bus.h>

#include "agent/observe/metadata.h"
#include "common/aws-imds.h"

typedef struct Observer Observer;

/** What to watch. Texts are copied. */
typedef struct ObserverOptions {
        const char *root;     /* ECS_HEALTH_AGENT_ROOT, or "" */
        const char *endpoint; /* "http://127.0.0.1:51678" */
        const char *log;      /* file_root() applied, as the next one */
        const char *docker_socket;
        const char *ecs_unit, *docker_unit;
        const char *const *mounts; /* ended by NULL; NULL: all real ones */
        const char *const *ignore_fstypes;
        Span every;         /* the sampling period */
        uint32_t witnesses; /* bits (1 << Witness) that are switched on */
} ObserverOptions;

int observer_new(Observer **ret, sd_event *event, Helper *helper, Http *http, Imds *imds,
        const ObserverOptions *options, SampleHandler handler, void *userdata);
Observer *observer_free(Observer *observer);
DEFINE_CLEANUP(Observer, observer_free)

/** observer_identity() - who we are; @ready is called once, from the loop, when that is known */
const Identity *observer_identity(const Observer *observer);
void observer_on_identity(Observer *observer, void (*ready)(void *userdata), void *userdata);

/* What the ECS agent says of itself, "" before it has; lent until the loop next runs. */
const char *observer_cluster(const Observer *observer);
const char *observer_arn(const Observer *observer);
const char *observer_agent_version(const Observer *observer);
const char *observer_control_host(const Observer *observer);
uint32_t observer_mounts(const Observer *observer, const DiskMount **ret);

/** observer_watch_path() - whether the path witness shall ask; it can as soon as the log has named a host */
void observer_watch_path(Observer *observer, bool watch);
/** observer_look_again() - ask the metadata service and introspection now rather than in turn */
void observer_look_again(Observer *observer);
/** observer_bus() - the system bus, NULL while there is none; observer_own_job(): a restart that is about to be ours */
sd_bus *observer_bus(Observer *observer);
void observer_own_job(Observer *observer);
