"""What errors of the stores are taken for, and what is said of them."""

import psycopg
import pytest
from psycopg import errors
from redis.exceptions import ConnectionError as RedisConnectionError

from voting.database.fault import Fault, Kind, explain
from voting.queue.vote_queue import NotAList


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *(
            (code, Kind.WAIT)
            for code in ("08006", "08P01", "25006", "25P02", "25P04", "53100", "53300", "55006", "55P03")
        ),
        *((code, Kind.WAIT) for code in ("57014", "57P01", "57P03", "57P05", "58030", "40002", "40003")),
        *((code, Kind.RETRY) for code in ("40001", "40P01")),
        *((code, Kind.RENEW) for code in ("42P01", "42501", "P0002")),
        *(
            (code, Kind.REFUSE)
            for code in ("21000", "22001", "22P05", "23502", "23514", "55000", "42P10", "P0001", "XX000")
        ),
    ],
)
def test_a_sqlstate_says_what_to_do(code: str, kind: Kind) -> None:
    assert Fault.of(errors.lookup(code)("text")).kind is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("the connection is lost"), Kind.WAIT),
        (psycopg.InterfaceError("the connection is closed"), Kind.WAIT),
        (psycopg.DatabaseError("lost synchronization with server"), Kind.WAIT),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL"), Kind.REFUSE),
        (psycopg.ProgrammingError("cannot adapt"), Kind.REFUSE),
        (UnicodeEncodeError("latin-1", "€", 0, 1, "ordinal not in range"), Kind.REFUSE),
        (TypeError("bytes"), Kind.REFUSE),
        (MemoryError(), Kind.REFUSE),
    ],
)
def test_an_error_without_a_sqlstate_is_told_by_its_class(error: Exception, kind: Kind) -> None:
    assert Fault.of(error).kind is kind


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("55000", "ALTER TABLE votes REPLICA IDENTITY USING INDEX idx_votes_id"),
        ("42501", "GRANT"),
        ("42P10", "votectl ops indexes"),
        ("22P05", "UTF8"),
        ("25006", "writer"),
    ],
)
def test_known_causes_say_what_to_do(code: str, says: str) -> None:
    sentence = Fault.of(errors.lookup(code)("secret")).sentence()
    assert says in sentence
    assert sentence.startswith(code)


def test_no_text_of_the_server_is_repeated() -> None:
    for code in ("22P02", "23505", "23514", "P0001", "XX000", "22P05"):
        assert "secret" not in explain(errors.lookup(code)("secret\nDETAIL: secret"))
    for error in (TypeError("secret"), UnicodeEncodeError("latin-1", "secret", 0, 1, "secret")):
        assert explain(error) == type(error).__name__


def test_what_is_no_refusal_of_a_vote_is_explained_as_it_is() -> None:
    assert explain(RedisConnectionError("of 10.0.0.1")) == "the connection broke"
    assert explain(psycopg.OperationalError("Connection refused by 10.0.0.1")).startswith("the connection was refused")
    assert "not a list" in explain(NotAList())
