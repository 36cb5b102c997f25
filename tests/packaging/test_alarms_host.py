# SPDX-License-Identifier: Apache-2.0
"""The alarms on memory, disks, container runtime, tasks and the agent's own faults, as test_alarms.py.

The disks are small file systems in a user namespace. A stuck task takes three minutes to be one: its value is put in place of
the zero in what the daemon published.
"""

import pytest

pytest.importorskip("yaml", reason="needs PyYAML (python3-yaml), to read the templates")

from alarm_rules import OK, Bells, Store  # noqa: E402
from rig import merged  # noqa: E402
from watch import RULES, calm_memory, pressure, write  # noqa: E402


@pytest.mark.parametrize("file, text, names", [
    ("meminfo", "MemTotal: 8000000 kB\nMemFree: 100000 kB\nMemAvailable: 320000 kB\nBuffers: 0 kB\nCached: 0 kB\n"
     "SwapTotal: 0 kB\nSwapFree: 0 kB\n", ["MemoryAvailableWarning", "MemoryAvailableCritical"]),
    ("pressure/memory", pressure(30, 3), ["MemoryPressureWarning"]),
    ("pressure/memory", pressure(45, 12), ["MemoryPressureWarning", "MemoryPressureCritical"]),
    ("vmstat", "oom_kill 9\n", ["OomKills"]),
], ids=["available", "some wait", "all wait", "kills"])
def test_memory(watched, file, text, names):
    rig, watch = watched()
    write(rig, file, text)
    watch.expect(*names)
    calm_memory(rig)
    watch.expect_rest()


@pytest.mark.parametrize("fill, names", [
    ("head -c 950000 /dev/zero >file", ["DiskWarning"]),
    ("cat /dev/zero >file 2>/dev/null", ["DiskWarning", "DiskCritical"]),
    ("touch $(seq 88)", ["DiskInodesWarning"]),
    ("touch $(seq 120) 2>/dev/null", ["DiskInodesWarning", "DiskInodesCritical"]),
], ids=["fuller", "full", "fewer inodes", "no inodes"])
def test_disks(disk, fill, names):
    _, watch = disk(fill)
    watch.expect(*names)
    watch.pass_minutes(6)
    assert watch.bells.rang == set(names)


@pytest.mark.parametrize("mode, names", [
    ("slow", ["RuntimePingWarning"]), ("hang", ["RuntimePingWarning", "RuntimePingCritical"])])
def test_a_container_runtime_that_is_slow_or_hangs(watched, mode, names):
    rig, watch = watched(docker=True)
    watch.until(lambda bells: bells.state["RuntimePingWarning"] == OK, 60, "a ping")
    rig.docker.seconds = 1.5
    rig.docker.mode = mode
    watch.expect(*names)
    rig.docker.mode = "good"
    watch.expect_rest()


def test_a_task_that_is_stuck(watched):
    rig, watch = watched(agent=("--tasks", "2"))
    watch.until(lambda bells: bells.state["TasksStuck"] == OK, 60, "the tasks")
    watch.pass_minutes(14)
    stuck = Store(began=watch.store.began)

    def one_is_stuck(name, stats):
        if name == "tasks_stuck":
            assert stats["Maximum"] == 0
            stats.update(Minimum=1, Maximum=1, Sum=stats["SampleCount"])
        return stats

    stuck.record(rig.fake.metrics, change=one_is_stuck)
    bells = Bells({"TasksStuck": RULES["TasksStuck"]}, stuck).advance(watch.bells.now)
    assert bells.rang == {"TasksStuck"} and not watch.bells.rang


def test_settings_that_are_refused(watched):
    rig, watch = watched()
    good = rig.config
    rig.write_config(merged(good, {"grace": "soon"}))
    watch.expect("ConfigError")
    rig.write_config(good)
    watch.expect_rest()


def test_a_datum_that_cloudwatch_refuses(watched):
    rig, watch = watched()
    rig.fake.fault("PutMetricData", "refuse",
                   where=lambda params: any(one["MetricName"] == "oom_kills" for one in params["MetricData"]))
    watch.expect("SamplesDropped")
    rig.fake.clear()
    watch.expect_rest()
