"""The recorded runs, in one JSON file: a list with a line per run, so that a diff shows only the new one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.harness.machine import Machine
from bench.harness.measurement import Comparison, Curve, Figure, Goal, Plot, Report

FILE = Path(__file__).parents[2] / "docs" / "benchmarks" / "results.json"


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one `make bench`; *failures* has the last line of the error of each benchmark that failed."""

    date: str  # ISO 8601, UTC
    commit: str
    command: str
    machine: Machine
    versions: Mapping[str, str]
    is_full: bool  # with every benchmark
    took_s: float
    reports: Mapping[str, Report]
    failures: Mapping[str, str]


def append(file: Path, run: Run) -> None:
    """Append *run*; the file is replaced as a whole, so a reader never sees half of it."""
    runs = [*_documents(file), asdict(run)]
    new = file.with_suffix(".new")
    new.write_text(
        "[\n" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in runs) + "\n]\n", encoding="utf-8"
    )
    new.replace(file)


def last_full(file: Path) -> Run | None:
    """The newest full run, or None."""
    return next((_run(document) for document in reversed(_documents(file)) if document["is_full"]), None)


def _documents(file: Path) -> Sequence[dict[str, Any]]:
    try:
        documents: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return documents


def _run(document: dict[str, Any]) -> Run:
    machine = Machine(**document["machine"])
    reports = {name: _report(report) for name, report in document["reports"].items()}
    return Run(**document | {"machine": machine, "reports": reports})


def _report(document: dict[str, Any]) -> Report:
    plot = document["plot"]
    curves = tuple(Curve(curve["name"], tuple((x, y) for x, y in curve["points"])) for curve in plot["curves"])
    return Report(
        comparisons=tuple(
            Comparison(each["case"], _figure(each["ours"]), tuple(_figure(other) for other in each["others"]))
            for each in document["comparisons"]
        ),
        goals=tuple(Goal(**goal) for goal in document["goals"]),
        notes=tuple(document["notes"]),
        plot=Plot(**plot | {"curves": curves}),
    )


def _figure(document: dict[str, Any]) -> Figure:
    return Figure(document["contender"], document["unit"], tuple(document["values"]))
