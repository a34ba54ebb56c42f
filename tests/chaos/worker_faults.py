"""Faults of the worker: killed at each step, frozen and overtaken, run several times at once.

Every strike heals what it did and returns what was seen of its effect; where nothing was seen it raises Unseen. What it
sees and should not be (a zombie that a store did not refuse) goes into the scene's notes.
"""

import asyncio
import json
import signal
from collections.abc import Mapping
from typing import Any

from tests.chaos.line import Stop
from tests.chaos.patience import Impatient, until, within
from tests.chaos.scene import STEP_WITHIN_S, WORKER_WITHIN_S, Scene, Unseen
from tests.chaos.stack import SCHEDULED, ports_of

REFUSED_WITHIN_S = 15.0
OVERTAKEN_BY = 150  # votes that are accepted while a zombie is frozen: most of its voters have voted again by then


async def kill_after_claim(scene: Scene) -> str:
    """Redis has moved the batch; the worker dies before it sees it."""
    stop, pid = await scene.stop_worker_at(scene.redis, "claimed")
    return await _kill(scene, stop, pid, f"died with {stop.mark.count} votes claimed")


async def kill_in_transaction(scene: Scene) -> str:
    """The upsert is done, the commit is not."""
    stop, pid = await scene.stop_worker_at(scene.postgres, "upserted")
    return await _kill(scene, stop, pid, "died between upsert and commit")


async def kill_after_commit(scene: Scene) -> str:
    """Postgres has committed; the worker dies before it hears of it."""
    stop, pid = await scene.stop_worker_at(scene.postgres, "committed")
    return await _kill(scene, stop, pid, "died with its batch committed")


async def kill_before_trim(scene: Scene) -> str:
    """The worker dies as it sends the acknowledgement, which never arrives."""
    stop, pid = await scene.stop_worker_at(scene.redis, "claim", lambda _line, mark: mark.count > 0)
    await scene.stack.kill(pid)
    stop.drop()
    await scene.newer_run()
    return f"died with {stop.mark.count} votes to acknowledge"


async def _kill(scene: Scene, stop: Stop, pid: int, seen: str) -> str:
    await scene.stack.kill(pid)
    stop.release()
    await asyncio.sleep(scene.rng.uniform(0.0, 0.5))  # until the next run, as the schedule would have it
    await scene.newer_run()
    return seen


async def orphan_transaction(scene: Scene) -> str:
    """The worker dies in mid-transaction, and what stands between it and Postgres keeps the session open."""
    stop, pid = await scene.stop_worker_at(scene.postgres, "upserted")
    stop.line.keeps_store = True
    try:
        await scene.stack.kill(pid)
        state = await scene.sql("SELECT state FROM pg_stat_activity WHERE client_port = %s", stop.line.store_port)
        if state != [("idle in transaction",)]:
            raise Unseen(f"the session of the dead worker is {state}")
        await scene.newer_run()
        await until(lambda: _session_is_gone(scene, stop.line.store_port), "Postgres to end the session", STEP_WITHIN_S)
    finally:
        stop.drop()
    return "its session held the fence's row until Postgres ended it"


async def _session_is_gone(scene: Scene, port: int) -> bool:
    return not await scene.sql("SELECT 1 FROM pg_stat_activity WHERE client_port = %s", port)


async def zombie_before_transaction(scene: Scene) -> str:
    """Frozen with a claimed batch; newer runs apply it and later votes; then it wakes. Postgres must refuse it."""
    stop, pid = await scene.stop_worker_at(scene.redis, "claimed")
    zombie = stop.mark.token
    scene.stack.signal(pid, signal.SIGSTOP)
    try:
        stop.release()
        newer = await scene.newer_run()
        await scene.more_votes(OVERTAKEN_BY)
        done = scene.redis.expect("claim", lambda _line, mark: mark.token == newer and mark.count > 0)
        await within(STEP_WITHIN_S, done, "the newer run to finish a batch")
        ends = [
            scene.postgres.expect(name, lambda line, _mark: line.peer_port in ports_of(pid))
            for name in ("rollback", "committed")
        ]
    finally:
        scene.stack.signal(pid, signal.SIGCONT)
    ended = await _first(ends, "the zombie to try its batch")
    if ended.mark.name != "rollback":
        scene.notes.append("Postgres did not refuse the zombie")
    return f"run {zombie} froze with {stop.mark.count} votes, was overtaken by {newer} and met Postgres"


async def zombie_before_trim(scene: Scene) -> str:
    """Frozen with its batch committed; newer runs take over; then it acknowledges. Redis must refuse it."""
    stop, pid = await scene.stop_worker_at(scene.postgres, "committed")
    zombie = await scene.token()
    scene.stack.signal(pid, signal.SIGSTOP)
    try:
        stop.release()
        newer = await scene.newer_run()
        # What it would trim shall be the newer run's, with more behind it.
        async with scene.backlog(votes=150):
            claimed = scene.redis.expect("claimed", lambda _line, mark: mark.token == newer, hold="line")
        batch = await within(STEP_WITHIN_S, claimed, "the newer run to claim")
        ends = [
            scene.redis.expect(name, lambda _line, mark: mark.token == zombie)
            for name in ("refused", "claimed", "idle")
        ]
    finally:
        scene.stack.signal(pid, signal.SIGCONT)
    try:
        ended = await _first(ends, "the zombie to acknowledge")
    finally:
        batch.release()
    if ended.mark.name != "refused":
        scene.notes.append("Redis did not refuse the zombie")
    return f"run {zombie} froze with its batch committed, was overtaken by {newer} and met Redis"


async def late_claim(scene: Scene) -> str:
    """An acknowledgement stays on the network until its run has given it up and claimed again; then it arrives.

    Redis must refuse it: what it would trim by then was handed out meanwhile and is stored nowhere. The fence does not,
    since the run is the newest.
    """
    stop, pid = await scene.stop_worker_at(scene.redis, "claim", lambda _line, mark: mark.count > 0)
    stop.line.keeps_store = True  # Redis' answer shall be seen, after the worker has given it up
    try:
        another = scene.backlog(150, lambda line, mark: line is not stop.line and mark.count > 0)
        async with another as claim:
            if claim.mark.token != stop.mark.token:  # the schedule's, or the retry of one that was killed
                raise Unseen(f"run {claim.mark.token} came between")
            claimed = scene.redis.expect("claimed", lambda line, _mark: line is claim.line, hold="line")
        batch = await within(STEP_WITHIN_S, claimed, "the run to be handed another batch")
        answers = ("handed out again", "claimed", "idle", "refused")
        answer = scene.redis.expect(answers, lambda line, _mark: line is stop.line)
        stop.release()
        ended = await within(STEP_WITHIN_S, answer, "Redis to answer what came late")
        await scene.stack.kill(pid)
        batch.drop()
    finally:
        stop.drop()
    if ended.mark.name == "refused":
        raise Unseen("a newer run came between")
    if ended.mark.name != "handed out again":
        scene.notes.append("Redis did not refuse the claim that came late")
    await scene.newer_run()
    return f"acknowledged {stop.mark.count} votes when {batch.mark.count} others had been handed out"


async def _first(ends: "list[asyncio.Future[Stop]]", what: str) -> Stop:
    """The first of several marks."""
    done, rest = await within(REFUSED_WITHIN_S, asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED), what)
    for future in rest:
        future.cancel()
    return done.pop().result()


async def two_workers(scene: Scene) -> str:
    return await _run_at_once(scene, [None, None], 0.0)


async def three_workers(scene: Scene) -> str:
    return await _run_at_once(scene, [None, None, None], 0.0)


async def schedule_twice(scene: Scene) -> str:
    """The very same event is delivered twice."""
    event = json.loads(SCHEDULED.read_text())
    return await _run_at_once(scene, [event, event], scene.rng.uniform(0.0, 0.5))


async def _run_at_once(scene: Scene, events: list[Mapping[str, Any] | None], apart_s: float) -> str:
    """Set off a run per event; each must come to claim, and all but the newest must be refused by a store."""
    await scene.worker_runs()
    than = await scene.token()
    seen: set[int] = set()
    older_ends = [scene.redis.expect("refused"), scene.postgres.expect("rollback")]
    claims = []
    for event in events:
        claims.append(scene.redis.expect("claim", lambda _line, mark: _is_new(mark.token, than, seen)))
        await scene.stack.run_worker(event)
        await asyncio.sleep(apart_s)
    try:
        await within(WORKER_WITHIN_S * len(events), asyncio.gather(*claims), f"{len(events)} runs to claim")
        await _first(older_ends, "an older run to be refused")
    except Impatient as error:
        raise Unseen(f"{len(seen)} of {len(events)} runs claimed: {error}") from error
    return f"runs {sorted(seen)} overlapped"


def _is_new(token: int, than: int, seen: set[int]) -> bool:
    if token <= than or token in seen:
        return False
    seen.add(token)
    return True
