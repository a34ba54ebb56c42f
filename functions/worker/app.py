"""Invoked by the schedule: drains the list of votes into the table until the next run takes over."""

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
    """Run until superseded, or until the time is nearly up; answer with what was counted."""
    settings = Settings.from_env()
    # A claim whose answer was lost must not be sent again unchanged.
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
    fields = counted.as_fields()
    logger.info("ended a run", extra=fields)
    return fields
