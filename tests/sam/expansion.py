"""template.yaml as CloudFormation gets it: SAM's transform applied on this machine, for one choice of parameters."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from samcli.lib.translate.sam_template_validator import SamTemplateValidator
from samcli.yamlhelper import yaml_parse

from local.template.account import Account
from local.template.intrinsics import NO_VALUE, Resolver, parse

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
REGION = "eu-central-1"

NEW_STORES = {"AlarmEmail": "team@example.org"}
EXISTING_STORES = {
    "RedisUrl": "rediss://old.example.org:6379",
    "DatabaseHost": "old.example.org",
    "DatabaseSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:old-a1b2c3",
    "VpcId": "vpc-0123456789abcdef0",
    "SubnetIds": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
    "ClientSecurityGroupId": "sg-0123456789abcdef0",
}
DOMAINS = {
    "DomainName": "vote.example.org",
    "LiveDomainName": "live.example.org",
    "CertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/0",
    "HostedZoneId": "Z0123456789",
}
LOGGED = {"WebSocketAccessLogs": "true", "ApiGatewayAccountRole": "true"}
NAT = {"Egress": "nat"}


class NoManagedPolicies:
    """The template names none by a short name, so nobody has to ask IAM for their ARNs."""

    def load(self) -> dict[str, str]:
        return {}


def declared() -> dict[str, Any]:
    """The template as it is written, with short tags in their long form."""
    return copy.deepcopy(_declared())


@cache
def _declared() -> dict[str, Any]:
    document: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
    return document


def expand(parameters: Mapping[str, str] | None = None, **layer: str) -> str:
    """The template after the transform, which spends the *parameters* as `sam deploy` has it do.

    *layer* replaces properties of the layer.
    """
    return _expand(frozenset((parameters or {}).items()), frozenset(layer.items()))


@cache
def _expand(parameters: frozenset[tuple[str, str]], layer: frozenset[tuple[str, str]]) -> str:
    document = declared()
    document["Resources"]["VotingLayer"]["Properties"] |= dict(layer)
    return translate(document, dict(parameters))


def translate(document: Mapping[str, Any], parameters: Mapping[str, str]) -> str:
    """*document* after the transform, with *parameters* that are given by hand."""
    validator = SamTemplateValidator(document, NoManagedPolicies(), region=REGION, parameter_overrides=dict(parameters))
    text: str = validator.get_translated_template_if_valid()
    return text


@dataclass(frozen=True)
class Expansion:
    """The resources that one choice of parameters makes: conditions decided, references left."""

    resources: Mapping[str, Mapping[str, Any]]

    def of(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """The properties of all resources of a type, by logical id."""
        return {name: self.properties(name) for name, one in self.resources.items() if one["Type"] == kind}

    def properties(self, name: str) -> Mapping[str, Any]:
        properties: Mapping[str, Any] = self.resources[name].get("Properties", {})
        return properties


def expansion(parameters: Mapping[str, str], **layer: str) -> Expansion:
    document = parse(expand(parameters, **layer))
    resolver = Resolver(document, parameters, Account(region=REGION))

    def decide(value: Any) -> Any:
        """*value* with every Fn::If decided, and everything else left as it is."""
        if isinstance(value, dict):
            if value.keys() == {"Fn::If"}:
                condition, yes, no = value["Fn::If"]
                return decide(yes if resolver.exists({"Condition": condition}, "") else no)
            if value == {"Ref": "AWS::NoValue"}:
                return NO_VALUE
            decided = {key: decide(item) for key, item in value.items()}
            return {key: item for key, item in decided.items() if item is not NO_VALUE}
        if isinstance(value, list):
            return [item for item in map(decide, value) if item is not NO_VALUE]
        return value

    resources = document["Resources"]
    return Expansion({name: decide(one) for name, one in resources.items() if resolver.exists(one, name)})


def strings(value: Any) -> Iterator[str]:
    """All texts in *value*, at any depth, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
