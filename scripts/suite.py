"""suite.py: all tests, in three runs of pytest.

BESIDE waits for containers, clients and time-outs more than it computes, and has one process for itself. Meanwhile
two processes share the other tests, file by file. ALONE loads both cores or times answers, and begins after them.
"""

import os
import subprocess
import sys
import tempfile

import pytest

BESIDE = ("tests/sam", "tests/integration/local")
ALONE = ("tests/browser", "tests/chaos", "tests/e2e")
PATIENCE = "2"  # for whoever has to share the machine

PYTEST = (sys.executable, "-m", "pytest")
SHARED = ("-n", "2", "--dist", "loadfile", *(f"--ignore={folder}" for folder in (*BESIDE, *ALONE)))


def main() -> int:
    env = {"TEST_PATIENCE": PATIENCE, **os.environ}
    with tempfile.TemporaryFile() as report:
        beside = subprocess.Popen([*PYTEST, *BESIDE], env=env, stdout=report, stderr=subprocess.STDOUT)
        statuses = [_end(subprocess.Popen([*PYTEST, *SHARED], env=env))]
        if statuses != [pytest.ExitCode.INTERRUPTED]:
            statuses.append(_end(subprocess.Popen([*PYTEST, *ALONE], env=env)))
        statuses.append(_end(beside))
        report.seek(0)
        sys.stdout.buffer.write(f"\nBeside it, {' '.join(BESIDE)}:\n".encode() + report.read())
    return max(statuses)


def _end(run: subprocess.Popen[bytes]) -> int:
    """Wait for a run's end, also after Ctrl-C, which it gets as well and tidies up. Its status, or its signal."""
    while True:
        try:
            return abs(run.wait())
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main())
