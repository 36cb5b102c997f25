# SPDX-License-Identifier: Apache-2.0
"""AWS Signature Version 4, both sides: the fake AWS checks what it receives, and its tests sign what they send.

Written apart from the daemon's signer on purpose: two independent readings of the same rules.
"""

import calendar
import hashlib
import hmac
import re
import time
import urllib.parse

ALGORITHM = "AWS4-HMAC-SHA256"
TOLERANCE = 300  # seconds between the request's date and the service's clock

AUTHORIZATION = re.compile(
    r"^AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;_-]+), ?Signature=([0-9a-f]{64})$"
)


class Keys:
    """One set of credentials. .expired: the services refuse it as such; .holder: the one instance that has it."""

    def __init__(self, access_key_id, secret_access_key, token=None):
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.token = token
        self.expired = False
        self.holder = None


class Refusal(Exception):
    """Why a signature is not accepted. @kind: missing, incomplete, unknown_key, token, expired, early, late or
    mismatch."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind
        self.text = text


def amz_date(seconds):
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def _quote(text, safe=""):
    return urllib.parse.quote(text, safe="-_.~" + safe)


def _canonical_path(path):
    parts = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    text = "/" + "/".join(parts)
    if text != "/" and path.endswith("/"):
        text += "/"
    return _quote(text, safe="/")


def _canonical_query(query):
    pairs = []
    for item in query.split("&"):
        if item:
            name, _, value = item.partition("=")
            pairs.append((_quote(urllib.parse.unquote(name)), _quote(urllib.parse.unquote(value))))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical_request(method, target, headers, signed, body):
    """@headers: list of (name, value) as received, @signed: sorted list of lower-case names."""
    path, _, query = target.partition("?")
    lines = []
    for name in signed:
        values = [" ".join(value.split()) for key, value in headers if key.lower() == name]
        lines.append(f"{name}:{','.join(values)}\n")
    return "\n".join([
        method, _canonical_path(path), _canonical_query(query), "".join(lines), ";".join(signed),
        hashlib.sha256(body).hexdigest(),
    ])


def signature(secret, date, region, service, canonical):
    """@date: compact form with time."""
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join([ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in (date[:8], region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def sign(keys, method, target, headers, body, region, service, now=None):
    """Return @headers (a dict with Host) with date, token and Authorization added; all of them are signed."""
    headers = dict(headers)
    headers["X-Amz-Date"] = amz_date(time.time() if now is None else now)
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    signed = sorted(name.lower() for name in headers)
    canonical = canonical_request(method, target, list(headers.items()), signed, body)
    made = signature(keys.secret_access_key, headers["X-Amz-Date"], region, service, canonical)
    headers["Authorization"] = (
        f"{ALGORITHM} Credential={keys.access_key_id}/{headers['X-Amz-Date'][:8]}/{region}/{service}/aws4_request, "
        f"SignedHeaders={';'.join(signed)}, Signature={made}")
    return headers


def scope_service(headers):
    """Service name in the credential scope, or None: tells query services apart."""
    match = AUTHORIZATION.match(_one(headers, "authorization") or "")
    return match.group(4) if match else None


def _one(headers, name):
    values = [value for key, value in headers if key.lower() == name]
    return values[0].strip() if len(values) == 1 else None


def verify(known, method, target, headers, body, region, service, now):
    """Check a received request; raise Refusal. @known: access key id -> Keys. Return the Keys."""
    if not any(name.lower() == "authorization" for name, _ in headers):
        raise Refusal("missing", "Missing Authentication Token")
    match = AUTHORIZATION.match(_one(headers, "authorization") or "")
    if not match:
        raise Refusal("incomplete", "Authorization header does not have the form of a Signature Version 4 header.")
    key_id, day, in_region, in_service, names, given = match.groups()
    signed = names.split(";")

    date = _one(headers, "x-amz-date")
    if not date or not re.match(r"^\d{8}T\d{6}Z$", date):
        raise Refusal("incomplete", "Authorization header requires existence of exactly one 'X-Amz-Date' header.")
    missing = [name for name in ("host", "x-amz-date") if name not in signed]
    missing += [name.lower() for name, _ in headers
                if name.lower().startswith("x-amz-") and name.lower() not in signed]
    missing += [name for name in signed if not any(key.lower() == name for key, _ in headers)]
    if signed != sorted(set(signed)):
        raise Refusal("incomplete", "SignedHeaders are not sorted or not unique.")
    if missing:
        raise Refusal("mismatch", f"'{missing[0]}' must be a header of the request and be signed.")
    if day != date[:8]:
        raise Refusal("mismatch", f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
                                  f"from HTTP: '{day}' != '{date[:8]}', from '{date}'.")
    if in_region != region:
        raise Refusal("mismatch", f"Credential should be scoped to a valid region, not '{in_region}'.")
    if in_service != service:
        raise Refusal("mismatch", f"Credential should be scoped to correct service: '{service}'.")

    keys = known.get(key_id)
    if keys is None:
        raise Refusal("unknown_key", "The security token included in the request is invalid.")
    token = _one(headers, "x-amz-security-token")
    if (keys.token or None) != (token or None):
        raise Refusal("token", "The security token included in the request is invalid.")
    if keys.expired:
        raise Refusal("expired", "The security token included in the request is expired")

    sent = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    if sent < now - TOLERANCE:
        raise Refusal("early", f"Signature expired: {date} is now earlier than {amz_date(now - TOLERANCE)} "
                               f"({amz_date(now)} - 5 min.)")
    if sent > now + TOLERANCE:
        raise Refusal("late", f"Signature not yet current: {date} is still later than {amz_date(now + TOLERANCE)} "
                              f"({amz_date(now)} + 5 min.)")

    canonical = canonical_request(method, target, headers, signed, body)
    if not hmac.compare_digest(given, signature(keys.secret_access_key, date, region, service, canonical)):
        raise Refusal("mismatch", "The request signature we calculated does not match the signature you provided. "
                                  "Check your AWS Secret Access Key and signing method. "
                                  "Consult the service documentation for details.")
    return keys
