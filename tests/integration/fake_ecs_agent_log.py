# SPDX-License-Identifier: Apache-2.0
"""ecs-agent.log as the real agent writes it: logfmt or JSON, by release, with rotation of every kind.

Structured lines carry their fields in random order; a line of the old style ends with module=file.go. Texts are quoted
as Go's %q does; durations and times are not quoted, and times hold blanks.
"""

import json
import os
import random
import shutil
import time

LEVELS = ("trace", "debug", "info", "warn", "error", "critical")
DOCKERD_LINE = ("DockerGoClient: Docker events stream closed with error: Cannot connect to the Docker daemon at "
                "unix:///var/run/docker.sock. Is the docker daemon running?")


class Duration(float):
    """Seconds that are written unquoted in logfmt and as nanoseconds in JSON."""


class Moment(float):
    """A Go time.Time: with blanks in logfmt, RFC 3339 in JSON."""


def go_duration(seconds):
    """As time.Duration.String(): 274.615086ms, 1m13.4s, 1h0m0s."""
    nanos = int(round(seconds * 1e9))
    if nanos == 0:
        return "0s"
    if nanos < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1000), ("ns", 1)):
            if nanos >= size:
                return f"{nanos / size:.9f}".rstrip("0").rstrip(".") + unit
    minutes, rest = divmod(nanos, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest // 1_000_000_000}.{rest % 1_000_000_000:09d}".rstrip("0").rstrip(".") + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def go_quote(text):
    """As Go's %q, for the texts that occur."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char in "\n\t\r":
            out.append({"\n": "\\n", "\t": "\\t", "\r": "\\r"}[char])
        elif ord(char) < 0x20 or ord(char) == 0x7f:
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def _stamp(seconds, blank=False):
    nanos = int(seconds * 1e9) % 1_000_000_000
    day, clock = time.strftime("%Y-%m-%d", time.gmtime(seconds)), time.strftime("%H:%M:%S", time.gmtime(seconds))
    return f"{day} {clock}.{nanos:09d} +0000 UTC m=+7.654321098" if blank else f"{day}T{clock}.{nanos:09d}Z"


class AgentLog:
    """@directory: where ecs-agent.log is. @json_lines: ECS_LOG_OUTPUT_FORMAT=json. @level: lines below it are hidden."""

    def __init__(self, directory, json_lines=False, level="info"):
        self.directory, self.json_lines, self.level = directory, json_lines, level
        self.path = os.path.join(directory, "ecs-agent.log")
        self.written = True   # False: "log off"
        self.file = None
        os.makedirs(directory, exist_ok=True)
        self._open()

    def _open(self):
        if self.file:
            self.file.close()
        self.file = open(self.path, "ab", buffering=0)

    def line(self, level, msg, fields=None, module=None):
        """The text of one line, as of now."""
        fields = dict(fields or {})
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.json_lines:
            return self._json_line(level, now, msg, fields, module)
        names = list(fields)
        random.shuffle(names)
        parts = [f"level={level} time={now} msg={go_quote(msg)}"]
        for name in names:
            value = fields[name]
            if isinstance(value, Duration):
                text = go_duration(value)
            elif isinstance(value, Moment):
                text = _stamp(value, blank=True)
            elif isinstance(value, str):
                text = go_quote(value)
            else:
                text = str(value)
            parts.append(f"{name}={text}")
        if module:
            parts.append(f"module={module}")
        return " ".join(parts)

    @staticmethod
    def _json_line(level, now, msg, fields, module):
        parts = [f'"level":"{level}"', f'"time":"{now}"', f'"msg":{go_quote(msg)}']
        if module:
            parts.append(f'"module":"{module}"')
        for name in sorted(fields):
            value = fields[name]
            if isinstance(value, Duration):
                text = str(int(value * 1e9))
            elif isinstance(value, Moment):
                text = f'"{_stamp(value)}"'
            else:
                text = json.dumps(value)
            parts.append(f'"{name}":{text}')
        return "{" + ",".join(parts) + "}"

    def write(self, level, msg, fields=None, module=None):
        if LEVELS.index(level) >= LEVELS.index(self.level):
            self.raw(self.line(level, msg, fields, module).encode() + b"\n")

    def raw(self, data):
        """Bytes as they are: a flood, half a line, nonsense."""
        if self.written:
            try:
                self.file.write(data)
            except OSError:
                pass  # a full disk: the real agent's log just stops

    def rotate(self, how):
        """"rename": by size, as releases since 1.100.0 do; "hourly": as before; "copytruncate": as logrotate may."""
        if how == "hourly":
            os.rename(self.path, self.path + time.strftime(".%Y-%m-%d-%H", time.gmtime()))
            self._open()
            return
        number = 1
        while os.path.exists(f"{self.path}.{number}"):
            number += 1
        if how == "rename":
            os.rename(self.path, f"{self.path}.{number}")
            self._open()
        elif how == "copytruncate":
            shutil.copyfile(self.path, f"{self.path}.{number}")
            os.truncate(self.path, 0)
        else:
            raise ValueError(how)

    def delete(self):
        """Unlinked under the agent's feet: it writes on into a file that nobody sees."""
        os.unlink(self.path)

    def recreate(self):
        self._open()
