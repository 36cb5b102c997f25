/* SPDX-License-Identifier: Apache-2.0 */

/* What the agent's lines say, and that none is lost or made up while its log is rolled, cut, deleted and flooded. */

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "agent/observe/agentlog.h"
#include "common/file.h"
#include "common/loop.h"
#include "tests/unit/test.h"

#ifndef TEST_DATA
#define TEST_DATA "tests/data"
#endif

#define ACS_URL "https://ecs-a-1.us-west-2.amazonaws.com/ws?agentHash=0&protocolVersion=2&seqNum=1"
#define TCS_URL "https://ecs-t-1.us-west-2.amazonaws.com/ws?agentHash=0&cluster=example"
#define HEAD    "level=info time=2026-06-30T10:11:12Z "

static AgentLogLine classify(const char *line) {
        AgentLogLine ret;

        /* A copy of exactly that length, so that reading beyond it is seen. */
        char *copy = malloc(strlen(line) + 1);

        memcpy(copy, line, strlen(line));
        agentlog_classify(copy, strlen(line), &ret);
        free(copy);
        return ret;
}

/* A disk that gives nothing: what is not in the page cache never gets there. */
static bool disk_hangs;

ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags) {
        if (disk_hangs) {
                errno = EAGAIN;
                return -1;
        }
        return syscall(SYS_preadv2, fd, iov, n, (long) offset, 0L, flags);
}

/* --- One line --- */

static char letter_of(LogLine line) {
        return ".SCclTFWDXtU"[line];
}

static void test_classify_reads_whole_logs(void) {
        /* One letter a line: Started Connected closed lost Trying Failed Waiting Deregistered eXiting terminal Update */
        static const struct {
                const char *file;
                const char *lines;
        } cases[] = {
                {
                        "start-1.83.txt",
                        ".S."
                        "............"
                        ".."
                        "T..C...",
                },
                {
                        "refused-1.83.txt",
                        "W."
                        "T.T.FW.."
                        "T.T.FW..",
                },
                { "restored-1.83.txt", "T.T.C." },
                { "close-frame-1.83.txt", "cT.TC" },
                { "sigterm-1.83.txt", ".XW.X" },
                { "dockerd-stopped-1.83.txt", "..." },
                { "registration-refused-1.83.txt", "S.." },
                { "cycle-1.105.txt", "T.C.c.cTTC..ll.lWT.FFDWt" },
                { "json-1.105.txt", "ST.C.lWWX" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(freep) char *text = NULL;
                char path[256], lines[128] = "";
                size_t n = 0, count = 0;

                (void) snprintf(path, sizeof(path), TEST_DATA "/agent-log/%s", cases[i].file);
                EXPECT_EQ(file_read(path, 1 << 20, &text, &n), 0);
                for (char *p = text, *end; p && *p && count < sizeof(lines) - 1; p = end + 1) {
                        AgentLogLine line;

                        end = strchr(p, '\n');
                        agentlog_classify(p, (size_t) (end - p), &line);
                        lines[count++] = letter_of(line.line);
                }
                EXPECT_STR(lines, cases[i].lines);
        }
}

static void test_classify_judges_the_message_only(void) {
        static const struct {
                const char *line;
                LogLine is;
        } cases[] = {
                { HEAD "msg=\"Connected to ACS endpoint\"", LOG_LINE_CONNECTED },
                { HEAD "msg=\"Connected to ACS endpoint\" x=1 y=\"a b\"", LOG_LINE_CONNECTED },
                { "msg=\"Connected to ACS endpoint\" time=2026-06-30T10:11:12Z level=info",
                        LOG_LINE_CONNECTED },
                { "level=debug at=2026-06-30 10:11:12 +0000 UTC m=+7.6 msg=\"Connected to ACS endpoint\"",
                        LOG_LINE_CONNECTED },
                { HEAD "msg=\"Connected to TCS endpoint\"", LOG_LINE_NONE },
                { HEAD "msg=\"Connected to ACS endpoints\"", LOG_LINE_NONE },
                { HEAD "msg=\"Connected to ACS endpoin\"", LOG_LINE_NONE },
                { HEAD "msg=\"Not Connected to ACS endpoint\"", LOG_LINE_NONE },
                { HEAD "msg=\"Connected to ACS endpoint", LOG_LINE_NONE },
                { HEAD "msg=\"Connected to ACS endpoint\"x", LOG_LINE_NONE },
                { HEAD "msg=Connected to ACS endpoint", LOG_LINE_CONNECTED },
                { HEAD "msg=\"a\" msg=\"Connected to ACS endpoint\"", LOG_LINE_NONE },
                { HEAD "msg=\"a\" error=\"msg=\\\"Connected to ACS endpoint\\\"\"", LOG_LINE_NONE },
                { HEAD "msg=\"a\\\\\" msg=\"Connected to ACS endpoint\"", LOG_LINE_NONE },
                { HEAD "msg=\"a\\\" msg=\"Connected to ACS endpoint\"", LOG_LINE_NONE },
                { " " HEAD "msg=\"Connected to ACS endpoint\"", LOG_LINE_NONE },
                { "msg=\"Connected to ACS endpoint\"", LOG_LINE_NONE },
                { "level=none msg=\"Connected to ACS endpoint\"", LOG_LINE_NONE },
                { "Connected to ACS endpoint", LOG_LINE_NONE },
                { "", LOG_LINE_NONE },
                { "level=", LOG_LINE_NONE },
                { "=", LOG_LINE_NONE },
                { HEAD "msg=\"Establishing a Websocket connection\" url=\"" ACS_URL "\"", LOG_LINE_TRYING },
                { HEAD "msg=\"Establishing a Websocket connection\" url=\"" TCS_URL "\"", LOG_LINE_NONE },
                { HEAD "msg=\"Establishing a Websocket connection\"", LOG_LINE_NONE },
                { "level=warn msg=\"Unable to set read deadline for websocket connection: x for " ACS_URL
                  "\"",
                        LOG_LINE_LOST },
                { "level=warn msg=\"Unable to set read deadline for websocket connection: x for " TCS_URL
                  "\"",
                        LOG_LINE_NONE },
                { "level=critical msg=\"Agent will terminally exit, unable to register container "
                  "instance:\"",
                        LOG_LINE_TERMINAL },
                { "level=debug msg=\"Staging updateupdate{\" module=updater.go", LOG_LINE_UPDATING },
                { "level=debug msg=\"Got perform update request\" module=updater.go", LOG_LINE_UPDATING },
                { "level=error msg=\"Nacking PerformUpdate; not downloaded\" module=updater.go",
                        LOG_LINE_NONE },
                { "{\"level\":\"info\",\"msg\":\"Connected to ACS endpoint\"}", LOG_LINE_CONNECTED },
                { "{ \"a\" : [1,{\"b\":\"]\"}], \"msg\" : \"Connected to ACS endpoint\", \"level\":\"info\"",
                        LOG_LINE_CONNECTED },
                { "{\"level\":\"info\",\"a\":{\"msg\":\"Connected to ACS endpoint\"}}", LOG_LINE_NONE },
                { "{\"level\":\"info\",\"a\":\"\\\",\\\"msg\\\":\\\"Connected to ACS endpoint\"}",
                        LOG_LINE_NONE },
                { "{\"level\":\"info\",\"msg\":\"Connected to ACS endpoint", LOG_LINE_NONE },
                { "{\"level\":\"info\" \"msg\":\"Connected to ACS endpoint\"}", LOG_LINE_NONE },
                { "{\"msg\":\"Connected to ACS endpoint\"}", LOG_LINE_NONE },
                { "{", LOG_LINE_NONE },
                { "{\"level\":", LOG_LINE_NONE },
                { "{\"level\":\"\\", LOG_LINE_NONE },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                AgentLogLine line = classify(cases[i].line);

                if (line.line != cases[i].is)
                        printf("# %s\n", cases[i].line);
                EXPECT_EQ(line.line, cases[i].is);
        }
}

static void test_classify_reads_time_and_level(void) {
        AgentLogLine line;

        line = classify("level=info time=2026-06-30T10:11:12Z msg=\"x\"");
        EXPECT_EQ(line.time.usec, INT64_C(1782814272000000));
        EXPECT(line.info);
        line = classify("{\"level\":\"debug\",\"time\":\"2026-06-30T10:11:12Z\",\"msg\":\"x\"}");
        EXPECT_EQ(line.time.usec, INT64_C(1782814272000000));
        EXPECT(line.info);
        line = classify("level=warn time=yesterday msg=\"Disconnected from ACS\"");
        EXPECT(!wall_is_set(line.time));
        EXPECT(!line.info);
        EXPECT_EQ(line.line, LOG_LINE_LOST);
        line = classify("  level=info time=2026-06-30T10:11:12Z msg=\"x\"");
        EXPECT(!wall_is_set(line.time));
        EXPECT(!line.info);
}

static void test_classify_reads_the_announced_wait(void) {
        static const struct {
                const char *value;
                Span is;
        } cases[] = {
                { "\"1m13.4s\"", SPAN_MSEC(73400) },
                { "\"274.615086ms\"", 274615 },
                { "\"1h0m0s\"", SPAN_HOUR(1) },
                { "2500000000", SPAN_MSEC(2500) },
                { "\"-5s\"", 0 },
                { "\"soon\"", 0 },
                { "\"\"", 0 },
                { "99999999999999999999999", 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char text[256];

                (void) snprintf(text, sizeof(text),
                        HEAD "msg=\"Waiting before reconnecting to ACS\" reconnectDelay=%s", cases[i].value);
                EXPECT_EQ(classify(text).delay, cases[i].is);
                (void) snprintf(text, sizeof(text),
                        "{\"level\":\"info\",\"msg\":\"Waiting before reconnecting to "
                        "ACS\",\"reconnectDelay\":%s}",
                        cases[i].value);
                EXPECT_EQ(classify(text).delay, cases[i].is);
        }
        EXPECT_EQ(classify(HEAD "msg=\"Done waiting; reconnecting to ACS\" reconnectDelay=\"1s\"").delay, 0);
}

static void test_classify_reads_the_control_host(void) {
        static const struct {
                const char *url;
                const char *host;
                uint16_t port;
                bool plain;
        } cases[] = {
                { ACS_URL, "ecs-a-1.us-west-2.amazonaws.com", 443, false },
                { "http://fake:8080/ws?seqNum=1", "fake", 8080, true },
                { "http://fake?seqNum=1", "fake", 80, true },
                { "wss://[2600:1f13::1]:8443/ws?seqNum=1", "2600:1f13::1", 8443, false },
                { "https://[2600:1f13::1]/ws?seqNum=1", "2600:1f13::1", 443, false },
                { TCS_URL, "", 0, false },
                { "ftp://host/ws?seqNum=1", "", 0, false },
                { "https://user@host/ws?seqNum=1", "", 0, false },
                { "https:///ws?seqNum=1", "", 0, false },
                { "https://host:/ws?seqNum=1", "", 0, false },
                { "https://host:0/ws?seqNum=1", "", 0, false },
                { "https://host:65536/ws?seqNum=1", "", 0, false },
                { "https://host:1234567/ws?seqNum=1", "", 0, false },
                { "https://host:4x/ws?seqNum=1", "", 0, false },
                { "https://[::1/ws?seqNum=1", "", 0, false },
                { "https://[::1]x/ws?seqNum=1", "", 0, false },
                { "https://h%20t/ws?seqNum=1", "", 0, false },
                { "seqNum=", "", 0, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                AgentLogLine line;
                char text[512];

                (void) snprintf(text, sizeof(text),
                        HEAD "msg=\"Websocket connection established.\" URL=\"%s\"", cases[i].url);
                line = classify(text);
                EXPECT_EQ(line.line, LOG_LINE_NONE);
                EXPECT_STR(line.host, cases[i].host);
                EXPECT_EQ(line.port, cases[i].port);
                EXPECT_EQ(line.plain, cases[i].plain);
        }
}

static void test_classify_refuses_a_host_that_is_too_long(void) {
        char host[300], text[600];

        memset(host, 'a', sizeof(host));
        host[256] = '\0';
        (void) snprintf(
                text, sizeof(text), HEAD "msg=\"Closing connection\" URL=\"https://%s/?seqNum=1\"", host);
        EXPECT_STR(classify(text).host, "");
        host[255] = '\0';
        (void) snprintf(
                text, sizeof(text), HEAD "msg=\"Closing connection\" URL=\"https://%s/?seqNum=1\"", host);
        EXPECT_STR(classify(text).host, host);
}

/* --- The file --- */

#define SEEN_MAX 512

typedef struct Fixture {
        sd_event *event;
        char directory[64];
        char path[128];
        AgentLog *log;
        unsigned n; /* all samples */
        unsigned n_lines;
        char lines[SEEN_MAX + 1]; /* letters of those that tell of a line; read-back ones behind a '<' */
        LogSample line[SEEN_MAX];
        Sample last; /* of those that tell of the file */
        unsigned n_last;
        bool free_at_line;
        Mono line_at; /* now of the last line's sample */
} Fixture;

static void on_sample(const Sample *sample, void *userdata) {
        Fixture *f = userdata;

        EXPECT_EQ(sample->witness, WITNESS_LOG);
        f->n++;
        if (sample->sight != SIGHT_CLEAR || sample->log.line == LOG_LINE_NONE) {
                f->last = *sample;
                f->n_last++;
                return;
        }
        /* What is read back comes before the first word about a file that can be read. */
        EXPECT_EQ(f->n_last > 0 && f->last.sight == SIGHT_CLEAR && sample->log.back, false);
        EXPECT(sample->log.at.usec <= loop_now(f->event).mono.usec);
        if (f->n_lines < SEEN_MAX) {
                size_t n = strlen(f->lines);

                f->line[f->n_lines++] = sample->log;
                if (sample->log.back && n + 2 < sizeof(f->lines))
                        f->lines[n++] = '<';
                f->lines[n] = letter_of(sample->log.line);
                f->lines[n + 1] = '\0';
        }
        if (f->free_at_line)
                f->log = agentlog_free(f->log);
}

static Fixture fixture_open(void) {
        Fixture f = { .directory = "/tmp/test-agentlog-XXXXXX" };

        EXPECT(mkdtemp(f.directory));
        (void) snprintf(f.path, sizeof(f.path), "%s/ecs-agent.log", f.directory);
        EXPECT(sd_event_new(&f.event) >= 0);
        return f;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) st;
        (void) type;
        (void) ftw;
        return remove(path);
}

static void fixture_close(Fixture *f) {
        f->log = agentlog_free(f->log);
        f->event = sd_event_unref(f->event);
        (void) nftw(f->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void fixture_start(Fixture *f) {
        EXPECT_EQ(agentlog_new(&f->log, f->event, f->path, on_sample, f), 0);
}

/* Runs the loop until @condition holds, for at most 20 s. */
#define RUN_UNTIL(f, condition)                                                                             \
        do {                                                                                                \
                Mono _end = mono_add(clock_read().mono, SPAN_SEC(20));                                      \
                while (!(condition) && mono_before(clock_read().mono, _end))                                \
                        EXPECT(sd_event_run((f)->event, 100000) >= 0);                                      \
                EXPECT(condition);                                                                          \
        } while (0)

static void append(const char *path, const char *text) {
        FILE *file = fopen(path, "ae");

        EXPECT(file);
        EXPECT(fputs(text, file) >= 0);
        EXPECT_EQ(fclose(file), 0);
}

/* A line of level @level that is @age old. */
static const char *line_of(const char *level, Span age, const char *msg) {
        static char text[4][1024];
        static unsigned turn;
        char *line = text[turn++ % 4];
        time_t t = (time_t) (wall_add(clock_read().wall, -age).usec / 1000000);
        struct tm tm;
        char stamp[32];

        (void) gmtime_r(&t, &tm);
        (void) strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
        (void) snprintf(line, sizeof(text[0]), "level=%s time=%s %s\n", level, stamp, msg);
        return line;
}

#define MSG_CONNECTED "msg=\"Connected to ACS endpoint\""
#define MSG_LOST      "msg=\"Disconnected from ACS\""
#define MSG_TRYING    "msg=\"Done waiting; reconnecting to ACS\""
#define MSG_FAILED    "msg=\"Failed to connect to ACS\" error=\"x\""
#define MSG_WAITING   "msg=\"Waiting before reconnecting to ACS\" reconnectDelay=\"1m0s\""
#define MSG_URL       "msg=\"Websocket connection established.\" URL=\"" ACS_URL "\""
#define MSG_OTHER                                                                                           \
        "msg=\"DockerGoClient: Docker events stream closed with error: is the docker daemon running?\""

static void append_line(const char *path, const char *level, Span age, const char *msg) {
        append(path, line_of(level, age, msg));
}

static void test_follow_reads_back_the_present_state(void) {
        Fixture f = fixture_open();
        uint16_t port = 0;
        bool plain = true;

        append_line(f.path, "info", SPAN_MIN(50), MSG_LOST);
        append_line(f.path, "info", SPAN_MIN(40), MSG_URL);
        append_line(f.path, "info", SPAN_MIN(40), MSG_CONNECTED);
        append_line(f.path, "info", SPAN_MIN(9), MSG_LOST);
        append_line(f.path, "info", SPAN_MIN(8), MSG_WAITING);
        fixture_start(&f);
        EXPECT_STR(agentlog_control_host(f.log, NULL, NULL), "");
        RUN_UNTIL(&f, f.n_last > 0);

        /* What lies before the last connection does not matter. */
        EXPECT_STR(f.lines, "<C<l<W");
        EXPECT(mono_since(loop_now(f.event).mono, f.line[1].at) >= SPAN_MIN(9));
        EXPECT(mono_since(loop_now(f.event).mono, f.line[1].at) < SPAN_MIN(9) + SPAN_SEC(30));
        EXPECT_EQ(f.line[2].delay, SPAN_MIN(1));
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        EXPECT(!f.last.log.level_raised);
        EXPECT(!mono_is_set(f.last.log.written));
        EXPECT_STR(agentlog_control_host(f.log, &port, &plain), "ecs-a-1.us-west-2.amazonaws.com");
        EXPECT_EQ(port, 443);
        EXPECT(!plain);
        fixture_close(&f);
}

static void test_follow_takes_new_lines_as_news(void) {
        Fixture f = fixture_open();

        append_line(f.path, "info", SPAN_MIN(1), MSG_CONNECTED);
        append(f.path, "level=info time=2026-06-30T10:11:12Z msg=\"Disconn");
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        EXPECT_STR(f.lines, "<C");

        /* Half a line counts when it is whole. */
        append(f.path, "ected from ACS\"\n");
        RUN_UNTIL(&f, f.n_lines == 2);
        append_line(f.path, "info", 0, MSG_TRYING);
        append_line(
                f.path, "info", 0, "msg=\"nothing\" a=map[x:{\n  level=info " MSG_CONNECTED "\n} y:{\n}]");
        append_line(f.path, "info", -SPAN_HOUR(2), MSG_CONNECTED);
        RUN_UNTIL(&f, f.n_lines == 4);
        EXPECT_STR(f.lines, "<ClTC");
        EXPECT(mono_is_set(f.line[3].written));
        EXPECT(mono_since(loop_now(f.event).mono, f.line[3].at) < SPAN_SEC(5));
        fixture_close(&f);
}

static void test_follow_goes_on_to_the_newest_rolled_file(void) {
        static const struct {
                const char *newest, *older;
        } cases[] = {
                { ".10", ".9" },
                { ".2026-06-30-10", ".2026-06-30-09" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const struct timespec same[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
                Fixture f = fixture_open();
                char path[192];

                append_line(f.path, "info", SPAN_MIN(1), MSG_LOST);
                (void) snprintf(path, sizeof(path), "%s%s", f.path, cases[i].newest);
                append_line(path, "info", SPAN_MIN(3), MSG_URL);
                append_line(path, "info", SPAN_MIN(3), MSG_CONNECTED);
                append_line(path, "info", SPAN_MIN(2), MSG_TRYING);
                EXPECT_EQ(utimensat(AT_FDCWD, path, same, 0), 0);
                (void) snprintf(path, sizeof(path), "%s%s", f.path, cases[i].older);
                append_line(path, "info", SPAN_MIN(30), MSG_FAILED);
                EXPECT_EQ(utimensat(AT_FDCWD, path, same, 0), 0);
                (void) snprintf(path, sizeof(path), "%s.10.gz", f.path);
                append_line(path, "info", SPAN_MIN(30), MSG_FAILED);
                fixture_start(&f);
                RUN_UNTIL(&f, f.n_last > 0);
                EXPECT_STR(f.lines, "<C<T<l");
                fixture_close(&f);
        }
}

static void test_follow_reads_back_an_empty_file_with_a_neighbour(void) {
        Fixture f = fixture_open();
        char path[192];

        append(f.path, "");
        (void) snprintf(path, sizeof(path), "%s.1", f.path);
        append_line(path, "info", SPAN_MIN(3), MSG_CONNECTED);
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        EXPECT_STR(f.lines, "<C");
        append_line(f.path, "info", 0, MSG_LOST);
        RUN_UNTIL(&f, f.n_lines == 2);
        EXPECT_STR(f.lines, "<Cl");
        fixture_close(&f);
}

static void test_follow_keeps_the_beginning_of_a_long_outage(void) {
        Fixture f = fixture_open();
        FILE *file = fopen(f.path, "ae");

        EXPECT(file);
        (void) fputs(line_of("info", SPAN_HOUR(9), MSG_URL), file);
        (void) fputs(line_of("info", SPAN_HOUR(9), MSG_CONNECTED), file);
        (void) fputs(line_of("info", SPAN_HOUR(8), MSG_LOST), file);
        for (unsigned i = 0; i < 5000; i++) {
                (void) fputs(line_of("error", SPAN_HOUR(7), MSG_FAILED), file);
                (void) fputs(line_of("error", SPAN_HOUR(7), MSG_OTHER), file);
        }
        EXPECT_EQ(fclose(file), 0);
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        EXPECT_EQ(f.n_lines, 64);
        EXPECT_EQ(strncmp(f.lines, "<C<l<F<F", 8), 0);
        fixture_close(&f);
}

static void test_follow_reads_back_no_more_than_8_mib(void) {
        Fixture f = fixture_open();
        FILE *file = fopen(f.path, "ae");
        const char *line;

        EXPECT(file);
        (void) fputs(line_of("info", SPAN_HOUR(9), MSG_CONNECTED), file);
        line = line_of("error", SPAN_MIN(1), MSG_OTHER);
        for (size_t n = 0; n < (size_t) 9 * 1024 * 1024; n += strlen(line))
                (void) fputs(line, file);
        (void) fputs(line_of("info", SPAN_MIN(1), MSG_LOST), file);
        EXPECT_EQ(fclose(file), 0);
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        EXPECT_STR(f.lines, "<l");
        fixture_close(&f);
}

static char *long_text(size_t n) {
        char *text = malloc(n + 1);

        memset(text, 'x', n);
        text[n] = '\0';
        return text;
}

static void test_follow_judges_an_overlong_line_by_its_head(void) {
        static const size_t lengths[] = { 16300, 16384, 16385, 32768, 200000 };

        for (size_t i = 0; i < ELEMENTSOF(lengths); i++) {
                _cleanup_(freep) char *tail = long_text(lengths[i]);
                Fixture f = fixture_open();

                append_line(f.path, "info", SPAN_MIN(9), MSG_CONNECTED);
                append(f.path, "level=warn time=2026-06-30T10:11:12Z " MSG_LOST " a=");
                append(f.path, tail);
                append(f.path, "\n");
                append_line(f.path, "info", SPAN_MIN(8), MSG_TRYING);
                fixture_start(&f);
                RUN_UNTIL(&f, f.n_last > 0);
                EXPECT_STR(f.lines, "<C<l<T");

                append(f.path, "level=warn time=2026-06-30T10:11:12Z " MSG_FAILED " a=");
                append(f.path, tail);
                append(f.path, "\n");
                append_line(f.path, "info", 0, MSG_WAITING);
                RUN_UNTIL(&f, f.n_lines == 5);
                EXPECT_STR(f.lines, "<C<l<TFW");
                fixture_close(&f);
        }
}

static void test_follow_starts_within_an_overlong_line(void) {
        _cleanup_(freep) char *tail = long_text(200000);
        Fixture f = fixture_open();

        append_line(f.path, "info", SPAN_MIN(9), MSG_CONNECTED);
        append(f.path, "level=warn time=2026-06-30T10:11:12Z " MSG_LOST " a=");
        append(f.path, tail);
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        EXPECT_STR(f.lines, "<C<l");
        append(f.path, " level=info " MSG_CONNECTED "\n");
        append_line(f.path, "info", 0, MSG_WAITING);
        RUN_UNTIL(&f, f.n_lines == 3);
        EXPECT_STR(f.lines, "<C<lW");
        fixture_close(&f);
}

static void test_follow_survives_a_rename(void) {
        Fixture f = fixture_open();
        char rolled[192];

        append_line(f.path, "info", SPAN_MIN(9), MSG_CONNECTED);
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);

        for (unsigned i = 1; i <= 3; i++) {
                append_line(f.path, "info", 0, MSG_LOST);
                append(f.path,
                        "level=info " MSG_FAILED); /* without its newline: this is all there will be */
                (void) snprintf(rolled, sizeof(rolled), "%s.%u", f.path, i);
                EXPECT_EQ(rename(f.path, rolled), 0);
                append_line(f.path, "info", 0, MSG_TRYING);
                RUN_UNTIL(&f, f.n_lines == 1 + i * 3);
        }
        EXPECT_STR(f.lines, "<ClFTlFTlFT");
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        fixture_close(&f);
}

static void test_follow_reads_a_renamed_file_until_there_is_a_new_one(void) {
        Fixture f = fixture_open();
        char rolled[192];

        append_line(f.path, "info", SPAN_MIN(9), MSG_CONNECTED);
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        (void) snprintf(rolled, sizeof(rolled), "%s.1", f.path);
        EXPECT_EQ(rename(f.path, rolled), 0);
        append_line(rolled, "info", 0, MSG_LOST);
        RUN_UNTIL(&f, f.n_lines == 2);
        append_line(f.path, "info", 0, MSG_TRYING);
        RUN_UNTIL(&f, f.n_lines == 3);
        EXPECT_STR(f.lines, "<ClT");
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        fixture_close(&f);
}

static void test_follow_survives_copytruncate(void) {
        Fixture f = fixture_open();

        append_line(f.path, "info", SPAN_MIN(9), MSG_CONNECTED);
        append(f.path, "level=info half a li");
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        EXPECT_EQ(truncate(f.path, 0), 0);
        RUN_UNTIL(&f, sd_event_run(f.event, 0) == 0);
        append_line(f.path, "info", 0, MSG_LOST);
        RUN_UNTIL(&f, f.n_lines == 2);
        EXPECT_STR(f.lines, "<Cl");
        fixture_close(&f);
}

static void test_follow_waits_for_a_deleted_file(void) {
        Fixture f = fixture_open();

        append_line(f.path, "info", SPAN_MIN(9), MSG_CONNECTED);
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        append_line(f.path, "info", 0, MSG_LOST);
        EXPECT_EQ(unlink(f.path), 0);
        RUN_UNTIL(&f, f.last.sight == SIGHT_ABSENT);
        /* What it last held was read all the same. */
        EXPECT_STR(f.lines, "<Cl");
        append_line(f.path, "info", 0, MSG_TRYING);
        RUN_UNTIL(&f, f.n_lines == 3);
        RUN_UNTIL(&f, f.last.sight == SIGHT_CLEAR);
        EXPECT_STR(f.lines, "<ClT");
        fixture_close(&f);
}

static void test_follow_waits_for_a_missing_file(void) {
        Fixture f = fixture_open();

        fixture_start(&f);
        RUN_UNTIL(&f, f.last.sight == SIGHT_ABSENT);
        append_line(f.path, "info", SPAN_MIN(1), MSG_CONNECTED);
        RUN_UNTIL(&f, f.n_lines == 1);
        EXPECT_STR(f.lines, "C");
        fixture_close(&f);
}

static void test_follow_waits_for_a_missing_directory(void) {
        Fixture f = fixture_open();
        char directory[128];

        (void) snprintf(directory, sizeof(directory), "%s/ecs", f.directory);
        (void) snprintf(f.path, sizeof(f.path), "%s/ecs/ecs-agent.log", f.directory);
        fixture_start(&f);
        RUN_UNTIL(&f, f.last.sight == SIGHT_ABSENT);
        EXPECT_EQ(mkdir(directory, 0755), 0);
        append_line(f.path, "info", 0, MSG_CONNECTED);
        RUN_UNTIL(&f, f.n_lines == 1);
        /* Found by the tick; from now on by inotify. */
        f.n_last = 0;
        append_line(f.path, "info", 0, MSG_LOST);
        RUN_UNTIL(&f, f.n_lines == 2);
        EXPECT_STR(f.lines, "Cl");
        fixture_close(&f);
}

static void test_follow_tells_a_forbidden_file(void) {
        Fixture f = fixture_open();

        if (geteuid() == 0) {
                printf("# root may read everything\n");
                fixture_close(&f);
                return;
        }
        append_line(f.path, "info", SPAN_MIN(9), MSG_CONNECTED);
        EXPECT_EQ(chmod(f.path, 0), 0);
        fixture_start(&f);
        RUN_UNTIL(&f, f.last.sight == SIGHT_DENIED);
        EXPECT_EQ(chmod(f.path, 0644), 0);
        RUN_UNTIL(&f, f.last.sight == SIGHT_CLEAR);
        EXPECT_EQ(f.lines[0], '<');
        fixture_close(&f);
}

static void test_follow_refuses_what_is_no_file(void) {
        Fixture f = fixture_open();

        EXPECT_EQ(mkfifo(f.path, 0600), 0);
        fixture_start(&f);
        RUN_UNTIL(&f, f.last.sight == SIGHT_FAILED);
        EXPECT_EQ(f.n_lines, 0);
        fixture_close(&f);

        f = fixture_open();
        EXPECT_EQ(agentlog_new(&f.log, f.event, "", on_sample, &f), -EINVAL);
        EXPECT_EQ(agentlog_new(&f.log, f.event, "/tmp/", on_sample, &f), -EINVAL);
        fixture_close(&f);
}

static void test_follow_knows_a_raised_level(void) {
        static const struct {
                Span info;          /* age of the last line of level info; 0: none */
                Span first, second; /* ages of two warnings */
                bool raised;
        } cases[] = {
                { 0, SPAN_MIN(50), SPAN_MIN(1), true },
                { SPAN_MIN(60), SPAN_MIN(50), SPAN_MIN(1), true },
                { SPAN_MIN(10), SPAN_MIN(50), SPAN_MIN(1), false },
                { SPAN_MIN(60), SPAN_MIN(40), SPAN_MIN(1), false },
                { SPAN_MIN(90), SPAN_MIN(2), SPAN_MIN(1), false }, /* silence is something else */
                { 0, SPAN_MIN(2), SPAN_MIN(1), false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Fixture f = fixture_open();
                bool between = cases[i].info && cases[i].info < cases[i].first;

                if (cases[i].info && !between)
                        append_line(f.path, "info", cases[i].info, MSG_OTHER);
                append_line(f.path, "warn", cases[i].first, MSG_OTHER);
                if (between)
                        append_line(f.path, "info", cases[i].info, MSG_OTHER);
                append_line(f.path, "warn", cases[i].second, MSG_OTHER);
                fixture_start(&f);
                RUN_UNTIL(&f, f.n_last > 0);
                EXPECT_EQ(f.last.log.level_raised, cases[i].raised);

                /* The next line of level info ends it, and that is told at once. */
                append_line(f.path, "info", 0, MSG_OTHER);
                RUN_UNTIL(&f, !f.last.log.level_raised);
                fixture_close(&f);
        }
}

static void test_follow_skips_what_floods_it(void) {
        Fixture f = fixture_open();
        const char *line;
        FILE *file;

        append_line(f.path, "info", SPAN_MIN(1), MSG_CONNECTED);
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        append_line(f.path, "info", 0, MSG_LOST);
        file = fopen(f.path, "ae");
        EXPECT(file);
        line = line_of("error", 0, MSG_OTHER);
        for (size_t n = 0; n < (size_t) 9 * 1024 * 1024; n += strlen(line))
                (void) fputs(line, file);
        (void) fputs(line_of("info", 0, MSG_TRYING), file);
        EXPECT_EQ(fclose(file), 0);
        RUN_UNTIL(&f, f.n_lines >= 2);
        EXPECT_STR(f.lines, "<CT");
        fixture_close(&f);
}

static void test_follow_loses_nothing_of_a_flood_that_it_can_read(void) {
        Fixture f = fixture_open();
        char line[256];
        FILE *file;

        append(f.path, "");
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        file = fopen(f.path, "ae");
        EXPECT(file);
        (void) snprintf(line, sizeof(line), "%s", line_of("error", 0, MSG_OTHER));
        for (unsigned i = 0; i < 100; i++) {
                (void) fputs(line_of("info", 0, MSG_TRYING), file);
                for (unsigned j = 0; j < 200; j++)
                        (void) fputs(line, file);
        }
        EXPECT_EQ(fclose(file), 0);
        RUN_UNTIL(&f, f.n_lines == 100);
        fixture_close(&f);
}

static void test_follow_reads_back_what_the_page_cache_has_lost(void) {
        Fixture f = fixture_open();
        const char *line;
        FILE *file = fopen(f.path, "ae");

        EXPECT(file);
        (void) fputs(line_of("info", SPAN_MIN(9), MSG_URL), file);
        (void) fputs(line_of("info", SPAN_MIN(9), MSG_CONNECTED), file);
        line = line_of("error", SPAN_MIN(1), MSG_OTHER);
        for (size_t n = 0; n < (size_t) 300 * 1024; n += strlen(line))
                (void) fputs(line, file);
        EXPECT_EQ(fflush(file), 0);
        EXPECT_EQ(fsync(fileno(file)), 0);
        EXPECT_EQ(posix_fadvise(fileno(file), 0, 0, POSIX_FADV_DONTNEED), 0);
        EXPECT_EQ(fclose(file), 0);
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        EXPECT_STR(f.lines, "<C");
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        fixture_close(&f);
}

/* Takes the ten seconds that a disk is given, both cases together. */
static void test_follow_is_not_held_by_a_disk_that_hangs(void) {
        Fixture early = fixture_open(), late = fixture_open();
        Mono end = mono_add(clock_read().mono, SPAN_SEC(20));

        append_line(early.path, "info", SPAN_MIN(9), MSG_CONNECTED);
        append_line(late.path, "info", SPAN_MIN(9), MSG_CONNECTED);
        fixture_start(&late);
        RUN_UNTIL(&late, late.n_last > 0);
        disk_hangs = true;
        fixture_start(&early);
        append_line(late.path, "info", 0, MSG_LOST);
        while ((early.last.sight != SIGHT_FAILED || late.last.sight != SIGHT_FAILED) &&
                mono_before(clock_read().mono, end)) {
                (void) sd_event_run(early.event, 5000);
                (void) sd_event_run(late.event, 5000);
        }
        EXPECT_EQ(early.last.sight, SIGHT_FAILED);
        EXPECT_EQ(late.last.sight, SIGHT_FAILED);
        EXPECT_EQ(early.n_lines, 0);

        disk_hangs = false;
        RUN_UNTIL(&early, early.last.sight == SIGHT_CLEAR);
        EXPECT_STR(early.lines, "<C");
        RUN_UNTIL(&late, late.last.sight == SIGHT_CLEAR);
        EXPECT_STR(late.lines, "<Cl");
        fixture_close(&early);
        fixture_close(&late);
}

static void test_follow_may_be_freed_by_its_handler(void) {
        Fixture f = fixture_open();

        f.free_at_line = true;
        append_line(f.path, "info", SPAN_MIN(1), MSG_CONNECTED);
        append_line(f.path, "info", SPAN_MIN(1), MSG_LOST);
        fixture_start(&f);
        RUN_UNTIL(&f, !f.log);
        EXPECT_STR(f.lines, "<C");
        fixture_close(&f);

        f = fixture_open();
        append(f.path, "");
        fixture_start(&f);
        RUN_UNTIL(&f, f.n_last > 0);
        f.free_at_line = true;
        append_line(f.path, "info", 0, MSG_CONNECTED);
        append_line(f.path, "info", 0, MSG_LOST);
        RUN_UNTIL(&f, !f.log);
        EXPECT_STR(f.lines, "C");
        fixture_close(&f);
}

TEST_MAIN(TEST(test_classify_reads_whole_logs), TEST(test_classify_judges_the_message_only),
        TEST(test_classify_reads_time_and_level), TEST(test_classify_reads_the_announced_wait),
        TEST(test_classify_reads_the_control_host), TEST(test_classify_refuses_a_host_that_is_too_long),
        TEST(test_follow_reads_back_the_present_state), TEST(test_follow_takes_new_lines_as_news),
        TEST(test_follow_goes_on_to_the_newest_rolled_file),
        TEST(test_follow_reads_back_an_empty_file_with_a_neighbour),
        TEST(test_follow_keeps_the_beginning_of_a_long_outage),
        TEST(test_follow_reads_back_no_more_than_8_mib),
        TEST(test_follow_judges_an_overlong_line_by_its_head),
        TEST(test_follow_starts_within_an_overlong_line), TEST(test_follow_survives_a_rename),
        TEST(test_follow_reads_a_renamed_file_until_there_is_a_new_one),
        TEST(test_follow_survives_copytruncate), TEST(test_follow_waits_for_a_deleted_file),
        TEST(test_follow_waits_for_a_missing_file), TEST(test_follow_waits_for_a_missing_directory),
        TEST(test_follow_tells_a_forbidden_file), TEST(test_follow_refuses_what_is_no_file),
        TEST(test_follow_knows_a_raised_level), TEST(test_follow_skips_what_floods_it),
        TEST(test_follow_loses_nothing_of_a_flood_that_it_can_read),
        TEST(test_follow_reads_back_what_the_page_cache_has_lost),
        TEST(test_follow_is_not_held_by_a_disk_that_hangs), TEST(test_follow_may_be_freed_by_its_handler))
