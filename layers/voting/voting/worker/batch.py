"""What the worker has in hand, messages as they were claimed and sorted; and what it has done."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from voting.queue.dead_letter import DeadLetter
from voting.vote import InvalidVote, Vote, parse


@dataclass(slots=True)
class Counted:
    """What a run has done."""

    stored: int = 0  # messages that were votes
    changed: int = 0  # rows inserted or changed
    parked: int = 0
    batches: int = 0
    superseded: bool = False
    handed_back: bool = False

    def as_fields(self) -> dict[str, int | bool]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sorted:
    """Messages as they were claimed, and what they are."""

    messages: list[bytes] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be acknowledged with the next claim, and the messages behind it where they have been read already."""

    size: int = 0
    dead: list[DeadLetter] = field(default_factory=list)
    ahead: Sorted = field(default_factory=Sorted)
    was_all: bool = False  # nothing waited behind it when it was claimed


def sort_out(messages: Iterable[bytes]) -> tuple[list[Vote], list[DeadLetter]]:
    """Part votes from what is none, each in the order given."""
    votes, dead = [], []
    for message in messages:
        try:
            votes.append(parse(message))
        except InvalidVote as error:
            dead.append(DeadLetter(error.reason, message))
    return votes, dead
