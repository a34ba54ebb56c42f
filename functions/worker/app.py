"""The function worker, invoked by the schedule: moves votes from the list into the table until the next run starts."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from voting.clients import Clients
from voting.database.roles import Role
from voting.observability import logger, reported
from voting.settings import Settings
from voting.worker.drain import Drain
from voting.worker.publisher import ResultsPublisher


@reported
def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run until superseded or nearly out of time; return what was counted."""
    settings = Settings.from_env()
    # redis-py must not repeat a claim whose response was lost.
    clients = Clients(settings, redis_retries=0, name="voting-worker", role=Role.WORKER)
    try:
        with ResultsPublisher(Clients(settings, name="voting-publisher", role=Role.WORKER)) as publisher:
            drain = Drain(
                clients,
                lambda: context.get_remaining_time_in_millis() / 1000,
                publisher.moved,
                publisher.next_turn_at,
            )
            counted = drain.run()
    finally:
        clients.close()
    fields: dict[str, Any] = counted.as_fields()
    logger.info("ended a run", **fields)
    return fields
