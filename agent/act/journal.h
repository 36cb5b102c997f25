/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The journal: the core's Record, written before each step of the path, to memory-backed /run first and then
 * to disk. Read at the start: the newer of the two that is whole counts. A record of another instance (a
 * baked image, a copied disk) is not ours and is ignored. Also what else must outlive the process: who we
 * were, and whether introspection has answered in this boot.
 *
 * Format: lines of "key value", the first naming the version, the last a SHA-256 of all before it. Written
 * to a neighbour and renamed, so that a reader finds the old or the new one.
 */

#include <stddef.h>

#include "agent/act/target.h"
#include "agent/decide/core.h"
#include "common/cleanup.h"

/** What a journal holds beside the record. */
typedef struct JournalEntry {
        Record record;
        Target target;           /* cluster, arn, instance_id, group as last known */
        char boot_id[64];        /* of the boot in which it was written */
        bool answered_this_boot; /* introspection has answered in that boot */
        uint64_t sequence;       /* counts writes */
} JournalEntry;

typedef struct Journal Journal;

/** journal_new() - @run and @state: directories with file_root() applied, made if missing; copied */
int journal_new(Journal **ret, const char *run, const char *state);
Journal *journal_free(Journal *journal);
DEFINE_CLEANUP(Journal, journal_free)

/**
 * journal_read() - the newest whole entry
 * @instance_id: entries of another instance are ignored; NULL: any
 *
 * Return: 0; -ENOENT: none; positive JOURNAL_E_CORRUPT: files were there but none was whole.
 */
#define JOURNAL_E_CORRUPT 1
int journal_read(Journal *journal, const char *instance_id, JournalEntry *ret);

/**
 * journal_write() - make @entry durable; sets its sequence
 * @ret_disk: what the write to disk said (0, -ENOSPC, -EROFS, ...), which is not an error while /run has it; may be NULL
 *
 * Return: 0 if /run or the disk has it; else what /run said.
 */
int journal_write(Journal *journal, JournalEntry *entry, int *ret_disk);

/*
 * The pure parts, for tests and fuzzing. A key that is not known is a later version's and ignored; one that
 * is missing is 0 or "". Refused: another version, a wrong hash, a number out of range, a key twice.
 * journal_format(): 0; -E2BIG; -EINVAL for a number out of range; -EIO. journal_parse(): 0; -EBADMSG; -EIO.
 */
#define JOURNAL_TEXT_MAX 8192
int journal_format(const JournalEntry *entry, char *buffer, size_t n_buffer, size_t *ret_n);
int journal_parse(const char *text, size_t n, JournalEntry *ret);
