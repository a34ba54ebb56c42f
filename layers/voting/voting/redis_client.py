"""A client of Redis as all functions use it: with short timeouts, over TLS or not, on one node or a cluster."""

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from voting.cluster import RetryOnceMoved, follow
from voting.light_connection import REDIS_TIMEOUT_S
from voting.settings import InvalidSetting


def new_redis(url: str, *, retries: int) -> Redis:
    """Return a client of *url* that repeats a command up to *retries* times. It connects with its first command.

    Raises:
        InvalidSetting: the URL cannot be used.
    """
    try:
        redis = Redis.from_url(
            url,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=RetryOnceMoved(NoBackoff(), retries),
            # RESP2 without a name or notifications: only AUTH is sent on connect, in the form of Redis 6.2.
            protocol=2,
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        of_connections = redis.connection_pool.connection_kwargs
        if url.startswith("rediss:") and not of_connections.get("password"):
            of_connections["redis_connect_func"] = _greet
        if "?" in url:  # its options would be checked only with the first connection
            redis.connection_pool.connection_class(**of_connections)
    except (TypeError, ValueError, RedisError):  # their messages quote the URL
        raise InvalidSetting("REDIS_URL has an option that redis-py does not take, or not with this value") from None
    follow(redis)
    return redis


def _greet(connection: Any) -> None:
    """Log in and read one response, and with it what TLS 1.3 sends after its handshake.

    redis-py takes that data for an unexpected response, and drops the new connection. With a password, the
    response to the login serves the same purpose.
    """
    connection.on_connect()
    connection.send_command("PING", check_health=False)
    connection.read_response()
