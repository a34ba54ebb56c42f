"""How the vote stands behind the scenes: the queue, the batch in process, dead letters, tally, subscribers."""

import psycopg
from redis.exceptions import RedisError

from voting.clients import Clients
from voting.connections import Subscribers
from voting.dead_letters import DeadLetters
from voting.queue_view import Backlog, QueueView
from voting.reason import explain
from voting.settings import InvalidSetting
from voting.snapshot import Snapshots
from voting.tally import VoteTable

OLD_BATCH_S = 60.0  # a batch takes seconds; older means that no run gets it through
OLD_SNAPSHOT_S = 30.0  # the worker confirms it every second


def read_status(clients: Clients, *, counted: bool) -> dict[str, object]:
    """Everything that can be read, and under `problems` what is wrong. *counted* adds a count of the rows.

    A store that does not answer is a problem, not an exception: the other one still has something to say.
    """
    problems: list[str] = []
    status: dict[str, object] = {}
    try:
        status |= _redis(clients, problems)
    except (RedisError, InvalidSetting) as error:
        problems.append(f"Redis does not answer as it should: {explain(error)}")
    try:
        status |= _postgres(clients, counted=counted)
    except psycopg.errors.UndefinedTable:
        problems.append("Postgres has no tally yet: the worker makes it on its first run")
    except (psycopg.Error, InvalidSetting) as error:
        problems.append(f"Postgres does not answer as it should: {explain(error)}")
    return {**status, "problems": problems}


def _redis(clients: Clients, problems: list[str]) -> dict[str, object]:
    queue = QueueView(clients.redis())
    backlog = queue.backlog()
    problems += _complaints(backlog)
    snapshot = Snapshots(clients.redis()).read()
    if backlog.handed_back_s is None and (snapshot is None or snapshot.age_s > OLD_SNAPSHOT_S):
        problems.append("the snapshot is not confirmed: does the worker run?")
    subscribers = Subscribers(clients.redis()).state().sizes
    return {
        "queue": {
            "type": backlog.kind,
            "waiting": backlog.waiting,
            "in_process": backlog.in_process,
            "batch_age_s": backlog.batch_age_s,
            "handed_back_s": backlog.handed_back_s,
            "fence": queue.greatest_token(),
        },
        "dead": {"total": backlog.dead, "by_reason": dict(DeadLetters(clients.redis()).count())},
        "snapshot": snapshot and {"version": snapshot.tally.version, "age_s": round(snapshot.age_s, 3)},
        "subscribers": sum(subscribers),
    }


def _complaints(backlog: Backlog) -> list[str]:
    found = []
    if backlog.kind not in {"list", "none"}:
        found.append(
            f"the key `votes` is a {backlog.kind}, no list: nothing is drained until somebody has looked at it"
        )
    if backlog.batch_age_s is not None and backlog.batch_age_s > OLD_BATCH_S:
        found.append(f"a batch is in process for {backlog.batch_age_s:.0f} s: see the worker's log")
    if backlog.handed_back_s is not None and backlog.in_process:
        found.append("the draining is handed back, but votes are in process: run `handback` again")
    return found


def _postgres(clients: Clients, *, counted: bool) -> dict[str, object]:
    table = VoteTable(clients.postgres())
    tally = table.tally()
    status: dict[str, object] = {"version": tally.version, "counts": dict(tally.counts), "fence": table.fence()}
    if counted:
        status["rows"] = dict(table.count())
    return {"tally": status}
