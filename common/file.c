/* SPDX-License-Identifier: Apache-2.0 */

/* Whole small files: read them with a bound, replace them atomically. */

#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"

int file_root(const char *path, char **ret) {
        const char *root = getenv("ECS_HEALTH_AGENT_ROOT");
        _cleanup_(freep) char *joined = NULL;
        size_t n;

        if (!root || !*root) {
                joined = strdup(path);
                if (!joined)
                        return -ENOMEM;
                *ret = steal_ptr(joined);
                return 0;
        }

        n = strlen(root);
        if (n + 1 + strlen(path) >= PATH_MAX)
                return -ENAMETOOLONG;
        joined = malloc(n + 1 + strlen(path) + 1);
        if (!joined)
                return -ENOMEM;
        memcpy(joined, root, n);
        while (n > 0 && joined[n - 1] == '/')
                n--;
        while (*path) {
                path += strspn(path, "/");
                if (!*path)
                        break;
                joined[n++] = '/';
                while (*path && *path != '/')
                        joined[n++] = *path++;
        }
        if (n == 0)
                joined[n++] = '/';
        joined[n] = '\0';

        *ret = steal_ptr(joined);
        return 0;
}

/* read() until the end or until @size bytes are there */
static int read_up_to(int fd, char *buffer, size_t size, size_t *n) {
        while (*n < size) {
                ssize_t got = read(fd, buffer + *n, size - *n);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        return 0;
                *n += (size_t) got;
        }
        return 0;
}

int file_read(const char *path, size_t max, char **ret, size_t *ret_n) {
        _cleanup_(closep) int fd = -1;
        _cleanup_(freep) char *text = NULL;
        struct stat st = {};
        size_t size, n = 0;
        int r;

        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (max >= SSIZE_MAX)
                max = SSIZE_MAX - 1;
        if (S_ISREG(st.st_mode) && (uintmax_t) st.st_size > max)
                return -E2BIG;

        /* One byte more than the file has: its end is then seen without growing. */
        size = st.st_size > 0 ? (size_t) st.st_size + 1 : 4096;
        for (;;) {
                char *grown;

                if (size > max + 1)
                        size = max + 1;
                grown = realloc(text, size + 1);
                if (!grown)
                        return -ENOMEM;
                text = grown;
                r = read_up_to(fd, text, size, &n);
                if (r < 0)
                        return r;
                if (n < size)
                        break;
                if (n > max)
                        return -E2BIG;
                size *= 2;
        }
        text[n] = '\0';

        *ret = steal_ptr(text);
        if (ret_n)
                *ret_n = n;
        return 0;
}

static int write_all(int fd, const char *text, size_t n) {
        while (n > 0) {
                ssize_t put = write(fd, text, n);

                if (put < 0 && errno == EINTR)
                        continue;
                if (put < 0)
                        return -errno;
                text += put;
                n -= (size_t) put;
        }
        return 0;
}

static int write_new(const char *path, const char *text, size_t n, unsigned mode, bool sync) {
        _cleanup_(closep) int fd = -1;
        int r;

        /* What a crash left behind may have another owner or mode, or be a link. */
        if (unlink(path) < 0 && errno != ENOENT)
                return -errno;
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        r = write_all(fd, text, n);
        if (r < 0)
                return r;
        if (fchmod(fd, mode) < 0)
                return -errno;
        if (sync && fsync(fd) < 0)
                return -errno;
        /* NFS and quotas may report a failed write no earlier than here. */
        if (close(steal_fd(&fd)) < 0)
                return -errno;
        return 0;
}

static int sync_directory_of(const char *path) {
        _cleanup_(freep) char *directory = NULL;
        _cleanup_(closep) int fd = -1;
        const char *slash = strrchr(path, '/');

        directory = slash ? strndup(path, slash == path ? 1 : (size_t) (slash - path)) : strdup(".");
        if (!directory)
                return -ENOMEM;
        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
                return -errno;
        return 0;
}

int file_write_atomic(const char *path, const char *text, size_t n, unsigned mode, bool sync) {
        _cleanup_(freep) char *neighbour = NULL;
        int r;

        if (asprintf(&neighbour, "%s.new", path) < 0) {
                neighbour = NULL; /* asprintf() leaves it undefined */
                return -ENOMEM;
        }
        r = write_new(neighbour, text, n, mode, sync);
        if (r >= 0 && rename(neighbour, path) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlink(neighbour);
                return r;
        }
        return sync ? sync_directory_of(path) : 0;
}

int file_mkdir(const char *path, unsigned mode) {
        _cleanup_(freep) char *prefix = strdup(path);
        struct stat st = {};

        if (!prefix)
                return -ENOMEM;
        for (char *slash = prefix; *slash;) {
                char kept;

                slash += strspn(slash, "/");
                slash += strcspn(slash, "/");
                kept = *slash;
                *slash = '\0';
                if (mkdir(prefix, mode) < 0 && errno != EEXIST)
                        return -errno;
                *slash = kept;
        }
        if (stat(path, &st) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}
