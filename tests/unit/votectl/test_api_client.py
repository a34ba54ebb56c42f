import asyncio
from collections.abc import Awaitable, Callable

import pytest

from votectl.loadtest.api_client import ApiClient, NoAnswer, NotSent, Reply

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def talk(answers: list[bytes], use: Callable[[ApiClient], Awaitable[object]], timeout_s: float = 5.0):
    """Serve one of *answers* for each request, in pieces; an empty one closes. Return what was used and received."""
    received: list[bytes] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while answers:
                received.append(await reader.readuntil(b"\r\n\r\n"))
                answer = answers.pop(0)
                for start in range(0, len(answer), 7):
                    writer.write(answer[start : start + 7])
                    await writer.drain()
                if not answer.startswith(b"HTTP") or b"Connection: close" in answer:
                    break
            else:
                await reader.read()
        except asyncio.IncompleteReadError:  # the client has gone
            pass
        finally:
            writer.close()

    async def run() -> object:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            client = ApiClient(f"http://user:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/", timeout_s)
            async with client:
                return await use(client)

    return asyncio.run(run()), received, connections


async def post(client: ApiClient) -> Reply:
    return await client.request("POST", "/x", {"Cookie": "a=b"})


async def post_twice(client: ApiClient) -> tuple[Reply, Reply]:
    return await post(client), await post(client)


def test_a_request_and_its_answer() -> None:
    answer = b"HTTP/1.1 202 Accepted\r\nset-cookie: id=1=; Path=/\r\nSet-Cookie: s=2\r\ncontent-length: 5\r\n\r\nhello"
    reply, (request,), _ = talk([answer], post)
    assert reply == Reply(202, {"id": "1=", "s": "2"}, b"hello")
    assert request.startswith(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nCookie: a=b\r\n" in request


def test_a_connection_is_kept() -> None:
    (first, second), requests, connections = talk([OK, OK], post_twice)
    assert first.body == second.body == b"ok"
    assert (len(requests), connections) == (2, 1)


def test_a_connection_that_the_server_closes_is_replaced() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    (_, second), _, connections = talk([closing, OK], post_twice)
    assert (second.body, connections) == (b"ok", 2)


def test_a_chunked_answer_is_put_together() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"
    assert talk([chunked], post)[0].body == b"abc0123456789"


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\nshort", b"SMTP\r\n\r\n"],
)
def test_half_an_answer_is_none(answer: bytes) -> None:
    with pytest.raises(NoAnswer):
        talk([answer], post)


def test_a_late_answer_is_none() -> None:
    with pytest.raises(NoAnswer, match="too long"):
        talk([b"HTTP/1.1 200 OK\r\n"], post, timeout_s=0.2)


def test_after_no_answer_the_next_request_has_a_new_connection() -> None:
    async def use(client: ApiClient) -> Reply:
        with pytest.raises(NoAnswer):
            await post(client)
        return await post(client)

    reply, requests, connections = talk([b"", OK], use)
    assert (reply.body, len(requests), connections) == (b"ok", 2, 2)  # nor was the first one sent again


def test_without_a_server_nothing_was_sent() -> None:
    async def use() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        async with ApiClient(f"http://127.0.0.1:{port}", 5.0) as client:
            await post(client)

    with pytest.raises(NotSent):
        asyncio.run(use())
