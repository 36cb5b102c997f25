/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The option table, the checks that concern more than one row, and the few facts taken from the ECS agent's own
 * settings. Defaults and floors are the product's promise: change them there first.
 */

#include "agent/settings.h"

#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"

/* What the usual patrol.after leaves a host beyond its own grace and repair, for looks and turns. */
#define PATROL_RESERVE SPAN_MIN(9)
#define ECS_CONFIG_MAX ((size_t) 64 * 1024)
#define NAMESPACE_MAX  255 /* CloudWatch API: PutMetricData, Namespace */
#define ACTIONS_MAX                                                                                         \
        10 /* a count knows nothing of the group's size, so it may not be more than the default ever is */
/* A list's item has up to 63 bytes, two quotes, a comma and a blank. */
#define VALUE_TEXT_MAX ((size_t) OPTION_LIST_MAX * 72)
#define VALUE_WIDTH    48 /* column of values in the table; longer lists are folded */

/* Policy must not see common/options.h, so it has its own twin of OptionAmount. */
static_assert(sizeof(Amount) == sizeof(OptionAmount), "Amount and OptionAmount are the same");
static_assert(offsetof(Amount, share) == offsetof(OptionAmount, share), "and so are their members");

/* clang-format off */
static const char *const choices_action[] = { "observe", "detach", "unhealthy", "standby", NULL }; /* Action */
static const char *const choices_orphan[] = { "keep", "stop", "terminate", NULL };              /* OrphanAction */
static const char *const choices_also[] = { "docker", "disk_read_only", "disk_full", "memory", NULL };
        /* ALSO_*, in the order of their bits */
static const char *const choices_per_instance[] = { "never", "when_ill", "always", NULL };       /* PerInstance */
static const char *const choices_witnesses[] = { "all", "introspection", "log", "sockets", "units", "docker", "path",
        "disks", "memory", "metadata", NULL };

/* Pseudo file systems, and those that are always full because they are images. */
#define IGNORED_FSTYPES                                                                                     \
        "[\"overlay\", \"tmpfs\", \"aufs\", \"autofs\", \"binfmt_misc\", \"bpf\", \"cgroup\", "             \
        "\"cgroup2\", \"configfs\", \"debugfs\", \"devpts\", \"devtmpfs\", \"efivarfs\", \"erofs\", "         \
        "\"fusectl\", \"hugetlbfs\", \"iso9660\", \"mqueue\", \"nsfs\", \"proc\", \"pstore\", \"ramfs\", "    \
        "\"rpc_pipefs\", \"securityfs\", \"selinuxfs\", \"squashfs\", \"sysfs\", \"tracefs\"]"

#define FIELD(member) offsetof(Settings, member)
#define RANGE(least, most) .min = (least), .max = (most)
#define FLOOR(least, most) .floor_min = (least), .floor_max = (most) /* lifted by ECS_HEALTH_AGENT_UNSAFE=1 */

const Option settings_table[] = {
        { "action", OPTION_CHOICE, FIELD(policy.action), "\"detach\"", .choices = choices_action,
                .help = "What to do at last: detach this instance from its group; tell the group that it is "
                        "unhealthy, which terminates it; put it on standby; "
                        "or only observe, which repairs nothing either." },
        { "grace", OPTION_SPAN, FIELD(policy.grace), "\"8m\"",
                RANGE(SPAN_MSEC(100), SPAN_DAY(1)), FLOOR(SPAN_MIN(3), SPAN_DAY(1)),
                .help = "How long the ECS agent must be disconnected, without a break, before anything is done." },
        { "grace_dead", OPTION_SPAN, FIELD(policy.grace_dead), "\"5m\"",
                RANGE(SPAN_MSEC(100), SPAN_DAY(1)), FLOOR(SPAN_MIN(3), SPAN_DAY(1)),
                .help = "The same when the agent's process is dead, hung, or has exited." },
        { "drain", OPTION_BOOL, FIELD(policy.drain), "true",
                .help = "Set the container instance to DRAINING before it is removed, so that ECS moves its tasks." },
        { "cooldown", OPTION_SPAN, FIELD(policy.cooldown), "\"1h\"", RANGE(0, SPAN_DAY(30)),
                .help = "The least time between two incidents of this host that are acted on." },
        { "act_if_never_registered", OPTION_BOOL, FIELD(policy.act_if_never_registered), "false",
                .help = "Whether an instance that never registered with ECS counts as disconnected." },
        { "also_act_on", OPTION_LIST, FIELD(also_act_on), "[]", .choices = choices_also,
                .help = "Further causes that count like a lost connection." },

        { "repair.enabled", OPTION_BOOL, FIELD(policy.repair), "true",
                .help = "Restart the ECS agent's unit first, when the agent is dead, exited, hung or wedged." },
        { "repair.wait", OPTION_SPAN, FIELD(policy.repair_wait), "\"3m\"", RANGE(SPAN_MSEC(100), SPAN_HOUR(1)),
                .help = "How long a repair has to show an effect." },
        { "confirm.before", OPTION_SPAN, FIELD(policy.confirm_before), "\"3m\"",
                RANGE(SPAN_MSEC(10), SPAN_DAY(1)), FLOOR(SPAN_MIN(3), SPAN_DAY(1)),
                .help = "How long before the end of grace ECS is first asked whether it sees the agent; "
                        "less than grace." },

        { "orphan.action", OPTION_CHOICE, FIELD(policy.orphan), "\"stop\"", .choices = choices_orphan,
                .help = "What becomes of a detached instance in the end: it is kept running, stopped, or terminated; "
                        "one that cannot be stopped (Spot, instance store) is terminated." },
        { "orphan.after", OPTION_SPAN, FIELD(policy.orphan_after), "\"1h\"",
                RANGE(SPAN_MSEC(100), SPAN_DAY(30)), FLOOR(SPAN_MIN(5), SPAN_DAY(30)),
                .help = "How long a detached instance is left alone, for a look into it, before it is deregistered and ended." },
        { "orphan.deregister", OPTION_BOOL, FIELD(policy.orphan_deregister), "true",
                .help = "Whether a removed instance is also deregistered from the cluster, by force, "
                        "so that ECS replaces the tasks that its drain could not move." },

        { "ecs_agent.endpoint", OPTION_TEXT, FIELD(endpoint), "\"http://127.0.0.1:51678\"",
                .help = "Introspection server of the ECS agent, on a loopback address." },
        { "ecs_agent.log", OPTION_TEXT, FIELD(log), "\"/var/log/ecs/ecs-agent.log\"",
                .help = "Log file of the ECS agent." },
        { "ecs_agent.unit", OPTION_TEXT, FIELD(unit), "\"ecs.service\"",
                .help = "Unit of the ECS agent." },
        { "ecs_agent.cluster", OPTION_TEXT, FIELD(cluster), "null", .nullable = true,
                .help = "Name of the cluster; null takes what the introspection server says." },
        /* The agent's own back-off ends after 144 s, and it renews its connection every 30 to 35 min (since
         * 1.69): less than these floors would call a healthy agent wedged. */
        { "ecs_agent.wedged_after", OPTION_SPAN, FIELD(policy.wedged_after), "\"6m\"",
                RANGE(SPAN_MSEC(100), SPAN_DAY(1)), FLOOR(SPAN_MIN(3), SPAN_DAY(1)),
                .help = "Disconnected without a sign of a retry for this long, the agent counts as wedged." },
        { "ecs_agent.silent_after", OPTION_SPAN, FIELD(policy.silent_after), "\"40m\"",
                RANGE(SPAN_MSEC(100), SPAN_DAY(7)), FLOOR(SPAN_MIN(36), SPAN_DAY(7)),
                .help = "Without any sign of a connection in its log for this long, the agent counts as wedged." },

        { "docker.socket", OPTION_TEXT, FIELD(docker_socket), "\"/run/docker.sock\"",
                .help = "Socket of the container runtime." },
        { "docker.unit", OPTION_TEXT, FIELD(docker_unit), "\"docker.service\"",
                .help = "Unit of the container runtime." },

        { "disk.mounts", OPTION_LIST, FIELD(mounts), "\"auto\"",
                .help = "Mount points to watch; \"auto\" takes every real file system." },
        { "disk.ignore_fstypes", OPTION_LIST, FIELD(ignore_fstypes), IGNORED_FSTYPES,
                .help = "Types of file systems that \"auto\" leaves out." },

        { "witnesses", OPTION_LIST, FIELD(witnesses), "\"all\"", .choices = choices_witnesses,
                .help = "Which witnesses are asked; at least two must agree before anything is done." },

        { "metrics.namespace", OPTION_TEXT, FIELD(name_space), "\"ECS/InstanceHealth\"",
                .help = "CloudWatch namespace; not one that begins with \"AWS/\"." },
        { "metrics.period", OPTION_SPAN, FIELD(period), "\"60s\"",
                RANGE(SPAN_SEC(1), SPAN_HOUR(1)), FLOOR(SPAN_SEC(10), SPAN_HOUR(1)),
                .help = "How often metrics are published." },
        { "metrics.sample", OPTION_SPAN, FIELD(sample), "\"10s\"",
                RANGE(SPAN_MSEC(100), SPAN_HOUR(1)), FLOOR(SPAN_SEC(1), SPAN_HOUR(1)),
                .help = "How often they are sampled in between; at most the period." },
        { "metrics.per_instance", OPTION_CHOICE, FIELD(per_instance), "\"when_ill\"", .choices = choices_per_instance,
                .help = "When metrics are also published per instance: "
                        "CloudWatch bills each such series by the hour." },
        { "metrics.max_series", OPTION_NUMBER, FIELD(max_series), "40", RANGE(1, 1000),
                .help = "More series per group than this are refused." },

        { "brakes.max_sick", OPTION_SHARE, FIELD(policy.max_sick), "\"20%\"", RANGE(0, 10000), FLOOR(0, 5000),
                .help = "Nothing is done while a larger share of cluster, group or zone is disconnected." },
        { "brakes.max_actions", OPTION_AMOUNT, FIELD(policy.max_actions), "null", .nullable = true,
                RANGE(0, 10000), FLOOR(0, 2000),
                .help = "Removals per window allowed in a group, and in the cluster; "
                        "null: the larger of 1 and 5 %, at most 10." },
        { "brakes.max_per_day", OPTION_AMOUNT, FIELD(policy.max_per_day), "null", .nullable = true,
                RANGE(0, 10000),
                .help = "Removals per group allowed in 24 hours; null: the larger of 2 and 10 %." },
        { "brakes.window", OPTION_SPAN, FIELD(policy.window), "\"30m\"",
                RANGE(SPAN_SEC(1), SPAN_DAY(1)), FLOOR(SPAN_MIN(10), SPAN_DAY(1)),
                .help = "The time in which removals are counted." },
        { "brakes.turn", OPTION_SPAN, FIELD(policy.turn), "\"2m\"",
                RANGE(SPAN_MSEC(100), SPAN_HOUR(1)), FLOOR(SPAN_MIN(1), SPAN_HOUR(1)),
                .help = "Length of the slot in which one instance of a group may act." },
        { "brakes.settle", OPTION_SPAN, FIELD(policy.settle), "\"10m\"", RANGE(0, SPAN_DAY(1)),
                .help = "How long nothing is done after many were disconnected at once." },
        { "brakes.boot_grace", OPTION_SPAN, FIELD(policy.boot_grace), "\"10m\"",
                RANGE(0, SPAN_DAY(1)), FLOOR(SPAN_MIN(3), SPAN_DAY(1)),
                .help = "How long after boot nothing is done." },

        { "patrol.enabled", OPTION_BOOL, FIELD(policy.patrol), "true",
                .help = "Whether this host looks after the others of its group: "
                        "one that is too frozen to remove itself is removed on its behalf." },
        { "patrol.every", OPTION_SPAN, FIELD(policy.patrol_every), "\"5m\"",
                RANGE(SPAN_MSEC(100), SPAN_DAY(1)), FLOOR(SPAN_MIN(1), SPAN_DAY(1)),
                .help = "How often the group as a whole, however large, is searched for frozen hosts." },
        { "patrol.after", OPTION_SPAN, FIELD(policy.patrol_after), "\"20m\"",
                RANGE(SPAN_MSEC(100), SPAN_DAY(2)), FLOOR(SPAN_MIN(10), SPAN_DAY(2)),
                .help = "How long a frozen host must have been found disconnected before it is removed; "
                        "not less than grace and repair.wait together." },

        { "cloudformation.enabled", OPTION_BOOL, FIELD(stack_enabled), "true",
                .help = "Read settings from the metadata of the CloudFormation resource that made this instance." },
        { "cloudformation.stack", OPTION_TEXT, FIELD(stack), "null", .nullable = true,
                .help = "Name or ARN of the stack; null takes the instance's tag aws:cloudformation:stack-id." },
        { "cloudformation.resource", OPTION_TEXT, FIELD(stack_resource), "null", .nullable = true,
                .help = "Logical id of the resource; null takes the instance's tag aws:cloudformation:logical-id." },
        { "cloudformation.refresh", OPTION_SPAN, FIELD(stack_refresh), "\"15m\"",
                RANGE(SPAN_MSEC(100), SPAN_DAY(1)), FLOOR(SPAN_MIN(1), SPAN_DAY(1)),
                .help = "How often the metadata are read, give or take half; less often in clusters of more than 900." },
};
/* clang-format on */

const size_t settings_table_n = ELEMENTSOF(settings_table);
static_assert(ELEMENTSOF(settings_table) <= SETTINGS_ROWS_MAX, "there is room for every row's origin");

int settings_default(Settings *settings) {
        *settings = (Settings){};
        return options_default(settings_table, settings_table_n, settings);
}

bool settings_unsafe(void) {
        const char *value = getenv("ECS_HEALTH_AGENT_UNSAFE");

        return value && strcmp(value, "1") == 0;
}

/* ecs.config */

static void text_copy(char *buffer, size_t n_buffer, const char *value) {
        if (strlen(value) < n_buffer)
                memcpy(buffer, value, strlen(value) + 1);
}

static void ecs_config_take(SettingsEcs *ecs, bool *named_https, const char *key, const char *value) {
        const char *slash;

        if (strcmp(key, "ECS_EXTERNAL") == 0) {
                ecs->external = parse_flag(value);
        } else if (strcmp(key, "ECS_CLUSTER") == 0) {
                slash = strrchr(value, '/');
                text_copy(ecs->cluster, sizeof(ecs->cluster), slash ? slash + 1 : value);
        } else if (strcasecmp(key, "HTTPS_PROXY") == 0) {
                text_copy(ecs->https_proxy, sizeof(ecs->https_proxy), value);
                *named_https = *value != '\0';
        } else if (strcasecmp(key, "HTTP_PROXY") == 0) {
                if (!*named_https)
                        text_copy(ecs->https_proxy, sizeof(ecs->https_proxy), value);
        } else if (strcasecmp(key, "NO_PROXY") == 0) {
                text_copy(ecs->no_proxy, sizeof(ecs->no_proxy), value);
        }
}

void settings_ecs_config(SettingsEcs *ret) {
        /* ecs-init merges them in this order. */
        static const char *const files[] = { "/var/lib/ecs/ecs.config", "/etc/ecs/ecs.config" };
        bool named_https = false;

        *ret = (SettingsEcs){};
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_(freep) char *path = NULL, *text = NULL;
                const char *key, *value;
                char *rest;
                size_t n = 0;

                if (file_root(files[i], &path) < 0 || file_read(path, ECS_CONFIG_MAX, &text, &n) < 0 ||
                        !text)
                        continue;
                rest = text;
                while (parse_env(&rest, &key, &value))
                        ecs_config_take(ret, &named_https, key, value);
                /* Registry passwords are kept in this file. */
                explicit_bzero(text, n);
        }
}

/* What no single row can check */

typedef struct Checker {
        const char *source; /* named for what no row is to blame for */
        const char **from;  /* origins, per row */
        OptionProblems *problems;
        bool unsafe;
} Checker;

static const char **origin_of(const char **from, const char *name) {
        for (size_t i = 0; i < settings_table_n; i++)
                if (strcmp(settings_table[i].name, name) == 0)
                        return &from[i];
        return NULL;
}

const char *settings_origin(const char *const *origins, const char *name) {
        for (size_t i = 0; i < settings_table_n; i++)
                if (strcmp(settings_table[i].name, name) == 0)
                        return origins[i];
        return "default";
}

static void problem(const Checker *checker, const char *name, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static void problem(const Checker *checker, const char *name, const char *format, ...) {
        OptionProblems *problems = checker->problems;
        const char **from = name && checker->from ? origin_of(checker->from, name) : NULL;
        const char *source = from && strcmp(*from, "default") != 0 ? *from : checker->source;
        char text[256];
        va_list arguments;

        if (problems->n++ >= OPTION_PROBLEMS_MAX)
                return;
        va_start(arguments, format);
        (void) vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        (void) snprintf(problems->text[problems->n - 1], sizeof(problems->text[0]), "%s%s%s: %s", source,
                name ? ": " : "", name ? name : "", text);
}

/* A literal address, so that asking needs no name look-up; and a port, because the default of http would be wrong. */
static bool endpoint_is_loopback(const char *url) {
        const char *host, *end;
        char address[64];
        struct in6_addr six;
        struct in_addr four;
        uint64_t port = 0;
        size_t n;

        if (strncmp(url, "http://", 7) != 0)
                return false;
        host = url + 7;
        end = *host == '[' ? strchr(host++, ']') : strchr(host, ':');
        if (!end)
                return false;
        n = (size_t) (end - host);
        if (n >= sizeof(address))
                return false;
        memcpy(address, host, n);
        address[n] = '\0';
        if (*end == ']')
                end++;
        if (*end != ':' || parse_u64(end + 1, &port) < 0 || port < 1 || port > 65535)
                return false;

        if (host[-1] == '[')
                return inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
        return inet_pton(AF_INET, address, &four) == 1 && ntohl(four.s_addr) >> 24 == 127;
}

static bool text_is_printable(const char *text) {
        for (; *text; text++)
                if (*text < 0x20 || *text > 0x7e)
                        return false;
        return true;
}

static void check_namespace(const Checker *checker, const char *name) {
        if (!*name || strlen(name) > NAMESPACE_MAX || *name == ':' || strncmp(name, "AWS/", 4) == 0 ||
                !text_is_printable(name))
                problem(checker, "metrics.namespace",
                        "\"%s\" is not possible; expected 1 to %d printable ASCII characters, not beginning "
                        "with "
                        "\":\" or \"AWS/\"",
                        name, NAMESPACE_MAX);
}

static void check_path(const Checker *checker, const char *name, const char *path) {
        if (*path != '/')
                problem(checker, name, "\"%s\" is no absolute path; expected one that begins with \"/\"",
                        path);
}

static void check_unit(const Checker *checker, const char *name, const char *unit) {
        const char *dot = strrchr(unit, '.');

        if (!dot || dot == unit || strcmp(dot, ".service") != 0 || strchr(unit, '/') ||
                !text_is_printable(unit))
                problem(checker, name, "\"%s\" is no name of a service; expected one like \"ecs.service\"",
                        unit);
}

static bool list_has(const OptionList *list, const char *word) {
        for (unsigned i = 0; i < list->n; i++)
                if (strcmp(list->items[i], word) == 0)
                        return true;
        return false;
}

static void check_lists(const Checker *checker, const Settings *settings) {
        const OptionList *mounts = &settings->mounts, *witnesses = &settings->witnesses;

        if (list_has(mounts, "auto") && mounts->n > 1)
                problem(checker, "disk.mounts",
                        "\"auto\" stands beside other values; expected it alone, or paths");
        for (unsigned i = 0; i < mounts->n; i++)
                if (strcmp(mounts->items[i], "auto") != 0)
                        check_path(checker, "disk.mounts", mounts->items[i]);

        if (witnesses->n == 0)
                problem(checker, "witnesses",
                        "none is left; expected \"all\" or some of them. To switch actions off, use action "
                        "\"observe\"");
        if (list_has(witnesses, "all") && witnesses->n > 1)
                problem(checker, "witnesses",
                        "\"all\" stands beside other values; expected it alone, or names");
}

static void check_spans(const Checker *checker, const Settings *settings) {
        const Policy *policy = &settings->policy;
        char a[FORMAT_SPAN_MAX], b[FORMAT_SPAN_MAX];

        if (policy->confirm_before >= policy->grace)
                problem(checker, "confirm.before", "%s is not less than grace, which is %s; expected less",
                        format_span(a, policy->confirm_before), format_span(b, policy->grace));
        if (settings->sample > settings->period)
                problem(checker, "metrics.sample",
                        "%s is more than metrics.period, which is %s; expected at most that",
                        format_span(a, settings->sample), format_span(b, settings->period));
}

/* Or peers would act for a host that is well able to, while it still waits for itself. */
static Span patrol_after_least(const Policy *policy) {
        return policy->grace + (policy->repair ? policy->repair_wait : 0);
}

static void check_patrol(const Checker *checker, const Policy *policy) {
        char a[FORMAT_SPAN_MAX], b[FORMAT_SPAN_MAX];

        if (policy->patrol && policy->patrol_after < patrol_after_least(policy) && !checker->unsafe)
                problem(checker, "patrol.after",
                        "%s is less than grace and repair.wait together, which are %s; expected at least "
                        "that, for a host must have had the time to help itself",
                        format_span(a, policy->patrol_after), format_span(b, patrol_after_least(policy)));
}

static void check_actions(const Checker *checker, const Amount *actions) {
        if (actions->count > ACTIONS_MAX && !checker->unsafe)
                problem(checker, "brakes.max_actions",
                        "%" PRId64
                        " is above the allowed %d; expected at most that, or a share such as \"10%%\"",
                        actions->count, ACTIONS_MAX);
}

static void check_whole(const Checker *checker, const Settings *settings) {
        if (!endpoint_is_loopback(settings->endpoint))
                problem(checker, "ecs_agent.endpoint",
                        "\"%s\" is no address of this host; expected \"http://127.0.0.1:PORT\" or "
                        "\"http://[::1]:PORT\"",
                        settings->endpoint);
        check_path(checker, "ecs_agent.log", settings->log);
        check_path(checker, "docker.socket", settings->docker_socket);
        check_unit(checker, "ecs_agent.unit", settings->unit);
        check_unit(checker, "docker.unit", settings->docker_unit);
        check_namespace(checker, settings->name_space);
        check_lists(checker, settings);
        check_actions(checker, &settings->policy.max_actions);
        check_spans(checker, settings);
        check_patrol(checker, &settings->policy);
}

/*
 * Who only shortens grace, or the period, does not want to hear of a default that no longer fits: it gives way.
 */
static void default_give_way(const char **from, const char *name, Span *value, Span other, const char *why) {
        const char **origin = origin_of(from, name);

        if (strcmp(*origin, "default") == 0) {
                *value = other;
                *origin = why;
        }
}

static uint32_t also_act_on_bits(const OptionList *list) {
        uint32_t bits = 0;

        for (unsigned i = 0; choices_also[i]; i++)
                if (list_has(list, choices_also[i]))
                        bits |= 1u << i;
        return bits;
}

static const char *read_problem(int error) {
        if (error == -E2BIG)
                return "is too large; expected at most 256 KiB";
        if (error == -EACCES)
                return "cannot be read: permission denied; it must be readable for the service's user (mode "
                       "0644)";
        return NULL;
}

/* People copy from the documentation of later versions: tell them that it is not a typo. */
static void explain_later(OptionProblems *problems) {
        static const char *const later[] = { ": logs: unknown", ": notify: unknown" };

        for (unsigned i = 0; i < problems->n && i < OPTION_PROBLEMS_MAX; i++)
                for (size_t k = 0; k < ELEMENTSOF(later); k++) {
                        char *text = problems->text[i], *end = strstr(text, later[k]);

                        if (!end)
                                continue;
                        end += strlen(later[k]);
                        (void) snprintf(end, sizeof(problems->text[i]) - (size_t) (end - text),
                                "; this version does not have it yet");
                }
}

int settings_load(const char *path, char **ret, size_t *ret_n, OptionProblems *problems) {
        const Checker checker = { .source = path, .problems = problems };
        char *text = NULL;
        size_t n = 0;
        int r;

        *problems = (OptionProblems){};
        r = file_read(path, SETTINGS_FILE_MAX, &text, &n);
        if (r == -ENOMEM)
                return r;
        if (r < 0 && r != -ENOENT) {
                if (read_problem(r))
                        problem(&checker, NULL, "%s", read_problem(r));
                else
                        problem(&checker, NULL, "cannot be read: %s", strerror(-r));
                return -EBADMSG;
        }

        *ret = text;
        *ret_n = n;
        return 0;
}

/* Otherwise a text could send its reader to another one, which sends it back. */
static void check_stack_text(const Checker *checker) {
        static const char *const names[] = { "cloudformation.enabled", "cloudformation.stack",
                "cloudformation.resource" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (*origin_of(checker->from, names[i]) == checker->source)
                        problem(checker, names[i],
                                "cannot stand in the metadata that it leads to; expected it "
                                "in " SETTINGS_FILE);
}

static int overlay(const SettingsText *text, Checker *checker, Settings *settings) {
        int r;

        checker->source = text->source;
        r = options_read(settings_table, settings_table_n, text->source, text->text, text->n,
                checker->unsafe, settings, checker->from, checker->problems);
        if (r == -EBADMSG)
                explain_later(checker->problems);
        if (r < 0 || !text->from_stack)
                return r;
        check_stack_text(checker);
        return checker->problems->n > 0 ? -EBADMSG : 0;
}

int settings_compose(const SettingsText *texts, size_t n, Settings *settings, const char **origins,
        OptionProblems *problems) {
        const char *from[ELEMENTSOF(settings_table)];
        Checker checker = { "settings", from, problems, settings_unsafe() };
        Settings read;
        SettingsEcs ecs;
        int r;

        *problems = (OptionProblems){};
        r = settings_default(&read);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(from); i++)
                from[i] = "default";

        for (size_t i = 0; i < n; i++) {
                r = texts[i].text ? overlay(&texts[i], &checker, &read) : 0;
                if (r < 0)
                        return r;
        }
        if (read.policy.confirm_before >= read.policy.grace)
                default_give_way(from, "confirm.before", &read.policy.confirm_before, read.policy.grace / 2,
                        "half of grace");
        if (read.policy.patrol_after < patrol_after_least(&read.policy))
                default_give_way(from, "patrol.after", &read.policy.patrol_after,
                        patrol_after_least(&read.policy) + PATROL_RESERVE, "grace and repair.wait");
        if (read.sample > read.period)
                default_give_way(from, "metrics.sample", &read.sample, read.period, "metrics.period");
        check_whole(&checker, &read);
        if (problems->n > 0)
                return -EBADMSG;

        read.policy.also_act_on = also_act_on_bits(&read.also_act_on);
        settings_ecs_config(&ecs);
        read.policy.external = ecs.external;
        explicit_bzero(&ecs, sizeof(ecs));

        *settings = read;
        if (origins)
                memcpy(origins, from, sizeof(from));
        return 0;
}

int settings_read(const char *path, Settings *settings, const char **origins, OptionProblems *problems) {
        _cleanup_(freep) char *text = NULL;
        SettingsText file = { .source = path };
        int r;

        r = settings_load(path, &text, &file.n, problems);
        if (r < 0)
                return r;
        file.text = text;
        return settings_compose(&file, 1, settings, origins, problems);
}

bool settings_witness_on(const Settings *settings, const char *name) {
        return list_has(&settings->witnesses, "all") || list_has(&settings->witnesses, name);
}

/* Printing */

/* How much of @text goes on one line: all, or up to the last comma that fits. */
static size_t fold_at(const char *text) {
        size_t n = strlen(text), best = 0;

        if (n <= VALUE_WIDTH)
                return n;
        for (size_t i = 0; i < VALUE_WIDTH; i++)
                if (text[i] == ',')
                        best = i + 1;
        return best > 0 ? best : n;
}

static void print_row(const Option *option, const char *value, const char *origin, FILE *f) {
        size_t n = fold_at(value);

        fprintf(f, "%-24s  %-*.*s  %s\n", option->name, VALUE_WIDTH, (int) n, value, origin);
        for (value += n; *value; value += n) {
                value += strspn(value, " ");
                n = fold_at(value);
                fprintf(f, "%-24s   %.*s\n", "", (int) n, value);
        }
}

bool settings_equal(const Settings *a, const Settings *b) {
        static char text_a[VALUE_TEXT_MAX], text_b[VALUE_TEXT_MAX];

        if (a->policy.external != b->policy.external)
                return false;
        for (size_t i = 0; i < settings_table_n; i++)
                if (option_format(&settings_table[i], a, text_a, sizeof(text_a)) < 0 ||
                        option_format(&settings_table[i], b, text_b, sizeof(text_b)) < 0 ||
                        strcmp(text_a, text_b) != 0)
                        return false;
        return true;
}

void settings_print_effective(const Settings *settings, const char *const *origins, FILE *f, bool json) {
        JsonWriter quoted;
        char value[VALUE_TEXT_MAX];

        if (json)
                fprintf(f, "{");
        else
                fprintf(f, "%-24s  %-*s  %s\n", "KEY", VALUE_WIDTH, "VALUE", "SOURCE");
        for (size_t i = 0; i < settings_table_n; i++) {
                const char *origin = origins && origins[i] ? origins[i] : "default";

                if (option_format(&settings_table[i], settings, value, sizeof(value)) < 0)
                        (void) snprintf(value, sizeof(value), "null");
                if (!json) {
                        print_row(&settings_table[i], value, origin, f);
                        continue;
                }
                json_writer_init(&quoted, (size_t) 2 * PATH_MAX);
                json_string(&quoted, NULL, origin);
                fprintf(f, "%s\"%s\":{\"value\":%s,\"source\":%s}", i > 0 ? "," : "", settings_table[i].name,
                        value, quoted.error < 0 ? "null" : quoted.text);
                json_writer_done(&quoted);
        }
        if (json)
                fprintf(f, "}");
}
