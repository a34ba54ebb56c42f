"""What security tests share: requests to the real handlers, made as AWS makes them."""

import base64
import inspect
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from awslambdaric.lambda_context import LambdaContext
from redis import Redis

from tests.conftest import Handler, event
from voting.observability import logger

HOST = event("http-post-form")["headers"]["host"]


@dataclass(frozen=True)
class Reply:
    """An answer as the gateway gets it."""

    status: int
    headers: dict[str, str]
    set_cookies: list[str]
    body: str

    @property
    def cookies(self) -> dict[str, str]:
        """What a browser keeps of it."""
        return dict(cookie.partition(";")[0].split("=", 1) for cookie in self.set_cookies)

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@dataclass(frozen=True)
class Function:
    """One handler, loaded as Lambda loads it."""

    handle: Handler
    context: LambdaContext

    def __call__(
        self,
        name: str = "post-json",
        *,
        cookies: dict[str, str] | list[str] | None = None,
        headers: dict[str, str | None] | None = None,
        body: bytes | None = None,
        method: str | None = None,
        path: str | None = None,
    ) -> Reply:
        """Answer the event *name*, changed: a header of None is left out."""
        asked = event(f"http-{name}")
        merged = asked["headers"] | (headers or {})
        asked["headers"] = {header: value for header, value in merged.items() if value is not None}
        if isinstance(cookies, dict):
            cookies = [f"{cookie}={value}" for cookie, value in cookies.items()]
        asked |= {} if cookies is None else {"cookies": cookies}
        asked |= {} if body is None else {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
        asked["requestContext"]["http"] |= {} if method is None else {"method": method}
        asked |= {} if path is None else {"rawPath": path}
        answer = self.handle(asked, self.context)
        return Reply(answer["statusCode"], answer["headers"], answer["cookies"], answer["body"])

    @property
    def globals(self) -> dict[str, Any]:
        """Of its app.py."""
        return inspect.unwrap(self.handle).__globals__  # Powertools wraps some of them


@pytest.fixture
def function(handler, context: LambdaContext, redis: Redis) -> Iterator[Callable[[str], Function]]:
    """Load a function anew, with the environment as it is then; its clients are closed after the test."""
    assert redis.ping()
    loaded = []

    def load(name: str) -> Function:
        loaded.append(Function(handler(name), context))
        return loaded[-1]

    yield load
    for one in loaded:
        if one.globals["clients"].cache_info().currsize:
            one.globals["clients"]().close()


@pytest.fixture
def vote(function: Callable[[str], Function]) -> Function:
    return function("vote")


@pytest.fixture
def result(function: Callable[[str], Function], database: psycopg.Connection) -> Function:
    assert not database.closed
    return function("result")


@pytest.fixture
def ws_connect(websocket_handler, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Handler:
    """The handler of the subscribers, told that the pages are at HOST."""
    handle = websocket_handler("ws_connect")
    monkeypatch.setenv("HTTP_URL", f"https://{HOST}")
    return handle


@pytest.fixture
def queued(redis: Redis) -> Callable[[], list[str]]:
    """The ids of the votes that wait, oldest first."""
    return lambda: [json.loads(message)["voter_id"] for message in reversed(redis.lrange("votes", 0, -1))]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """The lines that the functions have logged since the test began."""
    stream = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
