/* SPDX-License-Identifier: Apache-2.0 */

/* The brakes. A new one is a row here. Each answers for itself alone; what it cannot evaluate is the last one's affair. */

#include "agent/decide/brakes.h"

/* Fewer connected peers than this cannot show that the network is fine; the path witness must. */
#define PEERS_MIN 3
/* max_actions when the settings leave it open: the larger of 1 and this share of the group, at most so many. */
#define BUDGET_SHARE 500
#define BUDGET_MAX   10
/* max_per_day when the settings leave it open: the larger of this number and this share of the group. */
#define DAY_MIN   2
#define DAY_SHARE 1000

#define SHARE_WHOLE 10000

static bool decides_by_look(const BrakeInput *input) {
        return input->look && input->look->outcome == OUTCOME_OK;
}

static bool late(Mono end, Mono now, Mono *until) {
        if (!mono_is_set(end) || !mono_before(now, end))
                return false;
        *until = end;
        return true;
}

static bool grace_holds(const BrakeInput *input, Mono *until) {
        if (input->grace_over)
                return false;
        (void) late(input->grace_end, input->now.mono, until);
        return true;
}

static bool confirm_holds(const BrakeInput *input, Mono *until) {
        return late(input->confirm_until, input->now.mono, until) || input->confirmations < 2;
}

static bool right_is_needed(const Policy *policy, Right right) {
        switch (right) {
        case RIGHT_ECS_DESCRIBE_CONTAINER_INSTANCES:
        case RIGHT_ECS_LIST_CONTAINER_INSTANCES:
        case RIGHT_ECS_DESCRIBE_CLUSTERS:
        case RIGHT_ASG_DESCRIBE_INSTANCES:
        case RIGHT_ASG_DESCRIBE_GROUPS:
        case RIGHT_ASG_DESCRIBE_ACTIVITIES:
        case RIGHT_ASG_DESCRIBE_REFRESHES:
        case RIGHT_ECS_UPDATE_STATE:
        case RIGHT_ECS_PUT_ATTRIBUTES: return true;
        case RIGHT_ASG_DETACH: return policy->action == ACTION_DETACH;
        case RIGHT_ASG_SET_HEALTH: return policy->action == ACTION_UNHEALTHY;
        case RIGHT_ASG_ENTER_STANDBY: return policy->action == ACTION_STANDBY;
        /* Without these an attribute is left behind, emptied; the orphan stays; nothing is published. */
        case RIGHT_ECS_DELETE_ATTRIBUTES:
        case RIGHT_ECS_DEREGISTER:
        case RIGHT_EC2_STOP:
        case RIGHT_EC2_TERMINATE:
        case RIGHT_CLOUDWATCH_PUT: return false;
        }
        return true;
}

static bool rights_holds(const BrakeInput *input, Mono *until) {
        (void) until;
        for (Right right = 0; right < RIGHT_N; right++)
                if (right_is_needed(input->policy, right) && input->rights->granted[right] == GRANTED_NO)
                        return true;
        return false;
}

static bool observe_holds(const BrakeInput *input, Mono *until) {
        (void) until;
        return input->policy->action == ACTION_OBSERVE;
}

static bool paused_holds(const BrakeInput *input, Mono *until) {
        return late(input->paused_until, input->now.mono, until);
}

static bool boot_grace_holds(const BrakeInput *input, Mono *until) {
        return late(input->boot_grace_until, input->now.mono, until);
}

static bool cooldown_holds(const BrakeInput *input, Mono *until) {
        return late(input->cooldown_until, input->now.mono, until);
}

bool brake_switch_is_off(Switch tag) {
        return tag != SWITCH_ON && tag != SWITCH_RESUME;
}

static bool off_holds(const BrakeInput *input, Mono *until) {
        (void) until;
        return decides_by_look(input) && (brake_switch_is_off(input->look->tag_cluster) ||
                                                 brake_switch_is_off(input->look->tag_group));
}

static bool group_holds(const BrakeInput *input, Mono *until) {
        (void) until;
        return decides_by_look(input) && (input->look->group_state != 0 || input->look->spot_notice ||
                                                 input->look->lifecycle != LIFECYCLE_IN_SERVICE);
}

static bool share_holds(const BrakeInput *input, Mono *until) {
        (void) until;
        return input->share_moved ||
               (decides_by_look(input) && brake_share_holds(input->look, input->policy->max_sick));
}

static bool settle_holds(const BrakeInput *input, Mono *until) {
        if (!input->settling)
                return false;
        return late(input->settle_until, input->now.mono, until) || input->clear_looks < 2;
}

static bool path_holds(const BrakeInput *input, Mono *until) {
        (void) until;
        return decides_by_look(input) && !input->verdict->dead && !input->look->more_than_a_page &&
               input->look->connected_peers < PEERS_MIN && input->path != PATH_WORKS;
}

/* Whether the look has read the group, and what it says of it means something. */
static bool decides_by_group(const BrakeInput *input) {
        return decides_by_look(input) && !input->look->share_decided;
}

/* A point on the services' clock, on ours. */
static Mono service_to_mono(const BrakeInput *input, Wall at) {
        if (!wall_is_set(at) || !wall_is_set(input->service_now))
                return MONO_NEVER;
        return mono_add(input->now.mono, wall_since(at, input->service_now));
}

static Mono budget_frees(const BrakeInput *input) {
        Mono frees = service_to_mono(input, input->look->window_frees), ours = input->remembered.frees;

        if (!mono_is_set(frees) || !mono_is_set(ours))
                return mono_max(frees, ours);
        return mono_min(frees, ours);
}

static bool budget_holds(const BrakeInput *input, Mono *until) {
        const Look *look = input->look;
        uint32_t group, cluster;

        if (!decides_by_group(input))
                return false;
        group = brake_budget(input->policy, look->group_size, look->group_weighted);
        cluster = brake_budget(input->policy, look->cluster.members, false);
        if (!look->ledger_full && look->removed_window + input->remembered.group < group &&
                look->removed_cluster + input->remembered.cluster < cluster)
                return false;
        (void) late(budget_frees(input), input->now.mono, until);
        return true;
}

static bool is_released(const BrakeInput *input) {
        return input->released ||
               (decides_by_look(input) && (input->look->tag_cluster == SWITCH_RESUME ||
                                                  input->look->tag_group == SWITCH_RESUME));
}

static bool loop_holds(const BrakeInput *input, Mono *until) {
        const Look *look = input->look;

        (void) until;
        if (is_released(input))
                return false;
        if (input->looped)
                return true;
        return decides_by_group(input) &&
               (look->young || look->ledger_full ||
                       look->removed_day >=
                               brake_day_budget(input->policy, look->group_size, look->group_weighted));
}

static bool replacement_holds(const BrakeInput *input, Mono *until) {
        (void) until;
        return decides_by_group(input) && (input->look->replacement == REPLACEMENT_PENDING ||
                                                  input->look->replacement == REPLACEMENT_FAILED);
}

static bool turn_holds(const BrakeInput *input, Mono *until) {
        if (!decides_by_group(input) || input->turn.state == TURN_LONE || input->turn.state == TURN_OURS)
                return false;
        (void) late(service_to_mono(input, input->turn.next), input->now.mono, until);
        return true;
}

static bool blind_holds(const BrakeInput *input, Mono *until) {
        (void) until;
        /* A look that ended with a full page has not asked about ourselves: share holds. */
        return !decides_by_look(input) ||
               (input->look->own.outcome != OUTCOME_OK && !input->look->more_than_a_page);
}

const BrakeRow brake_table[BRAKE_N] = {
        [BRAKE_GRACE] = { "grace", grace_holds, "The host has not been down long enough without a break." },
        [BRAKE_CONFIRM] = { "confirm", confirm_holds,
                "ECS has not yet confirmed twice that the agent is disconnected." },
        [BRAKE_RIGHTS] = { "rights", rights_holds, "The instance role lacks a right that acting needs." },
        [BRAKE_OBSERVE] = { "observe", observe_holds, "The settings say action: observe." },
        [BRAKE_PAUSED] = { "paused", paused_holds, "Somebody has paused this host." },
        [BRAKE_BOOT_GRACE] = { "boot_grace", boot_grace_holds, "The host has only just booted." },
        [BRAKE_COOLDOWN] = { "cooldown", cooldown_holds, "The last incident of this host is too recent." },
        [BRAKE_OFF] = { "off", off_holds,
                "The tag ecs-health-agent on group or cluster says off, or something that is not "
                "understood." },
        [BRAKE_GROUP] = { "group", group_holds,
                "The group is busy, suspended or operated by another service, or the instance is not "
                "InService." },
        [BRAKE_SHARE] = { "share", share_holds,
                "Too many others are disconnected too, or their number still moves: this is not one host's "
                "fault." },
        [BRAKE_SETTLE] = { "settle", settle_holds,
                "An outage of many has only just ended; slow reconnectors get time." },
        [BRAKE_PATH] = { "path", path_holds,
                "Too few peers are connected, and our own way to the control plane does not show the "
                "network to be fine." },
        [BRAKE_BUDGET] = { "budget", budget_holds,
                "The group, or the cluster, has lost as many instances lately as it may." },
        [BRAKE_LOOP] = { "loop", loop_holds,
                "The group has lost as many instances in 24 hours as it may, or this one has only just "
                "replaced "
                "another: replacing is not helping." },
        [BRAKE_REPLACEMENT] = { "replacement", replacement_holds,
                "The instance that replaces the last one removed is not connected yet, or the group's "
                "newest "
                "launch failed." },
        [BRAKE_TURN] = { "turn", turn_holds, "It is the turn of another disconnected instance." },
        [BRAKE_BLIND] = { "blind", blind_holds,
                "Something that must be known before acting could not be read." },
};

BrakeSet brakes_ask(const BrakeInput *input, Mono *until) {
        BrakeSet set = 0;

        for (unsigned i = 0; i < BRAKE_N; i++) {
                Mono end = MONO_NEVER;

                if (brake_table[i].holds(input, &end))
                        set |= 1u << i;
                if (until)
                        until[i] = end;
        }
        return set;
}

bool brake_population_holds(const Population *population, int64_t max_sick) {
        if (population->sick >= 2 && population->sick >= population->members)
                return true;
        return population->sick > 2 && (uint64_t) population->sick * SHARE_WHOLE >
                                               (uint64_t) population->members * (uint64_t) max_sick;
}

bool brake_share_holds(const Look *look, int64_t max_sick) {
        return look->more_than_a_page || brake_population_holds(&look->cluster, max_sick) ||
               brake_population_holds(&look->group, max_sick) ||
               brake_population_holds(&look->zone, max_sick);
}

/* @given: the settings' word; @least and @most bound what @share says where they have none. */
static uint32_t share_of(const Amount *given, uint32_t size, int64_t share, uint32_t least, uint32_t most) {
        uint64_t n;

        if (given->count >= 0)
                return (uint32_t) given->count;
        n = (uint64_t) size * (uint64_t) (given->share >= 0 ? given->share : share) / SHARE_WHOLE;
        if (given->share < 0 && n > most)
                n = most;
        return n > least ? (uint32_t) n : least;
}

uint32_t brake_budget(const Policy *policy, uint32_t size, bool weighted) {
        if (weighted)
                return 1; /* desired capacity does not count instances then */
        return share_of(&policy->max_actions, size, BUDGET_SHARE, 1, BUDGET_MAX);
}

uint32_t brake_day_budget(const Policy *policy, uint32_t size, bool weighted) {
        uint32_t least = policy->max_per_day.share >= 0 ? 1 : DAY_MIN;

        return share_of(&policy->max_per_day, weighted ? 0 : size, DAY_SHARE, least, UINT32_MAX);
}
