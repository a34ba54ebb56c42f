"""Every kind of fault by name, and the deck from which a round is dealt."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from tests.chaos import failover, stalls, store_faults, voter_faults, worker_faults, writer_faults
from tests.chaos.scene import Scene

Strike = Callable[[Scene], Awaitable[str]]

FAULTS: Mapping[str, Strike] = {
    "kill-after-claim": worker_faults.kill_after_claim,
    "kill-in-transaction": worker_faults.kill_in_transaction,
    "kill-after-commit": worker_faults.kill_after_commit,
    "kill-before-trim": worker_faults.kill_before_trim,
    "orphan-transaction": worker_faults.orphan_transaction,
    "zombie-before-transaction": worker_faults.zombie_before_transaction,
    "zombie-before-trim": worker_faults.zombie_before_trim,
    "late-claim": worker_faults.late_claim,
    "two-workers": worker_faults.two_workers,
    "three-workers": worker_faults.three_workers,
    "schedule-twice": worker_faults.schedule_twice,
    "redis-kill": store_faults.kill_redis,
    "postgres-quit": store_faults.quit_postgres,
    "terminate-backend": store_faults.terminate_backend,
    **{
        f"{which}-{name}": partial(strike, which=which)
        for which in ("redis", "postgres")
        for name, strike in (
            ("delay", store_faults.delay),
            ("cut", store_faults.cut),
            ("half-open", store_faults.half_open),
            ("deaf", store_faults.deaf),
        )
    },
    "vote-kill": voter_faults.kill_vote,
    "late-push": voter_faults.late_push,
    "broadcast-kill": voter_faults.kill_broadcast,
    "row-locks": writer_faults.lock_rows,
    "other-writer": writer_faults.write_rows,
    "stall-postgres": stalls.without_postgres,
    "stall-redis": stalls.without_redis,
    "stall-deaf": stalls.with_deaf_postgres,
    "stall-crashes": stalls.with_dying_worker,
    "stall-worker": stalls.without_worker,
    "stall-table": stalls.with_refusing_table,
}

# With a second Redis, which the first replicates to, and votes that wait for it. The others do without.
REPLICATED_FAULTS: Mapping[str, Strike] = {"redis-failover": failover.fail_over}


class Deck:
    """Deals every kind once before any comes again, so that each strikes about as often as the others."""

    def __init__(self, names: Sequence[str], rng: random.Random) -> None:
        self._names = list(names)
        self._rng = rng
        self._left: list[str] = []

    def deal(self) -> str:
        if not self._left:
            self._left = self._rng.sample(self._names, len(self._names))
        return self._left.pop()

    def put_back(self, name: str) -> None:
        """Have a fault that did not take effect dealt again soon."""
        self._left.insert(self._rng.randrange(len(self._left) + 1), name)
