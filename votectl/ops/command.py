"""`votectl ops`: operations on a stack through its function ops."""

import argparse
import sys
import threading
from typing import Any

from votectl.arguments import Commands, named
from votectl.local_run import local_run
from votectl.ops.function import LOGICAL_ID, NotInvoked, OpsFunction
from votectl.ops.pages import PAGED, page_by_page
from votectl.ops.report import describe
from votectl.ops.schedule import ScheduleUnchanged, set_state
from votectl.terminal import complain, say, say_json

PROGRESS_EVERY_S = 2.0
FUNCTION = "a deployed function (output OpsFunctionName; default: local)"


def add_ops(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declare the command and its operations."""
    ops = commands.add_parser(
        "ops",
        help="inspect and repair the queue, the dead letters, the tally and the handover",
        description="Operate a stack through its function ops. Exit code 0: no problem; 1: a problem was found, or the "
        "operation was refused; 2: usage.",
    )
    ops.add_argument("--function", type=named, metavar="NAME", help=FUNCTION)
    ops.add_argument("--json", action="store_true", help="print the answer as JSON, for scripts")
    names = ops.add_subparsers(required=True, metavar="OPERATION")

    status = _operation(names, "status", "status", "show queue, batch in process, dead letters, tally, subscribers")
    status.add_argument("--count", action="store_true", help="count the rows too (GROUP BY: slow on a large table)")

    _add_dead(names)

    tally = names.add_parser("tally", help="check the tally").add_subparsers(required=True, metavar="OPERATION")
    verify = _operation(tally, "verify", "tally verify", "compare the tally with the rows, with writes blocked")
    verify.add_argument("--repair", action="store_true", help="correct it in the same transaction")

    preflight = _operation(
        names, "preflight", "preflight", "check whether the stores of a running deployment are ready for this system"
    )
    preflight.add_argument(
        "--watch", dest="watch_s", type=float, metavar="SECONDS", help="how long to watch the list (default: 5)"
    )

    _add_handover(names)
    _operation(names, "install", "install", "create missing database objects and the functions' logins")
    _operation(names, "indexes", "indexes", "build the contract's indexes without blocking writes")


def _operation(
    names: "Commands[argparse.ArgumentParser]", name: str, operation: str, what: str
) -> argparse.ArgumentParser:
    parser = names.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    # Both may stand before the operation, too.
    parser.add_argument("--function", type=named, metavar="NAME", default=argparse.SUPPRESS, help=FUNCTION)
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the answer as JSON")
    parser.set_defaults(command=run_ops, operation=operation, usage_error=parser.error)
    return parser


def _add_dead(names: "Commands[argparse.ArgumentParser]") -> None:
    dead = names.add_parser("dead", help="list, requeue or drop dead letters")
    verbs = dead.add_subparsers(required=True, metavar="OPERATION")
    show = _operation(verbs, "list", "dead list", "list dead letters, oldest first")
    requeue = _operation(
        verbs,
        "requeue",
        "dead requeue",
        "queue dead letters again that are valid votes now, if their voters have no other vote",
    )
    drop = _operation(verbs, "drop", "dead drop", "delete dead letters for good")
    for parser in (show, requeue, drop):
        parser.add_argument("--reason", type=named, help="only letters parked for this reason")
    for parser, default in ((show, 50), (requeue, 10_000)):
        parser.add_argument("--limit", type=int, default=default, help="at most this many (default: %(default)s)")
    show.add_argument("--offset", type=int, default=0, help="skip this many (default: %(default)s)")
    requeue.add_argument(
        "--force", action="store_true", help="all complete ones: an older choice may then replace a newer one"
    )
    drop.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def _add_handover(names: "Commands[argparse.ArgumentParser]") -> None:
    takeover = _operation(names, "takeover", "takeover", "let our worker drain the list again")
    takeover.add_argument("--force", action="store_true", help="even if another worker takes votes from the list")
    handback = _operation(
        names, "handback", "handback", "stop our worker and return its batch to the list, for another to drain"
    )
    for parser, change in ((takeover, "enable"), (handback, "disable")):
        parser.add_argument(
            "--schedule", type=named, metavar="NAME", help=f"{change} this schedule too (output WorkerScheduleName)"
        )


# Options that are passed on to the function.
ARGUMENTS = ("count", "reason", "limit", "offset", "force", "repair", "watch_s")


def run_ops(options: argparse.Namespace) -> int:
    """Perform one operation, print the response, return the exit code."""
    try:
        function = _function(options)
        if function is None:
            return 1
        if options.operation == "dead drop" and not options.yes and not _confirmed(options):
            complain("Nothing was dropped.")
            return 1
        answer = _perform(options, function)
    except (NotInvoked, ScheduleUnchanged) as error:
        complain(f"It was not done: {error}")
        return 1
    if options.json:
        say_json(answer)
    else:
        say(describe(options.operation, answer))
    if not answer["ok"]:
        return 1
    is_complete = options.operation != "takeover" or not options.schedule or _enabled(options.schedule)
    return 0 if is_complete and not answer["problems"] else 1


def _enabled(schedule: str) -> bool:
    """Enable the schedule after a takeover; if that fails, say what is left to do."""
    try:
        was_disabled = set_state(schedule, "ENABLED")
    except ScheduleUnchanged as error:
        complain(
            f"The takeover succeeded, but the schedule that starts our worker was not enabled: {error}\n"
            "Fix the cause and run the same command again, or enable the schedule by hand."
        )
        return False
    complain(f"the schedule {schedule} {'is enabled' if was_disabled else 'was enabled already'}")
    return True


def _function(options: argparse.Namespace) -> OpsFunction | None:
    if options.function:
        return OpsFunction(options.function, None)
    if getattr(options, "schedule", None):
        options.usage_error("--schedule is for a deployed stack: name its function with --function")
    run = local_run()
    if run is None:
        complain("Nothing runs here: start it with `make up`, or name a stack's function with --function.")
        return None
    return OpsFunction(LOGICAL_ID, run)


def _confirmed(options: argparse.Namespace) -> bool:
    if not sys.stdin.isatty():
        options.usage_error("standard input is not a terminal: confirm with --yes")
    which = f"all dead letters of the reason {options.reason}" if options.reason else "all dead letters"
    return input(f"Delete {which} for good? Type yes: ").strip() == "yes"


def _perform(options: argparse.Namespace, function: OpsFunction) -> dict[str, Any]:
    given = {name: getattr(options, name, None) for name in ARGUMENTS}
    arguments = {name: value for name, value in given.items() if value is not None}
    schedule: str | None = getattr(options, "schedule", None)
    if options.operation == "handback" and schedule:  # first, or a run would start in between and end at once
        complain(
            f"the schedule {schedule} {'is disabled' if set_state(schedule, 'DISABLED') else 'was disabled already'}"
        )
    if options.operation == "indexes":
        return _with_progress(function)
    if options.operation in PAGED:
        return page_by_page(function, options.operation, arguments, complain)
    return function.perform(options.operation, arguments)


def _with_progress(function: OpsFunction) -> dict[str, Any]:
    """Build the indexes, and show their progress with further invocations."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(PROGRESS_EVERY_S):
            try:
                builds = function.perform("indexes progress", {}).get("progress", [])
            except NotInvoked as error:
                complain(f"no progress to show: {error}")
                return
            for build in builds:
                blocks = f"block {build['blocks_done']} of {build['blocks_total']}"
                complain(f"{build['index'] or 'index'}: {build['phase']}, {blocks}")

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        return function.perform("indexes", {})
    finally:
        over.set()
        follower.join(PROGRESS_EVERY_S)
