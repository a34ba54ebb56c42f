"""What the worker holds: claimed messages, what to acknowledge next, and the sums of a run."""

from collections.abc import Collection, Iterable
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
class ParsedMessages:
    """Messages as they were claimed, and the votes and the dead letters that they are."""

    messages: list[bytes] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)

    @classmethod
    def of(cls, messages: list[bytes], choices: Collection[str]) -> "ParsedMessages":
        return cls(messages, *sort_out(messages, choices))


@dataclass(frozen=True, slots=True)
class PendingAck:
    """What the next claim acknowledges, and the messages after it if they have been read already."""

    size: int = 0  # messages, the dead letters included
    dead: list[DeadLetter] = field(default_factory=list)
    ahead: ParsedMessages = field(default_factory=ParsedMessages)
    was_last: bool = False  # no message waited behind the batch when it was claimed


def sort_out(messages: Iterable[bytes], choices: Collection[str]) -> tuple[list[Vote], list[DeadLetter]]:
    """Separate the votes for *choices* from the invalid messages, each in the order given."""
    votes, dead = [], []
    for message in messages:
        try:
            votes.append(parse(message, choices))
        except InvalidVote as error:
            dead.append(DeadLetter(error.reason, message))
    return votes, dead
