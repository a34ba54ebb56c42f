"""suite.py: all tests, in three runs of pytest.

WAITING spends its time on containers, clients and time-outs, and has one process for itself. At the same time, two
processes share the other tests, file by file. ALONE loads both cores or times responses, and runs after them.
"""

import os
import subprocess
import sys
import tempfile

import pytest

WAITING = ("tests/sam", "tests/integration/local")
ALONE = ("tests/browser", "tests/chaos", "tests/e2e")
PATIENCE = "2"  # the runs share the machine

PYTEST = (sys.executable, "-m", "pytest")
SHARED = ("-n", "2", "--dist", "loadfile", *(f"--ignore={folder}" for folder in (*WAITING, *ALONE)))


def main() -> int:
    env = {"TEST_PATIENCE": PATIENCE, **os.environ}
    with tempfile.TemporaryFile() as report:
        waiting = subprocess.Popen([*PYTEST, *WAITING], env=env, stdout=report, stderr=subprocess.STDOUT)
        statuses = [_end(subprocess.Popen([*PYTEST, *SHARED], env=env))]
        if statuses != [pytest.ExitCode.INTERRUPTED]:
            statuses.append(_end(subprocess.Popen([*PYTEST, *ALONE], env=env)))
        statuses.append(_end(waiting))
        report.seek(0)
        sys.stdout.buffer.write(f"\nAt the same time, {' '.join(WAITING)}:\n".encode() + report.read())
    return max(statuses)


def _end(run: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a run, also after Ctrl-C, which it handles too; return its exit code or signal."""
    while True:
        try:
            return abs(run.wait())
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main())
