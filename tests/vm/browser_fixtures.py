"""A person with a browser: its window, and what is done in it.

The pictures in ``docs/images`` are made of the same steps: ``HUBSMITH_PICTURES=docs/images scripts/test …``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_fixtures import KERNEL, SPAWN
from people import PASSWORD
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hubsmith.vm.waits import scaled

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
#: Milliseconds for a page of the hub, for JupyterLab with its megabytes of scripts, and for a server to start.
PAGE, LAB, START = (1000 * scaled(seconds) for seconds in (60, 240, SPAWN))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium. Playwright cannot be started twice at a time, as two folders' fixtures would."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Window:
    """A browser window of somebody who has never been here: no cookies; keeps an eye on where it connects to."""

    def __init__(self, browser: Browser, base: str) -> None:
        self.base = base
        self.context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 800})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PAGE)
        self.strangers: list[str] = []
        self.page.on("request", lambda request: self._look(request.url))
        self.page.on("websocket", lambda socket: self._look(socket.url))

    def _look(self, url: str) -> None:
        if not url.startswith((self.base, self.base.replace("https", "wss"), "data:", "blob:", "about:")):
            self.strangers.append(url)

    def log_in(self, name: str, password: str = PASSWORD) -> Page:
        """Fill in the form."""
        self.page.goto(self.base)
        self.page.fill("#username_input", name)
        self.page.fill("#password_input", password)
        self.page.click("#login_submit")
        return self.page

    def lab(self, name: str, password: str = PASSWORD) -> Page:
        """Log in and wait for JupyterLab's launcher."""
        page = self.log_in(name, password)
        page.wait_for_url(f"**/user/{name}/lab**", timeout=START)
        page.wait_for_selector(".jp-Launcher", timeout=LAB)
        return page

    def compute(self, code: str, result: str) -> None:
        """Type a line into a new notebook, run it, and wait for what comes of it."""
        page = self.page
        page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
        cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
        # JupyterLab takes the focus for itself until the kernel is there; what is typed earlier goes nowhere.
        page.get_by_role("button", name="Python 3 (ipykernel) | Idle").wait_for(timeout=1000 * scaled(KERNEL))
        cell.click()
        page.keyboard.type(code)
        expect(cell).to_have_text(code)
        page.keyboard.press("Shift+Enter")
        expect(page.locator(".jp-OutputArea-output pre").first).to_have_text(result, timeout=1000 * scaled(KERNEL))

    def close(self) -> None:
        """End it.

        :raises AssertionError: a page wanted something from elsewhere.
        """
        self.context.close()
        assert self.strangers == [], "the pages need nothing from elsewhere"


def picture(page: Page, name: str) -> None:
    """Keep a picture for the documentation, when one is asked for."""
    if folder := os.environ.get("HUBSMITH_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
