from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from local.sigv4 import BadSignature, Credentials, SignedRequest, verify

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
OURS = Credentials(KEY, SECRET)
HOST = "127.0.0.1:3001"


def signed(
    path: str,
    *,
    body: bytes = b'{"type": "results"}',
    method: str = "POST",
    credentials: BotoCredentials | None = None,
    service: str = "execute-api",
    headers: dict[str, str] | None = None,
) -> SignedRequest:
    """Sign with botocore, and return what a server would see."""
    request = AWSRequest(method, f"http://{HOST}{path}", data=body, headers=headers or {})
    SigV4Auth(credentials or BotoCredentials(KEY, SECRET), service, "eu-central-1").add_auth(request)
    return seen(request)


def seen(request: Any) -> SignedRequest:
    parts = urlsplit(request.url)
    received = {name.lower(): [value] for name, value in request.headers.items()} | {"host": [HOST]}
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return SignedRequest(request.method, target, received, request.data)


def replace(request: SignedRequest, **changed: Any) -> SignedRequest:
    parts = {name: getattr(request, name) for name in request.__slots__}
    return SignedRequest(**{**parts, **changed})


@pytest.mark.parametrize(
    "path",
    [
        "/live/@connections/L0SM9cOFvHcCIhw%3D",
        "/live/@connections/L0SM9cOFvHcCIhw=",
        "/live/%40connections/abc%2Fdef%3D",
        "/live/@connections/%E2%98%83%20%25",
        "/live/@connections/~a-b_c.d!*'()",
        "/live/@connections/a//b/../c",
        "/live/./@connections/a/",
        "/live/@connections/..",
        "/live/@connections/a?b=2&a=1&a=0&c",
        "/live/@connections/a?x=%2F%20",
        "/",
        "//",
    ],
)
def test_signature_of_botocore_is_accepted_for_any_path(path: str) -> None:
    verify(signed(path), OURS)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_request_without_a_body_is_accepted(method: str) -> None:
    verify(signed("/live/@connections/a", method=method, body=b""), OURS)


def test_session_token_is_covered_and_must_be_ours() -> None:
    request = signed("/live/@connections/a", credentials=BotoCredentials(KEY, SECRET, "token=="))
    verify(request, Credentials(KEY, SECRET, "token=="))
    for other in (OURS, Credentials(KEY, SECRET, "another")):
        with pytest.raises(BadSignature):
            verify(request, other)
    with pytest.raises(BadSignature):
        verify(signed("/live/@connections/a"), Credentials(KEY, SECRET, "token=="))


def test_spaces_in_a_signed_header_are_collapsed() -> None:
    request = signed("/live/@connections/a", headers={"X-Note": "  a   b  "})
    verify(request, OURS)


@pytest.mark.parametrize(
    "changed",
    [
        {"body": b"forged"},
        {"method": "DELETE"},
        {"target": "/live/@connections/b"},
        {"target": "/live/@connections/a?b=c"},
    ],
)
def test_change_after_signing_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BadSignature):
        verify(replace(signed("/live/@connections/a"), **changed), OURS)


@pytest.mark.parametrize("name", ["host", "x-amz-date"])
def test_header_changed_or_missing_after_signing_is_refused(name: str) -> None:
    request = signed("/live/@connections/a")
    without = {key: value for key, value in request.headers.items() if key != name}
    for headers in (without, {**request.headers, name: ["20200101T000000Z"]}):
        with pytest.raises(BadSignature):
            verify(replace(request, headers=headers), OURS)


def test_header_of_amazon_that_is_not_signed_is_refused() -> None:
    request = signed("/live/@connections/a")
    with pytest.raises(BadSignature, match="x-amz-target"):
        verify(replace(request, headers={**request.headers, "x-amz-target": ["forged"]}), OURS)


@pytest.mark.parametrize("authorization", [[], [""], ["Bearer abc"], ["AWS4-HMAC-SHA256 Credential=a"]])
def test_missing_or_foreign_authorization_is_refused(authorization: list[str]) -> None:
    request = signed("/live/@connections/a")
    headers = {name: value for name, value in request.headers.items() if name != "authorization"}
    if authorization:
        headers["authorization"] = authorization
    with pytest.raises(BadSignature, match="Missing Authentication Token"):
        verify(replace(request, headers=headers), OURS)


def test_unknown_key_wrong_secret_and_other_service_are_refused() -> None:
    for request in (
        signed("/live/@connections/a", credentials=BotoCredentials("AKIDOTHER", SECRET)),
        signed("/live/@connections/a", credentials=BotoCredentials(KEY, "guess")),
        signed("/live/@connections/a", service="lambda"),
    ):
        with pytest.raises(BadSignature):
            verify(request, OURS)


@pytest.mark.parametrize(("offset_s", "accepted"), [(-301, False), (-295, True), (295, True), (301, False)])
def test_date_may_be_off_by_five_minutes(offset_s: int, accepted: bool) -> None:
    request = signed("/live/@connections/a")
    signed_s = datetime.strptime(request.headers["x-amz-date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    if accepted:
        verify(request, OURS, now_s=signed_s + offset_s)
    else:
        with pytest.raises(BadSignature):
            verify(request, OURS, now_s=signed_s + offset_s)


def test_claimed_hash_of_another_body_is_refused() -> None:
    request = signed("/live/@connections/a", headers={"X-Amz-Content-SHA256": "0" * 64})
    with pytest.raises(BadSignature):
        verify(request, OURS)


def test_unsigned_payload_is_refused() -> None:
    request = AWSRequest("POST", f"https://{HOST}/live/@connections/a", data=b"any")
    request.context["payload_signing_enabled"] = False
    SigV4Auth(BotoCredentials(KEY, SECRET), "execute-api", "eu-central-1").add_auth(request)
    with pytest.raises(BadSignature):
        verify(seen(request), OURS)


def test_secrets_do_not_show() -> None:
    assert SECRET not in repr(OURS)
