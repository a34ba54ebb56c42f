"""API Gateway's management API, as far as posting and closing go, with answers that a test decides on."""

import asyncio
import ssl
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from urllib.parse import unquote

HANG, CLOSE, JUNK = -1, -2, -3
Behaviour = Callable[[str, int], int]  # connection id, how many posts it had before: the status to answer


class ManagementApi:
    """A real HTTP/1.1 server on a thread of its own."""

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour
        self.posts: Counter[str] = Counter()
        self.frames: defaultdict[str, list[bytes]] = defaultdict(list)
        self.closed: Counter[str] = Counter()  # how often each connection was to be closed
        self.lines = 0
        self.piece_bytes = 0  # where not 0, answers trickle in pieces of this size
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls, backlog=1024))
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def hang_up(self) -> None:
        """Close every line, as servers do with those that idle for long."""

        async def end() -> None:
            for writer in self._writers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

        self._call(end())

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines += 1
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                connection_id = unquote(head.split(b" ")[1].decode().rpartition("/")[2])
                if head.startswith(b"DELETE "):
                    status = 410 if self.closed[connection_id] else 204
                    self.closed[connection_id] += 1
                    writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
                    continue
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.frames[connection_id].append(await reader.readexactly(length))
                status = self.behaviour(connection_id, self.posts[connection_id])
                self.posts[connection_id] += 1
                if status == HANG:
                    await asyncio.sleep(60)
                if status == CLOSE:
                    break
                if status == JUNK:
                    writer.write(b"SSH-2.0-server\r\n\r\n")
                    continue
                body = b"" if status == 200 else b'{"message":"no"}'
                await self._answer(writer, b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client hung up, or the test is over
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        step = self.piece_bytes or len(answer)
        for begin in range(0, len(answer), step):
            writer.write(answer[begin : begin + step])
            await writer.drain()
            await asyncio.sleep(0)  # the other side may read this piece by itself
