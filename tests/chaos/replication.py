"""How one Redis follows another: its replica, and how far behind it is."""

from typing import Any

from redis.asyncio import Redis

from tests.chaos.patience import until

WITHIN_S = 30.0


async def follow(url: str, port: int, password: str) -> None:
    await command(url, "CONFIG", "SET", "masterauth", password)
    await command(url, "REPLICAOF", "127.0.0.1", port)

    async def is_linked() -> bool:
        return (await _replication(url)).get("master_link_status") == "up"

    await until(is_linked, "a replica to follow", WITHIN_S)


async def caught_up(*, of: str, by: str) -> None:
    """Return once the replica *by* has had a moment with all that *of* has written."""

    async def has_all() -> bool:
        return await offset(by) >= await offset(of)

    await until(has_all, "a replica to have everything", WITHIN_S)


async def offset(url: str) -> int:
    """How much of the stream of writes the server has, in bytes."""
    info = await _replication(url)
    return int(info["slave_repl_offset" if info["role"] == "slave" else "master_repl_offset"])


async def _replication(url: str) -> dict[str, Any]:
    async with Redis.from_url(url) as redis:
        return dict(await redis.info("replication"))


async def command(url: str, *command: str | int) -> None:
    async with Redis.from_url(url) as redis:
        await redis.execute_command(*command)
