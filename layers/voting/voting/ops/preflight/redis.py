"""Preflight: the Redis server."""

from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.exceptions import ClusterDownError, ResponseError

from voting.ops.preflight.finding import Finding, ok, problem, warning
from voting.queue.queue_view import VOTES

OLDEST = (6, 2)


def redis_findings(redis: Redis, *, confirm_by_replica: bool = False) -> Iterator[Finding]:
    """The version, our rights, eviction, persistence, the replicas that votes wait for, and whether it is a cluster."""
    try:
        redis.exists(VOTES)  # in a cluster, the following commands go to the node with our keys
    except ClusterDownError:
        todo = "Repair it until `CLUSTER INFO` says cluster_state:ok; until then no vote can be queued."
        yield problem("Redis: the cluster does not serve the slot of our keys", todo)
        return
    try:
        info: dict[str, Any] = redis.info()
    except ResponseError:
        yield warning(
            "Redis: INFO is not allowed", "Check version, eviction and persistence in the configuration of the server."
        )
        return
    yield _version(str(info["redis_version"]))
    if info.get("role") == "slave":
        yield problem("Redis: this is a replica", "Use the address of the primary in REDIS_URL.")
    yield _scripts(redis)
    yield _eviction(redis, info)
    yield from _persistence(redis, info)
    if confirm_by_replica:
        yield _replicas(redis, info)
    yield _cluster(info)


def _version(text: str) -> Finding:
    numbers = tuple(int(part) for part in text.split(".")[:2])
    if numbers < OLDEST:
        return problem(f"Redis is version {text}", "Upgrade it to 6.2 or newer: older ones lack LMOVE and BLMOVE.")
    return ok(f"Redis is version {text}")


def _scripts(redis: Redis) -> Finding:
    try:
        redis.eval("return 1", 0)
    except ResponseError:
        return problem("Redis: our user may not run scripts", "Allow EVAL, EVALSHA and SCRIPT LOAD in its ACL.")
    return ok("Redis: scripts may be run")


def _eviction(redis: Redis, info: dict[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy") or _setting(redis, "maxmemory-policy")
    if policy is None:
        return warning(
            "Redis: the eviction policy cannot be read", "Make sure that its parameter group says noeviction."
        )
    if policy != "noeviction":
        todo = "Set maxmemory-policy to noeviction: then a full Redis refuses votes, and the voter is told."
        return problem(f"Redis: a full memory evicts keys ({policy}), queued votes among them", todo)
    return ok("Redis: a full memory evicts nothing (noeviction)")


def _persistence(redis: Redis, info: dict[str, Any]) -> Iterator[Finding]:
    if info.get("aof_enabled"):
        fsync = _setting(redis, "appendfsync")
        if fsync == "always":
            yield ok("Redis: append-only file, written through for every vote")
        else:
            yield warning(
                f"Redis: append-only file, appendfsync {fsync or 'cannot be read'}",
                "A crash of its machine can lose the last second of accepted votes; `always` loses none.",
            )
        return
    save = _setting(redis, "save")
    if save is None:
        what = "Redis: no append-only file; snapshots cannot be read"
    else:
        what = f"Redis: no append-only file, {f'snapshots ({save})' if save else 'and no snapshots'}"
    yield warning(
        what, "A restart loses accepted votes that are not drained. ElastiCache: add replicas, or use MemoryDB."
    )


def _replicas(redis: Redis, info: dict[str, Any]) -> Finding:
    try:
        redis.wait(0, 1)
    except ResponseError:
        return problem(
            "Redis: our user may not wait for replicas", "Allow WAIT in its ACL, or turn ConfirmByReplica off."
        )
    if not info.get("connected_slaves"):
        todo = "Add a replica, or turn ConfirmByReplica off: until then no vote is confirmed."
        return problem("Redis: no replica is connected, and votes wait for one", todo)
    return ok(f"Redis: votes wait for one of {info['connected_slaves']} replicas")


def _cluster(info: dict[str, Any]) -> Finding:
    if info.get("cluster_enabled"):
        return ok("Redis: cluster mode is on; all our keys share one slot, and we follow it to its node")
    return ok("Redis: no cluster mode")


def _setting(redis: Redis, name: str) -> str | None:
    """One setting; None if CONFIG is not available, as on ElastiCache."""
    try:
        settings: dict[str | None, str | None] = redis.config_get(name)
    except ResponseError:
        return None
    return settings.get(name)
