/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Log records to the journal or to stderr. All buffers are on the stack and bounded: a record must be
 * possible when there is no memory left, and one that is too long is cut.
 */

#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#define SD_JOURNAL_SUPPRESS_LOCATION /* it would always name this file */
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#include "common/parse.h"

#define MESSAGE_MAX 2048
#define FIELDS_MAX  32   /* fields of a record, the fixed ones included */
#define FIELDS_TEXT 4096 /* all of them together */

static int log_max_level = LOG_INFO;
static bool log_to_journal;
static int journal_probe = -1; /* only ever polled */

/* systemd.exec(5): $JOURNAL_STREAM holds device and inode of the stream that systemd has connected. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        char own[64];
        struct stat st = {};

        if (!stream || fstat(STDERR_FILENO, &st) < 0)
                return false;
        snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
        return strcmp(stream, own) == 0;
}

/*
 * sd_journal_sendv() waits for a journal that has stopped reading. A socket of our own, connected to the
 * same address, polls as writable only while the journal's queue has room. systemd itself holds the address:
 * it outlives restarts.
 */
static void journal_connect(void) {
        const struct sockaddr_un address = { .sun_family = AF_UNIX,
                .sun_path = "/run/systemd/journal/socket" };

        if (journal_probe >= 0)
                return;
        journal_probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (journal_probe < 0)
                return;
        if (connect(journal_probe, (const struct sockaddr *) &address, sizeof(address)) < 0) {
                (void) close(journal_probe);
                journal_probe = -1;
        }
}

static bool can_write(int fd) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

        return poll(&poll_fd, 1, 0) == 1 && poll_fd.revents == POLLOUT;
}

void log_open(int max_level) {
        log_max_level = max_level;
        log_to_journal = stderr_is_journal();
        if (log_to_journal)
                journal_connect();
}

/* One record is one line, whatever a peer made us quote. */
static void message_flatten(char *text) {
        for (; *text; text++)
                if ((unsigned char) *text < 0x20 || *text == 0x7f)
                        *text = ' ';
}

static void stderr_write(int level, const char *text) {
        static const char *const names[] = { "emergency", "alert", "critical", "error", "warning", "notice",
                "info", "debug" };
        char line[MESSAGE_MAX + 64], at[FORMAT_TIME_MAX];
        struct timespec ts = {};
        int n;

        /* A pipe that polls as writable takes PIPE_BUF bytes at once; a closed one would raise SIGPIPE. */
        if (!can_write(STDERR_FILENO))
                return;
        (void) clock_gettime(CLOCK_REALTIME, &ts);
        n = snprintf(line, sizeof(line), "%s %s: %s\n",
                format_rfc3339(at, (Wall){ ts.tv_sec * INT64_C(1000000) }), names[level & LOG_PRIMASK],
                text);
        if (n > 0 && write(STDERR_FILENO, line, (size_t) n) < 0)
                return; /* lost, as promised */
}

typedef struct Record {
        struct iovec iov[FIELDS_MAX];
        int n;
        char text[FIELDS_TEXT];
        size_t used;
} Record;

__attribute__((format(printf, 2, 3))) static void record_add(Record *record, const char *format, ...) {
        const size_t room = sizeof(record->text) - record->used;
        va_list args;
        int n;

        if (record->n == FIELDS_MAX || room < 2)
                return;
        va_start(args, format);
        n = vsnprintf(record->text + record->used, room, format, args);
        va_end(args);
        if (n < 0)
                return;
        if ((size_t) n >= room)
                n = (int) room - 1;
        record->iov[record->n++] = (struct iovec){ record->text + record->used, (size_t) n };
        record->used += (size_t) n;
}

static void journal_write(int level, const char *message, const LogField *fields, const char *text) {
        Record record = {};

        if (journal_probe >= 0 && !can_write(journal_probe))
                return;
        record_add(&record, "PRIORITY=%d", level & LOG_PRIMASK);
        record_add(&record, "MESSAGE=%s", text);
        if (message)
                record_add(&record, "MESSAGE_ID=%s", message);
        for (; fields && fields->name; fields++)
                if (fields->text)
                        record_add(&record, "%s=%s", fields->name, fields->text);
                else
                        record_add(&record, "%s=%" PRId64, fields->name, fields->number);
        (void) sd_journal_sendv(record.iov, record.n);
}

void log_event(int level, const char *message, const LogField *fields, const char *format, ...) {
        const int saved = errno;
        char text[MESSAGE_MAX];
        va_list args;
        int n;

        if ((level & LOG_PRIMASK) > log_max_level)
                return;
        va_start(args, format);
        n = vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        if (n >= 0) {
                message_flatten(text);
                if (log_to_journal)
                        journal_write(level, message, fields, text);
                else
                        stderr_write(level, text);
        }
        errno = saved;
}
