"""The function vote: serves the voting page and queues votes. It also answers what no other function serves."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voting.clients import Clients
from voting.observability import count, sampler
from voting.queue.queue_view import STALLED_AFTER_S
from voting.queue.vote_queue import PushUnanswered, QueueUnavailable, VoteQueue
from voting.settings import Settings
from voting.vote import Vote
from voting.web import answer
from voting.web.ballot import Ballot, read_ballot
from voting.web.csrf import require_own_site
from voting.web.errors import Refusal
from voting.web.page import Page
from voting.web.request import Request
from voting.web.response import Response
from voting.web.router import Web
from voting.web.voter_cookies import Register, Voter
from voting.web.voting_page import note_delay, render_voting, was_delayed

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

web = Web()
web.explain(
    QueueUnavailable,
    Refusal(503, "not_recorded", "Your vote was not recorded. Try again in a moment.", answer.SOON),
)
web.explain(
    PushUnanswered,
    Refusal(
        503,
        "not_confirmed",
        "We cannot say whether your vote was recorded. Vote again in a moment: it counts once.",
        answer.SOON,
    ),
)


@cache
def settings() -> Settings:
    return Settings.from_env()


@cache
def clients() -> Clients:
    return Clients(settings(), redis_retries=0)  # the queue retries by itself, within its deadline


@cache
def queue() -> VoteQueue:
    return VoteQueue(clients().redis())


@cache
def register() -> Register:
    return Register(
        settings().cookie_keys,
        settings().labels,
        accept_legacy=settings().accept_legacy_ids,
        accept_old_cookies=settings().accept_old_cookies,
    )


@cache
def voting_page() -> Page:
    return Page(Path(__file__).parent, "vote")


@web.get("/")
def show(request: Request) -> Response:
    voter = register().recognize(request)
    choice = register().choice(request, voter)
    is_delayed = choice is not None and was_delayed(request)
    html = render_voting(voting_page(), settings().labels, choice, register().token(), is_delayed=is_delayed)
    shown = answer.html(voting_page(), html)
    return shown if voter.is_settled else _remembering(request, shown, voter, choice)


@web.post("/")
def cast_by_form(request: Request) -> Response:
    voter, ballot, is_delayed = _cast(request)
    response = _remembering(request, answer.empty(303, {"Location": "/"}), voter, ballot.choice)
    return note_delay(request, response, is_delayed=is_delayed)


@web.post("/api/votes")
def cast_by_json(request: Request) -> Response:
    voter, ballot, is_delayed = _cast(request)
    document = {"vote": ballot.choice, "status": "queued"}
    queued = answer.document(202, document | {"counting": "delayed"} if is_delayed else document)
    return _remembering(request, queued, voter, ballot.choice)


def _cast(request: Request) -> tuple[Voter, Ballot, bool]:
    """Queue the vote of *request*; with whose it is and what, whether votes are not being counted at the moment."""
    require_own_site(request, settings().allowed_origins)
    ballot = read_ballot(request, settings().labels, settings().max_body_bytes)
    voter = register().admit(request, ballot.token)
    is_delayed = queue().push(Vote(ballot.choice, voter.id)) > STALLED_AFTER_S
    count("VotesQueued")
    if is_delayed and (delayed := sampler.admit("delayed")):  # seen from here also where no worker is left to say so
        count("VotesDelayed", delayed)
    return voter, ballot, is_delayed


def _remembering(request: Request, response: Response, voter: Voter, choice: str | None) -> Response:
    return answer.with_cookies(response, request, register().cookies(request, voter, choice))


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    return web.answer(event, context)
