"""Any bytes in a body, a cookie or a header, and any WebSocket frame, get an answer that the documentation lists."""

import base64
import inspect
import itertools
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis

from tests.conftest import Handler, event
from tests.management_api import ManagementApi
from tests.property.messages import ANY_TEXT, JSON

# docs/reference/http.md, as far as it can be had while both stores are up.
DOCUMENTED: dict[int, set[str]] = {
    400: {
        *("bad_base64", "empty_body", "invalid_text", "invalid_json", "not_an_object", "invalid_form"),
        *("duplicate_key", "missing_vote", "wrong_type", "unknown_choice", "cookies_blocked"),
    },
    403: {"cross_site"},
    404: {"not_found"},
    405: {"method_not_allowed"},
    413: {"too_large"},
    415: {"unsupported_media_type"},
}
WELL = {200, 202, 204, 303, 308}
FRAMES = {"invalid_json", "missing_action", "unknown_action", "binary_frame"}

FIELDS = st.dictionaries(st.sampled_from(["vote", "token", "Vote", "vote "]) | st.text(max_size=5), ANY_TEXT | JSON)
BODIES = st.one_of(
    st.binary(max_size=100),
    st.binary(min_size=16_380, max_size=16_390),
    FIELDS.map(lambda fields: json.dumps(fields).encode()),
    st.lists(st.tuples(st.sampled_from(["vote", "token", "x"]), st.text())).map(
        lambda pairs: "&".join(f"{name}={quote_plus(value)}" for name, value in pairs).encode()
    ),
    st.sampled_from([b'{"vote": "a"}', b"vote=b", '{"vote": "a"}'.encode("utf-16"), b"[" * 9000, b"&" * 9000]),
)
CHARSETS = st.sampled_from(
    [
        "utf-8",
        "utf-7",
        "utf-16",
        "utf-32",
        "latin1",
        "cp037",
        "mbcs",
        "oem",
        "idna",
        "punycode",
        "rot13",
        "hex",
        "zip",
        "bz2",
        "base64",
        "uu",
        "quopri",
        "undefined",
        "unicode_escape",
        "raw-unicode-escape",
        "unicode-internal",
    ]
)
KINDS = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "APPLICATION/Json"])
CONTENT_TYPES = st.one_of(
    KINDS,
    st.builds("{}; charset={}".format, KINDS, CHARSETS | st.text()),
    st.builds("{};{}".format, KINDS, ANY_TEXT),
    ANY_TEXT,
)
OWN = "__Host-voter_sig"
SURROGATES = 43 * "\ud800"  # as long as a signature
NAMES = st.sampled_from(["voter_id", "voter_sig", "vote_choice", OWN, "__Host-vote_choice", "__Host-vote_delayed"])
VALUES = st.one_of(
    ANY_TEXT,
    st.text("0123456789abcdefABCDEF", max_size=40),
    st.sampled_from(["a.", "b.x", ".", "a" * 5000, "٣" * 32, "\x00" * 32, f"{'a' * 32}.{'A' * 43}", f"a.{'ü' * 43}"]),
)
COOKIES = st.lists(st.builds("{}={}".format, NAMES | st.text(max_size=3), VALUES) | ANY_TEXT, max_size=12)
HEADERS = st.dictionaries(
    st.sampled_from(["origin", "host", "accept", "sec-fetch-site", "x-forwarded-proto", "x-forwarded-for", "cookie"])
    | st.text(min_size=1),
    ANY_TEXT,
    max_size=4,
)


def assert_documented(answer: dict[str, Any]) -> None:
    """The *answer* is one of those listed; an error tells its code, to a program or on a page."""
    json.dumps(answer, ensure_ascii=False).encode()  # what the runtime client sends must be text
    status, body = answer["statusCode"], answer["body"]
    assert "Traceback" not in body
    if status in WELL:
        return
    assert status in DOCUMENTED
    if answer["headers"]["Content-Type"] == "application/json":
        assert json.loads(body)["error"]["code"] in DOCUMENTED[status]
    else:
        assert f">{status}</p>" in body


@pytest.fixture
def vote(handler, redis: Redis) -> Iterator[Handler]:
    handle = handler("vote")
    yield handle
    inspect.unwrap(handle).__globals__["clients"]().close()


def test_any_body_content_type_and_cookie_get_a_documented_answer(vote: Handler, context, redis: Redis) -> None:
    @given(st.sampled_from(["http-post-json", "http-post-form"]), BODIES, CONTENT_TYPES, COOKIES, st.booleans())
    @example("http-post-json", b'{"vote": "a"}', "application/json; charset=utf-8", ["voter_id=\ud800"], True)
    @example("http-post-json", b'{"vote": "a"}', "application/json", [f"{OWN}={'a' * 32}.{SURROGATES}"], True)
    @example("http-post-json", b'{"vote": "a"}', "application/json; charset*0*=x", [], True)
    @example("http-post-json", b'{"vote": "a"}', "application/json; x*=1; x*0=2", [], True)
    @example("http-post-json", b'{"vote": "a"}', f"application/json; charset*{'9' * 4400}=u", [], True)
    @example("http-post-form", b"vote=a", "application/x-www-form-urlencoded\r\n; charset=utf-8", [], True)
    def check(name: str, body: bytes, content_type: str, cookies: list[str], page: bool) -> None:
        before = redis.llen("votes")
        post = event(name, body=base64.b64encode(body).decode(), isBase64Encoded=True, cookies=cookies)
        post["headers"] |= {"content-type": content_type, "accept": "text/html" if page else "*/*"}
        answer = vote(post, context)
        assert_documented(answer)
        assert redis.llen("votes") - before == (answer["statusCode"] in {202, 303})

    check()


def test_any_text_as_a_body_of_text_or_of_base64_gets_a_documented_answer(vote: Handler, context) -> None:
    @given(ANY_TEXT, st.booleans())
    def check(body: str, is_base64: bool) -> None:
        assert_documented(vote(event("http-post-json", body=body, isBase64Encoded=is_base64), context))

    check()


def test_any_headers_method_and_path_get_a_documented_answer(vote: Handler, context) -> None:
    @given(
        st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "TRACE", "PRI"]) | st.text(max_size=9),
        st.sampled_from(["/", "//", "/api/votes", "/results", "/health", "/api/results/"]) | ANY_TEXT.map("/".__add__),
        HEADERS,
    )
    def check(method: str, path: str, headers: dict[str, str]) -> None:
        asked = event("http-post-json", rawPath=path)
        asked["headers"] |= headers
        asked["requestContext"]["http"] |= {"method": method, "path": path}
        answer = vote(asked, context)
        if method.upper() == "HEAD":
            assert (answer["statusCode"] in WELL | DOCUMENTED.keys(), answer["body"]) == (True, "")
        else:
            assert_documented(answer)

    check()


@pytest.fixture
def ws_connect(
    api: ManagementApi, websocket_handler, monkeypatch: pytest.MonkeyPatch, redis: Redis, database
) -> Handler:
    handle = websocket_handler("ws_connect")
    monkeypatch.setenv("WEBSOCKET_URL", f"ws://127.0.0.1:{api.port}/live")
    return handle


def test_any_frame_gets_a_typed_answer_and_the_socket_stays_open(
    ws_connect: Handler, api: ManagementApi, context, redis: Redis, database: psycopg.Connection
) -> None:
    actions = st.sampled_from(["subscribe", "ping", "Ping", "$default", ""]) | ANY_TEXT
    bodies = st.one_of(
        ANY_TEXT,
        JSON.map(json.dumps),
        st.builds(
            lambda action, extra: json.dumps({**extra, "action": action}), actions, st.dictionaries(ANY_TEXT, JSON)
        ),
        st.binary(max_size=50).map(lambda data: base64.b64encode(data).decode()),
    )

    numbers = itertools.count()

    @given(bodies, st.booleans())
    @example("[" * 30_000, False)
    @example('{"action": ' + "9" * 5000 + "}", False)
    def check(body: str, is_base64: bool) -> None:
        frame = event("websocket-subscribe", body=body, isBase64Encoded=is_base64)
        connection_id = frame["requestContext"]["connectionId"] = f"c{next(numbers)}="  # so many of one are a flood
        assert ws_connect(frame, context) == {"statusCode": 200}
        answer, *more = map(json.loads, api.frames.pop(connection_id))
        assert answer["type"] in {"results", "pong"} or answer["code"] in FRAMES
        assert [frame["type"] for frame in more] == ["results"] * (answer["type"] == "pong")

    check()


def test_any_origin_is_let_in_or_refused(ws_connect: Handler, context) -> None:
    origins = st.sampled_from(["null", "http://[::1", "http://[", "http://127.0.0.1:port", "https://", "//x:1"])

    @given(origins | ANY_TEXT | st.builds("http://{}:3000".format, st.text()))
    def check(origin: str) -> None:
        connect = event("websocket-connect")
        connect["headers"]["Origin"] = origin
        assert ws_connect(connect, context)["statusCode"] in {200, 403}

    check()
