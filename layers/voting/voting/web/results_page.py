"""The values in the template of the live results page. They are correct without JavaScript."""

from voting.results.results import Option, Results
from voting.web.page import Page, type_size


def render_results(page: Page, results: Results, websocket_url: str) -> str:
    """The page with *results*; its script subscribes to later ones at *websocket_url*."""
    best = max(option.votes for option in results.options)
    leaders = [option.id for option in results.options if option.votes == best]
    values: dict[str, object] = {
        "total": f"{results.total:,}",
        "noun": "vote" if results.total == 1 else "votes",
        "standing": standing(results),
        "version": results.version,
        "websocket": websocket_url,
        "size": type_size(option.label for option in results.options),
        "stale": "" if results.stale_seconds is None else results.stale_seconds,
        "age": age(results.stale_seconds or 0),
        "leader": leaders[0] if len(leaders) == 1 else "",
    }
    for option in results.options:
        values |= _figures(option)
    return page.render(**values)


def standing(results: Results) -> str:
    """The standing: empty, tie or ahead. results.js computes the same."""
    if not results.total:
        return "empty"
    return "tie" if len({option.votes for option in results.options}) == 1 else "ahead"


def age(seconds: int) -> str:
    """The age of the results in a readable unit. results.js computes the same."""
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _figures(option: Option) -> dict[str, object]:
    whole, tenth = f"{option.percent:.1f}".split(".")
    return {
        f"label_{option.id}": option.label,
        f"votes_{option.id}": f"{option.votes:,}",
        f"noun_{option.id}": "vote" if option.votes == 1 else "votes",
        f"percent_{option.id}": f"{option.percent:.1f}",
        f"whole_{option.id}": whole,
        f"tenth_{option.id}": tenth,
    }
