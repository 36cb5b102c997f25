/* SPDX-License-Identifier: Apache-2.0 */

/*
 * JSON. Either a text is refused with a place within it, or cJSON takes it too; and whatever bytes are
 * written as a text can be read again.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void parse(const char *text, size_t n) {
        _cleanup_(json_freep) cJSON *json = NULL;
        JsonError error = {};
        int64_t number;
        int r;

        r = json_parse(text, n, &error, &json);
        assert(r == 0 || r == -EBADMSG);
        assert((r == 0) == (json != NULL));
        if (r < 0) {
                assert(error.line >= 1 && error.column >= 1 && error.column <= n + 1);
                assert(error.problem[0] && strlen(error.problem) < sizeof(error.problem));
                return;
        }
        for (const cJSON *child = json->child; child && child->string; child = child->next)
                (void) json_get_i64(json, child->string, &number);
}

static void write_and_read(const char *data, size_t n) {
        _cleanup_(json_freep) cJSON *json = NULL;
        char *copy = strndup(data, n);
        double value = 0;
        JsonWriter writer;

        memcpy(&value, data, n < sizeof(value) ? n : sizeof(value));
        json_writer_init(&writer, 16 * n + 256);
        json_begin_object(&writer, NULL);
        json_string(&writer, "s", copy);
        json_double(&writer, "d", value);
        json_begin_array(&writer, copy);
        json_end_array(&writer);
        json_end_object(&writer);
        assert(writer.error == 0);
        /* A name of "s" or "d" would be there twice. */
        if (strcmp(copy, "s") != 0 && strcmp(copy, "d") != 0)
                assert(json_parse(writer.text, writer.n, NULL, &json) == 0);
        json_writer_done(&writer);
        free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        parse((const char *) data, n);
        write_and_read((const char *) data, n);
        return 0;
}
