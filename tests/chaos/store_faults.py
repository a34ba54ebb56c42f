"""Faults of the stores and of the network before them; every strike returns what was seen of its effect."""

import asyncio
import signal

from tests.chaos.patience import until
from tests.chaos.proxy import Proxy
from tests.chaos.scene import Scene, Unseen
from tests.chaos.stores import Store

SEEN_WITHIN_S = 10.0


async def kill_redis(scene: Scene) -> str:
    """kill -9; it comes back with what it acknowledged."""
    return await _kill(scene, scene.stores.redis, scene.redis, signal.SIGKILL)


async def quit_postgres(scene: Scene) -> str:
    """SIGQUIT to the postmaster: no checkpoint, no farewell; it recovers from its log."""
    return await _kill(scene, scene.stores.postgres, scene.postgres, signal.SIGQUIT)


async def _kill(scene: Scene, store: Store, proxy: Proxy, number: signal.Signals) -> str:
    try:
        await store.kill(number)
        await proxy.shut()
        await asyncio.sleep(scene.rng.uniform(0.1, 1.0))  # how long it is away
        before = proxy.counts["connections"]
    finally:
        await scene.start_again(store, proxy)
    await _reconnected(proxy, before)
    return f"{store.title} died of {number.name}, its port refused, and it came back"


async def terminate_backend(scene: Scene) -> str:
    """An operator ends the worker's session between upsert and commit."""
    stop, _ = await scene.stop_worker_at(scene.postgres, "upserted")
    try:
        ended = await scene.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port = %s", stop.line.store_port
        )
        if ended != [(True,)]:
            raise Unseen(f"pg_terminate_backend said {ended}")
        await until(lambda: stop.line not in scene.postgres.lines, "the session to end", SEEN_WITHIN_S)
    finally:
        stop.release()
    return "the session was ended in mid-transaction"


async def delay(scene: Scene, which: str) -> str:
    """Everything takes longer, both ways: at times longer than the clients wait."""
    proxy = _proxy(scene, which)
    before = proxy.counts["chunks delayed"]
    proxy.delay_s = scene.rng.choice((0.03, 0.1, 0.3, 0.6, 1.2))
    try:
        await asyncio.sleep(scene.rng.uniform(1.0, 2.0))  # how long it lasts
        await until(lambda: proxy.counts["chunks delayed"] > before, "a chunk to be delayed", SEEN_WITHIN_S)
        seen = f"{proxy.counts['chunks delayed'] - before} chunks came {proxy.delay_s * 1000:.0f} ms late"
    finally:
        proxy.heal()
    return seen


async def cut(scene: Scene, which: str) -> str:
    """Every connection is reset, again and again."""
    proxy = _proxy(scene, which)
    broken, before = 0, proxy.counts["connections"]
    for _ in range(scene.rng.randint(1, 6)):
        broken += proxy.cut()
        await asyncio.sleep(scene.rng.uniform(0.05, 0.3))  # between two resets
    if not broken:
        raise Unseen("there was no connection to cut")
    await _reconnected(proxy, before)
    return f"{broken} connections were reset"


async def half_open(scene: Scene, which: str) -> str:
    """The clients see a reset; the store hears nothing and keeps its sessions, with whatever they hold."""
    proxy = _proxy(scene, which)
    await until(lambda: proxy.lines, "a connection", SEEN_WITHIN_S)
    before = proxy.counts["connections"]
    lines = {line.store_port for line in proxy.half_open()}
    try:
        await _reconnected(proxy, before)
        kept = lines & await _sessions(scene, which)
        if not kept:
            raise Unseen("the store kept no session")
        await asyncio.sleep(scene.rng.uniform(0.5, 2.0))  # how long it lasts
    finally:
        proxy.heal()
    return f"the store kept {len(kept)} sessions whose clients had gone"


async def deaf(scene: Scene, which: str) -> str:
    """Connections are accepted and nothing ever answers. A newer run must get by without the older one's."""
    proxy = _proxy(scene, which)
    before = proxy.counts["bytes swallowed"]
    proxy.deafen()
    try:
        await asyncio.sleep(scene.rng.uniform(1.0, 2.5))  # how long new connections are deaf, too
        await until(lambda: proxy.counts["bytes swallowed"] > before, "bytes to be swallowed", SEEN_WITHIN_S)
        proxy.deaf = False
        await scene.newer_run()
        seen = f"{proxy.counts['bytes swallowed'] - before} bytes were swallowed"
    finally:
        proxy.heal()
    return seen


async def _reconnected(proxy: Proxy, before: int) -> None:
    """Wait for a client to come back: that its connection was gone is the effect that is to be seen."""
    await until(lambda: proxy.counts["connections"] > before, "a client to connect again", SEEN_WITHIN_S)


async def _sessions(scene: Scene, which: str) -> set[int]:
    """The clients' ports that the store itself counts as connected."""
    if which == "postgres":
        rows = await scene.sql("SELECT client_port FROM pg_stat_activity WHERE client_port > 0")
        return {row[0] for row in rows}
    async with scene.direct_redis() as redis:
        return {int(client["addr"].rpartition(":")[2]) for client in await redis.client_list()}


def _proxy(scene: Scene, which: str) -> Proxy:
    return scene.redis if which == "redis" else scene.postgres
