"""The @connections commands of a WebSocket API: post to a connection, look at it, close it.

Source: "Use @connections commands in your backend service" in the API Gateway developer guide, and the API reference of
apigatewaymanagementapi.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import unquote

from aiohttp import web

from local import frames
from local.connection import Connection, Overflowing
from local.quotas import WebSocketQuotas
from local.sigv4 import BadSignature, Credentials, SignedRequest, verify

logger = logging.getLogger("local.websocket")

TOO_LARGE = "The data is larger than a message may be."


class Management:
    """Answers signed requests about the connections of one stage."""

    def __init__(
        self, stage: str, connections: Mapping[str, Connection], credentials: Credentials, quotas: WebSocketQuotas
    ) -> None:
        self._prefix = f"/{stage}/@connections/"
        self._connections = connections
        self._credentials = credentials
        self._quotas = quotas

    def connection_id(self, path: str) -> str | None:
        """Return the id that *path*, as it was sent, addresses; None if it is no @connections path of this stage."""
        if not path.startswith(self._prefix):
            if "%" not in path:
                return None
            path = unquote(path)  # some clients encode the @ too
        prefix, connection_id = path[: len(self._prefix)], unquote(path[len(self._prefix) :])
        return connection_id if prefix == self._prefix and connection_id else None

    async def answer(self, request: web.Request, connection_id: str) -> web.Response:
        """Do what *request* asks, if it is signed by a holder of the credentials."""
        try:
            body = await request.read() if request.can_read_body else b""
            verify(_signed_request(request, body), self._credentials)
        except web.HTTPRequestEntityTooLarge:
            return _error(413, "PayloadTooLargeException", TOO_LARGE)
        except BadSignature as error:
            logger.warning("%s of a connection refused: %s", request.method, error)
            return _error(403, "ForbiddenException", str(error))
        return self._command(request.method, body, connection_id)

    def _command(self, method: str, body: bytes, connection_id: str) -> web.Response:
        connection = self._connections.get(connection_id)
        if connection is None or not connection.is_open:
            return _error(410, "GoneException", "The connection is gone.")
        match method:
            case "POST":
                return self._post(connection, body)
            case "GET":
                return _describe(connection)
            case "DELETE":
                connection.close(frames.NORMAL, "Connection Closed Normally")
                return web.Response(status=204)
            case _:
                return _error(403, "MissingAuthenticationTokenException", "Missing Authentication Token")

    def _post(self, connection: Connection, body: bytes) -> web.Response:
        if len(body) > self._quotas.message_bytes:
            return _error(413, "PayloadTooLargeException", TOO_LARGE)
        if not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError:  # as a text frame it would make the client fail the connection
                return _error(400, "BadRequestException", "The data is not UTF-8 text.")
        try:
            connection.send(body)
        except Overflowing:
            return _error(429, "LimitExceededException", "The client does not read; it was disconnected.")
        return web.Response()


def _signed_request(request: web.Request, body: bytes) -> SignedRequest:
    headers: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    return SignedRequest(request.method, request.raw_path, headers, body)


def _describe(connection: Connection) -> web.Response:
    identity = connection.identity
    connected = datetime.fromtimestamp(identity.connected_ms / 1000, UTC)
    description = {
        "connectedAt": _iso(connected),
        "identity": {"sourceIp": identity.source_ip, "userAgent": identity.user_agent},
        "lastActiveAt": _iso(connection.active_at),
    }
    return web.Response(body=json.dumps(description).encode(), content_type="application/json")


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(status: int, kind: str, message: str) -> web.Response:
    body = json.dumps({"message": message}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers={"x-amzn-ErrorType": kind})
