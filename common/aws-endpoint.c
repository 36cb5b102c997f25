/* SPDX-License-Identifier: Apache-2.0 */

/* Endpoints: the user's override, else the host name that follows from service, region and partition. */

#include "common/aws-endpoint.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"

/* clang-format off */
static const AwsServiceInfo services[AWS_SERVICE_N] = {
        [AWS_CLOUDWATCH]   = { "CLOUDWATCH", "monitoring", "monitoring", "cloudwatch", "2010-08-01",
                               "GraniteServiceVersion20100801", "1.0" },
        [AWS_AUTO_SCALING] = { "AUTO_SCALING", "autoscaling", "autoscaling", "autoscaling", "2011-01-01",
                               NULL, NULL },
        [AWS_ECS]          = { "ECS", "ecs", "ecs", "ecs", "2014-11-13",
                               "AmazonEC2ContainerServiceV20141113", "1.1" },
        [AWS_EC2]          = { "EC2", "ec2", "ec2", "ec2", "2016-11-15", NULL, NULL },
        [AWS_CLOUDFORMATION] = { "CLOUDFORMATION", "cloudformation", "cloudformation", "cloudformation", "2010-05-15",
                               NULL, NULL },
};

typedef struct Partition {
        const char *prefix; /* of the region's name; a word and a number follow */
        const char *domain, *dual_stack;
} Partition;

/* Source: botocore data/partitions.json, August 2026. */
static const Partition partitions[] = {
        { "us-",      "amazonaws.com",    "api.aws" },
        { "eu-",      "amazonaws.com",    "api.aws" },
        { "ap-",      "amazonaws.com",    "api.aws" },
        { "sa-",      "amazonaws.com",    "api.aws" },
        { "ca-",      "amazonaws.com",    "api.aws" },
        { "me-",      "amazonaws.com",    "api.aws" },
        { "af-",      "amazonaws.com",    "api.aws" },
        { "il-",      "amazonaws.com",    "api.aws" },
        { "mx-",      "amazonaws.com",    "api.aws" },
        { "us-gov-",  "amazonaws.com",    "api.aws" },
        { "cn-",      "amazonaws.com.cn", "api.amazonwebservices.com.cn" },
        { "eusc-de-", "amazonaws.eu",     "api.amazonwebservices.eu" },
        { "us-iso-",  "c2s.ic.gov",       "api.aws.ic.gov" },
        { "us-isob-", "sc2s.sgov.gov",    "api.aws.scloud" },
        { "eu-isoe-", "cloud.adc-e.uk",   "api.cloud-aws.adc-e.uk" },
        { "us-isof-", "csp.hci.ic.gov",   "api.aws.hci.ic.gov" },
};
/* clang-format on */

const AwsServiceInfo *aws_service_info(AwsService service) {
        return &services[service];
}

/* "central-1" */
static bool is_word_and_number(const char *text) {
        const size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789");

        if (n == 0 || text[n] != '-')
                return false;
        text += n + 1;
        return *text && strspn(text, "0123456789") == strlen(text);
}

static const Partition *partition_find(const char *region) {
        for (size_t i = 0; i < ELEMENTSOF(partitions); i++) {
                const size_t n = strlen(partitions[i].prefix);

                if (strncmp(region, partitions[i].prefix, n) == 0 && is_word_and_number(region + n))
                        return &partitions[i];
        }
        return NULL;
}

static const Partition *partition_of_domain(const char *domain) {
        for (size_t i = 0; i < ELEMENTSOF(partitions); i++)
                if (strcmp(domain, partitions[i].domain) == 0)
                        return &partitions[i];
        return NULL;
}

/* Both come from outside and become part of a host name: nothing may get in that ends one. */
static bool is_host_part(const char *text, const char *more, size_t max) {
        const size_t n = strlen(text);

        if (n == 0 || n > max || !isalnum((unsigned char) text[0]) || !isalnum((unsigned char) text[n - 1]))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789", text[i]) && !strchr(more, text[i]))
                        return false;
        return true;
}

static const char *environment(const char *name) {
        const char *value = getenv(name);

        return value && *value ? value : NULL;
}

/* Only "true" counts, as in the SDKs. */
static bool environment_says(const char *name) {
        const char *value = environment(name);

        return value && strcasecmp(value, "true") == 0;
}

#define VARIABLE_MAX 64

/* @name: of the variable that says so */
static const char *find_override(AwsService service, char name[static VARIABLE_MAX]) {
        if (environment_says("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"))
                return NULL;
        (void) snprintf(name, VARIABLE_MAX, "AWS_ENDPOINT_URL_%s", services[service].id);
        if (!environment(name))
                (void) snprintf(name, VARIABLE_MAX, "AWS_ENDPOINT_URL");
        return environment(name);
}

static int take_override(const char *url, char ret[static AWS_URL_MAX]) {
        size_t n = strlen(url), scheme;

        if (strncmp(url, "https://", 8) == 0)
                scheme = 8;
        else if (strncmp(url, "http://", 7) == 0)
                scheme = 7;
        else
                return -EINVAL;
        while (n > scheme && url[n - 1] == '/')
                n--;
        if (n == scheme || n >= AWS_URL_MAX || url[scheme] == '/' || url[scheme] == ':')
                return -EINVAL;
        for (size_t i = 0; i < n; i++) /* no user name, no query, nothing that must not stand in a header */
                if (url[i] <= 0x20 || url[i] >= 0x7f || strchr("@?#\\\"<>", url[i]))
                        return -EINVAL;

        memcpy(ret, url, n);
        ret[n] = '\0';
        return 0;
}

int aws_endpoint(AwsService service, const char *region, const char *domain, char ret[static AWS_URL_MAX]) {
        const bool dual_stack = environment_says("AWS_USE_DUALSTACK_ENDPOINT");
        char name[VARIABLE_MAX];
        const char *override = find_override(service, name), *suffix;
        bool fips = environment_says("AWS_USE_FIPS_ENDPOINT");
        const Partition *partition;

        if (!is_host_part(region, "-", 63))
                return -EINVAL;
        if (override)
                return take_override(override, ret);

        partition = partition_find(region);
        if (!partition && (!domain || *domain == '\0'))
                return -ENXIO;
        if (!partition && !is_host_part(domain, "-.", 128))
                return -EINVAL;
        suffix = partition ? partition->domain : domain;
        if (dual_stack) {
                partition = partition ? partition : partition_of_domain(domain);
                if (!partition)
                        return -ENXIO;
                suffix = partition->dual_stack;
        }
        /*
         * GovCloud's plain hosts are FIPS hosts already; only ECS has one of its own. With both stacks, CloudWatch alone
         * stays plain. Source: botocore's endpoint rule sets.
         */
        if (fips && strncmp(region, "us-gov-", 7) == 0 && service != AWS_ECS &&
                (!dual_stack || service == AWS_CLOUDWATCH))
                fips = false;
        snprintf(ret, AWS_URL_MAX, "https://%s%s.%s.%s", services[service].host_prefix, fips ? "-fips" : "",
                region, suffix);
        return 0;
}

void aws_endpoint_problem(AwsService service, const char *region, int error, char ret[static AWS_URL_MAX]) {
        char name[VARIABLE_MAX];
        const char *override = find_override(service, name);

        if (override && error == -EINVAL && is_host_part(region, "-", 63))
                (void) snprintf(ret, AWS_URL_MAX,
                        "%s is \"%.200s\", which is not http:// or https:// and a host", name,
                        strchr(override, '@') ? "***" : override); /* before an @ there may be a password */
        else if (error == -ENXIO)
                (void) snprintf(ret, AWS_URL_MAX,
                        "no %shost name is known for region \"%s\"; set AWS_ENDPOINT_URL_%s",
                        environment_says("AWS_USE_DUALSTACK_ENDPOINT") ? "dual-stack " : "", region,
                        services[service].id);
        else
                (void) snprintf(ret, AWS_URL_MAX, "\"%.63s\" is no region", region);
}
