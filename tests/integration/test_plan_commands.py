# SPDX-License-Identifier: Apache-2.0
"""The commands that plan: what the printed policy allows is what the daemon asks, and the series of `metrics` are those
that it publishes."""

import json
import os
import pathlib
import re
import subprocess

import pytest
from fake_world import ACCOUNT, REGION
from rig import QUICK, Rig, binary, merged

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXTRAS = {"ec2:DescribeTags", "cloudformation:DescribeStackResource", "cloudwatch:DescribeAlarms", "cloudwatch:ListMetrics"}
ACTING = {"ecs:UpdateContainerInstancesState", "autoscaling:DetachInstances", "ecs:DeregisterContainerInstance",
          "ec2:StopInstances"}
UNUSUAL = {"ec2:TerminateInstances"}  # where it cannot be stopped
ENDING = {"ec2:StopInstances", "ec2:TerminateInstances"}
IAM_PREFIX = {"monitoring": "cloudwatch"}  # as IAM says; the others' are their signing names


@pytest.fixture
def host(tmp_path):
    """A root and a way to run commands there: (function to write settings, function to run)."""
    mountinfo = tmp_path / "proc/1/mountinfo"
    mountinfo.parent.mkdir(parents=True)
    mountinfo.write_text("22 1 259:1 / / rw shared:1 - xfs /dev/nvme0n1p1 rw\n23 22 259:2 / /data rw - ext4 /dev/nvme1n1 rw\n")

    def settings(values):
        path = tmp_path / "etc/ecs-health-agent/config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(values if isinstance(values, str) else json.dumps(values))

    def run(*arguments, **environment):
        env = {"PATH": os.environ["PATH"], "ECS_HEALTH_AGENT_ROOT": str(tmp_path), **environment}
        return subprocess.run([binary(), *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=30)

    return settings, run


def policy_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def many(value):
    return value if isinstance(value, list) else [value]


def actions_of(policy):
    return [action for statement in policy["Statement"] for action in many(statement["Action"])]


def resources_of(policy, action):
    return [resource for statement in policy["Statement"] if action in many(statement["Action"])
            for resource in many(statement["Resource"])]


# -- IAM's judgement, as far as our policies use it --------------------------------------------------------------------

def fits(pattern, text):
    """IAM's wildcards: '*' and '?', nothing else is special, and ${*} is a literal one."""
    expression = re.sub(r"\\\$\\\{(\\\*|\\\?|\\\$)\\\}|\\\*|\\\?",
                        lambda m: m[1] or {r"\*": ".*", r"\?": "."}[m[0]], re.escape(pattern))
    return re.fullmatch(expression, text, re.S) is not None


def filled(pattern, context):
    """Policy variables give way to what the request says of itself."""
    return re.sub(r"\$\{([a-z0-9]+:[A-Za-z]+)\}", lambda m: context.get(m[1], m[0]), pattern)


def allows(policy, action, resource, context):
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        if action not in many(statement["Action"]):
            continue
        holds = all(key in context and fits(filled(pattern, context), context[key]) if operator.endswith("Like")
                    else context.get(key) == pattern
                    for operator, keys in statement.get("Condition", {}).items() for key, pattern in keys.items())
        if holds and any(fits(pattern, resource) for pattern in many(statement["Resource"])):
            return True
    return False


def asked(call):
    """What IAM would be asked about a call: (action, resources, context)."""
    action = f"{IAM_PREFIX.get(call['service'], call['service'])}:{call['action']}"
    params, here = call["params"], f"{REGION}:{ACCOUNT}"
    if call["service"] == "monitoring":
        return action, ["*"], {"cloudwatch:namespace": params.get("Namespace")}
    if call["service"] == "autoscaling":
        group = params.get("AutoScalingGroupName")
        return action, [f"arn:aws:autoscaling:{here}:autoScalingGroup:6c9a3d52-1b7e:autoScalingGroupName/{group}"
                        if action == "autoscaling:DetachInstances" else "*"], {}
    if call["service"] == "cloudformation":
        stack = params["StackName"]
        return action, [stack if stack.startswith("arn:") else f"arn:aws:cloudformation:{here}:stack/{stack}/1c3be8ed"], {}
    if action in ENDING:
        instance, = params["InstanceId"]
        return action, [f"arn:aws:ec2:{here}:instance/{instance}"], {"ec2:InstanceID": instance}
    if call["service"] != "ecs":
        return action, ["*"], {}
    name = params.get("cluster") or many(params.get("clusters"))[0]
    cluster = f"arn:aws:ecs:{here}:cluster/{name}"
    named = params.get("containerInstances") or [one["targetId"] for one in params.get("attributes", [])]
    if not named:
        return action, [cluster], {}
    arns = [one if one.startswith("arn:") else f"arn:aws:ecs:{here}:container-instance/{name}/{one}" for one in named]
    return action, arns, {"ecs:cluster": cluster}


def refusals(policy, calls, caller="i-0"):
    """The calls that @policy does not allow to the instance @caller."""
    refused = []
    for call in calls:
        action, resources, context = asked(call)
        context["aws:userid"] = f"AROAIOSFODNN7EXAMPLE:{caller}"
        if not all(allows(policy, action, resource, context) for resource in resources):
            refused.append((action, resources))
    return refused


def test_the_judge_knows_its_wildcards():
    assert fits("a*c", "abbc") and not fits("a*c", "ab") and fits("a${*}", "a*") and not fits("a${*}", "ab")
    own = {"ec2:InstanceID": "i-1"}
    assert fits(filled("*:${ec2:InstanceID}", own), "AROA:i-1") and not fits(filled("*:${ec2:InstanceID}", own), "AROA:i-2")
    assert not fits(filled("*:${ec2:InstanceID}", {}), "AROA:i-1")
    assert fits("a?", "ab") and not fits("a?", "abc") and not fits("a.c", "abc") and fits("${$}{x}", "${x}")


# -- iam-policy ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("short_arn", [False, True], ids=["", "short-arn"])
def test_the_policy_allows_every_call_of_a_whole_path_to_the_detach(short_arn):
    with Rig(QUICK, short_arn=short_arn) as rig:
        rig.wait_ready()
        policy = policy_of(rig.run_command("iam-policy"))
        whole = policy_of(rig.run_command("iam-policy", "--cloudformation"))
        observing = policy_of(rig.run_command("iam-policy", "--observe"))
        elsewhere = policy_of(rig.run_command("iam-policy", "--act", "--cluster", "other", "--group", "other"))
        group = rig.fake.world.group(rig.group)
        group.detach_seconds = group.launch_seconds = 0.2
        rig.drop_link()
        rig.check_removed()
        rig.wait_for(lambda: rig.fake.calls_of("PutMetricData", ok=True), 20, "metrics")
        with rig.fake.lock:
            calls = [call for call in rig.fake.calls if call["action"]]
        made = {asked(call)[0] for call in calls}
        assert set(actions_of(policy)) - UNUSUAL <= made, "allowed, and never asked"
        assert refusals(whole, calls, rig.instance) == []
        calls = [call for call in calls if asked(call)[0] not in EXTRAS]  # what --cloudformation is for
        assert refusals(policy, calls, rig.instance) == []
        assert {action for action, _ in refusals(policy, calls, "i-0fedcba9876543210")} == ENDING - UNUSUAL, "another instance"
        assert {action for action, _ in refusals(observing, calls, rig.instance)} == ACTING
        assert {action for action, _ in refusals(elsewhere, calls, rig.instance)} >= ACTING - ENDING | {"ecs:DescribeClusters"}


def test_the_policy_allows_what_the_doctor_asks():
    with Rig(QUICK) as rig:
        rig.wait_ready()
        policy = policy_of(rig.run_command("iam-policy", "--doctor"))
        before = len(rig.fake.calls)
        rig.run_command("doctor", timeout=60)
        with rig.fake.lock:
            calls = [call for call in rig.fake.calls[before:] if call["action"]]
        made = {asked(call)[0] for call in calls}
        assert {"cloudwatch:DescribeAlarms", "autoscaling:DetachInstances", "ecs:PutAttributes"} <= made
        calls = [call for call in calls if asked(call)[0] not in EXTRAS - set(actions_of(policy))]
        assert refusals(policy, calls, rig.instance) == []


def test_the_policy_of_a_running_daemon_is_limited_to_its_group_and_cluster():
    with Rig(QUICK, group="odd * name") as rig:
        rig.wait_ready()
        done = rig.run_command("iam-policy")
        policy = policy_of(done)
        here = f"{REGION}:{ACCOUNT}"
        assert done.stderr == ""  # nothing is left open
        assert resources_of(policy, "autoscaling:DetachInstances") == [
            f"arn:aws:autoscaling:{here}:autoScalingGroup:*:autoScalingGroupName/odd ${{*}} name"]
        assert resources_of(policy, "ecs:DescribeClusters") == [f"arn:aws:ecs:{here}:cluster/demo"]
        assert resources_of(policy, "ecs:PutAttributes") == [f"arn:aws:ecs:{here}:container-instance/*"]
        conditions = [statement["Condition"] for statement in policy["Statement"] if "Condition" in statement]
        assert {"ArnLike": {"ecs:cluster": f"arn:aws:ecs:{here}:cluster/demo"}} in conditions
        assert {"StringEquals": {"cloudwatch:namespace": "ECS/InstanceHealth"}} in conditions
        # of another cluster, the group is not ours
        other = policy_of(rig.run_command("iam-policy", "--cluster", "other"))
        assert resources_of(other, "autoscaling:DetachInstances")[0].endswith("/*")


def test_the_policy_follows_the_settings(host):
    settings, run = host
    assert ACTING <= set(actions_of(policy_of(run("iam-policy"))))
    settings({"action": "observe", "metrics": {"namespace": "Our/Own"}, "ecs_agent": {"cluster": "blue"}})
    policy = policy_of(run("iam-policy"))
    assert not ACTING & set(actions_of(policy))
    assert policy["Statement"][0]["Condition"] == {"StringEquals": {"cloudwatch:namespace": "Our/Own"}}
    assert resources_of(policy, "ecs:DescribeClusters") == ["arn:aws:ecs:*:*:cluster/blue"]
    assert ACTING <= set(actions_of(policy_of(run("iam-policy", "--act"))))
    settings({"action": "detach"})
    assert not ACTING & set(actions_of(policy_of(run("iam-policy", "--observe"))))
    for action, call in (("detach", "DetachInstances"), ("unhealthy", "SetInstanceHealth"), ("standby", "EnterStandby")):
        settings({"action": action, "orphan": {"action": "keep", "deregister": False}})
        policy = policy_of(run("iam-policy"))
        assert {one for one in actions_of(policy) if one.startswith("autoscaling:") and "Describe" not in one} == {
            f"autoscaling:{call}"}
        assert not {"ecs:DeregisterContainerInstance", *ENDING} & set(actions_of(policy))
    settings({"orphan": {"action": "terminate"}})
    assert ENDING & set(actions_of(policy_of(run("iam-policy")))) == {"ec2:TerminateInstances"}
    settings('{"action": "explode"}')
    done = run("iam-policy")
    assert done.returncode == 2 and done.stdout == "" and "explode" in done.stderr and "check-config" in done.stderr


def test_the_policy_follows_what_the_daemon_has_kept_of_its_stack(host, tmp_path):
    settings, run = host
    cache = tmp_path / "var/lib/ecs-health-agent/cloudformation.json"
    cache.parent.mkdir(parents=True)
    kept = {"state": "read", "instance_id": "i-0123456789abcdef0", "resource": "Group", "read": "2026-11-23T10:00:00Z",
            "stack": "arn:aws:cloudformation:eu-west-1:123456789012:stack/blue/1c3be8ed-df30-47b4-8f1e-6e68ebd01f34",
            "text": json.dumps({"action": "observe", "metrics": {"namespace": "Of/Stack"}})}
    cache.write_text(json.dumps(kept))
    policy = policy_of(run("iam-policy", "--cloudformation"))
    assert not ACTING & set(actions_of(policy)) and "Of/Stack" in json.dumps(policy)
    assert resources_of(policy, "cloudformation:DescribeStackResource") == ["arn:aws:cloudformation:*:*:stack/blue/*"]
    settings({"action": "detach", "cloudformation": {"stack": "green"}})
    policy = policy_of(run("iam-policy", "--cloudformation"))
    assert ACTING <= set(actions_of(policy)) and "Of/Stack" in json.dumps(policy)
    assert resources_of(policy, "cloudformation:DescribeStackResource") == ["arn:aws:cloudformation:*:*:stack/green/*"]
    settings({"cloudformation": {"enabled": False}})
    assert "Of/Stack" not in run("iam-policy").stdout
    settings({})
    assert "Of/Stack" in run("iam-policy").stdout
    cache.write_text(json.dumps(kept)[:-9])
    assert "Of/Stack" not in json.dumps(policy_of(run("iam-policy")))


def test_the_policy_says_what_it_has_to_leave_open(host):
    _, run = host
    done = run("iam-policy")
    assert all(option in done.stderr for option in ("--cluster", "--group", "--region", "--account"))
    assert "--stack" not in done.stderr
    assert "--stack" in run("iam-policy", "--cloudformation").stderr
    assert "--group" not in run("iam-policy", "--observe").stderr
    done = run("iam-policy", "--cluster", "arn:aws-cn:ecs:cn-north-1:123456789012:cluster/a", "--group", "b")
    assert done.stderr == ""
    assert resources_of(policy_of(done), "autoscaling:DetachInstances") == [
        "arn:aws-cn:autoscaling:cn-north-1:123456789012:autoScalingGroup:*:autoScalingGroupName/b"]
    assert "arn:aws-us-gov:ecs:us-gov-west-1:*:cluster/*" in run("iam-policy", AWS_REGION="us-gov-west-1").stdout


@pytest.mark.parametrize("arguments, actions", [
    ((), set()), (("--cloudformation",), {"ec2:DescribeTags", "cloudformation:DescribeStackResource"}),
    (("--doctor",), {"cloudwatch:DescribeAlarms", "cloudwatch:ListMetrics"}), (("--doctor", "--cloudformation"), EXTRAS),
], ids=lambda value: "_".join(value) if isinstance(value, tuple) else "")
def test_what_not_everybody_needs_is_there_on_request(host, arguments, actions):
    assert set(actions_of(policy_of(host[1]("iam-policy", *arguments)))) & EXTRAS == actions


@pytest.mark.parametrize("arguments, says", [
    (("iam-policy", "now"), '"now"'), (("iam-policy", "--act", "--observe"), "exclude each other"),
    (("iam-policy", "--fast"), '"--fast"'), (("iam-policy", "--cluster"), "needs a value"),
    (("iam-policy", "--cluster", ""), '--cluster ""'), (("iam-policy", "--cluster", "a b"), '"a b"'),
    (("iam-policy", "--cluster", "arn:aws:ecs:cluster/a"), "arn:PARTITION:"), (("iam-policy", "--group", "a:b"), "colons"),
    (("iam-policy", "--group", "x" * 256), "1 to 255"), (("iam-policy", "--region", "Ireland"), "eu-west-1"),
    (("iam-policy", "--account", "12345678901"), "12 digits"), (("iam-policy", "--partition", "azure"), '"azure"'),
    (("iam-policy", "--stack", "a"), "--cloudformation"),
    (("metrics", "now"), '"now"'), (("metrics", "--instances", "0"), "1 to"), (("metrics", "--instances", "many"), '"many"'),
    (("metrics", "--instances", "1000001"), "1000000"), (("metrics", "--groups", "2"), "no more groups"),
    (("metrics", "--ill-hours", "731"), "730"), (("metrics", "--instances"), "needs a value"),
], ids=lambda value: "_".join(value)[:40] if isinstance(value, tuple) else "")
def test_wrong_usage_exits_2_and_names_what_was_wrong(host, arguments, says):
    done = host[1](*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert says in done.stderr and "--help" in done.stderr


@pytest.mark.parametrize("command", ["iam-policy", "metrics"])
def test_help_has_an_example_and_no_long_lines(host, command):
    done = host[1](command, "--help")
    assert done.returncode == 0 and done.stderr == "" and "Example" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_every_action_that_the_program_names_is_in_the_policy(host):
    settings, run = host
    allowed = set()
    for action in ("detach", "unhealthy", "standby"):
        settings({"action": action})
        allowed |= set(actions_of(policy_of(run("iam-policy", "--cloudformation", "--doctor"))))
    verb = (r'"((?:Attach|Complete|Create|Delete|Deregister|Describe|Detach|Enter|Exit|Get|List|Put|Record|Register|Set'
            r'|Signal|Start|Stop|Terminate|Update)[A-Z][A-Za-z]+)"')
    named = {found for folder in ("agent", "common") for path in (ROOT / folder).rglob("*.c")
             for found in re.findall(verb, path.read_text(encoding="utf-8"))}
    no_calls = {"GetAll", "GetNameOwner", "StartTime", "StartTimeLowerBound"}  # D-Bus's, and members of answers
    called = {name for name in named - no_calls if not name.endswith(("Result", "Response"))}
    assert {action.split(":")[1] for action in allowed} == called


# -- metrics --------------------------------------------------------------------------------------------------------

def test_metrics_are_those_that_are_published():
    config = merged(QUICK, {"metrics": {"per_instance": "always", "namespace": "Our/Own"}})
    with Rig(config, docker=True) as rig:
        rig.wait_ready()

        def published(dimension):
            with rig.fake.lock:
                return {(one.name, tuple(sorted(set(one.dims) - {"ClusterName", dimension})))
                        for one in rig.fake.metrics if dimension in one.dims}

        def planned():
            report = json.loads(rig.run_command("metrics", "--json").stdout)
            return {(one["metric"], tuple(sorted(set(one["dimensions"]) - {"ClusterName", "AutoScalingGroupName"})))
                    for one in report["series"] if one["always"]}

        rig.wait_for(lambda: planned() == published("AutoScalingGroupName"), 20, "all that is planned")
        rig.wait_for(lambda: planned() == published("InstanceId"), 20, "the same per instance")
        report = json.loads(rig.run_command("metrics", "--json").stdout)
        assert report["namespace"] == "Our/Own" and report["per_instance"] == "always"
        with rig.fake.lock:
            series = {(one.name, tuple(sorted(one.dims.items()))) for one in rig.fake.metrics
                      if "AutoScalingGroupName" in one.dims}
        assert report["series_per_group"] == len(series)
        assert report["paths"] == ["/"]


def metrics_of(done):
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return json.loads(done.stdout)


def test_metrics_cost_what_a_hand_works_out(host):
    settings, run = host
    report = metrics_of(run("metrics", "--json"))
    n = report["series_per_group"]
    assert report["paths"] == ["/", "/data"] and report["period_seconds"] == 60
    assert n == sum(one["series"] for one in report["series"] if one["always"])
    month = report["month"]
    assert month["calls"] == 43800 and month["calls_usd"] == 0.438
    assert month["metric_months"] == n and month["metrics_usd"] == pytest.approx(n * 0.3)
    assert month["total_usd"] == pytest.approx(n * 0.3 + 0.438)
    assert month["one_more_ill_hour_usd"] == pytest.approx(n * 0.3 / 730, abs=1e-6)

    month = metrics_of(run("metrics", "--json", "--instances", "200", "--groups", "5", "--ill-hours", "730"))["month"]
    assert month["calls"] == 8760000
    assert month["metric_months"] == 6 * n  # five groups, and one instance that was ill all month
    assert month["metrics_usd"] == pytest.approx(6 * n * 0.3)

    settings({"metrics": {"per_instance": "always", "period": "5m"}})
    month = metrics_of(run("metrics", "--json", "--instances", "200", "--groups", "5"))["month"]
    assert month["calls"] == 1752000 and month["metric_months"] == 205 * n
    settings({"metrics": {"per_instance": "never"}})
    month = metrics_of(run("metrics", "--json", "--instances", "200", "--groups", "5", "--ill-hours", "730"))["month"]
    assert month["metric_months"] == 5 * n and month["one_more_ill_hour_usd"] == 0


def test_metrics_obey_the_limit_of_series_and_the_witnesses(host):
    settings, run = host
    whole = metrics_of(run("metrics", "--json"))
    settings({"metrics": {"max_series": whole["series_per_group"] - 1}})
    report = metrics_of(run("metrics", "--json"))
    assert report["series_left_out"] == 2 and report["paths"] == ["/"]
    assert "metrics.max_series" in run("metrics").stdout
    settings({"disk": {"mounts": ["/data"]}})
    assert metrics_of(run("metrics", "--json"))["paths"] == ["/data"]
    settings({"witnesses": ["introspection", "log", "sockets", "units", "docker", "path", "metadata"]})
    report = metrics_of(run("metrics", "--json"))
    names = {one["metric"] for one in report["series"]}
    assert not any(name.startswith(("disk_", "mem_", "swap_")) for name in names) and "oom_kills" in names


def test_metrics_for_people_name_every_series_and_the_price(host):
    settings, run = host
    text = run("metrics", "--instances", "1000", "--groups", "10").stdout
    report = metrics_of(run("metrics", "--json"))
    for one in report["series"]:
        assert re.search(rf"^  {one['metric']} +{one['unit']} +{one['kind']} ", text, re.M), one
    assert "43,800,000 PutMetricData calls" in text and "$438.00" in text
    assert "us-east-1" in text and report["month"]["prices"]["as_of"] in text and "Estimate" in text
    assert "/, /data" in text and max(map(len, text.splitlines())) <= 110
    settings("{")
    done = run("metrics")
    assert done.returncode == 2 and done.stdout == "" and "line 1, column 2" in done.stderr
