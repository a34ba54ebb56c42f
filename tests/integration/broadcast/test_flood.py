"""Connections that send without a pause are closed, whichever environments serve them; honest ones never are.

Covers flood and frame_counts.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from redis import Redis

from tests.conftest import event
from tests.management_api import ManagementApi
from voting.broadcast.flood import MOST, UNNOTICED, Meter, Verdict
from voting.broadcast.frame_counts import FRAMES, WINDOW_S, FrameCounts
from voting.broadcast.planner import Budget, ping_s
from voting.broadcast.subscribers import BUCKETS, Subscribers
from voting.clients import Clients
from voting.results.snapshot import Snapshots
from voting.settings import Settings
from voting.tally import Tally

PATIENT = 1_000  # seconds for which honest clients are watched


@dataclass
class Lambda:
    """Some execution environments on one clock, between which frames go round."""

    clients: Clients
    environments: int
    now: float = 1_800_000_000.0
    verdicts: Counter[Verdict] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._meters = itertools.cycle([Meter(lambda: self.now) for _ in range(self.environments)])

    def frame(self, connection_id: str, after_s: float = 0.0) -> Verdict:
        self.now += after_s
        verdict = next(self._meters).judge(connection_id, self.clients)
        self.verdicts[verdict] += 1
        return verdict


@pytest.mark.parametrize("environments", [1, 3, 20])
def test_a_flood_is_told_and_closed_once_however_it_is_spread(
    redis: Redis, clients: Clients, environments: int
) -> None:
    lambda_ = Lambda(clients, environments)
    for _ in range(2000):
        lambda_.frame("flooder=", after_s=1 / 2000)
    assert lambda_.verdicts[Verdict.TELL] == 1
    assert lambda_.verdicts[Verdict.ANSWER] <= MOST + (environments - 1) * UNNOTICED
    assert lambda_.verdicts[Verdict.CLOSE] == 2000 // MOST - 1  # the first attempt may fail; each costs a request


@pytest.mark.parametrize("rate", [1.5, 5, 50])
def test_a_slow_flood_is_found_too(redis: Redis, clients: Clients, rate: float) -> None:
    lambda_ = Lambda(clients, 2)
    verdicts = [lambda_.frame("flooder=", after_s=1 / rate) for _ in range(200)]
    assert Verdict.TELL in verdicts


def test_a_flooder_beside_others_is_the_only_one_to_be_closed(redis: Redis, clients: Clients) -> None:
    lambda_ = Lambda(clients, 4)
    others = [f"c{number}=" for number in range(50)]
    for number in range(1000):
        lambda_.frame("flooder=", after_s=0.01)
        if number % 4 == 0:
            assert lambda_.frame(others[number // 4 % len(others)]) is Verdict.ANSWER


def test_without_redis_each_environment_decides_by_itself(settings: Settings) -> None:
    clients = Clients(Settings({**settings.env, "REDIS_URL": "redis://127.0.0.1:1"}), redis_retries=0)
    lambda_ = Lambda(clients, 2)
    verdicts = Counter(lambda_.frame("flooder=", after_s=0.01) for _ in range(4 * MOST))
    assert verdicts == {Verdict.ANSWER: 2 * MOST, Verdict.TELL: 2, Verdict.CLOSE: 2, Verdict.IGNORE: 2 * MOST - 4}
    clients.close()


@pytest.mark.parametrize("environments", [1, 2, 20])
@pytest.mark.parametrize("subscribers", [1, 2_000, 100_000])
def test_a_page_that_pings_as_told_is_never_closed(
    redis: Redis, clients: Clients, environments: int, subscribers: int
) -> None:
    lambda_ = Lambda(clients, environments)
    lambda_.frame("page=")
    for _ in range(PATIENT // 20):
        lambda_.frame("page=", after_s=0.8 * ping_s(subscribers, Budget(4000, 0.05)))
    assert lambda_.verdicts.keys() == {Verdict.ANSWER}
    assert not redis.exists(FRAMES)  # it cost Redis nothing


def test_a_client_that_subscribes_again_every_two_seconds_is_never_closed(redis: Redis, clients: Clients) -> None:
    """As the documentation says to do "in a few seconds", for as long as a store is away."""
    lambda_ = Lambda(clients, 1)
    for _ in range(PATIENT // 2):
        assert lambda_.frame("page=", after_s=2.0) is Verdict.ANSWER


def test_clients_that_reconnect_without_end_are_never_closed(redis: Redis, clients: Clients) -> None:
    """Ten thousand pages behind one address whose server comes and goes: each connection is a new one."""
    lambda_ = Lambda(clients, 3)
    for number in range(10_000):
        for _ in ("subscribe", "ping"):
            assert lambda_.frame(f"page{number}=", after_s=0.001) is Verdict.ANSWER
    assert not redis.exists(FRAMES)


def test_a_reader_who_turns_to_the_page_again_and_again_is_not_closed(redis: Redis, clients: Clients) -> None:
    lambda_ = Lambda(clients, 1)
    assert {lambda_.frame("page=", after_s=0.1) for _ in range(MOST)} == {Verdict.ANSWER}
    assert {lambda_.frame("page=", after_s=WINDOW_S) for _ in range(10)} == {Verdict.ANSWER}


def test_counts_are_kept_for_one_window_only(redis: Redis) -> None:
    counts = FrameCounts(redis)
    assert [counts.add("a=", 5, 100.0), counts.add("a=", 1, 110.0), counts.add("b=", 5, 99.9)] == [5, 6, 5]
    assert counts.add("b=", 1, 100.0 + WINDOW_S) == 1
    assert redis.hkeys(FRAMES) == [b"since", b"b="]
    assert counts.add("b=", 1, 50.0) == 1  # a clock that was set back


# ---------------------------------------------------------------- The function


@pytest.fixture
def settings(settings: Settings, api: ManagementApi) -> Settings:
    return Settings({**settings.env, "WEBSOCKET_URL": f"ws://127.0.0.1:{api.port}/live"})


@pytest.fixture
def ws_connect(handler, redis: Redis) -> Iterator:
    Snapshots(redis).write(Tally(17, {"a": 1}))
    handle = handler("ws_connect")
    yield handle
    clients, poster = handle.__wrapped__.__globals__["environment"]()
    clients.close()
    poster.close()


def of(connection_id: str, body: str) -> dict:
    frame = event("websocket-subscribe", body=body)
    frame["requestContext"]["connectionId"] = connection_id
    return frame


@pytest.mark.parametrize("body", ['{"action": "ping"}', '{"action": "subscribe"}', "junk", "", '{"action": "fly"}'])
def test_a_flooder_is_told_once_closed_and_forgotten(ws_connect, context, api, redis: Redis, body: str) -> None:
    Subscribers(redis).add("honest=")
    for _ in range(5 * MOST):
        assert ws_connect(of("flooder=", body), context) == {"statusCode": 200}
    frames = [json.loads(frame) for frame in api.frames["flooder="]]
    codes = [frame.get("code") for frame in frames]
    assert (codes.count("too_many_frames"), codes[-1]) == (1, "too_many_frames")
    assert len(frames) <= MOST + 2  # the results after the pong of one that was not known
    assert 1 <= api.closed["flooder="] <= 5
    assert Subscribers(redis).of(range(BUCKETS)) == ["honest="]
    assert api.closed.keys() == {"flooder="}


def test_a_flooder_that_does_not_read_is_closed_all_the_same(ws_connect, context, api, redis: Redis) -> None:
    """API Gateway answers 429 where the client's buffer is full."""
    for _ in range(MOST):
        ws_connect(of("deaf=", "junk"), context)
    api.behaviour = lambda _id, _posts: 429
    ws_connect(of("deaf=", "junk"), context)
    assert api.closed == {"deaf=": 1}


def test_answers_and_pings_beside_a_flood_go_on(ws_connect, context, api, redis: Redis) -> None:
    ws_connect(of("honest=", '{"action": "subscribe"}'), context)
    for number in range(5 * MOST):
        ws_connect(of("flooder=", "junk"), context)
        if number % MOST == 0:
            ws_connect(of("honest=", '{"action": "ping"}'), context)
    assert [json.loads(frame)["type"] for frame in api.frames["honest="]] == ["results", *5 * ["pong"]]
