"""Links into the API reference lead to what there is, and the reference to modules that there are."""

import importlib
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
LINKS = [
    (page.name, match[1], match[2])
    for page in sorted(DOCS.glob("*.md"))
    for match in re.finditer(r"\]\(api/(\w+)\.md#([\w.]+)\)", page.read_text())
]
ENTRIES = {page.stem: re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE) for page in DOCS.glob("api/*.md")}


def resolve(name):
    """The object of a dotted name; the longest part of it that is a module is imported."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or ""):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AttributeError(name)


def test_a_name_that_is_not_there_is_found_out():
    with pytest.raises(AttributeError):
        resolve("champ_jax.diffusion.samplers.heun")


@pytest.mark.parametrize(("page", "reference", "name"), LINKS)
def test_a_link_names_what_there_is_and_the_page_it_is_on(page, reference, name):
    assert resolve(name).__doc__
    assert any(name == entry or name.startswith(f"{entry}.") for entry in ENTRIES[reference])


@pytest.mark.parametrize("entry", sorted({entry for entries in ENTRIES.values() for entry in entries}))
def test_the_reference_has_no_entry_without_words(entry):
    assert resolve(entry).__doc__


def test_how_it_works_names_the_code():
    assert sum(page == "how_it_works.md" for page, _, _ in LINKS) > 15
