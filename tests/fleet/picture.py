#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draws how an outage goes: the lines that "fleet --minutes FILE SCENARIO" has written become an SVG.

Three panels over the same time: how many instances are connected and cut off; how many are sick by themselves and how
many have been removed; and how often ECS is asked, beside the quota. Equal lines give an equal picture.
"""

import argparse
import csv
import math
import sys

WIDTH, LEFT, RIGHT = 760, 64, 16
PLOT = WIDTH - LEFT - RIGHT
TOP, PANEL, GAP, BOTTOM = 58, 128, 46, 40
QUOTA = 20  # reads a second that ECS admits in the long run
LEAST_RATE, MOST_RATE = 0.1, 1000

LIGHT = {"ink": "#1f2328", "dim": "#59636e", "grid": "#d1d9e0", "paper": "#ffffff", "blue": "#0969da",
         "red": "#cf222e", "amber": "#9a6700", "green": "#1a7f37"}
DARK = {"ink": "#f0f6fc", "dim": "#9198a1", "grid": "#3d444d", "paper": "#0d1117", "blue": "#4493f8",
        "red": "#f85149", "amber": "#d29922", "green": "#3fb950"}
SHAPES = """text { font: 12px system-ui, sans-serif; }
.title { font-size: 15px; font-weight: 600; }
.panel { font-weight: 600; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.grid { fill: none; }
"""


def colours(of):
    """Plain rules, for viewers that know no variables."""
    lines = [f"text {{ fill: {of['dim']}; }} .title, .panel {{ fill: {of['ink']}; }} .paper {{ fill: {of['paper']}; }}"]
    lines += [f".{name} {{ stroke: {of[name]}; }}" for name in ("grid", "blue", "red", "amber", "green")]
    return "\n".join(lines)


STYLE = f"{SHAPES}{colours(LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{colours(DARK)}\n}}\n"


def read_lines(path, scenario):
    """The lines of one scenario, as dictionaries of numbers."""
    with open(path, encoding="ascii", newline="") as file:
        rows = [row for row in csv.DictReader(file) if scenario in (None, row["scenario"])]
    if not rows:
        raise ValueError(f"{path}: no line of scenario {scenario}")
    names = {row["scenario"] for row in rows}
    if len(names) > 1:
        raise ValueError(f"{path}: lines of several scenarios ({', '.join(sorted(names))}): choose one with --scenario")
    return [{name: float(value) for name, value in row.items() if name != "scenario"} for row in rows]


def nice_top(most):
    """The least of 1, 2, 4, 6, 10, 20, ... that is not less than most: but for 1 it can be halved."""
    scale = 1
    while True:
        for step in (1, 2, 4, 6):
            if step * scale >= most:
                return step * scale
        scale *= 10


class Picture:
    def __init__(self, first, last):
        self.first, self.last = first, max(last, first + 1)
        self.parts = []

    def x(self, minute):
        return LEFT + (minute - self.first) / (self.last - self.first) * PLOT

    def text(self, x, y, text, anchor="start", kind=None):
        kind = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{kind}>{text}</text>')

    def rule(self, y, label):
        self.parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{PLOT}"/>')
        self.text(LEFT - 8, y + 4, label, "end")

    def curve(self, points, colour):
        """Only where it bends: a run of equal values is one stroke."""
        kept = [
            point
            for i, point in enumerate(points)
            if i in (0, len(points) - 1) or not points[i - 1][1] == point[1] == points[i + 1][1]
        ]
        d = "".join(f"{'L' if i else 'M'}{self.x(minute):.1f} {y:.1f}" for i, (minute, y) in enumerate(kept))
        self.parts.append(f'<path class="line {colour}" d="{d}"/>')

    def legend(self, y, entries):
        x = WIDTH - RIGHT
        for text, colour in reversed(entries):
            self.text(x, y, text, "end")
            x -= 7 * len(text) + 6
            self.parts.append(f'<path class="line {colour}" d="M{x - 16:g} {y - 4:g}h14"/>')
            x -= 30

    def counts(self, top, title, lines, series):
        """A panel of numbers of instances. series: (column, label, colour)"""
        most = nice_top(max(max(line[column] for line in lines) for column, _, _ in series))
        self.text(LEFT, top - 10, title, kind="panel")
        self.legend(top - 10, [(label, colour) for _, label, colour in series])
        for share in (0, 0.5, 1):
            self.rule(top + PANEL * (1 - share), f"{most * share:,.0f}" if most > 1 or share != 0.5 else "")
        for column, _, colour in series:
            self.curve([(line["minute"], top + PANEL * (1 - line[column] / most)) for line in lines], colour)

    def rates(self, top, title, lines):
        decades = math.log10(MOST_RATE / LEAST_RATE)

        def y(rate):
            rate = min(max(rate, LEAST_RATE), MOST_RATE)
            return top + PANEL * (1 - math.log10(rate / LEAST_RATE) / decades)

        self.text(LEFT, top - 10, title, kind="panel")
        self.legend(top - 10, [("asked", "blue"), (f"quota, {QUOTA} a second", "red")])
        for power in range(int(decades) + 1):
            rate = LEAST_RATE * 10**power
            self.rule(y(rate), f"{rate:g}")
        self.parts.append(
            f'<path class="line red" stroke-dasharray="5 4" d="M{LEFT} {y(QUOTA):.1f}h{PLOT}"/>'
        )
        self.curve([(line["minute"], y(line["ecs_reads_per_s"])) for line in lines], "blue")

    def hours(self, y, origin):
        """Counted from the beginning of the outage."""
        hour = math.ceil((self.first - origin) / 60)
        while origin + hour * 60 <= self.last:
            x = self.x(origin + hour * 60)
            self.parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{y}"/>')
            self.text(x, y + 18, f"{hour} h", "middle")
            hour += 1

    def finish(self, height, title):
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">\n'
            f"<!-- SPDX-License-Identifier: Apache-2.0; drawn by tests/fleet/picture.py -->\n<style>{STYLE}</style>\n"
            f'<rect width="{WIDTH}" height="{height}" class="paper"/>\n{body}\n</svg>\n'
        )


def draw(lines, title):
    struck = [line["minute"] for line in lines if line["cut_off"] > 0]
    origin = struck[0] if struck else lines[0]["minute"]
    picture = Picture(lines[0]["minute"], lines[-1]["minute"])
    tops = [TOP + 14 + i * (PANEL + GAP) for i in range(3)]
    height = tops[2] + PANEL + BOTTOM
    picture.hours(tops[2] + PANEL, origin)
    picture.text(LEFT, 24, title, kind="title")
    picture.counts(
        tops[0], "Instances", lines, [("connected", "connected", "green"), ("cut_off", "cut off", "amber")]
    )
    picture.counts(
        tops[1],
        "Sick by themselves, and removed so far",
        lines,
        [("sick", "sick", "red"), ("removed_so_far", "removed", "blue")],
    )
    picture.rates(tops[2], "Reads of ECS a second, refused ones included", lines)
    return picture.finish(height, title)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("minutes", help='what "fleet --minutes FILE SCENARIO" has written')
    parser.add_argument("svg", help="where to draw to; - for standard output")
    parser.add_argument("--scenario", help="which one, if there are several")
    parser.add_argument("--title", default="", help="above the panels")
    options = parser.parse_args()
    try:
        lines = read_lines(options.minutes, options.scenario)
        text = draw(lines, options.title)
        if options.svg == "-":
            sys.stdout.write(text)
        else:
            with open(options.svg, "w", encoding="ascii") as file:
                file.write(text)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"picture.py: {error}")


if __name__ == "__main__":
    main()
