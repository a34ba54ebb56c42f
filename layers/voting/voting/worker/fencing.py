"""The fence without a run: who takes it keeps every run that began before from committing."""

import psycopg

from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.queue.vote_queue import VoteQueue


def fence_off(clients: Clients, queue: VoteQueue) -> int:
    """Take the fence, without which no run commits: when this returns, no run before it can commit any more."""
    try:
        return VoteTable(clients.postgres()).take_fence(queue.greatest_token())
    except (psycopg.errors.UndefinedTable, psycopg.errors.NoDataFound):  # never installed, removed, or emptied by hand
        return queue.greatest_token()
