"""The hosts that a request may name: loopback names, and those that the command line lists.

A page can point a name of its own at 127.0.0.1 (DNS rebinding). For its visitor's browser, our ports then have the
page's origin, and only the Host shows that. Loopback names are safe: no page from elsewhere has one.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
REFUSAL = "The Host of this request is not served here; --allow-host NAME lists one."


class Hosts:
    """The names that are served."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Serve *names*, which have no port, in addition to loopback names."""
        self._names = frozenset(map(_normal, names))
        self.admits = lru_cache(maxsize=64)(self._admits)  # called for every request, nearly always with the same host

    def _admits(self, host: str) -> bool:
        """Tell whether a Host header of *host* is served, with whatever port."""
        match = _HOST.fullmatch(host)
        return match is not None and (_is_loopback(name := _normal(match[1])) or name in self._names)


def is_name(text: str) -> bool:
    """Tell whether *text* is a host without a port."""
    match = _HOST.fullmatch(text)
    return match is not None and match[1] == text


def _normal(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
