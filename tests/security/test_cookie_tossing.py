"""A page of another host of our domain sets cookies for all its hosts: they change neither who votes nor what is shown.

Such a host can set any name but one with the prefix `__Host-`. Its cookies come before or after ours, in any number,
and may hold what our site gave to the attacker.
"""

from collections.abc import Callable

import pytest

from tests.security.conftest import Function, Reply
from voting.web.cookie_keys import FOR_ID, Keys
from voting.web.request import HOST_PREFIX

OWN = "__Host-voter_sig"
JUNK = "0123456789abcdef" * 2
MANY = 100  # of 60 to 80 bytes: more do not fit into the headers that the gateway takes
OLD_KEY, NEW_KEY = "the-old-key-of-32-characters-xxx", "the-new-key-of-32-characters-xxx"
Load = Callable[[str], Function]
Queued = Callable[[], list[str]]


def old_cookies(key: str = OLD_KEY, voter_id: str = "ab" * 16) -> dict[str, str]:
    """What a version before the prefix gave to a voter."""
    keys = Keys((key.encode(),))
    choice = keys.sign("vote-choice", f"{voter_id} b")
    return {"voter_id": voter_id, "voter_sig": keys.sign(FOR_ID, voter_id), "vote_choice": f"b.{choice}"}


def tossed(attacker: dict[str, str]) -> list[str]:
    """All that another host can make of the *attacker*'s cookies: the same values under names without the prefix."""
    values = {name.removeprefix(HOST_PREFIX): value for name, value in attacker.items()}
    bare = {"voter_sig": values["voter_sig"].rpartition(".")[2]}
    return [*lines(values), *lines(bare), "vote_delayed=1"]


def lines(cookies: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in cookies.items()]


def orders(mine: dict[str, str], theirs: list[str]) -> list[list[str]]:
    return [[*theirs, *lines(mine)], [*lines(mine), *theirs]]


def shown(page: Reply) -> str:
    return page.body.split('data-choice="')[1].split('"')[0]


def test_a_tossed_pair_changes_nothing_for_a_voter_whom_we_know(vote: Function, queued: Queued) -> None:
    attacker, mine = vote().cookies, vote(body=b'{"vote": "b"}').cookies
    for cookies in orders(mine, tossed(attacker)):
        page = vote("get-vote-page", cookies=cookies)
        assert (page.set_cookies, shown(page)) == ([], "b")
        assert vote(cookies=cookies).cookies["voter_id"] == queued()[-1] == mine["voter_id"]


def test_a_tossed_pair_makes_no_first_visitor_the_attacker(vote: Function, queued: Queued) -> None:
    attacker = vote(body=b'{"vote": "b"}').cookies
    page = vote("get-vote-page", cookies=tossed(attacker))
    assert shown(page) == ""
    assert page.cookies["voter_id"] != attacker["voter_id"]
    assert vote(cookies=tossed(attacker)).cookies["voter_id"] == queued()[-1] != attacker["voter_id"]
    for cookies in orders(page.cookies, tossed(attacker)):
        vote(cookies=cookies)
        assert queued()[-1] == page.cookies["voter_id"]


@pytest.mark.parametrize(
    "name", ["voter_id", "voter_sig", OWN, "vote_choice", "__Host-vote_choice", "vote_delayed", ""]
)
def test_no_number_of_other_cookies_makes_a_new_voter_or_hides_the_choice(
    vote: Function, queued: Queued, name: str
) -> None:
    mine = vote(body=b'{"vote": "b"}').cookies
    for junk in (JUNK, f"{JUNK}.{'A' * 43}", f"b.{'A' * 43}", ""):
        for cookies in orders(mine, [f"{name}={junk}"] * MANY):
            assert shown(vote("get-vote-page", cookies=cookies)) == "b"
            assert vote(cookies=cookies).status == 202
            assert queued()[-1] == mine["voter_id"]


def test_an_id_that_was_overwritten_is_put_right(vote: Function, queued: Queued) -> None:
    mine, attacker = vote().cookies, vote().cookies
    for voter_id in ([], [f"voter_id={attacker['voter_id']}"], ["voter_id="]):
        cookies = [*voter_id, f"{OWN}={mine[OWN]}"]
        assert vote("get-vote-page", cookies=cookies).cookies["voter_id"] == mine["voter_id"]
        assert vote(cookies=cookies).cookies == mine
        assert queued()[-1] == mine["voter_id"]


def test_a_tossed_choice_or_delay_is_not_shown(vote: Function) -> None:
    attacker, mine = vote(body=b'{"vote": "b"}').cookies, vote("get-vote-page").cookies
    choice = attacker["__Host-vote_choice"]
    for cookies in orders(mine, [f"vote_choice={choice}", "vote_choice=b", "vote_delayed=1"]):
        page = vote("get-vote-page", cookies=cookies)
        assert shown(page) == ""
    voted = vote(cookies=mine).cookies | mine
    for cookies in orders(voted, [f"vote_choice={choice}", "vote_delayed=1"]):
        page = vote("get-vote-page", cookies=cookies)
        assert shown(page) == "a"
        assert "Counting is delayed" not in page.body.split('id="status"')[1].split("</p>")[0]


def test_tossed_cookies_do_not_block_the_form(vote: Function, queued: Queued) -> None:
    attacker, page = vote().cookies, vote("get-vote-page")
    token = page.body.split('name="token" value="')[1].split('"')[0]
    for cookies in orders(page.cookies, tossed(attacker)):
        assert vote("post-form", body=f"vote=a&token={token}".encode(), cookies=cookies).status == 303
        assert queued()[-1] == page.cookies["voter_id"]


@pytest.mark.parametrize("before", ["\u2000", "\u3000", "\xa0", "\x85", "\x1c", "\u2028", "\x0b", "\ufeff", "\0"])
def test_no_other_name_becomes_ours(vote: Function, queued: Queued, before: str) -> None:
    """Browsers let a name pass that begins with a white space which only a server would strip."""
    attacker = vote().cookies
    as_text = f"{before}{OWN}={attacker[OWN]}"
    as_bytes = as_text.encode().decode("latin-1")  # how some gateways hand bytes on
    for cookie in (as_text, as_bytes, f"{OWN}{before}={attacker[OWN]}"):
        vote(cookies=[f"voter_id={attacker['voter_id']}", cookie])
        assert queued()[-1] != attacker["voter_id"]


@pytest.mark.parametrize("name", ["__host-voter_sig", "__HOST-voter_sig", "__Secure-voter_sig", "Host-voter_sig"])
def test_the_prefix_has_one_spelling(vote: Function, queued: Queued, name: str) -> None:
    attacker = vote().cookies
    vote(cookies=[f"voter_id={attacker['voter_id']}", f"{name}={attacker[OWN]}"])
    assert queued()[-1] != attacker["voter_id"]


@pytest.mark.parametrize("protocol", ["http,https", "http, https", "HTTP , HTTPS"])
def test_no_client_talks_us_into_cookies_that_others_can_toss(vote: Function, protocol: str) -> None:
    """The last protocol is the gateway's own; what stands before it may be the client's."""
    reply = vote(headers={"x-forwarded-proto": protocol})
    assert set(reply.cookies) == {"voter_id", OWN, "__Host-vote_choice"}
    assert all("; Secure" in cookie for cookie in reply.set_cookies)


# ---------------------------------------------------------------- Voters of earlier versions


def test_an_earlier_versions_voter_stays_the_same_and_is_bound(
    function: Load, queued: Queued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COOKIE_KEYS", OLD_KEY)
    vote, mine = function("vote"), old_cookies()
    page = vote("get-vote-page", cookies=mine)
    assert shown(page) == "b"
    assert set(page.cookies) == {"voter_id", OWN, "__Host-vote_choice"}
    assert vote(cookies=mine).cookies["voter_id"] == queued()[-1] == mine["voter_id"]
    attacker = old_cookies(voter_id="cd" * 16)
    for cookies in orders(mine | page.cookies, tossed(attacker)):
        vote(cookies=cookies)
        assert queued()[-1] == mine["voter_id"]


def test_an_earlier_versions_choice_is_shown_until_the_voter_is_bound_and_never_again(
    function: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in the browser, and a newer choice may be gone from there."""
    monkeypatch.setenv("COOKIE_KEYS", OLD_KEY)
    vote, mine = function("vote"), old_cookies()
    bound = mine | vote("get-vote-page", cookies=mine).cookies
    assert shown(vote("get-vote-page", cookies=bound)) == "b"
    del bound["__Host-vote_choice"]
    assert shown(vote("get-vote-page", cookies=bound)) == ""


def test_no_number_of_other_cookies_makes_a_new_voter_of_an_earlier_versions(
    function: Load, queued: Queued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COOKIE_KEYS", f"{NEW_KEY},{OLD_KEY}")
    vote, mine = function("vote"), old_cookies()
    for junk in ([f"voter_id={JUNK}"] * MANY, [f"voter_sig={'A' * 43}"] * MANY, [f"{OWN}=junk"] * MANY):
        for cookies in orders(mine, junk):
            vote(cookies=cookies)
            assert queued()[-1] == mine["voter_id"]


def test_an_earlier_versions_pair_is_worth_nothing_once_the_deployment_says_so(
    function: Load, queued: Queued, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they are accepted, a pair that an attacker kept from before can be tossed to a first visitor."""
    monkeypatch.setenv("COOKIE_KEYS", OLD_KEY)
    kept = old_cookies()
    monkeypatch.setenv("ACCEPT_OLD_COOKIES", "false")
    vote = function("vote")
    page = vote("get-vote-page", cookies=kept)
    assert shown(page) == ""
    assert page.cookies["voter_id"] != kept["voter_id"]
    vote(cookies=kept)
    assert queued()[-1] != kept["voter_id"]


def test_an_earlier_versions_pair_ends_with_its_key(
    function: Load, queued: Queued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COOKIE_KEYS", f"{NEW_KEY},{OLD_KEY}")
    bound = function("vote")("get-vote-page", cookies=old_cookies()).cookies
    monkeypatch.setenv("COOKIE_KEYS", NEW_KEY)
    after = function("vote")
    after(cookies=old_cookies())
    assert queued()[-1] != bound["voter_id"]
    after(cookies=bound)
    assert queued()[-1] == bound["voter_id"]
