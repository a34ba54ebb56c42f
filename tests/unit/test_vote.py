import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voting.vote import CHOICES, InvalidVote, Vote, parse


def test_the_message_is_the_container_apps_byte_for_byte() -> None:
    assert Vote("a", "abc123").encode() == b'{"vote": "a", "voter_id": "abc123"}'


@given(st.sampled_from(CHOICES), st.text(alphabet='a0"\\\n/é\x7f') | st.text())
def test_the_message_is_what_json_writes_whatever_the_id(choice: str, voter_id: str) -> None:
    assert Vote(choice, voter_id).encode() == json.dumps({"vote": choice, "voter_id": voter_id}).encode()


@pytest.mark.parametrize(
    "message",
    [
        b'{"voter_id":"abc123","vote":"b"}',
        b' { "vote" : "b" , "voter_id" : "abc123" } ',
        b'{"vote": "b", "voter_id": "abc123", "at": [1, {}]}',
        b'{"vote": "\\u0062", "voter_id": "abc123"}',
    ],
)
def test_key_order_spacing_and_further_keys_do_not_matter(message: bytes) -> None:
    assert parse(message) == Vote("b", "abc123")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "not_json"),
        (b"junk", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"vote": "a", "voter_id": "x"', "not_json"),
        (b'{"vote": ' + b"9" * 5000 + b"}", "not_json"),
        (b"\xff\xfe", "not_utf8"),
        (b"null", "not_an_object"),
        (b'["a", "x"]', "not_an_object"),
        (b'{"vote": "a"}', "missing_field"),
        (b'{"voter_id": "x"}', "missing_field"),
        (b'{"vote": 1, "voter_id": "x"}', "wrong_type"),
        (b'{"vote": "a", "voter_id": null}', "wrong_type"),
        (b'{"vote": "A", "voter_id": "x"}', "unknown_choice"),
        (b'{"vote": "c", "voter_id": "x"}', "unknown_choice"),
        (b'{"vote": "a", "voter_id": ""}', "empty_id"),
        (b'{"vote": "a", "voter_id": "' + b"x" * 256 + b'"}', "id_too_long"),
        (b'{"vote": "a", "voter_id": "x\\u0000"}', "invalid_id"),
        (b'{"vote": "a", "voter_id": "\\ud800"}', "invalid_id"),
    ],
)
def test_what_is_no_vote_has_a_reason(message: bytes, reason: str) -> None:
    with pytest.raises(InvalidVote) as caught:
        parse(message, ("a", "b"))
    assert caught.value.reason == reason


def test_255_characters_are_counted_as_characters() -> None:
    voter = "ü" * 255
    assert parse(json.dumps({"vote": "a", "voter_id": voter}).encode()).voter_id == voter


@given(st.integers(2, 20), st.sampled_from(CHOICES), st.sampled_from([None, (",", ":")]))
def test_the_ids_from_a_to_t_are_votes_as_far_as_they_are_options(
    count: int, choice: str, spaced: tuple[str, str] | None
) -> None:
    message = json.dumps({"vote": choice, "voter_id": "x"}, separators=spaced).encode()
    if choice in CHOICES[:count]:
        assert parse(message, CHOICES[:count]) == Vote(choice, "x")
    else:
        with pytest.raises(InvalidVote, match="unknown_choice"):
            parse(message, CHOICES[:count])


def test_what_follows_t_is_never_an_option() -> None:
    assert len(CHOICES) == 20
    assert CHOICES[-1] == "t"
    for choice in ("u", "ab", "", "A"):
        with pytest.raises(InvalidVote, match="unknown_choice"):
            parse(Vote(choice, "x").encode())


@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_any_bytes_are_a_vote_or_have_a_reason(message: bytes) -> None:
    try:
        vote = parse(message)
    except InvalidVote as error:
        assert error.reason.replace("_", "").isalnum()
    else:
        assert parse(vote.encode()) == vote
