import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voting.question import LONGEST_LABEL, LONGEST_QUESTION, MOST_OPTIONS, Question
from voting.results.results import PING_S, Results, percentages
from voting.tally import Tally
from voting.vote import CHOICES

QUESTION = Question.of("", ["Cats", "Dogs"])


@pytest.mark.parametrize(
    ("counts", "percent"),
    [
        ([0, 0], [0.0, 0.0]),
        ([1, 0], [100.0, 0.0]),
        ([1, 2], [33.3, 66.7]),
        ([1, 1, 1], [33.4, 33.3, 33.3]),
        ([5, 4, 5], [35.7, 28.6, 35.7]),
        ([1, 10_000_000], [0.0, 100.0]),
    ],
)
def test_percentages_go_by_the_largest_remainder(counts: list[int], percent: list[float]) -> None:
    assert percentages(counts) == percent


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_percentages_sum_to_100_and_are_off_by_less_than_a_tenth(counts: list[int]) -> None:
    percent = percentages(counts)
    total = sum(counts)
    assert round(sum(percent) * 10) == (1000 if total else 0)
    if total:
        assert all(abs(p - 100 * n / total) < 0.1 for p, n in zip(percent, counts, strict=True))


def test_the_document_has_one_line_an_option_in_the_order_of_the_labels() -> None:
    results = Results.of(Tally(17, {"b": 2, "a": 1}), QUESTION)
    assert results.document() == {
        "version": 17,
        "total": 3,
        "options": [
            {"id": "a", "label": "Cats", "votes": 1, "percent": 33.3},
            {"id": "b", "label": "Dogs", "votes": 2, "percent": 66.7},
        ],
    }


@given(st.integers(2, 20), st.dictionaries(st.sampled_from(CHOICES), st.integers(0, 10**6)))
def test_any_number_of_options_adds_up(count: int, counts: dict[str, int]) -> None:
    document = Results.of(Tally(1, counts), Question.of("", [f"Option {n}" for n in range(count)])).document()
    options = document["options"]
    assert [option["id"] for option in options] == list(CHOICES[:count])
    assert [option["votes"] for option in options] == [counts.get(choice, 0) for choice in CHOICES[:count]]
    assert document["total"] == sum(option["votes"] for option in options)
    assert round(sum(option["percent"] for option in options) * 10) == (1000 if document["total"] else 0)


def test_a_question_stands_in_document_and_frame_if_there_is_one() -> None:
    asked = Results.of(Tally(1, {}), Question.of("Lunch?", ["Thai", "Pizza", "Salad"]))
    assert asked.document()["question"] == json.loads(asked.frame())["question"] == "Lunch?"
    assert "question" not in Results.of(Tally(1, {}), QUESTION).document()


def test_without_a_question_and_with_two_options_a_frame_is_that_of_earlier_releases_to_the_byte() -> None:
    assert Results.of(Tally(17, {"b": 2, "a": 1}), QUESTION, 6).frame() == (
        b'{"type":"results","version":17,"total":3,"options":[{"id":"a","label":"Cats","votes":1,"percent":33.3},'
        b'{"id":"b","label":"Dogs","votes":2,"percent":66.7}],"stale_seconds":6,"ping_s":20}'
    )


@pytest.mark.parametrize("character", ["x", "é", "🐈", "\u202e", '"', "<", "\x01"])
def test_the_longest_question_and_labels_fit_into_a_frame(character: str) -> None:
    labels = [character * LONGEST_LABEL] * MOST_OPTIONS
    question = Question.of(character * LONGEST_QUESTION, labels)
    counts = dict.fromkeys(CHOICES, 10**12)
    assert len(Results.of(Tally(10**13, counts), question, 10**9, 600).frame()) < 32 * 1024


def test_a_choice_that_is_no_option_is_left_out_of_every_figure() -> None:
    results = Results.of(Tally(1, {"a": 1, "c": 7}), QUESTION)
    assert results.total == 1
    assert [option.percent for option in results.options] == [100.0, 0.0]


def test_stale_seconds_stand_only_where_the_figures_are_old() -> None:
    assert "stale_seconds" not in Results.of(Tally(1, {}), QUESTION).document()
    assert Results.of(Tally(1, {}), QUESTION, stale_seconds=12).document()["stale_seconds"] == 12


def test_the_frame_is_the_document_with_its_type() -> None:
    results = Results.of(Tally(2, {"a": 1}), QUESTION)
    assert json.loads(results.frame()) == {"type": "results", **results.document(), "ping_s": PING_S}
