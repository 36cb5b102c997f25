#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A fake ECS agent: a process of its own, so that it can be stopped and killed like the real one.

It serves introspection, writes DIR/var/log/ecs/ecs-agent.log and holds real TCP links to a control plane
(fake_control_plane.py): one ACS, one TCS, and two idle API connections that outlive them.

Commands are lines on stdin; each is answered by one line of JSON on stdout, {"ok": true, ...} or
{"ok": false, "error": ...}. The first line of all tells pid and port. The end of stdin ends the process, unless --detached.

    status                        phase, link, introspection answers so far
    drop [timeout|refused|eof]    links reset from here; dials fail in this way until restore, backing off
    restore                       dials work again, a wedge ends
    reconnect                     the periodic cycle: close and connect again at once
    flap N [SECONDS]              N such cycles, SECONDS apart
    wedge                         link gone, two lines, then silence; the process lives on
    deregister                    the "deregistered" line and an hour's wait (times --time-scale)
    update SECONDS                everything down as for exit 42, back after SECONDS
    terminate                     orderly end, exit 0 (so does SIGTERM)
    exit CODE                     at once; 5 with the critical line before it
    hang WHAT | hang off          WHAT (tasks, metadata): accepts, never answers
    delay WHAT SECONDS            answers late
    wrong WHAT KIND | wrong WHAT off        a wrong body (fake_introspection.WRONG)
    tasks N [STUCK [CONTAINERS]]  what /v1/tasks lists
    flood [BYTES_PER_MINUTE] | flood off    the line of a stopped dockerd, 20 MB a minute
    rotate rename|hourly|copytruncate
    log off|on|delete|recreate|info|warn|error
    line TEXT                     TEXT as it is, as a line of the log
    say LEVEL TEXT                a line of the log with this message
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import ssl
import stat
import struct
import sys
import time
import urllib.parse

import fake_introspection
from fake_ecs_agent_log import DOCKERD_LINE, AgentLog, Duration, Moment, go_duration

RELEASES = {"1.105.1": "a8b3e7d3", "1.83.0": "c763e4dc"}
FLOOD = 20 << 20  # bytes a minute

RESOURCES = """map[CPU:{
  IntegerValue: 2048,
  Name: "CPU",
  Type: "INTEGER"
} PORTS_TCP:{
  Name: "PORTS_TCP",
  StringSetValue: [
    "22",
    "51678"
  ],
  Type: "STRINGSET"
}]"""


class LinkError(Exception):
    """A dial or a link failed; the text is the agent's."""


class Inactive(LinkError):
    """ECS says that the instance is not registered."""


class Backoff:
    """Go's: start, times @factor, up to @longest, each plus up to a fifth; all times @scale."""

    def __init__(self, start, longest, factor, scale):
        self.start, self.longest, self.factor, self.scale = start, longest, factor, scale
        self.reset()

    def reset(self):
        self.current = self.start

    def next(self):
        now, self.current = self.current, min(self.longest, self.current * self.factor)
        return now * (1 + 0.2 * random.random()) * self.scale


class Agent:
    def __init__(self, options):
        self.options = options
        self.new = options.release != "1.83.0"
        self.hash = RELEASES[options.release]
        self.log = AgentLog(os.path.join(options.root, "var/log/ecs"), options.json, options.level)
        self.introspection = fake_introspection.Introspection(
            {"Cluster": options.cluster, "ContainerInstanceArn": options.arn,
             "Version": f"Amazon ECS Agent - v{options.release} (*{self.hash})"}, sniffed=not self.new)
        self.introspection.tasks = fake_introspection.make_tasks(options.tasks, options.cluster)
        self.introspection.warn = lambda what: self.log.write(
            "warn", f"Could not find requested resource: {what}", module="task_container_metadata_handler.go")
        self.control = urllib.parse.urlsplit(options.control_url)
        self.port = options.introspection_port
        self.phase = "starting"
        self.connected = False
        self.dial_fails = None      # None, "timeout", "refused", "eof"
        self.wedged = asyncio.Event()
        self.unwedged = asyncio.Event()
        self.told_inactive = self.told_to_cycle = False
        self.flood_rate = 0
        self.links = {}             # "ACS", "TCS" -> StreamWriter
        self.tasks = []             # everything that ends with the agent's life
        self.acs_backoff = Backoff(0.25, 120, 1.5, options.backoff_scale)
        self.tcs_backoff = Backoff(1, 60, 2, options.backoff_scale)
        self.send_credentials = "true"

    # -- texts ---------------------------------------------------------------------------------------------

    def _url(self, kind):
        base = f"{self.options.control_url}/{kind.lower()}/ws?"
        values = {"agentHash": self.hash, "agentVersion": self.options.release}
        if kind == "ACS":
            values.update(clusterArn=self.options.cluster, containerInstanceArn=self.options.arn,
                          dockerVersion="DockerVersion: 25.0.16", protocolVersion="2",
                          sendCredentials=self.send_credentials, seqNum="1")
        else:
            values.update(cluster=self.options.cluster, containerInstance=self.options.arn, dockerVersion="25.0.16")
        return base + urllib.parse.urlencode(values)

    def _own(self):
        return {"containerInstanceARN": self.options.arn} if self.new else {}

    def _say(self, level, msg, fields=None, module=None):
        self.log.write(level, msg, fields, module)

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self, known=False):
        """Register, open introspection, connect; with the lines of the real start."""
        self.phase = "starting"
        self._say("info", "Starting Amazon ECS Agent", {"version": self.options.release, "commit": self.hash})
        self._say("info", "Loading configuration")
        self._say("info", "Successfully got ECS instance credentials from provider: EC2RoleProvider")
        self._say("info", "Image excluded from cleanup", {"image": "amazon/amazon-ecs-agent:latest"})
        self._resources()
        if known and self.new:
            self._say("info", "Restored from checkpoint file", {
                "containerInstanceARN": self.options.arn, "cluster": self.options.cluster})
        self._say("info", "Event stream ContainerChange start listening...", module="eventstream.go")
        self._say("info", "Registering Instance with ECS")
        self._say("info", "Remaining memory", {"remainingMemory": 24105})
        await asyncio.sleep(self.options.start_delay)
        if self.options.register == "refused":
            self._register_refused()
        self._say("info", "Registered container instance with cluster!")
        self._say("info", "Instance registration completed successfully", {
            "cluster": self.options.cluster, "instanceArn": self.options.arn})
        self.port = await self.introspection.start(self.options.bind, self.port)
        self.phase = "up"
        self._say("info", "Beginning Polling for updates")
        others = () if self.options.bare else (self._tcs(), self._api("API1"), self._api("API2"))
        for work in (self._acs(), *others):
            self.tasks.append(asyncio.ensure_future(work))

    def _resources(self):
        """The start's one record that spans many lines, in logfmt only."""
        if not self.log.json_lines:
            text = self.log.line("info", "Initializing host resource manager, initialHostResource")
            self.log.raw(f"{text} initialHostResource={RESOURCES}\n".encode())

    def _register_refused(self):
        host = self.control.netloc
        why = (f'RequestError: send request failed\ncaused by: Post "https://{host}/": dial tcp {host}: connect: '
               "connection refused")
        self._say("error", "Unable to register as a container instance with ECS", {"error": why})
        self._say("error", "Error registering container instance", {"error": why})
        os._exit(1)

    async def down(self):
        """Listener and links gone, as when the process is."""
        self.introspection.stop()
        self.phase, self.connected = "down", False
        gone, self.tasks = self.tasks, []
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        for writer in self.links.values():
            writer.transport.abort()
        self.links.clear()

    async def terminate(self, code=0):
        self._say("info", "Agent received termination signal: terminated", module="termination_handler.go")
        if not self.new:
            self._say("info", "EBS Watcher Stopped due to agent stop", module="watcher.go")
        if self.connected:
            self._say("info", "Waiting before reconnecting to ACS", {
                "reconnectDelay": go_duration(self.acs_backoff.next())})
        self._say("info", "Interrupted waiting for reconnect delay to elapse; Expect session to close")
        self._say("info", "ACS session ended (context closed)", {"reason": "context canceled"})
        await self.down()
        if code is not None:
            os._exit(code)

    async def update(self, seconds):
        await self.terminate(None)
        await asyncio.sleep(seconds)
        await self.start(known=True)

    # -- links ---------------------------------------------------------------------------------------------

    async def _dial(self, kind):
        """Open a link. LinkError with the agent's words if that fails."""
        host, port = self.control.hostname, self.control.port
        patience = 30 * self.options.backoff_scale
        await asyncio.sleep(0.05)  # name, TCP, TLS and upgrade are never instant in life
        try:
            if self.dial_fails == "timeout":
                await asyncio.sleep(patience)
                raise asyncio.TimeoutError
            if self.dial_fails == "refused":
                raise ConnectionRefusedError
            if self.dial_fails == "eof":
                raise EOFError
            context = None
            if self.control.scheme == "https":
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), patience)
        except asyncio.TimeoutError:
            raise LinkError(f"dial tcp {host}:{port}: i/o timeout") from None
        except ConnectionRefusedError:
            raise LinkError(f"dial tcp {host}:{port}: connect: connection refused") from None
        except (EOFError, OSError):
            raise LinkError("unexpected EOF") from None
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self.options.keepalive)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self.options.keepalive)
        self.links[kind] = writer
        try:
            writer.write(f"{kind[:3]} {self.options.arn}\n".encode())
            if not (await asyncio.wait_for(reader.readline(), patience)).startswith(b"OK"):
                raise EOFError
        except (OSError, EOFError, asyncio.TimeoutError):
            writer.transport.abort()
            self.links.pop(kind, None)
            raise LinkError("unexpected EOF") from None
        return reader, writer

    def _abort(self, kind):
        writer = self.links.pop(kind, None)
        if writer:
            try:
                raw = writer.get_extra_info("socket")
                if raw:  # none under TLS that has ended already
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
            writer.transport.abort()

    async def _connect(self, kind):
        """The lines and the dial that ACS and TCS share."""
        url, scale = self._url(kind), self.options.time_scale
        self._say("info", "Establishing a Websocket connection", {"url": url})
        try:
            reader, writer = await self._dial(kind)
        except LinkError as error:
            self._say("warn", f"Error creating a websocket client: {error}", {"URL": url} if self.new else None)
            raise LinkError(f"websocket client: unable to dial {self.control.netloc} response: : {error}") from None
        now, longest = time.time(), scale * (1800 + 300 * random.random())
        at, until = (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when)) for when in (now, now + 1800 * scale))
        fields = {"URL": url, "ConnectTime": at, "ExpectedDisconnectTime": until}
        if self.new:
            fields["maxConnectionDuration"] = Duration(longest)
        self._say("info", "Websocket connection established.", fields)
        return reader, writer, longest

    def _cached_endpoint(self):
        base = self.options.control_url
        self._say("info", "Using cached DiscoverPollEndpoint", {
            "endpoint": f"{base}/acs/", "telemetryEndpoint": f"{base}/tcs/", "serviceConnectEndpoint": f"{base}/sc/",
            "containerInstanceARN": self.options.arn, **({"systemLogsEndpoint": ""} if self.new else {})})

    async def _acs(self):
        """The control link, for ever: connect, serve, wait, again."""
        first = True
        while True:
            was_up, error = False, None
            try:
                if not first:
                    self._cached_endpoint()
                first = False
                try:
                    reader, writer, longest = await self._connect("ACS")
                except LinkError as failed:
                    self._say("error", "Failed to connect to ACS", {"error": str(failed)})
                    raise
                self.connected = was_up = True
                self.send_credentials = "false"
                self._say("info", "Connected to ACS endpoint",
                          {**self._own(), "lastConnectedTime": Moment(time.time())} if self.new else None)
                await self._serve_acs(reader, writer, longest)
            except LinkError as failed:
                error = failed
            self.connected = False
            self._abort("ACS")
            if self.wedged.is_set():
                await self.unwedged.wait()
                self.wedged.clear()
            if was_up and self.new:
                self._say("info", "Current ACS session is done and a new one might be created.", self._own())
            delay = self._delay(error, was_up)
            if delay is None:
                continue
            self._say("info", "Waiting before reconnecting to ACS", {
                **self._own(), "reconnectDelay": go_duration(delay)})
            await asyncio.sleep(delay)
            self._say("info", "Done waiting; reconnecting to ACS", self._own())

    def _delay(self, error, was_up):
        """Seconds until the next try; None: at once."""
        if isinstance(error, Inactive):
            wait = 3600 * self.options.time_scale
            self._say("info", "Container instance is deregistered",
                      {**self._own(), "reconnectDelay": go_duration(wait)} if self.new else None)
            return wait
        if error is None:
            self._say("info", "ACS WebSocket connection closed for a valid reason", self._own())
            self.acs_backoff.reset()
            self._say("info", "Reconnecting to ACS immediately without waiting", self._own())
            return None
        if was_up and self.new:
            self._say("warn", "ACS WebSocket connection closed", {**self._own(), "error": str(error)})
        return self.acs_backoff.next()

    async def _serve_acs(self, reader, writer, longest):
        """Answer heartbeats until the link ends: by return for a valid reason, by LinkError else."""
        scale = self.options.time_scale
        ends, url, began = time.monotonic() + longest, self._url("ACS"), time.time()
        quiet = time.monotonic() + scale * (60 + 60 * random.random())
        settled = time.monotonic() + scale * (60 + 60 * random.random())
        where = "read tcp {}:{}->{}:{}: ".format(*writer.get_extra_info("sockname")[:2],
                                                 *writer.get_extra_info("peername")[:2])
        while True:
            now = time.monotonic()
            if now >= settled:
                self.acs_backoff.reset()
            if self.told_to_cycle or now >= ends:
                self.told_to_cycle = False
                when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(began))
                self._say("warn", "Closing connection", {"URL": url, "ConnectionStartTime": when,
                                                         "MaxDisconnectionTime": when})
                self._say("info", "Disconnected from server.", {"URL": url})
                writer.close()
                return
            if now >= quiet or self.wedged.is_set():
                self._say("warn", "ACS Connection hasn't had any activity for too long; closing connection")
                self._say("info", "Disconnected from ACS")
                raise LinkError(where + "use of closed network connection")
            if self.told_inactive:
                self.told_inactive = False
                raise Inactive("InactiveInstanceException: Container instance is inactive")
            try:
                line = await asyncio.wait_for(reader.readline(), 0.05 if scale < 1 else 0.2)
            except asyncio.TimeoutError:
                continue
            except OSError:
                raise LinkError(where + "read: connection reset by peer") from None
            quiet = time.monotonic() + scale * (60 + 60 * random.random())
            if not line and self.dial_fails:
                raise LinkError(where + "read: connection reset by peer")
            if not line or line.startswith(b"CLOSE"):
                return
            if line.startswith(b"INACTIVE"):
                raise Inactive("InactiveInstanceException: Container instance is inactive")
            if line.startswith(b"HEARTBEAT"):
                self._say("debug", "ACS activity occurred")
                writer.write(b"ACK\n")

    async def _tcs(self):
        """The telemetry link: some kilobytes every 20 s."""
        first = True
        while True:
            try:
                if not first:
                    self._cached_endpoint()
                first = False
                try:
                    reader, writer, longest = await self._connect("TCS")
                except LinkError as failed:
                    self._say("error", "Error connecting to TCS", {"error": str(failed)})
                    raise
                self._say("info", "Connected to TCS endpoint")
                await self._serve_tcs(reader, writer, time.monotonic() + longest)
                self._say("info", "TCS Websocket connection closed for a valid reason")
                self.tcs_backoff.reset()
                self._abort("TCS")
            except LinkError as error:
                self._abort("TCS")
                self._say("error", f"Error: lost websocket connection with ECS Telemetry service (TCS): {error}",
                          module="handler.go")
                await asyncio.sleep(self.tcs_backoff.next())

    async def _serve_tcs(self, reader, writer, ends):
        period = 20 * self.options.time_scale
        following = time.monotonic() + period * random.random()
        where = "read tcp {}:{}->{}:{}: ".format(*writer.get_extra_info("sockname")[:2],
                                                 *writer.get_extra_info("peername")[:2])
        while time.monotonic() < ends:
            if time.monotonic() >= following:
                following = time.monotonic() + period
                body = os.urandom(random.randrange(700, 2500))
                writer.write(f"PUBLISH {len(body)}\n".encode() + body)
            try:
                line = await asyncio.wait_for(reader.readline(), min(period, 0.2))
            except asyncio.TimeoutError:
                continue
            except OSError:
                raise LinkError(where + "read: connection reset by peer") from None
            if not line and self.dial_fails:
                raise LinkError(where + "read: connection reset by peer")
            if not line or line.startswith(b"CLOSE"):
                return

    async def _api(self, name):
        """An idle keep-alive connection to the ECS API; it outlives the other links."""
        while True:
            try:
                if not self.dial_fails:
                    reader, writer = await self._dial(name)
                    while await reader.read(4096):
                        pass
                    writer.close()
            except (LinkError, OSError):
                pass
            await asyncio.sleep(5 * self.options.time_scale)

    # -- commands ------------------------------------------------------------------------------------------

    async def flood(self):
        """Write at the wanted rate, in small parts, for as long as it is wanted."""
        while True:
            if self.flood_rate:
                line = self.log.line("error", DOCKERD_LINE, module="docker_client.go").encode() + b"\n"
                self.log.raw(line * max(1, int(self.flood_rate / 60 * 0.05 / len(line))))
            await asyncio.sleep(0.05)

    async def command(self, words, text):
        name, rest = words[0], words[1:]
        if name == "status":
            return {"phase": self.phase, "connected": self.connected, "port": self.port, "pid": os.getpid(),
                    "answered": self.introspection.answered, "links": sorted(self.links)}
        if name == "drop":
            self.dial_fails = rest[0] if rest else "refused"
            for kind in ("ACS", "TCS"):
                self._abort(kind)
        elif name == "restore":
            self.dial_fails = None
            self.unwedged.set()
        elif name == "reconnect":
            self.told_to_cycle = True
        elif name == "flap":
            self.tasks.append(asyncio.ensure_future(self._flap(int(rest[0]), float(rest[1]) if rest[1:] else 0.5)))
        elif name == "wedge":
            self.unwedged.clear()
            self.wedged.set()
        elif name == "deregister":
            self.told_inactive = True
        elif name == "update":
            asyncio.ensure_future(self.update(float(rest[0])))
        elif name == "terminate":
            asyncio.ensure_future(self.terminate())
        elif name == "exit":
            if rest[0] == "5":
                self._say("critical", "Agent will terminally exit, unable to register container instance:",
                          {"error": "ClientException: Container instance is inactive"})
            self.log.written = False
            # after the answer
            asyncio.get_running_loop().call_later(0.05, os._exit, int(rest[0]))
        else:
            self._look_command(name, rest, text)
        return {}

    def _look_command(self, name, rest, text):
        """What concerns introspection and log alone."""
        see = self.introspection
        if name == "hang":
            if rest[0] == "off":
                see.hanging.clear()
            else:
                see.hanging.add(rest[0])
        elif name == "delay":
            see.delays[rest[0]] = float(rest[1])
        elif name == "wrong":
            see.wrong.pop(rest[0], None)
            if rest[1] != "off":
                fake_introspection.WRONG[rest[1]]  # KeyError: no such kind
                see.wrong[rest[0]] = rest[1]
        elif name == "tasks":
            stuck, containers = (list(map(int, rest[1:])) + [0, 1][len(rest[1:]):])[:2]
            see.tasks = fake_introspection.make_tasks(int(rest[0]), self.options.cluster, stuck, containers)
        elif name == "flood":
            self.flood_rate = 0 if rest == ["off"] else float(rest[0]) if rest else FLOOD
        elif name == "rotate":
            self.log.rotate(rest[0])
        elif name == "log":
            if rest[0] in ("on", "off"):
                self.log.written = rest[0] == "on"
            elif rest[0] in ("delete", "recreate"):
                getattr(self.log, rest[0])()
            else:
                self.log.level = rest[0]
        elif name == "line":
            self.log.raw(text.encode() + b"\n")
        elif name == "say":
            level, _, msg = text.partition(" ")
            self._say(level, msg)
        else:
            raise ValueError(f"no such command: {name}")

    async def _flap(self, times, pause):
        for _ in range(times):
            self.told_to_cycle = True
            await asyncio.sleep(pause)

    async def commands(self):
        reader = asyncio.StreamReader()
        mode = os.fstat(0).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(0):
            await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", 0))
        else:
            reader.feed_eof()  # a file or /dev/null cannot be waited for: nobody gives commands
        while True:
            line = await reader.readline()
            if not line:
                if self.options.detached:
                    return
                os._exit(0)
            text = line.decode().rstrip("\n")
            try:
                answer = {"ok": True, **await self.command(text.split(), text.partition(" ")[2])}
            except (ValueError, IndexError, KeyError, OSError) as error:
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


async def run(options):
    agent = Agent(options)
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, lambda: asyncio.ensure_future(agent.terminate()))
    start = asyncio.ensure_future(agent.start())
    if not options.start_delay and options.register == "ok":
        await start
    print(json.dumps({"ok": True, "pid": os.getpid(), "port": agent.port}), flush=True)
    asyncio.ensure_future(agent.flood())
    await agent.commands()
    await asyncio.Event().wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="directory that stands for /")
    parser.add_argument("--introspection-port", type=int, default=0)
    parser.add_argument("--bind", default="::ffff:127.0.0.1", help="the real one has one dual-stack socket, as this is")
    parser.add_argument("--control-url", required=True)
    parser.add_argument("--cluster", default="demo")
    parser.add_argument("--arn", required=True)
    parser.add_argument("--release", choices=RELEASES, default="1.105.1")
    parser.add_argument("--json", action="store_true", help="ECS_LOG_OUTPUT_FORMAT=json")
    parser.add_argument("--level", default="info")
    parser.add_argument("--time-scale", type=float, default=1.0, help="of inactivity, cycle, telemetry, deregistered")
    parser.add_argument("--backoff-scale", type=float, default=1.0, help="of reconnect delays and dial time-outs")
    parser.add_argument("--start-delay", type=float, default=0.0, help="how long registration takes")
    parser.add_argument("--register", choices=("ok", "refused"), default="ok")
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--bare", action="store_true",
                        help="the ACS link alone, as with ECS_DISABLE_METRICS=true and idle API connections closed")
    parser.add_argument("--keepalive", type=int, default=15, help="seconds between TCP's probes; Go's default")
    parser.add_argument("--detached", action="store_true", help="live on when stdin ends")
    asyncio.run(run(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
