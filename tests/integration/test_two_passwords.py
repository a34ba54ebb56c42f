"""A new password of Redis and a new key of cookies, while people vote: two running systems on one list and one table.

One is as the functions were, one as they are after `votectl rotate`. While traffic moves, both answer.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
from redis import Redis

from tests.redis_server import serving
from tests.sam.expansion import NEW_STORES, expansion
from tests.stack import Stack, running, wait_for

OLD_KEY, NEW_KEY = "an-old-key-of-cookies-of-32-characters", "a-new-key-of-cookies-with-32-characters"
VOTERS = 12


@pytest.fixture
def server() -> Iterator[Redis]:
    """A Valkey with the template's user, who has two passwords."""
    with serving("valkey") as url, Redis.from_url(url) as admin:
        access = expansion(NEW_STORES).properties("CacheUser")["AccessString"].split()
        admin.execute_command("ACL", "SETUSER", "voting", "reset", ">the-old", *access)
        admin.execute_command("ACL", "SETUSER", "voting", ">the-new")
        yield admin


class Electorate:
    """Voters with a cookie jar each, who go on voting, now here and now there."""

    def __init__(self, closing: ExitStack) -> None:
        self._voters = [closing.enter_context(httpx.Client(timeout=30, trust_env=False)) for _ in range(VOTERS)]
        self.last: dict[str, str] = {}  # the last accepted choice, by voter
        self.votes = 0

    def vote(self, *systems: Stack) -> list[int]:
        """Each voter votes once at each of *systems*; the statuses."""
        statuses = []
        for system in systems:
            for voter in self._voters:
                choice = "ab"[self.votes % 2]
                answer = voter.post(f"{system.http}/api/votes", json={"vote": choice})
                statuses.append(answer.status_code)
                if answer.status_code == 202:
                    self.votes += 1
                    self.last[voter.cookies["voter_id"]] = choice
        return statuses


def test_no_vote_is_refused_or_lost_while_password_and_key_change(
    server: Redis, database: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    port = server.connection_pool.connection_kwargs["port"]

    def system(name: str, password: str, *keys: str) -> dict[str, str]:
        url = f"redis://voting:{password}@127.0.0.1:{port}/0"
        return {"REDIS_URL": url, "DATABASE_URL": database_url, "COOKIE_KEYS": ",".join(keys), "OPTION_A": name}

    with ExitStack() as closing:
        people = Electorate(closing)
        before = closing.enter_context(
            running(tmp_path / "old", "--no-reload", shell=system("old", "the-old", OLD_KEY, NEW_KEY))
        )
        assert set(people.vote(before)) == {202}

        statuses: list[int] = []
        is_up = threading.Event()

        def go_on() -> None:
            while not is_up.is_set():
                statuses.extend(people.vote(before))

        voting = threading.Thread(target=go_on)
        voting.start()
        try:
            after = closing.enter_context(
                running(tmp_path / "new", "--no-reload", shell=system("new", "the-new", NEW_KEY, OLD_KEY))
            )
        finally:
            is_up.set()
            voting.join()
        for _ in range(3):
            statuses += people.vote(before, after)
        assert set(statuses) == {202}

        # The old password goes, and with it all who have logged in by it.
        server.execute_command("ACL", "SETUSER", "voting", "<the-old")
        server.execute_command("CLIENT", "KILL", "USER", "voting")
        assert set(people.vote(before)) == {503}, "not accepted, so not lost either"
        assert set(people.vote(after)) == {202}

        assert len(people.last) == VOTERS, "each voter stays the same voter to both"
        rows = "SELECT id, vote FROM votes"
        wait_for(lambda: dict(database.execute(rows).fetchall()) == people.last, "the last choices in the table")
    assert people.votes > 8 * VOTERS
