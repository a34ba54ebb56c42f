"""Faults on the way from a voter to the list, and from the tally to the screens."""

import asyncio

from tests.chaos.line import Line, Stop
from tests.chaos.marks import Mark
from tests.chaos.patience import until, within
from tests.chaos.scene import STEP_WITHIN_S, Scene
from tests.chaos.stack import BROADCAST, VOTE

LATE_PUSHES = 6
REVOTED_WITHIN_S = 20.0


async def kill_vote(scene: Scene) -> str:
    """A vote function dies in mid-request, with its push on the way to Redis or not yet."""
    killed = 0
    for _ in range(scene.rng.randint(1, 3)):
        stop = await within(STEP_WITHIN_S, scene.redis.expect("push", hold="line"), "a vote to be pushed")
        await scene.stack.kill(await scene.owner(stop, VOTE))
        killed += 1
        if scene.rng.random() < 0.5:
            stop.release()
        else:
            stop.drop()
    return f"{killed} processes died with a push on its way"


async def late_push(scene: Scene) -> str:
    """Pushes are held on the network until their voters, told otherwise, have voted again; then they arrive.

    Of every other one the connection breaks at once; the rest are waited for in vain. Redis must refuse them all: the
    older choice would win.
    """
    held: list[Stop] = []
    arrivals: list[asyncio.Task[str]] = []
    try:
        for number in range(LATE_PUSHES):
            stop = await within(STEP_WITHIN_S, scene.redis.expect("push", hold="line"), "a vote to be pushed")
            held.append(stop)
            stop.line.keeps_store = True  # Redis' answer shall be seen, after the client has gone
            if number % 2:
                stop.line.half_open()
            arrivals.append(asyncio.create_task(_arrive_late(scene, stop)))
        answers = await asyncio.gather(*arrivals)
    finally:
        for arrival in arrivals:
            arrival.cancel()
        for stop in held:
            stop.release()
    scene.redis.heal()
    if taken := answers.count("pushed"):
        scene.notes.append(f"Redis took {taken} pushes that came too late")
    return f"{len(held)} pushes arrived after their voters had voted again"


async def _arrive_late(scene: Scene, stop: Stop) -> str:
    """Deliver a push once the function has given it up and its voter has cast all their votes: "late" or "pushed"."""
    await until(lambda: stop.line.client_gone, "a push to be given up", REVOTED_WITHIN_S)
    await until(lambda: _has_voted_again(scene, stop), "its voter to vote again", REVOTED_WITHIN_S)
    answer = scene.redis.expect(("late", "pushed"), lambda line, _mark: line is stop.line)
    stop.release()
    return (await within(STEP_WITHIN_S, answer, "Redis to answer")).mark.name


def _has_voted_again(scene: Scene, stop: Stop) -> bool:
    (voter_id,) = stop.mark.voters()
    voter = next(voter for voter in scene.ledger.voters if voter.id == voter_id)
    return not voter.choices and not voter.waiting


async def kill_broadcast(scene: Scene) -> str:
    """ws_broadcast dies when it has posted to some of the subscribers, and not to the others."""
    posts = 0
    some = scene.rng.randint(2, len(scene.audience.subscribers) - 1)

    def nth(_line: Line, _mark: Mark) -> bool:
        nonlocal posts
        posts += 1
        return posts % len(scene.audience.subscribers) == some

    stop = await within(STEP_WITHIN_S, scene.posts.expect("post", nth, hold="proxy"), "a broadcast")
    try:
        await scene.stack.kill(await scene.owner(stop, BROADCAST))
    finally:
        stop.drop()
    return f"died in mid-fan-out, {some - 1} posts on their way"
