import pytest

from voting.jitter import full_jitter_s


def largest(attempts: int) -> float:
    return full_jitter_s(attempts, 0.1, 2.0, lambda _least, most: most)


def test_the_bound_doubles_with_each_attempt_up_to_the_longest_wait() -> None:
    assert [largest(attempts) for attempts in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0])
    assert largest(100_000) == 2.0


def test_waits_are_spread_over_the_whole_range() -> None:
    waits = [full_jitter_s(3, 0.1, 2.0) for _ in range(1000)]
    assert 0 <= min(waits) < 0.1
    assert 0.7 < max(waits) <= 0.8
