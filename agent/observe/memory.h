/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Memory: /proc/meminfo, PSI of /proc/pressure/memory with a kernel trigger, OOM kills of /proc/vmstat. Files stay open
 * and are read again with pread().
 */

#include <systemd/sd-event.h>

#include "agent/decide/sample.h"
#include "common/cleanup.h"

typedef struct Memory Memory;

/** memory_new() - look at once, every @every, and when the trigger fires (at most once in 2 s); @root as in disks.h */
int memory_new(
        Memory **ret, sd_event *event, const char *root, Span every, SampleHandler handler, void *userdata);
Memory *memory_free(Memory *memory);
DEFINE_CLEANUP(Memory, memory_free)

/** memory_psi() - whether PSI was there, and whether the trigger is armed; for status */
bool memory_psi(const Memory *memory, bool *trigger);

/** memory_parse_meminfo() - the pure part. @ret: used, available, swap_used only. Return: 0; -EBADMSG. */
int memory_parse_meminfo(const char *text, size_t n, MemorySample *ret);
/** memory_parse_pressure() - the pure part. @ret: some and full only. Return: 0; -EBADMSG. */
int memory_parse_pressure(const char *text, size_t n, MemorySample *ret);
/** memory_parse_vmstat() - the pure part. @ret: oom_kills only. Return: 0; -EBADMSG if it has no oom_kill. */
int memory_parse_vmstat(const char *text, size_t n, MemorySample *ret);
