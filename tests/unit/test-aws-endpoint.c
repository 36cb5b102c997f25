/* SPDX-License-Identifier: Apache-2.0 */

/* Endpoints by service, region, partition and environment. */

#include "common/aws-endpoint.h"

#include <errno.h>

#include "common/cleanup.h"
#include "tests/unit/test.h"

static const char *const variables[] = { "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECS", "AWS_ENDPOINT_URL_EC2",
        "AWS_ENDPOINT_URL_CLOUDWATCH", "AWS_ENDPOINT_URL_AUTO_SCALING",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT" };

static void clear_environment(void) {
        for (size_t i = 0; i < ELEMENTSOF(variables); i++)
                unsetenv(variables[i]);
}

/* @expected NULL: the negative errno @r */
static void expect_endpoint(
        AwsService service, const char *region, const char *domain, int r, const char *expected) {
        char url[AWS_URL_MAX] = "untouched";

        EXPECT_EQ(aws_endpoint(service, region, domain, url), r);
        EXPECT_STR(url, expected ? expected : "untouched");
}

static void test_services_have_their_names(void) {
        for (unsigned i = 0; i < AWS_SERVICE_N; i++) {
                const AwsServiceInfo *info = aws_service_info((AwsService) i);

                EXPECT(info->id && info->host_prefix && info->signing_name && info->iam_prefix &&
                        info->api_version);
                EXPECT(!info->target_prefix == !info->json_version);
        }
        EXPECT_STR(aws_service_info(AWS_CLOUDWATCH)->host_prefix, "monitoring");
        EXPECT_STR(aws_service_info(AWS_CLOUDWATCH)->iam_prefix, "cloudwatch");
        EXPECT_STR(aws_service_info(AWS_ECS)->target_prefix, "AmazonEC2ContainerServiceV20141113");
        EXPECT(!aws_service_info(AWS_AUTO_SCALING)->target_prefix);
}

static void test_region_decides_the_partition(void) {
        static const struct {
                const char *region, *url;
        } cases[] = {
                { "us-east-1", "https://ecs.us-east-1.amazonaws.com" },
                { "ap-southeast-7", "https://ecs.ap-southeast-7.amazonaws.com" },
                { "mx-central-1", "https://ecs.mx-central-1.amazonaws.com" },
                { "cn-north-1", "https://ecs.cn-north-1.amazonaws.com.cn" },
                { "us-gov-west-1", "https://ecs.us-gov-west-1.amazonaws.com" },
                { "eusc-de-east-1", "https://ecs.eusc-de-east-1.amazonaws.eu" },
                { "us-iso-east-1", "https://ecs.us-iso-east-1.c2s.ic.gov" },
                { "us-isob-east-1", "https://ecs.us-isob-east-1.sc2s.sgov.gov" },
                { "eu-isoe-west-1", "https://ecs.eu-isoe-west-1.cloud.adc-e.uk" },
                { "us-isof-south-1", "https://ecs.us-isof-south-1.csp.hci.ic.gov" },
        };

        clear_environment();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                expect_endpoint(AWS_ECS, cases[i].region, NULL, 0, cases[i].url);
        expect_endpoint(AWS_CLOUDWATCH, "eu-west-1", "ignored.example", 0,
                "https://monitoring.eu-west-1.amazonaws.com");
        expect_endpoint(
                AWS_AUTO_SCALING, "eu-west-1", NULL, 0, "https://autoscaling.eu-west-1.amazonaws.com");
        expect_endpoint(AWS_EC2, "eu-west-1", NULL, 0, "https://ec2.eu-west-1.amazonaws.com");
}

static void test_unknown_region_needs_a_domain(void) {
        clear_environment();
        expect_endpoint(AWS_ECS, "xx-north-1", NULL, -ENXIO, NULL);
        expect_endpoint(AWS_ECS, "eusc-fr-west-1", NULL, -ENXIO, NULL);
        expect_endpoint(AWS_ECS, "us-east", NULL, -ENXIO, NULL);
        expect_endpoint(AWS_ECS, "xx-north-1", "amazonaws.com", 0, "https://ecs.xx-north-1.amazonaws.com");
        expect_endpoint(AWS_ECS, "xx-north-1", "aws.example", 0, "https://ecs.xx-north-1.aws.example");
        expect_endpoint(AWS_ECS, "xx-north-1", "aws.example/x", -EINVAL, NULL);
        expect_endpoint(AWS_ECS, "xx-north-1", "aws.example\r\nX: y", -EINVAL, NULL);
        expect_endpoint(AWS_ECS, "xx-north-1", "", -EINVAL, NULL);
        expect_endpoint(AWS_ECS, "xx-north-1", ".example", -EINVAL, NULL);
}

static void test_what_is_no_region_is_refused(void) {
        static const char *const cases[] = { "", "-", "us-east-1.evil.example", "us-east-1/", "us east-1",
                "US-EAST-1", "us-east-1-", "us_east_1", "us-east-1@x", "us-east-1#", "us-east-1\n",
                "us-east-1111111111111111111111111111111111111111111111111111111111" };

        clear_environment();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                expect_endpoint(AWS_ECS, cases[i], "amazonaws.com", -EINVAL, NULL);
}

static void test_own_override_wins_over_the_general_one(void) {
        clear_environment();
        setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566/", 1);
        setenv("AWS_ENDPOINT_URL_AUTO_SCALING", "https://[::1]:5000/base//", 1);
        setenv("AWS_ENDPOINT_URL_EC2", "", 1);
        expect_endpoint(AWS_AUTO_SCALING, "eu-west-1", NULL, 0, "https://[::1]:5000/base");
        expect_endpoint(AWS_ECS, "eu-west-1", NULL, 0, "http://127.0.0.1:4566");
        expect_endpoint(AWS_EC2, "nowhere", NULL, 0, "http://127.0.0.1:4566");
        expect_endpoint(AWS_ECS, "no where", NULL, -EINVAL, NULL);
        setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "True", 1);
        expect_endpoint(AWS_ECS, "eu-west-1", NULL, 0, "https://ecs.eu-west-1.amazonaws.com");
        setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "no", 1);
        expect_endpoint(AWS_ECS, "eu-west-1", NULL, 0, "http://127.0.0.1:4566");
        clear_environment();
}

static void test_override_that_is_no_url_is_refused(void) {
        static const char *const cases[] = { "127.0.0.1:80", "ftp://host", "http://", "http:///",
                "https:///path", "http://:80", "http://user:word@host", "http://host?x", "http://host#x",
                "http://ho st", "http://host\r\nX: y", "HTTP//host", "http://h\xc3\xa9" };
        char large[AWS_URL_MAX + 1] = "http://";

        clear_environment();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                setenv("AWS_ENDPOINT_URL_ECS", cases[i], 1);
                expect_endpoint(AWS_ECS, "eu-west-1", NULL, -EINVAL, NULL);
        }
        memset(large + 7, 'a', AWS_URL_MAX - 7);
        setenv("AWS_ENDPOINT_URL_ECS", large, 1);
        expect_endpoint(AWS_ECS, "eu-west-1", NULL, -EINVAL, NULL);
        large[AWS_URL_MAX - 1] = '\0';
        setenv("AWS_ENDPOINT_URL_ECS", large, 1);
        expect_endpoint(AWS_ECS, "eu-west-1", NULL, 0, large);
        clear_environment();
}

static void test_fips_and_dual_stack_change_the_host(void) {
        clear_environment();
        setenv("AWS_USE_FIPS_ENDPOINT", "true", 1);
        expect_endpoint(AWS_ECS, "us-east-1", NULL, 0, "https://ecs-fips.us-east-1.amazonaws.com");
        expect_endpoint(AWS_ECS, "us-gov-west-1", NULL, 0, "https://ecs-fips.us-gov-west-1.amazonaws.com");
        expect_endpoint(
                AWS_CLOUDWATCH, "us-gov-west-1", NULL, 0, "https://monitoring.us-gov-west-1.amazonaws.com");
        setenv("AWS_USE_DUALSTACK_ENDPOINT", "true", 1);
        expect_endpoint(
                AWS_CLOUDWATCH, "us-gov-west-1", NULL, 0, "https://monitoring-fips.us-gov-west-1.api.aws");
        setenv("AWS_USE_FIPS_ENDPOINT", "false", 1);
        expect_endpoint(AWS_EC2, "us-east-1", NULL, 0, "https://ec2.us-east-1.api.aws");
        expect_endpoint(
                AWS_EC2, "cn-north-1", NULL, 0, "https://ec2.cn-north-1.api.amazonwebservices.com.cn");
        expect_endpoint(AWS_EC2, "xx-north-1", "amazonaws.com", 0, "https://ec2.xx-north-1.api.aws");
        expect_endpoint(AWS_EC2, "xx-north-1", "aws.example", -ENXIO, NULL);
        setenv("AWS_USE_DUALSTACK_ENDPOINT", "1", 1); /* the SDKs take "true" only */
        expect_endpoint(AWS_EC2, "us-east-1", NULL, 0, "https://ec2.us-east-1.amazonaws.com");
        clear_environment();
}

TEST_MAIN(TEST(test_services_have_their_names), TEST(test_region_decides_the_partition),
        TEST(test_unknown_region_needs_a_domain), TEST(test_what_is_no_region_is_refused),
        TEST(test_own_override_wins_over_the_general_one), TEST(test_override_that_is_no_url_is_refused),
        TEST(test_fips_and_dual_stack_change_the_host))
