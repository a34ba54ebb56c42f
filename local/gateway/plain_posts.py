"""The WebSocket API's sockets while they carry plain posts to connections.

A broadcast is one post per subscriber over sockets that are kept open, so a post must cost little: aiohttp takes
nearly twice as long.
"""

from http import HTTPStatus

from local.gateway.management_api import DONE, Management, Reply
from local.gateway.plain_request import PlainReader, PlainRequest
from local.gateway.plain_socket import PlainSocket, Protocols
from local.gateway.turns import Turns
from local.sigv4 import SignedRequest


class PlainPosts(PlainSocket):
    """One socket, whose posts are answered when its turn comes."""

    def __init__(
        self,
        management: Management,
        reader: PlainReader,
        open_sockets: set[PlainSocket],
        turns: Turns,
        successor: Protocols,
    ) -> None:
        """Post through *management*; the rest is as for `PlainSocket`."""
        super().__init__(reader, open_sockets, successor, 2 * reader.request_bytes)
        self._management = management
        self._turns = turns
        self._is_waiting = False

    def _wake(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._turns.wait(self._serve)

    def _serve(self) -> None:
        self._is_waiting = False
        request = self._next()
        if request is None:
            return
        connection_id = self._management.connection_id(request.target) if "?" not in request.target else None
        if connection_id is None:
            self._hand_over()
            return
        self._advance(request)
        self._transport.write(self._answer(request, connection_id))
        if self._has_more():
            self._wake()

    def _answer(self, request: PlainRequest, connection_id: str) -> bytes:
        signed = SignedRequest(request.method, request.target, request.headers, request.body)
        reply = self._management.answer(signed, connection_id)
        return _DONE if reply is DONE else _encode(reply)


def _encode(reply: Reply) -> bytes:
    head = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\nContent-Length: {len(reply.body)}\r\n"
    if reply.body:
        head += "Content-Type: application/json\r\n"
    if reply.error:
        head += f"x-amzn-ErrorType: {reply.error}\r\n"
    return f"{head}\r\n".encode() + reply.body


_DONE = _encode(DONE)  # nearly all answers
