"""`votectl loadtest`: send votes and re-votes, then audit them."""

import argparse
import asyncio
from collections import Counter

from votectl.arguments import Commands, address
from votectl.loadtest.api_audit import TIMEOUT_S, NoResults, follow, read_choices, read_totals
from votectl.loadtest.api_client import ApiClient, NoAnswer, NotSent
from votectl.loadtest.plan import Plan, outcomes, send
from votectl.loadtest.store_audit import AWAY, Accounts, Stores, account
from votectl.loadtest.voter import Cast, Voter
from votectl.local_run import LocalRun, local_run
from votectl.progress import Progress
from votectl.table import many, table
from votectl.terminal import complain, say
from voting.reason import explain
from voting.settings import InvalidSetting

DRAINED_WITHIN_S = 60.0
DRAINED_VOTES_PER_S = 1000  # a rate that even a slow database reaches


def add_loadtest(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "loadtest",
        help="send seeded votes and prove that each one counts",
        description="Send seeded votes, then audit them: accepted = rows + superseded + queued + in process + parked, "
        "and every voter's last choice. With --url, only the totals of the API are compared. Exit code 0: the "
        "accounts balance; 1: they do not, or nothing could be sent; 2: usage.",
    )
    parser.add_argument("--votes", type=int, default=1000, help="how many votes to send (default: %(default)s)")
    parser.add_argument("--voters", type=int, default=700, help="most voters (default: %(default)s)")
    parser.add_argument(
        "--revote-share",
        type=float,
        default=0.3,
        help="least share of votes that are re-votes, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument("--concurrency", type=int, default=16, help="requests at the same time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed sends the same votes (default: %(default)s)")
    parser.add_argument(
        "--url", type=address, help="a deployed stack's HttpUrl (default: the local run, stores included)"
    )
    parser.set_defaults(command=run_loadtest, usage_error=parser.error)


def run_loadtest(options: argparse.Namespace) -> int:
    """Send the votes, wait until they are stored, compare; return the exit code."""
    least = {"votes": 1, "voters": 1, "concurrency": 1}
    for name, value in least.items():
        if getattr(options, name) < value:
            options.usage_error(f"--{name} takes a number of at least {value}")
    if not 0 <= options.revote_share <= 1:
        options.usage_error("--revote-share takes a number from 0 to 1")
    run = None if options.url else local_run()
    if run is None and not options.url:
        complain("Nothing runs here: start it with `make up`, or name a stack with --url.")
        return 1
    url = options.url or (run.http if run else "")
    try:
        plan = _plan(url, options)
    except (NoResults, NotSent, NoAnswer) as error:
        complain(f"The options cannot be read: {error}")
        return 1
    say(f"{many(len(plan.votes), 'vote')} of {many(plan.voters, 'voter')} (seed {options.seed}) to {url}")
    try:
        return _against_stores(plan, run, options) if run else _against_api(plan, url, options)
    except (NoResults, NotSent, NoAnswer) as error:
        complain(f"The results cannot be read: {error}")
        return 1
    except (*AWAY, InvalidSetting) as error:
        why = explain(error)
        complain(f"The votes were sent, but the accounts cannot be drawn up, since a store is away: {why}")
        return 1


def _plan(url: str, options: argparse.Namespace) -> Plan:
    """The votes for the options that *url* has."""

    async def read() -> list[str]:
        async with ApiClient(url, TIMEOUT_S) as client:
            return await read_choices(client)

    return Plan.of(options.votes, options.voters, options.revote_share, options.seed, asyncio.run(read()))


def _send(plan: Plan, url: str, concurrency: int) -> list[Voter]:
    progress = Progress(len(plan.votes), "votes")
    whys: Counter[str] = Counter()

    def sent(cast: Cast) -> None:
        progress.step()
        if cast.why:
            whys[f"{cast.outcome}: {cast.why}"] += 1

    voters = asyncio.run(send(plan, url, concurrency, sent))
    progress.end()
    for why, count in whys.most_common():
        say(f"  {count:,} {why}")
    return voters


def _against_stores(plan: Plan, run: LocalRun, options: argparse.Namespace) -> int:
    voters = _send(plan, run.http, options.concurrency)
    stores = Stores(run.redis, run.postgres)
    try:
        drained = stores.wait_drained(DRAINED_WITHIN_S + len(plan.votes) / DRAINED_VOTES_PER_S)
        accounts = account(voters, stores.holdings({voter.id for voter in voters if voter.id}))
    finally:
        stores.close()
    sums = outcomes(voters)
    say(table(_lines(accounts, sums)))
    if not drained:
        say("The list was not drained in time; votes still in it count as queued.")
    return _verdict(accounts.balance and accounts.accepted == sums["accepted"], sums)


def _lines(accounts: Accounts, sums: Counter[str]) -> list[tuple[str, object]]:
    return [
        ("accepted", accounts.accepted),
        ("= rows of its voters", accounts.rows),
        ("+ superseded", accounts.superseded),
        ("+ queued", accounts.queued),
        ("+ in process", accounts.in_process),
        ("+ parked", accounts.parked),
        ("difference", accounts.difference),
        ("", ""),
        ("last choice right", accounts.right),
        ("last choice wrong", accounts.wrong),
        ("refused, not recorded", sums["refused"]),
        ("maybes (no answer)", sums["maybe"]),
        ("  voters with either choice", accounts.unsure),
        ("  rows of maybes, not in the sum", accounts.rows_of_maybes),
    ]


def _against_api(plan: Plan, url: str, options: argparse.Namespace) -> int:
    before = asyncio.run(read_totals(url))
    voters = _send(plan, url, options.concurrency)
    within_s = DRAINED_WITHIN_S + len(plan.votes) / DRAINED_VOTES_PER_S
    movements = asyncio.run(follow(url, before, voters, within_s))
    sums = outcomes(voters)
    rows: list[tuple[object, ...]] = [("choice", "grew by", "expected at least", "at most")]
    rows += [(movement.choice, movement.grew, movement.least, movement.most) for movement in movements]
    say(table(rows))
    say(table([("accepted", sums["accepted"]), ("refused", sums["refused"]), ("maybes (no answer)", sums["maybe"])]))
    say(
        "Not checked, since the API does not show it: single rows, the choice of each voter, queued and parked\n"
        "votes. The totals include votes that others cast during the test. `votectl ops status` and\n"
        "`votectl ops tally verify` show more."
    )
    return _verdict(all(movement.is_right for movement in movements), sums)


def _verdict(balance: bool, sums: Counter[str]) -> int:
    if not sums["accepted"]:
        say("NOTHING WAS ACCEPTED")
        return 1
    say("THE ACCOUNTS BALANCE" if balance else "THE ACCOUNTS DO NOT BALANCE")
    return 0 if balance else 1
