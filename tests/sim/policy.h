/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The settings that a simulated host has unless a test says otherwise: those of agent/settings.c. */

#include "agent/decide/policy.h"

static inline Policy policy_standard(void) {
        return (Policy){
                .action = ACTION_DETACH,
                .grace = SPAN_MIN(8),
                .grace_dead = SPAN_MIN(5),
                .drain = true,
                .cooldown = SPAN_HOUR(1),
                .repair = true,
                .repair_wait = SPAN_MIN(3),
                .confirm_before = SPAN_MIN(3),
                .wedged_after = SPAN_MIN(6),
                .silent_after = SPAN_MIN(40),
                .max_sick = 2000,
                .max_actions = { -1, -1 },
                .max_per_day = { -1, -1 },
                .window = SPAN_MIN(30),
                .turn = SPAN_MIN(2),
                .settle = SPAN_MIN(10),
                .boot_grace = SPAN_MIN(10),
                .orphan = ORPHAN_STOP,
                .orphan_after = SPAN_HOUR(1),
                .orphan_deregister = true,
                .patrol = true,
                .patrol_every = SPAN_MIN(5),
                .patrol_after = SPAN_MIN(20),
        };
}
