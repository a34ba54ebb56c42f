"""The base of errors that a client is told about."""


class PublicError(Exception):
    """`code` is stable, for programs. `message` is a sentence for people, and the text of the exception."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
