# SPDX-License-Identifier: Apache-2.0
"""The fake AWS and the fake metadata service: what they accept, refuse and answer."""

import http.client
import json
import pathlib
import socket
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree

import fake_sigv4
import pytest
from fake_aws import FakeAws
from fake_wire import SERVICES
from fake_world import IMPOSSIBLE

DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
ASG = "{http://autoscaling.amazonaws.com/doc/2011-01-01/}"


@pytest.fixture
def fake():
    with FakeAws() as one:
        one.own = one.populate(size=4)
        one.world.group("demo-asg").detach_seconds = 0.2
        yield one


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def xml(self):
        return ElementTree.fromstring(self.body)

    def text(self, path):
        return self.xml.findtext(".//" + "/".join(ASG + part for part in path.split("/")))

    @property
    def code(self):
        if self.body.startswith(b"{"):
            return self.json.get("__type", "").rpartition("#")[2]
        return next((one.text for one in self.xml.iter() if one.tag.endswith("Code")), "")


def call(fake, service, action, params, keys=None, now=None, region="us-east-1", change=None, timeout=10):
    """Sign and send one call. @change: function(headers) after signing, to spoil something."""
    protocol, mark, _ = SERVICES[service]
    headers = {"Host": f"127.0.0.1:{fake.port}"}
    if protocol.startswith("json"):
        headers["Content-Type"] = "application/x-amz-" + protocol.replace(" ", "-")
        headers["X-Amz-Target"] = f"{mark}.{action}"
        body = params if isinstance(params, bytes) else json.dumps(params).encode()
    else:
        headers["Content-Type"] = "application/x-www-form-urlencoded; charset=utf-8"
        body = urllib.parse.urlencode({"Action": action, "Version": mark, **params}).encode()
    signed = fake_sigv4.sign(keys or fake.keys, "POST", "/", headers, body, region, service, now)
    if change:
        change(signed)
    connection = http.client.HTTPConnection("127.0.0.1", fake.port, timeout=timeout)
    try:
        connection.request("POST", "/", body, signed)
        response = connection.getresponse()
        return Answer(response, response.read())
    finally:
        connection.close()


def ecs(fake, action, **params):
    return call(fake, "ecs", action, {"cluster": "demo", **params})


def asg(fake, action, **params):
    return call(fake, "autoscaling", action, {key.replace("_", "."): value for key, value in params.items()})


def detach(fake, instance=None, group="demo-asg", decrement="false"):
    return asg(fake, "DetachInstances", InstanceIds_member_1=instance or fake.own.ec2, AutoScalingGroupName=group,
               ShouldDecrementDesiredCapacity=decrement)


def wait_for(condition, timeout=5):
    ends = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.01)


# -- signatures -------------------------------------------------------------------------------------------------

def vectors():
    """Those with a path as all our calls have it; the daemon's signer is held against all of them in its unit test."""
    with open(DATA / "sigv4-vectors.json", encoding="utf-8") as file:
        table = json.load(file)
    return [{**table["common"], **one} for one in table["vectors"] if not one.get("raw_path")]


@pytest.mark.parametrize("vector", vectors(), ids=lambda one: one["name"])
def test_canonical_form_and_signature_are_those_of_the_official_vectors(vector):
    target = vector["path"] + ("?" + vector["query"] if vector.get("query") else "")
    date = vector["timestamp"].replace("-", "").replace(":", "")
    headers = [tuple(line.split(":", 1)) for line in vector["headers"]]
    headers = [one for one in headers if one[0].lower() != "x-amz-date"] + [("X-Amz-Date", date)]
    if vector.get("session_token") and not vector.get("omit_session_token"):
        headers.append(("X-Amz-Security-Token", vector["session_token"]))
    if vector.get("sign_body"):
        headers.append(("x-amz-content-sha256", vector["canonical_request"].rsplit("\n", 1)[1]))
    signed = vector["canonical_request"].split("\n")[-2].split(";")
    canonical = fake_sigv4.canonical_request(vector["method"], target, headers, signed,
                                             (vector.get("body") or "").encode())
    assert canonical == vector["canonical_request"]
    assert fake_sigv4.signature(vector["secret_access_key"], date, vector["region"], vector["service"],
                                canonical) == vector["signature"]


@pytest.mark.parametrize("service,action,params", [
    ("ecs", "DescribeClusters", {"clusters": ["demo"]}),
    ("autoscaling", "DescribeAutoScalingGroups", {}),
    ("ec2", "DescribeTags", {}),
    ("monitoring", "PutMetricData", {"Namespace": "X", "MetricData": [{"MetricName": "m", "Value": 1}]}),
])
def test_a_right_signature_is_accepted_and_a_wrong_secret_is_not(fake, service, action, params):
    assert call(fake, service, action, params).status == 200
    wrong = fake_sigv4.Keys(fake.keys.access_key_id, "wrong", fake.keys.token)
    refused = call(fake, service, action, params, keys=wrong)
    assert (refused.status, refused.code) == {
        "ecs": (400, "InvalidSignatureException"), "monitoring": (400, "InvalidSignatureException"),
        "autoscaling": (403, "SignatureDoesNotMatch"), "ec2": (401, "AuthFailure")}[service]
    assert [one["signed_ok"] for one in fake.calls] == [True, False]


def spoil(name, value):
    def change(headers):
        if value is None:
            del headers[name]
        else:
            headers[name] = value
    return change


@pytest.mark.parametrize("what,options,code", [
    ("no signature", {"change": spoil("Authorization", None)}, "MissingAuthenticationToken"),
    ("half a signature", {"change": spoil("Authorization", "AWS4-HMAC-SHA256 Credential=x")}, "IncompleteSignature"),
    ("no token", {"change": spoil("X-Amz-Security-Token", None)}, "SignatureDoesNotMatch"),
    ("other token", {"change": spoil("X-Amz-Security-Token", "other")}, "InvalidClientTokenId"),
    ("other date", {"change": spoil("X-Amz-Date", "20200101T000000Z")}, "SignatureDoesNotMatch"),
    ("other content", {"change": spoil("Content-Type", "application/x-www-form-urlencoded")}, "SignatureDoesNotMatch"),
    ("unsigned header", {"change": spoil("X-Amz-Extra", "1")}, "SignatureDoesNotMatch"),
    ("other region", {"region": "eu-west-1"}, "SignatureDoesNotMatch"),
    ("too old", {"now": time.time() - 400}, "SignatureDoesNotMatch"),
    ("too new", {"now": time.time() + 7200}, "SignatureDoesNotMatch"),
    ("unknown key", {"keys": fake_sigv4.Keys("ASIAUNKNOWN", "s", "t")}, "InvalidClientTokenId"),
])
def test_a_spoilt_signature_is_refused_by_its_name(fake, what, options, code):
    refused = call(fake, "autoscaling", "DescribeAutoScalingGroups", {}, **options)
    assert refused.code == code, what
    assert fake.calls[-1]["signed_ok"] is False


def test_rotated_keys_expire(fake):
    old = fake.keys
    fake.rotate_keys()
    assert call(fake, "ecs", "DescribeClusters", {}, keys=old).code == "ExpiredTokenException"
    assert call(fake, "autoscaling", "DescribeAutoScalingGroups", {}, keys=old).code == "ExpiredToken"
    assert call(fake, "autoscaling", "DescribeAutoScalingGroups", {}).status == 200


def test_a_skewed_clock_refuses_and_shows_itself_in_the_date_header(fake):
    fake.skew(3600)
    refused = ecs(fake, "DescribeClusters")
    assert refused.code == "InvalidSignatureException" and "Signature expired" in refused.json["message"]
    shown = time.mktime(time.strptime(refused.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    assert abs(shown - time.time() - 3600) < 5
    assert call(fake, "ecs", "DescribeClusters", {}, now=time.time() + 3600).status == 200


# -- ECS --------------------------------------------------------------------------------------------------------

def test_container_instances_are_described_by_arn_and_by_id_and_unknown_ones_are_missing(fake):
    arn = fake.own.arn
    answer = ecs(fake, "DescribeContainerInstances", containerInstances=[arn, "0" * 32])
    one, = answer.json["containerInstances"]
    assert one["containerInstanceArn"] == arn and one["agentConnected"] is False and one["status"] == "ACTIVE"
    assert one["tags"] == [] and "healthStatus" not in one
    assert {"name": "ecs.availability-zone", "value": "us-east-1a"} in one["attributes"]
    assert b"E9" in answer.body  # times come with an exponent
    missing, = answer.json["failures"]
    assert missing == {"arn": f"arn:aws:ecs:us-east-1:123456789012:container-instance/demo/{'0' * 32}",
                       "reason": "MISSING"}
    more = ecs(fake, "DescribeContainerInstances", containerInstances=[arn.rsplit("/", 1)[1]],
               include=["TAGS", "CONTAINER_INSTANCE_HEALTH"]).json["containerInstances"][0]
    assert more["healthStatus"]["overallStatus"] == "OK"


def test_lists_are_filtered_and_paged(fake):
    arns = ecs(fake, "ListContainerInstances", filter="agentConnected==false").json
    assert arns == {"containerInstanceArns": [fake.own.arn]}
    by_id = ecs(fake, "ListContainerInstances", filter=f"ec2InstanceId=='{fake.own.ec2}'").json
    assert by_id["containerInstanceArns"] == [fake.own.arn]
    seen, token = [], {}
    while token is not None:
        page = ecs(fake, "ListContainerInstances", maxResults=3, **token).json
        seen += page["containerInstanceArns"]
        token = {"nextToken": page["nextToken"]} if "nextToken" in page else None
    assert len(seen) == len(set(seen)) == 4
    assert ecs(fake, "ListContainerInstances", filter="nonsense").code == "InvalidParameterException"
    assert call(fake, "ecs", "ListContainerInstances", {"cluster": "no"}).code == "ClusterNotFoundException"


@pytest.mark.parametrize("text,wanted", [
    ("agentConnected == false", [0]), ("agentConnected==true", [1, 2, 3]),
    ("attribute:ecs-health-agent.incident exists", [1]), ("attribute:a.b-c/d exists", []),
    ("attribute:ecs-health-agent.group == 00112233445566ff", [0, 2]), ("attribute:ecs-health-agent.group=='0'", []),
    ("agentConnected == false and attribute:ecs-health-agent.group == 00112233445566ff", [0]),
    ("agentConnected == true and attribute:ecs-health-agent.group == 00112233445566ff", [2]),
    ("agentConnected == false or attribute:ecs-health-agent.incident exists or attribute:ecs-health-agent.patrol exists",
     [0, 1, 3]),
    # "and" binds first
    ("attribute:ecs-health-agent.patrol exists or agentConnected == true and attribute:ecs-health-agent.group == "
     "00112233445566ff", [2, 3]),
])
def test_the_query_language_selects_by_connection_and_attributes(fake, text, wanted):
    hosts = list(fake.world.state.hosts.values())
    hosts[1].attributes["ecs-health-agent.incident"] = "removing 2026-11-23T20:00:00Z"
    hosts[3].attributes["ecs-health-agent.patrol"] = "removing 2026-11-23T20:00:00Z 0011223344556677"
    for number in 0, 2:
        hosts[number].attributes["ecs-health-agent.group"] = "00112233445566ff"
    assert ecs(fake, "ListContainerInstances", filter=text).json["containerInstanceArns"] == [
        hosts[number].arn for number in wanted]


@pytest.mark.parametrize("text", [
    "nonsense", "agentConnected == no", "agentConnected", "agentConnected == false and", "or agentConnected == false",
    "agentConnected == false AND attribute:x exists", "attribute:x", "attribute: exists", "attribute:x exist",
    "attribute:x == ", "attribute:x == a b", "(agentConnected == false)", "agentConnected == true or nonsense",
    "ec2InstanceId == 'i-1", "agentconnected == false",
])
def test_an_expression_that_is_none_is_refused(fake, text):
    assert ecs(fake, "ListContainerInstances", filter=text).code == "InvalidParameterException"


def test_clusters_come_with_count_and_tags(fake):
    with fake.world.live() as state:
        state.clusters["demo"].tags["ecs-health-agent"] = "off"
    answer = call(fake, "ecs", "DescribeClusters", {"clusters": ["demo", "no"], "include": ["TAGS"]}).json
    assert answer["clusters"][0]["registeredContainerInstancesCount"] == 4
    assert answer["clusters"][0]["tags"] == [{"key": "ecs-health-agent", "value": "off"}]
    assert answer["failures"][0]["reason"] == "MISSING"


def test_draining_and_back(fake):
    for status in ("DRAINING", "ACTIVE"):
        answer = ecs(fake, "UpdateContainerInstancesState", containerInstances=[fake.own.arn], status=status).json
        assert answer["containerInstances"][0]["status"] == status and fake.own.status == status
    probe = ecs(fake, "UpdateContainerInstancesState", containerInstances=["0" * 32], status="DRAINING")
    assert probe.status == 200 and probe.json["failures"][0]["reason"] == "MISSING"
    assert not fake.calls[-1]["effect"]  # a probe changes nothing
    assert ecs(fake, "UpdateContainerInstancesState", containerInstances=[fake.own.arn],
               status="INACTIVE").code == "InvalidParameterException"


def test_attributes_are_set_and_deleted_and_checked(fake):
    name = "ecs-health-agent.incident"
    put = {"name": name, "value": "removing 1795440000", "targetType": "container-instance", "targetId": fake.own.arn}
    assert ecs(fake, "PutAttributes", attributes=[put]).json["attributes"] == [put]
    assert fake.own.attributes[name] == "removing 1795440000"
    assert ecs(fake, "DeleteAttributes", attributes=[{"name": name, "targetId": fake.own.arn}]).status == 200
    assert name not in fake.own.attributes
    both = [dict(put, name="ecs-health-agent." + one) for one in ("incident", "patrol")]
    assert ecs(fake, "PutAttributes", attributes=both).json["attributes"] == both
    shown = ecs(fake, "DescribeContainerInstances", containerInstances=[fake.own.arn]).json["containerInstances"][0]
    assert all({"name": one["name"], "value": one["value"]} in shown["attributes"] for one in both)
    assert ecs(fake, "DeleteAttributes", attributes=[
        {"name": one["name"], "targetId": fake.own.arn} for one in both]).status == 200
    assert not any(one.startswith("ecs-health-agent") for one in fake.own.attributes)
    unknown = ecs(fake, "PutAttributes", attributes=[dict(put, targetId="0" * 32)])
    assert (unknown.status, unknown.code) == (400, "TargetNotFoundException")
    for bad in ({"value": "a,b"}, {"value": " a"}, {"value": ""}, {"name": "a b"}, {"value": "x" * 129}):
        assert ecs(fake, "PutAttributes", attributes=[dict(put, **bad)]).code == "InvalidParameterException", bad


def test_deregistering_with_force_takes_an_instance_away_and_its_tasks_with_it(fake):
    again = lambda **more: ecs(fake, "DeregisterContainerInstance", containerInstance=fake.own.arn, **more)  # noqa: E731
    for refused in (again(), again(force=False)):
        assert refused.code == "InvalidParameterException" and b"running tasks" in refused.body
    assert fake.own.status == "ACTIVE" and fake.changes() == []
    assert again(force=True).json["containerInstance"]["status"] == fake.own.status == "INACTIVE"
    assert fake.own.arn not in ecs(fake, "ListContainerInstances").json["containerInstanceArns"]
    assert fake.own.arn not in ecs(fake, "ListContainerInstances", filter="agentConnected==false").json[
        "containerInstanceArns"]
    assert again(force=True).code == "InvalidParameterException"
    assert ecs(fake, "DeregisterContainerInstance", containerInstance="0" * 32,
               force=True).code == "InvalidParameterException"
    assert [name for name, _ in fake.changes()] == ["DeregisterContainerInstance"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"cluster":NaN}', b'{"a":1,"a":2}', b"\xff"])
def test_what_is_no_json_object_is_refused(fake, body):
    refused = call(fake, "ecs", "DescribeClusters", body)
    assert (refused.status, refused.code) == (400, "SerializationException")


# -- Auto Scaling -------------------------------------------------------------------------------------------------

def test_instances_are_described_while_they_belong_to_a_group(fake):
    answer = asg(fake, "DescribeAutoScalingInstances", InstanceIds_member_1=fake.own.ec2)
    assert answer.text("AutoScalingInstances/member/LifecycleState") == "InService"
    assert answer.text("AutoScalingInstances/member/HealthStatus") == "HEALTHY"
    unknown = asg(fake, "DescribeAutoScalingInstances", InstanceIds_member_1="i-0123456789abcdef0")
    assert unknown.status == 200 and unknown.xml.find(f".//{ASG}AutoScalingInstances") is not None
    assert unknown.text("AutoScalingInstances/member/InstanceId") is None


def test_groups_leave_their_instances_out_on_demand(fake):
    fake.world.suspend("demo-asg", "Launch")
    with fake.world.live() as state:
        state.groups["demo-asg"].tags["ecs-health-agent"] = "off"
        state.groups["demo-asg"].weights = {"m5.large": 1, "m5.xlarge": 2}
    whole = asg(fake, "DescribeAutoScalingGroups", AutoScalingGroupNames_member_1="demo-asg")
    assert len(whole.xml.findall(f".//{ASG}Instances/{ASG}member")) == 4
    short = asg(fake, "DescribeAutoScalingGroups", AutoScalingGroupNames_member_1="demo-asg", IncludeInstances="false")
    assert short.xml.find(f".//{ASG}Instances") is None
    assert short.text("DesiredCapacity") == "4" and short.text("MaxSize") == "8"
    assert short.text("SuspendedProcesses/member/ProcessName") == "Launch"
    assert short.text("Tags/member/Key") == "ecs-health-agent" and short.text("Tags/member/Value") == "off"
    assert [one.text for one in short.xml.findall(f".//{ASG}AvailabilityZones/{ASG}member")] == [
        "us-east-1a", "us-east-1b"]
    assert [one.text for one in short.xml.iter(ASG + "WeightedCapacity")] == ["1", "2"]
    nothing = asg(fake, "DescribeAutoScalingGroups", AutoScalingGroupNames_member_1="no")
    assert nothing.status == 200 and nothing.xml.find(f".//{ASG}AutoScalingGroups/{ASG}member") is None


def test_detach_takes_its_time_and_brings_a_replacement(fake):
    ident, before = fake.own.ec2, set(fake.world.state.instances)
    answer = detach(fake)
    assert answer.text("Activities/member/StatusCode") == "InProgress"
    assert answer.text("Activities/member/Progress") == "50"
    assert answer.text("Activities/member/Description") == f"Detaching EC2 instance: {ident}"
    assert "was detached in response to a user request" in answer.text("Activities/member/Cause")
    assert asg(fake, "DescribeAutoScalingInstances",
               InstanceIds_member_1=ident).text("AutoScalingInstances/member/LifecycleState") == "Detaching"
    again = detach(fake)
    assert again.code == "ValidationError" and "is not in InService or Standby" in again.text("Message")
    wait_for(lambda: fake.world.instance(ident).group is None)
    gone = detach(fake)
    assert gone.code == "ValidationError" and "is not part of Auto Scaling group demo-asg" in gone.text("Message")
    assert fake.world.group("demo-asg").desired == 4

    new, = set(fake.world.state.instances) - before
    wait_for(lambda: fake.world.host(new) and fake.world.host(new).agent_connected)
    assert fake.world.instance(new).lifecycle == "InService"
    texts = [one.text for one in asg(fake, "DescribeScalingActivities",
                                     AutoScalingGroupName="demo-asg").xml.iter(ASG + "Description")]
    assert texts == [f"Launching a new EC2 instance: {new}", f"Detaching EC2 instance: {ident}"]
    assert [name for name, _ in fake.changes()] == ["DetachInstances"]
    assert len(fake.calls_of("DetachInstances", instance=ident, ok=True)) == 1
    assert len(fake.calls_of("DetachInstances", instance=ident, code="ValidationError")) == 2


def test_detach_refuses_what_it_should(fake):
    assert detach(fake, IMPOSSIBLE).code == "ValidationError"
    assert detach(fake, "nonsense").code == "ValidationError"
    assert detach(fake, group="no").code == "ValidationError"
    assert detach(fake, decrement="").code == "ValidationError"
    fake.world.group("demo-asg").min = 4
    assert detach(fake, decrement="true").code == "ValidationError"
    fake.world.instance(fake.own.ec2).lifecycle = "Pending"
    assert detach(fake).code == "ValidationError"
    assert fake.world.group("demo-asg").activities == [] and fake.changes() == []


def test_a_suspended_launch_brings_no_replacement_until_it_is_resumed(fake):
    fake.world.suspend("demo-asg", "Launch")
    detach(fake)
    wait_for(lambda: fake.world.instance(fake.own.ec2).group is None)
    assert len(fake.world.state.members("demo-asg")) == 3
    fake.world.resume("demo-asg", "Launch")
    wait_for(lambda: len(fake.world.state.members("demo-asg")) == 4)


def lifecycle(fake, instance=None):
    return fake.world.instance(instance or fake.own.ec2).lifecycle


def in_service(fake):
    with fake.world.live() as state:
        return sum(one.lifecycle == "InService" for one in state.members("demo-asg"))


def activities(fake):
    """(description, cause) of the group's activities, newest first."""
    answer = asg(fake, "DescribeScalingActivities", AutoScalingGroupName="demo-asg").xml
    return [(one.findtext(ASG + "Description"), one.findtext(ASG + "Cause"))
            for one in answer.findall(f".//{ASG}Activities/{ASG}member")]


def standby(fake, action="EnterStandby", **more):
    return asg(fake, action, InstanceIds_member_1=fake.own.ec2, AutoScalingGroupName="demo-asg", **more)


def test_standby_keeps_an_instance_in_its_group_and_brings_a_replacement(fake):
    assert standby(fake).code == "ValidationError"
    answer = standby(fake, ShouldDecrementDesiredCapacity="false")
    assert answer.text("Activities/member/StatusCode") == "InProgress" and lifecycle(fake) == "EnteringStandby"
    again = standby(fake, ShouldDecrementDesiredCapacity="false")
    assert again.code == "ValidationError" and "is not in InService" in again.text("Message")
    wait_for(lambda: lifecycle(fake) == "Standby")
    assert fake.world.instance(fake.own.ec2).target == "Standby" and fake.world.group("demo-asg").desired == 4
    launch, move = activities(fake)
    assert launch[0].startswith("Launching a new EC2 instance: ")
    assert move[0] == f"Moving EC2 instance to Standby: {fake.own.ec2}" and "response to a user request" in move[1]
    wait_for(lambda: in_service(fake) == 4)

    assert standby(fake, "ExitStandby").status == 200 and lifecycle(fake) == "Pending"
    wait_for(lambda: lifecycle(fake) == "InService")
    assert fake.world.group("demo-asg").desired == 5
    assert activities(fake)[0][0] == f"Moving EC2 instance out of Standby: {fake.own.ec2}"
    assert standby(fake, "ExitStandby").code == "ValidationError"


def unhealthy(fake, health="Unhealthy", instance=None):
    return asg(fake, "SetInstanceHealth", InstanceId=instance or fake.own.ec2, HealthStatus=health,
               ShouldRespectGracePeriod="false")


def test_an_unhealthy_instance_is_terminated_and_replaced(fake):
    assert unhealthy(fake).status == 200
    shown = asg(fake, "DescribeAutoScalingInstances", InstanceIds_member_1=fake.own.ec2)
    assert shown.text("AutoScalingInstances/member/HealthStatus") == "UNHEALTHY"
    assert shown.text("AutoScalingInstances/member/LifecycleState") == "Terminating"
    wait_for(lambda: lifecycle(fake) is None)
    one = fake.world.instance(fake.own.ec2)
    assert (one.power, one.target) == ("terminated", "Terminated") and fake.world.group("demo-asg").desired == 4
    assert (f"Terminating EC2 instance: {fake.own.ec2}", ) == activities(fake)[1][:1]
    assert "was taken out of service in response to a user health-check." in activities(fake)[1][1]
    wait_for(lambda: in_service(fake) == 4)
    assert unhealthy(fake).code == "ValidationError"  # no member any more


def test_health_that_cannot_be_set_is_refused_and_a_suspended_group_replaces_nobody(fake):
    for health, instance in (("Sick", None), ("Unhealthy", IMPOSSIBLE), ("Unhealthy", "nonsense")):
        assert unhealthy(fake, health, instance).code == "ValidationError"
    assert fake.changes() == []
    fake.world.suspend("demo-asg", "ReplaceUnhealthy")
    assert unhealthy(fake).status == 200 and lifecycle(fake) == "InService" and activities(fake) == []
    assert unhealthy(fake, "Healthy").status == 200 and fake.world.instance(fake.own.ec2).health == "Healthy"


def test_an_operator_attaches_what_was_detached(fake):
    detach(fake)
    wait_for(lambda: lifecycle(fake) is None)
    fake.world.attach("demo-asg", fake.own.ec2)
    wait_for(lambda: lifecycle(fake) == "InService")
    one = fake.world.instance(fake.own.ec2)
    assert one.target == "InService" and one.group == "demo-asg" and fake.world.group("demo-asg").desired == 5
    assert activities(fake)[0][0] == f"Attaching an existing EC2 instance: {fake.own.ec2}"


def test_activities_are_paged_and_bounded_in_time(fake):
    now = time.time()
    for age in range(25):
        fake.world.add_activity("demo-asg", f"Detaching EC2 instance: i-{age:017x}", "At ...", now - 60 * age)
    first = asg(fake, "DescribeScalingActivities", AutoScalingGroupName="demo-asg", MaxRecords="20")
    assert len(list(first.xml.iter(ASG + "ActivityId"))) == 20
    rest = asg(fake, "DescribeScalingActivities", AutoScalingGroupName="demo-asg", MaxRecords="20",
               NextToken=first.text("NextToken"))
    assert len(list(rest.xml.iter(ASG + "ActivityId"))) == 5 and rest.text("NextToken") is None
    assert asg(fake, "DescribeScalingActivities", AutoScalingGroupName="demo-asg", MaxRecords="10",
               NextToken=first.text("NextToken")).code == "InvalidNextToken"  # the token of another question
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 600))
    recent = asg(fake, "DescribeScalingActivities", AutoScalingGroupName="demo-asg",
                 Filters_member_1_Name="StartTimeLowerBound", Filters_member_1_Values_member_1=since)
    assert len(list(recent.xml.iter(ASG + "ActivityId"))) in (10, 11)
    assert asg(fake, "DescribeScalingActivities", AutoScalingGroupName="demo-asg",
               MaxRecords="101").code == "ValidationError"


def test_refreshes_are_listed(fake):
    with fake.world.live() as state:
        state.groups["demo-asg"].refreshes.append({"InstanceRefreshId": "r-1", "Status": "InProgress"})
    answer = asg(fake, "DescribeInstanceRefreshes", AutoScalingGroupName="demo-asg")
    assert answer.text("InstanceRefreshes/member/Status") == "InProgress"


def test_ec2_tags_are_filtered(fake):
    answer = call(fake, "ec2", "DescribeTags", {
        "Filter.1.Name": "resource-id", "Filter.1.Value.1": fake.own.ec2, "Filter.2.Name": "key",
        "Filter.2.Value.1": "aws:autoscaling:groupName"})
    assert b"<value>demo-asg</value>" in answer.body and answer.headers["Transfer-Encoding"] == "chunked"


def ec2(fake, action, instance=None, **more):
    return call(fake, "ec2", action, {"InstanceId.1": instance or fake.own.ec2, **more})


def power(fake):
    """Brought up to date by the look."""
    return fake.world.instance(fake.own.ec2).power


@pytest.mark.parametrize("action,states", [
    ("StopInstances", ("stopping", "stopped")), ("TerminateInstances", ("shutting-down", "terminated"))])
def test_instances_are_stopped_and_terminated(fake, action, states):
    fake.world.set_connected(fake.own.arn, True)
    assert ec2(fake, action, DryRun="false").status == 200 and power(fake) == states[0]
    wait_for(lambda: power(fake) == states[1])
    assert not fake.own.agent_connected
    assert f"<name>{states[1]}</name>".encode() in ec2(fake, "TerminateInstances").body or action == "StopInstances"


@pytest.mark.parametrize("action", ["StopInstances", "TerminateInstances"])
def test_a_dry_run_says_whether_it_may_and_changes_nothing(fake, action):
    may = ec2(fake, action, DryRun="true")
    assert (may.status, may.code) == (412, "DryRunOperation")
    fake.deny(action)
    for more in ({"DryRun": "true"}, {}):
        refused = ec2(fake, action, **more)
        assert (refused.status, refused.code) == (403, "UnauthorizedOperation")
    fake.clear()
    assert ec2(fake, action, IMPOSSIBLE, DryRun="true").code == "InvalidInstanceID.NotFound"
    assert ec2(fake, action, "nonsense").code == "InvalidInstanceID.Malformed"
    assert power(fake) == "running" and fake.changes() == []


def test_a_spot_instance_is_not_stopped_but_terminated(fake):
    fake.world.instance(fake.own.ec2).spot = True
    assert imds(fake, "/latest/meta-data/instance-life-cycle", token_of(fake)).body == b"spot"
    assert ec2(fake, "StopInstances").code == "UnsupportedOperation" and power(fake) == "running"
    assert ec2(fake, "StopInstances", DryRun="true").code == "DryRunOperation"
    assert ec2(fake, "TerminateInstances").status == 200 and power(fake) == "shutting-down"


def test_calls_tell_who_made_them_where_an_instance_has_keys_of_its_own(fake):
    other = next(one.ec2 for one in fake.world.state.hosts.values() if one is not fake.own)
    own = fake.add_imds(other)
    assert json.loads(own.credentials())["AccessKeyId"] == own.keys.access_key_id != fake.keys.access_key_id
    assert own.item("/latest/meta-data/instance-id") == other
    call(fake, "ecs", "DescribeClusters", {}, keys=own.keys)
    call(fake, "ecs", "DescribeClusters", {})
    assert [one["caller"] for one in fake.calls] == [other, None]


# -- CloudWatch ---------------------------------------------------------------------------------------------------

def put(fake, *data, namespace="ECS/InstanceHealth"):
    return call(fake, "monitoring", "PutMetricData", {"Namespace": namespace, "MetricData": list(data)})


def test_good_data_are_kept_one_by_one(fake):
    at = int(time.time()) - 60
    stats = {"SampleCount": 6, "Sum": 6.0, "Minimum": 1, "Maximum": 1}
    dims = [{"Name": "ClusterName", "Value": "demo"}]
    assert put(fake, {"MetricName": "heartbeat", "Value": 1, "Unit": "Count", "Timestamp": at, "Dimensions": dims},
               {"MetricName": "ecs_agent_connected", "StatisticValues": stats, "Timestamp": at}).json == {}
    one, = fake.metrics_of("heartbeat", ClusterName="demo")
    assert (one.value, one.unit, one.timestamp, one.namespace) == (1, "Count", at, "ECS/InstanceHealth")
    assert fake.metrics_of("ecs_agent_connected")[0].stats == stats


@pytest.mark.parametrize("bad", [
    {"Unit": "Furlongs"}, {"Value": 2.0 ** 361}, {"Value": -2.0 ** 361}, {"Value": "1"}, {"Value": None},
    {"Timestamp": time.time() - 15 * 86400}, {"Timestamp": time.time() + 86400}, {"Timestamp": "2026-08-24T12:00:00Z"},
    {"Dimensions": [{"Name": f"n{n}", "Value": "v"} for n in range(31)]}, {"Dimensions": [{"Name": "n", "Value": ""}]},
    {"Dimensions": [{"Name": "n", "Value": "v\u00e4"}]}, {"StorageResolution": 5}, {"MetricName": ""},
    {"StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 1, "Maximum": 1}},
])
def test_one_bad_datum_refuses_them_all(fake, bad):
    good = {"MetricName": "heartbeat", "Value": 1}
    refused = put(fake, good, {**good, **bad})
    assert refused.status == 400 and fake.metrics == []
    if refused.code != "SerializationException":
        assert refused.headers["x-amzn-query-error"].endswith(";Sender")


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"1e999"])
def test_numbers_that_are_none_never_pass(fake, value):
    body = b'{"Namespace":"X","MetricData":[{"MetricName":"m","Value":' + value + b"}]}"
    assert call(fake, "monitoring", "PutMetricData", body).status == 400


def test_namespaces_and_sizes_are_limited(fake):
    good = {"MetricName": "heartbeat", "Value": 1}
    assert put(fake, good, namespace="AWS/ECS").status == 400
    assert put(fake, good, namespace=":x").status == 400
    assert put(fake, *[good] * 1001).status == 400
    assert put(fake, *[good] * 1000).status == 200
    assert put(fake, *[{**good, "MetricName": "x" * 250, "Dimensions": [{"Name": "n", "Value": "v" * 1000}]}] * 900
               ).status == 413


# -- faults -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind,ecs_code,asg_code,asg_status", [
    ("throttled", "ThrottlingException", "Throttling", 400),
    ("expired", "ExpiredTokenException", "ExpiredToken", 403),
    ("denied", "AccessDeniedException", "AccessDenied", 403),
    ("contention", "UpdateInProgressException", "ResourceContention", 500),
    ("refuse", "InvalidParameterException", "ValidationError", 400),
    ("status", "ServerException", "InternalFailure", 500),
])
def test_faults_have_the_services_own_codes(fake, kind, ecs_code, asg_code, asg_status):
    fake.fault("*", kind, count=2)
    assert ecs(fake, "DescribeClusters", clusters=["demo"]).code == ecs_code
    refused = detach(fake)
    assert (refused.code, refused.status) == (asg_code, asg_status)
    assert fake.changes() == [] and fake.calls[-1]["faults"] == [kind]
    assert ecs(fake, "DescribeClusters", clusters=["demo"]).status == 200  # the count is used up


def test_faults_are_for_their_action_until_cleared(fake):
    fake.deny("DetachInstances")
    assert detach(fake).code == "AccessDenied"
    assert asg(fake, "DescribeAutoScalingGroups").status == 200
    fake.clear()
    assert detach(fake).status == 200


def test_html_garbage_and_truncation_are_bodies_that_do_not_parse(fake):
    fake.fault("DescribeClusters", "html", count=1, status=502)
    page = ecs(fake, "DescribeClusters")
    assert page.status == 502 and page.body.startswith(b"<!DOCTYPE html>")
    for kind in ("garbage", "truncated", "empty"):
        fake.fault("DescribeClusters", kind, count=1)
        with pytest.raises(ValueError):
            ecs(fake, "DescribeClusters").json


def test_cut_answers_come_after_the_effect(fake):
    fake.fault("DetachInstances", "cut_before_effect", count=1)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        detach(fake)
    assert fake.changes() == []
    fake.fault("DetachInstances", "cut_after_effect", count=1)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        detach(fake)
    assert [name for name, _ in fake.changes()] == ["DetachInstances"]
    fake.fault("DescribeAutoScalingGroups", "cut", count=1)
    with pytest.raises(http.client.IncompleteRead):
        asg(fake, "DescribeAutoScalingGroups")


def test_slow_answers_are_late_and_hanging_ones_never_come(fake):
    fake.fault("DescribeClusters", "slow", count=1, seconds=0.3)
    began = time.monotonic()
    assert ecs(fake, "DescribeClusters").status == 200 and time.monotonic() - began >= 0.3
    fake.fault("DetachInstances", "hang_after_effect")
    with pytest.raises(socket.timeout):
        call(fake, "autoscaling", "DetachInstances", {
            "InstanceIds.member.1": fake.own.ec2, "AutoScalingGroupName": "demo-asg",
            "ShouldDecrementDesiredCapacity": "false"}, timeout=0.3)
    assert len(fake.changes()) == 1


def test_stale_reads_show_the_past(fake):
    fault = fake.fault("DescribeContainerInstances", "stale", seconds=60)
    fake.world.set_connected(fake.own.arn, True)
    ask = lambda: ecs(fake, "DescribeContainerInstances",  # noqa: E731
                      containerInstances=[fake.own.arn]).json["containerInstances"][0]["agentConnected"]
    assert ask() is False
    fault.seconds = 0.0
    assert ask() is True


# -- the metadata service -------------------------------------------------------------------------------------------

def imds(fake, path, token=None, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", fake.imds.server.port, timeout=5)
    try:
        if token:
            headers["X-aws-ec2-metadata-token"] = token
        connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
        response = connection.getresponse()
        return Answer(response, response.read())
    finally:
        connection.close()


def token_of(fake):
    return imds(fake, "/latest/api/token", method="PUT", X_aws_ec2_metadata_token_ttl_seconds="60").body.decode()


def test_metadata_needs_a_token(fake):
    assert imds(fake, "/latest/meta-data/instance-id").status == 401
    assert imds(fake, "/latest/meta-data/instance-id", "wrong").status == 401
    assert imds(fake, "/latest/api/token", method="PUT").status == 400
    assert imds(fake, "/2021-01-03/api/token", method="PUT", X_aws_ec2_metadata_token_ttl_seconds="60").status == 403
    assert imds(fake, "/latest/api/token", method="PUT", X_aws_ec2_metadata_token_ttl_seconds="60",
                X_Forwarded_For="10.0.0.1").status == 403
    token = token_of(fake)
    assert imds(fake, "/latest/meta-data/instance-id", token).body.decode() == fake.own.ec2
    fake.imds.expire_tokens()
    assert imds(fake, "/latest/meta-data/instance-id", token).status == 401


def test_metadata_items(fake):
    token = token_of(fake)
    meta = lambda path: imds(fake, "/latest/meta-data/" + path, token)  # noqa: E731
    for path, text in (("placement/region", "us-east-1"), ("placement/availability-zone", "us-east-1a"),
                       ("services/domain", "amazonaws.com"), ("services/partition", "aws"),
                       ("instance-life-cycle", "on-demand"), ("autoscaling/target-lifecycle-state", "InService")):
        assert meta(path).body.decode() == text
    for path in ("spot/instance-action", "tags/instance/Name", "events/recommendations/rebalance", "nonsense"):
        missing = meta(path)
        assert missing.status == 404 and b"404 - Not Found" in missing.body
    document = imds(fake, "/latest/dynamic/instance-identity/document", token).json
    assert document["region"] == "us-east-1" and document["instanceId"] == fake.own.ec2
    fake.imds.values["/latest/meta-data/spot/instance-action"] = '{"action":"terminate","time":"2026-11-23T00:00:00Z"}'
    assert meta("spot/instance-action").json["action"] == "terminate"


def test_metadata_credentials_sign_calls_and_lifecycle_follows_the_detach(fake):
    token = token_of(fake)
    role = imds(fake, "/latest/meta-data/iam/security-credentials/", token).body.decode()
    document = imds(fake, "/latest/meta-data/iam/security-credentials/" + role, token).json
    assert document["Code"] == "Success"
    keys = fake_sigv4.Keys(document["AccessKeyId"], document["SecretAccessKey"], document["Token"])
    assert call(fake, "autoscaling", "DescribeAutoScalingGroups", {}, keys=keys).status == 200
    detach(fake)
    wait_for(lambda: imds(fake, "/latest/meta-data/autoscaling/target-lifecycle-state", token).body == b"Detached")


def test_metadata_faults(fake):
    token = token_of(fake)
    fake.fault("imds", "status", count=1, status=503)
    assert imds(fake, "/latest/meta-data/instance-id", token).status == 503
    fake.fault("/latest/meta-data/autoscaling", "status", status=500)
    assert imds(fake, "/latest/meta-data/instance-id", token).status == 200
    assert imds(fake, "/latest/meta-data/autoscaling/target-lifecycle-state", token).status == 500


# -- as a process -----------------------------------------------------------------------------------------------------

def steer(fake, path, wish=None):
    connection = http.client.HTTPConnection("127.0.0.1", fake.port, timeout=5)
    try:
        connection.request("POST" if wish is not None else "GET", "/_fake/" + path,
                           json.dumps(wish) if wish is not None else None)
        response = connection.getresponse()
        return Answer(response, response.read())
    finally:
        connection.close()


def test_steering_over_http(fake):
    assert steer(fake, "fault", {"action": "DescribeClusters", "kind": "throttled", "count": 1}).status == 200
    assert ecs(fake, "DescribeClusters").code == "ThrottlingException"
    assert steer(fake, "connected", {"instance": fake.own.ec2, "connected": True}).status == 200
    assert fake.own.agent_connected
    assert steer(fake, "tag", {"group": "demo-asg", "key": "ecs-health-agent", "value": "off"}).status == 200
    assert steer(fake, "state").json["groups"]["demo-asg"]["tags"] == {"ecs-health-agent": "off"}
    assert [one["action"] for one in steer(fake, "calls").json] == ["DescribeClusters"]
    assert steer(fake, "fault", {"action": "X", "kind": "nonsense"}).status == 400
    assert steer(fake, "nonsense").status == 400
