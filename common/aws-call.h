/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One call of an AWS API: sign, send, classify the answer, retry. "Standard" retries: at most 3 tries, random delays of
 * up to 1 s, 2 s, ... 20 s, a token bucket over all calls. Each try is signed anew with the clock corrected by the
 * Date header of earlier answers. Source of codes and shapes: botocore, aws-sdk-go-v2.
 */

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "common/aws-credentials.h"
#include "common/aws-endpoint.h"
#include "common/http.h"
#include "common/xml.h"

typedef struct Aws Aws;
typedef struct AwsCall AwsCall;

/** What kind of end a call had. Only the first is a success. */
typedef enum AwsOutcome {
        AWS_OK,
        AWS_THROTTLED, /* after all tries */
        AWS_UNAVAILABLE, /* 5xx, transport error or time-out, after all tries; what was asked may have happened if .sent */
        AWS_CONTENTION, /* ResourceContention, ScalingActivityInProgress: ask again in minutes */
        AWS_DENIED,     /* this right is missing */
        AWS_BAD_KEYS,   /* the service does not accept the credentials or the signature */
        AWS_NO_KEYS,    /* no credentials to sign with */
        AWS_REFUSED,    /* ValidationError and the like: final */
        AWS_GARBLED,    /* 2xx with a body that is not what it should be; what was asked has happened */
} AwsOutcome;
#define AWS_OUTCOME_N (AWS_GARBLED + 1)

const char *aws_outcome_to_string(AwsOutcome outcome);

/** How a call ended. Lent for the length of the callback. */
typedef struct AwsAnswer {
        AwsOutcome outcome;
        bool sent;       /* at least one try may have reached the service */
        unsigned status; /* HTTP status of the last try; 0: none */
        unsigned tries;
        char code[128];    /* AWS's error code, "" if none */
        char message[512]; /* AWS's words, or the transport's */
        char request_id[128];
        Wall server_time;   /* of the Date header; WALL_NEVER if none came */
        const cJSON *json;  /* body of a JSON service on AWS_OK, else NULL */
        const XmlNode *xml; /* root element of a query service on AWS_OK, else NULL */
} AwsAnswer;

typedef void (*AwsDone)(const AwsAnswer *answer, void *userdata);

/** What to ask. Texts are copied. */
typedef struct AwsRequest {
        AwsService service;
        const char *action; /* "DetachInstances" */
        /* JSON services: the whole body. Query services: "&"-joined, already encoded parameters without Action and
         * Version, see aws_query_append(); "" for none. */
        const char *body;
        size_t n_body;
        bool once;         /* never retried after it may have reached the service: re-read instead */
        bool yield;        /* throttled: ends at once, for the caller spreads out what it asks again */
        Span timeout;      /* of each try; 0: 10 s */
        size_t max_answer; /* bytes; 0: 1 MiB */
} AwsRequest;

/** aws_new() - everything is borrowed and must outlive it. The region may come later: until then calls end AWS_NO_KEYS. */
int aws_new(Aws **ret, sd_event *event, Http *http, AwsCredentials *credentials);
Aws *aws_free(Aws *aws); /* cancels every call */
DEFINE_CLEANUP(Aws, aws_free)

/** aws_set_region() - @domain as for aws_endpoint(); both copied. Return: 0; -EINVAL; -ENOMEM. */
int aws_set_region(Aws *aws, const char *region, const char *domain);

/**
 * aws_call() - start a call; rules of http_call(): @done once, from the loop, unless freed first
 *
 * Return: 0; -E2BIG for a body beyond 1 MiB; -ENOMEM.
 */
int aws_call(Aws *aws, const AwsRequest *request, AwsDone done, void *userdata, AwsCall **ret);
AwsCall *aws_call_free(AwsCall *call);
DEFINE_CLEANUP(AwsCall, aws_call_free)

/** aws_event() - the loop that answers come from; borrowed */
sd_event *aws_event(const Aws *aws);
/** aws_wall() - @local corrected by what the services' Date headers have shown */
Wall aws_wall(const Aws *aws, Wall local);
/** aws_clock_offset() - service's clock minus ours, as last seen */
Span aws_clock_offset(const Aws *aws);
/** aws_refused_keys() - the code with which a service has refused our keys or signature; "": none since one took them */
const char *aws_refused_keys(const Aws *aws);

/** aws_query_append() - add "&NAME=VALUE", both percent-encoded, to a JsonWriter used as a plain text buffer */
struct JsonWriter;
void aws_query_append(struct JsonWriter *text, const char *name, const char *value);

/**
 * aws_classify() - the pure part, for tests and fuzzing: what an answer means
 * @service: decides between JSON and XML
 * @answer:  as it came from the wire
 * @local:   our clock when it came
 * @ret:     outcome, code, message, request id, server time; .json and .xml stay NULL
 * @ret_expired: the credentials have expired: re-read them and try once more
 * @ret_skewed:  our clock is off: correct it and try once more
 */
void aws_classify(AwsService service, const HttpAnswer *answer, Wall local, AwsAnswer *ret,
        bool *ret_expired, bool *ret_skewed);
