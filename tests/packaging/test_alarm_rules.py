# SPDX-License-Identifier: Apache-2.0
"""The alarms over a large group made up here, at their birth, and the evaluator itself; no daemon runs."""

import pathlib
import random
import xml.etree.ElementTree

import pytest

pytest.importorskip("yaml", reason="needs PyYAML (python3-yaml), to read the templates")

from alarm_rules import (  # noqa: E402
    ALARM, BEGIN, GROUP, MINUTE, NAMESPACE, NO_DATA, OK, Bells, Rule, Store, calculate, dimensions)
from template import ALARMS, DIRECTORY, Template  # noqa: E402
from watch import RULES, SILENT  # noqa: E402


# -- a large group --------------------------------------------------------------------------------------------------

def put(store, name, at, arrived, n, smallest, largest, total):
    store.add((NAMESPACE, name, dimensions(GROUP)), at, arrived, n, smallest, largest, total)


QUIET = {"mem_available_percent": 60, "mem_pressure_some_percent": 1, "mem_pressure_full_percent": 0, "oom_kills": 0,
         "disk_used_percent": 50, "disk_inodes_used_percent": 10, "container_runtime_ping_time": 3, "tasks_stuck": 0,
         "config_error": 0, "samples_dropped": 0, "remediation_performed": 0}


class Fleet:
    """@hosts agents for @hours, each with a phase of its own, a sample every 10 s, and a publication a minute that slips by up
    to a quarter of a second, as timers do. Each ECS agent reconnects every 30 to 35 minutes and four times an hour besides, for
    a moment up to a minute; once all reconnect within a minute. @lost: this many of the hosts lose their link for good, 90
    minutes in. @silent: this many agents stop then. @booting: this many instances are launched then and need four minutes."""

    def __init__(self, hosts=1000, hours=6, lost=0, silent=0, booting=0, seed=7):
        self.random = random.Random(seed)
        self.store, self.end = Store().past(hosts), BEGIN + hours * 60 * MINUTE
        event = BEGIN + 90 * MINUTE
        for number in range(hosts + booting):
            begin = BEGIN if number < hosts else event + 4 * MINUTE
            end = event if number < silent else self.end
            self.host(begin, end, [(event, self.end)] if silent <= number < silent + lost else [])
        for minute in range(BEGIN, self.end, MINUTE):
            size = hosts + (booting if minute >= event else 0)
            self.store.size(minute, size)
            for name, value in QUIET.items():
                put(self.store, name, minute, minute + MINUTE, hosts, value, value, value * hosts)

    def gaps(self, begin, end):
        """When this host's link is down in normal life."""
        together = BEGIN + 200 * MINUTE
        gaps, at = [(together + self.random.uniform(0, 60), together + self.random.uniform(61, 120))], begin
        while at < end:
            at += self.random.uniform(1800, 2100)
            gaps.append((at, at + self.random.uniform(0.05, 3)))
            for _ in range(2):
                other = at - self.random.uniform(0, 1800)
                gaps.append((other, other + min(self.random.expovariate(1 / 8), 60)))
        return sorted(gaps)

    def host(self, begin, end, lost):
        gaps = self.gaps(begin, end) + lost
        busy = {}  # the minutes in which something happens, so that the others cost nothing
        for gap in gaps:
            for minute in range(int(gap[0] // MINUTE) - 1, int(gap[1] // MINUTE) + 2):
                busy.setdefault(minute, []).append(gap)
        at = begin + self.random.uniform(0, MINUTE)
        while at < end:
            after = at + MINUTE + self.random.uniform(0, 0.25)
            self.publish(at, after, busy.get(at // MINUTE, []) + busy.get(at // MINUTE + 1, []))
            at = after

    def publish(self, at, after, gaps):
        down = []
        for sample in range(6):
            moment = at + 10 * sample
            down.append(max((moment - begin for begin, end in gaps if begin <= moment < end), default=0))
        held = [1 if one else 0 for one in down]  # at worst: each host is one that a brake would hold
        up = [0 if one else 1 for one in down]
        for name, values in (("heartbeat", [1]), ("ecs_agent_disconnected_seconds", down), ("ecs_agent_connected", up),
                             ("remediation_held", held)):
            put(self.store, name, at, after, len(values), min(values), max(values), sum(values))

    def bells(self, alarms=None):
        return Bells(alarms or RULES, self.store).advance(self.end)


NAIVE = {**RULES["DisconnectedWarning"], "MetricName": "ecs_agent_connected", "Statistic": "Minimum", "Threshold": 1,
         "ComparisonOperator": "LessThanThreshold", "EvaluationPeriods": 5}


def test_normal_reconnects_of_a_thousand_hosts_never_ring():
    bells = Fleet().bells({**RULES, "Naive": NAIVE})
    assert bells.rang == {"Naive"}, "an alarm on the hosts that are connected rings, ours must not"
    assert {name for name, state in bells.state.items() if state != OK} <= {"Naive"}


def test_one_lost_host_in_a_thousand_rings():
    bells = Fleet(hours=3, lost=1).bells()
    assert bells.rang == {"DisconnectedWarning", "DisconnectedCritical", "HeldWarning", "HeldCritical"}


@pytest.mark.parametrize("hosts, silent, rings", [
    (1000, 20, {"SilentWarning"}), (1000, 600, SILENT), (50, 1, {"SilentWarning"}), (2, 1, {"SilentWarning"}), (2, 2, SILENT),
    (1, 1, SILENT), (1000, 0, set())])
def test_silence_rings_by_its_share(hosts, silent, rings):
    assert Fleet(hosts, hours=3, silent=silent).bells({name: RULES[name] for name in SILENT}).rang == rings


def test_a_group_that_grows_by_a_tenth_does_not_ring_for_hosts_that_boot():
    assert not Fleet(500, hours=3, booting=50).bells().rang


def test_an_empty_group_is_not_silent():
    store = Store()
    for minute in range(BEGIN, BEGIN + 60 * MINUTE, MINUTE):
        store.size(minute, 0)
    assert not Bells(RULES, store).advance(BEGIN + 60 * MINUTE).rang


def test_a_group_that_does_not_count_its_instances_is_a_warning():
    """Its silence could not be seen otherwise; the alarm's text says what to do."""
    store = Store()
    for minute in range(BEGIN, BEGIN + 60 * MINUTE, MINUTE):
        put(store, "heartbeat", minute, minute + MINUTE, 1, 1, 1, 1)
    assert Bells(RULES, store).advance(BEGIN + 60 * MINUTE).ringing() == {"SilentWarning"}


def test_a_name_that_is_wrong_is_a_warning():
    """Nothing at all is known: the other alarms could not ring, this one must."""
    bells = Bells(RULES, Store()).advance(BEGIN + 60 * MINUTE)
    assert bells.state == {**dict.fromkeys(RULES, NO_DATA), "SilentWarning": ALARM, "RemovalsWarning": OK, "RemovalsCritical": OK,
                           "OomKills": OK, "SamplesDropped": OK}


def test_a_new_stack_pages_nobody_and_rests_within_its_first_quarter_of_an_hour():
    """Three instances, in service at once, that need four minutes to boot."""
    store = Store()
    for minute in range(BEGIN, BEGIN + 60 * MINUTE, MINUTE):
        store.size(minute, 3)
        if minute >= BEGIN + 4 * MINUTE:
            put(store, "heartbeat", minute, minute + MINUTE, 3, 1, 1, 3)
    bells = Bells({name: RULES[name] for name in SILENT}, store)
    assert bells.advance(BEGIN + 15 * MINUTE).rang == {"SilentWarning"}
    bells.advance(BEGIN + 60 * MINUTE)
    assert [(name, state) for _, name, state in bells.history] == [
        ("SilentWarning", ALARM), ("SilentCritical", OK), ("SilentWarning", OK)]
    assert bells.history[-1][0] <= BEGIN + 15 * MINUTE and not bells.ringing()


# -- the picture ----------------------------------------------------------------------------------------------------

def test_the_picture_shows_the_dashboard_as_it_is():
    """Otherwise: tests/packaging/draw_dashboard.py"""
    path = pathlib.Path(DIRECTORY, "dashboard.svg")
    assert path.stat().st_size < 150_000
    shown = {"".join(one.itertext()) for one in xml.etree.ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")}
    widgets = Template(ALARMS, **GROUP).dashboard()["widgets"]
    assert {one["properties"]["title"] for one in widgets if "title" in one["properties"]} <= shown
    assert set(RULES[name]["AlarmName"].removeprefix("demo-asg-") for name in RULES) <= shown


# -- the evaluator itself -------------------------------------------------------------------------------------------

# The manual's examples, three of three; X is bad, 0 is good, - is missing, the newest to the right.
JUDGED = [
    ("0-X-X", OK, OK, OK, OK),
    ("0----", OK, OK, OK, OK),
    ("-----", NO_DATA, "before", ALARM, OK),
    ("0XX-X", ALARM, ALARM, ALARM, ALARM),
    ("--X--", ALARM, "before", ALARM, OK),
    ("00XXX", ALARM, ALARM, ALARM, ALARM),
    ("XXXX0", OK, OK, OK, OK),
    ("----X", "before", "before", ALARM, OK),
]


@pytest.mark.parametrize("column, missing", enumerate(["missing", "ignore", "breaching", "notBreaching"], 1))
@pytest.mark.parametrize("row", JUDGED, ids=lambda row: row[0])
def test_missing_data_are_treated_as_the_manual_says(row, column, missing):
    rule = Rule({**RULES["ConfigError"], "EvaluationPeriods": 3, "TreatMissingData": missing})
    values = [{"0": 0, "X": 1, "-": None}[one] for one in reversed(row[0])]
    for previous in OK, ALARM:
        assert rule.judge(values, previous) == (previous if row[column] == "before" else row[column])


@pytest.mark.parametrize("text, value", [
    ("a - b * 60 / 300", 9), ("IF(a >= 10, b, 0)", 5), ("IF(a > 10, b, 0)", 0), ("FILL(none, 3) + 1", 4), ("none + 1", None),
    ("IF(none > 1, 1, 2)", None), ("a / 0", None), ("a * (b + 1)", 60)])
def test_metric_math(text, value):
    assert calculate(text, {"a": 10, "b": 5, "none": None}.get) == value


@pytest.mark.parametrize("text", ["SEARCH('x', 'Sum')", "a ** b", "IF(a)", "'text'", "a < b < 3"])
def test_other_metric_math_is_refused(text):
    with pytest.raises(ValueError):
        calculate(text, {"a": 10, "b": 5}.get)


def test_a_datum_counts_from_the_evaluation_after_its_arrival():
    store = Store()
    put(store, "config_error", BEGIN, BEGIN + 90, 1, 1, 1, 1)
    key = NAMESPACE, "config_error", dimensions(GROUP)
    assert [store.value(key, "Maximum", BEGIN, BEGIN + MINUTE, BEGIN + now) for now in (60, 119, 120)] == [None, None, 1]


def test_the_template_waits_for_all_of_the_periods_that_it_looks_at():
    """What the comments in it, and the fleet above, rest on."""
    for name, one in RULES.items():
        rule = Rule(one)
        assert rule.m == rule.n, name
        assert rule.period * rule.n <= 86400, name
