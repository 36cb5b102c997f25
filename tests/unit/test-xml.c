/* SPDX-License-Identifier: Apache-2.0 */

/* AWS's XML answers as a tree; what AWS never sends is refused. */

#include "common/xml.h"

#include <errno.h>

#include "tests/unit/test.h"

static const char answer[] =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<DescribeAutoScalingInstancesResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\n"
        "  <DescribeAutoScalingInstancesResult>\n"
        "    <AutoScalingInstances>\n"
        "      <member><InstanceId> i-1 </InstanceId><HealthStatus>HEALTHY</HealthStatus></member>\n"
        "      <other/>\n"
        "      <member><InstanceId>i-2</InstanceId><Empty/></member>\n"
        "    </AutoScalingInstances>\n"
        "  </DescribeAutoScalingInstancesResult>\n"
        "  <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata>\n"
        "</DescribeAutoScalingInstancesResponse>\n";

static void test_answer_becomes_a_tree(void) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        const XmlNode *root, *list;
        unsigned n = 0;

        EXPECT_EQ(xml_parse(answer, strlen(answer), &xml), 0);
        root = xml_root(xml);
        EXPECT_STR(root->name, "DescribeAutoScalingInstancesResponse");
        EXPECT_STR(root->text, "");
        EXPECT_STR(xml_text(root, "ResponseMetadata/RequestId"), "r-1");
        list = xml_find(root, "DescribeAutoScalingInstancesResult/AutoScalingInstances");
        xml_for_each(member, list, "member") {
                EXPECT_STR(xml_text(member, "InstanceId"), n == 0 ? "i-1" : "i-2");
                n++;
        }
        EXPECT_EQ(n, 2);
        EXPECT_STR(xml_text(list, "member/HealthStatus"), "HEALTHY");
        EXPECT_STR(xml_text(xml_next(xml_child(list, "member"), "member"), "Empty"), "");
}

static void test_missing_things_are_null(void) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        const XmlNode *root;

        EXPECT_EQ(xml_parse("<a><bc/></a>", 12, &xml), 0);
        root = xml_root(xml);
        EXPECT(!xml_child(root, "b"));
        EXPECT(!xml_child(root, "bcd"));
        EXPECT(xml_child(root, "bc"));
        EXPECT(!xml_find(root, "bc/d/e"));
        EXPECT(!xml_text(root, "x"));
        EXPECT(!xml_text(NULL, "x"));
        EXPECT(!xml_child(NULL, "x"));
        EXPECT(!xml_next(NULL, "x"));
        EXPECT(xml_find(root, "") == root);
        xml_for_each(node, NULL, "x") test_failures++;
        EXPECT(!xml_free(NULL));
}

static void test_text_is_the_elements_own_and_trimmed(void) {
        static const struct {
                const char *document, *text, *child;
        } cases[] = {
                { "<a> x <b> y </b> z </a>", "x  z", "y" },
                { "<a><b>1 &lt; 2 &amp; &#x20AC;</b></a>", "", "1 < 2 & \xe2\x82\xac" },
                { "<a><b><![CDATA[<raw> & ]]></b></a>", "", "<raw> &" },
                { "<a><!-- c --><b>t<?pi x?>u</b></a>", "", "tu" },
                { "<n:a xmlns:n='u' k='v'><n:b>x</n:b></n:a>", "", "x" },
                { "<a>\n\t<b>  </b>\r\n</a>", "", "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(xml_freep) Xml *xml = NULL;

                EXPECT_EQ(xml_parse(cases[i].document, strlen(cases[i].document), &xml), 0);
                if (!xml)
                        continue;
                EXPECT_STR(xml_root(xml)->name, "a");
                EXPECT_STR(xml_root(xml)->text, cases[i].text);
                EXPECT_STR(xml_text(xml_root(xml), "b"), cases[i].child);
        }
}

static void test_bad_documents_are_refused(void) {
        static const char *const cases[] = {
                "",
                " ",
                "text",
                "<a>",
                "<a></b>",
                "<a/><b/>",
                "<a/>x",
                "<a>&nbsp;</a>",
                "<a>\xff</a>",
                "<a>\x01</a>",
                "<a b='1' b='2'/>",
                "<!DOCTYPE a><a/>",
                "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
                "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
                "{\"__type\":\"x\"}",
                "<html><body><br></body></html>",
                "<?xml version=\"1.0\" encoding=\"x-none\"?><a/>",
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Xml *xml = NULL;

                EXPECT_EQ(xml_parse(cases[i], strlen(cases[i]), &xml), -EBADMSG);
                EXPECT(!xml);
        }
}

static void test_nul_bytes_and_lengths_are_minded(void) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        Xml *none = NULL;

        EXPECT_EQ(xml_parse("<a>x</a><b>", 8, &xml), 0);
        EXPECT_EQ(xml_parse("<a>\0</a>", 8, &none), -EBADMSG);
        EXPECT(!none);
}

/* @n elements inside each other */
static int parse_nested(unsigned n, Xml **ret) {
        char text[8 * (XML_DEPTH_MAX + 2)] = "", *at = text;

        for (unsigned i = 0; i < n; i++)
                at = stpcpy(at, "<a>");
        for (unsigned i = 0; i < n; i++)
                at = stpcpy(at, "</a>");
        return xml_parse(text, strlen(text), ret);
}

static void test_depth_has_a_limit(void) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        Xml *none = NULL;

        EXPECT_EQ(parse_nested(XML_DEPTH_MAX, &xml), 0);
        EXPECT_EQ(parse_nested(XML_DEPTH_MAX + 1, &none), -EBADMSG);
        EXPECT(!none);
}

/* A root with @n - 1 children */
static int parse_wide(unsigned n, Xml **ret) {
        _cleanup_(freep) char *text = malloc(4 * (size_t) n + 16);
        char *at = stpcpy(text, "<r>");

        for (unsigned i = 1; i < n; i++)
                at = stpcpy(at, "<a/>");
        at = stpcpy(at, "</r>");
        return xml_parse(text, (size_t) (at - text), ret);
}

static void test_number_of_elements_has_a_limit(void) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        Xml *none = NULL;

        EXPECT_EQ(parse_wide(XML_NODES_MAX, &xml), 0);
        EXPECT_EQ(parse_wide(XML_NODES_MAX + 1, &none), -EBADMSG);
        EXPECT(!none);
}

static void test_long_text_is_kept_whole(void) {
        enum { N = 300000 };
        _cleanup_(xml_freep) Xml *xml = NULL;
        _cleanup_(freep) char *text = malloc(N + 8);

        (void) stpcpy(text, "<a>");
        memset(text + 3, 'x', N);
        (void) stpcpy(text + 3 + N, "</a>");
        EXPECT_EQ(xml_parse(text, N + 7, &xml), 0);
        EXPECT_EQ(strlen(xml_root(xml)->text), N);
}

TEST_MAIN(TEST(test_answer_becomes_a_tree), TEST(test_missing_things_are_null),
        TEST(test_text_is_the_elements_own_and_trimmed), TEST(test_bad_documents_are_refused),
        TEST(test_nul_bytes_and_lengths_are_minded), TEST(test_depth_has_a_limit),
        TEST(test_number_of_elements_has_a_limit), TEST(test_long_text_is_kept_whole))
