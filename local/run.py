"""One run of the template: starts everything in order, and stops it in reverse order."""

import asyncio
import dataclasses
import errno
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from local.awslambda.environment import Sandbox
from local.awslambda.invocation import Answer
from local.awslambda.invoke_api import InvokeApi
from local.awslambda.reload import Reloader
from local.awslambda.schedule import Scheduler
from local.awslambda.service import LambdaService
from local.gateway.http_api import HttpApi
from local.gateway.listeners import BACKLOG, Listener, start_listeners
from local.gateway.quotas import WebSocketQuotas
from local.gateway.websocket_api import WebSocketApi
from local.host.console import Console
from local.host.processes import start
from local.host.state_dir import StateDir, StateError
from local.hosts import Hosts
from local.stores.control import StoreControl
from local.stores.postgres import Postgres
from local.stores.store import Server, Store, StoreError
from local.stores.valkey import Valkey
from local.template.account import Account
from local.template.reader import Run, Template, load

# By the variable that holds a store's address: the store's name in run.json, and the server for it here.
_STORES: Mapping[str, tuple[str, Callable[[StateDir], Server]]] = {
    "REDIS_URL": ("redis", Valkey),
    "DATABASE_URL": ("postgres", Postgres),
}


class StartError(Exception):
    """The run cannot begin; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    template: Path
    http_port: int = 3000
    websocket_port: int = 3001
    lambda_port: int = 3002
    environments: int = 10
    reload: bool = True
    access_log: bool = False
    websocket_idle_s: float = 600.0
    websocket_max_age_s: float = 7200.0
    allow_hosts: tuple[str, ...] = ()  # in addition to loopback names
    also: tuple[tuple[str, str], ...] = ()  # companions: name and command


async def serve(options: Options, state: StateDir, console: Console, shell: Mapping[str, str]) -> None:
    """Serve until cancelled, or until the first of the signals SIGINT, SIGTERM and SIGHUP.

    Raises:
        StartError, template.TemplateError, stores.StoreError: it could not begin; nothing is left behind.
    """
    serving = asyncio.create_task(_Runner(options, state, console, shell).run())
    stopping = _stop_on_signals(serving, console)
    try:
        await serving
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise


def _stop_on_signals(task: asyncio.Task[None], console: Console) -> asyncio.Event:
    stopping = asyncio.Event()
    seen = 0

    def stop() -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            stopping.set()
            console.say("Stopping …")
            task.cancel()
        elif seen > 2:  # a third signal: children that are left end by their death signal
            os._exit(1)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopping


class _Runner:
    def __init__(self, options: Options, state: StateDir, console: Console, shell: Mapping[str, str]) -> None:
        self._options = options
        self._state = state
        self._console = console
        self._shell = shell
        self._account = Account.of_run(shell, state.secret)

    async def run(self) -> None:
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            sockets = self._listen(stack)
            template = self._load(sockets)
            urls = {"http": _url("http", sockets["http"])}
            if template.websocket is not None:
                urls["websocket"] = f"{_url('ws', sockets['websocket'])}/{template.websocket.stage}"
            urls["lambda"] = _url("http", sockets["lambda"])
            stores = await self._start_stores(template, stack)
            urls |= self._store_urls(template, stores)
            template = _with_stores(template, urls)
            functions = self._start_functions(template, urls["lambda"], stack)
            scheduler = Scheduler(template.schedules, functions, self._account)
            reloader = Reloader(template, self._options.template, functions, scheduler)
            if self._options.reload:
                stack.push_async_callback(reloader.close)
                reloader.start()
            await self._start_listeners(template, functions, stores, sockets, stack)
            await self._warm(template, functions, reloader)
            stack.push_async_callback(scheduler.close)
            scheduler.start()
            self._state.announce(urls | self._account.login() | {"pid": os.getpid()})
            self._describe(template, urls, time.monotonic() - began)
            await self._start_companions(stack)
            await asyncio.Event().wait()  # until cancelled

    # ------------------------------------------------------------ before anything is started

    def _listen(self, stack: AsyncExitStack) -> dict[str, socket.socket]:
        """Bind the ports first: a port in use is found before anything is started."""
        sockets = {}
        for name in ("http", "websocket", "lambda"):
            port = getattr(self._options, f"{name}_port")
            sockets[name] = stack.enter_context(socket.socket())
            sockets[name].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sockets[name].bind(("127.0.0.1", port))
                sockets[name].listen(BACKLOG)
            except OSError as error:
                raise _port_error(name, port, error) from error
        return sockets

    def _load(self, sockets: Mapping[str, socket.socket]) -> Template:
        run = Run(
            account=self._account,
            variables=dict.fromkeys(_STORES, "") | _without_aws(self._shell),
            http_url=_url("http", sockets["http"]),
            websocket_url=_url("ws", sockets["websocket"]),
            secret=self._state.secret,
        )
        return load(self._options.template, run)

    # ------------------------------------------------------------ the parts

    async def _start_stores(self, template: Template, stack: AsyncExitStack) -> dict[str, Store]:
        stores = {
            name: Store(kind(self._state), self._state)
            for variable, (name, kind) in _STORES.items()
            if _declares(template, variable) and not self._shell.get(variable)
        }
        if stores:
            self._console.say(f"Starting {' and '.join(store.title for store in stores.values())} …")
        for store in stores.values():
            stack.push_async_callback(store.close)
        try:
            async with asyncio.TaskGroup() as group:
                for store in stores.values():
                    group.create_task(self._start_store(store))
        except* (StoreError, StateError) as errors:
            raise StartError("\n".join(map(str, errors.exceptions))) from None
        return stores

    async def _start_store(self, store: Store) -> None:
        began = time.monotonic()
        await store.start()
        self._console.say(f"  {store.title} answers after {time.monotonic() - began:.1f} s")

    def _store_urls(self, template: Template, stores: Mapping[str, Store]) -> dict[str, str]:
        return {
            name: stores[name].url if name in stores else self._shell[variable]
            for variable, (name, _) in _STORES.items()
            if _declares(template, variable)
        }

    def _start_functions(self, template: Template, lambda_url: str, stack: AsyncExitStack) -> LambdaService:
        sandbox = Sandbox(
            account=self._account,
            lambda_url=lambda_url,
            output=lambda name, line: self._console.line(_short(name), line),
            shell=self._shell,
        )
        functions = LambdaService(template.functions, sandbox, environments=self._options.environments)
        stack.push_async_callback(functions.close)
        return functions

    async def _start_listeners(
        self,
        template: Template,
        functions: LambdaService,
        stores: Mapping[str, Store],
        sockets: Mapping[str, socket.socket],
        stack: AsyncExitStack,
    ) -> None:
        hosts = Hosts(self._options.allow_hosts)
        invoke = InvokeApi(functions, self._account).application()
        StoreControl(stores).attach(invoke)
        http = HttpApi(template.http_api_id, template.http_routes, functions, hosts=hosts)
        listeners = [
            Listener(sockets["lambda"], invoke),
            Listener(sockets["http"], http.application(), http.plain_http),
        ]
        if template.websocket is not None:
            quotas = WebSocketQuotas(idle_s=self._options.websocket_idle_s, age_s=self._options.websocket_max_age_s)
            websocket = WebSocketApi(
                template.websocket,
                functions,
                self._account.keyring,
                quotas,
                lambda: http.is_answering,
                hosts,
            )
            listeners.append(Listener(sockets["websocket"], websocket.application(), websocket.plain_posts))
        else:
            sockets["websocket"].close()
        await start_listeners(listeners, stack, access_log=self._options.access_log)

    async def _warm(self, template: Template, functions: LambdaService, reloader: Reloader) -> None:
        """Wait until every function has an environment that has initialised; the schedule starts its own."""
        names = sorted(template.functions.keys() - {schedule.function for schedule in template.schedules})
        if not names:
            return
        began = time.monotonic()
        self._console.say(f"Starting {', '.join(_short(name) for name in names)} …")
        while True:
            reloader.changed.clear()
            answers = await asyncio.gather(*(functions.warm(name) for name in names))
            broken = {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}
            if not broken:
                break
            reason = "; ".join(f"{_short(name)} does not start: {_text(answer)}" for name, answer in broken.items())
            if not self._options.reload:
                raise StartError(reason)
            self._console.say(f"{reason}\nWaiting for a change of its code …")
            await reloader.changed.wait()
        self._console.say(f"  ready after {time.monotonic() - began:.1f} s")

    async def _start_companions(self, stack: AsyncExitStack) -> None:
        for name, command in self._options.also:
            child = await start(
                shlex.split(command),
                env=dict(self._shell) | {"LOCAL_RUN_JSON": str(self._state.run_file)},
                cwd=Path.cwd(),
                output=lambda line, name=name: self._console.line(name, line),  # type: ignore[misc] # name is bound
                death_signal=signal.SIGTERM,
            )
            stack.push_async_callback(child.stop, signal.SIGTERM, 3.0)

    def _describe(self, template: Template, urls: Mapping[str, str], took_s: float) -> None:
        pages = [route.path for route in template.http_routes if route.method in {"GET", "ANY"}]
        lines = [f"\nUp after {took_s:.1f} s. Ctrl-C stops it."]
        lines += [f"  HTTP        {urls['http']}{path}" for path in pages if path.startswith("/")]
        lines += [f"  WebSocket   {urls['websocket']}"] if "websocket" in urls else []
        lines += [f"  Lambda      {urls['lambda']}"]
        lines += [f"  Stores      their addresses with passwords are in {_relative(self._state.run_file)}\n"]
        self._console.say("\n".join(lines))


def _port_error(name: str, port: int, error: OSError) -> StartError:
    reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return StartError(f"port {port} {reason}: name another one with --{name}-port (0 takes a free one)")


def _url(scheme: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{scheme}://{host}:{port}"


def _without_aws(shell: Mapping[str, str]) -> dict[str, str]:
    """Return the shell's variables without those that configure AWS clients."""
    return {name: value for name, value in shell.items() if not name.startswith("AWS_")}


def _declares(template: Template, variable: str) -> bool:
    return any(variable in function.environment for function in template.functions.values())


def _with_stores(template: Template, urls: Mapping[str, str]) -> Template:
    addresses = {variable: urls[name] for variable, (name, _) in _STORES.items() if name in urls}
    functions = {}
    for name, function in template.functions.items():
        own = {variable: url for variable, url in addresses.items() if variable in function.environment}
        functions[name] = dataclasses.replace(function, environment={**function.environment, **own})
    return dataclasses.replace(template, functions=functions)


def _short(function: str) -> str:
    return function.removesuffix("Function") or function


def _text(answer: Answer) -> str:
    return answer.payload.decode(errors="replace")


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
