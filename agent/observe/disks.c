/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Disks: a round reads mountinfo, then asks the helper for the sizes of one mount after the other.
 *
 * A real mount is one whose source is a device node or whose type is a network or pooled file system, less
 * read-only images (squashfs of snaps, ISOs), which are full by nature. The same device mounted again (bind
 * mounts, sub-volumes) counts once, by its shortest path. Mounts that the settings name are taken as they
 * are, whatever their type.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#include "agent/observe/disks.h"
#include "common/loop.h"

#define DISKS_DEADLINE   SPAN_SEC(5)
#define DISKS_HUNG_EVERY SPAN_MIN(1) /* how often a hung mount is asked again */
#define DISKS_LINE_MAX   16384 /* overlay mounts have lines of several KiB; longer ones are passed over */
#define DISKS_READ_MAX                                                                                      \
        ((off_t) 8 * 1024 * 1024) /* a mount table beyond this is not ours to read every few seconds */

/* One more each for the file systems of / and of docker, if the settings do not name them. */
#define DISKS_ENTRIES_MAX (DISK_MOUNTS_MAX + 2)

typedef struct DisksEntry {
        DiskMount mount;
        uint32_t major, minor;
        bool listed;   /* to be reported, not only watched for root_full and root_read_only */
        bool local;    /* on a device node of this host */
        bool ro_first; /* read-only when first seen: meant to be */
        bool full;     /* no byte or inode left for ordinary users */
        Mono asked;    /* MONO_NEVER: not yet */
} DisksEntry;

typedef struct DisksTable {
        DisksEntry entries[DISKS_ENTRIES_MAX];
        uint32_t n;
} DisksTable;

/* Paths whose file systems are watched in any case. */
static const char *const disks_roots[] = { "/", "/var/lib/docker" };

/* What a pass over the mount table gathers. */
typedef struct DisksPass {
        DisksTable table;
        DisksMountLine roots[ELEMENTSOF(disks_roots)]; /* the mounts that hold them; path "": none yet */
        uint32_t n_lines;
} DisksPass;

struct Disks {
        sd_event *event;
        Helper *helper;
        Timer *timer;
        Mono due;
        sd_event_source *change; /* the kernel's word that the mount table is another; NULL: not possible */
        HelperCall *call;
        SampleHandler handler;
        void *userdata;
        Span every;
        char *root;
        char **mounts; /* NULL: all real ones */
        char **ignore;
        int fd; /* of mountinfo; -1: not open */

        DisksTable table;
        int holders[ELEMENTSOF(disks_roots)]; /* index of the entry; -1: none */
        uint32_t next;                        /* entry to be asked next */
        bool under_way;
        bool hung_turn; /* what has hung is asked last, after the sample */
        Mono round_at;

        DiskMount shown[DISK_MOUNTS_MAX];
        uint32_t n_shown;
};

/* Parsing. */

/* Takes the word at @*p, up to a blank. Return: its length; 0 if there is none. */
static size_t disks_take_word(const char **p, const char *end, const char **ret) {
        const char *word = *p;
        const char *stop = memchr(word, ' ', (size_t) (end - word));

        if (!stop)
                stop = end;
        *ret = word;
        *p = stop < end ? stop + 1 : end;
        return (size_t) (stop - word);
}

static int disks_take_number(const char **p, const char *end, char stop, uint32_t *ret) {
        const char *digits = *p;
        uint32_t value = 0;

        for (; *p < end && **p >= '0' && **p <= '9'; (*p)++)
                if (__builtin_mul_overflow(value, 10U, &value) ||
                        __builtin_add_overflow(value, (uint32_t) (**p - '0'), &value))
                        return -EBADMSG;
        if (*p == digits || *p == end || **p != stop)
                return -EBADMSG;
        (*p)++;
        *ret = value;
        return 0;
}

/* The kernel writes blanks, line ends, backslashes and # as \ and three octal digits. */
static int disks_unescape(const char *text, size_t n, char *ret, size_t n_ret) {
        size_t length = 0;

        for (size_t i = 0; i < n; i++) {
                char c = text[i];

                if (c == '\\') {
                        if (n - i < 4 || text[i + 1] < '0' || text[i + 1] > '3' || text[i + 2] < '0' ||
                                text[i + 2] > '7' || text[i + 3] < '0' || text[i + 3] > '7')
                                return -EBADMSG;
                        c = (char) ((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                    (text[i + 3] - '0'));
                        i += 3;
                }
                if (c == '\0')
                        return -EBADMSG;
                if (length + 1 >= n_ret)
                        return -ENAMETOOLONG;
                ret[length++] = c;
        }
        ret[length] = '\0';
        return 0;
}

static bool disks_options_read_only(const char *options, size_t n) {
        const char *end = options + n;

        while (options < end) {
                const char *comma = memchr(options, ',', (size_t) (end - options));
                size_t length = (size_t) ((comma ? comma : end) - options);

                /*
                 * ext4 of newer kernels says emergency_ro, and not ro, when it has stopped writing after an
                 * error.
                 */
                if ((length == 2 && memcmp(options, "ro", 2) == 0) ||
                        (length == 12 && memcmp(options, "emergency_ro", 12) == 0))
                        return true;
                options += length + 1;
        }
        return false;
}

/* Source: Linux Documentation/filesystems/proc.rst, "/proc/<pid>/mountinfo". */
int disks_parse_mount(const char *line, size_t n, DisksMountLine *ret) {
        DisksMountLine mount = {};
        const char *p = line, *end = line + n, *word;
        uint32_t number;
        size_t length;
        int r;

        if (memchr(line, '\0', n) || memchr(line, '\n', n))
                return -EBADMSG;
        if (disks_take_number(&p, end, ' ', &number) < 0 || disks_take_number(&p, end, ' ', &number) < 0 ||
                disks_take_number(&p, end, ':', &mount.major) < 0 ||
                disks_take_number(&p, end, ' ', &mount.minor) < 0)
                return -EBADMSG;
        if (disks_take_word(&p, end, &word) == 0) /* root within the file system */
                return -EBADMSG;
        length = disks_take_word(&p, end, &word);
        if (length == 0 || word[0] != '/')
                return -EBADMSG;
        r = disks_unescape(word, length, mount.path, sizeof(mount.path));
        if (r < 0)
                return r;
        length = disks_take_word(&p, end, &word);
        if (length == 0)
                return -EBADMSG;
        mount.read_only = disks_options_read_only(word, length);

        do /* optional fields, ended by a dash */
                length = disks_take_word(&p, end, &word);
        while (length > 0 && !(length == 1 && word[0] == '-'));
        if (length == 0)
                return -EBADMSG;

        length = disks_take_word(&p, end, &word);
        if (length == 0)
                return -EBADMSG;
        r = disks_unescape(word, length, mount.fstype, sizeof(mount.fstype));
        if (r < 0)
                return r;
        length = disks_take_word(&p, end, &word); /* may be empty: mount -t tmpfs "" /x */
        r = disks_unescape(word, length, mount.source, sizeof(mount.source));
        if (r < 0)
                return r;
        length = disks_take_word(&p, end, &word);
        if (length == 0)
                return -EBADMSG;
        if (disks_options_read_only(word, length))
                mount.read_only = true;

        *ret = mount;
        return 0;
}

/* Which mounts count. */

static bool disks_list_has(char *const *list, const char *text) {
        for (; list && *list; list++)
                if (strcmp(*list, text) == 0)
                        return true;
        return false;
}

static bool disks_is_real(const Disks *disks, const DisksMountLine *line) {
        static const char *const no_device[] = { "nfs", "nfs4", "efs", "cifs", "smb3", "ceph", "lustre",
                "glusterfs", "fuse.glusterfs", "afs", "9p", "virtiofs", "zfs", "bcachefs" };
        static const char *const never[] = { "squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs",
                "devtmpfs" };

        if (disks_list_has(disks->ignore, line->fstype))
                return false;
        for (size_t i = 0; i < ELEMENTSOF(never); i++)
                if (strcmp(line->fstype, never[i]) == 0)
                        return false;
        if (strncmp(line->source, "/dev/", 5) == 0)
                return true;
        for (size_t i = 0; i < ELEMENTSOF(no_device); i++)
                if (strcmp(line->fstype, no_device[i]) == 0)
                        return true;
        return false;
}

static bool disks_is_same(const DisksEntry *entry, const DisksMountLine *line) {
        return entry->major == line->major && entry->minor == line->minor;
}

static void disks_fill(DisksEntry *entry, const DisksMountLine *line, bool listed) {
        *entry = (DisksEntry){
                .mount = { .used = SHARE_NONE, .inodes_used = SHARE_NONE, .read_only = line->read_only },
                .major = line->major,
                .minor = line->minor,
                .listed = listed,
                .local = strncmp(line->source, "/dev/", 5) == 0,
                .ro_first = line->read_only,
        };
        memcpy(entry->mount.path, line->path, sizeof(entry->mount.path));
}

/*
 * Takes a mount up: in the place of what it hides or of its own longer path, else as a new entry, if there
 * is room.
 */
static void disks_list(const Disks *disks, DisksTable *table, const DisksMountLine *line) {
        for (uint32_t i = 0; i < table->n; i++) {
                DisksEntry *entry = &table->entries[i];

                if (strcmp(entry->mount.path, line->path) == 0) {
                        disks_fill(entry, line, true);
                        return;
                }
                if (!disks->mounts && disks_is_same(entry, line)) {
                        if (strlen(line->path) < strlen(entry->mount.path))
                                disks_fill(entry, line, true);
                        return;
                }
        }
        if (table->n < DISK_MOUNTS_MAX)
                disks_fill(&table->entries[table->n++], line, true);
}

/* Whether a file at @path is on @mount or on something mounted further down. */
static bool disks_is_above(const char *mount, const char *path) {
        size_t n = strlen(mount);

        return n == 1 || (strncmp(mount, path, n) == 0 && (path[n] == '/' || path[n] == '\0'));
}

static void disks_take_line(const Disks *disks, DisksPass *pass, const char *text, size_t n) {
        DisksMountLine line;

        if (disks_parse_mount(text, n, &line) < 0)
                return;
        pass->n_lines++;
        for (size_t i = 0; i < ELEMENTSOF(disks_roots); i++)
                if (disks_is_above(line.path, disks_roots[i]) &&
                        strlen(line.path) >= strlen(pass->roots[i].path))
                        pass->roots[i] = line;
        if (disks->mounts ? disks_list_has(disks->mounts, line.path) : disks_is_real(disks, &line))
                disks_list(disks, &pass->table, &line);
}

/* What an earlier round knew of it goes on. That a device is known by another path now does not matter. */
static void disks_remember(const DisksTable *before, DisksEntry *entry) {
        const DisksEntry *old = NULL;
        bool read_only = entry->mount.read_only;

        for (uint32_t i = 0; i < before->n; i++) {
                const DisksEntry *candidate = &before->entries[i];

                if (candidate->major != entry->major || candidate->minor != entry->minor)
                        continue;
                if (!old || strcmp(candidate->mount.path, entry->mount.path) == 0)
                        old = candidate;
        }
        if (old) {
                entry->mount.used = old->mount.used;
                entry->mount.inodes_used = old->mount.inodes_used;
                entry->mount.hung = old->mount.hung;
                entry->ro_first = old->ro_first;
                entry->full = old->full;
                entry->asked = old->asked;
        }
        /* Once it can be written to, it is meant to be. */
        entry->ro_first = entry->ro_first && read_only;
        entry->mount.read_only = read_only && !entry->ro_first;
}

static void disks_settle(Disks *disks, DisksPass *pass) {
        DisksTable *table = &pass->table;

        for (size_t i = 0; i < ELEMENTSOF(disks_roots); i++) {
                const DisksMountLine *line = &pass->roots[i];

                disks->holders[i] = -1;
                for (uint32_t k = 0; k < table->n && line->path[0] != '\0'; k++)
                        if (disks_is_same(&table->entries[k], line))
                                disks->holders[i] = (int) k;
                if (disks->holders[i] < 0 && line->path[0] != '\0') {
                        disks->holders[i] = (int) table->n;
                        disks_fill(&table->entries[table->n++], line, false);
                }
        }
        for (uint32_t i = 0; i < table->n; i++)
                disks_remember(&disks->table, &table->entries[i]);
        disks->table = *table;
}

/* Reading the mount table. */

static int disks_on_change(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Disks *disks = userdata;
        Mono soon = mono_add(disks->round_at, disks->every / 2);

        (void) source;
        (void) fd;
        (void) events;
        /*
         * Each container that starts or ends changes the table several times, so a round is not to be had at
         * once.
         */
        if (mono_before(soon, disks->due)) {
                disks->due = soon;
                (void) timer_arm(disks->timer, soon);
        }
        return 0;
}

static void disks_close(Disks *disks) {
        disks->change = sd_event_source_disable_unref(disks->change);
        if (disks->fd >= 0)
                (void) close(steal_fd(&disks->fd));
}

static int disks_open(Disks *disks) {
        _cleanup_(freep) char *path = NULL;

        if (disks->fd >= 0)
                return 0;
        if (asprintf(&path, "%s/proc/1/mountinfo", disks->root) < 0)
                return -ENOMEM;
        disks->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (disks->fd < 0)
                return -errno;
        /* Refused for what is not of procfs; then there is the timer alone. */
        if (sd_event_add_io(disks->event, &disks->change, disks->fd, EPOLLPRI, disks_on_change, disks) >= 0)
                (void) sd_event_source_set_description(disks->change, "disks-mounts");
        return 0;
}

static int disks_read_lines(const Disks *disks, DisksPass *pass) {
        char text[DISKS_LINE_MAX];
        size_t have = 0;
        bool too_long = false;

        for (off_t at = 0; at <= DISKS_READ_MAX;) {
                ssize_t n = pread(disks->fd, text + have, sizeof(text) - have, at);
                char *line = text, *stop;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0) {
                        if (have > 0 && !too_long)
                                disks_take_line(disks, pass, text, have);
                        return pass->n_lines > 0 ? 0 : -EBADMSG;
                }
                at += n;
                have += (size_t) n;
                while ((stop = memchr(line, '\n', have))) {
                        if (!too_long)
                                disks_take_line(disks, pass, line, (size_t) (stop - line));
                        too_long = false;
                        have -= (size_t) (stop + 1 - line);
                        line = stop + 1;
                }
                if (have == sizeof(text)) {
                        too_long = true;
                        have = 0;
                }
                memmove(text, line, have);
        }
        return -EFBIG;
}

static int disks_read_table(Disks *disks) {
        DisksPass pass = {};
        int r;

        r = disks_open(disks);
        if (r >= 0)
                r = disks_read_lines(disks, &pass);
        if (r < 0) {
                disks_close(disks);
                return r;
        }
        disks_settle(disks, &pass);
        return 0;
}

int disks_choose(const DisksOptions *options, DiskMount ret[static DISK_MOUNTS_MAX]) {
        static const char *const tables[] = { "/proc/1/mountinfo", "/proc/self/mountinfo" };
        _cleanup_(closep) int fd = -1;
        Disks disks = { .mounts = (char **) options->mounts, .ignore = (char **) options->ignore_fstypes };
        DisksPass pass = {};
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(tables) && fd < 0; i++) {
                _cleanup_(freep) char *path = NULL;

                if (asprintf(&path, "%s%s", options->root, tables[i]) < 0)
                        return -ENOMEM;
                fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
                r = fd < 0 ? -errno : 0;
        }
        if (r < 0)
                return r;
        disks.fd = fd;
        r = disks_read_lines(&disks, &pass);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i < pass.table.n; i++)
                ret[i] = pass.table.entries[i].mount;
        return (int) pass.table.n;
}

/* Asking for sizes. */

static Share disks_share(uint64_t used, uint64_t available) {
        unsigned __int128 whole = (unsigned __int128) used + available;

        return whole > 0 ? (Share) ((unsigned __int128) used * 10000 / whole) : SHARE_NONE;
}

/* As df does: what only root may use counts neither as used nor as available. */
static void disks_measure(DisksEntry *entry, const struct statvfs *fs) {
        bool bytes = fs->f_blocks > 0 && fs->f_bfree <= fs->f_blocks && fs->f_bavail <= fs->f_bfree;
        bool inodes = fs->f_files > 0 && fs->f_ffree <= fs->f_files && fs->f_favail <= fs->f_ffree;

        if (bytes)
                entry->mount.used = disks_share(fs->f_blocks - fs->f_bfree, fs->f_bavail);
        if (inodes)
                entry->mount.inodes_used = disks_share(fs->f_files - fs->f_ffree, fs->f_favail);
        entry->full = (bytes && fs->f_bavail == 0) || (inodes && fs->f_favail == 0);
}

static void disks_forget(DisksEntry *entry) {
        entry->mount.used = entry->mount.inodes_used = SHARE_NONE;
        entry->full = false;
}

/*
 * Each question that hangs may keep a helper process until the mount answers, and names must still be
 * resolved. So what has hung is asked again only when one of those processes has gone, and what is likely to
 * hang (it has before, or it is on a network) never takes the last of them.
 */
static bool disks_may_ask(const Disks *disks, const DisksEntry *entry, Mono now) {
        unsigned n_stuck = helper_n_stuck(disks->helper), n_hung = 0;

        if ((entry->mount.hung || !entry->local) && n_stuck >= HELPER_STUCK_MAX - 1)
                return false;
        if (!entry->mount.hung)
                return true;
        for (uint32_t i = 0; i < disks->table.n; i++)
                n_hung += disks->table.entries[i].mount.hung;
        return n_stuck < n_hung && mono_since(now, entry->asked) >= DISKS_HUNG_EVERY;
}

static void disks_on_answer(const HelperAnswer *answer, void *userdata);

/* Asks for the next entry whose turn it is. Return: whether there was one. */
static bool disks_ask_next(Disks *disks) {
        Mono now = loop_now(disks->event).mono;

        while (disks->next < disks->table.n) {
                DisksEntry *entry = &disks->table.entries[disks->next++];
                _cleanup_(freep) char *path = NULL;

                if (entry->mount.hung != disks->hung_turn)
                        continue;
                if (disks_may_ask(disks, entry, now) &&
                        asprintf(&path, "%s%s", disks->root, entry->mount.path) > 0 &&
                        helper_statvfs(disks->helper, path, DISKS_DEADLINE, disks_on_answer, disks,
                                &disks->call) == 0) {
                        entry->asked = now;
                        return true;
                }
                disks_forget(entry);
        }
        return false;
}

static void disks_publish(Disks *disks, Sample *sample) {
        DisksSample *all = &sample->disks;

        *sample = (Sample){
                .witness = WITNESS_DISKS,
                .sight = SIGHT_CLEAR,
                .disks = { .used_worst = SHARE_NONE, .inodes_used_worst = SHARE_NONE },
        };
        disks->n_shown = 0;
        for (uint32_t i = 0; i < disks->table.n; i++) {
                const DiskMount *mount = &disks->table.entries[i].mount;

                if (!disks->table.entries[i].listed)
                        continue;
                disks->shown[disks->n_shown++] = *mount;
                if (mount->used > all->used_worst)
                        all->used_worst = mount->used;
                if (mount->inodes_used > all->inodes_used_worst)
                        all->inodes_used_worst = mount->inodes_used;
                all->n_read_only += mount->read_only;
                all->n_hung += mount->hung;
        }
        all->n = disks->n_shown;
        for (size_t i = 0; i < ELEMENTSOF(disks->holders); i++)
                if (disks->holders[i] >= 0) {
                        const DisksEntry *entry = &disks->table.entries[disks->holders[i]];

                        all->root_read_only = all->root_read_only || entry->mount.read_only;
                        all->root_full = all->root_full || entry->full;
                }
}

/* Goes on with the round. The handler comes last, for it may free us. */
static void disks_advance(Disks *disks) {
        Sample sample;

        if (disks_ask_next(disks))
                return;
        if (disks->hung_turn) {
                disks->under_way = false;
                return;
        }
        disks_publish(disks, &sample);
        disks->hung_turn = true;
        disks->next = 0;
        disks->under_way = disks_ask_next(disks);
        disks->handler(&sample, disks->userdata);
}

static void disks_on_answer(const HelperAnswer *answer, void *userdata) {
        Disks *disks = userdata;
        DisksEntry *entry = &disks->table.entries[disks->next - 1];

        /* -EBUSY is the helper's own trouble and says nothing of the mount. */
        if (answer->error != -EBUSY)
                entry->mount.hung = answer->error == -ETIMEDOUT;
        disks_forget(entry);
        if (answer->error == 0)
                disks_measure(entry, &answer->file_system);
        disks->call = helper_call_free(disks->call);
        disks_advance(disks);
}

static Sight disks_sight(int error) {
        switch (-error) {
        case ENOENT:
        case ENOTDIR: return SIGHT_ABSENT;
        case EACCES:
        case EPERM: return SIGHT_DENIED;
        default: return SIGHT_FAILED;
        }
}

static void disks_on_timer(Timer *timer, Now now, void *userdata) {
        Disks *disks = userdata;
        int r;

        disks->due = mono_add(now.mono, disks->every);
        (void) timer_arm(timer, disks->due);
        if (disks->under_way)
                return;
        disks->round_at = now.mono;
        r = disks_read_table(disks);
        if (r < 0) {
                Sample sample = { .witness = WITNESS_DISKS, .sight = disks_sight(r) };

                disks->n_shown = 0;
                disks->handler(&sample, disks->userdata);
                return;
        }
        disks->next = 0;
        disks->hung_turn = false;
        disks->under_way = true;
        disks_advance(disks);
}

/* Life. */

static char **disks_list_free(char **list) {
        for (char **i = list; i && *i; i++)
                free(*i);
        free(list);
        return NULL;
}

static int disks_list_copy(const char *const *list, char ***ret) {
        size_t n = 0;
        char **copy;

        while (list[n])
                n++;
        copy = calloc(n + 1, sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                copy[i] = strdup(list[i]);
                if (!copy[i]) {
                        disks_list_free(copy);
                        return -ENOMEM;
                }
        }
        *ret = copy;
        return 0;
}

int disks_new(Disks **ret, sd_event *event, Helper *helper, const DisksOptions *options,
        SampleHandler handler, void *userdata) {
        _cleanup_(disks_freep) Disks *disks = NULL;
        int r;

        assert(handler);

        disks = calloc(1, sizeof(*disks));
        if (!disks)
                return -ENOMEM;
        disks->fd = -1;
        disks->event = sd_event_ref(event);
        disks->helper = helper;
        disks->handler = handler;
        disks->userdata = userdata;
        disks->every = options->every;
        disks->root = strdup(options->root);
        if (!disks->root)
                return -ENOMEM;
        r = options->mounts ? disks_list_copy(options->mounts, &disks->mounts) : 0;
        if (r < 0)
                return r;
        r = options->ignore_fstypes ? disks_list_copy(options->ignore_fstypes, &disks->ignore) : 0;
        if (r < 0)
                return r;
        r = timer_new(&disks->timer, event, "disks", SPAN_MSEC(250), disks_on_timer, disks);
        if (r < 0)
                return r;
        disks->due = loop_now(event).mono;
        r = timer_arm(disks->timer, disks->due);
        if (r < 0)
                return r;

        *ret = steal_ptr(disks);
        return 0;
}

Disks *disks_free(Disks *disks) {
        if (!disks)
                return NULL;
        helper_call_free(disks->call);
        disks_close(disks);
        timer_free(disks->timer);
        sd_event_unref(disks->event);
        disks_list_free(disks->mounts);
        disks_list_free(disks->ignore);
        free(disks->root);
        free(disks);
        return NULL;
}

uint32_t disks_mounts(const Disks *disks, const DiskMount **ret) {
        *ret = disks->shown;
        return disks->n_shown;
}
