/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * HTTP client: libcurl's multi interface on sd-event, for TCP, TLS and Unix sockets.
 *
 * Names are resolved by the helper process and handed to curl (whose own resolver would block the loop); the last
 * good addresses are kept and used when the resolver fails. The CA store is parsed once per client. Connections are
 * kept alive. No redirect is followed, no cookie kept, only http and https spoken. Loopback and link-local addresses
 * never see a proxy.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/helper.h"

#define HTTP_CALLS_MAX 64 /* under way at a time; each has at most one connection */

typedef struct Http Http;
typedef struct HttpCall HttpCall;

/** What a client is made with. Texts are copied. */
typedef struct HttpOptions {
        const char *ca_bundle;   /* PEM file; NULL: the system's */
        const char *https_proxy; /* URL or host:port, may hold user:password; NULL: none */
        const char *no_proxy;    /* comma-separated, as in NO_PROXY; NULL: none */
        const char *user_agent;
} HttpOptions;

/** One request. Everything is copied before http_call() returns. */
typedef struct HttpRequest {
        const char *method; /* "GET", "PUT", "POST", "HEAD" */
        const char *url;    /* http:// or https:// */
        const char
                *unix_socket; /* path: talk over this socket instead of TCP; longer than 107 bytes works */
        const char *const *headers; /* "Name: value", ended by NULL; or NULL */
        const void *body;           /* NULL: none */
        size_t n_body;
        Span timeout;         /* total, name resolution included; must be > 0 */
        size_t max_body;      /* a longer answer ends the call with -E2BIG */
        bool no_proxy;        /* never through a proxy */
        bool fresh;           /* on a new connection that is closed afterwards */
        bool any_certificate; /* accept any server certificate; only for the path witness, which sends nothing */
} HttpRequest;

#define HTTP_HEADER_MAX 256

/** What came of a request. Lent for the length of the callback. */
typedef struct HttpAnswer {
        /* 0: an answer came whole, whatever its status. Else: -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH (no address,
         * connecting failed, or the proxy says no), -ENXIO (name unknown), -EPROTO (not HTTP, or cut short), -E2BIG, -EKEYREJECTED (TLS
         * refused), -ECONNRESET, -ENOENT (no such Unix socket), -EACCES, -ENOMEM, -EIO for the rest. */
        int error;
        /* How far it got: a request of which nothing was sent cannot have had an effect. */
        bool sent;
        unsigned status;  /* e.g. 200; 0 with an error */
        const char *body; /* NUL-terminated for convenience */
        size_t n_body;
        char date[HTTP_HEADER_MAX];        /* header fields, "" when absent */
        char request_id[HTTP_HEADER_MAX];  /* x-amzn-requestid, or x-amz-request-id */
        char query_error[HTTP_HEADER_MAX]; /* x-amzn-query-error */
        char content_type[HTTP_HEADER_MAX];
        char detail
                [256]; /* on an error: curl's words, or what the proxy or the CA bundle is at fault of; for a log */
        Span took;
} HttpAnswer;

typedef void (*HttpDone)(const HttpAnswer *answer, void *userdata);

/**
 * http_new() - @helper is borrowed and must outlive the client
 *
 * Has SIGPIPE ignored from here on: OpenSSL writes with write(), and curl shields us from that only when it may use
 * signals itself.
 * Return: 0; -EINVAL for a proxy that is no http:// or https:// address; -EOPNOTSUPP if libcurl lacks something;
 * -ENOMEM.
 */
int http_new(Http **ret, sd_event *event, Helper *helper, const HttpOptions *options);
Http *http_free(Http *http); /* cancels every call */

/**
 * http_trust() - load the CA bundle now, as the first https request would
 * @ret_why: set on failure, to words that go after the bundle's name
 *
 * To be able to complain at once: until it can be loaded, every https request fails with -EKEYREJECTED, and tries again.
 * Return: 0; -EBADMSG if the file holds no PEM certificate; what stat() or access() say; -ENOMEM.
 */
int http_trust(Http *http, const char **ret_why);
DEFINE_CLEANUP(Http, http_free)

/**
 * http_call() - start a request
 * @ret: set on success only; to be freed by the caller, in @done at the earliest
 *
 * @done is called exactly once, from the event loop and never from within this function, unless the call is freed
 * first. It may free its call and start others.
 * Return: 0; -EINVAL for a bad URL or header; -EBUSY beyond HTTP_CALLS_MAX; -ENAMETOOLONG, or what open() says of its
 * directory, for a Unix socket; -ENOMEM.
 */
int http_call(Http *http, const HttpRequest *request, HttpDone done, void *userdata, HttpCall **ret);
/** http_call_free() - free and, if it is under way, cancel: its callback is never called */
HttpCall *http_call_free(HttpCall *call);
DEFINE_CLEANUP(HttpCall, http_call_free)

/** Bytes and requests since the start, for status and bench. */
typedef struct HttpStatistics {
        uint64_t requests, connections, bytes_sent, bytes_received;
} HttpStatistics;
void http_statistics(const Http *http, HttpStatistics *ret);
