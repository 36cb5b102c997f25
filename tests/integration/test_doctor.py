# SPDX-License-Identifier: Apache-2.0
"""`doctor` against a whole fake host: nothing to find on a healthy one; each fault in turn is named, with its fix, and
nothing else is.

One healthy host serves all faults; each is a context manager that breaks something, hands out what the environment of
the command shall have on top, and mends it again.
"""

import contextlib
import ctypes
import errno
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from fake_aws import FakeAws
from fake_control_plane import make_certificate
from rig import QUICK, Rig, binary, merged

# out of the daemon's hands however long a fault lasts, and yet with everything to be checked
CONFIG = merged(QUICK, {"grace": "30m", "grace_dead": "30m", "confirm": {"before": "1m"}, "repair": {"enabled": True}})
HEALTHY_ECS = "ECS_CLUSTER=demo\nECS_AWSVPC_BLOCK_IMDS=true\n"
GROUP = {"ClusterName": "demo", "AutoScalingGroupName": "demo-asg"}
RIGHTS = ["ecs:DescribeContainerInstances", "ecs:ListContainerInstances", "ecs:DescribeClusters",
          "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeAutoScalingGroups",
          "autoscaling:DescribeScalingActivities", "autoscaling:DescribeInstanceRefreshes",
          "ecs:UpdateContainerInstancesState", "ecs:PutAttributes", "ecs:DeleteAttributes",
          "autoscaling:DetachInstances", "ecs:DeregisterContainerInstance", "ec2:StopInstances", "cloudwatch:PutMetricData"]
# what other settings would need
OTHERS = {f"right:{name}" for name in ("autoscaling:SetInstanceHealth", "autoscaling:EnterStandby", "ec2:TerminateInstances")}
NAMES = {"settings", "daemon", "metadata-service", "region", "role", "proxy", "endpoints", "clock", "introspection",
         "agent-log", "sockets", "docker", "units", "polkit", "psi", "memory-lock", "cloudformation", "alarms",
         "role-exposure"} | {f"right:{name}" for name in RIGHTS} | OTHERS
LOG = "var/log/ecs/ecs-agent.log"


def alarm(name, metric, dims=None, namespace="ECS/InstanceHealth"):
    dims = GROUP if dims is None else dims
    return {"AlarmName": name, "Namespace": namespace, "MetricName": metric, "Statistic": "Maximum", "Period": 60,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dims.items()]}


def math_alarm(name, *metrics):
    return {"AlarmName": name, "Metrics": [
        {"Id": f"m{number}", "MetricStat": {"Metric": alarm("", metric, dims, *space), "Period": 60, "Stat": "Sum"}}
        for number, (metric, dims, *space) in enumerate(metrics)] + [{"Id": "e", "Expression": "m0/m1"}]}


GOOD_ALARMS = [
    alarm("silence", "heartbeat"), alarm("lost", "ecs_agent_disconnected_seconds"),
    alarm("held by what", "remediation_held", {**GROUP, "Brake": "share"}),  # published only while it holds
    alarm("one host", "heartbeat", {"ClusterName": "demo", "InstanceId": "i-0123456789abcdef0"}),
    alarm("not ours", "CPUUtilization", {"InstanceId": "i-0123456789abcdef0"}, "AWS/EC2"),
    math_alarm("missing hosts", ("heartbeat", None),
               ("GroupInServiceInstances", {"AutoScalingGroupName": "demo-asg"}, "AWS/AutoScaling")),
]


def ecs_config(rig, text=HEALTHY_ECS):
    (rig.root / "etc/ecs").mkdir(exist_ok=True)
    (rig.root / "etc/ecs/ecs.config").write_text(text)


def examine(rig, environment=None, expect=None, **options):
    """What doctor --json says, by name; its form is checked."""
    env = {key: value for key, value in {**rig.environment(), **(environment or {})}.items() if value is not None}
    done = subprocess.run([binary(), "doctor", "--json"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=40, cwd=rig.root, **options)
    assert done.stderr == ""
    report = json.loads(done.stdout)
    checks = {one["name"]: one for one in report["checks"]}
    assert set(checks) == NAMES and len(report["checks"]) == len(NAMES)
    for one in report["checks"]:
        assert set(one) == {"name", "state", "found", "fix"} and one["state"] in ("ok", "problem", "skipped")
        assert one["found"] and one["found"].isascii() and one["found"].isprintable()
        assert bool(one["fix"]) == (one["state"] == "problem"), one
    assert report["ok"] == (problems(checks) == []) and done.returncode == (0 if report["ok"] else 1)
    if expect is not None:
        assert problems(checks) == expect, [one for one in report["checks"] if one["state"] == "problem"]
    return checks


def problems(checks):
    return [name for name, one in checks.items() if one["state"] == "problem"]


@pytest.fixture(scope="module")
def host():
    with Rig(CONFIG, units=True, docker=True) as rig:
        ecs_config(rig)
        rig.wait_ready()
        rig.wait_for(lambda: rig.fake.metrics_of("ecs_agent_disconnected_seconds", **GROUP), 40, "the group's series")
        rig.fake.alarms = list(GOOD_ALARMS)
        yield rig


# -- a healthy host -------------------------------------------------------------------------------------------------

def test_nothing_is_found_on_a_healthy_host_and_nothing_is_changed(host):
    before = len(host.fake.changes())
    published = len(host.fake.calls_of("PutMetricData", ok=False))
    checks = examine(host, expect=[])
    assert {name for name, one in checks.items() if one["state"] == "skipped"} == OTHERS
    assert {checks[name]["found"] for name in OTHERS} == {"not needed: these settings never make that call"}
    assert len(host.fake.changes()) == before
    assert len(host.fake.calls_of("PutMetricData", ok=False)) == published + 1, "one try to publish nothing"
    assert host.own.status == "ACTIVE" and host.own.agent_connected
    assert checks["alarms"]["found"].startswith("5 on ")
    assert host.instance in checks["metadata-service"]["found"] and "ecsInstanceRole" in checks["role"]["found"]


def test_the_report_for_people_has_a_line_for_each_check_and_sums_up(host):
    done = host.run_command("doctor")
    assert done.returncode == 0 and done.stderr == "" and "\033" not in done.stdout
    for name in NAMES:
        assert re.search(rf"^{'-' if name in OTHERS else 'ok'} +{re.escape(name)} ", done.stdout, re.M), name
    assert f"{len(NAMES)} checks: {len(NAMES - OTHERS)} ok, 0 problems, {len(OTHERS)} skipped." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_finding_for_people_comes_with_its_fix(host):
    with docker_gone(host):
        done = host.run_command("doctor")
    assert done.returncode == 1
    assert re.search(r"^BAD +docker +/run/docker.sock is not there\n +fix: systemctl start docker.service", done.stdout,
                     re.M), done.stdout
    assert done.stdout.count("fix: ") == 1 and "1 problem, " in done.stdout


def test_progress_goes_to_a_terminal_only_and_is_wiped(host):
    leader, follower = pty.openpty()
    with subprocess.Popen([binary(), "doctor"], env={**host.environment(), "TERM": "xterm"}, stdin=follower,
                          stdout=follower, stderr=follower, cwd=host.root) as doctor:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(leader, 4096):
                shown += data
        os.close(leader)
        assert doctor.wait(30) == 0
    text = shown.decode()
    assert f"of {len(NAMES)} checks" in text and "\033[32m" in text
    assert text.index("ok") > text.rindex("\r\033[K")


def test_the_report_never_tells_a_secret(host):
    secrets = [host.fake.keys.secret_access_key, host.fake.keys.token, host.fake.keys.access_key_id, "hunter2"]
    told = json.dumps(examine(host, {"HTTPS_PROXY": "http://ann:hunter2@127.0.0.1:1"}, expect=["proxy"]))
    host.fake.fault("*", "refuse", code="SignatureDoesNotMatch",
                    message=f"The Canonical String: x-amz-security-token:{host.fake.keys.token}")
    try:
        told += json.dumps(examine(host, expect=["role"]))
    finally:
        host.fake.clear()
    assert "127.0.0.1:1" in told
    for secret in secrets:
        assert secret not in told


# -- each fault in turn -----------------------------------------------------------------------------------------------

@contextlib.contextmanager
def environment(rig, **env):
    yield env


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def bad_settings(rig):
    path = rig.root / "etc/ecs-health-agent/config.json"
    text = path.read_text()
    path.write_text('{"grase": "8m"}')
    yield
    path.write_text(text)
    rig.wait_status(lambda s: s["settings"]["ok"], 20, "good settings")


@contextlib.contextmanager
def settings(rig, **more):
    """Other settings, which are fine by themselves."""
    path = rig.root / "etc/ecs-health-agent/config.json"
    text = path.read_text()
    path.write_text(json.dumps(merged(json.loads(text), more)))
    yield
    path.write_text(text)


@contextlib.contextmanager
def daemon_dead(rig):
    rig.kill_daemon(signal.SIGKILL)
    yield
    rig.start_daemon()
    rig.wait_ready()


@contextlib.contextmanager
def daemon_hung(rig):
    rig.kill_daemon(signal.SIGSTOP)
    yield
    rig.kill_daemon(signal.SIGCONT)


@contextlib.contextmanager
def faulty(rig, action, kind, **options):
    rig.fake.fault(action, kind, **options)
    yield
    rig.fake.clear()


@contextlib.contextmanager
def item(rig, path, text):
    rig.fake.imds.values[path] = text
    yield
    del rig.fake.imds.values[path]


@contextlib.contextmanager
def set_to(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    yield
    setattr(owner, name, before)


@contextlib.contextmanager
def no_role(rig):
    with item(rig, "/latest/meta-data/iam/security-credentials/", None), \
            item(rig, "/latest/meta-data/iam/security-credentials", None):
        yield


@contextlib.contextmanager
def skewed(rig, seconds):
    rig.fake.skew(seconds)
    yield
    rig.fake.skew(0)


@contextlib.contextmanager
def agent_signal(rig):
    rig.kill_agent(signal.SIGSTOP)
    yield
    rig.kill_agent(signal.SIGCONT)
    rig.wait_for(rig.linked, 20, "the link")


@contextlib.contextmanager
def agent_dead(rig):
    rig.kill_agent()
    yield
    rig.start_agent()
    rig.wait_for(rig.linked, 20, "the link")


@contextlib.contextmanager
def agent_says(rig, command, undo):
    rig.agent(command)
    yield
    rig.agent(undo)


@contextlib.contextmanager
def renamed(path):
    path.rename(path.with_suffix(".away"))
    yield
    path.with_suffix(".away").rename(path)


@contextlib.contextmanager
def mode(path, bits):
    before = path.stat().st_mode & 0o777
    path.chmod(bits)
    yield
    path.chmod(before)


@contextlib.contextmanager
def ecs(rig, text):
    ecs_config(rig, HEALTHY_ECS + text)
    yield
    ecs_config(rig)


@contextlib.contextmanager
def docker_gone(rig):
    rig.docker.gone()
    yield
    rig.docker.back()


@contextlib.contextmanager
def docker_closed(rig):
    rig.docker.closed()
    yield
    (rig.root / "run/docker.sock").unlink()
    rig.docker.back()


@contextlib.contextmanager
def polkit_off(rig):
    rig.systemd("polkit off")
    yield
    rig.systemd("polkit on")


@contextlib.contextmanager
def unit_unknown(rig):
    rig.systemd('set docker.service LoadState "not-found"')
    yield
    rig.systemd('set docker.service LoadState "loaded"')


@contextlib.contextmanager
def alarms(rig, *more):
    rig.fake.alarms = [*GOOD_ALARMS, *more]
    yield
    rig.fake.alarms = list(GOOD_ALARMS)


@contextlib.contextmanager
def limits(rig, value):
    path = rig.root / f"proc/{rig.daemon.pid}/limits"
    text = path.read_text()
    path.write_text(text.replace("unlimited", value))
    yield
    path.write_text(text)


@contextlib.contextmanager
def sysconfig(rig, text):
    path = rig.root / "etc/sysconfig/ecs-health-agent"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    yield
    path.unlink()


@contextlib.contextmanager
def told(rig, **changes):
    """Another daemon that says the same but for @changes."""
    status = merged(rig.status(), changes)
    rig.kill_daemon(signal.SIGKILL)
    limits = rig.root / f"proc/{os.getpid()}/limits"
    limits.parent.mkdir()
    limits.write_text("Max locked memory         unlimited            unlimited            bytes\n")
    path = rig.root / "run/ecs-health-agent/status.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        client.sendall(json.dumps(status).encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    path.unlink()
    limits.unlink()
    limits.parent.rmdir()
    rig.start_daemon()
    rig.wait_ready()


@contextlib.contextmanager
def untrusted(rig):
    with FakeAws(tls=make_certificate(rig.root)).start() as other:
        yield {"AWS_ENDPOINT_URL_ECS": other.url}


IMDS_URL = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
FAULTS = {
    "settings are refused": ("settings", "grase", "check-config", bad_settings),
    "daemon does not run": ("daemon", "does not run", "systemctl enable --now", daemon_dead),
    "daemon hangs": ("daemon", "within 3 s", "systemctl restart", daemon_hung),
    "metadata service is off": ("metadata-service", "switched off", "--http-endpoint enabled",
                                lambda rig: faulty(rig, "/latest/api/token", "status", status=403)),
    "metadata service is off for us": ("metadata-service", "AWS_EC2_METADATA_DISABLED", "take it away",
                                       lambda rig: environment(rig, AWS_EC2_METADATA_DISABLED="true")),
    "metadata service is out of reach": ("metadata-service", "out of reach", "iptables", lambda rig: environment(
        rig, **{IMDS_URL: f"http://127.0.0.1:{closed_port()}"})),
    "metadata service hangs": ("metadata-service", "out of reach", "iptables", lambda rig: faulty(rig, "imds", "hang")),
    "metadata service is a portal": ("metadata-service", "makes no sense", "curl", lambda rig: faulty(rig, "imds", "html")),
    "no address of the metadata service": ("metadata-service", "no address", IMDS_URL,
                                           lambda rig: environment(rig, **{IMDS_URL: "ftp://x"})),
    "no region": ("region", "does not name it", "AWS_REGION",
                  lambda rig: item(rig, "/latest/meta-data/placement/region", None)),
    "nonsense of a region": ("region", '"he/re"', "AWS_REGION", lambda rig: environment(rig, AWS_REGION="he/re")),
    "another region": ("region", "eu-west-1", "AWS_REGION=us-east-1", lambda rig: environment(rig, AWS_REGION="eu-west-1")),
    "no role": ("role", "no role", "associate-iam-instance-profile", no_role),
    "role that cannot be assumed": ("role", "AssumeRoleUnauthorizedAccess", "ec2.amazonaws.com", lambda rig: set_to(
        rig.fake.imds, "credentials_problem", "EC2 cannot assume the role")),
    "keys that have run out": ("role", "expired", "replace-iam-instance-profile-association",
                               lambda rig: set_to(rig.fake.imds, "credentials_life", -60.0)),
    "keys that AWS refuses": ("role", "does not take its keys: ", "associate", lambda rig: faulty(rig, "*", "signature")),
    "keys of the environment": ("role", "does not take its keys: ", "AWS_ACCESS_KEY_ID", lambda rig: environment(
        rig, AWS_ACCESS_KEY_ID="AKIAUNKNOWNUNKNOWN00", AWS_SECRET_ACCESS_KEY="x" * 40)),
    "clock is behind": ("clock", "behind", "chronyc", lambda rig: skewed(rig, 600)),
    "clock is ahead": ("clock", "ahead", "chronyc", lambda rig: skewed(rig, -600)),
    "proxy is dead": ("proxy", "refused", "HTTPS_PROXY", lambda rig: environment(
        rig, HTTPS_PROXY=f"http://127.0.0.1:{closed_port()}", NO_PROXY="169.254.169.254")),
    "proxy has no name": ("proxy", "nobody knows", "HTTPS_PROXY", lambda rig: environment(
        rig, HTTPS_PROXY="http://proxy.invalid:3128", NO_PROXY="169.254.0.0/16")),
    "proxy is none": ("proxy", "no http", "HTTPS_PROXY",
                      lambda rig: environment(rig, HTTPS_PROXY="socks5://127.0.0.1:1", NO_PROXY="*")),
    "proxy swallows link-local addresses": ("proxy", "NO_PROXY in our environment", "NO_PROXY=169.254.169.254",
                                            lambda rig: environment(rig, HTTPS_PROXY=rig.fake.url, NO_PROXY="localhost")),
    "the ECS agent's proxy swallows them": ("proxy", "NO_PROXY in ecs.config", "/etc/ecs/ecs.config",
                                            lambda rig: ecs(rig, f"HTTP_PROXY={rig.fake.url}\n")),
    "the service's environment file": ("proxy", "refused", "HTTPS_PROXY", lambda rig: sysconfig(
        rig, f'# proxy\nHTTPS_PROXY="http://127.0.0.1:{closed_port()}"\nNO_PROXY=169.254.169.254\n')),
    "endpoint is dead": ("endpoints", "refused", "NAT gateway", lambda rig: environment(
        rig, AWS_ENDPOINT_URL_ECS=f"http://127.0.0.1:{closed_port()}")),
    "endpoint has no name": ("endpoints", "nobody knows", "getent hosts", lambda rig: environment(
        rig, AWS_ENDPOINT_URL_CLOUDWATCH="https://monitoring.invalid")),
    "endpoint is nonsense": ("endpoints", "AUTO_SCALING", "AWS_ENDPOINT_URL",
                             lambda rig: environment(rig, AWS_ENDPOINT_URL_AUTO_SCALING="autoscaling")),
    "endpoint is not trusted": ("endpoints", "127.0.0.1", "AWS_CA_BUNDLE", untrusted),
    "the ECS agent is dead": ("introspection", "nobody listens", "systemctl start ecs", agent_dead),
    "the ECS agent hangs": ("introspection", "/v1/metadata does not answer", "systemctl restart ecs", agent_signal),
    "the ECS agent's engine hangs": ("introspection", "/v1/tasks does not answer", "systemctl restart ecs",
                                     lambda rig: agent_says(rig, "hang tasks", "hang off")),
    "not the ECS agent": ("introspection", "is not the ECS agent", "ss -ltnp",
                          lambda rig: agent_says(rig, "wrong metadata html", "wrong metadata off")),
    "the ECS agent is not registered": ("introspection", "not registered", "ECS_CLUSTER",
                                        lambda rig: agent_says(rig, "wrong metadata null-arn", "wrong metadata off")),
    "log is not there": ("agent-log", "is not there", "ecs_agent.log", lambda rig: renamed(rig.root / LOG)),
    "log is not for us": ("agent-log", "may not be read", "chmod", lambda rig: mode(rig.root / LOG, 0o200)),
    "log is off": ("agent-log", "ECS_LOG_DRIVER", "ECS_LOGLEVEL_ON_INSTANCE=info",
                   lambda rig: ecs(rig, "ECS_LOG_DRIVER=awslogs\n")),
    "log level is raised": ("agent-log", "ECS_LOGLEVEL hides", "ECS_LOGLEVEL=info", lambda rig: ecs(rig, "ECS_LOGLEVEL=error\n")),
    "log level of the file is raised": ("agent-log", "ECS_LOGLEVEL_ON_INSTANCE hides", "ON_INSTANCE=info",
                                        lambda rig: ecs(rig, 'ECS_LOGLEVEL="debug"\nECS_LOGLEVEL_ON_INSTANCE=none\n')),
    "docker is not there": ("docker", "is not there", "systemctl start docker", docker_gone),
    "docker does not listen": ("docker", "nobody listens", "systemctl restart docker", docker_closed),
    "docker is not for us": ("docker", "may not be used", "usermod -aG docker ecs-health-agent",
                             lambda rig: mode(rig.root / "run/docker.sock", 0)),
    "docker hangs": ("docker", "the daemon hangs", "systemctl restart docker", lambda rig: set_to(rig.docker, "mode", "hang")),
    "docker's list hangs": ("docker", "list containers", "systemctl restart docker",
                            lambda rig: set_to(rig.docker, "mode", "hang-list")),
    "docker fails": ("docker", "what answers", "journalctl", lambda rig: set_to(rig.docker, "mode", "error")),
    "no D-Bus": ("units", "over D-Bus", "systemctl start dbus",
                 lambda rig: environment(rig, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={rig.root}/no-bus")),
    "unit that does not exist": ("units", 'no unit "docker.service"', '"docker.unit"', unit_unknown),
    "no polkit": ("polkit", "does not answer", "dnf install polkit", polkit_off),
    "no PSI": ("psi", "/proc/pressure/memory", "psi=1", lambda rig: renamed(rig.root / "proc/pressure/memory")),
    "memory lock is refused": ("memory-lock", "8192 KiB", "LimitMEMLOCK=infinity", lambda rig: limits(rig, "8388608  ")),
    "metadata of the stack may not be read": ("cloudformation", "may not", "cloudformation:DescribeStackResource",
                                              lambda rig: told(rig, cloudformation={
                                                  "state": "denied", "problem": "the role may not read it"})),
    "metadata of the stack are refused": ("cloudformation", "grase", "ECSHealthAgent", lambda rig: told(rig, settings={
        "ok": False, "problems": ["CloudFormation metadata: grase: unknown"]})),
    "alarm on no metric": ("alarms", 'there is no metric heartbeet, did you mean heartbeat', "ecs-health-agent metrics",
                           lambda rig: alarms(rig, alarm("typo", "heartbeet"))),
    "alarm on no such dimensions": ("alarms", "never published with these dimensions", "correct or delete",
                                    lambda rig: alarms(rig, alarm("by host", "heartbeat", {"InstanceId": "i-1"}))),
    "alarm on another group": ("alarms", "AutoScalingGroupName=gone is published by nobody", "delete",
                               lambda rig: alarms(rig, alarm("old", "heartbeat", {**GROUP, "AutoScalingGroupName": "gone"}))),
    "alarm on a formula": ("alarms", '"sum": there is no metric beats', "correct",
                           lambda rig: alarms(rig, math_alarm("sum", ("heartbeat", None), ("beats", None)))),
    "containers reach the role": ("role-exposure", "bridge networks", "--http-put-response-hop-limit 1",
                                  lambda rig: set_to(rig.fake.imds, "hop_limit", 2)),
    "awsvpc tasks reach the role": ("role-exposure", "awsvpc tasks reach", "ECS_AWSVPC_BLOCK_IMDS=true",
                                    lambda rig: ecs(rig, "ECS_AWSVPC_BLOCK_IMDS=false\n")),
}
FAULTS.update({f"{name} is denied": (f"right:{name}", "denied: ", "iam-policy",
                                     lambda rig, name=name: faulty(rig, name.partition(":")[2], "denied"))
               for name in RIGHTS})
FAULTS.update({f"{name} hangs": (f"right:{name}", "no answer", "try again",
                                 lambda rig, name=name: faulty(rig, name.partition(":")[2], "hang"))
               for name in (RIGHTS[0], "autoscaling:DetachInstances", "ec2:StopInstances")})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_with_its_fix_and_nothing_else_is(host, fault):
    check, found, fix, breaking = FAULTS[fault]
    began = time.monotonic()
    with breaking(host) as env:
        checks = examine(host, env, expect=[check])
    assert time.monotonic() - began < 30
    assert found in checks[check]["found"], checks[check]
    assert fix in checks[check]["fix"], checks[check]
    # nothing else is skipped but what rests on it
    reasons = {one["found"] for name, one in checks.items() if one["state"] == "skipped" and name not in OTHERS}
    assert reasons <= {f"needs {check}"}, reasons
    examine(host, expect=[])


def test_every_check_has_a_fault(host):
    assert {one[0] for one in FAULTS.values()} | {"sockets"} | OTHERS == NAMES


def forbid_netlink():
    """What a unit without AF_NETLINK in RestrictAddressFamilies= does: a filter of system calls."""
    number, arch = {"x86_64": (41, 0xc000003e), "aarch64": (198, 0xc00000b7)}[os.uname().machine]
    program = [(0x20, 0, 0, 4), (0x15, 0, 5, arch), (0x20, 0, 0, 0), (0x15, 0, 3, number),
               (0x20, 0, 0, 16), (0x15, 0, 1, socket.AF_NETLINK), (0x06, 0, 0, 0x00050000 | errno.EPERM),
               (0x06, 0, 0, 0x7fff0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, filters, 0, 0) != 0:  # NO_NEW_PRIVS, SECCOMP
        raise OSError(ctypes.get_errno(), "prctl")


def test_sockets_that_the_kernel_does_not_tell_of_are_found(host):
    checks = examine(host, expect=["sockets"], preexec_fn=forbid_netlink)
    assert "denied" in checks["sockets"]["found"] and "AF_NETLINK" in checks["sockets"]["fix"]


# -- what is not missed -----------------------------------------------------------------------------------------------

def test_what_the_settings_do_without_is_skipped(host):
    with settings(host, action="observe", witnesses=["introspection", "log"]), docker_gone(host):
        checks = examine(host, expect=[])
    skipped = {name: one["found"] for name, one in checks.items() if one["state"] == "skipped"}
    assert set(skipped) == OTHERS | {
        "sockets", "docker", "units", "polkit", "right:ecs:UpdateContainerInstancesState", "right:autoscaling:DetachInstances",
        "right:ecs:DeregisterContainerInstance", "right:ec2:StopInstances"}
    assert "witnesses" in skipped["docker"] and "not needed" in skipped["right:autoscaling:DetachInstances"]


@pytest.mark.parametrize("action, orphan, needed", [
    ("unhealthy", "stop", {"autoscaling:SetInstanceHealth", "ecs:DeregisterContainerInstance"}),
    ("standby", "stop", {"autoscaling:EnterStandby"}),
    ("detach", "terminate", {"autoscaling:DetachInstances", "ecs:DeregisterContainerInstance", "ec2:TerminateInstances"}),
    ("detach", "keep", {"autoscaling:DetachInstances", "ecs:DeregisterContainerInstance"})])
def test_each_action_is_asked_for_its_own_rights(host, action, orphan, needed):
    with settings(host, action=action, orphan={"action": orphan}):
        checks = examine(host, expect=[])
        asked = {name.removeprefix("right:") for name, one in checks.items() if name.startswith("right:") and one["state"] == "ok"}
        assert asked & {name.removeprefix("right:") for name in OTHERS | {
            "right:autoscaling:DetachInstances", "right:ecs:DeregisterContainerInstance", "right:ec2:StopInstances"}} == needed
        assert ("EC2" in checks["endpoints"]["found"]) == (orphan == "terminate")


@pytest.mark.parametrize("right, cost", [
    ("ecs:DescribeClusters", "it only observes"), ("autoscaling:DetachInstances", "nothing is drained or removed"),
    ("ecs:DeregisterContainerInstance", "acts as usual; the orphan stays in the cluster, and is reported"),
    ("ec2:StopInstances", "acts as usual; the orphan runs on, billed, and is reported"),
    ("cloudwatch:PutMetricData", "acts as usual, and publishes nothing")])
def test_a_denied_right_is_told_with_what_the_want_of_it_costs(host, right, cost):
    with faulty(host, right.partition(":")[2], "denied"):
        assert cost in examine(host, expect=[f"right:{right}"])[f"right:{right}"]["found"]


def test_a_host_in_no_group_needs_no_rights_for_one():
    with Rig(CONFIG, units=True, docker=True, group=None, size=1) as rig:
        ecs_config(rig)
        rig.wait_status(lambda s: s["identity"]["container_instance"], 40, "who it is")
        checks = examine(rig, expect=[])
    assert "in no Auto Scaling group" in checks["right:autoscaling:DetachInstances"]["found"]
    assert checks["right:autoscaling:DescribeAutoScalingInstances"]["state"] == "ok"


@pytest.mark.parametrize("action", ["DescribeAlarms", "ListMetrics"])
def test_rights_that_only_doctor_uses_are_not_missed(host, action):
    with faulty(host, action, "denied"):
        checks = examine(host, expect=[])
    assert checks["alarms"]["state"] == "skipped" and f"cloudwatch:{action}" in checks["alarms"]["found"]


def test_throttled_is_not_denied(host):
    with faulty(host, "DetachInstances", "throttled"):
        checks = examine(host, expect=[])
    assert "throttled" in checks["right:autoscaling:DetachInstances"]["found"]


def test_many_alarms_are_read_to_the_last_page(host):
    host.fake.alarms_page = 3
    with alarms(host, *(alarm(f"more {number}", "CPUUtilization", {}, "AWS/EC2") for number in range(20)),
                alarm("last", "heartbeet")):
        checks = examine(host, expect=["alarms"])
    host.fake.alarms_page = 100
    assert '"last"' in checks["alarms"]["found"]


def test_words_of_others_cannot_steer_the_terminal(host):
    with alarms(host, alarm("evil\033[2J\u009b2J\n", "heartbeet")):
        checks = examine(host, expect=["alarms"])
        text = host.run_command("doctor").stdout
    assert "evil?[2J" in checks["alarms"]["found"]
    assert "\033" not in text and "\u009b" not in text


def test_settings_of_the_stack_count_as_the_daemon_has_kept_them(host):
    cache = host.root / "var/lib/ecs-health-agent/cloudformation.json"
    before = cache.read_text() if cache.exists() else None
    cache.write_text(json.dumps({
        "state": "read", "instance_id": host.instance, "stack": "ecs", "resource": "Group", "read": "2026-06-30T10:11:12Z",
        "text": json.dumps({"metrics": {"namespace": "Other"}})}))
    try:
        assert examine(host, expect=[])["alarms"]["found"] == "0 on namespace Other"
    finally:
        cache.unlink() if before is None else cache.write_text(before)


def test_help_and_wrong_usage(tmp_path):
    def run(*arguments):
        return subprocess.run([binary(), "doctor", *arguments], env={"ECS_HEALTH_AGENT_ROOT": str(tmp_path)},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)

    done = run("--help")
    assert done.returncode == 0 and done.stdout.startswith("Usage: ecs-health-agent doctor") and done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 120
    for arguments in (("now",), ("--jsno",), ("--json=1",)):
        done = run(*arguments)
        assert done.returncode == 2 and done.stdout == "" and "--help" in done.stderr


def test_without_anything_it_says_so_and_ends(tmp_path):
    env = {"PATH": os.environ["PATH"], "ECS_HEALTH_AGENT_ROOT": str(tmp_path), IMDS_URL: f"http://127.0.0.1:{closed_port()}",
           "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/no-bus"}
    done = subprocess.run([binary(), "doctor", "--json"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=40)
    assert done.returncode == 1
    checks = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    assert set(problems(checks)) == {"daemon", "metadata-service", "introspection", "agent-log", "docker", "units", "psi"}
    assert {checks[name]["found"] for name in ("role", "region", "clock", "alarms", "right:ecs:PutAttributes")} == {
        "needs metadata-service"}
    assert checks["memory-lock"]["found"] == "needs daemon" and checks["polkit"]["found"] == "needs units"


def test_everything_that_hangs_at_once_ends_in_time(host):
    host.fake.fault("*", "hang")
    host.docker.mode = "hang"
    try:
        began = time.monotonic()
        checks = examine(host)
        assert time.monotonic() - began < 20
    finally:
        host.docker.mode = "good"
        host.fake.clear()
    assert "docker" in problems(checks)
