/* SPDX-License-Identifier: Apache-2.0 */

/* One RestartUnit, asked for without waiting; every way to fail is answered from the loop. */

#include "agent/act/repair.h"

#include <assert.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "common/clock.h"

#define REPAIR_SYSTEMD "org.freedesktop.systemd1"
#define REPAIR_TIMEOUT SPAN_SEC(10)

struct Repair {
        sd_bus_slot *slot;
        sd_event_source *failure; /* set instead of slot when nothing could be sent */
        int error;                /* what the sending said */
        RepairDone done;
        void *userdata;
};

/* clang-format off */
static const struct {
        const char *name;
        Outcome outcome;
} repair_errors[] = {
        { SD_BUS_ERROR_ACCESS_DENIED,                    OUTCOME_DENIED },
        { SD_BUS_ERROR_AUTH_FAILED,                      OUTCOME_DENIED },
        { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, OUTCOME_DENIED },
        /* systemd is not there, so nobody has taken the job */
        { SD_BUS_ERROR_SERVICE_UNKNOWN,                  OUTCOME_UNAVAILABLE },
        { SD_BUS_ERROR_NAME_HAS_NO_OWNER,                OUTCOME_UNAVAILABLE },
        /* asked, and no answer: the bus gives NoReply also when the connection ends */
        { SD_BUS_ERROR_NO_REPLY,                         OUTCOME_LOST },
        { SD_BUS_ERROR_TIMEOUT,                          OUTCOME_LOST },
        { SD_BUS_ERROR_DISCONNECTED,                     OUTCOME_LOST },
};
/* clang-format on */

/* What is not in the table came from systemd, which refuses a job by many names: NoSuchUnit, ... */
static Outcome repair_outcome(const sd_bus_error *error) {
        for (size_t i = 0; i < ELEMENTSOF(repair_errors); i++)
                if (sd_bus_error_has_name(error, repair_errors[i].name))
                        return repair_errors[i].outcome;
        return OUTCOME_REFUSED;
}

static int repair_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Repair *repair = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        const char *job = "";

        (void) ret_error;
        if (error) {
                repair->done(repair_outcome(error), error->message ? error->message : error->name,
                        repair->userdata);
                return 0;
        }
        /* The job's path is only for people; the job is accepted without it as well. */
        if (sd_bus_message_read(reply, "o", &job) < 0)
                job = "";
        repair->done(OUTCOME_OK, job, repair->userdata);
        return 0;
}

static int repair_on_failure(sd_event_source *source, void *userdata) {
        Repair *repair = userdata;
        bool denied = repair->error == -EACCES || repair->error == -EPERM;

        (void) source;
        repair->done(denied ? OUTCOME_DENIED : OUTCOME_UNAVAILABLE, strerrordesc_np(-repair->error),
                repair->userdata);
        return 0;
}

static int repair_send(Repair *repair, sd_bus *bus, const char *unit) {
        sd_bus_message *message = NULL;
        int r;

        if (!bus)
                return -ENOTCONN;
        r = sd_bus_message_new_method_call(bus, &message, REPAIR_SYSTEMD, "/org/freedesktop/systemd1",
                REPAIR_SYSTEMD ".Manager", "RestartUnit");
        if (r >= 0)
                r = sd_bus_message_append(message, "ss", unit, "replace");
        if (r >= 0)
                r = sd_bus_call_async(
                        bus, &repair->slot, message, repair_on_reply, repair, (uint64_t) REPAIR_TIMEOUT);
        sd_bus_message_unref(message);
        return r < 0 ? r : 0;
}

int repair_start(
        Repair **ret, sd_event *event, sd_bus *bus, const char *unit, RepairDone done, void *userdata) {
        _cleanup_(repair_freep) Repair *repair = NULL;
        int r;

        assert(done);

        repair = calloc(1, sizeof(*repair));
        if (!repair)
                return -ENOMEM;
        repair->done = done;
        repair->userdata = userdata;
        repair->error = repair_send(repair, bus, unit);
        if (repair->error < 0) {
                r = sd_event_add_defer(event, &repair->failure, repair_on_failure, repair);
                if (r < 0)
                        return r;
                (void) sd_event_source_set_description(repair->failure, "repair-failure");
        }

        *ret = steal_ptr(repair);
        return 0;
}

Repair *repair_free(Repair *repair) {
        if (!repair)
                return NULL;
        sd_bus_slot_unref(repair->slot);
        sd_event_source_disable_unref(repair->failure);
        free(repair);
        return NULL;
}
