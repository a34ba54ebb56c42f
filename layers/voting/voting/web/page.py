"""HTML pages that load in one request: style and script are inline, and the policy allows no others."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from string import Template

LONGEST_LARGE_LABEL = 16
REPEATED = re.compile(r"<!-- each (\w+) -->\n(.*?)<!-- end -->\n", re.DOTALL)
SHARED = Path(__file__).parent / "pages"  # the style of all pages


class Page:
    """A page made of the files *name*.html, .css and .js in one folder, which are read once.

    Style and script are optional; the shared style comes before the page's own. In the HTML, the lines between
    `<!-- each NAME -->` and `<!-- end -->` are repeated for each item that `render` is given for NAME.
    """

    def __init__(self, folder: Path, name: str) -> None:
        html = (folder / f"{name}.html").read_text()
        self._repeated = {found[1]: Template(found[2]) for found in REPEATED.finditer(html)}
        self._template = Template(REPEATED.sub(r"${each_\1}", html))
        self._style = (SHARED / "shared.css").read_text() + _text(folder / f"{name}.css")
        self._script = _text(folder / f"{name}.js")

    def render(self, each: Mapping[str, Iterable[Mapping[str, object]]] | None = None, **values: object) -> str:
        """Fill in *values*, and by name the items of *each* repeated part; a part without items is left out.

        All values are escaped: they are text and attribute values, never markup.
        """
        parts = {
            f"each_{name}": "".join(part.substitute(_escaped(item)) for item in (each or {}).get(name, ()))
            for name, part in self._repeated.items()
        }
        return self._template.substitute(_escaped(values), **parts, style=self._style, script=self._script)

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


def _escaped(values: Mapping[str, object]) -> dict[str, str]:
    from html import escape  # noqa: PLC0415 - it knows the names of 2,000 characters, and most answers are no page

    return {name: escape(str(value), quote=True) for name, value in values.items()}


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _source(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
