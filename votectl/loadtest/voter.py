"""A voter as the API sees one: a browser that keeps its cookies and sends one request at a time."""

import json
from dataclasses import dataclass, field
from typing import Literal

from votectl.loadtest.api_client import ApiClient, NoAnswer, NotSent, Reply

Outcome = Literal["accepted", "refused", "maybe"]
NOT_RECORDED = "not_recorded"  # the only code of a 503 with which the vote certainly does not count


@dataclass(frozen=True, slots=True)
class Cast:
    """One vote and its outcome as the voter knows it; a maybe may count or not."""

    choice: str
    outcome: Outcome
    why: str = ""  # status and code, unless it was accepted


@dataclass(slots=True)
class Voter:
    """Cookies, and every vote in order. `id` is None until a response has set it."""

    cookies: dict[str, str] = field(default_factory=dict)
    casts: list[Cast] = field(default_factory=list)

    @property
    def id(self) -> str | None:
        return self.cookies.get("voter_id")

    async def cast(self, choice: str, client: ApiClient) -> Cast:
        """Vote, and remember the outcome."""
        headers = {"Content-Type": "application/json"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            reply = await client.request("POST", "/api/votes", headers, b'{"vote": "%s"}' % choice.encode())
        except NotSent as error:
            cast = Cast(choice, "refused", f"not sent: {error}")
        except NoAnswer as error:
            cast = Cast(choice, "maybe", f"no answer: {error}")
        else:
            cast = self._read(choice, reply)
        self.casts.append(cast)
        return cast

    def _read(self, choice: str, reply: Reply) -> Cast:
        if reply.status == 202:
            self.cookies |= reply.cookies
            return Cast(choice, "accepted")
        code = _code(reply)
        is_sure = reply.status < 500 or code == NOT_RECORDED
        return Cast(choice, "refused" if is_sure else "maybe", f"{reply.status} {code}".strip())


def _code(reply: Reply) -> str:
    try:
        document = json.loads(reply.body)
    except ValueError:
        return ""
    error = document.get("error") if isinstance(document, dict) else None
    return str(error.get("code", "")) if isinstance(error, dict) else ""
