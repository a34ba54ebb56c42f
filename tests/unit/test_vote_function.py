"""The function vote as API Gateway invokes it: covers ballot, response and voting_page."""

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import pytest
from redis import Redis

from functions.vote import app
from tests.unit.http_function import Context, HttpFunction, Reply, event
from voting.observability import logger
from voting.queue.queue_view import HANDED_BACK, PROGRESS
from voting.settings import Settings

LEGACY_ID = "1f2e3d4c5b6a798"
OWN = "__Host-voter_sig"
HOST = event("post-form")["headers"]["host"]


@pytest.fixture
def vote(settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpFunction]:
    assert redis.ping()
    function = HttpFunction(app)
    function.configure(monkeypatch, {name: settings.env[name] for name in ("REDIS_URL", "COOKIE_KEYS")})
    yield function
    function.forget()


def queued(redis: Redis) -> list[dict[str, str]]:
    return [json.loads(message) for message in redis.lrange("votes", 0, -1)]


def cookie(reply: Reply, name: str) -> str:
    return dict(pair.split("=", 1) for pair in reply.cookies)[name]


def post_form(vote: HttpFunction, fields: dict[str, str], **changes: object) -> Reply:
    return vote("post-form", body=urlencode(fields).encode(), **changes)


# ---------------------------------------------------------------- The page


def test_first_visit_sets_the_voters_cookies(vote: HttpFunction) -> None:
    reply = vote("get-vote-page")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert [pair.partition("=")[0] for pair in reply.cookies] == ["voter_id", "__Host-voter_sig"]
    assert len(cookie(reply, "voter_id")) == 32
    for set_cookie in reply.set_cookies:
        attributes = set_cookie.split("; ")[1:]
        assert sorted(attributes) == ["HttpOnly", "Max-Age=31536000", "Path=/", "SameSite=Lax", "Secure"]


def test_known_voter_keeps_the_cookies(vote: HttpFunction) -> None:
    cookies = vote("get-vote-page").cookies
    assert vote("get-vote-page", cookies=cookies).set_cookies == []


def test_every_first_visit_gets_another_id(vote: HttpFunction) -> None:
    assert len({cookie(vote("get-vote-page"), "voter_id") for _ in range(20)}) == 20


def test_over_plain_http_cookies_are_not_secure_and_nothing_is_pinned(vote: HttpFunction) -> None:
    reply = vote("get-vote-page", headers={"x-forwarded-proto": "http"})
    assert "Secure" not in " ".join(reply.set_cookies)
    assert "Strict-Transport-Security" not in reply.headers


def test_head_mirrors_get_without_body_or_cookie(vote: HttpFunction) -> None:
    head, get = vote("head-vote-page"), vote("get-vote-page")
    assert (head.status, head.body, head.set_cookies) == (200, "", [])
    assert head.headers == get.headers


@pytest.mark.parametrize("prefetch", [{"purpose": "prefetch"}, {"sec-purpose": "prefetch;prerender"}])
def test_get_never_votes(vote: HttpFunction, redis: Redis, prefetch: dict[str, str]) -> None:
    changed = event("get-vote-page", headers=prefetch)
    assert vote.invoke(changed | {"rawQueryString": "vote=a", "queryStringParameters": {"vote": "a"}}).status == 200
    assert queued(redis) == []


def test_labels_are_escaped(vote: HttpFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTION_A", "</script><img src=x onerror=alert(1)>")
    monkeypatch.setenv("OPTION_B", "\"quoted\" & 'single' ${token} $x")
    body = vote("get-vote-page").body
    assert "<img" not in body
    assert body.count("</script>") == 1
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in body
    assert "&quot;quoted&quot; &amp; &#x27;single&#x27; ${token} $x" in body


TWENTY = "|".join(f"Option {number}" for number in range(1, 21))


@pytest.mark.parametrize(
    ("settings_", "count", "heading", "title"),
    [
        ({}, 2, '<h1><bdi>Cats</bdi> <span class="or">or</span> <bdi>Dogs</bdi>?</h1>', "Cats or Dogs?"),
        ({"QUESTION": "Who? <b>"}, 2, '<h1 class="asked" dir="auto">Who? &lt;b&gt;</h1>', "Who? &lt;b&gt;"),
        ({"OPTIONS": "Thai|Pizza|Salad"}, 3, "<h1>Choose one</h1>", "Choose one"),
        ({"OPTIONS": TWENTY, "QUESTION": "Lunch?"}, 20, '<h1 class="asked" dir="auto">Lunch?</h1>', "Lunch?"),
    ],
    ids=["as before", "a question", "three options", "twenty"],
)
def test_the_page_has_a_button_for_each_option_and_one_heading(
    vote: HttpFunction, monkeypatch: pytest.MonkeyPatch, settings_: dict[str, str], count: int, heading: str, title: str
) -> None:
    for name, value in settings_.items():
        monkeypatch.setenv(name, value)
    body = vote("get-vote-page").body
    buttons = re.findall(r'<button class="card (.)" name="vote" value="(.)" aria-pressed="false">', body)
    assert buttons == [(choice, choice) for choice in "abcdefghijklmnopqrst"[:count]]
    assert re.findall(r"<h1.*</h1>", body) == [heading]
    assert f"<title>{title}</title>" in body
    assert "<!-- " not in body


@pytest.mark.parametrize("by", ["form", "json"])
def test_each_of_the_options_can_be_voted_for_and_no_other(
    vote: HttpFunction, redis: Redis, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv("OPTIONS", "Thai|Pizza|Salad")

    def cast(choice: str) -> Reply:
        if by == "form":
            return post_form(vote, {"vote": choice}, headers={"accept": "application/json"})
        return vote("post-json", body=json.dumps({"vote": choice}))

    for choice in "abc":
        assert cast(choice).status in {202, 303}
    assert sorted(message["vote"] for message in queued(redis)) == ["a", "b", "c"]
    assert {frozenset(message) for message in queued(redis)} == {frozenset({"vote", "voter_id"})}
    for choice in ("d", "t", "u", "ab", "Thai"):
        refused = cast(choice)
        assert (refused.status, refused.code) == (400, "unknown_choice")
        assert "Choose one of: a, b, c." in refused.json["error"]["message"]
    assert len(queued(redis)) == 3


def test_a_choice_that_is_no_longer_an_option_is_not_shown_as_the_voters(
    vote: HttpFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIONS", "Thai|Pizza|Salad")
    cookies = vote("post-json", body=json.dumps({"vote": "c"})).cookies
    assert "Your vote for Salad was received." in vote("get-vote-page", cookies=cookies).body
    monkeypatch.setenv("OPTIONS", "Thai|Pizza")
    vote.forget()
    assert "was received" not in vote("get-vote-page", cookies=cookies).body.partition("<script>")[0]


def test_options_that_cannot_be_read_are_an_error_and_no_vote(
    vote: HttpFunction, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIONS", "Thai")
    assert vote("post-json").status == 500
    assert queued(redis) == []


def test_every_answer_carries_the_security_headers(vote: HttpFunction) -> None:
    replies = [vote("get-vote-page"), vote("post-form"), vote("post-json"), vote("get-unknown"), vote("options")]
    for reply in [*replies, vote("post-json", body="")]:
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        assert "unsafe" not in reply.headers["Content-Security-Policy"]
        assert reply.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "same-origin"
        assert reply.headers["Cache-Control"] == "no-store"


# ---------------------------------------------------------------- Voting


def test_form_and_json_queue_the_same_message(vote: HttpFunction, redis: Redis) -> None:
    cookies = vote("get-vote-page").cookies
    assert vote("post-form", cookies=cookies).status == 303
    assert vote("post-json", cookies=cookies).status == 202
    voter_id = cookies[0].removeprefix("voter_id=")
    assert redis.lrange("votes", 0, -1) == [f'{{"vote": "a", "voter_id": "{voter_id}"}}'.encode()] * 2


def test_form_is_answered_with_a_redirect_that_shows_the_choice(vote: HttpFunction) -> None:
    reply = vote("post-form")
    assert (reply.status, reply.headers["Location"], reply.body) == (303, "/", "")
    body = vote("get-vote-page", cookies=reply.cookies).body
    assert "Your vote for Cats was received." in body
    assert "counted" not in words(vote("get-vote-page", cookies=reply.cookies))
    assert 'value="a" aria-pressed="true"' in body
    assert 'value="b" aria-pressed="false"' in body


def fall_behind(redis: Redis, seconds: int) -> None:
    """As if no batch had been committed for so long."""
    redis.set(PROGRESS, redis.time()[0] * 1000 - seconds * 1000)


def test_a_vote_that_is_not_counted_soon_is_kept_and_the_voter_hears_of_the_delay(
    vote: HttpFunction, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    fall_behind(redis, 16)
    reply = vote("post-json", body='{"vote": "b"}')
    assert (reply.status, reply.json) == (202, {"vote": "b", "status": "queued", "counting": "delayed"})
    assert len(queued(redis)) == 1
    assert '"VotesDelayed":[1.0]' in capsys.readouterr().out


def test_the_page_after_a_form_says_that_counting_is_delayed_until_it_is_not(vote: HttpFunction, redis: Redis) -> None:
    fall_behind(redis, 16)
    reply = vote("post-form")
    assert (reply.status, reply.headers["Location"]) == (303, "/")
    assert "Counting is delayed" in words(vote("get-vote-page", cookies=reply.cookies))
    fall_behind(redis, 0)
    again = vote("post-form", cookies=reply.cookies)
    assert any(line.startswith("__Host-vote_delayed=1; Path=/; Max-Age=0") for line in again.set_cookies)
    kept = [cookie for cookie in again.cookies if not cookie.startswith("__Host-vote_delayed")]
    assert "Counting is delayed" not in words(vote("get-vote-page", cookies=kept))


@pytest.mark.parametrize("behind_s", [0, 14])
def test_a_short_wait_is_no_delay(vote: HttpFunction, redis: Redis, behind_s: int) -> None:
    fall_behind(redis, behind_s)
    assert vote("post-json", body='{"vote": "b"}').json == {"vote": "b", "status": "queued"}


def test_what_another_worker_drains_is_no_delay_of_ours(vote: HttpFunction, redis: Redis) -> None:
    fall_behind(redis, 600)
    redis.set(HANDED_BACK, 1)
    assert vote("post-json", body='{"vote": "b"}').json == {"vote": "b", "status": "queued"}


def test_the_first_vote_of_all_is_no_delay_and_the_time_counts_from_it(vote: HttpFunction, redis: Redis) -> None:
    assert vote("post-json", body='{"vote": "b"}').json == {"vote": "b", "status": "queued"}
    assert redis.get(PROGRESS) is not None


def words(page: Reply) -> str:
    return re.sub("<script>.*</script>", "", page.body, flags=re.DOTALL)


def test_json_is_answered_with_the_vote_and_the_cookies(vote: HttpFunction, redis: Redis) -> None:
    reply = vote("post-json", body='{"vote": "b", "extra": [1, {"vote": "a"}]}')
    assert (reply.status, reply.json) == (202, {"vote": "b", "status": "queued"})
    assert queued(redis) == [{"vote": "b", "voter_id": cookie(reply, "voter_id")}]
    assert {pair.partition("=")[0] for pair in reply.cookies} == {"voter_id", OWN, "__Host-vote_choice"}


def test_newest_vote_is_at_the_head_of_the_list(vote: HttpFunction, redis: Redis) -> None:
    cookies = vote("get-vote-page").cookies
    for choice in "aba":
        vote("post-json", cookies=cookies, body=json.dumps({"vote": choice}))
    assert [message["vote"] for message in queued(redis)] == ["a", "b", "a"]
    assert len({message["voter_id"] for message in queued(redis)}) == 1


@pytest.mark.parametrize("path", ["/api/votes/", "//api/votes", "/api//votes///"])
def test_slashes_too_many_do_not_drop_a_json_vote(vote: HttpFunction, redis: Redis, path: str) -> None:
    assert vote("post-json", path=path).status == 202
    assert len(queued(redis)) == 1


def test_slashes_too_many_do_not_drop_a_form(vote: HttpFunction, redis: Redis) -> None:
    assert vote("post-form", path="//").status == 303
    assert len(queued(redis)) == 1


def test_many_voters_behind_one_address_all_vote(vote: HttpFunction, redis: Redis) -> None:
    for number in range(500):
        assert vote("post-json", headers={"x-forwarded-for": f"10.0.0.{number % 2}, 203.0.113.7"}).status == 202
    assert len({message["voter_id"] for message in queued(redis)}) == 500


# ---------------------------------------------------------------- Refusing

BAD_JSON = {
    "": "empty_body",
    "vote=a": "invalid_json",
    "null": "not_an_object",
    "7": "not_an_object",
    '[{"vote": "a"}]': "not_an_object",
    "[" * 8000: "invalid_json",
    '{"vote": ' + "9" * 5000 + "}": "invalid_json",
    '{"vote": "a", "vote": "b"}': "duplicate_key",
    '{"vote": "a", "x": {"y": 1, "y": 2}}': "duplicate_key",
    "{}": "missing_vote",
    '{"Vote": "a"}': "missing_vote",
    '{"vote": null}': "wrong_type",
    '{"vote": ["a"]}': "wrong_type",
    '{"vote": 1}': "wrong_type",
    '{"vote": "a", "token": 1}': "wrong_type",
    '{"vote": "c"}': "unknown_choice",
    '{"vote": "A"}': "unknown_choice",
    '{"vote": " a"}': "unknown_choice",
    '{"vote": ""}': "unknown_choice",
    '{"vote": "a\\u0000"}': "unknown_choice",
    '{"vote": "\\ud800"}': "unknown_choice",
    json.dumps({"vote": "a" * 300}): "unknown_choice",
}


@pytest.mark.parametrize(("body", "code"), BAD_JSON.items(), ids=lambda text: text[:24])
def test_bad_json_is_refused_and_nothing_is_queued(vote: HttpFunction, redis: Redis, body: str, code: str) -> None:
    for variant in (body, body.encode()):
        reply = vote("post-json", body=variant)
        assert (reply.status, reply.code) == (400, code)
        assert reply.json["error"]["request_id"] == "JKJaXmPLvHcESHA="
        assert reply.set_cookies == []
    assert queued(redis) == []


BAD_FORMS = {
    b"": "empty_body",
    b"vote": "unknown_choice",
    b"choice=a": "missing_vote",
    b"vote=a&vote=b": "duplicate_key",
    b"vote=c": "unknown_choice",
    b"vote=A": "unknown_choice",
    b"vote=+a": "unknown_choice",
    b"vote=%00": "unknown_choice",
    b"vote=%ff": "invalid_form",
    b"vote=\xff": "invalid_text",
    b"&".join([b"x=1"] * 60): "invalid_form",
}


@pytest.mark.parametrize(("body", "code"), BAD_FORMS.items())
def test_bad_form_is_refused_and_nothing_is_queued(vote: HttpFunction, redis: Redis, body: bytes, code: str) -> None:
    reply = vote("post-form", body=body, headers={"accept": "*/*"})
    assert (reply.status, reply.code) == (400, code)
    assert queued(redis) == []


@pytest.mark.parametrize("body", ["not base64!", "ü", "dm9", "dm90ZT1"])
def test_bad_base64_is_refused(vote: HttpFunction, redis: Redis, body: str) -> None:
    reply = vote.invoke(event("post-json", body=body) | {"isBase64Encoded": True})
    assert (reply.status, reply.code) == (400, "bad_base64")
    assert queued(redis) == []


@pytest.mark.parametrize(("length", "status"), [(16384, 202), (16385, 413)])
def test_the_limit_is_of_the_decoded_body_and_comes_before_parsing(
    vote: HttpFunction, length: int, status: int
) -> None:
    body = b'{"vote": "a"}'.ljust(length)
    assert vote("post-json", body=body).status == status
    assert vote("post-json", body=body.decode()).status == status
    assert vote("post-json", body=b"x" * 16385, headers={"content-type": "image/png"}).code == "too_large"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"vote": "a"}'),
        ("APPLICATION/Json; Charset=UTF-8", b'{"vote": "a"}'),
        ('application/json;charset="utf-8"', b'{"vote": "a"}'),
        ("application/json; charset=utf-16", '{"vote": "a"}'.encode("utf-16")),
        ("application/json; charset=latin1", '{"vote": "a", "x": "ü"}'.encode("latin1")),
        ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", b"vote=a"),
    ],
)
def test_known_content_types_are_parsed(vote: HttpFunction, content_type: str, body: bytes) -> None:
    assert vote("post-json", headers={"content-type": content_type}, body=body).status == 202


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=klingon",
        "application/json; charset=hex",
        "application/json; charset=unicode_escape",
        "application/json; charset=unicode:escape",
        "application/json; charset=idna-",
        "application/json; charset=punycode-",
        "application/json; x*=1; x*0=2",
        f"application/json; charset*{'9' * 4400}=u",
        "application/json; charset=",
        "application/json; charset=a\0b",
        "application/json; charset*=utf-8''x",
        "nonsense",
        ";;;",
        "application/json, application/json",
    ],
)
def test_other_content_types_are_refused(vote: HttpFunction, redis: Redis, content_type: str | None) -> None:
    reply = vote("post-json", headers={"content-type": content_type})
    assert (reply.status, reply.code) == (415, "unsupported_media_type")
    assert "application/json" in reply.json["error"]["message"]
    assert queued(redis) == []


CROSS_SITE = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": f"https://{HOST}"},
    {"sec-fetch-site": "odd"},
    {"sec-fetch-site": None, "origin": "https://evil.example"},
    {"sec-fetch-site": None, "origin": "null"},
    {"sec-fetch-site": None, "origin": f"http://{HOST}"},
    {"sec-fetch-site": None, "origin": f"https://{HOST}.evil.example"},
    {"sec-fetch-site": None, "origin": f"https://{HOST}:8443"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_cross_site_posts_are_refused(vote: HttpFunction, redis: Redis, headers: dict[str, str | None]) -> None:
    assert vote("post-form", headers=headers).status == 403
    reply = vote("post-form", headers={**headers, "accept": "*/*"}, body=b"")
    assert (reply.status, reply.code) == (403, "cross_site")
    assert queued(redis) == []


OWN_SITE = [
    {},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": None},
    {"sec-fetch-site": None, "origin": f"HTTPS://{HOST.upper()}:443"},
    {"sec-fetch-site": None, "origin": None},
    {"sec-fetch-site": "cross-site", "origin": "https://vote.example.org"},
    {"sec-fetch-site": None, "origin": "https://vote.example.org"},
]


@pytest.mark.parametrize("headers", OWN_SITE)
def test_own_pages_allowed_origins_and_programs_vote(
    vote: HttpFunction, headers: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://vote.example.org")
    assert vote("post-form", headers=headers).status == 303


# ---------------------------------------------------------------- Who votes


def test_page_without_cookies_is_told_so_and_nothing_is_queued(vote: HttpFunction, redis: Redis) -> None:
    token = vote("get-vote-page").token
    reply = post_form(vote, {"vote": "a", "token": token})
    assert reply.status == 400
    assert "cookies" in reply.body
    assert "not recorded" in reply.body
    assert reply.headers["Content-Type"].startswith("text/html")
    assert vote("post-json", body=json.dumps({"vote": "a", "token": token})).code == "cookies_blocked"
    assert queued(redis) == []


def test_page_with_its_cookies_votes(vote: HttpFunction, redis: Redis) -> None:
    page = vote("get-vote-page")
    assert post_form(vote, {"token": page.token, "vote": "b"}, cookies=page.cookies).status == 303
    assert queued(redis) == [{"vote": "b", "voter_id": cookie(page, "voter_id")}]


BELIEVED_BY_NOBODY = ["", " ", "x", "a" * 9000, "ü€", "a" * 31, "A" * 32, LEGACY_ID, "../../etc", '"quoted"']


@pytest.mark.parametrize("voter_id", BELIEVED_BY_NOBODY, ids=lambda text: text[:12])
def test_a_cookie_that_we_did_not_sign_is_replaced(vote: HttpFunction, redis: Redis, voter_id: str) -> None:
    page = vote("get-vote-page")
    cookies = [f"voter_id={voter_id}", f"{OWN}={voter_id}.{cookie(page, OWN).partition('.')[2]}"]
    reply = post_form(vote, {"vote": "a", "token": page.token}, cookies=cookies)
    assert reply.status == 303
    assert cookie(reply, "voter_id") not in {voter_id, cookie(page, "voter_id")}
    assert queued(redis) == [{"vote": "a", "voter_id": cookie(reply, "voter_id")}]


@pytest.mark.parametrize("signature", ["", "x", "ü", "\ud800", "a" * 9000])
def test_nobody_votes_as_another(vote: HttpFunction, redis: Redis, signature: str) -> None:
    victim = cookie(vote("get-vote-page"), "voter_id")
    assert vote("post-json", cookies=[f"voter_id={victim}", f"voter_sig={signature}"]).status == 202
    assert vote("post-json", cookies=[f"voter_id={victim}", f"{OWN}={victim}.{signature}"]).status == 202
    assert vote("post-json", cookies=[f"voter_id={victim}"]).status == 202
    assert victim not in {message["voter_id"] for message in queued(redis)}


def test_of_two_ids_the_signed_one_counts(vote: HttpFunction, redis: Redis) -> None:
    mine, other = vote("get-vote-page"), vote("get-vote-page")
    stray = [f"voter_id={cookie(other, 'voter_id')}", "voter_id=", "voter_sig=stale", f"{OWN}=stale"]
    vote("post-json", cookies=[*stray, *mine.cookies])
    vote("post-json", cookies=[*mine.cookies, *stray])
    assert {message["voter_id"] for message in queued(redis)} == {cookie(mine, "voter_id")}


def test_a_rotated_key_still_verifies_and_is_signed_anew(
    vote: HttpFunction, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COOKIE_KEYS", "the-old-key-of-32-characters-xxx")
    old = vote("post-json").cookies
    vote.forget()
    monkeypatch.setenv("COOKIE_KEYS", "the-new-key-of-32-characters-xxx,the-old-key-of-32-characters-xxx")
    page = vote("get-vote-page", cookies=old)
    assert page.cookies[0] == old[0]
    assert page.cookies[1] != old[1]
    assert "Your vote for Cats was received." in page.body
    vote.forget()
    monkeypatch.setenv("COOKIE_KEYS", "the-new-key-of-32-characters-xxx")
    assert "Your vote for Cats was received." in vote("get-vote-page", cookies=page.cookies).body
    vote("post-json", cookies=page.cookies)
    vote("post-json", cookies=old)
    ids = [message["voter_id"] for message in queued(redis)]
    assert ids[1] == ids[2] != ids[0]


def test_an_old_apps_id_is_accepted_where_the_deployment_says_so(
    vote: HttpFunction, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEPT_LEGACY_IDS", "true")
    reply = vote("post-json", cookies=[f"voter_id={LEGACY_ID}"])
    assert queued(redis) == [{"vote": "a", "voter_id": LEGACY_ID}]
    vote.forget()
    monkeypatch.setenv("ACCEPT_LEGACY_IDS", "false")
    vote("post-json", cookies=reply.cookies)  # its signature ends with the switch
    assert [message["voter_id"] == LEGACY_ID for message in queued(redis)] == [False, True]  # the newest first


def test_a_choice_is_shown_to_the_voter_only_who_made_it(vote: HttpFunction) -> None:
    mine, other = vote("post-json"), vote("get-vote-page")
    mixed = [*other.cookies, f"__Host-vote_choice={cookie(mine, '__Host-vote_choice')}"]
    assert 'data-choice=""' in vote("get-vote-page", cookies=mixed).body
    forged = f"__Host-vote_choice=b.{cookie(mine, '__Host-vote_choice').partition('.')[2]}"
    assert 'data-choice=""' in vote("get-vote-page", cookies=[*mine.cookies[:2], forged]).body


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What the function has written: its log, whose handler keeps the stream of its first day, and its metrics."""
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    return lambda: log.getvalue() + capsys.readouterr().out


def test_logs_hold_no_id_cookie_or_secret(vote: HttpFunction, written: Callable[[], str]) -> None:
    reply = vote("post-json")
    vote("post-json", cookies=reply.cookies)
    vote("post-json", cookies=reply.cookies, body="{}")
    output = written()
    assert '"VotesQueued":[1.0]' in output
    assert "missing_vote" in output
    for pair in reply.cookies:
        assert pair.partition("=")[2] not in output
    assert "a-key-for-tests" not in output


def test_a_line_names_the_invocation_and_the_request_of_the_gateway(
    vote: HttpFunction, written: Callable[[], str]
) -> None:
    vote("post-json", body="{}")
    (line,) = (json.loads(line) for line in written().splitlines() if '"refused"' in line)
    context = Context()
    assert line["function_request_id"] == context.aws_request_id
    assert (line["function_name"], line["function_memory_size"]) == (context.function_name, context.memory_limit_in_mb)
    assert line["function_arn"] == context.invoked_function_arn
    assert line["api_request_id"] == "JKJaXmPLvHcESHA="
    assert line["cold_start"] in {True, False}


# ---------------------------------------------------------------- When things fail


def test_without_redis_nothing_is_recorded_and_the_voter_is_told(
    vote: HttpFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    started = time.monotonic()
    reply = vote("post-json")
    assert time.monotonic() - started < 2.5
    assert (reply.status, reply.code) == (503, "not_recorded")
    assert int(reply.headers["Retry-After"]) > 0
    assert "not recorded" in reply.json["error"]["message"]
    assert reply.set_cookies == []
    page = vote("post-form")
    assert page.status == 503
    assert page.headers["Retry-After"]
    assert "not recorded" in page.body
    assert "JKJaXmPLvHcESHA=" in page.body
    assert vote("get-vote-page").status == 200


def test_a_key_of_the_wrong_type_is_left_alone(vote: HttpFunction, redis: Redis) -> None:
    redis.set("votes", "precious")
    assert vote("post-json").status == 503
    assert redis.get("votes") == b"precious"


def test_an_unexpected_failure_shows_no_stack(
    vote: HttpFunction, monkeypatch: pytest.MonkeyPatch, written: Callable[[], str]
) -> None:
    monkeypatch.delenv("COOKIE_KEYS")
    page, answer = vote("get-vote-page"), vote("post-json")
    assert (page.status, answer.status, answer.code) == (500, 500, "internal_error")
    assert "JKJaXmPLvHcESHA=" in page.body
    for body in (page.body, answer.body):
        assert "Traceback" not in body
        assert "COOKIE_KEYS" not in body
    output = written()
    assert "COOKIE_KEYS is not set" in output
    assert '"RequestsFailed":[1.0]' in output


# ---------------------------------------------------------------- The route $default


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/", "GET, HEAD, POST, OPTIONS"),
        ("PUT", "/api/votes", "POST, OPTIONS"),
        ("GET", "/api/votes", "POST, OPTIONS"),
        ("HEAD", "/api/votes/", "POST, OPTIONS"),
        ("POST", "/results/", "GET, HEAD, OPTIONS"),
        ("POST", "/api/results", "GET, HEAD, OPTIONS"),
        ("PATCH", "/health", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(vote: HttpFunction, method: str, path: str, allow: str) -> None:
    reply = vote("get-unknown", method=method, path=path)
    assert (reply.status, reply.headers["Allow"]) == (405, allow)
    options = vote("options", path=path)
    assert (options.status, options.headers["Allow"], options.body) == (204, allow, "")


@pytest.mark.parametrize("path", ["/favicon.ico", "/api", "/api/votes/1", "/RESULTS", "/%2e%2e", "/api/votes;x", "/ü"])
def test_an_unknown_path_is_not_found(vote: HttpFunction, path: str) -> None:
    reply = vote("get-unknown", path=path)
    assert (reply.status, reply.code) == (404, "not_found")
    page = vote("get-vote-page", path=path)
    assert (page.status, page.headers["Content-Type"][:9]) == (
        404,
        "applicati" if path.startswith("/api/") else "text/html",
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "canonical"), [("/results/", "/results"), ("//api/results", "/api/results"), ("/health//", "/health")]
)
def test_slashes_too_many_lead_to_the_page(vote: HttpFunction, method: str, path: str, canonical: str) -> None:
    reply = vote("get-unknown", method=method, path=path)
    assert (reply.status, reply.headers["Location"]) == (308, canonical)
    assert vote("get-unknown", method=method, path="//").status == 200
