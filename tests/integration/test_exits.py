# SPDX-License-Identifier: Apache-2.0
"""The exits of one real daemon: unhealthy and standby instead of a detach, and what becomes of a detached instance.

It is deregistered and stopped by its own daemon after orphan.after, 3 s here, unless it is in a group again, or somebody
has switched that off; every step survives kill -9, restart and reboot.
"""

import contextlib
import itertools
import re
import shutil
import signal
import time

import pytest
from rig import deeds, merged, watching
from test_crash import copies, sealed

TAG, MARK = "ecs-health-agent", "ecs-health-agent.incident"
AFTER = 3.0
OUT = ["drain", "detach"]
ENDED = [*OUT, "deregister", "stop"]
STAGES_OUT = ("removed", "ending")


@contextlib.contextmanager
def orphaned(orphan=(), spot=False, config=(), **options):
    """A Rig whose daemon has detached its instance; it ends AFTER seconds later."""
    settings = merged({"orphan": merged({"after": f"{AFTER:g}s"}, dict(orphan))}, dict(config))
    with watching(settings, **options) as rig:
        rig.fake.world.instance(rig.instance).spot = spot
        rig.drop_link()
        rig.wait_for(rig.detaches, 60, "a detach")
        rig.wait_for(lambda: lifecycle(rig) is None, 20, "the end of the detach")
        yield rig


def lifecycle(rig):
    return rig.fake.world.instance(rig.instance).lifecycle


def power(rig):
    return rig.fake.world.instance(rig.instance).power


def time_of(rig, what):
    return next(call["time"] for call, done, _ in deeds(rig.fake) if done == what)


def wait_actions(rig, actions, timeout=60):
    """So far this has been done, and nothing else; it stays so for a while."""
    rig.wait_for(lambda: rig.actions() == actions or len(rig.actions()) > len(actions), timeout, actions)
    assert rig.actions() == actions
    rig.holds_for(lambda: rig.actions() == actions, 2, actions)


def stays_for(rig, actions, seconds=AFTER + 3):
    rig.holds_for(lambda: rig.actions() == actions, seconds, actions)


def problem(*words):
    return lambda status: any(all(word in one for word in words) for one in status["problems"])


# -- instead of a detach --------------------------------------------------------------------------------------------

def test_unhealthy_lets_the_group_terminate_and_replace_it():
    with watching({"action": "unhealthy"}) as rig:
        rig.drop_link()
        wait_actions(rig, ["drain", "unhealthy", "deregister"])  # at once, an hour before orphan.after
        call, = rig.fake.calls_of("SetInstanceHealth", rig.instance)
        assert call["params"]["HealthStatus"] == "Unhealthy" and call["params"]["ShouldRespectGracePeriod"] == "false"
        rig.wait_for(lambda: power(rig) == "terminated", 20, "the group's work")
        assert rig.peek()["stage"]["name"] in STAGES_OUT
        assert rig.fake.world.group(rig.group).desired == rig.options["size"]
        assert not rig.fake.calls_of("DetachInstances", rig.instance)


def test_unhealthy_is_not_deregistered_where_that_is_not_wanted():
    with watching({"action": "unhealthy", "orphan": {"deregister": False, "after": "1s"}}) as rig:
        rig.drop_link()
        wait_actions(rig, ["drain", "unhealthy"])
        stays_for(rig, ["drain", "unhealthy"], 3)


def test_standby_stays_in_its_group_and_is_left_to_the_operator():
    with watching({"action": "standby", "orphan": {"after": "1s"}}) as rig:
        rig.drop_link()
        wait_actions(rig, ["drain", "standby"])
        assert rig.fake.calls_of("EnterStandby", rig.instance)[-1]["params"]["ShouldDecrementDesiredCapacity"] == "false"
        rig.wait_for(lambda: lifecycle(rig) == "Standby", 20, "Standby")
        stays_for(rig, ["drain", "standby"], 3)
        assert rig.own.status == "DRAINING" and rig.fake.world.group(rig.group).desired == rig.options["size"]

        rig.restore_link()
        rig.wait_for(rig.linked, 20, "the link")
        rig.fake.world.exit_standby(rig.group, rig.instance)
        well_again(rig)
        assert rig.actions() == ["drain", "standby", "undrain"]


def well_again(rig):
    """In service, our drain and our mark gone, and watching."""
    rig.wait_for(lambda: rig.own.status == "ACTIVE" and MARK not in rig.own.attributes, 60, "no trace of the drain")
    rig.wait_stage("watching")
    rig.wait_cause("none")


@pytest.mark.parametrize("fault", ["cut_after_effect", "hang_after_effect", "garbage"])
@pytest.mark.parametrize("action,call", [("unhealthy", "SetInstanceHealth"), ("standby", "EnterStandby")])
def test_an_exit_whose_answer_is_lost_is_read_not_repeated(action, call, fault):
    with watching({"action": action, "orphan": {"deregister": False}}) as rig:
        rig.fake.world.group(rig.group).detach_seconds = 8  # time to read that it is on its way
        rig.fake.fault(call, fault, where=lambda params: rig.instance in (params.get("InstanceId"),
                                                                            *params.get("InstanceIds", ())))
        rig.drop_link()
        wait_actions(rig, ["drain", action])
        rig.wait_status(lambda s: s["stage"]["name"] in STAGES_OUT, 60, "the end")
        assert len(rig.fake.calls_of(call, rig.instance)) == 1


@pytest.mark.parametrize("fault", ["refuse", "denied"])
@pytest.mark.parametrize("action,call", [("unhealthy", "SetInstanceHealth"), ("standby", "EnterStandby")])
def test_an_exit_that_is_refused_undoes_the_drain(action, call, fault):
    with watching({"action": action}) as rig:
        rig.fake.fault(call, fault, where=lambda params: rig.instance in (params.get("InstanceId"),
                                                                            *params.get("InstanceIds", ())))
        rig.drop_link()
        rig.wait_for(rig.undrains, 60, "the drain's undoing")
        rig.wait_for(lambda: rig.own.status == "ACTIVE" and MARK not in rig.own.attributes, 20, "no trace of the drain")
        assert rig.actions()[:2] == ["drain", "undrain"] and action not in rig.actions()


@pytest.mark.parametrize("action,call", [("unhealthy", "SetInstanceHealth"), ("standby", "EnterStandby")])
def test_the_right_to_the_action_itself_is_needed_and_the_others_are_not(action, call):
    with watching({"action": action, "orphan": {"deregister": False}}) as rig:
        rig.fake.deny(call)
        rig.restart_daemon()
        rig.wait_status(problem("denied", f"autoscaling:{call}"), 40, "the missing right")
        rig.drop_link()
        rig.wait_held("rights")
        assert not rig.actions()
        rig.fake.clear()
        rig.fake.deny(*{"DetachInstances", "SetInstanceHealth", "EnterStandby", "StopInstances"} - {call})
        wait_actions(rig, ["drain", action])


# -- the orphan's end -----------------------------------------------------------------------------------------------

def test_an_orphan_is_deregistered_with_force_and_stopped_after_a_while():
    with orphaned() as rig:
        wait_actions(rig, ENDED)
        assert time_of(rig, "deregister") - time_of(rig, "detach") >= AFTER
        assert rig.fake.calls_of("DeregisterContainerInstance", rig.instance)[-1]["params"]["force"] is True
        rig.wait_for(lambda: power(rig) == "stopped", 20, "the stop")
        assert rig.own.status == "INACTIVE" and rig.own.running == 0
        assert len(rig.fake.calls_of("DeregisterContainerInstance", rig.instance)) == 1


ENDS = {
    "keep": ({"action": "keep"}, False, ["deregister"]),
    "terminate": ({"action": "terminate"}, False, ["deregister", "terminate"]),
    "stop without deregistering": ({"deregister": False}, False, ["stop"]),
    "keep without deregistering": ({"action": "keep", "deregister": False}, False, []),
    "a spot instance": ({}, True, ["deregister", "terminate"]),
    "a spot instance that is kept": ({"action": "keep"}, True, ["deregister"]),
}


@pytest.mark.parametrize("case", ENDS)
def test_an_orphan_ends_as_the_settings_have_it(case):
    orphan, spot, end = ENDS[case]
    with orphaned(orphan, spot) as rig:
        if not end:
            stays_for(rig, OUT)
        wait_actions(rig, [*OUT, *end])


def test_what_ec2_cannot_stop_is_terminated():
    """As with a root on instance store; the metadata service says nothing of it."""
    with watching({"orphan": {"after": f"{AFTER:g}s"}}) as rig:
        rig.fake.fault("StopInstances", "refuse", code="UnsupportedOperation", where=of_own(rig),
                       message="The instance does not have an 'ebs' root device type and cannot be stopped")
        rig.drop_link()
        wait_actions(rig, [*OUT, "deregister", "terminate"])


def of_own(rig):
    """The call itself: no dry run."""
    return lambda params: params.get("InstanceId") == [rig.instance] and params.get("DryRun") != "true"


def test_an_orphan_whose_agent_reconnects_ends_all_the_same():
    with orphaned() as rig:
        rig.restore_link()
        rig.wait_for(lambda: rig.own.agent_connected, 20, "the link")
        wait_actions(rig, ENDED)


# What could not be deregistered is not stopped: its tasks would be taken for running for ever.
RIGHTS = {"DeregisterContainerInstance": ("ecs:DeregisterContainerInstance", OUT),
          "StopInstances": ("ec2:StopInstances", [*OUT, "deregister"])}


@pytest.mark.parametrize("call", RIGHTS)
@pytest.mark.parametrize("when", ["from the start", "at the end"])
def test_a_right_that_is_missing_is_told_and_does_not_stop_the_rest(call, when):
    right, actions = RIGHTS[call]
    with watching({"orphan": {"after": f"{AFTER:g}s"}}) as rig:
        rig.fake.fault(call, "denied", where=None if when == "from the start" else lambda params: rig.instance in (
            params.get("InstanceId") or ()) and params.get("DryRun") != "true" or
            rig.own.arn.endswith(params.get("containerInstance", "-")))
        if when == "from the start":
            rig.restart_daemon()
            rig.wait_status(problem("denied", right), 40, "the missing right")
        rig.drop_link()
        rig.wait_for(lambda: rig.actions() == actions, 60, actions)
        rig.wait_status(problem("denied", right), 40, "the missing right")
        rig.wait_for(lambda: right in rig.log(), 10, "the right in the log")
        stays_for(rig, actions, 3)


def test_an_end_that_fails_for_a_while_is_tried_again():
    with orphaned() as rig:
        for call in ("DescribeAutoScalingInstances", "DescribeClusters", "DeregisterContainerInstance", "StopInstances"):
            for fault in ("status", "throttled"):
                rig.fake.fault(call, fault, count=2)
        wait_actions(rig, ENDED, 240)


# -- an orphan that is not to end -----------------------------------------------------------------------------------

def seen_outside(status):
    return status["stage"]["name"] == "removed" and not any(
        one["name"] == "metadata service" and one["reading"] == "up" for one in status["witnesses"])


def attach(rig):
    """An operator has repaired it and gives it back to its group."""
    rig.restore_link()
    rig.wait_for(lambda: rig.own.agent_connected, 20, "the link")
    rig.fake.world.attach(rig.group, rig.instance)


def test_an_orphan_that_is_attached_again_is_watched_as_before():
    with orphaned({"after": "30s"}, config={"cooldown": "1h"}) as rig:
        rig.wait_status(seen_outside, 40, "that it has seen itself outside")
        attach(rig)
        well_again(rig)
        assert rig.actions() == [*OUT, "undrain"]
        stays_for(rig, [*OUT, "undrain"], 2)
        rig.drop_link()  # and an incident of its own follows
        rig.wait_held("cooldown")
        assert rig.peek()["record"]["incident"] == 2 and rig.actions() == [*OUT, "undrain"]


def test_an_orphan_that_is_attached_again_while_the_daemon_is_down_is_not_stopped():
    """Right after a detach the metadata service may be behind, so its word counts after 10 min only."""
    with orphaned({"after": "30s"}) as rig:
        rig.wait_stage("removed")
        rig.kill_daemon(signal.SIGKILL)
        attach(rig)
        rig.wait_for(lambda: lifecycle(rig) == "InService", 20, "its return")
        for path in copies(rig):
            path.write_text(sealed(re.sub(r"(?m)^closed (\d+)$", lambda m: f"closed {int(m[1]) - 660 * 10 ** 6}",
                                          path.read_text())))
        rig.start_daemon()
        well_again(rig)
        assert rig.actions() == [*OUT, "undrain"]


def test_the_group_is_asked_before_the_end_whatever_the_metadata_service_says():
    with orphaned() as rig:
        rig.imds.values["/latest/meta-data/autoscaling/target-lifecycle-state"] = "Detached"
        rig.fake.world.attach(rig.group, rig.instance)
        rig.wait_for(lambda: lifecycle(rig) == "InService", 20, "its return")
        rig.holds_for(lambda: not {"deregister", "stop"} & set(rig.actions()), AFTER + 4, "no end")


def test_what_cannot_be_read_before_the_end_lets_nothing_happen():
    with orphaned({"after": "2s"}) as rig:
        rig.fake.deny("DescribeAutoScalingInstances")
        rig.wait_for(lambda: rig.fake.calls_of("DescribeAutoScalingInstances", code="AccessDenied"), 30, "the question")
        stays_for(rig, OUT, 3)
        rig.fake.clear()
        wait_actions(rig, ENDED, 240)


def tag_cluster(rig, value):
    rig.fake.world.state.clusters["demo"].tags[TAG] = value


def pause(rig):
    assert rig.run_command("pause", "--reason", "forensics").returncode == 0


def resume(rig):
    assert rig.run_command("resume").returncode == 0


HOLDS = {
    "the cluster's tag": (lambda rig: tag_cluster(rig, "off"), lambda rig: tag_cluster(rig, "on")),
    "a pause": (pause, resume),
}


@pytest.mark.parametrize("how", HOLDS)
def test_an_orphan_is_kept_as_it_is_by(how):
    hold, release = HOLDS[how]
    with orphaned() as rig:
        hold(rig)
        stays_for(rig, OUT)
        release(rig)
        wait_actions(rig, ENDED, 240)


# -- kill -9, restart, reboot ---------------------------------------------------------------------------------------

def ends_after(rig, actions=ENDED):
    """The end comes, once."""
    wait_actions(rig, actions, 120)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_wait_before_the_end_survives_a_restart(number):
    with orphaned({"after": "6s"}) as rig:
        rig.wait_stage("removed")
        rig.restart_daemon(number)
        rig.wait_stage("removed")
        ends_after(rig)
        assert 6 <= time_of(rig, "deregister") - time_of(rig, "detach") < 6 + 15  # it does not begin anew each time


def hold_call(rig, action, kind):
    """The next call of this name about our instance is held back. Return: function() -> it is there."""
    met = []

    def where(params):
        if params.get("DryRun") == "true" or met:
            return False
        named = [params.get("containerInstance", ""), *params.get("InstanceId", ()), *params.get("InstanceIds", ()),
                 *params.get("clusters", ())]
        if not {rig.instance, rig.own.arn, rig.own.arn.rsplit("/", 1)[1], rig.own.cluster,
                f"arn:aws:ecs:us-east-1:123456789012:cluster/{rig.own.cluster}"} & set(named):
            return False
        met.append(params)
        return True

    rig.fake.fault(action, kind, where=where)

    def there():
        return met and (kind == "hang" or any(call["params"] is met[0] and call["effect"]
                                              for call in list(rig.fake.calls)))
    return there


CALLS = ["DescribeAutoScalingInstances", "DescribeClusters", "DeregisterContainerInstance", "StopInstances"]
KILLS = [(call, kind) for call in CALLS for kind in ("hang", "hang_after_effect")
         if not (call.startswith("Describe") and kind != "hang")]


@pytest.mark.parametrize("call,kind", KILLS)
def test_no_step_of_the_end_is_lost_by_a_kill(call, kind):
    with orphaned() as rig:
        rig.wait_stage("removed")
        there = hold_call(rig, call, kind)
        rig.wait_for(there, 60, call)
        rig.kill_daemon(signal.SIGKILL)
        rig.fake.clear()
        rig.start_daemon()
        rig.wait_for(lambda: {"deregister", "stop"} <= set(rig.actions()), 120, "the end")
        wait_removed_once(rig)


def wait_removed_once(rig):
    """What must not happen twice has not. A second StopInstances finds it stopping, and changes nothing."""
    rig.holds_for(lambda: [one for one, _ in itertools.groupby(rig.actions())] == ENDED, 3, rig.actions())
    assert rig.actions().count("deregister") == 1 and len(rig.detach_attempts()) == 1


@pytest.mark.parametrize("again", ["the same boot", "a reboot"])
def test_kills_in_quick_succession_lose_nothing(again):
    with orphaned({"after": "10s" if again == "a reboot" else "2s"}) as rig:
        for delay in (0.1, 0.3, 0.6, 0.9, 1.2):
            rig.kill_daemon(signal.SIGKILL)
            if again == "a reboot":
                reboot(rig)
            rig.start_daemon()
            ends = time.monotonic() + delay
            rig.wait_for(lambda ends=ends: time.monotonic() > ends, 5, "a moment")
        rig.wait_for(lambda: {"deregister", "stop"} <= set(rig.actions()), 120, "the end")
        wait_removed_once(rig)


def reboot(rig):
    shutil.rmtree(rig.root / "run/ecs-health-agent")
    (rig.root / "run/ecs-health-agent").mkdir()
    rig.new_boot()


def test_a_stopped_orphan_that_an_operator_starts_is_not_stopped_again():
    with orphaned() as rig:
        wait_actions(rig, ENDED)
        rig.wait_for(lambda: power(rig) == "stopped", 20, "the stop")
        rig.kill_daemon(signal.SIGTERM)
        rig.fake.world.power_on(rig.instance)
        reboot(rig)
        rig.start_daemon()
        rig.wait_status(lambda s: s["stage"]["name"] == "removed", 40, "its stage")
        stays_for(rig, ENDED)
        assert power(rig) == "running"


def test_what_was_cut_short_by_its_own_stop_is_not_stopped_again():
    """The usual way: the instance is gone before the answer is."""
    with orphaned() as rig:
        there = hold_call(rig, "StopInstances", "hang_after_effect")
        rig.wait_for(there, 60, "StopInstances")
        rig.kill_daemon(signal.SIGKILL)
        rig.fake.clear()
        rig.wait_for(lambda: power(rig) == "stopped", 20, "the stop")
        rig.fake.world.power_on(rig.instance)
        reboot(rig)
        rig.start_daemon()
        rig.wait_status(lambda s: s["stage"]["name"] in STAGES_OUT, 40, "its stage")
        stays_for(rig, ENDED)
        assert power(rig) == "running"
