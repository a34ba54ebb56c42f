"""The AWS account that a local run pretends to be."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from local.sigv4 import Credentials

ACCOUNT_ID = "123456789012"
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")


def _draw_owner() -> Credentials:
    return Credentials("AKIA" + secrets.token_hex(8).upper(), secrets.token_hex(20))


@dataclass(frozen=True, slots=True)
class Account:
    """Region, number, the temporary credentials of every execution environment, and the keys of the owner."""

    region: str = "eu-central-1"
    account_id: str = ACCOUNT_ID
    access_key_id: str = field(default_factory=lambda: "ASIA" + secrets.token_hex(8).upper())
    secret_access_key: str = field(default_factory=lambda: secrets.token_urlsafe(30), repr=False)
    session_token: str = field(default_factory=lambda: secrets.token_urlsafe(60), repr=False)
    owner: Credentials = field(default_factory=_draw_owner)

    @property
    def keyring(self) -> tuple[Credentials, Credentials]:
        """The credentials that may sign a request: the functions' and the owner's."""
        return Credentials(self.access_key_id, self.secret_access_key, self.session_token), self.owner

    def login(self) -> dict[str, str]:
        """Return the settings for a client of the owner, as they are written to run.json."""
        return {
            "aws_access_key_id": self.owner.access_key,
            "aws_secret_access_key": self.owner.secret_key,
            "aws_region": self.region,
        }

    @classmethod
    def of_run(cls, env: Mapping[str, str], secret: Callable[[str], str]) -> "Account":
        """Take the region from the shell, and nothing else: real credentials never reach a local function.

        A value that is not a region is ignored, since no AWS client could be built with it. *secret* keeps the owner's
        keys from run to run.
        """
        named = (env.get(name, "") for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
        owner = Credentials("AKIA" + secret("aws_access_key_id")[:16].upper(), secret("aws_secret_access_key"))
        return cls(region=next(filter(_REGION.fullmatch, named), "eu-central-1"), owner=owner)

    def function_arn(self, name: str) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account_id}:function:{name}"
