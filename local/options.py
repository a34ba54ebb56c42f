"""The options of a run, as the command line takes them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What to serve, where, and within which limits."""

    template: Path
    http_port: int = 3000
    websocket_port: int = 3001
    lambda_port: int = 3002
    environments: int = 10
    reload: bool = True
    access_log: bool = False
    websocket_idle_s: float = 600.0
    websocket_max_age_s: float = 7200.0
    allow_hosts: tuple[str, ...] = ()  # in addition to loopback names
    also: tuple[tuple[str, str], ...] = ()  # companions: name and command
