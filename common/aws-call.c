/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A call is a small machine: wait for keys, sign, send, judge, and perhaps wait and start over. What an
 * answer means is decided by aws_classify(), which is pure; whether to try again, by aws_call_may_retry().
 */

#include <assert.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#include "common/aws-call.h"
#include "common/aws-sigv4.h"
#include "common/bucket.h"
#include "common/json.h"
#include "common/loop.h"
#include "common/parse.h"

#define AWS_TRIES       3
#define AWS_TIMEOUT     SPAN_SEC(10)
#define AWS_ANSWER_MAX  ((size_t) 1 << 20)
#define AWS_BODY_MAX    ((size_t) 1 << 20) /* the most that PutMetricData takes */
#define AWS_DELAY_MAX   SPAN_SEC(20)
#define AWS_SKEW_MIN    SPAN_MIN(4) /* services allow 5; the SDKs blame the clock from 4 on */
#define AWS_HEADERS_MAX 12

struct Aws {
        sd_event *event;
        Http *http;
        AwsCredentials *credentials;
        char *region, *domain;
        Bucket bucket;
        Span offset;      /* the services' clock minus ours */
        char refused[64]; /* the code of the last answer about our keys, if it was a refusal */
        bool waiting;     /* for credentials */
        AwsCall *calls;
};

struct AwsCall {
        Aws *aws; /* NULL once answered, or when the client is gone */
        AwsCall *previous, *next;
        AwsDone done;
        void *userdata;
        AwsService service;
        JsonWriter body;
        char target[128]; /* X-Amz-Target of JSON services, root element of the others */
        char invocation[37];
        bool once, yield;
        Span timeout;
        size_t max_answer;

        Timer *timer;
        HttpCall *http_call;
        bool wants_keys;      /* to be woken when the fetch of keys has ended */
        bool waited;          /* has been, so that there is no waiting again */
        bool renewed, skewed; /* the one extra try for that reason has been made */
        unsigned tries, limit;
        unsigned taken; /* from the bucket, by the last retry */
        AwsAnswer answer;
};

const char *aws_outcome_to_string(AwsOutcome outcome) {
        static const char *const names[AWS_OUTCOME_N] = {
                [AWS_OK] = "ok",
                [AWS_THROTTLED] = "throttled",
                [AWS_UNAVAILABLE] = "unavailable",
                [AWS_CONTENTION] = "contention",
                [AWS_DENIED] = "denied",
                [AWS_BAD_KEYS] = "bad-keys",
                [AWS_NO_KEYS] = "no-keys",
                [AWS_REFUSED] = "refused",
                [AWS_GARBLED] = "garbled",
        };

        assert((unsigned) outcome < AWS_OUTCOME_N);
        return names[outcome];
}

/* What an answer means. */

typedef enum AwsCodeClass {
        AWS_CODE_UNKNOWN,
        AWS_CODE_THROTTLED,
        AWS_CODE_TRANSIENT,
        AWS_CODE_CONTENTION,
        AWS_CODE_EXPIRED,   /* keys */
        AWS_CODE_LATE,      /* keys, or our clock */
        AWS_CODE_CLOCK,     /* our clock */
        AWS_CODE_SIGNATURE, /* our clock if it is off, else the keys */
        AWS_CODE_BAD_KEYS,
        AWS_CODE_PERMISSION,
        AWS_CODE_FINAL,
} AwsCodeClass;

static AwsCodeClass aws_code_class(const char *code) {
        /* clang-format off */
        static const struct {
                const char *code;
                AwsCodeClass class;
        } codes[] = {
                { "Throttling",                             AWS_CODE_THROTTLED },
                { "ThrottlingException",                    AWS_CODE_THROTTLED },
                { "ThrottledException",                     AWS_CODE_THROTTLED },
                { "RequestThrottled",                       AWS_CODE_THROTTLED },
                { "RequestThrottledException",              AWS_CODE_THROTTLED },
                { "TooManyRequestsException",               AWS_CODE_THROTTLED },
                { "RequestLimitExceeded",                   AWS_CODE_THROTTLED },
                { "EC2ThrottledException",                  AWS_CODE_THROTTLED },
                { "SlowDown",                               AWS_CODE_THROTTLED },
                { "BandwidthLimitExceeded",                 AWS_CODE_THROTTLED },
                { "LimitExceededException",                 AWS_CODE_THROTTLED },
                { "ProvisionedThroughputExceededException", AWS_CODE_THROTTLED },
                { "PriorRequestNotComplete",                AWS_CODE_THROTTLED },
                { "RequestTimeout",                         AWS_CODE_TRANSIENT },
                { "RequestTimeoutException",                AWS_CODE_TRANSIENT },
                { "ServerException",                        AWS_CODE_TRANSIENT },
                { "ServiceUnavailable",                     AWS_CODE_TRANSIENT },
                { "ServiceUnavailableException",            AWS_CODE_TRANSIENT },
                { "Unavailable",                            AWS_CODE_TRANSIENT },
                { "InternalError",                          AWS_CODE_TRANSIENT },
                { "InternalFailure",                        AWS_CODE_TRANSIENT },
                { "InternalServiceError",                   AWS_CODE_TRANSIENT },
                { "InternalServiceFault",                   AWS_CODE_TRANSIENT },
                { "ResourceContention",                     AWS_CODE_CONTENTION },
                { "ResourceContentionFault",                AWS_CODE_CONTENTION },
                { "ScalingActivityInProgress",              AWS_CODE_CONTENTION },
                { "ScalingActivityInProgressFault",         AWS_CODE_CONTENTION },
                { "ExpiredToken",                           AWS_CODE_EXPIRED },
                { "ExpiredTokenException",                  AWS_CODE_EXPIRED },
                { "RequestExpired",                         AWS_CODE_LATE },
                { "RequestInTheFuture",                     AWS_CODE_CLOCK },
                { "RequestTimeTooSkewed",                   AWS_CODE_CLOCK },
                { "AuthFailure",                            AWS_CODE_SIGNATURE },
                { "InvalidSignatureException",              AWS_CODE_SIGNATURE },
                { "SignatureDoesNotMatch",                  AWS_CODE_SIGNATURE },
                { "IncompleteSignature",                    AWS_CODE_BAD_KEYS },
                { "IncompleteSignatureException",           AWS_CODE_BAD_KEYS },
                { "InvalidAccessKeyId",                     AWS_CODE_BAD_KEYS },
                { "InvalidClientTokenId",                   AWS_CODE_BAD_KEYS },
                { "MissingAuthenticationToken",             AWS_CODE_BAD_KEYS },
                { "MissingAuthenticationTokenException",    AWS_CODE_BAD_KEYS },
                { "UnrecognizedClientException",            AWS_CODE_BAD_KEYS },
                { "AccessDenied",                           AWS_CODE_PERMISSION },
                { "AccessDeniedException",                  AWS_CODE_PERMISSION },
                { "NotAuthorized",                          AWS_CODE_PERMISSION },
                { "UnauthorizedOperation",                  AWS_CODE_PERMISSION },
                { "ValidationError",                        AWS_CODE_FINAL },
                { "ClientException",                        AWS_CODE_FINAL },
                { "ClusterNotFoundException",               AWS_CODE_FINAL },
                { "DryRunOperation",                        AWS_CODE_FINAL }, /* granted, and not done */
                { "InvalidParameterException",              AWS_CODE_FINAL },
                { "UnsupportedOperation",                   AWS_CODE_FINAL },
        };
        /* clang-format on */

        for (size_t i = 0; i < ELEMENTSOF(codes); i++)
                if (strcmp(code, codes[i].code) == 0)
                        return codes[i].class;
        return AWS_CODE_UNKNOWN;
}

/* Without a code of AWS's: a proxy's page, an empty body, nothing that we know. */
static AwsOutcome aws_status_outcome(unsigned status) {
        if (status >= 200 && status < 300)
                return AWS_OK;
        if (status == 429)
                return AWS_THROTTLED;
        if (status == 401)
                return AWS_BAD_KEYS;
        if (status == 403)
                return AWS_DENIED;
        /* 407 and redirects come from something between us and AWS, as does most of 408. */
        if (status >= 400 && status < 500 && status != 407 && status != 408)
                return AWS_REFUSED;
        return AWS_UNAVAILABLE;
}

static AwsOutcome aws_code_outcome(AwsCodeClass class, unsigned status) {
        switch (class) {
        case AWS_CODE_THROTTLED: return AWS_THROTTLED;
        case AWS_CODE_TRANSIENT: return AWS_UNAVAILABLE;
        case AWS_CODE_CONTENTION: return AWS_CONTENTION;
        case AWS_CODE_EXPIRED:
        case AWS_CODE_LATE:
        case AWS_CODE_CLOCK:
        case AWS_CODE_SIGNATURE:
        case AWS_CODE_BAD_KEYS: return AWS_BAD_KEYS;
        case AWS_CODE_PERMISSION: return AWS_DENIED;
        case AWS_CODE_FINAL: return AWS_REFUSED;
        case AWS_CODE_UNKNOWN: return aws_status_outcome(status);
        }
        return aws_status_outcome(status);
}

/* Words from outside, fit for a log line: one line of ASCII. */
static void aws_copy_words(char *to, size_t n_to, const char *from) {
        size_t i;

        for (i = 0; i < n_to - 1 && from[i] != 0; i++)
                if (from[i] >= ' ' && from[i] <= '~')
                        to[i] = from[i];
                else
                        to[i] = from[i] == '\n' || from[i] == '\t' ? (char) ' ' : (char) '?';
        to[i] = 0;
}

/* "prefix#Code:address", "Code;Sender", "Code": the code; nothing if that is not a name. */
static void aws_copy_code(char *to, size_t n_to, const char *from) {
        static const char name[] = "._-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        const char *hash = strchr(from, '#');
        size_t n;

        if (hash)
                from = hash + 1;
        n = strcspn(from, ":;");
        if (n == 0 || n >= n_to || strspn(from, name) < n)
                return;
        (void) memcpy(to, from, n);
        to[n] = 0;
}

static bool aws_read_json_error(const HttpAnswer *http, AwsAnswer *answer) {
        _cleanup_(json_freep) cJSON *json = NULL;
        const char *text = NULL;

        if (json_parse(http->body, http->n_body, NULL, &json) < 0)
                return false;
        if (json_get_string(json, "__type", &text) == 0 || json_get_string(json, "code", &text) == 0)
                aws_copy_code(answer->code, sizeof(answer->code), text);
        if (json_get_string(json, "message", &text) == 0 || json_get_string(json, "Message", &text) == 0)
                aws_copy_words(answer->message, sizeof(answer->message), text);
        return true;
}

static void aws_read_xml_id(const XmlNode *root, AwsAnswer *answer) {
        const char *id = xml_text(root, "RequestId");

        if (!id)
                id = xml_text(root, "RequestID");
        if (!id)
                id = xml_text(root, "requestId");
        if (!id)
                id = xml_text(root, "ResponseMetadata/RequestId");
        if (id && answer->request_id[0] == 0)
                aws_copy_words(answer->request_id, sizeof(answer->request_id), id);
}

static void aws_read_xml_error(const HttpAnswer *http, AwsAnswer *answer) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        const XmlNode *root, *error;
        const char *text;

        if (xml_parse(http->body, http->n_body, &xml) < 0)
                return;
        root = xml_root(xml);
        error = xml_find(root, "Error");
        if (!error)
                error = xml_find(root, "Errors/Error");
        text = xml_text(error, "Code");
        if (text)
                aws_copy_code(answer->code, sizeof(answer->code), text);
        text = xml_text(error, "Message");
        if (text)
                aws_copy_words(answer->message, sizeof(answer->message), text);
        aws_read_xml_id(root, answer);
}

static void aws_read_error(AwsService service, const HttpAnswer *http, AwsAnswer *answer) {
        /* A denial on a JSON service may come as XML, from whatever stands in front of it. */
        if (!aws_service_info(service)->target_prefix || !aws_read_json_error(http, answer))
                aws_read_xml_error(http, answer);
        if (http->query_error[0] != 0)
                aws_copy_code(answer->code, sizeof(answer->code), http->query_error);
        if (answer->message[0] == 0)
                (void) snprintf(answer->message, sizeof(answer->message), "HTTP status %u", http->status);
}

void aws_classify(AwsService service, const HttpAnswer *http, Wall local, AwsAnswer *ret, bool *ret_expired,
        bool *ret_skewed) {
        AwsAnswer answer = { .sent = http->sent, .status = http->status };
        AwsCodeClass class;
        bool dated, off;
        Span offset;

        *ret_expired = *ret_skewed = false;
        if (http->error != 0) {
                answer.outcome = AWS_UNAVAILABLE;
                answer.status = 0;
                aws_copy_words(answer.message, sizeof(answer.message),
                        http->detail[0] != 0 ? http->detail : strerror(-http->error));
                *ret = answer;
                return;
        }

        aws_copy_words(answer.request_id, sizeof(answer.request_id), http->request_id);
        dated = parse_http_date(http->date, &answer.server_time) == 0;
        if (http->status >= 200 && http->status < 300) {
                answer.outcome = AWS_OK;
                *ret = answer;
                return;
        }

        aws_read_error(service, http, &answer);
        class = aws_code_class(answer.code);
        answer.outcome = aws_code_outcome(class, http->status);
        offset = dated ? wall_since(answer.server_time, local) : 0;
        off = offset > AWS_SKEW_MIN || offset < -AWS_SKEW_MIN;
        if (class == AWS_CODE_CLOCK)
                *ret_skewed = dated;
        else if (class == AWS_CODE_SIGNATURE || class == AWS_CODE_LATE)
                *ret_skewed = off;
        *ret_expired = class == AWS_CODE_EXPIRED || (class == AWS_CODE_LATE && !off);
        *ret = answer;
}

/* The end of a call. */

static void aws_call_release(AwsCall *call) {
        if (!call->aws)
                return;
        *(call->previous ? &call->previous->next : &call->aws->calls) = call->next;
        if (call->next)
                call->next->previous = call->previous;
        call->aws = NULL;
        call->http_call = http_call_free(call->http_call);
        call->timer = timer_free(call->timer);
}

/* The last thing that a handler does, for the callback may free anything. */
static void aws_call_finish(AwsCall *call, const cJSON *json, const XmlNode *xml) {
        AwsAnswer answer = call->answer;

        answer.tries = call->tries;
        answer.json = json;
        answer.xml = xml;
        aws_call_release(call);
        call->done(&answer, call->userdata);
}

__attribute__((format(printf, 3, 4))) static void aws_call_give_up(
        AwsCall *call, AwsOutcome outcome, const char *format, ...) {
        bool sent = call->answer.sent;
        va_list list;

        call->answer = (AwsAnswer){ .outcome = outcome, .sent = sent };
        va_start(list, format);
        (void) vsnprintf(call->answer.message, sizeof(call->answer.message), format, list);
        va_end(list);
        aws_call_finish(call, NULL, NULL);
}

static bool aws_root_fits(const XmlNode *root, const char *action) {
        size_t n = strlen(action);

        return strncmp(root->name, action, n) == 0 && strcmp(root->name + n, "Response") == 0;
}

static void aws_call_garbled(AwsCall *call) {
        call->answer.outcome = AWS_GARBLED;
        (void) strcpy(call->answer.message, "the answer is not what it should be");
        aws_call_finish(call, NULL, NULL);
}

static void aws_call_succeed(AwsCall *call, const HttpAnswer *http) {
        _cleanup_(json_freep) cJSON *json = NULL;
        _cleanup_(xml_freep) Xml *xml = NULL;

        bucket_give(&call->aws->bucket, call->taken > 0 ? call->taken : 1);
        if (aws_service_info(call->service)->target_prefix) {
                /* Calls that answer nothing may do so with "{}" or with no body at all. */
                if (json_parse(http->n_body > 0 ? http->body : "{}", http->n_body > 0 ? http->n_body : 2,
                            NULL, &json) < 0 ||
                        !cJSON_IsObject(json)) {
                        aws_call_garbled(call);
                        return;
                }
                aws_call_finish(call, json, NULL);
                return;
        }
        if (xml_parse(http->body, http->n_body, &xml) < 0 || !aws_root_fits(xml_root(xml), call->target)) {
                aws_call_garbled(call);
                return;
        }
        aws_read_xml_id(xml_root(xml), &call->answer);
        aws_call_finish(call, NULL, xml_root(xml));
}

/* Trying again. */

/* Whether the answer proves that nothing was done. A 5xx proves nothing, whatever it says. */
static bool aws_call_had_no_effect(const AwsCall *call, bool extra) {
        return !call->answer.sent || extra ||
               (call->answer.outcome == AWS_THROTTLED && call->answer.code[0] != 0 &&
                       call->answer.status < 500);
}

/* @extra: for fresh keys or a corrected clock, which are worth one try each beyond the usual */
static bool aws_call_may_retry(AwsCall *call, int error, bool extra) {
        unsigned cost = error == -ETIMEDOUT ? BUCKET_COST_TIMEOUT : BUCKET_COST_RETRY;

        if (call->once && !aws_call_had_no_effect(call, extra))
                return false;
        if (extra) {
                call->limit++;
                return true;
        }
        if (call->answer.outcome != AWS_THROTTLED && call->answer.outcome != AWS_UNAVAILABLE)
                return false;
        if (call->yield && call->answer.outcome == AWS_THROTTLED)
                return false;
        /* It would be too long again. */
        if (error == -E2BIG || call->tries >= call->limit || !bucket_take(&call->aws->bucket, cost))
                return false;
        call->taken = cost;
        return true;
}

static void aws_on_keys(void *userdata) {
        Aws *aws = userdata;

        /* By their timers, since each may end in a callback that frees others. */
        aws->waiting = false;
        for (AwsCall *i = aws->calls; i; i = i->next)
                if (i->wants_keys) {
                        i->wants_keys = false;
                        (void) timer_arm(i->timer, loop_now(aws->event).mono);
                }
}

static void aws_call_wait_for_keys(AwsCall *call) {
        Aws *aws = call->aws;

        call->wants_keys = true;
        call->waited = true;
        if (!aws->waiting) {
                aws->waiting = true;
                aws_credentials_wait(aws->credentials, aws_on_keys, aws);
        }
}

static void aws_call_retry(AwsCall *call, bool expired, bool skewed) {
        Aws *aws = call->aws;
        Mono now = loop_now(aws->event).mono;
        Span delay = span_min(SPAN_SEC(1) << (call->tries < 6 ? call->tries - 1 : 5), AWS_DELAY_MAX);

        if (expired) {
                aws_credentials_refresh(aws->credentials);
                aws_call_wait_for_keys(call);
        } else if (skewed)
                (void) timer_arm(call->timer, now);
        else
                (void) timer_arm(call->timer, mono_add(now, (Span) (loop_random() % (uint64_t) delay)));
}

/* A proxy's idea of the time does not count: there must be a request id, or a complaint about our clock. */
static void aws_learn_clock(Aws *aws, const AwsAnswer *answer, Wall local, bool skewed) {
        if (wall_is_set(answer->server_time) && (skewed || answer->request_id[0] != 0))
                /* The header is cut to whole seconds: half of one is the best guess at what is missing. */
                aws->offset = wall_since(answer->server_time, local) + SPAN_MSEC(500);
}

/* Keys that are refused may have been replaced meanwhile; at most one fetch a minute comes of it. */
static void aws_learn_keys(Aws *aws, const AwsAnswer *answer) {
        switch (answer->outcome) {
        case AWS_BAD_KEYS:
                (void) snprintf(aws->refused, sizeof(aws->refused), "%.63s",
                        answer->code[0] ? answer->code : "status 401");
                aws_credentials_refresh(aws->credentials);
                break;
        case AWS_OK:
        case AWS_GARBLED: aws->refused[0] = 0; break;
        case AWS_DENIED:
        case AWS_CONTENTION:
        case AWS_REFUSED:
                if (answer->request_id[0]) /* AWS's, not a proxy's */
                        aws->refused[0] = 0;
                break;
        case AWS_THROTTLED:
        case AWS_UNAVAILABLE:
        case AWS_NO_KEYS: break;
        }
}

static void aws_on_answer(const HttpAnswer *http, void *userdata) {
        AwsCall *call = userdata;
        Aws *aws = call->aws;
        Wall local = loop_now(aws->event).wall;
        bool sent = call->answer.sent, expired, skewed;

        call->http_call = http_call_free(call->http_call);
        aws_classify(call->service, http, local, &call->answer, &expired, &skewed);
        call->answer.sent |= sent;
        aws_learn_clock(aws, &call->answer, local, skewed);
        aws_learn_keys(aws, &call->answer);
        if (call->answer.outcome == AWS_OK) {
                aws_call_succeed(call, http);
                return;
        }

        /* One extra try for each of these reasons. */
        expired = expired && !call->renewed;
        skewed = skewed && !call->skewed;
        if (!aws_call_may_retry(call, http->error, expired || skewed)) {
                aws_call_finish(call, NULL, NULL);
                return;
        }
        call->renewed |= expired;
        call->skewed |= skewed;
        aws_call_retry(call, expired, skewed);
}

/* Sending. */

/* "https://host:port/path" in its parts; the port is left out where it is the scheme's, as curl does. */
static int aws_split_url(const char *url, char *host, size_t n_host, const char **ret_path) {
        const char *start = strstr(url, "://"), *path;
        size_t n;

        if (!start)
                return -EINVAL;
        start += 3;
        path = strchr(start, '/');
        n = path ? (size_t) (path - start) : strlen(start);
        if (n == 0 || n >= n_host)
                return -EINVAL;
        (void) memcpy(host, start, n);
        host[n] = 0;
        if (strncmp(url, "https:", 6) == 0 && n > 4 && strcmp(host + n - 4, ":443") == 0)
                host[n - 4] = 0;
        else if (strncmp(url, "http:", 5) == 0 && n > 3 && strcmp(host + n - 3, ":80") == 0)
                host[n - 3] = 0;
        *ret_path = path ? path : "/";
        return 0;
}

/* The headers of one try. Those that are signed come first. */
typedef struct AwsHeaders {
        char host[AWS_URL_MAX + 8], type[64], target[160];
        char date[64], authorization[1200], token[8300];
        char invocation[64], request[64];
        const char *list[AWS_HEADERS_MAX];
        unsigned n;
} AwsHeaders;

__attribute__((format(printf, 4, 5))) static void aws_add_header(
        AwsHeaders *headers, char *buffer, size_t n, const char *format, ...) {
        va_list list;

        va_start(list, format);
        (void) vsnprintf(buffer, n, format, list);
        va_end(list);
        assert(headers->n < AWS_HEADERS_MAX - 1);
        headers->list[headers->n++] = buffer;
        headers->list[headers->n] = NULL;
}

#define AWS_ADD(field, ...) aws_add_header(headers, headers->field, sizeof(headers->field), __VA_ARGS__)

static int aws_call_sign(
        AwsCall *call, const AwsKeys *keys, const char *host, const char *path, AwsHeaders *headers) {
        const AwsServiceInfo *info = aws_service_info(call->service);
        SigV4Signature signature;
        SigV4Request request = {
                .method = "POST",
                .path = path,
                .query = "",
                .headers = headers->list,
                .body = call->body.text,
                .n_body = call->body.n,
                .region = call->aws->region,
                .service = info->signing_name,
                .access_key_id = keys->access_key_id,
                .secret_access_key = keys->secret_access_key,
                .session_token = keys->session_token,
                .time = aws_wall(call->aws, loop_now(call->aws->event).wall),
                .normalize_path = true,
        };
        int r;

        AWS_ADD(host, "Host: %s", host);
        if (info->target_prefix) {
                AWS_ADD(type, "Content-Type: application/x-amz-json-%s", info->json_version);
                AWS_ADD(target, "X-Amz-Target: %s.%s", info->target_prefix, call->target);
                /* CloudWatch: error codes as its query protocol had them. */
                if (call->service == AWS_CLOUDWATCH)
                        headers->list[headers->n++] = "x-amzn-query-mode: true";
        } else
                AWS_ADD(type, "Content-Type: application/x-www-form-urlencoded; charset=utf-8");
        headers->list[headers->n] = NULL;

        r = sigv4_sign(&request, &signature);
        if (r == 0) {
                AWS_ADD(date, "X-Amz-Date: %s", signature.date);
                AWS_ADD(authorization, "Authorization: %s", signature.authorization);
                if (keys->session_token)
                        AWS_ADD(token, "X-Amz-Security-Token: %s", keys->session_token);
                AWS_ADD(invocation, "amz-sdk-invocation-id: %s", call->invocation);
                AWS_ADD(request, "amz-sdk-request: attempt=%u; max=%u", call->tries + 1, call->limit);
        }
        OPENSSL_cleanse(&signature, sizeof(signature));
        return r;
}

#undef AWS_ADD

static int aws_call_send(AwsCall *call, const AwsKeys *keys, const char *base) {
        char url[AWS_URL_MAX + 2], host[AWS_URL_MAX];
        const char *path = NULL;
        AwsHeaders headers = {};
        int r;

        (void) snprintf(url, sizeof(url), "%s/", base);
        r = aws_split_url(url, host, sizeof(host), &path);
        if (r == 0)
                r = aws_call_sign(call, keys, host, path, &headers);
        if (r == 0)
                r = http_call(call->aws->http,
                        &(HttpRequest){
                                .method = "POST",
                                .url = url,
                                .headers = headers.list,
                                .body = call->body.text,
                                .n_body = call->body.n,
                                .timeout = call->timeout,
                                .max_body = call->max_answer,
                                /*
                                 * On a kept connection that turns out to be dead, curl would send it twice.
                                 */
                                .fresh = call->once,
                        },
                        aws_on_answer, call, &call->http_call);
        OPENSSL_cleanse(&headers, sizeof(headers));
        return r;
}

static void aws_on_timer(Timer *timer, Now now, void *userdata) {
        AwsCall *call = userdata;
        Aws *aws = call->aws;
        char base[AWS_URL_MAX];
        AwsKeys keys = {};
        int r;

        (void) timer;
        (void) now;
        if (!aws->region) {
                aws_call_give_up(call, AWS_NO_KEYS, "the region is not known yet");
                return;
        }
        if (aws_credentials_get(aws->credentials, &keys) < 0) {
                if (call->waited)
                        aws_call_give_up(call, AWS_NO_KEYS, "no credentials: %s",
                                aws_credentials_detail(aws->credentials));
                else
                        aws_call_wait_for_keys(call);
                return;
        }
        r = aws_endpoint(call->service, aws->region, aws->domain, base);
        if (r < 0) {
                aws_endpoint_problem(call->service, aws->region, r, base);
                aws_call_give_up(call, AWS_UNAVAILABLE, "%s", base);
                return;
        }
        r = aws_call_send(call, &keys, base);
        if (r < 0) {
                aws_call_give_up(call, AWS_UNAVAILABLE, "cannot send: %s", strerror(-r));
                return;
        }
        call->tries++;
}

/* The start of a call. */

static void aws_make_invocation(char id[static 37]) {
        uint64_t high = loop_random(), low = loop_random();

        /* RFC 9562, version 4 */
        high = (high & ~UINT64_C(0xf000)) | 0x4000;
        low = (low & ~(UINT64_C(3) << 62)) | UINT64_C(1) << 63;
        (void) snprintf(id, 37, "%08" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%012" PRIx64,
                high >> 32, high >> 16 & 0xffff, high & 0xffff, low >> 48, low & UINT64_C(0xffffffffffff));
}

static int aws_call_compose(AwsCall *call, const AwsRequest *request) {
        const AwsServiceInfo *info = aws_service_info(request->service);
        int n = snprintf(call->target, sizeof(call->target), "%s", request->action);

        assert(n > 0 && n < (int) sizeof(call->target));
        json_writer_init(&call->body, AWS_BODY_MAX);
        if (!info->target_prefix) {
                json_raw(&call->body, "Action=", 7);
                json_raw(&call->body, request->action, strlen(request->action));
                aws_query_append(&call->body, "Version", info->api_version);
                if (request->n_body > 0 && request->body[0] != '&')
                        json_raw(&call->body, "&", 1);
        }
        if (request->n_body > 0)
                json_raw(&call->body, request->body, request->n_body);
        else if (info->target_prefix)
                json_raw(&call->body, "{}", 2);
        return call->body.error;
}

int aws_call(Aws *aws, const AwsRequest *request, AwsDone done, void *userdata, AwsCall **ret) {
        _cleanup_(aws_call_freep) AwsCall *call = NULL;
        int r;

        assert(done);

        call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        call->done = done;
        call->userdata = userdata;
        call->service = request->service;
        call->once = request->once;
        call->yield = request->yield;
        call->timeout = request->timeout > 0 ? request->timeout : AWS_TIMEOUT;
        call->max_answer = request->max_answer > 0 ? request->max_answer : AWS_ANSWER_MAX;
        call->limit = AWS_TRIES;
        aws_make_invocation(call->invocation);
        r = aws_call_compose(call, request);
        if (r < 0)
                return r;

        call->aws = aws;
        call->next = aws->calls;
        if (call->next)
                call->next->previous = call;
        aws->calls = call;
        r = timer_new(&call->timer, aws->event, "aws-call", SPAN_MSEC(10), aws_on_timer, call);
        if (r < 0)
                return r;
        r = timer_arm(call->timer, loop_now(aws->event).mono);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}

AwsCall *aws_call_free(AwsCall *call) {
        if (!call)
                return NULL;
        aws_call_release(call);
        json_writer_done(&call->body);
        free(call);
        return NULL;
}

static void aws_query_encode(JsonWriter *text, const char *from) {
        static const char digits[] = "0123456789ABCDEF";

        for (; *from; from++) {
                unsigned char byte = (unsigned char) *from;
                const char code[3] = { '%', digits[byte >> 4], digits[byte & 15] };

                if ((byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                        (byte >= 'a' && byte <= 'z') || strchr("-_.~", byte))
                        json_raw(text, from, 1);
                else
                        json_raw(text, code, sizeof(code));
        }
}

void aws_query_append(JsonWriter *text, const char *name, const char *value) {
        json_raw(text, "&", 1);
        aws_query_encode(text, name);
        json_raw(text, "=", 1);
        aws_query_encode(text, value);
}

/* The client. */

sd_event *aws_event(const Aws *aws) {
        return aws->event;
}

Wall aws_wall(const Aws *aws, Wall local) {
        return wall_add(local, aws->offset);
}

const char *aws_refused_keys(const Aws *aws) {
        return aws->refused;
}

Span aws_clock_offset(const Aws *aws) {
        return aws->offset;
}

int aws_set_region(Aws *aws, const char *region, const char *domain) {
        _cleanup_(freep) char *new_region = NULL, *new_domain = NULL;

        if (!region || *region == 0 || strlen(region) > 64)
                return -EINVAL;
        new_region = strdup(region);
        new_domain = domain ? strdup(domain) : NULL;
        if (!new_region || (domain && !new_domain))
                return -ENOMEM;
        free(aws->region);
        free(aws->domain);
        aws->region = steal_ptr(new_region);
        aws->domain = steal_ptr(new_domain);
        return 0;
}

int aws_new(Aws **ret, sd_event *event, Http *http, AwsCredentials *credentials) {
        Aws *aws = calloc(1, sizeof(*aws));

        if (!aws)
                return -ENOMEM;
        aws->event = sd_event_ref(event);
        aws->http = http;
        aws->credentials = credentials;
        bucket_init(&aws->bucket, BUCKET_CAPACITY);

        *ret = aws;
        return 0;
}

Aws *aws_free(Aws *aws) {
        if (!aws)
                return NULL;
        while (aws->calls)
                aws_call_release(aws->calls);
        aws_credentials_unwait(aws->credentials, aws);
        free(aws->region);
        free(aws->domain);
        sd_event_unref(aws->event);
        free(aws);
        return NULL;
}
