"""Preflight: whether one voter can vote as another."""

from collections.abc import Iterator

from voting.ops.preflight.finding import Finding, ok, problem, warning
from voting.settings import InvalidSetting, Settings


def identity_findings(settings: Settings) -> Iterator[Finding]:
    """Whether ids of the container app count, and what follows from that."""
    try:
        accepted = settings.accept_legacy_ids
    except InvalidSetting as error:
        yield problem(str(error), "Correct it, then run this again.")
        return
    if accepted:
        yield warning(
            "ids of the container app are accepted (ACCEPT_LEGACY_IDS), and they can be predicted: a few hundred in a "
            "row reveal all others, and anyone who has an id can vote as its voter",
            "Switch it off a few days after the voters have moved. Those who come later are new voters, and can "
            "vote a second time.",
        )
    else:
        yield ok("ids of the container app are not accepted: its voters are new voters here")
