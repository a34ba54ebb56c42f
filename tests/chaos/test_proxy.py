"""The proxy itself: what it does to a connection has to be seen by its client."""

import asyncio
import gc
import socket

import pytest

from tests.chaos.marks import RedisReader
from tests.chaos.proxy import Proxy

CLIENTS = 3
SEEN_WITHIN_S = 5.0


def test_connections_that_come_in_while_the_port_is_shut_are_ended() -> None:
    async def shut_while_accepting(turns: int) -> None:
        proxy = Proxy(RedisReader)
        await proxy.open()
        clients = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(CLIENTS)]
        for _ in range(turns):  # of the event loop, so that the connections are accepted this far
            await asyncio.sleep(0)
        await proxy.shut()
        await asyncio.gather(*(_ended(client) for client in clients))
        await proxy.close()

    for turns in range(6):
        asyncio.run(shut_while_accepting(turns))
        gc.collect()  # a socket that nobody has closed is a warning, and so an error


async def _ended(client: socket.socket) -> None:
    with client:
        client.setblocking(False)
        try:
            got = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), SEEN_WITHIN_S)
        except ConnectionResetError:
            return
        assert got == b""


def test_a_port_that_is_shut_refuses_and_stays_the_proxys() -> None:
    async def shut_and_open() -> None:
        proxy = Proxy(RedisReader)
        await proxy.open()
        port = proxy.port
        await proxy.shut()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port))  # nor would the kernel give it to a connection that somebody opens
        await proxy.open()
        assert proxy.port == port
        with socket.create_connection(("127.0.0.1", port)):
            pass
        await proxy.close()

    asyncio.run(shut_and_open())
