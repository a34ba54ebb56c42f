"""The credentials of the function's role where the environment has none: under SnapStart, which outlives them.

Lambda then serves them on a local address, as ECS does.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html#snapstart-credentials
"""

import json
import os
import time
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

from voting.broadcast.sigv4 import Credentials

EARLY_S = 360.0  # signed requests are valid for five minutes
TIMEOUT_S = 1.0


class NoCredentials(Exception):
    """Lambda did not hand out the credentials of the role."""


class ContainerCredentials:
    """Fetched with the first use, and again before they expire."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        self._kept: Credentials | None = None
        self._expires_at = 0.0  # seconds since the epoch

    def current(self) -> Credentials:
        """Return credentials that stay valid for minutes.

        Raises:
            NoCredentials: there are none.
        """
        if self._kept is None or time.time() > self._expires_at - EARLY_S:
            self._kept, self._expires_at = self._fetch()
        return self._kept

    def _fetch(self) -> tuple[Credentials, float]:
        from http.client import HTTPConnection, HTTPException  # noqa: PLC0415 - only under SnapStart

        url = urlsplit(self._url)
        connection = HTTPConnection(url.hostname or "", url.port or 80, timeout=TIMEOUT_S)
        try:
            connection.request("GET", url.path, headers={"Authorization": self._token})
            found = json.loads(connection.getresponse().read())
            keys = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
            return keys, datetime.fromisoformat(found["Expiration"]).timestamp()
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise NoCredentials(f"the credentials of the role cannot be read: {type(error).__name__}") from error
        finally:
            connection.close()


def role_credentials(env: Mapping[str, str] = os.environ) -> Credentials | ContainerCredentials:
    """Return the credentials of the function's role, from the environment or from where it says."""
    url = env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if url is None or env.get("AWS_ACCESS_KEY_ID"):
        return Credentials.from_env(env)
    return ContainerCredentials(url, env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", ""))
