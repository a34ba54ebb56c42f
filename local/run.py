"""One run of the template: starts everything in order, and stops it in reverse order."""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

from local.awslambda.environment import Sandbox
from local.awslambda.invoke_api import InvokeApi
from local.awslambda.reload import Reloader
from local.awslambda.schedule import Scheduler
from local.awslambda.service import LambdaService
from local.awslambda.warm_up import warm_up
from local.gateway.http_api import HttpApi
from local.gateway.listeners import Listener, start_listeners
from local.gateway.ports import Ports
from local.gateway.quotas import WebSocketQuotas
from local.gateway.websocket_api import WebSocketApi
from local.host.companions import start_companions
from local.host.console import Console
from local.host.signals import stop_on_signals
from local.host.state_dir import StateDir
from local.host.summary import summary
from local.hosts import Hosts
from local.options import Options
from local.stores.control import StoreControl
from local.stores.store_set import VARIABLES, StoreSet
from local.template.account import Account
from local.template.reader import Run, load
from local.template.resources import Template, short_name


async def serve(options: Options, state: StateDir, console: Console, shell: Mapping[str, str]) -> None:
    """Serve until cancelled, or until the first of the signals SIGINT, SIGTERM and SIGHUP.

    Raises:
        StartError, TemplateError, StoreError: it could not begin; nothing is left behind.
    """
    serving = asyncio.create_task(_Runner(options, state, console, shell).run())
    stopping = stop_on_signals(serving, console.say)
    try:
        await serving
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise


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
            ports = self._bind(stack)
            template = self._load(ports)
            stores = StoreSet(set(filter(template.declares, VARIABLES)), self._shell, self._state)
            await stores.start(self._console.say, stack)
            template = template.with_variables(stores.addresses)
            functions = self._start_functions(template, ports, stack)
            scheduler = Scheduler(template.schedules, functions, self._account)
            reloader = Reloader(template, self._options.template, functions, scheduler)
            if self._options.reload:
                stack.push_async_callback(reloader.close)
                reloader.start()
            await self._start_listeners(template, functions, stores, ports, stack)
            await self._warm_up(template, functions, reloader)
            stack.push_async_callback(scheduler.close)
            scheduler.start()
            urls = _urls(template, ports) | stores.urls
            self._state.announce(urls | self._account.login() | {"pid": os.getpid()})
            self._console.say(summary(time.monotonic() - began, template.pages, urls, self._state.run_file))
            env = {**self._shell, "LOCAL_RUN_JSON": str(self._state.run_file)}
            await start_companions(self._options.also, env, self._console.line, stack)
            await asyncio.Event().wait()  # until cancelled

    def _bind(self, stack: AsyncExitStack) -> Ports:
        options = self._options
        numbers = {"http": options.http_port, "websocket": options.websocket_port, "lambda": options.lambda_port}
        return Ports.bind(numbers, stack)

    def _load(self, ports: Ports) -> Template:
        run = Run(
            account=self._account,
            variables=dict.fromkeys(VARIABLES, "") | _without_aws(self._shell),
            http_url=ports.http_url,
            websocket_url=ports.websocket_url,
            secret=self._state.secret,
        )
        return load(self._options.template, run)

    def _start_functions(self, template: Template, ports: Ports, stack: AsyncExitStack) -> LambdaService:
        sandbox = Sandbox(
            account=self._account,
            lambda_url=ports.lambda_url,
            output=lambda name, line: self._console.line(short_name(name), line),
            shell=self._shell,
        )
        functions = LambdaService(template.functions, sandbox, environments=self._options.environments)
        stack.push_async_callback(functions.close)
        return functions

    async def _start_listeners(
        self, template: Template, functions: LambdaService, stores: StoreSet, ports: Ports, stack: AsyncExitStack
    ) -> None:
        hosts = Hosts(self._options.allow_hosts)
        invoke = InvokeApi(functions, self._account).application()
        StoreControl(stores.embedded).attach(invoke)
        http = HttpApi(template.http_api_id, template.http_routes, functions, hosts=hosts)
        listeners = [Listener(ports.lambda_, invoke), Listener(ports.http, http.application(), http.plain_http)]
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
            listeners.append(Listener(ports.websocket, websocket.application(), websocket.plain_posts))
        else:
            ports.websocket.close()
        await start_listeners(listeners, stack, access_log=self._options.access_log)

    async def _warm_up(self, template: Template, functions: LambdaService, reloader: Reloader) -> None:
        """Wait for the functions, but for those that a schedule starts."""
        names = sorted(template.functions.keys() - {schedule.function for schedule in template.schedules})
        await warm_up(functions, names, reloader.changed if self._options.reload else None, self._console.say)


def _urls(template: Template, ports: Ports) -> dict[str, str]:
    """Return the addresses of the APIs that the template has, by their names in run.json."""
    urls = {"http": ports.http_url}
    if template.websocket is not None:
        urls["websocket"] = f"{ports.websocket_url}/{template.websocket.stage}"
    return urls | {"lambda": ports.lambda_url}


def _without_aws(shell: Mapping[str, str]) -> dict[str, str]:
    """Return the shell's variables without those that configure AWS clients."""
    return {name: value for name, value in shell.items() if not name.startswith("AWS_")}
