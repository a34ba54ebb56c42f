"""Who may import whom: data flows one way, and a cold start pays for what a function uses and no more.

ROOMS is the house: the rooms of each package, the lowest first, and the rooms that each of them imports. Modules that
stand in no room are a room of their own, or belong to the one called `values`.
"""

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "voting": ROOT / "layers" / "voting" / "voting",
    "local": ROOT / "local",
    "votectl": ROOT / "votectl",
    "bench": ROOT / "bench",
}
VALUES = "values"  # modules of a package that all its rooms may use, and that use none
LOOSE = {  # modules outside of rooms that are no values
    "voting": {"clients"},
    "local": {"__main__", "command_line", "run"},
    "votectl": {"__main__"},
    "bench": {"__main__"},
}
ROOMS: Mapping[str, Mapping[str, set[str]]] = {
    "voting": {
        VALUES: set(),
        "queue": {VALUES},
        "database": {VALUES},
        "clients": {VALUES, "database"},
        "results": {VALUES, "clients", "queue", "database"},
        "web": {VALUES, "results"},
        "broadcast": {VALUES, "clients", "results"},
        "worker": {VALUES, "clients", "queue", "database", "results", "broadcast"},
        "ops": {VALUES, "clients", "queue", "database", "results", "broadcast", "worker"},
    },
    "local": {
        VALUES: set(),
        "host": set(),
        "template": {VALUES},
        "stores": {VALUES, "host"},
        "awslambda": {VALUES, "host", "template"},
        "gateway": {VALUES, "template", "awslambda"},
        "run": {VALUES, "host", "template", "stores", "awslambda", "gateway"},
        "command_line": {VALUES, "host", "template", "stores", "run"},
        "__main__": {"command_line"},
    },
    "votectl": {
        VALUES: set(),
        "account": {VALUES},
        "cost": {VALUES},
        "loadtest": {VALUES},
        "ops": {VALUES},
        "rotation": {VALUES},
        "teardown": {VALUES},
        "__main__": {VALUES, "account", "cost", "loadtest", "ops", "rotation", "teardown"},
    },
    "bench": {
        VALUES: set(),
        "harness": set(),
        "load": set(),
        "rivals": {"harness", "load"},
        "simulation": set(),
        "report": {"harness"},
        "benchmarks": {"harness", "load", "rivals", "simulation"},
        "__main__": {"harness", "report"},  # it loads the benchmarks by name
    },
}
FOREIGN = {"functions": {"voting"}, "voting": {"voting"}, "local": {"local"}, "votectl": {"votectl", "voting"}}
CONNECTIONS = {"redis", "psycopg"}  # that stores are handed, and never make
MAKERS = {"clients", "cluster", "redis_client", "session"}


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


def modules(package: str) -> list[Path]:
    return [path for path in sorted(PACKAGES[package].rglob("*.py")) if path != PACKAGES[package] / "__init__.py"]


def room_of(package: str, parts: tuple[str, ...]) -> str | None:
    """The room of the module *parts*, named from its package on; None where that is no module."""
    first = parts[0] if parts else ""
    if (PACKAGES[package] / first).is_dir() and first:
        return first
    if not (PACKAGES[package] / f"{first}.py").is_file():
        return None
    return first if first in LOOSE[package] else VALUES


def rooms_used(package: str, path: Path) -> set[str]:
    names = (name.split(".") for name in imported(path))
    found = {room_of(package, tuple(rest)) for top, *rest in names if top == package}
    return {room for room in found if room is not None}


@pytest.mark.parametrize(
    ("package", "path"), [pytest.param(p, path, id=str(path.relative_to(ROOT))) for p in ROOMS for path in modules(p)]
)
def test_a_room_imports_only_the_rooms_below_it(package: str, path: Path) -> None:
    room = room_of(package, path.relative_to(PACKAGES[package]).with_suffix("").parts)
    assert room is not None
    assert rooms_used(package, path) <= ROOMS[package][room] | {room}


@pytest.mark.parametrize("package", ROOMS)
def test_no_arrow_runs_back_up(package: str) -> None:
    """With any arrow of the table turned round there is a circle, or an arrow that the table does not have."""
    below: dict[str, set[str]] = {}
    for room, used in ROOMS[package].items():  # they stand in order, the lowest first
        assert used <= below.keys(), room
        below[room] = used


@pytest.mark.parametrize("package", ROOMS)
def test_every_arrow_of_the_table_is_used(package: str) -> None:
    used: dict[str, set[str]] = {room: set() for room in ROOMS[package]}
    for path in modules(package):
        room = room_of(package, path.relative_to(PACKAGES[package]).with_suffix("").parts)
        assert room in used
        used[room] |= rooms_used(package, path) - {room}
    assert used == ROOMS[package]


@pytest.mark.parametrize("path", files("functions"), ids=lambda path: path.parent.name)
def test_functions_import_voting_and_never_each_other(path: Path) -> None:
    assert {name.split(".")[0] for name in ours(imported(path))} == FOREIGN["functions"]
    text = path.read_text()
    assert "os.environ" not in text
    assert "{votes}" not in text


@pytest.mark.parametrize("package", ["voting", "local", "votectl"])
def test_packages_know_no_other(package: str) -> None:
    for path in modules(package):
        assert {name.split(".")[0] for name in ours(imported(path))} <= FOREIGN[package], path


@pytest.mark.parametrize("room", ["queue", "database", "results", "broadcast"])
def test_stores_are_handed_their_client(room: str) -> None:
    """Only the clients make connections; what owns keys or SQL is handed one."""
    for path in sorted((PACKAGES["voting"] / room).rglob("*.py")):
        if path.stem not in MAKERS:
            text = path.read_text()
            assert "Redis(" not in text.replace("Redis()", ""), path
            assert "psycopg.connect(" not in text, path


@pytest.mark.parametrize("path", modules("voting"), ids=lambda path: path.stem)
def test_keys_of_the_list_and_sql_stand_in_their_store_only(path: Path) -> None:
    text, room = path.read_text(), path.parent.name
    if room not in {"queue", "broadcast", "results"}:
        assert "{votes}:" not in text
    if room != "database":
        assert "INSERT INTO" not in text


# Modules that cost 50 ms and more to import, and the functions that have no use for them.
COSTLY: dict[str, set[str]] = {
    "vote": {"psycopg", "boto3", "botocore.session"},
    "result": {"psycopg", "boto3", "botocore.session"},  # psycopg only once a snapshot is missing
    "ws_connect": {"psycopg", "boto3", "botocore.session"},
    "ws_broadcast": {"psycopg", "boto3", "botocore.session"},
    "worker": set(),
    "ops": {"boto3", "botocore.session"},
    "install": {"psycopg", "redis.exceptions"},
    "smoke": {"psycopg", "redis.exceptions"},
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
