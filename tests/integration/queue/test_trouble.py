import pytest
from redis import Redis

from voting.clients import Clients
from voting.queue.queue_view import TROUBLE
from voting.queue.trouble import REMIND_EVERY_S, Trouble, read_trouble


@pytest.fixture
def trouble(redis: Redis, clients: Clients) -> Trouble:
    return Trouble(clients.redis(), TROUBLE, "nothing is counted")


def test_it_is_kept_with_its_beginning_until_it_is_over(trouble: Trouble, redis: Redis) -> None:
    assert read_trouble(redis, TROUBLE) is None
    trouble.met("it is being shut down")
    first = read_trouble(redis, TROUBLE)
    trouble.met("another one")
    last = read_trouble(redis, TROUBLE)
    assert first.error == "it is being shut down"
    assert last.error == "another one"
    assert first.since_ms == last.since_ms <= last.at_ms
    trouble.over()
    assert read_trouble(redis, TROUBLE) is None


def test_an_earlier_runs_trouble_keeps_its_beginning_and_ends_with_the_first_success(redis, clients) -> None:
    Trouble(clients.redis(), TROUBLE, "nothing is counted").met("of the earlier run")
    redis.hincrby(TROUBLE, "since", -60_000)
    since_ms = read_trouble(redis, TROUBLE).since_ms
    newer = Trouble(clients.redis(), TROUBLE, "nothing is counted")
    newer.met("of the newer run")
    assert read_trouble(redis, TROUBLE).since_ms == since_ms
    Trouble(clients.redis(), TROUBLE, "nothing is counted").over()
    assert read_trouble(redis, TROUBLE) is None


def test_an_outage_is_two_lines_and_a_reminder_every_half_minute(redis, clients, caplog) -> None:
    now = 0.0
    trouble = Trouble(clients.redis(), TROUBLE, "nothing is counted", lambda: now)
    for second in range(int(2 * REMIND_EVERY_S) + 1):
        now = float(second)
        for _ in range(5):
            trouble.met("away")
    trouble.over()
    trouble.over()
    lines = caplog.records
    assert [line.getMessage() for line in lines] == ["nothing is counted"] * 3 + ["this is over"]
    assert lines[-1].seconds == 2 * REMIND_EVERY_S


def test_what_comes_and_goes_many_times_a_second_is_two_lines_a_second(redis, clients, caplog) -> None:
    now = 0.0
    trouble = Trouble(clients.redis(), TROUBLE, "nothing is counted", lambda: now)
    for tick in range(100):
        now = tick / 20
        trouble.met("away")
        trouble.over()
    assert [line.getMessage() for line in caplog.records] == ["nothing is counted", "this is over"] * 5


def test_it_is_kept_while_memory_is_full(trouble: Trouble, redis: Redis) -> None:
    redis.set("filler", "x" * 1_000_000)
    redis.config_set("maxmemory", "500000")
    try:
        trouble.met("away")
    finally:
        redis.config_set("maxmemory", "0")
    assert read_trouble(redis, TROUBLE) is not None
