/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The table of permissions and the command that prints it as a policy.
 *
 * IAM cannot limit what is done to a group or a cluster to the instance that calls: no condition key ties DetachInstances
 * to the caller's own instance, nor a container instance to the EC2 instance behind it; and patrol acts for others. So
 * these are limited to one group and one cluster. EC2's own calls can be: the id of a role's session on an instance,
 * aws:userid, ends in the instance's id.
 */

#include "agent/iam-policy.h"

#include <string.h>

#include "agent/commands.h"
#include "agent/local.h"

#define POLICY_TEXT_MAX ((size_t) 64 * 1024)
#define RESOURCE_MAX    4096 /* bytes of an ARN pattern */
#define ACCOUNT_DIGITS  12
#define IAM_OF_GROUP    (1u << IAM_DETACH | 1u << IAM_UNHEALTHY | 1u << IAM_STANDBY)

/* clang-format off */
const IamRow iam_table[] = {
        { "cloudwatch:PutMetricData",                    "PublishMetrics",         IAM_OBSERVE,     IAM_NAMESPACE },

        { "autoscaling:DescribeAutoScalingInstances",    "SeeGroups",              IAM_OBSERVE,     IAM_ANY },
        { "autoscaling:DescribeAutoScalingGroups",       "SeeGroups",              IAM_OBSERVE,     IAM_ANY },
        { "autoscaling:DescribeScalingActivities",       "SeeGroups",              IAM_OBSERVE,     IAM_ANY },
        { "autoscaling:DescribeInstanceRefreshes",       "SeeGroups",              IAM_OBSERVE,     IAM_ANY },

        { "ecs:DescribeClusters",                        "SeeCluster",             IAM_OBSERVE,     IAM_CLUSTER },
        { "ecs:ListContainerInstances",                  "SeeCluster",             IAM_OBSERVE,     IAM_CLUSTER },

        /* The attributes are how it tells its peers what it means to do; observing ones tell it too. */
        { "ecs:DescribeContainerInstances",              "SeeAndMarkInstances",    IAM_OBSERVE,     IAM_CONTAINER_INSTANCES },
        { "ecs:PutAttributes",                           "SeeAndMarkInstances",    IAM_OBSERVE,     IAM_CONTAINER_INSTANCES },
        { "ecs:DeleteAttributes",                        "SeeAndMarkInstances",    IAM_OBSERVE,     IAM_CONTAINER_INSTANCES },

        { "ecs:UpdateContainerInstancesState",           "DrainInstances",         IAM_DRAIN,       IAM_CONTAINER_INSTANCES },
        { "autoscaling:DetachInstances",                 "DetachInstances",        IAM_DETACH,      IAM_GROUP },
        { "autoscaling:SetInstanceHealth",               "DeclareUnhealthy",       IAM_UNHEALTHY,   IAM_GROUP },
        { "autoscaling:EnterStandby",                    "GoOnStandby",            IAM_STANDBY,     IAM_GROUP },

        { "ecs:DeregisterContainerInstance",             "OrphanLeavesCluster",    IAM_DEREGISTER,  IAM_CLUSTER },
        { "ec2:StopInstances",                           "OrphanStopsItself",      IAM_STOP,        IAM_OWN_INSTANCE },
        { "ec2:TerminateInstances",                      "OrphanTerminatesItself", IAM_TERMINATE,   IAM_OWN_INSTANCE },

        { "ec2:DescribeTags",                            "FindStackByTags",        IAM_STACK,       IAM_ANY },
        { "cloudformation:DescribeStackResource",        "ReadStackMetadata",      IAM_STACK,       IAM_CLOUDFORMATION },

        /* DescribeAlarms could be limited to the account's alarms, which are all that it lists anyway. */
        { "cloudwatch:DescribeAlarms",                   "DoctorChecksAlarms",     IAM_DOCTOR,      IAM_ANY },
        { "cloudwatch:ListMetrics",                      "DoctorChecksAlarms",     IAM_DOCTOR,      IAM_ANY },
};
/* clang-format on */
const size_t iam_table_n = ELEMENTSOF(iam_table);

/* Places */

int iam_escape(const char *name, char *buffer, size_t n_buffer) {
        size_t n = 0;

        for (; *name; name++) {
                bool special = *name == '*' || *name == '?' || *name == '$';

                if (n + (special ? 4 : 1) >= n_buffer)
                        return -E2BIG;
                if (special) {
                        buffer[n++] = '$';
                        buffer[n++] = '{';
                }
                buffer[n++] = *name;
                if (special)
                        buffer[n++] = '}';
        }
        buffer[n] = '\0';
        return 0;
}

/* Source: botocore data/partitions.json, August 2026. */
const char *iam_partition(const char *region) {
        static const struct {
                const char *prefix, *partition;
        } partitions[] = {
                { "cn-", "aws-cn" },
                { "us-gov-", "aws-us-gov" },
                { "eusc-", "aws-eusc" },
                { "us-iso-", "aws-iso" },
                { "us-isob-", "aws-iso-b" },
                { "eu-isoe-", "aws-iso-e" },
                { "us-isof-", "aws-iso-f" },
        };

        for (size_t i = 0; i < ELEMENTSOF(partitions); i++)
                if (strncmp(region, partitions[i].prefix, strlen(partitions[i].prefix)) == 0)
                        return partitions[i].partition;
        return "aws";
}

static bool consists_of(const char *text, size_t n, const char *letters) {
        for (size_t i = 0; i < n; i++)
                if (!strchr(letters, text[i]))
                        return false;
        return n > 0;
}

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static bool is_partition(const char *text, size_t n) {
        return consists_of(text, n, LOWER "-") && strncmp(text, "aws", 3) == 0;
}

static bool is_any(const char *text, size_t n) {
        return n == 1 && *text == '*';
}

static bool is_region(const char *text, size_t n) {
        return is_any(text, n) || consists_of(text, n, LOWER DIGITS "-");
}

static bool is_account(const char *text, size_t n) {
        return is_any(text, n) || (consists_of(text, n, DIGITS) && n == ACCOUNT_DIGITS);
}

static void take_part(char *buffer, size_t n_buffer, const char *part, size_t n) {
        if (!*buffer && n < n_buffer)
                (void) snprintf(buffer, n_buffer, "%.*s", (int) n, part);
}

/* arn:PARTITION:ecs:REGION:ACCOUNT:container-instance/CLUSTER/ID, or any other that has all of the first five */
int iam_take_arn(IamPlace *place, const char *arn) {
        const char *at[6];
        size_t n[6];

        for (unsigned i = 0; i < ELEMENTSOF(at); i++) {
                at[i] = arn;
                n[i] = i + 1 < ELEMENTSOF(at) ? strcspn(arn, ":") : strlen(arn);
                arn += n[i] + (arn[n[i]] == ':');
        }
        if (n[0] != 3 || strncmp(at[0], "arn", 3) != 0 || !is_partition(at[1], n[1]) ||
                !is_region(at[3], n[3]) || !is_account(at[4], n[4]) || n[5] == 0)
                return -EBADMSG;
        take_part(place->partition, sizeof(place->partition), at[1], n[1]);
        take_part(place->region, sizeof(place->region), at[3], n[3]);
        take_part(place->account, sizeof(place->account), at[4], n[4]);
        return 0;
}

/* The document */

static const char *or_any(const char *text) {
        return *text ? text : "*";
}

/* A partition cannot be left open: not every version of IAM's grammar takes a wildcard there. */
static void arn_write(const IamPlace *place, const char *service, const char *kind, const char *name,
        const char *below, char buffer[static RESOURCE_MAX]) {
        (void) snprintf(buffer, RESOURCE_MAX, "arn:%s:%s:%s:%s:%s%s%s",
                *place->partition ? place->partition : iam_partition(place->region), service,
                or_any(place->region), or_any(place->account), kind, or_any(name), below);
}

static void resource_write(const IamPlace *place, IamScope scope, JsonWriter *w) {
        char arn[RESOURCE_MAX] = "*";

        switch (scope) {
        case IAM_ANY:
        case IAM_NAMESPACE: break;
        case IAM_CLUSTER: arn_write(place, "ecs", "cluster/", place->cluster, "", arn); break;
        case IAM_CONTAINER_INSTANCES:
                /* Older ones have no cluster in their ARN: that is left to the condition. */
                arn_write(place, "ecs", "container-instance/", "*", "", arn);
                break;
        case IAM_GROUP:
                /* Between the two stands a number that only Auto Scaling knows. */
                arn_write(place, "autoscaling", "autoScalingGroup:*:autoScalingGroupName/", place->group, "",
                        arn);
                break;
        case IAM_OWN_INSTANCE: arn_write(place, "ec2", "instance/", "*", "", arn); break;
        case IAM_CLOUDFORMATION:
                arn_write(place, "cloudformation", "stack/", place->stack, *place->stack ? "/*" : "", arn);
                break;
        }
        json_string(w, "Resource", arn);
}

static void condition_put(JsonWriter *w, const char *operator, const char * key, const char *value) {
        json_begin_object(w, "Condition");
        json_begin_object(w, operator);
        json_string(w, key, value);
        json_end_object(w);
        json_end_object(w);
}

static void condition_write(const IamPlace *place, IamScope scope, JsonWriter *w) {
        char arn[RESOURCE_MAX];

        if (scope == IAM_NAMESPACE) {
                condition_put(w, "StringEquals", "cloudwatch:namespace", place->name_space);
        } else if (scope == IAM_OWN_INSTANCE) {
                condition_put(w, "StringLike", "aws:userid", "*:${ec2:InstanceID}");
        } else if (scope == IAM_CONTAINER_INSTANCES && *place->cluster &&
                   !is_any(place->cluster, strlen(place->cluster))) {
                arn_write(place, "ecs", "cluster/", place->cluster, "", arn);
                condition_put(w, "ArnLike", "ecs:cluster", arn);
        }
}

/* Return: how many rows the statement has. */
static size_t statement_write(const IamPlace *place, const IamRow *row, size_t n_rows, JsonWriter *w) {
        size_t n = 1;

        while (n < n_rows && strcmp(row[n].sid, row->sid) == 0)
                n++;
        json_begin_object(w, NULL);
        json_string(w, "Sid", row->sid);
        json_string(w, "Effect", "Allow");
        if (n > 1) {
                json_begin_array(w, "Action");
                for (size_t i = 0; i < n; i++)
                        json_string(w, NULL, row[i].action);
                json_end_array(w);
        } else {
                json_string(w, "Action", row->action);
        }
        resource_write(place, row->scope, w);
        condition_write(place, row->scope, w);
        json_end_object(w);
        return n;
}

unsigned iam_needs(const Policy *policy) {
        unsigned needs = 1u << IAM_OBSERVE;
        bool detach = policy->action == ACTION_DETACH, unhealthy = policy->action == ACTION_UNHEALTHY;

        if (policy->action == ACTION_OBSERVE)
                return needs;
        needs |= 1u << IAM_DRAIN;
        needs |= 1u << (detach ? IAM_DETACH : unhealthy ? IAM_UNHEALTHY : IAM_STANDBY);
        if ((detach || unhealthy) && policy->orphan_deregister)
                needs |= 1u << IAM_DEREGISTER;
        if (detach && policy->orphan == ORPHAN_STOP)
                needs |= 1u << IAM_STOP;
        /* One that cannot be stopped is terminated. */
        if (detach && policy->orphan != ORPHAN_KEEP)
                needs |= 1u << IAM_TERMINATE;
        return needs;
}

void iam_policy_write(const IamPlace *place, unsigned needs, JsonWriter *writer) {
        json_begin_object(writer, NULL);
        json_string(writer, "Version", "2012-10-17"); /* of the policy language */
        json_begin_array(writer, "Statement");
        for (size_t i = 0; i < iam_table_n;)
                if (needs & (1u << iam_table[i].need))
                        i += statement_write(place, &iam_table[i], iam_table_n - i, writer);
                else
                        i++;
        json_end_array(writer);
        json_end_object(writer);
}

/* The command */

static int help_iam_policy(void) {
        command_print_usage("iam-policy", stdout);
        fputs("Prints the policy that the instance's role needs for the settings of this host, and not "
              "more: to "
              "observe, and,\n"
              "unless \"action\" is \"observe\", to drain, to do what it says, and to end the orphan as "
              "\"orphan\" says. It\n"
              "comes beside what the ECS agent needs itself. Where the daemon runs, cluster, group, region "
              "and account are its\n"
              "own; what is neither known nor given is left open (\"*\").\n\n"
              "Options:\n"
              "  --act             include what acting needs even if \"action\" is \"observe\": as if it "
              "were "
              "\"detach\"\n"
              "  --observe         leave it out, whatever the settings say\n"
              "  --cloudformation  also to read the settings in a stack's metadata by the role: needed "
              "where the "
              "instance's\n"
              "                    tags are not in its metadata service, or its own identity is refused\n"
              "  --doctor          also to let " PROGRAM " doctor look for alarms that match nothing\n"
              "  --cluster NAME    limit it to this ECS cluster (short name or ARN); \"*\" and \"?\" fit "
              "anything, as "
              "below\n"
              "  --group NAME      to this Auto Scaling group\n"
              "  --stack NAME      to this stack, with --cloudformation\n"
              "  --region NAME     to this region\n"
              "  --account ID      to this account\n"
              "  --partition NAME  of AWS: \"aws\", \"aws-cn\", \"aws-us-gov\", ...; without it the "
              "region's\n\n"
              "Example:\n"
              "  " PROGRAM
              " iam-policy --act --cluster prod --group prod-nodes --region eu-west-1 > policy.json\n"
              "  aws iam put-role-policy --role-name prod-nodes --policy-name " PROGRAM " \\\n"
              "      --policy-document file://policy.json\n\n"
              "IAM has no condition that ties the calls to ECS and Auto Scaling to the instance that makes "
              "them: who has this\n"
              "role can drain, detach and deregister any instance of the group. Keep containers away from "
              "it: hop limit 1,\n"
              "ECS_AWSVPC_BLOCK_IMDS=true. To stop or terminate, EC2 lets a role's session on an instance "
              "touch that instance\n"
              "alone: the condition compares the session's name, which is the instance's id. With keys from "
              "the environment\n"
              "instead of the instance's role it would never be met.\n",
                stdout);
        return EXIT_FINE;
}

typedef struct IamWish {
        bool act, observe, stack, doctor;
        IamPlace place;
} IamWish;

static int refuse(const char *option, const char *value, const char *expected) {
        return command_usage_error("iam-policy", "%s \"%s\": expected %s", option, value, expected);
}

static int take_name(char *buffer, size_t n_buffer, const char *option, const char *value) {
        for (const char *c = value; *c; c++)
                if ((unsigned char) *c < 0x20 || *c == 0x7f || *c == ':')
                        return refuse(option, value, "a name without colons");
        if (!*value || strlen(value) >= 256)
                return refuse(option, value, "a name of 1 to 255 bytes");
        (void) snprintf(buffer, n_buffer, "%s", value);
        return EXIT_FINE;
}

static int take_cluster(IamPlace *place, const char *value) {
        const char *name = value, *kind = strstr(value, ":cluster/");

        if (strncmp(value, "arn:", 4) == 0) {
                if (!kind || iam_take_arn(place, value) < 0)
                        return refuse("--cluster", value,
                                "arn:PARTITION:ecs:REGION:ACCOUNT:cluster/NAME or a name");
                name = kind + strlen(":cluster/");
        }
        /* Source: ECS CreateCluster, clusterName. */
        if (!consists_of(name, strlen(name), LOWER UPPER DIGITS "-_*?"))
                return refuse("--cluster", value, "letters, digits, hyphens and underscores, or an ARN");
        return take_name(place->cluster, sizeof(place->cluster), "--cluster", name);
}

static int take_checked(char *buffer, size_t n_buffer, const char *option, const char *value,
        bool (*fits)(const char *text, size_t n), const char *expected) {
        if (!fits(value, strlen(value)) || strlen(value) >= n_buffer)
                return refuse(option, value, expected);
        (void) snprintf(buffer, n_buffer, "%s", value);
        return EXIT_FINE;
}

static int take_option(IamWish *wish, int c) {
        IamPlace *place = &wish->place;

        switch (c) {
        case 'a': wish->act = true; return EXIT_FINE;
        case 'o': wish->observe = true; return EXIT_FINE;
        case 's': wish->stack = true; return EXIT_FINE;
        case 'd': wish->doctor = true; return EXIT_FINE;
        case 'c': return take_cluster(place, optarg);
        case 'g': return take_name(place->group, sizeof(place->group), "--group", optarg);
        case 'S': return take_name(place->stack, sizeof(place->stack), "--stack", optarg);
        case 'r':
                return take_checked(place->region, sizeof(place->region), "--region", optarg, is_region,
                        "a region such as eu-west-1");
        case 'i':
                return take_checked(place->account, sizeof(place->account), "--account", optarg, is_account,
                        "an account's 12 digits");
        default:
                return take_checked(place->partition, sizeof(place->partition), "--partition", optarg,
                        is_partition, "aws, aws-cn, aws-us-gov or the like");
        }
}

/* What was not given comes from this host, as far as that is known. Names that it gives are no patterns. */
static void place_complete(IamPlace *place, const Local *local) {
        const char *region = getenv("AWS_REGION");

        place->name_space = local->settings.name_space;
        /* The group of this host says nothing of another cluster's. */
        if (!*place->group && !*place->cluster)
                (void) iam_escape(local->group, place->group, sizeof(place->group));
        if (!*place->cluster)
                (void) iam_escape(local->cluster, place->cluster, sizeof(place->cluster));
        if (!*place->stack)
                (void) iam_escape(local->stack, place->stack, sizeof(place->stack));
        if (*place->region && !*place->partition)
                (void) snprintf(
                        place->partition, sizeof(place->partition), "%s", iam_partition(place->region));
        (void) iam_take_arn(place, local->arn);
        if (!*place->region && region && is_region(region, strlen(region)) &&
                strlen(region) < sizeof(place->region))
                (void) snprintf(place->region, sizeof(place->region), "%s", region);
}

/* On standard error, for the document goes into a file. */
static void say_what_is_open(const IamPlace *place, unsigned needs) {
        const struct {
                const char *text, *option;
                bool matters;
        } parts[] = {
                { place->cluster, "--cluster", true },
                { place->group, "--group", needs & IAM_OF_GROUP },
                { place->stack, "--stack", needs & (1u << IAM_STACK) },
                { place->region, "--region", true },
                { place->account, "--account", true },
        };
        bool any = false;

        for (size_t i = 0; i < ELEMENTSOF(parts); i++)
                if (parts[i].matters && !*parts[i].text) {
                        fprintf(stderr, "%s%s",
                                any ? ", " : "Not known here and left open; to narrow it, give ",
                                parts[i].option);
                        any = true;
                }
        if (any)
                fprintf(stderr, ".\n");
}

/* JSON without blanks, as the writer makes it, for people: four columns a level. */
static void print_indented(const char *text, FILE *f) {
        bool quoted = false;
        int depth = 0;

        for (const char *c = text; *c; c++) {
                bool opens = !quoted && (*c == '{' || *c == '['),
                     closes = !quoted && (*c == '}' || *c == ']');

                if (*c == '"')
                        quoted = !quoted;
                depth += opens - closes;
                if (closes)
                        fprintf(f, "\n%*s", depth * 4, "");
                fprintf(f, !quoted && *c == ':' ? "%c " : "%c", *c);
                if (quoted && *c == '\\' && c[1])
                        (void) fputc(*++c, f);
                if (opens || (!quoted && *c == ','))
                        fprintf(f, "\n%*s", depth * 4, "");
        }
        (void) fputc('\n', f);
}

static int print_policy(const IamPlace *place, unsigned needs) {
        _cleanup_(json_writer_done) JsonWriter writer = {};

        json_writer_init(&writer, POLICY_TEXT_MAX);
        iam_policy_write(place, needs, &writer);
        if (writer.error < 0)
                return command_error("The policy could not be written: %s", strerror(-writer.error));
        print_indented(writer.text, stdout);
        say_what_is_open(place, needs);
        return EXIT_FINE;
}

int command_iam_policy(int argc, char **argv) {
        static const struct option options[] = { { "act", no_argument, NULL, 'a' },
                { "observe", no_argument, NULL, 'o' }, { "cloudformation", no_argument, NULL, 's' },
                { "doctor", no_argument, NULL, 'd' }, { "cluster", required_argument, NULL, 'c' },
                { "group", required_argument, NULL, 'g' }, { "stack", required_argument, NULL, 'S' },
                { "region", required_argument, NULL, 'r' }, { "account", required_argument, NULL, 'i' },
                { "partition", required_argument, NULL, 'p' }, { "help", no_argument, NULL, 'h' }, {} };
        static Local local; /* too large for comfort on a stack */
        IamWish wish = {};
        unsigned needs;
        int c, r;

        while ((c = command_option_next(argc, argv, options)) >= 0) {
                if (c == 'h')
                        return help_iam_policy();
                if (c == ':' || c == '?')
                        return command_option_error("iam-policy", argv, c);
                r = take_option(&wish, c);
                if (r != EXIT_FINE)
                        return r;
        }
        if (optind < argc)
                return command_usage_error("iam-policy", "unexpected argument \"%s\"", argv[optind]);
        if (wish.act && wish.observe)
                return command_usage_error("iam-policy", "--act and --observe exclude each other");
        if (*wish.place.stack && !wish.stack)
                return command_usage_error("iam-policy", "--stack is for --cloudformation");
        r = local_read(&local);
        if (r != EXIT_FINE)
                return r;

        place_complete(&wish.place, &local);
        if (wish.observe)
                local.settings.policy.action = ACTION_OBSERVE;
        else if (wish.act && local.settings.policy.action == ACTION_OBSERVE)
                local.settings.policy.action = ACTION_DETACH;
        needs = iam_needs(&local.settings.policy) | (wish.stack ? 1u << IAM_STACK : 0) |
                (wish.doctor ? 1u << IAM_DOCTOR : 0);
        return print_policy(&wish.place, needs);
}
