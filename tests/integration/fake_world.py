# SPDX-License-Identifier: Apache-2.0
"""The state behind the fake AWS: clusters, container instances, Auto Scaling groups, their instances and activities.

Transitions that take time (Detaching to Detached, the replacement's launch) are queued with the time at which they are
due, and carried out when somebody next looks: no threads, and every time stamp is the right one.
"""

import contextlib
import copy
import heapq
import random
import re
import threading
import time

ACCOUNT = "123456789012"
REGION = "us-east-1"
IMPOSSIBLE = "i-00000000000000000"


class Instance:
    """An EC2 instance, as Auto Scaling and the metadata service see it."""

    def __init__(self, ident, zone, group=None, lifecycle="InService", type_="m5.large"):
        self.id = ident
        self.zone = zone
        self.type = type_
        self.group = group          # name, None: not in any
        self.lifecycle = lifecycle  # Auto Scaling's state; None: not in any group
        self.target = "InService" if group else None  # what the metadata service says; None: 404
        self.health = "Healthy"
        self.protected = False
        self.tags = {}
        self.power = "running"      # EC2's state: running, stopping, stopped, shutting-down, terminated
        self.spot = False           # a one-time Spot request: can be terminated, but not stopped


class ContainerInstance:
    """A container instance, as ECS sees it."""

    def __init__(self, arn, cluster, ec2, zone, connected=True, now=0.0):
        self.arn = arn
        self.cluster = cluster      # name
        self.ec2 = ec2              # instance id
        self.connected = connected
        self.forced = None          # True or False: what agentConnected says whatever the link does
        self.status = "ACTIVE"
        self.attributes = {"ecs.availability-zone": zone, "ecs.instance-type": "m5.large", "ecs.os-type": "linux",
                           "ecs.ami-id": "ami-0123456789abcdef0", "ecs.capability.task-eni": None}
        self.tags = {}
        self.health = "OK"
        self.update_status = None
        self.running = 2
        self.pending = 0
        self.registered_at = now

    @property
    def agent_connected(self):
        return self.connected if self.forced is None else self.forced


class Cluster:
    def __init__(self, name):
        self.name = name
        self.arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}"
        self.tags = {}
        self.status = "ACTIVE"


class Group:
    """An Auto Scaling group. @weights: instance type -> weight, for a group that is counted in weights."""

    def __init__(self, name, minimum, desired, maximum, zones):
        self.name = name
        self.min, self.desired, self.max = minimum, desired, maximum
        self.zones = list(zones)
        self.suspended = set()
        self.tags = {}
        self.weights = {}
        self.desired_type = None    # "units", "vcpu", "memory-mib"
        self.operator = None        # principal of the service that operates it
        self.status = None          # "Delete in progress"
        self.refreshes = []         # dicts: InstanceRefreshId, Status, StartTime, PercentageComplete
        self.activities = []        # newest first
        self.launch_fails = None    # text: launches fail with it
        self.launch_seconds = 0.5   # from DetachInstances to the replacement's InService
        self.connect_seconds = 0.2  # from there to its agent's connection
        self.detach_seconds = 0.5   # in Detaching, EnteringStandby, Terminating


class Activity:
    def __init__(self, group, description, cause, start, status="InProgress", progress=50, details=None):
        self.id = "-".join(f"{random.getrandbits(4 * n):0{n}x}" for n in (8, 4, 4, 4, 12))
        self.group = group
        self.description = description
        self.cause = cause
        self.start = start
        self.end = None
        self.status = status
        self.message = None
        self.progress = progress
        self.details = details or "{}"

    def finish(self, now, status="Successful", message=None):
        self.end, self.status, self.message, self.progress = now, status, message, 100


class State:
    """What can be looked at: live, or as it was some seconds ago."""

    def __init__(self):
        self.clusters = {}    # name -> Cluster
        self.hosts = {}       # container instance ARN -> ContainerInstance
        self.groups = {}      # name -> Group
        self.instances = {}   # instance id -> Instance
        self.stacks = {}      # name -> fake_cloudformation.FakeStack

    def members(self, group):
        return [one for one in self.instances.values() if one.group == group]

    def hosts_of(self, cluster):
        return [one for one in self.hosts.values() if one.cluster == cluster]


def iso(seconds, millis=False):
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{int(seconds * 1000) % 1000:03d}Z" if millis else text + "Z"


def new_instance_id():
    return f"i-0{random.getrandbits(64):016x}"


class World:
    """The one live State, its clock, and what is due."""

    def __init__(self):
        self.lock = threading.RLock()
        self.skew = 0.0              # the services' clock minus ours, seconds
        self.refuse_identity = False  # CloudFormation lets no instance in without a role's signature
        self.state = State()
        self._due = []               # heap of (time, number, function(time))
        self._number = 0
        self._history = None         # [(time, State)] once somebody wants stale reads

    def now(self):
        return time.time() + self.skew

    # -- time ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def live(self):
        """Lock, bring the state up to date, hand it out; changes made inside are kept for stale reads."""
        with self.lock:
            self._advance()
            yield self.state
            self._remember(self.now())

    def view(self, lag=0.0):
        """The state as it was @lag seconds ago; only what happened since keep_history() can be told apart."""
        with self.lock:
            self._advance()
            if not lag or not self._history:
                return self.state
            wanted = self.now() - lag
            shown = self._history[0][1]
            for at, state in self._history:
                if at <= wanted:
                    shown = state
            return shown

    def keep_history(self):
        with self.lock:
            if self._history is None:
                self._history = [(0.0, copy.deepcopy(self.state))]

    def later(self, seconds, change):
        """Have @change(time) called when @seconds have passed."""
        with self.lock:
            self._number += 1
            heapq.heappush(self._due, (self.now() + seconds, self._number, change))

    def _advance(self):
        while self._due and self._due[0][0] <= self.now():
            at, _, change = heapq.heappop(self._due)
            change(at)
            self._remember(at)

    def _remember(self, at):
        if self._history is not None:
            self._history.append((at, copy.deepcopy(self.state)))
            del self._history[1:-200]

    # -- setting the scene ---------------------------------------------------------------------------------

    def add_cluster(self, name):
        with self.live() as state:
            return state.clusters.setdefault(name, Cluster(name))

    def add_group(self, name, size, zones=("us-east-1a", "us-east-1b"), minimum=0, maximum=None):
        with self.live() as state:
            state.groups[name] = Group(name, minimum, size, 2 * size if maximum is None else maximum, zones)
            return state.groups[name]

    def add_instance(self, group=None, cluster=None, ident=None, zone=None, connected=True, short_arn=False):
        """An instance that is in service, with its container instance where @cluster is given."""
        with self.live() as state:
            zones = state.groups[group].zones if group else ["us-east-1a"]
            zone = zone or zones[len(state.instances) % len(zones)]
            one = Instance(ident or new_instance_id(), zone, group, "InService" if group else None)
            if group:
                one.tags["aws:autoscaling:groupName"] = group
            state.instances[one.id] = one
            if cluster:
                self._register(one, cluster, connected, short_arn)
            return one

    def _register(self, one, cluster, connected, short_arn=False):
        tail = f"{random.getrandbits(128):032x}"
        arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/" + (tail if short_arn else f"{cluster}/{tail}")
        host = ContainerInstance(arn, cluster, one.id, one.zone, connected, self.now())
        self.state.hosts[arn] = host
        return host

    # -- asking --------------------------------------------------------------------------------------------

    def host(self, ident):
        """ContainerInstance by ARN, by the last part of the ARN, or by instance id; else None."""
        with self.live() as state:
            for host in state.hosts.values():
                if ident in (host.arn, host.arn.rsplit("/", 1)[1], host.ec2):
                    return host
            return None

    def instance(self, ident):
        with self.live() as state:
            return state.instances.get(ident)

    def group(self, name):
        with self.live() as state:
            return state.groups.get(name)

    # -- changing ------------------------------------------------------------------------------------------

    def set_connected(self, ident, connected):
        """What the control link does: agentConnected follows unless it is forced."""
        with self.live():
            host = self.host(ident)
            if host:
                host.connected = connected

    def force_connected(self, ident, connected):
        """What ECS says whatever the link does; None: follow the link again."""
        with self.live():
            self.host(ident).forced = connected

    def set_lifecycle(self, ident, lifecycle, target=None):
        """Put an instance into a state of Auto Scaling's: "Standby", "Terminating:Wait", ...; @target: what the
        metadata service says, by default the same without what follows the colon."""
        with self.live() as state:
            one = state.instances[ident]
            one.lifecycle, one.target = lifecycle, target or lifecycle.split(":")[0]

    def leave(self, ident, target="Detached"):
        """The instance is in no group any more, at once and without an activity: already detached, by whomever."""
        with self.live() as state:
            one = state.instances[ident]
            one.group = one.lifecycle = None
            one.target = target

    def add_activity(self, group, description, cause, start=None, status="Successful"):
        """A past or present activity, newest first in the list."""
        with self.live() as state:
            now = self.now() if start is None else start
            activity = Activity(group, description, cause, now)
            if status != "InProgress":
                activity.finish(now, status)
            state.groups[group].activities.insert(0, activity)
            state.groups[group].activities.sort(key=lambda one: -one.start)
            return activity

    def suspend(self, group, *processes):
        with self.live() as state:
            state.groups[group].suspended.update(processes)

    def resume(self, group, *processes):
        """Resumed launches are made up for."""
        with self.live() as state:
            state.groups[group].suspended.difference_update(processes)
            self._fill(group, self.now())

    def detach(self, group, ident, decrement):
        """DetachInstances, the part that changes something; the caller has checked. Return the activity."""
        with self.live() as state:
            now = self.now()
            one, owner = state.instances[ident], state.groups[group]
            activity = Activity(
                group, f"Detaching EC2 instance: {ident}",
                f"At {iso(now)} instance {ident} was detached in response to a user request."
                + (f", shrinking the capacity from {owner.desired} to {owner.desired - 1}." if decrement else ""),
                now, details=f'{{"Subnet ID":"subnet-0123456789abcdef0","Availability Zone":"{one.zone}"}}')
            owner.activities.insert(0, activity)
            one.lifecycle = "Detaching"
            if decrement:
                owner.desired -= 1

            def done(at):
                activity.finish(at)
                one.group = one.lifecycle = None
                one.target = "Detached"
                one.protected = False
                one.tags.pop("aws:autoscaling:groupName", None)

            self.later(owner.detach_seconds, done)
            self._fill(group, now)
            return activity

    def enter_standby(self, group, ident, decrement):
        """EnterStandby, the part that changes something. Return the activity."""
        with self.live() as state:
            now, one, owner = self.now(), state.instances[ident], state.groups[group]
            activity = Activity(
                group, f"Moving EC2 instance to Standby: {ident}",
                f"At {iso(now)} instance {ident} was moved to standby in response to a user request."
                + (f", shrinking the capacity from {owner.desired} to {owner.desired - 1}." if decrement else ""), now)
            owner.activities.insert(0, activity)
            one.lifecycle = "EnteringStandby"
            if decrement:
                owner.desired -= 1

            def done(at):
                activity.finish(at)
                one.lifecycle = one.target = "Standby"

            self.later(owner.detach_seconds, done)
            self._fill(group, now)
            return activity

    def _come_in(self, one, owner, description, what):
        """@one is in service after a while, and the group wants one more. Return the activity."""
        now = self.now()
        activity = Activity(
            owner.name, f"{description}: {one.id}", f"At {iso(now)} instance {one.id} was {what} in response to a user "
            f"request, increasing the capacity from {owner.desired} to {owner.desired + 1}.", now, "PreInService", 30)
        owner.activities.insert(0, activity)
        owner.desired += 1
        one.group, one.lifecycle, one.health = owner.name, "Pending", "Healthy"
        one.tags["aws:autoscaling:groupName"] = owner.name

        def done(at):
            activity.finish(at)
            one.lifecycle = one.target = "InService"

        self.later(owner.launch_seconds, done)
        return activity

    def exit_standby(self, group, ident):
        with self.live() as state:
            return self._come_in(state.instances[ident], state.groups[group], "Moving EC2 instance out of Standby",
                                 "moved out of standby")

    def attach(self, group, ident):
        """AttachInstances, by an operator: the group takes an instance that is in none."""
        with self.live() as state:
            return self._come_in(state.instances[ident], state.groups[group], "Attaching an existing EC2 instance",
                                 "attached")

    def set_health(self, ident, health):
        """SetInstanceHealth: one that is unhealthy is soon terminated and replaced, unless that is suspended."""
        with self.live() as state:
            one = state.instances[ident]
            one.health = health
            owner = state.groups[one.group]
            if health == "Unhealthy" and not owner.suspended & {"HealthCheck", "ReplaceUnhealthy", "Terminate"}:
                self._replace(one, owner, self.now())

    def _replace(self, one, owner, now):
        activity = Activity(
            owner.name, f"Terminating EC2 instance: {one.id}", f"At {iso(now)} an instance was taken out of service in "
            "response to a user health-check.", now)
        owner.activities.insert(0, activity)
        one.lifecycle, one.target = "Terminating", "Terminated"

        def done(at):
            activity.finish(at)
            one.group = one.lifecycle = None
            self._powered(one, "terminated")

        self.later(owner.detach_seconds, done)
        self._fill(owner.name, now)

    def _powered(self, one, power):
        """Without power no agent is connected."""
        one.power = power
        if power != "running":
            for host in self.state.hosts.values():
                if host.ec2 == one.id:
                    host.connected = False

    def power_off(self, ident, terminate):
        """StopInstances or TerminateInstances. Return the states before and after, as EC2 answers at once."""
        with self.live() as state:
            one = state.instances[ident]
            before = one.power
            if before == "terminated" or (before in ("stopping", "stopped") and not terminate):
                return before, before
            one.power = "shutting-down" if terminate else "stopping"
            self.later(0.3, lambda _: self._powered(one, "terminated" if terminate else "stopped"))
            return before, one.power

    def power_on(self, ident):
        """An operator starts what was stopped."""
        with self.live() as state:
            assert state.instances[ident].power == "stopped"
            state.instances[ident].power = "running"

    def _fill(self, group, now):
        """Launch what is missing, as the group would."""
        owner = self.state.groups[group]
        if "Launch" in owner.suspended:
            return
        there = [one for one in self.state.members(group)
                 if one.lifecycle and one.lifecycle.split(":")[0] in ("Pending", "InService")]
        for missing in range(max(0, owner.desired - len(there))):
            self._launch(owner, len(there) + missing, now)

    def _launch(self, owner, capacity, now):
        cause = (f"At {iso(now)} an instance was launched in response to a difference between desired and actual "
                 f"capacity, increasing the capacity from {capacity} to {capacity + 1}.")
        if owner.launch_fails:
            activity = Activity(owner.name, "Launching a new EC2 instance.  Status Reason: " + owner.launch_fails
                                + " Launching EC2 instance failed.", cause, now)
            activity.finish(now, "Failed", owner.launch_fails + " Launching EC2 instance failed.")
            owner.activities.insert(0, activity)
            return
        one = Instance(new_instance_id(), random.choice(owner.zones), owner.name, "Pending")
        one.tags["aws:autoscaling:groupName"] = owner.name
        self.state.instances[one.id] = one
        activity = Activity(owner.name, f"Launching a new EC2 instance: {one.id}", cause, now, "PreInService", 30,
                            f'{{"Subnet ID":"subnet-0123456789abcdef0","Availability Zone":"{one.zone}"}}')
        owner.activities.insert(0, activity)
        clusters = {host.cluster for host in self.state.hosts.values()
                    if host.ec2 in self.state.instances and self.state.instances[host.ec2].group == owner.name}
        cluster = min(clusters) if clusters else min(self.state.clusters, default=None)

        def in_service(at):
            one.lifecycle = "InService"
            activity.finish(at)
            if cluster:
                host = self._register(one, cluster, False)
                self.later(owner.connect_seconds, lambda _: setattr(host, "connected", True))

        self.later(owner.launch_seconds, in_service)

    def dump(self):
        """The whole state as plain data."""
        def plain(one):
            return {key: sorted(value) if isinstance(value, set) else
                    [plain(item) if isinstance(item, Activity) else item for item in value]
                    if isinstance(value, list) else value for key, value in vars(one).items()}

        with self.live() as state:
            return {
                "now": self.now(),
                "clusters": {key: plain(one) for key, one in state.clusters.items()},
                "hosts": {key: dict(plain(one), agentConnected=one.agent_connected)
                          for key, one in state.hosts.items()},
                "groups": {key: plain(one) for key, one in state.groups.items()},
                "instances": {key: plain(one) for key, one in state.instances.items()},
            }


# -- the cluster query language, as far as it is used ---------------------------------------------------------

_TERM = re.compile(
    r"agentConnected\s*==\s*(?P<connected>true|false)"
    r"|ec2InstanceId\s*==\s*(?P<ec2>'[^']*'|\"[^\"]*\"|[\w-]+)"
    r"|attribute:(?P<present>[\w./-]+)\s+exists"
    r"|attribute:(?P<name>[\w./-]+)\s*==\s*(?P<value>'[^']*'|\"[^\"]*\"|[\w./:-]+)")


def query_matches(text, host):
    """Whether @host matches @text: terms joined by "and", which binds first, and "or". ValueError: not an expression
    that we know."""
    # no shortcut: every term is to be known
    return any([all([_term_matches(term, host) for term in re.split(r"\s+and\s+", part)])
                for part in re.split(r"\s+or\s+", text)])


def _term_matches(term, host):
    match = _TERM.fullmatch(term.strip())
    if not match:
        raise ValueError(term)
    if match["connected"]:
        return host.agent_connected == (match["connected"] == "true")
    if match["ec2"]:
        return host.ec2 == match["ec2"].strip("'\"")
    if match["present"]:
        return match["present"] in host.attributes
    return host.attributes.get(match["name"]) == match["value"].strip("'\"")
