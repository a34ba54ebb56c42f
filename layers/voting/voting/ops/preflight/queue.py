"""Preflight: the list of votes. Who pushes to which end, who takes, and whether the messages are valid."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from voting.ops.list_watch import ListActivity, watch
from voting.ops.preflight.finding import Finding, ok, problem, warning
from voting.question import named
from voting.queue.queue_view import QueueView
from voting.vote import InvalidVote, Vote, parse

SAMPLE = 500  # messages of each end
PARKED = {
    "id_too_long": "ids of more than 255 characters, which crash the old worker",
    "unknown_choice": "choices other than {options}",
}


def list_findings(queue: QueueView, options: Sequence[str], watch_s: float) -> Iterator[Finding]:
    """The key, the activity at its ends, a sample of its messages."""
    backlog = queue.backlog()
    if backlog.kind not in {"list", "none"}:
        yield problem(f"the key `votes` is a {backlog.kind}", "Find out what uses it: our worker would drain nothing.")
        return
    yield ok(f"the list `votes` holds {backlog.waiting} messages")
    if backlog.handed_back_s is None:
        yield ok("the draining is ours")
    else:
        yield ok(f"the draining was handed back to another worker {backlog.handed_back_s:,.0f} s ago")
    if backlog.in_process:
        todo = "Our worker claimed them: run `handback` to return them to the list, or let it finish."
        yield warning(f"{backlog.in_process} votes are in process", todo)
    activity = watch(queue, watch_s)
    yield _producers(activity)
    yield _consumers(activity, ours=backlog.handed_back_s is None)
    head, tail = queue.ends(SAMPLE)
    both = head if len(head) < SAMPLE else [*head, *tail]  # both ends contain all of a short list
    yield from message_findings(both, options)


def _producers(activity: ListActivity) -> Finding:
    if activity.tail_pushes > activity.head_pushes:
        return problem(
            f"producers push to the tail (RPUSH): {activity.tail_pushes} times, LPUSH {activity.head_pushes} times",
            "Change them to LPUSH first: we take from the tail, so a voter's older choice would win over the newer.",
        )
    if activity.tail_pushes:
        return problem(
            f"most producers push to the head, but {activity.tail_pushes} messages came to the tail",
            "Find the producer that uses RPUSH: its votes overtake the others.",
        )
    if activity.head_pushes:
        return ok(f"producers push to the head (LPUSH): seen {activity.head_pushes} times")
    why = "nothing was pushed" if activity.filled else "the list was empty in every sample"
    todo = (
        "Watch for longer (--watch) while votes come in, or stop the old worker for that time: votes wait in the list."
    )
    return warning(f"which end producers push to is unknown: {why}", todo)


def _consumers(activity: ListActivity, *, ours: bool) -> Finding:
    if not activity.is_drained:
        return ok("no messages were taken while we watched")
    ends = {"head": activity.head_pops, "tail": activity.tail_pops}
    where = " and ".join(f"the {end} ({count} times)" for end, count in ends.items() if count) or "one of its ends"
    todo = "Stop the old worker before the takeover: the draining is handed over, never shared."
    return warning(f"messages are taken from {where}{', perhaps by our own worker' if ours else ''}", todo)


def message_findings(messages: Iterable[bytes], options: Sequence[str]) -> Iterator[Finding]:
    """Whether the messages are votes for *options*, and what would happen to those that are not."""
    reasons: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    for message in messages:
        try:
            vote = parse(message, options)
        except InvalidVote as error:
            reasons[error.reason] += 1
        else:
            shapes["as ours are" if message == Vote(vote.choice, vote.voter_id).encode() else "differently"] += 1
    total = reasons.total() + shapes.total()
    if not total:
        yield warning("there is no message to inspect", "Run it again while votes wait.")
        return
    if shapes:
        spelled = ", ".join(f"{count} spelled {how}" for how, count in shapes.items())
        yield ok(f"{shapes.total()} of {total} messages are votes ({spelled}; both are accepted)")
    for reason, count in reasons.most_common():
        yield warning(
            f"{count} of {total} messages are not votes: {PARKED.get(reason, reason).format(options=named(options))}",
            f"They will become dead letters ({reason}) and are not counted: see `dead list`.",
        )
