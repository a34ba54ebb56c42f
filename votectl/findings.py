"""Findings of a check: one line each, and what to do about it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

MARKS = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "problem": "PROBLEM"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it, if anything."""

    level: Literal["ok", "note", "problem"]
    what: str
    todo: str = ""


def finding_lines(findings: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Render findings, each with its `level`, `what` and `todo`."""
    for finding in findings:
        yield f"{MARKS[finding['level']]}  {finding['what']}"
        if finding["todo"]:
            yield f"         {finding['todo']}"
