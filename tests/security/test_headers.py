"""Every answer of every kind carries its headers, and what a page may run is what it was made of."""

import base64
import hashlib
import re
from collections.abc import Callable

import pytest
from redis import Redis

from tests.security.conftest import Function, Reply
from voting.results.snapshot import Snapshots
from voting.tally import Tally

NOWHERE = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": "postgresql://127.0.0.1:1/postgres"}
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000",
}
PAGE = {"accept": "text/html,*/*;q=0.8"}
Load = Callable[[str], Function]


def answers_of_vote(vote: Function) -> dict[str, Reply]:
    """One of every kind that the function vote gives while Redis is up."""
    foreign = {"sec-fetch-site": "cross-site"}
    return {
        "200 page": vote("get-vote-page"),
        "200 head": vote("head-vote-page"),
        "202": vote(),
        "303": vote("post-form"),
        "204 options": vote("options"),
        "308": vote("get-unknown", path="/results/"),
        "400 json": vote(body=b"{"),
        "400 page": vote("post-form", body=b"vote=x", headers=PAGE),
        "403": vote(headers=foreign),
        "403 page": vote("post-form", headers=PAGE | foreign),
        "404": vote("get-unknown"),
        "404 page": vote("get-unknown", headers=PAGE),
        "405": vote(method="DELETE"),
        "413": vote(body=b"x" * 20_000),
        "415": vote(headers={"content-type": "text/plain"}),
    }


def assert_guarded(reply: Reply) -> None:
    assert {name: reply.headers.get(name) for name in ALWAYS} == ALWAYS
    policy = reply.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    assert "*" not in reply.headers["Content-Security-Policy"]
    assert "Traceback" not in reply.body


def test_every_answer_of_the_function_vote_is_guarded_and_never_stored(vote: Function) -> None:
    for kind, reply in answers_of_vote(vote).items():
        assert str(reply.status) == kind.split()[0]
        assert_guarded(reply)
        assert reply.headers["Cache-Control"] == "no-store", kind


def test_only_answers_to_accepted_requests_set_cookies(vote: Function) -> None:
    setting = {kind for kind, reply in answers_of_vote(vote).items() if reply.set_cookies}
    assert setting == {"200 page", "202", "303"}


@pytest.mark.parametrize("name", ["get-results", "get-results-page"])
def test_results_are_guarded_shared_for_a_second_and_set_no_cookie(result: Function, redis: Redis, name: str) -> None:
    Snapshots(redis).write(Tally(1, {"a": 1}))
    full = result(name)
    unchanged = result(name, headers={"if-none-match": full.headers["ETag"]})
    assert (full.status, unchanged.status, unchanged.body) == (200, 304, "")
    for reply in (full, unchanged, result(name, method="HEAD")):
        assert_guarded(reply)
        assert reply.headers["Cache-Control"] == "public, max-age=1"
        assert reply.set_cookies == []


def test_health_is_guarded_and_never_stored(result: Function) -> None:
    reply = result("get-health")
    assert_guarded(reply)
    assert reply.headers["Cache-Control"] == "no-store"


def test_without_stores_answers_are_guarded_and_tell_no_address(function: Load, database, monkeypatch) -> None:
    vote, result = function("vote"), function("result")
    for name, url in NOWHERE.items():
        monkeypatch.setenv(name, url)
    replies = [vote(), vote("post-form", headers=PAGE)]
    replies += [result(name) for name in ("get-results", "get-results-page", "get-health")]
    for reply in replies:
        assert reply.status == 503
        assert reply.headers["Retry-After"]
        assert_guarded(reply)
        assert not re.search(r"127\.0\.0\.1|redis\.|psycopg|Connection|Error 111", reply.body)


def test_a_fault_of_ours_shows_no_stack_and_no_setting(function: Load, monkeypatch) -> None:
    vote = function("vote")
    monkeypatch.setenv("COOKIE_KEYS", "short")
    for reply in (vote(), vote("get-vote-page", headers=PAGE)):
        assert reply.status == 500
        assert_guarded(reply)
        assert not re.search(r"Traceback|COOKIE_KEYS|short|\.py|InvalidSetting", reply.body)


def test_over_plain_http_nothing_is_pinned(vote: Function) -> None:
    reply = vote(headers={"x-forwarded-proto": "http"})
    assert "Strict-Transport-Security" not in reply.headers
    assert not any("Secure" in cookie for cookie in reply.set_cookies)


@pytest.mark.parametrize("page", ["vote", "results", "error"])
def test_a_page_runs_the_script_and_style_that_it_was_made_of_and_nothing_else(
    vote: Function, result: Function, page: str
) -> None:
    reply = {
        "vote": lambda: vote("get-vote-page"),
        "results": lambda: result("get-results-page"),
        "error": lambda: vote("get-unknown", headers=PAGE),
    }[page]()
    policy = dict(part.partition(" ")[::2] for part in reply.headers["Content-Security-Policy"].split("; "))
    for kind in ("script", "style"):
        inline = re.findall(rf"<{kind}>(.*?)</{kind}>", reply.body, re.DOTALL)
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in inline]
        assert policy[f"{kind}-src"] == (" ".join(hashes) or "'none'")
    assert not re.search(r"<script [^>]*>|<link[^>]+stylesheet|\sstyle=|\son\w+=|javascript:", reply.body)
    assert policy["form-action"] == "'self'"
    assert policy["base-uri"] == "'none'"


def test_the_results_page_may_talk_to_itself_and_to_the_web_socket_only(result: Function) -> None:
    policy = result("get-results-page").headers["Content-Security-Policy"]
    assert "connect-src 'self' ws://127.0.0.1:3001;" in policy


def test_labels_are_text_wherever_they_stand(function: Load, database, redis: Redis, monkeypatch) -> None:
    label = "</script><img src=x onerror=alert(1)>\"'&${token}"
    monkeypatch.setenv("OPTION_A", label)
    Snapshots(redis).write(Tally(1, {"a": 1}))
    for reply in (function("vote")("get-vote-page"), function("result")("get-results-page")):
        assert "<img" not in reply.body
        assert reply.body.count("</script>") == 1
        assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;${token}" in reply.body
