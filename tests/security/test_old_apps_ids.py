"""The container app's ids can be predicted. What that is worth ends with the switch that accepts them."""

import random
from collections.abc import Callable, Sequence
from itertools import islice

import pytest

from tests.security.conftest import Function
from tests.security.prediction import earlier_ids, next_ids
from voting.web.cookie_keys import FOR_ID, FOR_OLD_APPS_VOTER, FOR_VOTER, Keys

OWN = "__Host-voter_sig"
OLD, NEW = "the-old-key-of-32-characters-xxx", "the-new-key-of-32-characters-xxx"
LEGACY = "1f2e3d4c5b6a798"
Load = Callable[[str], Function]
Queued = Callable[[], list[str]]


@pytest.fixture
def under(function: Load, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Function]:
    """The function vote as a deployment with these settings runs it."""

    def load(*, accept: bool, keys: str = OLD) -> Function:
        vote = function("vote")
        monkeypatch.setenv("ACCEPT_LEGACY_IDS", str(accept).lower())  # read with the first request
        monkeypatch.setenv("COOKIE_KEYS", keys)
        vote("get-vote-page")
        return vote

    return load


def issued_by_the_old_app(count: int) -> Sequence[str]:
    source = random.Random()
    return [hex(source.getrandbits(64))[2:-1] for _ in range(count)]


def test_predicted_ids_are_worth_nothing_after_the_switch(under: Callable[..., Function], queued: Queued) -> None:
    """An attacker who saw 700 ids in a row knows the next 1,000 and the last 300, and has them all signed in time."""
    issued = issued_by_the_old_app(2_000)
    seen = issued[300:1_000]
    earlier, later = list(islice(earlier_ids(seen), 300)), list(islice(next_ids(seen), 1_000))
    assert (earlier[::-1], later) == (issued[:300], issued[1_000:])
    predicted = [*earlier, *later]
    during = under(accept=True)
    signed = [during("get-vote-page", cookies=[f"voter_id={voter_id}"]).cookies for voter_id in predicted]
    assert [cookies["voter_id"] for cookies in signed] == predicted
    after = under(accept=False)
    for cookies in signed:
        assert after(cookies=cookies).status == 202
        assert after(cookies=[f"voter_id={cookies['voter_id']}", f"voter_sig={cookies[OWN].partition('.')[2]}"])
    assert not set(queued()) & set(predicted)


def test_an_old_voter_keeps_the_row_during_the_switch_and_is_a_new_voter_after_it(
    under: Callable[..., Function], queued: Queued
) -> None:
    during = under(accept=True)
    signed = during(cookies={"voter_id": LEGACY}).cookies
    during(cookies=signed)
    assert queued() == [LEGACY] * 2
    renewed = under(accept=False)(cookies=signed).cookies
    assert len(renewed["voter_id"]) == 32
    assert queued()[-1] == renewed["voter_id"]


def test_an_old_voter_who_was_signed_is_not_moved_by_tossed_ids(under: Callable[..., Function], queued: Queued) -> None:
    during = under(accept=True)
    signed = [f"{name}={value}" for name, value in during(cookies={"voter_id": LEGACY}).cookies.items()]
    tossed = ["voter_id=aaaaaaaaaaaaaaa", f"voter_id={'ab' * 16}", "voter_sig=aaaaaaaaaaaaaaa"]
    for cookies in ([*tossed, *signed], [*signed, *tossed]):
        during(cookies=cookies)
        assert queued()[-1] == LEGACY


def test_what_an_earlier_version_signed_for_an_old_id_ends_with_the_switch(
    under: Callable[..., Function], queued: Queued
) -> None:
    """It signed them as it signed its own; someone else may have come first with that id."""
    pair = {"voter_id": LEGACY, "voter_sig": Keys((OLD.encode(),)).sign(FOR_ID, LEGACY)}
    under(accept=True)(cookies=pair)
    assert queued()[-1] == LEGACY
    under(accept=False)(cookies=pair)
    assert queued()[-1] != LEGACY


def test_an_old_id_is_signed_for_a_purpose_of_its_own(under: Callable[..., Function]) -> None:
    """So the signature is worth nothing to a version that knows no such purpose, either."""
    signature = under(accept=True)(cookies={"voter_id": LEGACY}).cookies[OWN].partition(".")[2]
    worth = [
        Keys((OLD.encode(),)).verify(purpose, LEGACY, signature) for purpose in (FOR_OLD_APPS_VOTER, FOR_VOTER, FOR_ID)
    ]
    assert worth == [True, False, False]


@pytest.mark.parametrize("accept", [True, False])
def test_no_signature_of_one_kind_of_id_is_worth_anything_for_the_other(
    under: Callable[..., Function], queued: Queued, *, accept: bool
) -> None:
    """An id of ours, cut to the length of an old one, is an old one: it counts as such, or not at all."""
    vote = under(accept=accept)
    ours = vote().cookies
    cut = ours["voter_id"][:16]
    signature = ours[OWN].partition(".")[2]
    vote(cookies={"voter_id": cut, OWN: f"{cut}.{signature}"})
    assert (queued()[-1] == cut) is accept
    old = under(accept=True)(cookies={"voter_id": LEGACY}).cookies[OWN].partition(".")[2]
    for voter_id in (LEGACY.rjust(32, "0"), LEGACY * 2 + "00", ours["voter_id"]):
        vote(cookies={"voter_id": voter_id, OWN: f"{voter_id}.{old}"})
        assert queued()[-1] != voter_id


def test_a_rotated_key_changes_nothing_for_old_voters_during_the_switch(
    under: Callable[..., Function], queued: Queued
) -> None:
    signed = under(accept=True)(cookies={"voter_id": LEGACY}).cookies
    renewed = under(accept=True, keys=f"{NEW},{OLD}")("get-vote-page", cookies=signed).cookies
    assert (renewed["voter_id"], renewed[OWN] != signed[OWN]) == (LEGACY, True)
    for cookies in (signed, renewed):  # with the bare id, also the one whose key is gone
        under(accept=True, keys=NEW)(cookies=cookies)
        assert queued()[-1] == LEGACY
        under(accept=False, keys=f"{NEW},{OLD}")(cookies=cookies)
        assert queued()[-1] != LEGACY
