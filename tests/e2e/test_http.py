"""The HTTP API over the wire: what is refused, with which status, and that nothing of it is queued."""

import base64
from collections.abc import Iterator

import httpx
import pytest
from redis import Redis

from tests.e2e.voter import cast
from tests.stack import Stack, wait_for

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def queued(fresh: Stack, redis: Redis) -> Iterator[None]:
    """After the test: exactly one vote came through, the one that is cast last, and nothing was parked."""
    yield
    with httpx.Client(base_url=fresh.http, trust_env=False) as http:
        cast(http, "a")
    wait_for(lambda: fresh.results()["total"] >= 1, "the vote that is cast last")
    assert fresh.results()["total"] == 1
    assert redis.llen("{votes}:dead") == 0


@pytest.mark.usefixtures("queued")
def test_what_is_no_ballot_is_refused_and_not_queued(http: httpx.Client) -> None:
    refusals = [
        (JSON, b"", 400),
        (JSON, b"null", 400),
        (JSON, b"[]", 400),
        (JSON, b"7", 400),
        (JSON, b'{"vote": "a", "vote": "b"}', 400),
        (JSON, b"[" * 10_000, 400),
        (JSON, b'{"vote": "A"}', 400),
        (JSON, b'{"vote": " a"}', 400),
        (JSON, b'{"vote": "' + b"a" * 300 + b'"}', 400),
        (JSON, b'{"vote": "\xff"}', 400),
        (FORM, b"", 400),
        (FORM, b"vote=c", 400),
        (FORM, b"vote=a&vote=b", 400),
        ({}, b'{"vote": "a"}', 415),
        ({"content-type": "text/plain"}, b"vote=a", 415),
        (JSON, b'{"vote": "a", "x": "' + b"x" * 17_000 + b'"}', 413),
    ]
    for headers, body, status in refusals:
        answer = http.post("/api/votes", content=body, headers=headers)
        assert answer.status_code == status, (body[:40], answer.text)
        error = answer.json()["error"]
        assert error["code"]
        assert error["message"]
    sites = [
        {"sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "same-site", "origin": "https://other.example"},
    ]
    for headers in sites:
        answer = http.post("/", data={"vote": "b"}, headers=headers)
        assert answer.status_code == 403, headers
    for method, path in (("GET", "/?vote=b"), ("HEAD", "/"), ("GET", "/api/votes?vote=b"), ("OPTIONS", "/api/votes")):
        http.request(method, path, headers={"purpose": "prefetch"})


def test_body_over_the_limit_of_the_gateway_is_refused(http: httpx.Client) -> None:
    answer = http.post("/api/votes", content=b"x" * (10 * 1024 * 1024 + 1), headers=JSON)
    assert answer.status_code == 413


def test_body_in_odd_dress_is_read(http: httpx.Client, fresh: Stack) -> None:
    accepted = [
        ("APPLICATION/Json; charset=UTF-8", b'{"vote": "a", "extra": [1]}'),
        ("application/json; charset=utf-16", '{"vote": "a"}'.encode("utf-16")),
        ("application/x-www-form-urlencoded;charset=utf-8", b"vote=%61&more=1"),
    ]
    for number, (content_type, body) in enumerate(accepted, 1):
        http.cookies.clear()
        answer = http.post("/api/votes", content=body, headers={"content-type": content_type})
        assert answer.status_code == 202, (content_type, answer.text)
        wait_for(lambda number=number: fresh.results()["total"] == number, "the vote")


def test_slashes_too_many_do_not_drop_a_vote(http: httpx.Client, fresh: Stack) -> None:
    for number, path in enumerate(("//api/votes", "/api/votes/", "/api//votes"), 1):
        http.cookies.clear()
        answer = http.post(f"{fresh.http}{path}", json={"vote": "a"})
        assert answer.status_code == 202, (path, answer.text)
        wait_for(lambda number=number: fresh.results()["total"] == number, "the vote")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/nowhere", 404),
        ("DELETE", "/", 405),
        ("PUT", "/api/votes", 405),
        ("POST", "/results", 405),
        ("POST", "/api/results", 405),
        ("POST", "/health", 405),
        ("OPTIONS", "/", 204),
        ("OPTIONS", "/api/results", 204),
    ],
)
def test_other_methods_and_paths(http: httpx.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status, answer.text
    if status != 404:
        assert "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]
    if status != 204:
        assert answer.json()["error"]["code"]


@pytest.mark.parametrize("path", ["/", "/results", "/api/results", "/health"])
def test_head_mirrors_get_without_a_body_and_mints_no_cookie(http: httpx.Client, path: str) -> None:
    get, head = http.get(path), httpx.head(f"{http.base_url}{path}", trust_env=False)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert "set-cookie" not in head.headers


def test_results_change_their_etag_with_what_is_shown_and_carry_no_cookie(http: httpx.Client, fresh: Stack) -> None:
    for path in ("/results", "/api/results"):
        first = http.get(path)
        assert "set-cookie" not in first.headers
        again = http.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        total = fresh.results()["total"]
        cast(http, "a")
        wait_for(lambda total=total: fresh.results()["total"] == total + 1, "the vote")
        changed = http.get(path, headers={"if-none-match": first.headers["etag"]})
        assert changed.status_code == 200
        assert changed.headers["etag"] != first.headers["etag"]


def test_voter_keeps_the_id_of_the_cookies_and_a_forged_one_is_replaced(http: httpx.Client, fresh: Stack) -> None:
    voter_id = cast(http, "a")
    signature = http.cookies["voter_sig"]
    forged = [
        f"voter_id={'0' * 32}; voter_sig={signature}",
        f"voter_id={voter_id}",
        f"voter_id={voter_id}; voter_sig={base64.urlsafe_b64encode(bytes(32)).decode()}",
        "voter_id=; voter_sig=",
        f"voter_id={'x' * 4000}; voter_sig={signature}",
        'voter_id="a b c"; voter_sig=ü',
    ]
    for number, cookie in enumerate(forged, 2):
        answer = httpx.post(
            f"{fresh.http}/api/votes", json={"vote": "b"}, headers={"cookie": cookie.encode()}, trust_env=False
        )
        assert answer.status_code == 202, answer.text
        assert answer.cookies["voter_id"] not in (voter_id, "0" * 32)
        wait_for(lambda number=number: fresh.results()["total"] == number, "another voter")
    own = f"voter_id={'1' * 32}; voter_id={voter_id}; voter_sig={signature}"
    answer = httpx.post(f"{fresh.http}/api/votes", json={"vote": "b"}, headers={"cookie": own}, trust_env=False)
    assert answer.status_code == 202
    wait_for(lambda: fresh.results()["options"][0]["votes"] == 0, "the changed mind of the first voter")
    assert fresh.results()["total"] == len(forged) + 1


def test_blocked_cookies_are_told_and_nothing_is_queued(http: httpx.Client, fresh: Stack) -> None:
    page = httpx.get(f"{fresh.http}/", trust_env=False).text
    token = page.partition('name="token" value="')[2].partition('"')[0]
    answer = httpx.post(f"{fresh.http}/", data={"vote": "b", "token": token}, trust_env=False)
    assert answer.status_code == 400
    assert "cookies" in answer.text
    cast(http, "a")
    wait_for(lambda: fresh.results()["total"] == 1, "the vote that was cast after it")


def test_voters_behind_one_address_all_count(http: httpx.Client, fresh: Stack) -> None:
    for _ in range(50):
        http.cookies.clear()
        answer = http.post("/api/votes", json={"vote": "a"}, headers={"x-forwarded-for": "203.0.113.7"})
        assert answer.status_code == 202
    wait_for(lambda: fresh.results()["total"] == 50, "all of them")
