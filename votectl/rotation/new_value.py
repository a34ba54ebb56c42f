"""New secrets: read without showing them, and checked as the functions would check them."""

import getpass
import re
import secrets
import sys
from pathlib import Path

from voting.address import database_fault, redis_fault
from voting.redis_client import new_redis
from voting.settings import InvalidSetting

LONGEST = 4096  # bytes that CloudFormation takes as the value of a parameter
SHORTEST_KEY = 32  # characters; the template asks for as many
KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without a space or a comma, which separates keys


class Unfit(Exception):
    """The new value cannot be used, or could not be read; the message says why, and shows no part of it."""


def read_value(parameter: str, source: str | None) -> str:
    """Return the new value of *parameter*: from the file *source*, from standard input (`-`), or asked for.

    Raises:
        Unfit: there is no such file, no terminal to ask at, or the two answers differ.
    """
    if source is None:
        return _ask(parameter)
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise Unfit(f"{source} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Unfit(f"{source} is not UTF-8.") from error
    return text.strip("\r\n")


def _ask(parameter: str) -> str:
    if not sys.stdin.isatty():  # getpass would show what is typed
        raise Unfit("There is no terminal to ask at: give --from FILE, or --from - for standard input.")
    value = getpass.getpass(f"New {parameter} (it is not shown): ")
    if getpass.getpass("Again: ") != value:
        raise Unfit("The two are not the same. Nothing was changed.")
    return value


def checked_redis_url(value: str) -> str:
    """Return *value*.

    Raises:
        Unfit: the functions or the template would refuse it.
    """
    try:
        fault = redis_fault(value, ("redis", "rediss"))
        if fault is None:
            new_redis(value, retries=0).close()
    except InvalidSetting as error:
        raise Unfit(f"{error}.") from error
    return _fitting("RedisUrl", value, fault)


def checked_database_url(value: str) -> str:
    """Return *value*.

    Raises:
        Unfit: the functions or the template would refuse it.
    """
    return _fitting("DatabaseUrl", value, database_fault(value, ("postgresql", "postgres")))


def _fitting(parameter: str, value: str, fault: str | None) -> str:
    if fault is not None:
        raise Unfit(f"{parameter} {fault}.")
    if len(value.encode()) > LONGEST:
        raise Unfit(f"{parameter} is longer than {LONGEST} bytes.")
    return value


def checked_key(value: str) -> str:
    """Return *value*, one key of cookies.

    Raises:
        Unfit: it is short, or has characters that a list of keys does not keep.
    """
    if len(value) < SHORTEST_KEY:
        raise Unfit(f"A key of cookies has {SHORTEST_KEY} characters or more.")
    if not KEY.fullmatch(value):
        raise Unfit("A key of cookies has no comma and no space in it, and only characters of ASCII.")
    return value


def new_key() -> str:
    """Draw a key of cookies: 64 characters, 384 bits."""
    return secrets.token_urlsafe(48)
