"""A short selection of the chaos suite: a few small rounds in which every safeguard is needed."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS, Deck
from tests.chaos.mutants import MUTANTS, VOTING, Edit
from tests.chaos.round import Report, play
from tests.chaos.scene import Scene
from tests.chaos.sums import Sums
from tests.stack import ROOT

SEED = 7
VOTES = 800
ROUNDS = (  # what each round strikes, in this order
    ("late-claim", "kill-after-claim", "redis-kill"),
    ("zombie-before-transaction", "vote-kill"),
    ("zombie-before-trim", "row-locks"),
    ("late-push", "kill-before-trim"),
    ("other-writer", "kill-in-transaction"),
    ("broadcast-kill", "postgres-quit", "three-workers"),
    ("stall-worker", "stall-postgres"),
)


class Dealt(Deck):
    """A deck in a known order, of which everything is dealt."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names, random.Random(SEED))
        self._left = list(reversed(names))


def test_no_accepted_vote_is_lost_or_misordered_whatever_dies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def rounds() -> Sums:
        sums = Sums(Counter())
        async with Scene(tmp_path).running() as scene:
            for number, names in enumerate(ROUNDS, 1):
                report = await play(scene, Dealt(names), number, f"{SEED}/{number}", VOTES, faults=len(names))
                sums.add(report)
                with capsys.disabled():
                    print(f"\n  {report.line()}", end="", flush=True)  # noqa: T201
        return sums

    sums = asyncio.run(rounds())
    assert sums.is_good, sums.text()
    assert sums.totals["accepted"] == sums.totals["applied"] > VOTES
    assert sums.faults.total() >= sum(map(len, ROUNDS)) - 2, sums.text()  # a busy machine may miss a moment


def test_no_accepted_vote_is_lost_by_a_failover_where_votes_wait_for_the_replica(tmp_path: Path) -> None:
    """`make chaos-mutants` shows that some are lost without the wait."""

    async def play_one() -> Report:
        async with Scene(tmp_path, is_replicated=True).running() as scene:
            return await play(scene, Dealt(("redis-failover",)), 1, f"{SEED}/replicated", 400, faults=1)

    report = asyncio.run(play_one())
    assert report.is_good, report.line()
    assert report.faults["redis-failover"] == 1, report.line()
    assert report.verdict.accepted == report.verdict.applied > 0


def test_every_kind_is_dealt_once_before_any_comes_again() -> None:
    deck = Deck(list(FAULTS), random.Random(SEED))
    for _ in range(3):
        assert {deck.deal() for _ in FAULTS} == set(FAULTS)


@pytest.mark.parametrize("edit", [edit for mutant in MUTANTS for edit in mutant.edits], ids=lambda edit: edit.old[:40])
def test_what_a_mutant_takes_out_is_in_the_code(edit: Edit, tmp_path: Path) -> None:
    copy = tmp_path / edit.file
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / edit.file).read_text())
    edit.apply(tmp_path)
    assert copy.read_text() != (ROOT / edit.file).read_text()


def test_a_mutant_of_code_that_has_changed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / VOTING / "database").mkdir(parents=True)
    (tmp_path / VOTING / "database/rows.py").write_text("something else")
    with pytest.raises(ValueError, match="0 times"):
        Edit(VOTING / "database/rows.py", "ids = sorted(last)", "ids = list(last)").apply(tmp_path)
