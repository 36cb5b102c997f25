/* SPDX-License-Identifier: Apache-2.0 */

/* Signatures against AWS's own vectors, kept in $TEST_DATA/sigv4-vectors.json, and refusals of our own. */

#include "common/aws-sigv4.h"

#include <errno.h>

#include "common/file.h"
#include "common/json.h"
#include "common/parse.h"
#include "tests/unit/test.h"

#define VECTORS     38
#define HEADERS_MAX 100

static SigV4Signature signature; /* large */

static cJSON *load_vectors(void) {
        const char *data = getenv("TEST_DATA");
        _cleanup_(freep) char *text = NULL;
        char path[4096];
        cJSON *json = NULL;
        size_t n = 0;

        snprintf(path, sizeof(path), "%s/sigv4-vectors.json", data ? data : "tests/data");
        EXPECT_EQ(file_read(path, 1 << 20, &text, &n), 0);
        if (text)
                EXPECT_EQ(json_parse(text, n, NULL, &json), 0);
        return json;
}

static const char *text_of(const cJSON *object, const char *name, const char *otherwise) {
        const char *text = otherwise;

        (void) json_get_string(object, name, &text);
        return text;
}

static bool flag_of(const cJSON *object, const char *name) {
        bool flag = false;

        (void) json_get_bool(object, name, &flag);
        return flag;
}

static void check_vector(const cJSON *file, const cJSON *vector) {
        const cJSON *common = json_member(file, "common"), *header;
        const char *headers[HEADERS_MAX] = {}, *body = text_of(vector, "body", "");
        SigV4Request request = {
                .method = text_of(vector, "method", NULL),
                .path = text_of(vector, "path", NULL),
                .query = text_of(vector, "query", ""),
                .headers = headers,
                .body = body,
                .n_body = strlen(body),
                .region = text_of(common, "region", NULL),
                .service = text_of(common, "service", NULL),
                .access_key_id = text_of(common, "access_key_id", NULL),
                .secret_access_key = text_of(common, "secret_access_key", NULL),
                .session_token = text_of(vector, "session_token", NULL),
                .normalize_path = !flag_of(vector, "raw_path"),
                .sign_body_header = flag_of(vector, "sign_body"),
                .omit_session_token = flag_of(vector, "omit_session_token"),
        };
        const char *timestamp = text_of(common, "timestamp", "");
        const unsigned failures = test_failures;
        char string_to_sign[512];
        size_t n = 0;

        EXPECT_EQ(parse_rfc3339(timestamp, strlen(timestamp), &request.time), 0);
        cJSON_ArrayForEach(header, json_member(vector, "headers")) headers[n++] = header->valuestring;
        EXPECT_EQ(sigv4_sign(&request, &signature), 0);
        EXPECT_STR(signature.canonical_request, text_of(vector, "canonical_request", NULL));
        snprintf(string_to_sign, sizeof(string_to_sign), "%s%s", text_of(file, "string_to_sign", ""),
                text_of(vector, "canonical_request_hash", ""));
        EXPECT_STR(signature.string_to_sign, string_to_sign);
        EXPECT_STR(signature.signature, text_of(vector, "signature", NULL));
        if (test_failures > failures)
                printf("# in vector %s\n", text_of(vector, "name", "?"));
}

static void test_official_vectors_are_met(void) {
        _cleanup_(json_freep) cJSON *file = load_vectors();
        const cJSON *vector;
        unsigned n = 0;

        cJSON_ArrayForEach(vector, json_member(file, "vectors")) {
                check_vector(file, vector);
                n++;
        }
        EXPECT_EQ(n, VECTORS);
}

static const char *const plain_headers[] = { "Host: ecs.eu-west-1.amazonaws.com", NULL };

static SigV4Request plain_request(void) {
        return (SigV4Request){
                .method = "POST",
                .path = "/",
                .query = "",
                .headers = plain_headers,
                .region = "eu-west-1",
                .service = "ecs",
                .access_key_id = "AKID",
                .secret_access_key = "secret",
                .session_token = "token",
                .time = { INT64_C(1782814272) * 1000000 },
                .normalize_path = true,
        };
}

static void test_authorization_names_scope_and_headers(void) {
        const SigV4Request request = plain_request();
        char expected[1024];

        EXPECT_EQ(sigv4_sign(&request, &signature), 0);
        EXPECT_STR(signature.date, "20260630T101112Z");
        snprintf(expected, sizeof(expected),
                "AWS4-HMAC-SHA256 Credential=AKID/20260630/eu-west-1/ecs/aws4_request, "
                "SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=%s",
                signature.signature);
        EXPECT_STR(signature.authorization, expected);
        EXPECT_EQ(strlen(signature.signature), 64);
}

static void test_secret_never_appears_in_what_is_shown(void) {
        SigV4Request request = plain_request();

        request.secret_access_key = "do-not-show-this";
        EXPECT_EQ(sigv4_sign(&request, &signature), 0);
        EXPECT(!strstr(signature.canonical_request, "do-not-show"));
        EXPECT(!strstr(signature.string_to_sign, "do-not-show"));
        EXPECT(!strstr(signature.authorization, "do-not-show"));
}

static void expect_canonical_line(const SigV4Request *request, unsigned line, const char *expected) {
        const char *at = signature.canonical_request;
        char got[512];

        EXPECT_EQ(sigv4_sign(request, &signature), 0);
        for (unsigned i = 0; i < line; i++)
                at += strcspn(at, "\n") + 1;
        snprintf(got, sizeof(got), "%.*s", (int) strcspn(at, "\n"), at);
        EXPECT_STR(got, expected);
}

static void test_paths_are_normalized_and_encoded_again(void) {
        static const char *const cases[][2] = {
                { "", "/" },
                { "/a/../../b", "/b" },
                { "/a/./b/..", "/a" },
                { "/a//b/", "/a/b/" },
                { "/a%20b", "/a%2520b" },
                { "/..a/.b", "/..a/.b" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                SigV4Request request = plain_request();

                request.path = cases[i][0];
                expect_canonical_line(&request, 1, cases[i][1]);
        }
}

static void test_queries_are_sorted_and_encoded_once(void) {
        static const char *const cases[][2] = {
                { "b=2&a=1", "a=1&b=2" },
                { "a=2&a=1", "a=1&a=2" },
                { "a-b=1&a=2", "a=2&a-b=1" },
                { "flag", "flag=" },
                { "a=b=c", "a=b%3Dc" },
                { "a=%2f%2F", "a=%2F%2F" },
                { "a=%zz%", "a=%25zz%25" },
                { "&&a=1&", "a=1" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                SigV4Request request = plain_request();

                request.query = cases[i][0];
                expect_canonical_line(&request, 2, cases[i][1]);
        }
}

static void test_what_does_not_fit_is_refused(void) {
        static char large[SIGV4_TEXT_MAX + 1], name[300];
        const char *headers[HEADERS_MAX + 1] = {};
        SigV4Request request;

        memset(large, 'x', sizeof(large) - 1);
        memset(name, 'x', sizeof(name) - 1);
        request = plain_request(), request.path = large;
        EXPECT_EQ(sigv4_sign(&request, &signature), -E2BIG);
        request = plain_request(), request.query = large;
        EXPECT_EQ(sigv4_sign(&request, &signature), -E2BIG);
        request = plain_request(), request.session_token = large;
        EXPECT_EQ(sigv4_sign(&request, &signature), -E2BIG);
        request = plain_request(), request.secret_access_key = name;
        EXPECT_EQ(sigv4_sign(&request, &signature), -E2BIG);
        request = plain_request(), request.access_key_id = large;
        EXPECT_EQ(sigv4_sign(&request, &signature), -E2BIG);
        request = plain_request(), request.region = large;
        EXPECT_EQ(sigv4_sign(&request, &signature), -E2BIG);
        request = plain_request(), request.headers = headers;
        for (size_t i = 0; i < HEADERS_MAX; i++)
                headers[i] = "a: b";
        EXPECT_EQ(sigv4_sign(&request, &signature), -E2BIG);
        memset(large, '&', sizeof(large) - 1);
        for (size_t i = 0; i < 600; i += 2)
                large[i] = 'a';
        request = plain_request(), request.query = large;
        EXPECT_EQ(sigv4_sign(&request, &signature), -E2BIG);
}

static void test_header_without_a_name_is_refused(void) {
        static const char *const no_colon[] = { "Host example", NULL }, *const no_name[] = { ": x", NULL };
        SigV4Request request = plain_request();

        request.headers = no_colon;
        EXPECT_EQ(sigv4_sign(&request, &signature), -EINVAL);
        request.headers = no_name;
        EXPECT_EQ(sigv4_sign(&request, &signature), -EINVAL);
}

TEST_MAIN(TEST(test_official_vectors_are_met), TEST(test_authorization_names_scope_and_headers),
        TEST(test_secret_never_appears_in_what_is_shown), TEST(test_paths_are_normalized_and_encoded_again),
        TEST(test_queries_are_sorted_and_encoded_once), TEST(test_what_does_not_fit_is_refused),
        TEST(test_header_without_a_name_is_refused))
