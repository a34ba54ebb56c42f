"""change_set.py SAM ENV [OPTION ...]: have CloudFormation say what a deployment would change, and change nothing.

The options are those of deploy.py. The change set is deleted afterwards, also one that failed. It is known by a Release
of its own: the SAM CLI names each by the second, and others may have one of the same stack.

Of a stack that does not exist, an empty one in REVIEW_IN_PROGRESS stays. The next deployment makes use of it.
"""

import os
import secrets
import sys
import tomllib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import boto3
import deploy


def setting(name: str, environment: str, options: Sequence[str]) -> str | None:
    """What `--name` is for `sam deploy`: among *options*, the last one, or else in samconfig.toml."""
    found = None
    for option, following in zip_longest(options, options[1:]):
        given, equals, value = option.partition("=")
        if given == f"--{name}":
            found = value if equals else following
    config = tomllib.loads((deploy.ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    return found or config.get(environment, {}).get("global", {}).get("parameters", {}).get(name.replace("-", "_"))


def of_release(client: Any, stack: str, release: str) -> Iterator[str]:
    """The ids of the change sets of *stack* that would deploy *release*."""
    try:
        for page in client.get_paginator("list_change_sets").paginate(StackName=stack):
            for one in page["Summaries"]:
                described = client.describe_change_set(ChangeSetName=one["ChangeSetId"], StackName=stack)
                if {"ParameterKey": "Release", "ParameterValue": release} in described.get("Parameters", []):
                    yield one["ChangeSetId"]
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":  # no such stack, so no change set of it
            raise


def main(sam: str, environment: str, *options: str) -> int:
    """Make the change set, and delete it; return the exit code of the SAM CLI."""
    release = secrets.token_hex(5)
    os.environ["CHECK"] = "0"  # what changes nothing needs no account that could bear it
    words = [*options, "--no-execute-changeset", deploy.OVERRIDES, f"Release={release}"]
    try:
        status = deploy.main(sam, environment, *words)
    except KeyboardInterrupt:
        status = 130
    if stack := setting("stack-name", environment, options):
        region, profile = (setting(name, environment, options) for name in ("region", "profile"))
        client = boto3.Session(region_name=region, profile_name=profile).client("cloudformation")
        for change_set in list(of_release(client, stack, release)):
            client.delete_change_set(ChangeSetName=change_set, StackName=stack)
            print(f"deleted {change_set}")  # noqa: T201 - a command line prints
        client.close()
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
