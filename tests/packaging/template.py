# SPDX-License-Identifier: Apache-2.0
"""Reads a CloudFormation template and answers what it makes, as far as our own templates go.

    alarms = Template("ecs-health-agent-alarms.yaml", ClusterName="demo", AutoScalingGroupName="demo-asg").alarms()

A Ref to a resource gives the resource's logical id. Of the functions, those that the templates use: Ref, Sub, If, Equals,
Not, And, Or, Join, Select, Split, GetAtt, Base64. Needs PyYAML.
"""

import json
import pathlib
import re

import yaml

DIRECTORY = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "cloudformation"
ALARMS = "ecs-health-agent-alarms.yaml"
STACK = "ecs-health-agent-stack.yaml"

PSEUDO = {"AWS::Region": "eu-west-1", "AWS::Partition": "aws", "AWS::AccountId": "123456789012",
          "AWS::URLSuffix": "amazonaws.com", "AWS::StackName": "demo",
          "AWS::StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/demo/1"}
NOTHING = object()  # AWS::NoValue


class _Loader(yaml.SafeLoader):
    """!Sub x becomes {"Fn::Sub": x}."""


def _construct(loader, suffix, node):
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {name: value.split(".", 1) if name == "Fn::GetAtt" else value}


_Loader.add_multi_constructor("!", _construct)


def read(name):
    """The template as plain data, functions not yet resolved."""
    return yaml.load((DIRECTORY / name).read_text(encoding="utf-8"), _Loader)


class Template:
    def __init__(self, name, **parameters):
        self.whole = read(name)
        unknown = set(parameters) - set(self.whole["Parameters"])
        assert not unknown, f"{name} has no parameter {unknown}"
        self.values = dict(PSEUDO)
        for key, about in self.whole["Parameters"].items():
            value = parameters.get(key, about.get("Default"))
            assert value is not None, f"{name}: the parameter {key} has no default and no value"
            self.values[key] = value

    def condition(self, name):
        return self.resolve(self.whole["Conditions"][name])

    def resolve(self, value):
        if isinstance(value, list):
            return [one for one in map(self.resolve, value) if one is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            key, argument = next(iter(value.items()))
            function = getattr(self, "_" + key.replace("Fn::", "").lower(), None) if key.startswith("Fn::") or key in (
                "Ref", "Condition") else None
            if key.startswith("Fn::"):
                assert function, f"{key} is not known here"
            if function:
                return function(argument)
        pairs = ((key, self.resolve(one)) for key, one in value.items())
        return {key: one for key, one in pairs if one is not NOTHING}

    def _ref(self, name):
        if name == "AWS::NoValue":
            return NOTHING
        assert name in self.values or name in self.whole["Resources"], f"Ref to {name}, which is not there"
        return self.values.get(name, name)

    def _condition(self, name):
        return self.condition(name)

    def _getatt(self, argument):
        resource, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        assert resource in self.whole["Resources"], f"GetAtt of {resource}, which is not there"
        return f"arn:of:{resource}" if attribute.endswith("Arn") else f"{attribute} of {resource}"

    def _sub(self, argument):
        text, more = argument if isinstance(argument, list) else (argument, {})
        more = {key: self.resolve(one) for key, one in more.items()}

        def replaced(match):
            name = match[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in more:
                return str(more[name])
            return str(self._getatt(name) if "." in name else self._ref(name))

        return re.sub(r"\$\{([^}]+)\}", replaced, text)

    def _if(self, argument):
        name, yes, no = argument
        return self.resolve(yes if self.condition(name) else no)

    def _equals(self, argument):
        one, other = self.resolve(argument)
        return str(one) == str(other)

    def _not(self, argument):
        return not self.resolve(argument[0])

    def _and(self, argument):
        return all(self.resolve(argument))

    def _or(self, argument):
        return any(self.resolve(argument))

    def _join(self, argument):
        delimiter, parts = argument
        return delimiter.join(map(str, self.resolve(parts)))

    def _select(self, argument):
        number, parts = argument
        return self.resolve(parts)[int(number)]

    def _split(self, argument):
        delimiter, text = argument
        return str(self.resolve(text)).split(delimiter)

    def _base64(self, argument):
        return self.resolve(argument)  # as it was: to be read here, not decoded

    def resources(self, kind):
        """{logical id: properties} of those whose condition holds."""
        return {name: self.resolve(one.get("Properties", {})) for name, one in self.whole["Resources"].items()
                if one["Type"] == kind and ("Condition" not in one or self.condition(one["Condition"]))}

    def alarms(self):
        return self.resources("AWS::CloudWatch::Alarm")

    def dashboard(self):
        """The body of the one dashboard, as data; None without one."""
        bodies = [one["DashboardBody"] for one in self.resources("AWS::CloudWatch::Dashboard").values()]
        assert len(bodies) < 2
        return json.loads(bodies[0]) if bodies else None
