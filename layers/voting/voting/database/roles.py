"""What a session may do in the database: group roles with the rights of one job, and time limits; set after login."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, LiteralString

from voting.database.location import SAFE_PATH, locate, run

if TYPE_CHECKING:  # a function that never asks the database must not pay for its import
    import psycopg


class Role(StrEnum):
    """Roles that cannot log in. A login that is a member sets one, and gives up its other rights."""

    READER = "voting_reader"
    WORKER = "voting_worker"
    OPERATOR = "voting_operator"


# SELECT ... FOR UPDATE, which holds the fence and the tally, needs UPDATE.
RIGHTS: Mapping[Role, Mapping[LiteralString, tuple[LiteralString, ...]]] = {
    Role.READER: {"vote_tally": ("SELECT",), "vote_tally_version": ("SELECT",)},
    Role.WORKER: {
        "votes": ("SELECT", "INSERT", "UPDATE"),
        "vote_tally": ("SELECT",),
        "vote_tally_version": ("SELECT", "UPDATE"),
        "vote_worker_fence": ("SELECT", "UPDATE"),
    },
    Role.OPERATOR: {
        "votes": ("SELECT",),
        "vote_tally": ("SELECT", "INSERT", "DELETE"),
        "vote_tally_version": ("SELECT", "UPDATE"),
        "vote_worker_fence": ("SELECT", "UPDATE"),
    },
}

COMPLETE = """
SELECT bool_and(coalesce(
    has_table_privilege(pg_roles.oid, pg_class.oid, privilege)
        AND has_schema_privilege(pg_roles.oid, relnamespace, 'USAGE'),
    false
))
FROM unnest(%s::text[], %s::text[], %s::text[]) AS needed (role, relation, privilege)
LEFT JOIN pg_roles ON rolname = role
LEFT JOIN pg_class ON pg_class.oid = to_regclass(relation)::oid
"""

# RDS's master user may create roles but is not a superuser. Or a database administrator may have created them.
MAY_GRANT = """
SELECT rolsuper OR pg_has_role(session_user, relowner, 'USAGE')
       AND (rolcreaterole OR (SELECT bool_and(to_regrole(role) IS NOT NULL) FROM unnest(%s::text[]) AS role))
FROM pg_roles, pg_class WHERE rolname = session_user AND pg_class.oid = to_regclass({votes_name})::oid
"""

# Two databases of one server share their roles, but not this lock.
ALONE = f"SET LOCAL ROLE NONE; SET LOCAL {SAFE_PATH}; SELECT pg_advisory_xact_lock(hashtext('voting schema'))"


def grant(connection: "psycopg.Connection") -> bool:
    """Create the roles, and grant what they lack; return whether anything was done.

    Nothing is done if the login may neither create roles nor grant rights on the table. Then its sessions keep all
    their rights, unless an administrator has granted those of RIGHTS.

    Raises:
        psycopg.errors.InsufficientPrivilege: the server refused nevertheless; nothing was changed.
    """
    if _complete(connection, Role) or run(connection, MAY_GRANT, list(Role)).fetchone() != (True,):
        return False
    with connection.transaction():
        connection.execute(ALONE)
        for role in Role:
            _create(connection, role)
            _grant(connection, role)
    return True


def create(connection: "psycopg.Connection") -> None:
    """Create the missing roles, without any rights: their tables may not exist yet.

    Raises:
        psycopg.errors.InsufficientPrivilege: the login may not create roles.
    """
    for role in Role:
        _create(connection, role)


def settings_of(connection: "psycopg.Connection", role: Role) -> tuple[str] | None:
    """Return the setting that leaves only the rights of *role*, as SET takes it; None if the role cannot be set.

    It cannot be set before the first run of the worker, nor by a login that may not create roles and is not a member.
    Changes nothing. Call it in a transaction.
    """
    import psycopg  # noqa: PLC0415

    if not _complete(connection, [role]):
        return None
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL ROLE {role.value}")
    except psycopg.errors.InsufficientPrivilege:
        return None
    return (f"role = {role.value}",)


def _complete(connection: "psycopg.Connection", roles: Iterable[Role]) -> bool:
    name = locate(connection).name
    needed = [
        (role, name(table), right) for role in roles for table, rights in RIGHTS[role].items() for right in rights
    ]
    return connection.execute(COMPLETE, [list(column) for column in zip(*needed, strict=True)]).fetchone() == (True,)


def _create(connection: "psycopg.Connection", role: Role) -> None:
    import psycopg  # noqa: PLC0415

    if connection.execute("SELECT to_regrole(%s) IS NULL", (role,)).fetchone() != (True,):
        return
    # The first run of another database's worker may be creating it at this moment.
    with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation), connection.transaction():
        connection.execute(f"CREATE ROLE {role.value} NOLOGIN")


def _grant(connection: "psycopg.Connection", role: Role) -> None:
    import psycopg  # noqa: PLC0415
    from psycopg import sql  # noqa: PLC0415

    name = sql.Identifier(role)
    location = locate(connection)
    for schema in (location.schema, location.ours):
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), name))
    for table, rights in RIGHTS[role].items():
        relation = sql.Identifier(location.schema if table == "votes" else location.ours, table)
        statement = sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(", ".join(rights)), relation, name)
        connection.execute(statement)
    # If another role created it, that one decides about its members.
    with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
