/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Several sick hosts of one cluster in virtual time, each with its own core, that see of each other what AWS shows: sick
 * ones and marks and removals late, membership at once. However they fall ill, no more are removed in a window than may be.
 */

#include <stddef.h>
#include <stdlib.h>

#include "tests/sim/world.h"
#include "tests/unit/test.h"

#define HOSTS_MAX 10
#define STEP      SPAN_SEC(1)

/** How a party is made up, and what AWS shows of it. */
typedef struct Setup {
        unsigned n;              /* sick hosts */
        uint32_t group, cluster; /* sizes */
        bool lonely;             /* each is of a group of its own */
        Span spread;             /* they fall ill within this time */
        Span shown_late;         /* a disconnection is shown up to so much later */
        Span told_late;          /* an activity is told of up to so much later */
        Span seen_late;          /* marks and membership are shown up to so much later */
        bool no_marks;           /* attributes are never seen */
        bool crashes;            /* our daemons are killed now and then */
        int64_t per_day;         /* brakes.max_per_day; -1: not set */
} Setup;

typedef struct Host {
        World world;
        Mono ill, marked, out; /* MONO_NEVER: not (yet) */
        Span shown_late, told_late, seen_late;
        BrakeSet brakes_at_drain;
} Host;

static Setup setup;
static Host hosts[HOSTS_MAX];
static uint64_t chance;

static uint64_t draw(void) {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        return chance ^= chance << 17;
}

static Span draw_span(Span most) {
        return most > 0 ? (Span) (draw() % (uint64_t) most) : 0;
}

static bool is_ill(const Host *host) {
        return mono_is_set(host->ill);
}

/* When, and whether at all, @look may know of a removal of @host. */
static Mono told(const Host *host, Mono now) {
        bool marked = host->world.marked && mono_since(now, host->marked) >= host->seen_late;

        if (mono_is_set(host->out) && mono_since(now, host->out) >= host->told_late)
                return host->out;
        return marked && !setup.no_marks ? host->marked : MONO_NEVER;
}

static void show_removal(Look *look, const Host *host, uint64_t id, Now now) {
        Mono at = told(host, now.mono);
        Span age = mono_since(now.mono, at), window = host->world.policy.window;
        Wall frees = wall_add(now.wall, window - age);

        if (!mono_is_set(at))
                return;
        look->removed_day += !setup.lonely;
        look->removed_hour += age < SPAN_HOUR(1);
        if (!setup.lonely && mono_since(now.mono, host->out) < host->told_late + SPAN_MIN(3))
                look->replacement = REPLACEMENT_PENDING;
        if (age >= window)
                return;
        look->removed_window += !setup.lonely;
        look->n_removed_ours += !setup.lonely;
        look->removed_cluster++;
        look->removed[look->n_removed++] = id;
        if (!wall_is_set(look->window_frees) || wall_before(frees, look->window_frees))
                look->window_frees = frees;
}

/* What a look of @self shows of the others; of itself the world tells. */
static void show(Host *self, Now now) {
        Look look = { .cluster = { setup.cluster, 0 },
                .group = { setup.group, 0 },
                .zone = { setup.cluster / 2, 0 },
                .group_size = setup.group,
                .self = (uint64_t) (self - hosts) + 1 };

        for (unsigned i = 0; i < setup.n; i++) {
                const Host *host = &hosts[i];
                bool shown = is_ill(host) && mono_since(now.mono, host->ill) >= host->shown_late;
                bool out = mono_is_set(host->out) && mono_since(now.mono, host->out) >= host->seen_late;

                if (host == self)
                        continue;
                if (shown && !out) {
                        look.cluster.sick++;
                        look.group.sick += !setup.lonely;
                        look.n_sick_ours += !setup.lonely;
                        look.sick[look.n_sick++] = i + 1;
                } else if (out)
                        look.outside[look.n_outside++] = i + 1;
                show_removal(&look, host, i + 1, now);
        }
        look.connected_peers = setup.cluster - look.cluster.sick - 1;
        self->world.look = look;
}

static void on_effect(World *world, const Effect *effect) {
        Host *host = (Host *) ((char *) world - offsetof(Host, world));

        if (effect->type == EFFECT_LOOK)
                show(host, world->now);
        if (effect->type == EFFECT_DRAIN) {
                host->marked = world->now.mono;
                host->brakes_at_drain = world->core.brakes;
        }
}

static void begin(const Setup *as, uint64_t seed) {
        setup = *as;
        chance = seed * 0x9e3779b97f4a7c15u + 1;
        for (unsigned i = 0; i < setup.n; i++) {
                Host *host = &hosts[i];

                *host = (Host){ .shown_late = draw_span(setup.shown_late),
                        .told_late = draw_span(setup.told_late),
                        .seen_late = draw_span(setup.seen_late) };
                world_init(&host->world);
                host->world.on_effect = on_effect;
                host->world.random = draw() | 1;
                host->world.policy.max_per_day.count = setup.per_day;
                core_init(&host->world.core, &host->world.policy, draw(), host->world.now);
                world_event(&host->world, &(Event){ .type = EVENT_RESTORED });
                world_connect(&host->world);
        }
}

static unsigned removed_since(Mono from) {
        unsigned n = 0;

        for (unsigned i = 0; i < setup.n; i++)
                n += mono_is_set(hosts[i].out) && !mono_before(hosts[i].out, from);
        return n;
}

/* One second of everybody's life. Return: whether no more have been removed than may be. */
static bool step(const Mono *falls_ill) {
        bool fine = true;

        for (unsigned i = 0; i < setup.n; i++) {
                Host *host = &hosts[i];
                World *world = &host->world;
                Policy *policy = &world->policy;
                uint32_t budget = brake_budget(policy, setup.lonely ? setup.cluster : setup.group, false);

                if (!is_ill(host) && !mono_before(world->now.mono, falls_ill[i])) {
                        host->ill = world->now.mono;
                        world_cut(world);
                }
                if (setup.crashes && draw() % 1800 == 0)
                        world_crash(world, false);
                world_run(world, STEP);
                if (world->in_group || mono_is_set(host->out))
                        continue;
                host->out = world->now.mono;
                fine &= removed_since(mono_add(host->out, -policy->window + 1)) <= budget;
        }
        return fine;
}

/* Return: whether no budget was exceeded. */
static bool live(Span span) {
        Mono falls_ill[HOSTS_MAX] = {}, end;
        bool fine = true;

        for (unsigned i = 0; i < setup.n; i++)
                falls_ill[i] = mono_add(hosts[i].world.now.mono, SPAN_SEC(1) + draw_span(setup.spread));
        end = mono_add(hosts[0].world.now.mono, span);
        while (mono_before(hosts[0].world.now.mono, end))
                fine &= step(falls_ill);
        return fine;
}

static Mono last_out(void) {
        Mono last = MONO_NEVER;

        for (unsigned i = 0; i < setup.n; i++)
                last = mono_max(last, hosts[i].out);
        return last;
}

static Mono last_ill(void) {
        Mono last = MONO_NEVER;

        for (unsigned i = 0; i < setup.n; i++)
                last = mono_max(last, hosts[i].ill);
        return last;
}

/* --- what must come of it ---------------------------------------------------------------------------------------- */

static void test_the_sick_take_turns_and_never_exceed_the_budget(void) {
        static const struct {
                const char *name;
                Setup setup;
                Span within; /* all are out so long after the last fell ill; 0: not promised */
        } rows[] = {
                /* grace, and for each a turn, its part of the window and two turns more */
                { "3 of 20",
                        { .n = 3,
                                .group = 20,
                                .cluster = 20,
                                .spread = SPAN_MIN(5),
                                .shown_late = SPAN_MIN(2),
                                .told_late = SPAN_MIN(1),
                                .per_day = 3 },
                        SPAN_MIN(8) + 3 * SPAN_MIN(2 + 30 + 4) },
                { "10 of 100",
                        { .n = 10,
                                .group = 100,
                                .cluster = 100,
                                .spread = SPAN_MIN(10),
                                .shown_late = SPAN_MIN(2),
                                .told_late = SPAN_MIN(1),
                                .per_day = -1 },
                        SPAN_MIN(8) + 10 * SPAN_MIN(2 + 6 + 4) },
                { "3 of 20 at once, all that others do is seen a minute late",
                        { .n = 3,
                                .group = 20,
                                .cluster = 20,
                                .shown_late = SPAN_MIN(2),
                                .told_late = SPAN_MIN(5),
                                .seen_late = SPAN_MIN(1),
                                .per_day = 3 },
                        0 },
                { "6 lone sick of 6 groups at once, seen a minute late",
                        { .n = 6,
                                .group = 10,
                                .cluster = 60,
                                .lonely = true,
                                .shown_late = SPAN_MIN(2),
                                .told_late = SPAN_MIN(5),
                                .seen_late = SPAN_MIN(1),
                                .per_day = -1 },
                        0 },
                { "3 of 20, activities late and no marks seen",
                        { .n = 3,
                                .group = 20,
                                .cluster = 20,
                                .shown_late = SPAN_MIN(2),
                                .told_late = SPAN_HOUR(1),
                                .no_marks = true,
                                .per_day = 3 },
                        0 },
                { "3 of 20, daemons killed every half hour",
                        { .n = 3,
                                .group = 20,
                                .cluster = 20,
                                .spread = SPAN_MIN(5),
                                .shown_late = SPAN_MIN(2),
                                .told_late = SPAN_MIN(1),
                                .crashes = true,
                                .per_day = 3 },
                        0 },
                { "6 lone sick of 6 groups in a cluster of 60",
                        { .n = 6,
                                .group = 10,
                                .cluster = 60,
                                .lonely = true,
                                .spread = SPAN_MIN(1),
                                .shown_late = SPAN_MIN(2),
                                .per_day = -1 },
                        0 },
        };

        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                Span worst = 0;
                unsigned exceeded = 0, left = 0, runs = getenv("TEST_FULL") ? 500 : 12;

                for (uint64_t seed = 1; seed <= runs; seed++) {
                        begin(&rows[i].setup, seed);
                        exceeded += !live(SPAN_HOUR(5));
                        left += setup.n - removed_since(MONO_NEVER);
                        worst = span_max(worst, mono_since(last_out(), last_ill()));
                }
                printf("# %s: %u runs, all out within %lld min\n", rows[i].name, runs,
                        (long long) (worst / SPAN_MIN(1)));
                EXPECT_EQ(exceeded, 0);
                EXPECT_EQ(left, 0);
                EXPECT(rows[i].within == 0 || worst <= rows[i].within);
        }
}

static void test_a_lone_sick_host_waits_for_no_turn(void) {
        static const Setup lone = { .n = 1, .group = 3, .cluster = 3, .per_day = -1 };

        for (uint64_t seed = 1; seed <= 20; seed++) {
                begin(&lone, seed);
                (void) live(SPAN_MIN(30));
                EXPECT(mono_is_set(hosts[0].out));
                /* grace, the retry that the agent had announced, and two looks */
                EXPECT(mono_since(hosts[0].out, hosts[0].ill) <=
                        SPAN_MIN(8) + SPAN_MIN(2) + SPAN_SEC(90) + SPAN_SEC(110));
        }
}

static void test_a_group_that_is_sick_as_a_whole_stays_whole(void) {
        static const Setup all = { .n = 3, .group = 3, .cluster = 3, .per_day = 3 };

        begin(&all, 1);
        (void) live(SPAN_HOUR(6));
        EXPECT_EQ(removed_since(MONO_NEVER), 0);
        EXPECT((hosts[0].world.held & (1u << BRAKE_SHARE)) != 0);
}

static void test_loop_holds_the_rest_of_the_day_until_somebody_resumes(void) {
        static const Setup three = { .n = 3, .group = 20, .cluster = 20, .per_day = -1 };
        Mono none[HOSTS_MAX] = {};
        World *world = NULL;

        begin(&three, 1);
        (void) live(SPAN_HOUR(6));
        EXPECT_EQ(removed_since(MONO_NEVER), 2); /* the larger of 2 and 10 % */
        for (unsigned i = 0; i < setup.n; i++)
                if (!mono_is_set(hosts[i].out))
                        world = &hosts[i].world;
        EXPECT(world && (world->held & (1u << BRAKE_LOOP)) != 0);
        if (!world)
                return;
        world_event(world, &(Event){ .type = EVENT_PAUSED, .paused_until = MONO_INFINITE });
        world_event(world, &(Event){ .type = EVENT_PAUSED });
        for (unsigned i = 0; i < 1800; i++)
                (void) step(none);
        EXPECT_EQ(removed_since(MONO_NEVER), 3);
}

/* --- the slow lane ----------------------------------------------------------------------------------------------- */

static const Setup three_of_ten = {
        .n = 3, .group = 10, .cluster = 10, .shown_late = SPAN_MIN(1), .per_day = -1
};

static void test_one_that_share_holds_for_good_goes_by_the_slow_lane(void) {
        for (uint64_t seed = 1; seed <= 12; seed++) {
                const Host *first = NULL;

                begin(&three_of_ten, seed);
                EXPECT(live(SPAN_HOUR(3)));
                for (unsigned i = 0; i < setup.n; i++)
                        if (mono_is_set(hosts[i].out) && (!first || mono_before(hosts[i].out, first->out)))
                                first = &hosts[i];
                EXPECT(first);
                if (!first)
                        continue;
                EXPECT(mono_since(first->out, first->ill) >= SPAN_HOUR(1));
                EXPECT(mono_since(first->out, first->ill) <= SPAN_MIN(100));
                EXPECT((first->brakes_at_drain & (1u << BRAKE_SHARE)) != 0); /* the hold stays visible */
                EXPECT_EQ(removed_since(mono_add(first->out, -SPAN_MIN(1))) -
                                  removed_since(mono_add(first->out, SPAN_MIN(30))),
                        1);
        }
}

static void test_the_slow_lane_lets_one_through_an_hour(void) {
        static const Setup four_of_ten = { .n = 4, .group = 10, .cluster = 10, .per_day = 4 };

        for (uint64_t seed = 1; seed <= 6; seed++) {
                Mono first = MONO_INFINITE, second = MONO_INFINITE;

                begin(&four_of_ten, seed);
                (void) live(SPAN_HOUR(6));
                for (unsigned i = 0; i < setup.n; i++) {
                        Mono out = mono_is_set(hosts[i].out) ? hosts[i].out : MONO_INFINITE;

                        second = mono_min(second, mono_max(first, out));
                        first = mono_min(first, out);
                }
                EXPECT(second.usec < MONO_INFINITE.usec);
                EXPECT(mono_since(second, first) >= SPAN_HOUR(1)); /* three of ten are still too many */
        }
}

static void test_the_slow_lane_stays_shut(void) {
        static const struct {
                const char *name;
                bool path_fails;
                Setup setup;
        } rows[] = {
                { "the path witness does not blame this host", true,
                        { .n = 3, .group = 10, .cluster = 10, .per_day = -1 } },
                { "less than half are connected", false,
                        { .n = 6, .group = 10, .cluster = 10, .per_day = -1 } },
                { "less than half of the group", false,
                        { .n = 3, .group = 5, .cluster = 10, .per_day = -1 } },
        };

        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                begin(&rows[i].setup, 1);
                for (unsigned k = 0; k < setup.n; k++)
                        hosts[k].world.path_fails = rows[i].path_fails;
                (void) live(SPAN_HOUR(8));
                EXPECT_EQ(removed_since(MONO_NEVER), 0);
                if (removed_since(MONO_NEVER) > 0)
                        printf("# %s\n", rows[i].name);
        }
}

/* --- replacement ------------------------------------------------------------------------------------------------- */

static void test_replacement_holds_until_it_is_connected(void) {
        World world;

        world_init(&world);
        world.look.replacement = REPLACEMENT_PENDING;
        world_cut(&world);
        world_run(&world, SPAN_MIN(40));
        EXPECT_EQ(world.core.brakes, 1u << BRAKE_REPLACEMENT);
        EXPECT_EQ(world.drains, 0);
        world.look.replacement = REPLACEMENT_CONNECTED;
        world_run(&world, SPAN_MIN(20));
        EXPECT_EQ(world.detaches_done, 1);
}

static void test_a_young_replacement_is_held_until_the_tag_says_so(void) {
        World world;

        world_init(&world);
        world.look.young = true;
        world_cut(&world);
        world_run(&world, SPAN_MIN(30));
        world.look.young = false; /* it grows up, and is still ill */
        world_crash(&world, false);
        world_run(&world, SPAN_HOUR(3));
        EXPECT_EQ(world.core.brakes, 1u << BRAKE_LOOP);
        EXPECT_EQ(world.drains + world.repairs, 0);
        world.look.tag_group = SWITCH_RESUME;
        world_run(&world, SPAN_MIN(30));
        EXPECT_EQ(world.detaches_done, 1);
}

static void test_a_pause_that_ends_by_itself_releases_no_loop(void) {
        World world;

        world_init(&world);
        world.look.young = true;
        world_cut(&world);
        world_run(&world, SPAN_MIN(30));
        world_event(&world,
                &(Event){ .type = EVENT_PAUSED, .paused_until = mono_add(world.now.mono, SPAN_MIN(5)) });
        world_run(&world, SPAN_MIN(6));
        world_event(&world, &(Event){ .type = EVENT_PAUSED });
        world_run(&world, SPAN_HOUR(1));
        EXPECT_EQ(world.drains, 0);
        EXPECT_EQ(world.core.brakes, 1u << BRAKE_LOOP);
}

TEST_MAIN(TEST(test_the_sick_take_turns_and_never_exceed_the_budget),
        TEST(test_a_lone_sick_host_waits_for_no_turn),
        TEST(test_a_group_that_is_sick_as_a_whole_stays_whole),
        TEST(test_loop_holds_the_rest_of_the_day_until_somebody_resumes),
        TEST(test_one_that_share_holds_for_good_goes_by_the_slow_lane),
        TEST(test_the_slow_lane_lets_one_through_an_hour), TEST(test_the_slow_lane_stays_shut),
        TEST(test_replacement_holds_until_it_is_connected),
        TEST(test_a_young_replacement_is_held_until_the_tag_says_so),
        TEST(test_a_pause_that_ends_by_itself_releases_no_loop))
