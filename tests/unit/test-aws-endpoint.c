/* SPDX-License-Identifier: Apache-2.0 */

/* Endpoints by service, region, partition and environment. */

#include "common/aws-endpoint.h"

#include <errno.h>

#include "common/cleanup.h"
#include "tests/unit/test.h"

static const char *const variables[] = { "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECS", "AWS_ENDPOINT_URL_EC2",
        "AWS_ENDPOINT_URL_CLOUDWATCH", "AWS_ENDPOINT_URL_CLOUDFORMATION", "AWS_ENDPOINT_URL_AUTO_SCALING",
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
        EXPECT_STR(aws_service_info(AWS_CLOUDFORMATION)->id, "CLOUDFORMATION");
        EXPECT_STR(aws_service_info(AWS_CLOUDFORMATION)->api_version, "2010-05-15");
        EXPECT(!aws_service_info(AWS_CLOUDFORMATION)->target_prefix);
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
        expect_endpoint(AWS_ECS, "xx-north-1", "", -ENXIO, NULL);
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
        setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", "https://vpce-1.example", 1);
        expect_endpoint(AWS_CLOUDFORMATION, "eu-west-1", NULL, 0, "https://vpce-1.example");
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

static void set_variants(bool fips, bool dual_stack) {
        setenv("AWS_USE_FIPS_ENDPOINT", fips ? "true" : "false", 1);
        setenv("AWS_USE_DUALSTACK_ENDPOINT", dual_stack ? "true" : "false", 1);
}

/* What botocore's endpoint rule sets (1.44.5) say of the same questions. */
static void test_fips_and_dual_stack_change_the_host(void) {
        static const struct {
                AwsService service;
                const char *region;
                bool fips, dual_stack;
                const char *url;
        } cases[] = {
                { AWS_CLOUDWATCH, "eu-west-1", true, true, "https://monitoring-fips.eu-west-1.api.aws" },
                { AWS_CLOUDWATCH, "us-gov-west-1", true, false,
                        "https://monitoring.us-gov-west-1.amazonaws.com" },
                { AWS_CLOUDWATCH, "us-gov-west-1", true, true, "https://monitoring.us-gov-west-1.api.aws" },
                { AWS_CLOUDWATCH, "eusc-de-east-1", false, true,
                        "https://monitoring.eusc-de-east-1.api.amazonwebservices.eu" },
                { AWS_CLOUDWATCH, "eusc-de-east-1", true, false,
                        "https://monitoring-fips.eusc-de-east-1.amazonaws.eu" },
                { AWS_CLOUDWATCH, "eusc-de-east-1", true, true,
                        "https://monitoring-fips.eusc-de-east-1.api.amazonwebservices.eu" },
                { AWS_AUTO_SCALING, "eu-west-1", true, true, "https://autoscaling-fips.eu-west-1.api.aws" },
                { AWS_AUTO_SCALING, "us-gov-west-1", true, false,
                        "https://autoscaling.us-gov-west-1.amazonaws.com" },
                { AWS_AUTO_SCALING, "us-gov-west-1", true, true,
                        "https://autoscaling-fips.us-gov-west-1.api.aws" },
                { AWS_AUTO_SCALING, "us-isob-east-1", false, true,
                        "https://autoscaling.us-isob-east-1.api.aws.scloud" },
                { AWS_AUTO_SCALING, "us-isob-east-1", true, false,
                        "https://autoscaling-fips.us-isob-east-1.sc2s.sgov.gov" },
                { AWS_AUTO_SCALING, "us-isob-east-1", true, true,
                        "https://autoscaling-fips.us-isob-east-1.api.aws.scloud" },
                { AWS_ECS, "eu-west-1", true, true, "https://ecs-fips.eu-west-1.api.aws" },
                { AWS_ECS, "us-gov-west-1", true, false, "https://ecs-fips.us-gov-west-1.amazonaws.com" },
                { AWS_ECS, "us-gov-west-1", true, true, "https://ecs-fips.us-gov-west-1.api.aws" },
                { AWS_ECS, "us-iso-east-1", false, true, "https://ecs.us-iso-east-1.api.aws.ic.gov" },
                { AWS_ECS, "us-iso-east-1", true, false, "https://ecs-fips.us-iso-east-1.c2s.ic.gov" },
                { AWS_ECS, "us-iso-east-1", true, true, "https://ecs-fips.us-iso-east-1.api.aws.ic.gov" },
                { AWS_EC2, "eu-west-1", true, true, "https://ec2-fips.eu-west-1.api.aws" },
                { AWS_EC2, "us-gov-west-1", true, false, "https://ec2.us-gov-west-1.amazonaws.com" },
                { AWS_EC2, "us-gov-west-1", true, true, "https://ec2-fips.us-gov-west-1.api.aws" },
                { AWS_EC2, "eu-isoe-west-1", false, true,
                        "https://ec2.eu-isoe-west-1.api.cloud-aws.adc-e.uk" },
                { AWS_EC2, "eu-isoe-west-1", true, false, "https://ec2-fips.eu-isoe-west-1.cloud.adc-e.uk" },
                { AWS_EC2, "eu-isoe-west-1", true, true,
                        "https://ec2-fips.eu-isoe-west-1.api.cloud-aws.adc-e.uk" },
                { AWS_CLOUDFORMATION, "eu-west-1", true, true,
                        "https://cloudformation-fips.eu-west-1.api.aws" },
                { AWS_CLOUDFORMATION, "cn-north-1", false, true,
                        "https://cloudformation.cn-north-1.api.amazonwebservices.com.cn" },
                { AWS_CLOUDFORMATION, "cn-north-1", true, false,
                        "https://cloudformation-fips.cn-north-1.amazonaws.com.cn" },
                { AWS_CLOUDFORMATION, "cn-north-1", true, true,
                        "https://cloudformation-fips.cn-north-1.api.amazonwebservices.com.cn" },
                { AWS_CLOUDFORMATION, "us-gov-west-1", true, false,
                        "https://cloudformation.us-gov-west-1.amazonaws.com" },
                { AWS_CLOUDFORMATION, "us-gov-west-1", true, true,
                        "https://cloudformation-fips.us-gov-west-1.api.aws" },
                { AWS_CLOUDFORMATION, "us-gov-east-1", false, false,
                        "https://cloudformation.us-gov-east-1.amazonaws.com" },
                { AWS_CLOUDFORMATION, "us-isof-south-1", false, true,
                        "https://cloudformation.us-isof-south-1.api.aws.hci.ic.gov" },
                { AWS_CLOUDFORMATION, "us-isof-south-1", true, false,
                        "https://cloudformation-fips.us-isof-south-1.csp.hci.ic.gov" },
                { AWS_CLOUDFORMATION, "us-isof-south-1", true, true,
                        "https://cloudformation-fips.us-isof-south-1.api.aws.hci.ic.gov" },
        };

        clear_environment();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                set_variants(cases[i].fips, cases[i].dual_stack);
                expect_endpoint(cases[i].service, cases[i].region, NULL, 0, cases[i].url);
        }
        clear_environment();
}

static void test_an_unknown_region_has_variants_by_its_domain(void) {
        clear_environment();
        set_variants(true, false);
        expect_endpoint(AWS_ECS, "xx-north-1", "aws.example", 0, "https://ecs-fips.xx-north-1.aws.example");
        set_variants(false, true);
        expect_endpoint(AWS_EC2, "xx-north-1", "amazonaws.com", 0, "https://ec2.xx-north-1.api.aws");
        expect_endpoint(AWS_EC2, "xx-north-1", "amazonaws.com.cn", 0,
                "https://ec2.xx-north-1.api.amazonwebservices.com.cn");
        expect_endpoint(AWS_EC2, "xx-north-1", "aws.example", -ENXIO, NULL);
        clear_environment();
}

static void test_variants_are_asked_for_by_true_only(void) {
        static const char *const yes[] = { "true", "True", "TRUE" }, *const no[] = { "", "1", "yes", "on",
                "false" };

        clear_environment();
        for (size_t i = 0; i < ELEMENTSOF(yes); i++) {
                setenv("AWS_USE_DUALSTACK_ENDPOINT", yes[i], 1);
                expect_endpoint(AWS_EC2, "us-east-1", NULL, 0, "https://ec2.us-east-1.api.aws");
        }
        for (size_t i = 0; i < ELEMENTSOF(no); i++) {
                setenv("AWS_USE_DUALSTACK_ENDPOINT", no[i], 1);
                setenv("AWS_USE_FIPS_ENDPOINT", no[i], 1);
                expect_endpoint(AWS_EC2, "us-east-1", NULL, 0, "https://ec2.us-east-1.amazonaws.com");
        }
        clear_environment();
}

static void expect_problem(const char *region, int error, const char *words) {
        char text[AWS_URL_MAX];

        aws_endpoint_problem(AWS_ECS, region, error, text);
        EXPECT_STR(text, words);
}

static void test_a_problem_names_variable_and_value(void) {
        clear_environment();
        setenv("AWS_ENDPOINT_URL", "127.0.0.1:80", 1);
        expect_problem("eu-west-1", -EINVAL,
                "AWS_ENDPOINT_URL is \"127.0.0.1:80\", which is not http:// or https:// and a host");
        setenv("AWS_ENDPOINT_URL_ECS", "https://me:word@host", 1);
        expect_problem("eu-west-1", -EINVAL,
                "AWS_ENDPOINT_URL_ECS is \"***\", which is not http:// or https:// and a host");
        expect_problem("no where", -EINVAL, "\"no where\" is no region");
        clear_environment();
        expect_problem("no where", -EINVAL, "\"no where\" is no region");
        expect_problem("xx-north-1", -ENXIO,
                "no host name is known for region \"xx-north-1\"; set AWS_ENDPOINT_URL_ECS");
        set_variants(false, true);
        expect_problem("xx-north-1", -ENXIO,
                "no dual-stack host name is known for region \"xx-north-1\"; set AWS_ENDPOINT_URL_ECS");
        clear_environment();
}

TEST_MAIN(TEST(test_services_have_their_names), TEST(test_region_decides_the_partition),
        TEST(test_unknown_region_needs_a_domain), TEST(test_what_is_no_region_is_refused),
        TEST(test_own_override_wins_over_the_general_one), TEST(test_override_that_is_no_url_is_refused),
        TEST(test_fips_and_dual_stack_change_the_host),
        TEST(test_an_unknown_region_has_variants_by_its_domain),
        TEST(test_variants_are_asked_for_by_true_only), TEST(test_a_problem_names_variable_and_value))
