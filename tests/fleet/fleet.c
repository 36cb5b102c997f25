/* SPDX-License-Identifier: Apache-2.0 */

/* Runs the scenarios, prints the figures as a table and the promises as TAP. */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fleet/scenarios.h"
#include "tests/sim/policy.h"

typedef struct Options {
        bool full, keep_alive, tell, figures;
        uint64_t seed;
        unsigned runs; /* 0: as the scenario says */
        FILE *csv, *minutes;
} Options;

static unsigned n_lines, n_failed;
static bool quiet; /* count the promises, but do not print them */

static void usage(FILE *out) {
        fputs("Usage: fleet [OPTION...] [SCENARIO...]\n\n"
              "Plays scenarios on a simulated region in which every host runs the core that ships, and\n"
              "checks what comes of it against the truth: at most the budget of removals in any window\n"
              "(S1), none on a share, settle, pause or off (S2), none on blindness (S3), none twice and\n"
              "nothing left behind (S4), a lone sick host out in time (L1), a few out in time (L2);\n"
              "patrol's removals included. Prints TAP, and the figures as a table.\n\n"
              "  --list         the scenarios\n"
              "  --full         10,000 hosts, 30 days, thousands of runs\n"
              "  --seed N       seed of the first run (1); the next ones count on\n"
              "  --runs N       so many runs of each scenario; --seed N --runs 1 plays one again\n"
              "  --csv FILE     the figures once more, for a spreadsheet\n"
              "  --minutes FILE a line for each minute of the first run: tests/fleet/picture.py draws it\n"
              "  --figures      the table of the manual, and nothing else\n"
              "  --tell         print each removal, and what it was decided by\n"
              "  --keep-alive   step hosts at rest as well: slower, and no other result\n"
              "  --help\n\n"
              "Assumed: Auto Scaling's quota, which AWS does not publish (burst 50, 10 a second); one "
              "failure\n"
              "in a hundred host-days in \"quiet\"; a replacement that connects 100 to 260 s after its "
              "launch;\n"
              "an attribute that others see up to 2 s late.\n",
                out);
}

static void standard(Config *config, const Scenario *scenario, const Options *options, bool first) {
        *config = (Config){
                .clusters = 1,
                .groups_per_cluster = 1,
                .group_size = 20,
                .zones = 3,
                .policy = policy_standard(),
                .repair_helps = 0,
                .keep_alive = options->keep_alive,
                .tell = options->tell,
                .name = scenario->name,
                .minutes = first ? options->minutes : NULL,
                .launch_from = SPAN_SEC(100),
                .launch_to = SPAN_SEC(260),
        };
}

static double mean_rate(const Figures *f, Quota quota) {
        return f->minutes > 0 ? (double) f->asked[quota] / (double) f->minutes / 60 : 0;
}

/* --- TAP --------------------------------------------------------------------------------------------------------- */

static void tap(bool ok, const char *scenario, const char *promise, const char *numbers) {
        n_failed += !ok;
        n_lines++;
        if (quiet)
                return;
        printf("%s %u - %s: %s: %s\n", ok ? "ok" : "not ok", n_lines, scenario, promise, numbers);
}

static void tap_invariants(const Scenario *scenario, const Figures *f) {
        char text[256];

        (void) snprintf(text, sizeof(text),
                "%" PRIu64 " removals in %" PRIu64 " runs, worst window %u, broken %" PRIu64 " times",
                f->removals, f->runs, f->worst_group, f->s1_group);
        tap(f->s1_group == 0, scenario->name, "S1 group", text);
        (void) snprintf(text, sizeof(text), "worst window %u, broken %" PRIu64 " times", f->worst_cluster,
                f->s1_cluster);
        tap(f->s1_cluster == 0, scenario->name, "S1 cluster", text);
        (void) snprintf(text, sizeof(text),
                "%" PRIu64 " acts against a brake; %" PRIu64 " innocents of %" PRIu64 " struck", f->s2,
                f->innocents, f->struck);
        tap(f->s2 == 0 && f->innocents * 1000 <= f->struck, scenario->name, "S2", text);
        (void) snprintf(text, sizeof(text),
                "%" PRIu64 " acts on blindness; %" PRIu64 " of %" PRIu64 " looks failed", f->s3,
                f->looks_failed, f->looks);
        tap(f->s3 == 0, scenario->name, "S3", text);
        (void) snprintf(text, sizeof(text), "%" PRIu64 " broken; %" PRIu64 " drains, %" PRIu64 " undone",
                f->s4, f->drains, f->undone);
        tap(f->s4 == 0, scenario->name, "S4", text);
        if (f->first_break[0] != '\0' && !quiet)
                printf("# first: %s; play it again with --seed %" PRIu64 " --runs 1 %s\n", f->first_break,
                        f->break_seed, scenario->name);
}

static void tap_time(const Scenario *scenario, const char *promise, Span median, Span most) {
        char text[64];

        (void) snprintf(text, sizeof(text), "%" PRId64 " s, at most %" PRId64 " s", median / SPAN_SEC(1),
                most / SPAN_SEC(1));
        tap(median >= 0 && median <= most, scenario->name, promise, text);
}

static void tap_removals(const Scenario *scenario, Figures *f) {
        const Limits *limits = &scenario->limits;
        char text[128];

        if (scenario->liveness != LIVENESS_NONE) {
                (void) snprintf(text, sizeof(text), "%" PRIu64 " of %" PRIu64 " out too late or never",
                        f->late, f->ailing);
                tap(f->late == 0, scenario->name, scenario->liveness == LIVENESS_LONE ? "L1" : "L2", text);
        }
        if (limits->counted) {
                (void) snprintf(text, sizeof(text),
                        "%" PRIu64 " runs with fewer than %d or more than %d removals", f->runs_odd,
                        limits->removals_min, limits->removals_max);
                tap(f->runs_odd == 0, scenario->name, "removals", text);
        }
        (void) snprintf(text, sizeof(text), "%" PRIu64 " of %" PRIu64 " struck, at most %u in a million",
                f->innocents, f->struck, limits->innocents);
        tap(f->innocents * 1000000 <= f->struck * limits->innocents, scenario->name, "innocents", text);
        if (limits->ended != ENDED_EITHER) {
                (void) snprintf(text, sizeof(text),
                        "%" PRIu64 " of %" PRIu64 " have deregistered themselves", f->ended, f->removals);
                tap(f->ended == (limits->ended == ENDED_ALL ? f->removals : 0), scenario->name, "orphans",
                        text);
        }
}

static void tap_reads(const Scenario *scenario, const Figures *f) {
        const Limits *limits = &scenario->limits;
        uint64_t quota = (uint64_t) quota_table[QUOTA_ECS_READ].per_second * 60;
        double rate = mean_rate(f, QUOTA_ECS_READ);
        char text[128];

        if (limits->reads > 0) {
                (void) snprintf(text, sizeof(text), "%.2f reads of ECS a second, at most %.2f", rate,
                        limits->reads / 100.0);
                /* Drawn at random, it lies about its mean. */
                tap(rate * 100 < limits->reads + 0.5, scenario->name, "pace", text);
        }
        if (limits->late_peak > 0) {
                (void) snprintf(text, sizeof(text),
                        "%u reads of ECS in the worst minute after the first ten, quota %" PRIu64,
                        f->peak_late[QUOTA_ECS_READ], quota);
                tap(f->peak_late[QUOTA_ECS_READ] * UINT64_C(100) <= quota * limits->late_peak,
                        scenario->name, "API", text);
        }
}

static void tap_limits(const Scenario *scenario, Figures *f, Figures *all) {
        const Limits *limits = &scenario->limits;

        tap_removals(scenario, f);
        if (limits->median > 0)
                tap_time(scenario, "median time to removal", figures_share(f, 50), limits->median);
        if (limits->longest > 0)
                tap_time(scenario, "longest time to removal", figures_share(f, 100), limits->longest);
        for (unsigned i = 0; limits->than && i < n_scenarios; i++)
                if (strcmp(scenarios[i].name, limits->than) == 0 && all[i].runs > 0)
                        tap_time(scenario, "median beside that of a quiet day", figures_share(f, 50),
                                figures_share(&all[i], 50) + limits->later);
        tap_reads(scenario, f);
}

/* --- the table --------------------------------------------------------------------------------------------------- */

static const char *minutes_text(char text[16], Span span) {
        if (span < 0)
                return "-";
        (void) snprintf(text, 16, "%.1f", (double) span / (double) SPAN_MIN(1));
        return text;
}

static void table_head(void) {
        printf("# %-19s %5s %6s %6s %5s %6s %5s %6s %5s %6s %6s %6s %6s  %s\n", "scenario", "runs", "hosts",
                "struck", "sick", "out", "worst", "innoc.", "undo", "held", "t50", "t95", "tmax",
                "calls/s mean (peak minute, % of quota): ecs-read, ecs-modify, auto-scaling*");
}

static void table_row(const Scenario *scenario, Figures *f) {
        char median[16], most[16], longest[16], worst[16];

        (void) snprintf(worst, sizeof(worst), "%u/%u", f->worst_group, f->worst_cluster);
        printf("# %-19s %5" PRIu64 " %6" PRIu64 " %6" PRIu64 " %5" PRIu64 " %6" PRIu64 " %5s %6" PRIu64
               " %5" PRIu64 " %6" PRIu64 " %6s %6s %6s ",
                scenario->name, f->runs, f->hosts / f->runs, f->struck, f->ailing, f->removals, worst,
                f->innocents, f->undone, f->left_sick, minutes_text(median, figures_share(f, 50)),
                minutes_text(most, figures_share(f, 95)), minutes_text(longest, figures_share(f, 100)));
        for (unsigned q = 0; q < QUOTA_N; q++)
                printf(" %.2f (%u)", mean_rate(f, (Quota) q),
                        (unsigned) (f->peak[q] * UINT64_C(100) /
                                    (quota_table[q].per_second * UINT64_C(60))));
        printf("\n");
}

static void csv_head(FILE *csv) {
        fputs("scenario,runs,hosts,struck,sick,removals,worst_group_window,worst_cluster_window,innocents,"
              "runs_with_innocents,drains,undone,repaired,still_in,late,s1_group,s1_cluster,s2,s3,s4,median_"
              "s,p95_s,max_s,"
              "confirms,looks,looks_failed,replacements,replacements_bad,core_steps",
                csv);
        for (unsigned q = 0; q < QUOTA_N; q++)
                fprintf(csv,
                        ",%s_mean_per_s,%s_peak_per_min,%s_peak_late_per_min,%s_throttled,%s_quota_per_s",
                        quota_table[q].name, quota_table[q].name, quota_table[q].name, quota_table[q].name,
                        quota_table[q].name);
        fputc('\n', csv);
}

static void csv_row(FILE *csv, const Scenario *scenario, Figures *f) {
        const uint64_t numbers[] = { f->runs, f->hosts / f->runs, f->struck, f->ailing, f->removals,
                f->worst_group, f->worst_cluster, f->innocents, f->runs_with_innocents, f->drains, f->undone,
                f->repaired, f->left_sick, f->late, f->s1_group, f->s1_cluster, f->s2, f->s3, f->s4 };

        fputs(scenario->name, csv);
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
                fprintf(csv, ",%" PRIu64, numbers[i]);
        for (unsigned percent = 50; percent <= 100; percent += percent == 50 ? 45 : 5)
                fprintf(csv, ",%" PRId64, f->n_times > 0 ? figures_share(f, percent) / SPAN_SEC(1) : -1);
        fprintf(csv, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64, f->confirms,
                f->looks, f->looks_failed, f->replacements, f->replaced_badly, f->steps);
        for (unsigned q = 0; q < QUOTA_N; q++)
                fprintf(csv, ",%.3f,%u,%u,%" PRIu64 ",%u", mean_rate(f, (Quota) q), f->peak[q],
                        f->peak_late[q], f->throttled[q], quota_table[q].per_second);
        fputc('\n', csv);
}

/* --- the manual's table ------------------------------------------------------------------------------------------ */

static void figures_head(void) {
        puts("| What happens | Runs × instances | Removed | Healthy ones lost | Most within 30 min: group, "
             "cluster | Out "
             "after: median, longest | ECS reads a second: mean, worst minute |\n"
             "| --- | --- | --- | --- | --- | --- | --- |");
}

static void print_count(uint64_t n) {
        if (n >= 1000)
                printf("%" PRIu64 ",%03" PRIu64, n / 1000, n % 1000);
        else
                printf("%" PRIu64, n);
}

static void print_per_run(uint64_t n, uint64_t runs) {
        if (n % runs == 0)
                print_count(n / runs);
        else
                printf("%.2f", (double) n / (double) runs);
}

static void figures_row(const Scenario *scenario, Figures *f) {
        char median[16], longest[16];

        printf("| %s | ", scenario->row);
        print_count(f->runs);
        printf(" × ");
        print_count(f->hosts / f->runs);
        printf(" | ");
        print_per_run(f->removals - f->innocents, f->runs);
        if (f->ailing > 0) {
                printf(" of ");
                print_per_run(f->ailing, f->runs);
        }
        printf(" | ");
        if (f->innocents == 0)
                printf("none");
        else
                print_per_run(f->innocents, f->runs);
        if (f->struck > 0) {
                printf(" of ");
                print_count((f->struck + f->runs / 2) / f->runs);
        }
        printf(" | %u, %u | ", f->worst_group, f->worst_cluster);
        if (f->n_times > 0)
                printf("%s, %s min", minutes_text(median, figures_share(f, 50)),
                        minutes_text(longest, figures_share(f, 100)));
        printf(" | %.2f, %.1f |\n", mean_rate(f, QUOTA_ECS_READ), f->peak[QUOTA_ECS_READ] / 60.0);
}

/* --- running ----------------------------------------------------------------------------------------------------- */

static void play_once(const Scenario *scenario, const Options *options, uint64_t seed, Figures *sum) {
        const Limits *limits = &scenario->limits;
        World *world = NULL;
        Config config;
        uint64_t removals;

        standard(&config, scenario, options, seed == options->seed);
        scenario->configure(&config, options->full);
        config.seed = seed;
        world = world_new(&config);
        scenario->begin(world);
        world_run(world, options->full ? scenario->span_full : scenario->span);
        truth_end(world, scenario->liveness);
        removals = world->figures.removals;
        if (limits->counted &&
                (removals < (uint64_t) limits->removals_min || removals > (uint64_t) limits->removals_max))
                truth_break(world, &world->figures.runs_odd, world->hosts[0], "odd number of removals");
        figures_add(sum, &world->figures);
        world_free(world);
}

static void play(const Scenario *scenario, const Options *options, Figures *sum, Figures *all) {
        unsigned runs = options->runs > 0 ? options->runs
                        : options->full   ? scenario->runs_full
                                          : scenario->runs;

        for (unsigned i = 0; i < runs; i++)
                play_once(scenario, options, options->seed + i, sum);
        tap_invariants(scenario, sum);
        tap_limits(scenario, sum, all);
        fflush(stdout);
}

static bool wanted(const char *name, int argc, char **argv) {
        for (int i = optind; i < argc; i++)
                if (strcmp(argv[i], name) == 0)
                        return true;
        return optind >= argc;
}

static bool known(const char *name) {
        for (unsigned i = 0; i < n_scenarios; i++)
                if (strcmp(scenarios[i].name, name) == 0)
                        return true;
        fprintf(stderr, "fleet: there is no scenario \"%s\"; --list shows them\n", name);
        return false;
}

/* Return: whether @text is a number from 1. */
static bool read_number(const char *option, const char *text, uint64_t max, uint64_t *ret) {
        char *end = NULL;

        errno = 0;
        *ret = strtoull(text, &end, 10);
        if (errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0' && *ret >= 1 && *ret <= max)
                return true;
        fprintf(stderr, "fleet: --%s %s: expected a number from 1 to %" PRIu64 "\n", option, text, max);
        return false;
}

static bool open_file(const char *option, const char *path, FILE **ret) {
        *ret = fopen(path, "we");
        if (!*ret)
                fprintf(stderr, "fleet: --%s %s: %s\n", option, path, strerror(errno));
        return *ret;
}

/* Return: -1 to go on, else the exit status. */
static int read_options(int argc, char **argv, Options *options) {
        static const struct option names[] = { { "list", no_argument, NULL, 'l' },
                { "full", no_argument, NULL, 'f' }, { "seed", required_argument, NULL, 's' },
                { "runs", required_argument, NULL, 'r' }, { "csv", required_argument, NULL, 'c' },
                { "minutes", required_argument, NULL, 'm' }, { "tell", no_argument, NULL, 't' },
                { "figures", no_argument, NULL, 'g' }, { "keep-alive", no_argument, NULL, 'k' },
                { "help", no_argument, NULL, 'h' }, {} };
        uint64_t number = 0;
        int option;

        while ((option = getopt_long(argc, argv, "", names, NULL)) >= 0)
                switch (option) {
                case 'l':
                        for (unsigned i = 0; i < n_scenarios; i++)
                                printf("%-20s %s\n", scenarios[i].name, scenarios[i].doc);
                        return 0;
                case 'f': options->full = true; break;
                case 'k': options->keep_alive = true; break;
                case 's':
                        if (!read_number("seed", optarg, UINT64_MAX, &options->seed))
                                return 2;
                        break;
                case 'r':
                        if (!read_number("runs", optarg, 1000000, &number))
                                return 2;
                        options->runs = (unsigned) number;
                        break;
                case 'c':
                        if (!open_file("csv", optarg, &options->csv))
                                return 2;
                        break;
                case 'm':
                        if (!open_file("minutes", optarg, &options->minutes))
                                return 2;
                        break;
                case 't': options->tell = true; break;
                case 'g': options->figures = true; break;
                case 'h': usage(stdout); return 0;
                default: usage(stderr); return 2;
                }
        for (int i = optind; i < argc; i++)
                if (!known(argv[i]))
                        return 2;
        return -1;
}

static bool in_table(const Scenario *scenario, const Figures *f, const Options *options) {
        return f->runs > 0 && (!options->figures || scenario->row);
}

static void print_all(Figures *all, const Options *options) {
        if (options->figures)
                figures_head();
        else
                table_head();
        if (options->csv)
                csv_head(options->csv);
        for (unsigned i = 0; i < n_scenarios; i++) {
                if (!in_table(&scenarios[i], &all[i], options))
                        continue;
                if (options->figures)
                        figures_row(&scenarios[i], &all[i]);
                else
                        table_row(&scenarios[i], &all[i]);
                if (options->csv)
                        csv_row(options->csv, &scenarios[i], &all[i]);
        }
        if (!options->figures)
                printf("# Times in minutes from falling sick to the removal; worst: removals of a "
                       "group/cluster in a "
                       "window;\n"
                       "# *: Auto Scaling's quota is assumed. %u of %u promises broken.\n",
                        n_failed, n_lines);
}

static void play_all(Figures *all, const Options *options, int argc, char **argv) {
        if (options->minutes)
                fputs("scenario,minute,connected,cut_off,sick,removed_so_far,ecs_reads_per_s,ecs_changes_"
                      "per_s,"
                      "auto_scaling_calls_per_s\n",
                        options->minutes);
        for (unsigned i = 0; i < n_scenarios; i++)
                if (wanted(scenarios[i].name, argc, argv))
                        play(&scenarios[i], options, &all[i], all);
        if (!quiet)
                printf("1..%u\n", n_lines);
}

int main(int argc, char **argv) {
        Options options = { .seed = 1, .full = getenv("TEST_FULL") != NULL };
        Figures *all = calloc(n_scenarios, sizeof(*all));
        int status = all ? read_options(argc, argv, &options) : EXIT_FAILURE;

        if (status >= 0) {
                free(all);
                return status;
        }
        quiet = options.figures;
        play_all(all, &options, argc, argv);
        print_all(all, &options);
        for (unsigned i = 0; i < n_scenarios; i++)
                free(all[i].times);
        free(all);
        if ((options.csv && fclose(options.csv) != 0) || (options.minutes && fclose(options.minutes) != 0)) {
                fprintf(stderr, "fleet: a file could not be written: %s\n", strerror(errno));
                return EXIT_FAILURE;
        }
        if (n_failed > 0 && quiet)
                fprintf(stderr, "fleet: %u of %u promises broken; without --figures they are named\n",
                        n_failed, n_lines);
        return n_failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
