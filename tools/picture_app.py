"""Takes the pictures of the page in docs/app: a result, the alignment in the dark, and a phone.

    python tools/picture_app.py --output=docs/app

Starts a server with the built-in model on a workspace of its own, and drives Debian's Chromium by Playwright. Takes
some minutes on two cores, most of them to compile the model's programs and the fit of the picture's person.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
_SECONDS = 600_000  # in milliseconds


@contextmanager
def server(workspace: Path) -> Iterator[str]:
    """The address of a server with the built-in model."""
    command = [sys.executable, "-m", "champ_jax.app", "--config.port=0", f"--config.workspace={workspace}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start")
        try:
            yield found[0]
        finally:
            process.terminate()


def take(page: Any, path: Path) -> None:
    """Keeps what the page shows."""
    page.screenshot(path=path)
    print(f"{path}: {path.stat().st_size // 1024} KiB")


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and takes the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the folder of the pictures")
    output = parser.parse_args(argv).output
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "workspace") as url, sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=shutil.which("chromium"), headless=True, args=list(_ARGUMENTS))
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        context.set_default_timeout(_SECONDS)
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("#drawing .main img")
        page.click("#animate")
        page.wait_for_selector("champ-player canvas")
        page.wait_for_function("document.querySelector('champ-player canvas').width > 8")
        for _ in range(9):
            page.click("[aria-label='One frame on']")
            page.wait_for_timeout(150)
        page.evaluate("document.activeElement.blur(); document.querySelector('#make').scrollIntoView()")
        page.wait_for_timeout(500)
        take(page, output / "result.png")

        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        page.goto(url)
        page.wait_for_selector("#drawing .main img")
        page.click("#field-reference input")
        page.get_by_role("option", name="Person 1").click()
        page.click("#field-motion input")
        page.get_by_role("option", name="Wave").click()
        box = page.locator("#field-frame input[type=number]")
        box.fill("14")
        box.press("Tab")
        page.check("#field-edits-align input")
        page.wait_for_selector("#drawing .notes")  # the person is being looked for
        page.wait_for_selector("#drawing .notes", state="detached")
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(1500)
        take(page, output / "adjust.png")

        state = context.storage_state()
        context.close()
        phone = chromium.new_context(
            viewport={"width": 390, "height": 844},
            is_mobile=True,
            has_touch=True,
            reduced_motion="reduce",
            storage_state=state,
        )
        page = phone.new_page()
        page.goto(url)
        page.wait_for_selector("champ-player canvas")
        page.wait_for_function("document.querySelector('champ-player canvas').width > 8")
        page.evaluate("document.querySelector('#make').scrollIntoView()")
        page.wait_for_timeout(800)
        take(page, output / "phone.png")
        chromium.close()


if __name__ == "__main__":
    main(sys.argv[1:])
