"""`python -m bench.load.worker VOTES`: one run of the worker in a process of its own, as one execution environment is.

It says when it is ready, drains VOTES votes once a line comes in, and prints what that took as JSON.
"""

import json
import os
import re
import sys
import time
from pathlib import Path


def peak_mb() -> float:
    """The most memory that this process had resident so far, since its program was loaded.

    Not ru_maxrss, which a child takes over from the process that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) / 1024


def main() -> None:
    bare_mb = peak_mb()
    answers, sys.stdout = sys.stdout, sys.stderr  # where the run writes its logs and metrics
    # Here, so that the share of the imports shows: the worker's own, as functions/worker/app.py has them.
    import aws_lambda_powertools.utilities.typing  # noqa: F401, PLC0415
    import boto3  # noqa: F401, PLC0415
    import psycopg  # noqa: F401, PLC0415

    from voting.clients import Clients  # noqa: PLC0415
    from voting.database.roles import Role  # noqa: PLC0415
    from voting.settings import Settings  # noqa: PLC0415
    from voting.worker.drain import STOP_BEFORE_END_S, Drain  # noqa: PLC0415
    from voting.worker.publisher import ResultsPublisher  # noqa: PLC0415

    imported_mb = peak_mb()
    expected = int(sys.argv[1])
    settings = Settings(os.environ)
    clients = Clients(settings, redis_retries=0, name="voting-worker", role=Role.WORKER)
    commits: list[tuple[int, float]] = [(0, 0.0)]  # votes stored by then, seconds since the start

    def remaining_s() -> float:
        """Forever until all is committed, and for the one step more that acknowledges it."""
        stored, _ = commits[-1]
        if stored >= expected:
            return 0.0
        if drain.counted.stored > stored:
            commits.append((drain.counted.stored, time.perf_counter() - started))
        return STOP_BEFORE_END_S + 1

    with ResultsPublisher(Clients(settings, name="voting-publisher", role=Role.WORKER)) as publisher:
        drain = Drain(clients, remaining_s, publisher.moved, publisher.next_turn_at)
        print("ready", file=answers, flush=True)
        sys.stdin.readline()
        started, cpu = time.perf_counter(), time.process_time()
        drain.run()
        cpu_s = time.process_time() - cpu
    clients.close()
    took = {
        "commits": commits[1:],
        "cpu_s": cpu_s,
        "bare_mb": bare_mb,
        "imported_mb": imported_mb,
        "peak_mb": peak_mb(),
    }
    print(json.dumps(took), file=answers, flush=True)


if __name__ == "__main__":
    main()
