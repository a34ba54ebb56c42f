"""slim.py FOLDER: take out of the layer what Lambda never imports. It stays under 10 MB as a zip.

Whole parts only, each with a reason: the closer the cut, the sooner an upgrade bleeds. A test holds that nothing is
gone that a function loads; a part that an upgrade has moved stops the build.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

SERVICES = ("lambda", "secretsmanager")  # whose API botocore describes with megabytes of JSON
LEFTOVERS = ("**/__pycache__", "bin", "**/*.pyi", "*.dist-info/RECORD")  # RECORD lists files of which many are gone
UNUSED = {
    "of Powertools: all but the logger and the metrics": (
        "aws_lambda_powertools/event_handler",
        "aws_lambda_powertools/metrics/provider/datadog",
        "aws_lambda_powertools/utilities/auth_alpha",
        "aws_lambda_powertools/utilities/batch",
        "aws_lambda_powertools/utilities/circuit_breaker",
        "aws_lambda_powertools/utilities/data_classes",
        "aws_lambda_powertools/utilities/data_masking",
        "aws_lambda_powertools/utilities/feature_flags",
        "aws_lambda_powertools/utilities/idempotency",
        "aws_lambda_powertools/utilities/kafka",
        "aws_lambda_powertools/utilities/parameters",
        "aws_lambda_powertools/utilities/parser",
        "aws_lambda_powertools/utilities/streaming",
        "aws_lambda_powertools/utilities/validation",
    ),
    "boto3's resources and their helpers: only clients are used": (
        "boto3/data",
        "boto3/dynamodb",
        "boto3/ec2",
        "boto3/s3",
    ),
    "what Redis' modules add, failover between whole deployments, and its health over HTTP": (
        "redis/commands/bf",
        "redis/commands/json",
        "redis/commands/search",
        "redis/commands/timeseries",
        "redis/commands/vectorset",
        "redis/asyncio/http",
        "redis/asyncio/multidb",
        "redis/http",
        "redis/multidb",
    ),
    "another database, and the way to libpq without the compiled one": (
        "psycopg/crdb",
        "psycopg/pq/_pq_ctypes.py",
        "psycopg/pq/pq_ctypes.py",
    ),
    "a copy of the time zones: only UTC is used": ("dateutil/zoneinfo",),
    "for Python in a browser": ("urllib3/contrib/emscripten",),
}


def slim(folder: Path) -> None:
    """Leave none of the above in *folder*.

    Raises:
        SystemExit: a part is not there; it names the part.
    """
    for path in [*_descriptions(folder), *_leftovers(folder), *_unused(folder)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _descriptions(folder: Path) -> Iterator[Path]:
    services = (path for path in (folder / "botocore" / "data").iterdir() if path.is_dir())
    yield from (service for service in services if service.name not in SERVICES)


def _leftovers(folder: Path) -> Iterator[Path]:
    for pattern in LEFTOVERS:
        yield from folder.glob(pattern)


def _unused(folder: Path) -> Iterator[Path]:
    for reason, parts in UNUSED.items():
        for part in parts:
            found = list(folder.glob(part))
            if not found:
                raise SystemExit(f"slim.py: {part} is not there ({reason}): has an upgrade moved it?")
            yield from found


if __name__ == "__main__":
    slim(Path(sys.argv[1]))
