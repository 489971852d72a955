"""What has to travel to a machine without a network: the working tree, results so far, and packages missing there."""

import importlib.metadata
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from champ_jax.common.errors import InputError, listed
from champ_jax.common.files import read_text, require_folder
from champ_jax.common.limits import size_text

LIMIT = 60 * 2**20
"""Bytes that may travel in all."""

UNREAD = "champ_jax/assets/pose_networks"
"""A folder of the checkout that no step of a day reads; it may stay behind."""

# What a day imports: pyproject.toml's dependencies and those of its extra `train`, without PyAV, whose wheel is larger
# than all others together and which nothing of a day needs; and what the parity tests import.
ROOTS = (
    *("jax", "flax", "optax", "orbax-checkpoint", "chex", "absl-py", "ml_collections", "jaxtyping", "numpy", "scipy"),
    *("safetensors", "pillow", "tqdm", "grain", "tensorflow-datasets", "importlib_resources", "tensorboardX"),
    *("torch", "hypothesis", "beartype", "pytest", "pytest-xdist"),
)
_SOURCE_ONLY = {"promise"}  # no wheel of it exists; one is made of its source


def canonical(name: str) -> str:
    """A distribution's name as registries compare them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(roots: Iterable[str] = ROOTS) -> tuple[set[str], set[str]]:
    """The canonical names of distributions with all that they require on this machine.

    Returns:
      All of them, and those that are not installed here (what these would require is not known).
    """
    waiting, seen, missing = list(roots), set(), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name, extras = canonical(requirement.name), tuple(sorted(requirement.extras))
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            missing.add(name)
            continue
        waiting += [line for line in lines if _holds(Requirement(line), extras)]
    return {name for name, _ in seen}, missing


def _holds(requirement: Requirement, extras: Sequence[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def wheels_to_bring(installed: Iterable[str], wheels: Iterable[Path] = ()) -> list[str]:
    """The distributions a day needs that are neither `installed` there, by name, nor among `wheels`.

    NVIDIA's packages come with the JAX or PyTorch of the machine.
    """
    have = {canonical(name) for name in installed} | {canonical(path.name.split("-")[0]) for path in wheels}
    return sorted(name for name in required()[0] - have if not name.startswith(("nvidia-", "cuda-", "triton")))


def read_installed(path: str | os.PathLike) -> list[str]:
    """The names in a list of packages: what `pip list` or `pip freeze` printed, or one name a line."""
    names = []
    for line in read_text(path).splitlines():
        match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line.strip())
        if match and not re.fullmatch(r"[Pp]ackage", match[0]):
            names.append(match[0])
    if not names:
        raise InputError(f"{path}: names no packages; write what `pip list` prints there")
    return names


def commands(names: Sequence[str], folder: str, python: str) -> list[str]:
    """The command lines that put wheels of these distributions for Linux on x86-64 and a Python into a folder."""
    lines = []
    if binary := [name for name in names if name not in _SOURCE_ONLY]:
        platforms = " ".join(f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28))
        lines.append(
            f"python -m pip download --no-deps --only-binary=:all: --python-version={python} "
            f"--platform=manylinux2014_x86_64 {platforms} --dest={folder} {' '.join(binary)}"
        )
    if source := [name for name in names if name in _SOURCE_ONLY]:
        lines.append(f"python -m pip wheel --no-deps --wheel-dir={folder} {' '.join(source)}")
    return lines


def sizes(checkout: Path, folders: Iterable[Path]) -> dict[str, int]:
    """{what travels: bytes}: the working tree by its folders, and `folders` besides.

    Raises:
      InputError: the checkout is no Git working tree, or one of `folders` is none.
    """
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        raise InputError(f"{checkout}: is no Git working tree; run this in a clone of the repository")
    found: dict[str, int] = defaultdict(int)
    counted = set()
    for name in filter(None, listing.stdout.split("\0")):
        path = checkout / name
        if path.is_file() and not path.is_symlink():
            counted.add(path.resolve())
            found["/".join(name.split("/")[:-1][:2]) or "."] += path.stat().st_size
    for folder in folders:
        for path in require_folder(folder).rglob("*"):
            if path.is_file() and not path.is_symlink() and path.resolve() not in counted:
                found[str(folder)] += path.stat().st_size
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def report(found: dict[str, int]) -> str:
    """What travels, in words.

    Raises:
      InputError: it is more than LIMIT.
    """
    total = sum(found.values())
    parts = listed((f"{name} {size_text(size)}" for name, size in found.items()), 8)
    line = f"{size_text(total)} of {size_text(LIMIT)} would travel: {parts}"
    if total > LIMIT:
        raise InputError(
            f"{line}; leave something out: `git sparse-checkout set --no-cone '/*' '!/{UNREAD}/'` takes what a day "
            "does not read out of the working tree, `git sparse-checkout disable` brings it back"
        )
    return line


def unpack(wheels: Path, folder: Path) -> None:
    """Installs the wheels of a folder into `folder`, without the network; what is there already stays.

    Raises:
      InputError: there are no wheels, or pip cannot install one; its last line says why.
    """
    files = sorted(require_folder(wheels).glob("*.whl"))
    if not files:
        raise InputError(f"{wheels}: holds no wheels; --travel says how to bring them")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"),
            *("--upgrade", f"--target={folder}", *map(str, files)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"{wheels}: cannot be installed ({last})")
