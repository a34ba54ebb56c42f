"""`python -m local`: serve template.yaml on this machine."""

import os
import signal
import sys
from types import FrameType


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    # Before the imports, which take most of the first half second. Until the run itself listens to signals, it has
    # started no process, and its lock ends with this one: there is nothing to clean up, and no stack trace to show.
    for stopping in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stopping, _end)
    from local.command_line import main

    sys.exit(main())
