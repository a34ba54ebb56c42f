"""Which worker drains the list, ours or another. The draining is handed over, never shared."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from voting.clients import Clients
from voting.ops.list_watch import watch
from voting.queue.vote_queue import NotAList, VoteQueue
from voting.worker.fencing import fence_off

# A run that has claimed nothing may still wait 0.2 s for a vote and then move it, and its calls to Redis before and
# after may take 0.9 s each. This is longer.
SETTLE_S = 2.5
WATCH_S = 2.0


class StillDrained(Exception):
    """Another worker takes votes from the list. Two drainers could apply the choices of a voter out of order."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """What a handover did."""

    changed: bool  # false if the draining was there already
    returned: int  # votes of a batch whose run had died, moved back to the list
    waiting: int  # votes in the list


def hand_back(clients: Clients) -> HandOver:
    """Stop our worker, and return its batch to the tail of the list, in order. Then another worker may drain.

    It can be repeated, also after a failure. Our worker takes no more votes from the start of this call.

    Raises:
        psycopg.OperationalError: a commit that was in progress took longer than the lock timeout.
    """
    queue = VoteQueue(clients.redis())
    changed = queue.stop_claims()
    token = fence_off(clients, queue)
    # A run that has just committed acknowledges its batch during this pause. If we returned that batch, another worker
    # could apply it after newer votes. What is left after the pause belongs to a run that died or hangs.
    time.sleep(SETTLE_S)
    returned = queue.give_back(token)
    return HandOver(changed, returned, queue.backlog().waiting)


def take_over(clients: Clients, *, force: bool = False, prepare: Callable[[], None] = lambda: None) -> HandOver:
    """Let our worker drain again, from its next run on. *prepare* is called just before, after all checks passed.

    Raises:
        StillDrained: the old worker seems to run, and *force* is false.
        NotAList: the key `votes` is not a list.
    """
    queue = VoteQueue(clients.redis())
    backlog = queue.backlog()
    if backlog.kind not in {"list", "none"}:
        raise NotAList
    # While the draining is handed back, our worker takes nothing. If messages are taken, another worker runs.
    if backlog.handed_back_s is not None and not force and watch(queue, WATCH_S).is_drained:
        raise StillDrained
    prepare()
    changed = queue.allow_claims()
    return HandOver(changed, 0, queue.backlog().waiting)
