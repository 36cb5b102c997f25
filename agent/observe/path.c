/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Any HTTP answer will do: an unsigned request is refused by the control plane, and that it could be refused is what
 * we want to know. The certificate is checked, for something that answers in the control plane's place is no way to it.
 */

#include <assert.h>
#include <string.h>

#include "agent/observe/path.h"
#include "common/loop.h"

#define PATH_DEADLINE SPAN_SEC(10)
#define PATH_BODY_MAX ((size_t) 64 * 1024)
#define PATH_HOST_MAX 256

struct Path {
        sd_event *event;
        Http *http;
        SampleHandler handler;
        void *userdata;

        Timer *timer;
        HttpCall *call;
        char host[PATH_HOST_MAX]; /* "": not watching */
        uint16_t port;
        bool plain;
        Span every;
        bool offset; /* the periods have been given their random offset */
};

/* Lent by the log, and so by whoever can write there: it goes into a URL. */
static bool path_is_host(const char *host) {
        return host[0] && strlen(host) < PATH_HOST_MAX &&
               host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:")] ==
                       '\0';
}

static PathAnswer path_answer(const Path *path, const HttpAnswer *answer, Sight *sight) {
        switch (-answer->error) {
        case 0:
        case E2BIG: return PATH_WORKS;
        case ENXIO: return PATH_NO_NAME;
        case ECONNREFUSED:
        case EHOSTUNREACH:
        case ETIMEDOUT: return PATH_NO_TCP;
        case EKEYREJECTED: return PATH_NO_TLS;
        case ECONNRESET:
        case EPROTO:
                /* Connected, and then nothing sensible: with TLS that is where it broke. */
                return path->plain ? PATH_NO_TCP : PATH_NO_TLS;
        case EACCES: *sight = SIGHT_DENIED; return PATH_NONE;
        default: *sight = SIGHT_FAILED; return PATH_NONE;
        }
}

static void path_on_answer(const HttpAnswer *answer, void *userdata) {
        Path *path = userdata;
        Sample sample = { .witness = WITNESS_PATH, .sight = SIGHT_CLEAR };

        sample.path.answer = path_answer(path, answer, &sample.sight);
        sample.path.took = answer->took;
        path->call = http_call_free(path->call);
        /* Last, for it may free us. */
        path->handler(&sample, path->userdata);
}

static void path_on_timer(Timer *timer, Now now, void *userdata) {
        Path *path = userdata;
        const Sample failed = { .witness = WITNESS_PATH, .sight = SIGHT_FAILED };
        HttpRequest request = {
                .method = "GET",
                .timeout = PATH_DEADLINE,
                .max_body = PATH_BODY_MAX,
                .fresh = true,
        };
        Span wait = path->every;
        char url[PATH_HOST_MAX + 32];
        bool v6 = strchr(path->host, ':');

        if (!path->offset)
                wait = wait / 2 + (Span) (loop_random() % (uint64_t) wait);
        path->offset = true;
        (void) timer_arm(timer, mono_add(now.mono, wait));
        if (path->call)
                return;

        (void) snprintf(url, sizeof(url), "%s://%s%s%s:%u/", path->plain ? "http" : "https", v6 ? "[" : "",
                path->host, v6 ? "]" : "", (unsigned) path->port);
        request.url = url;
        if (http_call(path->http, &request, path_on_answer, path, &path->call) < 0)
                path->handler(&failed, path->userdata);
}

int path_new(Path **ret, sd_event *event, Http *http, SampleHandler handler, void *userdata) {
        _cleanup_(path_freep) Path *path = NULL;
        int r;

        assert(handler);

        path = calloc(1, sizeof(*path));
        if (!path)
                return -ENOMEM;
        path->event = sd_event_ref(event);
        path->http = http;
        path->handler = handler;
        path->userdata = userdata;
        r = timer_new(&path->timer, event, "path", SPAN_MSEC(250), path_on_timer, path);
        if (r < 0)
                return r;

        *ret = steal_ptr(path);
        return 0;
}

Path *path_free(Path *path) {
        if (!path)
                return NULL;
        (void) http_call_free(path->call);
        (void) timer_free(path->timer);
        sd_event_unref(path->event);
        free(path);
        return NULL;
}

int path_watch(Path *path, const char *host, uint16_t port, bool plain, Span every) {
        if (!path_is_host(host) || port == 0 || every <= 0)
                return -EINVAL;
        if (strcmp(path->host, host) == 0 && path->port == port && path->plain == plain &&
                path->every == every)
                return 0;

        path->call = http_call_free(path->call);
        memcpy(path->host, host, strlen(host) + 1);
        path->port = port;
        path->plain = plain;
        path->every = every;
        path->offset = false;
        return timer_arm(path->timer, loop_now(path->event).mono);
}

void path_rest(Path *path) {
        path->call = http_call_free(path->call);
        timer_disarm(path->timer);
        path->host[0] = '\0';
}
