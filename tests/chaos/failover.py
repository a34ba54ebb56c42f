"""A primary of Redis that dies with pushes its replica does not have, and the replica that takes its place."""

import signal

from tests.chaos.patience import until
from tests.chaos.replication import WITHIN_S, caught_up, command, follow, offset
from tests.chaos.scene import Scene, Unseen

BEHIND = 20  # pushes that reach the primary and not the replica
VOTES_AFTER = 20  # accepted by the new primary, before the two change back
PAUSE_MS = 20_000


async def fail_over(scene: Scene) -> str:
    """Let the replica fall behind, kill the primary, and promote the replica. The two change back in good order."""
    replica, link = scene.replica, scene.replication
    await caught_up(of=scene.stores.redis.url, by=replica.url)
    link.deafen()
    pushes = scene.redis.counts["push"]
    await until(lambda: scene.redis.counts["push"] >= pushes + BEHIND, "pushes that the replica lacks", WITHIN_S)
    behind = await offset(scene.stores.redis.url) - await offset(replica.url)
    await scene.stores.redis.kill(signal.SIGKILL)
    await scene.redis.shut()
    await command(replica.url, "REPLICAOF", "NO", "ONE")
    await scene.redis.open(replica.port)
    await scene.stores.redis.start()
    await follow(scene.stores.redis.url, replica.port, scene.stores.redis.password)
    await scene.more_votes(VOTES_AFTER)
    await _change_back(scene)
    if behind <= 0:
        raise Unseen("the replica was not behind")
    return f"the primary died, and its replica was {behind} bytes behind"


async def _change_back(scene: Scene) -> None:
    """Make the first server the primary again, once it has all that was written; no write is lost."""
    primary, replica = scene.stores.redis, scene.replica
    await command(replica.url, "CLIENT", "PAUSE", PAUSE_MS, "WRITE")
    await caught_up(of=replica.url, by=primary.url)
    await command(primary.url, "REPLICAOF", "NO", "ONE")
    await scene.redis.shut()
    await scene.redis.open(primary.port)
    await command(replica.url, "CLIENT", "UNPAUSE")
    scene.replication.heal()
    await follow(replica.url, scene.replication.port, primary.password)
