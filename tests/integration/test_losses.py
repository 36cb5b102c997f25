# SPDX-License-Identifier: Apache-2.0
"""Every way in which an ECS agent is lost, against the real binary: each ends in one drain and one detach of this host.

A loss is a function(rig) that makes it happen; with it go the cause that the daemon is to name, and what the rig needs.
"""

import os
import signal

import pytest
from black_hole import drop_packets, in_namespace
from rig import QUICK, Rig, merged, watching

BUS = {"units": True}
REPAIR = {"repair": {"enabled": True, "wait": "2s"}}
SLOWLY = {"grace": "6s", "grace_dead": "6s"}
IN_VAIN = {"repair": {"enabled": True, "wait": "500ms"}}


def link_lost(rig):
    rig.drop_link()


def agent_killed(rig):
    rig.kill_agent()


def agent_killed_under_systemd(rig):
    rig.systemd("kill ecs.service 9")  # systemd restarts it, as it says, but it does not come
    rig.kill_agent()


def agent_stopped(rig):
    rig.kill_agent(signal.SIGSTOP)


def agent_wedged(rig):
    rig.agent("wedge")
    rig.control.refuse("links")


def unit_failed(rig):
    rig.agent("exit 5")
    rig.systemd("exit ecs.service 5")


def unit_exited(rig):
    rig.agent("terminate")
    rig.systemd("exit ecs.service 0")


def not_back_after_reboot(rig):
    rig.kill_daemon(signal.SIGTERM)
    rig.kill_agent()
    rig.new_boot()
    for path in (rig.root / "run/ecs-health-agent").iterdir():  # memory-backed: gone with the boot
        path.unlink()
    rig.start_daemon()


LOSSES = {
    "link_lost": (link_lost, {}),
    "agent_dead": (agent_killed, {}),
    "agent_hung": (agent_stopped, {}),
    "agent_wedged": (agent_wedged, {}),
    "agent_failed": (unit_failed, BUS),
    "agent_exited": (unit_exited, BUS),
    "agent_absent": (not_back_after_reboot, {}),
}
# what a restart of the unit may mend; half of them are mended here, the others not
MENDED = {"agent_hung": agent_stopped, "agent_wedged": agent_wedged, "agent_exited": unit_exited}
NOT_MENDED = {"agent_dead": agent_killed_under_systemd, "agent_failed": unit_failed,
              "agent_absent": not_back_after_reboot}
# short graces that end before the last witness has spoken would name the cause by what the first ones say
SETTINGS = {"agent_wedged": {"ecs_agent": {"wedged_after": "500ms"}},
            "agent_failed": {"grace": "6s"}, "agent_exited": {"grace": "6s"}}


def restarts(rig):
    return [one for one in rig.systemd_events if one["event"] == "RestartUnit"]


@pytest.mark.parametrize("cause", LOSSES)
def test_a_loss_ends_in_one_drain_and_one_detach(cause):
    happen, options = LOSSES[cause]
    with watching(SETTINGS.get(cause, {}), **options) as rig:
        happen(rig)
        rig.wait_cause(cause)
        rig.check_removed()
        status = rig.status()
        assert status["record"]["cause"] == cause
        assert status["record"]["removals"] == 1 and status["headline"]["state"] == "removed"


def test_after_a_reboot_grace_waits_for_a_witness():
    with watching(SLOWLY) as rig:
        not_back_after_reboot(rig)
        rig.wait_cause("agent_absent")
        assert "cause none, fault host" not in rig.log()
        status = rig.wait_stage("grace")
        assert status["verdict"]["witnesses"]


def test_a_removal_outlives_a_restart_and_a_reboot_right_after_it():
    with watching() as rig:
        rig.drop_link()
        rig.check_removed()
        sent = rig.status()["record"]["detach_sent"]
        rig.restart_daemon()
        rig.wait_stage("removed")
        rig.kill_daemon()
        rig.new_boot()
        for path in (rig.root / "run/ecs-health-agent").iterdir():
            path.unlink()
        rig.start_daemon()
        status = rig.wait_status(lambda s: s["record"]["incident"] == 1, 10, "the incident")
        assert sent and status["record"]["detach_sent"] == sent


@pytest.mark.parametrize("cause", MENDED)
def test_a_repair_that_helps_ends_it(cause):
    with watching(merged(REPAIR, SETTINGS.get(cause, {})), units=True) as rig:
        MENDED[cause](rig)
        rig.wait_for(lambda: restarts(rig), 60, "a restart of ecs.service")
        rig.control.restore()  # with the link refused the repair could not help
        rig.wait_cause("none")
        status = rig.wait_stage("watching")
        assert status["record"]["cause"] == cause and status["record"]["incident"] == 1
        rig.holds_for(lambda: rig.peek()["stage"]["name"] == "watching", 1.5, "it stays well")
        assert rig.actions() == []
        assert [(one["unit"], one["mode"]) for one in restarts(rig)] == [("ecs.service", "replace")]


@pytest.mark.parametrize("cause", NOT_MENDED)
def test_a_repair_that_does_not_help_is_tried_once(cause):
    with watching(merged(IN_VAIN, SETTINGS.get(cause, {})), units=True) as rig:
        rig.repair_works = False
        NOT_MENDED[cause](rig)
        rig.wait_for(lambda: restarts(rig), 60, "a restart of ecs.service")
        assert not rig.drains()
        rig.check_removed()
        assert len(restarts(rig)) == 1


def test_an_agent_that_retries_is_not_restarted():
    with watching(REPAIR, units=True) as rig:
        rig.drop_link()
        rig.check_removed()
        assert not restarts(rig)


@pytest.mark.parametrize("how", ["deny", "break"])
def test_a_repair_that_is_not_possible_does_not_stop_the_path(how):
    with watching(IN_VAIN, units=True) as rig:
        rig.repair_works = False
        rig.systemd(f"{how} on")
        agent_killed_under_systemd(rig)
        rig.check_removed()
        assert len(restarts(rig)) == 1
        if how == "deny":
            assert "RestartUnit" in rig.log() and "nteractive authentication required" in rig.log()


# -- further causes that the settings name ------------------------------------------------------------------------

def disk_read_only(rig):
    table = rig.root / "proc/1/mountinfo"
    table.write_text(table.read_text().replace(" rw,", " ro,"))


FURTHER = {
    "docker": (lambda rig: rig.docker.closed(), {"docker": True}),
    "disk_read_only": (disk_read_only, {}),
}


@pytest.mark.parametrize("cause", FURTHER)
@pytest.mark.parametrize("named", [True, False], ids=["named", "not named"])
def test_a_further_cause_counts_only_where_the_settings_name_it(cause, named):
    happen, options = FURTHER[cause]
    with watching({"also_act_on": [cause] if named else []}, **options) as rig:
        happen(rig)
        if named:
            rig.check_removed()
            assert rig.status()["record"]["cause"] == cause
        else:
            rig.wait_status(lambda s: any("container" in one for one in s["problems"]), 40, "the problem")
            rig.holds_for(lambda: not rig.actions(), 2, "nothing done")
            assert rig.peek()["verdict"]["cause"] == "none"


# -- without a FIN ------------------------------------------------------------------------------------------------

@in_namespace
def test_a_black_hole_ends_in_one_drain_and_one_detach():
    with watching() as rig:
        drop_packets(rig.control.port)
        rig.wait_cause("link_lost")
        rig.check_removed()


@in_namespace
def test_a_black_hole_is_seen_by_the_sockets_before_the_agent_notices():
    # the agent's own timers are the real ones here, so it will not notice within this test
    with watching(agent=["--bare", "--keepalive", "1"], time_scale=1.0) as rig:
        rig.agent("reconnect")
        rig.wait_for(rig.linked, 10, "the new link")
        sockets = "agent sockets"
        rig.wait_status(lambda s: reading(s, sockets) == "up", 40, "that the sockets know the link")
        drop_packets(rig.control.port)
        status = rig.wait_status(lambda s: reading(s, sockets) == "down", 40, "that the sockets see it")
        assert reading(status, "agent log") == "up"


def reading(status, name):
    return next(one["reading"] for one in status["witnesses"] if one["name"] == name)


def sight(status, name):
    return next(one["sight"] for one in status["witnesses"] if one["name"] == name)


# -- what may be missing ------------------------------------------------------------------------------------------

def test_the_path_goes_on_without_dbus_and_docker():
    with watching(REPAIR) as rig:
        rig.kill_agent()
        rig.check_removed()
        status = rig.status()
        assert sight(status, "units") == sight(status, "container runtime") == "absent"


def test_the_path_goes_on_without_the_agent_log():
    with Rig(merged(QUICK, {"ecs_agent": {"log": "/var/log/ecs/none.log"}})) as rig:
        rig.wait_status(lambda s: s["identity"]["group"] and sight(s, "agent log") == "absent", 40, "the start")
        rig.kill_agent()
        rig.check_removed()
        assert rig.status()["record"]["cause"] == "agent_dead"


@pytest.mark.parametrize("happen", [link_lost, agent_killed], ids=["link_lost", "agent_dead"])
def test_the_path_goes_on_without_the_sockets(happen):
    witnesses = ["introspection", "log", "units", "docker", "path", "disks", "memory", "metadata"]
    with watching({"witnesses": witnesses}) as rig:
        happen(rig)
        rig.check_removed()
        assert sight(rig.status(), "agent sockets") == "off"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_path_goes_on_when_the_agent_log_may_not_be_read():
    with Rig(QUICK, daemon=False) as rig:
        (rig.root / "var/log/ecs").chmod(0)
        rig.start_daemon()
        rig.wait_status(lambda s: s["identity"]["group"] and sight(s, "agent log") == "denied", 40, "the start")
        rig.kill_agent()
        rig.check_removed()


# -- other ways to the same endpoints -----------------------------------------------------------------------------

def test_a_lost_link_with_tls_everywhere():
    with watching(tls="all") as rig:
        rig.drop_link()
        rig.check_removed()
        status = rig.status()
        assert next(one["says"] for one in status["witnesses"] if one["name"] == "path").endswith("works")


def test_a_certificate_that_nobody_vouches_for_is_refused():
    with Rig(QUICK, tls="all", environment={"AWS_CA_BUNDLE": None}) as rig:
        rig.wait_for(lambda: "ertificate" in rig.log() or "TLS" in rig.log() or "SSL" in rig.log(), 40, "a complaint")
        rig.drop_link()
        rig.wait_cause("link_lost")
        rig.holds_for(lambda: not rig.fake.calls, 2, "no call gets through")


def test_endpoints_by_name():
    with Rig(QUICK, daemon=False) as rig:
        rig.extra["AWS_ENDPOINT_URL"] = rig.fake.url.replace("127.0.0.1", "localhost")
        rig.extra["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = rig.fake.imds.url.replace("127.0.0.1", "localhost")
        rig.start_daemon()
        rig.wait_ready()
        rig.drop_link()
        rig.check_removed()
