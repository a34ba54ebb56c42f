"""A push that Redis takes while its answer is lost: nobody may be told that nothing was recorded."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.chaos.line import Stop
from tests.chaos.marks import RedisReader
from tests.chaos.proxy import Proxy
from tests.stack import wait_for
from voting.clients import Clients
from voting.queue.queue_view import VOTES
from voting.queue.vote_queue import PushUnanswered, QueueUnavailable, VoteQueue
from voting.settings import Settings
from voting.vote import Vote

SLOW_S = 0.6  # each way: a push arrives within its deadline, its answer after the client has given up
DELIVERED_AFTER_S = 0.3  # well within the deadline of a push


@dataclass(frozen=True)
class Network:
    """What lies between the client and Redis, in a thread of its own."""

    loop: asyncio.AbstractEventLoop
    proxy: Proxy

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def go_deaf(self) -> None:
        """Reset every connection; new ones are accepted, and nothing answers them."""
        self.proxy.deaf = True
        self.proxy.cut()
        await asyncio.sleep(0)  # until the resets are sent

    async def cut_at_the_next_push(self) -> None:
        """Break the connection when the next push comes over it: until then it looks alive."""
        self.proxy.expect("push", hold="line").add_done_callback(lambda found: found.result().drop())

    async def keep_the_next_push(self) -> None:
        """Reset its connection at once, and deliver it all the same, but later."""

        def keep(found: "asyncio.Future[Stop]") -> None:
            found.result().line.half_open()
            self.loop.call_later(DELIVERED_AFTER_S, found.result().release)

        self.proxy.expect("push", hold="line").add_done_callback(keep)


@pytest.fixture
def network(redis_url: str) -> Iterator[Network]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="network")
    thread.start()
    network = Network(loop, Proxy(RedisReader))
    network.run(network.proxy.open(port_of(redis_url)))
    yield network
    network.run(network.proxy.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def queue(network: Network, settings: Settings, redis_url: str) -> Iterator[VoteQueue]:
    through = redis_url.replace(f":{port_of(redis_url)}/", f":{network.proxy.port}/")
    clients = Clients(settings._replace(env={**settings.env, "REDIS_URL": through}), redis_retries=0)
    yield VoteQueue(clients.redis())
    clients.close()


def test_a_push_without_an_answer_is_not_called_unrecorded(queue: VoteQueue, network: Network, redis: Redis) -> None:
    queue.push(Vote("a", "x"))
    network.proxy.delay_s = SLOW_S
    with pytest.raises(PushUnanswered):
        queue.push(Vote("b", "x"))
    wait_for(lambda: redis.llen(VOTES) > 1, "the vote of which nobody knew")


def test_a_push_that_was_never_sent_is_surely_not_recorded(queue: VoteQueue, network: Network, redis: Redis) -> None:
    queue.push(Vote("a", "x"))
    network.run(network.go_deaf())
    with pytest.raises(QueueUnavailable) as caught:
        queue.push(Vote("b", "x"))
    assert not isinstance(caught.value, PushUnanswered)
    assert redis.llen(VOTES) == 1


def test_an_environment_that_was_frozen_pushes_over_a_new_connection(
    queue: VoteQueue, network: Network, redis: Redis
) -> None:
    queue.push(Vote("a", "x"))
    assert queue._ahead_us is not None
    queue._ahead_us -= 60_000_000  # Redis' clock went on while ours stood still
    network.run(network.cut_at_the_next_push())
    queue.push(Vote("b", "x"))
    assert redis.lindex(VOTES, 0) == Vote("b", "x").encode()


def test_a_push_whose_connection_broke_is_not_delivered_behind_the_next_vote(
    queue: VoteQueue, network: Network, redis: Redis
) -> None:
    queue.push(Vote("a", "x"))
    network.run(network.keep_the_next_push())
    queue.push(Vote("b", "x"))
    queue.push(Vote("a", "x"))
    wait_for(lambda: network.proxy.counts["pushed"] + network.proxy.counts["late"] == 4, "the kept push to arrive")
    assert redis.lindex(VOTES, 0) == Vote("a", "x").encode()


def port_of(url: str) -> int:
    return urlsplit(url).port or 0
