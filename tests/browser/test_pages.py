"""The two pages as people meet them: in a browser, on the whole stack."""

import json
import re
import time

import pytest
from playwright.sync_api import Page, Route, WebSocketRoute, expect

from tests.browser.visitors import LAPTOP, PHONE, PROJECTOR, Visitors, card, scrolls_sideways, watch
from tests.stack import PATIENCE, ROOT, Stack, wait_for
from voting.redis_client import REDIS_TIMEOUT_S

IMAGES = ROOT / "docs" / "images"
A_SECOND = 1000 * PATIENCE
RECONNECTED_S = 15  # three attempts with full jitter, and the polling that follows


def expect_figures(page: Page, a: int, b: int, within_ms: float | None = None) -> None:
    expect(page.locator("#votes-a")).to_have_text(str(a), timeout=within_ms)
    expect(page.locator("#votes-b")).to_have_text(str(b), timeout=within_ms)
    expect(page.locator("#total")).to_have_text(str(a + b), timeout=within_ms)


# ---------------------------------------------------------------- Voting and watching


def test_a_click_moves_the_count_on_another_screen_within_a_second(fresh: Stack, visit: Visitors) -> None:
    screen = watch(visit, fresh.http, PROJECTOR)
    voter = visit(fresh.http)
    expect(screen.locator("#results")).to_have_attribute("data-standing", "empty")
    card(voter, "a").click()
    expect_figures(screen, 1, 0, within_ms=A_SECOND)
    expect(screen.locator(".option.a .percent")).to_have_text("100.0%")
    expect(screen.locator("#bar-a")).to_have_attribute("width", "100%")
    expect(screen.locator(".option.a .lead")).to_be_visible()
    expect(screen.locator(".option.b .lead")).to_be_hidden()
    expect(screen).to_have_title("1 : 0 · Cats or Dogs?")


def test_a_voter_sees_what_was_received_and_may_change_it(fresh: Stack, visit: Visitors) -> None:
    screen = watch(visit, fresh.http)
    voter = visit(fresh.http, PHONE)
    card(voter, "a").click()
    expect(voter.locator("#status")).to_have_text("Your vote for Cats was received.")
    expect(card(voter, "a")).to_have_attribute("aria-pressed", "true")
    expect_figures(screen, 1, 0)
    card(voter, "b").click()
    expect(voter.locator("#status")).to_have_text("Your vote for Dogs was received.")
    expect(card(voter, "a")).to_have_attribute("aria-pressed", "false")
    expect_figures(screen, 0, 1)
    voter.reload()
    expect(card(voter, "b")).to_have_attribute("aria-pressed", "true")
    expect(card(voter, "b")).to_contain_text("Your choice")
    assert "counted" not in voter.inner_text("body")


def test_the_last_of_many_quick_clicks_wins(fresh: Stack, visit: Visitors) -> None:
    screen = watch(visit, fresh.http)
    voter = visit(fresh.http)
    for choice in "abababab":
        card(voter, choice).click(no_wait_after=True)
    expect(voter.locator("#status")).to_have_text("Your vote for Dogs was received.")
    expect_figures(screen, 0, 1)
    expect(card(voter, "a")).to_have_attribute("aria-pressed", "false")


def test_two_voters_that_differ_are_a_tie(fresh: Stack, visit: Visitors) -> None:
    screen = watch(visit, fresh.http)
    for choice in "ab":
        card(visit(fresh.http), choice).click()
    expect_figures(screen, 1, 1)
    expect(screen.locator(".tie")).to_be_visible()
    expect(screen.locator(".lead").first).to_be_hidden()


def test_the_keyboard_is_enough(fresh: Stack, visit: Visitors) -> None:
    voter = visit(fresh.http)
    voter.keyboard.press("Tab")
    expect(voter.get_by_role("link", name="Live results")).to_be_focused()
    voter.keyboard.press("Tab")
    expect(card(voter, "a")).to_be_focused()
    assert voter.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    voter.keyboard.press("Tab")
    voter.keyboard.press("Space")
    expect(voter.locator("#status")).to_have_text("Your vote for Dogs was received.")
    expect(card(voter, "b")).to_be_focused()
    voter.keyboard.press("Shift+Tab")
    voter.keyboard.press("Enter")
    expect(voter.locator("#status")).to_have_text("Your vote for Cats was received.")


# ---------------------------------------------------------------- Without JavaScript


def test_form_and_results_do_their_job_without_javascript(fresh: Stack, visit: Visitors) -> None:
    voter = visit(fresh.http, PHONE, java_script_enabled=False)
    card(voter, "b").click()
    expect(voter).to_have_url(f"{fresh.http}/")
    expect(voter.locator("#status")).to_have_text("Your vote for Dogs was received.")
    expect(card(voter, "b")).to_have_attribute("aria-pressed", "true")
    wait_for(lambda: fresh.results()["total"] == 1, "the vote to be counted")
    screen = visit(f"{fresh.http}/results", java_script_enabled=False)
    expect_figures(screen, 0, 1)
    expect(screen.locator("#bar-b")).to_have_attribute("width", "100.0%")
    expect(screen.locator("noscript meta[http-equiv=refresh]")).to_have_count(1)
    expect(screen.locator("#badge")).to_be_hidden()


def test_back_and_refresh_never_vote_again(fresh: Stack, visit: Visitors) -> None:
    voter = visit(fresh.http, java_script_enabled=False)
    posts: list[str] = []
    card(voter, "a").click()
    expect(voter.locator("#status")).to_have_text("Your vote for Cats was received.")
    voter.on("request", lambda request: posts.append(request.method) if request.method == "POST" else None)
    voter.reload()
    voter.goto(f"{fresh.http}/results")
    voter.go_back()
    expect(voter.locator("#status")).to_have_text("Your vote for Cats was received.")
    voter.reload()
    expect(voter.locator("#status")).to_have_text("Your vote for Cats was received.")
    assert posts == []


# ---------------------------------------------------------------- When things fail


def test_a_lost_vote_is_not_called_received_and_can_be_sent_again(fresh: Stack, unforgiving: Visitors) -> None:
    screen = watch(unforgiving, fresh.http)
    voter = unforgiving(fresh.http)
    voter.route("**/api/votes", lambda route: route.abort())
    card(voter, "a").click()
    expect(voter.locator("#status")).to_have_attribute("data-state", "failed")
    expect(card(voter, "a")).to_have_attribute("aria-pressed", "false")
    voter.unroute("**/api/votes")
    voter.get_by_role("button", name="Try again").click()
    expect(voter.locator("#status")).to_have_text("Your vote for Cats was received.")
    expect(voter.locator("#retry")).to_be_hidden()
    expect_figures(screen, 1, 0)


def test_a_vote_of_which_nothing_is_known_may_land_before_the_next_is_sent(fresh: Stack, unforgiving: Visitors) -> None:
    voter = unforgiving(fresh.http)
    asked: list[float] = []

    def fail_once(route: Route) -> None:
        asked.append(time.monotonic())
        if len(asked) == 1:  # as API Gateway answers for a function that died
            route.fulfill(status=502, content_type="application/json", body='{"message": "Internal server error"}')
        else:
            route.continue_()

    voter.route("**/api/votes", fail_once)
    card(voter, "a").click()
    expect(voter.locator("#status")).to_contain_text("cannot say whether your vote was received")
    card(voter, "b").click()
    expect(voter.locator("#status")).to_have_text("Your vote for Dogs was received.")
    assert asked[1] - asked[0] > REDIS_TIMEOUT_S


def test_a_browser_without_cookies_is_told_so(fresh: Stack, unforgiving: Visitors) -> None:
    for with_script in (True, False):
        voter = unforgiving(fresh.http, java_script_enabled=with_script)
        voter.context.clear_cookies()
        card(voter, "a").click()
        expect(voter.locator("#status" if with_script else "main")).to_contain_text("Your vote was not recorded")
        expect(voter.locator("#retry")).to_be_hidden()


class Line:
    """The way of one page's sockets, which can be cut."""

    def __init__(self, page: Page) -> None:
        self.is_cut = False
        self.opened = 0
        self._sockets: list[WebSocketRoute] = []
        page.route_web_socket("**/live", self._open)

    def _open(self, socket: WebSocketRoute) -> None:
        self.opened += 1
        if self.is_cut:
            socket.close(code=1011)
            return
        socket.connect_to_server()
        self._sockets.append(socket)

    def cut(self) -> None:
        self.is_cut = True
        for socket in self._sockets:
            socket.close(code=1011)
        self._sockets.clear()


def test_a_cut_socket_is_said_polled_around_and_opened_again(fresh: Stack, unforgiving: Visitors) -> None:
    screen = unforgiving("")
    line = Line(screen)
    screen.goto(f"{fresh.http}/results")
    badge = screen.locator("#badge")
    expect(badge).to_have_text("Live")
    line.cut()
    expect(badge).to_have_text("Reconnecting…")
    expect(badge).to_have_text("Polling every 3 s", timeout=RECONNECTED_S * 1000 * PATIENCE)
    card(unforgiving(fresh.http), "a").click()
    expect_figures(screen, 1, 0)
    line.is_cut = False
    screen.evaluate("dispatchEvent(new Event('online'))")
    expect(badge).to_have_text("Live")
    card(unforgiving(fresh.http), "b").click()
    expect_figures(screen, 1, 1, within_ms=A_SECOND)
    assert line.opened >= 4


def test_a_browser_that_is_offline_says_so(fresh: Stack, unforgiving: Visitors) -> None:
    screen = watch(unforgiving, fresh.http)
    screen.context.set_offline(True)
    expect(screen.locator("#badge")).to_have_text("Offline")
    screen.context.set_offline(False)
    expect(screen.locator("#badge")).to_have_text("Live")


class Scripted:
    """A server that sends what the test says."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.socket: WebSocketRoute | None = None
        self.heard: list[str] = []
        page.route_web_socket("**/live", self._open)

    def _open(self, socket: WebSocketRoute) -> None:
        self.socket = socket
        socket.on_message(lambda text: self.heard.append(json.loads(text)["action"]))

    def has_heard(self, count: int) -> bool:
        """Whether the page, whose clock is the test's, has sent so many messages by now: half a second later."""
        self._page.clock.run_for(500)  # which also lets Playwright deliver what the socket sent
        return len(self.heard) == count

    def refuse(self, fault: dict[str, str]) -> None:
        assert self.socket is not None
        self.socket.send(json.dumps(fault))

    def send(self, version: int, a: int, **more: int) -> None:
        assert self.socket is not None
        options = [{"id": "a", "label": "Cats", "votes": a, "percent": 100.0}]
        options.append({"id": "b", "label": "Dogs", "votes": 0, "percent": 0.0})
        frame = {"type": "results", "version": version, "total": a, "options": options, **more}
        self.socket.send(json.dumps(frame))


@pytest.fixture
def scripted(fresh: Stack, unforgiving: Visitors) -> tuple[Page, Scripted]:
    """A results page whose clock is the test's, subscribed to a scripted server that has not answered yet."""
    screen = unforgiving("")
    server = Scripted(screen)
    screen.clock.install()
    screen.goto(f"{fresh.http}/results")
    hears(screen, server, 1)
    return screen, server


def test_older_frames_are_dropped_but_the_answer_to_a_subscribe_is_the_new_baseline(
    fresh: Stack, unforgiving: Visitors
) -> None:
    screen = unforgiving("")
    server = Scripted(screen)
    screen.goto(f"{fresh.http}/results")
    # Evaluating lets Playwright deliver what the socket sent.
    wait_for(lambda: screen.evaluate("1") and server.heard == ["subscribe"], "the page to subscribe")
    server.send(version=100, a=7)  # far below the version of the table: a restored database
    expect_figures(screen, 7, 0)
    server.send(version=99, a=1)
    server.send(version=101, a=1234, stale_seconds=12)
    expect(screen.locator("#total")).to_have_text("1,234")
    expect(screen.locator("#stale")).to_have_text(re.compile(r"Figures are \d\d s old"))
    server.send(version=102, a=8)
    expect(screen.locator("#stale")).to_be_hidden()
    assert server.socket is not None
    server.socket.close(code=1001)
    wait_for(lambda: screen.evaluate("1") and len(server.heard) == 2, "the page to subscribe again", RECONNECTED_S)
    server.send(version=50, a=3)
    expect_figures(screen, 3, 0)


@pytest.mark.parametrize(
    "fault",
    [
        {"type": "error", "code": "unavailable", "message": "The registry of subscribers does not answer."},
        {"message": "Internal server error", "connectionId": "c=", "requestId": "r="},  # the gateway's own
    ],
    ids=["ours", "the gateway's"],
)
def test_a_subscribe_that_fails_is_polled_around_and_sent_again(
    fresh: Stack, unforgiving: Visitors, fault: dict[str, str]
) -> None:
    card(unforgiving(fresh.http), "a").click()
    screen = unforgiving("")
    server = Scripted(screen)
    screen.clock.install()
    screen.goto(f"{fresh.http}/results")
    for subscribes in (1, 2, 3):
        wait_for(lambda heard=subscribes: server.has_heard(heard), "a subscribe", RECONNECTED_S)
        server.refuse(fault)
    expect(screen.locator("#badge")).to_have_text("Polling every 3 s")
    expect_figures(screen, 1, 0)
    wait_for(lambda: server.has_heard(4), "one more subscribe", RECONNECTED_S)
    server.send(version=2**52, a=2)
    expect(screen.locator("#badge")).to_have_text("Live")


# ---------------------------------------------------------------- When nothing is counted


def hears(page: Page, server: Scripted, subscribes: int) -> None:
    # Evaluating lets Playwright deliver what the socket sent.
    expected = ["subscribe"] * subscribes
    wait_for(lambda: page.evaluate("1") and server.heard == expected, f"the page to have asked {subscribes} times")


def test_figures_that_nobody_confirms_are_not_called_live(fresh: Stack, unforgiving: Visitors) -> None:
    screen = watch(unforgiving, fresh.http)
    badge = screen.locator("#badge")
    assert fresh.local("--stop-store", "postgres").returncode == 0
    try:
        expect(badge).to_have_attribute("data-state", "stale", timeout=30_000 * PATIENCE)
        expect(screen.locator("#state")).to_have_text("Not up to date")
        expect(screen.locator("#stale")).to_contain_text("Figures are ")
        first = screen.locator("#since").inner_text()
        expect(screen.locator("#since")).not_to_have_text(first)  # it grows, though nothing comes
    finally:
        assert fresh.local("--start-store", "postgres").returncode == 0
    expect(badge).to_have_text("Live", timeout=30_000 * PATIENCE)
    expect(screen.locator("#stale")).to_be_hidden()


def test_a_socket_that_has_gone_silent_is_asked_then_said_then_given_up(scripted: tuple[Page, Scripted]) -> None:
    screen, server = scripted
    server.send(version=100, a=7, ping_s=30)
    expect(screen.locator("#badge")).to_have_text("Live")
    screen.clock.run_for(23_000)
    hears(screen, server, 1)  # as often as the frame said, and up to a fifth sooner
    screen.clock.run_for(8_000)
    hears(screen, server, 2)
    server.send(version=100, a=7, ping_s=30)
    screen.clock.run_for(1000)
    expect(screen.locator("#badge")).to_have_text("Live")
    for _ in range(32):
        if len(server.heard) == 2:
            screen.clock.run_for(1_000)
    hears(screen, server, 3)
    screen.clock.run_for(6_000)  # and no answer comes
    expect(screen.locator("#badge")).to_have_attribute("data-state", "waiting")
    expect(screen.locator("#badge")).to_contain_text("No sign of life")
    expect(screen.locator("#since")).to_contain_text(" s")
    screen.clock.run_for(6_000)
    expect(screen.locator("#state")).to_have_text("Reconnecting…")


def test_a_silent_page_asks_for_the_figures_which_no_broadcast_may_have_brought(
    scripted: tuple[Page, Scripted],
) -> None:
    screen, server = scripted
    server.send(version=100, a=7, ping_s=20)
    screen.clock.run_for(20_000)
    hears(screen, server, 2)
    server.send(version=101, a=9, stale_seconds=25, ping_s=20)
    expect(screen.locator("#total")).to_have_text("9")
    expect(screen.locator("#badge")).to_have_text("Not up to date· 25 s")
    screen.clock.run_for(10_000)
    expect(screen.locator("#badge")).to_have_text("Not up to date· 35 s")
    screen.clock.run_for(10_000)
    hears(screen, server, 3)
    server.send(version=101, a=9, ping_s=20)
    expect(screen.locator("#badge")).to_have_text("Live")


def test_a_busy_hall_is_not_asked_while_frames_come_but_registrations_are_kept(
    scripted: tuple[Page, Scripted],
) -> None:
    screen, server = scripted
    for number in range(29):
        server.send(version=100 + number, a=number, ping_s=20)
        screen.clock.run_for(10_000)
    hears(screen, server, 1)
    server.send(version=200, a=1, ping_s=20)
    screen.clock.run_for(11_000)
    hears(screen, server, 2)  # five minutes are over


def test_a_voter_hears_that_counting_is_delayed_and_when_that_is_over(fresh: Stack, unforgiving: Visitors) -> None:
    voter = unforgiving("")
    voter.clock.install()
    stale = {"stale_seconds": 30}
    looks: list[Route] = []

    def answer(route: Route) -> None:
        looks.append(route)
        route.fulfill(json={"version": 1, **stale})

    def look_again() -> None:
        """Let time pass until the page looks; it may set its timer a moment after its last look was answered."""
        before = len(looks)
        wait_for(lambda: voter.clock.run_for(5000) or len(looks) > before, "a look at the results")

    voter.route("**/api/votes", lambda route: route.fulfill(status=202, json={"vote": "a", "counting": "delayed"}))
    voter.route("**/api/results", answer)
    voter.goto(fresh.http)
    card(voter, "a").click()
    expect(voter.locator("#status")).to_have_text(
        "Your vote for Cats was received. Counting is delayed: your vote is kept and will be counted."
    )
    look_again()
    expect(voter.locator("#status")).to_contain_text("Counting is delayed")
    stale.clear()
    status = voter.locator("#status")  # a look that takes long is given up while the time passes, and made again
    wait_for(
        lambda: voter.clock.run_for(5000) or status.inner_text() == "Your vote for Cats was received.",
        "the page to take it back",
    )


# ---------------------------------------------------------------- Every screen, every label


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(320, 568), PHONE, (844, 390), LAPTOP, PROJECTOR], ids=lambda size: f"{size[0]}")
def test_nothing_scrolls_sideways(fresh: Stack, visit: Visitors, size: tuple[int, int], scheme: str) -> None:
    voter = visit(fresh.http, size, color_scheme=scheme)
    for choice in "ab":
        box = card(voter, choice).bounding_box()
        assert box["width"] >= 120
        assert box["height"] >= 120
    assert not scrolls_sideways(voter)
    card(voter, "a").click()
    screen = watch(visit, fresh.http, size, color_scheme=scheme)
    expect(screen.locator(".option.a .percent")).to_have_text("100.0%")
    assert not scrolls_sideways(screen)
    columns = [screen.locator(f".option.{choice} .percent").bounding_box() for choice in "ab"]
    assert columns[0]["x"] + columns[0]["width"] <= columns[1]["x"]


def test_figures_are_huge_on_a_projector(fresh: Stack, visit: Visitors) -> None:
    screen = watch(visit, fresh.http, PROJECTOR)
    assert screen.locator("#whole-a").evaluate("element => parseFloat(getComputedStyle(element).fontSize)") > 200


@pytest.mark.parametrize("size", [PHONE, LAPTOP], ids=lambda size: f"{size[0]}")
def test_hostile_labels_are_only_text(hostile: str, visit: Visitors, size: tuple[int, int]) -> None:
    voter = visit(hostile, size)
    label = card(voter, "a").locator(".label").inner_text()
    assert label.startswith("</script><img src=x onerror=alert(1)> \"q\" 'q' ${label_b} &")
    card(voter, "a").click()
    expect(voter.locator("#status")).to_have_text(f"Your vote for {label} was received.")
    screen = watch(visit, hostile, size)
    expect(screen.locator("#label-a")).to_have_text(label)
    for page in (voter, screen):
        assert page.locator("img").count() == 0
        assert not scrolls_sideways(page)


def test_an_error_is_a_page_with_a_way_back(fresh: Stack, unforgiving: Visitors) -> None:
    page = unforgiving(f"{fresh.http}/nowhere")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not Found")
    page.get_by_role("link", name="Go to the voting page").click()
    expect(page).to_have_title("Cats or Dogs?")


def test_screenshots_for_the_readme(fresh: Stack, visit: Visitors, request: pytest.FixtureRequest) -> None:
    screen = watch(visit, fresh.http, LAPTOP, reduced_motion="reduce")
    voters = [visit(fresh.http, LAPTOP, reduced_motion="reduce") for _ in range(5)]
    for number, voter in enumerate(voters):
        card(voter, "a" if number % 2 == 0 else "b").click()
        expect(voter.locator("#status")).to_have_attribute("data-state", "received")
    expect_figures(screen, 3, 2)
    if request.config.getoption("screenshots"):
        IMAGES.mkdir(parents=True, exist_ok=True)
        voters[0].mouse.move(0, 0)
        voters[0].screenshot(path=IMAGES / "vote.png")
        screen.screenshot(path=IMAGES / "results.png")
