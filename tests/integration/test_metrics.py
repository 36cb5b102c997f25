# SPDX-License-Identifier: Apache-2.0
"""What CloudWatch gets: every series of the table, through outages and restarts, and nothing that it would refuse."""

import math
import os
import time

import pytest
from fake_aws import FakeAws
from rig import QUICK, Rig, merged, watching

PERIOD = 2
NAMESPACE = "ECS/InstanceHealth"
GROUP = {"ClusterName": "demo", "AutoScalingGroupName": "demo-asg"}
UNITS = {
    "heartbeat": "Count", "ecs_agent_connected": "None", "ecs_agent_disconnected_seconds": "Seconds",
    "ecs_agent_reconnects": "Count", "container_runtime_ping_time": "Milliseconds",
    "mem_used_percent": "Percent", "mem_available_percent": "Percent", "swap_used_percent": "Percent",
    "mem_pressure_some_percent": "Percent", "mem_pressure_full_percent": "Percent", "oom_kills": "Count",
    "disk_used_percent": "Percent", "disk_inodes_used_percent": "Percent",
    "tasks_running": "Count", "tasks_stuck": "Count",
    "remediation_stage": "None", "remediation_held": "Count", "remediation_performed": "Count",
    "samples_dropped": "Count", "config_error": "Count",
}
COUNTERS = {"heartbeat", "ecs_agent_reconnects", "oom_kills", "remediation_performed", "samples_dropped"}
LARGEST = {"Percent": 100, "None": 11, "Seconds": 1e9, "Milliseconds": 3.6e6, "Count": 1e9}

MEMINFO = """MemTotal:       16000000 kB
MemFree:         4000000 kB
MemAvailable:   10000000 kB
Buffers:         1000000 kB
Cached:          2000000 kB
SwapCached:            0 kB
SwapTotal:       2000000 kB
SwapFree:        1500000 kB
SReclaimable:    1000000 kB
"""
PRESSURE = "some avg10=0.00 avg60=12.34 avg300=0.00 total=1\nfull avg10=0.00 avg60=5.60 avg300=0.00 total=1\n"
MOUNT = "{0} 1 259:{0} / {1} rw,noatime shared:1 - xfs /dev/nvme{0}n1p1 rw,attr2\n"


def write(rig, name, text):
    """Over a file of the rig's /proc, in place: it is held open."""
    with open(rig.root / "proc" / name, "r+", encoding="ascii") as file:
        file.truncate(0)
        file.write(text)


def series(rig, **dims):
    """{(name, dimensions): [Metric, ...]} as received; @dims: dimensions that must be there, None: must not."""
    found = {}
    for one in list(rig.fake.metrics):
        if all(one.dims.get(key) == value for key, value in dims.items()):
            found.setdefault((one.name, tuple(sorted(one.dims.items()))), []).append(one)
    return found


def key(name, **more):
    return name, tuple(sorted({**GROUP, **more}.items()))


def own_key(rig, name, **more):
    return name, tuple(sorted({"ClusterName": "demo", "InstanceId": rig.instance, **more}.items()))


def beats(rig, dims=None):
    """Times of the heartbeats of the group, in the order of arrival."""
    return [one.timestamp for one in rig.fake.metrics_of("heartbeat", **(dims or GROUP))]


def wait_periods(rig, number, timeout=60.0):
    """That many more whole periods have been received."""
    there = len(beats(rig))
    rig.wait_for(lambda: len(beats(rig)) >= there + number, timeout, f"{number} more periods")


def latest(rig, name, **more):
    """Statistics of the last datum of a group series; None before the first."""
    data = series(rig).get(key(name, **more))
    return data[-1].stats if data else None


def wait_latest(rig, name, value, timeout=60.0, **more):
    def there():
        stats = latest(rig, name, **more)
        return stats and stats["Minimum"] == stats["Maximum"] == pytest.approx(value)

    rig.wait_for(there, timeout, f"{name} = {value}")


def check_wellformed(rig, began):
    """Of everything that was received: nothing refused, each datum a possible one, each sent once."""
    calls = rig.fake.calls_of("PutMetricData")
    assert calls and not [call["code"] for call in calls if call["code"] and not call["faults"]]
    seen = set()
    for one in list(rig.fake.metrics):
        assert one.namespace == NAMESPACE and one.unit == UNITS[one.name] and one.resolution == 60
        assert set(one.dims) in ({"ClusterName", kind, *more} for kind in ("AutoScalingGroupName", "InstanceId")
                                 for more in ((), ("path",), ("Brake",)))
        assert began - 1 <= one.timestamp <= time.time() + 1
        stats = one.stats
        assert 0 <= stats["Minimum"] <= stats["Maximum"] <= LARGEST[one.unit]
        assert stats["SampleCount"] >= 1 and all(math.isfinite(value) for value in stats.values())
        mean = stats["Sum"] / stats["SampleCount"]
        assert stats["Minimum"] - 1e-6 <= mean <= stats["Maximum"] + 1e-6
        if one.name in COUNTERS:
            assert stats["SampleCount"] == 1
        # The first period is of any length, so the second one may begin in the same second: then they differ in the
        # number of samples.
        which = one.name, tuple(sorted(one.dims.items())), one.timestamp, stats["SampleCount"]
        if one.name not in COUNTERS:
            assert which not in seen, f"sent twice: {which}"
            seen.add(which)


# -- the table ------------------------------------------------------------------------------------------------------

def test_every_series_of_a_healthy_host_has_its_name_unit_dimensions_and_value():
    began = time.time()
    with Rig(docker=True, daemon=False, agent=("--tasks", "3"), config={"metrics": {"sample": "500ms"}}) as rig:
        write(rig, "meminfo", MEMINFO)
        write(rig, "vmstat", "oom_kill 7\n")
        write(rig, "pressure/memory", PRESSURE)
        write(rig, "1/mountinfo", MOUNT.format(1, "/") + MOUNT.format(2, "/data"))
        (rig.root / "data").mkdir()
        rig.start_daemon()
        rig.wait_ready()
        wait_periods(rig, 4)
        check_wellformed(rig, began)

        whole = series(rig)
        mounts = {key(name, path=path) for name in ("disk_used_percent", "disk_inodes_used_percent")
                  for path in ("/", "/data")}
        fs = os.statvfs(rig.root)
        if fs.f_files == 0:  # a file system without a fixed number of inodes
            mounts -= {one for one in mounts if one[0] == "disk_inodes_used_percent"}
            UNITS.pop("disk_inodes_used_percent")
        assert set(whole) == {key(name) for name in UNITS} | mounts

        for name, value in {
                "heartbeat": 1, "ecs_agent_connected": 1, "ecs_agent_disconnected_seconds": 0, "ecs_agent_reconnects": 0,
                "mem_used_percent": 50, "mem_available_percent": 62.5, "swap_used_percent": 25,
                "mem_pressure_some_percent": 12.34, "mem_pressure_full_percent": 5.6, "oom_kills": 0,
                "tasks_running": 3, "tasks_stuck": 0, "remediation_stage": 0, "remediation_held": 0,
                "remediation_performed": 0, "samples_dropped": 0, "config_error": 0}.items():
            wait_latest(rig, name, value)
        assert 0 <= latest(rig, "container_runtime_ping_time")["Maximum"] < 2000
        used = 100 * (fs.f_blocks - fs.f_bfree) / (fs.f_blocks - fs.f_bfree + fs.f_bavail)
        assert latest(rig, "disk_used_percent")["Maximum"] == pytest.approx(used, abs=5)
        assert latest(rig, "disk_used_percent", path="/data")["Maximum"] == pytest.approx(used, abs=5)
        # several samples went into one datum
        assert max(one.stats["SampleCount"] for one in whole[key("mem_used_percent")]) >= 3
        # and nothing was published of this host alone
        assert not series(rig, InstanceId=rig.instance)

        # what happens shows once, in the period in which it happens
        write(rig, "vmstat", "oom_kill 10\n")
        rig.agent("reconnect")
        rig.agent("tasks 5")
        wait_latest(rig, "tasks_running", 5)
        wait_periods(rig, 1)
        for name, total in (("oom_kills", 3), ("ecs_agent_reconnects", 1)):
            assert sum(one.stats["Sum"] for one in series(rig)[key(name)]) == total, name


def test_one_heartbeat_a_period():
    with watching(config={"metrics": {"period": "3s"}}) as rig:
        wait_periods(rig, 5)
        times = beats(rig)
        gaps = [after - before for before, after in zip(times[1:], times[2:])]
        assert min(gaps) >= 2 and sum(gaps) / len(gaps) < 4.5


def test_outside_a_group_the_dimension_is_none():
    with Rig(group=None) as rig:
        none = {"ClusterName": "demo", "AutoScalingGroupName": "none"}
        rig.wait_for(lambda: len(beats(rig, none)) >= 2, 60, "two periods")
        assert {tuple(one.dims.items()) for one in rig.fake.metrics if "path" not in one.dims} == {tuple(none.items())}


def test_what_is_not_known_is_not_published():
    """No introspection, no docker, no log: a missing sample is no zero."""
    with Rig(config={"witnesses": ["disks", "memory", "metadata"], "ecs_agent": {"cluster": "demo"}}) as rig:
        wait_periods(rig, 3)
        names = {name for name, _ in series(rig)}
        for name in ("ecs_agent_connected", "ecs_agent_disconnected_seconds", "tasks_running", "tasks_stuck",
                     "container_runtime_ping_time"):
            assert name not in names
        assert {"heartbeat", "mem_used_percent", "ecs_agent_reconnects"} <= names


def test_a_hung_runtime_shows_its_deadline():
    with watching(docker=True) as rig:
        wait_latest(rig, "config_error", 0)
        rig.docker.mode = "hang"
        rig.wait_for(lambda: (latest(rig, "container_runtime_ping_time") or {}).get("Minimum", 0) >= 4000, 60,
                     "the deadline as ping time")
        assert latest(rig, "container_runtime_ping_time")["Maximum"] <= 20000


# -- when something is wrong ----------------------------------------------------------------------------------------

def test_an_ill_host_publishes_itself_too_and_its_brake_only_while_it_holds():
    began = time.time()
    with Rig(config=merged(QUICK, {"metrics": {"sample": "500ms"}})) as rig:
        with rig.fake.world.live() as state:
            state.groups[rig.group].tags["ecs-health-agent"] = "off"
        rig.wait_ready()
        wait_periods(rig, 2)
        rig.drop_link()
        rig.wait_held("off")
        wait_latest(rig, "ecs_agent_connected", 0)
        rig.wait_for(lambda: latest(rig, "remediation_held", Brake="off"), 30, "the brake's series")
        wait_latest(rig, "remediation_held", 1)
        wait_latest(rig, "remediation_stage", 3)
        wait_periods(rig, 2)

        # how long it has been down only grows, within a period and from one to the next
        down = [one.stats for one in series(rig)[key("ecs_agent_disconnected_seconds")] if one.stats["Minimum"] > 0]
        assert len(down) >= 2
        for before, after in zip(down, down[1:]):
            assert before["Minimum"] <= before["Maximum"] <= after["Minimum"]
        assert down[-1]["Maximum"] < time.time() - began

        # the same of this host alone, with the same values at the same times
        alone = series(rig, InstanceId=rig.instance)
        assert {name for name, _ in alone} == {name for name, _ in series(rig, **GROUP)}
        assert own_key(rig, "remediation_held", Brake="off") in alone
        assert own_key(rig, "disk_used_percent", path="/") in alone
        for name in "heartbeat", "ecs_agent_connected", "remediation_stage":
            mine = {one.timestamp: one.stats for one in alone[own_key(rig, name)]}
            ours = {one.timestamp: one.stats for one in series(rig)[key(name)]}
            assert mine and all(ours[at] == stats for at, stats in mine.items())
        assert all(brake[1][1][0] != "Brake" or dict(brake[1])["Brake"] == "off" for brake in series(rig))

        # the brake opens: its series ends, the host goes, and the group hears of it
        with rig.fake.world.live() as state:
            state.groups[rig.group].tags.clear()
        rig.check_removed()
        held = len(series(rig)[key("remediation_held", Brake="off")])
        total = len(beats(rig))
        there = len(beats(rig, {"InstanceId": rig.instance}))
        rig.wait_for(lambda: len(beats(rig, {"InstanceId": rig.instance})) >= there + 3, 60, "three periods afterwards")
        assert len(series(rig)[key("remediation_held", Brake="off")]) <= held + 1
        assert len(beats(rig)) <= total + 1, "a host that is out of its group still speaks for it"
        for mine in key("remediation_performed"), own_key(rig, "remediation_performed"):
            assert sum(one.stats["Sum"] for one in series(rig)[mine]) == 1, mine
        assert series(rig)[own_key(rig, "remediation_stage")][-1].stats["Maximum"] == 11
        check_wellformed(rig, began)


def test_a_host_that_is_well_again_stops_publishing_itself():
    with watching() as rig:
        wait_periods(rig, 1)
        with rig.fake.world.live() as state:
            state.groups[rig.group].tags["ecs-health-agent"] = "off"
        rig.drop_link()
        rig.wait_for(lambda: series(rig, InstanceId=rig.instance), 30, "series of this host")
        rig.restore_link()
        rig.wait_cause("none")
        wait_periods(rig, 2)
        there = len(series(rig, InstanceId=rig.instance)[own_key(rig, "heartbeat")])
        wait_periods(rig, 2)
        assert len(series(rig, InstanceId=rig.instance)[own_key(rig, "heartbeat")]) == there
        wait_latest(rig, "ecs_agent_connected", 1)
        wait_latest(rig, "ecs_agent_disconnected_seconds", 0)
        assert sum(one.stats["Sum"] for one in series(rig)[key("ecs_agent_reconnects")]) >= 1


@pytest.mark.parametrize("when", ["never", "always"])
def test_per_instance_series_can_be_had_never_or_always(when):
    with watching({"metrics": {"per_instance": when}}) as rig:
        wait_periods(rig, 2)
        assert bool(series(rig, InstanceId=rig.instance)) == (when == "always")
        rig.drop_link()
        rig.wait_stage("removed")
        if when == "never":
            rig.holds_for(lambda: not series(rig, InstanceId=rig.instance), 2 * PERIOD, "no series of this host")
        rig.wait_for(lambda: sum(one.stats["Sum"] for one in series(rig)[key("remediation_performed")]) == 1, 30,
                     "the removal in the group's series")


def test_series_beyond_the_limit_are_refused_and_that_is_said():
    """20 rows and 2 for the first mount; the second one has no room."""
    with Rig(config={"metrics": {"max_series": 22}}, daemon=False) as rig:
        write(rig, "1/mountinfo", MOUNT.format(1, "/") + MOUNT.format(2, "/data") + MOUNT.format(3, "/more"))
        for name in "data", "more":
            (rig.root / name).mkdir()
        rig.start_daemon()
        wait_periods(rig, 4)
        fs = os.statvfs(rig.root)
        paths = {dict(dims)["path"] for _, dims in series(rig) if "path" in dict(dims)}
        assert len(paths) == (1 if fs.f_files else 2)
        assert len(series(rig, **GROUP)) <= 22
        rig.wait_for(lambda: "max_series" in rig.log(), 10, "a word on metrics.max_series in the log")


def test_another_namespace_applies_at_run_time():
    with watching() as rig:
        wait_periods(rig, 1)
        rig.write_config(merged(rig.config, {"metrics": {"namespace": "Mine/Own"}}))
        rig.wait_for(lambda: rig.fake.metrics_of("heartbeat", namespace="Mine/Own"), 30, "the other namespace")
        old = len(rig.fake.metrics_of("heartbeat", namespace=NAMESPACE))
        rig.wait_for(lambda: len(rig.fake.metrics_of("heartbeat", namespace="Mine/Own")) >= 3, 30, "three periods")
        assert len(rig.fake.metrics_of("heartbeat", namespace=NAMESPACE)) == old


# -- outages --------------------------------------------------------------------------------------------------------

OUTAGE = {"metrics": {"period": "3s", "sample": "500ms"}}


def check_gaps(times, but=()):
    """One period after the other, none left out. @but: indexes of periods after which a gap may be."""
    assert times == sorted(times), "not in the order of time"
    for number, (before, after) in enumerate(zip(times, times[1:])):
        # a period is 3 s, a little more on a busy machine; were one lost, the gap would be 6 s
        assert after - before < 6 or number in but, f"a gap of {after - before} s after period {number}: {times}"


@pytest.mark.parametrize("kind, options", [
    ("throttled", {}), ("status", {"status": 500}), ("status", {"status": 503}), ("hang", {}), ("cut_before_effect", {}),
    ("html", {"status": 502}), ("expired", {}), ("denied", {})],
    ids=lambda value: value if isinstance(value, str) else str(value.get("status", "")))
def test_an_outage_of_cloudwatch_loses_no_sample_and_sends_each_once(kind, options):
    began = time.time()
    with Rig(config=OUTAGE) as rig:
        wait_periods(rig, 2)
        before = len(beats(rig))
        rig.fake.fault("PutMetricData", kind, **options)
        # the daemon goes on gathering: its own word on how much waits
        rig.wait_status(lambda s: s["metrics"]["waiting"] >= 3 * len(UNITS), 60, "three periods' data in wait")
        assert len(beats(rig)) == before
        rig.fake.clear()
        rig.wait_for(lambda: len(beats(rig)) >= before + 3, 90, "what was kept")
        rig.wait_status(lambda s: s["metrics"]["waiting"] == 0, 60, "nothing in wait")
        wait_periods(rig, 1)
        check_gaps(beats(rig))
        check_wellformed(rig, began)
        wait_latest(rig, "samples_dropped", 0)
        metrics = rig.peek()["metrics"]
        assert metrics["dropped"] == 0
        assert metrics["sent"] <= len(rig.fake.metrics) <= rig.peek()["metrics"]["sent"]
        if kind != "hang":  # which may have ended within the tries of one call
            assert "CloudWatch does not take our metrics" in rig.log() and "takes our metrics again" in rig.log()


def test_a_cloudwatch_that_refuses_connections_loses_no_sample():
    began = time.time()
    with Rig(daemon=False) as rig:
        far = FakeAws()
        far.all_keys, far.metrics, far.calls = rig.fake.all_keys, rig.fake.metrics, rig.fake.calls
        far.start()
        rig.stack.callback(lambda: far.stop())
        rig.extra["AWS_ENDPOINT_URL_CLOUDWATCH"] = far.url
        rig.write_config(merged(rig.config, OUTAGE))
        rig.start_daemon()
        wait_periods(rig, 2)
        far.stop()
        rig.wait_status(lambda s: s["metrics"]["waiting"] >= 3 * len(UNITS), 60, "three periods' data in wait")
        again = FakeAws(port=far.port)
        again.all_keys, again.metrics, again.calls = far.all_keys, far.metrics, far.calls
        far = again.start()
        rig.wait_status(lambda s: s["metrics"]["waiting"] == 0, 90, "nothing in wait")
        wait_periods(rig, 1)
        check_gaps(beats(rig))
        check_wellformed(rig, began)


def test_a_restart_during_an_outage_loses_no_period_that_had_ended():
    began = time.time()
    with Rig(config=OUTAGE) as rig:
        wait_periods(rig, 2)
        rig.fake.fault("PutMetricData", "throttled")
        rig.wait_status(lambda s: s["metrics"]["waiting"] >= 3 * 20, 60, "three periods' data in wait")
        before = len(beats(rig))
        rig.restart_daemon()
        assert (rig.root / "var/lib/ecs-health-agent/spool").stat().st_size > 0
        rig.wait_status(lambda s: s["metrics"]["waiting"] >= 5 * 20, 60, "two periods' data more")
        rig.restart_daemon()
        rig.wait_status(lambda s: s["metrics"]["waiting"] >= 7 * 20, 60, "two periods' data more")
        rig.fake.clear()
        rig.wait_status(lambda s: s["metrics"]["waiting"] == 0, 90, "nothing in wait")
        wait_periods(rig, 1)
        times = beats(rig)
        assert len(times) >= before + 7
        gaps = [number for number, (early, late) in enumerate(zip(times, times[1:])) if late - early >= 6]
        assert len(gaps) <= 2, f"more gaps than restarts: {times}"
        check_gaps(times, gaps)
        # a gap is a period that had not ended: 3 s of the one, up to 3 s of the next, and the restart itself, which may take
        # its time on a loaded machine
        assert all(times[number + 1] - times[number] < 30 for number in gaps)
        check_wellformed(rig, began)


def test_a_spool_of_another_instance_is_not_sent():
    with Rig(config=OUTAGE) as rig:
        wait_periods(rig, 1)
        rig.fake.fault("PutMetricData", "throttled")
        rig.wait_status(lambda s: s["metrics"]["waiting"] >= 2 * 20, 60, "two periods' data in wait")
        rig.kill_daemon(15)
        spool = rig.root / "var/lib/ecs-health-agent/spool"
        data = spool.read_bytes()
        assert rig.instance.encode() in data
        spool.write_bytes(data.replace(rig.instance.encode(), b"i-0123456789abcdef0"))
        rig.fake.clear()
        began = time.time()
        rig.start_daemon()
        wait_periods(rig, 2)
        rig.wait_status(lambda s: s["metrics"]["waiting"] == 0, 60, "nothing in wait")
        assert min(beats(rig)[-2:]) >= began - 1


@pytest.mark.parametrize("text", [b"", b"\xff\x00" * 4096, b"ecs-health-agent\n" * 50000], ids=["empty", "binary", "long"])
def test_a_damaged_spool_costs_nothing_but_itself(text):
    with Rig(daemon=False) as rig:
        for name in "spool", "spool.old":
            (rig.root / "var/lib/ecs-health-agent" / name).write_bytes(text)
        began = time.time()
        rig.start_daemon()
        wait_periods(rig, 2)
        check_wellformed(rig, began)


def test_a_datum_that_is_refused_poisons_nothing_else():
    """CloudWatch refuses a whole call for one bad datum."""
    def bad(params):
        return any(one["MetricName"] == "oom_kills" for one in params["MetricData"])

    with Rig(config=OUTAGE) as rig:
        wait_periods(rig, 2)
        rig.fake.fault("PutMetricData", "refuse", where=bad)
        there = len(series(rig)[key("oom_kills")])
        wait_periods(rig, 3, 120)
        rig.wait_for(lambda: (latest(rig, "samples_dropped") or {}).get("Maximum", 0) >= 1, 60, "a count of dropped data")
        assert len(series(rig)[key("oom_kills")]) <= there + 1
        rig.fake.clear()
        rig.wait_status(lambda s: s["metrics"]["waiting"] == 0, 60, "nothing in wait")
        times = {name: {one.timestamp for one in data} for (name, _), data in series(rig).items()}
        for name in "mem_used_percent", "remediation_stage", "config_error", "tasks_running":
            assert times["heartbeat"] - times[name] <= {min(times["heartbeat"])}, name
        before = len(series(rig)[key("oom_kills")])
        rig.wait_for(lambda: len(series(rig)[key("oom_kills")]) >= before + 2, 60, "the refused series again")
        check_gaps(beats(rig))


NONSENSE = {
    "meminfo": ["MemTotal: 0 kB\nMemFree: 0 kB\nMemAvailable: 0 kB\n", "MemTotal: 1 kB\nMemFree: 2 kB\nMemAvailable: 3 kB\n",
                f"MemTotal: {2**64} kB\nMemFree: 1 kB\nMemAvailable: 1 kB\n", "MemTotal: -5 kB\n", "", "\x00" * 5000,
                "MemTotal: nan kB\nMemFree: inf kB\nMemAvailable: 1e999 kB\n",
                f"MemTotal: {2**64 - 1} kB\nMemFree: 1 kB\nMemAvailable: {2**64 - 1} kB\nCached: {2**64 - 1} kB\n"],
    "vmstat": ["oom_kill -1\n", f"oom_kill {2**63}\n", "oom_kill nan\n", "", f"oom_kill {2**62}\n", "oom_kill 0\n"],
    "pressure/memory": ["some avg10=nan avg60=nan avg300=nan total=0\n", "some avg60=1e999 total=0\n",
                        "some avg10=0 avg60=250.00 avg300=0 total=0\n", "some avg10=0 avg60=-1.00 total=0\n", "full\n", ""],
    "1/mountinfo": ["", "x" * 100000 + "\n", "1 2 3 4 5\n" * 1000, MOUNT.format(1, "/" + "x" * 300),
                    MOUNT.format(1, "/a\\040b\\012c\\377"), MOUNT.format(1, "/\u00e9".encode().decode("latin-1"))],
}


def test_nonsense_from_the_kernel_never_reaches_the_wire():
    began = time.time()
    with Rig(config={"metrics": {"period": "1s", "sample": "100ms"}}) as rig:
        wait_periods(rig, 1)
        for name, texts in NONSENSE.items():
            for text in texts:
                (rig.root / "proc" / name).write_text(text, encoding="latin-1")
                wait_periods(rig, 1)
        (rig.root / "proc/meminfo").write_text(MEMINFO)
        wait_latest(rig, "mem_used_percent", 50)
        check_wellformed(rig, began)
        assert rig.actions() == []


# -- the path does not depend on it ---------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["denied", "hang", "throttled", "huge", "garbage"])
def test_the_path_does_not_wait_for_cloudwatch(kind):
    with Rig(config=QUICK) as rig:
        rig.fake.fault("PutMetricData", kind)
        rig.wait_ready()
        rig.drop_link()
        rig.check_removed()
        assert not rig.fake.metrics or kind in ("huge", "garbage")
        if kind == "denied":
            rig.wait_for(lambda: "cloudwatch:PutMetricData" in str(
                [one for one in rig.peek()["rights"] if one["granted"] == "no"]), 30, "the right that is missing")


def test_a_metric_call_whose_answer_is_lost_is_the_only_one_that_is_sent_again():
    """It may or may not have arrived: a duplicate leaves minimum, maximum and average as they are, a hole does not."""
    with Rig(config=OUTAGE) as rig:
        wait_periods(rig, 2)
        rig.fake.fault("PutMetricData", "cut_after_effect", count=1)
        wait_periods(rig, 4)
        times = beats(rig)
        twice = {at for at in times if times.count(at) > 1}
        assert len(twice - {times[0]}) == 1  # the first period may be so short that the second begins with it
        check_gaps(sorted(times))
