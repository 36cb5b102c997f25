/* SPDX-License-Identifier: Apache-2.0 */

/* The text of a trace: tables of what each struct holds, lines out of them, and back. */

#include "agent/trace.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "common/parse.h"

/* Whole numbers that every reader of JSON takes. */
#define NUMBER_MAX (INT64_C(1) << 53)

/* --- what each struct holds -------------------------------------------------------------------------------------- */

typedef enum FieldType {
        FIELD_BOOL,
        FIELD_U8,
        FIELD_U32,
        FIELD_I32,
        FIELD_U64,
        FIELD_I64,  /* Span, Mono and Wall too */
        FIELD_NAME, /* an enumeration, by name */
        FIELD_BRAKES,
        FIELD_TEXT,
        FIELD_STRUCT,
} FieldType;

typedef struct Struct Struct;

typedef struct Field {
        const char *key;
        FieldType type;
        size_t offset, size;           /* of one element */
        unsigned count;                /* elements of an array; 0: it is none */
        uint64_t limit;                /* of numbers: less than this; 0: any */
        const char *(*name)(unsigned); /* NAME */
        const Struct *of;              /* STRUCT */
} Field;

struct Struct {
        const Field *fields;
        size_t n;
        /* What more there is, by what the fields have said; NULL: nothing. */
        const Struct *(*variant)(const void *object);
};

#define TYPE_OF(member)                                                                                     \
        _Generic((member), bool                                                                             \
                 : FIELD_BOOL, uint8_t                                                                      \
                 : FIELD_U8, uint32_t                                                                       \
                 : FIELD_U32, int32_t                                                                       \
                 : FIELD_I32, uint64_t                                                                      \
                 : FIELD_U64, int64_t                                                                       \
                 : FIELD_I64, Mono                                                                          \
                 : FIELD_I64, Wall                                                                          \
                 : FIELD_I64)
#define MEMBER(Type, member) (((Type *) NULL)->member)

#define NUMBER(Type, member)                                                                                \
        {                                                                                                   \
#member, TYPE_OF(MEMBER(Type, member)), offsetof(Type, member),                             \
                        sizeof(MEMBER(Type, member)), .limit = 0                                            \
        }
#define BELOW(Type, member, n)                                                                              \
        { #member, FIELD_U32, offsetof(Type, member), sizeof(MEMBER(Type, member)), .limit = (n) }
#define NUMBERS(Type, member)                                                                               \
        {                                                                                                   \
#member, TYPE_OF(MEMBER(Type, member)[0]), offsetof(Type, member),                          \
                        sizeof(MEMBER(Type, member)[0]), .count = ELEMENTSOF(MEMBER(Type, member))          \
        }
#define NAMED(Type, member, names, n)                                                                       \
        {                                                                                                   \
#member, FIELD_NAME, offsetof(Type, member), sizeof(MEMBER(Type, member)),                  \
                        .limit = (n), .name = name_of_##names                                               \
        }
#define BRAKES(Type, member)                                                                                \
        { #member, FIELD_BRAKES, offsetof(Type, member), sizeof(MEMBER(Type, member)), .count = 0 }
#define TEXT(Type, member)                                                                                  \
        { #member, FIELD_TEXT, offsetof(Type, member), sizeof(MEMBER(Type, member)), .count = 0 }
#define NESTED(Type, member, Struct)                                                                        \
        {                                                                                                   \
#member, FIELD_STRUCT, offsetof(Type, member), sizeof(MEMBER(Type, member)),                \
                        .of = &Struct##_struct                                                              \
        }
#define NESTEDS(Type, member, Struct)                                                                       \
        {                                                                                                   \
#member, FIELD_STRUCT, offsetof(Type, member), sizeof(MEMBER(Type, member)[0]),             \
                        .count = ELEMENTSOF(MEMBER(Type, member)), .of = &Struct##_struct                   \
        }
#define STRUCT(name) static const Struct name##_struct = { name##_fields, ELEMENTSOF(name##_fields), NULL }
#define VARIED(name, function)                                                                              \
        static const Struct name##_struct = { name##_fields, ELEMENTSOF(name##_fields), (function) }

/* The size of a struct is known here, so that a new member without a row is noticed. */
#define HOLDS(Type, size)                                                                                   \
        static_assert(sizeof(void *) != 8 || sizeof(Type) == (size),                                        \
                #Type " has changed: add its new members to the table, then set the size anew")

#define NAME_OF(names, Type)                                                                                \
        static const char *name_of_##names(unsigned value) {                                                \
                return names##_to_string((Type) value);                                                     \
        }

NAME_OF(witness, Witness)
NAME_OF(sight, Sight)
NAME_OF(answer, Answer)
NAME_OF(unit_state, UnitState)
NAME_OF(intent, Intent)
NAME_OF(path_answer, PathAnswer)
NAME_OF(lifecycle, Lifecycle)
NAME_OF(outcome, Outcome)
NAME_OF(control_status, ControlStatus)
NAME_OF(look_part, LookPart)
NAME_OF(action, Action)
NAME_OF(orphan_action, OrphanAction)
NAME_OF(patrol_stage, PatrolStage)
NAME_OF(reading, Reading)
NAME_OF(log_state, LogState)
NAME_OF(cause, Cause)
NAME_OF(fault, Fault)
NAME_OF(stage, Stage)
NAME_OF(replacement, Replacement)
NAME_OF(turn_state, TurnState)
NAME_OF(effect, EffectType)

static const char *name_of_log_line(unsigned value) {
        static const char *const names[LOG_LINE_N] = {
                [LOG_LINE_NONE] = "none",
                [LOG_LINE_STARTED] = "started",
                [LOG_LINE_CONNECTED] = "connected",
                [LOG_LINE_CLOSED] = "closed",
                [LOG_LINE_LOST] = "lost",
                [LOG_LINE_TRYING] = "trying",
                [LOG_LINE_FAILED] = "failed",
                [LOG_LINE_WAITING] = "waiting",
                [LOG_LINE_DEREGISTERED] = "deregistered",
                [LOG_LINE_STOPPING] = "stopping",
                [LOG_LINE_TERMINAL] = "terminal",
                [LOG_LINE_UPDATING] = "updating",
        };

        return value < LOG_LINE_N && names[value] ? names[value] : "?";
}

static const char *name_of_event(unsigned value) {
        static const char *const names[EVENT_TYPE_N] = {
                [EVENT_TICK] = "tick",
                [EVENT_SAMPLE] = "sample",
                [EVENT_CONFIRMED] = "confirmed",
                [EVENT_LOOKED] = "looked",
                [EVENT_REPAIRED] = "repaired",
                [EVENT_DRAINED] = "drained",
                [EVENT_UNDRAINED] = "undrained",
                [EVENT_DETACHED] = "detached",
                [EVENT_VERIFIED] = "verified",
                [EVENT_ENDED] = "ended",
                [EVENT_SWEPT] = "swept",
                [EVENT_SIZES] = "sizes",
                [EVENT_RIGHTS] = "rights",
                [EVENT_POLICY] = "policy",
                [EVENT_PAUSED] = "paused",
                [EVENT_RESUMED] = "resumed",
                [EVENT_GROUP] = "group",
                [EVENT_RESTORED] = "restored",
        };

        return value < EVENT_TYPE_N && names[value] ? names[value] : "?";
}

/* clang-format off */
static const Field introspection_fields[] = {
        NAMED(IntrospectionSample, metadata, answer, ANSWER_N),
        NAMED(IntrospectionSample, tasks, answer, ANSWER_N),
        NUMBER(IntrospectionSample, registered),
        NUMBER(IntrospectionSample, tasks_running),
        NUMBER(IntrospectionSample, tasks_stuck),
};
STRUCT(introspection);
HOLDS(IntrospectionSample, 20);

static const Field log_sample_fields[] = {
        NAMED(LogSample, line, log_line, LOG_LINE_N),
        NUMBER(LogSample, at),
        NUMBER(LogSample, delay),
        NUMBER(LogSample, back),
        NUMBER(LogSample, level_raised),
        NUMBER(LogSample, written),
};
STRUCT(log_sample);
HOLDS(LogSample, 40);

static const Field sockets_fields[] = {
        NUMBER(SocketsSample, listener),
        NUMBER(SocketsSample, backlog),
        NUMBER(SocketsSample, unread),
        NUMBER(SocketsSample, n_control),
        NUMBER(SocketsSample, link_known),
        NUMBER(SocketsSample, link_present),
        NUMBER(SocketsSample, data_age),
        NUMBER(SocketsSample, ack_age),
        NUMBER(SocketsSample, unacknowledged),
};
STRUCT(sockets);
HOLDS(SocketsSample, 48);

static const Field unit_fields[] = {
        NUMBER(UnitSample, exists),
        NAMED(UnitSample, state, unit_state, UNIT_STATE_N),
        NAMED(UnitSample, intent, intent, INTENT_N),
        NUMBER(UnitSample, job_running),
        NUMBER(UnitSample, exit_status),
        NUMBER(UnitSample, restarts),
};
STRUCT(unit);
HOLDS(UnitSample, 24);

static const Field units_fields[] = {
        NESTED(UnitsSample, ecs, unit),
        NESTED(UnitsSample, docker, unit),
};
STRUCT(units);
HOLDS(UnitsSample, 48);

static const Field docker_fields[] = {
        NAMED(DockerSample, ping, answer, ANSWER_N),
        NAMED(DockerSample, list, answer, ANSWER_N),
        NUMBER(DockerSample, ping_time),
};
STRUCT(docker);
HOLDS(DockerSample, 16);

static const Field path_fields[] = {
        NAMED(PathSample, answer, path_answer, PATH_ANSWER_N),
        NUMBER(PathSample, took),
};
STRUCT(path);
HOLDS(PathSample, 16);

static const Field disks_fields[] = {
        NUMBER(DisksSample, n),
        NUMBER(DisksSample, used_worst),
        NUMBER(DisksSample, inodes_used_worst),
        NUMBER(DisksSample, n_read_only),
        NUMBER(DisksSample, n_hung),
        NUMBER(DisksSample, root_read_only),
        NUMBER(DisksSample, root_full),
};
STRUCT(disks);
HOLDS(DisksSample, 24);

static const Field memory_fields[] = {
        NUMBER(MemorySample, used),
        NUMBER(MemorySample, available),
        NUMBER(MemorySample, swap_used),
        NUMBER(MemorySample, some),
        NUMBER(MemorySample, full),
        NUMBER(MemorySample, oom_kills),
        NUMBER(MemorySample, trigger),
};
STRUCT(memory);
HOLDS(MemorySample, 40);

static const Field metadata_fields[] = {
        NAMED(MetadataSample, lifecycle, lifecycle, LIFECYCLE_N),
        NUMBER(MetadataSample, spot_notice),
        NUMBER(MetadataSample, no_role),
};
STRUCT(metadata);
HOLDS(MetadataSample, 8);

static const Field sample_variants[WITNESS_N] = {
        [WITNESS_INTROSPECTION] = NESTED(Sample, introspection, introspection),
        [WITNESS_LOG] = NESTED(Sample, log, log_sample),
        [WITNESS_SOCKETS] = NESTED(Sample, sockets, sockets),
        [WITNESS_UNITS] = NESTED(Sample, units, units),
        [WITNESS_DOCKER] = NESTED(Sample, docker, docker),
        [WITNESS_PATH] = NESTED(Sample, path, path),
        [WITNESS_DISKS] = NESTED(Sample, disks, disks),
        [WITNESS_MEMORY] = NESTED(Sample, memory, memory),
        [WITNESS_METADATA] = NESTED(Sample, metadata, metadata),
};

static const Struct *sample_variant(const void *object) {
        static const Struct variants[WITNESS_N] = {
                { &sample_variants[0], 1, NULL }, { &sample_variants[1], 1, NULL }, { &sample_variants[2], 1, NULL },
                { &sample_variants[3], 1, NULL }, { &sample_variants[4], 1, NULL }, { &sample_variants[5], 1, NULL },
                { &sample_variants[6], 1, NULL }, { &sample_variants[7], 1, NULL }, { &sample_variants[8], 1, NULL },
        };
        const Sample *sample = object;

        static_assert(WITNESS_N == 9, "a new witness needs a row");
        return &variants[sample->witness];
}

static const Field sample_fields[] = {
        NAMED(Sample, witness, witness, WITNESS_N),
        NAMED(Sample, sight, sight, SIGHT_N),
};
VARIED(sample, sample_variant);
HOLDS(Sample, 56);

static const Field confirmation_fields[] = {
        NAMED(Confirmation, outcome, outcome, OUTCOME_N),
        NUMBER(Confirmation, connected),
        NAMED(Confirmation, status, control_status, CONTROL_STATUS_N),
        NUMBER(Confirmation, updating),
        NUMBER(Confirmation, marked),
        NUMBER(Confirmation, patrolled),
        NUMBER(Confirmation, held),
        NAMED(Confirmation, action, action, ACTION_N),
        NUMBER(Confirmation, held_at),
        NUMBER(Confirmation, marked_at),
        NUMBER(Confirmation, patrolled_at),
        NUMBER(Confirmation, patrolled_by),
        NUMBER(Confirmation, server_time),
};
STRUCT(confirmation);
HOLDS(Confirmation, 64);

static const Field peer_name_fields[] = {
        TEXT(PeerName, arn),
        TEXT(PeerName, instance_id),
};
STRUCT(peer_name);
HOLDS(PeerName, 320);

static const Field sweep_fields[] = {
        NAMED(Sweep, outcome, outcome, OUTCOME_N),
        NUMBER(Sweep, n_down),
        BELOW(Sweep, n, SWEEP_PEERS_MAX + 1),
        NESTEDS(Sweep, peers, peer_name),
        NUMBER(Sweep, server_time),
};
STRUCT(sweep);
HOLDS(Sweep, 2584);

static const Field population_fields[] = {
        NUMBER(Population, members),
        NUMBER(Population, sick),
};
STRUCT(population);
HOLDS(Population, 8);

static const Field look_fields[] = {
        NUMBER(Look, of_peer),
        NAMED(Look, outcome, outcome, OUTCOME_N),
        NAMED(Look, failed, look_part, LOOK_PART_N),
        TEXT(Look, action),
        NAMED(Look, lifecycle, lifecycle, LIFECYCLE_N),
        NUMBER(Look, spot_notice),
        NUMBER(Look, unhealthy),
        NUMBER(Look, another_group),
        NESTED(Look, own, confirmation),
        NESTED(Look, cluster, population),
        NESTED(Look, group, population),
        NESTED(Look, zone, population),
        NUMBER(Look, more_than_a_page),
        NUMBER(Look, share_decided),
        NUMBER(Look, connected_peers),
        NUMBER(Look, self),
        BELOW(Look, n_sick, LOOK_SICK_MAX + 1),
        BELOW(Look, n_sick_ours, LOOK_SICK_MAX + 1),
        NUMBERS(Look, sick),
        BELOW(Look, n_outside, LOOK_SICK_MAX + 1),
        NUMBERS(Look, outside),
        BELOW(Look, tag_cluster, SWITCH_RESUME + 1),
        BELOW(Look, tag_group, SWITCH_RESUME + 1),
        NUMBER(Look, group_state),
        NUMBER(Look, group_size),
        NUMBER(Look, group_weighted),
        NUMBER(Look, removed_window),
        NUMBER(Look, removed_day),
        NUMBER(Look, removed_cluster),
        NUMBER(Look, removed_hour),
        BELOW(Look, n_removed, LOOK_REMOVED_MAX + 1),
        BELOW(Look, n_removed_ours, LOOK_REMOVED_MAX + 1),
        NUMBERS(Look, removed),
        NUMBER(Look, window_frees),
        NUMBER(Look, ledger_full),
        NAMED(Look, replacement, replacement, REPLACEMENT_N),
        NUMBER(Look, young),
        NUMBER(Look, server_time),
};
STRUCT(look);
HOLDS(Look, 2912);

static const Field rights_fields[] = {
        NUMBERS(Rights, granted),
};
STRUCT(rights);
HOLDS(Rights, RIGHT_N);

static const Field amount_fields[] = {
        NUMBER(Amount, count),
        NUMBER(Amount, share),
};
STRUCT(amount);
HOLDS(Amount, 16);

static const Field policy_fields[] = {
        NAMED(Policy, action, action, ACTION_N),
        NUMBER(Policy, grace),
        NUMBER(Policy, grace_dead),
        NUMBER(Policy, drain),
        NUMBER(Policy, cooldown),
        NUMBER(Policy, act_if_never_registered),
        NUMBER(Policy, also_act_on),
        NUMBER(Policy, repair),
        NUMBER(Policy, repair_wait),
        NUMBER(Policy, confirm_before),
        NUMBER(Policy, wedged_after),
        NUMBER(Policy, silent_after),
        NUMBER(Policy, max_sick),
        NESTED(Policy, max_actions, amount),
        NESTED(Policy, max_per_day, amount),
        NUMBER(Policy, window),
        NUMBER(Policy, turn),
        NUMBER(Policy, settle),
        NUMBER(Policy, boot_grace),
        NAMED(Policy, orphan, orphan_action, ORPHAN_ACTION_N),
        NUMBER(Policy, orphan_after),
        NUMBER(Policy, orphan_deregister),
        NUMBER(Policy, patrol),
        NUMBER(Policy, patrol_every),
        NUMBER(Policy, patrol_after),
        NUMBER(Policy, external),
};
STRUCT(policy);
HOLDS(Policy, 208);

static const Field record_fields[] = {
        NUMBER(Record, incident),
        NAMED(Record, stage, stage, STAGE_N),
        NAMED(Record, cause, cause, CAUSE_N),
        NUMBER(Record, opened),
        NUMBER(Record, changed),
        NUMBER(Record, closed),
        NUMBER(Record, repaired),
        NUMBER(Record, detach_sent),
        NUMBER(Record, drained),
        NUMBER(Record, marked),
        NUMBER(Record, acted),
        NUMBER(Record, looped),
        NUMBER(Record, released),
        NUMBER(Record, ended),
        NAMED(Record, action, action, ACTION_N),
        NAMED(Record, peer_stage, patrol_stage, PATROL_STAGE_N),
        NAMED(Record, peer_action, action, ACTION_N),
        NUMBER(Record, peer_changed),
        NUMBER(Record, peer_sent),
        NESTED(Record, peer, peer_name),
};
STRUCT(record);
HOLDS(Record, 416);

static const Field verification_fields[] = {
        NAMED(Verification, outcome, outcome, OUTCOME_N),
        NAMED(Verification, lifecycle, lifecycle, LIFECYCLE_N),
        NUMBER(Verification, activity),
        NUMBER(Verification, unhealthy),
};
STRUCT(verification);
HOLDS(Verification, 12);

static const Field sizes_fields[] = {
        NUMBER(Sizes, cluster),
        NUMBER(Sizes, group),
        NUMBER(Sizes, self),
};
STRUCT(sizes);
HOLDS(Sizes, 16);

static const Field restored_fields[] = {
        NESTED(Restored, record, record),
        NUMBER(Restored, answered_this_boot),
        NUMBER(Restored, registered_before),
        NUMBER(Restored, same_boot),
        NUMBER(Restored, no_journal),
};
STRUCT(restored);
HOLDS(Restored, 424);

static const Field event_sample_fields[] = { NESTED(Event, sample, sample) };
STRUCT(event_sample);
static const Field event_confirmed_fields[] = { NESTED(Event, confirmed, confirmation) };
STRUCT(event_confirmed);
static const Field event_look_fields[] = { NESTED(Event, look, look) };
STRUCT(event_look);
static const Field event_outcome_fields[] = { NAMED(Event, outcome, outcome, OUTCOME_N) };
STRUCT(event_outcome);
static const Field event_verified_fields[] = { NESTED(Event, verified, verification) };
STRUCT(event_verified);
static const Field event_swept_fields[] = { NESTED(Event, swept, sweep) };
STRUCT(event_swept);
static const Field event_sizes_fields[] = { NESTED(Event, sizes, sizes) };
STRUCT(event_sizes);
static const Field event_rights_fields[] = { NESTED(Event, rights, rights) };
STRUCT(event_rights);
static const Field event_policy_fields[] = { NESTED(Event, policy, policy) };
STRUCT(event_policy);
static const Field event_paused_fields[] = { NUMBER(Event, paused_until) };
STRUCT(event_paused);
static const Field event_group_fields[] = { NAMED(Event, lifecycle, lifecycle, LIFECYCLE_N) };
STRUCT(event_group);
static const Field event_restored_fields[] = { NESTED(Event, restored, restored) };
STRUCT(event_restored);

static const Struct *event_variant(const void *object) {
        static const Struct *const variants[EVENT_TYPE_N] = {
                [EVENT_SAMPLE] = &event_sample_struct,
                [EVENT_CONFIRMED] = &event_confirmed_struct,
                [EVENT_LOOKED] = &event_look_struct,
                [EVENT_REPAIRED] = &event_outcome_struct,
                [EVENT_DRAINED] = &event_outcome_struct,
                [EVENT_UNDRAINED] = &event_outcome_struct,
                [EVENT_DETACHED] = &event_outcome_struct,
                [EVENT_VERIFIED] = &event_verified_struct,
                [EVENT_ENDED] = &event_outcome_struct,
                [EVENT_SWEPT] = &event_swept_struct,
                [EVENT_SIZES] = &event_sizes_struct,
                [EVENT_RIGHTS] = &event_rights_struct,
                [EVENT_POLICY] = &event_policy_struct,
                [EVENT_PAUSED] = &event_paused_struct,
                [EVENT_GROUP] = &event_group_struct,
                [EVENT_RESTORED] = &event_restored_struct,
        };
        const Event *event = object;

        static_assert(EVENT_TYPE_N == 18, "a new event needs a row, unless it carries nothing, and a name");
        return variants[event->type];
}

static const Field event_fields[] = {
        NAMED(Event, type, event, EVENT_TYPE_N),
        NUMBER(Event, ticket),
};
VARIED(event, event_variant);
HOLDS(Event, 2920);

static const Field effect_fields[] = {
        NAMED(Effect, type, effect, EFFECT_TYPE_N),
        NUMBER(Effect, ticket),
        NUMBER(Effect, whole),
        NUMBER(Effect, peer),
        NAMED(Effect, action, action, ACTION_N),
};
STRUCT(effect);
HOLDS(Effect, 16);

static const Field plan_fields[] = {
        NUMBER(Plan, wake),
        BELOW(Plan, n_effects, PLAN_EFFECTS_MAX + 1),
        NESTEDS(Plan, effects, effect),
        NUMBER(Plan, record_changed),
        NUMBER(Plan, watch_path),
        NUMBER(Plan, verdict_changed),
        NUMBER(Plan, stage_changed),
        NUMBER(Plan, brakes_changed),
};
STRUCT(plan);
HOLDS(Plan, 88);

static const Field check_fields[] = {
        NAMED(Check, believed, reading, READING_N),
        NAMED(Check, latest, reading, READING_N),
        NUMBER(Check, run),
        NUMBER(Check, since),
        NUMBER(Check, renewed),
};
STRUCT(check);
HOLDS(Check, 32);

static const Field log_machine_fields[] = {
        NAMED(LogMachine, state, log_state, LOG_STATE_N),
        NUMBER(LogMachine, since),
        NUMBER(LogMachine, retry_line),
        NUMBER(LogMachine, retry_at),
        NUMBER(LogMachine, connected_line),
        NUMBER(LogMachine, distrusted_until),
        NUMBER(LogMachine, reconnects),
        NUMBER(LogMachine, terminal),
};
STRUCT(log_machine);
HOLDS(LogMachine, 56);

static const Field checks_fields[] = {
        NESTEDS(Checks, samples, sample),
        NUMBERS(Checks, sampled),
        NESTED(Checks, log, log_machine),
        NESTED(Checks, introspection, check),
        NESTED(Checks, tasks, check),
        NESTED(Checks, link, check),
        NESTED(Checks, listener, check),
        NESTED(Checks, stuck, check),
        NESTED(Checks, unit, check),
        NESTED(Checks, docker, check),
        NESTED(Checks, disk_writable, check),
        NESTED(Checks, disk_space, check),
        NESTED(Checks, memory, check),
        NESTED(Checks, control, confirmation),
        NUMBER(Checks, control_at),
        NUMBER(Checks, control_early),
        NUMBER(Checks, answered_this_boot),
        NUMBER(Checks, registered_before),
        NUMBER(Checks, registered_at),
        NUMBER(Checks, updating_from),
        NAMED(Checks, lifecycle, lifecycle, LIFECYCLE_N),
        NAMED(Checks, lifecycle_asg, lifecycle, LIFECYCLE_N),
        NUMBER(Checks, spot_notice),
        NUMBER(Checks, our_drain),
};
STRUCT(checks);
HOLDS(Checks, 1064);

static const Field verdict_fields[] = {
        NAMED(Verdict, cause, cause, CAUSE_N),
        NAMED(Verdict, fault, fault, FAULT_N),
        NUMBER(Verdict, down),
        NUMBER(Verdict, enough),
        NUMBER(Verdict, up),
        NUMBER(Verdict, dead),
        NUMBER(Verdict, repairable),
        NUMBER(Verdict, witnesses),
};
STRUCT(verdict);
HOLDS(Verdict, 20);

static const Field turn_fields[] = {
        NAMED(Turn, state, turn_state, TURN_STATE_N),
        NUMBER(Turn, slot),
        NUMBER(Turn, next),
};
STRUCT(turn);
HOLDS(Turn, 24);

static const Field recall_peer_fields[] = {
        NUMBER(RecallPeer, id),
        NUMBER(RecallPeer, since),
        NUMBER(RecallPeer, sick),
        NUMBER(RecallPeer, removed),
        NUMBER(RecallPeer, ours),
};
STRUCT(recall_peer);
HOLDS(RecallPeer, 40);

static const Field recall_fields[] = {
        NESTEDS(Recall, peers, recall_peer),
        NUMBER(Recall, returned),
};
STRUCT(recall);

static const Field patrol_fields[] = {
        NAMED(Patrol, stage, patrol_stage, PATROL_STAGE_N),
        NUMBER(Patrol, due),
        NUMBER(Patrol, awaiting),
        NUMBER(Patrol, answer_due),
        BELOW(Patrol, throttled, 64),
        NESTED(Patrol, peer, peer_name),
        NAMED(Patrol, action, action, ACTION_N),
        NUMBER(Patrol, found_at),
        NUMBER(Patrol, looked_at),
        NUMBER(Patrol, begun_at),
        NUMBER(Patrol, slot),
        NUMBER(Patrol, tries),
        NUMBER(Patrol, stage_from),
        BRAKES(Patrol, brakes),
        NUMBER(Patrol, sweeps),
        NUMBER(Patrol, removals),
};
STRUCT(patrol);
HOLDS(Patrol, 432);

static const Field core_fields[] = {
        NESTED(Core, policy, policy),
        NESTED(Core, checks, checks),
        NESTED(Core, rights, rights),
        NESTED(Core, verdict, verdict),
        NAMED(Core, stage, stage, STAGE_N),
        NESTED(Core, record, record),
        NUMBER(Core, random),
        NUMBER(Core, ticket),
        NUMBER(Core, awaiting),
        NUMBER(Core, answer_due),
        NUMBER(Core, stepped),
        NUMBER(Core, wall_offset),
        NUMBER(Core, ill_from),
        NUMBER(Core, lone_from),
        NUMBER(Core, cause_from),
        NUMBER(Core, retry_bar_set),
        NUMBER(Core, retry_bar),
        NUMBER(Core, grace_served),
        NUMBER(Core, restored_at),
        NUMBER(Core, tidying),
        NUMBER(Core, tidy_at),
        BELOW(Core, tidy_tries, 64),
        NUMBER(Core, patience),
        NUMBER(Core, drain_doubtful),
        NUMBER(Core, confirmations),
        NUMBER(Core, confirm_at),
        NUMBER(Core, first_confirmed),
        NUMBER(Core, crowd_jitter),
        NUMBER(Core, blind_from),
        NUMBER(Core, blind_at),
        NUMBER(Core, unanswered),
        NUMBER(Core, confirm_jitter),
        NESTED(Core, look, look),
        NUMBER(Core, looked_at),
        NUMBER(Core, earlier_look_at),
        NUMBER(Core, holds),
        NUMBER(Core, share_held),
        NUMBER(Core, share_moved),
        NUMBER(Core, settle_from),
        NUMBER(Core, share_ended),
        NUMBER(Core, share_from),
        NUMBER(Core, slow_lane),
        NESTED(Core, turn, turn),
        NESTED(Core, recall, recall),
        NUMBER(Core, service_known),
        NUMBER(Core, service_offset),
        NUMBER(Core, begun_at),
        NUMBER(Core, slot_taken),
        NUMBER(Core, slot),
        NUMBER(Core, clear_looks),
        NUMBER(Core, last_sick),
        NUMBER(Core, last_sick_known),
        NUMBER(Core, sick_at),
        NUMBER(Core, stage_from),
        NUMBER(Core, due),
        NUMBER(Core, tries),
        NUMBER(Core, repair_done),
        NUMBER(Core, repaired_until),
        NUMBER(Core, paused_until),
        NUMBER(Core, boot_grace_until),
        NUMBER(Core, cooldown_until),
        NUMBER(Core, seen_outside),
        NUMBER(Core, end_at),
        NUMBER(Core, outside_asked),
        NUMBER(Core, woke_at),
        BRAKES(Core, brakes),
        NUMBERS(Core, brake_until),
        NUMBER(Core, removals),
        NESTED(Core, sizes, sizes),
        NESTED(Core, patrol, patrol),
};
STRUCT(core);
HOLDS(Core, 10800);

static const Field after_fields[] = {
        NAMED(TraceAfter, stage, stage, STAGE_N),
        NAMED(TraceAfter, cause, cause, CAUSE_N),
        NAMED(TraceAfter, fault, fault, FAULT_N),
        NUMBER(TraceAfter, witnesses),
        BRAKES(TraceAfter, brakes),
        NUMBER(TraceAfter, incident),
        NUMBER(TraceAfter, ill_from),
        NUMBER(TraceAfter, grace_end),
        NUMBER(TraceAfter, due),
};
STRUCT(after);

static const Field target_fields[] = {
        TEXT(Target, cluster),
        TEXT(Target, arn),
        TEXT(Target, instance_id),
        TEXT(Target, zone),
        TEXT(Target, group),
};
STRUCT(target);

static const Field header_fields[] = {
        TEXT(TraceHeader, version),
        NUMBER(TraceHeader, incident),
        NESTED(TraceHeader, target, target),
};
STRUCT(header);

static const Field call_fields[] = {
        TEXT(TraceCall, action),
        TEXT(TraceCall, answer),
        TEXT(TraceCall, request_id),
};
STRUCT(call);

static const Field now_fields[] = {
        { "t", FIELD_I64, offsetof(Now, mono), sizeof(Mono), .count = 0 },
        { "w", FIELD_I64, offsetof(Now, wall), sizeof(Wall), .count = 0 },
};
STRUCT(now);
/* clang-format on */

/* --- writing ----------------------------------------------------------------------------------------------------- */

static void write_struct(JsonWriter *w, const Struct *type, const void *object);

static bool is_zero(const void *object, size_t n) {
        const unsigned char *bytes = object;

        for (size_t i = 0; i < n; i++)
                if (bytes[i] != 0)
                        return false;
        return true;
}

static bool struct_is_zero(const Struct *type, const void *object);

/* Not the bytes of a struct as they lie there: what pads it may be anything. */
static bool value_is_zero(const Field *field, const void *value) {
        if (field->type == FIELD_STRUCT)
                return struct_is_zero(field->of, value);
        return is_zero(value, field->type == FIELD_TEXT ? 1 : field->size);
}

static bool field_is_zero(const Field *field, const char *values) {
        unsigned n = field->count > 0 ? field->count : 1;

        for (unsigned i = 0; i < n; i++)
                if (!value_is_zero(field, values + i * field->size))
                        return false;
        return true;
}

static bool struct_is_zero(const Struct *type, const void *object) {
        const Struct *more;

        for (size_t i = 0; i < type->n; i++)
                if (!field_is_zero(&type->fields[i], (const char *) object + type->fields[i].offset))
                        return false;
        more = type->variant ? type->variant(object) : NULL;
        return !more || struct_is_zero(more, object);
}

static void write_number(JsonWriter *w, const char *key, int64_t value) {
        char text[24];

        if (value >= -NUMBER_MAX && value <= NUMBER_MAX) {
                json_i64(w, key, value);
                return;
        }
        (void) snprintf(text, sizeof(text), "%" PRIi64, value);
        json_string(w, key, text);
}

static void write_large(JsonWriter *w, const char *key, uint64_t value) {
        char text[24];

        if (value <= NUMBER_MAX) {
                json_i64(w, key, (int64_t) value);
                return;
        }
        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        json_string(w, key, text);
}

static void write_name(JsonWriter *w, const char *key, const Field *field, uint32_t value) {
        const char *name = field->name(value);

        if (strcmp(name, "?") == 0)
                json_i64(w, key, value);
        else
                json_string(w, key, name);
}

static void write_brakes(JsonWriter *w, const char *key, BrakeSet set) {
        json_begin_array(w, key);
        for (unsigned i = 0; i < BRAKE_N; i++)
                if ((set & 1u << i) != 0)
                        json_string(w, NULL, brake_table[i].name);
        json_end_array(w);
}

static void write_value(JsonWriter *w, const char *key, const Field *field, const void *value) {
        switch (field->type) {
        case FIELD_BOOL: json_bool(w, key, *(const bool *) value); break;
        case FIELD_U8: json_i64(w, key, *(const uint8_t *) value); break;
        case FIELD_U32: json_i64(w, key, *(const uint32_t *) value); break;
        case FIELD_I32: json_i64(w, key, *(const int32_t *) value); break;
        case FIELD_U64: write_large(w, key, *(const uint64_t *) value); break;
        case FIELD_I64: write_number(w, key, *(const int64_t *) value); break;
        case FIELD_NAME: write_name(w, key, field, *(const uint32_t *) value); break;
        case FIELD_BRAKES: write_brakes(w, key, *(const BrakeSet *) value); break;
        case FIELD_TEXT: json_string(w, key, value); break;
        case FIELD_STRUCT:
                json_begin_object(w, key);
                write_struct(w, field->of, value);
                json_end_object(w);
                break;
        }
}

static void write_array(JsonWriter *w, const Field *field, const char *values) {
        unsigned n = field->count;

        while (n > 0 && value_is_zero(field, values + (n - 1) * field->size))
                n--;
        json_begin_array(w, field->key);
        for (unsigned i = 0; i < n; i++)
                write_value(w, NULL, field, values + i * field->size);
        json_end_array(w);
}

static void write_struct(JsonWriter *w, const Struct *type, const void *object) {
        const Struct *more;

        for (size_t i = 0; i < type->n; i++) {
                const Field *field = &type->fields[i];
                const char *value = (const char *) object + field->offset;

                if (field_is_zero(field, value))
                        continue;
                if (field->count > 0)
                        write_array(w, field, value);
                else
                        write_value(w, field->key, field, value);
        }
        more = type->variant ? type->variant(object) : NULL;
        if (more)
                write_struct(w, more, object);
}

static void line_begin(JsonWriter *w) {
        w->comma = false;
        json_begin_object(w, NULL);
}

static void line_end(JsonWriter *w) {
        json_end_object(w);
        json_raw(w, "\n", 1);
        w->comma = false;
}

static void write_member(JsonWriter *w, const char *name, const Struct *type, const void *object) {
        json_begin_object(w, name);
        write_struct(w, type, object);
        json_end_object(w);
}

void trace_write_header(JsonWriter *writer, const TraceHeader *header) {
        line_begin(writer);
        json_i64(writer, "trace", TRACE_VERSION);
        write_struct(writer, &header_struct, header);
        line_end(writer);
}

void trace_write_core(JsonWriter *writer, const Core *core) {
        line_begin(writer);
        write_member(writer, "core", &core_struct, core);
        line_end(writer);
}

/* The wake is told from now: a small number that can be compared by eye. */
static Plan plan_relative(const Plan *absolute, Now now) {
        Plan relative = *absolute;

        if (relative.wake.usec != MONO_INFINITE.usec)
                relative.wake.usec = mono_since(relative.wake, now.mono);
        return relative;
}

void trace_plan_write(JsonWriter *writer, const Plan *plan, Now now) {
        Plan relative = plan_relative(plan, now);

        write_member(writer, NULL, &plan_struct, &relative);
}

void trace_write_step(
        JsonWriter *writer, const Event *event, Now now, const Plan *plan, const TraceAfter *after) {
        Plan relative = plan_relative(plan, now);

        line_begin(writer);
        write_struct(writer, &now_struct, &now);
        write_member(writer, "event", &event_struct, event);
        write_member(writer, "plan", &plan_struct, &relative);
        if (after)
                write_member(writer, "after", &after_struct, after);
        line_end(writer);
}

void trace_write_call(JsonWriter *writer, const TraceCall *call, Now now) {
        line_begin(writer);
        write_struct(writer, &now_struct, &now);
        write_member(writer, "call", &call_struct, call);
        line_end(writer);
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static int read_struct(const cJSON *json, const Struct *type, void *object);

static int read_signed(const cJSON *json, int64_t *ret) {
        if (cJSON_IsString(json))
                return parse_i64(json->valuestring, ret) < 0 ? -EBADMSG : 0;
        if (!cJSON_IsNumber(json) || json->valuedouble < (double) -NUMBER_MAX ||
                json->valuedouble > (double) NUMBER_MAX)
                return -EBADMSG;
        *ret = (int64_t) json->valuedouble;
        return 0;
}

static int read_unsigned(const cJSON *json, uint64_t max, uint64_t *ret) {
        int64_t value = 0;

        if (cJSON_IsString(json)) {
                if (parse_u64(json->valuestring, ret) < 0)
                        return -EBADMSG;
        } else {
                if (read_signed(json, &value) < 0 || value < 0)
                        return -EBADMSG;
                *ret = (uint64_t) value;
        }
        return *ret > max ? -EBADMSG : 0;
}

static int read_name(const cJSON *json, const Field *field, uint32_t *ret) {
        uint64_t value = 0;

        if (cJSON_IsString(json)) {
                for (uint32_t i = 0; i < field->limit; i++)
                        if (strcmp(field->name(i), json->valuestring) == 0) {
                                *ret = i;
                                return 0;
                        }
                return -EBADMSG;
        }
        if (read_unsigned(json, field->limit - 1, &value) < 0)
                return -EBADMSG;
        *ret = (uint32_t) value;
        return 0;
}

/* A brake that is not known is a later version's. */
static int read_brakes(const cJSON *json, BrakeSet *ret) {
        const cJSON *item;

        if (!cJSON_IsArray(json))
                return -EBADMSG;
        *ret = 0;
        cJSON_ArrayForEach(item, json) {
                if (!cJSON_IsString(item))
                        return -EBADMSG;
                for (unsigned i = 0; i < BRAKE_N; i++)
                        if (strcmp(brake_table[i].name, item->valuestring) == 0)
                                *ret |= 1u << i;
        }
        return 0;
}

static int read_text(const cJSON *json, char *buffer, size_t size) {
        if (!cJSON_IsString(json) || strlen(json->valuestring) >= size)
                return -EBADMSG;
        (void) snprintf(buffer, size, "%s", json->valuestring);
        return 0;
}

static int read_integer(const cJSON *json, const Field *field, void *value) {
        uint64_t max = field->type == FIELD_U8    ? UINT8_MAX
                       : field->type == FIELD_U32 ? UINT32_MAX
                                                  : UINT64_MAX;
        uint64_t number = 0;

        if (field->limit > 0)
                max = field->limit - 1;
        if (read_unsigned(json, max, &number) < 0)
                return -EBADMSG;
        if (field->type == FIELD_U8)
                *(uint8_t *) value = (uint8_t) number;
        else if (field->type == FIELD_U32)
                *(uint32_t *) value = (uint32_t) number;
        else
                *(uint64_t *) value = number;
        return 0;
}

static int read_value(const cJSON *json, const Field *field, void *value) {
        int64_t number = 0;

        switch (field->type) {
        case FIELD_BOOL:
                if (!cJSON_IsBool(json))
                        return -EBADMSG;
                *(bool *) value = cJSON_IsTrue(json);
                return 0;
        case FIELD_U8:
        case FIELD_U32:
        case FIELD_U64: return read_integer(json, field, value);
        case FIELD_I32:
                if (read_signed(json, &number) < 0 || number < INT32_MIN || number > INT32_MAX)
                        return -EBADMSG;
                *(int32_t *) value = (int32_t) number;
                return 0;
        case FIELD_I64: return read_signed(json, value);
        case FIELD_NAME: return read_name(json, field, value);
        case FIELD_BRAKES: return read_brakes(json, value);
        case FIELD_TEXT: return read_text(json, value, field->size);
        case FIELD_STRUCT: return read_struct(json, field->of, value);
        }
        return -EBADMSG;
}

static int read_array(const cJSON *json, const Field *field, char *values) {
        const cJSON *item;
        unsigned i = 0;
        int r;

        if (!cJSON_IsArray(json))
                return -EBADMSG;
        cJSON_ArrayForEach(item, json) {
                if (i >= field->count)
                        return -EBADMSG;
                r = read_value(item, field, values + i++ * field->size);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What is missing stays as it is: the caller has cleared the whole. */
static int read_struct(const cJSON *json, const Struct *type, void *object) {
        const Struct *more;
        int r;

        if (!cJSON_IsObject(json))
                return -EBADMSG;
        for (size_t i = 0; i < type->n; i++) {
                const Field *field = &type->fields[i];
                const cJSON *member = json_member(json, field->key);
                char *value = (char *) object + field->offset;

                if (!member)
                        continue;
                r = field->count > 0 ? read_array(member, field, value) : read_value(member, field, value);
                if (r < 0)
                        return r;
        }
        more = type->variant ? type->variant(object) : NULL;
        return more ? read_struct(json, more, object) : 0;
}

static int read_step(const cJSON *json, TraceLine *line) {
        const cJSON *member = json_member(json, "after");
        int r;

        r = read_struct(json_member(json, "event"), &event_struct, &line->event);
        if (r >= 0)
                r = read_struct(json_member(json, "plan"), &plan_struct, &line->plan);
        if (r < 0)
                return r;
        if (line->plan.wake.usec != MONO_INFINITE.usec)
                line->plan.wake = mono_add(line->now.mono, line->plan.wake.usec);
        line->has_after = member;
        return member ? read_struct(member, &after_struct, &line->after) : 0;
}

static int read_line(const cJSON *json, TraceLine *line) {
        int64_t version = 0;
        int r;

        if (json_member(json, "cut")) {
                line->type = TRACE_CUT;
                return 0;
        }
        if (json_member(json, "core")) {
                line->type = TRACE_CORE;
                return read_struct(json_member(json, "core"), &core_struct, &line->core);
        }
        if (json_member(json, "trace")) {
                line->type = TRACE_HEADER;
                if (json_get_i64(json, "trace", &version) < 0)
                        return -EBADMSG;
                return version == TRACE_VERSION ? read_struct(json, &header_struct, &line->header)
                                                : -EPROTONOSUPPORT;
        }
        r = read_struct(json, &now_struct, &line->now);
        if (r < 0 || line->now.mono.usec <= 0 || line->now.wall.usec < 0)
                return -EBADMSG;
        if (json_member(json, "call")) {
                line->type = TRACE_CALL;
                return read_struct(json_member(json, "call"), &call_struct, &line->call);
        }
        line->type = TRACE_STEP;
        return json_member(json, "event") ? read_step(json, line) : -EBADMSG;
}

int trace_parse(const char *text, size_t n, TraceLine *ret) {
        _cleanup_(json_freep) cJSON *json = NULL;
        TraceLine line;
        int r;

        if (n > TRACE_LINE_MAX)
                return -EBADMSG;
        memset(&line, 0, sizeof(line));
        r = json_parse(text, n, NULL, &json);
        if (r >= 0)
                r = read_line(json, &line);
        if (r < 0)
                return r;

        *ret = line;
        return 0;
}

TraceAfter trace_where(const Core *core) {
        return (TraceAfter){
                .stage = core->stage,
                .cause = core->verdict.cause,
                .fault = core->verdict.fault,
                .witnesses = core->verdict.witnesses,
                .brakes = core->brakes,
                .incident = core->record.incident,
                .ill_from = core->ill_from,
                .grace_end = core_grace_end(core),
                .due = core->due,
        };
}
