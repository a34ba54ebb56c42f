from hypothesis import given
from hypothesis import strategies as st

from voting.question import LONGEST_LABEL, MOST_OPTIONS, SEPARATOR, Question, labels_fault, labels_of, named

LABELS = st.text(st.characters(exclude_characters=SEPARATOR), max_size=LONGEST_LABEL + 2).map(str.strip)


@given(st.lists(LABELS, max_size=MOST_OPTIONS + 2))
def test_labels_are_taken_if_and_only_if_each_is_one_and_no_other(labels: list[str]) -> None:
    is_right = (
        2 <= len(labels) <= 20 and len(set(labels)) == len(labels) and all(0 < len(each) <= 100 for each in labels)
    )
    assert (labels_fault(labels) is None) is is_right


@given(st.lists(LABELS, min_size=1, max_size=MOST_OPTIONS), st.sampled_from(["|", " |", "| ", "\t|\n"]))
def test_what_was_joined_is_taken_apart(labels: list[str], separator: str) -> None:
    assert labels_of(separator.join(labels)) == labels


def test_ids_follow_the_order_of_the_labels() -> None:
    question = Question.of("Lunch?", ["Thai", "Pizza", "Salad"])
    assert dict(question.labels) == {"a": "Thai", "b": "Pizza", "c": "Salad"}
    assert not question.is_pair
    assert Question.of("", ["Cats", "Dogs"]).is_pair


def test_ids_in_words() -> None:
    assert named("ab") == "a and b"
    assert named(tuple("abc")) == "a to c"
