/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Restart of ecs.service over D-Bus. */

#include <systemd/sd-bus.h>

#include "agent/decide/look.h"
#include "common/cleanup.h"

typedef struct Repair Repair;
typedef void (*RepairDone)(Outcome outcome, const char *detail, void *userdata);

/**
 * repair_start() - RestartUnit(@unit, "replace")
 * @bus: borrowed; NULL: no bus, which is answered from the loop like any other failure
 *
 * OUTCOME_OK: the job was accepted. OUTCOME_DENIED: polkit or D-Bus refused. 10 s at most.
 */
int repair_start(
        Repair **ret, sd_event *event, sd_bus *bus, const char *unit, RepairDone done, void *userdata);
Repair *repair_free(Repair *repair); /* cancels */
DEFINE_CLEANUP(Repair, repair_free)
