/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sends data to CloudWatch: JSON 1.0 PutMetricData, at most PUBLISHER_BATCH_MAX data and PUBLISHER_BODY_MAX
 * bytes a request, one request at a time, as soon as data have been added: the phase is the caller's choice.
 *
 * Through an outage the data are kept, in memory first (PUBLISHER_KEPT_MAX), older ones in the spool if
 * there is room, and sent late with their own times, oldest first; what is dropped is the oldest, and
 * counted, as is what CloudWatch would no longer take (two weeks old, or hours ahead of its clock). Failures
 * are tried again after 30 s, then twice as long up to 5 min; missing rights and keys that are not accepted
 * every 5 min. A refused batch is halved until the culprit is alone, which is dropped; when nothing but
 * refusals come, at most one request is made every 5 min.
 *
 * A batch whose answer was lost may have arrived. It is sent again, as every SDK does: a duplicate leaves
 * minimum, maximum and average as they are, a hole does not. That is the only way to a duplicate. Elsewhere
 * it errs to a hole: what a kill finds in memory is gone, and so is a first try that is under way when the
 * publisher is freed.
 *
 * Dimension values are printable ASCII: other bytes, and a ':' at the beginning, become '?', so that two
 * paths may share a series.
 */

#include "agent/act/metrics.h"
#include "agent/act/target.h"
#include "common/aws-call.h"

#define PUBLISHER_KEPT_MAX  2048                  /* data in memory, the batch under way not counted */
#define PUBLISHER_BATCH_MAX 500                   /* CloudWatch takes 1000 */
#define PUBLISHER_BODY_MAX  ((size_t) 256 * 1024) /* bytes; CloudWatch takes 1 MB */

typedef struct Publisher Publisher;

typedef struct PublisherOptions {
        const char *name_space; /* copied */
        const char *spool;      /* file, file_root() applied; copied; NULL: none */
        Span retry;             /* before the first retry; the longest wait is ten times that; 0: 30 s */
} PublisherOptions;

/** @answer is lent, its .json is NULL; called after each PutMetricData; may free the publisher */
typedef void (*PublisherDone)(const AwsAnswer *answer, size_t n_data, void *userdata);

/** publisher_new() - @aws and @metrics (for the paths of mounts) are borrowed */
int publisher_new(Publisher **ret, sd_event *event, Aws *aws, const Metrics *metrics,
        const PublisherOptions *options, PublisherDone done, void *userdata);
/** publisher_free() - cancels; what has not been sent goes to the spool */
Publisher *publisher_free(Publisher *publisher);
DEFINE_CLEANUP(Publisher, publisher_free)

/**
 * publisher_target() - cluster, group ("" becomes "none") and instance id for the dimensions
 *
 * Nothing is sent before cluster and instance id are known. Data that wait are sent under the names of the
 * day of sending.
 */
int publisher_target(Publisher *publisher, const Target *target);
/** publisher_namespace() - another one from now on; what waits is tried again at once. Return: 0; -ENOMEM. */
int publisher_namespace(Publisher *publisher, const char *name_space);

/** publisher_add() - queue @n data, copied with the paths of their mounts, and send as soon as possible */
void publisher_add(Publisher *publisher, const Datum *data, size_t n);

typedef struct PublisherState {
        size_t waiting;    /* in memory and spool */
        uint64_t sent;     /* data accepted by CloudWatch */
        uint64_t dropped;  /* since the start */
        Wall last_success; /* WALL_NEVER: none yet */
        unsigned failures; /* in a row */
        unsigned left_out; /* series beyond metrics.max_series, which are not published; the reporter's */
        char problem[256]; /* of the last failure, "" after a success */
} PublisherState;
void publisher_state(const Publisher *publisher, PublisherState *ret);
/** publisher_take_dropped() - dropped since the last call, for samples_dropped */
uint64_t publisher_take_dropped(Publisher *publisher);
