"""Text in columns, for a terminal."""

from collections.abc import Iterable, Sequence


def table(rows: Iterable[Sequence[object]], indent: str = "") -> str:
    """Align *rows* in columns, numbers to the right; None is shown as a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(text) for text, _ in column) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            text.rjust(width) if right else text.ljust(width) for (text, right), width in zip(row, widths, strict=True)
        )
        for row in cells
    )
    return "\n".join(indent + line.rstrip() for line in lines)


def many(count: int, what: str) -> str:
    """`1 letter`, `2 letters`, `1,000 letters`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def was(count: int) -> str:
    """The verb for that many: `was` or `were`."""
    return "was" if count == 1 else "were"


def _cell(value: object) -> tuple[str, bool]:
    match value:
        case None:
            return "-", False
        case bool():
            return ("yes" if value else "no"), False
        case int():
            return f"{value:,}", True
        case float():
            return f"{value:,.1f}", True
        case _:
            return str(value), False
