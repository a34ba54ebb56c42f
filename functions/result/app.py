"""The function result: serves the live results page, the results as JSON, and the health check."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voting.clients import Clients
from voting.database.roles import Role
from voting.ops.health import check_health
from voting.results.current import ResultsUnavailable, read_results
from voting.settings import Settings
from voting.snap_start import prepare
from voting.web.errors import HttpError
from voting.web.page import Page
from voting.web.request import Request
from voting.web.response import RETRY_SOON, Response
from voting.web.results_page import render_results
from voting.web.router import Router

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

router = Router()
router.on_error(
    ResultsUnavailable,
    HttpError(503, "results_unavailable", "The results cannot be read now. Try again soon.", RETRY_SOON),
)


@cache
def settings() -> Settings:
    return Settings.from_env()


@cache
def clients() -> Clients:
    return Clients(settings(), name="voting-result", role=Role.READER, light=True)


@cache
def results_page() -> Page:
    return Page(Path(__file__).parent, "results")


@router.get("/results")
def show(request: Request) -> Response:
    websocket_url = settings().websocket_url
    html = render_results(results_page(), read_results(clients(), settings().question), websocket_url)
    return Response.html(results_page(), html, websocket_url).cacheable(request)


@router.get("/api/results")
def figures(request: Request) -> Response:
    results = read_results(clients(), settings().question)
    return Response.json(200, results.document()).cacheable(request)


@router.get("/health")
def health(_request: Request) -> Response:
    state = check_health(clients())
    return Response.json(200, state.document()) if state.is_well else Response.json(503, state.document(), RETRY_SOON)


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    return router.handle(event, context)


def drop_connections() -> None:
    """Close and drop what no two environments may share."""
    if clients.cache_info().currsize:
        clients().close()
    clients.cache_clear()


prepare(drop_connections, "psycopg", "voting.database.kept_session", "voting.database.vote_table")
