"""The responses of the function ops as text."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from votectl.findings import finding_lines
from votectl.table import many, table, was
from votectl.terminal import all_plain

Answer = dict[str, Any]
PAYLOAD_WIDTH = 80
ROOM = ("dropped", "shortened")


def describe(operation: str, answer: Answer) -> str:
    """Render *answer* as text and tables, problems last."""
    answer = all_plain(answer)
    if not answer["ok"]:
        refusal = f"refused ({answer['error']['code']}): {answer['error']['message']}"
        done = [
            f"{many(answer[what], 'letter')} {was(answer[what])} {what} until then"
            for what in ("requeued", "dropped")
            if what in answer
        ]
        return "\n".join([refusal, *done])
    lines = list(REPORTS[operation](answer))
    if operation != "preflight":  # its findings include the problems
        lines += [f"PROBLEM: {problem}" for problem in answer["problems"]]
    return "\n".join(lines)


def _status(answer: Answer) -> Iterator[str]:
    rows: list[tuple[object, ...]] = []
    if queue := answer.get("queue"):
        handed_back = queue["handed_back_s"]
        counting = answer["counting"]
        rows += [
            ("counting", counting["state"]),
            ("waiting", queue["waiting"]),
            ("in process", queue["in_process"]),
            ("  age of the batch, s", queue["batch_age_s"]),
            ("draining", "ours" if handed_back is None else f"handed back {handed_back:,.0f} s ago"),
            ("dead letters", answer["dead"]["total"]),
            *((f"  {reason}", count) for reason, count in sorted(answer["dead"]["by_reason"].items())),
            *((f"  {what} to make room", answer["dead"][what]) for what in ROOM if answer["dead"].get(what)),
            ("subscribers", answer["subscribers"]),
        ]
        snapshot = answer["snapshot"] or {"version": None, "age_s": None}
        rows += [
            ("snapshot, version", snapshot["version"] and str(snapshot["version"])),
            ("  age, s", snapshot["age_s"]),
        ]
    if tally := answer.get("tally"):
        rows += [("tally, version", str(tally["version"]))]
        rows += [(f"  {choice}", count) for choice, count in sorted(tally["counts"].items())]
        if "rows" in tally:
            rows += [("rows, counted", sum(tally["rows"].values()))]
            rows += [(f"  {choice}", count) for choice, count in sorted(tally["rows"].items())]
        rows += [("fence in Postgres", tally["fence"])]
    if queue:
        rows += [("fence in Redis", queue["fence"])]
    else:
        rows += [("counting", "unknown")]
    if rows:
        yield table(rows)
    if queue and (trouble := answer["counting"]["trouble"]):
        yield f"last error, met since {_time(trouble['since'])}: {trouble['error']}"


def _letters(answer: Answer) -> Iterator[str]:
    if not answer["letters"]:
        yield "no dead letters"
        return
    rows: list[tuple[object, ...]] = [("parked at", "reason", "bytes", "payload")]
    for letter in answer["letters"]:
        payload = letter["payload"] if "payload" in letter else f"base64 {letter['payload_base64']}"
        shown = payload if len(payload) <= PAYLOAD_WIDTH else f"{payload[:PAYLOAD_WIDTH]}…"
        cut = " (cut)" if letter["cut"] else ""
        reason = " ".join([letter["reason"], letter.get("sqlstate") or letter.get("error") or ""]).rstrip()
        rows.append((_time(letter["at"]), reason, letter["bytes"], shown + cut))
    yield table(rows)


def _requeue(answer: Answer) -> Iterator[str]:
    yield f"{many(answer['requeued'], 'letter')} went back to the list"
    reasons = {
        "cut": "cut, which cannot be restored",
        "still_no_vote": "still not a vote",
        "voted_since": "left: the voter has a row",
        "queued_since": "left: the voter has a vote in the list",
        "out_of_place": "left: another operation removed letters at the same time; run it again",
    }
    yield from (f"{many(count, 'letter')} {reasons[why]}" for why, count in answer["left"].items())


def _drop(answer: Answer) -> Iterator[str]:
    yield f"{many(answer['dropped'], 'letter')} {was(answer['dropped'])} dropped"


def _verify(answer: Answer) -> Iterator[str]:
    choices = sorted({*answer["kept"], *answer["counted"]})
    rows: list[tuple[object, ...]] = [("choice", "tally", "rows")]
    rows += [(choice, answer["kept"].get(choice, 0), answer["counted"].get(choice, 0)) for choice in choices]
    yield table(rows)
    yield "the tally agrees" if answer["agrees"] else "the tally was repaired" if answer["repaired"] else "it differs"


def _preflight(answer: Answer) -> Iterator[str]:
    yield from finding_lines(answer["findings"])
    levels = [finding["level"] for finding in answer["findings"]]
    yield f"{many(levels.count('problem'), 'problem')}, {many(levels.count('warning'), 'warning')}"


def _handback(answer: Answer) -> Iterator[str]:
    yield "our worker has stopped draining" if answer["changed"] else "it was handed back already"
    yield f"{many(answer['returned'], 'vote')} came back from the batch of a run that died or froze"
    yield f"{many(answer['waiting'], 'vote')} waiting in the list"


def _takeover(answer: Answer) -> Iterator[str]:
    yield "our worker drains from its next run on" if answer["changed"] else "the draining was ours already"
    yield f"{many(answer['waiting'], 'vote')} waiting in the list"


def _install(answer: Answer) -> Iterator[str]:
    yield "tables and triggers were installed" if answer["installed"] else "tables and triggers existed already"
    yield from (f"the login {name} was created" for name in answer["created"])
    yield from (f"the login {name} has the password of its secret" for name in answer["logins"])


def _indexes(answer: Answer) -> Iterator[str]:
    yield table(sorted(answer["indexes"].items()))


def _time(at_ms: int | None) -> str:
    return "-" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


REPORTS: dict[str, Callable[[Answer], Iterator[str]]] = {
    "status": _status,
    "dead list": _letters,
    "dead requeue": _requeue,
    "dead drop": _drop,
    "tally verify": _verify,
    "preflight": _preflight,
    "handback": _handback,
    "takeover": _takeover,
    "install": _install,
    "indexes": _indexes,
}
