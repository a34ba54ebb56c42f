"""What an execution environment runs: AWS's own runtime client, on a Runtime API with a secret in its path.

AWS_LAMBDA_RUNTIME_API is `host:port/secret`. The client's native part, which asks for events and answers them, takes
such an address as it is. Its Python part, which reports a failed init, takes `host:port` only, and gets the path with
each request. A program of its own, like unprivileged.py: it imports nothing of the package.
"""

import os
import sys
from typing import Any

from awslambdaric import bootstrap  # type: ignore[import-untyped] # it ships no types
from awslambdaric.lambda_config import LambdaConfigProvider  # type: ignore[import-untyped]
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient  # type: ignore[import-untyped]


class Client(LambdaRuntimeClient):  # type: ignore[misc] # it ships no types
    """AWS's client, for an address with a path."""

    def __init__(self, address: str, use_thread: bool) -> None:
        authority, slash, path = address.partition("/")
        super().__init__(authority, use_thread)
        self._root = slash + path

    def call_rapid(self, http_method: str, endpoint: str, *arguments: Any, **options: Any) -> None:
        super().call_rapid(http_method, self._root + endpoint, *arguments, **options)


def main(arguments: list[str]) -> None:
    """Serve the handler that *arguments* name, in the current folder."""
    # As `python -m awslambdaric` does: the function's own modules come first. Importing pathlib would lengthen each
    # start.
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    config = LambdaConfigProvider(arguments)
    bootstrap.run(config.handler, Client(config.api_address, config.use_thread_polling))


if __name__ == "__main__":
    main(sys.argv)
