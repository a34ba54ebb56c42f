"""The values in the template of the voting page. They are correct without JavaScript."""

from voting.question import Question
from voting.web.heading import heading, layout, title
from voting.web.page import Page
from voting.web.request import Request
from voting.web.response import Response

DELAYED = "vote_delayed"  # a cookie: the page that follows a form reports the delay without asking a store
DELAYED_FOR_S = 60


def render_voting(page: Page, question: Question, choice: str | None, token: str, *, is_delayed: bool = False) -> str:
    """The page for a voter whose vote for *choice* was received, or who has not voted (None). vote.js says the same.

    *is_delayed* adds that counting is delayed, and that the vote is kept.
    """
    delay = " Counting is delayed: your vote is kept and will be counted." if is_delayed else ""
    options = [
        {
            "id": option,
            "label": label,
            "pressed": "true" if option == choice else "false",
            "hint": _hint(option, choice),
        }
        for option, label in question.labels.items()
    ]
    return page.render(
        {**heading(question), "option": options},
        title=title(question, "Choose one"),
        choice=choice or "",
        token=token,
        layout=layout(question),
        status=f"Your vote for {question.labels[choice]} was received.{delay}" if choice else "",
        delayed="true" if is_delayed else "",
    )


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
