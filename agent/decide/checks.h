/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * From samples to opinions. The judge gives each sample of a witness a Reading by thresholds; a Check believes a change
 * only after a run of equal readings (rise, fall) and forgets what has not been renewed (staleness). The log's reading
 * comes from a small machine over its lines.
 */

#include "agent/decide/look.h"
#include "agent/decide/policy.h"
#include "agent/decide/sample.h"

/** What a witness says of the agent's connection, or of the thing it watches. */
typedef enum Reading {
        READING_NONE, /* cannot tell: never "bad" */
        READING_UP,
        READING_DOWN,
} Reading;
#define READING_N (READING_DOWN + 1)

/** A believed reading. */
typedef struct Check {
        Reading believed;
        Reading latest;
        unsigned run; /* equal latest readings in a row */
        Mono since;   /* the belief stands since */
        Mono renewed; /* last reading of any kind */
} Check;

/** check_take() - take a reading in; @rise readings of DOWN, @fall of UP are needed in a row. NONE counts at once. */
void check_take(Check *check, Reading reading, unsigned rise, unsigned fall, Mono now);
/** check_age() - a belief that has not been renewed for @stale_after becomes NONE */
void check_age(Check *check, Span stale_after, Mono now);

/** What the agent's log says now. */
typedef enum LogState {
        LOG_STATE_BLIND,
        LOG_STATE_STARTING, /* started, not connected yet */
        LOG_STATE_UP,
        LOG_STATE_DOWN,
        LOG_STATE_BACKOFF,  /* down, and it has said until when it waits */
        LOG_STATE_INACTIVE, /* deregistered: gone for good until re-registered */
        LOG_STATE_WEDGED,   /* down and no longer trying; or silent for too long */
        LOG_STATE_STOPPED,  /* stopped in an orderly way, or about to exit 5 */
        LOG_STATE_UPDATING,
} LogState;
#define LOG_STATE_N (LOG_STATE_UPDATING + 1)

typedef struct LogMachine {
        LogState state;        /* as of the last line */
        Mono since;            /* it has been so since, by the line's own time */
        Mono retry_line;       /* last line of an attempt or a wait */
        Mono retry_at;         /* announced end of the back-off; MONO_NEVER: none */
        Mono connected_line;   /* last CONNECTED; MONO_NEVER: none seen */
        Mono distrusted_until; /* a silence that ECS contradicted: BLIND until then */
        uint32_t reconnects;   /* CONNECTED lines that came as news */
        bool terminal;         /* STOPPED because it will exit 5 */
} LogMachine;

void log_machine_take(LogMachine *machine, const LogSample *sample, Mono now);
/**
 * log_machine_state() - what it amounts to at @now
 * @alive: sockets or introspection answer: silence of a dead process is not a wedge
 */
LogState log_machine_state(const LogMachine *machine, const Policy *policy, bool alive, Mono now);

/** Everything that is believed at the moment, and the last sample of each witness. */
typedef struct Checks {
        Sample samples[WITNESS_N]; /* last of each kind; for the log the last of its condition */
        Mono sampled[WITNESS_N];   /* when it came; MONO_NEVER: never */
        LogMachine log;

        Check introspection;                     /* DOWN: refused or hung */
        Check tasks;                             /* DOWN: /v1/tasks hangs while /v1/metadata answers */
        Check link;                              /* sockets: DOWN: no link, or black-holed */
        Check listener;                          /* sockets: DOWN: nobody listens */
        Check stuck;                             /* sockets: DOWN: accepts and does not read */
        Check unit;                              /* ecs.service: DOWN: failed, or inactive */
        Check docker;                            /* DOWN: refused or hung */
        Check disk_writable, disk_space, memory; /* DOWN: read-only, full, pressure */

        Confirmation control;    /* last answer of ECS */
        Mono control_at;         /* MONO_NEVER: none */
        bool control_early;      /* it was asked so early that it may not have noticed yet */
        bool answered_this_boot; /* introspection answered, or a listener was seen */
        bool registered_before;  /* now or in an earlier boot of this instance */
        Mono registered_at;      /* first registered answer that we saw; MONO_NEVER */
        Mono updating_from;      /* signs of an agent update; MONO_NEVER: none */
        Lifecycle lifecycle;     /* the metadata service's last word; its NO_GROUP proves nothing */
        Lifecycle lifecycle_asg; /* Auto Scaling's last word */
        bool spot_notice;
        bool our_drain; /* a DRAINING at ECS is ours, as far as the journal knows */
} Checks;

/** checks_take() - the judge: take one sample in */
void checks_take(Checks *checks, const Sample *sample, const Policy *policy, Mono now);
/** checks_confirm() - take ECS's answer in */
void checks_confirm(Checks *checks, const Confirmation *confirmation, const Policy *policy, Mono now);
/**
 * checks_lifecycle() - what we are to our group. The metadata service is asked every few seconds, Auto Scaling at the start and
 * by looks: its word counts where the other has none.
 */
Lifecycle checks_lifecycle(const Checks *checks);
/** checks_age() - let what is stale become NONE; before each verdict */
void checks_age(Checks *checks, Mono now);

const char *reading_to_string(Reading reading);
const char *log_state_to_string(LogState state);
