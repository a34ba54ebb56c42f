"""Where a request comes from: another site must not vote with its visitors' cookies."""

from voting.web.errors import Refusal
from voting.web.request import Request, normal_origin


def require_own_site(request: Request, allowed: frozenset[str]) -> None:
    """Let pass what our own pages, the *allowed* origins or programs send.

    Sec-Fetch-Site decides where present (the browser sets it and no script can), else Origin. With neither it is no
    browser, and carries nobody's cookies but its own. See the Fetch Metadata specification, section 2.4.

    Raises:
        Refusal: 403 cross_site.
    """
    origin = request.headers.get("origin")
    if origin is not None and normal_origin(origin) in map(normal_origin, allowed):
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        permitted = site.strip().lower() in {"same-origin", "none"}
    else:
        permitted = origin is None or normal_origin(origin) == request.origin
    if not permitted:
        raise Refusal(403, "cross_site", "This vote was sent from another site. Vote on the voting page itself.")
