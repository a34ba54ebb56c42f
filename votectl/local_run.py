"""The system that runs on this machine, as its run.json describes it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalRun:
    """Where to reach it; the stores' addresses hold their passwords."""

    http: str
    invoke: str
    redis: str
    postgres: str


def local_run() -> LocalRun | None:
    """The run that LOCAL_RUN_JSON names, or else the one in this folder; None where nothing runs."""
    path = Path(os.environ.get("LOCAL_RUN_JSON", ".local/run.json"))
    if not path.exists():
        return None
    run = json.loads(path.read_text())
    return LocalRun(run["http"], run["lambda"], run["redis"], run["postgres"])
