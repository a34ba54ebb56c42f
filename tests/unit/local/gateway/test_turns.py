"""Posts give way to urgent work."""

import asyncio
from functools import partial
from itertools import count

import pytest

from local.gateway.turns import SLICE_S, Turns


@pytest.mark.parametrize(("is_urgent", "served_by_then"), [(True, [2, 4, 6, 8, 10]), (False, [10])])
def test_all_else_has_its_turn_after_a_slice_where_it_is_urgent(is_urgent: bool, served_by_then: list[int]) -> None:
    ticks = count()
    served: list[int] = []
    by_then: list[int] = []

    async def wait_for_all() -> None:
        # Each look at the clock is three quarters of a slice after the last, so two fill one.
        turns = Turns(lambda: is_urgent, lambda: next(ticks) * 0.75 * SLICE_S)
        for number in range(10):
            turns.wait(partial(served.append, number))
        while len(served) < 10:
            await asyncio.sleep(0)
            by_then.append(len(served))

    asyncio.run(wait_for_all())
    assert served == list(range(10))
    assert by_then == served_by_then


def test_a_failure_does_not_delay_the_others() -> None:
    failures: list[BaseException] = []

    def fail() -> None:
        raise RuntimeError("a mistake")

    async def wait_for_others() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
        turns, next_to_it, later = Turns(lambda: False), asyncio.Event(), asyncio.Event()
        turns.wait(fail)
        turns.wait(next_to_it.set)
        await next_to_it.wait()
        turns.wait(fail)
        await asyncio.sleep(0)
        turns.wait(later.set)
        await later.wait()

    asyncio.run(asyncio.wait_for(wait_for_others(), 10))
    assert [str(failure) for failure in failures] == ["a mistake", "a mistake"]
