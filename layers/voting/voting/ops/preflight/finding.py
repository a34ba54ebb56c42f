"""A finding of the preflight: a fact, its severity, and what to do about it."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a preflight."""

    level: Literal["ok", "warning", "problem"]
    what: str
    todo: str = ""

    def document(self) -> dict[str, object]:
        return asdict(self)


def ok(what: str) -> Finding:
    """As it should be."""
    return Finding("ok", what)


def warning(what: str, todo: str) -> Finding:
    """It works, but may surprise."""
    return Finding("warning", what, todo)


def problem(what: str, todo: str) -> Finding:
    """It would go wrong."""
    return Finding("problem", what, todo)
