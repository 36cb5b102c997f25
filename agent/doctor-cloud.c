/* SPDX-License-Identifier: Apache-2.0 */

/* The doctor's checks of the metadata service, of the way to AWS, and of what the role may do there. */

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "agent/act/rights.h"
#include "agent/doctor.h"
#include "common/parse.h"

#define CLOUD_ENDPOINT_TIME  SPAN_SEC(4)
#define CLOUD_PROXY_TIME     SPAN_SEC(3)
#define CLOUD_RIGHT_TIME     SPAN_SEC(3)
#define CLOUD_EXPOSURE_TIME  SPAN_MSEC(1500)
#define CLOUD_SKEW_MAX       SPAN_SEC(60)
#define CLOUD_ANSWER_MAX     ((size_t) 64 * 1024)
#define CLOUD_METADATA_URL   "http://169.254.169.254"
#define CLOUD_TOKEN_PATH     "/latest/api/token"
#define CLOUD_OPTIONS_FIX    "aws ec2 modify-instance-metadata-options --instance-id"
#define CLOUD_IN_ENVIRONMENT " in " DOCTOR_ENVIRONMENT_FILE

/* The last one is needed for the orphan's end only. */
static const AwsService cloud_services[] = { AWS_ECS, AWS_AUTO_SCALING, AWS_CLOUDWATCH, AWS_EC2 };

typedef enum CloudItem {
        ITEM_INSTANCE,
        ITEM_REGION,
        ITEM_DOMAIN,
} CloudItem;
#define ITEM_N (ITEM_DOMAIN + 1)

/** One of several calls under way. */
typedef struct CloudAsked {
        Doctor *doctor;
        unsigned index; /* CloudItem, index of the services, or Right */
        ImdsCall *imds;
        HttpCall *http;
        AwsCall *aws;
} CloudAsked;

struct DoctorCloud {
        CloudAsked items[ITEM_N];
        unsigned n_items; /* that have not been answered */
        int item_errors[ITEM_N];
        char region[64], domain[128]; /* as the metadata service says; "" unknown */

        HttpCall *proxy;
        char proxy_shown[256];

        CloudAsked endpoints[ELEMENTSOF(cloud_services)];
        char hosts[ELEMENTSOF(cloud_services)][AWS_URL_MAX];
        int endpoint_errors[ELEMENTSOF(cloud_services)];
        char endpoint_words[ELEMENTSOF(cloud_services)][256];
        unsigned n_endpoints; /* that have not been answered */
        bool serves[AWS_SERVICE_N];
        Span skew; /* the services' clock minus ours */
        bool skew_known;

        CloudAsked rights[RIGHT_N];
        Target target;

        int exposure; /* the socket */
        sd_event_source *exposure_source;
        Timer *exposure_timer;

        Alarms *alarms;
};

Alarms **cloud_alarms(Doctor *doctor) {
        return &doctor->cloud->alarms;
}

bool cloud_serves(const Doctor *doctor, AwsService service) {
        return doctor->cloud->serves[service];
}

/* Those in force; where they are refused, the usual ones. */
static const Policy *cloud_policy(const Doctor *doctor) {
        static const Policy usual = {
                .action = ACTION_DETACH, .orphan = ORPHAN_STOP, .orphan_deregister = true
        };

        return doctor->results[CHECK_SETTINGS].state == CHECK_OK ? &doctor->settings.policy : &usual;
}

static bool is_used(const Doctor *doctor, AwsService service) {
        const Policy *policy = cloud_policy(doctor);

        return service != AWS_EC2 || right_used(RIGHT_EC2_STOP, policy) ||
               right_used(RIGHT_EC2_TERMINATE, policy);
}

static const char *metadata_url(void) {
        const char *url = service_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", NULL);

        return url ? url : CLOUD_METADATA_URL;
}

/* The metadata service: who and where we are */

static void metadata_failed(Doctor *doctor, CheckId id, int error) {
        if (error == -EACCES) {
                check_problem(doctor, id, "refuses us a token at %s: it is switched off", metadata_url());
                check_fix(doctor, id,
                        CLOUD_OPTIONS_FIX " INSTANCE --http-endpoint enabled --http-tokens required");
        } else if (error == -EINVAL) {
                check_problem(doctor, id, "\"%s\" is no address", metadata_url());
                check_fix(doctor, id,
                        "mend AWS_EC2_METADATA_SERVICE_ENDPOINT" CLOUD_IN_ENVIRONMENT ", or take it away");
        } else if (error == -ENOENT || error == -EPROTO || error == -EAGAIN) {
                check_problem(doctor, id, "what answers at %s makes no sense: %s", metadata_url(),
                        error == -EAGAIN ? "errors of its own" : "it has no instance-id");
                check_fix(doctor, id,
                        "see who answers: curl -i -X PUT -H "
                        "'X-aws-ec2-metadata-token-ttl-seconds: 60' %s" CLOUD_TOKEN_PATH,
                        metadata_url());
        } else {
                check_problem(doctor, id, "out of reach at %s: %s", metadata_url(), strerror(-error));
                check_fix(doctor, id,
                        "see what is in the way: ip route get 169.254.169.254; iptables -S OUTPUT; "
                        "nft list ruleset. A rule that lets root through only stops the service "
                        "too");
        }
}

static void metadata_settle(Doctor *doctor) {
        DoctorCloud *cloud = doctor->cloud;
        int error = cloud->item_errors[ITEM_INSTANCE];

        if (!check_is_running(doctor, CHECK_METADATA))
                return;
        if (error < 0)
                metadata_failed(doctor, CHECK_METADATA, error);
        else
                check_ok(doctor, CHECK_METADATA, "this is %s%s%s", doctor->instance_id,
                        *cloud->region ? " in " : "", cloud->region);
}

static void cloud_on_item(const ImdsAnswer *answer, void *userdata) {
        CloudAsked *asked = userdata;
        Doctor *doctor = asked->doctor;
        DoctorCloud *cloud = doctor->cloud;
        const struct {
                char *at;
                size_t n;
        } to[ITEM_N] = {
                [ITEM_INSTANCE] = { doctor->instance_id, sizeof(doctor->instance_id) },
                [ITEM_REGION] = { cloud->region, sizeof(cloud->region) },
                [ITEM_DOMAIN] = { cloud->domain, sizeof(cloud->domain) },
        };
        size_t n = strcspn(answer->text, "\r\n");

        cloud->item_errors[asked->index] = answer->error;
        if (answer->error == 0 && (n == 0 || n >= to[asked->index].n))
                cloud->item_errors[asked->index] = -EPROTO;
        else if (answer->error == 0) {
                memcpy(to[asked->index].at, answer->text, n);
                to[asked->index].at[n] = '\0';
                text_printable(to[asked->index].at);
        }
        asked->imds = imds_call_free(asked->imds);
        if (--cloud->n_items == 0)
                metadata_settle(doctor);
}

void cloud_metadata(Doctor *doctor, CheckId id) {
        static const char *const paths[ITEM_N] = {
                [ITEM_INSTANCE] = "/latest/meta-data/instance-id",
                [ITEM_REGION] = "/latest/meta-data/placement/region",
                [ITEM_DOMAIN] = "/latest/meta-data/services/domain",
        };
        const char *disabled = service_variable("AWS_EC2_METADATA_DISABLED", NULL);
        DoctorCloud *cloud = doctor->cloud;

        if (disabled && strcasecmp(disabled, "true") == 0) {
                check_problem(doctor, id, "switched off for us by AWS_EC2_METADATA_DISABLED=%s", disabled);
                check_fix(doctor, id,
                        "take it away" CLOUD_IN_ENVIRONMENT ", then: systemctl restart "
                        "ecs-health-agent");
                return;
        }
        cloud->n_items = ITEM_N;
        for (unsigned i = 0; i < ITEM_N; i++) {
                int r;

                cloud->items[i] = (CloudAsked){ .doctor = doctor, .index = i };
                r = imds_get(doctor->imds, paths[i], cloud_on_item, &cloud->items[i], &cloud->items[i].imds);
                if (r < 0) {
                        check_failed(doctor, id, r);
                        return;
                }
        }
}

/* As it may stand in a host name. */
static bool cloud_is_region(const char *text) {
        const size_t n = strlen(text);

        return n > 0 && n < 64 && text[0] != '-' && text[n - 1] != '-' &&
               strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

void cloud_region(Doctor *doctor, CheckId id) {
        DoctorCloud *cloud = doctor->cloud;
        const char *set = service_variable("AWS_REGION", NULL), *region = set ? set : cloud->region;
        int r;

        if (!*region) {
                check_problem(doctor, id, "the metadata service does not name it");
                check_fix(doctor, id,
                        "AWS_REGION=REGION" CLOUD_IN_ENVIRONMENT
                        ", then: systemctl restart ecs-health-agent");
                return;
        }
        r = cloud_is_region(region)
                    ? aws_set_region(doctor->aws, region, *cloud->domain ? cloud->domain : NULL)
                    : -EINVAL;
        if (r < 0) {
                check_problem(doctor, id, "\"%s\"%s is no region", region, set ? " (AWS_REGION)" : "");
                check_fix(doctor, id,
                        "AWS_REGION=REGION, such as eu-west-1," CLOUD_IN_ENVIRONMENT
                        ", then: systemctl restart ecs-health-agent");
        } else if (set && *cloud->region && strcmp(set, cloud->region) != 0) {
                check_problem(
                        doctor, id, "AWS_REGION is \"%s\", but this instance is in %s", set, cloud->region);
                check_fix(doctor, id,
                        "AWS_REGION=%s" CLOUD_IN_ENVIRONMENT
                        ", or take it away, then: systemctl restart ecs-health-agent",
                        cloud->region);
        } else {
                check_ok(doctor, id, "%s%s", region, set ? ", by AWS_REGION" : "");
        }
}

/* The role */

static void role_settle(Doctor *doctor) {
        const char *detail = aws_credentials_detail(doctor->credentials);
        const char *instance = *doctor->instance_id ? doctor->instance_id : "INSTANCE";
        const CheckId id = CHECK_ROLE;

        switch (aws_credentials_state(doctor->credentials)) {
        case AWS_CREDENTIALS_GOOD: check_ok(doctor, id, "%s", detail); break;
        case AWS_CREDENTIALS_NO_ROLE:
                check_problem(doctor, id, "%s", detail);
                if (strncmp(detail, "role ", 5) == 0)
                        check_fix(doctor, id,
                                "let ec2.amazonaws.com assume it: aws iam update-assume-role-policy; where "
                                "the "
                                "role was deleted and made anew, associate its instance profile again");
                else
                        check_fix(doctor, id,
                                "aws ec2 associate-iam-instance-profile --instance-id %s "
                                "--iam-instance-profile Name=PROFILE; for new instances IamInstanceProfile "
                                "in "
                                "the launch template",
                                instance);
                break;
        case AWS_CREDENTIALS_UNKNOWN:
        case AWS_CREDENTIALS_STALE:
        case AWS_CREDENTIALS_FAILED:
                check_problem(doctor, id, "no keys that count: %s", detail);
                check_fix(doctor, id,
                        strncmp(detail, "keys of the environment", 23) == 0
                                ? "mend AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" CLOUD_IN_ENVIRONMENT
                                  ", or take them away for the instance role's"
                                : "try again in a few minutes; if it stays, associate the instance profile "
                                  "again: aws ec2 replace-iam-instance-profile-association");
                break;
        }
}

static void cloud_on_credentials(void *userdata) {
        Doctor *doctor = userdata;

        if (check_is_running(doctor, CHECK_ROLE))
                role_settle(doctor);
}

void cloud_role(Doctor *doctor, CheckId id) {
        AwsKeys keys;

        (void) id;
        if (aws_credentials_get(doctor->credentials, &keys) >= 0)
                role_settle(doctor);
        else
                aws_credentials_wait(doctor->credentials, cloud_on_credentials, doctor);
}

void cloud_keys_refused(Doctor *doctor, const char *code) {
        if (doctor->results[CHECK_ROLE].state == CHECK_PROBLEM)
                return;
        check_problem(doctor, CHECK_ROLE, "AWS does not take its keys: %s",
                *code ? code : "they or the signature are refused");
        check_fix(doctor, CHECK_ROLE,
                service_variable("AWS_ACCESS_KEY_ID", NULL)
                        ? "mend AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" CLOUD_IN_ENVIRONMENT
                          ", or take them away for the instance role's"
                        : "see that the role has not been deleted, and associate its instance profile "
                          "again: "
                          "aws ec2 replace-iam-instance-profile-association; a proxy must not change "
                          "requests");
        for (CheckId id = CHECK_RIGHTS; id < CHECK_RIGHTS + RIGHT_N; id++)
                check_skip_for(doctor, id, CHECK_ROLE);
        check_skip_for(doctor, CHECK_ALARMS, CHECK_ROLE);
}

/* Proxies */

static bool is_unreachable(const HttpAnswer *answer) {
        return answer->error < 0 && !answer->sent && answer->error != -EPROTO &&
               answer->error != -EKEYREJECTED;
}

static void proxy_unreachable(Doctor *doctor, const char *why) {
        doctor->proxy_dead = true;
        check_problem(doctor, CHECK_PROXY, "%s cannot be reached: %s", doctor->cloud->proxy_shown, why);
        check_fix(doctor, CHECK_PROXY,
                "mend HTTPS_PROXY" CLOUD_IN_ENVIRONMENT " or /etc/ecs/ecs.config, or name AWS's "
                "endpoints in NO_PROXY; try: curl -v -x %s https://aws.amazon.com",
                doctor->cloud->proxy_shown);
}

static void proxy_reached(Doctor *doctor) {
        const char *own = service_variable("HTTPS_PROXY", "https_proxy"),
                   *own_no = service_variable("NO_PROXY", "no_proxy");
        const char *shown = doctor->cloud->proxy_shown;
        bool own_lacks = own && !proxy_exempts_metadata(own_no ? own_no : "");
        bool ecs_lacks = *doctor->ecs.proxy && !proxy_exempts_metadata(doctor->ecs.no_proxy);

        if (!own_lacks && !ecs_lacks) {
                check_ok(doctor, CHECK_PROXY, *shown ? "%s" : "none%s", shown);
                return;
        }
        check_problem(doctor, CHECK_PROXY, "NO_PROXY %s lacks 169.254.169.254: %s",
                ecs_lacks ? "in ecs.config" : "in our environment",
                ecs_lacks
                        ? "the ECS agent may ask the proxy for the metadata service, which does not know it"
                        : "we never ask the proxy for the metadata service, but other programs would");
        check_fix(doctor, CHECK_PROXY,
                "NO_PROXY=169.254.169.254,169.254.170.2,/var/run/docker.sock in %s, then: "
                "systemctl restart %s",
                ecs_lacks ? "/etc/ecs/ecs.config" : DOCTOR_ENVIRONMENT_FILE,
                ecs_lacks ? "ecs" : "ecs-health-agent");
}

static void cloud_on_proxy(const HttpAnswer *answer, void *userdata) {
        Doctor *doctor = userdata;

        if (!check_is_running(doctor, CHECK_PROXY))
                return;
        if (is_unreachable(answer))
                proxy_unreachable(doctor,
                        answer->error == -ENXIO ? "nobody knows its name" : strerror(-answer->error));
        else
                proxy_reached(doctor);
}

void cloud_proxy(Doctor *doctor, CheckId id) {
        const char *proxy = service_variable("HTTPS_PROXY", "https_proxy");
        HttpRequest request = {
                .method = "GET",
                .timeout = CLOUD_PROXY_TIME,
                .max_body = CLOUD_ANSWER_MAX,
                .no_proxy = true,
                .fresh = true,
                .any_certificate = true,
        };
        char *shown = doctor->cloud->proxy_shown, url[512];

        (void) id;
        if (!proxy)
                proxy = doctor->ecs.proxy;
        (void) proxy_public(proxy, shown, sizeof(doctor->cloud->proxy_shown));
        if (doctor->proxy_refused) {
                proxy_unreachable(doctor, "it is no http:// or https:// address");
                return;
        }
        if (!*proxy) {
                proxy_reached(doctor);
                return;
        }
        (void) snprintf(url, sizeof(url), "%s%s%s", strstr(shown, "://") ? "" : "http://", shown,
                shown[strlen(shown) - 1] == '/' ? "" : "/");
        request.url = url;
        if (http_call(doctor->http, &request, cloud_on_proxy, doctor, &doctor->cloud->proxy) < 0)
                proxy_unreachable(doctor, "it is no http:// or https:// address");
}

/* Endpoints, and the time that they tell */

static void endpoint_fix(Doctor *doctor, int error, const char *host) {
        const CheckId id = CHECK_ENDPOINTS;

        switch (-error) {
        case ENXIO:
                check_fix(doctor, id,
                        "names must be resolved: getent hosts %s; see /etc/resolv.conf, the VPC's DNS "
                        "support and private DNS of its interface endpoints; AWS_ENDPOINT_URL and "
                        "its kin" CLOUD_IN_ENVIRONMENT " must name hosts that exist",
                        host);
                break;
        case EKEYREJECTED:
                check_fix(doctor, id,
                        "the certificate of who answers for %s is not trusted: "
                        "AWS_CA_BUNDLE=/path/to/ca.pem" CLOUD_IN_ENVIRONMENT
                        " where a proxy breaks TLS open",
                        host);
                break;
        case EINVAL:
                check_fix(doctor, id,
                        "mend AWS_ENDPOINT_URL_%s or AWS_ENDPOINT_URL" CLOUD_IN_ENVIRONMENT
                        ": expected http(s)://HOST",
                        host);
                break;
        default:
                check_fix(doctor, id,
                        "a way to %s is needed: a NAT gateway, an interface endpoint of the VPC whose "
                        "security group lets this host in on port 443, or a proxy (HTTPS_PROXY)",
                        host);
        }
}

static const char *endpoint_reason(int error, const char *words) {
        switch (-error) {
        case ENXIO: return "nobody knows the name";
        case ETIMEDOUT: return "no answer in time";
        case ECONNREFUSED: return "connection refused";
        case EKEYREJECTED: return *words ? words : "TLS refused";
        case EHOSTUNREACH: return *words ? words : "out of reach";
        default: return *words ? words : strerror(-error);
        }
}

static void endpoints_settle(Doctor *doctor) {
        const DoctorCloud *cloud = doctor->cloud;
        char found[CHECK_TEXT_MAX] = "";
        size_t n = 0;
        int first = -1;

        if (!check_is_running(doctor, CHECK_ENDPOINTS))
                return;
        for (size_t i = 0; i < ELEMENTSOF(cloud_services); i++) {
                if (cloud->endpoint_errors[i] == 0)
                        continue;
                if (first < 0)
                        first = (int) i;
                if (n < sizeof(found))
                        n += (size_t) snprintf(found + n, sizeof(found) - n, "%s%s: %s", n > 0 ? "; " : "",
                                cloud->hosts[i],
                                endpoint_reason(cloud->endpoint_errors[i], cloud->endpoint_words[i]));
        }
        if (first < 0) {
                check_ok(doctor, CHECK_ENDPOINTS, "%s answer",
                        is_used(doctor, AWS_EC2) ? "ECS, Auto Scaling, CloudWatch and EC2"
                                                 : "ECS, Auto Scaling and CloudWatch");
                return;
        }
        check_problem(doctor, CHECK_ENDPOINTS, "%s", found);
        endpoint_fix(doctor, cloud->endpoint_errors[first], cloud->hosts[first]);
}

static void endpoint_ended(CloudAsked *asked, int error, const char *words) {
        DoctorCloud *cloud = asked->doctor->cloud;

        cloud->endpoint_errors[asked->index] = error;
        (void) snprintf(cloud->endpoint_words[asked->index], sizeof(cloud->endpoint_words[0]), "%s", words);
        cloud->serves[cloud_services[asked->index]] = error == 0;
        if (--cloud->n_endpoints == 0)
                endpoints_settle(asked->doctor);
}

static void cloud_on_endpoint(const HttpAnswer *answer, void *userdata) {
        CloudAsked *asked = userdata;
        DoctorCloud *cloud = asked->doctor->cloud;
        Wall told = WALL_NEVER;

        if (answer->error == 0 && parse_http_date(answer->date, &told) >= 0) {
                cloud->skew = wall_since(told, loop_now(asked->doctor->event).wall);
                cloud->skew_known = true;
        }
        /* Unsigned, it is refused; that it could be refused is what we want to know. */
        endpoint_ended(asked, answer->error == -E2BIG ? 0 : answer->error, answer->detail);
}

static void endpoint_ask(Doctor *doctor, unsigned i, const char *region) {
        DoctorCloud *cloud = doctor->cloud;
        CloudAsked *asked = &cloud->endpoints[i];
        HttpRequest request = {
                .method = "GET",
                .timeout = CLOUD_ENDPOINT_TIME,
                .max_body = CLOUD_ANSWER_MAX,
                .fresh = true,
        };
        char url[AWS_URL_MAX + 2], base[AWS_URL_MAX] = "";
        const char *host;
        int r;

        *asked = (CloudAsked){ .doctor = doctor, .index = i };
        r = aws_endpoint(cloud_services[i], region, *cloud->domain ? cloud->domain : NULL, base);
        if (r < 0) {
                (void) snprintf(cloud->hosts[i], sizeof(cloud->hosts[i]), "%s",
                        aws_service_info(cloud_services[i])->id);
                aws_endpoint_problem(cloud_services[i], region, r, base);
                endpoint_ended(asked, -EINVAL, base);
                return;
        }
        host = strstr(base, "://");
        (void) snprintf(cloud->hosts[i], sizeof(cloud->hosts[i]), "%s", host ? host + 3 : base);
        (void) snprintf(url, sizeof(url), "%s/", base);
        request.url = url;
        r = http_call(doctor->http, &request, cloud_on_endpoint, asked, &asked->http);
        if (r < 0)
                endpoint_ended(asked, r, "");
}

void cloud_endpoints(Doctor *doctor, CheckId id) {
        const char *set = service_variable("AWS_REGION", NULL);

        if (doctor->proxy_dead) {
                check_skip_for(doctor, id, CHECK_PROXY);
                return;
        }
        doctor->cloud->n_endpoints = 0;
        for (unsigned i = 0; i < ELEMENTSOF(cloud_services); i++)
                doctor->cloud->n_endpoints += is_used(doctor, cloud_services[i]);
        for (unsigned i = 0; i < ELEMENTSOF(cloud_services); i++)
                if (is_used(doctor, cloud_services[i]))
                        endpoint_ask(doctor, i, set ? set : doctor->cloud->region);
}

void cloud_clock(Doctor *doctor, CheckId id) {
        Span skew = doctor->cloud->skew, off = skew < 0 ? -skew : skew;
        char text[FORMAT_SPAN_MAX];

        if (!doctor->cloud->skew_known && doctor->results[CHECK_ENDPOINTS].state != CHECK_OK) {
                check_skip_for(doctor, id, CHECK_ENDPOINTS);
        } else if (!doctor->cloud->skew_known) {
                check_skip(doctor, id, "no service has told the time");
        } else if (off <= CLOUD_SKEW_MAX) {
                check_ok(doctor, id, "within %s of AWS's", format_span(text, CLOUD_SKEW_MAX));
        } else {
                check_problem(doctor, id, "%s %s AWS's", format_span(text, off / SPAN_SEC(1) * SPAN_SEC(1)),
                        skew > 0 ? "behind" : "ahead of");
                check_fix(doctor, id,
                        "systemctl enable --now chronyd && chronyc makestep; chronyc sources must "
                        "list 169.254.169.123");
        }
}

/* Rights, each by itself */

static void target_learn(Doctor *doctor) {
        Target *target = &doctor->cloud->target;
        const cJSON *identity = NULL;
        const char *cluster = doctor->cluster, *arn = doctor->arn;

        /* What introspection does not say, the daemon may know from before. */
        if (json_get_object(doctor->status, "identity", &identity) >= 0) {
                if (!*cluster)
                        (void) json_get_string(identity, "cluster", &cluster);
                if (!*arn)
                        (void) json_get_string(identity, "container_instance", &arn);
        }
        if (*doctor->settings.cluster)
                cluster = doctor->settings.cluster;
        (void) snprintf(target->cluster, sizeof(target->cluster), "%s", cluster);
        (void) snprintf(target->arn, sizeof(target->arn), "%s", arn);
        (void) snprintf(target->instance_id, sizeof(target->instance_id), "%s", doctor->instance_id);
        (void) snprintf(target->group, sizeof(target->group), "%s", doctor->group);
}

/* The name of the role, where it is known, for a command. */
static const char *role_name(const Doctor *doctor, char buffer[static 65]) {
        return sscanf(aws_credentials_detail(doctor->credentials), "role %64[^, :]", buffer) == 1 ? buffer
                                                                                                  : "ROLE";
}

/* What the want of it costs. */
static const char *right_cost(Right right) {
        switch (right) {
        case RIGHT_ECS_DESCRIBE_CONTAINER_INSTANCES:
        case RIGHT_ECS_LIST_CONTAINER_INSTANCES:
        case RIGHT_ECS_DESCRIBE_CLUSTERS:
        case RIGHT_ASG_DESCRIBE_INSTANCES:
        case RIGHT_ASG_DESCRIBE_GROUPS:
        case RIGHT_ASG_DESCRIBE_ACTIVITIES:
        case RIGHT_ASG_DESCRIBE_REFRESHES: return "it only observes";
        case RIGHT_ECS_UPDATE_STATE:
        case RIGHT_ECS_PUT_ATTRIBUTES:
        case RIGHT_ASG_DETACH:
        case RIGHT_ASG_SET_HEALTH:
        case RIGHT_ASG_ENTER_STANDBY: return "nothing is drained or removed, by its patrol neither";
        case RIGHT_ECS_DELETE_ATTRIBUTES: return "it acts as usual, and empties attributes instead";
        case RIGHT_ECS_DEREGISTER:
                return "it acts as usual; the orphan stays in the cluster, and is reported";
        case RIGHT_EC2_STOP:
        case RIGHT_EC2_TERMINATE: return "it acts as usual; the orphan runs on, billed, and is reported";
        case RIGHT_CLOUDWATCH_PUT: return "it acts as usual, and publishes nothing";
        }
        return "";
}

static void right_settle(Doctor *doctor, CheckId id, const AwsAnswer *answer) {
        char role[65];

        if (answer->outcome == AWS_BAD_KEYS) {
                /* Its words may hold the session token: the canonical request is told in them. */
                cloud_keys_refused(doctor, answer->code);
                return;
        }
        if (answer->outcome == AWS_NO_KEYS) {
                check_skip_for(doctor, id, CHECK_ROLE);
                return;
        }
        switch (right_granted(answer->outcome)) {
        case GRANTED_YES: check_ok(doctor, id, "granted"); break;
        case GRANTED_NO:
                check_problem(doctor, id, "denied: %.400s. Without it %s",
                        *answer->message ? answer->message : answer->code,
                        right_cost((Right) (id - CHECK_RIGHTS)));
                check_fix(doctor, id,
                        "ecs-health-agent iam-policy > policy.json && aws iam put-role-policy "
                        "--role-name %s --policy-name ecs-health-agent --policy-document "
                        "file://policy.json",
                        role_name(doctor, role));
                break;
        case GRANTED_UNKNOWN:
                if (answer->outcome == AWS_THROTTLED) {
                        check_skip(doctor, id, "not known: throttled; try again later");
                        break;
                }
                check_problem(doctor, id, "not known: no answer of use (%s)",
                        *answer->code ? answer->code : aws_outcome_to_string(answer->outcome));
                check_fix(doctor, id,
                        "try again in a few minutes; if it stays: https://health.aws.amazon.com, "
                        "and the policy of the VPC's interface endpoint");
                break;
        }
}

static void learn_group(Doctor *doctor, const AwsAnswer *answer) {
        const char *name = NULL;

        if (answer->outcome != AWS_OK)
                return;
        doctor->member = true;
        name = xml_text(answer->xml,
                "DescribeAutoScalingInstancesResult/AutoScalingInstances/member/AutoScalingGroupName");
        (void) snprintf(doctor->group, sizeof(doctor->group), "%s", name ? name : "");
}

static void cloud_on_right(const AwsAnswer *answer, void *userdata) {
        CloudAsked *asked = userdata;
        Doctor *doctor = asked->doctor;
        CheckId id = CHECK_RIGHTS + asked->index;

        if (asked->index == RIGHT_ASG_DESCRIBE_INSTANCES)
                learn_group(doctor, answer);
        if (check_is_running(doctor, id))
                right_settle(doctor, id, answer);
}

/* What nobody would use is not missed. Return: whether it was skipped. */
static bool right_skip_idle(Doctor *doctor, CheckId id, Right right) {
        const Policy *policy = cloud_policy(doctor);

        if (right_used(right, policy))
                return false;
        check_skip(doctor, id,
                policy->action == ACTION_OBSERVE || policy->external
                        ? "not needed: nothing is acted on with these settings"
                        : "not needed: these settings never make that call");
        return true;
}

static void right_cannot_ask(Doctor *doctor, CheckId id, Right right) {
        if (right == RIGHT_CLOUDWATCH_PUT)
                check_skip_for(doctor, id, CHECK_SETTINGS);
        else if (right_service(right) == AWS_ECS)
                check_skip_for(doctor, id, CHECK_INTROSPECTION);
        else if (right == RIGHT_ASG_DESCRIBE_INSTANCES)
                check_skip_for(doctor, id, CHECK_METADATA);
        else if (doctor->member)
                check_skip(doctor, id, "not needed: this instance is in no Auto Scaling group");
        else
                check_skip_for(doctor, id, CHECK_RIGHTS + RIGHT_ASG_DESCRIBE_INSTANCES);
}

void cloud_right(Doctor *doctor, CheckId id) {
        const Right right = (Right) (id - CHECK_RIGHTS);
        CloudAsked *asked = &doctor->cloud->rights[right];
        const RightQuestion question = {
                .right = right,
                .target = &doctor->cloud->target,
                .name_space = doctor->results[CHECK_SETTINGS].state == CHECK_OK ? doctor->settings.name_space
                                                                                : NULL,
                .timeout = CLOUD_RIGHT_TIME,
                .once = true,
        };
        int r;

        if (right_skip_idle(doctor, id, right))
                return;
        if (!cloud_serves(doctor, right_service(right))) {
                check_skip_for(doctor, id, CHECK_ENDPOINTS);
                return;
        }
        target_learn(doctor);
        *asked = (CloudAsked){ .doctor = doctor, .index = right };
        r = right_call(doctor->aws, &question, cloud_on_right, asked, &asked->aws);
        if (r == -ENOENT)
                right_cannot_ask(doctor, id, right);
        else if (r < 0)
                check_failed(doctor, id, r);
}

/* Whether containers reach the instance role */

static void exposure_settle(Doctor *doctor, int hops) {
        DoctorCloud *cloud = doctor->cloud;
        const char *instance = *doctor->instance_id ? doctor->instance_id : "INSTANCE";
        const CheckId id = CHECK_ROLE_EXPOSURE;
        bool bridge = hops >= 2, awsvpc = !doctor->ecs.block_imds;

        cloud->exposure_source = sd_event_source_disable_unref(cloud->exposure_source);
        timer_disarm(cloud->exposure_timer);
        if (!check_is_running(doctor, id))
                return;
        if (hops == 0 && !awsvpc) {
                check_skip(doctor, id, "how far answers of %s travel could not be measured", metadata_url());
                return;
        }
        if (!bridge && !awsvpc) {
                check_ok(doctor, id,
                        "only tasks in the host's network reach the instance role: metadata answers "
                        "travel one hop, and awsvpc tasks are kept from them");
                return;
        }
        check_problem(doctor, id, "containers can take the instance role: %s%s%s",
                bridge ? "metadata answers travel two hops or more, into bridge networks" : "",
                bridge && awsvpc ? "; " : "",
                awsvpc ? "ECS_AWSVPC_BLOCK_IMDS is not true, so awsvpc tasks reach them" : "");
        check_fix(doctor, id, "give tasks roles of their own, then: %s%s%s%s%s",
                bridge ? CLOUD_OPTIONS_FIX " " : "", bridge ? instance : "",
                bridge ? " --http-put-response-hop-limit 1 (in the launch template: HttpPutResponseHopLimit)"
                       : "",
                bridge && awsvpc ? "; " : "",
                awsvpc ? "ECS_AWSVPC_BLOCK_IMDS=true in /etc/ecs/ecs.config and systemctl restart ecs" : "");
}

/* IP drops what came with a lower time to live than two: an answer that is still seen could have gone one further. */
static int exposure_send(int fd) {
        static const char request[] = "PUT " CLOUD_TOKEN_PATH " HTTP/1.1\r\nHost: 169.254.169.254\r\n"
                                      "X-aws-ec2-metadata-token-ttl-seconds: 1\r\nContent-Length: 0\r\n"
                                      "Connection: close\r\n\r\n";
        const int least = 2;
        struct sockaddr_storage address = {};
        socklen_t n = sizeof(address);

        if (getsockname(fd, (struct sockaddr *) &address, &n) < 0)
                return -errno;
        if (address.ss_family == AF_INET6) {
                if (setsockopt(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, &least, sizeof(least)) < 0)
                        return -errno;
        } else if (setsockopt(fd, IPPROTO_IP, IP_MINTTL, &least, sizeof(least)) < 0)
                return -errno;
        return send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == sizeof(request) - 1 ? 0 : -EIO;
}

static int exposure_on_event(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Doctor *doctor = userdata;
        char answer[16];
        ssize_t n;

        if (events & (EPOLLERR | EPOLLHUP)) {
                exposure_settle(doctor, 0);
                return 0;
        }
        if (events & EPOLLOUT) {
                (void) sd_event_source_set_io_events(source, EPOLLIN);
                if (exposure_send(fd) < 0)
                        exposure_settle(doctor, 0);
                return 0;
        }
        n = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
        exposure_settle(doctor,
                n > 12 && strncmp(answer, "HTTP/1.", 7) == 0 && strncmp(answer + 8, " 200", 4) == 0 ? 2 : 0);
        return 0;
}

static void exposure_on_timer(Timer *timer, Now now, void *userdata) {
        (void) timer;
        (void) now;
        exposure_settle(userdata, 1);
}

/* "http://169.254.169.254", "http://[fd00:ec2::254]:80" */
static int metadata_address(const char *url, struct sockaddr_storage *ret, socklen_t *ret_n) {
        struct sockaddr_in6 *six = (struct sockaddr_in6 *) ret;
        struct sockaddr_in *four = (struct sockaddr_in *) ret;
        uint64_t port = 80;
        char host[64], number[8];
        const char *end;
        size_t n;

        if (strncmp(url, "http://", 7) != 0)
                return -EINVAL;
        url += 7;
        end = *url == '[' ? strchr(++url, ']') : url + strcspn(url, ":/");
        n = end ? (size_t) (end - url) : 0;
        if (n == 0 || n >= sizeof(host))
                return -EINVAL;
        memcpy(host, url, n);
        host[n] = '\0';
        if (*end == ']')
                end++;
        if (*end == ':') {
                n = strcspn(++end, "/");
                if (n == 0 || n >= sizeof(number))
                        return -EINVAL;
                memcpy(number, end, n);
                number[n] = '\0';
                if (parse_u64(number, &port) < 0 || port > UINT16_MAX)
                        return -EINVAL;
        }
        *ret = (struct sockaddr_storage){};
        if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
                four->sin_family = AF_INET;
                four->sin_port = htons((uint16_t) port);
                *ret_n = sizeof(*four);
                return 0;
        }
        if (inet_pton(AF_INET6, host, &six->sin6_addr) != 1)
                return -EINVAL;
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t) port);
        *ret_n = sizeof(*six);
        return 0;
}

static int exposure_start(Doctor *doctor) {
        DoctorCloud *cloud = doctor->cloud;
        struct sockaddr_storage address;
        socklen_t n = 0;
        int r;

        r = metadata_address(metadata_url(), &address, &n);
        if (r < 0)
                return r;
        cloud->exposure = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (cloud->exposure < 0)
                return -errno;
        if (connect(cloud->exposure, (struct sockaddr *) &address, n) < 0 && errno != EINPROGRESS)
                return -errno;
        r = timer_new(&cloud->exposure_timer, doctor->event, "doctor-exposure", SPAN_MSEC(10),
                exposure_on_timer, doctor);
        if (r >= 0)
                r = timer_arm(
                        cloud->exposure_timer, mono_add(loop_now(doctor->event).mono, CLOUD_EXPOSURE_TIME));
        if (r >= 0)
                r = sd_event_add_io(doctor->event, &cloud->exposure_source, cloud->exposure, EPOLLOUT,
                        exposure_on_event, doctor);
        return r;
}

void cloud_role_exposure(Doctor *doctor, CheckId id) {
        (void) id;
        if (exposure_start(doctor) < 0)
                exposure_settle(doctor, 0);
}

/* Life */

int doctor_cloud_new(DoctorCloud **ret) {
        DoctorCloud *cloud = calloc(1, sizeof(*cloud));

        if (!cloud)
                return -ENOMEM;
        cloud->exposure = -1;
        *ret = cloud;
        return 0;
}

static void asked_done(CloudAsked *asked, size_t n) {
        for (size_t i = 0; i < n; i++) {
                (void) imds_call_free(asked[i].imds);
                (void) http_call_free(asked[i].http);
                (void) aws_call_free(asked[i].aws);
        }
}

DoctorCloud *doctor_cloud_free(DoctorCloud *cloud) {
        if (!cloud)
                return NULL;
        (void) alarms_free(cloud->alarms);
        asked_done(cloud->items, ELEMENTSOF(cloud->items));
        asked_done(cloud->endpoints, ELEMENTSOF(cloud->endpoints));
        asked_done(cloud->rights, ELEMENTSOF(cloud->rights));
        (void) http_call_free(cloud->proxy);
        sd_event_source_disable_unref(cloud->exposure_source);
        (void) timer_free(cloud->exposure_timer);
        closep(&cloud->exposure);
        free(cloud);
        return NULL;
}
