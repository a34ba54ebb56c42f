"""Signature Version 4: is a request signed with the credentials that we know?

Source: "Create a signed AWS API request" in the IAM user guide. No service here is S3, so the path is encoded once more
for signing, and dot segments and doubled slashes are removed from it.
"""

import hashlib
import hmac
import re
import time
from calendar import timegm
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from posixpath import normpath
from typing import Self
from urllib.parse import quote

from local.headers import Headers, by_name

EXECUTE_API, LAMBDA = "execute-api", "lambda"  # services, as a signature's scope names them
ALGORITHM = "AWS4-HMAC-SHA256"
CLOCK_SKEW_S = 300.0
AUTHORIZATION = re.compile(
    ALGORITHM
    + r"\s+Credential=(?P<key>[^/,\s]+)/(?P<day>\d{8})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)/aws4_request"
    r"\s*,\s*SignedHeaders=(?P<headers>[^,\s]+)\s*,\s*Signature=(?P<signature>[0-9a-f]{64})\s*\Z"
)
_ENCODED = re.compile(r"[/%A-Za-z0-9._~-]+")


class BadSignature(Exception):
    """The request is not signed, or not by a holder of the credentials; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key and its secret; for temporary ones also the session token that must come with them."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature covers."""

    method: str
    target: str  # the path and the query as they were sent
    headers: Headers
    body: bytes

    @classmethod
    def of(cls, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes) -> Self:
        """Return a request from its *headers* in their order."""
        return cls(method, target, by_name(headers), body)


def verify(
    request: SignedRequest, *keyring: Credentials, service: str = EXECUTE_API, now_s: float | None = None
) -> None:
    """Return if *request* is signed with credentials of *keyring*, within five minutes of *now_s* since the epoch.

    Raises:
        BadSignature: in every other case.
    """
    match = AUTHORIZATION.match(request.headers.get("authorization", [""])[0])
    if not match:
        raise BadSignature("Missing Authentication Token")
    key, day, region, scoped_to, names, signature = match.groups()
    token = request.headers.get("x-amz-security-token", [None])[0]
    credentials = next((held for held in keyring if held.access_key == key), None)
    if credentials is None or token != credentials.session_token:
        raise BadSignature("The security token included in the request is invalid.")
    if scoped_to != service:
        raise BadSignature(f"Credential should be scoped to correct service: '{service}'.")
    signed = names.split(";")
    _require_signed(request, signed)
    stamp = request.headers["x-amz-date"][0]
    _require_fresh(stamp, day, time.time() if now_s is None else now_s)
    expected = _signature(request, names, credentials.secret_key, f"{day}/{region}/{service}")
    if not hmac.compare_digest(expected, signature):
        raise BadSignature("The request signature we calculated does not match the signature you provided.")


def _signature(request: SignedRequest, names: str, secret: str, scope: str) -> str:
    """Return the signature of *request* in *scope*: day, region and service."""
    digest = hashlib.sha256(_canonical(request, names).encode("utf-8", "surrogateescape")).hexdigest()
    text = f"{ALGORITHM}\n{request.headers['x-amz-date'][0]}\n{scope}/aws4_request\n{digest}"
    return hmac.digest(_key(secret, scope), text.encode(), "sha256").hex()


def _require_signed(request: SignedRequest, signed: Sequence[str]) -> None:
    """Refuse a signature that leaves out the host, the date, or another header of AWS's."""
    for name in ("host", "x-amz-date"):
        if name not in signed:
            raise BadSignature(f"'{name}' must be a signed header.")
    for name in request.headers:
        if name.startswith("x-amz-") and name not in signed:
            raise BadSignature(f"'{name}' must be a signed header.")
    for name in signed:
        if name not in request.headers:
            raise BadSignature(f"The signed header '{name}' is missing.")


def _require_fresh(stamp: str, day: str, now_s: float) -> None:
    if stamp[:8] != day:
        raise BadSignature("Date in Credential scope does not match the date of the request.")
    try:
        signed_s = _seconds(stamp)
    except ValueError as error:
        raise BadSignature("Date must be in ISO-8601 'basic format'.") from error
    if abs(now_s - signed_s) > CLOCK_SKEW_S:
        raise BadSignature("Signature expired or not yet current.")


@lru_cache(maxsize=8)  # thousands of posts carry the same second
def _seconds(stamp: str) -> int:
    return timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))


@lru_cache(maxsize=8)
def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical(request: SignedRequest, names: str) -> str:
    path, _, query = request.target.partition("?")
    headers = "".join(f"{name}:{_value(request.headers[name])}\n" for name in names.split(";"))
    payload = hashlib.sha256(request.body).hexdigest()
    claimed = request.headers.get("x-amz-content-sha256")
    if claimed and claimed[0] != payload:
        raise BadSignature("The provided 'x-amz-content-sha256' header does not match what was computed.")
    return f"{request.method}\n{_path(path)}\n{_query(query)}\n{headers}\n{names}\n{payload}"


def _value(values: Sequence[str]) -> str:
    return ",".join(" ".join(value.split()) for value in values)


def _path(path: str) -> str:
    """Encode the path as it was sent once more, dots and doubled slashes resolved, a trailing slash kept."""
    if "//" in path or "/." in path:
        trailing = "/" if path.endswith("/") else ""
        # normpath keeps two leading slashes, which POSIX gives a meaning of their own.
        path = "/" + normpath(path).strip("/")
        path += trailing if path != "/" else ""
    if _ENCODED.fullmatch(path):  # of all that posters send, only their own percent signs are to be encoded
        return path.replace("%", "%25")
    return quote(path, safe="/~", encoding="utf-8", errors="surrogateescape") or "/"


def _query(query: str) -> str:
    if not query:
        return ""
    pairs = (part.partition("=") for part in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))
