"""How a run of the worker begins: with a tally that exists and is right, and no more rights than it needs."""

from collections.abc import Callable
from logging import INFO

import psycopg

from voting.clients import Clients
from voting.database.comparison import compare
from voting.database.roles import grant
from voting.database.session import NotInstalled
from voting.database.vote_table import VoteTable
from voting.observability import logger, tell
from voting.queue.vote_queue import VoteQueue
from voting.reason import is_ours
from voting.worker.fencing import fence_off

INSTALL = "run `votectl ops install`"


def begin(clients: Clients, queue: VoteQueue, changed: Callable[[], None]) -> int:
    """Install and compare the tally, take the fence, and return the token of the run.

    Calls *changed* if the figures may have changed.
    """
    # While the list is handed back, the database is another worker's: do not create again what its operator removed.
    if queue.backlog().handed_back_s is not None:
        return fence_off(clients, queue)
    table = VoteTable(clients.postgres())
    if _install(table, changed):
        table = _limited(table, clients)
        if compare(clients.postgres()):
            changed()
    token = table.take_fence(queue.greatest_token())
    tell("began a run", level=INFO, token=token)
    return token


def _install(table: VoteTable, changed: Callable[[], None]) -> bool:
    """Install the tally; return False if that of an older version stays, which our login may not replace."""
    try:
        if table.install():
            logger.info("installed the tally")
            changed()
    except psycopg.errors.InsufficientPrivilege as error:
        if not table.follows():
            known = (
                str(error)
                if is_ours(error)
                else "something that we need is not installed, and our login may not install it"
            )
            raise NotInstalled(f"{known}: {INSTALL}") from error
        tell(f"the tally stays as an older version created it: {INSTALL}", error=error)
        return False
    return True


def _limited(table: VoteTable, clients: Clients) -> VoteTable:
    """Return *table* over a session with only the rights that a run needs, granted now if this is the first run."""
    try:
        if not grant(clients.postgres()):
            return table
    except psycopg.errors.InsufficientPrivilege as error:
        tell("the sessions keep all rights of the login", error=error)
        return table
    clients.forget_postgres()
    return VoteTable(clients.postgres())
