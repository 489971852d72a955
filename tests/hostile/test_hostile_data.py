"""Hostile inputs of the tools that make and read datasets."""

import pytest
from hostile import kinds
from hostile.harness import Case, check

BUILD = "tools/build_dataset.py"


def _sources() -> list[Case]:
    cases = []
    for kind, make in kinds.NO_FILE.items():
        if kind != "folder":
            cases.append(
                Case(
                    f"build-source-{kind}",
                    BUILD,
                    lambda folder, make=make: [f"--source={make(folder / 'videos')}", f"--output={folder / 'out'}"],
                    "videos",
                )
            )
    return cases


CASES = _sources()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)
