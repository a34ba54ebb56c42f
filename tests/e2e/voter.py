"""Voting over HTTP as programs do, with httpx."""

import httpx


def cast(http: httpx.Client, choice: str) -> str:
    """Vote as a new voter, by JSON; return the id that was issued."""
    http.cookies.clear()
    answer = http.post("/api/votes", json={"vote": choice})
    assert answer.status_code == 202, answer.text
    return http.cookies["voter_id"]


def votes(results: dict) -> dict[str, int]:
    """What `GET /api/results` or a frame says, by choice."""
    return {option["id"]: option["votes"] for option in results["options"]}
