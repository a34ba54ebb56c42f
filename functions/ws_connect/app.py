"""The function ws_connect: answers $connect, $disconnect and all frames ($default) of the WebSocket API."""

from functools import cache
from typing import TYPE_CHECKING, Any

from voting.broadcast.flood import Meter, Verdict, end
from voting.broadcast.websocket_api import answer, forget
from voting.clients import Clients
from voting.database.roles import Role
from voting.observability import reported, tell
from voting.settings import Settings
from voting.snap_start import prepare
from voting.web.csrf import may_connect, own_origin
from voting.web.request import headers_of

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from voting.broadcast.poster import Poster

DONE = {"statusCode": 200}
FORBIDDEN = {"statusCode": 403}
LONGEST_ORIGIN = 100  # characters in the logs: the client chooses the text

ANSWER_WITHIN_S = 5.0  # a client that does not read must not block this environment until the timeout

meter = Meter()


@cache
def stores() -> Clients:
    """The clients of the stores that all invocations of an execution environment share."""
    return Clients(Settings.from_env(), name="voting-ws_connect", role=Role.READER, light=True)


@cache
def environment() -> "tuple[Clients, Poster]":
    """These clients, and the one of the management API."""
    # They bring TLS, and nothing is posted to a client that connects or leaves.
    from voting.broadcast.container_credentials import role_credentials  # noqa: PLC0415
    from voting.broadcast.poster import Poster  # noqa: PLC0415

    settings = stores().settings
    poster = Poster(settings.websocket_url, settings.region, role_credentials(), prefers_ipv6=settings.prefers_ipv6)
    return stores(), poster


@reported
def handler(event: dict[str, Any], _context: "LambdaContext") -> dict[str, Any]:
    """Accept, forget or answer the connection of *event*; or make a trial post, for the smoke test."""
    match event["requestContext"]["eventType"]:
        case "CONNECT":
            return connect(event)
        case "DISCONNECT":
            return disconnect(event)
        case "TRIAL":  # no client can cause it: API Gateway writes the type
            from voting.broadcast.dry_post import dry_post  # noqa: PLC0415 - once per deployment

            return dry_post(environment()[1])
        case _:
            return message(event)


def connect(event: dict[str, Any]) -> dict[str, int]:
    """Refuse pages of other origins. A connection is registered when it subscribes, not here."""
    settings = stores().settings
    headers = headers_of(event)
    origin = headers.get("origin")
    own = own_origin(event["requestContext"].get("domainName", ""), headers.get("x-forwarded-proto", "https"))
    if may_connect(origin, settings.http_url, settings.allowed_origins, own):
        return DONE
    tell("refused a connection of another origin", origin=str(origin)[:LONGEST_ORIGIN])
    return FORBIDDEN


def disconnect(event: dict[str, Any]) -> dict[str, int]:
    """Forget the connection. If this event never comes, the registration expires."""
    forget([event["requestContext"]["connectionId"]], stores())
    return DONE


def message(event: dict[str, Any]) -> dict[str, int]:
    """Answer one frame through the management API; close the connection if it sends too many."""
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
        # The client has gone. Or a ping registered it and it lacks the results: forget it, so that its next ping brings
        # them.
        if outcome.gone or len(frames) > 1:
            forget([connection_id], clients)
        break
    return DONE


def drop_connections() -> None:
    """Close and drop what no two environments may share."""
    if environment.cache_info().currsize:
        environment()[1].close()
    if stores.cache_info().currsize:
        stores().close()
    environment.cache_clear()
    stores.cache_clear()
    meter.forget()


prepare(drop_connections, "psycopg", "voting.broadcast.poster", "voting.database.kept_session")
