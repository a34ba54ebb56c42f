"""The values in the template of the voting page. They are correct without JavaScript."""

from collections.abc import Mapping

from voting.web.page import Page, type_size
from voting.web.request import Request
from voting.web.response import Response

DELAYED = "vote_delayed"  # a cookie: the page that follows a form reports the delay without asking a store
DELAYED_FOR_S = 60


def render_voting(
    page: Page, labels: Mapping[str, str], choice: str | None, token: str, *, is_delayed: bool = False
) -> str:
    """The page for a voter whose vote for *choice* was received, or who has not voted (None). vote.js says the same.

    *is_delayed* adds that counting is delayed, and that the vote is kept.
    """
    delay = " Counting is delayed: your vote is kept and will be counted." if is_delayed else ""
    values: dict[str, object] = {
        "choice": choice or "",
        "token": token,
        "size": type_size(labels.values()),
        "status": f"Your vote for {labels[choice]} was received.{delay}" if choice else "",
        "delayed": "true" if is_delayed else "",
    }
    for option, label in labels.items():
        values |= {
            f"label_{option}": label,
            f"pressed_{option}": "true" if option == choice else "false",
            f"hint_{option}": _hint(option, choice),
        }
    return page.render(**values)


def was_delayed(request: Request) -> bool:
    """Whether counting was delayed when the voter last sent the form, at most a minute ago."""
    return bool(request.cookie_values(request.own_cookie(DELAYED)))


def note_delay(request: Request, response: Response, *, is_delayed: bool) -> Response:
    """*response* with the cookie that remembers a delay for a minute, or that deletes this cookie."""
    if not is_delayed and not was_delayed(request):
        return response
    return response.with_cookies(request, {request.own_cookie(DELAYED): "1"}, DELAYED_FOR_S if is_delayed else 0)


def _hint(option: str, choice: str | None) -> str:
    if choice is None:
        return "Vote"
    return "Your choice" if option == choice else "Change to this"
