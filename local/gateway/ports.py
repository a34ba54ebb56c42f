"""The ports of a run. They are bound first: one that is in use is found before anything is started."""

import errno
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from local.gateway.listeners import BACKLOG
from local.start_error import StartError


@dataclass(frozen=True, slots=True)
class Ports:
    """The listening sockets, all on 127.0.0.1."""

    http: socket.socket
    websocket: socket.socket
    lambda_: socket.socket

    @classmethod
    def bind(cls, numbers: Mapping[str, int], stack: AsyncExitStack) -> Self:
        """Listen on the ports `http`, `websocket` and `lambda` of *numbers* until *stack* ends; 0 takes a free one.

        Raises:
            StartError: one cannot be used.
        """
        return cls(*(stack.enter_context(_listen(name, numbers[name])) for name in ("http", "websocket", "lambda")))

    @property
    def http_url(self) -> str:
        return _url("http", self.http)

    @property
    def websocket_url(self) -> str:
        """The address of the WebSocket API, without its stage."""
        return _url("ws", self.websocket)

    @property
    def lambda_url(self) -> str:
        return _url("http", self.lambda_)


def _listen(name: str, port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise StartError(f"port {port} {reason}: name another one with --{name}-port (0 takes a free one)") from error
    return listening


def _url(scheme: str, listening: socket.socket) -> str:
    host, port = listening.getsockname()
    return f"{scheme}://{host}:{port}"
