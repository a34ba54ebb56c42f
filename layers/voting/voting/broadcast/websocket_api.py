"""What a subscriber may send over its WebSocket, and what it is answered."""

import json
from collections.abc import Callable, Iterable

from redis.exceptions import RedisError

from voting.broadcast.subscribers import Subscribers
from voting.clients import Clients
from voting.observability import tell
from voting.public_error import PublicError
from voting.results.current import ResultsUnavailable, read_results
from voting.results.snapshot import Snapshots


class FrameError(PublicError):
    """The frame is not a valid request. `message` says what to send."""


def answer(body: str, connection_id: str, clients: Clients, *, is_binary: bool = False) -> list[bytes]:
    """Do what the frame *body* asks for, and return the frames to answer with, in order."""
    try:
        return ACTIONS[_action(body, is_binary=is_binary)](connection_id, clients)
    except FrameError as error:
        return [_error(error.code, error.message)]
    except RedisError as error:
        tell("the registry is away", error=error)
        return [_error("unavailable", "The registry of subscribers does not answer. Try again in a few seconds.")]


def forget(connection_ids: Iterable[str], clients: Clients) -> None:
    """Forget *connection_ids*, which have gone; where the registry is away, their registrations expire."""
    try:
        Subscribers(clients.redis()).remove(connection_ids)
    except RedisError as error:
        tell("who has gone is still registered until that expires", error=error)


def _action(body: str, *, is_binary: bool) -> str:
    if is_binary:
        raise FrameError("binary_frame", "Send text frames: this API takes JSON.")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameError("invalid_json", 'Send a JSON object such as {"action": "subscribe"}.') from error
    if not isinstance(message, dict) or not isinstance(message.get("action"), str):
        raise FrameError(
            "missing_action", 'Send a JSON object with a string "action", such as {"action": "subscribe"}.'
        )
    action: str = message["action"]
    if action not in ACTIONS:
        raise FrameError("unknown_action", f"The actions are {' and '.join(ACTIONS)}.")
    return action


def _subscribe(connection_id: str, clients: Clients) -> list[bytes]:
    # Registered before the results are read: a change in between is broadcast to it, and none is missed.
    Subscribers(clients.redis()).add(connection_id)
    return [_newest(clients)]


def _ping(connection_id: str, clients: Clients) -> list[bytes]:
    """A pong. A connection that the registry did not know may have missed changes: the results follow.

    They go to this connection only. To owe its bucket a broadcast would cost what thousands of frames cost.
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
    # Where no worker is there to say so in a frame.
    return json.dumps({"type": "pong", "stale_seconds": round(snapshot.stale_s)}, separators=(",", ":")).encode()


def _error(code: str, message: str) -> bytes:
    return json.dumps({"type": "error", "code": code, "message": message}).encode()


ACTIONS: dict[str, Callable[[str, Clients], list[bytes]]] = {"subscribe": _subscribe, "ping": _ping}
