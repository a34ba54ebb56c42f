"""Redis Cluster: all our keys share one slot, so the client talks to one node only, the one that has the slot.

redis-py's RedisCluster is not used: it fetches the map of the whole cluster at every start and keeps connections to
each node. Without cluster mode, nothing is sent or done differently. While the slot itself moves to another node,
commands are refused: the voter is told, and the worker waits.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from redis import Redis
from redis.connection import Connection, SSLConnection
from redis.exceptions import MovedError
from redis.retry import Retry

T = TypeVar("T")

Address = tuple[str, int]


class Home:
    """The node that holds our keys, if a node has named it; shared by all connections of a client."""

    def __init__(self) -> None:
        self.address: Address | None = None


class _FollowingConnection(Connection):
    """A connection that moves to the home of our keys with the next command after a node has named it."""

    def __init__(self, *, home: Home, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call] # redis-py has no types there
        self._home = home
        self._entrance: Address = (self.host, self.port)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        address = self._home.address
        if address is not None and address != (self.host, self.port):
            self.disconnect()  # type: ignore[no-untyped-call] # redis-py has no types there
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call] # redis-py has no types there

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except MovedError as moved:
            self._home.address = (moved.host or self.host, moved.port)  # no host means the same node
            raise

    def _connect(self) -> Any:
        self.host, self.port = self._home.address or self._entrance
        try:
            return super()._connect()  # type: ignore[no-untyped-call] # redis-py has no types there
        except OSError:
            self._home.address = None  # it may be gone for good; the configured address knows which node has taken over
            raise


class _FollowingSSLConnection(_FollowingConnection, SSLConnection):
    """The same with TLS: `super()` in the class above is SSLConnection here."""


class RetryOnceMoved(Retry):
    """Retries as configured, and once more if another node has the key: nothing was executed in that case."""

    def call_with_retry(self, do: Callable[[], T], fail: Callable[..., Any], *args: Any, **options: Any) -> T:
        try:
            return super().call_with_retry(do, fail, *args, **options)
        except MovedError:
            return super().call_with_retry(do, fail, *args, **options)


def follow(redis: Redis) -> None:
    """Make *redis*, which must not have connected yet, follow our keys to their node."""
    pool = redis.connection_pool
    following = {Connection: _FollowingConnection, SSLConnection: _FollowingSSLConnection}.get(pool.connection_class)
    if following is not None:  # a socket file always leads to the same node
        pool.connection_class = following
        pool.connection_kwargs["home"] = Home()
