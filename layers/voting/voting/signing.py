"""Signatures of requests to AWS, Signature Version 4, for many requests that differ in their path only.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
KEPT_S = 60  # a signature is good for five minutes, so a minute's worth of requests can share a date


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs; inside Lambda the function's role, in the environment."""

    access_key: str
    secret_key: str
    token: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Credentials":
        return cls(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN") or None)


class Signer:
    """Signs requests of one method, host and body, whose derived key and unchanging parts are reckoned once."""

    def __init__(self, credentials: Credentials, region: str, service: str, *, method: str, host: str) -> None:
        self._credentials = credentials
        self._region = region
        self._service = service
        self._method = method
        self._host = host
        self._made_at = float("-inf")

    def headers(self, path: str, body_sha256: str) -> str:
        """The header lines that authenticate a request for *path*, each ended by CRLF.

        *path* is as it goes over the wire, percent-encoded; *body_sha256* is in hex.
        """
        if time.monotonic() - self._made_at > KEPT_S:
            self._prepare()
        # Every service but S3 signs the path encoded once more than it is sent.
        request = f"{self._method}\n{quote(path, safe='/~')}\n\n{self._canonical_headers}\n{body_sha256}"
        to_sign = self._to_sign + hashlib.sha256(request.encode()).hexdigest()
        key = self._key.copy()
        key.update(to_sign.encode())
        return f"{self._lines}{key.hexdigest()}\r\n"

    def _prepare(self) -> None:
        amz_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{amz_date[:8]}/{self._region}/{self._service}/aws4_request"
        headers = {"host": self._host, "x-amz-date": amz_date}
        if self._credentials.token:
            headers["x-amz-security-token"] = self._credentials.token
        signed = ";".join(headers)
        key = f"AWS4{self._credentials.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = hmac.new(key, digestmod="sha256")
        self._canonical_headers = "".join(f"{name}:{value}\n" for name, value in headers.items()) + f"\n{signed}"
        self._to_sign = f"{ALGORITHM}\n{amz_date}\n{scope}\n"
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name != "host") + (
            f"authorization: {ALGORITHM} Credential={self._credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature="
        )
        self._made_at = time.monotonic()
