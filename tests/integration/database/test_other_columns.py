"""Tables that others made: whatever the column `vote` holds, their writers go on as before under our triggers.

Covers rows and catalogue.
"""

from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest

from voting.clients import Clients
from voting.database.comparison import compare
from voting.database.rows import WORTH_COPYING
from voting.database.vote_table import VoteTable
from voting.vote import Vote

LONG = "x" * 300
MAKE_VAST = "SELECT string_agg(md5(number::text), '') FROM generate_series(1, 4000) AS number"


def make(database: psycopg.Connection, column: str) -> VoteTable:
    database.execute(f"CREATE TABLE votes (id text NOT NULL UNIQUE, vote {column})")
    return VoteTable(database)


def by_text(database: psycopg.Connection) -> dict[str, int]:
    found = database.execute("SELECT vote::text FROM votes WHERE vote::text IS NOT NULL").fetchall()
    return dict(Counter(choice[:255] for (choice,) in found))


def assert_right(database: psycopg.Connection, table: VoteTable) -> None:
    verification = table.verify(repair=False)
    assert verification.agrees
    assert dict(verification.kept) == by_text(database)


COLUMNS = {
    "text": ("text NOT NULL", [LONG, "a", "a " + LONG, "", "A"]),
    "text of another collation": ('text COLLATE "C" NOT NULL', ["a", "A", "é", LONG]),
    "text that may be missing": ("text", [None, "a", None, LONG]),
    "varchar": ("varchar(20)", ["a", None, "b" * 20]),
    "one character": ("char(1)", ["a", "b", " "]),
    "padded": ("char(300)", ["a", "a ", LONG]),
    "an enum": ("choice", ["a", "b", None]),
    "a number": ("integer", [1, 2, None]),
    "a truth": ("boolean", [True, False, None]),
    "a composite": ("pair", ["(a,1)", "(,)", "(b,)", None]),
    "json": ("json", ['{"a": 1}', "null", '{"a":1}']),
    "case-insensitive": ("nocase", ["a", "A", "b", "B", "é", "É"]),
    "a domain": ("short", ["a", "b"]),
    "an array": ("text[]", [["a"], [None], []]),
}
TYPES = """
CREATE TYPE choice AS ENUM ('a', 'b');
CREATE TYPE pair AS (choice text, weight int);
CREATE DOMAIN short AS varchar(1);
"""
# As the extension citext makes its type: one that takes two texts for the same.
NOCASE = """
CREATE TYPE nocase;
CREATE FUNCTION nocase_in(cstring) RETURNS nocase AS 'textin' LANGUAGE internal IMMUTABLE STRICT;
CREATE FUNCTION nocase_out(nocase) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT;
CREATE TYPE nocase (INPUT = nocase_in, OUTPUT = nocase_out, LIKE = text, CATEGORY = 'S', COLLATABLE = true);
CREATE CAST (nocase AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (nocase AS varchar) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (text AS nocase) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE FUNCTION nocase_cmp(nocase, nocase) RETURNS int LANGUAGE sql IMMUTABLE STRICT
    RETURN bttextcmp(lower($1::text), lower($2::text));
CREATE FUNCTION nocase_eq(nocase, nocase) RETURNS bool LANGUAGE sql IMMUTABLE STRICT RETURN nocase_cmp($1, $2) = 0;
CREATE FUNCTION nocase_lt(nocase, nocase) RETURNS bool LANGUAGE sql IMMUTABLE STRICT RETURN nocase_cmp($1, $2) < 0;
CREATE FUNCTION nocase_gt(nocase, nocase) RETURNS bool LANGUAGE sql IMMUTABLE STRICT RETURN nocase_cmp($1, $2) > 0;
CREATE OPERATOR = (FUNCTION = nocase_eq, LEFTARG = nocase, RIGHTARG = nocase, COMMUTATOR = =, MERGES);
CREATE OPERATOR < (FUNCTION = nocase_lt, LEFTARG = nocase, RIGHTARG = nocase, COMMUTATOR = >);
CREATE OPERATOR > (FUNCTION = nocase_gt, LEFTARG = nocase, RIGHTARG = nocase, COMMUTATOR = <);
CREATE OPERATOR CLASS nocase_ops DEFAULT FOR TYPE nocase USING btree
    AS OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >, FUNCTION 1 nocase_cmp(nocase, nocase);
"""


# What the extensions and ICU of Debian's server make of texts.
OF_DEBIAN = {name: found for name, found in COLUMNS.items() if name != "case-insensitive"} | {
    "citext": ("citext", ["a", "A", None, "b", "é", "É", LONG]),
    "a domain of citext": ("caseless_short", ["a", "A", "b"]),
    "a caseless collation": ("text COLLATE caseless", ["a", "A", None, "b", LONG]),
    "a caseless varchar": ("varchar(255) COLLATE caseless", ["a", "A", "b", "á"]),
    "an accentless collation": ("text COLLATE accentless", ["a", "A", "á", "b"]),
    "hstore": ("hstore", ["a=>1", "b=>NULL", None]),
}
MAKE_OF_DEBIAN = """
CREATE EXTENSION citext;
CREATE EXTENSION hstore;
CREATE DOMAIN caseless_short AS citext CHECK (length(VALUE) < 5);
CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION accentless (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
"""


@pytest.fixture
def debian(debian_url: str) -> Iterator[psycopg.Connection]:
    """A database of Debian's server without any table."""
    with psycopg.connect(debian_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS public CASCADE; DROP SCHEMA IF EXISTS voting CASCADE")
        connection.execute("CREATE SCHEMA public; SET search_path = public, voting")
        connection.execute(TYPES + MAKE_OF_DEBIAN)
        yield connection


@pytest.mark.parametrize("installed_first", [True, False], ids=["installed first", "written first"])
@pytest.mark.parametrize(("column", "choices"), COLUMNS.values(), ids=COLUMNS.keys())
def test_other_writers_go_on_and_are_counted(
    database: psycopg.Connection, column: str, choices: list[object], installed_first: bool
) -> None:
    database.execute(TYPES + NOCASE)
    write_and_count(database, column, choices, installed_first=installed_first)


@pytest.mark.parametrize("installed_first", [True, False], ids=["installed first", "written first"])
@pytest.mark.parametrize(("column", "choices"), OF_DEBIAN.values(), ids=OF_DEBIAN.keys())
def test_they_do_on_a_server_with_extensions_and_icu(
    debian: psycopg.Connection, column: str, choices: list[object], installed_first: bool
) -> None:
    write_and_count(debian, column, choices, installed_first=installed_first)


@pytest.mark.parametrize("kind", ["citext", "text COLLATE caseless", "varchar(255) COLLATE caseless", "char(255)"])
def test_a_batch_of_ours_is_stored_where_several_spellings_are_one_id(debian: psycopg.Connection, kind: str) -> None:
    debian.execute(f"CREATE TABLE votes (id {kind} NOT NULL UNIQUE, vote citext NOT NULL)")
    table = VoteTable(debian)
    table.install()
    token = table.take_fence()
    many = [Vote("a", f"voter{number}") for number in range(WORTH_COPYING)]
    for votes in ([Vote("a", "ann")], [Vote("b", "ann"), Vote("A", "bob")], many, [Vote("b", "bob"), *many]):
        table.record(votes, token)
        assert_right(debian, table)
    assert debian.execute("SELECT count(*) FROM votes WHERE vote = 'b'").fetchone() == (2,)
    assert sum(table.tally().counts.values()) == WORTH_COPYING + 2


def write_and_count(database: psycopg.Connection, column: str, choices: list[object], *, installed_first: bool) -> None:
    table = make(database, column)
    if installed_first:
        table.install()
    insert = "INSERT INTO votes VALUES (%s, %s)"
    for number, choice in enumerate(choices):
        database.execute(insert, (f"voter{number}", choice))
    table.install()
    assert_right(database, table)
    database.execute("INSERT INTO votes SELECT id || '!', vote FROM votes")
    assert_right(database, table)
    for number in range(len(choices)):
        database.execute("UPDATE votes SET vote = %s WHERE id = %s", (choices[number - 1], f"voter{number}"))
        assert_right(database, table)
    database.execute("DELETE FROM votes WHERE id LIKE '%!'")
    assert_right(database, table)
    compare(database)
    assert not table.verify(repair=True).repaired


def test_a_choice_that_no_index_takes_breaks_no_writer(database: psycopg.Connection) -> None:
    table = make(database, "text")
    table.install()
    (vast,) = database.execute(MAKE_VAST).fetchone()
    database.execute("INSERT INTO votes VALUES ('x', %s)", (vast,))
    assert table.tally().counts == {vast[:255]: 1}
    database.execute("UPDATE votes SET vote = 'a'")
    assert table.tally().counts == {"a": 1}


def test_a_generated_choice_is_counted(database: psycopg.Connection) -> None:
    table = make(database, "text GENERATED ALWAYS AS (left(id, 1)) STORED")
    table.install()
    database.execute("INSERT INTO votes VALUES ('a1'), ('b1'), ('a2')")
    database.execute("UPDATE votes SET id = 'b' || id WHERE id = 'a1'")
    assert table.tally().counts == {"a": 1, "b": 2}


def test_a_batch_of_ours_is_stored_beside_long_and_missing_choices(clients: Clients, database) -> None:
    make(database, "text")
    database.execute("INSERT INTO votes VALUES ('long', %s), ('none', NULL), ('x', %s)", (LONG, LONG))
    table = VoteTable(clients.postgres())
    table.install()
    assert table.record([Vote("a", "x"), Vote("b", "none"), Vote("b", "y")], table.take_fence()) == 3
    assert table.tally().counts == {"a": 1, "b": 2, LONG[:255]: 1}
    assert table.verify(repair=False).agrees


OLDER_FENCE = "ALTER TABLE vote_worker_fence DROP COLUMN compared_at, DROP COLUMN compared_shape"
OLDER_FUNCTION = """
CREATE OR REPLACE FUNCTION voting.vote_tally_apply() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = voting AS $$
BEGIN
    INSERT INTO vote_tally AS tally SELECT vote, count(*) FROM new_votes GROUP BY vote
    ON CONFLICT (vote) DO UPDATE SET votes = tally.votes + EXCLUDED.votes;
    RETURN NULL;
END $$
"""


def install_as_an_older_version_did(database: psycopg.Connection, table: VoteTable) -> None:
    table.install()
    database.execute(OLDER_FENCE)
    database.execute(OLDER_FUNCTION)


def test_an_older_installation_is_renewed_and_not_counted_again(database: psycopg.Connection) -> None:
    table = make(database, "text")
    install_as_an_older_version_did(database, table)
    database.execute("INSERT INTO votes VALUES ('x', 'a')")
    with pytest.raises(psycopg.errors.StringDataRightTruncation):
        database.execute("INSERT INTO votes VALUES ('y', %s)", (LONG,))
    database.execute("UPDATE vote_tally SET votes = 7")  # to see that it stays
    assert table.install() is True
    assert table.tally().counts == {"a": 7}
    database.execute("INSERT INTO votes VALUES ('y', %s)", (LONG,))
    assert table.tally().counts == {"a": 7, LONG[:255]: 1}
    assert compare(database) is True
    assert dict(table.tally().counts) == table.count()
    assert table.install() is False
