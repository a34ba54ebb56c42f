import pytest

from tests.chaos.standstill import Away, Said, Standstill

WELL = {"/health": Said.COUNTING, "the badge": Said.COUNTING}
BAD = {"/health": Said.STALLED, "the badge": Said.STALLED}


def follow(standstill: Standstill, *seconds: int, said: dict[str, Said], oldest: bytes | Away | None) -> None:
    for second in range(*seconds):
        standstill.see(second, said, second + 0.1, oldest)


def test_nothing_is_complained_of_a_count_that_moves_and_of_an_empty_list() -> None:
    standstill = Standstill(0.0)
    for second in range(100):
        standstill.see(second, WELL, second, b"%d" % second)
    follow(standstill, 100, 200, said=WELL, oldest=None)
    assert standstill.complaints == []
    assert standstill.stalls == []


@pytest.mark.parametrize("oldest", [b"the same", Away()], ids=["the oldest stays", "Redis is away"])
def test_a_standstill_that_is_not_told_in_time_is_complained_of(oldest: bytes | Away) -> None:
    standstill = Standstill(0.0)
    follow(standstill, 0, 46, said=WELL, oldest=oldest)
    assert standstill.complaints == []
    follow(standstill, 46, 60, said=WELL, oldest=oldest)
    assert standstill.complaints == [
        "/health did not say within 30 s that nothing is counted",
        "the badge did not say within 30 s that nothing is counted",
    ]


def test_whoever_says_nothing_is_named_and_word_of_something_else_is_not_enough() -> None:
    standstill = Standstill(0.0)
    follow(standstill, 0, 60, said=BAD | {"/health": Said.UNCLEAR}, oldest=b"the same")
    assert standstill.complaints == ["/health did not say within 30 s that nothing is counted"]


def test_a_standstill_that_is_told_must_be_told_for_as_long_as_it_lasts() -> None:
    standstill = Standstill(0.0)
    follow(standstill, 0, 50, said=BAD, oldest=b"the same")
    assert standstill.is_told()
    standstill.see(50, WELL, 50, b"the same")
    assert len(standstill.complaints) == 2


def test_a_shorter_standstill_needs_no_word() -> None:
    standstill = Standstill(0.0)
    follow(standstill, 0, 44, said=WELL, oldest=b"the same")
    follow(standstill, 44, 88, said=WELL, oldest=b"another")
    assert standstill.complaints == []
    assert [round(stall.stood_s) for stall in standstill.stalls] == [44]


def test_what_is_said_as_the_count_moves_again_is_not_complained_of() -> None:
    standstill = Standstill(0.0)
    follow(standstill, 0, 44, said=WELL, oldest=b"the same")
    standstill.see(59, WELL, 60, b"another")  # asked within the standstill, which is over when it is looked at
    assert standstill.complaints == []


def test_what_is_not_taken_back_in_time_after_the_healing_is_complained_of() -> None:
    standstill = Standstill(0.0)
    follow(standstill, 0, 20, said=BAD, oldest=b"the same")
    standstill.struck()
    follow(standstill, 20, 100, said=BAD, oldest=None)
    assert standstill.complaints == []  # the fault may last
    standstill.healed(100)
    follow(standstill, 100, 131, said=BAD, oldest=None)
    assert standstill.complaints == []
    follow(standstill, 131, 133, said=BAD | {"the badge": Said.COUNTING}, oldest=None)
    assert standstill.complaints == ["/health did not take back within 30 s that nothing is counted"]


def test_a_count_that_stands_still_after_the_healing_needs_to_be_told_and_not_taken_back() -> None:
    standstill = Standstill(0.0)
    standstill.healed(0)
    follow(standstill, 0, 100, said=BAD, oldest=b"the same")
    assert standstill.complaints == []


def test_the_line_of_a_stall_names_who_told_and_when() -> None:
    standstill = Standstill(0.0)
    follow(standstill, 0, 10, said=WELL, oldest=b"the same")
    follow(standstill, 10, 20, said=WELL | {"the badge": Said.STALLED}, oldest=b"the same")
    follow(standstill, 20, 21, said=WELL, oldest=None)
    assert [stall.line() for stall in standstill.stalls] == [
        "nothing was counted for 20 s; told by the badge after 10 s"
    ]
