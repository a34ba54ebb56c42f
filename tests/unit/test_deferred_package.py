"""A package that is not run until something of it is asked for."""

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from voting.deferred_package import defer


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Write the package `dear` with this `__init__` and a module `cheap`, and defer it."""

    def write(init: str) -> ModuleType:
        (tmp_path / "dear").mkdir()
        (tmp_path / "dear" / "__init__.py").write_text(f"import sys\nsys.dear_runs += 1\n{init}\n")
        (tmp_path / "dear" / "cheap.py").write_text("VALUE = 1\n")
        defer("dear")
        return sys.modules["dear"]

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dear_runs", 0, raising=False)
    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "dear"]:
        del sys.modules[name]


def runs() -> int:
    count: int = sys.dear_runs  # type: ignore[attr-defined]
    return count


def test_a_module_is_imported_without_the_package(package) -> None:
    package("NAME = 'x'")
    assert importlib.import_module("dear.cheap").VALUE == 1
    assert runs() == 0


def test_the_first_name_runs_it_once(package) -> None:
    module = package("from dear.cheap import VALUE\nNAME = 'x'\n__version__ = '1'")
    dear = importlib.import_module("dear")
    assert dear is module
    assert (dear.NAME, dear.VALUE, dear.__version__) == ("x", 1, "1")
    assert runs() == 1


def test_a_name_that_it_does_not_have_is_missing_as_in_any_module(package) -> None:
    module = package("NAME = 'x'")
    with pytest.raises(AttributeError, match="module 'dear' has no attribute 'nothing'"):
        _ = module.nothing
    assert runs() == 1


def test_one_that_fails_fails_again(package) -> None:
    module = package("raise OSError('broken')")
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            _ = module.NAME
    assert runs() == 2


def test_a_second_thread_waits_for_the_first(package) -> None:
    module = package("sys.dear_entered.set()\nsys.dear_goes_on.wait(30)\nNAME = 'x'")
    entered, goes_on = threading.Event(), threading.Event()
    sys.dear_entered, sys.dear_goes_on = entered, goes_on  # type: ignore[attr-defined]
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(module.NAME)) for _ in range(2)]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    goes_on.set()
    for thread in threads:
        thread.join(30)
    assert found == ["x", "x"]
    assert runs() == 1


def test_one_that_is_imported_or_missing_is_left_alone() -> None:
    before = sys.modules["sys"]
    defer("sys")
    defer("no_package_of_this_name")
    assert sys.modules["sys"] is before
    assert "no_package_of_this_name" not in sys.modules
