"""A long operation on the dead letters, in invocations of seconds each: how far it has come, and the sum of them."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from votectl.ops.function import NotInvoked, OpsFunction
from votectl.table import many, was

PAGED = {"dead requeue": "requeued", "dead drop": "dropped"}  # and what their answers count
PAGE_S = 2.0


def page_by_page(
    function: OpsFunction,
    operation: str,
    arguments: Mapping[str, Any],
    say: Callable[[str], None],
    page_s: float = PAGE_S,
) -> dict[str, Any]:
    """Perform *operation* to its end, *page_s* at a time, and *say* after each how many letters are done.

    Returns the last answer, with the counts of all, be it a typed error.

    Raises:
        NotInvoked: the message says what earlier invocations have done.
    """
    counted, done, left = PAGED[operation], 0, Counter[str]()
    given = {**arguments, "within_s": page_s}
    while True:
        try:
            answer = function.perform(operation, given)
        except NotInvoked as error:
            before = f" Until then {many(done, 'letter')} {was(done)} {counted}." if "cursor" in given else ""
            raise NotInvoked(f"{error}{before}") from error
        done += answer.get(counted, 0)
        left.update(answer.get("left", {}))
        if answer["ok"] or counted in answer or done:
            answer[counted] = done
        if "left" in answer:
            answer["left"] = dict(left)
        if not answer["ok"] or not answer["cursor"]:
            return answer
        given["cursor"] = answer["cursor"]
        looked = done + left.total()
        say(f"{looked:,} of {many(looked + answer['remaining'], 'letter')} looked at, {done:,} {counted}")
