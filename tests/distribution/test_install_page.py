"""docs/install.md names the extras there are, and files and commands that exist."""

import re
import tomllib

from hostile.harness import ROOT

PAGE = (ROOT / "docs" / "install.md").read_text()


def test_every_extra_has_its_row_and_no_other():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == set(extras)
    for named in re.findall(r"(?:champ_jax|\.)\[([\w,]+)\]|EXTRAS=([\w,]+)", PAGE):
        assert set("".join(named).split(",")) <= set(extras)


def test_files_and_scripts_that_it_names_exist():
    named = set(re.findall(r"(?:docker|requirements|tools|\.ci)/[\w.-]+\w", PAGE))
    assert {"docker/cuda.Dockerfile", ".ci/newest", "requirements/locked-3.11.txt"} <= named
    assert not [name for name in named if not (ROOT / name).exists()]
