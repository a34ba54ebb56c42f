import pytest

from tests.unit.http_function import event
from voting.web.request import Request
from voting.web.voter_cookies import VoterCookies

KEY = b"the-new-key-of-32-characters-xxx"


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
