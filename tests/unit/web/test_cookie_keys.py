import pytest

from voting.web.cookie_keys import FOR_CHOICE, FOR_ID, LENGTH, Keys

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


def test_a_signature_is_renewed_by_the_key_that_signs_now() -> None:
    before, overlap = Keys((OLD,)), Keys((NEW, OLD))
    assert overlap.renew(FOR_ID, "x", before.sign(FOR_ID, "x")) == overlap.sign(FOR_ID, "x")
    assert overlap.renew(FOR_ID, "x", overlap.sign(FOR_ID, "x")) == overlap.sign(FOR_ID, "x")
    assert overlap.renew(FOR_ID, "y", before.sign(FOR_ID, "x")) is None
    assert list(overlap.signatures(FOR_ID, "x")) == [overlap.sign(FOR_ID, "x"), before.sign(FOR_ID, "x")]


def test_signatures_have_one_length() -> None:
    assert {len(Keys((NEW,)).sign(FOR_ID, str(number))) for number in range(50)} == {LENGTH}
