"""The listening sockets of a run: an application for each, and for some a faster protocol for plain requests."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import web

from local.gateway.any_http import any_http

_log = logging.getLogger("local.access")

# Makes the protocol of one socket, which may hand that over to the application's own.
Plain = Callable[[Callable[[], asyncio.Protocol]], asyncio.Protocol]
BACKLOG = 1024
_SHUTDOWN_S = 2.0


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket, and what serves its connections."""

    listening: socket.socket
    application: web.Application
    plain: Plain | None = None  # serves a connection while it carries plain requests only


async def start_listeners(listeners: Sequence[Listener], stack: AsyncExitStack, *, access_log: bool) -> None:
    """Serve all *listeners* until *stack* ends."""
    runners = []
    for listener in listeners:
        if access_log:
            listener.application.on_response_prepare.append(_log_access)
        runners.append(web.AppRunner(listener.application, shutdown_timeout=_SHUTDOWN_S))
    # All at once: subscribers are disconnected while the last answers are sent.
    stack.push_async_callback(_clean_up, runners)
    for listener, runner in zip(listeners, runners, strict=True):
        await runner.setup()
        plain = None if access_log else listener.plain  # only the applications write that log
        await _Site(runner, listener.listening, plain, backlog=BACKLOG).start()


class _Site(web.SockSite):
    """Accepts the connections of a listening socket, which are plain until they bring another kind of request."""

    def __init__(
        self,
        runner: web.AppRunner,
        listening: socket.socket,
        plain: Plain | None,
        *,
        backlog: int = 128,
    ) -> None:
        """Serve each connection by *plain*, if there is one, which may hand it over to the application of *runner*."""
        super().__init__(runner, listening, backlog=backlog)
        self._plain = plain

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None  # noqa: S101 - for mypy: the constructor has asked
        application, plain = any_http(server), self._plain
        self._server = await asyncio.get_running_loop().create_server(
            application if plain is None else lambda: plain(application), sock=self._sock, backlog=self._backlog
        )


async def _clean_up(runners: Sequence[web.AppRunner]) -> None:
    await asyncio.gather(*(runner.cleanup() for runner in runners))


async def _log_access(request: web.Request, response: web.StreamResponse) -> None:
    if response.status < 400:  # the APIs log the others
        _log.info("%s %s %d", request.method, request.raw_path.partition("?")[0], response.status)
