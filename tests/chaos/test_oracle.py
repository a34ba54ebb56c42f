"""The judge is judged: each thing that can go wrong, made by hand."""

import dataclasses
from typing import Any

import pytest

from tests.chaos.ledger import Ledger, Outcome, Voter
from tests.chaos.oracle import Found, judge

ACCEPTED, REFUSED, MAYBE = Outcome


def voter(*cast: tuple[str, Outcome], id_: str = "v") -> Voter:
    return Voter(id_, [], cast=list(cast))


def found(**rows: str) -> Found:
    counted = {choice: list(rows.values()).count(choice) for choice in set(rows.values())}
    return Found(rows, counted, counted, [], 0)


@pytest.mark.parametrize(
    ("cast", "row", "verdict"),
    [
        ([("a", ACCEPTED), ("b", ACCEPTED)], "b", "good"),
        ([("a", ACCEPTED), ("b", ACCEPTED)], "a", "misordered"),
        ([("a", ACCEPTED)], None, "lost"),
        ([("a", ACCEPTED), ("b", MAYBE)], "a", "good"),
        ([("a", ACCEPTED), ("b", MAYBE)], "b", "good"),
        ([("a", MAYBE)], None, "good"),
        ([("b", MAYBE), ("a", ACCEPTED)], "b", "misordered"),  # what was given up on landed late
        ([("a", ACCEPTED), ("b", REFUSED)], "b", "ghosts"),
        ([("b", REFUSED)], "b", "ghosts"),
        ([("b", REFUSED)], None, "good"),
        ([("b", REFUSED), ("a", ACCEPTED)], "b", "misordered"),
    ],
)
def test_a_voters_row_is_judged_by_what_they_were_told(
    cast: list[tuple[str, Outcome]], row: str | None, verdict: str
) -> None:
    judged = judge(Ledger([voter(*cast)]), found(**({"v": row} if row else {})))
    assert judged.is_good == (verdict == "good")
    assert {name for name in ("lost", "misordered", "ghosts") if getattr(judged, name)} == {verdict} - {"good"}


def test_votes_of_voters_with_the_right_row_are_applied_and_open_ones_are_counted() -> None:
    right = voter(("a", ACCEPTED), ("b", ACCEPTED), id_="right")
    wrong = voter(("a", ACCEPTED), ("b", ACCEPTED), id_="wrong")
    unsure = voter(("a", ACCEPTED), ("b", MAYBE), id_="unsure")
    judged = judge(Ledger([right, wrong, unsure]), found(right="b", wrong="a", unsure="a"))
    assert (judged.accepted, judged.applied, judged.maybes, judged.open) == (5, 3, 1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"tally": {"a": 2}},
        {"queued": 1},
        {"rows": {"v": "a", "stranger": "a"}},
        {"dead": []},
        {"dead": [{"reason": "not_json", "payload": "junk"}] * 2},
        {"dead": [{"reason": "missing_field", "payload": "junk"}]},
    ],
    ids=["tally", "queued", "rows of nobody", "no dead letter", "one too many", "another reason"],
)
def test_what_does_not_add_up_is_complained_of(change: dict[str, Any]) -> None:
    ledger = Ledger([voter(("a", ACCEPTED))], junk={"junk": "not_json"})
    good = dataclasses.replace(found(v="a"), dead=[{"reason": "not_json", "payload": "junk"}])
    assert judge(ledger, good).is_good
    assert judge(ledger, dataclasses.replace(good, **change)).complaints


def test_junk_that_may_have_been_lost_with_redis_may_be_missing() -> None:
    ledger = Ledger(junk={"junk": "not_json"}, junk_maybe={"junk"})
    assert judge(ledger, found()).is_good
    assert judge(ledger, dataclasses.replace(found(), dead=[{"reason": "not_json", "payload": "junk"}])).is_good
