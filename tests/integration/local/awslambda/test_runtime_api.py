"""Attacks on the Runtime API of an environment: an event, with its cookies, is for its own process only."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from local.awslambda.environment import Sandbox
from local.awslambda.service import LambdaService
from local.template.account import Account
from local.template.resources import Function

DEADLINE_S = 15.0
NEXT = "2018-06-01/runtime/invocation/next"
# It shows its environment, as a careless function does, so that the tests know the address.
HANDLER = """
import os, pathlib, time
HERE = pathlib.Path(__file__).parent
def handler(event, context):
    while "until" in event and not (HERE / event["until"]).exists():
        time.sleep(0.01)
    return {"address": os.environ["AWS_LAMBDA_RUNTIME_API"], "id": context.aws_request_id, "vote": event.get("vote")}
"""


class Victim:
    """One function with one environment, and its Runtime API."""

    def __init__(self, service: LambdaService) -> None:
        self._service = service
        self.host = self.secret = ""

    async def ask(self, **event: Any) -> dict[str, Any]:
        answer = await self._service.invoke("F", json.dumps(event).encode())
        assert answer.error is None, answer
        return dict(json.loads(answer.payload))

    async def find(self) -> None:
        address = (await self.ask())["address"]
        self.host, _, self.secret = address.partition("/")

    async def attack(self, request: str, ending: str = "\r\n\r\n") -> bytes:
        """Send *request*; return all that comes back until the API closes."""
        host, _, port = self.host.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            async with asyncio.timeout(DEADLINE_S):
                writer.write((request + ending).encode())
                return await reader.read()
        finally:
            writer.close()


Work = Callable[[Victim], Coroutine[Any, Any, None]]


@pytest.fixture
def attacking(tmp_path: Path) -> Callable[[Work], None]:
    (tmp_path / "app.py").write_text(HANDLER, encoding="utf-8")

    def attacking(work: Work) -> None:
        async def main() -> None:
            function = Function("F", tmp_path, "app.handler", 10, 128, {}, (), None, 0, 60)
            service = LambdaService({"F": function}, Sandbox(Account()), environments=1)
            victim = Victim(service)
            try:
                await victim.find()
                await work(victim)
            finally:
                await service.close()

        asyncio.run(main())

    return attacking


@pytest.mark.parametrize(
    "guess",
    ["", "x/", "/", "../", "%2e%2e/", "2018-06-01/", "a" * 43 + "/"],
    ids=["none", "a word", "empty", "dots", "encoded dots", "the version", "of its length"],
)
def test_a_stranger_without_the_secret_gets_no_event(attacking, guess: str) -> None:
    async def work(victim: Victim) -> None:
        answer = await victim.attack(f"GET /{guess}{NEXT} HTTP/1.1\r\nHost: {victim.host}")
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert (await victim.ask(vote="a"))["vote"] == "a"  # its own process got the event, and no other did

    attacking(work)


@pytest.mark.parametrize(
    "headers",
    [
        "Host: {host}\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: cross-site",  # a no-cors GET of a page
        "Host: {host}\r\nOrigin: https://evil.example",
        "Host: {host}\r\norigin: null",
        "Host: {host}\r\nReferer: https://evil.example/page",
        "Host: {host}\r\nSEC-FETCH-DEST : image",
        "Host: evil.example:{port}",  # DNS rebinding: no page of such a name is told apart by Sec-Fetch
        "Host: localhost:{port}",
        "Host: {host}\r\nHost: evil.example",
        "Host: evil.example\r\nHost: {host}",
        "Accept: */*",
    ],
)
def test_a_page_gets_no_event_even_if_a_function_has_shown_the_secret(attacking, headers: str) -> None:
    async def work(victim: Victim) -> None:
        lines = headers.format(host=victim.host, port=victim.host.partition(":")[2])
        answer = await victim.attack(f"GET /{victim.secret}/{NEXT} HTTP/1.1\r\n{lines}")
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert (await victim.ask(vote="a"))["vote"] == "a"

    attacking(work)


@pytest.mark.parametrize("what", ["invocation/{id}/response", "invocation/{id}/error", "init/error"])
def test_a_stranger_answers_no_voter_and_fails_no_init(attacking, what: str, tmp_path: Path) -> None:
    async def work(victim: Victim) -> None:
        voter = asyncio.create_task(victim.ask(vote="a", until="go"))
        await asyncio.sleep(0)  # it is handed over now: the environment is idle
        id_ = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
        path = f"2018-06-01/runtime/{what.format(id=id_)}"
        answer = await victim.attack(f"POST /{path} HTTP/1.1\r\nHost: {victim.host}\r\nContent-Length: 2", "\r\n\r\n{}")
        (tmp_path / "go").touch()
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert (await voter)["vote"] == "a"

    attacking(work)


@pytest.mark.parametrize(
    "flood",
    ["A" * 10_000_000, "GET /" + "A" * 10_000_000, "\r\n" * 5_000_000, "POST / HTTP/1.1\r\nX: " + "A" * 10_000_000],
    ids=["no line", "an endless target", "empty lines", "an endless header"],
)
def test_what_a_stranger_sends_is_not_kept(attacking, flood: str) -> None:
    async def work(victim: Victim) -> None:
        answer = b"HTTP/1.1 403 "
        with contextlib.suppress(ConnectionError):  # closed with much unread
            answer = await victim.attack(flood, "")
        assert answer.startswith(b"HTTP/1.1 403 ")

    attacking(work)


def test_two_environments_do_not_know_each_others_secrets(attacking, tmp_path: Path) -> None:
    async def work(victim: Victim) -> None:
        function = Function("G", tmp_path, "app.handler", 10, 128, {}, (), None, 0, 60)
        other = LambdaService({"F": function}, Sandbox(Account()), environments=1)
        try:
            neighbour = Victim(other)
            await neighbour.find()
            answer = await victim.attack(f"GET /{neighbour.secret}/{NEXT} HTTP/1.1\r\nHost: {victim.host}")
            assert answer.startswith(b"HTTP/1.1 403 ")
        finally:
            await other.close()

    attacking(work)
