/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The EC2 instance metadata service, version 2 only: a token by PUT, kept and renewed; GETs with it. Never through a
 * proxy, never redirected. AWS_EC2_METADATA_SERVICE_ENDPOINT and ..._ENDPOINT_MODE name another address,
 * AWS_EC2_METADATA_DISABLED=true switches it off.
 */

#include <stddef.h>
#include <systemd/sd-event.h>

#include "common/http.h"

typedef struct Imds Imds;
typedef struct ImdsCall ImdsCall;

typedef struct ImdsAnswer {
        /* 0; -ENOENT: 404, no such item; -EACCES: 403, or switched off; -EAGAIN: 5xx or throttled; else as HttpAnswer */
        int error;
        const char *text; /* lent for the length of the callback, NUL-terminated */
        size_t n;
} ImdsAnswer;

typedef void (*ImdsDone)(const ImdsAnswer *answer, void *userdata);

/** imds_error_to_string() - what an answer's error means, and where to look; for log lines */
const char *imds_error_to_string(int error);

/** imds_new() - @http is borrowed and must outlive it */
int imds_new(Imds **ret, sd_event *event, Http *http);
Imds *imds_free(Imds *imds);
DEFINE_CLEANUP(Imds, imds_free)

/**
 * imds_get() - GET @path, e.g. "/latest/meta-data/instance-id"
 *
 * A 401 fetches a new token and asks once more. 2 s each try, 3 tries on transport errors and 5xx.
 * The callback is never called from within this function.
 */
int imds_get(Imds *imds, const char *path, ImdsDone done, void *userdata, ImdsCall **ret);
ImdsCall *imds_call_free(ImdsCall *call);
DEFINE_CLEANUP(ImdsCall, imds_call_free)
