/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Metadata calls as a small machine each: have a token, ask with it, and on trouble wait a little and start
 * over. The token is shared; calls that find none at the same moment each fetch one, which the service does
 * not mind.
 */

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "common/aws-imds.h"
#include "common/backoff.h"
#include "common/loop.h"

#define IMDS_TOKEN_MAX    512
#define IMDS_TOKEN_TTL    21600 /* seconds; the most that the service grants */
#define IMDS_TOKEN_MARGIN SPAN_MIN(5)
#define IMDS_TIMEOUT      SPAN_SEC(2)
#define IMDS_TRIES        3
#define IMDS_BODY_MAX     65536

static const Backoff imds_backoff = { .base = SPAN_MSEC(200), .ceiling = SPAN_SEC(1) };

struct Imds {
        sd_event *event;
        Http *http;
        ImdsCall *calls;
        bool disabled;
        char url[256]; /* without a slash at the end; "": the environment names none that makes sense */
        char token[IMDS_TOKEN_MAX];
        Mono token_until; /* MONO_NEVER: there is none */
};

struct ImdsCall {
        Imds *imds; /* NULL once answered, or when the client is gone */
        ImdsCall *previous, *next;
        ImdsDone done;
        void *userdata;
        HttpCall *http_call;
        Timer *timer;
        unsigned tries;
        bool renewed; /* a token has been refused already */
        int error;    /* of the last try */
        char path[];
};

static void imds_call_step(ImdsCall *call);

static void imds_call_release(ImdsCall *call) {
        if (!call->imds)
                return;
        *(call->previous ? &call->previous->next : &call->imds->calls) = call->next;
        if (call->next)
                call->next->previous = call->previous;
        call->imds = NULL;
        call->http_call = http_call_free(call->http_call);
        call->timer = timer_free(call->timer);
}

/* The last thing that a handler does, for the callback may free anything. */
static void imds_call_finish(ImdsCall *call, int error, const char *text, size_t n) {
        ImdsAnswer answer = { .error = error, .text = error == 0 ? text : "", .n = error == 0 ? n : 0 };

        imds_call_release(call);
        call->done(&answer, call->userdata);
}

/* Wait and start over, if there are tries left. */
static void imds_call_again(ImdsCall *call, int error) {
        Mono now = loop_now(call->imds->event).mono;

        call->error = error;
        if (call->tries < IMDS_TRIES) {
                now = mono_add(now, backoff_next(&imds_backoff, call->tries - 1, loop_random()));
                if (timer_arm(call->timer, now) >= 0)
                        return;
        }
        imds_call_finish(call, error, NULL, 0);
}

static bool imds_token_is_sound(const char *text, size_t n) {
        if (n == 0 || n >= IMDS_TOKEN_MAX)
                return false;
        for (size_t i = 0; i < n; i++)
                if (text[i] <= ' ' || text[i] > '~')
                        return false;
        return true;
}

static int imds_status_error(unsigned status) {
        if (status == 404)
                return -ENOENT;
        if (status == 401 || status == 403)
                return -EACCES;
        if (status == 429 || status >= 500)
                return -EAGAIN;
        return -EPROTO;
}

const char *imds_error_to_string(int error) {
        switch (error) {
        case -EACCES:
                return "access is denied or switched off: look at the instance's metadata options and "
                       "AWS_EC2_METADATA_DISABLED";
        case -EINVAL: return "AWS_EC2_METADATA_SERVICE_ENDPOINT is no http:// address";
        case -EAGAIN: return "it is throttled or out of order";
        case -EPROTO: return "its answer makes no sense";
        default: return strerror(-error);
        }
}

/* Errors that another try may mend. */
static bool imds_is_passing(int error, unsigned status) {
        return status == 0 ? error != -E2BIG && error != -ENOMEM : error == -EAGAIN;
}

static void imds_on_token(const HttpAnswer *answer, void *userdata) {
        ImdsCall *call = userdata;
        Imds *imds = call->imds;
        size_t n = answer->n_body;
        int error = answer->error;

        call->http_call = http_call_free(call->http_call);
        if (error == 0 && answer->status == 200) {
                while (n > 0 && (answer->body[n - 1] == '\n' || answer->body[n - 1] == '\r'))
                        n--;
                if (imds_token_is_sound(answer->body, n)) {
                        (void) memcpy(imds->token, answer->body, n);
                        imds->token[n] = 0;
                        imds->token_until = mono_add(
                                loop_now(imds->event).mono, SPAN_SEC(IMDS_TOKEN_TTL) - IMDS_TOKEN_MARGIN);
                        imds_call_step(call);
                        return;
                }
                error = -EPROTO;
        } else if (error == 0) {
                /* The path exists wherever there is a metadata service: "no such item" would be a lie. */
                error = imds_status_error(answer->status);
                error = error == -ENOENT ? -EPROTO : error;
        }
        if (imds_is_passing(error, answer->status))
                imds_call_again(call, error);
        else
                imds_call_finish(call, error, NULL, 0);
}

static void imds_on_item(const HttpAnswer *answer, void *userdata) {
        ImdsCall *call = userdata;
        int error = answer->error;

        call->http_call = http_call_free(call->http_call);
        if (error == 0 && answer->status == 401 && !call->renewed) {
                /* Tokens belong to an instance: a memory image may have been resumed on another one. */
                call->renewed = true;
                call->imds->token_until = MONO_NEVER;
                imds_call_step(call);
                return;
        }
        if (error == 0 && answer->status != 200)
                error = imds_status_error(answer->status);
        if (error != 0 && imds_is_passing(error, answer->status))
                imds_call_again(call, error);
        else
                imds_call_finish(call, error, answer->body, answer->n_body);
}

static int imds_call_send(ImdsCall *call, bool for_token) {
        Imds *imds = call->imds;
        char url[2048], header[IMDS_TOKEN_MAX + 64];
        const char *const headers[] = { header, NULL };
        HttpRequest request = {
                .method = for_token ? "PUT" : "GET",
                .url = url,
                .headers = headers,
                .timeout = IMDS_TIMEOUT,
                .max_body = IMDS_BODY_MAX,
                .no_proxy = true,
        };
        int n;

        if (for_token)
                (void) snprintf(
                        header, sizeof(header), "X-aws-ec2-metadata-token-ttl-seconds: %d", IMDS_TOKEN_TTL);
        else
                (void) snprintf(header, sizeof(header), "X-aws-ec2-metadata-token: %s", imds->token);
        n = snprintf(url, sizeof(url), "%s%s", imds->url, for_token ? "/latest/api/token" : call->path);
        if (n >= (int) sizeof(url))
                return -EINVAL;
        return http_call(
                imds->http, &request, for_token ? imds_on_token : imds_on_item, call, &call->http_call);
}

/*
 * Sends what is to be sent next. A failure to do so is reported by the timer: never from within imds_get().
 */
static void imds_call_step(ImdsCall *call) {
        Imds *imds = call->imds;
        Mono now = loop_now(imds->event).mono;
        int r;

        r = imds_call_send(call, !mono_is_set(imds->token_until) || !mono_before(now, imds->token_until));
        if (r < 0) {
                call->tries = IMDS_TRIES;
                call->error = r;
                (void) timer_arm(call->timer, now);
        }
}

static void imds_on_timer(Timer *timer, Now now, void *userdata) {
        ImdsCall *call = userdata;

        (void) timer;
        (void) now;
        if (call->tries >= IMDS_TRIES) {
                imds_call_finish(call, call->error, NULL, 0);
                return;
        }
        call->tries++;
        imds_call_step(call);
}

int imds_get(Imds *imds, const char *path, ImdsDone done, void *userdata, ImdsCall **ret) {
        _cleanup_(imds_call_freep) ImdsCall *call = NULL;
        size_t n = strlen(path);
        int r;

        assert(path[0] == '/');
        assert(done);

        call = calloc(1, sizeof(*call) + n + 1);
        if (!call)
                return -ENOMEM;
        (void) memcpy(call->path, path, n + 1);
        call->done = done;
        call->userdata = userdata;
        call->imds = imds;
        call->next = imds->calls;
        if (call->next)
                call->next->previous = call;
        imds->calls = call;

        r = timer_new(&call->timer, imds->event, "imds-call", SPAN_MSEC(10), imds_on_timer, call);
        if (r < 0)
                return r;
        if (imds->disabled || imds->url[0] == 0) {
                call->tries = IMDS_TRIES;
                call->error = imds->disabled ? -EACCES : -EINVAL;
        }
        r = timer_arm(call->timer, loop_now(imds->event).mono);
        if (r < 0)
                return r;

        *ret = steal_ptr(call);
        return 0;
}

ImdsCall *imds_call_free(ImdsCall *call) {
        if (!call)
                return NULL;
        imds_call_release(call);
        free(call);
        return NULL;
}

static void imds_read_environment(Imds *imds) {
        const char *disabled = getenv("AWS_EC2_METADATA_DISABLED");
        const char *endpoint = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        const char *mode = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
        size_t n;

        imds->disabled = disabled && strcasecmp(disabled, "true") == 0;
        if (!endpoint || *endpoint == 0)
                endpoint = mode && strcasecmp(mode, "IPv6") == 0 ? "http://[fd00:ec2::254]"
                                                                 : "http://169.254.169.254";
        n = strlen(endpoint);
        while (n > 0 && endpoint[n - 1] == '/')
                n--;
        if (n < sizeof(imds->url))
                (void) memcpy(imds->url, endpoint, n);
}

int imds_new(Imds **ret, sd_event *event, Http *http) {
        Imds *imds = calloc(1, sizeof(*imds));

        if (!imds)
                return -ENOMEM;
        imds->event = sd_event_ref(event);
        imds->http = http;
        imds_read_environment(imds);

        *ret = imds;
        return 0;
}

Imds *imds_free(Imds *imds) {
        if (!imds)
                return NULL;
        while (imds->calls)
                imds_call_release(imds->calls);
        sd_event_unref(imds->event);
        free(imds);
        return NULL;
}
