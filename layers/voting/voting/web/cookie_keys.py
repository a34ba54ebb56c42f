"""The operator's signing keys, and the purposes of signatures."""

import base64
import hashlib
import hmac
from collections.abc import Iterator

# Part of the signed message, so a signature made for one purpose is not valid for another.
FOR_VOTER, FOR_OLD_APPS_VOTER = "voter", "old-apps-voter"  # ids, in a cookie that no other host can set
FOR_ID, FOR_OLD_APPS_ID = "voter-id", "old-apps-voter-id"  # ids, in a cookie that any host of the domain can set
FOR_CHOICE, FOR_FORM = "vote-choice", "form-token"

LENGTH = 43  # of a signature: 32 bytes in base64 without padding


class Keys:
    """The operator's signing keys: the first signs, all verify. HMAC-SHA256, see RFC 2104."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys

    def sign(self, purpose: str, value: str) -> str:
        """The signature of *value* for *purpose*, safe in a cookie, a URL and a form."""
        return _signature(self._keys[0], purpose, value)

    def signatures(self, purpose: str, value: str) -> Iterator[str]:
        """The signatures of *value* for *purpose* by every key, the newest first."""
        return (_signature(key, purpose, value) for key in self._keys)

    def verify(self, purpose: str, value: str, signature: str) -> bool:
        """Whether any of the keys made *signature*. It never raises, whatever the client sent."""
        return self.renew(purpose, value, signature) is not None

    def renew(self, purpose: str, value: str, signature: str) -> str | None:
        """The signature by the current key if any of the keys made *signature*; else None."""
        if len(signature) != LENGTH:  # before any HMAC, since many short cookies fit into one request
            return None
        newest = self.sign(purpose, value)
        if _equal(newest, signature) or any(
            _equal(_signature(key, purpose, value), signature) for key in self._keys[1:]
        ):
            return newest
        return None


def _signature(key: bytes, purpose: str, value: str) -> str:
    # Purposes contain no NUL, so each pair of purpose and value makes a message of its own.
    digest = hmac.digest(key, f"{purpose}\0{value}".encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _equal(ours: str, theirs: str) -> bool:
    # compare_digest accepts only ASCII text.
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogatepass"))
