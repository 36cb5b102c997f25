/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Strict reading of JSON on top of cJSON. cJSON finds names without regard to case, takes duplicate names, trailing
 * text, invalid UTF-8, 1e999 and \u0000; all of these are refused before a value is used.
 */

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"

static inline cJSON *json_free(cJSON *json) {
        cJSON_Delete(json);
        return NULL;
}
DEFINE_CLEANUP(cJSON, json_free)

#define JSON_DEPTH_MAX 64 /* deeper documents are refused */

/** Where and why a text was refused, for a message to its author. */
typedef struct JsonError {
        unsigned line;     /* from 1 */
        unsigned column;   /* from 1, in bytes */
        char problem[160]; /* e.g. "expected ',' or '}'", "key \"grace\" appears twice" */
} JsonError;

/**
 * json_parse() - read one whole document
 * @text:  not necessarily NUL-terminated
 * @n:     bytes at @text
 * @error: filled on -EBADMSG; may be NULL
 * @ret:   set on success only
 *
 * Return: 0; -EBADMSG if it is not strict JSON (RFC 8259), is deeper than JSON_DEPTH_MAX, holds a duplicate name in
 * one object, invalid UTF-8, \u0000, a lone surrogate, a number beyond double or of more than 63 characters (cJSON
 * would cut it), or anything but blanks after the value; -ENOMEM.
 */
int json_parse(const char *text, size_t n, JsonError *error, cJSON **ret);

/* Getters: case-sensitive; a missing member is -ENOENT, a present one of another type -EBADMSG. JSON null counts as
 * missing. @ret is set on success only. Texts are lent by @object. */

const cJSON *json_member(
        const cJSON *object, const char *name); /* NULL if missing or @object is no object */
int json_get_string(const cJSON *object, const char *name, const char **ret);
int json_get_bool(const cJSON *object, const char *name, bool *ret);
/** json_get_i64() - a whole number within ±2^53; -ERANGE beyond, -EBADMSG with a fraction */
int json_get_i64(const cJSON *object, const char *name, int64_t *ret);
int json_get_array(const cJSON *object, const char *name, const cJSON **ret);
int json_get_object(const cJSON *object, const char *name, const cJSON **ret);

/* Writing into a buffer that the caller owns. Grows up to a stated maximum; the first failure sticks. */
typedef struct JsonWriter JsonWriter;
struct JsonWriter {
        char *text; /* owned; NUL-terminated after each call that succeeded */
        size_t n, allocated, max;
        int error;  /* 0 or the negative errno of the first failure: -ENOMEM, -E2BIG beyond @max */
        bool comma; /* the next value needs a comma before it */
};

void json_writer_init(JsonWriter *writer, size_t max);
void json_writer_done(JsonWriter *writer);
/** json_raw() - append @n bytes as they are, no comma, no quoting: also makes the writer a plain growing text */
void json_raw(JsonWriter *writer, const char *text, size_t n);
/** @name is NULL inside an array or at the top */
void json_begin_object(JsonWriter *writer, const char *name);
void json_end_object(JsonWriter *writer);
void json_begin_array(JsonWriter *writer, const char *name);
void json_end_array(JsonWriter *writer);
/** json_string() - @text NULL writes null; invalid UTF-8 is written as U+FFFD */
void json_string(JsonWriter *writer, const char *name, const char *text);
void json_i64(JsonWriter *writer, const char *name, int64_t value);
void json_bool(JsonWriter *writer, const char *name, bool value);
void json_null(JsonWriter *writer, const char *name);
/** json_double() - shortest text that reads back the same; NaN and infinities write null */
void json_double(JsonWriter *writer, const char *name, double value);
