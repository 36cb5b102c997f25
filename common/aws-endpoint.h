/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where a service of a region is, and what it is called on the wire. Source: botocore endpoints and service models. */

#include <stdbool.h>
#include <stddef.h>

typedef enum AwsService {
        AWS_CLOUDWATCH,
        AWS_AUTO_SCALING,
        AWS_ECS,
        AWS_EC2,
        AWS_CLOUDFORMATION,
} AwsService;
#define AWS_SERVICE_N (AWS_CLOUDFORMATION + 1)

typedef struct AwsServiceInfo {
        const char *id;            /* as in AWS_ENDPOINT_URL_<ID>: "AUTO_SCALING" */
        const char *host_prefix;   /* "monitoring" */
        const char *signing_name;  /* "monitoring" */
        const char *iam_prefix;    /* "cloudwatch" */
        const char *api_version;   /* query services: "2011-01-01" */
        const char *target_prefix; /* JSON services: "AmazonEC2ContainerServiceV20141113"; NULL: query */
        const char *json_version;  /* "1.0" or "1.1" */
} AwsServiceInfo;

const AwsServiceInfo *aws_service_info(AwsService service);

#define AWS_URL_MAX 512

/**
 * aws_endpoint() - base URL of a service, without a trailing slash
 * @region: e.g. "eu-west-1"
 * @domain: services/domain of the metadata service, for regions that we do not know; NULL or "": unknown
 *
 * The environment comes first: AWS_ENDPOINT_URL_<ID>, AWS_ENDPOINT_URL (unless AWS_IGNORE_CONFIGURED_ENDPOINT_URLS),
 * AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT.
 * Return: 0; -EINVAL for a region that is no region or an override that is no URL; -ENXIO for a region of no known
 * partition when @domain is not known, or whose dual-stack domain is not.
 */
int aws_endpoint(AwsService service, const char *region, const char *domain, char ret[static AWS_URL_MAX]);

/** aws_endpoint_problem() - in words, why aws_endpoint() returned @error: the variable and its value, or the region */
void aws_endpoint_problem(AwsService service, const char *region, int error, char ret[static AWS_URL_MAX]);
