"""What mkdocs.yml needs besides the pages of docs/: the README as the first page, and pages that lie elsewhere.

Pages link to each other as on GitHub. A link that leaves docs/ leads to a copy of its target below outside/.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = "outside"
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")  # of the navigation, whether a page links to them or not
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def _target(link: str, folder: str) -> str | None:
    """The path from the repository's root that a link in `folder` leads to; None for an address or an anchor."""
    if re.match(r"[a-z]+:", link):
        return None
    return posixpath.normpath(posixpath.join(folder, link))


def _links(text: str, folder: str, place: str) -> tuple[str, set[str]]:
    """Text with its links as they lead from `place`, a page of the site, and the files outside of docs/ they name."""
    outside = set()

    def moved(match: re.Match[str]) -> str:
        target = _target(match[2], folder)
        if target is None:
            return match[0]
        if target.startswith("docs/"):
            page = target.removeprefix("docs/")
        else:
            outside.add(target)
            page = f"{OUTSIDE}/{target}"
        return match[1] + posixpath.relpath(page, posixpath.dirname(place) or ".") + match[3]

    return _LINK.sub(moved, text), outside


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the README, and what pages link to outside of docs/."""
    text, waiting = _links((ROOT / "README.md").read_text(), "", "index.md")
    files.append(File.generated(config, "index.md", content=text))
    for file in list(files):
        if file.src_uri.endswith(".md") and file.src_uri != "index.md":
            waiting |= _links(file.content_string, posixpath.dirname(f"docs/{file.src_uri}"), file.src_uri)[1]
    waiting |= set(PAGES)
    done: set[str] = set()
    while waiting:
        target = waiting.pop()
        done.add(target)
        place = f"{OUTSIDE}/{target}"
        if target.endswith(".md") and (ROOT / target).is_file():
            text, more = _links((ROOT / target).read_text(), posixpath.dirname(target), place)
            files.append(File.generated(config, place, content=text))
            waiting |= more - done
        elif (ROOT / target).is_file():
            files.append(File.generated(config, place, content=(ROOT / target).read_bytes()))
    return files


def on_page_markdown(markdown: str, page, config: MkDocsConfig, files: Files) -> str:
    """A page of docs/ with its links to the copies below outside/."""
    if page.file.generated_by:
        return markdown
    return _links(markdown, posixpath.dirname(f"docs/{page.file.src_uri}"), page.file.src_uri)[0]
