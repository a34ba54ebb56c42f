"""The logins of the functions: each is a member of the roles that its job needs, and has no other rights.

A trigger of the owner of `votes` runs as the writer, and may return from the role to the login (RESET ROLE). So the
login itself must have no more rights than the job needs.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from psycopg import sql

from voting.database.location import locate, run
from voting.database.roles import Role, create

# The powers that RESET ROLE would expose, in words, by login. Groups are all roles that it could set, directly or not.
# Our own roles are not powers, nor is the owner of `votes`, whose code it is.
POWERS = """
WITH RECURSIVE logins AS (
    SELECT * FROM pg_catalog.pg_roles WHERE rolname = ANY(%s::name[])
), owner AS (
    SELECT relowner FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({votes_name})::oid
), groups (login, role) AS (
    SELECT logins.oid, roleid FROM logins JOIN pg_catalog.pg_auth_members ON member = logins.oid
    UNION
    SELECT login, roleid FROM groups JOIN pg_catalog.pg_auth_members ON member = role
    WHERE role NOT IN (SELECT relowner FROM owner)
), powers (login, power) AS (
    SELECT oid, 'is a superuser' FROM logins WHERE rolsuper
    UNION ALL SELECT oid, 'may create roles' FROM logins WHERE rolcreaterole
    UNION ALL SELECT oid, 'may create databases' FROM logins WHERE rolcreatedb
    UNION ALL SELECT oid, 'may replicate' FROM logins WHERE rolreplication
    UNION ALL SELECT oid, 'passes row-level security' FROM logins WHERE rolbypassrls
    UNION ALL SELECT login, 'belongs to ' || rolname FROM groups JOIN pg_catalog.pg_roles ON pg_roles.oid = role
        WHERE rolname <> ALL(%s::name[]) AND role NOT IN (SELECT relowner FROM owner)
    UNION ALL SELECT datdba, 'owns the database ' || datname FROM pg_catalog.pg_database
    UNION ALL SELECT nspowner, 'owns the schema ' || nspname FROM pg_catalog.pg_namespace
        WHERE nspname NOT LIKE 'pg\\_%%' AND nspname <> 'voting'
    UNION ALL SELECT relowner, 'owns the table ' || relname FROM pg_catalog.pg_class
        WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relname <> ALL(%s::name[])
)
SELECT rolname, coalesce(array_agg(power::text ORDER BY power) FILTER (WHERE power IS NOT NULL), '{}')
FROM logins LEFT JOIN powers ON login = logins.oid
GROUP BY rolname
"""
OUR_TABLES = ("votes", "vote_tally", "vote_tally_version", "vote_worker_fence")

# The roles whose code runs with each write to the table: its owner, and the owners of its triggers' functions. Members
# of one of the logins, and superusers, have its rights anyway.
STRANGERS = """
SELECT rolname FROM pg_catalog.pg_roles AS stranger
WHERE NOT rolsuper AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_roles AS login
    WHERE login.rolname = ANY(%s::name[]) AND pg_catalog.pg_has_role(stranger.oid, login.oid, 'MEMBER')
) AND oid IN (
    SELECT relowner FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({votes_name})::oid
    UNION
    SELECT proowner FROM pg_catalog.pg_trigger JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid
    WHERE tgrelid = pg_catalog.to_regclass({votes_name})::oid AND NOT tgisinternal
)
ORDER BY rolname
"""
EXISTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %s)"
WHO = "SELECT session_user::text"
DATABASE = "SELECT current_database()::text"
# Attributes default to NO…. To state one, RDS's master user would need that attribute itself.
CREATE = "CREATE ROLE {login} LOGIN INHERIT PASSWORD {verifier}"
# A trigger that ran as our login could have changed its password and the settings of later sessions.
RENEW = "ALTER ROLE {login} LOGIN INHERIT PASSWORD {verifier}"
SETTINGS: tuple[LiteralString, ...] = (
    "ALTER ROLE {login} RESET ALL",
    "ALTER ROLE {login} IN DATABASE {database} RESET ALL",
    "ALTER ROLE {login} IN DATABASE {database} SET search_path = {schema}, pg_temp",
)


class LoginTooPowerful(Exception):
    """A login of ours has rights beyond its roles; the message names both and says what to do."""


@dataclass(frozen=True, slots=True)
class Login:
    """A login, and the roles that it needs."""

    name: str
    password: str = field(repr=False)
    roles: tuple[Role, ...]


class Logins:
    """The logins of one server, managed by a login that may create roles."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Use *connection*, which must be in autocommit mode and have the rights of its login."""
        self._connection = connection

    def ensure(self, logins: Collection[Login]) -> list[str]:
        """Create missing *logins*, and set passwords, roles and settings of all; return the names of those created.

        All or nothing. The server sees no password, only its SCRAM verifier.

        Raises:
            psycopg.errors.InsufficientPrivilege: the login may not create roles, or one was created by another login.
            LoginTooPowerful: one of them exists already and has more rights than its roles.
        """
        with self._connection.transaction():
            create(self._connection)
            created = [login.name for login in logins if self._ensure(login)]
            self._see_plain(logins)
        return created

    def powers(self, names: Collection[str]) -> Mapping[str, list[str]]:
        """Return what each existing login of *names* may do beyond our roles, in words for an operator."""
        return dict(run(self._connection, POWERS, list(names), list(Role), list(OUR_TABLES)).fetchall())

    def strangers(self, names: Collection[str]) -> list[str]:
        """Return the roles whose code runs with a write to `votes` and that cannot become one of *names* anyway."""
        return [name for (name,) in run(self._connection, STRANGERS, list(names)).fetchall()]

    def own(self) -> str:
        """Return the login of this session."""
        return self._row(WHO)[0]

    def _ensure(self, login: Login) -> bool:
        (exists,) = self._row(EXISTS, login.name)
        name = sql.Identifier(login.name)
        database, schema = sql.Identifier(*self._row(DATABASE)), sql.Identifier(locate(self._connection).schema)
        encrypted = self._connection.pgconn.encrypt_password(
            login.password.encode(), login.name.encode(), b"scram-sha-256"
        )
        statement = sql.SQL(RENEW if exists else CREATE)
        self._connection.execute(statement.format(login=name, verifier=sql.Literal(encrypted.decode())))
        for setting in SETTINGS:
            self._connection.execute(sql.SQL(setting).format(login=name, database=database, schema=schema))
        for role in login.roles:
            self._connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), name))
        return not exists

    def _see_plain(self, logins: Collection[Login]) -> None:
        for name, powers in self.powers([login.name for login in logins]).items():
            if powers:
                raise LoginTooPowerful(
                    f"The login {name} {', '.join(powers)}: revoke that, or drop the login, and run this again."
                )

    def _row(self, query: str, *parameters: object) -> tuple[str, ...]:
        row: tuple[str, ...] | None = self._connection.execute(query.encode(), parameters).fetchone()
        assert row is not None  # noqa: S101 - these queries have one row
        return row
