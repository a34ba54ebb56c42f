"""Reads template.yaml: its resources that are served here, with parameters and references resolved."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.template.account import Account
from local.template.intrinsics import Resolver, TemplateError, parse
from local.template.resources import Function, HttpRoute, Schedule, Template, WebSocketStage, function_name

_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_SECONDS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
_FUNCTION = "AWS::Serverless::Function"
_LAYER = "AWS::Serverless::LayerVersion"
_HTTP_API = "AWS::Serverless::HttpApi"
_WEBSOCKET_API = "AWS::Serverless::WebSocketApi"
_STORED_SECRET = "AWS::SecretsManager::Secret"  # noqa: S105 - the name of a type
_EVENT_PROPERTIES = {"Path", "Method", "State", "ScheduleExpression", "RetryPolicy", "Input"}
_DYNAMIC = re.compile(r"\{\{resolve:([^}]*)\}\}")
_GENERATED_LENGTH = 32  # of a secret that Secrets Manager generates, if the template gives none
_DEFAULTS: Mapping[str, Any] = {  # of a function's properties, where the template gives none
    "Runtime": "",
    "CodeUri": None,
    "Handler": "app.handler",
    "Timeout": 3,
    "MemorySize": 128,
    "Layers": [],
    "ReservedConcurrentExecutions": None,
    "EventInvokeConfig": {},
    "LoggingConfig": {},
}
# Globals that are lists or mappings are merged with the function's own; the others are replaced by its own.
_MERGED = ("Environment", "Layers", "Tags", "EventInvokeConfig", "LoggingConfig")


@dataclass(frozen=True, slots=True)
class Run:
    """The values that this run gives to the template."""

    account: Account = field(default_factory=Account)
    parameters: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)  # replace what functions declare, by name
    http_url: str = "http://127.0.0.1:3000"
    websocket_url: str = "ws://127.0.0.1:3001"
    # Generates the value of a secret parameter (NoEcho, with a MinLength and no default) or of a secret resource, from
    # its name, its minimum length, and the different name that it had in an earlier version, if any.
    secret: Callable[[str, int, str | None], str] = lambda name, length, _former: name.ljust(length, "-")


def load(path: Path, run: Run) -> Template:
    """Read the template at *path* with the values of *run*.

    Addresses of the template's own APIs in the functions' variables become local ones.

    Raises:
        TemplateError: it cannot be read, or needs something that has no local counterpart.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path}: it is not UTF-8 (byte {error.start})") from error
    try:
        return _Reader(path.parent.resolve(), parse(text), run).template()
    except TemplateError as error:
        raise TemplateError(f"{path}: {error}") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # CloudFormation would refuse it too. Checking every type before its use would double this module.
        raise TemplateError(f"{path}: a value has the wrong form ({error})") from error


class _Reader:
    """Walks the resources of one parsed template."""

    def __init__(self, folder: Path, document: Mapping[str, Any], run: Run) -> None:
        self._folder = folder
        self._run = run
        self._globals: Mapping[str, Any] = (document.get("Globals") or {}).get("Function") or {}
        self._declared: Mapping[str, Any] = document.get("Parameters") or {}
        self._metadata: Mapping[str, Any] = (document.get("Metadata") or {}).get("Local") or {}
        self._resolver = Resolver(document, self._parameters(), run.account)
        self._resources: dict[str, Mapping[str, Any]] = {
            name: resource for name, resource in document["Resources"].items() if self._resolver.exists(resource, name)
        }

    def template(self) -> Template:
        functions = {name: self._function(name) for name in self._of(_FUNCTION)}
        return Template(
            functions=functions,
            http_api_id=self._http_api(),
            http_routes=tuple(route for name in functions for route in self._routes(name)),
            websocket=self._websocket(functions),
            schedules=tuple(schedule for name in functions for schedule in self._schedules(name)),
        )

    def _parameters(self) -> dict[str, str]:
        """Return the parameters of this run, which precede those in the template's Metadata for local runs."""
        given = {**(self._metadata.get("Parameters") or {}), **self._run.parameters}
        for name, parameter in self._declared.items():
            is_secret = str(parameter.get("NoEcho", "")).lower() == "true" and "MinLength" in parameter
            if is_secret and "Default" not in parameter and name not in given:
                given[name] = self._secret(name, int(parameter["MinLength"]))
        return given

    def _of(self, kind: str) -> list[str]:
        return [name for name, resource in self._resources.items() if resource.get("Type") == kind]

    def _properties(self, name: str) -> Mapping[str, Any]:
        return self._resources[name].get("Properties") or {}

    # ------------------------------------------------------------ functions

    def _function(self, name: str) -> Function:
        declared = self._declared_of(name)
        own = {key: self._setting(name, key, value) for key, value in declared.items() if key in _DEFAULTS}
        settings = {**_DEFAULTS} | {key: value for key, value in own.items() if value is not None}
        if not str(settings["Runtime"]).startswith("python"):
            raise TemplateError(f"{name}.Runtime: {own.get('Runtime')} is not supported locally (python is)")
        asynchronous, reserved = settings["EventInvokeConfig"], settings["ReservedConcurrentExecutions"]
        return Function(
            name=name,
            code=self._code(name, settings["CodeUri"]),
            handler=str(settings["Handler"]),
            timeout_s=float(settings["Timeout"]),
            memory_mb=int(settings["MemorySize"]),
            environment=dict(self._variables(name, (declared.get("Environment") or {}).get("Variables") or {})),
            layers=tuple(self._layer(layer, name) for layer in settings["Layers"]),
            reserved_concurrency=None if reserved is None else int(reserved),
            retries=int(asynchronous.get("MaximumRetryAttempts", 2)),
            event_age_s=float(asynchronous.get("MaximumEventAgeInSeconds", 21600)),
            log_format=str(settings["LoggingConfig"].get("LogFormat", "Text")),
        )

    def _declared_of(self, function: str) -> dict[str, Any]:
        """Return the properties of *function* as they are written, with the template's Globals."""
        properties = self._properties(function)
        declared = {**self._globals, **properties}
        for key in _MERGED:
            declared[key] = _merge(self._globals.get(key), properties.get(key))
        # Destinations for failed events have no local counterpart; the log shows failures.
        invoke = declared["EventInvokeConfig"] or {}
        declared["EventInvokeConfig"] = {key: value for key, value in invoke.items() if key != "DestinationConfig"}
        return declared

    def _setting(self, function: str, key: str, value: Any) -> Any:
        return self._resolver.resolve({key: value}, f"{function}.{key}").get(key)

    def _code(self, function: str, uri: Any) -> Path:
        if not isinstance(uri, str):
            raise TemplateError(f"{function}.CodeUri: only a folder is supported locally")
        return self._path(uri, f"{function}.CodeUri")

    def _variables(self, function: str, declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for name, value in declared.items():
            if name in self._run.variables:
                yield name, self._run.variables[name]
                continue
            where = f"{function}.Environment.Variables.{name}"
            resolved = self._resolver.resolve({name: value}, where)
            if name in resolved:
                yield name, self._reveal(self._localize(_text(resolved[name])), where)

    def _reveal(self, value: str, where: str) -> str:
        """Replace dynamic references to secrets that the template generates by local secrets."""

        def secret(reference: re.Match[str]) -> str:
            service, _, name = reference[1].partition(":")
            name = name.partition(":")[0]
            if service != "secretsmanager" or name not in self._of(_STORED_SECRET):
                raise TemplateError(f"{where}: {reference[0]} is not a secret of this template and has no local value")
            generated = self._properties(name).get("GenerateSecretString") or {}
            return self._secret(name, int(generated.get("PasswordLength", _GENERATED_LENGTH)))

        return _DYNAMIC.sub(secret, value)

    def _secret(self, name: str, length: int) -> str:
        return self._run.secret(name, length, (self._metadata.get("FormerSecrets") or {}).get(name))

    def _localize(self, value: str) -> str:
        """Replace the beginning of an address of the template's own APIs by their local address."""
        host = f".execute-api.{self._run.account.region}.amazonaws.com"
        for kind, url in ((_HTTP_API, self._run.http_url), (_WEBSOCKET_API, self._run.websocket_url)):
            plain = url.partition("://")[2]
            for name in self._of(kind):
                for scheme, local in (("https", "http"), ("wss", "ws")):
                    if value.startswith(f"{scheme}://{name}{host}"):
                        return f"{local}://{plain}{value.removeprefix(f'{scheme}://{name}{host}')}"
        return value

    def _layer(self, name: Any, function: str) -> Path:
        if name not in self._of(_LAYER):
            raise TemplateError(f"{function}.Layers: {name} is not an AWS::Serverless::LayerVersion of this template")
        code = self._resolver.resolve(self._properties(name).get("ContentUri"), f"{name}.ContentUri")
        return self._path(str(code), f"{name}.ContentUri")

    def _path(self, relative: str, where: str) -> Path:
        path = (self._folder / relative).resolve()
        if not path.is_dir():
            raise TemplateError(f"{where}: no folder {path}")
        return path

    # ------------------------------------------------------------ what calls them

    def _events(self, function: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for name, event in (self._properties(function).get("Events") or {}).items():
            where = f"{function}.Events.{name}"
            if event.get("Type") not in {"HttpApi", "ScheduleV2"}:
                raise TemplateError(f"{where}: {event.get('Type')} is not supported locally (HttpApi, ScheduleV2 are)")
            properties = event.get("Properties") or {}
            # Only what is read below: a schedule may name a queue that has no local value.
            used = {key: value for key, value in properties.items() if key in _EVENT_PROPERTIES}
            yield name, event["Type"], self._resolver.resolve(used, where)

    def _http_api(self) -> str:
        names = self._of(_HTTP_API)
        if len(names) > 1:
            raise TemplateError(f"{names[1]}: one HTTP API is supported locally, {names[0]} is served")
        return names[0] if names else "ServerlessHttpApi"

    def _routes(self, function: str) -> Iterator[HttpRoute]:
        for _, kind, properties in self._events(function):
            if kind == "HttpApi":
                # Without Path and Method it is the route for the rest.
                path = str(properties.get("Path", "$default"))
                yield HttpRoute(str(properties.get("Method", "ANY")).upper().replace("*", "ANY"), path, function)

    def _schedules(self, function: str) -> Iterator[Schedule]:
        for name, kind, properties in self._events(function):
            if kind != "ScheduleV2" or properties.get("State") == "DISABLED":
                continue
            expression = str(properties.get("ScheduleExpression"))
            rate = _RATE.fullmatch(expression)
            if rate is None:
                where = f"{function}.Events.{name}"
                raise TemplateError(f"{where}: {expression} is not supported locally (rate(1 minute) and the like are)")
            retry = properties.get("RetryPolicy") or {}
            yield Schedule(
                function=function,
                name=function + name,
                every_s=int(rate[1]) * _SECONDS[rate[2]],
                retries=int(retry.get("MaximumRetryAttempts", 185)),
                event_age_s=float(retry.get("MaximumEventAgeInSeconds", 86400)),
                payload=properties.get("Input"),
            )

    def _websocket(self, functions: Mapping[str, Function]) -> WebSocketStage | None:
        names = self._of(_WEBSOCKET_API)
        if not names:
            return None
        if len(names) > 1:
            raise TemplateError(f"{names[1]}: one WebSocket API is supported locally, {names[0]} is served")
        api = names[0]
        properties = self._properties(api)
        routes = {}
        for key, route in (properties.get("Routes") or {}).items():
            where = f"{api}.Routes.{key}.FunctionArn"
            function = function_name(str(self._resolver.resolve(route.get("FunctionArn"), where)))
            if function not in functions:
                raise TemplateError(f"{where}: {function} is not a function of this template")
            routes[key] = function
        selection = properties.get("RouteSelectionExpression", "$request.body.action")
        stage = self._resolver.resolve(properties.get("StageName", "default"), f"{api}.StageName")
        return WebSocketStage(api_id=api, stage=str(stage), route_selection=str(selection), routes=routes)


def _merge(shared: Any, own: Any) -> Any:
    if isinstance(shared, Mapping) and isinstance(own, Mapping):
        return {**shared, **{key: _merge(shared.get(key), value) for key, value in own.items()}}
    if isinstance(shared, list) and isinstance(own, list):
        return shared + own
    return shared if own is None else own


def _text(value: Any) -> str:
    """Write a variable as CloudFormation does."""
    return str(value).lower() if isinstance(value, bool) else str(value)
