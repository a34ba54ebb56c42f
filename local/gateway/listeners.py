"""The open ports of a run: an application behind each, and in front of some a faster reader of plain requests."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import web

from local.gateway.any_http import any_http

_log = logging.getLogger("local.access")

# Makes what serves one connection, out of what makes the application's own.
Line = Callable[[Callable[[], asyncio.Protocol]], asyncio.Protocol]
BACKLOG = 1024
_SHUTDOWN_S = 2.0


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket, and who answers there."""

    listener: socket.socket
    application: web.Application
    line: Line | None = None  # serves a connection for as long as it carries plain requests only


async def open_doors(doors: Sequence[Door], stack: AsyncExitStack, *, access_log: bool) -> None:
    """Serve at all *doors* until *stack* ends."""
    runners = []
    for door in doors:
        if access_log:
            door.application.on_response_prepare.append(_log_access)
        runners.append(web.AppRunner(door.application, shutdown_timeout=_SHUTDOWN_S))
    # All at once: subscribers are told to go while the last answers are given.
    stack.push_async_callback(_clean_up, runners)
    for door, runner in zip(doors, runners, strict=True):
        await runner.setup()
        line = None if access_log else door.line  # only the applications write that log
        await _Site(runner, door.listener, line, backlog=BACKLOG).start()


class _Site(web.SockSite):
    """Accepts the connections of a listening socket, each a line until it shows what it is."""

    def __init__(
        self,
        runner: web.AppRunner,
        listener: socket.socket,
        line: Line | None,
        *,
        backlog: int = 128,
    ) -> None:
        """Serve each connection by what *line* makes, which may hand it over to the application of *runner*."""
        super().__init__(runner, listener, backlog=backlog)
        self._line = line

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None  # noqa: S101 - for mypy: the constructor has asked
        application, line = any_http(server), self._line
        self._server = await asyncio.get_running_loop().create_server(
            application if line is None else lambda: line(application), sock=self._sock, backlog=self._backlog
        )


async def _clean_up(runners: Sequence[web.AppRunner]) -> None:
    await asyncio.gather(*(runner.cleanup() for runner in runners))


async def _log_access(request: web.Request, response: web.StreamResponse) -> None:
    if response.status < 400:  # the front doors log the others
        _log.info("%s %s %d", request.method, request.raw_path.partition("?")[0], response.status)
