"""deploy.py SAM ENV [OPTION ...]: `sam build` and `sam deploy` of one environment of samconfig.toml, as a new release.

SAM publishes no new version of a function when only a parameter has changed, so the aliases would keep the old one.
Therefore the parameter Release is the time in seconds since the epoch: the ten characters that SAM puts into the name
of a version. Before all, `votectl account` looks the account over; a problem stops the deployment unless CHECK=0.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def parameters(environment: str) -> list[str]:
    """The parameters of *environment* in samconfig.toml, in SAM's format: `Name=value` or `Name="value"`.

    Raises:
        SystemExit: the environment is missing or cannot be read.
    """
    try:
        config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
        given = config[environment]["deploy"]["parameters"]["parameter_overrides"]
    except KeyError:
        sys.exit(f"samconfig.toml has no [{environment}.deploy.parameters] with parameter_overrides")
    except ValueError as error:
        sys.exit(f"samconfig.toml is not valid TOML: {error}")
    if isinstance(given, str):  # the format of `sam deploy --guided`
        try:
            given = [_quoted(pair) for pair in shlex.split(given)]
        except ValueError as error:
            sys.exit(f"samconfig.toml, parameter_overrides of {environment}: {error}")
    return [pair for pair in given if not pair.startswith("Release=")]


def _quoted(pair: str) -> str:
    """Quote the value: without quotes, SAM refuses an empty one and cuts others at the first space."""
    name, _, value = pair.partition("=")
    return '{}="{}"'.format(name, value.replace('"', r"\""))


def account_check(environment: str, given: list[str], options: tuple[str, ...]) -> int:
    """Check the account for a deployment with *given*; return 0 if it found no problem, or if CHECK=0 skips it.

    Of the *options* for SAM, those that say where to deploy count: `--region`, `--profile`, `--stack-name`.
    """
    if os.environ.get("CHECK") == "0":
        return 0
    where = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--region", "--profile", "--stack-name"):
        where.add_argument(option)
    chosen = vars(where.parse_known_args(options)[0])
    words = [f"--{name.removesuffix('_name')}={value}" for name, value in chosen.items() if value]
    account = [sys.executable, "-m", "votectl", "account", "--env", environment, *words, "--parameters", *given]
    checked = subprocess.run(account, cwd=ROOT, check=False).returncode
    if checked:
        print("Nothing was deployed. CHECK=0 deploys all the same.", file=sys.stderr)  # noqa: T201 - a command line
    return checked


def main(sam: str, environment: str, *options: str) -> int:
    """Check, build and deploy; return the exit code of the first failure, or 0."""
    given = parameters(environment)
    if checked := account_check(environment, given, options):
        return checked
    architecture = dict(pair.split("=", 1) for pair in given).get("Architecture", "arm64").strip('"')
    built = subprocess.run(
        [sam, "build", "--parameter-overrides", *given],
        cwd=ROOT,
        env=os.environ | {"ARCHITECTURE": architecture},
        check=False,
    )
    if built.returncode:
        return built.returncode
    overrides = [*given, f"Release={int(time.time())}"]
    deploy = [sam, "deploy", "--config-env", environment, *options, "--parameter-overrides", *overrides]
    return subprocess.run(deploy, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
