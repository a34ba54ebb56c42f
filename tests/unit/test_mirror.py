"""Where the tests of a module are: in a file of its name, or in one that says which modules it covers.

The benchmarks are left out: a run of them is their test.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("layers/voting/voting", "local", "votectl")
COVERS = re.compile(r"[Cc]overs ([^.]+)\.", re.DOTALL)
SUITES_THAT_START_IT = {  # by the whole system, run as a program
    "local/__main__.py": "tests/integration/local",
    "votectl/__main__.py": "tests/integration/votectl/test_votectl.py",
}


@cache
def covered() -> set[str]:
    """The names of all modules that a test file is named after or says it covers."""
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        said = COVERS.search(docstring)
        names |= {path.stem.removeprefix("test_"), *re.findall(r"\w+", said[1] if said else "")}
    return names


def has_logic(path: Path) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(path.read_text()))
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_with_logic_has_its_tests(package: str) -> None:
    modules = [path for path in (ROOT / package).rglob("*.py") if has_logic(path)]
    assert len(modules) > 10
    without = [str(path.relative_to(ROOT)) for path in modules if path.stem not in covered()]
    assert set(without) <= SUITES_THAT_START_IT.keys()


@pytest.mark.parametrize(("module", "suite"), SUITES_THAT_START_IT.items())
def test_what_only_a_whole_run_tests_is_there(module: str, suite: str) -> None:
    assert (ROOT / module).is_file()
    assert (ROOT / suite).exists()
