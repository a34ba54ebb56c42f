"""Who votes: an id that the browser keeps, the signature that proves we issued it, and what was chosen last."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from voting.refusal import Refusal
from voting.request import Request

ID, SIGNATURE, CHOICE = "voter_id", "voter_sig", "vote_choice"
# Labels inside the signed message: a signature made for one purpose is worth nothing for another.
FOR_ID, FOR_CHOICE, FOR_FORM = "voter-id", "vote-choice", "form-token"

ISSUED = re.compile(r"[0-9a-f]{32}")
LEGACY = re.compile(r"[0-9a-fA-F]{12,16}")  # as the container voting app made them
MOST_COPIES = 8  # of one cookie; more are somebody's play and would only cost time


class Keys:
    """The operator's signing keys: the first signs, all verify. HMAC-SHA256, see RFC 2104."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys

    def sign(self, purpose: str, value: str) -> str:
        """The signature of *value* for *purpose*, safe in a cookie, a URL and a form."""
        return _signature(self._keys[0], purpose, value)

    def verify(self, purpose: str, value: str, signature: str) -> bool:
        """Whether any of the keys made *signature*; never raises, whatever the client sent."""
        return any(_equal(_signature(key, purpose, value), signature) for key in self._keys)


def _signature(key: bytes, purpose: str, value: str) -> str:
    # Purposes hold no NUL, so no two pairs of purpose and value make one message.
    digest = hmac.digest(key, f"{purpose}\0{value}".encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _equal(ours: str, theirs: str) -> bool:
    # compare_digest takes text of ASCII only.
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Voter:
    """One browser."""

    id: str
    signature: str  # of the id, by the key that signs now
    is_settled: bool  # whether the browser has that signature already


class Register:
    """Issues voters' ids and recognizes them again."""

    def __init__(self, keys: tuple[bytes, ...], choices: Collection[str], *, accept_legacy: bool) -> None:
        self._keys = Keys(keys)
        self._choices = choices
        self._accept_legacy = accept_legacy

    def recognize(self, request: Request) -> Voter:
        """The voter whose cookies the request carries, or a new one where none of them can be believed."""
        ids = [value for value in request.cookie_values(ID)[:MOST_COPIES] if _is_id(value)]
        signatures = request.cookie_values(SIGNATURE)[:MOST_COPIES]
        for voter_id in ids:
            newest = self._keys.sign(FOR_ID, voter_id)
            for signature in signatures:
                if _equal(newest, signature):
                    return Voter(voter_id, newest, is_settled=True)
                if self._keys.verify(FOR_ID, voter_id, signature):
                    return Voter(voter_id, newest, is_settled=False)
        legacy = filter(LEGACY.fullmatch, ids) if self._accept_legacy else iter(())
        voter_id = next(legacy, None) or secrets.token_hex(16)
        return Voter(voter_id, self._keys.sign(FOR_ID, voter_id), is_settled=False)

    def admit(self, request: Request, token: str | None) -> Voter:
        """The voter of a POST, who may be new: a program need not fetch the page first.

        Raises:
            Refusal: 400 cookies_blocked, where our page made the form (its *token* says so) and set a cookie, and
                none came back.
        """
        if token is not None and not request.cookie_values(ID) and self._made_here(token):
            raise Refusal(
                400,
                "cookies_blocked",
                "Your vote was not recorded: your browser does not keep this site's cookies, and without them it could "
                "vote any number of times. Allow cookies for this site, load the voting page again and vote.",
            )
        return self.recognize(request)

    def choice(self, request: Request, voter: Voter) -> str | None:
        """What *voter* was last told that we received: for display only, never for counting."""
        for value in request.cookie_values(CHOICE)[:MOST_COPIES]:
            choice, _, signature = value.partition(".")
            if choice in self._choices and self._keys.verify(FOR_CHOICE, f"{voter.id} {choice}", signature):
                return choice
        return None

    def cookies(self, voter: Voter, choice: str | None) -> dict[str, str]:
        """The cookies that let *voter* be recognized again, with *choice* where there is one."""
        cookies = {ID: voter.id, SIGNATURE: voter.signature}
        if choice is not None:
            cookies[CHOICE] = f"{choice}.{self._keys.sign(FOR_CHOICE, f'{voter.id} {choice}')}"
        return cookies

    def token(self) -> str:
        """What the page's form carries, so that a POST of the form can be told from a program's."""
        nonce = secrets.token_urlsafe(9)
        return f"{nonce}.{self._keys.sign(FOR_FORM, nonce)}"

    def _made_here(self, token: str) -> bool:
        nonce, _, signature = token.partition(".")
        return self._keys.verify(FOR_FORM, nonce, signature)


def _is_id(value: str) -> bool:
    return bool(ISSUED.fullmatch(value) or LEGACY.fullmatch(value))
