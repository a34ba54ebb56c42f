"""Who drains the list: our worker, or another one. It is handed over, never shared."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from voting.clients import Clients
from voting.ops.list_watch import watch
from voting.queue.vote_queue import NotAList, VoteQueue
from voting.worker.fencing import fence_off

# Longer than a run that claimed nothing may still be waiting for a vote, which it then moves: 0.2 s, and up to 0.9 s
# for the answers before and after.
SETTLE_S = 2.5
WATCH_S = 2.0


class StillDrained(Exception):
    """Somebody takes votes from the list: two drainers could apply one voter's choices out of order."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """What was done."""

    changed: bool  # false where it was so already
    returned: int  # votes that went back from the batch of a run that was not there to return them itself
    waiting: int  # votes in the list


def hand_back(clients: Clients) -> HandOver:
    """Stop our worker, and return its batch to the tail of the list, in order; then another may drain.

    It may be repeated, also where it broke off: from its first moment on our worker takes no more votes.

    Raises:
        psycopg.OperationalError: a batch that is being committed was not over within the lock timeout.
    """
    queue = VoteQueue(clients.redis())
    changed = queue.stop_claims()
    token = fence_off(clients, queue)
    # A run that has just committed acknowledges meanwhile: what another worker were given again, it could apply after
    # newer votes. What is left then belongs to a run that died or stands still.
    time.sleep(SETTLE_S)
    returned = queue.give_back(token)
    return HandOver(changed, returned, queue.backlog().waiting)


def take_over(clients: Clients, *, force: bool = False, prepare: Callable[[], None] = lambda: None) -> HandOver:
    """Let our worker drain again, from its next run on. *prepare* is called before, where nothing speaks against it.

    Raises:
        StillDrained: the old worker seems to run, and *force* is not given.
        NotAList: the key `votes` holds something else.
    """
    queue = VoteQueue(clients.redis())
    backlog = queue.backlog()
    if backlog.kind not in {"list", "none"}:
        raise NotAList
    # While it is handed back we take nothing ourselves: who does is another.
    if backlog.handed_back_s is not None and not force and watch(queue, WATCH_S).is_drained:
        raise StillDrained
    prepare()
    changed = queue.allow_claims()
    return HandOver(changed, 0, queue.backlog().waiting)
