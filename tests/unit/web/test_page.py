import base64
import hashlib
import re
from pathlib import Path

import pytest

from voting.web.page import Page, error_page, type_size

FUNCTIONS = Path(__file__).parents[3] / "functions"


@pytest.mark.parametrize(("folder", "name"), [("vote", "vote"), ("result", "results")])
def test_the_policy_allows_the_very_text_that_is_inlined(folder: str, name: str) -> None:
    page = Page(FUNCTIONS / folder, name)
    html = (FUNCTIONS / folder / f"{name}.html").read_text()
    rendered = page.render(**dict.fromkeys(re.findall(r"\$\{(\w+)\}", html), "x"))
    for element in ("style", "script"):
        [inline] = re.findall(rf"<{element}>(.*?)</{element}>", rendered, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in page.policy()


@pytest.mark.parametrize("page", [*FUNCTIONS.glob("*/*.html")], ids=lambda path: path.stem)
def test_pages_are_one_request_and_hold_nothing_that_the_policy_forbids(page: Path) -> None:
    html = page.read_text()
    assert not re.findall(r"\sstyle=|\son\w+=|<script\s|<link(?! rel=\"icon\" href=\"data:)", html)
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html


def test_values_are_text_wherever_they_stand() -> None:
    html = error_page().render(title="${message}", status="\"'", message="<b>&", request_id="</style>")
    assert "<title>${message}</title>" in html
    assert "&quot;&#x27;" in html
    assert "&lt;b&gt;&amp;" in html
    assert html.count("</style>") == 1


def test_a_part_is_repeated_for_each_item_and_left_out_without_one(tmp_path: Path) -> None:
    (tmp_path / "menu.html").write_text("<!-- each dish -->\n<p>${name}</p>\n<!-- end -->\n${name}\n")
    page = Page(tmp_path, "menu")
    assert page.render({"dish": [{"name": "<b>"}, {"name": "${name} $x"}]}, name="Menu") == (
        "<p>&lt;b&gt;</p>\n<p>${name} $x</p>\nMenu\n"
    )
    assert page.render(name="Menu") == "Menu\n"


def test_connecting_elsewhere_must_be_named() -> None:
    assert "connect-src 'self';" in error_page().policy()
    assert "connect-src 'self' wss://live.example;" in error_page().policy("wss://live.example")


def test_long_labels_are_set_in_smaller_type() -> None:
    assert type_size(["Cats", "Dogs"]) == "short"
    assert type_size(["Cats", "Dogs that are afraid of cats"]) == "long"
