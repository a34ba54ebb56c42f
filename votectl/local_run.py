"""The system that runs on this machine, as its run.json describes it."""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalRun:
    """Where to reach it; the stores' addresses hold their passwords."""

    http: str
    invoke: str
    redis: str
    postgres: str
    region: str
    credentials: tuple[str, str]  # for its Invoke API: access key id and secret access key


class NotWhole(Exception):
    """There is a run.json that does not describe a run; the message names it."""


def local_run() -> LocalRun | None:
    """The run that LOCAL_RUN_JSON names, or else the one in this folder; None where nothing runs.

    Raises:
        NotWhole: its file holds no JSON, not what every run has, or may be another user's word.
    """
    path = Path(os.environ.get("LOCAL_RUN_JSON", ".local/run.json"))
    if not path.exists():
        return None
    try:
        run = json.loads(_read(path))
        credentials = run["aws_access_key_id"], run["aws_secret_access_key"]
        return LocalRun(run["http"], run["lambda"], run["redis"], run["postgres"], run["aws_region"], credentials)
    except (ValueError, KeyError, TypeError) as error:
        raise NotWhole(f"{path} is not whole: end the run that wrote it, and start it again with `make up`") from error


def _read(path: Path) -> bytes:
    """Read a file of ours: votes and operations go to the addresses in it.

    Raises:
        NotWhole: it is no plain file, or another user has written it or can.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would keep us waiting
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotWhole(f"{path} is no plain file; name the run.json of a run in LOCAL_RUN_JSON")
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NotWhole(f"{path} may be another user's work; name the run.json of a run of yours in LOCAL_RUN_JSON")
        return file.read()
