"""HTTP headers by name."""

from collections.abc import Iterable, Mapping

Headers = Mapping[str, list[str]]  # by lower-case name; the values of one name in the order in which they were sent


def by_name(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Group *headers* by their lower-case names."""
    grouped: dict[str, list[str]] = {}
    for name, value in headers:
        grouped.setdefault(name.lower(), []).append(value)
    return grouped
