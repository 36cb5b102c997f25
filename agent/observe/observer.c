/* SPDX-License-Identifier: Apache-2.0 */

/* All witnesses together. It judges nothing: it only knows which of them can tell another where to look. */

#include "agent/observe/observer.h"

#include <string.h>

#include "agent/observe/agentlog.h"
#include "agent/observe/disks.h"
#include "agent/observe/docker.h"
#include "agent/observe/introspection.h"
#include "agent/observe/memory.h"
#include "agent/observe/path.h"
#include "agent/observe/sockets.h"
#include "agent/observe/units.h"
#include "common/loop.h"

/* "Sees a dropped link within 2 s of the kernel knowing it." */
#define SOCKETS_EVERY  SPAN_SEC(2)
#define METADATA_EVERY SPAN_SEC(10)
#define PATH_EVERY     SPAN_MIN(1)

struct Observer {
        SampleHandler handler;
        void *userdata;
        uint32_t witnesses;
        bool watch_path;
        Timer *announce; /* tells once which witnesses are switched off */

        Introspection *introspection;
        AgentLog *log;
        Sockets *sockets;
        Units *units;
        Docker *docker;
        Path *path;
        Disks *disks;
        Memory *memory;
        Metadata *metadata;
};

static bool on(const Observer *observer, Witness witness) {
        return (observer->witnesses & (1u << witness)) != 0;
}

static void follow_log(Observer *observer, const Sample *sample) {
        uint16_t port = 0;
        bool plain = false;
        const char *host = agentlog_control_host(observer->log, &port, &plain);

        if (host[0] != '\0') {
                if (observer->sockets)
                        sockets_control_port(observer->sockets, port);
                if (observer->watch_path && observer->path)
                        (void) path_watch(observer->path, host, port, plain, PATH_EVERY);
        }
        if (sample->sight != SIGHT_CLEAR || sample->log.back)
                return;
        if (sample->log.line == LOG_LINE_TRYING && observer->sockets)
                sockets_connecting(observer->sockets);
        if (sample->log.line == LOG_LINE_CONNECTED && observer->sockets)
                sockets_connected(observer->sockets);
        if (sample->log.line == LOG_LINE_STOPPING && observer->introspection)
                introspection_soon(observer->introspection);
}

static void on_witness(const Sample *sample, void *userdata) {
        Observer *observer = userdata;

        if (sample->witness == WITNESS_LOG)
                follow_log(observer, sample);
        if (sample->witness == WITNESS_SOCKETS && sample->sight == SIGHT_CLEAR &&
                !sample->sockets.listener && observer->introspection)
                introspection_soon(observer->introspection);
        if (on(observer, sample->witness))
                observer->handler(sample, observer->userdata);
}

static void on_announce(Timer *timer, Now now, void *userdata) {
        Observer *observer = userdata;

        (void) timer;
        (void) now;
        for (unsigned i = 0; i < WITNESS_N; i++)
                if (!on(observer, i))
                        observer->handler(&(Sample){ .witness = i, .sight = SIGHT_OFF }, observer->userdata);
}

static uint16_t port_of(const char *endpoint) {
        const char *colon = strrchr(endpoint, ':');
        unsigned long port = colon ? strtoul(colon + 1, NULL, 10) : 0;

        return port > 0 && port <= UINT16_MAX ? (uint16_t) port : 80;
}

static int make_agent_witnesses(
        Observer *observer, sd_event *event, Http *http, const ObserverOptions *options) {
        int r = 0;

        if (on(observer, WITNESS_INTROSPECTION))
                r = introspection_new(&observer->introspection, event, http, options->endpoint,
                        options->every, on_witness, observer);
        if (r >= 0 && on(observer, WITNESS_SOCKETS))
                r = sockets_new(&observer->sockets, event, port_of(options->endpoint),
                        span_min(SOCKETS_EVERY, options->every), on_witness, observer);
        if (r >= 0 && on(observer, WITNESS_LOG))
                r = agentlog_new(&observer->log, event, options->log, on_witness, observer);
        if (r >= 0 && on(observer, WITNESS_UNITS))
                r = units_new(&observer->units, event, options->ecs_unit, options->docker_unit,
                        options->root[0] != '\0' ? options->root : NULL, on_witness, observer);
        if (r >= 0 && on(observer, WITNESS_PATH))
                r = path_new(&observer->path, event, http, on_witness, observer);
        return r;
}

static int make_host_witnesses(
        Observer *observer, sd_event *event, Helper *helper, Http *http, const ObserverOptions *options) {
        DisksOptions disks = {
                .root = options->root,
                .mounts = options->mounts,
                .ignore_fstypes = options->ignore_fstypes,
                .every = options->every,
        };
        int r = 0;

        if (on(observer, WITNESS_DOCKER))
                r = docker_new(&observer->docker, event, http, options->docker_socket, options->every,
                        on_witness, observer);
        if (r >= 0 && on(observer, WITNESS_DISKS))
                r = disks_new(&observer->disks, event, helper, &disks, on_witness, observer);
        if (r >= 0 && on(observer, WITNESS_MEMORY))
                r = memory_new(
                        &observer->memory, event, options->root, options->every, on_witness, observer);
        return r;
}

int observer_new(Observer **ret, sd_event *event, Helper *helper, Http *http, Imds *imds,
        const ObserverOptions *options, SampleHandler handler, void *userdata) {
        _cleanup_(observer_freep) Observer *observer = NULL;
        int r;

        observer = calloc(1, sizeof(*observer));
        if (!observer)
                return -ENOMEM;
        observer->handler = handler;
        observer->userdata = userdata;
        observer->witnesses = options->witnesses;

        /* Asked even when it is no witness: without it we do not know who we are. */
        r = metadata_new(&observer->metadata, event, imds, span_min(METADATA_EVERY, options->every),
                on_witness, observer);
        if (r < 0)
                return r;
        r = make_agent_witnesses(observer, event, http, options);
        if (r < 0)
                return r;
        r = make_host_witnesses(observer, event, helper, http, options);
        if (r < 0)
                return r;
        r = timer_new(&observer->announce, event, "observer-announce", SPAN_SEC(1), on_announce, observer);
        if (r < 0)
                return r;
        r = timer_arm(observer->announce, MONO_NEVER);
        if (r < 0)
                return r;

        *ret = steal_ptr(observer);
        return 0;
}

Observer *observer_free(Observer *observer) {
        if (!observer)
                return NULL;
        timer_free(observer->announce);
        metadata_free(observer->metadata);
        memory_free(observer->memory);
        disks_free(observer->disks);
        path_free(observer->path);
        docker_free(observer->docker);
        units_free(observer->units);
        sockets_free(observer->sockets);
        agentlog_free(observer->log);
        introspection_free(observer->introspection);
        free(observer);
        return NULL;
}

const Identity *observer_identity(const Observer *observer) {
        return metadata_identity(observer->metadata);
}

void observer_on_identity(Observer *observer, void (*ready)(void *userdata), void *userdata) {
        metadata_on_identity(observer->metadata, ready, userdata);
}

const char *observer_cluster(const Observer *observer) {
        return observer->introspection ? introspection_cluster(observer->introspection) : "";
}

const char *observer_arn(const Observer *observer) {
        return observer->introspection ? introspection_arn(observer->introspection) : "";
}

const char *observer_agent_version(const Observer *observer) {
        return observer->introspection ? introspection_version(observer->introspection) : "";
}

const char *observer_control_host(const Observer *observer) {
        return observer->log ? agentlog_control_host(observer->log, NULL, NULL) : "";
}

uint32_t observer_mounts(const Observer *observer, const DiskMount **ret) {
        return observer->disks ? disks_mounts(observer->disks, ret) : 0;
}

void observer_watch_path(Observer *observer, bool watch) {
        uint16_t port = 0;
        bool plain = false;
        const char *host = observer->log ? agentlog_control_host(observer->log, &port, &plain) : "";

        if (!observer->path || watch == observer->watch_path)
                return;
        observer->watch_path = watch;
        if (!watch)
                path_rest(observer->path);
        else if (host[0] != '\0')
                (void) path_watch(observer->path, host, port, plain, PATH_EVERY);
}

void observer_look_again(Observer *observer) {
        metadata_soon(observer->metadata);
        if (observer->introspection)
                introspection_soon(observer->introspection);
}

sd_bus *observer_bus(Observer *observer) {
        return observer->units ? units_bus(observer->units) : NULL;
}

void observer_own_job(Observer *observer) {
        if (observer->units)
                units_own_job(observer->units);
}
