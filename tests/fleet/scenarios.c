/* SPDX-License-Identifier: Apache-2.0 */

/* What befalls a fleet. Each scenario shapes the region, and then says what happens when. */

#include "tests/fleet/scenarios.h"

/* --- shapes ------------------------------------------------------------------------------------------------------ */

static void shape(Config *config, unsigned clusters, unsigned groups, unsigned size) {
        config->clusters = clusters;
        config->groups_per_cluster = groups;
        config->group_size = size;
}

static void shape_thousand(Config *config, bool full) {
        shape(config, full ? 4 : 2, full ? 25 : 5, 100);
}

static void shape_20(Config *config, bool full) {
        (void) full;
        shape(config, 1, 1, 20);
}

/* For what the day's budget would hide: the larger of 2 and 10 % is two of 20. */
static void shape_20_long_day(Config *config, bool full) {
        shape_20(config, full);
        config->policy.max_per_day = (Amount){ 20, -1 };
}

static void shape_20_rough(Config *config, bool full) {
        shape_20_long_day(config, full);
        config->slow_ledger = true;
        config->calls_fail = 200;
        config->replacement_fails = 0;
}

static void shape_20_share_off(Config *config, bool full) {
        shape_20_long_day(config, full);
        config->policy.max_sick = 10000;
}

static void shape_20_share_off_slow(Config *config, bool full) {
        shape_20_share_off(config, full);
        config->slow_ledger = true;
}

static void shape_100(Config *config, bool full) {
        (void) full;
        shape(config, 1, 1, 100);
}

static void shape_100_slow(Config *config, bool full) {
        shape_100(config, full);
        config->slow_ledger = true;
}

static void shape_tiny(Config *config, bool full) {
        static const unsigned sizes[] = { 1, 2, 3, 5 };

        (void) full;
        shape(config, 4, 1, 0);
        config->sizes = sizes;
}

static void shape_tiny_several(Config *config, bool full) {
        static const unsigned sizes[] = { 2, 3, 5 };

        (void) full;
        shape(config, 3, 1, 0);
        config->sizes = sizes;
}

static void shape_10(Config *config, bool full) {
        (void) full;
        shape(config, 1, 1, 10);
}

static void shape_cluster(Config *config, bool full) {
        shape(config, 1, full ? 100 : 10, 100);
}

static void shape_six_zones(Config *config, bool full) {
        shape_cluster(config, full);
        config->zones = 6;
}

/* The second cluster lives through the first one's outage with failures of its own. */
static void shape_region(Config *config, bool full) {
        shape(config, 2, full ? 100 : 10, 100);
}

static void shape_many_tiny(Config *config, bool full) {
        shape(config, 1, full ? 2000 : 200, 5);
}

static void shape_3(Config *config, bool full) {
        (void) full;
        shape(config, 1, 1, 3);
}

static void shape_wakes(Config *config, bool full) {
        shape_100(config, full);
        config->wakes = true;
}

static void shape_unhealthy(Config *config, bool full) {
        shape_20_long_day(config, full);
        config->policy.action = ACTION_UNHEALTHY;
}

static void shape_standby(Config *config, bool full) {
        shape_20_long_day(config, full);
        config->policy.action = ACTION_STANDBY;
}

static void shape_hundreds(Config *config, bool full) {
        (void) full;
        shape(config, 1, 100, 100);
}

static void shape_fives(Config *config, bool full) {
        (void) full;
        shape(config, 1, 2000, 5);
}

static void shape_100_and_1(Config *config, bool full) {
        static const unsigned sizes[] = { 100, 1 };

        (void) full;
        shape(config, 1, 2, 0);
        config->sizes = sizes;
}

static void shape_three_groups(Config *config, bool full) {
        (void) full;
        shape(config, 3, 1, 100);
}

static void shape_orphans(Config *config, bool full) {
        (void) full;
        shape(config, 1, 1, 126);
}

static void shape_rollout(Config *config, bool full) {
        (void) full;
        shape(config, 1, 3, 100);
}

/* --- what happens ------------------------------------------------------------------------------------------------ */

#define FROM SPAN_MIN(20) /* when it begins */

static Ailment draw_ailment(World *world) {
        return (Ailment) (1 + world_draw(&world->random) % AILMENTS_AWAKE);
}

static void ail_at(World *world, uint32_t host, int64_t at) {
        world_at(world, at, HAPPENING_AIL, host, draw_ailment(world));
}

/* Hosts of a group lie zone by zone in turn, so that neighbours are spread evenly, as a group's fault would be. */
static void ail_few(World *world, unsigned n, Span spread) {
        uint32_t first = (uint32_t) (world_draw(&world->random) % world->n_hosts);

        for (unsigned i = 0; i < n; i++)
                ail_at(world, (first + i) % world->n_hosts, FROM + world_between(&world->random, 0, spread));
}

static void begin_one(World *world) {
        ail_few(world, 1, SPAN_MIN(10));
}

static void begin_three(World *world) {
        ail_few(world, 3, world_between(&world->random, SPAN_MIN(5), SPAN_MIN(10)));
}

static void begin_six(World *world) {
        ail_few(world, 6, world_between(&world->random, SPAN_MIN(5), SPAN_MIN(10)));
}

static void begin_ten(World *world) {
        ail_few(world, 10, world_between(&world->random, SPAN_MIN(5), SPAN_MIN(10)));
}

/* One failure in a hundred host-days: an assumption, and a gloomy one. */
static void begin_quiet(World *world) {
        for (uint32_t i = 0; i < world->n_hosts; i++) {
                int64_t at = FROM + world_exponential(&world->hosts[i]->random, SPAN_DAY(100));

                if (at < SPAN_DAY(40))
                        ail_at(world, i, at);
        }
}

static void freeze_few(World *world, unsigned n) {
        uint32_t first = (uint32_t) (world_draw(&world->random) % world->n_hosts);

        for (unsigned i = 0; i < n; i++)
                world_at(world, FROM + world_between(&world->random, 0, SPAN_MIN(10)), HAPPENING_AIL,
                        (first + i) % world->n_hosts, AILMENT_FROZEN);
}

static void begin_one_frozen(World *world) {
        freeze_few(world, 1);
}

static void begin_five_frozen(World *world) {
        freeze_few(world, 5);
}

static void begin_thirty_frozen(World *world) {
        freeze_few(world, 30);
}

/* Whoever begins to remove a frozen peer freezes itself, or its daemon restarts, with or without its journal. */
static void kill_finder(World *world, Host *finder, Host *peer) {
        int64_t at = world->now + world_between(&world->random, 0, SPAN_SEC(2));
        unsigned fate = (unsigned) (world_draw(&world->random) % 3);

        (void) peer;
        if (world->figures.drains >= 2)
                return;
        if (fate == 0 && world->figures.ailing < 2) /* three in a zone of seven would be held */
                world_at(world, at, HAPPENING_AIL, finder->number, AILMENT_FROZEN);
        else
                world_at(world, at, HAPPENING_RESTART, finder->number, fate == 1);
}

static void begin_finder_dies(World *world) {
        world->on_claim = kill_finder;
        freeze_few(world, 1);
}

/* Five frozen hosts that nobody may touch: paused, observing, without an agent of ours, drained by an operator, and one
 * in a group of one, which has nobody to patrol for it; and a sixth that may be removed. */
static void begin_frozen_untouchable(World *world) {
        uint32_t first = (uint32_t) (world_draw(&world->random) % 100);

        for (uint32_t i = 0; i < 5; i++) {
                Host *host = world_host(world, (first + i) % 100);

                if (i == 0)
                        world_at(world, SPAN_MIN(5), HAPPENING_PAUSE, host->number, 1);
                else if (i == 1)
                        host_set_action(host, ACTION_OBSERVE);
                else if (i == 2)
                        host_without_agent(host);
                else if (i == 3)
                        host->drained = host->foreign_drain = true;
                world_at(world, FROM, HAPPENING_AIL, host->number, AILMENT_FROZEN);
        }
        world_at(world, FROM, HAPPENING_AIL, 100, AILMENT_FROZEN);
}

/* One group paused, one observing, one switched off by a tag; in each some are dead and some frozen. */
static void begin_hands_off(World *world) {
        world->clusters[2].tag = SWITCH_OFF;
        for (uint32_t i = 0; i < world->n_hosts; i++) {
                Host *host = world_host(world, i);

                if (host->group->number == 0)
                        world_at(world, SPAN_MIN(1), HAPPENING_PAUSE, i, 1);
                else if (host->group->number == 1)
                        host_set_action(host, ACTION_OBSERVE);
                if (i % 100 < 6)
                        world_at(world, FROM + world_between(&world->random, 0, SPAN_MIN(30)), HAPPENING_AIL,
                                i, i % 2 == 0 ? AILMENT_FROZEN : draw_ailment(world));
        }
}

static void attach_again(World *world, Host *removed) {
        if (world->figures.removals == 1)
                world_at(world, world->now + world_between(&world->random, SPAN_MIN(1), SPAN_MIN(50)),
                        HAPPENING_ATTACH, removed->number, 0);
}

static void begin_attached_again(World *world) {
        world->on_removed = attach_again;
        begin_one(world);
}

/* Awake and frozen. */
static void begin_one_and_one_frozen(World *world) {
        uint32_t first = (uint32_t) (world_draw(&world->random) % world->n_hosts);

        ail_at(world, first, FROM);
        world_at(world, FROM, HAPPENING_AIL, (first + 1) % world->n_hosts, AILMENT_FROZEN);
}

static void begin_nothing(World *world) {
        (void) world;
}

static void begin_tiny_one(World *world) {
        for (unsigned g = 0; g < world->n_groups; g++)
                ail_at(world, world->groups[g].members[0], FROM);
}

static void begin_all(World *world) {
        for (uint32_t i = 0; i < world->n_hosts; i++)
                ail_at(world, i, FROM + world_between(&world->random, 0, SPAN_MIN(1)));
}

static void cut_zone(World *world, unsigned cluster, int64_t until, Span spread) {
        unsigned zone = (unsigned) (world_draw(&world->random) % world->config.zones);

        world->outage_from = FROM;
        world->clusters[cluster].zone_down_until[zone] = until;
        for (uint32_t i = 0; i < world->n_hosts; i++) {
                Host *host = world->hosts[i];

                if (host->zone == zone && host->group->cluster == cluster)
                        world_outage(
                                world, host, FROM + world_between(&world->random, 0, spread), until, false);
        }
}

static void begin_zone(World *world) {
        cut_zone(world, 0, FROM + SPAN_HOUR(1), SPAN_SEC(2));
}

static void begin_zone_slowly(World *world) {
        cut_zone(world, 0, FROM + SPAN_HOUR(1), SPAN_MIN(15));
}

static void begin_region(World *world) {
        int64_t until = FROM + SPAN_HOUR(2);

        world->outage_from = FROM;
        for (unsigned zone = 0; zone < world->config.zones; zone++)
                world->clusters[0].zone_down_until[zone] = until;
        for (uint32_t i = 0; i < world->n_hosts; i++) {
                Host *host = world->hosts[i];

                if (host->group->cluster == 0)
                        world_outage(world, host, FROM + world_between(&world->random, 0, SPAN_SEC(30)),
                                until, false);
                else if (i % (world->n_hosts / 10) == 0)
                        ail_at(world, i,
                                FROM + SPAN_MIN(15) + world_between(&world->random, 0, SPAN_MIN(100)));
        }
}

static void begin_storm(World *world) {
        world->outage_from = FROM;
        for (uint32_t i = 0; i < world->n_hosts; i++)
                world_outage(world, world->hosts[i], FROM + world_between(&world->random, 0, SPAN_SEC(30)),
                        FROM + SPAN_HOUR(2), false);
}

static void begin_region_not(World *world) {
        for (uint32_t i = 0; i < world->n_hosts; i++)
                if (world->hosts[i]->group->cluster == 1 && i % (world->n_hosts / 10) == 0)
                        ail_at(world, i,
                                FROM + SPAN_MIN(15) + world_between(&world->random, 0, SPAN_MIN(100)));
}

/* A third of the cluster, across zones, reaches neither ECS nor any API. */
static void begin_partition(World *world) {
        world->outage_from = FROM;
        for (uint32_t i = 0; i < world->n_hosts; i++)
                if (world_chance(&world->hosts[i]->random, 3333))
                        world_outage(world, world->hosts[i],
                                FROM + world_between(&world->random, 0, SPAN_MIN(1)), FROM + SPAN_HOUR(1),
                                true);
}

static void follow_task(World *world, Host *removed) {
        const Group *group = removed->group;

        if (removed->ailment == AILMENT_NONE || group->n_members == 0)
                return;
        world_at(world, world->now + world_between(&world->random, SPAN_MIN(10), SPAN_MIN(30)),
                HAPPENING_AIL, group->members[world_draw(&world->random) % group->n_members], AILMENT_DEAD);
}

static void begin_leak(World *world) {
        world->on_removed = follow_task;
        begin_one(world);
}

static void begin_bad_image(World *world) {
        world->groups[0].bad_image = true;
        begin_one(world);
}

/* One group's agents are stopped for good, host by host, within half an hour. */
static void begin_rollout(World *world) {
        for (uint32_t i = 0; i < 100; i++)
                world_at(world, FROM + SPAN_SEC(18) * i, HAPPENING_AIL, i, AILMENT_DEAD);
}

static void begin_jumps(World *world) {
        begin_three(world);
        for (uint32_t i = 0; i < world->n_hosts; i++) {
                Span jump = world_between(&world->random, -7200, 7200);

                world_at(world, FROM + world_between(&world->random, 0, SPAN_HOUR(1)), HAPPENING_JUMP, i,
                        (uint32_t) (int32_t) jump);
        }
}

static void begin_restarts(World *world) {
        begin_three(world);
        for (unsigned n = 0; n < 4; n++) {
                int64_t at = FROM + SPAN_MIN(10) + world_between(&world->random, 0, SPAN_MIN(90));

                for (uint32_t i = 0; i < world->n_hosts; i++)
                        world_at(world, at + world_between(&world->random, 0, SPAN_SEC(2)),
                                HAPPENING_RESTART, i, world_chance(&world->random, 1000));
        }
}

static void set_throttle(World *world, uint32_t on) {
        world->throttle_all = on;
}

static void begin_throttled(World *world) {
        world->on_scenario = set_throttle;
        world_at(world, FROM, HAPPENING_SCENARIO, 0, 1);
        world_at(world, FROM + SPAN_HOUR(2), HAPPENING_SCENARIO, 0, 0);
        begin_one(world);
}

/* As many as one page of ECS's list holds would be held, so fewer; each in another group, within two hours. */
static void begin_many_tiny(World *world) {
        uint32_t first = (uint32_t) (world_draw(&world->random) % world->n_hosts);

        for (uint32_t i = 0; i < (world->n_hosts > 2000 ? 80 : 30); i++)
                ail_at(world, (first + i * 31) % world->n_hosts,
                        FROM + world_between(&world->random, 0, SPAN_HOUR(2)));
}

static void begin_orphans(World *world) {
        for (uint32_t i = 100; i < 126; i++)
                world_orphan(world_host(world, i));
        world->groups[0].size = 100;
        ail_at(world, (uint32_t) (world_draw(&world->random) % 100), FROM);
}

/* Two hosts are paused and worked on, one of them drained by the operator; a third falls sick meanwhile. */
static void begin_operator(World *world) {
        uint32_t first = (uint32_t) (world_draw(&world->random) % world->n_hosts);

        for (uint32_t i = 0; i < 2; i++) {
                uint32_t host = (first + i) % world->n_hosts;

                world_at(world, SPAN_MIN(5), HAPPENING_PAUSE, host, 1);
                world_at(world, FROM, HAPPENING_AIL, host, AILMENT_DEAD);
                world_host(world, host)->drained = world_host(world, host)->foreign_drain = i == 0;
        }
        ail_at(world, (first + 2) % world->n_hosts, FROM + SPAN_MIN(5));
}

/* --- the table --------------------------------------------------------------------------------------------------- */

#define LONE_MAX      SPAN_MIN(13)
#define BETWEEN(a, b) .counted = true, .removals_min = (a), .removals_max = (b)
#define EXACTLY(n)    BETWEEN((n), (n))
#define AT_MOST(n)    BETWEEN(0, (n))
#define AT_LEAST(n)   BETWEEN((n), INT32_MAX)

/* clang-format off */
const Scenario scenarios[] = {
        { "quiet", "single failures, one in a hundred host-days", NULL,
                shape_thousand, begin_quiet,
                SPAN_DAY(1), SPAN_DAY(30), 1, 1, LIVENESS_NONE, { AT_LEAST(1), .median = LONE_MAX } },
        { "lone", "one sick host of 20", "One of 20 falls sick",
                shape_20, begin_one,
                SPAN_HOUR(2), SPAN_HOUR(2), 300, 5000, LIVENESS_LONE, { EXACTLY(1), .longest = LONE_MAX } },
        { "few-3-of-20", "3 sick of 20 within 5 to 10 min", "3 of 20 fall sick within 10 min",
                shape_20_long_day, begin_three,
                SPAN_HOUR(4), SPAN_HOUR(4), 200, 5000, LIVENESS_FEW, { AT_MOST(3) } },
        { "few-3-of-20-rough", "the same, activities up to 300 s late, 2 % of calls lost", NULL,
                shape_20_rough, begin_three,
                SPAN_HOUR(4), SPAN_HOUR(4), 200, 5000, LIVENESS_NONE, { AT_MOST(3) } },
        { "few-3-of-20-day", "the same with the standard budget of a day, which is 2", NULL,
                shape_20, begin_three,
                SPAN_HOUR(4), SPAN_HOUR(4), 100, 1000, LIVENESS_NONE, { AT_MOST(2) } },
        { "few-6-of-20", "6 sick of 20, share brake off", NULL,
                shape_20_share_off, begin_six,
                SPAN_HOUR(5), SPAN_HOUR(5), 200, 5000, LIVENESS_NONE, { BETWEEN(1, 6) } },
        { "few-6-of-20-slow", "the same, activities up to 300 s late", "6 of 20, brake `share` off, activities shown up to 5 min late",
                shape_20_share_off_slow, begin_six,
                SPAN_HOUR(5), SPAN_HOUR(5), 200, 5000, LIVENESS_NONE, { BETWEEN(1, 6) } },
        { "few-10-of-100", "10 sick of 100", "10 of 100 fall sick within 10 min",
                shape_100, begin_ten,
                SPAN_HOUR(4), SPAN_HOUR(4), 60, 5000, LIVENESS_FEW, { AT_MOST(10) } },
        { "few-10-of-100-slow", "the same, activities up to 300 s late", NULL,
                shape_100_slow, begin_ten,
                SPAN_HOUR(4), SPAN_HOUR(4), 60, 5000, LIVENESS_NONE, { AT_MOST(10) } },
        { "tiny-one", "groups of 1, 2, 3, 5, each its own cluster: one sick in each", "Groups of 1, 2, 3 and 5: one sick in each",
                shape_tiny, begin_tiny_one,
                SPAN_HOUR(2), SPAN_HOUR(2), 50, 1000, LIVENESS_LONE, { EXACTLY(4), .longest = LONE_MAX } },
        { "tiny-all", "groups of 2, 3, 5: all sick at once", "Groups of 2, 3 and 5: all fall sick at once",
                shape_tiny_several, begin_all,
                SPAN_HOUR(6), SPAN_HOUR(24), 50, 1000, LIVENESS_NONE, { EXACTLY(0) } },
        { "slow-lane", "3 sick of a group of 10 that is its own cluster: one is let through", "3 of 10 are dead for good",
                shape_10, begin_three,
                SPAN_HOUR(4), SPAN_HOUR(12), 50, 1000, LIVENESS_NONE, { BETWEEN(1, 3) } },
        { "zone", "a third of the cluster lost at once, for an hour", "A third of the cluster is cut off at once, for an hour",
                shape_cluster, begin_zone,
                SPAN_HOUR(4), SPAN_HOUR(6), 100, 100, LIVENESS_NONE, { .innocents = 900, .late_peak = 100 } },
        { "zone-slowly", "the same, coming over 15 min", "The same, coming over 15 min",
                shape_cluster, begin_zone_slowly,
                SPAN_HOUR(4), SPAN_HOUR(6), 100, 100, LIVENESS_NONE, { .innocents = 1200, .late_peak = 100 } },
        { "zone-of-six", "one zone of six lost at once, for an hour", "One zone of six is cut off, for an hour",
                shape_six_zones, begin_zone,
                SPAN_HOUR(4), SPAN_HOUR(6), 100, 100, LIVENESS_NONE, { .innocents = 1800, .late_peak = 100 } },
        { "quiet-neighbour", "another cluster's 5 failures on a quiet day, to compare with", NULL,
                shape_region, begin_region_not,
                SPAN_HOUR(6), SPAN_HOUR(8), 30, 20, LIVENESS_NONE, { AT_MOST(5), .median = LONE_MAX } },
        { "region", "a whole cluster cut off for 2 h; another cluster has failures of its own", "A cluster is cut off for 2 h; a second one has 5 failures of its own",
                shape_region, begin_region,
                SPAN_HOUR(6), SPAN_HOUR(8), 30, 20, LIVENESS_NONE, { .innocents = 700, .late_peak = 100, .than = "quiet-neighbour", .later = SPAN_MIN(10) } },
        { "storm", "10,000 hosts cut off for 2 h: how often ECS is asked", NULL,
                shape_hundreds, begin_storm,
                SPAN_HOUR(3), SPAN_HOUR(8), 1, 10, LIVENESS_NONE, { .innocents = 1000, .late_peak = 100 } },
        { "partition", "a third of the cluster reaches neither ECS nor the APIs, for an hour", "A third reaches neither ECS nor any API, for an hour",
                shape_cluster, begin_partition,
                SPAN_HOUR(4), SPAN_HOUR(6), 20, 50, LIVENESS_NONE, { .innocents = 900, .late_peak = 100 } },
        { "bad-image", "one sick of 20, and every new instance falls sick within 10 min", "Each replacement falls sick within 10 min",
                shape_20, begin_bad_image,
                SPAN_HOUR(20), SPAN_HOUR(20), 10, 200, LIVENESS_NONE, { BETWEEN(1, 2) } },
        { "leaking-task", "a task that sickens its host and follows its reschedule", "A task sickens whatever host it is rescheduled to",
                shape_20, begin_leak,
                SPAN_HOUR(20), SPAN_HOUR(20), 10, 200, LIVENESS_NONE, { BETWEEN(1, 2) } },
        { "bad-rollout", "a group of 100 loses its agents within half an hour, in a cluster of 300", "A group of 100 loses its ECS agents within half an hour",
                shape_rollout, begin_rollout,
                SPAN_HOUR(12), SPAN_HOUR(20), 5, 100, LIVENESS_NONE, { AT_MOST(10) } },
        { "clock-jumps", "3 sick of 20, and every clock is set by up to 2 h", NULL,
                shape_20_long_day, begin_jumps,
                SPAN_HOUR(5), SPAN_HOUR(5), 100, 2000, LIVENESS_NONE, { BETWEEN(1, 3) } },
        { "restarts", "3 sick of 20, and every daemon restarts four times, one in ten without its journal; calls are lost", "3 of 20 sick; all daemons restart four times, calls get lost",
                shape_20_rough,
                begin_restarts, SPAN_HOUR(5), SPAN_HOUR(5), 100, 2000, LIVENESS_NONE, { BETWEEN(1, 3) } },
        { "throttled", "ECS answers no read for 2 h, one host is sick", "ECS refuses all reads for 2 h, one host is sick",
                shape_20, begin_throttled,
                SPAN_HOUR(4), SPAN_HOUR(4), 50, 500, LIVENESS_NONE, { EXACTLY(1) } },
        { "many-tiny", "200 groups of 5 in one cluster (--full: 2,000), 30 hosts (80) fall sick within 2 h", "Many groups of 5; failures all over the cluster within 2 h",
                shape_many_tiny,
                begin_many_tiny, SPAN_HOUR(8), SPAN_HOUR(24), 5, 10, LIVENESS_NONE, { AT_LEAST(1) } },
        { "orphans", "26 orphans beside 100 live hosts, one of which is sick", "26 orphans beside 100 live hosts, one of them sick",
                shape_orphans, begin_orphans,
                SPAN_HOUR(2), SPAN_HOUR(2), 50, 1000, LIVENESS_NONE, { EXACTLY(1), .longest = LONE_MAX } },
        { "frozen-1-of-3", "one of a group of 3 freezes: patrol is the only way out", "One of 3 freezes, daemon and all",
                shape_3, begin_one_frozen,
                SPAN_HOUR(2), SPAN_HOUR(2), 300, 5000, LIVENESS_NONE, { EXACTLY(1), .median = SPAN_MIN(30), .longest = SPAN_MIN(45) } },
        { "frozen-1-of-100", "one of a group of 100 freezes", "One of 100 freezes",
                shape_100, begin_one_frozen,
                SPAN_HOUR(3), SPAN_HOUR(3), 30, 1000, LIVENESS_NONE, { EXACTLY(1), .longest = SPAN_MIN(90) } },
        { "frozen-5-of-100", "5 of a group of 100 freeze within 10 min", "5 of 100 freeze within 10 min",
                shape_100, begin_five_frozen,
                SPAN_HOUR(5), SPAN_HOUR(5), 30, 1000, LIVENESS_NONE, { EXACTLY(5) } },
        { "frozen-30-of-100", "30 of a group of 100 freeze within 10 min: held", "30 of 100 freeze within 10 min",
                shape_100, begin_thirty_frozen,
                SPAN_HOUR(6), SPAN_HOUR(24), 10, 100, LIVENESS_NONE, { EXACTLY(0) } },
        { "frozen-untouchable", "frozen: one that may be removed; and paused, observing, drained, not ours, without a peer", NULL,
                shape_100_and_1,
                begin_frozen_untouchable, SPAN_HOUR(5), SPAN_HOUR(24), 30, 500, LIVENESS_NONE, { EXACTLY(1) } },
        { "frozen-wakes", "5 of 100 freeze, and wake 10 min to 2 h later", NULL,
                shape_wakes, begin_five_frozen,
                SPAN_HOUR(5), SPAN_HOUR(5), 60, 2000, LIVENESS_NONE, { AT_MOST(5) } },
        { "finder-dies", "one of 20 freezes, and whoever begins to remove it freezes or restarts, twice", "One of 20 freezes, and twice so does, or restarts, who removes it",
                shape_20_long_day, begin_finder_dies,
                SPAN_HOUR(10), SPAN_HOUR(10), 100, 3000, LIVENESS_NONE, { BETWEEN(1, 3) } },
        { "hands-off", "clusters paused, observing, switched off: some dead, some frozen", "Paused, observing, switched off: some dead, some frozen",
                shape_three_groups, begin_hands_off,
                SPAN_HOUR(6), SPAN_HOUR(24), 5, 50, LIVENESS_NONE, { EXACTLY(0) } },
        { "unhealthy", "one dead and one frozen of 20, action: unhealthy", NULL,
                shape_unhealthy, begin_one_and_one_frozen,
                SPAN_HOUR(4), SPAN_HOUR(4), 60, 1000, LIVENESS_NONE, { EXACTLY(2) } },
        { "standby", "one dead and one frozen of 20, action: standby", NULL,
                shape_standby, begin_one_and_one_frozen,
                SPAN_HOUR(4), SPAN_HOUR(4), 60, 1000, LIVENESS_NONE, { EXACTLY(2), .ended = ENDED_NONE } },
        { "afterlife", "one sick host of 20, and what becomes of it", NULL,
                shape_20, begin_one,
                SPAN_HOUR(3), SPAN_HOUR(3), 60, 1000, LIVENESS_LONE, { EXACTLY(1), .ended = ENDED_ALL } },
        { "attached-again", "one sick host of 20; an operator mends it and attaches it again", NULL,
                shape_20, begin_attached_again,
                SPAN_HOUR(3), SPAN_HOUR(3), 60, 1000, LIVENESS_NONE, { EXACTLY(1), .ended = ENDED_NONE } },
        { "pace-100-of-100", "10,000 hosts in 100 groups, nothing happens: patrol's reads", "Nothing: 100 groups of 100 patrol",
                shape_hundreds, begin_nothing,
                SPAN_HOUR(24), SPAN_DAY(7), 1, 1, LIVENESS_NONE, { AT_MOST(0), .reads = 200 } },
        { "pace-2000-of-5", "10,000 hosts in 2,000 groups, nothing happens: patrol's reads", "Nothing: 2,000 groups of 5 patrol",
                shape_fives, begin_nothing,
                SPAN_HOUR(12), SPAN_DAY(7), 1, 1, LIVENESS_NONE, { AT_MOST(0), .reads = 200 } },
        { "operator", "two paused hosts are worked on, a third of 20 is sick", NULL,
                shape_20, begin_operator,
                SPAN_HOUR(4), SPAN_HOUR(4), 50, 1000, LIVENESS_NONE, { EXACTLY(1) } },
};
/* clang-format on */
const unsigned n_scenarios = sizeof(scenarios) / sizeof(scenarios[0]);
