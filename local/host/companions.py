"""Companions: programs that run beside the system and end with it, such as the demo of `make up DEMO=1`."""

import shlex
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from local.host.processes import start

_GRACE_S = 3.0


async def start_companions(
    companions: Iterable[tuple[str, str]],
    env: Mapping[str, str],
    show: Callable[[str, bytes], None],
    stack: AsyncExitStack,
) -> None:
    """Start each of *companions*, a name and a command, until *stack* ends; *show* gets its name with each line."""
    for name, command in companions:
        child = await start(
            shlex.split(command),
            env=env,
            cwd=Path.cwd(),
            output=partial(show, name),
            death_signal=signal.SIGTERM,
        )
        stack.push_async_callback(child.stop, signal.SIGTERM, _GRACE_S)
