"""`python -m bench.load.worker VOTES`: one run of the worker in its own process, as in an execution environment.

Prints `ready`, waits for a line on standard input, drains VOTES votes, and prints the measurements as JSON.
"""

import json
import os
import re
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from voting.worker.batch import Counted

# Those of functions/worker/app.py, and boto3, which the worker imports while it waits for the fence.
IMPORTS = (
    "aws_lambda_powertools.utilities.typing",
    "boto3",
    "psycopg",
    "voting.clients",
    "voting.worker.drain",
    "voting.worker.publisher",
)


def peak_mb() -> float:
    """The peak resident memory of this process since its program was loaded.

    Not ru_maxrss, which a child inherits from the process that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) / 1024


class CommitClock:
    """Records when votes are committed, and gives the run exactly the time that it needs for *expected* votes."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._stored = 0
        self.commits: list[tuple[int, float]] = []  # votes stored by then, seconds since the start

    def start(self, counted: "Counted") -> None:
        """Start the clock of the run that keeps *counted* up to date."""
        self._counted = counted
        self._started = time.perf_counter()

    def remaining_s(self) -> float:
        """Enough for one more step, until all votes are committed; a run asks after each commit."""
        from voting.worker.drain import STOP_BEFORE_END_S  # noqa: PLC0415 - measured as one of IMPORTS

        if self._stored >= self._expected:  # the step after the last commit has acknowledged it
            return 0.0
        if self._counted.stored > self._stored:
            self._stored = self._counted.stored
            self.commits.append((self._stored, time.perf_counter() - self._started))
        return STOP_BEFORE_END_S + 1


def drain(expected: int, answers: TextIO) -> dict[str, Any]:
    """Drain *expected* votes once a line arrives on standard input; return commits and CPU time."""
    from voting.clients import Clients  # noqa: PLC0415 - measured as one of IMPORTS
    from voting.database.roles import Role  # noqa: PLC0415
    from voting.settings import Settings  # noqa: PLC0415
    from voting.worker.drain import Drain  # noqa: PLC0415
    from voting.worker.publisher import ResultsPublisher  # noqa: PLC0415

    settings = Settings(os.environ)
    clients = Clients(settings, redis_retries=0, name="voting-worker", role=Role.WORKER)
    clock = CommitClock(expected)
    with ResultsPublisher(Clients(settings, name="voting-publisher", role=Role.WORKER)) as publisher:
        run = Drain(clients, clock.remaining_s, publisher.moved, publisher.next_turn_at)
        print("ready", file=answers, flush=True)
        sys.stdin.readline()
        cpu = time.process_time()
        clock.start(run.counted)
        run.run()
        cpu_s = time.process_time() - cpu
    clients.close()
    return {"commits": clock.commits, "cpu_s": cpu_s}


def main() -> None:
    """Measure memory before the imports, after them and at its peak; drain in between."""
    bare_mb = peak_mb()
    answers, sys.stdout = sys.stdout, sys.stderr  # the run writes its logs and metrics to standard output
    for name in IMPORTS:
        import_module(name)
    imported_mb = peak_mb()
    drained = drain(int(sys.argv[1]), answers)
    memory = {"bare_mb": bare_mb, "imported_mb": imported_mb, "peak_mb": peak_mb()}
    print(json.dumps(drained | memory), file=answers, flush=True)


if __name__ == "__main__":
    main()
