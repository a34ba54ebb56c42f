"""How many rows of the table hold which choice."""

from collections.abc import Mapping
from typing import NamedTuple


class Tally(NamedTuple):
    """The counts of one version of the table, as the database keeps them, unknown choices included."""

    version: int
    counts: Mapping[str, int]
