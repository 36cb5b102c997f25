/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The pause file: { "since": RFC 3339, "until": RFC 3339 or null, "reason": text, "by": text }. Whoever edits it by hand
 * and gets it wrong wanted to pause, so what cannot be understood pauses.
 */

#include "agent/pause.h"

#include <string.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/json.h"
#include "common/parse.h"

#define PAUSE_TEXT_MAX 4096

/* What fits, in whole characters, on one line. */
static void text_take(char *buffer, size_t n_buffer, const char *text) {
        size_t n = strlen(text);

        if (n >= n_buffer) {
                n = n_buffer - 1;
                while (n > 0 && ((unsigned char) text[n] & 0xc0) == 0x80)
                        n--;
        }
        for (size_t i = 0; i < n; i++)
                buffer[i] = (char) ((unsigned char) text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i]);
        buffer[n] = '\0';
}

static int read_time(const cJSON *json, const char *name, Wall *ret) {
        const char *text;
        int r;

        r = json_get_string(json, name, &text);
        if (r == -ENOENT) {
                *ret = WALL_NEVER;
                return 0;
        }
        if (r < 0)
                return r;
        return parse_rfc3339(text, strlen(text), ret) < 0 ? -EBADMSG : 0;
}

static int pause_parse(const char *text, size_t n, Pause *ret) {
        _cleanup_(json_freep) cJSON *json = NULL;
        Pause pause = { .paused = true };
        const char *reason, *by;
        int r;

        r = json_parse(text, n, NULL, &json);
        if (r < 0)
                return r;
        if (!cJSON_IsObject(json))
                return -EBADMSG;
        r = read_time(json, "since", &pause.since);
        if (r < 0)
                return r;
        r = read_time(json, "until", &pause.until);
        if (r < 0)
                return r;
        if (json_get_string(json, "reason", &reason) >= 0)
                text_take(pause.reason, sizeof(pause.reason), reason);
        if (json_get_string(json, "by", &by) >= 0)
                text_take(pause.by, sizeof(pause.by), by);

        *ret = pause;
        return 0;
}

int pause_read(const char *path, Wall now, Pause *ret) {
        _cleanup_(freep) char *text = NULL;
        size_t n = 0;
        int r;

        r = file_read(path, PAUSE_TEXT_MAX, &text, &n);
        if (r == -ENOENT || r == -ENOTDIR) {
                *ret = (Pause){};
                return 0;
        }
        if (r >= 0)
                r = pause_parse(text, n, ret);
        if (r == -E2BIG || r == -EISDIR)
                r = -EBADMSG;
        if (r < 0) {
                *ret = (Pause){ .paused = true };
                (void) snprintf(
                        ret->reason, sizeof(ret->reason), "%s", "the pause file cannot be understood");
                return r;
        }
        if (wall_is_set(ret->until) && !wall_before(now, ret->until))
                *ret = (Pause){};
        return 0;
}

static void write_time(JsonWriter *writer, const char *name, Wall t) {
        char text[FORMAT_TIME_MAX];

        json_string(writer, name, wall_is_set(t) ? format_rfc3339(text, t) : NULL);
}

static int make_directory_of(const char *path) {
        _cleanup_(freep) char *directory = NULL;
        const char *slash = strrchr(path, '/');

        if (!slash || slash == path)
                return 0;
        directory = strndup(path, (size_t) (slash - path));
        if (!directory)
                return -ENOMEM;
        return file_mkdir(directory, 0755);
}

int pause_write(const char *path, const Pause *pause) {
        JsonWriter writer;
        char line[sizeof(pause->reason)];
        int r;

        json_writer_init(&writer, PAUSE_TEXT_MAX - 1);
        json_begin_object(&writer, NULL);
        write_time(&writer, "since", pause->since);
        write_time(&writer, "until", pause->until);
        text_take(line, sizeof(line), pause->reason);
        json_string(&writer, "reason", line);
        text_take(line, sizeof(line), pause->by);
        json_string(&writer, "by", line);
        json_end_object(&writer);
        json_raw(&writer, "\n", 1);

        r = writer.error;
        if (r >= 0)
                r = make_directory_of(path);
        if (r >= 0) /* readable for the service's user */
                r = file_write_atomic(path, writer.text, writer.n, 0644, true);
        json_writer_done(&writer);
        return r;
}

int pause_clear(const char *path) {
        const Wall long_ago = { SPAN_SEC(1) };
        const Pause over = { .paused = true, .since = long_ago, .until = long_ago };
        int r;

        if (unlink(path) >= 0)
                return 0;
        if (errno != ENOENT)
                return -errno;
        r = pause_write(path, &over);
        if (r < 0)
                return r;
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}
