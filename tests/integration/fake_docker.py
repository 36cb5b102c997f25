# SPDX-License-Identifier: Apache-2.0
"""A fake dockerd: /_ping and the container list on a Unix socket, good, failing or hanging.

The mode is "good", "hang" (both hang), "hang-list" (the ping answers), "error" (500), "garbage" or "slow" (.seconds).
gone() takes the socket away, back() brings it back; closed() leaves a socket file that nobody listens on.
"""

import os
import socketserver
import threading
import time

import fake_http


class _Handler(fake_http.Handler):
    def version_string(self):
        return "Docker/25.0.16 (linux)"

    def do_GET(self):
        owner = self.server.owner
        if self.server.stopping:  # a connection that was kept open dies with the daemon
            raise fake_http.Gone
        owner.asked.append(self.path)
        ping = self.path.endswith("/_ping")
        while owner.mode == "hang" or owner.mode == "hang-list" and not ping:
            if self.server.stopping:
                raise fake_http.Gone
            time.sleep(0.02)
        if owner.mode == "slow":
            time.sleep(owner.seconds)
        headers = [("Api-Version", "1.44"), ("Docker-Experimental", "false"), ("Ostype", "linux")]
        if owner.mode == "error":
            self.answer(500, "application/json", b'{"message":"Internal Server Error"}\n', headers)
        elif owner.mode == "garbage":
            self.answer(200, "application/json", b"\x00\xff{]", headers)
        elif ping:
            self.answer(200, "text/plain; charset=utf-8", b"OK", headers)
        elif "/containers/json" in self.path:
            self.answer(200, "application/json", b"[]\n", headers)
        else:
            self.answer(404, "application/json", b'{"message":"page not found"}\n', headers)

    do_HEAD = do_GET


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    stopping = False

    def get_request(self):
        request, _ = super().get_request()
        return request, ("local", 0)

    def handle_error(self, request, client_address):
        pass


class FakeDocker:
    def __init__(self, path):
        self.path = path
        self.mode, self.seconds = "good", 1.0
        self.asked = []
        self.server = None

    def start(self):
        _Handler.disable_nagle_algorithm = False  # there is none on a Unix socket
        directory, name = os.path.split(self.path)
        os.makedirs(directory, exist_ok=True)
        # sun_path holds 107 bytes: go by way of the directory's descriptor
        at = os.open(directory, os.O_PATH)
        try:
            self.server = _Server(f"/proc/self/fd/{at}/{name}", _Handler)
        finally:
            os.close(at)
        self.server.owner = self
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    back = start

    def closed(self):
        """Nobody listens, the socket file stays: connections are refused."""
        if self.server:
            self.server.stopping = True
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def gone(self):
        self.closed()
        if os.path.exists(self.path):
            os.unlink(self.path)

    stop = gone
