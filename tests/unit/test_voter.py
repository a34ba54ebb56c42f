import pytest

from tests.unit.http_function import event
from voting.request import Request
from voting.voter import FOR_CHOICE, FOR_ID, Keys, Register

OLD, NEW = b"the-old-key-of-32-characters-xxx", b"the-new-key-of-32-characters-xxx"


def test_first_key_signs_and_all_verify() -> None:
    before, overlap, after = Keys((OLD,)), Keys((NEW, OLD)), Keys((NEW,))
    assert overlap.verify(FOR_ID, "x", before.sign(FOR_ID, "x"))
    assert after.verify(FOR_ID, "x", overlap.sign(FOR_ID, "x"))
    assert not after.verify(FOR_ID, "x", before.sign(FOR_ID, "x"))


def test_a_signature_serves_one_purpose_and_one_value() -> None:
    keys = Keys((NEW,))
    signature = keys.sign(FOR_ID, "x")
    assert not keys.verify(FOR_CHOICE, "x", signature)
    assert not keys.verify(FOR_ID, "y", signature)
    assert not keys.verify(FOR_ID, "x", signature[:-1])


@pytest.mark.parametrize("signature", ["", "ü", "\ud800", "\0", "a" * 100_000])
def test_a_signature_of_any_kind_is_only_wrong(signature: str) -> None:
    assert not Keys((NEW,)).verify(FOR_ID, "x", signature)


def test_signatures_fit_into_a_cookie() -> None:
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert set(Keys((NEW,)).sign(FOR_ID, "x")) <= allowed


def test_a_heap_of_cookies_costs_little_and_is_believed_by_nobody() -> None:
    register = Register((NEW,), "ab", accept_legacy=False)
    cookies = [f"{name}={'a' * 32}" for name in ("voter_id", "voter_sig") for _ in range(500)]
    voter = register.recognize(Request.of(event("get-vote-page", cookies=cookies)))
    assert voter.id != "a" * 32
    assert not voter.is_settled
