"""Deleting dead letters, page by page."""

from voting.queue.dead_letters import DeadLetters, Place


class Dropping:
    """A walk over the letters of one reason, or over all that existed when it began, newest first."""

    def __init__(self, letters: DeadLetters, reason: str | None, place: Place) -> None:
        self._letters = letters
        self._reason = reason
        self.place = place
        self.dropped = 0

    def step(self) -> None:
        """Drop the letters of the next page, in one call to Redis that takes a few milliseconds."""
        self.place, dropped = self._letters.drop(self.place, self._reason)
        self.dropped += dropped

    def document(self) -> dict[str, object]:
        return {"dropped": self.dropped}
