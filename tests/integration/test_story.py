# SPDX-License-Identifier: Apache-2.0
"""Incidents of the real daemon, told by `explain`, repeated by `replay`, and rehearsed by `drill`."""

import json
import os
import signal

import pytest

from rig import merged, watching


def trace(rig, number=1):
    return rig.root / f"var/lib/ecs-health-agent/incidents/{number}.trace"


def told(rig, number=1):
    """The story as JSON, and its sentences; the text for people holds the same ones."""
    done = rig.run_command("explain", str(number), "--json")
    assert done.returncode == 0, done.stderr
    story = json.loads(done.stdout)
    rows = [row["text"] for row in story["timeline"]]
    text = " ".join(rig.run_command("explain", str(number)).stdout.split())
    for row in rows:
        assert " ".join(row.split()) in text
    assert [row["at"] for row in story["timeline"]] == sorted(row["at"] for row in story["timeline"])
    return story, rows


def in_order(rows, *parts):
    """Each part is in a row after that of the one before."""
    at = 0
    for part in parts:
        at = next((i + 1 for i, row in enumerate(rows) if i >= at and part in row), None)
        assert at is not None, f"{part!r} is not told, or not in its turn:\n" + "\n".join(rows)


def check_replay(rig, number=1):
    """Every plan again, and more than a few of them."""
    done = rig.run_command("replay", str(trace(rig, number)), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    replayed = json.loads(done.stdout)
    assert replayed["same"] and replayed["different"] == 0 and replayed["steps"] > 5
    assert replayed["unusable_lines"] == 0
    return replayed


def ended(rig, number=1):
    return told(rig, number)[0]["ended"]


def test_a_removal_is_told_from_the_first_sign_to_the_end():
    with watching() as rig:
        assert not trace(rig).parent.exists()
        rig.drop_link()
        rig.check_removed()
        story, rows = told(rig)
        assert story["ended"] and story["ending"] == "the instance was taken out of its group."
        assert story["cause"] == "link_lost" and story["stage"] == "removed"
        assert story["drained"] and story["detached"] and not story["undone"] and not story["held"]
        assert story["instance"] == rig.instance and story["group"] == rig.group
        assert "agent log" in story["evidence"] and "agent sockets" in story["evidence"]
        in_order(rows, "Verdict: The ECS agent has lost its connection", "Grace begins",
                 "ECS says: the agent is disconnected", "Grace is over", "1 of 6 in the cluster", "DRAINING",
                 "Call drain: ok (request ", "Drain: done", "Detaching this instance",
                 "Call DetachInstances: ok (request ", "out of service in its Auto Scaling group")
        listed = rig.run_command("explain").stdout
        assert "link_lost" in listed and "the instance was taken out of its group." in listed
        assert check_replay(rig)["stage"] == "removed"


def test_a_held_incident_is_told_with_the_reason_and_its_release():
    with watching() as rig:
        rig.fake.world.group(rig.group).tags["ecs-health-agent"] = "off"
        rig.drop_link()
        rig.wait_held("off")
        story, rows = told(rig)
        assert not story["ended"] and story["held"] and "stage " in story["ending"]
        assert sum("Held by the brake off: The tag ecs-health-agent" in row for row in rows) == 1
        assert not any("DRAINING, marked" in row for row in rows)
        check_replay(rig)
        del rig.fake.world.group(rig.group).tags["ecs-health-agent"]
        rig.check_removed()
        in_order(told(rig)[1], "Held by the brake off", "Detaching this instance", "out of service in its Auto Scaling group")
        check_replay(rig)


def test_an_orphan_is_told_to_its_end():
    with watching({"orphan": {"after": "3s"}}) as rig:
        rig.drop_link()
        rig.check_removed()
        status = rig.wait_status(lambda s: s["orphan"] and s["orphan"]["ended"], 30, "the orphan's end")
        assert status["stage"]["name"] == "removed" and status["orphan"]["due_in_seconds"] is None
        assert status["orphan"]["says"].startswith("It was deregistered and stopped.")
        story, rows = told(rig)
        assert story["orphan_ended"] and story["action"] == "detach"
        in_order(rows, "Removal: done", "Ending this instance", "End of the instance that was removed: done")
        assert rig.log().count("is deregistered and stopped: done.") == 1
        listed = rig.run_command("explain").stdout
        assert "the instance was taken out of its group. It was ended afterwards" in listed
        assert check_replay(rig)["stage"] == "removed"


def test_an_orphan_that_cannot_be_ended_names_the_right():
    with watching({"orphan": {"after": "2s"}}) as rig:
        rig.fake.deny("DeregisterContainerInstance")
        rig.drop_link()
        rig.check_removed()
        status = rig.wait_status(lambda s: s["orphan"] and s["orphan"]["denied"] and "not worked" in s["orphan"]["says"], 30,
                                 "an attempt that fails")
        assert status["orphan"]["denied"] == "ecs:DeregisterContainerInstance" and not status["orphan"]["ended"]
        tries = len(rig.fake.calls_of("DeregisterContainerInstance", rig.instance))
        rig.wait_for(lambda: len(rig.fake.calls_of("DeregisterContainerInstance", rig.instance)) > tries, 60, "another try")
        assert rig.log().count("could not be ended") == 1 and rig.log().count("(stage ending, incident 1)") == 1
        rig.fake.clear()
        rig.wait_status(lambda s: s["orphan"]["ended"], 60, "the orphan's end")
        assert rig.log().count("is deregistered and stopped: done.") == 1


def test_a_recovery_is_told_and_a_second_incident_is_another():
    with watching() as rig:
        rig.fake.world.group(rig.group).tags["ecs-health-agent"] = "off"
        rig.drop_link()
        rig.wait_held("off", looks=1)
        rig.restore_link()
        rig.wait_stage("watching")
        story, rows = told(rig)
        assert story["ended"] and story["ending"].startswith((
            "the agent has connected again.", "ECS called the agent connected.", "the witnesses no longer agreed"))
        assert not story["drained"] and not story["detached"]
        check_replay(rig)
        rig.drop_link()
        rig.wait_held("off", looks=1)
        assert trace(rig, 2).exists()
        listed = json.loads(rig.run_command("explain", "--json").stdout)["incidents"]
        assert [one["incident"] for one in listed] == [1, 2]
        assert [one["ended"] for one in listed] == [True, False]


def test_a_daemon_killed_in_the_middle_goes_on_with_the_same_story():
    with watching() as rig:
        rig.fake.fault("UpdateContainerInstancesState", "slow", seconds=3.0)
        rig.drop_link()
        rig.wait_for(lambda: rig.fake.calls_of("UpdateContainerInstancesState", rig.instance, status="DRAINING"), 30,
                     "the drain")
        rig.kill_daemon(signal.SIGKILL)
        story, _ = told(rig)  # without a daemon
        assert not story["ended"] and "in the middle" in story["ending"]
        rig.fake.clear()
        rig.start_daemon()
        rig.wait_for(rig.detaches, 60, "a detach")
        rig.wait_stage("removed")
        story, rows = told(rig)
        in_order(rows, "DRAINING, marked as ours", "The daemon has started again and taken up incident 1")
        assert story["ended"]
        # the log read back may say "connected" for a moment, which undoes the drain; the removal is another incident then
        assert story["detached"] != story["undone"]
        last = json.loads(rig.run_command("explain", "--json").stdout)["incidents"][-1]
        assert last["ending"] == "the instance was taken out of its group."
        for number in range(1, last["incident"] + 1):
            check_replay(rig, number)


def test_a_disk_that_cannot_be_written_loses_the_trace_and_nothing_else():
    with watching() as rig:
        trace(rig).parent.write_text("in the way")
        rig.drop_link()
        rig.check_removed()
        rig.wait_for(lambda: "The trace of incident 1 is given up" in rig.log(), 5, "a word about it")
        assert rig.log().count("is given up") == 1
        trace(rig).parent.unlink()
        done = rig.run_command("explain", "1")
        assert done.returncode == 1 and "left no trace" in done.stderr and "removed" in done.stderr
        done = rig.run_command("explain")
        assert done.returncode == 0 and "There is no trace" in done.stdout and "incident 1" in done.stdout


def test_replay_with_other_settings():
    with watching() as rig:
        rig.drop_link()
        rig.check_removed()

        def replay(config):
            path = rig.root / "other.json"
            path.write_text(json.dumps(merged(rig.config, config)))
            done = rig.run_command("replay", str(trace(rig)), "--config", str(path), "--json")
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        observed = replay({"action": "observe"})
        assert observed["stage"] == "held"
        assert any("Held by the brake observe" in row["text"] for row in observed["timeline"])
        later = replay({"grace": "5s"})
        assert later["stage"] == "removed" and later["different"] == 0
        assert any("does not fit any more" in row["text"] for row in later["timeline"])
        done = rig.run_command("replay", str(trace(rig)), "--config", str(rig.root / "none.json"))
        assert done.returncode == 2 and "none.json" in done.stderr
        (rig.root / "other.json").write_text('{"grcae": "5m"}')
        done = rig.run_command("replay", str(trace(rig)), "--config", str(rig.root / "other.json"))
        assert done.returncode == 2 and "grcae" in done.stderr


def test_replay_shows_where_a_plan_is_another():
    with watching() as rig:
        rig.drop_link()
        rig.check_removed()
        lines = trace(rig).read_text().splitlines()
        at = next(i for i, line in enumerate(lines) if '"type":"drain"' in line)
        changed = rig.root / "changed.trace"
        changed.write_text("\n".join([*lines[:at], lines[at].replace('"drain"', '"detach"'), *lines[at + 1:]]) + "\n")
        done = rig.run_command("replay", str(changed))
        assert done.returncode == 1
        assert f"line {at + 1}, " in done.stdout and "1 of " in done.stdout
        for word in ("recorded", '"detach"', "now", '"drain"'):
            assert word in done.stdout[done.stdout.index("lead to another plan"):]
        damaged = rig.root / "damaged.trace"
        damaged.write_text("\n".join([*lines[:at], "{damaged", *lines[at:]]) + "\n")
        done = rig.run_command("replay", str(damaged))
        assert done.returncode == 0 and "1 lines could not be replayed" in done.stdout


@pytest.mark.parametrize("content, words", [
    (b"", "is no trace"),
    (b"\x00\xff\xfe" * 100, "is no trace"),
    (b'{"trace":99}\n', "another format"),
    (b"[" * 100000, "is no trace"),
    (None, "No such file"),
])
def test_what_is_no_trace_is_refused(tmp_path, content, words):
    from rig import binary
    import subprocess
    path = tmp_path / "x.trace"
    if content is not None:
        path.write_bytes(content)
    done = subprocess.run([binary(), "replay", str(path)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and words in done.stderr and str(path) in done.stderr


def test_without_an_incident_and_without_a_daemon(tmp_path):
    from rig import binary
    import subprocess
    environment = {**os.environ, "ECS_HEALTH_AGENT_ROOT": str(tmp_path)}

    def run(*arguments):
        return subprocess.run([binary(), *arguments], env=environment, capture_output=True, text=True, timeout=20)

    done = run("explain")
    assert done.returncode == 0 and "There is no trace of an incident" in done.stdout and "drill" in done.stdout
    assert json.loads(run("explain", "--json").stdout) == {"incidents": []}
    done = run("explain", "7")
    assert done.returncode == 1 and "no trace of incident 7" in done.stderr
    for wrong in ("x", "0", "-1", "1.5", "99999999999999999999999"):
        done = run("explain", "--", wrong)
        assert done.returncode == 2 and wrong in done.stderr
    done = run("drill")
    assert done.returncode == 1 and "daemon does not run" in done.stderr
    assert not list(tmp_path.iterdir()), "nothing is made by asking"
    if os.geteuid() != 0:
        (tmp_path / "var/lib/ecs-health-agent/incidents").mkdir(parents=True)
        (tmp_path / "var/lib/ecs-health-agent").chmod(0)
        done = run("explain")
        (tmp_path / "var/lib/ecs-health-agent").chmod(0o700)
        assert done.returncode == 1 and "sudo" in done.stderr


def drilled(rig):
    """Run a drill; nothing that it asks may change anything, and everything stays as it is."""
    before = len(rig.fake.calls)
    stage = rig.status()["stage"]
    done = rig.run_command("drill", "--json")
    shown = rig.run_command("drill")
    calls = [call for call in rig.fake.calls[before:] if call["action"] != "PutMetricData"]
    assert calls, "the look is a real one"
    assert {call["action"][:4] for call in calls} <= {"Desc", "List"}, [call["action"] for call in calls]
    assert rig.status()["stage"]["name"] == stage["name"]
    assert not trace(rig).exists()
    played = json.loads(done.stdout)
    assert done.returncode == shown.returncode == (0 if played["would_act"] else 1)
    assert "Nothing is changed" in shown.stdout and " ".join(played["ending"].split()) in " ".join(shown.stdout.split())
    return played


def test_a_drill_plays_the_whole_way_and_changes_nothing():
    with watching() as rig:
        rig.wait_for(lambda: rig.fake.calls_of("StopInstances"), 20, "the last of the daemon's own probes")
        played = drilled(rig)
        assert played["would_act"] and played["stage"] == "removed" and played["looked"] and played["daemon"]
        assert played["changes"] == [
            "ecs:PutAttributes", "ecs:UpdateContainerInstancesState", "autoscaling:DetachInstances"]
        assert played["brakes"] == []
        assert played["afterwards"].startswith("It is deregistered and stopped in ")
        in_order([row["text"] for row in played["timeline"]], "the connection was lost", "Grace begins",
                 "1 of 6 in the cluster", "DRAINING", "Detaching this instance", "out of service in its Auto Scaling group")


def test_a_drill_names_the_brakes_as_they_are_now():
    with watching() as rig:
        rig.wait_for(lambda: rig.fake.calls_of("StopInstances"), 20, "the last of the daemon's own probes")
        rig.fake.world.group(rig.group).tags["ecs-health-agent"] = "off"
        played = drilled(rig)
        assert [brake["name"] for brake in played["brakes"]] == ["off"]
        assert not played["would_act"] and played["changes"] == [] and played["afterwards"] is None
        with rig.fake.world.live() as state:
            peers = [host.ec2 for host in state.hosts_of("demo") if host.ec2 != rig.instance]
        for peer in peers[:3]:
            rig.fake.world.force_connected(peer, False)
        played = drilled(rig)
        assert "share" in {brake["name"] for brake in played["brakes"]}
        assert not played["would_act"] and played["changes"] == []
        assert any("4 of 6 in the cluster" in row["text"] for row in played["timeline"])


def test_a_drill_goes_by_the_pause_and_by_what_the_role_may():
    with watching() as rig:
        rig.wait_for(lambda: rig.fake.calls_of("StopInstances"), 20, "the last of the daemon's own probes")
        assert rig.run_command("pause", "--reason", "maintenance").returncode == 0
        before = len(rig.fake.calls)
        done = rig.run_command("drill", "--json")
        played = json.loads(done.stdout)
        assert done.returncode == 1 and [brake["name"] for brake in played["brakes"]] == ["paused"]
        assert rig.run_command("resume").returncode == 0
        rig.fake.deny("DescribeAutoScalingGroups")
        played = json.loads(rig.run_command("drill", "--json").stdout)
        assert not played["would_act"] and not played["looked"] and "denied" in played["look_failed"]
        assert not [call for call in rig.fake.calls[before:] if call["action"] in (
            "DetachInstances", "UpdateContainerInstancesState") and call["effect"]]


def test_a_drill_without_a_daemon_goes_by_the_journal():
    with watching() as rig:
        rig.wait_for(lambda: rig.fake.calls_of("StopInstances"), 20, "the last of the daemon's own probes")
        rig.wait_for((rig.root / "var/lib/ecs-health-agent/journal").exists, 10, "the journal")
        rig.kill_daemon(signal.SIGTERM)
        before = len(rig.fake.calls)
        played = json.loads(rig.run_command("drill", "--json").stdout)
        assert played["would_act"] and not played["daemon"] and played["instance"] == rig.instance
        assert all(call["action"].startswith(("Describe", "List")) for call in rig.fake.calls[before:])
