"""The system that runs on this machine, as described by its run.json."""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalRun:
    """The addresses of the system; those of the stores include passwords."""

    http: str
    invoke: str
    redis: str
    postgres: str
    region: str
    credentials: tuple[str, str]  # for its Invoke API: access key id and secret access key


class NotWhole(Exception):
    """The run.json does not describe a run, or cannot be trusted; the message names it."""


def local_run() -> LocalRun | None:
    """The run that LOCAL_RUN_JSON names, or else the one in this folder; None if nothing runs.

    Raises:
        NotWhole: the file is not JSON, lacks a field, or another user may have written it.
    """
    path = Path(os.environ.get("LOCAL_RUN_JSON", ".local/run.json"))
    if not path.exists():
        return None
    try:
        run = json.loads(_read(path))
        credentials = run["aws_access_key_id"], run["aws_secret_access_key"]
        return LocalRun(run["http"], run["lambda"], run["redis"], run["postgres"], run["aws_region"], credentials)
    except (ValueError, KeyError, TypeError) as error:
        raise NotWhole(f"{path} is incomplete: end the run that wrote it, and start it again with `make up`") from error


def _read(path: Path) -> bytes:
    """Read a file that only this user can write, since votes and operations go to the addresses in it.

    Raises:
        NotWhole: it is not a plain file, or another user wrote it or can write it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a FIFO must not block
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotWhole(f"{path} is not a plain file; name the run.json of a run in LOCAL_RUN_JSON")
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NotWhole(f"{path} may be another user's work; name the run.json of your own run in LOCAL_RUN_JSON")
        return file.read()
