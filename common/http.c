/* SPDX-License-Identifier: Apache-2.0 */

/*
 * libcurl's multi interface on sd-event. A call goes through: name looked up by the helper (or known),
 * transfer in curl, message drained from curl's queue, callback. What fails before curl sees it joins at the
 * draining, so that every callback comes from the loop and every handler finishes at most one call, as the
 * last thing that it does.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/http.h"
#include "common/loop.h"

#define HTTP_HOST_MAX   256          /* RFC 1035: 253, and the NUL */
#define HTTP_HOSTS_MAX  16           /* names remembered */
#define HTTP_HOST_FRESH SPAN_SEC(60) /* how long addresses are used without asking again */
#define HTTP_LOOKUP_MAX                                                                                     \
        SPAN_SEC(5) /* of a longer time-out, the rest is left for trying the addresses known before */
#define HTTP_IDLE_CONNECTIONS                                                                               \
        6L /* kept alive: services and local endpoints that are asked at least once a minute */
#define HTTP_FIELDS_MAX 65536 /* bytes of all header fields of an answer */
#define HTTP_BODY_FIRST 4096  /* bytes allocated when the first part of a body comes */
#define HTTP_BUFFER     4096L /* bytes read at a time; curl's 16 kB would add up over transfers */

/* A name and where it was last found. */
typedef struct HttpHost {
        char name[HTTP_HOST_MAX]; /* "": slot is free */
        char addresses[HELPER_ADDRESSES_MAX][46];
        unsigned n_addresses;
        Mono resolved, used;
        bool suspect; /* connecting has failed since */
} HttpHost;

/* What a URL points at. */
typedef struct HttpTarget {
        bool tls;
        char host[HTTP_HOST_MAX]; /* without brackets */
        char port[8];
} HttpTarget;

/* A socket that curl wants watched. */
typedef struct HttpSocket HttpSocket;
struct HttpSocket {
        HttpSocket *next;
        int fd;
        sd_event_source *source;
};

struct Http {
        sd_event *event;
        Helper *helper;
        CURLM *multi;
        Timer *timer;           /* curl's one time-out */
        Timer *guard;           /* the first deadline of ours, should curl forget about it */
        sd_event_source *drain; /* finished transfers */
        HttpSocket *sockets;
        HttpCall *calls;
        unsigned n_calls;
        HttpHost hosts[HTTP_HOSTS_MAX];

        char *ca_bundle;
        X509_STORE *store; /* NULL until the first https request */
        int store_error;   /* why it could not be loaded */
        char *user_agent;
        char *no_proxy;
        char *proxy;       /* normalized URL without user and password; NULL: none */
        char *proxy_login; /* "user:password", percent-encoded; NULL: none */
        HttpTarget proxy_target;
        HttpStatistics statistics;
};

struct HttpCall {
        Http *http; /* NULL once finished, or when the client is gone */
        HttpCall *previous, *next;
        HttpDone done;
        void *userdata;
        Mono start, deadline;

        CURL *easy;
        bool in_multi;
        struct curl_slist *headers, *addresses;
        int directory; /* of a Unix socket with a long path; -1: none */
        HelperCall *lookup;
        HttpTarget server;
        bool proxied; /* the hop is the proxy, not the server */

        int failed; /* before curl saw it; to be reported from the drain source */
        bool too_big;
        size_t n_fields;
        char *body;
        size_t n_body, n_allocated, max_body;
        bool sent;
        HttpAnswer answer; /* header fields gather here */
        char words[CURL_ERROR_SIZE];
};

/* Addresses and names. */

typedef struct HttpAddress {
        int family;
        unsigned char bytes[16];
} HttpAddress;

static bool http_address_parse(const char *text, HttpAddress *ret) {
        HttpAddress address = {};

        if (inet_pton(AF_INET, text, address.bytes) == 1)
                address.family = AF_INET;
        else if (inet_pton(AF_INET6, text, address.bytes) == 1)
                address.family = AF_INET6;
        else
                return false;
        *ret = address;
        return true;
}

static bool http_address_within(const HttpAddress *address, const HttpAddress *net, unsigned bits) {
        unsigned whole = bits / 8, rest = bits % 8;

        if (address->family != net->family || bits > (net->family == AF_INET ? 32 : 128))
                return false;
        if (memcmp(address->bytes, net->bytes, whole) != 0)
                return false;
        return rest == 0 || (address->bytes[whole] ^ net->bytes[whole]) >> (8 - rest) == 0;
}

static bool http_name_is_localhost(const char *host) {
        size_t n = strlen(host);

        return strcasecmp(host, "localhost") == 0 ||
               (n > 10 && strcasecmp(host + n - 10, ".localhost") == 0);
}

/* Loopback, link-local, and the metadata service's IPv6 address: never to be asked through a proxy. */
static bool http_host_is_local(const char *host) {
        static const struct {
                const char *net;
                unsigned bits;
        } nets[] = {
                { "127.0.0.0", 8 },
                { "169.254.0.0", 16 },
                { "::1", 128 },
                { "::ffff:127.0.0.0", 104 },
                { "::ffff:169.254.0.0", 112 },
                { "fe80::", 10 },
                { "fd00:ec2::", 32 },
        };
        HttpAddress address, net;

        if (http_name_is_localhost(host))
                return true;
        if (!http_address_parse(host, &address))
                return false;
        for (size_t i = 0; i < ELEMENTSOF(nets); i++)
                if (http_address_parse(nets[i].net, &net) &&
                        http_address_within(&address, &net, nets[i].bits))
                        return true;
        return false;
}

/* "10.0.0.1", "10.0.0.0/8", "fd00::/8", "[::1]" */
static bool http_no_proxy_address_matches(char *entry, const HttpAddress *address) {
        char *slash = strchr(entry, '/');
        HttpAddress net;
        size_t n;
        unsigned bits;

        if (slash)
                *slash++ = 0;
        n = strlen(entry);
        if (*entry == '[' && entry[n - 1] == ']') {
                entry[n - 1] = 0;
                entry++;
        }
        if (!http_address_parse(entry, &net))
                return false;
        bits = net.family == AF_INET ? 32 : 128;
        if (slash) {
                /* What is no number is not taken for 0, which would be every address. */
                n = strspn(slash, "0123456789");
                if (n == 0 || n > 3 || slash[n] != 0)
                        return false;
                bits = (unsigned) strtoul(slash, NULL, 10);
        }
        return http_address_within(address, &net, bits);
}

/* A name stands for those below it too, however it is written: "a.b", ".a.b", "*.a.b", "a.b." */
static bool http_no_proxy_name_matches(const char *entry, const char *host) {
        size_t n_host = strlen(host), n;

        if (strncmp(entry, "*.", 2) == 0)
                entry++;
        if (*entry == '.')
                entry++;
        n = strlen(entry);
        if (n > 0 && entry[n - 1] == '.')
                n--;
        if (n_host > 0 && host[n_host - 1] == '.')
                n_host--;
        if (n == 0 || n > n_host || strncasecmp(host + n_host - n, entry, n) != 0)
                return false;
        return n == n_host || host[n_host - n - 1] == '.';
}

/* One entry of NO_PROXY: "*", a name, an address or a network; maybe a port. */
static bool http_no_proxy_entry_matches(char *entry, const HttpTarget *target) {
        char *colon = strrchr(entry, ':');
        HttpAddress address;

        if (strcmp(entry, "*") == 0)
                return true;
        if (colon && (colon == strchr(entry, ':') || (*entry == '[' && colon[-1] == ']'))) {
                if (strcmp(colon + 1, target->port) != 0)
                        return false;
                *colon = 0;
        }
        if (http_address_parse(target->host, &address))
                return http_no_proxy_address_matches(entry, &address);
        return http_no_proxy_name_matches(entry, target->host);
}

static bool http_no_proxy_matches(const char *list, const HttpTarget *target) {
        char entry[HTTP_HOST_MAX + 16];

        while (list && *list) {
                size_t n = strcspn(list, ", \t");

                if (n > 0 && n < sizeof(entry)) {
                        (void) memcpy(entry, list, n);
                        entry[n] = 0;
                        if (http_no_proxy_entry_matches(entry, target))
                                return true;
                }
                list += n;
                list += strspn(list, ", \t");
        }
        return false;
}

/* URLs. */

static CURLU *http_url_free(CURLU *url) {
        curl_url_cleanup(url);
        return NULL;
}
DEFINE_CLEANUP(CURLU, http_url_free)

static int http_url_get(CURLU *url, CURLUPart part, char *buffer, size_t n_buffer) {
        char *text = NULL;
        size_t n;

        if (curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK)
                return -EINVAL;
        n = strlen(text) + 1;
        if (n <= n_buffer)
                (void) memcpy(buffer, text, n);
        curl_free(text);
        return n <= n_buffer ? 0 : -EINVAL;
}

static int http_url_target(CURLU *url, HttpTarget *ret) {
        HttpTarget target = {};
        char scheme[8];
        size_t n;

        if (http_url_get(url, CURLUPART_SCHEME, scheme, sizeof(scheme)) < 0 ||
                http_url_get(url, CURLUPART_HOST, target.host, sizeof(target.host)) < 0 ||
                http_url_get(url, CURLUPART_PORT, target.port, sizeof(target.port)) < 0)
                return -EINVAL;
        target.tls = strcmp(scheme, "https") == 0;
        if (!target.tls && strcmp(scheme, "http") != 0)
                return -EINVAL;
        n = strlen(target.host);
        if (target.host[0] == '[' && target.host[n - 1] == ']') {
                (void) memmove(target.host, target.host + 1, n - 2);
                target.host[n - 2] = 0;
        }
        *ret = target;
        return 0;
}

static int http_target_parse(const char *text, HttpTarget *ret) {
        _cleanup_(http_url_freep) CURLU *url = curl_url();

        if (!url)
                return -ENOMEM;
        if (curl_url_set(url, CURLUPART_URL, text, CURLU_DISALLOW_USER) != CURLUE_OK)
                return -EINVAL;
        return http_url_target(url, ret);
}

/* Known addresses. */

static HttpHost *http_host_find(Http *http, const char *name) {
        for (size_t i = 0; i < HTTP_HOSTS_MAX; i++)
                if (http->hosts[i].name[0] != 0 && strcasecmp(http->hosts[i].name, name) == 0)
                        return &http->hosts[i];
        return NULL;
}

static void http_host_remember(Http *http, const char *name, const HelperAnswer *answer, Mono now) {
        HttpHost *host = http_host_find(http, name);

        if (!host) {
                /* A free slot was never used, so it is the oldest. */
                host = &http->hosts[0];
                for (size_t i = 1; i < HTTP_HOSTS_MAX; i++)
                        if (mono_before(http->hosts[i].used, host->used))
                                host = &http->hosts[i];
        }
        *host = (HttpHost){ .n_addresses = answer->n_addresses, .resolved = now, .used = now };
        (void) memcpy(host->name, name, strlen(name) + 1);
        (void) memcpy(host->addresses, answer->addresses, sizeof(host->addresses));
}

/* Whom we connect to. */
static const HttpTarget *http_call_hop(const HttpCall *call) {
        return call->proxied ? &call->http->proxy_target : &call->server;
}

/*
 * curl's list for CURLOPT_RESOLVE: "host:port:address,[address]". Without '+', so that it never expires in
 * there.
 */
static int http_call_set_addresses(HttpCall *call, const char (*addresses)[46], unsigned n) {
        char text[HTTP_HOST_MAX + 16 + HELPER_ADDRESSES_MAX * 49];
        int at;

        at = snprintf(text, sizeof(text), "%s:%s:", http_call_hop(call)->host, http_call_hop(call)->port);
        for (unsigned i = 0; i < n && at < (int) sizeof(text); i++)
                at += snprintf(text + at, sizeof(text) - (size_t) at,
                        strchr(addresses[i], ':') ? "%s[%s]" : "%s%s", i > 0 ? "," : "", addresses[i]);
        call->addresses = curl_slist_append(NULL, text);
        if (!call->addresses || curl_easy_setopt(call->easy, CURLOPT_RESOLVE, call->addresses) != CURLE_OK)
                return -ENOMEM;
        return 0;
}

/* The trust store. */

static int http_store_load(const char *file, X509_STORE **ret) {
        X509_STORE *store;
        struct stat st;

        if (stat(file, &st) < 0 || access(file, R_OK) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode)) /* a pipe would be waited for */
                return -EBADMSG;
        store = X509_STORE_new();
        if (!store)
                return -ENOMEM;
        if (X509_STORE_load_locations(store, file, NULL) != 1) {
                X509_STORE_free(store);
                return -EBADMSG;
        }
        /* As curl sets its own: a certificate in the bundle is trusted, self-signed or not. */
        (void) X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
        *ret = store;
        return 0;
}

/* A failure is not remembered: the next https request tries again. */
static void http_load_store(Http *http) {
        const char *files[] = {
                http->ca_bundle ? http->ca_bundle : X509_get_default_cert_file(),
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/pki/tls/certs/ca-bundle.crt",
        };

        for (size_t i = 0; i < (http->ca_bundle ? 1 : ELEMENTSOF(files)) && !http->store; i++)
                http->store_error = http_store_load(files[i], &http->store);
}

int http_trust(Http *http, const char **ret_why) {
        if (!http->store)
                http_load_store(http);
        if (http->store)
                return 0;
        *ret_why = http->store_error == -EBADMSG ? "it holds no certificates in PEM form"
                                                 : strerror(-http->store_error);
        return http->store_error;
}

/* curl callbacks. None of them calls back into curl. */

static CURLcode http_on_ssl_ctx(CURL *easy, void *ssl_ctx, void *userdata) {
        const Http *http = userdata;

        (void) easy;
        if (!http->store)
                return CURLE_SSL_CACERT_BADFILE;
        SSL_CTX_set1_cert_store(ssl_ctx, http->store);
        return CURLE_OK;
}

/* The connection stands, tunnel and TLS included; from here on something may arrive at the server. */
static int http_on_connected(void *userdata, char *peer, char *local, int peer_port, int local_port) {
        HttpCall *call = userdata;

        (void) peer;
        (void) local;
        (void) peer_port;
        (void) local_port;
        call->sent = true;
        return CURL_PREREQFUNC_OK;
}

static size_t http_on_body(char *data, size_t size, size_t n, void *userdata) {
        HttpCall *call = userdata;
        size_t wanted;
        char *body;

        (void) size; /* always 1 */
        if (n > call->max_body - call->n_body) {
                call->too_big = true;
                return 0;
        }
        if (call->n_body + n + 1 > call->n_allocated) {
                wanted = call->n_allocated * 2 > call->n_body + n + 1 ? call->n_allocated * 2
                                                                      : call->n_body + n + 1;
                wanted = wanted > HTTP_BODY_FIRST ? wanted : HTTP_BODY_FIRST;
                body = realloc(call->body, wanted);
                if (!body) {
                        call->failed = -ENOMEM;
                        return 0;
                }
                call->body = body;
                call->n_allocated = wanted;
        }
        (void) memcpy(call->body + call->n_body, data, n);
        call->n_body += n;
        call->body[call->n_body] = 0;
        return n;
}

static void http_text_copy(char *to, size_t n_to, const char *text, size_t n) {
        size_t i;

        while (n > 0 && (*text == ' ' || *text == '\t')) {
                text++;
                n--;
        }
        while (n > 0 && strchr(" \t\r\n", text[n - 1]))
                n--;
        for (i = 0; i < n && i < n_to - 1; i++)
                if (text[i] >= ' ' && text[i] <= '~')
                        to[i] = text[i];
                else
                        to[i] = '?';
        to[i] = 0;
}

static size_t http_on_field(char *data, size_t size, size_t n, void *userdata) {
        HttpCall *call = userdata;
        const struct {
                const char *name;
                char *to;
        } fields[] = {
                { "date:", call->answer.date },
                { "x-amzn-requestid:", call->answer.request_id },
                { "x-amz-request-id:", call->answer.request_id },
                { "x-amzn-query-error:", call->answer.query_error },
                { "content-type:", call->answer.content_type },
        };

        (void) size;
        call->n_fields += n;
        if (call->n_fields > HTTP_FIELDS_MAX) {
                call->too_big = true;
                return 0;
        }
        /* A status line: what came before belonged to an interim answer. */
        if (n >= 5 && memcmp(data, "HTTP/", 5) == 0)
                for (size_t i = 0; i < ELEMENTSOF(fields); i++)
                        fields[i].to[0] = 0;
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                size_t n_name = strlen(fields[i].name);

                if (n > n_name && strncasecmp(data, fields[i].name, n_name) == 0 && fields[i].to[0] == 0)
                        http_text_copy(fields[i].to, HTTP_HEADER_MAX, data + n_name, n - n_name);
        }
        return n;
}

static int http_on_socket_event(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Http *http = userdata;
        int running, action = 0;

        (void) source;
        if (events & EPOLLIN)
                action |= CURL_CSELECT_IN;
        if (events & EPOLLOUT)
                action |= CURL_CSELECT_OUT;
        if (events & (EPOLLERR | EPOLLHUP))
                action |= CURL_CSELECT_ERR;
        (void) curl_multi_socket_action(http->multi, fd, action, &running);
        (void) sd_event_source_set_enabled(http->drain, SD_EVENT_ONESHOT);
        return 0;
}

static void http_socket_forget(Http *http, int fd) {
        for (HttpSocket **i = &http->sockets; *i; i = &(*i)->next)
                if ((*i)->fd == fd) {
                        HttpSocket *gone = *i;

                        *i = gone->next;
                        sd_event_source_disable_unref(gone->source);
                        free(gone);
                        return;
                }
}

static int http_on_socket_wanted(CURL *easy, curl_socket_t fd, int what, void *userdata, void *unused) {
        Http *http = userdata;
        HttpSocket *s = http->sockets;
        uint32_t events = 0;

        (void) easy;
        (void) unused;
        if (what == CURL_POLL_REMOVE) {
                http_socket_forget(http, fd);
                return 0;
        }
        if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
                events |= EPOLLIN;
        if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
                events |= EPOLLOUT;

        while (s && s->fd != fd)
                s = s->next;
        if (s)
                return sd_event_source_set_io_events(s->source, events) < 0 ? -1 : 0;

        s = calloc(1, sizeof(*s));
        if (!s)
                return -1;
        s->fd = fd;
        if (sd_event_add_io(http->event, &s->source, fd, events, http_on_socket_event, http) < 0) {
                free(s);
                return -1;
        }
        (void) sd_event_source_set_description(s->source, "http-socket");
        s->next = http->sockets;
        http->sockets = s;
        return 0;
}

static int http_on_timeout_wanted(CURLM *multi, long msec, void *userdata) {
        Http *http = userdata;

        (void) multi;
        if (msec < 0)
                timer_disarm(http->timer);
        else
                (void) timer_arm(http->timer, mono_add(clock_read().mono, SPAN_MSEC(msec)));
        return 0;
}

static void http_on_timer(Timer *timer, Now now, void *userdata) {
        Http *http = userdata;
        int running;

        (void) timer;
        (void) now;
        (void) curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        (void) sd_event_source_set_enabled(http->drain, SD_EVENT_ONESHOT);
}

/*
 * libcurl starts a call's time-out a little before it notes the time that it counts from. If the time-out comes in between,
 * it is not over yet by that time, and libcurl, up to 7.88 at least, never looks again. So we do.
 */
#define HTTP_OVERDUE SPAN_SEC(1)

static void http_guard_arm(Http *http) {
        Mono first = MONO_INFINITE;

        for (const HttpCall *call = http->calls; call; call = call->next)
                if (call->in_multi)
                        first = mono_min(first, call->deadline);
        (void) timer_arm(
                http->guard, first.usec == MONO_INFINITE.usec ? first : mono_add(first, HTTP_OVERDUE));
}

static void http_on_guard(Timer *timer, Now now, void *userdata) {
        Http *http = userdata;
        int running;

        (void) timer;
        (void) curl_multi_perform(http->multi, &running);
        (void) sd_event_source_set_enabled(http->drain, SD_EVENT_ONESHOT);
        /* What has ended is released from the drain, which arms it anew. */
        (void) timer_arm(http->guard, mono_add(now.mono, HTTP_OVERDUE));
}

/* The end of a call. */

/* Takes everything from a call that ties it to the client. */
static void http_call_release(HttpCall *call) {
        Http *http = call->http;

        if (!http)
                return;
        *(call->previous ? &call->previous->next : &http->calls) = call->next;
        if (call->next)
                call->next->previous = call->previous;
        http->n_calls--;
        call->lookup = helper_call_free(call->lookup);
        if (call->in_multi)
                (void) curl_multi_remove_handle(http->multi, call->easy);
        http_guard_arm(http);
        curl_easy_cleanup(call->easy);
        call->easy = NULL;
        curl_slist_free_all(call->headers);
        curl_slist_free_all(call->addresses);
        if (call->directory >= 0)
                (void) close(call->directory);
        call->http = NULL;
}

static int http_connect_error(const HttpCall *call) {
        long error = 0;

        (void) curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &error);
        switch (error) {
        case ECONNREFUSED:
        case ENOENT:
        case EACCES: return (int) -error;
        case EPERM: return -EACCES;
        default: return -EHOSTUNREACH;
        }
}

/*
 * curl has one code for a broken connection, for a body that breaks the rules and for a proxy that says no.
 */
static int http_receive_error(const HttpCall *call) {
        long status = 0;

        (void) curl_easy_getinfo(call->easy, CURLINFO_HTTP_CONNECTCODE, &status);
        if (status >= 300 && !call->sent)
                return -EHOSTUNREACH;
        (void) curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        return status > 0 && call->sent ? -EPROTO : -ECONNRESET;
}

static int http_call_error(const HttpCall *call, CURLcode code) {
        if (call->failed != 0)
                return call->failed;
        if (call->too_big)
                return -E2BIG;
        switch (code) {
        case CURLE_OK: return 0;
        case CURLE_OPERATION_TIMEDOUT: return -ETIMEDOUT;
        case CURLE_COULDNT_CONNECT: return http_connect_error(call);
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY: return -ENXIO;
        case CURLE_PROXY: return -EHOSTUNREACH;
        case CURLE_UNSUPPORTED_PROTOCOL: /* an answer without a status line */
        case CURLE_WEIRD_SERVER_REPLY:
        case CURLE_PARTIAL_FILE: return -EPROTO;
        case CURLE_GOT_NOTHING:
        case CURLE_SEND_ERROR:
        case CURLE_RECV_ERROR: return http_receive_error(call);
        case CURLE_SSL_CONNECT_ERROR:
                /*
                 * Cut off while shaking hands is the network's doing, not a refusal; curl tells by words
                 * only.
                 */
                return strstr(call->words, "SYSCALL") || strstr(call->words, "reset by peer")
                               ? -ECONNRESET
                               : -EKEYREJECTED;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_ISSUER_ERROR: return -EKEYREJECTED;
        case CURLE_OUT_OF_MEMORY: return -ENOMEM;
        default: return -EIO;
        }
}

static void http_call_count(HttpCall *call, HttpStatistics *statistics) {
        curl_off_t up = 0, down = 0;
        long connections = 0, sent = 0, fields = 0;

        (void) curl_easy_getinfo(call->easy, CURLINFO_NUM_CONNECTS, &connections);
        (void) curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &sent);
        (void) curl_easy_getinfo(call->easy, CURLINFO_HEADER_SIZE, &fields);
        (void) curl_easy_getinfo(call->easy, CURLINFO_SIZE_UPLOAD_T, &up);
        (void) curl_easy_getinfo(call->easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
        statistics->requests++;
        statistics->connections += (uint64_t) connections;
        statistics->bytes_sent += (uint64_t) (sent + up);
        statistics->bytes_received += (uint64_t) (fields + down);
}

/* @words: curl's, or our own, for what is neither the proxy's doing nor the bundle's */
static void http_call_describe(const HttpCall *call, const char *words, char *ret, size_t n_ret) {
        const Http *http = call->http;
        const HttpTarget *proxy = &http->proxy_target;
        char text[1024];
        long status = 0;

        (void) curl_easy_getinfo(call->easy, CURLINFO_HTTP_CONNECTCODE, &status);
        if (call->too_big)
                (void) snprintf(text, sizeof(text), "answer is too long");
        else if (!call->proxied || call->sent || call->failed != 0 || (status >= 200 && status < 300))
                (void) snprintf(text, sizeof(text), "%s", words);
        else if (status == 407)
                (void) snprintf(text, sizeof(text), "proxy %s:%s answered 407: %s", proxy->host, proxy->port,
                        http->proxy_login
                                ? "it does not take this user and password"
                                : "it wants a user and a password, as in http://user:password@host:port");
        else if (status > 0)
                (void) snprintf(text, sizeof(text), "proxy %s:%s answered %ld to CONNECT %s:%s", proxy->host,
                        proxy->port, status, call->server.host, call->server.port);
        else
                (void) snprintf(text, sizeof(text), "proxy %s:%s: %s", proxy->host, proxy->port, words);
        http_text_copy(ret, n_ret, text, strlen(text));
}

/* Answers a call. The last thing that a handler does, for the callback may free the call, or the client. */
static void http_call_finish(HttpCall *call, CURLcode code) {
        _cleanup_(freep) char *body = NULL;
        HttpAnswer answer = call->answer;
        size_t n_allocated = call->n_allocated;
        HttpHost *host = http_host_find(call->http, http_call_hop(call)->host);
        const char *words = call->words[0] != 0 ? call->words : curl_easy_strerror(code);
        long status = 0;

        answer.error = http_call_error(call, code);
        answer.sent = call->sent;
        answer.took = mono_since(clock_read().mono, call->start);
        (void) curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        if (answer.error == 0 && status < 100)
                answer.error = -EPROTO;
        if (answer.error == 0)
                answer.status = (unsigned) status;
        else
                http_call_describe(call, words, answer.detail, sizeof(answer.detail));
        if (answer.error != 0 && !answer.sent && host)
                host->suspect = true;
        http_call_count(call, &call->http->statistics);

        body = steal_ptr(call->body);
        answer.body = body ? body : "";
        answer.n_body = call->n_body;
        http_call_release(call);
        call->done(&answer, call->userdata);
        /* It may have held credentials. */
        if (body)
                OPENSSL_cleanse(body, n_allocated);
}

static int http_on_drain(sd_event_source *source, void *userdata) {
        Http *http = userdata;
        HttpCall *call = http->calls;
        CURLcode code = CURLE_OK;
        CURLMsg *message;
        int left;

        while (call && (call->failed == 0 || call->in_multi))
                call = call->next;
        if (!call) {
                do
                        message = curl_multi_info_read(http->multi, &left);
                while (message && message->msg != CURLMSG_DONE);
                if (!message)
                        return 0;
                code = message->data.result;
                (void) curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
        }
        /* There may be more, but only one callback per wake-up. */
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        http_call_finish(call, code);
        return 0;
}

/* The start of a call. */

__attribute__((format(printf, 3, 4))) static void http_call_fail(
        HttpCall *call, int error, const char *format, ...) {
        va_list list;

        va_start(list, format);
        (void) vsnprintf(call->words, sizeof(call->words), format, list);
        va_end(list);
        call->failed = error;
        (void) sd_event_source_set_enabled(call->http->drain, SD_EVENT_ONESHOT);
}

static void http_call_run(HttpCall *call) {
        int64_t msec = mono_since(call->deadline, clock_read().mono) / 1000;

        if (curl_easy_setopt(call->easy, CURLOPT_TIMEOUT_MS, (long) (msec > 0 ? msec : 1)) != CURLE_OK ||
                curl_multi_add_handle(call->http->multi, call->easy) != CURLM_OK) {
                http_call_fail(call, -ENOMEM, "cannot start the transfer");
                return;
        }
        call->in_multi = true;
        http_guard_arm(call->http);
}

static void http_call_run_at(HttpCall *call, const char (*addresses)[46], unsigned n) {
        if (http_call_set_addresses(call, addresses, n) < 0)
                http_call_fail(call, -ENOMEM, "out of memory");
        else
                http_call_run(call);
}

static const char *http_lookup_problem(int error) {
        switch (error) {
        case -ENXIO: return "it does not exist";
        case -ETIMEDOUT: return "no answer in time";
        case -EBUSY: return "too many questions wait";
        default: return "the resolver failed";
        }
}

/* No new addresses: the last good ones may do. */
static void http_call_run_at_old(HttpCall *call, int error) {
        const HttpTarget *hop = http_call_hop(call);
        HttpHost *host = http_host_find(call->http, hop->host);

        if (!host) {
                http_call_fail(call,
                        error == -ENXIO    ? -ENXIO
                        : error == -ENOMEM ? -ENOMEM
                                           : -EHOSTUNREACH,
                        "cannot resolve %s%s: %s", call->proxied ? "the proxy " : "", hop->host,
                        http_lookup_problem(error));
                return;
        }
        host->used = loop_now(call->http->event).mono;
        http_call_run_at(call, (const char(*)[46]) host->addresses, host->n_addresses);
}

static void http_on_lookup(const HelperAnswer *answer, void *userdata) {
        HttpCall *call = userdata;

        call->lookup = helper_call_free(call->lookup);
        if (answer->error != 0) {
                http_call_run_at_old(call, answer->error);
                return;
        }
        http_host_remember(call->http, http_call_hop(call)->host, answer, loop_now(call->http->event).mono);
        http_call_run_at(call, (const char(*)[46]) answer->addresses, answer->n_addresses);
}

static void http_call_look_up(HttpCall *call, Span timeout) {
        static const char loopback[][46] = { "127.0.0.1" };
        Http *http = call->http;
        const char *name = http_call_hop(call)->host;
        HttpHost *host = http_host_find(http, name);
        HttpAddress address;
        int r;

        if (http_address_parse(name, &address)) {
                http_call_run(call);
                return;
        }
        if (http_name_is_localhost(name)) {
                http_call_run_at(call, loopback, 1);
                return;
        }
        if (host && !host->suspect && mono_since(call->start, host->resolved) < HTTP_HOST_FRESH) {
                host->used = call->start;
                http_call_run_at(call, (const char(*)[46]) host->addresses, host->n_addresses);
                return;
        }
        r = helper_resolve(http->helper, name, span_min(timeout / 2, HTTP_LOOKUP_MAX), http_on_lookup, call,
                &call->lookup);
        if (r < 0)
                http_call_run_at_old(call, r);
}

/* Sets an option and keeps the first failure in a variable called r. */
#define HTTP_SET(option, value)                                                                             \
        do {                                                                                                \
                if (r == CURLE_OK)                                                                          \
                        r = curl_easy_setopt(call->easy, (option), (value));                                \
        } while (0)

static CURLcode http_call_set_client(HttpCall *call, const HttpRequest *request) {
        CURLcode r = CURLE_OK;

        HTTP_SET(CURLOPT_PRIVATE, call);
        HTTP_SET(CURLOPT_ERRORBUFFER, call->words);
        HTTP_SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
        HTTP_SET(CURLOPT_QUICK_EXIT, 1L);
        HTTP_SET(CURLOPT_BUFFERSIZE, HTTP_BUFFER);
#endif
#if LIBCURL_VERSION_NUM >= 0x075500
        HTTP_SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
        HTTP_SET(CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
        HTTP_SET(CURLOPT_FOLLOWLOCATION, 0L);
        /* Of version 2 we would use nothing, and it may send a request anew by itself. */
        HTTP_SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
        HTTP_SET(CURLOPT_USERAGENT, call->http->user_agent);
        HTTP_SET(CURLOPT_WRITEFUNCTION, http_on_body);
        HTTP_SET(CURLOPT_WRITEDATA, call);
        HTTP_SET(CURLOPT_HEADERFUNCTION, http_on_field);
        HTTP_SET(CURLOPT_HEADERDATA, call);
        HTTP_SET(CURLOPT_PREREQFUNCTION, http_on_connected);
        HTTP_SET(CURLOPT_PREREQDATA, call);
        HTTP_SET(CURLOPT_FRESH_CONNECT, request->fresh ? 1L : 0L);
        HTTP_SET(CURLOPT_FORBID_REUSE, request->fresh ? 1L : 0L);
        return r;
}

static CURLcode http_call_set_tls(HttpCall *call, const HttpRequest *request) {
        CURLcode r = CURLE_OK;

        HTTP_SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
        /* Or curl would read its own bundle for each connection, next to the store that it is given. */
        HTTP_SET(CURLOPT_CAINFO, NULL);
        HTTP_SET(CURLOPT_CAPATH, NULL);
        HTTP_SET(CURLOPT_PROXY_CAINFO, NULL);
        HTTP_SET(CURLOPT_PROXY_CAPATH, NULL);
        if (request->any_certificate) {
                HTTP_SET(CURLOPT_SSL_VERIFYPEER, 0L);
                HTTP_SET(CURLOPT_SSL_VERIFYHOST, 0L);
        } else {
                HTTP_SET(CURLOPT_SSL_VERIFYPEER, 1L);
                HTTP_SET(CURLOPT_SSL_VERIFYHOST, 2L);
                HTTP_SET(CURLOPT_SSL_CTX_FUNCTION, http_on_ssl_ctx);
                HTTP_SET(CURLOPT_SSL_CTX_DATA, call->http);
        }
        return r;
}

static CURLcode http_call_set_route(HttpCall *call, const HttpRequest *request) {
        const Http *http = call->http;
        const HttpTarget *target = &call->server;
        CURLcode r = CURLE_OK;

        call->proxied = http->proxy && target->tls && !request->no_proxy && !request->unix_socket &&
                        !http_host_is_local(target->host) && !http_no_proxy_matches(http->no_proxy, target);
        /* An empty text, unlike none, keeps curl from looking into the environment. */
        HTTP_SET(CURLOPT_PROXY, call->proxied ? http->proxy : "");
        HTTP_SET(CURLOPT_NOPROXY, call->proxied ? "" : "*");
        HTTP_SET(CURLOPT_PROXYUSERPWD, call->proxied ? http->proxy_login : NULL);
        HTTP_SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
        return r;
}

static int http_call_set_unix_socket(HttpCall *call, const char *path) {
        struct sockaddr_un address;
        char directory[4096], shortened[sizeof(address.sun_path)];
        const char *slash = strrchr(path, '/');
        CURLcode r = CURLE_OK;
        size_t n;

        if (strlen(path) < sizeof(address.sun_path)) {
                HTTP_SET(CURLOPT_UNIX_SOCKET_PATH, path);
                return r == CURLE_OK ? 0 : -ENOMEM;
        }

        /* Too long for a socket address: name it relative to a descriptor of its directory. */
        n = slash ? (size_t) (slash - path) : 0;
        if (n == 0 || n >= sizeof(directory))
                return -ENAMETOOLONG;
        (void) memcpy(directory, path, n);
        directory[n] = 0;
        call->directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (call->directory < 0)
                return -errno;
        n = (size_t) snprintf(shortened, sizeof(shortened), "/proc/self/fd/%d%s", call->directory, slash);
        if (n >= sizeof(shortened))
                return -ENAMETOOLONG;
        HTTP_SET(CURLOPT_UNIX_SOCKET_PATH, shortened);
        /* The same text may stand for another directory next time. */
        HTTP_SET(CURLOPT_FRESH_CONNECT, 1L);
        HTTP_SET(CURLOPT_FORBID_REUSE, 1L);
        return r == CURLE_OK ? 0 : -ENOMEM;
}

static int http_call_add_header(HttpCall *call, const char *text) {
        struct curl_slist *list;

        /* A line break in a value, which may come from outside, would be a header of its own. */
        for (const char *c = text; *c; c++)
                if (((unsigned char) *c < ' ' && *c != '\t') || *c == 0x7f)
                        return -EINVAL;
        list = curl_slist_append(call->headers, text);
        if (!list)
                return -ENOMEM;
        call->headers = list;
        return 0;
}

static int http_call_set_headers(HttpCall *call, const HttpRequest *request) {
        bool typed = false;
        int r;

        for (const char *const *i = request->headers; i && *i; i++) {
                typed = typed || strncasecmp(*i, "content-type:", 13) == 0;
                r = http_call_add_header(call, *i);
                if (r < 0)
                        return r;
        }
        /* An empty value takes away what curl would add by itself. */
        r = http_call_add_header(call, "Expect:");
        if (r == 0 && !typed)
                r = http_call_add_header(call, "Content-Type:");
        if (r == 0 && curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers) != CURLE_OK)
                r = -ENOMEM;
        return r;
}

static CURLcode http_call_set_body(HttpCall *call, const HttpRequest *request) {
        CURLcode r = CURLE_OK;

        if (strcmp(request->method, "HEAD") == 0)
                HTTP_SET(CURLOPT_NOBODY, 1L);
        else if (request->body || strcmp(request->method, "GET") != 0) {
                HTTP_SET(CURLOPT_POST, 1L);
                HTTP_SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) (request->body ? request->n_body : 0));
                HTTP_SET(CURLOPT_COPYPOSTFIELDS, request->body ? (const char *) request->body : "");
                HTTP_SET(CURLOPT_CUSTOMREQUEST, request->method);
        }
        return r;
}

static int http_call_set_all(HttpCall *call, const HttpRequest *request) {
        CURLcode r;
        int k;

        r = http_call_set_client(call, request);
        if (r == CURLE_OK)
                r = http_call_set_tls(call, request);
        if (r == CURLE_OK)
                r = http_call_set_route(call, request);
        if (r == CURLE_OK)
                r = http_call_set_body(call, request);
        HTTP_SET(CURLOPT_URL, request->url);
        if (r != CURLE_OK)
                return r == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
        k = http_call_set_headers(call, request);
        if (k == 0 && request->unix_socket)
                k = http_call_set_unix_socket(call, request->unix_socket);
        return k;
}

#undef HTTP_SET

int http_call(Http *http, const HttpRequest *request, HttpDone done, void *userdata, HttpCall **ret) {
        _cleanup_(http_call_freep) HttpCall *call = NULL;
        HttpTarget target;
        const char *why;
        int r;

        assert(request->timeout > 0);
        assert(done);

        if (http->n_calls >= HTTP_CALLS_MAX)
                return -EBUSY;
        r = http_target_parse(request->url, &target);
        if (r < 0)
                return r;
        call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        call->directory = -1;
        call->easy = curl_easy_init();
        if (!call->easy)
                return -ENOMEM;
        call->http = http;
        call->next = http->calls;
        if (call->next)
                call->next->previous = call;
        http->calls = call;
        http->n_calls++;
        call->done = done;
        call->userdata = userdata;
        call->max_body = request->max_body;
        call->start = loop_now(http->event).mono;
        call->deadline = mono_add(call->start, request->timeout);

        call->server = target;
        r = http_call_set_all(call, request);
        if (r < 0)
                return r;
        if (target.tls && !request->any_certificate && http_trust(http, &why) < 0)
                http_call_fail(call, -EKEYREJECTED, "no certificate can be checked: CA bundle %s: %s",
                        http->ca_bundle ? http->ca_bundle : "of the system", why);
        else if (request->unix_socket)
                http_call_run(call);
        else
                http_call_look_up(call, request->timeout);

        *ret = steal_ptr(call);
        return 0;
}

HttpCall *http_call_free(HttpCall *call) {
        if (!call)
                return NULL;
        http_call_release(call);
        if (call->body)
                OPENSSL_cleanse(call->body, call->n_allocated);
        free(call->body);
        free(call);
        return NULL;
}

/* The client. */

static int http_copy_text(const char *text, char **ret) {
        if (!text || *text == 0)
                return 0;
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

static void http_text_wipe(char *text) {
        if (text)
                OPENSSL_cleanse(text, strlen(text));
        free(text);
}

/*
 * Takes user and password out of @url: curl quotes a proxy's address in some of its error texts. They stay
 * percent-encoded, as CURLOPT_PROXYUSERPWD wants them.
 */
static int http_take_login(Http *http, CURLU *url) {
        char *user = NULL, *password = NULL;
        int r = 0;

        (void) curl_url_get(url, CURLUPART_USER, &user, 0);
        (void) curl_url_get(url, CURLUPART_PASSWORD, &password, 0);
        if (user && asprintf(&http->proxy_login, "%s:%s", user, password ? password : "") < 0) {
                http->proxy_login = NULL;
                r = -ENOMEM;
        }
        if (password)
                OPENSSL_cleanse(password, strlen(password));
        curl_free(user);
        curl_free(password);
        if (curl_url_set(url, CURLUPART_USER, NULL, 0) != CURLUE_OK ||
                curl_url_set(url, CURLUPART_PASSWORD, NULL, 0) != CURLUE_OK)
                r = -ENOMEM;
        return r;
}

static int http_set_proxy(Http *http, const char *text) {
        _cleanup_(http_url_freep) CURLU *url = curl_url();
        _cleanup_(freep) char *whole = NULL;
        char *bare = NULL;
        int r;

        if (!text || *text == 0)
                return 0;
        if (!url || asprintf(&whole, "%s%s", strstr(text, "://") ? "" : "http://", text) < 0)
                return -ENOMEM;
        r = curl_url_set(url, CURLUPART_URL, whole, 0) == CURLUE_OK
                    ? http_url_target(url, &http->proxy_target)
                    : -EINVAL;
        OPENSSL_cleanse(whole, strlen(whole));
        if (r == 0)
                r = http_take_login(http, url);
        if (r < 0)
                return r;
        /* With the port written out, for curl's own default for proxies is 1080. */
        if (curl_url_get(url, CURLUPART_URL, &bare, CURLU_DEFAULT_PORT) != CURLUE_OK)
                return -ENOMEM;
        r = http_copy_text(bare, &http->proxy);
        curl_free(bare);
        return r;
}

static int http_set_options(Http *http, const HttpOptions *options) {
        int r;

        r = http_copy_text(options->ca_bundle, &http->ca_bundle);
        if (r == 0)
                r = http_copy_text(options->user_agent, &http->user_agent);
        if (r == 0)
                r = http_copy_text(options->no_proxy, &http->no_proxy);
        if (r == 0)
                r = http_set_proxy(http, options->https_proxy);
        return r;
}

static int http_open_multi(Http *http) {
        CURLM *multi = http->multi = curl_multi_init();

        if (!multi)
                return -ENOMEM;
        if (curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, http_on_socket_wanted) != CURLM_OK ||
                curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http) != CURLM_OK ||
                curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, http_on_timeout_wanted) != CURLM_OK ||
                curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http) != CURLM_OK ||
                curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, HTTP_IDLE_CONNECTIONS) != CURLM_OK ||
                curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING) != CURLM_OK)
                return -EOPNOTSUPP;
        return 0;
}

int http_new(Http **ret, sd_event *event, Helper *helper, const HttpOptions *options) {
        _cleanup_(http_freep) Http *http = NULL;
        int r;

        http = calloc(1, sizeof(*http));
        if (!http)
                return -ENOMEM;
        http->event = sd_event_ref(event);
        http->helper = helper;
        if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
                return -ENOMEM;
        (void) signal(SIGPIPE, SIG_IGN);
        r = http_set_options(http, options);
        if (r < 0)
                return r;
        r = timer_new(&http->timer, event, "http-timer", SPAN_MSEC(5), http_on_timer, http);
        if (r < 0)
                return r;
        r = timer_new(&http->guard, event, "http-guard", SPAN_MSEC(200), http_on_guard, http);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &http->drain, http_on_drain, http);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(http->drain, "http-drain");
        r = sd_event_source_set_enabled(http->drain, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = http_open_multi(http);
        if (r < 0)
                return r;

        *ret = steal_ptr(http);
        return 0;
}

Http *http_free(Http *http) {
        if (!http)
                return NULL;
        while (http->calls)
                http_call_release(http->calls);
        /*
         * Closes the idle connections, and so still calls http_on_socket_wanted() and
         * http_on_timeout_wanted().
         */
        if (http->multi)
                (void) curl_multi_cleanup(http->multi);
        while (http->sockets)
                http_socket_forget(http, http->sockets->fd);
        sd_event_source_disable_unref(http->drain);
        timer_free(http->timer);
        timer_free(http->guard);
        X509_STORE_free(http->store);
        free(http->ca_bundle);
        free(http->user_agent);
        free(http->no_proxy);
        free(http->proxy);
        http_text_wipe(http->proxy_login);
        sd_event_unref(http->event);
        curl_global_cleanup();
        free(http);
        return NULL;
}

void http_statistics(const Http *http, HttpStatistics *ret) {
        *ret = http->statistics;
}
