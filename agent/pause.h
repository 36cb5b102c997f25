/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The local maintenance switch: a small JSON file in the state directory, written by the commands `pause` and `resume`
 * and watched by the daemon, so that it works whether or not the daemon runs, and survives restarts.
 */

#include "common/clock.h"

#define PAUSE_FILE "/var/lib/ecs-health-agent/pause.json"

typedef struct Pause {
        bool paused;
        Wall since;
        Wall until; /* WALL_NEVER: until resumed */
        char reason[200];
        char by[64]; /* user name */
} Pause;

/**
 * pause_read() - what the file says; no file: not paused
 * @now: a pause that is over counts as none
 *
 * Return: 0; -EBADMSG: it cannot be understood, which counts as paused until resumed; another error: it is there but
 * cannot be read, which counts likewise. @ret is always set.
 */
int pause_read(const char *path, Wall now, Pause *ret);
/** pause_write() - replace the file, making its directory if missing. Return: 0; what the system calls say. */
int pause_write(const char *path, const Pause *pause);
/**
 * pause_clear() - remove the file
 *
 * Where there is none, one of a pause that is over comes and goes: whoever watches it learns that somebody has resumed.
 * Return: 0; what the system calls say.
 */
int pause_clear(const char *path);
