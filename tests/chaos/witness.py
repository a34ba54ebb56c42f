"""What people see of a count that stands still: `/health`, and the badge of a results page in a real browser."""

import httpx
from playwright.async_api import Browser, Page, Playwright, async_playwright

from tests.chaos.patience import until
from tests.chromium import arguments, executable

SAID_WITHIN_S = 30.0
DRAWN_WITHIN_S = 20.0


class Witness:
    """One results page, open for the whole run, and a monitor that asks for `/health`."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(trust_env=False, timeout=30)
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._page: Page | None = None
        self._url = ""

    async def open(self, url: str) -> None:
        """Open the results page of the system at *url*; return once it is live."""
        self._url = url
        self._playwright = await async_playwright().start()
        self._browser = await self._playwright.chromium.launch(executable_path=executable(), args=arguments())
        self._page = await self._browser.new_page(reduced_motion="reduce")
        await self._page.goto(f"{url}/results")
        await until(self._is_live, "the page to be live", DRAWN_WITHIN_S)

    async def close(self) -> None:
        await self._http.aclose()
        if self._browser is not None:
            await self._browser.close()
        if self._playwright is not None:
            await self._playwright.stop()

    async def see_stall(self) -> None:
        """Return once `/health` and the badge both say that nothing is counted.

        Raises:
            Impatient: they did not within 30 s.
        """
        await until(self._health_is_bad, "/health to say that nothing is counted", SAID_WITHIN_S)
        await until(self._is_not_live, "the badge to say that nothing is counted", SAID_WITHIN_S)

    async def see_recovery(self) -> None:
        """Return once both have taken it back.

        Raises:
            Impatient: they did not within 30 s.
        """
        await until(self._health_is_good, "/health to take it back", SAID_WITHIN_S)
        await until(self._is_live, "the badge to take it back", SAID_WITHIN_S)

    async def _health(self) -> dict[str, object]:
        answer = await self._http.get(f"{self._url}/health")
        return {"status_code": answer.status_code, **answer.json()}

    async def _health_is_bad(self) -> bool:
        health = await self._health()
        return health["status_code"] == 503 and health["counting"] == "stalled"

    async def _health_is_good(self) -> bool:
        health = await self._health()
        return health["status_code"] == 200 and health["counting"] == "ok"

    async def _badge(self) -> str | None:
        assert self._page is not None
        return await self._page.get_attribute("#badge", "data-state")

    async def _is_live(self) -> bool:
        return await self._badge() == "live"

    async def _is_not_live(self) -> bool:
        return await self._badge() in {"stale", "waiting", "offline"}
