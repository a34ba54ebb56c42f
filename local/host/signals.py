"""The signals that stop a run."""

import asyncio
import os
import signal
from collections.abc import Callable


def stop_on_signals(task: asyncio.Task[None], say: Callable[[str], None]) -> asyncio.Event:
    """Cancel *task* on the first SIGINT, SIGTERM or SIGHUP; return the event that is set then.

    The third signal ends this process at once.
    """
    stopping = asyncio.Event()
    seen = 0

    def stop() -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            stopping.set()
            say("Stopping …")
            task.cancel()
        elif seen > 2:  # children that are left end by their death signal
            os._exit(1)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopping
