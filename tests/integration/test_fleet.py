# SPDX-License-Identifier: Apache-2.0
"""Three real daemons in one group: an instance that is frozen is taken out by a peer, and two sick ones take turns.

Each host has its own directory, ECS agent, link and metadata service, and keys of its own, so that every call tells who
made it; the rest of the group is simulated, well and without our agent. A slot is at least 4 s long, since the services'
clock is known by whole seconds only.
"""

import calendar
import contextlib
import re
import time

import pytest
from rig import QUICK, Rig, deeds, merged

ACTION = "ecs-health-agent"
HOLD, MARK, CLAIM, GROUP = (ACTION + "." + name for name in ("hold", "incident", "patrol", "group"))
TURN = 4
FLEET = merged(QUICK, {
    "brakes": {"turn": f"{TURN}s"}, "patrol": {"enabled": True, "every": "500ms", "after": "2s"},
    "orphan": {"after": "1h"},
})
M64 = (1 << 64) - 1


def turn_id(name):
    """FNV-1a of 64 bits: how hosts name each other, and their group."""
    value = 0xcbf29ce484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001b3 & M64
    return value


def mix(z):
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9 & M64
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb & M64
    return z ^ (z >> 31)


def owner(instances, slot):
    """Whose slot it is, of these sick ones."""
    return min(instances, key=lambda one: mix(turn_id(one) ^ mix(slot)))


def stamp(ago=0.0):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago))


class Fleet:
    """@size: of the group; @count: real hosts in it; @each: further settings by number of the host."""

    def __init__(self, config=(), size=6, count=3, each=None):
        self.configs = [merged(merged(FLEET, dict(config)), (each or {}).get(n, {})) for n in range(count)]
        self.size = size
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.rigs = [stack.enter_context(Rig(self.configs[0], size=self.size, daemon=False))]
            first = self.rigs[0]
            self.fake, self.world = first.fake, first.fake.world
            first.imds.keys = self.fake.make_keys(first.instance)
            self.rigs += [stack.enter_context(Rig(config, daemon=False, among=first)) for config in self.configs[1:]]
            group = self.world.group(first.group)
            group.detach_seconds = group.launch_seconds = 0.2
            for rig in self.rigs:
                rig.start_daemon()
            for rig in self.rigs:
                rig.wait_ready()
                rig.wait_for(lambda rig=rig: GROUP in rig.own.attributes, 20, "what the host says of itself at ECS")
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc):
        return self.stack.__exit__(*exc)

    def story(self, *whats):
        """(who, what, whom) of what has been done so far, by numbers of hosts."""
        number = {rig.instance: n for n, rig in enumerate(self.rigs)}
        return [(number.get(call["caller"]), what, number.get(ident, ident))
                for call, what, ident in deeds(self.fake) if not whats or what in whats]

    def times(self, what):
        return [call["time"] for call, done, _ in deeds(self.fake) if done == what]

    def freeze(self, number=0):
        """Until ECS shows it disconnected."""
        rig = self.rigs[number]
        rig.freeze()
        self.wait_for(lambda: not rig.own.agent_connected, 30, "ECS's word that nobody answers")
        return rig

    def reads(self, since, number):
        """How many lists a host has asked for since then."""
        return sum(call["time"] >= since and call["caller"] == self.rigs[number].instance
                   for call in self.fake.calls_of("ListContainerInstances"))

    def wait_for(self, condition, timeout, what):
        return self.rigs[-1].wait_for(condition, timeout, what)

    def rounds(self, seconds, lists=3):
        """Wait so long, and until each peer has asked for @lists lists at least."""
        began = time.time()
        self.wait_for(lambda: time.time() - began > seconds and all(
            self.reads(began, n) >= lists for n in range(1, len(self.rigs))), 90, "some rounds of patrol")

    def untouched_for(self, seconds, lists=3):
        """The same, and nothing is done to anybody meanwhile."""
        calm = self.story()
        self.rounds(seconds, lists)
        assert self.story() == calm

    def left_alone(self, number=0):
        """After its removal nothing more is done to a host but, perhaps, the drain of another finder that was as fast."""
        story = [one for one in self.story() if one[2] == number]
        assert {what for _, what, _ in story} == {"drain", "detach"}, story
        assert sum(what == "detach" for _, what, _ in story) == 1, story
        assert self.rigs[number].own.status == "DRAINING" and CLAIM in self.rigs[number].own.attributes
        return story

    def wait_removed(self, number=0, timeout=120):
        """A peer drains and detaches this host; return the number of the peer. Another may have drained it as well: it
        lets go without undoing anything, and its claim may be the one that stays."""
        rig = self.rigs[number]
        before = len(self.story())
        self.wait_for(rig.detaches, timeout, f"a detach of host {number}")
        story = self.story()[before:]
        (who, _, _), = [one for one in story if one[1] == "detach"]
        assert who not in (None, number) and (who, "drain", number) in story
        assert all(done in ("drain", "detach") and whom == number for _, done, whom in story), story
        return who

    def check_claim(self, number, finders):
        """What a finder has left at the host: its name, and when."""
        attributes = self.rigs[number].own.attributes
        at, name = re.fullmatch(r"removing (\S+Z) ([0-9a-f]{16})", attributes[CLAIM]).groups()
        assert int(name, 16) in [turn_id(self.rigs[who].instance) for who in finders]
        assert abs(calendar.timegm(time.strptime(at, "%Y-%m-%dT%H:%M:%SZ")) - self.times("drain")[-1]) < 5


def test_hosts_say_at_ecs_what_they_would_do_and_where_they_belong():
    with Fleet({"patrol": {"enabled": False}}, each={1: {"action": "observe"}}) as fleet:
        for rig, action in zip(fleet.rigs, ("detach", "observe", "detach")):
            assert rig.own.attributes[ACTION] == action
            assert rig.own.attributes[GROUP] == f"{turn_id(rig.group):016x}"
            assert HOLD not in rig.own.attributes and CLAIM not in rig.own.attributes


# -- patrol ---------------------------------------------------------------------------------------------------------

def test_a_frozen_instance_is_drained_and_detached_by_a_peer():
    with Fleet() as fleet:
        frozen = fleet.freeze()
        fleet.wait_removed()
        fleet.rounds(10)
        fleet.check_claim(0, [who for who, what, _ in fleet.left_alone() if what == "drain"])
        assert len(frozen.detach_attempts()) == 1 and MARK not in frozen.own.attributes
        assert fleet.world.group(frozen.group).desired == fleet.size
        # in the second half of the slot, the clock being known to a second
        assert TURN / 2 - 1 <= fleet.times("drain")[0] % TURN <= TURN * 3 / 4 + 1
        for rig in fleet.rigs[1:]:
            assert rig.peek()["stage"]["name"] == "watching"


def paused(fleet):
    rig = fleet.rigs[0]
    assert rig.run_command("pause", "--reason", "forensics").returncode == 0
    fleet.wait_for(lambda: rig.own.attributes.get(HOLD) == "paused", 20, "the hold at ECS")


def observing(fleet):
    rig = fleet.rigs[0]
    rig.write_config(merged(rig.config, {"action": "observe"}))
    fleet.wait_for(lambda: rig.own.attributes.get(ACTION) == "observe", 20, "the action at ECS")


def said(name, value):
    """An attribute of the host is so; None: it is gone."""
    def change(fleet):
        with fleet.world.live():
            attributes, now = fleet.rigs[0].own.attributes, value() if callable(value) else value
            attributes.pop(name, None)
            if now is not None:
                attributes[name] = now
    return change


def tagged(value):
    def change(fleet):
        fleet.world.group(fleet.rigs[0].group).tags[ACTION] = value
    return change


def lifecycle(value):
    def change(fleet):
        fleet.world.instance(fleet.rigs[0].instance).lifecycle = value
    return change


HANDS_OFF = {  # what keeps patrol away, and how it ends
    "paused": (paused, said(HOLD, None)),
    "observing": (observing, said(ACTION, "detach")),
    "held by another word": (said(HOLD, "operator"), said(HOLD, "none")),
    "without our agent": (said(ACTION, None), said(ACTION, "detach")),
    "an action that nobody knows": (said(ACTION, "reboot"), said(ACTION, "detach")),
    "of another group": (said(GROUP, f"{turn_id('another'):016x}"), said(GROUP, f"{turn_id('demo-asg'):016x}")),
    "at work itself": (said(MARK, lambda: "removing " + stamp()), said(MARK, lambda: "removing " + stamp(660))),
    "in another's hands": (said(CLAIM, lambda: f"removing {stamp()} {turn_id('i-0other'):016x}"),
                           said(CLAIM, lambda: f"removing {stamp(660)} {turn_id('i-0other'):016x}")),
    "in a group that is switched off": (tagged("off"), tagged("on")),
    "not in service": (lifecycle("Standby"), lifecycle("InService")),
}


@pytest.mark.parametrize("case", HANDS_OFF)
def test_patrol_keeps_its_hands_off_an_instance_that_is(case):
    begin, end = HANDS_OFF[case]
    with Fleet() as fleet:
        begin(fleet)
        fleet.freeze()
        fleet.untouched_for(4 * TURN)
        end(fleet)  # it was this that held
        fleet.wait_removed()


def test_a_frozen_instance_that_wakes_in_time_is_left_alone():
    with Fleet({"patrol": {"after": "12s"}}) as fleet:
        frozen = fleet.freeze()
        began = time.time()
        fleet.wait_for(lambda: any(call["time"] > began for call in fleet.fake.calls_of("DescribeScalingActivities")),
                       60, "a finder's first look")
        frozen.thaw()
        fleet.wait_for(lambda: frozen.own.agent_connected, 30, "the link")
        fleet.untouched_for(4 * TURN)


def removing(fleet, action, kind, finder=1):
    """Host 0 is frozen, and the finder's first call of this kind about it is held back. Return: the call is there."""
    frozen = fleet.rigs[0]
    names = {frozen.instance, frozen.own.arn}
    met = []

    def where(params):
        if params.get("InstanceIds") != [frozen.instance] and names.isdisjoint(params.get("containerInstances", ())):
            return False
        if params.get("status") == "ACTIVE" or (action.startswith("List") and not fleet.times("drain")):
            return False
        met.append(params)
        return len(met) == 1

    fleet.fake.fault(action, kind, where=where)

    def there():
        if kind == "hang":
            return bool(met)
        return any(call["params"] is one and call["effect"] for one in met for call in list(fleet.fake.calls))

    fleet.freeze()
    fleet.wait_for(there, 120, f"{action} by the finder")


ALONE = {2: {"patrol": {"enabled": False}}}  # host 1 is the finder


@pytest.mark.parametrize("action,kind", [
    ("UpdateContainerInstancesState", "hang"), ("UpdateContainerInstancesState", "hang_after_effect"),
    ("DetachInstances", "hang"),
])
def test_a_finder_that_is_killed_before_the_detach_undoes_what_it_began(action, kind):
    with Fleet(each=ALONE) as fleet:
        frozen, finder, _ = fleet.rigs
        removing(fleet, action, kind)
        assert int(frozen.own.attributes[CLAIM].split()[2], 16) == turn_id(finder.instance)
        finder.kill_daemon()
        drained = frozen.own.status == "DRAINING"
        assert drained == (action != "UpdateContainerInstancesState" or kind != "hang")
        fleet.fake.clear()
        finder.start_daemon()
        fleet.wait_for(lambda: CLAIM not in frozen.own.attributes and frozen.own.status == "ACTIVE", 60,
                       "no trace of the finder's claim")
        assert fleet.story() == ([(1, "drain", 0), (1, "undrain", 0)] if drained else [])
        fleet.wait_removed()  # and then it finds it again


def test_a_finder_that_is_killed_after_the_detach_does_not_repeat_or_undo_it():
    with Fleet(each=ALONE) as fleet:
        frozen, finder, _ = fleet.rigs
        removing(fleet, "DetachInstances", "hang_after_effect")
        finder.kill_daemon()
        fleet.fake.clear()
        finder.start_daemon()
        fleet.untouched_for(3 * TURN, lists=0)
        assert fleet.story() == [(1, "drain", 0), (1, "detach", 0)] and len(frozen.detach_attempts()) == 1
        fleet.check_claim(0, [1])
        assert frozen.own.status == "DRAINING"


@pytest.mark.parametrize("how", ["wakes", "finder cut off", "switched off"])
def test_a_drain_of_patrol_is_undone_when(how):
    with Fleet(each=ALONE) as fleet:
        frozen, finder, _ = fleet.rigs
        fleet.fake.fault("UpdateContainerInstancesState", "slow", seconds=2.0, count=1)
        fleet.freeze()
        fleet.wait_for(lambda: fleet.times("drain"), 120, "the drain")
        if how == "wakes":
            frozen.thaw()
            fleet.wait_for(lambda: frozen.own.agent_connected, 30, "the link")
        elif how == "finder cut off":
            finder.drop_link()
        else:
            tagged("off")(fleet)
        fleet.wait_for(lambda: CLAIM not in frozen.own.attributes and frozen.own.status == "ACTIVE", 60,
                       "no trace of the finder's claim")
        assert fleet.story()[:2] == [(1, "drain", 0), (1, "undrain", 0)]
        assert not frozen.detach_attempts()


def test_of_two_finders_at_once_one_removes_and_neither_undoes_anything():
    """Both look before either claims, or one claims when the other has detached. Nobody undoes a drain of the other."""
    with Fleet() as fleet:
        frozen = fleet.rigs[0]
        fleet.fake.fault("PutAttributes", "late", seconds=0.7, where=lambda params: any(
            one["name"] == CLAIM and one["targetId"] == frozen.own.arn for one in params["attributes"]))
        fleet.freeze()
        fleet.wait_removed()
        fleet.rounds(4 * TURN)
        fleet.left_alone()


def test_a_removed_instance_that_wakes_ends_itself():
    with Fleet({"orphan": {"after": "3s"}}) as fleet:
        frozen = fleet.freeze()
        fleet.wait_removed()
        fleet.wait_for(lambda: fleet.world.instance(frozen.instance).target == "Detached", 20, "the end of the detach")
        fleet.rounds(TURN)
        removed = fleet.left_alone()  # its end is nobody else's
        frozen.thaw()
        frozen.wait_status(lambda s: s["stage"]["name"] in ("removed", "ending"), 60, "that it is out")
        fleet.wait_for(lambda: len(fleet.story()) >= len(removed) + 2, 60, "its own end")
        assert fleet.story() == [*removed, (0, "deregister", 0), (0, "stop", 0)]
        assert frozen.own.status == "INACTIVE" and len(fleet.rigs[0].detach_attempts()) == 1


def test_an_instance_that_wakes_in_its_group_undoes_a_claim_that_is_old():
    with Fleet({"patrol": {"after": "1h"}}) as fleet:
        frozen = fleet.freeze()
        with fleet.world.live():
            frozen.own.status = "DRAINING"
        said(CLAIM, lambda: f"removing {stamp(660)} {turn_id('i-0other'):016x}")(fleet)
        frozen.thaw()
        fleet.wait_for(lambda: CLAIM not in frozen.own.attributes and frozen.own.status == "ACTIVE", 90,
                       "no trace of the claim")
        assert fleet.story() == [(0, "undrain", 0)]


def test_patrol_asks_little():
    """So often as all of the group together should, whoever it is, and one call each time while nobody is missing."""
    with Fleet({"patrol": {"every": "1s"}}, size=4) as fleet:
        for rig in fleet.rigs:  # the last of the start's own calls
            rig.wait_status(lambda s: any(one["name"] == "ec2:StopInstances" and one["granted"] != "unknown"
                                          for one in s["rights"]), 40, "the last right")
        began = time.time()
        fleet.untouched_for(12, lists=1)
        for rig in fleet.rigs:
            calls = [call for call in fleet.fake.calls if call["caller"] == rig.instance and call["time"] > began
                     and call["action"] != "PutMetricData" and call["params"].get("containerInstances") != [rig.own.arn]]
            lists = [call["time"] for call in calls if call["action"] == "ListContainerInstances"]
            assert len(calls) == len(lists)
            assert all(3.6 - 0.5 < later - earlier < 4.4 + 0.5 for earlier, later in zip(lists, lists[1:]))


# -- turns ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("count,size", [(2, 12), (3, 20)])
def test_sick_ones_take_turns(count, size):
    """The budget allows one in 20 s. All of them are out, one after the other, each in a slot of its own."""
    turn, window = 8, 20
    with Fleet({"brakes": {"turn": f"{turn}s", "window": f"{window}s", "max_actions": 1, "max_per_day": 10},
                "patrol": {"enabled": False}}, size=size, count=count) as fleet:
        for rig in fleet.rigs:
            rig.drop_link()
        fleet.wait_for(lambda: len(fleet.times("detach")) == count, 240, "the last removal")
        story, times = fleet.story(), fleet.times("detach")
        assert all(who == whom for who, _, whom in story)
        assert sorted(who for who, what, _ in story if what == "detach") == list(range(count))
        assert all(later - earlier >= window for earlier, later in zip(times, times[1:])), times
        check_alternation(story)
        check_slots(fleet, turn)


def check_alternation(story):
    """Nobody drains while another is between drain and detach, or takes it back."""
    at_work = None
    for who, what, _ in story:
        assert at_work in (None, who) and (what == "drain") == (at_work is None), story
        at_work = who if what == "drain" else None


def check_slots(fleet, turn):
    """Who detaches while others are sick does so early in a slot that is its own; the clock is known to a second."""
    sick = [rig.instance for rig in fleet.rigs]
    for call, what, ident in deeds(fleet.fake):
        if what == "detach":
            if len(sick) > 1:
                slot = int((call["time"] + 1) // turn)
                assert ident == owner(sick, slot) and (call["time"] + 1) % turn <= turn / 4 + 3
            sick.remove(ident)


def test_turns_are_as_the_daemons_reckon_them():
    """The test's own reading of the rule, held against the values of the core's unit test."""
    assert turn_id("") == 0xcbf29ce484222325 and turn_id("a") == 0xaf63dc4c8601ec8c
