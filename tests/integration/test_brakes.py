# SPDX-License-Identifier: Apache-2.0
"""Brakes and rights against the real binary: what holds is named, nothing is done, and a drain of ours is undone.

Brakes of one family are walked through with one daemon: it is held by one after the other and let go at the end, which
shows that it was they that held. The settings are written anew for each, since that makes a held daemon look at once.
"""

import itertools
import pathlib
import time

import pytest
from rig import QUICK, Rig, merged, watching

MARK = "ecs-health-agent.incident"
TAG = "ecs-health-agent"
_numbers = itertools.count(41)


def brakes_of(status):
    return {one["name"] for one in status["brakes"]}


def look_now(rig):
    """Have a held daemon look again at once; wait until a look that began afterwards holds."""
    settings = merged(rig.config, {"ecs_agent": {"silent_after": f"{next(_numbers)}m"}})
    applied = rig.log().count("New settings are in force")
    rig.write_config(settings)
    rig.wait_for(lambda: rig.log().count("New settings are in force") > applied, 20, "the new settings")


def held_by(rig, brake, more=lambda status: True):
    """The next look holds by this brake; the log and the status say so, and nothing has been done."""
    look_now(rig)
    status = rig.wait_status(lambda s: s["stage"]["name"] == "held" and brake in brakes_of(s) and more(s), 40,
                             f"held by {brake}")
    assert brake in status["headline"]["next"]
    assert any("Not removing this instance" in line and brake in line for line in rig.log().splitlines())
    assert not rig.actions() and not rig.detach_attempts()[1:]
    return status


def let_go(rig):
    """Nothing holds any more: it is removed."""
    look_now(rig)
    rig.check_removed()


def problem(status, *words):
    """Whether one of the problems has all these words."""
    return any(all(word in one for word in words) for one in status["problems"])


def undone(rig):
    """The drain has been taken back, the mark is away, nothing was detached."""
    rig.wait_for(rig.undrains, 60, "the drain's undoing")
    rig.wait_for(lambda: rig.own.status == "ACTIVE" and MARK not in rig.own.attributes, 20, "no trace of the drain")


def unit_failed(rig):
    """A loss that two witnesses see at once: ECS's word is not needed for a second."""
    rig.agent("exit 5")
    rig.systemd("exit ecs.service 5")


def sick(rig, count):
    """So many peers are disconnected, none of them by us."""
    with rig.fake.world.live() as state:
        peers = [one for one in state.hosts.values() if one.arn != rig.own.arn]
        for number, one in enumerate(peers):
            one.connected = number >= count


# -- one by one ---------------------------------------------------------------------------------------------------

def test_grace():
    with watching({"grace": "1h", "grace_dead": "1h"}, units=True) as rig:
        unit_failed(rig)
        rig.wait_stage("grace")
        status = rig.wait_for(rig.status, 20, "the status")
        assert {"grace", "confirm"} <= brakes_of(status)
        assert 3500 < status["grace"]["ends_in_seconds"] <= 3600
        rig.holds_for(lambda: not rig.fake.calls_of("ListContainerInstances"), 1.5, "no look during grace")
        assert not rig.actions()


@pytest.mark.parametrize("fault", ["throttled", "denied", "hang", "html"])
def test_no_confirmation_by_ecs(fault):
    with watching(units=True) as rig:
        rig.fake.fault("DescribeContainerInstances", fault)
        unit_failed(rig)
        rig.wait_for(lambda: rig.fake.calls_of("DescribeContainerInstances", rig.own.arn), 40, "the question")
        rig.wait_status(lambda s: s["stage"]["name"] == "grace" and brakes_of(s) >= {"confirm"}
                        and (s["grace"]["ends_in_seconds"] or 0) <= 0, 40, "held by confirm after grace")
        if fault == "denied":
            rig.wait_status(lambda s: problem(s, "ecs:DescribeContainerInstances"), 40, "the missing right")
        elif fault != "hang":
            rig.wait_for(lambda: "DescribeContainerInstances: " in rig.log(), 40, "the answer in the log")
        rig.holds_for(lambda: not rig.actions() and not rig.fake.calls_of("ListContainerInstances"), 1.5, "nothing done")
        rig.fake.clear()
        rig.check_removed()


def test_share_then_settle():
    with watching({"brakes": {"settle": "3s"}}) as rig:
        sick(rig, 3)
        rig.drop_link()
        status = rig.wait_held("share")
        assert status["look"]["cluster"]["sick"] == 4 and status["look"]["cluster"]["members"] == 6
        sick(rig, 0)
        look_now(rig)
        status = rig.wait_status(lambda s: s["stage"]["name"] == "held" and "settle" in brakes_of(s), 40, "settle")
        ended = time.monotonic()
        assert not rig.actions()
        rig.check_removed()
        assert time.monotonic() - ended > 2
        assert any("settle" in line for line in rig.log().splitlines() if "Not removing" in line)


# With another sick peer, turns are taken. The services' clock is known to half a second only, so a slot must be long.
TURNS = {"turn": "4s"}


def test_two_sick_of_many_are_not_too_many():
    with watching({"brakes": TURNS}, size=12) as rig:
        sick(rig, 1)
        rig.drop_link()
        rig.check_removed()


def test_share_when_both_of_two_are_sick():
    with watching(size=2) as rig:
        sick(rig, 1)
        rig.drop_link()
        rig.wait_held("share")
        assert not rig.actions()


def test_share_of_more_than_a_page():
    with watching({"brakes": {"max_sick": "100%"}}, size=250) as rig:
        sick(rig, 100)
        rig.drop_link()
        status = rig.wait_held("share")
        assert status["look"]["more_than_a_page"]
        assert not rig.actions()


def test_share_while_the_count_still_moves():
    with watching({"brakes": {"settle": "0s", **TURNS}}, size=30) as rig:
        rig.fake.world.group(rig.group).tags[TAG] = "off"
        rig.drop_link()
        rig.wait_held("off")
        sick(rig, 4)  # not too many, but three more than at the look before
        status = held_by(rig, "share")
        assert status["look"]["cluster"]["sick"] == 5
        del rig.fake.world.group(rig.group).tags[TAG]
        sick(rig, 2)
        look_now(rig)
        rig.check_removed(timeout=120)


def test_path_with_few_peers():
    with watching(size=3) as rig:
        rig.drop_link("port")
        rig.wait_held("path")
        assert not rig.actions()


def test_path_that_works_with_few_peers():
    with watching(size=3) as rig:
        rig.drop_link("links")
        rig.check_removed()


def test_path_does_not_matter_when_the_agent_is_dead():
    with watching(size=2) as rig:
        rig.control.refuse("port")
        rig.kill_agent()
        rig.check_removed()


def test_boot_grace():
    if float(pathlib.Path("/proc/uptime").read_text().split()[0]) > 80000:
        pytest.skip("booted too long ago for a boot grace of a day")
    with watching({"brakes": {"boot_grace": "1d"}}) as rig:
        rig.drop_link()
        status = rig.wait_held("boot_grace")
        assert not rig.actions() and not rig.fake.calls_of("ListContainerInstances")
        assert next(one for one in status["brakes"] if one["name"] == "boot_grace")["until_seconds"] > 0
        rig.write_config(merged(rig.config, {"brakes": {"boot_grace": "0s"}}))
        rig.check_removed()


def test_observe():
    with watching({"action": "observe", "repair": {"enabled": True}}, units=True) as rig:
        rig.kill_agent()
        rig.wait_held("observe")
        assert not rig.actions() and not rig.systemd_events
        rig.write_config(merged(rig.config, {"action": "detach", "repair": {"enabled": False}}))
        rig.check_removed()


def test_paused():
    with watching({"repair": {"enabled": True}}, units=True) as rig:
        done = rig.run_command("pause", "--reason", "kernel debugging")
        assert done.returncode == 0, done.stderr
        rig.kill_agent()
        status = rig.wait_held("paused")
        assert status["pause"]["paused"] and status["pause"]["reason"] == "kernel debugging"
        assert "kernel debugging" in rig.run_command("status").stdout
        rig.wait_for(lambda: rig.own.attributes.get(TAG + ".hold") == "paused", 20, "the hold attribute")
        rig.restart_daemon()  # survives it
        status = rig.wait_held("paused", looks=1)
        assert not rig.actions() and not rig.systemd_events
        rig.repair_works = False
        assert rig.run_command("resume").returncode == 0
        rig.check_removed()
        assert TAG + ".hold" not in rig.own.attributes


def test_a_pause_ends_by_itself():
    with watching() as rig:
        assert rig.run_command("pause", "--for", "6s").returncode == 0
        rig.drop_link()
        rig.wait_held("paused", looks=1)
        rig.check_removed()


def test_cooldown():
    with watching({"cooldown": "1h"}) as rig:
        rig.fake.fault("DetachInstances", "refuse", where=lambda params: params["InstanceIds"] == [rig.instance])
        rig.drop_link()
        undone(rig)
        rig.restore_link()
        rig.wait_stage("watching")
        rig.wait_for(rig.linked, 20, "the link")
        rig.fake.clear()
        drains = len(rig.drains())
        rig.drop_link()
        rig.wait_held("cooldown")
        assert len(rig.drains()) == drains and not rig.detaches()


# -- families -----------------------------------------------------------------------------------------------------

def test_off_by_tag():
    with watching() as rig:
        group, cluster = rig.fake.world.group(rig.group), rig.fake.world.state.clusters["demo"]
        group.tags[TAG] = "off"
        rig.drop_link()
        rig.wait_held("off")
        for owner, value in ((group, "of"), (group, ""), (group, "OFF"), (cluster, "off"), (cluster, "paused")):
            group.tags.pop(TAG, None)
            cluster.tags.pop(TAG, None)
            owner.tags[TAG] = value
            where = "group" if owner is group else "cluster"
            status = held_by(rig, "off", lambda s, where=where: s["look"]["tags"][where] != "on")
            assert status["look"]["tags"][where] == ("off" if value == "off" else "not understood")
        cluster.tags[TAG] = "on"
        let_go(rig)


def test_group_that_is_not_to_be_touched():
    with watching() as rig:
        world, group = rig.fake.world, rig.fake.world.group(rig.group)
        group.suspended.add("Launch")
        rig.drop_link()
        rig.wait_held("group")
        for process in ("Terminate", "HealthCheck", "ReplaceUnhealthy"):
            group.suspended = {process}
            held_by(rig, "group", lambda s: s["look"]["group_state"] == ["suspended"])
        group.suspended = {"AZRebalance", "AlarmNotification"}  # not among those that matter
        for state in ("Pending", "InProgress", "Baking"):
            group.refreshes = [{"InstanceRefreshId": "r", "Status": state},
                               {"InstanceRefreshId": "q", "Status": "Successful"}]
            held_by(rig, "group", lambda s: s["look"]["group_state"] == ["refreshing"])
        group.refreshes = group.refreshes[1:]
        world.add_activity(rig.group, "Terminating EC2 instance: i-0aaaaaaaaaaaaaaaa",
                           "At 2026-06-30T10:11:12Z an instance was taken out of service in response to a difference "
                           "between desired and actual capacity, shrinking the capacity from 7 to 6.",
                           status="InProgress")
        held_by(rig, "group", lambda s: s["look"]["group_state"] == ["moving"])
        group.activities.clear()
        group.operator = "ecs.amazonaws.com"
        held_by(rig, "group", lambda s: s["look"]["group_state"] == ["operated"])
        group.operator = None
        group.status = "Delete in progress"
        held_by(rig, "group", lambda s: s["look"]["group_state"] == ["deleting"])
        group.status = None
        world.instance(rig.instance).lifecycle = "Pending:Wait"
        held_by(rig, "group", lambda s: s["look"]["group_state"] == [] and s["look"]["lifecycle"] == "Pending")
        world.instance(rig.instance).lifecycle = "InService"
        let_go(rig)


def test_budget():
    removals = {
        "detached": ("Detaching EC2 instance: {}", "At 2026-06-30T10:11:12Z instance {} was detached in response to a "
                     "user request."),
        "standby": ("Moving EC2 instance to Standby: {}", "At 2026-06-30T10:11:12Z instance {} was moved to standby in "
                    "response to a user request."),
        "health": ("Terminating EC2 instance: {}", "At 2026-06-30T10:11:12Z an instance was taken out of service in "
                   "response to a user health-check."),
    }
    spot = ("Terminating EC2 instance: {}", "At 2026-06-30T10:11:12Z an instance was taken out of service in response "
            "to an EC2 instance rebalance recommendation.")
    with watching() as rig:
        world, group = rig.fake.world, rig.fake.world.group(rig.group)

        def removed(sentences, ago):
            group.activities.clear()
            world.add_activity(rig.group, *[one.format("i-0aaaaaaaaaaaaaaaa") for one in sentences],
                               start=world.now() - ago)

        removed(removals["detached"], 300)
        rig.drop_link()
        rig.wait_held("budget")
        for sentences in removals.values():
            removed(sentences, 500)
            held_by(rig, "budget", lambda s: s["look"]["removed_window"] == 1 and s["look"]["budget"] == 1)
        group.activities.clear()
        marked = next(one for one in world.state.hosts.values() if one.arn != rig.own.arn)
        marked.attributes[MARK] = "removing " + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(world.now() - 60))
        marked.connected = False
        held_by(rig, "budget", lambda s: s["look"]["removed_window"] == 1)
        del marked.attributes[MARK]
        marked.connected = True
        removed(removals["detached"], 700)  # before the window
        launched(rig, marked.ec2, 690)
        world.add_activity(rig.group, *[one.format("i-0bbbbbbbbbbbbbbbb") for one in spot])
        let_go(rig)


def detached(rig, ident, ago):
    """Somebody has detached this instance so many seconds ago."""
    world = rig.fake.world
    world.add_activity(rig.group, f"Detaching EC2 instance: {ident}", f"At 2026-06-30T10:11:12Z instance {ident} was "
                       "detached in response to a user request.", start=world.now() - ago)


def launched(rig, ident, ago, status="Successful"):
    """The group has launched this instance so many seconds ago."""
    world = rig.fake.world
    of = f": {ident}" if ident else ".  Status Reason: no capacity"
    world.add_activity(rig.group, "Launching a new EC2 instance" + of, "At 2026-06-30T10:11:12Z an instance was started "
                       "in response to a difference between desired and actual capacity, increasing the capacity.",
                       start=world.now() - ago, status=status)


def test_budget_of_the_cluster():
    with watching(size=12) as rig:
        world = rig.fake.world
        marked = next(one for one in world.state.hosts.values() if one.arn != rig.own.arn)
        marked.attributes[MARK] = "removing " + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(world.now() - 400))
        marked.connected = False
        world.leave(marked.ec2)  # of no group any more, and too long ago to be taken for one of ours
        rig.drop_link()
        status = rig.wait_held("budget")
        assert status["look"]["removed_window"] == 0 and status["look"]["removed_cluster"] == 1
        assert status["look"]["budget_cluster"] == 1
        del marked.attributes[MARK]
        let_go(rig)


def test_loop_by_the_day():
    with watching() as rig:
        peer = next(one for one in rig.fake.world.state.hosts.values() if one.arn != rig.own.arn)
        detached(rig, "i-0aaaaaaaaaaaaaaaa", 4000)
        detached(rig, "i-0bbbbbbbbbbbbbbbb", 8000)
        launched(rig, peer.ec2, 3900)
        rig.drop_link()
        status = rig.wait_held("loop")
        assert brakes_of(status) == {"loop"} and status["look"]["budget_day"] == 2
        with rig.fake.world.live() as state:
            state.groups[rig.group].tags[TAG] = "resume"
        let_go(rig)


def test_loop_of_a_young_replacement_until_it_is_resumed():
    with watching() as rig:
        detached(rig, "i-0aaaaaaaaaaaaaaaa", 1900)
        launched(rig, rig.own.ec2, 1800)
        rig.drop_link()
        status = rig.wait_held("loop")
        assert status["look"]["young"]
        rig.fake.world.group(rig.group).activities.clear()
        status = held_by(rig, "loop", lambda s: not s["look"]["young"])
        assert brakes_of(status) == {"loop"}
        rig.run_command("pause", "--reason", "to look at it")
        rig.wait_held("paused")
        rig.run_command("resume")
        rig.check_removed()


def test_replacement():
    with watching() as rig:
        group = rig.fake.world.group(rig.group)
        peer = next(one for one in rig.fake.world.state.hosts.values() if one.arn != rig.own.arn)
        detached(rig, "i-0aaaaaaaaaaaaaaaa", 700)
        rig.drop_link()
        rig.wait_held("replacement")
        launched(rig, "i-0cccccccccccccccc", 600)  # it never registers
        held_by(rig, "replacement", lambda s: s["look"]["replacement"] == "pending")
        launched(rig, None, 500, "Failed")
        held_by(rig, "replacement", lambda s: s["look"]["replacement"] == "launch failed")
        group.activities.clear()
        detached(rig, "i-0aaaaaaaaaaaaaaaa", 700)
        launched(rig, peer.ec2, 600)
        let_go(rig)


def test_turn_of_another():
    """With a sick peer it waits for a slot of its own, and acts at the slot's beginning."""
    with watching({"brakes": TURNS}, size=12) as rig:
        sick(rig, 1)
        rig.drop_link()
        rig.wait_status(lambda s: s["stage"]["name"] == "turn" and s["look"]["turn"] != "not needed", 60, "a turn")
        rig.check_removed()
        calls = rig.fake.calls_of("DetachInstances")
        assert calls and (calls[-1]["time"] % 4.0) < 2.5


def test_blind():
    reads = ("DescribeClusters", "ListContainerInstances", "DescribeContainerInstances", "DescribeAutoScalingInstances",
             "DescribeAutoScalingGroups", "DescribeInstanceRefreshes", "DescribeScalingActivities")
    faults = ("garbage", "html", "truncated", "empty", "status", "huge", "contention")
    with watching() as rig:
        rig.fake.world.group(rig.group).tags[TAG] = "off"
        rig.drop_link()
        rig.wait_held("off")
        for read, fault in zip(reads, faults):
            rig.fake.fault(read, fault)
            held_by(rig, "blind", lambda s, read=read: s["self"]["last_call"].startswith(read))
            rig.fake.clear()
        rig.fake.fault("imds", "status", status=503)
        held_by(rig, "blind", lambda s: s["look"]["failed"] == "metadata service")
        rig.fake.clear()
        del rig.fake.world.group(rig.group).tags[TAG]
        let_go(rig)


# -- rights -------------------------------------------------------------------------------------------------------

READS = {
    "DescribeClusters": "ecs", "ListContainerInstances": "ecs", "DescribeContainerInstances": "ecs",
    "DescribeAutoScalingInstances": "autoscaling", "DescribeAutoScalingGroups": "autoscaling",
    "DescribeInstanceRefreshes": "autoscaling", "DescribeScalingActivities": "autoscaling",
}
WRITES = {"UpdateContainerInstancesState": "ecs", "PutAttributes": "ecs", "DetachInstances": "autoscaling"}


def test_a_read_that_is_denied_leaves_observing():
    with watching({"repair": {"enabled": True, "wait": "500ms"}}, units=True) as rig:
        rig.repair_works = False
        rig.fake.deny("DescribeClusters")
        rig.kill_agent()
        rig.wait_held("rights", "blind")
        for action, service in READS.items():
            rig.fake.clear()
            rig.fake.deny(action)
            held_by(rig, "rights", lambda s, name=f"{service}:{action}": problem(s, "denied", name))
        assert not rig.systemd_events  # no repair either
        rig.fake.clear()
        let_go(rig)


def test_a_read_that_was_denied_from_the_first_start_leaves_observing():
    with Rig(QUICK, daemon=False) as rig:
        rig.fake.deny("DescribeContainerInstances")
        rig.start_daemon()
        rig.wait_status(lambda s: problem(s, "denied", "ecs:DescribeContainerInstances"), 40, "the missing right")
        status = rig.status()
        assert status["stage"]["name"] == "watching" and status["headline"]["state"] == "healthy"
        rig.drop_link()
        rig.wait_cause("link_lost")
        rig.holds_for(lambda: not rig.actions(), 2, "nothing done")


@pytest.mark.parametrize("action", WRITES)
def test_a_write_that_is_denied_from_the_start_leaves_the_local_repair(action):
    with watching({"repair": {"enabled": True, "wait": "500ms"}}, units=True) as rig:
        rig.repair_works = False
        rig.fake.deny(action)
        rig.restart_daemon()
        rig.wait_status(lambda s: problem(s, "denied", f"{WRITES[action]}:{action}"), 40, "the missing right")
        rig.kill_agent()
        rig.wait_held("rights")
        assert [one["event"] for one in rig.systemd_events if one["event"] == "RestartUnit"] == ["RestartUnit"]
        assert rig.own.status == "ACTIVE" and not rig.drains() and not rig.detaches() and MARK not in rig.own.attributes
        rig.fake.clear()
        rig.check_removed()


def test_a_write_that_is_denied_later_is_found_before_the_drain():
    with watching() as rig:
        rig.fake.deny("DetachInstances")
        rig.drop_link()
        rig.wait_held("rights")
        assert not rig.drains()


def test_a_mark_that_may_not_be_deleted_is_emptied():
    with watching() as rig:
        rig.fake.deny("DeleteAttributes")
        slow_drain(rig)
        rig.drop_link()
        rig.wait_for(rig.drains, 60, "the drain")
        off(rig)
        rig.wait_for(rig.undrains, 60, "the drain's undoing")
        rig.wait_for(lambda: not rig.own.attributes[MARK].startswith("removing"), 20, "an empty mark")
        status = rig.wait_held("off", looks=1)
        assert problem(status, "denied", "ecs:DeleteAttributes")
        assert rig.own.status == "ACTIVE" and rig.actions() == ["drain", "undrain"]


def test_metrics_that_are_denied_do_not_matter():
    with watching() as rig:
        rig.fake.deny("PutMetricData")
        rig.wait_status(lambda s: problem(s, "cloudwatch:PutMetricData"), 40, "the missing right")
        rig.drop_link()
        rig.check_removed()


# -- between drain and detach -------------------------------------------------------------------------------------

def off(rig):
    rig.fake.world.group(rig.group).tags[TAG] = "off"


def suspended(rig):
    rig.fake.world.suspend(rig.group, "Launch")


def paused(rig):
    assert rig.run_command("pause").returncode == 0


def many_sick(rig):
    sick(rig, 4)


def reconnected(rig):
    rig.restore_link()
    rig.wait_for(rig.linked, 20, "the link")


CLOSING = {"off": off, "group": suspended, "paused": paused, "share": many_sick, None: reconnected}


def slow_drain(rig, seconds=3.0):
    """ECS drains at once and answers late: time to change something in between."""
    rig.fake.fault("UpdateContainerInstancesState", "slow", seconds=seconds,
                   where=lambda params: params["status"] == "DRAINING")


@pytest.mark.parametrize("brake", CLOSING)
def test_a_brake_that_closes_after_the_drain_undoes_it(brake):
    with watching() as rig:
        peer = next(one for one in rig.fake.world.state.hosts.values() if one.arn != rig.own.arn)
        peer.status = "DRAINING"  # somebody else's
        slow_drain(rig)
        rig.drop_link()
        rig.wait_for(rig.drains, 60, "the drain")
        CLOSING[brake](rig)
        undone(rig)
        assert rig.actions() == ["drain", "undrain"] and not rig.detach_attempts()
        assert peer.status == "DRAINING"
        if brake:
            rig.wait_held(brake, looks=1)
        else:
            rig.wait_stage("watching")
        assert rig.actions() == ["drain", "undrain"]


def test_a_drain_that_somebody_took_over_is_not_undone():
    with watching() as rig:
        slow_drain(rig)
        rig.drop_link()
        rig.wait_for(rig.drains, 60, "the drain")
        del rig.own.attributes[MARK]
        off(rig)
        rig.wait_status(lambda s: s["stage"]["name"] in ("held", "watching"), 40, "the end of the undoing")
        assert rig.own.status == "DRAINING" and not rig.undrains() and not rig.detach_attempts()


def test_without_a_drain_by_the_settings():
    with watching({"drain": False}) as rig:
        rig.drop_link()
        rig.wait_for(rig.detaches, 60, "a detach")
        rig.wait_stage("removed")
        assert rig.actions() == ["detach"] and rig.own.status == "ACTIVE"


# -- DetachInstances ----------------------------------------------------------------------------------------------

def of_own(rig):
    return lambda params: params.get("InstanceIds") == [rig.instance]


@pytest.mark.parametrize("fault", ["refuse", "denied"])
def test_a_detach_that_is_refused_undoes_the_drain(fault):
    with watching() as rig:
        rig.fake.fault("DetachInstances", fault, where=of_own(rig))
        rig.drop_link()
        undone(rig)
        assert not rig.detaches()
        assert "DetachInstances: " + {"refuse": "refused", "denied": "denied"}[fault] in rig.log()


@pytest.mark.parametrize("fault", ["cut_after_effect", "hang_after_effect", "truncated", "garbage", "empty"])
def test_a_detach_whose_answer_is_lost_is_read_not_repeated(fault):
    with watching() as rig:
        rig.fake.fault("DetachInstances", fault, where=of_own(rig))
        rig.drop_link()
        rig.check_removed()


def test_a_detach_whose_answer_is_lost_while_reads_lag():
    with watching({"brakes": {"turn": "2s"}}) as rig:
        rig.fake.fault("DetachInstances", "cut_after_effect", where=of_own(rig))
        rig.fake.fault("DescribeAutoScalingInstances", "stale", seconds=1.5)
        rig.fake.fault("DescribeScalingActivities", "stale", seconds=1.5)
        rig.drop_link()
        rig.check_removed()


def test_a_detach_that_never_arrived_is_tried_again():
    with watching() as rig:
        rig.fake.fault("DetachInstances", "cut_before_effect", count=1, where=of_own(rig))
        rig.drop_link()
        rig.wait_for(rig.detaches, 60, "a detach")
        rig.wait_stage("removed")
        assert rig.actions() == ["drain", "undrain", "drain", "detach"] and len(rig.detach_attempts()) == 2


@pytest.mark.parametrize("fault", ["contention", "throttled"])
def test_a_group_that_is_busy_is_tried_again(fault):
    with watching() as rig:
        rig.fake.fault("DetachInstances", fault, count=1, where=of_own(rig))
        rig.drop_link()
        rig.wait_for(rig.detaches, 60, "a detach")
        rig.wait_stage("removed")
        assert rig.actions()[-2:] == ["drain", "detach"] and rig.actions().count("detach") == 1
        assert rig.actions().count("drain") == rig.actions().count("undrain") + 1


@pytest.mark.parametrize("action", ["PutAttributes", "UpdateContainerInstancesState"])
@pytest.mark.parametrize("fault", ["cut_after_effect", "truncated", "html"])
def test_a_drain_whose_answer_is_lost_is_not_left_behind(action, fault):
    def draining(params):
        return params.get("status") == "DRAINING" or any(one["name"] == MARK for one in params.get("attributes", ()))

    with watching() as rig:
        rig.fake.fault(action, fault, count=1, where=draining)
        rig.drop_link()
        rig.wait_for(rig.detaches, 60, "a detach")
        rig.wait_stage("removed")
        assert rig.actions()[-2:] == ["drain", "detach"] and rig.actions().count("detach") == 1
        assert rig.own.attributes[MARK].startswith("removing")


# -- a service that misbehaves ------------------------------------------------------------------------------------

def test_reads_that_lag_behind():
    with watching({"brakes": {"turn": "3s"}}) as rig:  # reads that lag by more than a turn are believed
        rig.fake.fault("ecs:*", "stale", seconds=2)
        rig.fake.fault("autoscaling:*", "stale", seconds=2)
        rig.drop_link()
        rig.check_removed()


def test_answers_that_are_slow():
    with watching({"brakes": {"turn": "4s"}}) as rig:
        rig.fake.fault("*", "slow", seconds=0.2)
        rig.fake.fault("imds", "slow", seconds=0.2)
        rig.drop_link()
        rig.check_removed()


@pytest.mark.parametrize("fault", ["html", "throttled", "status", "cut", "cut_before_effect"])
def test_services_that_fail_now_and_then(fault):
    with watching({"brakes": {"turn": "2s"}}) as rig:
        # a page instead of an answer is not asked for again at once: each of them holds for a while
        for action in ("DescribeClusters", "PutMetricData") if fault == "html" else (*READS, "PutMetricData"):
            rig.fake.fault(action, fault, count=1)
        rig.drop_link()
        rig.check_removed()


def test_a_token_that_has_expired_is_renewed():
    """It takes a minute: so long the keys are not asked for again."""
    with watching() as rig:
        rig.fake.rotate_keys()
        rig.drop_link()
        rig.wait_for(lambda: "ExpiredToken" in rig.log(), 40, "the expired token in the log")
        rig.check_removed(timeout=120)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_an_hour_off_is_corrected(seconds):
    with Rig(QUICK, daemon=False) as rig:
        rig.fake.skew(seconds)
        rig.start_daemon()
        rig.wait_ready()
        rig.drop_link()
        rig.check_removed()
        status = rig.status()
        assert abs(status["self"]["clock_offset_seconds"] - seconds) < 5
        assert problem(status, "clock", "slow" if seconds > 0 else "fast")


KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}


def test_a_secret_that_is_wrong_is_told():
    with Rig(QUICK, environment=KEYS, daemon=False) as rig:
        rig.fake.add_user(KEYS["AWS_ACCESS_KEY_ID"], "another")
        rig.start_daemon()
        status = rig.wait_status(lambda s: problem(s, "refuses our keys", "SignatureDoesNotMatch"), 40, "the problem")
        assert not status["ok"] and status["credentials"]["state"] == "refused"
        assert "SignatureDoesNotMatch" in rig.log()


def test_a_secret_that_became_wrong_is_retried_with_patience():
    with Rig(QUICK, environment=KEYS, daemon=False, units=True) as rig:
        rig.fake.add_user(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"])
        rig.start_daemon()
        rig.wait_ready()
        rig.fake.add_user(KEYS["AWS_ACCESS_KEY_ID"], "another")
        unit_failed(rig)
        rig.wait_status(lambda s: s["stage"]["name"] == "grace" and "confirm" in brakes_of(s)
                        and problem(s, "refuses our keys", "Signature"), 40, "the refused confirmation")
        began, before = time.monotonic(), len(rig.fake.calls)
        rig.holds_for(lambda: not rig.actions(), 4, "nothing done")
        assert len(rig.fake.calls) - before <= 4 + 2 * (time.monotonic() - began)
        rig.fake.add_user(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"])
        rig.check_removed()
