/* SPDX-License-Identifier: Apache-2.0 */

/* Both questions at the same time and on connections of their own, so that one that hangs does not hide the other. */

#include <assert.h>
#include <string.h>

#include "agent/observe/docker.h"
#include "common/loop.h"

#define DOCKER_DEADLINE SPAN_SEC(5)
#define DOCKER_BODY_MAX ((size_t) 1024 * 1024) /* one container with all its labels and ports */

struct Docker {
        sd_event *event;
        Http *http;
        char *socket;
        Span every;
        SampleHandler handler;
        void *userdata;

        Timer *timer;
        bool offset; /* the periods have been given their random offset */
        HttpCall *ping, *list;
        Sample sample; /* of the round that is under way */
};

static Answer docker_answer(int error, Sight *sight) {
        switch (-error) {
        case 0: return ANSWER_GOOD;
        case ECONNREFUSED: return ANSWER_REFUSED;
        case ETIMEDOUT: return ANSWER_HUNG;
        case ECONNRESET:
        case EPROTO:
        case E2BIG: return ANSWER_WRONG;
        case ENOENT: *sight = SIGHT_ABSENT; return ANSWER_NONE;
        case EACCES: *sight = SIGHT_DENIED; return ANSWER_NONE;
        default: *sight = SIGHT_FAILED; return ANSWER_NONE;
        }
}

/* Hands the round over when both have come back. Last in its callers, for it may free us. */
static void docker_finish(Docker *docker) {
        Sample sample = docker->sample;

        if (docker->ping || docker->list)
                return;
        docker->handler(&sample, docker->userdata);
}

static void docker_on_ping(const HttpAnswer *answer, void *userdata) {
        Docker *docker = userdata;
        DockerSample *sample = &docker->sample.docker;

        sample->ping = docker_answer(answer->error, &docker->sample.sight);
        if (sample->ping == ANSWER_GOOD && answer->status != 200)
                sample->ping = ANSWER_WRONG;
        if (sample->ping == ANSWER_HUNG)
                sample->ping_time = DOCKER_DEADLINE;
        else if (sample->ping == ANSWER_GOOD || sample->ping == ANSWER_WRONG)
                sample->ping_time = answer->took;
        docker->ping = http_call_free(docker->ping);
        docker_finish(docker);
}

static void docker_on_list(const HttpAnswer *answer, void *userdata) {
        Docker *docker = userdata;
        DockerSample *sample = &docker->sample.docker;

        sample->list = docker_answer(answer->error, &docker->sample.sight);
        /* That it could make the list is all that we want to know. */
        if (sample->list == ANSWER_GOOD && (answer->status != 200 || answer->body[0] != '['))
                sample->list = ANSWER_WRONG;
        docker->list = http_call_free(docker->list);
        docker_finish(docker);
}

static int docker_ask(Docker *docker, const char *url, HttpDone done, HttpCall **ret) {
        const HttpRequest request = {
                .method = "GET",
                .url = url,
                .unix_socket = docker->socket,
                .timeout = DOCKER_DEADLINE,
                .max_body = DOCKER_BODY_MAX,
                .no_proxy = true,
        };

        return http_call(docker->http, &request, done, docker, ret);
}

static void docker_on_timer(Timer *timer, Now now, void *userdata) {
        Docker *docker = userdata;
        Span wait = docker->every;

        if (!docker->offset)
                wait = wait / 2 + (Span) (loop_random() % (uint64_t) wait);
        docker->offset = true;
        (void) timer_arm(timer, mono_add(now.mono, wait));
        if (docker->ping || docker->list)
                return;

        docker->sample = (Sample){
                .witness = WITNESS_DOCKER,
                .sight = SIGHT_CLEAR,
                .docker = { .ping_time = -1 },
        };
        if (docker_ask(docker, "http://localhost/_ping", docker_on_ping, &docker->ping) < 0 ||
                docker_ask(docker, "http://localhost/containers/json?limit=1", docker_on_list,
                        &docker->list) < 0)
                docker->sample.sight = SIGHT_FAILED;
        docker_finish(docker);
}

int docker_new(Docker **ret, sd_event *event, Http *http, const char *socket, Span every,
        SampleHandler handler, void *userdata) {
        _cleanup_(docker_freep) Docker *docker = NULL;
        int r;

        assert(every > 0);
        assert(handler);

        docker = calloc(1, sizeof(*docker));
        if (!docker)
                return -ENOMEM;
        docker->event = sd_event_ref(event);
        docker->http = http;
        docker->every = every;
        docker->handler = handler;
        docker->userdata = userdata;
        docker->socket = strdup(socket);
        if (!docker->socket)
                return -ENOMEM;
        r = timer_new(&docker->timer, event, "docker", SPAN_MSEC(250), docker_on_timer, docker);
        if (r < 0)
                return r;
        r = timer_arm(docker->timer, loop_now(event).mono);
        if (r < 0)
                return r;

        *ret = steal_ptr(docker);
        return 0;
}

Docker *docker_free(Docker *docker) {
        if (!docker)
                return NULL;
        (void) http_call_free(docker->ping);
        (void) http_call_free(docker->list);
        (void) timer_free(docker->timer);
        free(docker->socket);
        sd_event_unref(docker->event);
        free(docker);
        return NULL;
}
