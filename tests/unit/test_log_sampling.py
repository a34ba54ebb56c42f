import pytest

from voting.log_sampling import Sampler


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def sampler(clock: list[float]) -> Sampler:
    return Sampler(lambda: clock[0])


def test_the_first_of_a_kind_is_told_at_once(sampler: Sampler) -> None:
    assert [sampler.admit(kind) for kind in ("x", "y")] == [1, 1]


def test_within_a_second_the_others_are_kept_back_and_told_with_the_next(sampler: Sampler, clock: list[float]) -> None:
    assert [sampler.admit("x") for _ in range(1000)] == [1] + [0] * 999
    assert sampler.admit("x", 500) == 0
    clock[0] += 1.0
    assert [sampler.admit("x"), sampler.admit("x")] == [1500, 0]


def test_no_event_is_told_twice_or_never(sampler: Sampler, clock: list[float]) -> None:
    told = 0
    for number in range(1000):
        told += sampler.admit("x", 1 + number % 3)
        clock[0] += 0.13
    clock[0] += 1.0
    assert told + sampler.admit("x", 0) == sum(1 + number % 3 for number in range(1000))
