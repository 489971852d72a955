"""Debian's Chromium, without a window and without any request of its own."""

import shutil
from collections.abc import Iterator

import pytest
from page_server import PageServer
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from champ_jax.app.addresses import API

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

_PATIENCE = 60_000  # milliseconds: the machine may be busy
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def browsers() -> Iterator[Browser]:
    """A browser, to be the body of a fixture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(_ARGUMENTS))
        yield browser
        browser.close()


class Watch:
    """What a page asks for and complains about, from now on.

    Attributes:
      foreign: addresses of other hosts that it asked for.
      complaints: errors of its scripts and in its console.
    """

    def __init__(self, page: Page, url: str):
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        own = (url, "data:", f"blob:{url}")
        page.on("request", lambda request: request.url.startswith(own) or self.foreign.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))


def new_user(browser: Browser, **settings: object) -> BrowserContext:
    """A user, with cookies of their own; `settings` are of Playwright's new_context."""
    context = browser.new_context(**{"reduced_motion": "reduce", **settings})
    context.set_default_timeout(_PATIENCE)
    return context


def opened(context: BrowserContext, server: PageServer) -> tuple[Page, Watch]:
    """The page, when it has drawn what is chosen."""
    page = context.new_page()
    watch = Watch(page, server.url)
    page.goto(server.url)
    page.wait_for_selector("#drawing .main img")
    return page, watch


def jobs(context: BrowserContext, server: PageServer) -> list[dict]:
    """The user's jobs, newest first, as the API has them."""
    return context.request.get(f"{server.url}{API}/jobs").json()["jobs"]


def drawing(page: Page) -> str:
    """The drawing's large picture."""
    return page.get_attribute("#drawing .main img", "src") or ""


def set_slider(page: Page, field: str, value: float) -> None:
    box = page.locator(f"#field-{field} input[type=number]")
    box.fill(str(value))
    box.press("Tab")


def typed(page: Page, field: str, text: str) -> None:
    page.fill(f"#field-{field} :is(input, textarea)", text)


def animate(page: Page) -> None:
    page.click("#animate")


def wait_done(page: Page) -> None:
    page.wait_for_selector("#progress .state.done")
    page.wait_for_selector("champ-player canvas")
