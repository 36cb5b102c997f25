# SPDX-License-Identifier: Apache-2.0
"""The templates are sound: for cfn-lint, for moto's CloudFormation, and against what the daemon really publishes.

Runs in the environment of requirements-moto.txt, beside test_moto.py.
"""

import ast
import fnmatch
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

pytest.importorskip("moto", reason="needs the environment of requirements-moto.txt")

import moto_cloudformation  # noqa: E402
from alarm_rules import BREACHES, Rule, dimensions  # noqa: E402
from moto_server import ACCOUNT, REGION, Moto  # noqa: E402
from rig import Rig, binary  # noqa: E402
from template import ALARMS, DIRECTORY, STACK, Template, read  # noqa: E402

BOTH = [ALARMS, STACK]
ROOT = pathlib.Path(__file__).resolve().parents[2]
GIVEN = {ALARMS: {"ClusterName": "demo", "AutoScalingGroupName": "demo-asg"},
         STACK: {"Subnets": "subnet-1,subnet-2", "SecurityGroups": "sg-1"}}
NAMESPACE = "ECS/InstanceHealth"
CLUSTER, GROUP = "ClusterName", "AutoScalingGroupName"


def whole(name, **more):
    return Template(name, **GIVEN[name], **more)


# -- as text --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("regions", [
    ["us-east-1"], ["cn-north-1"], ["us-gov-west-1"], ["eu-west-1", "ap-southeast-2", "cn-northwest-1"]], ids="+".join)
@pytest.mark.parametrize("name", BOTH)
def test_cfn_lint_finds_nothing(name, regions):
    done = lint(DIRECTORY / name, regions)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def lint(path, regions):
    # -c I: its advice as well as its warnings
    return subprocess.run([sys.executable, "-c", "import sys, cfnlint.runner; sys.exit(cfnlint.runner.main())", "-c", "I",
                           "--regions", *regions, "--template", str(path)],
                          capture_output=True, text=True, check=False, timeout=300)


def test_cfn_lint_would_find_something(tmp_path):
    text = (DIRECTORY / ALARMS).read_text(encoding="utf-8")
    broken = tmp_path / ALARMS
    broken.write_text(text.replace("!Ref DiskWarningPercent", "!Ref DiskWarning_Percent"), encoding="utf-8")
    assert lint(broken, ["us-east-1"]).returncode != 0


@pytest.mark.parametrize("name", BOTH)
def test_it_is_small_enough_to_be_sent_without_a_bucket(name):
    assert len((DIRECTORY / name).read_bytes()) <= 51200


@pytest.mark.parametrize("name", BOTH)
def test_no_account_region_or_partition_is_baked_in(name):
    text = "\n".join(line.partition(" #")[0] for line in (DIRECTORY / name).read_text(encoding="utf-8").splitlines()
                     if not line.lstrip().startswith("#"))
    for pattern in (r"(?<![\w{])\d{12}(?!\d)", r"\b(us|eu|ap|sa|ca|me|af|il|mx|cn)(-gov|-iso\w?)?-[a-z]+-\d\b", r"arn:aws",
                    r"amazonaws\.com"):
        assert not re.search(pattern, text), re.search(pattern, text)


@pytest.mark.parametrize("name", BOTH)
def test_every_parameter_is_described_and_limited_and_its_default_is_allowed(name):
    template = read(name)
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [one for group in groups for one in group["Parameters"]]
    assert sorted(shown) == sorted(template["Parameters"])
    for key, about in template["Parameters"].items():
        assert about["Description"].endswith(".") and about["ConstraintDescription"].startswith("must "), key
        if not about["Type"].startswith("List<AWS::"):  # CloudFormation itself checks that those are there
            assert {"AllowedPattern", "AllowedValues", "MinValue"} & set(about), key
        if "Default" in about:
            assert allowed(about, about["Default"]), key


def allowed(about, value):
    if "AllowedPattern" in about and not re.search(about["AllowedPattern"], str(value)):
        return False
    if "AllowedValues" in about and value not in about["AllowedValues"]:
        return False
    return "MinValue" not in about or about["MinValue"] <= value <= about["MaxValue"]


@pytest.mark.parametrize("name, key, good, bad", [
    (ALARMS, "ClusterName", ["a", "Prod_1-b"], ["", "arn:aws:ecs:x:1:cluster/a", "a b", 'a"b', "a" * 256]),
    (ALARMS, "AutoScalingGroupName", ["a", "web asg blue", "a/b.c"],
     ["", 'a"', "a'b", "a\\", "a:b", "a" * 201]),
    (ALARMS, "Namespace", ["ECS/InstanceHealth", "Mine/Own"], ["", "AWS/ECS", "a b", "a'b", ":x"]),
    (ALARMS, "CriticalTopicArn",
     ["", "arn:aws:sns:eu-west-1:123456789012:page", "arn:aws-us-gov:sns:us-gov-west-1:123456789012:page"],
     ["page", "arn:aws:sns:eu-west-1:123456789012:page.fifo", "arn:aws:sqs:eu-west-1:123456789012:page"]),
    (STACK, "RpmUrl", ["", "s3://b/k.rpm", "https://example.com/a/b-1.0_2+x~3.rpm"],
     ["http://example.com/a.rpm", "s3://b", "s3://b/k.rpm'; id; '", "https://h/$(id).rpm", "/tmp/a.rpm", "s3://b/k.rpm\n"]),
    (STACK, "RpmSha256", ["", "0" * 64], ["0" * 63, "G" * 64, "0" * 64 + "'"]),
    (STACK, "Grace", ["8m", "480s", "1h"], ["", "8", "8 m", "soon", "1d2h"]),
    (STACK, "AlarmsTemplateUrl", ["", "https://b.s3.eu-west-1.amazonaws.com/a.yaml"], ["s3://b/a.yaml", "http://b/a.yaml"]),
], ids=lambda value: value if isinstance(value, str) else "")
def test_constraints_accept_and_refuse(name, key, good, bad):
    pattern = read(name)["Parameters"][key]["AllowedPattern"]
    # CloudFormation matches the whole text, and its $ is not before a final newline
    assert [value for value in good if not re.fullmatch(pattern, value)] == []
    assert [value for value in bad if re.fullmatch(pattern, value) and not value.endswith("\n")] == []


# -- the metrics, against the program's table and what it published ----------------------------------------------------

def table():
    """{name: unit} of the program's own table, which a unit test keeps in README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- metrics -->")[2].partition("<!-- /metrics -->")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE))
    assert len(rows) >= 20
    return rows


def alarm_metrics():
    """(alarm, namespace, name, dimension names, statistic) of all that alarms stand on."""
    for alarm, properties in whole(ALARMS).alarms().items():
        for (namespace, name, dims), statistic, _ in Rule(properties).stats.values():
            yield alarm, namespace, name, tuple(key for key, _ in dims), statistic


SEARCH = re.compile(r"""^SEARCH\('\{"([^"]+)",([\w,]+)\} MetricName="(\w+)" ClusterName="demo\""""
                    r"""( AutoScalingGroupName="demo-asg")?', '(\w+)', 60\)$""")


def widgets():
    return [(one["properties"]["title"], one["properties"]) for one in whole(ALARMS).dashboard()["widgets"]
            if one["type"] == "metric"]


def dashboard_metrics():
    """The same of the dashboard, searches included."""
    for title, properties in widgets():
        for row in properties["metrics"]:
            if isinstance(row[0], dict) and row[0]["expression"].startswith("SEARCH"):
                found = SEARCH.match(row[0]["expression"])
                assert found, row[0]["expression"]
                dims = tuple(sorted(found[2].split(",")))
                assert bool(found[4]) == (GROUP in dims), row[0]["expression"]
                assert row[0]["label"] == "${PROP('Dim.%s')}" % (set(dims) - {CLUSTER, GROUP}).pop()
                yield title, found[1], found[3], dims, found[5]
            elif not isinstance(row[0], dict):
                dims = dict(zip(row[2:-1:2], row[3:-1:2]))
                assert dims == {key: {CLUSTER: "demo", GROUP: "demo-asg"}[key] for key in dims}
                yield title, row[0], row[1], tuple(sorted(dims)), row[-1]["stat"]


USED = [*alarm_metrics(), *dashboard_metrics()]


def test_every_metric_and_statistic_that_is_used_exists():
    units = table()
    for where, namespace, name, _, statistic in USED:
        if namespace == "AWS/AutoScaling":
            assert name == "GroupInServiceInstances"
            continue
        assert namespace == NAMESPACE and name in units, (where, name)
        # Statistic sets have no percentiles.
        assert statistic in ("Minimum", "Maximum", "Sum", "Average"), (where, statistic)
        # The sum of a gauge is a number of samples; that of a counter is what happened.
        assert statistic != "Sum" or units[name] == "Count", (where, name)
    # All that is published has its place on the dashboard.
    assert {name for _, _, name, _, _ in dashboard_metrics()} >= set(units)
    # A unit would have to be that of the metric; without one there is nothing to be wrong.
    assert not [name for name, one in whole(ALARMS).alarms().items() if "Unit" in one]


def test_every_metric_and_dimension_that_is_used_was_published_by_the_daemon(tmp_path):
    """A well host first, then one that is ill and held."""
    with Rig({"metrics": {"period": "1s", "sample": "200ms"}, "grace": "1s", "confirm": {"before": "300ms"}}, docker=True,
             agent=("--tasks", "2")) as rig:
        rig.wait_ready()
        with rig.fake.world.live() as state:
            state.groups[rig.group].tags["ecs-health-agent"] = "off"
        rig.drop_link()
        rig.wait_held("off")

        def published():
            return {(one.namespace, one.name, tuple(sorted(one.dims))) for one in list(rig.fake.metrics)}

        wanted = {(namespace, name, dims) for _, namespace, name, dims, _ in USED if namespace == NAMESPACE}
        if os.statvfs(rig.root).f_files == 0:  # a file system without a fixed number of inodes
            wanted = {one for one in wanted if one[1] != "disk_inodes_used_percent"}
        rig.wait_for(lambda: wanted <= published(), 30, "all that alarms and dashboard show")
        assert wanted - published() == set()
        # A twin, so that this could fail: what a mistake in a name would look like.
        assert (NAMESPACE, "disk_used_percent", ("ClusterName", "Path")) not in published()
        units = table()
        assert all(one.unit == units[one.name] for one in list(rig.fake.metrics))
        assert all(dict(one.dims)[GROUP] == "demo-asg" for one in list(rig.fake.metrics) if GROUP in one.dims)


def test_expressions_name_what_is_beside_them():
    for name, properties in whole(ALARMS).alarms().items():
        rule = Rule(properties)
        used = {one.id for one in ast.walk(ast.parse(rule.expression)) if isinstance(one, ast.Name)} - {"IF", "FILL"}
        assert used == set(rule.stats), name
    for title, properties in widgets():
        ids = {row[-1].get("id") for row in properties["metrics"]}
        for row in properties["metrics"]:
            if isinstance(row[0], dict) and not row[0]["expression"].startswith("SEARCH"):
                used = {one.id for one in ast.walk(ast.parse(row[0]["expression"])) if isinstance(one, ast.Name)} - {"FILL"}
                assert used and used <= ids, title


# -- the alarms -----------------------------------------------------------------------------------------------------

def test_pairs_differ_in_threshold_or_patience_and_critical_is_the_worse():
    alarms = whole(ALARMS).alarms()
    pairs = [name[:-7] for name in alarms if name.endswith("Warning") and name[:-7] + "Critical" in alarms]
    assert len(pairs) == 9
    for pair in pairs:
        warning, critical = (Rule(alarms[pair + level]) for level in ("Warning", "Critical"))
        least = warning.breaches(critical.threshold, warning.threshold)
        other = [stats for stats in warning.stats.values()] != [stats for stats in critical.stats.values()]
        assert other or least and (warning.expression, warning.threshold, warning.n) != (
            critical.expression, critical.threshold, critical.n), pair


def test_every_alarm_says_what_to_do_and_who_is_told():
    topics = {"CriticalTopicArn": "arn:aws:sns:eu-west-1:123456789012:page",
              "WarningTopicArn": "arn:aws:sns:eu-west-1:123456789012:mail"}
    told, silent = whole(ALARMS, **topics).alarms(), whole(ALARMS).alarms()
    assert set(told) == set(silent) and len(told) >= 20
    for name, one in told.items():
        level = one["AlarmName"].rpartition("-")[2]
        assert level in ("warning", "critical") and one["AlarmName"].startswith("demo-asg-")
        assert 80 < len(one["AlarmDescription"]) <= 1024, name
        assert one["AlarmActions"] == [topics[f"{level.title()}TopicArn"]]
        assert one.get("OKActions", one["AlarmActions"]) == one["AlarmActions"]
        assert "AlarmActions" not in silent[name] and "OKActions" not in silent[name], name
        assert one["TreatMissingData"] in ("missing", "notBreaching", "breaching") and one["ComparisonOperator"] in BREACHES


def test_each_choice_about_missing_data_has_its_reason_beside_it():
    lines = [line for line in (DIRECTORY / ALARMS).read_text(encoding="utf-8").splitlines() if "TreatMissingData:" in line]
    assert len(lines) == len(whole(ALARMS).alarms()) and all(re.search(r"\w # \w.{15,}", line) for line in lines)


def test_the_dashboard_is_a_gapless_page_that_shows_all_alarms():
    body = whole(ALARMS).dashboard()
    cells = set()
    for one in body["widgets"]:
        covered = {(x, y) for x in range(one["x"], one["x"] + one["width"]) for y in range(one["y"], one["y"] + one["height"])}
        assert not covered & cells, f"{one['properties'].get('title')} lies on another"
        cells |= covered
    assert cells == {(x, y) for x in range(24) for y in range(max(y for _, y in cells) + 1)}
    (status,) = [one for one in body["widgets"] if one["type"] == "alarm"]
    assert status["properties"]["alarms"] == [f"arn:of:{name}" for name in whole(ALARMS).alarms()]
    texts = "\n".join(one["properties"]["markdown"] for one in body["widgets"] if one["type"] == "text")
    headings = re.findall(r"^## (\d)\.", texts, re.MULTILINE)
    assert headings == ["1", "2", "3", "4", "5"]
    assert whole(ALARMS, Dashboard="false").dashboard() is None


# -- created --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def moto():
    with Moto() as one:
        moto_cloudformation.SERVER["url"] = one.url
        yield one


def create(moto, stack, name, **parameters):
    client = moto.client("cloudformation")
    client.create_stack(StackName=stack, TemplateBody=(DIRECTORY / name).read_text(encoding="utf-8"),
                        Capabilities=["CAPABILITY_IAM"],
                        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()])
    about = client.describe_stacks(StackName=stack)["Stacks"][0]
    assert about["StackStatus"] == "CREATE_COMPLETE", about
    return {one["OutputKey"]: one["OutputValue"] for one in about.get("Outputs", [])}


def check_alarms_and_dashboard(moto, cluster, group, dashboard):
    alarms = {one["AlarmName"]: one for one in moto.client("cloudwatch").describe_alarms()["MetricAlarms"]
              if one["AlarmName"].startswith(f"{group}-")}
    expected = Template(ALARMS, ClusterName=cluster, AutoScalingGroupName=group).alarms()
    assert set(alarms) == {one["AlarmName"] for one in expected.values()}
    for one in expected.values():
        made = alarms[one["AlarmName"]]
        assert made["Threshold"] == float(one["Threshold"]) and made["EvaluationPeriods"] == one["EvaluationPeriods"]
        assert dimensions(made["Dimensions"]) == (dimensions(one["Dimensions"]) if "Dimensions" in one else ())
    body = json.loads(moto.client("cloudwatch").get_dashboard(DashboardName=dashboard)["DashboardBody"])
    (status,) = [one for one in body["widgets"] if one["type"] == "alarm"]
    assert sorted(status["properties"]["alarms"]) == sorted(one["AlarmArn"] for one in alarms.values())
    assert {one["properties"]["region"] for one in body["widgets"] if one["type"] == "metric"} == {REGION}
    assert f'\\"{group}\\"' in json.dumps(body) and "${AWS" not in json.dumps(body)


def test_alarms_and_dashboard_are_made_for_a_group_that_is_there(moto):
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:page"
    outputs = create(moto, "health", ALARMS, ClusterName="demo", AutoScalingGroupName="demo-asg", CriticalTopicArn=topic)
    assert outputs == {"DashboardName": f"health-{REGION}"}
    check_alarms_and_dashboard(moto, "demo", "demo-asg", outputs["DashboardName"])
    told = {one["AlarmName"]: one["AlarmActions"] for one in moto.client("cloudwatch").describe_alarms()["MetricAlarms"]}
    assert all(actions == ([topic] if name.endswith("critical") else []) for name, actions in told.items())


def network(moto):
    ec2 = moto.client("ec2")
    return {"Subnets": ",".join(one["SubnetId"] for one in ec2.describe_subnets()["Subnets"][:2]),
            "SecurityGroups": ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]}


def test_the_whole_stack_is_made(moto):
    outputs = create(moto, "whole", STACK, **network(moto), RpmUrl="s3://rpms/a/b.rpm", RpmSha256="0" * 64)
    cluster, group = outputs["ClusterName"], outputs["AutoScalingGroupName"]
    (made,) = moto.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
    assert (made["MinSize"], made["MaxSize"]) == (2, 10) and len(made["Instances"]) == 2
    (there,) = moto.client("ecs").describe_clusters(clusters=[cluster])["clusters"]
    assert there["capacityProviders"] == [outputs["CapacityProvider"]]
    data = moto.client("ec2").describe_launch_template_versions(LaunchTemplateId=made["LaunchTemplate"]["LaunchTemplateId"])[
        "LaunchTemplateVersions"][0]["LaunchTemplateData"]
    assert data["MetadataOptions"] == {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1,
                                       "InstanceMetadataTags": "enabled"}
    role = outputs["InstanceRoleArn"].rpartition("/")[2]
    iam = moto.client("iam")
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["ecs-health-agent", "ecs-health-agent-rpm"]

    def statements(name):
        return iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]

    (read_rpm,) = statements("ecs-health-agent-rpm")
    assert read_rpm["Resource"] == "arn:aws:s3:::rpms/a/b.rpm"
    (detach,) = [one for one in statements("ecs-health-agent") if one["Action"] == "autoscaling:DetachInstances"]
    assert fnmatch.fnmatchcase(made["AutoScalingGroupARN"], detach["Resource"])
    assert not fnmatch.fnmatchcase(made["AutoScalingGroupARN"].replace("/whole-", "/whole-2-"), detach["Resource"])


def test_the_whole_stack_brings_its_alarms_if_told_where_they_are(moto):
    bucket = moto.client("s3")
    bucket.create_bucket(Bucket="templates")
    bucket.put_object(Bucket="templates", Key=ALARMS, Body=(DIRECTORY / ALARMS).read_bytes())
    outputs = create(moto, "nested", STACK, **network(moto), AlarmsTemplateUrl=f"https://templates.s3.amazonaws.com/{ALARMS}")
    (dashboard,) = [one["DashboardName"] for one in moto.client("cloudwatch").list_dashboards()["DashboardEntries"]
                    if "nested" in one["DashboardName"]]
    check_alarms_and_dashboard(moto, outputs["ClusterName"], outputs["AutoScalingGroupName"], dashboard)


@pytest.mark.parametrize("url", ["", "https://example.com/a.rpm"])
def test_without_an_rpm_in_s3_the_role_reads_no_bucket(moto, url):
    outputs = create(moto, f"plain{len(url)}", STACK, **network(moto), RpmUrl=url)
    names = moto.client("iam").list_role_policies(RoleName=outputs["InstanceRoleArn"].rpartition("/")[2])["PolicyNames"]
    assert names == ["ecs-health-agent"]


# -- what is ours in the stack --------------------------------------------------------------------------------------

def policy(**parameters):
    role = whole(STACK, **parameters).resources("AWS::IAM::Role")["InstanceRole"]
    return role["Policies"][0]["PolicyDocument"]["Statement"]


def actions(statements):
    return {action for one in statements for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])}


@pytest.mark.parametrize("action, orphan", [("detach", "stop"), ("detach", "terminate"), ("detach", "keep")])
def test_the_role_may_do_what_the_program_prints_and_no_more(tmp_path, action, orphan):
    config = tmp_path / "etc/ecs-health-agent/config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"action": action, "orphan": {"action": orphan}}), encoding="utf-8")
    done = subprocess.run([binary(), "iam-policy", "--act"], capture_output=True, text=True, check=True, timeout=20,
                          env={**os.environ, "ECS_HEALTH_AGENT_ROOT": str(tmp_path)})
    printed, ours = json.loads(done.stdout)["Statement"], policy(Action=action, OrphanAction=orphan)
    assert actions(ours) == actions(printed)
    for one in ours:
        assert one["Effect"] == "Allow" and one["Sid"]
        writes = {name for name in actions([one]) if not name.split(":")[1].startswith(("Describe", "List", "PutMetricData"))}
        assert not writes or one["Resource"] != "*", f"{writes} on everything"
    conditions = [{json.dumps(one.get("Condition")) for one in statements if actions([one]) & {"ec2:TerminateInstances"}}
                  for statements in (printed, ours)]
    assert conditions[0] == conditions[1] and "null" not in conditions[0]


@pytest.mark.parametrize("action, call", [("unhealthy", "SetInstanceHealth"), ("standby", "EnterStandby"),
                                          ("observe", "DetachInstances")])
def test_the_role_has_the_call_of_the_action_and_of_no_other(action, call):
    calls = {f"autoscaling:{name}" for name in ("DetachInstances", "SetInstanceHealth", "EnterStandby")}
    assert actions(policy(Action=action)) & calls == {f"autoscaling:{call}"}


def test_the_manual_says_what_to_do_about_each_alarm():
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## When it rings")[2].partition("\n## ")[0]
    rows = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))
    named = {f"{first}-{level}" for first, more in re.findall(r"`([a-z-]+)-(?:warning|critical)`((?:, `-critical`)?)", rows)
             for level in ("warning", "critical") if more or f"`{first}-{level}`" in rows}
    assert named == {one["AlarmName"].removeprefix("demo-asg-") for one in whole(ALARMS).alarms().values()}


def test_the_settings_in_the_metadata_are_accepted_by_the_program(tmp_path):
    path = tmp_path / "config.json"
    for grace, status in (("8m", 0), ("1m", 2)):  # the twin: below the floor
        stack = whole(STACK, Grace=grace)
        metadata = stack.resolve(stack.whole["Resources"]["AutoScalingGroup"]["Metadata"])
        path.write_text(json.dumps(metadata["ECSHealthAgent"]), encoding="utf-8")
        done = subprocess.run([binary(), "check-config", str(path)], capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == status, done.stdout + done.stderr


STUB = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
"""
CURL = STUB + """case "$*" in
*api/token*) printf TOKEN ;;
*security-credentials/) printf role ;;
*security-credentials/role*) printf '{"AccessKeyId": "AKID", "SecretAccessKey": "se/cr+et", "Token": "tok=="}' ;;
*) [ -z "$CURL_FAILS" ] || exit 22
   case "$*" in *"-K -"*) cat >"$CALLS.config" ;; esac
   while [ $# -gt 1 ]; do [ "$1" = -o ] && printf content >"$2"; shift; done ;;
esac
"""
CONTENT_SHA256 = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


def run_user_data(tmp_path, fails="", **parameters):
    """(calls of curl, dnf and logger; what curl got on its standard input; ecs.config) of the script, run with stubs."""
    template = whole(STACK, **parameters).resources("AWS::EC2::LaunchTemplate")["LaunchTemplate"]
    script = template["LaunchTemplateData"]["UserData"]
    assert script.startswith("#!/bin/bash\n")
    for name, text in (("curl", CURL), ("dnf", STUB), ("logger", STUB)):
        (tmp_path / name).write_text(text, encoding="ascii")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "etc").mkdir()
    for path, here in (("/etc/ecs/ecs.config", "etc/ecs.config"), ("/root/ecs-health-agent.rpm", "it.rpm")):
        assert path in script or here == "it.rpm" and "RpmUrl" not in parameters
        script = script.replace(path, f"{tmp_path}/{here}")
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=False, timeout=30, env={
        "PATH": f"{tmp_path}:/usr/bin:/bin", "CALLS": f"{tmp_path}/calls", "CURL_FAILS": fails})
    assert "secr" not in done.stdout + done.stderr and "se/cr" not in done.stdout + done.stderr

    def text(name):
        return (tmp_path / name).read_text(encoding="ascii") if (tmp_path / name).exists() else ""

    return text("calls").splitlines(), text("calls.config"), text("etc/ecs.config")


def installed(calls):
    return [call for call in calls if call.startswith("dnf ") and "install" in call and call.endswith("/it.rpm")]


def test_user_data_installs_from_s3_with_the_roles_keys(tmp_path):
    calls, config, ecs = run_user_data(tmp_path, RpmUrl="s3://rpms/a/b.rpm", RpmSha256=CONTENT_SHA256)
    assert ecs == "ECS_CLUSTER=Cluster\nECS_AWSVPC_BLOCK_IMDS=true\n"
    assert installed(calls) and not [call for call in calls if call.startswith("logger")]
    (download,) = [call for call in calls if "b.rpm" in call and call.startswith("curl")]
    assert download.endswith("https://s3.eu-west-1.amazonaws.com/rpms/a/b.rpm")
    assert "--aws-sigv4 aws:amz:eu-west-1:s3" in download
    assert config == 'user = "AKID:se/cr+et"\nheader = "x-amz-security-token: tok=="\n'
    assert not [call for call in calls if "se/cr" in call or "tok==" in call], "keys on a command line"


def test_user_data_installs_from_https_without_any_keys(tmp_path):
    calls, config, _ = run_user_data(tmp_path, RpmUrl="https://example.com/b.rpm")
    assert installed(calls) and config == "" and not [call for call in calls if "169.254" in call]


def test_user_data_of_a_baked_image_downloads_nothing(tmp_path):
    calls, _, ecs = run_user_data(tmp_path)
    assert calls == [] and ecs.startswith("ECS_CLUSTER=Cluster\n")


@pytest.mark.parametrize("url", ["s3://rpms/b.rpm", "https://example.com/b.rpm"])
@pytest.mark.parametrize("fails, sha256", [("yes", ""), ("", "0" * 64)], ids=["not there", "other content"])
def test_user_data_that_cannot_install_says_so_and_ecs_starts_all_the_same(tmp_path, url, fails, sha256):
    calls, _, ecs = run_user_data(tmp_path, fails=fails, RpmUrl=url, RpmSha256=sha256)
    assert ecs.startswith("ECS_CLUSTER=") and not installed(calls)
    (said,) = [call for call in calls if call.startswith("logger")]
    assert "NOT installed" in said and url in said
