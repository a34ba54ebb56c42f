"""The @connections commands of a WebSocket API: post to a connection, look at it, close it.

Source: "Use @connections commands in your backend service" in the API Gateway developer guide, and the API reference of
apigatewaymanagementapi.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from websockets.frames import CloseCode

from local.gateway.quotas import WebSocketQuotas
from local.gateway.websocket_connection import Connection, SlowClient
from local.sigv4 import BadSignature, Credentials, SignedRequest, verify

logger = logging.getLogger("local.websocket")


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a command: its body is JSON, *error* the header `x-amzn-ErrorType`."""

    status: int
    body: bytes = b""
    error: str = ""


def _error(status: int, kind: str, message: str) -> Reply:
    return Reply(status, json.dumps({"message": message}).encode(), kind)


DONE = Reply(200)
TOO_LARGE = _error(413, "PayloadTooLargeException", "The data is larger than a message may be.")


class Management:
    """Answers signed requests about the connections of one stage."""

    def __init__(
        self, stage: str, connections: Mapping[str, Connection], keyring: Sequence[Credentials], quotas: WebSocketQuotas
    ) -> None:
        self._prefix = f"/{stage}/@connections/"
        self._connections = connections
        self._keyring = keyring
        self._quotas = quotas

    def connection_id(self, path: str) -> str | None:
        """Return the connection id in *path*, as it was sent; None if it is not an @connections path of this stage."""
        if not path.startswith(self._prefix):
            if "%" not in path:
                return None
            path = unquote(path)  # some clients encode the @ too
        prefix, connection_id = path[: len(self._prefix)], unquote(path[len(self._prefix) :])
        return connection_id if prefix == self._prefix and connection_id else None

    def answer(self, request: SignedRequest, connection_id: str) -> Reply:
        """Execute *request* if it is signed with credentials of the keyring."""
        try:
            verify(request, *self._keyring)
        except BadSignature as error:
            logger.warning("%s of a connection refused: %s", request.method, error)
            return _error(403, "ForbiddenException", str(error))
        return self._command(request.method, request.body, connection_id)

    def _command(self, method: str, body: bytes, connection_id: str) -> Reply:
        connection = self._connections.get(connection_id)
        if connection is None or not connection.is_open:
            return _error(410, "GoneException", "The connection is gone.")
        match method:
            case "POST":
                return self._post(connection, body)
            case "GET":
                return _describe(connection)
            case "DELETE":
                connection.close(CloseCode.NORMAL_CLOSURE, "Connection Closed Normally")
                return Reply(204)
            case _:
                return _error(403, "MissingAuthenticationTokenException", "Missing Authentication Token")

    def _post(self, connection: Connection, body: bytes) -> Reply:
        if len(body) > self._quotas.message_bytes:
            return TOO_LARGE
        if not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError:  # as a text frame it would make the client fail the connection
                return _error(400, "BadRequestException", "The data is not UTF-8 text.")
        try:
            connection.send(body)
        except SlowClient:
            return _error(429, "LimitExceededException", "The client does not read; it was disconnected.")
        return DONE


def _describe(connection: Connection) -> Reply:
    identity = connection.identity
    connected = datetime.fromtimestamp(identity.connected_ms / 1000, UTC)
    description = {
        "connectedAt": _iso(connected),
        "identity": {"sourceIp": identity.source_ip, "userAgent": identity.user_agent},
        "lastActiveAt": _iso(connection.active_at),
    }
    return Reply(200, json.dumps(description).encode())


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
