"""Voters over HTTP: a stream of votes and re-votes, each voter's requests one after another."""

import asyncio
import json
import random
import re
import time
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.ledger import Ledger, Outcome, Voter
from tests.stack import PATIENCE

BOOTHS = 16  # requests at once
ACTIVE = 48  # voters who have not yet cast all their votes
ANSWER_WITHIN_S = 40.0  # longer than the gateway's own patience, so that no request is given up while it waits there
SLOT_S = 0.25
JUNK_EVERY_S = 0.4
LONGEST_LAG_S = 0.05  # behind its rate; what is further behind is not made up for in one burst

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_COOKIE = re.compile(rb"\r\nset-cookie: *([a-z_-]+)=([^;\r]*)", re.IGNORECASE)


class Load:
    """Keeps voting until told to stop. The seed decides the voters and their choices, the system's pace their turns."""

    def __init__(self, url: str, redis_url: str, seed: str, votes_per_s: float, *, litters: bool = True) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._redis_url = redis_url
        self._litters = litters
        self._seed = seed
        self._rng = random.Random(f"{seed}/order")
        self._interval_s = 1 / votes_per_s
        self._due = 0.0
        self._idle: list[Voter] = []
        self._busy_slots: set[int] = set()
        self._stopping = asyncio.Event()
        self._goal = 0
        self._reached = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.ledger = Ledger()
        self.sent = 0
        self.accepted = 0

    def start(self) -> None:
        self._idle = [self._new_voter() for _ in range(ACTIVE)]
        self._tasks = [asyncio.create_task(self._booth()) for _ in range(BOOTHS)]
        if self._litters:
            self._tasks.append(asyncio.create_task(self._litter()))

    async def reach(self, votes: int) -> None:
        """Return when so many votes were sent, or a booth has failed."""
        self._goal = votes
        while self.sent < votes:
            self._reached.clear()
            reached = asyncio.create_task(self._reached.wait())
            done, _ = await asyncio.wait([reached, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
            for task in done:
                task.result()

    async def stop(self) -> None:
        """Let every request come to its end.

        Raises:
            AssertionError: a request was answered as none should be.
        """
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def cast(self, voter: Voter) -> None:
        """Let a voter of a fault's own cast all their votes."""
        if voter not in self.ledger.voters:
            self.ledger.voters.append(voter)
        line = _Line(self._host, self._port)
        try:
            while voter.choices:
                await self._vote(voter, line)
        finally:
            line.close()

    def coverage(self, began: float, ended: float) -> float:
        """The share of the time between two moments (monotonic) in which a vote was on its way."""
        slots = range(int(began / SLOT_S), int(ended / SLOT_S) + 1)
        return sum(slot in self._busy_slots for slot in slots) / len(slots)

    async def _booth(self) -> None:
        line = _Line(self._host, self._port)
        try:
            while not self._stopping.is_set():
                await self._turn()
                voter = self._idle.pop(self._rng.randrange(len(self._idle)))
                await self._vote(voter, line)
                self._idle.append(voter if voter.choices else self._new_voter())
        finally:
            line.close()

    async def _turn(self) -> None:
        now = time.monotonic()
        self._due = max(self._due + self._interval_s, now - LONGEST_LAG_S)
        await asyncio.sleep(max(0.0, self._due - now))

    async def _vote(self, voter: Voter, line: "_Line") -> None:
        choice = voter.choices.pop(0)
        voter.waiting = True
        self.sent += 1
        if self.sent >= self._goal:
            self._reached.set()
        began = time.monotonic()
        try:
            status, head, body = await line.ask(_request(voter, choice))
        except (OSError, EOFError, TimeoutError):  # EOFError: IncompleteReadError is one
            outcome = Outcome.MAYBE
            line.close()
        else:
            outcome = _outcome(status, body)
            voter.cookies |= {name.decode(): value.decode() for name, value in _COOKIE.findall(head)}
        ended = time.monotonic()
        self._busy_slots.update(range(int(began / SLOT_S), int(ended / SLOT_S) + 1))
        self.accepted += outcome is Outcome.ACCEPTED
        voter.told(choice, outcome, ended - began)
        voter.waiting = False

    def _new_voter(self) -> Voter:
        voter = Voter.of(f"{self._seed}/{len(self.ledger.voters)}")
        self.ledger.voters.append(voter)
        return voter

    async def _litter(self) -> None:
        """Put what is no vote among the votes, now and then, past the proxy."""
        async with Redis.from_url(self._redis_url) as redis:
            number = 0
            while not self._stopping.is_set():
                payload, reason = _junk(self._rng.randrange(4), f"{self._seed}/{number}")
                number += 1
                self.ledger.junk[payload] = reason
                try:
                    await redis.lpush("votes", payload)
                except (RedisError, OSError):
                    self.ledger.junk_maybe.add(payload)
                try:
                    await asyncio.wait_for(self._stopping.wait(), JUNK_EVERY_S)
                except TimeoutError:
                    continue


class _Line:
    """One kept HTTP/1.1 connection, made anew where it broke. A request is sent once, whatever happens."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer; raises OSError, EOFError or TimeoutError where there is none."""
        async with asyncio.timeout(ANSWER_WITHIN_S * PATIENCE):
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
        return int(head[9:12]), head, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _request(voter: Voter, choice: str) -> bytes:
    if voter.by_form:
        path, kind, body = "/", "application/x-www-form-urlencoded", f"vote={choice}"
    else:
        path, kind, body = "/api/votes", "application/json", json.dumps({"vote": choice})
    cookies = "; ".join(f"{name}={value}" for name, value in voter.cookies.items())
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncookie: {cookies}\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _outcome(status: int, body: bytes) -> Outcome:
    if status in {202, 303}:
        return Outcome.ACCEPTED
    if status == 503 and b'"not_recorded"' in body:
        return Outcome.REFUSED
    assert status >= 500, f"a vote was answered with {status}: {body!r}"
    return Outcome.MAYBE


def _junk(kind: int, name: str) -> tuple[str, str]:
    """A payload that no other resembles, and the reason that its dead letter must give."""
    return (
        (f"junk {name}", "not_json"),
        (json.dumps({"vote": "a", "id": name}), "missing_field"),
        (json.dumps({"vote": "c", "voter_id": name}), "unknown_choice"),
        (json.dumps({"vote": "a", "voter_id": f"{name}\0"}), "invalid_id"),
    )[kind]
