"""No request, no frame and no outage of a store writes more than a line a second of a kind, and none has a stack."""

import ast
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Handler, event
from tests.security.conftest import Function

Log = Callable[[], list[dict[str, Any]]]
ROOT = Path(__file__).parents[2]
AWAY = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}
FLOOD = 40

# Lines that nothing but us or an operator can cause, or that end a run.
OURS = {
    "voting/ops/operations.py": {"refused an operation", "performed an operation"},
    "voting/worker/drain.py": {"the draining is handed back to another worker; this run ends"},
    "voting/worker/beginning.py": {"installed the tally"},
    "voting/worker/publisher.py": {"the publisher has failed", "the figures are stale or fresh, which takes seconds"},
    "voting/observability.py": {"the invocation failed, of the sampler"},
    "voting/web/router.py": {"failed, of the sampler"},
    "voting/queue/trouble.py": {"it begins, of a sampler of its own", "this is over"},
    "voting/ops/custom_resource.py": {"a deployment's step failed", "answered CloudFormation"},
    "voting/ops/ops_invocation.py": {"a store is away, as a deployment finds it"},
    "voting/ops/lifecycle_hook.py": {"refused the new version", "let the new version take traffic"},
    "voting/ops/smoke.py": {"a check failed, of a deployment; it is tried again for 45 s at most"},
    "worker/app.py": {"ended a run"},
}


def assert_bounded(lines: list[dict[str, Any]], began: float, events: int) -> None:
    """One at once of each kind, and one a second; together they tell of all events but those of the last second."""
    allowed = 1 + math.ceil(time.monotonic() - began)
    assert lines
    kinds = Counter((line["message"], line.get("code")) for line in lines)
    assert max(kinds.values()) <= allowed < events, kinds
    assert all(line["count"] >= 1 for line in lines)
    assert not [line for line in lines if "exception" in line or "Traceback" in json.dumps(line)]


@pytest.fixture
def away(handler: Callable[[str], Handler], monkeypatch: pytest.MonkeyPatch) -> None:
    assert handler  # it sets the environment first
    for name, value in AWAY.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("function_name", "name", "status"),
    [
        ("vote", "post-json", 503),
        ("vote", "post-form", 503),
        ("result", "get-results", 503),
        ("result", "get-results-page", 503),
        ("result", "get-health", 503),
    ],
)
@pytest.mark.usefixtures("away")
def test_with_the_stores_away_requests_write_a_line_a_second_with_its_cause(
    function: Callable[[str], Function], log: Log, function_name: str, name: str, status: int
) -> None:
    asked, began = function(function_name), time.monotonic()
    for _ in range(FLOOD):
        assert asked(name).status == status
    assert_bounded(log(), began, FLOOD)
    assert any("the connection was refused" in line.get("detail", "") for line in log())


@pytest.mark.usefixtures("away")
def test_with_the_stores_away_frames_write_a_line_a_second(ws_connect: Handler, context, log: Log) -> None:
    frames = ['{"action": "subscribe"}', '{"action": "ping"}', "junk"]
    began = time.monotonic()
    for frame in itertools.islice(itertools.cycle(frames), FLOOD):
        asked = event("websocket-ping") | {"body": frame}
        assert ws_connect(asked, context) == {"statusCode": 200}
        assert ws_connect(event("websocket-disconnect"), context) == {"statusCode": 200}
    assert_bounded(log(), began, FLOOD)


def test_a_route_that_breaks_at_every_request_writes_a_stack_a_second(
    function: Callable[[str], Function], log: Log, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    vote = function("vote")
    monkeypatch.setenv("COOKIE_KEYS", "short")
    began = time.monotonic()
    for _ in range(FLOOD):
        assert vote("get-vote-page").status == 500
    metrics = [line for line in capsys.readouterr().out.splitlines() if "RequestsFailed" in line]
    assert 1 <= len(log()) == len(metrics) <= 1 + math.ceil(time.monotonic() - began)


def test_a_handler_that_breaks_at_every_frame_writes_a_stack_a_second(ws_connect: Handler, context, log: Log) -> None:
    asked, began = event("websocket-ping"), time.monotonic()
    del asked["requestContext"]["connectionId"]
    for _ in range(FLOOD):
        with pytest.raises(Exception, match="KeyError"):
            ws_connect(asked, context)
    assert 1 <= len(log()) <= 1 + math.ceil(time.monotonic() - began)


def test_every_other_line_is_one_that_no_stranger_causes() -> None:
    """Whatever calls the logger itself is listed here with what it says; all else goes through the sampler."""
    package = ROOT / "layers" / "voting" / "voting"
    found = {}
    for path in [*package.rglob("*.py"), *(ROOT / "functions").glob("*/app.py")]:
        home = package.parent if path.is_relative_to(package) else ROOT / "functions"
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if _is_line(node)]
        if calls:
            found[str(path.relative_to(home))] = len(calls)
    assert found == {path: len(lines) for path, lines in OURS.items()}


def _is_line(node: ast.AST) -> bool:
    levels = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in levels
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logger"
    )
