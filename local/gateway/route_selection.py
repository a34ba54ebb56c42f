"""The route selection expression of a WebSocket API: which route a message goes to.

Source: "Working with routes for WebSocket APIs" in the API Gateway developer guide.
"""

import json
import re
from collections.abc import Collection

DEFAULT_ROUTE = "$default"
_EXPRESSION = re.compile(r"\$\{?request\.body\.(?P<path>[A-Za-z0-9_.-]+)\}?\Z")


class RouteSelection:
    """Reads the key of a route from messages in JSON."""

    def __init__(self, expression: str, routes: Collection[str]) -> None:
        """Select among the keys *routes* by *expression*.

        Raises:
            ValueError: *expression* is not `$request.body.<path>`.
        """
        match = _EXPRESSION.match(expression)
        if not match:
            raise ValueError(f"cannot select routes by {expression!r}: only by $request.body.<path>")
        self._path = match["path"].split(".")
        self._routes = routes

    def route_key(self, message: str | bytes) -> str:
        """Return the key that *message* names if there is such a route, else `$default`."""
        if isinstance(message, bytes):
            return DEFAULT_ROUTE
        try:
            value = json.loads(message)
        except (ValueError, RecursionError):  # not JSON, or nested too deeply
            return DEFAULT_ROUTE
        for name in self._path:
            value = value.get(name) if isinstance(value, dict) else None
        known = isinstance(value, str) and not value.startswith("$") and value in self._routes
        return str(value) if known else DEFAULT_ROUTE
