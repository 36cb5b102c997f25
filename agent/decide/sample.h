/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The vocabulary between observe/ and the core: what one look of one witness has seen, as plain data. A Sample holds
 * facts, no judgement. What could not be seen is said by its Sight and is never "bad".
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"

/** Shares are in hundredths of a percent: 0 to 10000. */
typedef int32_t Share;
#define SHARE_NONE ((Share) -1) /* not known */

typedef enum Witness {
        WITNESS_INTROSPECTION,
        WITNESS_LOG,
        WITNESS_SOCKETS,
        WITNESS_UNITS,
        WITNESS_DOCKER,
        WITNESS_PATH,
        WITNESS_DISKS,
        WITNESS_MEMORY,
        WITNESS_METADATA,
} Witness;
#define WITNESS_N (WITNESS_METADATA + 1)

/** Whether a witness could look at all, and if not, why. */
typedef enum Sight {
        SIGHT_NONE, /* has not looked yet */
        SIGHT_CLEAR,
        SIGHT_ABSENT, /* what it looks at is not there: no such file, socket, unit, bus */
        SIGHT_DENIED, /* not allowed to look: EACCES, EPERM, 403 */
        SIGHT_FAILED, /* looking failed: unreadable, nonsense, no answer */
        SIGHT_OFF,    /* switched off in the settings */
} Sight;
#define SIGHT_N (SIGHT_OFF + 1)

/** What came back when something was asked. */
typedef enum Answer {
        ANSWER_NONE, /* not asked */
        ANSWER_GOOD,
        ANSWER_REFUSED, /* connection refused: nobody listens */
        ANSWER_HUNG,    /* connected, or tried to, and got no whole answer within the deadline */
        ANSWER_WRONG,   /* something else answered, or nonsense came */
} Answer;
#define ANSWER_N (ANSWER_WRONG + 1)

/** GET /v1/metadata and /v1/tasks of the ECS agent. */
typedef struct IntrospectionSample {
        Answer metadata;
        Answer tasks;
        bool registered;       /* metadata names a container instance ARN */
        int32_t tasks_running; /* KnownStatus RUNNING; -1: not known */
        int32_t tasks_stuck;   /* DesiredStatus other than KnownStatus for 3 min in a row; -1: not known */
} IntrospectionSample;

/** Lines of the agent's log that tell of its control connection (ACS) or of its life. */
typedef enum LogLine {
        LOG_LINE_NONE,         /* no line: the sample tells of the file only */
        LOG_LINE_STARTED,      /* "Starting Amazon ECS Agent" */
        LOG_LINE_CONNECTED,    /* "Connected to ACS endpoint" */
        LOG_LINE_CLOSED,       /* closed for a valid reason, reconnects at once: normal life */
        LOG_LINE_LOST,         /* closed with an error, or no activity for too long */
        LOG_LINE_TRYING,       /* establishing the ACS connection, or done waiting */
        LOG_LINE_FAILED,       /* could not connect to ACS */
        LOG_LINE_WAITING,      /* in back-off; .delay tells how long */
        LOG_LINE_DEREGISTERED, /* "Container instance is deregistered" */
        LOG_LINE_STOPPING,     /* received a termination signal, session ended with its context */
        LOG_LINE_TERMINAL,     /* will exit 5: cannot register */
        LOG_LINE_UPDATING,     /* an agent update has been staged or started */
} LogLine;
#define LOG_LINE_N (LOG_LINE_UPDATING + 1)

typedef struct LogSample {
        LogLine line;
        Mono at;    /* when the line was written, by its own time stamp; never later than the sample */
        Span delay; /* of LOG_LINE_WAITING and LOG_LINE_DEREGISTERED: the announced wait */
        bool back;  /* read back from before we started: state, not news */
        bool level_raised; /* lines arrive, but none of level info has for 45 min: the agent's log level hides them */
        Mono written; /* when the file last grew; MONO_NEVER: not since we started */
} LogSample;

/** The agent's TCP sockets, by inet_diag. Ages are as of the dump; -1: not known. */
typedef struct SocketsSample {
        bool listener;    /* somebody listens on the introspection port */
        uint32_t backlog; /* connections waiting to be accepted there */
        uint32_t
                unread; /* its connections that the peer has closed and it has not read: CLOSE-WAIT with data */
        uint32_t n_control; /* established connections of the agent to the control-plane port */
        bool link_known;    /* which of them is the ACS link was seen when it was made */
        bool link_present;  /* that one is established */
        Span data_age; /* since data last came: on the link if known, else on the freshest of them all */
        Span ack_age;  /* since an acknowledgement last came, same choice */
        bool unacknowledged; /* data or keep-alive probes of the link are waiting for an acknowledgement */
} SocketsSample;

typedef enum UnitState {
        UNIT_UNKNOWN,
        UNIT_ACTIVE,
        UNIT_ACTIVATING, /* auto-restart included */
        UNIT_DEACTIVATING,
        UNIT_INACTIVE,
        UNIT_FAILED,
} UnitState;
#define UNIT_STATE_N (UNIT_FAILED + 1)

/** Whether somebody meant a unit to be down. */
typedef enum Intent {
        INTENT_UNKNOWN,  /* no record reaches back far enough */
        INTENT_NONE,     /* it went down while we watched, or by the journal's record, without a stop job */
        INTENT_STOPPED,  /* a stop job, with no start after it */
        INTENT_DISABLED, /* the unit is disabled or masked */
} Intent;
#define INTENT_N (INTENT_DISABLED + 1)

typedef struct UnitSample {
        bool exists; /* it is loaded from a file */
        UnitState state;
        Intent intent;
        bool job_running;    /* a job is queued or running for it */
        int32_t exit_status; /* of its main process's last end; -1: none or not known */
        uint32_t restarts;   /* NRestarts */
} UnitSample;

typedef struct UnitsSample {
        UnitSample ecs;
        UnitSample docker;
} UnitsSample;

typedef struct DockerSample {
        Answer ping;
        Answer list;    /* GET /containers/json?limit=1 */
        Span ping_time; /* the deadline's value when it hangs; -1: refused or absent */
} DockerSample;

/** Our own way to the host that the agent's log names. Only asked while the link is down. */
typedef enum PathAnswer {
        PATH_NONE,  /* not asked, or no host known */
        PATH_WORKS, /* name, TCP, TLS and an HTTP answer of any status */
        PATH_NO_NAME,
        PATH_NO_TCP, /* refused, unreachable, timed out */
        PATH_NO_TLS,
} PathAnswer;
#define PATH_ANSWER_N (PATH_NO_TLS + 1)

typedef struct PathSample {
        PathAnswer answer;
        Span took;
} PathSample;

#define DISK_MOUNTS_MAX 32
#define DISK_PATH_MAX   256

/** One real mount. */
typedef struct DiskMount {
        char path[DISK_PATH_MAX];
        Share used;        /* as df: used / (used + available); SHARE_NONE: not known (hung) */
        Share inodes_used; /* SHARE_NONE: not known, or the file system has no fixed number of them */
        bool read_only;    /* ro or emergency_ro in mountinfo, and not so when first seen */
        bool hung;         /* statvfs() missed its deadline */
} DiskMount;

/** All mounts together; the single ones are lent by disks_mounts(). */
typedef struct DisksSample {
        uint32_t n;
        Share used_worst, inodes_used_worst; /* SHARE_NONE: of none known */
        uint32_t n_read_only, n_hung;
        bool root_read_only,
                root_full; /* of the mount that holds / and of docker's, if apart: no byte or inode left */
} DisksSample;

typedef struct MemorySample {
        Share used, available; /* SHARE_NONE: not known */
        Share swap_used;       /* 0 without swap */
        Share some, full;      /* PSI avg60; SHARE_NONE: the kernel has no PSI, or it is off */
        int64_t oom_kills;     /* since boot, from /proc/vmstat; -1: not known */
        bool trigger;          /* this sample was taken because a PSI trigger fired */
} MemorySample;

/** autoscaling/target-lifecycle-state, and what Auto Scaling's own answers say in the same words. */
typedef enum Lifecycle {
        LIFECYCLE_UNKNOWN,
        LIFECYCLE_NO_GROUP, /* not in a group (or, by the metadata service, none since 2022-03) */
        LIFECYCLE_PENDING,
        LIFECYCLE_IN_SERVICE,
        LIFECYCLE_STANDBY, /* EnteringStandby too */
        LIFECYCLE_DETACHING,
        LIFECYCLE_DETACHED,
        LIFECYCLE_TERMINATING, /* Terminated too */
        LIFECYCLE_WARM,        /* Warmed:* */
        LIFECYCLE_OTHER,       /* a state that we have no name for: do not act */
} Lifecycle;
#define LIFECYCLE_N (LIFECYCLE_OTHER + 1)

typedef struct MetadataSample {
        Lifecycle lifecycle;
        bool spot_notice; /* spot/instance-action is there */
        bool no_role;     /* the instance has no role, or it cannot be assumed */
} MetadataSample;

/** One look of one witness. */
typedef struct Sample {
        Witness witness;
        Sight sight; /* anything but SIGHT_CLEAR: the rest means nothing */
        union {
                IntrospectionSample introspection;
                LogSample log;
                SocketsSample sockets;
                UnitsSample units;
                DockerSample docker;
                PathSample path;
                DisksSample disks;
                MemorySample memory;
                MetadataSample metadata;
        };
} Sample;

/** SampleHandler - how observe/ hands a sample over; @sample is lent for the length of the call */
typedef void (*SampleHandler)(const Sample *sample, void *userdata);

const char *witness_to_string(Witness witness); /* "introspection", "agent log", ... */
const char *sight_to_string(Sight sight);
const char *answer_to_string(Answer answer);
const char *unit_state_to_string(UnitState state);
const char *intent_to_string(Intent intent);
const char *path_answer_to_string(PathAnswer answer);
const char *lifecycle_to_string(Lifecycle lifecycle);
/** lifecycle_from_string() - of AWS's spelling; an unknown one is LIFECYCLE_OTHER */
Lifecycle lifecycle_from_string(const char *text);
