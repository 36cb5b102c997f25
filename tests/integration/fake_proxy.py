# SPDX-License-Identifier: Apache-2.0
"""A CONNECT proxy that leads every name to one place, and remembers what it was asked for.

    proxy = FakeProxy(target=("127.0.0.1", port), login=("user", "pass word")).start()
    proxy.asked      # [("ecs.eu-west-1.amazonaws.com:443", "user:pass word" or None, status), ...] in order
    proxy.problem    # what it does instead: "status:403", "hang", "garbage", "close"; None: its work

With @tls, (certificate, key), it is a proxy that speaks TLS itself.
"""

import base64
import select
import socket
import socketserver
import ssl
import threading

HEAD_MAX = 16384


class FakeProxy:
    def __init__(self, target, login=None, tls=None):
        self.target, self.login = target, login
        self.problem = None
        self.asked = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.server = _Server(self)
        self.port = self.server.server_address[1]

    def start(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()

    def url(self, login="", host="127.0.0.1"):
        """@login: as in a URL, percent-encoded."""
        return f"http{'s' if self.context else ''}://{login + '@' if login else ''}{host}:{self.port}"

    def hosts(self):
        """The names it let through, each once."""
        with self.lock:
            return {name.rsplit(":", 1)[0] for name, _, status in self.asked if status == 200}

    def statuses(self):
        with self.lock:
            return {status for _, _, status in self.asked}


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, owner):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner

    def handle_error(self, request, client_address):
        pass  # clients that leave are part of the tests


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        owner, client = self.server.owner, self.request
        client.settimeout(30)
        if owner.context:
            client = owner.context.wrap_socket(client, server_side=True)
        with client:
            line, fields = self.read_head(client)
            method, name, _ = line.split(" ", 2)
            login = self.login_of(fields)
            status = 405 if method != "CONNECT" else self.status_of(login)
            with owner.lock:
                owner.asked.append((name, login, status))
            if status == 200:
                with socket.create_connection(owner.target, 10) as server:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self.pass_on(client, server)
            elif status == "hang":
                client.settimeout(0.1)
                while not owner.stopping.wait(0.1):
                    try:
                        if not client.recv(1):
                            return
                    except TimeoutError:
                        pass
            elif status == "garbage":
                client.sendall(b"\x00\xff<html>\r\n" * 40 + b"\r\n")
            elif status != "close":
                client.sendall(f"HTTP/1.1 {status} No\r\nProxy-Authenticate: Basic realm=\"fake\"\r\n"
                               f"Content-Length: 2\r\nConnection: close\r\n\r\nno".encode())

    def read_head(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(4096)
            if not part or len(head) > HEAD_MAX:
                raise ConnectionError("no whole head")
            head += part
        line, *fields = head.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")
        return line, {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in fields)}

    def login_of(self, fields):
        kind, _, text = fields.get("proxy-authorization", "").partition(" ")
        return base64.b64decode(text).decode("utf-8", "replace") if kind == "Basic" else None

    def status_of(self, login):
        """What becomes of a request: an HTTP status, or a word for something worse."""
        owner = self.server.owner
        if owner.problem and owner.problem.startswith("status:"):
            return int(owner.problem[7:])
        if owner.problem:
            return owner.problem
        return 407 if owner.login and login != ":".join(owner.login) else 200

    def pass_on(self, client, server):
        """Bytes both ways until one side ends or nothing has come for a while."""
        pairs = {client: server, server: client}
        while not self.server.owner.stopping.is_set():
            waiting = isinstance(client, ssl.SSLSocket) and client.pending()
            ready = [client] if waiting else select.select(list(pairs), [], [], 0.5)[0]
            for one in ready:
                data = one.recv(65536)
                if not data:
                    return
                pairs[one].sendall(data)
