"""The interface by which the APIs and the schedule invoke functions."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function returned: the JSON bytes, and for a failure Lambda's `X-Amz-Function-Error`."""

    payload: bytes
    error: str | None = None  # "Unhandled" if the handler raised, timed out, or its process died


class UnknownFunction(Exception):
    """No function of the template has this name."""


class Throttled(Exception):
    """The function's concurrency limit is reached."""


class PayloadTooLarge(Exception):
    """More than Lambda takes: 6 MB for RequestResponse, 1 MB for Event."""


class Functions(Protocol):
    """The functions of the template, by logical id."""

    async def invoke(self, name: str, payload: bytes) -> Answer:
        """Run one invocation and wait for its answer.

        Raises:
            UnknownFunction, Throttled, PayloadTooLarge
        """
        ...

    def enqueue(self, name: str, payload: bytes) -> str:
        """Accept an asynchronous invocation, retried as the template says; return its request id.

        Raises:
            UnknownFunction, PayloadTooLarge
        """
        ...
