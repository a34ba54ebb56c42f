"""The keys of cookies of a stack: where they are kept, and how a new one comes in without a voter being lost.

While traffic moves, both versions answer the same voter. So all must verify a new key before any signs with it.
"""

from collections.abc import Sequence

from votectl.rotation.stack import NotUpdated, Stack
from votectl.terminal import say

PARAMETER = "CookieKeys"


class CookieKeys:
    """The keys of one stack: in its own secret, or, where they were given, in its parameter `CookieKeys`."""

    def __init__(self, stack: Stack) -> None:
        """Raises: Unanswered: CloudFormation did not answer."""
        self._stack = stack
        self._account = stack.account
        self._secret = stack.resource("CookieSecret")

    def read(self) -> list[str]:
        """Return the keys, that which signs first.

        Raises:
            NotUpdated, Unanswered: they cannot be read.
        """
        text = self._of_function() if self._secret is None else self._of_secret(self._secret)
        return [key.strip() for key in text.split(",")]

    def deploy(self, keys: Sequence[str]) -> None:
        """Have every function work with *keys*; if that fails, the keys are as they were.

        Raises:
            NotUpdated, Unanswered: it failed.
        """
        value = ",".join(keys)
        if self._secret is None:
            self._stack.update({PARAMETER: value})
            return
        self._stack.require_changeable()  # an update under way might read what is put there for a moment
        before = ",".join(self.read())
        self._put(self._secret, value)
        try:
            self._stack.update({})
        except NotUpdated:  # and not where AWS stopped answering: the update may well succeed
            # CloudFormation goes back to the former parameters, and knows nothing of what a secret held.
            self._put(self._secret, before)
            raise

    def _of_secret(self, secret: str) -> str:
        text: str = self._account.ask("secretsmanager", "get_secret_value", SecretId=secret)["SecretString"]
        return text

    def _of_function(self) -> str:
        """A parameter that is not shown can be read where it is used, by who may decrypt with the stack's key."""
        name = self._stack.resource("VoteFunction")
        if name is None:
            where = f"{self._stack.name} in {self._account.region}"
            raise NotUpdated(f"There is no stack {where}, or it is not one of ours: it has no VoteFunction.")
        found = self._account.ask("lambda", "get_function_configuration", FunctionName=name).get("Environment", {})
        if "COOKIE_KEYS" not in found.get("Variables", {}):
            said = found.get("Error", {}).get("Message", "it has none")
            raise NotUpdated(f"The keys cannot be read from the function vote (kms:Decrypt is needed): {said}")
        text: str = found["Variables"]["COOKIE_KEYS"]
        return text

    def _put(self, secret: str, value: str) -> None:
        self._account.ask("secretsmanager", "put_secret_value", SecretId=secret, SecretString=value)


def add(keys: CookieKeys, key: str) -> None:
    """Bring in *key*: first all functions verify it, then it signs.

    Raises:
        NotUpdated: a step failed; the message of the second says how to go on.
    """
    now = keys.read()
    if key in now:
        raise NotUpdated("This key is one of the stack's already.")
    say("Step 1 of 2: every version learns to verify the new key.")
    keys.deploy([*now, key])
    say("Step 2 of 2: the new key signs.")
    promote(keys)


def promote(keys: CookieKeys) -> None:
    """Have the last key sign, which all verify already.

    Raises:
        NotUpdated: it failed.
    """
    *others, last = keys.read()
    try:
        keys.deploy([last, *others])
    except NotUpdated as error:
        raise NotUpdated(f"{error}\nThe new key verifies and does not sign yet: go on with --promote.") from error


def drop_old(keys: CookieKeys) -> int:
    """Leave the key that signs; return how many went.

    Raises:
        NotUpdated: it failed, or there is none to drop.
    """
    first, *others = keys.read()
    if not others:
        raise NotUpdated("There is one key only.")
    keys.deploy([first])
    return len(others)
