"""The AWS account that a local run pretends to be."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from local.sigv4 import Credentials

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")


@dataclass(frozen=True, slots=True)
class Account:
    """Region, number and the credentials that every execution environment of this run is given."""

    region: str = "eu-central-1"
    account_id: str = "123456789012"
    access_key_id: str = field(default_factory=lambda: "ASIA" + secrets.token_hex(8).upper())
    secret_access_key: str = field(default_factory=lambda: secrets.token_urlsafe(30), repr=False)
    session_token: str = field(default_factory=lambda: secrets.token_urlsafe(60), repr=False)

    @property
    def credentials(self) -> Credentials:
        """What this run's requests are signed with."""
        return Credentials(self.access_key_id, self.secret_access_key, self.session_token)

    def for_boto3(self) -> dict[str, str]:
        """The credentials by the names that `boto3.client` takes them by."""
        return {
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token,
        }

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Account":
        """Take the region from the shell, and nothing else: real credentials never reach a local function.

        What is no region is passed over: no client of AWS could be built with it.
        """
        named = (env.get(name, "") for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
        return cls(region=next(filter(_REGION.fullmatch, named), "eu-central-1"))

    def function_arn(self, name: str) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account_id}:function:{name}"
