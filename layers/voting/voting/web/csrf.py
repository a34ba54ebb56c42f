"""Which pages may vote and subscribe: another site must not act with the cookies of its visitors.

Origins that come from the settings are spelled as `normal_origin` spells them.
"""

import re

from voting.address import normal_origin
from voting.web.errors import HttpError
from voting.web.request import Request, protocol_of

LOCAL_ORIGIN = re.compile(r"(https?)://(?:127\.0\.0\.1|localhost|\[::1\])((?::\d+)?)")


def require_own_site(request: Request, allowed: frozenset[str]) -> None:
    """Accept a vote from our own pages, the *allowed* origins and programs.

    Sec-Fetch-Site decides if it is present (the browser sets it and no script can), else Origin. With neither header
    the client is not a browser, and sends no cookies but its own. See the Fetch Metadata specification, section 2.4.

    Raises:
        HttpError: 403 cross_site.
    """
    origin = request.headers.get("origin")
    if origin is not None and normal_origin(origin) in allowed:
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        permitted = site.strip().lower() in {"same-origin", "none"}
    else:
        permitted = origin is None or normal_origin(origin) == request.origin
    if not permitted:
        raise HttpError(403, "cross_site", "This vote was sent from another site. Vote on the voting page itself.")


def may_connect(origin: str | None, own_pages: str, allowed: frozenset[str], api: str = "") -> bool:
    """Whether a page of *origin* may subscribe: our *own_pages* and the *allowed* origins. Programs always may.

    Most programs send no Origin. Some libraries send the origin of the WebSocket *api* that they connect to. No page
    has that origin: API Gateway serves none there, and answers only under its own names.
    """
    if origin is None:
        return True
    sent = normal_origin(origin)
    return sent in allowed or sent == own_pages or _are_one_loopback(sent, own_pages) or (sent == api and api != "")


def own_origin(domain_name: str, forwarded: str) -> str:
    """The origin of the API that a client reached at *domain_name*; "" if no client may claim it.

    *forwarded* is X-Forwarded-Proto. Only a local run speaks plain HTTP. There the client chooses the name, so only
    loopback names count: a foreign page can point its own name at this machine after it has loaded (DNS rebinding).
    """
    protocol = protocol_of(forwarded)
    origin = normal_origin(f"{protocol}://{domain_name}")
    return origin if domain_name and (protocol == "https" or LOCAL_ORIGIN.fullmatch(origin)) else ""


def _are_one_loopback(one: str, other: str) -> bool:
    """Whether two origins differ at most in their name for this machine: a developer may open any of them."""
    first, second = LOCAL_ORIGIN.fullmatch(one), LOCAL_ORIGIN.fullmatch(other)
    return first is not None and second is not None and first.groups() == second.groups()
