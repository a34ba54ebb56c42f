"""The poster against a management API that answers as it is told to: throttled, gone, hanging, closing its lines."""

import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import certificate
from tests.management_api import CLOSE, HANG, JUNK, ManagementApi
from voting.posting import ANSWER_WITHIN_S, IN_FLIGHT, Forbidden, Poster
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
    poster.post(ids(lines), b"2")
    assert api.lines == lines <= 20


def test_kept_lines_that_were_closed_meanwhile_cost_nobody_the_frame(api: ManagementApi, poster: Poster) -> None:
    poster.post(ids(50), b"1")
    api.hang_up()
    outcome = poster.post(ids(3), b"2")
    assert (outcome.sent, outcome.failed) == (3, [])


def test_kept_lines_that_turn_out_closed_when_used_cost_nobody_the_frame(api: ManagementApi, poster: Poster) -> None:
    poster.post(ids(50), b"1")
    kept = api.lines
    answers = iter([CLOSE] * kept)  # to whom gets onto one of the kept lines, and again on the next of them
    api.behaviour = lambda _id, _posts: next(answers, 200)
    outcome = poster.post(ids(1), b"2")
    assert (outcome.sent, outcome.failed) == (1, [])
    assert kept > 2


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


def test_more_hanging_connections_than_may_be_in_flight_delay_nobody(api: ManagementApi, poster: Poster) -> None:
    hanging = set(random.Random(5).sample(ids(3000), IN_FLIGHT + 50))
    answered: list[float] = []

    def behave(id_: str, _posts: int) -> int:
        if id_ in hanging:
            return HANG
        answered.append(time.monotonic())
        return 200

    api.behaviour = behave
    started = time.monotonic()
    outcome = poster.post(ids(3000), b"1")
    assert outcome.sent == 3000 - len(hanging)
    assert set(outcome.failed) == hanging
    assert max(answered) - started < ANSWER_WITHIN_S


def test_an_answer_in_pieces_is_one_answer(api: ManagementApi, poster: Poster) -> None:
    api.piece_bytes = 7
    api.behaviour = lambda id_, _posts: 410 if id_ == "id/1+=" else 200
    outcome = poster.post(ids(20), b"1")
    assert (outcome.sent, outcome.gone) == (19, ["id/1+="])


def test_a_frame_that_no_buffer_holds_arrives_whole(api: ManagementApi, poster: Poster) -> None:
    frame = b"x" * 8_000_000
    assert poster.post(ids(2), frame).sent == 2
    assert all(frames == [frame] for frames in api.frames.values())


def test_what_is_not_answered_in_http_fails(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda id_, _posts: JUNK if id_ == "id/1+=" else 200
    outcome = poster.post(ids(3), b"1")
    assert (outcome.sent, outcome.failed) == (2, ["id/1+="])


def test_posts_go_over_tls_to_whom_the_system_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate.write(tmp_path / "loopback.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    api = ManagementApi(lambda _id, _posts: 200, tls)
    url = f"wss://127.0.0.1:{api.port}/live"
    stranger = Poster(url, "eu-central-1", Credentials("AKID", "secret"))
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    friend = Poster(url, "eu-central-1", Credentials("AKID", "secret"))
    frame = b"x" * 100_000  # more than a TLS record
    assert friend.post(ids(500), frame).sent == 500
    assert friend.post(ids(500), frame).sent == 500
    assert stranger.post(ids(3), frame).sent == 0
    assert api.posts == dict.fromkeys(ids(500), 2)
    for closing in (friend, stranger, api):
        closing.close()


def test_an_address_where_nobody_listens_is_passed_over(api: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", api.port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", api.port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolved)
    poster = Poster(f"ws://two-addresses.example:{api.port}/live", "eu-central-1", Credentials("AKID", "secret"))
    outcome = poster.post(ids(100), b"1")
    assert (outcome.sent, outcome.failed) == (100, [])
    poster.close()


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
