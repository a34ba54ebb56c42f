"""The resources of a template that are served here, with everything that is needed to serve them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Function:
    """An AWS::Serverless::Function, the Globals merged in."""

    name: str  # its logical id
    code: Path
    handler: str
    timeout_s: float
    memory_mb: int
    environment: Mapping[str, str]
    layers: tuple[Path, ...]
    reserved_concurrency: int | None
    retries: int  # of asynchronous invocations
    event_age_s: float
    log_format: str = "Text"


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """A route of the HTTP API: matched exactly, but for `$default`, which takes the rest."""

    method: str  # "ANY" takes every method
    path: str
    function: str


@dataclass(frozen=True, slots=True)
class WebSocketStage:
    """The WebSocket API: its stage, and which function serves which route key."""

    api_id: str
    stage: str
    route_selection: str
    routes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A ScheduleV2 of a fixed rate."""

    function: str
    name: str
    every_s: float
    retries: int
    event_age_s: float
    payload: str | None


@dataclass(frozen=True, slots=True)
class Template:
    """All that is served."""

    functions: Mapping[str, Function]
    http_api_id: str
    http_routes: tuple[HttpRoute, ...]
    websocket: WebSocketStage | None
    schedules: tuple[Schedule, ...]

    @property
    def pages(self) -> list[str]:
        """The paths that a browser can open."""
        return [
            route.path for route in self.http_routes if route.method in {"GET", "ANY"} and route.path.startswith("/")
        ]

    def declares(self, variable: str) -> bool:
        """Tell whether a function has *variable* in its environment."""
        return any(variable in function.environment for function in self.functions.values())

    def with_variables(self, values: Mapping[str, str]) -> "Template":
        """Return this template with *values* in the place of the variables of these names, where they are declared."""
        functions = {}
        for name, function in self.functions.items():
            own = {variable: value for variable, value in values.items() if variable in function.environment}
            functions[name] = replace(function, environment={**function.environment, **own})
        return replace(self, functions=functions)


def short_name(function: str) -> str:
    """Return the logical id *function* as logs show it, without the word Function at its end."""
    return function.removesuffix("Function") or function


def function_name(name_or_arn: str) -> str:
    """Return the bare name of a function given by name, by partial or whole ARN, with or without a qualifier."""
    parts = name_or_arn.split(":")
    if "function" in parts[:-1]:
        return parts[parts.index("function") + 1]
    return parts[0]
