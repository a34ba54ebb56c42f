"""The poster against a management API that throttles, is slow, hangs or closes its HTTP connections, as a test chooses.

Covers poster, posting_loop and http_connection.
"""

import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import certificate
from tests.management_api import CLOSE, HANG, JUNK, ManagementApi
from tests.resolver import Answer, black_hole, ipv4, ipv6, resolve_to
from voting.broadcast.feed import Limits, SameFrame
from voting.broadcast.post_schedule import ATTEMPTS, THROTTLED_ATTEMPTS
from voting.broadcast.poster import Forbidden, Poster
from voting.broadcast.posting_loop import ANSWER_WITHIN_S, IN_FLIGHT
from voting.broadcast.sigv4 import Credentials


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


def test_connections_are_closed_and_those_that_had_gone_are_told_apart(api: ManagementApi, poster: Poster) -> None:
    outcome = poster.disconnect(ids(50))
    assert (outcome.sent, outcome.gone, outcome.failed) == (50, [], [])
    assert api.closed == Counter(ids(50))
    again = poster.disconnect(ids(3))
    assert (again.sent, sorted(again.gone)) == (0, ids(3))
    assert poster.post(ids(1), b"1").sent == 1  # over the same connections
    assert not api.posts.keys() - set(ids(1))


def test_http_connections_are_kept_between_two_posts(api: ManagementApi, poster: Poster) -> None:
    poster.post(ids(20), b"1")
    opened = api.lines
    poster.post(ids(opened), b"2")
    assert api.lines == opened <= 20


def test_kept_connections_that_the_server_closed_cost_no_subscriber_the_frame(
    api: ManagementApi, poster: Poster
) -> None:
    poster.post(ids(50), b"1")
    api.hang_up()
    outcome = poster.post(ids(3), b"2")
    assert (outcome.sent, outcome.failed) == (3, [])


def test_kept_connections_that_turn_out_closed_when_used_cost_no_subscriber_the_frame(
    api: ManagementApi, poster: Poster
) -> None:
    poster.post(ids(50), b"1")
    kept = api.lines
    answers = iter([CLOSE] * kept)  # one on each of the kept connections
    api.behaviour = lambda _id, _posts: next(answers, 200)
    outcome = poster.post(ids(1), b"2")
    assert (outcome.sent, outcome.failed) == (1, [])
    assert kept > 2


def test_a_connection_that_the_server_closes_costs_no_subscriber_the_frame(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda _id, posts: CLOSE if posts == 0 else 200
    outcome = poster.post(ids(50), b"1")
    assert (outcome.sent, outcome.failed) == (50, [])


def test_gone_connections_are_told_from_the_others(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda id_, _posts: 410 if id_ == "id/7+=" else 200
    outcome = poster.post(ids(10), b"1")
    assert (outcome.sent, outcome.gone) == (9, ["id/7+="])


def test_an_error_of_the_gateway_that_passes_costs_nobody_the_frame(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda _id, posts: (503, CLOSE, 500)[posts] if posts < ATTEMPTS - 1 else 200
    outcome = poster.post(ids(50), b"1")
    assert (outcome.sent, outcome.failed) == (50, [])


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


def test_more_clients_that_do_not_read_than_may_be_in_flight_hold_up_nobody(api: ManagementApi, poster: Poster) -> None:
    """API Gateway answers 429 also where a client's buffer is full, and that stays so."""
    deaf = set(random.Random(5).sample(ids(3000), IN_FLIGHT + 50))
    answered: list[float] = []

    def behave(id_: str, _posts: int) -> int:
        if id_ in deaf:
            return 429
        answered.append(time.monotonic())
        return 200

    api.behaviour = behave
    started = time.monotonic()
    outcome = poster.serve(SameFrame(ids(3000), b"1"), Limits(within_s=30))
    assert outcome.sent == 3000 - len(deaf)
    assert max(answered) - started < 3.0
    assert set(outcome.failed) == deaf  # given up, and no more tried until time is up
    assert time.monotonic() - started < 25


def test_where_all_are_throttled_nobody_is_given_up(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda _id, posts: 429 if posts < THROTTLED_ATTEMPTS + 1 else 200
    outcome = poster.post(ids(1), b"1")
    assert (outcome.sent, outcome.throttled) == (1, THROTTLED_ATTEMPTS + 1)


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
    for end in (friend, stranger, api):
        end.close()


def test_an_address_where_nobody_listens_is_passed_over(
    api: ManagementApi, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, ipv4(1), ipv4(api.port))
    outcome = poster.post(ids(100), b"1")
    assert (outcome.sent, outcome.failed) == (100, [])


@pytest.fixture
def hole() -> Iterator[int]:
    with black_hole() as port:
        yield port


WORKS = [
    pytest.param(ipv4, ipv6, id="IPv4 is dropped"),
    pytest.param(ipv6, ipv4, id="IPv6 is dropped"),
    pytest.param(ipv4, ipv4, id="one of two is dropped"),
]


@pytest.mark.parametrize(("dead", "alive"), WORKS)
def test_a_cold_shard_reaches_all_though_the_first_address_leads_nowhere(
    api: ManagementApi,
    poster: Poster,
    monkeypatch: pytest.MonkeyPatch,
    hole: int,
    dead: Callable[[int], Answer],
    alive: Callable[[int], Answer],
) -> None:
    resolve_to(monkeypatch, dead(hole), alive(api.port))
    outcome = poster.serve(SameFrame(ids(200), b"1"), Limits(within_s=ANSWER_WITHIN_S - 0.1))
    assert (outcome.sent, outcome.failed) == (200, [])
    assert api.posts == Counter(ids(200))


def test_more_connections_than_a_process_has_files_do_not_race_at_once(
    api: ManagementApi, poster: Poster, monkeypatch: pytest.MonkeyPatch, hole: int
) -> None:
    resolve_to(monkeypatch, *[ipv4(hole)] * 5, ipv4(api.port))
    outcome = poster.post(ids(1500), b"1")
    assert (outcome.sent, outcome.failed) == (1500, [])


def test_posts_prefer_ipv6_where_they_are_told_to(monkeypatch: pytest.MonkeyPatch, api: ManagementApi) -> None:
    with closing(ManagementApi(lambda _id, _posts: 200)) as unwanted:
        resolve_to(monkeypatch, ipv4(unwanted.port), ipv6(api.port))
        with closing(
            Poster("ws://host/live", "eu-central-1", Credentials("AKID", "secret"), prefers_ipv6=True)
        ) as poster:
            assert poster.post(ids(200), b"1").sent == 200
        assert (api.posts.total(), unwanted.lines) == (200, 0)


@pytest.fixture
def resolved_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new connection comes so late that the name is resolved again."""
    monkeypatch.setattr("voting.broadcast.http_connection.RESOLVED_FOR_S", 0.0)


@pytest.mark.usefixtures("resolved_each_time")
def test_the_family_that_worked_is_tried_first_from_then_on(
    api: ManagementApi, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(ManagementApi(lambda _id, _posts: 200)) as unwanted:
        resolve_to(monkeypatch, ipv4(1), ipv6(api.port))
        assert poster.post(ids(1), b"1").sent == 1
        resolve_to(monkeypatch, ipv4(unwanted.port), ipv6(api.port))  # by now IPv4 would work too
        api.hang_up()
        assert poster.post(ids(200), b"2").sent == 200
        assert unwanted.lines == 0


@pytest.mark.usefixtures("resolved_each_time")
@pytest.mark.parametrize("is_dropped", [True, False])
def test_a_family_that_dies_later_costs_nobody_the_frame(
    api: ManagementApi, poster: Poster, monkeypatch: pytest.MonkeyPatch, hole: int, *, is_dropped: bool
) -> None:
    with closing(ManagementApi(lambda _id, _posts: 200)) as dying:
        resolve_to(monkeypatch, ipv6(dying.port), ipv4(api.port))
        assert poster.post(ids(50), b"1").sent == 50
    resolve_to(monkeypatch, ipv6(hole if is_dropped else dying.port), ipv4(api.port))
    assert poster.post(ids(200), b"2").sent == 200
    assert api.posts == Counter(ids(200))


@pytest.mark.usefixtures("resolved_each_time")
def test_where_the_resolver_fails_the_older_addresses_are_used(
    api: ManagementApi, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, ipv4(api.port))
    assert poster.post(ids(1), b"1").sent == 1
    resolve_to(monkeypatch)
    api.hang_up()
    assert poster.post(ids(200), b"2").sent == 200


def test_where_all_addresses_lead_nowhere_all_posts_fail_in_their_time(
    poster: Poster, monkeypatch: pytest.MonkeyPatch, hole: int
) -> None:
    resolve_to(monkeypatch, ipv4(hole), ipv6(hole))
    assert sorted(poster.post(ids(3), b"1").failed) == ids(3)


def test_an_address_with_a_certificate_of_others_is_tried_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts connections, so it wins each race until a handshake with it has failed."""
    contexts = []
    for name in ("ours", "theirs"):
        contexts.append(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
        contexts[-1].load_cert_chain(certificate.write(tmp_path / name))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ours"))
    ours, theirs = (ManagementApi(lambda _id, _posts: 200, tls) for tls in contexts)
    with closing(ours), closing(theirs):
        resolve_to(monkeypatch, ipv4(theirs.port), ipv4(ours.port))
        with closing(Poster("wss://127.0.0.1/live", "eu-central-1", Credentials("AKID", "secret"))) as poster:
            assert poster.post(ids(200), b"1").sent == 200


def test_an_address_that_accepts_and_then_hangs_is_tried_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate.write(tmp_path / "loopback.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with closing(ManagementApi(lambda _id, _posts: 200, tls)) as api, socket.create_server(("127.0.0.1", 0)) as mute:
        resolve_to(monkeypatch, ipv4(mute.getsockname()[1]), ipv4(api.port))
        with closing(Poster("wss://127.0.0.1/live", "eu-central-1", Credentials("AKID", "secret"))) as poster:
            assert poster.post(ids(1), b"1").failed == ids(1)
            assert poster.post(ids(50), b"1").sent == 50


def test_a_resolver_that_does_not_answer_is_asked_once_and_its_late_answer_is_used(
    api: ManagementApi, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer = threading.Event()
    asked: list[object] = []

    def answer_late(host: object, *_: object, **__: object) -> list[Answer]:
        asked.append(host)
        assert may_answer.wait(60)
        return [ipv4(api.port)]

    monkeypatch.setattr(socket, "getaddrinfo", answer_late)
    monkeypatch.setattr("voting.broadcast.http_connection.RESOLVE_WITHIN_S", 0.05)
    assert sorted(poster.post(ids(50), b"1").failed) == sorted(ids(50))
    may_answer.set()
    assert poster.post(ids(50), b"1").sent == 50
    assert asked == ["127.0.0.1"]


def test_no_address_that_can_be_reached_fails_all_and_ends(poster: Poster, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ipv4(1), ipv4(1, "255.255.255.255"))  # which fails at once
    assert sorted(poster.post(ids(100), b"1").failed) == sorted(ids(100))


def test_a_name_without_an_address_fails_all_and_ends(poster: Poster, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert sorted(poster.post(ids(3), b"1").failed) == ids(3)


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


# ---------------------------------------------------------------- Feeds and limits


class Feed(SameFrame):
    """Connections whose frame the test may change under way, and who was settled."""

    def __init__(self, connection_ids: list[str], frame: bytes = b"1") -> None:
        super().__init__(connection_ids, frame)
        self.frame = frame
        self.settled: list[str] = []
        self.missed: list[str] = []

    def next(self) -> tuple[str, bytes] | None:
        post = super().next()
        return post and (post[0], self.frame)

    def settle(self, connection_id: str, *, is_reached: bool = True) -> None:
        self.settled.append(connection_id)
        if not is_reached:
            self.missed.append(connection_id)


def test_everybody_is_settled_once_whatever_became_of_them(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda id_, posts: {"id/1+=": 410, "id/2+=": 500}.get(id_, 429 if posts == 0 else 200)
    feed = Feed(ids(20))
    outcome = poster.serve(feed)
    assert (outcome.sent, outcome.gone, outcome.failed) == (18, ["id/1+="], ["id/2+="])
    assert sorted(feed.settled) == sorted(ids(20))
    assert feed.missed == ["id/2+="]


def test_posts_keep_the_pace_after_the_head_start(api: ManagementApi, poster: Poster) -> None:
    at: list[float] = []
    api.behaviour = lambda _id, _posts: (at.append(time.monotonic()), 200)[1]
    outcome = poster.serve(Feed(ids(300)), Limits(pace=400, head_start_s=0.25))
    assert outcome.sent == 300
    assert at[-1] - at[0] >= 0.45  # 100 at once, 200 in half a second
    late = [place for place, when in enumerate(at) if place + 1 > 400 * (when - at[0] + 0.25) + 20]
    assert late == []


def test_who_was_throttled_counts_again_against_the_pace(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda _id, posts: 429 if posts == 0 else 200
    began = time.monotonic()
    assert poster.serve(Feed(ids(100)), Limits(pace=400)).sent == 100
    assert time.monotonic() - began >= 0.45


def test_time_that_is_up_leaves_the_rest_unsettled_and_untaken(api: ManagementApi, poster: Poster) -> None:
    feed = Feed(ids(1000))
    outcome = poster.serve(feed, Limits(pace=200, within_s=0.5))
    assert 50 <= outcome.sent <= 120
    assert len(feed.settled) == outcome.sent
    assert feed.next() is not None


def test_who_is_throttled_for_good_is_left_when_time_is_up(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda id_, _posts: 429 if id_ == "id/0+=" else 200
    feed = Feed(ids(3))
    outcome = poster.serve(feed, Limits(within_s=0.5))
    assert (outcome.sent, outcome.failed) == (2, ["id/0+="])
    assert sorted(feed.settled) == ["id/1+=", "id/2+="]


def test_a_frame_that_changes_under_way_is_what_the_rest_and_the_throttled_are_sent(
    api: ManagementApi, poster: Poster
) -> None:
    feed = Feed(ids(200), b"old")

    def change(id_: str, _posts: int) -> int:
        feed.frame = b"new"
        others = [frame for other, frames in api.frames.items() if other != "id/0+=" for frame in frames]
        return 429 if id_ == "id/0+=" and b"new" not in others else 200  # it may be tried again before the next post

    api.behaviour = change
    assert poster.serve(feed, Limits(pace=400)).sent == 200
    assert api.frames["id/0+="][-1] == b"new"
    assert api.frames["id/199+="] == [b"new"]


def test_one_that_hangs_at_the_end_is_not_waited_for_beyond_the_linger(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda id_, _posts: HANG if id_ == "id/0+=" else 200
    began = time.monotonic()
    outcome = poster.serve(Feed(ids(10)), Limits(linger_s=0.3))
    assert time.monotonic() - began < ANSWER_WITHIN_S / 2
    assert (outcome.sent, outcome.failed) == (9, ["id/0+="])


def test_where_most_hang_they_are_given_their_time(api: ManagementApi, poster: Poster) -> None:
    api.behaviour = lambda _id, _posts: HANG
    began = time.monotonic()
    assert len(poster.serve(Feed(ids(3)), Limits(linger_s=0.3)).failed) == 3
    assert time.monotonic() - began >= ANSWER_WITHIN_S - 0.1
