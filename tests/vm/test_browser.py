"""A person with a browser, from the login page to a result and out again.

The pictures in ``docs/images`` are made of the same steps: ``HUBSMITH_PICTURES=docs/images scripts/test …``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_fixtures import KERNEL, SPAWN, Hub
from people import PASSWORD, WRONG
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hubsmith.vm.waits import scaled

pytestmark = pytest.mark.vm

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
#: Milliseconds for a page of the hub, for JupyterLab with its megabytes of scripts, and for a server to start.
PAGE, LAB, START = (1000 * scaled(seconds) for seconds in (60, 240, SPAWN))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Window:
    """A browser window of somebody who has never been here: no cookies; keeps an eye on where it connects to."""

    def __init__(self, browser: Browser, hub: Hub) -> None:
        self.base = hub.machine.url
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

    def lab(self, name: str) -> Page:
        """Log in and wait for JupyterLab's launcher."""
        page = self.log_in(name)
        page.wait_for_url(f"**/user/{name}/lab**", timeout=START)
        page.wait_for_selector(".jp-Launcher", timeout=LAB)
        return page


@pytest.fixture
def window(browser: Browser, hub: Hub) -> Iterator[Window]:
    """One window."""
    window = Window(browser, hub)
    yield window
    window.context.close()
    assert window.strangers == [], "the pages need nothing from elsewhere"


def picture(page: Page, name: str) -> None:
    """Keep a picture for the documentation, when one is asked for."""
    if folder := os.environ.get("HUBSMITH_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_log_in_compute_and_log_out(window: Window) -> None:
    window.page.goto(window.base)
    expect(window.page.locator("#username_input")).to_be_focused()
    picture(window.page, "login")
    page = window.lab("alice")
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    # JupyterLab takes the focus for itself until the kernel is there; what is typed earlier goes nowhere.
    page.get_by_role("button", name="Python 3 (ipykernel) | Idle").wait_for(timeout=1000 * scaled(KERNEL))
    cell.click()
    page.keyboard.type("5 * 4")
    expect(cell).to_have_text("5 * 4")
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output pre").first
    expect(output).to_have_text("20", timeout=1000 * scaled(KERNEL))
    picture(page, "jupyterlab")
    page.keyboard.press("Control+s")
    page.goto(f"{window.base}/hub/logout")
    expect(page.locator("#password_input")).to_be_visible()
    # Out is out: the server's address leads to the login page, and so does a page from the browser's memory.
    page.goto(f"{window.base}/user/alice/lab")
    expect(page.locator("#password_input")).to_be_visible()


def test_the_wrong_password_is_told_and_lets_nobody_in(window: Window) -> None:
    page = window.log_in("alice", WRONG)
    expect(page.locator(".login_error")).to_have_text("Invalid username or password")
    page.goto(f"{window.base}/hub/home")
    expect(page.locator("#password_input")).to_be_visible()


# What the hub itself answers is in test_hub.py, for every run.
@pytest.mark.slow
def test_the_second_user_sees_neither_server_nor_files_of_the_first(hub: Hub, browser: Browser, window: Window) -> None:
    alice = hub.at_work("alice")
    alice.save("diary.txt", "dear diary")
    page = window.lab("bob")
    expect(page.locator(".jp-DirListing-content")).to_be_visible()
    assert "diary.txt" not in page.content()
    for path in ("/user/alice/lab", "/user/alice/files/diary.txt", "/hub/admin"):
        answer = page.goto(f"{window.base}{path}")
        assert answer is not None
        assert answer.status in (403, 404), path
        assert "dear diary" not in page.content()


def test_the_status_page_tells_that_all_is_well(hub: Hub, window: Window) -> None:
    hub.machine.wait_until(
        "the status to be ready", lambda: "everything is ready" in hub.machine.execute("hubsmith status").stdout, 180
    )
    page = window.page
    page.goto(f"{window.base}/hubsmith/status")
    expect(page.locator("body")).to_contain_text("certificate")
    picture(page, "status")
    for secret in ("alice", "bob", PASSWORD):
        assert secret not in page.content()


def test_pages_of_the_hub_lead_to_the_status(window: Window) -> None:
    window.page.goto(f"{window.base}/hub/login")
    window.page.click("text=Status of this hub")
    window.page.wait_for_url("**/hubsmith/status")
