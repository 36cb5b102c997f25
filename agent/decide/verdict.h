/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The verdict: what is wrong (cause), and whose it is (fault). Only a fault of this host leads to an action.
 */

#include "agent/decide/checks.h"
#include "agent/decide/policy.h"

typedef enum Cause {
        CAUSE_NONE,      /* nothing is wrong */
        CAUSE_NOT_KNOWN, /* too few witnesses can tell, or they contradict each other */
        CAUSE_STARTING,  /* not registered yet in this boot, within boot grace */
        /* down, by this host's fault or its network's */
        CAUSE_LINK_LOST,        /* the agent lives and retries, the connection does not come */
        CAUSE_AGENT_DEAD,       /* its process is gone */
        CAUSE_AGENT_HUNG,       /* it accepts connections and answers nothing */
        CAUSE_AGENT_WEDGED,     /* it lives, is down, and has stopped trying */
        CAUSE_AGENT_FAILED,     /* unit failed: exit 5 or what systemd does not restart */
        CAUSE_AGENT_EXITED,     /* unit exited 0 and stayed down, without a stop job */
        CAUSE_AGENT_ABSENT,     /* registered before, has not come back after a reboot */
        CAUSE_NEVER_REGISTERED, /* never had a container instance ARN */
        /* by also_act_on */
        CAUSE_DOCKER,
        CAUSE_DISK_READ_ONLY,
        CAUSE_DISK_FULL,
        CAUSE_MEMORY,
        /* intended */
        CAUSE_OPERATOR_STOP,
        CAUSE_UPDATE,
        CAUSE_DEREGISTERED,
        CAUSE_LEAVING, /* terminating, detaching, detached */
        CAUSE_STANDBY,
        CAUSE_WARM_POOL,
        CAUSE_SPOT,
        CAUSE_FOREIGN_DRAIN,
        CAUSE_EXTERNAL,
        CAUSE_NO_GROUP,
        /* ours */
        CAUSE_NO_ROLE,
} Cause;
#define CAUSE_N (CAUSE_NO_ROLE + 1)

typedef enum Fault {
        FAULT_NONE,
        FAULT_UNKNOWN,
        FAULT_HOST, /* of this host, or not yet told apart from its network: the look at the peers tells */
        FAULT_MANY, /* of the control plane, or of the network of many */
        FAULT_OURS, /* our role or settings */
        FAULT_INTENDED, /* meant by somebody */
} Fault;
#define FAULT_N (FAULT_INTENDED + 1)

typedef struct Verdict {
        Cause cause;
        Fault fault;
        bool down;   /* the agent is disconnected, whoever's fault it is */
        bool enough; /* by as many witnesses as an action needs */
        bool up;     /* somebody positively says that it is connected */
        bool dead;   /* counts by grace_dead: the process is dead, hung or has exited */
        bool repairable; /* a restart of ecs.service may help: dead, exited, hung or wedged, and nobody meant it to be down */
        uint32_t witnesses; /* bits (1 << Witness) of those that say so; bit WITNESS_N: the control plane */
} Verdict;

/** verdict_decide() - numbered rules over the checks; the first that matches wins */
void verdict_decide(
        const Checks *checks, const Policy *policy, Mono boot_grace_until, Mono now, Verdict *ret);
/** verdict_ill() - a fault of this host that an action may answer to */
bool verdict_ill(const Verdict *verdict);

const char *cause_to_string(Cause cause); /* short name: "link_lost" */
const char *cause_to_sentence(
        Cause cause); /* for people: "The agent has lost its connection and keeps retrying." */
const char *fault_to_string(Fault fault);
