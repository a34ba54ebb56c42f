"""The frames that a subscriber may send over its WebSocket, and the frames that answer them."""

import json
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from voting.broadcast.subscribers import Subscribers
from voting.clients import Clients
from voting.observability import tell
from voting.results.current import ResultsUnavailable, read_results
from voting.results.snapshot import Snapshots
from voting.web.request import normal_origin

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Refused(Exception):
    """The frame asks for nothing that we do. `code` is stable, the message says what to send."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def may_connect(origin: str | None, http_url: str, allowed_origins: frozenset[str], api_origin: str = "") -> bool:
    """Whether a page of *origin* may subscribe; a program may, with no Origin or with that of the WebSocket API itself.

    Some libraries send the address that they connect to (*api_origin*). No page has that origin: API Gateway serves
    none there, and answers under its own names only.
    """
    if origin is None:
        return True
    theirs = normal_origin(origin)
    if theirs in map(normal_origin, {*allowed_origins, http_url}) or _same_loopback(theirs, http_url):
        return True
    return bool(api_origin) and theirs == normal_origin(api_origin)


def own_origin(domain_name: str, protocol: str) -> str:
    """The origin of the API that a client reached under *domain_name* by *protocol* (X-Forwarded-Proto); "" for none.

    Over plain HTTP, which only a local run speaks, the name is whatever the client sends, so only loopback names count:
    a foreign page can have its own name pointed at this machine once it has loaded (DNS rebinding).
    """
    host = domain_name.lower()
    is_local = host.rpartition(":")[0] in LOOPBACK or host in LOOPBACK
    if not host or (protocol != "https" and not (protocol == "http" and is_local)):
        return ""
    return f"{protocol}://{host}"


def _same_loopback(origin: str, http_url: str) -> bool:
    """A page that a developer opened as localhost where the server says 127.0.0.1 is the same page."""
    ours = urlsplit(http_url)
    try:
        theirs = urlsplit(origin)
    except ValueError:  # half a bracket, or characters that turn into others: no browser sends such an origin
        return False
    same_port = ours.netloc.rpartition(":")[2] == theirs.netloc.rpartition(":")[2]
    hosts = {ours.netloc.rpartition(":")[0], theirs.netloc.rpartition(":")[0]}
    return hosts <= LOOPBACK and same_port and ours.scheme == theirs.scheme


def answer(body: str, connection_id: str, clients: Clients, *, is_binary: bool = False) -> list[bytes]:
    """Do what the frame *body* asks for, and return the frames to answer with, in order."""
    try:
        return ACTIONS[_action(body, is_binary=is_binary)](connection_id, clients)
    except Refused as error:
        return [_error(error.code, str(error))]
    except RedisError as error:
        tell("the registry of subscribers is unavailable", error=error)
        return [_error("unavailable", "The registry of subscribers does not answer. Try again in a few seconds.")]


def forget(connection_ids: Iterable[str], clients: Clients) -> None:
    """Remove closed connections from the registry; if it is unavailable, their registrations expire later."""
    try:
        Subscribers(clients.redis()).remove(connection_ids)
    except RedisError as error:
        tell("closed connections could not be removed from the registry; they expire later", error=error)


def _action(body: str, *, is_binary: bool) -> str:
    if is_binary:
        raise Refused("binary_frame", "Send text frames: this API takes JSON.")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused("invalid_json", 'Send a JSON object such as {"action": "subscribe"}.') from error
    if not isinstance(message, dict) or not isinstance(message.get("action"), str):
        raise Refused("missing_action", 'Send a JSON object with a string "action", such as {"action": "subscribe"}.')
    action: str = message["action"]
    if action not in ACTIONS:
        raise Refused("unknown_action", f"The actions are {' and '.join(ACTIONS)}.")
    return action


def _subscribe(connection_id: str, clients: Clients) -> list[bytes]:
    # Register first, then read the results: a change in between is broadcast to it, so it misses none.
    Subscribers(clients.redis()).add(connection_id)
    return [_newest(clients)]


def _ping(connection_id: str, clients: Clients) -> list[bytes]:
    """Answer with a pong. A connection that was not registered may have missed changes, so it also gets the results.

    They are sent to this connection only: a resend to its whole bucket could take thousands of frames.
    """
    if Subscribers(clients.redis()).add(connection_id):
        return [_pong(clients), _newest(clients)]
    return [_pong(clients)]


def _newest(clients: Clients) -> bytes:
    try:
        return read_results(clients, clients.settings.labels).frame()
    except ResultsUnavailable:
        return _error("unavailable", "There are no results to show now. You are subscribed and will get the next ones.")


def _pong(clients: Clients) -> bytes:
    snapshot = Snapshots(clients.redis()).read()
    if snapshot is None or snapshot.stale_s is None:
        return b'{"type":"pong"}'
    # If the worker is down, no frame of results says that they are stale.
    return json.dumps({"type": "pong", "stale_seconds": round(snapshot.stale_s)}, separators=(",", ":")).encode()


def _error(code: str, message: str) -> bytes:
    return json.dumps({"type": "error", "code": code, "message": message}).encode()


ACTIONS: dict[str, Callable[[str, Clients], list[bytes]]] = {"subscribe": _subscribe, "ping": _ping}
