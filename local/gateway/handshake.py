"""The opening handshake of a WebSocket (RFC 6455, section 4.2): the library `websockets` checks and accepts it."""

from collections.abc import Iterator

from aiohttp import web
from multidict import CIMultiDict
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol

# Of the answer to a request that is no handshake.
UPGRADE_REQUIRED = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}


def accept(request: web.Request) -> web.StreamResponse | None:
    """Return the response that accepts the handshake in *request*; None if it is not a valid one."""
    response = ServerProtocol().accept(Request(request.path, Headers(_decoded(request)), request.method))
    if response.status_code != 101:
        return None
    return web.StreamResponse(status=101, headers=CIMultiDict(response.headers.raw_items()))


def _decoded(request: web.Request) -> Iterator[tuple[str, str]]:
    return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
