"""The frames that a subscriber may send over its WebSocket, and the frames that answer them."""

import json
from collections.abc import Callable, Iterable

from redis.exceptions import RedisError

from voting.broadcast.subscribers import Subscribers
from voting.clients import Clients
from voting.observability import count, tell
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
        if failed := tell("the registry of subscribers is unavailable", error=error):
            count("RequestsUnavailable", failed)
        return [_error("unavailable", "The registry of subscribers does not answer. Try again in a few seconds.")]


def forget(connection_ids: Iterable[str], clients: Clients) -> None:
    """Remove closed connections from the registry; if it is unavailable, their registrations expire later."""
    try:
        Subscribers(clients.redis()).remove(connection_ids)
    except RedisError as error:
        tell("closed connections could not be removed from the registry; they expire later", error=error)


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
        return read_results(clients, clients.settings.question).frame()
    except ResultsUnavailable:
        if failed := tell("there are no results to show"):
            count("RequestsUnavailable", failed)
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
