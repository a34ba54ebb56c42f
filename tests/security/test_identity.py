"""A voter is a signed cookie: nobody votes as another, and no cookie does any harm."""

import string
from collections.abc import Callable
from http.cookies import SimpleCookie

import pytest

from tests.security.conftest import Function, Reply

OLD, NEW = "the-old-key-of-32-characters-xxx", "the-new-key-of-32-characters-xxx"
LEGACY = "1f2e3d4c5b6a798"  # as the container app makes them: hex digits of 64 random bits
OWN = "__Host-voter_sig"  # the id and its signature
Load = Callable[[str], Function]
Queued = Callable[[], list[str]]


def old_apps_voter(cookies: dict[str, str]) -> str | None:
    """What the container app reads of a browser's cookies: `request.cookies.get("voter_id")`."""
    jar = SimpleCookie("; ".join(f"{name}={value}" for name, value in cookies.items()))
    return jar["voter_id"].value if "voter_id" in jar else None


def assert_replaced(reply: Reply, queued: list[str], *believed_by_nobody: str) -> None:
    """The vote counts, for a new voter."""
    assert reply.status == 202
    assert queued[-1] == reply.cookies["voter_id"]
    assert queued[-1] not in believed_by_nobody


def test_a_signed_voter_is_recognized(vote: Function, queued: Queued) -> None:
    first = vote()
    assert vote(cookies=first.cookies).status == 202
    assert queued() == [first.cookies["voter_id"]] * 2


def test_ids_come_from_a_secure_source_and_are_never_repeated(vote: Function) -> None:
    ids = {vote().cookies["voter_id"] for _ in range(200)}
    assert len(ids) == 200
    assert all(len(id_) == 32 and set(id_) <= set(string.hexdigits.lower()) for id_ in ids)


def test_a_signature_with_any_one_character_changed_is_worth_nothing(vote: Function, queued: Queued) -> None:
    voter = vote().cookies
    voter_id, _, signature = voter[OWN].partition(".")
    for at in range(len(signature)):
        changed = signature[:at] + ("A" if signature[at] != "A" else "B") + signature[at + 1 :]
        assert_replaced(vote(cookies=voter | {OWN: f"{voter_id}.{changed}"}), queued(), voter_id)


def test_an_id_with_any_one_digit_changed_is_nobodys(vote: Function, queued: Queued) -> None:
    voter = vote().cookies
    voter_id, _, signature = voter[OWN].partition(".")
    for at in range(32):
        changed = voter_id[:at] + ("0" if voter_id[at] != "0" else "1") + voter_id[at + 1 :]
        forged = {"voter_id": changed, OWN: f"{changed}.{signature}"}
        assert_replaced(vote(cookies=voter | forged), queued(), changed, voter_id)


def test_the_signature_of_another_voter_does_not_fit(vote: Function, queued: Queued) -> None:
    mine, theirs = vote().cookies, vote().cookies
    crossed = {"voter_id": theirs["voter_id"], OWN: f"{theirs['voter_id']}.{mine[OWN].partition('.')[2]}"}
    assert_replaced(vote(cookies=crossed), queued(), theirs["voter_id"])


@pytest.mark.parametrize("purpose", ["__Host-vote_choice", "token"])
def test_a_signature_for_another_purpose_does_not_fit(vote: Function, queued: Queued, purpose: str) -> None:
    voter = vote().cookies
    page = vote("get-vote-page").body
    token = page.split('name="token" value="')[1].split('"')[0]
    borrowed = (token if purpose == "token" else voter[purpose]).partition(".")[2]
    forged = {OWN: f"{voter['voter_id']}.{borrowed}", "voter_sig": borrowed}
    assert_replaced(vote(cookies=voter | forged), queued(), voter["voter_id"])


def test_over_plain_http_an_id_counts_with_its_own_signature_only(vote: Function, queued: Queued) -> None:
    """There browsers refuse the prefix; the names are those without it."""
    plain = {"x-forwarded-proto": "http"}
    mine, theirs = vote(headers=plain).cookies, vote(headers=plain).cookies
    assert set(mine) == {"voter_id", "voter_sig", "vote_choice"}
    vote(headers=plain, cookies=mine)
    vote(headers=plain, cookies=[f"voter_id={theirs['voter_id']}", *(f"{name}={mine[name]}" for name in mine)])
    assert queued()[-2:] == [mine["voter_id"]] * 2
    crossed = mine | {"voter_id": theirs["voter_id"]}
    assert_replaced(vote(headers=plain, cookies=crossed), queued(), mine["voter_id"], theirs["voter_id"])


def test_of_two_ids_the_signed_one_counts(vote: Function, queued: Queued) -> None:
    mine, stray = vote().cookies, vote().cookies["voter_id"]
    signed = [f"{name}={value}" for name, value in mine.items()]
    vote(cookies=[f"voter_id={stray}", *signed])
    vote(cookies=[*signed, f"voter_id={stray}"])
    assert queued()[-2:] == [mine["voter_id"]] * 2


def test_keys_overlap_and_voters_are_signed_anew(function: Load, queued: Queued, monkeypatch) -> None:
    def under(keys: str) -> Function:
        vote = function("vote")
        monkeypatch.setenv("COOKIE_KEYS", keys)  # read with the first request
        return vote

    voter = under(OLD)().cookies
    renewed = under(f"{NEW},{OLD}")("get-vote-page", cookies=voter).cookies
    assert renewed["voter_id"] == voter["voter_id"]
    assert renewed[OWN] != voter[OWN]
    after = under(NEW)
    after(cookies=renewed)
    assert queued()[-1] == voter["voter_id"]
    assert_replaced(after(cookies=voter), queued(), voter["voter_id"])


def test_an_old_apps_id_counts_only_where_the_deployment_says_so(function: Load, queued: Queued, monkeypatch) -> None:
    assert_replaced(function("vote")(cookies={"voter_id": LEGACY}), queued(), LEGACY)
    monkeypatch.setenv("ACCEPT_LEGACY_IDS", "true")
    signed = function("vote")(cookies={"voter_id": LEGACY}).cookies
    assert queued()[-1] == signed["voter_id"] == LEGACY
    monkeypatch.setenv("ACCEPT_LEGACY_IDS", "false")
    assert_replaced(function("vote")(cookies=signed), queued(), LEGACY)


def test_the_switch_lets_no_id_of_ours_in_without_its_signature(function: Load, queued: Queued, monkeypatch) -> None:
    monkeypatch.setenv("ACCEPT_LEGACY_IDS", "true")
    vote = function("vote")
    victim = vote().cookies["voter_id"]
    assert_replaced(vote(cookies={"voter_id": victim}), queued(), victim)


def test_the_old_app_reads_the_same_cookies_unharmed(vote: Function, queued: Queued) -> None:
    cookies = vote().cookies
    assert old_apps_voter(cookies) == cookies["voter_id"] == queued()[0]
    assert len(cookies["voter_id"]) <= 255


@pytest.mark.parametrize(
    "value",
    ["", " ", "a" * 9000, "ü€\ud800", '"', "\\", "a=b", "%00", "../..", "x' OR '1'='1", "<script>alert(1)", "{votes}"],
)
def test_no_cookie_does_harm(vote: Function, queued: Queued, value: str) -> None:
    for name in ("voter_id", "voter_sig", "vote_choice", OWN, "__Host-vote_choice", "__Host-vote_delayed"):
        cookies = vote().cookies | {name: value}
        assert vote(cookies=cookies).status == 202
        page = vote("get-vote-page", cookies=cookies)
        assert page.status == 200
        assert not value.strip() or len(value) < 5 or value not in page.body
    assert value not in queued()


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(vote: Function) -> None:
    """All but the container app's id, which decides nothing, are also out of reach of the domain's other hosts."""
    reply = vote()
    assert {name for name in reply.cookies if not name.startswith("__Host-")} == {"voter_id"}
    for cookie in reply.set_cookies:
        attributes = cookie.split("; ")[1:]
        assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} <= set(attributes)
        assert not any(attribute.startswith("Domain") for attribute in attributes)
