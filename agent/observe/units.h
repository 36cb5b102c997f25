/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * ecs.service and docker.service, over sd-bus, asynchronously and by signals; and who stopped them: stop jobs seen on
 * the bus, and for what lies before our start, in the journal.
 */

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "agent/decide/sample.h"
#include "common/cleanup.h"

typedef struct Units Units;

/**
 * units_new() - watch both units; connects to the bus in the background and again when it goes away
 * @ecs, @docker:  unit names, copied
 * @journal: directory of journal files with file_root() applied, or NULL for the system's
 *
 * Hands over a sample at each change and every 30 s; with a Sight other than clear while the bus or systemd is away.
 */
int units_new(Units **ret, sd_event *event, const char *ecs, const char *docker, const char *journal,
        SampleHandler handler, void *userdata);
Units *units_free(Units *units);
DEFINE_CLEANUP(Units, units_free)

/** units_bus() - the connection, for repair; NULL while there is none. Lent until the loop next runs. */
sd_bus *units_bus(Units *units);
/** units_own_job() - a restart of ecs.service that we asked for ourselves is about to be seen: not an operator's */
void units_own_job(Units *units);
