#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 all along the path, on one rig, incident after incident; test_crash.py runs several of these side by side.

    crash_run.py --seed 7 --kills 50 [--share 0/4] [--seconds 600]

An incident begins with a dropped link and ends with an instance that is out of its group, or with one that is well again
and as it was. In between the daemon is killed and started again, at points that are taken from a list in turn (an API call
that is held back before or after it takes effect), and after random delays. What must hold is asserted after each
incident, from the calls that the fake AWS has received. The last line of standard output is JSON: kills, incidents,
points, failures.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from rig import Rig  # noqa: E402

CONFIG = {
    "grace": "1s", "grace_dead": "1s", "confirm": {"before": "300ms"},
    "brakes": {"turn": "500ms", "settle": "500ms"},
    "metrics": {"period": "2s", "sample": "500ms"},
}
REMOVED = "stage 11\n"  # in the journal
MARK = "ecs-health-agent.incident"
PATIENCE = 90.0         # for what takes 2 to 10 s on an idle machine
HELD = "hang", "hang_after_effect"  # a call that never takes effect, one that has and whose answer never comes

# Every call of the path, by action and how often it has been made in this incident; the last four are the way back.
LOOK = ("DescribeClusters", "ListContainerInstances", "DescribeContainerInstances", "DescribeAutoScalingInstances",
        "DescribeAutoScalingGroups", "DescribeInstanceRefreshes", "DescribeScalingActivities")
FORTH = ([("DescribeContainerInstances", 0)]
         + [(action, nth + (action == "DescribeContainerInstances")) for nth in range(3) for action in LOOK]
         + [("mark", 0), ("drain", 0), ("DetachInstances", 0), ("DescribeAutoScalingInstances", 3)])
BACK = [("DescribeContainerInstances", 0), ("undrain", 0), ("unmark", 0)]


class Failure(AssertionError):
    pass


def fits(name, rig):
    """(action, function(params)) of a named call about our own instance."""
    def names_mark(params):
        return params["attributes"][0]["name"] == MARK

    arn = rig.own.arn
    return {
        "mark": ("PutAttributes", names_mark),
        "unmark": ("DeleteAttributes", names_mark),
        "drain": ("UpdateContainerInstancesState",
                  lambda params: params["status"] == "DRAINING" and params["containerInstances"] == [arn]),
        "undrain": ("UpdateContainerInstancesState", lambda params: params["status"] == "ACTIVE"),
        "DetachInstances": ("DetachInstances", lambda params: params["InstanceIds"] == [rig.instance]),
    }.get(name, (name, lambda params: True))


class Monkey:
    """@rig: runs without a daemon."""

    def __init__(self, rig, seed):
        self.rig, self.random = rig, random.Random(seed)
        self.kills = 0
        self.points = {}        # how often each has been killed at
        self.starts = []        # times of the daemon's starts in this incident
        self.connected = None   # since when ECS calls the agent connected; None: it does not
        world, told = rig.fake.world, rig.control.on_connected

        def tell(arn, connected):
            told(arn, connected)
            if arn == rig.own.arn:
                self.connected = time.time() if connected else None

        rig.control.on_connected = tell
        with world.live() as state:
            self.members = [one.id for one in state.members(rig.group)]
        for name in "detach_seconds", "launch_seconds":
            setattr(world.group(rig.group), name, 0.3)

    # -- steps -----------------------------------------------------------------------------------------------

    def start(self):
        self.starts.append(time.time())
        self.rig.start_daemon()

    def kill(self, where):
        if self.rig.daemon.poll() is not None:
            raise Failure(f"the daemon had ended by itself with {self.rig.daemon.returncode}")
        self.rig.kill_daemon(signal.SIGKILL)
        self.kills += 1
        self.points[where] = self.points.get(where, 0) + 1

    def wait(self, condition, what, seconds=PATIENCE):
        ends = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > ends:
                raise Failure(f"waited {seconds:g} s in vain for {what}")
            if self.rig.daemon and self.rig.daemon.poll() not in (None, -signal.SIGKILL):
                raise Failure(f"the daemon ended with {self.rig.daemon.returncode} while waiting for {what}")
            time.sleep(0.01)

    def hold(self, name, nth, kind):
        """The @nth call of this name from now on is held back. Return: function() -> it has come so far."""
        action, own = fits(name, self.rig)
        seen, met = itertools.count(), []

        def where(params):
            if not own(params) or next(seen) != nth:
                return False
            met.append(params)
            return True

        self.rig.fake.fault(action, kind, count=1, where=where)

        def there():
            if not met:
                return False
            if kind == "hang":
                return True
            return any(call["params"] is met[0] and call["effect"] for call in list(self.rig.fake.calls))
        return there

    def over(self):
        """Out of the group, and the journal says so."""
        one = self.rig.fake.world.instance(self.rig.instance)
        return one.group is None and self.rig.daemon.poll() is None and self.stage_is(REMOVED)

    def stage_is(self, line):
        try:
            return line in (self.rig.root / "run/ecs-health-agent/journal").read_text()
        except OSError:
            return False

    def clean(self):
        """As it was before: not draining, not marked."""
        host = self.rig.own
        return host.status == "ACTIVE" and MARK not in host.attributes

    def kill_at(self, name, nth, kind, until):
        """Kill at a held call; false if @until() came true first, so that there is no such call any more."""
        there = self.hold(name, nth, kind)
        self.wait(lambda: there() or until(), f"call {nth} of {name}, or the end")
        met = there()
        if met:
            self.kill(f"{name} {nth} {kind}")
        self.rig.fake.clear()
        return met

    def kill_after(self, longest):
        time.sleep(self.random.uniform(0, longest))
        self.kill("delay")

    def pause(self):
        time.sleep(self.random.choice((0, 0, 0.1, 0.6)))

    # -- incidents -------------------------------------------------------------------------------------------

    def begin(self):
        """All as on the first day; the daemon runs; the link is dropped."""
        rig, world = self.rig, self.rig.fake.world
        rig._stop_daemon()
        rig.fake.clear()
        rig.restore_link()
        with world.live() as state:
            world._due.clear()
            for ident, one in list(state.instances.items()):
                if ident not in self.members:
                    del state.instances[ident]
                    for arn in [arn for arn, host in state.hosts.items() if host.ec2 == ident]:
                        del state.hosts[arn]
                else:
                    one.group, one.lifecycle, one.target = rig.group, "InService", "InService"
            group = state.groups[rig.group]
            group.activities.clear()
            group.tags.clear()
            group.desired = len(self.members)
            rig.own.status = "ACTIVE"
            for name in [name for name in rig.own.attributes if name.startswith("ecs-health-agent")]:
                del rig.own.attributes[name]
        for name in "run/ecs-health-agent", "var/lib/ecs-health-agent":
            shutil.rmtree(rig.root / name)
            (rig.root / name).mkdir()
        self.wait_linked()
        with rig.fake.lock:
            rig.fake.calls.clear()
            rig.fake.metrics.clear()
        rig.log_path.unlink(missing_ok=True)
        self.starts = []
        self.start()
        time.sleep(self.random.uniform(0, 0.5))
        rig.drop_link()

    def wait_linked(self):
        ends = time.monotonic() + PATIENCE
        while not self.rig.linked():
            if time.monotonic() > ends:
                raise Failure("the fake agent did not reconnect")
            time.sleep(0.02)

    def again(self):
        self.pause()
        self.start()

    def end_removed(self):
        self.wait(self.over, "a detached instance and a journal that says so")
        if self.random.random() < 0.3:  # and once more, now that there is nothing to do any more
            self.kill_after(0.3)
            self.again()
            time.sleep(self.random.uniform(0.3, 1.0))
            self.wait(self.over, "the end, again")
        self.check()
        if len(self.effective()) != 1:
            raise Failure(f"{len(self.effective())} detaches of an instance whose agent stayed down")

    def stays_down(self, point, kind):
        """One kill at @point, and some more at random; the agent never comes back."""
        self.begin()
        if self.kill_at(*point, kind, self.over):
            self.again()
            for _ in range(self.random.choice((0, 1, 1, 2))):
                self.kill_after(self.random.choice((0.4, 3.0)))
                self.again()
        self.end_removed()

    def storm(self):
        """Kills in quick succession around a random moment of the path, most of them while it is starting."""
        self.begin()
        time.sleep(self.random.uniform(1.0, 4.0))
        for _ in range(self.random.randint(3, 6)):
            self.kill_after(self.random.choice((0.15, 0.5, 1.2)))
            self.again()
        self.end_removed()

    def comes_back(self, point, kind, back):
        """Killed at @point; the agent reconnects before or after the next start; killed again at @back on its way back."""
        self.begin()
        if self.kill_at(*point, kind, self.over):
            early = self.random.random() < 0.5
            if early:
                self.rig.restore_link()
            self.again()
            if not early:
                time.sleep(self.random.uniform(0, 1.0))
                self.rig.restore_link()
            for name, nth in back:
                settled = (lambda: self.over() or self.settled())
                if self.kill_at(name, nth, self.random.choice(HELD), settled):
                    self.again()
                elif self.random.random() < 0.3:
                    self.kill_after(0.6)
                    self.again()
        else:
            self.rig.restore_link()
        self.end_as_it_was()

    def settled(self):
        """Nothing of ours is left, and the daemon has been up for long enough to have seen the agent's return."""
        return self.clean() and self.rig.linked() and time.time() - self.starts[-1] > 2

    def end_as_it_was(self):
        """Removed before the agent came back, or nothing left behind."""
        self.wait(lambda: self.over() or (self.clean() and self.rig.linked() and not self.effective()),
                  "an instance that is out, or as it was")
        ends = time.monotonic() + 1.5  # not only for a moment
        while time.monotonic() < ends and not self.over():
            if not self.clean():
                self.wait(lambda: self.over() or self.clean(), "an instance that is out, or as it was, in the end")
                ends = time.monotonic() + 1.5
            time.sleep(0.02)
        self.check()

    def brake_closes(self, kind):
        """Somebody switches it off between drain and detach; killed while the drain is undone; switched on again."""
        rig = self.rig
        self.begin()
        there = self.hold("ListContainerInstances", 2, "hang")
        self.wait(lambda: there() or self.over(), "the look after the drain")
        with rig.fake.world.live() as state:
            state.groups[rig.group].tags["ecs-health-agent"] = "off"
        rig.fake.clear()
        for name, nth in self.random.sample(BACK[1:], 1):
            if self.kill_at(name, nth, kind, lambda: self.over() or (self.clean() and rig.drains())):
                self.again()
        self.wait(lambda: self.over() or self.clean(), "an undone drain")
        if self.effective() and not rig.undrains():
            raise Failure("detached, although the group was switched off")
        with rig.fake.world.live() as state:
            state.groups[rig.group].tags.clear()
        self.end_removed()

    # -- what must hold --------------------------------------------------------------------------------------

    def effective(self):
        return self.rig.detaches()

    def check(self):
        rig = self.rig
        with rig.fake.lock:
            calls = list(rig.fake.calls)
        attempts = [call for call in calls if call["action"] == "DetachInstances"
                    and call["params"]["InstanceIds"] == [rig.instance]]
        effective = [call for call in attempts if call["effect"]]
        actions = rig.actions()
        if len(effective) > 1:
            raise Failure(f"{len(effective)} detaches took effect")
        if any(" " in name for name in actions):
            raise Failure(f"somebody else was changed: {actions}")
        if rig.fake.world.group(rig.group).desired != len(self.members):
            raise Failure("the desired capacity has changed")
        if effective:
            self.check_detach(calls, attempts, effective[0], actions)
        elif not self.clean():
            raise Failure(f"left behind: {rig.own.status}, {rig.own.attributes}")
        if "Sanitizer" in rig.log() or "runtime error" in rig.log():
            raise Failure("a sanitizer has found something")

    def check_detach(self, calls, attempts, detach, actions):
        if attempts[-1] is not detach:
            raise Failure("DetachInstances was sent again after it had taken effect")
        before = actions[:actions.index("detach")]
        if not before or before[-1] != "drain" or "undrain" in actions[actions.index("detach"):]:
            raise Failure(f"a wrong order: {actions}")
        # This very process has looked, and ECS said then that the agent was not connected.
        life = max(start for start in self.starts if start <= detach["time"])
        looks = [call["time"] for call in calls[:calls.index(detach)]
                 if call["action"] == "DescribeContainerInstances" and call["time"] >= life and call["status"] == 200]
        if not looks:
            raise Failure("detached without a look since the last start")
        if self.connected and self.connected < looks[-1]:
            raise Failure("detached although ECS had called the agent connected")

    # -- a whole run -----------------------------------------------------------------------------------------

    def plan(self, share, n_shares):
        """The systematic incidents of this share, in a seeded order, then None, then random ones without end."""
        forth = [(self.stays_down, point, kind) for point in FORTH for kind in HELD]
        late = [point for point in FORTH if point[0] in ("mark", "drain", "DetachInstances") or point[1] >= 2]
        back = [(self.comes_back, point, kind, BACK) for point in late for kind in HELD]
        listed = forth + back + [(self.brake_closes, kind) for kind in HELD for _ in range(2)]
        random.Random(0).shuffle(listed)
        yield from listed[share::n_shares]
        yield None
        while True:
            yield self.random.choice((
                (self.storm,), (self.storm,), (self.stays_down, self.random.choice(FORTH), self.random.choice(HELD)),
                (self.comes_back, self.random.choice(late), self.random.choice(HELD), BACK)))


def left_over(root):
    """Processes of ours whose daemon is gone: they carry its root in their environment."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"ECS_HEALTH_AGENT_ROOT={root}\0".encode() in (entry / "environ").read_bytes() + b"\0":
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50, help="go on by chance until there were so many")
    parser.add_argument("--share", default="0/1", help="which part of the systematic incidents: 0/4, 1/4, ...")
    parser.add_argument("--seconds", type=float, default=600, help="begin no incident after so many")
    options = parser.parse_args()
    share, n_shares = map(int, options.share.split("/"))

    failures, incidents, began = [], 0, time.monotonic()
    with Rig(config=CONFIG, daemon=False, backoff_scale=0.02) as rig:
        monkey = Monkey(rig, options.seed)
        listed = True
        for step in monkey.plan(share, n_shares):
            listed = listed and step is not None
            if step is None:
                continue
            if (monkey.kills >= options.kills and not listed) or len(failures) >= 3 or \
                    time.monotonic() - began > options.seconds:
                break
            incident, *arguments = step
            incidents += 1
            try:
                incident(*arguments)
            except AssertionError as error:
                failures.append(f"{incident.__name__}{arguments[:2]}: {error}")
                traceback.print_exc()
                sys.stderr.write(f"kills so far {monkey.kills}, starts at {monkey.starts}, connected {monkey.connected}, "
                                 f"{rig.own.status}, {rig.own.attributes}\n")
                rig.show_log()
        rig._stop_daemon()
        ends = time.monotonic() + 10
        while left_over(rig.root) and time.monotonic() < ends:
            time.sleep(0.05)
        if left_over(rig.root):
            failures.append(f"processes are left over: {left_over(rig.root)}")
    print(json.dumps({"kills": monkey.kills, "incidents": incidents, "seconds": round(time.monotonic() - began, 1),
                      "points": monkey.points, "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
