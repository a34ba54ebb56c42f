"""How a function logs in to the database: by the URL alone, or with a user and a password from Secrets Manager."""

import json
import time

from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo

from voting.address import ENCODE
from voting.database.session import SecretUnreadable
from voting.observability import formatter
from voting.settings import InvalidSetting, Settings

SECRET_KEPT_S = 10.0  # minimum age at which a failed login fetches the secret again


class Credentials:
    """The address and login of *settings*. A secret is fetched with the first use, and kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._user: dict[str, str] | None = None
        self._fetched_at = float("-inf")

    def conninfo(self, **options: str | int) -> str:
        """Return what libpq connects with, *options* included.

        Raises:
            InvalidSetting: DATABASE_URL cannot be used.
            SecretUnreadable: as `fetch_database_user`.
        """
        settings = self._settings
        if settings.database_sslrootcert:
            options |= {"sslmode": "verify-full", "sslrootcert": settings.database_sslrootcert}
        if settings.database_secret_arn:
            if self._user is None:
                self._user = fetch_database_user(settings.database_secret_arn, prefers_ipv6=settings.prefers_ipv6)
                self._fetched_at = time.monotonic()
            options |= self._user
        try:
            return make_conninfo(settings.database_url, **options)
        except ProgrammingError:  # its message quotes the URL
            raise InvalidSetting(
                f"DATABASE_URL has an option that libpq does not take, or cannot be read: {ENCODE}"
            ) from None

    def expire(self) -> bool:
        """Forget a secret that may have been rotated since it was fetched; return whether there was one."""
        if self._user is None or time.monotonic() - self._fetched_at < SECRET_KEPT_S:
            return False
        self._user = None
        return True


def fetch_database_user(secret_arn: str, *, prefers_ipv6: bool) -> dict[str, str]:
    """Return user and password from Secrets Manager, stored as RDS does (keys `username` and `password`).

    Raises:
        SecretUnreadable: Secrets Manager did not answer within seconds, refused, or holds something else. Without the
            secret the database cannot be reached, so this is an error of psycopg, as if the database were down.
    """
    import boto3  # noqa: PLC0415 - it costs a cold start 150 ms, and who logs in by the URL needs no AWS client
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    from voting.aws import race_connections  # noqa: PLC0415

    race_connections(prefers_ipv6=prefers_ipv6)
    config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
    try:
        client = boto3.client("secretsmanager", config=config)
        secret = json.loads(client.get_secret_value(SecretId=secret_arn)["SecretString"])
        formatter.conceal([secret["password"]])
        return {"user": secret["username"], "password": secret["password"]}
    except (BotoCoreError, ClientError, ValueError, LookupError, TypeError) as error:
        raise SecretUnreadable(f"the secret of the database cannot be read: {type(error).__name__}") from error
