"""The wait for the first execution environment of every function, before a run says that it is up."""

import asyncio
import time
from collections.abc import Callable, Collection

from local.awslambda.invocation import Answer
from local.awslambda.service import LambdaService
from local.start_error import StartError
from local.template.resources import short_name


async def warm_up(
    functions: LambdaService, names: Collection[str], changed: asyncio.Event | None, say: Callable[[str], None]
) -> None:
    """Return when each function of *names* has an environment that has initialised.

    If one does not start, try again whenever *changed* tells that there is new code.

    Raises:
        StartError: one does not start, and *changed* is None, since nothing watches for new code.
    """
    if not names:
        return
    began = time.monotonic()
    say(f"Starting {', '.join(map(short_name, names))} …")
    while True:
        if changed is not None:
            changed.clear()
        answers = await asyncio.gather(*(functions.warm(name) for name in names))
        broken = {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}
        if not broken:
            break
        reason = "; ".join(f"{short_name(name)} does not start: {_text(answer)}" for name, answer in broken.items())
        if changed is None:
            raise StartError(reason)
        say(f"{reason}\nWaiting for a change of its code …")
        await changed.wait()
    say(f"  ready after {time.monotonic() - began:.1f} s")


def _text(answer: Answer) -> str:
    return answer.payload.decode(errors="replace")
