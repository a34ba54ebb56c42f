"""suite.py: all tests, in two runs of pytest at once.

The containers' tests build, start SAM CLIs and wait for an engine, and those of `local` wait for clients and time-outs.
The others leave them one core until they come to what needs the whole machine, which tests/conftest.py puts last.
"""

import os
import subprocess
import sys
import tempfile

BESIDE = ("tests/sam", "tests/integration/local")
PATIENCE = "2"  # for whoever has to share the machine


def main() -> int:
    pytest = [sys.executable, "-m", "pytest"]
    env = {"TEST_PATIENCE": PATIENCE, **os.environ}
    with tempfile.TemporaryFile() as report:
        beside = subprocess.Popen([*pytest, *BESIDE], env=env, stdout=report, stderr=subprocess.STDOUT)
        here = subprocess.Popen([*pytest, *(f"--ignore={folder}" for folder in BESIDE)], env=env)
        statuses = [_end(here), _end(beside)]
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
