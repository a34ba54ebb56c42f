"""Many voters at once, some of whom change their minds: everybody's last choice is counted, and counted once."""

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psycopg
from redis import Redis

from tests.e2e.voter import votes
from tests.stack import Stack, wait_for

VOTES = 20_000
VOTERS = 10_000
CLIENTS = 32
SEED = 2026


@dataclass
class Voter:
    """One browser: its cookies from its first vote on, and its last accepted choice."""

    cookies: str = ""
    choice: str = ""

    @property
    def id(self) -> str:
        return next(c.removeprefix("voter_id=") for c in self.cookies.split("; ") if c.startswith("voter_id="))


@dataclass
class Client:
    """One connection that votes for its own voters, one vote after another."""

    ballots: list[tuple[int, str]] = field(default_factory=list)
    voters: dict[int, Voter] = field(default_factory=lambda: defaultdict(Voter))

    async def run(self, host: str, port: int) -> None:
        # Plain streams: on two cores a client that parses every header would take its share from the functions.
        reader, writer = await asyncio.open_connection(host, port)
        for number, choice in self.ballots:
            voter = self.voters[number]
            body = json.dumps({"vote": choice})
            writer.write(
                f"POST /api/votes HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nCookie: {voter.cookies}\r\n\r\n{body}".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = [line.partition(": ") for line in head[1:]]
            length = next(int(value) for name, _, value in headers if name.lower() == "content-length")
            answer = await reader.readexactly(length)
            assert " 202 " in head[0], (head[0], answer)
            cookies = [value.partition(";")[0] for name, _, value in headers if name.lower() == "set-cookie"]
            voter.cookies = "; ".join(cookies) or voter.cookies
            voter.choice = choice
        writer.close()
        await writer.wait_closed()


def test_last_choice_of_every_voter_is_counted_once_under_load(
    fresh: Stack, redis: Redis, database: psycopg.Connection, say: Callable[[str], None]
) -> None:
    chance = random.Random(SEED)
    numbers = [*range(VOTERS), *(chance.randrange(VOTERS) for _ in range(VOTES - VOTERS))]
    chance.shuffle(numbers)
    clients = [Client() for _ in range(CLIENTS)]
    for number in numbers:
        clients[number % CLIENTS].ballots.append((number, chance.choice("ab")))
    address = urlsplit(fresh.http)
    began = time.monotonic()
    asyncio.run(_run(clients, address.hostname or "", address.port or 0))
    sent_s = time.monotonic() - began
    wait_for(lambda: redis.llen("votes") + redis.llen("{votes}:processing") == 0, "the list to be drained")
    drained_s = time.monotonic() - began
    say(
        f"{VOTES} votes of {VOTERS} voters by {CLIENTS} clients in {sent_s:.1f} s, {VOTES / sent_s:.0f} votes/s; "
        f"in the table {drained_s - sent_s:.2f} s after the last answer"
    )
    expected = {voter.id: voter.choice for client in clients for voter in client.voters.values()}
    assert len(expected) == VOTERS
    assert dict(database.execute("SELECT id, vote FROM votes").fetchall()) == expected
    grouped = dict(database.execute("SELECT vote, count(*) FROM votes GROUP BY vote").fetchall())
    assert dict(database.execute("SELECT vote, votes FROM voting.vote_tally WHERE votes <> 0").fetchall()) == grouped
    wait_for(lambda: votes(fresh.results()) == grouped, "the results to equal GROUP BY")
    assert redis.llen("{votes}:dead") == 0


async def _run(clients: list[Client], host: str, port: int) -> None:
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run(host, port))
