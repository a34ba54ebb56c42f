"""The HTTP API as `sam local start-api` serves it, by a client that is not ours."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from redis import Redis

from tests.sam.conftest import TIMEOUT_S, serving
from tests.stack import wait_for
from voting.queue.queue_view import VOTES
from voting.vote import parse


@pytest.fixture(scope="module")
def http(sam_local: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("start-api") / "log"
    with (
        serving(sam_local("start-api", "--warm-containers", "LAZY"), log) as url,
        httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client,
    ):
        try:  # 502 is an answer of `sam local` itself, where a container did not come up
            wait_for(lambda: client.get("/").status_code != httpx.codes.BAD_GATEWAY, "a container", 120)
        except AssertionError as error:
            error.add_note(log.read_text())
            raise
        yield client


def test_the_page_is_served_and_its_voter_counts_once(http: httpx.Client, redis: Redis) -> None:
    page = http.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert 'name="vote"' in page.text
    answer = http.post("/api/votes", json={"vote": "a"})
    assert (answer.status_code, answer.json()) == (202, {"vote": "a", "status": "queued"})
    (message,) = redis.lrange(VOTES, 0, -1)
    assert parse(message).choice == "a"


def test_an_unknown_path_is_answered_by_the_default_route(http: httpx.Client, redis: Redis) -> None:
    answer = http.get("/nothing-here", headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
