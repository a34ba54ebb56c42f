"""What reads may not write, whatever it is told to run."""

from collections.abc import Callable

import psycopg
import pytest

from local.template.reader import Run, load
from tests.conftest import ROOT, Handler
from tests.security.conftest import Function
from voting.clients import Clients
from voting.database.vote_table import VoteTable

WRITES = [
    "INSERT INTO public.votes VALUES ('x', 'a')",
    "UPDATE public.votes SET vote = 'a'",
    "DELETE FROM public.votes",
    "TRUNCATE public.votes",
    "DROP TABLE public.votes",
    "UPDATE voting.vote_tally SET votes = 9",
    "UPDATE voting.vote_worker_fence SET token = 9",
    "CREATE TABLE public.mine (x int)",
]


@pytest.fixture(params=["result", "ws_connect"])
def reader(request: pytest.FixtureRequest, function: Callable[[str], Function], ws_connect: Handler) -> Clients:
    """The clients that the handler itself uses."""
    if request.param == "result":
        return function("result").globals["clients"]()
    return ws_connect.__wrapped__.__globals__["environment"]()[0]


def test_the_sessions_of_result_and_ws_connect_cannot_write(reader: Clients, database: psycopg.Connection) -> None:
    VoteTable(database).install()
    database.execute("INSERT INTO votes VALUES ('victim', 'b')")
    for statement in WRITES:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.postgres().execute(statement)
    assert reader.on_postgres(lambda connection: VoteTable(connection).tally()).counts == {"b": 1}


def test_each_function_is_told_only_the_secrets_that_it_needs() -> None:
    """A function that is taken over cannot give away what it never had."""
    template = load(ROOT / "template.yaml", Run(variables={"REDIS_URL": "redis://x", "DATABASE_URL": "postgres://x"}))
    secrets = {"COOKIE_KEYS", "DATABASE_URL"}
    told = {name: secrets & function.environment.keys() for name, function in template.functions.items()}
    assert told["VoteFunction"] == {"COOKIE_KEYS"}
    assert told["ResultFunction"] == told["WsConnectFunction"] == told["WorkerFunction"] == {"DATABASE_URL"}
    assert told["WsBroadcastFunction"] == set()
