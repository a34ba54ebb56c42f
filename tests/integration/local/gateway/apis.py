"""What the tests of both APIs share: an event loop in a thread, real functions, served applications."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from local.awslambda.environment import Sandbox
from local.awslambda.service import LambdaService
from local.gateway.listeners import Listener, Plain, start_listeners
from local.template.account import Account
from local.template.resources import Function

T = TypeVar("T")
DEADLINE_S = 20.0

# Does what the request's body asks for, and else returns the event itself. Frames and bodies are the same to it.
PROBE = """
import base64, json, pathlib, time

HERE = pathlib.Path(__file__).parent

def handler(event, context):
    context_of_event = event["requestContext"]
    if context_of_event.get("eventType") in ("CONNECT", "DISCONNECT"):
        return lifecycle(event, context_of_event)
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode("utf-8", "replace")
    try:
        wish = json.loads(body)
    except (ValueError, RecursionError):
        wish = {}
    wish = wish if isinstance(wish, dict) else {}
    if "sleep_s" in wish:
        time.sleep(wish["sleep_s"])
    if "raise" in wish:
        raise RuntimeError(wish["raise"])
    if "return" in wish:
        return wish["return"]
    if "connectionId" in context_of_event:
        note("messages", event)
        return {"statusCode": 200}
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(event)}

def lifecycle(event, context):
    note(context["eventType"], event)
    query = event.get("queryStringParameters") or {}
    if "raise" in query:
        raise RuntimeError("refused by an error")
    if "sleep_s" in query:
        time.sleep(float(query["sleep_s"]))
    if "return" in query:
        return json.loads(query["return"])
    return {"statusCode": int(query.get("status", 200))}

def note(kind, event):
    with (HERE / "notes.jsonl").open("a") as notes:
        notes.write(json.dumps([kind, event]) + "\\n")
"""


class Loop:
    """An event loop in a thread of its own, so that tests use plain blocking clients."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()


class Probe:
    """One function and what it saw."""

    name = "Probe"

    def __init__(self, folder: Path, loop: Loop, account: Account) -> None:
        self._folder = folder
        (folder / "app.py").write_text(PROBE)
        function = Function(
            name=self.name,
            code=folder,
            handler="app.handler",
            timeout_s=5.0,
            memory_mb=128,
            environment={},
            layers=(),
            reserved_concurrency=None,
            retries=0,
            event_age_s=60.0,
        )
        crowded = replace(function, name="Crowded", reserved_concurrency=0)
        self.service = LambdaService({"Probe": function, "Crowded": crowded}, Sandbox(account), environments=2)
        self._loop = loop

    def notes(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of *kind* (CONNECT, DISCONNECT, messages) seen so far."""
        path = self._folder / "notes.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for noted, event in map(json.loads, lines) if noted == kind]

    def bodies(self, connection_id: str) -> list[str]:
        """Return the messages of one connection in the order in which they were handled."""
        messages = self.notes("messages")
        return [event["body"] for event in messages if event["requestContext"]["connectionId"] == connection_id]

    def noted(self, kind: str, connection_id: str) -> dict[str, Any]:
        """Wait until the function has received an event of *kind* for a connection."""
        return wait_for(
            lambda: next(
                (e for e in self.notes(kind) if e["requestContext"]["connectionId"] == connection_id),
                None,
            )
        )

    def close(self) -> None:
        self._loop.run(self.service.close())


@contextmanager
def probing(folder: Path) -> Iterator[tuple[Loop, Probe, Account]]:
    loop, account = Loop(), Account()
    probe = Probe(folder, loop, account)
    try:
        yield loop, probe, account
    finally:
        probe.close()
        loop.close()


@contextmanager
def served(
    loop: Loop,
    make: Callable[[], web.Application],
    plain: Plain | None = None,
) -> Iterator[int]:
    """Serve an application on a free port, behind a plain protocol if there is one; yield the port."""
    stack = AsyncExitStack()

    async def start() -> int:
        listener = Listener(socket.create_server(("127.0.0.1", 0)), make(), plain)
        await start_listeners([listener], stack, access_log=False)
        return listener.listening.getsockname()[1]

    port = loop.run(start())
    try:
        yield port
    finally:
        loop.run(stack.aclose())


def wait_for(look: Callable[[], T | None]) -> T:
    """Return what *look* finds as soon as it is truthy.

    Raises:
        AssertionError: it was not by the deadline.
    """
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError("what was waited for did not come")
