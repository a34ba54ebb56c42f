"""The status of the system: the queue, the batch in process, dead letters, tally, subscribers."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from redis.exceptions import RedisError

from voting.broadcast.subscribers import Subscribers
from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.ops.list_watch import watch
from voting.queue.dead_letters import DeadLetters
from voting.queue.queue_view import TROUBLE as TROUBLE_OF_COUNTING
from voting.queue.queue_view import Backlog, QueueView
from voting.queue.trouble import Record, read_trouble
from voting.reason import explain
from voting.results.snapshot import TROUBLE as TROUBLE_OF_RESULTS
from voting.results.snapshot import Snapshots
from voting.settings import InvalidSetting

OLD_BATCH_S = 60.0  # a batch takes seconds; an older one fails in every run
WATCH_S = 0.5
OLD_SNAPSHOT_S = 30.0  # the worker confirms it every second


def read_status(clients: Clients, *, counted: bool) -> dict[str, object]:
    """All that can be read, and what is wrong under `problems`. *counted* adds a count of the rows.

    A store that does not respond is a problem, not an exception, so that the other store is still reported.
    """
    problems: list[str] = []
    status: dict[str, object] = {}
    try:
        status |= _redis(clients, problems)
    except (RedisError, InvalidSetting) as error:
        problems.append(f"Redis does not respond as it should: {explain(error)}")
    try:
        status |= _postgres(clients, problems, counted=counted)
    except psycopg.errors.UndefinedTable:
        if _is_handed_back(status):
            return {**status, "problems": problems}  # then another worker uses the database, and needs no tally
        problems.append("Postgres has no tally: the worker creates it on its next run, once the draining is ours")
    except (psycopg.Error, InvalidSetting) as error:
        problems.append(f"Postgres does not respond as it should: {explain(error)}")
    return {**status, "problems": problems}


def _is_handed_back(status: Mapping[str, Any]) -> bool:
    return bool(status.get("counting", {}).get("state") == "handed_back")


def _redis(clients: Clients, problems: list[str]) -> dict[str, object]:
    queue = QueueView(clients.redis())
    backlog = queue.backlog()
    trouble = read_trouble(clients.redis(), TROUBLE_OF_COUNTING)
    announcing = read_trouble(clients.redis(), TROUBLE_OF_RESULTS)
    problems += [*_complaints(backlog), *_stall(backlog, trouble), *_forgotten(queue, backlog)]
    if announcing is not None:
        problems.append(f"results have not been announced since {announcing.since}: {announcing.error}")
    snapshot = Snapshots(clients.redis()).read()
    if backlog.handed_back_s is None and (snapshot is None or snapshot.age_s > OLD_SNAPSHOT_S):
        problems.append("the snapshot is not confirmed: is the worker running?")
    subscribers = Subscribers(clients.redis()).state().sizes
    return {
        "counting": {
            "state": backlog.counting,
            "behind_s": backlog.behind_s,
            "trouble": trouble and trouble.document(),
        },
        "queue": {
            "type": backlog.kind,
            "waiting": backlog.waiting,
            "in_process": backlog.in_process,
            "batch_age_s": backlog.batch_age_s,
            "handed_back_s": backlog.handed_back_s,
            "fence": queue.greatest_token(),
        },
        "dead": _dead(DeadLetters(clients.redis()), problems),
        "snapshot": snapshot and {"version": snapshot.tally.version, "age_s": round(snapshot.age_s, 3)},
        "subscribers": sum(subscribers),
    }


def _dead(letters: DeadLetters, problems: list[str]) -> dict[str, object]:
    size, account = letters.measure(), letters.account()
    if account.since_ms is not None:
        since = f"{datetime.fromtimestamp(account.since_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
        problems.append(
            f"the list of dead letters is full: the oldest {account.dropped or 0} were dropped and "
            f"{account.shortened or 0} shortened since {since}; `dead drop` makes room and clears this"
        )
    most, most_bytes = account.most or math.inf, account.most_bytes or math.inf
    if size.letters > most or size.bytes > most_bytes:
        problems.append(
            f"there is no room for more dead letters ({most} and {most_bytes} bytes): votes that the database "
            "refused are never dropped; repair the cause, then requeue them"
        )
    return {
        "total": size.letters,
        "by_reason": dict(size.counts),
        "bytes": size.bytes,
        "dropped": account.dropped or 0,
        "shortened": account.shortened or 0,
    }


def _stall(backlog: Backlog, trouble: Record | None) -> list[str]:
    """Why votes are not counted, and since when."""
    if backlog.counting == "stalled":
        why = (
            f"since {trouble.since}: {trouble.error}" if trouble else "no run has met an error: is the worker running?"
        )
        return [f"votes wait, and none has been counted for {backlog.behind_s:.0f} s; {why}"]
    return [f"the worker has met errors since {trouble.since}: {trouble.error}"] if trouble else []


def _forgotten(queue: QueueView, backlog: Backlog) -> list[str]:
    """The problem that the list was handed back and the other worker does not drain it."""
    if backlog.handed_back_s is None or not backlog.waiting or watch(queue, WATCH_S).is_drained:
        return []
    problem = f"{backlog.waiting} messages wait, and no worker takes any: the list is handed back"
    return [f"{problem}; is the other worker running?"]


def _complaints(backlog: Backlog) -> list[str]:
    found = []
    if backlog.kind not in {"list", "none"}:
        found.append(f"the key `votes` is a {backlog.kind}, not a list: nothing is drained until this is repaired")
    if backlog.batch_age_s is not None and backlog.batch_age_s > OLD_BATCH_S:
        found.append(f"a batch is in process for {backlog.batch_age_s:.0f} s: see the worker's log")
    if backlog.handed_back_s is not None and backlog.in_process:
        found.append("the draining is handed back, but votes are in process: run `handback` again")
    return found


def _postgres(clients: Clients, problems: list[str], *, counted: bool) -> dict[str, object]:
    table = VoteTable(clients.postgres())
    tally = table.tally()
    status: dict[str, object] = {"version": tally.version, "counts": dict(tally.counts), "fence": table.fence()}
    if missing := table.missing_triggers():
        problems.append(f"the tally does not follow: triggers are missing or disabled: {', '.join(sorted(missing))}")
    if counted:
        status["rows"] = dict(table.count())
    return {"tally": status}
