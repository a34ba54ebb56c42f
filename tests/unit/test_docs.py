"""The docs, held to the code: links resolve, and what the code knows by name stands in the reference."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from votectl.__main__ import main

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
VOTING = ROOT / "layers" / "voting" / "voting"

README_LINES, README_WORDS, DOCS_WORDS = 110, 800, 20_000

LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
GENERATED = re.compile(
    r"<!-- (chaos|mutants|printed|calculated by .*?) -->.*?<!-- (/chaos|/mutants|/printed|until here) -->", re.DOTALL
)
SETTING = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|QUESTION|OPTIONS")
WORD = re.compile(r"[a-z]+(_[a-z0-9]+)*")
MODULE = re.compile(r"`([a-z_/]+\.py)`")
KEY = re.compile(r"\{votes\}(:[a-z_]+)+")


def pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    for target in LINK.findall(CODE.sub("", page.read_text())):
        if not re.match(r"[a-z]+:", target):
            yield target


def leads_nowhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path) if path else page
    return not target.exists() or bool(anchor and anchor not in anchors(target))


def words(text: str) -> int:
    return len(text.split())


def constants(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def error_codes(*files: Path) -> set[str]:
    """The codes of errors: `(403, "code", …)`, `("code", "Sentence.")` and the member `"code": "code"`."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                values = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                named = [value for value in values if isinstance(value, str)]
                if len(node.args) > 1 and named and WORD.fullmatch(named[0]) and says_something(node.args):
                    found.add(named[0])
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "code" and isinstance(value, ast.Constant):
                        found.add(str(value.value))
    return found


def says_something(arguments: list[ast.expr]) -> bool:
    """Whether a status or a sentence is among the arguments."""
    for one in arguments:
        if isinstance(one, ast.JoinedStr) or (isinstance(one, ast.Constant) and str(one.value).endswith(".")):
            return True
        if isinstance(one, ast.Constant) and type(one.value) is int and one.value in range(400, 600):
            return True
    return False


def entries(page: Path, column: int = 1) -> set[str]:
    """What stands in backticks in a *column* of the page's tables."""
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row[column - 1])}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_and_anchor_resolves(page: Path) -> None:
    assert [link for link in links(page) if leads_nowhere(page, link)] == []


def test_every_page_can_be_reached_from_the_index() -> None:
    listed = {DOCS / "decisions", DOCS / "benchmarks"}  # with an index of their own
    for folder in (DOCS, *listed):
        index = folder / "README.md"
        linked = {(folder / link.partition("#")[0]).resolve() for link in links(index)}
        found = folder.rglob("*.md") if folder == DOCS else folder.glob("*.md")
        wanted = {page for page in found if page.name == "README.md" or page.parent not in listed - {folder}}
        assert wanted - linked == {index}


def test_the_readme_is_one_screen() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= README_LINES
    assert words(text) <= README_WORDS


def test_the_docs_are_short() -> None:
    """What people write counts: not the decisions, nor what `make bench`, `make chaos` and `votectl cost` print."""
    written = [page for page in DOCS.rglob("*.md") if page.parent.name != "decisions"]
    written.remove(DOCS / "benchmarks" / "README.md")
    assert sum(words(GENERATED.sub("", page.read_text())) for page in written) <= DOCS_WORDS


def test_every_setting_is_in_the_reference() -> None:
    read = set(filter(SETTING.fullmatch, constants(ast.parse((VOTING / "settings.py").read_text()))))
    read |= set(re.findall(r'environ\.get\("([A-Z_]+)"', (VOTING / "observability.py").read_text()))
    assert len(read) > 20
    assert read - entries(REFERENCE / "settings.md") == set()


def test_every_error_code_of_the_http_functions_is_in_the_reference() -> None:
    functions = [ROOT / "functions" / name / "app.py" for name in ("vote", "result")]
    codes = error_codes(*functions, *(VOTING / "web").glob("*.py"))
    assert {"cross_site", "missing_vote", "not_recorded", "results_unavailable", "internal_error"} <= codes
    assert codes - entries(REFERENCE / "http.md", column=2) == set()


def test_every_error_code_of_a_frame_is_in_the_reference() -> None:
    codes = error_codes(VOTING / "broadcast" / "websocket_api.py", VOTING / "broadcast" / "flood.py")
    assert {"binary_frame", "unknown_action", "unavailable", "too_many_frames"} <= codes
    assert codes - entries(REFERENCE / "websocket.md") == set()


def test_every_key_in_redis_is_in_the_reference() -> None:
    files = [path for path in VOTING.rglob("*") if path.suffix in {".py", ".lua"}]
    keys = {"votes"} | {found[0].rstrip(":") for path in files for found in KEY.finditer(path.read_text())}
    assert "{votes}:processing" in keys
    documented = {word.removesuffix(":0") for word in entries(REFERENCE / "redis.md")}
    assert keys - documented == set()


def test_every_file_on_the_way_of_a_vote_exists() -> None:
    named = entries(DOCS / "explanation" / "architecture.md", column=2)
    files = {name for name in named if re.search(r"\.(py|sql)$", name)}
    assert len(files) > 20
    assert {name for name in files if not (ROOT / name).exists() and not (VOTING / name).exists()} == set()


def test_every_module_that_a_decision_names_exists() -> None:
    written = (DOCS / "decisions").glob("*.md")
    named = {(page.name, name) for page in written for name in MODULE.findall(page.read_text())}
    assert len(named) > 5
    assert {one for one in named if not (ROOT / one[1]).exists() and not (VOTING / one[1]).exists()} == set()


def test_every_room_is_in_the_architecture() -> None:
    rooms = entries(DOCS / "explanation" / "architecture.md")
    for package, folder in {"voting": VOTING, "local": ROOT / "local"}.items():
        assert {f"{one.parent.name}/" for one in folder.glob("*/__init__.py")} - rooms == set(), package


def test_every_claim_on_security_names_tests_that_exist() -> None:
    claimed = entries(DOCS / "explanation" / "security.md", column=2)
    files = {name.partition("::")[0] for name in claimed if ".py" in name}
    assert {
        name for name in files if not (ROOT / name).exists() and not (ROOT / "tests/security" / name).exists()
    } == set()
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name in claimed if name.startswith("…") and f"def test_{name.strip('…_')}" not in written} == set()


def test_the_costs_shown_are_those_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (REFERENCE / "cost.md").read_text()
    ((command, shown),) = re.findall(r"-m votectl (cost .*)\n```\n.*?```\n(List prices.*?)```", page, re.DOTALL)
    assert main(command.split()) == 0
    assert set(shown.splitlines()) - {"…"} <= set(capsys.readouterr().out.splitlines())
