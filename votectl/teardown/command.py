"""`votectl teardown`: deletes a stack for good, and says what is left. It can be run again at any point."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from votectl.arguments import Commands, add_stack_options, positive, seconds
from votectl.environment import NoEnvironment, read_environment
from votectl.findings import finding_lines
from votectl.table import many
from votectl.terminal import all_plain, complain, say

if TYPE_CHECKING:
    from votectl.aws_account import AwsAccount
    from votectl.deployed_stack import DeployedStack
    from votectl.teardown.doomed import Doomed

PATIENCE_S = 30  # for one answer: a function that changes takes its time
AGAIN = "Run the same command again: it goes on where it stopped."


def add_teardown(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "teardown",
        help="delete a deployed stack, and report what is left and still bills",
        description="Delete a stack for good: take the functions out of their network, wait for Lambda's network "
        "interfaces, delete the stack, and report what is left and still bills. Can be run again at any point. Exit "
        "code 0: the stack is gone; 1: it is not; 2: usage.",
    )
    add_stack_options(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask for the stack's name as confirmation")
    parser.add_argument(
        "--delete-data", action="store_true", help="turn off the database's deletion protection (ProtectDatabase)"
    )
    parser.add_argument(
        "--patience",
        type=positive,
        default=45,
        metavar="MINUTES",
        help="how long to wait for network interfaces (default: %(default)s)",
    )
    parser.add_argument(
        "--every", type=seconds, default=5.0, metavar="SECONDS", help="how often to look (default: %(default)s)"
    )
    parser.set_defaults(command=run_teardown, usage_error=parser.error)


def run_teardown(options: argparse.Namespace) -> int:
    """Tear the stack down; return the exit code."""
    from votectl.aws_account import AwsAccount, Unanswered  # noqa: PLC0415 - boto3 is slow to import
    from votectl.aws_client import NotConfigured  # noqa: PLC0415
    from votectl.teardown.deletion import NotDeleted  # noqa: PLC0415
    from votectl.teardown.network import StillThere  # noqa: PLC0415

    try:
        name, prefix, region, profile = _where(options)
        account = AwsAccount(region, profile, PATIENCE_S)
        if not _is_gone(options, account, name):
            return 1
        _report(account, name, prefix)
    except NoEnvironment as error:
        complain(error)
        return 2
    except NotConfigured as error:
        complain(error)
        return 1
    except (NotDeleted, StillThere, Unanswered) as error:
        complain(f"Not done: {error}\n{AGAIN}")
        return 1
    except KeyboardInterrupt:
        complain(f"Interrupted; a deletion that has begun goes on without this. {AGAIN}")
        raise
    return 0


def _where(options: argparse.Namespace) -> tuple[str, str, str | None, str | None]:
    if not options.env:
        return options.stack, options.stack, options.region, options.profile
    found = read_environment(options.env)
    return found.stack, found.artifacts, options.region or found.region, options.profile or found.profile


def _is_gone(options: argparse.Namespace, account: "AwsAccount", name: str) -> bool:
    """Tear down the stack unless there is none, or something speaks against it."""
    from votectl.deployed_stack import find_stack  # noqa: PLC0415
    from votectl.teardown.doomed import doomed  # noqa: PLC0415

    stack = find_stack(account, name)
    if stack is None:
        say(f"There is no stack {name} in {account.region} (any more).")
        return True
    if not stack.is_ours:
        complain(f"{stack.place} is not one of this project: it lacks the parameters of its template.")
        return False
    found = doomed(account, stack)
    if against := _against(found, options):
        complain(against)
        return False
    say("\n".join(_plan(found)))
    if not options.yes and not _confirmed(options, stack):
        complain("Nothing was changed.")
        return False
    _perform(options, account, found)
    say(f"The stack {name} is gone.")
    return True


def _against(found: "Doomed", options: argparse.Namespace) -> str:
    stack = found.stack
    if stack.status == "DELETE_IN_PROGRESS":
        return ""
    if stack.is_protected:
        return (
            f"The stack {stack.name} has termination protection. To turn it off: `aws cloudformation "
            f"update-termination-protection --no-enable-termination-protection --stack-name {stack.name}`"
        )
    if stack.is_in_progress:
        return f"The stack {stack.name} is in {stack.status}: wait until that ends, then run this again."
    if found.protected and not options.delete_data:
        return (
            f"The database {', '.join(found.protected)} is protected (ProtectDatabase). With --delete-data its "
            "protection is turned off; it is deleted, and a final snapshot is kept."
        )
    return ""


def _plan(found: "Doomed") -> Iterator[str]:
    yield f"{found.stack.place} is in {found.stack.status}. This will be done:"
    if found.stack.status == "DELETE_IN_PROGRESS":
        yield "  - watch the deletion that is under way"
    else:
        yield f"  - take {many(len(found.functions), 'function')} out of the network: no vote is taken or counted then"
        yield "  - wait for Lambda to remove its network interfaces: some 20 minutes, at times 40"
        yield from (f"  - turn off the deletion protection of the database {one}" for one in found.protected)
        yield "  - delete the stack, with its database and its cache, of which final snapshots are kept"
    yield "  - report what is left and still bills"


def _confirmed(options: argparse.Namespace, stack: "DeployedStack") -> bool:
    if not sys.stdin.isatty():
        options.usage_error("standard input is not a terminal: confirm with --yes")
    return input("Type the stack's name to go on: ").strip() == stack.name


def _perform(options: argparse.Namespace, account: "AwsAccount", found: "Doomed") -> None:
    from votectl.teardown.deletion import delete, unprotect  # noqa: PLC0415
    from votectl.teardown.network import take_out, wait_for_interfaces  # noqa: PLC0415

    if found.stack.status != "DELETE_IN_PROGRESS":
        for function in found.functions:
            say(f"{function}: {'taken out of the network' if take_out(account, function) else 'is in no network'}")
        if found.group:
            wait_for_interfaces(account, found.group, say, options.patience * 60, options.every)
        for database in found.protected:  # as late as possible: until here it can be called off
            unprotect(account, database)
            say(f"{database}: no longer protected")
    delete(account, found.stack, say, options.every)


def _report(account: "AwsAccount", name: str, prefix: str) -> None:
    from votectl.teardown.kept import kept  # noqa: PLC0415

    say("\nWhat is left:")
    for line in finding_lines(all_plain(asdict(finding)) for finding in kept(account, name, prefix)):
        say(line)
