"""Fan-out under quotas, simulated: the product's planner and delivery against posting every change to every subscriber.

A million subscribers and an account's throttle do not fit on a laptop; `bench.simulation` stands in for them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bench.harness.console import say
from bench.harness.measurement import Benchmark, Comparison, Curve, Figure, Goal, Plot, Report, Scale
from bench.simulation.conditions import Conditions, Measurements
from bench.simulation.worker import Planned, Unplanned
from bench.simulation.world import World
from voting.broadcast.planner import GRACE_S, LONGEST_PATIENCE_S, TURN_S, Budget, round_s

BUDGET = Budget(4000, 0.05)  # the default budget at the shortest interval
SHARDS = 16
SEEDS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One size of audience, and how long both contenders run."""

    subscribers: int
    weight: int  # real subscribers per simulated one
    for_s: float

    @property
    def name(self) -> str:
        return f"{self.subscribers:,} subscribers"

    @property
    def promise_s(self) -> float:
        """The greatest age allowed: two rounds, during one of which a shard was lost."""
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
# Each shard posts for 3 of the 10 s of a turn, so 30% of the budget is used. Two such rounds, and a lost shard.
HURRIED_PROMISE_S = 2 * 100_000 / (BUDGET.messages_per_s * 3 / TURN_S) + LONGEST_PATIENCE_S + GRACE_S

NOTES = (
    (
        "Simulated and seeded, so the same on every machine. Votes come at 3,000/s and share one token bucket "
        "(10,000/s, burst 5,000) with the posts. A post takes 20 ms in the median (lognormal); 1% of the subscribers "
        "never respond. The CPU of one shard allows 6,000 posts/s. There are 16 execution environments; 1% of the "
        "invocations come twice, and 1% of the shards freeze half-way."
    ),
    (
        "Ours are the product's own planner and delivery (`voting.broadcast`) on a simulated clock, with the default "
        "budget of 4,000 messages/s. The alternative sends every change to every subscriber, at most every 50 ms, by "
        "16 shards that start from the beginning each time and know no budget."
    ),
    "From 10,000 subscribers on, one simulated subscriber stands for 20, 80 or 250, and all rates are divided by it.",
    (
        "The age is that of the figures on a subscriber's screen when newer ones replace them. The oldest is the worst "
        "of any subscriber at any time, without those that hang. A budget of 4,000/s cannot do better than "
        "subscribers ÷ 4,000 s; the alternative uses up the throttle, at the expense of the votes."
    ),
)


def measure(scale: Scale) -> Report:
    """Simulate each size of audience with the planner and without."""
    comparisons: list[Comparison] = []
    goals: list[Goal] = []
    oldest: list[tuple[float, float]] = []
    theirs_oldest: list[tuple[float, float]] = []
    seeds = range(1, 1 + scale.repetitions(SEEDS))
    for case in SMOKE if scale.smoke else CASES:
        ours = [_ours(case, seed) for seed in seeds]
        theirs = [_theirs(case, seed) for seed in seeds]
        say(f"{case.name}: oldest figures {max(f.oldest_s for f in ours):.1f} s, {ours[0].posts:,} posts per run")
        comparisons += _compare(case, ours, theirs)
        goals += _goals(case, ours)
        oldest.append((case.subscribers, max(found.oldest_s for found in ours)))
        theirs_oldest.append((case.subscribers, max(found.oldest_s for found in theirs)))
    hurried = [_hurried(seed, scale) for seed in seeds]
    say(f"short runs on slow shards: oldest figures {max(found.oldest_s for found in hurried):.1f} s")
    comparisons.append(
        Comparison(
            "100,000 subscribers, 3 s per function, slow shards: oldest figures anywhere",
            Figure("ours", "s", tuple(found.oldest_s for found in hurried)),
        )
    )
    goals.append(_starving(hurried))
    plot = Plot(
        "subscribers",
        "s, the oldest figures on any screen",
        (Curve("planned", tuple(oldest)), Curve("every change to every subscriber", tuple(theirs_oldest))),
        log_x=True,
        log_y=True,
    )
    return Report(comparisons, goals, NOTES, plot)


def _ours(case: Case, seed: int) -> Measurements:
    return World(Conditions(case.subscribers, case.weight, seed=seed), Planned(BUDGET)).run(case.for_s)


def _theirs(case: Case, seed: int) -> Measurements:
    worker = Unplanned(BUDGET.least_interval_s, SHARDS)
    return World(Conditions(case.subscribers, case.weight, seed=seed), worker, is_resumable=False).run(case.for_s)


def _hurried(seed: int, scale: Scale) -> Measurements:
    """Functions that post for 3 s at a sixth of the usual rate, one in twenty of which is lost."""
    conditions = Conditions(
        100_000, 200 if scale.smoke else 40, posts_per_s=1000, time_limit_s=3.0, lost_share=0.05, seed=seed
    )
    return World(conditions, Planned(BUDGET)).run(HURRIED_S / 3 if scale.smoke else HURRIED_S)


def _compare(case: Case, ours: list[Measurements], theirs: list[Measurements]) -> list[Comparison]:
    def comparison(what: str, unit: str, of: Callable[[Measurements], float]) -> Comparison:
        other = Figure("every change to every subscriber", unit, tuple(of(found) for found in theirs))
        return Comparison(f"{case.name}: {what}", Figure("ours", unit, tuple(of(found) for found in ours)), (other,))

    return [
        comparison("oldest figures anywhere", "s", lambda found: found.oldest_s),
        comparison("age when replaced, 99th percentile", "s", lambda found: found.age_s(0.99)),
        comparison("posts, busiest 10 s", "posts/s", lambda found: found.busiest(10)),
        comparison("votes let through", "%", lambda found: 100 * (1 - found.votes_refused_share)),
    ]


def _goals(case: Case, ours: list[Measurements]) -> list[Goal]:
    votes = min(100 * (1 - found.votes_refused_share) for found in ours)
    busiest = max(found.busiest(10) for found in ours) / BUDGET.messages_per_s
    return [
        Goal(f"{case.name}: oldest figures anywhere, s", max(f.oldest_s for f in ours), case.promise_s, "at most"),
        Goal(f"{case.name}: posts in the busiest 10 s ÷ budget", busiest, 1.25, "at most"),
        Goal(f"{case.name}: votes let through, %", votes, 100.0, "at least"),
    ]


def _starving(hurried: list[Measurements]) -> Goal:
    return Goal(
        "100,000 subscribers, 3 s per function: oldest figures anywhere, s",
        max(found.oldest_s for found in hurried),
        HURRIED_PROMISE_S,
        "at most",
    )


BENCHMARK = Benchmark("fanout", "Does fan-out keep its budget, and how old do the figures on a screen get?", measure)
