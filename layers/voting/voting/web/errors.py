"""The one way to say no to an HTTP request."""

from collections.abc import Mapping


class Refusal(Exception):
    """A request that is answered with an error. `code` is stable for programs, `message` is a sentence for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
