/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whole small files. Paths of the daemon pass through file_root() first. */

#include <stdbool.h>
#include <stddef.h>

/**
 * file_root() - put @path below $ECS_HEALTH_AGENT_ROOT if that is set
 * @ret: owned by the caller; "/a//b" and "a" become "ROOT/a/b" and "ROOT/a"
 *
 * Return: 0; -ENOMEM; -ENAMETOOLONG.
 */
int file_root(const char *path, char **ret);

/**
 * file_read() - the whole of a small file
 * @max:   more bytes than this are refused
 * @ret:   owned by the caller; NUL-terminated for convenience
 * @ret_n: without the NUL; may be NULL
 *
 * Works for files of /proc, whose size is said to be 0. Opens with O_NONBLOCK and O_CLOEXEC.
 * Return: 0; -E2BIG; -ENOMEM; -EISDIR; what open() and read() say.
 */
int file_read(const char *path, size_t max, char **ret, size_t *ret_n);

/**
 * file_write_atomic() - replace @path by @n bytes at @text, or leave it as it was
 * @mode: permission bits of the new file
 *
 * Writes a neighbour called "PATH.new" and renames it. With @sync also fsync()s file and directory.
 * Return: 0; what the system calls say.
 */
int file_write_atomic(const char *path, const char *text, size_t n, unsigned mode, bool sync);

/** file_mkdir() - make @path and what is missing above it. Return: 0, also if it was there; -ENOTDIR; ... */
int file_mkdir(const char *path, unsigned mode);
