"""The stores of a run: those of the developer's shell, and an embedded one for each other that the functions need."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack

from local.host.state_dir import StateDir, StateError
from local.start_error import StartError
from local.stores.postgres import Postgres
from local.stores.store import Server, Store, StoreError
from local.stores.valkey import Valkey

# By the variable that holds a store's address: the store's name in run.json, and the server for it here.
_KINDS: Mapping[str, tuple[str, Callable[[StateDir], Server]]] = {
    "REDIS_URL": ("redis", Valkey),
    "DATABASE_URL": ("postgres", Postgres),
}
VARIABLES = frozenset(_KINDS)


class StoreSet:
    """The stores whose addresses the functions declare."""

    def __init__(self, declared: Collection[str], shell: Mapping[str, str], state: StateDir) -> None:
        """Take the stores of *declared*, which are variables of VARIABLES: from *shell*, or embedded in *state*."""
        self._given = {variable: shell[variable] for variable in declared if shell.get(variable)}
        self._embedded = {
            variable: Store(kind(state), state)
            for variable, (_, kind) in _KINDS.items()
            if variable in declared and variable not in self._given
        }

    @property
    def embedded(self) -> dict[str, Store]:
        """The embedded stores, by their names in run.json."""
        return {_KINDS[variable][0]: store for variable, store in self._embedded.items()}

    @property
    def addresses(self) -> dict[str, str]:
        """The address of each store by its variable, once they are started."""
        return self._given | {variable: store.url for variable, store in self._embedded.items()}

    @property
    def urls(self) -> dict[str, str]:
        """The same addresses by the stores' names in run.json."""
        addresses = self.addresses
        return {name: addresses[variable] for variable, (name, _) in _KINDS.items() if variable in addresses}

    async def start(self, say: Callable[[str], None], stack: AsyncExitStack) -> None:
        """Start the embedded stores, all at once, until *stack* ends; return when they answer.

        Raises:
            StartError: one does not come up, or the state directory is of no use to it.
        """
        stores = self._embedded.values()
        if stores:
            say(f"Starting {' and '.join(store.title for store in stores)} …")
        for store in stores:
            stack.push_async_callback(store.close)
        try:
            async with asyncio.TaskGroup() as group:
                for store in stores:
                    group.create_task(_start(store, say))
        except* (StoreError, StateError) as errors:
            raise StartError("\n".join(map(str, errors.exceptions))) from None


async def _start(store: Store, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    await store.start()
    say(f"  {store.title} answers after {time.monotonic() - began:.1f} s")
