"""An environment of samconfig.toml, with the parameters that a deployment of it would have."""

import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CONFIG, TEMPLATE = Path("samconfig.toml"), Path("template.yaml")


class NoEnvironment(Exception):
    """There is no such environment, or it cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where `sam deploy --config-env` deploys to, and with what."""

    stack: str
    region: str | None
    profile: str | None
    artifacts: str  # prefix in SAM's bucket
    given: Mapping[str, str]


def read_environment(name: str) -> Environment:
    """Read *name* from the samconfig.toml of this folder, as SAM does.

    Raises:
        NoEnvironment: the file or the environment is missing or malformed.
    """
    try:
        config = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
        deploy = _parameters(config, name, "global") | _parameters(config, name, "deploy")
        return Environment(
            deploy["stack_name"],
            deploy.get("region"),
            deploy.get("profile"),
            deploy.get("s3_prefix", deploy["stack_name"]),
            overrides(deploy.get("parameter_overrides", [])),
        )
    except OSError as error:
        raise NoEnvironment(f"{CONFIG}: {error.strerror}; run it in the folder of the template") from error
    except KeyError as error:
        raise NoEnvironment(f"{CONFIG} has no environment {name} with a stack_name; it has {_names(config)}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise NoEnvironment(f"{CONFIG}, environment {name}: {error}") from error


def _names(config: Mapping[str, Any]) -> str:
    return ", ".join(name for name in config if name not in {"version", "default"}) or "none"


def _parameters(config: Mapping[str, Any], name: str, command: str) -> dict[str, Any]:
    return dict(config[name].get(command, {}).get("parameters", {}))


def overrides(given: str | Iterable[str] | Mapping[str, Any]) -> dict[str, str]:
    """Parse parameters in SAM's format: `Name=value` or `Name="value"` in a list or in one string, or a table.

    Raises:
        ValueError: a quotation in the string has no end.
    """
    if isinstance(given, Mapping):
        return {name: str(value) for name, value in given.items()}
    pairs = shlex.split(given) if isinstance(given, str) else given
    return {name: _bare(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def _bare(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return value[1:-1].replace(r"\"", '"') if quoted else value


def defaults() -> dict[str, str]:
    """The defaults of the template's parameters, as CloudFormation shows them.

    Raises:
        NoEnvironment: the template is missing or malformed.
    """
    try:
        parameters = yaml.load(TEMPLATE.read_text(encoding="utf-8"), _Tolerant)["Parameters"]  # noqa: S506 - a SafeLoader
        return {name: str(parameter["Default"]) for name, parameter in parameters.items() if "Default" in parameter}
    except OSError as error:
        raise NoEnvironment(f"{TEMPLATE}: {error.strerror}; run it in the folder of the template") from error
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise NoEnvironment(f"{TEMPLATE} cannot be read: {error}") from error


class _Tolerant(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # PyYAML in C, ten times as fast
    """Reads past CloudFormation's tags, such as !Ref: no default has one."""


_Tolerant.add_multi_constructor("!", lambda _loader, _tag, _node: None)
