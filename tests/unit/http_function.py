"""Invokes the handler of an HTTP function with the events of events/, varied."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from voting.observability import metrics, sampler

EVENTS = Path(__file__).parents[2] / "events"
UNCHANGED = object()


@dataclass(frozen=True)
class Context:
    """What Lambda hands to a handler beside the event."""

    function_name: str = "VoteFunction"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:VoteFunction"
    aws_request_id: str = "00000000-0000-0000-0000-000000000001"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    set_cookies: list[str]
    body: str

    @property
    def cookies(self) -> list[str]:
        """The name=value pairs, as a browser sends them back."""
        return [cookie.partition(";")[0] for cookie in self.set_cookies]

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])

    @property
    def token(self) -> str:
        found = re.search(r'name="token" value="([^"]+)"', self.body)
        assert found
        return found[1]


def event(
    name: str,
    *,
    method: str | None = None,
    path: str | None = None,
    headers: dict[str, str | None] | None = None,
    cookies: list[str] | None = None,
    body: str | bytes | object = UNCHANGED,
) -> dict[str, Any]:
    """The event *name*, changed: a header of None is removed, a body of bytes arrives as base64."""
    loaded: dict[str, Any] = json.loads((EVENTS / f"http-{name}.json").read_text())
    http = loaded["requestContext"]["http"]
    if method is not None:
        http["method"] = method
    if path is not None:
        loaded["rawPath"] = http["path"] = path
    merged = loaded["headers"] | (headers or {})
    loaded["headers"] = {key: value for key, value in merged.items() if value is not None}
    if cookies is not None:
        loaded["cookies"] = cookies
    if isinstance(body, bytes):
        loaded |= {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    elif body is not UNCHANGED:
        loaded |= {"body": body, "isBase64Encoded": False}
    return loaded


@dataclass(frozen=True)
class HttpFunction:
    """One function, and the settings that it runs with."""

    app: ModuleType

    def __call__(self, name: str, **changes: Any) -> Reply:
        return self.invoke(event(name, **changes))

    def invoke(self, changed: dict[str, Any]) -> Reply:
        answer = self.app.handler(changed, Context())
        json.dumps(answer)
        assert answer["isBase64Encoded"] is False
        return Reply(answer["statusCode"], answer["headers"], answer["cookies"], answer["body"])

    def configure(self, monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str]) -> None:
        """Give the function its environment; Powertools' own was read when the first test imported it."""
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(metrics, "namespace", "Voting")
        metrics.clear_metrics()
        self.forget()

    def forget(self) -> None:
        """Start as a new execution environment does, with whatever the settings are then."""
        sampler.forget()
        if self.app.clients.cache_info().currsize:
            self.app.clients().close()
        for cached in vars(self.app).values():
            if hasattr(cached, "cache_clear") and cached.__module__ == self.app.__name__:
                cached.cache_clear()
