"""Hot reload: changed code replaces the execution environments that run the old one."""

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from local.awslambda.schedule import Scheduler
from local.awslambda.service import LambdaService
from local.template.resources import Template

_log = logging.getLogger("local.reload")


class Reloader:
    """Watches the functions' folders, their layers and the template."""

    def __init__(self, template: Template, path: Path, functions: LambdaService, scheduler: Scheduler) -> None:
        self._template = template
        self._path = path.resolve()
        self._functions = functions
        self._scheduler = scheduler
        self._stop = asyncio.Event()
        self.changed = asyncio.Event()  # set with every reload
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    async def _watch(self) -> None:
        """Watch until closed. If the system cannot watch, log that and return; the running code is still served."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_code())
                group.create_task(self._watch_template())
        except* (OSError, WatchfilesRustInternalError) as errors:  # such as no inotify instances left
            _log.warning("changes are not watched: %s; restart to serve them", errors.exceptions[0])

    async def _watch_code(self) -> None:
        folders = {
            folder for function in self._template.functions.values() for folder in (function.code, *function.layers)
        }
        async for changes in awatch(*folders, stop_event=self._stop):
            await self._reload({Path(path) for _, path in changes})

    async def _watch_template(self) -> None:
        # The folder and not the file: editors replace the file.
        async for changes in awatch(self._path.parent, recursive=False, stop_event=self._stop):
            if any(Path(path) == self._path for _, path in changes):
                _log.warning("%s changed: restart to serve it", self._path.name)

    async def _reload(self, paths: Iterable[Path]) -> None:
        changed = {
            function.name: path
            for function in self._template.functions.values()
            for path in paths
            if any(path.is_relative_to(folder) for folder in (function.code, *function.layers))
        }
        if not changed:
            return
        await asyncio.gather(*(self._functions.replace(name) for name in changed))
        _log.info("%s: new code (%s)", ", ".join(sorted(changed)), next(iter(changed.values())).name)
        for name in changed:
            self._scheduler.fire(name)
        self.changed.set()
