/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One reading is a chain of questions, each asked from the answer to the one before:
 *
 *   whose    the instance's tags, for what the settings leave open: the metadata service, else EC2. Asked once.
 *   what     by the identity: document and signature from the metadata service, GET with "CFN_V1";
 *            by the role: a signed call. The one that was let in last comes first; a refusal leads to the other.
 *
 * A refusal by both is an answer; whatever else goes wrong teaches nothing. What was read stays, whatever comes later,
 * until it is known to belong to another stack or instance.
 */

#include "agent/stack.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <string.h>

#include "common/backoff.h"
#include "common/file.h"
#include "common/json.h"
#include "common/loop.h"
#include "common/parse.h"

#define STACK_ID_MAX       512 /* an ARN holds a name of 128 and an id of 36 characters */
#define STACK_RESOURCE_MAX 256 /* logical ids have at most 255 */
#define STACK_ANSWER_MAX                                                                                    \
        ((size_t) 2 * 1024 * 1024) /* a template has at most 1 MB; its quotes come escaped */
#define STACK_CACHE_MAX    (2 * STACK_TEXT_MAX + 8192)
#define STACK_DOCUMENT_MAX ((size_t) 16384) /* some 500 bytes in practice, as is the signature */
#define STACK_TIMEOUT      SPAN_SEC(10)
#define STACK_SOON         SPAN_SEC(3)
#define STACK_START        SPAN_SEC(5)
#define STACK_RETRY        SPAN_SEC(30)
#define STACK_MEMBER_SPAN  SPAN_SEC(1)
#define STACK_MEMBERS_MAX  ((uint64_t) 1000000) /* so that nothing overflows */

/* Texts that are known to fit. */
#define text_set(field, text) ((void) snprintf((field), sizeof(field), "%s", (text)))

typedef enum StackTag {
        TAG_STACK,
        TAG_RESOURCE,
} StackTag;
#define TAG_N (TAG_RESOURCE + 1)

static const char *const tag_keys[TAG_N] = {
        [TAG_STACK] = "aws:cloudformation:stack-id",
        [TAG_RESOURCE] = "aws:cloudformation:logical-id",
};

/** Where a text stands; "" is not known. */
typedef struct StackPlace {
        char stack[STACK_ID_MAX];
        char resource[STACK_RESOURCE_MAX];
} StackPlace;

struct Stack {
        sd_event *event;
        Http *http;
        Aws *aws;
        Imds *imds;
        char *cache; /* path; NULL: none */
        StackNews news;
        void *userdata;

        bool enabled;
        Span refresh;
        StackPlace set; /* by the settings */
        StackPlace tags;
        uint64_t members;
        char instance_id[64], region[64], domain[128]; /* "" until stack_identity() */

        Timer *timer;
        Mono next;
        unsigned attempt;     /* failures in a row */
        bool again;           /* asked for while a reading is under way */
        StackPlace place;     /* that is being read, as far as it is known */
        StackTag tag;         /* that is asked for */
        bool by_role;         /* the last success was */
        bool unsure;          /* the identity's answer was not understood */
        bool tried[2];        /* in this reading; [by the role] */
        char *document;       /* base64, while the signature is fetched */
        char refusal[2][256]; /* the words, likewise */
        ImdsCall *imds_call;  /* at most one of these is under way */
        HttpCall *http_call;
        AwsCall *aws_call;

        StackState answer; /* WAITING, NONE or DENIED: what holds while there is no text */
        char *text;        /* NULL: none */
        size_t n_text;
        StackPlace text_place;
        char text_instance[64];
        Wall read;
        bool from_cache;
        char problem[1024];

        sd_event_source *teller; /* calls .news, from the loop and with nothing of ours under way */
        bool text_is_news;
        StackState told_state;
        char told_problem[1024];
};

const char *stack_state_to_string(StackState state) {
        static const char *const names[] = {
                [STACK_OFF] = "off",
                [STACK_WAITING] = "waiting",
                [STACK_NONE] = "none",
                [STACK_DENIED] = "denied",
                [STACK_READ] = "read",
        };

        assert((unsigned) state < ELEMENTSOF(names));
        return names[state];
}

/* -- texts ---------------------------------------------------------------------------------------------------------- */

/**
 * The text of the value under our key, whatever its type is: a wrong one is for its author to be told of, as any other
 * mistake in the settings.
 */
static int metadata_value(
        const char *metadata, size_t n, char **ret, size_t *ret_n, bool *ret_object, char why[static 128]) {
        _cleanup_(json_freep) cJSON *json = NULL;
        _cleanup_(freep) char *text = NULL;
        const cJSON *value = NULL;
        JsonError error;
        size_t n_text;
        int r = 0;

        if (metadata && n > 0)
                r = json_parse(metadata, n, &error, &json);
        if (r == -EBADMSG)
                (void) snprintf(why, 128, "the metadata are not JSON: %.90s", error.problem);
        if (r < 0)
                return r;
        if (json && !cJSON_IsObject(json)) {
                (void) snprintf(why, 128, "the metadata are no JSON object");
                return -EBADMSG;
        }
        value = json_member(json, STACK_KEY);
        text = value && !cJSON_IsNull(value) ? cJSON_PrintUnformatted(value) : strdup("{}");
        if (!text)
                return -ENOMEM;
        n_text = strlen(text);
        if (n_text > STACK_TEXT_MAX) {
                (void) snprintf(why, 128, "\"" STACK_KEY "\" is longer than %zu KiB", STACK_TEXT_MAX / 1024);
                return -E2BIG;
        }

        *ret = steal_ptr(text);
        *ret_n = n_text;
        *ret_object = (*ret)[0] == '{';
        return 0;
}

int stack_parse(const char *metadata, size_t n, char **ret, size_t *ret_n, char why[static 128]) {
        _cleanup_(freep) char *text = NULL;
        size_t n_text;
        bool object;
        int r;

        r = metadata_value(metadata, n, &text, &n_text, &object, why);
        if (r < 0)
                return r;
        if (!object) {
                (void) snprintf(why, 128, "\"" STACK_KEY "\" must be an object, is %.60s", text);
                return -EBADMSG;
        }

        *ret = steal_ptr(text);
        *ret_n = n_text;
        return 0;
}

/* What DescribeStackResource answers to "ContentType=JSON"; the metadata are a text in it. As metadata_value(). */
static int answer_value(
        const char *body, size_t n, char **ret, size_t *ret_n, bool *ret_object, char why[static 128]) {
        static const char *const path[] = { "DescribeStackResourceResponse", "DescribeStackResourceResult",
                "StackResourceDetail" };
        _cleanup_(json_freep) cJSON *json = NULL;
        const cJSON *at = NULL;
        const char *metadata = NULL;
        int r;

        (void) snprintf(why, 128, "the answer is not what it should be");
        r = json_parse(body, n, NULL, &json);
        if (r < 0)
                return r;
        at = json;
        for (size_t i = 0; i < ELEMENTSOF(path); i++)
                if (json_get_object(at, path[i], &at) < 0)
                        return -EBADMSG;
        r = json_get_string(at, "Metadata", &metadata);
        if (r < 0 && r != -ENOENT)
                return r;
        return metadata_value(metadata, metadata ? strlen(metadata) : 0, ret, ret_n, ret_object, why);
}

/* The code and the words of a refusal in JSON; XML is read by aws_classify(). */
static void answer_refusal(
        const HttpAnswer *answer, char *code, size_t n_code, char *words, size_t n_words) {
        _cleanup_(json_freep) cJSON *json = NULL;
        const cJSON *error = NULL;
        const char *text = NULL;

        if (json_parse(answer->body, answer->n_body, NULL, &json) < 0 ||
                json_get_object(json, "Error", &error) < 0)
                return;
        if (json_get_string(error, "Code", &text) == 0)
                (void) snprintf(code, n_code, "%s", text);
        if (json_get_string(error, "Message", &text) == 0)
                (void) snprintf(words, n_words, "%s", text);
}

/**
 * Words from outside, fit for a log line: one line of ASCII, and without anything that might be a token, a signature
 * or an identity, which a service or a proxy may have sent back to us.
 */
static void words_copy(char *to, size_t n_to, const char *from) {
        static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_";
        size_t n = 0;

        while (*from && n < n_to - 4) {
                size_t run = strspn(from, base64);

                if (run >= 64) { /* names of roles and policies have at most that many */
                        memcpy(to + n, "...", 3);
                        n += 3;
                        from += run;
                        continue;
                }
                to[n++] = (char) (*from >= ' ' && *from <= '~' ? *from : ' ');
                from++;
                for (; run > 1 && n < n_to - 4; run--)
                        to[n++] = *from++;
        }
        to[n] = '\0';
}

/* What is said of a call that has failed. What services say of a bad signature may hold the token: only the code then. */
static void answer_words(char *to, size_t n_to, const AwsAnswer *answer) {
        char words[sizeof(answer->message) + 4];

        words_copy(words, sizeof(words), answer->outcome == AWS_BAD_KEYS ? "" : answer->message);
        if (answer->code[0] != '\0' && words[0] != '\0')
                (void) snprintf(to, n_to, "%.64s: %.180s", answer->code, words);
        else if (answer->code[0] != '\0' || words[0] != '\0')
                (void) snprintf(to, n_to, "%.64s%.180s", answer->code, words);
        else
                (void) snprintf(to, n_to, "HTTP status %u", answer->status);
}

/* Numbers vary from try to try without telling anything new: how long it took, how much had come. */
static bool words_equal(const char *a, const char *b) {
        static const char digits[] = "0123456789";

        for (;;) {
                a += strspn(a, digits);
                b += strspn(b, digits);
                if (*a != *b)
                        return false;
                if (*a == '\0')
                        return true;
                a++;
                b++;
        }
}

static bool name_is_sound(const char *text, size_t n, size_t max) {
        static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/-_.";

        return n > 0 && n < max && memchr(text, '\0', n) == NULL && strspn(text, name) == n;
}

/* -- places --------------------------------------------------------------------------------------------------------- */

/* "NAME" and "arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/ID" */
static bool stack_is_same(const char *a, const char *b) {
        const char *slash;
        size_t n;

        if (strcmp(a, b) == 0)
                return true;
        if (strncmp(a, "arn:", 4) != 0) {
                const char *swap = a;

                a = b;
                b = swap;
        }
        slash = strchr(a, '/');
        n = strlen(b);
        return strncmp(a, "arn:", 4) == 0 && slash && n > 0 && strncmp(slash + 1, b, n) == 0 &&
               slash[1 + n] == '/';
}

/* Whether nothing that is known of @place speaks against a text from @of. */
static bool place_fits(const StackPlace *place, const StackPlace *of) {
        return (place->stack[0] == '\0' || stack_is_same(place->stack, of->stack)) &&
               (place->resource[0] == '\0' || strcmp(place->resource, of->resource) == 0);
}

static bool place_equal(const StackPlace *a, const StackPlace *b) {
        return strcmp(a->stack, b->stack) == 0 && strcmp(a->resource, b->resource) == 0;
}

/* What is set, and what the tags say of the rest. */
static StackPlace place_of(const Stack *stack) {
        StackPlace place = stack->set;

        if (place.stack[0] == '\0')
                text_set(place.stack, stack->tags.stack);
        if (place.resource[0] == '\0')
                text_set(place.resource, stack->tags.resource);
        return place;
}

static const char *place_part(const StackPlace *place, StackTag tag) {
        return tag == TAG_STACK ? place->stack : place->resource;
}

static bool place_is_whole(const StackPlace *place) {
        return place->stack[0] != '\0' && place->resource[0] != '\0';
}

/* -- what is known, and who hears of it ----------------------------------------------------------------------------- */

static StackState stack_state(const Stack *stack) {
        if (!stack->enabled)
                return STACK_OFF;
        return stack->text ? STACK_READ : stack->answer;
}

/* Only asks to be called: this may be deep in a call of the one who wants to know. */
static void stack_tell(Stack *stack) {
        if (stack_state(stack) != stack->told_state || stack->text_is_news ||
                !words_equal(stack->problem, stack->told_problem))
                (void) sd_event_source_set_enabled(stack->teller, SD_EVENT_ONESHOT);
}

static void stack_note_told(Stack *stack) {
        stack->told_state = stack_state(stack);
        stack->text_is_news = false;
        text_set(stack->told_problem, stack->problem);
}

static int stack_on_tell(sd_event_source *source, void *userdata) {
        Stack *stack = userdata;

        (void) source;
        stack_note_told(stack);
        stack->news(stack, stack->userdata);
        return 0;
}

static void stack_drop_text(Stack *stack) {
        free(stack->text);
        stack->text = NULL;
        stack->n_text = 0;
        stack->from_cache = false;
        stack->read = WALL_NEVER;
}

/* -- pace ----------------------------------------------------------------------------------------------------------- */

static Span stack_pace(const Stack *stack) {
        return span_max(stack->refresh, STACK_MEMBER_SPAN * (Span) stack->members);
}

static void stack_arm(Stack *stack, Span span) {
        stack->next = mono_add(loop_now(stack->event).mono, span);
        if (timer_arm(stack->timer, stack->next) < 0)
                stack->next = MONO_INFINITE;
}

/* At a random moment within @span: hosts may have been started, or told, all at once. */
static void stack_arm_within(Stack *stack, Span span) {
        span = span_max(span_min(span, stack_pace(stack)), 1);
        stack_arm(stack, (Span) (loop_random() % (uint64_t) span));
}

/* Whoever holds document and signature may read what we read: they are wiped. */
static char *secret_free(char *secret) {
        if (secret)
                OPENSSL_cleanse(secret, strlen(secret));
        free(secret);
        return NULL;
}

static void stack_rest(Stack *stack) {
        stack->imds_call = imds_call_free(stack->imds_call);
        stack->http_call = http_call_free(stack->http_call);
        stack->aws_call = aws_call_free(stack->aws_call);
        stack->document = secret_free(stack->document);
        timer_disarm(stack->timer);
        stack->next = MONO_INFINITE;
}

static bool stack_is_busy(const Stack *stack) {
        return stack->imds_call || stack->http_call || stack->aws_call;
}

/* -- the end of a reading ------------------------------------------------------------------------------------------- */

/* @span: until the next one */
static void reading_end(Stack *stack, Span span) {
        stack_rest(stack);
        if (stack->again)
                stack_arm_within(stack, STACK_SOON);
        else if (span != SPAN_INFINITE)
                stack_arm(stack, span);
        stack_tell(stack);
}

static Span pace_next(const Stack *stack) {
        return backoff_next(
                &(Backoff){ .base = stack_pace(stack), .ceiling = stack_pace(stack) }, 0, loop_random());
}

/* @answer: what holds from now on if there is no text; STACK_WAITING: nothing was learned */
__attribute__((format(printf, 3, 4))) static void reading_fail(
        Stack *stack, StackState answer, const char *format, ...) {
        Backoff backoff = { .base = span_min(STACK_RETRY, stack_pace(stack)), .ceiling = stack_pace(stack) };
        va_list list;

        va_start(list, format);
        (void) vsnprintf(stack->problem, sizeof(stack->problem), format, list);
        va_end(list);
        if (answer != STACK_WAITING) {
                stack->answer = answer;
                stack->from_cache = stack->from_cache && stack->text;
        }
        reading_end(stack, backoff_next(&backoff, stack->attempt++, loop_random()));
}

static void reading_fail_to_ask(Stack *stack, int error) {
        reading_fail(stack, STACK_WAITING, "CloudFormation could not be asked: %s",
                error == -ENXIO ? "no endpoint is known for this region" : strerror(-error));
}

/* Takes @text over. */
static void reading_succeed(Stack *stack, char *text, size_t n, bool by_role) {
        stack->text_is_news |= !stack->text || n != stack->n_text || memcmp(text, stack->text, n) != 0;
        free(stack->text);
        stack->text = text;
        stack->n_text = n;
        stack->text_place = stack->place;
        text_set(stack->text_instance, stack->instance_id);
        stack->read = loop_now(stack->event).wall;
        stack->from_cache = false;
        stack->by_role = by_role;
        stack->attempt = 0;
        stack->problem[0] = '\0';
        reading_end(stack, pace_next(stack));
}

/* @r: of metadata_value() */
static void reading_take(Stack *stack, int r, char *text, size_t n, bool by_role, const char *why) {
        if (r >= 0)
                reading_succeed(stack, text, n, by_role);
        else if (r == -EBADMSG || r == -E2BIG)
                reading_fail(stack, STACK_WAITING,
                        "What CloudFormation says of resource %s in stack %s cannot be used: %s",
                        stack->place.resource, stack->place.stack, why);
        else
                reading_fail_to_ask(stack, r);
}

static void read_next_way(Stack *stack);

/* A call that has not been let in, by whom and with which words. */
static void reading_refused(Stack *stack, bool by_role, const AwsAnswer *answer) {
        answer_words(stack->refusal[by_role], sizeof(stack->refusal[by_role]), answer);
        if (answer->outcome == AWS_REFUSED && strstr(answer->message, "does not exist")) {
                reading_fail(stack, STACK_DENIED,
                        "CloudFormation knows no resource %s in stack %s (%s). Set cloudformation.stack and "
                        "cloudformation.resource, or set cloudformation.enabled to false",
                        stack->place.resource, stack->place.stack, stack->refusal[by_role]);
                return;
        }
        read_next_way(stack);
}

static void reading_trouble(Stack *stack, const AwsAnswer *answer) {
        char words[256];

        answer_words(words, sizeof(words), answer);
        reading_fail(stack, STACK_WAITING, "CloudFormation does not answer for resource %s in stack %s: %s",
                stack->place.resource, stack->place.stack, words);
}

static bool is_refusal(AwsOutcome outcome) {
        return outcome == AWS_DENIED || outcome == AWS_REFUSED;
}

/* -- by the role ---------------------------------------------------------------------------------------------------- */

static void on_role_answer(const AwsAnswer *answer, void *userdata) {
        Stack *stack = userdata;
        const XmlNode *detail = NULL;
        const char *metadata = NULL;
        char *text = NULL, why[128] = "";
        size_t n = 0;
        bool object;
        int r;

        if (is_refusal(answer->outcome)) {
                reading_refused(stack, true, answer);
                return;
        }
        if (answer->outcome != AWS_OK) {
                reading_trouble(stack, answer);
                return;
        }
        detail = xml_find(answer->xml, "DescribeStackResourceResult/StackResourceDetail");
        metadata = xml_text(detail, "Metadata");
        if (detail)
                r = metadata_value(metadata, metadata ? strlen(metadata) : 0, &text, &n, &object, why);
        else {
                r = -EBADMSG;
                text_set(why, "the answer is not what it should be");
        }
        reading_take(stack, r, text, n, true, why);
}

static void read_by_role(Stack *stack) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        AwsCall *call = NULL;
        int r;

        json_writer_init(&body, 8192);
        aws_query_append(&body, "StackName", stack->place.stack);
        aws_query_append(&body, "LogicalResourceId", stack->place.resource);
        r = body.error;
        if (r >= 0)
                r = aws_call(stack->aws,
                        &(AwsRequest){ .service = AWS_CLOUDFORMATION,
                                .action = "DescribeStackResource",
                                .body = body.text,
                                .n_body = body.n,
                                .max_answer = STACK_ANSWER_MAX },
                        on_role_answer, stack, &call);
        if (r < 0)
                reading_fail_to_ask(stack, r);
        else
                stack->aws_call = call;
}

/* -- by the identity ------------------------------------------------------------------------------------------------ */

static void on_identity_answer(const HttpAnswer *answer, void *userdata) {
        Stack *stack = userdata;
        HttpAnswer named = *answer;
        AwsAnswer verdict;
        char *text = NULL, why[128] = "", words[sizeof(verdict.message)] = "";
        bool object, expired, skewed;
        size_t n = 0;
        int r;

        if (answer->error == 0 && (answer->status < 200 || answer->status >= 300))
                answer_refusal(answer, named.query_error, sizeof(named.query_error), words, sizeof(words));
        aws_classify(AWS_CLOUDFORMATION, &named, loop_now(stack->event).wall, &verdict, &expired, &skewed);
        if (words[0] != '\0')
                text_set(verdict.message, words);

        if (is_refusal(verdict.outcome) || verdict.outcome == AWS_BAD_KEYS) {
                stack->http_call = http_call_free(stack->http_call);
                reading_refused(stack, false, &verdict);
                return;
        }
        if (verdict.outcome != AWS_OK) {
                reading_trouble(stack, &verdict);
                return;
        }
        r = answer_value(answer->body, answer->n_body, &text, &n, &object, why);
        if (r == -EBADMSG) {
                /* This way is documented nowhere: should it ever change, the role's is still there. */
                stack->unsure = true;
                (void) snprintf(stack->refusal[0], sizeof(stack->refusal[0]), "%s", why);
                read_next_way(stack);
                return;
        }
        reading_take(stack, r, text, n, false, why);
}

static int compose_url(const Stack *stack, JsonWriter *url) {
        char base[AWS_URL_MAX];
        int r;

        r = aws_endpoint(AWS_CLOUDFORMATION, stack->region, stack->domain[0] ? stack->domain : NULL, base);
        if (r < 0)
                return r;
        json_raw(url, base, strlen(base));
        json_raw(url, "/?Action=DescribeStackResource", 30);
        aws_query_append(url, "StackName", stack->place.stack);
        aws_query_append(url, "LogicalResourceId", stack->place.resource);
        aws_query_append(url, "ContentType", "JSON");
        aws_query_append(url, "Version", aws_service_info(AWS_CLOUDFORMATION)->api_version);
        return url->error;
}

static int ask_by_identity(Stack *stack, const char *signature) {
        _cleanup_(json_writer_done) JsonWriter url = {};
        char *authorization = NULL;
        const char *headers[] = { "Accept: application/json", NULL, NULL };
        int r;

        json_writer_init(&url, 8192);
        r = compose_url(stack, &url);
        if (r < 0)
                return r;
        if (asprintf(&authorization, "Authorization: CFN_V1 %s:%s", stack->document, signature) < 0)
                return -ENOMEM;
        headers[1] = authorization;
        r = http_call(stack->http,
                &(HttpRequest){ .method = "GET",
                        .url = url.text,
                        .headers = headers,
                        .timeout = STACK_TIMEOUT,
                        .max_body = STACK_ANSWER_MAX },
                on_identity_answer, stack, &stack->http_call);
        (void) secret_free(authorization);
        return r;
}

/* The metadata service has no @what, or not for us: then it is the role's turn; it is in trouble: then nothing is known. */
static void identity_missing(Stack *stack, const char *what, int error) {
        if (error != -ENOENT && error != -EACCES) {
                reading_fail(stack, STACK_WAITING,
                        "The metadata service does not give the instance's identity %s: %s", what,
                        imds_error_to_string(error));
                return;
        }
        (void) snprintf(stack->refusal[0], sizeof(stack->refusal[0]),
                "the metadata service gives no identity %s", what);
        read_next_way(stack);
}

/* Return: its text on one line, owned by the caller; NULL if it cannot be a signature, or there is no memory. */
static char *signature_read(const char *text, size_t n) {
        char *signature = n < STACK_DOCUMENT_MAX ? malloc(n + 1) : NULL;
        size_t k = 0;

        for (size_t i = 0; signature && i < n; i++)
                if (text[i] != '\n' && text[i] != '\r')
                        signature[k++] = text[i];
        if (!signature)
                return NULL;
        signature[k] = '\0';
        if (k == 0 || strspn(signature,
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != k) {
                free(signature);
                return NULL;
        }
        return signature;
}

static void on_signature(const ImdsAnswer *answer, void *userdata) {
        Stack *stack = userdata;
        char *signature = answer->error == 0 ? signature_read(answer->text, answer->n) : NULL;
        int error = answer->error == 0 && !signature ? -ENOENT : answer->error, r = 0;

        stack->imds_call = imds_call_free(stack->imds_call);
        if (signature)
                r = ask_by_identity(stack, signature);
        (void) secret_free(signature);
        stack->document = secret_free(stack->document);
        if (error != 0)
                identity_missing(stack, "signature", error);
        else if (r < 0)
                reading_fail_to_ask(stack, r);
}

static char *document_encode(const char *text, size_t n) {
        char *document = n > 0 && n < STACK_DOCUMENT_MAX ? malloc((n + 2) / 3 * 4 + 1) : NULL;

        if (document)
                (void) EVP_EncodeBlock((unsigned char *) document, (const unsigned char *) text, (int) n);
        return document;
}

static void on_document(const ImdsAnswer *answer, void *userdata) {
        Stack *stack = userdata;
        int error = answer->error, r = 0;

        if (error == 0) {
                stack->document = document_encode(answer->text, answer->n);
                error = stack->document ? 0 : -ENOENT;
        }
        stack->imds_call = imds_call_free(stack->imds_call);
        if (error == 0)
                r = imds_get(stack->imds, "/latest/dynamic/instance-identity/signature", on_signature, stack,
                        &stack->imds_call);
        if (error != 0)
                identity_missing(stack, "document", error);
        else if (r < 0)
                reading_fail_to_ask(stack, r);
}

static void read_by_identity(Stack *stack) {
        int r = imds_get(stack->imds, "/latest/dynamic/instance-identity/document", on_document, stack,
                &stack->imds_call);

        if (r < 0)
                reading_fail_to_ask(stack, r);
}

/* Last in its callers. */
static void read_next_way(Stack *stack) {
        bool by_role = stack->tried[stack->by_role] ? !stack->by_role : stack->by_role;

        stack->imds_call = imds_call_free(stack->imds_call);
        stack->http_call = http_call_free(stack->http_call);
        stack->aws_call = aws_call_free(stack->aws_call);
        if (stack->tried[by_role]) {
                reading_fail(stack, stack->unsure ? STACK_WAITING : STACK_DENIED,
                        "CloudFormation lets neither this instance's identity (%s) nor its role (%s) read "
                        "resource %s in stack %s. Allow cloudformation:DescribeStackResource to the role, "
                        "or set "
                        "cloudformation.enabled to false",
                        stack->refusal[0], stack->refusal[1], stack->place.resource, stack->place.stack);
                return;
        }
        stack->tried[by_role] = true;
        if (by_role)
                read_by_role(stack);
        else
                read_by_identity(stack);
}

/* -- whose ---------------------------------------------------------------------------------------------------------- */

/* Where to read is known: what stood elsewhere is not ours. */
static void read_place(Stack *stack) {
        if (stack->text && !place_fits(&stack->place, &stack->text_place))
                stack_drop_text(stack);
        read_next_way(stack);
}

static void tag_take(Stack *stack, StackTag tag, const char *text, size_t n) {
        if (tag == TAG_STACK && name_is_sound(text, n, sizeof(stack->tags.stack))) {
                memcpy(stack->tags.stack, text, n);
                stack->tags.stack[n] = '\0';
        } else if (tag == TAG_RESOURCE && name_is_sound(text, n, sizeof(stack->tags.resource))) {
                memcpy(stack->tags.resource, text, n);
                stack->tags.resource[n] = '\0';
        }
        stack->place = place_of(stack);
}

/* EC2 was asked as well: this is all that there is to know. */
static void tags_missing(Stack *stack) {
        StackTag tag = stack->place.stack[0] == '\0' ? TAG_STACK : TAG_RESOURCE;

        if (stack->set.stack[0] != '\0' || stack->set.resource[0] != '\0') {
                reading_fail(stack, STACK_NONE,
                        "cloudformation.%s is not set, and this instance has no tag %s. Set both, or "
                        "neither on an "
                        "instance that a stack has made",
                        tag == TAG_STACK ? "stack" : "resource", tag_keys[tag]);
                return;
        }
        /* Nobody but AWS can set these tags, and it does so when an instance is launched. */
        stack_drop_text(stack);
        stack->answer = STACK_NONE;
        stack->attempt = 0;
        stack->problem[0] = '\0';
        reading_end(stack, SPAN_INFINITE);
}

static void tags_denied(Stack *stack, const AwsAnswer *answer) {
        char words[256];

        answer_words(words, sizeof(words), answer);
        reading_fail(stack, STACK_NONE,
                "Whether a CloudFormation stack made this instance is not known: its tags are not in the "
                "metadata "
                "service, and EC2 says %s. Allow tags in the instance's metadata options, or "
                "ec2:DescribeTags to the "
                "role, or set cloudformation.stack and cloudformation.resource",
                words);
}

static void on_tags(const AwsAnswer *answer, void *userdata) {
        Stack *stack = userdata;
        char words[256];

        if (is_refusal(answer->outcome)) {
                tags_denied(stack, answer);
                return;
        }
        if (answer->outcome != AWS_OK) {
                answer_words(words, sizeof(words), answer);
                reading_fail(stack, STACK_WAITING,
                        "EC2 does not say whether a CloudFormation stack made this instance: %s", words);
                return;
        }
        xml_for_each(item, xml_child(answer->xml, "tagSet"), "item") {
                const char *id = xml_text(item, "resourceId"), *key = xml_text(item, "key");
                const char *value = xml_text(item, "value");

                for (StackTag tag = TAG_STACK; tag < TAG_N; tag++)
                        if (id && key && value && strcmp(id, stack->instance_id) == 0 &&
                                strcmp(key, tag_keys[tag]) == 0)
                                tag_take(stack, tag, value, strlen(value));
        }
        stack->aws_call = aws_call_free(stack->aws_call);
        if (place_is_whole(&stack->place))
                read_place(stack);
        else
                tags_missing(stack);
}

static void ask_ec2(Stack *stack) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        AwsCall *call = NULL;
        int r;

        json_writer_init(&body, 1024);
        aws_query_append(&body, "Filter.1.Name", "resource-id");
        aws_query_append(&body, "Filter.1.Value.1", stack->instance_id);
        aws_query_append(&body, "Filter.2.Name", "key");
        aws_query_append(&body, "Filter.2.Value.1", tag_keys[TAG_STACK]);
        aws_query_append(&body, "Filter.2.Value.2", tag_keys[TAG_RESOURCE]);
        r = body.error;
        if (r >= 0)
                r = aws_call(stack->aws,
                        &(AwsRequest){ .service = AWS_EC2,
                                .action = "DescribeTags",
                                .body = body.text,
                                .n_body = body.n },
                        on_tags, stack, &call);
        if (r < 0)
                reading_fail_to_ask(stack, r);
        else
                stack->aws_call = call;
}

static void on_tag(const ImdsAnswer *answer, void *userdata);

/* Asks for the first tag that is missing, from .tag on. Last in its callers. */
static void ask_tag(Stack *stack) {
        char path[128];
        int r;

        while (stack->tag < TAG_N && place_part(&stack->place, stack->tag)[0] != '\0')
                stack->tag++;
        if (stack->tag == TAG_N) {
                read_place(stack);
                return;
        }
        (void) snprintf(path, sizeof(path), "/latest/meta-data/tags/instance/%s", tag_keys[stack->tag]);
        r = imds_get(stack->imds, path, on_tag, stack, &stack->imds_call);
        if (r < 0)
                reading_fail_to_ask(stack, r);
}

static void on_tag(const ImdsAnswer *answer, void *userdata) {
        Stack *stack = userdata;
        int error = answer->error;

        if (error == 0)
                tag_take(stack, stack->tag, answer->text, answer->n);
        stack->imds_call = imds_call_free(stack->imds_call);
        if (error != 0 && error != -ENOENT && error != -EACCES)
                reading_fail(stack, STACK_WAITING,
                        "The metadata service does not say whether a CloudFormation stack made this "
                        "instance: %s",
                        imds_error_to_string(error));
        else if (place_part(&stack->place, stack->tag)[0] == '\0')
                ask_ec2(stack); /* tags are off, or there is none, or what came is none */
        else
                ask_tag(stack);
}

static void stack_on_timer(Timer *timer, Now now, void *userdata) {
        Stack *stack = userdata;

        (void) timer;
        (void) now;
        stack->again = false;
        stack->unsure = stack->tried[false] = stack->tried[true] = false;
        stack->refusal[false][0] = stack->refusal[true][0] = '\0';
        stack->place = place_of(stack);
        stack->tag = TAG_STACK;
        ask_tag(stack);
}

/* -- the cache ------------------------------------------------------------------------------------------------------ */

/* An object: only such texts pass the checks that come before stack_keep(). */
static bool text_is_object(const char *text, size_t n) {
        _cleanup_(json_freep) cJSON *json = NULL;

        return n <= STACK_TEXT_MAX && json_parse(text, n, NULL, &json) >= 0 && cJSON_IsObject(json);
}

/* "" when there is none: a text is not missed until it is known what the file is about. */
static const char *cache_text(const cJSON *json, const char *name) {
        const char *text = "";

        (void) json_get_string(json, name, &text);
        return text;
}

static bool cache_is_sound(const StackCache *cache) {
        if (cache->instance_id[0] == '\0' ||
                strlen(cache->instance_id) >= sizeof(((Stack *) NULL)->text_instance) ||
                strlen(cache->stack) >= STACK_ID_MAX || strlen(cache->resource) >= STACK_RESOURCE_MAX)
                return false;
        if (cache->state != STACK_READ)
                return cache->n_text == 0;
        return cache->stack[0] != '\0' && cache->resource[0] != '\0' &&
               text_is_object(cache->text, cache->n_text);
}

static int cache_take(const cJSON *json, StackCache *ret) {
        const char *read = cache_text(json, "read"), *state = cache_text(json, "state");

        if (parse_rfc3339(read, strlen(read), &ret->read) < 0)
                return -EBADMSG;
        if (strcmp(state, stack_state_to_string(STACK_NONE)) == 0)
                ret->state = STACK_NONE;
        else if (strcmp(state, stack_state_to_string(STACK_DENIED)) == 0)
                ret->state = STACK_DENIED;
        else if (strcmp(state, stack_state_to_string(STACK_READ)) == 0)
                ret->state = STACK_READ;
        else
                return -EBADMSG;
        ret->instance_id = strdup(cache_text(json, "instance_id"));
        ret->stack = strdup(cache_text(json, "stack"));
        ret->resource = strdup(cache_text(json, "resource"));
        ret->text = strdup(cache_text(json, "text"));
        if (!ret->instance_id || !ret->stack || !ret->resource || !ret->text)
                return -ENOMEM;
        ret->n_text = strlen(ret->text);
        if (!cache_is_sound(ret))
                return -EBADMSG;
        if (ret->state != STACK_READ) {
                free(ret->text);
                ret->text = NULL;
        }
        return 0;
}

int stack_cache_read(const char *path, StackCache *ret) {
        _cleanup_(freep) char *text = NULL;
        _cleanup_(json_freep) cJSON *json = NULL;
        StackCache cache = {};
        size_t n;
        int r;

        r = file_read(path, STACK_CACHE_MAX, &text, &n);
        if (r == -E2BIG)
                return -EBADMSG;
        if (r < 0)
                return r;
        r = json_parse(text, n, NULL, &json);
        if (r < 0)
                return r;
        r = cache_take(json, &cache);
        if (r < 0) {
                stack_cache_done(&cache);
                return r;
        }

        *ret = cache;
        return 0;
}

void stack_cache_done(StackCache *cache) {
        free(cache->instance_id);
        free(cache->stack);
        free(cache->resource);
        free(cache->text);
        *cache = (StackCache){};
}

int stack_keep(Stack *stack) {
        _cleanup_(json_writer_done) JsonWriter writer = {};
        StackState state = stack_state(stack);
        const StackPlace *place = stack->text ? &stack->text_place : &stack->set;
        char time[FORMAT_TIME_MAX];

        if (!stack->cache || stack->from_cache || state == STACK_OFF || state == STACK_WAITING)
                return 0;
        json_writer_init(&writer, STACK_CACHE_MAX - 1);
        json_begin_object(&writer, NULL);
        json_string(&writer, "state", stack_state_to_string(state));
        json_string(&writer, "instance_id", stack->text ? stack->text_instance : stack->instance_id);
        json_string(&writer, "stack", place->stack);
        json_string(&writer, "resource", place->resource);
        json_string(&writer, "read",
                format_rfc3339(time, stack->text ? stack->read : loop_now(stack->event).wall));
        if (stack->text)
                json_string(&writer, "text", stack->text);
        json_end_object(&writer);
        json_raw(&writer, "\n", 1);
        if (writer.error < 0)
                return writer.error;
        /* Readable by all, for check-config: metadata are no place for secrets, whoever may describe a stack reads them.
         * Not synced, which could take long on a sick disk: a file that a crash has damaged counts as absent. */
        return file_write_atomic(stack->cache, writer.text, writer.n, 0644, false);
}

/* What an earlier process knew goes on to count, or a restart amid an incident would not know for a while whether to act. */
static void cache_apply(Stack *stack, StackCache *cache) {
        StackPlace place = {};

        text_set(place.stack, cache->stack);
        text_set(place.resource, cache->resource);
        text_set(stack->text_instance, cache->instance_id);
        if (cache->state != STACK_READ) {
                if (!place_equal(&stack->set, &place))
                        return;
                stack->answer = cache->state;
                stack->from_cache = true;
                return;
        }
        stack->text_place = place;
        if (!place_fits(&stack->set, &place))
                return;
        stack->text = steal_ptr(cache->text);
        stack->n_text = cache->n_text;
        stack->read = cache->read;
        stack->from_cache = true;
}

static int stack_load(Stack *stack) {
        _cleanup_(stack_cache_done) StackCache cache = {};
        int r;

        if (!stack->cache)
                return 0;
        r = stack_cache_read(stack->cache, &cache);
        if (r == -ENOMEM)
                return r;
        if (r >= 0) /* else there is none, or none that is of use */
                cache_apply(stack, &cache);
        return 0;
}

/* -- life ----------------------------------------------------------------------------------------------------------- */

static int place_set(StackPlace *ret, const StackSettings *settings) {
        const char *stack = settings->stack ? settings->stack : "";
        const char *resource = settings->resource ? settings->resource : "";

        if (strlen(stack) >= sizeof(ret->stack) || strlen(resource) >= sizeof(ret->resource))
                return -ENAMETOOLONG;
        *ret = (StackPlace){};
        text_set(ret->stack, stack);
        text_set(ret->resource, resource);
        return 0;
}

/* As after the start: what is not known to be another's stays. */
static void stack_start_anew(Stack *stack) {
        stack_rest(stack);
        stack->answer = STACK_WAITING;
        stack->problem[0] = '\0';
        stack->attempt = 0;
        stack->again = false;
        if (stack->text && !place_fits(&stack->set, &stack->text_place))
                stack_drop_text(stack);
        if (stack->enabled && stack->instance_id[0] != '\0')
                stack_arm_within(stack, STACK_SOON);
}

int stack_settings(Stack *stack, const StackSettings *settings) {
        bool enabled = stack->enabled;
        StackPlace before = stack->set;
        int r;

        assert(settings->refresh > 0);

        r = place_set(&stack->set, settings);
        if (r < 0)
                return r;
        stack->enabled = settings->enabled;
        stack->refresh = settings->refresh;
        if (enabled != stack->enabled || !place_equal(&before, &stack->set))
                stack_start_anew(stack);
        else if (!stack_is_busy(stack) && stack->next.usec != MONO_INFINITE.usec &&
                 mono_since(stack->next, loop_now(stack->event).mono) > 2 * stack_pace(stack))
                stack_arm(stack, pace_next(stack)); /* the pace is another now */
        stack_tell(stack);
        return 0;
}

int stack_identity(Stack *stack, const char *instance_id, const char *region, const char *domain) {
        if (!*instance_id || strlen(instance_id) >= sizeof(stack->instance_id) ||
                strlen(region) >= sizeof(stack->region) ||
                (domain && strlen(domain) >= sizeof(stack->domain)))
                return -EINVAL;
        if (strcmp(stack->instance_id, instance_id) == 0 && strcmp(stack->region, region) == 0 &&
                strcmp(stack->domain, domain ? domain : "") == 0)
                return 0; /* known: no reason to ask out of turn */
        text_set(stack->instance_id, instance_id);
        text_set(stack->region, region);
        text_set(stack->domain, domain ? domain : "");
        if ((stack->text || stack->from_cache) && strcmp(stack->text_instance, instance_id) != 0) {
                stack_drop_text(stack);
                stack->answer = STACK_WAITING;
                stack_tell(stack);
        }
        if (stack->enabled) {
                stack_rest(stack); /* of a reading in another's name */
                stack_arm_within(stack, STACK_START);
        }
        return 0;
}

void stack_size(Stack *stack, uint64_t members) {
        stack->members = members < STACK_MEMBERS_MAX ? members : STACK_MEMBERS_MAX;
}

void stack_read_now(Stack *stack) {
        if (!stack->enabled || stack->instance_id[0] == '\0')
                return;
        stack->attempt = 0;
        stack->tags = (StackPlace){};
        stack->again = stack_is_busy(stack);
        if (!stack->again)
                stack_arm_within(stack, STACK_SOON);
}

void stack_view(const Stack *stack, StackView *ret) {
        StackPlace place = place_of(stack);
        StackState state = stack_state(stack);
        bool lent = state == STACK_READ;

        /* place_of() is a copy: what is lent must be ours. */
        *ret = (StackView){
                .state = state,
                .stack = stack->set.stack[0] ? stack->set.stack : stack->tags.stack,
                .resource = stack->set.resource[0] ? stack->set.resource : stack->tags.resource,
                .text = lent ? stack->text : NULL,
                .n_text = lent ? stack->n_text : 0,
                .by_role = stack->by_role,
                .from_cache = stack->from_cache,
                .read = lent ? stack->read : WALL_NEVER,
                .next = stack->next,
                .problem = stack->problem,
        };
        if (lent && !place_is_whole(&place)) {
                ret->stack = stack->text_place.stack;
                ret->resource = stack->text_place.resource;
        }
}

int stack_new(Stack **ret, sd_event *event, const StackOptions *options) {
        _cleanup_(stack_freep) Stack *stack = NULL;
        int r;

        assert(options->news);
        assert(options->settings.refresh > 0);

        stack = calloc(1, sizeof(*stack));
        if (!stack)
                return -ENOMEM;
        stack->event = sd_event_ref(event);
        stack->http = options->http;
        stack->aws = options->aws;
        stack->imds = options->imds;
        stack->news = options->news;
        stack->userdata = options->userdata;
        stack->enabled = options->settings.enabled;
        stack->refresh = options->settings.refresh;
        stack->answer = STACK_WAITING;
        stack->next = MONO_INFINITE;
        r = place_set(&stack->set, &options->settings);
        if (r < 0)
                return r;
        if (options->cache) {
                stack->cache = strdup(options->cache);
                if (!stack->cache)
                        return -ENOMEM;
        }
        r = stack_load(stack);
        if (r < 0)
                return r;
        r = timer_new(&stack->timer, event, "stack", SPAN_MSEC(50), stack_on_timer, stack);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &stack->teller, stack_on_tell, stack);
        if (r >= 0)
                r = sd_event_source_set_enabled(stack->teller, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_description(stack->teller, "stack-news");
        if (r < 0)
                return r;
        stack_note_told(stack);

        *ret = steal_ptr(stack);
        return 0;
}

Stack *stack_free(Stack *stack) {
        if (!stack)
                return NULL;
        if (stack->timer)
                stack_rest(stack);
        stack->timer = timer_free(stack->timer);
        sd_event_source_disable_unref(stack->teller);
        sd_event_unref(stack->event);
        free(stack->cache);
        free(stack->text);
        free(stack);
        return NULL;
}
