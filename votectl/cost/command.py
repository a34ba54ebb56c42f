"""`votectl cost`: the cost of a month and of an event, its largest item, and what slower broadcasts save."""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from votectl.cost.attack import Bill, describe_attack, flood_costs
from votectl.cost.estimate import Event, LineItem, Stack, event_lines, standing
from votectl.cost.prices import NoPrice, Prices, regions
from votectl.table import table
from voting.broadcast.planner import Budget

Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it
SLOWER = (1, 2, 5, 10)  # multiples of the interval that is asked for, or that the budget allows


def add_cost(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    cost = commands.add_parser(
        "cost",
        help="estimate what a month and an event cost",
        description="Estimate what the deployed stack costs: a month without votes, and what one event adds. List "
        "prices without free tiers; docs/reference/cost.md lists the assumptions. Works offline, without an account.",
    )
    add = cost.add_argument
    add("--voters", type=_count, default=10_000, help="number of voters (default: %(default)s)")
    add("--votes-per-voter", type=_positive, default=1.2, help="average, including re-votes (default: %(default)s)")
    add("--subscribers", type=_count, default=1_000, help="people who watch the results live (default: %(default)s)")
    add("--hours", type=_positive, default=1.0, help="duration of the event (default: %(default)s)")
    add("--region", choices=regions(), default="eu-central-1", help="region of the prices (default: %(default)s)")
    add("--interval-ms", type=_interval, default=50, help="BROADCAST_INTERVAL_MS, 50 at least (default: %(default)s)")
    add("--messages-per-s", type=_rate, default=4000, help="BROADCAST_MESSAGES_PER_S (default: %(default)s)")
    add("--architecture", choices=("arm64", "x86_64"), default="arm64", help="(default: %(default)s)")
    add("--cache-node", default="cache.t4g.small", help="parameter CacheNodeType (default: %(default)s)")
    add("--cache-nodes", type=_count, default=2, help="parameter CacheNodes (default: %(default)s)")
    add("--database", default="db.t4g.medium", help="parameter DatabaseClass (default: %(default)s)")
    add("--database-storage", type=_count, default=20, metavar="GIB", help="(default: %(default)s)")
    add("--single-az", action="store_true", help="no standby of the database (parameter DatabaseMultiAz=false)")
    add("--nat", action="store_true", help="with a NAT gateway (parameter Egress=nat)")
    add("--attack", action="store_true", help="show what a flood of each kind of request costs per hour, and its limit")
    add("--json", action="store_true", help="print JSON, for scripts")
    cost.set_defaults(command=run_cost)


def run_cost(options: argparse.Namespace) -> int:
    """Print the estimate; return the exit code."""
    if options.attack:
        return _run_attack(options)
    event = Event(
        options.voters,
        options.votes_per_voter,
        options.subscribers,
        options.hours,
        options.interval_ms,
        options.messages_per_s,
    )
    stack = Stack(
        options.architecture,
        options.cache_node,
        options.cache_nodes,
        options.database,
        options.database_storage,
        not options.single_az,
        options.nat,
    )
    try:
        document = estimate(event, stack, Prices.of(options.region))
    except NoPrice as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(document, indent=2) if options.json else "\n".join(describe(document)))
    return 0


def _run_attack(options: argparse.Namespace) -> int:
    """Print what floods cost; return the exit code."""
    bill = Bill(Prices.of(options.region), options.architecture)
    budget = Budget(options.messages_per_s, options.interval_ms / 1000)
    document = flood_costs(bill, options.subscribers, budget)
    print(json.dumps(document, indent=2) if options.json else "\n".join(describe_attack(document)))
    return 0


def estimate(event: Event, stack: Stack, prices: Prices) -> dict[str, Any]:
    """Everything that is printed, as a JSON document; amounts in USD."""
    month, extra = list(standing(stack, prices)), list(event_lines(event, stack, prices))
    return {
        "region": prices.region,
        "prices_dated": prices.dated.isoformat(),
        "month": _part(month),
        "event": _part(extra),
        "votes": event.votes,
        "broadcasts": event.broadcasts,
        "interval_ms": event.interval_s * 1000,
        "shards": len(event.turn.shards),
        "other_intervals": list(_other_intervals(event, stack, prices)),
        "assumed": sorted({line.what for line in (*month, *extra) if line.price.known == "assumed" and line.quantity}),
    }


def _part(lines: Sequence[LineItem]) -> dict[str, Any]:
    total = math.fsum(line.usd for line in lines)
    greatest = max(lines, key=lambda line: line.usd)
    return {
        "usd": total,
        "dominant": {"what": greatest.what, "share": greatest.usd / total if total else 0.0},
        "lines": [
            {"what": line.what, "quantity": line.quantity, "unit": line.price.unit, "usd": line.usd} for line in lines
        ],
    }


def _other_intervals(event: Event, stack: Stack, prices: Prices) -> Iterator[dict[str, Any]]:
    for times in SLOWER:
        interval_ms = round(event.interval_s * 1000 * times)
        other = replace(event, least_interval_ms=interval_ms)
        yield {
            "least_interval_ms": interval_ms,
            "messages": other.messages,
            "event_usd": math.fsum(line.usd for line in event_lines(other, stack, prices)),
        }


def describe(document: dict[str, Any]) -> Iterator[str]:
    """Render *document* as text with tables."""
    yield f"List prices of {document['region']} in USD as of {document['prices_dated']}, without free tiers and taxes."
    for name, title in (("month", "A month without votes"), ("event", "What the event adds")):
        part = document[name]
        rows = [
            (line["what"], _number(line["quantity"]), line["unit"], f"{line['usd']:,.2f}") for line in part["lines"]
        ]
        yield f"\n{title}: {part['usd']:,.2f}"
        yield table([("", "quantity", "unit", "USD"), *rows])
        yield f"Most of it: {part['dominant']['what']} ({part['dominant']['share']:.0%})"
    shards = f"{document['shards']} shard{'' if document['shards'] == 1 else 's'}"
    yield (
        f"\nBroadcasts: at most {document['broadcasts']:,}, one every {document['interval_ms']:,.0f} ms in {shards}. "
        "Each is a message\nto every subscriber, so the interval is what you can adjust:"
    )
    others = [
        (f"{row['least_interval_ms']:,}", f"{row['messages']:,}", f"{row['event_usd']:,.2f}")
        for row in document["other_intervals"]
    ]
    yield table([("BROADCAST_INTERVAL_MS", "messages", "the event, USD"), *others])
    if document["assumed"]:
        yield f"\nPrices that could not be verified (see votectl/cost/prices.toml): {', '.join(document['assumed'])}"


def _number(quantity: float) -> str:
    return f"{quantity:,.0f}" if quantity >= 100 or quantity == int(quantity) else f"{quantity:,.3g}"


def _count(text: str) -> int:
    return int(_at_least(text, 0, int(text)))


def _interval(text: str) -> int:
    return int(_at_least(text, 50, int(text)))


def _rate(text: str) -> int:
    return int(_at_least(text, 1, int(text)))


def _positive(text: str) -> float:
    number = _at_least(text, 0, float(text))
    if not (number and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _at_least(text: str, least: int, number: float) -> float:
    if not number >= least:
        raise argparse.ArgumentTypeError(f"{text} is less than {least}")
    return number
