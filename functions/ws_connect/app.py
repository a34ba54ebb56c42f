"""Invoked by the WebSocket API: $connect, $disconnect, and every frame ($default)."""

from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from voting.broadcast.flood import Meter, Verdict, end
from voting.broadcast.poster import Poster
from voting.broadcast.sigv4 import Credentials
from voting.broadcast.websocket_api import answer, forget
from voting.clients import Clients
from voting.database.roles import Role
from voting.observability import reported, tell
from voting.settings import Settings
from voting.web.csrf import may_connect, own_origin
from voting.web.request import headers_of

DONE = {"statusCode": 200}
FORBIDDEN = {"statusCode": 403}
LONGEST_ORIGIN = 100  # in the logs: it is a stranger's text

ANSWER_WITHIN_S = 5.0  # one that does not read its answers must not hold this environment until its time is up

meter = Meter()


@cache
def environment() -> tuple[Clients, Poster]:
    """Build once per execution environment what its invocations share."""
    settings = Settings.from_env()
    clients = Clients(settings, name="voting-ws_connect", role=Role.READER)
    return clients, Poster(settings.websocket_url, settings.region, Credentials.from_env())


@reported
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, int]:
    """Admit, forget, or answer the connection of *event*."""
    match event["requestContext"]["eventType"]:
        case "CONNECT":
            return connect(event)
        case "DISCONNECT":
            return disconnect(event)
        case _:
            return message(event)


def connect(event: dict[str, Any]) -> dict[str, int]:
    """Refuse pages of other origins; nothing is registered before it subscribes."""
    settings = environment()[0].settings
    headers = headers_of(event)
    origin = headers.get("origin")
    own = own_origin(event["requestContext"].get("domainName", ""), headers.get("x-forwarded-proto", "https"))
    if may_connect(origin, settings.http_url, settings.allowed_origins, own):
        return DONE
    tell("refused a connection of another origin", origin=str(origin)[:LONGEST_ORIGIN])
    return FORBIDDEN


def disconnect(event: dict[str, Any]) -> dict[str, int]:
    """Forget the connection; where this never comes, its registration expires."""
    clients, _ = environment()
    forget([event["requestContext"]["connectionId"]], clients)
    return DONE


def message(event: dict[str, Any]) -> dict[str, int]:
    """Answer one frame, over the management API; close the connection where they are too many."""
    clients, poster = environment()
    connection_id = event["requestContext"]["connectionId"]
    verdict = meter.judge(connection_id, clients)
    if verdict is not Verdict.ANSWER:
        end(verdict, connection_id, clients, poster)
        return DONE
    frames = answer(event.get("body") or "", connection_id, clients, is_binary=event.get("isBase64Encoded", False))
    for frame in frames:
        outcome = poster.post([connection_id], frame, within_s=ANSWER_WITHIN_S)
        if outcome.sent:
            continue
        # It left while we were answering; or it was registered by a ping and lacks the results: the next brings them.
        if outcome.gone or len(frames) > 1:
            forget([connection_id], clients)
        break
    return DONE
