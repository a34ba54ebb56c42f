"""The schedule of posts, with the responses and the time that a test chooses."""

import math
from collections.abc import Iterable

import pytest

from voting.broadcast.feed import Limits, SameFrame
from voting.broadcast.post_schedule import (
    ATTEMPTS,
    BROKEN,
    HANGING,
    HOLDING_ATTEMPTS,
    LONGEST_BACKOFF_S,
    THROTTLED_ATTEMPTS,
    PostSchedule,
)


def schedule(ids: Iterable[str] = "abc", limits: Limits | None = None) -> PostSchedule:
    return PostSchedule(SameFrame(ids, b"1"), limits or Limits(within_s=1e9), 0.0)


def fail(posts: PostSchedule, status: int, times: int) -> int:
    """Answer every attempt with *status*, up to *times*; return how many attempts there were."""
    now = 0.0
    for attempt in range(times):
        connection_id = posts.next()
        if connection_id is None:
            return attempt
        posts.settle(connection_id, status)
        now += LONGEST_BACKOFF_S
        posts.advance(now)
    return times


def test_connections_come_in_the_order_of_the_feed_with_its_frame() -> None:
    posts = schedule()
    assert [posts.next() for _ in range(4)] == ["a", "b", "c", None]
    assert posts.frame == b"1"
    assert posts.is_over()
    assert posts.due_at() == math.inf


@pytest.mark.parametrize(
    ("status", "sent", "gone", "failed"),
    [(200, 1, [], []), (204, 1, [], []), (410, 0, ["a"], []), (400, 0, [], ["a"]), (HANGING, 0, [], ["a"])],
)
def test_a_final_status_is_recorded_at_once(status: int, sent: int, gone: list[str], failed: list[str]) -> None:
    posts = schedule("a")
    posts.settle(str(posts.next()), status)
    assert posts.next() is None
    outcome = posts.finish()
    assert (outcome.sent, outcome.gone, outcome.failed) == (sent, gone, failed)


@pytest.mark.parametrize("status", [500, 503, BROKEN])
def test_a_fault_of_the_server_is_retried_until_the_attempts_are_used_up(status: int) -> None:
    posts = schedule("a")
    assert fail(posts, status, 100) == ATTEMPTS
    assert posts.is_over()
    assert posts.outcome.failed == ["a"]


def test_who_is_throttled_while_others_are_not_is_given_up_later() -> None:
    posts = schedule("ab")
    posts.settle(str(posts.next()), 200)
    assert fail(posts, 429, 100) == THROTTLED_ATTEMPTS
    assert (posts.outcome.sent, posts.outcome.failed) == (1, ["b"])


def test_where_all_are_throttled_none_is_given_up() -> None:
    posts = schedule("a")
    assert fail(posts, 429, 100) == 100
    assert not posts.is_over()
    assert posts.outcome.throttled == 100


def test_a_retry_holds_its_place_at_first_and_no_longer_after_some_attempts() -> None:
    posts = schedule("a")
    held = []
    for now in range(HOLDING_ATTEMPTS + 2):
        posts.settle(str(posts.next()), 429)
        held.append(posts.holding)
        assert now * LONGEST_BACKOFF_S <= posts.retry_at() <= (now + 1) * LONGEST_BACKOFF_S
        posts.advance((now + 1) * LONGEST_BACKOFF_S)
        assert posts.holding == 0
    assert held == [1] * HOLDING_ATTEMPTS + [0, 0]


def test_retries_come_before_new_connections() -> None:
    posts = schedule()
    posts.settle(str(posts.next()), 503)
    posts.advance(LONGEST_BACKOFF_S)
    assert [posts.next(), posts.next()] == ["a", "b"]


def test_a_post_that_was_never_sent_is_no_attempt() -> None:
    posts = schedule("a")
    for _ in range(ATTEMPTS + 1):
        posts.retry_now(str(posts.next()))
    posts.settle(str(posts.next()), 200)
    assert posts.outcome.sent == 1


def test_posts_are_due_at_the_pace_after_the_head_start() -> None:
    posts = schedule(map(str, range(100)), Limits(pace=10, head_start_s=0.5))
    assert [posts.next() for _ in range(6)] == [*"01234", None]
    assert posts.due_at() == pytest.approx(0.1)
    posts.advance(0.1)
    assert posts.due_at() == pytest.approx(0.1)
    assert [posts.next(), posts.next()] == ["5", None]


def test_after_the_time_limit_nothing_is_due_and_waiting_retries_have_failed() -> None:
    posts = schedule("abc", Limits(within_s=1.0))
    posts.settle(str(posts.next()), 429)
    assert posts.next() == "b"
    posts.advance(1.0)
    assert posts.next() is None
    assert posts.is_over()
    posts.settle("b", 500)  # a response that comes later
    assert sorted(posts.finish().failed) == ["a", "b"]


def test_a_refused_signature_ends_everything() -> None:
    posts = schedule()
    posts.settle(str(posts.next()), 403)
    assert posts.is_forbidden
    assert posts.is_over()
    assert posts.next() is None
