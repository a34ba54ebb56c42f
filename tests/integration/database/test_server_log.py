"""What a server writes into its log with the parameters of the template: it leaves the database for CloudWatch."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.debian_postgres import initialised, own, serving
from tests.sam.expansion import NEW_STORES, expansion
from voting.database.vote_table import VoteTable

VOTER, LATER, VERIFIER = "0123456789abcdef", "fedcba9876543210", "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"
FAULTS = {
    VOTER: f"INSERT INTO votes VALUES ('{VOTER}', 'a')",  # a duplicate: the detail has the key, the statement the row
    LATER: f"INSERT INTO votes SELECT '{LATER}', NULL",  # the detail has the row
    VERIFIER: f"ALTER ROLE nobody_of_that_name PASSWORD '{VERIFIER}'",
}


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        own(Path(folder))
        data = initialised(Path(folder))
        with serving(data) as url, psycopg.connect(url, autocommit=True) as database:
            VoteTable(database).install()
            database.execute("CREATE UNIQUE INDEX ON votes (id); ALTER TABLE votes ALTER vote SET NOT NULL")
            database.execute("INSERT INTO votes VALUES (%s, 'a')", (VOTER,))
        yield data


def log_of_faults(data: Path, **settings: str) -> str:
    with serving(data, **settings) as url, psycopg.connect(url, autocommit=True) as database:
        for fault in FAULTS.values():
            with suppress(psycopg.Error):
                database.execute(fault)
        with suppress(psycopg.Error), database.cursor().copy("COPY votes FROM STDIN") as copy:
            copy.write(f"{LATER}\ta\textra\n")
    return (data.parent / "log").read_text()


def test_no_voter_and_no_password_is_in_the_log(data: Path) -> None:
    parameters = expansion(NEW_STORES).properties("DatabaseParameters")["Parameters"]
    settings = {name: value for name, value in parameters.items() if not name.startswith("rds.")}
    said = log_of_faults(data, **settings)
    assert said.count("ERROR:") == len(FAULTS) + 1, "the errors themselves are there"
    assert not [secret for secret in FAULTS if secret in said]


def test_without_the_parameters_all_of_it_would_be_there(data: Path) -> None:
    said = log_of_faults(data)
    assert not [secret for secret in FAULTS if secret not in said]
