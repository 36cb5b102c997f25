/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The vocabulary between the core and act/: what AWS was asked, and what came of it. Plain data. */

#include <stdbool.h>
#include <stdint.h>

#include "agent/decide/sample.h"
#include "common/clock.h"

/** How a call, or a group of them, ended. */
typedef enum Outcome {
        OUTCOME_OK,
        OUTCOME_THROTTLED,
        OUTCOME_UNAVAILABLE, /* no answer, 5xx; for a change: proven not to have happened */
        OUTCOME_DENIED,      /* a right is missing */
        OUTCOME_KEYS,        /* no credentials, or not accepted */
        OUTCOME_REFUSED,     /* ValidationError and the like */
        OUTCOME_CONTENTION,  /* ask again in minutes */
        OUTCOME_LOST,        /* a change was sent and its answer did not come: it may have happened */
        OUTCOME_BLIND,       /* answered, but with what we cannot make sense of */
} Outcome;
#define OUTCOME_N (OUTCOME_BLIND + 1)

/** Status of a container instance at ECS. */
typedef enum ControlStatus {
        CONTROL_UNKNOWN,
        CONTROL_ACTIVE,
        CONTROL_DRAINING,
        CONTROL_REGISTERING,
        CONTROL_DEREGISTERING,
        CONTROL_INACTIVE, /* REGISTRATION_FAILED too */
        CONTROL_MISSING,  /* ECS knows no such instance */
} ControlStatus;
#define CONTROL_STATUS_N (CONTROL_MISSING + 1)

/** Own container instance as ECS sees it: DescribeContainerInstances. */
typedef struct Confirmation {
        Outcome outcome; /* anything but OUTCOME_OK: the rest means nothing */
        bool connected;  /* agentConnected */
        ControlStatus status;
        bool updating; /* agentUpdateStatus PENDING, STAGING, STAGED or UPDATING */
        /* what the attributes at ECS say */
        bool marked;    /* its own agent is removing it */
        bool patrolled; /* a patrolling peer is, or has done so */
        bool held; /* it is not to be acted for: paused, or its own daemon lives and waits for a brake */
        unsigned action;       /* Action that it would take; ACTION_OBSERVE also where it says nothing */
        Wall held_at;          /* it has said so then; WALL_NEVER: for good */
        Wall marked_at;        /* by the services' clock; WALL_NEVER: not marked, or it cannot be read */
        Wall patrolled_at;     /* the same of .patrolled */
        uint64_t patrolled_by; /* turn_id() of the peer; 0: not known */
        Wall server_time;
} Confirmation;

/** A container instance of a peer, as ECS and EC2 name it. */
typedef struct PeerName {
        char arn[256];
        char instance_id[64];
} PeerName;

#define SWEEP_PEERS_MAX 8

/** What one patrol has found: the disconnected of our own group. */
typedef struct Sweep {
        Outcome outcome;
        uint32_t n_down; /* disconnected; of more than a page, those of the page */
        uint32_t
                n; /* of these, those that may be acted for, or as many as there is room for, in any order */
        PeerName peers[SWEEP_PEERS_MAX];
        Wall server_time;
} Sweep;

/** How many there are, and how many of them are disconnected. Orphans and ghosts count neither way. */
typedef struct Population {
        uint32_t members; /* connected or sick */
        uint32_t sick;
} Population;

/** What the tag ecs-health-agent says on group or cluster. */
typedef enum Switch {
        SWITCH_ON,  /* no tag, or "on" */
        SWITCH_OFF, /* "off" */
        SWITCH_NOT_UNDERSTOOD,
        SWITCH_RESUME, /* "resume": on, and brake loop is released */
} Switch;

/* Why a group is not to be touched: bits of Look.group_state. */
#define GROUP_SUSPENDED  (1u << 0) /* Launch, Terminate, HealthCheck or ReplaceUnhealthy is suspended */
#define GROUP_REFRESHING (1u << 1) /* an instance refresh is under way */
#define GROUP_MOVING     (1u << 2) /* scale-in or a zone rebalance is under way */
#define GROUP_OPERATED   (1u << 3) /* another AWS service operates it */
#define GROUP_DELETING   (1u << 4) /* Status is set: delete in progress */

/** The instance that the group has launched for the last one it lost. */
typedef enum Replacement {
        REPLACEMENT_NONE, /* nothing was removed within a day, or nothing is to come for it */
        REPLACEMENT_CONNECTED,
        REPLACEMENT_PENDING, /* not launched yet, or its agent is not connected yet */
        REPLACEMENT_FAILED,  /* the newest launch has failed, whatever it was for */
} Replacement;
#define REPLACEMENT_N (REPLACEMENT_FAILED + 1)

/* Instances are told apart by turn_id() of their EC2 id, in agent/decide/turn.h. */
#define LOOK_SICK_MAX    100 /* a page */
#define LOOK_REMOVED_MAX 128

/** Which read of a look failed. */
typedef enum LookPart {
        LOOK_WHOLE, /* none */
        LOOK_METADATA,
        LOOK_ECS,
        LOOK_AUTO_SCALING,
} LookPart;
#define LOOK_PART_N (LOOK_AUTO_SCALING + 1)

/**
 * One look at ourselves and our peers, in the order of the design: metadata service, ECS, Auto Scaling. It stops as
 * soon as it decides: when share already holds (.share_decided), the group is not read and its part means nothing; when
 * the metadata service shows us not InService, .own is OUTCOME_BLIND and nothing else was asked.
 */
typedef struct Look {
        bool of_peer;    /* made by patrol: .own, .self, .lifecycle, .group and .young are a peer's */
        Outcome outcome; /* OUTCOME_OK: every part that was asked has answered */
        LookPart failed;
        char action[64]; /* the call that failed, "" if none: "DescribeAutoScalingGroups" */

        Lifecycle lifecycle; /* Auto Scaling's word if it was asked, else the metadata service's */
        bool spot_notice;
        bool unhealthy;     /* the group is about to replace it by itself */
        bool another_group; /* a peer of another group than ours */
        Confirmation own;

        Population cluster, group, zone;
        bool more_than_a_page; /* more than 100 disconnected */
        bool share_decided;    /* the numbers so far hold already: the group itself was not read */
        uint32_t connected_peers;
        uint64_t self; /* turn_id() of ourselves */
        uint32_t n_sick,
                n_sick_ours; /* disconnected and InService: of the cluster; of those, of our own group */
        uint64_t sick[LOOK_SICK_MAX]; /* ours first; ourselves among them if ECS calls us disconnected */
        uint32_t n_outside;
        uint64_t outside[LOOK_SICK_MAX]; /* disconnected and not, or no longer, InService in any group */

        Switch tag_cluster, tag_group;
        uint32_t group_state;    /* GROUP_* */
        uint32_t group_size;     /* desired capacity in instances */
        bool group_weighted;     /* weighted, or counted in vCPU or memory */
        uint32_t removed_window; /* of this group's instances within brakes.window, this one not counted */
        uint32_t removed_day;
        uint32_t
                removed_cluster; /* of the cluster's within brakes.window, as far as marks and our group's ledger tell */
        uint32_t removed_hour; /* the same within 60 min */
        uint32_t n_removed, n_removed_ours;
        uint64_t removed
                [LOOK_REMOVED_MAX]; /* who they are: those of .removed_window first, then of .removed_cluster */
        Wall window_frees; /* when the oldest of them leaves the window; WALL_NEVER: none is in it, or not known */
        bool ledger_full; /* more pages of activities than are read: counts as full */
        Replacement replacement;
        bool young;       /* we were launched within 1 h after a removal, and within the last hour */
        Wall server_time; /* the services' clock when the look ended; WALL_NEVER: not known */
} Look;

/** API rights, one by one. */
typedef enum Right {
        RIGHT_ECS_DESCRIBE_CONTAINER_INSTANCES,
        RIGHT_ECS_LIST_CONTAINER_INSTANCES,
        RIGHT_ECS_DESCRIBE_CLUSTERS,
        RIGHT_ASG_DESCRIBE_INSTANCES,
        RIGHT_ASG_DESCRIBE_GROUPS,
        RIGHT_ASG_DESCRIBE_ACTIVITIES,
        RIGHT_ASG_DESCRIBE_REFRESHES,
        RIGHT_ECS_UPDATE_STATE,
        RIGHT_ECS_PUT_ATTRIBUTES,
        RIGHT_ECS_DELETE_ATTRIBUTES,
        RIGHT_ASG_DETACH,
        RIGHT_ASG_SET_HEALTH,
        RIGHT_ASG_ENTER_STANDBY,
        RIGHT_ECS_DEREGISTER,
        RIGHT_EC2_STOP,
        RIGHT_EC2_TERMINATE,
        RIGHT_CLOUDWATCH_PUT,
} Right;
#define RIGHT_N (RIGHT_CLOUDWATCH_PUT + 1)

typedef enum Granted {
        GRANTED_UNKNOWN,
        GRANTED_YES,
        GRANTED_NO,
} Granted;

typedef struct Rights {
        uint8_t granted[RIGHT_N]; /* Granted */
} Rights;

const char *outcome_to_string(Outcome outcome);
const char *control_status_to_string(ControlStatus status);
const char *look_part_to_string(LookPart part);
const char *replacement_to_string(Replacement replacement);
/** right_to_string() - as IAM spells it: "ecs:DescribeContainerInstances" */
const char *right_to_string(Right right);
