# SPDX-License-Identifier: Apache-2.0
"""The alarms on connection, holds, removals and silence: each rings when its metric misbehaves, and no other does.

The real daemon publishes, with a second for a minute (alarm_rules.TEST_MINUTE); the alarms are evaluated by alarm_rules.py
over what the fake CloudWatch received. Several removals in one group cannot be had of one daemon: its data are counted as
those of three.
"""

import time

import pytest

pytest.importorskip("yaml", reason="needs PyYAML (python3-yaml), to read the templates")

from alarm_rules import ALARM, GROUP, MINUTE, NO_DATA, OK, Bells, Store  # noqa: E402
from watch import RULES, SILENT, switch_off  # noqa: E402


# -- all is well ----------------------------------------------------------------------------------------------------

def test_a_healthy_host_that_reconnects_now_and_then_rings_nothing_and_feeds_every_alarm(disk):
    """INSUFFICIENT_DATA at the end would be an alarm that is dead from birth."""
    rig, watch = disk("head -c 300000 /dev/zero >file")
    for _ in range(4):
        watch.pass_minutes(6)
        rig.agent("reconnect")
        rig.wait_for(rig.linked, 10, "the link")
    watch.pass_minutes(6)
    assert not watch.bells.rang
    assert watch.bells.state == dict.fromkeys(RULES, OK)


@pytest.mark.parametrize("why", ["observing", "paused"])
def test_a_normal_reconnect_of_a_host_that_would_be_held_is_no_hold(watched, why):
    rig, watch = watched({"action": "observe" if why == "observing" else "detach", "grace": "5s", "grace_dead": "5s",
                          "metrics": {"sample": "100ms"}})
    if why == "paused":
        assert rig.run_command("pause", "--for", "1h").returncode == 0
    for _ in range(4):
        rig.drop_link()
        # down for up to two of the test's minutes: longer than any normal reconnect, shorter than the warning's
        rig.wait_for(lambda: any(one.stats["Maximum"] > 0 for one in rig.fake.metrics_of("remediation_held", **GROUP)), 15,
                     "a hold in the making, without which this test shows nothing")
        rig.restore_link()
        rig.wait_for(rig.linked, 10, "the link")
        watch.pass_minutes(4)
    assert not watch.bells.rang & {"HeldWarning", "HeldCritical", "DisconnectedCritical"}


# -- each fault in turn -------------------------------------------------------------------------------------------------

def test_a_lost_link_that_a_brake_holds_rings_by_time_and_by_hold(watched):
    rig, watch = watched(size=6)
    switch_off(rig)
    rig.drop_link()
    watch.expect("DisconnectedWarning", "DisconnectedCritical", "HeldWarning", "HeldCritical")
    rang = [name for _, name, state in watch.bells.history if state == ALARM]
    assert rang == ["DisconnectedWarning", "HeldWarning", "DisconnectedCritical", "HeldCritical"]
    rig.restore_link()
    watch.expect_rest()


def test_a_removal_rings_once_and_leaves_nothing_ringing_but_itself(watched):
    rig, watch = watched(size=6)
    rig.drop_link()
    rig.check_removed()
    watch.expect("RemovalsWarning", also=["DisconnectedWarning"])
    watch.expect_rest()
    watch.pass_minutes(20)  # the host has left its group: that its heartbeat is missing there is right
    assert not watch.bells.rang & SILENT


def test_several_removals_within_an_hour_are_critical(watched):
    rig, watch = watched(size=6)
    rig.drop_link()
    rig.check_removed()
    rig.wait_for(lambda: sum(one.stats["Sum"] for one in rig.fake.metrics_of("remediation_performed", **GROUP)) == 1, 30,
                 "the removal as a metric")
    for copies, expected in ((2, OK), (3, ALARM)):
        store = Store(began=watch.store.began)
        store.record(rig.fake.metrics, copies=copies)
        bells = Bells({"RemovalsCritical": RULES["RemovalsCritical"]}, store).advance(store.time(time.time()) + MINUTE)
        assert bells.state["RemovalsCritical"] == expected, copies


def test_a_cloudwatch_that_cannot_be_reached_is_silence_until_what_was_kept_arrives(watched):
    rig, watch = watched()
    rig.fake.fault("PutMetricData", "throttled")
    watch.expect(*SILENT)
    assert watch.bells.state["DisconnectedCritical"] == NO_DATA, "not known, and no fault of the link"
    rig.fake.clear()
    watch.expect_rest()


def test_a_daemon_that_has_died_is_silence(watched):
    rig, watch = watched()
    rig.kill_daemon()
    watch.expect(*SILENT)
    rig.start_daemon()
    watch.expect_rest()


def test_one_silent_host_of_two_is_a_warning(watched):
    _, watch = watched()
    watch.hosts = 2
    watch.expect("SilentWarning")
    watch.pass_minutes(10)
    assert watch.bells.rang == {"SilentWarning"}
