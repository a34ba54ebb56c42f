"""What a route answers, until it leaves as API Gateway's payload format 2.0."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Response:
    """Status, body and headers; cookies are the values of Set-Cookie headers."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()

    def with_headers(self, headers: Mapping[str, str]) -> "Response":
        """The same with *headers* beside its own, or in their place."""
        return replace(self, headers={**self.headers, **headers})
