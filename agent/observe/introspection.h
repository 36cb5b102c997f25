/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Asks the ECS agent's introspection server: /v1/metadata and /v1/tasks, one after the other, each with a deadline of
 * 5 s. It tells that the process lives, is registered, and that its engine is not deadlocked; never that it is connected.
 */

#include "agent/decide/sample.h"
#include "common/http.h"

typedef struct Introspection Introspection;

/**
 * introspection_new() - ask at once and then every @every
 * @http:     borrowed
 * @endpoint: "http://127.0.0.1:51678", copied
 */
int introspection_new(Introspection **ret, sd_event *event, Http *http, const char *endpoint, Span every,
        SampleHandler handler, void *userdata);
Introspection *introspection_free(Introspection *introspection);
DEFINE_CLEANUP(Introspection, introspection_free)

/* Of the last registered answer, "" before it; lent until the loop next runs. */
const char *introspection_cluster(
        const Introspection *introspection); /* short name, also when it was given as an ARN */
const char *introspection_arn(const Introspection *introspection);
const char *introspection_version(const Introspection *introspection); /* "1.105.1" */

/** introspection_soon() - ask again at once (a witness has seen something) unless a round is under way */
void introspection_soon(Introspection *introspection);

#define INTROSPECTION_TEXT_MAX 256

/**
 * introspection_read_metadata() - the pure part: the body of /v1/metadata
 * @cluster, @arn, @version: buffers of INTROSPECTION_TEXT_MAX bytes; what does not fit is refused
 * Return: 0; -EBADMSG if it is not that (AvailableCommands for instance). @registered is false with a null or empty ARN.
 */
int introspection_read_metadata(
        const char *body, size_t n, char *cluster, char *arn, char *version, bool *registered);

/** Tasks whose states differ, and since when; more than fit are not watched. All zero to begin with. */
#define INTROSPECTION_DIFFERING_MAX 256
#define INTROSPECTION_STUCK_AFTER   SPAN_MIN(3)
typedef struct DifferingTasks {
        uint32_t n;
        struct {
                uint64_t hash; /* of the task's ARN */
                Mono since;
                bool seen; /* still differs, as of the body that is being read */
        } tasks[INTROSPECTION_DIFFERING_MAX];
} DifferingTasks;

/**
 * introspection_read_tasks() - the pure part of /v1/tasks
 * @differing: brought up to @now on success, unchanged otherwise
 * @running:   tasks with KnownStatus RUNNING
 * @stuck:     tasks that have differed for INTROSPECTION_STUCK_AFTER
 * Return: 0; -EBADMSG if it is not that; -ENOMEM.
 */
int introspection_read_tasks(
        const char *body, size_t n, DifferingTasks *differing, Mono now, int32_t *running, int32_t *stuck);
