"""`votectl rotate`: a new secret for a deployed stack, which all its functions begin to use with one deployment."""

import argparse

from votectl.arguments import Commands, add_stack_options, named
from votectl.environment import NoEnvironment, read_environment
from votectl.terminal import complain


def add_rotate(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declare the command and its secrets."""
    rotate = commands.add_parser(
        "rotate",
        help="give a deployed stack a new secret",
        description="Give a deployed stack a new secret, and deploy it as a new release with all else unchanged. Exit "
        "code 0: done; 1: not done, and it says what the stack has now; 2: usage.",
    )
    add_stack_options(rotate)
    names = rotate.add_subparsers(required=True, dest="secret", metavar="SECRET")
    _secret(names, "redis-url", "the address of existing stores' Redis, with its password")
    _secret(names, "database-url", "the address of existing stores' database, with its password")
    keys = _secret(names, "cookie-keys", "the key that signs voters' cookies (default: one is drawn)")
    step = keys.add_mutually_exclusive_group()
    step.add_argument("--promote", action="store_true", help="only have the last key sign, after a second step failed")
    step.add_argument("--drop-old", action="store_true", help="only drop the keys that do not sign")


def _secret(names: "Commands[argparse.ArgumentParser]", name: str, what: str) -> argparse.ArgumentParser:
    parser = names.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument(
        "--from", dest="source", type=named, metavar="FILE", help="file with the new value; - is standard input"
    )
    parser.set_defaults(command=run_rotate)
    return parser


def run_rotate(options: argparse.Namespace) -> int:
    """Rotate one secret; return the exit code."""
    from votectl.aws_account import AwsAccount, Unanswered  # noqa: PLC0415 - boto3 is slow to import
    from votectl.aws_client import NotConfigured  # noqa: PLC0415
    from votectl.rotation.new_value import Unfit  # noqa: PLC0415
    from votectl.rotation.rotate import ROTATIONS  # noqa: PLC0415
    from votectl.rotation.stack import NotUpdated, Stack, sentence  # noqa: PLC0415

    def stack() -> Stack:
        return Stack(name, AwsAccount(region, profile))

    try:
        name, region, profile = _where(options)
        ROTATIONS[options.secret](options, stack)
    except NoEnvironment as error:
        complain(error)
        return 2
    except (Unfit, NotUpdated, NotConfigured) as error:
        complain(f"It was not done: {error}")
        return 1
    except Unanswered as error:
        complain(f"It was not finished: {sentence(error)}")
        return 1
    except KeyboardInterrupt:
        complain("Interrupted; an update that has begun goes on without this.")
        raise
    return 0


def _where(options: argparse.Namespace) -> tuple[str, str | None, str | None]:
    if not options.env:
        return options.stack, options.region, options.profile
    found = read_environment(options.env)
    return found.stack, options.region or found.region, options.profile or found.profile
