# SPDX-License-Identifier: Apache-2.0
"""The fake CloudWatch: PutMetricData with the limits of the real one; what passes is kept, datum by datum. DescribeAlarms
shows fake.alarms, dicts in the API's own words; ListMetrics what was published.

Source of the limits: the API reference of PutMetricData and MetricDatum.
"""

import re

from fake_wire import AwsError

UNITS = set("""Seconds Microseconds Milliseconds Bytes Kilobytes Megabytes Gigabytes Terabytes Bits Kilobits Megabits
Gigabits Terabits Percent Count Bytes/Second Kilobytes/Second Megabytes/Second Gigabytes/Second Terabytes/Second
Bits/Second Kilobits/Second Megabits/Second Gigabits/Second Terabits/Second Count/Second None""".split())
NAMESPACE = re.compile(r"^[0-9A-Za-z.\-_/#:]{1,255}$")
LARGEST = 2.0 ** 360
DAY = 86400
MAX_BODY, MAX_DATA, MAX_DIMENSIONS, MAX_VALUES = 1 << 20, 1000, 30, 150


class Metric:
    """One datum as it was received. @value: a number; or @stats: dict SampleCount, Sum, Minimum, Maximum."""

    def __init__(self, namespace, datum, received):
        self.namespace = namespace
        self.name = datum["MetricName"]
        self.dims = {one["Name"]: one["Value"] for one in datum.get("Dimensions", [])}
        self.timestamp = datum.get("Timestamp", received)
        self.unit = datum.get("Unit", "None")
        self.value = datum.get("Value")
        self.stats = datum.get("StatisticValues")
        self.values, self.counts = datum.get("Values"), datum.get("Counts")
        self.resolution = datum.get("StorageResolution", 60)
        self.received = received

    def plain(self):
        return dict(vars(self))

    def __repr__(self):
        return f"Metric({self.name} {self.dims} {self.value if self.stats is None else self.stats} {self.unit})"


def _invalid(text):
    return AwsError("InvalidParameterValueException", text)


def _missing(text):
    return AwsError("MissingRequiredParameterException", f"The parameter {text} is required.")


def _number(value, where):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AwsError("SerializationException", f"{where} is not a number.")
    if value != value or abs(value) > LARGEST:
        raise _invalid(f"The value {value} for parameter {where} is invalid.")


def _check_dimensions(dimensions, where):
    if len(dimensions) > MAX_DIMENSIONS:
        raise _invalid(f"The collection {where}.Dimensions must not have a size greater than {MAX_DIMENSIONS}.")
    names = [one.get("Name") for one in dimensions]
    if len(set(names)) != len(names):
        raise _invalid(f"The parameter {where}.Dimensions has a name twice.")
    for number, one in enumerate(dimensions, 1):
        at = f"{where}.Dimensions.member.{number}"
        for key, longest in (("Name", 255), ("Value", 1024)):
            text = one.get(key)
            if not text:
                raise _missing(f"{at}.{key}")
            if len(text) > longest or not text.isascii() or not text.isprintable() or not text.strip():
                raise _invalid(f"The value {text!r} for parameter {at}.{key} is invalid.")
        if one["Name"].startswith(":"):
            raise _invalid(f"The value {one['Name']} for parameter {at}.Name is invalid.")


def _check_value(datum, where):
    stats, value, values = datum.get("StatisticValues"), datum.get("Value"), datum.get("Values")
    if sum(one is not None for one in (stats, value, values)) != 1:
        if stats is None and value is None and values is None:
            raise _missing(f"{where}.Value")
        raise AwsError("InvalidParameterCombinationException",
                       f"The parameters {where}.Value and {where}.StatisticValues are mutually exclusive.")
    if value is not None:
        _number(value, f"{where}.Value")
    elif stats is not None:
        for key in ("SampleCount", "Sum", "Minimum", "Maximum"):
            if key not in stats:
                raise _missing(f"{where}.StatisticValues.{key}")
            _number(stats[key], f"{where}.StatisticValues.{key}")
        if stats["SampleCount"] <= 0 or stats["Minimum"] > stats["Maximum"]:
            raise _invalid(f"The value for parameter {where}.StatisticValues is invalid.")
    else:
        counts = datum.get("Counts", [1] * len(values))
        if not values or len(values) > MAX_VALUES or len(counts) != len(values):
            raise _invalid(f"The parameter {where}.Values must have 1 to {MAX_VALUES} items and as many Counts.")
        for number in values + counts:
            _number(number, f"{where}.Values")


def _check_datum(datum, where, now):
    name = datum.get("MetricName")
    if not name:
        raise _missing(f"{where}.MetricName")
    if len(name) > 255 or not name.isascii() or not name.isprintable():
        raise _invalid(f"The value {name!r} for parameter {where}.MetricName is invalid.")
    _check_dimensions(datum.get("Dimensions", []), where)
    if datum.get("Unit", "None") not in UNITS:
        raise _invalid(f"The parameter {where}.Unit must be a value in the set {sorted(UNITS)}.")
    if datum.get("StorageResolution", 60) not in (1, 60):
        raise _invalid(f"The parameter {where}.StorageResolution must be 1 or 60.")
    if "Timestamp" in datum:
        _number(datum["Timestamp"], f"{where}.Timestamp")
        if not now - 14 * DAY <= datum["Timestamp"] <= now + 7200:
            raise _invalid(f"The parameter {where}.Timestamp must specify a time within the past two weeks and no more "
                           "than two hours in the future.")
    _check_value(datum, where)


def _page(params, name, items, size):
    """(page, NextToken or None); the token is the place where the next page begins."""
    token = params.get("NextToken", "0")
    if not token.isdigit():
        raise _invalid("The token is not valid.")
    start = int(token)
    result = {name: items[start:start + size]}
    if start + size < len(items):
        result["NextToken"] = str(start + size)
    return result


def describe_alarms(fake, params):
    if params.get("AlarmTypes", ["MetricAlarm"]) != ["MetricAlarm"]:
        raise _invalid("Only metric alarms are known here.")
    return _page(params, "MetricAlarms", list(fake.alarms), min(params.get("MaxRecords", 50), fake.alarms_page))


def list_metrics(fake, params):
    """Series that have what was asked for, and maybe more dimensions."""
    wanted = {(one["Name"], one["Value"]) for one in params.get("Dimensions", []) if "Value" in one}
    with fake.lock:
        series = {(one.namespace, one.name, tuple(one.dims.items())) for one in fake.metrics}
    return _page(params, "Metrics", [
        {"Namespace": namespace, "MetricName": name,
         "Dimensions": [{"Name": key, "Value": value} for key, value in dims]}
        for namespace, name, dims in sorted(series)
        if params.get("Namespace") in (None, namespace) and params.get("MetricName") in (None, name)
        and wanted <= set(dims)], 500)


READS = {"DescribeAlarms": describe_alarms, "ListMetrics": list_metrics}


def put_metric_data(now, params, n_body):
    """Check; return the Metrics. One bad datum refuses the whole call, as CloudWatch does."""
    if n_body > MAX_BODY:
        raise AwsError("RequestEntityTooLargeException", "Request size exceeded 1048576 bytes.", 413)
    namespace = params.get("Namespace")
    if not namespace:
        raise _missing("Namespace")
    if not NAMESPACE.match(namespace) or namespace.startswith((":", "AWS/")):
        raise _invalid(f"The value {namespace} for parameter Namespace is invalid.")
    data = params.get("MetricData")
    if not isinstance(data, list) or not data:
        raise _missing("MetricData")
    if len(data) > MAX_DATA:
        raise _invalid(f"The collection MetricData must not have a size greater than {MAX_DATA}.")
    for number, datum in enumerate(data, 1):
        if not isinstance(datum, dict):
            raise AwsError("SerializationException", "A datum is not a structure.")
        _check_datum(datum, f"MetricData.member.{number}", now)
    return [Metric(namespace, datum, now) for datum in data]
