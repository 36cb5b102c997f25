# SPDX-License-Identifier: Apache-2.0
"""moto's server with signature checking on, an AWS that we did not write, and the little that it lacks for a look.

    with Moto() as moto:
        host = moto.populate("demo", "demo-asg", size=3)     # made through moto's own API, by boto3
        ... run something against moto.url with host.keys ...
        moto.calls                                           # every call, and whether its signature was verified

What is patched, since moto would not let the daemon get to its end; all else is moto's own:

    agentConnected             is always true there: set_connected() decides
    DescribeInstanceRefreshes  is not there (HTTP 500): answers that there are none
    PutAttributes              with a target type takes the target's short id only; AWS takes the ARN as well
    DeleteAttributes           deletes only if the value is named too; AWS wants it left out

What moto cannot show, and the tests of our own fake do: the filter of ListContainerInstances (all are listed), scaling
activities (always none), Detaching (a detach is done at once), the refusal of an unknown instance by DetachInstances
(answers 200), the freshness of a signature, throttling, the metadata service.
"""

import json
import threading
import urllib.parse

import boto3
from moto.autoscaling.responses import AutoScalingResponse
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.responses import ActionResult
from moto.ecs.models import EC2ContainerServiceBackend, ecs_backends
from moto.iam.access_control import IAMRequestBase
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ACCOUNT = "123456789012"
REGION = "us-east-1"
IMAGE = "ami-12c6146b"  # one of those that moto knows
ROLE = "ecsInstanceRole"

# The rights that the daemon needs and no other. moto names CloudWatch's by the signing name, "monitoring".
POLICY = [
    "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeInstanceRefreshes", "autoscaling:DescribeScalingActivities", "autoscaling:DetachInstances",
    "ec2:DescribeTags", "ec2:StopInstances",
    "ecs:DeleteAttributes", "ecs:DeregisterContainerInstance", "ecs:DescribeClusters", "ecs:DescribeContainerInstances",
    "ecs:ListContainerInstances",
    "ecs:PutAttributes", "ecs:UpdateContainerInstancesState", "monitoring:PutMetricData",
]
TRUST = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}

_current = threading.local()  # .call: the one that this thread answers


# -- what moto lacks ----------------------------------------------------------------------------------------------

def _describe_instance_refreshes(self):
    return ActionResult({"InstanceRefreshes": []})


def _short(change):
    def wrapper(self, cluster, attributes=None):
        return change(self, cluster, [dict(one, targetId=one["targetId"].rsplit("/", 1)[1])
                                      if "targetId" in one else one for one in attributes or []])
    return wrapper


def _delete_whatever_value(change):
    def wrapper(self, cluster, name, value=None, target_id=None, target_type=None):
        if value is None and target_id in self.container_instances.get(cluster, {}):
            value = self.container_instances[cluster][target_id].attributes.get(name)
        return change(self, cluster, name, value, target_id, target_type)
    return wrapper


def _recorded(check):
    def wrapper(self):
        check(self)  # raises what the client gets
        _current.call["verified"] = True
    return wrapper


def patch():
    AutoScalingResponse.describe_instance_refreshes = _describe_instance_refreshes
    ecs = EC2ContainerServiceBackend
    ecs.put_attributes, ecs.delete_attributes = _short(ecs.put_attributes), _short(ecs.delete_attributes)
    ecs._delete_attribute = _delete_whatever_value(ecs._delete_attribute)
    IAMRequestBase.check_signature = _recorded(IAMRequestBase.check_signature)


patch()


# -- the server ---------------------------------------------------------------------------------------------------

class Keys:
    """What the metadata service hands out of a role."""

    def __init__(self, access_key_id, secret_access_key, token):
        self.access_key_id, self.secret_access_key, self.token = access_key_id, secret_access_key, token


class Host:
    def __init__(self, cluster, group, instance, zone, arn, keys):
        self.cluster, self.group, self.instance, self.zone = cluster, group, instance, zone
        self.arn, self.keys = arn, keys


class Moto:
    """@tls: paths of a certificate and its key."""

    def __init__(self, tls=None):
        self.calls = []  # dicts: service, action, key, status, code, verified, params (JSON services and forms)
        self.scheme = "https" if tls else "http"
        self.server = make_server("127.0.0.1", 0, self._record(DomainDispatcherApplication(create_backend_app)),
                                  threaded=True, request_handler=_Quiet, ssl_context=tls)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.verify = tls[0] if tls else None
        self.admin = None

    def __enter__(self):
        self.thread.start()
        self._post("/moto-api/reset", b"")
        self.check_signatures(False)
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}"

    def client(self, service):
        """boto3's client of @service, as the administrator; before there is one, with keys that nobody checks."""
        key, secret = self.admin or ("testing", "testing")
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, aws_access_key_id=key,
                            aws_secret_access_key=secret, verify=self.verify)

    def check_signatures(self, on=True):
        self._post("/moto-api/reset-auth", b"0" if on else b"inf")

    def _post(self, path, body):
        from botocore.httpsession import URLLib3Session  # what boto3 brings along
        from botocore.awsrequest import AWSPreparedRequest
        answer = URLLib3Session(verify=self.verify or True).send(
            AWSPreparedRequest("POST", self.url + path, {}, body, False))
        assert answer.status_code == 200, answer.content

    def _record(self, application):
        """The application, with its calls kept."""
        def recorded(environ, start_response):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = _Input(body)
            call = _parse(environ, body)
            _current.call = call

            def start(status, headers, exc_info=None):
                call["status"] = int(status.split()[0])
                return start_response(status, headers, exc_info)

            answer = b"".join(application(environ, start))
            call["code"] = _code(answer) if call["status"] >= 400 else None
            if call["action"]:
                self.calls.append(call)
            return [answer]

        return recorded

    # -- setting the scene ---------------------------------------------------------------------------------------

    def populate(self, cluster, group, size=3):
        """A cluster, a group of @size instances that are registered with it, and a role whose keys the first one has;
        signatures are checked from here on. Return its Host."""
        keys = self._create_role()
        self._create_admin()
        self.client("ecs").create_cluster(clusterName=cluster)
        self.client("ec2").create_launch_template(LaunchTemplateName="host", LaunchTemplateData={
            "ImageId": IMAGE, "InstanceType": "t3.small"})
        scaling = self.client("autoscaling")
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=group, MinSize=0, MaxSize=2 * size, DesiredCapacity=size,
            LaunchTemplate={"LaunchTemplateName": "host"}, AvailabilityZones=[REGION + "a", REGION + "b"])
        members = self.members(group)
        arns = [self.client("ecs").register_container_instance(
            cluster=cluster, instanceIdentityDocument=json.dumps({"instanceId": one["InstanceId"]}),
        )["containerInstance"]["containerInstanceArn"] for one in members]
        self.check_signatures()
        del self.calls[:]
        return Host(cluster, group, members[0]["InstanceId"], members[0]["AvailabilityZone"], arns[0], keys)

    def _create_role(self):
        iam = self.client("iam")
        arn = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
        iam.put_role_policy(RoleName=ROLE, PolicyName="least", PolicyDocument=json.dumps({
            "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": POLICY, "Resource": "*"}]}))
        one = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="i-0")["Credentials"]
        return Keys(one["AccessKeyId"], one["SecretAccessKey"], one["SessionToken"])

    def _create_admin(self):
        iam = self.client("iam")
        iam.create_user(UserName="admin")
        iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=json.dumps({
            "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}))
        key = iam.create_access_key(UserName="admin")["AccessKey"]
        self.admin = key["AccessKeyId"], key["SecretAccessKey"]

    def deny(self, *actions):
        """Take rights from the role."""
        self.client("iam").put_role_policy(RoleName=ROLE, PolicyName="denied", PolicyDocument=json.dumps({
            "Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": list(actions), "Resource": "*"}]}))

    def set_connected(self, arn, connected):
        for cluster in ecs_backends[ACCOUNT][REGION].container_instances.values():
            if arn.rsplit("/", 1)[1] in cluster:
                cluster[arn.rsplit("/", 1)[1]].agent_connected = connected

    # -- asking --------------------------------------------------------------------------------------------------

    def members(self, group):
        groups = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])
        return groups["AutoScalingGroups"][0]["Instances"]

    def desired(self, group):
        groups = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])
        return groups["AutoScalingGroups"][0]["DesiredCapacity"]

    def container_instance(self, host):
        return self.client("ecs").describe_container_instances(
            cluster=host.cluster, containerInstances=[host.arn])["containerInstances"][0]

    def data(self):
        """What CloudWatch has stored, as moto keeps it."""
        return list(cloudwatch_backends[ACCOUNT][REGION].metric_data)

    def calls_by(self, keys, *actions):
        """Calls signed with @keys, of these actions or of all."""
        return [one for one in list(self.calls)
                if one["key"] == keys.access_key_id and (not actions or one["action"] in actions)]


class _Quiet(MotoRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as at AWS

    def log(self, *args):
        pass


class _Input:
    """A body that has been read already."""

    def __init__(self, body):
        self.body = body

    def read(self, n=-1):
        n = len(self.body) if n is None or n < 0 else n
        part, self.body = self.body[:n], self.body[n:]
        return part

    def readline(self, n=-1):
        end = self.body.find(b"\n") + 1 or len(self.body)
        return self.read(end if n is None or n < 0 else min(n, end))

    def __iter__(self):
        return iter(self.readline, b"")


def _parse(environ, body):
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split(",")[0].split("/")
    form = {}
    if target:
        action, params = target.partition(".")[2], json.loads(body or b"{}")
    else:
        form = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace")))
        action, params = form.get("Action"), form
    return {"service": credential[3] if len(credential) > 3 else None, "action": action, "params": params,
            "key": credential[0], "status": None, "code": None, "verified": False}


def _code(answer):
    """AWS's error code in a body of XML or JSON."""
    text = answer.decode("utf-8", "replace")
    if "<Code>" in text:
        return text.partition("<Code>")[2].partition("</Code>")[0]
    try:
        return json.loads(text)["__type"].rpartition("#")[2]
    except (ValueError, KeyError, TypeError):
        return text[:80]
