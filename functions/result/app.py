"""The function result: serves the live results page, the results, and the health of the stores."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voting.clients import Clients
from voting.database.roles import Role
from voting.ops.health import check_health
from voting.results.current import ResultsUnavailable, read_results
from voting.settings import Settings
from voting.web import answer
from voting.web.errors import Refusal
from voting.web.page import Page
from voting.web.request import Request
from voting.web.response import Response
from voting.web.results_page import render_results
from voting.web.router import Web

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

web = Web()
web.explain(
    ResultsUnavailable,
    Refusal(503, "results_unavailable", "The results cannot be read now. Try again soon.", answer.SOON),
)


@cache
def settings() -> Settings:
    return Settings.from_env()


@cache
def clients() -> Clients:
    return Clients(settings(), name="voting-result", role=Role.READER)


@cache
def results_page() -> Page:
    return Page(Path(__file__).parent, "results")


@web.get("/results")
def show(request: Request) -> Response:
    websocket_url = settings().websocket_url
    html = render_results(results_page(), read_results(clients(), settings().labels), websocket_url)
    return answer.cacheable(answer.html(results_page(), html, websocket_url), request)


@web.get("/api/results")
def figures(request: Request) -> Response:
    results = read_results(clients(), settings().labels)
    return answer.cacheable(answer.document(200, results.document()), request)


@web.get("/health")
def health(_request: Request) -> Response:
    state = check_health(clients())
    return answer.document(200 if state.is_well else 503, state.document(), None if state.is_well else answer.SOON)


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    return web.answer(event, context)
