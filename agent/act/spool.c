/* SPDX-License-Identifier: Apache-2.0 */

/* Data on disk that wait to be sent. No descriptor is kept open: the spool is touched in outages only. */

#include "agent/act/spool.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/parse.h"

#define SPOOL_FILE_MAX   (SPOOL_BYTES_MAX / 2) /* of each of the two files */
#define SPOOL_CHUNK_MAX  ((size_t) 64 * 1024)  /* read or written at once */
#define SPOOL_OWNER_MAX  64                    /* instance ids are 19 bytes */
#define SPOOL_AT_SEC_MAX 100000000000          /* year 5138; keeps microseconds within 64 bits */

/* First line: the offset is overwritten in place, so it has a fixed place and width. */
#define SPOOL_MAGIC        "ecs-health-agent-spool 1 "
#define SPOOL_OFFSET_AT    (sizeof(SPOOL_MAGIC) - 1)
#define SPOOL_OFFSET_WIDTH 10
#define SPOOL_HEADER_MAX   (SPOOL_OFFSET_AT + SPOOL_OFFSET_WIDTH + 1 + SPOOL_OWNER_MAX + 1)

typedef struct Segment {
        char *path;
        uint64_t offset;             /* of the first line that has not been taken */
        uint64_t end;                /* behind the last whole line; 0: there is no file of ours */
        size_t n;                    /* lines between the two */
        char owner[SPOOL_OWNER_MAX]; /* "-": not known */
} Segment;

struct Spool {
        Segment old, current;
        char owner[SPOOL_OWNER_MAX];
        uint64_t lost;
};

/* Lines */

int spool_format(const SpoolItem *item, char buffer[static SPOOL_LINE_MAX], size_t *ret_n) {
        const Datum *datum = &item->datum;
        int n;

        n = snprintf(buffer, SPOOL_LINE_MAX, "%" PRId64 " %s %c %s %" PRIu32 " %.17g %.17g %.17g %s\n",
                datum->at.usec / SPAN_SEC(1), metric_table[datum->metric].name, datum->instance ? 'i' : 'g',
                datum->brake >= 0 ? brake_table[datum->brake].name : "-", datum->count, datum->min,
                datum->max, datum->sum, item->path ? item->path : "-");
        if (n < 0 || n >= SPOOL_LINE_MAX)
                return -E2BIG;
        *ret_n = (size_t) n;
        return 0;
}

/* The next word of @at, ended by exactly one blank. */
static char *spool_take_word(char **at) {
        char *word = strsep(at, " ");

        return word && *word ? word : NULL;
}

static bool spool_read_metric(const char *word, Metric *ret) {
        for (size_t i = 0; word && i < METRIC_N; i++)
                if (strcmp(metric_table[i].name, word) == 0) {
                        *ret = (Metric) i;
                        return true;
                }
        return false;
}

static bool spool_read_brake(const char *word, int8_t *ret) {
        *ret = -1;
        if (!word || strcmp(word, "-") == 0)
                return word;
        for (size_t i = 0; i < BRAKE_N; i++)
                if (strcmp(brake_table[i].name, word) == 0) {
                        *ret = (int8_t) i;
                        return true;
                }
        return false;
}

/* strtod() alone would take blanks, hexadecimal, "inf" and "nan". */
static bool spool_read_double(const char *word, double *ret) {
        char *end = NULL;

        if (!word || strspn(word, "0123456789+-.eE") != strlen(word))
                return false;
        *ret = strtod(word, &end);
        return end != word && !*end && isfinite(*ret);
}

static bool spool_read_number(const char *word, uint64_t max, uint64_t *ret) {
        return word && parse_u64(word, ret) == 0 && *ret > 0 && *ret <= max;
}

static bool spool_read_path(const char *text, char path[static DISK_PATH_MAX], const char **ret) {
        *ret = NULL;
        if (!text || strcmp(text, "-") == 0)
                return text;
        if (text[0] != '/' || strlen(text) >= DISK_PATH_MAX)
                return false;
        for (const char *c = text; *c; c++)
                if (*c < ' ' || *c > '~')
                        return false;
        *ret = memcpy(path, text, strlen(text) + 1);
        return true;
}

/* One bad datum would make CloudWatch refuse its whole batch. */
static bool spool_plausible(const Datum *datum) {
        const MetricRow *row = &metric_table[datum->metric];
        const double n = datum->count, slack = 1e-9 * n * (fabs(datum->min) + fabs(datum->max));

        return datum->min >= row->min && datum->max <= row->max && datum->min <= datum->max &&
               datum->sum >= n * datum->min - slack && datum->sum <= n * datum->max + slack;
}

int spool_parse(const char *line, size_t n, char path[static DISK_PATH_MAX], SpoolItem *ret) {
        char buffer[SPOOL_LINE_MAX] = {}, *at = buffer;
        const char *scope;
        SpoolItem item = { .datum.mount = -1 };
        Datum *datum = &item.datum;
        uint64_t seconds = 0, count = 0;

        if (n >= sizeof(buffer) || memchr(line, '\0', n))
                return -EBADMSG;
        memcpy(buffer, line, n);

        if (!spool_read_number(spool_take_word(&at), SPOOL_AT_SEC_MAX, &seconds) ||
                !spool_read_metric(spool_take_word(&at), &datum->metric))
                return -EBADMSG;
        scope = spool_take_word(&at);
        if (!scope || (strcmp(scope, "g") != 0 && strcmp(scope, "i") != 0))
                return -EBADMSG;
        if (!spool_read_brake(spool_take_word(&at), &datum->brake) ||
                !spool_read_number(spool_take_word(&at), UINT32_MAX, &count) ||
                !spool_read_double(spool_take_word(&at), &datum->min) ||
                !spool_read_double(spool_take_word(&at), &datum->max) ||
                !spool_read_double(spool_take_word(&at), &datum->sum) ||
                !spool_read_path(at, path, &item.path))
                return -EBADMSG;
        datum->at = (Wall){ (int64_t) seconds * SPAN_SEC(1) };
        datum->instance = *scope == 'i';
        datum->count = (uint32_t) count;
        if (!spool_plausible(datum))
                return -EBADMSG;

        *ret = item;
        return 0;
}

/* Files */

static int spool_read_at(int fd, char *buffer, size_t size, uint64_t offset, size_t *ret_n) {
        size_t n = 0;

        while (n < size) {
                ssize_t got = pread(fd, buffer + n, size - n, (off_t) (offset + n));

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        break;
                n += (size_t) got;
        }
        *ret_n = n;
        return 0;
}

static int spool_write_at(int fd, const char *text, size_t n, uint64_t offset) {
        while (n > 0) {
                ssize_t put = pwrite(fd, text, n, (off_t) offset);

                if (put < 0 && errno == EINTR)
                        continue;
                if (put < 0)
                        return -errno;
                text += put;
                offset += (uint64_t) put;
                n -= (size_t) put;
        }
        return 0;
}

static void segment_forget(Segment *segment) {
        segment->offset = segment->end = 0;
        segment->n = 0;
        strcpy(segment->owner, "-");
}

static int segment_remove(Segment *segment) {
        if (unlink(segment->path) < 0 && errno != ENOENT)
                return -errno;
        segment_forget(segment);
        return 0;
}

/* Reads the first line of @text. Return: its length; 0 if it is none of ours. */
static size_t spool_read_header(
        const char *text, size_t n, uint64_t *ret_offset, char owner[static SPOOL_OWNER_MAX]) {
        const char *end = memchr(text, '\n', n), *name = text + SPOOL_OFFSET_AT + SPOOL_OFFSET_WIDTH + 1;
        char digits[SPOOL_OFFSET_WIDTH + 1] = {};

        if (!end || end <= name || end - name >= SPOOL_OWNER_MAX ||
                memcmp(text, SPOOL_MAGIC, SPOOL_OFFSET_AT) != 0)
                return 0;
        memcpy(digits, text + SPOOL_OFFSET_AT, SPOOL_OFFSET_WIDTH);
        if (name[-1] != ' ' || parse_u64(digits, ret_offset) < 0)
                return 0;
        memcpy(owner, name, (size_t) (end - name));
        owner[end - name] = '\0';
        return (size_t) (end - text) + 1;
}

/* Counts the lines from the segment's offset on, and finds the end of the last whole one. */
static int segment_count(Segment *segment, int fd, uint64_t size) {
        _cleanup_(freep) char *chunk = malloc(SPOOL_CHUNK_MAX);
        int r;

        if (!chunk)
                return -ENOMEM;
        for (uint64_t at = segment->offset; at < size;) {
                size_t n = 0;

                r = spool_read_at(fd, chunk, SPOOL_CHUNK_MAX, at, &n);
                if (r < 0)
                        return r;
                if (n == 0)
                        break;
                for (const char *c = chunk; (c = memchr(c, '\n', (size_t) (chunk + n - c))); c++) {
                        segment->n++;
                        segment->end = at + (uint64_t) (c - chunk) + 1;
                }
                at += n;
        }
        return 0;
}

/* Return: 0; -ENOENT; -EBADMSG if it is none of ours; -ENOMEM; what the system calls say. */
static int segment_open(Segment *segment) {
        _cleanup_(closep) int fd = -1;
        char header[SPOOL_HEADER_MAX] = {}, before = 0;
        struct stat st = {};
        size_t n = 0, n_header;
        int r;

        fd = open(segment->path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || (uintmax_t) st.st_size > SPOOL_FILE_MAX)
                return -EBADMSG;
        r = spool_read_at(fd, header, sizeof(header), 0, &n);
        if (r < 0)
                return r;
        n_header = spool_read_header(header, n, &segment->offset, segment->owner);
        if (n_header == 0 || segment->offset < n_header || segment->offset > (uint64_t) st.st_size)
                return -EBADMSG;
        r = spool_read_at(fd, &before, 1, segment->offset - 1, &n);
        if (r < 0)
                return r;
        if (before != '\n')
                return -EBADMSG;
        segment->end = segment->offset;
        return segment_count(segment, fd, (uint64_t) st.st_size);
}

/* What makes no sense is removed and counts as one line lost: how many it held is not known. */
static int segment_init(Segment *segment, char *path, uint64_t *lost) {
        int r;

        segment->path = path;
        segment_forget(segment);
        r = segment_open(segment);
        if (r == 0)
                return 0;
        segment_forget(segment);
        if (r == -EBADMSG) {
                (*lost)++;
                (void) unlink(path);
        }
        return r == -ENOMEM ? r : 0;
}

static int segment_write(const Segment *segment, const char *text, size_t n) {
        _cleanup_(closep) int fd = -1;
        int r;

        fd = open(segment->path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0600);
        if (fd < 0)
                return -errno;
        /* Behind the end there is only what a crash has cut short, or all of a file that is none of ours. */
        if (ftruncate(fd, (off_t) segment->end) < 0)
                return -errno;
        r = spool_write_at(fd, text, n, segment->end);
        if (r < 0) {
                if (ftruncate(fd, (off_t) segment->end) < 0)
                        return r; /* what is left behind is no whole line, and is skipped by the reader */
        } else if (close(steal_fd(&fd)) < 0) {
                r = -errno;
        }
        return r;
}

/* The directory is made here and not before, so that a disk that becomes writable later will do. */
static int segment_append(Segment *segment, const char *text, size_t n) {
        _cleanup_(freep) char *directory = NULL;
        const char *slash = strrchr(segment->path, '/');
        int r;

        r = segment_write(segment, text, n);
        if (r != -ENOENT || !slash || slash == segment->path)
                return r;
        directory = strndup(segment->path, (size_t) (slash - segment->path));
        if (!directory)
                return -ENOMEM;
        r = file_mkdir(directory, 0750);
        return r < 0 ? r : segment_write(segment, text, n);
}

/* Makes it last that everything before @offset has been taken. */
static int segment_mark(Segment *segment, uint64_t offset) {
        _cleanup_(closep) int fd = -1;
        char digits[SPOOL_OFFSET_WIDTH + 1] = {};
        int r;

        assert(offset <= SPOOL_FILE_MAX);

        if (offset >= segment->end)
                return segment_remove(segment);
        fd = open(segment->path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return -errno;
        (void) snprintf(digits, sizeof(digits), "%0*u", SPOOL_OFFSET_WIDTH, (unsigned) offset);
        r = spool_write_at(fd, digits, SPOOL_OFFSET_WIDTH, SPOOL_OFFSET_AT);
        if (r < 0)
                return r;
        segment->offset = offset;
        return 0;
}

/* The spool */

int spool_new(Spool **ret, const char *path) {
        _cleanup_(spool_freep) Spool *spool = NULL;
        char *old = NULL, *current;
        int r;

        spool = calloc(1, sizeof(*spool));
        if (!spool)
                return -ENOMEM;
        strcpy(spool->owner, "-");
        if (asprintf(&old, "%s.old", path) < 0)
                return -ENOMEM;
        r = segment_init(&spool->old, old, &spool->lost);
        if (r < 0)
                return r;
        current = strdup(path);
        if (!current)
                return -ENOMEM;
        r = segment_init(&spool->current, current, &spool->lost);
        if (r < 0)
                return r;

        *ret = steal_ptr(spool);
        return 0;
}

Spool *spool_free(Spool *spool) {
        if (!spool)
                return NULL;
        free(spool->old.path);
        free(spool->current.path);
        free(spool);
        return NULL;
}

static void segment_own(Segment *segment, const char *owner, uint64_t *lost) {
        if (segment->end == 0 || strcmp(segment->owner, "-") == 0 || strcmp(segment->owner, owner) == 0)
                return;
        *lost += segment->n;
        (void) unlink(segment->path);
        segment_forget(segment);
}

void spool_own(Spool *spool, const char *instance_id) {
        size_t n = strspn(instance_id, "-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

        if (n == 0 || instance_id[n] || n >= SPOOL_OWNER_MAX)
                return;
        memcpy(spool->owner, instance_id, n + 1);
        segment_own(&spool->old, instance_id, &spool->lost);
        segment_own(&spool->current, instance_id, &spool->lost);
}

/* The current file becomes the old one; what that still held is the oldest there is, and goes. */
static int spool_rotate(Spool *spool) {
        char *old = spool->old.path;

        if (rename(spool->current.path, old) < 0)
                return -errno;
        spool->lost += spool->old.n;
        spool->old = spool->current;
        spool->old.path = old;
        spool->current = (Segment){ .path = spool->current.path };
        segment_forget(&spool->current);
        return 0;
}

static int spool_put(Spool *spool, const char *text, size_t n, size_t n_lines) {
        char header[sizeof(SPOOL_MAGIC) + 20 + 1 + SPOOL_OWNER_MAX +
                    1] = {}; /* 20: what the compiler expects of a size_t */
        Segment *segment = &spool->current;
        int r;

        if (segment->end > 0 && segment->end + n > SPOOL_FILE_MAX) {
                r = spool_rotate(spool);
                if (r < 0)
                        return r;
        }
        if (segment->end == 0) {
                size_t n_header = SPOOL_OFFSET_AT + SPOOL_OFFSET_WIDTH + 1 + strlen(spool->owner) + 1;

                (void) snprintf(header, sizeof(header), SPOOL_MAGIC "%0*zu %s\n", SPOOL_OFFSET_WIDTH,
                        n_header, spool->owner);
                r = segment_append(segment, header, n_header);
                if (r < 0)
                        return r;
                memcpy(segment->owner, spool->owner, sizeof(segment->owner));
                segment->offset = segment->end = n_header;
        }
        r = segment_append(segment, text, n);
        if (r < 0)
                return r;
        segment->end += n;
        segment->n += n_lines;
        return 0;
}

int spool_append(Spool *spool, const SpoolItem *items, size_t n, size_t *ret_stored) {
        _cleanup_(freep) char *chunk = malloc(SPOOL_CHUNK_MAX);
        size_t filled = 0, n_lines = 0;
        int r;

        *ret_stored = 0;
        if (!chunk)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                char line[SPOOL_LINE_MAX];
                size_t n_line = 0;

                r = spool_format(&items[i], line, &n_line);
                if (r < 0)
                        return r;
                memcpy(chunk + filled, line, n_line);
                filled += n_line;
                n_lines++;
                if (i + 1 < n && filled <= SPOOL_CHUNK_MAX - SPOOL_LINE_MAX)
                        continue;
                r = spool_put(spool, chunk, filled, n_lines);
                if (r < 0)
                        return r;
                *ret_stored += n_lines;
                filled = n_lines = 0;
        }
        return 0;
}

/* Up to @max whole lines at @text. Return: their bytes. */
static size_t spool_span(const char *text, size_t n, size_t max, size_t *ret_lines) {
        size_t span = 0;

        *ret_lines = 0;
        while (*ret_lines < max) {
                const char *end = memchr(text + span, '\n', n - span);

                if (!end)
                        break;
                span = (size_t) (end - text) + 1;
                (*ret_lines)++;
        }
        return span;
}

static void spool_hand_over(Spool *spool, const char *text, size_t n, SpoolHandler handler, void *userdata) {
        while (n > 0) {
                const char *end = memchr(text, '\n', n);
                size_t n_line = end ? (size_t) (end - text) + 1 : n;
                char path[DISK_PATH_MAX];
                SpoolItem item;

                if (end && spool_parse(text, n_line - 1, path, &item) == 0)
                        handler(&item, userdata);
                else
                        spool->lost++;
                text += n_line;
                n -= n_line;
        }
}

int spool_take(Spool *spool, size_t max, SpoolHandler handler, void *userdata) {
        Segment *segment = spool->old.n > 0 ? &spool->old : &spool->current;
        _cleanup_(freep) char *chunk = NULL;
        _cleanup_(closep) int fd = -1;
        size_t n = 0, n_lines = 0, span, rest;
        int r;

        if (segment->n == 0 || max == 0)
                return 0;
        chunk = malloc(SPOOL_CHUNK_MAX);
        if (!chunk)
                return -ENOMEM;
        fd = open(segment->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 && errno != ENOENT)
                return -errno;
        if (fd >= 0) {
                r = spool_read_at(fd, chunk, SPOOL_CHUNK_MAX, segment->offset, &n);
                if (r < 0)
                        return r;
        }
        span = spool_span(chunk, n, max, &n_lines);
        if (span == 0)
                span = n; /* no line of ours is that long: skip it piece by piece */
        rest = segment->n > n_lines ? segment->n - n_lines : 0;
        r = segment_mark(segment, n == 0 ? segment->end : segment->offset + span);
        if (r < 0)
                return r;
        if (segment->end > 0)
                segment->n = rest;
        else
                spool->lost += rest; /* somebody else has removed or cut the file */

        spool_hand_over(spool, chunk, span, handler, userdata);
        return 0;
}

size_t spool_waiting(const Spool *spool) {
        return spool->old.n + spool->current.n;
}

uint64_t spool_take_lost(Spool *spool) {
        uint64_t lost = spool->lost;

        spool->lost = 0;
        return lost;
}
