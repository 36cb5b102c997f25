# SPDX-License-Identifier: Apache-2.0
"""A whole host on a desk: a directory that stands for /, fake AWS, control plane and ECS agent, and the real daemon.

    with Rig() as rig:                                   # everything runs, the agent is connected
        rig.drop_link()
        rig.wait_for(lambda: rig.detaches(), 20, "a detach")

Settings are short times by default (CONFIG), deep-merged with Rig(config={...}). The daemon's binary is
$ECS_HEALTH_AGENT_BINARY or build/ecs-health-agent; its output is kept in rig.log_path and shown when a wait fails.
"""

import contextlib
import copy
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"

sys.path.insert(0, str(HERE))

from fake_aws import FakeAws  # noqa: E402
from fake_control_plane import FakeControlPlane, make_certificate  # noqa: E402
from fake_docker import FakeDocker  # noqa: E402

# the shortest path from a lost link to a detach that still goes through every step
CONFIG = {
    "action": "detach", "grace": "3s", "grace_dead": "2s", "cooldown": "0s",
    "confirm": {"before": "1s"},
    "repair": {"enabled": False, "wait": "2s"},
    "brakes": {"turn": "1s", "settle": "1s", "boot_grace": "0s", "window": "10m"},
    "metrics": {"period": "2s", "sample": "1s"},
    "patrol": {"enabled": False},  # its reads come at random moments
}

# the same again for tests that have to be many: the daemon never asks for less than a second without a break
QUICK = {"grace": "1s", "grace_dead": "1s", "confirm": {"before": "300ms"},
         "metrics": {"period": "1s", "sample": "500ms"}}

PROC = {
    "vmstat": "nr_free_pages 100000\noom_kill 0\n",
    "meminfo": "MemTotal:        8000000 kB\nMemFree:         2000000 kB\nMemAvailable:    5000000 kB\n"
               "Buffers:          100000 kB\nCached:          2500000 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n",
    "pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
                       "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "1/mountinfo": "22 1 259:1 / / rw,noatime shared:1 - xfs /dev/nvme0n1p1 rw,attr2,inode64\n",
}


def merged(base, more):
    result = copy.deepcopy(base)
    for key, value in (more or {}).items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def deeds(fake):
    """What has been done to instances so far, in order: (call, what, instance id)."""
    done = []
    with fake.lock:
        calls = [call for call in fake.calls if call["effect"]]
    for call in calls:
        action, params = call["action"], call["params"]
        if action == "UpdateContainerInstancesState":
            what, ident = {"DRAINING": "drain", "ACTIVE": "undrain"}[params["status"]], params["containerInstances"][0]
        elif action in ("DetachInstances", "EnterStandby", "ExitStandby"):
            what = {"DetachInstances": "detach", "EnterStandby": "standby", "ExitStandby": "return"}[action]
            ident, = params["InstanceIds"]
        elif action == "SetInstanceHealth":
            what, ident = params["HealthStatus"].lower(), params["InstanceId"]
        elif action == "DeregisterContainerInstance":
            what, ident = "deregister", params["containerInstance"]
        elif action in ("StopInstances", "TerminateInstances"):
            what, (ident, ) = action.removesuffix("Instances").lower(), params["InstanceId"]
        else:
            continue
        host = fake.world.host(ident)
        done.append((call, what, host.ec2 if host else ident))
    return done


def binary():
    return os.environ.get("ECS_HEALTH_AGENT_BINARY") or str(HERE.parents[1] / "build" / "ecs-health-agent")


class Child:
    """A fake in a process of its own that takes commands by line and answers by line of JSON."""

    def __init__(self, arguments, on_event=None):
        self.process = subprocess.Popen([PYTHON] + arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=sys.stderr, cwd=HERE, start_new_session=True)  # ^C is for us to handle
        self.on_event = on_event
        self.answers, self.ended = [], False
        self.arrived = threading.Condition()
        self.lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()
        self.hello = self._answer(20)

    def _read(self):
        for line in self.process.stdout:
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if "event" in answer:
                if self.on_event:
                    self.on_event(answer)
                continue
            with self.arrived:
                self.answers.append(answer)
                self.arrived.notify()
        with self.arrived:
            self.ended = True
            self.arrived.notify()

    def _answer(self, timeout):
        with self.arrived:
            self.arrived.wait_for(lambda: self.answers or self.ended, timeout)
            if not self.answers:
                raise TimeoutError(f"no answer from {self.process.args}; it has ended with {self.process.poll()}")
            return self.answers.pop(0)

    def __call__(self, command, timeout=10):
        with self.lock:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
            answer = self._answer(timeout)
        if not answer.get("ok"):
            raise ValueError(answer.get("error"))
        return answer

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


class Rig:
    """@config: over CONFIG; None for no file at all. @size: instances in the group, ours included. @units: a fake systemd on
    a private bus. @docker: a fake dockerd. @tls: the control plane speaks TLS; "all": AWS's endpoints too. @agent: further arguments of the fake
    ECS agent; None: no agent. @environment: over the daemon's; None as a value takes a variable away. @daemon: False:
    start it later, by start_daemon(). @among: another Rig, in whose AWS and group this is one more real host, with keys
    of its own."""

    def __init__(self, config=(), size=6, units=False, docker=False, tls=False, agent=(), environment=None, daemon=True,
                 heartbeat=1.0, group="demo-asg", time_scale=0.05, backoff_scale=0.1, short_arn=False, among=None):
        self.config = None if config is None else merged(CONFIG, dict(config))
        self.options = {"size": size, "units": units, "docker": docker, "tls": tls, "agent": agent, "daemon": daemon,
                        "heartbeat": heartbeat, "group": group, "time_scale": time_scale,
                        "backoff_scale": backoff_scale, "short_arn": short_arn, "among": among}
        self.extra = environment or {}
        self.stack = contextlib.ExitStack()
        self.daemon = self.agent = self.docker = self.systemd = self.bus_address = None
        self.starts = 0
        self.systemd_events = []
        self.repair_works = True  # RestartUnit("ecs.service") really restarts the fake agent

    # -- life ------------------------------------------------------------------------------------------------

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.stack = stack
            self._build()
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            self.show_log()
        elif self.daemon and self.daemon.poll() is None:
            # a sanitizer's findings at the end are a failure too
            self._stop_daemon()
            if self.daemon.returncode not in (0, -signal.SIGTERM):
                self.show_log()
                self.stack.close()
                raise AssertionError(f"the daemon ended with {self.daemon.returncode}")
        self.stack.close()

    def _build(self):
        options = self.options
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="rig-"))
        self.stack.callback(shutil.rmtree, self.root, ignore_errors=True)
        self.log_path = self.root / "daemon.log"
        self._tree()

        tls = make_certificate(self.root) if options["tls"] else None
        if options["among"]:
            self._join(options["among"])
        else:
            self.fake = FakeAws(tls=tls if options["tls"] == "all" else None).start()
            self.stack.callback(self.fake.stop)
            self.own = self.fake.populate(group=options["group"], size=options["size"], short_arn=options["short_arn"])
            self.imds = self.fake.imds
            self.control = self.fake.add_control_plane(tls=tls, heartbeat=options["heartbeat"])
        self.instance, self.group = self.own.ec2, options["group"]

        self._choose_port()
        if options["docker"]:
            self.docker = FakeDocker(str(self.root / "run/docker.sock")).start()
            self.stack.callback(self.docker.stop)
        if options["units"]:
            self._start_bus()
        if options["agent"] is not None:
            self._start_first_agent()
            self.wait_for(self.linked, 10, "the fake agent's link")
        self.write_config()
        self.stack.callback(self._stop_daemon)
        if options["daemon"]:
            self.start_daemon()

    def _join(self, other):
        """Take the place of a simulated member of that rig's group."""
        self.fake = other.fake
        real = {other.fake.imds.instance} | {one.instance for one in other.fake.more_imds}
        with self.fake.world.live() as state:
            members = {one.id for one in state.members(other.group)} - real
            self.own = next(one for one in state.hosts.values() if one.ec2 in members)
            self.own.connected = False
        self.imds = self.fake.add_imds(self.own.ec2)
        self.control = FakeControlPlane(self.fake.world.set_connected, heartbeat=self.options["heartbeat"]).start()
        self.stack.callback(self.control.stop)

    def _tree(self):
        for name in ("etc/ecs-health-agent", "var/log/ecs", "var/lib/ecs-health-agent", "run/ecs-health-agent",
                     "proc/pressure", "proc/1", "proc/sys/kernel/random"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name, text in PROC.items():
            (self.root / "proc" / name).write_text(text)
        for name in ("meminfo", "vmstat", "pressure/memory"):
            with contextlib.suppress(OSError):
                (self.root / "proc" / name).write_text(pathlib.Path("/proc", name).read_text())
        self.new_boot()

    def new_boot(self):
        """Another boot id, as after a reboot."""
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"{uuid.uuid4()}\n")

    def _choose_port(self):
        with socket.socket() as probe:  # it must be known before the agent runs, and stay when that restarts
            probe.bind(("127.0.0.1", 0))
            self.introspection_port = probe.getsockname()[1]

    def _start_first_agent(self):
        """Another test may have got the port meanwhile: then another port."""
        for attempt in range(3):
            try:
                return self.start_agent()
            except TimeoutError:
                if attempt == 2:
                    raise
                self._choose_port()

    # -- the fakes -------------------------------------------------------------------------------------------

    def start_agent(self, *more):
        options = self.options
        self.agent = Child([
            str(HERE / "fake_ecs_agent.py"), "--root", str(self.root), "--control-url", self.control.url,
            "--introspection-port", str(self.introspection_port), "--arn", self.own.arn, "--cluster", self.own.cluster,
            "--time-scale", str(options["time_scale"]), "--backoff-scale", str(options["backoff_scale"]),
            *(options["agent"] or ()), *more])
        self.stack.callback(self.agent.stop)
        return self.agent

    def linked(self):
        """Both ends say that the agent is connected, and its log says so too."""
        return self.own.agent_connected and self.agent("status")["connected"]

    def kill_agent(self, number=signal.SIGKILL):
        """SIGKILL: gone; SIGSTOP: hung; SIGCONT: lives on."""
        os.kill(self.agent.pid, number)
        if number == signal.SIGKILL:
            self.agent.stop()

    def _start_bus(self):
        conf = self.root / "bus.conf"
        self.bus_address = f"unix:path={self.root}/bus"
        conf.write_text(f"""<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>{self.bus_address}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
<allow user="*"/></policy></busconfig>
""")
        bus = subprocess.Popen(["dbus-daemon", f"--config-file={conf}", "--nofork", "--nosyslog"],
                               stderr=subprocess.DEVNULL, start_new_session=True)
        self.stack.callback(bus.wait)
        self.stack.callback(bus.kill)
        self.wait_for((self.root / "bus").exists, 10, "the private bus")
        self.systemd = Child([str(HERE / "fake_systemd.py"), self.bus_address], self._on_systemd)
        self.stack.callback(self.systemd.stop)

    def _on_systemd(self, event):
        self.systemd_events.append(event)
        if event == {"event": "started", "unit": "ecs.service"} and self.repair_works and self.agent:
            self.agent.stop()
            self.start_agent()

    # -- the daemon ------------------------------------------------------------------------------------------

    def write_config(self, config=None):
        """Write the settings anew; @config replaces what there was."""
        if config is not None:
            self.config = config
        path = self.root / "etc/ecs-health-agent/config.json"
        if self.config is None:
            path.unlink(missing_ok=True)
            return
        settings = merged({"ecs_agent": {"endpoint": f"http://127.0.0.1:{self.introspection_port}"}}, self.config)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(settings, indent=2))
        new.rename(path)

    def set_metadata(self, settings, stack="demo-stack", resource="AutoScalingGroup", tags=True, imds_tags=True):
        """Settings that stand in the CloudFormation metadata; None: without our key; a text: all of the metadata, as it
        is. @tags: this instance is tagged as made by that resource; @imds_tags: its tags are in the metadata service."""
        metadata = {"AWS::CloudFormation::Init": {"config": {}}, "ECSHealthAgent": settings}
        if settings is None:
            del metadata["ECSHealthAgent"]
        self.fake.imds.tags = imds_tags
        return self.fake.set_metadata(settings if isinstance(settings, str) else metadata, stack, resource, tags)

    def environment(self):
        env = {key: value for key, value in os.environ.items()
               if not key.startswith(("AWS_", "ECS_HEALTH_AGENT_")) and key.lower() not in (
                   "http_proxy", "https_proxy", "all_proxy", "no_proxy", "notify_socket")}
        env.update({
            "ECS_HEALTH_AGENT_ROOT": str(self.root), "ECS_HEALTH_AGENT_UNSAFE": "1", "AWS_ENDPOINT_URL": self.fake.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
            "DBUS_SYSTEM_BUS_ADDRESS": self.bus_address or f"unix:path={self.root}/no-bus",
        })
        if self.options["tls"]:
            env["AWS_CA_BUNDLE"] = str(self.root / "cert.pem")
        env.update(self.extra)
        return {key: value for key, value in env.items() if value is not None}

    def start_daemon(self, *more):
        log = open(self.log_path, "ab")
        self.starts += 1
        log.write(f"--- start {self.starts}\n".encode())
        log.flush()
        self.daemon = subprocess.Popen([binary(), "run", *more], env=self.environment(), stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, cwd=self.root)
        log.close()
        limits = self.root / f"proc/{self.daemon.pid}/limits"
        limits.parent.mkdir(parents=True, exist_ok=True)
        limits.write_text("Limit                     Soft Limit           Hard Limit           Units     \n"
                          "Max locked memory         unlimited            unlimited            bytes     \n")
        return self.daemon

    def kill_daemon(self, number=signal.SIGKILL):
        """Send a signal; wait for the end where it means one. Return the exit status, or None."""
        self.daemon.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGABRT):
            return self.daemon.wait(20)
        return None

    def restart_daemon(self, number=signal.SIGTERM):
        self.kill_daemon(number)
        return self.start_daemon()

    def _stop_daemon(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGCONT)  # it may be frozen
            self.daemon.terminate()
            try:
                self.daemon.wait(5)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()

    def run_command(self, *arguments, timeout=20):
        """Another command of the binary, in the daemon's environment. Return the CompletedProcess."""
        return subprocess.run([binary(), *arguments], env=self.environment(), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout, cwd=self.root)

    def status(self):
        """What the daemon says of itself, or None while it says nothing."""
        done = self.run_command("status", "--json")
        try:
            return json.loads(done.stdout)
        except ValueError:
            return None

    def peek(self):
        """The same straight from its socket, for polling: no process is started."""
        at = os.open(self.root / "run/ecs-health-agent", os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(5)
                one.connect(f"/proc/self/fd/{at}/status.sock")  # sun_path holds 107 bytes
                with one.makefile("rb") as stream:
                    return json.load(stream)
        except (OSError, ValueError):
            return None
        finally:
            os.close(at)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def show_log(self):
        text = self.log()
        sys.stderr.write(f"\n=== the daemon's log ({len(text)} bytes, the last 20000) ===\n{text[-20000:]}\n")
        for call in [call for call in self.fake.calls if call["action"] != "PutMetricData"][-60:]:
            sys.stderr.write(f"{call['time']:.3f} {call['caller'] or ''} {call['action']} {str(call['params'])[:160]} -> {call['status']} "
                             f"{call['code'] or ''} {' '.join(call['faults'])}\n")

    # -- waiting ---------------------------------------------------------------------------------------------

    def wait_for(self, condition, timeout=10.0, what="the condition"):
        """Poll until @condition() is true and return its value; AssertionError with the log when time is up."""
        ends = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if self.daemon and self.daemon.poll() is not None and self.daemon.returncode not in (
                    0, -signal.SIGKILL, -signal.SIGTERM):
                raise AssertionError(f"the daemon ended with {self.daemon.returncode} while waiting for {what}")
            if time.monotonic() > ends:
                raise AssertionError(f"waited {timeout:g} s in vain for {what}")
            time.sleep(0.02)

    def wait_status(self, condition, timeout=40.0, what="what the daemon says of itself"):
        """Poll until @condition(status) is true and return that status."""
        last = {}

        def ask():
            status = self.peek()
            if status:
                last.update(status)
                if condition(status):
                    return status
            time.sleep(0.05)
            return None

        try:
            return self.wait_for(ask, timeout, what)
        except AssertionError as error:
            shown = {key: last.get(key) for key in ("verdict", "stage", "brakes", "control_plane", "problems")}
            raise AssertionError(f"{error}; status: {json.dumps(shown)}") from None

    def wait_ready(self):
        """Wait until nothing of the start is under way: the daemon knows the agent, its group and its rights."""
        removal = {"detach": "DetachInstances", "unhealthy": "SetInstanceHealth", "standby": "EnterStandby"}

        def ready(status):
            action = status["settings"]["action"]
            writes = ["ecs:PutAttributes"]  # what is not used is not probed
            if action != "observe":
                writes += ["ecs:UpdateContainerInstancesState", f"autoscaling:{removal[action]}"]
            rights = {one["name"]: one["granted"] for one in status["rights"]}
            return (status["verdict"]["cause"] == "none" and status["identity"]["group"] == self.group
                    and all(rights[name] != "unknown" for name in writes))

        return self.wait_status(ready, 40, "the end of the start")

    def wait_cause(self, cause, timeout=40.0):
        return self.wait_status(lambda s: s["verdict"]["cause"] == cause, timeout, f"the verdict {cause}")

    def wait_stage(self, stage, timeout=40.0):
        return self.wait_status(lambda s: s["stage"]["name"] == stage, timeout, f"the stage {stage}")

    def holds_for(self, condition, seconds, what="the condition"):
        """Assert that @condition() stays true for @seconds."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if not condition():
                raise AssertionError(f"no longer true: {what}")
            time.sleep(0.02)

    # -- what happens to the host ----------------------------------------------------------------------------

    def drop_link(self, what="links"):
        """The control plane resets this host's links and refuses new ones (FakeControlPlane.refuse)."""
        self.control.refuse(what)
        self.control.reset()

    def restore_link(self):
        self.control.restore()

    def freeze(self):
        """Daemon and agent get no time any more; the service notices when nobody answers its heartbeat."""
        self.kill_daemon(signal.SIGSTOP)
        self.kill_agent(signal.SIGSTOP)

    def thaw(self):
        self.kill_agent(signal.SIGCONT)
        self.kill_daemon(signal.SIGCONT)

    # -- what the daemon did ---------------------------------------------------------------------------------

    def drains(self):
        """Own drains that ECS carried out."""
        return [call for call in self.fake.calls_of("UpdateContainerInstancesState", self.instance, status="DRAINING")
                if call["effect"]]

    def undrains(self):
        return [call for call in self.fake.calls_of("UpdateContainerInstancesState", self.instance, status="ACTIVE")
                if call["effect"]]

    def detaches(self):
        """Own detaches that Auto Scaling carried out."""
        return [call for call in self.fake.calls_of("DetachInstances", self.instance) if call["effect"]]

    def detach_attempts(self):
        return self.fake.calls_of("DetachInstances", self.instance)

    def check_removed(self, timeout=60.0):
        """One drain, one detach, in this order, of this very instance; the group has launched a replacement for it."""
        self.wait_for(self.detaches, timeout, "a detach")
        self.wait_stage("removed")
        group = self.fake.world.group(self.group)

        def replaced():
            with self.fake.world.live() as state:
                members = state.members(self.group)
            return len(members) == group.desired and all(
                one.lifecycle == "InService" and one.id != self.instance for one in members)

        self.wait_for(replaced, 20, "the replacement")
        assert self.actions() == ["drain", "detach"]
        attempts = self.detach_attempts()
        assert len(attempts) == 1 and attempts[0]["params"]["ShouldDecrementDesiredCapacity"] == "false"
        assert group.desired == self.options["size"]
        assert self.own.status == "DRAINING"

    def wait_held(self, *names, looks=2, timeout=40.0):
        """Wait until these brakes hold, for the second time in a row; check that it is told everywhere. Return the
        status."""
        def held(status):
            holding = {one["name"] for one in status["brakes"]}
            stage = status["stage"]
            return stage["name"] == "held" and set(names) <= holding and stage["looks_held"] >= looks

        self.wait_status(held, timeout, f"held by {names}")
        status = self.wait_for(lambda: next((one for one in [self.status()] if one and held(one)), None), 20,
                               f"held by {names} in status --json")
        for name in names:
            assert name in status["headline"]["next"]
            self.wait_for(lambda: any("Not removing this instance" in line and name in line
                                      for line in self.log().splitlines()), 5, f"the brake {name} in the log")
        return status

    def actions(self):
        """What changed something about any instance, in order: "drain", "detach", "undrain", ...; "detach ID" of
        another."""
        return [what if ident == self.instance else f"{what} {ident}" for _, what, ident in deeds(self.fake)]


@contextlib.contextmanager
def watching(config=(), **options):
    """A Rig with QUICK times whose daemon has started through."""
    with Rig(merged(QUICK, dict(config)), **options) as rig:
        group = rig.fake.world.group(rig.group)
        group.detach_seconds = group.launch_seconds = 0.2
        rig.wait_ready()
        yield rig
