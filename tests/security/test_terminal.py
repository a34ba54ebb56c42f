"""Text of others steers no terminal, whichever command prints it."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.host.console import Console, ConsoleHandler
from votectl.__main__ import main
from votectl.ops.function import NotInvoked, OpsFunction
from votectl.ops.report import REPORTS, describe
from votectl.terminal import complain, plain, say, say_json
from voting.observability import logger

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "\x1b[2J\x1b[1;1H",
    "\x1b]0;title\x07",
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x1bP+q544e\x1b\\",
    "\x9b2J",
    "\x9d0;title\x9c",
    "\x08\x08\x08ok",
    "\rPROBLEM: none",
    "line\nPROBLEM: forged",
    "\x7f\x7f",
    "\x00\x0e\x05",
    "user\u202etxt.exe",
    "\u202a\u202b\u202c\u202d\u2066\u2067\u2068\u2069",
    "\u200b\u200e\u200f\ufeff\u2060",
    "\u2028\u2029\x85\x0b\x0c",
    "\U000e0041\U000e007f",
    "half \ud800 of a pair",
    "\ue000\uffff",
]


def harmless(printed: str) -> bool:
    """Whether *printed* is text and line ends only."""
    return all(sign.isprintable() or sign == "\n" for sign in printed)


def answers(text: str) -> dict[str, dict[str, Any]]:
    """An answer to each operation in which every text of others is *text*."""
    letter = {"reason": text, "at": 0, "cut": True, "bytes": 5, "sqlstate": text, "error": text}
    queue = {"waiting": 1, "in_process": 0, "batch_age_s": None, "handed_back_s": None, "fence": 1, "type": text}
    choices = {text: 1}
    return {
        "status": {
            "queue": queue,
            "counting": {"state": text, "behind_s": 1.0, "trouble": {"error": text, "since": 0, "at": 0}},
            "dead": {"total": 1, "by_reason": choices, "dropped": 1, "shortened": 1},
            "snapshot": {"version": 1, "age_s": 1.0},
            "subscribers": 1,
            "tally": {"version": 1, "counts": choices, "rows": choices, "fence": 1},
        },
        "dead list": {"letters": [letter | {"payload": text}, letter | {"payload_base64": text}]},
        "dead requeue": {"requeued": 1, "left": {"cut": 1}, "cursor": None},
        "dead drop": {"dropped": 1, "cursor": None},
        "tally verify": {"agrees": False, "repaired": False, "kept": choices, "counted": choices, "version": 1},
        "preflight": {"findings": [{"level": "problem", "what": text, "todo": text}]},
        "handback": {"changed": True, "returned": 1, "waiting": 1},
        "takeover": {"changed": True, "waiting": 1},
        "install": {"installed": True, "created": [text], "logins": [text]},
        "indexes": {"indexes": {text: text}},
    }


def test_every_report_is_tried() -> None:
    assert set(answers("")) == set(REPORTS)


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any] | Exception], None]:
    """Let the function ops be one that answers as told."""

    def deploy(answer: dict[str, Any] | Exception) -> None:
        def build(self: OpsFunction, name: str, run: object) -> None:
            assert name
            assert run is None

        def perform(self: OpsFunction, operation: str, arguments: object) -> dict[str, Any]:
            if isinstance(answer, Exception):
                raise answer
            return json.loads(json.dumps(answer))  # type: ignore[no-any-return]

        monkeypatch.setattr(OpsFunction, "__init__", build)
        monkeypatch.setattr(OpsFunction, "perform", perform)

    return deploy


@pytest.mark.parametrize("operation", REPORTS)
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_an_answer_of_the_function_is_shown_and_not_obeyed(deployed, capsys, operation: str, text: str) -> None:
    command = ["ops", "--function", "f", *operation.split(), *(["--yes"] if operation == "dead drop" else [])]
    answer = {"ok": True, "problems": [text]} | answers(text)[operation]
    deployed(answer)
    main(command)
    main([*command, "--json"])
    deployed({"ok": False, "error": {"code": text, "message": text}})
    main(command)
    deployed(NotInvoked(text))
    main(command)
    printed = "".join(capsys.readouterr())
    assert harmless(printed), ascii(printed)
    assert plain(text).partition("\\")[0] in printed
    assert not [line for line in describe(operation, answer).split("\n") if line == "PROBLEM: forged"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_the_console_of_the_local_run_shows_is_not_obeyed(text: str) -> None:
    stream = io.StringIO()
    console = Console(stream, metrics=True)
    console.line("Vote", text.encode("utf-8", "surrogatepass"))
    console.line("Vote", json.dumps({"level": "INFO", "message": text, "field": text, text: 1}).encode())
    console.line("Vote", json.dumps({"errorType": text, "errorMessage": text, "stackTrace": [text]}).encode())
    console.line("Vote", json.dumps({"_aws": {}, text: [text]}).encode())
    console.say(text)
    console.say(text, "Vote")
    record = logging.LogRecord("local.http", logging.WARNING, __file__, 1, "%s", (text,), None)
    ConsoleHandler(console).handle(record)
    console.close()
    assert len(stream.getvalue()) > 50
    assert harmless(stream.getvalue()), ascii(stream.getvalue())


def test_an_error_of_the_local_run_is_not_obeyed(tmp_path: Path) -> None:
    """A template may come from elsewhere, and its names are in the error."""
    template, name = tmp_path / "template.yaml", "".join(filter(str.isascii, HOSTILE))
    template.write_text(json.dumps({"Resources": {name: {"Type": "AWS::Serverless::Function"}}}))
    command = [sys.executable, "-m", "local", "--template", str(template), "--state-dir", str(tmp_path / "state")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    printed = (done.stdout + done.stderr).decode()
    assert "x1b[2J" in printed
    assert harmless(printed), ascii(printed)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_line_of_a_functions_log_steers_no_terminal_that_follows_it(text: str, monkeypatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", stream)
    logger.warning("Кошки", origin=text)
    line = stream.getvalue()
    assert harmless(line)
    assert "Кошки" in line
    assert json.loads(line)["origin"] == text


def test_what_a_terminal_has_no_letters_for_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    monkeypatch.setattr(sys, "stderr", narrow)
    say("Кошки")
    complain("猫")
    say_json({"\x7f": "\x9b"})
    narrow.flush()
    printed = narrow.detach().getvalue().decode()  # type: ignore[attr-defined]
    assert printed.startswith("\\u041a")
    assert "\\u732b" in printed
    assert json.loads(printed[printed.index("{") :]) == {"\x7f": "\x9b"}


def test_all_that_votectl_prints_goes_through_one_place() -> None:
    own = {"terminal.py", "progress.py", "cost/command.py"}  # a bar of numbers; an estimate of what the operator typed
    package = ROOT / "votectl"
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if "print(" in path.read_text()}
    assert found == own
