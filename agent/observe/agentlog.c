/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The agent's log in three parts: a classifier of single lines, which is pure; the way back through what was written
 * before we started; and the follower.
 *
 * Everything is read in slices from a defer source, so that a flooded log never holds the loop for long, and only what
 * the page cache holds: a disk that hangs shows as a file that cannot be read, not as a daemon that hangs with it.
 */

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "agent/observe/agentlog.h"
#include "common/loop.h"
#include "common/parse.h"

#define FOLLOW_READ_BLOCK      ((size_t) 16 * 1024) /* the one buffer; a longer line is judged by its head */
#define FOLLOW_READ_SLICE      ((size_t) 256 * 1024)
#define FOLLOW_READ_PER_SECOND ((uint64_t) 4 * 1024 * 1024)
#define FOLLOW_PENDING_MAX     ((uint64_t) 4 * 1024 * 1024)
#define BACK_BYTES             ((uint64_t) 8 * 1024 * 1024)
#define BACK_LINES             64
#define BACK_NEIGHBOURS_MAX    4096 /* directory entries that are looked at */

#define FOLLOW_TICK SPAN_SEC(10)
#define FOLLOW_GATHER                                                                                       \
        SPAN_MSEC(100) /* a flood changes the file thousands of times a second: look ten times */
#define FOLLOW_DISK_PAUSE    SPAN_MSEC(20) /* until what was asked of the disk is looked for again */
#define FOLLOW_STALLED_AFTER SPAN_SEC(10)  /* without it the disk counts as hung */
#define FOLLOW_LEVEL_RAISED_AFTER                                                                           \
        SPAN_MIN(45) /* a healthy agent reconnects, at level info, at least every 36 min */

/* --- One line --- */

/** A piece of a line, not NUL-terminated. .p is NULL where there is none. */
typedef struct LineText {
        const char *p;
        size_t n;
} LineText;

typedef enum LineField {
        LINE_FIELD_LEVEL,
        LINE_FIELD_TIME,
        LINE_FIELD_MSG,
        LINE_FIELD_URL,
        LINE_FIELD_DELAY,
} LineField;
#define LINE_FIELD_N (LINE_FIELD_DELAY + 1)

typedef struct LineMessage {
        const char *text;
        LogLine line;
        bool begins; /* the message goes on after this */
        bool url;    /* said of both connections: counts only with the control connection's URL */
        bool delay;
} LineMessage;

/* Agent updates show at level debug only, but for a failed save and a download from an IPv6-only host. */
/* clang-format off */
static const LineMessage line_messages[] = {
        { "Connected to ACS endpoint",                          LOG_LINE_CONNECTED },
        { "ACS WebSocket connection closed for a valid reason", LOG_LINE_CLOSED },
        { "Reconnecting to ACS immediately without waiting",    LOG_LINE_TRYING },
        { "Disconnected from server.",                          LOG_LINE_CLOSED, .url = true },
        { "Closing connection",                                 LOG_LINE_NONE, .url = true },
        { "ACS WebSocket connection closed",                    LOG_LINE_LOST },
        { "ACS Connection hasn't had any activity for too long", LOG_LINE_LOST, .begins = true },
        { "Disconnected from ACS",                              LOG_LINE_LOST },
        { "Unable to extend read deadline for ACS connection",  LOG_LINE_LOST, .begins = true },
        { "Unable to set read deadline for websocket connection", LOG_LINE_LOST, .begins = true, .url = true },
        { "Establishing a Websocket connection",                LOG_LINE_TRYING, .url = true },
        { "Done waiting; reconnecting to ACS",                  LOG_LINE_TRYING },
        { "Websocket connection established.",                  LOG_LINE_NONE, .url = true },
        { "Error creating a websocket client",                  LOG_LINE_NONE, .begins = true, .url = true },
        { "Failed to connect to ACS",                           LOG_LINE_FAILED },
        { "ACS: Unable to discover poll endpoint",              LOG_LINE_FAILED },
        { "Waiting before reconnecting to ACS",                 LOG_LINE_WAITING, .delay = true },
        { "Container instance is deregistered",                 LOG_LINE_DEREGISTERED, .delay = true },
        { "Starting Amazon ECS Agent",                          LOG_LINE_STARTED },
        { "Agent received termination signal",                  LOG_LINE_STOPPING, .begins = true },
        { "ACS session ended (context closed)",                 LOG_LINE_STOPPING },
        { "Agent will terminally exit",                         LOG_LINE_TERMINAL, .begins = true },
        { "Staging update",                                     LOG_LINE_UPDATING, .begins = true },
        { "Got perform update request",                         LOG_LINE_UPDATING },
        { "Received message of type: StageUpdateMessage",       LOG_LINE_UPDATING },
        { "Received message of type: PerformUpdateMessage",     LOG_LINE_UPDATING },
        { "Converting agent update URL to dual-stack",          LOG_LINE_UPDATING, .begins = true },
        { "Error saving before update exit",                    LOG_LINE_UPDATING, .begins = true },
};
/* clang-format on */

static bool line_text_is(LineText text, const char *other) {
        return text.n == strlen(other) && memcmp(text.p, other, text.n) == 0;
}

static bool line_text_begins(LineText text, const char *other) {
        return text.n >= strlen(other) && memcmp(text.p, other, strlen(other)) == 0;
}

static void line_text_skip(LineText *text, size_t n) {
        text->p += n;
        text->n -= n;
}

static void line_text_skip_blanks(LineText *text) {
        while (text->n > 0 && text->p[0] == ' ')
                line_text_skip(text, 1);
}

/* Takes a quoted text off the front, quotes removed, escapes left alone. False if its end is missing. */
static bool line_take_quoted(LineText *rest, LineText *ret) {
        for (size_t i = 1; i < rest->n; i++) {
                if (rest->p[i] == '\\') {
                        i++;
                        continue;
                }
                if (rest->p[i] != '"')
                        continue;
                *ret = (LineText){ rest->p + 1, i - 1 };
                line_text_skip(rest, i + 1);
                return true;
        }
        return false;
}

/* Length of the name in front of a '='; 0 if there is none. */
static size_t line_key_length(const char *p, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (p[i] == '=')
                        return i;
                if (!(p[i] >= 'a' && p[i] <= 'z') && !(p[i] >= 'A' && p[i] <= 'Z') &&
                        !(p[i] >= '0' && p[i] <= '9') && p[i] != '_')
                        return 0;
        }
        return 0;
}

static bool line_next_logfmt(LineText *rest, LineText *key, LineText *value) {
        size_t n;

        line_text_skip_blanks(rest);
        n = line_key_length(rest->p, rest->n);
        if (n == 0)
                return false;
        *key = (LineText){ rest->p, n };
        line_text_skip(rest, n + 1);

        if (rest->n > 0 && rest->p[0] == '"')
                return line_take_quoted(rest, value) && (rest->n == 0 || rest->p[0] == ' ');

        /* What is no text is not quoted and may hold blanks: it ends where a name begins. */
        for (n = 0; n < rest->n; n++)
                if (rest->p[n] == ' ' && line_key_length(rest->p + n + 1, rest->n - n - 1) > 0)
                        break;
        *value = (LineText){ rest->p, n };
        line_text_skip(rest, n);
        return true;
}

/* Takes a number, literal, object or array off the front. */
static bool line_take_json_other(LineText *rest, LineText *ret) {
        const char *start = rest->p;
        LineText inner = {};
        unsigned depth = 0;

        while (rest->n > 0) {
                char c = rest->p[0];

                if (depth == 0 && (c == ',' || c == '}'))
                        break;
                if (c == '"') {
                        if (!line_take_quoted(rest, &inner))
                                return false;
                        continue;
                }
                if (c == '{' || c == '[')
                        depth++;
                else if ((c == '}' || c == ']') && depth > 0)
                        depth--;
                line_text_skip(rest, 1);
        }
        *ret = (LineText){ start, (size_t) (rest->p - start) };
        return true;
}

static bool line_next_json(LineText *rest, LineText *key, LineText *value) {
        while (rest->n > 0 && (rest->p[0] == ' ' || rest->p[0] == ','))
                line_text_skip(rest, 1);
        if (rest->n == 0 || rest->p[0] != '"' || !line_take_quoted(rest, key))
                return false;
        line_text_skip_blanks(rest);
        if (rest->n == 0 || rest->p[0] != ':')
                return false;
        line_text_skip(rest, 1);
        line_text_skip_blanks(rest);
        if (!(rest->n > 0 && rest->p[0] == '"' ? line_take_quoted(rest, value)
                                               : line_take_json_other(rest, value)))
                return false;
        line_text_skip_blanks(rest);
        return rest->n == 0 || rest->p[0] == ',' || rest->p[0] == '}';
}

static int line_field(LineText key) {
        static const struct {
                const char *name;
                LineField field;
        } names[] = {
                { "level", LINE_FIELD_LEVEL },
                { "time", LINE_FIELD_TIME },
                { "msg", LINE_FIELD_MSG },
                { "url", LINE_FIELD_URL },
                { "URL", LINE_FIELD_URL },
                { "reconnectDelay", LINE_FIELD_DELAY },
        };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (line_text_is(key, names[i].name))
                        return (int) names[i].field;
        return -1;
}

static const LineMessage *line_message(LineText msg) {
        for (size_t i = 0; i < ELEMENTSOF(line_messages); i++) {
                const LineMessage *m = &line_messages[i];

                if (m->begins ? line_text_begins(msg, m->text) : line_text_is(msg, m->text))
                        return m;
        }
        return NULL;
}

/*
 * Finds the fields that matter. The first of each name counts: the agent writes level, time and msg first, and what
 * follows may hold texts that others have chosen. A line whose message says nothing to us is left there, which is
 * what makes a flood cheap.
 */
static const LineMessage *line_read(const char *line, size_t n, LineText fields[LINE_FIELD_N]) {
        LineText rest = { line, n }, key = {}, value = {};
        bool json = n > 0 && line[0] == '{';
        const LineMessage *message = NULL;

        if (n == 0 || line[0] == ' ')
                return NULL;
        if (json)
                line_text_skip(&rest, 1);
        while (json ? line_next_json(&rest, &key, &value) : line_next_logfmt(&rest, &key, &value)) {
                int field = line_field(key);

                if (field < 0 || fields[field].p)
                        continue;
                fields[field] = value;
                if (field == LINE_FIELD_MSG)
                        message = line_message(value);
                if (fields[LINE_FIELD_MSG].p && fields[LINE_FIELD_LEVEL].p && fields[LINE_FIELD_TIME].p &&
                        (!message || (!message->url && !message->delay)))
                        break;
        }
        return message;
}

static bool line_level(LineText level, bool *ret_info) {
        static const char *const low[] = { "info", "debug", "trace" };
        static const char *const high[] = { "warn", "error", "critical" };

        for (size_t i = 0; i < ELEMENTSOF(low); i++)
                if (line_text_is(level, low[i]) || line_text_is(level, high[i])) {
                        *ret_info = line_text_is(level, low[i]);
                        return true;
                }
        return false;
}

/* "1m13.4s"; as JSON also a number of nanoseconds. */
static Span line_delay(LineText text) {
        int64_t nsec = 0;
        Span delay = 0;

        if (text.n == 0)
                return 0;
        if (parse_go_duration(text.p, text.n, &delay) == 0)
                return span_max(delay, 0);
        for (size_t i = 0; i < text.n; i++) {
                if (text.p[i] < '0' || text.p[i] > '9' || nsec > INT64_MAX / 10 - 1)
                        return 0;
                nsec = nsec * 10 + (text.p[i] - '0');
        }
        return nsec / 1000;
}

static bool line_host_char(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
               c == '-' || c == '_' || c == ':';
}

/* "host", "host:port", "[address]", "[address]:port". @ret is changed on success only. */
static bool line_authority(LineText authority, uint16_t standard_port, AgentLogLine *ret) {
        LineText host = authority, port = {};
        unsigned number = 0;
        const char *p;

        if (authority.n > 0 && authority.p[0] == '[') {
                p = memchr(authority.p, ']', authority.n);
                if (!p)
                        return false;
                host = (LineText){ authority.p + 1, (size_t) (p - authority.p) - 1 };
                port = (LineText){ p + 1, authority.n - host.n - 2 };
        } else {
                p = memchr(authority.p, ':', authority.n);
                if (p) {
                        host.n = (size_t) (p - authority.p);
                        port = (LineText){ p, authority.n - host.n };
                }
        }
        if (host.n == 0 || host.n >= sizeof(ret->host))
                return false;
        for (size_t i = 0; i < host.n; i++)
                if (!line_host_char(host.p[i]))
                        return false;
        if (port.n > 0 && (port.p[0] != ':' || port.n < 2 || port.n > 6))
                return false;
        for (size_t i = 1; i < port.n; i++) {
                if (port.p[i] < '0' || port.p[i] > '9')
                        return false;
                number = number * 10 + (unsigned) (port.p[i] - '0');
        }
        if (port.n > 0 && (number == 0 || number > UINT16_MAX))
                return false;

        memcpy(ret->host, host.p, host.n);
        ret->host[host.n] = '\0';
        ret->port = port.n > 0 ? (uint16_t) number : standard_port;
        return true;
}

static void line_url(LineText url, AgentLogLine *ret) {
        static const struct {
                const char *text;
                bool plain;
        } schemes[] = { { "https://", false }, { "wss://", false }, { "http://", true }, { "ws://", true } };

        for (size_t i = 0; i < ELEMENTSOF(schemes); i++) {
                LineText authority = url;

                if (!line_text_begins(url, schemes[i].text))
                        continue;
                line_text_skip(&authority, strlen(schemes[i].text));
                for (size_t n = 0; n < authority.n; n++)
                        if (strchr("/?#", authority.p[n])) {
                                authority.n = n;
                                break;
                        }
                if (line_authority(authority, schemes[i].plain ? 80 : 443, ret))
                        ret->plain = schemes[i].plain;
                return;
        }
}

/* Only the control connection's URL has this; JSON writes the '&' before it as \u0026. */
static bool line_url_is_acs(LineText url) {
        return url.p && memmem(url.p, url.n, "seqNum=", strlen("seqNum="));
}

void agentlog_classify(const char *line, size_t n, AgentLogLine *ret) {
        LineText fields[LINE_FIELD_N] = {};
        const LineMessage *message;

        memset(ret, 0, sizeof(*ret));
        message = line_read(line, n, fields);
        /* Values may hold newlines: what follows one is no line of its own unless it looks like one. */
        if (!fields[LINE_FIELD_MSG].p || !fields[LINE_FIELD_LEVEL].p ||
                !line_level(fields[LINE_FIELD_LEVEL], &ret->info))
                return;
        if (fields[LINE_FIELD_TIME].p &&
                parse_rfc3339(fields[LINE_FIELD_TIME].p, fields[LINE_FIELD_TIME].n, &ret->time) < 0)
                ret->time = WALL_NEVER;
        if (!message)
                return;
        if (message->url) {
                /* One message carries the URL in its text. */
                bool acs = line_url_is_acs(fields[LINE_FIELD_URL]);

                if (!acs && !line_url_is_acs(fields[LINE_FIELD_MSG]))
                        return;
                if (acs)
                        line_url(fields[LINE_FIELD_URL], ret);
        }
        ret->line = message->line;
        if (message->delay && fields[LINE_FIELD_DELAY].p)
                ret->delay = line_delay(fields[LINE_FIELD_DELAY]);
}

/* --- The file --- */

typedef struct BackLine {
        LogLine line;
        Wall time;
        Span delay;
} BackLine;

/** The way back from the end of the file, block by block. */
typedef struct Back {
        bool active;
        int fd;         /* of the rolled neighbour; -1: it is the active file that is read */
        bool tail;      /* the block at the very end, which may end in half a line, is still to come */
        bool neighbour; /* the neighbour has had its turn, or there is none */
        uint64_t end;   /* what lies before this is still to be read */
        uint64_t left;  /* bytes that may still be read */
        bool connected; /* the last CONNECTED was found: what lies before it does not matter */
        bool host;      /* the newest URL was found */
        bool info;      /* a line of level info was found */
        Mono last;      /* time of the last line of all */
        unsigned n;
        BackLine lines[BACK_LINES]; /* newest first; the last two places hold the two oldest */
} Back;

struct AgentLog {
        sd_event *event;
        char *path, *directory;
        const char *name; /* last part of .path */
        SampleHandler handler;
        void *userdata;
        bool *freed; /* set when we are freed from within the handler; NULL outside */

        sd_event_source *watch; /* inotify, off while it would only repeat itself */
        int inotify, wd_directory, wd_file;
        sd_event_source *reader; /* defer, on while there is something to do */
        Timer *tick, *pause;

        int fd;
        uint64_t offset; /* of what is not in the buffer yet */
        bool opened; /* it has been open once, or was absent at first: from now on files are read from their start */
        Sight sight;
        bool changed; /* the condition has changed and was not handed over yet */
        bool level_raised;
        Mono written;
        Mono stalled;         /* the disk owes us something since; MONO_NEVER: no */
        Mono loud_since;      /* no line of level info since this one; MONO_NEVER: the last line was one */
        Mono second;          /* the second that .in_second counts */
        uint64_t in_second;   /* bytes */
        AgentLogLine control; /* .host, .port, .plain of the newest URL */
        Back back;

        bool skipping; /* the rest of this line is dropped */
        size_t used;   /* of the buffer: the beginning of a line */
        char buffer[FOLLOW_READ_BLOCK];
};

static Mono follow_mono(Now now, Wall time) {
        Mono at = now.mono;

        /* A line is never from the future: what claims to be was written now by another clock. */
        if (wall_is_set(time))
                at = mono_add(at, -span_max(wall_since(now.wall, time), 0));
        /* Before this boot it is negative, but never "never". */
        return mono_is_set(at) ? at : (Mono){ -1 };
}

/* Hands @sample over. False if the handler has freed us. */
static bool follow_hand_over(AgentLog *log, const Sample *sample) {
        bool freed = false;

        log->freed = &freed;
        log->handler(sample, log->userdata);
        if (!freed)
                log->freed = NULL;
        return !freed;
}

static bool follow_hand_over_line(AgentLog *log, LogLine line, Mono at, Span delay, bool back) {
        Sample sample = { .witness = WITNESS_LOG, .sight = SIGHT_CLEAR };

        sample.log.line = line;
        sample.log.at = at;
        sample.log.delay = delay;
        sample.log.back = back;
        sample.log.level_raised = log->level_raised;
        sample.log.written = log->written;
        return follow_hand_over(log, &sample);
}

/* Last in each handler, for it may free us: what became of the file. */
static void follow_report(AgentLog *log, bool always) {
        Sample sample = { .witness = WITNESS_LOG, .sight = log->sight };

        /* What was read back comes first, unless reading is what goes wrong. */
        if (log->back.active && log->sight == SIGHT_CLEAR)
                return;
        if (!log->changed && !always)
                return;
        log->changed = false;
        sample.log.level_raised = log->level_raised;
        sample.log.written = log->written;
        (void) follow_hand_over(log, &sample);
}

static void follow_see(AgentLog *log, Sight sight) {
        if (log->sight != sight)
                log->changed = true;
        log->sight = sight;
}

static void follow_level(AgentLog *log, bool info, Mono at) {
        bool raised;

        if (info)
                log->loud_since = MONO_NEVER;
        else if (!mono_is_set(log->loud_since))
                log->loud_since = at;
        raised = !info && mono_since(at, log->loud_since) > FOLLOW_LEVEL_RAISED_AFTER;
        if (raised != log->level_raised)
                log->changed = true;
        log->level_raised = raised;
}

static void follow_control(AgentLog *log, const AgentLogLine *line) {
        memcpy(log->control.host, line->host, sizeof(log->control.host));
        log->control.port = line->port;
        log->control.plain = line->plain;
}

static void follow_read_on(AgentLog *log) {
        (void) sd_event_source_set_enabled(log->reader, SD_EVENT_ON);
}

/* Nothing more for now: until the file changes. */
static void follow_rest(AgentLog *log) {
        (void) sd_event_source_set_enabled(log->reader, SD_EVENT_OFF);
}

/* Nothing more until @at, whatever happens to the file. */
static void follow_pause(AgentLog *log, Mono at) {
        follow_rest(log);
        (void) sd_event_source_set_enabled(log->watch, SD_EVENT_OFF);
        (void) timer_arm(log->pause, at);
}

/* The disk is slow: what we want has been asked for and is looked for again soon. */
static void follow_wait_for_disk(AgentLog *log) {
        Mono now = loop_now(log->event).mono;

        if (!mono_is_set(log->stalled))
                log->stalled = now;
        if (mono_since(now, log->stalled) > FOLLOW_STALLED_AFTER)
                follow_see(log, SIGHT_FAILED);
        follow_pause(log, mono_add(now, FOLLOW_DISK_PAUSE));
}

/* Reads from the page cache only; -EAGAIN if it is not there yet, and then has the kernel fetch it. */
static ssize_t follow_read(AgentLog *log, int fd, char *buffer, size_t n, uint64_t offset) {
        struct iovec iov = { buffer, n };
        ssize_t r;

        r = preadv2(fd, &iov, 1, (off_t) offset, RWF_NOWAIT);
        /* Some file systems cannot tell. */
        if (r < 0 && errno == EOPNOTSUPP)
                r = pread(fd, buffer, n, (off_t) offset);
        if (r < 0 && errno != EAGAIN && errno != EINTR)
                return -errno;
        if (r < 0) {
                (void) posix_fadvise(fd, (off_t) offset, (off_t) n, POSIX_FADV_WILLNEED);
                return -EAGAIN;
        }
        log->stalled = MONO_NEVER;
        return r;
}

static void follow_watch_directory(AgentLog *log) {
        int wd;

        /* Again for the same directory gives the same number, for a new one in its place another. */
        wd = inotify_add_watch(log->inotify, log->directory,
                IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_ONLYDIR);
        if (log->wd_directory >= 0 && wd != log->wd_directory)
                (void) inotify_rm_watch(log->inotify, log->wd_directory);
        log->wd_directory = wd;
}

static void follow_watch_file(AgentLog *log) {
        char path[64];

        if (log->wd_file >= 0)
                (void) inotify_rm_watch(log->inotify, log->wd_file);
        log->wd_file = -1;
        if (log->fd < 0)
                return;
        /* By the descriptor: the name may belong to another file by now. */
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", log->fd);
        log->wd_file = inotify_add_watch(log->inotify, path, IN_MODIFY);
}

static void follow_close(AgentLog *log) {
        closep(&log->fd);
        log->fd = -1;
        log->offset = 0;
        log->used = 0;
        log->skipping = false;
        log->stalled = MONO_NEVER;
        follow_watch_file(log);
}

static Sight follow_sight_of(int error) {
        switch (-error) {
        case ENOENT:
        case ENOTDIR: return SIGHT_ABSENT;
        case EACCES:
        case EPERM: return SIGHT_DENIED;
        default: return SIGHT_FAILED;
        }
}

/* Opens a regular file without being held by what else may bear the name. */
static int follow_open_file(int directory, const char *path, uint64_t *ret_size) {
        _cleanup_(closep) int fd = -1;
        struct stat st;

        fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EBADFD;
        *ret_size = (uint64_t) st.st_size;
        return steal_fd(&fd);
}

static void back_start(AgentLog *log, uint64_t size) {
        log->back = (Back){ .active = true, .fd = -1, .tail = true, .end = size, .left = BACK_BYTES };
}

static void follow_open(AgentLog *log) {
        uint64_t size = 0;
        int fd;

        fd = follow_open_file(AT_FDCWD, log->path, &size);
        if (fd < 0) {
                follow_see(log, follow_sight_of(fd));
                if (log->sight == SIGHT_ABSENT)
                        log->opened = true;
                follow_rest(log);
                return;
        }
        log->fd = fd;
        follow_watch_file(log);
        follow_see(log, SIGHT_CLEAR);
        if (!log->opened)
                back_start(log, size);
        log->opened = true;
}

/* --- The way back --- */

static void back_keep(Back *back, const AgentLogLine *line) {
        if (back->n == BACK_LINES) {
                back->lines[BACK_LINES - 2] = back->lines[BACK_LINES - 1];
                back->n--;
        }
        back->lines[back->n++] = (BackLine){ line->line, line->time, line->delay };
        back->connected = line->line == LOG_LINE_CONNECTED;
}

/* The lines after the last one of level info: since when. */
static void back_level(AgentLog *log, const AgentLogLine *line, Mono at) {
        Back *back = &log->back;

        if (!mono_is_set(back->last))
                back->last = at;
        if (line->info)
                back->info = true;
        if (!back->info)
                log->loud_since = mono_is_set(log->loud_since) ? mono_min(log->loud_since, at) : at;
}

static void back_line(AgentLog *log, const char *text, size_t n) {
        Back *back = &log->back;
        AgentLogLine line;

        agentlog_classify(text, n, &line);
        if (!wall_is_set(line.time))
                return;
        back_level(log, &line, follow_mono(loop_now(log->event), line.time));
        if (line.host[0] && !back->host) {
                back->host = true;
                follow_control(log, &line);
        }
        if (line.line != LOG_LINE_NONE && !back->connected)
                back_keep(back, &line);
}

/* Nothing before this point would change what is known. */
static bool back_knows(const Back *back) {
        return back->connected && back->host;
}

/* The @n bytes at @start of the file are in the buffer: the lines in it from the last to the first. */
static void back_block(AgentLog *log, uint64_t start, size_t n) {
        Back *back = &log->back;
        size_t stop = n;
        char *newline, *first;

        if (back->tail) {
                /* Half a line at the end is the follower's. */
                newline = memrchr(log->buffer, '\n', stop);
                stop = newline ? (size_t) (newline - log->buffer) + 1 : 0;
                log->offset = newline || start == 0 ? start + stop : start + n;
                log->skipping = !newline && start > 0;
                back->tail = false;
        }
        while (!back_knows(back) && (newline = memrchr(log->buffer, '\n', stop))) {
                back_line(log, newline + 1, (size_t) (log->buffer + stop - (newline + 1)));
                stop = (size_t) (newline - log->buffer);
        }
        if (start == 0 && !back_knows(back))
                back_line(log, log->buffer, stop);

        /* What stands before the first newline belongs to a line that begins further back: it is read once more with
         * that, unless it fills the block; of such a long line only the head counts. */
        first = memchr(log->buffer, '\n', n);
        if (start == 0)
                back->end = 0;
        else if (first && first + 1 < log->buffer + n)
                back->end = start + (uint64_t) (first - log->buffer) + 1;
        else
                back->end = start;
}

static bool back_is_rolled(const AgentLog *log, const char *name) {
        size_t n = strlen(log->name);

        /* "ecs-agent.log.24", "ecs-agent.log.2026-06-30-10" */
        return strncmp(name, log->name, n) == 0 && name[n] == '.' && name[n + 1] &&
               name[n + 1 + strspn(name + n + 1, "0123456789-")] == '\0';
}

static bool back_is_newer(
        const struct stat *a, const char *a_name, const struct stat *b, const char *b_name) {
        if (a->st_mtim.tv_sec != b->st_mtim.tv_sec)
                return a->st_mtim.tv_sec > b->st_mtim.tv_sec;
        if (a->st_mtim.tv_nsec != b->st_mtim.tv_nsec)
                return a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
        return strverscmp(a_name, b_name) > 0;
}

/*
 * The rolled file that was written to last. By time and not by number: both ways to roll may have left files behind,
 * and other tools count the other way round.
 */
static int back_open_neighbour(AgentLog *log, uint64_t *ret_size) {
        char newest[NAME_MAX + 1] = "";
        struct stat newest_st = {}, st;
        unsigned n = 0;
        DIR *d;
        int fd;

        d = opendir(log->directory);
        if (!d)
                return -errno;
        for (struct dirent *entry; n < BACK_NEIGHBOURS_MAX && (entry = readdir(d)); n++) {
                if (!back_is_rolled(log, entry->d_name) || fstatat(dirfd(d), entry->d_name, &st, 0) < 0)
                        continue;
                if (newest[0] && !back_is_newer(&st, entry->d_name, &newest_st, newest))
                        continue;
                newest_st = st;
                (void) snprintf(newest, sizeof(newest), "%s", entry->d_name);
        }
        fd = newest[0] ? follow_open_file(dirfd(d), newest, ret_size) : -ENOENT;
        (void) closedir(d);
        return fd;
}

/* Goes on to the neighbour. False if there is nothing more to read. */
static bool back_next_file(AgentLog *log) {
        Back *back = &log->back;
        uint64_t size = 0;

        if (back->neighbour || back->left == 0)
                return false;
        back->neighbour = true;
        back->tail = false;
        back->fd = back_open_neighbour(log, &size);
        back->end = size;
        return back->fd >= 0;
}

/* Hands over what was found, oldest first. False if we were freed. */
static bool back_finish(AgentLog *log) {
        Back *back = &log->back;
        Now now = loop_now(log->event);

        back->active = false;
        closep(&back->fd);
        back->fd = -1;
        log->changed = true;
        if (mono_is_set(log->loud_since))
                log->level_raised = mono_since(back->last, log->loud_since) > FOLLOW_LEVEL_RAISED_AFTER;
        while (back->n > 0) {
                const BackLine *line = &back->lines[--back->n];

                if (!follow_hand_over_line(log, line->line, follow_mono(now, line->time), line->delay, true))
                        return false;
        }
        return true;
}

/* Reads one block that ends at .end. Return: its length; 0 if this file has no more; -EAGAIN. */
static ssize_t back_read(AgentLog *log, uint64_t *ret_start) {
        Back *back = &log->back;
        int fd = back->fd >= 0 ? back->fd : log->fd;
        uint64_t n = back->end < back->left ? back->end : back->left;
        struct stat st;
        ssize_t r;

        if (n > FOLLOW_READ_BLOCK)
                n = FOLLOW_READ_BLOCK;
        if (n == 0)
                return 0;
        *ret_start = back->end - n;
        r = follow_read(log, fd, log->buffer, (size_t) n, *ret_start);
        if (r == (ssize_t) n || r == -EAGAIN)
                return r;
        /* Cut short meanwhile, or unreadable: what is known then has to do. */
        if (r < 0 || fstat(fd, &st) < 0 || (uint64_t) st.st_size < back->end)
                return 0;
        (void) posix_fadvise(fd, (off_t) (*ret_start + (uint64_t) r), (off_t) n - r, POSIX_FADV_WILLNEED);
        return -EAGAIN;
}

/* False if we were freed. */
static bool back_slice(AgentLog *log) {
        Back *back = &log->back;

        for (size_t done = 0; done < FOLLOW_READ_SLICE;) {
                uint64_t start = 0;
                ssize_t r = back_read(log, &start);

                if (r == -EAGAIN) {
                        follow_wait_for_disk(log);
                        return true;
                }
                if (r == 0) {
                        if (back_next_file(log))
                                continue;
                        return back_finish(log);
                }
                follow_see(log, SIGHT_CLEAR);
                done += (size_t) r;
                back->left -= (uint64_t) r;
                back_block(log, start, (size_t) r);
                if (back_knows(back))
                        return back_finish(log);
        }
        return true;
}

/* --- Following --- */

/* False if we were freed. */
static bool follow_line(AgentLog *log, const char *text, size_t n) {
        Now now = loop_now(log->event);
        AgentLogLine line;

        agentlog_classify(text, n, &line);
        if (wall_is_set(line.time))
                follow_level(log, line.info, now.mono);
        if (line.host[0])
                follow_control(log, &line);
        if (line.line == LOG_LINE_NONE)
                return true;
        return follow_hand_over_line(log, line.line, follow_mono(now, line.time), line.delay, false);
}

/* Takes the whole lines out of the buffer. False if we were freed. */
static bool follow_lines(AgentLog *log) {
        char *start = log->buffer, *end = log->buffer + log->used, *newline;

        while ((newline = memchr(start, '\n', (size_t) (end - start)))) {
                if (!log->skipping && !follow_line(log, start, (size_t) (newline - start)))
                        return false;
                log->skipping = false;
                start = newline + 1;
        }
        if (log->skipping)
                start = end;
        if ((size_t) (end - start) == FOLLOW_READ_BLOCK) {
                if (!follow_line(log, start, FOLLOW_READ_BLOCK))
                        return false;
                log->skipping = true;
                start = end;
        }
        log->used = (size_t) (end - start);
        memmove(log->buffer, start, log->used);
        return true;
}

/* What the name stands for now, compared with what is open. */
typedef enum Place {
        PLACE_SAME,  /* or not to be told */
        PLACE_OTHER, /* another file has taken its place */
        PLACE_GONE,  /* deleted */
} Place;

static Place follow_place(const AgentLog *log) {
        struct stat named, open;

        if (fstat(log->fd, &open) < 0)
                return PLACE_SAME;
        if (stat(log->path, &named) < 0)
                /* Renamed, and no new one yet: the old one may still be written to. */
                return errno == ENOENT && open.st_nlink == 0 ? PLACE_GONE : PLACE_SAME;
        return named.st_dev == open.st_dev && named.st_ino == open.st_ino ? PLACE_SAME : PLACE_OTHER;
}

/* All is read. False if we were freed. */
static bool follow_end(AgentLog *log, Place place) {
        if (place == PLACE_SAME) {
                follow_rest(log);
                return true;
        }
        if (log->used > 0 && !log->skipping && !follow_line(log, log->buffer, log->used))
                return false;
        follow_close(log);
        if (place == PLACE_GONE) {
                follow_see(log, SIGHT_ABSENT);
                follow_rest(log);
        }
        return true;
}

/* Where to begin in a file of @size: it may have been cut, or have grown faster than anyone needs to read. */
static void follow_seek(AgentLog *log, uint64_t size) {
        if (size < log->offset) {
                log->offset = 0;
                log->used = 0;
                log->skipping = false;
        }
        if (size - log->offset > FOLLOW_PENDING_MAX) {
                log->offset = size - FOLLOW_PENDING_MAX;
                log->used = 0;
                log->skipping = true;
        }
}

/* How much may still be read in this second; pauses until the next one if there is nothing left. */
static uint64_t follow_allowance(AgentLog *log) {
        Mono now = loop_now(log->event).mono;

        if (!mono_is_set(log->second) || mono_since(now, log->second) >= SPAN_SEC(1)) {
                log->second = now;
                log->in_second = 0;
        }
        if (log->in_second >= FOLLOW_READ_PER_SECOND)
                follow_pause(log, mono_add(log->second, SPAN_SEC(1)));
        return FOLLOW_READ_PER_SECOND - log->in_second;
}

/* Reads what fits into the buffer. Return: bytes, 0 at the end; -EAGAIN and other errors. */
static ssize_t follow_fill(AgentLog *log, uint64_t size, uint64_t allowance) {
        uint64_t n = FOLLOW_READ_BLOCK - log->used;
        ssize_t r;

        if (n > size - log->offset)
                n = size - log->offset;
        if (n > allowance)
                n = allowance;
        if (n == 0)
                return 0;
        r = follow_read(log, log->fd, log->buffer + log->used, (size_t) n, log->offset);
        if (r <= 0)
                return r;
        log->offset += (uint64_t) r;
        log->used += (size_t) r;
        log->in_second += (uint64_t) r;
        log->written = loop_now(log->event).mono;
        return r;
}

/* False if we were freed. */
static bool follow_slice(AgentLog *log) {
        Place place =
                follow_place(log); /* before the size, so that the end that is reached is the last one */
        struct stat st;

        if (fstat(log->fd, &st) < 0) {
                follow_close(log);
                return true;
        }
        follow_seek(log, (uint64_t) st.st_size);

        for (size_t done = 0; done < FOLLOW_READ_SLICE;) {
                uint64_t allowance = follow_allowance(log);
                ssize_t r;

                if (allowance == 0)
                        return true;
                r = follow_fill(log, (uint64_t) st.st_size, allowance);
                if (r == -EAGAIN) {
                        follow_wait_for_disk(log);
                        return true;
                }
                if (r < 0) {
                        follow_see(log, SIGHT_FAILED);
                        follow_rest(log);
                        return true;
                }
                follow_see(log, SIGHT_CLEAR);
                if (r == 0)
                        return follow_end(log, place);
                done += (size_t) r;
                if (!follow_lines(log))
                        return false;
        }
        return true;
}

static int follow_on_reader(sd_event_source *source, void *userdata) {
        AgentLog *log = userdata;
        bool alive = true;

        (void) source;
        if (log->fd < 0)
                follow_open(log);
        else if (log->back.active)
                alive = back_slice(log);
        else
                alive = follow_slice(log);
        if (alive)
                follow_report(log, false);
        return 0;
}

static int follow_on_watch(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        AgentLog *log = userdata;
        union {
                struct inotify_event event;
                char bytes[4096];
        } buffer;
        ssize_t n;

        (void) source;
        (void) revents;
        /* Whatever it was (a lost event included), the answer is the same: look. Only a watch's end needs care. */
        while ((n = read(fd, &buffer, sizeof(buffer))) > 0)
                for (ssize_t i = 0; i < n;) {
                        const struct inotify_event *event =
                                (const struct inotify_event *) (buffer.bytes + i);

                        if (event->mask & IN_IGNORED && event->wd == log->wd_directory)
                                log->wd_directory = -1;
                        if (event->mask & IN_IGNORED && event->wd == log->wd_file)
                                log->wd_file = -1;
                        i += (ssize_t) sizeof(*event) + (ssize_t) event->len;
                }
        follow_pause(log, mono_add(loop_now(log->event).mono, FOLLOW_GATHER));
        follow_read_on(log);
        return 0;
}

static void follow_on_pause(Timer *timer, Now now, void *userdata) {
        AgentLog *log = userdata;

        (void) timer;
        (void) now;
        (void) sd_event_source_set_enabled(log->watch, SD_EVENT_ON);
        follow_read_on(log);
}

static void follow_on_tick(Timer *timer, Now now, void *userdata) {
        AgentLog *log = userdata;

        (void) timer_arm(timer, mono_add(now.mono, FOLLOW_TICK));
        /* For directories that come and go, file systems without inotify, and files that a link leads to. */
        follow_watch_directory(log);
        if (log->wd_file < 0)
                follow_watch_file(log);
        follow_read_on(log);
        follow_report(log, true);
}

static int follow_split(AgentLog *log, const char *path) {
        const char *slash = strrchr(path, '/');

        log->path = strdup(path);
        if (!slash)
                log->directory = strdup(".");
        else
                log->directory = strndup(path, slash == path ? 1 : (size_t) (slash - path));
        if (!log->path || !log->directory)
                return -ENOMEM;
        log->name = slash ? log->path + (slash - path) + 1 : log->path;
        return 0;
}

static int follow_set_up(AgentLog *log) {
        int r;

        log->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (log->inotify < 0)
                return -errno;
        r = sd_event_add_io(log->event, &log->watch, log->inotify, EPOLLIN, follow_on_watch, log);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(log->watch, "agent log: changes");
        r = sd_event_add_defer(log->event, &log->reader, follow_on_reader, log);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(log->reader, "agent log: reading");
        r = sd_event_source_set_enabled(log->reader, SD_EVENT_ON);
        if (r < 0)
                return r;
        r = timer_new(&log->pause, log->event, "agent log: pause", SPAN_MSEC(5), follow_on_pause, log);
        if (r < 0)
                return r;
        r = timer_new(&log->tick, log->event, "agent log: tick", SPAN_SEC(1), follow_on_tick, log);
        if (r < 0)
                return r;
        follow_watch_directory(log);
        return timer_arm(
                log->tick, mono_add(loop_now(log->event).mono,
                                   FOLLOW_TICK / 2 + (Span) (loop_random() % (uint64_t) FOLLOW_TICK) / 2));
}

int agentlog_new(AgentLog **ret, sd_event *event, const char *path, SampleHandler handler, void *userdata) {
        _cleanup_(agentlog_freep) AgentLog *log = NULL;
        int r;

        assert(handler);

        if (!path[0] || path[strlen(path) - 1] == '/')
                return -EINVAL;

        log = calloc(1, sizeof(*log));
        if (!log)
                return -ENOMEM;
        log->event = sd_event_ref(event);
        log->handler = handler;
        log->userdata = userdata;
        log->fd = log->inotify = log->back.fd = log->wd_directory = log->wd_file = -1;
        r = follow_split(log, path);
        if (r < 0)
                return r;
        r = follow_set_up(log);
        if (r < 0)
                return r;

        *ret = steal_ptr(log);
        return 0;
}

AgentLog *agentlog_free(AgentLog *log) {
        if (!log)
                return NULL;
        if (log->freed)
                *log->freed = true;
        sd_event_source_disable_unref(log->watch);
        sd_event_source_disable_unref(log->reader);
        (void) timer_free(log->tick);
        (void) timer_free(log->pause);
        closep(&log->inotify);
        closep(&log->fd);
        closep(&log->back.fd);
        free(log->path);
        free(log->directory);
        sd_event_unref(log->event);
        free(log);
        return NULL;
}

const char *agentlog_control_host(const AgentLog *log, uint16_t *port, bool *plain) {
        if (port)
                *port = log->control.port;
        if (plain)
                *plain = log->control.plain;
        return log->control.host;
}
