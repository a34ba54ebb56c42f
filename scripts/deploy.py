"""deploy.py SAM ENV [OPTION ...]: `sam build` and `sam deploy` of one environment of samconfig.toml, as a new release.

SAM publishes no new version of a function when only a parameter has changed, so the aliases would keep the old one.
Therefore the parameter Release is the time in seconds since the epoch: the ten characters that SAM puts into the name
of a version.
"""

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


def main(sam: str, environment: str, *options: str) -> int:
    """Build and deploy; return the exit code of the first failure, or 0."""
    given = parameters(environment)
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
