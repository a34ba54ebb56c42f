"""The settings of all functions, read from the environment on first use and never at import."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from voting.address import (
    database_fault,
    is_host,
    normal_origin,
    origin_fault,
    passwords,
    redis_fault,
    web_fault,
)
from voting.question import LONGEST_QUESTION, Question, labels_fault, labels_of

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})
SHORTEST_COOKIE_KEY = 16
SHORTEST_SECRET = 4  # that is hidden in the log: a shorter one would be part of ordinary words
WITH_PASSWORD = ("REDIS_URL", "DATABASE_URL", "HTTP_URL", "WEBSOCKET_URL")
SECRET = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class InvalidSetting(Exception):
    """An environment variable is missing or malformed; the message names it and says what is expected."""


class Settings(NamedTuple):
    """The operator's settings. A function reads only those that its part of template.yaml declares."""

    env: Mapping[str, str]

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        return cls(dict(env))  # os.environ encodes and decodes at each access, and every request makes several

    @property
    def redis_url(self) -> str:
        return self._url("REDIS_URL", redis_fault, "redis", "rediss", "unix")

    @property
    def database_url(self) -> str:
        """DATABASE_URL; without one, the URL of DATABASE_HOST, _PORT and _NAME, with no user or password in it."""
        if self._optional("DATABASE_URL"):
            return self._url("DATABASE_URL", database_fault, "postgresql", "postgres")
        host = self._required("DATABASE_HOST", "a host name, or DATABASE_URL in its place")
        if not is_host(host):  # it may be a URL with a password
            raise InvalidSetting("DATABASE_HOST is not the name of a host; put a URL into DATABASE_URL")
        host = f"[{host.strip('[]')}]" if ":" in host else host
        port = self._integer("DATABASE_PORT", 5432, least=1)
        return f"postgresql://{host}:{port}/{quote(self._optional('DATABASE_NAME') or 'postgres', safe='')}"

    @property
    def database_secret_arn(self) -> str | None:
        """The Secrets Manager secret with the keys `username` and `password`; None where the URL carries them."""
        return self._optional("DATABASE_SECRET_ARN") or None

    @property
    def database_owner_secret_arn(self) -> str | None:
        """The secret of the login that installs and makes the others; None where all functions have one login."""
        return self._optional("DATABASE_OWNER_SECRET_ARN") or None

    @property
    def database_worker_secret_arn(self) -> str:
        return self._required("DATABASE_WORKER_SECRET_ARN", "the secret of the worker's login")

    @property
    def database_reader_secret_arn(self) -> str:
        return self._required("DATABASE_READER_SECRET_ARN", "the secret of the login of result and ws_connect")

    @property
    def database_sslrootcert(self) -> str | None:
        return self._optional("DATABASE_SSLROOTCERT") or None

    @property
    def question(self) -> Question:
        """The question and its options: those of OPTIONS, or the two of OPTION_A and OPTION_B."""
        text = self._optional("QUESTION")
        if len(text) > LONGEST_QUESTION:
            raise InvalidSetting(f"QUESTION has {len(text)} characters: it takes at most {LONGEST_QUESTION}")
        options = self._optional("OPTIONS")
        if not options:
            return Question.of(text, [self._optional("OPTION_A") or "Cats", self._optional("OPTION_B") or "Dogs"])
        labels = labels_of(options)
        if found := labels_fault(labels):
            raise InvalidSetting(f"OPTIONS {found}")
        return Question.of(text, labels)

    @property
    def cookie_keys(self) -> tuple[bytes, ...]:
        """The keys of cookies: the first one signs, all verify."""
        keys = self._required("COOKIE_KEYS", "comma-separated keys of 16 characters or more").split(",")
        if any(len(key.strip()) < SHORTEST_COOKIE_KEY for key in keys):
            raise InvalidSetting(f"COOKIE_KEYS: each key needs at least {SHORTEST_COOKIE_KEY} characters")
        return tuple(key.strip().encode() for key in keys)

    @property
    def accept_legacy_ids(self) -> bool:
        """Whether ids of the container app are accepted, which are neither signed nor hard to guess."""
        return self._boolean("ACCEPT_LEGACY_IDS")

    @property
    def accept_old_cookies(self) -> bool:
        """Whether cookies without the prefix `__Host-`, as earlier versions set them, are accepted over HTTPS too."""
        return self._boolean("ACCEPT_OLD_COOKIES", default="true")

    @property
    def confirm_by_replica(self) -> bool:
        """Whether a vote is accepted only once a replica of Redis has it, so that no failover can lose it."""
        return self._boolean("CONFIRM_BY_REPLICA")

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Further origins whose pages may vote and subscribe, in the spelling of `normal_origin`."""
        listed = [origin.strip() for origin in self.env.get("ALLOWED_ORIGINS", "").split(",")]
        for number, origin in enumerate(listed, 1):
            if origin and origin_fault(origin.lower()):
                raise InvalidSetting(
                    f"ALLOWED_ORIGINS: number {number} is not an origin such as https://vote.example.org"
                )
        return frozenset(normal_origin(origin) for origin in listed if origin)

    @property
    def http_url(self) -> str:
        """The origin of our own pages, which may subscribe without being listed, in the spelling of `normal_origin`."""
        url = self._required("HTTP_URL", "a URL (http://, https://)")
        if found := origin_fault(url):
            raise InvalidSetting(f"HTTP_URL {found}")
        return normal_origin(url)

    @property
    def websocket_url(self) -> str:
        """The URL that subscribers connect to, including the stage."""
        return self._url("WEBSOCKET_URL", web_fault, "ws", "wss").rstrip("/")

    @property
    def region(self) -> str:
        """The region for which requests to AWS are signed; Lambda sets it."""
        return self._required("AWS_REGION", "a region such as eu-central-1")

    @property
    def prefers_ipv6(self) -> bool:
        """Whether AWS is asked for addresses of both families, because IPv4 may lead nowhere from here."""
        return self._boolean("AWS_USE_DUALSTACK_ENDPOINT")

    @property
    def max_body_bytes(self) -> int:
        return self._integer("MAX_BODY_BYTES", 16384, least=1)

    @property
    def broadcast_function(self) -> str:
        return self._required("BROADCAST_FUNCTION", "the name of the function ws_broadcast")

    @property
    def ops_function(self) -> str:
        return self._required("OPS_FUNCTION", "the name of the function ops")

    @property
    def vote_version(self) -> str | None:
        """The new version of `vote` that a deployment is to be tried with; None where it is none of its concern."""
        return self._optional("VOTE_VERSION") or None

    @property
    def result_version(self) -> str | None:
        return self._optional("RESULT_VERSION") or None

    @property
    def ws_connect_version(self) -> str | None:
        return self._optional("WS_CONNECT_VERSION") or None

    @property
    def broadcast_interval_ms(self) -> int:
        """The least time between two broadcasts; docs/decisions/0027-interval.md says why this default."""
        return self._integer("BROADCAST_INTERVAL_MS", 250, least=50, most=60_000)

    @property
    def broadcast_messages_per_s(self) -> int:
        return self._integer("BROADCAST_MESSAGES_PER_S", 4000, least=1)

    @property
    def batch_votes(self) -> int:
        return self._integer("BATCH_VOTES", 20000, least=1)

    @property
    def batch_bytes(self) -> int:
        return self._integer("BATCH_BYTES", 8 * 1024 * 1024, least=1)

    @property
    def dead_letters(self) -> int:
        """How many dead letters there may be before the oldest invalid messages are dropped."""
        return self._integer("DEAD_LETTERS", 100_000, least=1)

    @property
    def dead_letter_bytes(self) -> int:
        """Total bytes of the dead letters before the oldest invalid messages are shortened."""
        return self._integer("DEAD_LETTER_BYTES", 64 * 1024 * 1024, least=1)

    @property
    def secrets(self) -> frozenset[str]:
        """Values that must not be printed, in all spellings; also those of malformed settings."""
        found = {key.strip() for key in self.env.get("COOKIE_KEYS", "").split(",")}
        found |= {self.env.get(name, "") for name in SECRET}
        for name in WITH_PASSWORD:
            found |= passwords(self.env.get(name, ""))
        return spellings(found)

    def _optional(self, name: str) -> str:
        """The value of *name*; "" if it is missing or blank."""
        return self.env.get(name, "").strip()

    def _required(self, name: str, what: str) -> str:
        value = self._optional(name)
        if not value:
            raise InvalidSetting(f"{name} is not set: it takes {what}")
        return value

    def _url(self, name: str, fault: Callable[[str, tuple[str, ...]], str | None], *schemes: str) -> str:
        value = self._required(name, f"a URL ({'://, '.join(schemes)}://)")
        if found := fault(value, schemes):  # the value may hold a password, so the message must not
            raise InvalidSetting(f"{name} {found}")
        return value

    def _integer(self, name: str, default: int, *, least: int, most: int | None = None) -> int:
        text = self._optional(name)
        if not text:
            return default
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise InvalidSetting(f"{name} is {text!r}: it takes a whole number {bounds}")
        return value

    def _boolean(self, name: str, default: str = "false") -> bool:
        text = (self._optional(name) or default).lower()
        if text not in TRUE | FALSE:
            raise InvalidSetting(f"{name} is {text!r}: it takes true or false")
        return text in TRUE


def spellings(secrets: Iterable[str]) -> frozenset[str]:
    """Return *secrets* as a URL, Python or JSON spell them, without those too short to tell from ordinary words."""
    spell = (str, lambda text: quote(text, safe=""), quote_plus, lambda text: repr(text)[1:-1])
    return frozenset(form(text) for text in secrets if len(text) >= SHORTEST_SECRET for form in spell)
