"""The tally, its triggers and the fence in the database: whether they are there, and how they come there.

schema.sql beside this file creates them.
"""

from importlib.resources import files

import psycopg

from voting.verification import recount

# Made by schema.sql, all or nothing: whether the tally follows every write, and whether the newest script made it.
INSTALLED = """
SELECT to_regclass('vote_tally') IS NOT NULL
           AND to_regclass('vote_tally_version') IS NOT NULL
           AND to_regclass('vote_worker_fence') IS NOT NULL
           AND (SELECT count(*) = 5 FROM pg_trigger WHERE tgrelid = to_regclass('votes') AND tgenabled IN ('O', 'A')
                AND tgname IN ('vote_tally_before', 'vote_tally_insert', 'vote_tally_update', 'vote_tally_delete',
                               'vote_tally_truncate')),
       EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('vote_worker_fence')
               AND attname = 'compared_shape')
"""
WHOLE = "SELECT EXISTS (SELECT FROM vote_tally_version) AND EXISTS (SELECT FROM vote_worker_fence)"


def install(connection: psycopg.Connection) -> bool:
    """Create what is missing, disabled or of an older version, and return whether anything was.

    Writers wait while an existing table is counted, which it is where the tally did not follow them until now.

    Raises:
        psycopg.errors.InsufficientPrivilege: the login may not; nothing was changed.
    """
    follows, is_newest = _installed(connection)
    if follows and is_newest:
        return False
    try:
        _create(connection, counted=not follows)
    except (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
        _create(connection, counted=True)  # the old worker created the table at the same moment: now it is there
    return True


def follows(connection: psycopg.Connection) -> bool:
    """Whether the tally follows every write, be it installed by this version or an older one."""
    return _installed(connection)[0]


def _installed(connection: psycopg.Connection) -> tuple[bool, bool]:
    """Whether the tally follows every write, and whether this version made it."""
    follows, is_newest = connection.execute(INSTALLED).fetchone() or (False, False)
    if follows:  # a TRUNCATE of all tables takes the rows that the version and the fence are kept in
        follows = connection.execute(WHOLE).fetchone() == (True,)
    return follows, is_newest


def _create(connection: psycopg.Connection, *, counted: bool) -> None:
    script = files("voting").joinpath("schema.sql").read_text()
    with connection.transaction():
        connection.execute(script)
        if counted:
            recount(connection)
