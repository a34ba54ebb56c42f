"""`votectl account`: what in an account would make a deployment fail or throttle, and how to mend it."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace

from votectl.arguments import Commands, named
from votectl.environment import NoEnvironment, overrides, read_environment
from votectl.findings import Finding, finding_lines
from votectl.table import many
from votectl.terminal import all_plain, complain, say, say_json


def add_account(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "account",
        help="check an AWS account before a deployment",
        description="Check what in an AWS account would make a deployment of an environment of samconfig.toml fail or "
        "throttle, and how to mend it. Changes nothing. Exit code 0: no problem; 1: a problem was found; 2: usage.",
    )
    parser.add_argument("--env", type=named, default="dev", help="environment of samconfig.toml (default: %(default)s)")
    parser.add_argument("--stack", type=named, metavar="NAME", help="another name of the stack than the environment's")
    parser.add_argument("--region", type=named, help="another region than the environment's")
    parser.add_argument("--profile", type=named, help="profile of ~/.aws/config")
    parser.add_argument(
        "--parameters",
        nargs="*",
        type=_pair,
        default=[],
        metavar="NAME=VALUE",
        help="parameters on top of the environment's",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON, for scripts")
    parser.set_defaults(command=run_account)


def _pair(text: str) -> str:
    if not text.partition("=")[1]:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return text


def run_account(options: argparse.Namespace) -> int:
    """Print the findings; return the exit code."""
    try:
        findings = list(_findings(options))
    except NoEnvironment as error:
        complain(error)
        return 2
    document = all_plain({"findings": [asdict(finding) for finding in findings]})
    levels = [finding.level for finding in findings]
    if options.json:
        say_json(document)
    else:
        for line in finding_lines(document["findings"]):
            say(line)
        say(f"{many(levels.count('problem'), 'problem')}, {many(levels.count('note'), 'note')}")
    return 1 if "problem" in levels else 0


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    from votectl.account.checks import findings  # noqa: PLC0415 - boto3 is slow to import

    environment = read_environment(options.env)
    return findings(
        replace(
            environment,
            stack=options.stack or environment.stack,
            region=options.region or environment.region,
            profile=options.profile or environment.profile,
            given={**environment.given, **overrides(options.parameters)},
        )
    )
