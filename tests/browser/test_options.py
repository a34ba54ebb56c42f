"""Twenty options, on the pages that usually have two."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.browser.visitors import LAPTOP, PHONE, PROJECTOR, Visitors, card, scrolls_sideways, watch
from tests.stack import Stack, running, wait_for
from voting.vote import CHOICES

QUESTION = "</h1><img src=x onerror=alert(1)> ${token} Where do we eat?"
LABELS = [
    *("Thai", "Pizza from the place around the corner", "كلاب وقطط صغيرة\u202e", "\u200f🐈\u200d⬛ 🍕", "<b>bold</b>"),
    *("W" * 100, "日本語のとても長い選択肢です" * 7, "\"quoted\" & 'single'", "${label} $x"),
    *(f"Option {number}" for number in range(10, 21)),
]
SIZES = [(320, 568), PHONE, LAPTOP, PROJECTOR]


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system with a question and twenty options."""
    shell = {"QUESTION": QUESTION, "OPTIONS": "|".join(LABELS)}
    with running(tmp_path_factory.mktemp("twenty") / "state", "--no-reload", shell=shell) as stack:
        yield stack


def votes(stack: Stack) -> dict[str, int]:
    return {option["id"]: option["votes"] for option in stack.results()["options"]}


def is_on_top(page: Page, choice: str) -> bool:
    """Whether a click in the middle of the option's button reaches the button."""
    script = """button => {
        button.scrollIntoView({block: "center"});
        const box = button.getBoundingClientRect();
        return button.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
    }"""
    return bool(card(page, choice).evaluate(script))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}")
def test_every_option_can_be_reached_and_nothing_scrolls_sideways(
    twenty: Stack, visit: Visitors, size: tuple[int, int]
) -> None:
    voter = visit(twenty.http, size)
    assert voter.locator("button[name=vote]").count() == 20
    for choice in CHOICES:
        assert is_on_top(voter, choice), choice
        box = card(voter, choice).bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert 0 <= box["x"] <= box["x"] + box["width"] <= size[0]
    assert not scrolls_sideways(voter)
    screen = watch(visit, twenty.http, size)
    assert screen.locator(".option:visible").count() == screen.locator(".own:visible").count() == 20
    assert not scrolls_sideways(screen)


@pytest.mark.parametrize("size", [PHONE, PROJECTOR], ids=lambda size: f"{size[0]}")
def test_a_voter_can_go_through_all_options(twenty: Stack, visit: Visitors, size: tuple[int, int]) -> None:
    twenty.empty()
    voter = visit(twenty.http, size)
    for choice, label in zip(CHOICES, LABELS, strict=True):
        card(voter, choice).click()
        expect(voter.locator("#status")).to_have_text(f"Your vote for {label} was received.")
        expect(card(voter, choice)).to_have_attribute("aria-pressed", "true")
        assert not scrolls_sideways(voter)
    expect(voter.locator('[aria-pressed="true"]')).to_have_count(1)
    wait_for(lambda: votes(twenty) == dict.fromkeys(CHOICES, 0) | {"t": 1}, "the last vote to be counted")


def test_each_option_can_be_voted_for_and_its_count_is_seen_live(twenty: Stack, visit: Visitors) -> None:
    twenty.empty()
    screen = watch(visit, twenty.http, PROJECTOR, reduced_motion="reduce")
    for choice in CHOICES:
        voter = visit(twenty.http, PHONE)
        card(voter, choice).click()
        expect(voter.locator("#status")).to_have_attribute("data-state", "received")
        expect(voter.locator("#status")).to_be_in_viewport()
        voter.context.close()
    for choice in CHOICES:
        expect(screen.locator(f"#votes-{choice}")).to_have_text("1")
        expect(screen.locator(f"#own-{choice}")).to_have_attribute("width", "5%")
    expect(screen.locator("#total")).to_have_text("20")
    assert screen.locator('[data-leads="true"] .lead:visible').all_inner_texts() == ["Tied"] * 20
    card(visit(twenty.http), "t").click()
    expect(screen.locator("#results")).to_have_attribute("data-leader", "t")
    assert screen.locator(".lead:visible").all_inner_texts() == ["Leading"]
    assert screen.title() == f"21 votes · {QUESTION}"


def test_twenty_options_do_their_job_without_javascript(twenty: Stack, visit: Visitors) -> None:
    twenty.empty()
    voter = visit(twenty.http, PHONE, java_script_enabled=False)
    for choice in ("t", "k", "g"):
        card(voter, choice).click()
        expect(card(voter, choice)).to_have_attribute("aria-pressed", "true")
        expect(voter.locator("#status")).to_have_text(f"Your vote for {LABELS[CHOICES.index(choice)]} was received.")
        expect(voter.locator("#status")).to_be_in_viewport()
    wait_for(lambda: votes(twenty)["g"] == 1, "the last vote to be counted")
    screen = visit(f"{twenty.http}/results", PHONE, java_script_enabled=False)
    expect(screen.locator("#votes-g")).to_have_text("1")
    expect(screen.locator("#own-g")).to_have_attribute("width", "100.0%")
    expect(screen.locator("#own-t")).to_have_attribute("width", "0.0%")
    assert not scrolls_sideways(screen)


def test_hostile_questions_and_labels_are_only_text(twenty: Stack, visit: Visitors) -> None:
    for page in (visit(twenty.http), watch(visit, twenty.http)):
        assert page.locator("img").count() == page.locator("main b:not(#total)").count() == 0
        expect(page.locator("h1")).to_have_text(QUESTION)
        assert page.locator("h1").count() == 1
        shown = page.locator("form .label, h2.label span").all_text_contents()
        assert shown == LABELS
    assert twenty.results()["question"] == QUESTION


def test_the_keyboard_goes_through_all_options_and_none_hides_behind_the_footer(twenty: Stack, visit: Visitors) -> None:
    voter = visit(twenty.http, PHONE)
    card(voter, "a").click()
    expect(voter.locator("#status")).to_have_attribute("data-state", "received")
    card(voter, "a").focus()
    for choice in CHOICES[1:]:
        voter.keyboard.press("Tab")
        expect(card(voter, choice)).to_be_focused()
        box, footer = card(voter, choice).bounding_box(), voter.locator("footer").bounding_box()
        assert box is not None
        assert footer is not None
        assert box["y"] < footer["y"]
    voter.keyboard.press("Enter")
    expect(voter.locator("#status")).to_contain_text("Option 20 was received")


def test_a_page_that_was_open_before_the_options_changed_shows_the_new_ones(
    fresh: Stack, unforgiving: Visitors
) -> None:
    screen = unforgiving("", reduced_motion="reduce")
    sockets: list[WebSocketRoute] = []

    def serve(socket: WebSocketRoute) -> None:
        sockets.append(socket)

    screen.route_web_socket("**/live", serve)
    screen.goto(f"{fresh.http}/results")
    wait_for(lambda: screen.evaluate("1") and sockets, "the page to connect")

    def send(version: int, labels: list[str], question: str | None) -> None:
        options = [
            {"id": choice, "label": label, "votes": place, "percent": 10.0 * place}
            for place, (choice, label) in enumerate(zip(CHOICES, labels, strict=False))
        ]
        total = sum(range(len(labels)))
        asked = {} if question is None else {"question": question}
        sockets[-1].send(
            json.dumps({"type": "results", "version": version, "total": total, **asked, "options": options})
        )

    send(1, ["Thai", "Pizza", "<b>Salad", "Soup"], "Lunch?")
    expect(screen.locator("h1")).to_have_text("Lunch?")
    assert screen.locator(".label:visible").all_inner_texts() == ["Thai", "Pizza", "<b>Salad", "Soup"]
    for place, choice in enumerate("abcd"):
        expect(screen.locator(f"#votes-{choice}")).to_have_text(str(place))
        expect(screen.locator(f"#own-{choice}")).to_have_attribute("width", f"{10 * place}%")
    assert screen.locator(".lead:visible").all_inner_texts() == ["Leading"]
    expect(screen).to_have_title("6 votes · Lunch?")
    assert screen.get_by_role("region", name="<b>Salad").count() == 1
    send(2, ["Thai", "Pizza", "Salad"], None)
    expect(screen.locator("h1")).to_have_text("Results")
    send(3, ["Cats", "Dogs"], None)
    expect(screen.locator("h1")).to_have_text("Cats or Dogs?")
    expect(screen.locator(".option")).to_have_count(2)
    expect(screen.locator(".own").first).to_be_hidden()
    expect(screen.locator("#bar-b")).to_have_attribute("width", "10%")
    expect(screen.locator(".bar")).to_be_visible()
    expect(screen).to_have_title("0 : 1 · Cats or Dogs?")
