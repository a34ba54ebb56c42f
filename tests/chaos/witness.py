"""What people see of a count that stands still: `/health`, and the badge of a results page in a real browser."""

import httpx
from playwright.async_api import Browser, Page, Playwright, async_playwright

from tests.chaos.patience import until
from tests.chaos.standstill import Said
from tests.chromium import arguments, executable

DRAWN_WITHIN_S = 20.0
COUNTING = {"ok": Said.COUNTING, "stalled": Said.STALLED, "unknown": Said.STALLED}  # unknown: Redis is away
STATES = {"live": Said.COUNTING, "stale": Said.STALLED, "waiting": Said.STALLED, "offline": Said.STALLED}


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

    async def health(self) -> Said:
        """What a monitor takes from `/health`: that it does not answer is an alarm as well."""
        try:
            answer = await self._http.get(f"{self._url}/health")
        except httpx.TransportError:
            return Said.STALLED
        try:
            counting = COUNTING[answer.json()["counting"]]
        except (ValueError, KeyError):  # the gateway's own answer, where the function gave none
            counting = Said.STALLED
        if answer.status_code == 200:
            return counting if counting is Said.COUNTING else Said.UNCLEAR
        return counting if counting is Said.STALLED else Said.UNCLEAR

    async def badge(self) -> Said:
        """What the colour of the badge says."""
        assert self._page is not None
        return STATES.get(await self._page.get_attribute("#badge", "data-state") or "", Said.UNCLEAR)

    async def _is_live(self) -> bool:
        return await self.badge() is Said.COUNTING
