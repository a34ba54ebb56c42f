"""The function ops, invoked by operators: it maintains the stores, which they cannot reach from outside."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from voting.clients import Clients
from voting.database.roles import Role
from voting.observability import reported
from voting.ops.operations import operate
from voting.settings import Settings

PATIENCE_MS = 600_000  # counting a large table takes longer than any batch
LOCK_PATIENCE_MS = 30_000  # longer than the longest batch


@reported
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Perform the operation of *event*; return what it found or did."""
    clients = Clients(
        Settings.from_env(),
        redis_retries=0,
        name="voting-ops",
        role=Role.OPERATOR,
        statement_timeout_ms=PATIENCE_MS,
        lock_timeout_ms=LOCK_PATIENCE_MS,
    )
    try:
        return operate(clients, event)
    finally:
        clients.close()
