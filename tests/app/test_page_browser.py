"""The page in Chromium, as people use it."""

import pytest
from browser import animate, browsers, drawing, jobs, needs_chromium, new_user, opened, set_slider, typed, wait_done
from page_server import PageServer
from playwright.sync_api import Browser, expect

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with PageServer(tmp_path_factory.mktemp("page") / "workspace", max_upload_mib=1) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    yield from browsers()


def test_choose_adjust_animate_and_have_the_result(browser: Browser, server: PageServer):
    context = new_user(browser)
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
