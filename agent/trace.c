/* SPDX-License-Identifier: Apache-2.0 */

/* The trace's files: what is kept in memory, when it is written, and what gives way when there is no more room. */

#include "agent/trace.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/log.h"
#include "common/parse.h"

#ifndef ECS_HEALTH_AGENT_VERSION
#define ECS_HEALTH_AGENT_VERSION "unversioned"
#endif

/* Grace at its usual length, seven witnesses every 10 s, takes a third of this; touched in an incident only. */
#define MEMORY_MAX ((size_t) 96 * 1024)
/* Steps of no interest that take more than this, and more than a copy of the core takes, give way to such a copy. */
#define QUIET_MIN ((size_t) 8 * 1024)
/* Of a full file the first part stays: how it began. */
#define HEAD_MAX (TRACE_FILE_MAX / 2)
/* --- the files --------------------------------------------------------------------------------------------------- */

struct Trace {
        char *directory;
        Core before;  /* of the step that runs */
        char *memory; /* lines that are not written yet */
        size_t n_memory;
        JsonWriter writer;

        int fd; /* of the incident's file; -1: none */
        uint64_t incident;
        size_t n_file, n_core; /* bytes in the file; of the last copy of the core */
        bool given_up;         /* for this incident */
        bool gap;              /* the next step must begin with a copy of the core */
};

int trace_new(Trace **ret, const char *directory) {
        _cleanup_(trace_freep) Trace *trace = calloc(1, sizeof(*trace));

        if (!trace)
                return -ENOMEM;
        trace->fd = -1;
        json_writer_init(&trace->writer, 2 * TRACE_LINE_MAX);
        trace->directory = strdup(directory);
        trace->memory = malloc(MEMORY_MAX);
        if (!trace->directory || !trace->memory)
                return -ENOMEM;

        *ret = steal_ptr(trace);
        return 0;
}

Trace *trace_free(Trace *trace) {
        if (!trace)
                return NULL;
        closep(&trace->fd);
        json_writer_done(&trace->writer);
        free(trace->directory);
        free(trace->memory);
        free(trace);
        return NULL;
}

static JsonWriter *writer_begin(Trace *trace) {
        trace->writer.n = 0;
        trace->writer.error = 0;
        trace->writer.comma = false;
        return &trace->writer;
}

/* Return: whether it has found room. */
static bool memory_add(Trace *trace, size_t room) {
        const JsonWriter *w = &trace->writer;

        if (w->error < 0 || w->n > room || trace->n_memory > room - w->n)
                return false;
        memcpy(trace->memory + trace->n_memory, w->text, w->n);
        trace->n_memory += w->n;
        return true;
}

static void give_up(Trace *trace, int error) {
        log_warning("The trace of incident %" PRIu64 " is given up: %s: %s. All else goes on.",
                trace->incident, trace->directory, strerror(-error));
        closep(&trace->fd);
        trace->fd = -1;
        trace->n_memory = 0;
        trace->given_up = true;
}

static void file_close(Trace *trace) {
        closep(&trace->fd);
        trace->fd = -1;
        trace->n_memory = 0;
        trace->given_up = trace->gap = false;
}

static int write_all(int fd, const char *text, size_t n) {
        while (n > 0) {
                ssize_t written = write(fd, text, n);

                if (written < 0 && errno == EINTR)
                        continue;
                if (written <= 0)
                        return written < 0 ? -errno : -EIO;
                text += written;
                n -= (size_t) written;
        }
        return 0;
}

/* The number in "7.trace"; 0: it is another file. */
static uint64_t number_of(const char *name) {
        size_t n = strlen(name), suffix = strlen(TRACE_SUFFIX);
        char digits[24];
        uint64_t number = 0;

        if (n <= suffix || n - suffix >= sizeof(digits) || strcmp(name + n - suffix, TRACE_SUFFIX) != 0)
                return 0;
        (void) snprintf(digits, sizeof(digits), "%.*s", (int) (n - suffix), name);
        return parse_u64(digits, &number) < 0 ? 0 : number;
}

/* Return: whether there was one more to remove, for this one to have room. */
static bool remove_oldest(const char *directory, uint64_t incident) {
        DIR *dir = opendir(directory);
        uint64_t oldest = 0;
        size_t total = 0, n = 0;
        const struct dirent *entry;
        char name[32];
        bool removed = false;

        if (!dir)
                return false;
        while ((entry = readdir(dir))) {
                uint64_t number = number_of(entry->d_name);
                struct stat info;

                if (number == 0 || number == incident ||
                        fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                n++;
                total += (size_t) info.st_size;
                if (oldest == 0 || number < oldest)
                        oldest = number;
        }
        (void) snprintf(name, sizeof(name), "%" PRIu64 TRACE_SUFFIX, oldest);
        if (oldest != 0 && (n >= TRACE_INCIDENTS_MAX || total > TRACE_TOTAL_MAX - TRACE_FILE_MAX))
                removed = unlinkat(dirfd(dir), name, 0) >= 0;
        (void) closedir(dir);
        return removed;
}

static int write_header(Trace *trace, const Target *target) {
        TraceHeader first = { .version = ECS_HEALTH_AGENT_VERSION, .incident = trace->incident };
        JsonWriter *w = writer_begin(trace);
        char last = '\n';
        int r;

        first.target = *target;
        /* We may have been killed in the middle of a line. */
        if (trace->n_file > 0 && pread(trace->fd, &last, 1, (off_t) trace->n_file - 1) == 1 && last != '\n')
                json_raw(w, "\n", 1);
        trace_write_header(w, &first);
        r = w->error < 0 ? w->error : write_all(trace->fd, w->text, w->n);
        trace->n_file += r < 0 ? 0 : w->n;
        return r;
}

static int file_open(Trace *trace, uint64_t incident, bool fresh, const Target *target) {
        char path[4096];
        struct stat info;
        int r;

        trace->incident = incident;
        r = file_mkdir(trace->directory, 0750);
        if (r < 0)
                return r;
        while (remove_oldest(trace->directory, incident))
                ;
        if ((size_t) snprintf(path, sizeof(path), "%s/%" PRIu64 TRACE_SUFFIX, trace->directory, incident) >=
                sizeof(path))
                return -ENAMETOOLONG;
        trace->fd = open(path,
                O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (fresh ? O_TRUNC : 0),
                0640);
        if (trace->fd < 0 || fstat(trace->fd, &info) < 0)
                return -errno;
        if (!S_ISREG(info.st_mode))
                return -EINVAL;
        trace->n_file = (size_t) info.st_size;
        return write_header(trace, target);
}

/* The end of the last line before @at, or 0. */
static off_t line_end_before(int fd, off_t at) {
        char part[4096];

        while (at > 0) {
                size_t n = at < (off_t) sizeof(part) ? (size_t) at : sizeof(part);
                const char *end;

                at -= (off_t) n;
                if (pread(fd, part, n, at) != (ssize_t) n)
                        return 0;
                end = memrchr(part, '\n', n);
                if (end)
                        return at + (end - part) + 1;
        }
        return 0;
}

/* Make room in a full file: what follows its first part goes, up to now. */
static int file_cut(Trace *trace) {
        static const char cut[] = "{\"cut\":true}\n";
        off_t keep = line_end_before(trace->fd, (off_t) HEAD_MAX);

        if (ftruncate(trace->fd, keep) < 0)
                return -errno;
        trace->n_file = (size_t) keep + sizeof(cut) - 1;
        trace->gap = true;
        return write_all(trace->fd, cut, sizeof(cut) - 1);
}

static void file_flush(Trace *trace) {
        int r = 0;

        if (trace->n_file + trace->n_memory > TRACE_FILE_MAX)
                r = file_cut(trace);
        if (r >= 0)
                r = write_all(trace->fd, trace->memory, trace->n_memory);
        trace->n_file += trace->n_memory;
        trace->n_memory = 0;
        if (r < 0)
                give_up(trace, r);
}

/* --- a step ------------------------------------------------------------------------------------------------------ */

void trace_before(Trace *trace, const Core *core) {
        trace->before = *core;
}

static bool has_changed(const Plan *plan) {
        return plan->n_effects > 0 || plan->record_changed || plan->verdict_changed || plan->stage_changed ||
               plan->brakes_changed;
}

static bool step_add_core(Trace *trace) {
        trace_write_core(writer_begin(trace), &trace->before);
        trace->n_core = trace->writer.n;
        trace->gap = !memory_add(trace, MEMORY_MAX);
        return !trace->gap;
}

/* What is kept begins with the core, and so does what follows a gap. */
static void step_add(Trace *trace, const Event *event, Now now, const Plan *plan, const Core *core) {
        size_t room = trace->fd < 0 ? MEMORY_MAX : trace->n_core > QUIET_MIN ? trace->n_core : QUIET_MIN;
        TraceAfter where = trace_where(core);

        if ((trace->n_memory == 0 && trace->fd < 0) || trace->gap)
                if (!step_add_core(trace))
                        trace->n_memory = 0;
        trace_write_step(writer_begin(trace), event, now, plan, has_changed(plan) ? &where : NULL);
        if (memory_add(trace, room))
                return;
        trace->n_memory = 0;
        if (!step_add_core(trace))
                return;
        trace_write_step(writer_begin(trace), event, now, plan, has_changed(plan) ? &where : NULL);
        trace->gap = !memory_add(trace, MEMORY_MAX);
}

static bool is_quiet(const Event *event, const Plan *plan) {
        return (event->type == EVENT_SAMPLE || event->type == EVENT_TICK) && !has_changed(plan);
}

void trace_after(Trace *trace, const Event *event, Now now, const Plan *plan, const Core *core,
        const Target *target) {
        bool lasts = core->stage != STAGE_WATCHING && core->stage != STAGE_GRACE;
        bool lasted = trace->before.stage != STAGE_WATCHING && trace->before.stage != STAGE_GRACE;
        bool anew = core->record.incident != trace->before.record.incident && event->type != EVENT_RESTORED;
        int r;

        if (core->stage == STAGE_WATCHING && trace->before.stage == STAGE_WATCHING) {
                file_close(trace);
                return;
        }
        if (trace->given_up) {
                trace->given_up = lasts && !anew;
                return;
        }
        step_add(trace, event, now, plan, core);
        if (lasts && trace->fd < 0) {
                r = file_open(trace, core->record.incident, anew, target);
                if (r < 0) {
                        give_up(trace, r);
                        return;
                }
        }
        if (trace->fd >= 0 && (!lasts || !is_quiet(event, plan)))
                file_flush(trace);
        if (!lasts && (lasted || core->stage == STAGE_WATCHING))
                file_close(trace);
}

void trace_call(Trace *trace, const TraceCall *call, Now now) {
        if (trace->given_up || (trace->fd < 0 && trace->n_memory == 0))
                return;
        trace_write_call(writer_begin(trace), call, now);
        if (memory_add(trace, MEMORY_MAX) && trace->fd >= 0)
                file_flush(trace);
}
