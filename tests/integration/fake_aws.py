#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The fake AWS: CloudWatch, ECS, Auto Scaling, EC2 and CloudFormation on one port of loopback, the metadata service on
another.

In a test:      fake = FakeAws().start(); fake.populate(); ... ; fake.fault("DetachInstances", "throttled", count=2)
As a process:   fake_aws.py --port-file FILE [--size N] [--control-plane] ...   (FILE gets the addresses as JSON)

It checks the signature of every call, answers with the services' own shapes and codes, keeps every received call in
.calls and every accepted datum in .metrics, and fails on demand (fake_faults.py). As a process it is steered over HTTP:

    GET  /_fake/calls[?action=X]  /_fake/metrics  /_fake/imds-calls  /_fake/state  /_fake/faults
    POST /_fake/fault             {"action": "DetachInstances", "kind": "throttled", "count": 2, ...}
    POST /_fake/clear             {} or {"action": ...}
    POST /_fake/connected         {"instance": ID, "connected": true | false | null}   (null: follow the link again)
    POST /_fake/control-plane     {"refuse": "none" | "port" | "all" | "links", "reset": true, "close": true}
    POST /_fake/skew              {"seconds": 600}
    POST /_fake/suspend, resume   {"group": NAME, "process": "Launch"}
    POST /_fake/tag               {"group" or "cluster": NAME, "key": K, "value": V or null}
    POST /_fake/imds              {"path": "/latest/meta-data/spot/instance-action", "text": T or null}
"""

import argparse
import gzip
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.parse
import uuid

import fake_cloudformation
import fake_cloudwatch
import fake_http
import fake_services
import fake_sigv4
import fake_wire
from fake_control_plane import FakeControlPlane
from fake_faults import Faults
from fake_imds import FakeImds
from fake_wire import AwsError
from fake_world import REGION, World

PORTAL = ("<!DOCTYPE html>\n<html><head><title>Gateway</title></head>"
          "<body><h1>Please log in.</h1></body></html>\n")
READS = ("Describe", "List", "Get")


class FakeAws:
    def __init__(self, port=0, tls=None):
        self.world = World()
        self.faults = Faults()
        self.calls = []       # dicts, in the order of arrival, filled in as they are answered
        self.metrics = []     # fake_cloudwatch.Metric, in the order of arrival
        self.alarms = []      # as DescribeAlarms has them: {"AlarmName": ..., "Namespace": ..., ...}
        self.alarms_page = 100
        self.lock = threading.Lock()
        self.all_keys = {}    # access key id -> Keys
        self.keys = None      # those that the metadata service hands out
        self.rotate_keys()
        self.tls = tls
        self.port = port
        self.server = self.imds = self.control_plane = None
        self.more_imds = []

    # -- life ------------------------------------------------------------------------------------------------

    def start(self):
        handler = type("AwsHandler", (_Handler,), {"clock": staticmethod(self.world.now)})
        self.server = fake_http.Server(handler, self, self.port, self.tls).start()
        self.port = self.server.port
        return self

    def stop(self):
        self.faults.clear()
        for one in (self.control_plane, self.imds, *self.more_imds, self.server):
            if one:
                one.stop()

    def __enter__(self):
        return self if self.server else self.start()

    def __exit__(self, *exc):
        self.stop()

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def populate(self, cluster="demo", group="demo-asg", size=5, imds_port=0, short_arn=False):
        """A cluster and a group of @size connected instances; the first is "our own" and gets the metadata service.
        Return its ContainerInstance."""
        self.world.add_cluster(cluster)
        if group:
            self.world.add_group(group, size)
        first = self.world.add_instance(group, cluster, connected=False, short_arn=short_arn)
        for _ in range(size - 1):
            self.world.add_instance(group, cluster, short_arn=short_arn)
        self.imds = FakeImds(self, first.id, imds_port)
        return self.world.host(first.id)

    def add_imds(self, instance, port=0):
        """The metadata service of a further instance, with keys of its own. Ends with the fake."""
        one = FakeImds(self, instance, port)
        one.keys = self.make_keys(instance)
        self.more_imds.append(one)
        return one

    def add_control_plane(self, **options):
        """The listener that agents' links go to; agentConnected follows them."""
        self.control_plane = FakeControlPlane(self.world.set_connected, **options).start()
        return self.control_plane

    # -- credentials -----------------------------------------------------------------------------------------

    def rotate_keys(self, expire_old=True):
        """New credentials at the metadata service; the old ones expire, unless told otherwise."""
        if self.keys and expire_old:
            self.keys.expired = True
        self.keys = self.make_keys()
        return self.keys

    def make_keys(self, holder=None):
        """Keys that are accepted; calls that are signed with them are by @holder, an instance id."""
        tail = "".join(random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))
        secret = "".join(random.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", k=40))
        keys = fake_sigv4.Keys("ASIA" + tail, secret, "FwoGZXIvYXdzE" + secret * 8 + "==")
        keys.holder = holder
        self.all_keys[keys.access_key_id] = keys
        return keys

    def add_user(self, access_key_id, secret):
        """Long-lived keys without a token, as from the environment."""
        self.all_keys[access_key_id] = fake_sigv4.Keys(access_key_id, secret)

    # -- faults ----------------------------------------------------------------------------------------------

    def fault(self, action, kind, **options):
        if kind == "stale":
            self.world.keep_history()
        return self.faults.add(action, kind, **options)

    def deny(self, *actions):
        for action in actions:
            self.fault(action, "denied")

    def clear(self, action=None):
        self.faults.clear(action)

    def set_metadata(self, metadata, stack="demo-stack", resource="AutoScalingGroup", tags=True):
        """Metadata of a resource of a stack, which is made if need be; None: the resource has none; a text is served as
        it is. @tags: our own instance is tagged as made by it. Return the FakeStack."""
        with self.world.live() as state:
            owner = state.stacks.get(stack) or fake_cloudformation.FakeStack(stack)
            state.stacks[stack] = owner
            owner.resources[resource] = metadata
            if tags:
                state.instances[self.imds.instance].tags.update(
                    {fake_cloudformation.STACK_TAG: owner.arn, fake_cloudformation.RESOURCE_TAG: resource})
            return owner

    def skew(self, seconds):
        """Shift the services' clock: their Date headers, and what they take for a fresh signature."""
        self.world.skew = seconds

    # -- what has happened -----------------------------------------------------------------------------------

    def calls_of(self, action, instance=None, code=None, ok=None, **params):
        """Calls of @action, in order. @instance: an instance id or ARN that the parameters name; @code: AWS's error
        code; @ok: only (not) successful ones; @params: parameters with these values."""
        names = None
        if instance:
            host = self.world.host(instance)
            names = {instance} | ({host.arn, host.ec2, host.arn.rsplit("/", 1)[1]} if host else set())
        with self.lock:
            calls = [call for call in self.calls if call["action"] == action]
        return [call for call in calls
                if (names is None or names & _strings(call["params"]))
                and (code is None or call["code"] == code)
                and (ok is None or (call["status"] == 200) == ok)
                and all(call["params"].get(key) == value for key, value in params.items())]

    def changes(self):
        """(action, params) of the calls that changed something, in order; metrics left out."""
        with self.lock:
            return [(call["action"], call["params"]) for call in self.calls
                    if call["effect"] and not call["action"].startswith(READS) and call["action"] != "PutMetricData"]

    def metrics_of(self, name, namespace=None, **dims):
        """Data of one metric, in the order of arrival. @dims: dimensions that must have these values."""
        with self.lock:
            return [one for one in self.metrics
                    if one.name == name and namespace in (None, one.namespace)
                    and all(one.dims.get(key) == value for key, value in dims.items())]


def _strings(value):
    """All texts below @value."""
    if isinstance(value, dict):
        return set().union(*map(_strings, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(_strings, value)) if value else set()
    return {value} if isinstance(value, str) else set()


class _Handler(fake_http.Handler):
    def do_POST(self):
        body = self.read_body()
        if self.path.startswith("/_fake/"):
            self._steer(body)
            return
        fake, headers = self.server.owner, self.headers.items()
        service, action = self._route(headers, body)
        call = self._record(fake, service, action, len(body))
        if not service:
            call["status"] = 404
            self.answer(404, "text/html", b"<UnknownOperationException/>\n")
            return
        self._serve(fake, call, headers, body)

    def _record(self, fake, service, action, size):
        call = {"time": time.time(), "service": service, "action": action, "params": {}, "by": "role", "caller": None,
                "headers": dict(self.headers.items()), "size": size, "signed_ok": None, "effect": False, "status": None,
                "code": None, "faults": [], "request_id": str(uuid.uuid4())}
        with fake.lock:
            fake.calls.append(call)
        return call

    def do_GET(self):
        if self.path.startswith("/_fake/"):
            self._steer(b"")
        elif self.path.startswith("/?Action="):
            self._serve_identity(self.server.owner)
        else:
            self.answer(302, "text/html", b"", [("Location", "https://aws.amazon.com/")])

    def _route(self, headers, body):
        """(signing name, action) of a call; (None, None) if it is none."""
        target = self.headers.get("X-Amz-Target", "")
        prefix, _, action = target.partition(".")
        for name, (protocol, mark, _) in fake_wire.SERVICES.items():
            if protocol in (fake_wire.JSON10, fake_wire.JSON11) and mark == prefix:
                return name, action
        form = urllib.parse.parse_qs(body.decode("utf-8", "replace"))
        version = form.get("Version", [""])[0]
        for name, (protocol, mark, _) in fake_wire.SERVICES.items():
            if protocol in (fake_wire.QUERY, fake_wire.EC2) and (
                    mark == version or fake_sigv4.scope_service(headers) == name):
                return name, form.get("Action", [""])[0]
        return None, target or None

    def _params(self, call, body):
        protocol = fake_wire.SERVICES[call["service"]][0]
        kind = self.headers.get("Content-Type", "")
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if protocol in (fake_wire.JSON10, fake_wire.JSON11):
            if kind != "application/x-amz-" + protocol.replace(" ", "-"):
                raise AwsError("SerializationException", f"Content-Type {kind!r} is not that of the protocol.")
            return fake_wire.parse_json(body)
        if not kind.startswith("application/x-www-form-urlencoded"):
            raise AwsError("MissingAction", f"Content-Type {kind!r} is not a form's.")
        params = fake_wire.parse_query(body)
        params.pop("Action", None)
        if params.pop("Version", None) != fake_wire.SERVICES[call["service"]][1]:
            raise AwsError("NoSuchVersion", "The requested version is not supported.")
        return params

    def _serve(self, fake, call, headers, body):
        service, action = call["service"], call["action"]
        protocol = fake_wire.SERVICES[service][0]
        faults = []
        try:
            try:
                call["params"] = self._params(call, body)
            finally:
                # also an unreadable call meets its fault
                faults = fake.faults.take(service, action, call["params"])
                call["faults"] = [one.kind for one in faults]
            self._before(faults, service, action, protocol)
            try:
                keys = fake_sigv4.verify(fake.all_keys, self.command, self.path, headers, body, REGION, service,
                                         fake.world.now())
                call["signed_ok"], call["caller"] = True, keys.holder
            except fake_sigv4.Refusal as refusal:
                call["signed_ok"] = False
                raise fake_wire.common_error(refusal.kind, protocol, refusal.text) from None
            answer = self._act(fake, call, faults, len(body))
        except _Html as page:
            answer = fake_wire.Answer(page.status, "text/html", PORTAL, code="")
        except AwsError as error:
            answer = fake_wire.failure(service, error, call["request_id"])
        self._after(call, faults, answer)

    def _serve_identity(self, fake):
        """A call of CloudFormation's that an instance signs with its identity. IAM has no say in it."""
        call, faults = self._record(fake, "cloudformation", None, 0), []
        call["by"] = "identity"
        try:
            call["action"], call["params"] = fake_cloudformation.params_of(self.path)
            faults = [one for one in fake.faults.take("cloudformation", call["action"], call["params"])
                      if one.kind != "denied"]
            call["faults"] = [one.kind for one in faults]
            self._before(faults, "cloudformation", call["action"], fake_wire.QUERY)
            if call["action"] != "DescribeStackResource":
                raise fake_wire.common_error("unknown_action", fake_wire.QUERY)
            result = fake_cloudformation.by_identity(fake, self.headers.items(), call["params"])
            call["signed_ok"] = call["effect"] = True
            answer = fake_cloudformation.success(call["action"], result, call["request_id"])
        except _Html as page:
            answer = fake_wire.Answer(page.status, "text/html", PORTAL, code="")
        except AwsError as error:
            answer = fake_cloudformation.failure(error, call["request_id"])
        self._after(call, faults, answer)

    def _act(self, fake, call, faults, n_body):
        service, action = call["service"], call["action"]
        if (service, action) == ("monitoring", "PutMetricData"):
            received = fake_cloudwatch.put_metric_data(fake.world.now(), call["params"], n_body)
            with fake.lock:
                fake.metrics.extend(received)
            call["effect"] = True
            return fake_wire.success(service, action, {}, call["request_id"])
        if service == "monitoring" and action in fake_cloudwatch.READS:
            return fake_wire.success(service, action, fake_cloudwatch.READS[action](fake, call["params"]),
                                     call["request_id"])
        handler = fake_services.HANDLERS.get(service, {}).get(action)
        if not handler:
            raise fake_wire.common_error("unknown_action", fake_wire.SERVICES[service][0])
        lag = max((one.seconds for one in faults if one.kind == "stale"), default=0.0)
        view = fake.world.view(lag if action.startswith(READS) else 0.0)
        with fake.world.lock:
            result = handler(fake.world, view, call["params"])
        call["effect"] = action != "UpdateContainerInstancesState" or bool(result["containerInstances"])
        return fake_wire.success(service, action, result, call["request_id"])

    def _before(self, faults, service, action, protocol):
        """Faults that keep what was asked from happening."""
        for fault in faults:
            if fault.kind == "late":
                time.sleep(fault.seconds)
            elif fault.kind == "hang":
                self.hang(fault)
            elif fault.kind == "cut_before_effect":
                raise fake_http.Gone
            elif fault.kind == "html":
                raise _Html(fault.status or 200)
            elif fault.kind == "denied":
                raise fake_wire.denied(service, action)
            elif fault.kind == "status":
                kind = 503 if fault.status == 503 else 500
                error = fake_wire.common_error(kind, protocol)
                error.status = fault.status or 500
                raise error
            elif fault.kind == "signature":
                raise fake_wire.common_error("mismatch", protocol, "The request signature we calculated does not match "
                                             "the signature you provided.")
            elif fault.kind in ("throttled", "expired", "contention", "refuse"):
                error = fake_wire.common_error(fault.kind, protocol)
                error.message, error.code = fault.message or error.message, fault.code or error.code
                raise error

    def _after(self, call, faults, answer):
        """Answer, as far as the faults let it through."""
        call["code"], cut = answer.code, False
        for fault in faults:
            if fault.kind == "slow":
                time.sleep(fault.seconds)
            elif fault.kind == "hang_after_effect":
                self.hang(fault)
            elif fault.kind == "cut_after_effect":
                raise fake_http.Gone
            elif fault.kind == "cut":
                cut = True
            elif fault.kind == "truncated":
                answer.body = answer.body[:len(answer.body) // 2]
            elif fault.kind == "garbage":
                answer.body = b"\x00\xff{]<<" * 7
            elif fault.kind == "empty":
                answer.body = b""
            elif fault.kind == "huge":
                answer.body = b"[" * fault.size
            elif fault.kind == "body":
                answer.body = fault.body
        call["status"] = None if cut else answer.status
        self.answer(answer.status, answer.content_type, answer.body, answer.headers, answer.chunked, cut)

    # -- steering over HTTP ------------------------------------------------------------------------------------

    def _steer(self, body):
        fake = self.server.owner
        path, _, query = self.path[len("/_fake/"):].partition("?")
        try:
            wish = json.loads(body) if body else dict(urllib.parse.parse_qsl(query))
            result = _steer(fake, path, wish)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.answer(400, "application/json", json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
            return
        self.answer(200, "application/json", json.dumps(result, default=str).encode())


class _Html(AwsError):
    """Not AWS at all: a proxy's or a portal's page."""

    def __init__(self, status):
        super().__init__("", "", status)


def _steer(fake, path, wish):
    world = fake.world
    if path == "calls":
        with fake.lock:
            return [call for call in fake.calls if wish.get("action") in (None, call["action"])]
    if path == "metrics":
        with fake.lock:
            return [one.plain() for one in fake.metrics]
    if path == "imds-calls":
        return fake.imds.calls
    if path == "state":
        return world.dump()
    if path == "faults":
        return [one.plain() for one in fake.faults.list]
    if path == "fault":
        return fake.fault(wish.pop("action"), wish.pop("kind"), **wish).plain()
    if path == "clear":
        fake.clear(wish.get("action"))
    elif path == "connected":
        world.force_connected(wish["instance"], wish["connected"])
    elif path == "control-plane":
        fake.control_plane.steer(wish)
    elif path == "skew":
        fake.skew(float(wish["seconds"]))
    elif path in ("suspend", "resume"):
        getattr(world, path)(wish["group"], wish["process"])
    elif path == "tag":
        with world.live() as state:
            owner = state.groups[wish["group"]] if "group" in wish else state.clusters[wish["cluster"]]
            owner.tags.pop(wish["key"], None)
            if wish["value"] is not None:
                owner.tags[wish["key"]] = wish["value"]
    elif path == "imds":
        fake.imds.values[wish["path"]] = wish["text"]
    else:
        raise ValueError(f"no such thing to steer: {path}")
    return {"ok": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--imds-port", type=int, default=0)
    parser.add_argument("--port-file", help="gets JSON: url, imds_url, instance, arn, cluster, group, control_plane")
    parser.add_argument("--cluster", default="demo")
    parser.add_argument("--group", default="demo-asg")
    parser.add_argument("--size", type=int, default=5)
    parser.add_argument("--detach-seconds", type=float, default=3)
    parser.add_argument("--launch-seconds", type=float, default=3)
    parser.add_argument("--control-plane", action="store_true", help="run one as well")
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--heartbeat", type=float, default=55, help="seconds between the control plane's heartbeats")
    options = parser.parse_args()

    fake = FakeAws(options.port).start()
    own = fake.populate(options.cluster, options.group, options.size, options.imds_port)
    group = fake.world.group(options.group)
    group.detach_seconds, group.launch_seconds = options.detach_seconds, options.launch_seconds
    about = {"url": fake.url, "imds_url": fake.imds.url, "instance": own.ec2, "arn": own.arn,
             "cluster": options.cluster, "group": options.group, "control_plane": None}
    if options.control_plane:
        about["control_plane"] = fake.add_control_plane(port=options.control_port, heartbeat=options.heartbeat).url
    else:
        fake.world.set_connected(own.arn, True)
    if options.port_file:
        with open(options.port_file + ".new", "w", encoding="utf-8") as file:
            json.dump(about, file)
        os.rename(options.port_file + ".new", options.port_file)
    print(json.dumps(about), flush=True)

    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    done.wait()
    fake.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
