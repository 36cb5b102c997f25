# SPDX-License-Identifier: Apache-2.0
"""A fake S3 of one region: GET and HEAD of objects in both styles of address, with the signature checked."""

import hashlib
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import fake_http  # noqa: E402
import fake_sigv4  # noqa: E402


class FakeS3:
    """@keys: access key id -> fake_sigv4.Keys. .trouble: statuses that the next requests get, whatever they are."""

    def __init__(self, keys, region, tls=None):
        self.keys, self.region = keys, region
        self.objects = {}  # "bucket/key" -> bytes
        self.trouble = []
        self.calls = []    # (host without port, path, status)
        self.server = fake_http.Server(_Handler, self, tls=tls).start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.port}"

    @property
    def port(self):
        return self.server.port

    def statuses(self):
        return [status for _, _, status in self.calls]

    def stop(self):
        self.server.stop()


class _Handler(fake_http.Handler):
    def version_string(self):
        return "AmazonS3"

    def do_GET(self):
        owner = self.server.owner
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        status, code, body = self._look_up(owner, host)
        owner.calls.append((host, self.path, status))
        if status == 200:
            self.answer(200, "application/x-rpm", body, [
                ("Last-Modified", self.date_time_string(0)), ("ETag", f'"{hashlib.md5(body).hexdigest()}"')])
        else:
            page = (f"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>"
                    f"<Message>In {code.lower()}.</Message><RequestId>0123456789ABCDEF</RequestId></Error>")
            self.answer(status, "application/xml", page.encode())

    do_HEAD = do_GET

    def _look_up(self, owner, host):
        """(status, code, body)"""
        if owner.trouble:
            return owner.trouble.pop(0), "Trouble", b""
        if self.headers.get("X-Amz-Content-Sha256") != hashlib.sha256(b"").hexdigest():
            return 400, "InvalidRequest", b""
        try:
            # Of S3's own rule, the path as it is, nothing is seen while a key has only unreserved characters.
            fake_sigv4.verify(owner.keys, self.command, self.path, self.headers.items(), b"", owner.region, "s3",
                              time.time())
        except fake_sigv4.Refusal as refusal:
            return 403, {"mismatch": "SignatureDoesNotMatch", "expired": "ExpiredToken"}.get(
                refusal.kind, "AccessDenied"), b""
        first, _, rest = host.partition(".s3.")
        name = f"{first}{self.path}" if rest else self.path[1:]
        if name not in owner.objects:
            return 404, "NoSuchKey", b""
        return 200, "", owner.objects[name]
