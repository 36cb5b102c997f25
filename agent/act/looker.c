/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Makes a Look: a chain of reads, each asked for from the answer to the one before.
 *
 *   metadata service   own lifecycle state, spot notice          a state other than InService ends the look
 *   ECS                where our ARN is not known, ourselves by our EC2 id
 *                      one page of instances that are disconnected or claimed   more than a page ends it
 *                      that page and ourselves; the cluster
 *   Auto Scaling       membership of the page's instances        in no group, not InService, or share by the cluster's
 *                                                                numbers ends it
 *                      own group; its refreshes; its activities
 *   ECS                the group's newest replacement            only where it is not known yet to have connected
 *
 * Share cannot be judged without the first Auto Scaling read, unless there is more than a page: a disconnected instance
 * that is in no group, an orphan or the registration that a terminated one has left behind, counts neither way, and ECS
 * does not tell these apart. So that read comes first, in at most two calls, and the group's own only if share allows.
 *
 * An instance is claimed when its attributes say that it is being removed, by its own agent or by a patrol. Claimed ones
 * are read also while connected: one that reconnects between its last look and its detach is removed all the same,
 * and must count in the ledger.
 *
 * "We" and "own" below are the look's subject: ourselves, or the peer whom patrol looks at. Its own claims do not count.
 */

#include "agent/act/looker.h"

#include <string.h>

#include "agent/act/autoscaling.h"
#include "agent/act/ecs.h"
#include "agent/decide/turn.h"
#include "common/json.h"
#include "common/loop.h"
#include "common/parse.h"

#define LOOK_PAGE_MAX           100 /* of ListContainerInstances and DescribeContainerInstances */
#define LOOK_BATCH_MAX          50  /* of DescribeAutoScalingInstances */
#define LOOK_SCALING_CALLS_MAX  5   /* a second batch comes on top */
#define LOOK_ACTIVITY_PAGES_MAX 3   /* the limit of calls leaves two */
#define LOOK_LEDGER_MAX         512 /* removed instances that are told apart */
#define LOOK_MOVES_MAX          512 /* launches and departures; three pages hold 300 activities */
#define LOOK_ZONES_MAX          16

/* A page of 100 with their attributes and resources: some 10 KB each. */
#define LOOK_ECS_ANSWER_MAX   ((size_t) 4 * 1024 * 1024)
#define LOOK_ECS_BODY_MAX     ((size_t) 64 * 1024)
#define LOOK_SCALING_BODY_MAX ((size_t) 16 * 1024)
#define LOOK_TOKEN_MAX        8192

/* A peer that is claimed and in no group may have left ours so lately that the activities do not show it yet. */
#define LOOK_ACTIVITY_LAG SPAN_MIN(5)

/* A launch that has not begun so long after a removal is not to come; and so long an instance is a young one. */
#define LOOK_YOUTH SPAN_HOUR(1)
/* The slow lane counts the cluster's removals in this time. */
#define LOOK_LANE SPAN_HOUR(1)

/* Cluster query language. The second where the first is refused: it misses claimed ones that are connected. */
#define LOOK_FILTER                                                                                         \
        "agentConnected == false or attribute:" ECS_ATTRIBUTE_INCIDENT                                      \
        " exists or attribute:" ECS_ATTRIBUTE_PATROL " exists"
#define LOOK_FILTER_PLAIN "agentConnected==false"

/** Ourselves (the first), or a container instance that counts at ECS and is disconnected or claimed. */
typedef struct Peer {
        char id[64]; /* of the EC2 instance */
        bool disconnected;
        bool claimed;
        Wall claimed_at; /* WALL_NEVER: cannot be read */
        uint64_t group;  /* turn_id() of its group, as its attributes say; 0: they do not */
        bool in_group;   /* of any group */
        bool in_service;
        bool ours;    /* of our own group */
        bool in_zone; /* in our own zone */
} Peer;

typedef struct Removed {
        char id[64]; /* "" if not known */
        Wall at;
        bool ours; /* of our group; else of the cluster, as far as we know */
} Removed;

/** A launch, or the way out of service. */
typedef struct Move {
        char id[64];
        Wall start;
        bool launch, failed, over;
} Move;

struct Looker {
        sd_event *event;
        Aws *aws;
        Imds *imds;

        Target target;
        Policy policy;
        bool whole;
        char finders_group[256]; /* a peer's look: the group of who looks */
        LookDone done;
        void *userdata;
        bool busy;

        ImdsCall *imds_call;
        AwsCall *call; /* the one under way */
        LookPart part; /* what it belongs to */
        const char *action;
        unsigned scaling_calls, activity_pages;
        Wall since; /* of which activities are asked for */

        Look look;
        uint32_t registered;    /* at ECS: ACTIVE and DRAINING */
        uint32_t not_described; /* disconnected, but there was no room to ask about them */
        uint32_t ghosts;        /* disconnected and surely no EC2 instance of a group */
        Peer peers[LOOK_PAGE_MAX];
        unsigned n_peers, n_members_asked;
        char group[256], zone[64]; /* our own, as Auto Scaling says */
        char zones[LOOK_ZONES_MAX][64];
        unsigned n_zones;
        Removed removed[LOOK_LEDGER_MAX];
        unsigned n_removed;
        Move moves[LOOK_MOVES_MAX];
        unsigned n_moves;
        Wall replaced_at;   /* the last removal that a launch follows; WALL_NEVER: none */
        char connected[64]; /* the replacement that has been seen connected; kept from look to look */
        char asked[64];     /* the one that ECS is being asked about */
};

/* -- beginning and end of a look, and of each read ------------------------------------------------------ */

static Wall looker_wall(const Looker *looker) {
        return aws_wall(looker->aws, loop_now(looker->event).wall);
}

/** Hands the look over. The callback may start another one or free us: nothing is touched afterwards. */
static void look_end(Looker *looker, Outcome outcome, const AwsAnswer *answer) {
        AwsCall *call = steal_ptr(looker->call);
        ImdsCall *imds_call = steal_ptr(looker->imds_call);
        Look look;

        looker->look.outcome = outcome;
        /* With what the header cuts off, and what has passed since. */
        if (wall_is_set(looker->look.server_time))
                looker->look.server_time = looker_wall(looker);
        if (outcome != OUTCOME_OK) {
                looker->look.failed = looker->part;
                (void) snprintf(looker->look.action, sizeof(looker->look.action), "%s", looker->action);
        }
        look = looker->look;
        looker->busy = false;
        looker->done(&look, outcome == OUTCOME_OK ? NULL : answer, looker->userdata);
        /* They lend what the callback reads, so they go last. */
        (void) aws_call_free(call);
        (void) imds_call_free(imds_call);
}

/** Sends the next read. The answer of the read before is gone afterwards. Return: 0 or what aws_call() said. */
static int look_send(
        Looker *looker, AwsService service, const char *action, JsonWriter *body, AwsDone answered) {
        AwsCall *call = NULL;
        int r = body->error;

        looker->part = service == AWS_ECS ? LOOK_ECS : LOOK_AUTO_SCALING;
        looker->action = action;
        if (service == AWS_AUTO_SCALING)
                looker->scaling_calls++;
        if (r >= 0)
                r = aws_call(looker->aws,
                        &(AwsRequest){ .service = service,
                                .action = action,
                                .body = body->text,
                                .n_body = body->n,
                                .yield = true,
                                .max_answer = service == AWS_ECS ? LOOK_ECS_ANSWER_MAX : 0 },
                        answered, looker, &call);
        if (r < 0)
                return r;
        (void) aws_call_free(looker->call);
        looker->call = call;
        return 0;
}

/** As look_send(); if it cannot be done, the look ends. */
static void look_ask(
        Looker *looker, AwsService service, const char *action, JsonWriter *body, AwsDone answered) {
        if (look_send(looker, service, action, body, answered) < 0)
                look_end(looker, OUTCOME_UNAVAILABLE, NULL);
}

/** Return: whether the read has succeeded; else the look is over. */
static bool look_answered(Looker *looker, const AwsAnswer *answer) {
        Outcome outcome = ecs_outcome(answer, false);

        if (wall_is_set(answer->server_time))
                looker->look.server_time = answer->server_time;
        if (outcome == OUTCOME_OK)
                return true;
        look_end(looker, outcome, answer);
        return false;
}

static void look_blind(Looker *looker, const AwsAnswer *answer) {
        look_end(looker, OUTCOME_BLIND, answer);
}

/* -- Auto Scaling: activities --------------------------------------------------------------------------- */

static void removed_add(Looker *looker, const char *id, Wall at, bool ours) {
        if (strcmp(id, looker->target.instance_id) == 0)
                return;
        for (unsigned i = 0; *id && i < looker->n_removed; i++)
                if (strcmp(looker->removed[i].id, id) == 0) {
                        if (wall_before(looker->removed[i].at, at))
                                looker->removed[i].at = at;
                        looker->removed[i].ours |= ours;
                        return;
                }
        if (looker->n_removed == LOOK_LEDGER_MAX) {
                looker->look.ledger_full = true;
                return;
        }
        (void) snprintf(looker->removed[looker->n_removed].id, sizeof(looker->removed[0].id), "%s", id);
        looker->removed[looker->n_removed].ours = ours;
        looker->removed[looker->n_removed++].at = at;
}

static void move_add(Looker *looker, const Activity *activity) {
        Move *move = &looker->moves[looker->n_moves];

        if (!activity->launch && !activity->leaves)
                return;
        if (looker->n_moves == LOOK_MOVES_MAX) {
                looker->look.ledger_full = true;
                return;
        }
        *move = (Move){ .start = activity->start,
                .launch = activity->launch,
                .failed = activity->failed,
                .over = activity->over };
        (void) snprintf(move->id, sizeof(move->id), "%s", activity->instance_id);
        looker->n_moves++;
}

static void removed_add_claimed(Looker *looker, Wall now) {
        for (unsigned i = 0; i < looker->n_peers; i++) {
                const Peer *peer = &looker->peers[i];
                Wall at = wall_is_set(peer->claimed_at) ? peer->claimed_at : now;
                bool late = wall_since(now, at) >= LOOK_ACTIVITY_LAG;
                bool out = !peer->in_group &&
                           (peer->group != 0 ? peer->group == turn_id(looker->group) : !late);
                bool ours = peer->ours || out;

                if (!peer->claimed || i == 0)
                        continue;
                removed_add(looker, peer->id, at, ours);
                /* Its detach has only just begun, or is only just over: no activity tells of it yet. */
                if (ours && !late && wall_before(looker->replaced_at, at))
                        looker->replaced_at = at;
        }
}

/** Who is counted, for those that remember as well. */
static void list_removed(Looker *looker, Wall now, bool ours) {
        Look *look = &looker->look;

        for (unsigned i = 0; i < looker->n_removed; i++) {
                const Removed *removed = &looker->removed[i];

                if (removed->ours == ours && *removed->id && look->n_removed < LOOK_REMOVED_MAX &&
                        wall_since(now, removed->at) < looker->policy.window)
                        look->removed[look->n_removed++] = turn_id(removed->id);
        }
}

static void count_removed(Looker *looker, Wall now) {
        Look *look = &looker->look;
        Span window = looker->policy.window;

        for (unsigned i = 0; i < looker->n_removed; i++) {
                const Removed *removed = &looker->removed[i];
                Span age = wall_since(now, removed->at);
                Wall frees = wall_add(removed->at, window);

                look->removed_window += removed->ours && age < window;
                look->removed_day += removed->ours && age < SPAN_DAY(1);
                look->removed_cluster += age < window;
                look->removed_hour += age < LOOK_LANE;
                if (age < window &&
                        (!wall_is_set(look->window_frees) || wall_before(frees, look->window_frees)))
                        look->window_frees = frees;
        }
        list_removed(looker, now, true);
        look->n_removed_ours = look->n_removed;
        list_removed(looker, now, false);
}

/* Launched within an hour after a removal, and less than an hour ago: replacing does not seem to help. */
static bool are_we_young(const Looker *looker, Wall now) {
        for (unsigned i = 0; i < looker->n_moves; i++) {
                const Move *move = &looker->moves[i];

                if (!move->launch || strcmp(move->id, looker->target.instance_id) != 0 ||
                        wall_since(now, move->start) >= LOOK_YOUTH)
                        continue;
                for (unsigned k = 0; k < looker->n_removed; k++) {
                        Span after = wall_since(move->start, looker->removed[k].at);

                        if (looker->removed[k].ours && after >= 0 && after < LOOK_YOUTH)
                                return true;
                }
        }
        return false;
}

static const Move *newest_launch(const Looker *looker) {
        const Move *newest = NULL;

        for (unsigned i = 0; i < looker->n_moves; i++)
                if (looker->moves[i].launch &&
                        (!newest || wall_before(newest->start, looker->moves[i].start)))
                        newest = &looker->moves[i];
        return newest;
}

/** The first launch after the last removal. */
static const Move *replacing_launch(const Looker *looker) {
        const Move *first = NULL;

        for (unsigned i = 0; i < looker->n_moves; i++) {
                const Move *move = &looker->moves[i];

                if (move->launch && !move->failed && !wall_before(move->start, looker->replaced_at) &&
                        (!first || wall_before(move->start, first->start)))
                        first = move;
        }
        return first;
}

static bool has_left(const Looker *looker, const Move *launch) {
        for (unsigned i = 0; i < looker->n_moves; i++) {
                const Move *move = &looker->moves[i];

                if (!move->launch && strcmp(move->id, launch->id) == 0 &&
                        !wall_before(move->start, launch->start))
                        return true;
        }
        return false;
}

static Peer *peer_find(Looker *looker, const char *id);

/** Return: what is known without a further question; positive if ECS must be asked about looker->asked. */
static int judge_replacement(Looker *looker, Wall now, Replacement *ret) {
        const Move *newest = newest_launch(looker), *launch = replacing_launch(looker);
        const Peer *peer = NULL;
        bool fresh;

        *ret = REPLACEMENT_NONE;
        if (newest && newest->failed) {
                *ret = REPLACEMENT_FAILED;
                return 0;
        }
        if (!wall_is_set(looker->replaced_at) || (launch && has_left(looker, launch)))
                return 0;
        fresh = wall_since(now, launch ? launch->start : looker->replaced_at) < LOOK_YOUTH;
        if (!launch || !launch->over || !ecs_is_instance_id(launch->id)) {
                *ret = fresh ? REPLACEMENT_PENDING : REPLACEMENT_NONE;
                return 0;
        }
        /* One that has registered and is disconnected later on is ill, like us, and counts as such. */
        peer = peer_find(looker, launch->id);
        if (peer && peer->disconnected) {
                *ret = fresh ? REPLACEMENT_PENDING : REPLACEMENT_CONNECTED;
                return 0;
        }
        if (peer || strcmp(looker->connected, launch->id) == 0) {
                *ret = REPLACEMENT_CONNECTED;
                return 0;
        }
        (void) snprintf(looker->asked, sizeof(looker->asked), "%s", launch->id);
        return 1;
}

static void ask_replacement(Looker *looker);

static void look_finish(Looker *looker) {
        Wall now = looker_wall(looker);

        removed_add_claimed(looker, now);
        count_removed(looker, now);
        looker->look.young = are_we_young(looker, now);
        if (judge_replacement(looker, now, &looker->look.replacement) > 0)
                ask_replacement(looker);
        else
                look_end(looker, OUTCOME_OK, NULL);
}

static void ask_activities(Looker *looker, const char *token);

/** Return: 0; positive if it reaches back further than we ask; -EBADMSG. */
static int read_activities(Looker *looker, const XmlNode *list) {
        Wall now = looker_wall(looker);
        bool older = false;

        xml_for_each(member, list, "member") {
                Activity activity;

                if (autoscaling_read_activity(member, &activity) < 0)
                        return -EBADMSG;
                if (activity.scaling_in)
                        looker->look.group_state |= GROUP_MOVING;
                if (wall_since(now, activity.start) >= SPAN_DAY(1)) {
                        older = true;
                        continue;
                }
                if (activity.removal != REMOVAL_NONE)
                        removed_add(looker, activity.instance_id, activity.start, true);
                if (activity.replaced && strcmp(activity.instance_id, looker->target.instance_id) != 0 &&
                        wall_before(looker->replaced_at, activity.start))
                        looker->replaced_at = activity.start;
                move_add(looker, &activity);
        }
        return older;
}

static void activities_answered(const AwsAnswer *answer, void *userdata) {
        Looker *looker = userdata;
        const XmlNode *result = NULL, *list = NULL;
        const char *token = NULL;
        unsigned calls_max = LOOK_SCALING_CALLS_MAX + (looker->n_peers > LOOK_BATCH_MAX);
        int r;

        if (!look_answered(looker, answer))
                return;
        result = xml_child(answer->xml, "DescribeScalingActivitiesResult");
        list = xml_child(result, "Activities");
        r = list ? read_activities(looker, list) : -EBADMSG;
        if (r < 0) {
                look_blind(looker, answer);
                return;
        }
        token = xml_text(result, "NextToken");
        /* The newest come first: beyond the first that is too old there is nothing for us. */
        if (r == 0 && token && *token) {
                if (looker->activity_pages < LOOK_ACTIVITY_PAGES_MAX && looker->scaling_calls < calls_max &&
                        strlen(token) < LOOK_TOKEN_MAX) {
                        ask_activities(looker, token);
                        return;
                }
                looker->look.ledger_full = true;
        }
        look_finish(looker);
}

/** @token: NULL for the first page */
static void ask_activities(Looker *looker, const char *token) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        char time[FORMAT_TIME_MAX];

        /* All pages must ask for the same: the service refuses a token with other filters. */
        if (!token)
                looker->since = wall_add(looker_wall(looker), -SPAN_DAY(1));
        json_writer_init(&body, LOOK_SCALING_BODY_MAX);
        aws_query_append(&body, "AutoScalingGroupName", looker->group);
        aws_query_append(&body, "Filters.member.1.Name", "StartTimeLowerBound");
        aws_query_append(&body, "Filters.member.1.Values.member.1", format_rfc3339(time, looker->since));
        aws_query_append(&body, "MaxRecords", "100");
        if (token)
                aws_query_append(&body, "NextToken", token);
        looker->activity_pages++;
        look_ask(looker, AWS_AUTO_SCALING, "DescribeScalingActivities", &body, activities_answered);
}

/* -- Auto Scaling: instance refreshes ------------------------------------------------------------------- */

static void refreshes_answered(const AwsAnswer *answer, void *userdata) {
        static const char *const under_way[] = { "Pending", "InProgress", "Cancelling", "RollbackInProgress",
                "Baking" };
        Looker *looker = userdata;
        const XmlNode *list = NULL;

        if (!look_answered(looker, answer))
                return;
        list = xml_find(answer->xml, "DescribeInstanceRefreshesResult/InstanceRefreshes");
        if (!list) {
                look_blind(looker, answer);
                return;
        }
        xml_for_each(member, list, "member") {
                const char *status = xml_text(member, "Status");

                if (!status) {
                        look_blind(looker, answer);
                        return;
                }
                for (size_t i = 0; i < ELEMENTSOF(under_way); i++)
                        if (strcmp(status, under_way[i]) == 0)
                                looker->look.group_state |= GROUP_REFRESHING;
        }
        ask_activities(looker, NULL);
}

static void ask_refreshes(Looker *looker) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, LOOK_SCALING_BODY_MAX);
        aws_query_append(&body, "AutoScalingGroupName", looker->group);
        aws_query_append(&body, "MaxRecords", "10"); /* there is one at a time, and the newest come first */
        look_ask(looker, AWS_AUTO_SCALING, "DescribeInstanceRefreshes", &body, refreshes_answered);
}

/* -- Auto Scaling: own group ---------------------------------------------------------------------------- */

static void zone_add(Looker *looker, const char *zone) {
        for (unsigned i = 0; i < looker->n_zones; i++)
                if (strcmp(looker->zones[i], zone) == 0)
                        return;
        if (*zone && looker->n_zones < LOOK_ZONES_MAX)
                (void) snprintf(looker->zones[looker->n_zones++], sizeof(looker->zones[0]), "%s", zone);
}

static void read_suspended(Looker *looker, const XmlNode *group) {
        static const char *const needed[] = { "Launch", "Terminate", "HealthCheck", "ReplaceUnhealthy" };

        xml_for_each(member, xml_child(group, "SuspendedProcesses"), "member") {
                const char *name = xml_text(member, "ProcessName");

                for (size_t i = 0; name && i < ELEMENTSOF(needed); i++)
                        if (strcmp(name, needed[i]) == 0)
                                looker->look.group_state |= GROUP_SUSPENDED;
        }
}

static void read_state(Looker *looker, const XmlNode *group) {
        const XmlNode *operated = xml_child(group, "Operator");
        const char *status = xml_text(group, "Status"), *managed = xml_text(operated, "Managed");

        read_suspended(looker, group);
        if (status && *status)
                looker->look.group_state |= GROUP_DELETING;
        if (operated && !(managed && strcmp(managed, "false") == 0))
                looker->look.group_state |= GROUP_OPERATED;
}

static void read_group_tag(Looker *looker, const XmlNode *group) {
        xml_for_each(member, xml_child(group, "Tags"), "member") {
                const char *key = xml_text(member, "Key"), *value = xml_text(member, "Value");

                if (key && strcmp(key, "ecs-health-agent") == 0)
                        looker->look.tag_group = ecs_switch_from_string(value ? value : "");
        }
}

/**
 * The populations of group and zone, once the group is known.
 *
 * ECS tells the zones of the disconnected instances only, so the zone's members are estimated: the cluster's
 * in equal parts over all zones that we have heard of, which are our group's and those of the sick. Where the
 * cluster is in further zones the estimate is too large, that is too lenient; but then our group is in few
 * zones, and what befalls a whole zone befalls a large share of the group, which is counted and not estimated.
 */
static void count_group(Looker *looker) {
        Look *look = &looker->look;
        uint32_t n = looker->n_zones > 0 ? looker->n_zones : 1;

        /* A cluster that holds fewer instances than our group lacks at least so many of it: others like us. */
        if (!*looker->target.arn && look->group_size > looker->registered)
                look->group.sick += look->group_size - looker->registered;
        look->group.members = look->group_size > look->group.sick ? look->group_size : look->group.sick;
        look->zone.members = look->cluster.members / n + (look->cluster.members % n > 0);
        if (look->zone.members < look->zone.sick)
                look->zone.members = look->zone.sick;
}

static void group_answered(const AwsAnswer *answer, void *userdata) {
        Looker *looker = userdata;
        const XmlNode *group = NULL;
        const char *name = NULL;

        if (!look_answered(looker, answer))
                return;
        group = xml_find(answer->xml, "DescribeAutoScalingGroupsResult/AutoScalingGroups/member");
        name = xml_text(group, "AutoScalingGroupName");
        if (!name || strcmp(name, looker->group) != 0 ||
                autoscaling_read_size(group, &looker->look.group_size, &looker->look.group_weighted) < 0) {
                look_blind(looker, answer);
                return;
        }
        read_state(looker, group);
        read_group_tag(looker, group);
        xml_for_each(member, xml_child(group, "AvailabilityZones"), "member") {
                zone_add(looker, member->text);
        }
        count_group(looker);
        ask_refreshes(looker);
}

static void ask_group(Looker *looker) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, LOOK_SCALING_BODY_MAX);
        aws_query_append(&body, "AutoScalingGroupNames.member.1", looker->group);
        aws_query_append(&body, "IncludeInstances", "false");
        look_ask(looker, AWS_AUTO_SCALING, "DescribeAutoScalingGroups", &body, group_answered);
}

/* -- Auto Scaling: membership --------------------------------------------------------------------------- */

static void ask_members(Looker *looker);

/** The sick and those that are out, by name; our own group's sick first. */
static void list_sick(Looker *looker, bool ours) {
        Look *look = &looker->look;

        for (unsigned i = 0; i < looker->n_peers; i++) {
                const Peer *peer = &looker->peers[i];

                if (!peer->disconnected || peer->ours != ours)
                        continue;
                if (peer->in_service)
                        look->sick[look->n_sick++] = turn_id(peer->id);
                else if (i > 0)
                        look->outside[look->n_outside++] = turn_id(peer->id);
        }
        if (ours)
                look->n_sick_ours = look->n_sick;
}

/** The populations that need no more than the membership of the disconnected. */
static void count_cluster(Looker *looker) {
        Look *look = &looker->look;
        uint32_t strays = looker->ghosts;

        look->cluster.sick = looker->not_described;
        for (unsigned i = 0; i < looker->n_peers; i++) {
                const Peer *peer = &looker->peers[i];

                if (!peer->disconnected)
                        continue;
                if (!peer->in_service) {
                        strays++;
                        continue;
                }
                look->cluster.sick++;
                look->group.sick += peer->ours;
                look->zone.sick += peer->in_zone;
        }
        look->cluster.members = looker->registered > strays ? looker->registered - strays : 0;
        if (look->cluster.members < look->cluster.sick)
                look->cluster.members = look->cluster.sick;
}

static void judge_members(Looker *looker) {
        Look *look = &looker->look;

        count_cluster(looker);
        list_sick(looker, true);
        list_sick(looker, false);
        if (look->lifecycle == LIFECYCLE_IN_SERVICE) {
                look->share_decided =
                        !looker->whole && brake_population_holds(&look->cluster, looker->policy.max_sick);
                if (!look->share_decided) {
                        ask_group(looker);
                        return;
                }
        }
        /* Of group and zone only the sick are known, which says nothing. */
        look->group = look->zone = (Population){};
        look_end(looker, OUTCOME_OK, NULL);
}

static int read_own_membership(Looker *looker, const XmlNode *list) {
        looker->look.lifecycle = LIFECYCLE_NO_GROUP;
        xml_for_each(member, list, "member") {
                const char *id = xml_text(member, "InstanceId"), *state = xml_text(member, "LifecycleState");
                const char *group = xml_text(member, "AutoScalingGroupName");
                const char *zone = xml_text(member, "AvailabilityZone");

                if (!id || strcmp(id, looker->target.instance_id) != 0)
                        continue;
                if (!state || !group || !*group || strlen(group) >= sizeof(looker->group))
                        return -EBADMSG;
                looker->look.lifecycle = lifecycle_from_string(state);
                looker->look.unhealthy = autoscaling_is_unhealthy(member);
                looker->look.another_group =
                        looker->look.of_peer && strcmp(group, looker->finders_group) != 0;
                (void) snprintf(looker->group, sizeof(looker->group), "%s", group);
                (void) snprintf(looker->zone, sizeof(looker->zone), "%s", zone ? zone : looker->target.zone);
                return 0;
        }
        return 0;
}

static Peer *peer_find(Looker *looker, const char *id) {
        for (unsigned i = 0; i < looker->n_peers; i++)
                if (strcmp(looker->peers[i].id, id) == 0)
                        return &looker->peers[i];
        return NULL;
}

static int read_members(Looker *looker, const XmlNode *list) {
        xml_for_each(member, list, "member") {
                const char *id = xml_text(member, "InstanceId"), *state = xml_text(member, "LifecycleState");
                const char *group = xml_text(member, "AutoScalingGroupName");
                const char *zone = xml_text(member, "AvailabilityZone");
                Peer *peer;

                if (!id || !state || !group)
                        return -EBADMSG;
                peer = peer_find(looker, id);
                if (!peer)
                        continue;
                peer->in_group = true;
                peer->in_service = lifecycle_from_string(state) == LIFECYCLE_IN_SERVICE;
                peer->ours = strcmp(group, looker->group) == 0;
                /* Where a zone is not known, it may be the same. */
                peer->in_zone = !zone || !*looker->zone || strcmp(zone, looker->zone) == 0;
                zone_add(looker, zone ? zone : "");
        }
        return 0;
}

static void members_answered(const AwsAnswer *answer, void *userdata) {
        Looker *looker = userdata;
        const XmlNode *result = NULL, *list = NULL;
        const char *token = NULL;
        int r;

        if (!look_answered(looker, answer))
                return;
        result = xml_child(answer->xml, "DescribeAutoScalingInstancesResult");
        list = xml_child(result, "AutoScalingInstances");
        token = xml_text(result, "NextToken");
        /* An answer that is not whole would make sick ones look like orphans. */
        r = !list || (token && *token) ? -EBADMSG : 0;
        if (r >= 0 && looker->scaling_calls == 1)
                r = read_own_membership(looker, list);
        if (r >= 0)
                r = read_members(looker, list);
        if (r < 0) {
                look_blind(looker, answer);
                return;
        }
        if (looker->look.another_group)
                look_end(looker, OUTCOME_OK, NULL); /* not for us to judge */
        else if (looker->n_members_asked < looker->n_peers)
                ask_members(looker);
        else
                judge_members(looker);
}

/** The next batch; the first holds ourselves. */
static void ask_members(Looker *looker) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        char name[64];

        json_writer_init(&body, LOOK_SCALING_BODY_MAX);
        for (unsigned i = 1; i <= LOOK_BATCH_MAX && looker->n_members_asked < looker->n_peers; i++) {
                (void) snprintf(name, sizeof(name), "InstanceIds.member.%u", i);
                aws_query_append(&body, name, looker->peers[looker->n_members_asked++].id);
        }
        look_ask(looker, AWS_AUTO_SCALING, "DescribeAutoScalingInstances", &body, members_answered);
}

/* -- ECS: the disconnected and the claimed, and ourselves --------------------------------------------------------------- */

/** Of an ARN, old or new format, the part that is the same in both. */
static const char *arn_id(const char *arn) {
        const char *slash = strrchr(arn, '/');

        return slash ? slash + 1 : arn;
}

static bool is_own_arn(const Looker *looker, const char *arn) {
        return *looker->target.arn && strcmp(arn_id(arn), arn_id(looker->target.arn)) == 0;
}

/** Whether ECS counts it among the registered. A status that we do not know counts, to be on the safe side. */
static bool is_counted(ControlStatus status) {
        switch (status) {
        case CONTROL_ACTIVE:
        case CONTROL_DRAINING:
        case CONTROL_UNKNOWN: return true;
        case CONTROL_REGISTERING:
        case CONTROL_DEREGISTERING:
        case CONTROL_INACTIVE:
        case CONTROL_MISSING: return false;
        }
        return true;
}

/** Since when it is claimed: the newer of its own mark and patrol's. */
static Wall claimed_at(const Confirmation *is) {
        return wall_before(is->marked_at, is->patrolled_at) ? is->patrolled_at : is->marked_at;
}

static int peer_add(Looker *looker, const char *id, Peer **ret) {
        if (looker->n_peers == LOOK_PAGE_MAX)
                return -EBADMSG;
        *ret = &looker->peers[looker->n_peers++];
        (void) snprintf((*ret)->id, sizeof((*ret)->id), "%s", id);
        return 0;
}

/** One of the page that is not ourselves. */
static int read_peer(Looker *looker, const cJSON *instance, const Confirmation *is) {
        bool claimed = is->marked || is->patrolled;
        const char *id = NULL;
        Peer *peer = NULL;
        int r;

        if (is->connected && !claimed)
                return 0;
        /* External instances have other ids and are in no group. One that is registered twice counts once. */
        if (json_get_string(instance, "ec2InstanceId", &id) < 0 || !ecs_is_instance_id(id) ||
                peer_find(looker, id)) {
                looker->ghosts += !is->connected;
                return 0;
        }
        r = peer_add(looker, id, &peer);
        if (r < 0)
                return r;
        peer->disconnected = !is->connected;
        peer->claimed = claimed;
        peer->claimed_at = claimed_at(is);
        peer->group = ecs_read_group(instance);
        return 0;
}

static int read_instance(Looker *looker, const cJSON *instance) {
        Confirmation is;
        const char *arn = NULL;

        if (json_get_string(instance, "containerInstanceArn", &arn) < 0 ||
                ecs_read_confirmation(instance, &is) < 0)
                return -EBADMSG;
        if (!is_own_arn(looker, arn))
                return is_counted(is.status) ? read_peer(looker, instance, &is) : 0;
        if (ecs_is_another(instance, &looker->target))
                return -EBADMSG;
        looker->look.own = is;
        looker->peers[0].disconnected = !is.connected && is_counted(is.status);
        return 0;
}

/** Those that ECS does not know any more. Of these only we ourselves matter. */
static int read_missing(Looker *looker, const cJSON *failures) {
        const cJSON *failure = NULL;
        const char *arn = NULL, *reason = NULL;

        cJSON_ArrayForEach(failure, failures) {
                if (json_get_string(failure, "arn", &arn) < 0 ||
                        json_get_string(failure, "reason", &reason) < 0 || strcmp(reason, "MISSING") != 0)
                        return -EBADMSG;
                if (is_own_arn(looker, arn))
                        looker->look.own =
                                (Confirmation){ .outcome = OUTCOME_OK, .status = CONTROL_MISSING };
        }
        return 0;
}

static int read_instances(Looker *looker, const AwsAnswer *answer) {
        const cJSON *instances = NULL, *failures = NULL, *instance = NULL;
        int r;

        if (json_get_array(answer->json, "containerInstances", &instances) < 0)
                return -EBADMSG;
        cJSON_ArrayForEach(instance, instances) {
                r = read_instance(looker, instance);
                if (r < 0)
                        return r;
        }
        if (json_get_array(answer->json, "failures", &failures) >= 0) {
                r = read_missing(looker, failures);
                if (r < 0)
                        return r;
        }
        if (*looker->target.arn && looker->look.own.outcome != OUTCOME_OK)
                return -EBADMSG; /* not a word about ourselves */
        looker->look.own.server_time = answer->server_time;
        return 0;
}

static void count_connected(Looker *looker) {
        const Confirmation *own = &looker->look.own;
        uint32_t others = looker->not_described + looker->ghosts;

        for (unsigned i = 0; i < looker->n_peers; i++)
                others += looker->peers[i].disconnected;
        others += own->outcome == OUTCOME_OK && own->connected; /* we are no peer of ours */
        looker->look.connected_peers = looker->registered > others ? looker->registered - others : 0;
}

/* There are at least so many; how many more, of how many, is not worth a call. In an outage of a region everybody gets here, and
 * the quota of such reads is the account's. */
static void end_with_full_page(Looker *looker) {
        looker->look.more_than_a_page = looker->look.share_decided = true;
        looker->look.cluster.sick = LOOK_PAGE_MAX;
        look_end(looker, OUTCOME_OK, NULL);
}

static void ask_cluster(Looker *looker);

static void instances_answered(const AwsAnswer *answer, void *userdata) {
        Looker *looker = userdata;

        if (!look_answered(looker, answer))
                return;
        if (read_instances(looker, answer) < 0)
                look_blind(looker, answer);
        else
                ask_cluster(looker);
}

/** @arns: of the page */
static void ask_instances(Looker *looker, const cJSON *arns) {
        _cleanup_(json_writer_done) JsonWriter body = {};
        const cJSON *arn = NULL;
        unsigned n = 1; /* the place of ourselves is kept */

        json_writer_init(&body, LOOK_ECS_BODY_MAX);
        json_begin_object(&body, NULL);
        json_string(&body, "cluster", looker->target.cluster);
        json_begin_array(&body, "containerInstances");
        if (*looker->target.arn)
                json_string(&body, NULL, looker->target.arn);
        cJSON_ArrayForEach(arn, arns) {
                if (is_own_arn(looker, arn->valuestring))
                        continue;
                if (n == LOOK_PAGE_MAX) {
                        looker->not_described++;
                        continue;
                }
                json_string(&body, NULL, arn->valuestring);
                n++;
        }
        json_end_array(&body);
        json_end_object(&body);
        look_ask(looker, AWS_ECS, "DescribeContainerInstances", &body, instances_answered);
}

static bool are_strings(const cJSON *array) {
        const cJSON *item = NULL;

        cJSON_ArrayForEach(item, array) {
                if (!cJSON_IsString(item) || !*item->valuestring)
                        return false;
        }
        return true;
}

static void list_answered(const AwsAnswer *answer, void *userdata) {
        Looker *looker = userdata;
        const cJSON *arns = NULL;
        const char *token = NULL;

        if (!look_answered(looker, answer))
                return;
        if (json_get_array(answer->json, "containerInstanceArns", &arns) < 0 || !are_strings(arns) ||
                cJSON_GetArraySize(arns) > LOOK_PAGE_MAX) {
                look_blind(looker, answer);
                return;
        }
        if (json_get_string(answer->json, "nextToken", &token) >= 0 && *token)
                end_with_full_page(looker);
        /* Never registered, and nobody else to ask about: an empty list would be refused. */
        else if (!*looker->target.arn && cJSON_GetArraySize(arns) == 0)
                ask_cluster(looker);
        else
                ask_instances(looker, arns);
}

static int send_list(Looker *looker, const char *filter, AwsDone answered);

static void claimed_answered(const AwsAnswer *answer, void *userdata) {
        Looker *looker = userdata;

        if (answer->outcome != AWS_REFUSED)
                list_answered(answer, userdata);
        else if (send_list(looker, LOOK_FILTER_PLAIN, list_answered) < 0)
                look_end(looker, OUTCOME_UNAVAILABLE, NULL);
}

static int send_list(Looker *looker, const char *filter, AwsDone answered) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, LOOK_ECS_BODY_MAX);
        json_begin_object(&body, NULL);
        json_string(&body, "cluster", looker->target.cluster);
        json_string(&body, "filter", filter);
        json_i64(&body, "maxResults", LOOK_PAGE_MAX);
        json_end_object(&body);
        return look_send(looker, AWS_ECS, "ListContainerInstances", &body, answered);
}

/* -- ECS: ourselves, where our ARN is not known ---------------------------------------------------------- */

/** An instance that never registered is one that ECS does not count, and a disconnected one to us. */
static void count_ourselves(Looker *looker) {
        looker->look.own = (Confirmation){ .outcome = OUTCOME_OK, .status = CONTROL_MISSING };
        looker->peers[0].disconnected = true;
        looker->registered++;
}

static void find_answered(const AwsAnswer *answer, void *userdata) {
        Looker *looker = userdata;

        if (!look_answered(looker, answer))
                return;
        if (ecs_read_found(answer->json, &looker->target) < 0) {
                look_blind(looker, answer);
                return;
        }
        if (!*looker->target.arn) {
                count_ourselves(looker);
                looker->look.own.server_time = answer->server_time;
        }
        if (send_list(looker, LOOK_FILTER, claimed_answered) < 0)
                look_end(looker, OUTCOME_UNAVAILABLE, NULL);
}

static int send_find(Looker *looker) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, LOOK_ECS_BODY_MAX);
        json_begin_object(&body, NULL);
        json_string(&body, "cluster", looker->target.cluster);
        ecs_write_filter(&body, looker->target.instance_id);
        json_end_object(&body);
        return look_send(looker, AWS_ECS, "ListContainerInstances", &body, find_answered);
}

/* -- ECS: the group's newest replacement ------------------------------------------------------------------ */

/** Whoever is registered and was not on the page of the disconnected is connected. */
static void replacement_answered(const AwsAnswer *answer, void *userdata) {
        Looker *looker = userdata;
        Target found = {};

        if (!look_answered(looker, answer))
                return;
        if (ecs_read_found(answer->json, &found) < 0) {
                look_blind(looker, answer);
                return;
        }
        looker->look.replacement = *found.arn ? REPLACEMENT_CONNECTED : REPLACEMENT_PENDING;
        if (*found.arn)
                memcpy(looker->connected, looker->asked, sizeof(looker->connected));
        look_end(looker, OUTCOME_OK, NULL);
}

static void ask_replacement(Looker *looker) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, LOOK_ECS_BODY_MAX);
        json_begin_object(&body, NULL);
        json_string(&body, "cluster", looker->target.cluster);
        ecs_write_filter(&body, looker->asked);
        json_end_object(&body);
        look_ask(looker, AWS_ECS, "ListContainerInstances", &body, replacement_answered);
}

/* -- ECS: the cluster ----------------------------------------------------------------------------------- */

static void cluster_answered(const AwsAnswer *answer, void *userdata) {
        Looker *looker = userdata;
        const cJSON *clusters = NULL, *cluster = NULL;
        uint32_t registered = 0;

        if (!look_answered(looker, answer))
                return;
        (void) json_get_array(answer->json, "clusters", &clusters);
        cluster = cJSON_GetArrayItem(clusters, 0);
        if (ecs_read_registered(cluster, &registered) < 0 ||
                ecs_read_cluster_tag(cluster, &looker->look.tag_cluster) < 0) {
                look_blind(looker, answer);
                return;
        }
        looker->registered += registered;
        count_connected(looker);
        ask_members(looker);
}

static void ask_cluster(Looker *looker) {
        _cleanup_(json_writer_done) JsonWriter body = {};

        json_writer_init(&body, LOOK_ECS_BODY_MAX);
        ecs_write_cluster(&body, looker->target.cluster, true);
        look_ask(looker, AWS_ECS, "DescribeClusters", &body, cluster_answered);
}

static int begin_at_ecs(Looker *looker) {
        return *looker->target.arn ? send_list(looker, LOOK_FILTER, claimed_answered) : send_find(looker);
}

/* -- the metadata service ------------------------------------------------------------------------------- */

/** @action: the item's name, for the look if it fails. Return: 0 or what imds_get() said. */
static int ask_metadata(Looker *looker, const char *action, const char *path, ImdsDone answered) {
        ImdsCall *call = NULL;
        int r;

        looker->part = LOOK_METADATA;
        looker->action = action;
        r = imds_get(looker->imds, path, answered, looker, &call);
        if (r < 0)
                return r;
        (void) imds_call_free(looker->imds_call);
        looker->imds_call = call;
        return 0;
}

static void spot_answered(const ImdsAnswer *answer, void *userdata) {
        Looker *looker = userdata;

        if (answer->error < 0 && answer->error != -ENOENT) {
                look_end(looker, OUTCOME_UNAVAILABLE, NULL);
                return;
        }
        looker->look.spot_notice = answer->error == 0;
        if (begin_at_ecs(looker) < 0)
                look_end(looker, OUTCOME_UNAVAILABLE, NULL);
}

static Lifecycle read_lifecycle(const ImdsAnswer *answer) {
        char text[64];
        size_t n = strcspn(answer->text, "\r\n");

        if (answer->error == -ENOENT)
                return LIFECYCLE_NO_GROUP;
        if (n >= sizeof(text))
                return LIFECYCLE_OTHER;
        memcpy(text, answer->text, n);
        text[n] = '\0';
        return lifecycle_from_string(text);
}

static void lifecycle_answered(const ImdsAnswer *answer, void *userdata) {
        Looker *looker = userdata;

        if (answer->error < 0 && answer->error != -ENOENT) {
                look_end(looker, OUTCOME_UNAVAILABLE, NULL);
                return;
        }
        looker->look.lifecycle = read_lifecycle(answer);
        /* Without the item we may still be in a group: it appears with the first transition since 2022-03. */
        if (looker->look.lifecycle != LIFECYCLE_IN_SERVICE && looker->look.lifecycle != LIFECYCLE_NO_GROUP) {
                look_end(looker, OUTCOME_OK, NULL);
                return;
        }
        if (ask_metadata(looker, "spot/instance-action", "/latest/meta-data/spot/instance-action",
                    spot_answered) < 0)
                look_end(looker, OUTCOME_UNAVAILABLE, NULL);
}

/* -- the looker ----------------------------------------------------------------------------------------- */

static void look_begin(Looker *looker, const LookOrder *order) {
        looker->target = *order->target;
        looker->policy = *order->policy;
        looker->whole = order->whole;
        (void) snprintf(looker->finders_group, sizeof(looker->finders_group), "%s",
                order->own ? order->own->group : "");
        looker->look = (Look){ .of_peer = order->own != NULL,
                .own = { .outcome = OUTCOME_BLIND }, /* until it has been asked */
                .self = turn_id(order->target->instance_id) };
        looker->scaling_calls = looker->activity_pages = 0;
        looker->registered = looker->not_described = looker->ghosts = 0;
        memset(looker->peers, 0, sizeof(looker->peers));
        (void) snprintf(looker->peers[0].id, sizeof(looker->peers[0].id), "%s", order->target->instance_id);
        looker->n_peers = 1;
        looker->n_members_asked = looker->n_zones = looker->n_removed = looker->n_moves = 0;
        looker->replaced_at = WALL_NEVER;
        looker->group[0] = looker->zone[0] = '\0';
}

int looker_start(Looker *looker, const LookOrder *order, LookDone done, void *userdata) {
        const Target *target = order->target;
        int r;

        if (looker->busy)
                return -EBUSY;
        if (!*target->instance_id || !*target->cluster || (order->own && !*target->arn))
                return -EINVAL;

        look_begin(looker, order);
        looker->done = done;
        looker->userdata = userdata;
        r = order->own ? begin_at_ecs(looker)
                       : ask_metadata(looker, "autoscaling/target-lifecycle-state",
                                 "/latest/meta-data/autoscaling/target-lifecycle-state", lifecycle_answered);
        if (r < 0)
                return r;
        looker->busy = true;
        return 0;
}

const char *looker_arn(const Looker *looker) {
        return looker->target.arn;
}

void looker_stop(Looker *looker) {
        looker->imds_call = imds_call_free(looker->imds_call);
        looker->call = aws_call_free(looker->call);
        looker->busy = false;
}

int looker_new(Looker **ret, sd_event *event, Aws *aws, Imds *imds) {
        Looker *looker = calloc(1, sizeof(*looker));

        if (!looker)
                return -ENOMEM;
        looker->event = sd_event_ref(event);
        looker->aws = aws;
        looker->imds = imds;

        *ret = looker;
        return 0;
}

Looker *looker_free(Looker *looker) {
        if (!looker)
                return NULL;
        looker_stop(looker);
        sd_event_unref(looker->event);
        free(looker);
        return NULL;
}
