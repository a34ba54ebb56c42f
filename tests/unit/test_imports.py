"""Who may import whom: data flows one way, and a cold start pays for what a function uses and no more."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported(path: Path) -> set[str]:
    """Every module that *path* imports anywhere, functions' bodies included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in {"voting", "local", "votectl", "functions", "app"}}


def files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


@pytest.mark.parametrize("path", files("functions"), ids=lambda path: path.parent.name)
def test_functions_import_voting_and_never_each_other(path: Path) -> None:
    assert {name.split(".")[0] for name in ours(imported(path))} == {"voting"}
    text = path.read_text()
    assert "os.environ" not in text
    assert "{votes}" not in text


@pytest.mark.parametrize("path", files("local"), ids=lambda path: path.stem)
def test_local_knows_nothing_of_voting(path: Path) -> None:
    assert {name.split(".")[0] for name in ours(imported(path))} <= {"local"}


@pytest.mark.parametrize("path", files("votectl"), ids=lambda path: path.stem)
def test_votectl_imports_voting_only(path: Path) -> None:
    assert {name.split(".")[0] for name in ours(imported(path))} <= {"voting", "votectl"}


# Modules that cost 50 ms and more to import, and the functions that have no use for them.
COSTLY: dict[str, set[str]] = {
    "vote": {"psycopg", "boto3", "botocore.session"},
    "result": {"psycopg", "boto3", "botocore.session"},  # psycopg only once a snapshot is missing
    "ws_connect": {"psycopg", "boto3", "botocore.session"},
    "ws_broadcast": {"psycopg", "boto3", "botocore.session"},
    "worker": set(),
    "ops": {"boto3", "botocore.session"},
    "install": {"psycopg", "redis"},
}
NEVER = {
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.utilities.parser",
    "aws_xray_sdk",
    "pydantic",
}


@pytest.mark.parametrize("function", COSTLY)
def test_a_function_imports_nothing_costly_that_it_does_not_use(function: str) -> None:
    costly = sorted(COSTLY[function] | NEVER)
    script = f"import app, sys; print(*(name for name in {costly!r} if name in sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT / "functions" / function,
        env={"PYTHONPATH": str(ROOT / "layers" / "voting")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == []
