"""One round: voters vote, faults strike, everything heals and drains, and the oracle judges."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.faults import FAULTS, REPLICATED_FAULTS, Deck
from tests.chaos.load import Load
from tests.chaos.oracle import Found, Verdict, judge, look
from tests.chaos.patience import Impatient, until
from tests.chaos.scene import Scene, Unseen

SMALL_RATE, BIG_RATE = 250.0, 2000.0  # votes a second, at most
BIG = 10_000  # votes from which a round is a big one
MOST_MAYBES = 0.05
MOST_MAYBES_REPLICATED = 0.3  # while a replica is behind or promoted, no vote is confirmed
LEAST_COVERAGE = 0.8
DRAINED_WITHIN_S = 60.0
SHOWN_WITHIN_S = 20.0


@dataclass(slots=True)
class Report:
    """What a round came to."""

    number: int
    seed: str
    votes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    effects: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return self.verdict.is_good

    def line(self) -> str:
        verdict = self.verdict
        struck = " ".join(f"{name}x{count}" if count > 1 else name for name, count in sorted(self.faults.items()))
        sums = [f"{name} {getattr(verdict, name)}" for name in ("accepted", "applied", "parked", "lost", "misordered")]
        sums += [f"ghosts {verdict.ghosts}"] if verdict.ghosts else []
        text = (
            f"round {self.number:3}  seed {self.seed}  votes {self.votes}  {' '.join(sums)} "
            f"maybes {verdict.maybes} ({verdict.open} open)  {self.seconds:.1f} s  {struck}"
        )
        return "\n    ".join([text, *(f"unseen: {name}" for name in self.unseen), *verdict.complaints])


async def play(scene: Scene, deck: Deck, number: int, seed: str, votes: int, faults: int = 0) -> Report:
    """Play one round on a system that is drained, and leave it drained. Without *faults*, the seed decides how many."""
    began = time.monotonic()
    report = Report(number, seed)
    scene.rng = random.Random(seed)
    scene.notes = []
    scene.watch.begin()
    deadlocks = scene.stores.postgres.deadlocks
    await scene.empty()
    big = votes >= BIG
    rate = BIG_RATE if big else SMALL_RATE
    # What others push past the proxy waits for no replica, so a failover may lose it.
    scene.load = Load(scene.stack.http, scene.stores.redis.url, seed, rate, litters=not scene.is_replicated)
    scene.load.start()
    try:
        struck_from, struck_until = await _strike(
            scene, deck, report, faults or scene.rng.randint(2, 4) + 6 * big, spread_over=votes if big else 0
        )
        await scene.load.reach(votes)
    finally:
        await scene.heal()
        await scene.load.stop()
    report.votes = scene.ledger.votes
    found = await _settle(scene)
    report.verdict = judge(scene.ledger, found)
    complain = report.verdict.complaints.append
    for note in (*scene.notes, *scene.watch.complaints()):
        complain(note)
    report.effects += scene.watch.stalls()
    most_maybes = MOST_MAYBES_REPLICATED if scene.is_replicated else MOST_MAYBES
    if report.verdict.maybes > most_maybes * report.votes:
        complain(f"{report.verdict.maybes} of {report.votes} votes are maybes")
    if (coverage := scene.load.coverage(struck_from, struck_until)) < LEAST_COVERAGE:
        complain(f"votes were on their way in {coverage:.0%} of the faults' time only")
    if scene.stores.postgres.deadlocks > deadlocks:
        complain(f"{scene.stores.postgres.deadlocks - deadlocks} deadlocks")
    report.seconds = time.monotonic() - began
    return report


async def _strike(scene: Scene, deck: Deck, report: Report, count: int, *, spread_over: int) -> tuple[float, float]:
    """Deal and strike *count* faults, one after another; return from when until when they lasted.

    They are spread over so many votes, or follow each other at once.
    """
    await asyncio.sleep(scene.rng.uniform(0.1, 0.5))  # voters come first
    began = time.monotonic()
    for number in range(count):
        await scene.load.reach(spread_over * number // count)
        name = deck.deal()
        scene.watch.struck()
        try:
            effect = await (FAULTS | REPLICATED_FAULTS)[name](scene)
        except (Unseen, Impatient) as error:
            report.unseen.append(f"{name}: {error}")
            deck.put_back(name)
            await scene.heal()
        else:
            report.faults[name] += 1
            report.effects.append(f"{name}: {effect}")
        await asyncio.sleep(scene.rng.uniform(0.0, 0.4))  # between two faults
    return began, time.monotonic()


async def _settle(scene: Scene) -> Found:
    """Set off a run of the worker, wait until everything is drained and shown, and look."""
    complaints = []
    await scene.stack.run_worker()
    scene.watch.healed()
    try:
        await until(lambda: _is_drained(scene), "the queue to drain", DRAINED_WITHIN_S)
        await until(lambda: _is_shown(scene), "every subscriber to show the final figures", SHOWN_WITHIN_S)
        await scene.watch.taken_back()
    except Impatient as error:
        complaints.append(str(error))
    verified = await scene.stack.operate("tally verify")
    if not (verified["ok"] and verified["agrees"]):
        complaints.append(f"tally verify: {verified}")
    scene.notes += complaints
    return await look(scene.stores.redis.url, scene.stores.postgres.url)


async def _is_drained(scene: Scene) -> bool:
    return await scene.queued() == 0


async def _is_shown(scene: Scene) -> bool:
    """Whether the subscribers and the API show what the table holds."""
    counted = dict(await scene.sql("SELECT vote, count(*) FROM votes GROUP BY vote"))
    ((version,),) = await scene.sql("SELECT version FROM voting.vote_tally_version")
    votes = {choice: counted.get(choice, 0) for choice in "ab"}
    if not scene.audience.all_show(version, votes):
        return False
    results = await scene.stack.results()
    return {option["id"]: option["votes"] for option in results["options"]} == votes
