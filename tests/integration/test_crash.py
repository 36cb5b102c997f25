# SPDX-License-Identifier: Apache-2.0
"""kill -9 at every point of the path, and what may have become of the journal meanwhile.

The kills themselves are made by crash_run.py, in several processes side by side: most of an incident is waiting.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from crash_run import CONFIG, MARK, PATIENCE, Monkey
from rig import HERE, PYTHON, Rig

RUNS = 8
KILLS = 210
COPIES = "run/ecs-health-agent/journal", "var/lib/ecs-health-agent/journal"


def test_no_detach_is_doubled_or_lost_and_no_drain_left_behind_by_any_kill():
    seed = int(os.environ.get("CRASH_SEED", "1"))
    runs = [subprocess.Popen(
        [PYTHON, str(HERE / "crash_run.py"), "--seed", str(seed * 100 + number), "--share", f"{number}/{RUNS}",
         "--kills", str(-(-KILLS // RUNS))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(RUNS)]
    kills, points, failures = 0, {}, []
    for number, run in enumerate(runs):
        output, errors = run.communicate(timeout=1200)
        try:
            result = json.loads(output.splitlines()[-1])
        except (ValueError, IndexError):
            result = {"kills": 0, "points": {}, "failures": ["it has ended without a result"]}
        kills += result["kills"]
        for point, times in result["points"].items():
            points[point] = points.get(point, 0) + times
        failures += [f"run {number} of seed {seed}: {text}" for text in result["failures"]]
        if result["failures"]:
            print(errors[-20000:])
    print(f"{kills} kills at {len(points)} points: {points}")
    assert not failures
    assert kills >= 200
    for name in "drain", "undrain", "mark", "unmark", "DetachInstances":  # each before and after its effect
        for kind in "hang", "hang_after_effect":
            assert any(re.fullmatch(rf"{name} \d+ {kind}", point) for point in points), f"never killed at {name}, {kind}"


# -- the journal ----------------------------------------------------------------------------------------------------

@pytest.fixture
def monkey():
    with Rig(config=CONFIG, daemon=False, backoff_scale=0.02) as rig:
        yield Monkey(rig, 1)


def kill_at(monkey, name, kind, nth=0):
    """The link drops, and the daemon is killed at this call."""
    monkey.begin()
    assert monkey.kill_at(name, nth, kind, monkey.over), f"{name} was never called"


def wait_for_log(rig, text, timeout=PATIENCE):
    rig.wait_for(lambda: text in rig.log(), timeout, f"{text!r} in the log")


def copies(rig):
    return [rig.root / name for name in COPIES]


def sealed(text):
    """A journal's text with the right hash."""
    text = re.sub(r"sha256 .*\n\Z", "", text)
    return text + f"sha256 {hashlib.sha256(text.encode()).hexdigest()}\n"


def stays_as_it_is(monkey, seconds=3.0):
    """Long enough for a grace, two looks and a detach."""
    attempts = len(monkey.rig.detach_attempts())
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert len(monkey.rig.detach_attempts()) == attempts
        time.sleep(0.05)


DAMAGE = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[:len(data) // 2],
    "a bit flipped": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "zeros": lambda data: bytes(len(data)),
    "huge": lambda data: data * 10000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_journals_do_not_repeat_a_detach(monkey, damage):
    rig = monkey.rig
    kill_at(monkey, "DetachInstances", "hang_after_effect")
    for path in copies(rig):
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    # without a journal it has nothing but the metadata service's word for it, which comes when the detach is through
    rig.wait_for(lambda: rig.fake.world.instance(rig.instance).target == "Detached", 20, "the end of the detach")
    monkey.start()
    wait_for_log(rig, "The journal is damaged and was ignored")
    stays_as_it_is(monkey)
    monkey.check()
    assert len(rig.detaches()) == 1


@pytest.mark.parametrize("name, kind", [("drain", "hang_after_effect"), ("DetachInstances", "hang")])
def test_damaged_journals_do_not_lose_a_detach(monkey, name, kind):
    kill_at(monkey, name, kind)
    for path in copies(monkey.rig):
        path.write_text("nonsense\n")
    monkey.start()
    wait_for_log(monkey.rig, "The journal is damaged and was ignored")
    monkey.end_removed()


@pytest.mark.parametrize("lost", [0, 1], ids=["run", "disk"])
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_one_whole_copy_of_the_journal_is_enough(monkey, lost, how):
    rig = monkey.rig
    kill_at(monkey, "DetachInstances", "hang")
    if how == "gone":
        copies(rig)[lost].unlink()
    else:
        copies(rig)[lost].write_text("nonsense\n")
    monkey.start()
    wait_for_log(rig, "Taking up incident 1 at stage detaching")
    assert "The journal is damaged" not in rig.log()
    monkey.end_removed()


def test_the_newer_copy_of_the_journal_counts(monkey):
    rig = monkey.rig
    monkey.begin()
    there = monkey.hold("drain", 0, "hang")
    monkey.wait(there, "the drain")
    old = copies(rig)[1].read_bytes()
    assert b"stage 6\n" in old
    rig.fake.clear()  # the connection ends, the call is made again
    assert monkey.kill_at("DetachInstances", 0, "hang_after_effect", monkey.over)
    copies(rig)[1].write_bytes(old)
    monkey.start()
    wait_for_log(rig, "Taking up incident 1 at stage detaching")
    monkey.end_removed()


def test_a_reboot_after_the_drain_undoes_it_when_the_agent_comes_back(monkey):
    rig = monkey.rig
    kill_at(monkey, "drain", "hang_after_effect")
    assert rig.own.status == "DRAINING"
    shutil.rmtree(rig.root / "run/ecs-health-agent")
    rig.new_boot()
    rig.restore_link()
    monkey.wait_linked()
    monkey.start()
    rig.wait_for(monkey.clean, PATIENCE, "an undone drain")
    stays_as_it_is(monkey)
    monkey.check()
    assert rig.actions() == ["drain", "undrain"]


def test_a_reboot_after_the_drain_ends_in_one_detach_when_the_agent_stays_away(monkey):
    rig = monkey.rig
    kill_at(monkey, "drain", "hang_after_effect")
    shutil.rmtree(rig.root / "run/ecs-health-agent")
    rig.new_boot()
    monkey.start()
    monkey.end_removed()


@pytest.mark.parametrize("kind", ["hang", "hang_after_effect"])
def test_a_reboot_while_the_detach_is_under_way_reads_before_it_acts(monkey, kind):
    rig = monkey.rig
    kill_at(monkey, "DetachInstances", kind)
    shutil.rmtree(rig.root / "run/ecs-health-agent")
    rig.new_boot()
    before = len(rig.fake.calls)
    monkey.start()
    monkey.end_removed()
    later = [call["action"] for call in rig.fake.calls[before:]]
    assert "DescribeAutoScalingInstances" in later
    if kind == "hang":
        assert later.index("DescribeAutoScalingInstances") < later.index("DetachInstances")
    else:
        assert not any(call["params"]["InstanceIds"] == [rig.instance] for call in rig.fake.calls[before:]
                       if call["action"] == "DetachInstances")


def test_a_journal_of_another_instance_is_ignored(monkey):
    """An image that was baked from a host in the middle of an incident."""
    rig = monkey.rig
    kill_at(monkey, "DetachInstances", "hang")
    text = copies(rig)[1].read_text()
    assert f"instance {rig.instance}\n" in text and "stage 8\n" in text
    monkey.begin()
    rig.restore_link()
    rig.kill_daemon()
    other = sealed(text.replace(f"instance {rig.instance}\n", "instance i-0123456789abcdef0\n"))
    copies(rig)[1].write_text(other)
    shutil.rmtree(rig.root / "run/ecs-health-agent")
    rig.new_boot()
    monkey.wait_linked()
    monkey.start()
    rig.wait_for(lambda: (rig.status() or {}).get("headline", {}).get("state") == "healthy", PATIENCE, "a healthy host")
    stays_as_it_is(monkey)
    assert "Taking up" not in rig.log() and "damaged" not in rig.log()
    assert rig.actions() == [] and rig.status()["record"]["incident"] == 0
    # and its number does not hide the journal of this instance
    rig.drop_link()
    monkey.end_removed()


def test_the_same_journal_with_our_own_name_is_taken_up(monkey):
    """The twin of the test above: what makes the difference there is the instance."""
    rig = monkey.rig
    kill_at(monkey, "DetachInstances", "hang")
    text = copies(rig)[1].read_text()
    copies(rig)[1].write_text(sealed(text))
    shutil.rmtree(rig.root / "run/ecs-health-agent")
    rig.new_boot()
    monkey.start()
    wait_for_log(rig, "Taking up incident 1 at stage detaching")
    monkey.end_removed()


# -- nowhere to write -----------------------------------------------------------------------------------------------

def block(path):
    """No directory, and none can be made: a file is in its place. It binds root as well."""
    if path.is_dir():
        shutil.rmtree(path)
    path.write_text("")


def unblock(path):
    path.unlink()
    path.mkdir()


def test_without_any_journal_nothing_is_changed(monkey):
    """A step that cannot be remembered could be taken twice."""
    rig = monkey.rig
    directories = [path.parent for path in copies(rig)]
    monkey.begin()
    there = monkey.hold("DescribeContainerInstances", 0, "hang")
    monkey.wait(there, "the first confirmation")
    for path in directories:
        block(path)
    rig.fake.clear()
    wait_for_log(rig, "The journal could not be written to memory or disk")
    stays_as_it_is(monkey, 5)
    assert rig.actions() == [] and monkey.clean()
    for path in directories:
        unblock(path)
    monkey.end_removed()


def test_a_start_without_any_journal_says_so_and_changes_nothing(monkey):
    rig = monkey.rig
    for path in copies(rig):
        block(path.parent)
    rig.drop_link()
    daemon = rig.start_daemon()
    wait_for_log(rig, "journal")
    ends = time.monotonic() + 4
    while time.monotonic() < ends and daemon.poll() is None:
        time.sleep(0.05)
    assert rig.actions() == []
    assert daemon.poll() in (None, 1)
    assert re.search(r"(error|warning): .*journal", rig.log())


@pytest.mark.parametrize("lost", [0, 1], ids=["run", "disk"])
def test_either_copy_of_the_journal_is_enough_to_act(monkey, lost):
    rig = monkey.rig
    monkey.begin()
    rig.kill_daemon()
    block(copies(rig)[lost].parent)
    monkey.start()
    rig.wait_for(rig.detaches, PATIENCE, "a detach")
    rig.wait_for(lambda: copies(rig)[1 - lost].exists() and "stage 11\n" in copies(rig)[1 - lost].read_text(), PATIENCE,
                 "its journal")
    monkey.check()
    if lost == 1:
        wait_for_log(rig, "The journal could not be written to disk")
        assert rig.status()["self"]["journal_error"]
    # and what is there is found again
    monkey.kill("delay")
    monkey.start()
    stays_as_it_is(monkey)
    monkey.check()


def test_attributes_that_mark_a_drain_are_gone_when_it_is_undone(monkey):
    """The agent reconnects right after the drain: status and mark are as before, and the drain was marked as ours."""
    rig = monkey.rig
    monkey.begin()
    there = monkey.hold("ListContainerInstances", 2, "hang")
    monkey.wait(there, "the look after the drain")
    assert rig.own.attributes[MARK].startswith("removing ")
    rig.restore_link()
    monkey.wait_linked()
    rig.fake.clear()
    rig.wait_for(monkey.clean, PATIENCE, "an undone drain")
    assert rig.actions() == ["drain", "undrain"]



def test_a_drain_is_undone_without_any_journal_when_the_agent_comes_back(monkey):
    """The mark at ECS is what is left to know it by."""
    rig = monkey.rig
    kill_at(monkey, "drain", "hang_after_effect")
    for path in copies(rig):
        path.write_text("nonsense\n")
    rig.restore_link()
    monkey.wait_linked()
    monkey.start()
    rig.wait_for(monkey.clean, 20, "an undone drain")
