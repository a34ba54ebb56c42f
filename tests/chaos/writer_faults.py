"""Other writers of the table, who do what would deadlock with a worker that locks in another order than it should."""

from typing import LiteralString

import psycopg

from tests.chaos.ledger import Outcome, Voter
from tests.chaos.line import Stop
from tests.chaos.patience import until, within
from tests.chaos.scene import STEP_WITHIN_S, Scene, Unseen

ATTEMPTS = 3
BLOCKED_WITHIN_S = 4.0  # less than the worker's lock timeout
LOCK_ROW = "SELECT 1 FROM votes WHERE id = %s FOR UPDATE"
TURN_ROW = "UPDATE votes SET vote = CASE vote WHEN 'a' THEN 'b' ELSE 'a' END WHERE id = %s"


async def lock_rows(scene: Scene) -> str:
    """Somebody locks rows in the order of their ids, as a batch comes along that has them the other way."""
    low, high = await _two_voters(scene)
    stop = await _batch_with(scene, high, low)
    return await _meet(scene, stop, [(LOCK_ROW, low), (LOCK_ROW, high)])


async def write_rows(scene: Scene) -> str:
    """Somebody changes two rows in one transaction, as a batch with the second of them comes along."""
    one, other = await _two_voters(scene)
    stop = await _batch_with(scene, other)
    return await _meet(scene, stop, [(TURN_ROW, one), (TURN_ROW, other)])


async def _meet(scene: Scene, stop: Stop, moves: list[tuple[LiteralString, Voter]]) -> str:
    """Make the first move, let the worker run into it, make the second. Everything is rolled back in the end."""
    (first_move, first), (second_move, second) = moves
    deadlocks = scene.stores.postgres.deadlocks
    async with await psycopg.AsyncConnection.connect(scene.stores.postgres.url) as writer:
        try:
            await writer.execute(first_move, (first.id,))
            stop.release()
            pid = writer.info.backend_pid
            await until(lambda: _blocks(scene, pid), "the worker to run into the lock", BLOCKED_WITHIN_S)
            await writer.execute(second_move, (second.id,))
        except psycopg.errors.DeadlockDetected:
            scene.notes.append("deadlock: the other writer was the victim")
        finally:
            stop.release()
            await writer.rollback()
    if scene.stores.postgres.deadlocks > deadlocks:
        scene.notes.append("deadlock with another writer")
    return "the worker waited for the other writer's lock"


async def _two_voters(scene: Scene) -> tuple[Voter, Voter]:
    """Two voters with a row each, in the order of their ids."""
    pair = sorted((Voter(f"{scene.rng.getrandbits(64):016x}", ["a"]) for _ in range(2)), key=lambda voter: voter.id)
    for voter in pair:
        await scene.load.cast(voter)
    await until(lambda: _have_rows(scene, pair), "their rows", STEP_WITHIN_S)
    low, high = pair
    return low, high


async def _batch_with(scene: Scene, *voters: Voter) -> Stop:
    """Bring these voters' next votes, in this order, into one batch, and stop it on its way to the worker."""
    for _ in range(ATTEMPTS):
        await scene.worker_runs()
        async with scene.backlog(votes=1):
            for voter in voters:
                voter.choices.append("b" if voter.cast[-1][0] == "a" else "a")
                await scene.load.cast(voter)
            # A batch that follows on another has been read ahead.
            claimed = scene.redis.expect(
                ("claimed", "seen ahead"), lambda _line, mark: voters[-1].id in mark.voters(), hold="line"
            )
        stop = await within(STEP_WITHIN_S, claimed, "the worker to get their votes")
        found = [voter_id for voter_id in stop.mark.voters() if voter_id in {voter.id for voter in voters}]
        if found[-len(voters) :] == [voter.id for voter in voters]:
            return stop
        stop.release()
    raise Unseen("their votes did not come into one batch")


async def _have_rows(scene: Scene, voters: list[Voter]) -> bool:
    rows = await scene.sql("SELECT count(*) FROM votes WHERE id = ANY(%s)", [voter.id for voter in voters])
    return bool(rows[0][0] == sum(any(told is Outcome.ACCEPTED for _, told in voter.cast) for voter in voters))


async def _blocks(scene: Scene, pid: int) -> bool:
    return bool(
        await scene.sql(
            "SELECT 1 FROM pg_stat_activity "
            "WHERE application_name = 'voting-worker' AND %s = ANY(pg_blocking_pids(pid))",
            pid,
        )
    )
