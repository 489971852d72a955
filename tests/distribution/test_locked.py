"""requirements/ has one version of every package that the tests need, for each Python, and nothing of a machine."""

import re
import subprocess
import sys

import pytest
from hostile.harness import ROOT

from champ_jax.doctor.packages import is_older, requirements

PYTHONS = ("3.11", "3.12", "3.13")
PIN = re.compile(r"([a-z0-9.-]+)==([0-9][0-9a-z.]*)")
TEST = ("", "app", "convert", "docs", "evaluate", "fit", "pyrender", "train", "test")
"""The extras that 'test' brings, and what is always needed."""


def pins(python):
    first, *lines = (ROOT / "requirements" / f"locked-{python}.txt").read_text().splitlines()
    assert first == f"# What the tests run with on Python {python}. Written by .ci/lock."
    found = [PIN.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found) if not match]
    names = [match[1] for match in found]
    assert names == sorted(set(names))
    return {match[1]: match[2] for match in found}


@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_asked_for_has_a_version_that_will_do(python):
    locked = pins(python)
    wanted = [requirement for requirement in requirements() if requirement.extra in TEST]
    assert len(wanted) > 30
    for requirement in wanted:
        version = locked[requirement.name.lower().replace("_", "-")]
        assert not requirement.least or not is_older(version, requirement.least), requirement


def test_no_cuda_comes_with_the_tests():
    for python in PYTHONS:
        assert not [name for name in pins(python) if name.startswith(("nvidia-", "cuda-", "triton"))]
        assert pins(python)["torch"] in (ROOT / ".ci" / "run").read_text()


def test_pythons_differ_in_what_they_must():
    """A release that some Python lacks is no reason for another version of everything."""
    common = set(pins("3.11").items()) & set(pins("3.12").items()) & set(pins("3.13").items())
    assert len(common) > 0.9 * len(pins("3.11"))


@pytest.mark.parametrize("script", ["run", "newest"])
def test_the_scripts_are_whole(script):
    subprocess.run(["bash", "-n", ROOT / ".ci" / script], check=True)


def test_the_file_is_what_pip_resolves(tmp_path, monkeypatch):
    """.ci/lock, with a pip that answers at once."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "lock"
    script.write_text((ROOT / ".ci" / "lock").read_text())
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(
        "import json, sys\n"
        "assert {'--dry-run', '--ignore-installed', '.[test]'} <= set(sys.argv)\n"
        "names = {'torch': '2.13.0+cpu', 'nvidia-cudnn-cu13': '1', 'ml_collections': '1.1.0', 'champ_jax': '0.1.0'}\n"
        "print(json.dumps({'install': [{'metadata': {'name': n, 'version': v}} for n, v in names.items()]}))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    subprocess.run([sys.executable, script], check=True)
    (written,) = (tmp_path / "requirements").iterdir()
    assert written.read_text().splitlines()[1:] == ["ml-collections==1.1.0", "torch==2.13.0"]
    assert written.name == f"locked-{sys.version_info[0]}.{sys.version_info[1]}.txt"
