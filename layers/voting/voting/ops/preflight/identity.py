"""What a preflight finds about who may vote as whom."""

from collections.abc import Iterator

from voting.ops.preflight.finding import Finding, ok, problem, warning
from voting.settings import InvalidSetting, Settings


def identity_findings(settings: Settings) -> Iterator[Finding]:
    """Whether the container app's ids count, and what that means."""
    try:
        accepted = settings.accept_legacy_ids
    except InvalidSetting as error:
        yield problem(str(error), "Mend that, and run it again.")
        return
    if accepted:
        yield warning(
            "ids of the container app are accepted (ACCEPT_LEGACY_IDS), and they can be predicted: a few hundred in a "
            "row tell all others, and with one of them anyone votes as its voter",
            "Switch it off a few days after the voters have moved. Those who come later are new voters then, and may "
            "vote a second time.",
        )
    else:
        yield ok("ids of the container app are not accepted: its voters are new voters here")
