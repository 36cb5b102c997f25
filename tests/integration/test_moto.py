# SPDX-License-Identifier: Apache-2.0
"""The real daemon against moto with signature checking on. Run with the Python of requirements-moto.txt; moto_server.py
says what of moto is patched and what it cannot show."""

import time

import pytest

pytest.importorskip("moto", reason="moto is not installed: see requirements-moto.txt")

from fake_control_plane import make_certificate  # noqa: E402
from moto_server import POLICY, Keys, Moto  # noqa: E402
from rig import PROC, Rig  # noqa: E402

NAMESPACE = "Test/InstanceHealth"

# name: (unit, value that each period must have, or None: any that makes sense)
GROUP_METRICS = {
    "heartbeat": ("Count", 1), "ecs_agent_connected": ("None", 1), "ecs_agent_disconnected_seconds": ("Seconds", 0),
    "ecs_agent_reconnects": ("Count", 0), "container_runtime_ping_time": ("Milliseconds", None),
    "mem_used_percent": ("Percent", 42.5), "mem_available_percent": ("Percent", 62.5),
    "swap_used_percent": ("Percent", 0), "mem_pressure_some_percent": ("Percent", 1.5),
    "mem_pressure_full_percent": ("Percent", 0.25), "oom_kills": ("Count", 0), "disk_used_percent": ("Percent", None),
    "disk_inodes_used_percent": ("Percent", None), "tasks_running": ("Count", 2), "tasks_stuck": ("Count", 0),
    "remediation_stage": ("None", 0), "remediation_held": ("Count", 0), "remediation_performed": ("Count", 0),
    "samples_dropped": ("Count", 0), "config_error": ("Count", 0),
}

DECIDING = {"DescribeClusters", "ListContainerInstances", "DescribeContainerInstances", "DescribeAutoScalingInstances",
            "DescribeAutoScalingGroups", "DescribeInstanceRefreshes", "DescribeScalingActivities"}
ACTING = {"PutAttributes", "UpdateContainerInstancesState", "DetachInstances"}


@pytest.fixture
def moto(tmp_path):
    with Moto(tls=make_certificate(tmp_path)) as server:
        yield server


class MotoRig(Rig):
    """A rig whose host is one of moto's, and whose AWS is moto over TLS. Ours are left: the metadata service, the ECS
    agent and the far end of its link, which moto's agentConnected follows unless @follow is false."""

    def __init__(self, moto, keys=None, environment=None, follow=True, **options):
        self.moto, self.wanted_keys, self.follow = moto, keys, follow
        self.host = moto.populate("demo", "demo-asg")
        super().__init__(environment=dict({
            "AWS_ENDPOINT_URL": moto.url, "AWS_CA_BUNDLE": moto.verify}, **environment or {}), daemon=False, **options)

    def start_agent(self, *more):
        if self.own.arn != self.host.arn:
            self._become(self.host)
        return super().start_agent(*more)

    def _become(self, host):
        """Our own host of the fake world is moto's from here on."""
        world = self.fake.world
        with world.live() as state:
            one = state.instances.pop(self.own.ec2)
            del state.hosts[self.own.arn]
            one.id, one.zone = host.instance, host.zone
            self.own.ec2, self.own.arn = host.instance, host.arn
            state.instances[one.id], state.hosts[self.own.arn] = one, self.own
        self.instance = self.fake.imds.instance = host.instance
        self.fake.keys = self.wanted_keys or host.keys
        self.control.on_connected = self._link

    def _link(self, arn, connected):
        self.fake.world.set_connected(arn, connected)
        if self.follow:
            self.moto.set_connected(arn, connected)

    def calls(self, *actions):
        return self.moto.calls_by(self.fake.keys, *actions)

    def in_group(self):
        return any(one["InstanceId"] == self.instance for one in self.moto.members(self.host.group))

    def real_detaches(self):
        """All but the probe of the right, which names an instance that cannot exist."""
        return [one for one in self.calls("DetachInstances")
                if one["params"]["InstanceIds.member.1"] == self.instance]

    def drains(self):
        return [one for one in self.calls("UpdateContainerInstancesState") if one["params"]["status"] == "DRAINING"]

    def stage(self):
        return (self.status() or {}).get("stage", {}).get("name")

    def problems(self):
        return " ".join((self.status() or {}).get("problems", []))


def dims_of(datum):
    return {one.name: one.value for one in datum.dimensions}


def test_moto_verifies_every_call_from_the_drop_to_the_end_of_the_detach(moto):
    with MotoRig(moto) as rig:
        before = len(moto.members("demo-asg"))
        rig.start_daemon()
        rig.wait_for(lambda: rig.calls("PutMetricData"), 20, "the first metrics")
        rig.drop_link()
        rig.wait_for(lambda: not rig.in_group(), 40, "our instance out of moto's group")
        rig.wait_for(lambda: rig.stage() == "removed", 20, "the end in status")

        calls = rig.calls()
        assert {one["action"] for one in calls} >= DECIDING | ACTING | {"PutMetricData"}
        assert [one for one in calls if not one["verified"]] == []
        # refused are only the probes of rights, by what they name
        assert {(one["action"], one["status"], one["code"]) for one in calls if one["status"] != 200} <= {
            ("PutAttributes", 400, "TargetNotFoundException"), ("DeleteAttributes", 400, "TargetNotFoundException"),
            ("StopInstances", 412, "DryRunOperation")}
        assert [one["params"]["containerInstances"] for one in rig.drains()] == [[rig.host.arn]]
        assert [one["params"]["ShouldDecrementDesiredCapacity"] for one in rig.real_detaches()] == ["false"]
        order = [one["action"] for one in calls if one in rig.drains() + rig.real_detaches()]
        assert order == ["UpdateContainerInstancesState", "DetachInstances"]

        own = moto.container_instance(rig.host)
        assert own["status"] == "DRAINING"
        names = {one["name"]: one.get("value") for one in own["attributes"]}
        assert names["ecs-health-agent"] == "detach"
        assert moto.desired("demo-asg") == before == len(moto.members("demo-asg")), "a replacement was launched"


def test_moto_says_connected_and_nothing_is_done(moto):
    with MotoRig(moto, follow=False) as rig:
        moto.set_connected(rig.host.arn, True)
        rig.start_daemon()
        rig.drop_link()
        rig.wait_for(lambda: rig.calls("DescribeContainerInstances"), 20, "ECS to be asked")
        rig.holds_for(lambda: not rig.drains() and not rig.real_detaches(), 6, "no action")
        assert rig.in_group()
        assert all(one["verified"] for one in rig.calls())


def test_moto_stores_names_units_dimensions_and_values(moto):
    config = {"metrics": {"namespace": NAMESPACE, "per_instance": "always"}}
    with MotoRig(moto, config=config, docker=True) as rig:
        (rig.root / "proc/meminfo").write_text(PROC["meminfo"])
        (rig.root / "proc/pressure/memory").write_text(
            "some avg10=9.00 avg60=1.50 avg300=0.00 total=0\nfull avg10=9.00 avg60=0.25 avg300=0.00 total=0\n")
        begun = time.time()
        rig.start_daemon()
        rig.wait_for(lambda: len(rig.calls("PutMetricData")) >= 3, 30, "three periods")
        rig.kill_daemon(15)  # so that nothing is under way
        data = moto.data()

        assert {one.namespace for one in data} == {NAMESPACE}
        for own in ({"AutoScalingGroupName": "demo-asg"}, {"InstanceId": rig.instance}):
            whole = dict({"ClusterName": "demo"}, **own)
            assert {one.name: one.unit for one in data if dims_of(one) == whole} == {
                name: unit for name, (unit, _) in GROUP_METRICS.items()}
            mount = dict(whole, path="/")
            assert {one.name for one in data if dims_of(one) == mount} == {
                "disk_used_percent", "disk_inodes_used_percent"}
        # before the ECS agent has been asked for the first time there is nothing to say of it
        last = max(one.timestamp for one in data)
        for one in data:
            unit, value = GROUP_METRICS[one.name]
            assert one.min <= one.sum / one.sample_count <= one.max
            assert begun - 2 <= one.timestamp.timestamp() <= time.time() + 2
            if one.timestamp == last and value is not None:
                assert (one.min, one.max) == (pytest.approx(value), pytest.approx(value)), one.name
            if unit == "Percent":
                assert 0 <= one.min <= one.max <= 100

        # and as CloudWatch's own reader sees it
        points = moto.client("cloudwatch").get_metric_statistics(
            Namespace=NAMESPACE, MetricName="mem_used_percent", StartTime=begun - 60, EndTime=begun + 600, Period=60,
            Statistics=["Maximum", "SampleCount"], Unit="Percent", Dimensions=[
                {"Name": "ClusterName", "Value": "demo"}, {"Name": "AutoScalingGroupName", "Value": "demo-asg"}])
        assert {one["Maximum"] for one in points["Datapoints"]} == {42.5}


def test_moto_refuses_a_wrong_secret_and_we_say_so_and_wait(moto):
    # the pace of all that waits for AWS follows the turn: here it is that of a real host
    with MotoRig(moto, config={"brakes": {"turn": "2m"}}) as rig:
        right = rig.fake.keys
        rig.fake.keys = Keys(right.access_key_id, "wrong" + right.secret_access_key[5:], right.token)
        rig.start_daemon()
        rig.wait_for(lambda: "AWS refuses our keys (SignatureDoesNotMatch" in rig.problems(), 20, "the reason")
        said = rig.run_command("status")
        assert "SignatureDoesNotMatch" in said.stdout and said.returncode == 1
        assert rig.status()["credentials"]["state"] == "refused"

        # what a start asks once has been asked: the tags, our group; and, if these were quick, attributes and rights
        last = [0, time.monotonic()]

        def quiet():
            n = len([one for one in rig.calls() if one["action"] != "PutMetricData"])
            if n != last[0]:
                last[:] = n, time.monotonic()
            return time.monotonic() - last[1] > 3

        rig.wait_for(lambda: rig.calls("DescribeTags") and rig.calls("DescribeAutoScalingInstances") and quiet(), 90,
                     "the calls of the start")

        # with a period of 2 s, a sample of 1 s and a lost link besides, impatience would show at once
        begun, n = time.monotonic(), len(rig.calls())
        rig.drop_link()
        rig.holds_for(rig.in_group, 20, "no action on blindness")
        assert rig.calls("DescribeContainerInstances"), "ECS was asked"
        a_minute = (len(rig.calls()) - n) * 60 / (time.monotonic() - begun)
        assert a_minute <= 18, f"{a_minute:.0f} calls a minute"
        assert not any(one["verified"] for one in rig.calls())
        assert {one["status"] for one in rig.calls()} == {403, 401}  # EC2 says it by another number
        assert moto.data() == []

        # nothing of what was measured meanwhile is lost
        rig.restore_link()
        rig.fake.keys = right
        rig.restart_daemon()
        rig.wait_for(lambda: sum(one.name == "heartbeat" and "InstanceId" not in dims_of(one)
                                 for one in moto.data()) >= 8, 20, "what was kept, with the right secret")
        rig.wait_for(lambda: (rig.status() or {}).get("credentials", {}).get("state") == "good", 20, "all well again")
        assert "keys" not in rig.problems()


def test_moto_denies_the_detach_and_nothing_is_drained(moto):
    with MotoRig(moto) as rig:
        moto.deny("autoscaling:DetachInstances")
        rig.start_daemon()
        rig.wait_for(lambda: rig.calls("DetachInstances"), 20, "the probe")
        rig.drop_link()
        rig.wait_for(lambda: DECIDING <= {one["action"] for one in rig.calls()}, 30, "a look")
        rig.holds_for(lambda: not rig.drains() and not rig.real_detaches(), 5, "no action")
        assert [(one["status"], one["verified"]) for one in rig.calls("DetachInstances")][0] == (403, True)
        assert {"name": "autoscaling:DetachInstances", "granted": "no"} in rig.status()["rights"]
        assert "DetachInstances" in rig.run_command("status").stdout
        assert rig.in_group()


def test_moto_denies_a_read_and_metrics_go_on_without_the_group(moto):
    with MotoRig(moto) as rig:
        moto.deny("autoscaling:DescribeAutoScalingInstances")
        rig.start_daemon()
        rig.wait_for(moto.data, 20, "metrics")
        assert {dims_of(one)["AutoScalingGroupName"] for one in moto.data() if "InstanceId" not in dims_of(one)} == {
            "none"}
        assert "autoscaling:DescribeAutoScalingInstances" in rig.problems()


def test_moto_accepts_keys_of_a_user_without_a_token(moto):
    with MotoRig(moto) as rig:
        key, secret = moto.admin
        rig.extra.update({"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret})
        rig.start_daemon()
        rig.wait_for(moto.data, 20, "metrics")
        puts = [one for one in moto.calls if one["action"] == "PutMetricData"]
        assert puts and all(one["verified"] and one["key"] == key and one["status"] == 200 for one in puts)


def test_the_policy_of_the_role_has_no_right_too_many():
    """POLICY is what is asked of a real role: what the tests above show to be called, to undo, and to end an orphan."""
    called = {name.split(":")[1] for name in POLICY}
    assert called == DECIDING | ACTING | {
        "PutMetricData", "DeleteAttributes", "DescribeTags", "DeregisterContainerInstance", "StopInstances"}
