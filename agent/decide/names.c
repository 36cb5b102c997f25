/* SPDX-License-Identifier: Apache-2.0 */

/* The words for our enumerations: in logs, in status, in the journal's text. */

#include <string.h>
#include <strings.h>

#include "agent/decide/core.h"

#define NAMES(function, Type, count, ...)                                                                   \
        const char *function(Type value) {                                                                  \
                static const char *const names[count] = { __VA_ARGS__ };                                    \
                return (unsigned) value < (count) && names[value] ? names[value] : "?";                     \
        }

/* clang-format off */
NAMES(witness_to_string, Witness, WITNESS_N,
        [WITNESS_INTROSPECTION] = "introspection",
        [WITNESS_LOG] = "agent log",
        [WITNESS_SOCKETS] = "agent sockets",
        [WITNESS_UNITS] = "units",
        [WITNESS_DOCKER] = "container runtime",
        [WITNESS_PATH] = "path",
        [WITNESS_DISKS] = "disks",
        [WITNESS_MEMORY] = "memory",
        [WITNESS_METADATA] = "metadata service")

NAMES(sight_to_string, Sight, SIGHT_N,
        [SIGHT_NONE] = "not looked yet",
        [SIGHT_CLEAR] = "clear",
        [SIGHT_ABSENT] = "absent",
        [SIGHT_DENIED] = "denied",
        [SIGHT_FAILED] = "failed",
        [SIGHT_OFF] = "off")

NAMES(answer_to_string, Answer, ANSWER_N,
        [ANSWER_NONE] = "not asked",
        [ANSWER_GOOD] = "answers",
        [ANSWER_REFUSED] = "refused",
        [ANSWER_HUNG] = "hung",
        [ANSWER_WRONG] = "wrong answer")

NAMES(unit_state_to_string, UnitState, UNIT_STATE_N,
        [UNIT_UNKNOWN] = "unknown",
        [UNIT_ACTIVE] = "active",
        [UNIT_ACTIVATING] = "activating",
        [UNIT_DEACTIVATING] = "deactivating",
        [UNIT_INACTIVE] = "inactive",
        [UNIT_FAILED] = "failed")

NAMES(intent_to_string, Intent, INTENT_N,
        [INTENT_UNKNOWN] = "not known",
        [INTENT_NONE] = "nobody's",
        [INTENT_STOPPED] = "stopped by an operator",
        [INTENT_DISABLED] = "disabled or masked")

NAMES(path_answer_to_string, PathAnswer, PATH_ANSWER_N,
        [PATH_NONE] = "not asked",
        [PATH_WORKS] = "works",
        [PATH_NO_NAME] = "name not resolved",
        [PATH_NO_TCP] = "no TCP connection",
        [PATH_NO_TLS] = "TLS refused")

NAMES(lifecycle_to_string, Lifecycle, LIFECYCLE_N,
        [LIFECYCLE_UNKNOWN] = "not known",
        [LIFECYCLE_NO_GROUP] = "in no group",
        [LIFECYCLE_PENDING] = "Pending",
        [LIFECYCLE_IN_SERVICE] = "InService",
        [LIFECYCLE_STANDBY] = "Standby",
        [LIFECYCLE_DETACHING] = "Detaching",
        [LIFECYCLE_DETACHED] = "Detached",
        [LIFECYCLE_TERMINATING] = "Terminating",
        [LIFECYCLE_WARM] = "Warmed",
        [LIFECYCLE_OTHER] = "another state")

NAMES(outcome_to_string, Outcome, OUTCOME_N,
        [OUTCOME_OK] = "ok",
        [OUTCOME_THROTTLED] = "throttled",
        [OUTCOME_UNAVAILABLE] = "no answer",
        [OUTCOME_DENIED] = "denied",
        [OUTCOME_KEYS] = "credentials missing or not accepted",
        [OUTCOME_REFUSED] = "refused",
        [OUTCOME_CONTENTION] = "busy",
        [OUTCOME_LOST] = "answer lost",
        [OUTCOME_BLIND] = "not understood")

NAMES(control_status_to_string, ControlStatus, CONTROL_STATUS_N,
        [CONTROL_UNKNOWN] = "unknown",
        [CONTROL_ACTIVE] = "ACTIVE",
        [CONTROL_DRAINING] = "DRAINING",
        [CONTROL_REGISTERING] = "REGISTERING",
        [CONTROL_DEREGISTERING] = "DEREGISTERING",
        [CONTROL_INACTIVE] = "INACTIVE",
        [CONTROL_MISSING] = "MISSING")

NAMES(look_part_to_string, LookPart, LOOK_PART_N,
        [LOOK_WHOLE] = "whole",
        [LOOK_METADATA] = "metadata service",
        [LOOK_ECS] = "ECS",
        [LOOK_AUTO_SCALING] = "Auto Scaling")

NAMES(replacement_to_string, Replacement, REPLACEMENT_N,
        [REPLACEMENT_NONE] = "none",
        [REPLACEMENT_CONNECTED] = "connected",
        [REPLACEMENT_PENDING] = "pending",
        [REPLACEMENT_FAILED] = "launch failed")

NAMES(turn_state_to_string, TurnState, TURN_STATE_N,
        [TURN_LONE] = "not needed",
        [TURN_OURS] = "ours",
        [TURN_LATE] = "ours, too late",
        [TURN_OTHERS] = "another's",
        [TURN_UNKNOWN] = "not known")

NAMES(right_to_string, Right, RIGHT_N,
        [RIGHT_ECS_DESCRIBE_CONTAINER_INSTANCES] = "ecs:DescribeContainerInstances",
        [RIGHT_ECS_LIST_CONTAINER_INSTANCES] = "ecs:ListContainerInstances",
        [RIGHT_ECS_DESCRIBE_CLUSTERS] = "ecs:DescribeClusters",
        [RIGHT_ASG_DESCRIBE_INSTANCES] = "autoscaling:DescribeAutoScalingInstances",
        [RIGHT_ASG_DESCRIBE_GROUPS] = "autoscaling:DescribeAutoScalingGroups",
        [RIGHT_ASG_DESCRIBE_ACTIVITIES] = "autoscaling:DescribeScalingActivities",
        [RIGHT_ASG_DESCRIBE_REFRESHES] = "autoscaling:DescribeInstanceRefreshes",
        [RIGHT_ECS_UPDATE_STATE] = "ecs:UpdateContainerInstancesState",
        [RIGHT_ECS_PUT_ATTRIBUTES] = "ecs:PutAttributes",
        [RIGHT_ECS_DELETE_ATTRIBUTES] = "ecs:DeleteAttributes",
        [RIGHT_ASG_DETACH] = "autoscaling:DetachInstances",
        [RIGHT_ASG_SET_HEALTH] = "autoscaling:SetInstanceHealth",
        [RIGHT_ASG_ENTER_STANDBY] = "autoscaling:EnterStandby",
        [RIGHT_ECS_DEREGISTER] = "ecs:DeregisterContainerInstance",
        [RIGHT_EC2_STOP] = "ec2:StopInstances",
        [RIGHT_EC2_TERMINATE] = "ec2:TerminateInstances",
        [RIGHT_CLOUDWATCH_PUT] = "cloudwatch:PutMetricData")

NAMES(reading_to_string, Reading, READING_N,
        [READING_NONE] = "not known",
        [READING_UP] = "up",
        [READING_DOWN] = "down")

NAMES(log_state_to_string, LogState, LOG_STATE_N,
        [LOG_STATE_BLIND] = "not known",
        [LOG_STATE_STARTING] = "starting",
        [LOG_STATE_UP] = "connected",
        [LOG_STATE_DOWN] = "down, retrying",
        [LOG_STATE_BACKOFF] = "down, waiting to retry",
        [LOG_STATE_INACTIVE] = "deregistered",
        [LOG_STATE_WEDGED] = "wedged",
        [LOG_STATE_STOPPED] = "stopped",
        [LOG_STATE_UPDATING] = "updating")

NAMES(action_to_string, Action, ACTION_N,
        [ACTION_OBSERVE] = "observe",
        [ACTION_DETACH] = "detach",
        [ACTION_UNHEALTHY] = "unhealthy",
        [ACTION_STANDBY] = "standby")

NAMES(orphan_action_to_string, OrphanAction, ORPHAN_ACTION_N,
        [ORPHAN_KEEP] = "keep",
        [ORPHAN_STOP] = "stop",
        [ORPHAN_TERMINATE] = "terminate")

NAMES(patrol_stage_to_string, PatrolStage, PATROL_STAGE_N,
        [PATROL_RESTING] = "resting",
        [PATROL_SWEEPING] = "sweeping",
        [PATROL_FINDING] = "finding",
        [PATROL_WAITING] = "waiting",
        [PATROL_LOOKING] = "looking",
        [PATROL_DRAINING] = "draining",
        [PATROL_RECHECKING] = "rechecking",
        [PATROL_DETACHING] = "detaching",
        [PATROL_VERIFYING] = "verifying",
        [PATROL_UNDOING] = "undoing")

NAMES(cause_to_string, Cause, CAUSE_N,
        [CAUSE_NONE] = "none",
        [CAUSE_NOT_KNOWN] = "not_known",
        [CAUSE_STARTING] = "starting",
        [CAUSE_LINK_LOST] = "link_lost",
        [CAUSE_AGENT_DEAD] = "agent_dead",
        [CAUSE_AGENT_HUNG] = "agent_hung",
        [CAUSE_AGENT_WEDGED] = "agent_wedged",
        [CAUSE_AGENT_FAILED] = "agent_failed",
        [CAUSE_AGENT_EXITED] = "agent_exited",
        [CAUSE_AGENT_ABSENT] = "agent_absent",
        [CAUSE_NEVER_REGISTERED] = "never_registered",
        [CAUSE_DOCKER] = "docker",
        [CAUSE_DISK_READ_ONLY] = "disk_read_only",
        [CAUSE_DISK_FULL] = "disk_full",
        [CAUSE_MEMORY] = "memory",
        [CAUSE_OPERATOR_STOP] = "operator_stop",
        [CAUSE_UPDATE] = "update",
        [CAUSE_DEREGISTERED] = "deregistered",
        [CAUSE_LEAVING] = "leaving",
        [CAUSE_STANDBY] = "standby",
        [CAUSE_WARM_POOL] = "warm_pool",
        [CAUSE_SPOT] = "spot_interruption",
        [CAUSE_FOREIGN_DRAIN] = "foreign_drain",
        [CAUSE_EXTERNAL] = "external",
        [CAUSE_NO_GROUP] = "no_group",
        [CAUSE_NO_ROLE] = "no_role")

NAMES(cause_to_sentence, Cause, CAUSE_N,
        [CAUSE_NONE] = "The ECS agent is connected.",
        [CAUSE_NOT_KNOWN] = "Whether the ECS agent is connected is not known: the witnesses cannot tell, or contradict each other.",
        [CAUSE_STARTING] = "The ECS agent is starting.",
        [CAUSE_LINK_LOST] = "The ECS agent has lost its connection to the control plane and keeps retrying.",
        [CAUSE_AGENT_DEAD] = "The ECS agent's process is gone.",
        [CAUSE_AGENT_HUNG] = "The ECS agent accepts connections but does not answer.",
        [CAUSE_AGENT_WEDGED] = "The ECS agent is alive and disconnected, and has stopped trying to reconnect.",
        [CAUSE_AGENT_FAILED] = "The ECS agent has failed for good (exit status 5); systemd does not restart it.",
        [CAUSE_AGENT_EXITED] = "The ECS agent's service has exited and stayed down, although nobody stopped it.",
        [CAUSE_AGENT_ABSENT] = "The ECS agent was registered before this boot and has not come back.",
        [CAUSE_NEVER_REGISTERED] = "This instance has never registered with a cluster.",
        [CAUSE_DOCKER] = "The container runtime is down or hung.",
        [CAUSE_DISK_READ_ONLY] = "The root or container file system has become read-only.",
        [CAUSE_DISK_FULL] = "The root or container file system is full.",
        [CAUSE_MEMORY] = "Memory pressure has stopped most work for a minute and more.",
        [CAUSE_OPERATOR_STOP] = "The ECS agent or docker was stopped, disabled or masked by an operator.",
        [CAUSE_UPDATE] = "The ECS agent is being updated.",
        [CAUSE_DEREGISTERED] = "The container instance has been deregistered from its cluster.",
        [CAUSE_LEAVING] = "The instance is leaving, or has left, its Auto Scaling group.",
        [CAUSE_STANDBY] = "The instance is in standby.",
        [CAUSE_WARM_POOL] = "The instance is in a warm pool.",
        [CAUSE_SPOT] = "The instance is about to be interrupted by EC2 Spot.",
        [CAUSE_FOREIGN_DRAIN] = "Somebody else has set the container instance to DRAINING.",
        [CAUSE_EXTERNAL] = "This is an external instance (ECS Anywhere), which is never acted on.",
        [CAUSE_NO_GROUP] = "The instance is in no Auto Scaling group.",
        [CAUSE_NO_ROLE] = "The instance has no usable role, so neither the ECS agent nor this one can call AWS.")

NAMES(fault_to_string, Fault, FAULT_N,
        [FAULT_NONE] = "none",
        [FAULT_UNKNOWN] = "unknown",
        [FAULT_HOST] = "host",
        [FAULT_MANY] = "many",
        [FAULT_OURS] = "ours",
        [FAULT_INTENDED] = "intended")

NAMES(stage_to_string, Stage, STAGE_N,
        [STAGE_WATCHING] = "watching",
        [STAGE_GRACE] = "grace",
        [STAGE_LOOKING] = "looking",
        [STAGE_HELD] = "held",
        [STAGE_REPAIRING] = "repairing",
        [STAGE_TURN] = "turn",
        [STAGE_DRAINING] = "draining",
        [STAGE_RECHECKING] = "rechecking",
        [STAGE_DETACHING] = "detaching",
        [STAGE_VERIFYING] = "verifying",
        [STAGE_UNDOING] = "undoing",
        [STAGE_REMOVED] = "removed",
        [STAGE_ENDING] = "ending")

NAMES(effect_to_string, EffectType, EFFECT_TYPE_N,
        [EFFECT_CONFIRM] = "confirm",
        [EFFECT_LOOK] = "look",
        [EFFECT_PROBE] = "probe",
        [EFFECT_REPAIR] = "repair",
        [EFFECT_DRAIN] = "drain",
        [EFFECT_UNDRAIN] = "undrain",
        [EFFECT_DETACH] = "detach",
        [EFFECT_VERIFY] = "verify",
        [EFFECT_END] = "end",
        [EFFECT_SWEEP] = "sweep",
        [EFFECT_FORGET] = "forget")
/* clang-format on */

Lifecycle lifecycle_from_string(const char *text) {
        /* AWS has added suffixes and states before and will again: what is not listed is no reason to act. */
        static const struct {
                const char *name;
                Lifecycle lifecycle;
        } rows[] = {
                { "InService", LIFECYCLE_IN_SERVICE },
                { "Pending", LIFECYCLE_PENDING },
                { "Pending:Wait", LIFECYCLE_PENDING },
                { "Pending:Proceed", LIFECYCLE_PENDING },
                { "Standby", LIFECYCLE_STANDBY },
                { "EnteringStandby", LIFECYCLE_STANDBY },
                { "Detaching", LIFECYCLE_DETACHING },
                { "Detached", LIFECYCLE_DETACHED },
                { "Terminating", LIFECYCLE_TERMINATING },
                { "Terminating:Wait", LIFECYCLE_TERMINATING },
                { "Terminating:Proceed", LIFECYCLE_TERMINATING },
                { "Terminating:Retained", LIFECYCLE_TERMINATING },
                { "Terminated", LIFECYCLE_TERMINATING },
        };

        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                if (strcasecmp(text, rows[i].name) == 0)
                        return rows[i].lifecycle;
        return strncasecmp(text, "Warmed:", strlen("Warmed:")) == 0 ? LIFECYCLE_WARM : LIFECYCLE_OTHER;
}
