# SPDX-License-Identifier: Apache-2.0
"""The fake instance metadata service, version 2 only, of one instance.

Items are computed from the world; .values overrides them by path: a text, bytes, or None for 404.
"""

import json
import random
import socket
import string
import time

import fake_cloudformation
import fake_http
from fake_world import ACCOUNT, REGION, iso

PAGE = ("<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n"
        "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n"
        "\t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n"
        "<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n <head>\n"
        "  <title>{0} - {1}</title>\n </head>\n <body>\n  <h1>{0} - {1}</h1>\n </body>\n</html>\n")
TITLES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Not Allowed",
          500: "Internal Server Error", 503: "Service Unavailable"}
META = "/latest/meta-data/"
ROLE = "ecsInstanceRole"


class FakeImds:
    def __init__(self, fake, instance, port=0):
        self.fake, self.instance = fake, instance
        self.values = {}
        self.keys = None            # of this instance alone; None: those of the role, which all instances share
        self.tokens = {}            # token -> time of its end
        self.credentials_life = 6 * 3600.0
        self.credentials_problem = None  # text: a 200 with a Code that is not Success
        self.calls = []
        self.hop_limit = 1          # how far the packets of a token travel
        self.tags = False           # tags in instance metadata, which are off unless somebody switches them on
        self.identity_key = random.randbytes(32)  # signs the identity document
        self.pending_time = fake.world.now() - 3600
        self.server = fake_http.Server(_Handler, self, port).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.port}"

    def expire_tokens(self):
        self.tokens.clear()

    def new_token(self, ttl):
        token = "AQAEA" + "".join(random.choices(string.ascii_letters + string.digits + "-_", k=51))
        self.tokens[token] = time.time() + ttl
        return token

    def credentials(self):
        if self.credentials_problem:
            return json.dumps({"Code": "AssumeRoleUnauthorizedAccess", "Message": self.credentials_problem,
                               "LastUpdated": iso(self.fake.world.now())}, indent=2)
        keys, now = self.keys or self.fake.keys, self.fake.world.now()
        return json.dumps({
            "Code": "Success", "LastUpdated": iso(now), "Type": "AWS-HMAC", "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key, "Token": keys.token,
            "Expiration": iso(now + self.credentials_life)}, indent=2)

    def item(self, path):
        """Text of an item, or None: 404."""
        if path in self.values:
            return self.values[path]
        one = self.fake.world.instance(self.instance)
        if path == "/latest/dynamic/instance-identity/document":
            return json.dumps({
                "accountId": ACCOUNT, "architecture": "x86_64", "availabilityZone": one.zone, "billingProducts": None,
                "devpayProductCodes": None, "marketplaceProductCodes": None, "imageId": "ami-0123456789abcdef0",
                "instanceId": one.id, "instanceType": one.type, "kernelId": None,
                "pendingTime": iso(self.pending_time), "privateIp": "10.0.0.17", "ramdiskId": None,
                "region": REGION, "version": "2017-09-30"}, indent=2)
        if path == "/latest/dynamic/instance-identity/signature":
            document = self.item("/latest/dynamic/instance-identity/document")
            return document and fake_cloudformation.sign(self.identity_key, document.encode())
        if not path.startswith(META):
            return None
        if path.startswith(META + "tags/instance/"):
            return one.tags.get(path[len(META + "tags/instance/"):]) if self.tags else None
        return {
            "instance-id": one.id, "instance-type": one.type, "ami-id": "ami-0123456789abcdef0",
            "instance-life-cycle": "spot" if one.spot else "on-demand", "local-ipv4": "10.0.0.17", "mac": "02:00:00:00:00:17",
            "placement/region": REGION, "placement/availability-zone": one.zone,
            "placement/availability-zone-id": "use1-az" + str("abcdef".index(one.zone[-1]) + 1),
            "services/domain": "amazonaws.com", "services/partition": "aws",
            "iam/info": json.dumps({"Code": "Success", "LastUpdated": iso(self.fake.world.now()),
                                    "InstanceProfileArn": f"arn:aws:iam::{ACCOUNT}:instance-profile/{ROLE}",
                                    "InstanceProfileId": "AIPAEXAMPLEEXAMPLE000"}, indent=2),
            "iam/security-credentials": ROLE, "iam/security-credentials/": ROLE,
            "iam/security-credentials/" + ROLE: self.credentials(),
            "autoscaling/target-lifecycle-state": one.target,
        }.get(path[len(META):])

    def stop(self):
        self.server.stop()


class _Handler(fake_http.Handler):
    def version_string(self):
        return "EC2ws"

    def _page(self, status):
        self.answer(status, "text/html", PAGE.format(status, TITLES.get(status, "Error")).encode())

    def _faults(self):
        """True if a fault has answered."""
        owner = self.server.owner
        for fault in owner.fake.faults.take("imds", self.path, {}):
            if fault.kind == "slow":
                time.sleep(fault.seconds)
            elif fault.kind in ("hang", "hang_after_effect"):
                self.hang(fault)
            elif fault.kind.startswith("cut"):
                raise fake_http.Gone
            elif fault.kind == "html":
                self.answer(fault.status or 200, "text/html", b"<html><body>Please log in.</body></html>")
                return True
            elif fault.kind in ("garbage", "empty", "huge"):
                body = {"garbage": b"\xff\xfe\x00\x80" * 8, "empty": b"", "huge": b"a" * fault.size}[fault.kind]
                self.answer(200, "text/plain", body)
                return True
            elif fault.kind in ("status", "throttled"):
                self._page(fault.status or 503)
                return True
        return False

    def _record(self, status):
        self.server.owner.calls.append({"time": time.time(), "method": self.command, "path": self.path,
                                        "status": status})
        return status

    def do_PUT(self):
        self.read_body()
        self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, self.server.owner.hop_limit)
        if self._faults():
            return
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token":
            self._page(self._record(403))
        elif self.headers.get("X-Forwarded-For"):
            self._page(self._record(403))
        elif not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            self._page(self._record(400))
        else:
            self._record(200)
            self.answer(200, "text/plain", self.server.owner.new_token(int(ttl)).encode(),
                        [("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", ttl)])

    def do_GET(self):
        owner = self.server.owner
        if self._faults():
            return
        token = self.headers.get("X-aws-ec2-metadata-token", "")
        if owner.tokens.get(token, 0) < time.time():
            self._page(self._record(401))
            return
        text = owner.item(self.path)
        if text is None:
            self._page(self._record(404))
            return
        self._record(200)
        self.answer(200, "text/plain", text if isinstance(text, bytes) else text.encode(),
                    [("Accept-Ranges", "none"), ("Last-Modified", self.date_time_string(time.time() - 600))])

    def do_POST(self):
        self.read_body()
        self._page(self._record(405))

    do_DELETE = do_POST
    do_HEAD = do_GET
