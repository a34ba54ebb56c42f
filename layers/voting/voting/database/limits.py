"""What the sessions of a function may do, and for how long. A module of its own: every function has limits."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from voting.database.roles import Role

IDLE_IN_TRANSACTION_TIMEOUT_MS = 5_000  # a killed worker behind a proxy must not keep the fence's row


class Limits(NamedTuple):
    """What the sessions of a function may do, and for how long; see `voting.clients.Clients`."""

    name: str  # of the application
    role: "Role | None"
    statement_timeout_ms: int
    lock_timeout_ms: int
    heeds_policies: bool

    def settings(self) -> dict[str, int | str]:
        """Return the settings of a session that apply to each of its statements."""
        settings: dict[str, int | str] = {
            "statement_timeout": self.statement_timeout_ms,
            "lock_timeout": self.lock_timeout_ms,
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT_MS,
        }
        return settings if self.heeds_policies else settings | {"row_security": "off"}
