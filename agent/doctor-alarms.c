/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The doctor's check of the account's alarms: one that stands on a series that nobody publishes never rings, and nobody
 * notices. First by the names alone, then by what CloudWatch knows: ListMetrics has what was published in two weeks.
 */

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "agent/act/metrics.h"
#include "agent/doctor.h"
#include "common/parse.h"

#define ALARMS_TIME       SPAN_SEC(6) /* no new question after that */
#define ALARMS_CALL_TIME  SPAN_SEC(4)
#define ALARMS_PAGES      20 /* of 100 alarms */
#define ALARMS_SERIES     40 /* looked for in CloudWatch */
#define ALARMS_LIST_PAGES 3
#define ALARMS_BODY_MAX   ((size_t) 64 * 1024)
#define ALARMS_NAMED      3 /* of those that cannot ring, in the finding */
#define ALARMS_DIMENSIONS 30

typedef struct AlarmSeries {
        char *question; /* to ListMetrics, without its closing brace */
        size_t n_question;
        char *words; /* "alarm" and what it waits for */
        size_t n_dimensions;
} AlarmSeries;

struct Alarms {
        Doctor *doctor;
        AwsCall *call;
        Mono ends;
        unsigned pages, n, dead;
        char found[CHECK_TEXT_MAX];
        size_t n_found;
        AlarmSeries series[ALARMS_SERIES];
        unsigned n_series, next, list_pages;
        bool partly; /* not all could be looked at */
};

/* Names alone */

static bool has_dimension(const AlarmDimension *dimensions, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(dimensions[i].name, name) == 0)
                        return true;
        return false;
}

static const char *nearest_metric(const char *name) {
        const char *nearest = NULL;
        unsigned best = 6; /* farther than that is no typo */

        for (Metric metric = 0; metric < METRIC_N; metric++) {
                unsigned distance = edit_distance(metric_table[metric].name, name);

                if (distance < best) {
                        best = distance;
                        nearest = metric_table[metric].name;
                }
        }
        return nearest;
}

AlarmVerdict alarm_judge(const char *name, const AlarmDimension *dimensions, size_t n, unsigned per_instance,
        const char **ret_nearest) {
        bool instance = has_dimension(dimensions, n, "InstanceId"),
             group = has_dimension(dimensions, n, "AutoScalingGroupName");
        bool path = has_dimension(dimensions, n, "path"), brake = has_dimension(dimensions, n, "Brake");
        Metric metric = 0;

        while (metric < METRIC_N && strcmp(metric_table[metric].name, name) != 0)
                metric++;
        if (metric == METRIC_N) {
                *ret_nearest = nearest_metric(name);
                return ALARM_NO_METRIC;
        }
        if (!has_dimension(dimensions, n, "ClusterName") || instance == group ||
                n != (size_t) 2 + (path ? 1 : 0) + (brake ? 1 : 0) ||
                (path && metric != METRIC_DISK_USED && metric != METRIC_DISK_INODES_USED) ||
                (brake && metric != METRIC_REMEDIATION_HELD))
                return ALARM_NO_SET;
        if (instance && per_instance == PER_INSTANCE_NEVER)
                return ALARM_NO_INSTANCE;
        return brake || (instance && per_instance == PER_INSTANCE_WHEN_ILL) ? ALARM_SOMETIMES : ALARM_FINE;
}

/* The end */

static void note_dead(Alarms *alarms, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void note_dead(Alarms *alarms, const char *format, ...) {
        size_t room = sizeof(alarms->found) - alarms->n_found;
        va_list arguments;
        int n;

        if (alarms->dead++ >= ALARMS_NAMED || room < 8)
                return;
        if (alarms->n_found > 0) {
                memcpy(alarms->found + alarms->n_found, "; ", 2);
                alarms->n_found += 2;
                room -= 2;
        }
        va_start(arguments, format);
        n = vsnprintf(alarms->found + alarms->n_found, room, format, arguments);
        va_end(arguments);
        if (n > 0)
                alarms->n_found += (size_t) n < room ? (size_t) n : room - 1;
}

static void alarms_settle(Alarms *alarms) {
        Doctor *doctor = alarms->doctor;
        const CheckId id = CHECK_ALARMS;
        char more[32] = "";

        if (alarms->dead > ALARMS_NAMED)
                (void) snprintf(more, sizeof(more), "; and %u more", alarms->dead - ALARMS_NAMED);
        if (alarms->dead == 0) {
                check_ok(doctor, id, "%u on namespace %s%s", alarms->n, doctor->settings.name_space,
                        alarms->partly ? "; not all could be looked at" : "");
                return;
        }
        check_problem(doctor, id, "never to ring: %s%s", alarms->found, more);
        check_fix(doctor, id,
                "correct or delete them; the series there are: ecs-health-agent metrics; what was "
                "first published less than 15 minutes ago is not listed yet");
}

/** What keeps from going on is no fault of the alarms. Return: whether the answer is of use. */
static bool alarms_answered(Alarms *alarms, const AwsAnswer *answer, const char *right) {
        Doctor *doctor = alarms->doctor;

        if (!check_is_running(doctor, CHECK_ALARMS))
                return false;
        if (answer->outcome == AWS_OK)
                return true;
        if (answer->outcome == AWS_BAD_KEYS)
                cloud_keys_refused(doctor, answer->code);
        else if (alarms->dead > 0)
                alarms_settle(alarms);
        else if (answer->outcome == AWS_DENIED)
                check_skip(doctor, CHECK_ALARMS,
                        "needs the right %s, which nothing else does: "
                        "ecs-health-agent iam-policy --doctor",
                        right);
        else
                check_skip(doctor, CHECK_ALARMS, "%s: %s", right, aws_outcome_to_string(answer->outcome));
        return false;
}

static bool alarms_late(const Alarms *alarms) {
        return mono_before(alarms->ends, loop_now(alarms->doctor->event).mono);
}

static int alarms_ask(Alarms *alarms, const char *action, const JsonWriter *body, AwsDone done) {
        AwsCall *call = NULL;
        int r;

        r = body->error;
        if (r >= 0)
                r = aws_call(alarms->doctor->aws,
                        &(AwsRequest){ .service = AWS_CLOUDWATCH,
                                .action = action,
                                .body = body->text,
                                .n_body = body->n,
                                .timeout = ALARMS_CALL_TIME,
                                .once = true },
                        done, alarms, &call);
        if (r < 0) {
                check_failed(alarms->doctor, CHECK_ALARMS, r);
                return r;
        }
        (void) aws_call_free(alarms->call);
        alarms->call = call;
        return 0;
}

/* What CloudWatch knows */

static void alarms_list_next(Alarms *alarms);

static bool series_is_listed(const AlarmSeries *series, const cJSON *json) {
        const cJSON *metrics = NULL, *one;

        if (json_get_array(json, "Metrics", &metrics) < 0)
                return false;
        cJSON_ArrayForEach(one, metrics) {
                const cJSON *dimensions = NULL;

                /* All of them have what was asked for; those with more are other series. */
                if (json_get_array(one, "Dimensions", &dimensions) >= 0 &&
                        (size_t) cJSON_GetArraySize(dimensions) == series->n_dimensions)
                        return true;
        }
        return false;
}

static void alarms_list_ask(Alarms *alarms, const char *token);

static void alarms_on_list(const AwsAnswer *answer, void *userdata) {
        Alarms *alarms = userdata;
        const AlarmSeries *series = &alarms->series[alarms->next];
        const char *token = "";

        if (!alarms_answered(alarms, answer, "cloudwatch:ListMetrics"))
                return;
        (void) json_get_string(answer->json, "NextToken", &token);
        if (series_is_listed(series, answer->json)) {
                alarms->next++;
                alarms_list_next(alarms);
        } else if (*token && ++alarms->list_pages < ALARMS_LIST_PAGES && !alarms_late(alarms)) {
                alarms_list_ask(alarms, token);
        } else {
                if (*token)
                        alarms->partly = true;
                else
                        note_dead(alarms, "%s is published by nobody", series->words);
                alarms->next++;
                alarms_list_next(alarms);
        }
}

static void alarms_list_ask(Alarms *alarms, const char *token) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        const AlarmSeries *series = &alarms->series[alarms->next];

        json_writer_init(&body, ALARMS_BODY_MAX);
        json_raw(&body, series->question, series->n_question);
        if (*token) {
                body.comma = true;
                json_string(&body, "NextToken", token);
        }
        json_raw(&body, "}", 1);
        (void) alarms_ask(alarms, "ListMetrics", &body, alarms_on_list);
}

static void alarms_list_next(Alarms *alarms) {
        if (alarms->next < alarms->n_series && alarms_late(alarms))
                alarms->partly = true;
        else if (alarms->next < alarms->n_series) {
                alarms->list_pages = 0;
                alarms_list_ask(alarms, "");
                return;
        }
        alarms_settle(alarms);
}

/* The question for one series. Its closing brace comes when it is asked, for a token may come before it. */
static int series_question(const Alarms *alarms, const char *metric, const AlarmDimension *dimensions,
        size_t n, AlarmSeries *series) {
        _cleanup_(json_writer_done) JsonWriter writer = {};

        json_writer_init(&writer, ALARMS_BODY_MAX / 2);
        json_begin_object(&writer, NULL);
        json_string(&writer, "Namespace", alarms->doctor->settings.name_space);
        json_string(&writer, "MetricName", metric);
        json_begin_array(&writer, "Dimensions");
        for (size_t i = 0; i < n; i++) {
                json_begin_object(&writer, NULL);
                json_string(&writer, "Name", dimensions[i].name);
                json_string(&writer, "Value", dimensions[i].value);
                json_end_object(&writer);
        }
        json_end_array(&writer);
        if (writer.error < 0)
                return writer.error;
        series->question = steal_ptr(writer.text);
        series->n_question = writer.n;
        series->n_dimensions = n;
        return 0;
}

static void series_words(const char *alarm, const char *metric, const AlarmDimension *dimensions, size_t n,
        char buffer[static CHECK_TEXT_MAX]) {
        size_t used = (size_t) snprintf(buffer, CHECK_TEXT_MAX, "\"%.100s\": %.64s", alarm, metric);

        for (size_t i = 0; i < n && used < CHECK_TEXT_MAX; i++)
                used += (size_t) snprintf(buffer + used, CHECK_TEXT_MAX - used, "%s%.32s=%.80s",
                        i > 0 ? ", " : " with ", dimensions[i].name, dimensions[i].value);
}

static void series_queue(
        Alarms *alarms, const char *alarm, const char *metric, const AlarmDimension *dimensions, size_t n) {
        AlarmSeries *series = &alarms->series[alarms->n_series];
        char words[CHECK_TEXT_MAX];

        if (alarms->n_series == ALARMS_SERIES) {
                alarms->partly = true;
                return;
        }
        if (series_question(alarms, metric, dimensions, n, series) < 0)
                return;
        for (unsigned i = 0; i < alarms->n_series; i++)
                if (strcmp(alarms->series[i].question, series->question) == 0) {
                        free(series->question);
                        *series = (AlarmSeries){};
                        return; /* a warning and a critical one on the same */
                }
        series_words(alarm, metric, dimensions, n, words);
        series->words = strdup(words);
        if (!series->words)
                series->words = strdup("");
        alarms->n_series++;
}

/* Reading the alarms */

static size_t read_dimensions(const cJSON *metric, AlarmDimension dimensions[static ALARMS_DIMENSIONS]) {
        const cJSON *list = NULL, *one;
        size_t n = 0;

        if (json_get_array(metric, "Dimensions", &list) < 0)
                return 0;
        cJSON_ArrayForEach(one, list) {
                AlarmDimension dimension = {};

                if (n < ALARMS_DIMENSIONS && json_get_string(one, "Name", &dimension.name) >= 0 &&
                        json_get_string(one, "Value", &dimension.value) >= 0)
                        dimensions[n++] = dimension;
        }
        return n;
}

/** Return: whether it is on our namespace. */
static bool read_metric(Alarms *alarms, const char *alarm, const cJSON *metric) {
        AlarmDimension dimensions[ALARMS_DIMENSIONS];
        const char *name_space = "", *name = "", *nearest = NULL;
        size_t n;

        (void) json_get_string(metric, "Namespace", &name_space);
        (void) json_get_string(metric, "MetricName", &name);
        if (strcmp(name_space, alarms->doctor->settings.name_space) != 0 || !*name)
                return false;
        n = read_dimensions(metric, dimensions);
        switch (alarm_judge(name, dimensions, n, alarms->doctor->settings.per_instance, &nearest)) {
        case ALARM_FINE: series_queue(alarms, alarm, name, dimensions, n); break;
        case ALARM_SOMETIMES: break;
        case ALARM_NO_METRIC:
                note_dead(alarms, "\"%.100s\": there is no metric %.64s%s%s", alarm, name,
                        nearest ? ", did you mean " : "", nearest ? nearest : "");
                break;
        case ALARM_NO_SET:
                note_dead(alarms,
                        "\"%.100s\": %.64s is never published with these dimensions; expected ClusterName "
                        "and "
                        "AutoScalingGroupName",
                        alarm, name);
                break;
        case ALARM_NO_INSTANCE:
                note_dead(alarms,
                        "\"%.100s\": \"metrics.per_instance\" is \"never\", so no %.64s has an InstanceId",
                        alarm, name);
                break;
        }
        return true;
}

static void read_alarm(Alarms *alarms, const cJSON *alarm) {
        const char *name = "?";
        const cJSON *queries = NULL, *query;
        bool ours;

        (void) json_get_string(alarm, "AlarmName", &name);
        ours = read_metric(alarms, name, alarm);
        if (json_get_array(alarm, "Metrics", &queries) >= 0)
                cJSON_ArrayForEach(query, queries) {
                        const cJSON *stat = NULL, *metric = NULL;

                        if (json_get_object(query, "MetricStat", &stat) >= 0 &&
                                json_get_object(stat, "Metric", &metric) >= 0)
                                ours |= read_metric(alarms, name, metric);
                }
        alarms->n += ours;
}

static void alarms_page_ask(Alarms *alarms, const char *token);

static void alarms_on_page(const AwsAnswer *answer, void *userdata) {
        Alarms *alarms = userdata;
        const cJSON *list = NULL, *one;
        const char *token = "";

        if (!alarms_answered(alarms, answer, "cloudwatch:DescribeAlarms"))
                return;
        (void) json_get_string(answer->json, "NextToken", &token);
        if (json_get_array(answer->json, "MetricAlarms", &list) >= 0)
                cJSON_ArrayForEach(one, list) read_alarm(alarms, one);
        if (*token && ++alarms->pages < ALARMS_PAGES && !alarms_late(alarms)) {
                alarms_page_ask(alarms, token);
                return;
        }
        alarms->partly |= *token != '\0';
        alarms_list_next(alarms);
}

static void alarms_page_ask(Alarms *alarms, const char *token) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, ALARMS_BODY_MAX);
        json_begin_object(&body, NULL);
        json_begin_array(&body, "AlarmTypes");
        json_string(&body, NULL, "MetricAlarm");
        json_end_array(&body);
        json_i64(&body, "MaxRecords", 100);
        if (*token)
                json_string(&body, "NextToken", token);
        json_end_object(&body);
        (void) alarms_ask(alarms, "DescribeAlarms", &body, alarms_on_page);
}

void alarms_start(Doctor *doctor, CheckId id) {
        Alarms *alarms;

        if (!cloud_serves(doctor, AWS_CLOUDWATCH)) {
                check_skip_for(doctor, id, CHECK_ENDPOINTS);
                return;
        }
        alarms = calloc(1, sizeof(*alarms));
        if (!alarms) {
                check_failed(doctor, id, -ENOMEM);
                return;
        }
        alarms->doctor = doctor;
        alarms->ends = mono_add(loop_now(doctor->event).mono, ALARMS_TIME);
        *cloud_alarms(doctor) = alarms;
        alarms_page_ask(alarms, "");
}

Alarms *alarms_free(Alarms *alarms) {
        if (!alarms)
                return NULL;
        (void) aws_call_free(alarms->call);
        for (unsigned i = 0; i < ELEMENTSOF(alarms->series); i++) {
                free(alarms->series[i].question);
                free(alarms->series[i].words);
        }
        free(alarms);
        return NULL;
}
