"""What the terminal shows: the output of all functions, interleaved and readable, and the runner's own."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, TextIO

_MOST_WAITING = 10_000
_METRIC = b'{"_aws":'  # as all libraries for CloudWatch's embedded metric format begin a line
# Shown by the columns already, or the same in every line of a function.
_LEFT_OUT = frozenset(
    {
        *("level", "message", "timestamp", "location", "service", "logger", "requestId", "xray_trace_id"),
        *("function_name", "function_memory_size", "function_arn", "function_request_id"),
        *("errorType", "errorMessage", "stackTrace", "exception", "exception_name"),
    }
)
_COLOURS = {"DEBUG": "2", "WARNING": "33", "WARN": "33", "ERROR": "31", "CRITICAL": "1;31", "FATAL": "1;31"}
_SOURCE_COLOURS = ("36", "32", "35", "34", "96", "92", "95", "94")


class Console:
    """Prints from a thread of its own, so that neither a slow terminal nor a chatty function holds up a request.

    What does not fit into its buffer is counted and left out.
    """

    def __init__(self, stream: TextIO, *, colour: bool = False, metrics: bool = False) -> None:
        self._stream = stream
        self._colour = colour
        self._metrics = metrics
        self._width = 8
        self._sources: dict[str, str] = {}
        self._waiting: deque[tuple[float, str, bytes | str]] = deque()
        self._left_out = 0
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)
        self._thread.start()

    def line(self, source: str, line: bytes) -> None:
        """Show one line of a process's output."""
        # Left out here already where it is plain to see: waking the thread for it takes as long as a whole request.
        if self._metrics or not line.startswith(_METRIC):
            self._put(source, line)

    def say(self, text: str = "", source: str = "") -> None:
        """Show a message of the runner, which may quote a file, a setting or a function."""
        self._put(source, text)

    def close(self) -> None:
        """Print what waits, unless the terminal has stopped taking it."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=2)

    def _put(self, source: str, line: bytes | str) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self._left_out += 1
            return
        self._waiting.append((time.time(), source, line))
        if not self._wake.is_set():
            self._wake.set()

    def _write(self) -> None:
        while not (self._closed and not self._waiting):
            self._wake.wait()
            self._wake.clear()
            lines: list[str] = []
            while self._waiting:
                lines += self._format(*self._waiting.popleft())
            left_out, self._left_out = self._left_out, 0
            if left_out:
                lines.append(f"… {left_out} lines were left out: they came faster than they could be printed")
            try:
                self._stream.write(self._writable("".join(f"{line}\n" for line in lines)))
                self._stream.flush()
            except (OSError, ValueError):  # the reader has gone: `make up | head`
                return

    def _writable(self, text: str) -> str:
        """Escape what the stream cannot write: lone surrogates, or characters outside the terminal's encoding."""
        encoding = self._stream.encoding or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def _format(self, at: float, source: str, line: bytes | str) -> list[str]:
        if isinstance(line, str):
            texts, level = [show(text) for text in line.split("\n")], ""
            if not source:
                return texts
        else:
            texts, level = render(line, metrics=self._metrics)
        self._width = max(self._width, len(source))
        clock = f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 1000) % 1000:03d}"
        name = self._paint(source.ljust(self._width), self._sources.setdefault(source, self._next_colour()))
        colour = _COLOURS.get(level.upper(), "")
        head = f"{self._paint(clock, '2')}  {name}  "
        indent = " " * (len(clock) + self._width + 6)
        return [(head if number == 0 else indent) + self._paint(text, colour) for number, text in enumerate(texts)]

    def _next_colour(self) -> str:
        return _SOURCE_COLOURS[len(self._sources) % len(_SOURCE_COLOURS)]

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour else text


class ConsoleHandler(logging.Handler):
    """Shows the runner's own log records among the functions' lines."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = self.format(record)
        except Exception:  # noqa: BLE001 - what logging.Handler asks for: a bad format string must not stop a request
            self.handleError(record)
            return
        fields = {"level": record.levelname, "message": message}
        self._console.line(record.name.rpartition(".")[2], json.dumps(fields).encode())


def render(line: bytes, *, metrics: bool = False) -> tuple[list[str], str]:
    """Return the lines to show for one line of output, and its level; no lines for a metric unless asked for.

    JSON becomes level, message and fields. Control characters are escaped: logged text may come from an attacker's
    request.
    """
    text = line.decode(errors="replace")
    if text.startswith("{"):
        try:
            fields = json.loads(text)
        except ValueError:
            fields = None
        if isinstance(fields, dict):
            return _render_fields(fields, metrics=metrics)
    if not text.strip():
        return [], ""
    # The runtime client joins the lines of one report by \r, and indents by no-break spaces.
    parts = [show(part) for part in text.replace("\u00a0", " ").split("\r")]
    level = text[1 : text.index("]")] if text.startswith("[") and "]" in text[:12] else ""
    return parts, level


def _render_fields(fields: Mapping[str, Any], *, metrics: bool) -> tuple[list[str], str]:
    if "_aws" in fields:
        return (_render_metric(fields) if metrics else []), ""
    level = str(fields.get("level") or fields.get("log_level") or "")
    first, *more = _message(fields).split("\n")
    head = [level.ljust(5) if level else "", first, _pairs(_facts(fields))]
    lines = ["  ".join(filter(None, head)), *more, *_stack(fields)]
    return [show(line) for line in lines], level


def _render_metric(fields: Mapping[str, Any]) -> list[str]:
    return [show("metrics  " + _pairs({name: value for name, value in fields.items() if name != "_aws"}))]


def _message(fields: Mapping[str, Any]) -> str:
    if "errorType" in fields:
        return f"{fields['errorType']}: {fields.get('errorMessage', '')}"
    message = fields.get("message", fields.get("msg", ""))
    return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)


def _facts(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the other columns do not show."""
    hidden = _LEFT_OUT if fields.get("cold_start") is not False else _LEFT_OUT | {"cold_start"}
    return {name: value for name, value in fields.items() if name not in hidden}


def _stack(fields: Mapping[str, Any]) -> list[str]:
    stack = fields.get("exception") or fields.get("stackTrace") or ""
    text = "".join(map(str, stack)) if isinstance(stack, list) else str(stack)
    return text.rstrip().split("\n") if text else []


def _pairs(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(value: Any) -> str:
    if isinstance(value, str) and value and " " not in value:
        return value
    return json.dumps(value, ensure_ascii=False)


def show(text: str) -> str:
    """Escape what a terminal would obey or hide, as `repr` does: controls, text directions, zero-width characters."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode() for char in text
    )
