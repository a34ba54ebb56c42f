"""Faults on the way from a voter to the list, and from the tally to the screens."""

import asyncio

from tests.chaos.line import Line, Stop
from tests.chaos.marks import Mark
from tests.chaos.patience import until, within
from tests.chaos.scene import STEP_WITHIN_S, Scene, Unseen
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

    Redis must refuse them: the older choice would win.
    """
    held: list[Stop] = []
    try:
        for _ in range(LATE_PUSHES):
            stop = await within(STEP_WITHIN_S, scene.redis.expect("push", hold="line"), "a vote to be pushed")
            stop.line.keeps_store = True  # Redis' answer shall be seen, after the client has gone
            held.append(stop)
        for stop in held:
            await _outlive(scene, stop)
        answers = [_answer(scene, stop, name) for stop in held for name in ("late", "pushed")]
    finally:
        for stop in held:
            stop.release()
    ends = await _each(answers)
    scene.redis.heal()
    late = sum(end.mark.name == "late" for end in ends)
    if not ends:
        raise Unseen("no push arrived late")
    if late < len(ends):
        scene.notes.append(f"Redis took {len(ends) - late} pushes that came too late")
    return f"{len(ends)} pushes arrived after their voters had voted again"


async def _outlive(scene: Scene, stop: Stop) -> None:
    """Wait until the function has given up a push, and its voter has cast all their votes."""
    await until(lambda: stop.line.client_gone, "a push to be given up", REVOTED_WITHIN_S)
    await until(lambda: _has_voted_again(scene, stop), "its voter to vote again", REVOTED_WITHIN_S)


def _answer(scene: Scene, stop: Stop, name: str) -> "asyncio.Future[Stop]":
    return scene.redis.expect(name, lambda line, _mark: line is stop.line)


def _has_voted_again(scene: Scene, stop: Stop) -> bool:
    (voter_id,) = stop.mark.voters()
    voter = next(voter for voter in scene.ledger.voters if voter.id == voter_id)
    return not voter.choices and not voter.waiting


async def _each(answers: "list[asyncio.Future[Stop]]") -> list[Stop]:
    """What came of the pushes that were let go: one answer each."""
    expected = len(answers) // 2
    await until(lambda: sum(answer.done() for answer in answers) >= expected, "Redis to answer", STEP_WITHIN_S)
    ends = [answer.result() for answer in answers if answer.done()]
    for answer in answers:
        answer.cancel()
    return ends


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
