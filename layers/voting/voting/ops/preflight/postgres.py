"""Preflight: the Postgres server and the table of votes."""

from collections.abc import Iterator, Sequence

from voting.database.catalogue import Server, Table
from voting.database.indexes import CONTRACT
from voting.database.roles import Role
from voting.ops.preflight.finding import Finding, ok, problem, warning
from voting.question import named
from voting.vote import LONGEST_ID

OLDEST = 150_000
SPARE_SESSIONS = 45  # result and ws_connect: 20 each; the worker and its successor: 2 each; an operator: 1
LARGE_ROWS = 1_000_000
IDENTIFY = "ALTER TABLE votes REPLICA IDENTITY USING INDEX idx_votes_id"
COLUMNS = {"id": "character varying(255)", "vote": "character varying(255)"}


def server_findings(server: Server) -> Iterator[Finding]:
    """The version, the encoding, whether it is writable, and what our role may create."""
    if server.version < OLDEST:
        yield problem(f"Postgres is version {server.version_text}", "Upgrade it to 15 or newer.")
    else:
        yield ok(f"Postgres is version {server.version_text}")
    yield _encoding(server.encoding)
    if server.is_standby or server.is_read_only:
        yield problem("the database is read-only", "Use the address of the writer.")
    spare = server.most_sessions - server.sessions
    if spare < SPARE_SESSIONS:
        todo = f"Raise max_connections, or close some: we open up to {SPARE_SESSIONS}."
        yield warning(f"{spare} of {server.most_sessions} sessions are free", todo)
    if not server.has_table and not server.may_create:
        yield problem(f"the role {server.role} may not create tables", "GRANT CREATE ON SCHEMA to it.")
    if not server.may_make_schema:
        todo = f"GRANT CREATE ON DATABASE to it, or CREATE SCHEMA {server.our_schema} AUTHORIZATION {server.role}."
        yield problem(f"the role {server.role} may not create a schema for the tally", todo)
    if not server.may_limit:
        todo = f"It works; to limit them, CREATE ROLE {', '.join(Role)} and GRANT these to it."
        yield warning(f"the sessions of our functions have all rights of the role {server.role}", todo)


def _encoding(name: str) -> Finding:
    what = f"the database's encoding is {name}"
    if name == "UTF8":
        return ok(what)
    if name == "SQL_ASCII":  # it converts nothing, and counts bytes as characters
        return warning(what, f"Ids of more than {LONGEST_ID} bytes in UTF-8 are parked; all others are stored.")
    return warning(what, f"Ids with characters that {name} lacks are parked (22P05); ours are hexadecimal, and stored.")


def table_findings(table: Table | None) -> Iterator[Finding]:
    """The table: its columns, constraints, indexes, size, and our rights on it."""
    if table is None:
        yield ok("there is no table `votes` yet: the worker creates it")
        return
    if not table.is_plain:
        yield problem("`votes` is not a plain table", "Triggers and ON CONFLICT need one.")
        return
    yield from _rights(table)
    yield from _columns(table)
    yield from _unique(table)
    yield from _indexes(table)
    yield from _size(table)
    yield from _surprises(table)
    yield from _past_triggers(table)
    yield from _identity(table)


def choice_findings(choices: Sequence[str], options: Sequence[str]) -> Iterator[Finding]:
    """The choices in the rows, of which those in *options* count."""
    if unknown := [choice for choice in choices if choice not in options]:
        todo = "They stay in the table, and are not counted."
        yield warning(f"rows hold choices other than {named(options)}: {', '.join(map(repr, unknown))}", todo)


def _rights(table: Table) -> Iterator[Finding]:
    lacking = {
        "SELECT, INSERT and UPDATE on votes": table.may_write,
        "TRIGGER on votes": table.may_add_triggers,
    }
    for right, is_ours in lacking.items():
        if not is_ours:
            yield problem(f"our role lacks {right}", f"GRANT {right} to it.")
    if all(lacking.values()):
        yield ok("our role may write the table, and add the tally and its triggers")
    if not table.is_ours:
        todo = "If any are missing, run `indexes` as the owner of the table."
        yield warning("our role does not own the table, and cannot build indexes", todo)


def _columns(table: Table) -> Iterator[Finding]:
    found = {column.name: column for column in table.columns}
    for name, kind in COLUMNS.items():
        if name not in found:
            yield problem(f"the column {name} is missing", f"Add it as {kind} NOT NULL.")
        elif found[name].type == "text":
            todo = "The contract says varchar(255). It works: longer choices are not ours, and are not counted."
            yield warning(f"the column {name} is text", todo)
        elif found[name].type != kind:
            yield problem(f"the column {name} is {found[name].type}", _type(found[name].type, kind))
        elif name == "id" and found[name].takes_spellings_for_equal:
            todo = "Ann and ANN become one voter, and batches with both take longer: use a deterministic collation."
            yield warning("the collation of the column id treats several spellings as one voter", todo)
        elif not found[name].is_required:
            yield _nullable(name)
    for column in table.columns:
        if column.name in COLUMNS:
            continue
        if column.is_required and not column.has_default:
            yield problem(f"the column {column.name} is required and has no default", "Drop it: no vote can be stored.")
        else:
            yield warning(
                f"there is an additional column {column.name}",
                "The contract has two columns. Our worker leaves this one to its default.",
            )


def _type(found: str, kind: str) -> str:
    if found.endswith("citext"):
        return f"The contract says {kind}: Ann and ANN become one voter, and batches with both take longer."
    if found.startswith("character("):
        return f"The contract says {kind}: longer ids become dead letters; trailing spaces do not tell voters apart."
    return f"The contract says {kind}: a shorter or different type refuses votes, which then become dead letters."


def _nullable(name: str) -> Finding:
    what = {"id": "an id belongs to no voter, but is counted", "vote": "a vote stays in the table, and is not counted"}[
        name
    ]
    return warning(f"the column {name} takes NULL", f"The contract says NOT NULL; a row without {what}.")


def _unique(table: Table) -> Iterator[Finding]:
    if any(index.makes_id_unique for index in table.indexes):
        yield ok("the column id is unique")
    else:
        todo = "Remove duplicate ids, then run `indexes`: without it ON CONFLICT (id) fails, and nothing is stored."
        yield problem("no valid unique index covers the column id alone", todo)


def _indexes(table: Table) -> Iterator[Finding]:
    valid = {index.name for index in table.indexes if index.is_valid}
    for index in table.indexes:
        if not index.is_valid:
            yield warning(f"the index {index.name} is invalid: its build was interrupted", "Run `indexes`.")
    if missing := [name for name in CONTRACT if name not in valid]:
        yield warning(
            f"the contract's indexes are missing: {', '.join(missing)}", "Run `indexes`; it blocks no writers."
        )
    else:
        yield ok("the contract's indexes exist")


def _size(table: Table) -> Iterator[Finding]:
    rows = table.estimated_rows
    if rows < 0:
        yield warning("the table has never been analyzed: its size is not known", "Run ANALYZE votes.")
    elif rows > LARGE_ROWS:
        todo = "The first run counts them while writers wait, a few seconds per million rows: start at a quiet time."
        yield warning(f"the table holds about {rows} rows", todo)
    else:
        yield ok(f"the table holds about {rows} rows")


def _surprises(table: Table) -> Iterator[Finding]:
    if table.has_row_security:
        yield problem("row-level security is on", "Our role must see and change all rows: BYPASSRLS, or a policy.")
    if table.other_triggers:
        yield warning(
            f"there are other triggers: {', '.join(table.other_triggers)}",
            "They must handle large batches and return NEW: a vote whose row is skipped becomes a dead letter.",
        )
    if table.other_constraints:
        todo = "A vote that violates one becomes a dead letter (refused_by_database); if all do, nothing is stored."
        yield warning(f"there are other constraints: {', '.join(table.other_constraints)}", todo)
    if table.rules:
        todo = "DROP them: a rewritten INSERT stores nothing, or is refused."
        yield problem(f"there are rules: {', '.join(table.rules)}", todo)


def _past_triggers(table: Table) -> Iterator[Finding]:
    """Writes that the tally misses."""
    if table.disabled_triggers:
        todo = "The worker's next run enables them and counts again; or ENABLE TRIGGER, then `tally verify --repair`."
        yield problem(f"triggers of the tally are disabled: {', '.join(table.disabled_triggers)}", todo)
    if table.is_subscribed:
        todo = "Its writes bypass the triggers, and the worker recounts only from time to time: take over without it."
        yield warning("a subscription writes the table", todo)


def _identity(table: Table) -> Iterator[Finding]:
    """The replica identity, without which a published table cannot be updated."""
    names = ", ".join(publication.name for publication in table.publications)
    partial = ", ".join(publication.name for publication in table.publications if publication.is_partial)
    identify = IDENTIFY if any(index.name in IDENTIFY for index in table.indexes) else f"Run `indexes`, then {IDENTIFY}"
    if table.publications and not table.has_identity:
        todo = f"{identify}: until then the database refuses votes (55000)."
        yield problem(f"a publication covers updates of the table, which has no replica identity: {names}", todo)
    elif not table.has_identity:
        todo = f"{identify}, before a blue/green deployment, a zero-ETL integration or DMS publishes it."
        yield warning("the table has no replica identity: with a publication, votes would be refused", todo)
    elif partial:
        todo = (
            "Remove the row filter or column list, unless it uses id alone and includes it: else updates fail (42P10)."
        )
        yield warning(f"a publication covers some rows or columns of the table: {partial}", todo)
    else:
        yield ok("the table has a replica identity")
