"""AWS Signature Version 4 for many requests that differ only in the last segment of their path.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"

# The form of API Gateway's connection ids. Replacing the one character to encode takes a fifth of the time of quote().
_base64 = re.compile(r"[A-Za-z0-9_-]+=*").fullmatch


@dataclass(frozen=True, slots=True)
class Credentials:
    """The key pair to sign with; in Lambda, that of the function's role, from the environment."""

    access_key: str
    secret_key: str
    token: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Credentials":
        return cls(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN") or None)

    def current(self) -> "Credentials":
        """Return these: they stay valid for as long as the environment lives."""
        return self


class SignedRequests:
    """Requests with the same method, host, folder and body; only the last segment of the path differs.

    They are dated at the creation of this object, and stay valid for five minutes.
    """

    def __init__(
        self,
        credentials: Credentials,
        region: str,
        service: str,
        *,
        host: str,
        folder: str,
        body: bytes,
        method: str = "POST",
    ) -> None:
        """*folder* is percent-encoded as on the wire, with a leading slash and no trailing one, such as `/live/x`."""
        amz_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{amz_date[:8]}/{region}/{service}/aws4_request"
        headers = {"host": host, "x-amz-date": amz_date}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        signed = ";".join(headers)
        canonical_headers = "".join(f"{name}:{value}\n" for name, value in headers.items())

        # Every service except S3 expects the path to be encoded once more for the signature than on the wire.
        self._canonical_begin = f"{method}\n{quote(folder, safe='/~')}/"
        self._canonical_end = f"\n\n{canonical_headers}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
        self._to_sign = f"{ALGORITHM}\n{amz_date}\n{scope}\n"
        key = f"AWS4{credentials.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = hmac.new(key, digestmod="sha256")

        self._begin = f"{method} {folder}/"
        self._middle = (
            " HTTP/1.1\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            + f"content-length: {len(body)}\r\n"
            f"authorization: {ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature="
        )
        self._end = b"\r\n\r\n" + body

    def to(self, segment: str) -> bytes:
        """Return the request to *segment* of the folder; it may be any text that UTF-8 can encode."""
        if _base64(segment):
            sent, signed = segment.replace("=", "%3D"), segment.replace("=", "%253D")
        else:
            sent = _encode(segment)
            signed = sent.replace("%", "%25")
        canonical = f"{self._canonical_begin}{signed}{self._canonical_end}"
        key = self._key.copy()
        key.update(f"{self._to_sign}{hashlib.sha256(canonical.encode()).hexdigest()}".encode())
        return f"{self._begin}{sent}{self._middle}{key.hexdigest()}".encode() + self._end


def _encode(segment: str) -> str:
    if segment in {".", ".."}:  # unencoded, they would name other folders
        return segment.replace(".", "%2E")
    return quote(segment, safe="")
