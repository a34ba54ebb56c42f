"""A trickle of seeded votes by voters who keep their cookies and sometimes change their minds."""

import http.client
import itertools
import json
import math
import random
import time
from urllib.parse import urlsplit

SWING_VOTES = 240  # the favour swings from one choice to the other and back within so many votes
PAUSE_AFTER_FAILURE_S = 2.0


class Demo:
    """Some voters, of whom a random one votes at a time."""

    def __init__(self, url: str, *, voters: int, seed: int) -> None:
        self._url = urlsplit(url)
        self._random = random.Random(seed)
        self._cookies: list[str] = [""] * voters

    def run(self, rate: float, votes: int | None = None) -> None:
        """Send *rate* votes a second on average, at random moments, *votes* in all or without an end."""
        for number in itertools.count():
            if number == votes:
                return
            favour = 0.5 + 0.25 * math.sin(2 * math.pi * number / SWING_VOTES)
            choice = "a" if self._random.random() < favour else "b"
            try:
                self._vote(self._random.randrange(len(self._cookies)), choice)
            except (OSError, http.client.HTTPException) as error:
                print(f"a vote was not taken: {error or type(error).__name__}", flush=True)
                time.sleep(PAUSE_AFTER_FAILURE_S)
            # A Poisson process: that is how votes of many independent people arrive.
            time.sleep(min(self._random.expovariate(rate), 10 / rate))

    def _vote(self, voter: int, choice: str) -> None:
        connect = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = connect(self._url.netloc, timeout=10)
        try:
            headers = {"content-type": "application/json", "cookie": self._cookies[voter]}
            connection.request("POST", "/api/votes", json.dumps({"vote": choice}), headers)
            answer = connection.getresponse()
            body = answer.read(1000)
            if answer.status != http.HTTPStatus.ACCEPTED:
                raise http.client.HTTPException(f"{answer.status} {body.decode(errors='replace')}")
            self._cookies[voter] = "; ".join(
                cookie.partition(";")[0] for cookie in answer.headers.get_all("set-cookie") or [self._cookies[voter]]
            )
        finally:
            connection.close()
