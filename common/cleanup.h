/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Scope-bound release of resources, after the fashion of systemd and dbus-broker. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))
#define ELEMENTSOF(array)   (sizeof(array) / sizeof((array)[0]))

/** steal_ptr() - hand a pointer on and forget it, so that its cleanup finds NULL */
#define steal_ptr(ptr)                                                                                      \
        ({                                                                                                  \
                __typeof__(ptr) *_steal_p = &(ptr);                                                         \
                __typeof__(ptr) _steal_v = *_steal_p;                                                       \
                *_steal_p = NULL;                                                                           \
                _steal_v;                                                                                   \
        })

/** DEFINE_CLEANUP() - thing_freep() for _cleanup_() out of a thing_free() that takes NULL */
#define DEFINE_CLEANUP(Type, function)                                                                      \
        static inline void function##p(Type **p) {                                                          \
                if (*p)                                                                                     \
                        (void) function(*p);                                                                \
        }

static inline void freep(void *p) {
        free(*(void **) p);
}

static inline void closep(int *fd) {
        if (*fd >= 0)
                (void) close(*fd);
}

static inline void fclosep(FILE **f) {
        if (*f)
                (void) fclose(*f);
}

/** steal_fd() - hand a file descriptor on and forget it */
static inline int steal_fd(int *fd) {
        int r = *fd;

        *fd = -1;
        return r;
}
