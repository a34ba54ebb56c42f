"""HTML pages that load in one request: style and script are inline, and the policy allows no others."""

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from string import Template

LONGEST_LARGE_LABEL = 16
SHARED = Path(__file__).parent / "pages"  # the style of all pages


class Page:
    """A page made of the files *name*.html, .css and .js in one folder, which are read once.

    Style and script are optional; the shared style comes before the page's own.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._template = Template((folder / f"{name}.html").read_text())
        self._style = (SHARED / "shared.css").read_text() + _text(folder / f"{name}.css")
        self._script = _text(folder / f"{name}.js")

    def render(self, **values: object) -> str:
        """Fill in *values*. All of them are escaped: they are text and attribute values, never markup."""
        from html import escape  # noqa: PLC0415 - it knows the names of 2,000 characters, and most answers are no page

        escaped = {name: escape(str(value), quote=True) for name, value in values.items()}
        return self._template.substitute(escaped, style=self._style, script=self._script)

    def policy(self, *connect: str) -> str:
        """The Content-Security-Policy: it allows this style, this script, and requests to our own origin and *connect*.

        A hash allows the exact text of one element. See CSP Level 3, section 8.4.
        """
        return "; ".join(
            (
                "default-src 'none'",
                f"style-src {_source(self._style)}",
                f"script-src {_source(self._script)}" if self._script else "script-src 'none'",
                "img-src data:",
                " ".join(("connect-src 'self'", *connect)),
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )


def type_size(labels: Iterable[str]) -> str:
    """The type size for *labels*, as a class of the style: a long label must not fill the screen of a phone."""
    return "long" if max(map(len, labels)) > LONGEST_LARGE_LABEL else "short"


@cache
def error_page() -> Page:
    """The page that reports an error to a person."""
    return Page(SHARED, "error")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _source(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
