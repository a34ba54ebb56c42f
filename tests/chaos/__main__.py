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

from tests.chaos.faults import FAULTS, REPLICATED_FAULTS, Deck
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
            logs = sorted(Path(folder).glob("*/stack.log"))
            parsed.keep_log.write_bytes(b"".join(log.read_bytes() for log in logs))
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
    """Play the rounds, and after each ten of them one with a replicated Redis, in a scene of its own."""
    names = parsed.only or [*FAULTS, *REPLICATED_FAULTS]
    sums = Sums(Counter(dict.fromkeys(names, 0)))
    plain, replicated = (
        [name for name in names if name in FAULTS],
        [name for name in names if name in REPLICATED_FAULTS],
    )
    if plain:
        await _play_in(Scene(folder / "plain"), plain, parsed.rounds, parsed, seed, sums)
    if replicated and (sums.is_good or not parsed.fail_fast):
        rounds = -(-parsed.rounds // EVERY) if plain else parsed.rounds
        await _play_in(Scene(folder / "replicated", is_replicated=True), replicated, rounds, parsed, seed, sums)
    return sums


async def _play_in(
    scene: Scene, names: list[str], rounds: int, parsed: argparse.Namespace, seed: int, sums: Sums
) -> None:
    scene.folder.chmod(0o711)  # PostgreSQL may run as another user
    deck = Deck(names, random.Random(f"{seed}/deck"))
    async with scene.running():
        for number in range(1, rounds + 1):
            votes = parsed.big_votes if number % EVERY == 0 and not scene.is_replicated else parsed.votes
            report = await play(scene, deck, number, f"{seed}/{number}", votes)
            sums.add(report)
            say(report.line())
            if parsed.verbose:
                say("".join(f"    {effect}\n" for effect in report.effects))
            if parsed.fail_fast and not report.is_good:
                break


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=20, metavar="N")
    add("--seed", type=int, metavar="S", help="decides voters, choices and faults (from the clock)")
    kinds = sorted(FAULTS | REPLICATED_FAULTS)
    add("--only", choices=kinds, action="append", metavar="FAULT", help="strike this; may be given repeatedly")
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
