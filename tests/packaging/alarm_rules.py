# SPDX-License-Identifier: Apache-2.0
"""What CloudWatch would make of recorded PutMetricData: merged statistics, metric math, and the state of an alarm.

    store = Store()
    store.record(rig.fake.metrics, began)        # a run in which TEST_MINUTE seconds stand for a minute
    bells = Bells(Template(...).alarms(), store)
    bells.advance(store.time(time.time()))       # evaluates every alarm at the end of every minute up to then
    bells.state["DisconnectedWarning"], bells.rang

After the manual of CloudWatch ("Alarm evaluation", "Configuring how CloudWatch alarms treat missing data"): windows slide
by the minute; a datum counts from the first evaluation after it has arrived; a range a little longer than the evaluation
periods is read, and only when it holds fewer points than there are periods, the missing ones are filled in. How much longer
is not published: the manual's examples read two more.

Of metric math there is what our templates use: + - * /, one comparison, IF, FILL, names and numbers.
"""

import ast
import math
import operator

MINUTE = 60
TEST_MINUTE = 1.0  # seconds of a test run that stand for a minute; the one place where short test periods are stretched
BEGIN = 1_800_000_000 // 3600 * 3600  # where a stretched run begins
NAMESPACE = "ECS/InstanceHealth"
GROUP = {"ClusterName": "demo", "AutoScalingGroupName": "demo-asg"}  # as Rig has them
EXTRA = 2          # periods that are read beyond the evaluation periods

OK, ALARM, NO_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
BREACHES = {"GreaterThanOrEqualToThreshold": operator.ge, "GreaterThanThreshold": operator.gt,
            "LessThanOrEqualToThreshold": operator.le, "LessThanThreshold": operator.lt}


class Sets:
    """Statistic sets, merged as CloudWatch merges those of many senders."""

    __slots__ = ("n", "min", "max", "sum")

    def __init__(self):
        self.n, self.min, self.max, self.sum = 0, math.inf, -math.inf, 0.0

    def add(self, n, smallest, largest, total):
        self.n += n
        self.min, self.max = min(self.min, smallest), max(self.max, largest)
        self.sum += total

    def statistic(self, name):
        """None without data. Percentiles are not to be had of statistic sets."""
        values = {"SampleCount": self.n, "Sum": self.sum, "Minimum": self.min, "Maximum": self.max,
                  "Average": self.sum / self.n if self.n else None}
        return values[name] if self.n else None


def dimensions(given):
    """Dimensions as a key: from a dict, or from CloudFormation's list of Name and Value."""
    pairs = given.items() if isinstance(given, dict) else ((one["Name"], one["Value"]) for one in given)
    return tuple(sorted(pairs))


class Store:
    """Data by series, minute and arrival."""

    def __init__(self, minute=TEST_MINUTE, began=0.0):
        self.series = {}  # (namespace, name, dimensions) -> {minute: {first evaluation that sees it: Sets}}
        self.stretch, self.began = MINUTE / minute, math.floor(began)
        self.recorded = {}  # list -> how much of it has been taken

    def time(self, at):
        """Of a moment of the test run."""
        return BEGIN + (at - self.began) * self.stretch

    def add(self, key, at, arrived, n, smallest, largest, total):
        minute = int(at // MINUTE) * MINUTE
        seen = math.ceil(arrived / MINUTE) * MINUTE
        self.series.setdefault(key, {}).setdefault(minute, {}).setdefault(seen, Sets()).add(n, smallest, largest, total)

    def put(self, namespace, name, dims, at, value, arrived=None):
        """One value, as AWS's own services publish theirs."""
        self.add((namespace, name, dimensions(dims)), at, at if arrived is None else arrived, 1, value, value, value)

    def past(self, hosts, minutes=30):
        """A group that has been there for a while before BEGIN, with so many agents."""
        for minute in range(BEGIN - minutes * MINUTE, BEGIN, MINUTE):
            self.size(minute, hosts)
            for _ in range(hosts):
                self.put(NAMESPACE, "heartbeat", GROUP, minute, 1)
        return self

    def size(self, minute, hosts):
        """What Auto Scaling says of the group for a minute."""
        self.put("AWS/AutoScaling", "GroupInServiceInstances", {"AutoScalingGroupName": GROUP["AutoScalingGroupName"]}, minute,
                 hosts, arrived=minute + MINUTE)

    def record(self, metrics, copies=1, change=None):
        """Take what is new in a growing list of fake_cloudwatch.Metric. @copies: as of so many hosts at once. @change: maps
        (name, stats) to other stats."""
        fresh = list(metrics)[self.recorded.get(id(metrics), 0):]
        self.recorded[id(metrics)] = self.recorded.get(id(metrics), 0) + len(fresh)
        for one in fresh:
            stats = change(one.name, dict(one.stats)) if change else one.stats
            scale = self.stretch if one.unit == "Seconds" else 1
            for _ in range(copies):
                self.add((one.namespace, one.name, dimensions(one.dims)), self.time(one.timestamp), self.time(one.received),
                         stats["SampleCount"], stats["Minimum"] * scale, stats["Maximum"] * scale, stats["Sum"] * scale)

    def value(self, key, statistic, begin, end, now):
        """One statistic of [begin, end), of what had arrived @now; None without data."""
        merged, minutes = Sets(), self.series.get(key, {})
        for minute in range(int(math.ceil(begin / MINUTE) * MINUTE), int(end), MINUTE):
            for seen, one in minutes.get(minute, {}).items():
                if seen <= now:
                    merged.add(one.n, one.min, one.max, one.sum)
        return merged.statistic(statistic)

    def keys(self, namespace, name, names, values):
        """Series with exactly the dimensions @names, and with these @values of some: what SEARCH finds."""
        return sorted(key for key in self.series
                      if key[:2] == (namespace, name) and {one for one, _ in key[2]} == set(names)
                      and all(dict(key[2]).get(one) == value for one, value in values.items()))


# -- metric math ----------------------------------------------------------------------------------------------------

_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_COMPARISONS = {ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq}


def calculate(text, lookup):
    """The value of an expression at one moment; None: missing. @lookup: name -> value or None."""
    return _value(ast.parse(text, mode="eval").body, lookup)


def _value(node, lookup):
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.Name):
        return lookup(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        arguments = [_value(one, lookup) for one in node.args]
        if node.func.id == "FILL" and len(arguments) == 2:
            return arguments[1] if arguments[0] is None else arguments[0]
        if node.func.id == "IF" and len(arguments) == 3:
            return None if arguments[0] is None else arguments[1] if arguments[0] else arguments[2]
    both, do = None, None
    if isinstance(node, ast.BinOp):
        both, do = (node.left, node.right), _ARITHMETIC.get(type(node.op))
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        both, do = (node.left, node.comparators[0]), _COMPARISONS.get(type(node.ops[0]))
    if not do:
        raise ValueError(f"{ast.dump(node)} is not among the metric math that is known here")
    left, right = (_value(one, lookup) for one in both)
    if left is None or right is None or (do is operator.truediv and right == 0):
        return None
    return do(left, right)


# -- alarms ---------------------------------------------------------------------------------------------------------

class Rule:
    """One alarm, from the properties that CloudFormation has."""

    def __init__(self, properties):
        self.n = properties["EvaluationPeriods"]
        self.m = properties.get("DatapointsToAlarm", self.n)
        self.threshold = float(properties["Threshold"])
        self.breaches = BREACHES[properties["ComparisonOperator"]]
        self.missing = properties.get("TreatMissingData", "missing")
        self.expression, self.stats = None, {}
        if "Metrics" in properties:
            for one in properties["Metrics"]:
                if "Expression" in one:
                    assert one.get("ReturnData", True) and not self.expression
                    self.expression = one["Expression"]
                else:
                    assert one["ReturnData"] is False
                    self._read(one["Id"], one["MetricStat"]["Metric"], one["MetricStat"]["Stat"], one["MetricStat"]["Period"])
        else:
            self._read("one", properties, properties["Statistic"], properties["Period"])
            self.expression = "one"
        (self.period,) = {period for _, _, period in self.stats.values()}

    def _read(self, ident, metric, statistic, period):
        self.stats[ident] = ((metric["Namespace"], metric["MetricName"], dimensions(metric["Dimensions"])), statistic, period)

    def values(self, store, now):
        """Of the periods that are read, the newest first."""
        result = []
        for age in range(self.n + EXTRA):
            end = now - age * self.period

            def lookup(name, end=end):
                key, statistic, period = self.stats[name]
                return store.value(key, statistic, end - period, end, now)

            result.append(calculate(self.expression, lookup))
        return result

    def judge(self, values, previous):
        known = [(age, value) for age, value in enumerate(values) if value is not None][:self.n]
        bad = [age for age, value in known if self.breaches(value, self.threshold)]
        lacking = self.n - len(known)
        if len(bad) >= self.m or lacking and self.missing == "breaching" and len(bad) + lacking >= self.m:
            return ALARM
        if not lacking or self.missing in ("breaching", "notBreaching") or len(bad) < len(known):
            return OK
        if self.missing == "ignore":
            return previous
        if not known:
            return NO_DATA
        # All that is known is bad, but there is little of it: an alarm only if that has been so for long enough.
        return ALARM if bad[-1] + 1 >= self.m else previous


class Bells:
    """All alarms of a template, minute by minute."""

    def __init__(self, alarms, store, begin=BEGIN):
        self.rules = {name: Rule(one) for name, one in alarms.items()}
        self.store, self.now = store, begin
        self.state = dict.fromkeys(self.rules, NO_DATA)
        self.rang = set()
        self.history = []  # (time, name, state) of each change

    def advance(self, until):
        while self.now + MINUTE <= until:
            self.now += MINUTE
            for name, rule in self.rules.items():
                state = rule.judge(rule.values(self.store, self.now), self.state[name])
                if state != self.state[name]:
                    self.history.append((self.now, name, state))
                self.state[name] = state
                if state == ALARM:
                    self.rang.add(name)
        return self

    def ringing(self):
        return {name for name, state in self.state.items() if state == ALARM}
