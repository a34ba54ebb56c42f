"""CloudFormation's intrinsic functions, resolved for a run on this machine.

Only what is used is resolved: a stack may hold resources and functions that have no local counterpart, as long as
nothing that is served depends on them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # built without libyaml, which reads our template in an eighth of the time
    from yaml import SafeLoader  # type: ignore[assignment]

from local.template.account import Account

_VARIABLE = re.compile(r"\$\{(!?)([^}]*)\}")


class TemplateError(Exception):
    """The template, or a part of it, cannot be served; the message names the resource and the reason."""


class NoValue:
    """`AWS::NoValue`: the property counts as absent."""


NO_VALUE = NoValue()


class _Loader(SafeLoader):
    """YAML with CloudFormation's short tags: `!Sub x` is `{"Fn::Sub": "x"}`."""


def _short_tag(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    value: Any
    match node:
        case yaml.ScalarNode():
            value = loader.construct_scalar(node)
            if suffix == "GetAtt":
                value = str(value).split(".", 1)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case _:
            assert isinstance(node, yaml.MappingNode)  # noqa: S101 - YAML has no fourth kind
            value = loader.construct_mapping(node, deep=True)
    return {name: value}


_Loader.add_multi_constructor("!", _short_tag)


def parse(text: str) -> dict[str, Any]:
    """Return the template as plain dicts, its short tags in their long form.

    Raises:
        TemplateError: it is not YAML, or not a mapping.
    """
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise TemplateError(f"not valid YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise TemplateError("it has no Resources")
    return document


class Resolver:
    """Values of one template, given its parameters."""

    def __init__(self, document: Mapping[str, Any], parameters: Mapping[str, str], account: Account) -> None:
        self._resources: Mapping[str, Any] = document["Resources"]
        self._conditions: Mapping[str, Any] = document.get("Conditions") or {}
        self._mappings: Mapping[str, Any] = document.get("Mappings") or {}
        self._declared: Mapping[str, Any] = document.get("Parameters") or {}
        self._parameters = parameters
        self._account = account
        self._pseudo: dict[str, Any] = {
            "AWS::NoValue": NO_VALUE,
            "AWS::Region": account.region,
            "AWS::AccountId": account.account_id,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": "local",
            "AWS::StackId": f"arn:aws:cloudformation:{account.region}:{account.account_id}:stack/local/0",
            "AWS::NotificationARNs": [],
        }
        self._functions: dict[str, Callable[[Any, str], Any]] = {
            "Ref": self._ref,
            "Condition": self._named_condition,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::If": self._if,
            "Fn::Equals": self._equals,
            "Fn::And": lambda parts, where: all(self._true(part, where) for part in parts),
            "Fn::Or": lambda parts, where: any(self._true(part, where) for part in parts),
            "Fn::Not": lambda parts, where: not self._true(parts[0], where),
            "Fn::Join": lambda parts, where: str(parts[0]).join(map(str, self.resolve(parts[1], where))),
            "Fn::Split": lambda parts, where: str(self.resolve(parts[1], where)).split(parts[0]),
            "Fn::Select": lambda parts, where: self.resolve(parts[1], where)[int(self.resolve(parts[0], where))],
            "Fn::FindInMap": self._find_in_map,
        }

    def resolve(self, value: Any, where: str) -> Any:
        """Return *value* without intrinsic functions; *where* stands in the errors.

        Raises:
            TemplateError: something in it has no value on this machine.
        """
        if isinstance(value, Mapping):
            if len(value) == 1 and (name := next(iter(value))) in self._functions:
                return self._functions[name](value[name], where)
            for name in value:
                if str(name).startswith("Fn::"):
                    raise TemplateError(f"{where}: {name} is not supported locally")
            pairs = ((key, self.resolve(item, where)) for key, item in value.items())
            return {key: item for key, item in pairs if item is not NO_VALUE}
        if isinstance(value, list):
            items = (self.resolve(item, where) for item in value)
            return [item for item in items if item is not NO_VALUE]
        return value

    def exists(self, resource: Mapping[str, Any], where: str) -> bool:
        """Tell whether the resource's condition holds."""
        return "Condition" not in resource or self._named_condition(resource["Condition"], where)

    def _ref(self, name: str, where: str) -> Any:
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._declared:
            return self._parameter(name, where)
        base, _, alias = name.partition(".")
        resource = self._resources.get(base)
        if resource is None:
            raise TemplateError(f"{where}: !Ref {name}: the template has no such parameter or resource")
        if alias:  # `!Ref Function.Alias`, the function's live alias
            return f"{self._account.function_arn(base)}:{_properties(resource).get('AutoPublishAlias', alias)}"
        return base

    def _parameter(self, name: str, where: str) -> Any:
        if name in self._parameters:
            value: Any = self._parameters[name]
        elif "Default" in self._declared[name]:
            value = self._declared[name]["Default"]
        else:
            raise TemplateError(f"{where}: the parameter {name} has no default, and this run gives it no value")
        if "List" in str(self._declared[name].get("Type", "")):
            return [part.strip() for part in str(value).split(",")]
        return value

    def _get_att(self, parts: Any, where: str) -> Any:
        name, attribute = parts.split(".", 1) if isinstance(parts, str) else (parts[0], parts[1])
        kind = (self._resources.get(name) or {}).get("Type")
        if kind == "AWS::Serverless::Function" and attribute == "Arn":
            return self._account.function_arn(name)
        if attribute == "ApiEndpoint" and kind in {"AWS::Serverless::HttpApi", "AWS::Serverless::WebSocketApi"}:
            scheme = "https" if kind.endswith("HttpApi") else "wss"
            return f"{scheme}://{name}.execute-api.{self._account.region}.amazonaws.com"
        raise TemplateError(f"{where}: !GetAtt {name}.{attribute} ({kind or 'no such resource'}) has no local value")

    def _sub(self, value: Any, where: str) -> str:
        text, own = (value, {}) if isinstance(value, str) else (value[0], value[1])

        def replace(match: re.Match[str]) -> str:
            literal, name = match[1], match[2].strip()
            if literal:
                return "${" + name + "}"
            if name in own:
                return str(self.resolve(own[name], where))
            known = name in self._pseudo or name in self._declared or name in self._resources
            return str(
                self._ref(name, where)
                if known
                else self._get_att(name, where)
                if "." in name
                else self._ref(name, where)
            )

        return _VARIABLE.sub(replace, text)

    def _if(self, parts: Sequence[Any], where: str) -> Any:
        return self.resolve(parts[1] if self._named_condition(parts[0], where) else parts[2], where)

    def _equals(self, parts: Sequence[Any], where: str) -> bool:
        left, right = (str(self.resolve(part, where)) for part in parts)
        return left == right

    def _named_condition(self, name: str, where: str) -> bool:
        if name not in self._conditions:
            raise TemplateError(f"{where}: the template has no condition {name}")
        return self._true(self._conditions[name], f"Conditions.{name}")

    def _true(self, value: Any, where: str) -> bool:
        return bool(self.resolve(value, where))

    def _find_in_map(self, parts: Sequence[Any], where: str) -> Any:
        found: Any = self._mappings
        for part in parts[:3]:
            key = self.resolve(part, where)
            if not isinstance(found, Mapping) or key not in found:
                raise TemplateError(f"{where}: Fn::FindInMap finds no {key}")
            found = found[key]
        return self.resolve(found, where)


def _properties(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    return resource.get("Properties") or {}
