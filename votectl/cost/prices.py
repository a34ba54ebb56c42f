"""What AWS charges: the table `prices.toml` for one region."""

import datetime as dt
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("prices.toml")


class NoPrice(Exception):
    """The table has no such price, or not for the region; the message names what there is."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD for one unit, and how well that is known: published, repeated or assumed."""

    usd: float
    unit: str
    source: str
    known: str


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of one region."""

    region: str
    dated: dt.date
    table: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, region: str) -> "Prices":
        """Read the table for *region*.

        Raises:
            NoPrice: it has none for this region.
        """
        table = read_table()
        if region not in regions():
            raise NoPrice(f"there are prices for {', '.join(regions())}, none for {region}")
        return cls(region, table["dated"], table)

    def price(self, name: str, kind: str | None = None) -> Price:
        """The price of *name*, for some of a *kind* such as `cache.t4g.small`.

        Raises:
            NoPrice: there is none of this kind.
        """
        entry = self.table[name]
        if kind is not None:
            if kind not in entry:
                raise NoPrice(f"there are prices for {', '.join(entry)}, none for {kind}: add it to {TABLE.name}")
            entry = entry[kind]
        here = entry[self.region]
        return Price(here["usd"] / here.get("per", 1), entry["unit"], entry["source"], here["known"])


@cache
def read_table() -> dict[str, Any]:
    """The whole file."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def regions() -> list[str]:
    """The regions that there are prices for."""
    return [name for name in read_table()["egress"] if name not in {"unit", "source"}]
