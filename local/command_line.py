"""The command line of `python -m local`."""

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import shlex
import signal
import sys
from pathlib import Path

from local.host.console import Console, ConsoleHandler, show
from local.host.state_dir import StateDir, StateError
from local.hosts import is_name
from local.options import Options
from local.run import serve
from local.start_error import StartError
from local.stores.control import ask
from local.stores.store import StoreError
from local.template.intrinsics import TemplateError

_STOP_TIMEOUT_S = 20.0
_FILES = 16384  # a thousand subscribers, and the environments


def main(arguments: list[str] | None = None) -> int:
    """Run the command in *arguments*; return the exit code."""
    parsed = _parser().parse_args(arguments)
    state = StateDir(parsed.state_dir)
    try:
        if parsed.down or parsed.reset:
            print(show(_end(state, forget=parsed.reset)))
        elif parsed.stop_store:
            print(show(ask(state, parsed.stop_store, "stop")))
        elif parsed.start_store:
            print(show(ask(state, parsed.start_store, "start")))
        else:
            _serve(parsed, state)
    except (StateError, TemplateError, StartError, StoreError) as error:
        print("\n".join(map(show, f"local: {error}".split("\n"))), file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description="Serve the functions, APIs and schedules of a SAM template on this machine, without Docker.",
        epilog="A variable that the template declares for a function is taken from the shell where it is set there: "
        "OPTION_A=Tea python -m local. With REDIS_URL or DATABASE_URL set, that store is used and none is embedded.",
    )
    add = parser.add_argument
    add("--http-port", type=_port, default=3000, metavar="PORT", help="of the HTTP API (3000; 0 takes a free one)")
    add("--websocket-port", type=_port, default=3001, metavar="PORT", help="of the WebSocket API (3001)")
    add("--lambda-port", type=_port, default=3002, metavar="PORT", help="of the Lambda Invoke API (3002)")
    add("--state-dir", type=Path, default=Path(".local"), metavar="DIR", help="data, secrets and run.json (.local)")
    add("--template", type=Path, default=Path("template.yaml"), metavar="FILE", help="what to serve (template.yaml)")
    add("--environments", type=_positive, default=10, metavar="N", help="most execution environments per function (10)")
    add("--no-reload", action="store_true", help="do not watch for changed code")
    add("--metrics", action="store_true", help="show the metrics (EMF) among the logs")
    add("--access-log", action="store_true", help="log every request, not only those that fail")
    add("--websocket-idle-s", type=float, default=600.0, metavar="S", help="close silent connections (600, as AWS)")
    add("--websocket-max-age-s", type=float, default=7200.0, metavar="S", help="close old connections (7200, as AWS)")
    add(
        "--allow-host",
        type=_host,
        action="append",
        default=[],
        metavar="NAME",
        help="serve the HTTP and WebSocket APIs under this name too, such as a tunnel's; may be given several times",
    )
    add(
        "--also",
        type=_companion,
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="run this program too, with LOCAL_RUN_JSON in its environment; may be given several times",
    )
    verbs = parser.add_mutually_exclusive_group()
    verbs.add_argument("--down", action="store_true", help="stop the instance of the state directory")
    verbs.add_argument("--reset", action="store_true", help="stop it, and delete the state directory")
    stores = ("redis", "postgres")
    verbs.add_argument("--stop-store", choices=stores, help="stop an embedded store of the running instance")
    verbs.add_argument("--start-store", choices=stores, help="start it again")
    return parser


def _serve(parsed: argparse.Namespace, state: StateDir) -> None:
    options = Options(
        template=parsed.template,
        http_port=parsed.http_port,
        websocket_port=parsed.websocket_port,
        lambda_port=parsed.lambda_port,
        environments=parsed.environments,
        reload=not parsed.no_reload,
        access_log=parsed.access_log,
        websocket_idle_s=parsed.websocket_idle_s,
        websocket_max_age_s=parsed.websocket_max_age_s,
        allow_hosts=tuple(parsed.allow_host),
        also=tuple(parsed.also),
    )
    _allow_many_files()
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    state.open()
    console = Console(sys.stdout, colour=colour, metrics=parsed.metrics)
    try:
        _log_to(console)
        asyncio.run(serve(options, state, console, os.environ))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # it is ending already
            signal.signal(number, signal.SIG_IGN)
        console.close()
        state.retire()


def _log_to(console: Console) -> None:
    logger = logging.getLogger("local")
    logger.setLevel(logging.INFO)
    logger.addHandler(ConsoleHandler(console))
    logger.propagate = False
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).addHandler(ConsoleHandler(console))


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end(state: StateDir, *, forget: bool) -> str:
    """Stop the run that holds the state directory, delete the directory if *forget*, and return what was done."""
    done = f"Stopped what was running in {state.path}." if _stop(state) else f"Nothing was running in {state.path}."
    if forget and state.forget():
        done += " Deleted its votes, passwords and cookie keys."
    return done


def _stop(state: StateDir) -> bool:
    """Stop the run that holds the state directory and wait for its end; return False if there is none."""
    pid = state.holder()
    if pid is None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if state.wait_released(_STOP_TIMEOUT_S):
            return True
    raise StateError(f"process {pid} did not end")


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError("a number from 0 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError("a number of at least 1")
    return int(text)


def _host(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a host name: give the host alone, without scheme and port")
    return text


def _companion(text: str) -> tuple[str, str]:
    name, equals, command = text.partition("=")
    if not (name and equals and command.strip()):
        raise argparse.ArgumentTypeError("NAME=COMMAND")
    try:
        shlex.split(command)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    return name, command
