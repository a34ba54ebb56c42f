"""The arguments of an operation, checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voting.ops.errors import OperationError
from voting.queue.dead_letters import Place


@dataclass(frozen=True, slots=True)
class Arguments:
    """The fields of an event other than `operation`. All methods raise OperationError `invalid_argument`."""

    given: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        value = self.given.get(name)
        if value is not None and not isinstance(value, str):
            raise OperationError("invalid_argument", f"{name} takes a string")
        return value

    def flag(self, name: str) -> bool:
        value = self.given.get(name, False)
        if not isinstance(value, bool):
            raise OperationError("invalid_argument", f"{name} takes true or false")
        return value

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        value = self.given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise OperationError("invalid_argument", f"{name} takes a number from {least} to {most}")
        return value

    def cursor(self) -> Place | None:
        """The place where an earlier call stopped; None to start from the beginning."""
        text = self.text("cursor")
        if text is None:
            return None
        numbers = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", text, re.ASCII)
        if numbers is None:
            raise OperationError("invalid_argument", "cursor takes the `cursor` of an earlier answer")
        return Place(int(numbers[1]), int(numbers[2]))
