/* SPDX-License-Identifier: Apache-2.0 */

/* Memory: meminfo, pressure and OOM kills, read from descriptors that stay open. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/vfs.h>

#include "agent/observe/memory.h"
#include "common/loop.h"

/* meminfo has some 1.5 KiB, vmstat 4 to 6. What lies behind is cut off, and then not found. */
#define MEMORY_TEXT_MAX 16384

/*
 * 150 ms of stall within 2 s. Without CAP_SYS_RESOURCE the kernel takes windows of whole multiples of 2 s
 * only, and fires at most once in a window.
 */
#define MEMORY_TRIGGER "some 150000 2000000"

struct Memory {
        sd_event *event;
        Timer *timer;
        sd_event_source *trigger;
        Span every;
        SampleHandler handler;
        void *userdata;
        char *root;
        int meminfo, vmstat, pressure; /* -1: not open */
        bool psi;                      /* the last look could read the pressure file */
};

/* Parsing. */

typedef struct MemoryField {
        const char *name; /* with what ends it: ':' in meminfo, ' ' in vmstat */
        uint64_t *value;
        bool seen;
} MemoryField;

/*
 * Skips blanks and takes a decimal number. Return: what follows it; NULL if there is none or it does not
 * fit.
 */
static const char *memory_take_number(const char *p, const char *end, uint64_t *ret) {
        uint64_t value = 0;
        const char *digits;

        while (p < end && *p == ' ')
                p++;
        for (digits = p; p < end && *p >= '0' && *p <= '9'; p++)
                if (__builtin_mul_overflow(value, 10U, &value) ||
                        __builtin_add_overflow(value, (uint64_t) (*p - '0'), &value))
                        return NULL;
        if (p == digits)
                return NULL;
        *ret = value;
        return p;
}

/* Fills in the fields whose names begin a line. Return: 0; -EBADMSG if one of them has no number. */
static int memory_take_fields(const char *text, size_t n, MemoryField *fields, size_t n_fields) {
        const char *end = text + n;

        for (const char *line = text, *next; line < end; line = next) {
                const char *stop = memchr(line, '\n', (size_t) (end - line));

                next = stop ? stop + 1 : end;
                if (!stop)
                        stop = end;
                for (size_t i = 0; i < n_fields; i++) {
                        size_t n_name = strlen(fields[i].name);

                        if (fields[i].seen || (size_t) (stop - line) < n_name ||
                                memcmp(line, fields[i].name, n_name) != 0)
                                continue;
                        if (!memory_take_number(line + n_name, stop, fields[i].value))
                                return -EBADMSG;
                        fields[i].seen = true;
                }
        }
        return 0;
}

static Share memory_share(uint64_t part, uint64_t whole) {
        return (Share) ((unsigned __int128) part * 10000 / whole);
}

int memory_parse_meminfo(const char *text, size_t n, MemorySample *ret) {
        uint64_t total = 0, available = 0, swap_total = 0, swap_free = 0, idle = 0;
        uint64_t unused[4] = {}; /* counted as not used, as the CloudWatch agent has it */
        MemoryField fields[] = {
                { "MemTotal:", &total },
                { "MemAvailable:", &available },
                { "MemFree:", &unused[0] },
                { "Buffers:", &unused[1] },
                { "Cached:", &unused[2] },
                { "SReclaimable:", &unused[3] },
                { "SwapTotal:", &swap_total },
                { "SwapFree:", &swap_free },
        };
        int r;

        r = memory_take_fields(text, n, fields, ELEMENTSOF(fields));
        if (r < 0)
                return r;
        if (!fields[0].seen || !fields[1].seen || !fields[2].seen)
                return -EBADMSG;
        if (total == 0 || available > total || unused[0] > total || swap_free > swap_total)
                return -EBADMSG;

        for (size_t i = 0; i < ELEMENTSOF(unused); i++)
                if (__builtin_add_overflow(idle, unused[i], &idle))
                        return -EBADMSG;
        /* The counters are not read in one instant, so their sum may pass the total. */
        ret->used = memory_share(idle < total ? total - idle : 0, total);
        ret->available = memory_share(available, total);
        ret->swap_used = swap_total > 0 ? memory_share(swap_total - swap_free, swap_total) : 0;
        return 0;
}

/* "avg60=12.34" within one line, two decimals, as hundredths. Return: 0; -EBADMSG. */
static int memory_take_avg60(const char *line, const char *end, Share *ret) {
        static const char name[] = " avg60=";
        uint64_t whole = 0, fraction = 0;
        const char *p;

        p = memmem(line, (size_t) (end - line), name, sizeof(name) - 1);
        if (!p)
                return -EBADMSG;
        p += sizeof(name) - 1;
        if (p == end || *p == ' ')
                return -EBADMSG;
        p = memory_take_number(p, end, &whole);
        if (!p || end - p < 3 || p[0] != '.' || p[1] == ' ' ||
                memory_take_number(p + 1, p + 3, &fraction) != p + 3)
                return -EBADMSG;
        if (p + 3 < end && p[3] != ' ')
                return -EBADMSG;
        if (whole > 100 || whole * 100 + fraction > 10000)
                return -EBADMSG;
        *ret = (Share) (whole * 100 + fraction);
        return 0;
}

int memory_parse_pressure(const char *text, size_t n, MemorySample *ret) {
        Share some = SHARE_NONE, full = SHARE_NONE;
        const char *end = text + n;
        int r;

        for (const char *line = text, *next; line < end; line = next) {
                const char *stop = memchr(line, '\n', (size_t) (end - line));
                Share *share = NULL;

                next = stop ? stop + 1 : end;
                if (!stop)
                        stop = end;
                if (stop - line > 5 && memcmp(line, "some ", 5) == 0)
                        share = &some;
                else if (stop - line > 5 && memcmp(line, "full ", 5) == 0)
                        share = &full;
                if (!share)
                        continue;
                r = memory_take_avg60(line, stop, share);
                if (r < 0)
                        return r;
        }
        if (some == SHARE_NONE)
                return -EBADMSG;
        ret->some = some;
        ret->full = full;
        return 0;
}

int memory_parse_vmstat(const char *text, size_t n, MemorySample *ret) {
        uint64_t kills = 0;
        MemoryField field = { "oom_kill ", &kills };
        int r;

        r = memory_take_fields(text, n, &field, 1);
        if (r < 0)
                return r;
        if (!field.seen || kills > INT64_MAX)
                return -EBADMSG;
        ret->oom_kills = (int64_t) kills;
        return 0;
}

/* Looking. */

static Sight memory_sight(int error) {
        switch (-error) {
        case ENOENT:
        case ENOTDIR: return SIGHT_ABSENT;
        case EACCES:
        case EPERM: return SIGHT_DENIED;
        default: return SIGHT_FAILED;
        }
}

static int memory_open(const Memory *memory, const char *path, int flags) {
        _cleanup_(freep) char *whole = NULL;
        int fd;

        if (asprintf(&whole, "%s%s", memory->root, path) < 0)
                return -ENOMEM;
        fd = open(whole, flags | O_CLOEXEC | O_NONBLOCK);
        return fd < 0 ? -errno : fd;
}

/* Reads from the start; opens the file if it is not open yet. Return: bytes; negative errno. */
static ssize_t memory_read(const Memory *memory, const char *path, int *fd, char *text) {
        size_t n = 0;

        if (*fd < 0) {
                int r = memory_open(memory, path, O_RDONLY);

                if (r < 0)
                        return r;
                *fd = r;
        }
        /* A file of /proc is handed out a page at a time. */
        while (n < MEMORY_TEXT_MAX) {
                ssize_t got = pread(*fd, text + n, MEMORY_TEXT_MAX - n, (off_t) n);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        break;
                n += (size_t) got;
        }
        return (ssize_t) n;
}

static void memory_look(Memory *memory, bool triggered) {
        char text[MEMORY_TEXT_MAX];
        Sample sample = {
                .witness = WITNESS_MEMORY,
                .sight = SIGHT_CLEAR,
                .memory = {
                        .used = SHARE_NONE, .available = SHARE_NONE, .swap_used = SHARE_NONE,
                        .some = SHARE_NONE, .full = SHARE_NONE, .oom_kills = -1, .trigger = triggered,
                },
        };
        ssize_t n;

        n = memory_read(memory, "/proc/meminfo", &memory->meminfo, text);
        if (n >= 0)
                n = memory_parse_meminfo(text, (size_t) n, &sample.memory);
        if (n < 0)
                sample.sight = memory_sight((int) n);

        n = memory_read(memory, "/proc/vmstat", &memory->vmstat, text);
        if (n >= 0)
                (void) memory_parse_vmstat(text, (size_t) n, &sample.memory);

        n = memory_read(memory, "/proc/pressure/memory", &memory->pressure, text);
        memory->psi = n >= 0 && memory_parse_pressure(text, (size_t) n, &sample.memory) == 0;

        memory->handler(&sample, memory->userdata);
}

static void memory_on_timer(Timer *timer, Now now, void *userdata) {
        Memory *memory = userdata;

        (void) timer_arm(timer, mono_add(now.mono, memory->every));
        memory_look(memory, false);
}

static int memory_on_trigger(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Memory *memory = userdata;

        (void) source;
        (void) fd;
        if (events & EPOLLERR) {
                /* The kernel has taken the trigger away. Reading goes on by the timer. */
                memory->trigger = sd_event_source_disable_unref(memory->trigger);
                return 0;
        }
        memory_look(memory, true);
        return 0;
}

/*
 * Asks the kernel to wake us. Whatever goes wrong, the file is still read by the timer. A file that is not
 * of procfs (below another root) is never written to.
 */
static void memory_arm_trigger(Memory *memory) {
        _cleanup_(closep) int fd = memory_open(memory, "/proc/pressure/memory", O_RDWR);
        struct statfs fs;

        if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
                return;
        /* The NUL is part of what the kernel expects. */
        if (write(fd, MEMORY_TRIGGER, sizeof(MEMORY_TRIGGER)) < 0)
                return;
        if (sd_event_add_io(memory->event, &memory->trigger, fd, EPOLLPRI, memory_on_trigger, memory) < 0)
                return;
        (void) sd_event_source_set_description(memory->trigger, "memory-pressure");
        memory->pressure = steal_fd(&fd);
}

int memory_new(
        Memory **ret, sd_event *event, const char *root, Span every, SampleHandler handler, void *userdata) {
        _cleanup_(memory_freep) Memory *memory = NULL;
        int r;

        assert(handler);

        memory = calloc(1, sizeof(*memory));
        if (!memory)
                return -ENOMEM;
        memory->meminfo = memory->vmstat = memory->pressure = -1;
        memory->event = sd_event_ref(event);
        memory->every = every;
        memory->handler = handler;
        memory->userdata = userdata;
        memory->root = strdup(root);
        if (!memory->root)
                return -ENOMEM;
        r = timer_new(&memory->timer, event, "memory", SPAN_MSEC(250), memory_on_timer, memory);
        if (r < 0)
                return r;
        r = timer_arm(memory->timer, loop_now(event).mono);
        if (r < 0)
                return r;
        memory_arm_trigger(memory);

        *ret = steal_ptr(memory);
        return 0;
}

Memory *memory_free(Memory *memory) {
        if (!memory)
                return NULL;
        sd_event_source_disable_unref(memory->trigger);
        timer_free(memory->timer);
        closep(&memory->meminfo);
        closep(&memory->vmstat);
        closep(&memory->pressure);
        sd_event_unref(memory->event);
        free(memory->root);
        free(memory);
        return NULL;
}

bool memory_psi(const Memory *memory, bool *trigger) {
        *trigger = memory->trigger != NULL;
        return memory->psi;
}
