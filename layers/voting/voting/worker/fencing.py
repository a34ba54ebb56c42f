"""The fence without a run: taking it keeps every earlier run from committing."""

import psycopg

from voting.clients import Clients
from voting.database.vote_table import VoteTable
from voting.queue.vote_queue import VoteQueue


def fence_off(clients: Clients, queue: VoteQueue) -> int:
    """Take the fence and return its token: from then on, no earlier run can commit."""
    try:
        return VoteTable(clients.postgres()).take_fence(queue.greatest_token())
    except (psycopg.errors.UndefinedTable, psycopg.errors.NoDataFound):  # never installed, removed, or emptied by hand
        return queue.greatest_token()
