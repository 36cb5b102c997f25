/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Signature Version 4. Texts are built in fixed buffers: a request that does not fit is refused, and signing
 * needs no memory but OpenSSL's.
 */

#include "common/aws-sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/parse.h"

#define HASH_SIZE      32 /* SHA-256 */
#define HEADERS_MAX    64
#define PARAMETERS_MAX 128
#define SECRET_MAX     256
#define ALGORITHM      "AWS4-HMAC-SHA256"

/* A buffer that is appended to. What does not fit only sets @full. */
typedef struct Text {
        char *at;
        size_t n, size;
        bool full;
} Text;

static Text text_over(char *buffer, size_t size) {
        buffer[0] = '\0';
        return (Text){ .at = buffer, .size = size };
}

static void text_add(Text *text, const char *bytes, size_t n) {
        if (text->full || n >= text->size - text->n) {
                text->full = true;
                return;
        }
        memcpy(text->at + text->n, bytes, n);
        text->n += n;
        text->at[text->n] = '\0';
}

static void text_puts(Text *text, const char *string) {
        text_add(text, string, strlen(string));
}

static void text_putc(Text *text, char c) {
        text_add(text, &c, 1);
}

static bool is_unreserved(char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
               c == '_' || c == '.' || c == '~';
}

/* Percent-encode one byte where it must be. */
static void text_encode(Text *text, char c) {
        static const char digits[] = "0123456789ABCDEF";
        const unsigned char byte = (unsigned char) c;

        if (is_unreserved(c))
                text_putc(text, c);
        else
                text_add(text, (const char[]){ '%', digits[byte >> 4], digits[byte & 15] }, 3);
}

static void text_hex(Text *text, const unsigned char *bytes, size_t n) {
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < n; i++)
                text_add(text, (const char[]){ digits[bytes[i] >> 4], digits[bytes[i] & 15] }, 2);
}

static int sha256_hex(const void *data, size_t n, char ret[static 65]) {
        unsigned char hash[HASH_SIZE];
        Text text = text_over(ret, 65);

        if (EVP_Q_digest(NULL, "SHA256", NULL, data ? data : "", n, hash, NULL) != 1)
                return -EIO;
        text_hex(&text, hash, sizeof(hash));
        return 0;
}

static int hmac(const void *key, size_t n_key, const char *data, unsigned char ret[static HASH_SIZE]) {
        size_t n = 0;

        if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key, n_key, (const unsigned char *) data,
                    strlen(data), ret, HASH_SIZE, &n) ||
                n != HASH_SIZE)
                return -EIO;
        return 0;
}

/* An escape in the path is encoded once more, as all services but S3 want it. */
static void add_path(Text *text, const char *path, bool normalize) {
        const size_t start = text->n, n = strlen(path);

        while (*path) {
                const size_t segment = strcspn(path, "/");

                if (normalize && segment == 2 && memcmp(path, "..", 2) == 0) {
                        while (text->n > start && text->at[--text->n] != '/')
                                ;
                } else if (!normalize || (segment > 0 && (segment != 1 || *path != '.'))) {
                        if (normalize)
                                text_putc(text, '/');
                        for (size_t i = 0; i < segment; i++)
                                text_encode(text, path[i]);
                }
                path += segment;
                if (*path == '/') {
                        if (!normalize)
                                text_putc(text, '/');
                        path++;
                }
        }
        if (text->n == start || (normalize && n > 0 && path[-1] == '/'))
                text_putc(text, '/');
}

static int hex_value(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
                return (c | 0x20) - 'a' + 10;
        return -1;
}

/*
 * Encode anew what may be encoded already. The NUL behind it becomes part of @text, so that it can be
 * pointed to.
 */
static const char *add_component(Text *text, const char *from, size_t n) {
        const char *start = text->at + text->n;

        for (size_t i = 0; i < n; i++)
                if (from[i] == '%' && i + 2 < n && hex_value(from[i + 1]) >= 0 &&
                        hex_value(from[i + 2]) >= 0) {
                        text_encode(text, (char) (hex_value(from[i + 1]) << 4 | hex_value(from[i + 2])));
                        i += 2;
                } else
                        text_encode(text, from[i]);
        text_putc(text, '\0');
        return start;
}

/* A header or a query parameter */
typedef struct Pair {
        const char *name, *value;
} Pair;

/* A stable sort, for headers of one name keep their order. There are few. */
static void pairs_sort(Pair *pairs, size_t n, bool by_value) {
        for (size_t i = 1; i < n; i++) {
                const Pair moved = pairs[i];
                size_t k = i;

                for (; k > 0; k--) {
                        int r = strcmp(pairs[k - 1].name, moved.name);

                        if (r == 0 && by_value)
                                r = strcmp(pairs[k - 1].value, moved.value);
                        if (r <= 0)
                                break;
                        pairs[k] = pairs[k - 1];
                }
                pairs[k] = moved;
        }
}

static int add_query(Text *text, const char *query) {
        char buffer[SIGV4_TEXT_MAX];
        Text scratch = text_over(buffer, sizeof(buffer));
        Pair pairs[PARAMETERS_MAX];
        size_t count = 0;

        while (*query) {
                const size_t n = strcspn(query, "&"), n_name = strcspn(query, "=&");

                if (n > 0) {
                        if (count == PARAMETERS_MAX)
                                return -E2BIG;
                        pairs[count].name = add_component(&scratch, query, n_name);
                        pairs[count].value = add_component(
                                &scratch, query + n_name + (n_name < n), n - n_name - (n_name < n));
                        count++;
                }
                query += n;
                query += *query == '&';
        }
        if (scratch.full)
                return -E2BIG;
        pairs_sort(pairs, count, true);
        for (size_t i = 0; i < count; i++) {
                if (i > 0)
                        text_putc(text, '&');
                text_puts(text, pairs[i].name);
                text_putc(text, '=');
                text_puts(text, pairs[i].value);
        }
        return 0;
}

typedef struct Headers {
        Pair pairs[HEADERS_MAX];
        size_t n;
        char names[4096]; /* in lower case */
        Text text;
} Headers;

static char lower(char c) {
        if (c >= 'A' && c <= 'Z')
                return (char) (c | 0x20);
        return c;
}

static int headers_add(Headers *headers, const char *name, size_t n_name, const char *value) {
        const char *start = headers->text.at + headers->text.n;

        if (n_name == 0)
                return -EINVAL;
        if (headers->n == HEADERS_MAX)
                return -E2BIG;
        for (size_t i = 0; i < n_name; i++)
                text_putc(&headers->text, lower(name[i]));
        text_putc(&headers->text, '\0');
        if (headers->text.full)
                return -E2BIG;
        headers->pairs[headers->n++] = (Pair){ start, value };
        return 0;
}

static int headers_collect(Headers *headers, const SigV4Request *request, const SigV4Signature *signature) {
        const Pair own[] = {
                { "x-amz-date", signature->date },
                { "x-amz-security-token", request->omit_session_token ? NULL : request->session_token },
                { "x-amz-content-sha256", request->sign_body_header ? signature->content_sha256 : NULL },
        };
        int r;

        headers->text = text_over(headers->names, sizeof(headers->names));
        for (const char *const *header = request->headers; *header; header++) {
                const char *colon = strchr(*header, ':');

                if (!colon)
                        return -EINVAL;
                r = headers_add(headers, *header, (size_t) (colon - *header), colon + 1);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < ELEMENTSOF(own); i++) {
                r = own[i].value ? headers_add(headers, own[i].name, strlen(own[i].name), own[i].value) : 0;
                if (r < 0)
                        return r;
        }
        pairs_sort(headers->pairs, headers->n, false);
        return 0;
}

/* Trimmed, and each run of blanks within as one space */
static void add_header_value(Text *text, const char *value) {
        static const char blanks[] = " \t\r\n";

        value += strspn(value, blanks);
        while (*value) {
                const size_t n = strcspn(value, blanks);

                text_add(text, value, n);
                value += n;
                value += strspn(value, blanks);
                if (*value)
                        text_putc(text, ' ');
        }
}

static bool same_name(const Headers *headers, size_t i, size_t k) {
        return i < headers->n && k < headers->n &&
               strcmp(headers->pairs[i].name, headers->pairs[k].name) == 0;
}

static void add_headers(Text *text, const Headers *headers) {
        for (size_t i = 0; i < headers->n; i++) {
                if (i > 0 && same_name(headers, i, i - 1))
                        text_putc(text, ',');
                else {
                        text_puts(text, headers->pairs[i].name);
                        text_putc(text, ':');
                }
                add_header_value(text, headers->pairs[i].value);
                if (!same_name(headers, i, i + 1))
                        text_putc(text, '\n');
        }
}

static void add_header_names(Text *text, const Headers *headers) {
        for (size_t i = 0; i < headers->n; i++) {
                if (i > 0 && same_name(headers, i, i - 1))
                        continue;
                if (i > 0)
                        text_putc(text, ';');
                text_puts(text, headers->pairs[i].name);
        }
}

static int make_canonical_request(
        const SigV4Request *request, const Headers *headers, SigV4Signature *signature) {
        Text text = text_over(signature->canonical_request, sizeof(signature->canonical_request));
        int r;

        text_puts(&text, request->method);
        text_putc(&text, '\n');
        add_path(&text, request->path, request->normalize_path);
        text_putc(&text, '\n');
        r = add_query(&text, request->query);
        if (r < 0)
                return r;
        text_putc(&text, '\n');
        add_headers(&text, headers);
        text_putc(&text, '\n');
        add_header_names(&text, headers);
        text_putc(&text, '\n');
        text_puts(&text, signature->content_sha256);
        return text.full ? -E2BIG : 0;
}

static void add_scope(Text *text, const SigV4Request *request, const SigV4Signature *signature) {
        text_add(text, signature->date, 8);
        text_putc(text, '/');
        text_puts(text, request->region);
        text_putc(text, '/');
        text_puts(text, request->service);
        text_puts(text, "/aws4_request");
}

static int make_string_to_sign(const SigV4Request *request, SigV4Signature *signature) {
        Text text = text_over(signature->string_to_sign, sizeof(signature->string_to_sign));
        char hash[65];
        int r;

        r = sha256_hex(signature->canonical_request, strlen(signature->canonical_request), hash);
        if (r < 0)
                return r;
        text_puts(&text, ALGORITHM "\n");
        text_puts(&text, signature->date);
        text_putc(&text, '\n');
        add_scope(&text, request, signature);
        text_putc(&text, '\n');
        text_puts(&text, hash);
        return text.full ? -E2BIG : 0;
}

static int make_signature(const SigV4Request *request, SigV4Signature *signature) {
        Text text = text_over(signature->signature, sizeof(signature->signature));
        const char *steps[5] = { NULL, request->region, request->service, "aws4_request",
                signature->string_to_sign };
        unsigned char key[HASH_SIZE], next[HASH_SIZE];
        char secret[SECRET_MAX], date[9] = {};
        Text first = text_over(secret, sizeof(secret));
        int r;

        memcpy(date, signature->date, 8);
        steps[0] = date;
        text_puts(&first, "AWS4");
        text_puts(&first, request->secret_access_key);
        r = first.full ? -E2BIG : hmac(secret, first.n, steps[0], key);
        for (size_t i = 1; r >= 0 && i < ELEMENTSOF(steps); i++) {
                r = hmac(key, sizeof(key), steps[i], next);
                memcpy(key, next, sizeof(key));
        }
        if (r >= 0)
                text_hex(&text, key, sizeof(key));
        OPENSSL_cleanse(secret, sizeof(secret));
        OPENSSL_cleanse(key, sizeof(key));
        OPENSSL_cleanse(next, sizeof(next));
        return r;
}

static int make_authorization(
        const SigV4Request *request, const Headers *headers, SigV4Signature *signature) {
        Text text = text_over(signature->authorization, sizeof(signature->authorization));

        text_puts(&text, ALGORITHM " Credential=");
        text_puts(&text, request->access_key_id);
        text_putc(&text, '/');
        add_scope(&text, request, signature);
        text_puts(&text, ", SignedHeaders=");
        add_header_names(&text, headers);
        text_puts(&text, ", Signature=");
        text_puts(&text, signature->signature);
        return text.full ? -E2BIG : 0;
}

int sigv4_sign(const SigV4Request *request, SigV4Signature *ret) {
        Headers headers = {};
        int r;

        (void) format_sigv4_time(ret->date, request->time);
        r = sha256_hex(request->body, request->n_body, ret->content_sha256);
        if (r >= 0)
                r = headers_collect(&headers, request, ret);
        if (r >= 0)
                r = make_canonical_request(request, &headers, ret);
        if (r >= 0)
                r = make_string_to_sign(request, ret);
        if (r >= 0)
                r = make_signature(request, ret);
        if (r >= 0)
                r = make_authorization(request, &headers, ret);
        return r;
}
