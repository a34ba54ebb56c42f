"""What the voters know: every choice they sent, in order, and what they were told."""

import random
from dataclasses import dataclass, field
from enum import StrEnum

OTHER = {"a": "b", "b": "a"}
MIND_CHANGES = 0.8  # share of the votes that differ from the voter's last one


class Outcome(StrEnum):
    """What a voter was told of one vote."""

    ACCEPTED = "accepted"  # 202 or 303
    REFUSED = "refused"  # 503 not_recorded: surely not in the list, and it will not be
    MAYBE = "maybe"  # nothing, or nothing that says which


@dataclass(slots=True)
class Voter:
    """One voter, who sends one request at a time. The id, the number of votes and the choices come of the seed."""

    id: str
    choices: list[str]  # still to be sent, next first
    by_form: bool = False
    patient: bool = True  # votes again after a vote of which there is no good news
    waiting: bool = False  # for an answer
    cookies: dict[str, str] = field(default_factory=dict)
    cast: list[tuple[str, Outcome]] = field(default_factory=list)

    @classmethod
    def of(cls, seed: str) -> "Voter":
        rng = random.Random(seed)
        choices = [rng.choice("ab")]
        for _ in range(rng.choice((0, 0, 1, 2, 3, 5))):
            choices.append(OTHER[choices[-1]] if rng.random() < MIND_CHANGES else choices[-1])
        return cls(f"{rng.getrandbits(64):016x}", choices, by_form=rng.random() < 0.2, patient=rng.random() < 0.7)

    def __post_init__(self) -> None:
        # An unsigned id of the old app's shape, so that the seed decides it; the first answer signs it.
        self.cookies["voter_id"] = self.id

    def told(self, choice: str, outcome: Outcome, took_s: float, patience_s: float = 0.5) -> None:
        """Keep what became of a vote. Who was not told "queued", or waited long, votes again, or goes for good."""
        self.cast.append((choice, outcome))
        if outcome is Outcome.ACCEPTED and took_s < patience_s:
            return
        if self.patient:
            self.choices = self.choices or [OTHER[choice]]
        elif outcome is not Outcome.ACCEPTED:
            self.choices = []


@dataclass(slots=True)
class Ledger:
    """Every voter of a round, and what was put into the list beside them."""

    voters: list[Voter] = field(default_factory=list)
    junk: dict[str, str] = field(default_factory=dict)  # payload: the reason for which it must be parked
    junk_maybe: set[str] = field(default_factory=set)  # payloads of which Redis did not say that it has them

    def count(self, outcome: Outcome) -> int:
        return sum(told is outcome for voter in self.voters for _, told in voter.cast)

    @property
    def votes(self) -> int:
        return sum(len(voter.cast) for voter in self.voters)
