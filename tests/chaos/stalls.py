"""Faults that last until people are told that nothing is counted, and are over once that is taken back.

Where it is not said, or not taken back, the watch complains, as it does of any other fault: the round fails.
"""

import asyncio
import signal

from tests.chaos.patience import until
from tests.chaos.scene import Scene, Unseen
from tests.chaos.stack import WORKER

STANDS_WITHIN_S = 15.0
STANDS_FOR_S = 1.0
STRIKE_EVERY_S = 0.05

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'closed' USING ERRCODE = 'P0001'; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON votes FOR EACH ROW EXECUTE FUNCTION refuse()
"""


async def without_postgres(scene: Scene) -> str:
    """Postgres is away for as long as it takes to see that nothing is counted."""
    await scene.stores.postgres.kill(signal.SIGQUIT)
    await scene.postgres.shut()
    seen = await _stalled(scene)
    await scene.heal()
    return await _recovered(scene, seen)


async def without_redis(scene: Scene) -> str:
    """Redis is away for as long as it takes to see that nothing is counted; every vote is refused until then."""
    await scene.stores.redis.kill(signal.SIGKILL)
    await scene.redis.shut()
    await scene.watch.told()
    await scene.heal()
    return await _recovered(scene, "Redis was away until people were told")


async def with_deaf_postgres(scene: Scene) -> str:
    """Postgres takes every connection and answers none."""
    scene.postgres.deafen()
    try:
        seen = await _stalled(scene)
    finally:
        scene.postgres.heal()
    return await _recovered(scene, seen)


async def without_worker(scene: Scene) -> str:
    """Every run of the worker freezes, those that the schedule starts as well: none is left to send a frame."""
    return await _recovered(scene, await _strike_every_run(scene, signal.SIGSTOP))


async def with_dying_worker(scene: Scene) -> str:
    """Every run of the worker dies as it starts, those that the schedule and Lambda's retries start as well."""
    seen = await _strike_every_run(scene, signal.SIGKILL)
    await scene.stack.run_worker()
    return await _recovered(scene, seen)


async def with_refusing_table(scene: Scene) -> str:
    """A stranger's trigger refuses every row: the table is at fault, and no message is."""
    await scene.sql(REFUSE)
    try:
        seen = await _stalled(scene)
    finally:
        await scene.sql("DROP FUNCTION refuse CASCADE")
    return await _recovered(scene, seen)


async def _strike_every_run(scene: Scene, number: signal.Signals) -> str:
    async def strike() -> None:
        while True:
            for pid in scene.stack.functions(WORKER):
                scene.stack.signal(pid, number)
            await asyncio.sleep(STRIKE_EVERY_S)

    striking = asyncio.create_task(strike())
    try:
        return await _stalled(scene)
    finally:
        striking.cancel()
        await scene.heal()


async def _stalled(scene: Scene) -> str:
    """Return once people have been told, or it is complained that they were not. The oldest vote waits until then."""
    oldest = await until(lambda: _standing(scene), "the oldest vote to stand still", STANDS_WITHIN_S)
    await scene.watch.told()
    if oldest != await scene.oldest():
        raise Unseen("votes were counted all the same")
    return "nothing was counted until people were told"


async def _recovered(scene: Scene, seen: str) -> str:
    scene.watch.healed()
    await scene.watch.taken_back()
    return seen


async def _standing(scene: Scene) -> bytes | None:
    first = await scene.oldest()
    await asyncio.sleep(STANDS_FOR_S)  # the measure, and no wait for anything
    return first if first == await scene.oldest() else None
