"""The cookies of a voter: an id, the signature that proves that we issued it, and the last choice.

Over HTTPS the cookie `__Host-voter_sig` contains both the id and the signature, and no other cookie counts: only this
host can set it. `voter_id` repeats the id for the container app. Over plain HTTP, where browsers refuse that name,
`voter_sig` contains the signature of the id in `voter_id`. docs/decisions/0023-host-cookies.md says why.
"""

import base64
import os
import re
from collections.abc import Collection
from typing import NamedTuple

from voting.web.cookie_keys import FOR_CHOICE, FOR_FORM, FOR_ID, FOR_OLD_APPS_ID, FOR_OLD_APPS_VOTER, FOR_VOTER, Keys
from voting.web.errors import HttpError
from voting.web.request import Request

ID, SIGNATURE, CHOICE = "voter_id", "voter_sig", "vote_choice"

ISSUED_DIGITS = 32
ISSUED = re.compile(rf"[0-9a-f]{{{ISSUED_DIGITS}}}")
OLD_APPS = re.compile(r"[0-9a-fA-F]{12,16}")  # as the container voting app made them


class Voter(NamedTuple):
    """One browser."""

    id: str
    proof: str  # the value of the signature cookie, made with the current key
    is_settled: bool  # whether the browser already has all cookies in their current form


class VoterCookies:
    """Issues voter ids and recognizes voters by their cookies."""

    def __init__(
        self, keys: tuple[bytes, ...], choices: Collection[str], *, accept_legacy: bool, accept_old_cookies: bool
    ) -> None:
        """*accept_legacy* accepts ids of the container app, unsigned and signed.

        *accept_old_cookies* also accepts over HTTPS the cookies that earlier versions set.
        """
        self._keys = Keys(keys)
        self._choices = choices
        self._accept_legacy = accept_legacy
        self._accept_old_cookies = accept_old_cookies

    def recognize(self, request: Request) -> Voter:
        """The voter of the request's cookies; a new voter if none of the cookies is valid.

        Valid cookies are found among any number of others. The size of a request limits the work.
        """
        known = self._by_own_cookie(request) if request.is_https else self._by_pair(request)
        if known is None and request.is_https and self._accept_old_cookies:
            known = self._by_pair(request)
        return known or self._by_old_apps_id(request) or self._voter(request, _drawn(ISSUED_DIGITS // 2).hex())

    def admit(self, request: Request, token: str | None) -> Voter:
        """The voter of a POST, possibly a new one: a program need not fetch the page first.

        Raises:
            HttpError: 400 cookies_blocked. The form comes from our page, as its *token* proves, but the cookies that
                were set with the page did not come back.
        """
        if token is not None and not _keeps_cookies(request) and self._made_here(token):
            raise HttpError(
                400,
                "cookies_blocked",
                "Your vote was not recorded: your browser does not keep this site's cookies, and without them it could "
                "vote any number of times. Allow cookies for this site, load the voting page again and vote.",
            )
        return self.recognize(request)

    def choice(self, request: Request, voter: Voter) -> str | None:
        """The choice that *voter* was last told we received; for display only, never for counting."""
        values = request.cookie_values(request.own_cookie(CHOICE))
        if not values and self._accept_old_cookies and not voter.is_settled:
            values = request.cookie_values(CHOICE)
        for value in values:
            choice, _, signature = value.partition(".")
            if choice in self._choices and self._keys.verify(FOR_CHOICE, f"{voter.id} {choice}", signature):
                return choice
        return None

    def cookies(self, request: Request, voter: Voter, choice: str | None) -> dict[str, str]:
        """The cookies by which *voter* is recognized next time, and the *choice* if there is one."""
        cookies = {ID: voter.id, request.own_cookie(SIGNATURE): voter.proof}
        if choice is not None:
            signature = self._keys.sign(FOR_CHOICE, f"{voter.id} {choice}")
            cookies[request.own_cookie(CHOICE)] = f"{choice}.{signature}"
        return cookies

    def token(self) -> str:
        """A new token for the form of the page. It tells posts of the form from those of programs."""
        nonce = base64.urlsafe_b64encode(_drawn(9)).decode()  # 12 characters, without padding
        return f"{nonce}.{self._keys.sign(FOR_FORM, nonce)}"

    def _made_here(self, token: str) -> bool:
        nonce, _, signature = token.partition(".")
        return self._keys.verify(FOR_FORM, nonce, signature)

    def _by_own_cookie(self, request: Request) -> Voter | None:
        """The voter whose id and signature are in the cookie that only we can set. Browsers send one such cookie."""
        for value in request.cookie_values(request.own_cookie(SIGNATURE)):
            voter_id, _, signature = value.partition(".")
            if not self._counts(voter_id):
                continue
            newest = self._keys.renew(_purpose(voter_id, is_own=True), voter_id, signature)
            if newest is not None:
                is_settled = newest == signature and (ID, voter_id) in request.cookies
                return Voter(voter_id, f"{voter_id}.{newest}", is_settled)
        return None

    def _by_pair(self, request: Request) -> Voter | None:
        """The voter whose id is in one cookie and its signature in another."""
        # With a set, the work grows with the number of ids plus the number of signatures, not with their product. It
        # compares hashes that differ in each process, so timing reveals nothing about a signature.
        signatures = set(request.cookie_values(SIGNATURE))
        if not signatures:
            return None
        for voter_id in filter(self._counts, dict.fromkeys(request.cookie_values(ID))):
            if not signatures.isdisjoint(self._keys.signatures(_purpose(voter_id, is_own=False), voter_id)):
                voter = self._voter(request, voter_id)
                # never over HTTPS, where a proof is more than a signature
                return voter._replace(is_settled=voter.proof in signatures)
        return None

    def _by_old_apps_id(self, request: Request) -> Voter | None:
        """The voter with an unsigned id of the container app."""
        if not self._accept_legacy:
            return None
        voter_id = next(filter(OLD_APPS.fullmatch, request.cookie_values(ID)), None)
        return None if voter_id is None else self._voter(request, voter_id)

    def _voter(self, request: Request, voter_id: str) -> Voter:
        """The voter *voter_id*, whose browser still needs the cookies."""
        signature = self._keys.sign(_purpose(voter_id, is_own=request.is_https), voter_id)
        return Voter(voter_id, f"{voter_id}.{signature}" if request.is_https else signature, is_settled=False)

    def _counts(self, voter_id: str) -> bool:
        """Whether *voter_id* may vote if its signature is valid.

        Ids of the container app are predictable, so one may have been signed for the wrong browser. Even signed ones
        count only while the deployment accepts them.
        """
        return bool(ISSUED.fullmatch(voter_id) or (self._accept_legacy and OLD_APPS.fullmatch(voter_id)))


def _drawn(count: int) -> bytes:
    """Return *count* random bytes of the kernel: what `secrets` returns, which imports `random`."""
    return os.urandom(count)


def _purpose(voter_id: str, *, is_own: bool) -> str:
    """The purpose of an id's signature; *is_own*: only this host can set the cookie."""
    if len(voter_id) == ISSUED_DIGITS:
        return FOR_VOTER if is_own else FOR_ID
    return FOR_OLD_APPS_VOTER if is_own else FOR_OLD_APPS_ID


def _keeps_cookies(request: Request) -> bool:
    return bool(request.cookie_values(ID) or request.cookie_values(request.own_cookie(SIGNATURE)))
