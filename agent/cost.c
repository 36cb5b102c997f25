/* SPDX-License-Identifier: Apache-2.0 */

/* Counting series, pricing them, and the command that shows both. */

#include "agent/cost.h"

#include <inttypes.h>
#include <string.h>

#include "agent/commands.h"
#include "agent/local.h"
#include "common/cleanup.h"
#include "common/json.h"
#include "common/parse.h"

#define COST_TEXT_MAX ((size_t) 256 * 1024)

/* Source: CloudWatch pricing, custom metrics in COST_REGION, COST_AS_OF. */
const CostTier cost_tiers[COST_TIER_N] = {
        { 10000, 300000 },
        { 240000, 100000 },
        { 750000, 50000 },
        { UINT64_MAX, 20000 },
};

/* Pricing */

/* Billed by the hour, so tiers are filled by the hour too; divided once, at the end. */
static uint64_t metrics_price(uint64_t metric_hours) {
        uint64_t micro_hours = 0;

        for (size_t i = 0; i < COST_TIER_N && metric_hours > 0; i++) {
                uint64_t n = metric_hours;

                if (cost_tiers[i].metrics <= UINT64_MAX / COST_MONTH_HOURS &&
                        n > cost_tiers[i].metrics * COST_MONTH_HOURS)
                        n = cost_tiers[i].metrics * COST_MONTH_HOURS;
                micro_hours += n * cost_tiers[i].micro;
                metric_hours -= n;
        }
        return (micro_hours + COST_MONTH_HOURS / 2) / COST_MONTH_HOURS;
}

Cost cost_estimate(const CostInput *input) {
        const uint64_t month = (uint64_t) SPAN_HOUR(COST_MONTH_HOURS), period = (uint64_t) input->period;
        Cost cost = {};

        cost.metric_hours = input->groups * input->group_series * COST_MONTH_HOURS +
                            input->instance_series * input->instance_hours;
        cost.calls = (input->instances * month + period - 1) / period;
        cost.metrics_micro = metrics_price(cost.metric_hours);
        cost.calls_micro = cost.calls * COST_CALL_MICRO;
        return cost;
}

/* Counting */

/* Grace and the questions to ECS never count as holding: act/reporter. */
#define BRAKES_PUBLISHED (BRAKE_N - 2)

void series_count(const SeriesInput *input, Series *ret) {
        unsigned room = input->max_series > METRIC_N ? input->max_series - METRIC_N : 0;
        Series series = { .by_brake = BRAKES_PUBLISHED };

        for (size_t i = 0; i < METRIC_N; i++)
                series.total += series.n[i] = !input->off[i];
        for (uint32_t i = 0; i < input->n_mounts && i < METRICS_MOUNTS_MAX; i++) {
                const DiskMount *mount = &input->mounts[i];
                bool used = !input->off[METRIC_DISK_USED] && (!input->measured || mount->used != SHARE_NONE);
                bool inodes = !input->off[METRIC_DISK_INODES_USED] &&
                              (!input->measured || mount->inodes_used != SHARE_NONE);
                uint32_t n = (uint32_t) used + inodes;

                if (n > room) {
                        series.left_out += n;
                        continue;
                }
                room -= n;
                series.kept[i] = n > 0;
                series.by_path[METRIC_DISK_USED] += used;
                series.by_path[METRIC_DISK_INODES_USED] += inodes;
                series.total += n;
        }
        *ret = series;
}

/* Which witness tells a metric's values; NULL: several, or none. */
static const char *metric_witness(Metric metric) {
        switch (metric) {
        case METRIC_RUNTIME_PING_TIME: return "docker";
        case METRIC_MEM_USED:
        case METRIC_MEM_AVAILABLE:
        case METRIC_SWAP_USED:
        case METRIC_MEM_PRESSURE_SOME:
        case METRIC_MEM_PRESSURE_FULL: return "memory";
        case METRIC_DISK_USED:
        case METRIC_DISK_INODES_USED: return "disks";
        case METRIC_TASKS_RUNNING:
        case METRIC_TASKS_STUCK: return "introspection";
        case METRIC_HEARTBEAT:
        case METRIC_AGENT_CONNECTED:
        case METRIC_AGENT_DISCONNECTED_SECONDS:
        case METRIC_AGENT_RECONNECTS: /* counters are published whether or not anything counts */
        case METRIC_OOM_KILLS:
        case METRIC_REMEDIATION_STAGE:
        case METRIC_REMEDIATION_HELD:
        case METRIC_REMEDIATION_PERFORMED:
        case METRIC_SAMPLES_DROPPED:
        case METRIC_CONFIG_ERROR: return NULL;
        }
        return NULL;
}

/* The command */

typedef struct Report {
        uint64_t instances, groups, ill_hours;
        bool json, help;
        const Local *local;
        Series series;
        Cost cost;
        uint64_t ill_hour_micro; /* one more hour in which one instance is ill */
} Report;

static const char *const per_instance_names[] = {
        [PER_INSTANCE_NEVER] = "never",
        [PER_INSTANCE_WHEN_ILL] = "when_ill",
        [PER_INSTANCE_ALWAYS] = "always",
};

static void report_make(Report *report) {
        const Settings *settings = &report->local->settings;
        SeriesInput counted = {
                .mounts = report->local->mounts,
                .n_mounts = report->local->n_mounts,
                .measured = report->local->measured,
                .max_series = (unsigned) settings->max_series,
        };
        CostInput input = {
                .instances = report->instances, .groups = report->groups, .period = settings->period
        };
        Cost more;

        for (Metric metric = 0; metric < METRIC_N; metric++)
                counted.off[metric] =
                        metric_witness(metric) && !settings_witness_on(settings, metric_witness(metric));
        series_count(&counted, &report->series);

        input.group_series = input.instance_series = report->series.total;
        if (settings->per_instance == PER_INSTANCE_ALWAYS)
                input.instance_hours = report->instances * COST_MONTH_HOURS;
        else if (settings->per_instance == PER_INSTANCE_WHEN_ILL)
                input.instance_hours = report->ill_hours;
        report->cost = cost_estimate(&input);
        if (settings->per_instance == PER_INSTANCE_WHEN_ILL) {
                input.instance_hours++;
                more = cost_estimate(&input);
                report->ill_hour_micro = more.metrics_micro - report->cost.metrics_micro;
        }
}

/* For people */

typedef char Grouped[32];
typedef char Money[40];

/* "43,800" */
static const char *grouped(Grouped buffer, uint64_t n) {
        char digits[24];
        size_t length = (size_t) snprintf(digits, sizeof(digits), "%" PRIu64, n), at = 0;

        for (size_t i = 0; i < length; i++) {
                if (i > 0 && (length - i) % 3 == 0)
                        buffer[at++] = ',';
                buffer[at++] = digits[i];
        }
        buffer[at] = '\0';
        return buffer;
}

/* Cents where there are many, else tenths of a cent. */
static const char *money(Money buffer, uint64_t micro) {
        bool small = micro < 1000000;
        uint64_t unit = small ? 1000 : 10000, whole = 1000000 / unit, n = (micro + unit / 2) / unit;
        Grouped dollars;

        (void) snprintf(buffer, sizeof(Money), "$%s.%0*" PRIu64, grouped(dollars, n / whole), small ? 3 : 2,
                n % whole);
        return buffer;
}

static void print_row(Metric metric, const char *dimensions, uint32_t least, uint32_t most) {
        const MetricRow *row = &metric_table[metric];
        char n[32];

        (void) snprintf(n, sizeof(n), least == most ? "%" PRIu32 : "%" PRIu32 "-%" PRIu32, least, most);
        printf("  %-31s %-13s %-8s %-14s %6s\n", row->name, row->unit, row->counter ? "counter" : "gauge",
                dimensions, n);
}

static void print_series(const Series *series) {
        printf("  %-31s %-13s %-8s %-14s %6s\n", "METRIC", "UNIT", "KIND", "DIMENSIONS", "SERIES");
        for (Metric metric = 0; metric < METRIC_N; metric++) {
                if (series->n[metric] > 0)
                        print_row(metric, "group", 1, 1);
                if (series->by_path[metric] > 0)
                        print_row(metric, "group, path", series->by_path[metric], series->by_path[metric]);
                if (metric == METRIC_REMEDIATION_HELD)
                        print_row(metric, "group, Brake", 0, series->by_brake);
        }
        printf("\n%" PRIu32
               " series a group, Brake apart: of that there is one only while the brake it names holds.\n"
               "\"group\" stands for ClusterName and AutoScalingGroupName, which all its instances share.\n",
                series->total);
}

static void print_paths(const Report *report) {
        const Local *local = report->local;
        bool any = false;

        for (uint32_t i = 0; i < local->n_mounts; i++)
                if (report->series.kept[i]) {
                        printf("%s%s", any ? ", " : "The paths are ", local->mounts[i].path);
                        any = true;
                }
        if (any)
                printf("%s.\n",
                        local->measured ? "" : " (as mounted here; each is counted as if it had inodes)");
        if (report->series.left_out > 0)
                printf("Left out are %" PRIu32 " series of mounts: metrics.max_series allows %" PRIi64
                       ". Raise it, or name fewer in disk.mounts.\n",
                        report->series.left_out, local->settings.max_series);
}

static void print_per_instance(const Report *report) {
        unsigned which = report->local->settings.per_instance;

        if (which == PER_INSTANCE_NEVER)
                printf("Nothing is published by instance");
        else
                printf("%she same is published by ClusterName and InstanceId%s",
                        which == PER_INSTANCE_WHEN_ILL ? "While something is wrong with an instance, t"
                                                       : "T",
                        which == PER_INSTANCE_WHEN_ILL ? "" : " as well");
        printf("\n(metrics.per_instance: %s).\n", per_instance_names[which]);
}

static void print_cost(const Report *report) {
        const Cost *cost = &report->cost;
        const uint64_t total = cost->metrics_micro + cost->calls_micro;
        const uint64_t tenths = (cost->metric_hours * 10 + COST_MONTH_HOURS / 2) / COST_MONTH_HOURS;
        Grouped instances, groups, n;
        Money text, each;

        printf("\nEstimate of a month, %s instance%s in %s group%s, US dollars:\n\n",
                grouped(instances, report->instances), report->instances == 1 ? "" : "s",
                grouped(groups, report->groups), report->groups == 1 ? "" : "s");
        printf("  %16s.%" PRIu64 " metric-months        %14s\n", grouped(n, tenths / 10), tenths % 10,
                money(text, cost->metrics_micro));
        printf("  %18s PutMetricData calls  %14s\n", grouped(n, cost->calls),
                money(text, cost->calls_micro));
        printf("  %18s %-20s %14s, %s an instance\n\n", "", "together", money(text, total),
                money(each, (total + report->instances / 2) / report->instances));
        if (report->local->settings.per_instance == PER_INSTANCE_WHEN_ILL)
                printf("Each hour in which an instance is ill adds %s; %s such hours are in it "
                       "(--ill-hours).\n",
                        money(text, report->ill_hour_micro),
                        report->ill_hours > 0 ? grouped(n, report->ill_hours) : "no");
}

static void print_prices(void) {
        uint64_t from = 0;
        Grouped n;
        Money price;

        printf("Prices of %s, %s: a metric-month (one series with data in every hour) %s,\n", COST_REGION,
                COST_AS_OF, money(price, cost_tiers[0].micro));
        for (size_t i = 1; i < COST_TIER_N; i++) {
                from += cost_tiers[i - 1].metrics;
                printf("beyond %s %s%s", grouped(n, from), money(price, cost_tiers[i].micro),
                        i + 1 < COST_TIER_N ? ", " : "; ");
        }
        printf("1,000 calls %s.\n", money(price, (uint64_t) 1000 * COST_CALL_MICRO));
        printf("Other regions and times differ. What AWS gives away is not deducted; series by Brake, "
               "alarms and\n"
               "dashboards are not in it.\n");
}

static void report_print(const Report *report) {
        const Settings *settings = &report->local->settings;
        char span[FORMAT_SPAN_MAX];

        printf("Published to %s every %s:\n\n", settings->name_space, format_span(span, settings->period));
        print_series(&report->series);
        print_paths(report);
        print_per_instance(report);
        print_cost(report);
        print_prices();
}

/* For programs */

static void put_series(JsonWriter *w, Metric metric, const char *dimension, uint32_t n, bool always) {
        const MetricRow *row = &metric_table[metric];

        json_begin_object(w, NULL);
        json_string(w, "metric", row->name);
        json_string(w, "unit", row->unit);
        json_string(w, "kind", row->counter ? "counter" : "gauge");
        json_begin_array(w, "dimensions");
        json_string(w, NULL, "ClusterName");
        json_string(w, NULL, "AutoScalingGroupName");
        if (dimension)
                json_string(w, NULL, dimension);
        json_end_array(w);
        json_i64(w, "series", n);
        json_bool(w, "always", always);
        json_end_object(w);
}

static void put_all_series(JsonWriter *w, const Report *report) {
        const Series *series = &report->series;

        json_begin_array(w, "series");
        for (Metric metric = 0; metric < METRIC_N; metric++) {
                if (series->n[metric] > 0)
                        put_series(w, metric, NULL, 1, true);
                if (series->by_path[metric] > 0)
                        put_series(w, metric, "path", series->by_path[metric], true);
                if (metric == METRIC_REMEDIATION_HELD)
                        put_series(w, metric, "Brake", series->by_brake, false);
        }
        json_end_array(w);
        json_i64(w, "series_per_group", series->total);
        json_i64(w, "series_left_out", series->left_out);
        json_begin_array(w, "paths");
        for (uint32_t i = 0; i < report->local->n_mounts; i++)
                if (series->kept[i])
                        json_string(w, NULL, report->local->mounts[i].path);
        json_end_array(w);
}

static void put_dollars(JsonWriter *w, const char *name, uint64_t micro) {
        json_double(w, name, (double) micro / 1e6);
}

static void put_prices(JsonWriter *w) {
        json_begin_object(w, "prices");
        json_string(w, "region", COST_REGION);
        json_string(w, "as_of", COST_AS_OF);
        json_begin_array(w, "metric_month");
        for (size_t i = 0; i < COST_TIER_N; i++) {
                json_begin_object(w, NULL);
                if (cost_tiers[i].metrics == UINT64_MAX)
                        json_null(w, "metrics");
                else
                        json_i64(w, "metrics", (int64_t) cost_tiers[i].metrics);
                put_dollars(w, "usd", cost_tiers[i].micro);
                json_end_object(w);
        }
        json_end_array(w);
        put_dollars(w, "thousand_calls_usd", (uint64_t) 1000 * COST_CALL_MICRO);
        json_end_object(w);
}

static void put_cost(JsonWriter *w, const Report *report) {
        const Cost *cost = &report->cost;

        json_begin_object(w, "month");
        json_i64(w, "hours", COST_MONTH_HOURS);
        json_i64(w, "instances", (int64_t) report->instances);
        json_i64(w, "groups", (int64_t) report->groups);
        json_i64(w, "ill_hours", (int64_t) report->ill_hours);
        json_double(w, "metric_months", (double) cost->metric_hours / COST_MONTH_HOURS);
        json_i64(w, "calls", (int64_t) cost->calls);
        put_dollars(w, "metrics_usd", cost->metrics_micro);
        put_dollars(w, "calls_usd", cost->calls_micro);
        put_dollars(w, "total_usd", cost->metrics_micro + cost->calls_micro);
        put_dollars(w, "one_more_ill_hour_usd", report->ill_hour_micro);
        put_prices(w);
        json_end_object(w);
}

static int report_print_json(const Report *report) {
        const Settings *settings = &report->local->settings;
        _cleanup_(json_writer_done) JsonWriter writer = {};

        json_writer_init(&writer, COST_TEXT_MAX);
        json_begin_object(&writer, NULL);
        json_string(&writer, "namespace", settings->name_space);
        json_double(&writer, "period_seconds", (double) settings->period / (double) SPAN_SEC(1));
        json_string(&writer, "per_instance", per_instance_names[settings->per_instance]);
        put_all_series(&writer, report);
        put_cost(&writer, report);
        json_end_object(&writer);
        if (writer.error < 0)
                return command_error("The report could not be written: %s", strerror(-writer.error));
        printf("%s\n", writer.text);
        return EXIT_FINE;
}

static int help_metrics(void) {
        command_print_usage("metrics", stdout);
        fputs("Shows the series that are published to CloudWatch with the settings of this host, and "
              "estimates what they "
              "cost a\n"
              "month. Asks nothing of AWS. Paths are those of this host, as the daemon sees them where it "
              "runs.\n\n"
              "Options:\n"
              "  --instances N  of how many instances; without it of one\n"
              "  --groups N     in how many Auto Scaling groups, whose instances share a group's series; "
              "without it in "
              "one\n"
              "  --ill-hours N  hours a month in which an instance is ill, added up over all instances; "
              "without it 0.\n"
              "                 They count with \"metrics.per_instance\": \"when_ill\"\n"
              "  --json         as one JSON document, for programs\n\n"
              "Example:\n"
              "  " PROGRAM " metrics --instances 500 --groups 4\n\n"
              "Cheaper: a longer \"metrics.period\" (fewer calls), \"metrics.per_instance\": \"never\", "
              "fewer "
              "\"disk.mounts\".\n",
                stdout);
        return EXIT_FINE;
}

static int take_number(const char *option, uint64_t least, uint64_t most, uint64_t *ret) {
        uint64_t n = 0;

        if (parse_u64(optarg, &n) < 0 || n < least || n > most)
                return command_usage_error("metrics",
                        "%s \"%s\": expected a whole number from %" PRIu64 " to %" PRIu64, option, optarg,
                        least, most);
        *ret = n;
        return EXIT_FINE;
}

static int take_options(int argc, char **argv, Report *report) {
        static const struct option options[] = { { "instances", required_argument, NULL, 'i' },
                { "groups", required_argument, NULL, 'g' }, { "ill-hours", required_argument, NULL, 'H' },
                { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, {} };
        int c, r = EXIT_FINE;

        while (r == EXIT_FINE && (c = command_option_next(argc, argv, options)) >= 0)
                switch (c) {
                case 'i': r = take_number("--instances", 1, COST_INSTANCES_MAX, &report->instances); break;
                case 'g': r = take_number("--groups", 1, COST_INSTANCES_MAX, &report->groups); break;
                case 'H':
                        r = take_number(
                                "--ill-hours", 0, COST_INSTANCES_MAX * COST_MONTH_HOURS, &report->ill_hours);
                        break;
                case 'j': report->json = true; break;
                case 'h': report->help = true; return EXIT_FINE;
                default: return command_option_error("metrics", argv, c);
                }
        if (r != EXIT_FINE)
                return r;
        if (optind < argc)
                return command_usage_error("metrics", "unexpected argument \"%s\"", argv[optind]);
        if (report->groups > report->instances)
                return command_usage_error("metrics",
                        "%" PRIu64 " groups of %" PRIu64
                        " instances: expected no more groups than instances",
                        report->groups, report->instances);
        if (report->ill_hours > report->instances * COST_MONTH_HOURS)
                return command_usage_error("metrics",
                        "--ill-hours \"%" PRIu64 "\": a month of %" PRIu64 " instances has %" PRIu64,
                        report->ill_hours, report->instances, report->instances * COST_MONTH_HOURS);
        return EXIT_FINE;
}

int command_metrics(int argc, char **argv) {
        static Local local; /* too large for comfort on a stack */
        Report report = { .instances = 1, .groups = 1, .local = &local };
        int r;

        r = take_options(argc, argv, &report);
        if (r != EXIT_FINE)
                return r;
        if (report.help)
                return help_metrics();
        r = local_read(&local);
        if (r != EXIT_FINE)
                return r;
        report_make(&report);
        if (report.json)
                return report_print_json(&report);
        report_print(&report);
        return EXIT_FINE;
}
