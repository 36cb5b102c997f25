# SPDX-License-Identifier: Apache-2.0
"""The fake end of the agents' links: a listener whose ACS links decide what agentConnected says.

A link opens with a line "ACS <arn>", "TCS <arn>" or "API <arn>" and gets "OK". On ACS the control plane sends
"HEARTBEAT" lines and closes a link that does not answer "ACK", as the real one does; "CLOSE" is a polite close frame,
"INACTIVE" says that the instance is not registered any more. On TCS the agent sends "PUBLISH <n>" and n bytes and gets "ACK".
Anything that looks like HTTP gets a 403, so that a look at the path succeeds.

What can be refused: "none"; "port": nobody listens; "all": connections are accepted and closed at once; "links": only
the agents' links are, HTTP is answered. Open links stay as they are until reset() or close() ends them.
"""

import asyncio
import os
import socket
import ssl
import struct
import subprocess
import threading

REFUSALS = ("none", "port", "all", "links")
FORBIDDEN = (b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n"
             b"Connection: close\r\n\r\nForbidden\n")


def make_certificate(directory):
    """A self-signed certificate for loopback by the openssl command. Return (certificate, key)."""
    certificate, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


class _Link:
    def __init__(self, kind, arn, writer):
        self.kind, self.arn, self.writer = kind, arn, writer
        self.acked = True

    def reset(self):
        """End it with a TCP reset."""
        raw = self.writer.get_extra_info("socket")
        try:
            if raw:  # none under TLS that has ended already
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.writer.transport.abort()

    def say(self, line):
        if not self.writer.is_closing():
            self.writer.write(line + b"\n")


class FakeControlPlane:
    """@on_connected: function(arn, bool), called when an instance's ACS link comes or is gone, after the delays.
    @heartbeat: seconds between heartbeats; @ack: seconds after which a link without an answer is closed."""

    def __init__(self, on_connected, port=0, tls=None, heartbeat=55.0, ack=None, connect_delay=0.0,
                 disconnect_delay=0.0):
        self.on_connected, self.port, self.tls = on_connected, port, tls
        self.heartbeat, self.ack = heartbeat, 2 * heartbeat if ack is None else ack
        self.connect_delay, self.disconnect_delay = connect_delay, disconnect_delay
        self.refusal = "none"
        self.mute = False         # neither heartbeats nor answers any more
        self.links = []
        self.opened = 0           # ACS links accepted so far
        self.probes = 0           # HTTP requests answered
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.context = self.listener = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def start(self):
        self.thread.start()
        self._run(self._listen())
        return self

    def stop(self):
        async def end():
            self._unlisten()
            for link in list(self.links):
                link.writer.transport.abort()
            others = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
            for one in others:
                one.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    # -- steering, from any thread -----------------------------------------------------------------------------

    def refuse(self, what="all"):
        """One of REFUSALS, from now on."""
        if what not in REFUSALS:
            raise ValueError(what)

        async def change():
            if what == "port":
                self._unlisten()
            self.refusal = what
            if what != "port" and not self.listener:
                await self._listen()

        self._run(change())

    def restore(self):
        self.refuse("none")
        self.mute = False

    def reset(self, kinds=("ACS", "TCS"), arn=None):
        """End links with a TCP reset; the API connections stay, as recorded of the real agent."""
        self._each(kinds, arn, _Link.reset)

    def close(self, kinds=("ACS",), arn=None, polite=True):
        """End links by a close frame and a FIN, or by a FIN alone."""
        def end(link):
            if polite:
                link.say(b"CLOSE")
            link.writer.close()

        self._each(kinds, arn, end)

    def inactive(self, arn=None):
        """Tell agents that they are not registered any more, and close."""
        def end(link):
            link.say(b"INACTIVE")
            link.writer.close()

        self._each(("ACS",), arn, end)

    def count(self, kind="ACS", arn=None):
        return sum(link.kind == kind and arn in (None, link.arn) for link in list(self.links))

    def steer(self, wish):
        """The same by name, for /_fake/control-plane."""
        if "refuse" in wish:
            self.refuse(wish["refuse"])
        if "mute" in wish:
            self.mute = bool(wish["mute"])
        if wish.get("reset"):
            self.reset()
        if wish.get("close"):
            self.close()
        if wish.get("inactive"):
            self.inactive()

    # -- the loop's side ---------------------------------------------------------------------------------------

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def _each(self, kinds, arn, change):
        async def each():
            for link in list(self.links):
                if link.kind in kinds and arn in (None, link.arn):
                    change(link)

        self._run(each())

    async def _listen(self):
        self.listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.context, backlog=1024)
        self.port = self.listener.sockets[0].getsockname()[1]

    def _unlisten(self):
        if self.listener:
            self.listener.close()
            self.listener = None

    async def _serve(self, reader, writer):
        try:
            if self.refusal != "all":
                await self._greet(reader, writer)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()

    async def _greet(self, reader, writer):
        line = await asyncio.wait_for(reader.readline(), 30)
        words = line.decode("latin-1").split()
        if len(words) == 2 and words[0] in ("ACS", "TCS", "API"):
            if self.refusal == "none":
                await self._link(_Link(words[0], words[1], writer), reader)
        elif words:
            while (await asyncio.wait_for(reader.readline(), 10)).strip():
                pass
            self.probes += 1
            writer.write(FORBIDDEN)
            await writer.drain()

    async def _link(self, link, reader):
        link.say(b"OK")
        self.links.append(link)
        beats = None
        if link.kind == "ACS":
            self.opened += 1
            self._tell(link.arn, self.connect_delay)
            beats = asyncio.ensure_future(self._beat(link))
        try:
            while True:
                line = await reader.readline()
                if not line:
                    break
                if line.startswith(b"ACK"):
                    link.acked = True
                elif line.startswith(b"PUBLISH"):
                    await reader.readexactly(int(line.split()[1]))
                    if not self.mute:
                        link.say(b"ACK")
        finally:
            self.links.remove(link)
            if beats:
                beats.cancel()
                self._tell(link.arn, self.disconnect_delay)

    async def _beat(self, link):
        while True:
            await asyncio.sleep(self.heartbeat)
            if self.mute:
                continue
            link.acked = False
            link.say(b"HEARTBEAT")
            waited = 0.0
            while not link.acked and waited < self.ack:
                await asyncio.sleep(min(0.05, self.ack))
                waited += 0.05
            if not link.acked:
                link.reset()
                return

    def _tell(self, arn, delay):
        def tell():
            self.on_connected(arn, self.count("ACS", arn) > 0)

        if delay:
            self.loop.call_later(delay, tell)
        else:
            tell()
