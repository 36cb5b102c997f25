# SPDX-License-Identifier: Apache-2.0
"""Faults of the fake endpoints, switched on and off at run time.

    slow                answered after .seconds; what was asked happens at once
    late                happens, and is answered, after .seconds
    hang                never answered, nothing happens; the connection stays open until the fault is cleared
    hang_after_effect   never answered, but what was asked has happened
    cut                 what was asked happens; the connection ends in the middle of the answer's body
    cut_after_effect    what was asked happens; the connection ends before a byte of the answer
    cut_before_effect   the connection ends, nothing happens
    truncated           what was asked happens; a whole HTTP answer with half of the body
    throttled           Throttling and its kin; nothing happens, here and below unless said
    status              HTTP .status (500, 503, ...) with the service's error body
    html                HTTP .status (200 unless given) with a page of HTML
    garbage             HTTP 200 with bytes that are neither JSON nor XML; what was asked happens
    empty               HTTP 200 with an empty body; what was asked happens
    huge                HTTP 200 with .size bytes (16 MiB unless given) of body; what was asked happens
    body                HTTP 200 with .body, which are bytes; what was asked happens
    expired             the token has expired
    signature           SignatureDoesNotMatch, whatever was sent
    denied              AccessDenied
    contention          ResourceContention
    refuse              ValidationError (InvalidParameterException, ...), with .message and .code if given
    stale               reads show the state of .seconds ago
"""

import threading

KINDS = {line.split()[0] for line in __doc__.splitlines() if line.startswith("    ")}


class Fault:
    """@action: an API action, "*" for all of them, "SERVICE:*"; for the metadata service "imds" or a path's beginning.
    @count: how many calls it applies to; None: until cleared. @where: function(params) -> bool, to pick calls."""

    def __init__(self, action, kind, count=None, seconds=1.0, status=None, message=None, code=None, size=16 << 20,
                 where=None, body=b""):
        if kind not in KINDS:
            raise ValueError(f"no such fault: {kind}")
        self.action, self.kind, self.count, self.seconds = action, kind, count, float(seconds)
        self.status, self.message, self.code, self.size, self.where = status, message, code, size, where
        self.body = body
        self.cleared = threading.Event()

    def fits(self, service, action, params):
        if service == "imds":
            if self.action != "imds" and not (self.action.startswith("/") and action.startswith(self.action)):
                return False
        elif self.action not in ("*", action, f"{service}:*"):
            return False
        return not self.where or self.where(params)

    def plain(self):
        return {"action": self.action, "kind": self.kind, "count": self.count, "seconds": self.seconds}


class Faults:
    def __init__(self):
        self.lock = threading.Lock()
        self.list = []

    def add(self, *args, **kwargs):
        fault = Fault(*args, **kwargs)
        with self.lock:
            self.list.append(fault)
        return fault

    def clear(self, action=None):
        """End every fault, or those of one action; hanging calls are let go (their connections end)."""
        with self.lock:
            gone = [one for one in self.list if action in (None, one.action)]
            self.list = [one for one in self.list if one not in gone]
        for one in gone:
            one.cleared.set()

    def take(self, service, action, params):
        """The faults that apply to this call: every slow and stale one, and the first of the others."""
        taken = []
        with self.lock:
            for one in list(self.list):
                if not one.fits(service, action, params):
                    continue
                if one.kind not in ("slow", "stale") and any(t.kind not in ("slow", "stale") for t in taken):
                    continue
                taken.append(one)
                if one.count is not None:
                    one.count -= 1
                    if one.count <= 0:
                        self.list.remove(one)
        return taken
