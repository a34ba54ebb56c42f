"""The resources of a template that are served here, with everything that is needed to serve them."""

from collections.abc import Mapping
from dataclasses import dataclass
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


def function_name(name_or_arn: str) -> str:
    """Return the bare name of a function given by name, by partial or whole ARN, with or without a qualifier."""
    parts = name_or_arn.split(":")
    if "function" in parts[:-1]:
        return parts[parts.index("function") + 1]
    return parts[0]
