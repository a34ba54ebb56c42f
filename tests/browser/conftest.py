"""A real Chromium, and a system with other labels than the common one."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.visitors import Visitors
from tests.chromium import arguments, executable
from tests.stack import FREE_PORTS, PATIENCE, ROOT, START_TIMEOUT_S, STOP_TIMEOUT_S, environment, wait_for

LABELS = {
    "OPTION_A": "</script><img src=x onerror=alert(1)> \"q\" 'q' ${label_b} & 🐈 Donaudampfschifffahrtskapitän",
    "OPTION_B": "كلاب وقطط صغيرة\u202e",  # right to left, with an override that must not leave its element
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of the machine, else Playwright's own; best one without windows, which are half of the work.

    One a module: while Playwright's synchronous API is open, its event loop counts as running in this thread, and the
    asynchronous tests of other modules could start none.
    """
    expect.set_options(timeout=5000 * PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=arguments())
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitors]:
    visitors = Visitors(browser)
    yield visitors
    visitors.close()
    assert visitors.complaints == []


@pytest.fixture
def unforgiving(browser: Browser) -> Iterator[Visitors]:
    """For tests in which the network fails, which browsers report on the console."""
    visitors = Visitors(browser)
    yield visitors
    visitors.close()
    assert [text for text in visitors.complaints if "Content Security Policy" in text or "Error:" in text] == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The HTTP address of a system whose operator was given its labels by an enemy."""
    state_dir = tmp_path_factory.mktemp("hostile") / "state"
    run_file, log_file = state_dir / "run.json", state_dir.with_suffix(".log")
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local", *FREE_PORTS, "--no-reload", "--state-dir", str(state_dir)],
            cwd=ROOT,
            env={**environment(), **LABELS},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(run_file.exists, "run.json", START_TIMEOUT_S)
        yield json.loads(run_file.read_text())["http"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT_S * PATIENCE) == 0, log_file.read_text()
