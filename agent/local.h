/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the planning commands (iam-policy, metrics) go by: the settings of this host and, where the daemon runs, what it
 * knows of itself. Nothing is asked of AWS.
 */

#include "agent/decide/sample.h"
#include "agent/settings.h"

/** Texts are "" where they are not known. */
typedef struct Local {
        Settings settings;
        char cluster[256]; /* the daemon's word, else that of the settings, else of the ECS agent's */
        char group[256];   /* the daemon's word, as .arn; "" also for none */
        char arn[256];     /* of the container instance */
        char stack[256];   /* its name, as set or as the daemon has kept it */
        DiskMount mounts[DISK_MOUNTS_MAX]; /* that are watched */
        uint32_t n_mounts;
        bool measured; /* .mounts are the daemon's: what is SHARE_NONE there publishes nothing */
} Local;

/** local_read() - says on standard error what is wrong. Return: an exit status. */
int local_read(Local *ret);
/** local_take_status() - the pure part: what the daemon's status document tells. What is not there leaves @local as it is. */
void local_take_status(Local *local, const cJSON *status);
