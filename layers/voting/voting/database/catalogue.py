"""What Postgres reports of itself, of the table `votes` and of our rights: read only, and without a tally."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from voting.database.location import locate, run

SERVER = """
SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS version_text,
       current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby,
       current_setting('default_transaction_read_only') = 'on' AS is_read_only,
       current_setting('max_connections')::int AS most_sessions,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS sessions,
       quote_ident(current_user) AS role, quote_ident((parse_ident({ours_name}))[1]) AS our_schema,
       coalesce(has_schema_privilege(to_regnamespace({there_name})::oid, 'CREATE'), false) AS may_create,
       to_regnamespace({ours_name}) IS NOT NULL
           OR has_database_privilege(current_database(), 'CREATE') AS may_make_schema,
       (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = session_user)
           OR to_regrole('voting_worker') IS NOT NULL AS may_limit,
       to_regclass({votes_name}) IS NOT NULL AS has_table
"""
# The functions of an earlier release are in the schema of the table.
TABLE = """
WITH ours AS (
    SELECT oid FROM pg_proc WHERE pronamespace = to_regnamespace({ours_name})::oid
    OR pronamespace = to_regnamespace({there_name})::oid AND proname IN ('vote_tally_lock', 'vote_tally_apply')
)
SELECT relkind = 'r' AS is_plain, greatest(reltuples, -1)::bigint AS estimated_rows, nspname AS schema,
       relrowsecurity AS has_row_security, pg_has_role(relowner, 'USAGE') AS is_ours,
       has_table_privilege(pg_class.oid, 'SELECT') AND has_table_privilege(pg_class.oid, 'INSERT')
           AND has_table_privilege(pg_class.oid, 'UPDATE') AS may_write,
       has_table_privilege(pg_class.oid, 'TRIGGER') AS may_add_triggers,
       ARRAY(SELECT tgname::text FROM pg_trigger WHERE tgrelid = pg_class.oid AND NOT tgisinternal
             AND tgfoid NOT IN (SELECT oid FROM ours) ORDER BY tgname) AS other_triggers,
       ARRAY(SELECT tgname::text FROM pg_trigger WHERE tgrelid = pg_class.oid AND tgfoid IN (SELECT oid FROM ours)
             AND tgenabled NOT IN ('O', 'A') ORDER BY tgname) AS disabled_triggers,
       EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = pg_class.oid) AS is_subscribed,
       ARRAY(SELECT conname::text FROM pg_constraint WHERE conrelid = pg_class.oid AND contype IN ('c', 'f', 'x')
             ORDER BY conname) AS other_constraints,
       ARRAY(SELECT rulename::text FROM pg_rewrite WHERE ev_class = pg_class.oid ORDER BY rulename) AS rules,
       relreplident = 'f' OR EXISTS (
           SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisvalid
           AND CASE relreplident WHEN 'd' THEN indisprimary WHEN 'i' THEN indisreplident ELSE false END
       ) AS has_identity
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass({votes_name})::oid
"""
COLUMNS = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS is_required,
       atthasdef OR attidentity <> '' AS has_default,
       coalesce(NOT collisdeterministic, false) AS takes_spellings_for_equal
FROM pg_attribute LEFT JOIN pg_collation ON pg_collation.oid = attcollation
WHERE attrelid = to_regclass({votes_name})::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
# ON CONFLICT (id) needs a valid unique index on that column alone, on all rows, checked immediately.
INDEXES = """
SELECT made.relname AS name, indisvalid AND indisready AS is_valid,
       indisunique AND indimmediate AND indnkeyatts = 1 AND indpred IS NULL AND indisvalid
           AND indkey[0] = (SELECT attnum FROM pg_attribute WHERE attrelid = indrelid AND attname = 'id')
           AS makes_id_unique
FROM pg_index JOIN pg_class AS made ON made.oid = indexrelid
WHERE indrelid = to_regclass({votes_name})::oid ORDER BY made.relname
"""
# Publications of updates that cover the table: of all tables, of its schema, or of the table itself. Each update checks
# row filter and column list against the replica identity.
PUBLICATIONS = """
SELECT pg_publication.pubname AS name,
       rowfilter IS NOT NULL OR cardinality(attnames) < (
           SELECT count(*) FROM pg_attribute
           WHERE attrelid = to_regclass({votes_name})::oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
       ) AS is_partial
FROM pg_publication JOIN pg_publication_tables ON pg_publication_tables.pubname = pg_publication.pubname
WHERE pubupdate AND tablename = 'votes' AND to_regnamespace(quote_ident(schemaname)) = to_regnamespace({there_name})
ORDER BY name
"""
MAY_READ = "SELECT coalesce(has_table_privilege(to_regclass({votes_name})::oid, 'SELECT'), false)"
SAMPLE = "SELECT DISTINCT vote FROM (SELECT vote FROM {votes} LIMIT 10000) AS first_rows ORDER BY vote LIMIT 20"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    is_required: bool
    has_default: bool
    takes_spellings_for_equal: bool  # its collation does so


@dataclass(frozen=True, slots=True)
class Index:
    name: str
    is_valid: bool
    makes_id_unique: bool


@dataclass(frozen=True, slots=True)
class Publication:
    name: str
    is_partial: bool  # some rows or columns


@dataclass(frozen=True, slots=True)
class Table:
    """The table `votes`."""

    is_plain: bool  # not a view, nor a foreign or partitioned table
    estimated_rows: int  # -1 if it was never analyzed
    schema: str
    has_row_security: bool
    is_ours: bool  # our role owns it, or is a member of its owner
    may_write: bool
    may_add_triggers: bool
    other_triggers: list[str]
    disabled_triggers: list[str]  # of the tally
    is_subscribed: bool  # logical replication writes it
    other_constraints: list[str]  # CHECK, foreign keys, exclusions
    rules: list[str]
    has_identity: bool  # by which a replica would find the row that is updated
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    publications: tuple[Publication, ...]  # of its updates


@dataclass(frozen=True, slots=True)
class Server:
    """The server, and the rights of our role."""

    version: int  # 150004
    version_text: str
    encoding: str
    is_standby: bool
    is_read_only: bool
    most_sessions: int
    sessions: int
    role: str  # as a statement takes it
    our_schema: str  # as a statement takes it
    may_create: bool  # in the schema of a new table
    may_make_schema: bool  # our own schema, unless it exists
    may_limit: bool  # its sessions to the roles of voting.database.roles, which exist or which it may create
    has_table: bool


class Catalogue:
    """Reads the system catalogue."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def server(self) -> Server:
        (facts,) = self._rows(SERVER)
        return Server(**facts)

    def table(self) -> Table | None:
        """Return the table; None if there is none yet."""
        found = self._rows(TABLE)
        if not found:
            return None
        columns = tuple(Column(**row) for row in self._rows(COLUMNS))
        indexes = tuple(Index(**row) for row in self._rows(INDEXES))
        is_known = self._connection.info.server_version >= 150_000  # older servers are reported as too old
        publications = tuple(Publication(**row) for row in (self._rows(PUBLICATIONS) if is_known else []))
        return Table(**found[0], columns=columns, indexes=indexes, publications=publications)

    def may_read(self) -> bool:
        """Whether this session may read the rows."""
        return bool(run(self._connection, MAY_READ).fetchone() == (True,))

    def choices(self) -> list[str]:
        """Return up to 20 choices from the first rows of the table."""
        return [str(row["vote"]) for row in self._rows(SAMPLE)]

    def _rows(self, query: LiteralString) -> list[Mapping[str, Any]]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return list(cursor.execute(locate(self._connection).fill(query)).fetchall())
