"""The commands of `python -m votectl`."""

import argparse
import os
import sys

from votectl.account.command import add_account
from votectl.arguments import address, positive
from votectl.cost.command import add_cost
from votectl.loadtest.command import add_loadtest
from votectl.loadtest.demo import Demo
from votectl.local_run import NotWhole, local_run
from votectl.ops.command import add_ops
from votectl.rotation.command import add_rotate
from votectl.teardown.command import add_teardown
from votectl.terminal import complain, say

SIGPIPE = 141  # the exit code of a command of a shell whose reader is gone


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's own flush would fail, too
        return SIGPIPE


def _run(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m votectl", description="Operate a live vote.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    what = "send a trickle of seeded votes, so that the pages show something"
    demo = commands.add_parser("demo", help=what, description=f"{what[0].upper()}{what[1:]}. Ctrl-C ends it.")
    demo.add_argument("--url", type=address, help="address of the voting page (default: the local run)")
    demo.add_argument("--rate", type=float, default=4.0, help="votes per second, 0.1 to 50 (default: %(default)s)")
    demo.add_argument("--voters", type=positive, default=200, help="number of voters (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=1, help="the same seed sends the same votes (default: %(default)s)")
    demo.add_argument("--votes", type=positive, help="stop after this many votes (default: never)")
    demo.set_defaults(command=run_demo)

    add_loadtest(commands)
    add_ops(commands)
    add_cost(commands)
    add_rotate(commands)
    add_account(commands)
    add_teardown(commands)

    options = parser.parse_args(arguments)
    if "rate" in options and not 0.1 <= options.rate <= 50:
        parser.error(f"--rate {options.rate} is not between 0.1 and 50; for more, use `votectl loadtest`")
    try:
        code: int = options.command(options)
    except NotWhole as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def run_demo(options: argparse.Namespace) -> int:
    """Send votes until interrupted, or as many as asked for."""
    run = None if options.url else local_run()
    url = options.url or (run and run.http)
    if not url:
        complain("Nothing runs here: start it with `make up`, or name a stack with --url.")
        return 1
    say(f"sending about {options.rate:g} votes per second to {url}")
    demo = Demo(url, voters=options.voters, seed=options.seed)
    demo.run(options.rate, options.votes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
