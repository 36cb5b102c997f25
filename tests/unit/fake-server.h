/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A scripted server on loopback, in threads of the test program: TCP, TLS with a certificate made on the
 * spot, or a Unix socket. It reads whole requests and hands each to the test's handler, which writes what it
 * likes, byte by byte if need be.
 */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FAKE_CONNECTIONS_MAX 256
#define FAKE_REQUEST_MAX     65536

typedef struct FakeServer FakeServer;

typedef struct FakeConnection {
        FakeServer *server;
        int fd;
        SSL *tls;
        unsigned n; /* requests on this connection, this one included */
        pthread_t thread;
} FakeConnection;

/*
 * @request: head and body, NUL-terminated. Return: whether to keep the connection. Runs in a thread of its
 * own.
 */
typedef bool (*FakeHandler)(FakeConnection *connection, const char *request);

struct FakeServer {
        int fd, stop;
        unsigned port;
        SSL_CTX *tls;
        FakeHandler handler;
        void *userdata;
        atomic_uint accepts, requests;
        pthread_t thread;
        pthread_mutex_t lock; /* of the connections' descriptors, while they are closed */
        FakeConnection connections[FAKE_CONNECTIONS_MAX];
        char last[FAKE_REQUEST_MAX]; /* the last request; to be read when nothing is under way */
        char url[64];
};

static inline void fake_send_n(FakeConnection *c, const char *data, size_t n) {
        while (n > 0) {
                ssize_t sent =
                        c->tls ? SSL_write(c->tls, data, (int) n) : send(c->fd, data, n, MSG_NOSIGNAL);

                if (sent <= 0)
                        return;
                data += sent;
                n -= (size_t) sent;
        }
}

static inline void fake_send(FakeConnection *c, const char *text) {
        fake_send_n(c, text, strlen(text));
}

/* A whole, well-formed answer. @fields: "Name: value\r\n" each, or "" */
static inline void fake_answer(FakeConnection *c, unsigned status, const char *fields, const char *body) {
        char head[4096];

        (void) snprintf(head, sizeof(head), "HTTP/1.1 %u Status\r\n%sContent-Length: %zu\r\n\r\n", status,
                fields, strlen(body));
        fake_send(c, head);
        fake_send(c, body);
}

static inline ssize_t fake_read(FakeConnection *c, char *to, size_t n) {
        return c->tls ? SSL_read(c->tls, to, (int) n) : recv(c->fd, to, n, 0);
}

/* Never answers: comes back when the client has given up. */
static inline bool fake_hang(FakeConnection *c) {
        char byte;

        while (fake_read(c, &byte, 1) > 0)
                ;
        return false;
}

/* Closes with a reset instead of an orderly end. */
static inline bool fake_reset(FakeConnection *c) {
        struct linger linger = { .l_onoff = 1 };

        (void) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        return false;
}

static inline bool fake_read_request(FakeConnection *c, char *request) {
        size_t n = 0, wanted = 0;

        for (;;) {
                char *end, *length;
                ssize_t k;

                if (n >= FAKE_REQUEST_MAX - 1)
                        return false;
                k = fake_read(c, request + n, wanted > 0 ? wanted - n : 1);
                if (k <= 0)
                        return false;
                n += (size_t) k;
                request[n] = 0;
                if (wanted == 0) {
                        end = strstr(request, "\r\n\r\n");
                        if (!end)
                                continue;
                        length = strcasestr(request, "\r\nContent-Length:");
                        wanted = n + (length ? strtoul(length + 17, NULL, 10) : 0);
                        if (wanted >= FAKE_REQUEST_MAX)
                                return false;
                }
                if (n >= wanted)
                        return true;
        }
}

static inline void *fake_serve(void *userdata) {
        FakeConnection *c = userdata;
        char *request = malloc(FAKE_REQUEST_MAX);

        if (c->server->tls) {
                c->tls = SSL_new(c->server->tls);
                (void) SSL_set_fd(c->tls, c->fd);
                if (SSL_accept(c->tls) != 1)
                        goto finish;
        }
        while (fake_read_request(c, request)) {
                (void) memcpy(c->server->last, request, strlen(request) + 1);
                c->n++;
                c->server->requests++;
                if (!c->server->handler(c, request))
                        break;
        }
finish:
        if (c->tls)
                (void) SSL_shutdown(c->tls);
        SSL_free(c->tls);
        (void) pthread_mutex_lock(&c->server->lock);
        (void) close(c->fd);
        c->fd = -1;
        (void) pthread_mutex_unlock(&c->server->lock);
        free(request);
        return NULL;
}

static inline void *fake_accept(void *userdata) {
        FakeServer *server = userdata;
        struct pollfd polls[] = { { .fd = server->stop, .events = POLLIN },
                { .fd = server->fd, .events = POLLIN } };

        while (server->accepts < FAKE_CONNECTIONS_MAX) {
                FakeConnection *c = &server->connections[server->accepts];

                (void) poll(polls, 2, -1);
                if (polls[0].revents)
                        break;
                c->fd = accept(server->fd, NULL, NULL);
                if (c->fd < 0)
                        break;
                c->server = server;
                server->accepts++;
                if (pthread_create(&c->thread, NULL, fake_serve, c) != 0)
                        abort();
        }
        return NULL;
}

/* A self-signed certificate for "localhost" and "good.test"; written to @path as PEM. */
static inline SSL_CTX *fake_tls(const char *path) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *certificate = X509_new();
        X509_NAME *name = X509_get_subject_name(certificate);
        X509_EXTENSION *names =
                X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost,DNS:good.test");
        FILE *f = fopen(path, "we");

        if (!ctx || !key || !f)
                abort();
        (void) X509_set_version(certificate, 2);
        (void) ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
        (void) X509_gmtime_adj(X509_getm_notBefore(certificate), -86400);
        (void) X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
        (void) X509_NAME_add_entry_by_txt(
                name, "CN", MBSTRING_ASC, (const unsigned char *) "fake", -1, -1, 0);
        (void) X509_set_issuer_name(certificate, name);
        (void) X509_set_pubkey(certificate, key);
        (void) X509_add_ext(certificate, names, -1);
        (void) X509_sign(certificate, key, EVP_sha256());
        (void) PEM_write_X509(f, certificate);
        (void) fclose(f);
        (void) SSL_CTX_use_certificate(ctx, certificate);
        (void) SSL_CTX_use_PrivateKey(ctx, key);
        X509_EXTENSION_free(names);
        X509_free(certificate);
        EVP_PKEY_free(key);
        return ctx;
}

/*
 * @unix_path: listen there instead of on TCP, or NULL. @pem: speak TLS and write the certificate there, or
 * NULL.
 */
static inline FakeServer *fake_start(
        FakeHandler handler, void *userdata, const char *unix_path, const char *pem) {
        FakeServer *server = calloc(1, sizeof(*server));
        struct sockaddr_in tcp = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct sockaddr_un local = { .sun_family = AF_UNIX };
        socklen_t n = sizeof(tcp);
        int r;

        (void) signal(SIGPIPE, SIG_IGN);
        (void) pthread_mutex_init(&server->lock, NULL);
        server->handler = handler;
        server->userdata = userdata;
        server->stop = eventfd(0, EFD_CLOEXEC);
        server->fd = socket(unix_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (unix_path) {
                if (strlen(unix_path) >= sizeof(local.sun_path))
                        abort();
                (void) memcpy(local.sun_path, unix_path, strlen(unix_path));
                r = bind(server->fd, (const struct sockaddr *) &local, sizeof(local));
        } else
                r = bind(server->fd, (const struct sockaddr *) &tcp, sizeof(tcp));
        if (r < 0 || listen(server->fd, 64) < 0)
                abort();
        if (!unix_path && getsockname(server->fd, (struct sockaddr *) &tcp, &n) < 0)
                abort();
        server->port = ntohs(tcp.sin_port);
        (void) snprintf(server->url, sizeof(server->url), "%s:%u",
                pem ? "https://localhost" : "http://127.0.0.1", server->port);
        if (pem)
                server->tls = fake_tls(pem);
        if (pthread_create(&server->thread, NULL, fake_accept, server) != 0)
                abort();
        return server;
}

static inline void fake_stop(FakeServer *server) {
        uint64_t one = 1;

        if (write(server->stop, &one, sizeof(one)) != (ssize_t) sizeof(one))
                abort();
        (void) pthread_join(server->thread, NULL);
        (void) close(server->fd);
        (void) pthread_mutex_lock(&server->lock);
        for (unsigned i = 0; i < server->accepts; i++)
                if (server->connections[i].fd >= 0)
                        (void) shutdown(server->connections[i].fd, SHUT_RDWR);
        (void) pthread_mutex_unlock(&server->lock);
        for (unsigned i = 0; i < server->accepts; i++)
                (void) pthread_join(server->connections[i].thread, NULL);
        (void) close(server->stop);
        (void) pthread_mutex_destroy(&server->lock);
        SSL_CTX_free(server->tls);
        free(server);
}

/*
 * A port on loopback where nobody listens; the socket is bound but not listening, and to be closed by the
 * caller.
 */
static inline int fake_closed_port(unsigned *ret_port) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (bind(fd, (const struct sockaddr *) &address, n) < 0 ||
                getsockname(fd, (struct sockaddr *) &address, &n) < 0)
                abort();
        *ret_port = ntohs(address.sin_port);
        return fd;
}
