import math
from collections import Counter

import pytest

from votectl.loadtest.demo import SWING_VOTES, odds
from votectl.loadtest.plan import Plan
from voting.vote import CHOICES


@pytest.mark.parametrize(
    ("votes", "voters", "share", "expected"),
    [(1000, 700, 0.3, 700), (1000, 500, 0.3, 500), (1000, 9000, 0.3, 700), (10, 10, 1.0, 1), (1, 5, 0.0, 1)],
)
def test_a_plan_has_as_many_votes_and_voters_as_it_can(votes, voters, share, expected) -> None:
    plan = Plan.of(votes, voters, share, seed=1)
    assert len(plan.votes) == votes
    assert plan.voters == expected == len({voter for voter, _ in plan.votes})


def test_a_voters_number_comes_up_in_order() -> None:
    firsts = list(dict.fromkeys(voter for voter, _ in Plan.of(500, 300, 0.4, seed=2).votes))
    assert firsts == sorted(firsts)


def test_a_seed_decides_everything() -> None:
    assert Plan.of(500, 300, 0.4, seed=2) == Plan.of(500, 300, 0.4, seed=2)
    assert Plan.of(500, 300, 0.4, seed=2) != Plan.of(500, 300, 0.4, seed=3)


@pytest.mark.parametrize("count", [2, 3, 20])
def test_a_load_is_spread_evenly_over_all_options(count: int) -> None:
    choices = CHOICES[:count]
    sent = Counter(choice for _, choice in Plan.of(200 * count, 100, 0.3, 1, choices).votes)
    assert sorted(sent) == list(choices)
    assert all(130 < votes < 270 for votes in sent.values())


def test_a_demo_gives_every_option_its_turn_and_two_as_before() -> None:
    for number in range(SWING_VOTES):
        first, second = odds(number, 2)
        assert first / (first + second) == pytest.approx(0.5 + 0.25 * math.sin(2 * math.pi * number / SWING_VOTES))
    ahead = {max(range(20), key=odds(number, 20).__getitem__) for number in range(SWING_VOTES)}
    assert ahead == set(range(20))
    assert min(min(odds(number, 20)) for number in range(SWING_VOTES)) >= 0.5


def test_both_choices_are_sent_and_minds_are_changed() -> None:
    plan = Plan.of(2000, 500, 0.5, seed=1)
    assert min(Counter(choice for _, choice in plan.votes).values()) > 800
    choices: dict[int, set[str]] = {}
    for voter, choice in plan.votes:
        choices.setdefault(voter, set()).add(choice)
    assert sum(len(chosen) == 2 for chosen in choices.values()) > 100
