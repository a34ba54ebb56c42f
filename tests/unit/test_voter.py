from tests.unit.http_function import event
from voting.request import Request
from voting.voter import Register

KEY = b"the-new-key-of-32-characters-xxx"


def test_a_heap_of_cookies_costs_little_and_is_believed_by_nobody() -> None:
    register = Register((KEY,), "ab", accept_legacy=False, accept_old_cookies=True)
    cookies = [f"{name}={'a' * 32}" for name in ("voter_id", "voter_sig") for _ in range(500)]
    voter = register.recognize(Request.of(event("get-vote-page", cookies=cookies)))
    assert voter.id != "a" * 32
    assert not voter.is_settled
