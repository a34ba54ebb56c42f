"""The AWS account that a local run pretends to be."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Account:
    """Region, number and the credentials that every execution environment of this run is given."""

    region: str = "eu-central-1"
    account_id: str = "123456789012"
    access_key_id: str = field(default_factory=lambda: "ASIA" + secrets.token_hex(8).upper())
    secret_access_key: str = field(default_factory=lambda: secrets.token_urlsafe(30), repr=False)
    session_token: str = field(default_factory=lambda: secrets.token_urlsafe(60), repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Account":
        """Take the region from the shell, and nothing else: real credentials never reach a local function."""
        return cls(region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "eu-central-1")

    def function_arn(self, name: str) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account_id}:function:{name}"
