"""The machine and software of a run: absolute figures mean nothing without them."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psycopg
from redis import Redis

from bench.harness.stores import Stores

ROOT = Path(__file__).parents[2]
PACKAGES = ("redis", "psycopg", "boto3", "awslambdaric", "aws-lambda-powertools", "aiohttp", "flask", "gunicorn")


@dataclass(frozen=True, slots=True)
class Machine:
    """Hardware and kernel, without anything that identifies the owner."""

    processor: str
    cores: int
    memory_gb: float
    system: str
    load: float  # of the last minute before the run

    @classmethod
    def here(cls) -> "Machine":
        return cls(
            processor=_processor(),
            cores=os.cpu_count() or 1,
            memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            system=f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
            load=round(os.getloadavg()[0], 2),
        )

    def document(self) -> dict[str, str | int | float]:
        return asdict(self)


def commit() -> str:
    """The measured commit, marked if the working tree differs from it; "unknown" outside of a checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def versions(stores: Stores) -> Mapping[str, str]:
    """Versions of the interpreter, the stores, and the installed packages that matter for the figures."""
    with Redis.from_url(stores.redis_url) as redis, psycopg.connect(stores.postgres_url) as postgres:
        server = redis.info("server")
        found = {
            "Python": platform.python_version(),
            "Valkey": str(server.get("valkey_version", server["redis_version"])),
            "PostgreSQL": postgres.info.parameter_status("server_version") or "unknown",
        }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # only a full run needs it
            continue
    return found


def _processor() -> str:
    try:
        described = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
        )
    except FileNotFoundError:
        described = None
    return described[1] if described else platform.processor() or platform.machine()
