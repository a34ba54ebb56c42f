"""Nothing that the system prints holds a voter id, a cookie or a secret: driven, with faults, then searched."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from redis import Redis
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.stack import Stack, running, wait_for

JUNK = [
    b'{"vote": "a", "voter_id": "%b\\u0000"}',
    b'{"vote": "z", "voter_id": "%b"}',
    b'{"vote": "a", "voter_id": "%b"',
    b"\xff%b",
]


class Traffic:
    """Everything bad and good that comes to a stack, and all of it that must not be found in its log."""

    def __init__(self, stack: Stack) -> None:
        self.private: dict[str, str] = {}  # what it is, by its text
        self._stack = stack
        self._http = httpx.Client(base_url=stack.http, timeout=30, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def note(self, what: str, *texts: str) -> None:
        self.private |= dict.fromkeys(texts, what)

    def vote(self) -> int:
        """As a new voter, who changes his mind."""
        self._http.cookies.clear()
        answer = self._http.post("/api/votes", json={"vote": "a"})
        self._note_cookies()
        self._http.post("/", data={"vote": "b"})
        self._http.get("/")
        self._note_cookies()
        return answer.status_code

    def forge(self) -> None:
        """Cookies of nobody, refused requests, a query that names an id."""
        id_, signature = secrets.token_hex(16), secrets.token_urlsafe(32)
        self.note("a forged cookie", id_, signature)
        cookies = {"Cookie": f"voter_id={id_}; voter_sig={signature}"}
        for content in (b"{", b"", json.dumps({"vote": id_}).encode(), b"x" * 20_000):
            self._http.post("/api/votes", content=content, headers=cookies | {"Content-Type": "application/json"})
        self._http.post("/", data={"vote": "a"}, headers=cookies | {"Origin": "https://evil.example"})
        self._http.delete("/api/votes", headers=cookies)
        self._http.get(f"/nowhere?voter_id={id_}", headers=cookies)

    def push_junk(self, redis: Redis) -> None:
        for message in JUNK:
            id_ = secrets.token_hex(16)
            self.note("an id in the list", id_)
            redis.lpush("votes", message % id_.encode())

    def subscribe(self) -> None:
        frame = secrets.token_hex(16)
        self.note("a frame", frame)
        with connect(self._stack.websocket, proxy=None) as socket:
            for text in ('{"action": "subscribe"}', frame, json.dumps({"action": frame}), frame.encode()):
                socket.send(text)
                socket.recv(timeout=20)
        with pytest.raises(InvalidStatus):
            connect(self._stack.websocket, proxy=None, origin="https://evil.example")  # type: ignore[arg-type]

    def _note_cookies(self) -> None:
        for cookie in self._http.cookies.jar:
            self.note(cookie.name, str(cookie.value))


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[Stack]:
    """A system that prints all it can: requests and metrics too."""
    with running(tmp_path / "state", "--no-reload", "--metrics", "--access-log") as stack:
        yield stack


def test_the_log_of_the_whole_system_holds_no_id_cookie_or_secret(talkative: Stack) -> None:
    traffic = Traffic(talkative)
    with Redis.from_url(talkative.redis) as redis, psycopg.connect(talkative.postgres, autocommit=True) as database:
        for _ in range(5):
            assert traffic.vote() == 202
            traffic.forge()
        traffic.subscribe()
        traffic.push_junk(redis)
        drained = all_drained(redis)
        wait_for(lambda: drained() and redis.llen("{votes}:dead") == len(JUNK), "the junk to be parked")

        # The database refuses one voter by name; its error names him.
        refused = secrets.token_hex(16)
        traffic.note("a refused id", refused)
        database.execute(f"ALTER TABLE votes ADD CONSTRAINT picky CHECK (id <> '{refused}')")  # type: ignore[arg-type]
        redis.lpush("votes", json.dumps({"vote": "a", "voter_id": refused}))
        wait_for(lambda: drained() and redis.llen("{votes}:dead") == len(JUNK) + 1, "the refused vote to be parked")

    for store in ("postgres", "redis"):
        assert talkative.local("--stop-store", store).returncode == 0
        traffic.vote()
        traffic.forge()
        httpx.get(f"{talkative.http}/results", trust_env=False, timeout=30)
        assert httpx.get(f"{talkative.http}/health", trust_env=False, timeout=30).status_code == 503
        assert talkative.local("--start-store", store).returncode == 0
    wait_for(lambda: httpx.get(f"{talkative.http}/health", trust_env=False).status_code == 200, "a good health")
    assert traffic.vote() == 202
    traffic.close()

    for url in (talkative.redis, talkative.postgres):
        traffic.note("a store's password", str(urlsplit(url).password))
    kept = json.loads((talkative.state_dir / "secrets.json").read_text())
    for name, secret in kept.items():
        traffic.note(name, secret)

    # Each fault was seen, so the search is of a log that has something to hide.
    seen = ("refused", "parked invalid messages", "refuses a vote", "unavailable", "unreachable", "another origin")
    wait_for(lambda: all(words in talkative.log for words in (*seen, "VotesQueued")), "the log to be written")
    assert len(traffic.private) > 30
    found = {what for text, what in traffic.private.items() if text in talkative.log}
    assert not found, found


def all_drained(redis: Redis) -> Callable[[], bool]:
    return lambda: redis.llen("votes") + redis.llen("{votes}:processing") == 0
