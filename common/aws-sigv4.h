/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * AWS Signature Version 4, header signing. Our own, because libcurl's fails 15 of the 38 official vectors at 7.88 and
 * sends a second X-Amz-Date next to a corrected one.
 * Source: "Signature Version 4 signing process" (AWS General Reference); vectors of awslabs/aws-c-auth.
 */

#include <stdbool.h>
#include <stddef.h>

#include "common/clock.h"

typedef struct SigV4Request {
        const char *method;
        const char *path;           /* as sent, "/" at least */
        const char *query;          /* without '?', as sent; "" for none */
        const char *const *headers; /* "Name: value" of those to sign, Host included, ended by NULL */
        const void *body;
        size_t n_body;
        const char *region, *service; /* signing name, e.g. "monitoring" */
        const char *access_key_id, *secret_access_key;
        const char *session_token; /* NULL: none */
        Wall time;                 /* the service's idea of now */
        bool normalize_path;       /* resolve "." and "..", join slashes; true for all but S3 */
        bool sign_body_header;     /* send and sign x-amz-content-sha256 */
        bool omit_session_token;   /* token is added after signing (some vectors) */
} SigV4Request;

#define SIGV4_TEXT_MAX 16384 /* canonical request and the like */

typedef struct SigV4Signature {
        char date[32];            /* value of X-Amz-Date */
        char content_sha256[65];  /* hex; value of x-amz-content-sha256 if asked for */
        char authorization[1024]; /* value of Authorization */
        char signature[65];
        char canonical_request
                [SIGV4_TEXT_MAX]; /* for tests and for debugging; holds no secret but the token */
        char string_to_sign[512];
} SigV4Signature;

/**
 * sigv4_sign() - sign @request; X-Amz-Date, and X-Amz-Security-Token unless omitted, are added to the signed headers
 * @ret: undefined on failure
 *
 * Return: 0; -E2BIG if a text does not fit; -EINVAL for a header without a colon; -EIO if OpenSSL fails.
 */
int sigv4_sign(const SigV4Request *request, SigV4Signature *ret);
