"""Whether it is the message, the table or the server."""

import pytest

from voting.database.fault import Fault, Kind
from voting.queue.dead_letter import DeadLetter
from voting.vote import Vote
from voting.worker.sieve import MOST_HELD, SUSPICIOUS, Sieve

REFUSED = Fault(Kind.REFUSE, "23514", "CheckViolation")
OTHER = Fault(Kind.REFUSE, "22001", "StringDataRightTruncation")
AWAY = Fault(Kind.WAIT, "08006", "ConnectionFailure")
MISSING = Fault(Kind.RENEW, "42P01", "UndefinedTable")


def sieve(met: Fault | None, patience_s: float = 0.0) -> Sieve:
    """One whose made-up voter meets *met*."""
    return Sieve(1000, lambda _refused: met, patience_s)


def refuse(sieve: Sieve, *ids: str, fault: Fault = REFUSED) -> list[DeadLetter] | None:
    votes = [Vote("a", id_) for id_ in ids]
    return sieve.refuse([vote.encode() for vote in votes], votes, fault)


def voters(letters: list[DeadLetter] | None) -> int | None:
    return None if letters is None else len(letters)


def test_a_batch_shrinks_until_a_message_stands_alone_and_grows_again() -> None:
    looks = sieve(None)
    assert refuse(looks, *map(str, range(1000))) == []
    assert looks.most == 500
    assert looks.is_hunting
    for _ in range(30):
        assert looks.passed([], proves=True) == []
    assert looks.most == 1000
    assert not looks.is_hunting


def test_what_is_held_is_parked_before_the_junk_behind_it_once_a_vote_is_through() -> None:
    looks = sieve(REFUSED)
    assert refuse(looks, "x") == []
    assert looks.passed([DeadLetter("not_json", b"1")], proves=False) == []
    reasons = [letter.reason for letter in looks.passed([DeadLetter("not_utf8", b"2")], proves=True)]
    assert reasons == ["refused_by_database", "not_json", "not_utf8"]
    assert looks.held == []


@pytest.mark.parametrize(
    ("met", "parked"),
    [(None, 3), (OTHER, 3), (MISSING, 3), (REFUSED, None), (AWAY, None)],
)
def test_three_voters_in_a_row_are_parked_unless_the_table_refuses_all_or_the_server_is_away(met, parked) -> None:
    looks = sieve(met)
    assert [voters(refuse(looks, str(number))) for number in range(SUSPICIOUS)] == [0, 0, parked]
    assert looks.held == []


def test_messages_of_one_voter_say_nothing_about_the_table() -> None:
    looks = sieve(REFUSED)
    assert [voters(refuse(looks, "x")) for _ in range(MOST_HELD - 1)] == [0] * (MOST_HELD - 1)
    assert refuse(looks, "x") is None


def test_a_table_at_fault_is_looked_at_further_each_time_and_no_further_after_a_vote_got_through() -> None:
    looks = sieve(REFUSED)

    def tried() -> int:
        return next(number for number in range(1, 100) if refuse(looks, str(number)) is None)

    assert [tried() for _ in range(5)] == [3, 6, 12, 24, 24]
    looks.passed([], proves=True)
    assert tried() == 3


def test_a_server_that_says_it_is_away_is_believed_for_a_while_and_for_as_long_as_it_is() -> None:
    assert refuse(sieve(None, patience_s=60.0), "x", "y", fault=AWAY) is None
    assert refuse(sieve(AWAY), "x", "y", fault=AWAY) is None
    looks = sieve(None)
    assert refuse(looks, *map(str, range(160)), fault=AWAY) == []
    assert (looks.most, looks.in_haste) == (10, True)


def test_a_message_alone_is_tried_three_times_where_the_server_says_that_it_is_away() -> None:
    looks = sieve(None)
    for _ in range(2):
        assert refuse(looks, "x", fault=AWAY) == []
        assert looks.held == []
    assert refuse(looks, "x", fault=AWAY) == []
    assert [letter.sqlstate for letter in looks.held] == ["08006"]


def test_a_missing_table_begins_the_run_again_before_it_is_taken_for_a_triggers() -> None:
    looks = sieve(None)
    assert refuse(looks, "x", fault=MISSING) is None
    assert refuse(looks, "x", fault=MISSING) == []
    looks.passed([], proves=True)
    assert refuse(looks, "y", fault=MISSING) is None
