"""The table of votes as one run of the worker writes it: under the token that the fence gave to the run."""

from collections.abc import Callable, Sequence

from voting.clients import Clients
from voting.database.fault import Fault, Kind
from voting.database.trial import TakenNow
from voting.database.vote_table import VoteTable
from voting.fence import Superseded
from voting.queue.vote_queue import VoteQueue
from voting.vote import Vote
from voting.worker.beginning import begin


class Refused(Exception):
    """The database did not store a batch: it refuses votes that we hold valid, or it is down."""

    def __init__(self, error: Exception) -> None:
        """Keep *error*, which the driver raised."""
        super().__init__()
        self.error = error


class FencedTable:
    """Stores votes for as long as no newer run has taken the fence."""

    def __init__(self, clients: Clients, queue: VoteQueue, changed: Callable[[], None]) -> None:
        """Take the fence with the first call of `begin`, which calls *changed* if the figures may have changed."""
        self._clients = clients
        self._queue = queue
        self._changed = changed
        self._token: int | None = None

    def begin(self) -> int:
        """Return the token of this run; begin the run if it has none."""
        if self._token is None:
            self._token = begin(self._clients, self._queue, self._changed)
        return self._token

    def store(
        self, votes: list[Vote], before_wait: Callable[[], object], *, in_haste: bool, refused: Sequence[Vote]
    ) -> int:
        """Store *votes*; return how many rows changed. The other arguments are those of `VoteTable.record`.

        Raises:
            Superseded, TakenNow: as `VoteTable.record`.
            psycopg.Error: there is no connection to the database.
            Refused: from any other error.
        """
        if not votes:
            return 0
        table, token = VoteTable(self._clients.postgres()), self.begin()
        try:
            return table.record(votes, token, before_wait, in_haste=in_haste, refused=refused)
        except (Superseded, TakenNow):
            raise
        except Exception as error:  # drivers raise errors of many classes, and no message may stop the others
            if Fault.of(error).code is None:
                self._clients.forget_postgres()  # the client may have stopped anywhere in the protocol
            raise Refused(error) from error

    def fault_of_made_up_voter(self, refused: Sequence[Vote]) -> Fault | None:
        """Try the vote of a made-up voter, and keep nothing of it; return its fault, or None if it would be stored.

        Raises:
            Superseded, TakenNow: as `VoteTable.try_out`.
        """
        if self._token is None:
            return None
        try:
            VoteTable(self._clients.postgres()).try_out(self._token, refused)
        except (Superseded, TakenNow):
            raise
        except Exception as error:  # noqa: BLE001 - as in store
            return Fault.of(error)
        return None

    def reconnect(self, error: Exception) -> None:
        """Drop the connection after *error*; if the installation or its rights are missing, begin the run again."""
        self._clients.forget_postgres()
        if Fault.of(error).kind is Kind.RENEW:
            self._token = None
