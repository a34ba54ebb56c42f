"""Fan-out under quotas, simulated: the product's planner and deliveries beside posting every change to everybody.

A million subscribers and an account's throttle do not fit on a laptop. The simulation is of `bench.simulation.world`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench.harness.measurement import Benchmark, Comparison, Curve, Figure, Goal, Plot, Report, Scale
from bench.simulation.world import Conditions, Found, Planned, Unplanned, World
from voting.broadcast.planner import GRACE_S, LONGEST_PATIENCE_S, TURN_S, Budget, round_s

BUDGET = Budget(4000, 0.05)  # the defaults
SHARDS = 16
SEEDS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One size of audience, and for how long both sides are tried."""

    subscribers: int
    weight: int  # subscribers that one simulated one stands for
    for_s: float

    @property
    def name(self) -> str:
        return f"{self.subscribers:,} subscribers"

    @property
    def promise_s(self) -> float:
        """What nobody may be staler than: two rounds, or one in whose course a shard was lost."""
        lost_s = min(LONGEST_PATIENCE_S, 4 + 2 * TURN_S) + GRACE_S if self.subscribers > 4000 else 6.0
        return 1.0 + 2 * round_s(self.subscribers, BUDGET) + lost_s


CASES = (
    Case(1000, 1, 20),
    Case(10_000, 20, 60),
    Case(100_000, 80, 150),
    Case(1_000_000, 250, 600),
)
SMOKE = (Case(1000, 4, 10), Case(100_000, 200, 40))

HURRIED_S = 300.0
# 16 shards at 1,000/s would do, but each has 3 of its 10 s: a third of the budget. Twice that round, and one lost.
HURRIED_PROMISE_S = 2 * 100_000 / (BUDGET.messages_per_s * 3 / TURN_S) + LONGEST_PATIENCE_S + GRACE_S

NOTES = (
    (
        "Simulated, seeded, and the same on every machine: votes come at 3,000/s; one token bucket of 10,000/s and a "
        "burst of 5,000 for votes and posts; a post is answered after 20 ms in the median (lognormal), 1% of the "
        "subscribers never answer; one shard's processor is good for 6,000 posts/s; 16 environments; 1% of the invokes "
        "come twice, 1% of the shards freeze in the middle of their work."
    ),
    (
        "Ours are `voting.broadcast.planner.TurnPlanner` and `voting.broadcast.delivery.Delivery` themselves, on a "
        "simulated clock, with the default budget of 4,000 messages/s. Next to them: every change to everybody, each "
        "50 ms at the earliest, by 16 shards that begin at the start each time and know no budget."
    ),
    "From 10,000 on, one simulated subscriber stands for 20, 80 and 250, and all rates are divided alike.",
    (
        "The age is that of the figures on a subscriber's screen, until newer ones come. The oldest is the worst of "
        "anybody at any time, subscribers that hang aside. A budget of 4,000/s cannot do better than subscribers ÷ "
        "4,000 s; the alternative spends what the throttle lets through, and takes it from the votes."
    ),
)


def measure(scale: Scale) -> Report:
    """Try each size of audience with the planner and without."""
    comparisons: list[Comparison] = []
    goals: list[Goal] = []
    oldest: list[tuple[float, float]] = []
    theirs_oldest: list[tuple[float, float]] = []
    seeds = range(1, 1 + scale.repetitions(SEEDS))
    for case in SMOKE if scale.smoke else CASES:
        ours = [_ours(case, seed) for seed in seeds]
        theirs = [_theirs(case, seed) for seed in seeds]
        _say(f"{case.name}: nobody staler than {max(f.oldest_s for f in ours):.1f} s, of {ours[0].posts:,} posts a run")
        comparisons += _compare(case, ours, theirs)
        goals += _goals(case, ours)
        oldest.append((case.subscribers, max(found.oldest_s for found in ours)))
        theirs_oldest.append((case.subscribers, max(found.oldest_s for found in theirs)))
    hurried = [_hurried(seed, scale) for seed in seeds]
    _say(f"in a hurry: nobody staler than {max(found.oldest_s for found in hurried):.1f} s")
    comparisons.append(
        Comparison(
            "100,000 subscribers, 3 s a function, slow shards: oldest figures anywhere",
            Figure("ours", "s", tuple(found.oldest_s for found in hurried)),
        )
    )
    goals.append(_starving(hurried))
    plot = Plot(
        "subscribers",
        "s, the oldest figures on anybody's screen",
        (Curve("planned", tuple(oldest)), Curve("every change to everybody", tuple(theirs_oldest))),
        log_x=True,
        log_y=True,
    )
    return Report(comparisons, goals, NOTES, plot)


def _ours(case: Case, seed: int) -> Found:
    return World(Conditions(case.subscribers, case.weight, seed=seed), Planned(BUDGET)).run(case.for_s)


def _theirs(case: Case, seed: int) -> Found:
    worker = Unplanned(BUDGET.least_interval_s, SHARDS)
    return World(Conditions(case.subscribers, case.weight, seed=seed), worker, whole=True).run(case.for_s)


def _hurried(seed: int, scale: Scale) -> Found:
    """Functions that have 3 s to post, on a fifth of the processor, one in twenty of which is lost."""
    conditions = Conditions(
        100_000, 200 if scale.smoke else 40, posts_per_s=1000, time_limit_s=3.0, lost_share=0.05, seed=seed
    )
    return World(conditions, Planned(BUDGET)).run(HURRIED_S / 3 if scale.smoke else HURRIED_S)


def _compare(case: Case, ours: list[Found], theirs: list[Found]) -> list[Comparison]:
    def comparison(what: str, unit: str, of: Callable[[Found], float]) -> Comparison:
        other = Figure("every change to everybody", unit, tuple(of(found) for found in theirs))
        return Comparison(f"{case.name}: {what}", Figure("ours", unit, tuple(of(found) for found in ours)), (other,))

    return [
        comparison("oldest figures anywhere", "s", lambda found: found.oldest_s),
        comparison("age when relieved, 99th percentile", "s", lambda found: found.age_s(0.99)),
        comparison("posts, busiest 10 s", "posts/s", lambda found: found.busiest(10)),
        comparison("votes let through", "%", lambda found: 100 * (1 - found.votes_refused_share)),
    ]


def _goals(case: Case, ours: list[Found]) -> list[Goal]:
    votes = min(100 * (1 - found.votes_refused_share) for found in ours)
    busiest = max(found.busiest(10) for found in ours) / BUDGET.messages_per_s
    return [
        Goal(f"{case.name}: oldest figures anywhere, s", max(f.oldest_s for f in ours), case.promise_s, "at most"),
        Goal(f"{case.name}: posts in the busiest 10 s ÷ budget", busiest, 1.25, "at most"),
        Goal(f"{case.name}: votes let through, %", votes, 100.0, "at least"),
    ]


def _starving(hurried: list[Found]) -> Goal:
    return Goal(
        "100,000 subscribers, 3 s a function: oldest figures anywhere, s",
        max(found.oldest_s for found in hurried),
        HURRIED_PROMISE_S,
        "at most",
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


BENCHMARK = Benchmark("fanout", "Does fan-out keep its budget, and how old does what anybody sees become?", measure)
