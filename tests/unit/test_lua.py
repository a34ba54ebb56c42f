"""The Lua scripts: each says what it takes and returns, and each is used."""

import re
from pathlib import Path

import pytest

import voting
from voting.lua import script

PACKAGE = Path(voting.__file__).parent
SCRIPTS = sorted(PACKAGE.rglob("*.lua"))
LIKE_CLAIM = "KEYS     as in claim.lua"


def header_and_body(path: Path) -> tuple[str, str]:
    lines = path.read_text().splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:end]), "\n".join(lines[end:])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_header_lists_all_that_a_script_takes_and_returns(path: Path) -> None:
    header, body = header_and_body(path)
    if LIKE_CLAIM in header:
        header += header_and_body(PACKAGE / "queue" / "scripts" / "claim.lua")[0].split("ARGV[1]")[0]
    for argument in re.findall(r"(?:KEYS|ARGV)\[\d", body):
        assert argument in header
    assert re.search(r"\breturns?\b", header, re.IGNORECASE)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_shared_function_is_named_in_the_header_of_each_script_that_calls_it(path: Path) -> None:
    header, body = header_and_body(path)
    shared = {part.stem for part in SCRIPTS if part.parent.name == "shared"}
    if path.stem in shared:
        return
    called = {"behind" if name == "behind_ms" else name for name in re.findall(r"(?<!\.)\b([a-z_]+)\(", body)}
    listed = re.search(r"^-- Shared: (.+)$", header, re.MULTILINE)
    assert set(listed[1].split(", ") if listed else []) == called & shared


def test_each_script_is_loaded_by_a_module() -> None:
    sources = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    calls = re.findall(r"\bscript\((.+)\)", sources)
    assert {path.stem for path in SCRIPTS} <= {name for call in calls for name in re.findall(r'"(\w+)"', call)}


def test_shared_functions_come_before_the_script_that_calls_them() -> None:
    text = script("queue", "claim", "give_back", "oldest")
    assert text.index("local function give_back") < text.index("local function oldest") < text.index("ARGV[5]  name")
