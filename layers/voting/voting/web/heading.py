"""What both pages say of the question: their heading, their title and their layout."""

from collections.abc import Iterable, Mapping

from voting.question import Question
from voting.web.page import type_size

ONE: tuple[Mapping[str, object], ...] = ({},)


def heading(question: Question) -> dict[str, Iterable[Mapping[str, object]]]:
    """The parts of a page that are its heading: `asked`, else `pair` for two options, else `several`."""
    if question.text:
        return {"asked": [{"question": question.text}]}
    if question.is_pair:
        return {"pair": [{f"label_{choice}": label for choice, label in question.labels.items()}]}
    return {"several": ONE}


def title(question: Question, several: str) -> str:
    """The heading in words; *several* is that for more than two options without a question."""
    if question.text:
        return question.text
    return f"{' or '.join(question.labels.values())}?" if question.is_pair else several


def layout(question: Question) -> str:
    """The classes of the style: two large options or a list, and the type size of the labels."""
    return f"{'pair' if question.is_pair else 'list'} {type_size(question.labels.values())}"
