"""Progress on standard error, so that standard output holds the report alone."""

import sys


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f"  {text}", file=sys.stderr, flush=True)
