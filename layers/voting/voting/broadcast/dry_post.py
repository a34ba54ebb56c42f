"""A signed post to a connection that does not exist: the answer shows whether posts to those that do would arrive."""

from voting.broadcast.post_schedule import BROKEN, HANGING
from voting.broadcast.poster import Poster

NOBODY = "AAAAAAAAAAAAAAA="  # of the form of API Gateway's connection ids, and never issued
FRAME = b'{"type":"pong"}'  # one that a subscriber would ignore
WITHIN_S = 3.0
INVALID_ID = 400  # what API Gateway answers where it can tell by an id alone that there is no such connection
WORDS = {HANGING: "was not answered", BROKEN: "found no connection to API Gateway"}


def dry_post(poster: Poster) -> dict[str, object]:
    """Post to nobody. `ok` says whether API Gateway knew the sender and the address; if not, `reason` says what came.

    It takes 6 s at most.

    Raises:
        poster.Forbidden: API Gateway refuses our signature or our role.
    """
    outcome = poster.post([NOBODY], FRAME, within_s=WITHIN_S)
    if outcome.gone or outcome.refusal == INVALID_ID:
        return {"ok": True}
    if outcome.sent:
        return {"ok": False, "reason": "A post to a connection that does not exist was accepted."}
    said = WORDS.get(outcome.refusal or BROKEN, f"was answered with {outcome.refusal}")
    return {"ok": False, "reason": f"A post to a connection that does not exist {said}."}
