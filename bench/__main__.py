"""`python -m bench`: measure, print and record; render the page from the last full run."""

import argparse
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.harness import machine, registry, stores
from bench.harness.measurement import Report, Scale
from bench.report import page, runs, scale
from bench.report.plot import draw
from bench.report.runs import Run
from bench.report.table import render_report

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def main() -> int:
    """Run the benchmarks asked for; return 1 if one of them failed."""
    arguments = _arguments()
    if arguments.list:
        for name in registry.names():
            print(f"{name:12} {registry.load(name).question}")
        return 0
    if arguments.render:
        return _render()
    names = arguments.only or registry.names()
    started = time.monotonic()
    here = machine.Machine.here()
    with stores.running() as started_stores:
        versions = machine.versions(started_stores)
    _head(here, versions)
    reports, failures = _measure(names, Scale(smoke=arguments.smoke))
    took_s = time.monotonic() - started
    print(f"\n{len(reports)} measured, {len(failures)} failed, in {took_s:.0f} s", flush=True)
    if not arguments.smoke:
        run = Run(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=machine.commit(),
            command="make bench" + (f' ONLY="{" ".join(arguments.only)}"' if arguments.only else ""),
            machine=here,
            versions=versions,
            is_full=not arguments.only,
            took_s=round(took_s, 1),
            reports=reports,
            failures=failures,
        )
        runs.append(runs.FILE, run)
        if run.is_full:
            _render()
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=registry.names(), help="measure only these")
    parser.add_argument("--smoke", action="store_true", help="run everything on a small scale, and record nothing")
    parser.add_argument("--list", action="store_true", help="list the benchmarks")
    parser.add_argument("--render", action="store_true", help="write the page and its plots from the last full run")
    return parser.parse_args()


def _measure(names: Sequence[str], scale: Scale) -> tuple[dict[str, Report], dict[str, str]]:
    reports: dict[str, Report] = {}
    failures: dict[str, str] = {}
    for name in names:
        started = time.monotonic()
        try:
            benchmark = registry.load(name)
            print(f"\n# {name}: {benchmark.question}", flush=True)
            report = benchmark.measure(scale)
            print(render_report(report, judged=not scale.smoke))
        except Exception as error:  # noqa: BLE001 - printed, and shown in the exit code; the others still run
            sys.stdout.flush()
            traceback.print_exc()
            failures[name] = traceback.format_exception_only(error)[-1].strip()
        else:
            reports[name] = report
        print(f"({name}: {time.monotonic() - started:.0f} s)", flush=True)
    return reports, failures


def _head(here: machine.Machine, versions: Mapping[str, str]) -> None:
    for name, value in here.document().items():
        print(f"{name:10} {value}")
    print("versions  ", ", ".join(f"{name} {version}" for name, version in versions.items()), flush=True)


def _render() -> int:
    run = runs.last_full(runs.FILE)
    if run is None:
        print("no full run is recorded yet: make bench", file=sys.stderr)
        return 1
    questions = {name: registry.load(name).question for name in registry.names()}
    for name, report in run.reports.items():
        if name in questions:
            draw(name, questions[name], report, DOCS / "images" / f"bench-{name}.svg")
    (DOCS / "benchmarks" / "README.md").write_text(page.render(run, questions, DOCS), encoding="utf-8")
    print("docs/benchmarks/README.md is written")
    try:
        scale.write(run)
    except scale.Missing as error:
        print(f"docs/explanation/scale.md stays as it was: {error}", file=sys.stderr)
        return 1
    print("docs/explanation/scale.md is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
