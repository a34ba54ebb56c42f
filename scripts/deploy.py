"""deploy.py SAM ENV [OPTION ...]: `sam build` and `sam deploy` of one environment of samconfig.toml, as a new release.

Parameters among the options (`--parameter-overrides`) are added to those of the environment, and win. The SAM CLI alone
would take the last list in place of all others.

SAM publishes no new version of a function when only a parameter has changed, so the aliases would keep the old one.
Therefore the parameter Release is the time in seconds since the epoch: the ten characters that SAM puts into the name
of a version. Before all, `votectl account` looks the account over; a problem stops the deployment unless CHECK=0.
"""

import argparse
import difflib
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from samcli.cli.types import CfnParameterOverridesType
from samcli.yamlhelper import yaml_parse

ROOT = Path(__file__).parents[1]
OVERRIDES = "--parameter-overrides"
REFUSED = {
    "--config-env": "say ENV=… in its place",
    "--config-file": "the parameters are those of samconfig.toml",
    **dict.fromkeys(["--template-file", "--template", "-t"], "what was built of template.yaml is deployed"),
}
# As the SAM CLI has it: a value ends at a space, unless it is quoted.
_VALUE = r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|[^\s"'\\])+)"""
_PAIR = re.compile(rf"(?:ParameterKey=\w+,ParameterValue|\w+)={_VALUE}(?=\s|$)")
_ALONE = re.compile(r"(?:ParameterKey=(\w+),ParameterValue|(\w+))=((?![\"'])(?!.*\s\w+=).*)", re.DOTALL)
_SAM = CfnParameterOverridesType()


def read(given: Any) -> dict[str, str]:
    """The parameters in what `--parameter-overrides` takes: words, a table of samconfig.toml, or a list of these.

    One pair is a whole word, with or without spaces. Several pairs in one word, as `sam deploy --guided` saves them,
    need quotes around a value with spaces.

    Raises:
        ValueError: a word is no pair, or the SAM CLI would drop a part of it.
        click.BadParameter: a file of parameters cannot be read.
    """
    if isinstance(given, list | tuple):
        return {name: value for one in given for name, value in read(one).items()}
    if not isinstance(given, str) or given.startswith("file://"):
        return dict(_SAM.convert(given, None, None))
    if not _PAIR.sub("", given).strip():
        return dict(_SAM.convert(given, None, None))
    if alone := _ALONE.fullmatch(given.strip()):
        return {alone[1] or alone[2]: alone[3]}
    name = re.split(r"[^\w]", given, maxsplit=1)[0]  # without the value, which may be a secret
    raise ValueError(f'{name or "a parameter"}: write Name=value, with spaces in it Name="a value"')


def parameters(environment: str) -> dict[str, str]:
    """The parameters of *environment* in samconfig.toml, without its Release.

    Raises:
        SystemExit: the environment is missing or cannot be read.
    """
    try:
        config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    except ValueError as error:
        sys.exit(f"samconfig.toml is not valid TOML: {error}")
    try:
        given = read(config[environment]["deploy"]["parameters"]["parameter_overrides"])
    except KeyError:
        names = ", ".join(name for name in config if name not in {"version", "default"})
        sys.exit(f"samconfig.toml has no [{environment}.deploy.parameters] with parameter_overrides; it has {names}")
    except (ValueError, click.BadParameter) as error:
        sys.exit(f"samconfig.toml, parameter_overrides of {environment}: {error}")
    given.pop("Release", None)
    return given


def separate(options: Iterable[str]) -> tuple[list[str], list[str]]:
    """Divide *options* into the words of all lists of parameters, and the rest. A list ends at the next option."""
    words: list[str] = []
    rest: list[str] = []
    taker = rest
    for option in options:
        name, equals, value = option.partition("=")
        if name == OVERRIDES:
            taker = words
            words += [value] if equals else []
        else:
            taker = rest if option.startswith("-") else taker
            taker.append(option)
    return words, rest


def unknown(given: Iterable[str], declared: Iterable[str]) -> str | None:
    """A line on the first name that the template does not declare."""
    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, 1)
            return f"template.yaml has no parameter {name}" + (f"; is it {near[0]}?" if near else "")
    return None


def pairs(given: Mapping[str, str]) -> list[str]:
    """*given* for the SAM CLI, which refuses empty values without quotes and cuts others at the first space.

    Raises:
        ValueError: it has no way to say this value.
    """
    words = ['{}="{}"'.format(name, value.replace('"', r"\"")) for name, value in given.items()]
    for word, (name, value) in zip(words, given.items(), strict=True):
        if _PAIR.fullmatch(word) is None or _SAM.convert(word, None, None) != {name: value}:
            raise ValueError(f"the SAM CLI has no way to say this value of {name}")
    return words


def account_check(environment: str, given: Mapping[str, str], options: list[str]) -> int:
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
    pairs_given = [f"{name}={value}" for name, value in given.items()]
    account = [sys.executable, "-m", "votectl", "account", "--env", environment, *words, "--parameters", *pairs_given]
    checked = subprocess.run(account, cwd=ROOT, check=False).returncode
    if checked:
        print("Nothing was deployed. CHECK=0 deploys all the same.", file=sys.stderr)  # noqa: T201 - a command line
    return checked


def main(sam: str, environment: str, *options: str) -> int:
    """Check, build and deploy; return the exit code of the first failure, or 0."""
    words, rest = separate(options)
    for name in (option.partition("=")[0] for option in rest):
        if name in REFUSED:
            sys.exit(f"{name}: {REFUSED[name]}")
    declared = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))["Parameters"]
    try:
        given = parameters(environment) | read(words)
        if fault := unknown(given, declared):
            sys.exit(fault)
        built = pairs({name: value for name, value in given.items() if name != "Release"})
        # What --guided is told, it saves: a Release that came again would publish nothing.
        deployed = pairs(given if {"--guided", "-g"} & {*rest} else {"Release": str(int(time.time()))} | given)
    except (ValueError, click.BadParameter) as error:
        sys.exit(f"{OVERRIDES}: {error}")
    if checked := account_check(environment, given, rest):
        return checked
    build = [sam, "build", OVERRIDES, *built]
    architecture = given.get("Architecture", declared["Architecture"]["Default"])
    status = subprocess.run(build, cwd=ROOT, env=os.environ | {"ARCHITECTURE": architecture}, check=False).returncode
    deploy = [sam, "deploy", "--config-env", environment, *rest, OVERRIDES, *deployed]
    return status or subprocess.run(deploy, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        print("Interrupted; a deployment that CloudFormation has begun goes on.", file=sys.stderr)  # noqa: T201
        sys.exit(130)
