/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The metadata of our stack, read on the wire from a scripted metadata service, CloudFormation and EC2: by which way,
 * how often, what is kept when it fails, and what never leaves.
 */

#include "agent/stack.h"

#include <limits.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/json.h"
#include "common/loop.h"
#include "tests/unit/fake-clock.h"
#include "tests/unit/fake-server.h"
#include "tests/unit/test.h"

#define ID        "i-0123456789abcdef0"
#define ARN       "arn:aws:cloudformation:eu-west-1:123456789012:stack/prod/11111111-2222-3333-4444-555555555555"
#define RESOURCE  "AutoScalingGroup"
#define DOCUMENT  "{\n  \"instanceId\" : \"" ID "\"\n}"
#define ENCODED   "ewogICJpbnN0YW5jZUlkIiA6ICJpLTAxMjM0NTY3ODlhYmNkZWYwIgp9"
#define HALF      "SIGNATUREabcdefghijklmnopqrstuvwxyz0123456789+/ABCDEFGHIJKLMNOPQRSTUVW"
#define SIGNATURE HALF HALF "=="
#define TOKEN     "TOKENabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh"
#define METADATA  "{\"Other\":1,\"ECSHealthAgent\":{\"grace\":\"5m\"}}"

#define JSON_ERROR(code, words)                                                                             \
        "{\"Error\":{\"Code\":\"" code "\",\"Message\":\"" words                                            \
        "\",\"Type\":\"Sender\"},\"RequestId\":\"r\"}"
#define XML_ERROR(code, words)                                                                              \
        "<ErrorResponse><Error><Type>Sender</Type><Code>" code "</Code><Message>" words                     \
        "</Message></Error><RequestId>r</RequestId></ErrorResponse>"
#define EC2_ERROR(code)                                                                                     \
        "<Response><Errors><Error><Code>" code "</Code><Message>words</Message></Error></Errors></"         \
        "Response>"
#define EC2_TAGS(items) "<DescribeTagsResponse><tagSet>" items "</tagSet></DescribeTagsResponse>"
#define EC2_TAG(id, key, value)                                                                             \
        "<item><resourceId>" id "</resourceId><key>" key "</key><value>" value "</value></item>"
#define EC2_BOTH(id)                                                                                        \
        EC2_TAGS(EC2_TAG(id, "aws:cloudformation:stack-id", ARN)                                            \
                        EC2_TAG(id, "aws:cloudformation:logical-id", RESOURCE))

/** How a service answers: as it should, or with this. */
typedef struct Reply {
        unsigned status; /* 0: as it should; 1: hangs up; 2: as it should, once it is let go */
        const char *body;
} Reply;

/* What the services know and do; changed between the runs of the loop only. */
static struct {
        const char *stack_tag, *resource_tag, *document, *signature; /* NULL: 404 */
        const char *metadata;                                        /* NULL: the resource has none */
        unsigned imds_status;                                        /* of what is not there; 0: 404 */
        Reply identity, role, ec2;
} world;
static atomic_bool let_go;
static atomic_uint n_tags, n_identity, n_role, n_ec2;
static char last_identity[8192], last_role[8192], last_ec2[8192];

static const struct {
        const char *path;
        const char **text;
} items[] = {
        { "GET /latest/meta-data/tags/instance/aws:cloudformation:stack-id ", &world.stack_tag },
        { "GET /latest/meta-data/tags/instance/aws:cloudformation:logical-id ", &world.resource_tag },
        { "GET /latest/dynamic/instance-identity/document ", &world.document },
        { "GET /latest/dynamic/instance-identity/signature ", &world.signature },
};

static void serve_item(FakeConnection *c, const char *request) {
        if (strncmp(request, "PUT ", 4) == 0) {
                fake_answer(c, 200, "", "token");
                return;
        }
        n_tags += strstr(request, "/tags/") != NULL;
        for (size_t i = 0; i < ELEMENTSOF(items); i++)
                if (strncmp(request, items[i].path, strlen(items[i].path)) == 0 && *items[i].text) {
                        fake_answer(c, 200, "", *items[i].text);
                        return;
                }
        fake_answer(c, world.imds_status ? world.imds_status : 404, "", "nothing");
}

/* Return: whether it has been let go, and not given up. */
static bool wait_to_be_let_go(FakeConnection *c) {
        struct pollfd gone = { .fd = c->fd, .events = POLLIN };

        while (!let_go)
                if (poll(&gone, 1, 1) > 0)
                        return false;
        return true;
}

static bool serve_reply(FakeConnection *c, const Reply *reply) {
        if (reply->status == 1)
                return false;
        fake_answer(c, reply->status, "", reply->body);
        return true;
}

static void json_answer(FakeConnection *c) {
        JsonWriter writer;

        json_writer_init(&writer, 1 << 22);
        json_begin_object(&writer, NULL);
        json_begin_object(&writer, "DescribeStackResourceResponse");
        json_begin_object(&writer, "DescribeStackResourceResult");
        json_begin_object(&writer, "StackResourceDetail");
        json_string(&writer, "LogicalResourceId", RESOURCE);
        json_double(&writer, "LastUpdatedTimestamp", 1.787572800123E9);
        json_string(&writer, "Metadata", world.metadata);
        for (unsigned i = 0; i < 4; i++)
                json_end_object(&writer);
        fake_answer(c, 200, "Content-Type: application/json\r\n", writer.text);
        json_writer_done(&writer);
}

static void xml_answer(FakeConnection *c) {
        JsonWriter writer;

        json_writer_init(&writer, 1 << 22);
        json_raw(&writer,
                "<DescribeStackResourceResponse><DescribeStackResourceResult><StackResourceDetail>", 81);
        if (world.metadata) {
                json_raw(&writer, "<Metadata>", 10);
                for (const char *p = world.metadata; *p; p++)
                        if (*p == '"')
                                json_raw(&writer, "&quot;", 6);
                        else
                                json_raw(&writer, p, 1);
                json_raw(&writer, "</Metadata>", 11);
        }
        json_raw(&writer,
                "</StackResourceDetail></DescribeStackResourceResult></DescribeStackResourceResponse>", 84);
        fake_answer(c, 200, "Content-Type: text/xml\r\n", writer.text);
        json_writer_done(&writer);
}

static bool serve(FakeConnection *c, const char *request) {
        /* Head and body go out one by one: the second would wait for the client's delayed acknowledgement. */
        (void) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        if (strstr(request, " /latest/"))
                serve_item(c, request);
        else if (strncmp(request, "GET /?Action=DescribeStackResource&", 35) == 0) {
                (void) snprintf(last_identity, sizeof(last_identity), "%s", request);
                n_identity++;
                if (world.identity.status == 2) {
                        if (!wait_to_be_let_go(c))
                                return false;
                } else if (world.identity.status)
                        return serve_reply(c, &world.identity);
                json_answer(c);
        } else if (strstr(request, "\r\n\r\nAction=DescribeStackResource&")) {
                (void) snprintf(last_role, sizeof(last_role), "%s", request);
                n_role++;
                if (world.role.status)
                        return serve_reply(c, &world.role);
                xml_answer(c);
        } else {
                (void) snprintf(last_ec2, sizeof(last_ec2), "%s", request);
                n_ec2++;
                if (world.ec2.status)
                        return serve_reply(c, &world.ec2);
                fake_answer(c, 200, "", EC2_TAGS(""));
        }
        return true;
}

/* -- the reader under test ------------------------------------------------------------------------------------------ */

static sd_event *event;
static Helper *helper;
static Http *http;
static Imds *imds;
static AwsCredentials *credentials;
static Aws *aws;
static FakeServer *server;
static Stack *stack;
static unsigned n_news;
static bool keep_it; /* stack_keep() on news */
static char cache[PATH_MAX];

static void on_news(Stack *reader, void *userdata) {
        EXPECT(reader == stack && userdata == &n_news);
        n_news++;
        if (keep_it)
                EXPECT_EQ(stack_keep(reader), 0);
}

static StackSettings settings(const char *name, const char *resource) {
        return (StackSettings){
                .enabled = true, .stack = name, .resource = resource, .refresh = SPAN_MIN(15)
        };
}

static void start(StackSettings with) {
        const StackOptions options = {
                .http = http,
                .aws = aws,
                .imds = imds,
                .cache = cache,
                .settings = with,
                .news = on_news,
                .userdata = &n_news,
        };

        n_news = 0;
        EXPECT_EQ(stack_new(&stack, event, &options), 0);
}

static void open_world(void) {
        (void) memset(&world, 0, sizeof(world));
        world.stack_tag = ARN;
        world.resource_tag = RESOURCE;
        world.document = DOCUMENT;
        world.signature = HALF "\n" HALF "==\n";
        world.metadata = METADATA;
        n_tags = n_identity = n_role = n_ec2 = 0;
        keep_it = false;
        let_go = false;
        (void) snprintf(cache, sizeof(cache), "/tmp/test-stack-XXXXXX");
        EXPECT(mkdtemp(cache) != NULL);
        (void) strcat(cache, "/cloudformation.json");
        server = fake_start(serve, NULL, NULL, NULL);
        EXPECT_EQ(setenv("AWS_ACCESS_KEY_ID", "AKIDENV", 1), 0);
        EXPECT_EQ(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        EXPECT_EQ(setenv("AWS_SESSION_TOKEN", TOKEN, 1), 0);
        EXPECT_EQ(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server->url, 1), 0);
        EXPECT_EQ(setenv("AWS_ENDPOINT_URL", server->url, 1), 0);
        EXPECT_EQ(sd_event_new(&event), 0);
        EXPECT_EQ(helper_new(&helper, event), 0);
        EXPECT_EQ(http_new(&http, event, helper, &(HttpOptions){ .user_agent = "test/1" }), 0);
        EXPECT_EQ(imds_new(&imds, event, http), 0);
        EXPECT_EQ(aws_credentials_new(&credentials, event, imds), 0);
        EXPECT_EQ(aws_new(&aws, event, http, credentials), 0);
        EXPECT_EQ(aws_set_region(aws, "eu-west-1", "amazonaws.com"), 0);
}

static void open_with(const char *name, const char *resource) {
        open_world();
        start(settings(name, resource));
        EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", "amazonaws.com"), 0);
}

static void close_world(void) {
        stack = stack_free(stack);
        aws = aws_free(aws);
        credentials = aws_credentials_free(credentials);
        imds = imds_free(imds);
        http = http_free(http);
        helper = helper_free(helper);
        fake_stop(server);
        event = sd_event_unref(event);
        (void) unlink(cache);
        *strrchr(cache, '/') = '\0';
        (void) rmdir(cache);
}

static StackView view(void) {
        StackView ret;

        stack_view(stack, &ret);
        return ret;
}

/* Until the reader has said something new, or @turns have passed; time flies meanwhile. */
static bool run_for_news(unsigned before, unsigned turns) {
        for (unsigned i = 0; i < turns && n_news == before; i++) {
                (void) sd_event_run(event, SPAN_MSEC(1));
                if (i % 10 == 9)
                        fake_clock_forward(1);
        }
        return n_news > before;
}

/* The first thing that is learned. */
static StackView first(void) {
        fake_clock_forward(5);
        EXPECT(run_for_news(0, 20000));
        return view();
}

static Span until_next(void) {
        Mono next = view().next;

        return next.usec == MONO_INFINITE.usec ? SPAN_INFINITE : mono_since(next, clock_read().mono);
}

/* Goes to the next reading and sees it through: until the one after it has been set. */
static StackView again(void) {
        Mono due = view().next;
        Span left = until_next();

        EXPECT(left != SPAN_INFINITE);
        if (left > 0)
                fake_clock_forward(left / SPAN_SEC(1) + 1);
        for (unsigned i = 0;
                i < 20000 && (view().next.usec == due.usec || view().next.usec == MONO_INFINITE.usec); i++) {
                (void) sd_event_run(event, SPAN_MSEC(1));
                if (i % 10 == 9)
                        fake_clock_forward(1);
        }
        EXPECT(view().next.usec != due.usec);
        for (unsigned i = 0; i < 3; i++) /* what is to be told */
                (void) sd_event_run(event, 0);
        return view();
}

static bool has(const char *text, const char *part) {
        bool found = strstr(text, part) != NULL;

        if (!found)
                printf("# \"%s\" is not in \"%s\"\n", part, text);
        return found;
}

/* -- texts ---------------------------------------------------------------------------------------------------------- */

static void test_parse_takes_the_object_under_our_key(void) {
        static const struct {
                const char *metadata, *text;
        } cases[] = {
                { METADATA, "{\"grace\":\"5m\"}" },
                { " {\"ECSHealthAgent\" : { \"a\" : [ 1 , true ] } } ", "{\"a\":[1,true]}" },
                { "{\"ECSHealthAgent\":{}}", "{}" },
                { "{\"ECSHealthAgent\":null}", "{}" },
                { "{\"AWS::CloudFormation::Init\":{\"config\":{}}}", "{}" },
                { "{\"ecshealthagent\":{\"grace\":\"5m\"}}", "{}" },
                { "{\"Other\":{\"ECSHealthAgent\":{\"grace\":\"5m\"}}}", "{}" },
                { "{}", "{}" },
                { "", "{}" },
                { NULL, "{}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(freep) char *text = NULL;
                char why[128] = "";
                size_t n = 0;

                EXPECT_EQ(stack_parse(cases[i].metadata, cases[i].metadata ? strlen(cases[i].metadata) : 0,
                                  &text, &n, why),
                        0);
                EXPECT_STR(text, cases[i].text);
                EXPECT_EQ(n, strlen(cases[i].text));
        }
}

static void test_parse_refuses_all_else_and_says_why(void) {
        static const struct {
                const char *metadata, *why;
        } cases[] = {
                { "{\"ECSHealthAgent\":\"5m\"}", "must be an object, is \"5m\"" },
                { "{\"ECSHealthAgent\":[{}]}", "must be an object, is [{}]" },
                { "{\"ECSHealthAgent\":7}", "must be an object, is 7" },
                { "[]", "no JSON object" },
                { "\"text\"", "no JSON object" },
                { "{\"ECSHealthAgent\":{}", "not JSON" },
                { "{\"ECSHealthAgent\":{},\"ECSHealthAgent\":{}}", "twice" },
                { "<html>", "not JSON" },
                { "{\"a\":\"\xff\"}", "not JSON" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char *text = NULL;
                char why[128] = "";
                size_t n = 0;

                EXPECT_EQ(
                        stack_parse(cases[i].metadata, strlen(cases[i].metadata), &text, &n, why), -EBADMSG);
                EXPECT(text == NULL && n == 0);
                EXPECT(has(why, cases[i].why));
        }
}

static void test_parse_has_a_limit(void) {
        const size_t frame = strlen("{\"a\":\"\"}");
        char *big = malloc(STACK_TEXT_MAX + 64), *text = NULL;
        char why[128] = "";
        size_t n = 0;

        for (int over = 0; over < 2; over++) {
                int k = sprintf(big, "{\"ECSHealthAgent\":{\"a\":\"");

                (void) memset(big + k, 'x', STACK_TEXT_MAX - frame + (size_t) over);
                (void) strcpy(big + k + STACK_TEXT_MAX - frame + over, "\"}}");
                EXPECT_EQ(stack_parse(big, strlen(big), &text, &n, why), over ? -E2BIG : 0);
        }
        EXPECT_EQ(n, STACK_TEXT_MAX);
        EXPECT(has(why, "256 KiB"));
        free(text);
        free(big);
}

/* -- the two ways --------------------------------------------------------------------------------------------------- */

static void test_the_identity_is_enough(void) {
        StackView seen;

        open_with("", "");
        EXPECT_STR(stack_state_to_string(view().state), "waiting");
        seen = first();
        EXPECT_EQ(seen.state, STACK_READ);
        EXPECT_STR(seen.text, "{\"grace\":\"5m\"}");
        EXPECT_EQ(seen.n_text, strlen(seen.text));
        EXPECT_STR(seen.stack, ARN);
        EXPECT_STR(seen.resource, RESOURCE);
        EXPECT(!seen.by_role && !seen.from_cache && wall_is_set(seen.read));
        EXPECT_STR(seen.problem, "");
        EXPECT_EQ(n_identity, 1);
        EXPECT_EQ(n_role + n_ec2, 0);
        EXPECT(has(last_identity,
                "GET "
                "/?Action=DescribeStackResource&StackName=arn%3Aaws%3Acloudformation%3Aeu-west-1%"
                "3A123456789012"
                "%3Astack%2Fprod%2F11111111-2222-3333-4444-555555555555&LogicalResourceId=AutoScalingGroup"
                "&ContentType=JSON&Version=2010-05-15 HTTP/1.1\r\n"));
        EXPECT(has(last_identity, "\r\nAccept: application/json\r\n"));
        EXPECT(has(last_identity, "\r\nAuthorization: CFN_V1 " ENCODED ":" SIGNATURE "\r\n"));
        EXPECT(!strstr(last_identity, "AKIDENV") && !strstr(last_identity, TOKEN));
        close_world();
}

static void test_where_the_identity_is_refused_the_role_is_asked_and_then_first(void) {
        static const Reply refusals[] = {
                { 401, "" },
                { 403, "" },
                { 403, JSON_ERROR("AccessDenied", "words") },
                { 403, XML_ERROR("AccessDenied", "words") },
                { 400, JSON_ERROR("ValidationError", "An instance profile is needed") },
                { 400, JSON_ERROR("InvalidAction", "words") },
                { 400, "<html>what?</html>" },
                { 403, XML_ERROR("InvalidClientTokenId", "words") },
                { 404, "<html>not here</html>" },
        };

        for (size_t i = 0; i < ELEMENTSOF(refusals); i++) {
                StackView seen;

                open_with("", "");
                world.identity = refusals[i];
                seen = first();
                EXPECT_EQ(seen.state, STACK_READ);
                EXPECT_STR(seen.text, "{\"grace\":\"5m\"}");
                EXPECT(seen.by_role);
                EXPECT_STR(seen.problem, "");
                EXPECT_EQ(n_identity, 1);
                EXPECT_EQ(n_role, 1);
                EXPECT(has(
                        last_role, "Action=DescribeStackResource&Version=2010-05-15&StackName=arn%3Aaws"));
                EXPECT(has(last_role, "&LogicalResourceId=AutoScalingGroup"));
                EXPECT(has(last_role, "/eu-west-1/cloudformation/aws4_request"));
                (void) again();
                EXPECT_EQ(n_identity, 1);
                EXPECT_EQ(n_role, 2);
                /* and the other way round, once the role is refused */
                world.identity = (Reply){};
                world.role = (Reply){ 403, XML_ERROR("AccessDenied", "words") };
                seen = again();
                EXPECT(!seen.by_role);
                EXPECT_STR(seen.problem, "");
                EXPECT_EQ(n_identity, 2);
                (void) again();
                EXPECT_EQ(n_identity, 3);
                EXPECT_EQ(n_role, 3);
                close_world();
        }
}

static void test_where_the_metadata_service_has_no_identity_the_role_is_asked(void) {
        static const char *const signatures[] = { NULL, "", "\n", "<html>", "abc\x01" };

        for (size_t i = 0; i <= ELEMENTSOF(signatures); i++) {
                open_with("", "");
                if (i < ELEMENTSOF(signatures))
                        world.signature = signatures[i];
                else
                        world.document = NULL;
                EXPECT(first().by_role);
                EXPECT_EQ(n_identity, 0);
                EXPECT_EQ(n_role, 1);
                close_world();
        }
}

static void test_both_refused_is_denied_and_says_so(void) {
        StackView seen;

        open_with("", "");
        world.identity = (Reply){ 403, JSON_ERROR("AccessDenied", "not of this stack") };
        world.role = (Reply){ 403, XML_ERROR("AccessDenied", "not authorized to perform") };
        seen = first();
        EXPECT_EQ(seen.state, STACK_DENIED);
        EXPECT(seen.text == NULL && seen.n_text == 0);
        EXPECT(has(seen.problem, "AccessDenied: not of this stack"));
        EXPECT(has(seen.problem, "AccessDenied: not authorized to perform"));
        EXPECT(has(seen.problem, "resource " RESOURCE " in stack " ARN));
        EXPECT(has(seen.problem, "Allow cloudformation:DescribeStackResource"));
        /* a right that is given later is found, and trouble meanwhile takes nothing back */
        world.identity = (Reply){ 500, "" };
        EXPECT_EQ(again().state, STACK_DENIED);
        world.identity = (Reply){};
        EXPECT_EQ(again().state, STACK_READ);
        EXPECT_STR(view().problem, "");
        close_world();
}

static void test_a_stack_that_is_not_there_is_denied_with_its_words(void) {
        static const struct {
                Reply identity, role;
                unsigned n_role;
        } cases[] = {
                { { 400, JSON_ERROR("ValidationError", "Stack 'typo' does not exist") }, {}, 0 },
                { { 400, XML_ERROR("ValidationError", "Stack 'typo' does not exist") }, {}, 0 },
                { { 403, "" }, { 400, XML_ERROR("ValidationError", "Stack 'typo' does not exist") }, 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                StackView seen;

                open_with("typo", RESOURCE);
                world.identity = cases[i].identity;
                world.role = cases[i].role;
                seen = first();
                EXPECT_EQ(seen.state, STACK_DENIED);
                EXPECT(has(seen.problem, "ValidationError: Stack 'typo' does not exist"));
                EXPECT(has(seen.problem, "Set cloudformation.stack"));
                EXPECT_EQ(n_role, cases[i].n_role);
                EXPECT_EQ(n_tags, 0);
                close_world();
        }
}

static void test_trouble_teaches_nothing(void) {
        static const Reply troubles[] = {
                { 1, NULL },
                { 500, "" },
                { 503, "<html>busy</html>" },
                { 429, "" },
                { 302, "" },
                { 407, "" },
                { 400, JSON_ERROR("Throttling", "Rate exceeded") },
                { 400, XML_ERROR("Throttling", "Rate exceeded") },
                { 400, JSON_ERROR("RequestLimitExceeded", "Rate exceeded") },
        };

        for (size_t i = 0; i < ELEMENTSOF(troubles); i++) {
                StackView seen;

                open_with("", "");
                world.identity = troubles[i];
                seen = first();
                EXPECT_EQ(seen.state, STACK_WAITING);
                EXPECT(has(seen.problem, "CloudFormation does not answer for resource " RESOURCE));
                EXPECT_EQ(n_role, 0);
                world.identity = (Reply){};
                EXPECT_EQ(again().state, STACK_READ);
                EXPECT_STR(view().problem, "");
                close_world();
        }
}

static void test_trouble_of_the_role_teaches_nothing_either(void) {
        static const Reply troubles[] = {
                { 400, XML_ERROR("Throttling", "Rate exceeded") },
                { 403, XML_ERROR("InvalidClientTokenId", "words") },
                { 200, "<html/>" },
                { 200, "<DescribeStackResourceResponse/>" },
                { 200, "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(troubles); i++) {
                open_with("", "");
                world.identity = (Reply){ 403, "" };
                world.role = troubles[i];
                EXPECT_EQ(first().state, STACK_WAITING);
                EXPECT(*view().problem);
                close_world();
        }
}

static void test_an_identity_answer_that_is_not_understood_leads_to_the_role(void) {
        static const Reply garbled[] = {
                { 200, "" },
                { 200, "<html>Please log in.</html>" },
                { 200, "[]" },
                { 200, "{\"DescribeStackResourceResponse\":" },
                { 200, "{\"DescribeStackResourceResponse\":{\"DescribeStackResourceResult\":{}}}" },
                { 200, "{\"DescribeStackResourceResponse\":{\"DescribeStackResourceResult\":{"
                       "\"StackResourceDetail\":"
                       "{\"Metadata\":{}}}}}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(garbled); i++) {
                open_with("", "");
                world.identity = garbled[i];
                EXPECT_EQ(first().state, STACK_READ);
                EXPECT(view().by_role);
                close_world();

                /* but a refusal by the role alone is none by both */
                open_with("", "");
                world.identity = garbled[i];
                world.role = (Reply){ 403, "" };
                EXPECT_EQ(first().state, STACK_WAITING);
                close_world();
        }
}

static void test_an_answer_that_is_too_long_is_cut_off(void) {
        char *huge = malloc(3 << 20);

        (void) memset(huge, ' ', 3 << 20);
        huge[(3 << 20) - 1] = '\0';
        open_with("", "");
        world.identity = (Reply){ 200, huge };
        EXPECT_EQ(first().state, STACK_WAITING);
        EXPECT(*view().problem);
        EXPECT_EQ(n_role, 0);
        close_world();
        free(huge);
}

/* -- what is kept, and what is told --------------------------------------------------------------------------------- */

static void test_a_good_text_outlives_everything_that_comes_later(void) {
        static const Reply later[] = {
                { 1, NULL },
                { 500, "" },
                { 403, "" },
                { 400, JSON_ERROR("ValidationError", "Stack 'x' does not exist") },
                { 200, "<html/>" },
        };

        for (size_t i = 0; i < ELEMENTSOF(later); i++) {
                StackView seen;

                open_with("", "");
                (void) first();
                world.identity = later[i];
                world.role = (Reply){ 403, "" };
                seen = again();
                EXPECT_EQ(seen.state, STACK_READ);
                EXPECT_STR(seen.text, "{\"grace\":\"5m\"}");
                EXPECT(*seen.problem);
                EXPECT_EQ(n_news, 2); /* of the problem */
                (void) again();
                EXPECT_EQ(n_news, 2);
                close_world();
        }
}

static void test_metadata_that_cannot_be_read_change_nothing(void) {
        open_with("", "");
        (void) first();
        world.metadata = "{\"ECSHealthAgent\":";
        (void) again();
        EXPECT_STR(view().text, "{\"grace\":\"5m\"}");
        EXPECT(has(view().problem, "not JSON"));
        close_world();
}

static void test_a_key_that_holds_no_object_is_handed_on_for_its_author_to_hear_of(void) {
        open_with("", "");
        world.metadata = "{\"ECSHealthAgent\":\"5m\"}";
        EXPECT_EQ(first().state, STACK_READ);
        EXPECT_STR(view().text, "\"5m\"");
        close_world();
}

static void test_news_are_told_once(void) {
        open_with("", "");
        (void) first();
        for (unsigned i = 0; i < 3; i++)
                (void) again();
        EXPECT_EQ(n_identity, 4);
        EXPECT_EQ(n_news, 1);
        world.metadata = "{\"ECSHealthAgent\":{\"grace\":\"6m\"}}";
        (void) again();
        EXPECT_EQ(n_news, 2);
        EXPECT_STR(view().text, "{\"grace\":\"6m\"}");
        world.metadata = "{\"Other\":{}}";
        (void) again();
        EXPECT_EQ(n_news, 3);
        EXPECT_STR(view().text, "{}");
        world.metadata = NULL;
        (void) again();
        EXPECT_EQ(n_news, 3);
        EXPECT_EQ(n_tags, 2); /* asked once each: they do not change */
        close_world();
}

static void test_the_same_problem_with_other_numbers_is_no_news(void) {
        open_with("", "");
        world.identity = (Reply){ 500, JSON_ERROR("InternalFailure", "after 7 ms") };
        (void) first();
        world.identity = (Reply){ 500, JSON_ERROR("InternalFailure", "after 12 ms") };
        (void) again();
        EXPECT(has(view().problem, "after 12 ms"));
        EXPECT_EQ(n_news, 1);
        world.identity = (Reply){ 500, JSON_ERROR("InternalFailure", "after 12 s") };
        (void) again();
        EXPECT_EQ(n_news, 2);
        close_world();
}

static void test_what_the_services_send_back_of_our_secrets_is_told_to_nobody(void) {
        static const struct {
                Reply identity, role;
        } cases[] = {
                { { 403, JSON_ERROR("AccessDenied", "bad header CFN_V1 " ENCODED ":" SIGNATURE) },
                        { 403, XML_ERROR("AccessDenied", "bad token " TOKEN) } },
                { { 403, XML_ERROR("AccessDenied", "bad header CFN_V1 " ENCODED ":" SIGNATURE) },
                        { 403, XML_ERROR("SignatureDoesNotMatch",
                                       "The canonical string should have been " TOKEN) } },
                { { 500, JSON_ERROR("InternalFailure", "bad header CFN_V1 " ENCODED ":" SIGNATURE) }, {} },
                { { 400, JSON_ERROR("ValidationError", SIGNATURE " does not exist") }, {} },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                StackView seen;

                open_with("", "");
                world.identity = cases[i].identity;
                world.role = cases[i].role;
                seen = first();
                EXPECT(*seen.problem);
                EXPECT(!strstr(seen.problem, "SIGNATUREabc"));
                EXPECT(!strstr(seen.problem, "TOKENabc"));
                EXPECT(!strstr(
                        seen.problem, "canonical")); /* which holds the headers, the token among them */
                close_world();
        }
}

static void test_words_from_outside_are_made_one_line_of_ascii(void) {
        open_with("", "");
        world.identity = (Reply){ 403, JSON_ERROR("AccessDenied", "one\\ntwo\\u001b[31m \xc3\xa4") };
        world.role = (Reply){ 403, "" };
        for (const char *p = first().problem; *p; p++)
                EXPECT(*p >= ' ' && *p <= '~');
        EXPECT(has(view().problem, "one two"));
        close_world();
}

/* -- whose ---------------------------------------------------------------------------------------------------------- */

static void test_without_tags_in_the_metadata_service_ec2_is_asked(void) {
        static const struct {
                const char *stack_tag, *resource_tag;
                unsigned status;
        } cases[] = {
                { NULL, NULL, 404 },
                { NULL, NULL, 403 },
                { ARN, NULL, 404 },
                { "", "", 404 },
                { "<html>log in</html>", RESOURCE, 404 },
                { ARN, "two words", 404 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                StackView seen;

                open_with("", "");
                world.stack_tag = cases[i].stack_tag;
                world.resource_tag = cases[i].resource_tag;
                world.imds_status = cases[i].status;
                world.ec2 = (Reply){ 200, EC2_BOTH(ID) };
                seen = first();
                EXPECT_EQ(seen.state, STACK_READ);
                EXPECT_STR(seen.stack, ARN);
                EXPECT_STR(seen.resource, RESOURCE);
                EXPECT_EQ(n_ec2, 1);
                EXPECT(has(last_ec2,
                        "Action=DescribeTags&Version=2016-11-15&Filter.1.Name=resource-id&Filter.1.Value."
                        "1=" ID "&Filter.2.Name=key&Filter.2.Value.1=aws%3Acloudformation%3Astack-id"
                        "&Filter.2.Value.2=aws%3Acloudformation%3Alogical-id"));
                (void) again();
                EXPECT_EQ(n_ec2, 1);
                close_world();
        }
}

static void test_an_instance_without_such_tags_belongs_to_none_and_is_left_alone(void) {
        static const char *const tags[] = { EC2_TAGS(""), EC2_BOTH("i-0fedcba9876543210"),
                EC2_TAGS(EC2_TAG(ID, "Name", "web")) };

        for (size_t i = 0; i < ELEMENTSOF(tags); i++) {
                StackView seen;

                open_with("", "");
                world.stack_tag = world.resource_tag = NULL;
                world.ec2 = (Reply){ 200, tags[i] };
                seen = first();
                EXPECT_EQ(seen.state, STACK_NONE);
                EXPECT_STR(seen.problem, "");
                EXPECT_EQ(until_next(), SPAN_INFINITE);
                EXPECT_EQ(n_identity + n_role, 0);
                /* unless somebody says that something has changed */
                world.stack_tag = ARN;
                world.resource_tag = RESOURCE;
                stack_read_now(stack);
                EXPECT(run_for_news(1, 20000));
                EXPECT_EQ(view().state, STACK_READ);
                close_world();
        }
}

static void test_tags_that_may_not_be_read_are_a_problem_but_no_reason_to_wait(void) {
        open_with("", "");
        world.stack_tag = world.resource_tag = NULL;
        world.ec2 = (Reply){ 403, EC2_ERROR("UnauthorizedOperation") };
        EXPECT_EQ(first().state, STACK_NONE);
        EXPECT(has(view().problem, "EC2 says UnauthorizedOperation: words"));
        EXPECT(has(view().problem, "ec2:DescribeTags"));
        EXPECT(until_next() <= SPAN_SEC(45));
        close_world();
}

static void test_trouble_with_the_tags_teaches_nothing(void) {
        for (unsigned i = 0; i < 2; i++) {
                open_with("", "");
                world.stack_tag = NULL;
                if (i == 0)
                        world.imds_status = 500;
                else
                        world.ec2 = (Reply){ 503, EC2_ERROR("RequestLimitExceeded") };
                EXPECT_EQ(first().state, STACK_WAITING);
                EXPECT(has(
                        view().problem, "does not say whether a CloudFormation stack made this instance"));
                EXPECT_EQ(n_identity + n_role, 0);
                close_world();
        }
}

static void test_what_is_set_needs_no_tag(void) {
        static const struct {
                const char *stack, *resource;
                unsigned n_tags;
                const char *asked;
        } cases[] = {
                { "other", "Fleet", 0, "StackName=other&LogicalResourceId=Fleet&" },
                { "other", "", 1, "StackName=other&LogicalResourceId=AutoScalingGroup&" },
                { "", "Fleet", 1,
                        "%2Fprod%2F11111111-2222-3333-4444-555555555555&LogicalResourceId=Fleet&" },
                { "a b&c=d", "Fleet", 0, "StackName=a%20b%26c%3Dd&" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                open_with(cases[i].stack, cases[i].resource);
                EXPECT_EQ(first().state, STACK_READ);
                EXPECT_EQ(n_tags, cases[i].n_tags);
                EXPECT(has(last_identity, cases[i].asked));
                close_world();
        }
}

static void test_half_a_setting_without_the_tag_is_a_problem(void) {
        open_with("other", "");
        world.stack_tag = world.resource_tag = NULL;
        EXPECT_EQ(first().state, STACK_NONE);
        EXPECT(has(view().problem, "cloudformation.resource is not set"));
        EXPECT(has(view().problem, "aws:cloudformation:logical-id"));
        close_world();
}

/* -- pace ----------------------------------------------------------------------------------------------------------- */

static void test_failures_back_off_up_to_the_pace(void) {
        static const struct {
                Span least, most; /* give or take the turns of the loop, in which time flies */
        } waits[] = {
                { SPAN_SEC(15), SPAN_SEC(45) },
                { SPAN_SEC(30), SPAN_SEC(90) },
                { SPAN_MIN(1), SPAN_MIN(3) },
                { SPAN_MIN(2), SPAN_MIN(6) },
                { SPAN_MIN(4), SPAN_MIN(12) },
                { SPAN_MIN(15) / 2, SPAN_MIN(15) * 3 / 2 },
                { SPAN_MIN(15) / 2, SPAN_MIN(15) * 3 / 2 },
        };

        open_with("", "");
        world.identity = (Reply){ 503, "" };
        (void) first();
        for (size_t i = 0; i < ELEMENTSOF(waits); i++) {
                Span left = until_next();

                EXPECT(left >= waits[i].least - SPAN_SEC(5) && left <= waits[i].most);
                if (i + 1 < ELEMENTSOF(waits))
                        (void) again();
        }
        world.identity = (Reply){};
        (void) again();
        world.identity = (Reply){ 503, "" };
        (void) again();
        EXPECT(until_next() <= SPAN_SEC(45)); /* the count starts anew */
        close_world();
}

static void test_a_large_cluster_asks_less_often(void) {
        static const struct {
                uint64_t members;
                Span pace;
        } cases[] = { { 0, SPAN_MIN(15) }, { 100, SPAN_MIN(15) }, { 10000, SPAN_SEC(10000) },
                { UINT64_MAX, SPAN_SEC(1000000) } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Span least = SPAN_INFINITE, most = 0;

                open_with("", "");
                stack_size(stack, cases[i].members);
                (void) first();
                for (unsigned k = 0; k < 5; k++) {
                        Span left = until_next();

                        EXPECT(left >= cases[i].pace / 2 - SPAN_SEC(5) && left <= cases[i].pace * 3 / 2);
                        least = span_min(least, left);
                        most = span_max(most, left);
                        stack_read_now(stack);
                        (void) again();
                }
                EXPECT(most - least > SPAN_SEC(10)); /* not in step */
                close_world();
        }
}

static void test_hosts_that_start_together_do_not_ask_together(void) {
        Span least = SPAN_INFINITE, most = 0;

        open_world();
        for (unsigned i = 0; i < 20; i++) {
                start(settings("", ""));
                EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", NULL), 0);
                EXPECT(until_next() <= SPAN_SEC(5));
                least = span_min(least, until_next());
                most = span_max(most, until_next());
                stack = stack_free(stack);
        }
        EXPECT(most - least > SPAN_SEC(1));
        close_world();
}

static void test_reading_now_is_soon_and_not_lost_while_one_is_under_way(void) {
        unsigned before;

        open_world();
        start(settings("", ""));
        stack_read_now(stack);
        EXPECT_EQ(until_next(), SPAN_INFINITE); /* nobody knows yet who we are */
        EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", NULL), 0);
        EXPECT(until_next() <= SPAN_SEC(5));
        (void) first();
        stack_read_now(stack);
        EXPECT(until_next() <= SPAN_SEC(3));
        (void) again();
        EXPECT_EQ(n_identity, 2);

        world.identity = (Reply){ 2, NULL };
        stack_read_now(stack);
        before = n_identity;
        for (unsigned i = 0; i < 20000 && n_identity == before; i++) {
                (void) sd_event_run(event, SPAN_MSEC(1));
                if (i % 10 == 9)
                        fake_clock_forward(1);
        }
        EXPECT_EQ(n_identity, 3);
        stack_read_now(stack);
        let_go = true;
        (void) again();
        EXPECT(until_next() <= SPAN_SEC(3));
        close_world();
}

/* -- settings ------------------------------------------------------------------------------------------------------- */

static void test_off_asks_nothing(void) {
        StackSettings off = settings("", "");

        off.enabled = false;
        open_world();
        start(off);
        EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", NULL), 0);
        stack_read_now(stack);
        EXPECT_EQ(view().state, STACK_OFF);
        EXPECT_EQ(until_next(), SPAN_INFINITE);
        EXPECT(!run_for_news(0, 500));
        EXPECT_EQ(n_tags + n_identity + n_role + n_ec2, 0);
        EXPECT_EQ(stack_settings(stack, &(StackSettings){ true, "", "", SPAN_MIN(15) }), 0);
        EXPECT_EQ(view().state, STACK_WAITING);
        EXPECT(run_for_news(0, 20)); /* of the waiting */
        EXPECT(run_for_news(1, 20000));
        EXPECT_EQ(view().state, STACK_READ);
        /* and off again, in the middle of a call */
        stack_read_now(stack);
        EXPECT_EQ(stack_settings(stack, &off), 0);
        EXPECT_EQ(view().state, STACK_OFF);
        EXPECT(view().text == NULL);
        EXPECT(run_for_news(2, 20000));
        EXPECT_EQ(until_next(), SPAN_INFINITE);
        EXPECT_EQ(n_identity, 1);
        close_world();
}

static void test_another_place_is_asked_about_anew_and_the_same_is_not(void) {
        StackSettings same = settings("", ""), name = settings("prod", RESOURCE),
                      other = settings("other", RESOURCE);

        open_with("", "");
        (void) first();
        EXPECT_EQ(stack_settings(stack, &same), 0);
        EXPECT(until_next() > SPAN_MIN(5));
        /* the name of the stack whose ARN the tags told: what was read there stays */
        EXPECT_EQ(stack_settings(stack, &name), 0);
        EXPECT_EQ(view().state, STACK_READ);
        EXPECT(until_next() <= SPAN_SEC(3));
        (void) again();
        EXPECT(has(last_identity, "StackName=prod&"));
        EXPECT_EQ(n_news, 1);
        /* another one: what was read does not count any more, which is told from the loop */
        world.metadata = "{\"ECSHealthAgent\":{\"grace\":\"9m\"}}";
        EXPECT_EQ(stack_settings(stack, &other), 0);
        EXPECT_EQ(view().state, STACK_WAITING);
        EXPECT_EQ(n_news, 1);
        EXPECT(run_for_news(1, 20));
        EXPECT(run_for_news(2, 20000));
        EXPECT_STR(view().text, "{\"grace\":\"9m\"}");
        EXPECT_STR(view().stack, "other");
        close_world();
}

static void test_who_we_are_is_news_once(void) {
        open_with("", "");
        (void) first();
        EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", "amazonaws.com"), 0);
        EXPECT(until_next() > SPAN_MIN(5));
        close_world();
}

static void test_a_shorter_refresh_counts_at_once(void) {
        StackSettings quick = settings("", "");

        open_with("", "");
        (void) first();
        quick.refresh = SPAN_MIN(1);
        EXPECT_EQ(stack_settings(stack, &quick), 0);
        EXPECT(until_next() <= SPAN_SEC(90));
        close_world();
}

static void test_settings_that_are_too_long_are_refused(void) {
        char name[600] = "";

        (void) memset(name, 'x', sizeof(name) - 1);
        open_with("", "");
        (void) first();
        EXPECT_EQ(stack_settings(stack, &(StackSettings){ true, name, "", SPAN_MIN(15) }), -ENAMETOOLONG);
        EXPECT_EQ(view().state, STACK_READ);
        EXPECT_STR(view().stack, ARN);
        close_world();
}

/* -- the cache ------------------------------------------------------------------------------------------------------ */

/* Reads once, keeps it, and ends. */
static void leave_a_cache(void) {
        keep_it = true;
        start(settings("", ""));
        EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", NULL), 0);
        (void) first();
        stack = stack_free(stack);
}

static void test_what_was_read_is_there_after_a_restart(void) {
        StackCache found;
        struct stat st;
        StackView seen;
        Wall read;

        open_world();
        leave_a_cache();
        EXPECT_EQ(stat(cache, &st), 0);
        EXPECT_EQ(st.st_mode & 0777, 0644);
        EXPECT_EQ(stack_cache_read(cache, &found), 0);
        EXPECT_STR(found.instance_id, ID);
        EXPECT_STR(found.stack, ARN);
        EXPECT_STR(found.resource, RESOURCE);
        EXPECT_STR(found.text, "{\"grace\":\"5m\"}");
        EXPECT_EQ(found.n_text, 14);
        read = found.read;
        stack_cache_done(&found);

        world.identity = (Reply){ 503, "" };
        start(settings("", ""));
        seen = view();
        EXPECT_EQ(seen.state, STACK_READ);
        EXPECT(seen.from_cache);
        EXPECT_EQ(seen.read.usec, read.usec);
        EXPECT_STR(seen.text, "{\"grace\":\"5m\"}");
        EXPECT_STR(seen.stack, ARN);
        EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", NULL), 0);
        EXPECT_EQ(unlink(cache), 0);
        EXPECT_EQ(stack_keep(stack), 0); /* it was not read: there is nothing to keep */
        EXPECT_EQ(stack_cache_read(cache, &found), -ENOENT);
        keep_it = false;
        seen = first(); /* of the problem */
        EXPECT_EQ(seen.state, STACK_READ);
        EXPECT(seen.from_cache && *seen.problem);
        world.identity = (Reply){};
        seen = again();
        EXPECT(!seen.from_cache);
        EXPECT_STR(seen.problem, "");
        close_world();
}

static void test_nothing_is_kept_that_nobody_asked_to_keep(void) {
        StackCache found;

        open_with("", "");
        (void) first();
        EXPECT_EQ(stack_cache_read(cache, &found), -ENOENT);
        EXPECT_EQ(stack_keep(stack), 0);
        EXPECT_EQ(stack_cache_read(cache, &found), 0);
        stack_cache_done(&found);
        close_world();
}

static void test_the_largest_text_comes_back_whole(void) {
        const size_t frame = strlen("{\"a\":\"\"}"), inside = STACK_TEXT_MAX - frame - 1;
        char *big = malloc(STACK_TEXT_MAX + 64);
        StackCache found = {};
        int k = sprintf(big, "{\"ECSHealthAgent\":{\"a\":\"");

        for (size_t i = 0; i < inside; i++) /* quotes, which are escaped once more in the file */
                big[(size_t) k + i] = i % 2 == 0 ? '\\' : '"';
        (void) strcpy(big + k + (inside & ~(size_t) 1), "\"}}");
        open_with("", "");
        world.metadata = big;
        EXPECT_EQ(first().state, STACK_READ);
        EXPECT(view().n_text > STACK_TEXT_MAX - 8);
        EXPECT_EQ(stack_keep(stack), 0);
        EXPECT_EQ(stack_cache_read(cache, &found), 0);
        EXPECT_STR(found.text, view().text);
        stack_cache_done(&found);
        close_world();
        free(big);
}

static void test_the_cache_of_another_instance_is_ignored(void) {
        open_world();
        leave_a_cache();
        world.identity = (Reply){ 2, NULL };
        start(settings("", ""));
        EXPECT_EQ(view().state, STACK_READ);
        EXPECT_EQ(stack_identity(stack, "i-0fedcba9876543210", "eu-west-1", NULL), 0);
        EXPECT_EQ(view().state, STACK_WAITING);
        EXPECT(view().text == NULL && !view().from_cache);
        EXPECT_EQ(n_news, 0);
        EXPECT(run_for_news(0, 20));
        close_world();
}

static void test_the_cache_of_another_place_is_ignored(void) {
        static const struct {
                const char *stack, *resource;
                StackState state;
        } cases[] = {
                { "", "", STACK_READ },
                { ARN, RESOURCE, STACK_READ },
                { "prod", "", STACK_READ },
                { "prod2", "", STACK_WAITING },
                { "pro", "", STACK_WAITING },
                { "", "Fleet", STACK_WAITING },
                { "arn:aws:cloudformation:eu-west-1:123456789012:stack/prod/99999999", "", STACK_WAITING },
        };

        open_world();
        leave_a_cache();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                start(settings(cases[i].stack, cases[i].resource));
                EXPECT_EQ(view().state, cases[i].state);
                stack = stack_free(stack);
        }
        /* known only later, by the tags */
        start(settings("", ""));
        world.stack_tag = "arn:aws:cloudformation:eu-west-1:123456789012:stack/young/1";
        world.identity = (Reply){ 503, "" };
        EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", NULL), 0);
        EXPECT_EQ(first().state, STACK_WAITING);
        stack = stack_free(stack);
        /* or that there is none at all; but not while that is only believed */
        for (unsigned denied = 2; denied-- > 0;) {
                start(settings("", ""));
                world.stack_tag = world.resource_tag = NULL;
                world.ec2 = denied ? (Reply){ 403, EC2_ERROR("UnauthorizedOperation") } : (Reply){};
                EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", NULL), 0);
                EXPECT_EQ(first().state, denied ? STACK_READ : STACK_NONE);
                stack = stack_free(stack);
        }
        close_world();
}

static void test_a_damaged_cache_is_no_cache(void) {
#define CACHE(id, name, resource, at, text)                                                                 \
        "{\"state\":\"read\",\"instance_id\":" id ",\"stack\":" name ",\"resource\":" resource              \
        ",\"read\":" at ",\"text\":" text "}"
#define GOOD_TIME "\"2026-08-22T10:00:00Z\""
        static const char *const damaged[] = { "", "{", "null", "[]", "{}", "\x00\xff",
                CACHE("\"i-1\"", "\"s\"", "\"r\"", GOOD_TIME, "\"{}"),
                CACHE("\"\"", "\"s\"", "\"r\"", GOOD_TIME, "\"{}\""),
                CACHE("\"i-1\"", "7", "\"r\"", GOOD_TIME, "\"{}\""),
                CACHE("\"i-1\"", "\"s\"", "null", GOOD_TIME, "\"{}\""),
                CACHE("\"i-1\"", "\"s\"", "\"r\"", "\"yesterday\"", "\"{}\""),
                CACHE("\"i-1\"", "\"s\"", "\"r\"", GOOD_TIME, "{}"),
                CACHE("\"i-1\"", "\"s\"", "\"r\"", GOOD_TIME, "\"[]\""),
                CACHE("\"i-1\"", "\"s\"", "\"r\"", GOOD_TIME, "\"{\""),
                "{\"state\":\"waiting\",\"instance_id\":\"i-1\",\"read\":" GOOD_TIME "}",
                "{\"state\":\"none\",\"read\":" GOOD_TIME "}",
                "{\"state\":\"none\",\"instance_id\":\"i-1\",\"text\":\"{}\",\"read\":" GOOD_TIME "}",
                "{\"instance_id\":\"i-1\",\"read\":" GOOD_TIME "}" };
        static const char good[] = CACHE("\"i-1\"", "\"s\"", "\"r\"", GOOD_TIME, "\"{}\"");
        StackCache found;

        open_world();
        for (size_t i = 0; i < ELEMENTSOF(damaged); i++) {
                EXPECT_EQ(file_write_atomic(cache, damaged[i], strlen(damaged[i]), 0644, false), 0);
                EXPECT_EQ(stack_cache_read(cache, &found), -EBADMSG);
                start(settings("", ""));
                EXPECT_EQ(view().state, STACK_WAITING);
                stack = stack_free(stack);
        }
        EXPECT_EQ(file_write_atomic(cache, good, strlen(good), 0644, false), 0);
        EXPECT_EQ(stack_cache_read(cache, &found), 0);
        stack_cache_done(&found);
        start(settings("", ""));
        EXPECT_EQ(view().state, STACK_READ);
        close_world();
}

static void test_that_there_is_no_stack_is_remembered(void) {
        static const char none[] = "{\"state\":\"none\",\"instance_id\":\"" ID "\",\"read\":" GOOD_TIME "}";

        open_world();
        world.stack_tag = world.resource_tag = NULL;
        world.ec2 = (Reply){};
        start(settings("", ""));
        EXPECT_EQ(view().state, STACK_WAITING);
        EXPECT_EQ(stack_identity(stack, ID, "eu-west-1", NULL), 0);
        EXPECT_EQ(first().state, STACK_NONE);
        EXPECT(!view().from_cache);
        EXPECT_EQ(stack_keep(stack), 0);
        stack = stack_free(stack);

        start(settings("", ""));
        EXPECT_EQ(view().state, STACK_NONE);
        EXPECT(view().from_cache);
        EXPECT_EQ(stack_identity(stack, "i-0fedcba9876543210", "eu-west-1", NULL), 0);
        EXPECT_EQ(view().state, STACK_WAITING); /* a copy of the disk knows nothing */
        stack = stack_free(stack);

        /* and it is no answer for who has now been told where the stack is */
        EXPECT_EQ(file_write_atomic(cache, none, strlen(none), 0644, false), 0);
        start(settings("prod", RESOURCE));
        EXPECT_EQ(view().state, STACK_WAITING);
        close_world();
}

/* -- life ----------------------------------------------------------------------------------------------------------- */

static void test_it_can_be_freed_at_any_moment(void) {
        for (unsigned turns = 0; turns < 60; turns += 3) {
                open_with("", "");
                world.identity = (Reply){ 403, "" };
                fake_clock_forward(10);
                for (unsigned i = 0; i < turns; i++)
                        (void) sd_event_run(event, SPAN_MSEC(1));
                stack = stack_free(stack);
                for (unsigned i = 0; i < 5; i++)
                        (void) sd_event_run(event, 0);
                close_world();
        }
}

static void test_an_identity_that_is_none_is_refused(void) {
        char name[100] = "";

        (void) memset(name, 'i', sizeof(name) - 1);
        open_world();
        start(settings("", ""));
        EXPECT_EQ(stack_identity(stack, "", "eu-west-1", NULL), -EINVAL);
        EXPECT_EQ(stack_identity(stack, name, "eu-west-1", NULL), -EINVAL);
        EXPECT_EQ(stack_identity(stack, ID, name, NULL), -EINVAL);
        EXPECT_EQ(until_next(), SPAN_INFINITE);
        close_world();
}

TEST_MAIN(TEST(test_parse_takes_the_object_under_our_key), TEST(test_parse_refuses_all_else_and_says_why),
        TEST(test_parse_has_a_limit), TEST(test_the_identity_is_enough),
        TEST(test_where_the_identity_is_refused_the_role_is_asked_and_then_first),
        TEST(test_where_the_metadata_service_has_no_identity_the_role_is_asked),
        TEST(test_both_refused_is_denied_and_says_so),
        TEST(test_a_stack_that_is_not_there_is_denied_with_its_words), TEST(test_trouble_teaches_nothing),
        TEST(test_trouble_of_the_role_teaches_nothing_either),
        TEST(test_an_identity_answer_that_is_not_understood_leads_to_the_role),
        TEST(test_an_answer_that_is_too_long_is_cut_off),
        TEST(test_a_good_text_outlives_everything_that_comes_later),
        TEST(test_metadata_that_cannot_be_read_change_nothing),
        TEST(test_a_key_that_holds_no_object_is_handed_on_for_its_author_to_hear_of),
        TEST(test_news_are_told_once), TEST(test_the_same_problem_with_other_numbers_is_no_news),
        TEST(test_what_the_services_send_back_of_our_secrets_is_told_to_nobody),
        TEST(test_words_from_outside_are_made_one_line_of_ascii),
        TEST(test_without_tags_in_the_metadata_service_ec2_is_asked),
        TEST(test_an_instance_without_such_tags_belongs_to_none_and_is_left_alone),
        TEST(test_tags_that_may_not_be_read_are_a_problem_but_no_reason_to_wait),
        TEST(test_trouble_with_the_tags_teaches_nothing), TEST(test_what_is_set_needs_no_tag),
        TEST(test_half_a_setting_without_the_tag_is_a_problem), TEST(test_failures_back_off_up_to_the_pace),
        TEST(test_a_large_cluster_asks_less_often), TEST(test_hosts_that_start_together_do_not_ask_together),
        TEST(test_reading_now_is_soon_and_not_lost_while_one_is_under_way), TEST(test_off_asks_nothing),
        TEST(test_another_place_is_asked_about_anew_and_the_same_is_not), TEST(test_who_we_are_is_news_once),
        TEST(test_a_shorter_refresh_counts_at_once), TEST(test_settings_that_are_too_long_are_refused),
        TEST(test_what_was_read_is_there_after_a_restart),
        TEST(test_nothing_is_kept_that_nobody_asked_to_keep), TEST(test_the_largest_text_comes_back_whole),
        TEST(test_the_cache_of_another_instance_is_ignored),
        TEST(test_the_cache_of_another_place_is_ignored), TEST(test_a_damaged_cache_is_no_cache),
        TEST(test_that_there_is_no_stack_is_remembered), TEST(test_it_can_be_freed_at_any_moment),
        TEST(test_an_identity_that_is_none_is_refused))
