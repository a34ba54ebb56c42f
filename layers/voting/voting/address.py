"""Checks of the URLs in settings: what is wrong with one, in words that show no part of it.

A URL may hold a password. If one of its characters is not percent-encoded, the rest of the password is parsed as a
host, a port or a path, and the error message of a driver would quote it.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote, urlsplit

ENCODE = "percent-encode the user and the password (# is %23, / is %2F, ? is %3F, @ is %40, % is %25)"

LOOSE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(%25\w+)?\]|[\w.~%-]*)(:(?P<port>\d{1,5})?)?")
DATABASE_NUMBER = re.compile(r"(/\d*)?")
HIGHEST_PORT = 65535
DEFAULT_PORTS = {"http": "80", "https": "443"}
REDIS_OPTION = re.compile(r"db|ssl_\w+")  # other options change what the client returns, or how long it waits


@lru_cache(maxsize=16)
def redis_fault(url: str, schemes: Sequence[str]) -> str | None:
    """Return why redis-py would misread *url*; None if it would not."""
    if fault := _store_fault(url, schemes):
        return fault
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets in the password, or characters that normalize to others; the message quotes them
        return f"cannot be read: {ENCODE}"
    if parts.scheme == "unix":
        return None if parts.path.strip("/") else "names no socket"
    if not parts.hostname:
        return f"names no host: {ENCODE}"
    if not DATABASE_NUMBER.fullmatch(parts.path):
        return f"ends in something other than a database number: {ENCODE}"
    return _option_fault(parts.query)


def _option_fault(query: str) -> str | None:
    names = [option.partition("=")[0] for option in query.split("&") if option]
    if all(map(REDIS_OPTION.fullmatch, names)):
        return None
    return "accepts only the option db and those that begin with ssl_, such as ssl_ca_certs"


@lru_cache(maxsize=16)
def database_fault(url: str, schemes: Sequence[str]) -> str | None:
    """Return why libpq would misread *url*; None if it would not."""
    if fault := _store_fault(url, schemes):
        return fault
    user, _, _ = _authority(url).rpartition("@")
    if "@" in user:  # libpq would end the password at the first @
        return f"has more than one @: {ENCODE}"
    if "%00" in url:
        return "contains %00, which Postgres never accepts"
    return None


@lru_cache(maxsize=64)
def web_fault(url: str, schemes: Sequence[str]) -> str | None:
    """Return what is wrong with *url*, which is public and so must hold no password; None if nothing is."""
    if fault := _scheme_fault(url.lower(), schemes):  # drivers are stricter
        return fault
    authority = _authority(url)
    if "@" in url or "#" in url or _is_spaced(url):
        return "must not contain a user, a password, # or a space"
    if not authority or _host_fault(authority):
        return "names no host, or an invalid port"
    return None


def origin_fault(url: str) -> str | None:
    """Why *url* is not the origin of a web page; None if it is one."""
    if fault := web_fault(url, ("http", "https")):
        return fault
    parts = urlsplit(url)
    return "is not an origin such as https://vote.example.org" if parts.path.strip("/") or parts.query else None


def normal_origin(origin: str) -> str:
    """*origin* in lower case, without a trailing slash or a default port: equal origins become equal strings."""
    origin = origin.strip().rstrip("/:").lower()
    scheme = origin.partition("://")[0]
    return origin.removesuffix(f":{DEFAULT_PORTS[scheme]}") if scheme in DEFAULT_PORTS else origin


def is_host(text: str) -> bool:
    """Whether *text* is the name or the address of a host, and not a URL."""
    return bool(re.fullmatch(r"[\w.~-]+|\[?[0-9A-Fa-f:.]+\]?", text))


def passwords(url: str) -> set[str]:
    """Return every part of *url* that may be a password, even if malformed: up to the last @, and in the query."""
    rest = url.partition("://")[2]
    found = {rest.rpartition("@")[0].partition(":")[2]}
    found |= set(re.findall(r"[?&]\w*password=([^&#]*)", rest))
    return found | {unquote(text) for text in found}


def _store_fault(url: str, schemes: Sequence[str]) -> str | None:
    authority = _authority(url)
    rest = url.partition("://")[2]
    if fault := _scheme_fault(url, schemes) or _spelling_fault(rest):
        return fault
    if "#" in rest or "@" in rest[len(authority) :]:
        return f"contains #, or / or ? before an @: {ENCODE}"
    if any(_host_fault(host) for host in authority.rpartition("@")[2].split(",")):
        return f"has no host, or an invalid port: {ENCODE}"
    return None


def _spelling_fault(text: str) -> str | None:
    if _is_spaced(text):
        return f"contains a space or a control character: {ENCODE}"
    if LOOSE_PERCENT.search(text):
        return f"contains a % without two hexadecimal digits after it: {ENCODE}"
    try:
        unquote(text, errors="strict")
    except UnicodeDecodeError:
        return f"is percent-encoded in something other than UTF-8: {ENCODE}"
    return None


def _scheme_fault(url: str, schemes: Sequence[str]) -> str | None:
    scheme, found, _ = url.partition("://")
    if found and scheme in schemes:
        return None
    return f"is not a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}"


def _authority(url: str) -> str:
    """Return what is between the scheme and the first / or ?, which a password must not contain."""
    return re.split(r"[/?]", url.partition("://")[2], maxsplit=1)[0]


def _host_fault(text: str) -> bool:
    found = HOST.fullmatch(text)
    return found is None or int(found["port"] or 1) not in range(1, HIGHEST_PORT + 1)


def _is_spaced(text: str) -> bool:
    return any(character.isspace() or not character.isprintable() for character in text)
