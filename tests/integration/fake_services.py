# SPDX-License-Identifier: Apache-2.0
"""What each action of the fake ECS, Auto Scaling, EC2 and CloudFormation does.

A handler is handler(world, view, params) -> result; @view is the state to read from (it may lag behind), changes go to
@world. Refusals are AwsError. Words and codes are those of the services as far as they are known.
"""

import base64
import calendar
import hashlib
import re
import time

import fake_cloudformation
from fake_wire import AwsError, Timestamp, xml
from fake_world import ACCOUNT, REGION, iso, query_matches

INSTANCE_ID = re.compile(r"^i-[0-9a-f]{8}([0-9a-f]{9})?$")
ATTRIBUTE_NAME = re.compile(r"^[A-Za-z0-9_./\\-]{1,128}$")
ATTRIBUTE_VALUE = re.compile(r"^(?! )[A-Za-z0-9_.@/\\: -]{1,128}(?<! )$")  # a comma is not among them


# -- ECS ----------------------------------------------------------------------------------------------------------

def _cluster(view, params):
    name = params.get("cluster", "default")
    if not isinstance(name, str):
        raise AwsError("SerializationException", "Unexpected token: cluster is not a string.")
    cluster = view.clusters.get(name.rsplit("/", 1)[-1])
    if not cluster:
        raise AwsError("ClusterNotFoundException", "Cluster not found.")
    return cluster


def _find_host(view, cluster, ident):
    for host in view.hosts_of(cluster.name):
        if ident in (host.arn, host.arn.rsplit("/", 1)[1]):
            return host
    return None


def _idents(params, maximum):
    idents = params.get("containerInstances")
    if not isinstance(idents, list) or not idents:
        raise AwsError("InvalidParameterException", "Container instances can not be blank.")
    if len(idents) > maximum:
        raise AwsError("InvalidParameterException", f"containerInstances can have at most {maximum} items.")
    return idents


def _missing(cluster, ident):
    arn = ident if ident.startswith("arn:") else \
        f"arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/{cluster.name}/{ident}"
    return {"arn": arn, "reason": "MISSING"}


def _tags(tags):
    return [{"key": key, "value": value} for key, value in tags.items()]


def host_shape(host, include=()):
    """A ContainerInstance; resources are cut short, nobody here reads them."""
    shape = {
        "containerInstanceArn": host.arn, "ec2InstanceId": host.ec2, "version": 12,
        "versionInfo": {"agentVersion": "1.105.1", "agentHash": "a8b3e7d3", "dockerVersion": "DockerVersion: 25.0.16"},
        "remainingResources": [{"name": "CPU", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0,
                                "integerValue": 1792}],
        "registeredResources": [{"name": "CPU", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0,
                                 "integerValue": 2048}],
        "status": host.status, "agentConnected": host.agent_connected, "runningTasksCount": host.running,
        "pendingTasksCount": host.pending,
    }
    if host.update_status:
        shape["agentUpdateStatus"] = host.update_status
    shape["attributes"] = [{"name": name} if value is None else {"name": name, "value": value}
                           for name, value in host.attributes.items()]
    shape["registeredAt"] = Timestamp(host.registered_at)
    shape["attachments"] = []
    shape["tags"] = _tags(host.tags) if "TAGS" in include else []
    if "CONTAINER_INSTANCE_HEALTH" in include:
        shape["healthStatus"] = {"overallStatus": host.health, "details": [{
            "type": "CONTAINER_RUNTIME", "status": host.health, "lastUpdated": Timestamp(host.registered_at),
            "lastStatusChange": Timestamp(host.registered_at)}]}
    return shape


def describe_container_instances(world, view, params):
    cluster = _cluster(view, params)
    found, failures = [], []
    for ident in _idents(params, 100):
        host = _find_host(view, cluster, ident)
        if host:
            found.append(host_shape(host, params.get("include") or ()))
        else:
            failures.append(_missing(cluster, ident))
    return {"containerInstances": found, "failures": failures}


def _token(params, name, start):
    """Opaque to clients, like the real one; it holds for the same question only."""
    asked = sorted((key, str(value)) for key, value in params.items() if key != name)
    return base64.b64encode(f"{start:08d}{hashlib.sha256(repr(asked).encode()).hexdigest()}".encode()).decode()


def _start(params, name):
    """Where the page of this call begins. ValueError: not a token of ours, or of another question."""
    token = params.get(name)
    if not token:
        return 0
    start = int(base64.b64decode(token, validate=True)[:8])
    if token != _token(params, name, start):
        raise ValueError(token)
    return start


def _page(items, params, maximum, default):
    """(page, nextToken or None)"""
    size = params.get("maxResults", default)
    if not isinstance(size, int) or not 1 <= size <= maximum:
        raise AwsError("InvalidParameterException", f"maxResults must be between 1 and {maximum}.")
    try:
        start = _start(params, "nextToken")
    except ValueError:
        raise AwsError("InvalidParameterException", "Invalid token.") from None
    more = start + size < len(items)
    return items[start:start + size], _token(params, "nextToken", start + size) if more else None


def list_container_instances(world, view, params):
    cluster = _cluster(view, params)
    status = params.get("status")
    hosts = [host for host in view.hosts_of(cluster.name)
             if (host.status == status if status else host.status != "INACTIVE")]
    if params.get("filter"):
        try:
            hosts = [host for host in hosts if query_matches(params["filter"], host)]
        except ValueError:
            raise AwsError("InvalidParameterException", "The filter expression is not valid.") from None
    page, token = _page([host.arn for host in hosts], params, 100, 100)
    result = {"containerInstanceArns": page}
    if token:
        result["nextToken"] = token
    return result


def describe_clusters(world, view, params):
    found, failures = [], []
    for name in params.get("clusters") or ["default"]:
        cluster = view.clusters.get(name.rsplit("/", 1)[-1])
        if not cluster:
            arn = name if name.startswith("arn:") else f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}"
            failures.append({"arn": arn, "reason": "MISSING"})
            continue
        hosts = [host for host in view.hosts_of(cluster.name) if host.status in ("ACTIVE", "DRAINING")]
        found.append({
            "clusterArn": cluster.arn, "clusterName": cluster.name, "status": cluster.status,
            "registeredContainerInstancesCount": len(hosts), "runningTasksCount": sum(host.running for host in hosts),
            "pendingTasksCount": sum(host.pending for host in hosts), "activeServicesCount": 1, "statistics": [],
            "tags": _tags(cluster.tags) if "TAGS" in (params.get("include") or ()) else [],
            "settings": [], "capacityProviders": [], "defaultCapacityProviderStrategy": [],
        })
    return {"clusters": found, "failures": failures}


def update_container_instances_state(world, view, params):
    status = params.get("status")
    if status not in ("ACTIVE", "DRAINING"):
        raise AwsError("InvalidParameterException", "Container instance status should be one of [ACTIVE,DRAINING].")
    found, failures = [], []
    with world.live() as state:
        cluster = _cluster(state, params)
        for ident in _idents(params, 10):
            host = _find_host(state, cluster, ident)
            if not host:
                failures.append(_missing(cluster, ident))
            elif host.status not in ("ACTIVE", "DRAINING"):
                failures.append({"arn": host.arn, "reason": "INACTIVE"})
            else:
                host.status = status
                found.append(host_shape(host))
    return {"containerInstances": found, "failures": failures}


def _attributes(state, params, values):
    """Checked (host, attribute) pairs of PutAttributes and DeleteAttributes."""
    cluster = _cluster(state, params)
    attributes = params.get("attributes")
    if not isinstance(attributes, list) or not attributes:
        raise AwsError("InvalidParameterException", "attributes can not be blank.")
    if len(attributes) > 10:
        raise AwsError("AttributeLimitExceededException", "You can set at most 10 attributes in one call.")
    pairs = []
    for one in attributes:
        target = one.get("targetId") or ""
        if not ATTRIBUTE_NAME.match(one.get("name") or ""):
            raise AwsError("InvalidParameterException", f"The attribute name '{one.get('name')}' is not valid.")
        if values and "value" in one and not ATTRIBUTE_VALUE.match(one["value"]):
            raise AwsError("InvalidParameterException", f"The attribute value '{one['value']}' is not valid.")
        if not target.startswith("arn:") and one.get("targetType") != "container-instance":
            raise AwsError("InvalidParameterException", "targetType is required with the short form of an id.")
        host = _find_host(state, cluster, target)
        if not host:
            raise AwsError("TargetNotFoundException", f"Could not find target with target id {target}.")
        pairs.append((host, one))
    return pairs


def _attribute_shapes(pairs):
    return {"attributes": [dict(one, targetType="container-instance", targetId=host.arn) for host, one in pairs]}


def put_attributes(world, view, params):
    with world.live() as state:
        pairs = _attributes(state, params, True)
        for host, one in pairs:
            host.attributes[one["name"]] = one.get("value")
    return _attribute_shapes(pairs)


def delete_attributes(world, view, params):
    with world.live() as state:
        pairs = _attributes(state, params, False)
        for host, one in pairs:
            host.attributes.pop(one["name"], None)
    return _attribute_shapes(pairs)


def deregister_container_instance(world, view, params):
    with world.live() as state:
        cluster = _cluster(state, params)
        ident = params.get("containerInstance")
        host = _find_host(state, cluster, ident) if isinstance(ident, str) else None
        if not host or host.status == "INACTIVE":
            raise AwsError("InvalidParameterException", f"Referenced container instance {ident} not found.")
        if params.get("force") is not True and host.running:
            raise AwsError("InvalidParameterException", "Found running tasks on the instance.")
        host.status, host.running = "INACTIVE", 0
        return {"containerInstance": host_shape(host)}


# -- Auto Scaling ---------------------------------------------------------------------------------------------------

def _list(params, name, maximum=None):
    value = params.get(name, [])
    if not isinstance(value, list):
        raise AwsError("ValidationError", f"Value at '{name}' is not a list.")
    if maximum and len(value) > maximum:
        raise AwsError("ValidationError", f"1 validation error detected: Value at '{name}' failed to satisfy "
                                          f"constraint: Member must have length less than or equal to {maximum}")
    return value


def _records(items, params, maximum):
    """(page, NextToken or None)"""
    text = params.get("MaxRecords", str(maximum))
    if not text.isdigit() or not 1 <= int(text) <= maximum:
        raise AwsError("ValidationError", f"MaxRecords must be between 1 and {maximum}.")
    try:
        start = _start(params, "NextToken")
    except ValueError:
        raise AwsError("InvalidNextToken", "The NextToken value is not valid.") from None
    more = start + int(text) < len(items)
    return items[start:start + int(text)], _token(params, "NextToken", start + int(text)) if more else None


def _filters(params):
    """Filters.member.N.Name and .Values.member.M as a dict."""
    return {one.get("Name"): one.get("Values", []) for one in params.get("Filters", [])}


def describe_auto_scaling_instances(world, view, params):
    wanted = _list(params, "InstanceIds", 50)
    members = [one for one in view.instances.values() if one.group and (not wanted or one.id in wanted)]
    page, token = _records(members, params, 50)
    return {"AutoScalingInstances": [{
        "InstanceId": one.id, "AutoScalingGroupName": one.group, "AvailabilityZone": one.zone,
        "LifecycleState": one.lifecycle, "HealthStatus": one.health.upper(), "InstanceType": one.type,
        "ProtectedFromScaleIn": one.protected,
        "LaunchTemplate": {"LaunchTemplateId": "lt-0123456789abcdef0", "LaunchTemplateName": "ecs", "Version": "3"},
    } for one in page], "NextToken": token}


def _group_shape(world, view, group, instances):
    shape = {
        "AutoScalingGroupName": group.name,
        "AutoScalingGroupARN": f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:"
                               f"01234567-89ab-cdef-0123-456789abcdef:autoScalingGroupName/{group.name}",
    }
    template = {"LaunchTemplateId": "lt-0123456789abcdef0", "LaunchTemplateName": "ecs", "Version": "$Latest"}
    if group.weights:
        shape["MixedInstancesPolicy"] = {
            "LaunchTemplate": {"LaunchTemplateSpecification": template, "Overrides": [
                {"InstanceType": kind, "WeightedCapacity": weight} for kind, weight in group.weights.items()]},
            "InstancesDistribution": {"OnDemandAllocationStrategy": "prioritized", "OnDemandBaseCapacity": 0,
                                      "OnDemandPercentageAboveBaseCapacity": 100,
                                      "SpotAllocationStrategy": "lowest-price"},
        }
    else:
        shape["LaunchTemplate"] = template
    shape.update({
        "MinSize": group.min, "MaxSize": group.max, "DesiredCapacity": group.desired, "DefaultCooldown": 300,
        "AvailabilityZones": group.zones, "LoadBalancerNames": [], "TargetGroupARNs": [], "HealthCheckType": "EC2",
        "HealthCheckGracePeriod": 0,
    })
    if instances:
        shape["Instances"] = [{
            "InstanceId": one.id, "InstanceType": one.type, "AvailabilityZone": one.zone,
            "LifecycleState": one.lifecycle, "HealthStatus": one.health, "ProtectedFromScaleIn": one.protected,
        } for one in view.members(group.name)]
    shape.update({
        "CreatedTime": iso(world.now() - 86400, True),
        "SuspendedProcesses": [{"ProcessName": name, "SuspensionReason": f"User suspended at {iso(world.now())}"}
                               for name in sorted(group.suspended)],
        "VPCZoneIdentifier": "subnet-0123456789abcdef0", "EnabledMetrics": [],
        "Tags": [{"ResourceId": group.name, "ResourceType": "auto-scaling-group", "Key": key, "Value": value,
                  "PropagateAtLaunch": True} for key, value in group.tags.items()],
        "TerminationPolicies": ["Default"], "NewInstancesProtectedFromScaleIn": False,
        "ServiceLinkedRoleARN": f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/autoscaling.amazonaws.com/"
                                "AWSServiceRoleForAutoScaling",
        "CapacityRebalance": False, "Status": group.status, "DesiredCapacityType": group.desired_type,
    })
    if group.operator:
        shape["Operator"] = {"Managed": True, "Principal": group.operator}
    return shape


def describe_auto_scaling_groups(world, view, params):
    wanted = _list(params, "AutoScalingGroupNames")
    groups = [group for name, group in view.groups.items() if not wanted or name in wanted]
    page, token = _records(groups, params, 100)
    instances = params.get("IncludeInstances", "true") != "false"
    return {"AutoScalingGroups": [_group_shape(world, view, group, instances) for group in page], "NextToken": token}


def _group(view, params):
    name = params.get("AutoScalingGroupName")
    if not name:
        raise AwsError("ValidationError", "1 validation error detected: Value null at 'autoScalingGroupName' failed to "
                                          "satisfy constraint: Member must not be null")
    if name not in view.groups:
        raise AwsError("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup: {name} not found")
    return view.groups[name]


def describe_instance_refreshes(world, view, params):
    page, token = _records(_group(view, params).refreshes, params, 100)
    return {"InstanceRefreshes": [dict({"AutoScalingGroupName": params["AutoScalingGroupName"]}, **one)
                                  for one in page], "NextToken": token}


def activity_shape(one):
    return {
        "ActivityId": one.id, "AutoScalingGroupName": one.group, "Description": one.description, "Cause": one.cause,
        "StartTime": iso(one.start, True), "EndTime": iso(one.end) if one.end else None, "StatusCode": one.status,
        "StatusMessage": one.message, "Progress": one.progress, "Details": one.details,
        "AutoScalingGroupState": None,
        "AutoScalingGroupARN": f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:"
                               f"01234567-89ab-cdef-0123-456789abcdef:autoScalingGroupName/{one.group}",
    }


def _parse_time(text):
    match = re.match(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)$", text)
    if not match:
        raise AwsError("ValidationError", f"'{text}' is not a valid time stamp.")
    return calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S")) + float(match[2] or 0)


def describe_scaling_activities(world, view, params):
    """An unknown group has no activities: an error says so. Newest first."""
    if params.get("AutoScalingGroupName"):
        activities = list(_group(view, params).activities)
    else:
        activities = sorted((one for group in view.groups.values() for one in group.activities),
                            key=lambda one: -one.start)
    for name, values in _filters(params).items():
        if name not in ("StartTimeLowerBound", "StartTimeUpperBound", "Status"):
            raise AwsError("ValidationError", f"Filter '{name}' is not valid.")
        if not values:
            raise AwsError("ValidationError", f"Filter '{name}' has no values.")
        if name == "Status":
            activities = [one for one in activities if one.status in values]
        elif name == "StartTimeLowerBound":
            activities = [one for one in activities if one.start >= _parse_time(values[0])]
        else:
            activities = [one for one in activities if one.start <= _parse_time(values[0])]
    page, token = _records(activities, params, 100)
    return {"Activities": [activity_shape(one) for one in page], "NextToken": token}


def _not_operated(group):
    if group.operator:
        raise AwsError("ValidationError", f"The Auto Scaling group {group.name} is managed by {group.operator}.")


def _members_in(state, params, lifecycles):
    """(group, ids) of a call about members of a group, all of which are in one of these states."""
    idents, group = _list(params, "InstanceIds", 20), _group(state, params)
    _not_operated(group)
    for ident in idents:
        one = state.instances.get(ident)
        if not INSTANCE_ID.match(ident):
            raise AwsError("ValidationError", f"Instance Id not found - {ident} is not a valid instance id.")
        if not one or one.group != group.name:
            raise AwsError("ValidationError", f"The instance {ident} is not part of Auto Scaling group {group.name}.")
        if one.lifecycle not in lifecycles:
            raise AwsError("ValidationError", f"The instance {ident} is not in {' or '.join(lifecycles)}.")
    return group, idents


def _take_out(world, params, lifecycles, change):
    """DetachInstances and EnterStandby: @change(group, id, decrement) -> Activity."""
    decrement = params.get("ShouldDecrementDesiredCapacity")
    if decrement not in ("true", "false"):
        raise AwsError("ValidationError", "1 validation error detected: Value null at 'shouldDecrementDesiredCapacity' "
                                          "failed to satisfy constraint: Member must not be null")
    with world.live() as state:
        group, idents = _members_in(state, params, lifecycles)
        if decrement == "true" and group.desired - len(idents) < group.min:
            raise AwsError("ValidationError", f"Currently, desiredSize equals {group.desired}. Terminating instance "
                                              "without replacement will violate group's min size constraint.")
        return {"Activities": [activity_shape(change(group.name, ident, decrement == "true")) for ident in idents]}


def detach_instances(world, view, params):
    return _take_out(world, params, ("InService", "Standby"), world.detach)


def enter_standby(world, view, params):
    return _take_out(world, params, ("InService",), world.enter_standby)


def exit_standby(world, view, params):
    with world.live() as state:
        group, idents = _members_in(state, params, ("Standby",))
        if "Launch" in group.suspended:
            raise AwsError("ValidationError", "The Launch process is suspended.")
        if group.desired + len(idents) > group.max:
            raise AwsError("ValidationError", f"AutoScalingGroup {group.name} has max-size={group.max}. Please update "
                                              "the AutoScalingGroup sizes appropriately.")
        return {"Activities": [activity_shape(world.exit_standby(group.name, ident)) for ident in idents]}


def set_instance_health(world, view, params):
    ident, health = params.get("InstanceId", ""), params.get("HealthStatus")
    if health not in ("Healthy", "Unhealthy"):
        raise AwsError("ValidationError", f"Health Status '{health}' is not valid. Valid Health Status values are "
                                          "[Healthy, Unhealthy].")
    if params.get("ShouldRespectGracePeriod", "true") not in ("true", "false"):
        raise AwsError("ValidationError", "ShouldRespectGracePeriod is not a boolean.")
    with world.live() as state:
        one = state.instances.get(ident)
        if not one or not one.group:
            raise AwsError("ValidationError", f"Instance Id not found - No managed instance found for instance ID: {ident}")
        _not_operated(state.groups[one.group])
        world.set_health(ident, health)
    return None


# -- EC2 ------------------------------------------------------------------------------------------------------------

def describe_tags(world, view, params):
    filters = {one.get("Name"): one.get("Value", []) for one in params.get("Filter", [])}
    rows = []
    for one in view.instances.values():
        for key, value in one.tags.items():
            row = {"resource-id": one.id, "resource-type": "instance", "key": key, "value": value}
            if all(name in row and row[name] in values for name, values in filters.items()):
                rows.append("<item>" + xml("resourceId", one.id) + xml("resourceType", "instance")
                            + xml("key", key) + xml("value", value) + "</item>")
    return "<tagSet>" + "".join(rows) + "</tagSet>"


POWER_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


def _power_off(world, params, terminate):
    idents = params.get("InstanceId", [])
    if not isinstance(idents, list) or not idents:
        raise AwsError("MissingParameter", "The request must contain the parameter InstanceId")
    with world.live() as state:
        for ident in idents:
            if not INSTANCE_ID.match(ident):
                raise AwsError("InvalidInstanceID.Malformed", f'Invalid id: "{ident}"')
            one = state.instances.get(ident)
            if not one or (one.power == "terminated" and not terminate):
                raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{ident}' does not exist")
        if params.get("DryRun") == "true":
            raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        spot = next((ident for ident in idents if state.instances[ident].spot), None)
        if spot and not terminate:
            raise AwsError("UnsupportedOperation", f"You can't stop the Spot Instance '{spot}' because it is associated "
                           "with a one-time Spot Instance request. You can only stop Spot Instances associated with "
                           "persistent Spot Instance requests.")
        rows = ""
        for ident in idents:
            before, after = world.power_off(ident, terminate)
            rows += "<item>" + xml("instanceId", ident) + "".join(
                xml(name, {"code": POWER_CODES[power], "name": power})
                for name, power in (("currentState", after), ("previousState", before))) + "</item>"
    return "<instancesSet>" + rows + "</instancesSet>"


def stop_instances(world, view, params):
    return _power_off(world, params, False)


def terminate_instances(world, view, params):
    return _power_off(world, params, True)


HANDLERS = {
    "ecs": {
        "DescribeContainerInstances": describe_container_instances,
        "ListContainerInstances": list_container_instances,
        "DescribeClusters": describe_clusters,
        "UpdateContainerInstancesState": update_container_instances_state,
        "PutAttributes": put_attributes,
        "DeleteAttributes": delete_attributes,
        "DeregisterContainerInstance": deregister_container_instance,
    },
    "autoscaling": {
        "DescribeAutoScalingInstances": describe_auto_scaling_instances,
        "DescribeAutoScalingGroups": describe_auto_scaling_groups,
        "DescribeInstanceRefreshes": describe_instance_refreshes,
        "DescribeScalingActivities": describe_scaling_activities,
        "DetachInstances": detach_instances,
        "EnterStandby": enter_standby,
        "ExitStandby": exit_standby,
        "SetInstanceHealth": set_instance_health,
    },
    "ec2": {
        "DescribeTags": describe_tags,
        "StopInstances": stop_instances,
        "TerminateInstances": terminate_instances,
    },
    "cloudformation": fake_cloudformation.HANDLERS,
}
