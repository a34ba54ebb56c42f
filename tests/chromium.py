"""Which Chromium the tests drive, and how it is started."""

import os
import shutil

# One without windows first: they are half of the work.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def executable() -> str | None:
    """The browser of the machine; None for Playwright's own."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def arguments() -> list[str]:
    """What it must be told; as root it refuses to run in its sandbox."""
    return ["--no-sandbox"] if os.geteuid() == 0 else []
