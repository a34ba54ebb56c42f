"""`votectl cost`: the cost of a month and of an event, its largest item, and what slower broadcasts save."""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from votectl.arguments import Commands
from votectl.cost.attack import Bill, describe_attack, flood_costs
from votectl.cost.environment import ALWAYS, NoEnvironment, counting_hours, of_environment
from votectl.cost.estimate import CHATTY_PAGES, Event, LineItem, Stack, chatty_day, event_lines, standing
from votectl.cost.prices import NoPrice, Prices, regions
from votectl.table import table
from voting.broadcast.planner import Budget
from voting.question import Question
from voting.settings import InvalidSetting, Settings

SLOWER = (1, 2, 5, 10)  # multiples of the interval that is asked for, or that the budget allows
SHORTEST_MS, SLOW_MS = 50, 1_000  # shown beside the interval that is asked for

# What counts for an option that neither the command line nor an environment of samconfig.toml gives: the defaults of
# template.yaml.
DEFAULTS: Mapping[str, Any] = {
    "region": "eu-central-1",
    "interval_ms": 250,
    "messages_per_s": 4000,
    "architecture": "arm64",
    "cache_node": "cache.t4g.small",
    "cache_nodes": 2,
    "database": "db.t4g.medium",
    "database_storage": 20,
    "single_az": False,
    "nat": False,
    "worker_schedule": ALWAYS,
    "alarms": "all",
    "budget": 0.0,
    "question": "",
    "options": "",
}


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
    add("--env", metavar="NAME", help="take region and sizes from this environment of samconfig.toml: dev, prod, club")
    _add_of_stack(cost)
    add("--attack", action="store_true", help="show what a flood of each kind of request costs per hour, and its limit")
    add("--json", action="store_true", help="print JSON, for scripts")
    cost.set_defaults(command=run_cost)


def _add_of_stack(cost: argparse.ArgumentParser) -> None:
    """Declare what an environment may give, too; without a default, so that it can be told what was given."""

    def add(name: str, help_: str, **more: Any) -> None:
        default = DEFAULTS[name.removeprefix("--").replace("-", "_")]
        shown = "" if not default else f" (default: {default})"
        cost.add_argument(name, default=argparse.SUPPRESS, help=f"{help_}{shown}", **more)

    add("--region", "region of the prices", choices=regions())
    add("--interval-ms", "parameter BroadcastIntervalMs, 50 at least", type=_interval)
    add("--messages-per-s", "parameter BroadcastMessagesPerSecond", type=_rate)
    add("--architecture", "parameter Architecture", choices=("arm64", "x86_64"))
    add("--cache-node", "parameter CacheNodeType")
    add("--cache-nodes", "parameter CacheNodes", type=_count)
    add("--database", "parameter DatabaseClass")
    add("--database-storage", "parameter DatabaseStorageGiB", type=_count, metavar="GIB")
    add("--single-az", "no standby of the database (parameter DatabaseMultiAz=false)", action="store_true")
    add("--nat", "with a NAT gateway (parameter Egress=nat)", action="store_true")
    add("--worker-schedule", "parameter WorkerSchedule", metavar="WHEN")
    add("--alarms", "parameter Alarms", choices=("all", "few"))
    add("--budget", "parameter MonthlyBudgetUSD: it has an alarm", type=_amount, metavar="USD")
    add("--question", "parameter Question: longer frames", metavar="TEXT")
    add("--options", "parameter Options: longer frames", metavar="LABELS")


def run_cost(options: argparse.Namespace) -> int:
    """Print the estimate; return the exit code."""
    try:
        environment = {} if options.env is None else of_environment(options.env)
        options = argparse.Namespace(**{**DEFAULTS, **environment, **vars(options)})
        return _run_attack(options) if options.attack else _run_estimate(options)
    except (NoPrice, NoEnvironment, InvalidSetting) as error:
        print(error, file=sys.stderr)
        return 2


def _run_estimate(options: argparse.Namespace) -> int:
    event = Event(
        options.voters,
        options.votes_per_voter,
        options.subscribers,
        options.hours,
        options.interval_ms,
        options.messages_per_s,
        _question(options),
    )
    stack = Stack(
        options.architecture,
        options.cache_node,
        options.cache_nodes,
        options.database,
        options.database_storage,
        not options.single_az,
        options.nat,
        counting_hours(options.worker_schedule),
        options.alarms == "few",
        options.budget > 0,
    )
    document = estimate(event, stack, Prices.of(options.region))
    print(json.dumps(document, indent=2) if options.json else "\n".join(describe(document)))
    return 0


def _question(options: argparse.Namespace) -> Question:
    return Settings({"QUESTION": options.question, "OPTIONS": options.options}).question


def _run_attack(options: argparse.Namespace) -> int:
    """Print what floods cost; return the exit code."""
    bill = Bill(Prices.of(options.region), options.architecture, _question(options))
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
        "chatty_voter": list(_chatty_voter(event, stack, prices)),
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


def _chatty_voter(event: Event, stack: Stack, prices: Prices) -> Iterator[dict[str, Any]]:
    for interval_ms in sorted({SHORTEST_MS, event.least_interval_ms, SLOW_MS}):
        day = replace(chatty_day(interval_ms, event.messages_per_s), question=event.question)
        usd = math.fsum(line.usd for line in event_lines(day, stack, prices))
        yield {"interval_ms": interval_ms, "messages": day.messages, "usd_a_day": usd}


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
    yield f"\nOne voter who changes the vote with every broadcast, all day, before {CHATTY_PAGES} open pages:"
    chatty = [
        (f"{row['interval_ms']:,}", f"{row['messages']:,}", f"{row['usd_a_day']:,.2f}")
        for row in document["chatty_voter"]
    ]
    yield table([("BROADCAST_INTERVAL_MS", "messages a day", "USD a day"), *chatty])
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


def _amount(text: str) -> float:
    return _at_least(text, 0, float(text))


def _positive(text: str) -> float:
    number = _at_least(text, 0, float(text))
    if not (number and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _at_least(text: str, least: int, number: float) -> float:
    if not number >= least:
        raise argparse.ArgumentTypeError(f"{text} is less than {least}")
    return number
