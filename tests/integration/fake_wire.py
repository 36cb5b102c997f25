# SPDX-License-Identifier: Apache-2.0
"""Shapes on the wire of the fake AWS: request parsing, success and error bodies, by protocol.

Source: the service models of botocore (protocols, code and type names) and answers of the services as they are known.
"""

import json
import urllib.parse
from xml.sax.saxutils import escape

QUERY, EC2, JSON10, JSON11 = "query", "ec2", "json 1.0", "json 1.1"

# signing name -> protocol, X-Amz-Target prefix or API version, IAM prefix
SERVICES = {
    "monitoring": (JSON10, "GraniteServiceVersion20100801", "cloudwatch"),
    "ecs": (JSON11, "AmazonEC2ContainerServiceV20141113", "ecs"),
    "autoscaling": (QUERY, "2011-01-01", "autoscaling"),
    "ec2": (EC2, "2016-11-15", "ec2"),
    "cloudformation": (QUERY, "2010-05-15", "cloudformation"),
}

CLOUDWATCH_NAMESPACE = "com.amazonaws.cloudwatch.v2010_08_01#"


class AwsError(Exception):
    """A refusal with its code, its words and its HTTP status."""

    def __init__(self, code, message, status=400):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


class Answer:
    def __init__(self, status, content_type, body, headers=(), chunked=False, code=None):
        self.status, self.content_type, self.headers = status, content_type, list(headers)
        self.body = body if isinstance(body, bytes) else body.encode()
        self.chunked = chunked
        self.code = code  # AWS's error code, None: a success


# -- what the common refusals are called, by protocol: (code, status, message) ----------------------------------

COMMON = {
    "throttled": {
        QUERY: ("Throttling", 400, "Rate exceeded"),
        EC2: ("RequestLimitExceeded", 503, "Request limit exceeded."),
        JSON10: ("ThrottlingException", 400, "Rate exceeded"),
        JSON11: ("ThrottlingException", 400, "Rate exceeded"),
    },
    500: {
        QUERY: ("InternalFailure", 500, "An internal error has occurred."),
        EC2: ("InternalError", 500, "An internal error has occurred"),
        JSON10: ("InternalServiceFault", 500, "Request processing has failed due to some unknown error."),
        JSON11: ("ServerException", 500, "Service Unavailable. Please try again later."),
    },
    503: {
        QUERY: ("ServiceUnavailable", 503, "Service is unable to handle request."),
        EC2: ("Unavailable", 503, "The service is unavailable. Please try again shortly."),
        JSON10: ("ServiceUnavailableException", 503, "Service is unable to handle request."),
        JSON11: ("ServiceUnavailableException", 503, "Service is unable to handle request."),
    },
    "refuse": {
        QUERY: ("ValidationError", 400, "The request is not valid."),
        EC2: ("InvalidParameterValue", 400, "The request is not valid."),
        JSON10: ("InvalidParameterValueException", 400, "The request is not valid."),
        JSON11: ("InvalidParameterException", 400, "The request is not valid."),
    },
    "contention": {
        QUERY: ("ResourceContention", 500, "You already have a pending update to an Auto Scaling resource (for example,"
                                           " an Auto Scaling group, instance, or load balancer)."),
        EC2: ("IncorrectState", 400, "Another operation is in progress."),
        JSON10: ("ConcurrentModificationException", 400, "Another operation is in progress."),
        JSON11: ("UpdateInProgressException", 400, "Another operation is in progress."),
    },
    "expired": {
        QUERY: ("ExpiredToken", 403, "The security token included in the request is expired"),
        EC2: ("RequestExpired", 400, "Request has expired."),
        JSON10: ("ExpiredTokenException", 400, "The security token included in the request is expired"),
        JSON11: ("ExpiredTokenException", 400, "The security token included in the request is expired"),
    },
    "unknown_key": {
        QUERY: ("InvalidClientTokenId", 403, "The security token included in the request is invalid."),
        EC2: ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
        JSON10: ("UnrecognizedClientException", 400, "The security token included in the request is invalid."),
        JSON11: ("UnrecognizedClientException", 400, "The security token included in the request is invalid."),
    },
    "mismatch": {
        QUERY: ("SignatureDoesNotMatch", 403, None),
        EC2: ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
        JSON10: ("InvalidSignatureException", 400, None),
        JSON11: ("InvalidSignatureException", 400, None),
    },
    "clock": {
        QUERY: ("SignatureDoesNotMatch", 403, None),
        EC2: ("RequestExpired", 400, "Request has expired."),
        JSON10: ("InvalidSignatureException", 400, None),
        JSON11: ("InvalidSignatureException", 400, None),
    },
    "missing": {
        QUERY: ("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
        EC2: ("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
        JSON10: ("MissingAuthenticationTokenException", 400, "Missing Authentication Token"),
        JSON11: ("MissingAuthenticationTokenException", 400, "Missing Authentication Token"),
    },
    "incomplete": {
        QUERY: ("IncompleteSignature", 400, None),
        EC2: ("IncompleteSignature", 400, None),
        JSON10: ("IncompleteSignatureException", 400, None),
        JSON11: ("IncompleteSignatureException", 400, None),
    },
    "unknown_action": {
        QUERY: ("InvalidAction", 400, "Could not find operation"),
        EC2: ("InvalidAction", 400, "The action is not valid for this web service."),
        JSON10: ("UnknownOperationException", 400, ""),
        JSON11: ("UnknownOperationException", 400, ""),
    },
}
COMMON["token"] = COMMON["unknown_key"]
COMMON["early"] = COMMON["late"] = COMMON["clock"]


def common_error(kind, protocol, message=None):
    code, status, words = COMMON[kind][protocol]
    return AwsError(code, words if words is not None else message or code, status)


def denied(service, action, region_account="us-east-1:123456789012"):
    protocol, _, prefix = SERVICES[service]
    user = "arn:aws:sts::123456789012:assumed-role/ecsInstanceRole/i-0123456789abcdef0"
    text = (f"User: {user} is not authorized to perform: {prefix}:{action} on resource: "
            f"arn:aws:{prefix}:{region_account}:* because no identity-based policy allows the {prefix}:{action} action")
    if protocol == EC2:
        return AwsError("UnauthorizedOperation", "You are not authorized to perform this operation. " + text, 403)
    if protocol == QUERY:
        return AwsError("AccessDenied", text, 403)
    return AwsError("AccessDeniedException", text, 400)


# -- bodies -----------------------------------------------------------------------------------------------------

class Timestamp(float):
    """A time that JSON services write as seconds with an exponent: 1.787572800123E9."""


def _dump(value):
    """JSON as the services write it: no blanks, time stamps with an exponent."""
    if isinstance(value, Timestamp):
        return f"{value / 1e9:.12f}".rstrip("0") + "E9"
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(key) + ":" + _dump(item) for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_dump(item) for item in value) + "]"
    return json.dumps(value)


def xml(name, value):
    """An element: dict -> children in order, list -> <member>s, True/False/numbers/text -> text, None -> nothing."""
    if value is None:
        return ""
    if isinstance(value, dict):
        inner = "".join(xml(key, item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        inner = "".join(xml("member", item) for item in value)
    elif isinstance(value, bool):
        inner = "true" if value else "false"
    else:
        inner = escape(str(value))
    return f"<{name}>{inner}</{name}>" if inner else f"<{name}/>"


def success(service, action, result, request_id):
    protocol = SERVICES[service][0]
    headers = [("x-amzn-RequestId", request_id)]
    if protocol in (JSON10, JSON11):
        return Answer(200, "application/x-amz-" + protocol.replace(" ", "-"), _dump(result), headers)
    if protocol == EC2:
        body = (f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response '
                f'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">\n    <requestId>{request_id}</requestId>\n'
                + result + f"</{action}Response>")
        return Answer(200, "text/xml;charset=UTF-8", body, headers, chunked=True)
    inner = xml(f"{action}Result", result) if result is not None else ""
    body = (f'<{action}Response xmlns="http://{service}.amazonaws.com/doc/{SERVICES[service][1]}/">\n  {inner}\n'
            f"  <ResponseMetadata>\n    <RequestId>{request_id}</RequestId>\n  </ResponseMetadata>\n"
            f"</{action}Response>\n")
    return Answer(200, "text/xml", body, headers)


# CloudWatch speaks JSON, but names the codes of its query days in a header
QUERY_CODES = {
    "InvalidParameterValueException": "InvalidParameterValue",
    "InvalidParameterCombinationException": "InvalidParameterCombination",
    "MissingRequiredParameterException": "MissingParameter",
    "InternalServiceFault": "InternalServiceError",
}


def failure(service, error, request_id):
    protocol = SERVICES[service][0]
    headers = [("x-amzn-RequestId", request_id)]
    fault = "Sender" if error.status < 500 else "Receiver"
    if protocol in (JSON10, JSON11):
        kind = error.code
        if error.code in QUERY_CODES:
            kind = CLOUDWATCH_NAMESPACE + error.code
            headers.append(("x-amzn-query-error", f"{QUERY_CODES[error.code]};{fault}"))
        elif error.code.endswith("SignatureException") or "Token" in error.code or error.code.startswith("Unrec"):
            kind = "com.amazon.coral.service#" + error.code
        words = "Message" if error.code == "AccessDeniedException" else "message"
        return Answer(error.status, "application/x-amz-" + protocol.replace(" ", "-"),
                      json.dumps({"__type": kind, words: error.message}, separators=(",", ":")), headers,
                      code=error.code)
    if protocol == EC2:
        body = ('<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
                f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error></Errors>"
                f"<RequestID>{request_id}</RequestID></Response>")
        return Answer(error.status, "text/xml;charset=UTF-8", body, headers, chunked=True, code=error.code)
    body = (f'<ErrorResponse xmlns="http://{service}.amazonaws.com/doc/{SERVICES[service][1]}/">\n  <Error>\n'
            f"    <Type>{fault}</Type>\n    <Code>{error.code}</Code>\n    <Message>{escape(error.message)}</Message>\n"
            f"  </Error>\n  <RequestId>{request_id}</RequestId>\n</ErrorResponse>\n")
    return Answer(error.status, "text/xml", body, headers, code=error.code)


# -- requests ---------------------------------------------------------------------------------------------------

def parse_query(body):
    """Parameters of a query call as nested data: "InstanceIds.member.1=i-1" -> {"InstanceIds": ["i-1"]}."""
    flat = urllib.parse.parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    tree = {}
    for name, value in flat:
        at = tree
        parts = [part for part in name.split(".") if part != "member"]
        for part in parts[:-1]:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise AwsError("MalformedQueryString", f"{name} is both a value and a structure.")
        if parts[-1] in at:
            raise AwsError("MalformedQueryString", f"{name} is given twice.")
        at[parts[-1]] = value
    return _lists(tree)


def _lists(tree):
    if not isinstance(tree, dict):
        return tree
    tree = {key: _lists(item) for key, item in tree.items()}
    if tree and all(key.isdigit() for key in tree):
        return [tree[key] for key in sorted(tree, key=int)]
    return tree


def _no_constants(text):
    raise ValueError(text)


def _no_duplicates(pairs):
    seen = dict(pairs)
    if len(seen) != len(pairs):
        raise ValueError("duplicate key")
    return seen


def parse_json(body):
    """The body of a JSON call; NaN, Infinity, duplicate keys and anything but an object are refused."""
    try:
        parsed = json.loads(body.decode("utf-8"), parse_constant=_no_constants, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise AwsError("SerializationException", "Start of structure or map found where not expected.")
    return parsed
