"""Debian's Chromium, without a window and without any request of its own."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

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
