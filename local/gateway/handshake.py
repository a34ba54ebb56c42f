"""The opening handshake of a WebSocket (RFC 6455, section 4.2): what a client has to send, and what it is answered."""

import base64
import binascii
import hashlib

from aiohttp import web

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3


def key_of(request: web.Request) -> str | None:
    """Return the client's Sec-WebSocket-Key; None if this is no handshake that RFC 6455, section 4.2.1 accepts."""
    headers = request.headers
    key = headers.get("Sec-WebSocket-Key", "")
    tokens = [token.strip().lower() for token in ",".join(headers.getall("Connection", ())).split(",")]
    try:
        valid_key = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid_key = False
    asked = headers.get("Upgrade", "").lower() == "websocket" and "upgrade" in tokens
    supported = headers.get("Sec-WebSocket-Version") == "13"
    return key if request.method == "GET" and asked and supported and valid_key else None


def accept(key: str) -> str:
    """The value of Sec-WebSocket-Accept for a client's *key*."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
