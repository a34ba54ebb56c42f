"""Other sites cannot vote with their visitors' cookies, nor subscribe from their pages."""

import itertools
from collections.abc import Callable

import pytest
from redis import Redis

from tests.conftest import Handler, event
from tests.security.conftest import HOST, Function

OWN, ALLOWED = f"https://{HOST}", "https://vote.example.org"
FOREIGN = ["https://evil.example", "null", "", f"http://{HOST}", f"https://{HOST}.evil.example", f"https://x.{HOST}",
           f"https://{HOST}:8443", f"https://evil.example/{HOST}", f"https://{HOST}@evil.example"]  # fmt: skip
SITES = [None, "same-origin", "none", "same-site", "cross-site", "Same-Origin", "", "x", "same-origin, cross-site"]


def passes(site: str | None, origin: str | None) -> bool:
    """The rule of the design, in other words: an allowed origin; else what the browser says; else the origin."""
    if origin == ALLOWED:
        return True
    if site is not None:
        return site.lower() in {"same-origin", "none"}
    return origin in {None, OWN}


@pytest.mark.parametrize("route", ["post-form", "post-json"])
def test_sec_fetch_site_decides_then_origin(
    function: Callable[[str], Function], redis: Redis, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", ALLOWED)
    vote = function("vote")
    for site, origin in itertools.product(SITES, [None, OWN, ALLOWED, *FOREIGN]):
        redis.delete("votes")
        reply = vote(route, headers={"sec-fetch-site": site, "origin": origin, "accept": "*/*"})
        assert (reply.status in {202, 303}) == passes(site, origin), (site, origin, reply)
        assert redis.llen("votes") == passes(site, origin)
        if not passes(site, origin):
            assert (reply.status, reply.code, reply.set_cookies) == (403, "cross_site", [])


def test_a_get_never_votes_whoever_sends_it(vote: Function, redis: Redis) -> None:
    for headers in ({"sec-fetch-site": "cross-site"}, {"purpose": "prefetch"}, {"sec-purpose": "prefetch;prerender"}):
        assert vote("get-vote-page", headers=headers, path="/").status == 200
    assert not redis.exists("votes")


def test_no_answer_lets_pages_of_other_origins_read_it(vote: Function, result: Function) -> None:
    for reply in (vote(), vote("options"), vote("get-vote-page"), result("get-results"), vote(body=b"")):
        assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("origin", [*FOREIGN, "http://[::1"])
def test_a_foreign_page_cannot_subscribe(ws_connect: Handler, context, origin: str, redis: Redis) -> None:
    connect = event("websocket-connect")
    connect["headers"] = {"ORIGIN": origin}
    assert ws_connect(connect, context) == {"statusCode": 403}
    assert redis.keys("{votes}:subscribers:*") == []
    connect["headers"] = {"ORIGIN": OWN}
    assert ws_connect(connect, context) == {"statusCode": 200}


@pytest.mark.parametrize("listed", [f"{ALLOWED}:443", f"{ALLOWED}:", ALLOWED.upper(), f" {ALLOWED}/"])
@pytest.mark.parametrize("sent", [ALLOWED, f"{ALLOWED}:443", ALLOWED.upper()])
def test_an_allowed_origin_may_vote_and_subscribe_in_any_spelling(
    function: Callable[[str], Function],
    ws_connect: Handler,
    context,
    monkeypatch: pytest.MonkeyPatch,
    listed: str,
    sent: str,
) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", listed)
    vote = function("vote")
    assert vote("post-json", headers={"sec-fetch-site": "cross-site", "origin": sent}).status == 202
    connect = event("websocket-connect")
    connect["headers"] = {"Origin": sent}
    assert ws_connect(connect, context) == {"statusCode": 200}
