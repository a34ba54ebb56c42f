"""How the arrivals of frames become the time from a vote to a screen."""

import http.server
import threading

import pytest

from bench.benchmarks.screen import Quantiles, shown
from bench.load.subscribers import Arrival, Step, steps
from bench.load.voters import AGAIN_S, Cast, moments, vote
from bench.rivals.container_app import shown_at


def test_greater_total_reaches_the_smaller_ones_too() -> None:
    arrivals = [
        Arrival(at=1.0, subscriber=0, version=11, total=1),
        Arrival(at=1.5, subscriber=1, version=13, total=3),  # was never sent 1 and 2
        Arrival(at=2.0, subscriber=0, version=13, total=3),
        Arrival(at=2.5, subscriber=0, version=12, total=2),  # came late
    ]
    assert steps(arrivals, subscribers=2, one=0) == [Step(1, 1.0, 1.5), Step(2, 2.0, 2.0), Step(3, 2.0, 2.0)]


def test_total_that_one_subscriber_lacks_has_not_reached_all() -> None:
    arrivals = [Arrival(1.0, 0, 11, 1), Arrival(1.1, 1, 11, 1), Arrival(2.0, 0, 12, 2)]
    assert steps(arrivals, subscribers=2, one=1) == [Step(1, 1.1, 1.1)]


def test_vote_is_shown_once_all_that_may_be_before_it_in_the_list_are_counted() -> None:
    first, second = Cast(due=0.0, sent=0.1, answered=0.5), Cast(due=0.2, sent=0.2, answered=0.3)
    third = Cast(due=0.6, sent=0.6, answered=0.7)
    found = [Step(11, 0.4, 0.45), Step(12, 1.0, 1.1), Step(13, 2.0, 2.1)]
    one, last = shown([first, second, third], 10, found)
    assert one == [1.0, pytest.approx(0.8), pytest.approx(1.4)]  # the second may have been pushed after the first
    assert last == [1.1, pytest.approx(0.9), pytest.approx(1.5)]


def test_quantiles_are_values_that_occurred() -> None:
    assert Quantiles.of([number / 1000 for number in range(1, 101)]) == Quantiles(50.0, 99.0)
    assert Quantiles.of([0.002]) == Quantiles(2.0, 2.0)


def test_vote_of_the_old_design_is_shown_by_the_first_poll_that_began_after_its_commit() -> None:
    polls = [(1.0, 1.1), (2.0, 2.1)]
    assert [shown_at(stored, polls, end=3.0) for stored in (0.5, 1.0, 1.05, 2.5, None)] == [1.1, 1.1, 2.1, 3.0, 3.0]


def test_moments_are_as_many_as_asked_for_ascending_and_the_same_again() -> None:
    ours = moments(50, 2.0, seed=1)
    assert len(ours) == 50
    assert ours == sorted(ours) == moments(50, 2.0, seed=1)
    assert 0 <= ours[0] <= ours[-1] <= 2.0


def test_vote_that_is_refused_is_cast_again_and_its_time_runs_on() -> None:
    statuses = iter([503, 503, 202])

    class Busy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(next(statuses))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    with http.server.HTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            (cast,) = vote(f"http://127.0.0.1:{server.server_port}", 1, 0.01, seed=1)
        finally:
            server.shutdown()
            thread.join()
    assert cast.refused == 2
    assert cast.answered - cast.sent > 2 * AGAIN_S
