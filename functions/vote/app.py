"""The function vote: serves the voting page, queues votes, and answers all requests that no other function serves."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voting.clients import Clients
from voting.observability import count, sampler
from voting.question import Question
from voting.queue.queue_view import STALLED_AFTER_S
from voting.queue.vote_queue import PushUnanswered, QueueUnavailable, VoteQueue
from voting.settings import Settings
from voting.snap_start import prepare
from voting.vote import Vote
from voting.web.ballot import Ballot, read_ballot
from voting.web.csrf import require_own_site
from voting.web.errors import HttpError
from voting.web.page import Page
from voting.web.request import Request
from voting.web.response import RETRY_SOON, Response
from voting.web.router import Router
from voting.web.voter_cookies import Voter, VoterCookies
from voting.web.voting_page import note_delay, render_voting, was_delayed

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

router = Router()
router.on_error(
    QueueUnavailable,
    HttpError(503, "not_recorded", "Your vote was not recorded. Try again in a moment.", RETRY_SOON),
)
router.on_error(
    PushUnanswered,
    HttpError(
        503,
        "not_confirmed",
        "We cannot say whether your vote was recorded. Vote again in a moment: it counts once.",
        RETRY_SOON,
    ),
)


@cache
def settings() -> Settings:
    return Settings.from_env()


@cache
def question() -> Question:
    return settings().question


@cache
def clients() -> Clients:
    return Clients(settings(), redis_retries=0, light=True)  # the queue itself retries, within its deadline


@cache
def queue() -> VoteQueue:
    return VoteQueue(clients().redis(), confirm_by_replica=settings().confirm_by_replica)


@cache
def voter_cookies() -> VoterCookies:
    return VoterCookies(
        settings().cookie_keys,
        question().labels,
        accept_legacy=settings().accept_legacy_ids,
        accept_old_cookies=settings().accept_old_cookies,
    )


@cache
def voting_page() -> Page:
    return Page(Path(__file__).parent, "vote")


@router.get("/")
def show(request: Request) -> Response:
    voter = voter_cookies().recognize(request)
    choice = voter_cookies().choice(request, voter)
    is_delayed = choice is not None and was_delayed(request)
    html = render_voting(voting_page(), question(), choice, voter_cookies().token(), is_delayed=is_delayed)
    response = Response.html(voting_page(), html)
    return response if voter.is_settled else _remember(request, response, voter, choice)


@router.post("/")
def cast_by_form(request: Request) -> Response:
    voter, ballot, is_delayed = _cast(request)
    response = _remember(request, Response.empty(303, {"Location": "/"}), voter, ballot.choice)
    return note_delay(request, response, is_delayed=is_delayed)


@router.post("/api/votes")
def cast_by_json(request: Request) -> Response:
    voter, ballot, is_delayed = _cast(request)
    document = {"vote": ballot.choice, "status": "queued"}
    response = Response.json(202, document | {"counting": "delayed"} if is_delayed else document)
    return _remember(request, response, voter, ballot.choice)


def _cast(request: Request) -> tuple[Voter, Ballot, bool]:
    """Queue the vote of *request*; return its voter, its ballot, and whether counting is delayed at the moment."""
    require_own_site(request, settings().allowed_origins)
    ballot = read_ballot(request, question().labels, settings().max_body_bytes)
    voter = voter_cookies().admit(request, ballot.token)
    is_delayed = queue().push(Vote(ballot.choice, voter.id)) > STALLED_AFTER_S
    count("VotesQueued")
    if is_delayed and (delayed := sampler.admit("delayed")):  # reported here too, since no worker may be left to do so
        count("VotesDelayed", delayed)
    return voter, ballot, is_delayed


def _remember(request: Request, response: Response, voter: Voter, choice: str | None) -> Response:
    return response.with_cookies(request, voter_cookies().cookies(request, voter, choice))


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    return router.handle(event, context)


def drop_connections() -> None:
    """Close and drop what no two environments may share."""
    if clients.cache_info().currsize:
        clients().close()
    queue.cache_clear()
    clients.cache_clear()


prepare(drop_connections)
