"""The page in Chromium, at length: files good and bad, other users, keys alone, a phone."""

import io
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from browser import animate, browsers, drawing, jobs, needs_chromium, new_user, opened, set_slider, typed, wait_done
from page_server import PageServer
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from champ_jax.app.request import built_in_motions, built_in_pictures
from champ_jax.body.motion import Motion
from champ_jax.common.errors import InputError
from champ_jax.common.videos import write_video
from champ_jax.inference import driving

pytestmark = [needs_chromium, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with PageServer(tmp_path_factory.mktemp("page") / "workspace", max_upload_mib=1, queue_length=2) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    yield from browsers()


@pytest.fixture(autouse=True)
def users_leave(browser: Browser):
    """After every test."""
    yield
    for context in browser.contexts:
        context.close()


def send(page: Page, field: str, path: Path) -> None:
    page.set_input_files(f"#upload-{field} input[type=file]", path)


def chosen(page: Page, field: str) -> str:
    return page.input_value(f"#field-{field} input")


def test_own_files_are_drawn_and_animated(browser: Browser, server: PageServer, tmp_path: Path):
    page, watch = opened(context := new_user(browser), server)
    first = drawing(page)
    picture = tmp_path / "me & <you>.png"
    picture.write_bytes(built_in_pictures()["p00006_m00006"].read_bytes())
    send(page, "reference", picture)
    page.wait_for_function("first => document.querySelector('#drawing .main img').src !== first", arg=first)
    assert chosen(page, "reference").startswith("me")
    motion = tmp_path / "mine.npz"
    motion.write_bytes(built_in_motions()["wave"].read_bytes())
    send(page, "motion", motion)
    expect(page.locator("#field-edits-stop :is(input, textarea)")).to_have_attribute("placeholder", "all 36")
    assert chosen(page, "motion") == "mine.npz, motion, 36 frames"
    set_slider(page, "frame", 12)
    expect(page.locator("#drawing")).to_contain_text("Frame 12 of 36")
    animate(page)
    wait_done(page)
    request = jobs(context, server)[0]["request"]
    assert request["reference"].startswith("u-")
    assert request["motion"].startswith("u-")
    assert watch.foreign == []
    page.reload()  # the user's files and the newest result are there again
    page.wait_for_selector("champ-player canvas")
    page.click("#field-motion input")
    expect(page.get_by_role("option", name="mine.npz")).to_be_visible()


def test_a_folder_and_a_video_show_what_they_hold(browser: Browser, server: PageServer, tmp_path: Path):
    page, _ = opened(new_user(browser), server)
    with zipfile.ZipFile(tmp_path / "maps.zip", "w") as archive:
        for frame in range(3):
            data = io.BytesIO()
            Image.new("RGB", (64, 64), (90, 90, 40 * frame)).save(data, "PNG")
            archive.writestr(f"mine/depth/{frame:04}.png", data.getvalue())
    send(page, "motion", tmp_path / "maps.zip")
    expect(page.locator("#drawing figcaption")).to_have_text(["Picture", "Depth"])
    set_slider(page, "edits-scale", 1.5)
    expect(page.locator("#error-edits")).to_contain_text("only start and stop change them")
    set_slider(page, "edits-scale", 1)
    expect(page.locator("#error-edits")).to_have_count(0)
    write_video(tmp_path / "dance.mp4", [np.full((48, 64, 3), 20 * index, np.uint8) for index in range(8)], 8)
    send(page, "motion", tmp_path / "dance.mp4")
    expect(page.locator("#drawing figcaption")).to_have_text(["Frame of the video", "Picture"])
    assert chosen(page, "motion") == "dance.mp4, video, 8 frames"


def test_alignment_is_drawn_when_the_person_is_found(browser: Browser, server: PageServer, monkeypatch):
    places, go = [], threading.Event()

    def fitted(picture: Path, place: Path, *_: object) -> Motion:
        places.append(place)
        assert go.wait(60)
        if picture.parent.name == "p00006_m00006":
            raise InputError("reference.png: nobody is seen")
        return Motion.load(built_in_motions()["p00000_m00000"])

    monkeypatch.setattr(driving, "fitted", fitted)
    page, _ = opened(new_user(browser), server)
    first = drawing(page)
    page.check("#field-edits-align input")
    expect(page.locator("#drawing .notes")).to_contain_text("is being looked for")
    assert drawing(page) == first
    go.set()
    page.wait_for_function("first => document.querySelector('#drawing .main img').src !== first", arg=first)
    expect(page.locator("#drawing .notes")).to_have_count(0)
    assert places == [server.service.fit_place("built-in", "picture")]
    page.click("#field-reference input")
    page.get_by_role("option", name="Person 2").click()
    expect(page.locator("#error-edits-align")).to_have_text("reference.png: nobody is seen")


def test_bad_files_are_told_beside_their_field(browser: Browser, server: PageServer, tmp_path: Path):
    page, watch = opened(new_user(browser), server)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 40)
    (tmp_path / "notes.txt").write_text("dear diary")
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2**20 + 2**10))
    good = tmp_path / "good.png"
    good.write_bytes(built_in_pictures()["built-in"].read_bytes())
    for field, name, part in (
        ("reference", "broken.png", "broken.png"),
        ("reference", "notes.txt", "its name must end in"),
        ("reference", "large.png", "is larger than the 1"),
        ("motion", "good.png", "is a picture; give a motion.npz"),
    ):
        send(page, field, tmp_path / name)
        expect(page.locator(f"#error-{field}")).to_contain_text(part)
        assert str(server.settings.workspace) not in page.inner_text(f"#error-{field}")
        assert chosen(page, field).startswith("Built-in")
    send(page, "reference", good)
    expect(page.locator("#error-motion")).to_have_count(0)
    assert [line for line in watch.complaints if "422 (Unprocessable Entity)" not in line] == []


def test_a_job_is_watched_and_cancelled(browser: Browser, server: PageServer):
    page, watch = opened(context := new_user(browser), server)
    typed(page, "steps", "100")
    animate(page)
    expect(page.locator("#progress")).to_contain_text("of 100")
    expect(page.locator("#progress")).to_contain_text("left")
    page.wait_for_function("document.querySelector('#live img')?.naturalWidth === 64")
    page.click("#cancel")
    page.wait_for_selector("#progress .state.cancelled")
    expect(page.locator("#cancel")).to_be_disabled()
    assert jobs(context, server)[0]["state"] == "cancelled"
    typed(page, "steps", "2")
    animate(page)
    wait_done(page)
    assert watch.complaints == []


def test_what_a_job_failed_of_stands_beside_the_field(browser: Browser, server: PageServer):
    page, _ = opened(new_user(browser), server)
    typed(page, "seed", "13")
    animate(page)
    page.wait_for_selector("#progress .state.failed")
    expect(page.locator("#error-width")).to_have_text("width=64: the model needs multiples of 48")
    expect(page.locator("#progress")).to_contain_text("the model needs multiples of 48")


def test_users_queue_and_see_only_their_own(browser: Browser, server: PageServer):
    one, two = new_user(browser), new_user(browser)
    page, other = opened(one, server)[0], opened(two, server)[0]
    typed(page, "seed", "99")  # which takes a second a step
    typed(page, "steps", "60")
    animate(page)
    expect(page.locator("#progress")).to_contain_text("of 60")
    typed(other, "seed", "7")
    animate(other)
    expect(other.locator("#progress")).to_contain_text("next in the queue")
    animate(other)
    expect(other.locator("#progress")).to_contain_text("place 2 in the queue")
    animate(other)
    expect(other.locator("#error-")).to_contain_text("2 jobs of yours wait or run")
    page.click("#cancel")
    wait_done(other)
    assert other.locator("#gallery [data-job]").count() == 2
    assert page.locator("#gallery [data-job]").count() == 1
    link = other.get_attribute("#result .downloads a", "href") or ""
    assert two.request.get(server.url + link).status == 200
    assert one.request.get(server.url + link).status == 404


def test_the_gallery_brings_back_what_was_made(browser: Browser, server: PageServer):
    page, _ = opened(context := new_user(browser), server)
    typed(page, "seed", "101")
    set_slider(page, "edits-move_y", 0.1)
    animate(page)
    wait_done(page)
    typed(page, "seed", "102")
    set_slider(page, "edits-move_y", -0.2)
    animate(page)
    expect(page.locator("#gallery [data-job]")).to_have_count(2)
    wait_done(page)
    page.locator("#gallery [data-job]").last.click()
    expect(page.locator("#field-seed :is(input, textarea)")).to_have_value("101")
    expect(page.locator("#field-edits-move_y input[type=number]")).to_have_value("0.1")
    assert jobs(context, server)[1]["id"] in (page.get_attribute("#result .downloads a", "href") or "")
    page.click("#remove")
    expect(page.locator("#gallery [data-job]")).to_have_count(1)
    assert [job["request"]["seed"] for job in jobs(context, server)] == [102]


def test_keys_alone_suffice(browser: Browser, server: PageServer, tmp_path: Path):
    """Choose a motion, move, animate, step through the result and open an older one, without a pointer."""
    page, _ = opened(context := new_user(browser), server)
    page.on("filechooser", lambda chooser: chooser.set_files(built_in_pictures()["p00006_m00006"]))

    def reach(selector: str) -> None:
        """Tab until the element has the focus, which is seen."""
        for _ in range(120):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                break
        else:
            pytest.fail(f"Tab never comes to {selector}")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        shadow = page.evaluate("getComputedStyle(document.activeElement).boxShadow")
        assert style != "none" or shadow != "none", selector

    reach("#field-reference input")
    reach("#upload-reference button")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#field-reference input').value.startsWith('reference.png')")
    reach("#field-motion input")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#field-motion input")).not_to_have_value("Built-in motion")
    reach("#field-edits-move_x input[type=range]")
    before = drawing(page)
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("before => document.querySelector('#drawing .main img').src !== before", arg=before)
    reach("#field-edits-mirror input")
    page.keyboard.press("Space")
    reach("#animate")
    page.keyboard.press("Enter")
    wait_done(page)
    request = jobs(context, server)[0]["request"]
    assert request["edits"]["move_x"] == pytest.approx(0.05)
    assert request["edits"]["mirror"] is True
    assert request["motion"] != "built-in"
    reach("champ-player [aria-label='One frame on']")
    place = page.inner_text("champ-player .place")
    page.keyboard.press("Enter")
    page.wait_for_function("place => document.querySelector('champ-player .place').textContent !== place", arg=place)
    reach("#result .downloads a")
    reach("#gallery [data-job]")
    page.keyboard.press("Enter")
    expect(page.locator("#gallery [aria-current]")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_aside(browser: Browser, server: PageServer, scheme: str):
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    page, _ = opened(new_user(browser, color_scheme=scheme, **phone), server)
    typed(page, "width", "7")
    animate(page)
    expect(page.locator("#error-width")).to_be_visible()
    typed(page, "width", "")
    animate(page)
    wait_done(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = page.evaluate(
        """() => [...document.querySelectorAll('#page *')].filter(one => {
          const box = one.getBoundingClientRect();
          return box.width && getComputedStyle(one).position !== 'absolute' && (box.right > 361 || box.left < -1);
        }).map(one => one.outerHTML.slice(0, 120))"""
    )
    assert wide == []
    for selector in ("#animate", "#cancel", "champ-player button", "#result .downloads a", "#gallery button"):
        assert page.locator(selector).first.bounding_box()["height"] >= 36, selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, server: PageServer, scheme: str):
    """Every text has the contrast of 4.5 that WCAG asks for, but for what cannot be pressed and what is drawn."""
    page, _ = opened(new_user(browser, color_scheme=scheme), server)
    typed(page, "seed", "13")
    animate(page)
    page.wait_for_selector("#progress .state.failed")
    expect(page.locator("#error-width")).to_be_visible()
    faint = page.evaluate(_FAINT)
    assert faint == []


_FAINT = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] > .99) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const one of document.querySelectorAll('#title *, #page *')) {
    const text = [...one.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join('');
    if (!text || one.closest('[disabled], .no-picture, option') || !one.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
    const contrast = (a + .05) / (b + .05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${text.slice(0, 40)}`);
  }
  return faint;
}"""
