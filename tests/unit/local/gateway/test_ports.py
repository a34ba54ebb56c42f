"""The ports of a run: bound at once, and named with their option where that fails."""

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest

from local.gateway.ports import Ports
from local.start_error import StartError

FREE = {"http": 0, "websocket": 0, "lambda": 0}


def test_each_listens_on_the_loopback_interface_until_the_end() -> None:
    async def bind() -> list[str]:
        async with AsyncExitStack() as stack:
            ports = Ports.bind(FREE, stack)
            for listening in (ports.http, ports.websocket, ports.lambda_):
                socket.create_connection(listening.getsockname(), 5).close()
            urls = [ports.http_url, ports.websocket_url, ports.lambda_url]
        assert [listening.fileno() for listening in (ports.http, ports.websocket, ports.lambda_)] == [-1, -1, -1]
        return urls

    urls = asyncio.run(bind())
    assert [url.rpartition(":")[0] for url in urls] == ["http://127.0.0.1", "ws://127.0.0.1", "http://127.0.0.1"]
    assert len(set(urls)) == 3


@pytest.mark.parametrize("name", FREE)
def test_a_taken_port_is_told_with_its_option(name: str) -> None:
    async def bind(number: int) -> None:
        async with AsyncExitStack() as stack:
            Ports.bind({**FREE, name: number}, stack)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"^port {number} is taken: name another one with --{name}-port "):
            asyncio.run(bind(number))
