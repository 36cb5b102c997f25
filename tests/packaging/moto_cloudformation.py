# SPDX-License-Identifier: Apache-2.0
"""What moto's CloudFormation lacks for our templates: import it before a Moto is made.

    AWS::CloudWatch::Alarm, AWS::ECS::CapacityProvider, AWS::ECS::ClusterCapacityProviderAssociations
                              are not known there: made by calls of boto3 to moto's own services, which check names and types
    Policies of a role        keeps the hole that AWS::NoValue leaves in a list, and writes documents as Python, not as JSON
"""

import json

import boto3
from moto.cloudformation import parsing
from moto.iam.models import Role

SERVER = {}  # "url": of the Moto that is running


def client(service, region):
    return boto3.client(service, endpoint_url=SERVER["url"], region_name=region, aws_access_key_id="testing",
                        aws_secret_access_key="testing")


def camel(value):
    """CloudFormation's spelling as the API of ECS has it."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: camel(one) for key, one in value.items()}
    return [camel(one) for one in value] if isinstance(value, list) else value


def numbers(value, *names):
    """Parameters are text in CloudFormation, which turns them into what the API takes."""
    return {key: (float(one) if key == "Threshold" else int(one)) if key in names else one for key, one in value.items()
            if one is not None}


class _Made:
    """What moto's CloudFormation calls of a resource; its own base class is for modules of moto's own."""

    attributes = ()

    def __init__(self, ident, arn=None):
        self.physical_resource_id, self.arn = ident, arn

    @classmethod
    def has_cfn_attr(cls, attr):
        return attr in cls.attributes

    def get_cfn_attribute(self, attribute_name):
        assert attribute_name in self.attributes
        return self.arn

    @classmethod
    def update_from_cloudformation_json(cls, *_):
        raise NotImplementedError("stacks are made here, not updated")

    @classmethod
    def delete_from_cloudformation_json(cls, *_):
        pass

    def is_created(self):
        return True


class Alarm(_Made):
    attributes = ("Arn",)

    @staticmethod
    def cloudformation_type():
        return "AWS::CloudWatch::Alarm"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
        properties = numbers(cloudformation_json["Properties"], "Threshold", "Period", "EvaluationPeriods")
        cloudwatch = client("cloudwatch", region_name)
        cloudwatch.put_metric_alarm(**properties)
        name = properties["AlarmName"]
        return cls(name, cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmArn"])


class CapacityProvider(_Made):
    @staticmethod
    def cloudformation_type():
        return "AWS::ECS::CapacityProvider"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
        details = camel(cloudformation_json["Properties"]["AutoScalingGroupProvider"])
        client("ecs", region_name).create_capacity_provider(name=resource_name, autoScalingGroupProvider=details)
        return cls(resource_name)


class Associations(_Made):
    @staticmethod
    def cloudformation_type():
        return "AWS::ECS::ClusterCapacityProviderAssociations"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
        client("ecs", region_name).put_cluster_capacity_providers(**camel(cloudformation_json["Properties"]))
        return cls(resource_name)


_create_role = Role.create_from_cloudformation_json.__func__


def _create_whole_role(cls, resource_name, cloudformation_json, *arguments, **more):
    properties = cloudformation_json["Properties"]
    properties["Policies"] = [dict(one, PolicyDocument=json.dumps(one["PolicyDocument"]))
                              for one in properties.get("Policies", []) if one]
    return _create_role(cls, resource_name, cloudformation_json, *arguments, **more)


Role.create_from_cloudformation_json = classmethod(_create_whole_role)
for _model in Alarm, CapacityProvider, Associations:
    parsing.get_model_map()[_model.cloudformation_type()] = _model
