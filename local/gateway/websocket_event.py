"""The events that a WebSocket API sends to a Lambda function: $connect, messages and $disconnect.

Source: "Set up a WebSocket API integration request" and "$context variables for WebSocket APIs" in the API Gateway
developer guide.
"""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from local.gateway.event import HOP_BY_HOP, MalformedAnswer, format_time, new_id, read_status, trace_id
from local.gateway.websocket_connection import Ending, Identity


@dataclass(frozen=True, slots=True)
class Origin:
    """The API, its stage and its domain name: what all events of a connection share."""

    api_id: str
    stage: str
    domain_name: str  # with the port, unlike on AWS: functions build the @connections URL from it


def connect_event(
    origin: Origin, identity: Identity, headers: Sequence[tuple[bytes, bytes]], query: str, port: int
) -> dict[str, Any]:
    """Build the event of $connect: the only one with the client's headers and query."""
    event = _event(origin, identity, "$connect", "CONNECT")
    event["multiValueHeaders"] = _headers(headers, identity, port)
    event["headers"] = {name: values[-1] for name, values in event["multiValueHeaders"].items()}
    if query:
        parameters: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            parameters.setdefault(name, []).append(value)
        event["queryStringParameters"] = {name: values[-1] for name, values in parameters.items()}
        event["multiValueQueryStringParameters"] = parameters
    return event


def message_event(origin: Origin, identity: Identity, route_key: str, message: str | bytes) -> dict[str, Any]:
    """Build the event of one message; a binary one is encoded as Base64."""
    event = _event(origin, identity, route_key, "MESSAGE")
    event["requestContext"]["messageId"] = new_id()
    if isinstance(message, bytes):
        event |= {"body": base64.b64encode(message).decode(), "isBase64Encoded": True}
    else:
        event["body"] = message
    return event


def disconnect_event(origin: Origin, identity: Identity, ending: Ending) -> dict[str, Any]:
    """Build the event of $disconnect."""
    event = _event(origin, identity, "$disconnect", "DISCONNECT")
    event["requestContext"]["disconnectStatusCode"] = ending.code
    event["requestContext"]["disconnectReason"] = ending.reason
    headers = {"Host": origin.domain_name, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
    event["headers"] = headers
    event["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    return event


def response_of(payload: bytes) -> dict[str, Any]:
    """Read what a function returned.

    Raises:
        MalformedAnswer: it is not an object with a statusCode.
    """
    answer = json.loads(payload)
    if not isinstance(answer, dict):
        raise MalformedAnswer("the answer is not a JSON object")
    read_status(answer)
    return answer


def subprotocol_of(answer: dict[str, Any]) -> str | None:
    """Return the subprotocol that $connect chose: the only header of its answer that reaches the client."""
    headers = answer.get("headers")
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if name.lower() == "sec-websocket-protocol" and isinstance(value, str):
            return value
    return None


def _event(origin: Origin, identity: Identity, route_key: str, event_type: str) -> dict[str, Any]:
    now_s = time.time()
    unique = new_id()
    return {
        "requestContext": {
            "routeKey": route_key,
            "eventType": event_type,
            "extendedRequestId": unique,
            "requestTime": format_time(now_s),
            "messageDirection": "IN",
            "stage": origin.stage,
            "connectedAt": identity.connected_ms,
            "requestTimeEpoch": int(now_s * 1000),
            "identity": _identity(identity),
            "requestId": unique,
            "domainName": origin.domain_name,
            "connectionId": identity.connection_id,
            "apiId": origin.api_id,
        },
        "isBase64Encoded": False,
    }


def _identity(identity: Identity) -> Mapping[str, str]:
    known = {"sourceIp": identity.source_ip}
    if identity.user_agent:
        known["userAgent"] = identity.user_agent
    return known


def _headers(raw: Sequence[tuple[bytes, bytes]], identity: Identity, port: int) -> dict[str, list[str]]:
    """Return the client's headers in their original case, with the gateway's, which a client cannot replace."""
    headers: dict[str, list[str]] = {}
    forwarded = ""
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        lower = name.lower()
        if lower == "x-forwarded-for":
            forwarded = f"{forwarded}{value}, "
        elif lower not in HOP_BY_HOP and lower not in ("x-forwarded-proto", "x-forwarded-port"):
            headers.setdefault(name, []).append(value)
    headers["X-Forwarded-For"] = [forwarded + identity.source_ip]
    headers["X-Forwarded-Port"] = [str(port)]
    headers["X-Forwarded-Proto"] = ["http"]  # the truth; on AWS it is always https
    if not any(name.lower() == "x-amzn-trace-id" for name in headers):
        headers["X-Amzn-Trace-Id"] = [trace_id(time.time())]
    return headers
