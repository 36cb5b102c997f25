/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Data on their way to CloudWatch. One array holds them, oldest first; the batch under way is its beginning
 * and stays there until its answer has come.
 */

#include "agent/act/publisher.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "agent/act/spool.h"
#include "common/backoff.h"
#include "common/json.h"
#include "common/loop.h"

#define PUBLISHER_RETRY_DEFAULT SPAN_SEC(30)
#define PUBLISHER_RETRY_CEILING 10 /* times the first wait */
#define PUBLISHER_ROOM_MAX      (PUBLISHER_KEPT_MAX + PUBLISHER_BATCH_MAX)
#define PUBLISHER_ROOM_FIRST    128 /* a period's data of a usual host */

/* Bytes of one datum at most: three values of 255 bytes, each maybe escaped, and some 400 around them. */
#define PUBLISHER_DATUM_TEXT_MAX 4096

/* CloudWatch takes two weeks back and two hours ahead; the margins are for the way and for its clock. */
#define PUBLISHER_AGE_MAX   (SPAN_DAY(14) - SPAN_HOUR(1))
#define PUBLISHER_AHEAD_MAX (SPAN_HOUR(2) - SPAN_MIN(5))

/* Halving a full batch takes 9 refusals; more in a row than this means that it is not about single data. */
#define PUBLISHER_REFUSALS_MAX 12

/** A dimension value of a mount, shared by the data that name it. */
typedef struct PublisherPath {
        struct PublisherPath *next;
        size_t refs;
        char text[];
} PublisherPath;

struct Publisher {
        sd_event *event;
        Aws *aws;
        const Metrics *metrics;
        Spool *spool; /* NULL: none */
        Timer *timer;
        bool waiting; /* the timer is armed: nothing is sent before it fires */
        AwsCall *call;
        Span retry;
        PublisherDone done;
        void *userdata;

        char *name_space;
        char cluster[256], group[256], instance[64];

        SpoolItem *items;
        size_t n, allocated;
        size_t n_flight;  /* of those at the beginning: in the request under way */
        size_t n_late;    /* of those at the beginning: came from the spool */
        size_t n_suspect; /* of those at the beginning: a refused batch, of which the culprit is sought */
        size_t limit;     /* of the next batch while it is sought */
        PublisherPath *paths;

        unsigned failures, refusals; /* in a row */
        uint64_t sent, dropped, dropped_taken;
        Wall last_success;
        char problem[256];
};

static size_t publisher_min(size_t a, size_t b) {
        return a < b ? a : b;
}

/* Dimension values */

static void value_printable(char *text) {
        if (text[0] == ':')
                text[0] = '?';
        for (char *c = text; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
}

static const char *path_ref(Publisher *publisher, const char *text) {
        size_t n = strlen(text) + 1;
        char value[DISK_PATH_MAX];
        PublisherPath *path;

        assert(n <= sizeof(value));

        memcpy(value, text, n);
        value_printable(value);
        for (path = publisher->paths; path; path = path->next)
                if (strcmp(path->text, value) == 0) {
                        path->refs++;
                        return path->text;
                }
        path = malloc(sizeof(*path) + n);
        if (!path)
                return NULL;
        *path = (PublisherPath){ .next = publisher->paths, .refs = 1 };
        memcpy(path->text, value, n);
        publisher->paths = path;
        return path->text;
}

static void path_unref(Publisher *publisher, const char *text) {
        for (PublisherPath **at = &publisher->paths; text && *at; at = &(*at)->next) {
                PublisherPath *path = *at;

                if (path->text != text)
                        continue;
                if (--path->refs == 0) {
                        *at = path->next;
                        free(path);
                }
                return;
        }
}

/* The array */

static void items_remove(Publisher *publisher, size_t from, size_t n) {
        if (n == 0)
                return; /* there may be no array yet */
        for (size_t i = from; i < from + n; i++)
                path_unref(publisher, publisher->items[i].path);
        publisher->n -= n;
        memmove(publisher->items + from, publisher->items + from + n,
                (publisher->n - from) * sizeof(*publisher->items));
}

/* Removes from the very beginning, where the counts refer to. */
static void items_remove_first(Publisher *publisher, size_t n) {
        items_remove(publisher, 0, n);
        publisher->n_late -= publisher_min(n, publisher->n_late);
        publisher->n_suspect -= publisher_min(n, publisher->n_suspect);
}

static int items_reserve(Publisher *publisher) {
        size_t room = publisher->allocated > 0 ? publisher->allocated * 2 : PUBLISHER_ROOM_FIRST;
        SpoolItem *items;

        if (publisher->n < publisher->allocated)
                return 0;
        if (publisher->n >= PUBLISHER_ROOM_MAX)
                return -ENOSPC;
        items = realloc(publisher->items, publisher_min(room, PUBLISHER_ROOM_MAX) * sizeof(*items));
        if (!items)
                return -ENOMEM;
        publisher->items = items;
        publisher->allocated = publisher_min(room, PUBLISHER_ROOM_MAX);
        return 0;
}

static int items_push(Publisher *publisher, const Datum *datum, const char *path) {
        SpoolItem item = { .datum = *datum };
        int r;

        r = items_reserve(publisher);
        if (r < 0)
                return r;
        if (path) {
                item.path = path_ref(publisher, path);
                if (!item.path)
                        return -ENOMEM;
        }
        publisher->items[publisher->n++] = item;
        return 0;
}

static void items_take_lost(Publisher *publisher) {
        if (publisher->spool)
                publisher->dropped += spool_take_lost(publisher->spool);
}

/* Appends @n items from @from on to the spool. Return: how many it has taken. */
static size_t items_store(Publisher *publisher, size_t from, size_t n) {
        size_t stored = 0;

        if (publisher->spool && n > 0)
                (void) spool_append(publisher->spool, publisher->items + from, n, &stored);
        items_take_lost(publisher);
        return stored;
}

/* Memory is full: the older half goes to the spool, and what that does not take is dropped. */
static void items_spill(Publisher *publisher) {
        size_t from = publisher->n_flight, n = publisher_min((publisher->n + 1) / 2, publisher->n - from);

        publisher->dropped += n - items_store(publisher, from, n);
        items_remove(publisher, from, n);
        publisher->n_late = publisher_min(publisher->n_late, from);
        publisher->n_suspect = publisher_min(publisher->n_suspect, from);
}

static void publisher_on_spooled(const SpoolItem *item, void *userdata) {
        Publisher *publisher = userdata;

        if (items_push(publisher, &item->datum, item->path) < 0)
                publisher->dropped++;
}

/* Fetches a batch from the spool, and puts it in front of what is younger. */
static void items_fetch(Publisher *publisher) {
        _cleanup_(freep) SpoolItem *fetched = NULL;
        size_t young = publisher->n, n;

        if (!publisher->spool || publisher->failures > 0 || publisher->n_late > 0 ||
                publisher->n_suspect > 0)
                return;
        (void) spool_take(publisher->spool, PUBLISHER_BATCH_MAX, publisher_on_spooled, publisher);
        items_take_lost(publisher);
        n = publisher->n - young;
        if (n == 0)
                return;
        fetched = malloc(n * sizeof(*fetched));
        if (!fetched)
                return; /* then they go last */
        memcpy(fetched, publisher->items + young, n * sizeof(*fetched));
        memmove(publisher->items + n, publisher->items, young * sizeof(*fetched));
        memcpy(publisher->items, fetched, n * sizeof(*fetched));
        publisher->n_late = n;
}

/* One datum out of CloudWatch's times would make it refuse the whole batch. */
static void items_expire(Publisher *publisher) {
        Wall now = aws_wall(publisher->aws, loop_now(publisher->event).wall);
        size_t kept = 0, late = publisher->n_late, suspect = publisher->n_suspect;

        for (size_t i = 0; i < publisher->n; i++) {
                SpoolItem *item = &publisher->items[i];
                Span age = wall_since(now, item->datum.at);

                if (age < PUBLISHER_AGE_MAX && age > -PUBLISHER_AHEAD_MAX) {
                        publisher->items[kept++] = *item;
                        continue;
                }
                path_unref(publisher, item->path);
                publisher->dropped++;
                publisher->n_late -= i < late;
                publisher->n_suspect -= i < suspect;
        }
        publisher->n = kept;
}

/* The request */

static void publisher_write_dimension(JsonWriter *json, const char *name, const char *value) {
        json_begin_object(json, NULL);
        json_string(json, "Name", name);
        json_string(json, "Value", value);
        json_end_object(json);
}

static void publisher_write_datum(JsonWriter *json, const Publisher *publisher, const SpoolItem *item) {
        const Datum *datum = &item->datum;

        json_begin_object(json, NULL);
        json_string(json, "MetricName", metric_table[datum->metric].name);
        json_begin_array(json, "Dimensions");
        publisher_write_dimension(json, "ClusterName", publisher->cluster);
        if (datum->instance)
                publisher_write_dimension(json, "InstanceId", publisher->instance);
        else
                publisher_write_dimension(json, "AutoScalingGroupName", publisher->group);
        if (item->path)
                publisher_write_dimension(json, "path", item->path);
        if (datum->brake >= 0)
                publisher_write_dimension(json, "Brake", brake_table[datum->brake].name);
        json_end_array(json);
        json_i64(json, "Timestamp", datum->at.usec / SPAN_SEC(1));
        json_begin_object(json, "StatisticValues");
        json_double(json, "SampleCount", datum->count);
        json_double(json, "Sum", datum->sum);
        json_double(json, "Minimum", datum->min);
        json_double(json, "Maximum", datum->max);
        json_end_object(json);
        json_string(json, "Unit", metric_table[datum->metric].unit);
        json_end_object(json);
}

/* As many of the first @max items as fit. Return: how many. */
static size_t publisher_write_batch(JsonWriter *json, const Publisher *publisher, size_t max) {
        size_t n = 0;

        json_begin_object(json, NULL);
        json_string(json, "Namespace", publisher->name_space);
        json_begin_array(json, "MetricData");
        while (n < max && json->n <= PUBLISHER_BODY_MAX - PUBLISHER_DATUM_TEXT_MAX)
                publisher_write_datum(json, publisher, &publisher->items[n++]);
        json_end_array(json);
        json_end_object(json);
        return n;
}

static void publisher_on_answer(const AwsAnswer *answer, void *userdata);

static int publisher_send_batch(Publisher *publisher) {
        size_t max = publisher->n_suspect > 0 ? publisher_min(publisher->limit, publisher->n_suspect)
                                              : PUBLISHER_BATCH_MAX;
        AwsRequest request = { .service = AWS_CLOUDWATCH, .action = "PutMetricData" };
        JsonWriter json = {};
        size_t n;
        int r;

        json_writer_init(&json, PUBLISHER_BODY_MAX);
        n = publisher_write_batch(&json, publisher, publisher_min(max, publisher->n));
        r = json.error;
        if (r == 0) {
                request.body = json.text;
                request.n_body = json.n;
                r = aws_call(publisher->aws, &request, publisher_on_answer, publisher, &publisher->call);
        }
        json_writer_done(&json);
        if (r == 0)
                publisher->n_flight = n;
        return r;
}

static void publisher_wait(Publisher *publisher, bool slowly) {
        const Span ceiling = publisher->retry * PUBLISHER_RETRY_CEILING;
        const Backoff backoff = { .base = slowly ? ceiling : publisher->retry, .ceiling = ceiling };
        Span span = backoff_next(&backoff, publisher->failures - 1, loop_random());
        Mono at = mono_add(loop_now(publisher->event).mono, span);

        publisher->waiting = timer_arm(publisher->timer, at) == 0;
}

static void publisher_send_next(Publisher *publisher) {
        int r;

        if (publisher->call || publisher->waiting || !publisher->cluster[0] || !publisher->instance[0])
                return;
        items_fetch(publisher);
        items_expire(publisher);
        if (publisher->n == 0)
                return;
        r = publisher_send_batch(publisher);
        if (r < 0) {
                publisher->failures++;
                (void) snprintf(publisher->problem, sizeof(publisher->problem), "%s", strerrordesc_np(-r));
                publisher_wait(publisher, false);
        }
}

static void publisher_on_timer(Timer *timer, Now now, void *userdata) {
        Publisher *publisher = userdata;

        (void) timer;
        (void) now;
        publisher->waiting = false;
        publisher_send_next(publisher);
}

/* Answers */

static void publisher_take_success(Publisher *publisher, size_t n) {
        items_remove_first(publisher, n);
        /* The culprit, if there is one, is among the rest. */
        publisher->limit = (publisher->n_suspect + 1) / 2;
        publisher->sent += n;
        publisher->failures = publisher->refusals = 0;
        publisher->last_success = loop_now(publisher->event).wall;
        publisher->problem[0] = '\0';
}

static void publisher_take_failure(Publisher *publisher, const AwsAnswer *answer) {
        publisher->failures++;
        (void) snprintf(publisher->problem, sizeof(publisher->problem), "%.80s: %.160s",
                answer->code[0] ? answer->code : aws_outcome_to_string(answer->outcome), answer->message);
}

static void publisher_take_refusal(Publisher *publisher, size_t n) {
        if (n > 1) {
                publisher->n_suspect = n;
                publisher->limit = n / 2;
        } else {
                items_remove_first(publisher, 1);
                publisher->dropped++;
                publisher->limit = publisher->n_suspect;
        }
        if (++publisher->refusals > PUBLISHER_REFUSALS_MAX)
                publisher_wait(publisher, true);
}

static void publisher_take_answer(Publisher *publisher, const AwsAnswer *answer, size_t n) {
        if (answer->outcome == AWS_OK || answer->outcome == AWS_GARBLED) {
                publisher_take_success(publisher, n);
                return;
        }
        publisher_take_failure(publisher, answer);
        switch (answer->outcome) {
        case AWS_OK:
        case AWS_GARBLED: break;
        case AWS_REFUSED: publisher_take_refusal(publisher, n); break;
        case AWS_DENIED:
        case AWS_BAD_KEYS: publisher_wait(publisher, true); break;
        case AWS_THROTTLED:
        case AWS_UNAVAILABLE:
        case AWS_CONTENTION:
        case AWS_NO_KEYS: publisher_wait(publisher, false); break;
        }
}

static void publisher_on_answer(const AwsAnswer *answer, void *userdata) {
        Publisher *publisher = userdata;
        AwsAnswer copy = *answer; /* it ends with the call, and the callback may free the publisher */
        size_t n = publisher->n_flight;

        copy.json = NULL;
        copy.xml = NULL;
        publisher->call = aws_call_free(publisher->call);
        publisher->n_flight = 0;
        publisher_take_answer(publisher, &copy, n);
        publisher_send_next(publisher);
        if (publisher->done)
                publisher->done(&copy, n, publisher->userdata);
}

/* The outside */

int publisher_new(Publisher **ret, sd_event *event, Aws *aws, const Metrics *metrics,
        const PublisherOptions *options, PublisherDone done, void *userdata) {
        _cleanup_(publisher_freep) Publisher *publisher = NULL;
        int r;

        publisher = calloc(1, sizeof(*publisher));
        if (!publisher)
                return -ENOMEM;
        publisher->event = sd_event_ref(event);
        publisher->aws = aws;
        publisher->metrics = metrics;
        publisher->retry =
                options->retry > 0 ? span_min(options->retry, SPAN_HOUR(1)) : PUBLISHER_RETRY_DEFAULT;
        publisher->done = done;
        publisher->userdata = userdata;
        publisher->name_space = strdup(options->name_space);
        if (!publisher->name_space)
                return -ENOMEM;
        r = timer_new(&publisher->timer, event, "publisher-retry", span_min(publisher->retry, SPAN_SEC(1)),
                publisher_on_timer, publisher);
        if (r < 0)
                return r;
        if (options->spool) {
                r = spool_new(&publisher->spool, options->spool);
                if (r < 0)
                        return r;
                items_take_lost(publisher);
        }

        *ret = steal_ptr(publisher);
        return 0;
}

Publisher *publisher_free(Publisher *publisher) {
        size_t from;

        if (!publisher)
                return NULL;
        publisher->call = aws_call_free(publisher->call);
        /* What is under way will most likely arrive, unless the last ones did not. */
        from = publisher->failures == 0 ? publisher->n_flight : 0;
        (void) items_store(publisher, from, publisher->n - from);
        items_remove(publisher, 0, publisher->n);
        free(publisher->items);
        spool_free(publisher->spool);
        timer_free(publisher->timer);
        free(publisher->name_space);
        sd_event_unref(publisher->event);
        free(publisher);
        return NULL;
}

int publisher_target(Publisher *publisher, const Target *target) {
        (void) snprintf(publisher->cluster, sizeof(publisher->cluster), "%s", target->cluster);
        (void) snprintf(
                publisher->group, sizeof(publisher->group), "%s", target->group[0] ? target->group : "none");
        (void) snprintf(publisher->instance, sizeof(publisher->instance), "%s", target->instance_id);
        value_printable(publisher->cluster);
        value_printable(publisher->group);
        value_printable(publisher->instance);
        if (publisher->spool) {
                spool_own(publisher->spool, target->instance_id);
                items_take_lost(publisher);
        }
        if (publisher->n > 0)
                publisher_send_next(publisher);
        return 0;
}

int publisher_namespace(Publisher *publisher, const char *name_space) {
        char *copy;

        if (strcmp(publisher->name_space, name_space) == 0)
                return 0;
        copy = strdup(name_space);
        if (!copy)
                return -ENOMEM;
        free(publisher->name_space);
        publisher->name_space = copy;
        publisher->failures = publisher->refusals = 0;
        publisher->waiting = false;
        timer_disarm(publisher->timer);
        if (publisher->n > 0)
                publisher_send_next(publisher);
        return 0;
}

void publisher_add(Publisher *publisher, const Datum *data, size_t n) {
        for (size_t i = 0; i < n; i++) {
                const char *path =
                        data[i].mount >= 0 ? metrics_path(publisher->metrics, data[i].mount) : NULL;

                if (publisher->n >= PUBLISHER_KEPT_MAX + publisher->n_flight)
                        items_spill(publisher);
                if (items_push(publisher, &data[i], path) < 0)
                        publisher->dropped++;
        }
        publisher_send_next(publisher);
}

void publisher_state(const Publisher *publisher, PublisherState *ret) {
        *ret = (PublisherState){
                .waiting = publisher->n + (publisher->spool ? spool_waiting(publisher->spool) : 0),
                .sent = publisher->sent,
                .dropped = publisher->dropped,
                .last_success = publisher->last_success,
                .failures = publisher->failures,
        };
        memcpy(ret->problem, publisher->problem, sizeof(ret->problem));
}

uint64_t publisher_take_dropped(Publisher *publisher) {
        uint64_t dropped = publisher->dropped - publisher->dropped_taken;

        publisher->dropped_taken = publisher->dropped;
        return dropped;
}
