"""Where the table `votes` is, and our own schema next to it, in which no other role may create anything.

The search path of our sessions contains no schema in which other roles may create (session.py): an operator or a
function of such a role would be preferred if it fits our types better than the built-in one, and run with our rights.
So statements name `votes` with its schema, which is looked up once per connection, by the search path of the login.
"""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:  # a function that never asks the database must not pay for its import
    import psycopg

SAFE_PATH = "search_path = pg_catalog, pg_temp"
LONGEST_NAME = 63  # bytes of a name in Postgres

# As at login: "$user" in a search path means the current role.
AS_AT_LOGIN = "SET LOCAL ROLE NONE; SET LOCAL search_path TO DEFAULT"
# Run with that path, and therefore with all names qualified.
FIND = """
SELECT coalesce(
    (SELECT pg_namespace.nspname FROM pg_catalog.pg_class
     JOIN pg_catalog.pg_namespace ON pg_namespace.oid OPERATOR(pg_catalog.=) pg_class.relnamespace
     WHERE pg_class.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('votes'::pg_catalog.text)::pg_catalog.oid),
    pg_catalog.current_schema(), 'public'::pg_catalog.name
), pg_catalog.to_regclass('votes'::pg_catalog.text) IS NOT NULL, pg_catalog.current_schemas(false)::pg_catalog.text[]
"""


class Location(NamedTuple):
    """The schema of `votes`, and whether the table exists; if not, this is where it would be created."""

    schema: str
    is_there: bool = True
    path: tuple[str, ...] = ()  # the schemas in the search path of the login

    @property
    def ours(self) -> str:
        """The schema of our tables and functions: one for each table `votes` of a database."""
        name = "voting" if self.schema == "public" else f"voting_{self.schema}"
        if len(name.encode()) > LONGEST_NAME:
            return f"voting_{sha256(self.schema.encode()).hexdigest()[:32]}"
        return name

    def name(self, table: str) -> str:
        """Return the name of `votes` or of a table of ours, as `to_regclass` takes it."""
        return f"{_quoted(self.schema if table == 'votes' else self.ours)}.{table}"

    def fill(self, statement: LiteralString) -> bytes:
        """Return *statement* with the names filled in.

        `{votes}` is the table, `{there}` its schema and `{ours}` our schema. `{votes_name}`, `{there_name}` and
        `{ours_name}` are the same as strings, as `to_regclass` and `to_regnamespace` take them.
        """
        return _fill(self, statement)


@lru_cache(maxsize=200)
def _fill(location: Location, statement: str) -> bytes:
    there, ours = location.schema, location.ours
    names = {
        "{votes}": f"{_identifier(there)}.votes",
        "{there}": _identifier(there),
        "{ours}": _identifier(ours),
        "{votes_name}": _literal(f"{_quoted(there)}.votes"),
        "{there_name}": _literal(_quoted(there)),
        "{ours_name}": _literal(_quoted(ours)),
    }
    for placeholder, name in names.items():
        statement = statement.replace(placeholder, name)
    return statement.encode()


def path_of(schemas: Iterable[str]) -> str:
    """Return a search path of *schemas* after the built-in one, as SET takes it."""
    return f"search_path = {', '.join(['pg_catalog', *map(_quoted, schemas), 'pg_temp'])}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# A percent sign would be read as a placeholder.
def _identifier(name: str) -> str:
    if "%" not in name:
        return _quoted(name)
    return "U&" + _quoted(name.replace("\\", "\\\\").replace("%", "\\0025"))


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("%", "\\x25")
    return f"E'{escaped}'"


_KNOWN: "WeakKeyDictionary[psycopg.Connection, Location]" = WeakKeyDictionary()


def locate(connection: "psycopg.Connection") -> Location:
    """Return where `votes` is for *connection*; looked up again until the table exists."""
    known = _KNOWN.get(connection)
    if known is None:
        known = _find(connection)
        if known.is_there:
            _KNOWN[connection] = known
    return known


def _find(connection: "psycopg.Connection") -> Location:
    with connection.transaction(force_rollback=True):
        connection.execute(AS_AT_LOGIN)
        ((schema, is_there, path),) = connection.execute(FIND).fetchall()
    return Location(schema, is_there, tuple(path))


def run(connection: "psycopg.Connection", statement: LiteralString, *parameters: object) -> "psycopg.Cursor[Any]":
    """Execute *statement* with the names filled in."""
    return connection.execute(locate(connection).fill(statement), parameters or None)
