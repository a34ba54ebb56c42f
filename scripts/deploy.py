"""deploy.py SAM ENV [OPTION ...]: `sam build` and `sam deploy` of one environment of samconfig.toml, as a new release.

SAM makes no new version of a function for a changed parameter, and the aliases would go on with the old one. So the
parameter Release is the time: seconds since the epoch, the ten characters that SAM puts into a version's name.
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
    """The parameters that samconfig.toml gives *environment*, as SAM takes them: `Name=value` or `Name="value"`.

    Raises:
        SystemExit: there is no such environment, or it cannot be read.
    """
    try:
        config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
        given = config[environment]["deploy"]["parameters"]["parameter_overrides"]
    except KeyError:
        sys.exit(f"samconfig.toml has no [{environment}.deploy.parameters] with parameter_overrides")
    except ValueError as error:
        sys.exit(f"samconfig.toml is no TOML: {error}")
    if isinstance(given, str):  # as `sam deploy --guided` saves them
        try:
            given = [_quoted(pair) for pair in shlex.split(given)]
        except ValueError as error:
            sys.exit(f"samconfig.toml, parameter_overrides of {environment}: {error}")
    return [pair for pair in given if not pair.startswith("Release=")]


def _quoted(pair: str) -> str:
    """Quote the value: SAM refuses an empty one without quotes, and cuts one at its first space."""
    name, _, value = pair.partition("=")
    return '{}="{}"'.format(name, value.replace('"', r"\""))


def main(sam: str, environment: str, *options: str) -> int:
    """Return the exit code of what failed first, or 0."""
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
