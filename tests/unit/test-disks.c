/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Real mounts are told from the rest, each file system counts once, and one that hangs is reported, holds
 * nothing up and is not asked all the time. Time and the helper process are played by this file, so that a
 * minute takes no time.
 */

#include <errno.h>
#include <sys/stat.h>

#include "agent/observe/disks.h"
#include "common/loop.h"
#include "tests/unit/test.h"

/* A clock that stands still, and the one timer there is. */

static Mono fake_now;
static Timer *fake_timer;

struct Timer {
        TimerHandler handler;
        void *userdata;
        Mono at;
};

Now loop_now(sd_event *event) {
        (void) event;
        return clock_read();
}

Now clock_read(void) {
        return (Now){ .mono = fake_now, .wall = { 1 } };
}

uint64_t loop_random(void) {
        return 4;
}

int timer_new(Timer **ret, sd_event *event, const char *description, Span accuracy, TimerHandler handler,
        void *userdata) {
        (void) event;
        (void) description;
        (void) accuracy;
        *ret = fake_timer = calloc(1, sizeof(**ret));
        **ret = (Timer){ handler, userdata, MONO_INFINITE };
        return 0;
}

Timer *timer_free(Timer *timer) {
        free(timer);
        fake_timer = NULL;
        return NULL;
}

int timer_arm(Timer *timer, Mono at) {
        timer->at = at;
        return 0;
}

void timer_disarm(Timer *timer) {
        timer->at = MONO_INFINITE;
}

/* A helper that is asked and then answers when the test says so. */

struct Helper {
        HelperCall *call;
        unsigned n_asked, n_stuck;
        char asked[HELPER_NAME_MAX];
        int refuse;
};

struct HelperCall {
        Helper *helper;
        HelperDone done;
        void *userdata;
};

int helper_new(Helper **ret, sd_event *event) {
        (void) ret;
        (void) event;
        return -ENOSYS;
}

Helper *helper_free(Helper *helper) {
        (void) helper;
        return NULL;
}

int helper_resolve(
        Helper *helper, const char *host, Span deadline, HelperDone done, void *userdata, HelperCall **ret) {
        (void) helper;
        (void) host;
        (void) deadline;
        (void) done;
        (void) userdata;
        (void) ret;
        return -ENOSYS;
}

int helper_statvfs(
        Helper *helper, const char *path, Span deadline, HelperDone done, void *userdata, HelperCall **ret) {
        EXPECT(!helper->call);
        EXPECT_EQ(deadline, SPAN_SEC(5));
        if (helper->refuse < 0)
                return helper->refuse;
        helper->n_asked++;
        (void) snprintf(helper->asked, sizeof(helper->asked), "%s", path);
        *ret = helper->call = calloc(1, sizeof(**ret));
        *helper->call = (HelperCall){ helper, done, userdata };
        return 0;
}

HelperCall *helper_call_free(HelperCall *call) {
        if (call && call->helper->call == call)
                call->helper->call = NULL;
        free(call);
        return NULL;
}

unsigned helper_n_stuck(const Helper *helper) {
        return helper->n_stuck;
}

/* A mount table below a root, and what was handed over. */

typedef struct Fixture {
        char root[64];
        sd_event *event;
        Helper helper;
        Disks *disks;
        unsigned n;
        Sample last;
} Fixture;

static void fixture_write(const Fixture *f, const char *mountinfo) {
        char path[128];
        _cleanup_(fclosep) FILE *file = NULL;

        (void) snprintf(path, sizeof(path), "%s/proc/1/mountinfo", f->root);
        file = fopen(path, "w");
        if (!file || fputs(mountinfo, file) < 0)
                abort();
}

static void fixture_on_sample(const Sample *sample, void *userdata) {
        Fixture *f = userdata;

        f->n++;
        f->last = *sample;
}

static void fixture_tick(Span span) {
        Timer *timer = fake_timer;

        fake_now = mono_add(fake_now, span);
        if (!mono_before(fake_now, timer->at)) {
                timer->at = MONO_INFINITE;
                timer->handler(timer, clock_read(), timer->userdata);
        }
}

static void fixture_init(Fixture *f, const char *mountinfo, const char *const *mounts) {
        char path[128];

        *f = (Fixture){ .root = "/tmp/test-disks-XXXXXX" };
        fake_now = (Mono){ SPAN_HOUR(1) };
        if (sd_event_new(&f->event) < 0 || !mkdtemp(f->root))
                abort();
        for (const char *const *i = (const char *const[]){ "/proc", "/proc/1", NULL }; *i; i++) {
                (void) snprintf(path, sizeof(path), "%s%s", f->root, *i);
                (void) mkdir(path, 0755);
        }
        if (mountinfo)
                fixture_write(f, mountinfo);
        EXPECT_EQ(
                disks_new(&f->disks, f->event, &f->helper,
                        &(DisksOptions){ .root = f->root,
                                .mounts = mounts,
                                .ignore_fstypes = (const char *const[]){ "overlay", "tmpfs", "vfat", NULL },
                                .every = SPAN_SEC(10) },
                        fixture_on_sample, f),
                0);
        EXPECT_EQ(f->n, 0);
}

static void fixture_done(Fixture *f) {
        static const char *const paths[] = { "/proc/1/mountinfo", "/proc/1", "/proc", "" };
        char path[128];

        disks_free(f->disks);
        EXPECT(!f->helper.call);
        sd_event_unref(f->event);
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                (void) snprintf(path, sizeof(path), "%s%s", f->root, paths[i]);
                (void) remove(path);
        }
}

/* Answers the question about @path with @percent of bytes used, or with @error. */
static void fixture_answer(Fixture *f, const char *path, int error, unsigned percent) {
        HelperAnswer answer = {
                .error = error,
                .file_system = { .f_blocks = 1000,
                        .f_bfree = 1000 - percent * 10,
                        .f_bavail = 1000 - percent * 10,
                        .f_files = 200,
                        .f_ffree = 190,
                        .f_favail = 190 },
        };

        if (!f->helper.call || strcmp(f->helper.asked + strlen(f->root), path) != 0) {
                printf("# asked for %s, expected %s\n", f->helper.call ? f->helper.asked : "nothing", path);
                test_failures++;
                return;
        }
        f->helper.call->done(&answer, f->helper.call->userdata);
}

#define ROOT    "27 1 259:1 / / rw,noatime shared:1 - xfs /dev/nvme0n1p1 rw,attr2\n"
#define DATA    "30 27 259:9 / /data rw - ext4 /dev/nvme1n1 rw\n"
#define DATA_RO "30 27 259:9 / /data rw - ext4 /dev/nvme1n1 ro\n"
#define SHARE   "31 27 0:50 / /share rw - nfs4 fs-1.efs:/ rw,vers=4.1\n"

static void test_mount_line_is_taken_apart(void) {
        static const char line[] = "36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 shared:7 - ext3 "
                                   "/dev/ro\\011ot rw,errors=ro";
        DisksMountLine mount;

        EXPECT_EQ(disks_parse_mount(line, strlen(line), &mount), 0);
        EXPECT_STR(mount.path, "/a b\\c");
        EXPECT_STR(mount.fstype, "ext3");
        EXPECT_STR(mount.source, "/dev/ro\tot");
        EXPECT_EQ(mount.major, 98);
        EXPECT_EQ(mount.minor, 0);
        EXPECT(!mount.read_only);
}

static void test_mount_line_tells_read_only_by_either_set_of_options(void) {
        static const struct {
                const char *line;
                bool read_only;
        } cases[] = {
                { "1 1 8:1 / / rw - ext4 /dev/sda1 rw", false },
                { "1 1 8:1 / / ro - ext4 /dev/sda1 rw", true },
                { "1 1 8:1 / / rw,relatime - ext4 /dev/sda1 ro,errors=remount-ro", true },
                { "1 1 8:1 / / rw - ext4 /dev/sda1 rw,emergency_ro", true },
                { "1 1 8:1 / / rw,ro - ext4 /dev/sda1 rw", true },
                { "1 1 8:1 / / rw,norecovery,rox,xro - ext4 /dev/sda1 rw,errors=ro", false },
                { "1 1 0:9 / /x rw - tmpfs  rw", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                DisksMountLine mount;

                EXPECT_EQ(disks_parse_mount(cases[i].line, strlen(cases[i].line), &mount), 0);
                EXPECT_EQ(mount.read_only, cases[i].read_only);
        }
}

static void test_mount_line_refuses_what_the_kernel_does_not_write(void) {
        static const char *const cases[] = {
                "",
                " ",
                "1",
                "1 1",
                "1 1 8:1",
                "1 1 8:1 / ",
                "1 1 8:1 / / rw",
                "1 1 8:1 / / rw shared:1",
                "1 1 8:1 / / rw -",
                "1 1 8:1 / / rw - ext4",
                "1 1 8:1 / / rw - ext4 /dev/sda1",
                "1 1 8:1 / / rw - ext4 /dev/sda1 ",
                "1 1 8 / / rw - ext4 /dev/sda1 rw",
                "1 1 8: / / rw - ext4 /dev/sda1 rw",
                "1 1 -8:1 / / rw - ext4 /dev/sda1 rw",
                "1 1 99999999999:1 / / rw - ext4 /dev/sda1 rw",
                "x 1 8:1 / / rw - ext4 /dev/sda1 rw",
                "1 1 8:1 / relative rw - ext4 /dev/sda1 rw",
                "1 1 8:1 / /a\\04 rw - ext4 /dev/sda1 rw",
                "1 1 8:1 / /a\\048 rw - ext4 /dev/sda1 rw",
                "1 1 8:1 / /a\\000b rw - ext4 /dev/sda1 rw",
                "1 1 8:1 / /a\\ rw - ext4 /dev/sda1 rw",
                "1 1 8:1 / /a\n rw - ext4 /dev/sda1 rw",
        };
        DisksMountLine mount = { .major = 7 };
        char line[512], name[DISK_PATH_MAX + 1] = "/";

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                EXPECT_EQ(disks_parse_mount(cases[i], strlen(cases[i]), &mount), -EBADMSG);
        EXPECT_EQ(disks_parse_mount("1 1 8:1 / /\0 rw - ext4 /dev/sda1 rw", 35, &mount), -EBADMSG);

        memset(name + 1, 'x', DISK_PATH_MAX - 1);
        (void) snprintf(line, sizeof(line), "1 1 8:1 / %s rw - ext4 /dev/sda1 rw", name);
        EXPECT_EQ(disks_parse_mount(line, strlen(line), &mount), -ENAMETOOLONG);
        name[DISK_PATH_MAX - 1] = '\0';
        EXPECT_EQ(mount.major, 7);
        (void) snprintf(line, sizeof(line), "1 1 8:1 / %s rw - ext4 /dev/sda1 rw", name);
        EXPECT_EQ(disks_parse_mount(line, strlen(line), &mount), 0);
        EXPECT_STR(mount.path, name);
}

static void test_disks_takes_real_mounts_once_each(void) {
        static const char table[] =
                "20 27 0:20 / /proc rw - proc proc rw\n" ROOT
                "28 27 259:9 /sub /var/lib/long rw - ext4 /dev/nvme1n1 rw\n" DATA
                "33 27 259:9 /x /data/bound rw - ext4 /dev/nvme1n1 rw\n"
                "34 27 0:60 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,lowerdir=/a\n"
                "35 27 7:1 / /snap/x rw - squashfs /dev/loop1 ro\n"
                "36 27 0:5 / /dev rw - devtmpfs devtmpfs rw\n"
                "37 27 259:2 / /boot/efi rw - vfat /dev/nvme0n1p128 rw\n"
                "nonsense\n" SHARE "38 27 0:70 / /run rw - tmpfs tmpfs rw"; /* and no line end */
        const DiskMount *mounts;
        Fixture f;

        fixture_init(&f, table, NULL);
        EXPECT_EQ(disks_mounts(f.disks, &mounts), 0);
        fixture_tick(0);
        fixture_answer(&f, "/", 0, 50);
        fixture_answer(&f, "/data", 0, 90);
        EXPECT_EQ(f.n, 0);
        fixture_answer(&f, "/share", 0, 10);
        EXPECT_EQ(f.n, 1);
        EXPECT(!f.helper.call);

        EXPECT_EQ(f.last.witness, WITNESS_DISKS);
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        EXPECT_EQ(f.last.disks.n, 3);
        EXPECT_EQ(f.last.disks.used_worst, 9000);
        EXPECT_EQ(f.last.disks.inodes_used_worst, 500);
        EXPECT_EQ(f.last.disks.n_read_only, 0);
        EXPECT_EQ(f.last.disks.n_hung, 0);
        EXPECT(!f.last.disks.root_full);
        EXPECT_EQ(disks_mounts(f.disks, &mounts), 3);
        EXPECT_STR(mounts[0].path, "/");
        EXPECT_STR(mounts[1].path, "/data");
        EXPECT_STR(mounts[2].path, "/share");
        EXPECT_EQ(mounts[0].used, 5000);
        fixture_done(&f);
}

static void test_disks_takes_the_mounts_of_the_settings_as_they_are(void) {
        const DiskMount *mounts;
        Fixture f;

        fixture_init(&f, ROOT DATA "38 27 0:70 / /run rw - tmpfs tmpfs rw\n",
                (const char *const[]){ "/run", "/missing", NULL });
        fixture_tick(0);
        fixture_answer(&f, "/run", 0, 5);
        fixture_answer(&f, "/", 0, 100); /* watched for being full, not reported */
        EXPECT_EQ(f.n, 1);
        EXPECT_EQ(disks_mounts(f.disks, &mounts), 1);
        EXPECT_STR(mounts[0].path, "/run");
        EXPECT_EQ(f.last.disks.n, 1);
        EXPECT_EQ(f.last.disks.used_worst, 500);
        EXPECT(f.last.disks.root_full);
        fixture_done(&f);
}

static void test_disks_counts_as_df_does(void) {
        static const struct {
                struct statvfs fs;
                Share used, inodes_used;
                bool full;
        } cases[] = {
                /* 5 % kept for root: 100 % although root could still write */
                { { .f_blocks = 1000,
                          .f_bfree = 50,
                          .f_bavail = 0,
                          .f_files = 10,
                          .f_ffree = 5,
                          .f_favail = 5 },
                        10000, 5000, true },
                { { .f_blocks = 1000, .f_bfree = 550, .f_bavail = 450 }, 5000, SHARE_NONE, false },
                { { .f_blocks = 1000, .f_bfree = 500, .f_bavail = 500, .f_files = 10 }, 5000, 10000, true },
                { { .f_blocks = UINT64_MAX, .f_bfree = UINT64_MAX, .f_bavail = UINT64_MAX }, 0, SHARE_NONE,
                        false },
                { { .f_blocks = UINT64_MAX, .f_bfree = 1, .f_bavail = 1 }, 9999, SHARE_NONE, false },
                /* nonsense */
                { { .f_blocks = 10,
                          .f_bfree = 11,
                          .f_bavail = 11,
                          .f_files = 1,
                          .f_ffree = 2,
                          .f_favail = 2 },
                        SHARE_NONE, SHARE_NONE, false },
                { { .f_blocks = 10, .f_bfree = 5, .f_bavail = 6 }, SHARE_NONE, SHARE_NONE, false },
                { { .f_blocks = 0 }, SHARE_NONE, SHARE_NONE, false },
        };
        Fixture f;

        fixture_init(&f, ROOT, NULL);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                HelperAnswer answer = { .file_system = cases[i].fs };

                fixture_tick(SPAN_SEC(10));
                EXPECT(f.helper.call);
                f.helper.call->done(&answer, f.helper.call->userdata);
                EXPECT_EQ(f.last.disks.used_worst, cases[i].used);
                EXPECT_EQ(f.last.disks.inodes_used_worst, cases[i].inodes_used);
                EXPECT_EQ(f.last.disks.root_full, cases[i].full);
        }
        fixture_done(&f);
}

static void fixture_round(Fixture *f, const char *second) {
        fixture_tick(SPAN_SEC(10));
        fixture_answer(f, "/", 0, 50);
        if (second)
                fixture_answer(f, second, 0, 50);
}

static void test_disks_calls_read_only_what_was_writable(void) {
        const DiskMount *mounts;
        Fixture f;

        fixture_init(&f, ROOT DATA, NULL);
        fixture_round(&f, "/data");
        EXPECT_EQ(f.last.disks.n_read_only, 0);
        fixture_write(&f, ROOT DATA_RO);
        fixture_round(&f, "/data");
        EXPECT_EQ(f.last.disks.n_read_only, 1);
        EXPECT(!f.last.disks.root_read_only);
        EXPECT_EQ(disks_mounts(f.disks, &mounts), 2);
        EXPECT(mounts[1].read_only && !mounts[0].read_only);
        fixture_write(&f, "27 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw,emergency_ro\n" DATA);
        fixture_round(&f, "/data");
        EXPECT_EQ(f.last.disks.n_read_only, 1);
        EXPECT(f.last.disks.root_read_only);
        fixture_done(&f);
}

static void test_disks_lets_be_what_is_read_only_by_design(void) {
        Fixture f;

        fixture_init(&f, ROOT DATA_RO, NULL);
        fixture_round(&f, "/data");
        EXPECT_EQ(f.last.disks.n_read_only, 0);
        fixture_round(&f, "/data");
        EXPECT_EQ(f.last.disks.n_read_only, 0);
        fixture_write(&f, ROOT DATA); /* somebody meant it to be written to after all */
        fixture_round(&f, "/data");
        fixture_write(&f, ROOT DATA_RO);
        fixture_round(&f, "/data");
        EXPECT_EQ(f.last.disks.n_read_only, 1);
        fixture_done(&f);
}

static void test_disks_knows_the_file_system_of_docker(void) {
        Fixture f;

        fixture_init(&f, ROOT "30 27 259:9 / /var/lib/docker rw - ext4 /dev/nvme1n1 rw\n", NULL);
        fixture_tick(0);
        fixture_answer(&f, "/", 0, 50);
        fixture_answer(&f, "/var/lib/docker", 0, 100);
        EXPECT(f.last.disks.root_full);
        fixture_done(&f);

        fixture_init(&f, ROOT "30 27 259:9 / /var/lib/dock rw - ext4 /dev/nvme1n1 rw\n", NULL);
        fixture_tick(0);
        fixture_answer(&f, "/", 0, 50);
        fixture_answer(&f, "/var/lib/dock", 0, 100);
        EXPECT(!f.last.disks.root_full);
        fixture_done(&f);
}

static void test_disks_reports_a_hung_mount_and_goes_on(void) {
        const DiskMount *mounts;
        Fixture f;

        fixture_init(&f, ROOT SHARE DATA, NULL);
        fixture_tick(0);
        fixture_answer(&f, "/", 0, 50);
        f.helper.n_stuck = 1;
        fixture_answer(&f, "/share", -ETIMEDOUT, 0);
        fixture_answer(&f, "/data", 0, 60);
        EXPECT_EQ(f.n, 1);
        EXPECT(!f.helper.call);
        EXPECT_EQ(f.last.disks.n_hung, 1);
        EXPECT_EQ(f.last.disks.used_worst, 6000);
        EXPECT_EQ(disks_mounts(f.disks, &mounts), 3);
        EXPECT(mounts[1].hung);
        EXPECT_EQ(mounts[1].used, SHARE_NONE);

        fixture_round(&f, "/data");
        EXPECT_EQ(f.n, 2);
        EXPECT(!f.helper.call); /* not asked again so soon */
        EXPECT_EQ(f.last.disks.n_hung, 1);
        fixture_done(&f);
}

static void test_disks_asks_a_hung_mount_again_when_its_question_has_ended(void) {
        Fixture f;

        fixture_init(&f, ROOT SHARE, NULL);
        fixture_tick(0);
        fixture_answer(&f, "/", 0, 50);
        f.helper.n_stuck = 1;
        fixture_answer(&f, "/share", -ETIMEDOUT, 0);
        for (unsigned i = 0; i < 12; i++) {
                fixture_round(&f, NULL);
                EXPECT(!f.helper.call);
        }
        f.helper.n_stuck = 0;
        fixture_round(&f, NULL);
        EXPECT_EQ(f.n, 14);         /* the sample has not waited for it */
        fixture_tick(SPAN_SEC(10)); /* nor does a round begin while it is asked */
        EXPECT_EQ(f.n, 14);
        fixture_answer(&f, "/share", 0, 70);
        fixture_round(&f, "/share");
        EXPECT_EQ(f.last.disks.n_hung, 0);
        EXPECT_EQ(f.last.disks.used_worst, 5000);
        fixture_done(&f);
}

static void test_disks_leaves_a_helper_for_others(void) {
        Fixture f;

        fixture_init(&f, ROOT SHARE DATA, NULL);
        f.helper.n_stuck = HELPER_STUCK_MAX - 1;
        fixture_tick(0);
        fixture_answer(&f, "/", 0, 50);
        fixture_answer(&f, "/data", 0, 50); /* and not the one on a network */
        EXPECT_EQ(f.n, 1);
        EXPECT_EQ(f.last.disks.n, 3);
        EXPECT_EQ(f.last.disks.n_hung, 0);
        fixture_done(&f);
}

static void test_disks_does_not_blame_a_mount_for_a_helper_that_is_busy(void) {
        Fixture f;

        fixture_init(&f, ROOT, NULL);
        fixture_tick(0);
        fixture_answer(&f, "/", -EBUSY, 0);
        EXPECT_EQ(f.n, 1);
        EXPECT_EQ(f.last.disks.n_hung, 0);
        EXPECT_EQ(f.last.disks.used_worst, SHARE_NONE);
        f.helper.refuse = -EBUSY;
        fixture_tick(SPAN_SEC(10));
        EXPECT_EQ(f.n, 2);
        EXPECT_EQ(f.last.disks.n_hung, 0);
        f.helper.refuse = 0;
        fixture_tick(SPAN_SEC(10));
        fixture_answer(&f, "/", -EIO, 0);
        EXPECT_EQ(f.n, 3);
        EXPECT_EQ(f.last.disks.used_worst, SHARE_NONE);
        EXPECT_EQ(f.last.disks.n_hung, 0);
        fixture_done(&f);
}

static void test_disks_takes_what_is_mounted_on_top(void) {
        Fixture f;

        fixture_init(&f, ROOT DATA "40 27 259:20 / /data ro - ext4 /dev/nvme2n1 ro\n", NULL);
        fixture_tick(0);
        fixture_answer(&f, "/", 0, 50);
        fixture_answer(&f, "/data", 0, 50);
        EXPECT_EQ(f.last.disks.n, 2);
        fixture_done(&f);
}

static void test_disks_has_a_limit(void) {
        static char table[64 * 1024];
        size_t n = 0;
        Fixture f;

        for (unsigned i = 0; i < 200; i++)
                n += (size_t) snprintf(
                        table + n, sizeof(table) - n, "1 1 9:%u / /m%u rw - ext4 /dev/x rw\n", i, i);
        (void) snprintf(table + n, sizeof(table) - n, ROOT);
        fixture_init(&f, table, NULL);
        fixture_tick(0);
        while (f.helper.call)
                f.helper.call->done(&(HelperAnswer){}, f.helper.call->userdata);
        EXPECT_EQ(f.n, 1);
        EXPECT_EQ(f.last.disks.n, DISK_MOUNTS_MAX);
        EXPECT_EQ(f.helper.n_asked, DISK_MOUNTS_MAX + 1); /* and / in any case */
        fixture_done(&f);
}

static void test_disks_passes_over_a_line_without_end(void) {
        static char table[64 * 1024];
        int n = snprintf(table, sizeof(table), "1 1 0:60 / /o rw - overlay overlay rw,lowerdir=");
        Fixture f;

        memset(table + n, 'x', 40000);
        (void) snprintf(table + n + 40000, 1000, "\n" ROOT);
        fixture_init(&f, table, NULL);
        fixture_tick(0);
        fixture_answer(&f, "/", 0, 50);
        EXPECT_EQ(f.last.disks.n, 1);
        fixture_done(&f);
}

static void test_disks_without_a_mount_table_says_so(void) {
        Fixture f;

        fixture_init(&f, NULL, NULL);
        fixture_tick(0);
        EXPECT_EQ(f.n, 1);
        EXPECT_EQ(f.last.sight, SIGHT_ABSENT);
        fixture_write(&f, "nonsense\n");
        fixture_tick(SPAN_SEC(10));
        EXPECT_EQ(f.last.sight, SIGHT_FAILED);
        fixture_write(&f, ROOT);
        fixture_round(&f, NULL);
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        fixture_done(&f);
}

static void test_disks_can_be_chosen_without_looking(void) {
        static const char *const ignore[] = { "overlay", "tmpfs", "vfat", NULL };
        static const char *const named[] = { "/tmp", "/data", NULL };
        DisksOptions options = { .ignore_fstypes = ignore };
        DiskMount mounts[DISK_MOUNTS_MAX];
        const DiskMount *seen;
        Fixture f;

        fixture_init(&f,
                ROOT "28 27 259:1 /x /bind rw - xfs /dev/nvme0n1p1 rw\n"
                     "29 27 0:5 / /tmp rw - tmpfs tmpfs rw\n"
                     "33 27 259:3 / /boot/efi rw - vfat /dev/nvme0n1p3 rw\n" DATA SHARE,
                NULL);
        options.root = f.root;
        EXPECT_EQ(disks_choose(&options, mounts), 3);
        fixture_tick(0);
        for (unsigned i = 0; i < 3; i++)
                fixture_answer(&f, mounts[i].path, 0, 50);
        EXPECT_EQ(disks_mounts(f.disks, &seen), 3);
        for (unsigned i = 0; i < 3; i++) {
                EXPECT_STR(mounts[i].path, seen[i].path);
                EXPECT_EQ(mounts[i].used, SHARE_NONE);
        }
        options.mounts = named;
        EXPECT_EQ(disks_choose(&options, mounts), 2);
        EXPECT_STR(mounts[0].path, "/tmp");
        options.root = "/nowhere";
        EXPECT_EQ(disks_choose(&options, mounts), -ENOENT);
        fixture_done(&f);
}

static void test_disks_can_be_freed_while_it_asks(void) {
        Fixture f;

        fixture_init(&f, ROOT, NULL);
        fixture_tick(0);
        EXPECT(f.helper.call);
        fixture_done(&f);
        EXPECT(!disks_free(NULL));
}

TEST_MAIN(TEST(test_mount_line_is_taken_apart),
        TEST(test_mount_line_tells_read_only_by_either_set_of_options),
        TEST(test_mount_line_refuses_what_the_kernel_does_not_write),
        TEST(test_disks_takes_real_mounts_once_each),
        TEST(test_disks_takes_the_mounts_of_the_settings_as_they_are), TEST(test_disks_counts_as_df_does),
        TEST(test_disks_calls_read_only_what_was_writable),
        TEST(test_disks_lets_be_what_is_read_only_by_design),
        TEST(test_disks_knows_the_file_system_of_docker), TEST(test_disks_reports_a_hung_mount_and_goes_on),
        TEST(test_disks_asks_a_hung_mount_again_when_its_question_has_ended),
        TEST(test_disks_leaves_a_helper_for_others),
        TEST(test_disks_does_not_blame_a_mount_for_a_helper_that_is_busy),
        TEST(test_disks_takes_what_is_mounted_on_top), TEST(test_disks_has_a_limit),
        TEST(test_disks_passes_over_a_line_without_end), TEST(test_disks_without_a_mount_table_says_so),
        TEST(test_disks_can_be_chosen_without_looking), TEST(test_disks_can_be_freed_while_it_asks))
