"""The command line as far as it needs no stack: usage, exit codes, words and tables.

Covers arguments, progress and table.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from votectl.__main__ import main
from votectl.ops.report import describe
from votectl.progress import Progress
from votectl.table import table

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RUN_JSON", str(tmp_path / "run.json"))


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "fly",
        "ops",
        "ops fly",
        "ops dead",
        "ops dead drop --all",
        "ops handback --schedule x",
        "ops tally verify --limit 3",
        "loadtest --votes 0",
        "loadtest --revote-share 1.5",
        "loadtest --concurrency none",
        "demo --rate 1000",
        "demo --voters 0",
        "demo --votes -1",
        "demo --url example.org",
        "demo --url ftp://example.org",
        "demo --url https://",
        "demo --url http://example.org:99999",
        "loadtest --url http://[::1",
        "teardown",
        "teardown --env dev --stack voting-dev",
        "teardown --stack voting-dev --patience 0",
        "teardown --stack voting-dev --every 0",
        "teardown --stack voting-dev --every -1",
        "teardown --stack voting-dev --every nan",
        "account --parameters OptionA=x y",
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: str, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["ops", "--function", "", "status"],
        ["ops", "--function", "f", "takeover", "--schedule", ""],
        ["ops", "dead", "drop", "--yes", "--reason", ""],
        ["loadtest", "--url", ""],
        ["demo", "--url", " "],
        ["ops", "status", "--function", ""],
        ["teardown", "--stack", ""],
        ["account", "--env", ""],
    ],
)
def test_an_empty_variable_of_the_shell_does_not_stand_for_the_default(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "it is empty" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["", '{"http": "http://127.0.0.1:1",', "[]", "{}"])
def test_a_run_json_that_is_not_whole_is_told(written: str, tmp_path, capsys) -> None:
    (tmp_path / "run.json").write_text(written, encoding="utf-8")
    assert main(["demo"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'run.json'} is incomplete" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_a_run_json_that_others_can_write_to_is_not_believed(mode: int, tmp_path, capsys) -> None:
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "run.json").chmod(mode)
    assert main(["demo"]) == 2
    assert "may be another user's work" in capsys.readouterr().err


def test_a_fifo_in_place_of_run_json_is_not_waited_for(tmp_path, capsys) -> None:
    os.mkfifo(tmp_path / "run.json")
    assert main(["ops", "status"]) == 2
    assert "not a plain file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["ops status", "loadtest", "demo"])
def test_nothing_running_is_said_and_is_exit_code_1(arguments: str, capsys) -> None:
    assert main(arguments.split()) == 1
    assert "make up" in capsys.readouterr().err


OPERATIONS = ("status", "dead list", "dead requeue", "dead drop", "tally verify", "preflight", "takeover", "handback")


@pytest.mark.parametrize(
    "command",
    ["", "loadtest", "demo", "account", "teardown", "ops", "ops indexes", *(f"ops {name}" for name in OPERATIONS)],
)
def test_every_command_explains_itself(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    assert len(capsys.readouterr().out) > 100


def test_columns_are_aligned_and_numbers_are_to_the_right() -> None:
    assert (
        table([("a", 1000, None), ("long", 5, True), ("x", 2.25, "y")])
        == "a     1,000  -\nlong      5  yes\nx       2.2  y"
    )


def test_a_payload_cannot_play_with_the_terminal() -> None:
    letter = {"at": 0, "reason": "not_json", "bytes": 5, "cut": False, "payload": "\x1b[2J\n"}
    assert "\\x1b[2J\\n" in describe("dead list", {"ok": True, "problems": [], "letters": [letter]})


def test_a_refusal_is_told_with_its_code() -> None:
    answer = {"ok": False, "error": {"code": "busy", "message": "Try again."}}
    assert describe("status", answer) == "refused (busy): Try again."


def test_problems_stand_last() -> None:
    assert describe("status", {"ok": True, "problems": ["all is lost"]}).endswith("PROBLEM: all is lost")


def test_progress_is_a_line_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(2, "votes", stream)
    progress.step()
    progress.step()
    progress.end()
    assert "100%  2 of 2 votes" in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_progress_is_a_bar_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = Progress(2, "votes", stream)
    progress.step()
    progress.end()
    assert stream.getvalue().startswith("\r[###############...............]  50%")


@pytest.mark.parametrize(
    ("arguments", "unbuffered"), [("cost", ""), ("cost", "1"), ("cost --json", ""), ("ops --help", "")]
)
def test_a_reader_that_has_seen_enough_is_no_fault(arguments: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "votectl", *arguments.split()]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (141, b"")
