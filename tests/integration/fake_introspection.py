# SPDX-License-Identifier: Apache-2.0
"""The ECS agent's introspection server, byte for byte as Go's net/http answers: framing by size, odd requests.

What 1.83.0 does is recorded in tests/data/ecs-agent-1.83.0.json; 1.105.1 differs in Content-Type. Can be made to hang,
to be slow and to answer nonsense, by path.
"""

import asyncio
import errno
import json
import random
import re
import socket
import time
import urllib.parse

COMMANDS = b'{"AvailableCommands":["/v1/metadata","/v1/tasks","/license"]}'
NO_TASK = b'{"Arn":"","KnownStatus":"","Family":"","Version":"","Containers":null}'
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
CHUNKED_FROM = 2048
ARN = re.compile(rb'"ContainerInstanceArn":"[^"]*"')
REASONS = {200: "OK", 301: "Moved Permanently", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error",
           503: "Service Unavailable"}

# bodies that are not what they should be, by name; the metadata body is handed in
WRONG = {
    "html": lambda body: (200, "text/html", b"<!DOCTYPE html><html><body>Welcome to nginx!</body></html>"),
    "empty": lambda body: (200, JSON, b""),
    "null-arn": lambda body: (200, JSON, ARN.sub(b'"ContainerInstanceArn":null', body)),
    "no-arn": lambda body: (200, JSON, ARN.sub(b'"ContainerInstanceArn":""', body)),
    "unregistered": lambda body: (500, JSON, b'{"Cluster":"","ContainerInstanceArn":null,"Version":""}'),
    "panic": lambda body: (500, None, b""),
    "truncated": lambda body: (200, JSON, body[:len(body) // 2]),
    "garbage": lambda body: (200, JSON, bytes(range(256)) * 4),
    "non-utf8": lambda body: (200, JSON, body.replace(b"demo", b"d\xff\xfeo")),
    "duplicate": lambda body: (200, JSON, body.replace(b"{", b'{"Cluster":"other",', 1)),
    "deep": lambda body: (200, JSON, b'{"Tasks":' + b"[" * 100000),
    "huge": lambda body: (200, JSON, b'{"Tasks":[' + b'"x",' * (16 << 20) + b'"x"]}'),
    "number": lambda body: (200, JSON, b'{"Cluster":1,"ContainerInstanceArn":1e999,"Version":[]}'),
    "other": lambda body: (200, JSON, body.replace(b"container-instance/", b"container-instance/other-")),
}


def make_tasks(count, cluster="demo", stuck=0, containers=1):
    """@count running tasks as the agent lists them; the first @stuck are told to stop and do not."""
    tasks = []
    for number in range(count):
        rng = random.Random(number)
        ident = f"{rng.getrandbits(128):032x}"
        tasks.append({
            "Arn": f"arn:aws:ecs:us-east-1:123456789012:task/{cluster}/{ident}",
            "DesiredStatus": "STOPPED" if number < stuck else "RUNNING", "KnownStatus": "RUNNING",
            "Family": "web<&>", "Version": "12",
            "Containers": [{
                "DockerId": f"{rng.getrandbits(256):064x}", "DockerName": f"ecs-web-12-app-{rng.getrandbits(80):020x}",
                "Name": f"app{which}", "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/web:1.27",
                "ImageID": f"sha256:{rng.getrandbits(256):064x}", "CreatedAt": "2026-06-30T10:11:12.123456789Z",
                "StartedAt": "2026-06-30T10:11:13.623456789Z",
                "Ports": [{"ContainerPort": 80, "Protocol": "tcp", "HostPort": 32768 + number % 28000}],
                "Volumes": [{"DockerName": "data", "Source": "/var/lib/docker/volumes/data/_data",
                             "Destination": "/data"}],
            } for which in range(containers)]})
    return tasks


def go_json(value):
    """As Go's encoding/json: no blanks, and < > & as escapes."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def _listener(address, port):
    """A dual-stack socket where there is IPv6, as Go makes one, so that it is found in the tables of tcp6."""
    try:
        one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        if ":" in address:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, port))
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _listener("127.0.0.1", port)
    return one


class Introspection:
    """@metadata: dict Cluster, ContainerInstanceArn, Version. @sniffed: /v1/tasks has no Content-Type set (1.83.0).

    .hanging, .delays, .wrong: by "metadata" and "tasks"; a hang lasts until it is taken off .hanging."""

    def __init__(self, metadata, sniffed=False):
        self.metadata, self.sniffed = metadata, sniffed
        self.tasks = []
        self.hanging, self.delays, self.wrong = set(), {}, {}
        self.warn = lambda what: None  # called for a task that is not there
        self.server = None
        self.answered = 0
        self._open = set()

    async def start(self, address, port):
        self.server = await asyncio.start_server(self._serve, sock=_listener(address, port), backlog=4096)
        return self.server.sockets[0].getsockname()[1]

    def stop(self):
        """The process is gone: nobody listens, open connections end."""
        if self.server:
            self.server.close()
            self.server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self._open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _one(self, reader, writer):
        """Read a request, answer it. Return whether the connection stays."""
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        except asyncio.IncompleteReadError:
            return False
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name:
                headers[name.strip().lower()] = value.strip()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return self._bad(writer, "")
        method, target, version = words
        if version == "HTTP/1.1" and "host" not in headers:
            return self._bad(writer, ": missing required Host header")
        length = int(headers.get("content-length") or 0)
        if length:
            await reader.readexactly(length)
        close = version == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
        status, kind, body, more = await self._look_up(target)
        close |= self._send(writer, method, version, status, kind, body, more, close)
        self.answered += 1
        await writer.drain()
        return not close

    @staticmethod
    def _bad(writer, why):
        text = f"400 Bad Request{why}"
        writer.write(f"HTTP/1.1 {text}\r\nContent-Type: {TEXT}\r\nConnection: close\r\n\r\n{text}".encode())
        return False

    async def _look_up(self, target):
        """(status, Content-Type or None: sniffed, body, further headers)"""
        path, _, query = target.partition("?")
        if "//" in path:
            to = re.sub("/+", "/", path)
            page = f'<a href="{to}">Moved Permanently</a>.\n\n'.encode()
            return 301, "text/html; charset=utf-8", page, [("Location", to)]
        what = {"/v1/metadata": "metadata", "/v1/tasks": "tasks"}.get(path)
        if not what:
            return (500, "", b"", []) if path == "/license" else (200, None, COMMANDS, [])
        if self.delays.get(what):
            await asyncio.sleep(self.delays[what])
        while what in self.hanging:
            await asyncio.sleep(0.05)
        status, kind, body = self._metadata() if what == "metadata" else self._tasks(query)
        if what in self.wrong:
            status, kind, body = WRONG[self.wrong[what]](body)
        return status, kind, body, []

    def _metadata(self):
        return 200, JSON, go_json(self.metadata)

    def _tasks(self, query):
        kind = None if self.sniffed else JSON
        wanted = urllib.parse.parse_qs(query)
        ident, arn = wanted.get("dockerid", [""])[0], wanted.get("taskarn", [""])[0]
        if ident and arn:
            return 400, kind, NO_TASK
        if not ident and not arn:
            tasks = random.sample(self.tasks, len(self.tasks))  # Go's map order: another one each time
            return 200, kind, go_json({"Tasks": tasks})
        found = [task for task in self.tasks if task["Arn"] == arn or ident and any(
            one["DockerId"] == ident or len(ident) <= 12 and one["DockerId"].startswith(ident)
            for one in task["Containers"])]
        if len(found) == 1:
            return 200, kind, go_json(found[0])
        self.warn(ident or arn)
        return (400 if found else 404), kind, NO_TASK

    @staticmethod
    def _send(writer, method, version, status, kind, body, more, close):
        """Header order as Go has it: what the handler set, Date, length, and a sniffed Content-Type last.
        Return whether the body ends with the connection."""
        large = len(body) > CHUNKED_FROM and method != "HEAD"
        head = [f"{version} {status} {REASONS[status]}"]
        if kind:
            head.append(f"Content-Type: {kind}")
        head += [f"{name}: {value}" for name, value in more]
        head.append("Date: " + time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()))
        ends = large and version == "HTTP/1.0"
        if large and version == "HTTP/1.1":
            framing = "Transfer-Encoding: chunked"
        else:
            framing = None if ends else f"Content-Length: {len(body)}"
        late = [] if kind or not body else [f"Content-Type: {TEXT}"]
        if framing and framing.startswith("Transfer"):
            head += late + [framing]
        else:
            head += ([framing] if framing else []) + late
        if close and version == "HTTP/1.1":
            head.append("Connection: close")
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
        if method == "HEAD":
            return False
        if large and version == "HTTP/1.1":
            for at in range(0, len(body), CHUNKED_FROM):
                part = body[at:at + CHUNKED_FROM]
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(body)
        return ends
