"""The quotas of API Gateway that the local APIs enforce, so that what AWS refuses is refused on a laptop too.

Source: "Quotas for configuring and running an HTTP API" and "... a WebSocket API" in the API Gateway developer guide.
Tests and demonstrations shrink them; nothing else should.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KIB = 1024
MIB = 1024 * KIB

# For aiohttp's HTTP parser: its own limits must not refuse a request before ours are checked.
SERVER_OPTIONS: Mapping[str, Any] = {
    "auto_decompress": False,  # a body reaches the function as it was sent
    "max_line_size": MIB,
    "max_field_size": MIB,
    "max_headers": 10_000,
}


@dataclass(frozen=True, slots=True)
class HttpQuotas:
    """Limits of an HTTP API for one request."""

    body_bytes: int = 10 * MIB
    header_bytes: int = 10_240  # the request line and all headers together
    integration_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class WebSocketQuotas:
    """Limits of a WebSocket API for one connection."""

    frame_bytes: int = 32 * KIB
    message_bytes: int = 128 * KIB
    idle_s: float = 600.0
    age_s: float = 7200.0
    integration_timeout_s: float = 29.0
    # AWS publishes no figures for the following; they keep one connection from using up the machine.
    frames_at_once: int = 4  # of one connection, handled at the same time; they start in order
    frames_waiting: int = 64  # of one connection; beyond this its socket is not read
    unsent_bytes: int = 1 * MIB  # posted to a subscriber that does not read; beyond this it is disconnected
    closing_s: float = 5.0  # for the client's answer to a close frame
