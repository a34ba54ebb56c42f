"""The function result: serves the live results page, the results, and the health of the stores."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler.api_gateway import Response

from voting import answer
from voting.clients import Clients
from voting.health import check_health
from voting.live_results import ResultsUnavailable, read_results
from voting.observability import logger
from voting.page import Page
from voting.refusal import Refusal
from voting.results_page import render_results
from voting.settings import Settings
from voting.web import Web

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
    return Clients(settings(), name="voting-result", read_only=True)


@cache
def results_page() -> Page:
    return Page(Path(__file__).parent, "results")


@web.routes.get("/results")
def show() -> Response[str]:
    websocket_url = settings().websocket_url
    html = render_results(results_page(), read_results(clients(), settings().labels), websocket_url)
    return answer.cacheable(answer.html(results_page(), html, websocket_url), web.request)


@web.routes.get("/api/results")
def figures() -> Response[str]:
    results = read_results(clients(), settings().labels)
    return answer.cacheable(answer.document(200, results.document()), web.request)


@web.routes.get("/health")
def health() -> Response[str]:
    state = check_health(clients())
    return answer.document(200 if state.is_well else 503, state.document(), None if state.is_well else answer.SOON)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    return web.answer(event, context)
