/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * AWS and the metadata service for the tests of agent/act/, in the place of common/aws-call.c and common/aws-imds.c: no
 * network. A script says what each call is answered; a call is answered from the event loop, as the real ones are. What
 * was asked is kept.
 */

#include <string.h>
#include <systemd/sd-event.h>

#include "common/aws-call.h"
#include "common/aws-imds.h"
#include "common/json.h"
#include "tests/unit/test.h"

#define FAKE_ASKED_MAX 32

/** How the next call of .action is answered. A script ends with an empty row; its rows are used once, in order. */
typedef struct FakeAnswer {
        const char *action; /* or path of the metadata service */
        const char *text;   /* body: JSON or XML; text of the metadata service */
        AwsOutcome outcome;
        bool unsent;      /* AWS_UNAVAILABLE: nothing of it has reached the service */
        int error;        /* of the metadata service */
        const char *code; /* AWS's, of what is not AWS_OK; NULL: "" */
} FakeAnswer;

typedef struct FakeAsked {
        char action[64];
        char body[32768];
        bool once, yield;
        AwsService service;
} FakeAsked;

static sd_event *fake_event;
static const FakeAnswer *fake_script;
static unsigned fake_used; /* bits: rows of the script that have been used */
static FakeAsked fake_asked[FAKE_ASKED_MAX];
static unsigned fake_n_asked;
static unsigned fake_n_calls;      /* that have not been freed */
static unsigned fake_unexpected;   /* calls that the script has no row for */
static int fake_refuse;            /* what aws_call() returns instead of asking ... */
static unsigned fake_refuse_after; /* ... once so many have been asked */
static Span fake_offset;           /* the services' clock minus ours */
static Wall fake_server_time;

struct AwsCall {
        sd_event_source *source;
        AwsDone done;
        void *userdata;
        AwsAnswer answer;
        cJSON *json;
        Xml *xml;
};

struct ImdsCall {
        sd_event_source *source;
        ImdsDone done;
        void *userdata;
        ImdsAnswer answer;
};

static const FakeAnswer *fake_next(const char *action) {
        for (unsigned i = 0; fake_script && fake_script[i].action; i++)
                if (!(fake_used & (1u << i)) && strcmp(fake_script[i].action, action) == 0) {
                        fake_used |= 1u << i;
                        return &fake_script[i];
                }
        fake_unexpected++;
        printf("# unexpected call of %s\n", action);
        return NULL;
}

static int fake_dispatch(sd_event_source *source, void *userdata) {
        AwsCall *call = userdata;

        (void) source;
        call->done(&call->answer, call->userdata);
        return 0;
}

int aws_call(Aws *aws, const AwsRequest *request, AwsDone done, void *userdata, AwsCall **ret) {
        static const FakeAnswer none = { .outcome = AWS_UNAVAILABLE, .unsent = true };
        const FakeAnswer *row = NULL;
        FakeAsked *asked = NULL;
        AwsCall *call = NULL;

        (void) aws;
        if (fake_refuse < 0 && fake_n_asked >= fake_refuse_after)
                return fake_refuse;
        EXPECT(fake_n_asked < FAKE_ASKED_MAX && request->n_body < sizeof(asked->body));
        asked = &fake_asked[fake_n_asked++ % FAKE_ASKED_MAX];
        (void) snprintf(asked->action, sizeof(asked->action), "%s", request->action);
        (void) snprintf(asked->body, sizeof(asked->body), "%.*s", (int) request->n_body, request->body);
        asked->once = request->once;
        asked->yield = request->yield;
        asked->service = request->service;

        row = fake_next(request->action);
        if (!row)
                row = &none;
        call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        call->done = done;
        call->userdata = userdata;
        call->answer.outcome = row->outcome;
        call->answer.sent = !row->unsent;
        (void) snprintf(call->answer.code, sizeof(call->answer.code), "%s", row->code ? row->code : "");
        call->answer.server_time = fake_server_time;
        if (row->outcome == AWS_OK && request->service == AWS_ECS) {
                EXPECT_EQ(json_parse(row->text, strlen(row->text), NULL, &call->json), 0);
                call->answer.json = call->json;
        } else if (row->outcome == AWS_OK) {
                EXPECT_EQ(xml_parse(row->text, strlen(row->text), &call->xml), 0);
                call->answer.xml = call->xml ? xml_root(call->xml) : NULL;
        }
        EXPECT_EQ(sd_event_add_defer(fake_event, &call->source, fake_dispatch, call), 0);
        fake_n_calls++;
        *ret = call;
        return 0;
}

AwsCall *aws_call_free(AwsCall *call) {
        if (!call)
                return NULL;
        sd_event_source_disable_unref(call->source);
        cJSON_Delete(call->json);
        (void) xml_free(call->xml);
        free(call);
        fake_n_calls--;
        return NULL;
}

sd_event *aws_event(const Aws *aws) {
        (void) aws;
        return fake_event;
}

Wall aws_wall(const Aws *aws, Wall local) {
        (void) aws;
        return wall_add(local, fake_offset);
}

void aws_query_append(JsonWriter *text, const char *name, const char *value) {
        if (text->n > 0)
                json_raw(text, "&", 1);
        json_raw(text, name, strlen(name));
        json_raw(text, "=", 1);
        json_raw(text, value, strlen(value));
}

static int fake_imds_dispatch(sd_event_source *source, void *userdata) {
        ImdsCall *call = userdata;

        (void) source;
        call->done(&call->answer, call->userdata);
        return 0;
}

int imds_get(Imds *imds, const char *path, ImdsDone done, void *userdata, ImdsCall **ret) {
        const FakeAnswer *row = NULL;
        ImdsCall *call = NULL;

        (void) imds;
        row = fake_next(path);
        call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        call->done = done;
        call->userdata = userdata;
        call->answer.error = row ? row->error : -ETIMEDOUT;
        call->answer.text = row && row->text ? row->text : "";
        call->answer.n = strlen(call->answer.text);
        EXPECT_EQ(sd_event_add_defer(fake_event, &call->source, fake_imds_dispatch, call), 0);
        fake_n_calls++;
        *ret = call;
        return 0;
}

ImdsCall *imds_call_free(ImdsCall *call) {
        if (!call)
                return NULL;
        sd_event_source_disable_unref(call->source);
        free(call);
        fake_n_calls--;
        return NULL;
}

/** fake_begin() - a new loop and a new script; nothing has been asked yet */
static inline void fake_begin(const FakeAnswer *script) {
        fake_script = script;
        fake_used = fake_n_asked = fake_n_calls = fake_unexpected = fake_refuse_after = 0;
        fake_refuse = 0;
        fake_offset = 0;
        fake_server_time = WALL_NEVER;
        EXPECT_EQ(sd_event_new(&fake_event), 0);
}

/** fake_run() - run the loop until *@done, or until nothing more can come */
static inline void fake_run(const bool *done) {
        while (!*done && sd_event_run(fake_event, 0) > 0)
                ;
}

/** fake_end() - everything that was expected was asked, and every call has been freed */
static inline void fake_end(void) {
        EXPECT_EQ(fake_n_calls, 0);
        EXPECT_EQ(fake_unexpected, 0);
        for (unsigned i = 0; fake_script && fake_script[i].action; i++)
                if (!(fake_used & (1u << i))) {
                        test_failures++;
                        printf("# row %u, %s, was not asked for\n", i, fake_script[i].action);
                }
        fake_event = sd_event_unref(fake_event);
}

/** fake_count() - how often @action was asked for */
static inline unsigned fake_count(const char *action) {
        unsigned n = 0;

        for (unsigned i = 0; i < fake_n_asked; i++)
                n += strcmp(fake_asked[i].action, action) == 0;
        return n;
}

/** fake_body() - of the @i-th call of @action, from 0; "" if there was none */
static inline const char *fake_body(const char *action, unsigned i) {
        for (unsigned k = 0; k < fake_n_asked; k++)
                if (strcmp(fake_asked[k].action, action) == 0 && i-- == 0)
                        return fake_asked[k].body;
        return "";
}
