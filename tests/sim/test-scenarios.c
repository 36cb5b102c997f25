/* SPDX-License-Identifier: Apache-2.0 */

/* Whole stories against the core in virtual time: what happens to a host, and what must come of it. */

#include "tests/sim/world.h"
#include "tests/unit/test.h"

static void expect_nothing_done(const World *world) {
        EXPECT_EQ(world->repairs, 0);
        EXPECT_EQ(world->drains, 0);
        EXPECT_EQ(world->detaches, 0);
}

static void expect_removed_once(const World *world) {
        EXPECT_EQ(world->drains_done, 1);
        EXPECT_EQ(world->detaches, 1);
        EXPECT_EQ(world->detaches_done, 1);
        EXPECT_EQ(world->undrains, 0);
        EXPECT(world->drain_before_detach);
        EXPECT_EQ(world->core.stage, STAGE_REMOVED);
        EXPECT_EQ(world->status, CONTROL_DRAINING);
        EXPECT(!world->in_group);
}

static void expect_held_by(const World *world, Brake brake) {
        EXPECT_EQ(world->detaches, 0);
        EXPECT_EQ(world->core.stage, STAGE_HELD);
        EXPECT((world->core.brakes & (1u << brake)) != 0);
        if ((world->core.brakes & (1u << brake)) == 0)
                printf("# brakes are %x, expected %s\n", world->core.brakes, brake_table[brake].name);
}

/* --- each way to be lost ends in one drain and one detach, in this order ------------------------------------------ */

static void cut(World *world) {
        world_cut(world);
}

static void kill_agent(World *world) {
        world_kill(world);
}

static void stop_agent(World *world) {
        world->process = PROCESS_HUNG;
}

static void wedge(World *world) {
        world_cut(world);
        world->silent = true;
}

static void fail_unit(World *world) {
        world_log(world, LOG_LINE_TERMINAL, 0);
        world_kill(world);
        world->unit = UNIT_FAILED;
        world->exit_status = 5;
}

static void exit_unit(World *world) {
        world_kill(world);
        world->unit = UNIT_INACTIVE;
        world->exit_status = 0;
}

static void black_hole(World *world) {
        world->black_hole = true;
}

static void cut_without_log(World *world) {
        world->no_log = true;
        world_cut(world);
}

static void cut_without_sockets(World *world) {
        world->no_sockets = true;
        world_cut(world);
}

static void test_each_loss_ends_in_one_drain_and_one_detach(void) {
        static const struct {
                const char *name;
                void (*happens)(World *world);
                Span grace;  /* not before */
                Span within; /* grace + repair + 2 min, and what noticing takes */
        } rows[] = {
                { "link lost", cut, SPAN_MIN(8), SPAN_MIN(8 + 2 + 5) },
                { "agent killed", kill_agent, SPAN_MIN(5), SPAN_MIN(5 + 3 + 3) },
                { "agent stopped", stop_agent, SPAN_MIN(5), SPAN_MIN(5 + 3 + 3) },
                { "wedged", wedge, SPAN_MIN(8), SPAN_MIN(8 + 3 + 5) },
                { "unit failed with exit 5", fail_unit, SPAN_MIN(5), SPAN_MIN(5 + 3 + 3) },
                { "unit exited 0 and stayed down", exit_unit, SPAN_MIN(5), SPAN_MIN(5 + 3 + 3) },
                { "black hole", black_hole, SPAN_MIN(8), SPAN_MIN(8 + 2 + 6) },
                { "link lost, no log", cut_without_log, SPAN_MIN(8), SPAN_MIN(8 + 2 + 7) },
                { "link lost, no sockets", cut_without_sockets, SPAN_MIN(8), SPAN_MIN(8 + 2 + 7) },
        };

        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                World world;
                Mono at;

                world_init(&world);
                at = world.now.mono;
                rows[i].happens(&world);
                world_run(&world, SPAN_MIN(40));
                printf("# %s: drain after %lld s, detach after %lld s, %u confirms, %u looks, %u repairs\n",
                        rows[i].name, (long long) (mono_since(world.first_drain, at) / SPAN_SEC(1)),
                        (long long) (mono_since(world.first_detach, at) / SPAN_SEC(1)), world.confirms,
                        world.looks, world.repairs);
                expect_removed_once(&world);
                EXPECT(world.confirms >= 1);
                EXPECT(mono_since(world.first_drain, at) >= rows[i].grace);
                EXPECT(mono_since(world.first_detach, at) <= rows[i].within);
        }
}

static void test_an_instance_that_does_not_come_back_after_a_reboot_is_removed(void) {
        World world;

        world_init(&world);
        world_kill(&world);
        world_crash(&world, true);
        world_run(&world, SPAN_MIN(9));
        expect_nothing_done(&world);
        EXPECT_EQ(world.core.verdict.cause, CAUSE_STARTING);
        world_run(&world, SPAN_MIN(20));
        expect_removed_once(&world);
        EXPECT_EQ(world.core.record.cause, CAUSE_AGENT_ABSENT);
}

static void test_one_refusal_after_a_reboot_is_no_illness(void) {
        World world;

        world_init(&world);
        world.policy.boot_grace = 0;
        world.no_sockets = world.no_bus = true;
        world_kill(&world);
        world_crash(&world, true);
        world_run(&world, SPAN_SEC(2)); /* refused once, and nobody else can tell */
        EXPECT_EQ(world.core.verdict.cause, CAUSE_NOT_KNOWN);
        EXPECT(!verdict_ill(&world.core.verdict));
        world_run(&world, SPAN_SEC(20));
        EXPECT_EQ(world.core.verdict.cause, CAUSE_AGENT_ABSENT);
}

static void test_an_instance_that_was_never_registered_is_left_alone(void) {
        World world;

        world_init(&world);
        world_kill(&world);
        core_init(&world.core, &world.policy, 1, world.now);
        world_run(&world, SPAN_HOUR(2));
        expect_nothing_done(&world);
        EXPECT_EQ(world.core.verdict.cause, CAUSE_NEVER_REGISTERED);
        EXPECT_EQ(world.confirms, 0);
}

static void ask_for_removal_of_the_unregistered(World *world) {
        world_init(world);
        world->policy.act_if_never_registered = true;
        world->status = CONTROL_MISSING;
        world_kill(world);
        core_init(&world->core, &world->policy, 1, world->now);
}

static void test_an_instance_that_was_never_registered_is_removed_if_the_settings_say_so(void) {
        World world;

        ask_for_removal_of_the_unregistered(&world);
        world_run(&world, SPAN_HOUR(2));
        EXPECT_EQ(world.core.record.cause, CAUSE_NEVER_REGISTERED);
        EXPECT_EQ(world.repairs, 0);
        EXPECT_EQ(world.detaches, 1);
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
        EXPECT(!world.in_group);
}

static void test_an_instance_that_ecs_knows_to_be_connected_is_not_unregistered(void) {
        World world;

        ask_for_removal_of_the_unregistered(&world);
        world.status = CONTROL_ACTIVE;
        world.ecs_lags = true;
        world_run(&world, SPAN_HOUR(2));
        expect_nothing_done(&world);
        EXPECT(world.confirms > 0);
}

/* --- repair ------------------------------------------------------------------------------------------------------ */

static void test_a_repair_that_helps_ends_the_incident(void) {
        World world;

        world_init(&world);
        world.repair_helps = true;
        world_kill(&world);
        world_run(&world, SPAN_MIN(40));
        EXPECT_EQ(world.repairs, 1);
        EXPECT_EQ(world.drains, 0);
        EXPECT_EQ(world.detaches, 0);
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
}

static void test_a_repair_is_not_made_while_the_agent_retries(void) {
        World world;

        world_init(&world);
        world_cut(&world);
        world_run(&world, SPAN_MIN(40));
        EXPECT_EQ(world.repairs, 0);
        EXPECT_EQ(world.detaches, 1);
}

static void test_a_repair_is_not_repeated_within_the_hour(void) {
        World world;

        world_init(&world);
        world.repair_helps = true;
        world_kill(&world);
        world_run(&world, SPAN_MIN(15));
        EXPECT_EQ(world.repairs, 1);
        world_kill(&world);
        world_run(&world, SPAN_MIN(30));
        EXPECT_EQ(world.repairs, 1);
        EXPECT_EQ(world.detaches, 1);
}

static void test_without_the_right_to_detach_only_the_repair_is_made(void) {
        World world;
        Event event = { .type = EVENT_RIGHTS };

        world_init(&world);
        event.rights.granted[RIGHT_ASG_DETACH] = GRANTED_NO;
        world_event(&world, &event);
        world_kill(&world);
        world_run(&world, SPAN_MIN(60));
        EXPECT_EQ(world.repairs, 1);
        EXPECT_EQ(world.drains, 0);
        expect_held_by(&world, BRAKE_RIGHTS);
        EXPECT(world.probes > 0);
}

/* --- no false alarm ---------------------------------------------------------------------------------------------- */

static void test_a_day_of_normal_life_leads_to_nothing(void) {
        World world;

        world_init(&world);
        for (unsigned minute = 0; minute < 24 * 60; minute++) {
                if (minute % 33 == 0)
                        world_reconnect(&world);
                if (minute % 13 == 5) /* service-side closes, several an hour */
                        world_reconnect(&world);
                if (minute == 300) { /* an agent update: gone for two minutes */
                        world_log(&world, LOG_LINE_UPDATING, 0);
                        world_kill(&world);
                }
                if (minute == 302) {
                        world.process = PROCESS_RUNS;
                        world_log(&world, LOG_LINE_STARTED, 0);
                        world_connect(&world);
                }
                if (minute == 600) /* an outage of 4 min; the agent's back-off makes it 6.6 */
                        world_cut(&world);
                if (minute == 606) {
                        world_run(&world, SPAN_SEC(36));
                        world_connect(&world);
                }
                if (minute == 900)
                        world_sleep(&world, SPAN_HOUR(1));
                world_run(&world, SPAN_MIN(1));
        }
        expect_nothing_done(&world);
        EXPECT_EQ(world.looks, 0);
        EXPECT_EQ(world.core.verdict.cause, CAUSE_NONE);
        printf("# a day cost %u questions to ECS\n", world.confirms);
        EXPECT(world.confirms <= 2);
}

static void test_flapping_leads_to_nothing(void) {
        World world;

        world_init(&world);
        for (unsigned i = 0; i < 200; i++) {
                world_cut(&world);
                world_run(&world, SPAN_SEC(30 + (Span) (world_draw(&world) % 400)));
                world_connect(&world);
                world_run(&world, SPAN_SEC(1 + (Span) (world_draw(&world) % 60)));
        }
        expect_nothing_done(&world);
}

static void test_time_that_was_not_observed_does_not_count(void) {
        World world;

        world_init(&world);
        world_cut(&world);
        world_run(&world, SPAN_MIN(4));
        world_sleep(&world, SPAN_HOUR(1));
        world_run(&world, SPAN_MIN(7));
        expect_nothing_done(&world);
        EXPECT_EQ(world.looks, 0);
        world_run(&world, SPAN_MIN(10));
        expect_removed_once(&world);
}

static void test_a_clock_that_is_set_starts_grace_anew(void) {
        World world;

        world_init(&world);
        world_cut(&world);
        world_run(&world, SPAN_MIN(7));
        world.now.wall = wall_add(world.now.wall, SPAN_HOUR(5));
        world_run(&world, SPAN_MIN(7));
        expect_nothing_done(&world);
        world_run(&world, SPAN_MIN(10));
        expect_removed_once(&world);
}

static void test_connected_at_ecs_cancels_at_either_confirmation(void) {
        for (unsigned second = 0; second < 2; second++) {
                World world;

                world_init(&world);
                world.ecs_lags = second == 0;
                world_cut(&world);
                world_run(&world, SPAN_MIN(6));
                world.ecs_lags = true;
                world_run(&world, SPAN_HOUR(2));
                expect_nothing_done(&world);
                EXPECT(world.confirms + world.looks >= 1);
        }
}

static void test_without_an_answer_of_ecs_nothing_is_done(void) {
        static const Outcome outcomes[] = { OUTCOME_THROTTLED, OUTCOME_UNAVAILABLE, OUTCOME_DENIED,
                OUTCOME_KEYS, OUTCOME_REFUSED, OUTCOME_BLIND };

        for (unsigned i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
                World world;

                world_init(&world);
                world.confirm_outcome = outcomes[i];
                world_cut(&world);
                world_run(&world, SPAN_HOUR(3));
                expect_nothing_done(&world);
                EXPECT_EQ(world.looks, 0);
                EXPECT(world.confirms > 3);
                EXPECT(world.confirms < 60);
                world.confirm_outcome = OUTCOME_OK;
                /* It may have been an outage of many: then there are slow ones to wait for. */
                if (outcomes[i] == OUTCOME_UNAVAILABLE) {
                        world_run(&world, SPAN_MIN(30));
                        expect_nothing_done(&world);
                }
                world_run(&world, SPAN_MIN(40));
                expect_removed_once(&world);
        }
}

static void test_contradicting_witnesses_are_not_known(void) {
        World world;

        world_init(&world);
        world.black_hole = true;
        world.silent = true;
        world_run(&world, SPAN_SEC(40));
        EXPECT_EQ(world.core.verdict.cause, CAUSE_NOT_KNOWN);
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
        world_connect(&world);
        world_run(&world, SPAN_SEC(40));
        EXPECT_EQ(world.core.verdict.cause, CAUSE_NONE);
}

static void test_a_recovery_is_believed_at_once(void) {
        World world;

        world_init(&world);
        world_cut(&world);
        world_run(&world, SPAN_MIN(7)); /* ECS has called it disconnected */
        EXPECT_EQ(world.confirms, 1);
        world_connect(&world);
        world_run(&world, SPAN_SEC(20));
        EXPECT_EQ(world.core.verdict.cause, CAUSE_NONE);
        world_run(&world, SPAN_MIN(30)); /* and what ECS said then does not help a lone witness now */
        world.no_sockets = true;
        world_cut(&world);
        world_run(&world, SPAN_SEC(20));
        EXPECT(!core_incident_open(&world.core));
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
}

static void test_a_link_that_is_seen_outweighs_a_silent_log(void) {
        World world;

        world_init(&world);
        world.confirm_outcome = OUTCOME_UNAVAILABLE;
        world_run(&world, SPAN_HOUR(3)); /* no reconnect for 3 h, and the connection stands */
        expect_nothing_done(&world);
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
        EXPECT_EQ(world.confirms, 0);
}

static void test_a_silence_that_ecs_contradicts_is_blindness(void) {
        World world;

        world_init(&world);
        world.no_sockets = true;
        world.ecs_lags = true;
        world_run(&world, SPAN_HOUR(3)); /* no reconnect for 3 h: silence */
        expect_nothing_done(&world);
        EXPECT(world.confirms >= 1);
        EXPECT(world.confirms <= 3);
        EXPECT_EQ(log_machine_state(&world.core.checks.log, &world.policy, true, world.now.mono),
                LOG_STATE_BLIND);
}

/* --- intended, so never acted on --------------------------------------------------------------------------------- */

static void operator_stops(World *world) {
        world_log(world, LOG_LINE_STOPPING, 0);
        world_kill(world);
        world->unit = UNIT_INACTIVE;
        world->exit_status = 0;
        world->intent = INTENT_STOPPED;
}

static void operator_stops_docker(World *world) {
        operator_stops(world);
        world->intent = INTENT_NONE;
        world->docker_intent = INTENT_STOPPED;
}

static void operator_masks(World *world) {
        operator_stops(world);
        world->intent = INTENT_DISABLED;
}

static void exit_without_record(World *world) {
        exit_unit(world);
        world->intent = INTENT_UNKNOWN;
}

static void stopped_unseen(World *world) {
        world->no_bus = true;
        world_log(world, LOG_LINE_STOPPING, 0);
        world_kill(world);
}

static void standby(World *world) {
        world_cut(world);
        world->lifecycle = LIFECYCLE_STANDBY;
}

static void warm(World *world) {
        world_cut(world);
        world->lifecycle = LIFECYCLE_WARM;
}

static void leave(World *world) {
        world_cut(world);
        world->lifecycle = LIFECYCLE_TERMINATING;
}

static void unknown_lifecycle(World *world) {
        world_cut(world);
        world->lifecycle = LIFECYCLE_OTHER;
}

static void spot(World *world) {
        world_cut(world);
        world->spot = true;
}

static void foreign_drain(World *world) {
        world_cut(world);
        world->status = CONTROL_DRAINING;
}

static void deregistered_by_log(World *world) {
        world_cut(world);
        world->silent = true;
        world_log(world, LOG_LINE_DEREGISTERED, SPAN_HOUR(1));
}

static void deregistered_at_ecs(World *world) {
        world_cut(world);
        world->status = CONTROL_MISSING;
}

static void deregistered_and_exit_5(World *world) {
        fail_unit(world);
        world->status = CONTROL_INACTIVE;
}

static void external(World *world) {
        world->policy.external = true;
        world_event(world, &(Event){ .type = EVENT_POLICY, .policy = world->policy });
        world_cut(world);
}

static void no_group(World *world) {
        world->in_group = false;
        world->lifecycle = LIFECYCLE_NO_GROUP;
        world_cut(world);
}

static void no_role(World *world) {
        world->no_role = true;
        world_cut(world);
}

static void test_what_somebody_meant_is_never_acted_on(void) {
        static const struct {
                const char *name;
                void (*happens)(World *world);
                Cause cause;
                Fault fault;
        } rows[] = {
                { "stopped by an operator", operator_stops, CAUSE_OPERATOR_STOP, FAULT_INTENDED },
                { "docker stopped by an operator", operator_stops_docker, CAUSE_OPERATOR_STOP,
                        FAULT_INTENDED },
                { "disabled or masked", operator_masks, CAUSE_OPERATOR_STOP, FAULT_INTENDED },
                { "exit 0 without a record", exit_without_record, CAUSE_NOT_KNOWN, FAULT_UNKNOWN },
                { "stopped, and no D-Bus to see by whom", stopped_unseen, CAUSE_NOT_KNOWN, FAULT_UNKNOWN },
                { "standby", standby, CAUSE_STANDBY, FAULT_INTENDED },
                { "warm pool", warm, CAUSE_WARM_POOL, FAULT_INTENDED },
                { "terminating", leave, CAUSE_LEAVING, FAULT_INTENDED },
                { "unknown lifecycle state", unknown_lifecycle, CAUSE_LEAVING, FAULT_INTENDED },
                { "spot interruption", spot, CAUSE_SPOT, FAULT_INTENDED },
                { "drained by somebody else", foreign_drain, CAUSE_FOREIGN_DRAIN, FAULT_INTENDED },
                { "deregistered, by the log", deregistered_by_log, CAUSE_DEREGISTERED, FAULT_INTENDED },
                { "MISSING at ECS", deregistered_at_ecs, CAUSE_DEREGISTERED, FAULT_INTENDED },
                { "INACTIVE at ECS beats exit 5", deregistered_and_exit_5, CAUSE_DEREGISTERED,
                        FAULT_INTENDED },
                { "ECS_EXTERNAL", external, CAUSE_EXTERNAL, FAULT_INTENDED },
                { "in no group", no_group, CAUSE_NO_GROUP, FAULT_INTENDED },
                { "no role", no_role, CAUSE_NO_ROLE, FAULT_OURS },
        };

        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                World world;

                world_init(&world);
                rows[i].happens(&world);
                world_run(&world, SPAN_HOUR(3));
                printf("# %s: %s\n", rows[i].name, cause_to_string(world.core.verdict.cause));
                expect_nothing_done(&world);
                EXPECT_EQ(world.core.verdict.cause, rows[i].cause);
                EXPECT_EQ(world.core.verdict.fault, rows[i].fault);
        }
}

static void test_an_update_is_not_acted_on_for_15_minutes(void) {
        World world;

        world_init(&world);
        world_log(&world, LOG_LINE_UPDATING, 0);
        world_kill(&world);
        world_run(&world, SPAN_MIN(14));
        expect_nothing_done(&world);
        EXPECT_EQ(world.core.verdict.cause, CAUSE_UPDATE);
        world_run(&world, SPAN_MIN(20)); /* and then it is no update any more */
        expect_removed_once(&world);
}

static void test_an_update_that_only_ecs_knows_of_counts_each_time(void) {
        World world;

        world_init(&world);
        for (unsigned i = 0; i < 2; i++) {
                world.updating = true;
                world_cut(&world);
                world_run(&world, SPAN_MIN(14)); /* asked after 5 min, and then it is an update */
                EXPECT_EQ(world.core.verdict.cause, CAUSE_UPDATE);
                EXPECT_EQ(world.core.verdict.fault, FAULT_INTENDED);
                world.updating = false;
                world_connect(&world);
                world_run(&world, SPAN_HOUR(3));
                /* ECS is not asked while all is well: it last said so during the update. */
                world_cut(&world);
                world_run(&world, SPAN_MIN(6));
                EXPECT_EQ(world.core.verdict.cause, CAUSE_LINK_LOST);
                world_connect(&world);
                world_run(&world, SPAN_MIN(2));
        }
        expect_nothing_done(&world);
}

/* --- brakes ------------------------------------------------------------------------------------------------------ */

static void brake_observe(World *world) {
        world->policy.action = ACTION_OBSERVE;
        world_event(world, &(Event){ .type = EVENT_POLICY, .policy = world->policy });
}

static void brake_paused(World *world) {
        world_event(world, &(Event){ .type = EVENT_PAUSED, .paused_until = MONO_INFINITE });
}

static void brake_off_cluster(World *world) {
        world->look.tag_cluster = SWITCH_OFF;
}

static void brake_off_misspelt(World *world) {
        world->look.tag_group = SWITCH_NOT_UNDERSTOOD;
}

static void brake_suspended(World *world) {
        world->look.group_state = GROUP_SUSPENDED;
}

static void brake_refreshing(World *world) {
        world->look.group_state = GROUP_REFRESHING;
}

static void brake_operated(World *world) {
        world->look.group_state = GROUP_OPERATED;
}

static void brake_share_cluster(World *world) {
        world->look.cluster.sick = 4; /* 5 of 20 with ourselves */
}

static void brake_share_group(World *world) {
        world->look.group.sick = 2;
}

static void brake_share_all(World *world) {
        world->look.group = (Population){ 2, 1 };
}

static void brake_share_page(World *world) {
        world->look.more_than_a_page = true;
}

static void brake_path(World *world) {
        world->path_fails = true;
        world->look.connected_peers = 2;
}

static void brake_budget_spent(World *world) {
        world->look.removed_window = 1;
}

static void brake_budget_full(World *world) {
        world->look.ledger_full = true;
}

static void brake_budget_of_the_cluster(World *world) {
        world->look.removed_cluster = 1;
}

static void brake_loop_day(World *world) {
        world->look.removed_day = 2; /* the larger of 2 and 10 % */
}

static void brake_loop_young(World *world) {
        world->look.young = true;
}

static void brake_replacement_pending(World *world) {
        world->look.replacement = REPLACEMENT_PENDING;
}

static void brake_launch_failed(World *world) {
        world->look.replacement = REPLACEMENT_FAILED;
}

static void brake_blind_look(World *world) {
        world->look_outcome = OUTCOME_UNAVAILABLE;
}

static void brake_denied(World *world) {
        Event event = { .type = EVENT_RIGHTS };

        event.rights.granted[RIGHT_ASG_DESCRIBE_GROUPS] = GRANTED_NO;
        world_event(world, &event);
}

static void brake_denied_attributes(World *world) {
        Event event = { .type = EVENT_RIGHTS };

        event.rights.granted[RIGHT_ECS_PUT_ATTRIBUTES] = GRANTED_NO;
        world_event(world, &event);
}

static void test_each_brake_holds_and_says_so(void) {
        static const struct {
                const char *name;
                void (*set)(World *world);
                Brake brake;
        } rows[] = {
                { "observe", brake_observe, BRAKE_OBSERVE },
                { "paused", brake_paused, BRAKE_PAUSED },
                { "off on the cluster", brake_off_cluster, BRAKE_OFF },
                { "a misspelt switch on the group", brake_off_misspelt, BRAKE_OFF },
                { "suspended processes", brake_suspended, BRAKE_GROUP },
                { "instance refresh", brake_refreshing, BRAKE_GROUP },
                { "operated by another service", brake_operated, BRAKE_GROUP },
                { "share of the cluster", brake_share_cluster, BRAKE_SHARE },
                { "share of the group", brake_share_group, BRAKE_SHARE },
                { "all of two", brake_share_all, BRAKE_SHARE },
                { "more than a page", brake_share_page, BRAKE_SHARE },
                { "path", brake_path, BRAKE_PATH },
                { "budget spent", brake_budget_spent, BRAKE_BUDGET },
                { "ledger full", brake_budget_full, BRAKE_BUDGET },
                { "budget of the cluster", brake_budget_of_the_cluster, BRAKE_BUDGET },
                { "as many in a day as may be", brake_loop_day, BRAKE_LOOP },
                { "a young replacement", brake_loop_young, BRAKE_LOOP },
                { "replacement not connected yet", brake_replacement_pending, BRAKE_REPLACEMENT },
                { "newest launch failed", brake_launch_failed, BRAKE_REPLACEMENT },
                { "look failed", brake_blind_look, BRAKE_BLIND },
                { "a read denied", brake_denied, BRAKE_RIGHTS },
                { "PutAttributes denied", brake_denied_attributes, BRAKE_RIGHTS },
        };

        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                World world;

                world_init(&world);
                rows[i].set(&world);
                world_cut(&world);
                world_run(&world, SPAN_HOUR(1)); /* after which the slow lane opens */
                printf("# %s: %u looks in 1 h\n", rows[i].name, world.looks);
                EXPECT_EQ(world.drains, 0);
                EXPECT_EQ(world.repairs, 0);
                expect_held_by(&world, rows[i].brake);
                EXPECT(world.looks <= 20);
        }
}

static void test_a_missing_right_that_acting_does_not_need_holds_nothing(void) {
        static const Right rights[] = { RIGHT_CLOUDWATCH_PUT, RIGHT_ECS_DELETE_ATTRIBUTES };

        for (unsigned i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
                Event event = { .type = EVENT_RIGHTS };
                World world;

                world_init(&world);
                event.rights.granted[rights[i]] = GRANTED_NO;
                world_event(&world, &event);
                world_cut(&world);
                world_run(&world, SPAN_HOUR(2));
                expect_removed_once(&world);
        }
}

static void test_a_share_hold_settles_before_anything_is_done(void) {
        World world;
        Mono over;

        world_init(&world);
        brake_share_cluster(&world);
        world_cut(&world);
        world_run(&world, SPAN_MIN(30));
        expect_held_by(&world, BRAKE_SHARE);
        world.look.cluster.sick = 0;
        over = world.now.mono;
        world_run(&world, SPAN_HOUR(4));
        EXPECT((world.held & (1u << BRAKE_SETTLE)) != 0);
        expect_removed_once(&world);
        EXPECT(mono_since(world.first_drain, over) >= SPAN_MIN(10));
}

static Mono outage_over, first_clear_look;

static void note_the_first_clear_look(World *world, const Effect *effect) {
        if (effect->type == EFFECT_LOOK && mono_is_set(outage_over) && !mono_is_set(first_clear_look))
                first_clear_look = world->now.mono;
}

/* While share holds, looks come to lie half an hour and more apart: settling begins when it is seen to be over, not at the last look
 * that saw it hold. */
static void test_a_long_share_hold_settles_from_the_first_clear_look(void) {
        World world;

        world_init(&world);
        brake_share_cluster(&world);
        world.path_fails = true; /* no slow lane */
        world.on_effect = note_the_first_clear_look;
        outage_over = first_clear_look = MONO_NEVER;
        world.core.policy.settle = SPAN_MIN(40); /* longer than two looks lie apart by themselves */
        world_cut(&world);
        world_run(&world, SPAN_HOUR(5));
        expect_held_by(&world, BRAKE_SHARE);
        world.look.cluster.sick = 0;
        world.path_fails = false;
        outage_over = world.now.mono;
        world_run(&world, SPAN_HOUR(4));
        expect_removed_once(&world);
        EXPECT(mono_is_set(first_clear_look));
        EXPECT(mono_since(world.first_drain, first_clear_look) >= SPAN_MIN(40));
}

static void others_fall_ill_after_the_first_look(World *world, const Effect *effect) {
        if (effect->type == EFFECT_LOOK && world->looks >= 1)
                world->look.cluster.sick =
                        5; /* of 100: far below max_sick, but they were none a minute ago */
}

static void test_a_sick_count_that_still_moves_holds(void) {
        World world;

        world_init(&world);
        world.look.cluster = (Population){ 100, 0 };
        world.look.connected_peers = 95;
        world.on_effect = others_fall_ill_after_the_first_look;
        world_cut(&world);
        world_run(&world, SPAN_MIN(14));
        EXPECT((world.held & (1u << BRAKE_SHARE)) != 0);
        EXPECT_EQ(world.drains, 0);
        world_run(&world, SPAN_HOUR(4)); /* five stay sick, and no more */
        EXPECT((world.held & (1u << BRAKE_SETTLE)) != 0);
        expect_removed_once(&world);
}

static void test_a_boot_is_given_its_grace(void) {
        World world;

        world_init(&world);
        world_crash(&world, true);
        world_run(&world, SPAN_SEC(30));
        world_cut(&world);
        world_run(&world, SPAN_MIN(9));
        expect_nothing_done(&world);
        world_run(&world, SPAN_MIN(20));
        expect_removed_once(&world);
}

static void test_the_path_brake_does_not_hold_for_a_dead_agent(void) {
        World world;

        world_init(&world);
        brake_path(&world);
        world_kill(&world);
        world_run(&world, SPAN_MIN(40));
        expect_removed_once(&world);
}

static void test_a_pause_that_ends_lets_the_incident_go_on(void) {
        World world;

        world_init(&world);
        brake_paused(&world);
        world_cut(&world);
        world_run(&world, SPAN_MIN(30));
        expect_held_by(&world, BRAKE_PAUSED);
        EXPECT_EQ(world.looks, 0);
        world_event(&world, &(Event){ .type = EVENT_PAUSED });
        world_run(&world, SPAN_MIN(10));
        expect_removed_once(&world);
}

/* --- between drain and detach ------------------------------------------------------------------------------------ */

static void close_a_brake_after_the_drain(World *world, const Effect *effect) {
        if (effect->type == EFFECT_DRAIN)
                world->look.tag_group = SWITCH_OFF;
}

static void reconnect_after_the_drain(World *world, const Effect *effect) {
        if (effect->type == EFFECT_DRAIN)
                world->ecs_lags = true;
}

static void test_a_brake_that_closes_after_the_drain_undoes_it(void) {
        static void (*const closes[])(
                World *, const Effect *) = { close_a_brake_after_the_drain, reconnect_after_the_drain };

        for (unsigned i = 0; i < 2; i++) {
                World world;

                world_init(&world);
                world.on_effect = closes[i];
                world_cut(&world);
                world_run(&world, SPAN_MIN(30));
                EXPECT_EQ(world.drains, 1);
                EXPECT_EQ(world.detaches, 0);
                EXPECT_EQ(world.undrains_done, 1);
                EXPECT_EQ(world.status, CONTROL_ACTIVE);
                EXPECT(!world.marked);
        }
}

static void test_a_refused_detach_undoes_the_drain(void) {
        static const Outcome outcomes[] = { OUTCOME_DENIED, OUTCOME_REFUSED, OUTCOME_CONTENTION,
                OUTCOME_THROTTLED, OUTCOME_UNAVAILABLE };

        for (unsigned i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
                World world;

                world_init(&world);
                world.detach_outcome = outcomes[i];
                world_cut(&world);
                world_run(&world, SPAN_MIN(20));
                EXPECT(world.detaches >= 1);
                EXPECT_EQ(world.detaches_done, 0);
                EXPECT_EQ(world.undrains_done, world.detaches);
                EXPECT_EQ(world.status, CONTROL_ACTIVE);
        }
}

static void test_a_lost_answer_is_read_and_not_repeated(void) {
        World world;

        world_init(&world);
        world.detach_outcome = OUTCOME_LOST;
        world.detach_lost_but_done = true;
        world_cut(&world);
        world_run(&world, SPAN_MIN(40));
        EXPECT_EQ(world.detaches, 1);
        EXPECT(world.verifies >= 1);
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
        EXPECT_EQ(world.status, CONTROL_DRAINING);
}

static void test_a_lost_request_is_read_for_long_and_then_decided_anew(void) {
        World world;
        unsigned verifies;

        world_init(&world);
        world.detach_outcome = OUTCOME_LOST;
        world_cut(&world);
        while (world.detaches == 0)
                world_run(&world, SPAN_SEC(1));
        world.detach_outcome = OUTCOME_OK;
        world_run(&world, SPAN_SEC(110));
        EXPECT_EQ(world.detaches, 1); /* reads lag: not believed before a turn has passed */
        EXPECT_EQ(world.undrains, 0);
        verifies = world.verifies;
        EXPECT(verifies >= 2);
        world_run(&world, SPAN_MIN(30));
        EXPECT_EQ(world.detaches, 2);
        EXPECT_EQ(world.detaches_done, 1);
        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
}

static void test_an_undo_that_fails_is_tried_until_it_works(void) {
        World world;

        world_init(&world);
        world.on_effect = close_a_brake_after_the_drain;
        world.undrain_outcome = OUTCOME_UNAVAILABLE;
        world_cut(&world);
        world_run(&world, SPAN_MIN(40));
        EXPECT_EQ(world.core.stage, STAGE_UNDOING);
        EXPECT(world.undrains > 3);
        world.undrain_outcome = OUTCOME_OK;
        world_run(&world, SPAN_MIN(15));
        EXPECT_EQ(world.status, CONTROL_ACTIVE);
        EXPECT_EQ(world.undrains_done, 1);
}

static void test_the_cooldown_holds_a_second_incident(void) {
        World world;

        world_init(&world);
        world.on_effect = reconnect_after_the_drain;
        world_cut(&world);
        world_run(&world, SPAN_MIN(14));
        world_connect(&world);
        world.on_effect = NULL;
        world.ecs_lags = false;
        EXPECT_EQ(world.undrains_done, 1);
        world_run(&world, SPAN_MIN(5));
        world_cut(&world);
        world_run(&world, SPAN_MIN(20));
        EXPECT_EQ(world.detaches, 0);
        EXPECT((world.held & (1u << BRAKE_COOLDOWN)) != 0);
        world_run(&world, SPAN_HOUR(1));
        EXPECT_EQ(world.detaches, 1);
}

static void test_an_orphan_that_is_attached_again_is_watched_again(void) {
        World world;

        world_init(&world);
        world_cut(&world);
        world_run(&world, SPAN_MIN(40));
        expect_removed_once(&world);
        world_run(&world, SPAN_HOUR(2));
        world.in_group = true;
        world.lifecycle = LIFECYCLE_IN_SERVICE;
        world.status = CONTROL_ACTIVE;
        world.marked = false;
        world_connect(&world);
        world_run(&world, SPAN_MIN(2));
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
}

static void test_also_act_on_docker_needs_no_lost_link(void) {
        World world;

        world_init(&world);
        world.docker_hung = true;
        world_run(&world, SPAN_MIN(30));
        expect_nothing_done(&world);
        EXPECT_EQ(world.core.verdict.cause, CAUSE_NONE);
        world.policy.also_act_on = ALSO_DOCKER;
        world_event(&world, &(Event){ .type = EVENT_POLICY, .policy = world.policy });
        world_run(&world, SPAN_MIN(30));
        EXPECT_EQ(world.detaches_done, 1);
        EXPECT_EQ(world.core.record.cause, CAUSE_DOCKER);
}

/* --- crashes ----------------------------------------------------------------------------------------------------- */

/* Our process dies at the n-th effect, before or after it was carried out, and starts anew @outage later. */
static World *crashing;
static unsigned crash_at, crash_counter;

static void count_effects(World *world, const Effect *effect) {
        (void) effect;
        crash_counter++;
        if (crash_counter == crash_at)
                crashing = world;
}

static void crash_everywhere(bool before, bool reboot, bool connects_meanwhile) {
        for (unsigned n = 1; n < 16; n++) {
                World world;

                world_init(&world);
                crashing = NULL;
                crash_at = n;
                crash_counter = 0;
                world.on_effect = count_effects;
                world.swallow = before && n == 1;
                world_cut(&world);
                for (unsigned s = 0; s < 3600 && !crashing; s++) {
                        /* Swallow exactly the one at which we die. */
                        world.swallow = before && crash_counter + 1 == n;
                        world_run(&world, SPAN_MSEC(500));
                }
                world.swallow = false;
                world.on_effect = NULL;
                if (connects_meanwhile) {
                        world_connect(&world);
                        world.silent = true;
                }
                world_sleep(&world, SPAN_SEC(2));
                world_crash(&world, reboot);
                world_run(&world, SPAN_HOUR(3));
                EXPECT(world.detaches_done <= 1);
                if (connects_meanwhile && world.in_group) {
                        EXPECT_EQ(world.status, CONTROL_ACTIVE);
                        EXPECT(!world.marked);
                } else if (!connects_meanwhile) {
                        EXPECT_EQ(world.detaches_done, 1);
                        EXPECT(!world.in_group);
                        EXPECT_EQ(world.status, CONTROL_DRAINING);
                        EXPECT_EQ(world.core.stage, STAGE_REMOVED);
                }
        }
}

static void test_a_crash_after_any_step_loses_nothing_and_repeats_nothing(void) {
        crash_everywhere(false, false, false);
}

static void test_a_crash_before_any_step_loses_nothing_and_repeats_nothing(void) {
        crash_everywhere(true, false, false);
}

static void test_a_reboot_at_any_step_loses_nothing_and_repeats_nothing(void) {
        crash_everywhere(false, true, false);
        crash_everywhere(true, true, false);
}

static void test_a_crash_during_which_the_agent_reconnects_leaves_no_drain(void) {
        crash_everywhere(false, false, true);
        crash_everywhere(true, false, true);
}

static void test_a_drain_is_undone_although_the_journal_is_lost(void) {
        World world;

        world_init(&world);
        world.detach_outcome = OUTCOME_UNAVAILABLE;
        world_cut(&world);
        while (world.core.stage != STAGE_RECHECKING)
                world_run(&world, SPAN_MSEC(100));
        EXPECT_EQ(world.status, CONTROL_DRAINING);
        world.journal_lost = true;
        world_crash(&world, true);
        world_connect(&world);
        world.undrain_outcome = OUTCOME_UNAVAILABLE;
        world_run(&world, SPAN_MIN(5));
        EXPECT(world.undrains >= 2);
        EXPECT_EQ(world.core.stage, STAGE_WATCHING); /* it is no incident */
        world.undrain_outcome = OUTCOME_OK;
        world_run(&world, SPAN_MIN(15));
        EXPECT_EQ(world.status, CONTROL_ACTIVE);
        EXPECT_EQ(world.core.stage, STAGE_WATCHING);
}

TEST_MAIN(TEST(test_each_loss_ends_in_one_drain_and_one_detach),
        TEST(test_an_instance_that_does_not_come_back_after_a_reboot_is_removed),
        TEST(test_one_refusal_after_a_reboot_is_no_illness),
        TEST(test_an_instance_that_was_never_registered_is_left_alone),
        TEST(test_an_instance_that_was_never_registered_is_removed_if_the_settings_say_so),
        TEST(test_an_instance_that_ecs_knows_to_be_connected_is_not_unregistered),
        TEST(test_a_repair_that_helps_ends_the_incident),
        TEST(test_a_repair_is_not_made_while_the_agent_retries),
        TEST(test_a_repair_is_not_repeated_within_the_hour),
        TEST(test_without_the_right_to_detach_only_the_repair_is_made),
        TEST(test_a_day_of_normal_life_leads_to_nothing), TEST(test_flapping_leads_to_nothing),
        TEST(test_time_that_was_not_observed_does_not_count),
        TEST(test_a_clock_that_is_set_starts_grace_anew),
        TEST(test_connected_at_ecs_cancels_at_either_confirmation),
        TEST(test_without_an_answer_of_ecs_nothing_is_done),
        TEST(test_contradicting_witnesses_are_not_known), TEST(test_a_recovery_is_believed_at_once),
        TEST(test_a_link_that_is_seen_outweighs_a_silent_log),
        TEST(test_a_silence_that_ecs_contradicts_is_blindness),
        TEST(test_what_somebody_meant_is_never_acted_on),
        TEST(test_an_update_is_not_acted_on_for_15_minutes),
        TEST(test_an_update_that_only_ecs_knows_of_counts_each_time),
        TEST(test_each_brake_holds_and_says_so),
        TEST(test_a_missing_right_that_acting_does_not_need_holds_nothing),
        TEST(test_a_share_hold_settles_before_anything_is_done),
        TEST(test_a_long_share_hold_settles_from_the_first_clear_look),
        TEST(test_a_sick_count_that_still_moves_holds), TEST(test_a_boot_is_given_its_grace),
        TEST(test_the_path_brake_does_not_hold_for_a_dead_agent),
        TEST(test_a_pause_that_ends_lets_the_incident_go_on),
        TEST(test_a_brake_that_closes_after_the_drain_undoes_it),
        TEST(test_a_refused_detach_undoes_the_drain), TEST(test_a_lost_answer_is_read_and_not_repeated),
        TEST(test_a_lost_request_is_read_for_long_and_then_decided_anew),
        TEST(test_an_undo_that_fails_is_tried_until_it_works),
        TEST(test_the_cooldown_holds_a_second_incident),
        TEST(test_an_orphan_that_is_attached_again_is_watched_again),
        TEST(test_also_act_on_docker_needs_no_lost_link),
        TEST(test_a_drain_is_undone_although_the_journal_is_lost),
        TEST(test_a_crash_after_any_step_loses_nothing_and_repeats_nothing),
        TEST(test_a_crash_before_any_step_loses_nothing_and_repeats_nothing),
        TEST(test_a_reboot_at_any_step_loses_nothing_and_repeats_nothing),
        TEST(test_a_crash_during_which_the_agent_reconnects_leaves_no_drain))
