"""The voting page's words, as its template wants them: right before any script has run."""

from collections.abc import Mapping

from voting.page import Page, type_size


def render_voting(page: Page, labels: Mapping[str, str], choice: str | None, token: str) -> str:
    """The page as a voter sees it whose vote for *choice* was received, or who has not voted. vote.js says the same."""
    values: dict[str, object] = {
        "choice": choice or "",
        "token": token,
        "size": type_size(labels.values()),
        "status": f"Your vote for {labels[choice]} was received." if choice else "",
    }
    for option, label in labels.items():
        values |= {
            f"label_{option}": label,
            f"pressed_{option}": "true" if option == choice else "false",
            f"hint_{option}": _hint(option, choice),
        }
    return page.render(**values)


def _hint(option: str, choice: str | None) -> str:
    if choice is None:
        return "Vote"
    return "Your choice" if option == choice else "Change to this"
