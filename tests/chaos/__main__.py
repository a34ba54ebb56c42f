"""`python -m tests.chaos`: rounds of votes under faults, judged by an oracle. Exits 1 where a promise was broken."""

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.faults import FAULTS, Deck
from tests.chaos.round import play
from tests.chaos.scene import Scene
from tests.chaos.sums import Sums

EVERY = 10  # rounds, of which the last is a big one


def main(arguments: list[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is stopped on the way out
    seed = parsed.seed if parsed.seed is not None else time.time_ns() // 1_000_000 % 1_000_000_000
    say(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL may run as another user
        sums = asyncio.run(_play(parsed, seed, Path(folder)))
        if parsed.keep_log is not None:
            parsed.keep_log.write_bytes((Path(folder) / "stack.log").read_bytes())
    say(sums.text())
    if parsed.json is not None:
        parsed.json.write_text(json.dumps(sums.as_fields(), indent=2))
    if parsed.report is not None:
        sums.write_into(parsed.report, seed)
    return 0 if sums.is_good else 1


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _play(parsed: argparse.Namespace, seed: int, folder: Path) -> Sums:
    deck = Deck(parsed.only or list(FAULTS), random.Random(f"{seed}/deck"))
    sums = Sums(Counter(dict.fromkeys(parsed.only or FAULTS, 0)))
    async with Scene(folder).running() as scene:
        for number in range(1, parsed.rounds + 1):
            votes = parsed.big_votes if number % EVERY == 0 else parsed.votes
            report = await play(scene, deck, number, f"{seed}/{number}", votes)
            sums.add(report)
            say(report.line())
            if parsed.verbose:
                say("".join(f"    {effect}\n" for effect in report.effects))
            if parsed.fail_fast and not report.is_good:
                break
    return sums


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=20, metavar="N")
    add("--seed", type=int, metavar="S", help="decides voters, choices and faults (from the clock)")
    add("--only", choices=sorted(FAULTS), action="append", metavar="FAULT", help="strike this; may be given repeatedly")
    add("--votes", type=int, default=2000, metavar="V", help="of a round, at least (2000)")
    add("--big-votes", type=int, default=50_000, metavar="V", help="of every tenth round (50000)")
    add("--fail-fast", action="store_true", help="stop at the first round that fails")
    add("--verbose", action="store_true", help="print what was seen of every fault")
    add("--keep-log", type=Path, metavar="FILE", help="write the log of the system there")
    add("--json", type=Path, metavar="FILE", help="write the sums there")
    add("--report", type=Path, metavar="FILE", help="write the sums into a document, between its marks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
