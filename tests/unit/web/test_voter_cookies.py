import pytest

from tests.unit.http_function import event
from voting.web.request import Request
from voting.web.voter_cookies import VoterCookies

KEY = b"the-new-key-of-32-characters-xxx"
OLD = b"the-old-key-of-32-characters-xxx"


@pytest.mark.parametrize("protocol", ["https", "http"])
def test_a_heap_of_cookies_is_believed_by_nobody(protocol: str) -> None:
    voter_cookies = VoterCookies((KEY, KEY[::-1]), "ab", accept_legacy=True, accept_old_cookies=True)
    names = ("voter_id", "voter_sig", "__Host-voter_sig", "vote_choice", "__Host-vote_choice")
    values = ("a" * 32, "A" * 43, f"{'a' * 32}.{'A' * 43}", f"{'a' * 15}.{'A' * 43}", f"a.{'A' * 43}")
    cookies = [f"{name}={value}" for name in names for value in values for _ in range(100)]
    request = Request.of(event("get-vote-page", cookies=cookies, headers={"x-forwarded-proto": protocol}))
    voter = voter_cookies.recognize(request)
    assert voter.id != "a" * 32
    assert not voter.is_settled
    assert voter_cookies.choice(request, voter) is None


def voter_of(keys: tuple[bytes, ...], cookies: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Who a version with *keys* takes a browser with *cookies* for, and the browser's cookies afterwards."""
    version = VoterCookies(keys, "ab", accept_legacy=False, accept_old_cookies=False)
    request = Request.of(event("get-vote-page", cookies=[f"{name}={value}" for name, value in cookies.items()]))
    voter = version.recognize(request)
    return voter.id, cookies | version.cookies(request, voter, None)


def is_one_voter(*versions: tuple[bytes, ...]) -> bool:
    """Whether a browser stays one voter that the first version knows and the others answer in turns."""
    voter, cookies = voter_of(versions[0], {})
    for version in versions[1:] * 2:
        found, cookies = voter_of(version, cookies)
        if found != voter:
            return False
    return True


def test_a_key_comes_in_two_steps_so_that_a_canary_splits_nobody_in_two() -> None:
    """As `votectl rotate` does it: while traffic moves, a browser is answered by the old and by the new version."""
    first, second, third = (OLD,), (OLD, KEY), (KEY, OLD)
    assert is_one_voter(first, second, first)
    assert is_one_voter(second, third, second)
    assert not is_one_voter(first, third, first), "in one step, the old version cannot verify what the new one signed"
