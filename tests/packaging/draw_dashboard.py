#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draws packaging/cloudformation/dashboard.svg: the template's dashboard, with what real daemons published in a short run.

    ECS_HEALTH_AGENT_BINARY=build/ecs-health-agent tests/packaging/draw_dashboard.py [--output FILE]

Three hosts and later a fourth, each a Rig with a daemon of its own, against fake AWS; two seconds stand for a minute. One
host's memory fills up, its ECS agent loses the connection, a tag on the group holds the removal for a while, then it is
drained, detached and replaced. Takes two and a half minutes. Needs PyYAML, and a user namespace for the small disk.
"""

import argparse
import contextlib
import math
import os
import pathlib
import re
import sys
import tempfile
import time
from xml.sax.saxutils import escape

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

import small_disk  # noqa: E402
from alarm_rules import ALARM, BEGIN, GROUP, MINUTE, NO_DATA, OK, Bells, Store, calculate, dimensions  # noqa: E402
from rig import Rig, binary  # noqa: E402
from template import ALARMS, DIRECTORY, Template  # noqa: E402
from watch import pressure, write  # noqa: E402

PACE = 2.0  # seconds that stand for a minute: a period that slips by a little then leaves no hole
CONFIG = {
    "grace": f"{8 * PACE:g}s", "grace_dead": f"{5 * PACE:g}s", "cooldown": "0s", "confirm": {"before": f"{3 * PACE:g}s"},
    "brakes": {"turn": "1s", "settle": "1s", "boot_grace": "0s", "window": "10m"},
    "metrics": {"period": f"{PACE:g}s", "sample": "250ms"},
}

# What happens, in minutes of the picture.
MEMORY_FROM, MEMORY_FULL, KILL, DROP, TAG_AWAY, BOOT, END = 6, 19, 20, 21, 46, 3, 60


# -- the run --------------------------------------------------------------------------------------------------------

def set_memory(rig, available, some=0.0, full=0.0, kills=0):
    """@available, @some, @full: percent."""
    write(rig, "meminfo", f"MemTotal: 8000000 kB\nMemFree: {int(60000 * available)} kB\n"
          f"MemAvailable: {int(80000 * available)} kB\nBuffers: 0 kB\nCached: {int(15000 * available)} kB\n"
          f"SwapTotal: 1000000 kB\nSwapFree: {int(1e6 - 9000 * some)} kB\n")
    write(rig, "pressure/memory", pressure(some, full))
    write(rig, "vmstat", f"oom_kill {kills}\n")


def make_host(stack, directory, available, filling, tasks):
    """A Rig, and the program that is its daemon; @filling: bytes that its small disk gains each minute."""
    fill = f"""i=0; while [ $i -lt {END + 20} ]; do head -c {filling} /dev/zero >f$i; i=$((i + 1)); sleep {PACE:g}; done &
        head -c 300000 /dev/zero >file"""
    path = small_disk.wrapper(directory / f"daemon-{tasks}", PLAIN, fill)
    rig = stack.enter_context(Rig(CONFIG, size=6, docker=True, daemon=False, agent=("--tasks", str(tasks))))
    small_disk.mounts(rig, "/", "/data")
    set_memory(rig, available)
    return rig, path


def start_daemon(host):
    rig, path = host
    os.environ["ECS_HEALTH_AGENT_BINARY"] = str(path)
    rig.start_daemon()
    return rig


PLAIN = binary()


class Play:
    """The hosts, and what happens to them."""

    def __init__(self, stack, directory):
        self.sick = start_daemon(make_host(stack, directory, 55, 6000, 4))
        self.others = [start_daemon(make_host(stack, directory, 62, 1500, 5)),
                       start_daemon(make_host(stack, directory, 70, 2500, 3))]
        self.spare = make_host(stack, directory, 80, 500, 2)  # made now, so that nothing has to wait for it later
        for rig in [self.sick, *self.others]:
            rig.wait_ready()
        self.sick.fake.world.group(self.sick.group).tags["ecs-health-agent"] = "off"
        self.store = Store(PACE, time.time() + 1).past(3)
        self.removed = None  # minute
        self.replacement = None

    def minute(self):
        return (self.store.time(time.time()) - BEGIN) / MINUTE

    def run(self):
        done = -1
        while self.minute() < END + 3:  # what was published last has to arrive
            now = int(self.minute())
            if now > done:
                done = now
                self.step(now)
            time.sleep(0.02)
        for rig in [self.sick, *self.others]:
            self.store.record(rig.fake.metrics)
        return self.store

    def step(self, now):
        grown = min(max(now - MEMORY_FROM, 0) / (MEMORY_FULL - MEMORY_FROM), 1)
        if self.removed is None:
            thrash = max(grown - 0.7, 0) / 0.3
            set_memory(self.sick, 55 - 52 * grown, 38 * thrash + now % 3, 14 * thrash ** 2, 2 if now >= KILL else 0)
            self.sick.docker.mode, self.sick.docker.seconds = ("slow", 0.9 * thrash) if thrash else ("good", 0)
        if now == DROP:
            self.sick.drop_link()
        elif now == TAG_AWAY:
            self.sick.fake.world.group(self.sick.group).tags.clear()
        for number, rig in enumerate(self.others):
            if now % 17 == 4 + 7 * number:  # as the service does it, several times an hour
                rig.control.close()
        if self.removed is None and self.sick.detaches():
            self.removed = now
        if self.removed is not None and self.replacement is None and now >= self.removed + BOOT:
            self.replacement = start_daemon(self.spare)
            self.others.append(self.replacement)
        in_service = 2 if self.removed is not None and now == self.removed else 3
        self.store.size(BEGIN + now * MINUTE, in_service)


# -- the series of a widget -----------------------------------------------------------------------------------------

COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf"]
MOMENTS = range(BEGIN, BEGIN + END * MINUTE, MINUTE)
SEARCH = re.compile(r"""SEARCH\('\{"([^"]+)",([\w,]+)\} MetricName="(\w+)"(.*)', '(\w+)', 60\)""")


def values_of(store, key, statistic):
    return [store.value(key, statistic, at, at + MINUTE, math.inf) for at in MOMENTS]


def series_of(store, rows):
    """[(label, colour, values)] of a widget's metrics."""
    found, named = [], {}
    for row in rows:
        if not isinstance(row[0], dict):
            key = row[0], row[1], dimensions(dict(zip(row[2:-1:2], row[3:-1:2])))
            named[row[-1].get("id", row[1])] = values_of(store, key, row[-1]["stat"])
    for row in rows:
        options = row[-1]
        search = SEARCH.fullmatch(options.get("expression", ""))
        if search:
            namespace, names, metric, terms, statistic = search.groups()
            wanted = dict(re.findall(r'(\w+)="([^"]+)"', terms))
            shown = re.search(r"Dim\.(\w+)", options["label"])[1]
            lines = [(dict(key[2])[shown], None, values_of(store, key, statistic))
                     for key in store.keys(namespace, metric, names.split(","), wanted)]
            found += sorted(lines, key=lambda line: line[2].count(None))  # those of which there is most come first
        elif "expression" in options:
            values = [calculate(options["expression"], lambda name, n=n: named[name][n]) for n in range(len(MOMENTS))]
            found.append((options["label"], options.get("color"), values))
        elif options.get("visible", True):
            found.append((options["label"], options.get("color"), named[options.get("id", row[1])]))
    spare = [one for one in COLOURS if one not in {colour for _, colour, _ in found}] or COLOURS
    free = iter(spare * (1 + len(found)))
    return [(label, colour or next(free), values) for label, colour, values in found]


# -- drawing --------------------------------------------------------------------------------------------------------

COLUMN, ROW, GAP, MARGIN = 50, 36, 6, 10
INK, FAINT, RULE, PAPER, GROUND = "#16191f", "#545b64", "#e3e6ea", "#ffffff", "#f2f3f3"
STATES = {OK: "#2ca02c", ALARM: "#d62728", NO_DATA: "#aab7b8"}
LETTER = 0.56  # width of a letter of this font, as a share of its size; for breaking lines only


def text(x, y, content, size=11, fill=INK, anchor=None, weight=None, raw=False):
    more = (f' text-anchor="{anchor}"' if anchor else "") + (f' font-weight="{weight}"' if weight else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"{more}>{content if raw else escape(content)}</text>'


def styled(words):
    """Markdown's **, * and ` as tspans."""
    line = escape(" ".join(words))
    for pattern, style in ((r"\*\*(.+?)\*\*", 'font-weight="bold"'), (r"`(.+?)`", f'font-family="monospace" fill="{FAINT}"'),
                           (r"\*(.+?)\*", 'font-style="italic"')):
        line = re.sub(pattern, rf"<tspan {style}>\1</tspan>", line)
    return line


def draw_text(box, properties):
    x, y, width, _ = box
    at, out = y + 22, []
    for line in properties["markdown"].split("\n"):
        heading = re.match(r"(#+) (.*)", line)
        if heading:
            out.append(text(x + 8, at, heading[2], 20 - 2 * len(heading[1]), weight="bold"))
            at += 19
            continue
        words, room = [], (width - 16) / (12 * LETTER)
        line = re.sub(r"`.+?`", lambda code: code[0].replace(" ", "\u00a0"), line)
        for word in line.split(" "):
            if words and len(" ".join([*words, word])) > room:
                out.append(text(x + 8, at, styled(words), 12, FAINT, raw=True))
                at, words = at + 16, []
            words.append(word)
        out.append(text(x + 8, at, styled(words), 12, FAINT, raw=True))
        at += 16
    return out


def draw_alarms(box, properties, bells, alarms):
    """One strip per alarm: its state over the time of the picture."""
    x, y, width, height = box
    out = [text(x + 10, y + 18, properties["title"], 13, weight="bold")]
    names = [arn.rpartition(":")[2] for arn in properties["alarms"]]
    columns = 6
    rows = math.ceil(len(names) / columns)
    cell, step = (width - 20) / columns, (height - 30) / rows
    for number, name in enumerate(names):
        left, top = x + 10 + cell * (number // rows), y + 27 + step * (number % rows)
        state, since, scale = NO_DATA, BEGIN, (cell - 16) / (END * MINUTE)
        for at, after in [*((at, after) for at, one, after in bells.history if one == name), (BEGIN + END * MINUTE, None)]:
            if at > since:
                out.append(f'<rect x="{left + (since - BEGIN) * scale:.1f}" y="{top + 12:.1f}" '
                           f'width="{(at - since) * scale:.1f}" height="5" fill="{STATES[state]}"/>')
            state, since = after, at
        out.append(text(left, top + 9, alarms[name]["AlarmName"].removeprefix(GROUP["AutoScalingGroupName"] + "-"), 10, FAINT))
    return out


def nice(limit, whole):
    """A round step, so that no more than five or six of them reach @limit; if @whole, exactly."""
    unit = 10 ** math.floor(math.log10(limit / 4))
    steps = [one * unit for one in (1, 2, 2.5, 3, 5, 10) if limit / (one * unit) <= 5.5]
    return next((one for one in steps if not whole or limit % one < 1e-9), steps[0])


def draw_axes(box, top, step, label):
    left, upper, right, lower = box
    out = []
    for number in range(int(top / step + 1e-9) + 1):
        y = lower - number * step / top * (lower - upper)
        out.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="{RULE}"/>')
        out.append(text(left - 4, y + 3, f"{number * step:,g}", 9, FAINT, "end"))
    for minute in range(0, END + 1, 15 if right - left < 400 else 10):
        x = left + minute / END * (right - left)
        last = minute == END
        out.append(text(x, lower + 12, f"{minute} min" if last else str(minute), 9, FAINT, "end" if last else "middle"))
    out.append(text(left - 26, upper - 7, label, 9, FAINT))
    return out


def draw_line(box, top, colour, values):
    left, upper, right, lower = box
    path, pen = [], "M"
    for number, value in enumerate([*values, None]):
        if value is None:
            if path and path[-1].startswith("M"):
                path.append("h0")  # a point that stands alone
            pen = "M"
            continue
        x, y = left + (number + 0.5) / END * (right - left), lower - min(value, top) / top * (lower - upper)
        path.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return (f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round" '
            'stroke-linecap="round"/>')


def draw_metric(box, properties, store):
    x, y, width, height = box
    series = series_of(store, properties["metrics"])
    notes = properties.get("annotations", {}).get("horizontal", [])
    axis = properties["yAxis"]["left"]
    shown = [value for _, _, values in series for value in values if value is not None]
    largest = max([*shown, *(one["value"] for one in notes), 1])
    step = nice(axis["max"], True) if "max" in axis else nice(largest, False) if largest > 1 else 0.5
    top = axis.get("max") or math.ceil(largest / step) * step
    area = x + 44, y + 44, x + width - 12, y + height - 38
    out = [text(x + 10, y + 18, properties["title"], 13, weight="bold"), *draw_axes(area, top, step, axis.get("label", ""))]
    free = area[1] - 99
    for one in sorted(notes, key=lambda note: -note["value"]):
        at = area[3] - one["value"] / top * (area[3] - area[1])
        out.append(f'<path d="M{area[0]:.1f} {at:.1f}H{area[2]:.1f}" stroke="{one["color"]}" stroke-dasharray="4 3"/>')
        beside = 60 if at - free < 10 else 0  # the label above would lie on this one
        out.append(text(area[2] - beside, at - 3, one["label"], 9, one["color"], "end"))
        free = at
    out += [draw_line(area, top, colour, values) for _, colour, values in series if any(one is not None for one in values)]
    left = x + 12
    for label, colour, _ in series:
        if left + 13 + len(label) * 10 * LETTER > x + width - 8:
            out.append(text(left, y + height - 8, "…", 10, FAINT))
            break
        out.append(f'<rect x="{left:.1f}" y="{y + height - 16}" width="9" height="9" rx="2" fill="{colour}"/>')
        out.append(text(left + 13, y + height - 8, label, 10, FAINT))
        left += 26 + len(label) * 10 * LETTER
    return out


def draw(store, template):
    body, alarms = template.dashboard(), template.alarms()
    bells = Bells(alarms, store).advance(BEGIN + END * MINUTE)
    height = max(one["y"] + one["height"] for one in body["widgets"]) * ROW + 2 * MARGIN + 20
    width = 24 * COLUMN + 2 * MARGIN
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="Amazon Ember, Helvetica Neue, Helvetica, Arial, sans-serif" role="img">',
           "<!-- SPDX-License-Identifier: Apache-2.0; written by tests/packaging/draw_dashboard.py -->",
           "<title>The dashboard of a group in which one host is lost, held, and replaced</title>",
           f'<rect width="{width}" height="{height}" fill="{GROUND}"/>']
    for one in body["widgets"]:
        x, y = MARGIN + one["x"] * COLUMN + GAP / 2, MARGIN + one["y"] * ROW + GAP / 2
        box = x, y, one["width"] * COLUMN - GAP, one["height"] * ROW - GAP
        properties = one["properties"]
        if one["type"] != "text":
            out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{box[2]:.1f}" height="{box[3]:.1f}" rx="4" fill="{PAPER}" '
                       f'stroke="{RULE}"/>')
        out += {"text": lambda: draw_text(box, properties), "metric": lambda: draw_metric(box, properties, store),
                "alarm": lambda: draw_alarms(box, properties, bells, alarms)}[one["type"]]()
    out.append(text(MARGIN + 6, height - 12, "Drawn from what four daemons published in a test run against a fake AWS, in which "
                    "two seconds stood for a minute. Alarms, from the left: state over the hour; green OK, red ALARM, "
                    "grey not known.", 11, FAINT))
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=DIRECTORY / "dashboard.svg")
    output = parser.parse_args().output.resolve()
    if not small_disk.can_mount():
        sys.exit("draw_dashboard.py: no user namespace in which a small disk could be mounted")
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        play = Play(stack, directory)
        store = play.run()
        if play.sick.actions() != ["drain", "detach"] or play.replacement is None:
            sys.exit(f"draw_dashboard.py: not the run that was to be drawn: {play.sick.actions()}")
        output.write_text(draw(store, Template(ALARMS, **GROUP)), encoding="utf-8")
    print(f"{output}: {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
