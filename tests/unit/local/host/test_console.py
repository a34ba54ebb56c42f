import io
import json
import logging
import threading

import pytest

from local.host.console import Console, ConsoleHandler, render


def rendered(line: bytes | dict, **options) -> list[str]:
    return render(line if isinstance(line, bytes) else json.dumps(line).encode(), **options)[0]


def test_a_json_line_becomes_level_message_and_fields():
    line = {
        "level": "INFO",
        "message": "queued",
        "timestamp": "…",
        "function_name": "F",
        "cold_start": False,
        "votes": 3,
    }
    assert rendered(line) == ["INFO   queued  votes=3"]


def test_an_exception_follows_on_lines_of_its_own():
    line = {"level": "ERROR", "message": "lost", "exception": "Traceback\n  File x"}
    assert rendered(line) == ["ERROR  lost", "Traceback", "  File x"]


def test_an_error_of_the_runtime_client_is_readable():
    line = {"level": "ERROR", "errorType": "ValueError", "errorMessage": "no", "stackTrace": ['  File "a"\n    x\n']}
    assert rendered(line) == ["ERROR  ValueError: no", '  File "a"', "    x"]


def test_metrics_are_left_out_unless_asked_for():
    line = {"_aws": {"Timestamp": 1}, "VotesQueued": [1.0], "service": "vote"}
    assert rendered(line) == []
    assert rendered(line, metrics=True) == ["metrics  VotesQueued=[1.0] service=vote"]


@pytest.mark.parametrize("line", [b"plain words", b'{"half": ', b"[1, 2]"])
def test_other_lines_are_shown_as_they_are(line):
    assert rendered(line) == [line.decode()]


def test_a_text_traceback_is_split_into_its_lines():
    assert rendered("[ERROR] ValueError: no\r\u00a0\u00a0File".encode()) == ["[ERROR] ValueError: no", "  File"]


def test_control_characters_of_a_stranger_are_not_obeyed():
    assert rendered({"level": "INFO", "message": "a\x1b[2Jb"}) == ["INFO   a\\x1b[2Jb"]
    assert rendered(b"a\x1b[2Jb") == ["a\\x1b[2Jb"]


def printed(write) -> str:
    stream = io.StringIO()
    console = Console(stream)
    write(console)
    console.close()
    return stream.getvalue()


def test_every_line_has_a_time_and_its_source():
    text = printed(lambda console: console.line("Vote", b"hello"))
    clock, source, message = text.split()
    assert len(clock) == len("12:00:00.000")
    assert (source, message) == ("Vote", "hello")


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "\\ud800 é"), ("ascii", "\\ud800 \\xe9")])
def test_what_the_terminal_cannot_write_is_shown_escaped_and_the_rest_goes_on(encoding: str, shown: str):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(stream)
    console.line("Vote", rb'{"message": "\ud800 \u00e9"}')
    console.say("after")
    console.close()
    assert stream.buffer.getvalue().decode(encoding).endswith(f"  {shown}\nafter\n")


def test_words_of_the_runner_are_printed_plainly():
    assert printed(lambda console: console.say("Starting …\n  done")) == "Starting …\n  done\n"


def test_colour_is_used_only_when_asked_for():
    assert "\x1b" not in printed(lambda console: console.line("Vote", b'{"level": "ERROR", "message": "x"}'))


def test_log_records_of_the_runner_are_shown_among_the_lines():
    def write(console: Console) -> None:
        record = logging.LogRecord("local.http", logging.WARNING, __file__, 1, "%s %d", ("GET /", 500), None)
        ConsoleHandler(console).handle(record)

    text = printed(write)
    assert "http" in text
    assert "WARNING  GET / 500" in text


def test_a_flood_is_cut_and_the_cut_is_counted():
    class Stuck(io.StringIO):
        """A terminal that takes nothing until it is let."""

        def __init__(self) -> None:
            super().__init__()
            self.go = threading.Event()
            self.asked = threading.Event()

        def write(self, text: str) -> int:
            self.asked.set()
            assert self.go.wait(10)
            return super().write(text)

    stream = Stuck()
    console = Console(stream)
    console.line("Vote", b"first")
    assert stream.asked.wait(10)
    for number in range(30_000):
        console.line("Vote", str(number).encode())
    stream.go.set()
    console.close()
    assert "lines were left out" in stream.getvalue()
