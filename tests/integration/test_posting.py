"""The poster against a management API that answers as it is told to: throttled, gone, hanging, closing its lines."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.management_api import CLOSE, HANG, ManagementApi
from voting.posting import ANSWER_WITHIN_S, Forbidden, Poster
from voting.signing import Credentials


@pytest.fixture
def api() -> Iterator[ManagementApi]:
    api = ManagementApi(lambda _id, _posts: 200)
    yield api
    api.close()


@pytest.fixture
def poster(api: ManagementApi) -> Iterator[Poster]:
    poster = Poster(f"ws://127.0.0.1:{api.port}/live", "eu-central-1", Credentials("AKID", "secret"))
    yield poster
    poster.close()


def ids(count: int) -> list[str]:
    return [f"id/{i}+=" for i in range(count)]


def test_everybody_is_posted_the_frame_once(api: ManagementApi, poster: Poster) -> None:
    outcome = poster.post(ids(1000), b'{"x":1}')
    assert (outcome.sent, outcome.gone, outcome.failed) == (1000, [], [])
    assert api.posts == Counter(ids(1000))
    assert all(frames == [b'{"x":1}'] for frames in api.frames.values())


def test_lines_are_kept_between_two_posts(api: ManagementApi, poster: Poster) -> None:
    poster.post(ids(20), b"1")
    lines = api.lines
    poster.post(ids(20), b"2")
    assert api.lines == lines <= 20


def test_a_line_that_was_closed_meanwhile_costs_nobody_the_frame(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda _id, posts: CLOSE if posts == 0 else 200
    outcome = poster.post(ids(50), b"1")
    assert (outcome.sent, outcome.failed) == (50, [])


def test_gone_connections_are_told_from_the_others(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda id_, _posts: 410 if id_ == "id/7+=" else 200
    outcome = poster.post(ids(10), b"1")
    assert (outcome.sent, outcome.gone) == (9, ["id/7+="])


def test_throttled_posts_back_off_and_arrive(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda _id, posts: 429 if posts < 2 else 200
    outcome = poster.post(ids(100), b"1")
    assert (outcome.sent, outcome.throttled) == (100, 200)


def test_a_hanging_connection_delays_nobody(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda id_, _posts: HANG if id_ == "id/0+=" else 200
    answered: list[float] = []
    behaviour = api.behaviour
    api.behaviour = lambda id_, posts: (answered.append(time.monotonic()), behaviour(id_, posts))[1]
    started = time.monotonic()
    outcome = poster.post(ids(2000), b"1")
    assert (outcome.sent, outcome.failed) == (1999, ["id/0+="])
    assert max(answered) - started < ANSWER_WITHIN_S


def test_a_server_error_is_tried_once_more(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda id_, posts: 500 if posts == 0 or id_ == "id/1+=" else 200
    outcome = poster.post(ids(3), b"1")
    assert (outcome.sent, outcome.failed) == (2, ["id/1+="])


def test_a_refused_signature_is_a_fault_of_ours(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda _id, _posts: 403
    with pytest.raises(Forbidden, match="403"):
        poster.post(ids(3000), b"1")
    assert api.posts.total() < 3000  # the rest is not even tried


def test_nobody_listening_fails_all_and_ends() -> None:
    poster = Poster("ws://127.0.0.1:1/live", "eu-central-1", Credentials("AKID", "secret"))
    assert sorted(poster.post(ids(3), b"1").failed) == ids(3)
    poster.close()
