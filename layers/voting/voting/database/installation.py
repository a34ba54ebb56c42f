"""Installs the tally, its triggers and the fence in the database, and checks whether they are there.

schema.sql in this folder creates them; upgrade.sql moves those of an earlier release.
"""

from importlib.resources import files
from typing import LiteralString

import psycopg

from voting.database.location import SAFE_PATH, run
from voting.database.ownership import earlier_owner, see_to_ownership
from voting.database.verification import recount

# Whether the tally follows every write, and whether the newest schema.sql created it, all or nothing. An earlier
# release that was started again may have replaced our triggers with its own.
INSTALLED = """
SELECT to_regclass({ours_name} || '.vote_tally') IS NOT NULL
           AND to_regclass({ours_name} || '.vote_tally_version') IS NOT NULL
           AND to_regclass({ours_name} || '.vote_worker_fence') IS NOT NULL
           AND (SELECT count(*) = 5 FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
                WHERE tgrelid = to_regclass({votes_name})::oid AND tgenabled IN ('O', 'A')
                AND pronamespace = to_regnamespace({ours_name})::oid),
       EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass({ours_name} || '.vote_worker_fence')::oid
               AND attname = 'compared_shape')
"""
WHOLE = "SELECT EXISTS (SELECT FROM {ours}.vote_tally_version) AND EXISTS (SELECT FROM {ours}.vote_worker_fence)"

# Whether there is a tally of an earlier release, in the schema of `votes`, and whether it follows every write.
EARLIER = """
SELECT count(*) > 0, count(*) = 3 AND (
    SELECT count(*) = 5 FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE tgrelid = to_regclass({votes_name})::oid AND tgenabled IN ('O', 'A')
    AND pronamespace = to_regnamespace({there_name})::oid
)
FROM pg_class WHERE relnamespace = to_regnamespace({there_name})::oid AND relkind = 'r'
AND relname IN ('vote_tally', 'vote_tally_version', 'vote_worker_fence')
"""
EARLIER_WHOLE = (
    "SELECT EXISTS (SELECT FROM {there}.vote_tally_version) AND EXISTS (SELECT FROM {there}.vote_worker_fence)"
)

# Only the login may create anything, whichever role its session has set. Counting a large table takes longer than
# other statements may; a run has 120 s, and still ends in time. Of two first runs at once, the second waits and then
# finds everything there.
BEGIN: LiteralString = f"""
SET LOCAL ROLE NONE;
SET LOCAL {SAFE_PATH};
SET LOCAL statement_timeout = '90s';
SELECT pg_advisory_xact_lock(hashtext('voting schema'));
"""
MAY_CREATE = """
SELECT to_regnamespace({ours_name}) IS NOT NULL
           OR has_database_privilege(current_user, current_database()::text, 'CREATE'),
       quote_ident(current_database()), quote_ident(current_user), quote_ident((parse_ident({ours_name}))[1])
"""
# Not IF NOT EXISTS, which requires the right on the database even if an administrator has created the schema.
CREATE_SCHEMA = """
DO $$ BEGIN IF to_regnamespace({ours_name}) IS NULL THEN CREATE SCHEMA {ours}; END IF; END $$
"""


class MayNotInstall(psycopg.errors.InsufficientPrivilege):
    """The login lacks a right that only an administrator can grant; nothing was changed."""


def install(connection: psycopg.Connection) -> bool:
    """Create what is missing, disabled or of an older version, and return whether anything was.

    If the tally did not follow all writes until now, the rows are counted, and writers wait.

    Raises:
        NotOurs: objects with our names belong to another role; nothing was changed.
        psycopg.errors.InsufficientPrivilege: the login may not; nothing was changed.
    """
    see_to_ownership(connection, everywhere=False)
    is_following, is_newest = _installed(connection)
    if is_following and is_newest:
        return False
    try:
        _create(connection, counted=not is_following)
    except (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
        _create(connection, counted=True)  # the old worker created the table at the same moment, so it exists now
    return True


def follows(connection: psycopg.Connection) -> bool:
    """Whether the tally follows every write, installed by this version or an older one with the same schema.

    Raises:
        NotOurs: objects with our names belong to another role.
    """
    see_to_ownership(connection, everywhere=False)
    return _installed(connection)[0]


def _installed(connection: psycopg.Connection) -> tuple[bool, bool]:
    """Whether the tally follows every write, and whether this version created it."""
    is_following, is_newest = run(connection, INSTALLED).fetchone() or (False, False)
    if is_following:  # a TRUNCATE of all tables removes the rows of the version and the fence
        is_following = run(connection, WHOLE).fetchone() == (True,)
    return is_following, is_newest


def _create(connection: psycopg.Connection, *, counted: bool) -> None:
    with connection.transaction():
        connection.execute(BEGIN)
        see_to_ownership(connection, everywhere=True)
        if owner := earlier_owner(connection):
            raise MayNotInstall(f"tables of an earlier release belong to {owner}, and only that login may move them")
        _see_to_schema(connection)
        is_there, is_following = run(connection, EARLIER).fetchone() or (False, False)
        if is_there:
            counted = not (is_following and run(connection, EARLIER_WHOLE).fetchone() == (True,))
            run(connection, _script("upgrade.sql"))
        run(connection, _script("schema.sql"))
        if counted:
            recount(connection)


def _see_to_schema(connection: psycopg.Connection) -> None:
    may_create, database, login, schema = run(connection, MAY_CREATE).fetchone() or (False, "", "", "")
    if not may_create:
        raise MayNotInstall(
            f"the login {login} may not create the schema {schema}: CREATE SCHEMA {schema} AUTHORIZATION {login}, or "
            f"GRANT CREATE ON DATABASE {database} to it"
        )
    run(connection, CREATE_SCHEMA)


def _script(name: str) -> str:
    return files("voting.database").joinpath(name).read_text()
