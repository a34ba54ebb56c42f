"""What the commands share: options, and checks of values that would otherwise do harm or end in a traceback."""

import argparse

from voting.address import web_fault

Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it
LONGEST_WAIT_S = 3600.0


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which deployed stack is meant, and where it is."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--env", type=named, help="environment of samconfig.toml")
    which.add_argument("--stack", type=named, metavar="NAME", help="name of the stack")
    parser.add_argument("--region", type=named, help="another region than the environment's or the shell's")
    parser.add_argument("--profile", type=named, help="profile of ~/.aws/config")


def named(text: str) -> str:
    """Accept a non-empty name. An unset shell variable leaves an empty one, which must not mean the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: is a variable of the shell not set?")
    return text


def address(text: str) -> str:
    """Accept the http or https address of a server. Error messages do not show it, since it may hold a password."""
    fault = web_fault(named(text).strip(), ("http", "https"))
    if fault:
        raise argparse.ArgumentTypeError(f"it {fault}; an address is such as https://vote.example.org")
    return text.strip()


def positive(text: str) -> int:
    """Accept an integer of at least 1."""
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number") from error
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def seconds(text: str) -> float:
    """Accept a time to wait: more than 0 s, and at most an hour."""
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from error
    if not 0 < number <= LONGEST_WAIT_S:  # nor is it NaN
        raise argparse.ArgumentTypeError(f"{text} is not above 0, or is more than an hour")
    return number
