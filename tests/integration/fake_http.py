# SPDX-License-Identifier: Apache-2.0
"""A threaded HTTP/1.1 server with keep-alive for the fakes, with answers that can be cut, slowed or withheld."""

import http.server
import socket
import socketserver
import ssl
import struct
import threading
import time


class Gone(Exception):
    """The connection is to be closed without (the rest of) an answer."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1       # one write for head and body
    timeout = 300
    clock = staticmethod(time.time)  # of the Date header

    def log_message(self, *args):
        pass

    def date_time_string(self, timestamp=None):
        return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(self.clock() if timestamp is None else timestamp))

    def version_string(self):
        return "Server"

    def read_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            raise Gone  # none of our clients sends chunked bodies, and AWS does not take them
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, content_type, body, headers=(), chunked=False, cut=False):
        """@cut: end the connection after half of the body."""
        if self.command == "HEAD":
            cut = chunked = False
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if content_type:
            self.send_header("Content-Type", content_type)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            body = b""
        if cut:
            body = body[:len(body) // 2]
        if chunked:
            half = max(1, len(body) // 2)
            for part in (body[:half], body[half:]):
                if part:
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            if not cut:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(body)
        self.wfile.flush()
        if cut:
            raise Gone

    def hang(self, fault):
        """Keep the connection open without an answer until the fault is cleared or the client leaves."""
        flags = 0 if isinstance(self.connection, ssl.SSLSocket) else socket.MSG_PEEK
        self.connection.settimeout(0.1)
        while not fault.cleared.is_set() and not self.server.stopping:
            try:
                if not self.connection.recv(1, flags):
                    break
            except (TimeoutError, ssl.SSLWantReadError):
                pass
            except OSError:
                break
            else:
                fault.cleared.wait(0.1)
        raise Gone

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except Gone:
            self.close_connection = True
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.close_connection = True

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """@handler: a Handler class; server.owner is whatever the handler needs."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, handler, owner, port=0, tls=None):
        super().__init__(("127.0.0.1", port), handler)
        self.owner, self.stopping = owner, False
        self.open = set()
        self.open_lock = threading.Lock()
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self):
        return self.server_address[1]

    def process_request_thread(self, request, client_address):
        if self.context:
            try:
                request.settimeout(10)
                request = self.context.wrap_socket(request, server_side=True)
                request.settimeout(None)
            except (OSError, ssl.SSLError):
                request.close()
                return
        with self.open_lock:
            self.open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self.open_lock:
                self.open.discard(request)

    def handle_error(self, request, client_address):
        if not self.stopping:
            super().handle_error(request, client_address)

    def start(self):
        self.thread.start()
        return self

    def drop_connections(self):
        """End every open connection with a reset."""
        with self.open_lock:
            for one in self.open:
                try:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def stop(self):
        self.stopping = True
        self.shutdown()
        self.server_close()
        self.drop_connections()
