# SPDX-License-Identifier: Apache-2.0
"""The fake CloudFormation: stacks whose resources carry metadata, read by DescribeStackResource in two ways.

By the role: a signed call as those of the other services, which IAM can deny. By an instance's identity: a GET with
"Authorization: CFN_V1 DOCUMENT:SIGNATURE", both from the metadata service; IAM has no say in it, but the instance must be
tagged as a member of the stack, and the answers are JSON.
"""

import base64
import hashlib
import hmac
import json
import random
import urllib.parse

from fake_wire import Answer, AwsError
from fake_world import ACCOUNT, REGION, iso

STACK_TAG, RESOURCE_TAG = "aws:cloudformation:stack-id", "aws:cloudformation:logical-id"
VERSION = "2010-05-15"


class FakeStack:
    def __init__(self, name):
        self.name = name
        self.arn = "arn:aws:cloudformation:%s:%s:stack/%s/%08x-1111-2222-3333-444444444444" % (
            REGION, ACCOUNT, name, random.getrandbits(32))
        self.resources = {}  # logical id -> metadata as in the template; a text is served as it is; None: without


def as_served(value):
    """Numbers and booleans of a template come back as texts."""
    if isinstance(value, dict):
        return {key: as_served(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_served(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def _detail(view, now, params):
    stack = next((one for one in view.stacks.values() if params.get("StackName") in (one.name, one.arn)), None)
    if not stack:
        raise AwsError("ValidationError", f"Stack '{params.get('StackName')}' does not exist")
    logical = params.get("LogicalResourceId")
    if logical not in stack.resources:
        raise AwsError("ValidationError", f"Resource {logical} does not exist for stack {stack.name}")
    metadata = stack.resources[logical]
    detail = {"StackId": stack.arn, "StackName": stack.name, "LogicalResourceId": logical,
              "PhysicalResourceId": f"{stack.name}-{logical}-1ABCDEFGHIJKL", "ResourceType": "AWS::AutoScaling::AutoScalingGroup",
              "LastUpdatedTimestamp": now, "ResourceStatus": "CREATE_COMPLETE"}
    if metadata is not None:
        detail["Metadata"] = metadata if isinstance(metadata, str) else json.dumps(as_served(metadata))
    return stack, detail


def describe_stack_resource(world, view, params):
    detail = _detail(view, world.now(), params)[1]
    detail["LastUpdatedTimestamp"] = iso(detail["LastUpdatedTimestamp"], True)
    return {"StackResourceDetail": detail}


HANDLERS = {"DescribeStackResource": describe_stack_resource}


# -- by the identity ------------------------------------------------------------------------------------------------

def sign(secret, document):
    """What the metadata service hands out as the signature of @document: base64 of 128 bytes, in lines."""
    digest = b"".join(hmac.new(secret, bytes([number]) + document, hashlib.sha512).digest() for number in (1, 2))
    text = base64.b64encode(digest).decode()
    return "\n".join(text[at:at + 64] for at in range(0, len(text), 64)) + "\n"


def params_of(target):
    """(action, parameters) of a GET."""
    pairs = urllib.parse.parse_qsl(target.partition("?")[2], keep_blank_values=True)
    params = dict(pairs)
    if len(params) != len(pairs):
        raise AwsError("MalformedQueryString", "A parameter is given twice.")
    return params.pop("Action", ""), params


def _instance(fake, headers):
    """Id of the instance whose identity the header proves."""
    given = [value for name, value in headers if name.lower() == "authorization"]
    if len(given) != 1 or not given[0].startswith("CFN_V1 "):
        raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    document, _, signature = given[0][len("CFN_V1 "):].partition(":")
    try:
        raw = base64.b64decode(document, validate=True)
        instance = json.loads(raw)["instanceId"]
    except (ValueError, KeyError, TypeError):
        raise AwsError("IncompleteSignature", "The instance identity document cannot be read.") from None
    if not hmac.compare_digest(signature, sign(fake.imds.identity_key, raw).replace("\n", "")):
        raise AwsError("AccessDenied", "The instance identity document does not match its signature.", 403)
    return instance


def by_identity(fake, headers, params):
    """The result of a GET, or AwsError."""
    instance = _instance(fake, headers)
    if dict(headers).get("Accept") != "application/json" or params.get("ContentType") != "JSON":
        raise AwsError("InvalidParameterValue", "Only JSON is served here.")
    if params.get("Version") != VERSION:
        raise AwsError("NoSuchVersion", "The requested version is not supported.")
    if fake.world.refuse_identity:
        raise AwsError("AccessDenied", f"Instance {instance} is not allowed to read the stack.", 403)
    view = fake.world.view()
    with fake.world.lock:
        stack, detail = _detail(view, fake.world.now(), params)
        if view.instances[instance].tags.get(STACK_TAG) != stack.arn:
            raise AwsError("AccessDenied", f"Instance {instance} is not a member of stack {stack.name}.", 403)
    return {"StackResourceDetail": detail}


def success(action, result, request_id):
    body = {f"{action}Response": {f"{action}Result": result, "ResponseMetadata": {"RequestId": request_id}}}
    return Answer(200, "application/json", json.dumps(body), [("x-amzn-RequestId", request_id)])


def failure(error, request_id):
    body = {"Error": {"Code": error.code, "Message": error.message,
                      "Type": "Sender" if error.status < 500 else "Receiver"}, "RequestId": request_id}
    return Answer(error.status, "application/json", json.dumps(body), [("x-amzn-RequestId", request_id)],
                  code=error.code)
