"""Faults after which nothing is counted for so long that people must be told, and told again when it is over.

What was not said, or not taken back, goes into the scene's notes: the round fails.
"""

import asyncio
import signal

from tests.chaos.patience import Impatient, until
from tests.chaos.scene import Scene, Unseen
from tests.chaos.stack import WORKER

STANDS_WITHIN_S = 15.0
STANDS_FOR_S = 1.0
FREEZE_EVERY_S = 0.05

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


async def without_worker(scene: Scene) -> str:
    """Every run of the worker freezes, those that the schedule starts as well: none is left to send a frame."""
    freezing = asyncio.create_task(_freeze(scene))
    try:
        seen = await _stalled(scene)
    finally:
        freezing.cancel()
        await scene.heal()
    return await _recovered(scene, seen)


async def with_refusing_table(scene: Scene) -> str:
    """A stranger's trigger refuses every row: the table is at fault, and no message is."""
    await scene.sql(REFUSE)
    try:
        seen = await _stalled(scene)
    finally:
        await scene.sql("DROP FUNCTION refuse CASCADE")
    return await _recovered(scene, seen)


async def _stalled(scene: Scene) -> str:
    """Return once people have been told; note where they were not, though the oldest vote waited all the while."""
    oldest = await until(lambda: _standing(scene), "the oldest vote to stand still", STANDS_WITHIN_S)
    complaint = ""
    try:
        await scene.witness.see_stall()
    except Impatient as error:
        complaint = f"a stalled count was not seen: {error}"
    if oldest != await scene.oldest():
        raise Unseen("votes were counted all the same")
    if complaint:
        scene.notes.append(complaint)
    return complaint or "people were told that nothing is counted"


async def _recovered(scene: Scene, seen: str) -> str:
    try:
        await scene.witness.see_recovery()
    except Impatient as error:
        scene.notes.append(f"it was not taken back that nothing is counted: {error}")
    return seen


async def _standing(scene: Scene) -> bytes | None:
    first = await scene.oldest()
    await asyncio.sleep(STANDS_FOR_S)  # the measure, and no wait for anything
    return first if first == await scene.oldest() else None


async def _freeze(scene: Scene) -> None:
    while True:
        for pid in scene.stack.functions(WORKER):
            scene.stack.signal(pid, signal.SIGSTOP)
        await asyncio.sleep(FREEZE_EVERY_S)
