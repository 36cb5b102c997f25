/* SPDX-License-Identifier: Apache-2.0 */

/* One round: /v1/metadata, then /v1/tasks unless nobody listens. What a body says is read by pure functions. */

#include <assert.h>
#include <string.h>

#include "agent/observe/introspection.h"
#include "common/json.h"
#include "common/loop.h"

#define INTROSPECTION_DEADLINE SPAN_SEC(5)
#define INTROSPECTION_BODY_MAX ((size_t) 4 * 1024 * 1024) /* a busy host's task list is some hundred KB */

struct Introspection {
        sd_event *event;
        Http *http;
        char *metadata_url, *tasks_url;
        Span every;
        SampleHandler handler;
        void *userdata;

        Timer *timer;
        bool offset;    /* the periods have been given their random offset */
        HttpCall *call; /* NULL between rounds */
        Sample sample;  /* of the round that is under way */
        DifferingTasks differing;
        char cluster[INTROSPECTION_TEXT_MAX], arn[INTROSPECTION_TEXT_MAX], version[INTROSPECTION_TEXT_MAX];
};

/* --- What a body says --- */

static bool introspection_copy(char ret[static INTROSPECTION_TEXT_MAX], const char *text, size_t n) {
        if (n >= INTROSPECTION_TEXT_MAX)
                return false;
        memcpy(ret, text, n);
        ret[n] = '\0';
        return true;
}

/* "Amazon ECS Agent - v1.105.1 (*a8b3e7d3)" to "1.105.1"; what looks otherwise stays as it is. */
static bool introspection_read_version(char ret[static INTROSPECTION_TEXT_MAX], const char *text) {
        static const char name[] = "Amazon ECS Agent - v";

        if (strncmp(text, name, strlen(name)) == 0) {
                text += strlen(name);
                return introspection_copy(ret, text, strcspn(text, " "));
        }
        return introspection_copy(ret, text, strlen(text));
}

int introspection_read_metadata(
        const char *body, size_t n, char *cluster, char *arn, char *version, bool *registered) {
        _cleanup_(json_freep) cJSON *json = NULL;
        const char *cluster_text = NULL, *arn_text = "", *version_text = "", *slash;
        int r;

        r = json_parse(body, n, NULL, &json);
        if (r < 0)
                return r;
        /* Every unknown path answers 200 with a list of commands: only these members tell that it is the right one. */
        if (!cJSON_IsObject(json) || !cJSON_GetObjectItemCaseSensitive(json, "ContainerInstanceArn"))
                return -EBADMSG;
        if (json_get_string(json, "Cluster", &cluster_text) < 0)
                return -EBADMSG;
        if (json_get_string(json, "ContainerInstanceArn", &arn_text) == -EBADMSG ||
                json_get_string(json, "Version", &version_text) == -EBADMSG)
                return -EBADMSG;

        /* What ECS_CLUSTER holds: a name, or an ARN that ends in it. */
        slash = strrchr(cluster_text, '/');
        cluster_text = slash ? slash + 1 : cluster_text;
        if (strlen(arn_text) >= INTROSPECTION_TEXT_MAX ||
                !introspection_copy(cluster, cluster_text, strlen(cluster_text)) ||
                !introspection_read_version(version, version_text))
                return -EBADMSG;
        (void) introspection_copy(arn, arn_text, strlen(arn_text));
        *registered = arn_text[0] != '\0';
        return 0;
}

/* FNV-1a: short names, and a collision does no more than hide one stuck task behind another. */
static uint64_t introspection_hash(const char *text) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (; *text; text++)
                hash = (hash ^ (unsigned char) *text) * UINT64_C(0x100000001b3);
        return hash;
}

static void introspection_differs(DifferingTasks *differing, uint64_t hash, Mono now) {
        for (uint32_t i = 0; i < differing->n; i++)
                if (differing->tasks[i].hash == hash) {
                        differing->tasks[i].seen = true;
                        return;
                }
        if (differing->n == INTROSPECTION_DIFFERING_MAX)
                return;
        differing->tasks[differing->n].hash = hash;
        differing->tasks[differing->n].since = now;
        differing->tasks[differing->n].seen = true;
        differing->n++;
}

/* Forgets those that no longer differ, and counts those that have for long. */
static int32_t introspection_settle(DifferingTasks *differing, Mono now) {
        uint32_t n = 0;
        int32_t stuck = 0;

        for (uint32_t i = 0; i < differing->n; i++) {
                if (!differing->tasks[i].seen)
                        continue;
                differing->tasks[n] = differing->tasks[i];
                differing->tasks[n].seen = false;
                stuck += mono_since(now, differing->tasks[n].since) >= INTROSPECTION_STUCK_AFTER;
                n++;
        }
        differing->n = n;
        return stuck;
}

int introspection_read_tasks(
        const char *body, size_t n, DifferingTasks *differing, Mono now, int32_t *running, int32_t *stuck) {
        _cleanup_(json_freep) cJSON *json = NULL;
        const cJSON *tasks = NULL, *task;
        int32_t count = 0;
        int r;

        r = json_parse(body, n, NULL, &json);
        if (r < 0)
                return r;
        /* A fetch that failed inside the agent gives null. */
        if (json_get_array(json, "Tasks", &tasks) < 0)
                return -EBADMSG;
        cJSON_ArrayForEach(task, tasks) {
                const char *arn = NULL, *known = NULL, *desired = NULL;

                if (json_get_string(task, "Arn", &arn) < 0 ||
                        json_get_string(task, "KnownStatus", &known) < 0)
                        continue;
                count += strcmp(known, "RUNNING") == 0;
                /* Left out by the agent where the difference means nothing. */
                if (json_get_string(task, "DesiredStatus", &desired) == 0 && strcmp(desired, known) != 0)
                        introspection_differs(differing, introspection_hash(arn), now);
        }
        *running = count;
        *stuck = introspection_settle(differing, now);
        return 0;
}

/* --- Asking --- */

/* @ret_sight: changed when it is we who could not ask. */
static Answer introspection_answer(int error, Sight *ret_sight) {
        switch (-error) {
        case 0: return ANSWER_GOOD;
        case ECONNREFUSED: return ANSWER_REFUSED;
        case ETIMEDOUT: return ANSWER_HUNG;
        case ECONNRESET:
        case EPROTO:
        case E2BIG: return ANSWER_WRONG;
        case EACCES: *ret_sight = SIGHT_DENIED; return ANSWER_NONE;
        default: *ret_sight = SIGHT_FAILED; return ANSWER_NONE;
        }
}

static void introspection_finish(Introspection *introspection) {
        Sample sample = introspection->sample;

        /* Last, for it may free us. */
        introspection->handler(&sample, introspection->userdata);
}

static int introspection_ask(Introspection *introspection, const char *url, HttpDone done) {
        const HttpRequest request = {
                .method = "GET",
                .url = url,
                .timeout = INTROSPECTION_DEADLINE,
                .max_body = INTROSPECTION_BODY_MAX,
                .no_proxy = true,
        };

        return http_call(introspection->http, &request, done, introspection, &introspection->call);
}

static void introspection_on_tasks(const HttpAnswer *answer, void *userdata) {
        Introspection *introspection = userdata;
        IntrospectionSample *sample = &introspection->sample.introspection;
        Mono now = loop_now(introspection->event).mono;

        sample->tasks = introspection_answer(answer->error, &introspection->sample.sight);
        if (sample->tasks == ANSWER_GOOD &&
                (answer->status != 200 ||
                        introspection_read_tasks(answer->body, answer->n_body, &introspection->differing,
                                now, &sample->tasks_running, &sample->tasks_stuck) < 0))
                sample->tasks = ANSWER_WRONG;
        introspection->call = http_call_free(introspection->call);
        introspection_finish(introspection);
}

static void introspection_take_metadata(Introspection *introspection, const HttpAnswer *answer) {
        IntrospectionSample *sample = &introspection->sample.introspection;
        char cluster[INTROSPECTION_TEXT_MAX], arn[INTROSPECTION_TEXT_MAX], version[INTROSPECTION_TEXT_MAX];

        sample->metadata = introspection_answer(answer->error, &introspection->sample.sight);
        if (sample->metadata != ANSWER_GOOD)
                return;
        if (answer->status != 200 || introspection_read_metadata(answer->body, answer->n_body, cluster, arn,
                                             version, &sample->registered) < 0) {
                sample->metadata = ANSWER_WRONG;
                return;
        }
        if (!sample->registered)
                return;
        memcpy(introspection->cluster, cluster, sizeof(cluster));
        memcpy(introspection->arn, arn, sizeof(arn));
        memcpy(introspection->version, version, sizeof(version));
}

static void introspection_on_metadata(const HttpAnswer *answer, void *userdata) {
        Introspection *introspection = userdata;
        IntrospectionSample *sample = &introspection->sample.introspection;

        introspection_take_metadata(introspection, answer);
        introspection->call = http_call_free(introspection->call);
        if (introspection->sample.sight == SIGHT_CLEAR && sample->metadata != ANSWER_REFUSED &&
                sample->metadata != ANSWER_HUNG) {
                if (introspection_ask(introspection, introspection->tasks_url, introspection_on_tasks) == 0)
                        return;
                introspection->sample.sight = SIGHT_FAILED;
        }
        introspection_finish(introspection);
}

static void introspection_on_timer(Timer *timer, Now now, void *userdata) {
        Introspection *introspection = userdata;
        Span wait = introspection->every;

        /* The first question comes at once; the others out of step with those of hosts that booted together. */
        if (!introspection->offset)
                wait = wait / 2 + (Span) (loop_random() % (uint64_t) wait);
        introspection->offset = true;
        (void) timer_arm(timer, mono_add(now.mono, wait));
        if (introspection->call)
                return;

        introspection->sample = (Sample){
                .witness = WITNESS_INTROSPECTION,
                .sight = SIGHT_CLEAR,
                .introspection = { .tasks_running = -1, .tasks_stuck = -1 },
        };
        if (introspection_ask(introspection, introspection->metadata_url, introspection_on_metadata) == 0)
                return;
        introspection->sample.sight = SIGHT_FAILED;
        introspection_finish(introspection);
}

int introspection_new(Introspection **ret, sd_event *event, Http *http, const char *endpoint, Span every,
        SampleHandler handler, void *userdata) {
        _cleanup_(introspection_freep) Introspection *introspection = NULL;
        int r;

        assert(every > 0);
        assert(handler);

        introspection = calloc(1, sizeof(*introspection));
        if (!introspection)
                return -ENOMEM;
        introspection->event = sd_event_ref(event);
        introspection->http = http;
        introspection->every = every;
        introspection->handler = handler;
        introspection->userdata = userdata;
        if (asprintf(&introspection->metadata_url, "%s/v1/metadata", endpoint) < 0) {
                introspection->metadata_url = NULL;
                return -ENOMEM;
        }
        if (asprintf(&introspection->tasks_url, "%s/v1/tasks", endpoint) < 0) {
                introspection->tasks_url = NULL;
                return -ENOMEM;
        }
        r = timer_new(&introspection->timer, event, "introspection", SPAN_MSEC(250), introspection_on_timer,
                introspection);
        if (r < 0)
                return r;
        r = timer_arm(introspection->timer, loop_now(event).mono);
        if (r < 0)
                return r;

        *ret = steal_ptr(introspection);
        return 0;
}

Introspection *introspection_free(Introspection *introspection) {
        if (!introspection)
                return NULL;
        (void) http_call_free(introspection->call);
        (void) timer_free(introspection->timer);
        free(introspection->metadata_url);
        free(introspection->tasks_url);
        sd_event_unref(introspection->event);
        free(introspection);
        return NULL;
}

const char *introspection_cluster(const Introspection *introspection) {
        return introspection->cluster;
}

const char *introspection_arn(const Introspection *introspection) {
        return introspection->arn;
}

const char *introspection_version(const Introspection *introspection) {
        return introspection->version;
}

void introspection_soon(Introspection *introspection) {
        if (!introspection->call)
                (void) timer_arm(introspection->timer, loop_now(introspection->event).mono);
}
