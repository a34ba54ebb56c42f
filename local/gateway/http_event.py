"""Payload format 2.0: the event for a Lambda function from an HTTP request, and the response from its answer.

Source: "Create AWS Lambda proxy integrations for HTTP APIs" in the API Gateway developer guide.
"""

import base64
import binascii
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from local.gateway.event import HOP_BY_HOP, MalformedAnswer, format_time, read_status, trace_id
from local.headers import Headers
from local.template.account import ACCOUNT_ID

TEXTUAL = re.compile(r"text/|application/(json|javascript|xml|[^;]+\+(json|xml))\s*(;|$)", re.IGNORECASE)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
SET_BY_THE_GATEWAY = HOP_BY_HOP | {"content-length"}


@dataclass(frozen=True, slots=True)
class Caller:
    """One request as it was received."""

    method: str
    target: str  # the path and the query as they were sent
    protocol: str  # "HTTP/1.1"
    headers: Headers
    body: bytes
    source_ip: str
    port: int  # of the gateway

    @property
    def hosts(self) -> list[str]:
        """The values of the header Host: one, or in HTTP/1.0 perhaps none."""
        return self.headers.get("host", [])


@dataclass(frozen=True, slots=True)
class Response:
    """What the client gets."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def event_of(caller: Caller, path: str, route_key: str, api_id: str, gateway_request_id: str) -> dict[str, Any]:
    """Build the event of *caller*, whose decoded path is *path*."""
    now_s = time.time()
    headers, cookies = _headers(caller, now_s)
    query = caller.target.partition("?")[2]
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": api_id,
            # With the port, unlike on AWS: a handler that builds a URL from it must reach this machine's gateway.
            "domainName": headers.get("host", ""),
            "domainPrefix": api_id,
            "http": {
                "method": caller.method,
                "path": path,
                "protocol": caller.protocol,
                "sourceIp": caller.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": gateway_request_id,
            "routeKey": route_key,
            "stage": "$default",
            "time": format_time(now_s),
            "timeEpoch": int(now_s * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = cookies
    if query:
        event["queryStringParameters"] = _joined(parse_qsl(query, keep_blank_values=True))
    if caller.body:
        event["body"], event["isBase64Encoded"] = _body(caller.body, headers)
    return event


def _headers(caller: Caller, now_s: float) -> tuple[dict[str, str], list[str]]:
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, values in caller.headers.items():
        if name == "cookie":
            cookies += [cookie for part in ";".join(values).split(";") if (cookie := part.strip(" \t"))]
        elif name not in HOP_BY_HOP:
            headers[name] = ",".join(values)
    forwarded = headers.get("x-forwarded-for")
    headers["x-forwarded-for"] = f"{forwarded}, {caller.source_ip}" if forwarded else caller.source_ip
    headers["x-forwarded-proto"] = "http"  # the truth; on AWS it is always https
    headers["x-forwarded-port"] = str(caller.port)
    headers["content-length"] = str(len(caller.body))
    headers.setdefault("x-amzn-trace-id", trace_id(now_s))
    return headers, cookies


def _joined(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _body(body: bytes, headers: Mapping[str, str]) -> tuple[str, bool]:
    """Return the body as text where its type is textual, else in Base64 (forms included, as on AWS)."""
    if TEXTUAL.match(headers.get("content-type", "")) and "content-encoding" not in headers:
        try:
            return body.decode(), False
        except UnicodeDecodeError:  # another encoding, or not text at all: Base64 loses nothing
            pass
    return base64.b64encode(body).decode(), True


def response_of(payload: bytes) -> Response:
    """Read what a function returned: a response, or any other JSON, which is then the body of a 200.

    Raises:
        MalformedAnswer: it is not JSON, or it has a statusCode but is not a valid response.
    """
    try:
        answer = json.loads(payload)
    except ValueError as error:
        raise MalformedAnswer("the answer is not JSON") from error
    if not isinstance(answer, dict) or "statusCode" not in answer:
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        return Response(200, [("content-type", "application/json")], text.encode("utf-8", "replace"))
    headers = _answered_headers(answer)
    body = _answered_body(answer)
    if body and not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "text/plain;charset=UTF-8"))
    return Response(read_status(answer), headers, body)


def _answered_headers(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = answer.get("headers") or {}
    cookies = answer.get("cookies") or []
    if not isinstance(given, dict):
        raise MalformedAnswer("headers is not an object")
    if not isinstance(cookies, list) or not all(isinstance(cookie, str) for cookie in cookies):
        raise MalformedAnswer("cookies is not a list of strings")
    headers = [
        (name.lower(), _header_value(name, value))
        for name, value in given.items()
        if name.lower() not in SET_BY_THE_GATEWAY
    ]
    headers += [("set-cookie", _header_value("set-cookie", cookie)) for cookie in cookies]
    return headers


def _header_value(name: str, value: object) -> str:
    if not HEADER_NAME.match(name):
        raise MalformedAnswer(f"{name!r} is not a header name")
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise MalformedAnswer(f"the header {name} is not a string")
    text = str(value)
    if "\r" in text or "\n" in text or "\0" in text:
        raise MalformedAnswer(f"the header {name} has a line break")
    return text


def _answered_body(answer: Mapping[str, Any]) -> bytes:
    body = answer.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise MalformedAnswer(f"body is {type(body).__name__}, not a string")
    encoded = answer.get("isBase64Encoded") or False
    if not isinstance(encoded, bool):
        raise MalformedAnswer("isBase64Encoded is not a boolean")
    if not encoded:
        return body.encode("utf-8", "replace")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedAnswer("body is not Base64, though isBase64Encoded is true") from error
