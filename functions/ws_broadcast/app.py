"""The function ws_broadcast, invoked asynchronously by the worker: posts the newest results to some subscribers."""

from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from voting import redis_client  # noqa: F401 - imported here, it is part of the init phase and not of a broadcast
from voting.broadcast.delivery import NothingToSend, deliver
from voting.broadcast.dry_post import dry_post
from voting.broadcast.planner import Shard
from voting.broadcast.poster import Poster
from voting.broadcast.sigv4 import Credentials
from voting.broadcast.subscribers import Subscribers
from voting.clients import Clients
from voting.observability import MetricUnit, metrics, publish, reported, tell
from voting.results.results import Results
from voting.results.snapshot import Snapshots
from voting.settings import Settings


@cache
def environment() -> tuple[Clients, Poster]:
    """The clients that all invocations of an execution environment share."""
    settings = Settings.from_env()
    poster = Poster(settings.websocket_url, settings.region, Credentials.from_env(), prefers_ipv6=settings.prefers_ipv6)
    return Clients(settings), poster


@reported
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Post the newest snapshot to the buckets of *event*; it may be newer than the one that caused this invocation.

    Or post to a connection that does not exist, for the smoke test of a deployment.
    """
    clients, poster = environment()
    if event.get("trial"):
        return dry_post(poster)
    snapshots = Snapshots(clients.redis())

    def newest() -> Results | None:
        snapshot = snapshots.read()
        return None if snapshot is None else snapshot.results(clients.settings.question)

    remaining_s = context.get_remaining_time_in_millis() / 1000
    try:
        outcome = deliver(Shard.of_event(event), Subscribers(clients.redis()), newest, poster, remaining_s)
    except NothingToSend:
        tell("there is no snapshot to broadcast")
        return {"sent": 0, "gone": 0, "failed": 0}
    metrics.add_metric("PostsSent", MetricUnit.Count, outcome.sent)
    metrics.add_metric("PostsGone", MetricUnit.Count, len(outcome.gone))
    metrics.add_metric("PostsFailed", MetricUnit.Count, len(outcome.failed))
    metrics.add_metric("PostsThrottled", MetricUnit.Count, outcome.throttled)
    publish()
    return {"sent": outcome.sent, "gone": len(outcome.gone), "failed": len(outcome.failed)}
