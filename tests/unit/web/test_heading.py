from voting.question import Question
from voting.web.heading import heading, layout, title

PAIR = Question.of("", ["Cats", "Dogs"])
SEVERAL = Question.of("", ["Thai", "Pizza", "Salad that is long enough"])


def test_two_options_are_their_own_question() -> None:
    assert heading(PAIR) == {"pair": [{"label_a": "Cats", "label_b": "Dogs"}]}
    assert title(PAIR, "Results") == "Cats or Dogs?"
    assert layout(PAIR) == "pair short"


def test_more_options_are_not() -> None:
    assert list(heading(SEVERAL)) == ["several"]
    assert title(SEVERAL, "Results") == "Results"
    assert layout(SEVERAL) == "list long"


def test_a_question_is_the_heading_of_both() -> None:
    for labels in (PAIR.labels, SEVERAL.labels):
        question = Question("Lunch?", labels)
        assert heading(question) == {"asked": [{"question": "Lunch?"}]}
        assert title(question, "Results") == "Lunch?"
