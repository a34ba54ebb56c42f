"""The error that an HTTP request is answered with."""

from collections.abc import Mapping

from voting.public_error import PublicError


class HttpError(PublicError):
    """Any code may raise it while a request is answered. `headers` are added to those of the response."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code, message)
        self.status = status
        self.headers = headers or {}
