"""Long operations on the dead letters, split into invocations of seconds, with progress and a total."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from votectl.ops.function import NotInvoked, OpsFunction
from votectl.table import many, was

PAGED = {"dead requeue": "requeued", "dead drop": "dropped"}  # operation: the count in its response
PAGE_S = 2.0


def page_by_page(
    function: OpsFunction,
    operation: str,
    arguments: Mapping[str, Any],
    say: Callable[[str], None],
    page_s: float = PAGE_S,
) -> dict[str, Any]:
    """Repeat *operation* for *page_s* at a time until it is complete, and *say* the progress after each invocation.

    Returns the last response, which may be a typed error, with the counts of all invocations.

    Raises:
        NotInvoked: an invocation failed; the message says what earlier ones have done.
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
