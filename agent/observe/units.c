/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Units: what systemd says of them, and the last word of a job: start or stop.
 *
 * Everything is asked anew whenever systemd appears on the bus, and then kept up by its signals. Only what
 * the owner of systemd's name sends is believed: anybody may send a signal straight to us.
 *
 * Intent. A stop job that no start follows means that somebody stopped it; a restart ends in a start. A unit
 * that went down while we watched, and without a stop job, was not stopped. For one that we found down, or
 * for a job that was gone before its type could be read, the journal of this boot is asked; where that knows
 * nothing, nothing is known.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <systemd/sd-id128.h>
#include <systemd/sd-journal.h>

#include "agent/observe/units.h"
#include "common/backoff.h"
#include "common/loop.h"

#define UNITS_SYSTEMD      "org.freedesktop.systemd1"
#define UNITS_MANAGER_PATH "/org/freedesktop/systemd1"
#define UNITS_MANAGER      UNITS_SYSTEMD ".Manager"
#define UNITS_PROPERTIES   "org.freedesktop.DBus.Properties"
#define UNITS_BUS          "unix:path=/run/dbus/system_bus_socket"

#define UNITS_ANSWER_USEC   UINT64_C(10000000) /* a method call is given up after that */
#define UNITS_SAMPLE_EVERY  SPAN_SEC(30)
#define UNITS_JOURNAL_TRIES 3 /* the record may come later than the signal, or never */
#define UNITS_SLOTS_MAX     16

static const Backoff units_backoff = { .base = SPAN_SEC(1), .ceiling = SPAN_MIN(1) };

/* What the last job meant, as far as it was seen on this connection. */
typedef enum UnitsWord {
        UNITS_WORD_NONE,  /* there was no job */
        UNITS_WORD_START, /* restarts included */
        UNITS_WORD_STOP,
        UNITS_WORD_LOST, /* there was one, but its type could not be read */
} UnitsWord;

typedef struct UnitsUnit {
        Units *units;
        char *name;
        char *path;
        sd_bus_slot *unit_call, *service_call, *job_call;
        bool unit_read, service_read; /* both have been answered since systemd appeared */

        bool exists, disabled;
        UnitState state;
        int32_t main_code, main_status;
        uint32_t restarts;
        uint32_t job; /* queued or running; 0: none */
        UnitsWord word;
        uint32_t asked_job; /* whose type was asked last */
        uint32_t lost_job;  /* of UNITS_WORD_LOST */
        bool was_up;        /* since systemd appeared */
        Intent journal;     /* what the journal said */
        unsigned journal_tries;
} UnitsUnit;

struct Units {
        sd_event *event;
        Timer *tick, *retry;
        unsigned attempt;
        SampleHandler handler;
        void *userdata;
        char *journal;

        sd_bus *bus;
        bool gone; /* it has been cut, and waits for the retry timer to be freed */
        sd_bus_slot *slots[UNITS_SLOTS_MAX];
        unsigned n_slots;
        char owner[256]; /* unique name of systemd; "": it is away */
        Sight sight;
        bool own_job;

        UnitsUnit ecs, docker;
        Sample last;
        bool handed_over;
};

/* Intent. */

/* What the newest entry about @name says, or of its job @job alone if that is not 0. */
static Intent units_ask_journal(const char *directory, const char *name, uint32_t job) {
        sd_journal *journal = NULL;
        Intent intent = INTENT_UNKNOWN;
        char boot[SD_ID128_STRING_MAX], match[512];
        const char *const fixed[] = { "_PID=1", "JOB_TYPE=start", "JOB_TYPE=stop", "JOB_TYPE=restart" };
        sd_id128_t id;
        const void *data;
        size_t n;
        int r;

        r = directory ? sd_journal_open_directory(&journal, directory, 0)
                      : sd_journal_open(&journal, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM);
        if (r < 0)
                return INTENT_UNKNOWN;
        r = sd_id128_get_boot(&id);
        if (r >= 0) {
                (void) snprintf(match, sizeof(match), "_BOOT_ID=%s", sd_id128_to_string(id, boot));
                r = sd_journal_add_match(journal, match, 0);
        }
        /* Matches of one field are alternatives, so the newest entry is the last word. */
        for (size_t i = 0; i < ELEMENTSOF(fixed) && r >= 0; i++)
                r = sd_journal_add_match(journal, fixed[i], 0);
        (void) snprintf(match, sizeof(match), "UNIT=%s", name);
        if (r >= 0)
                r = sd_journal_add_match(journal, match, 0);
        (void) snprintf(match, sizeof(match), "JOB_ID=%" PRIu32, job);
        if (r >= 0 && job != 0)
                r = sd_journal_add_match(journal, match, 0);
        if (r >= 0)
                r = sd_journal_seek_tail(journal);
        if (r >= 0)
                r = sd_journal_previous(journal);
        if (r > 0 && sd_journal_get_data(journal, "JOB_TYPE", &data, &n) >= 0)
                intent = n == 13 && memcmp(data, "JOB_TYPE=stop", n) == 0 ? INTENT_STOPPED : INTENT_NONE;
        sd_journal_close(journal);
        return intent;
}

static bool units_is_down(const UnitsUnit *unit) {
        return unit->state == UNIT_INACTIVE || unit->state == UNIT_FAILED;
}

static bool units_needs_journal(const UnitsUnit *unit) {
        if (!units_is_down(unit) || unit->disabled || unit->job_call)
                return false;
        return unit->word == UNITS_WORD_LOST || (unit->word == UNITS_WORD_NONE && !unit->was_up);
}

static void units_read_journal(UnitsUnit *unit) {
        uint32_t job = unit->word == UNITS_WORD_LOST ? unit->lost_job : 0;

        unit->journal_tries++;
        unit->journal = units_ask_journal(unit->units->journal, unit->name, job);
}

static Intent units_intent(const UnitsUnit *unit) {
        if (unit->disabled)
                return INTENT_DISABLED;
        if (unit->word == UNITS_WORD_STOP)
                return INTENT_STOPPED;
        if (unit->state == UNIT_UNKNOWN)
                return INTENT_UNKNOWN;
        if (unit->state == UNIT_ACTIVE || unit->state == UNIT_ACTIVATING)
                return INTENT_NONE;
        if (unit->job_call)
                return INTENT_UNKNOWN; /* the answer is on its way */
        if (units_needs_journal(unit))
                return unit->journal;
        return unit->word == UNITS_WORD_LOST ? INTENT_UNKNOWN : INTENT_NONE;
}

/* Handing over. */

static UnitSample units_sum_up(const UnitsUnit *unit) {
        bool exited = unit->main_code == 1; /* CLD_EXITED; 0 while it runs */

        return (UnitSample){
                .exists = unit->exists,
                .state = unit->state,
                .intent = units_intent(unit),
                .job_running = unit->job != 0,
                .exit_status = exited && unit->state != UNIT_ACTIVE ? unit->main_status : -1,
                .restarts = unit->restarts,
        };
}

static bool units_is_equal(const UnitSample *a, const UnitSample *b) {
        return a->exists == b->exists && a->state == b->state && a->intent == b->intent &&
               a->job_running == b->job_running && a->exit_status == b->exit_status &&
               a->restarts == b->restarts;
}

/*
 * Hands over what is new, or anything if @always. The last thing that a caller does: the handler may free
 * us.
 */
static void units_hand_over(Units *units, bool always) {
        UnitsUnit *both[] = { &units->ecs, &units->docker };
        Sample sample = { .witness = WITNESS_UNITS, .sight = units->sight };

        if (sample.sight == SIGHT_CLEAR) {
                for (size_t i = 0; i < ELEMENTSOF(both); i++) {
                        UnitsUnit *unit = both[i];

                        if (!unit->unit_read || !unit->service_read)
                                return; /* still coming */
                        if (units_needs_journal(unit) && unit->journal_tries == 0)
                                units_read_journal(unit);
                }
                sample.units.ecs = units_sum_up(&units->ecs);
                sample.units.docker = units_sum_up(&units->docker);
        } else if (sample.sight == SIGHT_NONE)
                return;
        if (!always && units->handed_over && sample.sight == units->last.sight &&
                units_is_equal(&sample.units.ecs, &units->last.units.ecs) &&
                units_is_equal(&sample.units.docker, &units->last.units.docker))
                return;
        units->last = sample;
        units->handed_over = true;
        units->handler(&sample, units->userdata);
}

static Sight units_sight(int error) {
        switch (error < 0 ? -error : error) {
        case ENOENT:
        case ECONNREFUSED:
        case ECONNRESET:
        case ENXIO: /* NameHasNoOwner */
        case EHOSTUNREACH: /* ServiceUnknown */ return SIGHT_ABSENT;
        case EACCES:
        case EPERM: return SIGHT_DENIED;
        default: return SIGHT_FAILED;
        }
}

static void units_blind(Units *units, int error) {
        units->sight = units_sight(error);
        units_hand_over(units, false);
}

/* Losing the connection. */

static void units_retry_later(Units *units) {
        Span delay = backoff_next(&units_backoff, units->attempt++, loop_random());

        (void) timer_arm(units->retry, mono_add(loop_now(units->event).mono, delay));
}

/* Gives the connection up. It is freed by the timer, for this is called from within it. */
static void units_cut(Units *units, int error) {
        if (units->gone)
                return;
        units->gone = true;
        units->owner[0] = '\0';
        units_retry_later(units);
        units_blind(units, error);
}

/* Jobs. */

static void units_lose_job(UnitsUnit *unit) {
        unit->word = UNITS_WORD_LOST;
        unit->lost_job = unit->asked_job;
        unit->journal = INTENT_UNKNOWN;
        unit->journal_tries = 0;
}

static int units_on_job_type(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        UnitsUnit *unit = userdata;
        const char *type = "";

        (void) error;
        unit->job_call = sd_bus_slot_unref(unit->job_call);
        if (sd_bus_message_is_method_error(message, NULL) ||
                sd_bus_message_read(message, "v", "s", &type) < 0) {
                if (unit == &unit->units->ecs && unit->units->own_job)
                        unit->word = UNITS_WORD_START;
                else
                        units_lose_job(unit);
        } else if (strcmp(type, "stop") == 0)
                unit->word = UNITS_WORD_STOP;
        else if (strcmp(type, "start") == 0 || strcmp(type, "restart") == 0)
                unit->word = UNITS_WORD_START;
        /* What else there is (verify-active, reload, nop, try-restart of what is down) changes nothing. */
        if (unit == &unit->units->ecs && unit->job == 0)
                unit->units->own_job = false;
        units_hand_over(unit->units, false);
        return 0;
}

static void units_take_job(UnitsUnit *unit, uint32_t job, const char *path) {
        if (job == 0 || job == unit->job) {
                unit->job = job;
                return;
        }
        unit->job = job;
        if (unit->job_call) {
                /* The one before it will never be known. */
                units_lose_job(unit);
                unit->job_call = sd_bus_slot_unref(unit->job_call);
        }
        unit->asked_job = job;
        if (sd_bus_call_method_async(unit->units->bus, &unit->job_call, UNITS_SYSTEMD, path,
                    UNITS_PROPERTIES, "Get", units_on_job_type, unit, "ss", UNITS_SYSTEMD ".Job",
                    "JobType") < 0)
                units_lose_job(unit);
}

/* Properties. */

typedef struct UnitsProperties {
        const char *active_state, *load_state, *file_state; /* NULL: not among them; lent by the message */
        bool has_job;
        uint32_t job;
        const char *job_path;
        int32_t main_code, main_status;
        uint32_t restarts;
} UnitsProperties;

static int units_read_property(sd_bus_message *message, const char *name, UnitsProperties *properties) {
        const struct {
                const char *name, *type;
                void *value;
        } fields[] = {
                { "ActiveState", "s", &properties->active_state },
                { "LoadState", "s", &properties->load_state },
                { "UnitFileState", "s", &properties->file_state },
                { "ExecMainCode", "i", &properties->main_code },
                { "ExecMainStatus", "i", &properties->main_status },
                { "NRestarts", "u", &properties->restarts },
        };
        const char *type = "";
        int r;

        r = sd_bus_message_peek_type(message, NULL, &type);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(fields); i++)
                if (strcmp(fields[i].name, name) == 0 && strcmp(fields[i].type, type) == 0)
                        return sd_bus_message_read(message, "v", type, fields[i].value);
        if (strcmp(name, "Job") == 0 && strcmp(type, "(uo)") == 0) {
                properties->has_job = true;
                return sd_bus_message_read(message, "v", type, &properties->job, &properties->job_path);
        }
        return sd_bus_message_skip(message, "v");
}

/* What is not among them stays as it is in @properties. */
static int units_read_properties(sd_bus_message *message, UnitsProperties *properties) {
        int r;

        r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
                const char *name;

                r = sd_bus_message_read(message, "s", &name);
                if (r >= 0)
                        r = units_read_property(message, name, properties);
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

static UnitState units_state(const char *text) {
        static const struct {
                const char *text;
                UnitState state;
        } states[] = {
                { "active", UNIT_ACTIVE },
                { "reloading", UNIT_ACTIVE },
                { "refreshing", UNIT_ACTIVE },
                { "activating", UNIT_ACTIVATING },
                { "deactivating", UNIT_DEACTIVATING },
                { "inactive", UNIT_INACTIVE },
                { "failed", UNIT_FAILED },
        };

        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                if (strcmp(states[i].text, text) == 0)
                        return states[i].state;
        return UNIT_UNKNOWN;
}

static void units_take_state(UnitsUnit *unit, UnitState state) {
        unit->state = state;
        if (units_is_down(unit) || state == UNIT_UNKNOWN)
                return;
        unit->was_up = true;
        unit->journal = INTENT_UNKNOWN;
        unit->journal_tries = 0;
}

static int units_take_properties(UnitsUnit *unit, sd_bus_message *message) {
        UnitsProperties properties = {
                .main_code = unit->main_code,
                .main_status = unit->main_status,
                .restarts = unit->restarts,
        };
        int r;

        r = units_read_properties(message, &properties);
        if (r < 0)
                return r;
        unit->main_code = properties.main_code;
        unit->main_status = properties.main_status;
        unit->restarts = properties.restarts;
        if (properties.load_state)
                unit->exists = strcmp(properties.load_state, "not-found") != 0 &&
                               strcmp(properties.load_state, "stub") != 0;
        if (properties.file_state)
                unit->disabled = strcmp(properties.file_state, "disabled") == 0 ||
                                 strncmp(properties.file_state, "masked", 6) == 0;
        if (properties.has_job)
                units_take_job(unit, properties.job, properties.job_path);
        if (properties.active_state)
                units_take_state(unit, units_state(properties.active_state));
        /* Whatever the last job was, in the end it runs: a stop was called off, or a start came after it. */
        if (unit->state == UNIT_ACTIVE && unit->job == 0 && !unit->job_call && unit->word != UNITS_WORD_NONE)
                unit->word = UNITS_WORD_START;
        return 0;
}

static int units_on_unit(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        UnitsUnit *unit = userdata;
        int r;

        (void) error;
        unit->unit_call = sd_bus_slot_unref(unit->unit_call);
        r = -sd_bus_message_get_errno(message);
        if (r >= 0)
                r = units_take_properties(unit, message);
        if (r < 0) {
                units_blind(unit->units, r);
                return 0;
        }
        unit->unit_read = true;
        unit->units->attempt = 0;
        if (unit->units->ecs.unit_read && unit->units->docker.unit_read)
                unit->units->sight = SIGHT_CLEAR;
        units_hand_over(unit->units, false);
        return 0;
}

/* An error is an answer too: a unit that is not a service has no exit status. */
static int units_on_service(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        UnitsUnit *unit = userdata;

        (void) error;
        unit->service_call = sd_bus_slot_unref(unit->service_call);
        if (!sd_bus_message_is_method_error(message, NULL))
                (void) units_take_properties(unit, message);
        unit->service_read = true;
        units_hand_over(unit->units, false);
        return 0;
}

static int units_fetch(UnitsUnit *unit) {
        sd_bus *bus = unit->units->bus;
        int r;

        unit->unit_call = sd_bus_slot_unref(unit->unit_call);
        unit->service_call = sd_bus_slot_unref(unit->service_call);
        r = sd_bus_call_method_async(bus, &unit->unit_call, UNITS_SYSTEMD, unit->path, UNITS_PROPERTIES,
                "GetAll", units_on_unit, unit, "s", UNITS_SYSTEMD ".Unit");
        if (r < 0)
                return r;
        return sd_bus_call_method_async(bus, &unit->service_call, UNITS_SYSTEMD, unit->path,
                UNITS_PROPERTIES, "GetAll", units_on_service, unit, "s", UNITS_SYSTEMD ".Service");
}

static void units_fetch_all(Units *units) {
        int r;

        r = units_fetch(&units->ecs);
        if (r >= 0)
                r = units_fetch(&units->docker);
        if (r < 0)
                units_blind(units, r);
}

/* Signals. */

static bool units_is_systemd(const Units *units, sd_bus_message *message) {
        const char *sender = sd_bus_message_get_sender(message);

        return units->owner[0] != '\0' && sender && strcmp(sender, units->owner) == 0;
}

static int units_on_changed(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        UnitsUnit *unit = userdata;
        const char *interface;

        (void) error;
        if (!units_is_systemd(unit->units, message) || sd_bus_message_read(message, "s", &interface) < 0)
                return 0;
        if (units_take_properties(unit, message) >= 0)
                units_hand_over(unit->units, false);
        return 0;
}

/* JobNew (u id, o job, s unit) and JobRemoved (the same, and s result), among everything else that comes. */
static int units_on_message(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Units *units = userdata;
        bool is_new = sd_bus_message_is_signal(message, UNITS_MANAGER, "JobNew");
        const char *path, *name;
        UnitsUnit *unit;
        uint32_t job;

        (void) error;
        if ((!is_new && !sd_bus_message_is_signal(message, UNITS_MANAGER, "JobRemoved")) ||
                !units_is_systemd(units, message) ||
                sd_bus_message_read(message, "uos", &job, &path, &name) < 0)
                return 0;
        if (strcmp(name, units->ecs.name) == 0)
                unit = &units->ecs;
        else if (strcmp(name, units->docker.name) == 0)
                unit = &units->docker;
        else
                return 0;
        if (is_new)
                units_take_job(unit, job, path);
        else if (job == unit->job) {
                unit->job = 0;
                if (unit == &units->ecs && !unit->job_call)
                        units->own_job = false;
        }
        units_hand_over(units, false);
        return 0;
}

/* systemd sends nothing when a unit is enabled, disabled or masked, but this. */
static int units_on_files(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Units *units = userdata;
        int active = 0;

        (void) error;
        if (!units_is_systemd(units, message))
                return 0;
        if (sd_bus_message_is_signal(message, UNITS_MANAGER, "Reloading") &&
                (sd_bus_message_read(message, "b", &active) < 0 || active))
                return 0;
        units_fetch_all(units);
        return 0;
}

static void units_forget(UnitsUnit *unit) {
        unit->unit_call = sd_bus_slot_unref(unit->unit_call);
        unit->service_call = sd_bus_slot_unref(unit->service_call);
        unit->job_call = sd_bus_slot_unref(unit->job_call);
        *unit = (UnitsUnit){ .units = unit->units, .name = unit->name, .path = unit->path };
}

/* systemd is there, or has gone: nothing that was known before holds. */
static void units_take_owner(Units *units, const char *owner) {
        units_forget(&units->ecs);
        units_forget(&units->docker);
        (void) snprintf(units->owner, sizeof(units->owner), "%s", owner);
        if (owner[0] == '\0') {
                units_blind(units, -ENXIO);
                return;
        }
        /* Its answer does not matter: without the right to subscribe there would be none to look either. */
        (void) sd_bus_call_method_async(units->bus, NULL, UNITS_SYSTEMD, UNITS_MANAGER_PATH, UNITS_MANAGER,
                "Subscribe", NULL, NULL, NULL);
        units_fetch_all(units);
}

static int units_on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *name, *before, *after;

        (void) error;
        if (sd_bus_message_read(message, "sss", &name, &before, &after) >= 0 &&
                strcmp(name, UNITS_SYSTEMD) == 0)
                units_take_owner(userdata, after);
        return 0;
}

static int units_on_owner(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Units *units = userdata;
        const char *owner = "";

        (void) error;
        if (sd_bus_message_is_method_error(message, "org.freedesktop.DBus.Error.NameHasNoOwner"))
                units_blind(units, -ENXIO); /* until it comes */
        else if (sd_bus_message_is_method_error(message, NULL))
                units_cut(units, sd_bus_message_get_errno(message));
        else if (sd_bus_message_read(message, "s", &owner) >= 0)
                units_take_owner(units, owner);
        return 0;
}

static int units_on_disconnected(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        (void) message;
        (void) error;
        units_cut(userdata, -ECONNRESET);
        return 0;
}

/* The connection. */

static void units_disconnect(Units *units) {
        units_forget(&units->ecs);
        units_forget(&units->docker);
        while (units->n_slots > 0)
                sd_bus_slot_unref(units->slots[--units->n_slots]);
        units->bus = sd_bus_close_unref(units->bus);
        units->owner[0] = '\0';
        units->gone = false;
}

typedef struct UnitsMatch {
        const char *rule;
        sd_bus_message_handler_t handler;
        void *userdata;
} UnitsMatch;

static int units_match(Units *units, const UnitsMatch *match) {
        int r;

        assert(units->n_slots < UNITS_SLOTS_MAX);
        r = sd_bus_add_match_async(units->bus, &units->slots[units->n_slots], match->rule, match->handler,
                NULL, match->userdata);
        if (r < 0)
                return r;
        units->n_slots++;
        return 0;
}

static int units_match_unit(UnitsUnit *unit) {
        char rule[1024];
        int r;

        (void) snprintf(rule, sizeof(rule),
                "type='signal',sender='" UNITS_SYSTEMD "',path='%s',interface='" UNITS_PROPERTIES
                "',member='PropertiesChanged'",
                unit->path);
        r = units_match(unit->units, &(UnitsMatch){ rule, units_on_changed, unit });
        if (r < 0)
                return r;
        /*
         * The jobs of all other units need not wake us, but sd-bus itself cannot match an argument behind
         * one that is no text. So only the bus is told, and the rest is a filter.
         */
        (void) snprintf(rule, sizeof(rule),
                "type='signal',sender='" UNITS_SYSTEMD "',path='" UNITS_MANAGER_PATH
                "',interface='" UNITS_MANAGER "',arg2='%s'",
                unit->name);
        return sd_bus_call_method_async(unit->units->bus, NULL, "org.freedesktop.DBus",
                "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", NULL, NULL, "s", rule);
}

static int units_match_all(Units *units) {
        const UnitsMatch matches[] = {
                { "type='signal',sender='org.freedesktop.DBus.Local',path='/org/freedesktop/DBus/Local',"
                  "interface='org.freedesktop.DBus.Local',member='Disconnected'",
                        units_on_disconnected, units },
                { "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                  "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" UNITS_SYSTEMD "'",
                        units_on_owner_changed, units },
                { "type='signal',sender='" UNITS_SYSTEMD "',path='" UNITS_MANAGER_PATH
                  "',interface='" UNITS_MANAGER "',member='UnitFilesChanged'",
                        units_on_files, units },
                { "type='signal',sender='" UNITS_SYSTEMD "',path='" UNITS_MANAGER_PATH
                  "',interface='" UNITS_MANAGER "',member='Reloading'",
                        units_on_files, units },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(matches) && r >= 0; i++)
                r = units_match(units, &matches[i]);
        if (r >= 0)
                r = units_match_unit(&units->ecs);
        if (r >= 0)
                r = units_match_unit(&units->docker);
        if (r >= 0)
                r = sd_bus_add_filter(units->bus, &units->slots[units->n_slots], units_on_message, units);
        if (r >= 0)
                units->n_slots++;
        return r;
}

static int units_connect(Units *units) {
        const char *address = getenv("DBUS_SYSTEM_BUS_ADDRESS");
        int r;

        r = sd_bus_new(&units->bus);
        if (r >= 0)
                r = sd_bus_set_address(units->bus, address && address[0] != '\0' ? address : UNITS_BUS);
        if (r >= 0)
                r = sd_bus_set_bus_client(units->bus, true);
        if (r >= 0)
                r = sd_bus_set_method_call_timeout(units->bus, UNITS_ANSWER_USEC);
        if (r >= 0)
                r = sd_bus_start(units->bus);
        if (r >= 0)
                r = sd_bus_attach_event(units->bus, units->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = units_match_all(units);
        if (r >= 0)
                r = sd_bus_call_method_async(units->bus, &units->slots[units->n_slots],
                        "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                        "GetNameOwner", units_on_owner, units, "s", UNITS_SYSTEMD);
        if (r >= 0)
                units->n_slots++;
        return r;
}

static void units_on_retry(Timer *timer, Now now, void *userdata) {
        Units *units = userdata;
        int r;

        (void) timer;
        (void) now;
        units_disconnect(units);
        r = units_connect(units);
        if (r < 0) {
                units_disconnect(units);
                units_retry_later(units);
                units_blind(units, r);
        }
}

static void units_on_tick(Timer *timer, Now now, void *userdata) {
        Units *units = userdata;
        UnitsUnit *both[] = { &units->ecs, &units->docker };

        (void) timer_arm(timer, mono_add(now.mono, UNITS_SAMPLE_EVERY));
        for (size_t i = 0; i < ELEMENTSOF(both) && units->sight == SIGHT_CLEAR; i++)
                if (units_needs_journal(both[i]) && both[i]->journal == INTENT_UNKNOWN &&
                        both[i]->journal_tries < UNITS_JOURNAL_TRIES)
                        units_read_journal(both[i]);
        /* systemd is there, but has not answered. */
        if (units->sight != SIGHT_CLEAR && units->owner[0] != '\0' && !units->ecs.unit_call &&
                !units->docker.unit_call) {
                units_fetch_all(units);
                return;
        }
        units_hand_over(units, true);
}

/* Life. */

static int units_unit_init(UnitsUnit *unit, Units *units, const char *name) {
        size_t n = strlen(name);

        /* It goes into match rules. No unit's name has a quote. */
        if (n == 0 || n > 255 || strchr(name, '\''))
                return -EINVAL;
        unit->units = units;
        unit->name = strdup(name);
        if (!unit->name)
                return -ENOMEM;
        return sd_bus_path_encode(UNITS_MANAGER_PATH "/unit", name, &unit->path);
}

int units_new(Units **ret, sd_event *event, const char *ecs, const char *docker, const char *journal,
        SampleHandler handler, void *userdata) {
        _cleanup_(units_freep) Units *units = NULL;
        Mono now = loop_now(event).mono;
        int r;

        assert(handler);

        units = calloc(1, sizeof(*units));
        if (!units)
                return -ENOMEM;
        units->event = sd_event_ref(event);
        units->handler = handler;
        units->userdata = userdata;
        if (journal) {
                units->journal = strdup(journal);
                if (!units->journal)
                        return -ENOMEM;
        }
        r = units_unit_init(&units->ecs, units, ecs);
        if (r >= 0)
                r = units_unit_init(&units->docker, units, docker);
        if (r >= 0)
                r = timer_new(&units->tick, event, "units", SPAN_SEC(1), units_on_tick, units);
        if (r >= 0)
                r = timer_new(&units->retry, event, "units-connect", SPAN_MSEC(100), units_on_retry, units);
        if (r >= 0)
                r = timer_arm(units->tick, mono_add(now, UNITS_SAMPLE_EVERY));
        if (r >= 0)
                r = timer_arm(units->retry, now);
        if (r < 0)
                return r;

        *ret = steal_ptr(units);
        return 0;
}

Units *units_free(Units *units) {
        UnitsUnit *both[2];

        if (!units)
                return NULL;
        both[0] = &units->ecs;
        both[1] = &units->docker;
        units_disconnect(units);
        for (size_t i = 0; i < ELEMENTSOF(both); i++) {
                free(both[i]->name);
                free(both[i]->path);
        }
        timer_free(units->tick);
        timer_free(units->retry);
        sd_event_unref(units->event);
        free(units->journal);
        free(units);
        return NULL;
}

sd_bus *units_bus(Units *units) {
        return units->gone ? NULL : units->bus;
}

void units_own_job(Units *units) {
        units->own_job = true;
}
