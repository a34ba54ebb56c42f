"""slim.py FOLDER: take out of the layer what Lambda never imports. It should stay under 10 MB as a zip."""

import shutil
import sys
from pathlib import Path

SERVICES = ("lambda", "secretsmanager")  # whose API botocore describes with megabytes of JSON
LEFTOVERS = ("__pycache__", "bin", "*.pyi", "boto3/examples")


def slim(folder: Path) -> None:
    """Keep botocore's data of the services in use, and no type stubs or scripts."""
    data = folder / "botocore" / "data"
    for service in data.iterdir():
        if service.is_dir() and service.name not in SERVICES:
            shutil.rmtree(service)
    for pattern in LEFTOVERS:
        for path in list(folder.rglob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    slim(Path(sys.argv[1]))
