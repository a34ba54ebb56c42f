"""Values on the command line that would do harm, or end in a traceback, if they were taken as they are."""

import argparse

from voting.address import web_fault


def named(text: str) -> str:
    """A name. An empty one is what an unset variable of the shell leaves; it must not stand for the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: is a variable of the shell not set?")
    return text


def address(text: str) -> str:
    """The address of a server: http or https, and a host. A complaint shows none of it: it may hold a password."""
    fault = web_fault(named(text).strip(), ("http", "https"))
    if fault:
        raise argparse.ArgumentTypeError(f"it {fault}; an address is such as https://vote.example.org")
    return text.strip()


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no whole number") from error
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number
