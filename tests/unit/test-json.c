/* SPDX-License-Identifier: Apache-2.0 */

/* Strict JSON: what cJSON would let pass is refused, with the place and a sentence. */

#include "common/json.h"

#include <errno.h>
#include <math.h>

#include "tests/unit/test.h"

static int parse(const char *text, JsonError *error, cJSON **ret) {
        /* A copy without a NUL behind it, so that the sanitizer sees a reader that goes too far. */
        const size_t n = strlen(text);
        _cleanup_(freep) char *copy = malloc(n > 0 ? n : 1);

        for (size_t i = 0; i < n; i++)
                copy[i] = text[i];
        return json_parse(copy, n, error, ret);
}

static void test_valid_documents_are_read(void) {
        static const char *const cases[] = {
                "{}",
                "[]",
                " \t\r\n null \n",
                "0",
                "-0",
                "1",
                "12.5e-3",
                "1E+2",
                "1e308",
                "1e-999",
                "\"\"",
                "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
                "\"\\ud83d\\ude00\"",
                "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f\"",
                "[1,[2,[3]],{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":1}]}]",
                "{\"a\":1,\"A\":2,\"\":3}",
                "[true,false,null]",
                "999999999999999999999999999999999999999999999999999999999999999",
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(json_freep) cJSON *json = NULL;
                JsonError error = {};

                if (parse(cases[i], &error, &json) < 0) {
                        printf("# %s: %u:%u %s\n", cases[i], error.line, error.column, error.problem);
                        test_failures++;
                }
        }
}

static void test_invalid_documents_are_refused_with_place_and_reason(void) {
        static const struct {
                const char *text;
                unsigned line, column;
                const char *problem; /* the beginning of it */
        } cases[] = {
                { "", 1, 1, "the text is empty" },
                { " \n ", 2, 2, "the text is empty" },
                { "{", 1, 2, "the text ends here; expected a name" },
                { "{\"a\"", 1, 5, "the text ends here; expected ':'" },
                { "{\"a\":", 1, 6, "the text ends here; expected a value" },
                { "{\"a\":1", 1, 7, "the text ends here; expected ',' or '}'" },
                { "[1", 1, 3, "the text ends here; expected ',' or ']'" },
                { "{\n  \"a\": 1\n  \"b\": 2\n}", 3, 3, "expected ',' or '}', not '\"'" },
                { "{\"a\":1,}", 1, 7, "there must be no ',' before '}'" },
                { "[1,2,\n]", 1, 5, "there must be no ',' before ']'" },
                { "[,1]", 1, 2, "expected a value, not ','" },
                { "{,}", 1, 2, "expected a name in double quotes, not ','" },
                { "{a:1}", 1, 2, "expected a name in double quotes, not 'a'" },
                { "{'a':1}", 1, 2, "single quotes" },
                { "{1:1}", 1, 2, "expected a name" },
                { "{\"a\" 1}", 1, 6, "expected ':' after the name" },
                { "{\"a\"=1}", 1, 5, "expected ':' after the name" },
                { "[1 2]", 1, 4, "expected ',' or ']'" },
                { "[1}", 1, 3, "expected ',' or ']', not '}'" },
                { "{} x", 1, 4, "expected nothing more after the value" },
                { "{}{}", 1, 3, "expected nothing more after the value" },
                { "1 // one", 1, 3, "JSON has no comments" },
                { "{ # c\n}", 1, 3, "JSON has no comments" },
                { "/* c */{}", 1, 1, "JSON has no comments" },
                { "True", 1, 1, "expected a value, not 'T'" },
                { "truex", 1, 5, "expected nothing more" },
                { "tru", 1, 1, "expected a value" },
                { "nan", 1, 1, "expected a value" },
                { "Infinity", 1, 1, "expected a value" },
                { "01", 1, 1, "a number must not begin with 0" },
                { "-01", 1, 1, "a number must not begin with 0" },
                { "+1", 1, 1, "expected a value, not '+'" },
                { "-", 1, 2, "a digit is missing after '-'" },
                { ".5", 1, 1, "expected a value, not '.'" },
                { "1.", 1, 3, "a digit is missing after '.'" },
                { "1.e5", 1, 3, "a digit is missing after '.'" },
                { "1e", 1, 3, "a digit is missing in the exponent" },
                { "1e+", 1, 4, "a digit is missing in the exponent" },
                { "0x10", 1, 2, "expected nothing more" },
                { "[1e999]", 1, 2, "1e999 is too large a number" },
                { "[-1e999]", 1, 2, "-1e999 is too large a number" },
                { "9999999999999999999999999999999999999999999999999999999999999999", 1, 1,
                        "a number of more than 63" },
                { "\"abc", 1, 1, "the closing '\"' of this text is missing" },
                { "\"abc\\\"", 1, 1, "the closing '\"' of this text is missing" },
                { "\"a\nb\"", 1, 3, "the line ends inside a text" },
                { "\"a\tb\"", 1, 3, "control character 0x09" },
                { "\"\\x\"", 1, 2, "there is no such escape" },
                { "\"\\u12\"", 1, 2, "\\u needs four hexadecimal digits" },
                { "\"\\u12g4\"", 1, 2, "\\u needs four hexadecimal digits" },
                { "\"\\u0000\"", 1, 2, "\\u0000 is not allowed" },
                { "\"\\ud800\"", 1, 2, "half of a surrogate pair" },
                { "\"\\ud800\\u0041\"", 1, 2, "half of a surrogate pair" },
                { "\"\\udc00\"", 1, 2, "half of a surrogate pair" },
                { "\"\\ud800\\ud800\"", 1, 2, "half of a surrogate pair" },
                { "\"\xff\"", 1, 2, "byte 0xff is not valid UTF-8" },
                { "\"\xc0\x80\"", 1, 2, "byte 0xc0 is not valid UTF-8" },
                { "\"\xe0\x80\x80\"", 1, 2, "byte 0xe0 is not valid UTF-8" },
                { "\"\xed\xa0\x80\"", 1, 2, "byte 0xed is not valid UTF-8" },
                { "\"\xf4\x90\x80\x80\"", 1, 2, "byte 0xf4 is not valid UTF-8" },
                { "\"\xf0\x8f\xbf\xbf\"", 1, 2, "byte 0xf0 is not valid UTF-8" },
                { "\"\xe2\x82\"", 1, 2, "byte 0xe2 is not valid UTF-8" },
                { "\"\x80\"", 1, 2, "byte 0x80 is not valid UTF-8" },
                { "\xef\xbb\xbf{}", 1, 1, "a byte order mark" },
                { "\x01", 1, 1, "expected a value, not byte 0x01" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                JsonError error = {};
                cJSON *json = NULL;
                int r = parse(cases[i].text, &error, &json);

                if (r != -EBADMSG || json || error.line != cases[i].line ||
                        error.column != cases[i].column ||
                        strncmp(error.problem, cases[i].problem, strlen(cases[i].problem)) != 0) {
                        printf("# %s: %d, %u:%u %s\n", cases[i].text, r, error.line, error.column,
                                error.problem);
                        test_failures++;
                }
        }
}

static void test_refusal_needs_no_error_struct(void) {
        cJSON *json = NULL;

        EXPECT_EQ(json_parse("[1,", 3, NULL, &json), -EBADMSG);
        EXPECT_EQ(json_parse("{\"a\":1,\"a\":1}", 13, NULL, &json), -EBADMSG);
        EXPECT(!json);
}

static void test_nul_byte_is_refused(void) {
        JsonError error = {};
        cJSON *json = NULL;

        EXPECT_EQ(json_parse("{}\0", 3, &error, &json), -EBADMSG);
        EXPECT_EQ(error.column, 3);
        EXPECT_EQ(json_parse("\"a\0b\"", 5, &error, &json), -EBADMSG);
        EXPECT_STR(error.problem, "control character 0x00 in a text");
}

static void test_duplicates_are_refused_where_they_stand(void) {
        static const struct {
                const char *text;
                unsigned line, column;
                const char *name;
        } cases[] = {
                { "{\"grace\":1,\n \"grace\":2}", 2, 2, "grace" },
                { "{\"a\":{\"b\":1,\"c\":2,\"b\":3},\"a\":0}", 1, 19, "b" },
                { "[{\"a\":1},{\"a\":1,\"\\u0061\":2}]", 1, 17, "a" },
                { "{\"a\":1,\"b\":{\"x\":1},\"c\":[{\"x\":1}],\"b\":2,\"a\":3}", 1, 34, "b" },
                { "{\"\":1,\"\":2}", 1, 7, "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                JsonError error = {};
                cJSON *json = NULL;
                char problem[160];

                snprintf(problem, sizeof(problem), "key \"%s\" appears twice", cases[i].name);
                EXPECT_EQ(parse(cases[i].text, &error, &json), -EBADMSG);
                EXPECT_EQ(error.line, cases[i].line);
                EXPECT_EQ(error.column, cases[i].column);
                EXPECT_STR(error.problem, problem);
        }
}

static void test_long_duplicate_name_is_cut_at_a_character(void) {
        char text[600] = "{\"", *at = text + 2;
        JsonError error = {};
        cJSON *json = NULL;

        for (unsigned k = 0; k < 2; k++) {
                for (unsigned i = 0; i < 70; i++)
                        at = stpcpy(at, "\xe2\x82\xac");
                at = stpcpy(at, k == 0 ? "\":1,\"" : "\":2}");
        }
        EXPECT_EQ(parse(text, &error, &json), -EBADMSG);
        EXPECT_EQ(strlen(error.problem), strlen("key \"") + 99 + strlen("\" appears twice"));
}

static void test_depth_has_a_limit(void) {
        char text[2 * (JSON_DEPTH_MAX + 1) + 1] = "";
        _cleanup_(json_freep) cJSON *json = NULL;
        JsonError error = {};

        memset(text, '[', JSON_DEPTH_MAX);
        memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
        EXPECT_EQ(parse(text, &error, &json), 0);
        json = json_free(json);

        memset(text, '[', JSON_DEPTH_MAX + 1);
        memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
        EXPECT_EQ(parse(text, &error, &json), -EBADMSG);
        EXPECT_EQ(error.column, JSON_DEPTH_MAX + 1);
        EXPECT_STR(error.problem, "nested more than 64 deep");
}

/* A quadratic search would take minutes here and run into the test's time limit. */
static void test_huge_object_is_checked_quickly(void) {
        _cleanup_(json_freep) cJSON *json = NULL;
        JsonError error = {};
        JsonWriter writer;
        char name[32];

        json_writer_init(&writer, 16 << 20);
        json_begin_object(&writer, NULL);
        for (int64_t i = 0; i < 300000; i++) {
                snprintf(name, sizeof(name), "name%" PRId64, i * 7919 % 300000);
                json_i64(&writer, name, i);
        }
        json_end_object(&writer);
        EXPECT_EQ(writer.error, 0);
        EXPECT_EQ(json_parse(writer.text, writer.n, &error, &json), 0);
        json = json_free(json);

        writer.n--; /* the '}' */
        json_i64(&writer, "name0", 0);
        json_end_object(&writer);
        EXPECT_EQ(json_parse(writer.text, writer.n, &error, &json), -EBADMSG);
        EXPECT_STR(error.problem, "key \"name0\" appears twice");
        json_writer_done(&writer);
}

static void test_getters_tell_missing_from_wrong(void) {
        static const char text[] =
                "{\"s\":\"x\",\"t\":true,\"n\":7,\"z\":null,\"a\":[1],\"o\":{\"p\":\"q\"},\"N\":8}";
        _cleanup_(json_freep) cJSON *json = NULL;
        const cJSON *child = NULL;
        const char *s = NULL;
        bool b = false;
        int64_t n = -1;

        EXPECT_EQ(parse(text, NULL, &json), 0);
        EXPECT_EQ(json_get_string(json, "s", &s), 0);
        EXPECT_STR(s, "x");
        EXPECT_EQ(json_get_bool(json, "t", &b), 0);
        EXPECT(b);
        EXPECT_EQ(json_get_i64(json, "n", &n), 0);
        EXPECT_EQ(n, 7);
        EXPECT_EQ(json_get_i64(json, "N", &n), 0);
        EXPECT_EQ(n, 8);
        EXPECT_EQ(json_get_array(json, "a", &child), 0);
        EXPECT_EQ(cJSON_GetArraySize(child), 1);
        EXPECT_EQ(json_get_object(json, "o", &child), 0);
        EXPECT_EQ(json_get_string(child, "p", &s), 0);

        EXPECT_EQ(json_get_string(json, "S", &s), -ENOENT);
        EXPECT_EQ(json_get_string(json, "z", &s), -ENOENT);
        EXPECT_EQ(json_get_string(json, "n", &s), -EBADMSG);
        EXPECT_EQ(json_get_bool(json, "n", &b), -EBADMSG);
        EXPECT_EQ(json_get_bool(json, "none", &b), -ENOENT);
        EXPECT_EQ(json_get_i64(json, "s", &n), -EBADMSG);
        EXPECT_EQ(json_get_array(json, "o", &child), -EBADMSG);
        EXPECT_EQ(json_get_array(json, "none", &child), -ENOENT);
        EXPECT_EQ(json_get_object(json, "a", &child), -EBADMSG);
        EXPECT_EQ(json_get_object(json, "none", &child), -ENOENT);
        EXPECT(!json_member(json, "z"));
        EXPECT(!json_member(NULL, "s"));
        EXPECT(!json_member(json_member(json, "a"), "s"));
        EXPECT_STR(s, "q");
        EXPECT_EQ(n, 8);
}

static void test_whole_numbers_are_exact_or_refused(void) {
        static const struct {
                const char *text;
                int r;
                int64_t value;
        } cases[] = {
                { "{\"n\":0}", 0, 0 },
                { "{\"n\":-3}", 0, -3 },
                { "{\"n\":1e3}", 0, 1000 },
                { "{\"n\":2.0}", 0, 2 },
                { "{\"n\":9007199254740992}", 0, INT64_C(1) << 53 },
                { "{\"n\":-9007199254740992}", 0, -(INT64_C(1) << 53) },
                { "{\"n\":9007199254740994}", -ERANGE, 0 },
                { "{\"n\":1e300}", -ERANGE, 0 },
                { "{\"n\":-1e300}", -ERANGE, 0 },
                { "{\"n\":0.5}", -EBADMSG, 0 },
                { "{\"n\":\"5\"}", -EBADMSG, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(json_freep) cJSON *json = NULL;
                int64_t value = 0;

                EXPECT_EQ(parse(cases[i].text, NULL, &json), 0);
                EXPECT_EQ(json_get_i64(json, "n", &value), cases[i].r);
                EXPECT_EQ(value, cases[i].value);
        }
}

static void test_writer_sets_commas_and_quotes(void) {
        JsonWriter writer;

        json_writer_init(&writer, 4096);
        json_begin_object(&writer, NULL);
        json_string(&writer, "s", "a\"b\\c\n\t\x01\x7f\xc3\xa9");
        json_string(&writer, "none", NULL);
        json_begin_array(&writer, "a");
        json_i64(&writer, NULL, INT64_MIN);
        json_bool(&writer, NULL, true);
        json_begin_object(&writer, NULL);
        json_end_object(&writer);
        json_begin_array(&writer, NULL);
        json_end_array(&writer);
        json_null(&writer, NULL);
        json_end_array(&writer);
        json_bool(&writer, "a\"b", false);
        json_end_object(&writer);
        EXPECT_EQ(writer.error, 0);
        EXPECT_STR(writer.text, "{\"s\":\"a\\\"b\\\\c\\n\\t\\u0001\x7f\xc3\xa9\",\"none\":null,"
                                "\"a\":[-9223372036854775808,true,{},[],null],\"a\\\"b\":false}");
        EXPECT_EQ(writer.n, strlen(writer.text));
        json_writer_done(&writer);
        EXPECT(!writer.text);
}

static void test_writer_replaces_invalid_utf8(void) {
        JsonWriter writer;

        json_writer_init(&writer, 4096);
        json_string(&writer, NULL, "a\xff\xc3(\xe2\x82");
        EXPECT_STR(writer.text, "\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\"");
        json_writer_done(&writer);
}

static void test_writer_stops_at_its_maximum_for_good(void) {
        JsonWriter writer;

        json_writer_init(&writer, 5);
        json_raw(&writer, "12345", 5);
        EXPECT_EQ(writer.error, 0);
        EXPECT_STR(writer.text, "12345");
        json_raw(&writer, "6", 1);
        EXPECT_EQ(writer.error, -E2BIG);
        json_raw(&writer, "", 0);
        EXPECT_EQ(writer.error, -E2BIG);
        EXPECT_STR(writer.text, "12345");
        json_writer_done(&writer);
}

static void test_doubles_read_back_the_same(void) {
        static const struct {
                double value;
                const char *text;
        } cases[] = {
                { 0.0, "0" },
                { 0.1, "0.1" },
                { 1.0 / 3, "0.3333333333333333" },
                { 0.1 + 0.2, "0.30000000000000004" },
                { -2.5, "-2.5" },
                { 1e300, "1e+300" },
                { 5e-324, "5e-324" },
                { 123456789.0, "123456789" },
                { NAN, "null" },
                { INFINITY, "null" },
                { -INFINITY, "null" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                JsonWriter writer;

                json_writer_init(&writer, 100);
                json_double(&writer, NULL, cases[i].value);
                EXPECT_STR(writer.text, cases[i].text);
                json_writer_done(&writer);
        }
}

TEST_MAIN(TEST(test_valid_documents_are_read),
        TEST(test_invalid_documents_are_refused_with_place_and_reason),
        TEST(test_refusal_needs_no_error_struct), TEST(test_nul_byte_is_refused),
        TEST(test_duplicates_are_refused_where_they_stand),
        TEST(test_long_duplicate_name_is_cut_at_a_character), TEST(test_depth_has_a_limit),
        TEST(test_huge_object_is_checked_quickly), TEST(test_getters_tell_missing_from_wrong),
        TEST(test_whole_numbers_are_exact_or_refused), TEST(test_writer_sets_commas_and_quotes),
        TEST(test_writer_replaces_invalid_utf8), TEST(test_writer_stops_at_its_maximum_for_good),
        TEST(test_doubles_read_back_the_same))
