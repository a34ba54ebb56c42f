import pytest

from voting.worker.pacing import GATHER_S, BatchPacing

NO_TURN = 0.0


def after_batches(next_turn_at: float, *, at: float = 100.0, took_s: float = 0.004) -> BatchPacing:
    """A pacing that knows what batches take; the last one was claimed *at* that time."""
    pacing = BatchPacing(lambda: next_turn_at)
    for past in range(50, 0, -1):
        pacing.claimed(at - past)
        pacing.stored(at - past + took_s)
    pacing.claimed(at)
    pacing.stored(at + took_s)
    return pacing


def test_the_first_batch_and_one_after_a_lull_are_due_at_once() -> None:
    assert BatchPacing(lambda: NO_TURN).rest_s(0.0) <= 0
    assert after_batches(NO_TURN).rest_s(100.0 + GATHER_S) <= 0


def test_batches_without_a_broadcast_come_an_interval_apart() -> None:
    assert after_batches(NO_TURN).rest_s(100.01) == pytest.approx(GATHER_S - 0.01)


@pytest.mark.parametrize("turn_at", [100.02, 100.05, 100.09])
def test_a_batch_is_stored_just_before_the_next_turn(turn_at: float) -> None:
    assert after_batches(turn_at).rest_s(100.01) == pytest.approx(turn_at - 0.004 - 100.01, abs=1e-6)


def test_a_turn_that_the_last_batch_was_part_of_is_not_met_again() -> None:
    assert after_batches(100.003).rest_s(100.01) == pytest.approx(GATHER_S - 0.01)


def test_turns_that_are_far_apart_do_not_hold_up_the_table() -> None:
    assert after_batches(110.0).rest_s(100.01) == pytest.approx(GATHER_S - 0.01)


def test_one_slow_batch_moves_what_batches_take_by_a_fifth() -> None:
    pacing = after_batches(101.05)
    pacing.claimed(101.0)
    pacing.stored(101.024)
    assert pacing.rest_s(101.024) == pytest.approx(101.05 - 0.008 - 101.024, abs=1e-6)
