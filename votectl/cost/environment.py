"""What an environment of samconfig.toml says of the cost: its region, and the parameters that the bill depends on."""

import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from votectl.cost.estimate import HOURS_A_MONTH

SAMCONFIG = Path(__file__).parents[2] / "samconfig.toml"
ALWAYS = "rate(1 minute)"
EVENING = re.compile(r"cron\(\* (\S+) \? \* (\S+) \*\)")  # each minute of some hours of some days
HOURS = [str(hour) for hour in range(24)]
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]  # in the order of EventBridge

# By the option of `votectl cost`: the parameter of template.yaml, and how its text becomes the option's value.
PARAMETERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "architecture": ("Architecture", str),
    "cache_node": ("CacheNodeType", str),
    "cache_nodes": ("CacheNodes", int),
    "database": ("DatabaseClass", str),
    "database_storage": ("DatabaseStorageGiB", int),
    "single_az": ("DatabaseMultiAz", lambda text: text == "false"),
    "nat": ("Egress", lambda text: text == "nat"),
    "interval_ms": ("BroadcastIntervalMs", int),
    "messages_per_s": ("BroadcastMessagesPerSecond", int),
    "worker_schedule": ("WorkerSchedule", str),
    "alarms": ("Alarms", str),
    "budget": ("MonthlyBudgetUSD", float),
    "question": ("Question", str),
    "options": ("Options", str),
}


class NoEnvironment(Exception):
    """samconfig.toml has no such environment, or says something that cannot be understood."""


def of_environment(name: str, path: Path = SAMCONFIG) -> dict[str, Any]:
    """The options that the environment *name* stands for; what it does not name is left out.

    Raises:
        NoEnvironment: it is missing or cannot be read.
    """
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NoEnvironment(f"{path.name} cannot be read: {error}") from error
    if name not in config or name == "version":
        names = ", ".join(each for each in config if each != "version")
        raise NoEnvironment(f"{path.name} has no environment {name}: it has {names}")
    try:
        sections = [config[name].get(command, {}).get("parameters", {}) for command in ("global", "deploy")]
        region = next((section["region"] for section in sections if "region" in section), None)
        given = _parameters(sections[1].get("parameter_overrides", []))
        options = {key: read(given[of]) for key, (of, read) in PARAMETERS.items() if of in given}
    except (AttributeError, TypeError, ValueError) as error:
        raise NoEnvironment(f"{path.name}, {name}: {error}") from error
    return options | ({} if region is None else {"region": region})


def _parameters(overrides: str | Sequence[str]) -> dict[str, str]:
    """By name: from a list of `Name=value` or `Name="value"`, or all of them in one text, as SAM's guide writes it."""
    text = overrides if isinstance(overrides, str) else " ".join(overrides)
    return dict(pair.split("=", 1) for pair in shlex.split(text) if "=" in pair)


def counting_hours(expression: str) -> float:
    """Hours of an average month in which the parameter WorkerSchedule has votes counted.

    Raises:
        NoEnvironment: it is no schedule that template.yaml allows.
    """
    if expression == ALWAYS:
        return HOURS_A_MONTH
    found = EVENING.fullmatch(expression)
    if found is None:
        raise NoEnvironment(f"{expression} is neither {ALWAYS} nor like cron(* 17-22 ? * FRI *)")
    return HOURS_A_MONTH * _share(found[1], HOURS) * _share(found[2], DAYS)


def _share(field: str, names: Sequence[str]) -> float:
    """The share of *names* that a field of a cron expression names, such as `1-3,5` or `*`."""
    if field == "*":
        return 1.0
    chosen: set[int] = set()
    for part in field.split(","):
        first, _, last = part.partition("-")
        ends = [names.index(end) if end in names else -1 for end in (first, last or first)]
        if not 0 <= ends[0] <= ends[1]:
            raise NoEnvironment(f"{part} is no range from {names[0]} to {names[-1]}")
        chosen.update(range(ends[0], ends[1] + 1))
    return len(chosen) / len(names)
