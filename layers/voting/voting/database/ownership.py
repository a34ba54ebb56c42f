"""Who owns the objects with our names, and who else may create objects in the schema of `votes`.

A trigger, view or function of another role that is run in our sessions has our rights. So an object counts as ours only
if its owner can become our login anyway: the login itself, a role that is a member of it, or a superuser.
"""

from typing import LiteralString

import psycopg

from voting.database.location import locate, path_of, run

# Up to PostgreSQL 15, CREATEROLE grants itself every role but a superuser's.
TRUSTED: LiteralString = """
SELECT trusted.oid FROM pg_roles AS trusted, pg_roles AS login
WHERE login.rolname = session_user AND (
    pg_has_role(trusted.oid, login.oid, 'MEMBER')
    OR trusted.rolcreaterole AND NOT login.rolsuper AND current_setting('server_version_num')::integer < 160000
)
"""

# Objects with our names that another role owns, or that differ from what our scripts create: a table with a trigger, a
# rule or row-level security, something else under the name of a table, a schema in which others may create.
FOREIGN: LiteralString = """
WITH trusted AS (TRUSTED), found AS (
    SELECT 'the schema ' || nspname AS what, nspowner AS owner, CASE WHEN EXISTS (
        SELECT FROM aclexplode(nspacl) WHERE privilege_type = 'CREATE' AND grantee NOT IN (SELECT oid FROM trusted)
    ) THEN 'others may create in it' END AS oddity
    FROM pg_namespace WHERE oid = to_regnamespace({ours_name})::oid
    UNION ALL
    SELECT nspname || '.' || relname, relowner, CASE
        WHEN relkind <> 'r' AND (relkind <> 'v' OR nspname = (
            SELECT ours.nspname FROM pg_namespace AS ours WHERE ours.oid = to_regnamespace({ours_name})::oid
        )) THEN 'it is no table'
        WHEN relrowsecurity THEN 'it has row-level security'
        WHEN EXISTS (SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid) THEN 'it has triggers'
        WHEN EXISTS (SELECT FROM pg_rewrite WHERE ev_class = pg_class.oid AND rulename <> '_RETURN') THEN 'it has rules'
    END
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = ANY (ARRAY['vote_tally', 'vote_tally_version', 'vote_worker_fence']::name[])
      AND nspname = ANY (%s::text[])
    UNION ALL
    SELECT 'the function ' || nspname || '.' || proname, proowner, NULL
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE proname = ANY (ARRAY['vote_tally_lock', 'vote_tally_apply', 'vote_tally_moved']::name[])
      AND pronargs = 0 AND nspname = ANY (%s::text[])
)
SELECT what, pg_get_userbyid(owner)::text, owner IN (SELECT oid FROM trusted), oddity
FROM found WHERE oddity IS NOT NULL OR owner NOT IN (SELECT oid FROM trusted)
ORDER BY what
""".replace("TRUSTED", TRUSTED)

# The tables of an earlier release, in the schema of `votes`. Only their owner may move them.
EARLIER_OWNER = """
SELECT pg_get_userbyid(relowner)::text FROM pg_class
WHERE relnamespace = to_regnamespace({there_name})::oid AND relkind = 'r' AND NOT pg_has_role(relowner, 'USAGE')
  AND relname = ANY (ARRAY['vote_tally', 'vote_tally_version', 'vote_worker_fence']::name[])
ORDER BY 1 LIMIT 1
"""
# In PostgreSQL 15 and later, the owner of `public` is a role that stands for the owner of the database.
CREATORS: LiteralString = """
WITH trusted AS (TRUSTED)
SELECT DISTINCT CASE grantee WHEN 0::oid THEN 'PUBLIC' ELSE pg_get_userbyid(grantee)::text END
FROM pg_namespace CROSS JOIN aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS granted
JOIN pg_database ON datname = current_database()
WHERE pg_namespace.oid = to_regnamespace({there_name})::oid AND privilege_type = 'CREATE'
  AND CASE pg_get_userbyid(grantee) WHEN 'pg_database_owner' THEN datdba ELSE grantee END
      NOT IN (SELECT oid FROM trusted)
ORDER BY 1
""".replace("TRUSTED", TRUSTED)

# Of the given schemas, in their order, those that no other role owns or may create in.
CLOSED: LiteralString = """
WITH trusted AS (TRUSTED)
SELECT name
FROM unnest(%s::text[]) WITH ORDINALITY AS path (name, position)
JOIN pg_namespace ON nspname = name JOIN pg_database ON datname = current_database()
WHERE NOT EXISTS (
    SELECT FROM (
        SELECT nspowner UNION ALL SELECT grantee FROM aclexplode(nspacl) WHERE privilege_type = 'CREATE'
    ) AS creators (oid)
    WHERE CASE pg_get_userbyid(creators.oid) WHEN 'pg_database_owner' THEN datdba ELSE creators.oid END
          NOT IN (SELECT oid FROM trusted)
)
ORDER BY position
""".replace("TRUSTED", TRUSTED)


class NotOurs(psycopg.errors.InsufficientPrivilege):
    """Objects with our names belong to another role, or are not what we create; nothing was changed."""


def foreign_objects(connection: psycopg.Connection, *, everywhere: bool) -> list[str]:
    """Return a clause for each foreign object with one of our names: in our schema, or *everywhere* that we look."""
    location = locate(connection)
    schemas = [location.ours, location.schema] if everywhere else [location.ours]
    return [
        f"{what} has changed: {oddity}" if is_ours else f"{what} belongs to {owner}"
        for what, owner, is_ours, oddity in run(connection, FOREIGN, schemas, schemas).fetchall()
    ]


def see_to_ownership(connection: psycopg.Connection, *, everywhere: bool) -> None:
    """Raise NotOurs if `foreign_objects` finds any."""
    if found := foreign_objects(connection, everywhere=everywhere):
        raise NotOurs(
            f"{'; '.join(found)}: what others put there runs with our rights. Find out who created it, then DROP it, "
            "or make our login its owner"
        )


def closed_path(connection: psycopg.Connection) -> str:
    """Return the search path of the login without the schemas in which other roles may create, as SET takes it.

    Foreign triggers on `votes` may need it: they run in our sessions, and need not name schemas.
    """
    return path_of(name for (name,) in run(connection, CLOSED, list(locate(connection).path)).fetchall())


def earlier_owner(connection: psycopg.Connection) -> str | None:
    """Return the owner of the tables of an earlier release, if there are any and our role may not move them."""
    row = run(connection, EARLIER_OWNER).fetchone()
    return None if row is None else str(row[0])


def other_creators(connection: psycopg.Connection) -> list[str]:
    """Return the other roles that may create in the schema of `votes`."""
    return [name for (name,) in run(connection, CREATORS).fetchall()]
