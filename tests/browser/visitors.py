"""People who open the pages, each in a browser of their own."""

from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

PHONE, LAPTOP, PROJECTOR = (390, 844), (1280, 800), (1920, 1080)


class Visitors:
    """Opens pages of people who know nothing of each other, and notes what their browsers complain about."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def __call__(self, url: str, size: tuple[int, int] = LAPTOP, **options: Any) -> Page:
        context = self._browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        if url:
            page.goto(url)
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _note(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)


def watch(visit: Visitors, http: str, size: tuple[int, int] = LAPTOP, **options: Any) -> Page:
    """Open the results and wait until they are live."""
    page = visit(f"{http}/results", size, **options)
    expect(page.locator("#badge")).to_have_text("Live")
    return page


def card(page: Page, choice: str) -> Any:
    return page.locator(f"button[value={choice}]")


def scrolls_sideways(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
