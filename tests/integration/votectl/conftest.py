"""What tests of commands on an AWS account share: an empty one, which notes each call."""

from collections.abc import Iterator

import pytest

from tests.aws_front import AwsFront, aws_front
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def front() -> Iterator[AwsFront]:
    with aws_front() as front:
        yield front


@pytest.fixture
def empty_account(front: AwsFront, monkeypatch: pytest.MonkeyPatch) -> AwsFront:
    """An account with nothing in it, which this process and its children reach by default."""
    monkeypatch.chdir(ROOT)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", front.url)
    front.reset()
    return front
