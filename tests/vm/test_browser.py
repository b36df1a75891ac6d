"""A person with a browser, from the login page to a result and out again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser_fixtures import Window, picture
from hub_fixtures import Hub
from people import PASSWORD, WRONG
from playwright.sync_api import Browser, expect

pytestmark = [pytest.mark.vm, pytest.mark.modules("jupyterhub")]


@pytest.fixture
def window(browser: Browser, hub: Hub) -> Iterator[Window]:
    """One window."""
    window = Window(browser, hub.machine.url)
    yield window
    window.close()


def test_log_in_compute_and_log_out(window: Window) -> None:
    window.page.goto(window.base)
    expect(window.page.locator("#username_input")).to_be_focused()
    picture(window.page, "login")
    page = window.lab("alice")
    window.compute("5 * 4", "20")
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
