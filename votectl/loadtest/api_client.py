"""Requests to the voting API. A failure says whether the server may have served the request."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from aiohttp import ClientSession

CONNECT_WITHIN_S = 10.0


class NotSent(Exception):
    """No connection was made: the server cannot have seen the request."""


class NoAnswer(Exception):
    """The request was sent, but no complete response came: the server may have served it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response; `cookies` are those that it sets."""

    status: int
    cookies: dict[str, str]
    body: bytes


class ApiClient:
    """Connections to one server: they stay open, and there are as many as requests at the same time.

    It keeps no cookies: each voter has its own.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        """Take *url* for its scheme, host and port; a request takes at most *timeout_s*, connecting included."""
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._timeout_s = timeout_s
        self._session: ClientSession

    async def __aenter__(self) -> Self:
        from aiohttp import (  # noqa: PLC0415 - it takes a third of a second, which the other commands need not wait
            ClientSession,
            ClientTimeout,
            DummyCookieJar,
            TCPConnector,
        )

        self._session = ClientSession(
            self._origin,
            connector=TCPConnector(limit=0),
            cookie_jar=DummyCookieJar(),
            skip_auto_headers=("Accept-Encoding",),
            timeout=ClientTimeout(total=self._timeout_s, sock_connect=CONNECT_WITHIN_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def request(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
        """Send one request and return its response; redirects are not followed.

        aiohttp sends a GET again if its connection breaks, and never a POST.

        Raises:
            NotSent: there was no connection in time.
            NoAnswer: the response did not come in time, broke off, or is not HTTP.
        """
        from aiohttp import ClientConnectorError, ClientError, ConnectionTimeoutError  # noqa: PLC0415 - see __aenter__

        sent = self._session.request(method, path, headers=headers, data=body, allow_redirects=False)
        try:
            async with sent as response:
                content = await response.read()
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise NotSent(str(error) or "no connection") from error
        except (ClientError, TimeoutError) as error:
            raise NoAnswer(str(error) or "it took too long") from error
        return Reply(response.status, _cookies(response.headers.getall("Set-Cookie", ())), content)


def _cookies(headers: Iterable[str]) -> dict[str, str]:
    """The cookies that *headers* set; `response.cookies` would take a third of the CPU time of a request."""
    pairs = (header.partition(";")[0].partition("=") for header in headers)
    return {name.strip(): value.strip() for name, _, value in pairs}
