"""The page in Chromium, as people use it."""

import pytest
from browser import Watch, browsers, needs_chromium
from page_server import PageServer
from playwright.sync_api import Browser, BrowserContext, Page, expect

from champ_jax.app.addresses import API

pytestmark = needs_chromium
SECONDS = 60_000  # in milliseconds: the machine may be busy


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with PageServer(tmp_path_factory.mktemp("page") / "workspace", max_upload_mib=1) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    yield from browsers()


@pytest.fixture
def context(browser: Browser):
    """One user, with cookies of their own."""
    with browser.new_context(reduced_motion="reduce") as made:
        made.set_default_timeout(SECONDS)
        yield made


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


def test_choose_adjust_animate_and_have_the_result(context: BrowserContext, server: PageServer):
    page, watch = opened(context, server)
    first = drawing(page)
    set_slider(page, "edits-move_x", 0.3)
    page.wait_for_function("first => document.querySelector('#drawing .main img').src !== first", arg=first)
    typed(page, "width", "7")
    animate(page)
    expect(page.locator("#error-width")).to_have_text("width=7: expected a whole number from 8 to 16,384 or None")
    typed(page, "width", "")
    animate(page)
    wait_done(page)
    expect(page.locator("#error-width")).to_have_count(0)
    assert jobs(context, server)[0]["request"]["edits"]["move_x"] == 0.3
    page.wait_for_function("document.querySelector('champ-player canvas').width === 64")
    links = page.locator("#result .downloads a")
    assert links.count() == 4
    for link in links.all():
        answer = context.request.get(server.url + (link.get_attribute("href") or ""))
        assert answer.status == 200
    assert watch.foreign == []
    assert watch.complaints == []
