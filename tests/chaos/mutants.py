"""`python -m tests.chaos.mutants`: takes one safeguard at a time out of a copy of the code, and sees it missed.

A mutant that the suite does not catch is a safeguard that nothing tests: it is named, and the exit status is 1.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.sums import write_between
from tests.stack import ROOT

LEFT_BEHIND = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "docs")
VOTING = Path("layers/voting/voting")
SCRIPTS = VOTING / "queue/scripts"
ROUNDS, VOTES = 6, 1000
SEED = 20_000


@dataclass(frozen=True, slots=True)
class Edit:
    """One exact replacement in one file."""

    file: Path
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Raises ValueError where the text is not there exactly once: the mutant would be the original."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {text.count(self.old)} times, and not once: {self.old!r}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Mutant:
    """The code without one safeguard, and the faults that the safeguard is for."""

    safeguard: str
    faults: Sequence[str]
    edits: Sequence[Edit]


MUTANTS = (
    Mutant(
        "the fence in Redis",
        ["zombie-before-trim"],
        [Edit(SCRIPTS / "claim.lua", "if seen > tonumber(ARGV[1]) then return {'superseded'} end\n", "")],
    ),
    Mutant(
        "the fence in Postgres",
        ["zombie-before-transaction"],
        [Edit(VOTING / "database/vote_table.py", "if held != token:", "if held < 0:")],
    ),
    Mutant(
        "the order of collapse",
        ["kill-after-claim", "postgres-quit"],
        [
            Edit(
                VOTING / "database/vote_table.py",
                "vote.choice for vote in votes}",
                "vote.choice for vote in reversed(votes)}",
            )
        ],
    ),
    Mutant(
        "the sort of ids",
        ["row-locks"],
        [Edit(VOTING / "database/rows.py", "ids = sorted(last)\n        return", "ids = list(last)\n        return")],
    ),
    Mutant(
        "trim after commit (trimmed at the claim instead)",
        ["kill-after-claim", "kill-in-transaction"],
        [
            Edit(
                SCRIPTS / "claim.lua",
                "return oldest(0, math.min(waiting, ARGV[3]), tonumber(ARGV[4]))\n",
                "local batch = oldest(0, math.min(waiting, ARGV[3]), tonumber(ARGV[4]))\n"
                "redis.call('LTRIM', KEYS[2], 0, -#batch)\nreturn batch\n",
            ),
            Edit(VOTING / "worker/intake.py", "acknowledge=done.size,", "acknowledge=0,"),
        ],
    ),
    Mutant(
        "the push's deadline",
        ["late-push"],
        [
            Edit(
                SCRIPTS / "push.lua",
                "if now[1] * 1000000 + now[2] > tonumber(ARGV[2]) then return 'too late' end\n",
                "",
            )
        ],
    ),
    Mutant(
        "the wait for a push whose connection broke",
        ["late-push"],
        [
            Edit(
                VOTING / "queue/vote_queue.py",
                "time.sleep(max(0.0, may_land_until - time.monotonic()))",
                "time.sleep(0.0)",
            )
        ],
    ),
    Mutant(
        "the names of the claims",
        ["late-claim"],
        [
            Edit(
                SCRIPTS / "claim.lua",
                "if tonumber(ARGV[2]) > 0 and redis.call('GET', KEYS[7]) ~= ARGV[6] then "
                "return {'handed out again'} end\n",
                "",
            )
        ],
    ),
    Mutant(
        "the lock of the BEFORE trigger",
        ["other-writer"],
        [Edit(VOTING / "database/schema.sql", "PERFORM 1 FROM {ours}.vote_tally_version FOR UPDATE;", "PERFORM 1;")],
    ),
    Mutant(
        "progress by committed batches only (by every claim instead)",
        ["stall-postgres"],
        [
            Edit(
                SCRIPTS / "claim.lua",
                "redis.call('SET', KEYS[5], now_ms, 'NX')\n",
                "redis.call('SET', KEYS[5], now_ms, 'NX')\nredis.call('SET', KEYS[8], now_ms)\n",
            )
        ],
    ),
    Mutant(
        "the age of an unconfirmed snapshot",
        ["stall-worker"],
        [
            Edit(VOTING / "results/snapshot.py", "if self.age_s <= FRESH_S and", "if True or"),
            Edit(VOTING / "results/current.py", "round(behind_s) if behind_s > FRESH_S else None", "None"),
        ],
    ),
    Mutant(
        "the wait for a replica",
        ["redis-failover"],
        [Edit(VOTING / "queue/vote_queue.py", "if not self._confirm_by_replica:", "if True:")],
    ),
)
ORIGINAL = Mutant("none: the original", sorted({fault for mutant in MUTANTS for fault in mutant.faults}), [])


def main(arguments: list[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    rows = []
    for mutant in (ORIGINAL, *MUTANTS):
        if parsed.only and not any(word in mutant.safeguard for word in parsed.only):
            continue
        expected = "nothing" if mutant is ORIGINAL else "a complaint"
        found = _try(mutant)
        rows.append((mutant, found, bool(found) == (mutant is not ORIGINAL)))
        sys.stdout.write(f"without {mutant.safeguard}: {found or 'nothing was found'} (expected {expected})\n")
        sys.stdout.flush()
    if parsed.report is not None:
        table = [f"| {mutant.safeguard} | {', '.join(mutant.faults)} | {found or '-'} |" for mutant, found, _ in rows]
        head = ["| safeguard taken out | faults struck | what the suite found |", "|---|---|---|"]
        write_between(parsed.report, "mutants", "\n".join(head + table))
    return 0 if all(as_expected for *_, as_expected in rows) else 1


def _try(mutant: Mutant) -> str:
    """Play rounds against a copy with the edits; return what was complained of, nothing where nothing was.

    Raises:
        ValueError: a text to replace is not there, or the suite itself broke down.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "copy"
        shutil.copytree(ROOT, root, ignore=LEFT_BEHIND)
        for edit in mutant.edits:
            edit.apply(root)
        sums = Path(folder) / "sums.json"
        faults = [word for fault in mutant.faults for word in ("--only", fault)]
        command = [sys.executable, "-m", "tests.chaos", "--fail-fast", "--json", str(sums), *faults]
        done = subprocess.run(
            [*command, "--rounds", str(ROUNDS), "--votes", str(VOTES), "--seed", str(SEED)],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(VOTING.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        if not sums.exists():
            raise ValueError(f"the suite broke down:\n{done.stdout}\n{done.stderr}")
        return _complaints(json.loads(sums.read_text(encoding="utf-8")))


def _complaints(sums: dict[str, Any]) -> str:
    counts = [f"{sums['totals'][name]} {name}" for name in ("lost", "misordered", "ghosts") if sums["totals"].get(name)]
    complaints = [re.sub(r"^round \d+: ", "", complaint) for complaint in sums["complaints"]]
    return "; ".join(dict.fromkeys(counts + complaints))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants", description=__doc__)
    parser.add_argument("--only", action="append", metavar="WORD", help="mutants whose safeguard is named so")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the table into a document")
    return parser


if __name__ == "__main__":
    sys.exit(main())
