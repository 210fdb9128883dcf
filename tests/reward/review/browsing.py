"""Debian's Chromium, driven through Playwright."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright

CHROMIUM = "/usr/bin/chromium"
WITHIN_MS = 120_000.0
"""For a busy machine; nothing waits longer than it has to."""


def chromium(playwright: Playwright) -> Browser:
    """A headless browser; fails with what to install where there is none."""
    path = shutil.which("chromium") or CHROMIUM
    if not Path(path).is_file():
        pytest.fail(
            f"{path} is missing, so the page was not tested in a browser: install the package chromium "
            "(apt-get install chromium, which bootstrap.sh does where it may)."
        )
    # Root may not use the sandbox; the pages are our own.
    return playwright.chromium.launch(
        executable_path=path, args=["--no-sandbox", "--disable-gpu"], timeout=WITHIN_MS
    )


def ready(page: Page) -> None:
    """Wait until the page takes the next key."""
    page.wait_for_function("() => window.armchair?.state && !window.armchair.busy", timeout=WITHIN_MS)


def press(page: Page, key: str) -> None:
    """Press a key and wait for what comes of it."""
    page.keyboard.press(key)
    ready(page)
