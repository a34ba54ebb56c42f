"""`votectl rotate`: a new secret for a deployed stack, which all its functions begin to use with one deployment."""

import argparse
from collections.abc import Callable

from votectl.arguments import named
from votectl.aws_client import NotConfigured, client
from votectl.rotation.cookie_keys import CookieKeys, add, drop_old, promote
from votectl.rotation.new_value import (
    Unfit,
    checked_database_url,
    checked_key,
    checked_redis_url,
    new_key,
    read_value,
)
from votectl.rotation.stack import NotUpdated, Stack
from votectl.terminal import complain, say

Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it

AFTER_REDIS = """Every function has the new RedisUrl. Runs of the worker with the old one end within two minutes.
Then take the old password from its user in Redis: ACL SETUSER USER <OLD-PASSWORD"""
AFTER_DATABASE = """Every function has the new DatabaseUrl. Runs of the worker with the old one end within two minutes.
Then drop the old login in Postgres, or change its password."""
AFTER_KEYS = """The new key signs, the old ones verify. Each voter who comes back gets a cookie with the new one.
When the voters have been back, at the latest after the poll: votectl rotate --stack {stack} cookie-keys --drop-old
A voter who has not been back by then is a new voter."""


def add_rotate(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declare the command and its secrets."""
    rotate = commands.add_parser(
        "rotate",
        help="give a deployed stack a new secret",
        description="Give a deployed stack a new secret, and deploy it as a new release with all else unchanged. Exit "
        "code 0: done; 1: not done, and it says what the stack has now; 2: usage.",
    )
    rotate.add_argument("--stack", type=named, required=True, metavar="NAME", help="name of the stack")
    names = rotate.add_subparsers(required=True, metavar="SECRET")
    _secret(names, "redis-url", "the address of existing stores' Redis, with its password", rotate_redis)
    _secret(names, "database-url", "the address of existing stores' database, with its password", rotate_database)
    keys = _secret(names, "cookie-keys", "the key that signs voters' cookies (default: one is drawn)", rotate_keys)
    step = keys.add_mutually_exclusive_group()
    step.add_argument("--promote", action="store_true", help="only have the last key sign, after a second step failed")
    step.add_argument("--drop-old", action="store_true", help="only drop the keys that do not sign")


def _secret(
    names: "Commands[argparse.ArgumentParser]", name: str, what: str, rotate: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser = names.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument(
        "--from", dest="source", type=named, metavar="FILE", help="file with the new value; - is standard input"
    )
    parser.set_defaults(command=run_rotate, rotate=rotate)
    return parser


def run_rotate(options: argparse.Namespace) -> int:
    """Rotate one secret; return the exit code."""
    try:
        options.rotate(options)
    except (Unfit, NotUpdated, NotConfigured) as error:
        complain(f"It was not done: {error}")
        return 1
    return 0


def rotate_redis(options: argparse.Namespace) -> None:
    """Give the stack a new `RedisUrl`."""
    value = checked_redis_url(read_value("RedisUrl", options.source))
    stack = _stack(options)
    if stack.resource("Cache") is not None:
        raise NotUpdated("This stack has a Redis of its own: docs/guides/deploy.md says how its password changes.")
    stack.update({"RedisUrl": value})
    say(AFTER_REDIS)


def rotate_database(options: argparse.Namespace) -> None:
    """Give the stack a new `DatabaseUrl`."""
    value = checked_database_url(read_value("DatabaseUrl", options.source))
    stack = _stack(options)
    if stack.resource("OperatorLogin") is not None:
        raise NotUpdated("This stack has logins of its own: docs/guides/deploy.md says how their passwords change.")
    stack.update({"DatabaseUrl": value})
    say(AFTER_DATABASE)


def rotate_keys(options: argparse.Namespace) -> None:
    """Give the stack a new key of cookies, or do one step of that."""
    is_step = options.promote or options.drop_old
    if is_step and options.source:
        raise Unfit("--from gives a new key, and --promote and --drop-old need none.")
    key = None if is_step else checked_key(read_value("key", options.source) if options.source else new_key())
    keys = CookieKeys(_stack(options), client("lambda"), client("secretsmanager"))
    if options.drop_old:
        say(f"{drop_old(keys)} dropped.")
        return
    if key is None:
        promote(keys)
    else:
        add(keys, key)
    say(AFTER_KEYS.format(stack=options.stack))


def _stack(options: argparse.Namespace) -> Stack:
    return Stack(options.stack, client("cloudformation"), client("s3"))
