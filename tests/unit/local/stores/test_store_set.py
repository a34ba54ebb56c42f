"""Which stores a run embeds, and where they are. No server is started here."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from local.host.state_dir import StateDir
from local.stores.store_set import VARIABLES, StoreSet

OWN = {"REDIS_URL": "redis://own", "DATABASE_URL": "postgresql://own"}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    state = StateDir(tmp_path / "state")
    state.open()
    yield state
    state.close()


@pytest.mark.parametrize(
    ("declared", "shell", "embedded"),
    [
        (VARIABLES, {}, {"redis", "postgres"}),
        (VARIABLES, {"REDIS_URL": ""}, {"redis", "postgres"}),
        (VARIABLES, {"REDIS_URL": "redis://own"}, {"postgres"}),
        (VARIABLES, OWN, set()),
        ({"REDIS_URL"}, {}, {"redis"}),
        (set(), OWN, set()),
    ],
)
def test_a_store_is_embedded_where_it_is_declared_and_the_shell_has_none(
    state: StateDir, declared: set[str], shell: Mapping[str, str], embedded: set[str]
) -> None:
    assert StoreSet(declared, shell, state).embedded.keys() == embedded


def test_the_addresses_of_the_shell_are_taken_as_they_are(state: StateDir) -> None:
    stores = StoreSet({"REDIS_URL"}, OWN, state)
    assert stores.addresses == {"REDIS_URL": "redis://own"}
    assert stores.urls == {"redis": "redis://own"}


def test_an_embedded_store_has_an_address_of_this_machine(state: StateDir) -> None:
    stores = StoreSet(VARIABLES, {"REDIS_URL": "redis://own"}, state)
    assert stores.addresses.keys() == VARIABLES
    assert stores.urls["redis"] == "redis://own"
    assert "@127.0.0.1:" in stores.urls["postgres"]


def test_nothing_is_said_where_nothing_is_started(state: StateDir) -> None:
    async def start() -> list[str]:
        said: list[str] = []
        async with AsyncExitStack() as stack:
            await StoreSet(VARIABLES, OWN, state).start(said.append, stack)
        return said

    assert asyncio.run(start()) == []
