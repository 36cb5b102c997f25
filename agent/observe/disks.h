/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Disks: bytes, inodes, read-only, hung, per real mount. Mounts and their state come from /proc/1/mountinfo (under
 * ProtectSystem=strict our own statvfs() calls everything read-only); sizes from statvfs() in the helper process.
 */

#include "agent/decide/sample.h"
#include "common/helper.h"

typedef struct Disks Disks;

/** What to look at. Texts are copied. */
typedef struct DisksOptions {
        const char *root;                  /* ECS_HEALTH_AGENT_ROOT, or "" */
        const char *const *mounts;         /* paths, ended by NULL; NULL: all real mounts */
        const char *const *ignore_fstypes; /* ended by NULL */
        Span every;
} DisksOptions;

int disks_new(Disks **ret, sd_event *event, Helper *helper, const DisksOptions *options,
        SampleHandler handler, void *userdata);
Disks *disks_free(Disks *disks);
DEFINE_CLEANUP(Disks, disks_free)

/** disks_mounts() - what the last whole round saw; lent until the loop next runs. Return: how many. */
uint32_t disks_mounts(const Disks *disks, const DiskMount **ret);

/**
 * disks_choose() - which mounts a Disks with these options would look at, by one reading of the mount table
 * @ret: sizes are not asked, so all are SHARE_NONE
 *
 * For planning, so the mount table as we see it will do where that of process 1 may not be read.
 * Return: how many; -EBADMSG, -EFBIG; what open() and read() say.
 */
int disks_choose(const DisksOptions *options, DiskMount ret[static DISK_MOUNTS_MAX]);

/** One line of mountinfo, fields unescaped. */
typedef struct DisksMountLine {
        char path[DISK_PATH_MAX];
        char fstype[64];
        char source[DISK_PATH_MAX];
        uint32_t major, minor;
        bool read_only; /* ro or emergency_ro among the mount's or the super block's options */
} DisksMountLine;

/** disks_parse_mount() - the pure part: one line of mountinfo. Return: 0; -EBADMSG; -ENAMETOOLONG. */
int disks_parse_mount(const char *line, size_t n, DisksMountLine *ret);
