"""Strategies for what producers push, and what anybody else who reaches the list may push."""

import json

from hypothesis import strategies as st

IDS = "abcdefghijklmnopqrst"
CHOICES = st.sampled_from("ab") | st.sampled_from(IDS)
OPTIONS = st.integers(2, len(IDS)).map(lambda count: IDS[:count])  # the ids of a question's options
FEW_VOTERS = st.sampled_from([f"voter-{number}" for number in range(6)])

# As producers may write it: keys in any order, any spacing, further keys.
SPELLINGS = st.sampled_from(
    [
        '{{"vote": {choice}, "voter_id": {voter}}}',
        '{{"voter_id": {voter}, "vote": {choice}}}',
        '{{"voter_id":{voter},"vote":{choice}}}',
        ' {{ "vote" :{choice} ,\n"voter_id" :\t{voter} }}\r\n',
        '{{"at": [1, {{"vote": "b"}}], "voter_id": {voter}, "vote": {choice}}}',
        '{{"vote": "c", "vote": {choice}, "voter_id": {voter}}}',  # of two, the last counts, as in every old worker
    ]
)


def settings_of(options: str) -> dict[str, str]:
    """The settings of a deployment with the ids *options*."""
    return {"OPTIONS": "|".join(f"Option {choice}" for choice in options)}


def spelled(spelling: str, choice: object, voter: object) -> bytes:
    return spelling.format(choice=json.dumps(choice), voter=json.dumps(voter)).encode()


def votes(voters: st.SearchStrategy[str] = FEW_VOTERS) -> st.SearchStrategy[bytes]:
    return st.builds(spelled, SPELLINGS, CHOICES, voters)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ANY_TEXT = st.text(st.characters(codec=None))  # NUL and lone surrogates included

# Nearly votes: each field is missing, of another type, too long, or of characters that no database takes.
NEARLY = st.builds(
    spelled,
    SPELLINGS,
    CHOICES | ANY_TEXT | JSON,
    ANY_TEXT | JSON | st.integers(250, 260).map(lambda length: "ü" * length),
)
MUTATED = st.builds(
    lambda message, at, instead: message[: at % len(message)] + instead + message[at % len(message) + 1 :],
    votes(),
    st.integers(0, 200),
    st.binary(max_size=3),
)
JUNK = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    NEARLY,
    MUTATED,
    st.integers(1, 20_000).map(lambda depth: b"[" * depth),
    st.integers(4000, 6000).map(lambda digits: b'{"vote": "a", "voter_id": %b}' % (b"9" * digits)),
    st.integers(65_530, 65_540).map(lambda length: "é".encode() * (length // 2) + b"\xff"),
)
ANYTHING = votes() | JUNK
