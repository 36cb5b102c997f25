/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The publisher's memory on disk: data that could not be sent, one a line, oldest first. Two files, PATH.old
 * and PATH, so that room is made by dropping the older one whole, never by rewriting. At most
 * SPOOL_BYTES_MAX in all.
 *
 * Each file begins with a line that says how far it has been taken and of which instance its data are. What
 * is taken is marked before it is handed over: a crash in between loses at most one batch and never sends
 * one twice. Nothing is synced, so after a power failure the last seconds of marking may be forgotten.
 *
 * A line that a crash has cut short is overwritten; one that cannot be read is skipped and counted. Line:
 * start of the period in seconds, metric, "g" or "i" (group or instance), brake or "-", count, min, max,
 * sum, path or "-".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/act/metrics.h"

#define SPOOL_BYTES_MAX ((size_t) 8 * 1024 * 1024)
#define SPOOL_LINE_MAX  1024

/** A datum with its mount by name. The mount's index means nothing here. */
typedef struct SpoolItem {
        Datum datum;
        const char *path; /* printable ASCII, begins with '/', shorter than DISK_PATH_MAX; NULL: none */
} SpoolItem;

typedef struct Spool Spool;

/** @item and its path are lent */
typedef void (*SpoolHandler)(const SpoolItem *item, void *userdata);

/**
 * spool_new() - look at what is there; a file that is none of ours, or is missing, holds nothing
 * @path: copied
 *
 * Return: 0; -ENOMEM.
 */
int spool_new(Spool **ret, const char *path);
Spool *spool_free(Spool *spool);
DEFINE_CLEANUP(Spool, spool_free)

/** spool_own() - the instance that we are: what another one left (a copied disk) is dropped */
void spool_own(Spool *spool, const char *instance_id);

/**
 * spool_append() - add @n items, making room by dropping the oldest
 * @ret_stored: how many of them, from the first on, are stored; set in any case
 *
 * Return: 0; what the system calls say (-ENOSPC, -EROFS, ...) about the first one that is not.
 */
int spool_append(Spool *spool, const SpoolItem *items, size_t n, size_t *ret_stored);

/**
 * spool_take() - take up to @max of the oldest items out and hand them over, from within this function
 *
 * Return: 0, also when nothing was there; else nothing is taken: -ENOMEM; what the system calls say (-EROFS:
 * what cannot be marked is not handed over).
 */
int spool_take(Spool *spool, size_t max, SpoolHandler handler, void *userdata);

/** spool_waiting() - lines that have not been taken */
size_t spool_waiting(const Spool *spool);
/** spool_take_lost() - lines dropped or unreadable since the last call */
uint64_t spool_take_lost(Spool *spool);

/* The pure parts, for tests and fuzzing. */

/** spool_format() - one line, '\n' included. Return: 0; -E2BIG. */
int spool_format(const SpoolItem *item, char buffer[static SPOOL_LINE_MAX], size_t *ret_n);
/**
 * spool_parse() - one line, without its '\n'
 * @path: holds the path of @ret
 *
 * Values beyond the metric's range, and sums that cannot be, are refused. Return: 0; -EBADMSG.
 */
int spool_parse(const char *line, size_t n, char path[static DISK_PATH_MAX], SpoolItem *ret);
