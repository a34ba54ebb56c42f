"""AWS's prices in one region, from the table `prices.toml`."""

import datetime as dt
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("prices.toml")


class NoPrice(Exception):
    """The table has no such price; the message lists those it has."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD for one unit, and how reliable that is: published, repeated or assumed."""

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
            NoPrice: it has no prices for this region.
        """
        table = read_table()
        if region not in regions():
            raise NoPrice(f"there are prices for {', '.join(regions())}, none for {region}")
        return cls(region, table["dated"], table)

    def price(self, name: str, kind: str | None = None) -> Price:
        """The price of *name*; some have a *kind* such as `cache.t4g.small`.

        Raises:
            NoPrice: there is no price for this kind, or none in this region.
        """
        entry = self.table[name]
        if kind is not None:
            if kind not in entry:
                raise NoPrice(f"there are prices for {', '.join(entry)}, none for {kind}: add it to {TABLE.name}")
            entry = entry[kind]
        if self.region not in entry:
            raise NoPrice(f"{name}: the price in {self.region} is not known: add it to {TABLE.name}")
        here = entry[self.region]
        return Price(here["usd"] / here.get("per", 1), entry["unit"], entry["source"], here["known"])


@cache
def read_table() -> dict[str, Any]:
    """Parse the whole file."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def regions() -> list[str]:
    """The regions with prices."""
    return [name for name in read_table()["egress"] if name not in {"unit", "source"}]
