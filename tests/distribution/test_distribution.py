"""What the wheel and the sdist hold, and that they install and run where there is no checkout."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from hostile.harness import ROOT

import champ_jax
from champ_jax.commands.catalog import COMMANDS

PYTHONS = ("3.11", "3.12", "3.13")
KEPT = ("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE")
LARGEST_WHEEL = 80 << 20  # bytes
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kept_files(folder="."):
    """The files of the repository, those not yet added among them; nothing that git ignores."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout of git")
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder, cwd=ROOT)
    return {name for name in names.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def packed():
    """setuptools' reading of pyproject.toml: (its distribution, the files that it would pack)."""
    from setuptools import Distribution

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        distribution = Distribution({"script_name": "setup.py"})
        distribution.parse_config_files()
        build = distribution.get_command_obj("build_py")
        build.ensure_finalized()
        files = {Path(path).as_posix() for _, _, path in build.find_all_modules()}
        files |= {f"{folder}/{name}" for _, folder, _, names in build.data_files for name in names}
        return distribution, files


def test_the_wheel_holds_the_package_and_nothing_else(packed):
    assert packed[1] == kept_files("champ_jax")


def test_what_must_be_there_is(packed):
    assets = Path("champ_jax/assets")
    files = {Path(name) for name in packed[1]}
    for needed in ("model/model.safetensors", "open_body/open_body.npz", "motions/wave.npz", "fitting/pose_prior.npz"):
        assert assets / needed in files
    people = {path.parent for path in files if path.parts[:3] == (*assets.parts, "people") and len(path.parts) == 5}
    assert len(people) >= 3
    assert all({person / "reference.png", person / "motion.npz"} <= files for person in people)
    assert Path("champ_jax/py.typed") in files
    folders = {path.parts[2] for path in files if path.parts[:2] == assets.parts}
    licensed = {path.parts[2] for path in files if path.parts[:2] == assets.parts and path.name.startswith("LICENSE")}
    # Motions are formulas of this project, the page's files its code: both are under the package's own license.
    assert folders - licensed <= {"motions", "page"}


def test_the_version_stands_in_one_place(packed):
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    assert packed[0].metadata.version == champ_jax.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == champ_jax.__version__


def test_the_metadata_is_complete(packed):
    metadata = packed[0].metadata
    assert (metadata.name, metadata.author) == ("champ_jax", "The champ_jax authors")
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.project_urls["Paper"].startswith("https://arxiv.org/")
    assert metadata.long_description.startswith("# champ_jax")
    versions = {line.split(" :: ")[-1] for line in metadata.classifiers if "Python :: 3." in line}
    assert versions == set(PYTHONS)
    licenses = {name for name in kept_files() if re.fullmatch(r"LICENSE|champ_jax/assets/[^/]*/LICENSE\S*", name)}
    packed[0]._finalize_license_files()
    assert set(metadata.license_files) == licenses


def interpreter(version):
    """A Python of a version that makes environments, or None."""
    found = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    found += [sys.executable]
    for path in filter(None, found):
        code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([str(path), "-c", code], capture_output=True, text=True)
        if done.stdout.strip() == version:
            return str(path)
    return None


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist, wheel without an sdist between, {file: bytes} of the source): of what git keeps, by build."""
    folder = tmp_path_factory.mktemp("build")
    source, output = folder / "source", folder / "dist"
    names = kept_files()
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    kept = {name: (source / name).read_bytes() for name in names if name.startswith("champ_jax/")}
    # Left by tests and editors; none of it may be packed.
    (source / "champ_jax" / "__pycache__").mkdir()
    (source / "champ_jax" / "__pycache__" / "animate.cpython-311.pyc").write_bytes(b"x")
    (source / "champ_jax" / "assets" / "model" / ".cache").write_bytes(b"x")
    run(sys.executable, "-m", "build", "--outdir", output, source)  # an sdist, and a wheel of it
    run(sys.executable, "-m", "build", "--wheel", "--outdir", output / "direct", source)
    return next(output.glob("*.whl")), next(output.glob("*.tar.gz")), next((output / "direct").glob("*.whl")), kept


def contents(wheel):
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.slow  # three builds in environments that pip makes
def test_the_wheel_and_the_sdist(built):
    wheel, sdist, direct, source = built
    assert wheel.stat().st_size < LARGEST_WHEEL
    files = contents(wheel)
    package = {name for name in files if ".dist-info/" not in name}
    assert package == set(source)
    assert all(files[name] == source[name] for name in package)
    assert contents(direct) == files  # the sdist gives the wheel that the checkout gives
    information = files[f"champ_jax-{champ_jax.__version__}.dist-info/METADATA"]
    metadata: Message = email.message_from_bytes(information)
    assert metadata["Version"] == champ_jax.__version__
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert len(metadata.get_all("License-File")) == sum("/licenses/" in name for name in files)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    made = {name for name in names if name.startswith("champ_jax.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    beside = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"}
    assert names == package | made | beside


@pytest.mark.slow  # installs JAX and the rest in a new environment, and animates
@pytest.mark.parametrize("version", PYTHONS)
def test_a_clean_environment(version, built, tmp_path):
    """The wheel in an environment without anything else, far from the checkout: the doctor, and a few frames."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    programs = tmp_path / "environment" / "bin"
    # No PYTHONPATH: what lies there would count as installed.
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("PIP_")}
    options = {"cwd": tmp_path, "env": kept | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path / "cache")}}
    run(python, "-m", "venv", tmp_path / "environment", **options)
    run(programs / "python", "-m", "pip", "install", "--quiet", built[0], **options)
    run(programs / "python", "-m", "pip", "check", **options)
    assert run(programs / "champ", "--version", **options) == f"champ_jax {champ_jax.__version__}\n"
    listed = run(programs / "champ", "--help", **options)
    assert all(f"  {command} " in listed for command in COMMANDS)
    report = json.loads(run(programs / "champ", "doctor", "--json", **options))
    assert report["main_job_runs"]
    assert not [finding for finding in report["findings"] if finding["level"] == "problem"]
    where = next(finding["value"] for finding in report["findings"] if finding["name"] == "champ_jax")
    assert str(programs.parent) in where
    command = [str(programs / "champ"), "fit", "--input=missing.mp4", "--output=motion.npz"]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert (done.returncode, done.stderr.splitlines()[0][:19]) == (2, "error: missing.mp4:")
    assert not (tmp_path / "motion.npz").exists()
    run(programs / "champ", "animate", "--config.frames=0:4", "--config.steps=2", "--config.output=a.mp4", **options)
    assert (tmp_path / "a.mp4").stat().st_size > 1000
