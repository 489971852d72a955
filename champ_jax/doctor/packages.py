"""Which packages there are, against those that champ_jax asks for."""

import dataclasses
import importlib
import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from champ_jax import __version__
from champ_jax.common.extras import PURPOSES
from champ_jax.doctor.findings import OK, PROBLEM, WARNING, Finding
from champ_jax.doctor.probing import Attempt, Probe, reason

GROUP = "Packages"
PYTHON = (3, 11)
# Distributions whose module has another name.
_MODULES = {
    "absl-py": "absl",
    "opencv-python-headless": "cv2",
    "orbax-checkpoint": "orbax.checkpoint",
    "pillow": "PIL",
    "pyrender-maintained": "pyrender",
}
# What an extra of a distribution brings that itself does not.
_PLUGINS = {"[tpu]": "libtpu", "[cuda12]": "jax-cuda12-plugin"}
_REQUIREMENT = re.compile(r"\s*([\w.-]+)\s*(\[[^]]*\])?\s*(?:\(?\s*>=\s*([\w.]+)\s*\)?)?\s*(?:;(.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


@dataclasses.dataclass(frozen=True)
class Requirement:
    """A package that champ_jax asks for.

    Attributes:
      name: of the distribution.
      least: the oldest version that will do; '' for any.
      extra: the extra it belongs to; '' where it is always needed.
    """

    name: str
    least: str
    extra: str

    @property
    def module(self) -> str:
        """What is imported."""
        return _MODULES.get(self.name, self.name.replace("-", "_"))

    @property
    def install(self) -> str:
        """How it is installed."""
        return f"pip install '{self.name}{f'>={self.least}' if self.least else ''}'"


def requirements() -> list[Requirement]:
    """What the installed distribution, or the pyproject.toml of a checkout, asks for.

    Raises:
      LookupError: there is neither.
    """
    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.is_file():
        import tomllib

        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        texts = [(text, "") for text in table["dependencies"]]
        texts += [(text, extra) for extra, listed in table["optional-dependencies"].items() for text in listed]
    else:
        try:
            texts = [(text, "") for text in importlib.metadata.requires("champ_jax") or []]
        except importlib.metadata.PackageNotFoundError as error:
            raise LookupError("champ_jax is not installed, nor is this a checkout") from error
    found = []
    for text, extra in texts:
        match = _REQUIREMENT.match(text)
        if match is not None and match[1].lower().replace("-", "_") != "champ_jax":
            name, options, least, marker = match.groups(default="")
            marked = _EXTRA.search(marker)
            plugin = _PLUGINS.get(options)
            found.append(Requirement(plugin or name, "" if plugin else least, marked[1] if marked else extra))
    return found


def check_packages() -> list[Finding]:
    """Versions of Python, champ_jax, and everything it asks for; nothing is imported."""
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info[:2] < PYTHON
    least = ".".join(map(str, PYTHON))
    findings = [
        Finding(
            GROUP,
            "Python",
            PROBLEM if old else OK,
            f"{version}, {platform.platform()}, {platform.machine()}",
            f"install Python {least} or newer" if old else "",
            needed=old,
        ),
        Finding(GROUP, "champ_jax", OK, f"{__version__}, {Path(__file__).parents[1]}"),
    ]
    try:
        wanted = requirements()
    except (LookupError, OSError, ValueError, ImportError) as error:
        lost = f"what it asks for is unknown: {reason(error)}"
        return [*findings, Finding(GROUP, "requirements", WARNING, lost, "pip install champ_jax in this environment")]
    findings += [_check(requirement) for requirement in wanted if not requirement.extra]
    extras: dict[str, list[Requirement]] = {}
    for requirement in wanted:
        extras.setdefault(requirement.extra, []).append(requirement)
    return findings + [_check_extra(extra, extras[extra]) for extra in PURPOSES if extra in extras]


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None without it, or with damaged metadata."""
    try:
        return importlib.metadata.version(name) or None
    except Exception:  # damaged metadata raise nearly anything
        return None


def is_older(version: str, least: str) -> bool:
    """Whether a version is before another, by their numbers: 0.9.2 < 0.10."""
    return _numbers(version) < _numbers(least)


def try_imports() -> Probe:
    """Imports what is always needed, a package at a time."""
    failures = 0
    for requirement in requirements():
        if requirement.extra or installed_version(requirement.name) is None:
            continue  # a missing one is reported already
        version = installed_version(requirement.name)
        remedy = f"pip install --force-reinstall '{requirement.name}=={version}', or install in a fresh environment"
        attempt = Attempt(GROUP, f"import {requirement.module}", remedy, needed=True)
        yield attempt
        try:
            importlib.import_module(requirement.module)
        except (Exception, SystemExit) as error:
            failures += 1
            yield attempt.failed(reason(error))
    if not failures:
        yield Finding(GROUP, "imports", OK, "all that are installed and needed load")


def _check(requirement: Requirement) -> Finding:
    version = installed_version(requirement.name)
    least = f" (needs {requirement.least})" if requirement.least else ""
    if version is None:
        return Finding(GROUP, requirement.name, PROBLEM, f"not installed{least}", requirement.install, needed=True)
    if requirement.least and is_older(version, requirement.least):
        value = f"{version} is too old{least}"
        return Finding(GROUP, requirement.name, PROBLEM, value, requirement.install, needed=True)
    return Finding(GROUP, requirement.name, OK, f"{version}{least}")


def _check_extra(extra: str, wanted: Iterable[Requirement]) -> Finding:
    """One line for all packages of an extra. That it is not installed is no fault."""
    have, lack, old = [], [], []
    for requirement in wanted:
        version = installed_version(requirement.name)
        if version is None:
            lack.append(requirement.name)
        elif requirement.least and is_older(version, requirement.least):
            old.append(f"{requirement.name} {version} (needs {requirement.least})")
        else:
            have.append(f"{requirement.name} {version}")
    name, purpose = f"extra {extra}", f"; for {PURPOSES[extra]}"
    remedy = f"pip install --upgrade 'champ_jax[{extra}]'"
    if old:
        return Finding(GROUP, name, WARNING, f"too old: {', '.join(old)}{purpose}", remedy)
    if lack and have:
        return Finding(GROUP, name, WARNING, f"{', '.join(have)}; lacks {', '.join(lack)}{purpose}", remedy)
    if lack:
        return Finding(GROUP, name, OK, f"not installed{purpose}")
    return Finding(GROUP, name, OK, f"{', '.join(have)}{purpose}")


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"[0-9.]*", version)
    numbers = [int(number) for number in (found[0] if found else "").split(".") if number]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
