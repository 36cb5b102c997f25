/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Takes the place of the C library's clock_gettime() in a test program, so that hours pass at once. The
 * kernel's own timers know nothing of it: after a shift the loop must be run with short time-outs. To be
 * included by one file of a program.
 */

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t fake_mono_shift, fake_wall_shift; /* seconds */

int clock_gettime(clockid_t id, struct timespec *ret) {
        int r = (int) syscall(SYS_clock_gettime, id, ret);

        if (r == 0 && id == CLOCK_BOOTTIME)
                ret->tv_sec += fake_mono_shift;
        if (r == 0 && id == CLOCK_REALTIME)
                ret->tv_sec += fake_wall_shift;
        return r;
}

static inline void fake_clock_forward(int64_t seconds) {
        fake_mono_shift += seconds;
        fake_wall_shift += seconds;
}
