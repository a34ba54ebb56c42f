"""What is asked: a question, and the labels of its options."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from voting.vote import CHOICES

FEWEST_OPTIONS, MOST_OPTIONS = 2, len(CHOICES)
# Characters. With these limits a frame of results stays below the 32 KB of a WebSocket frame, even if JSON spells every
# character of the question and of 20 labels in 12 bytes.
LONGEST_QUESTION, LONGEST_LABEL = 200, 100
SEPARATOR = "|"


class Question(NamedTuple):
    """A question, and by the id of each option its label, in the order of display. The text may be empty."""

    text: str
    labels: Mapping[str, str]

    @classmethod
    def of(cls, text: str, labels: Sequence[str]) -> "Question":
        """The question with the options *labels*, whose ids are `a` to `t` in this order."""
        return cls(text, dict(zip(CHOICES, labels, strict=False)))

    @property
    def is_pair(self) -> bool:
        """Whether there are only two options."""
        return len(self.labels) == FEWEST_OPTIONS


def labels_of(text: str) -> list[str]:
    """The labels in *text*, without the spaces around them."""
    return [label.strip() for label in text.split(SEPARATOR)]


def labels_fault(labels: Sequence[str]) -> str | None:
    """What is wrong with *labels*, to follow the name of their setting; None if nothing is."""
    if not FEWEST_OPTIONS <= len(labels) <= MOST_OPTIONS:
        kind = "label" if len(labels) == 1 else "labels"
        return f"has {len(labels)} {kind}: it takes {FEWEST_OPTIONS} to {MOST_OPTIONS}, with {SEPARATOR} between them"
    for number, label in enumerate(labels, 1):
        if not label:
            return f"number {number} is empty"
        if len(label) > LONGEST_LABEL:
            return f"number {number} has {len(label)} characters: a label has at most {LONGEST_LABEL}"
        if label in labels[: number - 1]:
            return f"number {number} is the same as number {labels.index(label) + 1}: {label}"
    return None


def named(choices: Sequence[str]) -> str:
    """The ids *choices* in words: "a and b", or "a to e"."""
    return f"{choices[0]} {'and' if len(choices) == FEWEST_OPTIONS else 'to'} {choices[-1]}"
