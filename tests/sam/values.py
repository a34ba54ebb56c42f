"""What CloudFormation has against the values of parameters, before it makes anything: moto does not look at them.

Sources: CloudFormation User Guide, "Parameters section syntax" and "Rules section syntax". A pattern must match the
whole value; MinLength and MaxLength count characters; MinValue and MaxValue bound numbers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from local.template.account import Account
from local.template.intrinsics import Resolver


def refused(document: Mapping[str, Any], parameters: Mapping[str, str]) -> list[str]:
    """What the template *document* has against *parameters*: a line each, none if it takes them."""
    declared = document["Parameters"]
    unknown = [f"{name} is no parameter" for name in parameters if name not in declared]
    missing = [
        f"{name} has no value" for name, one in declared.items() if not {name} & {*parameters} | {"Default"} & {*one}
    ]
    values = {name: parameters.get(name, one.get("Default")) for name, one in declared.items()}
    wrong = [f"{name}: {fault}" for name, one in declared.items() for fault in _faults(one, str(values[name]))]
    return unknown + missing + wrong + ([] if unknown + missing else list(broken_rules(document, parameters)))


def _faults(declared: Mapping[str, Any], value: str) -> Iterator[str]:
    if value not in map(str, declared.get("AllowedValues", [value])):
        yield "not one of AllowedValues"
    if not re.fullmatch(declared.get("AllowedPattern", ".*"), value, re.DOTALL):
        yield "AllowedPattern"
    if not int(declared.get("MinLength", 0)) <= len(value) <= int(declared.get("MaxLength", len(value))):
        yield "its length"
    if declared["Type"] == "Number":
        if not re.fullmatch(r"-?\d+(\.\d+)?", value):
            yield "no number"
        elif not float(declared.get("MinValue", value)) <= float(value) <= float(declared.get("MaxValue", value)):
            yield "out of bounds"


def broken_rules(document: Mapping[str, Any], parameters: Mapping[str, str]) -> Iterator[str]:
    """The descriptions of the assertions that *parameters* do not keep."""
    resolver = Resolver(document, parameters, Account())

    def holds(rule: Mapping[str, Any]) -> bool:
        ((name, parts),) = rule.items()
        deciders: dict[str, Callable[[], bool]] = {
            "Fn::Not": lambda: not holds(parts[0]),
            "Fn::And": lambda: all(map(holds, parts)),
            "Fn::Or": lambda: any(map(holds, parts)),
            "Fn::EachMemberIn": lambda: set(resolver.resolve(parts[0], "")) <= set(parts[1]),
        }
        return deciders[name]() if name in deciders else bool(resolver.resolve(rule, ""))

    for rule in document["Rules"].values():
        if holds(rule["RuleCondition"]):
            for assertion in rule["Assertions"]:
                if not holds(assertion["Assert"]):
                    yield assertion["AssertDescription"]
