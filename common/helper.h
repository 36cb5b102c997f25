/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The one helper process: it is asked what can hang in the kernel or in a library (statvfs() of a dead mount, name
 * resolution with a silent server), with a deadline. Forked early, when the address space is small. A helper that
 * misses a deadline is left behind (a process in D state cannot be killed) and replaced; at most HELPER_STUCK_MAX may
 * be left behind, then every question is answered with -EBUSY until one of them has gone.
 *
 * One question is under way at a time; the others queue (at most HELPER_QUEUE_MAX, then -EBUSY), and a deadline
 * counts from the moment of asking. -ETIMEDOUT means that this very question hung; one whose deadline passed while
 * others were in front of it is answered with -EBUSY, for nothing is known about it.
 */

#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define HELPER_STUCK_MAX     3
#define HELPER_QUEUE_MAX     64
#define HELPER_ADDRESSES_MAX 8
#define HELPER_NAME_MAX      1024 /* longest host name or path, NUL included */

typedef struct Helper Helper;
typedef struct HelperCall HelperCall;

/** What came back. Lent for the length of the callback. */
typedef struct HelperAnswer {
        /* 0; -ETIMEDOUT; -EBUSY; -ENXIO (name unknown); -EAGAIN (resolver or helper failed); -ENOMEM; or what
         * statvfs() says, negative */
        int error;
        char addresses[HELPER_ADDRESSES_MAX][46]; /* numeric, as inet_ntop() writes them */
        unsigned n_addresses;
        struct statvfs file_system;
} HelperAnswer;

typedef void (*HelperDone)(const HelperAnswer *answer, void *userdata);

/** helper_new() - fork the helper. It ends by itself when the daemon is gone. */
int helper_new(Helper **ret, sd_event *event);
Helper *helper_free(Helper *helper);
DEFINE_CLEANUP(Helper, helper_free)

/**
 * helper_resolve() - addresses of @host. The callback is never called from within this function.
 *
 * Return: 0; -EBUSY if too many are waiting; -ENAMETOOLONG; -ENOMEM.
 */
int helper_resolve(
        Helper *helper, const char *host, Span deadline, HelperDone done, void *userdata, HelperCall **ret);
/** helper_statvfs() - state of the file system at @path */
int helper_statvfs(
        Helper *helper, const char *path, Span deadline, HelperDone done, void *userdata, HelperCall **ret);
/** helper_call_free() - free and, if it has not been answered, cancel: its callback is never called */
HelperCall *helper_call_free(HelperCall *call);
DEFINE_CLEANUP(HelperCall, helper_call_free)

/** helper_pid() - the process that answers now; 0 if there is none until the next question */
pid_t helper_pid(const Helper *helper);
/** helper_n_stuck() - helpers left behind that have not gone yet */
unsigned helper_n_stuck(const Helper *helper);
