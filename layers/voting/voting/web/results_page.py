"""The values in the template of the live results page. They are correct without JavaScript."""

from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate

from voting.question import Question
from voting.results.results import Option, Results
from voting.web.heading import heading, layout, title
from voting.web.page import Page


def render_results(page: Page, results: Results, websocket_url: str) -> str:
    """The page with *results*; its script subscribes to later ones at *websocket_url*."""
    question = Question(results.question, {option.id: option.label for option in results.options})
    first = leaders(results)
    votes = " : ".join(f"{option.votes:,}" for option in results.options)
    noun = "vote" if results.total == 1 else "votes"
    return page.render(
        {
            **heading(question),
            "option": [_figures(option, first) for option in results.options],
            "share": _shares(results),
        },
        title=f"{votes if question.is_pair else f'{results.total:,} {noun}'} · {title(question, 'Results')}",
        asked=results.question,
        total=f"{results.total:,}",
        noun=noun,
        standing=standing(results),
        version=results.version,
        websocket=websocket_url,
        layout=layout(question),
        stale="" if results.stale_seconds is None else results.stale_seconds,
        age=age(results.stale_seconds or 0),
        leader=first[0] if len(first) == 1 else "",
    )


def leaders(results: Results) -> list[str]:
    """The ids of the options with the most votes; none without votes. results.js computes the same."""
    most = max(option.votes for option in results.options)
    return [option.id for option in results.options if option.votes == most] if most else []


def standing(results: Results) -> str:
    """The standing: empty, ahead, or tie if several options lead. results.js computes the same."""
    if not results.total:
        return "empty"
    return "tie" if len(leaders(results)) > 1 else "ahead"


def age(seconds: int) -> str:
    """The age of the results in a readable unit. results.js computes the same."""
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _figures(option: Option, first: Collection[str]) -> dict[str, object]:
    whole, tenth = f"{option.percent:.1f}".split(".")
    return {
        "id": option.id,
        "label": option.label,
        "votes": f"{option.votes:,}",
        "noun": "vote" if option.votes == 1 else "votes",
        "percent": f"{option.percent:.1f}",
        "whole": whole,
        "tenth": tenth,
        "leads": "true" if option.id in first else "false",
        "lead": "Leading" if len(first) == 1 else "Tied",
    }


def _shares(results: Results) -> Iterator[Mapping[str, object]]:
    """The options' parts of one bar: where each begins, and its width, in percent."""
    starts = accumulate(option.percent for option in results.options[:-1])
    for option, start in zip(results.options, ("0", *(f"{start:.1f}" for start in starts)), strict=True):
        yield {"id": option.id, "start": start, "percent": f"{option.percent:.1f}"}
