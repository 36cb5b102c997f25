/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where keys come from and when they are renewed. The local clock decides only when to ask again, never
 * whether the keys still count: it may be wrong, and the service knows.
 */

#include <assert.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include "common/aws-credentials.h"
#include "common/backoff.h"
#include "common/json.h"
#include "common/loop.h"
#include "common/parse.h"

#define CREDENTIALS_WAITERS_MAX 8
#define CREDENTIALS_LIFE_MAX                                                                                \
        SPAN_HOUR(1) /* re-read after that however long they are said to live, as the SDKs do */
#define CREDENTIALS_REFRESH_MIN SPAN_MIN(1) /* between two fetches that a service has asked for */

/* Tries while there are no keys at all. */
static const Backoff credentials_backoff = { .base = SPAN_SEC(5), .ceiling = SPAN_MIN(5) };

/* On pages of their own, which are left out of core dumps and which children find empty. */
typedef struct CredentialsSecrets {
        char access_key_id[129];
        char secret_access_key[257];
        char session_token[8193]; /* without a stated limit; those of roles have 1 to 2 kB */
} CredentialsSecrets;

typedef struct CredentialsWaiter {
        void (*ready)(void *userdata);
        void *userdata;
} CredentialsWaiter;

struct AwsCredentials {
        sd_event *event;
        Imds *imds;
        CredentialsSecrets *secrets;
        bool fixed; /* from the environment: never renewed */
        Wall expiry;

        AwsCredentialsState state;
        char role[65];
        char detail[256];

        ImdsCall *fetch;
        Mono fetched; /* when the last fetch began */
        unsigned failures;
        Timer *timer;

        Timer *notify;
        unsigned n_waiters;
        CredentialsWaiter waiters[CREDENTIALS_WAITERS_MAX];
};

static bool credentials_present(const AwsCredentials *credentials) {
        return credentials->secrets->access_key_id[0] != 0;
}

/* Texts that may stand in a header and a signature. */
static bool credentials_text_is_sound(const char *text, size_t max) {
        size_t n = 0;

        for (; text[n] != 0; n++)
                if (text[n] <= ' ' || text[n] > '~' || n >= max)
                        return false;
        return n > 0;
}

/* @token may be NULL. */
static bool credentials_take(
        AwsCredentials *credentials, const char *id, const char *secret, const char *token) {
        CredentialsSecrets *secrets = credentials->secrets;

        if (!credentials_text_is_sound(id, sizeof(secrets->access_key_id) - 1) ||
                !credentials_text_is_sound(secret, sizeof(secrets->secret_access_key) - 1) ||
                (token && !credentials_text_is_sound(token, sizeof(secrets->session_token) - 1)))
                return false;
        OPENSSL_cleanse(secrets, sizeof(*secrets));
        (void) memcpy(secrets->access_key_id, id, strlen(id) + 1);
        (void) memcpy(secrets->secret_access_key, secret, strlen(secret) + 1);
        if (token)
                (void) memcpy(secrets->session_token, token, strlen(token) + 1);
        return true;
}

/* Whoever waits is told from the notify timer, one at a time. */
static void credentials_tell(AwsCredentials *credentials) {
        if (credentials->n_waiters > 0)
                (void) timer_arm(credentials->notify, loop_now(credentials->event).mono);
}

static void credentials_on_notify(Timer *timer, Now now, void *userdata) {
        AwsCredentials *credentials = userdata;
        CredentialsWaiter waiter;

        if (credentials->n_waiters == 0)
                return;
        waiter = credentials->waiters[--credentials->n_waiters];
        if (credentials->n_waiters > 0)
                (void) timer_arm(timer, now.mono);
        waiter.ready(waiter.userdata);
}

static Span credentials_between(Span low, Span high) {
        return low + (Span) (loop_random() % (uint64_t) (high - low));
}

static void credentials_schedule(AwsCredentials *credentials, Now now) {
        Span wait, left = wall_since(credentials->expiry, now.wall);

        if (!credentials_present(credentials))
                wait = backoff_next(&credentials_backoff, credentials->failures++, loop_random());
        else if (credentials->state != AWS_CREDENTIALS_GOOD || !wall_is_set(credentials->expiry))
                wait = credentials_between(SPAN_MIN(5), SPAN_MIN(15));
        else {
                wait = left - credentials_between(SPAN_MIN(10), SPAN_MIN(15));
                /* New ones appear as late as five minutes before the old ones end. */
                wait = span_min(span_max(wait, SPAN_MIN(2)), CREDENTIALS_LIFE_MAX);
        }
        (void) timer_arm(credentials->timer, mono_add(now.mono, wait));
}

/* The end of a fetch without new keys. Those in hand stay in use. */
__attribute__((format(printf, 3, 4))) static void credentials_fail(
        AwsCredentials *credentials, AwsCredentialsState state, const char *format, ...) {
        va_list list;

        va_start(list, format);
        (void) vsnprintf(credentials->detail, sizeof(credentials->detail), format, list);
        va_end(list);
        credentials->state = credentials_present(credentials) ? AWS_CREDENTIALS_STALE : state;
        credentials_schedule(credentials, loop_now(credentials->event));
        credentials_tell(credentials);
}

/* Copies are not to be left lying about on the heap. */
static void credentials_wipe(const cJSON *document) {
        const cJSON *i;

        cJSON_ArrayForEach(i, document) if (cJSON_IsString(i) && i->valuestring)
                OPENSSL_cleanse(i->valuestring, strlen(i->valuestring));
}

static void credentials_accept(AwsCredentials *credentials, const cJSON *document, Now now) {
        const char *id = NULL, *secret = NULL, *token = NULL, *expiration = "";
        Wall expiry = WALL_NEVER;
        char until[FORMAT_TIME_MAX];

        (void) json_get_string(document, "AccessKeyId", &id);
        (void) json_get_string(document, "SecretAccessKey", &secret);
        (void) json_get_string(document, "Token", &token);
        (void) json_get_string(document, "Expiration", &expiration);
        (void) parse_rfc3339(expiration, strlen(expiration), &expiry);

        /* Sometimes an older set is handed out again. */
        if (!credentials_present(credentials) || !wall_before(expiry, credentials->expiry)) {
                if (!id || !secret || !credentials_take(credentials, id, secret, token)) {
                        credentials_fail(credentials, AWS_CREDENTIALS_FAILED, "role %s: keys make no sense",
                                credentials->role);
                        return;
                }
                credentials->expiry = expiry;
        }
        if (wall_is_set(credentials->expiry) && !wall_before(now.wall, credentials->expiry)) {
                credentials_fail(credentials, AWS_CREDENTIALS_STALE,
                        "role %s: keys expired at %s and are kept in use", credentials->role,
                        format_rfc3339(until, credentials->expiry));
                return;
        }
        credentials->failures = 0;
        credentials->state = AWS_CREDENTIALS_GOOD;
        (void) snprintf(credentials->detail, sizeof(credentials->detail), "role %s, keys until %s",
                credentials->role,
                wall_is_set(credentials->expiry) ? format_rfc3339(until, credentials->expiry)
                                                 : "an unknown time");
        credentials_schedule(credentials, now);
        credentials_tell(credentials);
}

static void credentials_imds_failed(AwsCredentials *credentials, int error) {
        if (error == -ENOENT)
                credentials_fail(credentials, AWS_CREDENTIALS_NO_ROLE, "the instance has no role");
        else
                credentials_fail(credentials, AWS_CREDENTIALS_FAILED, "metadata service: %s",
                        imds_error_to_string(error));
}

static void credentials_on_document(const ImdsAnswer *answer, void *userdata) {
        AwsCredentials *credentials = userdata;
        _cleanup_(json_freep) cJSON *document = NULL;
        const char *code = "";

        credentials->fetch = imds_call_free(credentials->fetch);
        if (answer->error != 0) {
                credentials_imds_failed(credentials, answer->error);
                return;
        }
        if (json_parse(answer->text, answer->n, NULL, &document) < 0) {
                credentials_fail(credentials, AWS_CREDENTIALS_FAILED, "role %s: answer is not JSON",
                        credentials->role);
                return;
        }
        (void) json_get_string(document, "Code", &code);
        /* A role that cannot be assumed is told so with status 200. */
        if (strcmp(code, "Success") != 0)
                credentials_fail(credentials, AWS_CREDENTIALS_NO_ROLE, "role %s: %s", credentials->role,
                        credentials_text_is_sound(code, 64) ? code : "no keys");
        else
                credentials_accept(credentials, document, loop_now(credentials->event));
        credentials_wipe(document);
}

/* IAM: letters, digits and these signs, at most 64 of them. Anything else must not become part of a path. */
static bool credentials_role_is_sound(const char *text, size_t n) {
        static const char signs[] = "+=,.@_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

        return n > 0 && n <= 64 && strspn(text, signs) >= n;
}

#define CREDENTIALS_PATH "/latest/meta-data/iam/security-credentials/"

static void credentials_on_role(const ImdsAnswer *answer, void *userdata) {
        AwsCredentials *credentials = userdata;
        char path[sizeof(CREDENTIALS_PATH) + sizeof(credentials->role)];
        size_t n;
        int r;

        credentials->fetch = imds_call_free(credentials->fetch);
        if (answer->error != 0) {
                credentials_imds_failed(credentials, answer->error);
                return;
        }
        n = strcspn(answer->text, "\r\n");
        if (n == 0) {
                credentials_imds_failed(credentials, -ENOENT);
                return;
        }
        if (!credentials_role_is_sound(answer->text, n)) {
                credentials_fail(credentials, AWS_CREDENTIALS_FAILED, "the role's name makes no sense");
                return;
        }
        (void) memcpy(credentials->role, answer->text, n);
        credentials->role[n] = 0;
        (void) snprintf(path, sizeof(path), "%s%s", CREDENTIALS_PATH, credentials->role);
        r = imds_get(credentials->imds, path, credentials_on_document, credentials, &credentials->fetch);
        if (r < 0)
                credentials_fail(credentials, AWS_CREDENTIALS_FAILED, "metadata service: %s", strerror(-r));
}

static void credentials_fetch(AwsCredentials *credentials) {
        int r;

        if (credentials->fixed || credentials->fetch)
                return;
        timer_disarm(credentials->timer);
        credentials->fetched = loop_now(credentials->event).mono;
        r = imds_get(
                credentials->imds, CREDENTIALS_PATH, credentials_on_role, credentials, &credentials->fetch);
        if (r < 0)
                credentials_fail(credentials, AWS_CREDENTIALS_FAILED, "metadata service: %s", strerror(-r));
}

static void credentials_on_timer(Timer *timer, Now now, void *userdata) {
        (void) timer;
        (void) now;
        credentials_fetch(userdata);
}

int aws_credentials_get(AwsCredentials *credentials, AwsKeys *ret) {
        const CredentialsSecrets *secrets = credentials->secrets;

        if (!credentials_present(credentials)) {
                if (credentials->state == AWS_CREDENTIALS_UNKNOWN)
                        credentials_fetch(credentials);
                return -EAGAIN;
        }
        *ret = (AwsKeys){
                .access_key_id = secrets->access_key_id,
                .secret_access_key = secrets->secret_access_key,
                .session_token = secrets->session_token[0] != 0 ? secrets->session_token : NULL,
        };
        return 0;
}

void aws_credentials_refresh(AwsCredentials *credentials) {
        Mono now = loop_now(credentials->event).mono, earliest;

        if (credentials->fixed || credentials->fetch)
                return;
        earliest = mono_add(credentials->fetched, CREDENTIALS_REFRESH_MIN);
        if (!mono_is_set(credentials->fetched) || !mono_before(now, earliest))
                credentials_fetch(credentials);
        else
                (void) timer_arm(credentials->timer, earliest);
}

void aws_credentials_wait(AwsCredentials *credentials, void (*ready)(void *userdata), void *userdata) {
        assert(credentials->n_waiters < CREDENTIALS_WAITERS_MAX);

        credentials->waiters[credentials->n_waiters++] = (CredentialsWaiter){ ready, userdata };
        if (!credentials->fetch)
                credentials_tell(credentials);
}

void aws_credentials_unwait(AwsCredentials *credentials, void *userdata) {
        unsigned n = 0;

        for (unsigned i = 0; i < credentials->n_waiters; i++)
                if (credentials->waiters[i].userdata != userdata)
                        credentials->waiters[n++] = credentials->waiters[i];
        credentials->n_waiters = n;
}

AwsCredentialsState aws_credentials_state(const AwsCredentials *credentials) {
        return credentials->state;
}

const char *aws_credentials_detail(const AwsCredentials *credentials) {
        return credentials->detail;
}

static void credentials_read_environment(AwsCredentials *credentials) {
        const char *id = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY");
        const char *token = getenv("AWS_SESSION_TOKEN");

        if (!id || *id == 0 || !secret || *secret == 0)
                return;
        credentials->fixed = true;
        if (credentials_take(credentials, id, secret, token && *token != 0 ? token : NULL)) {
                credentials->state = AWS_CREDENTIALS_GOOD;
                (void) strcpy(credentials->detail, "keys of the environment");
        } else {
                credentials->state = AWS_CREDENTIALS_FAILED;
                (void) strcpy(credentials->detail, "keys of the environment make no sense");
        }
}

int aws_credentials_new(AwsCredentials **ret, sd_event *event, Imds *imds) {
        _cleanup_(aws_credentials_freep) AwsCredentials *credentials = NULL;
        void *pages;
        int r;

        credentials = calloc(1, sizeof(*credentials));
        if (!credentials)
                return -ENOMEM;
        credentials->event = sd_event_ref(event);
        credentials->imds = imds;
        (void) strcpy(credentials->detail, "not asked for yet");

        pages = mmap(NULL, sizeof(CredentialsSecrets), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                -1, 0);
        if (pages == MAP_FAILED)
                return -errno;
        credentials->secrets = pages;
        (void) madvise(pages, sizeof(CredentialsSecrets), MADV_DONTDUMP);
        (void) madvise(pages, sizeof(CredentialsSecrets), MADV_WIPEONFORK);

        r = timer_new(&credentials->timer, event, "credentials-renew", SPAN_SEC(1), credentials_on_timer,
                credentials);
        if (r < 0)
                return r;
        r = timer_new(
                &credentials->notify, event, "credentials-notify", 1, credentials_on_notify, credentials);
        if (r < 0)
                return r;
        credentials_read_environment(credentials);

        *ret = steal_ptr(credentials);
        return 0;
}

AwsCredentials *aws_credentials_free(AwsCredentials *credentials) {
        if (!credentials)
                return NULL;
        imds_call_free(credentials->fetch);
        timer_free(credentials->timer);
        timer_free(credentials->notify);
        if (credentials->secrets) {
                OPENSSL_cleanse(credentials->secrets, sizeof(*credentials->secrets));
                (void) munmap(credentials->secrets, sizeof(*credentials->secrets));
        }
        sd_event_unref(credentials->event);
        free(credentials);
        return NULL;
}
